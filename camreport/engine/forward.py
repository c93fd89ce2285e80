"""The forward pass of a batch, and what it keeps for the backward passes.

images (N, 3, H, W) ─ forward ─▶ logits (N, num_classes), activations (N, C, h, w)
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from camreport.errors import LayerError
from camreport.network.address import Layer
from camreport.network.choose import nearest_layers
from camreport.network.grid import Grid
from camreport.network.logits import logits_of, recognise, resolved_key
from camreport.network.state import wants_graph
from camreport.network.survey import survey
from camreport.network.trace import LayerTrace, NotSpatialError, counted_bytes
from camreport.settings import AUTO


@dataclass(frozen=True)
class Capture:
    """What a forward pass keeps.

    Attributes:
        points: hook points of the layers, ``name`` or ``name#k``.
        pools: name of the pooling module that follows a layer, by the layer's hook point.
        from_input: record the graph from the images on, and keep the outputs of biased modules.
        output: key, attribute or index of the logits in the model's output.
        activation: how logits become probabilities, or ``auto``.
    """

    points: tuple[str, ...]
    pools: Mapping[str, str]
    from_input: bool
    output: str | None
    activation: str


@dataclass(frozen=True)
class ForwardPass:
    """What one forward pass keeps for the backward passes.

    Attributes:
        inputs: the images, ``(N, 3, H, W)``; in the graph if a method needs their gradient.
        logits: ``(N, num_classes)``.
        output: key of the logits in the model's output; None for a tensor or the key ``logits``.
        activation: how logits become probabilities; ``auto`` if another pass has to decide that.
        activations: ``(N, C, h, w)`` by hook point.
        grids: layout of each activation: channels first, channels last or tokens.
        pools: output of the pooling that follows a layer, by the layer's hook point.
        biases: outputs of the modules with a bias, each with its bias ``(C, 1, 1)``, or ``(C,)``
            if the output has no grid; for FullGrad.
        order: hook points, in the order in which the modules finished.
        bytes_per_image: bytes that the model's innermost modules returned for one image.
    """

    inputs: Tensor
    logits: Tensor
    output: str | None
    activation: str
    activations: dict[str, Tensor]
    grids: dict[str, Grid]
    pools: dict[str, Tensor]
    biases: list[tuple[Tensor, Tensor]]
    order: list[str]
    bytes_per_image: int


def forward_pass(
    module: nn.Module, inputs: Tensor, capture: Capture, limit: float = float("inf")
) -> ForwardPass:
    """Run the forward pass and keep what ``capture`` names; all hooks are removed afterwards.

    Raises:
        BatchTooLarge: the model's modules returned more than ``limit`` bytes.
        LayerError: a layer did not run, or returned something other than one tensor.
        NotSpatialError: the output of a layer has no spatial grid.
        ModelError: the model did not return logits.
    """
    try:
        return _forward_pass(module, inputs, capture, limit, capture.from_input)
    except RuntimeError as error:
        if capture.from_input or not wants_graph(error):
            raise
    return _forward_pass(module, inputs, capture, limit, from_input=True)


def named_forward_pass(
    module: nn.Module,
    inputs: Tensor,
    capture: Capture,
    layers: Mapping[str, Layer],
    limit: float = float("inf"),
) -> ForwardPass:
    """Run the forward pass; an error about a layer has the name under which it was asked for.

    Raises:
        LayerError: a layer has no grid, or as for ``forward_pass``.
        BatchTooLarge, ModelError: as for ``forward_pass``.
    """
    try:
        return forward_pass(module, inputs, capture, limit)
    except NotSpatialError as error:
        given = [name for name, layer in layers.items() if layer.module == error.name]
        calls = survey(module, inputs[:1], capture.output)
        raise LayerError(
            f"layer: expected a spatial output, but {given[0]!r} gives {error.reason}. "
            f"Nearest with a grid: {', '.join(nearest_layers(calls, error.name)) or 'none'}."
        ) from error


def _forward_pass(
    module: nn.Module, inputs: Tensor, capture: Capture, limit: float, from_input: bool
) -> ForwardPass:
    """Run the forward pass, with the graph from the images on if ``from_input``."""
    modules = dict(module.named_modules(remove_duplicate=False))
    biased = biased_modules(module) if from_input else {}
    names = (point.partition("#")[0] for point in capture.points)
    kept = {name: modules[name] for name in (*names, *capture.pools.values(), *biased)}
    with LayerTrace(kept, (inputs.shape[-2], inputs.shape[-1])) as trace:
        inputs = inputs.detach().requires_grad_(from_input)
        with counted_bytes(module, limit) as returned:
            output = module(inputs.clone())  # a model may write to its input
        key = resolved_key(output, len(inputs), capture.output)
        activation = capture.activation
        if activation == AUTO:
            activation = recognise(output, len(inputs), key)
        return ForwardPass(
            inputs=inputs,
            logits=logits_of(output, len(inputs), key, activation),
            output=key,
            activation=activation,
            activations={name: _of_images(trace, name, len(inputs)) for name in capture.points},
            grids={name: trace.grid(name) for name in capture.points},
            pools={name: trace[pool] for name, pool in capture.pools.items()},
            biases=[
                (output, bias)
                for name, bias in biased.items()
                for output in trace.calls(name)
                if output.ndim == (4 if bias.ndim == 3 else 2)
            ],
            order=sorted(capture.points, key=trace.position),
            bytes_per_image=returned.total // len(inputs),
        )


def _of_images(trace: LayerTrace, point: str, count: int) -> Tensor:
    """Return a captured output, if its first axis is the image axis.

    Raises:
        NotSpatialError: the first axis has another length than the number of images.
    """
    captured = trace[point]
    if len(captured) != count:
        raise NotSpatialError(
            point.partition("#")[0],
            f"{tuple(captured.shape)} for {count} images: its first axis is not "
            "the images, but windows, heads or a table",
        )
    return captured


def biased_modules(module: nn.Module) -> dict[str, Tensor]:
    """Return the bias of each module that adds one, by name.

    A bias has the shape ``(C, 1, 1)``, or ``(C,)`` if the module's output has no grid.

    A subclass with a forward of its own may do more after adding the bias (timm's BatchNormAct2d
    rectifies) and is left out; ``probe.full_grad_gap`` detects the missing contribution.
    """
    found = {}
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d) and part.bias is not None:
            found[name] = part.bias.detach()[:, None, None]
        elif isinstance(part, nn.Linear) and part.bias is not None:
            found[name] = part.bias.detach()
        elif _normalises(part) and part.running_var is not None:
            scale = (part.running_var + part.eps).rsqrt()
            scale = scale if part.weight is None else scale * part.weight
            bias = -part.running_mean * scale
            bias = (bias if part.bias is None else bias + part.bias).detach()
            found[name] = bias if isinstance(part, nn.BatchNorm1d) else bias[:, None, None]
    return found


def _normalises(part: nn.Module) -> bool:
    """Return whether a module only normalises with fixed statistics.

    torchvision's FrozenBatchNorm2d is recognised by name, so that torchvision is not required.
    """
    kinds = (nn.BatchNorm2d, nn.SyncBatchNorm, nn.InstanceNorm2d)
    own = type(part).forward
    frozen = own.__module__.startswith("torchvision.") and (
        own.__qualname__ == "FrozenBatchNorm2d.forward"
    )
    return frozen or own in [kind.forward for kind in kinds]
