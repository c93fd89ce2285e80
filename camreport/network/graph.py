"""The tail of a network: what it does behind one layer, as a function of that layer's output.

Perturbation methods change a layer and ask for the logits, hundreds of times. What lies in
front of the layer does not change, so only the tail is run. It is found by following the
model's own code symbolically (``torch.fx``); where that cannot be done, the whole model runs
with the layer's output exchanged, which is slower and gives the same.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass
from operator import attrgetter

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from camreport.errors import ModelError
from camreport.network.address import ACTIVATIONS
from camreport.network.grid import Grid
from camreport.network.logits import logits_of, part_of
from camreport.network.state import forward_without_gradients, interrupts_deferred
from camreport.settings import SOFTMAX

Node = fx.Node

VALUE = "camreport_value"
"""Under this key a step that reads an attribute of the model keeps what it read."""

_POINTWISE_MODULES = (*ACTIVATIONS, nn.Dropout, nn.Dropout2d, nn.Identity, nn.BatchNorm2d)
_POOLING_MODULES = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_ADAPTIVE_MODULES = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_POINTWISE_FUNCTIONS = (torch.relu, functional.relu, functional.dropout)
_POOLING_FUNCTIONS = (
    functional.adaptive_avg_pool2d,
    functional.avg_pool2d,
    functional.max_pool2d,
)
_FLATTENING = (torch.flatten, "flatten")


@dataclass(frozen=True)
class Entry:
    """How a tail begins: channels kept apart, then one operation that is linear in them.

    Attributes:
        channelwise: from the layer's output to the input of ``linear``; every channel of its
            result depends on the same channel of the layer alone.
        linear: a convolution without groups, or a linear layer behind a flattening.
        rest: from the output of ``linear`` (and the saved tensors) to the logits.
        pointwise: ``channelwise`` keeps positions apart as well, unless it changes their number.
    """

    channelwise: Callable[[Tensor], Tensor]
    linear: nn.Conv2d | nn.Linear
    rest: Callable[..., Tensor]
    pointwise: bool


@dataclass(frozen=True)
class Tail:
    """What a model does behind one layer.

    Attributes:
        after: from the layer's output and the saved tensors to the logits.
        before: from the images to the saved tensors, those that skip the layer on their way;
            None where there are none.
        entry: how the tail begins, where that can be used.
    """

    after: Callable[..., Tensor]
    before: Callable[[Tensor], tuple[Tensor, ...]] | None
    entry: Entry | None


@dataclass(frozen=True)
class Head:
    """Global average pooling and one linear layer, behind a layer.

    Attributes:
        weight: of the linear layer, ``(num_classes, C)``.
        rectified: a ReLU stands between the layer and the pooling.
    """

    weight: Tensor
    rectified: bool


def trace_model(module: nn.Module, whole: Sequence[str] = ()) -> fx.Graph | None:
    """Follow a model's forward symbolically; None where its code does not allow that.

    Args:
        module: in evaluation mode; its attributes are as before afterwards.
        whole: modules that stay one step each, by name.
    """
    with interrupts_deferred(), _attributes_kept(module), _calls_kept():
        try:
            graph: fx.Graph = _Tracer(whole).trace(module)
        except Exception:  # whatever a model's code does with something that is no tensor
            return None
        for node in graph.nodes:  # a tensor made in forward is known to the module just now only
            if node.op == "get_attr":
                node.meta[VALUE] = attrgetter(str(node.target))(module)
    return graph


def find_tail(
    module: nn.Module, reads: str, output: str | None = None, activation: str = SOFTMAX
) -> Tail | None:
    """Return what follows the output of a module (``name``, or ``name#k`` for its call k).

    None where the model's code cannot be followed, or what it returns holds no logits that are
    known by name.

    Args:
        module: in evaluation mode.
        reads: the layer.
        output: which part of what the model returns holds the logits.
        activation: how they become probabilities.
    """
    found = _locate(module, reads, output)
    if found is None:
        return None
    graph, layer, result = found
    nodes = list(graph.nodes)
    source = next(node for node in nodes if node.op == "placeholder")
    of_images, behind = _reached(nodes, source), _reached(nodes, layer)
    if result not in behind:
        return None
    order = {node: place for place, node in enumerate(nodes)}
    saved = sorted(
        {i for n in behind - {layer} for i in n.all_input_nodes if i in of_images - behind},
        key=order.__getitem__,
    )
    upstream = [n for n in nodes if n not in behind and n is not source and n.op != "output"]
    constants = [n for n in nodes if n not in of_images and n.op not in ("placeholder", "output")]
    steps = [*constants, *(n for n in nodes if n in behind - {layer} and n.op != "output")]
    return Tail(
        after=_to_logits(_part(module, [layer, *saved], steps, result), activation),
        before=_part(module, [source], upstream, saved) if saved else None,
        entry=_entry(module, layer, result, saved, steps, activation),
    )


def find_head(
    module: nn.Module, reads: str, output: str | None = None, activation: str = SOFTMAX
) -> Head | None:
    """Return the pooling and the one linear layer that follow a module, if nothing else does.

    Takes what ``find_tail`` takes.
    """
    found = _locate(module, reads, output)
    if found is None:
        return None
    _, node, result = found
    modules = dict(module.named_modules(remove_duplicate=False))
    pooled = rectified = False
    while len(node.users) == 1:
        (node,) = node.users
        step = _step(modules, node)
        if isinstance(step, nn.Linear):
            ends = pooled and node is result
            weight = step.weight.detach().T  # (C, num_classes), or (C, 1)
            zero = logits_of(torch.zeros_like(weight), len(weight), activation=activation)
            weight = (logits_of(weight, len(weight), activation=activation) - zero).T
            return Head(weight, rectified) if ends else None
        if not pooled and (isinstance(step, nn.ReLU) or step in (functional.relu, torch.relu)):
            rectified = True
        elif _averages_globally(step, node):
            pooled = True
        elif not (_flattens(step) or isinstance(step, nn.Dropout | nn.Identity)):
            return None
    return None


def functional_steps(module: nn.Module) -> set[object] | None:
    """Return the functions and tensor methods that a model's own code calls.

    None where the code cannot be followed.
    """
    graph = trace_model(module)
    if graph is None:
        return None
    return {node.target for node in graph.nodes if node.op in ("call_function", "call_method")}


def whole_model(
    module: nn.Module, reads: str, images: Tensor, grid: Grid
) -> Callable[[Tensor, Tensor], object]:
    """Return a function that runs the whole model with the layer exchanged.

    Args:
        module: the model.
        reads: the layer, ``name`` or ``name#k``.
        images: ``(N, 3, H, W)``.
        grid: how the layer's output lies.

    Returns:
        a function of values ``(M, C, h, w)`` and the rows ``(M,)`` of the images they belong to,
        to what the model returns.
    """
    name, _, call = reads.partition("#")
    layer = module.get_submodule(name)
    forward = forward_without_gradients(module)

    def run(values: Tensor, rows: Tensor) -> object:
        calls = 0

        def exchange(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            if calls - 1 != int(call or 0):
                return output
            exchanged = grid.restore(values, output).clone()
            return exchanged.requires_grad_(torch.is_grad_enabled())

        def counted(part: nn.Module, inputs: object) -> None:
            nonlocal calls
            calls = 0

        with ExitStack() as hooks:
            hooks.callback(module.register_forward_pre_hook(counted).remove)
            hooks.callback(layer.register_forward_hook(exchange).remove)
            return forward(images[rows])

    return run


class _Tracer(fx.Tracer):
    """Follows a model's code into every module but torch's own and those that stay whole."""

    def __init__(self, whole: Sequence[str]) -> None:
        super().__init__()
        self._whole = set(whole)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Say whether a module stays one step."""
        return module_qualified_name in self._whole or super().is_leaf_module(
            m, module_qualified_name
        )


@contextmanager
def _attributes_kept(module: nn.Module) -> Iterator[None]:
    """Undo what a model's forward does to its own attributes, lists and dictionaries."""
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
    """Undo what torch.fx does to every module while it follows one, whatever ended that."""
    names = ("__call__", "__getattr__")
    kept = {name: nn.Module.__dict__[name] for name in names}
    try:
        yield
    finally:
        for name, value in kept.items():
            if nn.Module.__dict__[name] is not value:
                setattr(nn.Module, name, value)


def _to_logits(part: Callable[..., Tensor], activation: str) -> Callable[..., Tensor]:
    """Let a function return two classes' logits where it returns one for each image."""

    def run(values: Tensor, *saved: Tensor) -> Tensor:
        return logits_of(part(values, *saved), len(values), activation=activation)

    return run


def _locate(
    module: nn.Module, reads: str, output: str | None
) -> tuple[fx.Graph, Node, Node] | None:
    """Return the model's graph, the step that gives the layer's output, and the logits' step."""
    name, _, call = reads.partition("#")
    graph = trace_model(module, [name])
    if graph is None:
        return None
    steps = [node for node in graph.nodes if node.op == "call_module" and node.target == name]
    (end,) = (node for node in graph.nodes if node.op == "output")
    try:
        result = part_of(end.args[0], output)
    except ModelError:
        return None
    if int(call or 0) >= len(steps) or not isinstance(result, Node):
        return None
    return graph, steps[int(call or 0)], result


def _reached(nodes: Sequence[Node], start: Node) -> set[Node]:
    """Return the nodes whose values depend on one node, itself included."""
    reached = {start}
    for node in nodes:
        if any(one in reached for one in node.all_input_nodes):
            reached.add(node)
    return reached


def _part(
    module: nn.Module,
    inputs: Sequence[Node],
    steps: Sequence[Node],
    result: Node | Sequence[Node],
) -> fx.GraphModule:
    """Cut a part out of a model's graph: a function of some of its values."""
    graph = fx.Graph()
    copies = {node: graph.placeholder(f"value_{place}") for place, node in enumerate(inputs)}
    for node in steps:
        if all(one in copies for one in node.all_input_nodes):
            copies[node] = graph.node_copy(node, copies.__getitem__)
    output = copies[result] if isinstance(result, Node) else tuple(copies[n] for n in result)
    graph.output(output)
    values = {n.target: n.meta[VALUE] for n in graph.nodes if n.op == "get_attr"}
    parts = {n.target: module.get_submodule(n.target) for n in graph.nodes if n.op == "call_module"}
    return fx.GraphModule(values | parts, graph)


def _entry(
    module: nn.Module,
    layer: Node,
    result: Node,
    saved: Sequence[Node],
    steps: Sequence[Node],
    activation: str,
) -> Entry | None:
    """Return how the tail begins, if channels stay apart up to one linear operation."""
    modules = dict(module.named_modules(remove_duplicate=False))
    node, chain, flat = layer, list[Node](), False
    while len(node.users) == 1:
        (node,) = node.users
        step = _step(modules, node)
        if node.all_input_nodes != [node.args[0]] or _is_hooked(step):
            return None
        splits = isinstance(step, nn.Linear) and flat
        if isinstance(step, nn.Conv2d) and not flat:
            splits = step.groups == 1 and step.padding_mode == "zeros"
        if splits:
            assert isinstance(step, nn.Linear | nn.Conv2d)
            rest = [n for n in steps if n not in chain and n is not node]
            return Entry(
                channelwise=_part(module, [layer], chain, chain[-1] if chain else layer),
                linear=step,
                rest=_to_logits(_part(module, [node, *saved], rest, result), activation),
                pointwise=_keep_positions_apart([_step(modules, one) for one in chain]),
            )
        if _flattens(step):
            flat = True
        elif not _keeps_channels_apart(step) or (flat and not _is_pointwise(step)):
            return None
        chain.append(node)
    return None


def _step(modules: dict[str, nn.Module], node: Node) -> object:
    """Return what a node calls: a module, a function, or a tensor method's name."""
    return modules[str(node.target)] if node.op == "call_module" else node.target


def _is_hooked(step: object) -> bool:
    """Say whether a hook may change what a module takes or returns."""
    return isinstance(step, nn.Module) and bool(step._forward_hooks or step._forward_pre_hooks)


def _is_pointwise(step: object) -> bool:
    return isinstance(step, _POINTWISE_MODULES) or step in (*_POINTWISE_FUNCTIONS, "relu", "relu_")


def _keeps_channels_apart(step: object) -> bool:
    return _is_pointwise(step) or isinstance(step, _POOLING_MODULES) or step in _POOLING_FUNCTIONS


def _keep_positions_apart(steps: Sequence[object]) -> bool:
    """Say whether steps act on each position by itself; adaptive pooling does to its own size."""
    others = [step for step in steps if not (_is_pointwise(step) or _flattens(step))]
    return len(others) <= 1 and all(
        isinstance(step, _ADAPTIVE_MODULES) or step is functional.adaptive_avg_pool2d
        for step in others
    )


def _flattens(step: object) -> bool:
    return isinstance(step, nn.Flatten) or step in _FLATTENING


def _averages_globally(step: object, node: Node) -> bool:
    """Say whether a step is the mean over both spatial axes."""
    if isinstance(step, nn.AdaptiveAvgPool2d):
        return step.output_size in (1, (1, 1))
    arguments = [*node.args[1:], *node.kwargs.values()]
    if step is functional.adaptive_avg_pool2d:
        return arguments in ([1], [(1, 1)], [[1, 1]])
    if step in (torch.mean, "mean"):
        axes = arguments[0] if arguments else None
        return isinstance(axes, list | tuple) and sorted(axes) in ([2, 3], [-2, -1])
    return False
