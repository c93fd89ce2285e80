"""A second run into the same folder: equal, changed, or mending what is damaged."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.runs import (
    assert_same_maps,
    files_of,
    interrupt_after,
    lasting,
    npz_of,
    tiny,
)
from helpers.runs import run_by_two as run
from PIL import Image
from torch import nn


def test_run_computes_nothing_when_an_equal_run_is_complete(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    before, model, done = files_of(tmp_path / "out"), tiny(), []
    summary = run(photos, tmp_path / "out", model, progress=done.append)
    assert model.module.batches == []
    assert (summary.total, summary.reused, sum(done)) == (7, 7, 7)
    assert files_of(tmp_path / "out") == before


CHANGES: dict[str, Callable[[Path], dict[str, object]]] = {
    "methods": lambda _: {"methods": ["grad_cam"]},
    "layers": lambda _: {"layers": ["2"]},
    "classes": lambda _: {"classes": [1]},
    "top class": lambda _: {"classes": "top1"},
    "class names": lambda _: {"class_names": ["cat", "dog"]},
    "weights": lambda _: {"model": tiny(seed=1)},
    "an image": lambda folder: Image.new("RGB", (9, 9)).save(folder / "03.png") or {},
    "one image more": lambda folder: Image.new("RGB", (9, 9)).save(folder / "zz.png") or {},
    "one image less": lambda folder: (folder / "06.png").unlink() or {},
    "a name": lambda folder: (folder / "03.png").rename(folder / "03a.png") and {},
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("complete", [True, False])
def test_run_replaces_results_when_something_has_changed(
    photos: Path, tmp_path: Path, change: str, complete: bool
) -> None:
    if complete:
        run(photos, tmp_path / "out")
    else:
        with pytest.raises(KeyboardInterrupt):
            run(photos, tmp_path / "out", batch_size=2, progress=interrupt_after(6))
    options = {} if complete else {"batch_size": 2}
    options |= CHANGES[change](photos)
    run(photos, tmp_path / "out", **options)
    run(photos, tmp_path / "fresh", **options)
    assert lasting(tmp_path / "out") == lasting(tmp_path / "fresh")
    assert files_of(tmp_path / "out").keys() == files_of(tmp_path / "fresh").keys()
    assert_same_maps(tmp_path / "out", tmp_path / "fresh")
    assert npz_of(tmp_path / "out") == npz_of(tmp_path / "fresh")


@pytest.mark.parametrize("file", ["manifest.json", "shard-000000.npz", "shard-000001.json"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_run_mends_complete_results_that_are_damaged(
    photos: Path, tmp_path: Path, file: str, overwrite: bool
) -> None:
    run(photos, tmp_path / "whole")
    run(photos, tmp_path / "out")
    damaged = tmp_path / "out" / "results" / file
    if file == "manifest.json":
        damaged.write_text("{")
    else:
        damaged.unlink()
    run(photos, tmp_path / "out", overwrite=overwrite)
    assert_same_maps(tmp_path / "out", tmp_path / "whole")


def test_run_computes_again_when_equal_weights_are_used_otherwise(
    photos: Path, tmp_path: Path
) -> None:
    run(photos, tmp_path / "out")
    other = tiny()
    other.module.head[2] = nn.Sigmoid()
    run(photos, tmp_path / "out", other)
    assert other.module.batches
    run(photos, tmp_path / "whole", other)
    assert_same_maps(tmp_path / "out", tmp_path / "whole")
