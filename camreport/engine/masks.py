"""The measured effect: forwards of masked images, the same masks for every image."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from camreport.engine.batch import Batch, Maps
from camreport.engine.cost import Cost
from camreport.engine.plan import INPUT, Plan
from camreport.engine.score import scores
from camreport.engine.variants import Make, variant_logits
from camreport.methods import Method
from camreport.metrics.effect import MASKS, SharedMasks, cell_of_pixel, shared_masks

Run = Callable[[int, Make], tuple[Tensor, Cost]]
"""Runs changed images: from their number and what makes them to their logits, and the passes."""


def measured_maps(batch: Batch, methods: Sequence[Method], _earlier: Maps) -> tuple[Maps, Cost]:
    """Compute the maps of methods that are fitted to the drops of the score under shared masks."""
    plan, inputs = batch.plan, batch.inputs
    masks = shared_masks(plan.cells, plan.options.seed)

    def run(count: int, make: Make) -> tuple[Tensor, Cost]:
        return variant_logits(batch.module, plan, batch.limits, count, make, batch.counter.add)

    drops, cost = masked_drops(run, plan, inputs, batch.reference_logits, batch.targets, masks)
    fit = torch.from_numpy(masks.fit).view(*masks.grid, MASKS)
    maps = {m.key: {INPUT: m.compute(drops, fit).float().to(inputs.device)} for m in methods}
    return maps, cost


def masked_drops(
    run: Run, plan: Plan, inputs: Tensor, reference: Tensor, targets: Tensor, masks: SharedMasks
) -> tuple[Tensor, Cost]:
    """Return how far the targets' scores fall under each mask, and the passes it took.

    Covered pixels are 0, the mean colour of the preprocessing. The masked images of one image run
    together, so that neither memory nor a result depends on its batch mates.

    Args:
        run: runs the masked images of one image.
        plan: says which score is explained.
        inputs: ``(N, 3, H, W)``, preprocessed, on the model's device.
        reference: logits of the images, ``(N, num_classes)``.
        targets: classes, ``(N, K)``.
        masks: M of them.

    Returns:
        drops ``(N, M, K)``, float64 on the CPU.
    """
    size = (inputs.shape[-2], inputs.shape[-1])
    cells = torch.from_numpy(cell_of_pixel(masks.grid, size)).to(inputs.device)
    kept = torch.from_numpy(~masks.covered).to(inputs.device)
    drops, cost = list[Tensor](), Cost()
    for row, image in enumerate(inputs):

        def make(part: slice, image: Tensor = image) -> Tensor:
            return image * kept[part][:, None, cells]

        logits, passes = run(MASKS, make)
        cost += passes
        own = reference[row : row + 1].cpu().double()
        asked = own, targets[row : row + 1].cpu(), plan.options.quantity, plan.activation
        masked = scores(logits.cpu().double()[None], *asked)
        drops.append(scores(own[None], *asked) - masked)
    return torch.cat(drops), cost
