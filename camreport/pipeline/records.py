"""The records of a run: labels and class names, the manifest, and the summary for the user."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import torch

from camreport.errors import ClassError
from camreport.images.labels import shown_class
from camreport.messages import Message, message
from camreport.models import LoadedModel
from camreport.models.loaded import numbered_classes
from camreport.pipeline.run_plan import Request, RunPlan, as_message, as_messages
from camreport.pipeline.shard import total_cost
from camreport.results.costs import TotalCost
from camreport.results.evidence import EvidenceSidecar, RunCost
from camreport.results.schema import (
    SCHEMA,
    ClassEntry,
    Fusion,
    ImageEntry,
    Manifest,
    ModelEntry,
    Sidecar,
    Structure,
    Totals,
    TrueSidecar,
)
from camreport.version import __version__

_T = TypeVar("_T")


@dataclass(frozen=True)
class Summary:
    """The outcome of a run, for the user.

    Attributes:
        out: the folder of the report and the results.
        total: number of inputs.
        failed: the inputs that could not be read.
        reused: number of inputs whose results come from an earlier run.
        cost: the cost of the results, in total and by kind of passes.
        notes: notes for the user about the model, the methods and the inputs.
        changed: whether the results differ from those in the folder before the run.
        measured: whether evidence was measured in this run.
        part: the part of a run that this was, as ``K/N``; empty for a whole run.
        shards: number of shards that the part has.
        folder: in which the part's shards are; None of a whole run.
    """

    out: Path
    total: int
    failed: tuple[ImageEntry, ...]
    reused: int
    cost: RunCost
    notes: tuple[Message, ...]
    changed: bool = True
    measured: bool = False
    part: str = ""
    shards: int = 0
    folder: Path | None = None


@dataclass(frozen=True)
class Describer:
    """Adds labels, groups and class names, on which no map depends, to sidecars.

    Attributes:
        labels: classes that count as right for each input with a label, by the input's index.
        groups: values of the columns of groups, by the input's index.
        classes: the model's classes, in the order of their indices.
    """

    labels: Mapping[int, tuple[int, ...]]
    groups: Mapping[int, tuple[str | None, ...]]
    classes: tuple[ClassEntry, ...]

    def __call__(self, sidecar: Sidecar) -> Sidecar:
        """Return a sidecar with the images' true classes and the names of their predictions."""
        return replace(sidecar, images=tuple(map(self._image, sidecar.images)))

    def _image(self, image: ImageEntry) -> ImageEntry:
        top = tuple(replace(p, name=self.classes[p.index].name) for p in image.top)
        right, groups = self.labels.get(image.index), self.groups.get(image.index)
        own = replace(image, top=top, label=None, labels=None, groups=groups)
        if right is None:
            return own
        label = shown_class(right, top[0].index if top else None)
        return replace(own, label=label, labels=right if len(right) > 1 else None)


@dataclass
class Tally:
    """Totals over the shards of a run.

    Attributes:
        inline: whether the manifest lists the images itself.
        images: records of all images, by the number of their shard; empty if not ``inline``.
        failed: records of the images that could not be read, by the number of their shard.
        costs: cost of each shard, by its number.
        true_costs: cost of each shard's file of true classes, by its number.
        evidence: sidecar of the evidence for each shard, by its number.
        collages: sidecar of the evidence of the run's collages, if there are any.
        devices: the devices on which the shards were computed.
        findings: notes that result from the images of each shard, by its number.
        notes: number of images with each note.
    """

    inline: bool
    images: dict[int, tuple[ImageEntry, ...]] = field(default_factory=dict)
    failed: dict[int, tuple[ImageEntry, ...]] = field(default_factory=dict)
    costs: dict[int, TotalCost] = field(default_factory=dict)
    true_costs: dict[int, TotalCost] = field(default_factory=dict)
    evidence: dict[int, EvidenceSidecar] = field(default_factory=dict)
    collages: EvidenceSidecar | None = None
    devices: dict[str, None] = field(default_factory=dict)
    findings: dict[int, tuple[Message, ...]] = field(default_factory=dict)
    notes: Counter[Message] = field(default_factory=Counter)

    def add(self, number: int, sidecar: Sidecar) -> None:
        """Add a finished shard."""
        images = tuple(replace(image, transient=False) for image in sidecar.images)
        if self.inline:
            self.images[number] = images
        self.failed[number] = tuple(image for image in images if not image.readable)
        self.costs[number] = sidecar.cost
        self.devices[sidecar.device] = None
        self.findings[number] = sidecar.findings
        self.notes.update(image.note for image in images if image.note)

    def add_true(self, number: int, sidecar: TrueSidecar) -> None:
        """Add the file of true classes of a shard that was added before."""
        self.true_costs[number] = sidecar.cost
        self.devices[sidecar.device] = None
        self.findings[number] += sidecar.findings

    @property
    def measured(self) -> list[EvidenceSidecar]:
        """The sidecars of the evidence, shard by shard, then that of the collages."""
        of_shards = [self.evidence[number] for number in sorted(self.evidence)]
        return [*of_shards, *([self.collages] if self.collages else [])]

    @property
    def cost(self) -> TotalCost:
        """The total cost of all shards, and of the true classes explained apart."""
        return total_cost(_by_number(self.costs) + _by_number(self.true_costs))


def class_entries(model: LoadedModel, request: Request, num_classes: int) -> tuple[ClassEntry, ...]:
    """Return the classes' entries in the manifest.

    Raises:
        ClassError: the number of class names differs from the number of classes, or a label or the
            class of a region is not the index of a class.
    """
    labels = request.labels.values()
    shown = (one.classes for photo in (request.regions or {}).values() for one in photo.regions)
    for option, given in (("labels", labels), ("regions", shown)):
        for index in (index for classes in given for index in classes):
            if index >= num_classes:
                raise ClassError(
                    f"{option}: expected class indices from 0 to {num_classes - 1}, got {index}."
                )
    names = model.class_names or numbered_classes(num_classes)
    if len(names) != num_classes:
        raise ClassError(
            f"class names: expected {num_classes}, one per logit of {model.name}, "
            f"got {len(names)}: {', '.join(names[:5])}."
        )
    return tuple(ClassEntry(index=i, name=name) for i, name in enumerate(names))


def make_manifest(
    model: LoadedModel,
    structure: Structure,
    plan: RunPlan,
    request: Request,
    classes: tuple[ClassEntry, ...],
    tally: Tally,
    total: int,
) -> Manifest:
    """Return the manifest of a run whose shards are all in the tally."""
    return Manifest(
        schema=SCHEMA,
        command=request.command,
        versions=_versions(),
        device=", ".join(sorted(tally.devices)),
        seed=request.settings.seed if request.draws_noise else None,
        model=_model_entry(model, plan, tally),
        structure=structure,
        preprocessing=model.preprocessing,
        classes=classes,
        groups=tuple(request.settings.groups or ()),
        layers=plan.layers,
        channels=plan.channels,
        contributions=plan.contributions,
        methods=tuple(method.key for method in request.methods),
        quantity=request.quantity,
        activation=plan.activation,
        fusion=Fusion(gamma=request.settings.gamma, stages=request.settings.stages),
        smooth=request.smooth,  # type: ignore[arg-type]  # checked to be these words
        precision=request.settings.precision,  # type: ignore[arg-type]  # likewise
        skipped=plan.skipped,
        totals=Totals(
            images=total,
            failed=sum(map(len, tally.failed.values())),
            shard_length=plan.shard,
        ),
        images=_flat(tally.images),
        cost=RunCost(**{own.name: getattr(tally.cost, own.name) for own in fields(TotalCost)}),
    )


def make_summary(
    out: Path, manifest: Manifest, tally: Tally, reused: int, changed: bool, measured: bool
) -> Summary:
    """Return the summary of a run for the user."""
    total = manifest.totals.images
    noted = [
        message("pipeline.inputs_noted", number=number, total=total, note=note)
        for note, number in tally.notes.items()
    ]
    reasons = dict.fromkeys(skip.reason for skip in manifest.skipped)
    notes = (*manifest.model.notes, *reasons, *noted)
    failed = _flat(tally.failed)
    return Summary(out, total, failed, reused, manifest.cost, notes, changed, measured)


def part_summary(
    out: Path, folder: Path, part: str, shards: int, inputs: int, tally: Tally, reused: int
) -> Summary:
    """Return the summary of a part, whose shards are all in the tally and in a folder."""
    cost = RunCost(**{own.name: getattr(tally.cost, own.name) for own in fields(TotalCost)})
    return Summary(
        out,
        inputs,
        _flat(tally.failed),
        reused,
        cost,
        (),
        part=part,
        shards=shards,
        folder=folder,
    )


def device_name(device: torch.device) -> str:
    """Return a device's name for the records, with its GPU: results differ in the last digits."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def _model_entry(model: LoadedModel, plan: RunPlan, tally: Tally) -> ModelEntry:
    findings = _flat(tally.findings)
    notes = dict.fromkeys((*as_messages(model.notes), *plan.notes, *findings))
    return ModelEntry(
        name=model.name,
        source=as_message(model.source),
        sha256=model.sha256,
        parameters=model.parameter_count,
        output=plan.output,
        warning=as_message(model.warning) if model.warning else None,
        notes=tuple(notes),
    )


def _versions() -> dict[str, str]:
    distributions = ("torch", "torchvision", "numpy", "opencv-python", "pillow")
    return {"camreport": __version__} | {name: version(name) for name in distributions}


def _by_number(parts: Mapping[int, _T]) -> list[_T]:
    return [parts[number] for number in sorted(parts)]


def _flat(parts: Mapping[int, tuple[_T, ...]]) -> tuple[_T, ...]:
    return tuple(entry for part in _by_number(parts) for entry in part)
