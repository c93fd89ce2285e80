"""A model from the user's own code: ``path/to/file.py:build`` or ``package.module:build``."""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from torch import nn

from camreport.errors import ModelError, suggestion
from camreport.images import Preprocessing
from camreport.models.loaded import (
    Architecture,
    LoadedModel,
    check_module,
    first_line,
    state_sha256,
)


def is_own_code(name: str) -> bool:
    """Say whether a model's name leads to code: ``file.py:build`` or ``package.module:build``."""
    where, colon, attribute = name.rpartition(":")
    return bool(colon and where) and attribute.isidentifier()


def load_own_code(name: str) -> LoadedModel:
    """Call a function, or a class, of the user's and take the model it returns.

    Args:
        name: ``path/to/file.py:build`` or ``package.module:build``; a module or a
            ``LoadedModel`` under that name is taken as it is.

    Raises:
        ModelError: no such file, module or name; it fails; or it returns something else.
    """
    where, _, attribute = name.rpartition(":")
    shown = f"{Path(where).name}:{attribute}"
    folder = Path(where).resolve().parent if where.endswith(".py") else Path.cwd()
    with _importable(folder), _blamed(shown, folder):
        code = (
            _import_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
        )
        if not hasattr(code, attribute):
            names = [own for own in vars(code) if not own.startswith("_")]
            raise ModelError(
                f"model: {Path(where).name} has no {attribute!r}."
                + (suggestion(attribute, names) or f" It has {', '.join(names[:8])}.")
            )
        built = getattr(code, attribute)
        if callable(built) and not isinstance(built, nn.Module):
            built = built()
    if isinstance(built, LoadedModel):
        return built
    if not isinstance(built, nn.Module):
        raise ModelError(
            f"model: expected {shown} to return a torch.nn.Module, got {type(built).__name__}."
        )
    check_module(built)
    return LoadedModel(
        module=built.eval(),
        preprocessing=Preprocessing(),
        class_names=(),
        name=shown,
        source=f"{type(built).__name__}, built by {shown}",
        sha256=state_sha256(built),
        notes=(f"preprocessing: {shown} says none, ImageNet's is assumed",),
    )


def own_architecture(name: str) -> Architecture:
    """Return the user's own model as the place for the weights of a file.

    Raises:
        ModelError: as for ``load_own_code``.
    """
    loaded = load_own_code(name)
    return Architecture(
        name=loaded.name,
        preprocessing=loaded.preprocessing,
        build=lambda state: loaded.module,
        preprocessing_source=f"that of {loaded.name}",
        class_names=loaded.class_names,
        output=loaded.output,
    )


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let imports find what lies in a folder."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))


@contextmanager
def _blamed(shown: str, folder: Path) -> Iterator[None]:
    """Say of an error in the user's code where in their folder it happened."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
        place = f"{Path(own[-1].filename).name}, line {own[-1].lineno}; " if own else ""
        raise ModelError(
            f"model: {shown} fails: {first_line(error)} ({place}--debug shows the traceback)"
        ) from error


def _import_file(path: Path) -> ModuleType:
    """Run a Python file as a module of its own name."""
    if not path.is_file():
        raise ModelError(f"model: there is no file {str(path)!r}.")
    name = f"own_{path.stem}" if path.stem in sys.modules else path.stem
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses and pickles look their module up
    specification.loader.exec_module(module)
    return module
