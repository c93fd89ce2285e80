"""The classes that all runs share: by name, or as a label map brings several vocabularies together.

A label map says which classes a word stands for: ``{"cat": ["281-285"], "dog": ["151-268"]}``, by
name, index, or first and last index. Runs whose classes all have these words as names already are
left as they are; in the others, classes that the map does not list are compared with none.
"""

import csv
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from camreport.errors import ClassError, suggestion
from camreport.images.inputs import read_text
from camreport.settings.text import split_list

MAX_NAMED = 3
"""Most names that a message lists."""

MIN_CLASSES = 2
"""Fewest words of a label map."""

ENDINGS = (".csv", ".json", ".toml")

EXAMPLE = "cat=281-285,dog=151-268"

LabelMap = Mapping[str, Sequence[str]]
"""For each word the classes that it stands for: names, indices, or first and last index."""

_INDICES = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


@dataclass(frozen=True)
class Vocabulary:
    """The classes that runs share.

    Attributes:
        names: of the classes, in the order of the first run.
        members: of each run, for each of these classes the indices of its own classes.
    """

    names: tuple[str, ...]
    members: tuple[tuple[tuple[int, ...], ...], ...]

    def shared(self, run: int) -> dict[int, int]:
        """Return for a run's own classes, as far as they are shared, which of these they are."""
        return {own: place for place, all_of in enumerate(self.members[run]) for own in all_of}


def vocabulary(
    names: Sequence[str], classes: Sequence[Sequence[str]], label_map: LabelMap | None = None
) -> Vocabulary:
    """Return the classes that runs share.

    Args:
        names: of the runs, for messages.
        classes: of each run, the names of its classes.
        label_map: for each word the classes that it stands for.

    Raises:
        ClassError: the runs' classes do not have the same names, or the map names others.
    """
    renamed = [[*own] for own in classes]
    if label_map is None and all(own == renamed[0] for own in renamed):
        each = tuple((index,) for index in range(len(renamed[0])))
        return Vocabulary(tuple(renamed[0]), (each,) * len(classes))  # with names that occur twice
    if label_map is not None:
        renamed = [_renamed(own, label_map) for own in classes]
        _check_map(names, classes, renamed, label_map)
    sets = [{*own} - {""} for own in renamed]
    for name, own in zip(names[1:], sets[1:], strict=True):
        if own != sets[0]:
            raise ClassError(_unlike(names[0], sets[0], name, own))
    shared = tuple(dict.fromkeys(name for name in renamed[0] if name))
    members = (
        tuple(tuple(i for i, own in enumerate(run) if own == name) for name in shared)
        for run in renamed
    )
    return Vocabulary(shared, tuple(members))


def _renamed(own: Sequence[str], label_map: LabelMap) -> list[str]:
    """Return the words that a run's classes stand for; empty for those that stand for none.

    Raises:
        ClassError: a class stands for two words.
    """
    if label_map.keys() >= {*own}:
        return [*own]
    found = [name if name in label_map else "" for name in own]
    for word, listed in label_map.items():
        for index in (index for entry in listed for index in _meant(entry, own)):
            if found[index] not in ("", word):
                raise ClassError(
                    f"label-map: expected each class once, got {own[index]!r} for {found[index]!r} "
                    f"and for {word!r}. Take it out of one of them."
                )
            found[index] = word
    return found


def _meant(entry: str, own: Sequence[str]) -> list[int]:
    """Return the indices of a run's classes that an entry means; none where it means none."""
    named = [index for index, name in enumerate(own) if name == entry]
    found = _INDICES.fullmatch(entry)
    if named or not found:
        return named
    first = int(found[1])
    return [*range(first, min(int(found[2] or first) + 1, len(own)))]


def _check_map(
    names: Sequence[str],
    classes: Sequence[Sequence[str]],
    renamed: Sequence[Sequence[str]],
    label_map: LabelMap,
) -> None:
    """Refuse a label map with an entry that is no class, or a word that a run has no class of.

    Raises:
        ClassError: there is one, or it has only one word.
    """
    if len(label_map) < MIN_CLASSES:
        raise ClassError(
            f"label-map: expected {MIN_CLASSES} words or more, such as {EXAMPLE}, got "
            f"{', '.join(map(repr, label_map))}: nothing can be told apart."
        )
    known = dict.fromkeys(name for own in classes for name in own)
    for entry in (entry for listed in label_map.values() for entry in listed):
        if not any(_meant(entry, own) for own in classes):
            raise ClassError(
                "label-map: expected names, indices or ranges of the runs' classes, got "
                f"{entry!r}.{suggestion(entry, known)}"
            )
    for run, own in zip(names, renamed, strict=True):
        for word in label_map:
            if word not in own:
                raise ClassError(
                    f"label-map: expected classes of every run, got none of {run!r} for {word!r}. "
                    f"Add some to it, as in {EXAMPLE}, or leave {word!r} out."
                )


def _unlike(first: str, own: set[str], second: str, its: set[str]) -> str:
    """Say what differs between the classes of two runs, and what helps."""
    told = [
        f"{run!r} has {_listed(more)}, which {other!r} has not"
        for run, other, more in ((first, second, own - its), (second, first, its - own))
        if more
    ]
    return (
        f"classes: expected the same names in all runs, but {'; '.join(told)}. "
        f"--label-map says which classes mean the same, as in {EXAMPLE}."
    )


def _listed(names: set[str]) -> str:
    """List the first of some names, and count the others."""
    shown = ", ".join(map(repr, sorted(names)[:MAX_NAMED]))
    return shown if len(names) <= MAX_NAMED else f"{shown} and {len(names) - MAX_NAMED:,} more"


def read_label_map(given: str | Path | Mapping[str, object]) -> dict[str, list[str]]:
    """Return a label map from a mapping, a text, or a file.

    Args:
        given: for each word a class or several, as names, indices, or first and last index; as a
            mapping, as a text like ``cat=281-285,dog=151-268``, or as the path of a file that
            ends in ``.json`` (an object), ``.toml`` (a table) or ``.csv`` (a word and a class in
            each line), in UTF-8.

    Raises:
        ClassError: it is none of these, or empty.
    """
    if isinstance(given, Mapping):
        return _entries(given.items(), "a mapping")
    file = Path(given)
    if file.suffix.lower() in ENDINGS:
        return _entries(_pairs(file), repr(file.name))
    if not isinstance(given, str) or "=" not in given:
        raise ClassError(
            f"label-map: expected words and their classes, such as {EXAMPLE}, or a file that ends "
            f"in {', '.join(ENDINGS)}, got {str(given)!r}."
        )
    return _entries(_spelled(given), repr(given))


def _spelled(text: str) -> Iterator[tuple[str, str]]:
    """Yield words and classes of a text; without a word before it a class belongs to the last."""
    word = ""
    for entry in split_list(text):
        before, equals, meant = entry.rpartition("=")
        word = before.strip() if equals else word
        yield word, meant


def _pairs(file: Path) -> list[tuple[str, object]]:
    """Return the words and classes of a file.

    Raises:
        ClassError: it cannot be read, or is not of the form that its ending says.
    """
    try:
        text = read_text(file, "label-map: expected a text file in UTF-8")
        if file.suffix.lower() == ".csv":
            return [(row[0], row[1]) for row in csv.reader(text.splitlines()) if any(row)]
        read = json.loads if file.suffix.lower() == ".json" else tomllib.loads
        return [*read(text).items()]
    except (ValueError, IndexError, AttributeError, RecursionError) as error:
        raise ClassError(
            f"label-map: expected words and their classes in {file.name!r}, but it cannot be read "
            f"({error})."
        ) from error


def _entries(pairs: Iterable[tuple[object, object]], where: str) -> dict[str, list[str]]:
    """Return a label map with lists of texts.

    Raises:
        ClassError: a word or a class is neither a text nor a number, or there is none.
    """
    found: dict[str, list[str]] = {}
    for word, given in pairs:
        listed = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
        for one in listed:
            if not (str(word).strip() and type(one) in (str, int) and str(one).strip()):
                raise ClassError(
                    f"label-map: expected words and their classes, such as {EXAMPLE}, got "
                    f"{word!r} and {one!r} in {where}."
                )
            found.setdefault(str(word).strip(), []).append(str(one).strip())
    if not found:
        raise ClassError(f"label-map: expected words and their classes, got none in {where}.")
    return found
