"""Weights files: what they hold, read without running code that lies in them.

A file is only ever read with ``weights_only=True``, inside an allow-list of the module classes
that torch and torchvision bring. ``trusted`` is the only way past.
"""

import functools
import inspect
import io
import pickle
import pickletools
import re
import sys
import warnings
import zipfile
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from camreport.errors import ModelError
from camreport.models.legacy import without_sources
from camreport.models.scripted import scripted_state

_KERAS = ("model.weights.h5", "config.json")
_HOMES = ("torch.nn.modules.", "torch.nn.parallel.", "torchvision.models.", "torchvision.ops.")
_HARMLESS = {
    "collections.OrderedDict",
    "__builtin__.set",
    *(f"torch._utils.{name}" for name in ("_rebuild_tensor_v2", "_rebuild_parameter")),
    *("torch.Size", "torch.device"),
}
_HDF5 = b"\x89HDF\r\n\x1a\n"


def is_keras(data: bytes) -> bool:
    """Say whether a file's bytes are Keras's: HDF5, or a ``.keras`` archive."""
    return data.startswith(_HDF5) or set(_KERAS) <= set(_members(data))


def read_weights(data: bytes, trusted: bool = False) -> object:
    """Return what a weights file's bytes hold: a dictionary, a state dict or a module.

    Args:
        data: a PyTorch file (zip or older), a TorchScript archive or a safetensors file.
        trusted: run the code that the file asks for, if it is a pickle that does.

    Raises:
        ModelError: empty, damaged, of another kind, or refused; the message says which.
    """
    if other := _other_kind(data):
        raise ModelError(other)
    if _looks_like_safetensors(data):
        try:
            return safetensors.torch.load(data)
        except safetensors.SafetensorError as error:
            raise ModelError(f"a damaged or truncated safetensors file ({error}).") from error
    try:
        if any("/code/" in name or name.endswith("/constants.pkl") for name in _members(data)):
            return scripted_state(data)
        return _unpickled(data, trusted)
    except ModelError:
        raise
    except Exception as error:  # torch, zip and pickle raise whatever the damage leads to
        raise ModelError(_damage(data, error)) from error


def _damage(data: bytes, error: Exception) -> str:
    """Say what is wrong with a file that cannot be read to its end."""
    members = _members(data)
    if members and not any(name.endswith("data.pkl") for name in members):
        return (
            f"a zip archive, but not PyTorch's: it holds {', '.join(members[:3])}. Unpack it, and "
            "give the weights file in it."
        )
    if data.startswith(b"PK") and not members:
        return (
            "truncated: it begins like a PyTorch file, but its end is missing. Download or copy it "
            "again."
        )
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"damaged or truncated ({reason}). Download or copy it again."


def _unpickled(data: bytes, trusted: bool) -> object:
    if trusted:
        return _unpickled_with_code(data)
    with torch.serialization.safe_globals([*_allowed_classes()]), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # on pickle protocols; the error says more
        try:
            return _loaded_safely(data)
        except pickle.UnpicklingError as error:
            refused = _refused_names(data)
            if not refused and "Unsupported operand" in str(error):
                raise ModelError(
                    "saved with a pickle protocol that is not read safely. Save it again with "
                    "torch.save(model.state_dict(), file); if you made the file yourself or trust "
                    "who did, --trust-checkpoint opens it."
                ) from error
            if not refused:
                raise
            raise ModelError(
                f"refused: it asks for {', '.join(refused)}, which could run code when opened. "
                "Save the weights alone with torch.save(model.state_dict(), file); if you made "
                "the file yourself or trust who did, --trust-checkpoint opens it where that code "
                "can be imported."
            ) from error


def _loaded_safely(data: bytes) -> object:
    """Return what a pickle holds, if that is tensors and modules of the allow-list."""
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "persistent_load" not in str(error):
            raise
    plain = without_sources(data)  # a whole model, as PyTorch saved it before version 1.6
    return torch.load(io.BytesIO(plain), map_location="cpu", weights_only=True)


def _unpickled_with_code(data: bytes) -> object:
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)
    except (AttributeError, ImportError) as error:
        asked = ", ".join(_refused_names(data)[:3])
        raise ModelError(
            f"asks for code that cannot be imported here: {asked}. In the script that has it, save "
            "the weights alone with torch.save(model.state_dict(), file); then give both: "
            "--model script.py:Class --checkpoint file."
        ) from error


def _refused_names(data: bytes) -> list[str]:
    """Return the classes and functions that a file asks for beyond those allowed."""
    if data.startswith(b"PK"):
        try:
            return torch.serialization.get_unsafe_globals_in_checkpoint(io.BytesIO(data))
        except pickle.UnpicklingError:  # a pickle protocol that torch does not look into
            pass
    allowed = {f"{one.__module__}.{one.__qualname__}" for one in _allowed_classes()} | _HARMLESS
    asked = [name for name in _asked_names(_pickle_of(data)) if name not in allowed]
    refused = [name for name in asked if not re.fullmatch(r"torch\.\w+Storage", name)]
    return refused


def _pickle_of(data: bytes) -> bytes:
    """Return the pickle in a file: the one in a zip archive, or the file itself."""
    pickled = [name for name in _members(data) if name.endswith("data.pkl")]
    if not pickled:
        return data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.read(pickled[0])


def _asked_names(data: bytes) -> list[str]:
    """Return the names that the pickles in an older file ask for, without loading them."""
    names: list[str] = []
    stream = io.BytesIO(data)
    try:
        while stream.tell() < len(data):
            texts: list[str] = []  # what was pushed of late; a STACK_GLOBAL takes the last two
            memo: dict[int, str] = {}
            for operation, argument, _ in pickletools.genops(stream):
                if operation.name == "GLOBAL":
                    names.append(str(argument).replace(" ", "."))
                elif operation.name == "STACK_GLOBAL":
                    names.append(".".join(texts[-2:]))
                elif operation.name == "MEMOIZE" or "PUT" in operation.name:
                    place = len(memo) if argument is None else int(str(argument))
                    memo[place] = texts[-1] if texts else ""
                elif "GET" in operation.name:
                    texts.append(memo.get(int(str(argument)), ""))
                elif "UNICODE" in operation.name:
                    texts.append(str(argument))
    except ValueError:  # the pickles end, and tensors follow
        pass
    return list(dict.fromkeys(names))


def _allowed_classes() -> list[type]:
    """Return every module class that torch.nn and torchvision's classifiers are made of."""
    sources = [module for name, module in sys.modules.items() if name.startswith(_HOMES)]
    classes = [
        member
        for source in sources
        for _, member in inspect.getmembers(source, inspect.isclass)
        if issubclass(member, nn.Module)
    ]
    return [*classes, functools.partial]  # ViT and ConvNeXt keep their norm layer as a partial


def _other_kind(data: bytes) -> str:
    """Say what a file is that is no weights file at all; nothing where it may be one."""
    head = data[:512].lstrip().lower()
    if not data:
        return "the file is empty (0 bytes). Download or copy it again."
    if head.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return (
            "an HTML page, not weights: probably an error page saved by a download. "
            "Download the file itself again."
        )
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not weights. Fetch the file itself with 'git lfs pull'."
    known = data[:2] == b"PK" or data[:1] == b"\x80" or _looks_like_safetensors(data)
    if known:
        return ""
    return (
        "no weights file: its first bytes belong to none of the formats that are read (PyTorch, "
        "TorchScript, safetensors, Keras)."
    )


def _looks_like_safetensors(data: bytes) -> bool:
    """Say whether a file starts as safetensors do: the length of a header, and the header."""
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") < 100_000_000


def _members(data: bytes) -> list[str]:
    """Return the names in a zip archive; none if it is no archive that can be read."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return archive.namelist()
    except zipfile.BadZipFile:
        return []


def read_file(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"checkpoint: {path.name} cannot be read ({error.strerror}).") from error
