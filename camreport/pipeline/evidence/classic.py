"""Classic metrics: images seen through a map, and images with a map's pixels filled in."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from camreport.engine.cost import Cost
from camreport.engine.variants import Make
from camreport.metrics.classic import SHARES, average_drop, road
from camreport.metrics.values import Values
from camreport.pipeline.evidence.batch import EvidenceBatch, Measured
from camreport.pipeline.evidence.filling import filled_in
from camreport.pipeline.evidence.ranked import (
    changed_probabilities,
    enlarged_maps,
    image_seed,
    pixel_levels,
    pixel_ranks,
    ranked_maps,
    with_unread,
)

NOISE = 0.01
"""Standard deviation of the noise on filled-in pixels, in units of the preprocessed image."""


def measure_average_drop(batch: EvidenceBatch) -> Measured:
    """Measure what the probability loses when only what a map marks is kept.

    Returns:
        the numbers of ``average_drop`` of each map of ``ranked_maps``, ``(n, K)``.
    """
    (chosen, reasons), cost = ranked_maps(batch), Cost()
    before, after, area = ({k: _unknown(v) for k, v in reasons.items()} for _ in range(3))
    for image, maps in enumerate(chosen):
        if not maps:
            continue
        positive = [np.clip(one.cam, 0, None) for one in maps]
        masks = enlarged_maps(batch, [cam / (cam.max() or 1) for cam in positive])
        make = _seen_through(batch, image, masks)
        read, spent = changed_probabilities(batch, image, len(masks), make)
        cost += spent
        for one, mask, own in zip(maps, masks, read[1:], strict=True):
            place = image, one.slot
            before[one.key][place], after[one.key][place] = read[0, one.slot], own[one.slot]
            area[one.key][place] = mask.mean()
    found = dict[str, Values]()
    for key, why in reasons.items():
        of_map = with_unread(why, np.stack([before[key], after[key]]))
        numbers = average_drop(before[key], Values(after[key], of_map), area[key])
        found |= {f"{name}/{key}": values for name, values in numbers.items()}
    return Measured(found, cost=cost)


def measure_road(batch: EvidenceBatch) -> Measured:
    """Measure the probability without a map's most and least relevant pixels, filled in.

    Returns:
        ``road`` of each map of ``ranked_maps``, ``(n, K)``.
    """
    (chosen, reasons), cost = ranked_maps(batch), Cost()
    room = (2, *batch.targets.shape, len(SHARES))
    curves = {key: np.full(room, np.nan, np.float32) for key in reasons}
    for image, maps in enumerate(chosen):
        if not maps:
            continue
        ranks = pixel_ranks(batch, image, pixel_levels(batch, [one.cam for one in maps]))
        variants, make = len(maps) * 2 * len(SHARES), _taken_away(batch, image, ranks)
        read, spent = changed_probabilities(batch, image, variants, make)
        cost += spent
        found = read[1:].reshape(len(maps), 2, len(SHARES), -1)
        for one, own in zip(maps, found, strict=True):
            curves[one.key][:, image, one.slot] = own[..., one.slot]
    values = dict[str, Values]()
    for key, read in curves.items():
        why = with_unread(reasons[key], np.moveaxis(read, -1, 0))
        of_shares = np.repeat(why[..., None], len(SHARES), -1)
        values[f"road/{key}"] = road(*(Values(curve, of_shares) for curve in read))
    return Measured(values, cost=cost)


def _seen_through(batch: EvidenceBatch, image: int, masks: NDArray[np.float32]) -> Make:
    """Return what makes one image times each of some masks, ``(masks, H * W)``."""
    inputs = torch.from_numpy(batch.inputs[image]).to(batch.explainer.device)

    def make(part: slice) -> Tensor:
        own = torch.from_numpy(masks[part]).to(inputs.device)
        return inputs * own.view(-1, 1, *inputs.shape[1:])

    return make


def _taken_away(batch: EvidenceBatch, image: int, ranks: NDArray[np.int32]) -> Make:
    """Return what makes one image without shares of its pixels, which are filled in noisily.

    For each order, ``(maps, H * W)``, come the shares of the first pixels, and of the last.
    """
    device, pixels = batch.explainer.device, ranks.shape[1]
    inputs, orders = (torch.from_numpy(own).to(device) for own in (batch.inputs[image], ranks))
    counts = torch.tensor([round(share * pixels) for share in SHARES], device=device)
    random = torch.Generator().manual_seed(image_seed(batch, image))
    noise = (torch.randn(inputs.shape, generator=random) * NOISE).to(device)

    def make(part: slice) -> Tensor:
        variants = torch.arange(part.start, part.stop, device=device)
        count = counts[variants % len(counts)][:, None]
        reverse = (variants // len(counts) % 2 == 1)[:, None]
        own = orders[variants // (2 * len(counts))]
        known = torch.where(reverse, own < pixels - count, own >= count)
        known = known.view(-1, 1, 1, *inputs.shape[1:])
        each = [filled_in(inputs[None], own) for own in known]  # one at a time stays in the cache
        filled = torch.cat(each)
        return torch.where(known[:, 0], filled, filled + noise)

    return make


def _unknown(reasons: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return room for numbers that are not measured yet."""
    return np.full(reasons.shape, np.nan, np.float32)
