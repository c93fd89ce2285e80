"""Batches measured one after another, and put together."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from camreport.engine.cost import Cost
from camreport.messages import Message, message
from camreport.metrics import METRICS
from camreport.metrics.values import Undefined, Values
from camreport.models.loaded import first_line
from camreport.network.memory import is_out_of_memory
from camreport.pipeline.evidence.batch import EvidenceBatch, Measured
from camreport.pipeline.evidence.kinds import Kind
from camreport.results.evidence import MEASURED_INPUT, SCRAMBLED, SCRAMBLED_IMAGE, NumberKey
from camreport.results.schema import IMAGE
from camreport.results.shards import Arrays


@dataclass
class Gathered:
    """What was measured of some images, to become the arrays of a file.

    Attributes:
        shape: number of images and of classes.
        failures: how the model failed on what it was asked, by metric.
    """

    shape: tuple[int, ...]
    failures: dict[str, str] = field(default_factory=dict)
    _values: dict[str, tuple[NDArray[np.float32], NDArray[np.uint8]]] = field(default_factory=dict)
    _maps: dict[str, list[tuple[NDArray[np.intp], NDArray[np.float32]]]] = field(
        default_factory=dict
    )

    def measure(self, kind: Kind, rows: NDArray[np.intp], batch: EvidenceBatch) -> Cost:
        """Measure the images in some rows, each by itself where the model fails on some of them.

        Where memory runs out, halves are measured.

        Returns:
            what was computed, and the time that it took.
        """
        started, parts = perf_counter(), len(rows)
        try:
            return self._add(rows, kind.measure(batch), started)
        except Exception as error:
            if is_out_of_memory(error) and len(rows) > 1:
                parts = 2
            elif not batch.explainer.is_fault_of_model(error):
                raise
            elif len(rows) == 1:
                self.failures.setdefault(kind.metrics[0], first_line(error))
                return self._add(rows, kind.failed(batch), started)
        few = np.array_split(np.arange(len(rows)), parts)  # what failed is freed by now
        return sum((self.measure(kind, rows[own], _some_of(batch, own)) for own in few), Cost())

    def _add(self, rows: NDArray[np.intp], measured: Measured, started: float = 0) -> Cost:
        """Take what was measured of the images in some rows since a time; return what it cost."""
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
        return replace(measured.cost, seconds=perf_counter() - started)

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
        self._add(rows, Measured(values, {name: arrays[name][rows] for name in whole}))
        if "learned" in metrics and SCRAMBLED_IMAGE in arrays:
            held = np.isin(arrays[SCRAMBLED_IMAGE], indices[rows])
            own = np.flatnonzero(np.isin(indices, arrays[SCRAMBLED_IMAGE][held]))
            names = [name for name in arrays if name.startswith(SCRAMBLED)]
            maps = {name: arrays[name][held] for name in names if name != SCRAMBLED_IMAGE}
            self._add(own, Measured(maps=maps))

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


def failure(metric: str, error: str) -> Message:
    """Return what a reader is told of a model that fails on what a metric asks.

    Args:
        metric: key of the metric.
        error: the first line of the model's error.
    """
    return message("evidence.model_fails", metric=METRICS[metric].name, error=error.rstrip("."))


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
