"""The evidence for one shard: a pure function of its maps, its images and what is asked."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from camreport.engine.cost import Cost
from camreport.engine.explainer import Explainer
from camreport.images.loading import LoadedImage
from camreport.images.preprocessing import Preprocessing
from camreport.messages.progress import Progress, silent
from camreport.methods import METHODS
from camreport.metrics.controls import edge_strength, seen_pixels
from camreport.metrics.grid import Collages
from camreport.metrics.values import Undefined, Values
from camreport.pipeline.evidence.batch import EvidenceBatch
from camreport.pipeline.evidence.choice import Asked
from camreport.pipeline.evidence.gathered import Gathered
from camreport.pipeline.evidence.kinds import kinds_of
from camreport.pipeline.evidence.maps import controls_of, grids_of
from camreport.pipeline.evidence.parts import Part
from camreport.pipeline.evidence.regions import region_arrays
from camreport.pipeline.shard import Decoded, batches
from camreport.results.evidence import NumberKey, PartEntry
from camreport.results.reader import decode_photo
from camreport.results.schema import (
    IMAGE,
    LOGITS,
    PHOTO,
    PHOTO_OFFSETS,
    TARGETS,
    ImageEntry,
    MapKey,
)
from camreport.results.shards import Arrays
from camreport.settings import ALL

_Todo = tuple[Part, NDArray[np.intp], EvidenceBatch]
"""A part to measure of the images in some rows of a shard."""


@dataclass(frozen=True)
class Bench:
    """What the maps of every shard are measured with.

    Attributes:
        asked: what is measured.
        explainer: of the run; entered.
        preprocessing: of the photographs.
        batch: images that are measured at a time.
    """

    asked: Asked
    explainer: Explainer
    preprocessing: Preprocessing
    batch: int

    def batch_of(
        self, arrays: Arrays, rows: NDArray[np.intp], images: Sequence[ImageEntry]
    ) -> EvidenceBatch:
        """Return some images of a shard as a batch, with controls but without inputs.

        Args:
            arrays: of the shard.
            rows: of the images among those that could be read.
            images: records of the shard's inputs.
        """
        maps = {
            key: arrays[str(key)][rows]
            for key in map(MapKey.parse, arrays)
            if key and key.method in METHODS and arrays[str(key)].ndim == 4
        }
        indices = arrays[IMAGE][rows]
        sizes = [images[index - images[0].index].size for index in indices]
        edges = [self._edges(arrays, row, size) for row, size in zip(rows, sizes, strict=True)]
        grids = grids_of(maps)
        return EvidenceBatch(
            explainer=self.explainer,
            inputs=np.empty((0, 3, *self.preprocessing.size), np.float32),
            maps=maps,
            controls=controls_of(edges, grids, indices, self.asked.seed),
            targets=arrays[TARGETS][rows],
            logits=arrays[LOGITS][rows],
            indices=indices,
            preprocessing=self.preprocessing,
            seed=self.asked.seed,
            regions=self.asked.regions or {},
            every_map=self.asked.maps == ALL,
        )

    def _edges(self, arrays: Arrays, row: int, size: tuple[int, int]) -> NDArray[np.float32]:
        """Return the edges of what the model sees of an image, from its photograph as kept.

        The report makes the same, so the part that is seen follows the image's own size.
        """
        start, stop = arrays[PHOTO_OFFSETS][row : row + 2]
        photo = decode_photo(arrays[PHOTO][start:stop].tobytes(), "the photograph of a shard")
        seen = self.preprocessing.seen_part(*size)
        return edge_strength(seen_pixels(np.asarray(photo), seen, *self.preprocessing.size))


@dataclass(frozen=True)
class ShardEvidence:
    """The evidence for the maps of a shard.

    Attributes:
        arrays: by name, as they are written.
        unreadable: indices of the images whose files could not be read again as they had been.
        costs: of the passes, by the name of the part.
        failures: how the model failed on what it was asked, by metric.
    """

    arrays: Arrays
    unreadable: frozenset[int]
    costs: Mapping[str, Cost]
    failures: Mapping[str, str]

    @property
    def undefined(self) -> dict[str, dict[str, int]]:
        """The number of undefined values of each number, by reason."""
        return count_undefined(self.arrays)


def compute_evidence(
    bench: Bench,
    arrays: Arrays,
    images: Sequence[ImageEntry],
    parts: Sequence[Part],
    earlier: Mapping[str, Arrays],
    decoded: Iterable[Decoded],
    progress: Progress = silent,
) -> ShardEvidence:
    """Measure the maps of one shard, batch by batch; the result depends on nothing else.

    Args:
        bench: what they are measured with.
        arrays: of the shard.
        images: records of the shard's inputs.
        parts: all parts of the evidence.
        earlier: arrays of files with finished parts, by the names of the parts.
        decoded: the images ``to_decode``, in order; consumed batch by batch.
        progress: called with the number of further finished passes over one image.

    Raises:
        ClassError, LayerError, MemoryLimitError, ModelError: as for ``explain``.
    """
    own, gathered = arrays[IMAGE], Gathered(arrays[TARGETS].shape)
    for part in parts:
        if part.name in earlier:
            rows = np.flatnonzero(np.isin(own, part.indices))
            gathered.take(part.kind.metrics, rows, own, earlier[part.name])
    missing = [part for part in parts if part.name not in earlier]
    costs = {part.name: Cost() for part in missing}
    unreadable = set[int]()
    free = _free(bench, arrays, images, [part for part in missing if not part.kind.sampled])
    sampled = _sampled(bench, arrays, images, _groups(missing), iter(decoded), unreadable, progress)
    for part, rows, batch in chain(free, sampled):
        costs[part.name] += gathered.measure(part.kind, rows, batch)
    made = gathered.arrays(own, bench.asked.keys)
    if bench.asked.regions:
        made |= region_arrays(bench.asked.regions, own.tolist())
    return ShardEvidence(made, frozenset(unreadable), costs, gathered.failures)


def _free(
    bench: Bench, arrays: Arrays, images: Sequence[ImageEntry], parts: Sequence[Part]
) -> Iterator[_Todo]:
    """Yield what to measure without a pass, batch by batch."""
    count = len(arrays[IMAGE]) if parts else 0
    for start in range(0, count, bench.batch):
        rows = np.arange(start, min(start + bench.batch, count))
        batch = bench.batch_of(arrays, rows, images)
        for part in parts:
            yield part, rows, batch


def _sampled(
    bench: Bench,
    arrays: Arrays,
    images: Sequence[ImageEntry],
    groups: Mapping[tuple[int, ...], Sequence[Part]],
    decoded: Iterator[Decoded],
    unreadable: set[int],
    progress: Progress,
) -> Iterator[_Todo]:
    """Yield what to measure with passes, batch by batch; note images that are not as they were."""
    for indices, parts in groups.items():
        for some in batches(islice(decoded, len(indices)), bench.batch):
            pixels = _pixels(some, images)
            unreadable |= {index for index, _ in some} - pixels.keys()
            if not pixels:
                continue
            rows = np.flatnonzero(np.isin(arrays[IMAGE], [*pixels]))
            inputs = bench.preprocessing.standardised(np.stack([*pixels.values()]))
            batch = replace(bench.batch_of(arrays, rows, images), inputs=inputs)
            for part in parts:
                prepared = part.kind.prepared(batch, bench.asked.level, progress)
                if prepared is not None:
                    yield part, rows, prepared


def spare_arrays(
    parts: Mapping[str, PartEntry], earlier: Mapping[str, Arrays], shape: tuple[int, ...]
) -> Arrays:
    """Return the arrays of finished parts alone.

    Args:
        parts: the parts by name.
        earlier: arrays of the files that have them, by the names of the parts.
        shape: number of images and of classes.
    """
    gathered, metrics, own = Gathered(shape), set[str](), np.empty(0, np.int64)
    for name, entry in parts.items():
        for kind in kinds_of([name.partition(".")[0]]):
            own = earlier[name][IMAGE]
            rows = np.flatnonzero(np.isin(own, entry.images) | (not entry.images))
            gathered.take(kind.metrics, rows, own, earlier[name])
            metrics.update(kind.metrics)
    return gathered.arrays(own, metrics)


def to_decode(missing: Iterable[Part]) -> list[int]:
    """Return the indices of the images whose files it takes to measure parts."""
    return [index for indices in _groups(missing) for index in indices]


def _groups(missing: Iterable[Part]) -> dict[tuple[int, ...], list[Part]]:
    """Return parts that take passes, by their images."""
    found: dict[tuple[int, ...], list[Part]] = {}
    for part in missing:
        if part.kind.sampled:
            found.setdefault(part.indices, []).append(part)
    return found


def collage_arrays(collages: Collages, values: Mapping[str, Values]) -> Arrays:
    """Return the arrays of the file of collages; none if there is no collage."""
    if not len(collages.image):
        return {}
    found: Arrays = {IMAGE: collages.image, TARGETS: collages.target}
    for name, own in sorted(values.items()):
        found[name], found[NumberKey.parse(name).reasons] = own.numbers, own.reasons
    return found


def count_undefined(arrays: Arrays) -> dict[str, dict[str, int]]:
    """Return the number of undefined values of each number, by reason.

    Those of images outside the sample do not count.
    """
    found: dict[str, dict[str, int]] = {}
    for key in map(NumberKey.parse, arrays):
        why, numbers = np.unique(arrays.get(key.reasons, ()), return_counts=True)
        for reason, number in zip(why.tolist(), numbers.tolist(), strict=True):
            if reason > Undefined.NOT_MEASURED:
                counts, word = found.setdefault(key.number, {}), Undefined(reason).word
                counts[word] = counts.get(word, 0) + number
    return found


def _pixels(batch: Sequence[Decoded], images: Sequence[ImageEntry]) -> dict[int, NDArray[np.uint8]]:
    """Return the pixels of those images that are as they were explained, by their indices."""
    first = images[0].index
    return {
        index: image.pixels
        for index, image in batch
        if isinstance(image, LoadedImage) and image.sha256 == images[index - first].sha256
    }
