"""The evidence as its readers see it: numbers, curves, maps and regions by name, checked."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camreport.errors import ResultsError
from camreport.methods import METHODS
from camreport.metrics import METRICS
from camreport.metrics.registry import number_of
from camreport.metrics.values import Undefined, Values
from camreport.results.evidence import (
    BOX_CLASSES,
    BOXES,
    CONTROL,
    MEASURED_INPUT,
    SCRAMBLED,
    SCRAMBLED_IMAGE,
    NumberKey,
)
from camreport.results.schema import FUSED, IMAGE, INPUT, TARGETS, Manifest, MapKey
from camreport.results.shards import MENDING, Arrays
from camreport.settings import NONE

ROUNDING = 1e-4
"""How far beyond its range a number may lie by rounding; it is read as the end of the range."""

_SCRAMBLED = re.compile(rf"{re.escape(SCRAMBLED)}([0-9]{{1,19}})")
_CONTROL = re.compile(rf"{CONTROL}[a-z_]{{1,40}}")


@dataclass(frozen=True)
class Regions:
    """Rectangles around the objects of one image.

    Attributes:
        boxes: float32 ``(b, 4)``: left, top, right and bottom, as fractions of the oriented
            photograph's width and height.
        classes: int64 ``(b,)``, indices of the classes; -1 where none is known.
    """

    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]


@dataclass(frozen=True)
class Evidence:
    """What was measured of the maps of n images of a shard, K classes each.

    Attributes:
        image: int64 ``(n,)``, indices among the run's inputs.
        numbers: ``(n, K)`` each, by name; undefined ones have a reason.
        curves: float32 ``(n, K, T)`` each, by name; NaN where the curve is undefined.
        measured: float32 ``(n, K, h, w)``, the measured effect maps; None if nothing was masked.
        sampled: int64 ``(m,)``, indices of those images on which passes were spent, as far as
            there are maps of them in ``scrambled``.
        scrambled: float32 ``(m, K, h, w)`` each, maps of the network with scrambled weights, by
            seed and key.
        regions: the regions of each image; empty if none are known of the run.
    """

    image: NDArray[np.int64]
    numbers: Mapping[NumberKey, Values]
    curves: Mapping[NumberKey, NDArray[np.float32]]
    measured: NDArray[np.float32] | None
    sampled: NDArray[np.int64]
    scrambled: Mapping[int, Mapping[MapKey, NDArray[np.float32]]]
    regions: Sequence[Regions]

    def rows(self, rows: Sequence[int]) -> "Evidence":
        """Return the evidence of some of the images, by their rows."""
        chosen = list(rows)
        drawn = np.isin(self.sampled, self.image[chosen])
        return replace(
            self,
            image=self.image[chosen],
            numbers={
                key: Values(own.numbers[chosen], own.reasons[chosen])
                for key, own in self.numbers.items()
            },
            curves={key: own[chosen] for key, own in self.curves.items()},
            measured=None if self.measured is None else self.measured[chosen],
            sampled=self.sampled[drawn],
            scrambled={
                seed: {key: own[drawn] for key, own in maps.items()}
                for seed, maps in self.scrambled.items()
            },
            regions=[self.regions[row] for row in chosen] if self.regions else (),
        )


@dataclass(frozen=True)
class Collages:
    """What was measured on g collages of the run's images, each of several cells.

    Attributes:
        numbers: ``(g, cells)`` each, by name.
        image: int64 ``(g, cells)``, index of the image in each cell.
        target: int64 ``(g, cells)``, the class that was explained for it.
    """

    numbers: Mapping[NumberKey, Values]
    image: NDArray[np.int64]
    target: NDArray[np.int64]


def read_evidence(
    arrays: Arrays, manifest: Manifest, name: str, image: NDArray[np.int64], slots: int
) -> Evidence:
    """Return the evidence in the arrays of a file.

    Args:
        arrays: as ``read_shard`` returns them.
        manifest: of the run.
        name: of the file, for the message.
        image: indices of the n readable images of the shard.
        slots: number of classes explained in each.

    Raises:
        ResultsError: an array is missing, unknown or of another shape or type.
    """
    left, count = dict(arrays), len(image)
    if not np.array_equal(left.pop(IMAGE, ()), image):
        raise _unexpected(name, IMAGE)
    regions = _regions(left, count, len(manifest.classes), name)
    sampled = left.pop(SCRAMBLED_IMAGE, np.empty(0, np.int64))
    if not np.array_equal(image[np.isin(image, sampled)], sampled):
        raise _unexpected(name, SCRAMBLED_IMAGE)
    scrambled = _scrambled(left, manifest, (len(sampled), slots), name)
    measured = left.pop(MEASURED_INPUT, None)
    if measured is not None and not _fits(measured, np.float32, (count, slots, 0, 0)):
        raise _unexpected(name, MEASURED_INPUT)
    numbers = _numbers(left, manifest, (count, slots), name)
    curves: dict[NumberKey, NDArray[np.float32]] = {}
    for text, array in left.items():
        key = _number_key(text, manifest, name)
        if not _fits(array, np.float32, (count, slots, 0)):
            raise _unexpected(name, text)
        curves[key] = _within_range(array, key, manifest, name)
    return Evidence(image, numbers, curves, measured, sampled, scrambled, regions)


def read_collages(arrays: Arrays, manifest: Manifest, name: str) -> Collages:
    """Return what was measured on collages, from the arrays of their file.

    Args:
        arrays: as ``read_shard`` returns them.
        manifest: of the run.
        name: of the file, for the message.

    Raises:
        ResultsError: an array is missing, unknown or of another shape or type.
    """
    left = dict(arrays)
    image, target = left.pop(IMAGE, None), left.pop(TARGETS, None)
    if image is None or not _are_indices(image, manifest.totals.images):
        raise _unexpected(name, IMAGE)
    if target is None or not _are_indices(target, len(manifest.classes)):
        raise _unexpected(name, TARGETS)
    if image.shape != target.shape:
        raise _unexpected(name, TARGETS)
    numbers = _numbers(left, manifest, (image.shape[0], image.shape[1]), name)
    for text in left:
        raise _unexpected(name, text)
    return Collages(numbers, image, target)


def _regions(left: Arrays, count: int, kinds: int, name: str) -> list[Regions]:
    """Take the regions out of arrays; return them image by image."""
    if BOXES not in left:
        return []
    boxes, classes = left.pop(BOXES), left.pop(BOX_CLASSES, None)
    fits = boxes.ndim == 2 and boxes.dtype == np.float32 and boxes.shape[1] == 5
    if not fits or not ((boxes[:, 1:] >= 0) & (boxes[:, 1:] <= 1)).all():
        raise _unexpected(name, BOXES)
    if classes is None or classes.dtype != np.int64 or classes.shape != (len(boxes),):
        raise _unexpected(name, BOX_CLASSES)
    if not ((classes >= -1) & (classes < kinds)).all():
        raise _unexpected(name, BOX_CLASSES)
    rows = boxes[:, 0]
    if not ((rows >= 0) & (rows < count) & (rows == np.floor(rows))).all():
        raise _unexpected(name, BOXES)
    return [Regions(boxes[rows == row, 1:], classes[rows == row]) for row in range(count)]


def _scrambled(
    left: Arrays, manifest: Manifest, shape: tuple[int, int], name: str
) -> dict[int, dict[MapKey, NDArray[np.float32]]]:
    """Take the maps of scrambled networks out of arrays, by seed."""
    found: dict[int, dict[MapKey, NDArray[np.float32]]] = {}
    for text in [text for text in left if text.startswith(SCRAMBLED)]:
        key, maps = NumberKey.parse(text), left.pop(text)
        seed = _SCRAMBLED.fullmatch(key.number)
        of_run = key.row in manifest.methods and key.layer in _layers(manifest)
        known = seed and manifest.evidence and int(seed[1]) in manifest.evidence.scrambled
        if not (seed and known and of_run and _fits(maps, np.float32, (*shape, 0, 0))):
            raise _unexpected(name, text)
        found.setdefault(int(seed[1]), {})[MapKey(key.row, key.layer)] = maps
    return found


def _numbers(
    left: Arrays, manifest: Manifest, shape: tuple[int, int], name: str
) -> dict[NumberKey, Values]:
    """Take the numbers and their reasons out of arrays."""
    found: dict[NumberKey, Values] = {}
    for text in [text for text, array in left.items() if array.dtype == np.float32]:
        if left[text].ndim != 2:
            continue
        key, numbers = _number_key(text, manifest, name), left.pop(text)
        reasons = left.pop(key.reasons, np.zeros(shape, np.uint8))
        if numbers.shape != shape:
            raise _unexpected(name, text)
        if reasons.dtype != np.uint8 or reasons.shape != shape:
            raise _unexpected(name, key.reasons)
        undefined = np.isnan(numbers)
        if reasons.max() > max(Undefined) or not np.array_equal(undefined, reasons != 0):
            raise _unexpected(name, key.reasons)
        found[key] = Values(_within_range(numbers, key, manifest, name), reasons)
    return found


def _within_range(
    values: NDArray[np.float32], key: NumberKey, manifest: Manifest, name: str
) -> NDArray[np.float32]:
    """Return values of a number within the range that the registry has of it.

    Scores that a model does not give as probabilities have no range, nor what is made of them.

    Raises:
        ResultsError: a value is infinite, or outside by more than rounding.
    """
    number = number_of(key.number)
    assert number is not None
    of_scores = METRICS[key.metric].needs in ("orders", "masked") and key.number != "order.tied"
    low, high = number.low, number.high
    if manifest.activation == NONE and of_scores and key.metric != "effect":
        low, high = -np.inf, np.inf
    within = np.isnan(values) | (values >= low - ROUNDING) & (values <= high + ROUNDING)
    if np.isinf(values).any() or not within.all():
        raise ResultsError(
            f"results: {name} has values outside of {low:g} to {high:g} at {str(key)!r}. {MENDING}"
        )
    return np.clip(values, low, high)


def _number_key(text: str, manifest: Manifest, name: str) -> NumberKey:
    """Return the key of an array of numbers or of a curve.

    Raises:
        ResultsError: it is no name of the run's.
    """
    key = NumberKey.parse(text)
    known = key.row in METHODS and key.row in manifest.methods
    of_run = (known or _CONTROL.fullmatch(key.row)) and key.layer in _layers(manifest)
    asked = manifest.evidence is not None and key.metric in manifest.evidence.metrics
    if not (asked and number_of(key.number) and (of_run or text == key.number)):
        raise _unexpected(name, text)
    return key


def _are_indices(array: NDArray[Any], count: int) -> bool:
    fits = _fits(array, np.int64, (0, 0))
    return fits and bool((array >= 0).all() and (array < count).all())


def _layers(manifest: Manifest) -> set[str]:
    return {FUSED, INPUT, *(layer.address for layer in manifest.layers)}


def _fits(array: NDArray[np.generic], kind: type, shape: tuple[int, ...]) -> bool:
    """Return whether an array has a type and shape; a side of 0 stands for any but 0."""
    return (
        array.dtype == kind
        and array.ndim == len(shape)
        and all(
            own == side or (not side and own) for own, side in zip(array.shape, shape, strict=True)
        )
    )


def _unexpected(name: str, key: str) -> ResultsError:
    return ResultsError(f"results: {name} does not match the manifest at {key!r}. {MENDING}")
