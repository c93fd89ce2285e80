"""Maps on another grid: bilinear where it is finer, the average of an area where it is coarser.

Every element is computed by the same few operations in float64 whatever the number of maps, so
that equal maps give equal bytes on every machine.
"""

import numpy as np
from numpy.typing import NDArray

GRID = 14
"""Cells of a side of the common grid on which maps of all layers are averaged and compared."""

AREA_GRID = 56
"""Least number of cells of a side of the grid on which areas are measured."""


Span = tuple[float, float]
"""Where a stretch of an axis begins and ends, as fractions of its length."""

WHOLE: Span = (0.0, 1.0)


def enlarged(values: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Interpolate ``(..., h, w)`` to ``(..., height, width)``: bilinear, half-pixel centres.

    The same as ``torch.nn.functional.interpolate(..., align_corners=False)``, in float64.
    """
    return _interpolated(_interpolated(values, width, -1), height, -2)


def resampled(values: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Bring ``(..., h, w)`` to ``(..., height, width)``: each axis is averaged or interpolated.

    A cell of a coarser grid takes the average of the area it covers, with cells that it covers
    in part counted in part.
    """
    for axis, side in ((-2, height), (-1, width)):
        if values.shape[axis] > side:
            values = _averaged(values, side, axis)
    return enlarged(values, height, width)


def windowed(
    values: NDArray[np.float64], rows: Span, columns: Span, height: int, width: int
) -> NDArray[np.float64]:
    """Bring a part of maps ``(..., h, w)`` to ``(..., height, width)``, as ``resampled`` does.

    Args:
        values: the maps.
        rows: where the part begins and ends from top to bottom.
        columns: likewise from left to right.
        height: rows of the grid.
        width: its columns.
    """
    for axis, side, span in ((-2, height, rows), (-1, width, columns)):
        coarser = values.shape[axis] * (span[1] - span[0]) > side
        values = (_averaged if coarser else _interpolated)(values, side, axis, span)
    return values


def _averaged(
    values: NDArray[np.float64], target: int, axis: int, span: Span = WHOLE
) -> NDArray[np.float64]:
    """Average along one axis over ``target`` stretches of equal length of a span."""
    values = np.moveaxis(values, axis, -1)
    source = values.shape[-1]
    part = source * (span[1] - span[0])
    bounds = np.arange(target + 1) * part / target + source * span[0]
    whole = np.minimum(bounds.astype(np.intp), source - 1)
    before = np.zeros_like(values)
    np.cumsum(values[..., :-1], axis=-1, out=before[..., 1:])
    until = before[..., whole] + values[..., whole] * (bounds - whole)
    return np.moveaxis(np.diff(until, axis=-1) * (target / part), -1, axis)


def _interpolated(
    values: NDArray[np.float64], target: int, axis: int, span: Span = WHOLE
) -> NDArray[np.float64]:
    """Interpolate a span of one axis, -1 or -2: each target takes two neighbours, weighted."""
    source = values.shape[axis]
    centres = (np.arange(target) + 0.5) * (source * (span[1] - span[0])) / target
    position = np.clip(centres - 0.5 + source * span[0], 0, source - 1)
    first = np.floor(position).astype(np.intp)
    along = (position - first).reshape(-1, *[1] * (-1 - axis))
    found: NDArray[np.float64] = np.take(values, first, axis)
    found *= 1 - along
    second = np.take(values, np.minimum(first + 1, source - 1), axis)
    second *= along
    found += second
    return found
