"""The numbers kept beside each shard, which are measured again where they cannot be used.

    OUT/results/numbers-000000.npz      the arrays of ``ShardNumbers``, by name, and their origin

A file is used if it is of this shard, as the checksums in the shard's file tell, and of this
version of the definitions. A folder may come from someone else, so its values are checked.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import groupby
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from camreport.errors import ResultsError
from camreport.files import write
from camreport.insight.numbers import ShardNumbers, map_keys, measure
from camreport.methods import METHODS
from camreport.metrics.grids import GRID
from camreport.results.outline import Described
from camreport.results.reader import Results
from camreport.results.schema import FUSED, INPUT, Manifest, MapKey
from camreport.results.shards import (
    FINGERPRINT,
    MENDING,
    Arrays,
    numbers_name,
    packed,
    read_fingerprint,
    read_shard,
    shard_name,
    shard_number,
)

VERSION = 1
"""Version of the definitions in ``numbers``; numbers of another version are measured again."""

MAPS, VERSIONED = "maps", "version"
"""Names of the arrays that are not numbers: the arrays that were measured, and the version."""

_KINDS = {
    "predicted": (np.int64, 1),
    "slot": (np.int64, 1),
    "margin": (np.float32, 1),
    "area": (np.float32, 3),
    "where": (np.uint8, 4),
    "correlation": (np.float32, 3),
    "overlap": (np.float32, 3),
    "likeness": (np.float32, 2),
}
"""Type and number of axes of each array of numbers."""


def numbered_images(results: Results) -> Iterator[tuple[ShardNumbers, list[Described]]]:
    """Yield the numbers of the readable images of each shard, with the images, in their order.

    Raises:
        ResultsError: a shard without numbers of its own is missing or damaged.
    """
    for shard, group in groupby(results.outlines, key=attrgetter("shard")):
        images = list(group)
        numbers = shard_numbers(results, shard)
        rows = [image.row for image in images if image.row is not None]
        if max(rows) >= len(numbers.slot):
            raise ResultsError(f"results: {shard} has too few maps. {MENDING}")
        yield numbers.rows(rows), images


def shard_numbers(results: Results, shard: str) -> ShardNumbers:
    """Return the numbers of a shard: those kept beside it, or measured now.

    Args:
        results: the results.
        shard: the name of the shard's file.

    Raises:
        ResultsError: no numbers can be used, and the shard is missing or damaged.
    """
    with suppress(ResultsError):
        return read_numbers(results, shard_number(shard))
    return measure(results.shard(shard), results.manifest.activation)


def keep_numbers(results: Results, shards: Iterable[int]) -> None:
    """Write the numbers of some shards beside them where there are none that can be used.

    Damaged shards get none.

    Args:
        results: the results, in a folder that is ours.
        shards: the numbers of the shards.

    Raises:
        OutputError: the disk is full, or the folder cannot be written to.
    """
    for number in shards:
        try:
            read_numbers(results, number)
        except ResultsError:
            with suppress(ResultsError):
                _measure_again(results, number)


def _measure_again(results: Results, number: int) -> None:
    """Measure the maps of a shard and write their numbers beside it."""
    shard, root = shard_name(number), results.path.parent
    numbers = to_arrays(measure(results.shard(shard), results.manifest.activation))
    numbers[FINGERPRINT] = read_fingerprint(results.path / shard, root)
    write(results.path / numbers_name(number), packed(numbers).getbuffer(), root)


def possible_keys(manifest: Manifest) -> tuple[MapKey, ...]:
    """Return the keys of all arrays of maps that a run's shards may have, in their order."""
    layers = [layer.address for layer in manifest.layers]
    methods = [key for key in METHODS if key in manifest.methods]
    return tuple(MapKey(key, layer) for key in methods for layer in (*layers, FUSED, INPUT))


def to_arrays(numbers: ShardNumbers) -> Arrays:
    """Return the arrays of a file of numbers, without the fingerprint of the shard."""
    keys = np.array([str(key) for key in numbers.keys], np.str_)
    kept: Arrays = {VERSIONED: np.array(VERSION), MAPS: keys}
    return kept | {name: getattr(numbers, name) for name in _KINDS}


def read_numbers(results: Results, number: int) -> ShardNumbers:
    """Return the numbers that are kept beside a shard.

    Args:
        results: the results.
        number: the number of the shard.

    Raises:
        ResultsError: they are missing, damaged, of another shard or of another version.
    """
    name, manifest, root = numbers_name(number), results.manifest, results.path.parent
    arrays = read_shard(results.path / name, root)
    shard = read_fingerprint(results.path / shard_name(number), root)
    for own, expected in ((FINGERPRINT, shard), (VERSIONED, np.array(VERSION))):
        if not np.array_equal(arrays.pop(own, ()), expected):
            raise _unusable(name, own)
    keys = map_keys(map(str, np.atleast_1d(arrays.pop(MAPS, ()))))
    if len({*keys}) != len(keys) or not {*keys} <= {*possible_keys(manifest)}:
        raise _unusable(name, MAPS)
    if arrays.keys() != _KINDS.keys():
        raise _unusable(name, ", ".join(sorted(arrays.keys() ^ _KINDS.keys())))
    for text, (kind, axes) in _KINDS.items():
        if arrays[text].dtype != kind or arrays[text].ndim != axes:
            raise _unusable(name, text)
    numbers = ShardNumbers(keys, **arrays)
    _check(numbers, len(manifest.classes), name)
    return numbers


def _check(numbers: ShardNumbers, classes: int, name: str) -> None:
    """Check the shapes and the values of numbers that were read from a file.

    Raises:
        ResultsError: an array does not fit the others, or a value is outside its range.
    """
    count, slots = len(numbers.slot), numbers.area.shape[2]
    maps, pairs = len(numbers.keys), len(numbers.pairs)
    expected: dict[str, tuple[tuple[int, ...], float, float]] = {
        "predicted": ((count,), -1, classes - 1),
        "slot": ((count,), -1, slots - 1),
        "margin": ((count,), 0, float(np.finfo(np.float32).max)),
        "area": ((maps, count, slots), 0, 1),
        "where": ((maps, count, GRID, GRID), 0, 255),
        "correlation": ((pairs, count, slots), -1, 1),
        "overlap": ((pairs, count, slots), 0, 1),
        "likeness": ((maps, count), -1, 1),
    }
    for text, (shape, least, most) in expected.items():
        values: NDArray[np.float64] = getattr(numbers, text)
        within = np.isnan(values) | (values >= least) & (values <= most)
        if values.shape != shape or not count or not slots or not within.all():
            raise _unusable(name, text)


def _unusable(name: str, key: str) -> ResultsError:
    return ResultsError(
        f"results: {name} does not fit its shard at {key!r}. Run 'camreport run' again: it is "
        "measured again, and nothing else is computed."
    )
