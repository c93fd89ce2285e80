"""A model from the user's own code: ``path/to/file.py:build`` or ``package.module:build``."""

import hashlib
import importlib
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from torch import nn

from camreport.errors import ModelError, suggestion
from camreport.images.preprocessing import Preprocessing
from camreport.messages import message
from camreport.models.loaded import (
    Architecture,
    LoadedModel,
    alone_in_argv,
    first_line,
    state_sha256,
)
from camreport.network.checks import check_module
from camreport.settings import check_code_file


def load_own_code(name: str) -> LoadedModel:
    """Return the model that a function or a class of the user's code builds.

    Args:
        name: ``path/to/file.py:build`` or ``package.module:build``; a module or a
            ``LoadedModel`` of that name is used as it is.

    Raises:
        ModelError: no such file, module or name; the code fails; or it returns something else.
    """
    where, _, attribute = name.rpartition(":")
    shown = f"{Path(where).name}:{attribute}"
    folder = _folder_of(where)
    with _importable(folder), alone_in_argv(where), _located(shown, folder):
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
        source=message("models.from_own_code", kind=type(built).__name__, function=shown),
        sha256=state_sha256(built),
        notes=(message("models.preprocessing_not_in_code", function=shown),),
    )


def own_architecture(name: str) -> Architecture:
    """Return the user's own model, to be filled with the weights of a file.

    Raises:
        ModelError: as for ``load_own_code``.
    """
    loaded = load_own_code(name)
    return Architecture(
        name=loaded.name,
        preprocessing=loaded.preprocessing,
        build=lambda state: loaded.module,
        preprocessing_source=message("models.preprocessing_of_own_code", model=loaded.name),
        class_names=loaded.class_names,
        output=loaded.output,
        activation=loaded.activation,
    )


@contextmanager
def known_by_name(name: str) -> Iterator[None]:
    """Let a pickle find the classes of the user's own code under the name of their file.

    Args:
        name: as for ``load_own_code``, which has imported the code.
    """
    where = name.rpartition(":")[0]
    plain = Path(where).stem if where.endswith(".py") else where
    before = sys.modules.get(plain)
    with _importable(_folder_of(where)):
        if own := sys.modules.get(_name_of(Path(where))):
            sys.modules[plain] = own
        try:
            yield
        finally:
            if own:
                _restore(plain, before)


def _folder_of(where: str) -> Path:
    """Return the folder that the user's code imports its neighbours from."""
    return Path(where).resolve().parent if where.endswith(".py") else Path.cwd()


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let imports find the modules of a folder; installed packages keep their names afterwards."""
    importlib.invalidate_caches()
    neighbours = {module.name for module in pkgutil.iter_modules([str(folder)])} - {"__main__"}
    for name in neighbours & sys.modules.keys():
        if not _lies_in(sys.modules[name], folder) and not _is_installed(name, folder):
            _forget(name)  # code of the user's from another folder
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
        for name in (neighbours & sys.modules.keys()) - before:
            if _lies_in(sys.modules[name], folder) and _is_installed(name, folder):
                _forget(name)


def _lies_in(module: ModuleType, folder: Path) -> bool:
    """Return whether a module is a file or a package directly inside a folder."""
    file = Path(getattr(module, "__file__", None) or "/")
    home = file.parent.parent if file.name == "__init__.py" else file.parent
    return home.resolve() == folder


def _is_installed(name: str, folder: Path) -> bool:
    """Return whether a name can be imported from outside a folder."""
    others = [entry for entry in sys.path if Path(entry or ".").resolve() != folder]
    return name in sys.stdlib_module_names or PathFinder.find_spec(name, others) is not None


def _forget(name: str) -> None:
    """Remove a module and its submodules from ``sys.modules``, so that they are imported anew."""
    for known in [known for known in sys.modules if known == name or known.startswith(f"{name}.")]:
        del sys.modules[known]


def _restore(name: str, module: ModuleType | None) -> None:
    """Give a name in ``sys.modules`` back to the module that had it, or remove it."""
    if module is None:
        sys.modules.pop(name, None)
    else:
        sys.modules[name] = module


@contextmanager
def _located(shown: str, folder: Path) -> Iterator[None]:
    """Turn an error of the user's code into a ``ModelError`` that names file and line."""
    try:
        yield
    except ModelError:
        raise
    except SystemExit as error:
        raise ModelError(
            f"model: {shown} ends the program with exit code {error.code!r} "
            f"({_location(error, folder)}--debug shows the traceback). Put what the file does as a "
            "script under: if __name__ == '__main__':"
        ) from error
    except Exception as error:
        raise ModelError(
            f"model: {shown} fails: {first_line(error)} "
            f"({_location(error, folder)}--debug shows the traceback)"
        ) from error


def _location(error: BaseException, folder: Path) -> str:
    """Return file and line of the user's code that an exception comes from; empty if unknown."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
    return f"{Path(own[-1].filename).name}, line {own[-1].lineno}; " if own else ""


def _import_file(path: Path) -> ModuleType:
    """Run a Python file as a module whose name no package can have."""
    check_code_file(path)
    name = _name_of(path)
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses and pickles look their module up
    try:
        specification.loader.exec_module(module)
    except BaseException:
        _restore(name, before)
        raise
    return module


def _name_of(path: Path) -> str:
    """Return the module name under which a file of the user's is imported."""
    return f"_camreport_own_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
