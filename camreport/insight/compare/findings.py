"""What a comparison comes to, in words: each claim with its number, its n and a place."""

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import chain, islice
from operator import itemgetter

import numpy as np

from camreport.insight.choice import MAX_FIRST, Chosen
from camreport.insight.claims import Finding, Place, coefficient
from camreport.insight.compare.comparison import ACCURACY, Comparison, Kind
from camreport.insight.compare.deltas import ways
from camreport.insight.compare.layers import LayerPair
from camreport.insight.findings import MAX_FINDINGS
from camreport.insight.predictions import Confidence, judgement
from camreport.insight.summary import Summary
from camreport.messages import Message, message
from camreport.methods import METHODS
from camreport.results.schema import LayerEntry

MAX_KIND = 2
"""Most images to read first of one kind of change."""

MIN_MOVED = 0.5
"""Share of the evidence that lies elsewhere above which a map looks elsewhere."""

_KINDS: tuple[Kind, ...] = ("wrong", "right", "other")


def comparison_summary(found: Comparison) -> Summary:
    """Return the summary of a comparison; it speaks of the last run against the first."""
    return Summary(
        headline=headline(found),
        accuracy=None,
        first=read_first(found),
        rule=message("compare.first.rule", run=found.names[-1]),
        doubt=None,
        findings=tuple(islice(chain.from_iterable(rule(found) for rule in RULES), MAX_FINDINGS)),
        cautions=tuple(chain.from_iterable(rule(found) for rule in CAUTIONS)),
        confusion=None,
        confidence=Confidence(0.0, (), (), ()),
        reliability=(),
        trust=(),
        means=(),
    )


def headline(found: Comparison) -> Message:
    """Return the outcome in a sentence."""
    run, count = len(found.names) - 1, len(found.first.images)
    names = {"first": found.names[0], "run": found.names[run]}
    changed = {kind: len(found.of_run(run, kind)) for kind in _KINDS}
    delta = found.delta(ACCURACY, run)
    if is_same(found, run):
        return message("compare.headline.same", count=count, **names)
    if delta is not None and delta.before is not None and delta.after is not None:
        return message(
            "compare.headline.right",
            count=delta.n,
            before=round(delta.before * delta.n),
            after=round(delta.after * delta.n),
            gained=changed["right"],
            lost=changed["wrong"],
            **names,
        )
    return message("compare.headline.changed", changed=changed["other"], count=count, **names)


def is_same(found: Comparison, run: int) -> bool:
    """Return whether a run predicts the same as the first one, with the same maps."""
    agreed = [one for one in found.differences if one.run == run]
    moved = [one.moved for one in found.agreement if one.run == run]
    return (
        not any(flip.run == run for flip in found.flips)
        and not any(own.mean.any() for own in agreed)
        and not any(moved)
        and not np.nan_to_num(found.moved[run - 1]).any()
    )


def read_first(found: Comparison) -> tuple[Chosen, ...]:
    """Choose at most ``MAX_FIRST`` images of the last run: changes of each kind, far moves."""
    run = len(found.names) - 1
    names = {"first": found.names[0], "run": found.names[run]}
    reasons: dict[int, list[Message]] = {}
    for kind in _KINDS:
        for flip in found.of_run(run, kind)[:MAX_KIND]:
            reasons.setdefault(flip.image, []).append(message(f"compare.first.{kind}", **names))
    moved = found.moved[run - 1]
    furthest = [i for i in np.argsort(-moved, kind="stable").tolist() if moved[i] > 0]
    for image in [image for image in furthest if image not in reasons][:MAX_KIND]:
        reasons[image] = []
    for image, own in reasons.items():
        if moved[image] > 0:
            own.append(message("compare.first.moved", share=float(moved[image]), **names))
    return tuple(Chosen(image, (*why,)) for image, why in [*reasons.items()][:MAX_FIRST])


def moved_of(found: Comparison) -> Message:
    """Say of which maps the share of the evidence that lies elsewhere is, and what that is."""
    method, layer = found.first.manifest.glance
    name = METHODS[method].name
    return message("compare.moved_of", first=found.names[0], method=name, layer=layer)


def _accuracies(found: Comparison) -> Iterator[Finding]:
    """How the accuracy of each run differs from the first one's."""
    for own in found.deltas:
        if own.key != ACCURACY or own.low is None:
            continue
        names = {"first": found.names[0], "run": found.names[own.run]}
        text = message(
            "compare.accuracy.few",
            gained=len(found.of_run(own.run, "right")),
            lost=len(found.of_run(own.run, "wrong")),
            count=own.n,
            **names,
        )
        if own.apart is not None:
            text = message(
                f"compare.accuracy.{'apart' if own.apart else 'not_apart'}",
                delta=_points(own.delta or 0.0),
                low=_points(own.low),
                high=_points(own.high or 0.0),
                p=_rounded(own.p or 0.0),
                count=own.n,
                **names,
            )
        yield Finding(text, own.n, Place("runs", run=own.run))


def _points(share: float) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    points = round(100 * share, 1) + 0.0  # which makes no -0 of it
    return f"{points:+.1f}".replace("-", "−") if points else "0.0"


def _rounded(p: float) -> str:
    """Return a p-value with two digits, or a bound."""
    return f"{p:.2g}" if p >= 0.001 else "< 0.001"


def _agreement(found: Comparison) -> Iterator[Finding]:
    """How alike the maps that are shown first are."""
    key = found.first.manifest.glance
    for own in found.agreement:
        if (own.method, own.layer) == key and own.correlation is not None:
            text = message(
                "compare.agreement",
                first=found.names[0],
                run=found.names[own.run],
                layer=own.layer,
                method=METHODS[own.method].name,
                correlation=coefficient(own.correlation),
                share=own.moved or 0.0,
                count=own.n,
            )
            yield Finding(text, own.n, Place("overview", run=own.run, sort="moved.down"))


def _layers(found: Comparison) -> Iterator[Finding]:
    """At which layers the maps agree least and most."""
    run, method = len(found.names) - 1, found.first.manifest.glance.method
    own = [
        (one.correlation, one)
        for one in found.agreement
        if (one.run, one.method) == (run, method) and one.correlation is not None
    ]
    if len({correlation for correlation, _ in own}) < 2:
        return
    (low, least), (high, most) = (pick(own, key=itemgetter(0)) for pick in (min, max))
    text = message(
        "compare.least",
        first=found.names[0],
        run=found.names[run],
        method=METHODS[method].name,
        least=least.layer,
        most=most.layer,
        low=coefficient(low),
        high=coefficient(high),
    )
    yield Finding(text, least.n, Place("runs", run=run, method=method, layer=least.layer))


def _elsewhere(found: Comparison) -> Iterator[Finding]:
    """How many images that both runs get right have their evidence elsewhere."""
    run = len(found.names) - 1
    pairs = zip(found.first.images, found.views[run].images, strict=True)
    right = np.array([judgement(a) == judgement(b) == "right" for a, b in pairs])
    far = right & (np.nan_to_num(found.moved[run - 1]) > MIN_MOVED)
    if not far.any():
        return
    method, layer = found.first.manifest.glance
    text = message(
        "compare.right_elsewhere",
        first=found.names[0],
        run=found.names[run],
        count=int(right.sum()),
        moved=int(far.sum()),
        method=METHODS[method].name,
        layer=layer,
    )
    query = f"right:yes flip:no moved>{MIN_MOVED:g}"
    place = Place("overview", run=run, query=query, sort="moved.down")
    yield Finding(text, int(far.sum()), place)


def _numbers(found: Comparison) -> Iterator[Finding]:
    """How many numbers of the evidence differ between the last run and the first."""
    run = len(found.names) - 1
    told = [one.apart for one in found.deltas if one.run == run and one.method]
    known = [apart for apart in told if apart is not None]
    if known:
        names = {"first": found.names[0], "run": found.names[run]}
        text = message("compare.numbers", all=len(known), apart=sum(known), **names)
        yield Finding(text, sum(known), Place("runs", run=run))


def _others(found: Comparison) -> Iterator[Finding]:
    """How often a run's most probable class is none of those that are compared."""
    for run, count in enumerate(found.elsewhere):
        if count:
            total, name = len(found.first.images), found.names[run]
            text = message("compare.elsewhere", run=name, elsewhere=count, count=total)
            yield Finding(text, count, Place("runs", run=run))


def _by_depth(found: Comparison) -> Iterator[Finding]:
    """Which layers stand for each other by depth."""
    for run, name in enumerate(found.names[1:], start=1):
        pairs = [
            f"{pair.key} ↔ {pair.addresses[run]}"
            for pair in found.pairs
            if pair.by == "depth" and pair.addresses[run] not in (None, pair.key)
        ]
        if pairs:
            values = {"first": found.names[0], "run": name, "layers": ", ".join(pairs)}
            text = message("compare.by_depth", pairs=len(pairs), **values)
            yield Finding(text, len(pairs), Place("runs", run=run))


def _missing(found: Comparison) -> Iterator[Finding]:
    """How many images not all runs have, or have under other labels."""
    lacking = [one for one in found.missing if one.runs]
    if lacking:
        text = message("compare.not_joined", missing=len(lacking))
        yield Finding(text, len(lacking), Place("runs"))
    if found.relabelled:
        text = message("compare.relabelled", count=found.relabelled)
        yield Finding(text, found.relabelled, Place("overview"))


def _differs(found: Comparison) -> Iterator[Finding]:
    """In which settings the runs differ, so that their maps differ for that reason, too."""
    manifests = [view.inner.manifest for view in found.views]
    settings: dict[str, list[str | Message]] = {
        "quantity": [own.quantity for own in manifests],
        "preprocessing": [own.preprocessing.described() for own in manifests],
        "smooth": [", ".join(own.smooth) or "–" for own in manifests],
        "precision": [own.precision for own in manifests],
        "evidence": [ways(own.evidence) for own in manifests],
    }
    for name, values in settings.items():
        if len({*map(str, values)}) > 1:
            pairs = zip(found.names, values, strict=True)
            each = listed([message("compare.each", run=run, value=own) for run, own in pairs])
            text = message(f"compare.differs.{name}", each=each)
            yield Finding(text, len(found.first.images), Place("provenance"))


def reason(found: Comparison, pair: LayerPair) -> Message:
    """Say why some layers stand for each other."""
    if pair.by == "alone":
        runs = [name for name, own in zip(found.names, pair.addresses, strict=True) if own]
        return message("compare.why.alone", run=", ".join(runs))
    if pair.by != "depth":
        return message(f"compare.why.{pair.by}")
    places = []
    for run, (name, address) in enumerate(zip(found.names, pair.addresses, strict=True)):
        depth = pair.depths[run]
        if address is not None and depth is not None:
            _, height, width = _layer(found, run, address).shape
            sides = {"height": height, "width": width}
            places.append(message("compare.place", run=name, depth=depth, **sides))
    return message("compare.why.depth", each=listed(places))


def _layer(found: Comparison, run: int, address: str) -> LayerEntry:
    layers = found.views[run].inner.manifest.layers
    return next(layer for layer in layers if layer.address == address)


def listed(parts: Sequence[Message]) -> Message:
    """Return messages as a list in one."""
    return reduce(
        lambda one, other: message("insight.headline.listed", first=one, next=other), parts
    )


RULES: tuple[Callable[[Comparison], Iterator[Finding]], ...] = (
    _accuracies,
    _agreement,
    _layers,
    _elsewhere,
    _numbers,
)
"""The findings' rules, in the order of importance."""

CAUTIONS: tuple[Callable[[Comparison], Iterator[Finding]], ...] = (
    _others,
    _by_depth,
    _differs,
    _missing,
)
"""What to bear in mind."""
