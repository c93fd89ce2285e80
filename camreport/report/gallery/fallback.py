"""What the page shows where scripts do not run: a contact sheet, predictions and numbers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camreport.images.loading import shrunk
from camreport.images.pixels import jpeg_bytes
from camreport.insight.evidence import EvidenceTable, Tally
from camreport.insight.summary import Summary
from camreport.methods import DEFAULT_METHODS, METHODS, Method
from camreport.metrics import METRICS
from camreport.report.appearance import appearance, drawn_over, format_probability, seen_part
from camreport.report.gallery.compared import ComparedResults
from camreport.report.gallery.evidence import control_name
from camreport.report.gallery.language import Words
from camreport.report.gallery.records import ImageRecord, shown_methods
from camreport.results.evidence import CONTROL
from camreport.results.reader import MapRecord, Results
from camreport.results.schema import FUSED, INPUT, ImageEntry

TILE_SIDE = 160
"""Longer side of the contact sheet's pictures, in pixels."""

TILE_METHODS = 3
"""Most methods in the contact sheet; the table of numbers has all."""

Picture = Callable[[bytes, str], str]
"""Keeps a JPEG under a name and returns the address that shows it."""

_Maps = Mapping[tuple[str, str, int], MapRecord]
"""One image's maps by key of the method, layer and slot of the class."""


@dataclass(frozen=True)
class ShownRun:
    """A run: its name, where several are compared, what its layers begin with, its results."""

    name: str
    prefix: str
    results: Results


def shown_runs(results: Results) -> list[ShownRun]:
    """Return the runs whose maps a report shows: one, or those that it compares."""
    if not isinstance(results, ComparedResults):
        return [ShownRun("", "", results)]
    views = enumerate(zip(results.names, results.views, strict=True))
    return [ShownRun(name, f"{run}:" if run else "", view) for run, (name, view) in views]


@dataclass(frozen=True)
class ShownPrediction:
    """A class with its probability 0..1."""

    name: str
    probability: float

    @property
    def percent(self) -> str:
        """The probability as text; extremes are not rounded to certainty."""
        return format_probability(self.probability)


@dataclass(frozen=True)
class Tile:
    """One picture: its address, what stands below it, what it shows."""

    source: str
    label: str
    alt: str


@dataclass(frozen=True)
class Numbers:
    """A table: largest raw values of one class's maps by layer, or the evidence by method."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class FallbackImage:
    """One image of the contact sheet; ``further`` is what further runs predict, by their names."""

    index: int
    file: str
    size: str
    badge: str
    predictions: tuple[ShownPrediction, ...]
    further: tuple[tuple[str, str], ...]
    caption: str
    tiles: tuple[Tile, ...]
    numbers: tuple[Numbers, ...]


@dataclass(frozen=True)
class FallbackSummary:
    """The summary of a run in words.

    Attributes:
        headline: the outcome.
        answers: which image to look at first and which map to doubt, each below its question.
        claims: findings and cautions.
    """

    headline: str
    answers: tuple[tuple[str, str], ...]
    claims: tuple[str, ...]


def fallback_summary(results: Results, summary: Summary, words: Words) -> FallbackSummary:
    """Word the summary of a run."""
    answers = []
    for chosen in summary.first[:1]:
        reasons = words("list").join(words.message(reason) for reason in chosen.reasons)
        file = results.images[chosen.image].file
        answers.append((words("summary.lookFirst"), file + words("colon") + reasons))
    if summary.doubt is not None:
        answers.append((words("summary.trustLeast"), words.message(summary.doubt.text)))
    claims = (*summary.findings, *summary.cautions)
    return FallbackSummary(
        headline=words.message(summary.headline),
        answers=tuple(answers),
        claims=tuple(words.message(claim.text) for claim in claims),
    )


def fallback_evidence(table: EvidenceTable | None, layer: str, words: Words) -> tuple[Numbers, ...]:
    """Tabulate the medians of the predicted class at a layer: one table, or none.

    Args:
        table: the evidence of a run; None where nothing was measured.
        layer: its address.
        words: of the language.
    """
    if table is None:
        return ()
    here = [own.key for own in table.tallies if own.key.layer == layer]
    questions = [key for key in METRICS if any(own.number == key for own in here)]
    rows = (
        (
            control_name(row, words) if row.startswith(CONTROL) else METHODS[row].name,
            tuple(_median(table.tally(key, row, layer), words) for key in questions),
        )
        for row in dict.fromkeys(own.row for own in here)
    )
    names = tuple(words.message(METRICS[key].name) for key in questions)
    return (Numbers(words("fallback.evidence", layer=layer), names, tuple(rows)),)


def _median(tally: Tally | None, words: Words) -> str:
    """Return a median with its interval and n, or that it holds by construction."""
    if tally is None or tally.median is None:
        return "–"
    if tally.given:
        return words("evidence.given")
    interval = "" if tally.low is None else f" ({tally.low:.2f} … {tally.high:.2f})"
    return f"{tally.median:.2f}{interval}, n {tally.n}".replace("-", "−")


def fallback_image(
    results: Results, image: ImageEntry, record: ImageRecord, words: Words, picture: Picture
) -> FallbackImage:
    """Draw one image's part of the contact sheet.

    Args:
        results: of the run.
        image: one that could be read.
        record: made of it.
        words: of the language.
        picture: keeps the pictures.
    """
    manifest = results.manifest
    maps = {(m.method.key, m.layer, m.slot): m for m in record.maps}
    methods = tile_methods(shown_methods(manifest))
    names = words("names").join(method.name for method in methods)
    layer = manifest.layers[-1].address
    return FallbackImage(
        index=image.index,
        file=image.file,
        size=_size(results, image, words),
        badge=_badge(results, image, words),
        predictions=tuple(ShownPrediction(p.name, p.probability) for p in image.top[:3]),
        further=tuple(_further(results, image)),
        caption=words("fallback.caption", image=image.file, methods=names, layer=layer),
        tiles=tuple(_tiles(results, image, record, maps, words, picture)),
        numbers=tuple(_numbers(results, image, maps, words)),
    )


def tile_methods(methods: Sequence[Method]) -> tuple[Method, ...]:
    """Return the methods of the contact sheet: heat maps of layers, the usual methods first."""
    drawn = [m for m in methods if m.scope == "layer" and m.grid == "layer" and not m.per_channel]
    usual = [m for m in drawn if m.key in DEFAULT_METHODS]
    return tuple(dict.fromkeys([*usual, *drawn]))[:TILE_METHODS]


def _size(results: Results, image: ImageEntry, words: Words) -> str:
    """Say how large an image is, and how much of it the model saw."""
    width, height = image.size
    left, top, right, bottom = seen_part(results.manifest.preprocessing, image)
    across, down = round((right - left) * width), round((bottom - top) * height)
    if (across, down) == (width, height):
        return words("image.size", width=width, height=height)
    return words("image.seen", width=width, height=height, across=across, down=down)


def _further(results: Results, image: ImageEntry) -> Iterator[tuple[str, str]]:
    """Yield the names of further runs that are compared, and the class that each predicts."""
    for shown in shown_runs(results)[1:]:
        for best in shown.results.images[image.index].top[:1]:
            yield shown.name, f"{best.name} {format_probability(best.probability)}"


def _badge(results: Results, image: ImageEntry, words: Words) -> str:
    """Compare the first prediction with the true class, where that is known."""
    if image.label is None or not image.top:
        return ""
    right = image.top[0].index == image.label
    name = results.manifest.class_names[image.label]
    return words("badge.right" if right else "badge.wrong", name=name)


def _tiles(
    results: Results,
    image: ImageEntry,
    record: ImageRecord,
    maps: _Maps,
    words: Words,
    picture: Picture,
) -> Iterator[Tile]:
    """Draw the photograph, and each class and method at the last layer."""
    comma = words("comma")
    photo = shrunk(record.picture, TILE_SIDE)
    original = words("original")
    source = picture(jpeg_bytes(photo, quality=80), f"{image.index}")
    yield Tile(source, original, comma.join([image.file, original]))
    pixels = np.asarray(photo)
    for slot, target in enumerate(results.targets(image.index)):
        for method in tile_methods(shown_methods(results.manifest)):
            for run in shown_runs(results):
                own = maps.get((method.key, run.prefix + results.manifest.layers[-1].address, slot))
                if own is not None:
                    name = results.manifest.class_names[target]
                    yield _tile(image, name, run, own, pixels, words, picture)


def _tile(
    image: ImageEntry,
    name: str,
    run: ShownRun,
    record: MapRecord,
    pixels: NDArray[np.uint8],
    words: Words,
    picture: Picture,
) -> Tile:
    """Draw a map of a class over the photograph."""
    shown, method, comma = appearance(record), record.method, words("comma")
    if not method.per_class:
        name = words("class.any")
    label = words("fallback.tile", name=name, method=method.name)
    state = shown.quantised.state
    said = [] if state == "positive" else [words(f"cell.{state}")]
    runs = [run.name] if run.name else []
    seen = seen_part(run.results.manifest.preprocessing, run.results.images[image.index])
    jpeg = jpeg_bytes(Image.fromarray(drawn_over(pixels, shown, seen)), quality=80)
    layer = record.layer.removeprefix(run.prefix)
    return Tile(
        picture(jpeg, f"{image.index}-{record.slot}-{method.key}{run.prefix.replace(':', '-')}"),
        comma.join([*runs, label, *said]),
        comma.join([image.file, *runs, name, method.name, layer]),
    )


def _numbers(results: Results, image: ImageEntry, maps: _Maps, words: Words) -> Iterator[Numbers]:
    """Yield a table of the maps' largest values for each class, and one of no class."""
    manifest, methods = results.manifest, shown_methods(results.manifest)
    addresses = [*(layer.address for layer in manifest.layers), FUSED, INPUT]
    chances = results.probabilities(image.index)
    for slot, target in [*enumerate(results.targets(image.index)), (0, None)]:
        columns = [m for m in methods if m.per_class == (target is not None)]
        if not columns:
            continue
        name = words("class.any")
        if target is not None:
            name = words(
                "fallback.class",
                name=manifest.class_names[target],
                probability=format_probability(float(chances[target])),
            )
        rows = (
            (layer, [maps.get((method.key, layer, slot)) for method in columns])
            for layer in addresses
        )
        yield Numbers(
            words("fallback.numbers", image=image.file, name=name),
            tuple(method.name for method in columns),
            tuple(
                (layer, tuple(_peak(record, words) for record in row))
                for layer, row in rows
                if any(row)
            ),
        )


def _peak(record: MapRecord | None, words: Words) -> str:
    """Say a map's largest value, or why it has none."""
    if record is None:
        return "–"
    shown = appearance(record)
    quantised = shown.quantised
    if quantised.state != "positive":
        return words(f"cell.{quantised.state}")
    sign = "±" if record.method.values == "signed" else ""
    return sign + f"{quantised.peak + shown.base:.3g}".replace("-", "−")
