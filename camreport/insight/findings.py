"""What a run's numbers show, by fixed rules: claims with their number, their n and a place.

``docs/findings.md`` lists the rules. A rule whose evidence is missing, or below its threshold,
returns nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from operator import itemgetter

from camreport.insight.aggregates import ALIKE, Areas, MapAggregate, PairAggregate
from camreport.insight.claims import Evidence, Finding, Place, coefficient
from camreport.insight.cluster_findings import cluster_findings
from camreport.insight.evidence_findings import evidence_findings
from camreport.messages import Message, message
from camreport.methods import METHODS

MAX_FINDINGS = 7
"""Most findings that are shown."""

MIN_EMPTY = 0.05
"""Share of maps without positive evidence from which it is a finding."""

MIN_ALIKE = 0.1
"""Share of images whose two class maps are nearly alike from which it is a finding."""

MIN_JUDGED = 10
"""Least number of right and of wrong predictions for a comparison of the two."""

MIN_DIFFERENCE = 0.05
"""Difference of two median areas from which right and wrong predictions differ."""

MAX_AGREEMENT = 0.5
"""Median rank correlation below which two methods disagree."""


def findings(evidence: Evidence) -> tuple[Finding, ...]:
    """Return at most ``MAX_FINDINGS`` claims, in the order of the rules."""
    return tuple(islice(chain.from_iterable(rule(evidence) for rule in RULES), MAX_FINDINGS))


def name_of(own: MapAggregate) -> str:
    """Return the name of the method of some maps."""
    return METHODS[own.key.method].name


def positive(areas: Areas) -> int:
    """Return the number of maps with positive evidence."""
    return areas.maps - areas.empty - areas.undefined


def empty_share(areas: Areas) -> float:
    """Return the fraction of maps without positive evidence; 0 where there are no maps."""
    return areas.empty / areas.maps if areas.maps else 0.0


def _area(evidence: Evidence) -> Iterator[Finding]:
    """How much of what the model saw the widest and the narrowest method mark at the last layer."""
    measured = [
        (own.predicted["all"].median, own)
        for own in evidence.maps(evidence.last)
        if own.predicted["all"].median is not None
    ]
    if not measured:
        return
    by_area = sorted(measured, key=lambda pair: pair[0])
    (least, narrow), (most, wide) = by_area[0], by_area[-1]
    count = min(positive(own.predicted["all"]) for own in (narrow, wide))
    text = message(
        "insight.areas",
        layer=evidence.last,
        method=name_of(wide),
        area=most,
        other=name_of(narrow),
        least=least,
        count=count,
    )
    if narrow is wide:
        text = message(
            "insight.area", layer=evidence.last, method=name_of(wide), area=most, count=count
        )
    place = replace(_methods_side_by_side(evidence.last), sort=f"area.{wide.key.method}.down")
    yield Finding(text, count, place)


def _empty(evidence: Evidence) -> Iterator[Finding]:
    """Which method most often has no positive evidence for the predicted class."""
    emptiest = max(
        (own for layer in evidence.layers for own in evidence.maps(layer)),
        key=lambda own: empty_share(own.predicted["all"]),
        default=None,
    )
    if emptiest is None or empty_share(emptiest.predicted["all"]) < MIN_EMPTY:
        return
    key, areas = emptiest.key, emptiest.predicted["all"]
    text = message(
        "insight.empty",
        method=name_of(emptiest),
        layer=key.layer,
        share=empty_share(areas),
        empty=areas.empty,
        count=areas.maps,
    )
    query = f"area.{key.method}=0" if key.layer == evidence.last else None
    yield Finding(text, areas.empty, Place("overview", None, key.method, key.layer, query=query))


def _right_and_wrong(evidence: Evidence) -> Iterator[Finding]:
    """How many methods' areas differ between right and wrong predictions, and the largest gap."""
    found = [
        (round(abs(right.median - wrong.median), 6), right, wrong, own)
        for own in evidence.maps(evidence.last)
        for right, wrong in [(own.predicted["right"], own.predicted["wrong"])]
        if right.median is not None
        and wrong.median is not None
        and min(positive(right), positive(wrong)) >= MIN_JUDGED
    ]
    if not found:
        return
    difference, right, wrong, own = max(found, key=itemgetter(0))
    if difference < MIN_DIFFERENCE:
        return
    rights, wrongs = positive(right), positive(wrong)
    text = message(
        "insight.right_and_wrong",
        method=name_of(own),
        layer=own.key.layer,
        right=_median_and_quartiles(right),
        wrong=_median_and_quartiles(wrong),
        rights=rights,
        wrongs=wrongs,
        differing=sum(one[0] >= MIN_DIFFERENCE for one in found),
        methods=len(found),
    )
    assert right.median is not None
    assert wrong.median is not None
    way = "down" if wrong.median > right.median else "up"
    sort = f"area.{own.key.method}.{way}"
    place = Place("overview", None, own.key.method, own.key.layer, query="right:no", sort=sort)
    yield Finding(text, rights + wrongs, place)


def _median_and_quartiles(areas: Areas) -> Message:
    """Return the median of areas that have one, and their quartiles."""
    assert areas.median is not None
    assert areas.quartiles is not None
    low, high = areas.quartiles
    return message("insight.quartiles", median=areas.median, low=low, high=high)


def _alike(evidence: Evidence) -> Iterator[Finding]:
    """Which method's maps of two classes are most often nearly alike at the last layer."""
    likest = max(
        evidence.maps(evidence.last),
        key=lambda own: own.alike / max(own.likeness.n, 1),
        default=None,
    )
    if likest is None or likest.alike < max(1, MIN_ALIKE * likest.likeness.n):
        return
    text = message(
        "insight.alike",
        method=name_of(likest),
        layer=likest.key.layer,
        alike=likest.alike,
        count=likest.likeness.n,
        correlation=coefficient(ALIKE),
    )
    place = Place("matrix", None, *likest.key, rows="image", columns="class")
    yield Finding(text, likest.alike, place)


def _disagreement(evidence: Evidence) -> Iterator[Finding]:
    """Which two methods disagree most at the last layer."""
    lowest = _lowest(evidence.class_pairs(evidence.last))
    if lowest is None or _median(lowest) >= MAX_AGREEMENT:
        return
    found = _of_pair("insight.disagreement", lowest)
    yield replace(found, place=replace(found.place, sort="disagreement.down"))


def _depth(evidence: Evidence) -> Iterator[Finding]:
    """Where two methods that agree at the last layer agree least before it."""
    last_pairs = evidence.class_pairs(evidence.last)
    agreeing = [pair for pair in last_pairs if _median(pair) >= MAX_AGREEMENT]
    earlier = [
        pair
        for layer in evidence.layers[:-1]
        for pair in evidence.class_pairs(layer)
        if pair.methods in {own.methods for own in agreeing} and _median(pair) < MAX_AGREEMENT
    ]
    lowest = _lowest(earlier)
    if lowest is None:
        return
    last = next(pair for pair in agreeing if pair.methods == lowest.methods)
    yield _of_pair("insight.depth", lowest, last=last.layer, late=coefficient(_median(last)))


def _coinciding(evidence: Evidence) -> Iterator[Finding]:
    """Which methods are one piece of evidence."""
    count = evidence.compared or evidence.aggregates.images["all"]
    for one, other in evidence.repeats.items():
        names = {"method": METHODS[one].name, "other": METHODS[other].name}
        yield Finding(message("insight.coinciding", **names, count=count), count, ALL_LAYERS)


def _same_tensor(evidence: Evidence) -> Iterator[Finding]:
    """Which layers are one tensor."""
    count = evidence.aggregates.images["all"]
    for layer in evidence.manifest.layers:
        if layer.same_as is not None:
            text = message("insight.same_tensor", layer=layer.address, other=layer.same_as)
            yield Finding(text, count, ALL_LAYERS)


ALL_LAYERS = Place("matrix", rows="method", columns="layer")
"""All maps of an image."""

RULES: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    *(
        evidence_findings,
        cluster_findings,
        _area,
        _empty,
        _right_and_wrong,
        _alike,
        _disagreement,
        _depth,
        _coinciding,
        _same_tensor,
    ),
)


def _methods_side_by_side(layer: str) -> Place:
    return Place("matrix", layer=layer, rows="image", columns="method")


def _of_pair(code: str, pair: PairAggregate, **more: str) -> Finding:
    """Return a claim about the agreement of two methods at a layer."""
    one, other = (METHODS[key].name for key in pair.methods)
    correlation, count = coefficient(_median(pair)), pair.correlation.n
    text = message(
        code,
        one=one,
        other=other,
        layer=pair.layer,
        correlation=correlation,
        count=count,
        **more,
    )
    return Finding(text, count, _methods_side_by_side(pair.layer))


def _lowest(pairs: Sequence[PairAggregate]) -> PairAggregate | None:
    return min(pairs, key=_median, default=None)


def _median(pair: PairAggregate) -> float:
    """Return the median correlation of a pair that has one."""
    assert pair.correlation.median is not None
    return pair.correlation.median
