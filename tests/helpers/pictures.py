"""What the browser has to paint, in numpy: a map's own pixels and its contour lines."""

import numpy as np
from numpy.typing import NDArray

from camreport.report.heatmap import ZERO, QuantisedCam, colour_table, shade

CONTOURS = (0.25, 0.5, 0.75)
"""Shares of the scale at which contours run."""


def heat_pixels(
    cam: QuantisedCam,
    height: int,
    width: int,
    *,
    colormap: str = "inferno",
    scale: float | None = None,
    threshold: float = 0.0,
    smooth: bool = True,
    opacity: float = 0.9,
    by_value: bool = True,
    lift: bool = False,
) -> NDArray[np.uint8]:
    """Return a map's own picture, before it is laid over a photograph.

    Args:
        cam: the quantised map.
        height: of the result, in pixels.
        width: of the result, in pixels.
        colormap: one of ``COLORMAPS``; a signed map always takes the diverging one.
        scale: as for ``shade``.
        threshold: as for ``shade``.
        smooth: as for ``shade``.
        opacity: of the largest value, 0..1.
        by_value: the larger a value (by magnitude), the less transparent.
        lift: opacity follows the value to the power of 0.6.

    Returns:
        RGBA uint8 ``(H, W, 4)``; zero in every channel where nothing is drawn.

    Raises:
        MethodError: no such colour map.
    """
    index, visible = shade(cam, height, width, scale=scale, threshold=threshold, smooth=smooth)
    strength = np.abs(index.astype(np.float64) - ZERO) / ZERO if cam.signed else index / 255
    shown = np.ones(index.shape) if not by_value else strength**0.6 if lift else strength
    alpha = np.floor(opacity * shown * 255 + 0.5)
    table = colour_table("diverging" if cam.signed else colormap)
    pixels = np.dstack([table[index], alpha.astype(np.uint8)])
    drawn: NDArray[np.uint8] = pixels * visible[..., None].astype(np.uint8)
    return drawn


def contour_lines(
    index: NDArray[np.uint8], signed: bool = False
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the two sides of the lines at 25, 50 and 75 % of a map's colours.

    Args:
        index: the colour table's indices ``(H, W)``, as ``shade`` returns them.
        signed: lines at these shares of the magnitude, for and against.

    Returns:
        Pixels within that have a neighbour without, and pixels without that have one within.
    """
    strength = np.abs(index.astype(np.int64) - ZERO) if signed else index.astype(np.int64)
    inner = np.zeros(index.shape, dtype=np.bool_)
    outer = np.zeros(index.shape, dtype=np.bool_)
    for share in CONTOURS:
        within = strength >= share * (ZERO if signed else 255)
        edged = np.pad(within, 1, mode="edge")
        beside = [edged[:-2, 1:-1], edged[2:, 1:-1], edged[1:-1, :-2], edged[1:-1, 2:]]
        inner |= within & ~np.logical_and.reduce(beside)
        outer |= ~within & np.logical_or.reduce(beside)
    return inner, outer & ~inner
