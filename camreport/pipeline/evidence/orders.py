"""Order: each image covered in the order of its maps' values, and in reverse."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from camreport.engine.cost import Cost
from camreport.engine.plan import Plan
from camreport.engine.score import scores
from camreport.engine.variants import Make
from camreport.metrics.grids import enlarged
from camreport.metrics.order import covered_counts, order
from camreport.metrics.ranks import descending_order, tied_share
from camreport.metrics.values import Undefined, Values
from camreport.pipeline.evidence.batch import EvidenceBatch, Measured
from camreport.results.schema import FUSED, MapKey


@dataclass(frozen=True)
class _Job:
    """One map whose order is measured.

    Attributes:
        key: its method or control, and layer.
        slot: of the class among those explained.
        cam: raw map ``(h, w)``, finite and not constant.
    """

    key: MapKey
    slot: int
    cam: NDArray[np.float32]


@dataclass(frozen=True)
class _Found:
    """What is found of the maps of one key.

    Attributes:
        curves: probabilities, most relevant first and least relevant first, ``(2, n, K, T)``.
        tied: share of pixels whose value is not unique, ``(n, K)``.
        reasons: why a map has no order, ``(n, K)``.
    """

    curves: NDArray[np.float32]
    tied: NDArray[np.float32]
    reasons: NDArray[np.uint8]

    @classmethod
    def empty(cls, shape: tuple[int, int], steps: int) -> "_Found":
        """Return room for ``(n, K)`` maps, none of which is measured."""
        unknown = (
            np.full((2, *shape, steps), np.nan, np.float32),
            np.full(shape, np.nan, np.float32),
        )
        return cls(*unknown, np.full(shape, Undefined.NOT_MEASURED, np.uint8))


def measure_orders(batch: EvidenceBatch) -> Measured:
    """Measure whether the score falls sooner in a map's order than in reverse.

    Pixels are covered with 0, the mean colour of the preprocessing, in the order of the enlarged
    map before its ReLU; equal values are in random order. The score is the class's probability.

    Returns:
        for each map and control ``order``, ``order.deletion``, ``order.insertion`` and the share
        of pixels whose value is not unique, ``order.tied``, ``(n, K)``; and the curves
        ``order.morf`` and ``order.lerf``, ``(n, K, T)``. Unless ``every_map`` asks for more, only
        the most probable class's maps at the layers of ``keys_with_order`` are measured.
    """
    rows = {**batch.maps, **batch.controls}
    keys = tuple(rows) if batch.every_map else keys_with_order(rows, batch.explainer.plan)
    count, classes = batch.targets.shape
    counts, cost = covered_counts(batch.inputs[0, 0].size), Cost()
    found = {key: _Found.empty((count, classes), len(counts)) for key in keys}
    for image in range(count):
        jobs = list[_Job]()
        for key in keys:
            for slot in range(classes) if batch.every_map else [_most_probable(batch, image)]:
                cam = rows[key][image, min(slot, rows[key].shape[1] - 1)]
                found[key].reasons[image, slot] = why = _undefined(cam)
                if not why:
                    jobs.append(_Job(key, slot, cam))
        if jobs:
            cost += _measure_image(batch, image, jobs, counts, found)
    return Measured({k: v for key in keys for k, v in _values(key, found[key], counts)}, cost=cost)


def keys_with_order(keys: Iterable[MapKey], plan: Plan) -> tuple[MapKey, ...]:
    """Return the maps whose order is measured: of each row those at its last layer, and fused."""
    distinct = [name for name in plan.layers if name not in plan.duplicates]
    ranks = {name: rank for rank, name in enumerate(distinct)}
    last: dict[str, MapKey] = {}
    for key in keys:
        own = last.setdefault(key.method, key)
        if ranks.get(key.layer, -1) > ranks.get(own.layer, -1):
            last[key.method] = key
    return tuple(key for key in keys if key.layer == FUSED or last[key.method] == key)


def _measure_image(
    batch: EvidenceBatch,
    image: int,
    jobs: Sequence[_Job],
    counts: NDArray[np.int64],
    found: dict[MapKey, _Found],
) -> Cost:
    """Write the curves of one image's maps, from one batch of covered images."""
    plan, inputs = batch.explainer.plan, torch.from_numpy(batch.inputs[image])
    state = np.random.SeedSequence([batch.seed, int(batch.indices[image])]).generate_state(1)
    ranks = np.empty((len(jobs), inputs[0].numel()), np.int32)
    for row, job in enumerate(jobs):
        height, width = inputs.shape[-2:]
        values = enlarged(job.cam.astype(np.float64), height, width).astype(np.float32).ravel()
        ranks[row, descending_order(values, int(state[0]))] = np.arange(values.size)
        found[job.key].tied[image, job.slot] = tied_share(values)
    device = batch.explainer.device
    make = _covered(inputs.to(device), torch.from_numpy(ranks).to(device), counts)
    variants = 1 + len(jobs) * 2 * (len(counts) - 2)
    logits, cost = batch.explainer.variant_logits(variants, make, progress=batch.progress)
    slots = torch.from_numpy(batch.targets[image])[None]
    unchanged = torch.from_numpy(batch.logits[image])
    every = torch.cat([unchanged[None], logits.float().cpu()])[None]
    read = scores(every, unchanged[None], slots, "probability", plan.activation)[0].numpy()
    inner = read[2:].reshape(len(jobs), 2, -1, read.shape[-1])
    for job, own in zip(jobs, inner, strict=True):
        curves = found[job.key].curves[:, image, job.slot]
        curves[:, 0], curves[:, -1] = read[0, job.slot], read[1, job.slot]
        curves[:, 1:-1] = own[..., job.slot]
    return cost


def _covered(inputs: Tensor, ranks: Tensor, counts: NDArray[np.int64]) -> Make:
    """Return what makes one image with some pixels covered.

    The first variant is covered wholly. Then come, for each order, the steps between none and all
    with the first pixels covered, and those with the last.

    Args:
        inputs: the image, ``(3, H, W)``.
        ranks: of each pixel in each order, ``(jobs, H * W)``.
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


def _most_probable(batch: EvidenceBatch, image: int) -> int:
    """Return the slot of the most probable class explained."""
    return int(batch.logits[image, batch.targets[image]].argmax())


def _undefined(cam: NDArray[np.float32]) -> Undefined:
    """Return why a map has no order."""
    if not np.isfinite(cam).all():
        return Undefined.NOT_FINITE
    return Undefined.CONSTANT if cam.min() == cam.max() else Undefined.DEFINED


def _values(key: MapKey, found: _Found, counts: NDArray[np.int64]) -> Iterable[tuple[str, Values]]:
    """Yield the numbers and curves of a key's maps by the names of their arrays."""
    reasons = np.repeat(found.reasons[..., None], len(counts), -1)
    morf, lerf = (Values(curve, reasons) for curve in found.curves)
    yield f"order.morf/{key}", morf
    yield f"order.lerf/{key}", lerf
    yield f"order.tied/{key}", Values(found.tied, found.reasons)
    for name, values in order(morf, lerf, counts).items():
        yield f"{name}/{key}", values
