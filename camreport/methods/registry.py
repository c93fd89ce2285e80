"""The one table of methods: command line, gallery, documents and tests all read it.

A method is a function in this package under ``@method``, texts in ``messages/methods.toml`` and
an oracle in ``tests/helpers/reference.py``. Nothing here imports torch.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from camreport.errors import MethodError, suggestion
from camreport.messages import Message, message
from camreport.settings import split_list

if TYPE_CHECKING:
    from torch import Tensor

P = ParamSpec("P")
F = TypeVar("F", bound="Callable[..., Tensor]")


@dataclass(frozen=True)
class Need:
    """What a kind of method is computed from, which decides what it costs.

    Attributes:
        key: its name in the table of messages, which words its name and its cost.
        passes: the passes it shares with others: costs are counted by these.
        changes: it changes images or layers and runs the network again, image by image.
        random: it draws noise.
    """

    key: str
    passes: str
    changes: bool = False
    random: bool = False

    @property
    def name(self) -> Message:
        """What it is, in a word or two, for tables."""
        return message(f"methods.needs.{self.key}.name")

    @property
    def cost(self) -> Message:
        """The passes it takes, per batch of images unless it says otherwise."""
        return message(f"methods.needs.{self.key}.cost")


SHARED = "shared passes"
"""The passes whose activations and gradients most methods are made of."""

GRADIENT = Need("gradient", SHARED)
ACTIVATION = Need("activation", SHARED)
HEAD = Need("head", SHARED)
POOL_GRADIENT = Need("pool_gradient", SHARED)
LOOK_ALIKES = Need("look_alikes", "look-alikes")
NOISE = Need("noise", "noisy copies", random=True)
INPUT_GRADIENT = Need("input_gradient", SHARED)
GUIDED = Need("guided", "guided passes")
MASKED = Need("masked", "masked images", changes=True)
ABLATED = Need("ablated", "tail passes", changes=True)
KEPT = Need("kept", "tail passes", changes=True)

PASSES = tuple(
    dict.fromkeys(need.passes for need in (GRADIENT, LOOK_ALIKES, NOISE, GUIDED, MASKED, ABLATED))
)
"""Kinds of passes, in the order in which they run."""


@dataclass(frozen=True)
class Method:
    """A CAM method as the command line, the gallery and the documents present it.

    Attributes:
        key: the function's name; the name in results and on the command line.
        compute: the pure function; what it takes depends on ``needs``.
        name: as its paper writes it.
        needs: what it is computed from.
        where: the layers at which it makes sense, a name among the messages ``methods.layers``.
        class_specific: False where all classes share one map.
        signed: negative values are evidence against the class and are drawn.
        non_negative: assumes A >= 0, so it is not computed in front of an activation.
        fuses: maps of several layers are also fused into one (LayerCAM).
        on_input: maps have the input's grid instead of the layer's.
        per_layer: False where one map stands for the whole network.
        per_channel: one map per channel, ``(C, h, w)``.
        smooths: the smoothing options apply: a sum over channels of activation and gradient.
        from_least: drawn from its least value up; only differences within a map mean something.
        masks: how Score-CAM's variants turn channels ``(M, h, w)`` into masks ``(M, H, W)``.
        weighs_by: which score of a changed pass it reads; None where the task's quantity decides.
        largest_grid: most positions of a layer at which ``all`` includes it; None is any.
        by_name: left out of ``all``: a library's variant, or too large to keep unasked.
        aliases: further names that are in use.
    """

    key: str
    compute: "Callable[..., Tensor]"
    name: str
    needs: Need
    _: KW_ONLY
    where: str = "any"
    class_specific: bool = True
    signed: bool = False
    non_negative: bool = False
    fuses: bool = False
    on_input: bool = False
    per_layer: bool = True
    per_channel: bool = False
    smooths: bool = False
    from_least: bool = False
    masks: "Callable[[Tensor, tuple[int, int]], Tensor] | None" = None
    weighs_by: str | None = None
    largest_grid: int | None = None
    by_name: bool = False
    aliases: tuple[str, ...] = ()

    @property
    def meaning(self) -> Message:
        """What a map shows, in one sentence."""
        return message(f"methods.{self.key}.meaning")

    @property
    def caution(self) -> Message:
        """What not to read into a map, in one sentence."""
        return message(f"methods.{self.key}.caution")

    @property
    def formula(self) -> str:
        """One line of plain text."""
        return str(message(f"methods.{self.key}.formula"))

    @property
    def source(self) -> str:
        """Authors, year and address of the paper."""
        return str(message(f"methods.{self.key}.source"))

    @property
    def layers(self) -> Message:
        """The layers at which it makes sense, in words."""
        return message(f"methods.layers.{self.where}")


METHODS: dict[str, Method] = {}
"""Every method by its key, in the order in which tables show them."""

DEFAULT_METHODS = ("grad_cam", "layer_cam")
"""The methods of a run that names none."""


def _registering(
    make: "Callable[Concatenate[str, Callable[..., Tensor], P], Method]",
) -> Callable[P, Callable[[F], F]]:
    def method(*facts: P.args, **further: P.kwargs) -> Callable[[F], F]:
        def register(compute: F) -> F:
            key = compute.__name__
            METHODS[key] = make(key, compute, *facts, **further)
            return compute

        return register

    return method


method = _registering(Method)
"""Decorator: register a function as a method, with the further arguments of ``Method``."""


def resolve_methods(names: str | Iterable[str]) -> list[Method]:
    """Find methods by names in any of the field's spellings, without repeats.

    Case, spaces, dashes and underscores do not matter: ``gradcam``, ``Grad-CAM``, ``GradCAM++``.
    ``all`` takes one variant of each method. A method given by name has no largest grid.

    Args:
        names: ``all``, names separated by commas, or a sequence of names.

    Raises:
        MethodError: a name is unknown, or there is none.
    """
    listed = split_list(names) if isinstance(names, str) else list(names)
    by_spelling = {
        _spelling(name): method
        for method in METHODS.values()
        for name in (*method.aliases, method.name, method.key)
    }
    found: dict[str, Method] = {}
    for name in filter(str.strip, listed):
        if _spelling(name) == "all":
            found = {k: m for k, m in METHODS.items() if not m.by_name} | found
        elif _spelling(name) in by_spelling:
            method = by_spelling[_spelling(name)]
            found[method.key] = replace(method, largest_grid=None)
        else:
            near = suggestion(name.strip().lower(), METHODS) or f" There are {', '.join(METHODS)}."
            raise MethodError(
                "methods: expected 'all' or names that 'camreport methods' lists, got "
                f"{name.strip()!r}.{near}"
            )
    if not found:
        raise MethodError(f"methods: expected at least one of {', '.join(METHODS)}, got none.")
    return list(found.values())


def _spelling(name: str) -> str:
    return re.sub(r"[\s_()-]", "", name.strip().lower()).replace("+", "plus").replace("×", "x")
