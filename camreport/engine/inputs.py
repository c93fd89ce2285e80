"""Photographs on the model's device: pixels are uploaded as bytes and standardised there."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from camreport.images.preprocessing import Preprocessing
from camreport.network.state import sent

WHITE = 255.0
"""The value of white in a photograph."""


def model_inputs(
    pixels: Sequence[NDArray[np.uint8]], preprocessing: Preprocessing, device: torch.device
) -> Tensor:
    """Return the model inputs of photographs, float32 ``(N, 3, H, W)``, on a device.

    The values are those of ``Preprocessing.standardised``, bit for bit on the CPU. A GPU receives
    a quarter of the bytes of the inputs, from pinned memory, while the CPU goes on.

    Args:
        pixels: what the model sees of each photograph, ``(H, W, 3)``, RGB.
        preprocessing: the model's.
        device: the device of the model.
    """
    joined = torch.empty(
        (len(pixels), *pixels[0].shape), dtype=torch.uint8, pin_memory=device.type == "cuda"
    )
    np.stack(pixels, out=joined.numpy())
    values = sent(joined, device).permute(0, 3, 1, 2)
    if preprocessing.channel_order == "bgr":
        values = values.flip(1)
    values = values.to(torch.float32, memory_format=torch.contiguous_format)
    if preprocessing.scale == 1:
        values.div_(_on(device, [WHITE]))
    return values.sub_(_on(device, preprocessing.mean)).div_(_on(device, preprocessing.std))


def _on(device: torch.device, numbers: Sequence[float]) -> Tensor:
    """Return a number for each channel, ``(C, 1, 1)``, on a device.

    Division by a tensor on the device is rounded as on the CPU; a GPU multiplies by the inverse
    of a number instead.
    """
    return sent(torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1), device)
