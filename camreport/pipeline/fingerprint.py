"""What decides a run's maps: runs for which it is equal may share shards."""

import hashlib
import inspect
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from camreport.images.inputs import InputFile
from camreport.models import LoadedModel
from camreport.network.state import device_of
from camreport.pipeline.run_plan import Record, Request
from camreport.results.schema import FileFacts
from camreport.settings import AUTO
from camreport.version import __version__


def run_settings(model: LoadedModel, request: Request) -> Record:
    """Return all that decides the maps of every method, but the files and the batch size.

    The methods are not in it: each shard says which it holds. The batch size is in the plan,
    where a run that resumes takes it from.
    """
    asked, noise = request.settings.activation, "noise" in request.smooth
    resolved = {
        "model": [model.name, model.sha256, _structure(model.module), model.output],
        "preprocessing": model.preprocessing.to_dict(),
        "layers": list(request.layers),
        "channels": list(request.channels),
        "quantity": request.quantity,
        "activation": model.activation if asked == AUTO else asked,
        "smooth": list(request.smooth),
        "seed": request.settings.seed if noise else None,
        "classes": request.targets if isinstance(request.targets, str) else [*request.targets],
        "device": device_of(model.module).type,
    }
    decisive = request.settings.fingerprint("maps", resolved)
    for name in ("methods", "batch_size"):
        del decisive[name]
    return {"camreport": __version__, "torch": torch.__version__, **decisive}


def inputs_digest(files: Sequence[InputFile]) -> str:
    """Return a digest of the inputs' names, in order."""
    return hashlib.sha256("\0".join(file.name for file in files).encode()).hexdigest()


def file_facts(path: Path) -> FileFacts | None:
    """Return size and times of change of a file; None of one that cannot be looked at."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return FileFacts(
        bytes=facts.st_size, modified_ns=facts.st_mtime_ns, changed_ns=facts.st_ctime_ns
    )


def _structure(module: nn.Module) -> str:
    """Return a digest of a module's code and switches: equal weights may be used otherwise."""
    structure = hashlib.sha256(repr(module).encode())
    for kind in dict.fromkeys(map(type, module.modules())):
        structure.update(_own_source(kind))
    for part in module.modules():
        if _is_of_a_library(type(part)):
            structure.update(repr(_plain_attributes(part)).encode())
    return structure.hexdigest()


def _plain_attributes(module: nn.Module) -> dict[str, object]:
    """Return the numbers, words and switches of a module, such as ``transform_input``."""
    return {
        name: value
        for name, value in vars(module).items()
        if name != "training" and isinstance(value, bool | int | float | str)
    }


def _is_of_a_library(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in ("torch", "torchvision", "timm")


def _own_source(kind: type) -> bytes:
    """Return the code of a class that comes with no library, as far as it can be found."""
    if _is_of_a_library(kind):
        return b""
    try:
        return inspect.getsource(kind).encode()
    except (OSError, TypeError):
        return b""
