"""The model's structure as files: its printed text, and its modules as a table and in pictures."""

import csv
import math
from collections.abc import Iterator, Sequence
from functools import partial
from io import StringIO

from PIL import Image, ImageDraw

from camreport.report.export.lettering import write
from camreport.report.export.sheets import PAGE_WIDTH
from camreport.report.export.spreadsheet import plain
from camreport.report.gallery.language import Words
from camreport.results.schema import ModuleEntry, Structure

MAX_LINES = 60
"""Most modules in one picture: about a page of them."""

COLUMNS = ("address", "type", "output", "parameters")
"""Headings of the table."""

_MARGIN, _SIZE, _LINE = 24, 28, 42
_LEFT = (_MARGIN, 720, 1190, 1600)


def structure_text(structure: Structure) -> bytes:
    """Return what ``print(model)`` says."""
    return (structure.printed + "\n").encode()


def structure_table(structure: Structure) -> bytes:
    """Return a line for each module, in UTF-8 with a mark that Excel reads."""
    text = StringIO(newline="")
    lines = csv.writer(text)
    lines.writerow(COLUMNS)
    for module in structure.modules:
        address, kind, shape, _ = _cells(module)
        lines.writerow([plain(address), plain(kind), shape, module.parameters])
    return text.getvalue().encode("utf-8-sig")


def count_pictures(structure: Structure) -> int:
    """Return the number of pictures of a structure."""
    return math.ceil(len(structure.modules) / MAX_LINES)


def structure_pictures(
    structure: Structure, words: Words, fonts: tuple[str, ...]
) -> Iterator[Image.Image]:
    """Draw the table of the modules, a page of it in each picture.

    Args:
        structure: of the model.
        words: of the language that the heads are written in.
        fonts: as for ``write``.
    """
    for start in range(0, len(structure.modules), MAX_LINES):
        yield _picture(structure.modules[start : start + MAX_LINES], words, fonts)


def _picture(modules: Sequence[ModuleEntry], words: Words, fonts: tuple[str, ...]) -> Image.Image:
    size = (PAGE_WIDTH, 2 * _MARGIN + (1 + len(modules)) * _LINE)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    put = partial(write, draw, fonts, size=_SIZE)
    rows = [tuple(words(f"structure.{name}") for name in COLUMNS), *map(_cells, modules)]
    for line, row in enumerate(rows):
        top = _MARGIN + line * _LINE
        for left, right, text in zip(_LEFT, (*_LEFT[1:], PAGE_WIDTH), row, strict=True):
            fill = "black" if line else "#59635f"
            put(left, top, text, room=right - left - _MARGIN, fill=fill)
        bottom = top + _LINE - 2
        draw.line((_MARGIN, bottom, PAGE_WIDTH - _MARGIN, bottom), fill="#c9cdc9", width=1)
    return picture


def _cells(module: ModuleEntry) -> tuple[str, str, str, str]:
    shape = "" if module.shape is None else " × ".join(map(str, module.shape)) or "1"
    return module.address, module.type, shape, f"{module.parameters:,}" * bool(module.parameters)
