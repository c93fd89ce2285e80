"""Whether a model looks elsewhere in groups of images: by scanner, hospital or season.

The groups are the values of columns beside the labels. A difference of mean maps is told with the
probability that groups drawn at random differ as much anywhere in the map: noise differs, too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from camreport.insight.cache import numbered_images, possible_keys
from camreport.insight.numbers import ShardNumbers
from camreport.metrics.grids import GRID
from camreport.results.outline import Described
from camreport.results.reader import Results
from camreport.results.schema import MapKey

MAX_GROUPS = 20
"""Most groups of a column that are compared, the largest first."""

MIN_GROUP = 5
"""Fewest maps in a group, and outside it, at which a difference is tested."""

MAX_TESTED = 5000
"""Most images whose groups are permuted; of more, these are drawn at random with ``SEED``."""

PERMUTATIONS = 999
"""Number of times that the groups are permuted."""

PERMUTED_AT_ONCE = 8
"""Number of permutations whose sums are computed in one product of matrices."""

SEED = 0
"""Random seed of sample and permutations."""


@dataclass(frozen=True)
class Group:
    """The maps of the predicted classes in one group of images, against those of the other groups.

    Attributes:
        key: the method and the layer.
        column: name of the column.
        value: its value in the group.
        n: number of maps with positive evidence in the group.
        others: number of those of the other groups; images without a value are in none.
        mean: mean of relu(R) / max(R), ``(14, 14)``, 0..1.
        difference: ``(14, 14)``, -1..1: how much higher the mean is than that of the other groups,
            compared within each predicted class, so that another mix of classes is no difference;
            weighted by n_group * n_others / (n_group + n_others) of the class. None where no class
            has maps of the group and of others.
        p: probability that groups permuted within the predicted classes differ at least as much, in
            any cell and any group of the column: (1 + hits) / (1 + permutations). None where the
            group or the others have less than ``MIN_GROUP`` maps, or there is no difference.
        permutations: number of permutations.
    """

    key: MapKey
    column: str
    value: str
    n: int
    others: int
    mean: NDArray[np.float64]
    difference: NDArray[np.float64] | None
    p: float | None
    permutations: int


def groups(results: Results) -> tuple[Group, ...]:
    """Return the groups of a run at the layer that is shown first, column by column.

    One pass over the numbers of the maps. The sums are of all images and exact; the test is of up
    to ``MAX_TESTED`` images.

    Raises:
        ResultsError: a shard without numbers of its own is missing or damaged.
    """
    columns = results.manifest.groups
    if not columns:
        return ()
    layer = results.manifest.glance.layer
    gathered = {key: _Gathered() for key in possible_keys(results.manifest) if key.layer == layer}
    tested = _drawn(len(results.outlines))
    first = 0
    for numbers, images in numbered_images(results):
        for key in gathered.keys() & {*numbers.keys}:
            gathered[key].add(numbers, key, images, tested[first : first + len(images)])
        first += len(images)
    return tuple(
        group
        for place, column in enumerate(columns)
        for key, own in gathered.items()
        for group in own.groups(key, column, place)
    )


def chances(
    maps: NDArray[np.uint8],
    group: NDArray[np.intp],
    stratum: NDArray[np.intp],
    permutations: int = PERMUTATIONS,
    seed: int = SEED,
) -> NDArray[np.float64]:
    """Return the probability of each group's largest difference if groups meant nothing.

    The statistic of a group is the largest absolute value over the cells of
    ``sum(maps of the group - mean of their stratum) / sqrt(w)``, with w the sum over strata of
    n_group * n_others / n. Groups are permuted within strata, and a group's statistic is compared
    with the largest one of any group: all cells and groups together are wrong with probability p.

    Args:
        maps: ``(n, cells)``, n up to 65,793: their sums are exact in float32.
        group: ``(n,)``, 0..G-1.
        stratum: ``(n,)``, any whole numbers.
        permutations: how many.
        seed: random seed.

    Returns:
        (1 + hits) / (1 + permutations), ``(G,)``; 1 for a group without others in its strata.

    Source: Westfall and Young, Resampling-Based Multiple Testing, 1993 (maximum statistic); Phipson
        and Smyth, Permutation P-values Should Never Be Zero, 2010 (the ones in the fraction).
    """
    random = np.random.default_rng(seed)
    order = np.argsort(stratum, kind="stable")
    own, strata = group[order], stratum[order]
    values = maps[order].astype(np.float32)
    expected, weights = _expected(values, own, strata)

    def statistics(rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the statistic of each group, ``(m, G)``; ``rows`` ``(m, n)``: who gets a group."""
        places = np.arange(len(weights))
        chosen = np.zeros((len(rows), len(weights), len(own)), np.float32)
        for one, taken in zip(chosen, rows, strict=True):
            one[:, taken] = own == places[:, None]
        sums = chosen.reshape(-1, len(own)) @ values
        apart = np.abs(sums.reshape(len(rows), len(weights), -1) - expected).max(-1)
        return np.where(weights > 0, apart / np.sqrt(np.where(weights > 0, weights, 1)), 0)

    observed = statistics(np.arange(len(own))[None])[0]
    hits = np.zeros(len(weights), np.int64)
    for start in range(0, permutations, PERMUTED_AT_ONCE):
        count = min(PERMUTED_AT_ONCE, permutations - start)
        keys = random.random((count, len(own)))
        rows = np.stack([np.lexsort((one, strata)) for one in keys])
        hits += (statistics(rows).max(1)[:, None] >= observed).sum(0)
    return (1 + hits) / (1 + permutations)


def _expected(
    values: NDArray[np.float32], group: NDArray[np.intp], stratum: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sum of maps that each group has on average, ``(G, cells)``, and its weight."""
    counts = group.max() + 1
    expected = np.zeros((counts, values.shape[1]))
    weights = np.zeros(counts)
    for one in np.unique(stratum):
        rows = stratum == one
        sizes = np.bincount(group[rows], minlength=counts)
        mean = values[rows].sum(0, dtype=np.float64) / rows.sum()
        expected += sizes[:, None] * mean
        weights += sizes * (rows.sum() - sizes) / rows.sum()
    return expected, weights


@dataclass
class _Gathered:
    """What is gathered of the maps of one method.

    Attributes:
        sums: number of maps and sums of their levels ``(14, 14)``, by the values of all columns
            and the predicted class.
        maps: levels of the maps to test.
        classes: their predicted classes.
        values: their values of all columns.
    """

    sums: dict[tuple[tuple[str | None, ...], int], tuple[int, NDArray[np.int64]]] = field(
        default_factory=dict
    )
    maps: list[NDArray[np.uint8]] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)
    values: list[tuple[str | None, ...]] = field(default_factory=list)

    def add(
        self,
        numbers: ShardNumbers,
        key: MapKey,
        images: Sequence[Described],
        tested: NDArray[np.bool_],
    ) -> None:
        """Take in the maps of a shard with positive evidence whose groups are known."""
        place = numbers.keys.index(key)
        positive = numbers.of_predicted(numbers.area[place], key) > 0
        for row in np.flatnonzero(positive).tolist():
            values, predicted = images[row].groups, int(numbers.predicted[row])
            if values is None:
                continue
            where = numbers.where[place, row]
            n, sums = self.sums.get((values, predicted), (0, np.zeros((GRID, GRID), np.int64)))
            self.sums[values, predicted] = n + 1, sums + where
            if tested[row]:
                self.maps.append(where)
                self.classes.append(predicted)
                self.values.append(values)

    def groups(self, key: MapKey, column: str, place: int) -> Iterator[Group]:
        """Yield the groups of one column, by their values."""
        by_class: dict[str, dict[int, tuple[int, NDArray[np.int64]]]] = {}
        for (values, predicted), (n, sums) in self.sums.items():
            if (value := values[place]) is not None:
                own = by_class.setdefault(value, {})
                before = own.get(predicted, (0, np.zeros((GRID, GRID), np.int64)))
                own[predicted] = before[0] + n, before[1] + sums
        sizes = {value: sum(n for n, _ in own.values()) for value, own in by_class.items()}
        kept = sorted(sorted(sizes, key=lambda value: (-sizes[value], value))[:MAX_GROUPS])
        total = sum(sizes[value] for value in kept)
        found = self._chances(place, kept) if len(kept) > 1 else {}
        for value in kept:
            n, others = sizes[value], total - sizes[value]
            sums = np.sum([sums for _, sums in by_class[value].values()], axis=0)
            difference = _difference(value, {one: by_class[one] for one in kept})
            is_tested = difference is not None and min(n, others) >= MIN_GROUP
            yield Group(
                key,
                column,
                value,
                n,
                others,
                sums / (255 * n),
                difference,
                found.get(value) if is_tested else None,
                PERMUTATIONS,
            )

    def _chances(self, place: int, kept: Sequence[str]) -> dict[str, float]:
        """Return the probability of each group's difference, by the column's value."""
        at = {value: number for number, value in enumerate(kept)}
        rows = [row for row, values in enumerate(self.values) if values[place] in at]
        group = np.array([at[self.values[row][place] or ""] for row in rows], np.intp)
        if len(np.unique(group)) < len(kept):  # one is too small to be drawn
            return {}
        maps = np.stack([self.maps[row].ravel() for row in rows])
        classes = np.array([self.classes[row] for row in rows], np.intp)
        return dict(zip(kept, chances(maps, group, classes).tolist(), strict=True))


def _difference(
    value: str, by_class: dict[str, dict[int, tuple[int, NDArray[np.int64]]]]
) -> NDArray[np.float64] | None:
    """Return how much higher a group's mean map is than the others', within the classes."""
    total, weight = np.zeros((GRID, GRID)), 0.0
    for predicted, (n, sums) in by_class[value].items():
        rest = [
            own[predicted] for one, own in by_class.items() if one != value and predicted in own
        ]
        if not rest:
            continue
        m = sum(count for count, _ in rest)
        others = np.sum([sums for _, sums in rest], axis=0)
        own = n * m / (n + m)
        total += own * (sums / n - others / m)
        weight += own
    return total / (255 * weight) if weight else None


def _drawn(count: int) -> NDArray[np.bool_]:
    """Return which of a number of images are tested."""
    chosen = np.zeros(count, np.bool_)
    random = np.random.default_rng(SEED)
    chosen[random.choice(count, min(count, MAX_TESTED), replace=False)] = True
    return chosen
