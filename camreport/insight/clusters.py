"""Clusters of images that a network treats alike: spectral, and only those that come back.

vectors ─▶ 50 principal components ─▶ graph of nearest neighbours ─▶ normalised Laplacian
        ─▶ number of clusters by the eigengap ─▶ k-means of its eigenvectors ─▶ subsamples

scikit-learn is imported where it is used: without it there are no clusters.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from math import isqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

SEED = 0
"""Of everything that is drawn: equal vectors have equal clusters."""

MIN_IMAGES = 30
"""Fewest images that are clustered."""

MAX_COMPONENTS = 50
"""Most principal components that are compared."""

MAX_NEIGHBOURS = 10
"""Most neighbours that an image is joined to."""

MIN_CLUSTERS, MAX_CLUSTERS = 2, 10
"""Between these numbers of clusters the eigengap decides."""

SUBSAMPLES = 20
"""Subsamples that are clustered anew."""

KEPT = 0.8
"""Fraction of the images in a subsample."""

MAX_SUBSAMPLE = 2000
"""Most images in a subsample."""

MIN_STABILITY = 0.6
"""Adjusted Rand index from which a cluster counts as one that comes back."""


@dataclass(frozen=True)
class Clustering:
    """Clusters of n vectors, the largest first.

    Attributes:
        labels: int64 ``(n,)``, the cluster of each, from 0 on.
        stability: float64 ``(k,)``, for each cluster the mean over subsamples of the adjusted Rand
            index of being in it and of being in the subsample's cluster that is most like it.
    """

    labels: NDArray[np.int64]
    stability: NDArray[np.float64]


def is_available() -> bool:
    """Say whether scikit-learn is installed."""
    return find_spec("sklearn") is not None


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep sums of scikit-learn's threads from depending on their order, in the block."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="openmp"):
        yield


def cluster(vectors: NDArray[np.float64]) -> Clustering:
    """Return the clusters of vectors.

    Args:
        vectors: ``(n, d)``, at least ``MIN_IMAGES``.

    Source: Lapuschkin et al., Unmasking Clever Hans predictors and assessing what machines really
        learn, 2019, https://doi.org/10.1038/s41467-019-08987-4; von Luxburg, A tutorial on
        spectral clustering, 2007, https://doi.org/10.1007/s11222-007-9033-z
    """
    with one_thread():
        reduced = principal(vectors)
        values, spectrum = laplacian_spectrum(affinity(reduced))
        labels = spectral_labels(spectrum, eigengap(values))
        order = np.argsort(-np.bincount(labels), kind="stable")
        labels = np.argsort(order)[labels]
        return Clustering(labels, _stability(reduced, labels))


def principal(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the first principal components of vectors, ``(n, 50)`` or fewer."""
    from sklearn.decomposition import PCA

    count = min(MAX_COMPONENTS, *vectors.shape)
    found: NDArray[np.float64] = PCA(count, random_state=SEED).fit_transform(vectors)
    return found


def neighbours_of(count: int) -> int:
    """Return the number of neighbours that each of so many images is joined to."""
    return min(MAX_NEIGHBOURS, isqrt(count))


def affinity(vectors: NDArray[np.float64]) -> "csr_matrix":
    """Return the graph of nearest neighbours by cosine, ``(n, n)``.

    1 for two that are each among the other's nearest, 1/2 where only one is; a vector is one of
    its own.
    """
    from sklearn.neighbors import kneighbors_graph

    # The nearest on the sphere are the nearest by cosine, and are found several times faster.
    count = neighbours_of(len(vectors))
    joined = kneighbors_graph(on_sphere(vectors), count, include_self=True)
    return 0.5 * (joined + joined.T)


def on_sphere(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return vectors scaled to length 1; those without a direction stay 0."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def laplacian_spectrum(graph: "csr_matrix") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the least eigenvalues of a graph's normalised Laplacian, and their vectors.

    Returns:
        ``MAX_CLUSTERS`` + 1 eigenvalues in order, and ``(n, MAX_CLUSTERS + 1)``, each row divided
        by the root of its degree, so that unconnected parts of a graph are constant. Of a graph
        with more such parts, all values are 0 and the vectors are of the largest parts.
    """
    from scipy.sparse import identity
    from scipy.sparse.csgraph import connected_components, laplacian
    from scipy.sparse.linalg import eigsh

    parts, part = connected_components(graph, directed=False)
    if parts > MAX_CLUSTERS:  # any vectors of so many parts will do, and none would be found soon
        largest = np.argsort(-np.bincount(part), kind="stable")[: MAX_CLUSTERS + 1]
        return np.zeros(MAX_CLUSTERS + 1), (part[:, None] == largest).astype(np.float64)
    scaled, root = laplacian(graph, normed=True, return_diag=True)
    # The largest of I - L need no inversion, which fills a large graph.
    start = np.random.default_rng(SEED).uniform(-1, 1, len(root))
    values, vectors = eigsh(identity(len(root)) - scaled, MAX_CLUSTERS + 1, which="LA", v0=start)
    return 1 - values[::-1], vectors[:, ::-1] / root[:, None]


def eigengap(values: NDArray[np.float64]) -> int:
    """Return the number of clusters after which eigenvalues in order rise most, 2..10.

    Where nothing rises, the graph has more unconnected parts than there may be clusters: 10.
    """
    gaps = np.diff(values)[MIN_CLUSTERS - 1 : MAX_CLUSTERS]
    return MIN_CLUSTERS + int(gaps.argmax()) if gaps.any() else MAX_CLUSTERS


def spectral_labels(spectrum: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return the clusters of ``laplacian_spectrum``'s vectors by k-means, ``(n,)``."""
    from sklearn.cluster import KMeans

    means = KMeans(count, n_init=10, random_state=SEED)
    labels: NDArray[np.int64] = means.fit_predict(spectrum[:, :count]).astype(np.int64)
    return labels


def _stability(reduced: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how well each cluster comes back in subsamples, ``(k,)``."""
    count, random = int(labels.max()) + 1, np.random.default_rng(SEED)
    size = min(MAX_SUBSAMPLE, round(KEPT * len(labels)))
    found = np.zeros(count)
    for _ in range(SUBSAMPLES):
        rows = np.sort(random.choice(len(labels), size, replace=False))
        _, spectrum = laplacian_spectrum(affinity(reduced[rows]))
        again = spectral_labels(spectrum, count)
        shared = np.zeros((count, count), np.int64)
        np.add.at(shared, (labels[rows], again), 1)
        found += adjusted_rand(shared).max(1)
    return found / SUBSAMPLES


def adjusted_rand(shared: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how far each cluster of one partition is one of another's, ``(k, m)``.

    The adjusted Rand index of being in the one and of being in the other: 1 for the same images,
    around 0 for chance; 0 too where a cluster has no image or all of them.

    Args:
        shared: ``(k, m)``, number of images that are in both.

    Source: Hubert and Arabie, Comparing partitions, 1985, https://doi.org/10.1007/BF01908075
    """
    both = shared.astype(np.float64)
    one, other, total = both.sum(1, keepdims=True), both.sum(0, keepdims=True), both.sum()
    cells = both, one - both, other - both, total - one - other + both
    same = sum(_pairs(own) for own in cells)
    ones, others = (_pairs(own) + _pairs(total - own) for own in (one, other))
    expected = ones * others / _pairs(total)
    room = (ones + others) / 2 - expected
    return np.where(room > 0, (same - expected) / np.where(room > 0, room, 1), 0)


def _pairs(count: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the number of pairs of so many images."""
    return count * (count - 1) / 2
