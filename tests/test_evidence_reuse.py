"""Finished evidence serves later runs part by part, and leaves no trace in what they write."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.runs import interrupt_after, lasting, manifest_of, tiny, write_images
from helpers.runs import run_by_two as run
from test_evidence_run import counted, evidence_of

from camreport.engine.cost import Cost
from camreport.pipeline import missing
from camreport.pipeline.evidence import choice
from camreport.pipeline.evidence.batch import EvidenceBatch
from camreport.pipeline.evidence.gathered import Gathered
from camreport.pipeline.evidence.kinds import Kind
from camreport.results.reader import load_results

OFF = {"evidence": "off"}
BASIC = {"evidence": "basic", "evidence_images": 2}
FULL = {"evidence": "full", "evidence_images": 5}
EFFECT = {**BASIC, "metrics": "effect"}


@pytest.fixture(autouse=True)
def groups_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two of the five photographs be drawn first, and the others in the second group."""
    monkeypatch.setattr(choice, "FIRST_GROUP", 2)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five photographs."""
    return write_images(tmp_path_factory.mktemp("inputs") / "photos", 5)


@pytest.fixture(scope="module")
def fresh(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs in new folders, by level; not to be changed."""
    folder = tmp_path_factory.mktemp("fresh")
    with pytest.MonkeyPatch.context() as during:
        during.setattr(choice, "FIRST_GROUP", 2)
        for name, options in (("full", FULL), ("basic", BASIC)):
            run(inputs, folder / name, **options)
    return {name: folder / name for name in ("full", "basic")}


def kinds_measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, ...]]]:
    """Return a list to which each measurement adds its metric and its images."""
    found: list[tuple[str, tuple[int, ...]]] = []
    real = Gathered.measure

    def noted(own: Gathered, kind: Kind, rows: np.ndarray, batch: EvidenceBatch) -> Cost:
        found.append((kind.metrics[0], tuple(batch.indices.tolist())))
        return real(own, kind, rows, batch)

    monkeypatch.setattr(Gathered, "measure", noted)
    return found


HISTORIES: dict[str, tuple[list[dict[str, object]], str]] = {
    "off, basic, full": ([OFF, BASIC], "full"),
    "full, basic, full": ([FULL, BASIC], "full"),
    "full, off, full": ([FULL, OFF], "full"),
    "off, full, basic": ([OFF, FULL], "basic"),
    "full, off, basic": ([FULL, OFF], "basic"),
    "effect, other seed, basic": ([EFFECT, {**FULL, "seed": 7}], "basic"),
}


@pytest.mark.parametrize("history", HISTORIES)
def test_the_history_of_a_folder_changes_no_evidence(
    inputs: Path, fresh: dict[str, Path], tmp_path: Path, history: str
) -> None:
    earlier, last = HISTORIES[history]
    for options in earlier:
        run(inputs, tmp_path / "out", **options)
    run(inputs, tmp_path / "out", **{"full": FULL, "basic": BASIC}[last])
    assert evidence_of(tmp_path / "out") == evidence_of(fresh[last])
    assert lasting(tmp_path / "out") == lasting(fresh[last])


@pytest.mark.parametrize("between", [BASIC, OFF, EFFECT])
def test_back_at_a_level_nothing_is_computed(
    inputs: Path, fresh: dict[str, Path], tmp_path: Path, between: dict[str, object]
) -> None:
    out, model, passes = tmp_path / "out", tiny(), list[float]()
    run(inputs, out, **FULL)
    summary = run(inputs, out, model, **between, measuring=counted(passes))
    assert not summary.measured
    summary = run(inputs, out, model, **FULL, measuring=counted(passes))
    assert (summary.measured, model.module.batches, passes) == (False, [], [])
    assert evidence_of(out) == evidence_of(fresh["full"])


def test_a_higher_level_measures_what_is_missing_and_no_more(
    inputs: Path, fresh: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, passes = tmp_path / "out", list[float]()
    run(inputs, out, **BASIC)
    first = {*manifest_of(out)["evidence"]["sample"]}
    found = kinds_measured(monkeypatch)
    run(inputs, out, **FULL, measuring=counted(passes))
    own = {index for metric, images in found if metric == "learned" for index in images}
    assert own == {*range(5)} - first
    assert {index for metric, images in found if metric == "effect" for index in images} == {
        *range(5)
    }
    assert not [metric for metric, _ in found if metric in ("contrast", "extent")]
    spent, before = (
        manifest_of(each)["cost"]["evidence"]["metrics"] for each in (out, fresh["full"])
    )
    assert {name: cost["variants"] for name, cost in spent.items()} == {
        name: cost["variants"] for name, cost in before.items()
    }


def test_one_more_metric_measures_that_one_alone(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(inputs, tmp_path / "out", **BASIC)
    found = kinds_measured(monkeypatch)
    run(inputs, tmp_path / "out", **EFFECT)
    assert {metric for metric, _ in found} == {"effect"}


def test_changed_regions_measure_regions_alone(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, regions = tmp_path / "out", tmp_path / "regions.csv"
    regions.write_text("image,x0,y0,x1,y1\n00.png,0,0,20,20\n04.png,0,0,20,20\n")
    run(inputs, out, **FULL, regions=regions)
    found = kinds_measured(monkeypatch)
    regions.write_text("image,x0,y0,x1,y1\n00.png,0,0,40,20\n04.png,0,0,20,20\n")
    with monkeypatch.context() as during:
        during.setattr(missing, "compute_shard", None)
        run(inputs, out, **FULL, regions=regions)
    assert found == [("regions", (0, 1))], "the other shards' regions are as before"
    run(inputs, tmp_path / "fresh", **FULL, regions=regions)
    assert evidence_of(out) == evidence_of(tmp_path / "fresh")
    assert load_results(out).evidence(0).regions[0].boxes.shape == (1, 4)


def test_methods_with_passes_of_their_own_are_measured_anew_at_full(
    inputs: Path, tmp_path: Path
) -> None:
    methods = ["grad_cam", "ablation_cam"]
    for out, levels in ((tmp_path / "one", (BASIC, FULL)), (tmp_path / "two", (FULL,))):
        for options in levels:
            run(inputs, out, **{**options, "methods": methods})
    assert evidence_of(tmp_path / "one") == evidence_of(tmp_path / "two")


@pytest.mark.parametrize("passes", [5, 60])
def test_an_interrupted_higher_level_goes_on_where_it_stopped(
    inputs: Path, fresh: dict[str, Path], tmp_path: Path, passes: int
) -> None:
    out, told = tmp_path / "out", list[float]()
    run(inputs, out, **BASIC)
    with pytest.raises(KeyboardInterrupt):
        run(inputs, out, **FULL, measuring=lambda count: interrupt_after(passes))
    run(inputs, out, **BASIC, measuring=counted(told))
    assert told == []
    assert evidence_of(out) == evidence_of(fresh["basic"])
    run(inputs, out, **FULL)
    assert evidence_of(out) == evidence_of(fresh["full"])


SPOILED: dict[str, Callable[[Path], object]] = {
    "no arrays": lambda path: path.unlink(),
    "damage": lambda path: path.write_bytes(path.read_bytes()[:-9] + b"123456789"),
    "other images": lambda path: _changed(path, image=np.array([7, 8])),
    "no records": lambda path: path.with_suffix(".json").unlink(),
}


def _changed(path: Path, **arrays: np.ndarray) -> None:
    """Change arrays of a file, which keeps its size."""
    with np.load(path) as before:
        content = {**before, **arrays}
    np.savez(path, **content)


@pytest.mark.parametrize("spoiled", SPOILED)
def test_spare_evidence_that_cannot_be_used_is_measured_again(
    inputs: Path, fresh: dict[str, Path], tmp_path: Path, spoiled: str
) -> None:
    out = tmp_path / "out"
    run(inputs, out, **FULL)
    run(inputs, out, **BASIC)
    SPOILED[spoiled](out / "results" / "spare-000000.npz")
    run(inputs, out, **FULL)
    assert evidence_of(out) == evidence_of(fresh["full"])
    assert not [*(out / "results").glob("spare-*")]


def test_evidence_of_images_that_changed_is_not_used(inputs: Path, tmp_path: Path) -> None:
    photos, out = write_images(tmp_path / "photos", 5), tmp_path / "out"
    run(photos, out, **FULL)
    run(photos, out, **OFF)
    (photos / "00.png").write_bytes((photos / "01.png").read_bytes())
    run(photos, out, **FULL)
    run(photos, tmp_path / "fresh", **FULL)
    assert evidence_of(out) == evidence_of(tmp_path / "fresh")
