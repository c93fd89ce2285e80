"""Write the report: one HTML file, or for many images a page with a folder of data beside it."""

import base64
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup
from PIL import Image

from camreport.drawing import OPACITY
from camreport.errors import ResultsError
from camreport.gallery.fallback import FallbackImage, fallback_image
from camreport.gallery.language import LANGUAGES, check_language, templates_folder, words_of
from camreport.gallery.prose import prose
from camreport.gallery.records import (
    ImageRecord,
    columns,
    data_uri,
    image_record,
    shown_methods,
)
from camreport.gallery.script import digest, script, style
from camreport.heatmap import COLORMAPS, colour_table
from camreport.images import PHOTO_SIDE, jpeg_bytes
from camreport.results import DATA, REPORT, Record, Results, load_results

SINGLE_LIMIT = 15 * 1024 * 1024
"""Bytes up to which a report is one file: larger ones open slowly and portals refuse them."""

MANY = 1000
"""Images beyond which the page has smaller photographs and maps, as its provenance says."""

MANY_PHOTO_SIDE, MANY_CELLS = 224, 28
"""Longer sides of photographs, in pixels, and of maps, in cells, in a report of that many."""

THUMBNAIL_SIDE = 96
"""Longer side of the overview's photographs in a folder, in pixels."""

PER_CHUNK, PER_OVERVIEW = 25, 500
"""Images in a file of all their maps, and in one of what the overview needs."""

MOST_PRINTED = 200
"""Images of a folder's report that are printed together."""

IN_FALLBACK = 100
"""Images of the contact sheet without scripts, where the report is a folder."""

Layout = Literal["auto", "single", "folder"]

_MARKER = ".camreport"
_START = 'document.documentElement.classList.add("js")'


class _TooLarge(Exception):
    """The page is larger than one file should be."""


@dataclass
class _Seen:
    """What is known of all images once they have passed."""

    peaks: dict[str, float] = field(default_factory=dict)
    twins: set[str] | None = None
    targets: set[tuple[int, ...]] = field(default_factory=set)

    def add(self, image: ImageRecord) -> None:
        self.targets.add(image.targets)
        for method, peak in image.peaks.items():
            self.peaks[method] = max(peak, self.peaks.get(method, 0.0))
        self.twins = image.twins if self.twins is None else self.twins & image.twins


def render_gallery(
    out: str | Path,
    *,
    layout: Layout = "auto",
    language: str = "en",
    progress: Callable[[float], None] = lambda count: None,
) -> Path:
    """Build ``OUT/index.html`` from ``OUT/results``, without torch and without recomputing.

    Args:
        out: the folder of the report.
        layout: ``single``, one file; ``folder``, a page with ``OUT/data`` beside it, which stays
            quick with many images; ``auto``, a folder if one file would pass ``SINGLE_LIMIT``.
        language: that the page opens in; the reader can switch.
        progress: told how many more images are written.

    Returns:
        The path of the report.

    Raises:
        ResultsError: the results are missing, incomplete or damaged, or ``OUT/data`` holds what
            is not ours.
        InputError: no such language.
    """
    check_language(language)
    results = load_results(out)
    report = results.path.parent / REPORT
    data = report.with_name(DATA)
    _check_ours(data)
    if layout != "folder":
        try:
            _write_single(results, report, language, layout == "single", progress)
        except _TooLarge:
            pass
        else:
            shutil.rmtree(data, ignore_errors=True)
            return report
    _write_folder(results, report, data, language, progress)
    return report


@contextmanager
def printable(out: str | Path, language: str = "en") -> Iterator[Path]:
    """Give the page that prints every image: a folder's report as one file, for a while.

    Raises:
        ResultsError: as for ``render_gallery``, or a document of so many images helps nobody.
    """
    results = load_results(out)
    report = results.path.parent / REPORT
    if not report.with_name(DATA).is_dir():
        yield report
        return
    count = len(_readable(results))
    if count > MOST_PRINTED:
        raise ResultsError(
            f"export: a document of {count:,} images has as many pages; up to {MOST_PRINTED} are "
            "printed. Open the report and print the view you need, or explain fewer images."
        )
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, REPORT)
        _write_single(results, page, language, True, lambda count: None)
        yield page


def _write_single(
    results: Results,
    report: Path,
    language: str,
    unlimited: bool,
    progress: Callable[[float], None],
) -> None:
    """Write everything into one file, image by image.

    Raises:
        _TooLarge: it passes the limit; nothing has changed.
    """
    seen = _Seen()
    words = words_of(language)

    def images() -> Iterator[tuple[FallbackImage, Markup]]:
        for record in _readable(results):
            image = image_record(results, record, PHOTO_SIDE, cap=None, deflated=False)
            seen.add(image)
            shown = fallback_image(results, record, words, lambda jpeg, _: data_uri(jpeg))
            yield shown, _embedded(image.data)
            progress(1)

    code, sheet = script(), style()
    policy = (
        "default-src 'none'; img-src data: blob:; base-uri 'none'; form-action 'none'; "
        f"style-src {digest(sheet)}; script-src {digest(_START)} {digest(code)}"
    )
    page = _template().stream(
        folder=False,
        language=language,
        words=words,
        prose=prose(results, words, []),
        policy=policy,
        style=Markup(sheet),
        start=Markup(_START),
        script=Markup(code),
        images=images(),
        more=0,
        report=lambda: _embedded(_report(results, language, seen, folder=False)),
    )
    temporary = report.with_name(report.name + ".part")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for part in page:
                file.write(part)
                if not unlimited and file.tell() > SINGLE_LIMIT:
                    raise _TooLarge
        os.replace(temporary, report)
    finally:
        temporary.unlink(missing_ok=True)


def _write_folder(
    results: Results,
    report: Path,
    data: Path,
    language: str,
    progress: Callable[[float], None],
) -> None:
    """Write the page's data in chunks beside it, and last the page."""
    records = _readable(results)
    many = len(records) > MANY
    side, cap = (MANY_PHOTO_SIDE, MANY_CELLS) if many else (PHOTO_SIDE, None)
    folder = data.with_name(data.name + ".part")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "tiles").mkdir(parents=True)
    (folder / _MARKER).touch()
    seen, words = _Seen(), words_of(language)
    chunk: list[object] = []
    glance: list[object] = []
    shown: list[tuple[FallbackImage, Markup]] = []

    def keep(jpeg: bytes, name: str) -> str:
        (folder / "tiles" / f"{name}.jpg").write_bytes(jpeg)
        return f"{DATA}/tiles/{name}.jpg"

    for place, record in enumerate(records):
        image = image_record(results, record, side, cap, deflated=True)
        seen.add(image)
        chunk.append(image.data)
        glance.append(_at_a_glance(results, record, image))
        _write_thumbnail(folder, place, results.photo(record["index"]))
        if place < IN_FALLBACK:
            shown.append((fallback_image(results, record, words, keep), Markup()))
        last = place == len(records) - 1
        if last or (place + 1) % PER_CHUNK == 0:
            _write_chunk(folder, f"images-{place // PER_CHUNK:04d}", chunk)
            chunk = []
        if last or (place + 1) % PER_OVERVIEW == 0:
            _write_chunk(folder, f"overview-{place // PER_OVERVIEW:04d}", glance)
            glance = []
        progress(1)
    _write_chunk(folder, "report", _report(results, language, seen, folder=True))
    (folder / "camreport.js").write_text(script(), encoding="utf-8", newline="\n")
    (folder / "camreport.css").write_text(style(), encoding="utf-8", newline="\n")
    page = _template().render(
        folder=True,
        language=language,
        words=words,
        prose=prose(results, words, _degraded(len(records))),
        policy="default-src 'none'; img-src 'self' file: data: blob:; base-uri 'none'; "
        "form-action 'none'; style-src 'self' file:; script-src 'self' file:",
        images=shown,
        more=len(records) - len(shown),
    )
    temporary = report.with_name(report.name + ".part")
    temporary.write_text(page, encoding="utf-8", newline="\n")
    shutil.rmtree(data, ignore_errors=True)
    os.replace(folder, data)
    os.replace(temporary, report)


def _report(results: Results, language: str, seen: _Seen, folder: bool) -> dict[str, object]:
    """Return what the page knows of the run as a whole."""
    manifest, records = results.manifest, _readable(results)
    methods = shown_methods(manifest)
    twins = seen.twins or set()
    degraded = _degraded(len(records)) if folder else []
    layers = [layer for layer in manifest["layers"] if layer["address"] not in twins]
    identity = json.dumps([manifest["model"], manifest["methods"], manifest["layers"]])
    identity += "".join(record["sha256"] for record in records)
    return {
        "id": hashlib.sha256(identity.encode()).hexdigest()[:16],
        "language": language,
        "folder": folder,
        "perChunk": PER_CHUNK,
        "perOverview": PER_OVERVIEW,
        "classes": [entry["name"] for entry in manifest["classes"]],
        "layers": [
            {
                "address": layer["address"],
                "type": layer["type"],
                "alike": [
                    twin["address"]
                    for twin in manifest["layers"]
                    if twin["address"] in twins and twin["same_as"] == layer["address"]
                ],
            }
            for layer in layers
        ],
        "fused": any(method.fuses for method in methods),
        "input": any(not method.per_layer for method in methods),
        "methods": [
            {
                "key": method.key,
                "name": method.name,
                "classSpecific": method.class_specific,
                "signed": method.signed,
                "perLayer": method.per_layer,
                "onInput": method.on_input,
                "fuses": method.fuses,
            }
            for method in methods
        ],
        "ranks": max(map(len, seen.targets)),
        "sameClasses": [*next(iter(seen.targets))] if len(seen.targets) == 1 else None,
        "channels": [layer["address"] for layer in manifest.get("channels", ())],
        "peaks": seen.peaks,
        "opacity": round(OPACITY * 100),
        "colormaps": COLORMAPS,
        "tables": {
            name: base64.b64encode(colour_table(name).tobytes()).decode()
            for name in (*COLORMAPS, "diverging")
        },
        "images": columns(records),
        "prose": {code: prose(results, words_of(code), degraded) for code in LANGUAGES},
        "languages": LANGUAGES,
        "strings": {code: words_of(code).strings for code in LANGUAGES},
    }


def _at_a_glance(results: Results, record: Record, image: ImageRecord) -> dict[str, object]:
    """Return what the overview needs of an image: its first method at its last layer."""
    manifest = results.manifest
    method, layer = shown_methods(manifest)[0].key, manifest["layers"][-1]["address"]
    levels, cells = image.part(method, layer)
    return {
        "seen": image.data["seen"],
        "size": [image.data["width"], image.data["height"]],
        "cells": cells,
        "levels": base64.b64encode(levels).decode(),
    }


def _readable(results: Results) -> list[Record]:
    return [record for record in results.images if record["status"] == "ok"]


def _degraded(count: int) -> list[str]:
    return ["maps.many"] if count > MANY else []


def _write_thumbnail(folder: Path, place: int, photo: bytes) -> None:
    name = f"{place:05d}"
    target = folder / "thumbs" / name[:-3]
    target.mkdir(parents=True, exist_ok=True)
    picture = Image.open(BytesIO(photo)).convert("RGB")
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    (target / f"{name}.jpg").write_bytes(jpeg_bytes(picture, quality=75))


def _write_chunk(folder: Path, name: str, content: object) -> None:
    text = f"camreport({json.dumps(name)}, {_json(content)});\n"
    (folder / f"{name}.js").write_text(text, encoding="utf-8", newline="\n")


def _embedded(content: object) -> Markup:
    """Return JSON that no text in it can end early."""
    return Markup(_json(content).replace("<", "\\u003c"))


def _json(content: object) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(templates_folder()),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("gallery/gallery.html")


def _check_ours(data: Path) -> None:
    if data.is_dir() and any(data.iterdir()) and not (data / _MARKER).is_file():
        raise ResultsError(
            f"report: expected {DATA}/ to be new, empty or ours, but it holds something else. "
            "Move that away."
        )
