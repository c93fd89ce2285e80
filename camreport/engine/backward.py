"""The backward passes of a batch, and the maps that come from them.

    class k ─ backward ─▶ gradients at all layers ─ every method ─▶ cams (N, h, w), then freed

Backward passes of several classes are batched while their gradients fit a byte budget. Beyond the
budget they run in a loop. Batching reads the classifier's weights once (up to a third faster for
few images); a loop keeps the memory traffic small (up to a quarter faster for many images).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from camreport.engine.batch import Batch, ClassBatching, Maps
from camreport.engine.cost import Cost
from camreport.engine.forward import ForwardPass
from camreport.engine.memory import Budget
from camreport.engine.plan import INPUT
from camreport.engine.score import cotangents, look_alike_cotangents
from camreport.errors import LayerError, ModelError
from camreport.methods import METHODS, Method
from camreport.methods.activation import first_component
from camreport.methods.gradient import contributions, gradient_x_activation
from camreport.methods.registry import (
    ACTIVATION,
    GRADIENT,
    GUIDED,
    HEAD,
    INPUT_GRADIENT,
    LOOK_ALIKES,
    POOL_GRADIENT,
)
from camreport.network.address import Layer
from camreport.network.memory import is_out_of_memory
from camreport.network.precision import wide

CHANNEL_WEIGHTS = "channel_weights"
"""Key of Grad-CAM's weights ``(N, K, C)`` among the maps, present if channels are kept."""

CHANNEL_CONTRIBUTIONS = "channel_contributions"
"""Key of the channels' contributions ``(N, K, C)`` among the maps, present if they are kept."""

Vectors = Mapping[str, dict[str, Tensor]]
"""Memory for one number per channel, ``(N, K, C)``, by what it is and by hook point."""

WITHOUT_GRADIENT = "eigen_cam, score_cam, ablation_cam, recipro_cam"
"""Methods that need no gradients; error messages suggest them."""

_FROM_GRADIENTS = (GRADIENT, POOL_GRADIENT, INPUT_GRADIENT)


def shared_maps(batch: Batch, methods: Sequence[Method], _earlier: Maps) -> tuple[Maps, Cost]:
    """Compute every map that comes from one forward and one backward pass per class.

    The result also holds the Grad-CAM maps that Guided Grad-CAM multiplies, under the key of Guided
    Grad-CAM, and what is kept of channels, under ``CHANNEL_WEIGHTS`` and ``CHANNEL_CONTRIBUTIONS``.
    """
    rows = class_rows(batch)
    guided = [m for m in batch.plan.methods if m.needs is GUIDED and m.scope == "layer"]
    by_gradient = [m for m in methods if m.needs in _FROM_GRADIENTS]
    by_gradient += [_grad_cam_named(m.key) for m in guided if batch.plan.points_by_layer(m)]
    maps = {m.key: _activation_maps(batch, m) for m in methods if m.needs is ACTIVATION}
    maps |= {m.key: _head_maps(batch, m, rows) for m in methods if m.needs is HEAD}
    vectors = {
        CHANNEL_WEIGHTS: _empty_vectors(batch, batch.plan.channels),
        CHANNEL_CONTRIBUTIONS: _empty_vectors(batch, batch.plan.contributions),
    }
    if not (by_gradient or any(vectors.values())):
        return maps, Cost(forwards=1)
    maps |= gradient_maps(batch, by_gradient, rows, vectors, _look_alikes_follow(batch))
    maps |= {key: by_point for key, by_point in vectors.items() if by_point}
    return maps, Cost(forwards=1, backwards=len(rows))


def look_alike_maps(batch: Batch, methods: Sequence[Method], _earlier: Maps) -> tuple[Maps, Cost]:
    """Compute the maps of methods whose score is a class logit minus its look-alikes' logits."""
    rows = look_alike_cotangents(batch.reference_logits, batch.targets)
    return gradient_maps(batch, methods, rows), Cost(backwards=len(rows))


def class_rows(batch: Batch) -> Tensor:
    """Return the cotangents of the explained quantity, ``(K, N, num_classes)``."""
    quantity, activation = batch.plan.options.quantity, batch.plan.activation
    logits, reference = batch.forward.logits, batch.reference_logits
    return cotangents(logits, batch.targets, quantity, reference, activation)


def gradient_maps(
    batch: Batch,
    methods: Sequence[Method],
    rows: Tensor,
    vectors: Vectors | None = None,
    keep_graph: bool = False,
) -> Maps:
    """Compute the maps of gradient methods and the vectors of channels.

    The activations and gradients of a few images at one layer stay in the cache while all
    methods read them, so a few images are processed at a time. Whole batches would be read from
    memory once per method, and single images would make the cores exchange intermediate results.

    Args:
        batch: the batch, after its forward pass.
        methods: the methods to compute.
        rows: cotangents, ``(K, N, num_classes)``.
        vectors: memory for the vectors of channels; filled by this function.
        keep_graph: whether other backward passes follow.
    """
    maps = {method.key: batch.empty_maps(method) for method in methods if method.scope == "layer"}
    whole = [method for method in methods if method.scope == "network"]
    maps |= {method.key: {INPUT: _empty_image_maps(batch)} for method in whole}
    vectors = vectors or {}
    jobs = {point: list[Method]() for by_point in vectors.values() for point in by_point}
    for method in methods:
        for point in batch.plan.points(method) if method.scope == "layer" else ():
            jobs.setdefault(point, []).append(method)
    variables = _variables(batch, jobs, to_image=bool(whole))
    by_class = class_gradients(
        batch.forward.logits, variables, rows, batch.batching, batch.budget, keep_graph
    )
    for part, gradients in by_class:
        for method in whole:
            saliency = _image_map(batch, method, gradients)  # (k, N, H, W)
            maps[method.key][INPUT][:, part] = saliency.transpose(0, 1).float()
        for point, own in jobs.items():
            at_point = {method: maps[method.key][point][:, part] for method in own}
            kept = {key: own[point][:, part] for key, own in vectors.items() if point in own}
            _fill_from_gradients(batch, point, gradients, at_point, kept)
        del gradients
    return maps


def _fill_from_gradients(
    batch: Batch,
    point: str,
    gradients: "Gradients",
    maps: Mapping[Method, Tensor],
    vectors: Mapping[str, Tensor],
) -> None:
    """Compute the maps and vectors at one hook point, and free its gradients.

    Args:
        batch: after its forward pass.
        point: the hook point.
        gradients: of a few classes; those at the hook point are taken out.
        maps: memory for the maps of these classes, ``(N, k, ...)``; it is filled.
        vectors: memory for the channels' vectors that are kept here, ``(N, k, C)``.
    """
    gradient = gradients.layers.pop(point)  # (k, N, C, h, w)
    pooled = gradients.pools.pop(point, gradient)
    if CHANNEL_WEIGHTS in vectors:
        vectors[CHANNEL_WEIGHTS][:] = wide(gradient).mean((-2, -1)).transpose(0, 1)
    activation = batch.values(point).expand_as(gradient)
    for few in _few_images(batch, gradient):
        if CHANNEL_CONTRIBUTIONS in vectors:
            shares = gradient_x_activation(activation[:, few], wide(gradient[:, few]))
            vectors[CHANNEL_CONTRIBUTIONS][few] = shares.sum((-2, -1)).transpose(0, 1)
        for method, cams in maps.items():
            used = wide((pooled if method.needs is POOL_GRADIENT else gradient)[:, few])
            cams[few] = _layer_map(batch, method, activation[:, few], used).transpose(0, 1)


@dataclass(frozen=True)
class Variables:
    """The tensors to differentiate with respect to.

    Attributes:
        layers: activations by hook point.
        pools: outputs of the pooling that follows a layer, by the layer's hook point.
        biases: outputs of the modules with a bias.
        image: the images; None if their gradient is not needed.
    """

    layers: dict[str, Tensor]
    pools: dict[str, Tensor]
    biases: list[Tensor]
    image: Tensor | None

    def tensors(self) -> list[Tensor]:
        """Return all tensors in one list."""
        image = [] if self.image is None else [self.image]
        return [*self.layers.values(), *self.pools.values(), *self.biases, *image]

    def with_gradients(self, found: Sequence[Tensor | None], classes: int) -> "Gradients":
        """Return the gradients ``(k, N, ...)`` in the same fields as their tensors.

        Raises:
            LayerError: the gradient of the logits does not reach one of the tensors.
        """
        gradients = iter(found)
        layers = {s: _reached(next(gradients), repr(s)) for s in self.layers}
        pools = {s: _reached(next(gradients), f"the pooling after {s!r}") for s in self.pools}
        biases = [  # a bias that does not lead to the logits contributes nothing
            one.new_zeros(classes, *one.shape) if (g := next(gradients)) is None else g
            for one in self.biases
        ]
        image = None if self.image is None else _reached(next(gradients), "the image")
        return Variables(layers, pools, biases, image)


Gradients = Variables
"""Gradients of the scores of k classes, ``(k, N, ...)``, each in the field of its tensor."""


def class_gradients(
    logits: Tensor,
    variables: Variables,
    rows: Tensor,
    batching: ClassBatching,
    budget: Budget,
    keep_graph: bool = False,
) -> Iterator[tuple[slice, Gradients]]:
    """Yield d score / d tensor, ``(k, N, ...)``, for as many classes at once as the budget allows.

    Batching vectorises the backward pass. Anomaly detection and some ``autograd.Function`` classes
    do not support that; then the model's classes are differentiated one by one. The graph is
    released with the last class.

    Args:
        logits: ``(N, num_classes)``, with their graph.
        variables: the tensors to differentiate with respect to.
        rows: cotangents, ``(K, N, num_classes)``.
        batching: records whether classes can be batched.
        budget: the byte budget for gradients.
        keep_graph: whether other backward passes follow.

    Raises:
        LayerError: no gradient of the logits reaches one of the tensors.
        ModelError: the backward pass fails.
    """
    tensors = variables.tensors()
    if not logits.requires_grad:
        variables.with_gradients([None] * len(tensors), len(rows))
    step, start = _classes_at_a_time(tensors, budget), 0
    while start < len(rows):
        step = 1 if batching.works is False or torch.is_anomaly_enabled() else step
        chunk = rows[start : start + step]
        batched = len(chunk) > 1
        more = start + len(chunk) < len(rows) or (batched and not batching.works)
        try:
            found = torch.autograd.grad(
                logits,
                tensors,
                chunk if batched else chunk[0],
                retain_graph=keep_graph or more,
                allow_unused=True,
                is_grads_batched=batched,
            )
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            if not batched:
                raise _failed(error) from error
            batching.works = False
            continue
        batching.works = batched or batching.works
        if not batched:
            found = tuple(None if gradient is None else gradient[None] for gradient in found)
        handed = [variables.with_gradients(found, len(chunk))]
        del found  # so that a gradient lives only as long as the caller keeps it
        yield slice(start, start + len(chunk)), handed.pop()
        start += len(chunk)


def _classes_at_a_time(tensors: Sequence[Tensor], budget: Budget) -> int:
    """Return how many classes' gradients of these tensors fit the budget."""
    per_class = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return max(1, budget.gradients // max(1, per_class))


def bias_contributions(forward: ForwardPass, gradients: Gradients) -> list[Tensor]:
    """Return FullGrad's contribution of each bias, ``(k, N, C, h, w)`` or ``(k, N, C)``."""
    biases = [bias for _, bias in forward.biases]
    return [bias * gradient for bias, gradient in zip(biases, gradients.biases, strict=True)]


def of_full_grad(forward: ForwardPass) -> Variables:
    """Return the tensors whose gradients FullGrad needs."""
    return Variables({}, {}, [output for output, _ in forward.biases], forward.inputs)


def _activation_maps(batch: Batch, method: Method) -> dict[str, Tensor]:
    """Compute maps that do not depend on the class, repeated for each class, ``(N, K, h, w)``."""
    classes = batch.targets.shape[1]
    return {
        point: method.compute(batch.values(point)).float().unsqueeze(1).repeat(1, classes, 1, 1)
        for point in batch.plan.points(method)
    }


def _head_maps(batch: Batch, method: Method, rows: Tensor) -> dict[str, Tensor]:
    """Compute maps from the classifier's own weights, ``(N, K, h, w)``."""
    found = {}
    for point in batch.plan.points(method):
        head, values = batch.plan.heads[point], batch.values(point)
        weight = rows.transpose(0, 1) @ head.weight  # (N, K, C)
        pooled = values.clamp(min=0) if head.rectified else values
        found[point] = method.compute(pooled, weight).float()
    return found


def _grad_cam_named(key: str) -> Method:
    """Return Grad-CAM without smoothing, under the key of a method that multiplies it."""
    return replace(METHODS["grad_cam"], key=key, supports_smoothing=False)


def _look_alikes_follow(batch: Batch) -> bool:
    return any(m.needs is LOOK_ALIKES and batch.plan.points_by_layer(m) for m in batch.plan.methods)


def _variables(batch: Batch, jobs: dict[str, list[Method]], to_image: bool) -> Variables:
    """Return the tensors that methods at hook points need gradients of."""
    forward = batch.forward
    pooled = [s for s, own in jobs.items() if any(m.needs is POOL_GRADIENT for m in own)]
    whole = of_full_grad(forward) if to_image else Variables({}, {}, [], None)
    return Variables(
        layers={point: forward.activations[point] for point in jobs},
        pools={point: forward.pools[point] for point in pooled if point in forward.pools},
        biases=whole.biases,
        image=whole.image,
    )


def _layer_map(batch: Batch, method: Method, activation: Tensor, gradient: Tensor) -> Tensor:
    """Return one raw map of a gradient method; with ``eigen`` smoothing, its first component."""
    if method.supports_smoothing and "eigen" in batch.plan.options.smooth:
        return first_component(contributions(method.compute, activation, gradient))
    return method.compute(activation, gradient)


def _image_map(batch: Batch, method: Method, gradients: Gradients) -> Tensor:
    """Return FullGrad's map ``(k, N, H, W)``."""
    assert gradients.image is not None
    spatial = [part for part in bias_contributions(batch.forward, gradients) if part.ndim == 5]
    return method.compute(batch.inputs, gradients.image, spatial)


def _few_images(batch: Batch, gradient: Tensor) -> Iterator[slice]:
    """Split the images of a gradient ``(k, N, C, h, w)`` into parts that fit the cache."""
    per_image = gradient[:, 0].numel() * gradient.element_size()
    step = max(1, batch.budget.cached // max(1, per_image))
    for start in range(0, gradient.shape[1], step):
        yield slice(start, start + step)


def _empty_image_maps(batch: Batch) -> Tensor:
    """Return uninitialised maps on the grid of the images, ``(N, K, H, W)``."""
    shape = (*batch.targets.shape, *batch.inputs.shape[-2:])
    return batch.inputs.new_empty(shape, dtype=torch.float32)


def _empty_vectors(batch: Batch, layers: Mapping[str, Layer]) -> dict[str, Tensor]:
    """Return uninitialised vectors of the layers' channels, ``(N, K, C)``, by hook point."""
    found = {}
    for layer in layers.values():
        activation = batch.forward.activations[layer.point]
        shape = (*batch.targets.shape, activation.shape[1])
        found[layer.point] = activation.new_empty(shape, dtype=torch.float32)
    return found


def _reached(gradient: Tensor | None, where: str) -> Tensor:
    """Return a gradient, or raise if autograd found none.

    Raises:
        LayerError: the gradient is None.
    """
    if gradient is not None:
        return gradient
    raise LayerError(
        f"layer: expected one that the logits’ gradients reach, but none reaches {where}: "
        "it does not lead to the logits, or the model’s forward cuts gradients off after it "
        "(torch.no_grad, torch.inference_mode or detach). Choose a later layer, take the cut out "
        f"of forward, or use what needs no gradient: {WITHOUT_GRADIENT}."
    )


def _failed(error: RuntimeError) -> ModelError:
    """Return the exception to raise when a backward pass fails."""
    reason = str(error).strip().partition("\n")[0]
    return ModelError(
        f"model: expected a backward pass that runs, got {type(error).__name__}: {reason} "
        f"Methods that need no gradient: {WITHOUT_GRADIENT}."
    )
