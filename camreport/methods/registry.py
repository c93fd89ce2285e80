"""The one table of methods: command line, gallery, documents and tests all read it.

A method is a function in this package under ``@method``, texts in ``messages/methods.toml`` and
an oracle in ``tests/helpers/reference.py``. Nothing here imports torch.
"""

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Concatenate, Literal, ParamSpec, TypeVar

from camreport.errors import MethodError, suggestion
from camreport.messages import Message, message
from camreport.settings import DEFAULT_METHODS as DEFAULT_METHODS
from camreport.settings import split_list

if TYPE_CHECKING:
    from torch import Tensor

P = ParamSpec("P")
F = TypeVar("F", bound="Callable[..., Tensor]")


@dataclass(frozen=True)
class Requirement:
    """What a kind of method is computed from, which decides what it costs.

    Attributes:
        key: its name in the table of messages, which words its name and its cost.
        passes: the passes it shares with others: costs are counted by these.
        perturbs: it changes images or layers and runs the network again, image by image.
        random: it draws noise.
    """

    key: str
    passes: str
    perturbs: bool = False
    random: bool = False

    @property
    def name(self) -> Message:
        """What it is, in a word or two, for tables."""
        return message(f"methods.needs.{self.key}.name")

    @property
    def cost(self) -> Message:
        """The passes it takes, per batch of images unless it says otherwise."""
        return message(f"methods.needs.{self.key}.cost")


SHARED = "shared"
"""The passes whose activations and gradients most methods are made of."""

GRADIENT = Requirement("gradient", SHARED)
ACTIVATION = Requirement("activation", SHARED)
HEAD = Requirement("head", SHARED)
POOL_GRADIENT = Requirement("pool_gradient", SHARED)
LOOK_ALIKES = Requirement("look_alikes", "look_alikes")
NOISE = Requirement("noise", "noisy_copies", random=True)
INPUT_GRADIENT = Requirement("input_gradient", SHARED)
GUIDED = Requirement("guided", "guided")
MASKED = Requirement("masked", "masked", perturbs=True)
ABLATED = Requirement("ablated", "tail", perturbs=True)
KEPT = Requirement("kept", "tail", perturbs=True)
SHARED_MASKS = Requirement("shared_masks", "shared_masks", perturbs=True, random=True)

PASSES = tuple(
    dict.fromkeys(
        need.passes
        for need in (GRADIENT, LOOK_ALIKES, NOISE, GUIDED, MASKED, ABLATED, SHARED_MASKS)
    )
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
        grid: of a map: the ``layer``'s, the ``input``'s, or the ``cells`` of the shared masks.
        values: ``positive`` values are evidence and drawn; ``signed``: negative ones too, as
            evidence against the class; ``relative``: only differences within a map mean
            something, so it is drawn from its smallest value up.
        scope: a map stands for one ``layer`` or for the whole ``network``.
        per_class: False if all classes share one map.
        per_channel: one map per channel, ``(C, h, w)``.
        non_negative: assumes A >= 0, so it is not computed in front of an activation.
        fuses: maps of several layers are also fused into one (LayerCAM).
        linear: its raw map is linear in the explained score, so that two classes' maps differ by
            the map of the difference of their scores.
        supports_smoothing: a sum over channels of activation and gradient, as the smoothing
            options need it.
        masks: how Score-CAM's variants turn channels ``(M, h, w)`` into masks ``(M, H, W)``.
        weighs_by: the score of a masked pass that it uses; None if the run's quantity decides.
        max_positions: most positions of a layer at which ``all`` includes it; None for any.
        opt_in: left out of ``all``: a library's variant, or maps too large to keep by default.
        aliases: further spellings of its name.
    """

    key: str
    compute: "Callable[..., Tensor]"
    name: str
    needs: Requirement
    _: KW_ONLY
    where: str = "any"
    grid: Literal["layer", "input", "cells"] = "layer"
    values: Literal["positive", "signed", "relative"] = "positive"
    scope: Literal["layer", "network"] = "layer"
    per_class: bool = True
    per_channel: bool = False
    non_negative: bool = False
    fuses: bool = False
    linear: bool = False
    supports_smoothing: bool = False
    masks: "Callable[[Tensor, tuple[int, int]], Tensor] | None" = None
    weighs_by: Literal["probability", "logit"] | None = None
    max_positions: int | None = None
    opt_in: bool = False
    aliases: tuple[str, ...] = ()

    def is_linear(self, smooth: Collection[str]) -> bool:
        """Return whether its raw map is linear in the score under some smoothing options.

        A map's first principal component (``eigen``) is not.
        """
        return self.linear and not (self.supports_smoothing and "eigen" in smooth)

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
    def family(self) -> Literal["gradient", "activation", "perturbation", "network"]:
        """What tables group it by: changed inputs, the whole network, no gradient, or gradients."""
        if self.needs.perturbs:
            return "perturbation"
        if self.scope == "network":
            return "network"
        return "activation" if self.needs in (ACTIVATION, HEAD) else "gradient"

    @property
    def layers(self) -> Message:
        """The layers at which it makes sense, in words."""
        return message(f"methods.layers.{self.where}")


METHODS: dict[str, Method] = {}
"""Every method by its key, in the order in which tables show them."""


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
    ``all`` takes one variant of each method. A method given by name is
    computed on any grid.

    Args:
        names: ``all``, names separated by commas, or a sequence of names.

    Raises:
        MethodError: a name is unknown, or there is none.
    """
    if not isinstance(names, Iterable):
        raise MethodError(
            f"methods: expected 'all' or a list of names, got {names!r}. For instance "
            "methods=['grad_cam', 'layer_cam']."
        )
    listed = split_list(names) if isinstance(names, str) else [str(name) for name in names]
    by_spelling = {
        _spelling(name): method
        for method in METHODS.values()
        for name in (*method.aliases, method.name, method.key)
    }
    found: dict[str, Method] = {}
    for name in filter(str.strip, listed):
        if _spelling(name) == "all":
            found = {k: m for k, m in METHODS.items() if not m.opt_in} | found
        elif _spelling(name) in by_spelling:
            method = by_spelling[_spelling(name)]
            found[method.key] = replace(method, max_positions=None)
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
