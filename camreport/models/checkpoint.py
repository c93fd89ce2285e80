"""A user's weights file: a state dict, bare or wrapped, or a whole pickled torchvision model.

A file is only ever read with ``weights_only=True``, inside an allow-list of the module classes
that torch and torchvision bring: code hidden in a file does not run.
"""

import hashlib
import inspect
import io
import pickle
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from camreport.errors import ModelError
from camreport.models.bundled import alexnet_from_state, load_state
from camreport.models.loaded import LoadedModel, numbered_classes
from camreport.models.zoo import count_classes, default_weights, preprocessing_of, untrained

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "model.")


def load_checkpoint(path: Path, architecture: str) -> LoadedModel:
    """Load a weights file into a torchvision architecture of as many classes as it holds.

    Args:
        path: a ``.safetensors`` file, a state dict (bare or wrapped) or a whole pickled model.
        architecture: a torchvision name, for instance ``alexnet``.

    Raises:
        ModelError: the file is missing, unreadable, refused or made for another architecture.
    """
    preprocessing = preprocessing_of(default_weights(architecture))
    try:
        data = path.read_bytes()
        state = _state_of(_read(path, data))
        module = _build(architecture, state)
    except OSError as error:
        raise ModelError(f"checkpoint: {path.name} cannot be read ({error.strerror}).") from error
    except ModelError as error:
        raise ModelError(f"checkpoint: {path.name}: {error}") from error
    num_classes = count_classes(architecture, state)
    return LoadedModel(
        module=module,
        preprocessing=preprocessing,
        class_names=numbered_classes(num_classes),
        name=architecture,
        source=f"checkpoint {path.name}",
        sha256=hashlib.sha256(data).hexdigest(),
        notes=(
            f"preprocessing: {path.name} holds none, {architecture}'s own is used "
            f"({preprocessing})",
            f"classes: {path.name} holds no names, they are called 'class 0' to "
            f"'class {num_classes - 1}'; name them with --class-names",
        ),
    )


def _read(path: Path, data: bytes) -> object:
    """Return what the file holds, without running code from it."""
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load(data)
        except safetensors.SafetensorError as error:
            raise ModelError(f"not a readable safetensors file ({error}).") from error
    with torch.serialization.safe_globals(_allowed_classes()):
        try:
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            refused = _refused_names(data, str(error))
            raise ModelError(
                "refused: it is no plain weights file and could run code when opened."
                + (f" It asks for {', '.join(refused)}." if refused else "")
                + " Save the weights with torch.save(model.state_dict(), file); a model of "
                "your own class goes to camreport.run(inputs, out, model=...) in Python."
            ) from error
        except Exception as error:  # torch raises whatever the damage leads to
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(f"damaged, or not a weights file ({reason}).") from error


def _refused_names(data: bytes, message: str) -> list[str]:
    """Return the classes and functions that a file asks for beyond those allowed."""
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(io.BytesIO(data))
    except Exception:  # no zip archive: torch lists nothing, but names the first in its message
        return re.findall(r"GLOBAL (\S+)", message)[:1]


def _allowed_classes() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """Return every module class that torch.nn and torchvision's classifiers are made of."""
    sources = [
        module
        for name, module in sys.modules.items()
        if name.startswith(("torch.nn.modules.", "torchvision.models.", "torchvision.ops.misc"))
    ]
    return [
        member
        for source in sources
        for _, member in inspect.getmembers(source, inspect.isclass)
        if issubclass(member, nn.Module)
    ]


def _state_of(content: object) -> dict[str, Tensor]:
    """Find the state dict in what a checkpoint holds, its wrappers and prefixes taken off."""
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _WRAPPERS if key in content), None)
        if not isinstance(inner, Mapping | nn.Module):
            break
        content = inner
    if isinstance(content, nn.Module):
        content = dict(content.state_dict())
    if not isinstance(content, Mapping) or not content:
        raise ModelError(f"expected a state dict, got {type(content).__name__}.")
    strangers = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if strangers:
        raise ModelError(f"expected a state dict of tensors, but {strangers[0]!r} is none.")
    state = {str(key): value for key, value in content.items()}
    while prefix := next((p for p in _PREFIXES if all(key.startswith(p) for key in state)), None):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _build(architecture: str, state: dict[str, Tensor]) -> nn.Module:
    module: nn.Module
    if architecture == "alexnet":
        module = alexnet_from_state(state)
    else:
        module = untrained(architecture, count_classes(architecture, state))
        load_state(module, state)
    return module
