"""What the command line prints: results on standard output, everything else on standard error.

Everything that is printed passes one function, so that no file name, no library and no file's
content can send control characters to a terminal.
"""

import os
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import click

MAX_LINE = 100
"""Characters of a line of sentences, in a pipe, too."""

MIN_COLUMN = 10
"""Characters that a column of a table keeps on a narrow terminal."""

_CONTROLS = ("Cc", "Cs", "Zl", "Zp")
_DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def result(line: str = "") -> None:
    """Print one line of a command's results."""
    _print(line, error=False)


def note(text: str) -> None:
    """Print what the user may want to know."""
    _print(_one_line(text), "note", "blue")


def warning(text: str) -> None:
    """Print what the user should look at."""
    _print(_one_line(text), "warning", "yellow")


def error(text: str, kind: str = "error") -> None:
    """Print why a command ends."""
    _print(_one_line(text), kind, "red")


def detail(line: str) -> None:
    """Print a line that belongs to the note, warning or error before it."""
    _print(f"  {line}")


@contextmanager
def progress(*, quiet: bool = False, **look: Any) -> Iterator[Any]:
    """Give a progress bar of ``tqdm`` on standard error, if that is a terminal.

    Args:
        quiet: draw nothing.
        look: as for ``tqdm``.
    """
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield SimpleNamespace(update=lambda finished: None, reset=lambda total: None)
        return
    from tqdm import tqdm

    with tqdm(leave=False, **look) as bar:
        yield bar


def library_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a Python warning as a note; to be used as ``warnings.showwarning``."""
    note(f"a library warns: {str(message).strip().partition(chr(10))[0]}")


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Print rows in columns, wrapped where a terminal is too narrow for them.

    Args:
        rows: cells of each row, headings first.
        right: numbers of the columns that are aligned to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if sys.stdout is not None and sys.stdout.isatty():
        widths = _fitted(widths, shutil.get_terminal_size().columns)
    for row in rows:
        cells = [
            textwrap.wrap(cell, width, drop_whitespace=len(cell) > width) or [""]
            for cell, width in zip(row, widths, strict=True)
        ]
        for number in range(max(map(len, cells))):
            parts = [lines[number] if number < len(lines) else "" for lines in cells]
            aligned = [
                part.rjust(width) if column in right else part.ljust(width)
                for column, (part, width) in enumerate(zip(parts, widths, strict=True))
            ]
            result("  ".join(aligned).rstrip())


def entries(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of sentences one below the other, each cell beside its name.

    Args:
        names: of the cells behind the first one, which heads an entry.
        rows: cells of each row.
    """
    isatty = sys.stdout is not None and sys.stdout.isatty()
    room = min(MAX_LINE, shutil.get_terminal_size().columns) if isatty else MAX_LINE
    beside = max(map(len, names)) + 4
    for head, *cells in rows:
        result(head)
        for name, cell in zip(names, cells, strict=True):
            first, after = f"  {name}".ljust(beside), " " * beside
            lines = textwrap.wrap(
                cell, room, initial_indent=first, subsequent_indent=after, break_on_hyphens=False
            )
            for line in lines:
                result(line)


def silence(*, error: bool) -> None:
    """Discard what is printed from now on: whoever was reading has gone."""
    stream = sys.stderr if error else sys.stdout
    with open(os.devnull, "w") as nowhere:
        try:
            os.dup2(nowhere.fileno(), stream.fileno())
        except (AttributeError, OSError):  # no stream, or one that is no file
            return


def _fitted(widths: Sequence[int], room: int) -> list[int]:
    """Return widths of columns that fit into a line: the widest give way."""
    fitted = list(widths)
    while sum(fitted) + 2 * (len(fitted) - 1) > room and max(fitted) > MIN_COLUMN:
        fitted[fitted.index(max(fitted))] -= 1
    return fitted


def _print(text: str, kind: str = "", colour: str = "", *, error: bool = True) -> None:
    prefix = click.style(f"{kind}:", fg=colour, bold=True) + " " if kind else ""
    colourless = False if os.environ.get("NO_COLOR") else None
    try:
        with _bars_aside(error):
            click.echo(prefix + _visible(text), err=error, color=colourless)
    except BrokenPipeError:
        silence(error=error)
    except OSError:
        silence(error=error)
        if not error:  # where standard error fails there is nowhere to report it
            raise


def _bars_aside(error: bool) -> AbstractContextManager[object]:
    """Clear progress bars while something else is printed, if there are any."""
    tqdm = sys.modules.get("tqdm")
    if tqdm is None:
        return nullcontext()
    stream = sys.stderr if error else sys.stdout
    aside: AbstractContextManager[object] = tqdm.tqdm.external_write_mode(file=stream)
    return aside


def _one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def _visible(text: str) -> str:
    """Return a text with its control characters written out, as Python writes them."""
    return "".join(
        repr(character)[1:-1]
        if unicodedata.category(character) in _CONTROLS or character in _DIRECTIONS
        else character
        for character in text
    )
