"""Batches of evidence with the maps that a network has, and the controls beside them."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from camreport import Explainer
from camreport.images.preprocessing import Preprocessing
from camreport.metrics.controls import edge_strength
from camreport.pipeline.evidence.batch import EvidenceBatch
from camreport.pipeline.evidence.maps import controls_of, input_pixels
from camreport.results.schema import MapKey
from helpers.engine import random_images

METHODS = ("grad_cam", "layer_cam", "hires_cam", "eigen_cam")


def random_maps(seed: int, *shape: int) -> NDArray[np.float32]:
    """Return standard normal maps, rounded so that some values are equal."""
    return np.random.default_rng(seed).standard_normal(shape).round(1).astype(np.float32)


def batch_of(
    net: nn.Module,
    methods: tuple[str, ...] = METHODS,
    layers: tuple[str, ...] = ("0", "3"),
    inputs: NDArray[np.float32] | None = None,
    **further: object,
) -> EvidenceBatch:
    """Return a batch of evidence with a net's own maps and the controls beside them."""
    images = random_images().float().numpy() if inputs is None else inputs
    explainer = Explainer(net, layers, methods, input_shape=images.shape[1:])
    explained = explainer.explain(torch.from_numpy(images), [0, 1])
    maps = {
        MapKey(method, layer): cams.numpy()
        for method, by_layer in explained.maps.items()
        for layer, cams in by_layer.items()
        if cams.ndim == 4
    }
    grids = {key.layer: each.shape[-2:] for key, each in maps.items()}
    edges = [edge_strength(pixels) for pixels in input_pixels(images, Preprocessing())]
    batch = EvidenceBatch(
        explainer=explainer,
        inputs=images,
        maps=maps,
        controls=controls_of(edges, grids, range(len(images)), 0),
        targets=explained.targets.numpy(),
        logits=explained.logits.numpy(),
        indices=np.arange(len(images)),
        preprocessing=Preprocessing(),
        seed=7,
    )
    return replace(batch, **further)
