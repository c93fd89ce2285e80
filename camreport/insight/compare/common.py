"""Maps of several runs on a common grid over the part of a photograph that all of them saw."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camreport.insight.drawn import drawn
from camreport.insight.numbers import LEVELS, TOP_CELLS
from camreport.metrics.grids import GRID, Span, windowed
from camreport.metrics.ranks import spearman
from camreport.results.reader import MapRecord

Part = tuple[float, float, float, float]
"""Left, top, right and bottom of a rectangle, as fractions of a photograph."""


@dataclass(frozen=True)
class Moves:
    r"""How P maps differ from as many others; NaN where one is empty or undefined.

    Attributes:
        correlation: Spearman's rank correlation, -1..1; NaN also where one is constant.
        overlap: intersection over union of the highest fifths, 0..1; likewise.
        moved: half the sum of \|p - q\|, each map as fractions of its sum, 0..1: the share of the
            evidence that lies elsewhere.
    """

    correlation: NDArray[np.float64]
    overlap: NDArray[np.float64]
    moved: NDArray[np.float64]


def seen_by_all(parts: Sequence[Part]) -> Part | None:
    """Return the part of a photograph that all runs saw; None if there is none."""
    left, top = (max(0.0, *(part[side] for part in parts)) for side in (0, 1))
    right, bottom = (min(1.0, *(part[side] for part in parts)) for side in (2, 3))
    return (left, top, right, bottom) if right > left and bottom > top else None


def on_common_grid(record: MapRecord, seen: Part, common: Part) -> NDArray[np.float64]:
    """Return a map as fractions of its maximum on the common grid, ``(14, 14)``.

    Args:
        record: the map.
        seen: the part of the photograph that the map covers.
        common: the part that the grid covers.

    Returns:
        relu(R) / max(R), of maps in colours the magnitude; zeros if nothing is positive, NaN if a
        value is not finite.
    """
    cam, method = record.cam, record.method
    values = drawn(cam, method).values.astype(np.float64)
    if not np.isfinite(values).all():
        return np.full((GRID, GRID), np.nan)
    in_colours = cam.ndim == 3 and not method.per_channel
    sizes = np.abs(values) if in_colours else np.maximum(values, 0)
    columns, rows = (_span(seen[i], seen[i + 2], common[i], common[i + 2]) for i in (0, 1))
    return windowed(sizes / (sizes.max() or 1), rows, columns, GRID, GRID)


def _span(start: float, stop: float, first: float, last: float) -> Span:
    """Return which part of an interval another one is, as fractions."""
    if (start, stop) == (first, last):
        return 0.0, 1.0
    return (first - start) / (stop - start), (last - start) / (stop - start)


def moves(one: NDArray[np.float64], other: NDArray[np.float64]) -> Moves:
    """Return how maps ``(P, 14, 14)`` on the common grid differ from others."""
    first, second = (maps.reshape(len(maps), -1) for maps in (one, other))
    sums = first.sum(1), second.sum(1)
    known = (sums[0] > 0) & (sums[1] > 0)  # which NaN is not
    found = np.full((3, len(first)), np.nan)
    if known.any():
        a, b = first[known], second[known]
        levels = [np.floor(maps * LEVELS + 0.5).astype(np.uint16) for maps in (a, b)]
        found[0, known] = spearman(*levels)
        found[1, known] = np.where(np.isnan(found[0, known]), np.nan, _overlap(*levels))
        fractions = [maps / maps.sum(1, keepdims=True) for maps in (a, b)]
        found[2, known] = np.abs(fractions[0] - fractions[1]).sum(1) / 2
    return Moves(*found)


def _overlap(one: NDArray[np.uint16], other: NDArray[np.uint16]) -> NDArray[np.float64]:
    """Return the intersection over union of the highest fifths of maps ``(P, 196)``."""
    high, low = (
        levels >= np.maximum(np.sort(levels, -1)[:, -TOP_CELLS], 1)[:, None]
        for levels in (one, other)
    )
    return np.asarray((high & low).sum(1) / np.maximum((high | low).sum(1), 1), np.float64)
