"""Photographs as model inputs, standardised by NumPy on the CPU."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from camreport.images.pixels import decode
from camreport.images.preprocessing import Preprocessing


def inputs_of(preprocessing: Preprocessing, files: Sequence[Path]) -> Tensor:
    """Return image files as model inputs, ``(N, 3, H, W)``."""
    images = [preprocessing.apply(decode(file.read_bytes())) for file in files]
    return torch.from_numpy(np.stack(images))
