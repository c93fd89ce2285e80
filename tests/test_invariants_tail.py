"""Perturbation methods give the same through a net's tail as through all of it."""

from collections.abc import Callable

import pytest
import torch
from helpers.limits import explain_within, limits
from helpers.peers import random_net
from torch import Tensor, nn
from torch.nn.functional import relu
from torch.testing import assert_close
from torchvision.models import DenseNet

from camreport import explain
from camreport.engine import perturbation, probe
from camreport.network.graph import FollowedModel, Tail, find_tail, follow, whole_model
from camreport.network.grid import Grid

KEYS = ("ablation_cam", "recipro_cam")


class DilatedNet(nn.Sequential):
    """A convolution whose stride, padding and dilation differ by axis, behind a padded pool."""

    def __init__(self) -> None:
        wide = nn.Conv2d(6, 5, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 3))
        super().__init__(
            *(nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)),
            *(wide, nn.ReLU(), nn.Flatten(), nn.Linear(105, 10)),
        )


class BranchedNet(nn.Module):
    """A stem, two branches that are put side by side, and a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True))
        self.left = nn.Sequential(nn.Conv2d(6, 4, 3, padding=1), nn.ReLU(inplace=True))
        self.right = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(6, 4, 1), nn.ReLU())
        self.join = nn.Conv2d(8, 6, 3, padding=1)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(54, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.stem(x)
        x = x + relu(self.join(torch.cat([self.left(x), self.right(x)], 1)))
        return self.head(x)


def small_densenet() -> nn.Module:
    """DenseNet of torchvision with two blocks of two layers."""
    return DenseNet(8, (2, 2), 8, num_classes=10)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """Make a net with seeded weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = make()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
                nn.init.uniform_(module.running_var, 0.5, 2)
    return net.eval()


NETS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "AlexNet": (lambda: random_net("AlexNet"), 96),
    "ResNet-18": (lambda: random_net("ResNet-18"), 64),
    "DenseNet": (lambda: seeded(small_densenet), 64),
    "branches": (lambda: seeded(BranchedNet), 16),
    "dilated": (lambda: seeded(DilatedNet), 16),
}
LAYERS = [
    ("AlexNet", "features.2", True),
    ("AlexNet", "features.3:pre", True),
    ("AlexNet", "features.12", True),
    ("AlexNet", "avgpool", True),
    ("ResNet-18", "layer2", False),
    ("ResNet-18", "layer3.0.conv1", True),
    ("ResNet-18", "layer3.0.relu#0", True),
    ("ResNet-18", "layer3.1.relu#1", False),
    ("DenseNet", "features.pool0", False),
    ("DenseNet", "features.denseblock1.denselayer1.conv1", True),
    ("DenseNet", "features.denseblock1", True),
    ("DenseNet", "features.norm5", True),
    ("branches", "stem", False),
    ("branches", "left", False),
    ("branches", "right", False),
    ("branches", "join:pre", False),
    ("dilated", "1", True),
    ("dilated", "0:pre", True),
    ("dilated", "2", True),
]
"""Net, layer, and whether its channels stay apart up to one linear operation."""


def images_of(net: str, count: int = 2) -> Tensor:
    """Inputs of a net."""
    generator = torch.Generator().manual_seed(7)
    return torch.randn(count, 3, NETS[net][1], NETS[net][1], generator=generator)


@pytest.mark.parametrize(("net", "layer", "_splits"), LAYERS)
def test_tail_gives_what_the_whole_model_gives(monkeypatch, net, layer, _splits):
    model, images = NETS[net][0](), images_of(net)
    found: list[Tail | None] = []

    def note(model: FollowedModel, source: str, *read: str) -> Tail | None:
        found.append(find_tail(model, source, *read))
        return found[-1]

    monkeypatch.setattr(probe, "find_tail", note)
    by_tail = explain(model, images, [layer], KEYS, [5, 9]).maps
    assert found
    assert None not in found
    monkeypatch.setattr(probe, "find_tail", lambda *_: None)
    by_whole = explain(model, images, [layer], KEYS, [5, 9]).maps
    for key in KEYS:
        expected = by_whole[key][layer]
        largest = float(expected.abs().amax())
        assert largest > 0
        assert_close(by_tail[key][layer], expected, rtol=0, atol=1e-4 * largest)


@pytest.mark.parametrize(("net", "layer", "splits"), LAYERS)
def test_tail_begins_with_one_linear_operation_where_channels_stay_apart(net, layer, splits):
    source = layer.removesuffix(":pre")
    tail = find_tail(follow(NETS[net][0](), [source]), source)
    assert (tail.entry is not None) == splits


@pytest.mark.parametrize(("net", "layer", "_splits"), LAYERS)
def test_tail_is_a_function_of_the_layer_alone(net, layer, _splits):
    model, images, reads = NETS[net][0](), images_of(net), layer.removesuffix(":pre")
    tail = find_tail(follow(model, [reads]), reads)
    with torch.no_grad():
        saved = tail.before(images) if tail.before else ()
        rows = torch.tensor([1, 0, 1])
        shape = explain(model, images, [layer], "grad_cam").shapes[layer]
        run = whole_model(model, reads, images, Grid(shape[1:]))
        values = torch.randn(3, *shape, generator=torch.Generator().manual_seed(8))
        found = tail.after(values.clone(), *(tensor[rows] for tensor in saved))
        assert_close(found, run(values, rows), rtol=1e-4, atol=1e-4)


def test_whole_model_exchanges_one_call_of_a_module_and_leaves_no_hook():
    model, images = NETS["ResNet-18"][0](), images_of("ResNet-18")
    with torch.no_grad():
        plain = model(images)
        rows, values = torch.arange(2), torch.randn(2, 64, 16, 16)
        first, second = (
            whole_model(model, f"layer1.0.relu#{call}", images, Grid((16, 16)))(values, rows)
            for call in (0, 1)
        )
        assert torch.equal(model(images), plain)
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, plain)


@pytest.mark.parametrize("images_at_once", [1, 7, 64])
@pytest.mark.parametrize("share", [1.0, 0.25], ids=["four images", "one image"])
def test_maps_do_not_depend_on_how_variants_are_cut_into_chunks(images_at_once, share):
    keys = (*KEYS, "score_cam", "score_cam_pgc", "score_cam_torchcam")
    model, images = NETS["branches"][0](), images_of("branches", 4)
    plain = explain(model, images, ["stem", "left"], keys, "all")
    fitting = int(4 * share * plain.bytes_per_image)
    small = limits(activations=fitting, images=images_at_once)
    cut = explain_within(small, model, images, ["stem", "left"], keys, "all")
    assert cut.cost.forwards > plain.cost.forwards
    assert_close(cut.maps, plain.maps, rtol=1e-4, atol=1e-5)


def test_a_tail_that_does_not_give_the_models_logits_is_not_used(monkeypatch):
    model, images = NETS["branches"][0](), images_of("branches")
    plain = explain(model, images, ["left"], KEYS, "all").maps
    seen: list[str] = []
    wrong = Tail(after=lambda values: values.mean((2, 3)), before=None, entry=None)
    monkeypatch.setattr(probe, "find_tail", lambda *_: wrong)
    monkeypatch.setattr(
        perturbation, "whole_model", lambda *given: (seen.append(given[1]), whole_model(*given))[1]
    )
    assert_close(explain(model, images, ["left"], KEYS, "all").maps, plain, rtol=1e-4, atol=1e-5)
    assert set(seen) == {"left"}
