"""Many images: decoded ahead in threads, explained batch by batch, written shard by shard."""

import hashlib
import inspect
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from camreport.engine.cost import Cost
from camreport.engine.explainer import Explainer, Explanation
from camreport.engine.plan import Options
from camreport.errors import ClassError, InputError
from camreport.images.inputs import InputFile, read_file
from camreport.images.labels import shown_class
from camreport.images.loading import FailedInput, LoadedImage, decode_ahead
from camreport.models import LoadedModel
from camreport.models.loaded import numbered_classes
from camreport.network.address import Layer
from camreport.network.choose import check_places, choose_layers
from camreport.network.state import device_of, preserved
from camreport.network.survey import sample_image
from camreport.results.decoding import shortened
from camreport.results.reader import Record, probabilities
from camreport.results.shards import Arrays, shard_name, stack_arrays
from camreport.results.writer import ResultsWriter
from camreport.version import __version__

SHARD_IMAGES = 64
"""Most inputs that one shard covers."""

SHARD_BYTES = 64 * 1024 * 1024
"""Most bytes of maps that one shard holds, but at least one image."""

SHARD_VARIANTS = 1024
"""Most changed images or layers (Score-CAM and the like) that one shard costs: what an
interruption can lose, but at least one image."""

TOP_PREDICTIONS = 5
"""Predictions kept for each image in the manifest."""

Progress = Callable[[float], None]
"""Called with the number of newly finished inputs; fractional within one input."""


@dataclass(frozen=True)
class Request:
    """What to compute.

    Attributes:
        explainer: computes what is asked of every image, layers by canonical address.
        targets: class indices for every image, ``auto``, ``all`` or ``topK``.
        labels: classes that count as right for the inputs with a label, by their place.
        batch_size: images per batch; chosen from a byte budget if None.
        command: how a user could ask for the same; recorded in the manifest.
    """

    explainer: Explainer
    targets: Sequence[int] | str
    labels: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    batch_size: int | None = None
    command: str = ""


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        out: the folder of report and results.
        total: number of inputs.
        failed: records of the inputs that could not be read: ``file`` and ``reason``.
        reused: number of inputs whose results an earlier run had left.
        cost: ``forwards``, ``backwards``, ``variants``, ``maps`` and ``seconds``; ``families``
            has the same for each kind of passes.
        notes: what the user should be told about the model and the methods.
        changed: whether the results are not those that were there before.
    """

    out: Path
    total: int
    failed: list[Record]
    reused: int
    cost: Record
    notes: tuple[str, ...]
    changed: bool = True


@dataclass
class _Pending:
    """What is computed but not written yet, by index of the input."""

    records: dict[int, Record] = field(default_factory=dict)
    arrays: dict[int, Arrays] = field(default_factory=dict)
    photos: dict[int, bytes] = field(default_factory=dict)
    costs: dict[str, Cost] = field(default_factory=dict)


def compute(
    model: LoadedModel,
    files: Sequence[InputFile],
    writer: ResultsWriter,
    request: Request,
    progress: Progress = lambda count: None,
) -> Summary:
    """Compute every map of every input and write the results folder.

    An image that cannot be read is recorded with its reason and costs the others nothing. A
    run that is interrupted leaves its finished shards; the next one of equal settings goes on.

    Args:
        model: on the device to compute on.
        files: the inputs.
        writer: of the results folder; knows which shards an earlier run has left.
        request: what to compute.
        progress: called with the number of newly finished inputs; fractional within one input.

    Raises:
        InputError: no input could be read.
        LayerError, ClassError, MethodError, ModelError: as for ``explain``; nothing is written
            before the first batch has shown that the request can be met.
    """
    labels = request.labels
    classes = _class_records(model, labels, len(writer.plan["classes"])) if writer.plan else []
    facts = [_file_facts(file.path) for file in files]
    finished = _still_valid(writer, files, facts, model)
    writer.keep(finished)
    shards = list(finished.values())
    reused = sum(len(shard["images"]) for shard in shards)
    progress(reused)
    with request.explainer:
        shards += _compute_shards(model, files, facts, writer, request, set(finished), progress)
    records: list[Record] = sorted(
        (record for shard in shards for record in shard["images"]), key=itemgetter("index")
    )
    if all(record["status"] == "failed" for record in records):
        raise InputError(
            f"input: expected at least one image that can be read, got none of {len(files)}. "
            + "; ".join(f"{record['file']}: {record['reason']}" for record in records[:3])
        )
    cost = _total_cost([shard["cost"] for shard in shards])
    classes = classes or writer.plan["classes"]
    findings = [note for shard in shards for note in shard.get("findings", ())]
    manifest = _manifest(model, writer.plan, request, classes, records, findings, cost)
    if reused == len(files):  # nothing was computed: what it was computed with stays
        before = writer.manifest()
        manifest |= {key: before[key] for key in ("versions", "device") if key in before}
    changed = writer.write_manifest(manifest)
    notes = manifest["model"]["notes"]
    return _summary(writer, manifest["images"], cost, reused, notes, changed)


def _manifest(
    model: LoadedModel,
    plan: Record,
    request: Request,
    classes: Sequence[Record],
    records: Sequence[Record],
    findings: Sequence[str],
    cost: Record,
) -> Record:
    """Return what the manifest says, but its schema."""
    options = request.explainer.draft.options
    found = (*plan["notes"], *findings)
    return {
        "command": request.command,
        "versions": _versions(),
        "device": _device_name(device_of(model.module)),
        "seed": options.seed if _draws_noise(options) else None,
        "model": {
            "name": model.name,
            "source": shortened(str(model.source)),
            "sha256": model.sha256,
            "parameters": model.parameter_count,
            "output": plan["output"],
            "warning": shortened(str(model.warning)),
            "notes": [shortened(str(note)) for note in dict.fromkeys((*model.notes, *found))],
        },
        "preprocessing": model.preprocessing.to_dict(),
        "classes": [*classes],
        "layers": plan["layers"],
        "channels": plan["channels"],
        "methods": [method.key for method in options.methods],
        "quantity": options.quantity,
        "activation": plan["activation"],
        "fusion": {"gamma": options.gamma, "stages": options.stages},
        "smooth": list(options.smooth),
        "skipped": [skip | {"reason": shortened(skip["reason"])} for skip in plan["skipped"]],
        "images": [_described(record, request.labels, classes) for record in records],
        "cost": cost,
    }


def _described(
    record: Record, labels: Mapping[int, Sequence[int]], classes: Sequence[Record]
) -> Record:
    """Return an image's record with its true class and the names of its predictions."""
    described = {key: value for key, value in record.items() if key != "transient"}
    if record["index"] in labels:
        top = record.get("top") or [{"index": None}]
        right = labels[record["index"]]
        described["label"] = shown_class(right, top[0]["index"])
        described |= {"labels": [*right]} if len(right) > 1 else {}
    if "top" in record:
        described["top"] = [entry | classes[entry["index"]] for entry in record["top"]]
    return described


def run_settings(model: LoadedModel, request: Request) -> Record:
    """Return all that decides a run's maps but the files; equal runs may share shards."""
    draft, options = request.explainer.draft, request.explainer.draft.options
    structure = hashlib.sha256(repr(model.module).encode())  # equal weights may be used otherwise
    for kind in dict.fromkeys(map(type, model.module.modules())):
        structure.update(_own_source(kind))
    for part in model.module.modules():
        if _is_of_a_library(type(part)):
            structure.update(repr(_plain_attributes(part)).encode())
    return {
        "camreport": __version__,
        "torch": torch.__version__,
        "device": str(device_of(model.module)),
        "model": [model.name, model.sha256, structure.hexdigest(), model.output],
        "preprocessing": model.preprocessing.to_dict(),
        "layers": list(draft.layers),
        "channels": list(draft.channels),
        "methods": [[method.key, method.max_positions] for method in options.methods],
        "quantity": options.quantity,
        "activation": options.activation,
        "fusion": [options.gamma, options.stages],
        "smooth": [*options.smooth, options.seed if _draws_noise(options) else None],
        "targets": request.targets if isinstance(request.targets, str) else list(request.targets),
        "batch_size": request.batch_size or "auto",
    }


def _plain_attributes(module: nn.Module) -> dict[str, object]:
    """Return the numbers, words and switches of a module, such as ``transform_input``."""
    return {
        name: value
        for name, value in vars(module).items()
        if name != "training" and isinstance(value, bool | int | float | str)
    }


def _is_of_a_library(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in ("torch", "torchvision", "timm")


def _own_source(kind: type) -> bytes:
    """Return the code of a class that comes with no library, as far as it can be found."""
    if _is_of_a_library(kind):
        return b""
    try:
        return inspect.getsource(kind).encode()
    except (OSError, TypeError):
        return b""


def _file_facts(path: Path) -> list[int] | None:
    """Return size and times of change of a file; None for one that cannot be looked at."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]


def _still_valid(
    writer: ResultsWriter,
    files: Sequence[InputFile],
    facts: Sequence[list[int] | None],
    model: LoadedModel,
) -> dict[int, Record]:
    """Return the finished shards whose inputs are what they were, by number.

    A failure that may pass is tried again; its shard stays if it has not passed.
    """
    valid: dict[int, Record] = {}
    for shard, summary in writer.finished_shards().items():
        start = shard * writer.plan["shard"]
        indices = range(start, min(start + writer.plan["shard"], len(files)))
        records = summary["images"]
        if [record["index"] for record in records] == [*indices] and all(
            record["file"] == files[i].name and _is_unchanged(files[i], facts[i], record, fact)
            for i, record, fact in zip(indices, records, summary["facts"], strict=True)
        ):
            valid[shard] = summary
    shard_of = {
        record["index"]: shard
        for shard, summary in valid.items()
        for record in summary["images"]
        if record.get("transient")
    }
    for index, image in decode_ahead(files, list(shard_of), model.preprocessing):
        if not (isinstance(image, FailedInput) and image.transient):
            valid.pop(shard_of[index], None)
    return valid


def _is_unchanged(
    file: InputFile, now: list[int] | None, record: Record, before: list[int] | None
) -> bool:
    """Say whether a file holds what it held, by its times of change or else by its bytes."""
    if now == before:
        return True
    if now is None or before is None or now[0] != before[0]:
        return False
    try:
        same = hashlib.sha256(read_file(file.path)).hexdigest() == record["sha256"]
    except (OSError, InputError):
        return False
    return bool(same)


def request_layers(model: LoadedModel, layers: Sequence[str] | None) -> dict[str, Layer]:
    """Resolve addresses and patterns, or choose the model's own, under their canonical names.

    Raises:
        LayerError: as for ``explain``.
    """
    sample = sample_image(model.preprocessing.size)
    with preserved(model.module):
        chosen = choose_layers(model.module, layers, sample, model.output)
        if layers is not None:
            check_places(model.module, chosen, sample, model.output)
    return {layer.address: layer for layer in chosen.values()}


def _compute_shards(
    model: LoadedModel,
    files: Sequence[InputFile],
    facts: Sequence[list[int] | None],
    writer: ResultsWriter,
    request: Request,
    finished: set[int],
    progress: Progress,
) -> Iterator[Record]:
    """Compute and write the shards that are not finished; yield each one's records and cost."""
    explainer = request.explainer
    changes = any(method.needs.perturbs for method in explainer.draft.options.methods)
    size = request.batch_size or writer.plan.get("batch", 1 if changes else explainer.batch_size)
    found: dict[str, None] = {}
    todo = [i for i in range(len(files)) if i // writer.plan.get("shard", 1) not in finished]
    pending = _Pending()
    batch: dict[int, LoadedImage | FailedInput] = {}
    started = time.perf_counter()
    for index, image in decode_ahead(files, todo, model.preprocessing):
        batch[index] = image
        length = writer.plan.get("shard", len(files))
        if len(batch) < size and (index + 1) % length and index + 1 < len(files):
            continue
        told = 0.0  # of this batch, in inputs

        def tell(share: float, inputs: int = len(batch)) -> None:
            nonlocal told
            if share * inputs > told:
                progress(share * inputs - told)
                told = share * inputs

        _explain_batch(model, batch, writer, request, pending, found, tell)
        size = explainer.batch_size if writer.plan else size
        for i, decoded in batch.items():
            pending.records[i] = _record(i, files[i].name, decoded)
            if i in pending.arrays:
                pending.records[i]["top"] = _top(pending.arrays[i]["logits"], writer.plan)
        progress(len(batch) - told)
        batch.clear()
        for shard in _full_shards(pending, writer.plan.get("shard", len(files)), len(files)):
            now = time.perf_counter()
            yield _finish(writer, shard, pending, facts, list(found), now - started)
            started = now


def _explain_batch(
    model: LoadedModel,
    batch: Mapping[int, LoadedImage | FailedInput],
    writer: ResultsWriter,
    request: Request,
    pending: _Pending,
    findings: dict[str, None],
    tell: Progress,
) -> None:
    """Explain the readable images of a batch, and plan the next one.

    ``tell`` is called with the fraction of the batch that is done, where that takes a while.
    """
    loaded = {i: image for i, image in batch.items() if isinstance(image, LoadedImage)}
    if not loaded:
        return
    inputs = torch.from_numpy(np.stack([image.model_input for image in loaded.values()]))
    explanation = request.explainer(inputs, request.targets, progress=tell)
    findings |= dict.fromkeys(map(str, explanation.findings))
    rows = _rows(explanation)
    if not writer.plan:
        allowed = request.batch_size or request.explainer.plan.batch_size
        writer.plan = _plan(model, request.labels, explanation, rows[0], allowed)
    for passes, cost in explanation.costs.items():
        pending.costs[passes] = pending.costs.get(passes, Cost()) + cost
    pending.arrays.update(zip(loaded, rows, strict=True))
    pending.photos.update((i, image.photo) for i, image in loaded.items())


def _plan(
    model: LoadedModel,
    labels: Mapping[int, Sequence[int]],
    first: Explanation,
    row: Arrays,
    size: int,
) -> Record:
    """Fix what only a first batch can tell: sizes, classes and the layers' shapes.

    Raises:
        ClassError: as for ``_class_records``.
    """
    classes = _class_records(model, labels, first.logits.shape[1])
    bytes_per_image = sum(array.nbytes for array in row.values())
    variants_per_image = max(1, first.cost.variants // len(first.logits))
    shard = min(SHARD_IMAGES, SHARD_BYTES // bytes_per_image, SHARD_VARIANTS // variants_per_image)
    return {
        "batch": size,
        "shard": max(1, shard),
        "activation": first.activation,
        "output": first.output,
        "classes": classes,
        "layers": [
            _layer_record(layer, first.shapes[name])
            | ({"same_as": first.duplicates[name]} if name in first.duplicates else {})
            for name, layer in first.layers.items()
        ],
        "channels": [
            _layer_record(channels.layer, channels.features.shape[1:])
            for channels in first.channels.values()
        ],
        "skipped": [asdict(skip) | {"reason": str(skip.reason)} for skip in first.skipped],
        "notes": list(map(str, first.notes)),
    }


def _class_records(
    model: LoadedModel, labels: Mapping[int, Sequence[int]], num_classes: int
) -> list[Record]:
    """Return the classes' entries in the manifest.

    Raises:
        ClassError: the model does not have as many classes as it has class names, or a label is
            the index of none of them.
    """
    for index in (index for right in labels.values() for index in right):
        if index >= num_classes:
            raise ClassError(
                f"labels: expected class indices from 0 to {num_classes - 1}, got {index}."
            )
    names = model.class_names or numbered_classes(num_classes)
    if len(names) != num_classes:
        raise ClassError(
            f"class names: expected {num_classes}, one per logit of {model.name}, "
            f"got {len(names)}: {', '.join(names[:5])}."
        )
    return [{"index": i, "name": name} for i, name in enumerate(names)]


def _layer_record(layer: Layer, shape: Sequence[int]) -> Record:
    """Return a layer's entry in the manifest; ``shape`` is ``(C, h, w)``."""
    return {
        "address": layer.address,
        "type": layer.type,
        "tensor": layer.tensor.to_json(),
        "shape": list(shape),
    }


def _rows(explanation: Explanation) -> list[Arrays]:
    """Return each image's arrays, on the CPU."""
    arrays: Arrays = {
        f"{method}/{layer}": cams.cpu().numpy()
        for method, by_layer in explanation.maps.items()
        for layer, cams in by_layer.items()
    }
    for address, channels in explanation.channels.items():
        arrays[f"feature_maps/{address}"] = channels.features.numpy()
        arrays[f"channel_weights/{address}"] = channels.weights.cpu().numpy()
    arrays["logits"] = explanation.logits.cpu().numpy()
    arrays["targets"] = explanation.targets.cpu().numpy()
    count = len(arrays["logits"])
    return [{key: array[row] for key, array in arrays.items()} for row in range(count)]


def _full_shards(pending: _Pending, length: int, total: int) -> list[int]:
    """Return the numbers of the pending shards whose last input is done."""
    shards = sorted({index // length for index in pending.records})
    return [s for s in shards if min((s + 1) * length, total) - 1 in pending.records]


def _finish(
    writer: ResultsWriter,
    shard: int,
    pending: _Pending,
    facts: Sequence[list[int] | None],
    findings: list[str],
    seconds: float,
) -> Record:
    """Write a shard, unless nothing has been read at all; return its records and cost."""
    length = writer.plan.get("shard", len(pending.records))
    indices = [index for index in sorted(pending.records) if index // length == shard]
    readable = [index for index in indices if index in pending.arrays]
    records = [pending.records.pop(index) for index in indices]
    for record in records:
        if record["status"] == "ok":
            record |= {"shard": shard_name(shard), "row": readable.index(record["index"])}
    families = {passes: _rounded(asdict(cost)) for passes, cost in pending.costs.items()}
    total = asdict(sum(pending.costs.values(), Cost())) | {"seconds": round(seconds, 3)}
    summary = {
        "images": records,
        "facts": [facts[index] for index in indices],
        "cost": total | {"families": families},
        "findings": [shortened(note) for note in findings],
    }
    pending.costs = {}
    arrays: Arrays = {}
    if readable:
        arrays = stack_arrays(pending.arrays.pop(index) for index in readable)
        arrays["image"] = np.array(readable, dtype=np.int64)
    if writer.plan:
        photos = {index: pending.photos.pop(index) for index in readable}
        writer.write_shard(shard, arrays, summary, photos)
    return summary


def _record(index: int, name: str, image: LoadedImage | FailedInput) -> Record:
    """Return an input's entry in the manifest, without what the model says of it."""
    record: Record = {"index": index, "file": name, "sha256": image.sha256}
    if isinstance(image, FailedInput):
        passing = {"transient": True} if image.transient else {}
        reason = shortened(str(image.reason))
        record |= {"width": None, "height": None, "status": "failed", "reason": reason}
        return record | passing
    record |= {"width": image.width, "height": image.height, "status": "ok"}
    return record | ({"note": str(image.note)} if image.note else {})


def _top(logits: NDArray[np.float32], plan: Record) -> list[Record]:
    """Return the most probable classes of one image, most probable first."""
    shares = probabilities(logits, plan["activation"])
    order = np.argsort(-shares, kind="stable")[:TOP_PREDICTIONS]
    return [
        {**plan["classes"][i], "probability": round(float(shares[i]), 6)}
        for i in order
        if np.isfinite(shares[i])
    ]


def _total_cost(costs: Sequence[Record]) -> Record:
    """Add up the costs of shards, in all and by kind of passes."""
    names = dict.fromkeys(name for cost in costs for name in cost["families"])
    families = {
        name: _added([cost["families"][name] for cost in costs if name in cost["families"]])
        for name in names
    }
    return _added([{**cost, "families": 0} for cost in costs]) | {"families": families}


def _added(records: Sequence[Record]) -> Record:
    return _rounded({key: sum(record[key] for record in records) for key in records[0]})


def _rounded(cost: Record) -> Record:
    return cost | {"seconds": round(cost["seconds"], 3)}


def _draws_noise(options: Options) -> bool:
    return "noise" in options.smooth or any(method.needs.random for method in options.methods)


def _versions() -> Record:
    distributions = ("torch", "torchvision", "numpy", "opencv-python", "pillow")
    return {"camreport": __version__} | {name: version(name) for name in distributions}


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def _summary(
    writer: ResultsWriter,
    records: Sequence[Record],
    cost: Record,
    reused: int,
    notes: Sequence[str],
    changed: bool,
) -> Summary:
    failed = [record for record in records if record["status"] == "failed"]
    reasons = (skip["reason"] for skip in writer.plan["skipped"])
    of_images = Counter(record["note"] for record in records if "note" in record)
    said = (f"{number} of {len(records)} inputs: {note}" for note, number in of_images.items())
    told = (*notes, *dict.fromkeys(reasons), *said)
    return Summary(writer.out, len(records), failed, reused, cost, told, changed)
