"""How a map is drawn, and over which part of a photograph: for page, sheets, figures and tables.

raw map ─▶ strongest channel ─▶ colours apart ─▶ from its base up ─▶ 8 bits, or overlay
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from camreport.images.preprocessing import Preprocessing
from camreport.insight.drawn import drawn
from camreport.methods import Method
from camreport.report.heatmap import QuantisedCam, overlay, quantise, signed_picture
from camreport.results.reader import MapRecord
from camreport.results.schema import ImageEntry

Part = tuple[float, float, float, float]
"""Left, top, right and bottom of a rectangle, as fractions of a photograph."""


@dataclass(frozen=True)
class Appearance:
    """The part of a raw map that is drawn.

    Attributes:
        method: whose it is.
        cam: ``(h, w)``; of a map in colours the strongest one at each pixel.
        base: the value that is drawn as zero: the least one where only differences mean something.
        channel: which one it is, of a method that keeps channels apart.
        colours: ``(3, H, W)``, of a map with one value per colour and pixel.
    """

    method: Method
    cam: NDArray[np.float32]
    base: float = 0.0
    channel: int | None = None
    colours: NDArray[np.float32] | None = None

    @property
    def drawn(self) -> NDArray[np.float32]:
        """The map from its base up."""
        return self.cam - np.float32(self.base)

    @property
    def quantised(self) -> QuantisedCam:
        """The drawn map in 8 bits."""
        return quantise(self.drawn, self.method.values == "signed")


def appearance(record: MapRecord) -> Appearance:
    """Return the part of a map that is drawn."""
    method, shown = record.method, drawn(record.cam, record.method)
    in_colours = record.cam.ndim == 3 and not method.per_channel
    return Appearance(
        method,
        shown.cams,
        float(shown.base),
        None if shown.channel is None else int(shown.channel),
        record.cam if in_colours else None,
    )


def seen_part(preprocessing: Preprocessing, image: ImageEntry) -> Part:
    """Return which part of a readable image the model saw."""
    return preprocessing.seen_part(*image.size)


def drawn_over(photo: NDArray[np.uint8], shown: Appearance, seen: Part) -> NDArray[np.uint8]:
    """Return a photograph with a map over what the model saw of it; the rest is dark.

    Args:
        photo: RGB ``(H, W, 3)``.
        shown: of the map.
        seen: which part of the photograph the map belongs to.
    """
    height, width = photo.shape[:2]
    rows = slice(round(seen[1] * height), round(seen[3] * height))
    columns = slice(round(seen[0] * width), round(seen[2] * width))
    picture = photo // 3
    if shown.colours is not None:
        size = (columns.stop - columns.start, rows.stop - rows.start)
        picture[rows, columns] = cv2.resize(signed_picture(shown.colours), size)
    else:
        signed = shown.method.values == "signed"
        picture[rows, columns] = overlay(photo[rows, columns], shown.drawn, signed=signed)
    return picture


def format_probability(probability: float) -> str:
    """Return a probability with two digits, or a bound where that would claim certainty."""
    if probability < 0.005:
        return "< 0.01"
    return "> 0.99" if probability > 0.995 else f"{probability:.2f}"
