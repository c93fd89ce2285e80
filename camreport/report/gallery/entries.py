"""A map as the page takes it: an entry that says what it is, and its bytes among all others."""

import base64
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camreport.images.pixels import jpeg_bytes
from camreport.report.appearance import appearance
from camreport.report.gallery.contrast import CONTRAST
from camreport.report.heatmap import State, quantise, signed_picture
from camreport.results.reader import MapRecord, Record
from camreport.results.schema import FUSED

SALIENCY_SIDE = 112
"""Longer side, in cells, at which heat maps on the input's grid are shipped."""


@dataclass(frozen=True)
class MapEntry:
    """The page's entry for one map, without its bytes.

    Attributes:
        method: key of the method.
        layer: address of the layer.
        rank: slot of its class among those explained, or ``CONTRAST``.
        height: of the map as it is shipped, in cells.
        width: likewise.
        grid: height and width of the raw map, in cells.
        peak: the value of the highest level.
        largest: the largest raw value, by magnitude where it is signed; 0 if none is positive.
        base: the value that is drawn as zero.
        state: ``positive``, ``empty`` or ``undefined``.
        signed: whether negative values are drawn.
        own: whether it shares no scale with others.
        picture: address of a picture, of a map in colours.
        offset: where its bytes begin; None where there is nothing to draw.
        channel: which one it is, of a method that keeps channels apart.
    """

    method: str
    layer: str
    rank: int
    height: int
    width: int
    grid: tuple[int, ...]
    peak: float
    largest: float
    base: float
    state: State
    signed: bool
    own: bool
    picture: str | None = None
    offset: int | None = None
    channel: int | None = None

    def to_json(self) -> Record:
        """Return the entry for the page, without what it does not have."""
        return {key: value for key, value in vars(self).items() if value is not None}


@dataclass
class Levels:
    """Collects the bytes of maps and says where each lies."""

    parts: list[bytes] = field(default_factory=list)
    length: int = 0

    def add(self, levels: NDArray[np.uint8]) -> int:
        """Add the bytes of one map, and return where they begin."""
        offset = self.length
        self.parts.append(levels.tobytes())
        self.length += levels.size
        return offset


def map_entry(record: MapRecord, levels: Levels, map_side: int | None) -> MapEntry:
    """Return a map's entry, and add its bytes to the levels."""
    method, shown = record.method, appearance(record)
    side = SALIENCY_SIDE if method.grid == "input" else map_side
    quantised = quantise(smaller(shown.drawn, side), method.values == "signed")
    positive = quantised.state == "positive"
    return MapEntry(
        method=method.key,
        layer=record.layer,
        rank=record.slot,
        height=quantised.levels.shape[0],
        width=quantised.levels.shape[1],
        grid=shown.cam.shape,
        peak=quantised.peak,
        largest=_largest(shown.cam, method.values == "signed") if positive else 0.0,
        base=shown.base,
        state=quantised.state,
        signed=quantised.signed,
        own=_is_on_its_own(record),
        picture=None if shown.colours is None else _picture(shown.colours),
        offset=levels.add(quantised.levels) if positive and shown.colours is None else None,
        channel=shown.channel,
    )


def _is_on_its_own(record: MapRecord) -> bool:
    """Return whether a map shares no scale with others."""
    method = record.method
    apart = method.grid == "input" or method.values == "relative"
    return apart or record.layer == FUSED or record.slot == CONTRAST


def data_uri(jpeg: bytes) -> str:
    """Return a picture as an address that needs no file."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def _largest(cam: NDArray[np.float32], signed: bool) -> float:
    """Return a raw map's largest value, by magnitude if it is signed."""
    return float(np.abs(cam).max() if signed else cam.max())


def smaller(cam: NDArray[np.float32], side: int | None) -> NDArray[np.float32]:
    """Average a map down to what the page needs of it."""
    longer = max(cam.shape)
    if side is None or longer <= side:
        return cam
    size = [max(1, round(length * side / longer)) for length in cam.shape]
    smaller: NDArray[np.float32] = cv2.resize(cam, size[::-1], interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return smaller


def _picture(saliency: NDArray[np.float32]) -> str:
    """Return a map of colours ``(3, H, W)`` as a picture's address."""
    return data_uri(jpeg_bytes(Image.fromarray(signed_picture(saliency)), quality=75))
