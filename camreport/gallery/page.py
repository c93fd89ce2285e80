"""What the page shows, as finished values: the template only loops over them."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import count

import numpy as np
from PIL import Image

from camreport.heatmap import COLORMAPS, QuantisedCam, colour_table, overlay, quantise
from camreport.images import Preprocessing, jpeg_bytes
from camreport.methods import METHODS, Method
from camreport.results import Arrays, Record, Results, softmax

FUSED = "fused"
"""Name of the layer that holds maps fused over all layers."""

TILE_SIDE = 192
"""Longer side of the contact sheet's pictures, in pixels."""

OPACITY = 0.5
"""Opacity of the heat maps when the page opens, and in the contact sheet."""

JsonValue = str | int | float | bool | None | list["JsonValue"] | dict[str, "JsonValue"]


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
class Tile:
    """One picture of the contact sheet."""

    source: str
    label: str
    alt: str


@dataclass(frozen=True)
class Cell:
    """One map in a table; ``number`` finds its bytes in the image's data."""

    state: str
    peak: str
    number: int
    label: str


@dataclass(frozen=True)
class Row:
    """A layer's maps of one class, and what its row head says."""

    address: str
    details: tuple[str, ...]
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class ClassFigure:
    """The table of one image and class: rows are layers, columns are methods."""

    number: int
    rank: int
    class_name: str
    probability: str
    logit: str
    rows: tuple[Row, ...]
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
    tiles: tuple[Tile, ...]
    figures: tuple[ClassFigure, ...]
    scale: str
    data: dict[str, JsonValue]
    maps: str


@dataclass(frozen=True)
class Page:
    """The whole page."""

    title: str
    lede: str
    facts: tuple[tuple[str, str], ...]
    methods: tuple[Method, ...]
    colormaps: tuple[str, ...]
    tables: dict[str, str]
    opacity: int
    cards: tuple[ImageCard, ...]
    failed: tuple[tuple[str, str], ...]
    class_switch: tuple[str, ...]
    side_by_side: bool
    has_signed: bool
    row_count: int
    sheet_layer: str
    provenance: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, str, str], ...]


def build_page(results: Results) -> Page:
    """Turn a results folder into the values of its page."""
    manifest = results.manifest
    methods = tuple(METHODS[key] for key in manifest["methods"])
    numbers = count(1)
    cards = tuple(
        _card(results, record, methods, numbers)
        for record in results.images
        if record["status"] == "ok"
    )
    failed = tuple(
        (record["file"], record["reason"])
        for record in results.images
        if record["status"] == "failed"
    )
    switch = _class_switch(cards)
    layers = [layer["address"] for layer in manifest["layers"]]
    classes = [entry["name"] for entry in manifest["classes"]]
    return Page(
        title=f"Where {manifest['model']['name']} looks",
        lede=_lede(len(cards), len(layers), methods, switch),
        facts=(
            ("Model", f"{manifest['model']['name']}, {manifest['model']['source']}"),
            ("Classes", _joined(classes)),
            ("Layers", ", ".join(layers)),
            ("Methods", ", ".join(method.name for method in methods)),
            ("Cost", format_cost(manifest["cost"])),
        ),
        methods=methods,
        colormaps=COLORMAPS,
        tables={
            name: base64.b64encode(colour_table(name).tobytes()).decode()
            for name in (*COLORMAPS, "diverging")
        },
        opacity=round(OPACITY * 100),
        cards=cards,
        failed=failed,
        class_switch=switch,
        side_by_side=len(switch) == 2,
        has_signed=any(method.signed for method in methods),
        row_count=max(len(figure.rows) for card in cards for figure in card.figures),
        sheet_layer=layers[-1],
        provenance=_provenance(manifest),
        files=tuple(
            (record["file"], f"{record['width']} × {record['height']}", record["sha256"])
            for record in results.images
            if record["status"] == "ok"
        ),
    )


def format_cost(cost: Mapping[str, float]) -> str:
    """Say what a run took: ``1 forward, 2 backwards, 66 maps, 0.4 s``."""
    counted = [
        f"{cost[key]:,} {word if cost[key] == 1 else word + 's'}"
        for key, word in (("forwards", "forward"), ("backwards", "backward"), ("maps", "map"))
    ]
    return ", ".join([*counted, f"{cost['seconds']:.1f} s"])


def format_probability(probability: float) -> str:
    """Return a probability with two digits, or a bound where that would claim certainty."""
    if probability < 0.005:
        return "< 0.01"
    return "> 0.99" if probability > 0.995 else f"{probability:.2f}"


def _card(
    results: Results, record: Record, methods: Sequence[Method], numbers: "count[int]"
) -> ImageCard:
    manifest = results.manifest
    index, arrays = record["index"], results.arrays(record["index"])
    photo = Image.open(BytesIO(results.photo(index))).convert("RGB")
    seen = _seen_share(manifest, record)
    subject = _Subject(manifest, record, arrays, methods)
    maps = _Maps()
    figures = tuple(
        _figure(subject, rank, maps, next(numbers)) for rank in range(len(arrays["targets"]))
    )
    scale = maps.largest_peak()
    return ImageCard(
        index=index,
        file=record["file"],
        size=f"{record['width']} × {record['height']} px",
        aspect=photo.width / photo.height,
        photo=_data_uri(results.photo(index)),
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


def _seen_share(manifest: Record, record: Record) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of what the model saw, as shares of the photograph."""
    width, height = record["width"], record["height"]
    box = Preprocessing.from_dict(manifest["preprocessing"]).seen_box(width, height)
    return box.left / width, box.top / height, box.right / width, box.bottom / height


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

    def layers(self) -> list[tuple[str, tuple[str, ...]]]:
        """Return each row's layer and what its head says, ``fused`` last."""
        rows = [(layer["address"], _row_details(layer)) for layer in self.manifest["layers"]]
        if any(f"{method.key}/{FUSED}" in self.arrays for method in self.methods):
            rows.append((FUSED, ("all layers in one",)))
        return rows

    def twin(self, address: str, earlier: Sequence[str]) -> str | None:
        """Return an earlier layer with just the same maps (AlexNet: avgpool and features.12)."""
        keys = [m.key for m in self.methods if f"{m.key}/{address}" in self.arrays]
        for other in earlier:
            pairs = [(self.arrays.get(f"{k}/{other}"), self.arrays[f"{k}/{address}"]) for k in keys]
            if all(one is not None and np.array_equal(one, two) for one, two in pairs):
                return other
        return None


class _Maps:
    """Collects one image's quantised maps and where each lies among their bytes."""

    def __init__(self) -> None:
        self.levels: list[bytes] = []
        self.cells: list[JsonValue] = []
        self._peaks: list[float] = []
        self._offset = 0

    def add(self, cam: QuantisedCam, layer: str, method: Method, class_name: str) -> int:
        """Add a map; return its number."""
        height, width = cam.levels.shape
        self.cells.append(
            {
                "offset": self._offset,
                "height": height,
                "width": width,
                "peak": cam.peak,
                "state": cam.state,
                "signed": cam.signed,
                "own": layer == FUSED,
                "layer": layer,
                "method": method.name,
                "class": class_name,
            }
        )
        self.levels.append(cam.levels.tobytes())
        self._offset += cam.levels.size
        if layer != FUSED:
            self._peaks.append(cam.peak)
        return len(self.cells) - 1

    def largest_peak(self) -> float:
        """Return the largest peak; fused maps are relative already and do not count."""
        return max(self._peaks, default=0.0)


def _figure(subject: _Subject, rank: int, maps: _Maps, number: int) -> ClassFigure:
    logits = subject.arrays["logits"]
    target = int(subject.arrays["targets"][rank])
    class_name = subject.class_name(rank)
    probability = format_probability(float(softmax(logits)[target]))
    rows: list[Row] = []
    for address, details in subject.layers():
        cells = tuple(_cell(subject, rank, method, address, maps) for method in subject.methods)
        twin = subject.twin(address, [row.address for row in rows])
        said = (*details, f"same maps as {twin}") if twin else details
        rows.append(Row(address, said, cells))
    states = {cell.state for row in rows for cell in row.cells if cell}
    notes = {
        "empty": f"No positive evidence: nothing there raises the logit of {class_name}. Only "
        "differences between logits decide, so this can happen at any probability "
        f"(here {probability}).",
        "undefined": "Undefined: the map holds values that are not finite.",
    }
    return ClassFigure(
        number=number,
        rank=rank,
        class_name=class_name,
        probability=probability,
        logit=f"{logits[target]:+.2f}".replace("-", "−"),
        rows=tuple(rows),
        notes=tuple(note for state, note in notes.items() if state in states),
    )


def _cell(subject: _Subject, rank: int, method: Method, address: str, maps: _Maps) -> Cell | None:
    cams = subject.arrays.get(f"{method.key}/{address}")
    if cams is None:
        return None
    class_name = subject.class_name(rank)
    quantised = quantise(cams[rank], method.signed)
    return Cell(
        state=quantised.state,
        peak=("±" if method.signed else "")
        + _number(quantised.peak)
        + (" of 1" if address == FUSED else ""),
        number=maps.add(quantised, address, method, class_name),
        label=f"{subject.record['file']}, class {class_name}, {method.name}, {address}",
    )


def _row_details(layer: Record) -> tuple[str, ...]:
    channels, height, width = layer["shape"]
    read = "own output" if layer["tensor"] == "own output" else f"read {layer['tensor']}"
    return f"{layer['type']}, {read}", f"{channels} × {height} × {width}"


def _tiles(
    subject: _Subject, photo: Image.Image, seen: tuple[float, float, float, float]
) -> Iterator[Tile]:
    """Draw the contact sheet's pictures: each class and method at the last layer."""
    small = photo.copy()
    small.thumbnail((TILE_SIDE, TILE_SIDE))
    pixels = np.asarray(small)
    left, right = round(seen[0] * small.width), round(seen[2] * small.width)
    top, bottom = round(seen[1] * small.height), round(seen[3] * small.height)
    layer = subject.manifest["layers"][-1]["address"]
    for rank in range(len(subject.arrays["targets"])):
        for method in subject.methods:
            cam = subject.arrays[f"{method.key}/{layer}"][rank]
            picture = pixels // 3  # what the model did not see stays dark
            picture[top:bottom, left:right] = overlay(
                pixels[top:bottom, left:right], cam, opacity=OPACITY, signed=method.signed
            )
            state = quantise(cam, method.signed).state
            label = f"{subject.class_name(rank)}: {method.name}"
            label += {"empty": ", no positive evidence", "undefined": ", undefined"}.get(state, "")
            yield Tile(
                source=_data_uri(jpeg_bytes(Image.fromarray(picture), quality=80)),
                label=label,
                alt=f"{method.name} at {layer} for class {subject.class_name(rank)}",
            )


def _class_switch(cards: Sequence[ImageCard]) -> tuple[str, ...]:
    """Name the ranks: by class where all images explain the same ones, else by place."""
    explained = {tuple(figure.class_name for figure in card.figures) for card in cards}
    if len(explained) == 1:
        return explained.pop()
    return tuple(f"prediction {rank + 1}" for rank in range(max(map(len, explained))))


def _lede(images: int, layers: int, methods: Sequence[Method], switch: Sequence[str]) -> str:
    pictures = "1 image" if images == 1 else f"{images} images"
    depth = "1 layer" if layers == 1 else f"{layers} layers"
    names = _joined([method.name for method in methods])
    return f"{names} at {depth} on {pictures}, explained for {_joined(switch)}."


def _joined(words: Sequence[str], most: int = 6) -> str:
    """List words as a sentence does: ``a, b and c``."""
    listed = list(words[:most])
    if len(words) > most:
        listed.append(f"{len(words) - most} more")
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"


def _provenance(manifest: Record) -> tuple[tuple[str, str], ...]:
    model = manifest["model"]
    layers = (
        f"{layer['address']} ({layer['type']}, {layer['tensor']}, "
        f"{' × '.join(map(str, layer['shape']))})"
        for layer in manifest["layers"]
    )
    return (
        ("Command", manifest["command"]),
        ("Model", f"{model['name']}: {model['source']}; {model['parameters']:,} parameters"),
        ("Weights", f"sha256 {model['sha256']}"),
        ("Preprocessing", str(Preprocessing.from_dict(manifest["preprocessing"]))),
        ("Layers", "; ".join(layers)),
        ("Target", "logit (before the softmax), one backward pass per class"),
        ("Maps", "raw float32 in results/; here relu(R) / max(R) in 8 bits, enlarged bilinearly"),
        ("Cost", format_cost(manifest["cost"])),
        ("Device", manifest["device"]),
        ("Versions", ", ".join(f"{name} {v}" for name, v in manifest["versions"].items())),
    )


def _number(value: float) -> str:
    return f"{value:.3g}"


def _data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
