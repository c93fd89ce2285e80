"""Further forward passes: masked images, switched-off channels, single positions.

The variants of all images of a batch are streamed in chunks of a fixed byte budget: the masks are
never all in memory at once. One pass of a variant serves every class.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from camreport.engine.cost import Cost
from camreport.engine.passes import Captured, Maps
from camreport.engine.plan import Skip, Task
from camreport.engine.score import scores
from camreport.methods import Method
from camreport.methods.registry import ABLATED, KEPT, MASKED
from camreport.network.graph import Entry, Tail, whole_model
from camreport.network.logits import logits_of
from camreport.network.memory import budget_of, is_out_of_memory, output_bytes
from camreport.network.state import forward_without_gradients

TAIL_VARIANTS = 8
"""Tail passes use chunks this many times larger than an image batch, to reuse the weights."""

MIN_IMAGES_FOR_SORTED_WEIGHTS = 4
"""Smallest batch for which reordering a linear layer's weights by position pays off."""

WHOLE_MODEL = (
    "What follows {layer} cannot be run by itself, so Ablation-CAM and Recipro-CAM run the whole "
    "model for every variant there: slower, and the same maps."
)
"""What the user is told where a layer has no tail that gives the model's logits."""

Result = TypeVar("Result")

Progress = Callable[[float], None]
"""Told which share of a batch's further passes is done, 0..1."""


@dataclass
class Meter:
    """Counts variants and passes over them, and tells how far they are.

    Attributes:
        total: variants to come.
        progress: called with the fraction that is done.
        done: variants that are.
        passes: forward passes over chunks of them.
    """

    total: int
    progress: Progress
    done: int = field(default=0, init=False)
    passes: int = field(default=0, init=False)

    def add(self, variants: int) -> None:
        """Count one pass over so many variants."""
        self.done += variants
        self.passes += 1
        self.progress(min(1.0, self.done / max(1, self.total)))


def count_variants(task: Task, activations: Mapping[str, Tensor]) -> int:
    """Return how many variants a task's methods ask for, all images together."""
    return sum(_variants(method, activations[reads]) for method, reads in _jobs(task))


def large_grids(task: Task, activations: Mapping[str, Tensor]) -> list[Skip]:
    """Return what ``all`` leaves out because a layer has too many positions."""
    return [
        Skip(
            method.key,
            name,
            f"{method.name} takes a pass for each of the {positions:,} positions of {name}: "
            f"not part of 'all', but computed when asked for by name.",
        )
        for method in task.methods
        if method.largest_grid is not None
        for name, reads in task.wanted(method).items()
        if (positions := activations[reads][0, 0].numel()) > method.largest_grid
    ]


def perturbation_maps(
    module: nn.Module, captured: Captured, targets: Tensor, task: Task, meter: Meter
) -> tuple[Maps, Cost]:
    """Compute the maps of every method that needs further forward passes.

    Args:
        module: in evaluation mode.
        captured: of the images as they are.
        targets: ``(N, K)``.
        task: what to compute; methods of other needs are left alone.
        meter: counts on.
    """
    inputs, logits = captured.inputs.detach(), captured.logits.detach()
    chunk = _chunk(captured.bytes_per_image, inputs)
    maps: Maps = {}
    before = meter.passes, meter.done

    forward = forward_without_gradients(module)

    def model(images: Tensor) -> Tensor:
        return logits_of(forward(images), len(images), task.output, task.activation)

    with torch.no_grad():
        for method, reads in _jobs(task):
            activation = captured.activations[reads].detach()
            if method.needs is MASKED:
                assert method.masks is not None
                assert method.weighs_by is not None
                read = _Reading(logits, targets, method.weighs_by, task.activation)
                masked = _masked_scores(model, inputs, activation, method.masks, read, chunk, meter)
                cams = method.compute(activation, masked)
            else:
                tail = _BoundTail.bind(module, captured, task, reads)
                read = _Reading(logits, targets, task.quantity, task.activation)
                run = _ablated_scores if method.needs is ABLATED else _kept_scores
                changed = run(tail, activation, read, meter)
                plain = read.scores(logits[:, None], slice(None))[:, 0]
                unchanged = (plain,) if method.needs is ABLATED else ()
                cams = method.compute(activation, *unchanged, changed)
            maps.setdefault(method.key, {})[reads] = cams.float()
    return maps, Cost(forwards=meter.passes - before[0], variants=meter.done - before[1])


@dataclass(frozen=True)
class _Reading:
    """What is read of the logits of changed passes: the targets' scores and nothing else.

    Attributes:
        logits: of the images as they are, ``(N, num_classes)``.
        targets: ``(N, K)``.
        quantity: which score.
        activation: how logits become probabilities.
    """

    logits: Tensor
    targets: Tensor
    quantity: str
    activation: str

    def scores(self, logits: Tensor, images: slice) -> Tensor:
        """Return ``(n, M, K)`` of the logits ``(n, M, num_classes)`` of some images' variants."""
        plain, targets = self.logits[images], self.targets[images]
        return scores(logits, plain, targets, self.quantity, self.activation)

    def room(self, variants: int) -> Tensor:
        """Return room for the scores of so many variants of each image, ``(N, variants, K)``."""
        count, classes = self.targets.shape
        return self.logits.new_empty(count, variants, classes)


def _chunk(bytes_per_variant: int, inputs: Tensor, most: int = 1) -> int:
    """Return how many variants run at once: a fixed byte budget's worth, at least one.

    Args:
        bytes_per_variant: what the modules that run return for one of them.
        inputs: the images.
        most: how many times the largest batch of images it may be.
    """
    budget = budget_of(inputs.device)
    return max(1, min(most * budget.images, budget.activations // max(1, bytes_per_variant)))


@dataclass(frozen=True)
class _BoundTail:
    """A tail with what it needs of one batch of images.

    Attributes:
        run: from values ``(M, C, h, w)`` and the rows of their images to logits.
        entry: how it begins, where that can be used.
        saved: what skips the layer, one tensor per image each.
        chunk: how many variants run at once.
    """

    run: Callable[[Tensor, Tensor], Tensor]
    entry: Entry | None
    saved: tuple[Tensor, ...]
    chunk: int

    @classmethod
    def bind(cls, module: nn.Module, captured: Captured, task: Task, reads: str) -> "_BoundTail":
        """Return the layer's tail if it gives the model's logits, else the whole model."""
        grid = captured.grids[reads]
        tail = task.tails.get(reads) if grid.plain else None
        inputs, logits = captured.inputs.detach(), captured.logits.detach()
        activation = captured.activations[reads].detach()
        rows = torch.arange(len(inputs) + 1, device=inputs.device) % len(inputs)
        if tail is not None and (saved := _tried(lambda: _saved(tail, inputs))) is not None:

            def run(values: Tensor, rows: Tensor) -> Tensor:
                return tail.after(values, *(tensor[rows] for tensor in saved))

            with output_bytes(module, float("inf")) as returned:
                found = _tried(lambda: run(activation[rows], rows))
                trusted = found is not None and _agrees(found, logits[rows])
            if trusted:
                own = activation[0].numel() * activation.element_size()
                chunk = _chunk(own + returned["bytes"] // len(rows), inputs, TAIL_VARIANTS)
                return cls(run, tail.entry, saved, chunk)
        task.findings[WHOLE_MODEL.format(layer=reads)] = None
        exchanged = whole_model(module, reads, inputs, grid)

        def whole(values: Tensor, rows: Tensor) -> Tensor:
            output = exchanged(values, rows)
            return logits_of(output, len(rows), task.output, task.activation)

        return cls(whole, None, (), _chunk(captured.bytes_per_image, inputs))


def _saved(tail: Tail, inputs: Tensor) -> tuple[Tensor, ...] | None:
    """Return what skips the layer on its way, or None if that is not one tensor per image."""
    if tail.before is None:
        return ()
    saved = tail.before(inputs.clone())
    per_image = [isinstance(t, Tensor) and t.ndim > 0 and len(t) == len(inputs) for t in saved]
    return saved if all(per_image) else None


def _tried(run: Callable[[], Result]) -> Result | None:
    """Run a part of a model's code; None if it fails, as what was cut out of it may."""
    try:
        return run()
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return None


def _agrees(found: Tensor, logits: Tensor) -> bool:
    """Say whether a tail gives the model's logits, up to rounding.

    Checked with one extra image, so that a batch size fixed in the traced graph is detected.
    """
    if found.shape != logits.shape:
        return False
    scale = float(logits.nan_to_num(posinf=0, neginf=0).abs().max())
    return bool(torch.isclose(found, logits, rtol=0, atol=1e-4 * scale, equal_nan=True).all())


def _jobs(task: Task) -> list[tuple[Method, str]]:
    """Return the methods of this module with what they are computed from."""
    return [
        (method, reads)
        for method in task.methods
        if method.needs in (MASKED, ABLATED, KEPT)
        for reads in dict.fromkeys(task.wanted(method).values())
    ]


def _variants(method: Method, activation: Tensor) -> int:
    """Return how many variants a method asks for at a layer, all images together."""
    count, channels, height, width = activation.shape
    return count * (height * width if method.needs is KEPT else channels)


def _masked_scores(
    model: Callable[[Tensor], Tensor],
    inputs: Tensor,
    activation: Tensor,
    make_masks: Callable[[Tensor, tuple[int, int]], Tensor],
    read: _Reading,
    chunk: int,
    meter: Meter,
) -> Tensor:
    """Return the targets' scores in each image under each channel's mask, ``(N, C, K)``.

    Channels that are constant have no mask but zero: one blank image stands for all of them.
    """
    count, channels = activation.shape[:2]
    flat = activation.flatten(0, 1)  # (N * C, h, w)
    live = (flat.amax((-2, -1)) > flat.amin((-2, -1))).nonzero().squeeze(1)
    blank = model(torch.zeros_like(inputs[:1]))
    found = read.room(channels)
    for image in range(count):
        found[image] = read.scores(blank[None], slice(image, image + 1))[0]
    found = found.flatten(0, 1)  # (N * C, K)
    meter.add(len(flat) - len(live))

    def run(chosen: slice) -> None:
        part = live[chosen]
        rows = part // channels
        masks = make_masks(flat[part], (inputs.shape[-2], inputs.shape[-1]))
        logits = model(inputs[rows].mul_(masks[:, None]))
        of_rows = read.targets[rows], read.quantity, read.activation
        found[part] = scores(logits[:, None], logits, *of_rows)[:, 0]
        meter.add(len(part))

    _in_chunks(len(live), chunk, run)
    return found.view(count, channels, -1)


def _ablated_scores(tail: _BoundTail, activation: Tensor, read: _Reading, meter: Meter) -> Tensor:
    """Return the targets' scores without each channel, ``(N, C, K)``.

    Where channels stay apart up to a linear operation, what one of them adds to that
    operation's result is computed by itself and taken away: the operation runs once in all.
    """
    without = _without_channels(tail.entry, activation) if tail.entry else None

    def run(images: slice, part: slice, rows: Tensor) -> Tensor:
        if tail.entry and without:
            saved = (tensor[rows] for tensor in tail.saved)
            return tail.entry.rest(without(images, part).flatten(0, 1), *saved)
        chosen = torch.arange(part.start, part.stop)
        values = activation[images, None].repeat(1, len(chosen), 1, 1, 1)  # (n, m, C, h, w)
        values[:, torch.arange(len(chosen)), chosen] = 0
        return tail.run(values.flatten(0, 1), rows)

    return _scores_of_variants(tail, activation.shape[1], run, read, meter)


def _scores_of_variants(
    tail: _BoundTail,
    variants: int,
    run: Callable[[slice, slice, Tensor], Tensor],
    read: _Reading,
    meter: Meter,
) -> Tensor:
    """Return the targets' scores of every image's variants, ``(N, variants, K)``.

    Few variants of many images at a time rather than the other way round: what they share,
    such as a channel's weights, is then used for all images at once.

    Args:
        tail: what runs.
        variants: of each image.
        run: gives the logits ``(n * m, num_classes)`` of n images and m variants; it is told
            the rows of the images they belong to, too.
        read: which scores are kept.
        meter: counts on.
    """
    found = read.room(variants)
    for images in _slices(len(found), tail.chunk):
        rows = torch.arange(images.start, images.stop, device=found.device)

        def run_part(part: slice, images: slice = images, rows: Tensor = rows) -> None:
            size = part.stop - part.start
            logits = run(images, part, rows.repeat_interleave(size))
            found[images, part] = read.scores(logits.view(len(rows), size, -1), images)
            meter.add(len(logits))

        _in_chunks(variants, max(1, tail.chunk // len(rows)), run_part)
    return found


def _without_channels(entry: Entry, activation: Tensor) -> Callable[[slice, slice], Tensor] | None:
    """Return a function that gives the linear operation's result without some channels each.

    It takes ``n`` images and ``m`` channels and returns ``(n, m, ...)``. None if the
    operation's input does not hold the layer's channels one after the other.
    """
    channels = activation.shape[1]
    inner = entry.channelwise(activation.clone())
    empty = entry.channelwise(torch.zeros_like(activation[:1]))
    share = inner - empty  # (N, C, h', w') or (N, C * p)
    linear = entry.linear
    if isinstance(linear, nn.Linear):
        if inner.ndim != 2 or inner.shape[1] % channels:
            return None
        base = linear(inner)
        weight = linear.weight.view(len(linear.weight), channels, -1)  # (O, C, p)
        shares = share.view(len(share), channels, -1)  # (N, C, p)

        def without_inputs(images: slice, part: slice) -> Tensor:
            own = torch.einsum("ocp,ncp->nco", weight[:, part], shares[images, part])
            without: Tensor = base[images, None] - own
            return without

        return without_inputs
    padding = linear.padding
    if inner.ndim != 4 or inner.shape[1] != channels or isinstance(padding, str):
        return None
    base = linear(inner)
    kernel = linear.weight.flatten(2).transpose(0, 1)  # (C, O, kh * kw)

    def without_maps(images: slice, part: slice) -> Tensor:
        own = share[images, part]  # (n, m, h', w')
        patches = functional.unfold(
            own.flatten(0, 1).unsqueeze(1),
            linear.kernel_size,
            dilation=linear.dilation,
            padding=padding,
            stride=linear.stride,
        )  # (n * m, kh * kw, L)
        products = kernel[part] @ patches.view(*own.shape[:2], *patches.shape[1:])  # (n, m, O, L)
        without: Tensor = base[images, None] - products.view(*products.shape[:-1], *base.shape[-2:])
        return without

    return without_maps


def _kept_scores(tail: _BoundTail, activation: Tensor, read: _Reading, meter: Meter) -> Tensor:
    """Return the targets' scores with one position kept each, ``(N, h * w, K)``."""
    height, width = activation.shape[-2:]
    positions = torch.eye(height * width, dtype=torch.bool, device=activation.device)
    others = ~positions.view(-1, 1, height, width)  # (h * w, 1, h, w)

    only = _only_positions(tail.entry, activation) if tail.entry else None

    def run(images: slice, part: slice, rows: Tensor) -> Tensor:
        if tail.entry and only is not None:
            saved = (tensor[rows] for tensor in tail.saved)
            return tail.entry.rest(only[images, part].flatten(0, 1), *saved)
        values = activation[images, None].masked_fill(others[part], 0)
        return tail.run(values.flatten(0, 1), rows)

    return _scores_of_variants(tail, height * width, run, read, meter)


def _only_positions(entry: Entry, activation: Tensor) -> Tensor | None:
    """Return the linear layer's result with one position kept each, ``(N, h * w, O)``.

    Each weight is used for one position alone. None if the operation is no linear layer, if its
    input does not hold the layer's positions, or where sorting the weights costs more.
    """
    linear = entry.linear
    few = len(activation) < MIN_IMAGES_FOR_SORTED_WEIGHTS
    if not isinstance(linear, nn.Linear) or not entry.pointwise or few:
        return None
    inner = entry.channelwise(activation.clone())
    if inner.numel() != activation.numel():
        return None
    empty = entry.channelwise(torch.zeros_like(activation[:1]))
    shares = (inner - empty).view(*activation.shape[:2], -1).permute(2, 0, 1)  # (h * w, N, C)
    weight = linear.weight.view(len(linear.weight), activation.shape[1], -1)  # (O, C, h * w)
    parts = [  # rows few enough to be sorted by position within the cache
        shares @ weight[rows].permute(2, 0, 1).contiguous().mT for rows in _slices(len(weight), 64)
    ]
    kept: Tensor = torch.cat(parts, -1).transpose(0, 1) + linear(empty)
    return kept


def _in_chunks(length: int, chunk: int, run: Callable[[slice], None]) -> None:
    """Run over one part of a length after the other, smaller ones where memory runs out."""
    start = 0
    while start < length:
        part = slice(start, min(start + chunk, length))
        try:
            run(part)
        except (MemoryError, RuntimeError) as error:
            if chunk == 1 or not is_out_of_memory(error):
                raise
            chunk = max(1, min(chunk, length) // 2)
        else:
            start = part.stop


def _slices(length: int, step: int) -> Iterator[slice]:
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))
