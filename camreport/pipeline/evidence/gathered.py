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
from camreport.results.evidence import SCRAMBLED, SCRAMBLED_IMAGE, NumberKey
from camreport.results.schema import IMAGE
from camreport.results.shards import Arrays


@dataclass
class Gathered:
    """What was measured of some images, to become the arrays of a file.

    Attributes:
        shape: number of images and of classes.
        costs: of the passes, by metric.
        failures: how the model failed on what it was asked, by metric.
    """

    shape: tuple[int, ...]
    costs: dict[str, Cost] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    _values: dict[str, tuple[NDArray[np.float32], NDArray[np.uint8]]] = field(default_factory=dict)
    _maps: dict[str, list[tuple[NDArray[np.intp], NDArray[np.float32]]]] = field(
        default_factory=dict
    )

    def measure(self, kind: Kind, rows: NDArray[np.intp], batch: EvidenceBatch) -> None:
        """Measure the images in some rows, each by itself where the model fails on some of them.

        Where memory runs out, halves are measured.
        """
        started, parts = perf_counter(), len(rows)
        try:
            found = kind.measure(batch)
            return self._add(kind, rows, found, perf_counter() - started)
        except Exception as error:
            if is_out_of_memory(error) and len(rows) > 1:
                parts = 2
            elif not batch.explainer.is_fault_of_model(error):
                raise
            elif len(rows) == 1:
                self.failures.setdefault(kind.metrics[0], first_line(error))
                return self._add(kind, rows, kind.failed(batch), perf_counter() - started)
        for own in np.array_split(np.arange(len(rows)), parts):  # what failed is freed by now
            self.measure(kind, rows[own], _some_of(batch, own))

    def _add(self, kind: Kind, rows: NDArray[np.intp], measured: Measured, seconds: float) -> None:
        """Take what was measured of the images in some rows, and the time that it took."""
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
        metric = kind.metrics[0]
        cost = replace(measured.cost, seconds=seconds)
        self.costs[metric] = self.costs.get(metric, Cost()) + cost

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
            maps = np.concatenate([own for _, own in parts])
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
