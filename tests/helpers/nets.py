"""Small seeded nets for tests of methods and engine."""

import torch
from torch import nn

from camreport.methods import METHODS


def toy_net(seed: int = 0) -> nn.Sequential:
    """A small float64 net with an in-place ReLU and a head whose gradients vary over space."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(8 * 6 * 6, 10),
        nn.Tanh(),
        nn.Linear(10, 4),
    ).double()


EVERY = tuple(METHODS)
"""Every method, also those that ``all`` leaves out."""


def pooled_net() -> nn.Sequential:
    """toy_net's features with a head of ReLU alone that CAM is defined for: every method is."""
    net = toy_net()
    torch.manual_seed(2)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4).double())
    return nn.Sequential(*net[:5], *head)


def record_batches(net: nn.Module) -> tuple[list[int], list[int]]:
    """Return two lists that grow with every batch: sizes tried, and sizes that came through."""
    tried: list[int] = []
    done: list[int] = []
    net.register_forward_pre_hook(lambda _module, inputs: tried.append(len(inputs[0])))
    net.register_forward_hook(lambda _module, _inputs, output: done.append(len(output)))
    return tried, done


def spatial_net() -> nn.Sequential:
    """A float64 net of ReLU alone whose gradients vary over space, one layer after the other."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = nn.Sequential(
            nn.Conv2d(3, 5, 3, padding=1),
            nn.BatchNorm2d(5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(5, 6, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(6 * 5 * 4, 9),
            nn.ReLU(inplace=True),
            nn.Linear(9, 6),
        ).double()
        nn.init.uniform_(net[1].running_mean, -0.5, 0.5)
        nn.init.uniform_(net[1].running_var, 0.5, 2)
        nn.init.uniform_(net[1].bias, -0.5, 0.5)
        nn.init.uniform_(net[1].weight, 0.5, 1.5)
    return net.eval()


IMAGES = torch.randn(2, 3, 10, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def gap_net() -> nn.Sequential:
    """Features, global average pooling and one linear layer: what CAM was made for."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3),
            nn.ReLU(inplace=True),
            nn.Conv2d(6, 8, 3),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 6),
        ).double()
