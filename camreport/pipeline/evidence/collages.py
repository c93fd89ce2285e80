"""Grid pointing: maps of collages of the run's own images, in which the answer is known."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from camreport.engine.cost import Cost
from camreport.engine.explainer import Explainer
from camreport.images.preprocessing import Preprocessing
from camreport.insight.drawn import drawn
from camreport.messages.progress import Progress
from camreport.methods import METHODS
from camreport.metrics.controls import edge_strength
from camreport.metrics.grid import SIDE, Collages, collage, grid
from camreport.metrics.grids import resampled
from camreport.metrics.values import Values
from camreport.pipeline.evidence.maps import controls_of, grids_of, input_pixels
from camreport.results.schema import MapKey

Read = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Returns the model inputs ``(n, 3, H, W)`` of images by their indices among the run's inputs."""


@dataclass(frozen=True)
class MeasuredCollages:
    """What was measured of a run's collages.

    Attributes:
        values: ``grid/<row>/<layer>`` ``(g, m)`` for each map and control.
        doubled: whether the collages have twice the height and width of an image; if not, they
            have its size, and their images half of it.
        cost: of the passes.
    """

    values: Mapping[str, Values]
    doubled: bool
    cost: Cost


def measure_collages(
    explainer: Explainer,
    collages: Collages,
    read: Read,
    preprocessing: Preprocessing,
    seed: int,
    progress: Progress = lambda collages: None,
) -> MeasuredCollages:
    """Measure whether maps of collages point at the images of their class.

    It takes one forward pass, and one backward pass for each class, of each collage; methods with
    passes of their own take theirs. A few images are in memory at a time.

    Args:
        explainer: of the methods to measure; entered, and with its plan made.
        collages: as from ``choose_collages``.
        read: reads model inputs.
        preprocessing: of the photographs.
        seed: of everything random in the run.
        progress: called with the number of further finished collages.
    """
    height, width = explainer.plan.input_shape[-2:]
    larger = _larger(explainer, height * SIDE, width * SIDE)
    parts: list[dict[str, Values]] = []
    cost, start, count = Cost(), 0, len(collages.image)
    while start < count:
        some = np.arange(start, min(start + (larger or explainer).batch_size, count))
        made = np.stack([collage(read(collages.image[g]), collages.cells[g]) for g in some])
        if larger is None:
            made = resampled(made.astype(np.float64), height, width).astype(np.float32)
        targets = torch.from_numpy(collages.target[some])
        explained = (larger or explainer).explain(torch.from_numpy(made), targets)
        maps = {
            MapKey(method, layer): drawn(cams.cpu().numpy(), METHODS[method], leading=2).values
            for method, by_layer in explained.maps.items()
            for layer, cams in by_layer.items()
            if cams.ndim == 4
        }
        edges = [edge_strength(pixels) for pixels in input_pixels(made, preprocessing)]
        grids = grids_of(maps)
        parts.append(_shares(maps | controls_of(edges, grids, some, seed), collages, some, made))
        cost += explained.cost
        progress(len(some))
        start += len(some)
    values = (
        {name: Values.joined([part[name] for part in parts]) for name in parts[0]} if parts else {}
    )
    return MeasuredCollages(values, larger is not None, cost)


def _larger(explainer: Explainer, height: int, width: int) -> Explainer | None:
    """Return an explainer of images of a larger size; None if the network does not take them."""
    try:
        larger = explainer.resized(height, width)
        return larger if larger.plan else None
    except Exception:  # the network's own code may raise anything
        return None


def _shares(
    maps: Mapping[MapKey, NDArray[np.float32]],
    collages: Collages,
    some: NDArray[np.intp],
    made: NDArray[np.float32],
) -> dict[str, Values]:
    """Return the numbers ``(n, m)`` of the maps and controls of some collages by their names.

    Args:
        maps: ``(n, m, h, w)``, from their base up, or ``(n, 1, h, w)``.
        collages: all of them.
        some: the rows of those that are measured.
        made: ``(n, 3, H, W)``.
    """
    shape, size = collages.target[some].shape, (made.shape[-2], made.shape[-1])
    return {
        f"grid/{key}": grid(
            np.broadcast_to(each, (*shape, *each.shape[-2:])), collages.cells[some], size
        )
        for key, each in maps.items()
    }
