"""Grid pointing: whether a map points at the image of its class in a collage of several."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camreport.metrics.effect import cell_means
from camreport.metrics.registry import Number, metric
from camreport.metrics.values import Undefined, Values

SIDE = 2
"""Rows and columns of images in a collage."""

MIN_PROBABILITY = 0.5
"""An image is used only if its most probable class has more than this probability."""

PAIRED = np.array([[[0, 1], [1, 0]], [[1, 0], [0, 1]]])
"""The two collages of two images: each diagonal holds one of them, then the other."""


@dataclass(frozen=True)
class Collages:
    """Which images stand where in collages of 2 × 2 cells.

    Attributes:
        image: ``(g, m)``, the images of each collage, by their index among the run's inputs.
        target: ``(g, m)``, the class of each.
        cells: ``(g, 2, 2)``, which of the m images each cell shows: each one once, or two images
            twice, on the diagonals.
    """

    image: NDArray[np.int64]
    target: NDArray[np.int64]
    cells: NDArray[np.int64]

    @property
    def chance(self) -> float:
        """The share of a collage that shows the class in question."""
        return 1 / int(self.image.shape[1])


def choose_collages(
    indices: NDArray[np.int64],
    predictions: NDArray[np.int64],
    probabilities: NDArray[np.floating],
    labels: Sequence[int | None],
    seed: int,
) -> Collages:
    """Choose images of different classes that the network is sure of, and lay out their collages.

    Images whose most probable class has a probability above ½ and is right, where labels say so;
    of each class the most probable first, each image once. With four classes or more a collage
    shows four images of different classes in random places; otherwise two, each on a diagonal,
    and its mirror image. Classes with most images left come first, so that there are as many
    collages as possible.

    Args:
        indices: ``(n,)``, of the images among the run's inputs.
        predictions: ``(n,)``, the most probable class of each.
        probabilities: ``(n,)``, its probability.
        labels: ``n`` true classes; None where unknown.
        seed: of everything random in the run.

    Returns:
        the collages; none where images of two classes are missing.

    Source: Böhle et al., Convolutional Dynamic Alignment Networks for Interpretable
        Classifications, 2021, section 4.2, https://arxiv.org/abs/2104.00032
    """
    right = np.array(
        [label in (None, top) for label, top in zip(labels, predictions.tolist(), strict=True)],
        dtype=bool,
    )
    queues: dict[int, list[int]] = {}
    for row in np.argsort(-probabilities, kind="stable"):
        if right[row] and probabilities[row] > MIN_PROBABILITY:
            queues.setdefault(int(predictions[row]), []).append(int(row))
    together = SIDE * SIDE if len(queues) >= SIDE * SIDE else SIDE
    groups = np.array(_groups(queues, together), dtype=np.intp).reshape(-1, together)
    if together == SIDE:
        groups = groups.repeat(2, axis=0)
        cells = np.tile(PAIRED, (len(groups) // 2, 1, 1))
    else:
        random = np.random.default_rng(seed)
        places = [random.permutation(together) for _ in groups]
        cells = np.array(places, dtype=np.int64).reshape(-1, SIDE, SIDE)
    return Collages(indices[groups], predictions[groups].astype(np.int64), cells)


def _groups(queues: dict[int, list[int]], together: int) -> list[list[int]]:
    """Return groups of rows of different classes until too few classes have one left."""
    groups = []
    while sum(map(bool, queues.values())) >= together:
        fullest = sorted(queues, key=lambda c: (-len(queues[c]), c))[:together]
        groups.append([queues[label].pop(0) for label in sorted(fullest)])
    return groups


def collage(images: NDArray[np.float32], cells: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return one collage, ``(3, 2 H, 2 W)``.

    Args:
        images: ``(m, 3, H, W)``, preprocessed.
        cells: ``(2, 2)``, which of them each cell shows.
    """
    return np.concatenate([np.concatenate([*images[row]], -1) for row in cells], -2)


@metric("collages", "full", Number("grid", 0, 1, better="high"))
def grid(maps: NDArray[np.float32], cells: NDArray[np.int64], size: tuple[int, int]) -> Values:
    """Return which part of a map's positive evidence lies in the cells that show its class.

    Σ relu(R) inside ÷ Σ relu(R), enlarged as it is drawn. Chance is the share of these cells.

    Args:
        maps: ``(g, m, h, w)``, of each collage the map of each of its classes, from their base up.
        cells: ``(g, 2, 2)``, which of the m images each cell shows.
        size: height and width of a collage, in pixels; both even.

    Returns:
        ``(g, m)``, 0..1; undefined where a map is not finite or has no positive evidence.

    Source: Böhle et al., Convolutional Dynamic Alignment Networks for Interpretable
        Classifications, 2021, equation 12, https://arxiv.org/abs/2104.00032

    Example:
        >>> maps = np.array([[[[3, 0], [0, 1]]]], np.float32)
        >>> float(grid(maps, np.array([[[0, 1], [2, 3]]]), (2, 2)).numbers[0, 0])
        0.75
    """
    finite = np.asarray(np.isfinite(maps).all((-2, -1)))
    sizes = np.maximum(np.where(finite[..., None, None], maps, np.float32(0)), 0)
    mass = cell_means(sizes, (SIDE, SIDE), size)  # (g, m, 4)
    own = cells.reshape(-1, 1, SIDE * SIDE) == np.arange(maps.shape[1])[:, None]
    total = mass.sum(-1)
    return Values.of(
        (mass * own).sum(-1) / np.where(total > 0, total, 1),
        (Undefined.NOT_FINITE, ~finite),
        (Undefined.NO_POSITIVE, total <= 0),
    )


def strict_mean(values: Values) -> tuple[float, int]:
    """Return the mean with maps without positive evidence as 0, and how many there are.

    Args:
        values: of ``grid``, of any shape; what is undefined for another reason is left out.

    Returns:
        the mean, NaN of nothing; the number of maps without positive evidence.
    """
    empty = values.reasons == Undefined.NO_POSITIVE
    scores = np.where(empty, 0, values.numbers)[np.isfinite(values.numbers) | empty]
    return float(scores.mean()) if scores.size else float("nan"), int(empty.sum())
