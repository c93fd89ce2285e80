"""What Python draws of the maps of a report, to compare a page with."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from camreport.methods import METHODS
from camreport.report.appearance import seen_part
from camreport.report.heatmap import (
    quantise,
    shade,
)
from camreport.results.reader import Results, load_results
from helpers.pictures import contour_lines, heat_pixels
from helpers.report_cells import Pixels


def size_of(results: Results, image: int, side: int | None) -> tuple[int, int]:
    """Return height and width of the seen part, the photograph's longer side being ``side``."""
    photo = Image.open(io.BytesIO(results.photo(image)))
    left, top, right, bottom = seen_part(results.manifest.preprocessing, results.images[image])
    factor = (side or max(photo.size)) / max(photo.size)
    return (
        int(photo.height * factor * (bottom - top) + 0.5),
        int(photo.width * factor * (right - left) + 0.5),
    )


def peaks_of(results: Results, image: int) -> dict[str, float]:
    """Return the largest value of an image's maps by method, where it shares a scale."""
    peaks: dict[str, float] = {}
    for record in results.maps(image):
        method = record.method
        if record.layer == "fused" or method.grid == "input" or method.values == "relative":
            continue
        peak = quantise(record.cam, method.values == "signed").peak
        peaks[method.key] = max(peaks.get(method.key, 0.0), peak)
    return peaks


def scale_of(results: Results, image: int, method: str, layer: str, kind: str) -> float | None:
    """Return the value that gets the last colour, ``None`` for the map's own maximum."""
    if kind == "map" or layer == "fused":
        return None
    if kind == "image":
        return max(peaks_of(results, image).values())
    everywhere = [peaks_of(results, one.index) for one in results.readable]
    if kind == "method":
        return max(peaks[method] for peaks in everywhere)
    return max(max(peaks.values()) for peaks in everywhere)


def reference(
    out: Path,
    image: int,
    rank: int,
    method: str,
    layer: str,
    *,
    side: int | None = 224,
    scale: str = "map",
    **look: Any,
) -> Pixels:
    """Return what Python draws of a map."""
    results = load_results(out)
    cam = quantise(
        results.arrays(image)[f"{method}/{layer}"][rank], METHODS[method].values == "signed"
    )
    assert cam.state == "positive"
    height, width = size_of(results, image, side)
    top = scale_of(results, image, method, layer, scale)
    return heat_pixels(cam, height, width, scale=top, **look)


def reference_lines(
    out: Path, image: int, rank: int, method: str, layer: str, scale: str = "map"
) -> Pixels:
    """Return the contours that Python draws of a map: black within, white without."""
    results = load_results(out)
    cam = quantise(
        results.arrays(image)[f"{method}/{layer}"][rank], METHODS[method].values == "signed"
    )
    top = scale_of(results, image, method, layer, scale)
    index, _ = shade(cam, *size_of(results, image, 224), scale=top)
    inner, outer = contour_lines(index, cam.signed)
    black, white = np.uint8([0, 0, 0, 255]), np.uint8([255, 255, 255, 255])
    return inner[..., None] * black + outer[..., None] * white
