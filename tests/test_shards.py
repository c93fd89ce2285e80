"""A shard is a pure function of the plan and its number: the same bytes in any order."""

import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.checkout import INPUTS, ROOT
from helpers.runs import BY_TWO, npz_of, run, shards_of, tiny, write_images

import camreport
from camreport.errors import OutputError
from camreport.files import create
from camreport.images.loading import decode_ahead
from camreport.images.search import find_images
from camreport.methods import resolve_methods
from camreport.models import LoadedModel, load_model
from camreport.pipeline import missing
from camreport.pipeline.run_plan import (
    Request,
    RunPlan,
    ShardLimits,
    cut,
    first_readable,
    make_explainer,
    plan_run,
    request_layers,
)
from camreport.pipeline.shard import Shard, compute_shard, in_order
from camreport.results.writer import ResultsWriter
from camreport.settings import Settings

GRADIENT, PERTURBATION = ("grad_cam", "layer_cam", "eigen_cam"), ("score_cam", "ablation_cam")


def asked(
    model: LoadedModel, layers: Sequence[str], methods: Sequence[str], **options: object
) -> Request:
    """Return the request for both classes, as ``run`` makes it."""
    return Request(
        settings=Settings(methods=methods, **options),
        layers=request_layers(model, layers),
        channels={},
        methods=resolve_methods(methods),
        targets="all",
        quantity="logit",
        labels={},
        command="",
    )


def computed(
    model: LoadedModel, folder: Path, request: Request, plan: RunPlan, order: Sequence[int]
) -> dict[int, Shard]:
    """Compute shards in an order, each with an explainer of its own where there is one."""
    files = find_images([folder])
    shards = {}
    with make_explainer(model, request, plan) as explainer:
        for number in order:
            indices = plan.indices(number, len(files))
            decoded = decode_ahead(files, indices, model.preprocessing)
            shards[number] = compute_shard(
                plan, explainer, model.preprocessing, "all", files, number, decoded
            )
    return shards


def assert_same_bytes(one: Mapping[str, object], two: Mapping[str, object]) -> None:
    """Check that arrays have equal names, order, shapes and bytes."""
    assert [*one] == [*two]
    for name in one:
        ours, theirs = np.asarray(one[name]), np.asarray(two[name])
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), name
        assert ours.tobytes() == theirs.tobytes(), name


MODELS = {
    "tiny, gradients": (tiny, ["0", "2"], GRADIENT, 4),
    "tiny, perturbations": (tiny, ["0", "2"], PERTURBATION, 4),
    "tiny, everything": (tiny, ["0", "2"], ("all",), 3),
    "bundled, gradients": (lambda: load_model("catdog-alexnet"), ["0", "12"], GRADIENT, 2),
    "bundled, perturbations": (lambda: load_model("catdog-alexnet"), ["12"], ("recipro_cam",), 2),
}


@pytest.mark.parametrize("case", MODELS)
def test_every_shard_alone_in_any_order_has_the_bytes_of_the_whole_run(
    tmp_path: Path, case: str
) -> None:
    make, layers, methods, batch = MODELS[case]
    folder = write_images(tmp_path / "in", 13)
    (folder / "00.png").write_bytes(b"x")
    (folder / "06.png").write_bytes(b"x")
    model = make()
    request = asked(model, layers, methods, batch_size=batch)
    files = find_images([folder])
    image = first_readable(files, model.preprocessing)
    plan = plan_run(
        make_explainer(model, request, None),
        image,
        model.preprocessing,
        request,
        ShardLimits(shard_images=4),
    )
    numbers = range(-(-13 // plan.shard))
    whole = computed(model, folder, request, plan, numbers)
    assert sum(len(shard.arrays["image"]) for shard in whole.values()) == 11
    shuffled = random.Random(0).sample(numbers, len(numbers))
    again = computed(model, folder, request, plan, shuffled)
    for number in numbers:
        alone = computed(make(), folder, request, plan, [number])[number]
        for shard in (again[number], alone):
            assert_same_bytes(shard.arrays, whole[number].arrays)
            assert (shard.images, shard.findings) == (whole[number].images, whole[number].findings)
            assert shard.cost.maps == whole[number].cost.maps


def test_memory_that_ran_out_earlier_does_not_change_a_later_shard(tmp_path: Path) -> None:
    """Five in the last shard fit; they are not halved because eight did not fit before them."""
    folder = write_images(tmp_path / "in", 21)
    model = tiny()
    request = asked(model, ["0", "2"], GRADIENT, batch_size=8)
    files = find_images([folder])
    image = first_readable(files, model.preprocessing)
    plan = plan_run(
        make_explainer(model, request, None),
        image,
        model.preprocessing,
        request,
        ShardLimits(shard_images=8),
    )
    model.module.most = 6
    whole = computed(model, folder, request, plan, range(3))
    assert model.module.batches == [1, 8, 4, 4, 4, 4, 5]
    for number in (2, 1, 0):
        alone = computed(model, folder, request, plan, [number])[number]
        assert_same_bytes(alone.arrays, whole[number].arrays)


def test_a_plan_is_read_back_as_it_was(photos: Path) -> None:
    model = tiny(3)
    request = asked(model, ["0", "2:pre"], ("grad_cam", "xgrad_cam"))
    image = first_readable(find_images([photos]), model.preprocessing)
    plan = plan_run(
        make_explainer(model, request, None), image, model.preprocessing, request, ShardLimits()
    )
    assert [skip.method for skip in plan.skipped] == ["xgrad_cam"]
    assert RunPlan.from_json(plan.to_json(), "a test") == plan
    assert plan.classes == 3
    assert [layer.shape for layer in plan.layers] == [(4, 8, 10), (6, 4, 5)]


@pytest.mark.parametrize(
    ("allowed", "limits", "batch_size", "expected"),
    [
        (32, ShardLimits(), None, (32, 64)),
        (48, ShardLimits(), None, (48, 48)),
        (512, ShardLimits(shard_images=512), None, (512, 512)),
        (512, ShardLimits(), None, (64, 64)),
        (32, ShardLimits(shard_variants=1), None, (32, 64)),
        (32, ShardLimits(), 100, (100, 100)),
        (32, ShardLimits(), 10, (10, 60)),
    ],
    ids=str,
)
def test_the_plan_cuts_a_run_by_its_limits(
    photos: Path,
    allowed: int,
    limits: ShardLimits,
    batch_size: int | None,
    expected: tuple[int, int],
) -> None:
    model = tiny()
    request = asked(model, ["0", "2"], GRADIENT, batch_size=batch_size)
    planned = make_explainer(model, request, None).plan
    assert cut(replace(planned, batch_size=allowed), request, limits) == expected


def test_arrays_stand_in_the_order_of_the_registry() -> None:
    names = ("targets", "layer_cam/fused", "layer_cam/b", "image", "grad_cam/b", "layer_cam/a")
    sums = ("channel_contributions/b", "channel_contributions/a")
    arrays = {name: np.zeros(1) for name in (*sums, *names, "score_cam/a", "feature_maps/a")}
    kept = in_order(arrays, {"layer_cam", "grad_cam"}, ["b", "a"], "a")
    expected = ["grad_cam/b", "layer_cam/b", "layer_cam/a", "layer_cam/fused", "feature_maps/a"]
    expected.append("channel_contributions/a")
    assert [*kept] == [*expected, "image", "targets"]


# The folder


def test_shards_hold_no_time_and_no_place(photos: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(photos, tmp_path / name, limits=BY_TWO)
    assert npz_of(tmp_path / "a") == npz_of(tmp_path / "b")


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "import sys, camreport; from camreport.pipeline.run_plan import ShardLimits\n"
        "camreport.run(sys.argv[1], sys.argv[2], layers=['12'], limits=ShardLimits(shard_images=1))"
    )
    words = [sys.executable, "-c", code, str(INPUTS)]
    processes = [
        subprocess.Popen([*words, str(tmp_path / name)], cwd=ROOT, stderr=subprocess.PIPE)
        for name in "ab"
    ]
    assert [process.wait(300) for process in processes] == [0, 0]
    for process in processes:
        assert process.stderr is not None
        process.stderr.close()
    assert npz_of(tmp_path / "a") == npz_of(tmp_path / "b")


def test_a_file_is_created_once(tmp_path: Path) -> None:
    create(tmp_path / "x", b"one", tmp_path)
    with pytest.raises(OutputError, match="File exists"):
        create(tmp_path / "x", b"two", tmp_path)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"one"]


def test_an_error_of_the_writing_thread_ends_the_run(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_given: object) -> None:
        raise OutputError("output: no")

    monkeypatch.setattr(ResultsWriter, "commit", refuse)
    model = tiny()
    with pytest.raises(OutputError, match="output: no"):
        run(write_images(photos, 30), tmp_path / "out", model, limits=BY_TWO)
    assert sum(model.module.batches) < 12, "it does not compute on for nothing"


def test_what_is_computed_is_written_when_a_later_shard_fails(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = missing.compute_shard

    def failing(*given: object, **options: object) -> Shard:
        if given[5] == 2:
            raise KeyboardInterrupt
        return compute(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(missing, "compute_shard", failing)
    with pytest.raises(KeyboardInterrupt):
        run(photos, tmp_path / "out", limits=BY_TWO)
    assert sorted(shards_of(tmp_path / "out")) == ["shard-000000.npz", "shard-000001.npz"]


def test_images_beyond_the_limit_stand_in_the_sidecars_alone(photos: Path, tmp_path: Path) -> None:
    limits = ShardLimits(shard_images=2, inline_images=6)
    run(photos, tmp_path / "out", limits=limits)
    results = camreport.load_results(tmp_path / "out")
    assert results.manifest.images == ()
    assert [image.index for image in results.images] == [*range(7)]
