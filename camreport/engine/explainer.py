"""The engine: every map of a batch of images, from as few passes as there can be.

images ─▶ task (checked before any pass) ─▶ passes, perturbations ─▶ raw maps ─▶ Explanation
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor, nn

from camreport.engine.cost import Cost
from camreport.engine.passes import (
    CHANNEL_WEIGHTS,
    LOOPED,
    Captured,
    Maps,
    averaged_maps,
    captured_pass,
    full_grad_gap,
    guided_maps,
    look_alike_maps,
    noise_maps,
    shared_maps,
    uncounted_kinds,
)
from camreport.engine.perturbation import (
    Meter,
    Progress,
    count_variants,
    large_grids,
    perturbation_maps,
)
from camreport.engine.plan import Plan, Skip, Task, make_task
from camreport.engine.score import strongest_classes
from camreport.errors import ClassError, LayerError, MemoryLimitError, ModelError
from camreport.methods import DEFAULT_METHODS, Method, resolve_methods
from camreport.methods.fusion import fuse
from camreport.methods.registry import (
    GUIDED,
    INPUT_GRADIENT,
    LOOK_ALIKES,
    NOISE,
    PASSES,
    SHARED,
)
from camreport.models import LoadedModel
from camreport.models.loaded import check_module
from camreport.network.address import Layer
from camreport.network.logits import logits_of
from camreport.network.memory import (
    FIRST_BATCH_ALLOWANCE,
    BatchPlanner,
    BatchTooLarge,
    budget_of,
    give_back_cached,
    is_out_of_memory,
)
from camreport.network.places import depends_on_company
from camreport.network.reading import reading_notes, settled
from camreport.network.state import (
    device_of,
    forward_without_gradients,
    full_precision,
    gradients_on,
    to_model,
    undisturbed,
)
from camreport.network.survey import choose_layers, nearest_layers, sample_image, survey
from camreport.network.trace import NotSpatialError
from camreport.settings import AUTO, GAMMA, split_list

FUSED = "fused"
"""The name under which a method's maps of all layers, fused into one, are kept."""

COPIES = "smoothing copies"
"""The passes over changed copies of the images that smoothing takes."""

ONE_IMAGE_TOO_MUCH = (
    "memory: one image is more than this device can hold. Choose later layers, "
    "a smaller image size or another device."
)
"""The error of a batch that cannot be halved."""

COMPANY = (
    "The model's output for an image depends on the other images of its batch, and so do its maps "
    "(a batch normalisation without running statistics). Use --batch-size 1 for maps of each "
    "image alone."
)
"""What the user is told of a model that mixes the images of a batch."""

NEGATIVE = (
    "Made for A ≥ 0, but computed where values are negative: {methods} at {layers}. Read these "
    "maps with care, or choose layers behind a ReLU."
)
"""What the user is told of methods at layers that do not meet their assumption."""

FIRST_BATCH = 16
"""Images in the first batch; what it needs decides the size of the others."""


Asked = str | int | nn.Module | Sequence[str | int | nn.Module] | Mapping[str, Layer] | None
"""Layers as a user may ask for them."""

Targets = Sequence[int] | Tensor | str | None
"""Classes as a user may ask for them, see ``choose_targets``."""


@dataclass(frozen=True)
class Channels:
    """One layer's channels, and what each weighs: Grad-CAM is their weighted sum.

    Attributes:
        layer: where they were read.
        features: what the layer's maps read, ``(N, C, h, w)`` float32, on the CPU.
        weights: spatial means of the gradient of what is explained, ``(N, K, C)`` float32.
    """

    layer: Layer
    features: Tensor = field(repr=False)
    weights: Tensor = field(repr=False)


@dataclass(frozen=True)
class Explanation:
    """The maps of one call.

    Attributes:
        maps: ``maps[method][layer]`` is a Tensor ``(N, K, h, w)``, float32: raw, that is
            unnormalised and before the final ReLU. Layers stand under the names they were
            asked by; ``maps["layer_cam"]["fused"]`` is there from two layers on. Methods on
            the input's grid: ``guided_backprop`` ``(N, K, 3, H, W)`` and ``full_grad``
            ``(N, K, H, W)`` under the layer ``input``, ``guided_grad_cam`` ``(N, K, 3, H, W)``
            per layer. ``gradient_x_activation`` is ``(N, K, C, h, w)``.
        logits: ``(N, num_classes)`` float32.
        activation: how they become probabilities: ``softmax``, ``sigmoid``, or ``none`` where they
            are probabilities already.
        output: the part of what the model returns that holds them, if it is a structure.
        targets: class indices explained, ``(N, K)`` int64.
        layers: where each map was read, by the name it was asked by, in network order.
        shapes: ``(C, h, w)`` of each layer, under the same names.
        duplicates: for each layer whose tensor equals an earlier layer's, that earlier layer;
            ``avgpool`` and ``features.12`` of AlexNet at 224 px.
        skipped: what was asked for and is not defined here, with the reason.
        costs: passes and maps, by family of methods.
        bytes_per_image: what the model's innermost modules return for one image.
        channels: of the layers whose channels were asked for, by address, in network order.
        notes: what a reader should know of the model and of how the maps were computed.
        findings: those among the notes that these images have shown.
    """

    maps: Maps = field(repr=False)
    logits: Tensor = field(repr=False)
    activation: str
    output: str | None
    targets: Tensor = field(repr=False)
    layers: dict[str, Layer]
    shapes: dict[str, tuple[int, ...]]
    duplicates: dict[str, str]
    skipped: tuple[Skip, ...]
    costs: dict[str, Cost]
    bytes_per_image: int
    channels: dict[str, Channels]
    notes: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()

    @property
    def cost(self) -> Cost:
        """Passes and maps of all families together."""
        return sum(self.costs.values(), Cost())


def explain(
    model: nn.Module | LoadedModel,
    images: Tensor,
    layers: str | nn.Module | Sequence[str | int | nn.Module] | None = None,
    methods: str | Sequence[str] = DEFAULT_METHODS,
    targets: Targets = None,
    *,
    quantity: str = "logit",
    gamma: float = GAMMA,
    stages: int | None = None,
    smooth: str | Sequence[str] = (),
    seed: int = 0,
    output: str | None = None,
    activation: str = AUTO,
) -> Explanation:
    """Compute the class-activation maps of a batch: every layer, method and class at once.

    The model comes back as it was found, also after an exception: mode, ``requires_grad``,
    ``.grad``, hooks and state. Many images are cut into batches by a byte budget; the maps do
    not depend on the cut.

    Args:
        model: a classifier from ``(N, 3, H, W)`` to logits, or what ``load_model`` returns.
        images: ``(N, 3, H, W)``, preprocessed; moved to the model's device.
        layers: addresses such as ``features.12``, patterns such as ``layer*``, or module
            objects; the model's own choice of up to five if None.
        methods: names from the registry, in any spelling.
        targets: K class indices for every image, a tensor ``(N, K)``, ``"all"``, ``"top3"``,
            or None for the most probable class.
        quantity: what of a class is explained: its ``logit``, its ``probability``, its
            ``contrast`` (this logit minus the strongest other) or ``contrast:INDEX``. Score-CAM
            and Finer-CAM have a score of their own and keep it.
        gamma: steepness of the lift in LayerCAM's fusion.
        stages: how many early stages the fusion lifts; three of five, else all but the last.
        smooth: ``noise`` averages over 4 noisy copies of each image, ``aug`` over mirrored and
            brighter or darker ones, ``eigen`` keeps the first principal component of the
            channels' contributions instead of their sum. They apply to the methods that are
            sums over channels of activation and gradient.
        seed: of the noise.
        output: which part of what the model returns holds the logits: a key, an attribute or a
            number. One logit per image, a binary head, becomes two classes.
        activation: what turns these logits into probabilities: ``softmax`` over exclusive
            classes, ``sigmoid`` of each class by itself, ``none`` where the model returns
            probabilities; ``auto`` recognises the last.

    Raises:
        LayerError: an address leads to no module, or to no spatial tensor.
        MethodError: an unknown method or option, or none of the methods is defined here; where
            only some are not, ``skipped`` says why.
        ClassError: a target that is no class of the model, or an unknown quantity.
        ModelError: images or logits of the wrong shape.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
        >>> e = explain(net, torch.rand(5, 3, 8, 8), layers=["0"], targets=[0, 1])
        >>> tuple(e.maps["layer_cam"]["0"].shape)
        (5, 2, 6, 6)
    """
    check_images(images)
    _as_indices(targets, len(images))
    explainer = Explainer(
        model,
        layers,
        methods,
        quantity=quantity,
        gamma=gamma,
        stages=stages,
        smooth=smooth,
        seed=seed,
        output=output,
        activation=activation,
        input_shape=tuple(images.shape[1:]),
    )
    with explainer:
        return explainer.explain(images, targets)


class Explainer:
    """A model that is surveyed, traced and planned once, and called for many batches.

    Entering it holds the model in evaluation mode, without parameter gradients, until the block
    ends, whatever happens inside; a call outside a block does so for itself. The model comes
    back as it was found.

    Args:
        model: a classifier from ``(N, 3, H, W)`` to logits, or what ``load_model`` returns.
        layers: as for ``explain``; or layers that are resolved already, by name.
        methods: names from the registry, in any spelling, or methods that are resolved already.
        channels: layers whose channels are kept with Grad-CAM's weight of each; as ``layers``,
            but None is none.
        quantity: as for ``explain``, and so are ``gamma`` to ``activation``.
        gamma: steepness of the lift in LayerCAM's fusion.
        stages: how many early stages the fusion lifts.
        smooth: some of ``noise``, ``aug`` and ``eigen``.
        seed: of the noise.
        output: which part of what the model returns holds the logits.
        activation: how they become probabilities.
        input_shape: ``(C, H, W)`` of the images; a ``LoadedModel`` knows its own.
        batch_size: images per batch; chosen from a byte budget if None.

    Raises:
        LayerError, MethodError, ClassError, ModelError: as for ``explain``.
        MemoryLimitError: one image alone is too much.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
        >>> with Explainer(net, ["0"], input_shape=(3, 8, 8)) as explainer:
        ...     maps = [explainer(torch.rand(2, 3, 8, 8), "all").maps for _ in range(3)]
        >>> tuple(maps[0]["layer_cam"]["0"].shape)
        (2, 2, 6, 6)
    """

    def __init__(
        self,
        model: nn.Module | LoadedModel,
        layers: Asked = None,
        methods: str | Sequence[str] | Sequence[Method] = DEFAULT_METHODS,
        *,
        channels: Asked = None,
        quantity: str = "logit",
        gamma: float = GAMMA,
        stages: int | None = None,
        smooth: str | Sequence[str] = (),
        seed: int = 0,
        output: str | None = None,
        activation: str = AUTO,
        input_shape: tuple[int, ...] | None = None,
        batch_size: int | None = None,
    ) -> None:
        module = model.module if isinstance(model, LoadedModel) else model
        if isinstance(model, LoadedModel):
            output = model.output if output is None else output
            activation = model.activation if activation == AUTO else activation
            input_shape = input_shape or (3, *model.preprocessing.size)
        check_module(module)
        chosen = _resolved_methods(methods)
        if input_shape is None:
            raise ModelError(
                "input_shape: expected (C, H, W) of the images, got none. A plain module does not "
                "tell: pass input_shape=(3, 224, 224), or what load_model returns."
            )
        sample = sample_image((input_shape[-2], input_shape[-1]), input_shape[0])
        with undisturbed(module):
            task = make_task(
                module,
                _resolved(module, layers, sample, output),
                chosen,
                quantity=quantity,
                gamma=gamma,
                stages=stages,
                smooth=smooth,
                seed=seed,
                output=output,
                activation=activation,
                channels={} if channels is None else _resolved(module, channels, sample, output),
            )
            self._task = prepared(module, task, sample)
        self._module = module
        self._shape = tuple(input_shape)
        self._asked = batch_size
        self._batches = BatchPlanner(batch_size or FIRST_BATCH)
        self._plan: Plan | None = None
        self._entered = ExitStack()
        self._depth = 0

    def __enter__(self) -> Self:
        if not self._depth:
            self._entered.enter_context(undisturbed(self._module))
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._entered.close()

    def only(self, methods: Sequence[Method]) -> "Explainer":
        """Return an explainer of some of the methods, which computes them as this one does."""
        few = copy(self)
        few._task = replace(self._task, methods=methods)
        few._plan = replace(self.plan, task=replace(self.plan.task, methods=methods))
        few._entered, few._depth = ExitStack(), 0
        return few

    @property
    def plan(self) -> Plan:
        """What is computed and how; fixed by the first pass, over noise if nothing came before."""
        if self._plan is None:
            self.probe(sample_image((self._shape[-2], self._shape[-1]), self._shape[0]))
        assert self._plan is not None
        return self._plan

    @property
    def batch_size(self) -> int:
        """How many images the next batch takes: never more than memory has held before."""
        return self._batches.size

    def probe(self, image: Tensor, targets: Targets = None) -> Plan:
        """Plan from one image; its maps are thrown away.

        Methods that change images or layers and ask the network again are not run.

        Args:
            image: ``(1, C, H, W)``, preprocessed.
            targets: as for ``explain``.

        Raises:
            LayerError, ClassError, ModelError, MemoryLimitError: as for calling it.
        """

        def progress(_fraction: float) -> None:
            pass

        try:
            with self:
                _, self._plan = _batch(
                    self._module, image, self._task, self._plan, targets, False, progress, True
                )
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryLimitError(ONE_IMAGE_TOO_MUCH) from error
        self._batches.learn([1], self._asked or self._plan.batch_size)
        return self._plan

    def __call__(
        self,
        images: Tensor,
        targets: Targets = None,
        *,
        progress: Progress = lambda share: None,
    ) -> Explanation:
        """Explain one batch, halved again and again where it does not fit into memory.

        Args:
            images: ``(N, C, H, W)``, preprocessed; moved to the model's device.
            targets: as for ``explain``.
            progress: called with the fraction of the further forward passes that is done, if
                there are any.

        Raises:
            ModelError: images of another shape than planned, or no logits.
            LayerError, ClassError: as for ``explain``.
            MemoryLimitError: one image alone is too much.
        """
        check_images(images)
        if tuple(images.shape[1:]) != self._shape:
            raise ModelError(
                f"images: expected (N, {', '.join(map(str, self._shape))}) as planned, got "
                f"{tuple(images.shape)}. Make another Explainer for images of another size."
            )
        wanted = _as_indices(targets, len(images))
        with self:
            parts, self._plan = _within_memory(
                self._module,
                images,
                self._task,
                self._plan,
                wanted,
                self._asked is None,
                progress,
                self._batches,
            )
        allowed = self._asked or self._plan.batch_size
        self._batches.learn([len(part.logits) for part in parts], allowed)
        return join(parts)

    def explain(self, images: Tensor, targets: Targets = None) -> Explanation:
        """Explain any number of images, batch by batch.

        Takes and raises what calling it does.
        """
        check_images(images)
        wanted = _as_indices(targets, len(images))
        parts: list[Explanation] = []
        start = 0
        with self:
            while start < len(images):
                rows = slice(start, start + self.batch_size)
                own = wanted[rows] if isinstance(wanted, Tensor) and wanted.ndim == 2 else wanted
                parts.append(self(images[rows], own))
                start = rows.stop
        return join(parts)


def _resolved_methods(methods: str | Sequence[str] | Sequence[Method]) -> Sequence[Method]:
    """Return methods by their names, and those that are resolved already as they are."""
    if isinstance(methods, str):
        return resolve_methods(methods)
    found = [method for method in methods if isinstance(method, Method)]
    return found or resolve_methods([name for name in methods if isinstance(name, str)])


def _resolved(
    module: nn.Module, asked: Asked, sample: Tensor, output: str | None
) -> Mapping[str, Layer]:
    """Return layers by the names they were asked by."""
    if isinstance(asked, Mapping):
        return asked
    wanted = split_list(asked) if isinstance(asked, str) else asked
    return choose_layers(module, wanted, sample, output)


def prepared(module: nn.Module, task: Task, image: Tensor) -> Task:
    """Return a task with what only a pass over an image can tell of the model.

    Args:
        module: in evaluation mode.
        task: what to compute.
        image: ``(1, 3, H, W)``, preprocessed.

    Raises:
        MethodError: nothing of what is asked can be computed.
        MemoryLimitError: one image alone is too much.
    """
    if _has_batch_statistics(module) and _depends_on_company(module, image, task.output):
        task = replace(task, notes=(*task.notes, COMPANY))
    whole = [m for m in task.methods if m.needs is INPUT_GRADIENT and task.computes(m)]
    if not whole:
        return task
    with gradients_on():
        inputs = to_model(module, image)
        try:
            with full_precision(inputs.device):
                gap = full_grad_gap(module, inputs, task)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryLimitError(ONE_IMAGE_TOO_MUCH) from error
    others = uncounted_kinds(module)
    return task.leaving_out(*(Skip(m.key, None, _of_gap(m, *gap, others)) for m in whole if gap))


def _has_batch_statistics(module: nn.Module) -> bool:
    """Say whether a normalisation has no statistics but those of the batch, in evaluation mode."""
    kind = nn.modules.batchnorm._BatchNorm
    return any(isinstance(part, kind) and part.running_mean is None for part in module.modules())


def _depends_on_company(module: nn.Module, image: Tensor, output: str | None) -> bool:
    """Say whether the logits of an image change with another beside it.

    A model that cannot take them at all is none of this function's business: the first batch
    will say so.
    """
    inputs = to_model(module, torch.cat([image, 1 - image]))
    forward = forward_without_gradients(module)
    with full_precision(inputs.device):
        try:
            together = logits_of(forward(inputs), len(inputs), output)
            alone = logits_of(forward(inputs[:1]), 1, output)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return False
    return depends_on_company(together, alone)


def _of_gap(method: Method, score: float, total: float, others: str) -> str:
    """Say why FullGrad is left out."""
    return (
        f"{method.name} adds up the shares of the image and of every bias, but here they come to "
        f"{total:.3g} of a logit of {score:.3g}: the share of {others} is not counted."
    )


def explain_within_memory(
    module: nn.Module,
    images: Tensor,
    task: Task,
    targets: Targets,
    bounded: bool = True,
    progress: Progress = lambda share: None,
) -> list[Explanation]:
    """Explain one batch without a plan, halved where it does not fit into memory."""
    planner = BatchPlanner(len(images))
    parts, _ = _within_memory(module, images, task, None, targets, bounded, progress, planner)
    return parts


def _within_memory(
    module: nn.Module,
    images: Tensor,
    task: Task,
    plan: Plan | None,
    targets: Targets,
    bounded: bool,
    progress: Progress,
    planner: BatchPlanner,
) -> tuple[list[Explanation], Plan]:
    """Explain one batch, halved again and again where it does not fit into memory.

    A batch as large as one that has failed is halved without being tried: its parts are the
    same as if it had been.

    Takes what ``_batch`` takes, and the planner that remembers, and returns its results in order.

    Raises:
        MemoryLimitError: one image alone is too much.
    """
    if len(images) < planner.failed:
        try:
            part, plan = _batch(module, images, task, plan, targets, bounded, progress)
            return [part], plan
        except (MemoryError, RuntimeError, BatchTooLarge) as error:
            if not is_out_of_memory(error):
                raise
            if len(images) == 1:
                raise MemoryLimitError(ONE_IMAGE_TOO_MUCH) from error
        planner.failed = len(images)
    half = (len(images) + 1) // 2  # outside the handler: the failed batch's tensors are freed
    give_back_cached(device_of(module, images))
    parts: list[Explanation] = []
    for rows in (slice(None, half), slice(half, None)):
        own = targets[rows] if isinstance(targets, Tensor) and targets.ndim == 2 else targets
        few, plan = _within_memory(
            module, images[rows], task, plan, own, bounded, progress, planner
        )
        parts += few
    assert plan is not None
    return parts, plan


def explain_batch(
    module: nn.Module,
    images: Tensor,
    task: Task,
    targets: Targets,
    bounded: bool = True,
    progress: Progress = lambda share: None,
) -> Explanation:
    """Explain one batch without a plan."""
    return _batch(module, images, task, None, targets, bounded, progress)[0]


def _batch(
    module: nn.Module,
    images: Tensor,
    task: Task,
    plan: Plan | None,
    targets: Targets,
    bounded: bool,
    progress: Progress,
    probing: bool = False,
) -> tuple[Explanation, Plan]:
    """Explain one batch: one forward pass, one backward pass per class, and what else is asked.

    Args:
        module: the classifier; comes back as it was found.
        images: ``(N, 3, H, W)``, preprocessed.
        task: what to compute.
        plan: made of it; by this batch's forward pass if None.
        targets: as for ``explain``.
        bounded: stop a batch of several images that goes far beyond the byte budget; not where
            a user has chosen its size.
        progress: called with the fraction of the further forward passes that is done, if there
            are any.
        probing: leave out what draws noise or asks the network again.

    Raises:
        BatchTooLarge: it does.
        LayerError, ClassError, ModelError: as for ``explain``.
    """
    with undisturbed(module), gradients_on():
        inputs = to_model(module, images)
        allowed = FIRST_BATCH_ALLOWANCE * budget_of(inputs.device).activations
        limit = allowed if bounded and len(images) > 1 else float("inf")
        started = time.perf_counter()
        with full_precision(inputs.device):
            captured = _forward(module, inputs, task if plan is None else plan.task, limit)
            if plan is None:
                plan = _planned(module, captured, task)
            task = replace(plan.task, findings=dict.fromkeys(plan.task.findings))
            if probing:
                alone = [m for m in task.methods if not (m.needs.changes or m.needs.random)]
                task = replace(task, methods=alone)
            chosen = choose_targets(captured.logits.detach(), targets)  # (N, K)
            _note_negative_values(captured, task)
            forward = Cost(seconds=time.perf_counter() - started)
            found, costs = _family_maps(module, captured, chosen, task, progress)
            costs[SHARED] += forward
            if LOOPED in task.findings:
                plan.task.findings[LOOPED] = None
    maps = {
        method.key: _by_name(found.get(method.key, {}), method, task) for method in task.methods
    }
    for method in task.methods:
        if maps[method.key]:
            count = chosen.numel() * len(maps[method.key])
            costs[_passes(method, task)] += Cost(maps=count)
    explanation = Explanation(
        maps=maps,
        logits=captured.logits.detach().float(),
        activation=plan.activation,
        output=plan.output,
        targets=chosen,
        layers=dict(plan.layers),
        shapes={name: plan.shapes[name] for name in plan.layers},
        duplicates=_holding_duplicates(captured, plan),
        skipped=plan.skipped,
        costs=costs,
        bytes_per_image=plan.bytes_per_image,
        channels=_channels(captured, found.get(CHANNEL_WEIGHTS, {}), plan),
        notes=(*plan.notes, *task.findings),
        findings=tuple(task.findings),
    )
    return explanation, plan


def _forward(module: nn.Module, inputs: Tensor, task: Task, limit: float) -> Captured:
    """Run the forward pass; name a layer without a grid by the name it was asked by."""
    try:
        return captured_pass(module, inputs, task, limit)
    except NotSpatialError as error:
        named = (*task.layers.items(), *task.channels.items())
        asked = [name for name, layer in named if layer.module == error.name]
        near = nearest_layers(survey(module, inputs[:1], task.output), error.name)
        raise LayerError(
            f"layer: expected a spatial output, but {asked[0]!r} gives {error.reason}. "
            f"Nearest with a grid: {', '.join(near) or 'none'}."
        ) from error


def _planned(module: nn.Module, captured: Captured, task: Task) -> Plan:
    """Fix what the first forward pass shows of a model."""
    activation = settled(
        module, captured.inputs, captured.output, captured.logits, captured.activation
    )
    asked = task.output
    layers = _read_layers(captured, task.layers)
    channels = _read_layers(captured, task.channels)
    task = replace(
        task,
        layers=layers,
        channels=channels,
        skipped=(*task.skipped, *large_grids(task, captured.activations)),
        output=captured.output,
        activation=activation,
    )
    budget = budget_of(captured.inputs.device)
    return Plan(
        task=task,
        input_shape=tuple(captured.inputs.shape[1:]),
        shapes={
            name: tuple(captured.activations[layer.reads].shape[1:])
            for name, layer in (layers | channels).items()
        },
        duplicates=_duplicates(captured, layers),
        num_classes=captured.logits.shape[1],
        bytes_per_image=captured.bytes_per_image,
        variants_per_image=count_variants(task, captured.activations) // len(captured.inputs),
        batch_size=max(
            1, min(budget.images, budget.activations // max(1, captured.bytes_per_image))
        ),
        notes=(*reading_notes(activation, captured.output, asked), *task.notes),
    )


def _note_negative_values(captured: Captured, task: Task) -> None:
    """Let the task find out where methods made for A >= 0 meet negative values."""
    methods = [method for method in task.methods if method.non_negative and task.computes(method)]
    wanted = {name: read for method in methods for name, read in task.wanted(method).items()}
    negative = [n for n, read in wanted.items() if bool((captured.activations[read] < 0).any())]
    if negative:
        names = ", ".join(method.name for method in methods)
        task.findings[NEGATIVE.format(methods=names, layers=", ".join(negative))] = None


def _channels(captured: Captured, weights: Mapping[str, Tensor], plan: Plan) -> dict[str, Channels]:
    """Return the channels that the plan keeps, by address, in network order."""
    return {
        name: Channels(
            layer=layer,
            features=captured.activations[layer.reads].detach().float().cpu(),
            weights=weights[layer.reads],
        )
        for name, layer in plan.channels.items()
    }


def _family_maps(
    module: nn.Module, captured: Captured, targets: Tensor, task: Task, progress: Progress
) -> tuple[Maps, dict[str, Cost]]:
    """Compute the maps by method and what was read, one kind of passes after the other.

    Only the shared passes see the task's channels: their weights are those of the plain images.
    """
    task = replace(task, methods=[m for m in task.methods if task.computes(m)])
    inputs, logits = captured.inputs.detach(), captured.logits.detach()
    meter = Meter(count_variants(task, captured.activations), progress)
    maps: Maps = {}
    costs: dict[str, Cost] = {}
    for passes in (PASSES[0], COPIES, *PASSES[1:]):
        methods = [method for method in task.methods if _passes(method, task) == passes]
        if not methods and passes != SHARED:
            continue
        own = replace(task, methods=methods, channels={})
        started = time.perf_counter()
        if passes == SHARED:
            guided = [method for method in task.methods if method.needs is GUIDED]
            own = replace(task, methods=[*methods, *guided])
            found, cost = shared_maps(captured, targets, own, logits)
        elif passes == COPIES:
            found, cost = averaged_maps(module, inputs, targets, own, logits)
        elif passes == LOOK_ALIKES.passes:
            found, cost = look_alike_maps(captured, targets, own, logits)
        elif passes == NOISE.passes:
            found, cost = noise_maps(module, inputs, captured, targets, own)
        elif passes == GUIDED.passes:
            found, cost = guided_maps(module, inputs, targets, own, maps)
        else:
            found, cost = perturbation_maps(module, captured, targets, own, meter)
        maps |= found
        costs[passes] = cost + Cost(seconds=time.perf_counter() - started)
    return maps, costs


def _passes(method: Method, task: Task) -> str:
    """Return the kind of passes that a method's maps come from."""
    copied = method.smooths and {"noise", "aug"} & set(task.smooth)
    return COPIES if copied else method.needs.passes


def _read_layers(captured: Captured, asked: Mapping[str, Layer]) -> dict[str, Layer]:
    """Return the layers in network order, with what was done to tokens."""
    order = sorted(asked, key=lambda name: captured.order.index(asked[name].reads))
    layers = {}
    for name in order:
        layer = asked[name]
        how = str(captured.grids[layer.reads])
        layers[name] = replace(layer, tensor=f"{layer.tensor}, {how}") if how else layer
    return layers


def _duplicates(captured: Captured, layers: dict[str, Layer]) -> dict[str, str]:
    """Return, for each layer whose tensor equals an earlier layer's, that earlier layer."""
    duplicates: dict[str, str] = {}
    for name, layer in layers.items():
        own = captured.activations[layer.reads]
        for earlier in layers:
            if earlier == name:
                break
            other = captured.activations[layers[earlier].reads]
            if earlier not in duplicates and own.shape == other.shape and torch.equal(own, other):
                duplicates[name] = earlier
                break
    return duplicates


def _holding_duplicates(captured: Captured, plan: Plan) -> dict[str, str]:
    """Return those of the plan's duplicates that are equal for this batch as well."""
    pairs = [
        (
            captured.activations[plan.layers[name].reads],
            captured.activations[plan.layers[one].reads],
        )
        for name, one in plan.duplicates.items()
    ]
    if not pairs:
        return {}
    equal = torch.stack([(own == other).all() for own, other in pairs]).tolist()
    return {
        name: plan.duplicates[name]
        for name, holds in zip(plan.duplicates, equal, strict=True)
        if holds
    }


def _by_name(by_read: dict[str, Tensor], method: Method, task: Task) -> dict[str, Tensor]:
    """Return a method's maps by the names the layers were asked by, and the fused map."""
    if not method.per_layer:
        return dict(by_read)
    maps = {name: by_read[reads] for name, reads in task.wanted(method).items()}
    if method.fuses and len(by_read) > 1:
        reads = list(dict.fromkeys(task.wanted(method).values()))
        known = [task.stage_ids[read] for read in reads] if task.stage_ids else None
        maps[FUSED] = fuse([by_read[read] for read in reads], task.gamma, task.stages, known)
    return maps


def next_batch_size(done: Explanation) -> int:
    """Return how many images the next batch takes: a fixed byte budget's worth, at least one.

    The budget depends on the device's type alone, not on what is free: equal runs stay equal.
    """
    budget = budget_of(done.logits.device)
    return max(1, min(budget.images, budget.activations // max(1, done.bytes_per_image)))


def choose_targets(logits: Tensor, targets: Targets) -> Tensor:
    """Return the class indices to explain, ``(N, K)`` int64.

    Args:
        logits: ``(N, num_classes)``.
        targets: K indices for every image, ``(N, K)``, ``all``, ``topK`` (most probable
            first), ``auto`` (all of up to two classes, else the top 3), or None for the most
            probable class.

    Raises:
        ClassError: an index outside 0..num_classes-1, or a tensor for another number of images.
    """
    count, num_classes = logits.shape
    wanted = _as_indices(targets, count)
    if wanted == "auto":
        wanted = "all" if num_classes <= 2 else "top3"
    if isinstance(wanted, str):
        if wanted != "all":
            return strongest_classes(logits, int(wanted[3:]))
        wanted = torch.arange(num_classes)
    outside = wanted[(wanted < 0) | (wanted >= num_classes)]
    if len(outside):
        raise ClassError(
            f"targets: expected class indices 0 to {num_classes - 1}, got {int(outside[0])}."
        )
    return wanted.expand(count, -1).to(logits.device, torch.int64)


def _as_indices(targets: Sequence[int] | Tensor | str | None, count: int) -> Tensor | str:
    """Return targets as indices ``(K,)`` or ``(count, K)``, or as ``all``, ``auto`` or ``topK``.

    Raises:
        ClassError: they are none of these.
    """
    if targets is None:
        return "top1"
    if isinstance(targets, str):
        top = targets.removeprefix("top")
        if targets in ("all", "auto") or (top != targets and top.isdecimal() and int(top) > 0):
            return targets
        raise ClassError(f"targets: expected class indices, 'all' or 'top3', got {targets!r}.")
    try:
        indices = torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ClassError(f"targets: expected class indices, got {targets!r}.") from error
    whole = not indices.is_floating_point() and indices.dtype != torch.bool
    fits = indices.ndim == 1 or (indices.ndim == 2 and len(indices) == count)
    if not whole or not fits or indices.numel() == 0:
        raise ClassError(
            f"targets: expected K class indices or a tensor (N, K) with N = {count}, "
            f"got shape {tuple(indices.shape)} of {indices.dtype}."
        )
    return indices


def check_images(images: Tensor) -> None:
    """Refuse what is no batch of images.

    Raises:
        ModelError: not a float tensor ``(N, 3, H, W)`` with N > 0.
    """
    if not isinstance(images, Tensor):
        raise ModelError(
            f"images: expected a float tensor (N, 3, H, W), got {type(images).__name__}. "
            "For files use camreport.run(files, out)."
        )
    shape = tuple(images.shape)
    if images.ndim != 4 or shape[0] == 0 or not images.is_floating_point():
        raise ModelError(
            f"images: expected a float tensor (N, 3, H, W), got {shape} of {images.dtype}."
            + (" Add the batch axis: images[None]." if images.ndim == 3 else "")
        )


def join(parts: Sequence[Explanation]) -> Explanation:
    """Put the batches of one call together, in order."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    return replace(
        first,
        maps={
            method: {
                layer: torch.cat([part.maps[method][layer] for part in parts]) for layer in by_layer
            }
            for method, by_layer in first.maps.items()
        },
        logits=torch.cat([part.logits for part in parts]),
        targets=torch.cat([part.targets for part in parts]),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        findings=tuple(dict.fromkeys(note for part in parts for note in part.findings)),
        duplicates={
            name: earlier
            for name, earlier in first.duplicates.items()
            if all(name in part.duplicates for part in parts)
        },
        costs={
            passes: sum((part.costs[passes] for part in parts), Cost()) for passes in first.costs
        },
        channels={
            name: replace(
                channels,
                features=torch.cat([part.channels[name].features for part in parts]),
                weights=torch.cat([part.channels[name].weights for part in parts]),
            )
            for name, channels in first.channels.items()
        },
    )
