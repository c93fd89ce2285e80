"""Grid pointing: maps of collages of the run's own images, in which the answer is known."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from camreport.engine.cost import Cost
from camreport.engine.explainer import Explainer
from camreport.engine.explanation import Explanation
from camreport.engine.plan import Plan
from camreport.errors import CamReportError
from camreport.images.preprocessing import Preprocessing
from camreport.insight.drawn import drawn
from camreport.messages.progress import Progress
from camreport.methods import METHODS
from camreport.metrics.controls import edge_strength
from camreport.metrics.grid import SIDE, Collages, collage, grid
from camreport.metrics.grids import resampled
from camreport.metrics.values import Undefined, Values
from camreport.models.loaded import first_line
from camreport.network.memory import is_out_of_memory
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
        failure: how the model failed on a collage; empty if it did not.
    """

    values: Mapping[str, Values]
    doubled: bool
    cost: Cost
    failure: str


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
    own, cost, failure = larger or explainer, Cost(), ""
    todo = [*_batches(len(collages.image), own.batch_size)]
    parts = dict[int, dict[str, Values]]()  # by the first collage
    while todo:
        some = todo.pop(0)
        made = np.stack([collage(read(collages.image[g]), collages.cells[g]) for g in some])
        if larger is None:
            made = resampled(made.astype(np.float64), height, width).astype(np.float32)
        try:
            explained = own.explain(torch.from_numpy(made), torch.from_numpy(collages.target[some]))
        except Exception as error:
            if not own.is_fault_of_model(error):
                raise
            failure = failure or first_line(error)
            if len(some) > 1:
                todo = [*np.array_split(some, len(some)), *todo]
            else:
                parts[some[0]] = {}
            continue
        maps = _maps_with_controls(explained, made, some, preprocessing, seed)
        parts[some[0]] = _shares(maps, collages, some, made)
        cost += explained.cost
        progress(len(some))
    values = _joined([*parts.values()], collages.target.shape[1], own.plan)
    return MeasuredCollages(values, larger is not None, cost, failure)


def _batches(count: int, size: int) -> Iterator[NDArray[np.intp]]:
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


def _larger(explainer: Explainer, height: int, width: int) -> Explainer | None:
    """Return an explainer of images of a larger size; None if the network does not take them."""
    try:
        larger = explainer.resized(height, width)
        return larger if larger.plan else None
    except Exception as error:
        of_ours = isinstance(error, CamReportError) or is_out_of_memory(error)
        if of_ours or explainer.is_fault_of_model(error):
            return None
        raise


def _maps_with_controls(
    explained: Explanation,
    made: NDArray[np.float32],
    some: NDArray[np.intp],
    preprocessing: Preprocessing,
    seed: int,
) -> dict[MapKey, NDArray[np.float32]]:
    """Return the maps of collages ``(n, 3, H, W)`` from their base up, and the controls."""
    maps = {
        MapKey(method, layer): drawn(cams.cpu().numpy(), METHODS[method], leading=2).values
        for method, by_layer in explained.maps.items()
        for layer, cams in by_layer.items()
        if cams.ndim == 4
    }
    edges = [edge_strength(pixels) for pixels in input_pixels(made, preprocessing)]
    return maps | controls_of(edges, grids_of(maps), some, seed)


def _joined(parts: Sequence[Mapping[str, Values]], classes: int, plan: Plan) -> dict[str, Values]:
    """Return the numbers of all collages; those on which the model fails are parts without any."""
    if not parts:
        return {}
    names = dict.fromkeys(name for part in parts for name in part) or {
        f"grid/{method.key}/{layer}": None
        for method in plan.methods
        if not method.per_channel
        for layer in plan.points_by_layer(method)
    }
    nothing = Values.of(np.zeros((1, classes)), (Undefined.FAILED, True))
    return {name: Values.joined([part.get(name, nothing) for part in parts]) for name in names}


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
