"""Forward passes over changed images, in chunks of a fixed byte budget, without gradients."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from camreport.engine.cost import Cost
from camreport.engine.memory import Limits, give_back_cached
from camreport.engine.plan import Plan
from camreport.network.logits import logits_of
from camreport.network.memory import is_out_of_memory
from camreport.network.state import device_of, forward_without_gradients, to_model

Make = Callable[[slice], Tensor]
"""Makes the changed images of a slice of a range, ``(m, 3, H, W)``."""

Finished = Callable[[int], None]
"""Called with the number of further finished images."""


def variant_logits(
    module: nn.Module, plan: Plan, limits: Limits, count: int, make: Make, progress: Finished
) -> tuple[Tensor, Cost]:
    """Return the logits of changed images that are made chunk by chunk, and what they cost.

    Args:
        module: the model, in evaluation mode.
        plan: says how its logits are read, and how many bytes an image takes.
        limits: the limits on chunk sizes.
        count: number of changed images.
        make: makes those of a slice of ``range(count)``; it is asked for a slice again, in smaller
            ones, if memory runs out.
        progress: called with the number of further finished images.

    Returns:
        logits ``(count, num_classes)`` on the model's device, without a graph.
    """
    logits = logits_without_gradients(module, plan)
    found: list[Tensor] = []

    def keep(part: slice) -> None:
        found.append(logits(to_model(module, make(part))))
        progress(part.stop - part.start)

    device = device_of(module)
    in_chunks(count, limits.images_of(device, plan.bytes_per_image), keep, device)
    return torch.cat(found), Cost(forwards=len(found), variants=count)


def logits_without_gradients(module: nn.Module, plan: Plan) -> Callable[[Tensor], Tensor]:
    """Return the function from images ``(M, 3, H, W)`` to logits ``(M, num_classes)``."""
    forward = forward_without_gradients(module)

    def logits(images: Tensor) -> Tensor:
        return logits_of(forward(images), len(images), plan.output, plan.activation).detach()

    return logits


def in_chunks(length: int, chunk: int, run: Callable[[slice], None], device: torch.device) -> None:
    """Call ``run`` with successive slices of a range, with smaller ones if memory runs out."""
    start = 0
    while start < length:
        part = slice(start, min(start + chunk, length))
        try:
            run(part)
            start = part.stop
            continue
        except (MemoryError, RuntimeError) as error:
            if part.stop - part.start == 1 or not is_out_of_memory(error):
                raise
        chunk = (part.stop - part.start) // 2  # outside the handler: what failed is freed
        give_back_cached(device)


def slices(length: int, step: int) -> Iterator[slice]:
    """Yield successive slices of a range, ``step`` long each but for the last."""
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))
