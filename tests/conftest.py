"""Shared fixtures: the bundled model, the demo photographs and a finished demo report."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import camreport
from camreport.images import load_image
from camreport.models import LoadedModel, load_model

ROOT = Path(__file__).resolve().parents[1]
INPUTS = ROOT / "inputs"
COURSE_LAYERS = [f"features.{index}" for index in (0, 3, 6, 9, 12)]


@pytest.fixture(scope="session")
def catdog() -> LoadedModel:
    """The bundled model."""
    return load_model("catdog-alexnet")


@pytest.fixture(scope="session")
def photographs(catdog: LoadedModel) -> Tensor:
    """both.jpg, cat.jpg and dog.jpg as model inputs, ``(3, 3, 224, 224)``."""
    files = sorted(INPUTS.glob("*.jpg"))
    loaded = [load_image(file.read_bytes(), catdog.preprocessing) for file in files]
    return torch.from_numpy(np.stack([image.model_input for image in loaded]))


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report on the demo photographs, all methods; not to be changed."""
    out = tmp_path_factory.mktemp("demo") / "gallery"
    camreport.run(INPUTS, out, methods="all")
    return out


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
