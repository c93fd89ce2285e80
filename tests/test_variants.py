"""Passes over changed images: the model's own logits, as few images at a time as memory allows."""

from collections.abc import Callable

import pytest
import torch
from helpers.engine import random_images
from helpers.limits import limits
from helpers.nets import record_batches, toy_net
from torch import Tensor, nn
from torch.testing import assert_close

from camreport import Explainer
from camreport.engine.memory import Limits
from camreport.errors import MemoryLimitError


def explainer_of(net: nn.Module, within: Limits | None = None) -> Explainer:
    """Return an explainer with its plan made."""
    explainer = Explainer(net, ["0"], ["grad_cam"], input_shape=(3, 12, 12), limits=within)
    assert explainer.plan.num_classes == 4
    return explainer


def brighter(images: Tensor) -> Callable[[slice], Tensor]:
    """Return a maker of images that are brightened one after the other."""

    def make(part: slice) -> Tensor:
        steps = torch.arange(part.start, part.stop, dtype=images.dtype)
        return images[part] + steps[:, None, None, None]

    return make


def test_variants_have_the_logits_of_the_model_and_no_graph():
    net, images = toy_net(), random_images(7)
    found, cost = explainer_of(net).variant_logits(7, brighter(images))
    with torch.no_grad():
        expected = net(images + torch.arange(7)[:, None, None, None])
    assert_close(found, expected)
    assert not found.requires_grad
    assert (cost.forwards, cost.variants, cost.backwards, cost.maps) == (1, 7, 0, 0)


def test_variants_run_within_the_budget_and_tell_how_many_are_done():
    net, images, done = toy_net(), random_images(7), []
    explainer = explainer_of(net, limits(images=3))
    tried, _ = record_batches(net)
    found, cost = explainer.variant_logits(7, brighter(images), progress=done.append)
    assert tried == done == [3, 3, 1]
    assert (cost.forwards, cost.variants, len(found)) == (3, 7, 7)


def test_variants_run_in_halves_when_memory_runs_out():
    net, images, done = toy_net(), random_images(7), []
    explainer = explainer_of(net)
    expected, _ = explainer.variant_logits(7, brighter(images))
    net.register_forward_pre_hook(refuse_more_than(2))
    _, came_through = record_batches(net)
    found, cost = explainer.variant_logits(7, brighter(images), progress=done.append)
    assert_close(found, expected)
    assert came_through == done == [1] * 7
    assert (cost.forwards, cost.variants) == (7, 7)


def refuse_more_than(most: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    """Return a hook that has no memory for larger batches."""

    def refuse(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
        if len(given[0]) > most:
            raise RuntimeError("CUDA out of memory")

    return refuse


def test_a_single_variant_that_does_not_fit_is_named_as_such():
    net = toy_net()
    explainer = explainer_of(net)
    net.register_forward_pre_hook(refuse_more_than(0))
    with pytest.raises(MemoryLimitError):
        explainer.variant_logits(7, brighter(random_images(7)))


@pytest.mark.parametrize("fails", [False, True])
def test_variants_leave_the_model_as_it_was(fails):
    net = toy_net().train()
    explainer = explainer_of(net)

    def make(part: slice) -> Tensor:
        assert not net.training
        if fails:
            raise ValueError("no images")
        return random_images(7)[part]

    if fails:
        with pytest.raises(ValueError, match="no images"):
            explainer.variant_logits(7, make)
    else:
        explainer.variant_logits(7, make)
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
