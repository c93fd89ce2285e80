"""How much a batch may hold: fixed byte budgets, and how many images the next batch takes."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

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


@dataclass(frozen=True)
class Limits:
    """The numbers that decide how work is cut into batches and chunks; no map depends on them.

    Attributes:
        first_batch: images in the first batch; what it needs decides the size of the others.
        first_allowance: how many times the activation budget the first batch may take before it
            is cut in half.
        tail_variants: tail passes use chunks this many times larger than an image batch, to reuse
            the weights.
        sorted_from: smallest batch for which reordering a linear layer's weights by position pays
            off.
        budgets: by device type; one that is not listed is treated like the CPU.
    """

    first_batch: int = 16
    first_allowance: int = 4
    tail_variants: int = 8
    sorted_from: int = 4
    budgets: Mapping[str, Budget] = field(default_factory=lambda: BUDGETS)

    def budget(self, device: torch.device) -> Budget:
        """Return the budget of a device."""
        return self.budgets.get(device.type, self.budgets["cpu"])

    def images_of(self, device: torch.device, bytes_per_image: int) -> int:
        """Return how many images a batch takes: a budget's worth, at least one."""
        budget = self.budget(device)
        return max(1, min(budget.images, budget.activations // max(1, bytes_per_image)))


@dataclass
class BatchPlanner:
    """How many images the next batch takes, and which sizes need not be tried.

    The parts of a batch are those that it would have if nothing had failed before it: what has
    failed is only not tried again.

    Attributes:
        size: what the budget or the user allows; of the first batch, to begin with.
        failed: the smallest batch that memory did not hold.
    """

    size: int
    failed: int = sys.maxsize

    def allow(self, images: int) -> None:
        """Let the next batch take what the budget or the user allows."""
        self.size = images

    def fitting(self, images: int) -> int:
        """Return a batch's size, halved as long as that has failed already."""
        while 1 < images >= self.failed:
            images = (images + 1) // 2
        return images

    def fail(self, tried: int) -> None:
        """Remember that a batch of so many images did not fit."""
        self.failed = min(self.failed, tried)


def give_back_cached(device: torch.device) -> None:
    """Let the device have what torch keeps for later, so that a smaller batch finds room."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
