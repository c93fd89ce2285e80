"""The survey of a network: the layers that auto takes, and what is found of each module."""

import pytest
import torch
from helpers.checkout import COURSE_LAYERS
from helpers.nets import toy_net
from helpers.staged import (
    Branched,
    Detached,
    Residual,
    Staged,
    Steps,
    Wrapped,
    auto,
    conv,
    head,
    seeded,
)
from torch import Tensor, nn
from torchvision.models import alexnet, resnet18, resnet50

import camreport
from camreport.network.survey import sample_image, survey

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
