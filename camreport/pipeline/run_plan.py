"""The request of a run, and its plan, which is made from one image and holds for all others."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Self, cast

import torch

from camreport.engine.explainer import Explainer
from camreport.engine.inputs import model_inputs
from camreport.engine.memory import Limits, memory_class
from camreport.engine.plan import Plan
from camreport.engine.targets import choose_targets
from camreport.errors import InputError
from camreport.images.inputs import InputFile
from camreport.images.loading import FailedInput, LoadedImage, decode_ahead
from camreport.images.preprocessing import Preprocessing
from camreport.images.regions.region import PhotoRegions
from camreport.messages import Message, message
from camreport.methods import Method
from camreport.methods.registry import GRADIENT, GUIDED, INPUT_GRADIENT, POOL_GRADIENT
from camreport.models import LoadedModel
from camreport.network.address import Layer
from camreport.network.choose import check_positions, choose_layers
from camreport.network.state import preserved
from camreport.network.survey import sample_image
from camreport.results.decoding import Entry, filled, shortened, whole
from camreport.results.schema import (
    CHANNEL_CONTRIBUTIONS,
    MAX_INLINE,
    Activation,
    LayerEntry,
    MapKey,
    Skip,
)
from camreport.results.writer import MAX_DISCARDED
from camreport.settings import AUTO, OFF, Settings, check_smoothings

MANY_INPUTS, LONG_SHARD = 100_000, 512
"""Number of inputs beyond which shards are longer, and the largest number of inputs in those."""

Record = dict[str, Any]
"""A JSON object."""


@dataclass(frozen=True)
class ShardLimits:
    """ShardLimits on the size of a run's shards, queues and files.

    Attributes:
        shard_images: largest number of inputs in a shard.
        shard_bytes: largest number of bytes of maps in a shard.
        shard_variants: largest number of changed images or layer outputs (as for Score-CAM) that a
            shard computes; an interruption loses at most this work.
        waiting_shards: largest number of computed shards that wait to be written.
        inline_images: largest number of images that the manifest lists itself.
        discarded_shards: number of finished shards from which a run needs ``overwrite`` to replace
            them.
    """

    shard_images: int = 64
    shard_bytes: int = 64 * 1024 * 1024
    shard_variants: int = 16_384
    waiting_shards: int = 2
    inline_images: int = MAX_INLINE
    discarded_shards: int = MAX_DISCARDED

    @classmethod
    def of(cls, device: torch.device, total: int) -> Self:
        """Return the limits for a device and a number of inputs.

        A shard can hold the device's largest batch. Long runs have longer shards, and so fewer
        files.
        """
        least = LONG_SHARD if total > MANY_INPUTS else cls.shard_images
        return cls(shard_images=max(least, Limits.of(device).budget(device).images))


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to compute: the settings, resolved for the model.

    Attributes:
        settings: the settings of the user.
        layers: the layers to explain, by canonical address.
        channels: layers whose channels are kept, by canonical address.
        contributions: layers of which the last distinct one keeps its channels' contributions, by
            canonical address; empty for none.
        methods: the methods to compute, in the order in which tables show them.
        targets: class indices for every image, ``auto``, ``all`` or ``topK``.
        quantity: the score to explain; a class after ``contrast:`` is given by its index.
        labels: classes that count as right for each input with a label, by the input's index.
        groups: values of the settings' columns of groups, by the input's index.
        regions: of the inputs, by the input's index; None if the user gave none.
        command: command line that repeats the run; recorded in the manifest.
    """

    settings: Settings
    layers: Mapping[str, Layer]
    channels: Mapping[str, Layer]
    contributions: Mapping[str, Layer] = field(default_factory=dict)
    methods: Sequence[Method]
    targets: Sequence[int] | str
    quantity: str
    labels: Mapping[int, tuple[int, ...]]
    groups: Mapping[int, tuple[str | None, ...]] = field(default_factory=dict)
    regions: Mapping[int, PhotoRegions] | None = None
    command: str

    @property
    def smooth(self) -> tuple[str, ...]:
        """The kinds of smoothing to apply."""
        return check_smoothings(self.settings.smooth)

    @property
    def batch_size(self) -> int | None:
        """Inputs per batch; None if the user has not chosen the number."""
        return self.settings.batch_size

    @property
    def draws_noise(self) -> bool:
        """Whether any result depends on the seed."""
        return "noise" in self.smooth or any(method.needs.random for method in self.methods)

    @property
    def specs(self) -> tuple[str, ...]:
        """The methods, each with the settings that affect only its maps: largest grid and seed."""
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
    """The decisions that hold for every shard of a run; made from one image and never changed.

    On one device, the plan and the inputs of a shard determine the bytes of the shard. The last
    bits of a map may depend on the size of its batch and on its row in the batch. So the batch size
    is part of the plan, and a batch never spans two shards.

    Attributes:
        batch: inputs per batch.
        bounded: whether a batch far beyond the byte budget is halved; False if the user has
            chosen the batch size.
        memory: class of the CUDA card whose memory the byte budgets are fractions of, in GiB; 0 on
            other devices. A run that is resumed on another card keeps it.
        shard: inputs per shard, a whole number of batches; the last one may have fewer.
        activation: how logits become probabilities.
        output: key of the logits in the model's output; None for a tensor or the key ``logits``.
        classes: number of classes of the model.
        layers: the layers with maps, in network order.
        channels: the layers with feature maps.
        contributions: the layer with its channels' contributions; None for none.
        skipped: methods that cannot be computed, with the reasons.
        notes: notes for the reader about the model.
    """

    batch: Annotated[int, whole(1, 2**31)]
    bounded: bool
    memory: Annotated[int, whole(0)]
    shard: Annotated[int, whole(1, 2**31)]
    activation: Activation
    output: str | None
    classes: Annotated[int, whole(1)]
    layers: Annotated[tuple[LayerEntry, ...], filled]
    channels: tuple[LayerEntry, ...]
    skipped: tuple[Skip, ...]
    notes: tuple[Message, ...]
    contributions: LayerEntry | None = None

    def indices(self, number: int, total: int) -> range:
        """Return the indices of the inputs, out of ``total``, that a shard covers."""
        return range(number * self.shard, min((number + 1) * self.shard, total))

    def of_request(self, request: Request, planned: Plan | None) -> "RunPlan":
        """Return the plan with the skips, notes and contributions of another request.

        Args:
            request: what to compute.
            planned: the engine's plan of the request; None if this plan covers all of it.
        """
        own = replace(self, contributions=self.contributing(request))
        if planned:
            notes = dict.fromkeys((*self.notes, *as_messages(planned.notes)))
            kept = own.contributions or _contributions(planned)
            return replace(own, skipped=_skipped(planned), notes=tuple(notes), contributions=kept)
        keys = {method.key for method in request.methods}
        return replace(own, skipped=tuple(s for s in self.skipped if s.method in keys))

    def contributing(self, request: Request) -> LayerEntry | None:
        """Return the layer whose channels' contributions a request keeps, if it is in this plan."""
        others = (*self.channels, *([self.contributions] if self.contributions else []))
        for entries in (self.layers, others):
            asked = [entry for entry in entries if entry.address in request.contributions]
            distinct = [entry for entry in asked if entry.same_as is None]
            if asked:
                return (distinct or asked)[-1]
        return None

    @property
    def vectors(self) -> tuple[str, ...]:
        """What a shard's sidecar lists beside its methods: the layer of contributions."""
        kept = self.contributions
        return (str(MapKey(CHANNEL_CONTRIBUTIONS, kept.address)),) if kept else ()

    def fingerprint(self, settings: Record) -> str:
        """Return a digest of the plan and the settings; shards are reused only if it is equal."""
        parts = {"settings": settings, "plan": self.to_json()}
        for name in ("skipped", "notes", "contributions"):  # no map depends on these
            parts["plan"].pop(name, None)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def request_layers(model: LoadedModel, layers: Sequence[str] | None) -> dict[str, Layer]:
    """Resolve addresses and patterns, or choose layers; return them by canonical address.

    Raises:
        LayerError: as for ``explain``.
    """
    sample = sample_image(model.preprocessing.size)
    with preserved(model.module):
        chosen = choose_layers(model.module, layers, sample, model.output)
        if layers is not None:
            check_positions(model.module, chosen, sample, model.output)
    return {layer.address: layer for layer in chosen.values()}


def contributing_layers(
    model: LoadedModel,
    settings: Settings,
    layers: Mapping[str, Layer],
    methods: Sequence[Method],
) -> dict[str, Layer]:
    """Return the layers of which the last distinct one keeps its channels' contributions.

    ``auto`` keeps none where no method needs a gradient of the images themselves, so that it costs
    no pass.

    Raises:
        LayerError: as for ``explain``.
    """
    if settings.contributions == OFF:
        return {}
    if settings.contributions != AUTO:
        return request_layers(model, [settings.contributions])
    copied = {"noise", "aug"} & set(check_smoothings(settings.smooth))
    needed = (
        method.needs in (GRADIENT, POOL_GRADIENT, INPUT_GRADIENT, GUIDED)
        and not (copied and method.supports_smoothing)
        for method in methods
    )
    return dict(layers) if any(needed) else {}


def make_explainer(model: LoadedModel, request: Request, plan: RunPlan | None) -> Explainer:
    """Return the explainer that computes the maps of a request.

    Args:
        model: the model, on the device to compute on.
        request: what to compute.
        plan: the plan of the earlier run to resume, if there is one.

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
        contributions=request.contributions,
        quantity=request.quantity,
        gamma=request.settings.gamma,
        stages=request.settings.stages,
        smooth=request.smooth,
        seed=request.settings.seed,
        output=model.output if plan is None else plan.output,
        activation=request.settings.activation if plan is None else plan.activation,
        precision=request.settings.precision,
        batch_size=None if bounded else size,
        limits=None if plan is None else Limits(memory=plan.memory),
    )


def plan_run(
    explainer: Explainer,
    image: LoadedImage,
    preprocessing: Preprocessing,
    request: Request,
    limits: ShardLimits,
) -> RunPlan:
    """Make the plan of a run from one image and discard the image's maps.

    Raises:
        LayerError, ClassError, ModelError, MemoryLimitError: as for ``explain``.
    """
    inputs = model_inputs([image.pixels], preprocessing, explainer.device)
    planned = explainer.probe(inputs, request.targets)
    batch, shard = cut(planned, request, limits)
    return RunPlan(
        batch=batch,
        bounded=request.batch_size is None,
        memory=memory_class(explainer.device),
        shard=shard,
        activation=cast(Activation, planned.activation),
        output=planned.output,
        classes=planned.num_classes,
        layers=_layers(planned, planned.layers),
        channels=_layers(planned, planned.channels),
        skipped=_skipped(planned),
        notes=as_messages(planned.notes),
        contributions=_contributions(planned),
    )


def cut(planned: Plan, request: Request, limits: ShardLimits) -> tuple[int, int]:
    """Return the number of inputs in a batch and in a shard.

    The batch size is the user's, or the largest that fits memory and the limits of a shard. A
    shard has as many batches as its limits allow, at least one.
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
        InputError: no image can be read; the message has the reasons of the first three.
    """
    failed: list[str] = []
    for index in range(len(files)):
        ((_, image),) = decode_ahead(files, [index], preprocessing)
        if not isinstance(image, FailedInput):
            return image
        failed.append(f"{files[index].name}: {image.reason}")
    raise InputError(
        f"input: expected at least one image that can be read, got none of {len(files)}. "
        + "; ".join(failed[:3])
    )


def as_messages(notes: Sequence[str | Message]) -> tuple[Message, ...]:
    """Return texts and messages as messages."""
    return tuple(map(as_message, notes))


def as_message(note: str | Message) -> Message:
    """Return a text as a message without translations; return a message unchanged."""
    if isinstance(note, Message):
        return note
    return message("results.text", text=shortened(note))


def _skipped(planned: Plan) -> tuple[Skip, ...]:
    return tuple(
        Skip(method=skip.method, layer=skip.layer, reason=as_message(skip.reason))
        for skip in planned.skipped
    )


def _contributions(planned: Plan) -> LayerEntry | None:
    return next(iter(_layers(planned, planned.contributions)), None)


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
