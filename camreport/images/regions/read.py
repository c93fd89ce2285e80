"""A file or folder of regions, read in whichever format it has."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath

from camreport.errors import InputError
from camreport.images.inputs import InputFile, printable, read_file
from camreport.images.regions.coco import read_coco
from camreport.images.regions.entries import Entry, Faults
from camreport.images.regions.tables import read_table, read_yolo
from camreport.images.regions.voc import read_voc

MAX_TEXT_BYTES = 128 * 2**20
"""Largest file of boxes that is read; COCO's own validation set has 20 MB."""

MAX_SHOWN_LINE = 60
"""Most characters that an error shows of a file's first line."""

CLASS_LISTS = ("classes.txt", "obj.names")
"""Files with the names of YOLO's indices, one a line."""

MASK = "_mask"
"""What a mask's name may have after the photograph's, and must have among photographs."""

FORMATS = "COCO JSON, Pascal VOC XML, YOLO txt, CSV (image, x0, y0, x1, y1[, class]), PNG masks"


def read_entries(path: Path, files: Sequence[InputFile], faults: Faults) -> list[Entry]:
    """Return the regions in a file or a folder.

    Args:
        path: of the file or folder.
        files: the inputs, which are no masks.
        faults: collects what cannot be read.

    Raises:
        InputError: it cannot be read, or has none of the formats.
    """
    if path.is_dir():
        return _of_folder(path, files, faults)
    if path.suffix.lower() == ".png":
        return [_mask(path, path.name)]
    text = _text(path)
    readers: dict[str, Callable[[], list[Entry]]] = {
        "COCO JSON": lambda: read_coco(text, faults),
        "Pascal VOC XML": lambda: read_voc(text, path.name, faults),
        "CSV": lambda: read_table(text, faults),
        "YOLO txt": lambda: _only_yolo(text, path, faults),
    }
    head = text.lstrip()[:1]
    likely = {"{": ["COCO JSON"], "[": ["COCO JSON"], "<": ["Pascal VOC XML"]}
    reasons = []
    for name in likely.get(head, ["YOLO txt", "CSV"]):
        try:
            return readers[name]()
        except ValueError as error:
            reasons.append(f"not {name} ({error})")
    first = printable(text.strip().partition("\n")[0][:MAX_SHOWN_LINE])
    raise InputError(
        f"regions: expected {FORMATS}, got {_quoted(path)}, {' and '.join(reasons)}. Its first "
        f"line is {first!r}."
    )


def without_masks(files: Sequence[InputFile], regions: str | Path | None) -> tuple[InputFile, ...]:
    """Return the inputs without the masks that lie beside them.

    Args:
        files: the inputs.
        regions: the folder of the masks. A PNG file in it is a mask if it is called as another
            input with ``_mask`` after it.
    """
    if regions is None or not os.path.isdir(regions):
        return tuple(files)
    names = {PurePath(file.name).with_suffix("").as_posix() for file in files}
    folder = Path(os.path.realpath(regions))

    def is_mask(file: InputFile) -> bool:
        stem = PurePath(file.name).with_suffix("").as_posix()
        named = file.uri.lower().endswith(".png") and stem.endswith(MASK)
        inside = named and Path(os.path.realpath(file.uri)).is_relative_to(folder)
        return inside and stem.removesuffix(MASK) in names

    return tuple(file for file in files if not is_mask(file))


def _of_folder(folder: Path, files: Sequence[InputFile], faults: Faults) -> list[Entry]:
    found = _listed(folder)
    inputs = {os.path.realpath(file.uri) for file in files if file.span is None}
    masks = [f for f in found.get(".png", []) if os.path.realpath(f) not in inputs]
    lists = [f for f in found.get(".txt", []) if f.name in CLASS_LISTS]
    texts = [f for f in found.get(".txt", []) if f not in lists]
    if documents := found.get(".xml", []):
        return _each(documents, folder, lambda t, n: read_voc(t, n, faults), faults)
    if len(tables := [*found.get(".json", []), *found.get(".csv", [])]) == 1:
        return read_entries(tables[0], files, faults)
    if len(tables) > 1:
        raise InputError(
            f"regions: expected one file of boxes in {_quoted(folder)}, got {_quoted(tables[0])} "
            f"and {_quoted(tables[1])}. Give the file instead of the folder."
        )
    if masks:
        return [_mask(file, file.relative_to(folder).as_posix()) for file in masks]
    if texts:
        lists += [f for name in CLASS_LISTS if (f := folder.parent / name).is_file()]
        classes = _text(lists[0]).splitlines() if lists else []
        return _each(texts, folder, lambda t, n: read_yolo(t, n, classes, faults), faults)
    raise InputError(
        f"regions: expected {FORMATS}, got the folder {_quoted(folder)} with "
        f"{', '.join(sorted(found)) or 'no file'}."
    )


def _each(
    paths: Sequence[Path],
    folder: Path,
    read: Callable[[str, str], list[Entry]],
    faults: Faults,
) -> list[Entry]:
    """Return the regions of all files of a folder; one that cannot be read costs no other."""
    entries = []
    for path in paths:
        name = path.relative_to(folder).as_posix()
        try:
            entries += read(_text(path), name)
        except (ValueError, InputError) as error:
            faults.left_out("a file that can be read", f"{name} ({error})")
    return entries


def _listed(folder: Path) -> dict[str, list[Path]]:
    """Return the files of a folder and its subfolders by their extensions, without hidden ones."""
    found: dict[str, list[Path]] = {}
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                path = Path(place, name)
                found.setdefault(path.suffix.lower(), []).append(path)
    return found


def _mask(path: Path, name: str) -> Entry:
    stem = PurePath(name).with_suffix("").as_posix()
    return Entry(where=name, image=stem.removesuffix(MASK), mask=path)


def _only_yolo(text: str, path: Path, faults: Faults) -> list[Entry]:
    """Return the regions of a single file of YOLO's.

    Raises:
        ValueError: no line of it is YOLO's.
    """
    own = Faults()
    entries = read_yolo(text, path.name, [], own)
    if not entries:
        raise ValueError("without a line of class, cx, cy, width and height")
    for rule, places in own.places.items():
        for place in places:
            faults.add(rule, place)
    return entries


def _text(path: Path) -> str:
    """Return the text of a file in UTF-8.

    Raises:
        InputError: it cannot be read, is too large or has another encoding.
    """
    try:
        return read_file(path, MAX_TEXT_BYTES).decode("utf-8-sig")
    except (OSError, InputError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(
            f"regions: expected {FORMATS}, got {_quoted(path)} ({reason}). Texts are in UTF-8; of "
            "a file that is too large keep the images of this run."
        ) from error


def _quoted(path: Path) -> str:
    return repr(printable(path.name))
