"""Memory limits: fixed byte budgets, and the number of images in the next batch."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

import torch

from camreport.errors import MemoryLimitError
from camreport.messages import message
from camreport.network.memory import BatchTooLarge, is_out_of_memory

ONE_IMAGE_TOO_MUCH = message("engine.memory")
"""Error message for a batch of one image that does not fit into memory."""

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Budget:
    """How much memory a batch may take on one type of device; fixed, so that runs are repeatable.

    Attributes:
        activations: bytes that the model's innermost modules may return for one batch.
        gradients: bytes of layer gradients that may exist at once.
        images: the largest number of images in a batch; larger batches are not faster.
        cached: gradient bytes processed at a time, so that they stay in cache while every method
            reads them.
    """

    activations: int
    gradients: int
    images: int
    cached: int


BUDGETS = {
    "cpu": Budget(256 * MEBIBYTE, 32 * MEBIBYTE, 32, 4 * MEBIBYTE),
    "mps": Budget(1024 * MEBIBYTE, 128 * MEBIBYTE, 128, 64 * MEBIBYTE),
}
"""Budgets by device type; that of CUDA depends on the class of the card: see ``cuda_budget``."""

CLASSES = (2, 4, 6, 8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256)
"""Classes of cards by their memory as it is sold, in GiB."""

SHOWN = 0.9
"""The fraction of it that a card shows at least."""


def memory_class(device: torch.device) -> int:
    """Return the class of a CUDA card, in GiB: equal cards have one, whatever else they run.

    The result is 0 for other devices.
    """
    if device.type != "cuda":
        return 0
    total = torch.cuda.get_device_properties(device).total_memory / (1024 * MEBIBYTE)
    return max((size for size in CLASSES if SHOWN * size <= total), default=CLASSES[0])


def cuda_budget(memory: int) -> Budget:
    """Return the budget of a class of cards: fixed fractions of its memory, in GiB."""
    whole = memory * 1024 * MEBIBYTE
    return Budget(whole // 16, whole // 64, 512, whole // 256)


@dataclass(frozen=True)
class Limits:
    """The numbers that decide how work is cut into batches and chunks.

    Maps depend on them by no more than rounding. The size of a batch is the number of images whose
    activations fit the device's budget, as the probe measured them (``images_of``); the user's
    ``batch_size`` takes its place, and a batch that memory does not hold is halved.

    Attributes:
        first_batch: images in the first batch; the memory it needs decides the later batch size.
        first_allowance: how many times the activation budget the first batch may take before it
            is cut in half.
        tail_variants: tail passes use chunks this many times larger than an image batch, to reuse
            the weights.
        sorted_from: smallest batch for which reordering a linear layer's weights by position pays
            off.
        budgets: budgets by device type; a type that is not listed has the budget of the CPU.
        memory: class of the CUDA card, in GiB; 0 for other devices.
    """

    first_batch: int = 16
    first_allowance: int = 4
    tail_variants: int = 8
    sorted_from: int = 4
    budgets: Mapping[str, Budget] = field(default_factory=lambda: BUDGETS)
    memory: int = 0

    @classmethod
    def of(cls, device: torch.device) -> Self:
        """Return the limits for a device."""
        return cls(memory=memory_class(device))

    def budget(self, device: torch.device) -> Budget:
        """Return the budget of a device."""
        if device.type == "cuda" and "cuda" not in self.budgets:
            return cuda_budget(self.memory or CLASSES[0])
        return self.budgets.get(device.type, self.budgets["cpu"])

    def images_of(self, device: torch.device, bytes_per_image: int) -> int:
        """Return how many images fit the device's budget, at least one."""
        budget = self.budget(device)
        return max(1, min(budget.images, budget.activations // max(1, bytes_per_image)))


@dataclass
class BatchPlanner:
    """Chooses the number of images in the next batch, and remembers which sizes were too large.

    A batch is split into the same parts as without earlier failures; a size that has failed is
    only not tried again.

    Attributes:
        size: number of images that the budget or the user allows; at first, the first batch's.
        failed: the smallest number of images that did not fit into memory.
    """

    size: int
    failed: int = sys.maxsize

    def allow(self, images: int) -> None:
        """Set the number of images that the budget or the user allows."""
        self.size = images

    def fitting(self, images: int) -> int:
        """Return a batch size, halved until it is below the sizes that have failed."""
        while 1 < images >= self.failed:
            images = (images + 1) // 2
        return images

    def fail(self, tried: int) -> None:
        """Remember that a batch of ``tried`` images did not fit into memory."""
        self.failed = min(self.failed, tried)


class Attempt:
    """The block in which a batch is computed; it ends quietly where memory runs out, and says so.

    Attributes:
        failed: whether memory has run out.
    """

    def __init__(self, images: int) -> None:
        self._images, self.failed = images, False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, MemoryError | RuntimeError | BatchTooLarge):
            return False
        if not is_out_of_memory(error):
            return False
        if self._images == 1:
            raise MemoryLimitError(ONE_IMAGE_TOO_MUCH) from error
        self.failed = True
        return True


def in_batches(
    count: int, size: Callable[[], int], sizes: BatchPlanner, device: torch.device
) -> Iterator[tuple[slice, Attempt]]:
    """Yield the batches of a number of images; one that memory does not hold comes again, halved.

    Args:
        count: number of images.
        size: returns the number of images in the next batch if it fits.
        sizes: remembers the sizes that did not.
        device: of the model.

    Yields:
        the rows of a batch, and the block in which it is to be computed.
    """
    start = 0
    while start < count:
        rows = slice(start, min(start + sizes.fitting(size()), count))
        attempt = Attempt(rows.stop - rows.start)
        yield rows, attempt
        if attempt.failed:
            sizes.fail(rows.stop - rows.start)
            give_back_cached(device)
        else:
            start = rows.stop


@contextmanager
def one_image_fits() -> Iterator[None]:
    """Say of whatever runs out of memory in the block that a single image does not fit into it.

    Raises:
        MemoryLimitError: memory has run out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryLimitError(ONE_IMAGE_TOO_MUCH) from error


def give_back_cached(device: torch.device) -> None:
    """Release the memory that torch caches on a device, so that a smaller batch can fit."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
