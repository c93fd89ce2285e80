"""True classes of images, from the folders they lie in or from a table."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from camreport.errors import ClassError, suggestion
from camreport.images.classes import find_class
from camreport.images.inputs import (
    READABLE_EXTENSIONS,
    UNREADABLE_EXTENSIONS,
    InputFile,
    printable,
    read_text,
)
from camreport.messages.progress import Notify
from camreport.settings import split_list

FOLDER = "folder"
"""The option's value for: an image's class is the name of its folder."""

TAR_LABELS = "tar"
"""The option's value for: an image's class is in a file beside it in its tar file."""

TAR_ENDINGS = (".cls", ".json", ".txt")
"""Endings of the files that hold the class of the image of the same name in a tar file, the surest
first."""

LABEL_HEADINGS = frozenset(
    "label labels class classes category target truth ground_truth true_class class_name "
    "class_index label_name y 类别 标签".split()
)
"""Lower-case headings that mark a column of true classes."""

MAX_GROUPS = 20
"""Most different values of a column that divides the images into groups."""

MAX_VALUE = 100
"""Most characters of such a value."""

MAX_RANGE = 100_000
"""Most classes in one range of a label map."""

MAX_SHOWN = 5
"""Number of names that an error message lists."""

LabelMap = Mapping[str, Sequence[int]]
"""The model's classes that each label means."""

_Find = Callable[[str], int | None]


def true_classes(
    labels: str | Path | Mapping[str, int | str],
    files: Sequence[InputFile],
    names: Sequence[str],
    notify: Notify = lambda message: None,
    label_map: LabelMap | None = None,
) -> dict[int, tuple[int, ...]]:
    """Return the correct classes of every input with a label, by the input's index.

    Args:
        labels: ``folder``; ``tar``; a CSV or TSV file of images and classes; or a mapping. An image
            has its name in the report, or the last part of that name if no other image shares it.
            A class has its name or its index.
        files: the inputs.
        names: the model's class names.
        notify: called with a sentence if some inputs have no label.
        label_map: labels of another vocabulary, and the model's classes that each means.

    Raises:
        ClassError: the file cannot be read, a class is not the model's, an image or a class is
            ambiguous, or no input has a label.
    """
    words: dict[int, str | int]
    if isinstance(labels, Mapping):
        words = {index: labels[key] for key, index in _indices(labels, files).items()}
    elif str(labels) == FOLDER:
        words = {i: file.folder for i, file in enumerate(files) if not file.problem}
    elif str(labels) == TAR_LABELS:
        words = {i: file.label for i, file in enumerate(files) if file.label is not None}
    else:
        find = partial(_find, names=names, label_map=label_map or {})
        words = dict(_from_table(Path(labels), files, find))
    classes = {w: meant_classes(w, names, label_map or {}) for w in dict.fromkeys(words.values())}
    for index, word in words.items():
        if not classes[word]:
            raise ClassError(_unknown(files[index].name, str(word), labels, words.values(), names))
    if not words:
        where = ""
        if str(labels) == TAR_LABELS:
            stem = PurePosixPath(files[0].name).name.partition(".")[0]
            *most, last = (repr(stem + ending) for ending in TAR_ENDINGS)
            where = f" --labels tar looks for {', '.join(most)} or {last} beside it."
        raise ClassError(
            "labels: expected the classes of the inputs, got none for any of them. The first input "
            f"is called {files[0].name!r}.{where}"
        )
    if len(words) < len(files):
        notify(f"{len(words)} of {len(files)} images have a label")
    return {index: classes[words[index]] for index in sorted(words)}


def group_values(
    path: Path, columns: Sequence[str], files: Sequence[InputFile]
) -> dict[int, tuple[str | None, ...]]:
    """Return the values of some columns of a table of labels, by the index of the row's input.

    Args:
        path: a CSV or TSV file of images, with headings.
        columns: headings; upper or lower case does not matter.
        files: the inputs.

    Returns:
        A value for each column; None for an empty cell.

    Raises:
        ClassError: the file cannot be read, has no such column, or gives an input two values; or a
            column has too many different values or less than two.
    """
    table = _read(path, files)
    places = [_group_column(table, column) for column in columns]
    indices = _indices([row[table.image] for row, _ in table.rows], files)
    found: dict[int, tuple[str | None, ...]] = {}
    for row, line in table.rows:
        if (key := row[table.image]) not in indices:
            continue
        own = tuple(
            (printable(row[at])[:MAX_VALUE] or None) if at < len(row) else None for at in places
        )
        if found.setdefault(indices[key], own) != own:
            raise ClassError(
                f"groups: expected one row for {key!r} in {table.name}, got another on line {line}."
            )
    for place, column in enumerate(columns):
        values = {own[place] for own in found.values()} - {None}
        if not 2 <= len(values) <= MAX_GROUPS:
            raise ClassError(
                f"groups: expected 2 to {MAX_GROUPS} different values in the column {column!r} of "
                f"{table.name}, got {len(values)}. Choose a column such as a scanner or a season."
            )
    return found


def _group_column(table: "_Table", column: str) -> int:
    """Return the index of a column by its heading.

    Raises:
        ClassError: there is none.
    """
    headings = [heading.casefold() for heading in table.headings]
    if column.casefold() in headings:
        return headings.index(column.casefold())
    others = [table.heading(at) for at in table.others]
    raise ClassError(
        f"groups: expected headings of columns of {table.name}, got {column!r}."
        + (suggestion(column, others) or f" It has {', '.join(others[:MAX_SHOWN]) or 'none'}.")
    )


def shown_class(right: Sequence[int], predicted: int | None) -> int:
    """Return the one of several correct classes to show: the predicted class, or the first."""
    return predicted if predicted in right and predicted is not None else right[0]


def read_label_map(text: str, names: Sequence[str]) -> dict[str, list[int]]:
    """Return the model's classes that the labels of another vocabulary mean.

    Args:
        text: such as ``cat=281-285,dog=151-268,277``: indices, ranges or names.
        names: the model's class names.

    Raises:
        ClassError: a class is not the model's, or has no label before it.
    """
    found: dict[str, list[int]] = {}
    word = ""
    for entry in split_list(text):
        before, equals, meant = entry.rpartition("=")
        word = before.strip() if equals else word
        classes = _range(meant.strip(), names)
        if not word or not classes:
            raise ClassError(
                f"label_map: expected words and the model's classes, such as cat=281-285,dog=151, "
                f"got {entry.strip()!r}." + suggestion(meant.strip(), names)
            )
        found.setdefault(word, []).extend(classes)
    return found


def meant_classes(
    word: str | int, names: Sequence[str], label_map: LabelMap, argument: str = "labels"
) -> tuple[int, ...]:
    """Return the model's classes that a label means; none if the model does not have it.

    Args:
        word: a name or an index.
        names: the model's class names.
        label_map: labels of another vocabulary, and the model's classes that each means.
        argument: the argument's name at the start of an error message.

    Raises:
        ClassError: it can mean more than one class.
    """
    if word in label_map:
        return tuple(label_map[str(word)])
    if isinstance(word, int):
        return (word,) if word >= 0 and (not names or word < len(names)) else ()
    index = find_class(word, names, argument)
    return () if index is None else (index,)


def _range(meant: str, names: Sequence[str]) -> list[int]:
    """Return the indices that a name, an index or a range such as ``281-285`` means.

    Raises:
        ClassError: the range is too long.
    """
    index = find_class(meant, names, "label_map")
    if index is not None:
        return [index]
    first, _, last = meant.partition("-")
    if not (first.isdecimal() and last.isdecimal()) or (names and int(last) >= len(names)):
        return []
    if int(last) - int(first) >= MAX_RANGE:
        raise ClassError(
            f"label_map: expected a range of up to {MAX_RANGE:,} classes, got {meant!r}."
        )
    return list(range(int(first), int(last) + 1))


def _find(word: str, names: Sequence[str], label_map: LabelMap) -> int | None:
    return next(iter(meant_classes(word, names, label_map)), None)


def _unknown(
    image: str, word: str, labels: object, words: Iterable[str | int], names: Sequence[str]
) -> str:
    """Return an error text on a class that is not the model's, with the folders or classes."""
    text = f"labels: expected a class of the model for {image}, got {printable(word)!r}."
    if names:
        text += suggestion(word, names) or f" It has {', '.join(names[:MAX_SHOWN])}."
    if str(labels) == FOLDER:
        folders = sorted({printable(str(each)) for each in words})
        more = ", …" if len(folders) > MAX_SHOWN else ""
        text += (
            f" The folders are called {', '.join(folders[:MAX_SHOWN])}{more}. If they are other "
            f"words, give the classes they mean: --label-map {folders[0]}=0"
        )
    return text


def _indices(keys: Iterable[str], files: Sequence[InputFile]) -> dict[str, int]:
    """Return the index of the input that each name in a table means; other names are left out.

    Raises:
        ClassError: inputs in different folders share a name.
    """
    by_name = {file.name: index for index, file in enumerate(files)}
    wanted = set(keys)
    by_last: dict[str, list[int]] = {}
    for index, file in enumerate(files):
        if file.name not in wanted:
            by_last.setdefault(Path(file.name).name, []).append(index)
    found = {}
    for key in wanted:
        called = [by_name[key]] if key in by_name else by_last.get(key, [])
        if len(called) > 1:
            first, second = (files[index].name for index in called[:2])
            raise ClassError(
                f"labels: expected a label for each image, got one for {key!r}, which may be "
                f"{first!r} or {second!r}. Name the images with their folders."
            )
        if called:
            found[key] = called[0]
    return found


@dataclass(frozen=True)
class _Table:
    """A table of images and classes.

    Attributes:
        name: the file's name.
        headings: the columns' headings; empty if there are none.
        rows: cells and line number of each row that names an input.
        image: index of the column with the images' names.
        others: indices of the other columns.
    """

    name: str
    headings: list[str]
    rows: list[tuple[list[str], int]]
    image: int
    others: list[int]

    def heading(self, column: int) -> str:
        return self.headings[column] if column < len(self.headings) else ""

    def cells(self, column: int) -> list[str]:
        return [row[column] if column < len(row) else "" for row, _ in self.rows]


def _from_table(path: Path, files: Sequence[InputFile], find: _Find) -> dict[int, str]:
    """Return the class in each row of a table, by the index of the row's input.

    Raises:
        ClassError: the table cannot be read, or gives an input two classes.
    """
    table = _read(path, files)
    named = [(row[table.image], line) for row, line in table.rows]
    indices = _indices([key for key, _ in named], files)
    lines: dict[int, tuple[str, int]] = {}
    for (key, line), word in zip(named, _words(table, find), strict=True):
        if key not in indices:  # the last part of a name that the table has in full as well
            continue
        earlier, first = lines.setdefault(indices[key], (word, line))
        if earlier != word:
            raise ClassError(
                f"labels: expected one class for {key!r} in {table.name}, got {earlier!r} on line "
                f"{first} and {word!r} on line {line}."
            )
    return {index: word for index, (word, _) in lines.items()}


def _read(path: Path, files: Sequence[InputFile]) -> _Table:
    text = read_text(path, "labels: expected 'folder' or a text file in UTF-8")
    head = text.partition("\n")[0]
    delimiter = next((mark for mark in "\t,;" if mark in head), ",")
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    try:
        rows = [([cell.strip() for cell in row], reader.line_num) for row in reader if row]
    except csv.Error as error:
        raise ClassError(f"labels: expected a table, got {path.name!r} ({error}).") from error
    for row, line in rows:
        if len(row) < 2:
            raise ClassError(
                f"labels: expected an image and its class on each line of {path.name}, got "
                f"{row[0]!r} on line {line}."
            )
    known = {name for file in files for name in (file.name, Path(file.name).name)}
    width = max((len(row) for row, _ in rows), default=0)
    matches = [sum(row[c] in known for row, _ in rows if c < len(row)) for c in range(width)]
    image = matches.index(max(matches)) if matches else 0
    first = rows[0][0] if rows else []
    return _Table(
        name=path.name,
        headings=[] if any(cell in known or _is_image(cell) for cell in first) else first,
        rows=[(row, line) for row, line in rows if image < len(row) and row[image] in known],
        image=image,
        others=[column for column in range(width) if column != image],
    )


def _is_image(cell: str) -> bool:
    return Path(cell).suffix.lower() in READABLE_EXTENSIONS | UNREADABLE_EXTENSIONS


def _words(table: _Table, find: _Find) -> list[str]:
    """Return the class in each row, by name or index.

    Raises:
        ClassError: it is unclear which column has the classes, or a row has none or several.
    """
    labelled = [c for c in table.others if table.heading(c).casefold() in LABEL_HEADINGS]
    if len(labelled) == 1:
        return table.cells(labelled[0])
    switches = [c for c in table.others if set(table.cells(c)) <= {"0", "1", "0.0", "1.0"}]
    if table.headings and len(switches) > 1 and not labelled:
        return _one_hot(table, switches, find)
    return table.cells(_class_column(table, labelled or table.others, find))


def _one_hot(table: _Table, switches: Sequence[int], find: _Find) -> list[str]:
    """Return the classes of columns of 0 and 1 with a class as the heading of each.

    Raises:
        ClassError: the headings are no classes, or a row has none or several.
    """
    classes = [c for c in switches if _is_class(table.heading(c), find)]
    if len(classes) < 2:
        raise ClassError(
            f"labels: expected classes as the headings of the columns of 0 and 1 in {table.name}, "
            f"got {', '.join(repr(table.heading(c)) for c in switches[:MAX_SHOWN])}."
        )
    words = []
    for row, line in table.rows:
        chosen = [table.heading(c) for c in classes if float(row[c]) == 1]
        if len(chosen) != 1:
            raise ClassError(
                f"labels: expected one class on line {line} of {table.name}, got "
                f"{' and '.join(chosen) or 'none'}."
            )
        words += chosen
    return words


def _class_column(table: _Table, columns: Sequence[int], find: _Find) -> int:
    """Return the index of the column whose cells are classes.

    Raises:
        ClassError: there is none, or more than one.
    """
    held = [c for c in columns if all(_is_class(cell, find) for cell in table.cells(c))]
    by_name = [c for c in held if any(_is_name(cell, find) for cell in table.cells(c))]
    if len(by_name) == 1:
        return by_name[0]
    number_under_heading = bool(table.headings) and not by_name and held
    if not by_name and not number_under_heading and (len(held) == 1 or len(columns) == 1):
        return (held or list(columns))[0]
    if not held and not table.headings:
        return columns[0]
    shown = [repr(table.heading(c) or f"column {c + 1}") for c in columns[:MAX_SHOWN]]
    raise ClassError(
        f"labels: expected one column of classes in {table.name}, got {', '.join(shown)}. Call "
        "the one with the classes 'label'."
    )


def _is_class(cell: str, find: _Find) -> bool:
    try:
        return find(cell) is not None
    except ClassError:  # ambiguous: reported once the column is chosen
        return True


def _is_name(cell: str, find: _Find) -> bool:
    return not cell.replace(".", "", 1).isdecimal() and _is_class(cell, find)
