"""Runs that take long: what an interruption costs, how shards are cut, what is told of progress."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.runs import (
    NOISY,
    PER_IMAGE,
    PROBED,
    QUICK,
    Tiny,
    assert_same_maps,
    images_of,
    lasting,
    loaded,
    run,
    shards_of,
    tiny,
    write_images,
)
from torch import Tensor

from camreport.engine.memory import BUDGETS
from camreport.pipeline.run_plan import ShardLimits

SCORE = {"methods": "score_cam"}


class Stops(Tiny):
    """A Tiny that is interrupted in one of its forward passes."""

    last = 10**6

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, or behave as if Ctrl-C was pressed."""
        if len(self.batches) == self.last:
            raise KeyboardInterrupt
        return super().forward(x)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of five photographs."""
    return write_images(tmp_path / "photos", 5)


# Interruptions and shards


@pytest.mark.parametrize("stop", [0, 1, 2, 3])
def test_run_interrupted_within_an_image_keeps_those_before_it(
    photos: Path, tmp_path: Path, stop: int
) -> None:
    score = {**SCORE, "limits": ShardLimits(shard_variants=PER_IMAGE)}
    out, passes = tmp_path / "out", 1 + 2 * 2  # the image; a blank one and the masks at 2 layers
    run(photos, tmp_path / "whole", loaded(Stops(2)), **score)
    stopped = loaded(Stops(2))
    stopped.module.last = PROBED + passes + 1 + stop  # a masked or blank image of the second input
    with pytest.raises(KeyboardInterrupt):
        run(photos, out, stopped, **score)
    assert sorted(images_of(out)) == [0]
    assert not (out / "index.html").exists()
    goes_on, told = loaded(Stops(2)), []
    summary = run(photos, out, goes_on, progress=told.append, **score)
    assert len(goes_on.module.batches) == 4 * passes
    assert (summary.reused, told[0], sum(told)) == (1, 1, pytest.approx(5))
    assert_same_maps(out, tmp_path / "whole")
    assert lasting(out) == lasting(tmp_path / "whole")
    assert summary.cost.variants == 5 * PER_IMAGE


@pytest.mark.parametrize(
    ("variants", "options", "lengths"),
    [
        (1, SCORE, [1, 1, 1, 1, 1]),
        (2 * PER_IMAGE - 1, SCORE, [1, 1, 1, 1, 1]),
        (2 * PER_IMAGE, SCORE, [2, 2, 1]),
        (2 * PER_IMAGE, {**SCORE, "batch_size": 1}, [2, 2, 1]),
        (2 * PER_IMAGE, {**SCORE, "batch_size": 5}, [5]),
        (2 * PER_IMAGE, {"methods": "score_cam,ablation_cam"}, [1, 1, 1, 1, 1]),
        (3 * (PER_IMAGE + 100), {"methods": "ablation_cam,recipro_cam"}, [3, 2]),
        (10**6, SCORE, [5]),
        (5, {"methods": QUICK}, [5]),
    ],
    ids=str,
)
def test_shards_are_short_when_images_take_long(
    photos: Path,
    tmp_path: Path,
    variants: int,
    options: dict[str, object],
    lengths: list[int],
) -> None:
    run(photos, tmp_path / "out", limits=ShardLimits(shard_variants=variants), **options)
    shards = shards_of(tmp_path / "out").values()
    assert [len(shard["image"]) for shard in shards] == lengths
    assert [int(i) for shard in shards for i in shard["image"]] == list(range(5))


@pytest.mark.parametrize(
    ("options", "batch"),
    [(SCORE, 5), ({"methods": QUICK}, 5), ({**SCORE, "batch_size": 4}, 4), (NOISY, 5)],
    ids=str,
)
def test_methods_that_take_long_have_batches_as_large_as_the_others(
    photos: Path, tmp_path: Path, options: dict[str, object], batch: int
) -> None:
    model = tiny()
    run(photos, tmp_path / "out", model, **options)
    assert model.module.batches[0] == PROBED
    assert next(size for size in model.module.batches if size > 1) == batch


# Progress


@pytest.mark.parametrize(
    ("options", "whole"),
    [
        (SCORE, False),
        ({"methods": "all"}, False),
        ({"methods": "ablation_cam", "batch_size": 2}, False),
        ({"methods": QUICK}, True),
        (NOISY, True),
    ],
    ids=str,
)
@pytest.mark.parametrize("bad", [[], [0], [1, 2], [4]], ids=str)
def test_progress_adds_up_to_the_number_of_inputs(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, object],
    whole: bool,
    bad: list[int],
) -> None:
    monkeypatch.setitem(BUDGETS, "cpu", replace(BUDGETS["cpu"], images=3))
    for index in bad:
        (photos / f"{index:02}.png").write_bytes(b"x")
    told: list[float] = []
    run(photos, tmp_path / "out", progress=told.append, **options)
    assert sum(told) == pytest.approx(5)
    assert min(told) >= 0
    assert all(float(step).is_integer() for step in told) == whole
    if not whole:
        assert max(told[1:]) <= 2 + len(bad)
        assert len([step for step in told if 0 < step < 1]) >= 5 - len(bad)


def test_progress_never_falls_back_when_memory_runs_out(photos: Path, tmp_path: Path) -> None:
    model, told = tiny(), []
    model.module.most = 10  # more than the images, fewer than the masks of all of them
    run(photos, tmp_path / "reference", layers=["0"], **SCORE)
    run(photos, tmp_path / "out", model, layers=["0"], progress=told.append, **SCORE)
    assert max(model.module.batches) > 10
    assert_same_maps(tmp_path / "out", tmp_path / "reference")
    assert sum(told) == pytest.approx(5)
    assert min(told) >= 0


def interrupting(at: float) -> Callable[[float], None]:
    """Return a progress callback that interrupts once so much is done."""
    done = 0.0

    def progress(step: float) -> None:
        nonlocal done
        done += step
        if done > at:
            raise KeyboardInterrupt

    return progress


def test_progress_of_a_resumed_run_counts_what_is_there(photos: Path, tmp_path: Path) -> None:
    score = {**SCORE, "limits": ShardLimits(shard_variants=2 * PER_IMAGE)}
    with pytest.raises(KeyboardInterrupt):
        run(photos, tmp_path / "out", progress=interrupting(2.5), **score)
    told: list[float] = []
    summary = run(photos, tmp_path / "out", progress=told.append, **score)
    assert (summary.reused, told[0], sum(told)) == (2, 2, pytest.approx(5))
