"""One shard of a run: a pure function of the plan and of the shard's inputs."""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from math import isfinite

import numpy as np
import torch
from numpy.typing import NDArray

from camreport.engine import cost as engine
from camreport.engine.explainer import Explainer, Explanation
from camreport.images.inputs import InputFile
from camreport.images.loading import FailedInput, LoadedImage
from camreport.messages import Message
from camreport.messages.progress import Progress
from camreport.methods import METHODS
from camreport.pipeline.run_plan import RunPlan, as_message, as_messages
from camreport.results.reader import probabilities
from camreport.results.schema import (
    CHANNEL_WEIGHTS,
    FEATURE_MAPS,
    IMAGE,
    LOGITS,
    PHOTO,
    PHOTO_OFFSETS,
    TARGETS,
    Cost,
    ImageEntry,
    MapKey,
    Prediction,
    TotalCost,
)
from camreport.results.shards import Arrays, pack_photos, shard_name

TOP_PREDICTIONS = 5
"""Predictions kept for each image."""

Decoded = tuple[int, LoadedImage | FailedInput]
"""An input's index, and what came of reading it."""


@dataclass(frozen=True)
class Shard:
    """What was computed of a shard's inputs.

    Attributes:
        arrays: of the n readable ones, by key; empty where there is none.
        images: records of all of them, without labels and names of classes.
        cost: what it took.
        findings: what the passes have shown that a reader should know.
    """

    arrays: Arrays
    images: tuple[ImageEntry, ...]
    cost: TotalCost
    findings: tuple[Message, ...]


def compute_shard(
    plan: RunPlan,
    explainer: Explainer,
    targets: Sequence[int] | str,
    files: Sequence[InputFile],
    number: int,
    decoded: Iterable[Decoded],
    progress: Progress = lambda inputs: None,
) -> Shard:
    """Compute one shard, batch by batch; nothing that was computed before it plays a part.

    On one device its arrays are the same bytes in whatever order shards are computed. A batch
    that does not fit into memory is halved; its bytes are then those of the halves.

    Args:
        plan: of the run.
        explainer: of the methods to compute.
        targets: classes to explain, as for ``explain``.
        files: all inputs of the run.
        number: of the shard.
        decoded: the shard's inputs, in order; read as far as the next batch needs them.
        progress: called with the number of newly finished inputs.

    Raises:
        ClassError, LayerError, MemoryLimitError, ModelError: as for ``explain``.
    """
    started = time.perf_counter()
    entries: list[ImageEntry] = []
    photos: list[bytes] = []
    parts: list[Explanation] = []
    for batch in _batches(decoded, plan.batch):
        told = _BatchProgress(progress, len(batch))
        readable = {i: image for i, image in batch if isinstance(image, LoadedImage)}
        if readable:
            inputs = np.stack([image.model_input for image in readable.values()])
            parts.append(explainer(torch.from_numpy(inputs), targets, progress=told))
        logits = iter(parts[-1].logits.cpu().numpy() if readable else ())
        for index, image in batch:
            name = files[index].name
            if isinstance(image, FailedInput):
                entries.append(_failed_entry(index, name, image))
            else:
                top = _top(next(logits), plan.activation)
                entries.append(_read_entry(index, name, image, number, len(photos), top))
                photos.append(image.photo)
        told(1)
    arrays: Arrays = {}
    if parts:
        arrays = _arrays(parts)
        indices = [entry.index for entry in entries if entry.readable]
        arrays[IMAGE] = np.array(indices, dtype=np.int64)
        arrays[PHOTO], arrays[PHOTO_OFFSETS] = pack_photos(photos)
    findings = dict.fromkeys(note for part in parts for note in as_messages(part.findings))
    cost = _cost([part.costs for part in parts], time.perf_counter() - started)
    return Shard(arrays, tuple(entries), cost, tuple(findings))


def with_methods(old: Shard, new: Shard) -> Shard:
    """Return a shard with the maps of further methods; what it held before stays as it is."""
    cost = total_cost([old.cost, new.cost])
    findings = tuple(dict.fromkeys((*old.findings, *new.findings)))
    return Shard(new.arrays | old.arrays, old.images, cost, findings)


def in_order(arrays: Arrays, methods: Collection[str], layers: Sequence[str]) -> Arrays:
    """Return the arrays of some methods, in the order of the registry and of the layers.

    The bytes of a shard's file then do not tell in which order methods were asked for.

    Args:
        arrays: of a shard.
        methods: keys of the methods to keep.
        layers: addresses in network order.
    """
    known = [key for key in METHODS if key in methods]
    places = {name: place for place, name in enumerate([*known, FEATURE_MAPS, CHANNEL_WEIGHTS])}
    rows = {name: row for row, name in enumerate(layers)}
    ranks: dict[str, tuple[int, int, str]] = {}
    for name in arrays:
        key = MapKey.parse(name)
        if key is None:
            ranks[name] = len(places), 0, name
        elif key.method in places:
            ranks[name] = places[key.method], rows.get(key.layer, len(rows)), name
    return {name: arrays[name] for name in sorted(ranks, key=ranks.__getitem__)}


def total_cost(costs: Sequence[TotalCost]) -> TotalCost:
    """Add up the costs of shards, in all and by kind of passes."""
    names = dict.fromkeys(name for cost in costs for name in cost.families)
    families = {
        name: _added([cost.families[name] for cost in costs if name in cost.families])
        for name in names
    }
    whole = _added(costs)
    return TotalCost(**asdict(whole), families=families)


class _BatchProgress:
    """Turns the finished fraction of a batch into newly finished inputs; it never goes back."""

    def __init__(self, progress: Progress, inputs: int) -> None:
        self._progress, self._inputs, self._told = progress, inputs, 0.0

    def __call__(self, fraction: float) -> None:
        done = fraction * self._inputs
        if done > self._told:
            self._progress(done - self._told)
            self._told = done


def _batches(decoded: Iterable[Decoded], size: int) -> Iterator[list[Decoded]]:
    """Yield inputs in lists of ``size``; a failed one keeps its place, whatever was read before."""
    inputs = iter(decoded)
    while batch := list(islice(inputs, size)):
        yield batch


def _arrays(parts: Sequence[Explanation]) -> Arrays:
    """Return the arrays of several batches together, on the CPU."""
    joined: dict[str, list[NDArray[np.generic]]] = {}
    for part in parts:
        for name, array in _named_arrays(part):
            joined.setdefault(name, []).append(array)
    return {name: np.concatenate(arrays) for name, arrays in joined.items()}


def _named_arrays(part: Explanation) -> Iterator[tuple[str, NDArray[np.generic]]]:
    for method, by_layer in part.maps.items():
        for layer, cams in by_layer.items():
            yield str(MapKey(method, layer)), cams.cpu().numpy()
    for address, channels in part.channels.items():
        yield str(MapKey(FEATURE_MAPS, address)), channels.features.numpy()
        yield str(MapKey(CHANNEL_WEIGHTS, address)), channels.weights.cpu().numpy()
    yield LOGITS, part.logits.cpu().numpy()
    yield TARGETS, part.targets.cpu().numpy()


def _read_entry(
    index: int,
    name: str,
    image: LoadedImage,
    number: int,
    row: int,
    top: tuple[Prediction, ...],
) -> ImageEntry:
    return ImageEntry(
        index=index,
        file=name,
        sha256=image.sha256,
        width=image.width,
        height=image.height,
        status="ok",
        note=as_message(image.note) if image.note else None,
        shard=shard_name(number),
        row=row,
        top=top,
    )


def _failed_entry(index: int, name: str, failure: FailedInput) -> ImageEntry:
    return ImageEntry(
        index=index,
        file=name,
        sha256=failure.sha256,
        width=None,
        height=None,
        status="failed",
        reason=as_message(failure.reason),
        transient=failure.transient,
    )


def _top(logits: NDArray[np.float32], activation: str) -> tuple[Prediction, ...]:
    """Return the most probable classes of one image, most probable first, without names."""
    shares = probabilities(logits, activation)
    order = np.argsort(-shares, kind="stable")[:TOP_PREDICTIONS]
    return tuple(
        Prediction(index=int(i), name="", probability=round(float(shares[i]), 6))
        for i in order
        if isfinite(shares[i])
    )


def _cost(batches: Sequence[Mapping[str, engine.Cost]], seconds: float) -> TotalCost:
    """Return what batches cost, by kind of passes, and the seconds from start to end."""
    families: dict[str, engine.Cost] = {}
    for costs in batches:
        for passes, cost in costs.items():
            families[passes] = families.get(passes, engine.Cost()) + cost
    whole = asdict(sum(families.values(), engine.Cost())) | {"seconds": round(seconds, 3)}
    entries = {name: _added([Cost(**asdict(cost))]) for name, cost in families.items()}
    return TotalCost(**whole, families=entries)


def _added(costs: Sequence[Cost]) -> Cost:
    return Cost(
        forwards=sum(cost.forwards for cost in costs),
        backwards=sum(cost.backwards for cost in costs),
        variants=sum(cost.variants for cost in costs),
        maps=sum(cost.maps for cost in costs),
        seconds=round(sum(cost.seconds for cost in costs), 3),
    )
