"""Explanations under other limits than the usual: small batches, chunks and budgets."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from camreport import Explainer, Explanation
from camreport.engine.batch import Progress
from camreport.engine.memory import BUDGETS, Limits


def limits(
    first_batch: int = Limits.first_batch,
    tail_variants: int = Limits.tail_variants,
    sorted_from: int = Limits.sorted_from,
    **budget: int,
) -> Limits:
    """Return the usual limits with some changed; the others are numbers of the CPU's budget."""
    cpu = replace(BUDGETS["cpu"], **budget)
    return Limits(
        first_batch=first_batch,
        tail_variants=tail_variants,
        sorted_from=sorted_from,
        budgets={"cpu": cpu},
    )


def explain_within(
    limits: Limits,
    net: nn.Module,
    images: Tensor,
    layers: Sequence[str],
    methods: str | Sequence[str],
    targets: Sequence[int] | Tensor | str | None = None,
    progress: Progress = lambda fraction: None,
    **options: object,
) -> Explanation:
    """Explain as ``camreport.explain`` does, within limits."""
    shape = tuple(images.shape[1:])
    with Explainer(net, layers, methods, input_shape=shape, limits=limits, **options) as explainer:
        return explainer.explain(images, targets, progress=progress)
