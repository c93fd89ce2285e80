"""Whether the score falls sooner when what a map marks is covered first, rather than last."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from camreport.metrics.registry import Number, metric
from camreport.metrics.values import Undefined, Values

STEPS = 10
"""Largest number of steps in which a picture is covered."""


def covered_counts(pixels: int) -> NDArray[np.int64]:
    """Return how many of an image's pixels are covered in each step: 0, ⌈P/10⌉, …, P.

    Example:
        >>> covered_counts(25)
        array([ 0,  3,  6,  9, 12, 15, 18, 21, 24, 25])
    """
    return np.array([*range(0, pixels, -(-pixels // STEPS)), pixels])


@metric(
    "orders",
    "full",
    Number("order", -1, 1, better="high", chance=0),
    Number("order.deletion", 0, 1, better="low"),
    Number("order.insertion", 0, 1, better="high"),
    beside=(*(Number("order.tied", 0, 1), Number("order.morf", 0, 1), Number("order.lerf", 0, 1)),),
    aliases=("srg",),
)
def order(morf: Values, lerf: Values, counts: NDArray[np.int64]) -> Mapping[str, Values]:
    """Compare the areas under the score when pixels are covered in a map's order and in reverse.

    SRG = AUC(LeRF) - AUC(MoRF), by the trapezoid rule over the fractions that are covered.
    AUC(MoRF) is deletion; with one baseline, AUC(LeRF) is insertion read from its end.

    Args:
        morf: probability with the most relevant pixels covered, ``(..., T)``.
        lerf: with as many of the least relevant ones covered, ``(..., T)``.
        counts: pixels that are covered in each step, ``(T,)``; the last is all.

    Returns:
        ``order`` (-1 to 1; a random order has 0 in expectation), ``order.deletion`` and
        ``order.insertion`` (0 to 1), ``(...)`` each.

    Source: Blücher, Vielhaben and Strodthoff, Decoupling Pixel Flipping and Occlusion Strategy,
        TMLR 2024, https://arxiv.org/abs/2401.06654; Petsiuk, Das and Saenko, RISE, 2018,
        https://arxiv.org/abs/1806.07421, whose insertion starts from a blurred image instead.
    """
    deletion, insertion = (_area(curve.numbers, counts / counts[-1]) for curve in (morf, lerf))
    found = {
        "order": insertion - deletion,
        "order.deletion": deletion,
        "order.insertion": insertion,
    }
    reasons = morf.reasons[..., 0]
    undefined = [(why, reasons == why) for why in Undefined if why]
    return {name: Values.of(numbers, *undefined) for name, numbers in found.items()}


def _area(curve: NDArray[np.float32], fractions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the area under curves ``(..., T)`` by the trapezoid rule, ``(...)``."""
    area: NDArray[np.float64] = ((curve[..., 1:] + curve[..., :-1]) / 2) @ np.diff(fractions)
    return area
