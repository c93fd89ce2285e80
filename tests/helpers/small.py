"""A small model for reports about something else."""

import torch
from torch import nn

from camreport.images.preprocessing import Preprocessing
from camreport.models.loaded import LoadedModel


class SmallNet(nn.Module):
    """A seeded net with any number of classes, for reports about something else."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 5, stride=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU()
        )
        self.head = nn.Linear(8, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits ``(N, classes)``."""
        return self.head(self.features(images).tanh().mean((2, 3)))


def small_model(names: tuple[str, ...], preprocessing: Preprocessing | None = None) -> LoadedModel:
    """Return it with a class for each name."""
    chosen = preprocessing or Preprocessing(size=(40, 40))
    return LoadedModel(SmallNet(len(names)).eval(), chosen, names, "small", "seeded", "0" * 64)
