"""The survey of a network: the layers that auto takes, patterns, ``camreport layers``."""

import re
import sys
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.checkout import COURSE_LAYERS, INPUTS
from helpers.nets import toy_net
from helpers.reports import embedded
from torch import Tensor, nn
from torch.testing import assert_close
from torchvision.models import alexnet, resnet18, resnet50

import camreport
from camreport.cli import commands as cli
from camreport.errors import LayerError
from camreport.models import load_model
from camreport.network.choose import auto_layers, choose_layers, nearest_layers
from camreport.network.survey import sample_image, survey
from camreport.results.reader import load_results


def conv(stride: int = 1, inputs: int = 4, outputs: int = 4) -> nn.Conv2d:
    """A convolution that keeps the resolution, or divides it by the stride."""
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)


def head(places: int, channels: int = 4) -> list[nn.Module]:
    """Flattening and a linear layer."""
    return [nn.Flatten(), nn.Linear(channels * places, 3)]


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network with the same random weights every time."""
    torch.manual_seed(1)
    return build().eval()


def auto(model: nn.Module, size: int = 8) -> list[str]:
    """Choose layers for a square image."""
    return auto_layers(model, sample_image((size, size)))


class Residual(nn.Module):
    """A block that changes the resolution in its first convolution, or in its second."""

    def __init__(self, stride: int = 1, late: bool = False) -> None:
        super().__init__()
        self.first = conv(1 if late else stride)
        self.relu = nn.ReLU()
        self.second = conv(stride if late else 1)
        self.shortcut = nn.Conv2d(4, 4, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Add the shortcut."""
        return self.relu(self.second(self.relu(self.first(x))) + self.shortcut(x))


class Staged(nn.Module):
    """A stem, stages, global average pooling and a linear layer."""

    def __init__(self, *stages: nn.Module) -> None:
        super().__init__()
        self.stem = conv(inputs=3)
        for number, stage in enumerate(stages, 1):
            self.add_module(f"stage{number}", stage)
        self.count = len(stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Run the stages one after the other."""
        x = self.stem(x)
        for number in range(1, self.count + 1):
            x = self.get_submodule(f"stage{number}")(x)
        return self.fc(self.pool(x).flatten(1))


class Branched(Staged):
    """A branch that halves the resolution, and whose result nobody uses."""

    def __init__(self) -> None:
        super().__init__(Residual())
        self.side = conv(2)

    def forward(self, x: Tensor) -> Tensor:
        """Run the branch last of all."""
        logits = super().forward(x)
        self.side(self.stem(x))
        return logits


class Steps(nn.Module):
    """One step that halves the resolution, run several times."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(inputs=3)
        self.step = nn.Sequential(conv(2), nn.ReLU())
        self.fc = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Go from 16 × 16 to 2 × 2."""
        x = self.stem(x)
        for _ in range(3):
            x = self.step(x)
        return self.fc(x.flatten(1))


class Wrapped(nn.Module):
    """Somebody's class around a network."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.inner = nn.ModuleDict({"net": nn.Sequential(nn.Identity(), net)})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return a dictionary."""
        return {"logits": self.inner["net"](x)}


class Detached(nn.Sequential):
    """A network in whose middle the gradient ends."""

    def forward(self, x: Tensor) -> Tensor:
        """Cut the graph in front of the head."""
        x = self[1](self[0](x)).detach()
        return self[3](self[2](x))


# What auto takes


@pytest.mark.parametrize(
    ("build", "size", "layers"),
    [
        (  # the end of each stage
            lambda: nn.Sequential(
                conv(inputs=3), nn.ReLU(), conv(2), nn.ReLU(), conv(2), nn.ReLU(), *head(4)
            ),
            8,
            ["1", "3", "5"],
        ),
        (  # a pooling closes its stage
            lambda: nn.Sequential(
                conv(inputs=3),
                nn.ReLU(),
                nn.MaxPool2d(2),
                conv(),
                nn.ReLU(),
                nn.AvgPool2d(2),
                *head(4),
            ),
            8,
            ["2", "5"],
        ),
        (  # what runs later at a pooling's resolution takes its place
            lambda: nn.Sequential(
                conv(inputs=3), nn.ReLU(), nn.MaxPool2d(2), conv(), nn.ReLU(), *head(16)
            ),
            8,
            ["4"],
        ),
        (lambda: Staged(Residual(), Residual(2)), 8, ["stage1", "stage2"]),
        (lambda: Staged(Residual(), Residual(2, late=True)), 8, ["stage1", "stage2"]),
        (
            lambda: Staged(
                nn.Sequential(Residual(), Residual()), nn.Sequential(Residual(2), Residual())
            ),
            8,
            ["stage1", "stage2"],
        ),
        (
            lambda: nn.Sequential(conv(inputs=3), conv(2), conv(2), *head(1)),
            4,
            ["0", "1"],
        ),  # 4, 2, 1
        (  # no adaptive pooling, no dropout, no identity
            lambda: nn.Sequential(
                conv(inputs=3),
                nn.ReLU(),
                nn.Dropout(),
                nn.Identity(),
                nn.AdaptiveAvgPool2d(4),
                nn.Dropout2d(),
                nn.Identity(),
                *head(16),
            ),
            8,
            ["1"],
        ),
        (  # the latest five of eight
            lambda: nn.Sequential(conv(inputs=3), *(nn.MaxPool2d(2) for _ in range(7)), *head(4)),
            256,
            ["3", "4", "5", "6", "7"],
        ),
        (  # up again: the last tensor of 4 × 4 comes behind the one of 2 × 2
            lambda: nn.Sequential(
                conv(inputs=3),
                nn.MaxPool2d(2),
                nn.MaxPool2d(2),
                nn.Upsample(scale_factor=2),
                *head(16),
            ),
            8,
            ["2", "3"],
        ),
        (  # what surrounds with zeros belongs to what follows
            lambda: nn.Sequential(
                conv(inputs=3),
                nn.ReLU(),
                nn.ZeroPad2d((0, 1, 0, 1)),
                nn.Conv2d(4, 4, 3, stride=2),
                nn.ReLU(),
                *head(16),
            ),
            8,
            ["1", "4"],
        ),
        (lambda: Staged(nn.Sequential(Residual(), nn.MaxPool2d(2))), 8, ["stem", "stage1"]),
        (Branched, 8, ["stage1"]),
        (lambda: Detached(conv(inputs=3), nn.MaxPool2d(2), *head(16)), 8, ["1"]),
        (Steps, 16, ["stem", "step#0", "step#1", "step#2"]),
        (
            lambda: Wrapped(Staged(Residual(), Residual(2))),
            8,
            ["inner.net.1.stage1", "inner.net.1.stage2"],
        ),
        (alexnet, 96, COURSE_LAYERS),
        (resnet18, 64, ["layer1", "layer2", "layer3", "layer4"]),
        (
            lambda: Wrapped(resnet18()),
            64,
            [f"inner.net.1.layer{number}" for number in (1, 2, 3, 4)],
        ),
    ],
    ids=[
        *("stage ends", "poolings", "behind a pooling", "blocks", "late blocks", "stages"),
        *("1 × 1", "same tensors", "latest five", "upsampling", "padding", "pooled stage"),
        *("dead branch", "detached"),
        *("running twice", "wrapped blocks", "AlexNet", "ResNet", "wrapped ResNet"),
    ],
)
def test_auto_takes_the_last_tensor_of_each_resolution(build, size, layers):
    assert auto(seeded(build), size) == layers


def test_auto_does_not_look_into_a_block_that_ends_at_1_x_1():
    model = seeded(lambda: Staged(Residual(), Residual(2), Residual(2, late=True)))
    assert auto(model, 4) == ["stage1", "stage2"]


def test_auto_looks_into_a_backbone_that_ends_in_global_pooling():
    class Pooled(Staged):
        def forward(self, x: Tensor) -> Tensor:
            return self.pool(self.stage2(self.stage1(self.stem(x))))  # (N, 4, 1, 1)

    def build() -> nn.Module:
        backbone = Pooled(Residual(2), Residual(2))
        return nn.Sequential(backbone, nn.Flatten(), nn.Linear(4, 3))

    assert auto(seeded(build)) == ["0.stem", "0.stage1", "0.stage2"]


def test_auto_takes_stages_of_a_resnet_when_the_last_is_1_x_1():
    assert auto(seeded(resnet50), 32) == ["layer1", "layer2", "layer3"]


def test_auto_takes_no_wider_grid_than_the_images_proportions_allow():
    class Flat(Staged):
        def forward(self, x: Tensor) -> Tensor:
            x = self.stage1(self.stem(x))
            return self.fc(self.stage2(x).mean((2, 3)))  # 8 × 1

    assert auto(seeded(lambda: Flat(conv(), nn.MaxPool2d((1, 8))))) == ["stage1"]


def test_explain_takes_autos_layers_and_keeps_their_maps_under_these_names():
    model, images = seeded(Steps), sample_image((16, 16))
    explained = camreport.explain(model, images, methods="hires_cam")
    assert list(explained.maps["hires_cam"]) == ["stem", "step#0", "step#1", "step#2"]
    assert [cam.shape[-1] for cam in explained.maps["hires_cam"].values()] == [16, 8, 4, 2]
    assert explained.layers["step#1"].tensor.worded("en") == "own output"


# What a user asks for


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (["layer*"], ["layer1", "layer2", "layer3", "layer4"]),
        (["layer?.0"], [f"layer{number}.0" for number in (1, 2, 3, 4)]),
        (["layer[23].1.bn?"], [f"layer{n}.1.bn{k}" for n in (2, 3) for k in (1, 2)]),
        (["layer4.1.relu*"], ["layer4.1.relu#0", "layer4.1.relu#1"]),
        (["layer4.*:pre"], ["layer4.0:pre", "layer4.1:pre"]),
        (["*"], ["conv1", "bn1", "relu", "maxpool", *(f"layer{n}" for n in (1, 2, 3, 4))]),
        (["layer3", "layer[34]"], ["layer3", "layer4"]),
    ],
)
def test_patterns_lead_to_the_layers_with_a_grid_part_by_part(asked, found):
    assert list(choose_layers(resnet18(), asked, sample_image((64, 64)))) == found


def test_patterns_for_features_leave_the_classifier_out():
    model, image = alexnet(), sample_image((96, 96))
    features = [f"features.{index}" for index in range(13)]
    assert list(choose_layers(model, ["features.*"], image)) == features
    read = choose_layers(model, ["features.*:pre"], image)
    assert list(read) == [f"{name}:pre" for name in features]
    assert [layer.source for layer in read.values()] == features
    assert list(choose_layers(model, ["*.1?"], image)) == features[10:]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (
            "stage*",
            "a pattern that leads to a layer with a spatial grid, got 'stage.'. There are conv1, "
            r"bn1, relu, maxpool, layer1, layer1\.0, …; a \* does not reach over a dot",
        ),
        ("fc*", "a layer with a spatial grid, got 'fc.'"),
        ("*conv9", "a layer with a spatial grid, got '.conv9'"),
    ],
)
def test_a_pattern_without_match_says_which_layers_there_are(pattern, message):
    with pytest.raises(LayerError, match=message):
        choose_layers(resnet18(), [pattern], sample_image((64, 64)))


@pytest.mark.parametrize(
    ("build", "asked", "reads"),
    [
        (alexnet, "features.-1", "features.12"),
        (alexnet, "-1", "features.12"),
        (alexnet, -1, "features.12"),
        (alexnet, "features.-13", "features.1"),  # features.0, read behind its ReLU
        (alexnet, "features.-3:pre", "features.10"),
        (alexnet, 12, "features.12"),
        (alexnet, "0", "features.1"),
        (resnet18, "layer4.-1", "layer4.1"),
        (resnet18, "layer4.-2.conv1", "layer4.0.conv1"),
        (resnet18, "layer1.-1.-1", "layer1.1.bn2"),
        (resnet18, "-3", "layer4"),
        (resnet18, "layer4.-1.relu#1", "layer4.1.relu#1"),
    ],
)
def test_negative_and_bare_numbers_count_children(build, asked, reads):
    (layer,) = choose_layers(build(), [asked], sample_image((64, 64))).values()
    assert layer.source == reads


@pytest.mark.parametrize(
    ("build", "asked"), [(alexnet, "features.-14"), (resnet18, "layer4.-3"), (resnet18, "-11")]
)
def test_a_negative_number_beyond_the_first_child_is_refused(build, asked):
    with pytest.raises(LayerError, match=f"expected a module of .*, got '{asked}'"):
        choose_layers(build(), [asked], sample_image((64, 64)))


def test_maps_stand_under_the_names_they_were_asked_by():
    model, images = alexnet().eval(), sample_image((96, 96))
    asked = ["features.-1", "12", 9, model.features[6], "features.[03]", "features.3:pre"]
    explained = camreport.explain(model, images, asked, "grad_cam")
    names = ["features.0", "features.3:pre", "features.3", "features.6", "features.9"]
    names += ["features.-1", "12"]
    maps = explained.maps["grad_cam"]
    assert list(explained.layers) == names
    assert sorted(maps) == sorted(explained.shapes) == sorted(names)
    assert torch.equal(maps["features.-1"], maps["12"])
    assert explained.layers["features.-1"].address == "features.12"


@pytest.mark.parametrize(
    ("build", "asked", "nearest"),
    [
        (alexnet, "classifier.1", r"avgpool, features\.12, features\.11"),
        (resnet18, "fc", r"layer4\.1\.relu#1, layer4\.1\.bn2, layer4\.1\.conv2"),
    ],
)
def test_a_layer_without_grid_is_refused_with_the_nearest_that_have_one(build, asked, nearest):
    message = rf"expected a spatial output, but '{asked}' gives .*Nearest with a grid: {nearest}\."
    with pytest.raises(LayerError, match=message):
        camreport.explain(build().eval(), sample_image((96, 96)), [asked], "grad_cam")


def test_nearest_layers_are_told_by_the_order_of_running():
    calls = survey(alexnet(), sample_image((96, 96)))
    assert nearest_layers(calls, "features.5")[0] == "features.5"
    assert set(nearest_layers(calls, "features.5")) == {"features.4", "features.5", "features.6"}
    assert nearest_layers(calls, "classifier.6") == ["avgpool", "features.12", "features.11"]


# What a survey finds


def test_survey_measures_the_share_of_values_that_the_gradient_reaches():
    net = toy_net()
    image = torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(3)).double()
    calls = survey(net, image)
    assert [call.name for call in calls] == [str(place) for place in range(len(net))]
    best = int(net(image).argmax())
    shares = []
    for place in range(len(net)):
        activation = net[: place + 1](image).detach().requires_grad_()
        tail = net[place + 1 :](activation.clone())  # a ReLU in place may come next
        (gradient,) = torch.autograd.grad(tail[0, best], activation)
        shares.append(sum(value != 0 for value in gradient.flatten().tolist()) / gradient.numel())
    assert [call.used for call in calls] == shares
    assert 0 < min(shares) < max(shares) == 1


def test_survey_counts_the_gradient_at_the_places_of_tokens_only():
    class OnlyClassToken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 4, 4, stride=4)
            self.mix = nn.Linear(4, 4)
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x).flatten(2).mT
            x = self.mix(torch.cat([x.sum(1, keepdim=True), x], 1))
            return self.fc(x[:, 0])

    calls = {call.name: call for call in survey(seeded(OnlyClassToken), sample_image((16, 16)))}
    assert calls["mix"].size == (4, 4)
    assert calls["mix"].used == 0
    assert calls["patches"].used == 1
    assert auto(seeded(OnlyClassToken), 16) == ["patches"]


def test_survey_nests_calls_and_numbers_them():
    calls = survey(Steps(), sample_image((16, 16)))
    assert [call.address for call in calls] == ["stem", "step#0", "step#1", "step#2", "fc"]
    assert [[child.address for child in call.children] for call in calls[:2]] == [
        [],
        ["step.0#0", "step.1#0"],
    ]
    assert [[one.depth for one in call.inside()] for call in calls[:2]] == [[0], [0, 1, 1]]
    assert [call.shape for call in calls[1:]] == [(4, 8, 8), (4, 4, 4), (4, 2, 2), (3,)]
    assert [call.size for call in calls[3:]] == [(2, 2), None]


def state_of(model: nn.Module) -> list[object]:
    """Return modes, what is trainable, gradients, hooks and tensors of a model."""
    return [
        [part.training for part in model.modules()],
        [(p.requires_grad, p.grad is None) for p in model.parameters()],
        [
            len(value)
            for part in model.modules()
            for name, value in vars(part).items()
            if name.endswith("_hooks")
        ],
        [tensor.tolist() for tensor in model.state_dict().values()],
    ]


class Fails(nn.Module):
    """A module that does not work."""

    def forward(self, x: Tensor) -> Tensor:
        """Raise."""
        raise ValueError("broken on purpose")


@pytest.mark.parametrize("broken", [False, True])
def test_survey_leaves_the_model_as_found(broken):
    net = nn.Sequential(
        conv(inputs=3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        *head(64),
        Fails() if broken else nn.Identity(),
    ).train()
    net[1].eval()
    net[0].bias.requires_grad_(False)
    net[0].register_forward_hook(lambda *_: None)
    image = sample_image((8, 8))
    before, seen = state_of(net), image.clone()
    if broken:
        with pytest.raises(ValueError, match="broken on purpose"):
            survey(net, image)
    else:
        with torch.no_grad():
            assert all(call.used for call in survey(net, image))
    assert state_of(net) == before
    assert torch.equal(image, seen)


def test_sample_image_is_the_same_every_time_and_leaves_the_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, other = sample_image((6, 9)), sample_image((6, 9))
    assert torch.equal(torch.rand(3), expected)
    assert one.shape == (1, 3, 6, 9)
    assert torch.equal(one, other)


# Two addresses of one tensor


def test_duplicates_are_the_layers_that_read_an_earlier_ones_tensor(catdog, photographs):
    layers = ["avgpool", "features.12", "features.0", "features.1", "features.0:pre", "features.3"]
    explained = camreport.explain(catdog, photographs, layers, "grad_cam,hires_cam")
    assert explained.duplicates == {"features.1": "features.0", "avgpool": "features.12"}
    for maps in explained.maps.values():
        for twin, earlier in explained.duplicates.items():
            assert torch.equal(maps[twin], maps[earlier])
    maps = explained.maps["grad_cam"]
    assert not torch.equal(maps["features.0:pre"], maps["features.0"])


@pytest.mark.parametrize("size", [192, 256])
def test_duplicates_are_none_where_the_pooling_resamples(catdog, photographs, size):
    images = nn.functional.interpolate(photographs[:2], (size, size), mode="bilinear")
    explained = camreport.explain(catdog, images, ["features.12", "avgpool"], "grad_cam")
    assert explained.duplicates == {}
    assert explained.shapes["features.12"] != explained.shapes["avgpool"] == (256, 6, 6)


def test_duplicates_hold_for_every_image_of_a_call():
    class Sometimes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.where(x.amax((1, 2, 3), keepdim=True) < 5, x * 2)

    torch.manual_seed(0)
    net = nn.Sequential(conv(inputs=3), Sometimes(), nn.ReLU(), *head(64))
    images = torch.rand(40, 3, 8, 8)  # more than the first batch takes
    assert camreport.explain(net, images, ["0", "1"], "grad_cam").duplicates == {"1": "0"}
    images[-1] *= 100
    assert camreport.explain(net, images, ["0", "1"], "grad_cam").duplicates == {}


def test_duplicates_share_one_row_of_the_page_and_keep_both_names_in_the_results(tmp_path):
    layers, methods = ["features.9", "features.12", "avgpool"], ("grad_cam", "hires_cam")
    for size in (224, 256):
        out = tmp_path / str(size)
        camreport.run(INPUTS / "both.jpg", out, layers=layers, methods=methods, image_size=size)
        results = load_results(out)
        arrays = results.arrays(0)
        assert {f"{method}/{layer}" for method in methods for layer in layers} <= set(arrays)
        same = {layer.address: layer.same_as for layer in results.manifest.layers}
        alike = [
            np.array_equal(arrays[f"{m}/avgpool"], arrays[f"{m}/features.12"]) for m in methods
        ]
        shown = {layer["address"]: layer["alike"] for layer in embedded(out, "report")["layers"]}
        if size == 224:
            assert same == {"features.9": None, "features.12": None, "avgpool": "features.12"}
            assert all(alike)
            assert shown == {"features.9": [], "features.12": ["avgpool"]}
        else:
            assert set(same.values()) == {None}
            assert not any(alike)
            assert shown == {layer: [] for layer in layers}


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        (["features.-1", "9"], ["features.9", "features.12"]),
        (["features.1[0-2]:pre"], ["features.10:pre", "features.11:pre", "features.12:pre"]),
        (["features.-1", "12", "features.12"], ["features.12"]),
    ],
)
def test_a_report_shows_maps_at_negative_numbers_and_patterns(tmp_path, asked, shown):
    camreport.run(INPUTS / "both.jpg", tmp_path / "out", layers=asked, methods="grad_cam")
    results = load_results(tmp_path / "out")
    assert [layer.address for layer in results.manifest.layers] == shown
    arrays = results.arrays(0)
    assert all(arrays[f"grad_cam/{address}"].any() for address in shown)
    layers = embedded(tmp_path / "out", "report")["layers"]
    assert [layer["address"] for layer in layers] == shown


# camreport layers

Printed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Printed:
    """Run ``camreport layers`` in this process; return exit code, output and errors."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["camreport", "layers", *words])
        capsys.readouterr()
        return cli.cli.exit_code(), *capsys.readouterr()

    return run


def table(text: str) -> list[dict[str, str]]:
    """Return the rows of a printed table by column; columns lie between two blanks all the way."""
    lines = text.split("\n\n")[0].splitlines()
    width = max(map(len, lines))
    lines = [line.ljust(width) for line in lines]
    blank = "".join(" " if all(line[k] == " " for line in lines) else "x" for k in range(width))
    cuts = [0, *(match.end() for match in re.finditer(r" {2,}", blank)), width]
    cells = [[line[a:b].strip() for a, b in pairwise(cuts)] for line in lines]
    # The first column, of the marks, has no head.
    return [dict(zip(cells[0], row, strict=True)) for row in cells[1:]]


def runs_of(module: nn.Module, image: Tensor) -> tuple[list[str], dict[str, tuple[int, ...]]]:
    """Return the modules in the order in which they start, and what they return."""
    order: list[str] = []
    shapes: dict[str, tuple[int, ...]] = {}
    with ExitStack() as hooks, torch.no_grad():
        for name, part in module.named_modules():
            if name:

                def start(_module: nn.Module, _inputs: object, name: str = name) -> None:
                    order.append(name)

                def end(_module: nn.Module, _i: object, out: Tensor, name: str = name) -> None:
                    shapes[name] = tuple(out.shape[1:])

                hooks.callback(part.register_forward_pre_hook(start).remove)
                hooks.callback(part.register_forward_hook(end).remove)
        module(image)
    return order, shapes


@pytest.mark.parametrize(
    ("name", "size"), [("alexnet", (224, 224)), ("vgg11", (64, 64)), ("mobilenet_v2", (64, 96))]
)
def test_layers_prints_what_runs_in_order_with_shapes_strides_and_parameters(printed, name, size):
    height, width = size
    code, out, err = printed(
        *("--model", name, "--weights", "none"),
        *("--image-size", f"{height}x{width}", "--resize", "squash"),
    )
    assert (code, err) == (0, "")
    module = load_model(name, weights="none").module
    image = sample_image(size)
    order, shapes = runs_of(module, image)
    rows = table(out)
    assert list(rows[0]) == [
        *("", "address", "type", "output", "stride", "parameters", "a map reads", "gradient"),
    ]
    assert [row["address"] for row in rows] == order
    parts = dict(module.named_modules())
    for row in rows:
        part, shape = parts[row["address"]], shapes[row["address"]]
        assert row["type"] == type(part).__name__
        assert row["output"] == " x ".join(map(str, shape))
        own = sum(p.numel() for p in part.parameters())
        assert row["parameters"] == (f"{own:,}" if own else "")
        spatial = len(shape) == 3 and shape[1:] != (1, 1)
        assert (row["a map reads"] != "-") == spatial
        strides = [float(stride) for stride in row["stride"].split(" x ") if stride]
        expected = [height / shape[1], width / shape[2]] if spatial else []
        if len(strides) == 1:
            strides *= 2
        assert strides == pytest.approx(expected, rel=0.005)
        assert re.fullmatch(r"(\d|[1-9]\d|100)%", row["gradient"])
    marked = [row["address"] for row in rows if row[""] == "*"]
    assert marked == auto_layers(module, image)
    assert f"for an image of {height} x {width}" in out


def test_layers_says_which_tensor_a_map_reads_and_its_gradient(printed):
    _, out, _ = printed("--model", "alexnet", "--weights", "none", "--image-size", "96")
    rows = {row["address"]: row for row in table(out)}
    assert rows["features.0"]["a map reads"] == "after ReLU (features.1)"
    assert rows["features.1"]["a map reads"] == "own output"
    assert rows["features.0"]["gradient"] == rows["features.1"]["gradient"]
    assert rows["classifier.1"]["a map reads"] == "-"
    module = load_model("alexnet", weights="none").module
    seen: list[Tensor] = []
    hook = module.features[1].register_forward_hook(  # it writes to its input, and nothing to it
        lambda _m, _i, out: seen.append(out)
    )
    logits = module(sample_image((96, 96)))
    hook.remove()
    (gradient,) = torch.autograd.grad(logits.max(), seen)
    share = int((gradient != 0).sum()) / gradient.numel()
    assert rows["features.1"]["gradient"] == f"{share:.0%}"
    assert 0 < share < 1


def test_layers_names_each_call_of_a_module_that_runs_twice(printed):
    _, out, _ = printed("--model", "resnet18", "--weights", "none", "--image-size", "64")
    addresses = [row["address"] for row in table(out)]
    assert addresses[:5] == ["conv1", "bn1", "relu", "maxpool", "layer1"]
    assert "layer4.1.relu" not in addresses
    assert [name for name in addresses if name.startswith("layer4.1.")] == [
        f"layer4.1.{name}" for name in ("conv1", "bn1", "relu#0", "conv2", "bn2", "relu#1")
    ]


def test_layers_prints_a_tree(printed):
    words = ("--model", "resnet18", "--weights", "none", "--image-size", "64")
    flat, tree = table(printed(*words)[1]), printed(*words, "--tree")[1]
    start = tree.splitlines()[0].index("address")
    lines = tree.split("\n\n")[0].splitlines()[1:]
    assert len(lines) == len(flat)
    for line, row in zip(lines, flat, strict=True):
        parents, _, name = row["address"].rpartition(".")
        depth = len(parents.split(".")) if parents else 0
        assert re.match(rf"{'  ' * depth}{re.escape(name)} ", line[start:])
        assert line[0] == (row[""] or " ")


def test_layers_reads_tokens(printed):
    _, out, _ = printed("--model", "swin_t", "--weights", "none", "--image-size", "64")
    rows = {row["address"]: row for row in table(out)}
    assert rows["norm"]["output"] == "2 x 2 x 768"
    assert rows["norm"]["a map reads"] == "own output as 2 x 2"
    assert rows["norm"]["stride"] == "32"
    assert rows["permute"]["a map reads"] == "own output"
    assert [name for name, row in rows.items() if row[""]] == [
        *("features.1", "features.3", "features.5", "norm"),
    ]


def test_layers_reads_a_model_of_ones_own_and_runs_it_once(printed, tmp_path, monkeypatch):
    (tmp_path / "own_net.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(),\n"
        "                         nn.Linear(4 * 16, 2))\n"
    )
    monkeypatch.chdir(tmp_path)
    code, out, _ = printed("--model", "own_net.py:build", "--image-size", "8")
    assert code == 0
    assert [(row[""], row["address"], row["output"]) for row in table(out)] == [
        ("", "0", "4 x 4 x 4"),
        ("*", "1", "4 x 4 x 4"),
        ("", "2", "64"),
        ("", "3", "2"),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "resnet81"), r"error: model: expected .*got 'resnet81'\. Did you mean 'res"),
        (("--model", "nowhere.py:build"), r"error: .*nowhere\.py"),
    ],
)
def test_layers_refuses_an_unknown_model_with_exit_code_2(printed, words, message):
    code, out, err = printed(*words)
    assert (code, out) == (2, "")
    assert re.match(message, err)
    assert "Traceback" not in err


def test_layers_marks_what_explain_takes_for_any_model_of_equal_code():
    model, image = seeded(lambda: Staged(Residual(), Residual(2))), sample_image((8, 8))
    explained = camreport.explain(model, image, methods="grad_cam")
    assert list(explained.layers) == auto_layers(model, image)
    assert_close(explained.logits, model(image).detach())


def test_auto_may_stand_among_addresses() -> None:
    found = choose_layers(resnet18(), ["layer1.0", "auto", "conv1"], sample_image((32, 32)))
    assert list(found) == ["layer1.0", "layer1", "layer2", "layer3", "conv1"]


def test_patterns_pass_over_what_the_logits_do_not_depend_on() -> None:
    class Aside(nn.Module):
        """One block whose result is thrown away, and one that counts."""

        def __init__(self) -> None:
            super().__init__()
            self.block_aside = nn.Conv2d(3, 4, 3)
            self.block_used = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            self.block_aside(x)
            return self.block_used(x).mean((2, 3))

    assert list(choose_layers(Aside(), ["block_*"], sample_image((8, 8)))) == ["block_used"]
