"""The report as a page with a folder of data: quick with many images, however many there are.

OUT/data/camreport.js, camreport.css      the page's script and style
OUT/data/report.js                        what is known of the run and of all images
OUT/data/overview-0000.js                 500 images' maps for the overview
OUT/data/images-0000.js                   25 images with all their maps
OUT/data/thumbs/00/00000.jpg, tiles/      thumbnails; pictures for where scripts do not run
"""

import json
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from camreport import files
from camreport.errors import ResultsError
from camreport.images.loading import PHOTO_SIDE
from camreport.images.pixels import jpeg_bytes
from camreport.report.gallery.coinciding import repeated
from camreport.report.gallery.fallback import FallbackImage, fallback_image
from camreport.report.gallery.language import words_of
from camreport.report.gallery.prose import prose
from camreport.report.gallery.records import image_record, shown_methods
from camreport.report.gallery.report import (
    PER_CHUNK,
    PER_OVERVIEW,
    Seen,
    at_a_glance,
    readable,
    report_data,
)
from camreport.report.gallery.template import compact_json, page_template, script, style
from camreport.results.reader import DATA, Results

MANY = 1000
"""Images beyond which the page has smaller photographs and maps, as its provenance says."""

MANY_PHOTO_SIDE, MANY_CELLS = 224, 28
"""Longer sides of photographs, in pixels, and of maps, in cells, in a report of that many."""

THUMBNAIL_SIDE = 96
"""Longer side of the overview's photographs, in pixels."""

IN_FALLBACK = 100
"""Images of the contact sheet without scripts."""

_POLICY = (
    "default-src 'none'; img-src 'self' file: data: blob:; base-uri 'none'; form-action 'none'; "
    "style-src 'self' file:; script-src 'self' file:"
)


def check_data(out: str | Path) -> None:
    """Refuse an ``OUT/data`` that is not ours.

    Raises:
        ResultsError: it holds something else, or is no folder.
    """
    data = Path(out, DATA)
    ours = files.is_folder(data) and (files.is_marked(data) or not any(data.iterdir()))
    if os.path.lexists(data) and not ours:
        raise ResultsError(
            f"report: expected {DATA}/ to be new, empty or ours, but it is something else. "
            "Move that away."
        )


def is_folder(report: Path) -> bool:
    """Say whether a report's data lies beside its page."""
    return files.is_marked(report.with_name(DATA))


def write_folder(
    results: Results, report: Path, language: str, tell: Callable[[int], None]
) -> None:
    """Write the data beside the page, and then the page.

    Args:
        results: of the run.
        report: path of the page.
        language: that it opens in.
        tell: called with the number of images done so far.

    Raises:
        OutputError: a file cannot be written.
    """
    folder = files.temporary_name(report.parent)
    try:
        with files.reported(folder):
            folder.mkdir()  # which takes no folder, or link to one, that is there
            (folder / files.MARKER).touch()
            page = _write_data(results, folder, language, tell)
            with files.writing(report, report.parent) as file:
                file.write(page.encode())
                with files.reported(report.with_name(DATA)):
                    _exchange(report.with_name(DATA), folder)
    finally:
        files.remove_leftovers(report.parent, report.parent)


def _exchange(data: Path, new: Path) -> None:
    """Put the new folder in the place of the earlier one, or leave that where it is."""
    old = files.temporary_name(data.parent)
    if data.exists():
        os.replace(data, old)
    try:
        os.replace(new, data)
    except BaseException:
        if old.exists():
            os.replace(old, data)
        raise


def _write_data(results: Results, folder: Path, language: str, tell: Callable[[int], None]) -> str:
    """Write all data and return the page."""
    records = readable(results)
    many = len(records) > MANY
    side, cap = (MANY_PHOTO_SIDE, MANY_CELLS) if many else (PHOTO_SIDE, None)
    degraded = ["maps.many"] if many else []
    seen, words = Seen(), words_of(language)
    chunk: list[object] = []
    glances: list[object] = []
    shown: list[tuple[FallbackImage, Markup]] = []

    def keep(jpeg: bytes, name: str) -> str:
        (folder / "tiles" / f"{name}.jpg").write_bytes(jpeg)
        return f"{DATA}/tiles/{name}.jpg"

    (folder / "tiles").mkdir()
    for place, record in enumerate(records):
        image = image_record(results, record, side, cap, deflated=True)
        seen.add(image)
        chunk.append(image.data)
        glances.append(at_a_glance(results, image))
        _write_thumbnail(folder, place, image.photo)
        if place < IN_FALLBACK:
            shown.append((fallback_image(results, record, words, keep), Markup()))
        last = place == len(records) - 1
        if last or (place + 1) % PER_CHUNK == 0:
            _write_chunk(folder, f"images-{place // PER_CHUNK:04d}", chunk)
            chunk = []
        if last or (place + 1) % PER_OVERVIEW == 0:
            _write_chunk(folder, f"overview-{place // PER_OVERVIEW:04d}", glances)
            glances = []
        tell(place + 1)
    _write_chunk(folder, "report", report_data(results, language, seen, True, degraded))
    (folder / "camreport.js").write_text(script(), encoding="utf-8", newline="\n")
    (folder / "camreport.css").write_text(style(), encoding="utf-8", newline="\n")
    repeats = repeated(shown_methods(results.manifest), seen.coinciding or set())
    return page_template().render(
        folder=True,
        language=language,
        words=words,
        prose=prose(results, words, degraded, repeats),
        policy=_POLICY,
        images=shown,
        more=len(records) - len(shown),
    )


def _write_thumbnail(folder: Path, place: int, photo: bytes) -> None:
    name = f"{place:05d}"
    target = folder / "thumbs" / name[:-3]
    target.mkdir(parents=True, exist_ok=True)
    picture = Image.open(BytesIO(photo)).convert("RGB")
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    (target / f"{name}.jpg").write_bytes(jpeg_bytes(picture, quality=75))


def _write_chunk(folder: Path, name: str, content: object) -> None:
    text = f"camreport({json.dumps(name)}, {compact_json(content)});\n"
    (folder / f"{name}.js").write_text(text, encoding="utf-8", newline="\n")
