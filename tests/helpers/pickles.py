"""Weights files made to break or to run code."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

FORBIDDEN = f"{os.mkdir.__module__}.mkdir"


class RunsCode:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Put a prefix before every key."""
    return {prefix + key: tensor for key, tensor in state.items()}


def legacy(content: object, file: Path) -> None:
    """Save as PyTorch did before 1.6."""
    torch.save(content, file, _use_new_zipfile_serialization=False)


def dump(content: object, file: Path, protocol: int) -> None:
    """Write a bare pickle."""
    file.write_bytes(pickle.dumps(content, protocol))


EVIL: dict[str, Callable[[object, Path], None]] = {
    "zip": torch.save,
    "zip, wrapped": lambda evil, f: torch.save({"state_dict": {"a": evil}}, f),
    "legacy": legacy,
    "pickle 2": lambda evil, f: dump(evil, f, 2),
    "pickle 5": lambda evil, f: dump(evil, f, 5),
    "pickle in a dict": lambda evil, f: dump({"state_dict": evil}, f, 2),
}


class UnknownToCamreport(nn.Module):
    """A class whose code only the user has."""
