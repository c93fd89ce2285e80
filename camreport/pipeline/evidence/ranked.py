"""The maps whose order is asked, the order of pixels that each gives, and probabilities."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from camreport.engine.cost import Cost
from camreport.engine.plan import Plan
from camreport.engine.score import scores
from camreport.engine.variants import Make
from camreport.metrics.grids import enlarged
from camreport.metrics.ranks import descending_order, settled
from camreport.metrics.values import Undefined
from camreport.pipeline.evidence.batch import EvidenceBatch
from camreport.results.schema import FUSED, MapKey

LEVELS = 1e9
"""Whole steps between zero and the greatest magnitude of a map's values."""

Reasons = dict[MapKey, NDArray[np.uint8]]
"""Why maps have no order, values of ``Undefined`` ``(n, K)``."""


@dataclass(frozen=True)
class RankedMap:
    """One map of one image whose order is asked.

    Attributes:
        key: its method or control, and layer.
        slot: of the class among those explained.
        cam: raw map ``(h, w)``, finite and not constant.
    """

    key: MapKey
    slot: int
    cam: NDArray[np.float32]


def ranked_maps(batch: EvidenceBatch) -> tuple[list[list[RankedMap]], Reasons]:
    """Return the maps whose order is asked, image by image, and why others have no order.

    Unless ``every_map`` asks for more, these are the maps of the most probable class explained at
    the layers of ``keys_with_order``.
    """
    rows = {**batch.maps, **batch.controls}
    keys = tuple(rows) if batch.every_map else keys_with_order(rows, batch.explainer.plan)
    count, classes = batch.targets.shape
    reasons = {key: np.full((count, classes), Undefined.NOT_MEASURED, np.uint8) for key in keys}
    chosen = [list[RankedMap]() for _ in range(count)]
    for image, own in enumerate(chosen):
        most_probable = int(batch.logits[image, batch.targets[image]].argmax())
        for key in keys:
            for slot in range(classes) if batch.every_map else [most_probable]:
                cam = rows[key][image, min(slot, rows[key].shape[1] - 1)]
                reasons[key][image, slot] = why = _undefined(cam)
                if not why:
                    own.append(RankedMap(key, slot, cam))
    return chosen, reasons


def of_every_map(batch: EvidenceBatch) -> Reasons:
    """Return for all maps and controls that nothing stands against their numbers."""
    return {key: np.zeros(batch.targets.shape, np.uint8) for key in (*batch.maps, *batch.controls)}


def with_unread(reasons: NDArray[np.uint8], read: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return why numbers are undefined, with those whose probabilities are not finite.

    Args:
        reasons: of the maps, ``(n, K)``.
        read: probabilities of changed images, ``(..., n, K)``.
    """
    finite = np.isfinite(read).all(tuple(range(read.ndim - 2)))
    unread = (reasons == Undefined.DEFINED) & ~finite
    return np.where(unread, np.uint8(Undefined.NOT_FINITE), reasons)


def keys_with_order(keys: Iterable[MapKey], plan: Plan) -> tuple[MapKey, ...]:
    """Return the maps whose order is asked: of each row those at its last layer, and fused."""
    distinct = [name for name in plan.layers if name not in plan.duplicates]
    ranks = {name: rank for rank, name in enumerate(distinct)}
    keys, last = tuple(keys), dict[str, MapKey]()
    for key in keys:
        own = last.setdefault(key.method, key)
        if ranks.get(key.layer, -1) > ranks.get(own.layer, -1):
            last[key.method] = key
    return tuple(key for key in keys if key.layer == FUSED or last[key.method] == key)


def enlarged_maps(batch: EvidenceBatch, cams: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return maps at the size of the image, bilinearly as they are drawn, ``(maps, H * W)``."""
    height, width = batch.inputs.shape[-2:]
    values = np.empty((len(cams), height * width), np.float32)
    for row, cam in enumerate(cams):
        values[row] = enlarged(cam.astype(np.float64), height, width).ravel()
    return values


def pixel_levels(batch: EvidenceBatch, cams: Sequence[NDArray[np.float32]]) -> NDArray[np.int32]:
    """Return the pixels' values in maps as enlarged, in whole steps, ``(maps, H * W)``.

    Values that differ by rounding alone are equal, so that ties do not depend on what else was in
    a batch: cells are settled, and a step is a billionth of the greatest magnitude.
    """
    height, width = batch.inputs.shape[-2:]
    levels = np.empty((len(cams), height * width), np.int32)
    for row, cam in enumerate(cams):
        cells = settled(cam)
        pixels = enlarged(cells, height, width).ravel()
        levels[row] = np.rint(pixels * (LEVELS / np.abs(cells).max()))
    return levels


def pixel_ranks(batch: EvidenceBatch, image: int, levels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the place of each pixel of an image in the order of maps, the greatest first.

    Args:
        batch: whose seed draws, with the image's index, the order of equal values.
        image: row of the image.
        levels: ``(maps, H * W)``, as from ``pixel_levels``.
    """
    ranks, seed = np.empty(levels.shape, np.int32), image_seed(batch, image)
    for row, own in enumerate(levels):
        ranks[row, descending_order(own, seed)] = np.arange(own.size)
    return ranks


def image_seed(batch: EvidenceBatch, image: int) -> int:
    """Return the seed of what is random in one image."""
    seeds = [batch.seed, int(batch.indices[image])]
    return int(np.random.SeedSequence(seeds).generate_state(1)[0])


def changed_probabilities(
    batch: EvidenceBatch, image: int, count: int, make: Make
) -> tuple[NDArray[np.float32], Cost]:
    """Return the probabilities of the classes of an image, unchanged and changed.

    Args:
        batch: the batch.
        image: row of the image.
        count: number of changed images.
        make: makes those of a slice.

    Returns:
        probabilities ``(1 + count, K)``, the first of the unchanged image, and the passes.
    """
    explainer = batch.explainer
    logits, cost = explainer.variant_logits(count, make, progress=batch.progress)
    unchanged = torch.from_numpy(batch.logits[image : image + 1])
    every = torch.cat([unchanged, logits.float().cpu()])[None]
    targets = torch.from_numpy(batch.targets[image : image + 1])
    read = scores(every, unchanged, targets, "probability", explainer.plan.activation)
    return read[0].numpy(), cost


def _undefined(cam: NDArray[np.float32]) -> Undefined:
    """Return why a map has no order."""
    if not np.isfinite(cam).all():
        return Undefined.NOT_FINITE
    cells = settled(cam)
    return Undefined.CONSTANT if cells.min() == cells.max() else Undefined.DEFINED
