"""Regions in lines of text: a table of boxes, or YOLO's files with fractions."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import PurePath

from camreport.images.regions.entries import Entry, Faults, Four

HEADINGS = {
    "image": "image file filename file_name path name 图像 文件".split(),
    "left": "x0 xmin x_min left x1".split(),
    "top": "y0 ymin y_min top y1".split(),
    "right": "x1 xmax x_max right x2".split(),
    "bottom": "y1 ymax y_max bottom y2".split(),
    "label": "class label category class_name 类别 标签".split(),
}
"""Lower-case headings of each column. With x1 and x2, x1 is the left edge; with x0 and x1, the
right one."""

MAX_DIGITS = 10
"""A class index has fewer digits."""

TABLE_RULE = "image, x0, y0, x1, y1[, class] in pixels"
YOLO_RULE = "class, centre x, centre y, width and height as fractions of the photograph"


def read_table(text: str, faults: Faults) -> list[Entry]:
    """Return the boxes of a table: image, x0, y0, x1, y1[, class] on each line.

    Args:
        text: with commas, semicolons or tabs; a first line of headings may order the columns
            otherwise.
        faults: collects lines that cannot be read.

    Raises:
        ValueError: it is no such table.
    """
    head = text.partition("\n")[0]
    delimiter = next((mark for mark in "\t;," if mark in head), ",")
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    try:
        rows = [([cell.strip() for cell in row], reader.line_num) for row in reader if any(row)]
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if not rows or len(rows[0][0]) < 5:
        raise ValueError("without five columns")
    columns, rows = _columns(rows[0][0]), rows if _is_box(rows[0][0][1:5]) else rows[1:]
    entries, bad = [], []
    for row, line in rows:
        cells = [row[at] if at < len(row) else "" for at in columns]
        where = f"line {line}"
        if cells[0] and _is_box(cells[1:5]):
            box: Four = tuple(map(float, cells[1:5]))  # type: ignore[assignment]
            label = cells[5] if len(cells) > 5 else ""
            entries.append(Entry(where=where, image=cells[0], label=label or None, box=box))
        else:
            bad.append(f"{where} ({', '.join(row)[:60]})")
    if not entries:
        raise ValueError("without a line of image, x0, y0, x1, y1")
    if all(0 <= edge <= 1 for entry in entries for edge in entry.box or ()):
        raise ValueError("with fractions instead of pixels: multiply by width and height")
    for place in bad:
        faults.left_out(TABLE_RULE, place)
    return entries


def read_yolo(text: str, name: str, classes: Sequence[str], faults: Faults) -> list[Entry]:
    """Return the boxes and polygons of a file of YOLO's: class cx cy w h on each line.

    Args:
        text: of the file. Lines with more numbers are polygons: class x y x y x y and so on.
        name: of the file, relative to the folder of all of them; the photograph has the same name
            with another extension.
        classes: names of the indices; empty if they are the model's own.
        faults: collects lines that cannot be read.
    """
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        cells = line.split()
        if not cells:
            continue
        where = f"line {number} of {name}"
        entry = _yolo_entry(cells, where, PurePath(name).with_suffix("").as_posix(), classes)
        if entry is None:
            faults.left_out(YOLO_RULE, f"{where} ({line.strip()[:60]})")
        else:
            entries.append(entry)
    return entries


def _yolo_entry(
    cells: Sequence[str], where: str, image: str, classes: Sequence[str]
) -> Entry | None:
    numbers = [_finite(cell) for cell in cells[1:]]
    if not (cells[0].isdecimal() and len(cells[0]) < MAX_DIGITS) or any(
        number is None for number in numbers
    ):
        return None
    values = [number for number in numbers if number is not None]
    index = int(cells[0])
    label = classes[index] if index < len(classes) else cells[0]
    if max(map(abs, values), default=2) > 2:  # pixels: a fraction is hardly beyond the picture
        return None
    if len(values) in (4, 5):  # the fifth is a detector's confidence
        x, y, width, height = values[:4]
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        return Entry(where=where, image=image, label=label, box=box, relative=True)
    if len(values) >= 6 and len(values) % 2 == 0:
        corners = (tuple(values),)
        return Entry(where=where, image=image, label=label, polygons=corners, relative=True)
    return None


def _columns(head: Sequence[str]) -> list[int]:
    """Return the places of image, left, top, right, bottom and class, by their headings."""
    words = [word.casefold().replace(" ", "_") for word in head]
    corners_from_1 = "x2" in words
    found = []
    for key, known in HEADINGS.items():
        if corners_from_1:
            known = [w for w in known if (key, w) not in {("right", "x1"), ("bottom", "y1")}]
        elif key in ("left", "top"):
            known = known[:-1]
        at = next((i for i, word in enumerate(words) if word in known), None)
        if at is None:
            if key == "label":
                break
            return list(range(6))
        found.append(at)
    return found


def _is_box(cells: Sequence[str]) -> bool:
    return len(cells) == 4 and all(_finite(cell) is not None for cell in cells)


def _finite(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
