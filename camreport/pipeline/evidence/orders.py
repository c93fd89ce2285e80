"""Order: each image covered in the order of its maps' values, and in reverse."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from camreport.engine.cost import Cost
from camreport.engine.variants import Make
from camreport.metrics.order import covered_counts, order
from camreport.metrics.ranks import tied_share
from camreport.metrics.values import Undefined, Values
from camreport.pipeline.evidence.batch import EvidenceBatch, Measured
from camreport.pipeline.evidence.ranked import (
    Reasons,
    changed_probabilities,
    pixel_levels,
    pixel_ranks,
    ranked_maps,
    with_unread,
)
from camreport.results.schema import MapKey

Array = NDArray[np.float32]


def measure_orders(batch: EvidenceBatch) -> Measured:
    """Measure whether the score falls sooner in a map's order than in reverse.

    Pixels are covered with 0, the mean colour of the preprocessing, in the order of the enlarged
    map before its ReLU; equal values are in random order. The score is the class's probability.

    Returns:
        for each map of ``ranked_maps`` ``order``, ``order.deletion``, ``order.insertion`` and the
        share of pixels whose value is not unique, ``order.tied``, ``(n, K)``; and the curves
        ``order.morf`` and ``order.lerf``, ``(n, K, T)``.
    """
    (chosen, reasons), cost = ranked_maps(batch), Cost()
    shape, counts = batch.targets.shape, covered_counts(batch.inputs[0, 0].size)
    curves = {key: np.full((2, *shape, len(counts)), np.nan, np.float32) for key in reasons}
    tied = {key: np.full(shape, np.nan, np.float32) for key in reasons}
    for image, maps in enumerate(chosen):
        if not maps:
            continue
        levels = pixel_levels(batch, [one.cam for one in maps])
        shares = [tied_share(own) for own in levels]
        found, spent = _curves(batch, image, pixel_ranks(batch, image, levels), counts)
        cost += spent
        for one, share, own in zip(maps, shares, found, strict=True):
            tied[one.key][image, one.slot] = share
            curves[one.key][:, image, one.slot] = own[..., one.slot]
    return Measured(dict(_named(curves, tied, reasons, counts)), cost=cost)


def _curves(
    batch: EvidenceBatch, image: int, ranks: NDArray[np.int32], counts: NDArray[np.int64]
) -> tuple[Array, Cost]:
    """Return the probabilities of one image as it is covered, ``(maps, 2, T, K)``.

    The second axis is the order: most relevant first, least relevant first.
    """
    device = batch.explainer.device
    inputs = torch.from_numpy(batch.inputs[image]).to(device)
    make = _covered(inputs, torch.from_numpy(ranks).to(device), counts)
    variants = 1 + len(ranks) * 2 * (len(counts) - 2)
    read, cost = changed_probabilities(batch, image, variants, make)
    found = np.empty((len(ranks), 2, len(counts), read.shape[-1]), np.float32)
    found[:, :, 0], found[:, :, -1] = read[0], read[1]
    found[:, :, 1:-1] = read[2:].reshape(found[:, :, 1:-1].shape)
    return found, cost


def _covered(inputs: Tensor, ranks: Tensor, counts: NDArray[np.int64]) -> Make:
    """Return what makes one image with some pixels covered.

    The first variant is covered wholly. Then come, for each order, the steps between none and all
    with the first pixels covered, and those with the last.

    Args:
        inputs: the image, ``(3, H, W)``.
        ranks: of each pixel in each order, ``(maps, H * W)``.
        counts: pixels that are covered in each step.
    """
    pixels = ranks.shape[1]
    steps = torch.from_numpy(counts[1:-1]).to(inputs.device)

    def make(part: slice) -> Tensor:
        variants = torch.arange(part.start, part.stop, device=inputs.device)
        inner = (variants - 1).clamp(min=0)
        step = steps[inner % len(steps)][:, None]
        reverse = (inner // len(steps) % 2 == 1)[:, None]
        own = ranks[inner // (2 * len(steps))]
        kept = torch.where(reverse, own < pixels - step, own >= step) & (variants > 0)[:, None]
        return inputs * kept.view(-1, 1, *inputs.shape[1:])

    return make


def _named(
    curves: dict[MapKey, Array],
    tied: dict[MapKey, Array],
    reasons: Reasons,
    counts: NDArray[np.int64],
) -> Iterator[tuple[str, Values]]:
    """Yield numbers and curves by the names of their arrays."""
    for key, of_map in reasons.items():
        why = with_unread(of_map, np.moveaxis(curves[key], -1, 0))
        of_curves = np.repeat(why[..., None], len(counts), -1)
        unknown = np.float32(np.nan)
        read = np.where(of_curves == Undefined.DEFINED, curves[key], unknown)
        morf, lerf = (Values(curve, of_curves) for curve in read)
        named = {"order.morf": morf, "order.lerf": lerf, "order.tied": Values(tied[key], of_map)}
        named |= order(morf, lerf, counts)
        yield from ((f"{name}/{key}", values) for name, values in named.items())
