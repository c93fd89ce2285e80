"""Batches measured one after another, and put together."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from camreport.engine.cost import Cost
from camreport.metrics.values import Undefined, Values
from camreport.network.memory import is_out_of_memory
from camreport.pipeline.evidence.batch import EvidenceBatch, Measured
from camreport.pipeline.evidence.kinds import Kind
from camreport.results.evidence import MEASURED_INPUT, SCRAMBLED, SCRAMBLED_IMAGE, NumberKey
from camreport.results.schema import IMAGE
from camreport.results.shards import Arrays


def measured(kind: Kind, batch: EvidenceBatch) -> Measured:
    """Measure a batch; where memory runs out, its halves."""
    started = perf_counter()
    try:
        found = kind.measure(batch)
        seconds = perf_counter() - started
        return replace(found, cost=replace(found.cost, seconds=seconds))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error) or len(batch.indices) == 1:
            raise
    middle = len(batch.indices) // 2  # outside the handler: what failed is freed
    halves = np.arange(middle), np.arange(middle, len(batch.indices))
    return _joined([measured(kind, _some_of(batch, rows)) for rows in halves])


@dataclass
class Gathered:
    """What was measured of some images, to become the arrays of a file.

    Attributes:
        shape: number of images and of classes.
    """

    shape: tuple[int, ...]
    _values: dict[str, tuple[NDArray[np.float32], NDArray[np.uint8]]] = field(default_factory=dict)
    _maps: dict[str, list[tuple[NDArray[np.intp], NDArray[np.float32]]]] = field(
        default_factory=dict
    )

    def add(self, rows: NDArray[np.intp], measured: Measured) -> None:
        """Take what was measured of the images in some rows."""
        for name, own in measured.values.items():
            if name not in self._values:
                shape = (*self.shape, *own.numbers.shape[2:])
                self._values[name] = (
                    np.full(shape, np.nan, np.float32),
                    np.full(shape, Undefined.NOT_MEASURED, np.uint8),
                )
            numbers, reasons = self._values[name]
            numbers[rows], reasons[rows] = own.numbers, own.reasons
        for name, maps in measured.maps.items():
            self._maps.setdefault(name, []).append((rows, maps))

    def take(
        self,
        metrics: Collection[str],
        rows: NDArray[np.intp],
        indices: NDArray[np.int64],
        arrays: Arrays,
    ) -> None:
        """Take what an earlier run measured of the images in some rows, from a file of these rows.

        Args:
            metrics: keys of the metrics to take.
            rows: of the images.
            indices: of all images of the file among the run's inputs.
            arrays: of the file.
        """
        values = dict[str, Values]()
        for name, array in arrays.items():
            key = NumberKey.parse(name)
            if array.dtype == np.float32 and key.metric in metrics:
                reasons = arrays.get(key.reasons, np.zeros(array.shape, np.uint8))
                values[name] = Values(array[rows], reasons[rows])
        whole = [MEASURED_INPUT] if "effect" in metrics and MEASURED_INPUT in arrays else []
        self.add(rows, Measured(values, {name: arrays[name][rows] for name in whole}))
        if "learned" in metrics and SCRAMBLED_IMAGE in arrays:
            held = np.isin(arrays[SCRAMBLED_IMAGE], indices[rows])
            own = np.flatnonzero(np.isin(indices, arrays[SCRAMBLED_IMAGE][held]))
            names = [name for name in arrays if name.startswith(SCRAMBLED)]
            maps = {name: arrays[name][held] for name in names if name != SCRAMBLED_IMAGE}
            self.add(own, Measured(maps=maps))

    def values(self, metrics: Collection[str]) -> dict[NumberKey, Values]:
        """Return the numbers ``(n, K)`` and curves ``(n, K, T)`` of some metrics, by name."""
        return {
            key: Values(*self._values[name])
            for name in sorted(self._values)
            if (key := NumberKey.parse(name)).metric in metrics
        }

    def arrays(self, indices: NDArray[np.int64], metrics: Collection[str]) -> Arrays:
        """Return the arrays of the file.

        Args:
            indices: of the images among the run's inputs.
            metrics: keys of the metrics whose numbers are kept.
        """
        found: Arrays = {IMAGE: indices}
        for key, own in self.values(metrics).items():
            found[str(key)] = own.numbers
            if own.numbers.ndim == 2 and own.reasons.any():  # a curve is as its number is
                found[key.reasons] = own.reasons
        for name, parts in sorted(self._maps.items()):
            rows = np.concatenate([own for own, _ in parts])
            order = np.argsort(rows)
            rows, maps = rows[order], np.concatenate([own for _, own in parts])[order]
            if name.startswith(SCRAMBLED):
                found[SCRAMBLED_IMAGE], found[name] = indices[rows], maps
            else:
                found[name] = np.full((len(indices), *maps.shape[1:]), np.nan, np.float32)
                found[name][rows] = maps
        return found


def _some_of(batch: EvidenceBatch, rows: NDArray[np.intp]) -> EvidenceBatch:
    """Return some images of a batch, by their rows."""
    return replace(
        batch,
        inputs=batch.inputs[rows] if len(batch.inputs) else batch.inputs,
        maps={key: maps[rows] for key, maps in batch.maps.items()},
        controls={key: maps[rows] for key, maps in batch.controls.items()},
        targets=batch.targets[rows],
        logits=batch.logits[rows],
        indices=batch.indices[rows],
    )


def _joined(parts: Sequence[Measured]) -> Measured:
    """Return what was measured of several batches, in order."""
    first = parts[0]
    return Measured(
        {name: Values.joined([part.values[name] for part in parts]) for name in first.values},
        {name: np.concatenate([part.maps[name] for part in parts]) for name in first.maps},
        sum((part.cost for part in parts), Cost()),
    )
