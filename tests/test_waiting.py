"""How often a batch makes the CPU wait for its device, counted without one.

Every call that reads a tensor's values in Python would wait for a GPU. The maps and the checks of a
batch travel by ``Transfer``, whose arrival is waited for once each.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.nets import spatial_net
from helpers.runs import QUICK, run, shards_of, tiny, write_images
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from camreport.engine.explainer import Explainer
from camreport.engine.transfer import Transfer, joined, taken_apart
from camreport.methods import METHODS
from camreport.methods.registry import MASKED, SHARED_MASKS
from camreport.pipeline.shard import one_behind

READING = {
    Tensor.cpu,
    Tensor.tolist,
    Tensor.item,
    Tensor.__bool__,
    Tensor.__int__,
    Tensor.__float__,
}
"""What reads values in Python, seen before it reaches a kernel."""

WAITING = {"_local_scalar_dense", "equal", "nonzero", "masked_select", "_unique2", "is_nonzero"}
"""Kernels whose result, or its shape, depends on values."""

WITHOUT_MASKS = [key for key, own in METHODS.items() if own.needs not in (MASKED, SHARED_MASKS)]
"""Methods that do not run thousands of masked images between two readings."""

MAX_WAITS = 3
"""The most times that the CPU may wait in one batch."""


class Reads(TorchFunctionMode):
    """Lists the calls that read values in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        if func in READING:
            self.calls.append(str(func))
        return func(*args, **(kwargs or {}))


class Kernels(TorchDispatchMode):
    """Lists the kernels that need values."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        name = str(getattr(func, "overloadpacket", func)).rpartition(".")[2]
        indices = args[1] if name in ("index", "index_put_") and len(args) > 1 else ()
        masks = [one for one in indices if isinstance(one, Tensor) and one.dtype == torch.bool]
        if name in WAITING or masks:
            self.calls.append(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def counted() -> Iterator[list[str]]:
    """Yield a list that holds, after the block, every call in it that would wait for a GPU."""
    found: list[str] = []
    with Kernels() as kernels, Reads() as reads:
        yield found
    found += kernels.calls + reads.calls


def images(count: int) -> Tensor:
    """Seeded images."""
    shape = (count, 3, 10, 8)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_what_would_wait_is_seen() -> None:
    values = torch.arange(4.0)
    with counted() as found:
        bool((values > 1).any())
        values[values > 1]
        torch.equal(values, values)
        values.cpu()
        values.tolist()
    assert len(found) >= 5


@pytest.mark.parametrize(
    "key", [k for k, m in METHODS.items() if m.needs not in (MASKED, SHARED_MASKS)]
)
def test_no_method_reads_values_within_a_batch(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net: nn.Module = spatial_net()
    begun: list[Transfer] = []
    arrays = Transfer.arrays
    monkeypatch.setattr(Transfer, "arrays", lambda own: (begun.append(own), arrays(own))[1])
    keys = ["grad_cam", *([] if key in ("grad_cam", "cam") else [key])]
    with Explainer(net, ["2", "5"], keys, input_shape=(3, 10, 8)) as explainer:
        explainer.probe(images(1), "all")
        begun.clear()
        with counted() as found:
            explainer(images(3), "all")  # a list of classes is checked where it is
    assert found == []
    assert len(begun) + 1 <= MAX_WAITS, "and one more for the maps"


def test_a_batch_waits_for_its_maps_once_the_next_one_is_under_way() -> None:
    steps: list[str] = []

    def begin(number: int) -> int:
        steps.append(f"begin {number}")
        return number

    for number in one_behind(map(begin, range(3))):
        steps.append(f"wait {number}")
    assert steps == ["begin 0", "begin 1", "wait 0", "begin 2", "wait 1", "wait 2"]


def test_a_run_waits_at_most_three_times_for_each_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, begun = write_images(tmp_path / "photos", 6), [0]

    class Counting(Transfer):
        def __init__(self, tensors: dict[str, Tensor]) -> None:
            begun[0] += bool(tensors)
            super().__init__(tensors)

    for module in ("engine.explained", "pipeline.shard"):
        monkeypatch.setattr(f"camreport.{module}.Transfer", Counting)
    run(photos, tmp_path / "out", tiny(), batch_size=2, evidence="off")
    assert 3 <= begun[0] <= MAX_WAITS * 3 + 1, "three batches, and the probe"


def test_arrays_of_every_type_arrive_as_they_were() -> None:
    """By way of the joined bytes, as from a GPU."""
    own = {
        "flag": torch.tensor(True),
        "maps": torch.randn(2, 3, 5, 4).transpose(2, 3),
        "targets": torch.tensor([[3], [1]]).expand(2, 3),
        "flags": torch.tensor([True, False, True]),
        "none": torch.empty(0, 4),
        "half": torch.randn(3).half(),
    }
    kinds = {name: (tensor.shape, tensor.dtype) for name, tensor in own.items()}
    found = taken_apart(joined(own, torch.device("cpu")), kinds)
    assert [*found] == [*own]
    for name, tensor in own.items():
        np.testing.assert_array_equal(found[name], tensor.numpy(), strict=True)


def test_a_run_of_many_batches_keeps_each_map_with_its_image(tmp_path: Path) -> None:
    photos = write_images(tmp_path / "photos", 5)
    run(photos, tmp_path / "one", tiny(), batch_size=1, evidence="off")
    run(photos, tmp_path / "five", tiny(), batch_size=5, evidence="off")
    (ones,), (fives,) = (shards_of(tmp_path / name).values() for name in ("one", "five"))
    for key in (f"{key}/features.2" for key in QUICK):
        np.testing.assert_allclose(ones[key], fives[key], rtol=1e-4, atol=1e-6)
