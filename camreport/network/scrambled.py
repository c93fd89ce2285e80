"""A network without what it has learned: its weights permuted, for the time of a block."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import isqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from camreport.errors import ModelError
from camreport.network.state import changed

_SAME_SIZE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Types that NumPy knows, by their bytes; shuffling needs no more of a value than its size."""


FEW_VALUES = 1 << 14
"""Most values whose order is drawn uniformly."""

NEAR = 16
"""Neighbouring columns of which one memory access brings all, and rows among which they part."""

MAX_KEPT = 1 << 30
"""Most bytes of permuted copies that are kept to be used again; one copy is kept in any case."""

Permuted = list[tuple[nn.Parameter, Tensor]]
"""Weights with permuted copies of their values, of the same shapes and strides."""

Array = NDArray[np.generic]


class FixedWeightsError(ModelError):
    """A network has no weights that can be permuted."""


@dataclass
class Copies:
    """Permuted copies of one network's weights, by seed: a run uses each for many batches."""

    _kept: dict[int, Permuted] = field(default_factory=dict)

    def of(self, module: nn.Module, seed: int) -> Permuted:
        """Return the copy of a seed; if too much would be kept, it takes another one's place.

        Seeds are used in turn, so that the copy made last is the one not used for longest.

        Raises:
            FixedWeightsError: as for ``scrambled``.
        """
        if seed not in self._kept:
            weights = _weights_of(module)
            size = sum(weight.nbytes for weight in weights)
            if self._kept and (len(self._kept) + 1) * size > MAX_KEPT:
                self._kept.popitem()
            self._kept[seed] = _permuted(weights, seed)
        return self._kept[seed]


@contextmanager
def scrambled(module: nn.Module, seed: int, copies: Copies | None = None) -> Iterator[None]:
    """Permute every weight tensor of a network within itself, and restore it afterwards.

    Weights and biases keep their scale and lose their meaning; buffers, such as running
    statistics, stay. Parameters that share memory stay tied. The user's tensors are never written:
    the parameters hold permuted copies until the block ends or fails, which takes as much memory
    as the weights. Ctrl-C waits until the network is restored.

    Args:
        module: the network, inside ``preserved``.
        seed: random seed of the permutations.
        copies: those made earlier of the same weights, to use them again.

    Raises:
        FixedWeightsError: the network has quantised weights, weights of a type of their own, or no
            weights at all.

    Source: Adebayo et al., Sanity Checks for Saliency Maps, 2018, section 3 (model parameter
        randomisation; there, weights are drawn anew), https://arxiv.org/abs/1810.03292
    """
    permuted = (copies or Copies()).of(module, seed)

    def change(changes: ExitStack) -> None:
        _keep_computed(module, changes)
        for weight, values in permuted:
            changes.callback(setattr, weight, "data", weight.data)
            weight.data = values

    with changed(change):
        yield


def _keep_computed(module: nn.Module, changes: ExitStack) -> None:
    """Restore tensors that modules compute from their weights and keep, as pruning does."""
    for part in module.modules():
        for name, value in vars(part).items():
            if isinstance(value, Tensor):
                changes.callback(setattr, part, name, value)


def _weights_of(module: nn.Module) -> list[nn.Parameter]:
    """Return the weights of a network, each once; those without values or elements are left out.

    Raises:
        FixedWeightsError: some cannot be permuted, or there are none.
    """
    for name, part in module.named_modules():
        if isinstance(getattr(part, "_packed_params", None), torch.ScriptObject):
            _refuse(f"quantised ones in {name or type(part).__name__!r}")
    weights = []
    for name, weight in module.named_parameters():
        if is_lazy(weight) or weight.is_meta or not weight.numel():
            continue
        values = weight.data
        if type(values) is not Tensor or values.layout is not torch.strided:
            _refuse(f"{name!r} in a format of its own")
        if not (values.is_floating_point() or values.is_complex()):
            _refuse(f"{name!r} of {values.dtype}")
        weights.append(weight)
    if not weights:
        _refuse("none")
    return weights


def _refuse(found: str) -> None:
    raise FixedWeightsError(
        f"model: expected weights that can be permuted, got {found}. Give the network as it was "
        "before quantisation, or leave the metric 'learned' out."
    )


def _permuted(weights: Iterable[nn.Parameter], seed: int) -> Permuted:
    """Return weights with permuted copies of their values, of the same shapes and strides.

    Weights that share memory are copied together, and share the copy.
    """
    sharing: dict[object, list[nn.Parameter]] = {}
    for weight in weights:
        place = weight.device, weight.data.untyped_storage().data_ptr(), weight.dtype
        sharing.setdefault(place, []).append(weight)
    return [
        pair
        for number, group in enumerate(sharing.values())
        for pair in _permuted_together(group, np.random.default_rng([seed, number]))
    ]


def _permuted_together(weights: Sequence[nn.Parameter], random: np.random.Generator) -> Permuted:
    """Return permuted copies of weights on one storage; what overlaps is permuted once."""
    weights = sorted(weights, key=Tensor.numel, reverse=True)
    starts = [weight.storage_offset() for weight in weights]
    ends = [start + _reach(weight) for start, weight in zip(starts, weights, strict=True)]
    first, length = min(starts), max(ends) - min(starts)
    own = weights[0].data.as_strided((length,), (1,), first)
    # What a weight alone shows of its memory is all written anew.
    copy = torch.empty_like(own) if len(weights) == 1 else own.clone()
    touched = torch.zeros(length if len(weights) > 1 else 0, dtype=torch.bool)
    found = []
    for weight, start in zip(weights, starts, strict=True):
        place = weight.shape, weight.stride(), start - first
        values = copy.as_strided(*place)
        found.append((weight, values))
        if len(weights) > 1:
            seen = _distinct(touched.as_strided(*place))
            if seen.any():
                continue
            seen.fill_(True)
        _permute(_distinct(weight.data), _distinct(values), random)
    return found


def _reach(weight: Tensor) -> int:
    """Return how many elements of its storage a tensor spans."""
    steps = zip(weight.shape, weight.stride(), strict=True)
    return 1 + sum((size - 1) * step for size, step in steps)


def _distinct(values: Tensor) -> Tensor:
    """Return a view of a tensor without repetitions of an element, its axes in memory's order."""
    for axis, step in enumerate(values.stride()):
        if not step:
            values = values.narrow(axis, 0, 1)
    order = sorted(range(values.ndim), key=values.stride().__getitem__, reverse=True)
    return values.permute(order)


def _permute(values: Tensor, out: Tensor, random: np.random.Generator) -> None:
    """Write a tensor's elements into another one in another order.

    Dense tensors on the CPU take no further memory.
    """
    flat = out.reshape(-1).cpu()
    permute(_array(values.reshape(-1).cpu()), _array(flat), random)
    if flat.data_ptr() != out.data_ptr():
        out.copy_(flat.view(out.shape))


def _array(flat: Tensor) -> Array:
    """Return a tensor's memory as an array of a type that NumPy has."""
    array: Array = flat.view(_SAME_SIZE.get(flat.element_size(), flat.dtype)).numpy()
    return array


def permute(values: Array, out: Array, random: np.random.Generator) -> None:
    """Write values ``(n,)`` into ``out`` in another order; each is equally likely at each place.

    Few values get any order with the same probability. Many are laid out in rows as wide as a
    prime number, so that a column has values from everywhere: columns change places, each goes
    around by a random step, and rows change places; what is left over changes places with values
    anywhere. The steps of neighbouring columns are random among a few rows around a common random
    one, so that what one access to memory brings is still in the cache when it is needed.
    """
    count = len(values)
    if count <= FEW_VALUES:
        out[:] = random.permutation(values)
        return
    width = _prime(isqrt(count))
    rows = count // width
    whole = rows * width
    steps = np.repeat(random.integers(rows, size=-(-width // NEAR)), NEAR)[:width]
    steps = (steps + random.integers(min(NEAR, rows), size=width)) % rows
    order, places = random.permutation(width), random.permutation(rows)
    columns = order + width * steps[order]

    def fill(some: range) -> None:
        for row in some:
            part = out[places[row] * width :][:width]
            values[:whole].take(columns + width * row, mode="wrap", out=part)

    size = -(-rows // torch.get_num_threads())
    parts = [range(first, min(first + size, rows)) for first in range(0, rows, size)]
    if len(parts) > 1:
        with ThreadPoolExecutor(len(parts)) as pool:
            [*pool.map(fill, parts)]
    else:
        fill(*parts)
    out[whole:] = random.permutation(values[whole:])
    anywhere = random.choice(count, count - whole, replace=False)
    left = np.flatnonzero(anywhere < whole)
    anywhere, left = anywhere[left], left + whole
    out[anywhere], out[left] = out[left], out[anywhere]


def _prime(limit: int) -> int:
    """Return the largest prime number up to a limit of 2 or more."""
    return next(n for n in range(limit, 1, -1) if all(n % d for d in range(2, isqrt(n) + 1)))
