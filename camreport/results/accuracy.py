"""Accuracy of the predictions, and detection of class names in the wrong order."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from camreport.messages import Message, message
from camreport.results.outline import Described
from camreport.settings import join_list

MAX_NAMES = 10
"""Largest number of class names that a warning lists."""

MIN_IMAGES = 2
"""Smallest average number of images per renamed class for which another order is proposed."""


@dataclass(frozen=True)
class Accuracy:
    """Agreement of predictions and true classes.

    Attributes:
        right: number of images whose most probable class is the true one.
        total: number of images with a true class.
        by_class: ``(right, total)`` of each class that has images, by its index; empty if a label
            means several classes.
    """

    right: int
    total: int
    by_class: Mapping[int, tuple[int, int]]


@dataclass(frozen=True)
class Reordering:
    """An order of the class names that fits the true classes clearly better.

    Attributes:
        order: for each class index, the index of the name that it should have.
        right: number of images whose prediction would be right with this order.
    """

    order: tuple[int, ...]
    right: int


def accuracy(images: Iterable[Described]) -> Accuracy | None:
    """Count right predictions; return None if no image has a true class.

    Args:
        images: the images; those without a true class are ignored.
    """
    listed = list(images)
    counts = _confusions(listed)
    if not counts:
        return None
    labels = sorted({label for label, _ in counts})
    by_class = {
        label: (counts[label, label], sum(n for (own, _), n in counts.items() if own == label))
        for label in labels
    }
    right, total = (sum(numbers) for numbers in zip(*by_class.values(), strict=True))
    return Accuracy(right, total, {} if _has_wide_labels(listed) else by_class)


def better_order(images: Iterable[Described], num_classes: int) -> Reordering | None:
    """Find an order of the class names with which clearly more predictions would be right.

    Two names are exchanged as long as that makes at least twice as many images of both classes
    right. The order is returned if it makes at least half of the images of the renamed classes
    right, and at least ``MIN_IMAGES`` per renamed class.

    Args:
        images: as for ``accuracy``.
        num_classes: number of the model's classes.
    """
    counts = _confusions(images)
    order = list(range(num_classes))
    while pair := _best_exchange(counts, order):
        one, other = pair
        order[one], order[other] = order[other], order[one]
    renamed = {name for index, name in enumerate(order) if index != name}
    right = sum(counts[name, index] for index, name in enumerate(order))
    own = sum(count for (label, _), count in counts.items() if label in renamed)
    of_renamed = right - sum(counts[i, i] for i in range(num_classes) if i not in renamed)
    if not renamed or of_renamed < max(MIN_IMAGES * len(renamed), own / 2):
        return None
    return Reordering(tuple(order), right)


def order_warning(images: Sequence[Described], names: Sequence[str]) -> Message | None:
    """Return a warning that the class names seem to be in the wrong order, if they do."""
    counted, better = accuracy(images), better_order(images, len(names))
    if counted is None or better is None or _has_wide_labels(images):
        return None
    counts = {"right": counted.right, "all": counted.total, "more": better.right}
    if len(names) <= MAX_NAMES:
        ordered = join_list(names[index] for index in better.order)
        return message("results.names_in_order", names=ordered, **counts)
    renamed = [f"{i} {names[name]}" for i, name in enumerate(better.order) if i != name]
    rest = ", …" if len(renamed) > MAX_NAMES else ""
    return message("results.names_by_index", names=join_list(renamed[:MAX_NAMES]) + rest, **counts)


def _has_wide_labels(images: Iterable[Described]) -> bool:
    """Return whether the label of any image means several classes."""
    return any(image.labels for image in images)


def _best_exchange(
    counts: Counter[tuple[int, int]], order: Sequence[int]
) -> tuple[int, int] | None:
    """Return the two classes with the largest gain from exchanging their names, if it is clear."""
    index_of = {name: index for index, name in enumerate(order)}
    best, most = None, 0
    for label, predicted in sorted(counts):
        if order[predicted] == label or counts[label, predicted] < MIN_IMAGES:
            continue
        one, other = index_of[label], predicted
        now = counts[order[one], one] + counts[order[other], other]
        then = counts[order[other], one] + counts[order[one], other]
        if then >= 2 * now and then - now > most:
            best, most = (one, other), then - now
    return best


def _confusions(images: Iterable[Described]) -> Counter[tuple[int, int]]:
    """Count images by their true and their most probable class."""
    return Counter(
        (image.label, image.top[0].index)
        for image in images
        if image.label is not None and image.top
    )
