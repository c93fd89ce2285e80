"""The run's maps computed again: of changed images, or of a changed network."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from camreport.engine.cost import Cost
from camreport.engine.explainer import Explainer
from camreport.engine.passes import passes_of
from camreport.methods.registry import SHARED
from camreport.pipeline.evidence.batch import EvidenceBatch
from camreport.results.schema import MapKey


def of_shared_passes(batch: EvidenceBatch) -> EvidenceBatch:
    """Return a batch with the maps of one forward and one backward pass per class alone.

    They cost together what one of them costs; other methods take passes of their own.
    """
    plan = batch.explainer.plan
    shared = {method.key for method in plan.methods if passes_of(method, plan) == SHARED}
    maps = {key: maps for key, maps in batch.maps.items() if key.method in shared}
    return replace(batch, maps=maps)


def explainer_of(batch: EvidenceBatch) -> Explainer:
    """Return the run's explainer, restricted to the methods of the batch's maps."""
    keys = {key.method for key in batch.maps}
    return batch.explainer.only([m for m in batch.explainer.plan.methods if m.key in keys])


def maps_again(
    explainer: Explainer, inputs: NDArray[np.float32], batch: EvidenceBatch
) -> tuple[dict[MapKey, NDArray[np.float32]], NDArray[np.float32], Cost]:
    """Return the batch's maps and logits as they are for other inputs or another network.

    Args:
        explainer: of the batch's methods, as from ``explainer_of``.
        inputs: ``(n, 3, H, W)``, preprocessed, in place of the batch's.
        batch: says which maps and classes.

    Returns:
        maps ``(n, K, h, w)`` by method and layer, logits ``(n, num_classes)``, and the passes.
    """
    explained = explainer.explain(torch.from_numpy(inputs), torch.from_numpy(batch.targets))
    found = {
        key: explained.maps[key.method][key.layer].cpu().numpy()
        for key in batch.maps
        if key.layer in explained.maps.get(key.method, {})
    }
    batch.progress(len(inputs))
    return found, explained.logits.cpu().numpy(), explained.cost
