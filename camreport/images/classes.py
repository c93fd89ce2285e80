"""Classes by name or index, and files with class names. Nothing here imports torch."""

import ast
import json
from collections.abc import Sequence
from pathlib import Path

from camreport.errors import ClassError
from camreport.images.inputs import printable, read_text


def find_class(word: str, names: Sequence[str], argument: str) -> int | None:
    """Return the index of the class that a word means; None if it means none.

    Names are compared exactly, and without regard to case only if no name is equal. A number that
    is no name is an index. Without names every number is an index.

    Args:
        word: a name or an index.
        names: the model's class names; empty if they are unknown.
        argument: the argument's name at the start of an error message.

    Raises:
        ClassError: it can mean more than one class.
    """
    called = [index for index, name in enumerate(names) if name == word]
    called = called or [i for i, name in enumerate(names) if name.casefold() == word.casefold()]
    numbered = int(word) if word.isdecimal() and (not names or int(word) < len(names)) else None
    if len(called) > 1:
        raise ClassError(
            f"{argument}: expected one class, got {word!r}, the name of classes "
            f"{', '.join(map(str, called[:-1]))} and {called[-1]}. Give the index."
        )
    if called and numbered is not None and numbered != called[0]:
        raise ClassError(
            f"{argument}: expected one class, got {word!r}, the name of class {called[0]} and the "
            f"index of class {numbered}. Give the classes other names with --class-names."
        )
    return called[0] if called else numbered


def read_class_names(path: Path) -> list[str]:
    """Read class names from a text file, in the order of their indices.

    The file has one name on each line, or it is JSON or a Python literal: a list of names, or a
    dictionary from index to name, from index to a list of identifier and name, or from name to
    index.

    Raises:
        ClassError: the file cannot be read, or its indices are not 0, 1, 2 and so on.
    """
    text = read_text(path, "class names: expected a text file in UTF-8")
    if text.lstrip().startswith(("{", "[")):
        return _listed_names(_literal(text, path), path)
    return [printable(line.strip()) for line in text.splitlines() if line.strip()]


def _literal(text: str, path: Path) -> object:
    """Return the value of JSON or of a Python literal; no code in it runs."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise ClassError(
            f"class names: expected a name on each line, JSON or a Python dictionary, got "
            f"{_shown(path)}, which begins like JSON or a dictionary but cannot be parsed."
        ) from error


def _listed_names(listed: object, path: Path) -> list[str]:
    by_index: dict[object, object] = {}
    if isinstance(listed, dict):
        by_name = all(isinstance(value, int) for value in listed.values())
        by_index = {
            (value if by_name else _index(key)): (key if by_name else value)
            for key, value in listed.items()
        }
        if len(by_index) != len(listed) or by_index.keys() != set(range(len(by_index))):
            raise ClassError(
                f"class names: expected the indices 0 to {len(listed) - 1} once each, got others "
                f"in {_shown(path)}."
            )
    elif isinstance(listed, list | tuple):
        by_index = dict(enumerate(listed))
    return [_name(by_index[index], path) for index in range(len(by_index))]


def _index(key: object) -> object:
    return int(key) if isinstance(key, str) and key.isdecimal() else key


def _name(value: object, path: Path) -> str:
    """Return a class name given by itself or after an identifier such as ImageNet's."""
    if isinstance(value, list | tuple) and value:
        value = value[-1]
    if not isinstance(value, str):
        raise ClassError(
            f"class names: expected names as text, got {str(value)[:40]!r} in {_shown(path)}."
        )
    return printable(value.strip())


def _shown(path: Path) -> str:
    return repr(printable(path.name))
