"""Runs that are interrupted or killed: what stays, and how the next one goes on."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.reports import embedded
from helpers.runs import (
    PROBED,
    assert_same_maps,
    fail,
    files_of,
    images_of,
    interrupt_after,
    lasting,
    manifest_of,
    shards_of,
    tiny,
)
from helpers.runs import run_by_two as run

from camreport import files
from camreport.errors import ResultsError
from camreport.results import writer
from camreport.results.reader import load_results


@pytest.mark.parametrize("stop", range(1, 8))
def test_run_resumes_where_it_was_interrupted(photos: Path, tmp_path: Path, stop: int) -> None:
    (photos / "02.png").write_bytes(b"x")
    out = tmp_path / "out"
    run(photos, tmp_path / "whole", batch_size=1)
    with pytest.raises(KeyboardInterrupt):
        run(photos, out, batch_size=1, progress=interrupt_after(stop))
    finished = (stop - 1) // 2  # the interruption comes before the last one's shard is written
    assert len(shards_of(out)) == finished
    assert sorted(images_of(out)) == [i for i in range(2 * finished) if i != 2]
    assert not (out / "index.html").exists()
    assert not (out / "results" / "manifest.json").exists()
    with pytest.raises(ResultsError, match="incomplete" if finished else "expected a folder"):
        load_results(out)
    model, done = tiny(), []
    summary = run(photos, out, model, batch_size=1, progress=done.append)
    left = len([i for i in range(2 * finished, 7) if i != 2])
    assert sum(model.module.batches) == left + (0 if finished else PROBED)
    assert summary.reused == 2 * finished
    assert sum(done) == 7
    assert_same_maps(out, tmp_path / "whole")
    assert lasting(out) == lasting(tmp_path / "whole")
    assert files_of(out).keys() == files_of(tmp_path / "whole").keys()
    cost = manifest_of(out)["cost"]
    assert cost["maps"] == manifest_of(tmp_path / "whole")["cost"]["maps"]
    assert cost["forwards"] == 6


def test_run_resumes_when_batches_are_cut_otherwise(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(photos, tmp_path / "out", progress=interrupt_after(5))
    assert sorted(images_of(tmp_path / "out")) == [0, 1, 2, 3]
    model = tiny()
    run(photos, tmp_path / "out", model, batch_size=4)
    assert model.module.batches == [2, 1], "a run keeps to the batches it began with"
    assert_same_maps(tmp_path / "out", tmp_path / "whole")


def test_run_computes_nothing_again_when_killed_before_the_manifest(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(photos, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(writer.ResultsWriter, "complete", fail)
        with pytest.raises(KeyboardInterrupt):
            run(photos, tmp_path / "out")
    assert not (tmp_path / "out" / "index.html").exists()
    model = tiny()
    assert run(photos, tmp_path / "out", model).reused == 7
    assert model.module.batches == []
    assert lasting(tmp_path / "out") == lasting(tmp_path / "whole")
    assert manifest_of(tmp_path / "out")["cost"]["forwards"] == 4
    shards = {name for name in files_of(tmp_path / "whole") if name.endswith("npz")}
    for name in shards:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def killed_at(file: str, rename: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
    """Return a way of putting a file in its place that kills the process for one of them."""

    def killed(source: Path, target: Path) -> None:
        if str(target).endswith(file):
            raise KeyboardInterrupt
        rename(source, target)

    return killed


@pytest.mark.parametrize("file", [".camreport", "000001.json", "000001.npz", "manifest.json"])
def test_run_resumes_when_killed_before_any_file_is_in_place(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    run(photos, tmp_path / "whole", batch_size=2)
    with monkeypatch.context() as patch:
        for name in ("replace", "link"):
            patch.setattr(files.whole.os, name, killed_at(file, getattr(os, name)))
        with pytest.raises(KeyboardInterrupt):
            run(photos, tmp_path / "out", batch_size=2)
    assert not (tmp_path / "out" / "index.html").exists()
    with pytest.raises(ResultsError):
        load_results(tmp_path / "out")
    run(photos, tmp_path / "out", batch_size=2)
    assert lasting(tmp_path / "out") == lasting(tmp_path / "whole")
    assert_same_maps(tmp_path / "out", tmp_path / "whole")
    assert not [name for name in files_of(tmp_path / "out") if name.endswith(".part")]


def test_run_builds_the_report_again_when_killed_before_it(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("camreport.api.render_gallery", fail)
        with pytest.raises(KeyboardInterrupt):
            run(photos, tmp_path / "out")
    model = tiny()
    run(photos, tmp_path / "out", model)
    assert model.module.batches == []
    assert (tmp_path / "out" / "index.html").exists()


def test_run_keeps_the_earlier_report_until_the_new_results_are_complete(
    photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(photos, out)
    before = files_of(out)
    with pytest.raises(KeyboardInterrupt):  # before the first shard is ready
        run(photos, out, classes=[1], batch_size=1, progress=interrupt_after(1))
    assert files_of(out) == before
    with pytest.raises(KeyboardInterrupt):
        run(photos, out, classes=[1], batch_size=1, progress=interrupt_after(4))
    after = files_of(out)
    assert {name: after[name] for name in before} == before
    assert load_results(out).arrays(6)["targets"].tolist() == [0, 1]
    model = tiny()
    assert run(photos, out, model, classes=[1], batch_size=1).reused == 2
    assert sum(model.module.batches) == 5, "it goes on where it was interrupted"
    run(photos, tmp_path / "fresh", classes=[1], batch_size=1)
    assert files_of(out).keys() == files_of(tmp_path / "fresh").keys()
    assert {array["targets"].shape for array in shards_of(out).values()} == {(2, 1), (1, 1)}


@pytest.mark.parametrize("killed_at", ["results", ".camreport-last", "before the page goes"])
def test_run_finishes_what_it_was_about_when_killed_while_results_change_places(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    out = tmp_path / "out"
    run(photos, out)
    rename = os.replace

    def killed(source: Path, target: Path) -> None:
        if Path(target).name == killed_at:
            raise KeyboardInterrupt
        rename(source, target)
        if Path(target).name == "results" and killed_at == "before the page goes":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(writer.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            run(photos, out, classes=[1])
    model = tiny()
    run(photos, out, model, classes=[1])
    assert model.module.batches == []
    run(photos, tmp_path / "fresh", classes=[1])
    assert files_of(out).keys() == files_of(tmp_path / "fresh").keys()
    assert lasting(out) == lasting(tmp_path / "fresh")
    assert embedded(out, "report")["sameClasses"] == [1]
