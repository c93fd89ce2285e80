"""Layer addresses: which tensor each one reads, what it is called, which layers are chosen."""

from functools import partial

import pytest
import torch
from helpers.checkout import COURSE_LAYERS
from helpers.nets import toy_net
from torch import Tensor, nn
from torchvision.models import alexnet, resnet18, vgg11

from camreport.errors import LayerError
from camreport.network.address import ACTIVATIONS, resolve_layer
from camreport.network.choose import auto_layers
from camreport.network.survey import sample_image


class Mixed(nn.Module):
    """Convolutions in the places that matter: before ReLU, norms, nothing, and outside."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU()
        self.features = nn.Sequential(
            nn.Conv2d(4, 4, 3),  # 0: ReLU follows
            nn.ReLU(),
            nn.Conv2d(4, 4, 3),  # 2: batch norm, then SiLU
            nn.BatchNorm2d(4),
            nn.SiLU(),
            nn.Conv2d(4, 4, 3),  # 5: batch norm, then another convolution
            nn.BatchNorm2d(4),
            nn.Conv2d(4, 4, 3),  # 7: two norms, then ReLU
            nn.GroupNorm(2, 4),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),  # 11: no convolution, ReLU follows
            nn.ReLU(),
            nn.Conv2d(4, 4, 1),  # 13: last but for a pool
            nn.AvgPool2d(1),
            nn.Sequential(nn.Conv2d(4, 4, 1)),  # 15: a block, ReLU follows
            nn.ReLU(),
            nn.Conv2d(4, 4, 1),  # 17: the very last
        )
        self.head = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
        self.heads = nn.ModuleList([nn.Conv2d(4, 4, 1), nn.ReLU()])

    def forward(self, x: Tensor) -> Tensor:
        """Leave ``heads`` out: they are there to be addressed."""
        return self.head(self.features(self.relu(self.stem(x))).mean((-2, -1)))


@pytest.mark.parametrize(
    ("address", "reads", "tensor"),
    [
        ("features.0", "features.1", "after ReLU"),
        ("features.0:pre", "features.0", "own output"),
        ("features.0#0", "features.0#0", "own output"),
        ("features.1", "features.1", "own output"),
        ("features.1#1", "features.1#1", "own output"),
        ("features.2", "features.4", "after SiLU"),
        ("features.2:pre", "features.2", "own output"),
        ("features.3", "features.3", "own output"),
        ("features.5", "features.5", "own output"),
        ("features.7", "features.7", "own output"),
        ("features.11", "features.11", "own output"),
        ("features.13", "features.13", "own output"),
        ("features.15", "features.15", "own output"),
        ("features.15.0", "features.15.0", "own output"),
        ("features.17", "features.17", "own output"),
        ("features", "features", "own output"),
        ("stem", "stem", "own output"),
        ("heads.0", "heads.0", "own output"),
        ("head.0", "head.1", "after Tanh"),
        ("head.2", "head.2", "own output"),
        (" features.0 ", "features.1", "after ReLU"),
    ],
)
def test_resolve_layer_reads_after_an_activation_that_follows_in_a_sequential(
    address, reads, tensor
):
    layer = resolve_layer(Mixed(), address)
    assert (layer.point, str(layer.tensor)) == (reads, tensor)
    assert layer.address == address.strip()
    assert layer.module == reads.partition("#")[0]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_resolve_layer_reads_after_every_listed_activation(activation):
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), activation()))
    layer = resolve_layer(model, "0.0")
    assert (layer.point, str(layer.tensor)) == ("0.1", f"after {activation.__name__}")


@pytest.mark.parametrize(
    "norm",
    [nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.LayerNorm([4, 6, 6]), nn.InstanceNorm2d(4)],
    ids=lambda norm: type(norm).__name__,
)
def test_resolve_layer_skips_one_normalisation_layer(norm):
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU()))
    assert resolve_layer(model, "0.0").point == "0.2"


def test_resolve_layer_describes_the_module_that_was_addressed():
    assert resolve_layer(Mixed(), "features.2").type == "Conv2d"
    assert resolve_layer(Mixed(), "features.11").type == "MaxPool2d"
    assert resolve_layer(Mixed(), "features").type == "Sequential"


@pytest.mark.parametrize("asked", [0, "0", " 0 "])
def test_resolve_layer_reads_a_bare_integer_as_a_feature(asked):
    layer = resolve_layer(Mixed(), asked)
    assert (layer.address, layer.point) == ("features.0", "features.1")


def test_resolve_layer_reads_a_bare_integer_with_a_variant():
    assert resolve_layer(Mixed(), "0:pre") == resolve_layer(Mixed(), "features.0:pre")


@pytest.mark.parametrize("asked", ["0", 0])
def test_resolve_layer_prefers_a_module_of_that_number(asked):
    layer = resolve_layer(toy_net(), asked)
    assert (layer.address, layer.point) == ("0", "1")


def test_resolve_layer_takes_module_objects():
    model = Mixed()
    for name in ("features.0", "features.4", "stem", "head"):
        assert resolve_layer(model, model.get_submodule(name)) == resolve_layer(model, name)


def test_resolve_layer_takes_module_objects_with_numbers_for_names():
    net = toy_net()
    assert resolve_layer(net, net[0]).point == "1"
    assert resolve_layer(net, net[2]).point == "2"


def test_resolve_layer_reads_each_use_of_a_shared_activation():
    relu = nn.ReLU()
    model = nn.Sequential(nn.Conv2d(3, 4, 3), relu, nn.Conv2d(4, 4, 3), relu, nn.MaxPool2d(2))
    outer = nn.Sequential(model)
    for name in ("0.0", "0.2"):
        layer = resolve_layer(outer, name)
        assert str(layer.tensor) == "after ReLU"
        assert outer.get_submodule(layer.module) is relu


def test_resolve_layer_takes_a_shared_convolution_by_each_of_its_names():
    conv = nn.Conv2d(4, 4, 3)
    outer = nn.Sequential(nn.Sequential(conv, nn.ReLU(), conv, nn.Tanh()))
    assert resolve_layer(outer, "0.0").tensor.worded("en") == "after ReLU"
    assert resolve_layer(outer, "0.2").tensor.worded("en") == "after Tanh"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("feature.0", "got 'feature.0'.*Did you mean 'features.0'"),
        ("features.99", r"got 'features.99'.*Did you mean 'features\.\d+'"),
        ("99", "got 'features.99'"),
        ("zzz", "of Mixed, got 'zzz'. It has stem, relu, features, "),
        ("", "of Mixed, got ''"),
        ("features.0:post", "'name', 'name:pre' or 'name#call', got 'features.0:post'"),
        ("features.0#x", "'name', 'name:pre' or 'name#call', got 'features.0#x'"),
    ],
)
def test_resolve_layer_suggests_what_to_write_for_an_unknown_address(address, message):
    with pytest.raises(LayerError, match=message):
        resolve_layer(Mixed(), address)


def test_resolve_layer_refuses_a_module_of_another_model():
    with pytest.raises(LayerError, match="a module of this model, got one that is not in it"):
        resolve_layer(Mixed(), nn.Conv2d(3, 4, 3))


def test_auto_layers_gives_the_course_layers_for_alexnet():
    assert auto_layers(alexnet(), torch.zeros(1, 3, 224, 224)) == COURSE_LAYERS


@pytest.mark.parametrize(
    ("build", "image", "layers"),
    [
        (resnet18, 64, ["layer1", "layer2", "layer3", "layer4"]),
        (
            partial(vgg11, init_weights=False),
            224,
            ["features.2", "features.5", "features.10", "features.15", "features.20"],
        ),
    ],
    ids=["resnet18", "vgg11"],
)
def test_auto_layers_chooses_one_layer_per_resolution_early_to_late(build, image, layers):
    assert auto_layers(build(), sample_image((image, image))) == layers


class Shared(nn.Module):
    """One ReLU for three convolutions, the second and third at half the resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 4, 3, padding=1)
        self.two = nn.Conv2d(4, 4, 3, padding=1, stride=2)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Run the ReLU once at each resolution."""
        x = self.relu(self.two(self.relu(self.one(x))))
        return self.fc(self.pool(x).flatten(1))


def test_auto_layers_names_the_call_of_a_module_that_runs_several_times():
    assert auto_layers(Shared(), torch.zeros(1, 3, 8, 8)) == ["relu#0", "relu#1"]


def test_auto_layers_orders_by_the_last_tensor_of_a_resolution():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Upsample(scale_factor=2),  # back at the resolution of 0
        nn.Flatten(),
        nn.Linear(256, 2),
    )
    assert auto_layers(model, torch.zeros(1, 3, 8, 8)) == ["1", "2"]


def test_auto_layers_leaves_no_hooks_and_names_what_is_missing():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    with pytest.raises(LayerError, match="Sequential has no layer with a spatial grid"):
        auto_layers(model, torch.zeros(1, 3, 4, 4))
    assert not any(module._forward_hooks for module in model.modules())
