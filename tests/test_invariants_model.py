"""A model comes back as it was found from every method, whether it succeeds or fails."""

import pytest
import torch
from torch import Tensor, nn

from camreport import explain
from camreport.methods import METHODS

IMAGES = torch.randn(2, 3, 12, 10, generator=torch.Generator().manual_seed(0))
LAYERS = ["features.2", "features.3"]


class Broken(Exception):
    """What the net raises once it has been called often enough."""


class TrainedNet(nn.Module):
    """A net in the middle of training, in which every method is defined."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.features = nn.Sequential(
                *(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
                *(nn.Dropout2d(0.5), nn.Conv2d(5, 4, 3, padding=1), nn.ReLU(inplace=True)),
            )
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Linear(4, 3)
        self.register_buffer("runs", torch.zeros(1))
        self.register_buffer("replaced", torch.zeros(1))
        self.train()
        self.features[1].eval()
        self.features[0].weight.requires_grad_(False)
        self.fc.weight.grad = torch.ones_like(self.fc.weight)
        self.calls, self.most = [], 10**9  # a list, so that counting changes no attribute
        self.features[6].register_forward_hook(self.count)

    def count(self, *_: object) -> None:
        """Count the calls of the last ReLU, and raise at the one that is one too many."""
        self.calls.append(1)
        if len(self.calls) > self.most:
            raise Broken

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, and change buffers on the way."""
        self.runs += 1
        self.replaced = self.replaced + 1
        return self.fc(self.pool(self.features(x)).flatten(1))


def state_of(net: TrainedNet) -> dict[str, object]:
    """Copy all that must come back: attributes, modes, hooks, values and gradients."""
    found: dict[str, object] = {}
    for name, module in net.named_modules():
        for attribute, value in vars(module).items():
            if attribute in ("_parameters", "_buffers", "_modules") or attribute.endswith("_hooks"):
                value = list(value.items())
            found[f"{name}.{attribute}"] = value
    for name, value in net.state_dict(keep_vars=True).items():
        found[f"{name} value"] = value.detach().clone().tolist()
        found[f"{name} gradient"] = None if value.grad is None else value.grad.tolist()
        found[f"{name} requires_grad"] = value.requires_grad
    return found


def assert_as_found(net: TrainedNet, before: dict[str, object]) -> None:
    """Demand equal values, and the very same tensors, hooks and modules."""
    after = state_of(net)
    assert after.keys() == before.keys()
    for name, value in before.items():
        if isinstance(value, list) and value and isinstance(value[0], tuple):
            assert [(key, id(one)) for key, one in after[name]] == [
                (key, id(one)) for key, one in value
            ], name
        else:
            assert after[name] is value or after[name] == value, name


@pytest.mark.parametrize("smooth", [(), ("noise", "aug", "eigen")], ids=["plain", "smooth"])
@pytest.mark.parametrize("key", METHODS)
def test_a_model_is_as_it_was_found_after_every_method_and_when_its_last_pass_fails(key, smooth):
    net = TrainedNet()
    layers = ["features.6"] if key == "cam" else LAYERS
    before, calls = state_of(net), net.calls
    explain(net, IMAGES, layers, [key], [0, 2], smooth=smooth)
    needed = len(calls)
    assert needed > 0
    assert_as_found(net, before)
    calls.clear()
    net.most = needed - 1
    before = state_of(net)
    with pytest.raises(Broken):
        explain(net, IMAGES, layers, [key], [0, 2], smooth=smooth)
    assert len(calls) == needed
    assert_as_found(net, before)


@pytest.mark.parametrize("key", METHODS)
def test_maps_are_the_same_when_a_net_is_asked_again(key):
    net = TrainedNet()
    layers = ["features.6"] if key == "cam" else LAYERS
    first, second = (explain(net, IMAGES, layers, [key], "all").maps[key] for _ in range(2))
    for layer, cam in first.items():
        assert torch.equal(cam, second[layer])
