"""Learned: whether a map depends on what the network has learned."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from camreport.metrics.ranks import unit_ranks
from camreport.metrics.registry import Number, metric
from camreport.metrics.values import Undefined, Values

UNCHANGED = 0.8
"""Similarity to the scrambled network's maps above which a map is called unchanged."""


@metric(
    "scrambled", "basic", Number("learned", -1, 1, limit=UNCHANGED), Number("learned.edges", -1, 1)
)
def learned(
    maps: NDArray[np.float32], scrambled: NDArray[np.float32] | None, edges: NDArray[np.float32]
) -> dict[str, Values]:
    """Compare maps with those of the same network after its weights were permuted.

    Spearman's rank correlation with average ranks over the cells of the grid, of the raw maps
    before the ReLU, averaged over the scrambled networks in which the map is not constant. It is a
    gate: above 0.8 a map is unchanged without what was learned, and by how much it stays below
    says nothing more, for a map of noise stays below furthest. Beside it stands the same
    correlation with the photograph's edges in place of the scrambled network's map: how similar
    the map is to what a detector of edges would draw without any network. A control does not know
    the network, so that its own similarity is 1 by construction.

    Args:
        maps: ``(n, K, h, w)``, raw.
        scrambled: ``(S, n, K, h, w)``, raw, of S scrambled networks; None for a control.
        edges: ``(n, 1, h, w)``, the control of edges on the same grid.

    Returns:
        ``learned`` and ``learned.edges``, each ``(n, K)``, -1..1; undefined where the map, or
        everything that it is compared with, is constant or not finite.

    Source: Adebayo et al., Sanity Checks for Saliency Maps, 2018, section 3,
        https://arxiv.org/abs/1810.03292; no ranking: Binder et al., Shortcomings of Top-Down
        Randomization-Based Sanity Checks, 2023, https://arxiv.org/abs/2211.12486

    Example:
        >>> maps = np.array([[[[1, 2], [3, 4]]]], np.float32)
        >>> float(learned(maps, np.stack([maps, -maps]), maps)["learned"].numbers[0, 0])
        0.0
    """
    own = Ranked.of(maps)
    same = Ranked(own.ranks[None], own.finite[None])
    return {
        "learned": own.similarity(same if scrambled is None else Ranked.of(scrambled)),
        "learned.edges": own.similarity(Ranked.of(edges[None])),
    }


@dataclass(frozen=True)
class Ranked:
    """Maps in ranks, to be compared with others.

    Attributes:
        ranks: ``(..., cells)``, as from ``unit_ranks``; all 0 of a map that is not finite.
        finite: ``(...)``, which maps are.
    """

    ranks: NDArray[np.float64]
    finite: NDArray[np.bool_]

    @classmethod
    def of(cls, maps: NDArray[np.float32]) -> Self:
        """Return maps ``(..., h, w)`` in ranks."""
        cells = maps.reshape(*maps.shape[:-2], -1)
        finite = np.asarray(np.isfinite(cells).all(-1))
        return cls(unit_ranks(np.where(finite[..., None], cells, np.float32(0))), finite)

    def similarity(self, others: Self) -> Values:
        """Return the mean rank correlation of maps with several others.

        Args:
            others: ``(S, n, K, cells)`` where these are ``(n, K, cells)``, or of a shape that
                broadcasts with it.

        Returns:
            ``(n, K)``, -1..1, the mean over those of the S where neither is constant or not finite.
        """
        usable = self.ranks.any(-1) & others.ranks.any(-1)  # (S, n, K)
        count = usable.sum(0)
        sums = np.einsum("...i,...i->...", self.ranks, others.ranks).sum(0)
        return Values.of(
            np.clip(sums / np.maximum(count, 1), -1, 1),
            (Undefined.NOT_FINITE, ~(self.finite & others.finite.any(0))),
            (Undefined.CONSTANT, count == 0),
        )
