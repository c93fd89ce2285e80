"""What every kind of evidence receives, and what it returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from camreport.engine.cost import Cost
from camreport.engine.explainer import Explainer
from camreport.images.preprocessing import Preprocessing
from camreport.images.regions.region import PhotoRegions
from camreport.messages.progress import Progress
from camreport.metrics.values import Values
from camreport.results.schema import MapKey


@dataclass(frozen=True)
class EvidenceBatch:
    """Some explained images with their maps.

    Attributes:
        explainer: of the run; entered, and with its plan made.
        inputs: float32 ``(n, 3, H, W)``, preprocessed, on the CPU.
        maps: raw maps ``(n, K, h, w)`` float32 by method and layer, without those in colours or
            of channels.
        controls: maps that know nothing of the model, ``(n, 1, h, w)``, by ``control:<name>`` and
            layer.
        targets: int64 ``(n, K)``, the classes explained.
        logits: float32 ``(n, num_classes)`` of the unchanged images.
        indices: int64 ``(n,)``, of the images among the run's inputs: seeds of what is random in
            one image come from it, so that no result depends on batch mates.
        preprocessing: of the photographs.
        seed: of everything random.
        regions: of the photographs, by their indices among the run's inputs.
        every_map: whether order is measured of every map, not only of the predicted class's at the
            last layer and fused.
        progress: called with the number of further finished passes over one image.
    """

    explainer: Explainer
    inputs: NDArray[np.float32]
    maps: Mapping[MapKey, NDArray[np.float32]]
    controls: Mapping[MapKey, NDArray[np.float32]]
    targets: NDArray[np.int64]
    logits: NDArray[np.float32]
    indices: NDArray[np.int64]
    preprocessing: Preprocessing
    seed: int
    regions: Mapping[int, PhotoRegions] = field(default_factory=dict)
    every_map: bool = False
    progress: Progress = lambda passes: None


@dataclass(frozen=True)
class Measured:
    """What one kind of evidence measured of a batch.

    Attributes:
        values: numbers ``(n, K)``, or curves ``(n, K, T)``, by the name of their array:
            ``effect/grad_cam/features.12`` for a map, ``effect.ceiling`` for an image and class.
        maps: further raw maps, ``(n, K, h, w)`` float32, by the name of their array.
        cost: of the passes.
    """

    values: Mapping[str, Values] = field(default_factory=dict)
    maps: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
