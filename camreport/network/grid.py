"""The layout of the spatial grid in a layer's output: channels first, channels last, or tokens.

Convolutional networks give ``(N, C, h, w)``. Swin and the like keep channels last,
``(N, h, w, C)``; vision transformers give tokens ``(N, tokens, C)``, row by row, after a class
token or a few. All layouts are converted to ``(N, C, h, w)`` for the maps, and the network gets
its own layout back.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from camreport.errors import LayerError
from camreport.messages import Message, message

MAX_PREFIX_TOKENS = 5
"""Largest number of class, distillation and register tokens before the image's tokens."""

_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.Upsample,
    nn.PixelShuffle,
)


@dataclass(frozen=True)
class Grid:
    """Conversion of a tensor to ``(N, C, h, w)`` and back.

    Attributes:
        size: height and width of the grid.
        channels_last: whether the tensor is ``(N, h, w, C)`` or ``(N, tokens, C)``.
        prefix: number of tokens before those of the grid; None if the tensor has no tokens.
    """

    size: tuple[int, int]
    channels_last: bool = False
    prefix: int | None = None

    @property
    def plain(self) -> bool:
        """Whether the tensor is ``(N, C, h, w)`` already."""
        return not self.channels_last

    def read(self, tensor: Tensor) -> Tensor:
        """Return the tensor as ``(N, C, h, w)``, without the prefix tokens."""
        if self.plain:
            return tensor
        if self.prefix is not None:
            tensor = tensor[:, self.prefix :].reshape(len(tensor), *self.size, -1)
        return tensor.permute(0, 3, 1, 2).contiguous()

    def restore(self, values: Tensor, original: Tensor) -> Tensor:
        """Return values ``(N, C, h, w)`` in the layout of the original, with its prefix tokens."""
        if self.plain:
            return values
        values = values.permute(0, 2, 3, 1)
        if self.prefix is None:
            return values
        return torch.cat([original[:, : self.prefix], values.flatten(1, 2)], 1)

    def described(self, tensor: Message) -> Message:
        """Return a tensor's description with its layout, unless that is ``(N, C, h, w)``."""
        if self.plain:
            return tensor
        if self.prefix is None:
            return message("network.tensor.channels_last", tensor=tensor)
        height, width = self.size
        size: dict[str, int | Message] = {"tensor": tensor, "tokens": height * width}
        size |= {"width": width, "height": height}
        if self.prefix == 0:
            return message("network.tensor.tokens", **size)
        if self.prefix == 1:
            return message("network.tensor.class_token", **size)
        return message("network.tensor.prefix", count=self.prefix, **size)


def grid_of(tensor: Tensor, module: nn.Module, image: tuple[int, int]) -> Grid:
    """Return the grid in a module's output.

    A grid has the proportions of the image, up to rounding in strided layers.

    Args:
        tensor: the module's output.
        module: the module that returned the tensor.
        image: height and width of the model's input.

    Raises:
        LayerError: the output has no grid; the message gives the reason.
    """
    shape = tuple(tensor.shape[1:])
    if tensor.ndim == 4:
        first, second, third = shape
        last = is_like(first, second, image) and not isinstance(module, _CHANNELS_FIRST)
        if is_like(second, third, image) and not (last and _ends_on_last_axis(module)):
            return Grid((second, third))
        if last:
            return Grid((first, second), channels_last=True)
        if not _works_on_last_axis(module):
            return Grid((second, third))
        raise LayerError(
            f"{shape}, neither (C, h, w) nor (h, w, C) of a grid like the image's "
            f"{image[0]} × {image[1]}: windows, perhaps"
        )
    if tensor.ndim == 3:
        return _token_grid(shape[0], image)
    raise LayerError(f"{shape}, without height and width")


def _token_grid(tokens: int, image: tuple[int, int]) -> Grid:
    height, width = image
    for prefix in range(MAX_PREFIX_TOKENS + 1):
        rows = round(((tokens - prefix) * height / width) ** 0.5) if tokens > prefix else 0
        columns = (tokens - prefix) // rows if rows else 0
        if rows * columns == tokens - prefix and rows * width == columns * height and rows:
            return Grid((rows, columns), channels_last=True, prefix=prefix)
    raise LayerError(
        f"{tokens} tokens, no grid like the image's {height} × {width}, nor one with up to "
        f"{MAX_PREFIX_TOKENS} tokens in front of it"
    )


def is_like(rows: int, columns: int, image: tuple[int, int]) -> bool:
    """Return whether a grid has the image's proportions, each side rounded by up to one."""
    return abs(rows * image[1] - columns * image[0]) <= image[0] + image[1]


def is_convolutional(module: nn.Module) -> bool:
    """Return whether a module is, or contains, a channels-first layer or a rectifier."""
    parts = list(module.modules())
    return any(isinstance(part, (*_CHANNELS_FIRST, nn.ReLU, nn.SiLU, nn.ReLU6)) for part in parts)


def is_permute(module: nn.Module) -> bool:
    """Return whether a module is torchvision's Permute, without importing torchvision."""
    kind = type(module)
    return kind.__name__ == "Permute" and kind.__module__.startswith("torchvision.")


def _ends_on_last_axis(module: nn.Module) -> bool:
    """Return whether the module's last conclusive submodule keeps channels last.

    The answer is needed if there are about as many channels as rows and columns.
    """
    for part in reversed(list(module.modules())):
        if is_permute(part):
            return bool(getattr(part, "dims", (0,))[-1] == 1)
        if type(part) in (nn.LayerNorm, nn.Linear):  # a LayerNorm2d is another class
            return True
        if isinstance(part, _CHANNELS_FIRST):
            return False
    return False


def _works_on_last_axis(module: nn.Module) -> bool:
    """Return whether a module may keep channels last, or return windows."""
    parts = list(module.modules())
    if any(isinstance(part, _CHANNELS_FIRST) for part in parts):
        return False
    kinds = (nn.Linear, nn.LayerNorm, nn.MultiheadAttention)
    unknown = len(parts) == 1 and not type(module).__module__.startswith("torch.nn.")
    return unknown or any(isinstance(part, kinds) for part in parts)
