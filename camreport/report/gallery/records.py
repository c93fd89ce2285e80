"""One image as the page takes it: its photograph, its maps in 8 bits, its feature maps."""

import base64
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camreport.images.pixels import jpeg_bytes
from camreport.methods import METHODS, Method
from camreport.report.appearance import drawable, seen_share
from camreport.report.heatmap import quantise, signed_picture
from camreport.results.checks import shown_methods as manifest_methods
from camreport.results.reader import Record, Results, activation_of, probabilities
from camreport.results.shards import Arrays
from camreport.settings import NONE

FUSED = "fused"
"""Name of the layer that holds maps fused over all layers."""

INPUT = "input"
"""Name of the layer of maps that belong to the whole network."""

FEATURES = "feature_maps/"
"""Keys of a layer's feature maps ``(C, h, w)``."""

WEIGHTS = "channel_weights/"
"""Keys of the weights ``(K, C)`` with which Grad-CAM adds them up."""

SALIENCY_SIDE = 112
"""Longer side, in cells, at which heat maps on the input's grid are shipped."""

MAX_HASHES = 300
"""Images whose hashes the page lists; a run's manifest has them all."""


@dataclass
class ImageRecord:
    """What the page knows of one image.

    Attributes:
        data: for the page; ``maps`` in it holds entries and bytes of all maps, see ``_packed``.
        cells: the entries of its maps.
        levels: all bytes of its maps.
        peaks: largest values that share a scale, by method.
        targets: classes explained, by their index.
        twins: addresses whose maps are those of the layer they share a tensor with.
        photo: its photograph in ``data``, as JPEG bytes.
        arrays: its raw results.
    """

    data: Mapping[str, object]
    cells: Sequence[Record]
    levels: bytes
    peaks: Mapping[str, float]
    targets: tuple[int, ...]
    twins: set[str]
    photo: bytes
    arrays: Arrays

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


def image_record(
    results: Results, record: Record, photo_side: int, cap: int | None, deflated: bool
) -> ImageRecord:
    """Turn one image's results into its record for the page.

    Args:
        results: of the run.
        record: the image's entry in the manifest.
        photo_side: longer side of the photograph, in pixels.
        cap: most cells of a map's longer side; larger maps are averaged. None keeps them all.
        deflated: whether its maps are: smaller, but a browser cannot inflate them at once.

    Raises:
        ResultsError: its arrays or its photograph are missing or damaged.
    """
    manifest, index = results.manifest, record["index"]
    arrays = results.arrays(index)
    jpeg = results.photo(index)
    photo = results.picture(index)
    if max(photo.size) > photo_side:
        photo.thumbnail((photo_side, photo_side))
        jpeg = jpeg_bytes(photo, quality=75)
    levels = _Levels()
    peaks: dict[str, float] = {}
    cells: list[Record] = []
    for method, layer, rank, cams in _maps(arrays):
        cell, shares = _cell(method, layer, rank, cams, levels, cap)
        cells.append(cell)
        if shares:
            peaks[method.key] = max(peaks.get(method.key, 0.0), cell["peak"])
    kind = activation_of(manifest)
    chances = probabilities(arrays["logits"], kind)
    logits = arrays["logits"] if kind != NONE else None
    targets = [int(target) for target in arrays["targets"]]
    channels = {
        entry["address"]: _channels(arrays, entry["address"], levels)
        for entry in manifest.get("channels", ())
    }
    joined = b"".join(levels.parts)
    data = {
        "index": index,
        "file": record["file"],
        "photo": data_uri(jpeg),
        "width": photo.width,
        "height": photo.height,
        "seen": list(seen_share(manifest, record)),
        "targets": targets,
        "logits": [] if logits is None else [_finite(float(logits[target])) for target in targets],
        "probabilities": [_finite(float(chances[target])) for target in targets],
        "maps": _packed({"cells": cells, "channels": channels}, joined, deflated),
    }
    twins = _twins(manifest, arrays)
    return ImageRecord(data, cells, joined, peaks, tuple(targets), twins, jpeg, arrays)


def shown_methods(manifest: Record) -> tuple[Method, ...]:
    """Return the methods of a run that have any map."""
    return tuple(METHODS[key] for key in manifest_methods(manifest))


def data_uri(jpeg: bytes) -> str:
    """Return a picture as an address that needs no file."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def _maps(arrays: Arrays) -> Iterator[tuple[Method, str, int, NDArray[np.float32]]]:
    """Yield method, layer, rank of the class and raw maps; those of no class once."""
    for key, cams in arrays.items():
        name, _, layer = key.partition("/")
        if not layer or key.startswith((FEATURES, WEIGHTS)):
            continue
        method = METHODS[name]
        for rank in range(len(cams) if method.class_specific else 1):
            yield method, layer, rank, cams[rank]


def _cell(
    method: Method,
    layer: str,
    rank: int,
    raw: NDArray[np.float32],
    levels: _Levels,
    cap: int | None,
) -> tuple[Record, bool]:
    """Return a map's entry, and whether it shares a scale with others."""
    cam, channel = drawable(raw, method)
    base = float(np.min(cam)) if method.from_least and np.isfinite(cam).all() else 0.0
    picture = None
    if cam.ndim == 3:  # colours
        picture = _picture(cam)
        cam = cam[np.abs(cam).argmax(0), *np.indices(cam.shape[1:])]
    grid = cam.shape
    side = SALIENCY_SIDE if method.on_input else cap
    quantised = quantise(_smaller(cam - base, side), method.signed)
    cell: Record = {
        "method": method.key,
        "layer": layer,
        "rank": rank,
        "height": quantised.levels.shape[0],
        "width": quantised.levels.shape[1],
        "grid": [*grid],
        "peak": quantised.peak,
        "largest": _largest(cam, method.signed) if quantised.state == "positive" else 0.0,
        "base": base,
        "state": quantised.state,
        "signed": quantised.signed,
    }
    if picture is not None:
        cell["picture"] = picture
    elif quantised.state == "positive":
        cell["offset"] = levels.add(quantised.levels)
    if channel is not None:
        cell["channel"] = channel
    own = layer == FUSED or method.on_input or method.from_least
    return cell | {"own": own}, not own


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


def _channels(arrays: Arrays, address: str, levels: _Levels) -> Record:
    """Return the feature maps of a layer: each in 8 bits up to its own largest value."""
    maps, weights = arrays[FEATURES + address], arrays[WEIGHTS + address]
    signed = bool(np.nanmin(maps, initial=0) < 0)
    quantised = [quantise(channel, signed) for channel in maps]
    offset = levels.add(np.stack([channel.levels for channel in quantised]))
    return {
        "offset": offset,
        "shape": [*maps.shape],
        "signed": signed,
        "peaks": [_digits(channel.peak) for channel in quantised],
        "means": [_digits(float(mean)) for mean in maps.mean((1, 2))],
        "weights": [[_digits(float(weight)) for weight in row] for row in weights],
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


def _twins(manifest: Record, arrays: Arrays) -> set[str]:
    """Return the layers whose maps equal, by every method, those of the layer they repeat."""
    return {
        layer["address"]
        for layer in manifest["layers"]
        if layer.get("same_as")
        and all(
            _equal(arrays.get(f"{key}/{layer['address']}"), arrays.get(f"{key}/{layer['same_as']}"))
            for key in manifest["methods"]
        )
    }


def _equal(one: NDArray[np.float32] | None, other: NDArray[np.float32] | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other, equal_nan=True)


def _picture(saliency: NDArray[np.float32]) -> str:
    """Return a map of colours ``(3, H, W)`` as a picture's address."""
    return data_uri(jpeg_bytes(Image.fromarray(signed_picture(saliency)), quality=75))


def _finite(number: float) -> float | None:
    """Return a number that JSON can hold."""
    return number if np.isfinite(number) else None


def _digits(number: float) -> float | None:
    return float(f"{number:.6g}") if np.isfinite(number) else None


def columns(records: Sequence[Record]) -> Record:
    """Return the entries of all readable images column by column, which is shorter."""
    return {
        "index": [record["index"] for record in records],
        "file": [record["file"] for record in records],
        "size": [[record["width"], record["height"]] for record in records],
        "sha256": [record["sha256"] for record in records[:MAX_HASHES]],
        "label": [record.get("label") for record in records],
        "top": [[[p["index"], p["probability"]] for p in record["top"][:3]] for record in records],
    }
