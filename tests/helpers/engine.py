"""Nets, images and comparisons for the tests of the engine."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from camreport.engine.explanation import Explanation
from camreport.methods import METHODS
from camreport.methods.registry import ABLATED, KEPT, SHARED
from helpers.nets import pooled_net, toy_net

READS = {"0": 1, "0:pre": 0, "2": 2, "3": 4, "3:pre": 3}
"""Addresses in toy_net, and the place of the module whose output each one reads."""


SHARING = tuple(
    key for key in METHODS if METHODS[key].needs.passes == SHARED and key != "full_grad"
)
"""The methods that are made of one forward pass and one backward pass per class, and of no pass
before them, as FullGrad's is."""

WITH_TAIL = tuple(key for key in METHODS if METHODS[key].needs in (ABLATED, KEPT))
"""The methods that ask what follows a layer."""


NETS = {net.__name__: net for net in (toy_net, pooled_net)}


def defined_at(name: str, key: str) -> list[str]:
    """Return where a method has a map of one of the nets, by the names of its layers."""
    method = METHODS[key]
    if name == "toy_net" and key in ("cam", "guided_backprop", "guided_grad_cam", "full_grad"):
        return []
    if method.scope == "network":
        return ["input"]
    if key == "cam":
        return ["3", "3:pre"]
    return [layer for layer in READS if not (method.non_negative and layer.endswith(":pre"))]


def random_images(count: int = 3, seed: int = 1) -> Tensor:
    """Inputs of toy_net, float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 12, 12, generator=generator, dtype=torch.float64)


def random_targets(count: int, ranks: int = 2) -> Tensor:
    """Different classes for every image, ``(N, K)``."""
    return (torch.arange(count)[:, None] * 3 + torch.arange(ranks)) % 4


def assert_same_maps(one: Explanation, other: Explanation, exactly: bool = False) -> None:
    """Demand equal maps under the same names, exactly or up to float32 rounding."""
    tolerance = {"rtol": 0.0, "atol": 0.0} if exactly else {"rtol": 1e-5, "atol": 1e-9}
    assert_close(one.maps, other.maps, **tolerance)
    assert_close(one.logits, other.logits, **tolerance)
    assert torch.equal(one.targets, other.targets)


class LivedIn(nn.Module):
    """A net in the middle of somebody's training: mixed modes, partly frozen, half a step done."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Dropout2d(0.5),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.ReLU6(inplace=True),
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(8 * 6 * 6, 4))
        self.last = nn.Identity()
        self.spare = nn.Conv2d(3, 3, 3)
        self.double()
        norm = self.features[1]
        nn.init.uniform_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        self.train()
        norm.eval()
        self.features[0].weight.requires_grad_(False)
        self.features[5].requires_grad_(False)
        for parameter in (self.features[0].bias, self.features[5].weight):
            parameter.grad = torch.rand_like(parameter)
        self.features[3].register_forward_hook(lambda *_: None)

    def forward(self, x: Tensor) -> Tensor:
        """Leave ``spare`` out."""
        return self.last(self.classifier(self.features(x)))


def state_of(model: nn.Module) -> dict[str, object]:
    """Copy everything about a model that must come back as it was."""
    modules = dict(model.named_modules())
    parameters = dict(model.named_parameters())
    return {
        "modules": {name: id(module) for name, module in modules.items()},
        "training": {name: module.training for name, module in modules.items()},
        "inplace": {name: getattr(module, "inplace", None) for name, module in modules.items()},
        "hooks": {
            f"{name}.{kind}": len(hooks)
            for name, module in modules.items()
            for kind, hooks in vars(module).items()
            if kind.endswith("_hooks")
        },
        "parameters": {name: id(parameter) for name, parameter in parameters.items()},
        "requires_grad": {name: p.requires_grad for name, p in parameters.items()},
        "gradients": {
            name: None if p.grad is None else p.grad.clone() for name, p in parameters.items()
        },
        "values": {name: value.clone() for name, value in model.state_dict().items()},
    }


def assert_as_found(model: nn.Module, before: dict[str, object]) -> None:
    """Demand that a model is exactly in an earlier state."""
    assert_close(state_of(model), before, rtol=0, atol=0)


class Returns(nn.Module):
    """A module that returns something made from its input."""

    def __init__(self, make: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Tensor) -> object:
        """Return what was asked for."""
        return self.make(x)


def raise_(error: BaseException) -> Callable[..., Tensor]:
    """Return a function that raises."""

    def fail(*_: object) -> Tensor:
        raise error

    return fail


class FailsBackward(torch.autograd.Function):
    """The identity, whose backward pass raises."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        """Return the input."""
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        """Raise."""
        raise ValueError("broken on the way back")
