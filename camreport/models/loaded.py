"""``LoadedModel``: a classifier together with what is needed to use and to cite it."""

import hashlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from camreport.errors import ModelError
from camreport.images.preprocessing import Preprocessing
from camreport.network.logits import logits_of
from camreport.network.state import gradients_on, preserved
from camreport.settings import AUTO

RANDOM = "random weights: the model is untrained, the maps reflect its architecture only"
"""What a report on an untrained network says."""

CONNECT_SECONDS = 10
"""How long the server of the weights may take to answer."""

_ADVICE = (
    (
        r"missing \d+ required|unexpected keyword|positional argument",
        "It is called with the images alone: wrap it in a module whose forward takes nothing else.",
    ),
    (
        r"channels",
        "Images have three channels here: wrap the model in a module that makes its channels.",
    ),
    (
        r"on the same device|device type|is on cpu|is on cuda",
        "Move all of its tensors to one device: register them as buffers, or name --device.",
    ),
    (
        r"mat1 and mat2|\bshapes?\b|\bsizes?\b|\bheight\b|\bwidth\b|\bdimensions?\b|resolution",
        "Is that its size? --image-size changes it.",
    ),
)
"""What an error of a model's own code speaks of, and the way on; the first that fits counts."""

SEED = 0
"""Seed of random weights, so that equal runs are equal."""


@dataclass(frozen=True)
class LoadedModel:
    """A classifier, its preprocessing, class names and provenance.

    Attributes:
        module: maps ``(N, 3, H, W)`` to logits ``(N, num_classes)``, or to something that holds
            them.
        preprocessing: from a photograph to a model input.
        class_names: one per class index; empty where they are not known before a forward pass.
        name: as on the command line.
        source: where the weights come from, in words; no path of the user's machine.
        sha256: of the weights, hexadecimal.
        notes: what the user should be told about how it was loaded.
        warning: what every reader of a report must know, or nothing.
        output: which part of what the module returns holds the logits: a key, an attribute or
            a number; None where that is plain.
        activation: how they become probabilities: ``softmax``, ``sigmoid``, ``none``, or ``auto``
            where the model's outputs have to tell.
    """

    module: nn.Module
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    name: str
    source: str
    sha256: str
    notes: tuple[str, ...] = field(default=())
    warning: str = ""
    output: str | None = None
    activation: str = AUTO

    @property
    def parameter_count(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.module.parameters())


@dataclass(frozen=True)
class Architecture:
    """A classifier without its weights.

    Attributes:
        name: as on the command line.
        preprocessing: its own, where a weights file brings none.
        build: makes one for the tensors of a state dict: as many classes, as wide a classifier.
        preprocessing_source: whose preprocessing that is, in words.
        class_names: one per class index, where it brings them.
        output: as for ``LoadedModel``.
        activation: as for ``LoadedModel``.
        current_names: renames the tensors of a file that an older version saved.
        notes: what a state dict does not tell and is assumed.
    """

    name: str
    preprocessing: Preprocessing
    build: Callable[[Mapping[str, Tensor]], nn.Module]
    preprocessing_source: str
    class_names: tuple[str, ...] = ()
    output: str | None = None
    activation: str = AUTO
    current_names: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict
    notes: tuple[str, ...] = ()


@contextmanager
def alone_in_argv(where: str) -> Iterator[None]:
    """Show the user's code a command line without arguments: those given are camreport's."""
    before = sys.argv
    sys.argv = [where]
    try:
        yield
    finally:
        sys.argv = before


def check_module(module: object) -> None:
    """Refuse what cannot be entered or has no weights yet.

    Raises:
        ModelError: it is no module, an exported one, one with TorchScript or quantised layers, or
            it has uninitialised or meta tensors.
    """
    kind = type(module).__name__
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"model: expected a torch.nn.Module, got {kind}. An exported program or a function "
            "has no layers that can be read: pass the module it was made from."
        )
    if {"train", "eval"} & vars(module).keys():
        raise ModelError(
            f"model: {kind} is an exported program, which has one mode and no layers of its own. "
            "Pass the module it was made from."
        )
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise ModelError(
            f"model: {kind} is a TorchScript module, or holds one, whose layers cannot be read. "
            "Build the Python module it was made from, and load the script's state_dict() into it."
        )
    quantised = [part for part in module.modules() if _is_quantised(part)]
    if quantised:
        raise ModelError(
            f"model: {kind} has quantised layers ({type(quantised[0]).__name__}), whose tensors "
            "have no gradients and cannot be read. Pass the float module they were made from."
        )
    tensors = [*module.parameters(), *module.buffers()]
    if any(is_lazy(tensor) for tensor in tensors):
        raise ModelError(
            f"model: {kind} has lazy layers without weights. Run it once on an image, "
            "model(torch.zeros(1, 3, 224, 224)), load its weights, and pass it again."
        )
    if any(tensor.is_meta for tensor in tensors):
        raise ModelError(
            f"model: {kind} has tensors on the meta device, which hold no weights. "
            "Load them first: model.to_empty(device='cpu') and load_state_dict."
        )


def _is_quantised(part: nn.Module) -> bool:
    """Say whether a layer computes with integers; dynamic ones take and return floats."""
    home = type(part).__module__
    return ".quantized" in home and ".dynamic" not in home


def wrap_module(module: nn.Module) -> LoadedModel:
    """Take a user's own module as it is; its classes are counted in the first forward pass.

    Raises:
        ModelError: as for ``check_module``.
    """
    check_module(module)
    return LoadedModel(
        module=module,
        preprocessing=Preprocessing(),
        class_names=(),
        name=type(module).__name__,
        source="a module passed from Python",
        sha256=state_sha256(module),
        notes=("preprocessing: none is known, ImageNet's is assumed",),
    )


def with_random_weights(
    architecture: Architecture, whose: str, num_classes: int, build: Callable[[], nn.Module]
) -> LoadedModel:
    """Return an architecture with random weights, the same every time, and a warning.

    Args:
        architecture: its name and preprocessing.
        whose: who wrote it.
        num_classes: of the last layer.
        build: draws the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        module = build().eval()
    return LoadedModel(
        module=module,
        preprocessing=architecture.preprocessing,
        class_names=numbered_classes(num_classes),
        name=architecture.name,
        source=f"{whose} architecture with random weights (seed {SEED})",
        sha256=state_sha256(module),
        warning=RANDOM,
    )


def state_sha256(module: nn.Module) -> str:
    """Return a digest of a module's parameters and buffers: their names, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        if not isinstance(tensor, Tensor):  # a module's extra state
            digest.update(f"{name}{tensor!r}".encode())
            continue
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        values = tensor.detach().cpu().contiguous().flatten()
        digest.update(values.view(torch.uint8).numpy().data if values.numel() else b"")
    return digest.hexdigest()


def numbered_classes(count: int) -> tuple[str, ...]:
    """Return ``class 0``, ``class 1``, …: names for classes nobody has named."""
    return tuple(f"class {index}" for index in range(count))


def first_line(error: BaseException) -> str:
    """Return an exception's kind and the first line of what it says."""
    said = str(error).splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__


def count_classes(
    module: nn.Module, preprocessing: Preprocessing, output: str | None = None
) -> int:
    """Return how many classes a model tells apart, by running it once.

    Args:
        module: comes back as it was found.
        preprocessing: says which size its images have.
        output: which part of what the model returns holds the logits.

    Raises:
        ModelError: it returns no logits, or its own code fails on an image of that size.
    """
    parameter = next(module.parameters(), torch.empty(0))
    blank = parameter.new_zeros(1, 3, *preprocessing.size)
    try:
        with preserved(module), gradients_on():
            returned = module(blank.requires_grad_().clone())
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a model's own code raises
        height, width = preprocessing.size
        raise ModelError(
            f"model: {type(module).__name__} fails on an image of {width} × {height}: "
            f"{first_line(error).rstrip('.')}. {_way_on(error)}"
        ) from error
    return logits_of(returned, 1, output).shape[1]


def _way_on(error: Exception) -> str:
    """Say what to do about a model that fails, by what its error speaks of."""
    said = str(error)
    for pattern, advice in _ADVICE:
        if re.search(pattern, said, re.IGNORECASE):
            return advice
    return "The error comes from the model's own code; --debug shows where."
