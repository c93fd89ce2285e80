"""Figures for papers and slides: maps on their photographs, contact sheets and feature maps."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from camreport.errors import InputError, ResultsError, suggestion
from camreport.files import (
    MARKER,
    check_no_links,
    is_marked,
    make_folder,
    names_in,
    remove_tree,
    write,
)
from camreport.messages.progress import Progress
from camreport.report.appearance import seen_part
from camreport.report.export.lettering import FONTS, readable_words
from camreport.report.export.sheets import DPI, grid, map_picture, sheet
from camreport.report.export.structure import (
    count_pictures,
    structure_pictures,
    structure_table,
    structure_text,
)
from camreport.report.gallery.language import Words, language_of
from camreport.results.reader import REPORT, MapRecord, Results, load_results
from camreport.results.schema import ImageEntry

FIGURES = "figures"
"""The folder of the figures, in the report's folder."""


def export_figures(
    out: str | Path,
    progress: Progress = lambda count: None,
    *,
    images: str | None = None,
    language: str | None = None,
    fonts: tuple[str, ...] = FONTS,
) -> list[Path]:
    """Write ``OUT/figures``: each image's contact sheet, feature maps and maps, and the model.

    Names are short and ASCII: ``both_sheet.png``, ``both_channels_features.10.png`` where the run
    kept feature maps, ``both_class0-cat_layer_cam_features.12.png``; a number distinguishes what
    would have the same name. The model's structure lies in ``model_structure.txt``,
    ``model_layers.csv`` and ``model_layers.png``. The folder is made anew.

    Args:
        out: the folder of the report.
        progress: called with the number of newly drawn images.
        images: which images, as for ``chosen_images``; all if None.
        language: of the words in the pictures; that of the report if None.
        fonts: files of fonts to write with; Pillow's own where none is there.

    Returns:
        The files.

    Raises:
        InputError: no image fits ``images``.
        ResultsError: the results are missing, incomplete or damaged, or the folder holds what
            is no figure of ours.
        OutputError: a file cannot be written.
    """
    results = load_results(out)
    root = results.path.parent
    folder = root / FIGURES
    chosen = chosen_images(results, images)
    words = readable_words(language or language_of(root / REPORT), fonts)
    claim(folder, root)
    taken: set[str] = set()
    written: list[Path] = []

    def keep(name: str, content: bytes) -> None:
        written.append(folder / name)
        write(written[-1], content, root)

    for image in chosen:
        for name, picture, dpi in _figures(results, image, taken, words, fonts):
            keep(f"{_unique(name, taken)}.png", _png(picture, dpi))
        progress(1)
    structure = results.manifest.structure
    if structure.modules:
        keep("model_structure.txt", structure_text(structure))
        keep("model_layers.csv", structure_table(structure))
    for picture in structure_pictures(structure, words, fonts):
        keep(f"{_unique('model_layers', taken)}.png", _png(picture, DPI))
    return written


def chosen_images(results: Results, images: str | None) -> Sequence[ImageEntry]:
    """Return the readable images that a text stands for.

    Args:
        results: of the run.
        images: a number for the first so many, or names of files, perhaps with ``*``, separated
            by commas; None for all.

    Raises:
        InputError: no image fits.
    """
    readable = results.readable
    if images is None:
        return readable
    if images.isdecimal() and int(images):
        return readable[: int(images)]
    names = [name.strip() for name in images.split(",")]
    found = [image for image in readable if any(fnmatch(image.file, name) for name in names)]
    if not found:
        near = suggestion(names[0], [image.file for image in readable])
        raise InputError(
            f"images: expected a number or names of images in the report, got {images!r}.{near}"
        )
    return found


def count_figures(out: str | Path, images: str | None = None) -> int:
    """Return how many files ``export_figures`` would write, judged by the first image.

    Raises:
        InputError, ResultsError: as for ``export_figures``.
    """
    results = load_results(out)
    chosen = chosen_images(results, images)
    maps = sum(1 for _ in results.maps(chosen[0].index))
    manifest = results.manifest
    pictures = count_pictures(manifest.structure)
    of_model = 2 + pictures if pictures else 0
    return len(chosen) * (1 + len(manifest.channels) + maps) + of_model


def _figures(
    results: Results,
    image: ImageEntry,
    taken: set[str],
    words: Words,
    fonts: tuple[str, ...],
) -> Iterator[tuple[str, Image.Image, int | None]]:
    """Yield an image's pictures, each with its name and its dots per inch, if it has any."""
    photo = np.asarray(results.picture(image.index))
    seen = seen_part(results.manifest.preprocessing, image)
    order = results.manifest.methods
    maps = sorted(results.maps(image.index), key=lambda m: (m.slot, order.index(m.method.key)))
    name = _unique(_image_name(image), taken)
    for record in maps:
        of_class = _class_part(results, record)
        own = f"{name}_{of_class}_{record.method.key}_{_layer_name(record.layer)}"
        yield own, map_picture(photo, seen, record, words, fonts), None
    yield f"{name}_sheet", sheet(results, image, photo, seen, maps, words, fonts), DPI
    for layer in results.manifest.channels:
        channels = results.channels(image.index, layer.address).maps
        own = f"{name}_channels_{_layer_name(layer.address)}"
        yield own, grid(image, layer, channels, words, fonts), DPI


def _png(picture: Image.Image, dpi: int | None) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, format="PNG", **({} if dpi is None else {"dpi": (dpi, dpi)}))
    return buffer.getvalue()


def _class_part(results: Results, record: MapRecord) -> str:
    """Return the class's part of a name: ``class0-cat``."""
    if record.target is None:
        return "any-class"
    name = _short(results.manifest.class_names[record.target], 20)
    return f"class{record.target}-{name}" if name else f"class{record.target}"


def _image_name(image: ImageEntry) -> str:
    """Return a name in ASCII for an image: its own, or else its number."""
    stem = str(PurePosixPath(image.file).with_suffix(""))
    return _short(stem, 40) or f"image{image.index + 1}"


def _layer_name(address: str) -> str:
    return _short(address, 60) or "layer"


def _short(text: str, most: int) -> str:
    """Return what is left of a text in letters, digits, dots and dashes of ASCII."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9.]+", "-", plain).strip("-.")[:most].strip("-.")


def _unique(name: str, taken: set[str]) -> str:
    """Return a name that differs from all others even where case does not count."""
    number, unique = 2, name
    while unique.lower() in taken:
        number, unique = number + 1, f"{name}-{number}"
    taken.add(unique.lower())
    return unique


def claim(folder: Path, root: Path) -> None:
    """Make a folder of exported files, or empty it if it is ours.

    Raises:
        ResultsError: it holds something else.
        OutputError: it is a link, or cannot be made.
    """
    check_no_links(folder, root)
    if names_in(folder) and not is_marked(folder):
        raise ResultsError(
            f"export: expected {folder.name}/ to be new, empty or ours, but it holds something "
            "else. Move that away."
        )
    remove_tree(folder)
    make_folder(folder, root)
    write(folder / MARKER, b"", root)
