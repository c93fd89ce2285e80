"""Runs on a real Ray cluster of this machine: two raylets, a third that comes and goes."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from helpers.engines import (
    finished,
    forget,
    is_alive,
    lasting,
    run,
    seen_by,
    start_driver,
    stop,
    wait_for,
    write_case,
)
from helpers.runs import interrupt_after

from camreport.errors import ModelError, OutputError, WorkerError
from camreport.images.inputs import InputFile
from camreport.pipeline import through
from camreport.pipeline.engines import on_ray as engine
from camreport.pipeline.engines.spec import Item, Outcome, RunSpec
from camreport.pipeline.engines.worker import make_spec

ray = pytest.importorskip("ray")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore:::ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SPEC = RunSpec({}, {}, 64, "", "", "cpu")
WORKERS = 2


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of this machine, which is gone in the end."""
    from ray.cluster_utils import Cluster

    settings = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    before = dict(os.environ)
    os.environ.update(settings)
    head = {"num_cpus": 2, "num_gpus": 2, "object_store_memory": engine.STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args={**head, "include_dashboard": False})
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    os.environ["RAY_ADDRESS"] = cluster.address
    session = cluster.head_node.get_session_dir_path()
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    os.environ.clear()
    os.environ.update(before)
    wait_for(lambda: not processes_of(session), 60)


def processes_of(session: str) -> list[str]:
    """Return the command lines of the processes of a cluster."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if session in line and is_alive(int(path.parent.name)):
            found.append(line)
    return found


@pytest.fixture(scope="module")
def case(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case with a run of one process in it."""
    case = write_case(tmp_path_factory.mktemp("case"))
    run(case / "whole")
    return case


@pytest.fixture(autouse=True)
def as_told_only(case: Path) -> None:
    """A network that does not die unless a test says so."""
    forget(case)


def test_a_run_begun_by_one_process_goes_on_though_a_worker_is_killed(case: Path) -> None:
    out = case / "killed"
    with pytest.raises(KeyboardInterrupt):
        run(out, progress=interrupt_after(4))
    assert finished(out) == [0]
    forget(case)
    (case / "once").touch()
    summary = run(out, on="ray", workers=WORKERS)
    assert not (case / "once").exists(), "a worker died of it"
    assert len(seen_by(case)) >= 2, "another worker had its shard"
    assert summary.reused == 2
    assert lasting(out) == lasting(case / "whole")
    assert ray.is_initialized(), "a cluster that the user has connected stays connected"


def test_a_poisonous_shard_is_given_up_and_the_others_are_finished(case: Path) -> None:
    out = case / "poison"
    (case / "always").touch()
    with pytest.raises(WorkerError) as error:
        run(out, on="ray", workers=WORKERS, evidence="off")
    assert "shard 2 (images 4–5) killed its worker 3 times" in str(error.value)
    assert "--batch-size" in str(error.value)
    assert len(seen_by(case)) == 3
    assert finished(out) == [0, 1, 3]
    assert not (out / "results/manifest.json").exists()
    forget(case)
    run(out)
    assert lasting(out) == lasting(case / "whole")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_the_driver_and_one_process_resumes(case: Path, how: int) -> None:
    out = case / f"stopped-{how}"
    (case / "hold").touch()
    driver = start_driver(out, "ray", WORKERS)
    wait_for(lambda: seen_by(case) or driver.poll() is not None)
    stop(driver, how)
    wait_for(lambda: not any(map(is_alive, seen_by(case))))
    assert not (out / "results/manifest.json").exists()
    forget(case)
    run(out)
    assert lasting(out) == lasting(case / "whole")


def test_workers_with_other_weights_end_the_run_and_nothing_is_written(
    case: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(*given: Any) -> RunSpec:
        (case / "seed").write_text("1")  # once the model is loaded here
        return make_spec(*given)

    monkeypatch.setattr(through, "make_spec", changed)
    with pytest.raises(ModelError, match=r"expected weights \w{12} .*, got weights \w{12} on \w"):
        run(case / "others", on="ray", workers=1)
    (case / "seed").write_text("0")
    assert not (case / "others").exists()


class Light:
    """An actor that notes where it runs, without a model."""

    def __init__(self, spec: str, cpus: int, given: Path, access: dict[str, str]) -> None:
        self.folder = given

    def ready(self) -> None:
        """Be ready."""

    def run(self, item: Item) -> Outcome:
        """Do as the files in the folder say."""
        where = ray.get_runtime_context().get_node_id()
        cards = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        with (self.folder / f"{os.getpid()}").open("a") as file:
            file.write(f"{where} {cards} {item.numbers}\n")
        while (self.folder / "hold").exists():
            time.sleep(0.02)
        for number in item.numbers:
            if (self.folder / f"kill-{number}").exists():
                os.kill(os.getpid(), signal.SIGKILL)
            if (self.folder / f"full-{number}").exists():
                raise OutputError("output: the disk is full.") from OSError(28, "full")
        return Outcome(item, len(item.indices), device=f"{where} {cards}")


def outcomes(folder: Path, share: engine.Share, numbers: list[tuple[int, ...]]) -> list[Outcome]:
    """Return what light actors make of items."""
    files = [InputFile(f"{index}.png", f"{index}.png") for index in range(64)]
    items = (Item(own, 2, files, {}, None).of(own) for own in numbers)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not find it
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "ShardWorker", Light)
        return [*engine.on_ray(share, print, folder)(SPEC, items)]


def test_a_machine_that_is_lost_for_good_costs_nothing_but_time(
    cluster: Any, tmp_path: Path
) -> None:
    node = cluster.add_node(num_cpus=1, object_store_memory=engine.STORE_BYTES)
    cluster.wait_for_nodes()
    (tmp_path / "hold").touch()
    found: list[Outcome] = []
    share = engine.Share(3, 1, 0)
    numbers = [(number,) for number in range(6)]
    thread = Thread(target=lambda: found.extend(outcomes(tmp_path, share, numbers)))
    thread.start()
    wait_for(lambda: len([*tmp_path.glob("[0-9]*")]) == 3 or not thread.is_alive())
    cluster.remove_node(node)
    (tmp_path / "hold").unlink()
    thread.join()
    assert sorted(own.item.numbers for own in found) == numbers
    assert not any(own.error for own in found)


def test_an_item_of_several_shards_is_split_before_one_is_given_up(
    cluster: Any, tmp_path: Path
) -> None:
    (tmp_path / "kill-5").touch()
    found = outcomes(tmp_path, engine.Share(1, 1, 0), [(0, 1), (4, 5, 6)])
    assert sorted(own.item.numbers for own in found) == [(0, 1), (4,), (5,), (6,)]
    assert [own.item.numbers for own in found if own.error] == [(5,)]
    assert len([*tmp_path.glob("[0-9]*")]) >= 6, "three times together, three times alone"


def test_a_full_disk_ends_the_run_after_three_tries(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "full-1").touch()
    with pytest.raises(OutputError, match="the disk is full"):
        outcomes(tmp_path, engine.Share(1, 1, 0), [(0,), (1,), (2,)])
    tried = "".join(path.read_text() for path in tmp_path.glob("[0-9]*"))
    assert tried.count("(1,)") == 3


def test_every_worker_keeps_one_gpu_and_no_two_share_one(cluster: Any, tmp_path: Path) -> None:
    share = engine.share_of(ray.nodes(), None, True)
    assert share == engine.Share(2, 1, 1)
    outcomes(tmp_path, share, [(number,) for number in range(12)])
    cards = [path.read_text().splitlines() for path in tmp_path.glob("[0-9]*")]
    own = [{tuple(line.split()[:2]) for line in lines} for lines in cards]
    assert all(len(one) == 1 for one in own)
    assert len(own) == len(set.union(*own))


def test_a_user_learns_what_is_waited_for(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "WAIT_SECONDS", 0.1)
    monkeypatch.setattr(engine, "ShardWorker", Light)

    def told(sentence: str) -> None:
        said.append(sentence)
        raise KeyboardInterrupt

    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        [*engine.on_ray(engine.Share(4, 64, 1), told, tmp_path)(SPEC, iter(()))]
    assert said == [
        "waiting for 4 workers with 1 GPU and 64 CPUs each; the cluster has 2 GPUs, 2 CPUs"
    ]
