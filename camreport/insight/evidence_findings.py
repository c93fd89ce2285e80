"""What the evidence shows of a run's maps, by fixed rules, as ``findings`` does of the maps alone.

No rule puts methods in an order: where several could be named, the first of the table is, or all.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice

from camreport.insight.claims import Evidence, Finding, Place, coefficient
from camreport.insight.evidence import Tally
from camreport.insight.evidence_blocks import PREDICTED
from camreport.messages import Message, message
from camreport.methods import METHODS
from camreport.metrics import METRICS
from camreport.metrics.learned import UNCHANGED
from camreport.results.schema import FUSED

MAX_OF_EVIDENCE = 4
"""Most findings of the evidence."""

MIN_COUNTED = 5
"""Least number of images for a statement about how often or how strongly something holds."""

MIN_BEATEN = 0.5
"""Share of images below which a method does not do better than the controls."""

MIN_CEILING = 0.3
"""Ceiling of the effect below which nothing is said to come near it."""

NEAR_CEILING = 0.9
"""Share of the ceiling from which an effect is near it."""

MAX_NAMED = 3
"""Most maps that a sentence names."""

POINTED = ("effect", "order", "grid", "regions")
"""Questions that ask where a map points, so that it has to do better than the controls."""


def evidence_findings(evidence: Evidence) -> Iterator[Finding]:
    """Yield at most ``MAX_OF_EVIDENCE`` claims, in the order of the rules."""
    if evidence.table is not None:
        yield from islice(chain.from_iterable(rule(evidence) for rule in RULES), MAX_OF_EVIDENCE)


def evidence_cautions(evidence: Evidence) -> Iterator[Finding]:
    """Yield what the evidence cannot say here: a class contrast that two opposite logits decide."""
    smooth, table = evidence.manifest.smooth, evidence.table
    linear = [method for method in evidence.methods if method.is_linear(smooth)]
    own = table and table.tally("contrast", linear[0].key, evidence.last) if linear else None
    if evidence.opposite and own:
        names = ", ".join(method.name for method in linear)
        place = Place("evidence", number="contrast", scope=PREDICTED)
        yield Finding(message("insight.caution.contrast", methods=names), own.n, place)


def _misplaced(evidence: Evidence) -> Iterator[Finding]:
    """How often the answer is right, and the first method's peak is not on the object."""
    for method in evidence.methods:
        count, n = evidence.misplaced.get(method.key, (0, 0))
        if count and n >= MIN_COUNTED:
            text = message(
                "insight.evidence.misplaced",
                method=method.name,
                layer=evidence.last,
                misplaced=count,
                count=n,
                share=count / n,
            )
            query = f"right:yes regions.hit.{method.key}=0"
            yield Finding(text, count, _images(evidence, method.key, "regions", query))
            return


def _learned(evidence: Evidence) -> Iterator[Finding]:
    """Which maps stay the same when the weights are scrambled, or that none does."""
    measured = [own for own in _tallies(evidence, "learned") if own.n >= 2]
    unchanged = [own for own in measured if _median(own) > UNCHANGED]
    if not measured:
        return
    place = Place("evidence", number="learned", scope=PREDICTED)
    count = min(own.n for own in unchanged or measured)
    limit = f"{UNCHANGED:g}"
    if not unchanged:
        largest = coefficient(max(map(_median, measured)))
        text = message(
            "insight.evidence.changed",
            maps=len(measured),
            largest=largest,
            count=count,
            limit=limit,
        )
        yield Finding(text, count, place)
        return
    text = message(
        "insight.evidence.unchanged",
        names=_named(unchanged),
        unchanged=len(unchanged),
        maps=len(measured),
        count=count,
        limit=limit,
    )
    yield Finding(text, count, place)


def _controls(evidence: Evidence) -> Iterator[Finding]:
    """Which method at the last layer does not do better than the controls."""
    for question in POINTED:
        for own in _tallies(evidence, question, evidence.last):
            better, of = own.beats or (0, 0)
            if of >= MIN_COUNTED and better < MIN_BEATEN * of:
                text = message(
                    "insight.evidence.controls",
                    method=METHODS[own.key.row].name,
                    layer=evidence.last,
                    question=METRICS[question].name,
                    better=better,
                    count=of,
                )
                yield Finding(text, of, _images(evidence, own.key.row, question))
                return


def _effect(evidence: Evidence) -> Iterator[Finding]:
    """Which method's effect at the last layer is near its ceiling, and which one's near zero."""
    assert evidence.table is not None
    ceiling = evidence.table.tally("effect.ceiling")
    tallies = _tallies(evidence, "effect", evidence.last)
    measured = [own for own in tallies if own.n >= MIN_COUNTED]
    most = None if ceiling is None else ceiling.median
    near = [own for own in measured if most and _median(own) >= NEAR_CEILING * most]
    if near and most is not None and most >= MIN_CEILING:
        yield _of_effect(evidence, "insight.evidence.ceiling", near[0], ceiling=coefficient(most))
    for own in measured:
        if own.low is not None and own.high is not None and own.low <= 0 <= own.high:
            low, high = coefficient(own.low), coefficient(own.high)
            yield _of_effect(evidence, "insight.evidence.effectless", own, low=low, high=high)
            return


def _of_effect(evidence: Evidence, code: str, own: Tally, **more: str) -> Finding:
    """Return a claim about the effect of a method at a layer."""
    method, layer = METHODS[own.key.row].name, own.key.layer
    effect = coefficient(_median(own))
    text = message(code, method=method, layer=layer, effect=effect, count=own.n, **more)
    return Finding(text, own.n, _images(evidence, own.key.row, "effect"))


RULES: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    *(_misplaced, _learned, _controls, _effect),
)


def _tallies(evidence: Evidence, number: str, layer: str | None = None) -> list[Tally]:
    """Return what is known of a number of the predicted classes' maps, method by method."""
    assert evidence.table is not None
    methods = [method.key for method in evidence.methods]
    layers = [*evidence.layers, FUSED] if layer is None else [layer]
    found = (evidence.table.tally(number, row, each) for row in methods for each in layers)
    return [own for own in found if own is not None and own.median is not None]


def _median(own: Tally) -> float:
    """Return the median of a number that has one."""
    assert own.median is not None
    return own.median


def _named(tallies: Sequence[Tally]) -> Message:
    """Name the first few maps, by method and layer."""
    names = [_name(METHODS[own.key.row].name, own.key.layer) for own in tallies[:MAX_NAMED]]
    named = names[0]
    for one in names[1:]:
        named = message("insight.headline.listed", first=named, next=one)
    if len(tallies) > MAX_NAMED:
        named = message("insight.evidence.rest", first=named, rest=len(tallies) - MAX_NAMED)
    return named


def _name(method: str, layer: str) -> Message:
    if layer == FUSED:
        return message("insight.evidence.fused", method=method)
    return message("insight.evidence.map", method=method, layer=layer)


def _images(evidence: Evidence, method: str, number: str, query: str | None = None) -> Place:
    """Return the images behind a method's number at the last layer, the doubtful ones first."""
    sort = f"{number}.{method}.up"
    return Place("overview", None, method, evidence.last, query=query, sort=sort)
