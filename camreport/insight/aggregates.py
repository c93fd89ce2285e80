"""Aggregates of a run's numbers over its images: one pass over the shards, in flat memory.

All sums are whole numbers, so they do not depend on the order of the shards. Labels are those of
the images when they are read: with other labels nothing has to be measured again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from camreport.insight.cache import numbered_images, possible_keys
from camreport.insight.numbers import Pair, ShardNumbers
from camreport.methods import METHODS
from camreport.metrics.grids import GRID
from camreport.results.outline import Described
from camreport.results.reader import Results
from camreport.results.schema import ImageEntry, MapKey

STEPS = 1000
"""Values are rounded to multiples of 1 / STEPS before their median is taken."""

ALIKE = 0.9
"""Rank correlation from which the maps of two classes count as nearly alike."""

SIMILAR = 0.8
"""Rank correlation from which the maps of two classes hardly tell the classes apart."""

MAX_NAMED = 9
"""Most images with such maps whose names are kept."""

Outcome = Literal["all", "right", "wrong", "unlabelled"]
"""Of a prediction: ``unlabelled`` where the true class is not known."""

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
ALL = OUTCOMES.index("all")


@dataclass(frozen=True)
class Spread:
    """The distribution of a number.

    Attributes:
        n: how many values are defined.
        median: their median, of values rounded to 1 / 1000; None if there are none.
    """

    n: int
    median: float | None


@dataclass(frozen=True)
class Areas:
    """The areas of some maps, each as a fraction of what the model saw.

    Attributes:
        maps: how many maps there are: with positive evidence, empty and undefined.
        empty: how many of them have no positive evidence.
        undefined: how many of them are not finite.
        median: the median area of those with positive evidence; None if there are none.
        quartiles: the least of their areas that a quarter, and that three quarters do not exceed.
    """

    maps: int
    empty: int
    undefined: int
    median: float | None
    quartiles: tuple[float, float] | None = None


@dataclass(frozen=True)
class MapAggregate:
    """Aggregates of the maps of one method at one layer.

    Attributes:
        key: the method and the layer.
        explained: areas of the maps of all explained classes; a map that all classes share counts
            once for each image.
        predicted: areas of the maps of the predicted classes, by outcome.
        unexplained: number of images whose predicted class is not explained.
        likeness: rank correlation of the maps of an image's two most probable explained classes.
        alike: number of images in which that is above ``ALIKE``.
        similar: number of images in which it is above ``SIMILAR``.
        similar_files: names of the first ``MAX_NAMED`` of these.
    """

    key: MapKey
    explained: Areas
    predicted: Mapping[Outcome, Areas]
    unexplained: int
    likeness: Spread
    alike: int
    similar: int
    similar_files: tuple[str, ...]


@dataclass(frozen=True)
class PairAggregate:
    """Agreement of two methods at one layer on the maps of the predicted classes, one an image.

    Attributes:
        methods: keys of the two methods.
        layer: the layer.
        correlation: Spearman's rank correlation, -1..1.
        overlap: intersection over union of the highest fifths, 0..1.
    """

    methods: tuple[str, str]
    layer: str
    correlation: Spread
    overlap: Spread


@dataclass(frozen=True)
class MeanMap:
    """Mean and spread of the maps of one predicted class, by one method at one layer.

    Attributes:
        key: the method and the layer.
        predicted: index of the class.
        outcome: of the predictions.
        n: number of maps: those with positive evidence.
        sums: int64 ``(14, 14)``, the sums of their ``where``.
        squares: int64 ``(14, 14)``, the sums of the squares of their ``where``.
    """

    key: MapKey
    predicted: int
    outcome: Outcome
    n: int
    sums: NDArray[np.int64]
    squares: NDArray[np.int64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean of relu(R) / max(R), ``(14, 14)``, 0..1."""
        return self.sums / (255 * self.n)

    @property
    def spread(self) -> NDArray[np.float64]:
        """The standard deviation of relu(R) / max(R) over the maps, ``(14, 14)``, 0..0.5."""
        variance = self.n * self.squares.astype(object) - self.sums.astype(object) ** 2  # exact
        spread: NDArray[np.float64] = np.sqrt(variance.astype(np.float64)) / (255 * self.n)
        return spread


@dataclass(frozen=True)
class Aggregates:
    """Aggregates of a run over its readable images.

    Attributes:
        images: number of images by outcome.
        maps: in the order of the shards' arrays: by method, then by layer.
        pairs: of the methods with maps at one layer.
        means: without those of no map.
    """

    images: Mapping[Outcome, int]
    maps: tuple[MapAggregate, ...]
    pairs: tuple[PairAggregate, ...]
    means: tuple[MeanMap, ...]

    def map(self, method: str, layer: str) -> MapAggregate | None:
        """Return the aggregates of one method at one layer, if there are any."""
        return next((own for own in self.maps if own.key == (method, layer)), None)

    def pair(self, one: str, other: str, layer: str) -> PairAggregate | None:
        """Return the agreement of two methods at a layer, in either order, if there is any."""
        wanted = {one, other}
        return next((p for p in self.pairs if p.layer == layer and {*p.methods} == wanted), None)

    def mean(
        self, method: str, layer: str, predicted: int, outcome: Outcome = "all"
    ) -> MeanMap | None:
        """Return the mean map of a predicted class, if it has any maps."""
        wanted = (MapKey(method, layer), predicted, outcome)
        found = (m for m in self.means if (m.key, m.predicted, m.outcome) == wanted)
        return next(found, None)


def aggregate(results: Results) -> Aggregates:
    """Return the aggregates of a run, from the numbers beside its shards.

    Args:
        results: an open results folder, see ``camreport.load_results``.

    Raises:
        ResultsError: a shard without numbers of its own is missing or damaged.
    """
    totals = Totals(possible_keys(results.manifest))
    for numbers, images in numbered_images(results):
        totals.add(numbers, images)
    return totals.aggregates(results.images)


def outcome_of(image: Described) -> Outcome:
    """Return whether the prediction for an image is right, wrong, or cannot be judged."""
    if image.label is None or not image.top:
        return "unlabelled"
    return "right" if image.label == image.top[0].index else "wrong"


def _outcomes(images: Sequence[Described]) -> NDArray[np.intp]:
    """Return the places of the images' outcomes among ``OUTCOMES``."""
    return np.array([OUTCOMES.index(outcome_of(image)) for image in images])


@dataclass
class Histogram:
    """Counts of values from ``least`` to 1, rounded to multiples of 1 / STEPS."""

    least: int
    counts: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros((1 - self.least) * STEPS + 1, np.int64)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the finite ones of some values."""
        finite = values[np.isfinite(values)].astype(np.float64)
        steps = np.floor(finite * STEPS + 0.5).astype(np.int64) - self.least * STEPS
        self.counts += np.bincount(steps, minlength=len(self.counts))

    def spread(self) -> Spread:
        """Return the number of values, and their median."""
        reached = np.cumsum(self.counts)
        n = int(reached[-1])
        if not n:
            return Spread(0, None)
        middle = np.searchsorted(reached, [(n - 1) // 2, n // 2], side="right")
        return Spread(n, int(middle.sum() + 2 * self.least * STEPS) / (2 * STEPS))

    def quartiles(self) -> tuple[float, float] | None:
        """Return the least values that a quarter, and that three quarters do not exceed."""
        reached = np.cumsum(self.counts)
        n = int(reached[-1])
        if not n:
            return None
        low, high = np.searchsorted(reached, [-(-n // 4), -(-3 * n // 4)]).tolist()
        return low / STEPS + self.least, high / STEPS + self.least


@dataclass
class _AreaCounts:
    """What ``Areas`` holds, while it is counted."""

    positive: Histogram = field(default_factory=lambda: Histogram(0))
    empty: int = 0
    undefined: int = 0

    def add(self, areas: NDArray[np.float32]) -> None:
        """Count some maps by their areas."""
        self.positive.add(areas[areas > 0])
        self.empty += int(np.count_nonzero(areas == 0))
        self.undefined += int(np.count_nonzero(np.isnan(areas)))

    def areas(self) -> Areas:
        """Return the counts and the median."""
        of = self.positive.spread()
        return Areas(
            of.n + self.empty + self.undefined,
            self.empty,
            self.undefined,
            of.median,
            self.positive.quartiles(),
        )


@dataclass
class _MapCounts:
    """What ``MapAggregate`` holds, while it is counted."""

    explained: _AreaCounts = field(default_factory=_AreaCounts)
    predicted: dict[Outcome, _AreaCounts] = field(
        default_factory=lambda: {outcome: _AreaCounts() for outcome in OUTCOMES}
    )
    unexplained: int = 0
    likeness: Histogram = field(default_factory=lambda: Histogram(-1))
    alike: int = 0
    similar: int = 0
    named: list[int] = field(default_factory=list)

    def add(
        self,
        numbers: ShardNumbers,
        place: int,
        outcomes: NDArray[np.intp],
        images: Sequence[Described],
    ) -> None:
        """Count the maps of one array."""
        key = numbers.keys[place]
        area, likeness = numbers.area[place], numbers.likeness[place]
        self.explained.add(_distinct(area, key))
        own, has_map = numbers.of_predicted(area, key), numbers.slots(key) >= 0
        self.unexplained += int(np.count_nonzero(~has_map))
        for place_of, counts in enumerate(self.predicted.values()):
            counts.add(own[has_map & ((outcomes == place_of) | (place_of == ALL))])
        self.likeness.add(likeness)
        self.alike += int(np.count_nonzero(likeness > ALIKE))
        similar = np.flatnonzero(likeness > SIMILAR).tolist()
        self.similar += len(similar)
        named = [images[row].index for row in similar[:MAX_NAMED]]
        self.named = sorted([*self.named, *named])[:MAX_NAMED]

    def aggregate(self, key: MapKey, images: Sequence[ImageEntry]) -> MapAggregate:
        """Return the counts and medians."""
        predicted = {outcome: counts.areas() for outcome, counts in self.predicted.items()}
        return MapAggregate(
            key,
            self.explained.areas(),
            predicted,
            self.unexplained,
            self.likeness.spread(),
            self.alike,
            self.similar,
            tuple(images[index].file for index in self.named),
        )


@dataclass
class _MeanSums:
    """Sums of the maps of one predicted class with one outcome, of all arrays at once."""

    n: NDArray[np.int64]
    sums: NDArray[np.int64]
    squares: NDArray[np.int64]

    @classmethod
    def zeros(cls, keys: int) -> "_MeanSums":
        """Return sums of no map yet, for a number of arrays."""
        shape = keys, GRID, GRID
        return cls(np.zeros(keys, np.int64), *(np.zeros(shape, np.int64) for _ in range(2)))


@dataclass
class Totals:
    """Counts and sums over the images added so far.

    Attributes:
        keys: all that arrays of maps may have.
    """

    keys: tuple[MapKey, ...]
    images: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(OUTCOMES), np.int64))
    maps: dict[MapKey, _MapCounts] = field(default_factory=dict)
    pairs: dict[Pair, tuple[Histogram, Histogram]] = field(default_factory=dict)
    means: dict[tuple[int, int], _MeanSums] = field(default_factory=dict)

    def add(self, numbers: ShardNumbers, images: Sequence[Described]) -> None:
        """Take in the images of one shard."""
        outcomes = _outcomes(images)
        self.images += np.bincount(outcomes, minlength=len(OUTCOMES))
        self.images[ALL] += len(outcomes)
        for place, key in enumerate(numbers.keys):
            self.maps.setdefault(key, _MapCounts()).add(numbers, place, outcomes, images)
        for place, pair in enumerate(numbers.pairs):
            correlation, overlap = self.pairs.setdefault(pair, (Histogram(-1), Histogram(0)))
            correlation.add(numbers.of_predicted(numbers.correlation[place], *pair))
            overlap.add(numbers.of_predicted(numbers.overlap[place], *pair))
        self._add_means(numbers, outcomes)

    def _add_means(self, numbers: ShardNumbers, outcomes: NDArray[np.intp]) -> None:
        """Add the predicted classes' maps with positive evidence to the sums of their class."""
        at = [self.keys.index(key) for key in numbers.keys]
        positive = np.stack(
            [
                numbers.of_predicted(*both) > 0
                for both in zip(numbers.area, numbers.keys, strict=True)
            ]
        )
        groups, group = np.unique(numbers.predicted * len(OUTCOMES) + outcomes, return_inverse=True)
        for number, own in enumerate(groups.tolist()):
            rows = group == number
            where = numbers.where[:, rows]
            sums = self.means.setdefault(
                divmod(own, len(OUTCOMES)), _MeanSums.zeros(len(self.keys))
            )
            sums.n[at] += positive[:, rows].sum(1)
            sums.sums[at] += where.sum(1, dtype=np.int64)
            sums.squares[at] += np.square(where, dtype=np.uint16).sum(1, dtype=np.int64)

    def aggregates(self, images: Sequence[ImageEntry]) -> Aggregates:
        """Return the counts, medians and sums."""
        return Aggregates(
            images=dict(zip(OUTCOMES, self.images.tolist(), strict=True)),
            maps=tuple(
                self.maps[key].aggregate(key, images) for key in self.keys if key in self.maps
            ),
            pairs=tuple(
                PairAggregate((one.method, other.method), one.layer, rho.spread(), both.spread())
                for (one, other), (rho, both) in self.pairs.items()
            ),
            means=tuple(self._means()),
        )

    def _means(self) -> Iterator[MeanMap]:
        """Yield the mean maps, array by array, then class by class; those of all outcomes first."""
        of_class: dict[int, list[int]] = {}
        for predicted, outcome in sorted(self.means):
            of_class.setdefault(predicted, []).append(outcome)
        for place, key in enumerate(self.keys):
            for predicted, outcomes in of_class.items():
                for outcome, own in ((ALL, outcomes), *((one, [one]) for one in outcomes)):
                    found = [self.means[predicted, one] for one in own]
                    n = sum(int(each.n[place]) for each in found)
                    sums, squares = (
                        np.sum([getattr(each, name)[place] for each in found], axis=0)
                        for name in ("sums", "squares")
                    )
                    if n:
                        yield MeanMap(key, predicted, OUTCOMES[outcome], n, sums, squares)


def _distinct(values: NDArray[np.float32], key: MapKey) -> NDArray[np.float32]:
    """Return values ``(n, K)`` of maps without repetitions: the first slot's if all are equal."""
    return values if METHODS[key.method].per_class else values[:, :1]
