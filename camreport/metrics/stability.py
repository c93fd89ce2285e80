"""Stability: whether a map survives a change of the image that nobody sees."""

import math

import numpy as np
from numpy.typing import NDArray

from camreport.metrics.learned import Ranked
from camreport.metrics.registry import Number, metric
from camreport.metrics.values import Undefined, Values


@metric(
    "copies",
    "full",
    Number("stability", 0, math.inf, better="low"),
    Number("stability.correlation", 0, 2, better="low"),
    Number("stability.mirror", -1, 1, better="high"),
    beside=(Number("stability.changed", 0, math.inf),),
)
def stability(
    maps: NDArray[np.float32],
    copies: NDArray[np.float32],
    kept: NDArray[np.bool_],
    mirrored: NDArray[np.float32],
) -> dict[str, Values]:
    """Compare the maps of images with those of noisy copies and of the mirror image.

    The greatest relative change is max ||R - R_k|| / ||R|| over the copies k, with Euclidean
    norms over the cells of the grid; the change of ranks is 1 - the mean of Spearman(R, R_k); the
    mirror is Spearman of R(flip x) and flip R(x), where flip exchanges left and right. Copies in
    which another class becomes the most probable one are left out: there the network has changed
    its mind, and the map may.

    Args:
        maps: ``(n, K, h, w)``, raw.
        copies: ``(S, n, K, h, w)``, raw maps of S noisy copies of each image.
        kept: ``(S, n)``, the copies whose most probable class is the image's.
        mirrored: ``(n, K, h, w)``, raw maps of the mirror images.

    Returns:
        ``stability`` 0 or more, ``stability.correlation`` 0..2 and ``stability.mirror`` -1..1, each
        ``(n, K)``; undefined where no copy is kept, a map is not finite, or a map that is divided
        by is zero or one that is ranked is constant.

    Source: Yeh et al., On the (In)fidelity and Sensitivity of Explanations, 2019, definition 3.1
        (maximum sensitivity, divided by the map's norm as captum does),
        https://arxiv.org/abs/1901.09392

    Example:
        >>> maps = np.array([[[[3.0, 4.0]]]], np.float32)
        >>> found = stability(maps, maps[None] * 1.5, np.array([[True]]), maps[..., ::-1])
        >>> {name: float(values.numbers[0, 0]) for name, values in found.items()}
        {'stability': 0.5, 'stability.correlation': 0.0, 'stability.mirror': 1.0}
    """
    none = Undefined.CLASS_CHANGED, ~np.asarray(kept.any(0))[:, None]
    hidden = np.where(kept[..., None, None, None], copies, np.float32(np.nan))
    change = _greatest_change(maps, hidden, kept)
    similar = Ranked.of(maps).similarity(Ranked.of(hidden))
    return {
        "stability": change.unless(none),
        "stability.correlation": Values(1 - similar.numbers, similar.reasons).unless(none),
        "stability.mirror": Ranked.of(mirrored).similarity(Ranked.of(maps[None, ..., ::-1])),
    }


def _greatest_change(
    maps: NDArray[np.float32], copies: NDArray[np.float32], kept: NDArray[np.bool_]
) -> Values:
    """Return the greatest distance of a map to those of kept copies, as a fraction of its norm.

    Args:
        maps: ``(n, K, h, w)``.
        copies: ``(S, n, K, h, w)``, NaN where they are not kept.
        kept: ``(S, n)``.
    """
    finite = np.isfinite(maps).all((-2, -1)) & (
        np.isfinite(copies).all((-2, -1)) | ~kept[..., None]
    ).all(0)
    norms, distances = _norms(maps), _norms(maps - copies)
    greatest = np.where(kept[..., None], distances, 0).max(0)
    zero = norms == 0
    return Values.of(
        greatest / np.where(zero, 1, norms),
        (Undefined.NOT_FINITE, ~finite),
        (Undefined.CONSTANT, zero),
    )


def _norms(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt(np.square(maps, dtype=np.float64).sum((-2, -1))))
