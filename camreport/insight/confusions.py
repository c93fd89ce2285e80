"""What the maps of confused classes have in common: the true class's, the predicted one's, both.

The maps of wrong images alone are read, at the layer that is shown first and of the fused maps.
All sums are whole numbers, so they do not depend on the order of the shards.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from camreport.errors import ResultsError
from camreport.insight.cache import possible_keys
from camreport.insight.numbers import areas_and_grids
from camreport.methods import METHODS
from camreport.metrics.grids import GRID, resampled
from camreport.results.outline import Described
from camreport.results.reader import Results
from camreport.results.schema import FUSED, IMAGE, TARGETS, MapKey
from camreport.results.shards import MENDING, Arrays, shard_number, true_name

MAX_CELLS = 60
"""Most pairs of a true and a predicted class that are told of, the most frequent first."""

MAX_FIRST = 12
"""Most images of a pair that are listed."""


@dataclass(frozen=True)
class ConfusionMaps:
    """Mean maps of the images of one true class that are predicted as another, by one method.

    Attributes:
        key: the method and the layer.
        true: index of the true class.
        predicted: index of the predicted class.
        n: number of such images with maps of both classes.
        images: indices of the first of them, the most confident prediction first.
        of_true: mean of relu(R) / max(R) of the true class's maps with positive evidence,
            ``(14, 14)``, 0..1; None if there are none.
        of_predicted: the same of the predicted class's maps.
        contrast: mean of R / max |R| for R = R(predicted) - R(true) of the raw maps, ``(14, 14)``,
            -1..1: above 0 where the predicted class has more. None if the raw maps of a method have
            no exact difference, or none is finite and other than zero.
    """

    key: MapKey
    true: int
    predicted: int
    n: int
    images: tuple[int, ...]
    of_true: NDArray[np.float64] | None
    of_predicted: NDArray[np.float64] | None
    contrast: NDArray[np.float64] | None


@dataclass
class _Mean:
    """A mean of maps on the common grid, while they are added up.

    Attributes:
        n: number of maps.
        sums: of their levels, whole numbers -255..255.
    """

    n: int = 0
    sums: NDArray[np.int64] = field(default_factory=lambda: np.zeros((GRID, GRID), np.int64))

    def add(self, values: NDArray[np.float64], counts: NDArray[np.bool_]) -> None:
        """Add those of some maps ``(m, 14, 14)``, -1..1, that count."""
        self.n += int(counts.sum())
        self.sums += np.floor(values[counts] * 255 + 0.5).sum(0).astype(np.int64)

    def mean(self) -> NDArray[np.float64] | None:
        """Return the mean; None of no map."""
        return self.sums / (255 * self.n) if self.n else None


@dataclass
class _Cell:
    """The sums of one pair of classes, by one method at one layer."""

    n: int = 0
    of_true: _Mean = field(default_factory=_Mean)
    of_predicted: _Mean = field(default_factory=_Mean)
    contrast: _Mean = field(default_factory=_Mean)

    def maps(
        self, key: MapKey, pair: tuple[int, int], images: Sequence[Described]
    ) -> ConfusionMaps:
        """Return the means; ``images`` are those of the pair, in order."""
        first = tuple(one.index for one in images[:MAX_FIRST])
        means = (one.mean() for one in (self.of_true, self.of_predicted, self.contrast))
        return ConfusionMaps(key, *pair, self.n, first, *means)


def confusion_maps(results: Results) -> tuple[ConfusionMaps, ...]:
    """Return the mean maps of the most frequent confusions, by pair of classes, then by method.

    There are none without labels, where a label means several classes, or where no method looks at
    a class.

    Raises:
        ResultsError: a file is missing or damaged.
    """
    wrong = _wrong(results.outlines) if _keys(results) else {}
    cells: dict[tuple[int, int], dict[MapKey, _Cell]] = {pair: {} for pair in wrong}
    images = sorted((one for own in wrong.values() for one in own), key=lambda one: one.index)
    for shard, group in groupby(images, key=lambda one: one.shard or ""):
        for pair, key, true, predicted in _maps(results, shard, list(group)):
            cell = cells[pair].setdefault(key, _Cell())
            _add(cell, key, true, predicted, results.manifest.smooth)
    keys = _keys(results)
    return tuple(
        by_key[key].maps(key, pair, wrong[pair])
        for pair, by_key in cells.items()
        for key in keys
        if key in by_key
    )


def _wrong(images: Sequence[Described]) -> dict[tuple[int, int], list[Described]]:
    """Return the images of the most frequent pairs of true and predicted class, confident first."""
    if any(image.labels for image in images):
        return {}
    known = [one for one in images if one.label is not None and one.top]
    counts = Counter(map(_pair, known))
    pairs = sorted((pair for pair in counts if pair[0] != pair[1]), key=lambda p: (-counts[p], p))
    found: dict[tuple[int, int], list[Described]] = {pair: [] for pair in pairs[:MAX_CELLS]}
    for one in known:
        if (pair := _pair(one)) in found:
            found[pair].append(one)
    for own in found.values():
        own.sort(key=lambda one: (-one.top[0].probability, one.index))
    return found


def _keys(results: Results) -> list[MapKey]:
    """Return the keys of the arrays whose maps are averaged."""
    layers = (results.manifest.glance.layer, FUSED)
    return [
        key
        for key in possible_keys(results.manifest)
        if key.layer in layers
        and METHODS[key.method].per_class
        and not METHODS[key.method].per_channel
    ]


def _maps(
    results: Results, shard: str, images: list[Described]
) -> Iterator[tuple[tuple[int, int], MapKey, NDArray[np.float32], NDArray[np.float32]]]:
    """Yield the raw maps of wrong images of a shard by pair of classes and key.

    Yields:
        The pair, the key, and the maps of the true and of the predicted class, ``(m, ...)`` each.
    """
    keys = _keys(results)
    arrays = results.some(shard, [*map(str, keys)])
    apart: Arrays = {}
    if any(one.label not in arrays[TARGETS][_row(arrays, one, shard)] for one in images):
        apart = results.some(true_name(shard_number(shard)), [*map(str, keys)])
    images.sort(key=_pair)
    for pair, group in groupby(images, key=_pair):
        own = list(group)
        places = [[_place(arrays, apart, one, target) for target in pair] for one in own]
        there = [(true, predicted) for true, predicted in places if true and predicted]
        for key in keys if there else ():
            if (name := str(key)) in arrays:
                true, predicted = (
                    np.stack([kept[name][row, slot] for kept, row, slot in column])
                    for column in zip(*there, strict=True)
                )
                yield pair, key, true, predicted


def _pair(image: Described) -> tuple[int, int]:
    """Return the true and the predicted class of an image that has both."""
    return image.label or 0, image.top[0].index


def _row(arrays: Arrays, image: Described, shard: str) -> int:
    """Return an image's row in a shard.

    Raises:
        ResultsError: the shard does not have the image.
    """
    if image.row is None or image.row >= len(arrays[IMAGE]):
        raise ResultsError(f"results: {shard} has too few maps. {MENDING}")
    return image.row


def _place(
    arrays: Arrays, apart: Arrays, image: Described, target: int
) -> tuple[Arrays, int, int] | None:
    """Return where an image's maps of a class are: the arrays, the row and the slot; or None."""
    slots = np.flatnonzero(arrays[TARGETS][image.row] == target)
    if len(slots):
        return arrays, image.row or 0, int(slots[0])
    rows = np.flatnonzero(apart.get(IMAGE, np.array([])) == image.index)
    if len(rows) and apart[TARGETS][rows[0], 0] == target:
        return apart, int(rows[0]), 0
    return None


def _add(
    cell: _Cell,
    key: MapKey,
    true: NDArray[np.float32],
    predicted: NDArray[np.float32],
    smooth: Sequence[str],
) -> None:
    """Add the maps of some images to the sums."""
    method = METHODS[key.method]
    cell.n += len(true)
    for mean, cams in ((cell.of_true, true), (cell.of_predicted, predicted)):
        areas, grids = areas_and_grids(cams[:, None], method)
        mean.add(grids[:, 0], areas[:, 0] > 0)
    if method.is_linear(smooth) and true.ndim == 3:
        with np.errstate(invalid="ignore"):
            difference = predicted.astype(np.float64) - true
        largest = np.abs(difference).max((-2, -1))
        counts = np.isfinite(largest) & (largest > 0)
        scale = np.where(counts, largest, 1)[:, None, None]
        cell.contrast.add(resampled(difference / scale, GRID, GRID), counts)
