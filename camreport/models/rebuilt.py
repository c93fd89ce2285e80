"""Whole models rebuilt from the recipes in a file, with known classes and checked attributes.

A file cannot bring code, but it could replace a method by a value, or use a value that makes
torch's own code do more than compute. So classes come from torch's layers, torchvision's
classifiers and our AlexNet only, and their instances get parameters, buffers, children and plain
values only.
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TypeGuard

import torch
import torchvision.ops.misc
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.lazy import LazyModuleMixin

from camreport.errors import ModelError
from camreport.models.pickled import Made, Named

MAX_MODULES = 20_000
"""Most modules of a model; torchvision's largest has some 1,500."""

MAX_WAYS = 100_000
"""Most paths to modules: a walk over a model visits a shared module once per path."""

MAX_DEPTH = 60
"""Largest depth of nested modules, and of nested plain values."""

MAX_VALUES = 1_000_000
"""Most entries and plain values in all attributes of a file's modules."""

MAX_NAME = 200
"""Most characters in the name of a module's part."""

MAX_REPEATS = 1_000
"""Most layers of a recurrent module."""

_HOMES = (
    "torch.nn.modules.",
    "torch.nn.parallel.data_parallel",
    "camreport.models.alexnet",
    "torchvision.models.",
    "torchvision.ops.",
)
_NOT_CLASSIFIERS = tuple(
    f"torchvision.models.{task}."
    for task in ("detection", "optical_flow", "quantization", "segmentation", "video")
)
_NORMS = (
    nn.LayerNorm,
    nn.GroupNorm,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm2d,
    torchvision.ops.misc.FrozenBatchNorm2d,
)
_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "torch.nn.functional.relu": functional.relu,
    "torch.nn.functional.gelu": functional.gelu,
    "torch._C._nn.gelu": functional.gelu,
}
_PARTIAL = "functools.partial"
_FRESH = nn.Module().__dict__
_SCRIPTED = "__overloads__"  # an empty table that torch.jit.script leaves in compiled modules
_HOOKS = {name for name in _FRESH if "hooks" in name}
"""Tables of a module with functions that run during its passes."""


@cache
def known_classes() -> dict[str, type[nn.Module]]:
    """Return torch's layers and the modules of torchvision's classifiers, by their names."""
    sources = [module for name, module in list(sys.modules.items()) if name.startswith(_HOMES)]
    found = {
        f"{member.__module__}.{member.__qualname__}": member
        for source in sources
        for _, member in inspect.getmembers(source, inspect.isclass)
        if issubclass(member, nn.Module) and not issubclass(member, LazyModuleMixin)
    }
    return {
        name: member
        for name, member in found.items()
        if name.startswith(_HOMES) and not name.startswith(_NOT_CLASSIFIERS)
    }


@cache
def known_names() -> frozenset[str]:
    """Return all names that a whole model may ask for."""
    return frozenset({*known_classes(), *_FUNCTIONS, _PARTIAL})


def class_of(value: object) -> type[nn.Module] | None:
    """Return the class of the module that a value describes; None if it describes none."""
    if isinstance(value, Made) and isinstance(value.what, Named):
        return known_classes().get(value.what.path)
    return None


def is_module(value: object) -> TypeGuard[Made]:
    """Return whether a value describes a module."""
    return class_of(value) is not None


@dataclass
class Rebuilder:
    """Rebuilds the modules of one file; a shared module stays shared."""

    _built: dict[int, nn.Module] = field(default_factory=dict)
    _extents: dict[nn.Module, tuple[int, int]] = field(default_factory=dict)
    _open: set[int] = field(default_factory=set)
    _values: int = 0

    def rebuild(self, made: Made) -> nn.Module:
        """Return the module of a recipe.

        Raises:
            ModelError: it has hooks, values that replace methods, or values that are not plain.
        """
        if id(made) in self._built:
            return self._built[id(made)]
        module = self._module(made, 0)
        try:
            repr(module)
            module.state_dict()
        except Exception as error:  # torch's own code fails on unexpected values
            raise ModelError(
                f"damaged: a value in its {type(module).__name__} is of a wrong kind ({error})."
            ) from error
        return module

    def _module(self, made: Made, depth: int) -> nn.Module:
        if id(made) in self._built:
            return self._built[id(made)]
        if id(made) in self._open or depth > MAX_DEPTH:
            raise ModelError("damaged: a module in it contains itself, or too many others.")
        kind = class_of(made)
        if kind is None or made.args or not isinstance(made.state, dict):
            raise ModelError("damaged: a module in it has no attributes.")
        self._open.add(id(made))
        self._spend(kind, len(made.state))
        state = {
            name: self._attribute(kind, name, value, depth) for name, value in made.state.items()
        }
        self._open.remove(id(made))
        _check_apart(kind, state)
        module = nn.Module.__new__(kind)
        nn.Module.__init__(module)
        try:
            module.__setstate__(state)  # type: ignore[no-untyped-call]
        except Exception as error:  # as above
            raise ModelError(f"damaged: a {kind.__name__} in it lacks {error}.") from error
        self._measure(module)
        self._built[id(made)] = module
        return module

    def _measure(self, module: nn.Module) -> None:
        """Bound the number of paths to a module's parts and their depth, for walks over a model."""
        parts = [part for part in module._modules.values() if part is not None]
        inside = [self._extents[part] for part in parts]
        ways = 1 + sum(count for count, _ in inside)
        height = 1 + max((height for _, height in inside), default=0)
        if ways > MAX_WAYS or height > MAX_DEPTH or len(self._built) >= MAX_MODULES:
            raise ModelError(f"refused: a {type(module).__name__} in it contains too many modules.")
        self._extents[module] = ways, height

    def _spend(self, kind: type[nn.Module], count: int) -> None:
        """Count the values of attributes: a thousand modules may share one table."""
        self._values += count
        if self._values > MAX_VALUES:
            raise ModelError(f"refused: the attributes of a {kind.__name__} in it hold too much.")

    def _attribute(self, kind: type[nn.Module], name: object, value: object, depth: int) -> object:
        """Return a checked attribute."""
        if not isinstance(name, str) or not name.isidentifier():
            raise ModelError(f"refused: a {kind.__name__} in it has an attribute without a name.")
        if name in _HOOKS:
            return _no_hooks(kind, name, value)
        if name == "_modules":
            return {
                key: None if part is None else self._child(kind, key, part, depth)
                for key, part in self._entries(kind, name, value).items()
            }
        if name in ("_parameters", "_buffers"):
            expected = nn.Parameter if name == "_parameters" else Tensor
            entries = self._entries(kind, name, value)
            if not all(entry is None or isinstance(entry, expected) for entry in entries.values()):
                raise _unexpected(kind, name)
            return entries
        if name == "training" and isinstance(value, bool):
            return value
        if name == "_is_full_backward_hook" and (value is None or isinstance(value, bool)):
            return value
        if name == "_non_persistent_buffers_set" and isinstance(value, set):
            self._spend(kind, len(value))
            return {key for key in value if isinstance(key, str)}
        if name == _SCRIPTED and value == {}:
            return {}
        if name in _FRESH or name.startswith("__") or hasattr(kind, name):
            raise ModelError(
                f"refused: a {kind.__name__} in it brings a {name!r} of its own, which belongs to "
                "its class."
            )
        return self._plain(kind, name, value, 0)

    def _entries(self, kind: type[nn.Module], name: str, value: object) -> dict[str, object]:
        """Return a table of parameters, buffers or children whose names are possible ones."""
        if not isinstance(value, Mapping):
            raise _unexpected(kind, name)
        self._spend(kind, len(value))
        for key in value:
            fits = isinstance(key, str) and 0 < len(key) <= MAX_NAME and "." not in key
            if not fits or hasattr(kind, key):
                raise ModelError(
                    f"refused: a {kind.__name__} in it calls a part {str(key)[:40]!r}, which is no "
                    "name for one."
                )
        return dict(value)

    def _child(self, kind: type[nn.Module], name: str, value: object, depth: int) -> nn.Module:
        if not is_module(value):
            raise _unexpected(kind, name)
        return self._module(value, depth + 1)

    def _plain(self, kind: type[nn.Module], name: str, value: object, depth: int) -> object:
        """Return a plain value: a number, a text, a known function, or a container of these."""
        self._spend(kind, 1)
        if depth > MAX_DEPTH:
            raise ModelError(f"refused: {name!r} of a {kind.__name__} in it contains too much.")
        inside = partial(self._plain, kind, name, depth=depth + 1)
        match value:
            case None | bool() | float() | str() | torch.dtype() | torch.device():
                return value
            case nn.Parameter() if name == "_flat_weights":  # of a recurrent module, once more
                return value
            case int() if abs(value) < 2**63 and (name != "num_layers" or value <= MAX_REPEATS):
                return value
            case list() | tuple() | set() | frozenset():
                return type(value)(inside(item) for item in value)
            case dict():
                return {key: inside(item) for key, item in value.items()}
            case Named() if value.path in _FUNCTIONS:
                return _FUNCTIONS[value.path]
            case Named() if issubclass(known_classes().get(value.path, nn.Module), _NORMS):
                return known_classes()[value.path]
            case Made(what=Named(module="functools", name="partial")):
                return self._norm_layer(kind, name, value)
        raise _unexpected(kind, name)

    def _norm_layer(self, kind: type[nn.Module], name: str, made: Made) -> object:
        """Return a norm layer with its own ``eps``, as in ViT and ConvNeXt."""
        match made.args, made.state:
            case (Named() as first,), (Named() as norm, (), dict() as options, _) if first == norm:
                layer = known_classes().get(norm.path, nn.Module)
                eps = options.get("eps")
                if issubclass(layer, _NORMS) and set(options) == {"eps"} and isinstance(eps, float):
                    return partial(layer, eps=eps)  # type: ignore[misc]
        raise ModelError(
            f"refused: {name!r} of a {kind.__name__} in it is a functools.partial, and not of a "
            "norm layer with eps."
        )


def _unexpected(kind: type[nn.Module], name: str) -> ModelError:
    return ModelError(
        f"refused: {name!r} of a {kind.__name__} in it is neither a plain value nor of the "
        "expected kind. Save the weights alone with torch.save(model.state_dict(), file)."
    )


def _no_hooks(kind: type[nn.Module], name: str, value: object) -> object:
    """Return the empty table of a module without hooks.

    Raises:
        ModelError: there are hooks.
    """
    if not isinstance(value, Mapping) or value:
        raise ModelError(
            f"refused: a {kind.__name__} in it has hooks ({name}), which would run code. Remove "
            "them, or save the weights alone with torch.save(model.state_dict(), file)."
        )
    return type(_FRESH[name])()


def _check_apart(kind: type[nn.Module], state: Mapping[str, object]) -> None:
    """Check that no attribute hides a parameter, a buffer or a child of the same name.

    Raises:
        ModelError: one does.
    """
    tables = [state.get(name) for name in ("_parameters", "_buffers", "_modules")]
    names = [key for table in tables if isinstance(table, dict) for key in table]
    if len({*names, *state}) < len(names) + len(state):
        raise ModelError(f"refused: a {kind.__name__} in it has two things of one name.")
