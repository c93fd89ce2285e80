"""Learned: the maps of networks with permuted weights, and their similarity to the run's."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from camreport.engine.cost import Cost
from camreport.metrics import METRICS
from camreport.metrics.grids import resampled
from camreport.metrics.learned import learned
from camreport.metrics.values import Undefined, Values
from camreport.network.scrambled import FixedWeightsError
from camreport.pipeline.evidence.batch import EvidenceBatch, Measured
from camreport.pipeline.evidence.repeated import explainer_of, maps_again
from camreport.results.schema import MapKey

SEEDS = 3
"""Number of scrambled networks."""


def scramble_seeds(seed: int) -> tuple[int, ...]:
    """Return the seeds of a run's scrambled networks, which name their maps in the results."""
    return tuple((seed + number) % 2**63 for number in range(SEEDS))


def measure_learned(batch: EvidenceBatch) -> Measured:
    """Measure how similar maps are to those of the same network with permuted weights.

    It takes one forward pass, and one backward pass for each class, in each of the scrambled
    networks; methods with passes of their own take theirs.

    Returns:
        ``learned/<row>/<layer>`` and ``learned.edges/<row>/<layer>`` ``(n, K)`` for each map and
        control; the maps of the scrambled networks, ``scrambled.<seed>/<method>/<layer>``
        ``(n, K, h, w)``. A network without weights that can be permuted has neither.
    """
    explainer, cost = explainer_of(batch), Cost()
    found: dict[int, dict[MapKey, NDArray[np.float32]]] = {}
    try:
        for seed in scramble_seeds(batch.seed):
            with batch.explainer.scrambled(seed):
                found[seed], _, passes = maps_again(explainer, batch.inputs, batch)
            cost += passes
    except FixedWeightsError:
        nothing = Values.of(np.zeros(batch.targets.shape), (Undefined.FIXED_WEIGHTS, True))
        names = [number.key for number in METRICS["learned"].numbers]
        rows = (*batch.maps, *batch.controls)
        return Measured({f"{name}/{key}": nothing for name in names for key in rows})
    pairs = dict[MapKey, NDArray[np.float32] | None](dict.fromkeys(batch.controls))
    for key in batch.maps:
        others = [of[key] for of in found.values() if key in of]
        pairs |= {key: np.stack(others)} if others else {}
    with ThreadPoolExecutor() as pool:  # ranking takes NumPy's time, and no lock
        every = [*pool.map(partial(_numbers, batch), pairs, pairs.values())]
    values = {name: each for own in every for name, each in own.items()}
    kept = {
        f"scrambled.{seed}/{key}": maps for seed, of in found.items() for key, maps in of.items()
    }
    return Measured(values, kept, cost)


def _numbers(
    batch: EvidenceBatch, key: MapKey, others: NDArray[np.float32] | None
) -> dict[str, Values]:
    """Return the numbers ``(n, K)`` of one map or control by their names."""
    maps = batch.maps[key] if key in batch.maps else batch.controls[key]
    edges = _on_grid(batch.controls[MapKey("control:edges", key.layer)], *maps.shape[-2:])
    shape = batch.targets.shape
    return {
        f"{number}/{key}": values.of_shape(shape)
        for number, values in learned(maps, others, edges).items()
    }


def _on_grid(edges: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Return edges ``(n, 1, h, w)`` on a grid, which may be coarser: ``input`` has two of them."""
    return resampled(edges.astype(np.float64), height, width).astype(np.float32)
