"""Regions of a run's inputs: which photograph and which classes each entry of a file means.

A fault in one place never costs the others: the place is left out, and a notice says how many were
left out, where the first ones stand and what was expected. It is an error only if nothing is left.
"""

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camreport.errors import ClassError, InputError, suggestion
from camreport.images.inputs import InputFile, printable, read_file, read_input
from camreport.images.labels import LabelMap, meant_classes
from camreport.images.pixels import open_image
from camreport.images.preprocessing import Box, Preprocessing
from camreport.images.regions.entries import Entry, Faults, named
from camreport.images.regions.read import read_entries
from camreport.images.regions.region import (
    Outline,
    PhotoRegions,
    Region,
    box_around,
    filled,
    masked,
)
from camreport.messages.progress import Notify

UNTURNED = "coordinates of the upright photograph, got those before its EXIF orientation is applied"
OTHER_SIZE = "coordinates in the photograph's own size"
NO_AREA = "right beyond left and bottom below top"
OUTSIDE = "a box or polygon that meets the picture, in pixels of the upright photograph"
THIN = "a polygon that holds the centre of a pixel"
TOO_FAR = "corners within a billion pixels"
EMPTY = "a mask with a value above 0"
WRONG_RUNS = "runs that fill the photograph"
UNREADABLE = "a PNG file that can be read"
AMBIGUOUS = "a name that only one photograph has; add its folder"
ONCE = "each region once"
CUT = "cut at the picture's edge"

MAX_CORNER = 1e9
"""Greatest coordinate of a polygon, in pixels: beyond it, float64 places edges less exactly."""


@dataclass(frozen=True)
class FoundRegions:
    """The regions of one photograph, with classes as the file calls them.

    Attributes:
        width: of the upright photograph, in pixels.
        height: likewise.
        outlines: each with its class; None if the file does not say.
    """

    width: int
    height: int
    outlines: tuple[tuple[Outline, str | None], ...]


class _FaultyError(Exception):
    """An entry that is left out: the rule it breaks, and what is there."""


def find_regions(
    path: str | Path, files: Sequence[InputFile], notify: Notify = lambda message: None
) -> dict[int, FoundRegions]:
    """Return the regions of the inputs, by the input's index.

    An image has its name in the report, or the last part of that name if no other image shares it.

    Args:
        path: a file or folder in a format of ``read.FORMATS``.
        files: the inputs.
        notify: called with sentences about what is left out, and which inputs have no region.

    Raises:
        InputError: nothing is there, it cannot be read, or no region of an input is in it.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"regions: expected a file or folder, found nothing at {str(path)!r}.")
    faults = Faults()
    entries = read_entries(path, files, faults)
    by_input, unknown = _matched(entries, files, faults)
    if unknown and not by_input:
        raise InputError(
            f"regions: expected images of this run, got {len(unknown):,} others in "
            f"{printable(path.name)!r}: {named(unknown)}. The first input is called "
            f"{files[0].name!r}."
        )
    found = {}
    for index, own in sorted(by_input.items()):
        size = _upright_size(files[index])
        outlines = _outlines(own, files[index].name, size, faults) if size else ()
        if size and outlines:
            found[index] = FoundRegions(*size, outlines)
    if not found:
        raise InputError(
            f"regions: expected a region of an input in {printable(path.name)!r}, got none that "
            f"can be used.{faults.first()}"
        )
    if unknown:
        notify(f"regions: not among the inputs of this run: {named(unknown)}")
    for note in faults.notes():
        notify(f"warning: {note}")
    if len(found) < len(files):
        notify(f"{len(found)} of {len(files)} images have a region")
    return found


def with_classes(
    found: Mapping[int, FoundRegions],
    names: Sequence[str],
    notify: Notify = lambda message: None,
    label_map: LabelMap | None = None,
) -> dict[int, PhotoRegions]:
    """Return regions with classes of the model; those of other classes are left out.

    Args:
        found: the regions, by the input's index.
        names: the model's class names.
        notify: called with a sentence if some classes are not the model's.
        label_map: classes of another vocabulary, and the model's classes that each means.

    Raises:
        ClassError: a class is ambiguous, or none of them is the model's.
    """
    words = Counter(word for photo in found.values() for _, word in photo.outlines if word)
    meant = {word: meant_classes(word, names, label_map or {}, "regions") for word in words}
    other = [f"{word} ({count:,})" for word, count in words.items() if not meant[word]]
    kept = {}
    for index, photo in found.items():
        regions = tuple(
            Region(outline, meant[word] if word else ())
            for outline, word in photo.outlines
            if not word or meant[word]
        )
        if regions:
            kept[index] = PhotoRegions(photo.width, photo.height, regions)
    if not kept:
        first = next(iter(words))
        raise ClassError(
            f"regions: expected classes of the model, got {named(list(words))}."
            + suggestion(first, names)
            + f" If they are other words, give the classes they mean: --label-map {first}=0"
        )
    if other:
        notify(f"regions: left out those of classes that the model does not have: {named(other)}")
    return kept


def mostly_unseen(regions: Mapping[int, PhotoRegions], preprocessing: Preprocessing) -> list[int]:
    """Return the inputs with a region of which the model sees less than half, by their index."""
    if not preprocessing.cuts:
        return []
    return [index for index, photo in regions.items() if max(photo.unseen(preprocessing)) > 0.5]


def _matched(
    entries: Iterable[Entry], files: Sequence[InputFile], faults: Faults
) -> tuple[dict[int, list[Entry]], list[str]]:
    """Return the entries of each input, and the images that are no inputs."""
    by_image: dict[str, list[Entry]] = {}
    for entry in entries:
        by_image.setdefault(entry.image.replace("\\", "/").removeprefix("./"), []).append(entry)
    whole: dict[str, set[int]] = {}
    last: dict[str, set[int]] = {}
    for index, file in enumerate(files):
        for name in (file.name, PurePath(file.name).with_suffix("").as_posix()):
            whole.setdefault(name, set()).add(index)
            last.setdefault(PurePath(name).name, set()).add(index)
    exact = {image: whole[image] for image in by_image if image in whole}
    taken = {index for indices in exact.values() for index in indices}
    shared = Counter(PurePath(image).name for image in by_image if image not in exact)
    found: dict[int, list[Entry]] = {}
    unknown = []
    for image, own in by_image.items():
        name = PurePath(image).name
        indices = exact.get(image) or last.get(name, set()) - taken
        if not indices:
            unknown.append(printable(image))
        elif len(indices) > 1 or (image not in exact and shared[name] > 1):
            faults.left_out(AMBIGUOUS, f"{own[0].where} ({image})")
        else:
            found.setdefault(next(iter(indices)), []).extend(own)
    return found, unknown


def _outlines(
    entries: Iterable[Entry], name: str, size: tuple[int, int], faults: Faults
) -> tuple[tuple[Outline, str | None], ...]:
    """Return the shapes of an input's entries; those that break a rule are left out."""
    found: dict[tuple[Outline, str | None], None] = {}
    for entry in entries:
        try:
            outline = _outline(entry, size)
        except _FaultyError as fault:
            rule, there = fault.args
            faults.left_out(rule, f"{entry.where} ({there} in {name}, {size[0]} × {size[1]})")
            continue
        if (outline, entry.label) in found:
            faults.left_out(ONCE, f"{entry.where} ({name})")
        elif _exceeds(around := _around(entry, size), size):
            there = _numbers(entry.box or vars(around).values())
            faults.add(CUT, f"{entry.where} ({there} in {name}, {size[0]} × {size[1]})")
        found[outline, entry.label] = None
    return tuple(found)


def _outline(entry: Entry, size: tuple[int, int]) -> Outline:
    """Return an entry's shape in pixels of the photograph, inside of it.

    Raises:
        _FaultyError: it breaks a rule.
    """
    width, height = size
    if entry.size and entry.size != size:
        rule = UNTURNED if entry.size == (height, width) else OTHER_SIZE
        raise _FaultyError(rule, "{} × {}".format(*entry.size))
    if entry.mask or entry.columns:
        mask = _mask(entry.mask, size) if entry.mask else _from_columns(entry.columns, size)
        if not mask.any():
            raise _FaultyError(EMPTY, "only 0")
        return masked(mask)
    box, polygons = _around(entry, size), _polygons(entry, size)
    numbers = _numbers(vars(box).values())
    if box.right <= box.left or box.bottom <= box.top:
        raise _FaultyError(NO_AREA, numbers)
    inside = Box(
        max(box.left, 0.0), max(box.top, 0.0), min(box.right, width), min(box.bottom, height)
    )
    if inside.right <= inside.left or inside.bottom <= inside.top:
        raise _FaultyError(OUTSIDE, numbers)
    if not polygons:
        return Outline(inside)
    if max(abs(corner) for corners in polygons for corner in corners) > MAX_CORNER:
        raise _FaultyError(TOO_FAR, numbers)
    if filled(polygons, width, height).any():
        return Outline(inside, polygons)
    if min(box.right - box.left, box.bottom - box.top) > 1:
        raise _FaultyError(THIN, numbers)
    return Outline(inside)  # smaller than a pixel: it holds the pixel that it covers most


def _polygons(entry: Entry, size: tuple[int, int]) -> tuple[tuple[float, ...], ...]:
    """Return the corners of an entry's polygons in pixels of the photograph."""
    scale = size if entry.relative else (1, 1)
    return tuple(
        tuple(corner * scale[at % 2] for at, corner in enumerate(corners))
        for corners in entry.polygons
    )


def _around(entry: Entry, size: tuple[int, int]) -> Box:
    """Return the box of an entry in pixels of the photograph, also where it lies outside."""
    if entry.polygons:
        return box_around(_polygons(entry, size))
    left, top, right, bottom = entry.box or (0.0, 0.0, 0.0, 0.0)
    across, down = size if entry.relative else (1, 1)
    return Box(left * across, top * down, right * across, bottom * down)


def _from_columns(runs: Sequence[int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask ``(height, width)`` of runs that go column by column.

    Raises:
        _FaultyError: they do not fill the photograph.
    """
    width, height = size
    if min(runs) < 0 or sum(runs) != width * height:
        raise _FaultyError(WRONG_RUNS, f"{len(runs):,} runs")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T


def _mask(path: Path, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return where a PNG file has a value above 0 in any colour, ``(height, width)``.

    Raises:
        _FaultyError: it cannot be read or has another size.
    """
    try:
        picture = Image.open(io.BytesIO(read_file(path)), formats=["PNG"])
        if picture.size != size:
            rule = UNTURNED if picture.size == size[::-1] else OTHER_SIZE
            raise _FaultyError(rule, "{} × {}".format(*picture.size))
        values = np.atleast_3d(np.asarray(picture))
    except _FaultyError:
        raise
    except Exception as error:  # Pillow's readers raise anything on damaged files
        raise _FaultyError(UNREADABLE, type(error).__name__) from error
    colours = values[..., :-1] if picture.mode in ("LA", "RGBA") else values
    return np.asarray((colours > 0).any(2))


def _upright_size(file: InputFile) -> tuple[int, int] | None:
    """Return width and height of an upright photograph; None if it cannot be read."""
    try:
        opened = open_image(read_input(file))
    except (OSError, InputError, MemoryError):
        return None
    width, height = opened.image.size
    return (height, width) if opened.orientation > 4 else (width, height)


def _exceeds(box: Box, size: tuple[int, int]) -> bool:
    """Return whether a box reaches more than a pixel beyond the picture."""
    beyond = box.right > size[0] + 1 or box.bottom > size[1] + 1
    return beyond or min(box.left, box.top) < -1


def _numbers(numbers: Iterable[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)
