"""Write the report: one HTML file, or for many images a page with a folder of data."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import get_args

from markupsafe import Markup

from camreport.errors import InputError, ResultsError
from camreport.files import is_file, remove_leftovers, remove_tree, staged, writing
from camreport.images.loading import PHOTO_SIDE
from camreport.messages.progress import Progress, silent
from camreport.report.gallery.atlas import pieces
from camreport.report.gallery.coinciding import coincidences
from camreport.report.gallery.entries import data_uri
from camreport.report.gallery.fallback import (
    TILE_SIDE,
    FallbackImage,
    fallback_image,
    fallback_summary,
)
from camreport.report.gallery.fallback_tables import fallback_tables
from camreport.report.gallery.folder import is_folder, write_folder
from camreport.report.gallery.language import check_language, language_of, words_of
from camreport.report.gallery.page import (
    DEFAULT_LIMITS,
    Limits,
    Measured,
    RunTotals,
    Shown,
    views_apart,
)
from camreport.report.gallery.parts import Part, made_in_parts
from camreport.report.gallery.records import Detail, shown_methods
from camreport.report.gallery.runs import any_data, any_record, measured_in
from camreport.report.gallery.runs_prose import any_prose
from camreport.report.gallery.shown import choose_shown
from camreport.report.gallery.template import (
    apart,
    digest,
    embedded,
    page_template,
    script,
    style,
)
from camreport.results.reader import DATA, REPORT, Results, check_data, find_results
from camreport.settings import Layout

_START = 'document.documentElement.classList.add("js")'


class _TooLarge(Exception):
    """The page is larger than one file should be."""


def check_rendering(out: str | Path, layout: str, language: str) -> None:
    """Refuse what cannot be rendered, before anything is computed for it.

    Raises:
        ResultsError: ``OUT/data`` holds what is not ours.
        InputError: no such language or layout.
    """
    check_language(language)
    if layout not in get_args(Layout):
        raise InputError(f"layout: expected {', '.join(get_args(Layout))}, got {layout!r}.")
    check_data(out)


def render_gallery(
    out: str | Path,
    *,
    layout: Layout | None = None,
    language: str | None = None,
    images: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
    progress: Progress = lambda count: None,
) -> Path:
    """Build ``OUT/index.html`` from ``OUT/results``, without torch and without recomputing.

    An earlier report stays as it is until the new one is complete.

    Args:
        out: the folder of the report.
        layout: ``single``, one file; ``folder``, a page with ``OUT/data`` beside it, which stays
            quick with many images; ``auto``, a folder if one file would be too large. None is
            that of the report that is there, or ``auto``.
        language: that the page opens in; the reader can switch. None is that of the report that
            is there, or English.
        images: how many images are shown, or the path of a list of their names, one a line; None
            for all, or of more than ``limits.shown`` a sample. Totals are of all images.
        limits: sizes that decide how a report lies on disk.
        progress: called with the number of newly written images.

    Returns:
        The path of the report.

    Raises:
        ResultsError: the results are missing, incomplete or damaged, or ``OUT/data`` holds what
            is not ours.
        InputError: no such language, layout, list or image.
    """
    report = find_results(out).parent / REPORT
    layout = _layout_of(report) if layout is None else layout
    language = language_of(report) if language is None else language
    check_rendering(report.parent, layout, language)
    return render_measured(
        measured_in(out),
        report.parent,
        layout=layout,
        language=language,
        images=images,
        limits=limits,
        progress=progress,
    )


def render_measured(
    measured: Measured,
    out: Path,
    *,
    layout: Layout,
    language: str,
    images: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
    progress: Progress = silent,
) -> Path:
    """Build the report of what is measured; the arguments are those of ``render_gallery``."""
    shown = choose_shown(measured, images, limits)
    with staged(out, DATA) as folder:
        _write(measured, shown, folder / REPORT, layout, language, limits, progress)
    return out / REPORT


def _write(
    measured: Measured,
    shown: Shown,
    report: Path,
    layout: Layout,
    language: str,
    limits: Limits,
    progress: Progress,
) -> None:
    """Write the page, and the folder of data if there is one, into a folder of this machine."""
    remove_leftovers(report.parent, report.parent)
    reported = 0.0

    def counted() -> Progress:
        """Return what is told of one attempt: what the one before has done counts once."""
        done = 0.0

        def advance(count: float) -> None:
            nonlocal done, reported
            done += count
            progress(max(0.0, done - reported))
            reported = max(reported, done)

        return advance

    if layout == "single" or (layout == "auto" and _may_fit(measured.results, shown, limits)):
        try:
            most = None if layout == "single" else limits.single_bytes
            _write_single(measured, shown, report, language, limits, most, counted())
        except _TooLarge:
            pass
        else:
            remove_tree(report.with_name(DATA))
            return
    write_folder(measured, shown, report, language, limits, counted())


@contextmanager
def printable(out: str | Path, limits: Limits = DEFAULT_LIMITS) -> Iterator[Path]:
    """Give the page that prints every image: one file made from the results, for a while.

    The report itself may come from someone else, and anything may be in it.

    Raises:
        ResultsError: as for ``render_gallery``, or a document of so many images helps nobody.
    """
    measured = measured_in(out)
    results, report = measured.results, find_results(out).parent / REPORT
    count = results.count
    if is_folder(report) and count > limits.printed:
        raise ResultsError(
            f"export: a document of {count:,} images has as many pages; up to {limits.printed} are "
            "printed. Open the report and print the view you need, or explain fewer images."
        )
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, REPORT)
        every = Shown(results.readable, None, results.count)
        language = language_of(report)
        _write_single(measured, every, page, language, limits, None, silent)
        yield page


def _may_fit(results: Results, shown: Shown, limits: Limits) -> bool:
    """Return whether the photographs alone, in base64, leave room in one file."""
    photos = results.photo_bytes([image.index for image in shown.images])
    return photos * 4 // 3 <= limits.single_bytes


def _layout_of(report: Path) -> Layout:
    """Return how a report lies on disk; ``auto`` where there is none yet."""
    if not is_file(report):
        return "auto"
    return "folder" if is_folder(report) else "single"


def _write_single(
    measured: Measured,
    shown: Shown,
    report: Path,
    language: str,
    limits: Limits,
    most: int | None,
    progress: Progress,
) -> None:
    """Write everything into one file, image by image.

    Raises:
        _TooLarge: it has more than ``most`` bytes; nothing has changed.
    """
    results, totals, words = measured.results, RunTotals(), words_of(language)
    scripts, sheet = [script(), *map(apart, views_apart(measured))], style()
    policy = (
        "default-src 'none'; img-src data: blob:; base-uri 'none'; form-action 'none'; "
        f"style-src {digest(sheet)}; script-src {' '.join(map(digest, [_START, *scripts]))}"
    )
    page = page_template().stream(
        folder=False,
        language=language,
        words=words,
        prose=any_prose(results, len(shown.images), words, []),
        summary=fallback_summary(results, shown.within(measured.summary()), words),
        evidence=fallback_tables(measured, words),
        policy=policy,
        style=Markup(sheet),
        start=Markup(_START),
        scripts=[*map(Markup, scripts)],
        images=_images(results, shown, language, limits, totals, progress),
        more=0,
        coinciding=lambda: coincidences(
            results.manifest, totals.repeats(shown_methods(results.manifest)), words
        ),
        pieces=lambda: _pieces(measured, shown, language, totals, limits),
    )
    with writing(report, report.parent) as file:
        for part in page:
            file.write(part.encode())
            if most is not None and file.tell() > most:
                raise _TooLarge


def _pieces(
    measured: Measured, shown: Shown, language: str, totals: RunTotals, limits: Limits
) -> dict[str, Markup]:
    """Return the page's data on the run as a whole, by name."""
    report = any_data(measured, shown, language, totals, limits, folder=False)
    measured = measured.without(totals.repeats(shown_methods(measured.results.manifest)))
    own = {**pieces(measured), "report": report}
    return {name: embedded(piece) for name, piece in own.items()}


def _images(
    results: Results,
    shown: Shown,
    language: str,
    limits: Limits,
    totals: RunTotals,
    progress: Progress,
) -> Iterator[tuple[FallbackImage, Markup]]:
    """Yield every image as the contact sheet and as the page's script take it; add to totals."""
    make = partial(single_part, language)
    for own, images in made_in_parts(results, shown.images, make, limits, progress):
        totals.join(own)
        yield from images


def single_part(
    language: str, results: Results, part: Part, progress: Progress
) -> tuple[RunTotals, list[tuple[FallbackImage, Markup]]]:
    """Return the totals of some images, and each as the contact sheet and the script take it.

    Args:
        language: of the contact sheet.
        results: of the run.
        part: the images.
        progress: called with the number of images that are newly done.
    """
    totals, words, made = RunTotals(), words_of(language), list[tuple[FallbackImage, Markup]]()
    for entry in part.images:
        image = any_record(results, entry, Detail(PHOTO_SIDE, None, False, TILE_SIDE))
        totals.add(image)
        shown = fallback_image(results, entry, image, words, lambda jpeg, _: data_uri(jpeg))
        made.append((shown, embedded(image.data)))
        progress(1)
    return totals, made
