"""The parts of a comparison: classes, layers, joined images, moves of maps, paired changes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from camreport.errors import ClassError
from camreport.insight.compare.changes import mcnemar, median_change, share_interval, told_apart
from camreport.insight.compare.classes import read_label_map, vocabulary
from camreport.insight.compare.common import moves, on_common_grid, seen_by_all
from camreport.methods import METHODS
from camreport.metrics.grids import GRID, resampled, windowed
from camreport.results.reader import MapRecord

RANDOM = np.random.default_rng(0)
ANIMALS = ("tabby", "tiger cat", "beagle", "pug", "bow tie")


# Classes


def test_equal_names_are_shared_in_the_order_of_the_first_run() -> None:
    found = vocabulary(["a", "b"], [("cat", "dog"), ("dog", "cat")])
    assert found.names == ("cat", "dog")
    assert found.members == (((0,), (1,)), ((1,), (0,)))


def test_equal_lists_with_a_name_that_occurs_twice_stay_apart() -> None:
    found = vocabulary(["a", "b"], [("crane", "crane", "dog")] * 2)
    assert found.members == (((0,), (1,), (2,)),) * 2


def test_a_label_map_gathers_classes_by_name_index_and_range() -> None:
    given = {"cat": ["tabby", "1"], "dog": ["2-3"]}
    found = vocabulary(["a", "b"], [("dog", "cat"), ANIMALS], given)
    assert found.names == ("dog", "cat")
    assert found.members == (((0,), (1,)), ((2, 3), (0, 1)))
    assert found.shared(1) == {0: 1, 1: 1, 2: 0, 3: 0}


@pytest.mark.parametrize(
    ("classes", "label_map", "said"),
    [
        ([("cat", "dog"), ANIMALS], None, "'a' has 'cat', 'dog', which 'b' has not"),
        ([("cat", "dog"), ("cat",)], None, "'a' has 'dog', which 'b' has not; --label|'dog'"),
        ([("cat", "dog"), ANIMALS], {"cat": ["0"], "dgo": ["2"]}, "none of 'a' for 'dgo'"),
        ([("cat", "dog"), ANIMALS], {"cat": ["0"], "dog": ["beagel"]}, "Did you mean 'beagle'"),
        ([("cat", "dog"), ANIMALS], {"cat": ["0-2"], "dog": ["2"]}, "each class once"),
        ([("cat", "dog"), ANIMALS], {"cat": ["0"]}, "2 words or more"),
        ([("cat", "dog"), ANIMALS], {"cat": ["90"], "dog": ["2"]}, "got '90'"),
    ],
)
def test_classes_that_do_not_match_are_refused(classes, label_map, said: str) -> None:
    with pytest.raises(ClassError, match=said):
        vocabulary(["a", "b"], classes, label_map)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.json", '{"cat": ["tabby", 1], "dog": "2-3"}'),
        ("m.toml", 'cat = ["tabby", 1]\ndog = "2-3"\n'),
        ("m.csv", "cat,tabby\ncat,1\n\ndog,2-3\n"),
    ],
)
def test_a_label_map_is_read_from_files_and_text(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("\ufeff" + text, encoding="utf-8")
    expected = {"cat": ["tabby", "1"], "dog": ["2-3"]}
    assert read_label_map(tmp_path / name) == expected
    assert read_label_map(str(tmp_path / name)) == expected
    assert read_label_map("cat=tabby,1,dog=2-3") == expected
    assert read_label_map({"cat": ["tabby", 1], "dog": "2-3"}) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.json", "[1]"),
        ("m.json", "{"),
        ("m.json", '{"cat": [null]}'),
        ("m.json", "{}"),
        ("m.toml", "cat"),
        ("m.csv", "cat\n"),
        ("m.txt", "cat=1"),
    ],
)
def test_a_label_map_of_another_form_is_refused(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ClassError, match="label-map: expected"):
        read_label_map(tmp_path / name)


def test_nesting_beyond_all_measure_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text("[" * 100_000)
    with pytest.raises(ClassError, match="label-map: expected"):
        read_label_map(tmp_path / "m.json")


# Maps on the common grid


def test_a_part_of_a_map_is_its_cells_where_the_grid_fits() -> None:
    cam = RANDOM.random((28, 42))
    part = windowed(cam, (0.5, 1.0), (1 / 3, 2 / 3), 14, 14)
    np.testing.assert_allclose(part, cam[14:, 14:28], rtol=1e-12)
    coarse = windowed(cam, (0.0, 1.0), (0.0, 1.0), 14, 14)
    np.testing.assert_array_equal(coarse, resampled(cam, 14, 14))
    means = cam[14:].reshape(7, 2, 14, 3).mean((1, 3))
    np.testing.assert_allclose(windowed(cam, (0.5, 1.0), (0.0, 1.0), 7, 14), means, rtol=1e-12)


def test_a_part_of_a_coarse_map_is_interpolated_as_the_whole() -> None:
    cam = RANDOM.random((6, 6))
    whole = resampled(cam, 28, 28)
    np.testing.assert_allclose(
        windowed(cam, (0.25, 0.75), (0.0, 0.5), 14, 14), whole[7:21, :14], rtol=1e-12
    )


def record(cam: NDArray[np.float64], method: str = "grad_cam") -> MapRecord:
    return MapRecord(METHODS[method], "l", 0, 0, cam.astype(np.float32))


def test_runs_that_see_other_parts_are_compared_where_both_look() -> None:
    parts = [(0.0, 0.0, 1.0, 1.0), (0.125, -0.1, 0.875, 1.1)]
    common = seen_by_all(parts)
    assert common == (0.125, 0.0, 0.875, 1.0)
    assert seen_by_all([(0, 0, 0.4, 1), (0.5, 0, 1, 1)]) is None
    # A bright stripe at 0.5..0.625 of the photograph, on either run's own grid.
    whole, cut = np.zeros((8, 8)), np.zeros((6, 6))
    whole[:, 4], cut[:, 3] = 1, 1
    one = on_common_grid(record(whole), parts[0], common)
    other = on_common_grid(record(cut), (0.125, 0.0, 0.875, 1.0), common)
    np.testing.assert_allclose(one, other, atol=1e-12)


def test_moves_are_those_of_scipy_and_of_the_definition() -> None:
    one, other = RANDOM.random((2, 5, GRID, GRID))
    one[3], other[4] = 0, np.nan
    found = moves(one, other)
    for place in range(3):
        a, b = one[place].ravel(), other[place].ravel()
        assert found.correlation[place] == pytest.approx(stats.spearmanr(a, b)[0], abs=1e-3)
        assert found.moved[place] == pytest.approx(np.abs(a / a.sum() - b / b.sum()).sum() / 2)
        high = [set(np.argsort(v)[-(GRID * GRID // 5) :]) for v in (a, b)]
        expected = len(high[0] & high[1]) / len(high[0] | high[1])
        assert found.overlap[place] == pytest.approx(expected, abs=0.03)
    for values in vars(found).values():
        assert np.isnan(values[3:]).all()


def test_maps_apart_have_all_their_evidence_elsewhere() -> None:
    one, other = np.zeros((2, 1, GRID, GRID))
    one[0, :7], other[0, 7:] = 1, 0.25
    assert moves(one, other).moved.tolist() == pytest.approx([1.0])
    assert moves(one, one / 7).moved.tolist() == pytest.approx([0.0])


# Paired changes


@pytest.mark.parametrize("counts", [(0, 0), (1, 0), (3, 9), (9, 3), (20, 20), (40, 12)])
def test_mcnemar_is_the_exact_binomial_test(counts: tuple[int, int]) -> None:
    expected = stats.binomtest(counts[0], sum(counts)).pvalue if sum(counts) else 1.0
    assert mcnemar(*counts) == pytest.approx(expected)


def test_mcnemar_holds_for_very_many_changes() -> None:
    assert 0 <= mcnemar(30_000, 40_000) < 1e-300
    assert mcnemar(35_000, 35_000) == 1.0


def test_interval_of_a_difference_of_shares_is_that_of_a_bootstrap() -> None:
    differences = np.array([1] * 30 + [-1] * 18 + [0] * 152)
    low, high = share_interval(30, 18, 200)
    drawn = np.random.default_rng(1).choice(differences, (20_000, 200)).mean(1)
    np.testing.assert_allclose([low, high], np.quantile(drawn, [0.025, 0.975]), atol=0.006)
    assert share_interval(30, 18, 200) == (low, high)
    assert share_interval(0, 0, 200) == (0.0, 0.0)


def test_change_of_a_median_is_paired() -> None:
    before = RANDOM.random(60)
    after = before + 0.1
    after[:5], before[-5:] = np.nan, np.nan
    change = median_change(before, after)
    both = ~np.isnan(before) & ~np.isnan(after)
    assert change.n == 50
    assert change.before == pytest.approx(np.median(before[both]))
    assert change.after == pytest.approx(np.median(after[both]))
    assert [change.delta, change.low, change.high] == pytest.approx([0.1] * 3)
    assert told_apart(change) is True
    assert told_apart(replace(change, n=29)) is None
    assert told_apart(replace(change, low=-0.1)) is False
    nothing = median_change(np.array([np.nan]), np.array([1.0]))
    assert (nothing.n, nothing.delta, nothing.low) == (0, None, None)
    assert json.dumps(vars(nothing))
