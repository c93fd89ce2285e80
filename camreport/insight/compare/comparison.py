"""What a comparison of runs comes to. The first run is the one that the others are compared with."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from camreport.insight.compare.layers import LayerPair
from camreport.messages import Message
from camreport.metrics.statistics import MIN_ORDERED as MIN_ORDERED

Better = Literal["high", "low"]


@dataclass(frozen=True)
class Missing:
    """An image that not all runs have.

    Attributes:
        file: its name, in the first run that has it.
        runs: places of the runs that lack it.
        reason: why it is not compared.
    """

    file: str
    runs: tuple[int, ...]
    reason: Message


@dataclass(frozen=True)
class Delta:
    """A number of a run minus that of the first run, of the same images.

    Attributes:
        key: ``accuracy``, ``p`` (the probability of the true class), or a number of the evidence.
        run: place of the run.
        method: key of the method; empty where the number is not about maps.
        layer: key of the pair of layers; likewise.
        n: images with the number in both runs.
        before: in the first run: a fraction of right answers, or a median.
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
    kind: Literal["wrong", "right", "other"]
    moved: float | None


@dataclass(frozen=True)
class Comparison:
    """What a comparison of R runs on n images comes to.

    Attributes:
        names: of the runs, unique.
        pairs: of layers.
        missing: images that not all runs have.
        moved: of each further run, the share of each image's evidence that lies elsewhere than in
            the first run, at the first choice's method and layer; NaN where that is not defined.
        flips: those that moved furthest first, run by run.
        deltas: of all numbers that the first run and another one have.
        agreement: of the maps that they have.
        differences: likewise.
    """

    names: tuple[str, ...]
    pairs: tuple[LayerPair, ...]
    missing: tuple[Missing, ...]
    moved: tuple[NDArray[np.float64], ...]
    flips: tuple[Flip, ...]
    deltas: tuple[Delta, ...]
    agreement: tuple[Agreement, ...]
    differences: tuple[MeanDifference, ...]
