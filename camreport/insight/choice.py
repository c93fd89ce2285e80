"""Which images to read first: fixed rules, each image with its reasons."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from camreport.insight.claims import coefficient
from camreport.insight.predictions import certainty, judgement
from camreport.messages import Message, message
from camreport.methods import Method
from camreport.results.outline import Described

MAX_FIRST = 8
"""Most images that are named."""

MAX_ERRORS = 3
"""Most confident errors among them."""

MAX_DISPUTED = 2
"""Most images among them whose methods disagree."""

MAX_EMPTY = 2
"""Most images among them without positive evidence for the winner."""

MAX_DISPUTED_AGREEMENT = 0.7
"""Median rank correlation from which methods do not count as disagreeing."""

Pick = tuple[int, Message]
"""An image's index, and a reason to read it."""


@dataclass(frozen=True)
class Chosen:
    """An image to read first.

    Attributes:
        image: its index.
        reasons: the reasons, the weightiest first.
    """

    image: int
    reasons: tuple[Message, ...]


def read_first(
    images: Sequence[Described], agreement: Mapping[int, float], empty: Mapping[int, Method]
) -> tuple[Chosen, ...]:
    """Choose at most ``MAX_FIRST`` images, each once; none of a single image.

    In this order: the most confident errors, the least confident prediction, the images whose
    methods disagree most, those without positive evidence for the winner, the most confident
    right answer, and the most confident one of each class. Without true classes there are no
    errors, and the most confident prediction stands for the right answer.

    Args:
        images: the readable images of a run.
        agreement: median rank correlation of the methods' maps, by the image's index.
        empty: a method without positive evidence for the winner, by the image's index.
    """
    if len(images) < 2:
        return ()
    ranked = sorted((image for image in images if image.top), key=lambda one: -certainty(one))
    picks = [
        *_errors(ranked),
        *((image.index, message("insight.first.doubtful")) for image in ranked[-1:]),
        *_disputed(agreement),
        *_empty(empty),
        *_surest(ranked),
    ]
    reasons: dict[int, list[Message]] = {}
    for index, reason in picks:
        reasons.setdefault(index, []).append(reason)
    return tuple(Chosen(index, (*why,)) for index, why in [*reasons.items()][:MAX_FIRST])


def rule(images: Iterable[Described]) -> Message:
    """Return the rule in words, with or without true classes."""
    labelled = any(judgement(image) != "unknown" for image in images)
    return message("insight.first.rule_labelled" if labelled else "insight.first.rule")


def _errors(ranked: Sequence[Described]) -> Iterator[Pick]:
    wrong = [image.index for image in ranked if judgement(image) == "wrong"]
    for place, index in enumerate(wrong[:MAX_ERRORS]):
        yield index, message("insight.first.next_error" if place else "insight.first.error")


def _disputed(agreement: Mapping[int, float]) -> Iterator[Pick]:
    lowest = sorted(agreement.items(), key=lambda entry: entry[1])
    for index, correlation in lowest[:MAX_DISPUTED]:
        if correlation < MAX_DISPUTED_AGREEMENT:
            yield index, message("insight.first.disputed", correlation=coefficient(correlation))


def _empty(empty: Mapping[int, Method]) -> Iterator[Pick]:
    for index, method in [*empty.items()][:MAX_EMPTY]:
        yield index, message("insight.first.empty", method=method.name)


def _surest(ranked: Sequence[Described]) -> Iterator[Pick]:
    """Yield the most confident image, and that of each class; errors are none of them."""
    judged = any(judgement(image) != "unknown" for image in ranked)
    wanted = "right" if judged else "unknown"
    surest = [image for image in ranked if judgement(image) == wanted]
    code = "insight.first.surest_right" if judged else "insight.first.surest"
    yield from ((image.index, message(code)) for image in surest[:1])
    seen = {image.top[0].index for image in surest[:1]}
    for image in surest:
        top = image.top[0]
        if top.index not in seen:
            seen.add(top.index)
            yield image.index, message("insight.first.of_class", name=top.name)
