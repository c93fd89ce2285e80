"""Memory: batches that had to be halved stay small, and only the targets' maps are made."""

from collections.abc import Sequence

import pytest
import torch
from helpers.limits import explain_within, limits
from helpers.nets import record_batches
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from camreport import explain
from camreport.engine.memory import BatchPlanner
from camreport.network.memory import is_out_of_memory

NAMES = [
    "CUDA out of memory. Tried to allocate 2.00 GiB",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "MPS backend out of memory",
    "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory",
]


class Holds(nn.Module):
    """Passes on as many images as it holds."""

    def __init__(self, most: int, message: str) -> None:
        super().__init__()
        self.most, self.message = most, message

    def forward(self, x: Tensor) -> Tensor:
        """Fail for more."""
        if len(x) > self.most:
            raise RuntimeError(self.message)
        return x


def small_net(classes: int = 2, most: int = 10**9, message: str = "") -> nn.Sequential:
    """Sixteen channels of 14 × 14 and a head."""
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU())
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes), Holds(most, message))
    return nn.Sequential(features, *head)


@pytest.mark.parametrize("message", NAMES)
def test_every_name_of_out_of_memory_makes_smaller_batches(message):
    assert is_out_of_memory(RuntimeError(message))
    assert not is_out_of_memory(ValueError(message))
    e = explain(small_net(most=2, message=message), torch.rand(5, 3, 16, 16), ["0"])
    assert len(e.logits) == 5


def test_other_errors_of_a_gpu_are_no_shortage_of_memory():
    for message in ("CUBLAS_STATUS_EXECUTION_FAILED", "CUDNN_STATUS_BAD_PARAM", "shapes"):
        assert not is_out_of_memory(RuntimeError(f"cuDNN error: {message}"))


def test_a_batch_that_had_to_be_halved_is_never_tried_again():
    net = small_net(most=8, message="CUDA out of memory")
    tried, _ = record_batches(net)
    explain(net, torch.rand(50, 3, 16, 16), ["0"])
    assert tried == [16, 8, 8, 8, 8, 8, 8, 2]


def test_batch_planner_halves_what_has_failed_and_nothing_else():
    planner = BatchPlanner(16)
    planner.allow(32)
    assert planner.fitting(32) == 32
    planner.fail(16)
    assert [planner.fitting(images) for images in (32, 16, 15, 1)] == [8, 8, 15, 1]
    planner.fail(20)
    assert planner.fitting(20) == 10, "the smallest that has failed counts"
    planner.fail(1)
    assert planner.fitting(32) == 1


class Largest(TorchDispatchMode):
    """Keeps the size of the largest tensor that is made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(
        self,
        func: object,
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        """Look at what is returned."""
        found = func(*args, **(kwargs or {}))  # type: ignore[operator]
        sizes = [
            one.untyped_storage().nbytes() // one.element_size()
            for one in tree_leaves(found)
            if isinstance(one, Tensor)
        ]
        self.elements = max([self.elements, *sizes])
        return found


@pytest.mark.parametrize("quantity", ["logit", "probability", "contrast"])
@pytest.mark.parametrize(
    "key", ["score_cam", "score_cam_pgc", "score_cam_torchcam", "ablation_cam", "recipro_cam"]
)
def test_no_tensor_of_all_classes_and_variants_is_made(key, quantity):
    few = limits(tail_variants=1, activations=10**9, gradients=10**9, images=4, cached=10**9)
    images, classes = torch.rand(4, 3, 16, 16), 3000
    net = small_net(classes)
    with Largest() as made:
        e = explain_within(few, net, images, ["0"], [key], "top2", quantity=quantity)
    assert e.maps[key]["0"].shape == (4, 2, 14, 14)
    a_chunk = 6 * classes  # four variants, and what is computed of them
    everything = 4 * 16 * classes
    of_the_layer = 4 * 16 * 14 * 14 * 4  # a chunk of changed layers
    assert made.elements <= max(a_chunk, of_the_layer, net[3].weight.numel()) < everything
