"""From a raw cam to pixels: the reference that the report's JavaScript repeats bit for bit.

raw cam ─▶ quantise (8 bits, peak kept) ─▶ enlarge (bilinear) ─▶ levels (scale, threshold)
        ─▶ colours and opacities of 256-entry tables ─▶ overlay

Everything up to the opacities is the same arithmetic in float64 here and in the browser, and
every rounding is ``floor(x + 0.5)``. Nothing here imports torch.
"""

from dataclasses import dataclass
from functools import cache
from numbers import Real
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from camreport.errors import MethodError, suggestion
from camreport.metrics.grids import enlarged

ZERO = 127
"""The byte that stands for zero in a signed map; it reaches from 0 (-peak) to 254 (+peak)."""

OPACITY = 0.9
"""How opaque the largest value of a map is drawn, 0..1."""

LIFT = 0.6
"""The power of a value that its opacity follows where small values are lifted."""

PICTURE_REACH = 0.995
"""Fraction of a signed picture's values that are not clipped."""

_OPENCV_COLORMAPS = {
    "inferno": cv2.COLORMAP_INFERNO,
    "viridis": cv2.COLORMAP_VIRIDIS,
    "cividis": cv2.COLORMAP_CIVIDIS,
    "turbo": cv2.COLORMAP_TURBO,
    "jet": cv2.COLORMAP_JET,
}
COLORMAPS = ("inferno", "viridis", "cividis", "gray", "turbo", "jet")
"""Colour maps for maps from 0 up: the default first, perceptually even ones next, jet last."""

_DIVERGING = "#2b5c8a #4f86b0 #86b1cf #bcd5e4 #f4f3ef #f3cfae #e6a06a #cc6f35 #9d4a1b"

State = Literal["positive", "empty", "undefined"]


@dataclass(frozen=True)
class QuantisedCam:
    """A cam in 8 bits.

    Attributes:
        levels: uint8 ``(h, w)``; 0..255 is 0..peak, or for a signed map 0..254 is -peak..+peak.
        peak: the value of the highest level, in the cam's own unit; 0 for an empty map.
        state: ``empty`` has no positive value (signed: none but zeros), ``undefined`` is not
            finite; neither is drawn as colour.
        signed: whether negative values are kept.
    """

    levels: NDArray[np.uint8]
    peak: float
    state: State
    signed: bool = False


def quantise(cam: NDArray[np.float32], signed: bool = False) -> QuantisedCam:
    """Store a raw cam in 8 bits without an additive epsilon, so that no scale is special.

    ``floor(relu(cam) / max(cam) * 255 + 0.5)``; signed: ``floor(cam / max|cam| * 127 + 127.5)``.

    Args:
        cam: raw map ``(h, w)``, unnormalised, before the final ReLU.
        signed: keep negative values (evidence against the class).
    """
    values = np.asarray(cam, dtype=np.float64)
    if not np.isfinite(values).all():
        return QuantisedCam(np.zeros(values.shape, np.uint8), 0.0, "undefined", signed)
    peak = float(np.abs(values).max() if signed else values.max())
    if peak <= 0:
        return QuantisedCam(np.zeros(values.shape, np.uint8), 0.0, "empty", signed)
    levels = values / peak * ZERO + ZERO if signed else np.maximum(values, 0) / peak * 255
    return QuantisedCam(np.floor(levels + 0.5).astype(np.uint8), peak, "positive", signed)


def enlarge(
    levels: NDArray[np.uint8], height: int, width: int, smooth: bool = True
) -> NDArray[np.float64]:
    """Interpolate levels to ``(height, width)``: bilinear, half-pixel centres, edges held.

    The same as ``torch.nn.functional.interpolate(..., align_corners=False)``, in float64. Not
    smooth: each pixel takes the level of the cell that its centre lies in.
    """
    if not smooth:
        rows, columns = (
            np.floor((np.arange(target) + 0.5) * source / target).astype(np.intp)
            for source, target in zip(levels.shape, (height, width), strict=True)
        )
        own: NDArray[np.float64] = levels[rows][:, columns].astype(np.float64)
        return own
    return enlarged(levels.astype(np.float64), height, width)


def shade(
    cam: QuantisedCam,
    height: int,
    width: int,
    *,
    scale: float | None = None,
    threshold: float = 0.0,
    smooth: bool = True,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the colour table's indices ``(height, width)`` and where the map is visible.

    Args:
        cam: the quantised map.
        height: of the result, in pixels.
        width: of the result, in pixels.
        scale: the value that gets the last colour, in the cam's unit; its own peak if None.
        threshold: values below this fraction of ``scale`` (by magnitude) are invisible, 0..1.
        smooth: bilinear; otherwise the map's own cells show.
    """
    gain = 1.0 if scale is None else cam.peak / scale
    values = enlarge(cam.levels, height, width, smooth)
    if cam.signed:
        offset = np.clip(np.floor((values - ZERO) * gain + 0.5), -ZERO, ZERO)
        return (offset + ZERO).astype(np.uint8), np.abs(offset) >= threshold * ZERO
    index = np.clip(np.floor(values * gain + 0.5), 0, 255)
    return index.astype(np.uint8), index >= threshold * 255


@cache
def colour_table(name: str = "inferno") -> NDArray[np.uint8]:
    """Return the RGB colours ``(256, 3)`` of a colour map, not to be modified.

    Raises:
        MethodError: no such colour map.
    """
    ramp = np.arange(256, dtype=np.uint8)
    if name == "gray":
        return np.stack([ramp] * 3, axis=1)
    if name == "diverging":
        return _diverging_table()
    if name not in COLORMAPS:
        raise MethodError(
            f"colormap: expected one of {', '.join(COLORMAPS)}, got {name!r}."
            + suggestion(str(name), COLORMAPS)
        )
    bgr = np.asarray(cv2.applyColorMap(ramp[:, None], _OPENCV_COLORMAPS[name]), dtype=np.uint8)
    return np.ascontiguousarray(bgr.reshape(256, 3)[:, ::-1])


def alphas(
    signed: bool = False,
    *,
    opacity: float = OPACITY,
    by_value: bool = True,
    lift: bool = False,
) -> NDArray[np.uint8]:
    """Return how opaque each index of a colour table is drawn, uint8 ``(256,)``.

    ``floor(opacity · v^p · 255 + 0.5)``, v the index as a fraction of the scale (signed: its
    distance from zero), p = 1, 0.6 if lifted, and 0 if opacity does not follow the value.

    Args:
        signed: whether the indices are those of a signed map.
        opacity: of the largest value, 0 (photograph only) to 1 (heat map only).
        by_value: the smaller a value (by magnitude), the more transparent.
        lift: let small values stand out more; only by value.
    """
    index = np.arange(256, dtype=np.float64)
    value = np.minimum(np.abs(index - ZERO) / ZERO, 1) if signed else index / 255
    power = (LIFT if lift else 1.0) if by_value else 0.0
    return np.floor(opacity * value**power * 255 + 0.5).astype(np.uint8)


def overlay(
    image: NDArray[np.uint8],
    cam: NDArray[np.float32],
    *,
    opacity: float = OPACITY,
    colormap: str = COLORMAPS[0],
    by_value: bool = True,
    lift: bool = False,
    threshold: float = 0.0,
    signed: bool = False,
) -> NDArray[np.uint8]:
    """Lay a cam as a heat map over the image it explains: the photograph stays where it is low.

    ``photograph · (1 - a) + colour · a`` with a = opacity · v, where v = ``relu(cam) / max(cam)``,
    enlarged bilinearly to the image. An empty or undefined map leaves the image as it is.

    Args:
        image: RGB uint8 ``(H, W, 3)``: the part of the photograph that the model saw.
        cam: raw map ``(h, w)``, any float dtype.
        opacity: of the map's largest value, 0 (photograph only) to 1 (heat map only).
        colormap: one of ``COLORMAPS``; a signed map always takes the diverging one.
        by_value: the smaller a value (by magnitude), the more transparent. False lays the whole
            map on evenly; papers often show ``opacity=0.5, colormap="jet", by_value=False``.
        lift: a = opacity · v^0.6, which brings out the small values of early layers.
        threshold: fraction of the maximum below which the photograph shows unchanged, 0..1.
        signed: draw negative values too, diverging around zero.

    Returns:
        RGB uint8 ``(H, W, 3)``.

    Raises:
        MethodError: an argument is not as stated.

    Example:
        >>> overlay(np.zeros((2, 2, 3), np.uint8), np.ones((1, 1), np.float32), opacity=1)[0, 0]
        array([252, 255, 164], dtype=uint8)
    """
    image, cam = _array("image", image), _array("cam", cam)
    if image.shape[2:] != (3,) or image.dtype != np.uint8:
        raise MethodError(
            f"image: expected uint8 (H, W, 3), 0..255, got {image.dtype} {image.shape}."
        )
    if cam.ndim != 2 or cam.dtype.kind not in "fiu":
        raise MethodError(
            f"cam: expected one map (h, w) of numbers, got {cam.dtype} {cam.shape}. Index it first."
        )
    for name, fraction in (("opacity", opacity), ("threshold", threshold)):
        if not (isinstance(fraction, Real) and 0 <= fraction <= 1):
            raise MethodError(f"{name}: expected a number from 0 to 1, got {fraction!r}.")
    table = colour_table("diverging" if signed else colormap)
    quantised = quantise(cam, signed)
    if quantised.state != "positive":
        return image.copy()
    index, visible = shade(quantised, *image.shape[:2], threshold=threshold)
    table_alpha = alphas(signed, opacity=opacity, by_value=by_value, lift=lift) / 255
    alpha = (table_alpha[index] * visible)[..., None]
    blended: NDArray[np.float64] = table[index] * alpha + image * (1 - alpha)
    return np.floor(blended + 0.5).astype(np.uint8)


def _array(name: str, values: object) -> NDArray[Any]:
    """Return an argument as an array that is not empty.

    Raises:
        MethodError: it cannot be one.
    """
    try:
        array = np.asarray(values)
    except (RuntimeError, TypeError, ValueError) as error:  # a tensor on a GPU or with a graph
        raise MethodError(
            f"{name}: expected an array, got {type(values).__name__} ({error}). "
            "Pass tensor.detach().cpu().numpy()."
        ) from error
    if not array.size:
        raise MethodError(f"{name}: expected an array with values, got shape {array.shape}.")
    return array


def signed_picture(saliency: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Draw a saliency in colour around mid-grey, which is zero.

    Black and white stand for -/+ the magnitude that 99.5 % of the values stay below: single
    extreme pixels would leave the rest grey.

    Args:
        saliency: one value per colour and pixel, ``(3, H, W)``, signed.

    Returns:
        RGB uint8 ``(H, W, 3)``; all grey where the saliency is zero or not finite.
    """
    values = np.nan_to_num(np.asarray(saliency, dtype=np.float64), posinf=0, neginf=0)
    reach = float(np.quantile(np.abs(values), PICTURE_REACH)) or float(np.abs(values).max()) or 1.0
    levels = np.clip(values / reach, -1, 1) * ZERO + ZERO
    return np.ascontiguousarray(np.floor(levels + 0.5).astype(np.uint8).transpose(1, 2, 0))


def _diverging_table() -> NDArray[np.uint8]:
    """Blue (against) through near-white (zero, index 127) to orange-brown (for)."""
    anchors = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in _DIVERGING.split()])
    at = np.linspace(0, 2 * ZERO, len(anchors))
    steps = np.arange(256)
    columns = [np.interp(steps, at, channel) for channel in anchors.T]
    return np.floor(np.stack(columns, axis=1) + 0.5).astype(np.uint8)
