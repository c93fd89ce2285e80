"""Budgets by class of card, the graph's release, and the first eigenvector without a solver."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.nets import spatial_net
from numpy.typing import NDArray

from camreport.engine.explainer import Explainer
from camreport.engine.memory import MEBIBYTE, Limits, cuda_budget, memory_class
from camreport.methods.activation import by_squaring

GIBIBYTE = 1024 * MEBIBYTE
CUDA = torch.device("cuda")


def having(memory: float) -> SimpleNamespace:
    """The properties of a card that shows so much memory, in GiB."""
    return SimpleNamespace(total_memory=int(memory * GIBIBYTE))


@pytest.mark.parametrize(
    ("shown", "size"), [(79.1, 80), (79.6, 80), (93.1, 96), (139.8, 128), (23.6, 24), (7.6, 8)]
)
def test_equal_cards_have_equal_budgets(
    shown: float, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they show differs a little, by driver and error correction."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: having(shown))
    assert memory_class(CUDA) == size
    assert Limits.of(CUDA).budget(CUDA) == cuda_budget(size)
    assert cuda_budget(size).activations == size * GIBIBYTE // 16


def test_a_resumed_run_keeps_the_budget_of_its_plan_on_another_card(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: having(23.6))
    assert Limits(memory=80).budget(CUDA) == cuda_budget(80)


def test_other_devices_have_no_class() -> None:
    cpu = torch.device("cpu")
    assert memory_class(cpu) == 0
    assert Limits.of(cpu) == Limits()


def test_the_graph_is_released_with_the_last_class_and_gradients_keep_to_the_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = torch.randn(2, 3, 10, 8, dtype=torch.float64)
    per_class = 2 * (5 * 10 * 8 + 6 * 5 * 4) * 8
    cpu = Limits().budget(torch.device("cpu"))
    limits = Limits(budgets={"cpu": type(cpu)(cpu.activations, 2 * per_class, 32, cpu.cached)})
    kept, sizes = [], []
    grad = torch.autograd.grad

    def spied(*given: object, **options: object) -> tuple[torch.Tensor, ...]:
        found = grad(*given, **options)
        kept.append(options["retain_graph"])
        sizes.append(sum(one.nbytes for one in found))
        return found

    layers = ["2", "5"]
    with Explainer(
        spatial_net(), layers, "grad_cam", input_shape=(3, 10, 8), limits=limits
    ) as explainer:
        explainer.probe(images[:1])
        explainer(images[:1], "all")  # by then it is known that classes can be batched
        monkeypatch.setattr(torch.autograd, "grad", spied)
        explainer(images, "all")
    assert kept == [True, True, False], "six classes, two at a time"
    assert max(sizes) <= limits.budgets["cpu"].gradients


def channels(ratio: float, seed: int) -> NDArray[np.float64]:
    """Three maps ``(3, 64, 169)`` whose second singular value is a fraction of the first."""
    random = np.random.default_rng(seed)
    left = np.linalg.qr(random.standard_normal((3, 64, 64)))[0]
    right = np.linalg.qr(random.standard_normal((3, 169, 64)))[0]
    sizes = np.linspace(0.5, 0.01, 64)
    sizes[:2] = 1, ratio
    return (left * sizes) @ right.swapaxes(-1, -2)


@pytest.mark.parametrize("ratio", [0.5, 0.99, 0.999, 0.9999])
def test_squaring_gives_the_first_component_also_of_singular_values_that_are_nearly_equal(
    ratio: float,
) -> None:
    rows = channels(ratio, seed=round(1e4 * ratio))
    _, sizes, right = np.linalg.svd(rows, full_matrices=False)
    expected = sizes[:, :1] * right[:, 0]
    single = torch.from_numpy(rows).float()
    vector = by_squaring(single @ single.mT)
    found = (vector.mT @ single)[:, 0].double().numpy()
    found *= np.sign((found * expected).sum(-1, keepdims=True))
    gap = np.abs(found - expected).max(-1) / np.abs(expected).max(-1)
    assert gap.max() <= 1e-4


def test_squaring_gives_zeros_for_zeros() -> None:
    assert not by_squaring(torch.zeros(2, 4, 4)).any()
