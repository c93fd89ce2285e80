"""``LoadedModel``: a classifier together with what is needed to use and to cite it."""

import hashlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from camreport.errors import ModelError
from camreport.images.preprocessing import Preprocessing
from camreport.messages import Message, message
from camreport.network.checks import check_module
from camreport.network.logits import logits_of
from camreport.network.state import gradients_on, preserved, to_model
from camreport.settings import AUTO

RANDOM = message("models.untrained")
"""The warning of a model with random weights."""

CONNECT_SECONDS = 10
"""Seconds in which the server of the weights has to answer."""

_ADVICE = (
    (
        r"missing \d+ required|unexpected keyword|positional argument",
        "It is called with the images alone: wrap it in a module whose forward takes nothing else.",
    ),
    (
        r"\bhalf\b|float16|bfloat16",
        "Weights are read as float32 here: take casts such as .half() out of its forward.",
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
"""Patterns in the errors of a model's code, and what to do next; the first match counts."""

SEED = 0
"""Seed of random weights, so that equal runs are equal."""


@dataclass(frozen=True)
class LoadedModel:
    """A classifier, its preprocessing, class names and provenance.

    Attributes:
        module: maps images ``(N, 3, H, W)`` to logits ``(N, num_classes)``, or to an output that
            contains them.
        preprocessing: turns a photograph into a model input.
        class_names: one per class index; empty if they are unknown before a forward pass.
        name: as on the command line.
        source: where the weights come from; never with a path of the user's machine.
        sha256: SHA-256 of the weights, hexadecimal.
        notes: what was assumed or changed while the model was loaded.
        warning: what every reader of the report has to know; empty if there is nothing.
        output: key, attribute or index of the logits in the module's output; None if the output
            itself is the logits or the choice is clear.
        activation: turns logits into probabilities: ``softmax``, ``sigmoid``, ``none``, or
            ``auto`` to decide from the outputs.
    """

    module: nn.Module
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    name: str
    source: str | Message
    sha256: str
    notes: tuple[str | Message, ...] = field(default=())
    warning: str | Message = ""
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
        preprocessing: used because a weights file contains none.
        build: returns a module with the numbers of classes and units that a state dict has.
        preprocessing_source: whose preprocessing it is.
        class_names: one per class index; empty if they are unknown.
        output: as for ``LoadedModel``.
        activation: as for ``LoadedModel``.
        current_names: renames the tensors of a file that an older version saved.
        notes: what is assumed because a state dict does not tell it.
    """

    name: str
    preprocessing: Preprocessing
    build: Callable[[Mapping[str, Tensor]], nn.Module]
    preprocessing_source: Message
    class_names: tuple[str, ...] = ()
    output: str | None = None
    activation: str = AUTO
    current_names: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict
    notes: tuple[Message, ...] = ()


@contextmanager
def alone_in_argv(where: str) -> Iterator[None]:
    """Hide camreport's command-line arguments from the user's code while it runs."""
    before = sys.argv
    sys.argv = [where]
    try:
        yield
    finally:
        sys.argv = before


def wrap_module(module: nn.Module) -> LoadedModel:
    """Return a user's own module as a loaded model; a later forward pass counts its classes.

    Raises:
        ModelError: as for ``check_module``.
    """
    check_module(module)
    return LoadedModel(
        module=module,
        preprocessing=Preprocessing(),
        class_names=(),
        name=type(module).__name__,
        source=message("models.from_python"),
        sha256=state_sha256(module),
        notes=(message("models.preprocessing_unknown"),),
    )


def with_random_weights(
    architecture: Architecture, library: str, num_classes: int, build: Callable[[], nn.Module]
) -> LoadedModel:
    """Return an architecture with random weights, equal in every run, and a warning.

    Args:
        architecture: gives the name and the preprocessing.
        library: the library that has the architecture.
        num_classes: number of logits.
        build: returns the module with weights drawn from torch's generator.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        module = build().eval()
    return LoadedModel(
        module=module,
        preprocessing=architecture.preprocessing,
        class_names=numbered_classes(num_classes),
        name=architecture.name,
        source=message("models.from_architecture", library=library, seed=SEED),
        sha256=state_sha256(module),
        warning=RANDOM,
    )


def state_sha256(module: nn.Module) -> str:
    """Return the SHA-256 of the names, shapes and bytes of a module's parameters and buffers."""
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
    """Return ``class 0``, ``class 1``, … as the names of classes without names."""
    return tuple(f"class {index}" for index in range(count))


def first_line(error: BaseException) -> str:
    """Return an exception's type and the first line of its message."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def count_classes(
    module: nn.Module, preprocessing: Preprocessing, output: str | None = None
) -> int:
    """Return a model's number of classes, from one forward pass.

    Args:
        module: left as it was.
        preprocessing: gives the size of the image.
        output: key, attribute or index of the logits in the model's output.

    Raises:
        ModelError: the model returns no logits, or its code fails on an image of that size.
    """
    try:
        with preserved(module), gradients_on():
            blank = to_model(module, torch.zeros(1, 3, *preprocessing.size))
            returned = module(blank.requires_grad_().clone())
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a model's own code raises
        height, width = preprocessing.size
        raise ModelError(
            f"model: {type(module).__name__} fails on an image of {width} × {height}: "
            f"{first_line(error).rstrip('.')}. {_advice(error)}"
        ) from error
    return logits_of(returned, 1, output).shape[1]


def _advice(error: Exception) -> str:
    """Return what to do about a model that fails with an error."""
    for pattern, advice in _ADVICE:
        if re.search(pattern, str(error), re.IGNORECASE):
            return advice
    return "The error comes from the model's own code; --debug shows where."
