"""One row for each image, with all that is known of it, for programs that explore data."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camreport.insight.atlas import Points, atlas_of
from camreport.insight.columns import Column, image_columns, placement_columns
from camreport.insight.evidence_columns import evidence_columns
from camreport.insight.spaces import joined, rows_of
from camreport.results.reader import Results

NEIGHBOURS = 10
"""Number of the nearest images that are kept of each."""

MAX_NEIGHBOURED = 20_000
"""Most images among which neighbours are looked for."""

AT_ONCE = 1024
"""Number of images that are compared with all others at once."""


@dataclass(frozen=True)
class Placed:
    """What the atlas knows of n readable images; NaN and -1 of those that it does not hold.

    Attributes:
        space: what is compared: ``where`` or ``what``; empty without an atlas.
        projection: how they are laid out in the plane: ``tsne``, ``pca``, or empty.
        xy: float64 ``(n, 2)``.
        clusters: numbers of their clusters by ``where`` and by ``what``, ``(2, n)``; 0 for none.
        neighbours: int64 ``(n, k)``, places of the nearest images, the nearest first.
        distances: float32 ``(n, k)``, cosine distances, 0..2.
    """

    space: str
    projection: str
    xy: NDArray[np.float64]
    clusters: NDArray[np.int64]
    neighbours: NDArray[np.int64]
    distances: NDArray[np.float32]


def number_columns(results: Results) -> dict[str, Column]:
    """Return every number of the readable images, by name, at the layer that is shown first."""
    layer = results.manifest.glance.layer
    own = evidence_columns(results, layer, most=results.count)
    of_maps = image_columns(results, layer) | placement_columns(results)
    return of_maps | own.numbers | own.spread(results.count)


def placed(results: Results) -> Placed:
    """Return where the readable images lie, in their order.

    Raises:
        ResultsError: a shard is missing or damaged.
    """
    count, atlas = results.count, atlas_of(results)
    found = Placed(
        atlas.points.space if atlas else "",
        "" if atlas is None else ("pca" if atlas.points.tsne is None else "tsne"),
        np.full((count, 2), np.nan),
        np.zeros((2, count), np.int64),
        np.full((count, NEIGHBOURS), -1, np.int64),
        np.full((count, NEIGHBOURS), np.nan, np.float32),
    )
    if atlas is None:
        return found
    points = atlas.points
    index = np.array([image.index for image in results.outlines], np.int64)
    places = np.searchsorted(index, points.images)
    found.xy[places] = points.pca if points.tsne is None else points.tsne
    found.clusters[:, places] = points.where, points.what
    if len(places) <= MAX_NEIGHBOURED:
        _fill_neighbours(found, results, points, places)
    return found


def _fill_neighbours(
    found: Placed, results: Results, points: Points, places: NDArray[np.int64]
) -> None:
    """Fill in the nearest images of each, in the space in which they are laid out."""
    held = joined([rows.of(np.isin(rows.places, places)) for rows in rows_of(results)])
    vectors = held.vectors("what" if points.space == "what" else "where").astype(np.float32)
    near, distances = nearest(vectors, NEIGHBOURS)
    found.neighbours[held.places, : near.shape[1]] = held.places[near]
    found.distances[held.places, : near.shape[1]] = distances


def nearest(
    vectors: NDArray[np.float32], count: int
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the nearest other vectors of each vector ``(n, d)`` of length 1, by cosine distance.

    Returns:
        Their rows ``(n, k)``, the nearest first, and their distances; k is ``count``, or less of
        fewer vectors.
    """
    count = min(count, len(vectors) - 1)
    rows = np.empty((len(vectors), count), np.intp)
    distances = np.empty((len(vectors), count), np.float32)
    for start in range(0, len(vectors), AT_ONCE):
        apart = 1 - vectors[start : start + AT_ONCE] @ vectors.T
        own = np.arange(len(apart))
        apart[own, start + own] = np.inf
        kept = np.argpartition(apart, count - 1, 1)[:, :count] if count else own[:, None][:, :0]
        values = np.take_along_axis(apart, kept, 1)
        order = np.lexsort((kept, values), axis=1)
        rows[start : start + AT_ONCE] = np.take_along_axis(kept, order, 1)
        distances[start : start + AT_ONCE] = np.take_along_axis(values, order, 1)
    return rows, np.maximum(distances, 0)
