"""Runs in several processes on one machine."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import active_children, get_context
from pathlib import Path

import pytest
import torch
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
from helpers.nets import gap_net
from helpers.storage import s3_server

from camreport.cli import exits
from camreport.errors import InputError, ModelError, WorkerError
from camreport.images.inputs import InputFile
from camreport.pipeline import through
from camreport.pipeline.engines import pool as engine
from camreport.pipeline.engines.spec import Item, RunSpec
from camreport.pipeline.engines.worker import make_spec
from camreport.settings import Settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case with a run of one process in it."""
    case = write_case(tmp_path_factory.mktemp("case"))
    run(case / "whole")
    forget(case)
    return case


@pytest.fixture(autouse=True)
def nothing_is_left(case: Path) -> Iterator[None]:
    """Each test ends with no process of its own, and with a network that does not die."""
    yield
    assert not active_children()
    forget(case)


def test_two_workers_equal_one_process(case: Path) -> None:
    done: list[float] = []
    summary = run(case / "two", workers=2, progress=done.append)
    assert lasting(case / "two") == lasting(case / "whole")
    assert sum(done) == summary.total == 8
    assert all(os.getpid() != process for process in seen_by(case)), "they computed it"


def test_a_dead_worker_ends_the_run_and_the_same_command_resumes(case: Path) -> None:
    (case / "always").touch()
    with pytest.raises(WorkerError, match=r"one of 2 died, .*Finished shards stay") as error:
        run(case / "dead", workers=2, evidence="off")
    assert "shard 2 (images 4–5)" in str(error.value)
    assert exits._report(error.value) == 1
    assert 2 not in finished(case / "dead")
    assert not (case / "dead/results/manifest.json").exists()
    (case / "always").unlink()
    run(case / "dead")
    assert lasting(case / "dead") == lasting(case / "whole")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_the_process_that_started_it(case: Path, how: int) -> None:
    (case / "hold").touch()
    out = case / f"stopped-{how}"
    driver = start_driver(out)
    wait_for(lambda: seen_by(case))
    stop(driver, how)
    wait_for(lambda: not any(map(is_alive, seen_by(case))))
    (case / "hold").unlink()
    assert run(out).total == 8
    assert lasting(out) == lasting(case / "whole")


def test_a_worker_with_other_weights_ends_the_run_and_nothing_is_written(
    case: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(*given: object) -> RunSpec:
        (case / "seed").write_text("1")  # once the model is loaded here
        return make_spec(*given)

    monkeypatch.setattr(through, "make_spec", changed)
    with pytest.raises(ModelError, match=r"model: expected weights \w{12} on every machine"):
        run(case / "others", workers=2)
    (case / "seed").write_text("0")
    assert not (case / "others").exists()


def seen() -> tuple[str, int]:
    """Return which GPUs a worker sees, and its threads."""
    return os.environ["CUDA_VISIBLE_DEVICES"], torch.get_num_threads()


def test_workers_write_to_object_storage_what_they_write_to_a_folder(case: Path) -> None:
    with s3_server() as storage:
        run("s3://photographs/out", case, workers=2)
        there = storage.objects("out/results")
    folder = case / "whole/results"
    arrays = {path.name: path.read_bytes() for path in folder.glob("*.npz")}
    assert {name: there[name] for name in arrays} == arrays
    assert there.keys() == {path.name for path in folder.iterdir()}


def test_each_process_gets_a_gpu_and_its_threads() -> None:
    context = get_context("spawn")
    cards = context.SimpleQueue()
    cards.put("7")
    given = (cards, 1, "", b"")
    with ProcessPoolExecutor(1, context, engine._begin, given) as executor:
        assert executor.submit(seen).result() == ("7", 1)


def test_a_process_has_its_gpu_before_torch_is_imported() -> None:
    code = "import camreport.pipeline.engines.pool, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_gpus_are_called_as_the_user_calls_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-8f2")
    assert engine.visible_gpus(2) == ["3", "GPU-8f2"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert engine.visible_gpus(2) == ["0", "1"]


def test_a_model_that_cannot_be_sent_is_refused(case: Path) -> None:
    module = gap_net()
    module.own = lambda: None
    with pytest.raises(InputError, match="workers: expected a model that other processes can load"):
        run(case / "own", model=module, workers=2)
    assert not (case / "own").exists()


def test_an_item_takes_only_what_belongs_to_its_shards() -> None:
    files = [InputFile(f"{index}.png", f"{index}.png") for index in range(7)]
    labels = {0: (1,), 4: (0,), 6: (1,)}
    item = Item((0, 1, 2, 3), 2, files, labels, None).of([2, 3])
    assert item.indices == [4, 5, 6]
    assert [item.files[index].name for index in item.indices] == ["4.png", "5.png", "6.png"]
    assert len(item.files) == 7
    assert item.labels == {4: (0,), 6: (1,)}
    assert str(item) == "shards 2–3 (images 4–6)"
    assert item.of([3]).indices == [6]


def test_a_spec_comes_back_from_its_text() -> None:
    spec = RunSpec({"gamma": 2.0}, {"run": "x"}, 7, "/out", "/here", "cpu")
    assert RunSpec.from_json(spec.to_json()) == spec


def test_the_bundled_and_own_settings_are_recorded_without_the_machines() -> None:
    settings = Settings(part="1/2", on="ray", workers=3)
    assert settings.command(["a.jpg"], "out") == "camreport run a.jpg -o out"
