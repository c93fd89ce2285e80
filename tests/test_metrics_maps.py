"""Contrast and extent: against scipy and closed forms, their invariances, what is undefined."""

import numpy as np
import pytest
from helpers import metric_oracles as oracles
from helpers.peers import peer

from camreport.metrics.contrast import contrast, strongest_other
from camreport.metrics.extent import extent
from camreport.metrics.values import Undefined, Values

GRIDS = [(1, 2), (3, 3), (6, 6), (13, 13), (14, 14), (7, 20), (27, 27), (60, 9)]
"""Of layers, also of networks whose input is not square."""

every_grid = pytest.mark.parametrize("grid", GRIDS, ids=str)


def maps_of(*shape: int, seed: int = 0, ties: bool = False) -> np.ndarray:
    """Return raw maps with values of both signs; with ties, most of their cells are zero."""
    maps = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return np.maximum(maps, 0) if ties else maps


def numbers(found: dict[str, Values]) -> dict[str, np.ndarray]:
    return {key: each.numbers for key, each in found.items()}


def assert_alike(found: dict[str, Values], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for key, each in found.items():
        np.testing.assert_allclose(each.numbers, expected[key], rtol=0, atol=1e-6, err_msg=key)


# Contrast


@every_grid
@pytest.mark.parametrize("ties", [False, True])
def test_contrast_is_scipys_rank_correlation_with_the_other_classs_map(
    grid: tuple[int, int], ties: bool
) -> None:
    maps, other = maps_of(3, 4, *grid, ties=ties), np.array([[1, 0, 3, 1], [2, 2, 0, 0]] * 2)[:3]
    assert_alike(contrast(maps, other), oracles.contrast(maps, other))


def test_contrast_of_several_methods_at_once_is_that_of_each() -> None:
    maps, other = maps_of(2, 5, 3, 2, 6, 6).reshape(10, 3, 2, 6, 6), np.array([[1, 0]] * 3)
    together = contrast(maps, other)
    for place, own in enumerate(maps):
        for key, alone in contrast(own, other).items():
            np.testing.assert_array_equal(together[key].numbers[place], alone.numbers)


@pytest.mark.parametrize("change", [lambda r: r * 1e-20, lambda r: 3 * r - 7, np.exp, np.cbrt])
def test_contrast_does_not_mind_what_keeps_the_order_of_a_map(change) -> None:
    maps, other = maps_of(2, 2, 9, 9).astype(np.float64), np.array([[1, 0]] * 2)
    changed = np.stack([change(maps[:, 0]), maps[:, 1]], 1)
    np.testing.assert_array_equal(
        contrast(changed, other)["contrast"].numbers, contrast(maps, other)["contrast"].numbers
    )


def test_contrast_does_not_mind_where_the_cells_lie() -> None:
    maps, other = maps_of(2, 2, 5, 8), np.array([[1, 0]] * 2)
    shuffled = maps.reshape(2, 2, 40)[..., np.random.default_rng(1).permutation(40)]
    for key, each in contrast(shuffled.reshape(2, 2, 8, 5), other).items():
        np.testing.assert_allclose(each.numbers, contrast(maps, other)[key].numbers, atol=1e-6)


def test_opposite_maps_have_contrast_minus_one_and_nothing_in_common() -> None:
    own = maps_of(1, 1, 6, 6)
    found = numbers(contrast(np.concatenate([own, -own], 1), np.array([[1, 0]])))
    np.testing.assert_array_equal(found["contrast"], [[-1, -1]])
    np.testing.assert_array_equal(found["contrast.overlap"], [[0, 0]])


@pytest.mark.parametrize("slots", [1, 3])
def test_a_map_that_all_classes_share_has_contrast_one_by_construction(slots: int) -> None:
    maps = np.repeat(maps_of(4, 1, 13, 13), slots, axis=1)
    for each in contrast(maps, np.array([[1, 0, 0]] * 4)).values():
        np.testing.assert_array_equal(each.numbers, np.ones((4, 3)))


def test_contrast_says_why_it_is_undefined() -> None:
    maps = maps_of(5, 2, 4, 4)
    maps[1, 1], maps[2, 0], maps[3, 0, 0, 0] = 5, 0, np.inf
    found = contrast(maps, np.array([[1, 0]] * 4 + [[-1, -1]]))
    reasons = [Undefined.DEFINED, Undefined.CONSTANT, Undefined.CONSTANT]
    reasons += [Undefined.NOT_FINITE, Undefined.NO_OTHER_CLASS]
    for each in found.values():
        np.testing.assert_array_equal(each.reasons, np.array([reasons, reasons]).T)
        np.testing.assert_array_equal(np.isnan(each.numbers), each.reasons != 0)


@pytest.mark.parametrize(
    ("targets", "logits", "expected"),
    [
        ([0, 1], [3.0, 9.0, 5.0], [1, 0]),
        ([2, 0, 1], [3.0, 9.0, 5.0], [2, 2, 0]),
        ([1], [3.0, 9.0, 5.0], [-1]),
        ([1, 1], [3.0, 9.0, 5.0], [-1, -1]),
        ([1, 1, 0], [3.0, 9.0, 5.0], [2, 2, 0]),
        ([0, 1, 2], [np.nan, -np.inf, 5.0], [2, 2, 0]),
        ([0, 1], [np.nan, np.nan, 5.0], [1, 0]),
    ],
    ids=str,
)
def test_the_strongest_other_class_is_the_explained_one_with_the_highest_logit(
    targets: list[int], logits: list[float], expected: list[int]
) -> None:
    found = strongest_other(np.array([targets]), np.array([logits], np.float32))
    np.testing.assert_array_equal(found, [expected])


# Extent


@every_grid
@pytest.mark.parametrize("ties", [False, True])
def test_extent_is_what_torch_and_scipy_make_of_its_definition(
    grid: tuple[int, int], ties: bool
) -> None:
    maps = maps_of(3, 2, *grid, ties=ties)
    assert_alike(extent(maps), oracles.extent(maps))


def test_an_even_map_claims_everything_and_concentrates_nothing() -> None:
    for grid in GRIDS:
        found = numbers(extent(np.full((1, *grid), 0.3, np.float32)))
        np.testing.assert_allclose([*found.values()], [[1], [0], [0], [0], [0]], atol=1e-7)


@pytest.mark.parametrize(("side", "block"), [(4, 2), (28, 7), (56, 14)])
def test_a_square_block_has_the_gini_and_the_entropy_of_its_share(side: int, block: int) -> None:
    """Gini of m equal cells out of n is 1 - m/n; the entropy is ln m / ln n."""
    maps = np.zeros((1, side, side), np.float32)
    maps[0, :block, :block] = 2
    found, share = numbers(extent(maps)), (block / side) ** 2
    expected = 1 - np.log(block**2) / np.log(side**2)
    np.testing.assert_allclose(found["extent.gini"], 1 - share, atol=1e-6)
    np.testing.assert_allclose(found["extent.entropy"], expected, atol=1e-6)
    if side == 56:
        np.testing.assert_allclose(found["extent"], share, atol=1e-7)


def test_the_common_grid_tells_maps_of_two_layers_alike_that_their_own_grids_do_not() -> None:
    coarse = maps_of(1, 7, 7, ties=True)
    fine = np.repeat(np.repeat(coarse, 8, 1), 8, 2)
    half = np.repeat(np.repeat(coarse, 4, 1), 4, 2)
    one, other = numbers(extent(fine)), numbers(extent(half))
    assert one["extent.entropy"] != pytest.approx(other["extent.entropy"], abs=0.01)
    for key in ("extent.gini14", "extent.entropy14"):
        np.testing.assert_allclose(one[key], other[key], atol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 0.25, 8e20])
def test_extent_does_not_mind_the_scale_nor_what_is_negative(scale: float) -> None:
    maps = maps_of(2, 13, 13)
    scaled = np.where(maps > 0, maps * np.float32(scale), maps * 1000)
    for key, each in extent(scaled).items():
        np.testing.assert_allclose(each.numbers, extent(maps)[key].numbers, rtol=1e-5)


def test_gini_and_entropy_do_not_mind_where_the_cells_lie() -> None:
    maps = maps_of(2, 6, 6)
    shuffled = maps.reshape(2, 36)[:, np.random.default_rng(1).permutation(36)].reshape(2, 4, 9)
    for key in ("extent.gini", "extent.entropy"):
        np.testing.assert_allclose(
            extent(shuffled)[key].numbers, extent(maps)[key].numbers, rtol=1e-6
        )


def test_extent_says_why_it_is_undefined() -> None:
    maps = maps_of(4, 5, 5)
    maps[1], maps[2], maps[3, 2, 2] = 0, -1, np.nan
    for each in extent(maps).values():
        np.testing.assert_array_equal(
            each.reasons,
            [0, Undefined.NO_POSITIVE, Undefined.NO_POSITIVE, Undefined.NOT_FINITE],
        )
        np.testing.assert_array_equal(np.isnan(each.numbers), each.reasons != 0)


def test_a_single_cell_has_no_entropy_of_its_own() -> None:
    found = extent(np.ones((1, 1, 1), np.float32))
    assert found["extent.entropy"].reasons == Undefined.CONSTANT
    assert {key for key, each in found.items() if each.reasons.any()} == {"extent.entropy"}
    assert found["extent"].numbers == 1


# Quantus


def test_quantus_computes_the_same_gini_index() -> None:
    """Its sparseness takes magnitudes: the same of a map without negative values."""
    maps = maps_of(5, 13, 13, ties=True) + np.float32(1e-3)
    metric = peer("quantus").Sparseness(abs=True, normalise=False, disable_warnings=True)
    theirs = metric.evaluate_batch(x_batch=maps, a_batch=maps.copy())  # it writes into them
    np.testing.assert_allclose(extent(maps)["extent.gini"].numbers, theirs, atol=1e-5)


def test_quantus_computes_the_same_entropy() -> None:
    maps = maps_of(5, 13, 13, ties=True) + np.float32(1e-3)
    metric = peer("quantus").Complexity(abs=True, normalise=False, disable_warnings=True)
    theirs = metric.evaluate_batch(x_batch=maps, a_batch=maps.copy())  # it writes into them
    ours = (1 - extent(maps)["extent.entropy"].numbers) * np.log(169)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_quantus_computes_the_same_rank_correlation() -> None:
    correlation = peer("quantus").correlation_spearman
    maps = maps_of(4, 2, 13, 13)
    theirs = [correlation(one.ravel(), two.ravel()) for one, two in maps]
    ours = contrast(maps, np.array([[1, 0]] * 4))["contrast"].numbers
    np.testing.assert_allclose(ours[:, 0], theirs, atol=1e-5)
