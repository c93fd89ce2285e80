"""What is asked of a model, checked before any forward pass."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules import activation

from camreport.errors import MethodError
from camreport.methods import Method
from camreport.methods.registry import (
    ABLATED,
    GUIDED,
    HEAD,
    INPUT_GRADIENT,
    KEPT,
    POOL_GRADIENT,
)
from camreport.network.address import Layer
from camreport.network.graph import Head, Tail, find_head, find_tail, functional_steps
from camreport.network.survey import ALEXNET_LAYERS, is_alexnet
from camreport.settings import (
    AUTO,
    GAMMA,
    check_activation,
    check_numbers,
    check_quantity,
    check_smoothings,
)

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
        method: its key.
        layer: the name the layer was asked by; None for all.
        reason: one sentence for the reader.
    """

    method: str
    layer: str | None
    reason: str


@dataclass(frozen=True)
class Task:
    """What to compute for every image.

    Attributes:
        layers: where to read, by the name the maps are kept under.
        methods: what to compute, in the order in which tables show them.
        quantity: ``logit``, ``probability``, ``contrast`` or ``contrast:INDEX``.
        gamma: steepness of the fusion's lift.
        stages: how many early stages the fusion lifts; None for its own rule.
        smooth: which of ``SMOOTHINGS`` apply to the methods that take them.
        seed: of the noise.
        output: which part of what the model returns holds the logits.
        activation: how they become probabilities, or ``auto`` for what the first batch shows.
        skipped: what cannot be computed, known before any forward pass.
        tails: what follows each layer, by what it reads; for methods that need it.
        heads: pooling and classifier behind each layer, by what it reads; for CAM.
        pools: name of the pooling module right behind what a layer reads.
        channels: layers whose channels are kept with their weights, by canonical address;
            they need not be among ``layers``.
        notes: what the user should be told of the model, known before the images are read.
        stage_ids: the stage of what each layer reads, where its size does not tell.
        findings: what the passes have shown besides, as keys in order: they are added to.
    """

    layers: Mapping[str, Layer]
    methods: Sequence[Method]
    quantity: str
    gamma: float
    stages: int | None
    smooth: tuple[str, ...]
    seed: int
    output: str | None
    activation: str
    skipped: tuple[Skip, ...]
    tails: Mapping[str, Tail | None]
    heads: Mapping[str, Head]
    pools: Mapping[str, str]
    channels: Mapping[str, Layer]
    notes: tuple[str, ...] = ()
    stage_ids: Mapping[str, int] = field(default_factory=dict)
    findings: dict[str, None] = field(default_factory=dict, compare=False)

    @property
    def read_layers(self) -> tuple[Layer, ...]:
        """Every layer that is read, for its maps or for its channels."""
        return (*self.layers.values(), *self.channels.values())

    def is_skipped(self, method: Method, layer: str | None) -> bool:
        """Say whether a method is not computed at a layer (None: at its one map)."""
        return any(
            skip.method == method.key and skip.layer in (None, layer) for skip in self.skipped
        )

    def computes(self, method: Method) -> bool:
        """Say whether a method has any map."""
        if method.per_layer:
            return bool(self.wanted(method))
        return not self.is_skipped(method, None)

    def wanted(self, method: Method) -> dict[str, str]:
        """Return the layers at which a method is computed: what each reads, by its name."""
        return {
            name: layer.reads
            for name, layer in self.layers.items()
            if not self.is_skipped(method, name)
        }

    def leaving_out(self, *skips: Skip) -> "Task":
        """Return the task without what some more skips leave out.

        Raises:
            MethodError: nothing is left.
        """
        task = replace(self, skipped=(*self.skipped, *skips))
        if any(task.computes(method) for method in task.methods):
            return task
        raise MethodError(
            "methods: none of those asked for can be computed here. "
            + " ".join(dict.fromkeys(skip.reason for skip in task.skipped))
        )


@dataclass(frozen=True)
class Plan:
    """What is computed for every image and how: fixed by one forward pass, never changed.

    Attributes:
        task: what to compute, with what the pass has settled.
        input_shape: ``(C, H, W)`` of an image.
        shapes: ``(C, h, w)`` of each layer, also of those whose channels are kept, by name.
        duplicates: for each layer whose tensor equals an earlier layer's, that earlier layer.
        num_classes: how many classes the model has.
        bytes_per_image: what the model's innermost modules return for one image.
        variants_per_image: changed images and layers that the methods ask for.
        batch_size: images that a byte budget allows in one batch.
        notes: what a reader should know of the model.
    """

    task: Task
    input_shape: tuple[int, ...]
    shapes: Mapping[str, tuple[int, ...]]
    duplicates: Mapping[str, str]
    num_classes: int
    bytes_per_image: int
    variants_per_image: int
    batch_size: int
    notes: tuple[str, ...]

    @property
    def methods(self) -> tuple[Method, ...]:
        """What is computed, in the order in which tables show it."""
        return tuple(self.task.methods)

    @property
    def layers(self) -> Mapping[str, Layer]:
        """Where maps are read, by name, in network order."""
        return self.task.layers

    @property
    def channels(self) -> Mapping[str, Layer]:
        """Layers whose channels are kept, by name, in network order."""
        return self.task.channels

    @property
    def skipped(self) -> tuple[Skip, ...]:
        """What cannot be computed, and why."""
        return self.task.skipped

    @property
    def output(self) -> str | None:
        """The part of what the model returns that holds the logits, if it is a structure."""
        return self.task.output

    @property
    def activation(self) -> str:
        """How the logits become probabilities: ``softmax``, ``sigmoid`` or ``none``."""
        return self.task.activation

    def where(self, method: Method) -> tuple[str, ...]:
        """Return the layers at which a method is computed, by name."""
        return tuple(self.task.wanted(method)) if method.per_layer else ()

    def result_bytes(self, classes: int) -> int:
        """Return the bytes of one image's maps, kept channels, logits and targets.

        Args:
            classes: how many classes are explained.
        """
        numbers = self.num_classes + 2 * classes
        for name in self.channels:
            numbers += prod(self.shapes[name]) + classes * self.shapes[name][0]
        for method in self.methods:
            grids = [self.shapes[name] for name in self.where(method)]
            numbers += classes * self._map_values(method, grids)
        return 4 * numbers

    def _map_values(self, method: Method, grids: Sequence[tuple[int, ...]]) -> int:
        """Return how many values a method's maps of one class have."""
        if not method.per_layer:
            if self.task.is_skipped(method, None):
                return 0
            whole = method.needs is INPUT_GRADIENT
            return prod(self.input_shape[1:]) if whole else prod(self.input_shape)
        if method.on_input:
            return prod(self.input_shape) * len(grids)
        values = sum(prod(grid) if method.per_channel else prod(grid[1:]) for grid in grids)
        if method.fuses and len(set(self.task.wanted(method).values())) > 1:
            values += max(prod(grid[1:]) for grid in grids)
        return values


def make_task(
    module: nn.Module,
    layers: Mapping[str, Layer],
    methods: Sequence[Method],
    *,
    quantity: str = "logit",
    gamma: float = GAMMA,
    stages: int | None = None,
    smooth: str | Sequence[str] = (),
    seed: int = 0,
    output: str | None = None,
    activation: str = AUTO,
    channels: Mapping[str, Layer] | None = None,
) -> Task:
    """Check what is asked against the model's code, without running it.

    Args:
        module: in evaluation mode.
        layers: where to read, by the name the maps are kept under.
        methods: what to compute.
        quantity: as for ``explain``.
        gamma: steepness of the fusion's lift, above 0.
        stages: how many early stages the fusion lifts, from 0.
        smooth: some of ``SMOOTHINGS``, as a sequence or separated by commas.
        seed: of the noise, from 0.
        output: which part of what the model returns holds the logits, where that is not plain.
        activation: how they become probabilities: ``softmax``, ``sigmoid``, ``none``, ``auto``.
        channels: layers whose channels are kept with their weights, by canonical address.

    Raises:
        MethodError: an option is out of range, or nothing of what is asked can be computed.
        ClassError: an unknown quantity.
        ModelError: an unknown activation.
    """
    check_activation(activation)
    check_numbers(gamma, stages, seed)
    needs = {method.needs for method in methods}
    reads = {layer.reads for layer in layers.values()}
    named = output, activation
    heads = {r: find_head(module, r, *named) for r in reads} if HEAD in needs else {}
    tails = {r: find_tail(module, r, *named) for r in reads} if needs & {ABLATED, KEPT} else {}
    task = Task(
        layers=layers,
        methods=methods,
        quantity=check_quantity(quantity),
        gamma=gamma,
        stages=stages,
        smooth=check_smoothings(smooth),
        seed=seed,
        output=output,
        activation=activation,
        skipped=tuple(_skips(module, layers, methods, heads)),
        tails=tails,
        heads={read: head for read, head in heads.items() if head},
        pools=_pools(module, reads) if POOL_GRADIENT in needs else {},
        channels=channels or {},
        stage_ids=_stages_of_alexnet(module, layers),
    )
    return task.leaving_out()


def _skips(
    module: nn.Module,
    layers: Mapping[str, Layer],
    methods: Sequence[Method],
    heads: Mapping[str, Head | None],
) -> list[Skip]:
    found = list[Skip]()
    for method in methods:
        if method.needs is GUIDED and (obstacle := _obstacle_to_guiding(module)):
            reason = f"{method.name} needs ReLU as the only activation, but {obstacle}."
            found.append(Skip(method.key, None, reason))
        if method.needs is HEAD and not any(heads.values()):
            reason = (
                f"{method.name} is not defined for this model"
                + (" at these layers" if _single_linear(module) else "")
                + ": it needs global average pooling and one linear layer right behind the layer."
            )
            found.append(Skip(method.key, None, reason))
            continue
        for name, layer in layers.items():
            if method.non_negative and layer.address.endswith(":pre"):
                reason = f"{method.name} needs A ≥ 0; {name} is read in front of the activation."
                found.append(Skip(method.key, name, reason))
            if method.needs is HEAD and not heads[layer.reads]:
                reason = (
                    f"{method.name} is defined in front of the global average pooling only, "
                    f"not at {name}."
                )
                found.append(Skip(method.key, name, reason))
    return found


def _obstacle_to_guiding(module: nn.Module) -> str | None:
    """Name the activations of a model that are not ReLU, or say that they cannot be seen."""
    modules = [type(m).__name__ for m in module.modules() if isinstance(m, _OTHER_ACTIVATIONS)]
    steps = functional_steps(module)
    if steps is None and not modules:
        return "the model’s code cannot be followed to see that"
    functions = sorted(_OTHER_FUNCTIONS[step] for step in _OTHER_FUNCTIONS.keys() & (steps or ()))
    others = list(dict.fromkeys([*modules, *functions]))
    return f"the model has {', '.join(others[:3])}" if others else None


def _single_linear(module: nn.Module) -> bool:
    return sum(isinstance(part, nn.Linear) for part in module.modules()) == 1


def _stages_of_alexnet(module: nn.Module, layers: Mapping[str, Layer]) -> dict[str, int]:
    """Return AlexNet's five stages by what is read there, if just these layers are asked for.

    Two of them have one size: 0, 3, 6 | 9, 12.
    """
    names = [layer.address.partition(":")[0] for layer in layers.values()]
    if not is_alexnet(module) or sorted(names) != sorted(ALEXNET_LAYERS):
        return {}
    places = [ALEXNET_LAYERS.index(name) for name in names]
    return {layer.reads: at for layer, at in zip(layers.values(), places, strict=True)}


def _pools(module: nn.Module, reads: set[str]) -> dict[str, str]:
    """Return the pooling module that directly follows each module in its ``Sequential``.

    A module that stands in several places does not say behind which of them it ran.
    """
    places = Counter(part for _, part in module.named_modules(remove_duplicate=False))
    found = {}
    for read in reads:
        parent_name, _, child = read.rpartition(".")
        parent = module.get_submodule(parent_name)
        if "#" in read or not isinstance(parent, nn.Sequential):
            continue
        names = list(parent._modules)
        following = names[names.index(child) + 1 :][:1]
        behind = parent._modules[following[0]] if following else None
        if isinstance(behind, _POOLINGS) and places[behind] == 1:
            found[read] = f"{parent_name}.{following[0]}" if parent_name else following[0]
    return found
