"""One shard of a run: a pure function of the plan and of the shard's inputs."""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from math import isfinite
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from camreport.engine import cost as engine
from camreport.engine.explainer import Explainer
from camreport.engine.explanation import Explanation
from camreport.engine.inputs import model_inputs
from camreport.engine.transfer import Transfer
from camreport.images.inputs import InputFile
from camreport.images.loading import FailedInput, LoadedImage
from camreport.images.preprocessing import Preprocessing
from camreport.messages import Message
from camreport.messages.progress import Progress
from camreport.methods import METHODS
from camreport.pipeline.run_plan import RunPlan, as_message, as_messages
from camreport.results.costs import Cost, TotalCost
from camreport.results.reader import probabilities
from camreport.results.schema import (
    CHANNEL_CONTRIBUTIONS,
    CHANNEL_WEIGHTS,
    FEATURE_MAPS,
    IMAGE,
    LOGITS,
    PHOTO,
    PHOTO_OFFSETS,
    TARGETS,
    ImageEntry,
    MapKey,
    Prediction,
)
from camreport.results.shards import Arrays, pack_photos, shard_name

TOP_PREDICTIONS = 5
"""Number of predictions kept for each image."""

Item = TypeVar("Item")

Decoded = tuple[int, LoadedImage | FailedInput]
"""An input's index, and the image or the reason why it could not be read."""


@dataclass(frozen=True)
class Shard:
    """The results for the inputs of a shard.

    Attributes:
        arrays: arrays of the n readable inputs, by key; empty if no input is readable.
        images: records of all inputs, without labels and class names.
        cost: the cost of the computation.
        findings: notes for the reader that result from these images.
    """

    arrays: Arrays
    images: tuple[ImageEntry, ...]
    cost: TotalCost
    findings: tuple[Message, ...]


def compute_shard(
    plan: RunPlan,
    explainer: Explainer,
    preprocessing: Preprocessing,
    targets: Sequence[int] | str,
    files: Sequence[InputFile],
    number: int,
    decoded: Iterable[Decoded],
    progress: Progress = lambda inputs: None,
) -> Shard:
    """Compute one shard, batch by batch; the result does not depend on earlier computations.

    On one device the arrays have the same bytes in whatever order shards are computed. A batch
    that does not fit into memory is halved; the last bits of its maps may then differ.

    Args:
        plan: the plan of the run.
        explainer: the explainer of the methods to compute.
        preprocessing: the model's.
        targets: classes to explain, as for ``explain``.
        files: all inputs of the run.
        number: the number of the shard.
        decoded: the shard's inputs, in order; consumed batch by batch.
        progress: called with the number of newly finished inputs.

    Raises:
        ClassError, LayerError, MemoryLimitError, ModelError: as for ``explain``.
    """
    started = time.perf_counter()
    entries: list[ImageEntry] = []
    photos: list[bytes] = []
    parts: list[Part] = []

    begin = partial(_begun, explainer, preprocessing, targets, progress)
    for each in one_behind(map(begin, batches(decoded, plan.batch))):
        parts += [each.part] if each.part else []
        logits = iter(each.part.maps.arrays()[LOGITS] if each.part else ())
        for index, image in each.batch:
            name = files[index].name
            if isinstance(image, FailedInput):
                entries.append(_failed_entry(index, name, image))
            else:
                top = _top(next(logits), plan.activation)
                entries.append(_read_entry(index, name, image, number, len(photos), top))
                photos.append(image.photo)
        each.report(1)
    arrays: Arrays = {}
    if parts:
        arrays = joined_arrays(parts)
        indices = [entry.index for entry in entries if entry.readable]
        arrays[IMAGE] = np.array(indices, dtype=np.int64)
        arrays[PHOTO], arrays[PHOTO_OFFSETS] = pack_photos(photos)
    findings = dict.fromkeys(note for part in parts for note in as_messages(part.findings))
    cost = cost_of([part.costs for part in parts], time.perf_counter() - started)
    return Shard(arrays, tuple(entries), cost, tuple(findings))


def with_methods(old: Shard, new: Shard) -> Shard:
    """Return a shard with further maps and vectors added; its own arrays stay unchanged."""
    cost = total_cost([old.cost, new.cost])
    findings = tuple(dict.fromkeys((*old.findings, *new.findings)))
    return Shard(new.arrays | old.arrays, old.images, cost, findings)


def in_order(
    arrays: Arrays, methods: Collection[str], layers: Sequence[str], contributions: str | None
) -> Arrays:
    """Return the arrays of some methods, in the order of the registry and of the layers.

    So the bytes of a shard's file do not depend on the order in which methods were requested.

    Args:
        arrays: the arrays of a shard.
        methods: keys of the methods to keep.
        layers: addresses in network order.
        contributions: address of the layer whose contributions to keep; None for none.
    """
    known = [key for key in METHODS if key in methods]
    kinds = [*known, FEATURE_MAPS, CHANNEL_WEIGHTS, CHANNEL_CONTRIBUTIONS]
    groups = {name: i for i, name in enumerate(kinds)}
    rows = {name: row for row, name in enumerate(layers)}
    ranks: dict[str, tuple[int, int, str]] = {}
    for name in arrays:
        key = MapKey.parse(name)
        if key and key.method == CHANNEL_CONTRIBUTIONS and key.layer != contributions:
            continue
        if key is None or key.method not in METHODS.keys() | groups.keys():
            ranks[name] = len(groups), 0, name
        elif key.method in groups:
            ranks[name] = groups[key.method], rows.get(key.layer, len(rows)), name
    return {name: arrays[name] for name in sorted(ranks, key=ranks.__getitem__)}


def total_cost(costs: Sequence[TotalCost]) -> TotalCost:
    """Add up the costs of shards, in total and by kind of passes."""
    names = dict.fromkeys(name for cost in costs for name in cost.families)
    families = {
        name: _added([cost.families[name] for cost in costs if name in cost.families])
        for name in names
    }
    whole = _added(costs)
    return TotalCost(**asdict(whole), families=families)


class _BatchProgress:
    """Converts the finished fraction of a batch to newly finished inputs; never negative ones."""

    def __init__(self, progress: Progress, inputs: int) -> None:
        self._progress, self._inputs, self._reported = progress, inputs, 0.0

    def __call__(self, fraction: float) -> None:
        done = fraction * self._inputs
        if done > self._reported:
            self._progress(done - self._reported)
            self._reported = done


@dataclass(frozen=True)
class Part:
    """What is kept of a batch's explanation: no memory of the model's device.

    Attributes:
        maps: and the other arrays of a shard, by their names, on their way to the CPU.
        costs: by kind of passes.
        findings: notes for the reader that result from these images.
    """

    maps: Transfer
    costs: Mapping[str, engine.Cost]
    findings: tuple[Message, ...]

    @classmethod
    def of(cls, explanation: Explanation) -> "Part":
        """Return the part of an explanation; the copy of its maps begins."""
        maps = Transfer(dict(_named_tensors(explanation)))
        return cls(maps, explanation.costs, explanation.findings)


@dataclass(frozen=True)
class _Begun:
    """A batch whose maps are being computed; no part if no input of it is readable."""

    batch: Sequence[Decoded]
    part: Part | None
    report: _BatchProgress


def _begun(
    explainer: Explainer,
    preprocessing: Preprocessing,
    targets: Sequence[int] | str,
    progress: Progress,
    batch: Sequence[Decoded],
) -> _Begun:
    """Have a batch's maps computed; on a GPU they are still to come when this returns."""
    report = _BatchProgress(progress, len(batch))
    pixels = [image.pixels for _, image in batch if isinstance(image, LoadedImage)]
    if not pixels:
        return _Begun(batch, None, report)
    inputs = model_inputs(pixels, preprocessing, explainer.device)
    return _Begun(batch, Part.of(explainer(inputs, targets, progress=report)), report)


def one_behind(items: Iterable[Item]) -> Iterator[Item]:
    """Yield items in order, each once the next one has been made.

    So a device computes the next batch while the CPU waits for what the last one has given.
    """
    earlier: list[Item] = []
    for item in items:
        yield from earlier
        earlier = [item]
    yield from earlier


def batches(decoded: Iterable[Decoded], size: int) -> Iterator[list[Decoded]]:
    """Yield inputs in lists of ``size``; failed inputs count, so every batch is always the same."""
    inputs = iter(decoded)
    while batch := list(islice(inputs, size)):
        yield batch


def joined_arrays(parts: Sequence[Part]) -> Arrays:
    """Return the joined arrays of several batches."""
    arrays = [part.maps.arrays() for part in parts]
    names = dict.fromkeys(name for own in arrays for name in own)
    return {name: np.concatenate([own[name] for own in arrays]) for name in names}


def _named_tensors(explanation: Explanation) -> Iterator[tuple[str, Tensor]]:
    for method, by_layer in explanation.maps.items():
        for layer, cams in by_layer.items():
            yield str(MapKey(method, layer)), cams
    for address, channels in explanation.channels.items():
        yield str(MapKey(FEATURE_MAPS, address)), channels.features
        yield str(MapKey(CHANNEL_WEIGHTS, address)), channels.weights
    for address, sums in explanation.contributions.items():
        yield str(MapKey(CHANNEL_CONTRIBUTIONS, address)), sums
    yield LOGITS, explanation.logits
    yield TARGETS, explanation.targets


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
    chances = probabilities(logits, activation)
    order = np.argsort(-chances, kind="stable")[:TOP_PREDICTIONS]
    return tuple(
        Prediction(index=int(i), name="", probability=round(float(chances[i]), 6))
        for i in order
        if isfinite(chances[i])
    )


def cost_of(parts: Sequence[Mapping[str, engine.Cost]], seconds: float) -> TotalCost:
    """Return the cost of batches by kind of passes, with the total time in seconds."""
    families: dict[str, engine.Cost] = {}
    for costs in parts:
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
