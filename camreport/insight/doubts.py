"""What speaks against trusting a map, by fixed rules; ``docs/findings.md`` lists them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

from camreport.insight.aggregates import MAX_NAMED, SIMILAR, MapAggregate
from camreport.insight.claims import Evidence, Finding, Place, coefficient
from camreport.insight.findings import ALL_LAYERS, empty_share
from camreport.messages import Message, message
from camreport.methods import METHODS
from camreport.results.schema import FUSED

MIN_EMPTY = 0.2
"""Share of maps without positive evidence from which a method is to be doubted."""

MIN_SIMILAR = 0.5
"""Share of images above which maps alike for two classes hardly tell the classes apart."""

MAX_AGREEMENT = 0.5
"""Median rank correlation with the other methods below which one stands apart."""

MIN_OTHERS = 2
"""Least number of other methods from which one can stand apart."""


@dataclass(frozen=True)
class Trust:
    """What is measured of a method's maps at the last layer, for the predicted classes.

    Attributes:
        method: key of the method.
        layer: address of the layer.
        area: median fraction of what the model saw where a map is at least half of its maximum.
        empty: fraction of maps without positive evidence.
        correlation: median rank correlation with the other class-specific methods.
        verdict: what speaks against the maps; None if no rule does.
    """

    method: str
    layer: str
    area: float | None
    empty: float | None
    correlation: float | None
    verdict: Message | None


def trust(evidence: Evidence) -> tuple[Trust, ...]:
    """Return what is measured of each method at the last layer, repeated ones last."""
    own = [_trust(evidence, maps) for maps in evidence.maps(evidence.last)]
    copies = [
        Trust(one, evidence.last, None, None, None, _copy(other))
        for one, other in evidence.repeats.items()
        if METHODS[one].scope == "layer"
    ]
    return (*own, *copies)


def doubt(evidence: Evidence) -> Finding | None:
    """Return the map to trust least, with the reason; None if no rule speaks against any.

    The rules are asked one after the other, each of all methods at the last layer; then the two
    that need no other method, of all layers.
    """
    last = evidence.maps(evidence.last)
    for rule in RULES:
        for own in last:
            if why := rule(evidence, own):
                return _doubted(evidence, own.key.method, own.key.layer, why)
    for one, other in evidence.repeats.items():
        return replace(_doubted(evidence, one, evidence.last, _copy(other)), place=ALL_LAYERS)
    layers = (*evidence.layers, FUSED)
    everywhere = [own for layer in layers for own in evidence.maps(layer)]
    for own in sorted(everywhere, key=_similar_share, reverse=True):
        if why := _alike(evidence, own) or _empty(evidence, own):
            return _doubted(evidence, own.key.method, own.key.layer, why)
    return None


def _trust(evidence: Evidence, own: MapAggregate) -> Trust:
    areas = own.predicted["all"]
    return Trust(
        method=own.key.method,
        layer=own.key.layer,
        area=areas.median,
        empty=empty_share(areas) if areas.maps else None,
        correlation=_agreement(evidence, own),
        verdict=next(filter(None, (rule(evidence, own) for rule in RULES)), None),
    )


def _empty(evidence: Evidence, own: MapAggregate) -> Message | None:
    areas = own.predicted["all"]
    if not areas.maps or empty_share(areas) < MIN_EMPTY:
        return None
    return message("insight.doubt.empty", share=empty_share(areas), count=areas.maps)


def _alike(evidence: Evidence, own: MapAggregate) -> Message | None:
    if _similar_share(own) <= MIN_SIMILAR:
        return None
    count = own.likeness.n
    counts: dict[str, int | str] = {"similar": own.similar, "count": count}
    counts["correlation"] = f"{SIMILAR}"
    if own.similar < count <= MAX_NAMED:
        files = ", ".join(own.similar_files)
        return message("insight.doubt.alike_named", files=files, **counts)
    return message("insight.doubt.alike", **counts)


def _similar_share(own: MapAggregate) -> float:
    """Return the fraction of images whose two class maps are alike; 0 where none has two."""
    return own.similar / max(own.likeness.n, 1)


def _classless(evidence: Evidence, own: MapAggregate) -> Message | None:
    per_class = METHODS[own.key.method].per_class
    return None if per_class else message("insight.doubt.classless")


def _apart(evidence: Evidence, own: MapAggregate) -> Message | None:
    agreement = _agreement(evidence, own)
    enough = len(_others(evidence, own)) >= MIN_OTHERS
    if not enough or agreement is None or agreement >= MAX_AGREEMENT:
        return None
    return message("insight.doubt.apart", correlation=coefficient(agreement))


RULES: tuple[Callable[[Evidence, MapAggregate], Message | None], ...] = (
    *(_empty, _alike, _classless, _apart),
)


def _copy(other: str) -> Message:
    return message("insight.doubt.copy", other=METHODS[other].name)


def _others(evidence: Evidence, own: MapAggregate) -> set[str]:
    """Return the other methods at a layer whose maps answer for a class, without repeated ones."""
    keys = {other.key.method for other in evidence.maps(own.key.layer)} - {own.key.method}
    return {key for key in keys if METHODS[key].per_class}


def _agreement(evidence: Evidence, own: MapAggregate) -> float | None:
    """Return the median of a method's correlations with the others at its layer, if it has any."""
    others = _others(evidence, own)
    medians = [
        pair.correlation.median
        for pair in evidence.pairs(own.key.layer)
        if own.key.method in pair.methods
        and others.intersection(pair.methods)
        and pair.correlation.median is not None
    ]
    return median(medians) if medians else None


def _doubted(evidence: Evidence, method: str, layer: str, why: Message) -> Finding:
    code = "insight.doubt.of_fused" if layer == FUSED else "insight.doubt.of_layer"
    where = {} if layer == FUSED else {"layer": layer}
    text = message(code, method=METHODS[method].name, why=why, **where)
    place = Place("matrix", None, method, layer, rows="image", columns="class")
    return Finding(text, evidence.aggregates.images["all"], place)
