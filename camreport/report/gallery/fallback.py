"""What the page shows where scripts do not run: a contact sheet, predictions and numbers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camreport.images.pixels import jpeg_bytes
from camreport.methods import DEFAULT_METHODS, Method
from camreport.report.appearance import drawable, drawn_over, format_probability, seen_share
from camreport.report.gallery.language import Words
from camreport.report.gallery.records import FUSED, INPUT, shown_methods
from camreport.report.heatmap import quantise
from camreport.results.reader import Record, Results, activation_of, probabilities
from camreport.results.shards import Arrays

TILE_SIDE = 160
"""Longer side of the contact sheet's pictures, in pixels."""

TILE_METHODS = 3
"""Most methods in the contact sheet; the table of numbers has all."""

Picture = Callable[[bytes, str], str]
"""Keeps a JPEG under a name and returns the address that shows it."""


@dataclass(frozen=True)
class Prediction:
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
    """The largest raw value of each map of one class: rows of layers, columns of methods."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class FallbackImage:
    """One image of the contact sheet."""

    index: int
    file: str
    size: str
    badge: str
    predictions: tuple[Prediction, ...]
    caption: str
    tiles: tuple[Tile, ...]
    numbers: tuple[Numbers, ...]


def fallback_image(
    results: Results, record: Record, words: Words, picture: Picture
) -> FallbackImage:
    """Draw one image's part of the contact sheet.

    Raises:
        ResultsError: its arrays or its photograph are missing or damaged.
    """
    manifest, index = results.manifest, record["index"]
    arrays = results.arrays(index)
    photo = results.picture(index)
    photo.thumbnail((TILE_SIDE, TILE_SIDE))
    methods = shown_methods(manifest)
    layer = manifest["layers"][-1]["address"]
    names = words("names").join(method.name for method in tile_methods(methods))
    return FallbackImage(
        index=index,
        file=record["file"],
        size=_size(manifest, record, words),
        badge=_badge(manifest, record, words),
        predictions=tuple(Prediction(p["name"], p["probability"]) for p in record["top"][:3]),
        caption=words("fallback.caption", image=record["file"], methods=names, layer=layer),
        tiles=tuple(_tiles(manifest, record, arrays, photo, words, picture)),
        numbers=tuple(_numbers(manifest, record, arrays, methods, words)),
    )


def tile_methods(methods: Sequence[Method]) -> tuple[Method, ...]:
    """Return the methods of the contact sheet: heat maps of layers, the usual methods first."""
    drawn = [m for m in methods if m.per_layer and not m.on_input and not m.per_channel]
    usual = [m for m in drawn if m.key in DEFAULT_METHODS]
    return tuple(dict.fromkeys([*usual, *drawn]))[:TILE_METHODS]


def _size(manifest: Record, record: Record, words: Words) -> str:
    """Say how large an image is, and how much of it the model saw."""
    width, height = record["width"], record["height"]
    left, top, right, bottom = seen_share(manifest, record)
    across, down = round((right - left) * width), round((bottom - top) * height)
    if (across, down) == (width, height):
        return words("image.size", width=width, height=height)
    return words("image.seen", width=width, height=height, across=across, down=down)


def _badge(manifest: Record, record: Record, words: Words) -> str:
    """Compare the first prediction with the true class, where that is known."""
    if record.get("label") is None or not record["top"]:
        return ""
    right = record["top"][0]["index"] == record["label"]
    name = manifest["classes"][record["label"]]["name"]
    return words("badge.right" if right else "badge.wrong", name=name)


def _tiles(
    manifest: Record,
    record: Record,
    arrays: Arrays,
    photo: Image.Image,
    words: Words,
    picture: Picture,
) -> Iterator[Tile]:
    """Draw the photograph, and each class and method at the last layer."""
    index = record["index"]
    original = words("original")
    source = picture(jpeg_bytes(photo, quality=80), f"{index}")
    yield Tile(source, original, words("comma").join([record["file"], original]))
    seen, pixels = seen_share(manifest, record), np.asarray(photo)
    layer = manifest["layers"][-1]["address"]
    for rank, target in enumerate(arrays["targets"]):
        for method in tile_methods(shown_methods(manifest)):
            cams = arrays.get(f"{method.key}/{layer}")
            if cams is None or (rank and not method.class_specific):
                continue
            name = manifest["classes"][int(target)]["name"]
            shown = name if method.class_specific else words("class.any")
            label = words("fallback.tile", name=shown, method=method.name)
            base = np.min(cams[rank]) if method.from_least else 0
            state = quantise(cams[rank] - base, method.signed).state
            if state != "positive":
                label = words("comma").join([label, words(f"cell.{state}")])
            drawn = Image.fromarray(drawn_over(pixels, cams[rank], seen, method))
            jpeg = jpeg_bytes(drawn, quality=80)
            yield Tile(
                picture(jpeg, f"{index}-{rank}-{method.key}"),
                label,
                words("comma").join([record["file"], shown, method.name, layer]),
            )


def _numbers(
    manifest: Record, record: Record, arrays: Arrays, methods: Sequence[Method], words: Words
) -> Iterator[Numbers]:
    """Yield a table of the maps' largest values for each class, and one of no class."""
    addresses = [layer["address"] for layer in manifest["layers"]]
    shares = probabilities(arrays["logits"], activation_of(manifest))
    for rank, target in [*enumerate(arrays["targets"]), (0, None)]:
        columns = [m for m in methods if m.class_specific == (target is not None)]
        if not columns:
            continue
        name = words("class.any")
        if target is not None:
            name = words(
                "fallback.class",
                name=manifest["classes"][int(target)]["name"],
                probability=format_probability(float(shares[target])),
            )
        rows = [
            (layer, tuple(_peak(arrays.get(f"{m.key}/{layer}"), rank, m, words) for m in columns))
            for layer in (*addresses, FUSED, INPUT)
            if any(f"{method.key}/{layer}" in arrays for method in columns)
        ]
        yield Numbers(
            words("fallback.numbers", image=record["file"], name=name),
            tuple(method.name for method in columns),
            tuple(rows),
        )


def _peak(
    cams: NDArray[np.float32] | None,
    rank: int,
    method: Method,
    words: Words,
) -> str:
    """Say a map's largest value, or why it has none."""
    if cams is None:
        return "–"
    cam, _ = drawable(cams[rank], method)
    base = float(np.min(cam)) if method.from_least and np.isfinite(cam).all() else 0.0
    quantised = quantise(cam - base, method.signed)
    if quantised.state != "positive":
        return words(f"cell.{quantised.state}")
    return ("±" if method.signed else "") + f"{quantised.peak + base:.3g}".replace("-", "−")
