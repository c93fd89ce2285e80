"""True classes of images, from the folders they lie in or from a table."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from camreport.errors import ClassError, suggestion
from camreport.images import InputFile

FOLDER = "folder"
"""The word that means: the class is the name of the folder an image lies in."""


def true_classes(
    labels: str | Path | Mapping[str, int | str], files: Sequence[InputFile], names: Sequence[str]
) -> dict[int, int]:
    """Return the true class of every input that has one, by the input's place.

    Args:
        labels: ``folder``; a CSV or TSV file of image and class on each line; or a mapping. An
            image is named as in the report, or by the last part of that; a class by its name,
            in any case, or its index.
        files: the inputs.
        names: the model's class names.

    Raises:
        ClassError: the file cannot be read, a class is not the model's, or no input has a label.
    """
    if isinstance(labels, Mapping):
        given = {image: str(label) for image, label in labels.items()}
    elif str(labels) == FOLDER:
        given = {file.name: file.path.resolve().parent.name for file in files}
    else:
        given = _read(Path(labels))
    indices = {str(index): index for index in range(len(names))}
    indices |= {name.casefold(): index for index, name in reversed(list(enumerate(names)))}
    found: dict[int, int] = {}
    for place, file in enumerate(files):
        label = given.get(file.name, given.get(Path(file.name).name))
        if label is None:
            continue
        if label.casefold() not in indices:
            raise ClassError(
                f"labels: expected a class of the model for {file.name}, got {label!r}."
                + (suggestion(label, names) or f" It has {', '.join(names[:5])}.")
            )
        found[place] = indices[label.casefold()]
    if not found:
        raise ClassError(
            "labels: expected the classes of the inputs, got none for any of them. The first input "
            f"is called {files[0].name!r}."
        )
    return found


def _read(path: Path) -> dict[str, str]:
    """Read image and class from each line of a table, with or without a line of headings."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ClassError(
            f"labels: expected 'folder' or a text file in UTF-8, got {path.name!r} ({error})."
        ) from error
    rows = list(csv.reader(text.splitlines(), delimiter="\t" if "\t" in text else ","))
    short = [number for number, row in enumerate(rows, start=1) if row and len(row) < 2]
    if short:
        raise ClassError(
            f"labels: expected an image and its class on each line of {path.name}, got "
            f"{','.join(rows[short[0] - 1])!r} on line {short[0]}."
        )
    return {row[0].strip(): row[1].strip() for row in rows if row}
