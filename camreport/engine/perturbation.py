"""Further forward passes: masked images, switched-off channels, single positions.

The variants of all images of a batch are processed in chunks of a fixed byte budget, so that the
masks are never all in memory at once. One pass of a variant gives the scores of every class.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from camreport.engine.batch import Batch, Maps
from camreport.engine.cost import Cost
from camreport.engine.forward import ForwardPass
from camreport.engine.plan import CheckedTail
from camreport.engine.score import scores
from camreport.engine.variants import in_chunks, logits_without_gradients, slices
from camreport.methods import Method
from camreport.methods.registry import ABLATED, KEPT, MASKED, SHARED_MASKS
from camreport.metrics.effect import MASKS
from camreport.network.graph import Entry, Tail, whole_model
from camreport.network.logits import logits_of
from camreport.network.memory import is_out_of_memory
from camreport.network.precision import reduced, wide
from camreport.network.trace import counted_bytes
from camreport.settings import BF16

Result = TypeVar("Result")

MAX_GAP, MAX_REDUCED_GAP = 1e-4, 2e-2
"""Largest difference between the logits of a tail and of the whole model, as a fraction of the
largest logit; in bfloat16, one rounding differs by up to 2⁻⁸."""


def masked_maps(batch: Batch, methods: Sequence[Method], _earlier: Maps) -> tuple[Maps, Cost]:
    """Compute the maps of methods that run the model on masked images."""
    maps, before = Maps(), _counted(batch)
    with torch.no_grad():
        for method in methods:
            for point in batch.plan.points(method):
                changed = _masked_scores(batch, method, point)
                cams = method.compute(batch.values(point), changed)
                maps.setdefault(method.key, {})[point] = cams.float()
    return maps, _counted(batch, before)


def tail_maps(batch: Batch, methods: Sequence[Method], _earlier: Maps) -> tuple[Maps, Cost]:
    """Compute the maps of methods that change a layer's output and run the rest of the model."""
    maps, before = Maps(), _counted(batch)
    points = dict.fromkeys(s for method in methods for s in batch.plan.points(method))
    read = _Scores(batch, batch.plan.options.quantity)
    unchanged = read.of(batch.reference_logits[:, None], slice(None))[:, 0]
    with torch.no_grad():
        for point in points:
            tail = BoundTail(batch, point)
            for method in (m for m in methods if point in batch.plan.points(m)):
                ablates = method.needs is ABLATED
                each = (tail.channels, tail.ablated) if ablates else (tail.positions, tail.kept)
                with reduced(batch.inputs.device, batch.plan.options.precision):
                    changed = _scores_of_variants(batch, tail, each[0], each[1], read)
                given = (unchanged, changed) if ablates else (changed,)
                cams = method.compute(tail.values, *given)
                maps.setdefault(method.key, {})[point] = cams.float()
    return maps, _counted(batch, before)


def variants_of(method: Method, activation: Tensor) -> int:
    """Return how many variants a method needs at a layer, for all images together."""
    count, channels, height, width = activation.shape
    if method.needs is SHARED_MASKS:
        return count * MASKS
    if method.needs is KEPT:
        return count * height * width
    return count * channels if method.needs in (MASKED, ABLATED) else 0


def checked_tail(
    module: nn.Module, tail: Tail, forward: ForwardPass, point: str, precision: str
) -> CheckedTail | None:
    """Return a tail if it gives the model's logits, up to rounding; None if not.

    The tail runs with one extra image, so that a batch size fixed in the traced graph is detected.

    Args:
        module: the model, in evaluation mode.
        tail: the part of the model after the layer.
        forward: a forward pass of the model.
        point: the layer's hook point.
        precision: arithmetic of the model's passes.
    """
    inputs, logits = forward.inputs.detach(), forward.logits.detach()
    values = wide(forward.activations[point].detach())
    rows = torch.arange(len(inputs) + 1, device=inputs.device) % len(inputs)
    with torch.no_grad(), reduced(inputs.device, precision):
        saved = _tried(lambda: _saved(tail, inputs))
        if saved is None:
            return None
        own = [tensor[rows] for tensor in saved]
        with counted_bytes(module) as returned:
            found = _tried(lambda: tail.after(values[rows], *own))
    tolerance = MAX_REDUCED_GAP if precision == BF16 else MAX_GAP
    if found is None or not _agrees(found, logits[rows], tolerance):
        return None
    layer = values[0].numel() * values.element_size()
    return CheckedTail(tail, layer + returned.total // len(rows))


class BoundTail:
    """The part of a model after a layer, with the saved tensors of one batch of images.

    If the tail cannot run by itself, the whole model runs with the layer's output replaced.

    Attributes:
        values: the layer's output, ``(N, C, h, w)``.
        chunk: number of variants that run at once.
        channels: number of variants without one channel, one for each channel.
        positions: number of variants that keep one position, one for each position.
    """

    def __init__(self, batch: Batch, point: str) -> None:
        checked = batch.plan.tails.get(point)
        budget, device = batch.budget, batch.inputs.device
        self._batch, self.values = batch, batch.values(point)
        self._tail = checked.tail if checked else None
        self._entry = checked.tail.entry if checked else None
        self._saved: tuple[Tensor, ...] = ()
        self.channels = self.values.shape[1]
        self.positions = self.values[0, 0].numel()
        if checked:
            self._saved = _saved(checked.tail, batch.inputs) or ()
            most = batch.limits.tail_variants * budget.images
            self.chunk = max(1, min(most, budget.activations // max(1, checked.bytes_per_variant)))
        else:
            grid = batch.forward.grids[point]
            self._whole = whole_model(batch.module, point, batch.inputs, grid)
            self.chunk = batch.limits.images_of(device, batch.plan.bytes_per_image)

    def logits(self, values: Tensor, rows: Tensor) -> Tensor:
        """Return the logits ``(M, num_classes)`` of changed outputs of the layer.

        Args:
            values: ``(M, C, h, w)``.
            rows: rows of the images that the outputs belong to, ``(M,)``.
        """
        if self._tail is not None:
            return wide(self._tail.after(values, *(tensor[rows] for tensor in self._saved)))
        plan, output = self._batch.plan, self._whole(values, rows)
        return logits_of(output, len(rows), plan.output, plan.activation)

    def ablated(self, images: slice, channels: slice, rows: Tensor) -> Tensor:
        """Return the logits of n images without each of m channels, ``(n * m, num_classes)``.

        If channels stay separate up to a linear operation, the contribution of a single channel
        to the operation's result is computed and subtracted; the full operation runs only once.
        """
        if self._removed:
            return self._rest(self._removed.results(images, channels), rows)
        chosen = torch.arange(channels.start, channels.stop, device=self.values.device)
        values = self.values[images, None].repeat(1, len(chosen), 1, 1, 1)  # (n, m, C, h, w)
        values[:, chosen - channels.start, chosen] = 0
        return self.logits(values.flatten(0, 1), rows)

    def kept(self, images: slice, positions: slice, rows: Tensor) -> Tensor:
        """Return the logits of n images with one of m positions kept, ``(n * m, num_classes)``."""
        if self._only is not None:
            return self._rest(self._only[images, positions], rows)
        height, width = self.values.shape[-2:]
        kept = torch.eye(self.positions, dtype=torch.bool, device=self.values.device)[positions]
        others = ~kept.view(-1, 1, height, width)  # (m, 1, h, w)
        values = self.values[images, None].masked_fill(others, 0)
        return self.logits(values.flatten(0, 1), rows)

    @cached_property
    def _removed(self) -> "_RemovedChannels | None":
        return _RemovedChannels.of(self._entry, self.values) if self._entry else None

    @cached_property
    def _only(self) -> Tensor | None:
        few = len(self.values) < self._batch.limits.sorted_from
        return None if few or not self._entry else _only_positions(self._entry, self.values)

    def _rest(self, results: Tensor, rows: Tensor) -> Tensor:
        """Return the logits from the linear operation's results ``(n, m, ...)``."""
        assert self._entry is not None
        saved = (tensor[rows] for tensor in self._saved)
        return wide(self._entry.rest(results.flatten(0, 1), *saved))


@dataclass(frozen=True)
class _RemovedChannels:
    """The results of a tail's linear operation with one channel removed at a time.

    Attributes:
        linear: the linear operation.
        base: the result of the operation with all channels, ``(N, ...)``.
        parts: the contribution of each channel to the operation's input, ``(N, C, p)`` or
            ``(N, C, h', w')``.
    """

    linear: nn.Conv2d | nn.Linear
    base: Tensor
    parts: Tensor

    @classmethod
    def of(cls, entry: Entry, values: Tensor) -> Self | None:
        """Return an instance; None if the operation's input does not hold the channels in order."""
        channels, linear = values.shape[1], entry.linear
        inner = entry.channelwise(values.clone())
        parts = inner - entry.channelwise(torch.zeros_like(values[:1]))
        if isinstance(linear, nn.Linear):
            if inner.ndim != 2 or inner.shape[1] % channels:
                return None
            parts = parts.view(len(parts), channels, -1)
        elif inner.ndim != 4 or inner.shape[1] != channels or isinstance(linear.padding, str):
            return None
        return cls(linear, linear(inner), parts)

    def results(self, images: slice, channels: slice) -> Tensor:
        """Return the results of n images without each of m channels, ``(n, m, ...)``."""
        base, own = self.base[images, None], self.parts[images, channels]
        if isinstance(self.linear, nn.Linear):
            weight = self.linear.weight.view(len(self.linear.weight), self.parts.shape[1], -1)
            return base - torch.einsum("ocp,ncp->nco", weight[:, channels], own)
        assert not isinstance(self.linear.padding, str)
        kernel = self.linear.weight.flatten(2).transpose(0, 1)[channels]  # (m, O, kh * kw)
        patches = functional.unfold(
            own.flatten(0, 1).unsqueeze(1),
            self.linear.kernel_size,
            dilation=self.linear.dilation,
            padding=self.linear.padding,
            stride=self.linear.stride,
        )  # (n * m, kh * kw, L)
        products = kernel @ patches.view(*own.shape[:2], *patches.shape[1:])  # (n, m, O, L)
        return base - products.view(*products.shape[:-1], *base.shape[-2:])


def _only_positions(entry: Entry, values: Tensor) -> Tensor | None:
    """Return the linear layer's results with only one position kept at a time, ``(N, h * w, O)``.

    Each weight is used for one position only. The result is None if the operation is not a linear
    layer, or if its input does not hold the layer's positions.
    """
    linear = entry.linear
    if not isinstance(linear, nn.Linear) or not entry.pointwise:
        return None
    inner = entry.channelwise(values.clone())
    if inner.numel() != values.numel():
        return None
    empty = entry.channelwise(torch.zeros_like(values[:1]))
    columns = (inner - empty).view(*values.shape[:2], -1).permute(2, 0, 1)  # (h * w, N, C)
    weight = linear.weight.view(len(linear.weight), values.shape[1], -1)  # (O, C, h * w)
    parts = [  # few rows at a time, so that sorting them by position stays in the cache
        columns @ weight[rows].permute(2, 0, 1).contiguous().mT for rows in slices(len(weight), 64)
    ]
    kept: Tensor = torch.cat(parts, -1).transpose(0, 1) + linear(empty)
    return kept


@dataclass(frozen=True)
class _Scores:
    """Reads the targets' scores from the logits of changed passes.

    Attributes:
        batch: the batch with the targets.
        quantity: the score to read, as for ``check_quantity``.
    """

    batch: Batch
    quantity: str

    def of(self, logits: Tensor, images: slice) -> Tensor:
        """Return the scores ``(n, M, K)`` from variants' logits ``(n, M, num_classes)``."""
        batch = self.batch
        reference, targets = batch.reference_logits[images], batch.targets[images]
        return scores(logits, reference, targets, self.quantity, batch.plan.activation)

    def empty(self, variants: int) -> Tensor:
        """Return uninitialised memory for the scores of variants, ``(N, variants, K)``."""
        count, classes = self.batch.targets.shape
        return self.batch.reference_logits.new_empty(count, variants, classes)


def _scores_of_variants(
    batch: Batch,
    tail: BoundTail,
    variants: int,
    run: Callable[[slice, slice, Tensor], Tensor],
    read: _Scores,
) -> Tensor:
    """Return the targets' scores of every image's variants, ``(N, variants, K)``.

    A chunk holds few variants of many images rather than many variants of few images, so that
    common data, such as a channel's weights, is used for all images at once.

    Args:
        batch: the batch of images.
        tail: the part of the model that runs.
        variants: number of variants of each image.
        run: function from a slice of n images, a slice of m variants and the row of the image of
            each variant to the logits ``(n * m, num_classes)``.
        read: reads the scores from the logits.
    """
    found = read.empty(variants)
    for images in slices(len(found), tail.chunk):
        rows = torch.arange(images.start, images.stop, device=found.device)

        def keep(part: slice, images: slice = images, rows: Tensor = rows) -> None:
            size = part.stop - part.start
            logits = run(images, part, rows.repeat_interleave(size))
            found[images, part] = read.of(logits.view(len(rows), size, -1), images)
            batch.counter.add(len(logits))

        in_chunks(variants, max(1, tail.chunk // len(rows)), keep, found.device)
    return found


def _masked_scores(batch: Batch, method: Method, point: str) -> Tensor:
    """Return the targets' scores in each image under each channel's mask, ``(N, C, K)``.

    The mask of a constant channel is zero, so one blank image is run for all constant channels.
    """
    assert method.masks is not None
    assert method.weighs_by is not None
    make_masks = method.masks
    plan, inputs, values = batch.plan, batch.inputs, batch.values(point)
    count, channels = values.shape[:2]
    flat = values.flatten(0, 1)  # (N * C, h, w)
    live = (flat.amax((-2, -1)) > flat.amin((-2, -1))).nonzero().squeeze(1)
    model = logits_without_gradients(batch.module, plan)
    read = _Scores(batch, method.weighs_by)
    blank = model(torch.zeros_like(inputs[:1]))
    found = read.empty(channels)
    for image in range(count):
        found[image] = read.of(blank[None], slice(image, image + 1))[0]
    found = found.flatten(0, 1)  # (N * C, K)
    batch.counter.add(len(flat) - len(live))

    def keep(part: slice) -> None:
        own = live[part]
        rows = own // channels
        masks = make_masks(flat[own], (inputs.shape[-2], inputs.shape[-1]))
        logits = model(inputs[rows].mul_(masks[:, None]))
        of_rows = batch.targets[rows], read.quantity, plan.activation
        found[own] = scores(logits[:, None], logits, *of_rows)[:, 0]
        batch.counter.add(len(own))

    chunk = batch.limits.images_of(inputs.device, plan.bytes_per_image)
    in_chunks(len(live), chunk, keep, inputs.device)
    return found.view(count, channels, -1)


def _counted(batch: Batch, since: Cost | None = None) -> Cost:
    """Return the passes and variants counted so far, or only those counted after ``since``."""
    done = Cost(forwards=batch.counter.passes, variants=batch.counter.done)
    if since is None:
        return done
    return Cost(forwards=done.forwards - since.forwards, variants=done.variants - since.variants)


def _saved(tail: Tail, inputs: Tensor) -> tuple[Tensor, ...] | None:
    """Return the tensors that bypass the layer, or None if they are not one entry per image."""
    if tail.before is None:
        return ()
    saved = tail.before(inputs.clone())
    per_image = [isinstance(t, Tensor) and t.ndim > 0 and len(t) == len(inputs) for t in saved]
    return saved if all(per_image) else None


def _tried(run: Callable[[], Result]) -> Result | None:
    """Run a part of a model's code; return None if it fails, which traced code may do."""
    try:
        return run()
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return None


def _agrees(found: Tensor, logits: Tensor, tolerance: float) -> bool:
    """Return whether a tail gives the model's logits, up to a fraction of the largest."""
    if found.shape != logits.shape:
        return False
    scale = float(logits.nan_to_num(posinf=0, neginf=0).abs().max())
    return bool(torch.isclose(found, logits, rtol=0, atol=tolerance * scale, equal_nan=True).all())
