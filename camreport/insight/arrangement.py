"""How the images of a run are arranged: in clusters, in the plane, and which stand apart.

This is what takes time; it knows neither true classes nor what a card says. Two passes over the
numbers beside the shards: one takes a sample of each class, the other adds the rest. Where the
sample is all there is, one pass is enough.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camreport.insight.clusters import (
    MAX_CLUSTERS,
    MIN_IMAGES,
    MIN_STABILITY,
    SEED,
    cluster,
    is_available,
    on_sphere,
)
from camreport.insight.embedding import plane, tsne
from camreport.insight.outliers import outlying
from camreport.insight.spaces import SPACES, Rows, Space, joined, rows_of, spaces_of
from camreport.metrics.grids import GRID
from camreport.results.reader import Results

MAX_CLASSES = 50
"""Most predicted classes whose images are clustered: the most frequent ones."""

MAX_SAMPLE = 20_000
"""Most images of a class that clusters are found among; the others join the nearest."""

MAX_HELD = 128 * 2**20
"""Most bytes of images that clusters are found among, of all classes."""

MAX_POINTS = 100_000
"""Most images in the plane."""


@dataclass(frozen=True)
class Arrangement:
    """The arrangement of N readable images.

    Attributes:
        labels: int8 ``(2, N)``, number of each image's cluster among the stable ones of its class,
            from 1 on, by where and by what; 0 for none.
        distance: float32 ``(2, N)``, its cosine distance to the cluster's centre, 0..2; 0 likewise.
        clustered: int64 ``(M,)``, the classes that were clustered.
        stability: float32 ``(2, M, 10)``, of their clusters; 0 for none.
        points: int64 ``(P,)``, places of the images in the plane.
        pca: float32 ``(P, 2)``, their first two principal components.
        tsne: float32 ``(P, 2)``, or ``(0, 2)`` without a layout.
        outliers: int64 ``(O, 2)``, places of outliers, and of the nearest ordinary image of each.
        apart: float32 ``(O,)``, their distance to their k-th neighbour.
    """

    labels: NDArray[np.int8]
    distance: NDArray[np.float32]
    clustered: NDArray[np.int64]
    stability: NDArray[np.float32]
    points: NDArray[np.int64]
    pca: NDArray[np.float32]
    tsne: NDArray[np.float32]
    outliers: NDArray[np.int64]
    apart: NDArray[np.float32]


@dataclass(frozen=True)
class _Grouped:
    """The clusters of one class in one space.

    Attributes:
        space: in which they are clustered.
        predicted: index of the class.
        places: of the images among which they were found.
        labels: int8, their numbers among the stable clusters, from 1 on; 0 for none.
        centres: ``(k, d)``, of length 1, those that are not stable among them.
        numbers: int8 ``(k,)``, the number of each.
        stability: of the stable ones.
    """

    space: Space
    predicted: int
    places: NDArray[np.int64]
    labels: NDArray[np.intp]
    centres: NDArray[np.float64]
    numbers: NDArray[np.int8]
    stability: NDArray[np.float64]


def arrange(results: Results) -> Arrangement | None:
    """Arrange the images of a run; without scikit-learn there are points alone.

    Returns:
        None where fewer than two images have a map with positive evidence.

    Raises:
        ResultsError: a shard is missing or damaged.
    """
    predicted = predicted_classes(results)
    spaces, chosen = spaces_of(results.manifest), _sample(predicted, _row_bytes(results))
    held = joined([rows.of(np.isin(rows.places, chosen)) for rows in rows_of(results)])
    if len(held.places) < 2:
        return None
    complete, classes = len(chosen) == len(predicted), _clustered(held.predicted)
    groups = [_grouped(held, space, own) for space in spaces for own in classes.tolist()]
    vectors = held.vectors(spaces[-1])
    placed = _Placed(len(predicted), plane(vectors), spaces[-1])
    for rows in [held] if complete else rows_of(results):
        placed.add(rows, groups)
    laid = tsne(vectors) if complete and is_available() else None
    stability = np.zeros((len(SPACES), len(classes), MAX_CLUSTERS), np.float32)
    for one in groups:
        row = stability[SPACES.index(one.space), np.searchsorted(classes, one.predicted)]
        row[: len(one.stability)] = one.stability
    outliers, apart = _outliers(held, vectors, classes)
    return Arrangement(
        labels=placed.labels,
        distance=placed.distance,
        clustered=classes,
        stability=stability,
        points=np.concatenate(placed.points),
        pca=np.concatenate(placed.pca).astype(np.float32),
        tsne=np.zeros((0, 2), np.float32) if laid is None else laid.astype(np.float32),
        outliers=outliers,
        apart=apart,
    )


def predicted_classes(results: Results) -> NDArray[np.int64]:
    """Return the index of each readable image's predicted class; -1 without one, ``(N,)``."""
    found = (one.top[0].index if one.top else -1 for one in results.outlines)
    return np.fromiter(found, np.int64, results.count)


def _row_bytes(results: Results) -> int:
    """Return the bytes of an image that is held."""
    layer = results.manifest.contributions
    return GRID * GRID + (4 * layer.shape[0] if layer else 0)


def _sample(predicted: NDArray[np.int64], row_bytes: int) -> NDArray[np.int64]:
    """Return the places of the images among which clusters are found, in order."""
    classes, counts = np.unique(predicted[predicted >= 0], return_counts=True)
    classes = classes[np.argsort(-counts, kind="stable")][:MAX_CLASSES]
    most = min(MAX_SAMPLE, MAX_HELD // (row_bytes * max(len(classes), 1)))
    random = np.random.default_rng(SEED)
    drawn = [np.flatnonzero(predicted == own) for own in classes]
    drawn = [own if len(own) <= most else random.choice(own, most, replace=False) for own in drawn]
    return np.sort(np.concatenate(drawn)) if drawn else np.zeros(0, np.int64)


def _clustered(predicted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the classes that have enough images to be clustered, in order."""
    classes, counts = np.unique(predicted, return_counts=True)
    return classes[counts >= MIN_IMAGES] if is_available() else classes[:0]


def _grouped(held: Rows, space: Space, predicted: int) -> _Grouped:
    """Return the clusters of one class."""
    own = held.of(held.predicted == predicted)
    vectors = own.vectors(space)
    made = cluster(vectors)
    stable = made.stability >= MIN_STABILITY
    numbers = np.where(stable, np.cumsum(stable), 0).astype(np.int8)
    centres = np.stack([vectors[made.labels == one].sum(0) for one in range(len(stable))])
    return _Grouped(
        space=space,
        predicted=predicted,
        places=own.places,
        labels=made.labels,
        centres=on_sphere(centres),
        numbers=numbers,
        stability=made.stability[stable],
    )


class _Placed:
    """What is known of each image, while it is gathered."""

    def __init__(
        self, count: int, axes: tuple[NDArray[np.float64], NDArray[np.float64]], space: Space
    ) -> None:
        """Begin with nothing known of so many images."""
        self.labels = np.zeros((len(SPACES), count), np.int8)
        self.distance = np.zeros((len(SPACES), count), np.float32)
        self.points: list[NDArray[np.int64]] = []
        self.pca: list[NDArray[np.float64]] = []
        self._axes, self._space = axes, space
        drawn = np.random.default_rng(SEED).permutation(count)[:MAX_POINTS]
        self._shown = np.zeros(count, bool)
        self._shown[drawn] = True

    def add(self, rows: Rows, groups: Sequence[_Grouped]) -> None:
        """Add images: to the clusters they were found in, or to the nearest."""
        centre, axes = self._axes
        own = rows.of(self._shown[rows.places])
        self.points.append(own.places)
        self.pca.append((own.vectors(self._space) - centre) @ axes)
        for group in groups:
            some = rows.of(rows.predicted == group.predicted)
            likeness = some.vectors(group.space) @ group.centres.T
            found = likeness.argmax(1)
            known = np.searchsorted(group.places, some.places)
            known = np.minimum(known, len(group.places) - 1)
            is_known = group.places[known] == some.places
            found = np.where(is_known, group.labels[known], found)
            at = SPACES.index(group.space), some.places
            self.labels[at] = group.numbers[found]
            distance = 1 - np.take_along_axis(likeness, found[:, None], 1)[:, 0]
            self.distance[at] = np.where(group.numbers[found] > 0, np.clip(distance, 0, 2), 0)


def _outliers(
    held: Rows, vectors: NDArray[np.float64], classes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the places of the outliers of all classes and of their neighbours, and how far."""
    pairs, apart = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.float32)]
    for own in classes:
        places = held.places[held.predicted == own]
        found = outlying(vectors[held.predicted == own])
        pairs.append(np.stack([places[found.rows], places[found.neighbours]], 1))
        apart.append(found.distance.astype(np.float32))
    return np.concatenate(pairs), np.concatenate(apart)
