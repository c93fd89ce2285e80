"""Evidence in a run: its files and records, what a later run keeps of it, progress and memory."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.runs import (
    LAYERS,
    QUICK,
    files_of,
    interrupt_after,
    lasting,
    manifest_of,
    tiny,
    write_images,
)
from helpers.runs import run_by_two as run

import camreport
from camreport.engine.cost import Cost
from camreport.errors import ResultsError
from camreport.images.loading import LoadedImage
from camreport.metrics.controls import CONTROLS
from camreport.metrics.registry import number_of
from camreport.metrics.values import Undefined, Values
from camreport.pipeline import missing
from camreport.pipeline.evidence import run as evidence
from camreport.pipeline.evidence.batch import EvidenceBatch, Measured
from camreport.pipeline.evidence.choice import groups_of
from camreport.pipeline.evidence.gathered import Gathered
from camreport.pipeline.evidence.kinds import Kind
from camreport.results.evidence import NumberKey
from camreport.results.reader import load_results

Arrays = dict[str, np.ndarray]

BASIC = {"evidence": "basic", "evidence_images": 3}
FULL = {"evidence": "full", "evidence_images": 3}
OFF = {"evidence": "off"}
SPARE = {"spare", "spare.json"}
"""Names, up to a hyphen, of files with evidence that the last run did not ask for."""


def evidence_of(out: Path) -> dict[str, bytes]:
    """Return the files of the evidence, those that do not differ between equal runs."""
    return {
        path.name: path.read_bytes()
        for path in sorted((out / "results").glob("*.npz"))
        if path.name.startswith(("evidence", "collages"))
    }


def shards_of(out: Path) -> dict[str, bytes]:
    """Return the bytes of the shards by file name."""
    return {path.name: path.read_bytes() for path in (out / "results").glob("shard-*.npz")}


def arrays_of(out: Path) -> Iterator[Arrays]:
    """Yield the arrays of each shard's evidence."""
    for path in sorted((out / "results").glob("evidence-*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            yield dict(arrays)


def counted(passes: list[float]) -> Callable[[int], Callable[[float], None]]:
    """Return a ``measuring`` that notes how many passes are announced, and then each step."""

    def measuring(announced: int) -> Callable[[float], None]:
        passes.append(announced)
        return passes.append

    return measuring


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five photographs."""
    return write_images(tmp_path_factory.mktemp("inputs") / "photos", 5)


@pytest.fixture(scope="module")
def full(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with full evidence for three images; not to be changed."""
    out = tmp_path_factory.mktemp("full") / "out"
    run(inputs, out, tiny(3), classes=[2, 0], **FULL)
    return out


@pytest.fixture(scope="module")
def basic(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with basic evidence; not to be changed."""
    out = tmp_path_factory.mktemp("basic") / "out"
    run(inputs, out, **BASIC)
    return out


# What is written


def test_every_number_has_reasons_exactly_where_it_is_undefined(full: Path) -> None:
    sample = {*manifest_of(full)["evidence"]["sample"]}
    assert len(sample) == 3
    for arrays in arrays_of(full):
        drawn = np.isin(arrays["image"], [*sample])
        for name, array in arrays.items():
            key = NumberKey.parse(name)
            if array.dtype != np.float32 or array.ndim != 2 or name == "regions.boxes":
                continue
            reasons = arrays.get(key.reasons, np.zeros(array.shape, np.uint8))
            assert array.shape == reasons.shape == (len(drawn), 2)
            assert (array.dtype, reasons.dtype) == (np.float32, np.uint8)
            np.testing.assert_array_equal(np.isnan(array), reasons != Undefined.DEFINED)
            outside = reasons[~drawn] == Undefined.NOT_MEASURED
            assert outside.all() != (key.metric in ("contrast", "extent")) or not outside.size


def test_methods_and_controls_have_numbers_at_every_layer(full: Path) -> None:
    rows = {(key, layer) for key in (*QUICK, *CONTROLS) for layer in LAYERS}
    rows |= {(key, "fused") for key in ("layer_cam", *CONTROLS)}
    last = {(key, "features.2") for key in (*QUICK, *CONTROLS)}
    found: dict[str, set[tuple[str, str]]] = {}
    for arrays in arrays_of(full):
        for name in arrays:
            key = NumberKey.parse(name)
            found.setdefault(key.number, set()).add((key.row, key.layer))
    for number in ("contrast", "effect", "learned", "stability", "stability.mirror", "extent"):
        assert found[number] == rows, number
    assert found["order"] == found["order.morf"] == last | {r for r in rows if r[1] == "fused"}
    assert found["effect.ceiling"] == {("", "")}


def test_maps_of_scrambled_networks_and_measured_effects_are_of_the_sample(full: Path) -> None:
    sample = manifest_of(full)["evidence"]["sample"]
    found = []
    for arrays in arrays_of(full):
        scrambled = arrays.get("scrambled.image", np.empty(0, np.int64))
        found += scrambled.tolist()
        for seed in (0, 1, 2) if len(scrambled) else ():
            shape = (len(scrambled), 2, *LAYERS["features.2"][1:])
            assert arrays[f"scrambled.{seed}/grad_cam/features.2"].shape == shape
        if "measured/input" in arrays:
            known = np.isfinite(arrays["measured/input"]).all((1, 2, 3))
            assert arrays["image"][known].tolist() == scrambled.tolist()
    assert found == sample


def test_the_reader_gives_records_by_name(full: Path) -> None:
    results = load_results(full)
    index = results.manifest.evidence.sample[0]
    found = results.evidence(index)
    assert found.image.tolist() == [index]
    own = found.numbers[NumberKey("effect", "grad_cam", "features.2")]
    assert own.numbers.shape == own.reasons.shape == (1, 2)
    assert found.curves[NumberKey("order.morf", "grad_cam", "features.2")].shape == (1, 2, 11)
    assert found.measured.shape[:2] == (1, 2)
    assert {*found.scrambled} == {0, 1, 2}
    assert found.sampled.tolist() == [index]
    collages = results.collages()
    assert collages is None or collages.image.shape == collages.target.shape


def test_the_manifest_says_what_was_measured_and_what_it_cost(full: Path) -> None:
    entry, spent = manifest_of(full)["evidence"], manifest_of(full)["cost"]["evidence"]
    keys = ("contrast", "effect", "order", "grid", "learned", "stability", "extent")
    assert tuple(entry["metrics"]) == keys
    told = (entry["level"], entry["maps"], entry["seed"], entry["masks"], entry["scrambled"])
    assert told == ("full", "main", 0, 128, [0, 1, 2])
    cost = spent["metrics"]
    assert cost["effect"]["variants"] == 128 * 3
    shards = len({index // 2 for index in entry["sample"]})  # the sample's images in one batch each
    assert (cost["learned"]["forwards"], cost["learned"]["backwards"]) == (3 * shards, 6 * shards)
    assert cost["stability"]["forwards"] == 5 * shards
    assert spent["variants"] == sum(each["variants"] for each in cost.values())


def test_undefined_values_are_counted_by_reason_without_those_outside_the_sample(
    inputs: Path, tmp_path: Path
) -> None:
    run(inputs, tmp_path / "out", tiny(2), classes=[1], **BASIC)
    rows = 2 * len(QUICK) + 1 + 3 * len(CONTROLS)
    found = manifest_of(tmp_path / "out")["evidence"]["undefined"]
    assert found["contrast"] == {"no_other_class": 5 * rows}
    assert "not_measured" not in found.get("learned", {})


# The sample


def test_a_larger_sample_holds_every_smaller_one_and_its_groups() -> None:
    groups = [groups_of(500, 3, wanted) for wanted in (1, 16, 64, "all")]
    samples = [{index for group in each for index in group} for each in groups]
    assert [len(sample) for sample in samples] == [1, 16, 64, 500]
    assert all(small < large for small, large in pairwise(samples))
    assert [[len(group) for group in each] for each in groups[1:]] == [
        [16],
        [16, 48],
        [16, 48, 192, 244],
    ]
    assert all(large[: len(small)] == small for small, large in pairwise(groups[1:]))
    assert groups_of(500, 3, 16) != groups_of(500, 4, 16)
    assert groups_of(3, 0, 16) == ((0, 1, 2),)


def test_images_of_the_sample_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    photos = write_images(tmp_path / "photos", 4)
    (photos / "02.png").write_bytes(b"x")
    run(photos, tmp_path / "out", evidence="basic")
    entry = manifest_of(tmp_path / "out")["evidence"]
    assert (entry["sample"], entry["unreadable"]) == ([0, 1, 3], 1)


def test_an_image_that_changes_meanwhile_is_counted_and_measured_the_next_time(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, out = evidence.decode_ahead, tmp_path / "out"

    def changed(*given: object) -> Iterator[tuple[int, LoadedImage]]:
        for index, image in decode(*given):  # type: ignore[arg-type]
            yield index, replace(image, sha256="other") if index == 3 else image

    with monkeypatch.context() as during:
        during.setattr(evidence, "decode_ahead", changed)
        run(inputs, out, evidence="basic")
    assert manifest_of(out)["evidence"]["unreadable"] == 1
    found = load_results(out).evidence(3).numbers[NumberKey("learned", "grad_cam", "features.2")]
    assert (found.reasons == Undefined.NOT_MEASURED).all()
    run(inputs, out, evidence="basic")
    run(inputs, tmp_path / "fresh", evidence="basic")
    assert evidence_of(out) == evidence_of(tmp_path / "fresh")
    assert manifest_of(out)["evidence"]["unreadable"] == 0


# What a later run keeps


def test_a_higher_level_reuses_every_map(
    basic: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(inputs, out, **BASIC)
    monkeypatch.setattr(missing, "compute_shard", None)
    summary = run(inputs, out, **FULL)
    assert (summary.reused, summary.measured) == (5, True)
    assert shards_of(out) == shards_of(basic)
    assert manifest_of(out)["evidence"]["level"] == "full"
    run(inputs, out, **BASIC)
    assert evidence_of(out) == evidence_of(basic), "and back again"


def test_off_after_full_keeps_the_maps_and_shows_no_evidence(
    basic: Path, inputs: Path, tmp_path: Path
) -> None:
    out, model = tmp_path / "out", tiny()
    run(inputs, out, **FULL)
    summary = run(inputs, out, model, evidence="off")
    assert (summary.reused, model.module.batches) == (5, [])
    assert shards_of(out) == shards_of(basic)
    assert "evidence" not in manifest_of(out)
    left = {path.name.partition("-")[0] for path in (out / "results").iterdir()}
    assert left == {".camreport", "manifest.json", "shard", "numbers", *SPARE}
    assert load_results(out).evidence(0) is None
    assert load_results(out).collages() is None
    before = files_of(out / "results")
    assert not run(inputs, out, model, evidence="off").changed
    assert files_of(out / "results") == before


def test_the_same_evidence_is_not_measured_again(basic: Path, inputs: Path, tmp_path: Path) -> None:
    out, passes = tmp_path / "out", list[float]()
    run(inputs, out, **BASIC)
    before, model = files_of(out / "results"), tiny()
    summary = run(inputs, out, model, **BASIC, measuring=counted(passes))
    assert (summary.measured, summary.changed, passes) == (False, False, [])
    assert model.module.batches == []
    assert files_of(out / "results") == before
    assert lasting(out) == lasting(basic)


def test_a_new_seed_measures_again_and_computes_no_map(
    basic: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(inputs, out, **BASIC)
    monkeypatch.setattr(missing, "compute_shard", None)
    run(inputs, out, **BASIC, seed=1)
    assert shards_of(out) == shards_of(basic)
    assert evidence_of(out) != evidence_of(basic)


def test_changed_regions_measure_again_and_compute_no_map(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, regions = tmp_path / "out", tmp_path / "regions.csv"
    found = []
    for right in (20, 40):
        regions.write_text(f"image,x0,y0,x1,y1\n00.png,0,0,{right},20\n")
        run(inputs, out, **BASIC, regions=regions)
        inside = NumberKey("regions", "grad_cam", "features.2")
        found.append(load_results(out).evidence(0).numbers[inside].numbers)
        monkeypatch.setattr(missing, "compute_shard", None)
    assert np.nanmax(found[0]) < np.nanmax(found[1])
    entry = manifest_of(out)["evidence"]
    assert (entry["regions"], "regions" in entry["metrics"]) == (1, True)
    assert load_results(out).evidence(0).regions[0].boxes.tolist() == [
        pytest.approx([0, 0, 40 / 50, 20 / 30])
    ]


LOSSES: dict[str, Callable[[Path], object]] = {
    "a file": lambda folder: (folder / "evidence-000001.npz").unlink(),
    "a damaged file": lambda folder: (folder / "evidence-000001.npz").write_bytes(b"x"),
    "its records": lambda folder: (folder / "evidence-000001.json").unlink(),
    "damaged records": lambda folder: (folder / "evidence-000001.json").write_text("{}"),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_lost_evidence_of_a_shard_is_measured_again_alone(
    basic: Path, inputs: Path, tmp_path: Path, loss: str
) -> None:
    out, passes = tmp_path / "out", list[float]()
    run(inputs, out, **BASIC)
    LOSSES[loss](out / "results")
    run(inputs, out, **BASIC, measuring=counted(passes))
    own = sum(index in (2, 3) for index in manifest_of(out)["evidence"]["sample"])
    assert passes[0] == own * 3 * (1 + 2)
    assert evidence_of(out) == evidence_of(basic)
    assert lasting(out) == lasting(basic)


@pytest.mark.parametrize(("passes", "left"), [(1, 27), (10, 27), (20, 9)])
def test_an_interruption_keeps_finished_maps_and_finished_evidence(
    basic: Path, inputs: Path, tmp_path: Path, passes: int, left: int
) -> None:
    """The second shard holds two images of the sample, the third one."""
    out, told = tmp_path / "out", list[float]()
    model = tiny()
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    with pytest.raises(KeyboardInterrupt):
        run(inputs, out, model, **BASIC, measuring=lambda count: interrupt_after(passes))
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert shards_of(out) == shards_of(basic)
    kept = evidence_of(out)
    run(inputs, out, **BASIC, measuring=counted(told))
    assert kept.items() <= evidence_of(out).items() == evidence_of(basic).items()
    assert sum(told[1:]) == told[0] == left
    assert lasting(out) == lasting(basic)


def test_the_evidence_does_not_depend_on_the_order_or_the_history(
    basic: Path, inputs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(inputs, out, evidence="off", methods=QUICK[:1])
    run(inputs, out, evidence="basic", seed=5)
    run(inputs, out, **BASIC)
    assert evidence_of(out) == evidence_of(basic)


def test_collages_are_measured_again_when_labels_choose_other_images(
    inputs: Path, tmp_path: Path
) -> None:
    out, model = tmp_path / "out", tiny()
    run(inputs, tmp_path / "plain", model, evidence="off")
    logits = np.stack([load_results(tmp_path / "plain").logits(index) for index in range(5)])
    with torch.no_grad():  # both classes are predicted, and so surely that they fit a collage
        model.module.head[3].bias.sub_(torch.from_numpy(np.median(logits, 0)))
    model.module.factor = 1e4
    options = {**FULL, "evidence_images": "all", "class_names": ["cat", "dog"]}
    run(inputs, out, model, **options)
    tops = [image["top"][0]["index"] for image in manifest_of(out)["images"]]
    first, passes = evidence_of(out), list[float]()
    wrong = {f"{index:02}.png": 1 - top for index, top in enumerate(tops)}
    run(inputs, out, model, **options, labels=wrong, measuring=counted(passes))
    assert "collages.npz" in first
    assert load_results(out).collages() is None, "no image is right"
    assert passes == [5 * 3], "only collages are left to measure"
    run(inputs, out, model, **options)
    assert evidence_of(out) == first


# Progress and memory


def test_progress_counts_the_passes_that_were_announced(inputs: Path, tmp_path: Path) -> None:
    passes, told = list[float](), list[str]()
    options = {**BASIC, "measuring": counted(passes), "notify": told.append}
    run(inputs, tmp_path / "out", **options)
    assert passes[0] == 3 * 3 * (1 + 2)
    assert sum(passes[1:]) == passes[0]
    assert told == [], "they are few"


def test_full_evidence_takes_no_more_passes_than_announced(inputs: Path, tmp_path: Path) -> None:
    passes = list[float]()
    told = list[str]()
    run(inputs, tmp_path / "out", **FULL, measuring=counted(passes), notify=told.append)
    number = f"{passes[0]:,}"
    assert told == [
        f"evidence takes {number} further passes over one image each; --evidence off: none"
    ]
    without_collages = passes[0] - 3 * 3
    assert without_collages * 0.9 <= sum(passes[1:]) <= passes[0]


def test_a_batch_that_memory_does_not_hold_is_halved() -> None:
    sizes: list[int] = []

    def measure(batch: EvidenceBatch) -> Measured:
        sizes.append(len(batch.indices))
        if len(batch.indices) > 2:
            raise torch.OutOfMemoryError
        numbers = Values.of(batch.indices[:, None])
        return Measured({"extent": numbers}, {"scrambled.0/a/b": batch.inputs}, Cost(forwards=1))

    few = np.arange(5)
    zeros = np.zeros((5, 1), np.float32)
    batch = EvidenceBatch(
        explainer=None,  # type: ignore[arg-type]
        inputs=few[:, None].astype(np.float32),
        maps={},
        controls={},
        targets=few[:, None],
        logits=zeros,
        indices=few,
        preprocessing=tiny().preprocessing,
        seed=0,
    )
    gathered = Gathered((5, 1))
    cost = gathered.measure(Kind(("extent",), measure), few, batch)
    found = gathered.arrays(few, {"extent"})
    halves = [size for size in sizes if size <= 2]
    assert (sizes[0], sum(halves), cost.forwards) == (5, 5, len(halves))
    assert found["extent"][:, 0].tolist() == [0, 1, 2, 3, 4]
    assert found["scrambled.0/a/b"][:, 0].tolist() == [0, 1, 2, 3, 4]


# Files from someone else


def put(name: str, array: np.ndarray) -> Callable[[Arrays], Arrays]:
    """Return what puts an array into a file."""
    return lambda arrays: {**arrays, name: array}


NUMBER = "extent/grad_cam/features.2"
CHANGES: dict[str, Callable[[Arrays], Arrays]] = {
    "another method": put("extent/score_cam/features.2", np.zeros((2, 2), np.float32)),
    "another layer": put("extent/grad_cam/features.9", np.zeros((2, 2), np.float32)),
    "a path": put("../extent/grad_cam/features.2", np.zeros((2, 2), np.float32)),
    "a shape": put(NUMBER, np.zeros((3, 2), np.float32)),
    "a number without end": put(NUMBER, np.full((2, 2), np.inf, np.float32)),
    "a reason for nothing": put("extent.why/grad_cam/features.2", np.ones((2, 2), np.uint8)),
    "an unknown reason": put("extent.why/grad_cam/features.2", np.full((2, 2), 99, np.uint8)),
    "other images": put("image", np.array([0, 7])),
    "a box of no image": put("regions.boxes", np.array([[2, 0, 0, 1, 1]], np.float32)),
    "scrambled maps of no image": put("scrambled.image", np.array([9])),
    "a number without a reason": put(NUMBER, np.full((2, 2), np.nan, np.float32)),
    "a share above 1": put(NUMBER, np.full((2, 2), 1.5, np.float32)),
    "a correlation below -1": put("contrast/grad_cam/features.2", np.full((2, 2), -2, np.float32)),
    "numbers of 64 bits": put(NUMBER, np.zeros((2, 2))),
    "a number that no metric gives": put("extent.own/grad_cam/fused", np.zeros((2, 2), np.float32)),
    "a metric that was not asked": put("order/grad_cam/fused", np.zeros((2, 2), np.float32)),
    "a curve that was not asked": put("order.morf/grad_cam/fused", np.zeros((2, 2, 9), np.float32)),
    "a network of another seed": put(
        "scrambled.77/grad_cam/features.2", np.zeros((2, 2, 3, 3), np.float32)
    ),
    "a box beyond the picture": put("regions.boxes", np.array([[0, 0, 0, 3, 1]], np.float32)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_evidence_that_does_not_fit_the_run_is_refused(
    inputs: Path, tmp_path: Path, change: str
) -> None:
    out = tmp_path / "out"
    run(inputs, out, evidence="basic")
    path = out / "results" / "evidence-000000.npz"
    with np.load(path) as arrays:
        changed = CHANGES[change](dict(arrays))
    np.savez(path, **changed)
    with pytest.raises(
        ResultsError, match=r"^results: evidence-000000\.npz (does not match|has values)"
    ):
        load_results(out).evidence(0)


def test_what_lies_beyond_its_range_by_rounding_is_read_as_its_end(
    inputs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(inputs, out, evidence="basic")
    path = out / "results" / "evidence-000000.npz"
    with np.load(path) as arrays:
        changed = put(NUMBER, np.full((2, 2), 1 + 1e-6, np.float32))(dict(arrays))
        changed.pop("extent.why/grad_cam/features.2", None)
        np.savez(path, **changed)
    found = load_results(out).shard_evidence(0)
    assert (found.numbers[NumberKey.parse(NUMBER)].numbers == 1).all()


def test_every_number_of_a_run_has_a_range_in_the_registry(full: Path) -> None:
    with np.load(full / "results" / "evidence-000000.npz") as arrays:
        numbers = {NumberKey.parse(name).number for name in arrays if arrays[name].ndim in (2, 3)}
    numbers = {name for name in numbers if not name.startswith("scrambled.")}
    assert {name for name in numbers if not name.endswith(".why")} == {
        name for name in numbers if number_of(name)
    }


def test_a_sample_beyond_the_images_is_refused(basic: Path, tmp_path: Path) -> None:
    content = manifest_of(basic)
    content["evidence"]["sample"] = [5]
    with pytest.raises(ResultsError, match=r"indices up to 4 as evidence\.sample"):
        type(camreport.load_results(basic).manifest).from_json(
            json.loads(json.dumps(content)), "manifest.json"
        )
