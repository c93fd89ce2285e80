"""Shards: files with the arrays of a range of a run's images, which are checked when read."""

import hashlib
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from camreport.errors import ResultsError
from camreport.files import reading
from camreport.methods import METHODS
from camreport.results.schema import (
    CHANNEL_CONTRIBUTIONS,
    CHANNEL_WEIGHTS,
    FEATURE_MAPS,
    FUSED,
    IMAGE,
    INPUT,
    LOGITS,
    PHOTO,
    PHOTO_OFFSETS,
    TARGETS,
    Manifest,
    MapKey,
)

Arrays = dict[str, NDArray[Any]]
"""A shard's arrays by name: maps ``"<method>/<layer>"`` ``(n, K, h, w)``, ``logits``, ``targets``,
``image`` and, for layers with kept channels, ``"feature_maps/<layer>"`` ``(n, C, h, w)`` and
``"channel_weights/<layer>"`` ``(n, K, C)``; ``"channel_contributions/<layer>"`` ``(n, K, C)`` for
one layer; ``photo`` and ``photo_offsets`` hold JPEGs.

Beside a shard, ``true-000000.npz`` holds m of its images with their true classes: ``image``
``(m,)``, ``targets`` ``(m, 1)``, maps ``(m, 1, h, w)`` of the methods that look at a class, and
``"channel_weights/<layer>"`` and ``"channel_contributions/<layer>"`` ``(m, 1, C)``."""

MENDING = "Delete that file and run 'camreport run' again: nothing else is computed."
"""Advice on a damaged file; a run does not find damage itself, it checks only file sizes."""

FINGERPRINT = "shard"
"""Name of the array in a file of numbers that says which shard they are of."""

MAX_BYTES = 8 * 1024**3
"""Largest number of bytes of a shard's file."""

_Expected = dict[str, tuple[type, tuple[int | None, ...]]]
"""Type and shape of arrays by name; None means any length."""

_LOCAL = struct.Struct("<4s22xHH")
"""What stands in front of the name of an entry: a magic number, lengths of name and extra field."""

_NPY = struct.Struct("<8sH")
_NPY_PREFIX = b"\x93NUMPY\x01\x00"
"""What an array's header begins with: a magic number with the version, and its length."""


def shard_name(shard: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{shard:06d}.npz"


def sidecar_name(shard: int) -> str:
    """Return the file name of a shard's sidecar."""
    return f"shard-{shard:06d}.json"


def true_name(shard: int) -> str:
    """Return the file name of the maps of true classes beside a shard."""
    return f"true-{shard:06d}.npz"


def numbers_name(shard: int) -> str:
    """Return the name of the file with the numbers of a shard's maps."""
    return f"numbers-{shard:06d}.npz"


def shard_number(name: str) -> int:
    """Return the number of a shard from its file name."""
    return int(name.removeprefix("shard-").removesuffix(".npz"))


def stack_arrays(rows: Iterable[Arrays]) -> Arrays:
    """Stack the arrays of single images into those of a shard."""
    listed = list(rows)
    return {key: np.stack([row[key] for row in listed]) for key in listed[0]}


def pack_photos(jpegs: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Join the photographs of n images into two arrays of a shard.

    Returns:
        ``photo``, the bytes of all JPEGs one after another, and ``photo_offsets`` ``(n + 1,)``:
        image i has ``photo[photo_offsets[i]:photo_offsets[i + 1]]``.
    """
    offsets = np.cumsum([0, *map(len, jpegs)], dtype=np.int64)
    return np.frombuffer(b"".join(jpegs), dtype=np.uint8), offsets


def packed(arrays: Arrays) -> BytesIO:
    """Return the bytes of a file of arrays: on a full disk a zip file cannot be closed cleanly."""
    content = BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    return content


def fingerprint(file: BinaryIO) -> NDArray[np.uint8]:
    """Return a digest of a file of arrays: of their names, sizes and checksums, ``(32,)``."""
    with zipfile.ZipFile(file) as archive:
        entries = [(each.filename, each.file_size, each.CRC) for each in archive.infolist()]
    return np.frombuffer(hashlib.sha256(repr(entries).encode()).digest(), np.uint8)


def read_fingerprint(path: Path, root: Path) -> NDArray[np.uint8]:
    """Return the ``fingerprint`` of a shard's file, without reading its arrays.

    Raises:
        ResultsError: the file is missing or damaged.
    """
    try:
        with reading(path, root, MAX_BYTES, partly=True) as file:
            return fingerprint(file)
    except ResultsError:
        raise
    except Exception as error:  # damage can make the archive's readers raise anything
        raise ResultsError(f"results: {path.name} cannot be read ({error}). {MENDING}") from error


def read_shard(path: Path, root: Path, names: Collection[str] | None = None) -> Arrays:
    """Read arrays of a shard, after a check that their claimed sizes fit the file.

    Args:
        path: the path of the shard's file, or of the file of its numbers.
        root: the folder of the report.
        names: names of the arrays to read, as far as the shard has them; all if None.

    Raises:
        ResultsError: the file is missing, damaged or not in the format of ``np.savez``.
    """
    try:
        with (
            reading(path, root, MAX_BYTES, partly=names is not None) as file,
            zipfile.ZipFile(file) as archive,
        ):
            entries = archive.infolist()
            _check_entries(entries, file.seek(0, os.SEEK_END))
            found = {entry.filename.removesuffix(".npy"): _stored(file, entry) for entry in entries}
            wanted = [key for key in found if names is None or key in names]
            return {key: _read(file, found[key]) for key in wanted}
    except ResultsError:
        raise
    except Exception as error:  # damage can make the archive's readers raise anything
        raise ResultsError(f"results: {path.name} cannot be read ({error}). {MENDING}") from error


def check_arrays(arrays: Arrays, manifest: Manifest, name: str) -> None:
    """Check a shard's arrays against the manifest of the run.

    Raises:
        ResultsError: an array is missing, unknown or of another shape or type.
    """
    count = len(arrays[IMAGE]) if _is(arrays.get(IMAGE), np.int64, (None,)) else 0
    targets = arrays.get(TARGETS)
    slots = targets.shape[1] if targets is not None and targets.ndim == 2 else 0
    expected = _expected(manifest, count, slots)
    _check_maps(arrays, expected, manifest, name, (count, slots))
    if not _are_bounds(arrays[PHOTO_OFFSETS], len(arrays[PHOTO])):
        raise _unexpected(name, PHOTO_OFFSETS, arrays[PHOTO_OFFSETS])


def read_some(path: Path, root: Path, manifest: Manifest, names: Collection[str]) -> Arrays:
    """Read some maps and vectors of a shard, or of its file of true classes, and check them.

    Args:
        path: the path of the file.
        root: the folder of the report.
        manifest: of the run.
        names: names of the arrays to read; maps are read as far as the file has them.

    Returns:
        The arrays by name, and ``image`` and ``targets``.

    Raises:
        ResultsError: the file is missing or damaged, or does not fit the manifest.
    """
    arrays = read_shard(path, root, {IMAGE, TARGETS, *names})
    count = len(arrays[IMAGE]) if _is(arrays.get(IMAGE), np.int64, (None,)) else 0
    targets = arrays.get(TARGETS)
    slots = targets.shape[1] if targets is not None and targets.ndim == 2 else 0
    expected: _Expected = {IMAGE: (np.int64, (count,)), TARGETS: (np.int64, (count, slots))}
    vectors = _vectors(manifest, count, slots)
    expected |= {name: vectors[name] for name in names if name in vectors}
    _check_maps(arrays, expected, manifest, path.name, (count, slots))
    return arrays


def check_true_arrays(arrays: Arrays, manifest: Manifest, name: str) -> None:
    """Check the arrays of a file of true classes against the manifest of the run.

    Raises:
        ResultsError: an array is missing, unknown or of another shape or type.
    """
    count = len(arrays[IMAGE]) if _is(arrays.get(IMAGE), np.int64, (None,)) else 0
    expected: _Expected = {IMAGE: (np.int64, (count,)), TARGETS: (np.int64, (count, 1))}
    expected |= _vectors(manifest, count, 1)
    _check_maps(arrays, expected, manifest, name, (count, 1))
    for text in arrays:
        key = MapKey.parse(text)
        if key and key.method in METHODS and not METHODS[key.method].per_class:
            raise _unexpected(name, text, arrays[text])


def _check_maps(
    arrays: Arrays, expected: _Expected, manifest: Manifest, name: str, counts: tuple[int, int]
) -> None:
    """Check that arrays are the expected ones and maps of the run.

    Args:
        arrays: of the file.
        expected: type and shape of the arrays that are no maps of a method.
        manifest: of the run.
        name: of the file, for the message.
        counts: number of images and of classes in the file.

    Raises:
        ResultsError: an array is missing, unknown or of another shape or type.
    """
    for text, (kind, shape) in expected.items():
        if not _is(arrays.get(text), kind, shape):
            raise _unexpected(name, text, arrays.get(text))
    layers = {FUSED, INPUT, *(layer.address for layer in manifest.layers)}
    for text in arrays.keys() - expected.keys():
        key = MapKey.parse(text)
        if key is None or key.method not in manifest.methods or key.layer not in layers:
            raise _unexpected(name, text, arrays[text])
        grids = _grids(key.method)
        if not any(_is(arrays[text], np.float32, (*counts, *grid)) for grid in grids):
            raise _unexpected(name, text, arrays[text])
    if not all(counts) or not _within(arrays[TARGETS], len(manifest.classes)):
        raise _unexpected(name, TARGETS, arrays[TARGETS])


def _expected(manifest: Manifest, count: int, slots: int) -> _Expected:
    """Return type and shape of the arrays that every shard has; None means any length."""
    expected: _Expected = {
        IMAGE: (np.int64, (count,)),
        LOGITS: (np.float32, (count, len(manifest.classes))),
        TARGETS: (np.int64, (count, slots)),
        PHOTO: (np.uint8, (None,)),
        PHOTO_OFFSETS: (np.int64, (count + 1,)),
    }
    for layer in manifest.channels:
        features = MapKey(FEATURE_MAPS, layer.address)
        expected[str(features)] = np.float32, (count, *layer.shape)
    return expected | _vectors(manifest, count, slots)


def _vectors(manifest: Manifest, count: int, slots: int) -> _Expected:
    """Return type and shape of the arrays with one number per channel."""
    summed = [manifest.contributions] if manifest.contributions else []
    kept = [(CHANNEL_WEIGHTS, layer) for layer in manifest.channels]
    kept += [(CHANNEL_CONTRIBUTIONS, layer) for layer in summed]
    return {
        str(MapKey(kind, layer.address)): (np.float32, (count, slots, layer.shape[0]))
        for kind, layer in kept
    }


def _are_bounds(offsets: NDArray[np.int64], length: int) -> bool:
    """Return whether offsets increase from 0 to ``length``."""
    return bool(offsets[0] == 0 and offsets[-1] == length and (np.diff(offsets) >= 0).all())


def _grids(method: str) -> list[tuple[int | None, ...]]:
    """Return the shapes that one map of a method may have; None means any length."""
    if METHODS[method].per_channel:
        return [(None, None, None)]
    return [(None, None), (3, None, None)] if METHODS[method].grid == "input" else [(None, None)]


def _is(array: NDArray[Any] | None, kind: type, shape: tuple[int | None, ...]) -> bool:
    """Return whether an array has the given type and shape; None means any length but 0."""
    return (
        array is not None
        and array.dtype == kind
        and array.ndim == len(shape)
        and all(
            own == side or (side is None and own)
            for own, side in zip(array.shape, shape, strict=True)
        )
    )


def _within(targets: NDArray[np.int64], classes: int) -> bool:
    return bool(((targets >= 0) & (targets < classes)).all())


def _unexpected(name: str, key: str, array: NDArray[Any] | None) -> ResultsError:
    found = "nothing" if array is None else f"{array.dtype} {array.shape}"
    return ResultsError(
        f"results: {name} does not match the manifest at {key!r} ({found}). {MENDING}"
    )


def _check_entries(entries: Sequence[zipfile.ZipInfo], size: int) -> None:
    """Refuse an archive whose arrays would take more memory than its bytes.

    Raises:
        ValueError: entries are compressed, repeated or overlap.
    """
    if len({entry.filename for entry in entries}) != len(entries):
        raise ValueError("an array stands in it twice")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("its arrays are compressed")
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError("its arrays overlap")


@dataclass(frozen=True)
class _Stored:
    """An array in a file.

    Attributes:
        start: where its entry begins, with its header.
        header: the header.
        shape: of the array.
        columns: whether its first axis varies fastest.
        kind: of its elements.
        checksum: of header and array.
    """

    start: int
    header: bytes
    shape: tuple[int, ...]
    columns: bool
    kind: np.dtype[Any]
    checksum: int


def _stored(file: BinaryIO, entry: zipfile.ZipInfo) -> _Stored:
    """Return where an array stands in a file, and what it claims to be.

    An archive of evidence holds hundreds of small arrays with few different headers: they are read
    without the general readers of archives and arrays, which take a millisecond for each.

    Raises:
        ValueError: the entry is not what a run writes, or its header claims another size.
    """
    file.seek(entry.header_offset)
    local = file.read(_LOCAL.size)
    magic, name, extra = _LOCAL.unpack(local)
    start = entry.header_offset + _LOCAL.size + name + extra
    file.seek(start)
    head = file.read(_NPY.size)
    prefix, length = _NPY.unpack(head)
    header = head + file.read(length)
    if magic != b"PK\x03\x04" or prefix != _NPY_PREFIX or entry.flag_bits & 1:
        raise ValueError(f"{entry.filename!r} is no array that a run writes")
    shape, columns, kind = _parsed(header)
    claimed = math.prod(shape) * kind.itemsize + len(header)
    if kind.hasobject or claimed != entry.file_size:
        raise ValueError(f"{entry.filename!r} is no array that a run writes")
    return _Stored(start, header, shape, columns, kind, entry.CRC)


@lru_cache(maxsize=1024)
def _parsed(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, order and type of an array from the header of its file."""
    content = BytesIO(header)
    np.lib.format.read_magic(content)
    return np.lib.format.read_array_header_1_0(content)


def _read(file: BinaryIO, stored: _Stored) -> NDArray[Any]:
    """Read an array.

    Raises:
        ValueError: its bytes are not those that were written.
    """
    content = bytearray(math.prod(stored.shape) * stored.kind.itemsize)
    file.seek(stored.start + len(stored.header))
    file.readinto(content)  # type: ignore[attr-defined]
    if zlib.crc32(content, zlib.crc32(stored.header)) != stored.checksum:
        raise ValueError("its checksums do not fit")
    flat = np.frombuffer(content, stored.kind)
    return flat.reshape(stored.shape, order="F" if stored.columns else "C")
