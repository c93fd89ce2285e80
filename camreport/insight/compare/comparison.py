"""What a comparison of runs comes to: all others are compared with the first one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from camreport.insight.compare.joined import Missing
from camreport.insight.compare.layers import LayerPair
from camreport.insight.compare.view import RunView
from camreport.insight.predictions import judgement
from camreport.messages import Message
from camreport.results.outline import Described

Better = Literal["high", "low"]
Kind = Literal["wrong", "right", "other"]

ACCURACY, CHANCE = "accuracy", "p"
"""Keys of numbers that are not about maps: the share of right answers, and the probability of the
true class."""


@dataclass(frozen=True)
class Delta:
    """A number of a run minus that of the first run, of the same images.

    Attributes:
        key: ``ACCURACY``, ``CHANCE``, or a number of the evidence.
        run: place of the run.
        method: key of the method; empty where the number is not about maps.
        layer: key of the pair of layers; likewise.
        n: images with the number in both runs.
        before: in the first run: a share of right answers, or a median.
        after: in the other run.
        delta: of accuracy the difference; else the median of the images' differences.
        low: lower end of its 95 % interval; None where n < 2.
        high: its upper end; likewise.
        better: which end is better, if any is.
        apart: whether the two are told apart; None below ``MIN_ORDERED`` images.
        p: exact p-value of McNemar's test; None for all but accuracy.
    """

    key: str
    run: int
    method: str
    layer: str
    n: int
    before: float | None
    after: float | None
    delta: float | None
    low: float | None
    high: float | None
    better: Better | None
    apart: bool | None
    p: float | None = None


@dataclass(frozen=True)
class Agreement:
    """How alike a run's maps are to the first run's, by one method at one pair of layers.

    Attributes:
        run: place of the run.
        method: key of the method.
        layer: key of the pair of layers.
        n: images whose two maps have positive evidence.
        correlation: median rank correlation on the common grid, -1..1.
        overlap: median intersection over union of the highest fifths, 0..1.
        moved: median share of the evidence that lies elsewhere, 0..1.
        missing: why there is nothing to compare.
    """

    run: int
    method: str
    layer: str
    n: int
    correlation: float | None
    overlap: float | None
    moved: float | None
    missing: Message | None = None


@dataclass(frozen=True)
class MeanDifference:
    """The mean over images of a run's map minus the first run's, each up to its own maximum.

    Attributes:
        run: place of the run.
        method: key of the method.
        layer: key of the pair of layers.
        n: images with both maps.
        mean: float64 ``(14, 14)`` on the common grid, -1..1.
    """

    run: int
    method: str
    layer: str
    n: int
    mean: NDArray[np.float64]


@dataclass(frozen=True)
class Flip:
    """An image whose predicted class is another one than in the first run.

    Attributes:
        image: its index in the comparison.
        run: place of the run.
        kind: ``wrong`` from right to wrong, ``right`` from wrong to right, ``other`` from one class
            to another where both are wrong or the true class is not known.
        moved: share of the evidence that lies elsewhere, 0..1; None where that is not defined.
    """

    image: int
    run: int
    kind: Kind
    moved: float | None


@dataclass(frozen=True)
class Comparison:
    """What a comparison of R runs on n images comes to.

    Attributes:
        names: of the runs, unique.
        views: the runs, with the indices of images and classes that they share.
        pairs: of layers.
        mapped: of each run, whether its classes have been mapped onto the shared ones.
        elsewhere: of each run, images whose most probable class is none of the shared ones.
        relabelled: images whose true class is another one in a further run.
        missing: images that not all runs have.
        moved: of each further run, the share of each image's evidence that lies elsewhere than in
            the first run, at the first choice's method and layer; NaN where that is not defined.
        flips: run by run; those whose maps moved furthest first.
        deltas: of all numbers that the first run and another one have.
        agreement: of the maps that they have.
        differences: likewise.
    """

    names: tuple[str, ...]
    views: tuple[RunView, ...]
    pairs: tuple[LayerPair, ...]
    mapped: tuple[bool, ...]
    elsewhere: tuple[int, ...]
    relabelled: int
    missing: tuple[Missing, ...]
    moved: tuple[NDArray[np.float64], ...]
    flips: tuple[Flip, ...]
    deltas: tuple[Delta, ...]
    agreement: tuple[Agreement, ...]
    differences: tuple[MeanDifference, ...]

    @property
    def first(self) -> RunView:
        """The run that the others are compared with."""
        return self.views[0]

    def of_run(self, run: int, kind: Kind) -> list[Flip]:
        """Return a run's flips of a kind, those whose maps moved furthest first."""
        return [flip for flip in self.flips if flip.run == run and flip.kind == kind]

    def delta(self, key: str, run: int) -> Delta | None:
        """Return the change of a number that is not about maps, if it is known."""
        own = (one for one in self.deltas if (one.key, one.run, one.method) == (key, run, ""))
        return next(own, None)


def flip_kind(before: Described, after: Described) -> Kind | None:
    """Return how an image's prediction changed from one run to another; None if it did not."""
    if not before.top or not after.top or before.top[0].index == after.top[0].index:
        return None
    if judgement(before) == "right":
        return "wrong"
    return "right" if judgement(after) == "right" else "other"


def flips(
    first: Sequence[Described], other: Sequence[Described], run: int, moved: NDArray[np.float64]
) -> list[Flip]:
    """Return the images whose predicted class changed, those whose maps moved furthest first.

    Args:
        first: the images of the first run.
        other: the same images of the other one.
        run: its place.
        moved: of each image, the share of the evidence that lies elsewhere, or NaN.
    """
    found = []
    for place, (before, after) in enumerate(zip(first, other, strict=True)):
        kind, own = flip_kind(before, after), float(moved[place])
        if kind is not None:
            found.append(Flip(before.index, run, kind, None if np.isnan(own) else own))
    return sorted(found, key=lambda flip: -1 if flip.moved is None else flip.moved, reverse=True)
