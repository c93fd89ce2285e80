"""One image as the page takes it: its photograph, its maps in 8 bits, its feature maps."""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camreport.images.loading import shrunk
from camreport.images.pixels import jpeg_bytes
from camreport.methods import METHODS, Method
from camreport.report.appearance import seen_part
from camreport.report.gallery.contrast import CONTRAST, contrasts
from camreport.report.gallery.entries import Levels, MapEntry, data_uri, map_entry
from camreport.report.gallery.image_evidence import image_evidence, regions
from camreport.report.heatmap import quantise
from camreport.results.reader import Channels, MapRecord, Photograph, Record, Results
from camreport.results.schema import TARGETS, ImageEntry, Manifest
from camreport.settings import NONE

DEFLATE_LEVEL = 3
"""Of maps: the usual level takes longer and saves little."""

MAX_HASHES = 300
"""Images whose hashes the page lists; a run's manifest has them all."""


@dataclass(frozen=True)
class Detail:
    """How much of each image a page carries.

    Attributes:
        photo_side: longer side of the photograph, in pixels.
        map_side: most cells of a map's longer side; larger maps are averaged. None keeps them all.
        deflated: whether its maps are: smaller, but a browser cannot inflate them at once.
        picture_side: longer side, in pixels, of the largest picture made from the photograph.
    """

    photo_side: int
    map_side: int | None
    deflated: bool
    picture_side: int


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
        picture: its photograph, RGB, reduced as far as what is made from it allows.
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
    picture: Image.Image
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


def image_record(results: Results, image: ImageEntry, detail: Detail) -> ImageRecord:
    """Turn one image's results into its record for the page.

    Raises:
        ResultsError: its arrays or its photograph are missing or damaged.
    """
    maps, targets = list(results.maps(image.index)), results.targets(image.index)
    logits = _logits(results, image, targets)
    photo, picture = _decoded(results, image, detail)
    levels = Levels()
    drawn = [*maps, *contrasts(image, targets, maps, results.manifest.smooth)]
    entries = [map_entry(record, levels, detail.map_side) for record in drawn]
    shipped = _shipped(results, image, entries, maps, picture, levels)
    joined = b"".join(levels.parts)
    jpeg, size = _shown(photo, picture, detail.photo_side)
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
        "regions": regions(results, image.index),
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
        picture=picture,
        maps=maps,
    )


def _shipped(
    results: Results,
    image: ImageEntry,
    entries: Sequence[MapEntry],
    maps: Sequence[MapRecord],
    picture: Image.Image,
    levels: Levels,
) -> Record:
    """Return the list of an image's maps, and add the bytes of those that have no entry yet."""
    channels = {
        layer.address: _channels(results.channels(image.index, layer.address), levels)
        for layer in results.manifest.channels
    }
    cells = [entry.to_json() for entry in entries]
    evidence = image_evidence(results, image, maps, picture, levels)
    return {"cells": cells, "channels": channels, **evidence}


def shown_methods(manifest: Manifest) -> tuple[Method, ...]:
    """Return the methods of a run that have any map."""
    return tuple(METHODS[key] for key in manifest.shown_methods)


def _decoded(results: Results, image: ImageEntry, detail: Detail) -> tuple[Photograph, Image.Image]:
    """Return an image's photograph, and as many of its pixels as the page needs."""
    photo, evidence = results.photograph(image.index), results.manifest.evidence
    if evidence is not None and image.index in evidence.sample:  # controls need every pixel
        return photo, photo.picture()
    kept = max(photo.size) <= detail.photo_side
    return photo, photo.picture(max(detail.picture_side, 0 if kept else detail.photo_side))


def _shown(photo: Photograph, picture: Image.Image, side: int) -> tuple[bytes, tuple[int, int]]:
    """Return a photograph whose sides have at most ``side`` pixels, as JPEG bytes, and its size."""
    if max(photo.size) <= side:
        return photo.jpeg, photo.size
    small = shrunk(picture, side)
    return jpeg_bytes(small, quality=75), small.size


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


def _packed(entries: Record, levels: bytes, deflated: bool) -> str:
    """Return entries and bytes in base64, deflated as the browser's ``deflate-raw`` or not.

    Four bytes (little-endian) count those of the entries' JSON; it follows, then the levels.
    """
    text = json.dumps(entries, allow_nan=False, separators=(",", ":")).encode()
    packed = len(text).to_bytes(4, "little") + text + levels
    if deflated:
        packer = zlib.compressobj(DEFLATE_LEVEL, wbits=-15)
        packed = packer.compress(packed) + packer.flush()
    return base64.b64encode(packed).decode()


def _channels(channels: Channels, levels: Levels) -> Record:
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
