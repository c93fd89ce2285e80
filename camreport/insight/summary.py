"""The summary of a run: what was found, which images to read first, which map to doubt, and why."""

from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import reduce
from heapq import nsmallest
from operator import itemgetter

import numpy as np

from camreport.insight.cautions import cautions
from camreport.insight.choice import MAX_DISPUTED, Chosen, read_first, rule
from camreport.insight.claims import Evidence, Finding, Place
from camreport.insight.columns import Column
from camreport.insight.doubts import Trust, doubt, trust
from camreport.insight.evidence_findings import evidence_cautions
from camreport.insight.findings import findings
from camreport.insight.predictions import (
    Confidence,
    Confusion,
    Reliability,
    confidence,
    confident_errors,
    confusion,
    reliability,
)
from camreport.messages import Message, message
from camreport.messages.message import LANGUAGES
from camreport.methods import Method
from camreport.results.accuracy import accuracy
from camreport.results.outline import Described
from camreport.results.schema import FUSED

MAX_NAMED = 3
"""Most predicted classes that the headline counts."""

MAX_FEW = 12
"""Most images whose own maps the page shows in its summary; of more it shows means."""

MAX_MEAN_CLASSES = 3
"""Most predicted classes whose mean maps are shown."""

MAX_MEAN_METHODS = 3
"""Most methods whose mean maps are shown."""


@dataclass(frozen=True)
class Score:
    """How often predictions are right.

    Attributes:
        right: right predictions.
        total: predictions of images with a true class.
        confident: errors that are confident.
    """

    right: int
    total: int
    confident: int


@dataclass(frozen=True)
class ShownMean:
    """A mean map for the page.

    Attributes:
        method: key of the method.
        layer: address of the layer.
        target: index of the predicted class.
        height: of the map, in cells.
        width: likewise.
        levels: 255 * mean / largest mean, a byte for each cell, in base64.
        count: number of maps.
    """

    method: str
    layer: str
    target: int
    height: int
    width: int
    levels: str
    count: int


@dataclass(frozen=True)
class Summary:
    """The summary of a run.

    Attributes:
        headline: the outcome.
        accuracy: how often predictions are right; None without true classes.
        first: the images to read first.
        rule: how they were chosen.
        doubt: the map to trust least; None if nothing speaks against any.
        findings: what the maps show.
        cautions: what to bear in mind.
        confusion: true classes against predicted ones; None without true classes.
        confidence: histogram of the predicted classes' probabilities.
        reliability: confidence against accuracy; empty for few images.
        trust: what is measured of each method at the last layer.
        means: mean maps; empty for few images.
    """

    headline: Message
    accuracy: Score | None
    first: tuple[Chosen, ...]
    rule: Message
    doubt: Finding | None
    findings: tuple[Finding, ...]
    cautions: tuple[Finding, ...]
    confusion: Confusion | None
    confidence: Confidence
    reliability: tuple[Reliability, ...]
    trust: tuple[Trust, ...]
    means: tuple[ShownMean, ...]

    def to_json(self) -> dict[str, object]:
        """Return the summary for the page: each message as its words in every language."""
        content = _json(self)
        assert isinstance(content, dict)
        return content


def summarise(
    images: Sequence[Described], evidence: Evidence, numbers: Mapping[str, Column]
) -> Summary:
    """Return the summary of a run.

    Args:
        images: the readable images.
        evidence: what the rules read.
        numbers: of each image, as ``image_columns`` returns them for the last layer.
    """
    manifest = evidence.manifest
    indices = [image.index for image in images]
    return Summary(
        headline=headline(images),
        accuracy=_score(images),
        first=read_first(images, _agreement(indices, numbers), _empty(indices, evidence, numbers)),
        rule=rule(images),
        doubt=doubt(evidence),
        findings=findings(evidence),
        cautions=(
            *cautions(manifest, images, opposite=_opposite(evidence, len(images))),
            *evidence_cautions(evidence),
        ),
        confusion=confusion(images),
        confidence=confidence(images),
        reliability=reliability(images),
        trust=trust(evidence),
        means=tuple(_means(evidence)) if len(images) > MAX_FEW else (),
    )


def _opposite(evidence: Evidence, count: int) -> int:
    """Return in how many of the images the logits are known to be opposite."""
    return (evidence.compared or count) if evidence.opposite else 0


def _score(images: Sequence[Described]) -> Score | None:
    counted = accuracy(images)
    if counted is None:
        return None
    return Score(counted.right, counted.total, confident_errors(images))


def headline(images: Sequence[Described]) -> Message:
    """Return the outcome in a sentence: accuracy, or what was predicted."""
    counted = accuracy(images)
    if counted is not None:
        share = counted.right / counted.total
        right, total = counted.right, counted.total
        return message("insight.headline.right", right=right, total=total, share=share)
    tops = [(image.file, image.top[0].name) for image in images if image.top]
    if not tops:
        return message("insight.headline.nothing")
    if len(images) == 1:
        return message("insight.headline.one", file=tops[0][0], name=tops[0][1])
    predicted = Counter(name for _, name in tops)
    named = predicted.most_common(MAX_NAMED)
    each = [message("insight.headline.count", name=name, count=count) for name, count in named]
    counts = reduce(
        lambda one, other: message("insight.headline.listed", first=one, next=other), each
    )
    rest = predicted.total() - sum(count for _, count in named)
    if rest:
        return message("insight.headline.rest", counts=counts, rest=rest)
    return message("insight.headline.predicted", counts=counts)


def _agreement(indices: Sequence[int], numbers: Mapping[str, Column]) -> dict[int, float]:
    """Return the lowest median rank correlations of the methods' maps, by the image's index."""
    found = zip(indices, numbers.get("disagreement", ()), strict=False)
    known = ((index, 1 - value) for index, value in found if value is not None)
    return dict(nsmallest(MAX_DISPUTED, known, key=itemgetter(1)))


def _empty(
    indices: Sequence[int], evidence: Evidence, numbers: Mapping[str, Column]
) -> dict[int, Method]:
    """Return a method without positive evidence for the winner, by the image's index."""
    return {
        index: method
        for method in reversed(evidence.methods)
        for index, area in zip(indices, numbers.get(f"area.{method.key}", ()), strict=False)
        if area == 0
    }


def _means(evidence: Evidence) -> Iterator[ShownMean]:
    """Yield the mean maps of the classes predicted most often, class by class."""
    means = [mean for mean in evidence.aggregates.means if mean.outcome == "all"]
    at_last = [mean for mean in means if mean.key.layer == evidence.last]
    counts = Counter({mean.predicted: mean.n for mean in at_last})
    methods = [method.key for method in evidence.methods][:MAX_MEAN_METHODS]
    layers = [*evidence.layers, FUSED]
    for target, _ in counts.most_common(MAX_MEAN_CLASSES):
        for mean in means:
            method, layer = mean.key
            if mean.predicted == target and method in methods and layer in layers:
                height, width = mean.sums.shape
                largest = max(int(mean.sums.max()), 1)
                levels = np.floor(mean.sums * 255 / largest + 0.5).astype(np.uint8)
                packed = b64encode(levels.tobytes()).decode()
                yield ShownMean(method, layer, target, height, width, packed, mean.n)


def _json(value: object) -> object:
    """Return what a summary holds as JSON."""
    if isinstance(value, Message):
        return {language: value.worded(language) for language in LANGUAGES}
    if is_dataclass(value):
        pairs = ((own.name, getattr(value, own.name)) for own in fields(value))
        left_out = isinstance(value, Place)
        return {name: _json(own) for name, own in pairs if own is not None or not left_out}
    return [_json(own) for own in value] if isinstance(value, tuple) else value
