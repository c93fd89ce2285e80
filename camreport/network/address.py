"""Layer addresses: from the text that a user writes to the module whose output a map uses.

``features.0`` names a module. If the module is a convolution or linear layer inside a
``Sequential`` whose next sibling (one normalisation layer skipped) is an activation, the map
uses the tensor after that activation; otherwise it uses the module's own output. The reason is
that the methods assume A >= 0, and that other libraries disagree about the tensor in front of an
in-place activation. ``features.0:pre`` uses the module's own output, ``name#k`` the output of call
k of a module that runs several times. A bare ``0`` is short for ``features.0``, ``features.-1`` is
the last child of ``features``, and ``layer*`` or ``features.*`` are patterns that match names part
by part between the dots.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from camreport.errors import LayerError, suggestion
from camreport.messages import Message, message
from camreport.settings import check_address

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
"""Activations whose output is used when the layer in front of them is addressed."""

NORMALISATIONS = (
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.modules.instancenorm._InstanceNorm,
)
"""Normalisation layers; one of them may come between a layer and its activation."""


@dataclass(frozen=True)
class Layer:
    """The tensor of a network that one map uses.

    Attributes:
        address: canonical name, e.g. ``features.0``, ``features.0:pre``, ``layer1.0.relu#1``.
        point: hook point, the name (and call) of the module whose output is captured.
        type: class name of the addressed module.
        tensor: description of the captured tensor: ``after ReLU`` or ``own output``.
    """

    address: str
    point: str
    type: str
    tensor: Message

    @property
    def module(self) -> str:
        """Name of the captured module, without the number of its call."""
        return self.point.partition("#")[0]


def resolve_layer(model: nn.Module, given: str | int | nn.Module) -> Layer:
    """Return the layer that an address, a number or a module object refers to.

    Raises:
        LayerError: the model has no such module.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    if isinstance(given, nn.Module):
        given = next((name for name, module in modules.items() if module is given), "")
        if not given:
            raise LayerError("layer: expected a module of this model, got one that is not in it.")
    address = str(given).strip()
    name, _, variant = address.partition(":")
    name, _, call = name.partition("#")
    if _is_number(name) and name not in modules and "features" in modules:
        name, address = f"features.{name}", f"features.{address}"
    counted = _from_the_end(modules, name)
    name, address = counted, counted + address.removeprefix(name)
    if not name or name not in modules:
        raise LayerError(
            f"layer: expected a module of {type(model).__name__}, got {address!r}."
            + (suggestion(name, filter(None, modules)) or f" It has {_examples(modules)}.")
        )
    check_address(address)
    after = None if variant or call else _activation_after(modules, name)
    return Layer(
        address=address,
        point=after or (f"{name}#{call}" if call else name),
        type=type(modules[name]).__name__,
        tensor=(
            message("network.tensor.after", activation=type(modules[after]).__name__)
            if after
            else message("network.tensor.own")
        ),
    )


def is_pattern(given: object) -> bool:
    """Return whether an address is a pattern, which can match any number of modules."""
    return isinstance(given, str) and any(character in given for character in "*?[")


def matching_names(names: Iterable[str], pattern: str) -> list[str]:
    """Return the names that a pattern matches part by part; ``*`` does not match a dot."""
    wanted = pattern.split(".")
    return [
        name
        for name in names
        if len(parts := name.split(".")) == len(wanted)
        and all(fnmatchcase(part, one) for part, one in zip(parts, wanted, strict=True))
    ]


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _from_the_end(modules: Mapping[str, nn.Module], name: str) -> str:
    """Return a name with negative numbers, as in ``features.-1``, replaced by the child's name."""
    found = ""
    for part in name.split("."):
        children = list(modules[found]._modules) if found in modules else []
        if part[:1] == "-" and part not in children and _is_number(part):
            if int(part) < -len(children):
                return name
            part = children[int(part)]
        found = f"{found}.{part}" if found else part
    return found


def _activation_after(modules: Mapping[str, nn.Module], name: str) -> str | None:
    """Return the name of the activation that directly follows a convolution or linear layer."""
    parent_name, _, _ = name.rpartition(".")
    parent = modules[parent_name]
    if not isinstance(parent, nn.Sequential) or not isinstance(
        modules[name], nn.modules.conv._ConvNd | nn.Linear
    ):
        return None
    siblings = [(child, module) for child, module in parent._modules.items() if module]
    own = [child for child, _ in siblings].index(name.rpartition(".")[2])
    following: Sequence[tuple[str, nn.Module]] = siblings[own + 1 : own + 3]
    if following and isinstance(following[0][1], NORMALISATIONS):
        following = following[1:]
    if not following or not isinstance(following[0][1], ACTIVATIONS):
        return None
    child = following[0][0]
    return f"{parent_name}.{child}" if parent_name else child


def _examples(modules: Mapping[str, nn.Module]) -> str:
    names = [name for name in modules if name]
    return ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
