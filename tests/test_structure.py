"""The structure that CONTRIBUTING describes: floors, rooms, no circles, short functions."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from helpers.checkout import ROOT

PACKAGE = ROOT / "camreport"

MAX_FLOORS = 8
MAX_ROOMS = 20
MAX_CODE_LINES = 40
MAX_TEST_LINES = 600

ELSEWHERE = ("benchmarks", "templates", "training")
"""Rooms outside the package."""

DOORS = ("__init__", "__main__")
"""Ways into the package, which are no rooms."""


def module_of(path: Path) -> str:
    """Return the dotted name of a file's module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported_by(path: Path) -> Iterator[str]:
    """Yield the modules of the package that a file imports, also in functions and for types."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in inner)


def room_of(module: str) -> str:
    """Return the folder or file directly below the package that a module belongs to."""
    return module.removeprefix("camreport").lstrip(".").partition(".")[0] or "__init__"


def floors() -> dict[str, int]:
    """Return how many rooms lie below each room, counted along the longest way of imports, + 1."""
    below = defaultdict[str, set[str]](set)
    for module, path in MODULES.items():
        room = room_of(module)
        below[room] |= {room_of(name) for name in imported_by(path)} - {room}
    found: dict[str, int] = {}
    for room in TopologicalSorter(below).static_order():
        found[room] = 1 + max((found[name] for name in below[room]), default=0)
    return found


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> int:
    """Count the lines of a function without its docstring, comments and blank lines."""
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    text = range(first.lineno, (first.end_lineno or 0) + 1) if documented else range(0)
    return sum(
        number not in text and bool(lines[number - 1].strip().partition("#")[0])
        for number in range(function.lineno, (function.end_lineno or 0) + 1)
    )


def test_floors_and_rooms_are_few() -> None:
    found = {room: floor for room, floor in floors().items() if room not in DOORS}
    assert max(found.values()) <= MAX_FLOORS, found
    assert len(found) + len(ELSEWHERE) <= MAX_ROOMS, sorted(found)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """The face of a package hands names on: importing it stands for no module of its own."""
    imports = {
        module: {name for name in imported_by(path) if MODULES[name].name != "__init__.py"}
        for module, path in MODULES.items()
        if path.name != "__init__.py"
    }
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("module", MODULES)
def test_no_function_is_long(module: str) -> None:
    source = MODULES[module].read_text(encoding="utf-8")
    lines = source.splitlines()
    long = {
        node.name: count
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (count := code_lines(node, lines)) > MAX_CODE_LINES
    }
    assert long == {}


def test_test_files_are_short() -> None:
    counts = {
        path.name: len(path.read_text(encoding="utf-8").splitlines())
        for path in (ROOT / "tests").rglob("*.py")
    }
    assert {name: count for name, count in counts.items() if count > MAX_TEST_LINES} == {}
