"""The content of weights files, read without running code in them.

Our own reader turns a file into inert values, and ``rebuilt`` turns these into modules; no class of
any library reaches an unpickler. Only ``trusted`` files are read in another way.
"""

import io
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from camreport.errors import InputError, ModelError
from camreport.images import inputs
from camreport.models.archives import Refused, members, read_archive, read_legacy
from camreport.models.loaded import alone_in_argv
from camreport.models.pickled import damage

MAX_FILE_BYTES = 8 * 2**30
"""Largest weights file that is read."""

MAX_HEADER = 16 * 2**20
"""Most bytes of a safetensors file's header: some 200,000 tensors."""

_KERAS = ("model.weights.h5", "config.json")
_HDF5 = b"\x89HDF\r\n\x1a\n"


def is_keras(data: bytes) -> bool:
    """Return whether a file is one of Keras's: HDF5 or a ``.keras`` archive."""
    return data.startswith(_HDF5) or set(_KERAS) <= set(members(data))


def read_weights(data: bytes, trusted: bool = False) -> object:
    """Return the content of a weights file: a dictionary, a state dict or a module.

    Args:
        data: the bytes of a PyTorch file (zip or older), a TorchScript archive or a safetensors
            file.
        trusted: run the code that a pickle asks for.

    Raises:
        ModelError: empty, damaged, of another kind, or refused.
    """
    if other := _other_kind(data):
        raise ModelError(other)
    if _looks_like_safetensors(data):
        return _safetensors(data)
    if trusted and not _is_scripted(data):
        return _unpickled_with_code(data)
    try:
        return _read_safely(data)
    except MemoryError as error:
        raise ModelError("does not fit into memory.") from error


def _read_safely(data: bytes) -> object:
    return read_archive(data) if data.startswith(b"PK") else read_legacy(data)


def _is_scripted(data: bytes) -> bool:
    """Return whether a file is a TorchScript archive, whose code is never run."""
    return any("/code/" in name or name.endswith("/constants.pkl") for name in members(data))


def _unpickled_with_code(data: bytes) -> object:
    """Return the content of a trusted file; the code it asks for runs.

    Raises:
        ModelError: damaged, or its code fails or cannot be imported.
    """
    try:
        with alone_in_argv("checkpoint"):
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)
    except SystemExit as error:
        raise ModelError(
            f"its code ended the program (sys.exit({error.code!r})). Take that out of the code, or "
            "save the weights alone with torch.save(model.state_dict(), file)."
        ) from error
    except (AttributeError, ImportError) as error:
        names = ", ".join(_refused_names(data)[:3])
        raise ModelError(
            f"asks for code that cannot be imported here: {names}. In the script that has it, save "
            "the weights alone with torch.save(model.state_dict(), file); then give both: "
            "--model script.py:Class --checkpoint file."
        ) from error
    except Exception as error:  # torch, zip, pickle and the file's code raise anything
        raise ModelError(damage(error)) from error


def _refused_names(data: bytes) -> list[str]:
    """Return the names for which a file would be refused if it were not trusted."""
    try:
        _read_safely(data)
    except Refused as error:
        return error.names
    except ModelError:
        pass
    return []


def _safetensors(data: bytes) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises:
        ModelError: damaged, or with a type of values that torch does not have.
    """
    if int.from_bytes(data[:8], "little") > MAX_HEADER:
        raise ModelError(f"refused: a safetensors header of more than {MAX_HEADER:,} bytes.")
    try:
        return safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ModelError(f"a damaged or truncated safetensors file ({error}).") from error
    except KeyError as error:
        raise ModelError(
            f"a safetensors file with values of type {error.args[0]}, which torch "
            f"{torch.__version__} cannot read. Save it in float32 or float16."
        ) from error
    except (ValueError, RuntimeError, OverflowError, TypeError) as error:
        raise ModelError(damage(error)) from error


def _other_kind(data: bytes) -> str:
    """Return an error text on a file that is no weights file; empty if it may be one."""
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
    """Return whether a file starts like a safetensors file: a header's length and the header."""
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") < 100_000_000


def read_file(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        ModelError: it cannot be read, is not a regular file, or is too large.
    """
    try:
        return inputs.read_file(path, MAX_FILE_BYTES)
    except InputError as error:
        why = "expected a file, got a folder, a pipe or a device. Give the weights file itself."
        if path.is_file():
            why = (
                f"expected at most {MAX_FILE_BYTES // 2**30} GiB, got more. Save the weights alone "
                "with torch.save(model.state_dict(), file)."
            )
        raise ModelError(f"checkpoint: {path.name} cannot be read: {why}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"checkpoint: {path.name} cannot be read ({reason}).") from error
    except MemoryError as error:
        raise ModelError(f"checkpoint: {path.name} does not fit into memory.") from error
