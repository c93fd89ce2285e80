"""What images are compared by: where their maps lie, and what channels contribute to them.

Both are of the image's predicted class, at the method and the layer that are shown first, and at
the layer whose channels' contributions are kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from camreport.insight.cache import numbered_images
from camreport.insight.numbers import ShardNumbers
from camreport.results.outline import Described
from camreport.results.reader import Results
from camreport.results.schema import LayerEntry, Manifest, MapKey
from camreport.results.shards import read_shard

CONTRIBUTIONS = "channel_contributions"

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
        flat = own.reshape(len(own), -1).astype(np.float64)
        lengths = np.linalg.norm(flat, axis=1, keepdims=True)
        return flat / np.where(lengths > 0, lengths, 1)


def contributing(manifest: Manifest) -> LayerEntry | None:
    """Return the layer whose channels' contributions are kept, if they are."""
    return getattr(manifest, "contributions", None)


def spaces_of(manifest: Manifest) -> tuple[Space, ...]:
    """Return the spaces in which images can be compared."""
    return SPACES if contributing(manifest) else SPACES[:1]


def rows_of(results: Results) -> Iterator[Rows]:
    """Yield the images of each shard.

    Raises:
        ResultsError: a shard is missing or damaged.
    """
    first = 0
    for numbers, images in numbered_images(results):
        yield _rows(results, numbers, images, first)
        first += len(images)


def joined(parts: Sequence[Rows]) -> Rows:
    """Return the images of several parts, at least one, one after the other."""
    names = [own.name for own in fields(Rows)]
    return Rows(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _rows(results: Results, numbers: ShardNumbers, images: Sequence[Described], first: int) -> Rows:
    """Return the images of one shard; ``first`` is the place of its first one."""
    key = results.manifest.glance
    place = numbers.keys.index(key)
    extent = numbers.of_predicted(numbers.area[place], key)
    has_map = extent > 0
    own = Rows(
        first + np.arange(len(images)),
        numbers.predicted,
        extent,
        numbers.where[place],
        np.zeros((len(images), 0), np.float32),
    )
    layer = contributing(results.manifest)
    if layer is not None:
        own = replace(own, what=_contributions(results, numbers, images, layer.address))
    return own.of(has_map)


def _contributions(
    results: Results, numbers: ShardNumbers, images: Sequence[Described], layer: str
) -> NDArray[np.float32]:
    """Return the channels' contributions to each image's predicted class, ``(n, C)``."""
    name = str(MapKey(CONTRIBUTIONS, layer))
    shard = results.path / (images[0].shard or "")
    values = read_shard(shard, results.path.parent, {name})[name]
    rows = [image.row for image in images if image.row is not None]
    own = values[rows, np.maximum(numbers.slot, 0)]
    return np.where(np.isfinite(own), own, np.float32(0))
