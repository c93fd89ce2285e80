"""One image's part of the page: its predictions, its pictures and its tables of maps."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import pairwise
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camreport.drawing import Share, drawable, drawn_over, format_probability, seen_share
from camreport.heatmap import QuantisedCam, quantise, signed_picture
from camreport.images import jpeg_bytes
from camreport.methods import DEFAULT_METHODS, METHODS, Method
from camreport.results import Arrays, Record, Results, softmax

FUSED = "fused"
"""Name of the layer that holds maps fused over all layers."""

INPUT = "input"
"""Name of the layer of maps that belong to the whole network."""

TILE_SIDE = 192
"""Longer side of the contact sheet's pictures, in pixels."""

TILE_METHODS = 3
"""Most methods in the contact sheet; the tables below it have all."""

SALIENCY_SIDE = 112
"""Longer side, in cells, at which heat maps on the input's grid are shipped."""

WIDEST = 7
"""Most columns of a table: what a screen and a sheet of paper hold."""

JsonValue = str | int | float | bool | None | list["JsonValue"] | dict[str, "JsonValue"]

Column = TypeVar("Column")

Numbers = Iterator[int]
"""Gives every figure of the page its number."""


@dataclass(frozen=True)
class Prediction:
    """A class with its probability 0..1, in words for the reader."""

    name: str
    probability: float

    @property
    def percent(self) -> str:
        """The probability as text; extremes are not rounded to certainty."""
        return format_probability(self.probability)


@dataclass(frozen=True)
class Badge:
    """Whether the first prediction is the true class, in words."""

    right: bool
    text: str


@dataclass(frozen=True)
class Tile:
    """One picture of the contact sheet."""

    source: str
    label: str
    alt: str


@dataclass(frozen=True)
class Cell:
    """One map in a table.

    Attributes:
        state: ``positive``, ``empty``, ``undefined``, ``skipped`` or ``absent``.
        peak: its largest value in words; for a skipped one why it is not there.
        number: finds its bytes in the image's data; None where there are none.
        label: what it shows, for those who do not see it.
        picture: the finished picture of a map on the input's grid.
    """

    state: str
    peak: str
    number: int | None
    label: str
    picture: str | None = None


@dataclass(frozen=True)
class Head:
    """The head of a row or column: a method, or a layer with what is to be said of it."""

    name: str
    method: str | None = None
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A row of maps."""

    head: Head
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """A table of maps: layers × methods, or the other way round where no class is looked at."""

    columns: tuple[Head, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Figure:
    """The tables of one image and class; of no class where the methods look at none."""

    number: int
    rank: int | None
    class_name: str
    probability: str
    logit: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ImageCard:
    """All that the page shows of one image."""

    index: int
    file: str
    size: str
    aspect: float
    photo: str
    predictions: tuple[Prediction, ...]
    badge: Badge | None
    tiles: tuple[Tile, ...]
    figures: tuple[Figure, ...]
    scale: str
    data: dict[str, JsonValue]
    maps: str


def build_card(results: Results, record: Record, numbers: Numbers) -> ImageCard:
    """Turn one image's results into the values of its part of the page."""
    manifest = results.manifest
    index, arrays = record["index"], results.arrays(record["index"])
    photo = Image.open(BytesIO(results.photo(index))).convert("RGB")
    seen = seen_share(manifest, record)
    subject = _Subject(manifest, record, arrays, shown_methods(manifest))
    maps = _Maps()
    figures = tuple(_figures(subject, maps, numbers))
    scale = maps.largest_peak()
    return ImageCard(
        index=index,
        file=record["file"],
        size=_size(record, seen),
        aspect=photo.width / photo.height,
        photo=_data_uri(results.photo(index)),
        badge=_badge(manifest, record),
        predictions=tuple(Prediction(p["name"], p["probability"]) for p in record["top"]),
        tiles=tuple(_tiles(subject, photo, seen)),
        figures=figures,
        scale=_number(scale),
        data={
            "index": index,
            "file": record["file"],
            "width": photo.width,
            "height": photo.height,
            "seen": list(seen),
            "scale": scale,
            "cells": list(maps.cells),
        },
        maps=base64.b64encode(b"".join(maps.levels)).decode(),
    )


def _size(record: Record, seen: Share) -> str:
    """Say how large an image is, and how much of it the model saw."""
    width, height = record["width"], record["height"]
    own = f"{width} × {height} px"
    across, down = round((seen[2] - seen[0]) * width), round((seen[3] - seen[1]) * height)
    if (across, down) == (width, height):
        return own
    return f"{own}, of which the model saw {across} × {down}; the rest is dark"


def _badge(manifest: Record, record: Record) -> Badge | None:
    """Compare the first prediction with the true class, where that is known."""
    if record.get("label") is None or not record["top"]:
        return None
    right = record["top"][0]["index"] == record["label"]
    name = manifest["classes"][record["label"]]["name"]
    return Badge(right, f"right: it is {name}" if right else f"wrong: it is {name}")


def shown_methods(manifest: Record) -> tuple[Method, ...]:
    """Return the methods of a run that have any map."""
    nowhere = {skip["method"] for skip in manifest["skipped"] if skip["layer"] is None}
    at_layer = [(skip["method"], skip["layer"]) for skip in manifest["skipped"]]
    addresses = [layer["address"] for layer in manifest["layers"]]
    return tuple(
        METHODS[key]
        for key in manifest["methods"]
        if key not in nowhere and any((key, address) not in at_layer for address in addresses)
    )


def tile_methods(methods: Sequence[Method]) -> tuple[Method, ...]:
    """Return the methods of the contact sheet: heat maps of layers, the usual methods first."""
    drawn = [m for m in methods if m.per_layer and not m.on_input and not m.per_channel]
    usual = [m for m in drawn if m.key in DEFAULT_METHODS]
    return tuple(dict.fromkeys([*usual, *drawn]))[:TILE_METHODS]


@dataclass(frozen=True)
class _Subject:
    """One image's results, as its figures and pictures need them."""

    manifest: Record
    record: Record
    arrays: Arrays
    methods: Sequence[Method]

    def class_name(self, rank: int) -> str:
        """Name the class explained at a rank."""
        name: str = self.manifest["classes"][int(self.arrays["targets"][rank])]["name"]
        return name

    def layers(self, methods: Sequence[Method]) -> list[Head]:
        """Return the heads of the layers, ``fused`` last; layers of one tensor share a head."""
        heads: dict[str, Head] = {}
        for layer in self.manifest["layers"]:
            address, twin = layer["address"], layer.get("same_as")
            if twin in heads and self.equal_maps(address, twin):
                said = f"and {address}: the same tensor"
                heads[twin] = replace(heads[twin], details=(*heads[twin].details, said))
            else:
                heads[address] = Head(address, details=_layer_details(layer))
        if any(f"{method.key}/{FUSED}" in self.arrays for method in methods):
            heads[FUSED] = Head(FUSED, details=("all layers in one",))
        return list(heads.values())

    def reason(self, method: Method, address: str) -> str | None:
        """Say why a method has no map at a layer, if it was left out."""
        for skip in self.manifest["skipped"]:
            if skip["method"] == method.key and skip["layer"] in (None, address):
                reason: str = skip["reason"]
                return reason
        return None

    def equal_maps(self, one: str, other: str) -> bool:
        """Say whether two layers have the same maps by every method."""
        pairs = [
            (self.arrays.get(f"{method.key}/{one}"), self.arrays.get(f"{method.key}/{other}"))
            for method in self.methods
        ]
        return all(
            a is b or (a is not None and b is not None and np.array_equal(a, b, equal_nan=True))
            for a, b in pairs
        )


class _Maps:
    """Collects one image's quantised maps and where each lies among their bytes."""

    def __init__(self) -> None:
        self.levels: list[bytes] = []
        self.cells: list[JsonValue] = []
        self._peaks: list[float] = []
        self._offset = 0

    def add(
        self,
        cam: QuantisedCam,
        grid: tuple[int, int],
        base: float,
        names: Mapping[str, JsonValue],
        own_scale: bool,
        drawn: bool,
    ) -> int:
        """Add a map; return its number.

        Args:
            cam: the quantised map.
            grid: ``(h, w)`` of the map before it was made smaller for the page.
            base: the value of its lowest level, in its own unit.
            names: of layer, method and class, for the reader.
            own_scale: it does not share the image's scale.
            drawn: its levels travel along; a finished picture needs none.
        """
        height, width = cam.levels.shape
        self.cells.append(
            {
                "offset": self._offset,
                "height": height,
                "width": width,
                "grid": f"{grid[1]} × {grid[0]}",
                "peak": cam.peak,
                "base": base,
                "state": cam.state,
                "signed": cam.signed,
                "own": own_scale,
                "picture": not drawn,
                **names,
            }
        )
        if drawn:
            self.levels.append(cam.levels.tobytes())
            self._offset += cam.levels.size
        if not own_scale:
            self._peaks.append(cam.peak)
        return len(self.cells) - 1

    def largest_peak(self) -> float:
        """Return the largest peak of the maps that share the image's scale."""
        return max(self._peaks, default=0.0)


def _figures(subject: _Subject, maps: _Maps, numbers: Numbers) -> Iterator[Figure]:
    """Build the figure of every class, and one of the methods that look at no class."""
    logits = subject.arrays["logits"]
    of_class = [method for method in subject.methods if method.class_specific]
    of_none = [method for method in subject.methods if not method.class_specific]
    for rank in range(len(subject.arrays["targets"])) if of_class else ():
        target = int(subject.arrays["targets"][rank])
        probability = format_probability(float(softmax(logits)[target]))
        tables = tuple(_tables(subject, rank, of_class, maps, subject.class_name(rank)))
        yield Figure(
            number=next(numbers),
            rank=rank,
            class_name=subject.class_name(rank),
            probability=probability,
            logit=f"{logits[target]:+.2f}".replace("-", "−"),
            tables=tables,
            notes=tuple(_notes(tables, subject.class_name(rank), probability)),
        )
    if of_none:
        tables = tuple(_tables_of_no_class(subject, of_none, maps))
        yield Figure(
            number=next(numbers),
            rank=None,
            class_name="any class",
            probability="",
            logit="",
            tables=tables,
            notes=tuple(_notes(tables, "any class", "")),
        )


def _notes(tables: Sequence[Table], class_name: str, probability: str) -> Iterator[str]:
    """Explain the labels that stand in place of maps."""
    cells = [cell for table in tables for row in table.rows for cell in row.cells]
    states = {cell.state for cell in cells}
    if "empty" in states:
        yield (
            f"No positive evidence: nothing there raises the score of {class_name}. Only "
            "differences between logits decide, so this can happen at any probability"
            + (f" (here {probability})." if probability else ".")
        )
    if "undefined" in states:
        yield "Undefined: the map holds values that are not finite."
    yield from dict.fromkeys(cell.peak for cell in cells if cell.state == "skipped")


def _tables(
    subject: _Subject, rank: int, methods: Sequence[Method], maps: _Maps, class_name: str
) -> Iterator[Table]:
    """Build the tables of one class, none wider than a page, and one of the whole network."""
    of_layers = [method for method in methods if method.per_layer]
    for block in _blocks(of_layers):
        rows = tuple(
            Row(head, tuple(_cell(subject, rank, m, head.name, maps, class_name) for m in block))
            for head in subject.layers(block)
        )
        yield Table(tuple(map(_method_head, block)), rows)
    for block in _blocks([method for method in methods if not method.per_layer]):
        head = Head(INPUT, details=("the whole network, at the pixels",))
        cells = tuple(_cell(subject, rank, m, INPUT, maps, class_name) for m in block)
        yield Table(tuple(map(_method_head, block)), (Row(head, cells),))


def _tables_of_no_class(
    subject: _Subject, methods: Sequence[Method], maps: _Maps
) -> Iterator[Table]:
    """Build the tables of methods that look at no class: one row for each of the few methods."""
    for block in _blocks(subject.layers(methods)):
        rows = tuple(
            Row(
                _method_head(method),
                tuple(_cell(subject, 0, method, head.name, maps, "any") for head in block),
            )
            for method in methods
        )
        yield Table(tuple(block), rows)


def _method_head(method: Method) -> Head:
    return Head(method.name, method=method.key)


def _blocks(columns: Sequence[Column]) -> list[Sequence[Column]]:
    """Cut columns into as few blocks of about equal length as a page allows."""
    blocks = -(-len(columns) // WIDEST)
    ends = [round(i * len(columns) / max(1, blocks)) for i in range(blocks + 1)]
    return [columns[a:b] for a, b in pairwise(ends)]


def _cell(
    subject: _Subject, rank: int, method: Method, address: str, maps: _Maps, class_name: str
) -> Cell:
    label = f"{subject.record['file']}, class {class_name}, {method.name}, {address}"
    cams = subject.arrays.get(f"{method.key}/{address}")
    if cams is None:
        reason = subject.reason(method, address)
        if reason:
            return Cell("skipped", reason, None, f"{label}: not computed")
        return Cell("absent", "", None, f"{label}: not fused by this method")
    cam, channel = drawable(cams[rank], method)
    base = float(np.min(cam)) if method.from_least and np.isfinite(cam).all() else 0.0
    picture = None
    if cam.ndim == 3:  # colours
        picture = _picture(cam)
        cam = cam[np.abs(cam).argmax(0), *np.indices(cam.shape[1:])]
    quantised = quantise(_smaller(cam - base, method), method.signed)
    own = address == FUSED or method.on_input or method.from_least
    names: dict[str, JsonValue] = {"layer": address, "method": method.name, "class": class_name}
    drawn = picture is None
    number = maps.add(quantised, (cam.shape[0], cam.shape[1]), base, names, own, drawn)
    peak = ("±" if method.signed else "") + _number(quantised.peak + base)
    peak = f"{_number(base)} to {peak}" if method.from_least else f"max {peak}"
    return Cell(
        state=quantised.state,
        peak=("" if channel is None else f"channel {channel}, ")
        + peak
        + (" of 1" if address == FUSED else ""),
        number=number,
        label=label,
        picture=picture if quantised.state == "positive" else None,
    )


def _smaller(cam: NDArray[np.float32], method: Method) -> NDArray[np.float32]:
    """Average a heat map on the input's grid down to what the page needs of it."""
    longer = max(cam.shape)
    if not method.on_input or longer <= SALIENCY_SIDE:
        return cam
    size = [max(1, round(side * SALIENCY_SIDE / longer)) for side in cam.shape]
    smaller: NDArray[np.float32] = cv2.resize(cam, size[::-1], interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return smaller


def _layer_details(layer: Record) -> tuple[str, ...]:
    channels, height, width = layer["shape"]
    read = layer["tensor"] if layer["tensor"].startswith("own") else f"read {layer['tensor']}"
    return f"{layer['type']}, {read}", f"{channels} × {height} × {width}"


def _tiles(
    subject: _Subject, photo: Image.Image, seen: tuple[float, float, float, float]
) -> Iterator[Tile]:
    """Draw the contact sheet's pictures: each class and the first methods at their last layer."""
    small = photo.copy()
    small.thumbnail((TILE_SIDE, TILE_SIDE))
    pixels = np.asarray(small)
    layer = subject.manifest["layers"][-1]["address"]
    for rank in range(len(subject.arrays["targets"])):
        for method in tile_methods(subject.methods):
            cams = subject.arrays.get(f"{method.key}/{layer}")
            if cams is None or (rank and not method.class_specific):
                continue
            picture = drawn_over(pixels, cams[rank], seen, method)
            base = np.min(cams[rank]) if method.from_least else 0
            state = quantise(cams[rank] - base, method.signed).state
            class_name = subject.class_name(rank) if method.class_specific else "any class"
            label = f"{class_name}: {method.name}"
            label += {"empty": ", no positive evidence", "undefined": ", undefined"}.get(state, "")
            yield Tile(
                source=_data_uri(jpeg_bytes(Image.fromarray(picture), quality=80)),
                label=label,
                alt=f"{method.name} at {layer} for {class_name}",
            )


def _picture(saliency: NDArray[np.float32]) -> str:
    """Return a map of colours ``(3, H, W)`` as a picture's address."""
    picture = Image.fromarray(signed_picture(saliency))
    return _data_uri(jpeg_bytes(picture, quality=75))


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
