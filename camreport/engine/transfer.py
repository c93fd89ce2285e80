"""Tensors on their way from the model's device to the CPU, while both go on."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Kinds = dict[str, tuple[torch.Size, torch.dtype]]
"""Shapes and types of tensors, by their names."""


class Transfer:
    """Copies tensors to the CPU in one go.

    On a GPU their bytes are gathered into one buffer and copied to pinned memory; the CPU does
    not wait for the copy before it asks for the arrays.

    Args:
        tensors: by any names; not kept, if they are on another device than the CPU.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        own = {name: tensor.detach() for name, tensor in tensors.items()}
        device = next((tensor.device for tensor in own.values()), torch.device("cpu"))
        self._arrived: torch.cuda.Event | None = None
        self._kinds = {name: (tensor.shape, tensor.dtype) for name, tensor in own.items()}
        self._arrays: dict[str, NDArray[np.generic]] | None = None
        if device.type == "cpu":
            self._arrays = {name: tensor.numpy() for name, tensor in own.items()}
            return
        gathered = joined(own, device)
        if device.type != "cuda":  # only CUDA says when a copy has arrived
            self._bytes = gathered.cpu()
            return
        self._bytes = torch.empty(gathered.shape, dtype=torch.uint8, pin_memory=True)
        self._bytes.copy_(gathered, non_blocking=True)
        self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._arrived.record(torch.cuda.current_stream(device))

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Wait until the copy has arrived, and return the arrays by their names.

        They are views of one buffer, or of the tensors themselves if these are on the CPU.
        """
        if self._arrived is not None:
            self._arrived.synchronize()
        if self._arrays is None:
            self._arrays = taken_apart(self._bytes, self._kinds)
        return self._arrays


def joined(tensors: Mapping[str, Tensor], device: torch.device) -> Tensor:
    """Return the bytes of tensors as one tensor on a device, the largest elements first.

    So each tensor starts at a multiple of the size of its elements.
    """
    order = _order({name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()})
    rows = (tensors[name].to(device).reshape(-1).contiguous() for name in order)
    return torch.cat([row.view(torch.uint8) for row in rows])


def taken_apart(buffer: Tensor, kinds: Kinds) -> dict[str, NDArray[np.generic]]:
    """Return what ``joined`` has joined, as views of its bytes on the CPU."""
    found: dict[str, NDArray[np.generic]] = {}
    start = 0
    for name in _order(kinds):
        shape, dtype = kinds[name]
        stop = start + shape.numel() * dtype.itemsize
        found[name] = buffer[start:stop].view(dtype).view(shape).numpy()
        start = stop
    return {name: found[name] for name in kinds}


def _order(kinds: Kinds) -> list[str]:
    return sorted(kinds, key=lambda name: -kinds[name][1].itemsize)
