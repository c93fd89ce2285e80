"""What the tests of all sources of models share."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def run_of(module: nn.Module, size: int = 64) -> Tensor:
    """Return a model's outputs for two fixed images."""
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return module(images)
