"""The code of a network, traced once by ``torch.fx``: the part after a layer as a function.

Perturbation methods change a layer's output and need the logits, hundreds of times. The part of the
network before the layer gives the same result every time, so only the part after the layer, its
tail, is run::

    images ─▶ before ─▶ layer's output ─▶ channelwise ─▶ linear ─▶ rest ─▶ logits
                 └─ saved: tensors that bypass the layer (skip connections) ┘

Every arrow is a ``Slice`` of one graph: some of its steps as a function of some of its values.
If the code cannot be traced, the whole model runs with the layer's output replaced, which is
slower and gives the same result.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from camreport.errors import ModelError
from camreport.network.address import ACTIVATIONS
from camreport.network.grid import Grid
from camreport.network.logits import logits_of, part_of
from camreport.network.state import forward_without_gradients, interrupts_deferred
from camreport.network.trace import watched
from camreport.settings import SOFTMAX

Node = fx.Node

VALUE = "camreport_value"
"""Key under which a step that reads an attribute of the model keeps the value."""


def returned(value: Tensor) -> Tensor:
    """Return a value unchanged; in the graph, this step marks the output of a requested module."""
    return value


_POINTWISE_MODULES = (*ACTIVATIONS, nn.Dropout, nn.Dropout2d, nn.Identity, nn.BatchNorm2d)
_POOLING_MODULES = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_ADAPTIVE_MODULES = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_POINTWISE_FUNCTIONS = (torch.relu, functional.relu, functional.dropout, returned)
_POOLING_FUNCTIONS = (
    functional.adaptive_avg_pool2d,
    functional.avg_pool2d,
    functional.max_pool2d,
)
_FLATTENING = (torch.flatten, "flatten")


@dataclass(frozen=True)
class Entry:
    """The beginning of a tail: channels stay separate up to one operation that is linear in them.

    Attributes:
        channelwise: function from the layer's output to the input of ``linear``; every channel of
            the result depends only on the same channel of the layer.
        linear: a convolution without groups, or a linear layer after a flattening.
        rest: function from the output of ``linear`` and the saved tensors to the logits.
        pointwise: whether positions stay separate in ``channelwise`` too, if their number is kept.
    """

    channelwise: Callable[[Tensor], Tensor]
    linear: nn.Conv2d | nn.Linear
    rest: Callable[..., Tensor]
    pointwise: bool


@dataclass(frozen=True)
class Tail:
    """The part of a model after one layer.

    Attributes:
        after: function from the layer's output and the saved tensors to the logits.
        before: function from the images to the saved tensors, which bypass the layer; None if
            there are none.
        entry: the beginning of the tail, if channels stay separate there.
    """

    after: Callable[..., Tensor]
    before: Callable[[Tensor], tuple[Tensor, ...]] | None
    entry: Entry | None


@dataclass(frozen=True)
class Head:
    """Global average pooling and one linear layer, right after a layer.

    Attributes:
        weight: weights of the linear layer, ``(num_classes, C)``.
        rectified: whether there is a ReLU between the layer and the pooling.
    """

    weight: Tensor
    rectified: bool


@dataclass(frozen=True)
class Slice:
    """A part of a model's graph: a function of some of its values.

    Attributes:
        inputs: the values that are the function's arguments.
        steps: steps that may be needed, in order; steps with missing inputs are left out.
        result: the value that the function returns, or several values.
    """

    inputs: Sequence[Node]
    steps: Sequence[Node]
    result: Node | Sequence[Node]

    def compiled(self, module: nn.Module) -> fx.GraphModule:
        """Return the slice as a module that uses the model's own submodules."""
        graph = fx.Graph()
        copies = {node: graph.placeholder(f"value_{i}") for i, node in enumerate(self.inputs)}
        for node in self.steps:
            if all(one in copies for one in node.all_input_nodes):
                copies[node] = graph.node_copy(node, copies.__getitem__)
        if isinstance(self.result, Node):
            graph.output(copies[self.result])
        else:
            graph.output(tuple(copies[node] for node in self.result))
        values = {n.target: n.meta[VALUE] for n in graph.nodes if n.op == "get_attr"}
        parts = {
            n.target: module.get_submodule(n.target) for n in graph.nodes if n.op == "call_module"
        }
        return fx.GraphModule(values | parts, graph)


@dataclass(frozen=True)
class FollowedModel:
    """A model and the traced graph of its code.

    Attributes:
        module: the model.
        graph: the model's code, down to torch's own modules.
        outputs: for each requested module, the steps at which its calls returned, by its name.
    """

    module: nn.Module
    graph: fx.Graph
    outputs: Mapping[str, Sequence[Node | None]]

    @cached_property
    def modules(self) -> dict[str, nn.Module]:
        """The model's modules by name."""
        return dict(self.module.named_modules(remove_duplicate=False))

    @property
    def functions(self) -> set[object]:
        """The functions and tensor methods that the model's own code calls."""
        called = ("call_function", "call_method")
        return {node.target for node in self.graph.nodes if node.op in called}

    def output_of(self, point: str) -> Node | None:
        """Return the step at which the module of a hook point, ``name`` or ``name#k``, returned."""
        name, _, call = point.partition("#")
        calls, number = self.outputs.get(name, ()), int(call or 0)
        return calls[number] if number < len(calls) else None

    def logits(self, output: str | None) -> Node | None:
        """Return the step that computes the logits, the part ``output`` of the model's output."""
        (end,) = (node for node in self.graph.nodes if node.op == "output")
        try:
            result = part_of(end.args[0], output)
        except ModelError:
            return None
        return result if isinstance(result, Node) else None


def follow(module: nn.Module, points: Collection[str] = ()) -> FollowedModel | None:
    """Trace a model's forward symbolically; return None if its code does not allow that.

    If the code inside a requested module cannot be traced, that module becomes a single step.

    Args:
        module: the model, in evaluation mode; its attributes are restored afterwards.
        points: hook points whose outputs are needed, ``name`` or ``name#k``.
    """
    names = {point.partition("#")[0] for point in points}
    followed = _follow(module, _Tracer(names))
    if followed is None and names:
        followed = _follow(module, _Tracer(names, whole=True))
    return followed


def _follow(module: nn.Module, tracer: "_Tracer") -> FollowedModel | None:
    with interrupts_deferred(), _attributes_kept(module), _calls_kept():
        try:
            graph: fx.Graph = tracer.trace(module)
        except Exception:  # a model's code may do anything with a proxy that is not a tensor
            return None
        for node in graph.nodes:  # an attribute made by the trace exists only now
            if node.op == "get_attr":
                node.meta[VALUE] = attrgetter(str(node.target))(module)
    outputs = {
        name: [proxy.node if isinstance(proxy, fx.Proxy) else None for proxy in proxies]
        for name, proxies in tracer.returned.items()
    }
    return FollowedModel(module, graph, outputs)


def find_tail(
    model: FollowedModel, point: str, output: str | None = None, activation: str = SOFTMAX
) -> Tail | None:
    """Return the part of a model after the output of a module.

    The result is None if the logits cannot be found in the model's output by name, or if they do
    not depend on the module.

    Args:
        model: the model, traced with this point.
        point: hook point of the layer.
        output: key, attribute or index of the logits in the model's output.
        activation: how logits become probabilities.
    """
    layer, result = model.output_of(point), model.logits(output)
    if layer is None or result is None:
        return None
    nodes = list(model.graph.nodes)
    images = next(node for node in nodes if node.op == "placeholder")
    of_images, after = _reached(nodes, images), _reached(nodes, layer)
    if result not in after:
        return None
    order = {node: index for index, node in enumerate(nodes)}
    saved = sorted(
        {i for n in after - {layer} for i in n.all_input_nodes if i in of_images - after},
        key=order.__getitem__,
    )
    upstream = [n for n in nodes if n not in after and n is not images and n.op != "output"]
    constants = [n for n in nodes if n not in of_images and n.op not in ("placeholder", "output")]
    steps = [*constants, *(n for n in nodes if n in after - {layer} and n.op != "output")]
    whole = Slice([layer, *saved], steps, result)
    return Tail(
        after=_to_logits(whole.compiled(model.module), activation),
        before=Slice([images], upstream, saved).compiled(model.module) if saved else None,
        entry=_entry(model, whole, activation),
    )


def find_head(
    model: FollowedModel, point: str, output: str | None = None, activation: str = SOFTMAX
) -> Head | None:
    """Return the pooling and linear layer after a module; None if the tail has other layers.

    The arguments are those of ``find_tail``.
    """
    node, result = model.output_of(point), model.logits(output)
    if node is None or result is None:
        return None
    pooled = rectified = False
    while len(node.users) == 1:
        (node,) = node.users
        step = _step(model, node)
        if isinstance(step, nn.Linear):
            ends = pooled and node is result
            return Head(_class_weights(step, activation), rectified) if ends else None
        if not pooled and (isinstance(step, nn.ReLU) or step in (functional.relu, torch.relu)):
            rectified = True
        elif _averages_globally(step, node):
            pooled = True
        elif not (
            _flattens(step) or isinstance(step, nn.Dropout | nn.Identity) or step is returned
        ):
            return None
    return None


def _class_weights(linear: nn.Linear, activation: str) -> Tensor:
    """Return a linear layer's weights, ``(num_classes, C)``; a single output gives two classes."""
    weight = linear.weight.detach().T  # (C, num_classes), or (C, 1)
    zero = logits_of(torch.zeros_like(weight), len(weight), activation=activation)
    return (logits_of(weight, len(weight), activation=activation) - zero).T


def whole_model(
    module: nn.Module, point: str, images: Tensor, grid: Grid
) -> Callable[[Tensor, Tensor], object]:
    """Return a function that runs the whole model with a layer's output replaced.

    Args:
        module: the model.
        point: hook point of the layer, ``name`` or ``name#k``.
        images: ``(N, 3, H, W)``.
        grid: layout of the layer's output.

    Returns:
        A function from values ``(M, C, h, w)`` and the rows ``(M,)`` of their images to the model's
        output.
    """
    name, _, call = point.partition("#")
    parts = {"": module, name: module.get_submodule(name)}
    forward = forward_without_gradients(module)

    def run(values: Tensor, rows: Tensor) -> object:
        calls = 0

        def started(part: str, _module: nn.Module) -> None:
            nonlocal calls
            calls = calls if part else 0

        def exchange(part: str, _module: nn.Module, output: object) -> object:
            nonlocal calls
            if not part:
                return None
            calls += 1
            if calls - 1 != int(call or 0) or not isinstance(output, Tensor):
                return None
            exchanged = grid.restore(values, output).clone()
            return exchanged.requires_grad_(torch.is_grad_enabled())

        with watched(parts, exchange, started):
            return forward(images[rows])

    return run


class _Tracer(fx.Tracer):
    """Traces a model's code into every module except torch's own.

    Attributes:
        returned: the outputs of the calls of each requested module, by its name.
    """

    def __init__(self, names: Collection[str], whole: bool = False) -> None:
        super().__init__()
        self.returned: dict[str, list[object]] = {}
        self._names = names
        self._whole = names if whole else ()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether a module is a single step of the graph."""
        return module_qualified_name in self._whole or super().is_leaf_module(
            m, module_qualified_name
        )

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., object],
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> object:
        """Trace a module's call; the output of a requested module becomes a step of its own.

        The extra step is needed because a module may return its input, as a stochastic depth of
        zero does.
        """
        output: object = super().call_module(m, forward, args, kwargs)
        name = self.path_of_module(m)
        if name in self._names:
            if isinstance(output, fx.Proxy):
                output = self.create_proxy("call_function", returned, (output,), {})
            self.returned.setdefault(name, []).append(output)
        return output


@contextmanager
def _attributes_kept(module: nn.Module) -> Iterator[None]:
    """Undo the changes of a model's forward to its own attributes, lists and dictionaries."""
    kept = [(part, dict(part.__dict__)) for part in module.modules()]
    contents = [
        (value, copy(value))
        for _, attributes in kept
        for value in attributes.values()
        if isinstance(value, list | dict | set)
    ]
    try:
        yield
    finally:
        for part, attributes in kept:
            part.__dict__.clear()
            part.__dict__.update(attributes)
        for value, content in contents:
            value.clear()
            if isinstance(value, list):
                value.extend(content)
            else:
                value.update(content)


@contextmanager
def _calls_kept() -> Iterator[None]:
    """Undo torch.fx's patches of ``nn.Module``, also if the trace was interrupted."""
    names = ("__call__", "__getattr__")
    kept = {name: nn.Module.__dict__[name] for name in names}
    try:
        yield
    finally:
        for name, value in kept.items():
            if nn.Module.__dict__[name] is not value:
                setattr(nn.Module, name, value)


def _to_logits(part: Callable[..., Tensor], activation: str) -> Callable[..., Tensor]:
    """Return a function whose logits have two classes if the given one returns one logit."""

    def run(values: Tensor, *saved: Tensor) -> Tensor:
        return logits_of(part(values, *saved), len(values), activation=activation)

    return run


def _reached(nodes: Sequence[Node], start: Node) -> set[Node]:
    """Return the nodes whose values depend on the node ``start``, which is included."""
    reached = {start}
    for node in nodes:
        if any(one in reached for one in node.all_input_nodes):
            reached.add(node)
    return reached


def _entry(model: FollowedModel, tail: Slice, activation: str) -> Entry | None:
    """Return the beginning of a tail, if channels stay separate up to one linear operation."""
    layer, *saved = tail.inputs
    node, chain, flat = layer, list[Node](), False
    while len(node.users) == 1:
        (node,) = node.users
        step = _step(model, node)
        if node.all_input_nodes != [node.args[0]] or _is_hooked(step):
            return None
        splits = isinstance(step, nn.Linear) and flat
        if isinstance(step, nn.Conv2d) and not flat:
            splits = step.groups == 1 and step.padding_mode == "zeros"
        if splits:
            assert isinstance(step, nn.Linear | nn.Conv2d)
            others = [n for n in tail.steps if n not in chain and n is not node]
            channelwise = Slice([layer], chain, chain[-1] if chain else layer)
            rest = Slice([node, *saved], others, tail.result)
            return Entry(
                channelwise=channelwise.compiled(model.module),
                linear=step,
                rest=_to_logits(rest.compiled(model.module), activation),
                pointwise=_keep_positions_apart([_step(model, one) for one in chain]),
            )
        if _flattens(step):
            flat = True
        elif not _keeps_channels_apart(step) or (flat and not _is_pointwise(step)):
            return None
        chain.append(node)
    return None


def _step(model: FollowedModel, node: Node) -> object:
    """Return the module, the function or the tensor method's name that a node calls."""
    return model.modules[str(node.target)] if node.op == "call_module" else node.target


def _is_hooked(step: object) -> bool:
    """Return whether a hook may change a module's input or output."""
    return isinstance(step, nn.Module) and bool(step._forward_hooks or step._forward_pre_hooks)


def _is_pointwise(step: object) -> bool:
    return isinstance(step, _POINTWISE_MODULES) or step in (*_POINTWISE_FUNCTIONS, "relu", "relu_")


def _keeps_channels_apart(step: object) -> bool:
    return _is_pointwise(step) or isinstance(step, _POOLING_MODULES) or step in _POOLING_FUNCTIONS


def _keep_positions_apart(steps: Sequence[object]) -> bool:
    """Return whether steps keep positions apart; one adaptive pooling is allowed among them."""
    others = [step for step in steps if not (_is_pointwise(step) or _flattens(step))]
    return len(others) <= 1 and all(
        isinstance(step, _ADAPTIVE_MODULES) or step is functional.adaptive_avg_pool2d
        for step in others
    )


def _flattens(step: object) -> bool:
    return isinstance(step, nn.Flatten) or step in _FLATTENING


def _averages_globally(step: object, node: Node) -> bool:
    """Return whether a step is the mean over both spatial axes."""
    if isinstance(step, nn.AdaptiveAvgPool2d):
        return step.output_size in (1, (1, 1))
    arguments = [*node.args[1:], *node.kwargs.values()]
    if step is functional.adaptive_avg_pool2d:
        return arguments in ([1], [(1, 1)], [[1, 1]])
    if step in (torch.mean, "mean"):
        axes = arguments[0] if arguments else None
        return isinstance(axes, list | tuple) and sorted(axes) in ([2, 3], [-2, -1])
    return False
