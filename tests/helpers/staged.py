"""Small nets of stages, for the tests of what a survey finds and what is chosen from it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from camreport.network.choose import auto_layers
from camreport.network.survey import sample_image


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
