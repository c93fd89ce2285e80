"""Guided backpropagation: a backward pass in which every ReLU lets only positive gradients through.

The rule is applied to every ReLU, module or function, while a forward pass runs; the model's
modules are not touched.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from camreport.engine.backward import Variables, class_gradients
from camreport.engine.batch import Batch, Maps
from camreport.engine.cost import Cost
from camreport.engine.plan import INPUT
from camreport.engine.score import cotangents
from camreport.methods import Method
from camreport.network.logits import logits_of

_RELUS = {
    torch.relu,
    torch.relu_,
    functional.relu,
    functional.relu_,
    Tensor.relu,
    Tensor.relu_,
}


def guided_maps(batch: Batch, methods: Sequence[Method], earlier: Maps) -> tuple[Maps, Cost]:
    """Compute guided backpropagation, and its product with Grad-CAM, ``(N, K, 3, H, W)``.

    Args:
        batch: the batch; its module has ReLU as its only activation.
        methods: the methods to compute.
        earlier: maps of earlier passes, with raw Grad-CAM under the key of Guided Grad-CAM.
    """
    plan, leaf = batch.plan, batch.inputs.clone().requires_grad_()
    with _GuidedReLU():
        output = batch.module(leaf.clone())
    logits = logits_of(output, len(leaf), plan.output, plan.activation)
    rows = cotangents(logits, batch.targets, plan.options.quantity, activation=plan.activation)
    variables = Variables({}, {}, [], leaf)
    by_class = class_gradients(logits, variables, rows, batch.batching, batch.budget)
    parts = [part.image for _, part in by_class]
    gradient = torch.cat([part for part in parts if part is not None]).transpose(0, 1).float()
    maps: Maps = {}
    for method in methods:
        if method.scope == "layer":
            cams = earlier[method.key]
            maps[method.key] = {s: method.compute(gradient, cam) for s, cam in cams.items()}
        else:
            maps[method.key] = {INPUT: method.compute(gradient)}
    return maps, Cost(forwards=1, backwards=len(rows))


class _GuidedReLU(TorchFunctionMode):
    """Lets only positive gradients through every ReLU that runs inside the block."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        output = func(*args, **(kwargs or {}))
        if func in _RELUS and isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(_positive)  # type: ignore[no-untyped-call]
        return output


def _positive(gradient: Tensor) -> Tensor:
    return gradient.clamp(min=0)
