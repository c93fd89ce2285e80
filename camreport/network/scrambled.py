"""A network without what it has learned: its weights permuted, for the time of a block."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from camreport.errors import ModelError
from camreport.network.state import changed

_SAME_SIZE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Types that NumPy knows, by their bytes; shuffling needs no more of a value than its size."""


class FixedWeightsError(ModelError):
    """A network has no weights that can be permuted."""


@contextmanager
def scrambled(module: nn.Module, seed: int) -> Iterator[None]:
    """Permute every weight tensor of a network within itself, and restore it afterwards.

    Weights and biases keep their scale and lose their meaning; buffers, such as running
    statistics, stay. Parameters that share memory stay tied. The user's tensors are never written:
    the parameters hold permuted copies until the block ends or fails, which takes as much memory
    as the weights. Ctrl-C waits until the network is restored.

    Args:
        module: the network, inside ``preserved``.
        seed: random seed of the permutations.

    Raises:
        FixedWeightsError: the network has quantised weights, weights of a type of their own, or no
            weights at all.

    Source: Adebayo et al., Sanity Checks for Saliency Maps, 2018, section 3 (model parameter
        randomisation; there, weights are drawn anew), https://arxiv.org/abs/1810.03292
    """
    permuted = _permuted(_weights_of(module), seed)

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


def _permuted(weights: Iterable[nn.Parameter], seed: int) -> list[tuple[nn.Parameter, Tensor]]:
    """Return weights with permuted copies of their values, of the same shapes and strides.

    Weights that share memory are copied together, and share the copy.
    """
    sharing: dict[object, list[nn.Parameter]] = {}
    for weight in weights:
        place = weight.device, weight.data.untyped_storage().data_ptr(), weight.dtype
        sharing.setdefault(place, []).append(weight)
    with ThreadPoolExecutor() as pool:
        copies = list(pool.map(_permuted_together, sharing.values(), _seeds(seed, len(sharing))))
    return [pair for of in copies for pair in of]


def _seeds(seed: int, count: int) -> list[tuple[int, int]]:
    return [(seed, place) for place in range(count)]


def _permuted_together(
    weights: Sequence[nn.Parameter], seed: tuple[int, int]
) -> list[tuple[nn.Parameter, Tensor]]:
    """Return permuted copies of weights on one storage; what overlaps is permuted once."""
    starts = [weight.storage_offset() for weight in weights]
    ends = [start + _reach(weight) for start, weight in zip(starts, weights, strict=True)]
    first, length = min(starts), max(ends) - min(starts)
    copy = weights[0].data.as_strided((length,), (1,), first).clone()
    touched = torch.zeros(length if len(weights) > 1 else 0, dtype=torch.bool)
    generator, found = np.random.default_rng(seed), []
    for weight, start in zip(weights, starts, strict=True):
        place = weight.shape, weight.stride(), start - first
        values = copy.as_strided(*place)
        found.append((weight, values))
        if len(weights) > 1:
            own = _distinct(touched.as_strided(*place))
            if own.any():
                continue
            own.fill_(True)
        _shuffle(_distinct(values), generator)
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


def _shuffle(values: Tensor, generator: np.random.Generator) -> None:
    """Permute the elements of a tensor in place; a dense one on the CPU takes no further memory."""
    flat = values.reshape(-1)
    host = flat.cpu()
    generator.shuffle(_array(host))
    if host.data_ptr() != values.data_ptr():
        values.copy_(host.view(values.shape))


def _array(flat: Tensor) -> NDArray[np.generic]:
    """Return a tensor's memory as an array of a type that NumPy has."""
    array: NDArray[np.generic] = flat.view(_SAME_SIZE.get(flat.element_size(), flat.dtype)).numpy()
    return array
