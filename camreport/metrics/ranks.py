"""Ranks, rank correlations and orders along the last axis.

Values are finite: what is not has no rank, and who calls says what that means.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-6
"""How far values of float32 may be apart by rounding, as a share of the greatest of all."""


def average_ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the ranks of values along the last axis, from 1; equal values share their average.

    Args:
        values: ``(..., n)``, finite.

    Example:
        >>> average_ranks(np.array([3, 1, 3]))
        array([2.5, 1. , 2.5])
    """
    count = values.shape[-1]
    order, ordered = _sorted(values)
    begins = np.ones(values.shape, dtype=bool)
    np.not_equal(ordered[..., 1:], ordered[..., :-1], out=begins[..., 1:])
    first = np.flatnonzero(begins)
    sizes = np.diff(first, append=values.size)
    shared = np.repeat(first % count + (sizes + 1) / 2, sizes)
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, shared.reshape(values.shape), -1)
    return ranks


def _sorted(values: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the order of values along the last axis, and keys that are equal as they are.

    Numbers of 32 bits are sorted together with their places, as whole numbers of 64 bits in the
    same order: many equal values, as of maps after a ReLU, then take no more time than others.
    """
    if values.dtype != np.float32:
        order = np.argsort(values, -1, kind="stable" if values.itemsize <= 2 else "quicksort")
        return order, np.take_along_axis(values, order, -1)
    bits = (values + np.float32(0)).view(np.int32)  # -0 becomes 0
    keys = (bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))).astype(np.int64)
    keys = keys << 32 | np.arange(values.shape[-1])
    keys.sort(-1)
    return keys & 0xFFFFFFFF, keys >> 32


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


def settled(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return values of which those are equal that differ by no more than rounding.

    Sorted, values are split where neighbours are further apart than ``ROUNDING`` times the greatest
    magnitude. Those that stay together become equal, unless together they span more than four times
    as much: then they are dense, and no rounding of one value.

    Args:
        values: of any shape, finite.

    Example:
        >>> settled(np.array([1.0, 0.5, 1.00000001, 0.0]))
        array([1. , 0.5, 1. , 0. ])
    """
    distinct, places = np.unique(values, return_inverse=True)
    distinct = distinct.astype(np.float64)
    near = ROUNDING * np.abs(distinct).max(initial=0)
    starts = np.flatnonzero(np.diff(distinct, prepend=-np.inf) > near)
    widths = distinct[np.append(starts[1:], len(distinct)) - 1] - distinct[starts]
    chain = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(distinct)))
    joined = np.where(widths[chain] <= 4 * near, distinct[starts][chain], distinct)
    return np.asarray(joined[places].reshape(values.shape), dtype=np.float64)


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
