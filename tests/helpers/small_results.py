"""Results of a tiny model."""

import torch
from torch import nn

from camreport.images.preprocessing import Preprocessing
from camreport.models import LoadedModel


def tiny(names: tuple[str, ...] = ("cat", "dog")) -> LoadedModel:
    """A net of two classes; the first has no positive evidence anywhere."""
    net = nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(4, 2),
    )
    generator = torch.Generator().manual_seed(0)
    net[0].weight.data = torch.randn(4, 3, 3, 3, generator=generator)
    net[0].bias.data = torch.zeros(4)
    net[4].weight.data = torch.tensor([[-1.0, -2.0, -1.0, -0.5], [1.0, 0.5, 2.0, 1.0]])
    return LoadedModel(net, Preprocessing(size=(32, 32)), names, "tiny", "a test", "0" * 64)
