"""Ranks, rank correlations and orders along the last axis.

Values are finite: what is not has no rank, and who calls says what that means.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def average_ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the ranks of values along the last axis, from 1; equal values share their average.

    Args:
        values: ``(..., n)``, finite.

    Example:
        >>> average_ranks(np.array([3, 1, 3]))
        array([2.5, 1. , 2.5])
    """
    # Equal values share a rank, so the faster sort for their width gives the same ranks.
    order = np.argsort(values, -1, kind="stable" if values.itemsize <= 2 else "quicksort")
    ordered = np.take_along_axis(values, order, -1)
    places = np.arange(values.shape[-1])
    steps = ordered[..., 1:] != ordered[..., :-1]
    first, last = np.zeros_like(order), np.full_like(order, places[-1])
    first[..., 1:] = np.where(steps, places[1:], 0)
    last[..., :-1] = np.where(steps, places[:-1], places[-1])
    first = np.maximum.accumulate(first, -1)
    last = np.minimum.accumulate(last[..., ::-1], -1)[..., ::-1]
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, -1)
    return ranks


def unit_ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return average ranks around zero, scaled to length 1 along the last axis.

    The scalar product of two of them is Spearman's rank correlation, so that many things are
    compared with many by one matrix product. All zeros where values are constant.

    Args:
        values: ``(..., n)``, finite.
    """
    ranks = average_ranks(values)
    ranks -= (values.shape[-1] + 1) / 2
    length = np.sqrt((ranks * ranks).sum(-1, keepdims=True))
    return ranks / np.where(length > 0, length, 1)


def spearman(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """Return Spearman's rank correlation with average ranks along the last axis, -1..1.

    Args:
        one: ``(..., n)``, finite.
        other: of a shape that broadcasts with it.

    Returns:
        ``(...)``; NaN where one of the two is constant.

    Source: Spearman, The proof and measurement of association between two things, 1904.

    Example:
        >>> float(spearman(np.array([1, 2, 3]), np.array([1, 10, 100])).round(6))
        1.0
    """
    first, second = unit_ranks(one), unit_ranks(other)
    defined = first.any(-1) & second.any(-1)
    return np.where(defined, np.clip((first * second).sum(-1), -1, 1), np.nan)


def descending_order(values: NDArray[Any], seed: int) -> NDArray[np.intp]:
    """Return the indices of values along the last axis, greatest first; ties in random order.

    Args:
        values: ``(..., n)``, finite.
        seed: of the order of ties, the same for everything along the other axes.
    """
    shuffled = np.random.default_rng(seed).permutation(values.shape[-1])
    return shuffled[np.argsort(-values[..., shuffled], -1, kind="stable")]


def tied_share(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the fraction of values along the last axis that equal another one, 0..1.

    Args:
        values: ``(..., n)``, finite.
    """
    ordered = np.sort(values, -1)
    tied = np.zeros(values.shape, dtype=bool)
    tied[..., 1:] = ordered[..., 1:] == ordered[..., :-1]
    tied[..., :-1] |= tied[..., 1:]
    return np.asarray(tied.mean(-1), dtype=np.float64)
