"""What is asked of a model: checked and, where it is not defined, left out before any pass."""

from collections.abc import Callable, Sequence

import pytest
import torch
import torchvision
from helpers.nets import toy_net
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close
from torchvision.ops import FrozenBatchNorm2d

from camreport import explain
from camreport.engine.plan import Draft, Options, make_draft
from camreport.errors import ClassError, MethodError
from camreport.methods import METHODS, resolve_methods
from camreport.network.address import resolve_layer
from camreport.network.survey import sample_image

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


def draft_of(net: nn.Module, layers: Sequence[str], methods: Sequence[str], **options) -> Draft:
    """Make a draft and demand that the network has not been asked anything."""
    calls: list[object] = []
    handles = [m.register_forward_hook(lambda *_: calls.append(_)) for m in net.modules()]
    handles = [*handles, net.register_forward_pre_hook(lambda *_: calls.append(_))]
    addressed = {name: resolve_layer(net, name) for name in layers}
    try:
        asked = Options(tuple(resolve_methods(methods)), **options)
        draft = make_draft(net.eval(), addressed, asked)
    finally:
        for handle in handles:
            handle.remove()
    assert not [call for call in calls if any(isinstance(t, Tensor) for t in call[1])]
    return draft


def without_weights(name: str) -> nn.Module:
    """A torchvision network that has no numbers in it, and so cannot have been run."""
    with torch.device("meta"):
        return torchvision.models.get_model(name, weights=None)


# Methods that assume A >= 0


def test_draft_leaves_out_methods_that_assume_no_negative_values_before_an_activation():
    draft = draft_of(toy_net(), ["0", "0:pre", "2"], [*NON_NEGATIVE, "grad_cam"])
    assert [(skip.method, skip.layer) for skip in draft.skipped] == [
        (key, "0:pre") for key in NON_NEGATIVE
    ]
    for skip in draft.skipped:
        assert METHODS[skip.method].name in str(skip.reason)
        assert "0:pre" in str(skip.reason)
    for method in draft.options.methods:
        names = ["0", "2"] if method.non_negative else ["0", "0:pre", "2"]
        assert list(draft.hook_points[method.key]) == names
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
def test_draft_finds_what_cam_needs_behind_the_last_features(name, layer):
    net = without_weights(name)
    draft = draft_of(net, [layer, "conv1" if name == "resnet18" else layer], ["cam"])
    assert list(draft.hook_points["cam"]) == [layer]
    linear = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
    assert draft.heads[layer].weight.shape == linear.weight.shape
    assert draft.heads[layer].rectified == (name == "densenet121")


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
def test_draft_leaves_out_cam_where_it_is_not_defined(name, layer, said):
    draft = draft_of(without_weights(name), [layer], ["cam", "grad_cam"])
    ((key, where, reason),) = [(s.method, s.layer, str(s.reason)) for s in draft.skipped]
    assert (key, where) == ("cam", None)
    assert reason.startswith("CAM is ")
    assert said in reason
    assert "global average pooling and one linear layer" in reason


def test_draft_leaves_out_cam_at_the_wrong_layer_only():
    draft = draft_of(without_weights("resnet18"), ["layer3", "layer4"], ["cam"])
    ((where, reason),) = [(skip.layer, str(skip.reason)) for skip in draft.skipped]
    assert where == "layer3"
    assert "not at layer3" in reason
    assert list(draft.heads) == ["layer4"]


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
def test_draft_leaves_out_guided_methods_where_there_is_another_activation(name):
    net = Uses(OTHERS[name])
    draft = draft_of(net, ["conv"], ["grad_cam", *GUIDED])
    assert [(skip.method, skip.layer) for skip in draft.skipped] == [(key, None) for key in GUIDED]
    for skip in draft.skipped:
        assert METHODS[skip.method].name in str(skip.reason)
        assert f"model has {name}." in str(skip.reason)
    e = explain(net, images(), ["conv"], ["grad_cam", *GUIDED])
    alone = explain(net, images(), ["conv"], ["grad_cam"])
    assert e.maps == {"grad_cam": e.maps["grad_cam"], "guided_backprop": {}, "guided_grad_cam": {}}
    assert torch.equal(e.maps["grad_cam"]["conv"], alone.maps["grad_cam"]["conv"])
    assert e.skipped == draft.skipped
    assert e.costs.keys() == {"shared"}


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_draft_sees_the_functions_of_torch_itself(name):
    draft = draft_of(Uses(getattr(torch, name)), ["conv"], ["grad_cam", "guided_backprop"])
    assert [f"model has {name}." in str(skip.reason) for skip in draft.skipped] == [True]


def test_draft_leaves_out_guided_methods_where_the_code_cannot_be_followed():
    draft = draft_of(Decides(), ["conv"], ["grad_cam", *GUIDED])
    assert [skip.method for skip in draft.skipped] == GUIDED
    assert all("code cannot be followed" in str(skip.reason) for skip in draft.skipped)


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
def test_draft_takes_guided_methods_where_relu_is_alone(activation):
    assert draft_of(Uses(activation), ["conv"], GUIDED).skipped == ()


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
def test_draft_refuses_when_nothing_can_be_computed(methods, layers, said):
    with pytest.raises(MethodError, match=f"none of those asked for can be computed here.*{said}"):
        draft_of(toy_net(), layers, methods)
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
        ({"stages": -1}, MethodError, "stages: expected a whole number from 0, or None, got -1"),
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
def test_draft_refuses_options_out_of_range(options, error, message):
    with pytest.raises(error, match=message):
        draft_of(toy_net(), ["0"], ["layer_cam"], **options)
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
def test_draft_takes_smoothings_in_every_form(smooth, taken):
    assert draft_of(toy_net(), ["0"], ["grad_cam"], smooth=smooth).options.smooth == taken


# FullGrad


class Together(nn.Module):
    """timm's way: a batch normalisation that rectifies what it returns."""

    class Normalise(nn.BatchNorm2d):
        """Behind the bias comes a ReLU."""

        def forward(self, x: Tensor) -> Tensor:
            """Normalise and rectify."""
            return super().forward(x).relu()

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(3, 4, 3), self.Normalise(4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, rectify, average."""
        return self.last(self.norm(self.conv(x)).mean((2, 3)))


class Centred(nn.Module):
    """Its forward takes away a number, as if it normalised its images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Average."""
        return self.last(self.conv(x - 0.45).relu().mean((2, 3)))


def normed_by(norm: nn.Module) -> nn.Sequential:
    """A net with a normalisation of four channels, 6 × 6."""
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    return nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU()), *pool)


def lived_in(net: nn.Module) -> nn.Module:
    """Give every parameter and statistic a value of its own."""
    torch.manual_seed(3)
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(
                torch.rand_like(tensor) + 0.5 if "var" in name else torch.randn_like(tensor)
            )
    return net.eval()


@pytest.mark.parametrize(
    ("net", "named"),
    [
        (normed_by(nn.GroupNorm(2, 4)), "GroupNorm"),
        (normed_by(nn.InstanceNorm2d(4, affine=True)), "InstanceNorm2d"),
        (normed_by(nn.LayerNorm([4, 6, 6])), "LayerNorm"),
        (normed_by(nn.SiLU()), "SiLU"),
        (normed_by(nn.BatchNorm2d(4, track_running_stats=False)), "BatchNorm2d"),
        (Together(), "Normalise"),
        (Centred(), "some function in the model’s code"),
    ],
    ids=["group", "instance", "layer", "silu", "of the batch", "rectified", "function"],
)
def test_full_grad_is_left_out_where_its_shares_are_not_the_whole_logit(net, named):
    net, x = lived_in(net), torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    layer = "conv" if hasattr(net, "conv") else "0"
    e = explain(net, x, [layer], ["grad_cam", "full_grad"])
    assert e.maps["full_grad"] == {}
    (skip,) = e.skipped
    assert (skip.method, skip.layer) == ("full_grad", None)
    assert f"the share of {named} is not counted." in str(skip.reason)
    logits = [
        f" of a logit of {float(logit):.3g}: " in str(skip.reason)
        for logit in net(sample_image((8, 8))).detach()[0]
    ]
    assert any(logits)
    with pytest.raises(MethodError, match="none of those asked for can be computed here"):
        explain(net, x, [layer], ["full_grad"])


@pytest.mark.parametrize(
    "net",
    [
        normed_by(FrozenBatchNorm2d(4)),
        normed_by(nn.InstanceNorm2d(4, affine=True, track_running_stats=True)),
        normed_by(nn.SyncBatchNorm(4)),
        normed_by(nn.ConvTranspose2d(4, 4, 3, stride=2)),
        nn.Sequential(*normed_by(nn.PReLU())[:3], nn.BatchNorm1d(4), nn.Linear(4, 2)),
    ],
    ids=["frozen", "instance with statistics", "synchronised", "transposed", "in the head"],
)
def test_full_grad_counts_every_bias_of_a_piecewise_linear_net(net):
    net, x = lived_in(net), torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    biases: list[Tensor] = []

    def share(module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        """Add zeros in the place of what the module makes of zeros, its bias."""
        zeros = torch.zeros_like(output, requires_grad=True)
        biases.append(zeros)
        return output + zeros

    linear = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.SyncBatchNorm, nn.InstanceNorm2d)
    spatial = [m for m in net.modules() if isinstance(m, (*linear, FrozenBatchNorm2d))]
    alone = [m(torch.zeros(1, 3 if m is net[0][0] else 4, 6, 6)).detach() for m in spatial]
    handles = [module.register_forward_hook(share) for module in spatial]
    image = x[:1].clone().requires_grad_()
    slope, *slopes = torch.autograd.grad(net(image)[0, 1], [image, *biases])
    for handle in handles:
        handle.remove()
    shares = [s * b.mean((2, 3), keepdim=True) for s, b in zip(slopes, alone, strict=True)]
    expected = METHODS["full_grad"].compute(
        (image * slope).detach()[0], torch.ones(3, 8, 8), shares
    )
    found = explain(net, x, ["0"], ["full_grad"], [1]).maps["full_grad"]["input"][0, 0]
    assert_close(found, expected[0], rtol=1e-5, atol=1e-5)
