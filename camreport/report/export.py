"""A report on disk for other programs: figures, a table, one archive, one document.

Everything is made from ``OUT/results`` and ``OUT/index.html``, without torch.
"""

import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from io import BytesIO, TextIOWrapper
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from camreport.errors import ResultsError
from camreport.files import (
    MARKER,
    check_no_links,
    is_file,
    is_marked,
    make_folder,
    remove_tree,
    write,
    writing,
)
from camreport.methods import METHODS, Method
from camreport.report.appearance import Share, drawable, drawn_over, format_probability, seen_share
from camreport.report.heatmap import QuantisedCam, quantise, shade
from camreport.results.reader import (
    DATA,
    REPORT,
    Record,
    Results,
    activation_of,
    load_results,
    probabilities,
)
from camreport.results.shards import Arrays
from camreport.settings import NONE

FIGURES = "figures"
"""The folder of the figures, beside the report."""

TABLE = "maps.csv"
"""The table of every map, beside the report."""

DOCUMENT = "report.pdf"
"""The printed report, beside it."""

BROWSERS = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"),
    *("msedge", "microsoft-edge"),
)
"""Commands of the browsers that print; the first that is there is used."""

PRINTING_SECONDS = 300
"""How long a browser may take to print."""

COLUMNS = (
    *("image", "true_class", "class_index", "class", "probability", "logit", "layer", "method"),
    *("state", "raw_maximum", "area_above_half"),
)
"""Of the table. The true class is empty where no label said it. The area is the share of what the
model saw where the map is at least half of its maximum, enlarged as the report draws it; maximum
and area are empty for a map without positive values."""

FONTS = (
    *("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "NotoSansSC-Regular.otf", "wqy-microhei.ttc"),
    *("msyh.ttc", "simsun.ttc", "PingFang.ttc", "Hiragino Sans GB.ttc", "Arial Unicode.ttf"),
)
"""Fonts with more letters than Pillow's own, as Linux, Windows and macOS name their files."""

_TILE = 176
_MARGIN = 12
_LINE = 18
_FONT_SIZE = 13
_RUN = re.compile(r"^[\t\r\n]|(^|[;,|\t])\s*[=+@-]")
"""What a spreadsheet takes for a formula: at the beginning, or behind what it may split at."""

_DATA_FILE = re.compile(
    r"camreport\.(js|css)|report\.js|(overview|images)-\d{4,}\.js|thumbs/\d{2,}/\d{5,}\.jpg|"
    r"tiles/\d+(-\d+-\w+)?\.jpg"
)

Progress = Callable[[int], object]

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Cell:
    """One map of one image.

    Attributes:
        method: whose it is.
        layer: its address.
        rank: place of its class among those explained.
        cam: raw; ``(h, w)``, or ``(3, h, w)`` with one value per colour.
    """

    method: Method
    layer: str
    rank: int
    cam: NDArray[np.float32]


def export_figures(out: str | Path, progress: Progress = lambda count: None) -> list[Path]:
    """Write ``OUT/figures``: for each image a contact sheet, and for each map a picture.

    Names are short and ASCII, such as ``both_class0-cat_layer_cam_features.12.png`` and
    ``both_sheet.png``; a number tells apart what would have the same name. The folder is made
    anew.

    Args:
        out: the folder of the report.
        progress: called with the number of newly drawn images.

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

    for record in _readable(results):
        photo = np.asarray(results.picture(record["index"]))
        seen = seen_share(results.manifest, record)
        arrays = results.arrays(record["index"])
        cells = list(_cells(arrays))
        image = _unique(_image_name(record), taken)
        for cell in cells:
            name = "_".join([image, _class_part(results, arrays, cell), cell.method.key])
            keep(f"{name}_{_layer_name(cell)}", _picture(photo, seen, cell))
        keep(f"{image}_sheet", _sheet(results, record, arrays, photo, seen, cells))
        progress(1)
    return written


def count_figures(out: str | Path) -> int:
    """Return how many pictures ``export_figures`` would write, judged by the first image.

    Raises:
        ResultsError: as for ``export_figures``.
    """
    results = load_results(out)
    records = _readable(results)
    cells = list(_cells(results.arrays(records[0]["index"])))
    return len(records) * (len(cells) + 1)


def export_table(out: str | Path, progress: Progress = lambda count: None) -> Path:
    """Write ``OUT/maps.csv``: one line for each map, in UTF-8 with a mark that Excel reads.

    A text that a spreadsheet would take for a formula has an apostrophe before it.

    Args:
        out: the folder of the report.
        progress: called with the number of newly finished images.

    Raises:
        ResultsError, OutputError: as for ``export_figures``.
    """
    results = load_results(out)
    path = results.path.parent / TABLE
    with writing(path, results.path.parent) as binary:
        file = TextIOWrapper(binary, encoding="utf-8-sig", newline="", write_through=True)
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for record in _readable(results):
            arrays = results.arrays(record["index"])
            for cell in _cells(arrays):
                writer.writerow(_row(results, record, arrays, cell))
            progress(1)
        file.flush()
        file.detach()
    return path


def export_archive(out: str | Path, progress: Progress = lambda count: None) -> Path:
    """Write ``OUT.zip`` beside the report: page, data, and what there is of other forms.

    A document that is older than the report may show another one, and stays outside.

    Args:
        out: the folder of the report.
        progress: called with the number of newly packed files.

    Raises:
        ResultsError, OutputError: as for ``export_figures``, or the report is not rendered.
    """
    folder = load_results(out).path.parent
    files = [_report(folder), *own_data(folder), *_exports(folder)]
    path = folder.with_name(folder.name + ".zip")
    with writing(path, path.parent) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as z:
        for packed in files:
            z.write(packed, f"{folder.name}/{packed.relative_to(folder).as_posix()}")
            progress(1)
    return path


def count_packed(out: str | Path) -> int:
    """Return how many files ``export_archive`` would pack."""
    folder = load_results(out).path.parent
    return 1 + len(own_data(folder)) + len(_exports(folder))


def own_data(folder: Path) -> list[Path]:
    """Return the files of a report's data, in order: those of our names, and no links."""
    data = folder / DATA
    if not is_marked(data):
        return []
    found = [
        Path(parent, name)
        for parent, _, names in os.walk(data)  # which follows no links
        for name in names
        if _DATA_FILE.fullmatch(Path(parent, name).relative_to(data).as_posix())
    ]
    return sorted(path for path in (*found, data / MARKER) if is_file(path))


def is_outdated(out: str | Path) -> bool:
    """Say whether the report was made anew since its document was printed."""
    return _is_outdated(load_results(out).path.parent)


def remove_exports(out: str | Path) -> None:
    """Remove table and figures of earlier results, as far as this is possible.

    Only what is ours goes: a table with our heading, figures with our mark. A document stays, it
    may be anybody's.
    """
    table = Path(out, TABLE)
    with suppress(OSError):
        if _is_our_table(table):
            table.unlink()
    remove_tree(Path(out, FIGURES))


def _exports(folder: Path) -> list[Path]:
    """Return the table, the figures and the document of a report that are there."""
    figures = folder / FIGURES
    drawn = [*sorted(figures.glob("*.png")), figures / MARKER] if is_marked(figures) else []
    table = [folder / TABLE] if _is_our_table(folder / TABLE) else []
    printed = [] if _is_outdated(folder) else [folder / DOCUMENT]
    return [path for path in (*table, *printed, *drawn) if is_file(path)]


def _is_outdated(folder: Path) -> bool:
    document = folder / DOCUMENT
    return is_file(document) and document.stat().st_mtime < _report(folder).stat().st_mtime


def _is_our_table(table: Path) -> bool:
    if not is_file(table):
        return False
    with table.open(encoding="utf-8-sig", errors="replace") as file:
        return file.readline(1000).strip() == ",".join(COLUMNS)


def _png(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def export_document(out: str | Path, page: str | Path) -> Path:
    """Print the report to ``OUT/report.pdf`` by a Chromium, Chrome or Edge of this machine.

    Args:
        out: the folder of the report.
        page: what to print, as ``gallery.printable`` makes it from the results; the report itself
            may be any page that came with them.

    Raises:
        ResultsError: there is no such browser, it fails, or the report is not rendered.
    """
    folder = load_results(out).path.parent
    _report(folder)  # a document is dated by the report that it belongs to
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise ResultsError(
            "export: expected an installed Chromium, Chrome or Edge to print with, found none. "
            "Install one, or open the report in your browser and print it to a file there."
        )
    path = folder / DOCUMENT
    with tempfile.TemporaryDirectory() as profile:
        printed = Path(profile, DOCUMENT)
        command = [
            *(browser, "--headless", "--disable-gpu", f"--user-data-dir={profile}"),
            *("--no-pdf-header-footer", "--virtual-time-budget=20000"),
            *(["--no-sandbox"] if _is_root() else []),
            *(f"--print-to-pdf={printed}", Path(page).resolve().as_uri()),
        ]
        try:
            done = subprocess.run(command, capture_output=True, timeout=PRINTING_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ResultsError(f"export: {Path(browser).name} did not print ({error}).") from error
        if done.returncode or not printed.is_file():
            said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise ResultsError(f"export: {Path(browser).name} did not print. {' '.join(said)}")
        write(path, printed.read_bytes(), folder)
    return path


def _report(folder: Path) -> Path:
    report = folder / REPORT
    if not is_file(report):
        raise ResultsError(
            f"export: expected {REPORT} in {folder.name}, found none. "
            f"Make it with: camreport render {folder.name}"
        )
    return report


def _is_root() -> bool:
    return sys.platform != "win32" and os.geteuid() == 0


def _readable(results: Results) -> list[Record]:
    return [record for record in results.images if record["status"] == "ok"]


def _cells(arrays: Arrays) -> Iterator[Cell]:
    """Yield an image's maps, class by class; class-agnostic maps are yielded once."""
    for rank in range(len(arrays["targets"])):
        for key, cams in arrays.items():
            name, _, layer = key.partition("/")
            method = METHODS.get(name)
            if method is None or (rank and not method.class_specific):
                continue  # logits, targets, the channels' feature maps and weights
            yield Cell(method, layer, rank, drawable(cams[rank], method)[0])


def _class_part(results: Results, arrays: Arrays, cell: Cell) -> str:
    """Return the class's part of a name: ``class0-cat``."""
    if not cell.method.class_specific:
        return "any-class"
    target = int(arrays["targets"][cell.rank])
    name = _short(results.manifest["classes"][target]["name"], 20)
    return f"class{target}-{name}" if name else f"class{target}"


def _row(results: Results, record: Record, arrays: Arrays, cell: Cell) -> list[object]:
    """Return one line of the table."""
    target = int(arrays["targets"][cell.rank])
    names = [entry["name"] for entry in results.manifest["classes"]]
    of_class = cell.method.class_specific
    kind = activation_of(results.manifest)
    shares = probabilities(arrays["logits"], kind)
    cam, base = _quantised(cell)
    measured: list[object] = ["", ""]
    if cam.state == "positive":
        height, width = results.manifest["preprocessing"]["size"]
        _, strong = shade(cam, height, width, threshold=0.5)
        measured = [f"{cam.peak + base:.9g}", f"{np.mean(strong):.4f}"]
    label = record.get("label")
    return [
        _cell_text(record["file"]),
        "" if label is None else _cell_text(names[label]),
        target if of_class else "",
        _cell_text(names[target]) if of_class else "",
        f"{shares[target]:.6f}" if of_class else "",
        f"{arrays['logits'][target]:.6g}" if of_class and kind != NONE else "",
        _cell_text(cell.layer),
        cell.method.key,
        cam.state,
        *measured,
    ]


def _cell_text(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula to run."""
    return f"'{text}" if _RUN.search(text) else text


def _sheet(
    results: Results,
    record: Record,
    arrays: Arrays,
    photo: NDArray[np.uint8],
    seen: Share,
    cells: Sequence[Cell],
) -> Image.Image:
    """Draw an image's contact sheet: layers from top to bottom, classes and methods beside."""
    columns = list(dict.fromkeys((cell.rank, cell.method) for cell in cells))
    rows = list(dict.fromkeys(cell.layer for cell in cells))
    small = Image.fromarray(photo)
    small.thumbnail((_TILE, _TILE))
    pixels = np.asarray(small)
    head = 2 * _LINE + _MARGIN
    wide, high = _TILE + _MARGIN, small.height + _LINE + _MARGIN
    sheet = Image.new(
        "RGB", (_MARGIN + wide * (1 + len(columns)), head + high * len(rows) + _LINE), "white"
    )
    draw = ImageDraw.Draw(sheet)
    shares = probabilities(arrays["logits"], activation_of(results.manifest))
    _write(draw, _MARGIN, _MARGIN // 2, record["file"], _image_name(record))
    sheet.paste(small, (_MARGIN, head))
    for place, (rank, method) in enumerate(columns, start=1):
        at = _MARGIN + place * wide
        title = instead = "any class"
        if method.class_specific:
            target = int(arrays["targets"][rank])
            probability = format_probability(float(shares[target]))
            title = f"{probability} {results.manifest['classes'][target]['name']}"
            instead = f"{probability} class {target}"
        _write(draw, at, _MARGIN // 2, title, instead)
        _write(draw, at, _MARGIN // 2 + _LINE, method.name)
    for cell in cells:
        left = _MARGIN + (1 + columns.index((cell.rank, cell.method))) * wide
        top = head + rows.index(cell.layer) * high
        sheet.paste(_picture(pixels, seen, cell), (left, top))
        _write(draw, left, top + small.height, cell.layer, _layer_name(cell))
    return sheet


def _picture(photo: NDArray[np.uint8], seen: Share, cell: Cell) -> Image.Image:
    """Draw a map over its photograph; one without positive values is labelled instead."""
    picture = Image.fromarray(drawn_over(photo, cell.cam, seen, cell.method))
    state = _quantised(cell)[0].state
    if state != "positive":
        draw, font = ImageDraw.Draw(picture), _fonts()[0]
        label = {"empty": "no positive evidence", "undefined": "undefined"}[state]
        box = draw.textbbox((6, picture.height - 24), label, font=font)
        draw.rectangle((box[0] - 4, box[1] - 3, box[2] + 4, box[3] + 3), fill="white")
        draw.text((6, picture.height - 24), label, fill="black", font=font)
    return picture


def _quantised(cell: Cell) -> tuple[QuantisedCam, float]:
    """Return a map as it is drawn, and the value of its lowest level; of colours the strongest."""
    cam = cell.cam if cell.cam.ndim == 2 else np.abs(cell.cam).max(0)
    base = float(np.min(cam)) if cell.method.from_least and np.isfinite(cam).all() else 0.0
    return quantise(cam - base, cell.method.signed and cell.cam.ndim == 2), base


def _write(draw: ImageDraw.ImageDraw, left: int, top: int, text: str, instead: str = "") -> None:
    """Write as much of a line as a column takes, or ``instead`` where no font has its letters."""
    font = _font_of(text)
    if font is None:
        text, font = instead, _fonts()[0]
    while font.getlength(text) > _TILE and len(text) > 4:
        text = text[:-2].rstrip("…") + "…"
    draw.text((left, top + _FONT_SIZE), text, fill="black", font=font, anchor="ls")


@cache
def _fonts() -> list[_Font]:
    """Return Pillow's own font, which is always there, and those of ``FONTS`` that are."""
    found: list[_Font] = [ImageFont.load_default(_FONT_SIZE)]
    for name in FONTS:
        try:
            found.append(ImageFont.truetype(name, _FONT_SIZE))
        except OSError:
            continue
    return found


@cache
def _font_of(text: str) -> _Font | None:
    """Return the first font that has every letter of a text."""
    letters = [letter for letter in dict.fromkeys(text) if not letter.isspace()]
    for font in _fonts():
        missing = bytes(font.getmask("\U0010fffe"))
        if all(bytes(font.getmask(letter)) != missing for letter in letters):
            return font
    return None


def _image_name(record: Record) -> str:
    """Return a name in ASCII for an image: its own, or else its number."""
    stem = Path(record["file"]).with_suffix("").as_posix()
    return _short(stem, 40) or f"image{record['index'] + 1}"


def _layer_name(cell: Cell) -> str:
    return _short(cell.layer, 60) or "layer"


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
