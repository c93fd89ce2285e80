"""Checks of a model that need passes, and the plan made from the first forward pass."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from camreport.engine.backward import bias_contributions, class_gradients, of_full_grad
from camreport.engine.batch import ClassBatching
from camreport.engine.forward import Capture, ForwardPass, biased_modules, forward_pass
from camreport.engine.memory import Limits, one_image_fits
from camreport.engine.perturbation import checked_tail, variants_of
from camreport.engine.plan import (
    CheckedTail,
    Draft,
    Plan,
    Skip,
    check_something_is_left,
    hook_points_of,
)
from camreport.engine.score import cotangents, strongest_classes
from camreport.messages import Message, message
from camreport.methods import Method
from camreport.methods.registry import ABLATED, INPUT_GRADIENT, KEPT
from camreport.network.address import Layer
from camreport.network.graph import find_tail
from camreport.network.logits import logits_of
from camreport.network.memory import is_out_of_memory
from camreport.network.positions import depends_on_company
from camreport.network.precision import full_precision
from camreport.network.reading import reading_notes, settled
from camreport.network.state import (
    forward_without_gradients,
    gradients_on,
    to_model,
)

COMPANY = message("engine.company")
"""Note on models whose results for one image depend on the other images of the batch."""

MAX_UNCOUNTED = 1e-3
"""Largest difference between the score and FullGrad's sum, as a fraction of their magnitudes."""

PROBED_CLASSES = 3
"""Number of the most probable classes of one image on which FullGrad's completeness is tested."""

_WITHOUT_CONTRIBUTION = (
    *(nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Identity),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Upsample),
    *(nn.Dropout, nn.Dropout2d, nn.Flatten, nn.Unflatten, nn.ZeroPad2d, nn.PixelShuffle),
)


def checked_draft(module: nn.Module, draft: Draft, image: Tensor, limits: Limits) -> Draft:
    """Return a draft after the checks that need a forward pass over one image.

    A pass is made only if the model or the methods need such a check.

    Args:
        module: the model, in evaluation mode.
        draft: the draft to check.
        image: ``(1, 3, H, W)``, preprocessed.
        limits: the memory limits.

    Raises:
        MethodError: none of the methods can be computed.
        MemoryLimitError: a single image does not fit into memory.
    """
    if _has_batch_statistics(module) and _mixes_images(module, image, draft.options.output):
        draft = replace(draft, notes=(COMPANY,))
    whole = [method for method in draft.computed if method.needs is INPUT_GRADIENT]
    if not whole:
        return draft
    with gradients_on():
        inputs = to_model(module, image)
        with one_image_fits(), full_precision(inputs.device):
            gap = full_grad_gap(module, inputs, draft, limits)
    if gap is None:
        return draft
    others = uncounted_kinds(module)
    return draft.without(Skip(m.key, None, _of_gap(m, *gap, others)) for m in whole)


def make_plan(module: nn.Module, draft: Draft, forward: ForwardPass, limits: Limits) -> Plan:
    """Make the plan of a computation from the first forward pass.

    Args:
        module: the model, in evaluation mode.
        draft: the checked draft.
        forward: a forward pass with the capture of the draft.
        limits: the limits on batch and chunk sizes.

    Raises:
        MethodError: none of the methods can be computed.
    """
    options, device = draft.options, forward.inputs.device
    output, logits = forward.output, forward.logits
    activation = settled(module, forward.inputs, output, logits, forward.activation)
    layers, channels = _in_order(forward, draft.layers), _in_order(forward, draft.channels)
    skipped = (*draft.skipped, *_large_grids(draft, forward))
    hook_points = hook_points_of(options.methods, layers, skipped)
    if options.methods:  # there may be only contributions left to compute
        check_something_is_left(hook_points, skipped)
    contributions = _last_distinct(forward, draft.contributing)
    tails, whole = _tails(module, draft, forward, hook_points, activation)
    return Plan(
        options=options,
        capture=replace(draft.capture, output=output, activation=activation),
        hook_points=hook_points,
        layers=layers,
        channels=channels,
        contributions=contributions,
        heads=draft.heads,
        stage_ids=draft.stage_ids,
        tails=tails,
        input_shape=tuple(forward.inputs.shape[1:]),
        shapes={
            name: tuple(forward.activations[layer.point].shape[1:])
            for name, layer in (layers | channels | contributions).items()
        },
        duplicates=_duplicates(forward, layers),
        skipped=skipped,
        num_classes=logits.shape[1],
        bytes_per_image=forward.bytes_per_image,
        variants_per_image=_variants_per_image(options.methods, hook_points, forward),
        batch_size=limits.images_of(device, forward.bytes_per_image),
        notes=(
            *reading_notes(activation, output, options.output),
            *draft.notes,
            *(message("engine.whole_model", layer=point) for point in whole),
        ),
    )


def _variants_per_image(
    methods: Sequence[Method], hook_points: Mapping[str, Mapping[str, str]], forward: ForwardPass
) -> int:
    """Return the number of variants of one image that perturbation methods run."""
    return sum(
        variants_of(method, forward.activations.get(point, forward.inputs)[:1])
        for method in methods
        if method.needs.perturbs
        for point in dict.fromkeys(hook_points[method.key].values())
    )


def full_grad_gap(
    module: nn.Module, image: Tensor, draft: Draft, limits: Limits
) -> tuple[float, float] | None:
    """Return the logit that FullGrad explains least completely, and the sum of its contributions.

    The result is None if logit and sum agree for every probed class, up to rounding.

    The contributions of the image and of all biases add up to the logit if the network is
    piecewise linear and every bias is counted (Srinivas and Fleuret 2019, proposition 1). The
    test on one image shows whether that holds, whatever modules the model contains.

    Args:
        module: the model, in evaluation mode.
        image: ``(1, 3, H, W)``, preprocessed, on the device of the module.
        draft: its options say how the logits are read.
        limits: the memory limits.
    """
    options = draft.options
    alone = Capture((), {}, True, options.output, options.activation)
    forward = forward_pass(module, image, alone)
    logits = forward.logits.detach()[0]
    top = strongest_classes(forward.logits.detach(), PROBED_CLASSES)  # (1, K)
    rows = cotangents(forward.logits, top, "logit")
    budget, gaps = limits.budget(image.device), []
    by_class = class_gradients(forward.logits, of_full_grad(forward), rows, ClassBatching(), budget)
    for part, gradients in by_class:
        assert gradients.image is not None
        parts = [image * gradients.image, *bias_contributions(forward, gradients)]
        sums = torch.stack([one.double().flatten(1).sum(1) for one in parts])  # (parts, k)
        for score, own in zip(logits[top[0, part]], sums.T, strict=True):
            allowed = MAX_UNCOUNTED * float(score.abs() + own.abs().sum())
            gaps.append((float(score), float(own.sum()), allowed))
    score, total, allowed = max(gaps, key=lambda gap: abs(gap[0] - gap[1]) / (gap[2] or 1))
    return None if abs(score - total) <= allowed else (score, total)


def uncounted_kinds(module: nn.Module) -> str | Message:
    """Return up to three types of innermost modules whose contribution FullGrad does not count."""
    counted = set(biased_modules(module))
    names = [
        type(part).__name__
        for name, part in module.named_modules()
        if not (name in counted or isinstance(part, _WITHOUT_CONTRIBUTION) or any(part.children()))
    ]
    return ", ".join(list(dict.fromkeys(names))[:3]) or message("engine.some_function")


def _of_gap(method: Method, score: float, total: float, others: str | Message) -> Message:
    """Return the reason for which FullGrad is skipped."""
    numbers = {"total": f"{total:.3g}", "score": f"{score:.3g}"}
    return message("engine.skip.shares", method=method.name, others=others, **numbers)


def _has_batch_statistics(module: nn.Module) -> bool:
    """Return whether a layer normalises with batch statistics even in evaluation mode."""
    kind = nn.modules.batchnorm._BatchNorm
    return any(isinstance(part, kind) and part.running_mean is None for part in module.modules())


def _mixes_images(module: nn.Module, image: Tensor, output: str | None) -> bool:
    """Return whether the logits of an image depend on another image in the same batch.

    A model that fails on two images counts as independent here; the first batch reports the error.
    """
    inputs = to_model(module, torch.cat([image, 1 - image]))
    forward = forward_without_gradients(module)
    with full_precision(inputs.device):
        try:
            together = logits_of(forward(inputs), len(inputs), output)
            alone = logits_of(forward(inputs[:1]), 1, output)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return False
    return depends_on_company(together, alone)


def _in_order(forward: ForwardPass, layers: Mapping[str, Layer]) -> dict[str, Layer]:
    """Return layers in network order, with the layout of their grids added to the description."""
    order = sorted(layers, key=lambda name: forward.order.index(layers[name].point))
    return {
        name: replace(
            layers[name], tensor=forward.grids[layers[name].point].described(layers[name].tensor)
        )
        for name in order
    }


def _last_distinct(forward: ForwardPass, layers: Mapping[str, Layer]) -> dict[str, Layer]:
    """Return the last layer in the network whose tensor equals no earlier layer's; by its name."""
    ordered = _in_order(forward, layers)
    duplicates = _duplicates(forward, ordered)
    return dict([(name, own) for name, own in ordered.items() if name not in duplicates][-1:])


def _large_grids(draft: Draft, forward: ForwardPass) -> list[Skip]:
    """Return the skips of methods at layers with more positions than the method allows."""
    found = []
    for method in draft.options.methods:
        for name, point in draft.hook_points[method.key].items():
            positions = forward.activations[point][0, 0].numel() if method.max_positions else 0
            if method.max_positions and positions > method.max_positions:
                words = {"method": method.name, "positions": f"{positions:,}", "layer": name}
                found.append(Skip(method.key, name, message("engine.skip.positions", **words)))
    return found


def _tails(
    module: nn.Module,
    draft: Draft,
    forward: ForwardPass,
    hook_points: Mapping[str, Mapping[str, str]],
    activation: str,
) -> tuple[dict[str, CheckedTail], list[str]]:
    """Return the tails that give the model's logits, and the hook points without one."""
    changed = [m for m in draft.options.methods if m.needs in (ABLATED, KEPT)]
    points = dict.fromkeys(s for method in changed for s in hook_points[method.key].values())
    found: dict[str, CheckedTail] = {}
    for point in points:
        if draft.followed is None or not forward.grids[point].plain:
            continue
        tail = find_tail(draft.followed, point, forward.output, activation)
        checked = tail and checked_tail(module, tail, forward, point, draft.options.precision)
        if checked:
            found[point] = checked
    return found, [point for point in points if point not in found]


def _duplicates(forward: ForwardPass, layers: Mapping[str, Layer]) -> dict[str, str]:
    """Return, for each layer whose tensor equals an earlier layer's, that earlier layer."""
    duplicates: dict[str, str] = {}
    for name, layer in layers.items():
        own = forward.activations[layer.point]
        for earlier in layers:
            if earlier == name:
                break
            other = forward.activations[layers[earlier].point]
            if earlier not in duplicates and own.shape == other.shape and torch.equal(own, other):
                duplicates[name] = earlier
                break
    return duplicates
