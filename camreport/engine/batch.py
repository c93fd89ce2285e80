"""The state of one batch, which every kind of passes receives."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from camreport.engine.forward import ForwardPass
from camreport.engine.memory import Budget, Limits
from camreport.engine.plan import Plan
from camreport.methods import Method
from camreport.network.precision import wide

Maps = dict[str, dict[str, Tensor]]
"""Raw maps ``(N, K, ...)`` float32, by method and hook point."""

Progress = Callable[[float], None]
"""Called with the fraction of a batch's further passes that are done, 0..1."""


@dataclass
class PassCounter:
    """Counts variants and the passes over them, and reports progress.

    Attributes:
        total: number of variants in the batch.
        progress: called with the fraction of the variants that are done.
        done: number of variants done so far.
        passes: number of forward passes over chunks of variants so far.
    """

    total: int
    progress: Progress
    done: int = field(default=0, init=False)
    passes: int = field(default=0, init=False)

    def add(self, variants: int) -> None:
        """Count one pass over ``variants`` variants."""
        self.done += variants
        self.passes += 1
        self.progress(min(1.0, self.done / max(1, self.total)))


@dataclass
class ClassBatching:
    """Whether a model's backward pass supports several classes at once.

    Attributes:
        works: the answer; None until a batched backward pass has been tried.
    """

    works: bool | None = None


@dataclass(frozen=True)
class Batch:
    """One batch of images after its forward pass.

    Attributes:
        module: the model, in evaluation mode.
        plan: what is computed.
        forward: the forward pass of the images, or of changed copies of them.
        targets: classes to explain, ``(N, K)``.
        reference_logits: logits of the unchanged images, ``(N, num_classes)``; they decide which
            other class is the strongest.
        counter: counts the further forward passes.
        batching: records whether classes can be batched.
        limits: the limits on batch and chunk sizes.
    """

    module: nn.Module
    plan: Plan
    forward: ForwardPass
    targets: Tensor
    reference_logits: Tensor
    counter: PassCounter
    batching: ClassBatching
    limits: Limits

    @property
    def inputs(self) -> Tensor:
        """The images, ``(N, 3, H, W)``, without a graph."""
        return self.forward.inputs.detach()

    @property
    def budget(self) -> Budget:
        """The byte budget of the device."""
        return self.limits.budget(self.forward.inputs.device)

    def values(self, point: str) -> Tensor:
        """Return the activation at a hook point, ``(N, C, h, w)``, without its graph.

        It has 32 bits at least, whatever the precision of the passes.
        """
        return wide(self.forward.activations[point].detach())

    def empty_maps(self, method: Method) -> dict[str, Tensor]:
        """Return uninitialised maps of a method, ``(N, K, h, w)`` or ``(N, K, C, h, w)``."""
        found = {}
        for point in self.plan.points(method):
            activation = self.forward.activations[point]
            shape = activation.shape[1:] if method.per_channel else activation.shape[2:]
            found[point] = activation.new_empty(*self.targets.shape, *shape, dtype=torch.float32)
        return found
