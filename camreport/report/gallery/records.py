"""One image as the page takes it: its photograph, its maps in 8 bits, its feature maps."""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camreport.images.pixels import jpeg_bytes
from camreport.methods import METHODS, Method
from camreport.report.appearance import appearance, seen_part
from camreport.report.gallery.contrast import CONTRAST, contrasts
from camreport.report.gallery.evidence import image_evidence
from camreport.report.heatmap import State, quantise, signed_picture
from camreport.results.reader import Channels, MapRecord, Record, Results
from camreport.results.schema import FUSED, TARGETS, ImageEntry, Manifest
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


@dataclass(frozen=True)
class MapEntry:
    """The page's entry for one map, without its bytes.

    Attributes:
        method: key of the method.
        layer: address of the layer.
        rank: slot of its class among those explained, or ``CONTRAST``.
        height: of the map as it is shipped, in cells.
        width: likewise.
        grid: height and width of the raw map, in cells.
        peak: the value of the highest level.
        largest: the largest raw value, by magnitude where it is signed; 0 if none is positive.
        base: the value that is drawn as zero.
        state: ``positive``, ``empty`` or ``undefined``.
        signed: whether negative values are drawn.
        own: whether it shares no scale with others.
        picture: address of a picture, of a map in colours.
        offset: where its bytes begin; None where there is nothing to draw.
        channel: which one it is, of a method that keeps channels apart.
    """

    method: str
    layer: str
    rank: int
    height: int
    width: int
    grid: tuple[int, ...]
    peak: float
    largest: float
    base: float
    state: State
    signed: bool
    own: bool
    picture: str | None = None
    offset: int | None = None
    channel: int | None = None

    def to_json(self) -> Record:
        """Return the entry for the page, without what it does not have."""
        return {key: value for key, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class ImageRecord:
    """The page's entry for one image.

    Attributes:
        data: for the page; ``maps`` in it holds entries and bytes of all maps, see ``_packed``.
        entries: of its maps.
        levels: all bytes of its maps.
        peaks: largest values that share a scale, by method.
        targets: classes explained in the run's shards, by their index.
        true: slot of its true class among those explained; None if it is not known, or not there.
        logits: of the explained classes, where the model has any; None where one is not finite.
        duplicates: addresses whose maps are those of the layer they share a tensor with.
        photo: its photograph in ``data``, as JPEG bytes.
        maps: its raw maps.
    """

    data: Mapping[str, object]
    entries: Sequence[MapEntry]
    levels: bytes
    peaks: Mapping[str, float]
    targets: tuple[int, ...]
    true: int | None
    logits: Sequence[float | None]
    duplicates: set[str]
    photo: bytes
    maps: Sequence[MapRecord]

    def part(self, method: str, layer: str) -> tuple[bytes, list[Record]]:
        """Return the bytes and entries of one method's maps at one layer."""
        levels = b""
        entries = []
        for entry in self.entries:
            if (entry.method, entry.layer) != (method, layer) or entry.rank == CONTRAST:
                continue
            offset = None
            if entry.offset is not None:
                offset = len(levels)
                levels += self.levels[entry.offset : entry.offset + entry.height * entry.width]
            entries.append(replace(entry, offset=offset, picture=None).to_json())
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
    maps, targets = list(results.maps(image.index)), results.targets(image.index)
    logits = _logits(results, image, targets)
    levels = _Levels()
    drawn = [*maps, *contrasts(image, targets, maps, results.manifest.smooth)]
    entries = [_map_entry(record, levels, detail.map_side) for record in drawn]
    channels = {
        layer.address: _channels(results.channels(image.index, layer.address), levels)
        for layer in results.manifest.channels
    }
    joined = b"".join(levels.parts)
    jpeg, size = _photo(results, image, detail.photo_side)
    shipped = {"cells": [entry.to_json() for entry in entries], "channels": channels}
    shipped |= image_evidence()
    data = {
        "index": image.index,
        "file": image.file,
        "photo": data_uri(jpeg),
        "width": size[0],
        "height": size[1],
        "seen": list(seen_part(results.manifest.preprocessing, image)),
        "targets": list(targets),
        "logits": logits,
        "probabilities": _probabilities(results, image, targets),
        "maps": _packed(shipped, joined, detail.deflated),
        "regions": [],
    }
    return ImageRecord(
        data=data,
        entries=entries,
        levels=joined,
        peaks=_peaks(entries),
        targets=tuple(results.arrays(image.index)[TARGETS].tolist()),
        true=targets.index(image.label) if image.label in targets else None,
        logits=logits,
        duplicates=_duplicates(results.manifest, maps),
        photo=jpeg,
        maps=maps,
    )


def shown_methods(manifest: Manifest) -> tuple[Method, ...]:
    """Return the methods of a run that have any map."""
    return tuple(METHODS[key] for key in manifest.shown_methods)


def data_uri(jpeg: bytes) -> str:
    """Return a picture as an address that needs no file."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def _photo(results: Results, image: ImageEntry, side: int) -> tuple[bytes, tuple[int, int]]:
    """Return a photograph whose sides have at most ``side`` pixels, as JPEG bytes, and its size."""
    photo = results.picture(image.index)
    if max(photo.size) <= side:
        return results.photo(image.index), photo.size
    photo.thumbnail((side, side))
    return jpeg_bytes(photo, quality=75), photo.size


def _logits(results: Results, image: ImageEntry, targets: Sequence[int]) -> list[float | None]:
    """Return the explained classes' logits, where the model has any."""
    logits = results.logits(image.index)
    explained = targets if results.manifest.activation != NONE else ()
    return [_finite(float(logits[target])) for target in explained]


def _probabilities(
    results: Results, image: ImageEntry, targets: Sequence[int]
) -> list[float | None]:
    """Return the explained classes' probabilities."""
    chances = results.probabilities(image.index)
    return [_finite(float(chances[target])) for target in targets]


def _peaks(entries: Sequence[MapEntry]) -> dict[str, float]:
    """Return the largest value of each method's maps that share a scale."""
    peaks: dict[str, float] = {}
    for entry in entries:
        if not entry.own:
            peaks[entry.method] = max(peaks.get(entry.method, 0.0), entry.peak)
    return peaks


def _map_entry(record: MapRecord, levels: _Levels, map_side: int | None) -> MapEntry:
    """Return a map's entry, and add its bytes to the levels."""
    method, shown = record.method, appearance(record)
    side = SALIENCY_SIDE if method.grid == "input" else map_side
    quantised = quantise(_smaller(shown.drawn, side), method.values == "signed")
    positive = quantised.state == "positive"
    return MapEntry(
        method=method.key,
        layer=record.layer,
        rank=record.slot,
        height=quantised.levels.shape[0],
        width=quantised.levels.shape[1],
        grid=shown.cam.shape,
        peak=quantised.peak,
        largest=_largest(shown.cam, method.values == "signed") if positive else 0.0,
        base=shown.base,
        state=quantised.state,
        signed=quantised.signed,
        own=_is_on_its_own(record),
        picture=None if shown.colours is None else _picture(shown.colours),
        offset=levels.add(quantised.levels) if positive and shown.colours is None else None,
        channel=shown.channel,
    )


def _is_on_its_own(record: MapRecord) -> bool:
    """Return whether a map shares no scale with others."""
    method = record.method
    apart = method.grid == "input" or method.values == "relative"
    return apart or record.layer == FUSED or record.slot == CONTRAST


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
