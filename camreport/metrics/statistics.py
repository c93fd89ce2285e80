"""What numbers of many images say together: medians, how sure they are, and what is told apart.

Nothing here is added up over questions, and nothing is ordered that too few images speak for.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

MIN_ORDERED = 30
"""Least number of images of which an order is printed."""

DRAWS = 2000
"""Number of times that the images are drawn again."""

CONFIDENCE = 0.95
"""Share of the draws whose medians lie in an interval."""

MAX_ROWS = 256
"""Number of medians whose draws are in memory at once."""


@dataclass(frozen=True)
class Medians:
    """Medians over images, with how far they depend on which images these are.

    Attributes:
        count: int64, images with a number.
        median: float64; NaN without an image.
        low: float64, lower end of the bootstrap interval; NaN under two images.
        high: float64, upper end of the bootstrap interval; NaN under two images.
    """

    count: NDArray[np.int64]
    median: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def medians(numbers: NDArray[np.floating], seed: int) -> Medians:
    """Return medians over the last axis with their bootstrap 95 % intervals.

    The images are drawn again 2,000 times, with replacement; the interval holds the middle 95 %
    of the medians of these draws. For paired differences hand over the differences: each image
    then keeps its pair.

    Args:
        numbers: ``(..., n)``, one for each image; NaN where there is none.
        seed: of the draws.

    Returns:
        arrays ``(...)``.

    Source: Efron, Bootstrap Methods: Another Look at the Jackknife, 1979,
        https://doi.org/10.1214/aos/1176344552
    """
    ordered = np.sort(numbers, -1).astype(np.float64)  # NaN comes last
    count = np.asarray((~np.isnan(ordered)).sum(-1))
    found = np.full((3, *count.shape), np.nan)
    for size in map(int, np.unique(count[count > 0])):
        own = count == size
        rows = ordered[own]
        found[0, own] = (rows[:, (size - 1) // 2] + rows[:, size // 2]) / 2
        if size > 1:
            parts = np.array_split(rows, -(-len(rows) // MAX_ROWS))
            found[1:, own] = np.concatenate([_interval(part, size, seed) for part in parts], -1)
    return Medians(count, *found)


def _interval(rows: NDArray[np.float64], count: int, seed: int) -> NDArray[np.float64]:
    """Return the ends ``(2, R)`` of the intervals of ordered rows with ``count`` numbers each."""
    lower, upper = _middle_places(count, seed)
    ends = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
    return np.quantile((rows[:, lower] + rows[:, upper]) / 2, ends, axis=-1)


@lru_cache(maxsize=256)
def _middle_places(count: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Draw ``count`` of as many values ``DRAWS`` times; return the places of the middle ones.

    A draw's value with the k-th place among ordered ones stands at floor(n u), u the k-th of n
    uniform numbers. That is Beta(k, n + 1 - k), and what follows it is the least of n - k uniform
    numbers above it: so it takes two numbers, and not n, to draw both exactly.

    Returns:
        places ``(DRAWS,)`` of the two middle values among the ordered values; the same where
        ``count`` is odd.
    """
    random = np.random.default_rng([seed, count])
    middle = (count + 1) // 2
    first = random.beta(middle, count + 1 - middle, DRAWS)
    second = first
    if count % 2 == 0:
        second = 1 - (1 - first) * (1 - random.random(DRAWS)) ** (1 / (count - middle))
    lower, upper = ((count * each).astype(np.intp) for each in (first, second))
    return np.minimum(lower, count - 1), np.minimum(upper, count - 1)


def told_apart(
    best: NDArray[np.floating],
    other: NDArray[np.floating],
    better: Literal["high", "low"],
    seed: int,
) -> bool | None:
    """Return whether the best of a column is told apart from another by the images of both.

    Args:
        best: ``(n,)``, one for each image; NaN where there is none.
        other: ``(n,)``, of the same images.
        better: which end is better.
        seed: of the draws.

    Returns:
        True where the 95 % interval of the median of the paired differences lies wholly on the
        side of the best, False where it does not; None under 30 images with both, where nothing
        is ordered.
    """
    differences = np.subtract(best, other, dtype=np.float64)
    if better == "low":
        differences = -differences
    if np.count_nonzero(~np.isnan(differences)) < MIN_ORDERED:
        return None
    return bool(medians(differences, seed).low > 0)


def beats(
    numbers: NDArray[np.floating],
    controls: NDArray[np.floating],
    better: Literal["high", "low"],
) -> tuple[int, int]:
    """Return of how many images a number is better than that of every control.

    Args:
        numbers: ``(n,)``, one for each image; NaN where there is none.
        controls: ``(controls, n)``, of the same images.
        better: which end is better.

    Returns:
        on how many images it is, and how many there are with a number and one of every control.

    Example:
        >>> beats(np.array([0.9, 0.2, np.nan]), np.array([[0.5, 0.5, 0.5]]), "high")
        (1, 2)
    """
    sign = 1 if better == "high" else -1
    defined = ~(np.isnan(numbers) | np.isnan(controls).any(0))
    wins = (sign * numbers > sign * controls).all(0) & defined
    return int(wins.sum()), int(defined.sum())
