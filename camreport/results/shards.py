"""Shards: the arrays of a range of a run's images in one file, read with suspicion."""

import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camreport.errors import ResultsError
from camreport.files import reading
from camreport.methods import METHODS

Arrays = dict[str, NDArray[Any]]
"""A shard's arrays by key: ``"<method>/<layer>"``, ``logits``, ``targets``, ``image``; of channel
layers ``"feature_maps/<layer>"`` ``(n, C, h, w)``, ``"channel_weights/<layer>"`` ``(n, K, C)``."""

MAX_BYTES = 8 * 1024**3
"""Most bytes of a shard's file."""

_WHOLE_NETWORK = ("fused", "input")
_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def shard_name(shard: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{shard:05d}.npz"


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


def read_shard(path: Path, root: Path) -> Arrays:
    """Read all arrays of a shard; what they claim to hold is compared with its bytes first.

    Args:
        path: of its file.
        root: the folder of the report.

    Raises:
        ResultsError: it is missing or damaged, or not as ``np.savez`` writes it.
    """
    try:
        with reading(path, root, MAX_BYTES) as file, zipfile.ZipFile(file) as archive:
            _check_entries(archive, path.stat().st_size)
            file.seek(0)
            with np.load(file, allow_pickle=False) as shard:
                return {key: shard[key] for key in shard.files}
    except ResultsError:
        raise
    except Exception as error:  # the archive's readers raise whatever the damage leads to
        raise ResultsError(
            f"results: {path.name} cannot be read ({error}). Run 'camreport run' again."
        ) from error


def check_arrays(arrays: Arrays, manifest: Mapping[str, Any], name: str) -> None:
    """Compare a shard's arrays with what the manifest says of the run.

    Raises:
        ResultsError: one is missing, unknown or of another shape or type; the message names it.
    """
    channels = {layer["address"]: layer["shape"] for layer in manifest.get("channels", ())}
    count = len(arrays["image"]) if _is(arrays.get("image"), np.int64, (None,)) else 0
    targets = arrays.get("targets")
    ranks = targets.shape[1] if targets is not None and targets.ndim == 2 else 0
    expected = {
        "image": (np.int64, (count,)),
        "logits": (np.float32, (count, len(manifest["classes"]))),
        "targets": (np.int64, (count, ranks)),
        **{f"feature_maps/{a}": (np.float32, (count, *shape)) for a, shape in channels.items()},
        **{
            f"channel_weights/{a}": (np.float32, (count, ranks, shape[0]))
            for a, shape in channels.items()
        },
    }
    for key, (kind, shape) in expected.items():
        if not _is(arrays.get(key), kind, shape):
            raise _unexpected(name, key, arrays.get(key))
    layers = {*_WHOLE_NETWORK, *(layer["address"] for layer in manifest["layers"])}
    for key in arrays.keys() - expected.keys():
        method, _, layer = key.partition("/")
        if method not in manifest["methods"] or layer not in layers:
            raise _unexpected(name, key, arrays[key])
        if not any(_is(arrays[key], np.float32, (count, ranks, *s)) for s in _grids(method)):
            raise _unexpected(name, key, arrays[key])
    if not count or not ranks or not _within(arrays["targets"], len(manifest["classes"])):
        raise _unexpected(name, "targets", targets)


def _grids(method: str) -> list[tuple[int | None, ...]]:
    """Return the shapes that one map of a method may have; None is any length."""
    if METHODS[method].per_channel:
        return [(None, None, None)]
    return [(None, None), (3, None, None)] if METHODS[method].on_input else [(None, None)]


def _is(array: NDArray[Any] | None, kind: type, shape: tuple[int | None, ...]) -> bool:
    """Say whether an array has a type and a shape with no empty side."""
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
    said = "nothing" if array is None else f"{array.dtype} {array.shape}"
    return ResultsError(
        f"results: {name} does not match the manifest at {key!r} ({said}). "
        "Run 'camreport run' again."
    )


def _check_entries(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse an archive whose arrays would take more memory than its bytes.

    Raises:
        ValueError: entries that are compressed, named twice or overlap, or headers that claim more.
    """
    entries = archive.infolist()
    if len({entry.filename for entry in entries}) != len(entries):
        raise ValueError("an array stands in it twice")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("its arrays are compressed")
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError("its arrays overlap")
    for entry in entries:
        with archive.open(entry) as file:
            version = np.lib.format.read_magic(file)
            shape, _, kind = _READERS[version](file)
            claimed = math.prod(shape) * kind.itemsize + file.tell()
        if kind.hasobject or claimed != entry.file_size:
            raise ValueError(f"{entry.filename!r} is no array that a run writes")
