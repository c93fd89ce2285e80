"""Numbers of the maps of one shard: a pure function of its arrays, kept beside it (``cache``).

What is measured of a map is what the report draws of it (``drawn``). Equal arrays give equal bytes
on every machine: sums that could depend on their order are sums of whole numbers.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations, repeat

import numpy as np
from numpy.typing import NDArray

from camreport.insight.drawn import drawn
from camreport.methods import METHODS, Method
from camreport.metrics.extent import area_above_half
from camreport.metrics.grids import AREA_GRID, GRID, resampled
from camreport.metrics.ranks import average_ranks
from camreport.results.reader import probabilities
from camreport.results.schema import LOGITS, TARGETS, MapKey
from camreport.results.shards import Arrays

TOP_CELLS = GRID * GRID // 5
"""Number of cells of the highest fifth of a map on the common grid."""

LEVELS = 60_000
"""Levels of the common grid's values when they are ranked, so that rounding orders no equal cells.
Halves, thirds, quarters and fifths lie in the middle of a level."""

MAX_VALUES = 1 << 16
"""Number of values that are measured at once, unless one image has more."""

MAX_ROWS = 64
"""Number of images that one thread measures; a graphics card computes shards of more."""

MAX_THREADS = 4
"""Number of threads that measure the images of one shard."""

Pair = tuple[MapKey, MapKey]
"""The maps of two methods at one layer."""

_OF_IMAGES = ("predicted", "slot", "margin")
_OF_MAPS = ("area", "where", "correlation", "overlap", "likeness")


@dataclass(frozen=True)
class ShardNumbers:
    """Numbers of the maps of n images, with K classes explained in each.

    Attributes:
        keys: method and layer of each of the P arrays of maps.
        predicted: int64 ``(n,)``, index of the most probable class; -1 where no logit is finite.
        slot: int64 ``(n,)``, index of that class among those explained; -1 where it is not.
        margin: float32 ``(n,)``, probability of the most probable class minus that of the second;
            NaN where there is no second.
        area: float32 ``(P, n, K)``, fraction of what the model saw where a map is at least half of
            its maximum, by magnitude if it is in colours; 0 exactly for a map without positive
            evidence, NaN for a map that is not finite.
        where: uint8 ``(P, n, 14, 14)``, 255 * relu(R) / max(R) of the predicted class's map on a
            common grid; 0 where there is no such map or no positive evidence in it. A map that all
            classes share counts as the predicted class's.
        correlation: float32 ``(Q, n, K)``, Spearman's rank correlation on the common grid of the
            maps of each of ``pairs``, -1..1; NaN where one is empty, undefined or constant.
        overlap: float32 ``(Q, n, K)``, intersection over union of their highest fifths, 0..1; NaN
            likewise.
        likeness: float32 ``(P, n)``, Spearman's rank correlation of the maps of the two most
            probable explained classes; NaN likewise, and where there are no two such maps.
    """

    keys: tuple[MapKey, ...]
    predicted: NDArray[np.int64]
    slot: NDArray[np.int64]
    margin: NDArray[np.float32]
    area: NDArray[np.float32]
    where: NDArray[np.uint8]
    correlation: NDArray[np.float32]
    overlap: NDArray[np.float32]
    likeness: NDArray[np.float32]

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs of methods with maps at one layer, in the order of ``correlation``."""
        return tuple(
            (self.keys[i], self.keys[j])
            for places in _by_layer(self.keys)
            for i, j in combinations(places, 2)
        )

    def of_predicted(self, values: NDArray[np.float32], *keys: MapKey) -> NDArray[np.float32]:
        """Return of values ``(n, K)`` of maps the predicted class's, ``(n,)``; NaN for no map.

        Args:
            values: one for each image and slot.
            keys: of the maps that they are about.
        """
        slot = self.slots(*keys)
        own = np.take_along_axis(values, np.maximum(slot, 0)[:, None], 1)[:, 0]
        return np.where(slot < 0, np.float32(np.nan), own)

    def slots(self, *keys: MapKey) -> NDArray[np.int64]:
        """Return the slot of each image's maps for the predicted class; -1 where there are none.

        Maps that all classes share are in every slot.
        """
        per_class = any(METHODS[key.method].per_class for key in keys)
        return self.slot if per_class else np.zeros_like(self.slot)

    def rows(self, rows: Sequence[int]) -> "ShardNumbers":
        """Return the numbers of some of the images, in the order of their rows."""
        of_images = {name: getattr(self, name)[rows] for name in _OF_IMAGES}
        of_maps = {name: getattr(self, name)[:, rows] for name in _OF_MAPS}
        return ShardNumbers(self.keys, **of_images, **of_maps)


def measure(arrays: Arrays, activation: str) -> ShardNumbers:
    """Return the numbers of a shard's maps.

    Args:
        arrays: the arrays of a shard.
        activation: how its logits become probabilities, as for ``probabilities``.
    """
    names = (LOGITS, TARGETS, *map(str, map_keys(arrays)))
    starts = range(0, len(arrays[LOGITS]), MAX_ROWS)
    parts = [{name: arrays[name][start : start + MAX_ROWS] for name in names} for start in starts]
    with ThreadPoolExecutor(min(len(parts), MAX_THREADS)) as threads:
        return _joined([*threads.map(_measured, parts, repeat(activation))])


def _joined(parts: Sequence[ShardNumbers]) -> ShardNumbers:
    """Return the numbers of all images of several parts of a shard."""
    if len(parts) == 1:
        return parts[0]
    axes = {name: 0 for name in _OF_IMAGES} | {name: 1 for name in _OF_MAPS}
    own = {
        name: np.concatenate([getattr(part, name) for part in parts], axis)
        for name, axis in axes.items()
    }
    return ShardNumbers(parts[0].keys, **own)


def _measured(arrays: Arrays, activation: str) -> ShardNumbers:
    """Return the numbers of some images, as ``measure`` does."""
    chances = probabilities(arrays[LOGITS], activation)
    chances = np.where(np.isfinite(chances), chances, -np.inf)
    targets = arrays[TARGETS]
    predicted = np.where(np.isfinite(chances).any(1), chances.argmax(1), -1)
    found = targets == predicted[:, None]
    slot = np.where(found.any(1), found.argmax(1), -1)
    numbers = _unmeasured(map_keys(arrays), predicted, slot, _margins(chances), targets.shape[1])
    likeliest = np.argsort(-np.take_along_axis(chances, targets, 1), 1, kind="stable")[:, :2]
    first = 0
    for places in _by_layer(numbers.keys):
        ranked = [_measure_maps(numbers, place, arrays, likeliest) for place in places]
        last = first + len(places) * (len(places) - 1) // 2
        numbers.correlation[first:last], numbers.overlap[first:last] = _compared(ranked)
        first = last
    return numbers


def map_keys(names: Iterable[str]) -> tuple[MapKey, ...]:
    """Return the keys of the arrays of maps among those of a shard, in their order."""
    keys = map(MapKey.parse, names)
    return tuple(key for key in keys if key is not None and key.method in METHODS)


def _by_layer(keys: Sequence[MapKey]) -> list[list[int]]:
    """Return the indices of the keys of each layer."""
    places: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key.layer, []).append(place)
    return [*places.values()]


def _unmeasured(
    keys: tuple[MapKey, ...],
    predicted: NDArray[np.int64],
    slot: NDArray[np.int64],
    margin: NDArray[np.float32],
    slots: int,
) -> ShardNumbers:
    """Return numbers whose arrays of maps are still to be filled."""
    count = len(predicted)
    pairs = sum(len(places) * (len(places) - 1) // 2 for places in _by_layer(keys))
    return ShardNumbers(
        keys=keys,
        predicted=predicted.astype(np.int64),
        slot=slot.astype(np.int64),
        margin=margin,
        area=np.empty((len(keys), count, slots), np.float32),
        where=np.zeros((len(keys), count, GRID, GRID), np.uint8),
        correlation=np.empty((pairs, count, slots), np.float32),
        overlap=np.empty((pairs, count, slots), np.float32),
        likeness=np.full((len(keys), count), np.nan, np.float32),
    )


def _margins(chances: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the difference of the two largest probabilities of each image, ``(n,)``."""
    if chances.shape[1] < 2:
        return np.full(len(chances), np.nan, np.float32)
    second, first = np.partition(chances, -2, axis=1)[:, -2:].T
    with np.errstate(invalid="ignore"):
        margins = (first - second).astype(np.float32)
    return np.where(np.isfinite(margins), margins, np.float32(np.nan))


def _measure_maps(
    numbers: ShardNumbers, place: int, arrays: Arrays, likeliest: NDArray[np.intp]
) -> "_Ranked":
    """Fill in the numbers of one array of maps; return what its maps are compared by.

    Args:
        numbers: of the shard, to be filled in.
        place: index of the array among the keys.
        arrays: of the shard.
        likeliest: slots of the two most probable explained classes, ``(n, 2)``; less if there are.
    """
    key = numbers.keys[place]
    method, rows = METHODS[key.method], np.arange(len(numbers.slot))
    area, grid = areas_and_grids(arrays[str(key)], method)
    numbers.area[place] = area
    slot = numbers.slots(key)
    own = grid[rows, slot] * (slot >= 0)[:, None, None]
    numbers.where[place] = np.floor(own * 255 + 0.5)
    ranked = _Ranked.of(grid)
    if method.per_class and likeliest.shape[1] > 1:
        first, second = (ranked.ranks[rows, slots] for slots in likeliest.T)
        products = [(a * b).sum(-1) for a, b in ((first, second), (first, first), (second, second))]
        numbers.likeness[place] = _correlation(*products)
    return ranked


def areas_and_grids(
    cams: NDArray[np.float32], method: Method
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return areas ``(n, K)`` and values on the common grid ``(n, K, 14, 14)``, a few at a time."""
    size = max(cams[0].size, cams.shape[1] * AREA_GRID**2)
    step = max(1, MAX_VALUES // size)
    parts = [_few(cams[start : start + step], method) for start in range(0, len(cams), step)]
    areas, grids = zip(*parts, strict=True)
    return np.concatenate(areas), np.concatenate(grids)


def _few(
    cams: NDArray[np.float32], method: Method
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return what ``areas_and_grids`` returns."""
    values = drawn(cams, method, leading=2).values.astype(np.float64)
    finite = np.isfinite(values).all((-2, -1))
    values[~finite] = 0
    in_colours = cams.ndim > values.ndim and not method.per_channel
    # The sign of a colour says nothing; elsewhere a negative value speaks against the class.
    sizes = np.abs(values) if in_colours else np.maximum(values, 0, out=values)
    peaks = sizes.max((-2, -1))
    areas = area_above_half(values, peaks)
    areas = np.where(peaks > 0, areas, np.where(finite, 0, np.nan))
    grid = resampled(sizes, GRID, GRID) / np.expand_dims(np.where(peaks > 0, peaks, 1), (-2, -1))
    return areas.astype(np.float32), grid


@dataclass(frozen=True)
class _Ranked:
    """Maps on the common grid, as whole numbers that float32 holds and multiplies exactly.

    Attributes:
        ranks: ``(n, K, 196)``, twice the average ranks, around zero; zeros for a constant map.
        highest: ``(n, K, 196)``, 1 for the cells of the highest fifth, else 0.
    """

    ranks: NDArray[np.float32]
    highest: NDArray[np.float32]

    @classmethod
    def of(cls, grid: NDArray[np.float64]) -> "_Ranked":
        """Rank the cells of maps ``(n, K, 14, 14)``; equal cells share their average rank."""
        levels = np.floor(grid * LEVELS + 0.5).astype(np.uint16).reshape(*grid.shape[:2], -1)
        ranks = (2 * average_ranks(levels) - (levels.shape[-1] + 1)).astype(np.float32)
        least = np.maximum(np.sort(levels, -1)[..., -TOP_CELLS], 1)
        return cls(ranks, (levels >= least[..., None]).astype(np.float32))


def _compared(
    ranked: Sequence[_Ranked],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return rank correlation and overlap of each pair of M arrays of maps, ``(pairs, n, K)``."""
    one, other = np.triu_indices(len(ranked), 1)
    products = [_products([maps.ranks for maps in ranked]), _products([m.highest for m in ranked])]
    (ranks, own_ranks), (both, sizes) = (
        (product[..., one, other], product.diagonal(axis1=-2, axis2=-1)) for product in products
    )
    correlation = _correlation(ranks, own_ranks[..., one], own_ranks[..., other])
    union = sizes[..., one] + sizes[..., other] - both
    overlap = np.where(np.isnan(correlation), np.float32(np.nan), both / np.maximum(union, 1))
    return np.moveaxis(correlation, -1, 0), np.moveaxis(overlap, -1, 0)


def _products(maps: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the scalar products of M arrays of maps ``(n, K, 196)``: ``(n, K, M, M)``."""
    stacked = np.stack(maps, -2)
    return stacked @ np.swapaxes(stacked, -1, -2)


def _correlation(
    products: NDArray[np.float32], one: NDArray[np.float32], other: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return correlations from scalar products of centred ranks; NaN where one map is constant."""
    scale = np.sqrt(one.astype(np.float64) * other)
    found = np.clip(products / np.where(scale > 0, scale, 1), -1, 1)
    return np.where(scale > 0, found, np.nan).astype(np.float32)
