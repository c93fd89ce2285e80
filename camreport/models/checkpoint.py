"""A user's weights file: a state dict, bare or wrapped, a whole model, or a Keras file."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from camreport.errors import ModelError
from camreport.images.preprocessing import Preprocessing
from camreport.messages import Message, message
from camreport.models.keras_vgg import load_keras
from camreport.models.loaded import Architecture, LoadedModel, first_line
from camreport.models.shapes import run_shapes
from camreport.models.state import as_state, load_state, misfits, unwrapped, without_prefixes
from camreport.models.weights_file import is_keras, read_file, read_weights
from camreport.models.zoo import (
    family_preprocessing,
    guess_architecture,
    torchvision_architecture,
)

TRUSTED = message("models.trusted_code")
"""The note on a file whose code has run."""

MAX_ERROR_CHARACTERS = 2_000
"""Longest error message; names from the file can make it longer."""


def load_checkpoint(
    path: Path, architecture: Architecture | None = None, trusted: bool = False
) -> LoadedModel:
    """Load a weights file into an architecture with the file's number of classes.

    Args:
        path: a PyTorch file with a state dict (bare or wrapped) or a whole model, a TorchScript
            archive, a ``.safetensors`` file, or a Keras VGG16.
        architecture: takes the weights; if None, found from their names and shapes.
        trusted: run the code that a pickle asks for.

    Raises:
        ModelError: the file is missing, unreadable, refused or made for another architecture.
    """
    data = read_file(path)
    if is_keras(data):
        if architecture is not None and architecture.name != "vgg16":
            raise ModelError(
                f"checkpoint: {path.name}: a Keras file becomes a VGG16, "
                f"but --model says {architecture.name}. Leave --model out."
            )
        return load_keras(data, path.name)
    try:
        content, notes = unwrapped(read_weights(data, trusted))
        loaded = _assembled(path.name, content, architecture, trusted)
    except ModelError as error:
        raise ModelError(f"checkpoint: {path.name}: {_one_line(error)}") from error
    return replace(
        loaded,
        sha256=hashlib.sha256(data).hexdigest(),
        notes=(*notes, *loaded.notes, *([TRUSTED] if trusted else [])),
    )


def _one_line(error: ModelError) -> str:
    """Return an error as one printable line, whatever names from the file are in it."""
    line = "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(error)
    )
    return line if len(line) <= MAX_ERROR_CHARACTERS else f"{line[:MAX_ERROR_CHARACTERS]}…"


def _assembled(
    file: str, content: object, architecture: Architecture | None, trusted: bool
) -> LoadedModel:
    """Return a model made of a file's content, in float32 and evaluation mode."""
    if isinstance(content, nn.Module):
        module, found = _whole_model(content, architecture, trusted)
        assumed: tuple[Message, ...] = ()  # a module has its own settings
    else:
        module, found = _filled(as_state(content), architecture)
        assumed = found.notes
    note = message("models.preprocessing_not_in_file", file=file, used=found.preprocessing_source)
    return LoadedModel(
        module=module,
        preprocessing=found.preprocessing,
        class_names=found.class_names,
        name=found.name,
        source=message("models.from_checkpoint", file=file),
        sha256="",
        notes=(note, *assumed),
        output=found.output,
        activation=found.activation,
    )


def _filled(
    state: dict[str, Tensor], architecture: Architecture | None
) -> tuple[nn.Module, Architecture]:
    """Return a module with the weights of a state dict, and its architecture.

    Raises:
        ModelError: the weights do not fit the architecture, or no known one if it is None.
    """
    states = without_prefixes(state)
    if architecture is None:
        name, fitting = guess_architecture(states)
        architecture = torchvision_architecture(name)
    else:
        states = [architecture.current_names(state) for state in states]
        fitting = _fitting(states, architecture)
    try:
        module = architecture.build(fitting)
        load_state(module, fitting, architecture.name)
    except ModelError as error:
        raise ModelError(f"{error}{_hint(states, architecture)}") from error
    return module, architecture


def _whole_model(
    module: nn.Module, architecture: Architecture | None, trusted: bool
) -> tuple[nn.Module, Architecture]:
    """Return a pickled module and its architecture.

    A module saved by an older version of its library is built anew with its weights.

    Raises:
        ModelError: it is not of the given architecture, or does not run here.
    """
    try:
        if isinstance(module, nn.DataParallel):
            module = module.module
        module = module.float().eval()
        state = dict(module.state_dict())
    except Exception as error:  # torch's code or a trusted file's, on what the file holds
        raise ModelError(
            f"holds a {type(module).__name__} that cannot be used ({first_line(error)})."
        ) from error
    if architecture is None:
        try:
            architecture = torchvision_architecture(guess_architecture([state])[0])
        except ModelError:
            architecture = None
    elif not _is_a(module, architecture, state):
        raise ModelError(
            f"holds a whole {type(module).__name__}, but --model says {architecture.name}. "
            "Leave --model out."
        )
    if lacking := _outdated(module, trusted):
        if architecture is None:
            raise ModelError(
                f"holds a {type(module).__name__} saved by another version of its library, which "
                f"does not run here ({lacking}). Save its weights with "
                "torch.save(model.state_dict(), file) and name it with --model."
            )
        module = architecture.build(state)
        load_state(module, state, architecture.name)
    return module, architecture or _architecture_of(module)


def _architecture_of(module: nn.Module) -> Architecture:
    """Return the architecture of a module that no state dict could be recognised as."""
    name, known = type(module).__name__, family_preprocessing(module)
    return Architecture(
        name=name,
        preprocessing=known or Preprocessing(),
        build=lambda state: module,
        preprocessing_source=message("models.preprocessing_of_torchvision", model=name)
        if known
        else message("models.preprocessing_of_imagenet"),
    )


def _is_a(module: nn.Module, architecture: Architecture, state: dict[str, Tensor]) -> bool:
    """Return whether a whole model is of an architecture's class."""
    try:
        return type(module) is type(architecture.build(state))
    except ModelError:  # even its last layer is missing
        return False


def _hint(states: Sequence[dict[str, Tensor]], architecture: Architecture) -> str:
    """Return a sentence on the architecture that a state dict fits instead; empty if unknown."""
    try:
        name, _ = guess_architecture(states)
    except ModelError:
        return ""
    return f" Its tensors fit {name}." if name != architecture.name else ""


def _outdated(module: nn.Module, trusted: bool) -> str:
    """Return what is missing in a module saved by an older version of its library, or nothing.

    A trusted file's own code may need values; the module of an untrusted file runs on shapes only.
    """
    height, width = (family_preprocessing(module) or Preprocessing()).size
    try:
        if trusted:
            with torch.no_grad():
                module(torch.zeros(1, 3, height, width))
        else:
            run_shapes(module, height, width)
    except ModelError:
        raise
    except AttributeError as error:
        return str(error)
    except Exception:  # wrong input size, perhaps: reported when the classes are counted
        return ""
    return ""


def _fitting(states: Sequence[dict[str, Tensor]], architecture: Architecture) -> dict[str, Tensor]:
    """Return the first state dict that fits an architecture, or else the last."""
    for state in states[:-1]:
        try:
            if not misfits(architecture.build(state), state):
                return state
        except ModelError:  # its last layer has another name
            continue
    return states[-1]
