"""Networks and the weights files made of them."""

import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torchvision import models

from camreport.errors import ModelError
from camreport.models import checkpoint

Builder = Callable[[], nn.Module]


def filled(build: Builder, seed: int = 0) -> nn.Module:
    """Return a network whose parameters and averages are noise of sensible size."""
    with torch.device("meta"):
        module = build()
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, tensor in module.state_dict().items():
        if not tensor.is_floating_point():
            state[key] = torch.zeros(tensor.shape, dtype=tensor.dtype)
            continue
        fan_in = max(1, tensor[0].numel()) if tensor.ndim > 1 else 16
        values = torch.randn(tensor.shape, generator=generator) / fan_in**0.5
        norm = tensor.ndim == 1 and key.endswith(("weight", "running_var"))
        state[key] = values.abs() + 0.5 if norm else values
    module.load_state_dict(state, assign=True)
    return module.eval()


def logits_of(model: nn.Module, size: int = 64) -> Tensor:
    """Return a model's logits of two fixed images."""
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(images)
    assert logits.std() > 1e-3, "logits that are all alike show nothing"
    return logits


def assert_same_model(loaded: nn.Module, original: nn.Module, size: int = 64) -> None:
    """Compare logits, and see that nothing is in training mode."""
    assert not any(module.training for module in loaded.modules())
    assert_close(logits_of(loaded, size), logits_of(original.eval(), size), rtol=0, atol=1e-6)


def slim_alexnet() -> nn.Module:
    """An AlexNet of two classes with a classifier of 16 and 12 units."""
    model = models.AlexNet(num_classes=2)
    model.classifier[1] = nn.Linear(9216, 16)
    model.classifier[4] = nn.Linear(16, 12)
    model.classifier[6] = nn.Linear(12, 2)
    return model


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=4),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 3),
    )


@pytest.fixture(scope="module")
def alexnet() -> nn.Module:
    return filled(slim_alexnet, seed=1)


@pytest.fixture(scope="module")
def squeezenet() -> nn.Module:
    return filled(lambda: models.squeezenet1_1(num_classes=3), seed=3)


@pytest.fixture
def as_found() -> Iterator[None]:
    """Fail if what torch keeps for the whole process has changed."""

    def kept() -> tuple[object, ...]:
        return (
            sorted(map(repr, torch.serialization.get_safe_globals())),
            torch.get_rng_state().tolist(),
            torch.get_default_dtype(),
            torch.get_default_device(),
            torch.is_grad_enabled(),
            list(sys.path),
        )

    before = kept()
    yield
    assert kept() == before


def archive(file: Path, members: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(file, "w") as written:
        for name, data in members.items():
            written.writestr(name, data)


class Own(nn.Module):
    """A class that camreport does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.body = plain()

    def forward(self, images: Tensor) -> Tensor:
        """Return the body's logits."""
        return self.body(images)


@pytest.fixture(scope="module")
def other(alexnet: nn.Module) -> nn.Module:
    """A second AlexNet of the same shapes and other weights."""
    return filled(slim_alexnet, seed=2)


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    return filled(lambda: models.resnet18(num_classes=3), seed=4)


@pytest.fixture
def mended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what an attack does if it succeeds."""
    monkeypatch.setattr(nn.ReLU, "forward", nn.ReLU.forward)
    monkeypatch.setattr(torch.serialization._get_layout, "cache", {})


@pytest.fixture
def unguessed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the tests of what is no known architecture the building of 22 of them."""

    def guess(*_: object) -> None:
        raise ModelError("unknown")

    monkeypatch.setattr(checkpoint, "guess_architecture", guess)
