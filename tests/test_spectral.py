"""Clusters of vectors, against scikit-learn, dense eigenvalues and closed forms."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse import block_diag
from scipy.sparse.csgraph import laplacian
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score

from camreport.insight.clusters import (
    MIN_STABILITY,
    Clustering,
    adjusted_rand,
    affinity,
    cluster,
    eigengap,
    laplacian_spectrum,
    neighbours_of,
    principal,
    spectral_labels,
)


def blobs(sizes: tuple[int, ...], noise: float, seed: int = 0) -> NDArray[np.float64]:
    """Return unit vectors about as many directions, ``(sum, 40)``."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(len(sizes), 40))
    found = np.repeat(centres, sizes, axis=0) + noise * random.normal(size=(sum(sizes), 40))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.filterwarnings("ignore:Graph is not fully connected")
@pytest.mark.parametrize("noise", [0.3, 1.0, 1.4])
@pytest.mark.parametrize("sizes", [(60, 40), (60, 40, 30), (25, 30, 35, 40, 45)])
def test_labels_are_those_of_scikit_learn_on_the_same_affinity(
    noise: float, sizes: tuple[int, ...]
) -> None:
    graph = affinity(principal(blobs(sizes, noise)))
    values, spectrum = laplacian_spectrum(graph)
    count = eigengap(values)
    assert count == len(sizes)
    ours = spectral_labels(spectrum, count)
    theirs = SpectralClustering(count, affinity="precomputed", random_state=0).fit_predict(graph)
    assert adjusted_rand_score(ours, theirs) == 1


def test_affinity_joins_the_nearest_by_cosine() -> None:
    vectors = blobs((20, 14), 1.0)
    likeness = vectors @ vectors.T
    nearest = np.argsort(-likeness, axis=1)[:, : neighbours_of(34)]
    joined = np.zeros((34, 34))
    np.put_along_axis(joined, nearest, 1, axis=1)
    np.testing.assert_array_equal(affinity(vectors).toarray(), (joined + joined.T) / 2)


@pytest.mark.parametrize(("count", "neighbours"), [(30, 5), (99, 9), (100, 10), (20_000, 10)])
def test_each_image_is_joined_to_the_root_of_their_number(count: int, neighbours: int) -> None:
    assert neighbours_of(count) == neighbours


def test_spectrum_is_that_of_the_dense_laplacian_also_where_eigenvalues_repeat() -> None:
    parts = [affinity(blobs((size,), 1.0, seed)) for seed, size in enumerate((30, 30, 40, 25))]
    graph = block_diag(parts, format="csr")
    values, spectrum = laplacian_spectrum(graph)
    scaled, root = laplacian(graph, normed=True, return_diag=True)
    expected, vectors = eigh(scaled.toarray())
    np.testing.assert_allclose(values, expected[: len(values)], atol=1e-9)
    np.testing.assert_allclose(expected[:4], 0, atol=1e-9)
    ours, theirs = spectrum[:, :4] * root[:, None], vectors[:, :4]
    np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-7)


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ([0, 0, 0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.9, 0.9, 0.9], 3),
        ([0, 0.3, 0.7, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9], 2),
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.2], 10),
    ],
)
def test_the_widest_gap_from_two_to_ten_decides_how_many(values: list[float], count: int) -> None:
    assert eigengap(np.array(values)) == count


def test_adjusted_rand_is_scikit_learns_for_each_two_clusters() -> None:
    random = np.random.default_rng(3)
    one = random.integers(0, 4, 90)
    other = np.where(random.random(90) < 0.7, one, random.integers(0, 5, 90))
    shared = np.zeros((4, 5), np.int64)
    np.add.at(shared, (one, other), 1)
    expected = [[adjusted_rand_score(one == i, other == j) for j in range(5)] for i in range(4)]
    np.testing.assert_allclose(adjusted_rand(shared), expected, atol=1e-12)


@pytest.mark.parametrize("shared", [[[0, 0], [4, 5]], [[9], [0]], [[9]]])
def test_a_cluster_of_none_or_of_all_does_not_come_back(shared: list[list[int]]) -> None:
    found = adjusted_rand(np.array(shared))
    assert (found[0] == 0).all()


def found(vectors: NDArray[np.float64]) -> Clustering:
    """Return the clusters, after a check that they are the same each time."""
    made, again = cluster(vectors), cluster(vectors)
    np.testing.assert_array_equal(made.labels, again.labels)
    np.testing.assert_array_equal(made.stability, again.stability)
    return made


def test_groups_that_are_apart_come_back_whole_the_largest_first() -> None:
    made = found(blobs((20, 50, 30), 0.3))
    expected = np.repeat([2, 0, 1], (20, 50, 30))
    np.testing.assert_array_equal(made.labels, expected)
    np.testing.assert_allclose(made.stability, 1)


def test_noise_has_no_cluster_that_comes_back() -> None:
    made = found(np.random.default_rng(0).normal(size=(80, 196)))
    assert (made.stability < MIN_STABILITY).all()
