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
from camreport.images.loading import PHOTO_SIDE
from camreport.images.pixels import jpeg_bytes
from camreport.report.gallery.fallback import (
    FallbackImage,
    fallback_evidence,
    fallback_image,
    fallback_summary,
)
from camreport.report.gallery.language import Words, words_of
from camreport.report.gallery.page import (
    Limits,
    Measured,
    RunTotals,
    overview_entry,
    report_data,
)
from camreport.report.gallery.prose import prose
from camreport.report.gallery.records import Detail, image_record, shown_methods
from camreport.report.gallery.template import compact_json, page_template, script, style
from camreport.results.reader import DATA, Results

THUMBNAIL_SIDE = 96
"""Longer side of the overview's photographs, in pixels."""

_POLICY = (
    "default-src 'none'; img-src 'self' file: data: blob:; base-uri 'none'; form-action 'none'; "
    "style-src 'self' file:; script-src 'self' file:"
)


def is_folder(report: Path) -> bool:
    """Say whether a report has a folder of data."""
    return files.is_marked(report.with_name(DATA))


def write_folder(
    results: Results, report: Path, language: str, limits: Limits, advance: Callable[[int], None]
) -> None:
    """Write the folder of data, and then the page.

    Args:
        results: of the run.
        report: path of the page.
        language: that it opens in.
        limits: of the report.
        advance: called with the number of images done so far.

    Raises:
        OutputError: a file cannot be written.
    """
    folder = files.temporary_name(report.parent)
    try:
        with files.reported(folder):
            folder.mkdir()  # which takes no folder, or link to one, that is there
            (folder / files.MARKER).touch()
            page = _write_data(results, folder, language, limits, advance)
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


def _write_data(
    results: Results, folder: Path, language: str, limits: Limits, advance: Callable[[int], None]
) -> str:
    """Write all data and return the page."""
    many = len(results.readable) > limits.many
    detail = limits.many_detail if many else Detail(PHOTO_SIDE, None, deflated=True)
    reduced_detail = ["maps.many"] if many else []
    totals, words = RunTotals(), words_of(language)
    _write_images(results, folder, limits, detail, totals, advance)
    shown = _write_tiles(results, folder, limits, words)
    repeats = totals.repeats(shown_methods(results.manifest))
    measured = Measured.of(results).without(repeats)
    data = report_data(
        measured, language, totals, limits, folder=True, reduced_detail=reduced_detail
    )
    _write_chunk(folder, "report", data)
    (folder / "camreport.js").write_text(script(), encoding="utf-8", newline="\n")
    (folder / "camreport.css").write_text(style(), encoding="utf-8", newline="\n")
    return page_template().render(
        folder=True,
        language=language,
        words=words,
        prose=prose(results, words, reduced_detail, repeats),
        summary=fallback_summary(results, measured.summary(), words),
        evidence=fallback_evidence(measured.evidence, results.manifest.glance.layer, words),
        policy=_POLICY,
        images=[(image, Markup()) for image in shown],
        more=len(results.readable) - len(shown),
    )


def _write_images(
    results: Results,
    folder: Path,
    limits: Limits,
    detail: Detail,
    totals: RunTotals,
    advance: Callable[[int], None],
) -> None:
    """Write every image's maps, its part of the overview and its thumbnail; add it to totals."""
    chunk: list[object] = []
    overview: list[object] = []
    last = len(results.readable)
    for done, entry in enumerate(results.readable, start=1):
        image = image_record(results, entry, detail)
        totals.add(image)
        chunk.append(image.data)
        overview.append(overview_entry(results, image))
        _write_thumbnail(folder, done - 1, image.photo)
        if done % limits.chunk == 0 or done == last:
            _write_chunk(folder, f"images-{(done - 1) // limits.chunk:04d}", chunk)
            chunk.clear()
        if done % limits.overview == 0 or done == last:
            _write_chunk(folder, f"overview-{(done - 1) // limits.overview:04d}", overview)
            overview.clear()
        advance(done)


def _write_tiles(
    results: Results, folder: Path, limits: Limits, words: Words
) -> list[FallbackImage]:
    """Write the pictures of the contact sheet, and return the entries of the first images."""

    def keep(jpeg: bytes, name: str) -> str:
        (folder / "tiles" / f"{name}.jpg").write_bytes(jpeg)
        return f"{DATA}/tiles/{name}.jpg"

    (folder / "tiles").mkdir()
    return [
        fallback_image(results, entry, words, keep) for entry in results.readable[: limits.fallback]
    ]


def _write_thumbnail(folder: Path, number: int, photo: bytes) -> None:
    name = f"{number:05d}"
    target = folder / "thumbs" / name[:-3]
    target.mkdir(parents=True, exist_ok=True)
    picture = Image.open(BytesIO(photo)).convert("RGB")
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    (target / f"{name}.jpg").write_bytes(jpeg_bytes(picture, quality=75))


def _write_chunk(folder: Path, name: str, content: object) -> None:
    text = f"camreport({json.dumps(name)}, {compact_json(content)});\n"
    (folder / f"{name}.js").write_text(text, encoding="utf-8", newline="\n")
