"""Reading a results folder: the output of a run, for researchers and for the gallery.

    OUT/results/.camreport          marker of camreport's folders; settings of the run
    OUT/results/shard-000000.npz    raw maps, logits, targets and photographs of a range of images
    OUT/results/numbers-000000.npz  what was measured of its maps, see ``camreport.insight``
    OUT/results/shard-000000.json   its sidecar: records of the inputs; written after the shard
    OUT/results/true-000000.npz     maps of true classes that the shard does not have, if any;
                                    true-000000.json beside it says of which images and classes
    OUT/results/evidence-000000.npz and collages.npz: see ``camreport.results.evidence``
    OUT/results/manifest.json       written last: a run with a manifest is complete

A folder may come from someone else, so everything read from it is checked, and no name in it can
lead out of the folder. Nothing here imports torch.
"""

import json
import os
import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import BytesIO
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camreport.errors import InputError, ResultsError
from camreport.files import (
    ADVICE_AT_ADDRESS,
    LOCK,
    MARKER,
    RESULTS,
    address_of,
    is_file,
    is_folder,
    is_marked,
    is_there,
    named,
    names_in,
    read,
    remote,
)
from camreport.methods import METHODS, Method
from camreport.results.decoding import refusing
from camreport.results.evidence import COLLAGES, evidence_name
from camreport.results.evidence_arrays import Collages, Evidence, read_collages, read_evidence
from camreport.results.outline import Described, outlines
from camreport.results.schema import (
    CHANNEL_CONTRIBUTIONS,
    CHANNEL_WEIGHTS,
    FEATURE_MAPS,
    IMAGE,
    LOGITS,
    PHOTO,
    PHOTO_OFFSETS,
    TARGETS,
    ImageEntry,
    Manifest,
    MapKey,
    Sidecar,
    check_images,
    check_schema,
    sidecar_of,
)
from camreport.results.shards import (
    MENDING,
    Arrays,
    check_arrays,
    check_true_arrays,
    read_shard,
    read_some,
    shard_name,
    sidecar_name,
    true_name,
)
from camreport.settings import NONE, SIGMOID

NEXT = ".camreport-next"
"""Name of the folder into which a run writes while complete earlier results exist."""

REPORT = "index.html"
"""File name of the report, in the same folder as ``results``."""

DATA = "data"
"""Name of the folder with a report's data, next to the report, unless that is a single file."""

MANIFEST = "manifest.json"
"""Name of the file that describes a run."""

COMPARISON = "comparison.json"
"""Name of the file that describes a comparison of runs, in the place of a run's."""

MAX_PHOTO_PIXELS = 4096 * 4096
"""Largest number of pixels of a photograph at display size."""

MAX_JSON_BYTES = 2 * 1024**3
"""Largest number of bytes of a JSON file."""

Record = dict[str, Any]
"""A JSON object."""


@dataclass(frozen=True)
class MapRecord:
    """One map of one image.

    Attributes:
        method: the method.
        layer: address of the layer, ``fused`` or ``input``.
        slot: index of the map's class among the classes explained; a true class that is explained
            apart comes last.
        target: index of the map's class; None for a class-agnostic method.
        cam: the raw map, as ``explain`` returns it: ``(h, w)``; ``(3, H, W)`` for a method with one
            value per colour of the input; ``(C, h, w)`` for a method with one map per channel.
    """

    method: Method
    layer: str
    slot: int
    target: int | None
    cam: NDArray[np.float32]


@dataclass(frozen=True)
class Channels:
    """The feature maps of one image at one layer.

    Attributes:
        maps: the feature maps, ``(C, h, w)``.
        weights: Grad-CAM's weights of the feature maps for each class explained, ``(K, C)``; one
            row more for a true class that is explained apart.
    """

    maps: NDArray[np.float32]
    weights: NDArray[np.float32]


@dataclass(frozen=True)
class Photograph:
    """A photograph at display size, which is decoded when its pixels are asked for, once.

    Attributes:
        jpeg: its bytes.
        size: width and height, in pixels.
    """

    jpeg: bytes
    size: tuple[int, int]
    _opened: Image.Image = field(repr=False)
    _name: str = field(repr=False)

    def picture(self, side: int | None = None) -> Image.Image:
        """Return its pixels, RGB.

        Args:
            side: longer side that is enough, in pixels; a larger photograph is reduced by a power
                of two while it is decoded. None decodes all.

        Raises:
            ResultsError: it is damaged.
        """
        with _refusing_photo(self._name):
            if side is not None and side < max(self.size):
                scale = side / max(self.size)
                width, height = (max(1, int(scale * length)) for length in self.size)
                self._opened.draft(None, (width, height))
            return self._opened.convert("RGB")


@dataclass
class Results:
    """A complete results folder, read shard by shard; the last shard stays in memory.

    Where an image's true class is known and not among the K classes of its shard, its maps are in
    a file beside the shard. ``maps``, ``targets`` and ``channels`` include it as slot K.

    Attributes:
        path: the ``results`` folder.
        manifest: what was computed.
    """

    path: Path
    manifest: Manifest
    _shard: tuple[str, Arrays] = field(default=("", {}), repr=False)
    _true: tuple[str, Arrays] = field(default=("", {}), repr=False)
    _evidence: tuple[str, Evidence | None] = field(default=("", None), repr=False)

    @cached_property
    def images(self) -> Sequence[ImageEntry]:
        """All inputs, failed ones included; in large runs, each is read when it is needed."""
        return self.manifest.images or _SidecarImages(self.path, self.manifest)

    @cached_property
    def readable(self) -> Sequence[ImageEntry]:
        """The images that were explained; in large runs, each is read when it is needed."""
        if self.manifest.images:
            return [image for image in self.images if image.readable]
        return _Readable(self.images, self.outlines)

    @property
    def count(self) -> int:
        """How many images were explained."""
        return self.manifest.totals.images - self.manifest.totals.failed

    @property
    def outlines(self) -> Sequence[Described]:
        """What predictions and summaries need of each readable image, all in memory."""
        return self._read[0]

    @property
    def failed(self) -> Sequence[ImageEntry]:
        """The images that could not be read."""
        return self._read[1]

    @cached_property
    def _read(self) -> tuple[Sequence[Described], Sequence[ImageEntry]]:
        if self.manifest.images:
            return self.readable, [one for one in self.images if not one.readable]
        totals, root = self.manifest.totals, self.path.parent
        names = map(sidecar_name, range(-(-totals.images // totals.shard_length)))
        return outlines(
            ((name, read_json(self.path / name, root)) for name in names), self.manifest
        )

    def light(self) -> "Results":
        """Return the results as another process takes them: sidecars have the images, too."""
        return Results(self.path, replace(self.manifest, images=()))

    def entries(self, indices: Sequence[int]) -> list[ImageEntry]:
        """Return the entries of some images; of large runs, no others are decoded.

        Raises:
            ResultsError: a sidecar is missing or damaged.
        """
        if self.manifest.images:
            return [self.images[index] for index in indices]
        found, length = list[ImageEntry](), self.manifest.totals.shard_length
        for shard, own in groupby(indices, key=lambda index: index // length):
            name = sidecar_name(shard)
            records = read_json(self.path / name, self.path.parent).get("images")
            rows = records if isinstance(records, list) else []
            for index in own:
                row = index - shard * length
                entry = ImageEntry.from_json(rows[row] if row < len(rows) else None, name)
                with refusing(name):
                    check_images([entry], index, 1, self.manifest)
                found.append(entry)
        return found

    def maps(self, index: int) -> Iterator[MapRecord]:
        """Yield an image's maps, array by array; class-agnostic maps are yielded once.

        Raises:
            ResultsError: the image failed, or its shard is missing or damaged.
        """
        arrays, true = self.arrays(index), self.true_arrays(index)
        targets = self.targets(index)
        for name, cams in arrays.items():
            key = MapKey.parse(name)
            if key is None or key.method not in METHODS:
                continue
            method = METHODS[key.method]
            if not method.per_class:
                yield MapRecord(method, key.layer, 0, None, cams[0])
                continue
            for slot, cam in enumerate((*cams, *true.get(name, ()))):
                yield MapRecord(method, key.layer, slot, targets[slot], cam)

    def logits(self, index: int) -> NDArray[np.float32]:
        """Return an image's logits ``(num_classes,)``; raises as ``maps`` does."""
        return self.arrays(index)[LOGITS]

    def probabilities(self, index: int) -> NDArray[np.float64]:
        """Return an image's probabilities ``(num_classes,)``; raises as ``maps`` does."""
        return probabilities(self.logits(index), self.manifest.activation)

    def targets(self, index: int) -> tuple[int, ...]:
        """Return the indices of the classes explained in an image; raises as ``maps`` does."""
        own = self.arrays(index)[TARGETS].tolist()
        return (*own, *self.true_arrays(index).get(TARGETS, np.array([])).tolist())

    def channels(self, index: int, address: str) -> Channels:
        """Return an image's feature maps at one of the manifest's ``channels``.

        Raises:
            ResultsError: as for ``maps``.
            KeyError: the layer has no feature maps in the results.
        """
        arrays = self.arrays(index)
        maps, weights = (str(MapKey(kind, address)) for kind in (FEATURE_MAPS, CHANNEL_WEIGHTS))
        true = self.true_arrays(index)
        rows = [arrays[weights], true[weights]] if true else [arrays[weights]]
        return Channels(arrays[maps], np.concatenate(rows))

    def contributions(self, index: int) -> NDArray[np.float32]:
        """Return what each channel of the manifest's layer of contributions adds to the score.

        Returns:
            ``(K, C)``, in units of the score: gradient times activation, summed over positions; one
            row more for a true class that is explained apart.

        Raises:
            ResultsError: as for ``maps``.
            KeyError: the results have no contributions.
        """
        layer = self.manifest.contributions
        name = str(MapKey(CHANNEL_CONTRIBUTIONS, layer.address if layer else ""))
        own, true = self.arrays(index)[name], self.true_arrays(index)
        return np.concatenate([own, true[name]]) if true else own

    def photo(self, index: int) -> bytes:
        """Return an image's photograph at display size, as JPEG bytes; raises as ``maps`` does."""
        row, shard = self._row_and_shard(index)
        start, stop = shard[PHOTO_OFFSETS][row : row + 2]
        return shard[PHOTO][start:stop].tobytes()

    def photo_bytes(self, indices: Sequence[int]) -> int:
        """Return how many bytes the photographs of some readable images take; none is read."""
        total = 0
        for shard, group in groupby((self.images[i] for i in indices), attrgetter("shard")):
            offsets = read_shard(self.path / shard, self.path.parent, {PHOTO_OFFSETS}).get(
                PHOTO_OFFSETS, np.zeros(0, np.int64)
            )
            rows = [image.row for image in group if image.row is not None]
            if max(rows) + 1 < len(offsets):  # else what reads the photographs will say so
                total += int(np.diff(offsets)[rows].sum())
        return total

    def photograph(self, index: int) -> Photograph:
        """Return an image's photograph at display size, not decoded yet.

        Raises:
            ResultsError: the photograph is missing, damaged or not of the shape of the image.
        """
        entry = self.images[index]
        what = f"the photograph of {entry.file!r} in {entry.shard}"
        photo = open_photo(self.photo(index), what)
        (across, down), (width, height) = photo.size, entry.size
        off = abs(down * width - across * height)  # from rounding
        if off > 1.5 * max(width, height):
            raise ResultsError(
                f"results: {what} is {across} × {down}, which does not fit an "
                f"image of {width} × {height}. {MENDING}"
            )
        return photo

    def picture(self, index: int) -> Image.Image:
        """Return an image's photograph at display size, RGB; raises as ``photograph`` does."""
        return self.photograph(index).picture()

    def arrays(self, index: int) -> Arrays:
        """Return an image's arrays in its shard, by name.

        Maps are ``(K, h, w)``, logits ``(num_classes,)``, targets ``(K,)``; a true class that is
        explained apart is in ``true_arrays``.

        Raises:
            ResultsError: the image failed, or its shard is missing or damaged.
        """
        row, shard = self._row_and_shard(index)
        joined = (PHOTO, PHOTO_OFFSETS)
        return {name: array[row] for name, array in shard.items() if name not in joined}

    def true_arrays(self, index: int) -> Arrays:
        """Return an image's arrays of its true class, in a file beside its shard.

        Returns:
            Maps ``(1, h, w)`` of the methods that look at a class, ``targets`` ``(1,)``, and
            ``channel_weights/<layer>`` and ``channel_contributions/<layer>`` ``(1, C)``; empty
            where the true class is unknown or among those of the shard, or where no method looks
            at a class.

        Raises:
            ResultsError: the image failed, or a file is missing or damaged.
        """
        entry, own = self.images[index], self.arrays(index)[TARGETS]
        by_class = any(METHODS[key].per_class for key in self.manifest.shown_methods)
        if entry.label is None or entry.label in own or not by_class:
            return {}
        name = true_name(index // self.manifest.totals.shard_length)
        if self._true[0] != name:
            arrays = read_shard(self.path / name, self.path.parent)
            check_true_arrays(arrays, self.manifest, name)
            self._true = name, arrays
        arrays = self._true[1]
        rows = np.flatnonzero(arrays[IMAGE] == index)
        if len(rows) != 1 or arrays[TARGETS][rows[0], 0] != entry.label:
            raise ResultsError(
                f"results: {name} has no maps of the true class of {entry.file!r}. {MENDING}"
            )
        return {key: array[rows[0]] for key, array in arrays.items()}

    def evidence(self, index: int) -> Evidence | None:
        """Return the evidence for one image's maps, n = 1; None if nothing was measured.

        Raises:
            ResultsError: the image failed, or a file is missing or damaged.
        """
        row, _ = self._row_and_shard(index)
        whole = self.shard_evidence(index // self.manifest.totals.shard_length)
        return whole.rows([row]) if whole else None

    def shard_evidence(self, number: int) -> Evidence | None:
        """Return the evidence for the maps of a shard; None if nothing was measured.

        Args:
            number: the number of the shard, in which an input can be read.

        Raises:
            ResultsError: a file is missing or damaged.
        """
        name = evidence_name(number)
        if self.manifest.evidence and self._evidence[0] != name:
            shard = self.shard(shard_name(number))
            arrays = read_shard(self.path / name, self.path.parent)
            slots = shard[TARGETS].shape[1]
            found = read_evidence(arrays, self.manifest, name, shard[IMAGE], slots)
            self._evidence = name, found
        return self._evidence[1]

    def collages(self) -> Collages | None:
        """Return what was measured on collages; None if nothing was.

        Raises:
            ResultsError: the file is damaged.
        """
        path = self.path / COLLAGES
        if not self.manifest.evidence or not is_file(path):
            return None
        return read_collages(read_shard(path, self.path.parent), self.manifest, COLLAGES)

    def shard(self, name: str) -> Arrays:
        """Return the arrays of a shard, by the name of its file.

        Raises:
            ResultsError: it is missing or damaged.
        """
        if self._shard[0] != name:
            arrays = read_shard(self.path / name, self.path.parent)
            check_arrays(arrays, self.manifest, name)
            self._shard = name, arrays
        return self._shard[1]

    def some(self, name: str, names: Collection[str]) -> Arrays:
        """Return some maps and vectors of a file of arrays, with ``image`` and ``targets``.

        Args:
            name: name of a shard's file, or of its file of true classes.
            names: names of the arrays; maps are returned as far as the file has them.

        Raises:
            ResultsError: it is missing or damaged.
        """
        return read_some(self.path / name, self.path.parent, self.manifest, names)

    def _row_and_shard(self, index: int) -> tuple[int, Arrays]:
        """Return an image's row in its shard, and all arrays of the shard."""
        entry = self.images[index]
        if entry.shard is None or entry.row is None:
            raise ResultsError(f"image: {entry.file!r} has no maps ({entry.reason}).")
        shard = self.shard(entry.shard)
        if entry.row >= len(shard[IMAGE]):
            raise ResultsError(f"results: {entry.shard} has no maps of {entry.file!r}. {MENDING}")
        return entry.row, shard


@dataclass
class _SidecarImages(Sequence[ImageEntry]):
    """The entries of all images, read from the sidecars; the last sidecar stays in memory."""

    path: Path
    manifest: Manifest
    _last: tuple[int, tuple[ImageEntry, ...]] = field(default=(-1, ()), repr=False)

    def __len__(self) -> int:
        return self.manifest.totals.images

    @overload
    def __getitem__(self, index: int) -> ImageEntry: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ImageEntry]: ...
    def __getitem__(self, index: int | slice) -> ImageEntry | Sequence[ImageEntry]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        shard, row = divmod(position, self.manifest.totals.shard_length)
        if self._last[0] != shard:
            self._last = shard, read_sidecar(self.path, self.manifest, shard).images
        return self._last[1][row]


@dataclass
class _Readable(Sequence[ImageEntry]):
    """The entries of the readable images among all, by their outlines."""

    images: Sequence[ImageEntry]
    outlines: Sequence[Described]

    def __len__(self) -> int:
        return len(self.outlines)

    @overload
    def __getitem__(self, index: int) -> ImageEntry: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ImageEntry]: ...
    def __getitem__(self, index: int | slice) -> ImageEntry | Sequence[ImageEntry]:
        if isinstance(index, slice):
            return [self.images[one.index] for one in self.outlines[index]]
        return self.images[self.outlines[index].index]


def read_sidecar(folder: Path, manifest: Manifest, shard: int) -> Sidecar:
    """Return the sidecar of a shard in a ``results`` folder.

    Raises:
        ResultsError: the sidecar is missing or damaged, or does not fit the manifest.
    """
    name = sidecar_name(shard)
    return sidecar_of(read_json(folder / name, folder.parent), manifest, shard, name)


def check_data(out: str | Path) -> None:
    """Refuse an ``OUT/data`` that camreport has not made.

    Raises:
        ResultsError: it contains something else, or is not a folder.
    """
    data = Path(out, DATA)
    other = is_there(data) and not is_folder(data)
    if other or (names_in(data) and not is_marked(data)):
        raise ResultsError(
            f"report: expected {DATA}/ to be new, empty or ours, but it is something else. "
            "Move that away."
        )


def check_output(out: Path, overwrite: bool = False, *, of_runs: bool = False) -> None:
    """Refuse an output folder with content that camreport has not made, or of the other kind.

    Args:
        out: the folder.
        overwrite: whether content may be there that camreport has not made.
        of_runs: whether a comparison of runs is to be written, not a run.

    Raises:
        InputError: the path is a file or inside one, cannot be written to, or is a folder with
            something in it that no run has made.
    """
    if uri := address_of(out):
        _check_address(out, uri, overwrite)
        return
    existing = next(path for path in (out, *out.absolute().parents) if os.path.exists(path))
    if not existing.is_dir():
        raise InputError(f"output: expected a folder, got the file {str(existing)!r}.")
    try:
        out.exists()  # raises for names that are not valid on this file system
    except OSError as error:
        raise InputError(
            f"output: {named(out)!r} is not a valid file name here ({error.strerror})."
        ) from error
    if not os.access(existing, os.W_OK):
        raise InputError(f"output: {str(existing)!r} cannot be written to. Choose another folder.")
    for path, is_kind, kind in (
        (out / RESULTS, is_folder, "a folder"),
        (out / REPORT, is_file, "a file"),
    ):
        if os.path.lexists(path) and not is_kind(path):
            raise InputError(f"output: {named(path)!r} must be {kind} or absent. Move it away.")
    kept = [name for name in names_in(out / RESULTS) if not name.startswith(MARKER)]
    if kept and is_marked(out / RESULTS) and (COMPARISON in kept) != of_runs:
        found, wanted = ("a run's results", "comparison") if of_runs else ("a comparison", "run")
        raise InputError(
            f"output: expected a new, empty or earlier {wanted}'s folder, got {named(out)!r} with "
            f"{found}. Choose another folder."
        )
    if overwrite or not out.exists() or any(is_marked(out / name) for name in (RESULTS, NEXT)):
        return
    entries = sum(1 for entry in out.iterdir() if not _is_left_behind(entry))
    if entries:
        raise InputError(
            f"output: expected a new, empty or earlier report's folder, got {named(out)!r} with "
            f"{entries} {'entry' if entries == 1 else 'entries'} of something else. "
            "Choose another folder or pass --overwrite."
        )


def _check_address(out: Path, uri: str, overwrite: bool) -> None:
    """Refuse an address with objects that camreport has not put there.

    Raises:
        InputError: there are some, or the storage does not answer.
    """
    if overwrite or is_marked(out / RESULTS):
        return
    try:
        others = len(remote.below(uri))
    except OSError as error:
        raise InputError(
            f"output: expected an address to write to, got {uri!r} ({error.strerror}). "
            f"{ADVICE_AT_ADDRESS}"
        ) from error
    if others:
        raise InputError(
            f"output: expected a new, empty or earlier report's address, got {uri!r} with "
            f"{others:,} {'object' if others == 1 else 'objects'} of something else. "
            "Choose another address or pass --overwrite."
        )


def find_results(path: str | Path) -> Path:
    """Return the ``results`` folder of a report, from the path of the report or of ``results``.

    Raises:
        ResultsError: the folder does not exist, or is a link.
    """
    folder = Path(path) if address_of(Path(path)) else Path(os.path.abspath(path))
    if not is_file(folder / MARKER):
        folder = folder / RESULTS
    if not is_file(folder / MARKER):
        raise ResultsError(
            f"results: expected a folder made by 'camreport run', got {named(Path(path))!r}."
        )
    if not is_folder(folder):
        raise ResultsError(
            f"results: expected a folder, got the link {str(folder)!r}, which may lead anywhere. "
            "Put what it leads to in its place."
        )
    return folder


def load_results(path: str | Path) -> Results:
    """Open a complete results folder.

    Args:
        path: the folder of a report, or its ``results`` folder.

    Raises:
        ResultsError: there are no results, or they are incomplete, damaged or of another schema.
    """
    folder = find_results(path)
    manifest = read_json(folder / MANIFEST, folder.parent)
    if not manifest and is_file(folder / COMPARISON):
        raise ResultsError(
            f"results: expected a run, got {named(Path(path))!r}, which is a comparison of runs. "
            "Name one of those runs."
        )
    if not manifest:
        raise ResultsError(
            f"results: {named(Path(path))!r} is incomplete, it has no {MANIFEST} that can be read. "
            "Run the same 'camreport run' again: it goes on where it stopped."
        )
    check_schema(manifest, MANIFEST)
    return Results(folder, Manifest.from_json(manifest, MANIFEST))


def softmax(logits: NDArray[np.float32], axis: int = -1) -> NDArray[np.float64]:
    """Return the softmax of logits along an axis."""
    largest = logits.max(axis=axis, keepdims=True).astype(np.float64)
    with np.errstate(invalid="ignore"):  # logits that are not finite have no probabilities
        exponentials: NDArray[np.float64] = np.exp(logits.astype(np.float64) - largest)
        fractions: NDArray[np.float64] = exponentials / exponentials.sum(axis=axis, keepdims=True)
    return fractions


def probabilities(logits: NDArray[np.float32], activation: str) -> NDArray[np.float64]:
    """Return the probabilities of one image's logits ``(num_classes,)``.

    Args:
        logits: the logits of the classes.
        activation: ``softmax`` over exclusive classes, ``sigmoid`` of each class by itself, or
            ``none`` if the logits are probabilities already.
    """
    if activation == NONE:
        return logits.astype(np.float64)
    if activation == SIGMOID:
        both: NDArray[np.float64] = softmax(np.stack([np.zeros_like(logits), logits]), axis=0)
        chances: NDArray[np.float64] = both[1]
        return chances
    return softmax(logits)


def read_json(path: Path, root: Path) -> Record:
    """Return a JSON file's object; an empty one if the file is missing or damaged."""
    try:
        record = json.loads(read(path, root, MAX_JSON_BYTES))
    except (ResultsError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _is_left_behind(entry: Path) -> bool:
    """Return whether an entry is a leftover of a run that was stopped before its first shard."""
    if entry.name == LOCK:
        return True
    if entry.name != RESULTS or not is_folder(entry):
        return False
    return all(inside.name.startswith(MARKER) for inside in entry.iterdir())


def decode_photo(data: bytes, name: str) -> Image.Image:
    """Decode a photograph of a results folder, RGB.

    Raises:
        ResultsError: the data is not a JPEG, or is damaged or too large.
    """
    return open_photo(data, name).picture()


def open_photo(data: bytes, name: str) -> Photograph:
    """Read the header of a photograph of a results folder.

    Raises:
        ResultsError: the data is not a JPEG, or is damaged or too large.
    """
    with _refusing_photo(name):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(BytesIO(data), formats=("JPEG",))
        if opened.width * opened.height > MAX_PHOTO_PIXELS:
            raise ValueError(f"{opened.width} × {opened.height} pixels")
        return Photograph(data, opened.size, opened, name)


@contextmanager
def _refusing_photo(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises on a damaged photograph into a ``ResultsError``."""
    try:
        yield
    except Exception as error:  # damage can make Pillow's decoder raise anything
        reason = re.sub(r"<_io\S* object at \w+>", "it", str(error))
        raise ResultsError(f"results: {name} is damaged ({reason}). {MENDING}") from error
