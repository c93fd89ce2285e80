"""Numbers of the same images in two runs: how they differ, and whether the two are told apart."""

from dataclasses import dataclass
from math import exp, fsum, lgamma, log

import numpy as np
from numpy.typing import NDArray

from camreport.metrics.statistics import CONFIDENCE, DRAWS, MIN_ORDERED, medians

SEED = 0
"""Of the draws of images."""


@dataclass(frozen=True)
class Change:
    """How a number of the same images differs between two runs.

    Attributes:
        n: images that have it in both.
        before: its median in the first run; None where n = 0.
        after: its median in the other run; likewise.
        delta: the median of the images' differences; likewise.
        low: lower end of its 95 % interval; None where n < 2.
        high: its upper end; likewise.
    """

    n: int
    before: float | None
    after: float | None
    delta: float | None
    low: float | None
    high: float | None


def mcnemar(gained: int, lost: int) -> float:
    """Return the exact two-sided p-value of McNemar's test.

    Of the images that only one of two runs gets right, each run gets as many by chance: the lesser
    of two counts is as small as it is, or smaller, with twice the binomial probability of that.

    Args:
        gained: images that only the second run gets right.
        lost: images that only the first run gets right.

    Source: McNemar, Note on the sampling error of the difference between correlated proportions or
        percentages, 1947, https://doi.org/10.1007/BF02295996

    Example:
        >>> round(mcnemar(1, 5), 6)
        0.21875
    """
    total, least = gained + lost, min(gained, lost)
    ways = (lgamma(total + 1) - lgamma(k + 1) - lgamma(total - k + 1) for k in range(least + 1))
    return min(1.0, 2 * fsum(exp(each - total * log(2)) for each in ways))


def share_interval(gained: int, lost: int, count: int) -> tuple[float, float]:
    """Return the bootstrap 95 % interval of a difference of two shares of the same images.

    The images are drawn again with replacement, each with its answers in both runs.

    Args:
        gained: images that only the second run gets right.
        lost: images that only the first run gets right.
        count: number of images.
    """
    random = np.random.default_rng([SEED, count])
    shares = [gained / count, lost / count, (count - gained - lost) / count]
    drawn = random.multinomial(count, shares, DRAWS)
    ends = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / count, ends).tolist()
    return low, high


def median_change(before: NDArray[np.floating], after: NDArray[np.floating]) -> Change:
    """Return the paired change of a number from one run to another.

    Args:
        before: ``(n,)``, of each image; NaN where there is none.
        after: ``(n,)``, of the same images in the other run.
    """
    both = ~(np.isnan(before) | np.isnan(after))
    pair = np.stack([before[both], after[both]]).astype(np.float64)
    found = medians(np.stack([*pair, pair[1] - pair[0]]), SEED)
    ends = found.low[2], found.high[2]
    return Change(int(both.sum()), *map(_known, (*found.median.tolist(), *ends)))


def told_apart(change: Change) -> bool | None:
    """Return whether an interval leaves 0 out; None under ``MIN_ORDERED`` images."""
    if change.n < MIN_ORDERED or change.low is None or change.high is None:
        return None
    return change.low > 0 or change.high < 0


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
