"""Layer addresses: from what a user writes to the module whose output a map reads.

``features.0`` names a module. Where it is a convolution or linear layer inside a
``Sequential`` whose next sibling (one normalisation layer skipped) is an activation, the map
reads the tensor after that activation; everywhere else the module's own output. The methods
assume A >= 0, and in-place activations make libraries disagree exactly there.
``features.0:pre`` reads the module's own output, ``name#k`` call k of a module that runs
several times, and a bare ``0`` is short for ``features.0``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models import AlexNet

from camreport.errors import LayerError, suggestion

ACTIVATIONS = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.RReLU,
    nn.SiLU,
    nn.GELU,
    nn.Hardswish,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.Sigmoid,
    nn.Hardsigmoid,
    nn.Tanh,
)
"""Activations that an address in front of them reads through."""

NORMALISATIONS = (
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.modules.instancenorm._InstanceNorm,
)
"""Normalisation layers, one of which may stand between a layer and its activation."""

ALEXNET_LAYERS = tuple(f"features.{index}" for index in (0, 3, 6, 9, 12))
"""The layers the course compares."""


@dataclass(frozen=True)
class Layer:
    """Where one map is read.

    Attributes:
        address: canonical name, e.g. ``features.0``, ``features.0:pre``, ``layer1.0.relu#1``.
        reads: name (and call) of the module whose output is captured.
        type: class name of the addressed module.
        tensor: which tensor that is, in words: ``after ReLU`` or ``own output``.
    """

    address: str
    reads: str
    type: str
    tensor: str

    @property
    def module(self) -> str:
        """Name of the captured module, without its call."""
        return self.reads.partition("#")[0]


def resolve_layer(model: nn.Module, asked: str | int | nn.Module) -> Layer:
    """Find the tensor that an address, a number or a module object stands for.

    Raises:
        LayerError: the model has no such module.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    if isinstance(asked, nn.Module):
        asked = next((name for name, module in modules.items() if module is asked), "")
        if not asked:
            raise LayerError("layer: expected a module of this model, got one that is not in it.")
    address = str(asked).strip()
    name, _, variant = address.partition(":")
    name, _, call = name.partition("#")
    if name.isdecimal() and name not in modules:
        name, address = f"features.{name}", f"features.{address}"
    if not name or name not in modules:
        raise LayerError(
            f"layer: expected a module of {type(model).__name__}, got {address!r}."
            + (suggestion(name, filter(None, modules)) or f" It has {_examples(modules)}.")
        )
    if variant not in ("", "pre") or (call and not call.isdigit()):
        raise LayerError(
            f"layer: expected 'name', 'name:pre' or 'name#call', got {address!r}. "
            f"For instance {name}:pre or {name}#0."
        )
    after = None if variant or call else _activation_after(modules, name)
    return Layer(
        address=address,
        reads=after or (f"{name}#{call}" if call else name),
        type=type(modules[name]).__name__,
        tensor=f"after {type(modules[after]).__name__}" if after else "own output",
    )


def auto_layers(model: nn.Module, image: Tensor) -> list[str]:
    """Choose layers to compare: one per spatial resolution, early to late, five at most.

    AlexNet's are the course's 0, 3, 6, 9 and 12. Elsewhere they are the last tensors of the
    latest five resolutions above 1 × 1, under the outermost module that returns each.

    Args:
        model: in evaluation mode.
        image: one model input, ``(1, 3, H, W)``; read by one forward pass unless AlexNet.

    Raises:
        LayerError: the model has no spatial layer.
    """
    if isinstance(model, AlexNet):
        return list(ALEXNET_LAYERS)
    last: dict[tuple[int, ...], tuple[int, str]] = {}
    calls: dict[str, int] = {}

    def note(name: str, output: object) -> None:
        call = calls.get(name, 0)
        calls[name] = call + 1
        if isinstance(output, Tensor) and output.ndim == 4 and output[0, 0].numel() > 1:
            # An enclosing module finishes after its last child with the very same tensor.
            last.pop(tuple(output.shape[-2:]), None)
            last[tuple(output.shape[-2:])] = (call, name)

    hooks = [
        module.register_forward_hook(lambda _m, _i, output, name=name: note(name, output))
        for name, module in model.named_modules()
        if name
    ]
    try:
        with torch.no_grad():
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    if not last:
        raise LayerError(
            f"layer: {type(model).__name__} has no layer with a spatial grid (N, C, h, w)."
        )
    chosen = [name if calls[name] == 1 else f"{name}#{call}" for call, name in last.values()]
    return chosen[-5:]


def spatial_activation(layer: Layer, tensor: Tensor, candidates: Mapping[str, Tensor]) -> Tensor:
    """Return the tensor if it has a spatial grid.

    Raises:
        LayerError: it is not ``(N, C, h, w)``; the spatial ones among the candidates are named.
    """
    if tensor.ndim == 4:
        return tensor
    others = [name for name, other in candidates.items() if other.ndim == 4]
    raise LayerError(
        f"layer: expected a spatial output (N, C, h, w), but {layer.address!r} gives "
        f"{tuple(tensor.shape)}. "
        + (
            f"Spatial among those chosen: {', '.join(others)}."
            if others
            else "Choose a convolution, pooling layer or block."
        )
    )


def _activation_after(modules: Mapping[str, nn.Module], name: str) -> str | None:
    """Return the name of the activation that directly follows a convolution or linear layer."""
    parent_name, _, _ = name.rpartition(".")
    parent = modules[parent_name]
    if not isinstance(parent, nn.Sequential) or not isinstance(
        modules[name], nn.modules.conv._ConvNd | nn.Linear
    ):
        return None
    siblings = [(child, module) for child, module in parent._modules.items() if module]
    place = [child for child, _ in siblings].index(name.rpartition(".")[2])
    following: Sequence[tuple[str, nn.Module]] = siblings[place + 1 : place + 3]
    if following and isinstance(following[0][1], NORMALISATIONS):
        following = following[1:]
    if not following or not isinstance(following[0][1], ACTIVATIONS):
        return None
    child = following[0][0]
    return f"{parent_name}.{child}" if parent_name else child


def _examples(modules: Mapping[str, nn.Module]) -> str:
    names = [name for name in modules if name]
    return ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
