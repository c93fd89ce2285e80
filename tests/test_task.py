"""What is asked of a model: checked and, where it is not defined, left out before any pass."""

from collections.abc import Callable, Sequence

import pytest
import torch
import torchvision
from conftest import toy_net
from torch import Tensor, nn
from torch.nn import functional

from camreport import explain
from camreport.errors import ClassError, MethodError
from camreport.layers import resolve_layer
from camreport.methods import METHODS, resolve_methods
from camreport.task import Task, make_task

NON_NEGATIVE = [key for key, method in METHODS.items() if method.non_negative]
GUIDED = ["guided_backprop", "guided_grad_cam"]


class Uses(nn.Module):
    """A small net with an activation of choice, module or function, besides its ReLU."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU()
        self.activation = activation
        self.head = nn.Linear(4 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of 8 x 8 images."""
        return self.head(self.activation(self.relu(self.conv(x)) - 0.1).flatten(1))


class Decides(nn.Module):
    """A net whose code depends on values: it cannot be followed without running it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of 8 x 8 images."""
        x = self.conv(x)
        return self.head((x.relu() if x.sum() < 1e9 else x.sigmoid()).flatten(1))


def images(size: int = 8, dtype: torch.dtype = torch.float32) -> Tensor:
    """Two images for ``Uses`` and ``Decides``; of size 12 and float64 for ``toy_net``."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, size, size, generator=generator, dtype=dtype)


def task_of(net: nn.Module, layers: Sequence[str], methods: Sequence[str], **options) -> Task:
    """Make a task and demand that the network has not been asked anything."""
    calls: list[object] = []
    handles = [m.register_forward_hook(lambda *_: calls.append(_)) for m in net.modules()]
    handles = [*handles, net.register_forward_pre_hook(lambda *_: calls.append(_))]
    addressed = {name: resolve_layer(net, name) for name in layers}
    try:
        task = make_task(net.eval(), addressed, resolve_methods(methods), **options)
    finally:
        for handle in handles:
            handle.remove()
    assert not [call for call in calls if any(isinstance(t, Tensor) for t in call[1])]
    return task


def without_weights(name: str) -> nn.Module:
    """A torchvision network that has no numbers in it, and so cannot have been run."""
    with torch.device("meta"):
        return torchvision.models.get_model(name, weights=None)


# Methods that assume A >= 0


def test_task_leaves_out_methods_that_assume_no_negative_values_before_an_activation():
    task = task_of(toy_net(), ["0", "0:pre", "2"], [*NON_NEGATIVE, "grad_cam"])
    assert [(skip.method, skip.layer) for skip in task.skipped] == [
        (key, "0:pre") for key in NON_NEGATIVE
    ]
    for skip in task.skipped:
        assert METHODS[skip.method].name in skip.reason
        assert "0:pre" in skip.reason
    for method in task.methods:
        names = ["0", "2"] if method.non_negative else ["0", "0:pre", "2"]
        assert list(task.wanted(method)) == names
    assert len(NON_NEGATIVE) == 3


@pytest.mark.parametrize("key", NON_NEGATIVE)
def test_explain_computes_a_method_at_the_layers_where_it_is_defined(key):
    x = images(12, torch.float64)
    e = explain(toy_net(), x, ["0:pre", "0", "3:pre"], [key])
    assert list(e.maps[key]) == ["0"]
    assert torch.equal(e.maps[key]["0"], explain(toy_net(), x, ["0"], [key]).maps[key]["0"])
    assert [skip.layer for skip in e.skipped] == ["0:pre", "3:pre"]


@pytest.mark.parametrize("key", NON_NEGATIVE)
def test_explain_computes_the_others_where_a_method_is_left_out_everywhere(key):
    x = images(12, torch.float64)
    e = explain(toy_net(), x, ["0:pre"], ["eigen_cam", key])
    alone = explain(toy_net(), x, ["0:pre"], ["eigen_cam"])
    assert e.maps == {"eigen_cam": e.maps["eigen_cam"], key: {}}
    assert torch.equal(e.maps["eigen_cam"]["0:pre"], alone.maps["eigen_cam"]["0:pre"])
    assert e.costs == alone.costs


# CAM


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer4"),
        ("resnet18", "layer4.1"),
        ("densenet121", "features"),
        ("mobilenet_v2", "features"),
        ("shufflenet_v2_x0_5", "conv5"),
        ("efficientnet_b0", "features"),
    ],
)
def test_task_finds_what_cam_needs_behind_the_last_features(name, layer):
    net = without_weights(name)
    task = task_of(net, [layer, "conv1" if name == "resnet18" else layer], ["cam"])
    (cam,) = task.methods
    assert list(task.wanted(cam)) == [layer]
    linear = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
    assert task.heads[layer].weight.shape == linear.weight.shape
    assert task.heads[layer].rectified == (name == "densenet121")


@pytest.mark.parametrize(
    ("name", "layer", "said"),
    [
        ("alexnet", "features.12", "not defined for this model: "),
        ("vgg11", "features.20", "not defined for this model: "),
        ("squeezenet1_1", "features", "not defined for this model: "),
        ("mobilenet_v3_small", "features", "not defined for this model: "),
        ("convnext_tiny", "features", "not defined for this model"),
        ("resnet18", "layer3", "not defined for this model at these layers: "),
        ("resnet18", "conv1", "not defined for this model at these layers: "),
        ("densenet121", "features.denseblock4", "at these layers: "),
    ],
)
def test_task_leaves_out_cam_where_it_is_not_defined(name, layer, said):
    task = task_of(without_weights(name), [layer], ["cam", "grad_cam"])
    ((key, where, reason),) = [(s.method, s.layer, s.reason) for s in task.skipped]
    assert (key, where) == ("cam", None)
    assert reason.startswith("CAM is ")
    assert said in reason
    assert "global average pooling and one linear layer" in reason


def test_task_leaves_out_cam_at_the_wrong_layer_only():
    task = task_of(without_weights("resnet18"), ["layer3", "layer4"], ["cam"])
    ((where, reason),) = [(skip.layer, skip.reason) for skip in task.skipped]
    assert where == "layer3"
    assert "not at layer3" in reason
    assert list(task.heads) == ["layer4"]


# Guided methods


OTHERS = {
    "SiLU": nn.SiLU(),
    "GELU": nn.GELU(),
    "LeakyReLU": nn.LeakyReLU(),
    "Hardswish": nn.Hardswish(),
    "Mish": nn.Mish(),
    "Softplus": nn.Softplus(),
    "Sigmoid": nn.Sigmoid(),
    "silu": functional.silu,
    "gelu": functional.gelu,
    "leaky_relu": functional.leaky_relu,
    "softplus": functional.softplus,
    "sigmoid": lambda x: x * x.sigmoid(),
    "tanh": lambda x: x.tanh(),
}


@pytest.mark.parametrize("name", OTHERS)
def test_task_leaves_out_guided_methods_where_there_is_another_activation(name):
    net = Uses(OTHERS[name])
    task = task_of(net, ["conv"], ["grad_cam", *GUIDED])
    assert [(skip.method, skip.layer) for skip in task.skipped] == [(key, None) for key in GUIDED]
    for skip in task.skipped:
        assert METHODS[skip.method].name in skip.reason
        assert f"model has {name}." in skip.reason
    e = explain(net, images(), ["conv"], ["grad_cam", *GUIDED])
    alone = explain(net, images(), ["conv"], ["grad_cam"])
    assert e.maps == {"grad_cam": e.maps["grad_cam"], "guided_backprop": {}, "guided_grad_cam": {}}
    assert torch.equal(e.maps["grad_cam"]["conv"], alone.maps["grad_cam"]["conv"])
    assert e.skipped == task.skipped
    assert e.costs.keys() == {"shared passes"}


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_task_sees_the_functions_of_torch_itself(name):
    task = task_of(Uses(getattr(torch, name)), ["conv"], ["grad_cam", "guided_backprop"])
    assert [f"model has {name}." in skip.reason for skip in task.skipped] == [True]


def test_task_leaves_out_guided_methods_where_the_code_cannot_be_followed():
    task = task_of(Decides(), ["conv"], ["grad_cam", *GUIDED])
    assert [skip.method for skip in task.skipped] == GUIDED
    assert all("code cannot be followed" in skip.reason for skip in task.skipped)


@pytest.mark.parametrize(
    "activation",
    [
        nn.ReLU(),
        nn.ReLU(inplace=True),
        functional.relu,
        torch.relu,
        lambda x: x.relu(),
        nn.Softmax(1),
        nn.Dropout(),
    ],
    ids=["module", "in place", "functional", "torch", "method", "softmax", "dropout"],
)
def test_task_takes_guided_methods_where_relu_is_alone(activation):
    assert task_of(Uses(activation), ["conv"], GUIDED).skipped == ()


# Nothing left, and options out of range


@pytest.mark.parametrize(
    ("methods", "layers", "said"),
    [
        (["cam"], ["3"], "CAM is not defined for this model"),
        (["guided_backprop"], ["3"], "needs ReLU .* Tanh"),
        (["xgrad_cam"], ["0:pre", "3:pre"], "0:pre is read in front .* 3:pre is read in front"),
        (["cam", *GUIDED, "xgrad_cam"], ["3:pre"], "CAM .*Guided Grad-CAM .*XGrad-CAM "),
    ],
    ids=["cam", "guided", "non-negative", "all of them"],
)
def test_task_refuses_when_nothing_can_be_computed(methods, layers, said):
    with pytest.raises(MethodError, match=f"none of those asked for can be computed here.*{said}"):
        task_of(toy_net(), layers, methods)
    net, calls = toy_net(), []
    net.register_forward_pre_hook(lambda *_: calls.append(_))
    with pytest.raises(MethodError, match=said):
        explain(net, images(12, torch.float64), layers, methods)
    assert calls == []


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"gamma": 0.0}, MethodError, "gamma: expected a number above 0, got 0.0"),
        ({"gamma": -1.0}, MethodError, "gamma: expected a number above 0, got -1.0"),
        ({"gamma": float("nan")}, MethodError, "gamma: .*got nan"),
        ({"gamma": float("inf")}, MethodError, "gamma: .*got inf"),
        ({"stages": -1}, MethodError, "stages: expected a number from 0, or None, got -1"),
        ({"seed": 2**64}, MethodError, "seed: .*got 18446744073709551616"),
        ({"smooth": "noise,blur"}, MethodError, "smooth: .* noise, aug, eigen, got 'blur'"),
        ({"smooth": ["Blur"]}, MethodError, "got 'blur'"),
        ({"quantity": "softmax"}, ClassError, "quantity: .*, got 'softmax'"),
        ({"quantity": ""}, ClassError, "got ''"),
        ({"quantity": "contrast:"}, ClassError, "got 'contrast:'"),
        ({"quantity": "contrast:cat"}, ClassError, "got 'contrast:cat'"),
        ({"quantity": "contrast:-1"}, ClassError, "got 'contrast:-1'"),
        ({"quantity": "probability:1"}, ClassError, "got 'probability:1'"),
    ],
    ids=str,
)
def test_task_refuses_options_out_of_range(options, error, message):
    with pytest.raises(error, match=message):
        task_of(toy_net(), ["0"], ["layer_cam"], **options)
    net, calls = toy_net(), []
    net.register_forward_pre_hook(lambda *_: calls.append(_))
    with pytest.raises(error, match=message):
        explain(net, images(12, torch.float64), ["0"], ["layer_cam"], **options)
    assert calls == []


@pytest.mark.parametrize(
    ("smooth", "taken"),
    [
        ("", ()),
        ((), ()),
        ("noise", ("noise",)),
        (" Eigen，NOISE ", ("noise", "eigen")),
        (["eigen", "aug", "aug"], ("aug", "eigen")),
    ],
)
def test_task_takes_smoothings_in_every_form(smooth, taken):
    assert task_of(toy_net(), ["0"], ["grad_cam"], smooth=smooth).smooth == taken


def test_full_grad_is_left_out_where_layer_norms_add_biases_of_their_own():
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.LayerNorm([4, 6, 6]), nn.ReLU()),
        nn.Flatten(),
        nn.Linear(144, 2),
    )
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    e = explain(net, images, ["0"], ["grad_cam", "full_grad"])
    assert e.maps["full_grad"] == {}
    (skip,) = e.skipped
    assert (skip.method, skip.layer) == ("full_grad", None)
    assert "the model has LayerNorm" in skip.reason
