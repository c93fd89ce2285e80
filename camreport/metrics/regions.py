"""Regions: whether a map is on the object, where the user says where that is."""

import math

import numpy as np
from numpy.typing import NDArray

from camreport.metrics.grids import enlarged
from camreport.metrics.registry import Number, metric
from camreport.metrics.values import Undefined, Values

CENTRE = "control:centre"
"""The control of this question alone: a box in the centre of the picture."""

CENTRE_SIDE = 0.5
"""Sides of that box, as fractions of those of the picture."""

TOLERANCE = 15
"""A peak less than this far from the region hits it, in pixels of a picture of ``TOLERANCE_SIDE``
pixels a side."""

TOLERANCE_SIDE = 224

NUMBERS = (
    Number("regions", 0, 1, "high"),
    Number("regions.lift", 0, math.inf, "high", 1),
    Number("regions.hit", 0, 1, "high"),
    Number("regions.rank", 0, 1, "high"),
    Number("regions.iou", 0, 1, "high"),
    Number("regions.tied", 0, 1),
)

THRESHOLDS = 1000
"""Number of equal steps up to a map's peak at which its overlap with the region is measured."""


@metric("regions", "basic", *NUMBERS, aliases=("pointing game", "relevance mass", "localisation"))
def regions(maps: NDArray[np.float32], mask: NDArray[np.bool_] | None) -> dict[str, Values]:
    """Compare maps with the region m of their class on the model's input.

    With r = relu(R), enlarged as it is drawn:

    - mass inside = sum(r m) / sum(r), and its lift = mass inside / share of the picture in m;
    - hit: m meets the disc of 15 pixels, at 224 pixels a side, around the peak of r; where several
      pixels share the peak, around any of them, and ``tied`` is their share of the picture;
    - rank: the share of m among the |m| greatest values of R before the ReLU; of values that tie
      at the limit each counts with the same probability;
    - IoU of m and the pixels with r of at least t / 1000 of the peak, at the best t from 1 to 1000.

    Args:
        maps: ``(..., h, w)``, raw, of one image and class; from their base up where only
            differences mean something.
        mask: ``(H, W)``, the region on the model's input; None if no region is known of the class.

    Returns:
        ``regions`` (the mass inside), ``regions.lift``, ``regions.hit`` (0 or 1), ``regions.rank``,
        ``regions.iou`` and ``regions.tied``, each ``(...)``; undefined without a region, where the
        model sees nothing of it, and where a map is not finite or has no positive evidence; the
        rank where a map is constant.

    Source: Zhang et al., Top-down Neural Attention by Excitation Backprop, 2016 (pointing game),
        https://arxiv.org/abs/1608.00507, with the disc of TorchRay's pointing_game.py; Wang et
        al., Score-CAM, 2020 (energy-based pointing game), https://arxiv.org/abs/1910.01279; Arras
        et al., CLEVR-XAI, 2022 (relevance mass and rank), https://arxiv.org/abs/2003.07258; Choe
        et al., Evaluating Weakly Supervised Object Localization Methods Right, 2020 (thresholds),
        https://arxiv.org/abs/2001.07437

    Example:
        >>> numbers = regions(np.float32([[3, 1]]), np.array([[True, False]]))
        >>> float(numbers["regions"].numbers), float(numbers["regions.lift"].numbers)
        (0.75, 1.5)
    """
    finite = np.asarray(np.isfinite(maps).all((-2, -1)))
    raw = np.where(finite[..., None, None], maps, 0).astype(np.float64)
    positive = raw.max((-2, -1)) > 0
    constant = raw.min((-2, -1)) == raw.max((-2, -1))
    known = mask is not None and bool(mask.any())
    undefined = (
        (Undefined.NO_REGION, mask is None),
        (Undefined.REGION_UNSEEN, not known),
        (Undefined.NOT_FINITE, ~finite),
    )
    measured = {key: np.zeros(positive.shape) for key in (number.key for number in NUMBERS)}
    if known and mask is not None:
        near = within_tolerance(mask)
        for place in np.argwhere(finite & (positive | ~constant)):
            for key, number in _numbers(raw[tuple(place)], mask, near).items():
                measured[key][tuple(place)] = number
    evidence = Undefined.NO_POSITIVE, ~positive
    return {
        key: Values.of(
            numbers,
            *undefined,
            (Undefined.CONSTANT, constant) if key == "regions.rank" else evidence,
        )
        for key, numbers in measured.items()
    }


def centre_box(mask: NDArray[np.bool_] | None, height: int, width: int) -> dict[str, Values]:
    """Return what ``regions`` says of a box in the centre of the picture, without axes.

    Its peak is the middle of the picture, as in the pointing game's baseline.

    Args:
        mask: as for ``regions``.
        height: of the model's input, in pixels.
        width: likewise.

    Source: the centre baseline of Zhang et al., as for ``regions``.
    """
    rows, columns = ((np.arange(side) + 0.5) / side - 0.5 for side in (height, width))
    inside = np.abs(rows[:, None]) <= CENTRE_SIDE / 2, np.abs(columns) <= CENTRE_SIDE / 2
    found = regions((inside[0] & inside[1]).astype(np.float32), mask)
    middle = np.maximum(np.abs(rows[:, None]) * height, np.abs(columns) * width) < 1
    for key in ("regions.hit", "regions.tied"):
        found[key] = regions(middle.astype(np.float32), mask)[key]
    return found


def within_tolerance(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels whose disc of ``TOLERANCE`` meets a region, ``(H, W)``.

    The distance is measured between centres of pixels, in units in which the picture has
    ``TOLERANCE_SIDE`` pixels a side; a pixel at exactly that distance is outside.

    Args:
        mask: ``(H, W)``, the region.
    """
    height, width = mask.shape
    limit = (TOLERANCE * height * width) ** 2
    near = np.zeros_like(mask)
    down = 0
    while (TOLERANCE_SIDE * down * width) ** 2 < limit:
        left = limit - (TOLERANCE_SIDE * down * width) ** 2
        reach = math.isqrt((left - 1) // (TOLERANCE_SIDE * height) ** 2)
        wide = _widened(mask, reach)
        near[: height - down] |= wide[down:]
        near[down:] |= wide[: height - down]
        down += 1
    return near


def _widened(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Return the pixels with one of a mask at most ``reach`` columns away."""
    width = mask.shape[1]
    before = np.zeros((mask.shape[0], width + 1), np.intp)
    np.cumsum(mask, axis=1, out=before[:, 1:])
    columns = np.arange(width)
    last = np.minimum(columns + reach + 1, width)
    return before[:, last] > before[:, np.maximum(columns - reach, 0)]


def _numbers(
    raw: NDArray[np.float64], mask: NDArray[np.bool_], near: NDArray[np.bool_]
) -> dict[str, float]:
    """Return the numbers of one map ``(h, w)`` that is not constant at 0 or below."""
    positive = enlarged(np.maximum(raw, 0), *mask.shape)
    total, peak = positive.sum(), positive.max()
    inside = positive[mask].sum() / total if total else 0
    at_peak = positive == peak
    return {
        "regions": inside,
        "regions.lift": inside / mask.mean(),
        "regions.hit": float((at_peak & near).any()),
        "regions.rank": _rank(enlarged(raw, *mask.shape), mask),
        "regions.iou": _best_iou(positive / peak, mask) if peak else 0,
        "regions.tied": at_peak.mean(),
    }


def _rank(values: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
    """Return the expected share of a region among as many greatest values, ties drawn by lot."""
    count = int(mask.sum())
    limit = np.partition(values, -count, axis=None)[-count]
    above, tied = values > limit, values == limit
    drawn = (count - above.sum()) / tied.sum()
    return float(((above & mask).sum() + drawn * (tied & mask).sum()) / count)


def _best_iou(shares: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
    """Return the greatest overlap of a region with what reaches a threshold.

    Args:
        shares: ``(H, W)``, of the peak, 0..1.
        mask: the region.
    """
    levels = np.floor(shares * THRESHOLDS).astype(np.intp)
    size = THRESHOLDS + 1
    every, inside = (
        np.bincount(own, minlength=size)[:0:-1].cumsum() for own in (levels.ravel(), levels[mask])
    )
    return float((inside / (every + mask.sum() - inside)).max())
