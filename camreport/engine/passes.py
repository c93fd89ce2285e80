"""The kinds of passes, in the order in which they run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from camreport.engine.backward import look_alike_maps, shared_maps
from camreport.engine.batch import Batch, Maps
from camreport.engine.copies import averaged_maps, noise_maps, uses_copies
from camreport.engine.cost import Cost
from camreport.engine.guided import guided_maps
from camreport.engine.masks import measured_maps
from camreport.engine.perturbation import masked_maps, tail_maps
from camreport.engine.plan import Plan
from camreport.methods import Method
from camreport.methods.registry import (
    ABLATED,
    GRADIENT,
    GUIDED,
    LOOK_ALIKES,
    MASKED,
    NOISE,
    SHARED_MASKS,
)

COPIES = "smoothing_copies"
"""Name of the passes over changed copies of the images, which smoothing needs."""


@dataclass(frozen=True)
class Passes:
    """One kind of passes.

    Attributes:
        name: key under which the costs are counted.
        run: function from a batch, the methods and the maps of earlier kinds of passes to the raw
            maps of the methods and their cost.
        always: whether these passes run even if no method needs them.
    """

    name: str
    run: Callable[[Batch, Sequence[Method], Maps], tuple[Maps, Cost]]
    always: bool = False

    def methods(self, plan: Plan) -> list[Method]:
        """Return the methods that are computed by these passes."""
        return [
            m for m in plan.methods if plan.points_by_layer(m) and passes_of(m, plan) == self.name
        ]


PASSES = (
    Passes(GRADIENT.passes, shared_maps, always=True),
    Passes(COPIES, averaged_maps),
    Passes(LOOK_ALIKES.passes, look_alike_maps),
    Passes(NOISE.passes, noise_maps),
    Passes(GUIDED.passes, guided_maps),
    Passes(MASKED.passes, masked_maps),
    Passes(ABLATED.passes, tail_maps),
    Passes(SHARED_MASKS.passes, measured_maps),
)


def passes_of(method: Method, plan: Plan) -> str:
    """Return the name of the passes that a method's maps come from."""
    return COPIES if uses_copies(method, plan) else method.needs.passes
