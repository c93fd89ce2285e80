"""How much a batch may hold: fixed byte budgets, and what is measured against them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Budget:
    """How much a batch may take on one type of device; fixed, so that equal runs stay equal.

    Attributes:
        activations: bytes that the model's innermost modules may return for one batch.
        gradients: bytes of layer gradients that may exist at once.
        images: the largest batch; more brings no speed.
        cached: bytes of one layer's gradients that all methods read before the next images' turn.
    """

    activations: int
    gradients: int
    images: int
    cached: int


BUDGETS = {
    "cpu": Budget(256 * MEBIBYTE, 32 * MEBIBYTE, 32, 4 * MEBIBYTE),
    "cuda": Budget(4096 * MEBIBYTE, 1024 * MEBIBYTE, 512, 256 * MEBIBYTE),
    "mps": Budget(1024 * MEBIBYTE, 128 * MEBIBYTE, 128, 64 * MEBIBYTE),
}
"""Budgets by device type."""

FIRST_BATCH_ALLOWANCE = 4
"""How many times the activation budget the first batch may take before it is cut in half."""


class BatchTooLarge(Exception):
    """A batch went beyond what it may hold; a smaller one will do."""


def budget_of(device: torch.device) -> Budget:
    """Return the budget of a device; one that is not listed is treated like the CPU."""
    return BUDGETS.get(device.type, BUDGETS["cpu"])


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an exception means that a smaller batch could succeed."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError | BatchTooLarge):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in message or "can't allocate memory" in message
    )


@contextmanager
def output_bytes(module: nn.Module, limit: float) -> Iterator[dict[str, int]]:
    """Add up the bytes that the innermost modules return: about what a backward pass needs.

    Raises:
        BatchTooLarge: in the middle of the forward pass, once there are more than ``limit``.
    """
    returned = {"bytes": 0}

    def count(_module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            returned["bytes"] += output.numel() * output.element_size()
        if returned["bytes"] > limit:
            raise BatchTooLarge

    with ExitStack() as hooks:
        for part in module.modules():
            if not any(True for _ in part.children()):
                hooks.callback(part.register_forward_hook(count).remove)
        yield returned
