"""Further forward passes: masked images, switched-off channels, single positions.

The variants of all images of a batch are streamed in chunks of a fixed byte budget: never do
all masks exist at once. One pass of a variant serves every class.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from camreport.cost import Cost
from camreport.memory import budget_of
from camreport.methods import Method
from camreport.methods.registry import ABLATED, KEPT, MASKED
from camreport.passes import Captured, Maps, checked_logits
from camreport.quantity import scores
from camreport.tail import Entry, Tail, whole_model
from camreport.task import Skip, Task

Progress = Callable[[float], None]
"""Told which share of a batch's further passes is done, 0..1."""


@dataclass
class Meter:
    """Counts variants and passes over them, and tells how far they are.

    Attributes:
        total: variants to come.
        progress: told of the share that is done.
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
    budget = budget_of(inputs.device)
    chunk = max(1, min(budget.images, budget.activations // max(1, captured.bytes_per_image)))
    maps: Maps = {}
    before = meter.passes, meter.done
    with torch.no_grad():
        for method, reads in _jobs(task):
            activation = captured.activations[reads].detach()
            if method.needs is MASKED:
                masked = _masked_logits(module, inputs, activation, method, chunk, meter)
                cams = method.compute(activation, masked)
            else:
                tail = _BoundTail.bind(module, inputs, logits, activation, task, reads)
                run = _ablated_logits if method.needs is ABLATED else _kept_logits
                changed = scores(run(tail, activation, chunk, meter), logits, task.quantity)
                plain = scores(logits, logits, task.quantity)
                unchanged = (plain,) if method.needs is ABLATED else ()
                cams = method.compute(activation, *unchanged, changed)
            maps.setdefault(method.key, {})[reads] = _of_targets(cams, targets).float()
    return maps, Cost(forwards=meter.passes - before[0], variants=meter.done - before[1])


@dataclass(frozen=True)
class _BoundTail:
    """A tail with what it needs of one batch of images."""

    run: Callable[[Tensor, Tensor], Tensor]
    entry: Entry | None
    saved: tuple[Tensor, ...]

    @classmethod
    def bind(
        cls,
        module: nn.Module,
        inputs: Tensor,
        logits: Tensor,
        activation: Tensor,
        task: Task,
        reads: str,
    ) -> "_BoundTail":
        """Return the layer's tail if it gives the model's logits, else the whole model."""
        tail = task.tails.get(reads)
        rows = torch.arange(len(inputs), device=inputs.device)
        if tail is not None and (saved := _saved(tail, inputs)) is not None:

            def run(values: Tensor, rows: Tensor) -> Tensor:
                return tail.after(values, *(tensor[rows] for tensor in saved))

            if _agrees(run(activation.clone(), rows), logits):
                return cls(run, tail.entry, saved)
        return cls(whole_model(module, reads, inputs), None, ())


def _saved(tail: Tail, inputs: Tensor) -> tuple[Tensor, ...] | None:
    """Return what skips the layer on its way, or None if that is not one tensor per image."""
    if tail.before is None:
        return ()
    saved = tail.before(inputs.clone())
    per_image = [isinstance(t, Tensor) and t.ndim > 0 and len(t) == len(inputs) for t in saved]
    return saved if all(per_image) else None


def _agrees(found: object, logits: Tensor) -> bool:
    """Say whether a tail's logits are the model's, up to rounding."""
    if not isinstance(found, Tensor) or found.shape != logits.shape:
        return False
    scale = float(logits.abs().max())
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


def _masked_logits(
    module: nn.Module,
    inputs: Tensor,
    activation: Tensor,
    method: Method,
    chunk: int,
    meter: Meter,
) -> Tensor:
    """Return the logits of each image under each channel's mask, ``(N, C, num_classes)``.

    Channels that are constant have no mask but zero: one blank image stands for all of them.
    """
    assert method.masks is not None
    count, channels = activation.shape[:2]
    flat = activation.flatten(0, 1)  # (N * C, h, w)
    live = (flat.amax((-2, -1)) > flat.amin((-2, -1))).nonzero().squeeze(1)
    blank = checked_logits(module(torch.zeros_like(inputs[:1])), 1)
    logits = blank.repeat(len(flat), 1)  # (N * C, num_classes)
    meter.add(len(flat) - len(live))
    for chosen in _slices(len(live), chunk):
        part = live[chosen]
        masks = method.masks(flat[part], (inputs.shape[-2], inputs.shape[-1]))
        masked = inputs[part // channels].mul_(masks[:, None])
        logits[part] = checked_logits(module(masked), len(part))
        meter.add(len(part))
    return logits.view(count, channels, -1)


def _ablated_logits(tail: _BoundTail, activation: Tensor, chunk: int, meter: Meter) -> Tensor:
    """Return the logits without each channel, ``(N, C, num_classes)``.

    Where channels stay apart up to a linear operation, what one of them adds to that
    operation's result is computed by itself and taken away: the operation runs once in all.
    """
    count, channels = activation.shape[:2]
    parts = [(n, part) for n in range(count) for part in _slices(channels, chunk)]
    found = []
    without = _without_channels(tail.entry, activation) if tail.entry else None
    for n, part in parts:
        size = part.stop - part.start
        rows = torch.full((size,), n, device=activation.device)
        if tail.entry and without:
            saved = (tensor[rows] for tensor in tail.saved)
            found.append(tail.entry.rest(without(n, part), *saved))
        else:
            values = activation[n].repeat(size, 1, 1, 1)
            values[torch.arange(size), torch.arange(part.start, part.stop)] = 0
            found.append(tail.run(values, rows))
        meter.add(size)
    return torch.cat(found).view(count, channels, -1)


def _without_channels(entry: Entry, activation: Tensor) -> Callable[[int, slice], Tensor] | None:
    """Return a function that gives the linear operation's result without some channels each.

    It takes the image's row and the channels, ``m`` of them, and returns ``(m, ...)``. None if
    the operation's input does not hold the layer's channels one after the other.
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
        weight = linear.weight.view(-1, channels, inner.shape[1] // channels)  # (O, C, p)

        def without_inputs(n: int, part: slice) -> Tensor:
            own = share[n].view(channels, -1, 1)[part]  # (m, p, 1)
            without: Tensor = base[n] - (weight[:, part].transpose(0, 1) @ own).squeeze(-1)
            return without

        return without_inputs
    padding = linear.padding
    if inner.ndim != 4 or inner.shape[1] != channels or isinstance(padding, str):
        return None
    base = linear(inner)
    kernel = linear.weight.flatten(2)  # (O, C, kh * kw)

    def without_maps(n: int, part: slice) -> Tensor:
        patches = functional.unfold(
            share[n, part].unsqueeze(1),
            linear.kernel_size,
            dilation=linear.dilation,
            padding=padding,
            stride=linear.stride,
        )  # (m, kh * kw, L)
        own = kernel[:, part].transpose(0, 1) @ patches  # (m, O, L)
        without: Tensor = base[n] - own.view(-1, *base.shape[1:])
        return without

    return without_maps


def _kept_logits(tail: _BoundTail, activation: Tensor, chunk: int, meter: Meter) -> Tensor:
    """Return the logits with one position kept each, ``(N, h * w, num_classes)``."""
    count, _, height, width = activation.shape
    positions = torch.eye(height * width, dtype=torch.bool, device=activation.device)
    keep = positions.view(-1, 1, height, width)  # (h * w, 1, h, w)
    found = []
    for n in range(count):
        for part in _slices(height * width, chunk):
            values = activation[n].masked_fill(~keep[part], 0)
            rows = torch.full((len(values),), n, device=activation.device)
            found.append(tail.run(values, rows))
            meter.add(len(values))
    return torch.cat(found).view(count, height * width, -1)


def _slices(length: int, step: int) -> Iterator[slice]:
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def _of_targets(cams: Tensor, targets: Tensor) -> Tensor:
    """Pick the targets' maps, ``(N, K, h, w)``, from those of all classes."""
    index = targets[:, :, None, None].expand(-1, -1, *cams.shape[-2:])
    return cams.gather(1, index)
