"""How much a batch may hold: fixed byte budgets, and what is measured against them."""

import sys
from collections.abc import Iterator, Sequence
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
        cached: gradient bytes processed at a time, so that they stay in cache while every method
            reads them.
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


OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",  # the CPU's allocator on Windows
    "cublas_status_alloc_failed",
    "cublas_status_not_initialized",  # what cuBLAS says when no memory is left for its handle
    "cudnn_status_alloc_failed",
    "cudnn_status_not_initialized",  # what cuDNN says when no memory is left for its handle
    "cudnn_status_internal_error_device_allocation_failed",
)
"""Parts of the messages, in lower case, by which devices say that memory is short."""


@dataclass
class BatchPlanner:
    """How many images the next batch takes: never more than memory has held before.

    Attributes:
        size: of the next batch; of the first one, to begin with.
        most: the largest batch that memory held, once one had to be halved.
        failed: the smallest batch that memory did not hold.
    """

    size: int
    most: int = sys.maxsize
    failed: int = sys.maxsize

    def learn(self, fitted: Sequence[int], allowed: int) -> None:
        """Plan the next batch.

        Args:
            fitted: sizes of the parts in which the last batch came through.
            allowed: what the budget or the user allows.
        """
        if len(fitted) > 1:
            self.most = min(self.most, max(fitted))
        self.size = min(allowed, self.most)


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
    return isinstance(error, RuntimeError) and any(name in message for name in OUT_OF_MEMORY)


def give_back_cached(device: torch.device) -> None:
    """Let the device have what torch keeps for later, so that a smaller batch finds room."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


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
