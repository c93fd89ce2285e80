"""Numbers of each image, column by column, for the page and for tables."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from camreport.insight.cache import numbered_images
from camreport.insight.corners import masses
from camreport.insight.numbers import ShardNumbers
from camreport.methods import METHODS
from camreport.metrics.grids import GRID
from camreport.results.reader import Results

DIGITS = 3
"""Digits of a number after the point."""

Column = list[float | None]
"""A number of each readable image, in their order; None where it is not defined."""


def image_columns(results: Results, layer: str, repeats: Collection[str] = ()) -> dict[str, Column]:
    """Return numbers of the maps of the images' predicted classes at one layer.

    Args:
        results: an open results folder.
        layer: address of the layer.
        repeats: keys of the methods that repeat another's maps, as far as they are known: their
            numbers would count twice.

    Returns:
        ``area.<method>`` for each method with maps there, as in ``ShardNumbers``; ``disagreement``,
        1 minus the median rank correlation of each two class-specific methods there, 0..2;
        ``overlap``, the median intersection over union of their highest fifths, 0..1; and
        ``margin``.

    Raises:
        ResultsError: a shard without numbers of its own is missing or damaged.
    """
    return joined(columns_of(numbers, layer, repeats) for numbers, _ in numbered_images(results))


def joined(parts: Iterable[dict[str, Column]]) -> dict[str, Column]:
    """Return the columns of several parts of the images one after the other."""
    parts = [*parts]
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: [own for part in parts for own in part[name]] for name in names}


def columns_of(
    numbers: ShardNumbers, layer: str, repeats: Collection[str] = ()
) -> dict[str, Column]:
    """Return the columns of some images."""
    areas = {
        f"area.{key.method}": numbers.of_predicted(area, key)
        for key, area in zip(numbers.keys, numbers.area, strict=True)
        if key.layer == layer and key.method not in repeats
    }
    pairs = [
        place
        for place, pair in enumerate(numbers.pairs)
        if pair[0].layer == layer
        and all(METHODS[key.method].per_class and key.method not in repeats for key in pair)
    ]
    columns = {
        **areas,
        "disagreement": 1 - _median_of_pairs(numbers, numbers.correlation, pairs),
        "overlap": _median_of_pairs(numbers, numbers.overlap, pairs),
        "margin": numbers.margin,
    }
    return {name: rounded(values) for name, values in columns.items()}


def placement_columns(results: Results) -> dict[str, Column]:
    """Return how each image's map lies on the picture: that of its predicted class, shown first.

    Returns:
        Of the first method at the last layer ``border.<method>``, the fraction of the map's sum in
        the two outermost rows and columns of 14 × 14, 0..1; and ``deviation.<method>``, 1 minus the
        cosine of the map and the mean map of the class, 0..1. None without positive evidence.

    Raises:
        ResultsError: a shard without numbers of its own is missing or damaged.
    """
    key = results.manifest.glance
    sums: dict[int, NDArray[np.int64]] = {}
    for predicted, where in _placed(results):
        for own in np.unique(predicted).tolist():
            added = where[predicted == own].sum(0, dtype=np.int64)
            sums[own] = sums.get(own, 0) + added
    border, deviation = [np.zeros(0)], [np.zeros(0)]
    for predicted, where in _placed(results):
        border.append(masses(where)[:, 0])
        means = np.stack([sums[own] for own in predicted.tolist()])
        deviation.append(1 - _cosine(where, means))
    return {
        f"border.{key.method}": rounded(np.concatenate(border).astype(np.float32)),
        f"deviation.{key.method}": rounded(np.concatenate(deviation).astype(np.float32)),
    }


def _placed(results: Results) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Yield predicted classes ``(n,)`` and the maps shown first ``(n, 14, 14)``, by shard."""
    key = results.manifest.glance
    for numbers, _ in numbered_images(results):
        found = [numbers.where[place] for place, own in enumerate(numbers.keys) if own == key]
        shape = len(numbers.predicted), GRID, GRID
        yield numbers.predicted, found[0] if found else np.zeros(shape, np.uint8)


def _cosine(where: NDArray[np.uint8], means: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the cosines of maps and means ``(n, 14, 14)``, at most 1; NaN for a map of zeros."""
    one, other = (own.reshape(len(own), -1).astype(np.float64) for own in (where, means))
    lengths = np.sqrt((one * one).sum(1) * (other * other).sum(1))
    found = (one * other).sum(1) / np.where(lengths > 0, lengths, 1)
    return np.where(lengths > 0, np.minimum(found, 1), np.nan)


def _median_of_pairs(
    numbers: ShardNumbers, values: NDArray[np.float32], pairs: Sequence[int]
) -> NDArray[np.float32]:
    """Return the median over some of the pairs of methods of ``(Q, n, K)`` values, ``(n,)``."""
    found = [numbers.of_predicted(values[place], *numbers.pairs[place]) for place in pairs]
    if not found:
        return np.full(len(numbers.slot), np.nan, np.float32)
    ordered = np.sort(found, axis=0)  # what is not defined comes last
    defined = np.isfinite(ordered).sum(0)
    middle = np.stack([np.maximum(defined - 1, 0) // 2, defined // 2]) * (defined > 0)
    median: NDArray[np.float32] = np.take_along_axis(ordered, middle, 0).mean(0)
    return median


def rounded(values: NDArray[np.float32]) -> Column:
    """Return numbers with three digits after the point, None in place of NaN.

    Equal ones are one object, or those of a million images would take 32 bytes each.
    """
    return [
        _shared(round(value, DIGITS)) if np.isfinite(value) else None for value in values.tolist()
    ]


@lru_cache(maxsize=10_000)
def _shared(value: float) -> float:
    return value
