"""One image as the page takes it: its photograph, its maps in 8 bits, its feature maps."""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camreport.images.pixels import jpeg_bytes
from camreport.methods import METHODS, Method
from camreport.report.appearance import appearance, seen_part
from camreport.report.heatmap import quantise, signed_picture
from camreport.results.reader import Channels, MapRecord, Record, Results
from camreport.results.schema import FUSED, ImageEntry, Manifest
from camreport.settings import NONE

SALIENCY_SIDE = 112
"""Longer side, in cells, at which heat maps on the input's grid are shipped."""

MAX_HASHES = 300
"""Images whose hashes the page lists; a run's manifest has them all."""


@dataclass(frozen=True)
class Detail:
    """How much of each image a page carries.

    Attributes:
        photo_side: longer side of the photograph, in pixels.
        map_side: most cells of a map's longer side; larger maps are averaged. None keeps them all.
        deflated: whether its maps are: smaller, but a browser cannot inflate them at once.
    """

    photo_side: int
    map_side: int | None
    deflated: bool


@dataclass
class ImageRecord:
    """What the page knows of one image.

    Attributes:
        data: for the page; ``maps`` in it holds entries and bytes of all maps, see ``_packed``.
        cells: the entries of its maps.
        levels: all bytes of its maps.
        peaks: largest values that share a scale, by method.
        targets: classes explained, by their index.
        duplicates: addresses whose maps are those of the layer they share a tensor with.
        photo: its photograph in ``data``, as JPEG bytes.
        maps: its raw maps.
    """

    data: Mapping[str, object]
    cells: Sequence[Record]
    levels: bytes
    peaks: Mapping[str, float]
    targets: tuple[int, ...]
    duplicates: set[str]
    photo: bytes
    maps: Sequence[MapRecord]

    def part(self, method: str, layer: str) -> tuple[bytes, list[Record]]:
        """Return the bytes and entries of one method's maps at one layer."""
        levels = b""
        entries = []
        for cell in self.cells:
            if (cell["method"], cell["layer"]) != (method, layer):
                continue
            entry = {key: value for key, value in cell.items() if key != "picture"}
            if "offset" in cell:
                entry["offset"] = len(levels)
                end = cell["offset"] + cell["height"] * cell["width"]
                levels += self.levels[cell["offset"] : end]
            entries.append(entry)
        return levels, entries


@dataclass
class _Levels:
    """Collects bytes and says where each lies."""

    parts: list[bytes] = field(default_factory=list)
    length: int = 0

    def add(self, levels: NDArray[np.uint8]) -> int:
        offset = self.length
        self.parts.append(levels.tobytes())
        self.length += levels.size
        return offset


def image_record(results: Results, image: ImageEntry, detail: Detail) -> ImageRecord:
    """Turn one image's results into its record for the page.

    Raises:
        ResultsError: its arrays or its photograph are missing or damaged.
    """
    maps = list(results.maps(image.index))
    levels = _Levels()
    cells = [_cell(record, levels, detail.map_side) for record in maps]
    peaks: dict[str, float] = {}
    for cell in cells:
        if not cell["own"]:
            peaks[cell["method"]] = max(peaks.get(cell["method"], 0.0), cell["peak"])
    channels = {
        layer.address: _channels(results.channels(image.index, layer.address), levels)
        for layer in results.manifest.channels
    }
    joined = b"".join(levels.parts)
    jpeg, size = _photo(results, image, detail.photo_side)
    targets = results.targets(image.index)
    data = {
        "index": image.index,
        "file": image.file,
        "photo": data_uri(jpeg),
        "width": size[0],
        "height": size[1],
        "seen": list(seen_part(results.manifest.preprocessing, image)),
        "targets": list(targets),
        **_scores(results, image, targets),
        "maps": _packed({"cells": cells, "channels": channels}, joined, detail.deflated),
    }
    duplicates = _duplicates(results.manifest, maps)
    return ImageRecord(data, cells, joined, peaks, targets, duplicates, jpeg, maps)


def shown_methods(manifest: Manifest) -> tuple[Method, ...]:
    """Return the methods of a run that have any map."""
    return tuple(METHODS[key] for key in manifest.shown_methods)


def data_uri(jpeg: bytes) -> str:
    """Return a picture as an address that needs no file."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def _photo(results: Results, image: ImageEntry, side: int) -> tuple[bytes, tuple[int, int]]:
    """Return a photograph of at most so many pixels a side as JPEG bytes, and its size."""
    photo = results.picture(image.index)
    if max(photo.size) <= side:
        return results.photo(image.index), photo.size
    photo.thumbnail((side, side))
    return jpeg_bytes(photo, quality=75), photo.size


def _scores(results: Results, image: ImageEntry, targets: Sequence[int]) -> Record:
    """Return the explained classes' logits, where the model has any, and probabilities."""
    logits, chances = results.logits(image.index), results.probabilities(image.index)
    explained = targets if results.manifest.activation != NONE else ()
    return {
        "logits": [_finite(float(logits[target])) for target in explained],
        "probabilities": [_finite(float(chances[target])) for target in targets],
    }


def _cell(record: MapRecord, levels: _Levels, map_side: int | None) -> Record:
    """Return a map's entry; ``own`` says that it shares no scale with others."""
    method, shown = record.method, appearance(record)
    side = SALIENCY_SIDE if method.on_input else map_side
    quantised = quantise(_smaller(shown.drawn, side), method.signed)
    cell: Record = {
        "method": method.key,
        "layer": record.layer,
        "rank": record.slot,
        "height": quantised.levels.shape[0],
        "width": quantised.levels.shape[1],
        "grid": [*shown.cam.shape],
        "peak": quantised.peak,
        "largest": 0.0,
        "base": shown.base,
        "state": quantised.state,
        "signed": quantised.signed,
    }
    if quantised.state == "positive":
        cell["largest"] = _largest(shown.cam, method.signed)
    if shown.colours is not None:
        cell["picture"] = _picture(shown.colours)
    elif quantised.state == "positive":
        cell["offset"] = levels.add(quantised.levels)
    if shown.channel is not None:
        cell["channel"] = shown.channel
    return cell | {"own": record.layer == FUSED or method.on_input or method.from_least}


def _packed(entries: Record, levels: bytes, deflated: bool) -> str:
    """Return entries and bytes in base64, deflated as the browser's ``deflate-raw`` or not.

    Four bytes (little-endian) count those of the entries' JSON; it follows, then the levels.
    """
    text = json.dumps(entries, allow_nan=False, separators=(",", ":")).encode()
    packed = len(text).to_bytes(4, "little") + text + levels
    if deflated:
        packer = zlib.compressobj(wbits=-15)
        packed = packer.compress(packed) + packer.flush()
    return base64.b64encode(packed).decode()


def _channels(channels: Channels, levels: _Levels) -> Record:
    """Return the feature maps of a layer: each in 8 bits up to its own largest value."""
    maps = channels.maps
    signed = bool(np.nanmin(maps, initial=0) < 0)
    quantised = [quantise(channel, signed) for channel in maps]
    offset = levels.add(np.stack([channel.levels for channel in quantised]))
    return {
        "offset": offset,
        "shape": [*maps.shape],
        "signed": signed,
        "peaks": [_digits(channel.peak) for channel in quantised],
        "means": [_digits(float(mean)) for mean in maps.mean((1, 2))],
        "weights": [[_digits(float(weight)) for weight in row] for row in channels.weights],
    }


def _largest(cam: NDArray[np.float32], signed: bool) -> float:
    """Return a raw map's largest value, by magnitude if it is signed."""
    return float(np.abs(cam).max() if signed else cam.max())


def _smaller(cam: NDArray[np.float32], side: int | None) -> NDArray[np.float32]:
    """Average a map down to what the page needs of it."""
    longer = max(cam.shape)
    if side is None or longer <= side:
        return cam
    size = [max(1, round(length * side / longer)) for length in cam.shape]
    smaller: NDArray[np.float32] = cv2.resize(cam, size[::-1], interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return smaller


def _duplicates(manifest: Manifest, maps: Sequence[MapRecord]) -> set[str]:
    """Return the layers whose maps equal, by every method, those of the layer they repeat."""
    of_layer: dict[str, dict[tuple[str, int], NDArray[np.float32]]] = {}
    for record in maps:
        place = record.method.key, record.slot
        of_layer.setdefault(record.layer, {})[place] = record.cam
    return {
        layer.address
        for layer in manifest.layers
        if layer.same_as is not None
        and _equal(of_layer.get(layer.address, {}), of_layer.get(layer.same_as, {}))
    }


def _equal(
    one: Mapping[tuple[str, int], NDArray[np.float32]],
    other: Mapping[tuple[str, int], NDArray[np.float32]],
) -> bool:
    return one.keys() == other.keys() and all(
        np.array_equal(cam, other[place], equal_nan=True) for place, cam in one.items()
    )


def _picture(saliency: NDArray[np.float32]) -> str:
    """Return a map of colours ``(3, H, W)`` as a picture's address."""
    return data_uri(jpeg_bytes(Image.fromarray(signed_picture(saliency)), quality=75))


def _finite(number: float) -> float | None:
    """Return a number that JSON can hold."""
    return number if np.isfinite(number) else None


def _digits(number: float) -> float | None:
    return float(f"{number:.6g}") if np.isfinite(number) else None


def columns(images: Sequence[ImageEntry]) -> Record:
    """Return the entries of all readable images column by column, which is shorter."""
    return {
        "index": [image.index for image in images],
        "file": [image.file for image in images],
        "size": [[*image.size] for image in images],
        "sha256": [image.sha256 for image in images[:MAX_HASHES]],
        "label": [image.label for image in images],
        "top": [[[p.index, p.probability] for p in image.top[:3]] for image in images],
    }
