"""The report as a page with a folder of data: quick with many images, however many there are.

OUT/data/camreport.js, camreport.css      the page's script and style
OUT/data/view-channels.js                 the script of a view that only some reports carry
OUT/data/report.js                        what is known of the run and of all images
OUT/data/atlas.js, tops.js                the whole run; images in which channels contribute most
OUT/data/overview-0000.js                 500 images' maps for the overview
OUT/data/images-0000.js                   25 images with all their maps
OUT/data/thumbs/00/00000.jpg, tiles/      thumbnails; pictures for where scripts do not run
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from camreport import files
from camreport.images.loading import PHOTO_SIDE, shrunk
from camreport.images.pixels import jpeg_bytes
from camreport.messages.progress import Progress
from camreport.report.gallery.atlas import pieces
from camreport.report.gallery.fallback import (
    TILE_SIDE,
    FallbackImage,
    fallback_image,
    fallback_summary,
)
from camreport.report.gallery.fallback_tables import fallback_tables
from camreport.report.gallery.language import words_of
from camreport.report.gallery.page import (
    THUMBNAIL_SIDE,
    Limits,
    Measured,
    RunTotals,
    Shown,
    overview_entry,
    views_apart,
)
from camreport.report.gallery.parts import Part, made_in_parts
from camreport.report.gallery.records import Detail, shown_methods
from camreport.report.gallery.runs import any_data, any_record
from camreport.report.gallery.runs_prose import any_prose
from camreport.report.gallery.template import apart, compact_json, page_template, script, style
from camreport.results.reader import DATA, Results
from camreport.results.schema import ImageEntry

_POLICY = (
    "default-src 'none'; img-src 'self' file: data: blob:; base-uri 'none'; form-action 'none'; "
    "style-src 'self' file:; script-src 'self' file:"
)


@dataclass
class FolderPart:
    """What some images of a report come to whose data is written.

    Attributes:
        totals: over them.
        overview: their entries of the overview, as JSON.
        shown: those of them that the contact sheet shows.
    """

    totals: RunTotals = field(default_factory=RunTotals)
    overview: list[str] = field(default_factory=list)
    shown: list[FallbackImage] = field(default_factory=list)


def is_folder(report: Path) -> bool:
    """Say whether a report has a folder of data."""
    return files.is_marked(report.with_name(DATA))


def write_folder(
    measured: Measured,
    shown: Shown,
    report: Path,
    language: str,
    limits: Limits,
    progress: Progress,
) -> None:
    """Write the folder of data, and then the page.

    Args:
        measured: over all maps of the run.
        shown: the images that the report shows.
        report: path of the page.
        language: that it opens in.
        limits: of the report.
        progress: called with the number of images that are newly done.

    Raises:
        OutputError: a file cannot be written.
    """
    folder = files.temporary_name(report.parent)
    try:
        with files.reported(folder):
            folder.mkdir()  # which takes no folder, or link to one, that is there
            (folder / files.MARKER).touch()
            page = _write_data(measured, shown, folder, language, limits, progress)
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
    measured: Measured,
    shown: Shown,
    folder: Path,
    language: str,
    limits: Limits,
    progress: Progress,
) -> str:
    """Write all data and return the page."""
    results, many = measured.results, len(shown.images) > limits.many
    detail = limits.many_detail if many else Detail(PHOTO_SIDE, None, True, THUMBNAIL_SIDE)
    reduced_detail = ["maps.many"] if many else []
    (folder / "tiles").mkdir()
    make = partial(folder_part, folder, language, limits, detail)
    totals, sheet = _write_images(results, shown.images, folder, make, limits, progress)
    words = words_of(language)
    repeats = totals.repeats(shown_methods(results.manifest))
    measured = measured.without(repeats)
    data = any_data(
        measured, shown, language, totals, limits, folder=True, reduced_detail=reduced_detail
    )
    _write_chunk(folder, "report", data)
    for name, piece in pieces(measured).items():
        _write_chunk(folder, name, piece)
    scripts = {f"view-{name}": apart(name) for name in views_apart(measured)}
    for name, text in {"camreport": script(), **scripts}.items():
        (folder / f"{name}.js").write_text(text, encoding="utf-8", newline="\n")
    (folder / "camreport.css").write_text(style(), encoding="utf-8", newline="\n")
    return page_template().render(
        folder=True,
        language=language,
        words=words,
        prose=any_prose(results, len(shown.images), words, reduced_detail, repeats),
        summary=fallback_summary(results, measured.summary_for(shown), words),
        evidence=fallback_tables(measured, words),
        policy=_POLICY,
        images=[(image, Markup()) for image in sheet],
        more=len(shown.images) - len(sheet),
        coinciding=tuple,  # which methods do, the first sentences say
    )


def _write_images(
    results: Results,
    images: Sequence[ImageEntry],
    folder: Path,
    make: Callable[[Results, Part, Progress], FolderPart],
    limits: Limits,
    progress: Progress,
) -> tuple[RunTotals, list[FallbackImage]]:
    """Write the data of all images; return their totals, and the entries of the contact sheet."""
    totals, shown, overview, number = RunTotals(), list[FallbackImage](), list[str](), 0
    for part in made_in_parts(results, images, make, limits, progress):
        totals.join(part.totals)
        shown += part.shown
        overview += part.overview
        whole = totals.images == len(images)
        while len(overview) >= limits.overview or (whole and overview):
            entries = ",".join(overview[: limits.overview])
            _write_script(folder, f"overview-{number:04d}", f"[{entries}]")
            del overview[: limits.overview]
            number += 1
    return totals, shown


def folder_part(
    folder: Path,
    language: str,
    limits: Limits,
    detail: Detail,
    results: Results,
    part: Part,
    progress: Progress,
) -> FolderPart:
    """Write the maps and the thumbnails of some images, and pictures of the contact sheet.

    Args:
        folder: of the data.
        language: of the contact sheet.
        limits: of the report.
        detail: of each image.
        results: of the run.
        part: the images; the first is the first of a file.
        progress: called with the number of images that are newly done.
    """
    made, chunk, words = FolderPart(), list[object](), words_of(language)

    def keep(jpeg: bytes, name: str) -> str:
        (folder / "tiles" / f"{name}.jpg").write_bytes(jpeg)
        return f"{DATA}/tiles/{name}.jpg"

    for place, entry in enumerate(part.images, start=part.first):
        is_shown = place < limits.fallback
        own = replace(detail, picture_side=TILE_SIDE) if is_shown else detail
        image = any_record(results, entry, own)
        made.totals.add(image)
        made.overview.append(compact_json(overview_entry(results, image)))
        if is_shown:
            made.shown.append(fallback_image(results, entry, image, words, keep))
        _write_thumbnail(folder, place, image.picture)
        chunk.append(image.data)
        if len(chunk) == limits.chunk or entry is part.images[-1]:
            _write_chunk(folder, f"images-{place // limits.chunk:04d}", chunk)
            chunk.clear()
        progress(1)
    return made


def _write_thumbnail(folder: Path, number: int, photo: Image.Image) -> None:
    name = f"{number:05d}"
    target = folder / "thumbs" / name[:-3]
    target.mkdir(parents=True, exist_ok=True)
    (target / f"{name}.jpg").write_bytes(jpeg_bytes(shrunk(photo, THUMBNAIL_SIDE), quality=75))


def _write_chunk(folder: Path, name: str, content: object) -> None:
    _write_script(folder, name, compact_json(content))


def _write_script(folder: Path, name: str, content: str) -> None:
    text = f"camreport({json.dumps(name)}, {content});\n"
    (folder / f"{name}.js").write_text(text, encoding="utf-8", newline="\n")
