"""Maps averaged over changed copies of the images: noise, mirroring, brightness."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from camreport.engine.backward import Variables, class_gradients, class_rows, gradient_maps
from camreport.engine.batch import Batch, Maps
from camreport.engine.cost import Cost
from camreport.engine.forward import forward_pass
from camreport.engine.plan import Plan
from camreport.engine.score import look_alike_cotangents
from camreport.methods import Method
from camreport.methods.registry import LOOK_ALIKES
from camreport.network.precision import wide
from camreport.network.state import sent

SAMPLES = 4
"""Number of noisy copies of each image that are averaged."""

NOISE_LEVEL = 0.3
"""Standard deviation of the noise, in units of the preprocessed image."""

AUGMENTATIONS = tuple((flipped, factor) for flipped in (False, True) for factor in (0.9, 1.0, 1.1))
"""The copies that ``aug`` averages: mirrored or not, and scaled in brightness."""


def uses_copies(method: Method, plan: Plan) -> bool:
    """Return whether a method's maps are averages over changed copies."""
    return method.supports_smoothing and bool({"noise", "aug"} & set(plan.options.smooth))


def averaged_maps(batch: Batch, methods: Sequence[Method], _earlier: Maps) -> tuple[Maps, Cost]:
    """Compute the maps of methods with smoothing, averaged over changed copies of the images."""
    alike = [method for method in methods if method.needs is LOOK_ALIKES]
    plain = [method for method in methods if method.needs is not LOOK_ALIKES]
    classes, totals, cost = batch.targets.shape[1], Maps(), Cost()
    copies = list(_copies(batch))
    for images, mirrored in copies:
        changed = replace(batch, forward=forward_pass(batch.module, images, batch.plan.capture))
        cost += Cost(forwards=1, backwards=classes * (bool(plain) + bool(alike)))
        maps = Maps()
        if plain:
            maps |= gradient_maps(changed, plain, class_rows(changed), keep_graph=bool(alike))
        if alike:
            rows = look_alike_cotangents(batch.reference_logits, batch.targets)
            maps |= gradient_maps(changed, alike, rows)
        for key, by_point in maps.items():
            sums = totals.setdefault(key, {})
            for point, cams in by_point.items():
                fraction = (cams.flip(-1) if mirrored else cams) / len(copies)
                sums[point] = sums[point].add_(fraction) if point in sums else fraction
    return totals, cost


def noise_maps(batch: Batch, methods: Sequence[Method], _earlier: Maps) -> tuple[Maps, Cost]:
    """Compute the maps of methods that average derivatives over noisy copies of the images.

    The moments of the gradients are accumulated for as many images at a time as the memory budget
    allows.
    """
    classes = batch.targets.shape[1]
    maps = {method.key: batch.empty_maps(method) for method in methods}
    points = dict.fromkeys(point for by_point in maps.values() for point in by_point)
    per_image = sum(batch.values(point)[0].numel() for point in points) * classes * 12
    step = max(1, batch.budget.activations // max(1, per_image))
    starts = range(0, len(batch.inputs), step)
    for start in starts:
        part = slice(start, start + step)
        moments = _moments(batch, part, list(points))
        for method in methods:
            for point, cams in maps[method.key].items():
                for slot in range(classes):
                    derivatives = [total[slot] for total in moments[point]]
                    cam = method.compute(batch.values(point)[part], *derivatives)
                    cams[part, slot] = cam.float()
    passes = SAMPLES * len(starts)
    return maps, Cost(forwards=passes, backwards=passes * classes)


def _moments(batch: Batch, part: slice, points: Sequence[str]) -> dict[str, list[Tensor]]:
    """Return the means of G, G² and G³ over the noisy copies, ``(K, n, C, h, w)`` each."""
    moments: dict[str, list[Tensor]] = {}
    for noise in noise_like(batch.inputs, batch.plan.options.seed):
        noisy = batch.inputs[part] + sent(noise, batch.inputs.device).to(batch.inputs)
        changed = replace(
            batch,
            forward=forward_pass(batch.module, noisy, batch.plan.capture),
            targets=batch.targets[part],
            reference_logits=batch.reference_logits[part],
        )
        rows = class_rows(changed)
        variables = Variables({s: changed.forward.activations[s] for s in points}, {}, [], None)
        logits = changed.forward.logits
        by_class = class_gradients(logits, variables, rows, batch.batching, batch.budget)
        for slots, gradients in by_class:
            for point, gradient in ((s, wide(own)) for s, own in gradients.layers.items()):
                room = (len(rows), *gradient.shape[1:])
                sums = moments.setdefault(point, [gradient.new_zeros(room) for _ in range(3)])
                square = gradient.square()
                sums[0][slots].add_(gradient, alpha=1 / SAMPLES)
                sums[1][slots].add_(square, alpha=1 / SAMPLES)
                sums[2][slots].addcmul_(square, gradient, value=1 / SAMPLES)
    return moments


def _copies(batch: Batch) -> Iterator[tuple[Tensor, bool]]:
    """Yield the copies of the images that smoothing averages, and whether each is mirrored."""
    inputs, options = batch.inputs, batch.plan.options
    noises = noise_like(inputs, options.seed) if "noise" in options.smooth else [torch.zeros(())]
    augmentations = AUGMENTATIONS if "aug" in options.smooth else ((False, 1.0),)
    for noise in noises:
        for flipped, factor in augmentations:
            copy = (inputs + sent(noise, inputs.device).to(inputs)) * factor
            yield (copy.flip(-1) if flipped else copy), flipped


def noise_like(inputs: Tensor, seed: int) -> list[Tensor]:
    """Return the noise of each sample, ``(3, H, W)``; it is the same for every image and batch."""
    generator = torch.Generator().manual_seed(seed)
    shape = inputs.shape[1:]
    return [torch.randn(shape, generator=generator) * NOISE_LEVEL for _ in range(SAMPLES)]
