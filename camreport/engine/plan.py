"""What is computed: the options, their check against the model's code, and the final plan.

    Options (given by the user) ─▶ Draft (checked against the code) ─▶ Plan (fixed by one pass)

Each object is made once and never changed.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules import activation

from camreport.engine.forward import Capture
from camreport.errors import MethodError
from camreport.messages import Message, message
from camreport.methods import Method
from camreport.methods.registry import (
    ABLATED,
    GUIDED,
    HEAD,
    INPUT_GRADIENT,
    KEPT,
    POOL_GRADIENT,
)
from camreport.metrics.effect import mask_grid
from camreport.network.address import Layer
from camreport.network.choose import ALEXNET_LAYERS, is_alexnet
from camreport.network.graph import FollowedModel, Head, Tail, find_head, follow
from camreport.settings import (
    AUTO,
    EXACT,
    GAMMA,
    check_activation,
    check_numbers,
    check_output,
    check_precision,
    check_quantity,
    check_smoothings,
)

INPUT = "input"
"""Layer name of maps on the grid of the input, which belong to no layer."""

_POOLINGS = (nn.MaxPool2d, nn.AvgPool2d)
_SOFTMAXES = (nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin, nn.MultiheadAttention)
_OTHER_ACTIVATIONS = tuple(
    getattr(activation, name)
    for name in activation.__all__
    if getattr(activation, name) not in (nn.ReLU, *_SOFTMAXES)
)
_OTHER_FUNCTIONS: dict[object, str] = {
    getattr(functional, name): name
    for name in (
        *("celu", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "mish"),
        *("prelu", "relu6", "rrelu", "selu", "sigmoid", "silu", "softplus", "tanh"),
    )
}
_OTHER_FUNCTIONS |= {getattr(torch, name): name for name in ("clamp", "sigmoid", "tanh")}
_OTHER_FUNCTIONS |= {name: name for name in ("clamp", "clamp_min", "sigmoid", "tanh")}


@dataclass(frozen=True)
class Skip:
    """A method that is not computed, everywhere or at one layer, and why.

    Attributes:
        method: key of the method.
        layer: name of the layer as the user wrote it; None for all layers.
        reason: one sentence for the reader.
    """

    method: str
    layer: str | None
    reason: Message


@dataclass(frozen=True)
class Options:
    """The options of a computation, as the user gives them; values out of range are refused.

    Attributes:
        methods: the methods to compute, in the order in which tables show them.
        quantity: ``logit``, ``probability``, ``contrast`` or ``contrast:INDEX``.
        gamma: steepness of the fusion's lift, above 0.
        stages: how many early stages the fusion lifts, from 0; None for the fusion's own rule.
        smooth: the ``SMOOTHINGS`` to apply to the methods that support smoothing.
        seed: random seed of the noise, from 0.
        output: key, attribute or index of the logits in the model's output; None to find it.
        activation: how logits become probabilities: ``softmax``, ``sigmoid``, ``none``, ``auto``.
        precision: arithmetic of the model's passes, one of ``PRECISIONS``.

    Raises:
        MethodError: a number or a smoothing is out of range.
        ClassError: an unknown quantity.
        ModelError: an unknown activation or precision.
    """

    methods: tuple[Method, ...]
    quantity: str = "logit"
    gamma: float = GAMMA
    stages: int | None = None
    smooth: str | Sequence[str] = ()
    seed: int = 0
    output: str | None = None
    activation: str = AUTO
    precision: str = EXACT

    def __post_init__(self) -> None:
        check_activation(self.activation)
        check_output(self.output)
        check_precision(self.precision)
        check_numbers(self.gamma, self.stages, self.seed)
        object.__setattr__(self, "quantity", check_quantity(self.quantity))
        object.__setattr__(self, "smooth", check_smoothings(self.smooth))


@dataclass(frozen=True)
class Draft:
    """Options and layers, checked against the model's code before any pass.

    Attributes:
        options: the options of the user.
        layers: the layers to explain, by the name under which their maps are kept.
        channels: layers whose channels are kept with their weights, by name; they need not be
            among ``layers``.
        contributing: layers of which the last distinct one keeps its channels' contributions.
        skipped: methods that cannot be computed, with the reasons.
        followed: the graph of the model's code, if a method needs it and it can be traced.
        heads: pooling and classifier right after a layer, by hook point; for CAM.
        pools: name of the pooling module right after a layer, by hook point.
        stage_ids: the stage of each hook point, if the sizes do not determine the stages.
        notes: notes for the reader about the model.
    """

    options: Options
    layers: Mapping[str, Layer]
    channels: Mapping[str, Layer]
    contributing: Mapping[str, Layer]
    skipped: tuple[Skip, ...]
    followed: FollowedModel | None
    heads: Mapping[str, Head]
    pools: Mapping[str, str]
    stage_ids: Mapping[str, int]
    notes: tuple[Message, ...] = ()

    @property
    def hook_points(self) -> dict[str, dict[str, str]]:
        """The hook points at which each method is computed, by its key and the layer's name."""
        return hook_points_of(self.options.methods, self.layers, self.skipped)

    @property
    def computed(self) -> list[Method]:
        """The methods that are computed at one layer at least."""
        hook_points = self.hook_points
        return [method for method in self.options.methods if hook_points[method.key]]

    @property
    def capture(self) -> Capture:
        """What a forward pass has to keep."""
        layers = {**self.layers, **self.channels, **self.contributing}.values()
        return Capture(
            points=tuple(dict.fromkeys(layer.point for layer in layers)),
            pools=self.pools,
            from_input=any(method.needs is INPUT_GRADIENT for method in self.computed),
            output=self.options.output,
            activation=self.options.activation,
        )

    def without(self, skips: Iterable[Skip]) -> "Draft":
        """Return the draft with further methods skipped.

        Raises:
            MethodError: no method is left.
        """
        draft = replace(self, skipped=(*self.skipped, *skips))
        check_something_is_left(draft.hook_points, draft.skipped)
        return draft


@dataclass(frozen=True)
class CheckedTail:
    """A layer's tail that was found to give the model's logits.

    Attributes:
        tail: the part of the model after the layer.
        bytes_per_variant: bytes that the modules of the tail return for one variant.
    """

    tail: Tail
    bytes_per_variant: int


@dataclass(frozen=True)
class Plan:
    """What is computed for every image and how; made from one forward pass and never changed.

    Attributes:
        options: the options of the user.
        capture: what a forward pass has to keep.
        hook_points: the hook points at which each method is computed, by the method's key and the
            layer's name, in network order; ``input`` for a method without a layer.
        layers: the layers with maps, by name, in network order.
        channels: layers whose channels are kept, by name, in network order.
        contributions: the layer whose channels' contributions are kept, by name; empty for none.
        heads: pooling and classifier right after a layer, by hook point; for CAM.
        stage_ids: the stage of each hook point, if the sizes do not determine the stages.
        tails: the tail of each layer that a method changes, by hook point, if it can run by itself.
        input_shape: ``(C, H, W)`` of an image.
        shapes: ``(C, h, w)`` of each layer, also of those of which only channels are kept, by name.
        duplicates: for each layer whose tensor equals an earlier layer's, that earlier layer.
        skipped: methods that are not computed, with the reasons.
        num_classes: number of classes of the model.
        bytes_per_image: bytes that the model's innermost modules return for one image.
        variants_per_image: number of changed images and layer outputs that the methods need.
        batch_size: number of images that the byte budget allows in one batch.
        notes: notes for the reader about the model.
    """

    options: Options
    capture: Capture
    hook_points: Mapping[str, Mapping[str, str]]
    layers: Mapping[str, Layer]
    channels: Mapping[str, Layer]
    contributions: Mapping[str, Layer]
    heads: Mapping[str, Head]
    stage_ids: Mapping[str, int]
    tails: Mapping[str, CheckedTail]
    input_shape: tuple[int, ...]
    shapes: Mapping[str, tuple[int, ...]]
    duplicates: Mapping[str, str]
    skipped: tuple[Skip, ...]
    num_classes: int
    bytes_per_image: int
    variants_per_image: int
    batch_size: int
    notes: tuple[Message, ...]

    @property
    def methods(self) -> tuple[Method, ...]:
        """The requested methods, in the order in which tables show them."""
        return self.options.methods

    @property
    def output(self) -> str | None:
        """Key of the logits in the model's output; None for a tensor or the key ``logits``."""
        return self.capture.output

    @property
    def activation(self) -> str:
        """How the logits become probabilities: ``softmax``, ``sigmoid`` or ``none``."""
        return self.capture.activation

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of the cells that shared masks cover."""
        last = [self.shapes[name] for name in self.layers][-1]
        return mask_grid((self.input_shape[-2], self.input_shape[-1]), (last[-2], last[-1]))

    def points_by_layer(self, method: Method) -> Mapping[str, str]:
        """Return the hook points at which a method is computed, by the layer's name."""
        return self.hook_points[method.key]

    def points(self, method: Method) -> tuple[str, ...]:
        """Return the distinct hook points at which a method is computed."""
        return tuple(dict.fromkeys(self.points_by_layer(method).values()))

    def result_bytes(self, classes: int) -> int:
        """Return the bytes of one image's maps, kept channels, vectors, logits and targets.

        Args:
            classes: number of classes explained.
        """
        values = self.num_classes + 2 * classes
        for name in self.channels:
            values += prod(self.shapes[name]) + classes * self.shapes[name][0]
        values += sum(classes * self.shapes[name][0] for name in self.contributions)
        return 4 * (values + classes * sum(map(self._map_values, self.methods)))

    def _map_values(self, method: Method) -> int:
        """Return the number of values in a method's maps of one class."""
        names = self.points_by_layer(method)
        if method.needs is INPUT_GRADIENT:
            return prod(self.input_shape[1:]) * len(names)
        if method.grid == "input":
            return prod(self.input_shape) * len(names)
        if method.grid == "cells":
            return prod(self.cells) * len(names)
        shapes = [self.shapes[name] for name in names]
        values = sum(prod(shape) if method.per_channel else prod(shape[1:]) for shape in shapes)
        if method.fuses and len(self.points(method)) > 1:
            values += max(prod(shape[1:]) for shape in shapes)
        return values


def make_draft(
    module: nn.Module,
    layers: Mapping[str, Layer],
    options: Options,
    channels: Mapping[str, Layer] | None = None,
    contributing: Mapping[str, Layer] | None = None,
) -> Draft:
    """Check options and layers against the model's code, without running the model.

    Args:
        module: the model, in evaluation mode.
        layers: the layers to explain, by the name under which their maps are kept.
        options: the options of the user.
        channels: layers whose channels are kept with their weights, by name.
        contributing: layers of which the last distinct one keeps its channels' contributions.

    Raises:
        MethodError: none of the methods can be computed.
    """
    needs = {method.needs for method in options.methods}
    points = dict.fromkeys(layer.point for layer in layers.values())
    followed, heads = None, dict[str, Head]()
    if needs & {HEAD, GUIDED, ABLATED, KEPT}:
        followed = follow(module, points)
    if HEAD in needs and followed is not None:
        found = {s: find_head(followed, s, options.output, options.activation) for s in points}
        heads = {point: head for point, head in found.items() if head}
    draft = Draft(
        options=options,
        layers=layers,
        channels=channels or {},
        contributing=contributing or {},
        skipped=(),
        followed=followed,
        heads=heads,
        pools=_pools(module, points) if POOL_GRADIENT in needs else {},
        stage_ids=_stages_of_alexnet(module, layers),
    )
    return draft.without(
        skip for method in options.methods for skip in _skips(module, draft, method)
    )


def hook_points_of(
    methods: Iterable[Method], layers: Mapping[str, Layer], skipped: Iterable[Skip]
) -> dict[str, dict[str, str]]:
    """Return the hook points at which each method is computed, by its key and the layer's name."""
    out = {(skip.method, skip.layer) for skip in skipped}
    points = {name: layer.point for name, layer in layers.items()}
    return {
        method.key: {
            name: point
            for name, point in (points if method.scope == "layer" else {INPUT: INPUT}).items()
            if not {(method.key, None), (method.key, name)} & out
        }
        for method in methods
    }


def check_something_is_left(
    hook_points: Mapping[str, Mapping[str, str]], skipped: Sequence[Skip]
) -> None:
    """Refuse a plan that computes nothing.

    Raises:
        MethodError: no method is computed anywhere.
    """
    if not any(hook_points.values()):
        raise MethodError(
            "methods: none of those asked for can be computed here. "
            + " ".join(dict.fromkeys(str(skip.reason) for skip in skipped))
        )


def _skips(module: nn.Module, draft: Draft, method: Method) -> list[Skip]:
    """Return the layers at which a method cannot be computed, with the reasons."""
    name, found = method.name, list[Skip]()
    if method.needs is GUIDED and (obstacle := _obstacle_to_guiding(module, draft, method)):
        found.append(Skip(method.key, None, obstacle))
    if method.needs is HEAD and not draft.heads:
        code = "engine.skip.head_here" if _single_linear(module) else "engine.skip.head"
        return [Skip(method.key, None, message(code, method=name))]
    for address, layer in draft.layers.items():
        if method.non_negative and layer.address.endswith(":pre"):
            reason = message("engine.skip.negative", method=name, layer=address)
            found.append(Skip(method.key, address, reason))
        if method.needs is HEAD and layer.point not in draft.heads:
            reason = message("engine.skip.head_at", method=name, layer=address)
            found.append(Skip(method.key, address, reason))
    return found


def _obstacle_to_guiding(module: nn.Module, draft: Draft, method: Method) -> Message | None:
    """Return why guided backpropagation does not apply to a model; None if it does."""
    modules = [type(m).__name__ for m in module.modules() if isinstance(m, _OTHER_ACTIVATIONS)]
    if draft.followed is None and not modules:
        return message("engine.skip.followed", method=method.name)
    called = draft.followed.functions if draft.followed else set()
    functions = sorted(_OTHER_FUNCTIONS[step] for step in _OTHER_FUNCTIONS.keys() & called)
    others = list(dict.fromkeys([*modules, *functions]))[:3]
    if not others:
        return None
    return message("engine.skip.activations", method=method.name, activations=", ".join(others))


def _single_linear(module: nn.Module) -> bool:
    return sum(isinstance(part, nn.Linear) for part in module.modules()) == 1


def _stages_of_alexnet(module: nn.Module, layers: Mapping[str, Layer]) -> dict[str, int]:
    """Return AlexNet's five stages by hook point, if exactly its five default layers are explained.

    Sizes cannot tell these stages apart: features.6 and features.9 have the same size.
    """
    names = [layer.address.partition(":")[0] for layer in layers.values()]
    if not is_alexnet(module) or sorted(names) != sorted(ALEXNET_LAYERS):
        return {}
    stages = [ALEXNET_LAYERS.index(name) for name in names]
    return {layer.point: stage for layer, stage in zip(layers.values(), stages, strict=True)}


def _pools(module: nn.Module, points: Iterable[str]) -> dict[str, str]:
    """Return the pooling module that directly follows each module in its ``Sequential``.

    A pooling module that is used several times is left out: it is unclear which layer it follows.
    """
    uses = Counter(part for _, part in module.named_modules(remove_duplicate=False))
    found = {}
    for point in points:
        parent_name, _, child = point.rpartition(".")
        parent = module.get_submodule(parent_name)
        if "#" in point or not isinstance(parent, nn.Sequential):
            continue
        names = list(parent._modules)
        following = names[names.index(child) + 1 :][:1]
        after = parent._modules[following[0]] if following else None
        if isinstance(after, _POOLINGS) and uses[after] == 1:
            found[point] = f"{parent_name}.{following[0]}" if parent_name else following[0]
    return found
