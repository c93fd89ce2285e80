"""``Explainer``: a model is surveyed, traced and planned once, and called for many batches."""

import pytest
import torch
from helpers.checkout import INPUTS
from helpers.nets import pooled_net, record_batches, toy_net
from torch import Tensor, nn
from torch.testing import assert_close

import camreport
from camreport import Explainer, Explanation, explain
from camreport.errors import ClassError, LayerError, MemoryLimitError, ModelError
from camreport.methods import METHODS

SHAPE = (3, 12, 12)


def images(count: int, seed: int = 0) -> Tensor:
    """Noise in the place of photographs."""
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def assert_equal_maps(found: Explanation, expected: Explanation) -> None:
    """Compare all maps of two explanations."""
    assert {m: list(one) for m, one in found.maps.items()} == {
        m: list(one) for m, one in expected.maps.items()
    }
    for method, by_layer in expected.maps.items():
        for layer, cams in by_layer.items():
            assert_close(found.maps[method][layer], cams, rtol=0, atol=1e-6, equal_nan=True)


def test_many_calls_give_what_one_explain_gives():
    given = images(7)
    expected = explain(toy_net(), given, ["0", "3"], targets=[0, 1])
    with Explainer(toy_net(), ["0", "3"], input_shape=SHAPE) as explainer:
        for rows in (slice(0, 3), slice(3, 7), slice(2, 5)):
            found = explainer(given[rows], [0, 1])
            for method, by_layer in expected.maps.items():
                for layer, cams in by_layer.items():
                    assert_close(found.maps[method][layer], cams[rows], rtol=0, atol=1e-6)


def test_a_probe_changes_no_map_and_runs_nothing_but_the_shared_passes():
    net = toy_net()
    methods = ["grad_cam", "score_cam", "ablation_cam", "smooth_grad_cam_plus_plus"]
    expected = explain(net, images(2), ["0", "3"], methods, [0, 1])
    explainer = Explainer(net, ["0", "3"], methods, input_shape=SHAPE)
    tried, _ = record_batches(net)
    explainer.probe(images(1, seed=5), [0, 1])
    assert tried == [1]
    assert_equal_maps(explainer(images(2), [0, 1]), expected)


def test_the_plan_is_made_once_and_never_again():
    explainer = Explainer(toy_net(), ["3", "0"], channels=["2"], input_shape=SHAPE)
    plan = explainer.plan
    assert list(plan.layers) == ["0", "3"]
    assert list(plan.channels) == ["2"]
    assert plan.shapes.keys() == {"0", "2", "3"}
    explainer(images(3))
    explainer.probe(images(1))
    assert explainer.plan is plan


@pytest.mark.parametrize("make_net", [toy_net, pooled_net])
def test_the_plan_tells_how_many_bytes_and_variants_an_image_takes(make_net):
    explainer = Explainer(
        make_net(), ["0", "3"], ",".join(METHODS), channels=["2"], input_shape=SHAPE
    )
    plan = explainer.plan
    found = explainer(images(2), [0, 1])
    tensors = [cams for by_layer in found.maps.values() for cams in by_layer.values()]
    tensors += [t for kept in found.channels.values() for t in (kept.features, kept.weights)]
    tensors += [found.logits, found.targets]
    assert plan.result_bytes(2) == sum(t[0].numel() * t.element_size() for t in tensors)
    assert plan.variants_per_image == found.cost.variants // 2
    assert plan.skipped == found.skipped
    for method in plan.methods:
        assert list(plan.points_by_layer(method)) == [
            n for n in found.maps[method.key] if n != "fused"
        ]


def test_errors_that_every_image_would_meet_come_with_the_probe():
    net = toy_net()
    with pytest.raises(ClassError, match="class indices 0 to"):
        Explainer(net, ["0"], input_shape=SHAPE).probe(images(1), [99])
    cut = nn.Sequential(net[0], net[1], nn.AdaptiveAvgPool2d(1), nn.Flatten(), Cut())
    with pytest.raises(LayerError, match="gradients reach"):
        Explainer(cut, ["0"], input_shape=SHAPE).probe(images(1))


class Cut(nn.Module):
    """Lets no gradient through."""

    def forward(self, x: Tensor) -> Tensor:
        """Detach it."""
        return x.detach()


def test_images_of_another_shape_than_planned_are_refused():
    explainer = Explainer(toy_net(), ["0"], input_shape=SHAPE)
    with pytest.raises(ModelError, match=r"expected \(N, 3, 12, 12\) as planned"):
        explainer(torch.rand(2, 3, 18, 18))


def test_a_plain_module_needs_the_shape_of_its_images():
    with pytest.raises(ModelError, match="input_shape: expected"):
        Explainer(toy_net(), ["0"])


def test_a_loaded_model_brings_the_shape_of_its_images(catdog, photographs):
    with Explainer(catdog) as explainer:
        found = explainer(photographs, "all")
    assert_equal_maps(found, explain(catdog, photographs, targets="all"))
    assert INPUTS.exists()


class Small(nn.Module):
    """Holds so many images."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def forward(self, x: Tensor) -> Tensor:
        """Fail for more."""
        if len(x) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        return x


def test_batches_never_grow_beyond_what_memory_held():
    net = nn.Sequential(Small(4), *toy_net())
    explainer = Explainer(net, ["1"], input_shape=SHAPE)
    assert len(explainer(images(16)).logits) == 16
    assert explainer.batch_size == 4
    explainer(images(2))
    assert explainer.batch_size == 4


def test_one_image_too_much_is_one_sentence():
    explainer = Explainer(nn.Sequential(Small(0), *toy_net()), ["1"], input_shape=SHAPE)
    with pytest.raises(MemoryLimitError, match="one image is more"):
        explainer.probe(images(1))
    with pytest.raises(MemoryLimitError, match="one image is more"):
        explainer(images(2))


def test_the_model_stays_ready_while_entered_and_comes_back_as_it_was():
    net = toy_net().train()
    with Explainer(net, ["0"], input_shape=SHAPE) as explainer:
        assert not net.training
        assert not any(parameter.requires_grad for parameter in net.parameters())
        with explainer:
            explainer(images(1))
        assert not net.training
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_explainer_is_public():
    assert "Explainer" in camreport.__all__
