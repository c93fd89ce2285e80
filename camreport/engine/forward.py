"""The forward pass of a batch, and what it leaves for the backward passes.

images (N, 3, H, W) ─ forward ─▶ logits (N, num_classes), activations (N, C, h, w)
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from camreport.network.grid import Grid
from camreport.network.logits import logits_of, recognise, resolved_key
from camreport.network.state import wants_graph
from camreport.network.trace import LayerTrace, NotSpatialError, counted_bytes
from camreport.settings import AUTO


@dataclass(frozen=True)
class Capture:
    """What a forward pass keeps.

    Attributes:
        sources: hook points of the layers, ``name`` or ``name#k``.
        pools: name of the pooling module that follows a layer, by the layer's hook point.
        from_input: record the graph from the images on, and keep what biases are added to.
        output: which part of what the model returns holds the logits.
        activation: how they become probabilities, or ``auto``.
    """

    sources: tuple[str, ...]
    pools: Mapping[str, str]
    from_input: bool
    output: str | None
    activation: str


@dataclass(frozen=True)
class ForwardPass:
    """What one forward pass leaves for the backward passes.

    Attributes:
        inputs: the images, ``(N, 3, H, W)``; in the graph if a method needs their gradient.
        logits: ``(N, num_classes)``.
        output: the part of what the model returned that holds them, if it was a structure.
        activation: how they become probabilities; ``auto`` where another pass has to tell.
        activations: ``(N, C, h, w)`` by hook point.
        grids: layout of each activation: channels first, channels last or tokens.
        pools: output of the pooling that follows a layer, by the layer's hook point.
        biases: outputs of the modules with a bias and that bias, ``(C, 1, 1)``, or ``(C,)``
            where there is no grid any more; for FullGrad.
        order: hook points, in the order in which the modules finished.
        bytes_per_image: what the model's innermost modules returned for one image.
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
    """Run the forward pass and keep what is asked for; the hooks are gone afterwards.

    Raises:
        BatchTooLarge: the model's modules returned more than ``limit`` bytes.
        LayerError: a layer did not run, or returned something else than one tensor.
        NotSpatialError: its output has no spatial grid.
        ModelError: the model did not return logits.
    """
    try:
        return _forward_pass(module, inputs, capture, limit, capture.from_input)
    except RuntimeError as error:
        if capture.from_input or not wants_graph(error):
            raise
    return _forward_pass(module, inputs, capture, limit, from_input=True)


def _forward_pass(
    module: nn.Module, inputs: Tensor, capture: Capture, limit: float, from_input: bool
) -> ForwardPass:
    """Run the forward pass, with the graph from the images on if ``from_input``."""
    modules = dict(module.named_modules(remove_duplicate=False))
    biased = biased_modules(module) if from_input else {}
    names = (source.partition("#")[0] for source in capture.sources)
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
            activations={name: _of_images(trace, name, len(inputs)) for name in capture.sources},
            grids={name: trace.grid(name) for name in capture.sources},
            pools={name: trace[pool] for name, pool in capture.pools.items()},
            biases=[
                (output, bias)
                for name, bias in biased.items()
                for output in trace.calls(name)
                if output.ndim == (4 if bias.ndim == 3 else 2)
            ],
            order=sorted(capture.sources, key=trace.position),
            bytes_per_image=returned.total // len(inputs),
        )


def _of_images(trace: LayerTrace, source: str, count: int) -> Tensor:
    """Return a captured output, if its first axis is the images.

    Raises:
        NotSpatialError: it is not.
    """
    captured = trace[source]
    if len(captured) != count:
        raise NotSpatialError(
            source.partition("#")[0],
            f"{tuple(captured.shape)} for {count} images: its first axis is not "
            "the images, but windows, heads or a table",
        )
    return captured


def biased_modules(module: nn.Module) -> dict[str, Tensor]:
    """Return what modules add as a bias, by name: ``(C, 1, 1)``, or ``(C,)`` without a grid.

    A subclass with a forward of its own may do more after adding the bias (timm's BatchNormAct2d
    rectifies) and is not counted: ``probe.full_grad_gap`` sees what is missing.
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
    """Say whether a module is a normalisation with fixed statistics, and nothing more.

    torchvision's FrozenBatchNorm2d is known by name: torchvision need not be there.
    """
    kinds = (nn.BatchNorm2d, nn.SyncBatchNorm, nn.InstanceNorm2d)
    own = type(part).forward
    frozen = own.__module__.startswith("torchvision.") and (
        own.__qualname__ == "FrozenBatchNorm2d.forward"
    )
    return frozen or own in [kind.forward for kind in kinds]
