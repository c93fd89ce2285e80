"""What images are compared by: where their maps lie, and what channels contribute to them.

Both are of the image's predicted class, at the method and the layer that are shown first, and at
the layer whose channels' contributions are kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import repeat
from math import prod
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from camreport.errors import ResultsError
from camreport.insight.cache import numbered_images
from camreport.insight.channels import Vectors, predicted_vectors
from camreport.insight.clusters import on_sphere
from camreport.results.reader import Results
from camreport.results.schema import Manifest
from camreport.results.shards import MENDING

Space = Literal["where", "what"]
SPACES: tuple[Space, ...] = get_args(Space)


@dataclass(frozen=True)
class Rows:
    """Images whose predicted class has a map with positive evidence.

    Attributes:
        places: int64 ``(n,)``, their places among the readable images.
        predicted: int64 ``(n,)``, indices of the classes.
        extent: float32 ``(n,)``, fraction of what the model saw where a map is at least half of
            its maximum.
        where: uint8 ``(n, 14, 14)``, the maps on the common grid.
        what: float32 ``(n, C)``, contributions of the channels; C = 0 where they are not kept.
    """

    places: NDArray[np.int64]
    predicted: NDArray[np.int64]
    extent: NDArray[np.float32]
    where: NDArray[np.uint8]
    what: NDArray[np.float32]

    def of(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> "Rows":
        """Return some of the images."""
        return Rows(*(getattr(self, own.name)[rows] for own in fields(self)))

    def vectors(self, space: Space) -> NDArray[np.float64]:
        """Return the images in a space, ``(n, d)``, each of length 1, or 0 without a direction."""
        own = self.where if space == "where" else self.what
        flat = own.reshape(len(own), prod(own.shape[1:])).astype(np.float64)
        return on_sphere(flat)


def spaces_of(manifest: Manifest) -> tuple[Space, ...]:
    """Return the spaces in which images can be compared."""
    return SPACES if manifest.contributions else SPACES[:1]


def rows_of(results: Results) -> Iterator[Rows]:
    """Yield the images of each shard.

    Raises:
        ResultsError: a shard is missing or damaged.
    """
    first, key = 0, results.manifest.glance
    for (numbers, images), vectors in zip(
        numbered_images(results), _vectors(results), strict=False
    ):
        if key not in numbers.keys:
            raise ResultsError(f"results: {images[0].shard} has no maps {key}. {MENDING}")
        place = numbers.keys.index(key)
        extent = numbers.of_predicted(numbers.area[place], key)
        own = Rows(
            places=first + np.arange(len(images)),
            predicted=np.array([one.top[0].index if one.top else -1 for one in images]),
            extent=extent,
            where=numbers.where[place],
            what=_aligned(vectors, [image.index for image in images]),
        )
        yield own.of((extent > 0) & (own.predicted >= 0))
        first += len(images)


def joined(parts: Sequence[Rows]) -> Rows:
    """Return the images of several parts, at least one, one after the other."""
    names = [own.name for own in fields(Rows)]
    return Rows(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _vectors(results: Results) -> Iterator[Vectors | None]:
    """Yield the contributions of each shard's images, None for ever where they are not kept."""
    return predicted_vectors(results) if results.manifest.contributions else repeat(None)


def _aligned(vectors: Vectors | None, indices: Sequence[int]) -> NDArray[np.float32]:
    """Return the contributions of some images of a shard, 0 where there are none, ``(n, C)``."""
    if vectors is None:
        return np.zeros((len(indices), 0), np.float32)
    found = np.zeros((len(indices), vectors.values.shape[1]), np.float32)
    _, at, own = np.intersect1d(indices, vectors.images, return_indices=True)
    found[at] = vectors.values[own]
    return found
