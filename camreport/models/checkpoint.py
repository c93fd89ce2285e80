"""A user's weights file: a state dict, bare or wrapped, a whole model, or a Keras file."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from camreport.errors import ModelError
from camreport.images.preprocessing import Preprocessing
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
from camreport.settings import AUTO

TRUSTED = "its weights file was opened with --trust-checkpoint: code in it has run on this machine"
"""What is said of a file that was not read safely."""

MAX_SAID = 2_000
"""Characters of a message; the names in it may come from the file."""


def load_checkpoint(
    path: Path, architecture: Architecture | None = None, trusted: bool = False
) -> LoadedModel:
    """Load a weights file into an architecture of as many classes as it holds.

    Args:
        path: a PyTorch file with a state dict (bare or wrapped) or a whole model, a TorchScript
            archive, a ``.safetensors`` file, or a Keras VGG16.
        architecture: where the weights go; found from their names and shapes if None.
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
    """Return what is said of a file, whatever names the file brings into it."""
    line = "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(error)
    )
    return line if len(line) <= MAX_SAID else f"{line[:MAX_SAID]}…"


def _assembled(
    file: str, content: object, architecture: Architecture | None, trusted: bool
) -> LoadedModel:
    """Return the model that a file's content makes, in float32 and evaluation mode."""
    assumed: tuple[str, ...] = ()
    if isinstance(content, nn.Module):
        module, architecture = _whole_model(content, architecture, trusted)
    else:
        states = without_prefixes(as_state(content))
        if architecture is None:
            name, state = guess_architecture(states)
            architecture = torchvision_architecture(name)
        else:
            states = [architecture.current_names(state) for state in states]
            state = _fitting(states, architecture)
        try:
            module = architecture.build(state)
            load_state(module, state, architecture.name)
        except ModelError as error:
            raise ModelError(f"{error}{_hint(states, architecture)}") from error
        assumed = architecture.notes
    if architecture is None:
        name, known = type(module).__name__, family_preprocessing(module)
        preprocessing = known or Preprocessing()
        whose = f"torchvision's for {name}" if known else "ImageNet's"
    else:
        name, preprocessing = architecture.name, architecture.preprocessing
        whose = architecture.preprocessing_source
    return LoadedModel(
        module=module,
        preprocessing=preprocessing,
        class_names=architecture.class_names if architecture else (),
        name=name,
        source=f"checkpoint {file}",
        sha256="",
        notes=(f"preprocessing: {file} holds none, {whose} is used", *assumed),
        output=architecture.output if architecture else None,
        activation=architecture.activation if architecture else AUTO,
    )


def _whole_model(
    module: nn.Module, architecture: Architecture | None, trusted: bool
) -> tuple[nn.Module, Architecture | None]:
    """Return a pickled module, or its current rebuilding, and which architecture it is.

    Raises:
        ModelError: it is not the architecture that was named, or does not run here.
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
    return module, architecture


def _is_a(module: nn.Module, architecture: Architecture, state: dict[str, Tensor]) -> bool:
    """Say whether a whole model is of an architecture's class."""
    try:
        return type(module) is type(architecture.build(state))
    except ModelError:  # not even its last layer is there
        return False


def _hint(states: Sequence[dict[str, Tensor]], architecture: Architecture) -> str:
    """Say which architecture a state dict fits instead, if that is known."""
    try:
        name, _ = guess_architecture(states)
    except ModelError:
        return ""
    return f" Its tensors fit {name}." if name != architecture.name else ""


def _outdated(module: nn.Module, trusted: bool) -> str:
    """Say what a module lacks that was saved by an older version of its library, or nothing.

    A trusted file's own code may need values; what a file without trust holds is run on shapes.
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
    except Exception:  # a matter of its input size, say: told when its classes are counted
        return ""
    return ""


def _fitting(states: Sequence[dict[str, Tensor]], architecture: Architecture) -> dict[str, Tensor]:
    """Return the state dict that fits, with as many wrappers' prefixes taken off as it takes."""
    for state in states[:-1]:
        try:
            if not misfits(architecture.build(state), state):
                return state
        except ModelError:  # its last layer is not there under that name
            continue
    return states[-1]
