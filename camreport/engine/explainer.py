"""The engine: computes every map of a batch of images in as few passes as possible.

model ─▶ Draft (checked, no pass) ─▶ first forward ─▶ Plan ─▶ passes of every batch ─▶ Explanation
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from math import prod
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from camreport.engine.backward import CHANNEL_WEIGHTS
from camreport.engine.batch import Batch, ClassBatching, Maps, PassCounter, Progress
from camreport.engine.cost import Cost
from camreport.engine.forward import ForwardPass, forward_pass
from camreport.engine.memory import BatchPlanner, Limits, give_back_cached
from camreport.engine.passes import PASSES, Passes, passes_of
from camreport.engine.plan import Options, Plan, Skip, make_draft
from camreport.engine.probe import ONE_IMAGE_TOO_MUCH, checked_draft, make_plan
from camreport.engine.targets import Targets, as_indices, choose_targets, of_rows
from camreport.engine.variants import Finished, Make, variant_logits
from camreport.errors import LayerError, MemoryLimitError, ModelError
from camreport.images.preprocessing import Preprocessing
from camreport.messages import Message, message
from camreport.methods import DEFAULT_METHODS, Method, resolve_methods
from camreport.methods.fusion import fuse
from camreport.network.address import Layer
from camreport.network.checks import check_module
from camreport.network.choose import choose_layers, nearest_layers
from camreport.network.memory import BatchTooLarge, is_out_of_memory
from camreport.network.scrambled import Copies, scrambled
from camreport.network.state import (
    device_of,
    full_precision,
    gradients_on,
    preserved,
    to_model,
)
from camreport.network.survey import sample_image, survey
from camreport.network.trace import NotSpatialError
from camreport.settings import AUTO, GAMMA, split_list

FUSED = "fused"
"""Layer name of the map that fuses a method's maps of all layers."""

LOOPED = message("engine.looped")
"""Note on models whose backward pass does not support several classes at once."""

Asked = str | int | nn.Module | Sequence[str | int | nn.Module] | Mapping[str, Layer] | None
"""Layers as a user may specify them."""


def _silent(_fraction: float) -> None:
    """Ignore progress."""


@dataclass(frozen=True)
class Channels:
    """One layer's channels and their weights: Grad-CAM is the weighted sum of the channels.

    Attributes:
        layer: the layer.
        features: the layer's activation, ``(N, C, h, w)`` float32, on the CPU.
        weights: spatial means of the gradient of the explained score, ``(N, K, C)`` float32.
    """

    layer: Layer
    features: Tensor = field(repr=False)
    weights: Tensor = field(repr=False)


@dataclass(frozen=True)
class Explanation:
    """The maps of one call, with everything needed to interpret them.

    Attributes:
        maps: ``maps[method][layer]`` is a Tensor ``(N, K, h, w)``, float32: raw, that is
            unnormalised and before the final ReLU. Layers have the names that the caller gave;
            ``maps["layer_cam"]["fused"]`` exists if there are two layers or more. Methods on
            the input's grid: ``guided_backprop`` ``(N, K, 3, H, W)`` and ``full_grad``
            ``(N, K, H, W)`` under the layer ``input``, ``guided_grad_cam`` ``(N, K, 3, H, W)``
            per layer. ``gradient_x_activation`` is ``(N, K, C, h, w)``.
        logits: ``(N, num_classes)`` float32.
        activation: how logits become probabilities: ``softmax``, ``sigmoid``, or ``none`` if the
            model returns probabilities.
        output: key of the logits in the model's output; None for a tensor or the key ``logits``.
        targets: class indices explained, ``(N, K)`` int64.
        layers: the layers with maps, by the name that the caller gave, in network order.
        shapes: ``(C, h, w)`` of each layer, under the same names.
        duplicates: for each layer whose tensor equals an earlier layer's, that earlier layer,
            such as ``features.12`` for ``avgpool`` of AlexNet at 224 px.
        skipped: requested methods that are not defined here, with the reasons.
        costs: number of passes and maps, by kind of passes.
        bytes_per_image: bytes that the model's innermost modules return for one image.
        channels: the layers whose channels are kept, by address, in network order.
        options: what was asked of the engine.
        notes: notes for the reader about the model and about how the maps were computed.
        findings: those of the notes that result from these images.
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
    options: Options = field(repr=False)
    notes: tuple[Message, ...] = ()
    findings: tuple[Message, ...] = ()

    @property
    def cost(self) -> Cost:
        """Total number of passes and maps."""
        return sum(self.costs.values(), Cost())


@runtime_checkable
class Classifier(Protocol):
    """A module with its preprocessing and output format; ``load_model`` returns one.

    Attributes:
        module: maps images ``(N, 3, H, W)`` to logits, or to an output that contains them.
        preprocessing: preprocessing of the images; its ``size`` is their height and width.
        output: key, attribute or index of the logits in the module's output.
        activation: how logits become probabilities, as for ``explain``.
    """

    @property
    def module(self) -> nn.Module: ...  # noqa: D102
    @property
    def preprocessing(self) -> Preprocessing: ...  # noqa: D102
    @property
    def output(self) -> str | None: ...  # noqa: D102
    @property
    def activation(self) -> str: ...  # noqa: D102


def explain(
    model: nn.Module | Classifier,
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

    The model's mode, ``requires_grad``, ``.grad``, hooks and state are restored at the end, also
    after an exception. Many images are split into batches by a byte budget; the maps do not
    depend on the split.

    Args:
        model: a classifier from ``(N, 3, H, W)`` to logits, or the result of ``load_model``.
        images: ``(N, 3, H, W)``, preprocessed; moved to the model's device.
        layers: addresses such as ``features.12``, patterns such as ``layer*``, or module
            objects; None chooses up to five layers.
        methods: names from the registry, in any spelling.
        targets: K class indices for every image, a tensor ``(N, K)``, ``"all"``, ``"top3"``,
            or None for the most probable class.
        quantity: the score to explain: the class's ``logit``, its ``probability``, its
            ``contrast`` (this logit minus the strongest other) or ``contrast:INDEX``. Score-CAM
            and Finer-CAM have a score of their own and keep it.
        gamma: steepness of the lift in LayerCAM's fusion.
        stages: how many early stages the fusion lifts; by default three if there are five stages,
            otherwise all but the last.
        smooth: ``noise`` averages over 4 noisy copies of each image, ``aug`` over mirrored and
            brighter or darker ones, ``eigen`` keeps the first principal component of the
            channels' contributions instead of their sum. They apply to the methods that are
            sums over channels of activation and gradient.
        seed: random seed of the noise.
        output: key, attribute or index of the logits in the model's output. One logit per image,
            as from a binary head, becomes two classes.
        activation: how logits become probabilities: ``softmax`` over exclusive classes,
            ``sigmoid`` of each class by itself, ``none`` if the model returns probabilities;
            ``auto`` detects a model that returns probabilities.

    Raises:
        LayerError: an address leads to no module, or to no spatial tensor.
        MethodError: an unknown method or option, or none of the methods is defined here. If only
            some methods are undefined, ``skipped`` holds the reasons.
        ClassError: a target that is not a class of the model, or an unknown quantity.
        ModelError: images or logits of the wrong shape.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
        >>> e = explain(net, torch.rand(5, 3, 8, 8), layers=["0"], targets=[0, 1])
        >>> tuple(e.maps["layer_cam"]["0"].shape)
        (5, 2, 6, 6)
    """
    check_images(images)
    as_indices(targets, len(images))
    with Explainer(
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
    ) as explainer:
        return explainer.explain(images, targets)


class Explainer:
    """A model that is surveyed, traced and planned once, and then explains many batches.

    Inside a ``with`` block the model stays in evaluation mode, without parameter gradients, until
    the block ends or fails. A call outside a block does the same for the time of the call. The
    model's state is restored afterwards.

    Args:
        model: a classifier from ``(N, 3, H, W)`` to logits, or the result of ``load_model``.
        layers: as for ``explain``, or a mapping of names to resolved layers.
        methods: names from the registry, in any spelling.
        channels: layers whose channels are kept with their Grad-CAM weights, in the format of
            ``layers``; None keeps no channels.
        quantity: the score to explain, as for ``explain``.
        gamma: steepness of the lift in LayerCAM's fusion.
        stages: how many early stages the fusion lifts.
        smooth: some of ``noise``, ``aug`` and ``eigen``.
        seed: random seed of the noise.
        output: key, attribute or index of the logits in the model's output.
        activation: how logits become probabilities, as for ``explain``.
        input_shape: ``(C, H, W)`` of the images; not needed for a ``LoadedModel``.
        batch_size: images per batch; chosen from a byte budget if None.
        limits: the limits on batch and chunk sizes.

    Attributes:
        draft: the options and layers, checked against the model's code.

    Raises:
        LayerError, MethodError, ClassError, ModelError: as for ``explain``.
        MemoryLimitError: a single image does not fit into memory.

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
        model: nn.Module | Classifier,
        layers: Asked = None,
        methods: str | Sequence[str] = DEFAULT_METHODS,
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
        limits: Limits | None = None,
    ) -> None:
        if isinstance(model, Classifier) and not isinstance(model, nn.Module):
            output = model.output if output is None else output
            activation = model.activation if activation == AUTO else activation
            input_shape = input_shape or (3, *model.preprocessing.size)
            model = model.module
        module = check_module(model)
        chosen = tuple(resolve_methods(methods))
        options = Options(chosen, quantity, gamma, stages, smooth, seed, output, activation)
        self._module, self._limits = module, limits or Limits()
        self._shape = _checked_shape(input_shape)
        self._batching = ClassBatching()
        self._asked_size = batch_size
        self._sizes = BatchPlanner(batch_size or self._limits.first_batch)
        self._plan: Plan | None = None
        self._entered, self._depth = ExitStack(), 0
        self._copies = Copies()
        sample = self._sample()
        with preserved(module):
            chosen_layers = _resolved(module, layers, sample, output)
            kept = {} if channels is None else _resolved(module, channels, sample, output)
            draft = make_draft(module, chosen_layers, options, kept)
            self.draft = checked_draft(module, draft, sample, self._limits)

    @classmethod
    def of_options(
        cls,
        model: nn.Module | Classifier,
        layers: Asked,
        options: Options,
        *,
        input_shape: tuple[int, ...],
        batch_size: int | None = None,
        limits: Limits | None = None,
    ) -> "Explainer":
        """Return the explainer of options that are already put together; arguments as above."""
        return cls(
            model,
            layers,
            [method.key for method in options.methods],
            quantity=options.quantity,
            gamma=options.gamma,
            stages=options.stages,
            smooth=options.smooth,
            seed=options.seed,
            output=options.output,
            activation=options.activation,
            input_shape=input_shape,
            batch_size=batch_size,
            limits=limits,
        )

    def __enter__(self) -> Self:
        if not self._depth:
            self._entered.enter_context(preserved(self._module))
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._copies = Copies()
            self._entered.close()

    def only(self, methods: Sequence[Method]) -> "Explainer":
        """Return an explainer of some of the methods; nothing is checked or traced again."""
        options = replace(
            self.draft.options,
            methods=tuple(methods),
            output=self.plan.output,
            activation=self.plan.activation,
        )
        few = copy(self)
        few.draft, few._plan = replace(self.draft, options=options), None
        few._entered, few._depth = ExitStack(), 0
        return few

    def resized(self, height: int, width: int) -> "Explainer":
        """Return an explainer of the same maps for images of another size.

        Raises:
            LayerError, MethodError, ModelError, MemoryLimitError: as for a new one; and whatever
                the model's own code raises about images of this size.
        """
        scale, plan = height * width / prod(self._shape[-2:]), self.plan
        return Explainer.of_options(
            self._module,
            self.draft.layers,
            replace(self.draft.options, output=plan.output, activation=plan.activation),
            input_shape=(self._shape[0], height, width),
            batch_size=self._asked_size and max(1, int(self._asked_size / scale)),
            limits=self._limits,
        )

    @contextmanager
    def scrambled(self, seed: int) -> Iterator[None]:
        """Permute every weight tensor within itself until the block ends; see ``scrambled``.

        In a block of the explainer's own the permuted copies are kept until that one ends.

        Args:
            seed: random seed of the permutations.

        Raises:
            FixedWeightsError: the network has no weights that can be permuted.
        """
        with self, scrambled(self._module, seed, self._copies):
            yield

    @property
    def plan(self) -> Plan:
        """What is computed and how; made from a noise image if no image has been explained yet."""
        return self._plan or self.probe(self._sample())

    @property
    def batch_size(self) -> int:
        """Number of images in the next batch, below every number that did not fit into memory."""
        return self._sizes.fitting(self._sizes.size)

    def probe(self, image: Tensor, targets: Targets = None) -> Plan:
        """Make the plan from one image and discard its maps.

        Only the passes that the methods have in common run; they raise any error that
        every image would cause.

        Args:
            image: ``(1, C, H, W)``, preprocessed.
            targets: as for ``explain``.

        Raises:
            LayerError, ClassError, ModelError, MemoryLimitError: as for ``explain``.
        """
        self._check(image)
        try:
            with self:
                self._batch(image, as_indices(targets, len(image)), _silent, PASSES[:1])
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryLimitError(ONE_IMAGE_TOO_MUCH) from error
        assert self._plan is not None
        return self._plan

    def __call__(
        self, images: Tensor, targets: Targets = None, *, progress: Progress = _silent
    ) -> Explanation:
        """Explain one batch; a batch that does not fit into memory is halved.

        Arguments and exceptions are those of ``explain``.
        """
        return self.explain(images, targets, batch_size=max(1, len(images)), progress=progress)

    def explain(
        self,
        images: Tensor,
        targets: Targets = None,
        *,
        batch_size: int | None = None,
        progress: Progress = _silent,
    ) -> Explanation:
        """Explain any number of images, batch by batch.

        Args:
            images: ``(N, C, H, W)``, preprocessed; moved to the model's device.
            targets: K class indices for every image, ``(N, K)``, or a word such as ``all``;
                see ``targets.py``.
            batch_size: images per batch; ``self.batch_size`` if None. A batch that does not fit
                into memory is halved, and later batches of that size are halved at once.
            progress: called with the fraction of a batch's further forward passes that are done,
                if there are any.

        Raises:
            ModelError: images of another shape than planned, or no logits.
            LayerError, ClassError: as for ``explain``.
            MemoryLimitError: a single image does not fit into memory.
        """
        self._check(images)
        wanted = as_indices(targets, len(images))
        parts: list[Explanation] = []
        start = 0
        with self:
            while start < len(images):
                allowed = self._sizes.fitting(batch_size or self.batch_size)
                size = min(allowed, len(images) - start)
                rows = slice(start, start + size)
                try:
                    parts.append(self._batch(images[rows], of_rows(wanted, rows), progress))
                    start = rows.stop
                    continue
                except (MemoryError, RuntimeError, BatchTooLarge) as error:
                    if not is_out_of_memory(error):
                        raise
                    if size == 1:
                        raise MemoryLimitError(ONE_IMAGE_TOO_MUCH) from error
                self._sizes.fail(size)  # outside the handler: the failed batch is freed
                give_back_cached(device_of(self._module, images))
        return join(parts)

    def variant_logits(
        self, count: int, make: Make, *, progress: Finished = _silent
    ) -> tuple[Tensor, Cost]:
        """Run changed images, made chunk by chunk within the byte budget, without gradients.

        A chunk that does not fit into memory is halved.

        Args:
            count: number of changed images.
            make: makes those of a slice of ``range(count)``, ``(m, 3, H, W)``, preprocessed.
            progress: called with the number of further finished images.

        Returns:
            their logits ``(count, num_classes)`` on the model's device, and the passes.

        Raises:
            ModelError: no logits.
            MemoryLimitError: a single image does not fit into memory.
        """
        started, plan = time.perf_counter(), self.plan
        sizes = self._module, plan, self._limits
        try:
            with self, torch.inference_mode(False), full_precision(self.device):
                logits, cost = variant_logits(*sizes, count, make, progress)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryLimitError(ONE_IMAGE_TOO_MUCH) from error
        return logits, cost + Cost(seconds=time.perf_counter() - started)

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return device_of(self._module)

    def _batch(
        self,
        images: Tensor,
        targets: Tensor | str,
        progress: Progress,
        kinds: Sequence[Passes] = PASSES,
    ) -> Explanation:
        """Explain one batch by a forward pass, a backward pass per class and further passes."""
        started, maps, costs = time.perf_counter(), Maps(), dict[str, Cost]()
        with gradients_on():
            inputs = to_model(self._module, images)
            with full_precision(inputs.device):
                forward = self._forward(inputs)
                if self._plan is None:
                    self._plan = make_plan(self._module, self.draft, forward, self._limits)
                    self._sizes.allow(self._asked_size or self._plan.batch_size)
                batch = Batch(
                    module=self._module,
                    plan=self._plan,
                    forward=forward,
                    targets=choose_targets(forward.logits.detach(), targets),  # (N, K)
                    reference_logits=forward.logits.detach(),
                    counter=PassCounter(self._plan.variants_per_image * len(inputs), progress),
                    batching=self._batching,
                    limits=self._limits,
                )
                findings = _negative_values(batch)
                for passes in kinds:
                    methods = passes.methods(self._plan)
                    if methods or passes.always:
                        found, cost = passes.run(batch, methods, maps)
                        maps |= found
                        now = time.perf_counter()
                        costs[passes.name] = cost + Cost(seconds=now - started)
                        started = now
        if self._batching.works is False:
            findings = (*findings, LOOPED)
        return _explanation(batch, maps, costs, findings)

    def _forward(self, inputs: Tensor) -> ForwardPass:
        """Run the forward pass of a batch.

        Raises:
            BatchTooLarge: the first batch goes far beyond the byte budget, and the user has not
                chosen its size.
            LayerError: a layer has no grid; the message has the layer's name from the caller.
        """
        limit, draft = float("inf"), self.draft
        if self._asked_size is None and len(inputs) > 1:
            activations = self._limits.budget(inputs.device).activations
            limit = self._limits.first_allowance * activations
        try:
            capture = self._plan.capture if self._plan else draft.capture
            return forward_pass(self._module, inputs, capture, limit)
        except NotSpatialError as error:
            named = (*draft.layers.items(), *draft.channels.items())
            given = [name for name, layer in named if layer.module == error.name]
            calls = survey(self._module, inputs[:1], draft.options.output)
            raise LayerError(
                f"layer: expected a spatial output, but {given[0]!r} gives {error.reason}. "
                f"Nearest with a grid: {', '.join(nearest_layers(calls, error.name)) or 'none'}."
            ) from error

    def _sample(self) -> Tensor:
        """Return the noise image on which the model is surveyed."""
        return sample_image((self._shape[-2], self._shape[-1]), self._shape[0])

    def _check(self, images: Tensor) -> None:
        """Refuse images of another shape than planned.

        Raises:
            ModelError: the images are not a batch of the planned shape.
        """
        check_images(images)
        if tuple(images.shape[1:]) != self._shape:
            raise ModelError(
                f"images: expected (N, {', '.join(map(str, self._shape))}) as planned, got "
                f"{tuple(images.shape)}. Make another Explainer for images of another size."
            )


def _checked_shape(shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the shape of the images, or raise if it is unknown.

    Raises:
        ModelError: the shape is None.
    """
    if shape is None:
        raise ModelError(
            "input_shape: expected (C, H, W) of the images, got none. Pass for example "
            "input_shape=(3, 224, 224), or what load_model returns as the model."
        )
    return tuple(shape)


def _resolved(
    module: nn.Module, layers: Asked, sample: Tensor, output: str | None
) -> Mapping[str, Layer]:
    """Return the layers of a request by the names that the caller gave."""
    if isinstance(layers, Mapping):
        return layers
    wanted = split_list(layers) if isinstance(layers, str) else layers
    return choose_layers(module, wanted, sample, output)


def _negative_values(batch: Batch) -> tuple[Message, ...]:
    """Return a note on methods that assume A >= 0 at layers with negative values."""
    plan = batch.plan
    methods = [
        method for method in plan.methods if method.non_negative and plan.points_by_layer(method)
    ]
    wanted = {
        name: point for method in methods for name, point in plan.points_by_layer(method).items()
    }
    if not wanted:
        return ()
    flags = [(batch.values(point) < 0).any() for point in wanted.values()]
    negative = [
        name for name, flag in zip(wanted, torch.stack(flags).tolist(), strict=True) if flag
    ]
    if not negative:
        return ()
    names = ", ".join(method.name for method in methods)
    return (message("engine.negative", methods=names, layers=", ".join(negative)),)


def _explanation(
    batch: Batch, maps: Maps, costs: dict[str, Cost], findings: tuple[Message, ...]
) -> Explanation:
    """Return the explanation of a batch from the maps of its passes."""
    plan, forward = batch.plan, batch.forward
    named: Maps = {}
    for method in plan.methods:
        kind = passes_of(method, plan)
        ran = maps.get(method.key, {}) if kind in costs else {}
        named[method.key] = _by_name(ran, method, plan)
        if ran:
            costs[kind] += Cost(maps=batch.targets.numel() * len(named[method.key]))
    weights = maps.get(CHANNEL_WEIGHTS, {})
    return Explanation(
        maps=named,
        logits=batch.reference_logits.float(),
        activation=plan.activation,
        output=plan.output,
        targets=batch.targets,
        layers=dict(plan.layers),
        shapes={name: plan.shapes[name] for name in plan.layers},
        duplicates=_holding_duplicates(batch),
        skipped=plan.skipped,
        costs=costs,
        bytes_per_image=forward.bytes_per_image,
        channels={
            name: Channels(layer, batch.values(layer.point).float().cpu(), weights[layer.point])
            for name, layer in plan.channels.items()
        },
        options=plan.options,
        notes=tuple(dict.fromkeys((*plan.notes, *findings))),
        findings=findings,
    )


def _holding_duplicates(batch: Batch) -> dict[str, str]:
    """Return the plan's duplicates whose tensors are equal for this batch as well."""
    layers, duplicates = batch.plan.layers, batch.plan.duplicates
    if not duplicates:
        return {}
    equal = [
        (batch.values(layers[name].point) == batch.values(layers[earlier].point)).all()
        for name, earlier in duplicates.items()
    ]
    holds = torch.stack(equal).tolist()
    return {name: duplicates[name] for name, one in zip(duplicates, holds, strict=True) if one}


def _by_name(by_point: dict[str, Tensor], method: Method, plan: Plan) -> dict[str, Tensor]:
    """Return a method's maps by the layers' names, and the fused map."""
    if not by_point:
        return {}
    maps = {name: by_point[point] for name, point in plan.points_by_layer(method).items()}
    points = plan.points(method)
    if method.fuses and len(points) > 1:
        known = [plan.stage_ids[point] for point in points] if plan.stage_ids else None
        cams = [by_point[point] for point in points]
        maps[FUSED] = fuse(cams, plan.options.gamma, plan.options.stages, known)
    return maps


def check_images(images: Tensor) -> None:
    """Refuse anything that is not a batch of images.

    Raises:
        ModelError: the images are not a float tensor ``(N, 3, H, W)`` with N > 0.
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
    """Join the explanations of the batches of one call, in order."""
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
