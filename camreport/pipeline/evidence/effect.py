"""Effect: masked forwards of each image, shared by all its maps, controls and classes."""

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from camreport.engine.cost import Cost
from camreport.engine.masks import masked_drops
from camreport.metrics.effect import (
    SharedMasks,
    additivity,
    cell_means,
    effect,
    effect_ceiling,
    measured_effect,
    shared_masks,
)
from camreport.metrics.values import Values
from camreport.pipeline.evidence.batch import EvidenceBatch, Measured
from camreport.pipeline.evidence.ranked import Reasons, of_every_map


def measure_effect(batch: EvidenceBatch) -> Measured:
    """Measure whether what maps mark matters to the score, for all maps from the same forwards.

    Returns:
        ``effect/<row>/<layer>`` ``(n, K)`` for each map and control; ``effect.ceiling`` and
        ``effect.additivity`` ``(n, K)``; and the measured effects of the cells, ``measured/input``
        ``(n, K, rows, columns)``. The method ``measured`` has no number: it is fitted to such
        masks, and the ceiling is what it reaches on masks left out.
    """
    masks = shared_masks(batch.explainer.plan.cells, batch.seed)
    drops, cost = _drops(batch, masks)  # (n, K, M)
    found = {"effect.ceiling": effect_ceiling(masks, drops)}
    found["effect.additivity"] = additivity(masks, drops)
    rows = {**batch.maps, **batch.controls}
    rows = {key: rows[key] for key in reasons_of_effect(batch)}
    if rows:
        size = (batch.inputs.shape[-2], batch.inputs.shape[-1])
        means = [cell_means(maps, masks.grid, size) for maps in rows.values()]
        shape = (*drops.shape[:2], means[0].shape[-1])
        cells = np.stack([np.broadcast_to(one, shape) for one in means])
        values = effect(cells @ masks.covered.T.astype(np.float64), drops)  # (rows, n, K)
        each = zip(rows, values.numbers, values.reasons, strict=True)
        found |= {f"effect/{key}": Values(numbers, why) for key, numbers, why in each}
    return Measured(found, {"measured/input": measured_effect(masks, drops)}, cost)


def reasons_of_effect(batch: EvidenceBatch) -> Reasons:
    """Return the maps whose effect is asked: all but the measured one."""
    return {key: why for key, why in of_every_map(batch).items() if key.method != "measured"}


def _drops(batch: EvidenceBatch, masks: SharedMasks) -> tuple[NDArray[np.float64], Cost]:
    """Return how far the scores fall under each mask, ``(n, K, M)``, and the passes it took."""
    explainer = batch.explainer
    inputs = torch.from_numpy(batch.inputs).to(explainer.device)
    of_images = inputs, torch.from_numpy(batch.logits), torch.from_numpy(batch.targets)
    run = partial(explainer.variant_logits, progress=batch.progress)
    drops, cost = masked_drops(run, explainer.plan, *of_images, masks)  # (n, M, K)
    return np.moveaxis(drops.numpy(), 1, -1), cost
