"""What the predictions of a run come to: confidence, confusions, calibration."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from camreport.results.outline import Described

CONFIDENT = 0.8
"""Probability of the predicted class above which an error counts as confident."""

BINS = 10
"""Bars of the histogram of confidence."""

RELIABILITY_BINS = 10
"""Points of the reliability diagram."""

MIN_RELIABILITY = 30
"""Least number of images with a true class for a reliability diagram."""

MAX_MATRIX = 10
"""Most classes of a confusion matrix; of more, the most confused pairs are listed."""

MAX_PAIRS = 10
"""Most pairs of classes that are listed as confused."""

Judgement = Literal["right", "wrong", "unknown"]


@dataclass(frozen=True)
class ClassScore:
    """How one class fares.

    Attributes:
        index: of the class.
        right: images of the class that are predicted as it.
        total: images of the class.
        predicted: images that are predicted as the class.
    """

    index: int
    right: int
    total: int
    predicted: int


@dataclass(frozen=True)
class Confused:
    """How many images of one class are predicted as another, or as itself."""

    label: int
    predicted: int
    count: int


@dataclass(frozen=True)
class Confusion:
    """Which classes are taken for which.

    Attributes:
        scores: of each class with images or predictions, by its index.
        cells: counts above 0 of true and predicted classes; with more than ``MAX_MATRIX`` classes
            only the errors, the most frequent first.
        whole: whether the cells are all of a matrix.
    """

    scores: tuple[ClassScore, ...]
    cells: tuple[Confused, ...]
    whole: bool


@dataclass(frozen=True)
class Confidence:
    """Histogram of the predicted classes' probabilities: counts in ``BINS`` equal bins.

    Attributes:
        low: where the first bin begins; the last one ends at 1.
        right: predictions that are right.
        wrong: predictions that are wrong.
        unknown: predictions of images without a true class.
    """

    low: float
    right: tuple[int, ...]
    wrong: tuple[int, ...]
    unknown: tuple[int, ...]


@dataclass(frozen=True)
class Reliability:
    """One point of a reliability diagram.

    Attributes:
        confidence: mean probability of the predictions in a bin, 0..1.
        right: fraction of them that is right, 0..1.
        count: number of them.
    """

    confidence: float
    right: float
    count: int


def judgement(image: Described) -> Judgement:
    """Say whether an image's most probable class is the true one."""
    if image.label is None or not image.top:
        return "unknown"
    return "right" if image.top[0].index == image.label else "wrong"


def certainty(image: Described) -> float:
    """Return the probability of the most probable class; 0 where there is none."""
    return image.top[0].probability if image.top else 0.0


def confident_errors(images: Sequence[Described]) -> int:
    """Count the errors whose probability is above ``CONFIDENT``."""
    return sum(judgement(one) == "wrong" and certainty(one) > CONFIDENT for one in images)


def confusion(images: Sequence[Described]) -> Confusion | None:
    """Count true against predicted classes; None without labels, or if a label means several."""
    if any(image.labels for image in images):
        return None
    pairs = Counter(
        (image.label, image.top[0].index)
        for image in images
        if image.label is not None and image.top
    )
    if not pairs:
        return None
    total, predicted = Counter[int](), Counter[int]()
    for (label, top), count in pairs.items():
        total[label] += count
        predicted[top] += count
    classes = sorted(total | predicted)
    scores = tuple(ClassScore(i, pairs[i, i], total[i], predicted[i]) for i in classes)
    whole = len(classes) <= MAX_MATRIX
    cells = [Confused(label, top, count) for (label, top), count in sorted(pairs.items())]
    if not whole:
        errors = [cell for cell in cells if cell.label != cell.predicted]
        cells = sorted(errors, key=lambda cell: -cell.count)[:MAX_PAIRS]
    return Confusion(scores, tuple(cells), whole)


def confidence(images: Sequence[Described]) -> Confidence:
    """Count the predictions by their probability: from 0.5 on if none is below that."""
    predicted = [image for image in images if image.top]
    low = 0.5 if all(certainty(image) >= 0.5 for image in predicted) else 0.0
    counts: dict[Judgement, list[int]] = {
        kind: [0] * BINS for kind in ("right", "wrong", "unknown")
    }
    for image in predicted:
        place = _bin((certainty(image) - low) / (1 - low), BINS)
        counts[judgement(image)][place] += 1
    return Confidence(low, *(tuple(counts[kind]) for kind in ("right", "wrong", "unknown")))


def reliability(images: Sequence[Described]) -> tuple[Reliability, ...]:
    """Compare confidence and accuracy in bins; empty below ``MIN_RELIABILITY`` judged images."""
    judged = [image for image in images if judgement(image) != "unknown"]
    if len(judged) < MIN_RELIABILITY:
        return ()
    bins: list[list[Described]] = [[] for _ in range(RELIABILITY_BINS)]
    for image in judged:
        bins[_bin(certainty(image), RELIABILITY_BINS)].append(image)
    return tuple(
        Reliability(
            confidence=sum(map(certainty, own)) / len(own),
            right=sum(judgement(image) == "right" for image in own) / len(own),
            count=len(own),
        )
        for own in bins
        if own
    )


def _bin(fraction: float, bins: int) -> int:
    """Return the bin of a fraction: a bound belongs to the bin above it, 1 to the last."""
    return min(int(round(fraction * bins, 6)), bins - 1)
