"""Extent: how much of the picture a map claims, which is a description and no verdict."""

import math

import numpy as np
from numpy.typing import NDArray

from camreport.metrics.grids import AREA_GRID, GRID, enlarged, resampled
from camreport.metrics.registry import Number, metric
from camreport.metrics.values import Undefined, Values

HALF = 0.5
"""Fraction of a map's maximum from which a position belongs to the map's area."""


@metric(
    "maps",
    "basic",
    Number("extent", 0, 1),
    Number("extent.gini", 0, 1),
    Number("extent.entropy", 0, 1),
    Number("extent.gini14", 0, 1),
    Number("extent.entropy14", 0, 1),
)
def extent(maps: NDArray[np.float32]) -> dict[str, Values]:
    """Measure how widely the positive evidence r = relu(R) of maps is spread.

    The area is the share of the picture where the map, enlarged as it is drawn, reaches half of
    its peak. On n cells, with r sorted from the least, Gini = sum (2i - n - 1) r_i / (n sum r) and
    concentration = 1 - H / ln n with H = -sum p ln p, p = r / sum r: both 0 for an even map, and
    the more the fewer cells hold the evidence. Both once more on a common grid of 14 × 14, for
    they depend on the grid alone too.

    Args:
        maps: ``(..., h, w)``, raw; from their base up where only differences mean something.

    Returns:
        ``extent``, ``extent.gini``, ``extent.entropy``, ``extent.gini14``, ``extent.entropy14``,
        each ``(...)``, 0..1; undefined where a map is not finite or has no positive evidence, and
        the entropy of a single cell.

    Source: Chalasani et al., Concise Explanations of Neural Networks using Adversarial Training,
        2020, section 3 (Gini index), https://arxiv.org/abs/1810.06583; Bhatt et al., Evaluating
        and Aggregating Feature-based Model Explanations, 2020, definition 3 (entropy),
        https://arxiv.org/abs/2005.00631

    Example:
        >>> {key: float(each.numbers) for key, each in extent(np.ones((14, 14))).items()}["extent"]
        1.0
    """
    finite = np.asarray(np.isfinite(maps).all((-2, -1)))
    narrow = np.maximum(np.where(finite[..., None, None], maps, 0), 0)
    sizes = narrow.astype(np.float64)
    peaks = sizes.max((-2, -1))
    undefined = (Undefined.NOT_FINITE, ~finite), (Undefined.NO_POSITIVE, peaks <= 0)
    single = Undefined.CONSTANT, math.prod(maps.shape[-2:]) == 1
    found = {"extent": Values.of(area_above_half(sizes, peaks), *undefined)}
    for grid, spread in (("", narrow), ("14", resampled(sizes, GRID, GRID))):
        gini, entropy = _concentration(spread.reshape(*peaks.shape, -1))
        found[f"extent.gini{grid}"] = Values.of(gini, *undefined)
        found[f"extent.entropy{grid}"] = Values.of(entropy, *undefined, *([] if grid else [single]))
    return found


def area_above_half(values: NDArray[np.float64], peaks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of the picture where maps reach half of their peak, by magnitude.

    Maps are enlarged as they are drawn where their grid is coarser than 56 × 56.

    Args:
        values: ``(..., h, w)``, finite.
        peaks: ``(...)``, the greatest magnitude of each; 0 for a map without any.

    Returns:
        ``(...)``, above 0..1; of no meaning for a map without a peak.
    """
    spread = enlarged(values, *(max(AREA_GRID, side) for side in values.shape[-2:]))
    strong = np.abs(spread) >= (peaks * HALF)[..., None, None]
    # A narrow peak can lie between the positions: its map is not empty.
    areas: NDArray[np.float64] = np.maximum(strong.mean((-2, -1)), 1 / math.prod(strong.shape[-2:]))
    return areas


def _concentration(
    sizes: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Gini index and 1 - entropy / ln n of values ``(..., n)`` that are not negative."""
    count = sizes.shape[-1]
    ordered = np.sort(sizes, -1).astype(np.float64)
    total = ordered.sum(-1)
    total = np.where(total > 0, total, 1)
    gini = ordered @ (2.0 * np.arange(1, count + 1) - count - 1) / (count * total)
    shares = ordered / total[..., None]
    terms = shares * np.log(np.where(shares > 0, shares, 1))
    entropy = 1 + terms.sum(-1) / (math.log(count) if count > 1 else 1)
    return np.clip(gini, 0, 1), np.clip(entropy, 0, 1)
