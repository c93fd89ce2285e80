"""Runs on engines of other processes: a network that dies as it is told, and what a run left.

The network is code in a file, as workers load it. Its last photographs but one is white; what the
network does when it sees that is said by files beside its code.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import camreport
from camreport.pipeline.records import Summary
from camreport.pipeline.run_plan import ShardLimits
from helpers.checkout import ROOT

IMAGES, WHITE = 8, 5
"""Number of photographs, and the index of the white one: in shard 2 of 0 to 3."""

NET = """
import os, signal, time
from pathlib import Path
import torch
from torch import nn

HERE = Path(__file__).parent

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 5, stride=4, padding=2), nn.ReLU(),
            nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ReLU(),
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 3))

    def forward(self, x):
        if bool((x.detach().amin(dim=(1, 2, 3)) > 2).any()):
            see_white()
        return self.head(self.features(x))

def see_white():
    (HERE / f"seen-{os.getpid()}").touch()
    while (HERE / "hold").exists():
        time.sleep(0.02)
    if (HERE / "always").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        (HERE / "once").unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)

def build():
    torch.manual_seed(int((HERE / "seed").read_text()))
    return Net().eval()
"""

DRIVER = """
import sys
from helpers.engines import run
if __name__ == "__main__":
    from camreport.cli.exits import Commands
    out, on, workers = sys.argv[1:]
    try:
        run(sys.argv[1], on=on or None, workers=int(workers) or None)
    except KeyboardInterrupt:
        sys.exit(130)
"""


def write_case(folder: Path) -> Path:
    """Fill a folder with the network and its photographs."""
    photos = folder / "photos"
    photos.mkdir(parents=True)
    for index in range(IMAGES):
        pixels = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        if index == WHITE:
            pixels[:] = 255
        Image.fromarray(pixels).save(photos / f"{index}.png")
    (folder / "net.py").write_text(NET)
    (folder / "seed").write_text("0")
    return folder


def run(out: Path | str, case: Path | None = None, **options: Any) -> Summary:
    """Run on a case, that of the folder if none is given, in shards of two images."""
    case = case or Path(out).parent
    usual = {"model": f"{case / 'net.py'}:build", "classes": "all", "evidence_images": "all"}
    limits = ShardLimits(shard_images=2)
    given = {**usual, "image_size": 32, "batch_size": 2, **options}
    return camreport.run(case / "photos", out, limits=limits, **given)


def start_driver(out: Path, on: str = "", workers: int = 2) -> subprocess.Popen[bytes]:
    """Start a run in a process of its own."""
    script = out.parent / "driver.py"
    script.write_text(DRIVER)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen(
        [sys.executable, str(script), str(out), on, str(workers)],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def stop(driver: subprocess.Popen[bytes], how: int) -> int:
    """Send a process a signal; return its exit code."""
    driver.send_signal(how)
    _, said = driver.communicate(timeout=120)
    assert driver.returncode in (130, -signal.SIGKILL), said.decode()
    return driver.returncode


def wait_for(met: Callable[[], object], seconds: float = 200) -> None:
    """Wait until a condition is met."""
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "it was never met"
        time.sleep(0.05)


def seen_by(case: Path) -> list[int]:
    """Return the numbers of the processes that have seen the white photograph."""
    return [int(path.name.removeprefix("seen-")) for path in case.glob("seen-*")]


def forget(case: Path) -> None:
    """Remove what the network is told and what it has left."""
    for name in ("once", "always", "hold", *(path.name for path in case.glob("seen-*"))):
        (case / name).unlink(missing_ok=True)


def is_alive(process: int) -> bool:
    """Return whether a process runs; one that nobody has asked after does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def lasting(out: Path) -> dict[str, object]:
    """Return the files of a run's results, without what may differ between two equal runs."""
    found: dict[str, object] = {}
    for path in sorted((out / "results").iterdir()):
        content = path.read_bytes()
        found[path.name] = _equal(json.loads(content)) if path.suffix == ".json" else content
    return found


def _equal(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record, and those in it, without what may differ between two equal runs."""
    free = ("command", "versions", "device", "cost")
    kept = {name: value for name, value in record.items() if name not in free}
    return {name: _equal(own) if isinstance(own, dict) else own for name, own in kept.items()}


def finished(out: Path) -> list[int]:
    """Return the numbers of the finished shards."""
    return sorted(int(path.stem[6:]) for path in (out / "results").glob("shard-*.json"))
