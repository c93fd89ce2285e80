"""Class contrast: whether a map answers for its class, or another class gets the same map."""

import numpy as np
from numpy.typing import NDArray

from camreport.metrics.ranks import unit_ranks
from camreport.metrics.registry import Number, metric
from camreport.metrics.values import Undefined, Values

TOP_SHARE = 5
"""One of how many cells belongs to the highest part of a map."""


@metric("maps", "basic", Number("contrast", -1, 1, "low"), Number("contrast.overlap", 0, 1, "low"))
def contrast(maps: NDArray[np.float32], other: NDArray[np.intp]) -> dict[str, Values]:
    """Compare each class's map with that of the strongest other explained class.

    rho(R_c, R_d) is Spearman's rank correlation with average ranks over the cells of the grid, of
    the raw maps before the ReLU; the overlap is the intersection of their highest fifths of cells
    over the union. Both are 1 where all classes share one map, by construction.

    Args:
        maps: ``(..., n, K, h, w)``, raw; ``(..., n, 1, h, w)`` where all classes share one.
        other: ``(n, K)``, the other class's place among the explained ones, as from
            ``strongest_other``.

    Returns:
        ``contrast`` -1..1 and ``contrast.overlap`` 0..1, each ``(..., n, K)``; undefined where
        there is no other class, or one of the two maps is constant or not finite.

    Source: Rebuffi et al., There and Back Again, 2020, section 3 (class sensitivity),
        https://arxiv.org/abs/2004.02866

    Example:
        >>> maps = np.array([[[[1, 2]], [[4, 3]]]], np.float32)
        >>> contrast(maps, np.array([[1, 0]]))["contrast"].numbers
        array([[-1., -1.]], dtype=float32)
    """
    cells = maps.reshape(*maps.shape[:-2], -1)
    finite = np.asarray(np.isfinite(cells).all(-1))
    cells = np.where(finite[..., None], cells, 0)
    varied = cells.min(-1) < cells.max(-1)
    rows, slots = np.arange(len(other))[:, None], np.clip(other, 0, cells.shape[-2] - 1)
    undefined = (
        (Undefined.NO_OTHER_CLASS, other < 0),
        (Undefined.NOT_FINITE, ~(finite & finite[..., rows, slots])),
        (Undefined.CONSTANT, ~(varied & varied[..., rows, slots])),
    )
    correlation = overlap = np.ones(undefined[-1][1].shape)
    if cells.shape[-2] > 1:
        ranks = unit_ranks(cells)
        correlation = np.clip((ranks * ranks[..., rows, slots, :]).sum(-1), -1, 1)
        top = max(1, cells.shape[-1] // TOP_SHARE)
        highest = cells >= np.partition(cells, -top, -1)[..., -top, None]
        theirs = highest[..., rows, slots, :]
        overlap = (highest & theirs).sum(-1) / (highest | theirs).sum(-1)
    return {
        "contrast": Values.of(correlation, *undefined),
        "contrast.overlap": Values.of(overlap, *undefined),
    }


def strongest_other(targets: NDArray[np.int64], logits: NDArray[np.floating]) -> NDArray[np.intp]:
    """Return for each explained class the place of the strongest other one.

    Args:
        targets: ``(n, K)``, indices of the classes explained.
        logits: ``(n, num_classes)``.

    Returns:
        ``(n, K)``, places among the K; -1 where no other class is explained.

    Example:
        >>> strongest_other(np.array([[0, 2, 1]]), np.array([[3.0, 1.0, 2.0]]))
        array([[1, 0, 0]])
    """
    scores = np.take_along_axis(logits, targets, 1).astype(np.float64)
    scores = np.nan_to_num(scores, nan=-np.finfo(np.float64).max)
    same = targets[:, :, None] == targets[:, None, :]
    others = np.where(same, -np.inf, scores[:, None, :])
    return np.where(same.all(-1), -1, others.argmax(-1))
