"""Batches and shards of a run: how they are cut, what memory holds, what is decoded ahead."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.runs import (
    BY_TWO,
    PROBED,
    assert_same_maps,
    images_of,
    lasting,
    manifest_of,
    run,
    shards_of,
    tiny,
    write_images,
)

from camreport.engine.memory import BUDGETS
from camreport.errors import InputError, MemoryLimitError
from camreport.pipeline.run_plan import ShardLimits
from camreport.results.reader import load_results


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, None])
def test_maps_do_not_depend_on_the_batch_size(
    photos: Path, tmp_path: Path, batch_size: int | None
) -> None:
    (photos / "01.png").write_bytes(b"x")
    run(photos, tmp_path / "reference", batch_size=7)
    run(photos, tmp_path / "out", batch_size=batch_size, limits=ShardLimits(shard_images=3))
    assert_same_maps(tmp_path / "out", tmp_path / "reference")
    places = ("shard", "row")
    ours, theirs = (
        [{k: v for k, v in record.items() if k not in places} for record in lasting(out)["images"]]
        for out in (tmp_path / "out", tmp_path / "reference")
    )
    assert ours == theirs


@pytest.mark.parametrize(
    ("limits", "batch_size", "batches", "shards"),
    [
        (ShardLimits(), None, [10], [10]),
        (ShardLimits(shard_images=3), None, [3, 3, 3, 1], [3, 3, 3, 1]),
        (ShardLimits(shard_images=6), 2, [2, 2, 2, 2, 2], [6, 4]),
        (ShardLimits(shard_images=6), 4, [4, 4, 2], [4, 4, 2]),
        (ShardLimits(shard_images=3), 5, [5, 5], [5, 5]),
    ],
    ids=str,
)
def test_a_shard_is_a_whole_number_of_batches(
    tmp_path: Path,
    limits: ShardLimits,
    batch_size: int | None,
    batches: list[int],
    shards: list[int],
) -> None:
    model = tiny()
    folder, out = write_images(tmp_path / "in", 10), tmp_path / "out"
    run(folder, out, model, batch_size=batch_size, limits=limits)
    assert model.module.batches == [PROBED, *batches]
    assert [len(shard["image"]) for shard in shards_of(out).values()] == shards
    assert manifest_of(out)["totals"]["shard_length"] == min(64, max(shards)) or len(shards) == 1


def test_a_batch_of_a_gpus_budget_is_not_cut_by_the_shard(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BUDGETS, "cpu", replace(BUDGETS["cpu"], images=100))
    model = tiny()
    for index in range(70):
        shutil.copy(photos / "00.png", photos / f"more {index}.png")
    run(photos, tmp_path / "out", model)
    assert model.module.batches == [PROBED, 77]


@pytest.mark.parametrize("bad", [[0, 1], [2, 3], [0, 1, 2, 3, 4], [6]])
def test_run_goes_on_when_all_of_a_shard_is_bad(
    photos: Path, tmp_path: Path, bad: list[int]
) -> None:
    for index in bad:
        (photos / f"{index:02}.png").write_bytes(b"x")
    summary = run(photos, tmp_path / "out", batch_size=1, limits=BY_TWO)
    assert [image.index for image in summary.failed] == bad
    assert sorted(images_of(tmp_path / "out")) == sorted({*range(7)} - {*bad})
    opened = load_results(tmp_path / "out")
    for image in opened.images:
        if image.readable:
            assert opened.arrays(image.index)["image"] == image.index


def test_shards_are_small_when_maps_are_large(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out", limits=ShardLimits(shard_bytes=1))
    assert len(shards_of(tmp_path / "out")) == 7


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: str(error)[:9])
@pytest.mark.parametrize("batch_size", [None, 5])
def test_run_halves_batches_when_memory_runs_out(
    tmp_path: Path, error: Exception, batch_size: int | None
) -> None:
    folder, model = write_images(tmp_path / "in", 20), tiny()
    run(folder, tmp_path / "reference")
    model.module.most, model.module.error = 2, error
    run(folder, tmp_path / "out", model, batch_size=batch_size)
    assert_same_maps(tmp_path / "out", tmp_path / "reference")
    assert lasting(tmp_path / "out")["layers"] == lasting(tmp_path / "reference")["layers"]
    done = 0
    for count in model.module.batches[PROBED:]:
        assert count <= 2 or done < (batch_size or 16), "later batches start from what has worked"
        done += count if count <= 2 else 0
    assert done == 20, "nothing is computed twice"


def test_run_says_so_when_one_image_is_too_much(photos: Path, tmp_path: Path) -> None:
    model = tiny()
    model.module.most = 0
    with pytest.raises(MemoryLimitError, match="memory"):
        run(photos, tmp_path / "out", model)
    assert not (tmp_path / "out").exists()


def test_run_passes_other_errors_of_the_model_on(photos: Path, tmp_path: Path) -> None:
    model = tiny()
    model.module.most, model.module.error = 0, RuntimeError("mat1 and mat2 do not fit")
    with pytest.raises(RuntimeError, match="do not fit"):
        run(photos, tmp_path / "out", model)
    assert not (tmp_path / "out").exists()


def test_auto_batch_size_is_the_same_in_equal_runs(tmp_path: Path) -> None:
    folder, models = write_images(tmp_path / "in", 40), [tiny(), tiny()]
    for name, model in zip("ab", models, strict=True):
        run(folder, tmp_path / name, model)
    batches = models[0].module.batches
    assert batches == models[1].module.batches
    assert batches == [PROBED, 32, 8]


@pytest.mark.parametrize(
    ("activations", "images", "batches"), [(2**30, 3, [3] * 6 + [2]), (1, 9, [1] * 20)]
)
def test_auto_batch_size_follows_the_budget(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    activations: int,
    images: int,
    batches: list[int],
) -> None:
    folder, model = write_images(tmp_path / "in", 20), tiny()
    run(folder, tmp_path / "reference")
    budget = replace(BUDGETS["cpu"], activations=activations, images=images)
    monkeypatch.setitem(BUDGETS, "cpu", budget)
    run(folder, tmp_path / "out", model)
    assert model.module.batches == [PROBED, *batches]
    assert_same_maps(tmp_path / "out", tmp_path / "reference")


@pytest.mark.parametrize("size", [0, -3])
def test_run_refuses_a_batch_size_below_one(photos: Path, tmp_path: Path, size: int) -> None:
    with pytest.raises(InputError, match=f"batch_size: expected a number from 1.*got {size}"):
        run(photos, tmp_path / "out", batch_size=size)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("batch_size", "batches"), [(4, [4, 3]), (None, [1] * 7)])
def test_run_goes_beyond_the_budget_only_where_the_batch_size_was_chosen(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batch_size: int | None,
    batches: list[int],
) -> None:
    monkeypatch.setitem(BUDGETS, "cpu", replace(BUDGETS["cpu"], activations=1))
    model = tiny()
    run(photos, tmp_path / "out", model, batch_size=batch_size)
    assert model.module.batches == [PROBED, *batches]
