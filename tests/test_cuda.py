"""On a GPU: the CPU's maps, equal runs, few synchronisations, and batches that fit its memory.

Skipped without a card. From a bare checkout, without the packages that other tests need::

    PYTHONPATH=. python -m pytest --noconftest tests/test_cuda.py
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from helpers.method_tester import MethodTester, is_the_same_on, repeats_itself_exactly
from helpers.nets import record_batches
from torch import Tensor, nn
from torch.testing import assert_close

from camreport import explain
from camreport.methods import METHODS

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
every_method = pytest.mark.parametrize("key", METHODS)

GIBIBYTE = 2**30


def wide_net() -> nn.Sequential:
    """A net whose first layer returns 16 MiB for an image of 256 × 256."""
    torch.manual_seed(0)
    features = (nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4))
    return nn.Sequential(*features, nn.Conv2d(64, 8, 3), nn.ReLU(), nn.Flatten(2), Mean()).cuda()


class Mean(nn.Module):
    """The mean over positions."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, C)`` from ``(N, C, positions)``."""
        return x.mean(2)


def photographs(count: int, side: int = 32) -> Tensor:
    """Seeded images, on the CPU."""
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@contextmanager
def at_most(memory: int) -> Iterator[None]:
    """Let this process have no more of the GPU's memory, in bytes."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(memory / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


def synchronisations(net: nn.Module, images: Tensor, keys: list[str]) -> int:
    """Return how often the CPU waits for the GPU while images are explained."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            explain(net, images, ["2", "4"], keys, [0, 1])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(one.message) for one in said)


@every_method
def test_every_method_gives_on_the_gpu_what_it_gives_on_the_cpu(key: str) -> None:
    is_the_same_on(MethodTester.of(key), "cuda")


@every_method
def test_equal_runs_are_equal_on_the_gpu(key: str) -> None:
    repeats_itself_exactly(MethodTester.of(key), "cuda")


def test_more_images_in_a_batch_cause_no_more_synchronisations() -> None:
    keys = ["grad_cam", "layer_cam", "hires_cam", "xgrad_cam", "full_grad"]
    net = wide_net()
    synchronisations(net, photographs(2).cuda(), keys)  # what the first call sets up
    few, many = (synchronisations(net, photographs(count).cuda(), keys) for count in (2, 8))
    assert 0 < many <= few


def test_a_batch_that_does_not_fit_the_gpu_is_halved() -> None:
    images = photographs(64, side=256)
    whole = explain(wide_net(), images, ["1"], targets=[0])
    net = wide_net()
    tried, done = record_batches(net)
    with at_most(GIBIBYTE):
        halved = explain(net, images, ["1"], targets=[0])
    assert max(tried) > max(done)
    assert_close(halved.maps, whole.maps, rtol=1e-4, atol=1e-7)
