"""Groups of images by columns beside the labels: a planted difference is found, noise is not."""

from pathlib import Path

import numpy as np
import pytest
from helpers.runs import manifest_of, run_by_two, tiny, write_images
from numpy.typing import NDArray
from scipy import stats

from camreport.errors import ClassError
from camreport.insight.groups import Group, chances, groups
from camreport.insight.numbers import measure
from camreport.pipeline.run_plan import ShardLimits
from camreport.results.reader import Results, load_results
from camreport.settings import Settings

SCANNERS = ("A", "B", "A", "B", "A", "A", "B", "", "A", "B", "B", "A", "A", "B", "A")
SEASONS = ("wet", "dry") * 7 + ("wet",)


def table(path: Path, scanners: tuple[str, ...] = SCANNERS) -> Path:
    """Write the labels of fifteen photographs with two columns more."""
    rows = [
        f"{index:02}.png,{index % 2},{scanner},{season}"
        for index, (scanner, season) in enumerate(zip(scanners, SEASONS, strict=True))
    ]
    path.write_text("\n".join(["file,label,Scanner,season", *rows]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on fifteen photographs of two classes in shards of two; one cannot be read."""
    folder = tmp_path_factory.mktemp("groups")
    write_images(folder / "photos", 15)
    (folder / "photos" / "05.png").write_bytes(b"x")
    given = {"labels": table(folder / "labels.csv"), "groups": ["scanner", "season"]}
    run_by_two(folder / "photos", folder / "out", **given)
    return folder / "out"


def maps_of(results: Results, key: str) -> dict[int, tuple[int, NDArray[np.uint8]]]:
    """Return predicted class and levels of each image's map with positive evidence."""
    found = {}
    for one in results.readable:
        arrays = {name: array[None] for name, array in results.arrays(one.index).items()}
        numbers = measure(arrays, "softmax")
        place = [*map(str, numbers.keys)].index(key)
        if numbers.area[place][0, numbers.slot[0]] > 0:
            found[one.index] = int(numbers.predicted[0]), numbers.where[place][0]
    return found


# What is told of a run


def test_groups_are_the_values_of_the_columns(out: Path) -> None:
    results = load_results(out)
    assert results.manifest.groups == ("scanner", "season")
    assert results.images[7].groups == (None, "dry")
    assert results.images[0].groups == ("A", "wet")
    found = groups(results)
    assert {(one.column, one.value) for one in found} == {
        *(("scanner", value) for value in "AB"),
        *(("season", value) for value in ("wet", "dry")),
    }
    assert {one.key.layer for one in found} == {"features.2"}
    assert {one.key.method for one in found} == {"grad_cam", "layer_cam", "hires_cam"}


def test_means_and_differences_are_those_of_all_images_at_once(out: Path) -> None:
    results = load_results(out)
    for one in groups(results):
        maps = maps_of(results, str(one.key))
        column = ("scanner", "season").index(one.column)
        values = {index: results.images[index].groups[column] for index in maps}  # type: ignore[index]
        own = [index for index in maps if values[index] == one.value]
        rest = [index for index in maps if values[index] not in (one.value, None)]
        assert (one.n, one.others) == (len(own), len(rest))
        mean = np.mean([maps[index][1] for index in own], 0) / 255
        np.testing.assert_allclose(one.mean, mean, rtol=1e-12)
        total, weight = np.zeros((14, 14)), 0.0
        for predicted in range(2):
            inside = [maps[index][1] / 255 for index in own if maps[index][0] == predicted]
            outside = [maps[index][1] / 255 for index in rest if maps[index][0] == predicted]
            if inside and outside:
                share = len(inside) * len(outside) / (len(inside) + len(outside))
                total += share * (np.mean(inside, 0) - np.mean(outside, 0))
                weight += share
        assert one.difference is not None
        np.testing.assert_allclose(one.difference, total / weight, atol=1e-12)
        assert one.p is not None
        assert 0.001 <= one.p <= 1


def test_the_same_results_give_the_same_groups(out: Path) -> None:
    def plain(one: Group) -> tuple[object, ...]:
        assert one.difference is not None
        return one.key, one.column, one.value, one.n, one.difference.tobytes(), one.p

    assert [*map(plain, groups(load_results(out)))] == [*map(plain, groups(load_results(out)))]


def test_other_groups_change_records_alone(photos: Path, tmp_path: Path) -> None:
    out, folder = tmp_path / "out", write_images(tmp_path / "fifteen", 15)
    labels = table(tmp_path / "labels.csv")
    run_by_two(folder, out, labels=labels)
    assert groups(load_results(out)) == ()
    model = tiny()
    run_by_two(folder, out, model, labels=labels, groups=["season"])
    assert sum(model.module.batches) == 0
    assert manifest_of(out)["groups"] == ["season"]
    assert {one.column for one in groups(load_results(out))} == {"season"}


def test_groups_of_many_images_are_read_from_the_sidecars(tmp_path: Path) -> None:
    folder, out = write_images(tmp_path / "fifteen", 15), tmp_path / "out"
    given = {"labels": table(tmp_path / "labels.csv"), "groups": ["season"]}
    run_by_two(folder, out, **given)
    limits = ShardLimits(shard_images=2, inline_images=3)
    run_by_two(folder, tmp_path / "many", limits=limits, **given)
    many = load_results(tmp_path / "many")
    assert many.manifest.images == ()
    assert [one.p for one in groups(many)] == [one.p for one in groups(load_results(out))]


# The test


def test_a_planted_difference_is_found_and_without_it_none_is() -> None:
    random = np.random.default_rng(0)
    maps = random.integers(0, 100, (90, 196), dtype=np.uint8)
    group, classes = np.repeat([0, 1, 2], 30), np.arange(90) % 2
    maps[group == 2, 195] += 60  # the last corner, of the third group alone
    assert chances(maps, group, classes)[2] == 1 / 1000
    maps[group == 2, 195] -= 60
    assert chances(maps, group, classes).min() > 0.05


def test_another_mix_of_classes_is_no_difference() -> None:
    random = np.random.default_rng(1)
    classes = np.repeat([0, 1], 60)
    group = np.where(random.random(120) < np.where(classes == 1, 0.85, 0.15), 1, 0)
    maps = random.integers(0, 60, (120, 196), dtype=np.uint8)
    maps[classes == 1, :50] += 150  # what class 1 looks at, in either group
    assert chances(maps, group, np.zeros(120, int)).max() == 1 / 1000
    assert chances(maps, group, classes).min() > 0.05


def test_noise_is_called_a_difference_as_often_as_the_level_says() -> None:
    """Of 300 sets of noise, p is at most 0.1 in about 30, whatever the number of cells."""
    random = np.random.default_rng(2)
    found = []
    for _ in range(300):
        maps = random.integers(0, 256, (24, 40), dtype=np.uint8)
        group = random.permutation(np.repeat([0, 1, 2], 8))
        found.append(chances(maps, group, np.arange(24) % 2, 99, int(random.integers(1 << 30))))
    least = np.min(found, 1)
    for level in (0.05, 0.1, 0.5):
        low, high = stats.binom.interval(0.999, 300, level)
        assert low <= (least <= level).sum() <= high, "of any group, for all cells and groups"


def test_one_cell_and_two_groups_are_the_permutation_test_of_scipy() -> None:
    random = np.random.default_rng(3)
    maps = random.integers(0, 256, (12, 1), dtype=np.uint8)
    group = np.repeat([0, 1], [5, 7])
    samples = [maps[group == one, 0].astype(float) for one in (0, 1)]

    def difference(one: NDArray[np.float64], other: NDArray[np.float64], axis: int) -> object:
        return np.abs(one.mean(axis) - other.mean(axis))

    exact = stats.permutation_test(
        samples, difference, vectorized=True, n_resamples=np.inf, alternative="greater"
    )
    found = chances(maps, group, np.zeros(12, int), 9999)
    assert found[0] == found[1], "of two groups, one is the other turned round"
    error = np.sqrt(exact.pvalue * (1 - exact.pvalue) / 9999)
    assert found[0] == pytest.approx(exact.pvalue, abs=4 * error + 1 / 10000)


def test_groups_that_no_class_shares_have_no_difference() -> None:
    maps = np.arange(20, dtype=np.uint8).reshape(20, 1)
    group = np.repeat([0, 1], 10)
    np.testing.assert_array_equal(chances(maps, group, group, 19), 1)


# What is refused


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"groups": ["scaner"]}, r"got 'scaner'. Did you mean 'Scanner'\?"),
        ({"groups": ["file2"]}, "groups: expected headings of columns of labels.csv"),
        ({"labels": {"00.png": 0}}, "groups: expected labels in a CSV file"),
        (
            {"labels": None},
            "groups: expected labels in a CSV file that has these columns, got none",
        ),
        ({"groups": []}, "groups: expected a list of headings"),
        ({"groups": "scanner"}, "groups: expected a list of headings"),
        ({"groups": ["season", "season"]}, "each column once"),
    ],
)
def test_columns_that_are_none_are_refused(
    options: dict[str, object], told: str, photos: Path, tmp_path: Path
) -> None:
    given = {"labels": table(tmp_path / "labels.csv"), "groups": ["scanner"]} | options
    with pytest.raises(ClassError, match=told):
        run_by_two(photos, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_a_column_with_one_value_or_very_many_is_refused(photos: Path, tmp_path: Path) -> None:
    one = table(tmp_path / "one.csv", ("A",) * 15)
    with pytest.raises(ClassError, match=r"2 to 20 different values .* 'scanner'.* got 1\."):
        run_by_two(photos, tmp_path / "out", labels=one, groups=["scanner"])
    many = write_images(tmp_path / "many", 22)
    rows = [f"{index:02}.png,0,{index}" for index in range(22)]
    (tmp_path / "many.csv").write_text("\n".join(["file,label,id", *rows]))
    with pytest.raises(ClassError, match="got 22"):
        run_by_two(many, tmp_path / "out", labels=tmp_path / "many.csv", groups=["id"])


def test_a_row_that_contradicts_another_is_refused(photos: Path, tmp_path: Path) -> None:
    path = table(tmp_path / "labels.csv")
    path.write_text(path.read_text() + "\n00.png,0,B,wet")
    with pytest.raises(ClassError, match=r"one row for '00.png' .* got another on line 17"):
        run_by_two(photos, tmp_path / "out", labels=path, groups=["scanner"])


def test_the_option_is_written_as_it_is_read() -> None:
    words = Settings(groups=["scanner", "field, wet"]).command(["a"], "b")
    assert "--groups 'scanner,\"field, wet\"'" in words
