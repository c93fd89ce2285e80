"""Engine by engine: its start, the time of a shard, and what a lost worker, node or driver costs.

Every run is a process of its own. A cluster is three nodes of Ray on this machine, of which two
compute. Seconds are those of this machine while it was measured.

    python benchmarks/engines.py --images 256 --shard 8
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]

ENGINES = {
    "here": [{}],
    "workers": [{"workers": 2}],
    "parts": [{"part": "1/2"}, {"part": "2/2"}, {}],
    "ray:local": [{"on": "ray:local", "workers": 2}],
    "ray": [{"on": "ray", "workers": 2}],
}
"""Engines by name, each with the commands that together are a run."""

WITHOUT = {
    "worker": dict.fromkeys(["here", "parts"], "is the driver"),
    "node": dict.fromkeys(["here", "workers", "parts", "ray:local"], "is the machine"),
    "driver": {},
}
"""What cannot be lost, by what it is, with what it is in an engine that does not have it."""

NODES = 2
"""Nodes that compute in a cluster; one worker of two each."""

STORE_BYTES = 100 * 1024 * 1024
"""Memory for objects in each node; hardly anything travels."""

NET = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=4, padding=2), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 3),
    ).eval()
"""

DRIVER = """
import json, sys, warnings
import camreport
from camreport.errors import CamReportError
from camreport.pipeline.run_plan import ShardLimits

if __name__ == "__main__":
    folder, photos, out, shard, commands = sys.argv[1:]
    warnings.simplefilter("ignore")
    for options in json.loads(commands):
        try:
            camreport.run(
                photos, out, model=folder + "/net.py:build", image_size=64,
                batch_size=2, classes="all", limits=ShardLimits(shard_images=int(shard)), **options
            )
        except CamReportError as error:
            sys.exit(str(error))
"""


@dataclass(frozen=True)
class Case:
    """Photographs and a network in a folder.

    Attributes:
        folder: the folder.
        shard: images in a shard.
    """

    folder: Path
    shard: int

    @property
    def shards(self) -> range:
        """The numbers of the shards."""
        return range(-(-len([*(self.folder / "photos").iterdir()]) // self.shard))

    def start(self, engine: str, out: Path | str, photos: str = "") -> "subprocess.Popen[bytes]":
        """Start a run of an engine in a process of its own.

        Args:
            engine: the engine.
            out: folder or address of the report.
            photos: folder or address of the photographs; the case's own if empty.
        """
        own = [photos or self.folder / "photos", out, self.shard]
        words = [self.folder, *own, json.dumps(ENGINES[engine])]
        return subprocess.Popen(
            [sys.executable, str(self.folder / "driver.py"), *map(str, words)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )


def make_case(folder: Path, images: int, shard: int) -> Case:
    """Fill a folder with random photographs and a network."""
    (folder / "photos").mkdir()
    for index in range(images):
        pixels = np.random.default_rng(index).integers(0, 256, (64, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"photos/{index:05}.png")
    (folder / "net.py").write_text(NET)
    (folder / "driver.py").write_text(DRIVER)
    return Case(folder, shard)


def results_of(out: Path) -> dict[str, object]:
    """Return a run's results by file, without what may differ between two equal runs."""
    found: dict[str, object] = {}
    for path in sorted((out / "results").glob("*")):
        content = path.read_bytes()
        found[path.name] = lasting(json.loads(content)) if path.suffix == ".json" else content
    return found


def lasting(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record, and those in it, without what may differ between two equal runs."""
    free = ("command", "versions", "device", "cost")
    kept = {name: value for name, value in record.items() if name not in free}
    return {name: lasting(own) if isinstance(own, dict) else own for name, own in kept.items()}


@contextmanager
def cluster_for(engine: str) -> Iterator[Any]:
    """Give a new Ray cluster for an engine that runs on one, and say where it is; else None.

    Its head computes nothing.
    """
    if engine != "ray":
        yield None
        return
    from ray.cluster_utils import Cluster

    before = dict(os.environ)
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    own = {"object_store_memory": STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **own})
    try:
        for _ in range(NODES):
            cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        os.environ["RAY_ADDRESS"] = cluster.address
        yield cluster
    finally:
        cluster.shutdown()
        os.environ.clear()
        os.environ.update(before)


def lose_node(cluster: Any) -> None:
    """Kill a node that computes, with all that runs on it."""
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)


def kill(process: int) -> None:
    """Kill a process; nothing happens if it has ended."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def children_of(process: int) -> Iterator[int]:
    """Yield the processes that a process has started, and those that they have."""
    try:
        tasks = [*Path(f"/proc/{process}/task").iterdir()]
        own = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return
    for child in own:
        yield child
        yield from children_of(child)


def shards_of(out: Path) -> list[float]:
    """Return when the shards of a run were finished, in seconds since the epoch."""
    found = []
    for path in (out / "results").glob("shard-*.json"):
        try:
            found.append(path.stat().st_mtime)
        except FileNotFoundError:
            continue
    return sorted(found)


def workers_of(driver: int, cluster: Any) -> list[int]:
    """Return the processes that compute a run's shards, but for the run's own."""
    found = []
    for child in children_of(os.getpid() if cluster else driver):
        try:
            line = Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            continue
        if b"spawn_main" in line or b"ray::ShardWorker" in line:
            found.append(child)
    return found


def undisturbed(case: Case, engine: str, out: Path) -> tuple[float, float, float]:
    """Return the seconds until the first shard, of each further one, and of the whole run."""
    with cluster_for(engine):
        started = time.time()
        driver = case.start(engine, out)
        _, said = driver.communicate()
    assert driver.returncode == 0, said.decode()
    whole, done = time.time() - started, shards_of(out)
    return done[0] - started, (done[-1] - done[0]) / max(1, len(done) - 1), whole


def losses(driver: int, cluster: Any) -> dict[str, Callable[[], None]]:
    """Return what a run can lose now, by name, each with what takes it away."""
    found: dict[str, Callable[[], None]] = {"driver": lambda: kill(driver)}
    if workers := workers_of(driver, cluster):
        found["worker"] = lambda: kill(workers[0])
    if cluster:
        found["node"] = lambda: lose_node(cluster)
    return found


def disturbed(case: Case, engine: str, out: Path, victim: str) -> str:
    """Take a worker, a node or the driver away in the middle; say what it took to complete."""
    if engine in WITHOUT[victim]:
        return WITHOUT[victim][engine]
    with cluster_for(engine) as cluster:
        started = time.time()
        total = len(case.shards)
        driver = case.start(engine, out)
        while len(shards_of(out)) < total // 2 and driver.poll() is None:
            time.sleep(0.01)
        there = losses(driver.pid, cluster)
        if victim not in there:
            driver.communicate()
            return "had ended already"
        there[victim]()
        driver.communicate()
        kept = len(shards_of(out))
        if driver.returncode == 0:
            return f"completes, {time.time() - started:.1f} s in all"
        again = case.start(engine, out)
        _, said = again.communicate()
    assert again.returncode == 0, said.decode()
    return f"{kept} of {total} shards kept, {time.time() - started:.1f} s with the rerun"


def main(images: int, shard: int, engines: list[str]) -> None:
    """Print the table."""
    print(
        f"{images} images in shards of {shard}; {os.cpu_count()} cores, load {os.getloadavg()[0]}"
    )
    victims = [*WITHOUT]
    print(f"| engine | start | per shard | whole run | lost {' | lost '.join(victims)} | equal |")
    print("|---" * (5 + len(victims)) + "|")
    with tempfile.TemporaryDirectory() as folder:
        case = make_case(Path(folder), images, shard)
        undisturbed(case, "here", case.folder / "whole")
        whole = results_of(case.folder / "whole")
        for engine in engines:
            name = engine.replace(":", "-")
            outs = {what: case.folder / f"{name}-{what}" for what in ("whole", *victims)}
            start, each, wall = undisturbed(case, engine, outs["whole"])
            said = [disturbed(case, engine, outs[victim], victim) for victim in victims]
            same = all(results_of(out) == whole for out in outs.values() if out.exists())
            print(
                f"| {engine} | {start:.1f} s | {each:.2f} s | {wall:.1f} s | {' | '.join(said)} | "
                f"{'yes' if same else 'NO'} |",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--shard", type=int, default=8)
    parser.add_argument("--engines", nargs="*", default=[*ENGINES])
    given = parser.parse_args()
    main(given.images, given.shard, given.engines)
