"""On a GPU: the CPU's maps, equal runs, few synchronisations, and batches that fit its memory.

Skipped without a card. From a bare checkout, without the packages that other tests need::

    PYTHONPATH=. python -m pytest tests/test_cuda.py
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.method_tester import MethodTester, is_the_same_on, repeats_itself_exactly
from helpers.nets import record_batches, spatial_net
from helpers.runs import npz_of, run, shards_of, tiny, write_images
from torch import Tensor, nn
from torch.testing import assert_close

from camreport import explain
from camreport.engine.explainer import Explainer
from camreport.engine.inputs import model_inputs
from camreport.engine.transfer import Transfer
from camreport.images.preprocessing import Preprocessing
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


def synchronisations(run: Callable[[], object]) -> int:
    """Return how often the CPU waits for the GPU in a call, apart from the arrival of maps."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(one.message) for one in said)


@every_method
def test_every_method_gives_on_the_gpu_what_it_gives_on_the_cpu(key: str) -> None:
    is_the_same_on(MethodTester.of(key), "cuda")


@every_method
def test_equal_runs_are_equal_on_the_gpu(key: str) -> None:
    repeats_itself_exactly(MethodTester.of(key), "cuda")


def test_a_batch_waits_for_nothing_but_the_arrival_of_its_checks_and_maps() -> None:
    keys = ["grad_cam", "grad_cam_plus_plus", "layer_cam", "hires_cam", "xgrad_cam", "full_grad"]
    photos = [np.zeros((32, 32, 3), np.uint8)] * 4
    with Explainer(wide_net(), ["2", "4"], keys, input_shape=(3, 32, 32)) as explainer:

        def batch() -> None:
            inputs = model_inputs(photos, Preprocessing((32, 32)), explainer.device)
            maps = explainer(inputs, [0, 1]).maps
            Transfer({key: own["4"] for key, own in maps.items() if "4" in own}).arrays()

        batch()  # what the first call sets up
        assert synchronisations(batch) == 0


def test_pixels_are_standardised_to_the_bits_of_numpy() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    for order, scale in product(("rgb", "bgr"), (1, 255)):
        own = Preprocessing((16, 16), channel_order=order, scale=scale)
        found = model_inputs([levels, levels[::-1]], own, torch.device("cuda"))
        expected = own.standardised(np.stack([levels, levels[::-1]]))
        assert found.cpu().numpy().tobytes() == expected.tobytes()


def test_arrays_arrive_as_they_were_while_the_gpu_works_on() -> None:
    own = {
        "maps": torch.randn(64, 2, 55, 55, device="cuda"),
        "targets": torch.arange(64, device="cuda")[:, None],
        "flag": torch.tensor(True, device="cuda"),
    }
    on_its_way = Transfer(own)
    expected = {name: tensor.cpu().numpy() for name, tensor in own.items()}
    for tensor in own.values():
        tensor.zero_()
    for name, array in on_its_way.arrays().items():
        np.testing.assert_array_equal(array, expected[name], strict=True)


@pytest.mark.parametrize(("precision", "gap"), [("tf32", 0.02), ("bf16", 0.1)])
def test_maps_of_fewer_bits_are_near_the_exact_ones(precision: str, gap: float) -> None:
    net, images = spatial_net().float().cuda(), photographs(4, side=10)[..., :8]
    net[3] = nn.AvgPool2d(2)
    exact, fewer = (
        explain(net, images, ["2", "5"], "grad_cam", [0, 1], precision=own).maps["grad_cam"]
        for own in ("exact", precision)
    )
    for layer, cams in exact.items():
        assert (fewer[layer] - cams).abs().amax() <= gap * cams.abs().amax()


@pytest.mark.parametrize("level", ["basic", "full"])
def test_a_run_with_evidence_is_the_cpus_and_repeats_itself(tmp_path: Path, level: str) -> None:
    photos = write_images(tmp_path / "photos", 5)
    asked = {"evidence": level, "batch_size": 2, "classes": [0, 1], "methods": ["grad_cam"]}
    for device, name in (("cpu", "cpu"), ("cuda", "one"), ("cuda", "two")):
        model = tiny()
        model.module.to(device)
        run(photos, tmp_path / name, model, **asked)
    (cpu,), (one,) = (shards_of(tmp_path / name).values() for name in ("cpu", "one"))
    assert [*cpu] == [*one]
    for key, array in cpu.items():
        if array.dtype == np.float32:
            largest = np.abs(array).max()
            np.testing.assert_allclose(one[key], array, rtol=1e-4, atol=1e-4 * largest)
    assert npz_of(tmp_path / "one") == npz_of(tmp_path / "two")


def test_an_allocator_that_gives_nothing_more_halves_the_batch() -> None:
    net = wide_net()
    tried: list[int] = []

    def full(_module: nn.Module, inputs: tuple[Tensor]) -> None:
        tried.append(len(inputs[0]))
        if len(inputs[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more")

    net.register_forward_pre_hook(full)
    with Explainer(net, ["4"], input_shape=(3, 32, 32), batch_size=8) as explainer:
        found = explainer.explain(photographs(4), [0])
    assert tried == [4, 2, 2]
    assert_close(found.maps, explain(wide_net(), photographs(4), ["4"], targets=[0]).maps)


def test_a_batch_that_does_not_fit_the_gpu_is_halved() -> None:
    images = photographs(64, side=256)
    whole = explain(wide_net(), images, ["1"], targets=[0])
    net = wide_net()
    tried, done = record_batches(net)
    with at_most(GIBIBYTE):
        halved = explain(net, images, ["1"], targets=[0])
    assert max(tried) > max(done)
    assert_close(halved.maps, whole.maps, rtol=1e-4, atol=1e-7)
