"""What a run is asked to do, and what one image of it settles for all the others."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self, cast

import torch

from camreport.engine.explainer import Explainer
from camreport.engine.memory import Limits as EngineLimits
from camreport.engine.plan import Plan
from camreport.engine.targets import choose_targets
from camreport.errors import InputError
from camreport.images.inputs import InputFile
from camreport.images.loading import FailedInput, LoadedImage, LoadingLimits, decode_ahead
from camreport.images.preprocessing import Preprocessing
from camreport.messages import Message, message
from camreport.methods import Method
from camreport.models import LoadedModel
from camreport.network.address import Layer
from camreport.network.choose import check_places, choose_layers
from camreport.network.state import preserved
from camreport.network.survey import sample_image
from camreport.results.decoding import Entry, filled, shortened, whole
from camreport.results.schema import MAX_INLINE, Activation, LayerEntry, Skip
from camreport.results.writer import MAX_DISCARDED
from camreport.settings import Settings, check_smoothings

Record = dict[str, Any]
"""A JSON object."""


@dataclass(frozen=True)
class Limits:
    """How a run is cut into shards, and what it keeps in memory and in one file.

    Attributes:
        shard_images: most inputs that one shard covers.
        shard_bytes: most bytes of maps in one shard.
        shard_variants: most changed images or layers (Score-CAM and the like) that one shard
            costs: what an interruption can lose.
        waiting_shards: computed shards that may wait to be written.
        inline_images: most images that the manifest lists itself.
        discarded_shards: finished shards from which on only ``overwrite`` gives them up.
    """

    shard_images: int = 64
    shard_bytes: int = 64 * 1024 * 1024
    shard_variants: int = 16_384
    waiting_shards: int = 2
    inline_images: int = MAX_INLINE
    discarded_shards: int = MAX_DISCARDED

    @classmethod
    def of(cls, device: torch.device) -> Self:
        """Return the limits on a device: a shard has room for its largest batch."""
        return cls(shard_images=max(cls.shard_images, EngineLimits().budget(device).images))


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to compute: what the settings came to for this model.

    Attributes:
        settings: what the user asked for.
        layers: where to read, by canonical address.
        channels: layers whose channels are kept, by canonical address.
        methods: what to compute, in the order in which tables show it.
        targets: class indices for every image, ``auto``, ``all`` or ``topK``.
        quantity: which score of a class is explained, a class in it as its index.
        labels: classes that count as right for the inputs with a label, by their index.
        command: how a user could ask for the same; recorded in the manifest.
    """

    settings: Settings
    layers: Mapping[str, Layer]
    channels: Mapping[str, Layer]
    methods: Sequence[Method]
    targets: Sequence[int] | str
    quantity: str
    labels: Mapping[int, tuple[int, ...]]
    command: str

    @property
    def smooth(self) -> tuple[str, ...]:
        """The chosen ways of smoothing."""
        return check_smoothings(self.settings.smooth)

    @property
    def batch_size(self) -> int | None:
        """Inputs per batch, if the user has chosen that."""
        return self.settings.batch_size

    @property
    def draws_noise(self) -> bool:
        """Whether the seed decides anything."""
        return "noise" in self.smooth or any(method.needs.random for method in self.methods)

    @property
    def specs(self) -> tuple[str, ...]:
        """The methods, each with what decides its maps alone: a largest grid, a seed."""
        return tuple(
            " ".join(
                (
                    method.key,
                    *([] if method.max_positions is None else [f"grid {method.max_positions}"]),
                    *([f"seed {self.settings.seed}"] if method.needs.random else []),
                )
            )
            for method in self.methods
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan(Entry):
    """What is the same for every shard of a run: fixed by one image, never changed.

    A shard's bytes on one device follow from the plan and the shard's own inputs. Batches start
    anew with each shard, because the last bits of a map may depend on the size of its batch and
    on its row there; so the batch size is part of the plan.

    Attributes:
        batch: inputs per batch.
        bounded: whether a batch far beyond the byte budget is halved; not where a user has
            chosen its size.
        shard: inputs per shard, a whole number of batches; the last one may have fewer.
        activation: how logits become probabilities.
        output: which part of what the module returns holds the logits.
        classes: how many the model has.
        layers: those with maps, in network order.
        channels: those with feature maps.
        skipped: what cannot be computed, and why.
        notes: what a reader should know of the model.
    """

    batch: Annotated[int, whole(1, 2**31)]
    bounded: bool
    shard: Annotated[int, whole(1, 2**31)]
    activation: Activation
    output: str | None
    classes: Annotated[int, whole(1)]
    layers: Annotated[tuple[LayerEntry, ...], filled]
    channels: tuple[LayerEntry, ...]
    skipped: tuple[Skip, ...]
    notes: tuple[Message, ...]

    def indices(self, number: int, total: int) -> range:
        """Return which of ``total`` inputs a shard covers."""
        return range(number * self.shard, min((number + 1) * self.shard, total))

    def of_methods(self, methods: Sequence[Method], planned: Plan | None) -> "RunPlan":
        """Return the plan with what is said of other methods.

        Args:
            methods: those of the run.
            planned: how they are computed; None where none of them is new to the plan.
        """
        if planned:
            notes = dict.fromkeys((*self.notes, *as_messages(planned.notes)))
            return replace(self, skipped=_skipped(planned), notes=tuple(notes))
        keys = {method.key for method in methods}
        return replace(self, skipped=tuple(s for s in self.skipped if s.method in keys))

    def fingerprint(self, settings: Record) -> str:
        """Return what tells the shards of this plan and these settings from others."""
        parts = {"settings": settings, "plan": self.to_json()}
        for name in ("skipped", "notes"):  # what is said of the methods decides no map
            del parts["plan"][name]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


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


def make_explainer(model: LoadedModel, request: Request, plan: RunPlan | None) -> Explainer:
    """Return what computes the request's maps.

    Args:
        model: on the device to compute on.
        request: what to compute.
        plan: of an earlier run that goes on, if there is one.

    Raises:
        MethodError, LayerError, ModelError, MemoryLimitError: as for ``explain``.
    """
    bounded = request.batch_size is None if plan is None else plan.bounded
    size = request.batch_size if plan is None else plan.batch
    return Explainer(
        model,
        request.layers,
        request.settings.methods,
        channels=request.channels,
        quantity=request.quantity,
        gamma=request.settings.gamma,
        stages=request.settings.stages,
        smooth=request.smooth,
        seed=request.settings.seed,
        output=model.output if plan is None else plan.output,
        activation=request.settings.activation if plan is None else plan.activation,
        batch_size=None if bounded else size,
    )


def plan_run(explainer: Explainer, image: LoadedImage, request: Request, limits: Limits) -> RunPlan:
    """Plan a run from one image; its maps are thrown away.

    Raises:
        LayerError, ClassError, ModelError, MemoryLimitError: as for ``explain``.
    """
    planned = explainer.probe(torch.from_numpy(image.model_input)[None], request.targets)
    batch, shard = cut(planned, request, limits)
    return RunPlan(
        batch=batch,
        bounded=request.batch_size is None,
        shard=shard,
        activation=cast(Activation, planned.activation),
        output=planned.output,
        classes=planned.num_classes,
        layers=_layers(planned, planned.layers),
        channels=_layers(planned, planned.channels),
        skipped=_skipped(planned),
        notes=as_messages(planned.notes),
    )


def cut(planned: Plan, request: Request, limits: Limits) -> tuple[int, int]:
    """Return how many inputs a batch and a shard cover.

    Memory alone decides the batch, or the user. A shard is as many batches as its limits take,
    but at least one.
    """
    classes = choose_targets(torch.zeros(1, planned.num_classes), request.targets).shape[1]
    most = min(limits.shard_images, limits.shard_bytes // planned.result_bytes(classes))
    if planned.variants_per_image:
        most = min(most, limits.shard_variants // planned.variants_per_image)
    batch = request.batch_size or max(1, min(planned.batch_size, most))
    return batch, batch * max(1, most // batch)


def first_readable(files: Sequence[InputFile], preprocessing: Preprocessing) -> LoadedImage:
    """Return the first image that can be read.

    Raises:
        InputError: none can; the message has the reasons of the first three.
    """
    failed: list[str] = []
    one = LoadingLimits(images_ahead=1)
    for index, image in decode_ahead(files, range(len(files)), preprocessing, one):
        if not isinstance(image, FailedInput):
            return image
        failed.append(f"{files[index].name}: {image.reason}")
    raise InputError(
        f"input: expected at least one image that can be read, got none of {len(files)}. "
        + "; ".join(failed[:3])
    )


def as_messages(told: Sequence[str | Message]) -> tuple[Message, ...]:
    """Return sentences and messages as messages."""
    return tuple(map(as_message, told))


def as_message(told: str | Message) -> Message:
    """Return a sentence that has no code, such as another program's, as a message."""
    if isinstance(told, Message):
        return told
    return message("results.text", text=shortened(told))


def _skipped(planned: Plan) -> tuple[Skip, ...]:
    return tuple(
        Skip(method=skip.method, layer=skip.layer, reason=as_message(skip.reason))
        for skip in planned.skipped
    )


def _layers(planned: Plan, layers: Mapping[str, Layer]) -> tuple[LayerEntry, ...]:
    return tuple(
        LayerEntry(
            address=layer.address,
            type=layer.type,
            tensor=layer.tensor,
            shape=_shape(planned.shapes[name]),
            same_as=planned.duplicates.get(name) if name in planned.layers else None,
        )
        for name, layer in layers.items()
    )


def _shape(shape: Sequence[int]) -> tuple[int, int, int]:
    channels, height, width = shape
    return channels, height, width
