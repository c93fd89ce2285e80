"""Ranks, rank correlation and orders along the last axis, against scipy."""

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from camreport.metrics.ranks import (
    average_ranks,
    descending_order,
    settled,
    spearman,
    tied_share,
    unit_ranks,
)

KINDS = {
    "distinct": lambda random: random.normal(size=(3, 4, 50)),
    "tied": lambda random: random.integers(0, 8, (3, 4, 50)).astype(np.float32),
    "mostly zero": lambda random: np.maximum(random.normal(-1, 1, (3, 4, 50)), 0),
    "small whole numbers": lambda random: random.integers(0, 200, (3, 4, 50)).astype(np.uint16),
    "both zeros": lambda random: random.choice([-0.0, 0.0, 1.0], (3, 4, 50)),
}

every_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


@every_kind
def test_average_ranks_are_scipys(make) -> None:
    values = make(np.random.default_rng(0))
    np.testing.assert_array_equal(average_ranks(values), rankdata(values, axis=-1))


@every_kind
def test_rank_correlation_is_scipys(make) -> None:
    one, other = (make(np.random.default_rng(seed)) for seed in (0, 1))
    expected = [spearmanr(a, b).statistic for a, b in zip(one[0], other[0], strict=True)]
    np.testing.assert_allclose(spearman(one, other)[0], expected, atol=1e-12)


def test_many_are_compared_with_many_by_one_product_of_unit_ranks() -> None:
    values = np.random.default_rng(0).normal(size=(5, 30))
    ranks = unit_ranks(values)
    np.testing.assert_allclose(ranks @ ranks.T, spearmanr(values, axis=1).statistic, atol=1e-12)


def test_rank_correlation_with_a_constant_is_undefined() -> None:
    values = np.random.default_rng(0).normal(size=(2, 9))
    assert np.isnan(spearman(values, np.ones(9))).all()
    assert np.isnan(spearman(np.ones((2, 9)), values)).all()
    np.testing.assert_array_equal(unit_ranks(np.ones((2, 9))), np.zeros((2, 9)))


def test_an_order_puts_the_greatest_first_and_is_drawn_where_values_tie() -> None:
    values = np.array([[0, 3, 0, 5, 0, 3]] * 2, np.float32)
    orders = {tuple(descending_order(values, seed)[0]) for seed in range(60)}
    assert {order[0] for order in orders} == {3}
    assert {frozenset(order[1:3]) for order in orders} == {frozenset({1, 5})}
    assert {order[1] for order in orders} == {1, 5}
    assert {order[-1] for order in orders} == {0, 2, 4}
    one = descending_order(values, 7)
    np.testing.assert_array_equal(one, descending_order(values, 7))
    np.testing.assert_array_equal(one[0], one[1])


def test_an_order_of_distinct_values_does_not_depend_on_the_seed() -> None:
    values = np.random.default_rng(0).normal(size=(3, 40))
    for seed in range(3):
        np.testing.assert_array_equal(descending_order(values, seed), np.argsort(-values, -1))


@pytest.mark.parametrize(
    ("values", "share"), [([1, 2, 3, 4], 0), ([1, 1, 3, 4], 0.5), ([2, 2, 2, 2], 1), ([5], 0)]
)
def test_the_tied_share_counts_every_value_that_another_one_equals(values, share) -> None:
    assert tied_share(np.array(values)) == share


@pytest.mark.parametrize(
    "values",
    [
        np.float32([[-0.0, 0.0, 1e-45, -1e-45, 3e38, -3e38, 0.0]]),
        np.random.default_rng(0).standard_normal((3, 4, 50)).astype(np.float32),
        np.random.default_rng(1).integers(-3, 3, (5, 60)).astype(np.float32),
        np.random.default_rng(2).standard_normal((4, 8)).astype(np.float32)[:, ::-1],
        np.zeros((2, 1), np.float32),
    ],
    ids=["extremes", "different", "equal", "reversed", "single"],
)
def test_ranks_of_numbers_of_32_bits_are_scipys(values):
    assert (average_ranks(values) == rankdata(values, axis=-1)).all()


def test_values_that_differ_by_rounding_alone_are_settled_and_dense_ones_stay() -> None:
    random = np.random.default_rng(0)
    plateau = np.repeat(random.normal(size=40), 20)
    shaken = plateau * (1 + random.uniform(-1e-7, 1e-7, plateau.shape))
    found = settled(shaken.astype(np.float32))
    assert len(np.unique(found)) == 40
    np.testing.assert_array_equal(average_ranks(found), average_ranks(plateau))
    dense = np.append(np.linspace(0, 1e-4, 4000), 1.0)
    np.testing.assert_array_equal(settled(dense), dense)
    np.testing.assert_array_equal(settled(np.zeros((2, 3))), np.zeros((2, 3)))
