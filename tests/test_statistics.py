"""Medians over images, their bootstrap intervals, and what is told apart."""

import numpy as np
import pytest
from scipy.stats import bootstrap, norm

from camreport.metrics.statistics import MIN_ORDERED, _middle_places, beats, medians, told_apart


def skewed(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2, size=count)


@pytest.mark.parametrize("count", [5, 6, 31, 50, 301])
def test_intervals_are_those_of_scipys_bootstrap(count: int) -> None:
    """Two ways to draw agree but for the chance in 2,000 draws: a few ordered values."""
    values = skewed(count)
    found = medians(values, seed=0)
    theirs = bootstrap(
        (values,), np.median, n_resamples=20_000, method="percentile", random_state=1
    ).confidence_interval
    assert found.median == np.median(values)
    spread = np.sort(values)
    for own, other in ((found.low, theirs.low), (found.high, theirs.high)):
        steps = abs(np.searchsorted(spread, own) - np.searchsorted(spread, other))
        assert steps <= max(1, 0.08 * np.sqrt(count))


@pytest.mark.parametrize("count", [2, 3, 8, 25])
def test_the_middle_places_are_distributed_as_those_of_drawn_images(count: int) -> None:
    drawn = np.sort(np.random.default_rng(1).integers(0, count, (40_000, count)), 1)
    plain = drawn[:, (count - 1) // 2], drawn[:, count // 2]
    found = np.concatenate([_middle_places(count, seed) for seed in range(20)], 1)
    for own, other in zip(found, plain, strict=True):
        shares = [np.bincount(each, minlength=count) / 40_000 for each in (own, other)]
        np.testing.assert_allclose(*shares, atol=0.015)
    assert np.mean(found[0] == found[1]) == pytest.approx(np.mean(plain[0] == plain[1]), abs=0.015)


def test_intervals_hold_the_true_median_about_as_often_as_they_say() -> None:
    samples = np.random.default_rng(0).normal(size=(1000, 41))
    found = medians(samples, seed=0)
    covered = np.mean((found.low <= 0) & (found.high >= 0))
    assert covered == pytest.approx(0.95, abs=0.025)
    expected = 2 * 1.96 * np.sqrt(np.pi / 2 / 41)  # of the median of a normal sample
    assert np.mean(found.high - found.low) == pytest.approx(expected, rel=0.1)


def test_the_same_seed_gives_the_same_interval_and_the_order_of_images_none() -> None:
    values = skewed(40)
    one, again = medians(values, 3), medians(values[::-1], 3)
    assert (one.low, one.high) == (again.low, again.high)
    low = {float(medians(values, seed).low) for seed in range(8)}
    assert len(low) > 1


def test_what_has_no_number_is_left_out_and_counted() -> None:
    values = np.full((2, 3, 50), np.nan)
    values[0, 0], values[0, 1, :31], values[0, 2, 7] = skewed(50), skewed(31), 4
    found = medians(values, 0)
    np.testing.assert_array_equal(found.count, [[50, 31, 1], [0, 0, 0]])
    assert found.median[0].tolist() == [np.median(skewed(50)), np.median(skewed(31)), 4]
    alone = medians(skewed(31), 0)
    assert (found.low[0, 1], found.high[0, 1]) == (alone.low, alone.high)
    undefined = np.array([[False, False, True], [True, True, True]])
    np.testing.assert_array_equal(np.isnan(found.low), undefined)
    np.testing.assert_array_equal(np.isnan(found.high), undefined)


def test_intervals_follow_what_keeps_the_order() -> None:
    values = skewed(51)
    plain, changed = medians(values, 0), medians(3 * values - 5, 0)
    assert changed.low == pytest.approx(3 * plain.low - 5)
    assert changed.high == pytest.approx(3 * plain.high - 5)


def test_paired_images_tell_apart_what_their_spreads_do_not() -> None:
    """Two rows that follow the same images: only the pairs show the small difference."""
    random = np.random.default_rng(0)
    images = random.normal(size=60)
    one, other = images + 0.05, images + random.normal(scale=0.02, size=60)
    assert medians(one, 0).low < medians(other, 0).high
    assert told_apart(one, other, "high", 0) is True
    assert told_apart(-one, -other, "low", 0) is True
    assert told_apart(other, one, "high", 0) is False


def test_noise_is_told_apart_about_as_often_as_the_interval_allows() -> None:
    random = np.random.default_rng(0)
    pairs = random.normal(size=(400, 2, 50))
    wrong = np.mean([told_apart(one, other, "high", 0) for one, other in pairs])
    assert wrong <= 0.045  # one side of 95 %: 0.025


@pytest.mark.parametrize("count", [MIN_ORDERED - 1, MIN_ORDERED])
def test_nothing_is_ordered_under_thirty_images_with_both_numbers(count: int) -> None:
    one, other = np.arange(50.0) + 1, np.arange(50.0)
    other[count:] = np.nan
    assert told_apart(one, other, "high", 0) is (None if count < 30 else True)


def test_the_interval_of_a_shift_holds_the_shift() -> None:
    shifts = np.random.default_rng(0).normal(0.3, 1, size=(300, 45))
    found = medians(shifts, 0)
    expected = norm.ppf(0.975) * np.sqrt(np.pi / 2 / 45)
    assert np.mean(found.low > 0) == pytest.approx(norm.cdf((0.3 - expected) / 0.187), abs=0.1)


def test_a_row_beats_the_controls_where_it_is_better_than_each_of_them() -> None:
    own = np.array([0.5, 0.9, 0.2, np.nan, 0.7, 0.4])
    controls = np.array([[0.1, 0.2, 0.3, 0.1, 0.7, np.nan], [0.4, 0.1, 0.1, 0.1, 0.1, 0.1]])
    assert beats(own, controls, "high") == (2, 4)
    assert beats(-own, -controls, "low") == (2, 4)
    assert beats(own, controls, "low") == (0, 4)
