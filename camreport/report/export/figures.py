"""Figures for papers and slides: each map on its photograph, and a contact sheet of each image."""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache, partial
from io import BytesIO
from operator import attrgetter
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from camreport.errors import ResultsError
from camreport.files import MARKER, check_no_links, is_marked, make_folder, remove_tree, write
from camreport.messages.progress import Progress
from camreport.report.appearance import (
    Part,
    appearance,
    drawn_over,
    format_probability,
    seen_part,
)
from camreport.results.reader import MapRecord, Results, load_results
from camreport.results.schema import ImageEntry

FIGURES = "figures"
"""The folder of the figures, in the report's folder."""

FONTS = (
    *("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "NotoSansSC-Regular.otf", "wqy-microhei.ttc"),
    *("msyh.ttc", "simsun.ttc", "PingFang.ttc", "Hiragino Sans GB.ttc", "Arial Unicode.ttf"),
)
"""Fonts with more letters than Pillow's own, as Linux, Windows and macOS name their files."""

_TILE = 176
_MARGIN = 12
_LINE = 18
_FONT_SIZE = 13

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def export_figures(
    out: str | Path,
    progress: Progress = lambda count: None,
    fonts: tuple[str, ...] = FONTS,
) -> list[Path]:
    """Write ``OUT/figures``: for each image a contact sheet, and for each map a picture.

    Names are short and ASCII, such as ``both_class0-cat_layer_cam_features.12.png`` and
    ``both_sheet.png``; a number tells apart what would have the same name. The folder is made
    anew.

    Args:
        out: the folder of the report.
        progress: called with the number of newly drawn images.
        fonts: files of fonts to write with, where Pillow's own has not all letters of a text.

    Returns:
        The files.

    Raises:
        ResultsError: the results are missing, incomplete or damaged, or the folder holds what
            is no figure of ours.
        OutputError: a file cannot be written.
    """
    results = load_results(out)
    root = results.path.parent
    folder = root / FIGURES
    _claim(folder, root)
    taken: set[str] = set()
    written: list[Path] = []

    def keep(name: str, picture: Image.Image) -> None:
        written.append(folder / (_unique(name, taken) + ".png"))
        write(written[-1], _png(picture), root)

    for image in results.readable:
        photo = np.asarray(results.picture(image.index))
        seen = seen_part(results.manifest.preprocessing, image)
        maps = sorted(results.maps(image.index), key=attrgetter("slot"))
        name = _unique(_image_name(image), taken)
        for record in maps:
            of_class = _class_part(results, record)
            own = f"{name}_{of_class}_{record.method.key}_{_layer_name(record)}"
            keep(own, _picture(photo, seen, record))
        keep(f"{name}_sheet", _sheet(results, image, photo, seen, maps, fonts))
        progress(1)
    return written


def count_figures(out: str | Path) -> int:
    """Return how many pictures ``export_figures`` would write, judged by the first image.

    Raises:
        ResultsError: as for ``export_figures``.
    """
    results = load_results(out)
    images = results.readable
    maps = list(results.maps(images[0].index))
    return len(images) * (len(maps) + 1)


def _png(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def _class_part(results: Results, record: MapRecord) -> str:
    """Return the class's part of a name: ``class0-cat``."""
    if record.target is None:
        return "any-class"
    name = _short(results.manifest.class_names[record.target], 20)
    return f"class{record.target}-{name}" if name else f"class{record.target}"


def _sheet(
    results: Results,
    image: ImageEntry,
    photo: NDArray[np.uint8],
    seen: Part,
    maps: Sequence[MapRecord],
    fonts: tuple[str, ...],
) -> Image.Image:
    """Draw an image's contact sheet: layers as rows, classes and methods as columns."""
    columns = list(dict.fromkeys((record.slot, record.method) for record in maps))
    rows = list(dict.fromkeys(record.layer for record in maps))
    small = Image.fromarray(photo)
    small.thumbnail((_TILE, _TILE))
    pixels = np.asarray(small)
    head = 2 * _LINE + _MARGIN
    wide, high = _TILE + _MARGIN, small.height + _LINE + _MARGIN
    size = (_MARGIN + wide * (1 + len(columns)), head + high * len(rows) + _LINE)
    sheet = Image.new("RGB", size, "white")
    write = partial(_write, ImageDraw.Draw(sheet), fonts)
    write(_MARGIN, _MARGIN // 2, image.file, _image_name(image))
    sheet.paste(small, (_MARGIN, head))
    titles = {(record.slot, record.method): _title(results, image, record) for record in maps}
    for place, column in enumerate(columns, start=1):
        left = _MARGIN + place * wide
        write(left, _MARGIN // 2, *titles[column])
        write(left, _MARGIN // 2 + _LINE, column[1].name)
    for record in maps:
        left = _MARGIN + (1 + columns.index((record.slot, record.method))) * wide
        top = head + rows.index(record.layer) * high
        sheet.paste(_picture(pixels, seen, record), (left, top))
        write(left, top + small.height, record.layer, _layer_name(record))
    return sheet


def _title(results: Results, image: ImageEntry, record: MapRecord) -> tuple[str, str]:
    """Return a column's class with its probability, and the same without the class's name."""
    if record.target is None:
        return "any class", "any class"
    chance = format_probability(float(results.probabilities(image.index)[record.target]))
    name = results.manifest.class_names[record.target]
    return f"{chance} {name}", f"{chance} class {record.target}"


def _picture(photo: NDArray[np.uint8], seen: Part, record: MapRecord) -> Image.Image:
    """Draw a map over its photograph; one without positive values is labelled instead."""
    shown = appearance(record)
    picture = Image.fromarray(drawn_over(photo, shown, seen))
    state = shown.quantised.state
    if state != "positive":
        draw, font = ImageDraw.Draw(picture), _own_font()
        label = {"empty": "no positive evidence", "undefined": "undefined"}[state]
        box = draw.textbbox((6, picture.height - 24), label, font=font)
        draw.rectangle((box[0] - 4, box[1] - 3, box[2] + 4, box[3] + 3), fill="white")
        draw.text((6, picture.height - 24), label, fill="black", font=font)
    return picture


def _write(
    draw: ImageDraw.ImageDraw,
    fonts: tuple[str, ...],
    left: int,
    top: int,
    text: str,
    instead: str = "",
) -> None:
    """Write as much of a line as a column takes, or ``instead`` where no font has its letters."""
    font = _font_of(text, fonts)
    if font is None:
        text, font = instead, _own_font()
    while font.getlength(text) > _TILE and len(text) > 4:
        text = text[:-2].rstrip("…") + "…"
    draw.text((left, top + _FONT_SIZE), text, fill="black", font=font, anchor="ls")


@cache
def _own_font() -> _Font:
    """Return Pillow's own font, which is always there."""
    return ImageFont.load_default(_FONT_SIZE)


@cache
def _installed(fonts: tuple[str, ...]) -> list[_Font]:
    """Return Pillow's own font and those of these files that this machine has."""
    found: list[_Font] = [_own_font()]
    for name in fonts:
        try:
            found.append(ImageFont.truetype(name, _FONT_SIZE))
        except OSError:
            continue
    return found


@cache
def _font_of(text: str, fonts: tuple[str, ...]) -> _Font | None:
    """Return the first font that has every letter of a text."""
    letters = [letter for letter in dict.fromkeys(text) if not letter.isspace()]
    for font in _installed(fonts):
        missing = bytes(font.getmask("\U0010fffe"))
        if all(bytes(font.getmask(letter)) != missing for letter in letters):
            return font
    return None


def _image_name(image: ImageEntry) -> str:
    """Return a name in ASCII for an image: its own, or else its number."""
    stem = str(PurePosixPath(image.file).with_suffix(""))
    return _short(stem, 40) or f"image{image.index + 1}"


def _layer_name(record: MapRecord) -> str:
    return _short(record.layer, 60) or "layer"


def _short(text: str, most: int) -> str:
    """Return what is left of a text in letters, digits, dots and dashes of ASCII."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9.]+", "-", plain).strip("-.")[:most].strip("-.")


def _unique(name: str, taken: set[str]) -> str:
    """Return a name that no other has, in capitals or not."""
    number, unique = 2, name
    while unique.lower() in taken:
        number, unique = number + 1, f"{name}-{number}"
    taken.add(unique.lower())
    return unique


def _claim(folder: Path, root: Path) -> None:
    """Make the folder of the figures, or empty it if it is ours.

    Raises:
        ResultsError: it holds something else.
        OutputError: it is a link, or cannot be made.
    """
    check_no_links(folder, root)
    if folder.is_dir() and any(folder.iterdir()) and not is_marked(folder):
        raise ResultsError(
            f"export: expected {FIGURES}/ to be new, empty or ours, but it holds something else. "
            "Move that away."
        )
    remove_tree(folder)
    make_folder(folder, root)
    write(folder / MARKER, b"", root)
