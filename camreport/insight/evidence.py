"""Tables of a run's evidence: medians with intervals, ceilings, and what beats the controls.

One pass over the files beside the shards, in flat memory: counts are of all images; of very many,
medians and intervals rest on some that are drawn by the run's seed. Nothing is added up to a total.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from camreport.insight.evidence_blocks import (
    PREDICTED,
    Block,
    Scope,
    collage_blocks,
    scopes_of,
    shard_blocks,
)
from camreport.methods import METHODS
from camreport.metrics import METRICS, Number
from camreport.metrics.controls import CONTROLS
from camreport.metrics.regions import CENTRE
from camreport.metrics.statistics import MIN_ORDERED, beats, medians, told_apart
from camreport.metrics.values import Undefined
from camreport.results.evidence import CONTROL, EvidenceCost, EvidenceEntry, NumberKey
from camreport.results.reader import Results
from camreport.results.schema import FUSED, INPUT, Manifest

MAX_IMAGES = 2000
"""Most images on which medians and intervals rest; those of the sample are always among them."""

_RANDOM, _GAUSSIAN, _EDGES = CONTROLS

GIVEN: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("contrast", "contrast.overlap", "learned"), (*CONTROLS,)),
    **dict.fromkeys(("stability", "stability.correlation"), (_RANDOM, _GAUSSIAN)),
    "stability.mirror": (_GAUSSIAN,),
    "learned.edges": (_EDGES,),
}
"""Of a number, the controls that have it by construction: none knows a class or the network, two do
not change with the image, one is its own mirror image, and one is the edges."""

CONTRAST, OPPOSITE = "contrast", -0.999
"""Class contrast, and the greatest one of two maps that are negatives of each other."""

_COUNTED = [reason for reason in Undefined if reason != Undefined.NOT_MEASURED]
"""Of each the values are counted; those of ``DEFINED`` come first."""


@dataclass(frozen=True)
class Tally:
    """What is known of one number of some maps, or of images and classes.

    Attributes:
        key: the number, the row and the layer; without these two where it belongs to no map.
        scope: key of the scope.
        n: how many have the number.
        undefined: how many do not, by reason; those that were not measured are not among them.
        median: of those that have it; None if none has.
        low: lower end of the median's 95 % interval; None where n < 2.
        high: its upper end; likewise.
        beats: in how many images the number is better than every control's at that layer, and in
            how many it and theirs are defined; None for controls, without any, where neither end
            is better, and where a control has the number by construction.
        apart: whether the method is told apart from that whose median is best there; True for the
            best one itself. None for controls, where neither end is better, and where fewer than
            ``MIN_ORDERED`` images have both numbers.
        given: whether the maps have the number by construction, so that it is no result: it takes
            part in no comparison.
    """

    key: NumberKey
    scope: str
    n: int
    undefined: Mapping[str, int]
    median: float | None
    low: float | None
    high: float | None
    beats: tuple[int, int] | None = None
    apart: bool | None = None
    given: bool = False


@dataclass(frozen=True)
class EvidenceTable:
    """The evidence of a whole run.

    Attributes:
        entry: what was measured, and how.
        cost: of its passes.
        drawn: number of images on which all but counts rests; None if it is all of them.
        chance: of numbers, what is expected of a map that knows nothing, where the run decides it.
        scopes: the predicted class; then each class, where all images explain the same few.
        tallies: in the order of numbers, rows, layers and scopes; last those that belong to no map.
    """

    entry: EvidenceEntry
    cost: EvidenceCost | None
    drawn: int | None
    chance: Mapping[str, float]
    scopes: tuple[Scope, ...]
    tallies: tuple[Tally, ...]

    @cached_property
    def _by_place(self) -> dict[tuple[NumberKey, str], Tally]:
        return {(own.key, own.scope): own for own in self.tallies}

    def tally(
        self, number: str, row: str = "", layer: str = "", scope: str = PREDICTED
    ) -> Tally | None:
        """Return what is known of a number; None where nothing is."""
        return self._by_place.get((NumberKey(number, row, layer), scope))


def evidence_table(
    results: Results, repeats: Mapping[str, str] | None = None
) -> EvidenceTable | None:
    """Return the tables of a run's evidence; None where nothing was measured.

    Args:
        results: an open results folder.
        repeats: for each method whose maps coincide with another's, that other: it has no row.

    Raises:
        ResultsError: a file of evidence is missing or damaged.
    """
    entry, manifest = results.manifest.evidence, results.manifest
    if entry is None:
        return None
    scopes, kept = scopes_of(results), _kept(entry, manifest.totals.images)
    totals = _Totals(kept)
    for block in chain(shard_blocks(results, scopes), collage_blocks(results, scopes)):
        totals.add(block)
    drawn = len(kept) if len(kept) < manifest.totals.images else None
    keys = _ordered(totals.counts, manifest, repeats or {})
    tallies = (*_tallies(totals, keys, scopes, entry.seed),)
    cost = manifest.cost.evidence
    return EvidenceTable(entry, cost, drawn, _chance(results, totals), scopes, tallies)


def number_of(key: str) -> Number | None:
    """Return a number that a metric gives of maps; None for one that belongs to no map."""
    metric = METRICS.get(key.partition(".")[0])
    return next((own for own in metric.numbers if own.key == key), None) if metric else None


def _kept(entry: EvidenceEntry, images: int) -> NDArray[np.int64]:
    """Return the indices of the images on which medians and intervals rest, in order."""
    drawn = np.random.default_rng(entry.seed).permutation(images)[:MAX_IMAGES].tolist()
    ordered = [*dict.fromkeys([*entry.sample, *drawn])]
    return np.sort(np.array(ordered[:MAX_IMAGES], np.int64))


def _chance(results: Results, totals: "_Totals") -> dict[str, float]:
    """Return what is expected of a map that knows nothing: the share of a picture that is right.

    Of a collage that is what shows the class; of an image its regions' median part of what the
    model sees, which is what lies in them divided by the lift.
    """
    collages = results.collages()
    found = {"grid": 1 / collages.image.shape[1]} if collages else {}
    inside = next((key for key in totals.counts if key.number == "regions"), None)
    if inside is not None:
        share, lift = totals.joined([inside, inside._replace(number="regions.lift")])[0]
        if (lift > 0).any():
            found["regions"] = float(np.nanmedian(share[lift > 0] / lift[lift > 0]))
    return found


@dataclass
class _Totals:
    """Counts of all images, and the numbers of those that are kept.

    Attributes:
        kept: indices of the images whose numbers are kept, in order.
        counts: of each number's values, ``(S, reasons)``, by their reason.
        values: of each block the numbers of the kept images by key, ``(S, m)``.
    """

    kept: NDArray[np.int64]
    counts: dict[NumberKey, NDArray[np.int64]] = field(default_factory=dict)
    values: list[dict[NumberKey, NDArray[np.float32]]] = field(default_factory=list)

    def add(self, block: Block) -> None:
        """Take in the numbers of a block."""
        by_reason = [(block.reasons == reason).sum(2) for reason in _COUNTED]
        for key, own in zip(block.keys, np.stack(by_reason, -1).swapaxes(0, 1), strict=True):
            self.counts[key] = self.counts.get(key, 0) + own
        chosen = block.values[..., np.isin(block.images, self.kept)].swapaxes(0, 1)
        self.values.append(dict(zip(block.keys, chosen, strict=True)))

    def joined(self, keys: Sequence[NumberKey]) -> NDArray[np.float32]:
        """Return the kept numbers, ``(S, keys, m)``; NaN where a block does not have one."""
        parts = []
        for values in self.values:
            absent = np.full_like(next(iter(values.values())), np.nan)
            parts.append(np.stack([values.get(key, absent) for key in keys], 1))
        return np.concatenate(parts, -1)


def _ordered(
    keys: Mapping[NumberKey, object], manifest: Manifest, repeats: Mapping[str, str]
) -> list[NumberKey]:
    """Return keys in the order of tables, without methods and layers that repeat others.

    Those of numbers that belong to no map come last.
    """
    measured = manifest.evidence.metrics if manifest.evidence else ()
    numbers = [own.key for key in METRICS if key in measured for own in METRICS[key].numbers]
    layers = [own.address for own in manifest.layers if own.same_as is None] + [FUSED, INPUT]
    present = {key.row for key in keys}
    controls = [row for row in (*CONTROLS, CENTRE) if row in present]
    rows = [*(row for row in manifest.shown_methods if row not in repeats), *controls]
    of_maps = [
        key
        for number in numbers
        for row in rows
        for layer in layers
        if (key := NumberKey(number, row, layer)) in keys
    ]
    without_map = (key for key in keys if not key.row and key.number.partition(".")[0] in measured)
    return [*of_maps, *without_map]


def _tallies(
    totals: _Totals, keys: Sequence[NumberKey], scopes: Sequence[Scope], seed: int
) -> Iterator[Tally]:
    """Yield what is known of each number in each scope in which any value was measured."""
    if not keys:
        return
    values = totals.joined(keys)
    found = medians(values, seed)
    by_key = [dict(zip(keys, own, strict=True)) for own in values]
    compared = [_compared(own, seed) for own in by_key]
    for place, key in enumerate(keys):
        for at, scope in enumerate(scopes):
            n, *others = totals.counts[key][at].tolist()
            if not n and not any(others):
                continue
            reasons = zip(_COUNTED[1:], others, strict=True)
            beaten, apart = compared[at].get(key, (None, None))
            yield Tally(
                key=key,
                scope=scope.key,
                n=n,
                undefined={reason.name.lower(): count for reason, count in reasons if count},
                median=_finite(found.median[at, place]),
                low=_finite(found.low[at, place]),
                high=_finite(found.high[at, place]),
                given=is_given(key, by_key[at]),
                beats=beaten,
                apart=apart,
            )


def _compared(
    values: Mapping[NumberKey, NDArray[np.float32]], seed: int
) -> dict[NumberKey, tuple[tuple[int, int] | None, bool | None]]:
    """Return for each method what it beats, and whether it is told apart from the best one.

    Args:
        values: of each number, ``(m,)`` in one scope.
        seed: of the draws.
    """
    found: dict[NumberKey, tuple[tuple[int, int] | None, bool | None]] = {}
    groups: dict[tuple[str, str], list[NumberKey]] = {}
    for key in values:
        groups.setdefault((key.number, key.layer), []).append(key)
    for (name, _), rows in groups.items():
        number = number_of(name)
        better = number.better if number else None
        results = [key for key in rows if not is_given(key, values)]
        methods = [key for key in results if not key.row.startswith(CONTROL)]
        measured = [key for key in methods if not np.isnan(values[key]).all()]
        if better is None or not measured:
            continue
        sign = 1 if better == "high" else -1
        best = max(measured, key=lambda key: sign * float(np.nanmedian(values[key])))
        controls = [key for key in rows if key.row.startswith(CONTROL)]
        others = [values[key] for key in controls if key in results]
        for key in methods:
            own, beaten = values[key], None
            if 0 < len(others) == len(controls):
                beaten = beats(own, np.stack(others), better)
            apart = told_apart(values[best], own, better, seed)
            found[key] = beaten, apart if key != best else _enough(own)
    return found


def is_given(key: NumberKey, values: Mapping[NumberKey, NDArray[np.float32]]) -> bool:
    """Return whether maps have a number by construction, whatever the network is.

    So it is of a control in ``GIVEN``; and of a class contrast where all classes share one map, or
    where the maps of two classes are negatives of each other in every image: two logits are
    opposite, which is no merit of the method.

    Args:
        key: of the number.
        values: of each number, ``(m,)`` in one scope.
    """
    if np.isnan(values[key]).all():
        return False
    if key.row.startswith(CONTROL):
        return key.row in GIVEN.get(key.number, ())
    if key.number.partition(".")[0] != CONTRAST:
        return False
    contrast = values.get(key._replace(number=CONTRAST), values[key])
    return not METHODS[key.row].per_class or bool(np.nanmax(contrast) <= OPPOSITE)


def _enough(values: NDArray[np.float32]) -> bool | None:
    """Return True where a best method is called so, None where nothing is ordered."""
    return True if np.count_nonzero(~np.isnan(values)) >= MIN_ORDERED else None


def _finite(value: float) -> float | None:
    """Return a number that JSON can hold."""
    return None if np.isnan(value) else float(value)
