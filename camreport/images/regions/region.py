"""A region of a photograph, and its pixels on the model's input.

Coordinates are pixels of the upright photograph: of the picture as it is shown, after its EXIF
orientation has been applied. The left edge of the first column is 0, right and bottom are
exclusive.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from camreport.images.preprocessing import Box, Preprocessing

COVERED = 0.5
"""The share of a pixel of the model's input that a region covers at least where it holds it."""


@dataclass(frozen=True)
class Outline:
    """The shape of a region.

    Attributes:
        box: around it; the region itself if the two others are empty.
        polygons: x and y of their corners by turns; what lies outside the photograph counts for
            nothing.
        pixels: the mask of the photograph's size, a bit for each pixel, deflated.
    """

    box: Box
    polygons: tuple[tuple[float, ...], ...] = ()
    pixels: bytes = b""


@dataclass(frozen=True)
class Region:
    """Where an object is.

    Attributes:
        outline: its shape.
        classes: the model's classes that it shows; empty if the file does not say.
    """

    outline: Outline
    classes: tuple[int, ...] = ()


@dataclass(frozen=True)
class PhotoRegions:
    """The regions of one photograph, upright.

    Attributes:
        width: of the photograph, in pixels.
        height: likewise.
        regions: in the order of their file.
    """

    width: int
    height: int
    regions: tuple[Region, ...]

    def boxes(self) -> list[tuple[float, float, float, float, int]]:
        """Return left, top, right and bottom of each region as fractions, and its class or -1."""
        across, down = self.width, self.height
        return [
            (
                box.left / across,
                box.top / down,
                box.right / across,
                box.bottom / down,
                region.classes[0] if region.classes else -1,
            )
            for region in self.regions
            for box in [region.outline.box]
        ]

    def mask(self, target: int, preprocessing: Preprocessing) -> NDArray[np.bool_] | None:
        """Return the pixels of the model's input that hold a class, bool ``(H, W)``.

        These are the pixels of all regions with this class, and of all regions without a class. A
        region holds a pixel if it covers half of it; a region too small for that holds the pixel
        that it covers most.

        Args:
            target: index of the class.
            preprocessing: of the model, which may cut edges off.

        Returns:
            None if no region is known of the class; all False if the model sees nothing of them.
        """
        own = [each for each in self.regions if not each.classes or target in each.classes]
        if not own:
            return None
        mask = np.zeros(preprocessing.size, dtype=bool)
        for region in own:
            covered = self._covered(region.outline, preprocessing)
            most = covered.max()
            mask |= covered >= min(COVERED, most) if most > 0 else False
        return mask

    def unseen(self, preprocessing: Preprocessing) -> list[float]:
        """Return the share of each region that lies outside what the model sees, 0 to 1."""
        seen = preprocessing.seen_box(self.width, self.height)
        height, width = preprocessing.size
        pixel = (seen.right - seen.left) * (seen.bottom - seen.top) / (height * width)
        found = []
        for region in self.regions:
            visible = float(self._covered(region.outline, preprocessing).sum()) * pixel
            found.append(1 - min(1.0, visible / self._area(region.outline)))
        return found

    def _covered(self, outline: Outline, preprocessing: Preprocessing) -> NDArray[np.float64]:
        """Return the share of each pixel of the model's input that a region covers, ``(H, W)``."""
        seen = preprocessing.seen_box(self.width, self.height)
        height, width = preprocessing.size
        rows = np.linspace(seen.top, seen.bottom, height + 1)
        columns = np.linspace(seen.left, seen.right, width + 1)
        if not (outline.polygons or outline.pixels):
            box = outline.box
            return np.outer(
                _shares(rows, box.top, box.bottom), _shares(columns, box.left, box.right)
            )
        return _averages(_averages(self._pixels(outline), rows).T, columns).T

    def _pixels(self, outline: Outline) -> NDArray[np.bool_]:
        """Return the photograph's pixels that polygons or a mask hold, ``(height, width)``."""
        if outline.pixels:
            bits = np.frombuffer(zlib.decompress(outline.pixels), np.uint8)
            flat = np.unpackbits(bits, count=self.height * self.width)
            return flat.reshape(self.height, self.width).astype(bool)
        return filled(outline.polygons, self.width, self.height)

    def _area(self, outline: Outline) -> float:
        if outline.polygons or outline.pixels:
            return max(1.0, float(self._pixels(outline).sum()))
        box = outline.box
        return (box.right - box.left) * (box.bottom - box.top)


def masked(mask: NDArray[np.bool_]) -> Outline:
    """Return the shape of a mask ``(height, width)`` that has any pixel."""
    return Outline(_box_of(mask), pixels=zlib.compress(np.packbits(mask).tobytes()))


def filled(polygons: Sequence[Sequence[float]], width: int, height: int) -> NDArray[np.bool_]:
    """Return the pixels of a picture whose centres lie in any of some polygons, bool ``(H, W)``.

    Of a polygon that crosses itself those places count from which a ray crosses its edges an odd
    number of times, as in COCO's own code. Corners may lie outside the picture.

    Args:
        polygons: x and y of their corners by turns.
        width: of the picture, in pixels.
        height: likewise.
    """
    inside = np.zeros((height, width), dtype=bool)
    for corners in polygons:
        x, y = np.reshape(corners, (-1, 2)).astype(np.float64).T
        next_x, next_y = np.roll(x, -1), np.roll(y, -1)
        ends = np.ceil(np.clip(np.stack([y, next_y]) - 0.5, 0, height)).astype(np.int64)
        first, counts = ends.min(0), np.abs(ends[1] - ends[0])  # the rows that each edge crosses
        edge = np.repeat(np.arange(len(x)), counts)
        row = np.arange(len(edge)) - (np.cumsum(counts) - counts - first)[edge]
        crossing = x[edge] + (row + 0.5 - y[edge]) * ((next_x - x)[edge] / (next_y - y)[edge])
        column = np.ceil(np.clip(crossing - 0.5, 0, width)).astype(np.int64)
        top, bottom = ends.min(), ends.max()
        turns = np.zeros((bottom - top, width + 1), dtype=bool)
        np.logical_xor.at(turns, (row - top, column), True)
        inside[top:bottom] |= np.logical_xor.accumulate(turns[:, :-1], axis=1)
    return inside


def box_around(polygons: Sequence[Sequence[float]]) -> Box:
    """Return the box around polygons."""
    xs = [x for corners in polygons for x in corners[::2]]
    ys = [y for corners in polygons for y in corners[1::2]]
    return Box(min(xs), min(ys), max(xs), max(ys))


def _box_of(mask: NDArray[np.bool_]) -> Box:
    """Return the box around the pixels of a mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def _shares(bounds: NDArray[np.float64], first: float, last: float) -> NDArray[np.float64]:
    """Return the share of each stretch between neighbouring bounds that another one covers."""
    inside = np.clip(bounds, first, last)
    return np.diff(inside) / np.diff(bounds)


def _averages(values: NDArray[np.generic], bounds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average rows over stretches between bounds; beyond the rows everything is 0."""
    averages = np.zeros((len(bounds) - 1, values.shape[1]))
    for number, (first, last) in enumerate(pairwise(bounds)):
        rows = np.arange(max(0, math.floor(first)), min(len(values), math.ceil(last)))
        if len(rows):
            weights = np.minimum(rows + 1, last) - np.maximum(rows, first)
            averages[number] = weights @ values[rows[0] : rows[-1] + 1] / (last - first)
    return averages
