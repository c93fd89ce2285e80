"""Images whose class has hardly any that are like them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camreport.insight.clusters import neighbours_of, on_sphere

MAX_OUTLIERS = 12
"""Most outliers of a class, and at most one image in ten."""


@dataclass(frozen=True)
class Outlying:
    """The outliers among n vectors, the one farthest from others first.

    Attributes:
        rows: int64 ``(m,)``, which they are.
        distance: float64 ``(m,)``, cosine distance to their k-th nearest other, 0..2.
        neighbours: int64 ``(m,)``, the nearest vector that is none of them.
    """

    rows: NDArray[np.int64]
    distance: NDArray[np.float64]
    neighbours: NDArray[np.int64]


def outlying(vectors: NDArray[np.float64]) -> Outlying:
    """Return the outliers among vectors ``(n, d)``, at least two.

    Source: Ramaswamy et al., Efficient algorithms for mining outliers from large data sets, 2000,
        https://doi.org/10.1145/342009.335437
    """
    from sklearn.neighbors import NearestNeighbors

    count = min(MAX_OUTLIERS, len(vectors) // 10)
    vectors = on_sphere(vectors)
    graph = NearestNeighbors(n_neighbors=neighbours_of(len(vectors))).fit(vectors)
    distances = graph.kneighbors()[0][:, -1] ** 2 / 2  # by cosine, as all have length 1
    rows = np.argsort(-distances, kind="stable")[:count]
    ordinary = np.setdiff1d(np.arange(len(vectors)), rows)
    near = NearestNeighbors(n_neighbors=1).fit(vectors[ordinary])
    nearest = near.kneighbors(vectors[rows], return_distance=False)[:, 0]
    return Outlying(rows, distances[rows], ordinary[nearest])
