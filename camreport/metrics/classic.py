"""Metrics of the literature that are asked for by name: Average Drop with its area, and ROAD."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from camreport.metrics.registry import Number, metric
from camreport.metrics.values import Undefined, Values

Array = NDArray[np.float32]

SHARES = tuple(tenth / 10 for tenth in range(1, 10))
"""Shares of the pixels that ROAD takes away."""


@metric(
    "masked",
    "name",
    Number("average_drop", 0, 1, better="low"),
    Number("average_drop.increase", 0, 1, better="high"),
    Number("average_drop.gain", 0, 1, better="high"),
    Number("average_drop.area", 0, 1),
    aliases=("ad",),
)
def average_drop(before: Array, after: Values, area: Array) -> Mapping[str, Values]:
    """Return what the probability loses when only what a map marks is kept.

    Drop = max(0, p - p') / p; increase = 1 where p' > p; gain = max(0, p' - p) / (1 - p), with p'
    on the image times M = relu(R) / max R. A map that is 1 everywhere has a drop of 0, so the area
    mean(M) belongs beside it.

    Args:
        before: probability p of the class, of a shape that broadcasts with ``after``.
        after: p', ``(...)``.
        area: mean of M, ``(...)``; 0 where the map has no positive value.

    Source: Chattopadhyay et al., Grad-CAM++, 2018, https://arxiv.org/abs/1710.11063; gain: Zhang
        et al., Opti-CAM, 2023, https://arxiv.org/abs/2301.07002
    """
    p, kept = before.astype(np.float64), after.numbers.astype(np.float64)
    reasons = [(why, after.reasons == why) for why in Undefined if why]
    undefined = (*reasons, (Undefined.NO_POSITIVE, area == 0))
    found = {
        "average_drop": np.maximum(p - kept, 0) / np.where(p > 0, p, 1),
        "average_drop.increase": kept > p,
        "average_drop.gain": np.maximum(kept - p, 0) / np.where(p < 1, 1 - p, 1),
        "average_drop.area": area,
    }
    return {name: Values.of(numbers, *undefined) for name, numbers in found.items()}


@metric("orders", "name", Number("road", -0.5, 0.5, better="high", chance=0))
def road(morf: Values, lerf: Values) -> Values:
    """Compare the probability without the most and without the least relevant pixels.

    ROAD = mean over shares of (p without the least relevant - p without the most relevant) / 2,
    where the pixels that are taken away are filled in from their surroundings.

    Args:
        morf: probability without the most relevant pixels, ``(..., shares)``.
        lerf: without the least relevant ones.

    Returns:
        numbers ``(...)``, -1/2 to 1/2; a random order has 0 in expectation.

    Source: Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods,
        2022, https://arxiv.org/abs/2202.00449; combined as in pytorch-grad-cam's ROADCombined.
    """
    half = (lerf.numbers.astype(np.float64) - morf.numbers).mean(-1) / 2
    reasons = morf.reasons[..., 0]
    return Values.of(half, *((why, reasons == why) for why in Undefined if why))
