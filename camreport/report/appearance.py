"""Maps on photographs: what the report's contact sheet and the exported figures both show."""

import cv2
import numpy as np
from numpy.typing import NDArray

from camreport.images.preprocessing import Preprocessing
from camreport.methods import Method
from camreport.report.heatmap import overlay, signed_picture
from camreport.results.reader import Record

OPACITY = 0.5
"""Of the heat maps, as long as the reader does not change it."""

Share = tuple[float, float, float, float]
"""Left, top, right and bottom of a rectangle, as shares of a photograph."""


def seen_share(manifest: Record, record: Record) -> Share:
    """Return which part of an image the model saw."""
    width, height = record["width"], record["height"]
    box = Preprocessing.from_dict(manifest["preprocessing"]).seen_box(width, height)
    return box.left / width, box.top / height, box.right / width, box.bottom / height


def drawable(cam: NDArray[np.float32], method: Method) -> tuple[NDArray[np.float32], int | None]:
    """Return the map to draw, and of a map per channel the number of the strongest one."""
    if not method.per_channel:
        return cam, None
    channel = int(np.nan_to_num(cam).sum((1, 2)).argmax())
    return cam[channel], channel


def drawn_over(
    photo: NDArray[np.uint8], cam: NDArray[np.float32], seen: Share, method: Method
) -> NDArray[np.uint8]:
    """Return a photograph with a map over what the model saw of it; the rest is dark.

    Args:
        photo: RGB ``(H, W, 3)``.
        cam: raw map ``(h, w)``, or one value per colour and pixel ``(3, h, w)``.
        seen: which part of the photograph the map belongs to.
        method: whose map it is.
    """
    height, width = photo.shape[:2]
    rows = slice(round(seen[1] * height), round(seen[3] * height))
    columns = slice(round(seen[0] * width), round(seen[2] * width))
    picture = photo // 3
    if cam.ndim == 3:
        size = (columns.stop - columns.start, rows.stop - rows.start)
        picture[rows, columns] = cv2.resize(signed_picture(cam), size)
    else:
        base = np.min(cam) if method.from_least else 0
        picture[rows, columns] = overlay(
            photo[rows, columns], cam - base, opacity=OPACITY, signed=method.signed
        )
    return picture


def format_probability(probability: float) -> str:
    """Return a probability with two digits, or a bound where that would claim certainty."""
    if probability < 0.005:
        return "< 0.01"
    return "> 0.99" if probability > 0.995 else f"{probability:.2f}"
