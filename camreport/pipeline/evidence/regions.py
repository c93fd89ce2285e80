"""Evidence from regions that the user gave: every map and control beside them, no pass."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from camreport.images.regions.region import PhotoRegions
from camreport.metrics.regions import CENTRE, NUMBERS, centre_box, regions
from camreport.metrics.values import Values
from camreport.pipeline.evidence.batch import EvidenceBatch, Measured
from camreport.pipeline.evidence.maps import from_base
from camreport.results.evidence import BOX_CLASSES, BOXES
from camreport.results.schema import MapKey
from camreport.results.shards import Arrays


def measure_regions(batch: EvidenceBatch) -> Measured:
    """Measure how all maps and controls of some images lie to the regions of their classes.

    A box in the centre of the picture is one more control, the same at every layer.
    """
    maps = {key: from_base(key, each) for key, each in batch.maps.items()} | dict(batch.controls)
    groups: dict[tuple[int, ...], list[MapKey]] = {}
    for key, each in maps.items():
        groups.setdefault(each.shape[2:], []).append(key)
    centres = [MapKey(CENTRE, layer) for layer in dict.fromkeys(key.layer for key in maps)]
    names = [f"{number.key}/{key}" for number in NUMBERS for key in (*maps, *centres)]
    shape = batch.targets.shape
    values = {
        name: Values(np.zeros(shape, np.float32), np.zeros(shape, np.uint8)) for name in names
    }
    for row, slot in np.ndindex(shape):
        mask = _mask(batch, row, slot)
        for keys in groups.values():
            own = np.stack([maps[key][row, min(slot, maps[key].shape[1] - 1)] for key in keys])
            _fill(values, keys, (row, slot), regions(own, mask))
        _fill(values, centres, (row, slot), centre_box(mask, *batch.preprocessing.size))
    return Measured(values)


def region_arrays(known: Mapping[int, PhotoRegions], indices: Iterable[int]) -> Arrays:
    """Return the regions of some images as arrays, for the file of their evidence.

    Args:
        known: the regions of the run, by the images' indices.
        indices: of the images, in the order of their rows.

    Returns:
        ``regions.boxes``, float32 ``(b, 5)``: row, left, top, right and bottom, as fractions of
        the upright photograph; and ``regions.classes``, int64 ``(b,)``, -1 without a class.
    """
    boxes = [
        (row, *box)
        for row, index in enumerate(indices)
        if index in known
        for box in known[index].boxes()
    ]
    table = np.array(boxes, dtype=np.float64).reshape(-1, 6)
    return {BOXES: table[:, :5].astype(np.float32), BOX_CLASSES: table[:, 5].astype(np.int64)}


def _mask(batch: EvidenceBatch, row: int, slot: int) -> NDArray[np.bool_] | None:
    """Return the region of an explained class on the model's input; None if none is known."""
    photo = batch.regions.get(int(batch.indices[row]))
    return photo.mask(int(batch.targets[row, slot]), batch.preprocessing) if photo else None


def _fill(
    values: Mapping[str, Values],
    keys: Sequence[MapKey],
    place: tuple[int, int],
    found: Mapping[str, Values],
) -> None:
    """Put the numbers of some maps, or one for all of them, in their place among all."""
    for number, own in found.items():
        every = (np.broadcast_to(each, len(keys)) for each in (own.numbers, own.reasons))
        for key, one, why in zip(keys, *every, strict=True):
            whole = values[f"{number}/{key}"]
            whole.numbers[place], whole.reasons[place] = one, why
