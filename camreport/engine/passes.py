"""The passes of one batch and the maps that come from them.

    images (N, 3, H, W) ─ forward ─▶ logits (N, num_classes), activations (N, C, h, w)
    class k ─ backward ─▶ gradients at all layers ─ every method ─▶ cams (N, h, w), then freed

Backward passes of several classes are batched while their gradients fit a byte budget and
looped beyond it: batching reads the classifier's weights once (up to a third faster for few
images), looping keeps the memory traffic small (up to a quarter faster for many).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torchvision.ops import FrozenBatchNorm2d

from camreport.engine.cost import Cost
from camreport.engine.plan import Task
from camreport.engine.score import cotangents, look_alike_cotangents, strongest_classes
from camreport.errors import LayerError, ModelError
from camreport.methods import Method
from camreport.methods.activation import first_component
from camreport.methods.gradient import contributions, grad_cam
from camreport.methods.registry import (
    ACTIVATION,
    GRADIENT,
    GUIDED,
    HEAD,
    INPUT_GRADIENT,
    LOOK_ALIKES,
    NOISE,
    POOL_GRADIENT,
)
from camreport.network.grid import Grid
from camreport.network.logits import logits_of, recognise, resolved_key
from camreport.network.memory import budget_of, is_out_of_memory, output_bytes
from camreport.network.state import wants_graph
from camreport.network.trace import LayerTrace, NotSpatialError
from camreport.settings import AUTO

Maps = dict[str, dict[str, Tensor]]
"""Raw maps ``(N, K, ...)`` float32, by method and by what they were read from."""

CHANNEL_WEIGHTS = "channel_weights"
"""The key of Grad-CAM's weights, ``(N, K, C)``, beside the maps; where channels are kept."""

INPUT = "input"
"""The layer name of maps that belong to no layer."""

SAMPLES = 4
"""Noisy copies of each image that are averaged."""

NOISE_LEVEL = 0.3
"""Standard deviation of the noise, in units of the preprocessed image."""

AUGMENTATIONS = tuple((flipped, factor) for flipped in (False, True) for factor in (0.9, 1.0, 1.1))
"""The copies that ``aug`` averages: mirrored or not, and scaled in brightness."""

MAX_UNCOUNTED = 1e-3
"""Share of what FullGrad adds up that may be missing from the score: rounding, at most."""

PROBED_CLASSES = 3
"""The most probable classes of one image on which FullGrad's shares are added up."""

LOOPED = (
    "The model’s backward pass cannot take several classes at once (an autograd.Function of its "
    "own, perhaps), so it runs once per class: slower, and the same maps."
)
"""What the user is told where the backward passes are looped."""

_SHARED = (GRADIENT, ACTIVATION, HEAD, POOL_GRADIENT, INPUT_GRADIENT)
_NORMALISING = tuple(
    kind.forward
    for kind in (nn.BatchNorm2d, nn.SyncBatchNorm, nn.InstanceNorm2d, FrozenBatchNorm2d)
)
_WITHOUT_SHARE = (
    *(nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Identity),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Upsample),
    *(nn.Dropout, nn.Dropout2d, nn.Flatten, nn.Unflatten, nn.ZeroPad2d, nn.PixelShuffle),
)
_RELUS = {
    torch.relu,
    torch.relu_,
    functional.relu,
    functional.relu_,
    Tensor.relu,
    Tensor.relu_,
}


@dataclass(frozen=True)
class Place:
    """Where a gradient is taken.

    Attributes:
        kind: at a layer, behind the pooling that follows one, at a module with a bias, or at
            the image.
        name: what the layer reads, or the number of the bias.
    """

    kind: Literal["layer", "pool", "bias", "image"]
    name: str = ""

    def __str__(self) -> str:
        """Say where that is, for a message."""
        if self.kind == "image":
            return "the image"
        return f"the pooling behind {self.name!r}" if self.kind == "pool" else repr(self.name)


@dataclass(frozen=True)
class Captured:
    """What one forward pass leaves for the backward passes.

    Attributes:
        inputs: the images, ``(N, 3, H, W)``; in the graph if a method needs their gradient.
        logits: ``(N, num_classes)``.
        output: the part of what the model returned that holds them, if it was a structure.
        activation: how they become probabilities; ``auto`` where another pass has to tell.
        activations: ``(N, C, h, w)`` by hook point.
        grids: layout of each activation: channels first, channels last or tokens.
        pools: the tensors behind the pooling that follows a layer, by what that layer reads.
        biases: outputs of the modules with a bias and that bias, ``(C, 1, 1)``, or ``(C,)`` where
            there is no grid any more; for FullGrad.
        order: what was read, in the order in which the modules finished.
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


def captured_pass(
    module: nn.Module, inputs: Tensor, task: Task, limit: float = float("inf")
) -> Captured:
    """Run the forward pass and keep what the task needs of it; the hooks are gone afterwards.

    Raises:
        BatchTooLarge: the model's modules returned more than ``limit`` bytes.
        LayerError: a layer did not run, or returned something else than one tensor.
        NotSpatialError: its output has no spatial grid.
        ModelError: the model did not return logits.
    """
    to_input = any(method.needs is INPUT_GRADIENT for method in task.methods)
    try:
        return _captured_pass(module, inputs, task, limit, to_input)
    except RuntimeError as error:
        if to_input or not wants_graph(error):
            raise
    return _captured_pass(module, inputs, task, limit, to_input=True)


def _captured_pass(
    module: nn.Module, inputs: Tensor, task: Task, limit: float, to_input: bool
) -> Captured:
    """Run the forward pass, with the graph from the images on if ``to_input``."""
    modules = dict(module.named_modules(remove_duplicate=False))
    biased = _biased_modules(module) if to_input else {}
    names = [layer.module for layer in task.read_layers]
    reads = dict.fromkeys(layer.reads for layer in task.read_layers)
    wanted = (*names, *task.pools.values(), *biased)
    image = (inputs.shape[-2], inputs.shape[-1])
    with LayerTrace({name: modules[name] for name in wanted}, image) as trace:
        inputs = inputs.detach().requires_grad_(to_input)
        with output_bytes(module, limit) as returned:
            output = module(inputs.clone())  # a model may write to its input
        key = resolved_key(output, len(inputs), task.output)
        activation = task.activation
        if activation == AUTO:
            activation = recognise(output, len(inputs), key)
        activations = {name: trace[name] for name in reads}
        for name, captured in activations.items():
            if len(captured) != len(inputs):
                raise NotSpatialError(
                    name.partition("#")[0],
                    f"{tuple(captured.shape)} for {len(inputs)} images: its first axis is not "
                    "the images, but windows, heads or a table",
                )
        return Captured(
            inputs=inputs,
            logits=logits_of(output, len(inputs), key, activation),
            output=key,
            activation=activation,
            activations=activations,
            grids={name: trace.grid(name) for name in reads},
            pools={name: trace[pool] for name, pool in task.pools.items()},
            biases=[
                (output, bias)
                for name, bias in biased.items()
                for output in trace.calls(name)
                if output.ndim == (4 if bias.ndim == 3 else 2)
            ],
            order=sorted(reads, key=trace.position),
            bytes_per_image=returned["bytes"] // len(inputs),
        )


def shared_maps(
    captured: Captured, targets: Tensor, task: Task, clean: Tensor
) -> tuple[Maps, Cost]:
    """Compute every map that comes from one forward and one backward pass per class.

    Args:
        captured: of the forward pass.
        targets: ``(N, K)``.
        task: what to compute; methods of other needs are left alone, but for Grad-CAM's part
            of Guided Grad-CAM.
        clean: logits of the images as they are: they name the strongest other class.

    Returns:
        The maps, with the weights of the task's channels under ``CHANNEL_WEIGHTS``, and the cost.
    """
    methods = [m for m in task.methods if m.needs in _SHARED or _is_guided_grad_cam(m)]
    maps: Maps = {method.key: {} for method in methods}
    logits = captured.logits
    rows = cotangents(logits, targets, task.quantity, clean, task.activation)  # (K, N, classes)
    for method in methods:
        for reads in dict.fromkeys(task.wanted(method).values()):
            activation = captured.activations[reads].detach()
            if method.needs is ACTIVATION:
                cam = method.compute(activation).float()
                maps[method.key][reads] = cam.unsqueeze(1).repeat(1, targets.shape[1], 1, 1)
            elif method.needs is HEAD:
                head = task.heads[reads]
                pooled = activation.clamp(min=0) if head.rectified else activation
                weight = rows.transpose(0, 1) @ head.weight  # (N, K, C)
                maps[method.key][reads] = method.compute(pooled, weight).float()
    with_gradient = [m for m in methods if m.needs not in (ACTIVATION, HEAD)]
    if task.channels:
        maps[CHANNEL_WEIGHTS] = _empty_weights(captured, task, len(rows))
    differentiates = bool(with_gradient or task.channels)
    if differentiates:
        _fill_from_gradients(maps, captured, rows, task, with_gradient)
    return maps, Cost(forwards=1, backwards=len(rows) if differentiates else 0)


def look_alike_maps(
    captured: Captured, targets: Tensor, task: Task, clean: Tensor
) -> tuple[Maps, Cost]:
    """Compute the maps whose gradient is that of a class minus its look-alikes."""
    methods = [method for method in task.methods if method.needs is LOOK_ALIKES]
    maps: Maps = {method.key: {} for method in methods}
    if methods:
        _fill_from_gradients(maps, captured, look_alike_cotangents(clean, targets), task, methods)
    return maps, Cost(backwards=targets.shape[1] if methods else 0)


def averaged_maps(
    module: nn.Module, inputs: Tensor, targets: Tensor, task: Task, clean: Tensor
) -> tuple[Maps, Cost]:
    """Compute the methods that smooth, averaged over changed copies of the images."""
    totals: Maps = {}
    cost = Cost()
    copies = list(_copies(inputs, task))
    for copy, mirrored in copies:
        captured = captured_pass(module, copy, task)
        maps, own = shared_maps(captured, targets, task, clean)
        further, extra = look_alike_maps(captured, targets, task, clean)
        cost += own + extra
        for key, by_read in (maps | further).items():
            for reads, cams in by_read.items():
                share = (cams.flip(-1) if mirrored else cams) / len(copies)
                sums = totals.setdefault(key, {})
                sums[reads] = sums[reads].add_(share) if reads in sums else share
    return totals, cost


def _copies(inputs: Tensor, task: Task) -> Iterator[tuple[Tensor, bool]]:
    """Yield the copies of the images that smoothing averages, and whether each is mirrored."""
    noises = noise_like(inputs, task.seed) if "noise" in task.smooth else [torch.zeros(())]
    augmentations = AUGMENTATIONS if "aug" in task.smooth else ((False, 1.0),)
    for noise in noises:
        for flipped, factor in augmentations:
            copy = (inputs + noise.to(inputs)) * factor
            yield (copy.flip(-1) if flipped else copy), flipped


def noise_like(inputs: Tensor, seed: int) -> list[Tensor]:
    """Return the samples' noise, ``(3, H, W)`` each: the same for every image and batch."""
    generator = torch.Generator().manual_seed(seed)
    shape = inputs.shape[1:]
    return [torch.randn(shape, generator=generator) * NOISE_LEVEL for _ in range(SAMPLES)]


def noise_maps(
    module: nn.Module, inputs: Tensor, captured: Captured, targets: Tensor, task: Task
) -> tuple[Maps, Cost]:
    """Compute the maps made of derivatives averaged over noisy copies of the images.

    Their moments are accumulated for as many images at a time as the memory budget allows.
    """
    methods = [method for method in task.methods if method.needs is NOISE]
    maps = {m.key: _empty_maps(m, captured, task, targets.shape[1]) for m in methods}
    tensors = {layer.reads: captured.activations[layer.reads] for layer in task.layers.values()}
    values = sum(tensor[0].numel() for tensor in tensors.values())
    per_image = values * targets.shape[1] * 12
    step = max(1, budget_of(inputs.device).activations // max(1, per_image))
    for start in range(0, len(inputs), step):
        part = slice(start, start + step)
        moments: dict[str, list[Tensor]] = {}  # G, G^2 and G^3, (K, n, C, h, w) each
        for noise in noise_like(inputs, task.seed):
            noisy = captured_pass(module, inputs[part] + noise.to(inputs), task)
            clean = captured.logits[part]
            rows = cotangents(noisy.logits, targets[part], task.quantity, clean, task.activation)
            at = {Place("layer", name): value for name, value in noisy.activations.items()}
            for k, gradients in class_gradients(noisy.logits, at, rows, task):
                for place, gradient in gradients.items():
                    sums = moments.setdefault(
                        place.name,
                        [gradient.new_zeros(len(rows), *gradient.shape[1:]) for _ in range(3)],
                    )
                    square = gradient.square()
                    sums[0][k].add_(gradient, alpha=1 / SAMPLES)
                    sums[1][k].add_(square, alpha=1 / SAMPLES)
                    sums[2][k].addcmul_(square, gradient, value=1 / SAMPLES)
        for method in methods:
            for reads, cams in maps[method.key].items():
                activation = captured.activations[reads].detach()[part]
                for rank in range(targets.shape[1]):
                    derivatives = [total[rank] for total in moments[reads]]
                    cams[part, rank] = method.compute(activation, *derivatives).float()
    passes = SAMPLES * len(range(0, len(inputs), step))
    return maps, Cost(forwards=passes, backwards=passes * targets.shape[1])


def guided_maps(
    module: nn.Module, inputs: Tensor, targets: Tensor, task: Task, shared: Maps
) -> tuple[Maps, Cost]:
    """Compute guided backpropagation, and its product with Grad-CAM, ``(N, K, 3, H, W)``.

    The rule is applied to every ReLU, module or function, while the forward pass runs; the
    model's modules are not touched.

    Args:
        module: with ReLU as its only activation.
        inputs: ``(N, 3, H, W)``.
        targets: ``(N, K)``.
        task: what to compute.
        shared: holds raw Grad-CAM under the key of Guided Grad-CAM.
    """
    leaf = inputs.detach().clone().requires_grad_()
    with _GuidedReLU():
        logits = logits_of(module(leaf.clone()), len(leaf), task.output, task.activation)
    rows = cotangents(logits, targets, task.quantity, activation=task.activation)
    image = Place("image")
    parts = [part[image] for _, part in class_gradients(logits, {image: leaf}, rows, task)]
    gradient = torch.cat(parts).transpose(0, 1).float()  # (N, K, 3, H, W)
    maps: Maps = {}
    for method in task.methods:
        if _is_guided_grad_cam(method):
            cams = shared[method.key]
            maps[method.key] = {k: method.compute(gradient, cam) for k, cam in cams.items()}
        elif method.needs is GUIDED:
            maps[method.key] = {INPUT: method.compute(gradient)}
    return maps, Cost(forwards=1, backwards=len(rows))


def class_gradients(
    logits: Tensor, tensors: Mapping[Place, Tensor], rows: Tensor, task: Task
) -> Iterator[tuple[slice, dict[Place, Tensor]]]:
    """Yield d score / d tensor, ``(k, N, ...)``, for as many classes at a time as fit.

    Args:
        logits: ``(N, num_classes)``.
        tensors: what to differentiate to.
        rows: cotangents, ``(K, N, num_classes)``.
        task: learns whether the classes can be batched.

    Raises:
        LayerError: no gradient of the logits reaches one of the tensors.
        ModelError: the backward pass fails.
    """
    per_class = sum(t.numel() * t.element_size() for t in tensors.values())
    step = max(1, budget_of(logits.device).gradients // max(1, per_class))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        yield part, _gradients(logits, tensors, rows[part], task)


class _GuidedReLU(TorchFunctionMode):
    """Lets only positive gradients through every ReLU that runs inside the block."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        output = func(*args, **(kwargs or {}))
        if func in _RELUS and isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(_positive)  # type: ignore[no-untyped-call]
        return output


def _positive(gradient: Tensor) -> Tensor:
    return gradient.clamp(min=0)


def _fill_from_gradients(
    maps: Maps, captured: Captured, rows: Tensor, task: Task, methods: Sequence[Method]
) -> None:
    """Compute the maps of gradient methods, a few images at a time, and the channels' weights.

    Their activations and gradients at one layer stay in the cache while all methods read them;
    whole batches would go through memory once per method, and single images would make cores
    exchange what each of them has computed.
    """
    jobs: dict[str, list[Method]] = {}
    for method in methods:
        if method.per_layer:
            maps[method.key] = _empty_maps(method, captured, task, len(rows))
            for reads in maps[method.key]:
                jobs.setdefault(reads, []).append(method)
    weights = maps.get(CHANNEL_WEIGHTS, {})
    for reads in weights:
        jobs.setdefault(reads, [])
    whole = [method for method in methods if method.needs is INPUT_GRADIENT]
    for method in whole:
        maps[method.key][INPUT] = captured.inputs.new_empty(
            len(captured.inputs), len(rows), *captured.inputs.shape[-2:], dtype=torch.float32
        )
    tensors = {Place("layer", reads): captured.activations[reads] for reads in jobs}
    tensors |= {
        Place("pool", reads): captured.pools.get(reads, captured.activations[reads])
        for reads in jobs
        if any(method.needs is POOL_GRADIENT for method in jobs[reads])
    }
    tensors |= _of_full_grad(captured) if whole else {}
    for part, gradients in class_gradients(captured.logits, tensors, rows, task):
        for method in whole:
            of_biases = _full_grad_shares(captured, gradients)[1:]
            spatial = [share for share in of_biases if share.ndim == 5]
            image, gradient = captured.inputs.detach(), gradients[Place("image")]
            saliency = method.compute(image, gradient, spatial)
            maps[method.key][INPUT][:, part] = saliency.transpose(0, 1).float()
        for reads, wanted in jobs.items():
            gradient = gradients.pop(Place("layer", reads))  # (k, N, C, h, w), freed in turn
            if reads in weights:
                weights[reads][:, part] = gradient.mean((-2, -1)).transpose(0, 1)
            behind = gradients.get(Place("pool", reads), gradient)
            activation = captured.activations[reads].detach().expand_as(gradient)
            for few in _few_images(gradient):
                for method in wanted:
                    source = behind if method.needs is POOL_GRADIENT else gradient
                    cams = _compute(method, activation[:, few], source[:, few], task)
                    maps[method.key][reads][few, part] = cams.transpose(0, 1)


def _few_images(gradient: Tensor) -> Iterator[slice]:
    """Cut the images of a gradient ``(k, N, C, h, w)`` into parts that a cache holds."""
    per_image = gradient[:, 0].numel() * gradient.element_size()
    step = max(1, budget_of(gradient.device).cached // max(1, per_image))
    for start in range(0, gradient.shape[1], step):
        yield slice(start, start + step)


def _compute(method: Method, activation: Tensor, gradient: Tensor, task: Task) -> Tensor:
    """Return one raw map of a gradient method, smoothed by its first component if asked."""
    if _is_guided_grad_cam(method):
        return grad_cam(activation, gradient)
    if method.smooths and "eigen" in task.smooth:
        return first_component(contributions(method.compute, activation, gradient))
    return method.compute(activation, gradient)


def _empty_maps(method: Method, captured: Captured, task: Task, classes: int) -> dict[str, Tensor]:
    """Return room for a method's maps, ``(N, K, h, w)``; per channel ``(N, K, C, h, w)``."""
    found = {}
    for reads in dict.fromkeys(task.wanted(method).values()):
        activation = captured.activations[reads]
        count, channels, *grid = activation.shape
        shape = [channels, *grid] if method.per_channel else grid
        found[reads] = activation.new_empty(count, classes, *shape, dtype=torch.float32)
    return found


def _empty_weights(captured: Captured, task: Task, classes: int) -> dict[str, Tensor]:
    """Return room for the weights of the task's channels, ``(N, K, C)``, by what is read."""
    found = {}
    for layer in task.channels.values():
        activation = captured.activations[layer.reads]
        count, channels = activation.shape[:2]
        found[layer.reads] = activation.new_empty(count, classes, channels, dtype=torch.float32)
    return found


def full_grad_gap(module: nn.Module, image: Tensor, task: Task) -> tuple[float, float] | None:
    """Return a logit and what FullGrad's shares of it add up to, where these differ most.

    None where they do not differ, up to rounding.

    The shares of the image and of all biases are the whole of a logit if everything between
    them is piecewise linear and every bias is counted (Srinivas and Fleuret 2019, proposition
    1). One image shows whether that holds, whatever the model is made of.

    Args:
        module: in evaluation mode.
        image: ``(1, 3, H, W)``, preprocessed, on the device of the module.
        task: has FullGrad among its methods.
    """
    whole = [method for method in task.methods if method.needs is INPUT_GRADIENT]
    alone = replace(task, methods=whole, layers={}, channels={}, pools={})
    captured = captured_pass(module, image, alone)
    top = strongest_classes(captured.logits.detach(), PROBED_CLASSES)  # (1, K)
    rows = cotangents(captured.logits, top, "logit")
    gaps = []
    for part, gradients in class_gradients(captured.logits, _of_full_grad(captured), rows, alone):
        shares = _full_grad_shares(captured, gradients)
        sums = torch.stack([share.double().flatten(1).sum(1) for share in shares])  # (parts, k)
        for score, own in zip(captured.logits.detach()[0, top[0, part]], sums.T, strict=True):
            allowed = MAX_UNCOUNTED * float(score.abs() + own.abs().sum())
            gaps.append((float(score), float(own.sum()), allowed))
    score, total, allowed = max(gaps, key=lambda gap: abs(gap[0] - gap[1]) / (gap[2] or 1))
    return None if abs(score - total) <= allowed else (score, total)


def uncounted_kinds(module: nn.Module) -> str:
    """Name the kinds of innermost modules, three at most, whose share FullGrad does not know."""
    counted = set(_biased_modules(module))
    names = [
        type(part).__name__
        for name, part in module.named_modules()
        if not (name in counted or isinstance(part, _WITHOUT_SHARE) or any(part.children()))
    ]
    return ", ".join(list(dict.fromkeys(names))[:3]) or "some function in the model’s code"


def _of_full_grad(captured: Captured) -> dict[Place, Tensor]:
    """Return the tensors whose gradients FullGrad is made of."""
    outputs = {Place("bias", str(i)): output for i, (output, _) in enumerate(captured.biases)}
    return {Place("image"): captured.inputs} | outputs


def _full_grad_shares(captured: Captured, gradients: Mapping[Place, Tensor]) -> list[Tensor]:
    """Return the shares of the image, ``(k, N, 3, H, W)``, and of each bias, in this order."""
    biases = [b * gradients[Place("bias", str(i))] for i, (_, b) in enumerate(captured.biases)]
    return [captured.inputs.detach() * gradients[Place("image")], *biases]


def _gradients(
    logits: Tensor, tensors: Mapping[Place, Tensor], cotangent: Tensor, task: Task
) -> dict[Place, Tensor]:
    """Return d score / d tensor, ``(k, N, ...)``, for k classes in one pass if that can be."""
    if not logits.requires_grad:
        raise _unreached(next(iter(tensors)))
    gradients = _of_all_classes(logits, list(tensors.values()), cotangent, task)
    found = {}
    for (place, tensor), gradient in zip(tensors.items(), gradients, strict=True):
        if gradient is None and place.kind != "bias":
            raise _unreached(place)
        if gradient is None:  # a biased module beside the way to the logits has no share
            gradient = tensor.new_zeros(len(cotangent), *tensor.shape)
        found[place] = gradient
    return found


def _of_all_classes(
    logits: Tensor, tensors: Sequence[Tensor], cotangent: Tensor, task: Task
) -> Sequence[Tensor | None]:
    """Return the gradients ``(k, N, ...)`` of each tensor; None where none reaches it.

    Batching vectorises the backward pass, which not every autograd.Function can take, nor the
    detection of anomalies. Where it fails, the classes take their turns.
    """
    if len(cotangent) > 1 and LOOPED not in task.findings and not torch.is_anomaly_enabled():
        try:
            return _differentiate(logits, tensors, cotangent, batched=True)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            task.findings[LOOPED] = None
    try:
        parts = [_differentiate(logits, tensors, row, batched=False) for row in cotangent]
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"model: expected a backward pass that runs, got {type(error).__name__}: {reason} "
            "Methods that need no gradient: eigen_cam, score_cam, ablation_cam, recipro_cam."
        ) from error
    if len(parts) == 1:
        return [None if gradient is None else gradient[None] for gradient in parts[0]]
    return [None if of[0] is None else torch.stack(of) for of in zip(*parts, strict=True)]


def _differentiate(
    logits: Tensor, tensors: Sequence[Tensor], cotangent: Tensor, batched: bool
) -> Sequence[Tensor | None]:
    return torch.autograd.grad(
        logits,
        tensors,
        cotangent,
        retain_graph=True,
        allow_unused=True,
        is_grads_batched=batched,
    )


def _unreached(place: Place) -> LayerError:
    """Return the error of a layer without gradients."""
    return LayerError(
        f"layer: expected one that the logits’ gradients reach, but none reaches {place}: "
        "it does not lead to the logits, or the model’s forward cuts gradients off behind it "
        "(torch.no_grad, torch.inference_mode or detach). Choose a later layer, take the cut out "
        "of forward, or use what needs no gradient: eigen_cam, score_cam, ablation_cam, "
        "recipro_cam."
    )


def _biased_modules(module: nn.Module) -> dict[str, Tensor]:
    """Return what modules add as a bias, by name: ``(C, 1, 1)``, or ``(C,)`` behind the grid.

    A subclass with a forward of its own may do more behind the bias (timm's BatchNormAct2d
    rectifies) and is not counted: ``full_grad_gap`` sees what is missing.
    """
    found = {}
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d) and part.bias is not None:
            found[name] = part.bias.detach()[:, None, None]
        elif isinstance(part, nn.Linear) and part.bias is not None:
            found[name] = part.bias.detach()
        elif type(part).forward in _NORMALISING and part.running_var is not None:
            scale = (part.running_var + part.eps).rsqrt()
            scale = scale if part.weight is None else scale * part.weight
            bias = -part.running_mean * scale
            bias = (bias if part.bias is None else bias + part.bias).detach()
            found[name] = bias if isinstance(part, nn.BatchNorm1d) else bias[:, None, None]
    return found


def _is_guided_grad_cam(method: Method) -> bool:
    return method.needs is GUIDED and method.per_layer
