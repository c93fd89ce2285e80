"""The kinds of evidence that are measured shard by shard, and what each of them takes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from camreport.messages.progress import Progress
from camreport.metrics import METRICS
from camreport.metrics.effect import MASKS
from camreport.metrics.values import Undefined, Values
from camreport.pipeline.evidence.batch import EvidenceBatch, Measured
from camreport.pipeline.evidence.classic import measure_average_drop, measure_road
from camreport.pipeline.evidence.effect import measure_effect, reasons_of_effect
from camreport.pipeline.evidence.learned import SEEDS, measure_learned
from camreport.pipeline.evidence.maps import measure_maps
from camreport.pipeline.evidence.orders import measure_orders
from camreport.pipeline.evidence.ranked import Reasons, of_every_map, ranked_maps
from camreport.pipeline.evidence.regions import measure_regions
from camreport.pipeline.evidence.repeated import of_shared_passes
from camreport.pipeline.evidence.stability import COPIES, measure_stability
from camreport.settings import FULL


@dataclass(frozen=True)
class Kind:
    """How some metrics are measured together.

    Attributes:
        metrics: their keys; costs are counted under the first one.
        measure: measures them of a batch.
        passes: the number of passes over one image, with as many orders as the batch has; 0 for
            those that are measured of every image, from its stored maps.
        repeats: it computes the maps again, so that a step of it is a forward pass and a backward
            pass for each class.
        reasons: why rows of a batch would have no number even if all goes well.
    """

    metrics: tuple[str, ...]
    measure: Callable[[EvidenceBatch], Measured]
    passes: Callable[[int], int] = lambda orders: 0
    repeats: bool = False
    reasons: Callable[[EvidenceBatch], Reasons] = of_every_map

    @property
    def sampled(self) -> bool:
        """Whether passes are spent on it, so that only some images are measured."""
        return self.passes(1) > 0

    @property
    def ranked(self) -> bool:
        """Whether it is measured of maps in an order: of the main maps, or of all."""
        return self.reasons is _of_orders

    def prepared(
        self, batch: EvidenceBatch, level: str, progress: Progress
    ) -> EvidenceBatch | None:
        """Return a batch with the maps to measure, which counts its progress in passes.

        Returns:
            None if all of its maps would take passes of their own, for which only ``full`` asks.
        """
        if not self.repeats:
            return replace(batch, progress=progress)
        weight = 1 + batch.targets.shape[1]
        own = replace(batch, progress=lambda steps: progress(steps * weight))
        own = own if level == FULL else of_shared_passes(own)
        return own if own.maps else None

    def failed(self, batch: EvidenceBatch) -> Measured:
        """Return the numbers of a batch on which the model fails: there are none."""
        numbers = [number.key for key in self.metrics for number in METRICS[key].numbers]
        found = dict[str, Values]()
        for key, why in self.reasons(batch).items():
            reasons = np.where(why == Undefined.DEFINED, np.uint8(Undefined.FAILED), why)
            nothing = Values(np.full(why.shape, np.nan, np.float32), reasons)
            found |= {f"{number}/{key}": nothing for number in numbers}
        return Measured(found)


def _of_orders(batch: EvidenceBatch) -> Reasons:
    return ranked_maps(batch)[1]


KINDS = (
    Kind(("contrast", "extent"), measure_maps),
    Kind(("regions",), measure_regions),
    Kind(("effect",), measure_effect, lambda orders: MASKS, reasons=reasons_of_effect),
    Kind(("order",), measure_orders, lambda orders: 1 + 18 * orders, reasons=_of_orders),
    Kind(("learned",), measure_learned, lambda orders: SEEDS, repeats=True),
    Kind(("stability",), measure_stability, lambda orders: COPIES + 1, repeats=True),
    Kind(("average_drop",), measure_average_drop, lambda orders: orders, reasons=_of_orders),
    Kind(("road",), measure_road, lambda orders: 18 * orders, reasons=_of_orders),
)
"""In the order in which they are measured."""


def kinds_of(metrics: Iterable[str]) -> list[Kind]:
    """Return the kinds that measure some metrics, by their keys."""
    return [kind for kind in KINDS if {*metrics}.intersection(kind.metrics)]
