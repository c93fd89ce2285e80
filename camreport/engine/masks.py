"""The measured effect: forwards of masked images, the same masks for every image."""

from collections.abc import Sequence

import torch
from torch import Tensor

from camreport.engine.batch import Batch, Maps
from camreport.engine.cost import Cost
from camreport.engine.plan import INPUT, Plan
from camreport.engine.score import scores
from camreport.engine.variants import Make, variant_logits
from camreport.methods import Method
from camreport.metrics.effect import MASKS, SharedMasks, cell_of_pixel, shared_masks


def measured_maps(batch: Batch, methods: Sequence[Method], _earlier: Maps) -> tuple[Maps, Cost]:
    """Compute the maps of methods that are fitted to the drops of the score under shared masks."""
    plan, inputs = batch.plan, batch.inputs
    masks = masks_of(plan, plan.options.seed)
    rest = len(inputs) * MASKS
    logits, cost = variant_logits(
        batch.module, plan, batch.limits, rest, masked(inputs, masks), batch.counter.add
    )
    drops = drops_of(plan, batch.reference_logits, logits, batch.targets)
    fit = torch.from_numpy(masks.fit).view(*masks.grid, MASKS).to(drops)
    maps = {m.key: {INPUT: m.compute(drops, fit).float().to(inputs.device)} for m in methods}
    return maps, cost


def masks_of(plan: Plan, seed: int) -> SharedMasks:
    """Return the masks of a run, whose last layer decides on their cells."""
    return shared_masks(plan.cells, seed)


def masked(inputs: Tensor, masks: SharedMasks) -> Make:
    """Return what makes the images under each mask, one image after the other.

    Covered pixels are 0, the mean colour of the preprocessing.

    Args:
        inputs: ``(N, 3, H, W)``, preprocessed.
        masks: M of them.
    """
    size = (inputs.shape[-2], inputs.shape[-1])
    cells = torch.from_numpy(cell_of_pixel(masks.grid, size)).to(inputs.device)
    kept = torch.from_numpy(~masks.covered).to(inputs.device)

    def make(part: slice) -> Tensor:
        variants = torch.arange(part.start, part.stop, device=inputs.device)
        own = kept[variants % len(kept)][:, cells]  # (m, H, W)
        return inputs[variants // len(kept)] * own[:, None]

    return make


def drops_of(plan: Plan, reference: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
    """Return how far the targets' scores fall in changed images, ``(N, M, K)`` float64 on the CPU.

    Args:
        plan: says which score is explained.
        reference: logits of the unchanged images, ``(N, num_classes)``.
        logits: of M changes of each image, ``(N * M, num_classes)``.
        targets: classes, ``(N, K)``.
    """
    changed = logits.cpu().view(len(reference), -1, logits.shape[-1]).double()
    reference = reference.cpu().double()
    asked = targets.cpu(), plan.options.quantity, plan.activation
    return scores(reference[:, None], reference, *asked) - scores(changed, reference, *asked)
