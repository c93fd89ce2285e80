"""The images in which each channel adds most to the score: by contribution, not by activation.

A channel that is active speaks for a class only as far as the score depends on it: its
contribution is the gradient times the activation, summed over positions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from camreport.errors import ResultsError
from camreport.results.outline import Described
from camreport.results.reader import Results
from camreport.results.schema import CHANNEL_CONTRIBUTIONS, IMAGE, TARGETS, MapKey
from camreport.results.shards import MENDING, Arrays

TOP_IMAGES = 9
"""Number of images that are kept for each channel."""


@dataclass(frozen=True)
class ChannelTops:
    """For each of C channels of one layer, the images in which it contributes most.

    Attributes:
        layer: address of the layer.
        images: int64 ``(C, 9)``, indices of the images, the largest contribution first; -1 where
            there are no more in which the channel contributes.
        classes: int64 ``(C, 9)``, indices of the predicted classes, to whose scores the channel
            contributes; -1 likewise.
        values: float32 ``(C, 9)``, the contributions, above 0, in units of the score; NaN likewise.
        shares: float32 ``(C, 9)``, the contributions as fractions, 0..1, of all positive
            contributions to the score of that image; NaN likewise.
    """

    layer: str
    images: NDArray[np.int64]
    classes: NDArray[np.int64]
    values: NDArray[np.float32]
    shares: NDArray[np.float32]


def top_images(results: Results) -> ChannelTops | None:
    """Return the images in which each channel contributes most to the predicted class's score.

    One pass over the shards, in flat memory. Of equal contributions the first image comes first.

    Returns:
        None where a run has not kept contributions.

    Raises:
        ResultsError: a shard is missing or damaged.
    """
    layer = results.manifest.contributions
    if layer is None:
        return None
    shape = layer.shape[0], TOP_IMAGES
    best = ChannelTops(
        layer.address,
        np.full(shape, -1, np.int64),
        np.full(shape, -1, np.int64),
        np.full(shape, np.nan, np.float32),
        np.full(shape, np.nan, np.float32),
    )
    for vectors in predicted_vectors(results):
        best = _merged(best, vectors)
    return best


def _merged(best: ChannelTops, vectors: "Vectors") -> ChannelTops:
    """Return the top images among those so far and further ones."""
    own = vectors.values.T  # (C, m)
    positive = np.maximum(vectors.values, 0).sum(1, dtype=np.float64)
    shares = (own / np.where(positive > 0, positive, 1)).astype(np.float32)
    speaks = own > 0
    images = np.where(speaks, vectors.images, -1)
    values = np.where(speaks, own, np.float32(np.nan))
    joined = (
        np.concatenate([best.images, images], 1),
        np.concatenate([best.classes, np.where(speaks, vectors.classes, -1)], 1),
        np.concatenate([best.values, values], 1),
        np.concatenate([best.shares, np.where(speaks, shares, np.float32(np.nan))], 1),
    )
    order = np.lexsort((joined[0], -np.nan_to_num(joined[2], nan=-np.inf)), axis=1)[:, :TOP_IMAGES]
    return ChannelTops(best.layer, *(np.take_along_axis(one, order, 1) for one in joined))


@dataclass(frozen=True)
class Vectors:
    """Contributions of the channels of one layer in m images of a shard.

    Attributes:
        images: int64 ``(m,)``, indices of the images.
        classes: int64 ``(m,)``, indices of their predicted classes.
        values: float32 ``(m, C)``, gradient times activation, summed over positions, in units of
            the score.
    """

    images: NDArray[np.int64]
    classes: NDArray[np.int64]
    values: NDArray[np.float32]


def predicted_vectors(results: Results) -> Iterator[Vectors]:
    """Yield the contributions to the predicted class's score, shard by shard.

    Images whose predicted class is not explained are left out, and so are those with a number that
    is not finite. Results without contributions yield nothing.

    Raises:
        ResultsError: a shard is missing or damaged.
    """
    layer = results.manifest.contributions
    if layer is None:
        return
    name = str(MapKey(CHANNEL_CONTRIBUTIONS, layer.address))
    for shard, group in groupby(results.outlines, key=attrgetter("shard")):
        arrays = results.some(shard, {name})
        yield _of_predicted(arrays, name, [image for image in group if image.top], shard)


def _of_predicted(arrays: Arrays, name: str, images: list[Described], shard: str) -> Vectors:
    """Return the contributions to the predicted class of the images in which it is explained."""
    rows = np.array([image.row for image in images], np.int64)
    if rows.size and rows.max() >= len(arrays[IMAGE]):
        raise ResultsError(f"results: {shard} has too few maps. {MENDING}")
    predicted = np.array([image.top[0].index for image in images], np.int64)
    found = arrays[TARGETS][rows] == predicted[:, None]
    values = arrays[name][rows, found.argmax(1)]
    kept = found.any(1) & np.isfinite(values).all(1)
    return Vectors(arrays[IMAGE][rows][kept], predicted[kept], values[kept])
