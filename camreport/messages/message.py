"""A message is a code with values: results keep it so, and each language words it.

The words lie in the ``*.toml`` files beside this one. A table's name is the area, its entries
are codes, and each code holds one sentence per language with ``{name}`` for a value::

    ["images.too_large"]
    en = "too large: {width} × {height} pixels"
    zh = "太大：{width} × {height} 像素"
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class Message:
    """One thing to tell.

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
            language: ``en`` or ``zh``.

        Raises:
            KeyError: no table holds the code in this language.
        """
        values = {
            name: value.worded(language) if isinstance(value, Message) else value
            for name, value in self.values
        }
        return _sentences()[self.code][language].format(**values)

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
            ValueError: it is none, or no table holds its code.
        """
        code, values = content.get("code"), content.get("values", {})
        if not isinstance(code, str) or code not in _sentences() or not isinstance(values, Mapping):
            raise ValueError(f"expected a message with a known code, got {code!r}")
        pairs = (
            (name, cls.from_json(value) if isinstance(value, Mapping) else value)
            for name, value in values.items()
        )
        return cls(code, tuple(sorted(pairs)))


def message(code: str, **values: "str | int | float | Message") -> Message:
    """Return the message with this code and these values."""
    return Message(code, tuple(sorted(values.items())))


@cache
def _sentences() -> dict[str, dict[str, str]]:
    """Return every language's sentence by code."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(Path(__file__).parent.glob("*.toml")):
        found |= tomllib.loads(path.read_text(encoding="utf-8"))
    return found
