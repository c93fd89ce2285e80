"""Fingerprints of the settings and inputs that determine a run's maps, for reuse of its shards."""

import hashlib
import inspect
from collections.abc import Sequence

import torch
from torch import nn

from camreport.images.inputs import InputFile
from camreport.models import LoadedModel
from camreport.network.state import device_of
from camreport.pipeline.run_plan import Record, Request
from camreport.settings import AUTO
from camreport.version import __version__


def run_settings(model: LoadedModel, request: Request) -> Record:
    """Return everything that determines the maps, except the files, the methods and the batch size.

    The methods and the layer of contributions are left out because each shard's sidecar lists them.
    The batch size is left out because it is part of the plan, from which a resumed run takes it.
    """
    activation, noise = request.settings.activation, "noise" in request.smooth
    resolved = {
        "model": [model.name, model.sha256, _structure(model.module), model.output],
        "preprocessing": model.preprocessing.to_dict(),
        "layers": list(request.layers),
        "channels": list(request.channels),
        "quantity": request.quantity,
        "activation": model.activation if activation == AUTO else activation,
        "smooth": list(request.smooth),
        "seed": request.settings.seed if noise else None,
        "classes": request.targets if isinstance(request.targets, str) else [*request.targets],
        "device": device_of(model.module).type,
    }
    decisive = request.settings.fingerprint(resolved)
    for name in ("methods", "contributions", "batch_size"):
        del decisive[name]
    return {"camreport": __version__, "torch": torch.__version__, **decisive}


def inputs_digest(files: Sequence[InputFile]) -> str:
    """Return a digest of the inputs' names and their order."""
    return hashlib.sha256("\0".join(file.name for file in files).encode()).hexdigest()


def _structure(module: nn.Module) -> str:
    """Return a digest of a module's code and attributes, which can differ for equal weights."""
    structure = hashlib.sha256(repr(module).encode())
    for kind in dict.fromkeys(map(type, module.modules())):
        structure.update(_own_source(kind))
    for part in module.modules():
        if _is_of_a_library(type(part)):
            structure.update(repr(_plain_attributes(part)).encode())
    return structure.hexdigest()


def _plain_attributes(module: nn.Module) -> dict[str, object]:
    """Return a module's numbers, texts and flags, such as ``transform_input``, by name."""
    return {
        name: value
        for name, value in vars(module).items()
        if name != "training" and isinstance(value, bool | int | float | str)
    }


def _is_of_a_library(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in ("torch", "torchvision", "timm")


def _own_source(kind: type) -> bytes:
    """Return the source of a user's class, if it can be found; empty for a class of a library."""
    if _is_of_a_library(kind):
        return b""
    try:
        return inspect.getsource(kind).encode()
    except (OSError, TypeError):
        return b""
