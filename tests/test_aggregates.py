"""Aggregates over the images of a run, and the numbers kept beside each shard."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import synthetic
from helpers.runs import QUICK, files_of, npz_of, tiny, write_images
from helpers.runs import run_by_two as run
from numpy.typing import NDArray

from camreport.errors import ResultsError
from camreport.insight import cache
from camreport.insight.aggregates import Aggregates, Histogram, MeanMap, Spread, aggregate
from camreport.insight.cache import read_numbers, to_arrays
from camreport.insight.columns import image_columns
from camreport.insight.numbers import ShardNumbers, map_keys, measure
from camreport.report.gallery import render_gallery
from camreport.results.reader import Results, load_results
from camreport.results.schema import ImageEntry, MapKey

LABELS = {"00.png": 0, "01.png": 1, "02.png": 1, "04.png": 0}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Results of 300 images in five shards, by two methods at two layers, all labelled."""
    out = tmp_path_factory.mktemp("many")
    return load_results(synthetic.write_results(out / "out", 300, grids=synthetic.SMALL))


def run_of(out: Path) -> Results:
    return load_results(out)


def all_at_once(results: Results) -> tuple[ShardNumbers, list[ImageEntry]]:
    """Return the numbers of all readable images, measured from arrays that are put in one."""
    images = [image for image in results.images if image.readable]
    rows = [results.arrays(image.index) for image in images]
    arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return measure(arrays, results.manifest.activation), images


def spread(values: NDArray[np.float32]) -> Spread:
    """Return number and median of the finite values, rounded to 1 / 1000 as documented."""
    defined = values[np.isfinite(values)].astype(np.float64)
    if not len(defined):
        return Spread(0, None)
    return Spread(len(defined), pytest.approx(np.median(np.floor(defined * 1000 + 0.5)) / 1000))


def judged(images: list[ImageEntry], outcome: str) -> NDArray[np.bool_]:
    """Return which images have an outcome."""
    right = {"right": True, "wrong": False, "unlabelled": None}
    found = [None if i.label is None else i.label == i.top[0].index for i in images]
    return np.array([outcome == "all" or own is right[outcome] for own in found])


def check(found: Aggregates, numbers: ShardNumbers, images: list[ImageEntry]) -> None:
    """Check aggregates against numpy over all images at once."""
    rows = np.arange(len(images))
    for outcome in ("all", "right", "wrong", "unlabelled"):
        assert found.images[outcome] == judged(images, outcome).sum()
    for place, key in enumerate(numbers.keys):
        one = found.map(*key)
        assert one is not None
        assert one.unexplained == (numbers.slot < 0).sum()
        assert one.likeness == spread(numbers.likeness[place])
        assert one.alike == (numbers.likeness[place] > 0.9).sum()
        similar = np.flatnonzero(numbers.likeness[place] > 0.8)
        assert one.similar == len(similar)
        assert one.similar_files == tuple(images[row].file for row in similar[:9])
        explained = numbers.slot >= 0
        own = numbers.area[place][rows, numbers.slot]
        every = {outcome: own[explained & judged(images, outcome)] for outcome in one.predicted}
        for areas, values in (
            (one.explained, numbers.area[place]),
            *((one.predicted[outcome], values) for outcome, values in every.items()),
        ):
            assert areas.maps == values.size
            assert areas.empty == (values == 0).sum()
            assert areas.undefined == np.isnan(values).sum()
            positive = np.floor(values[values > 0].astype(np.float64) * 1000 + 0.5) / 1000
            assert areas.median == spread(values[values > 0]).median
            if len(positive):
                quartiles = np.quantile(positive, [0.25, 0.75], method="inverted_cdf")
                assert areas.quartiles == pytest.approx(quartiles)
        for predicted in range(2):
            for outcome in ("all", "right", "wrong", "unlabelled"):
                drawn = explained & judged(images, outcome) & (numbers.predicted == predicted)
                drawn &= own > 0
                mean = found.mean(*key, predicted, outcome)
                if not drawn.any():
                    assert mean is None
                    continue
                assert mean is not None
                assert mean.n == drawn.sum()
                sums = numbers.where[place][drawn].sum(0, dtype=np.int64)
                np.testing.assert_array_equal(mean.sums, sums)
                np.testing.assert_allclose(mean.mean, sums / drawn.sum() / 255, rtol=1e-12)
                maps = numbers.where[place][drawn].astype(np.int64)
                np.testing.assert_array_equal(mean.squares, (maps**2).sum(0))
                np.testing.assert_allclose(mean.spread, (maps / 255).std(0), atol=1e-12)
    for place, (one_key, other_key) in enumerate(numbers.pairs):
        pair = found.pair(other_key.method, one_key.method, one_key.layer)
        assert pair is not None
        for given, values in (
            (pair.correlation, numbers.correlation[place]),
            (pair.overlap, numbers.overlap[place]),
        ):
            assert given == spread(values[rows, numbers.slot][numbers.slot >= 0])


def equal(one: Aggregates, other: Aggregates) -> bool:
    """Say whether two aggregates are equal, sums included."""

    def plain(each: Aggregates) -> tuple[object, ...]:
        means = [
            (m.key, m.predicted, m.outcome, m.n, m.sums.tobytes(), m.squares.tobytes())
            for m in each.means
        ]
        return each.images, each.maps, each.pairs, means

    return plain(one) == plain(other)


def test_equal_maps_have_no_spread() -> None:
    sums = np.full((14, 14), 3 * 254, np.int64)
    mean = MeanMap(MapKey("grad_cam", "a"), 0, "all", 3, sums, sums * 254)
    assert not mean.spread.any()


def test_the_spread_of_very_many_maps_is_exact() -> None:
    n = 10**10  # half of them 0, half of them 255
    sums = np.full((14, 14), n // 2 * 255, np.int64)
    mean = MeanMap(MapKey("grad_cam", "a"), 0, "all", n, sums, sums * 255)
    np.testing.assert_array_equal(mean.spread, 0.5)


# Over the shards


def test_aggregates_are_those_of_all_images_at_once(many: Results) -> None:
    check(aggregate(many), *all_at_once(many))


def test_aggregates_of_a_run_are_those_of_its_images(photos: Path, tmp_path: Path) -> None:
    """A run has empty maps, images that cannot be read, and images without a label."""
    (photos / "05.png").write_bytes(b"x")
    run(photos, tmp_path / "out", labels=LABELS)
    results = run_of(tmp_path / "out")
    found = aggregate(results)
    check(found, *all_at_once(results))
    assert found.images == {**found.images, "all": 6, "unlabelled": 2}
    assert any(own.explained.empty for own in found.maps)


def test_the_order_of_the_shards_changes_nothing(many: Results) -> None:
    images = many.manifest.images
    shards = [images[first : first + 64] for first in range(0, len(images), 64)]
    backwards = tuple(image for shard in reversed(shards) for image in reversed(shard))
    other = Results(many.path, many.manifest)
    vars(other)["_read"] = backwards, ()
    assert equal(aggregate(many), aggregate(other))


def test_images_of_the_sidecars_alone_are_aggregated_too(many: Results) -> None:
    lazy = Results(many.path, replace(many.manifest, images=()))
    assert equal(aggregate(many), aggregate(lazy))


def test_a_map_that_all_classes_share_counts_once_for_each_image(tmp_path: Path) -> None:
    methods = ["grad_cam", "eigen_cam"]
    out = synthetic.write_results(tmp_path / "out", 5, methods=methods, grids={"a": 5})
    results = load_results(out)
    found, (numbers, _) = aggregate(results), all_at_once(results)
    assert [own.explained.maps for own in found.maps] == [10, 5]
    assert [own.likeness.n for own in found.maps] == [5, 0]
    own = numbers.correlation[0][np.arange(5), numbers.slot]
    assert found.pairs[0].correlation == spread(own)


def test_agreement_is_that_of_the_predicted_class_and_not_pooled_with_its_opposite(
    tmp_path: Path,
) -> None:
    """Of the predicted class the maps are equal (ρ 1), of the other one reversed (ρ -1)."""
    out = synthetic.write_results(tmp_path / "out", 6, grids={"a": 14})
    path = out / "results" / "shard-000000.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    ramp = np.linspace(0.1, 1, 196, dtype=np.float32).reshape(14, 14)
    predicted = arrays["logits"].argmax(1)
    slot = (arrays["targets"] == predicted[:, None]).argmax(1)
    arrays["grad_cam/a"] = np.broadcast_to(ramp, arrays["grad_cam/a"].shape).copy()
    arrays["layer_cam/a"] = arrays["grad_cam/a"][..., ::-1, ::-1].copy()
    arrays["layer_cam/a"][np.arange(6), slot] = ramp
    np.savez(path, **arrays)  # type: ignore[arg-type]
    (out / "results" / "numbers-000000.npz").unlink()
    (pair,) = aggregate(load_results(out)).pairs
    assert pair.correlation == Spread(6, 1)
    assert pair.overlap == Spread(6, 1)


def test_agreement_leaves_out_images_whose_predicted_class_is_not_explained(
    photos: Path, tmp_path: Path
) -> None:
    """All images are predicted as class 1."""
    run(photos, tmp_path / "out", classes=[0])
    results = run_of(tmp_path / "out")
    assert {image.top[0].index for image in results.images} == {1}
    assert {pair.correlation for pair in aggregate(results).pairs} == {Spread(0, None)}


def test_a_class_that_is_not_explained_is_counted(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out", classes=[1])
    results = run_of(tmp_path / "out")
    predicted = np.array([image.top[0].index for image in results.images])
    (first, *_) = aggregate(results).maps
    assert first.unexplained == (predicted != 1).sum()
    assert first.predicted["all"].maps == (predicted == 1).sum()
    assert first.explained.maps == 7


def test_a_median_of_an_even_number_lies_between_the_two_in_the_middle() -> None:
    histogram = Histogram(-1)
    assert histogram.spread() == Spread(0, None)
    histogram.add(np.array([-1, 0.25, 0.75, 1, np.nan], np.float32))
    assert histogram.spread() == Spread(4, 0.5)
    histogram.add(np.array([-0.1234], np.float32))
    assert histogram.spread() == Spread(5, 0.25)
    histogram.add(np.array([-0.1234, -0.1234], np.float32))
    assert histogram.spread() == Spread(7, -0.123)


# Columns of the images


def test_columns_are_of_the_predicted_class_at_the_layer(many: Results) -> None:
    numbers, images = all_at_once(many)
    columns = image_columns(many, "b")
    of_all = ["disagreement", "overlap", "margin"]
    assert [*columns] == ["area.grad_cam", "area.layer_cam", *of_all]
    rows = np.arange(len(images))
    place = numbers.keys.index(MapKey("layer_cam", "b"))
    np.testing.assert_allclose(
        columns["area.layer_cam"], numbers.area[place][rows, numbers.slot], atol=5e-4
    )
    (pair,) = [i for i, (one, _) in enumerate(numbers.pairs) if one.layer == "b"]
    own = numbers.correlation[pair][rows, numbers.slot]
    given = np.array(columns["disagreement"], dtype=np.float64)
    np.testing.assert_allclose(given, 1 - own, atol=6e-4)
    assert [value is None for value in columns["disagreement"]] == [*np.isnan(own)]
    given = np.array(columns["overlap"], dtype=np.float64)
    np.testing.assert_allclose(given, numbers.overlap[pair][rows, numbers.slot], atol=6e-4)
    tops = [image.top[0].probability - image.top[1].probability for image in images]
    np.testing.assert_allclose(columns["margin"], tops, atol=6e-4)


def test_disagreement_is_one_minus_the_median_of_the_pairs_that_are_defined(tmp_path: Path) -> None:
    methods = ["grad_cam", "layer_cam", "hires_cam"]
    out = synthetic.write_results(tmp_path / "out", 9, methods=methods, grids={"a": 9})
    results = load_results(out)
    numbers, _ = all_at_once(results)
    own = numbers.correlation[:, np.arange(9), numbers.slot]
    found = image_columns(results, "a")["disagreement"]
    np.testing.assert_allclose(found, 1 - np.nanmedian(own, 0), atol=6e-4)
    elsewhere = image_columns(results, "elsewhere")
    assert {*elsewhere} == {"disagreement", "overlap", "margin"}
    assert elsewhere["disagreement"] == elsewhere["overlap"] == [None] * 9


def test_methods_of_no_class_and_repeated_ones_do_not_count_as_agreeing(tmp_path: Path) -> None:
    methods = ["grad_cam", "layer_cam", "hires_cam", "eigen_cam"]
    out = synthetic.write_results(tmp_path / "out", 9, methods=methods, grids={"a": 9})
    results = load_results(out)
    numbers, _ = all_at_once(results)
    (place,) = [
        place
        for place, pair in enumerate(numbers.pairs)
        if {key.method for key in pair} == {"grad_cam", "layer_cam"}
    ]
    found = image_columns(results, "a", ["hires_cam"])
    assert [*found] == [
        *(f"area.{key}" for key in ("grad_cam", "layer_cam", "eigen_cam")),
        *("disagreement", "overlap", "margin"),
    ]
    own = numbers.correlation[place][np.arange(9), numbers.slot]
    np.testing.assert_allclose(found["disagreement"], 1 - own, atol=6e-4)


def test_numbers_that_are_not_defined_are_null(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out", classes=[1])
    results = run_of(tmp_path / "out")
    columns = image_columns(results, "features.2")
    unexplained = [image.top[0].index != 1 for image in results.images]
    for name in ("area.grad_cam", "area.hires_cam", "disagreement"):
        nulls = [value is None for value in columns[name]]
        assert [null for null, no in zip(nulls, unexplained, strict=True) if no] == [True] * sum(
            unexplained
        )


# The file beside a shard


def test_numbers_beside_a_shard_are_those_of_its_maps(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    results = run_of(tmp_path / "out")
    for number in range(4):
        kept = to_arrays(read_numbers(results, number))
        shard = results.shard(f"shard-{number:06d}.npz")
        for name, array in to_arrays(measure(shard, "softmax")).items():
            assert kept[name].tobytes() == array.tobytes()
        path = results.path / f"numbers-{number:06d}.npz"
        with np.load(path, allow_pickle=False) as arrays:
            assert arrays["maps"].tolist() == [str(key) for key in map_keys(shard)]


def numbers_in(out: Path) -> Path:
    return out / "results" / "numbers-000001.npz"


def changed(name: str, value: Callable[[NDArray[np.generic]], object]) -> Callable[[Path], object]:
    """Return a function that changes an array of a file of numbers."""

    def change(path: Path) -> None:
        with np.load(path) as arrays:
            content = dict(arrays)
        np.savez(path, **content | {name: value(content[name])})  # type: ignore[arg-type]

    return change


def without(path: Path) -> None:
    with np.load(path) as arrays:
        content = dict(arrays)
    del content["area"]
    np.savez(path, **content)


LOSSES: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "cut": lambda path: os.truncate(path, 900),
    "of no array": lambda path: path.write_bytes(b"numbers"),
    "of another shard": lambda path: shutil.copy(path.with_name("numbers-000002.npz"), path),
    "of another version": changed("version", lambda array: array + 1),
    "without an array": without,
    "of another kind": changed("area", lambda array: array.astype(np.float64)),
    "of fewer images": changed("slot", lambda array: array[:1]),
    "of unknown maps": changed("maps", lambda array: np.array(["x/y"] * len(array))),
    "of the same maps twice": changed("maps", lambda array: np.array([array[0]] * len(array))),
    "with an area of two": changed("area", lambda array: array + 2),
    "with a class too many": changed("predicted", lambda array: array + 2),
    "with a slot too many": changed("slot", lambda array: array + 2),
    "with a correlation of infinity": changed("correlation", lambda array: array + np.inf),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with seven photographs and a run of them in shards of two."""
    folder = tmp_path_factory.mktemp("finished")
    run(write_images(folder / "photos"), folder / "out")
    return folder


@pytest.mark.parametrize("loss", LOSSES)
def test_numbers_that_cannot_be_used_are_measured_again(
    finished: Path, tmp_path: Path, loss: str
) -> None:
    out = Path(shutil.copytree(finished / "out", tmp_path / "out"))
    before, bytes_before = aggregate(run_of(out)), npz_of(out)
    LOSSES[loss](numbers_in(out))
    with pytest.raises(ResultsError):
        read_numbers(run_of(out), 1)
    assert equal(aggregate(run_of(out)), before)
    render_gallery(out)
    assert npz_of(out) != bytes_before, "rendering writes nothing into the results"
    model = tiny()
    run(finished / "photos", out, model)
    assert model.module.batches == []
    assert npz_of(out) == bytes_before


def test_numbers_are_read_and_not_measured(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_given: object) -> ShardNumbers:
        raise AssertionError("measured")

    monkeypatch.setattr(cache, "measure", refuse)
    assert aggregate(run_of(finished / "out")).images["all"] == 7


def test_a_damaged_shard_without_numbers_is_an_error_and_no_crash(
    finished: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(finished / "out", tmp_path / "out"))
    numbers_in(out).unlink()
    shard = out / "results" / "shard-000001.npz"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 255
    shard.write_bytes(content)
    with pytest.raises(ResultsError, match=r"shard-000001\.npz"):
        aggregate(run_of(out))
    with pytest.raises(ResultsError, match=r"shard-000001\.npz"):
        run(finished / "photos", out)
    assert not numbers_in(out).exists()


def test_results_that_cannot_be_written_to_are_aggregated(finished: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(finished / "out", tmp_path / "out"))
    expected = aggregate(run_of(out))
    for path in (out / "results").glob("numbers-*.npz"):
        path.unlink()
    (out / "results").chmod(0o555)
    try:
        assert equal(aggregate(run_of(out)), expected)
        render_gallery(out)
    finally:
        (out / "results").chmod(0o755)


def test_a_link_beside_a_shard_is_not_followed(finished: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(finished / "out", tmp_path / "out"))
    path = numbers_in(out)
    path.rename(tmp_path / "elsewhere.npz")
    path.symlink_to(tmp_path / "elsewhere.npz")
    with pytest.raises(ResultsError, match="link"):
        read_numbers(run_of(out), 1)
    before = (tmp_path / "elsewhere.npz").read_bytes()
    run(finished / "photos", out)
    assert not path.is_symlink()
    assert (tmp_path / "elsewhere.npz").read_bytes() == before == path.read_bytes()


# Running again


def test_one_more_method_is_measured_with_the_others(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out", methods=QUICK[:2])
    run(photos, tmp_path / "out", methods=QUICK)
    run(photos, tmp_path / "fresh", methods=QUICK)
    assert npz_of(tmp_path / "out") == npz_of(tmp_path / "fresh")
    found = aggregate(run_of(tmp_path / "out"))
    assert {own.key.method for own in found.maps} == {*QUICK}
    assert len(found.pairs) == 3 * 2


def test_labels_change_outcomes_and_nothing_is_measured_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(photos, out)
    before, plain = npz_of(out), aggregate(run_of(out))
    assert plain.images["unlabelled"] == 7
    model = tiny()
    run(photos, out, model, labels=LABELS)
    assert model.module.batches == []
    assert npz_of(out) == before
    labelled = aggregate(run_of(out))
    assert labelled.images["right"] + labelled.images["wrong"] == len(LABELS)
    assert [own.explained for own in labelled.maps] == [own.explained for own in plain.maps]
    check(labelled, *all_at_once(run_of(out)))


def test_other_images_leave_no_numbers_of_earlier_ones(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    for name in ("03.png", "04.png", "05.png", "06.png"):
        (photos / name).unlink()
    run(photos, tmp_path / "out")
    run(photos, tmp_path / "fresh")
    names = sorted(name for name in files_of(tmp_path / "out") if "numbers" in name)
    assert names == [f"results/numbers-00000{n}.npz" for n in (0, 1)]
    assert npz_of(tmp_path / "out") == npz_of(tmp_path / "fresh")


def test_a_shard_without_readable_images_has_no_numbers(photos: Path, tmp_path: Path) -> None:
    for name in ("02.png", "03.png"):
        (photos / name).write_bytes(b"x")
    run(photos, tmp_path / "out")
    assert not numbers_in(tmp_path / "out").exists()
    assert aggregate(run_of(tmp_path / "out")).images["all"] == 5
    run(photos, tmp_path / "out")
    assert not numbers_in(tmp_path / "out").exists()
