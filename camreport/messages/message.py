"""A message is a code with values: results keep it so, and each language words it.

The words are in the ``*.toml`` files of this folder. Each code holds one sentence per language,
with ``{name}`` for a value; tables within tables are codes with dots::

    ["images.too_large"]
    en = "too large: {width} × {height} pixels"
    zh = "太大：{width} × {height} 像素"

A code that holds a text instead of languages, such as a formula, is the same in all of them.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

LANGUAGES = ("en", "zh")
"""Languages that every message has words in."""


@dataclass(frozen=True)
class Message:
    """One message, without its words.

    Attributes:
        code: its key in the tables, ``area.name``.
        values: pairs of a placeholder's name and what fills it, sorted by name.
    """

    code: str
    values: "tuple[tuple[str, str | int | float | Message], ...]" = ()

    def __str__(self) -> str:
        """Return the message in English."""
        return self.worded("en")

    def worded(self, language: str) -> str:
        """Return the message in a language.

        Args:
            language: one of ``LANGUAGES``.

        Raises:
            KeyError: no table holds the code in this language.
        """
        values = {
            name: value.worded(language) if isinstance(value, Message) else value
            for name, value in self.values
        }
        return sentences()[self.code][language].format(**values)

    def to_json(self) -> dict[str, Any]:
        """Return the message as results keep it: ``{"code": ..., "values": {...}}``."""
        values = {
            name: value.to_json() if isinstance(value, Message) else value
            for name, value in self.values
        }
        return {"code": self.code} | ({"values": values} if values else {})

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Return the message that ``to_json`` wrote.

        Raises:
            ValueError: it is not a message, no table holds its code, or its values do not fit.
        """
        code, values = content.get("code"), content.get("values", {})
        if not isinstance(code, str) or code not in sentences() or not isinstance(values, Mapping):
            raise ValueError(f"expected a message with a known code, got {code!r}")
        pairs = {
            name: cls.from_json(value) if isinstance(value, Mapping) else value
            for name, value in values.items()
        }
        read = cls(code, tuple(sorted(pairs.items())))
        try:
            for language in LANGUAGES:
                read.worded(language)
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"expected the values of {code!r}, got {sorted(pairs)}") from error
        return read


def message(code: str, /, **values: "str | int | float | Message") -> Message:
    """Return the message with this code and these values."""
    return Message(code, tuple(sorted(values.items())))


@cache
def sentences() -> dict[str, dict[str, str]]:
    """Return the sentences of every code, by language."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(Path(__file__).parent.glob("*.toml")):
        found |= _by_code(tomllib.loads(path.read_text(encoding="utf-8")))
    return found


def _by_code(table: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return what a table and the tables within it hold, by code."""
    found: dict[str, dict[str, str]] = {}
    for name, content in table.items():
        if isinstance(content, str):
            found[name] = dict.fromkeys(LANGUAGES, content)
        elif "en" in content:
            found[name] = content
        else:
            inner = _by_code(content)
            found |= {f"{name}.{code}": one for code, one in inner.items()}
    return found
