"""The page's words: one table per language, and messages in that language."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from camreport.errors import InputError
from camreport.messages import Message
from camreport.settings import LANGUAGES as LANGUAGES

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Words:
    """One language.

    Attributes:
        language: its code, one of ``LANGUAGES``.
        strings: the page's own words, by key; ``{name}`` stands for what varies.
        phrases: sentences that Python writes in English, with the same kind of placeholders.
    """

    language: str
    strings: Mapping[str, str]
    phrases: Mapping[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """Return the words for a key with their values filled in."""
        return self.strings[key].format(**values)

    def number_of(self, key: str, count: int) -> str:
        """Return words with a number, singular or plural: ``3 images``."""
        return self(f"{key}.one" if count == 1 else f"{key}.other", count=f"{count:,}")

    def message(self, message: Message) -> str:
        """Return the words of a message."""
        return self.phrase(message.worded(self.language))

    def phrase(self, sentence: str | Message) -> str:
        """Translate a sentence that was written in English; one that is not known stays."""
        if isinstance(sentence, Message):
            return sentence.worded(self.language)
        if sentence in self.phrases:
            return self.phrases[sentence]
        for pattern, translated in self._patterns:
            found = pattern.fullmatch(sentence)
            if found:
                return translated.format(
                    **{name: self.phrase(text) for name, text in found.groupdict().items()}
                )
        return sentence

    @cached_property
    def _patterns(self) -> list[tuple[re.Pattern[str], str]]:
        return [
            (_pattern(template), translated)
            for template, translated in self.phrases.items()
            if _PLACEHOLDER.search(template)
        ]


def check_language(language: str) -> None:
    """Refuse a language that has no table.

    Raises:
        InputError: it is none of ``LANGUAGES``.
    """
    if language not in LANGUAGES:
        raise InputError(f"language: expected {' or '.join(LANGUAGES)}, got {language!r}.")


@cache
def words_of(language: str) -> Words:
    """Return the words of one of ``LANGUAGES``."""
    path = templates_folder() / "languages" / f"{language}.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    return Words(language, table["strings"], table.get("phrases", {}))


def language_of(report: Path) -> str:
    """Return the language in which a report opens; English if there is no report yet."""
    try:
        with report.open(encoding="utf-8") as file:
            head = file.read(200)
    except (OSError, UnicodeDecodeError):
        return "en"
    found = re.search(r'<html lang="(\w+)', head)
    return found[1] if found and found[1] in LANGUAGES else "en"


def templates_folder() -> Path:
    """Return the folder of the templates: in the package, or next to it in a checkout."""
    package = Path(__file__).parents[2]
    packaged = package / "templates"
    return packaged if packaged.is_dir() else package.parent / "templates"


def _pattern(template: str) -> re.Pattern[str]:
    """Return what matches a template with any text for its placeholders."""
    parts = _PLACEHOLDER.split(template)
    seen: set[str] = set()
    pattern = ""
    for place, part in enumerate(parts):
        if place % 2 == 0:
            pattern += re.escape(part)
        elif part in seen:
            pattern += f"(?P={part})"
        else:
            seen.add(part)
            pattern += f"(?P<{part}>.+?)"
    return re.compile(pattern, re.DOTALL)
