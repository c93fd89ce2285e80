"""Rows of tables for spreadsheets: written in UTF-8 with a mark that Excel reads."""

import csv
import re
from collections.abc import Iterable, Sequence
from io import TextIOWrapper
from pathlib import Path

from camreport.files import writing

_RUN = re.compile(r"^[\t\r\n]|(^|[;,|\t])\s*[=+@-]")
"""A formula's first sign, at the start of a text or of a part that a spreadsheet splits off."""


def write_rows(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write the lines of a table, its headings first."""
    with writing(path, path.parent) as binary:
        file = TextIOWrapper(binary, encoding="utf-8-sig", newline="", write_through=True)
        csv.writer(file).writerows(rows)
        file.flush()
        file.detach()


def given(number: float | None) -> object:
    """Return a number, or nothing where there is none."""
    return "" if number is None else number


def plain(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula to run."""
    return f"'{text}" if _RUN.search(text) else text
