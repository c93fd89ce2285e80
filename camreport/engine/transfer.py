"""Tensors on their way from the model's device to the CPU, while both go on."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Transfer:
    """Copies tensors to the CPU in one go.

    On a GPU their bytes are gathered into one buffer and copied to pinned memory; the CPU does
    not wait for the copy before it asks for the arrays.

    Args:
        tensors: by any names, on one device; they are not kept.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        own = {name: tensor.detach() for name, tensor in tensors.items()}
        device = next((tensor.device for tensor in own.values()), torch.device("cpu"))
        self._arrived: torch.cuda.Event | None = None
        self._shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in own.items()}
        self._joined: Tensor | None = None
        if device.type == "cpu":
            self._own = {name: tensor.numpy() for name, tensor in own.items()}
            return
        self._own = {}
        joined = _joined([own[name] for name in self._order()], device)
        if device.type != "cuda":  # only CUDA says when a copy has arrived
            self._joined = joined.cpu()
            return
        self._joined = torch.empty(joined.shape, dtype=torch.uint8, pin_memory=True)
        self._joined.copy_(joined, non_blocking=True)
        self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._arrived.record(torch.cuda.current_stream(device))

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Wait until the copy has arrived, and return the arrays by their names.

        They are views of one buffer, or of the tensors themselves if these are on the CPU.
        """
        if self._arrived is not None:
            self._arrived.synchronize()
        if self._joined is None:
            return dict(self._own)
        found, start = {}, 0
        for name in self._order():
            shape, dtype = self._shapes[name]
            stop = start + shape.numel() * dtype.itemsize
            found[name] = self._joined[start:stop].view(dtype).view(shape).numpy()
            start = stop
        return {name: found[name] for name in self._shapes}

    def _order(self) -> list[str]:
        """Return the names, those of the largest elements first, so that each is aligned."""
        return sorted(self._shapes, key=lambda name: -self._shapes[name][1].itemsize)


def _joined(tensors: list[Tensor], device: torch.device) -> Tensor:
    """Return the bytes of tensors as one tensor on a device."""
    rows = (tensor.to(device).reshape(-1).contiguous() for tensor in tensors)
    return torch.cat([row.view(torch.uint8) for row in rows])
