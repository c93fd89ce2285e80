"""Values of options as text: read from the command line or a file, written to be read again.

Readers raise ``ValueError`` with ``expected <rule>, got <text>.``; who calls them names the option.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from camreport.errors import ClassError, suggestion

_ADDRESS = re.compile(r"(s3|gs|https?):/{1,2}(.*)", re.IGNORECASE | re.DOTALL)
_ENTRY_OR_COMMA = re.compile(r'"[^"]*"|，')
_ENTRY = re.compile(r'\s*(?:"((?:[^"]|"")*)"\s*|([^,]*))(?:,|$)')


def split_list(text: str) -> list[str]:
    """Return the entries of a list with commas of either width; ``"a, b"`` is one entry.

    Example:
        >>> split_list('cat，"dog, small"')
        ['cat', 'dog, small']
    """
    plain = _ENTRY_OR_COMMA.sub(lambda found: "," if found[0] == "，" else found[0], text)
    entries = [
        found[1].replace('""', '"') if found[1] is not None else found[2].strip()
        for found in _ENTRY.finditer(plain)
    ]
    return [entry for entry in entries if entry]


def join_list(entries: Iterable[object]) -> str:
    """Return entries as ``split_list`` reads them back."""
    return ",".join(map(_quoted, map(str, entries)))


def read_list(text: str) -> tuple[str, ...]:
    """Read entries with commas between them."""
    return tuple(split_list(text))


def read_list_or_auto(text: str) -> tuple[str, ...] | None:
    """Read ``auto`` as None, or entries with commas between them."""
    return None if text == "auto" else read_list(text)


def read_whole(text: str) -> int:
    """Read a whole number.

    Raises:
        ValueError: it is none.
    """
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"expected a whole number, got {text!r}.") from None


def read_number(text: str) -> float:
    """Read a number.

    Raises:
        ValueError: it is none.
    """
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"expected a number, got {text!r}.") from None


def read_count_or_auto(text: str) -> int | None:
    """Read ``auto`` as None, or a number from 1.

    Raises:
        ValueError: it is neither.
    """
    if text == "auto":
        return None
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise ValueError(f"expected 'auto' or a number from 1, got {text!r}.")


def read_count_or_all(text: str) -> int | str:
    """Read ``all``, or a number from 1.

    Raises:
        ValueError: it is neither.
    """
    if text == "all":
        return text
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise ValueError(f"expected 'all' or a number from 1, got {text!r}.")


def read_numbers(text: str) -> list[float]:
    """Read numbers with commas between them.

    Raises:
        ValueError: one of them is no number.
    """
    try:
        return [float(number) for number in split_list(text)]
    except ValueError:
        raise ValueError(f"expected three numbers, got {text!r}.") from None


def read_size(text: str) -> int | list[int]:
    """Read one number of pixels, or height and width.

    Raises:
        ValueError: it is neither.
    """
    sides = text.lower().replace("×", "x").replace("，", ",").replace(",", "x").split("x")
    if not all(side.strip().isdecimal() for side in sides) or len(sides) > 2:
        raise ValueError(f"expected pixels such as 224, or 224x320 (height x width), got {text!r}.")
    return int(sides[0]) if len(sides) == 1 else [int(side) for side in sides]


def read_path(text: str) -> Path:
    """Read a path; ``~`` is the home folder, also where no shell has seen it (``--x=~/file``)."""
    return Path(os.path.expanduser(text))


def read_names(text: str) -> tuple[str, ...] | Path:
    """Read names with commas between them, or the path of a file that lists them.

    Raises:
        ClassError: a text that can only be a file's name leads to none.
    """
    path = os.path.expanduser(text)
    if os.path.isfile(path):  # which a list too long for a file name is not
        return Path(path)
    if text.endswith((".txt", ".json")):
        raise ClassError(f"class names: there is no file {text!r}.")
    return read_list(text)


@dataclass(frozen=True, init=False)
class OneOf:
    """Reads one of a few words."""

    words: tuple[str, ...]

    def __init__(self, *words: str) -> None:
        object.__setattr__(self, "words", words)

    def __call__(self, text: str) -> str:
        """Return the word as it is.

        Raises:
            ValueError: it is none of them.
        """
        if text not in self.words:
            raise ValueError(
                f"expected {' or '.join(self.words)}, got {text!r}." + suggestion(text, self.words)
            )
        return text


@dataclass(frozen=True, init=False)
class OneNumberOf(OneOf):
    """Reads one of a few whole numbers."""

    def __call__(self, text: str) -> int:  # type: ignore[override]
        """Return the number.

        Raises:
            ValueError: it is none of them.
        """
        return int(super().__call__(text))


def write_list(entries: str | Iterable[object]) -> str:
    """Write entries with commas between them; a text stays as it is."""
    return entries if isinstance(entries, str) else join_list(entries)


def write_number(number: float) -> str:
    """Write a number as short as it can be read back."""
    return repr(float(number))


def write_numbers(numbers: Iterable[float]) -> str:
    """Write numbers with commas between them, whole ones without a point."""
    return ",".join(write_number(number).removesuffix(".0") for number in numbers)


def write_size(size: int | Sequence[int]) -> str:
    """Write one number of pixels, or height and width."""
    return str(size) if isinstance(size, int) else "x".join(map(str, size))


def write_path(path: str | Path) -> str:
    """Write a path that names nothing of this machine: relative to here, or its last part.

    An address stays whole, without what follows a question mark on the web, which may be a key.
    """
    if address := _ADDRESS.match(os.fspath(path)):
        kind, rest = address.groups()
        web = kind.lower().startswith("http")
        return f"{kind}://{rest.partition('?')[0].rpartition('@')[2] if web else rest}"
    given = Path(path)
    if given.is_absolute() or ".." in given.parts:
        try:
            given = given.resolve().relative_to(Path(os.getcwd()).resolve())
        except ValueError:
            return given.resolve().name
    return given.as_posix()


def write_names(names: Sequence[str] | Path) -> str:
    """Write class names, or the path of the file that lists them."""
    return write_path(names) if isinstance(names, Path) else join_list(names)


def write_labels(labels: str | Path | Mapping[str, int | str]) -> str | None:
    """Write the word or the file that true classes come from; None for a mapping."""
    return write_path(labels) if isinstance(labels, str | Path) else None


def write_label_map(label_map: str | Mapping[str, Sequence[int]]) -> str | None:
    """Write the classes that each word stands for; None where there is no word."""
    if isinstance(label_map, str):
        return label_map
    words = [join_list([f"{word}={first}", *more]) for word, (first, *more) in label_map.items()]
    return ",".join(words) or None


def write_model(model: object) -> str:
    """Write a model's name; own code as the path of its file and the name in it."""
    name = model if isinstance(model, str) else str(getattr(model, "name", type(model).__name__))
    where, _, attribute = name.rpartition(":")
    return f"{write_path(where)}:{attribute}" if where.endswith(".py") else name


def _quoted(entry: str) -> str:
    """Return an entry of a list with quotation marks round it, where it needs them."""
    if not re.search('[,，"]', entry) and entry == entry.strip():
        return entry
    return '"' + entry.replace('"', '""') + '"'
