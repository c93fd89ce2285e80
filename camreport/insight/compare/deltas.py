"""How the numbers of a run differ from the first run's, of the same images."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from camreport.insight.compare.changes import (
    Change,
    mcnemar,
    median_change,
    share_interval,
    told_apart,
)
from camreport.insight.compare.comparison import ACCURACY, CHANCE, Delta
from camreport.insight.compare.view import RunView
from camreport.insight.evidence import is_given
from camreport.insight.evidence_blocks import PREDICTED, Scope, shard_blocks
from camreport.insight.predictions import judgement
from camreport.metrics import METRICS
from camreport.metrics.registry import number_of
from camreport.metrics.statistics import MIN_ORDERED
from camreport.results.evidence import EvidenceEntry, NumberKey
from camreport.results.outline import Described

MAX_CHANCE = 0.05
"""p-value of McNemar's test below which two accuracies are told apart."""


def accuracy_delta(
    first: Sequence[Described], other: Sequence[Described], run: int
) -> Iterator[Delta]:
    """Yield the change of accuracy; nothing where no image has a true class and two predictions."""
    judged = [
        (judgement(one) == "right", judgement(two) == "right")
        for one, two in zip(first, other, strict=True)
        if "unknown" not in (judgement(one), judgement(two))
    ]
    count = len(judged)
    if not count:
        return
    before, after = (sum(answers) for answers in zip(*judged, strict=True))
    gained = sum(two and not one for one, two in judged)
    lost = sum(one and not two for one, two in judged)
    p = mcnemar(gained, lost)
    ends = share_interval(gained, lost, count) if count > 1 else (None, None)
    change = Change(count, before / count, after / count, (after - before) / count, *ends)
    apart = p < MAX_CHANCE if count >= MIN_ORDERED else None
    yield Delta(ACCURACY, run, "", "", **vars(change), better="high", apart=apart, p=p)


def chance_delta(
    before: NDArray[np.float64], after: NDArray[np.float64], run: int
) -> Iterator[Delta]:
    """Yield the change of the true class's probability; nothing where no true class is known."""
    change = median_change(before, after)
    if change.n:
        apart = told_apart(change)
        yield Delta(CHANCE, run, "", "", **vars(change), better="high", apart=apart)


def evidence_deltas(first: RunView, other: RunView, run: int) -> Iterator[Delta]:
    """Yield the changes of the evidence's numbers, of the maps of each run's predicted class.

    Only of methods and paired layers that both runs have; numbers that need passes only where both
    runs spent them in the same way. Left out are those of collages, which have images of their own,
    and those that maps have by construction.

    Raises:
        ResultsError: a file of evidence is missing or damaged.
    """
    one, two = _values(first), _values(other)
    alike = ways(first.inner.manifest.evidence) == ways(other.inner.manifest.evidence)
    for key in (key for key in one if key in two):
        number = number_of(key.number)
        asked = alike or METRICS[key.metric].coverage == "all"
        if not asked or number is None or is_given(key, one) or is_given(key, two):
            continue
        change = median_change(one[key], two[key])
        if change.n:
            place = key.number, run, key.row, key.layer
            apart = told_apart(change)
            yield Delta(*place, **vars(change), better=number.better, apart=apart)


def ways(entry: EvidenceEntry | None) -> str:
    """Return in a few words how those numbers of the evidence were measured that need passes."""
    if entry is None:
        return "–"
    masks = "" if entry.masks is None else f", {entry.masks:,} masks"
    scrambled = f", {len(entry.scrambled)} scrambled" if entry.scrambled else ""
    return f"{entry.maps}, {entry.baseline}{masks}{scrambled}"


def _values(view: RunView) -> dict[NumberKey, NDArray[np.float32]]:
    """Return the numbers of the predicted classes' maps, by paired layer; NaN for none."""
    if view.inner.manifest.evidence is None:
        return {}
    places = {own: place for place, own in enumerate(view.own)}
    found: dict[NumberKey, NDArray[np.float32]] = {}
    for block in shard_blocks(view.inner, [Scope(PREDICTED)]):
        rows = [row for row, own in enumerate(block.images.tolist()) if own in places]
        images = [places[int(block.images[row])] for row in rows]
        for at, key in enumerate(block.keys):
            if key.row in view.inner.manifest.methods and key.layer in view.keys and _is_asked(key):
                shared = key._replace(layer=view.keys[key.layer])
                empty = np.full(len(view.own), np.nan, np.float32)
                found.setdefault(shared, empty)[images] = block.values[0, at, rows]
    return found


def _is_asked(key: NumberKey) -> bool:
    """Return whether a number answers a question about maps of single images."""
    metric = METRICS.get(key.metric)
    return metric is not None and any(own.key == key.number for own in metric.numbers)
