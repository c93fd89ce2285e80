"""The engine: one forward pass per batch, one backward pass per class, all maps from those.

    images (N, 3, H, W) ─ forward ─▶ logits (N, num_classes), activations (N, C, h, w)
    class k ─ backward ─▶ gradients at all layers ─ every method ─▶ cams (N, h, w), then freed

Backward passes of several classes are batched while their gradients fit a byte budget and
looped beyond it: batching reads the classifier's weights once (up to a third faster for few
images), looping keeps the memory traffic small (up to a quarter faster for many).
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from camreport.conditions import full_precision, gradients_on, to_model, undisturbed
from camreport.errors import ClassError, LayerError, MemoryLimitError, ModelError
from camreport.fusion import fuse
from camreport.layers import Layer, auto_layers, resolve_layer, spatial_activation
from camreport.memory import (
    FIRST_BATCH_ALLOWANCE,
    BatchTooLarge,
    budget_of,
    is_out_of_memory,
    output_bytes,
)
from camreport.methods import DEFAULT_METHODS, Method, resolve_methods
from camreport.models import LoadedModel
from camreport.trace import LayerTrace

FUSED = "fused"
"""The name under which a method's maps of all layers, fused into one, are kept."""

FIRST_BATCH = 16
"""Images in the first batch; what it needs decides the size of the others."""


@dataclass(frozen=True)
class Cost:
    """What was computed: passes over batches, and maps."""

    forwards: int = 0
    backwards: int = 0
    maps: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        """Add up the costs of two batches."""
        return Cost(
            self.forwards + other.forwards,
            self.backwards + other.backwards,
            self.maps + other.maps,
        )


@dataclass(frozen=True)
class Explanation:
    """The maps of one call.

    Attributes:
        maps: ``maps[method][layer]`` is a Tensor ``(N, K, h, w)``, float32: raw, that is
            unnormalised and before the final ReLU. Layers stand under the names they were
            asked by; ``maps["layer_cam"]["fused"]`` is there from two layers on.
        logits: ``(N, num_classes)`` float32.
        targets: class indices explained, ``(N, K)`` int64.
        layers: where each map was read, by the name it was asked by, in network order.
        shapes: ``(C, h, w)`` of each layer, under the same names.
        cost: passes and maps.
        bytes_per_image: what the model's innermost modules return for one image.
    """

    maps: dict[str, dict[str, Tensor]] = field(repr=False)
    logits: Tensor = field(repr=False)
    targets: Tensor = field(repr=False)
    layers: dict[str, Layer]
    shapes: dict[str, tuple[int, int, int]]
    cost: Cost
    bytes_per_image: int


def explain(
    model: nn.Module | LoadedModel,
    images: Tensor,
    layers: str | Sequence[str | int | nn.Module] | None = None,
    methods: str | Sequence[str] = DEFAULT_METHODS,
    targets: Sequence[int] | Tensor | str | None = None,
) -> Explanation:
    """Compute the class-activation maps of a batch: every layer, method and class at once.

    The model comes back as it was found, also after an exception: mode, ``requires_grad``,
    ``.grad``, hooks and state. Many images are cut into batches by a byte budget; the maps do
    not depend on the cut.

    Args:
        model: a classifier from ``(N, 3, H, W)`` to logits, or what ``load_model`` returns.
        images: ``(N, 3, H, W)``, preprocessed; moved to the model's device.
        layers: addresses such as ``features.12``, or module objects; the model's own choice
            of up to five if None.
        methods: names from the registry, in any spelling.
        targets: K class indices for every image, a tensor ``(N, K)``, ``"all"``, ``"top3"``,
            or None for the most probable class.

    Raises:
        LayerError: an address leads to no module, or to no spatial tensor.
        MethodError: an unknown method.
        ClassError: a target that is no class of the model.
        ModelError: images or logits of the wrong shape.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
        >>> e = explain(net, torch.rand(5, 3, 8, 8), layers=["0"], targets=[0, 1])
        >>> tuple(e.maps["layer_cam"]["0"].shape)
        (5, 2, 6, 6)
    """
    module = model.module if isinstance(model, LoadedModel) else model
    chosen = resolve_methods(methods)
    check_images(images)
    wanted = _as_indices(targets, len(images))
    if isinstance(layers, str):
        layers = [address.strip() for address in layers.split(",")]
    if layers is not None and not layers:
        raise LayerError("layers: expected at least one address, or None, got none.")
    with undisturbed(module):
        if layers is None:
            layers = auto_layers(module, to_model(module, images[:1]))
        resolved = {_asked_name(module, asked): resolve_layer(module, asked) for asked in layers}
        parts: list[Explanation] = []
        start, size = 0, FIRST_BATCH
        while start < len(images):
            rows = slice(start, start + size)
            own = wanted[rows] if isinstance(wanted, Tensor) and wanted.ndim == 2 else wanted
            done = explain_within_memory(module, images[rows], resolved, chosen, own)
            parts += done
            start, size = rows.stop, min(next_batch_size(done[0]), largest_that_fits(done))
    return join(parts)


def explain_within_memory(
    module: nn.Module,
    images: Tensor,
    layers: Mapping[str, Layer],
    methods: Sequence[Method],
    targets: Sequence[int] | Tensor | str | None,
    bounded: bool = True,
) -> list[Explanation]:
    """Explain one batch, halved again and again where it does not fit into memory.

    Takes what ``explain_batch`` takes and returns its results in order.

    Raises:
        MemoryLimitError: one image alone is too much.
    """
    try:
        return [explain_batch(module, images, layers, methods, targets, bounded)]
    except (MemoryError, RuntimeError, BatchTooLarge) as error:
        if not is_out_of_memory(error):
            raise
        if len(images) == 1:
            raise MemoryLimitError(
                "memory: one image is more than this device can hold. Choose later layers, "
                "a smaller image size or another device."
            ) from error
    half = (len(images) + 1) // 2  # outside the handler: the failed batch's tensors are freed
    parts: list[Explanation] = []
    for rows in (slice(None, half), slice(half, None)):
        own = targets[rows] if isinstance(targets, Tensor) and targets.ndim == 2 else targets
        parts += explain_within_memory(module, images[rows], layers, methods, own, bounded)
    return parts


def explain_batch(
    module: nn.Module,
    images: Tensor,
    layers: Mapping[str, Layer],
    methods: Sequence[Method],
    targets: Sequence[int] | Tensor | str | None,
    bounded: bool = True,
) -> Explanation:
    """Explain one batch: one forward pass, one backward pass per class.

    Args:
        module: the classifier; comes back as it was found.
        images: ``(N, 3, H, W)``, preprocessed.
        layers: where to read, by the name the maps are kept under.
        methods: what to compute.
        targets: as for ``explain``.
        bounded: stop a batch of several images that goes far beyond the byte budget; not where
            a user has chosen its size.

    Raises:
        BatchTooLarge: it does.
        LayerError, ClassError, ModelError: as for ``explain``.
    """
    with undisturbed(module), gradients_on(), ExitStack() as stack:
        inputs = to_model(module, images)
        names = {layer.module for layer in layers.values()}
        modules = dict(module.named_modules(remove_duplicate=False))
        allowed = FIRST_BATCH_ALLOWANCE * budget_of(inputs.device).activations
        limit = allowed if bounded and len(images) > 1 else float("inf")
        trace = stack.enter_context(LayerTrace({name: modules[name] for name in names}))
        with full_precision(inputs.device), output_bytes(module, limit) as returned:
            logits = _checked_logits(module(inputs), len(images))  # (N, num_classes)
            chosen = choose_targets(logits, targets)  # (N, K)
            activations = {layer.reads: trace[layer.reads] for layer in layers.values()}
            order = sorted(layers, key=lambda name: trace.position(layers[name].reads))
            ordered = {name: layers[name] for name in order}
            for name in ordered:
                spatial_activation(
                    ordered[name],
                    activations[ordered[name].reads],
                    {other: activations[ordered[other].reads] for other in ordered},
                )
            read_maps = _maps(logits, chosen, activations, methods)
    maps: dict[str, dict[str, Tensor]] = {}
    for method in methods:
        by_read = read_maps[method.key]
        maps[method.key] = {name: by_read[layers[name].reads] for name in layers}
        if method.fuses and len(by_read) > 1:
            reads = dict.fromkeys(layer.reads for layer in ordered.values())
            maps[method.key][FUSED] = fuse([by_read[read] for read in reads])
    return Explanation(
        maps=maps,
        logits=logits.detach().float(),
        targets=chosen,
        layers=ordered,
        shapes={
            name: (int(a.shape[1]), int(a.shape[2]), int(a.shape[3]))
            for name, a in ((name, activations[layer.reads]) for name, layer in ordered.items())
        },
        cost=Cost(
            forwards=1,
            backwards=chosen.shape[1],
            maps=chosen.numel() * sum(len(by_layer) for by_layer in maps.values()),
        ),
        bytes_per_image=returned["bytes"] // len(images),
    )


def next_batch_size(done: Explanation) -> int:
    """Return how many images the next batch takes: a fixed byte budget's worth, at least one.

    The budget depends on the device's type alone, not on what is free: equal runs stay equal.
    """
    budget = budget_of(done.logits.device)
    return max(1, min(budget.images, budget.activations // max(1, done.bytes_per_image)))


def largest_that_fits(parts: Sequence[Explanation]) -> int:
    """Return the largest batch that memory held, or no bound where none had to be halved."""
    return max(len(part.logits) for part in parts) if len(parts) > 1 else sys.maxsize


def choose_targets(logits: Tensor, targets: Sequence[int] | Tensor | str | None) -> Tensor:
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
            return logits.topk(min(int(wanted[3:]), num_classes), dim=1).indices
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


def _maps(
    logits: Tensor,
    targets: Tensor,
    activations: Mapping[str, Tensor],
    methods: Sequence[Method],
) -> dict[str, dict[str, Tensor]]:
    """Return raw maps ``(N, K, h, w)`` float32 by method and by the name a tensor was read as."""
    count, ranks = targets.shape
    maps = {
        method.key: {
            name: torch.empty(count, ranks, *a.shape[-2:], dtype=torch.float32, device=a.device)
            for name, a in activations.items()
        }
        for method in methods
    }
    per_class = sum(a.numel() * a.element_size() for a in activations.values())
    step = max(1, budget_of(logits.device).gradients // max(1, per_class))
    for start in range(0, ranks, step):
        chunk = targets[:, start : start + step].T  # (k, N)
        cotangent = torch.zeros(len(chunk), *logits.shape, dtype=logits.dtype).to(logits.device)
        cotangent.scatter_(2, chunk.unsqueeze(2), 1)  # (k, N, num_classes), one-hot
        gradients = _gradients(logits, activations, cotangent)
        for name, activation in activations.items():
            gradient = gradients.pop(name)  # (k, N, C, h, w), freed before the next layer's turn
            repeated = activation.detach().expand_as(gradient)
            for method in methods:
                cam = method.compute(repeated, gradient)  # (k, N, h, w)
                maps[method.key][name][:, start : start + len(chunk)] = cam.transpose(0, 1)
    return maps


def _gradients(
    logits: Tensor, activations: Mapping[str, Tensor], cotangent: Tensor
) -> dict[str, Tensor]:
    """Return d target_logit / d activation, ``(k, N, C, h, w)``, for k classes in one pass."""
    tensors = list(activations.values())
    if not logits.requires_grad:
        raise LayerError(f"layer: the logits do not depend on {' or '.join(activations)}.")
    batched = len(cotangent) > 1
    gradients = torch.autograd.grad(
        logits,
        tensors,
        cotangent if batched else cotangent[0],
        retain_graph=True,
        allow_unused=True,
        is_grads_batched=batched,
    )
    for name, gradient in zip(activations, gradients, strict=True):
        if gradient is None:
            raise LayerError(f"layer: the logits do not depend on {name!r}. Choose another.")
    return {
        name: gradient if batched else gradient.unsqueeze(0)
        for name, gradient in zip(activations, gradients, strict=True)
    }


def _checked_logits(output: object, count: int) -> Tensor:
    if isinstance(output, Tensor) and output.ndim == 2 and len(output) == count:
        return output
    got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    raise ModelError(
        f"model: expected logits (N, num_classes) with N = {count}, got {got}. "
        "Wrap the model so that its forward returns the logits."
    )


def _asked_name(module: nn.Module, asked: str | int | nn.Module) -> str:
    return asked if isinstance(asked, str) else resolve_layer(module, asked).address


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
        cost=sum((part.cost for part in parts), Cost()),
    )
