"""The page's words: one table per language, and messages in that language."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from camreport.errors import InputError, ResultsError
from camreport.files import is_file, reading
from camreport.messages import Message
from camreport.settings import LANGUAGES as LANGUAGES

MAX_PAGE_BYTES = 8 * 1024**3
"""Largest page whose language is looked for."""


@dataclass(frozen=True)
class Words:
    """One language.

    Attributes:
        language: its code, one of ``LANGUAGES``.
        strings: the page's own words, by key; ``{name}`` stands for what varies.
    """

    language: str
    strings: Mapping[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """Return the words for a key with their values filled in."""
        return self.strings[key].format(**values)

    def number_of(self, key: str, count: int) -> str:
        """Return words with a number, singular or plural: ``3 images``."""
        return self(f"{key}.one" if count == 1 else f"{key}.other", count=f"{count:,}")

    def message(self, message: Message) -> str:
        """Return the words of a message."""
        return message.worded(self.language)


def check_language(language: str) -> None:
    """Refuse a language that has no table.

    Raises:
        InputError: it is none of ``LANGUAGES``.
    """
    if language not in list(LANGUAGES):  # which asks for no hash
        raise InputError(f"language: expected {' or '.join(LANGUAGES)}, got {language!r}.")


@cache
def words_of(language: str) -> Words:
    """Return the words of one of ``LANGUAGES``."""
    path = templates_folder() / "languages" / f"{language}.json"
    return Words(language, json.loads(path.read_text(encoding="utf-8")))


def language_of(report: Path) -> str:
    """Return the language in which a report opens; English if there is no report yet."""
    if not is_file(report):  # opening a pipe would wait for somebody to write to it
        return "en"
    try:
        with reading(report, report.parent, MAX_PAGE_BYTES, partly=True) as file:
            head = file.read(200).decode(errors="replace")
    except ResultsError:
        return "en"
    found = re.search(r'<html lang="(\w+)', head)
    return found[1] if found and found[1] in LANGUAGES else "en"


def templates_folder() -> Path:
    """Return the folder of the templates: in the package, or next to it in a checkout."""
    package = Path(__file__).parents[2]
    packaged = package / "templates"
    return packaged if packaged.is_dir() else package.parent / "templates"
