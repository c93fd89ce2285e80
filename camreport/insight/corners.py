"""Where on the picture a map's mass lies: at the border, and in each corner."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from camreport.metrics.grids import GRID

BORDER = 2
"""Cells from each side of the common grid that are the border: 49 % of the picture."""

SIDE = 5
"""Cells of the sides of a corner: an eighth of the picture."""

Corner = Literal["upper-left", "upper-right", "lower-left", "lower-right"]
CORNERS: tuple[Corner, ...] = get_args(Corner)


def _regions() -> NDArray[np.int64]:
    """Return which cells are of the border, and of each corner, ``(5, 14, 14)``: 1, else 0."""
    regions = np.zeros((1 + len(CORNERS), GRID, GRID), np.int64)
    regions[0] = 1
    regions[0, BORDER:-BORDER, BORDER:-BORDER] = 0
    first, last = slice(SIDE), slice(GRID - SIDE, GRID)
    for own, (rows, columns) in zip(
        regions[1:], [(first, first), (first, last), (last, first), (last, last)], strict=True
    ):
        own[rows, columns] = 1
    return regions


REGIONS = _regions().reshape(1 + len(CORNERS), -1)


def masses(where: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the fractions of maps' sums that lie at the border and in each corner, ``(n, 5)``.

    Args:
        where: uint8 ``(n, 14, 14)``, as in ``ShardNumbers``.

    Returns:
        The border first, then ``CORNERS``, each 0..1; NaN for a map of zeros.
    """
    flat = where.reshape(len(where), GRID * GRID).astype(np.int64)
    total = flat.sum(1, keepdims=True)
    return np.where(total > 0, flat @ REGIONS.T / np.maximum(total, 1), np.nan)
