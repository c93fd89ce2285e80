"""Further forward passes: as few and as small as promised, told of, and right without a tail."""

import gc
from collections.abc import Iterator
from dataclasses import fields
from itertools import pairwise

import pytest
import torch
from helpers import reference
from helpers.limits import explain_within, limits
from helpers.nets import pooled_net, toy_net
from torch import Tensor, fx, nn
from torch.testing import assert_close

from camreport import explain
from camreport.engine import perturbation as perturb
from camreport.engine.memory import Budget, Limits
from camreport.methods import METHODS

MASKED = ("score_cam", "score_cam_pgc", "score_cam_torchcam")
WITH_TAIL = ("ablation_cam", "recipro_cam")
CHANGES = tuple(key for key, method in METHODS.items() if method.needs.perturbs)
LARGE = 10**9


def images(count: int = 2, size: int = 12) -> Tensor:
    """Inputs of toy_net, float64."""
    generator = torch.Generator().manual_seed(8)
    return torch.randn(count, 3, size, size, generator=generator, dtype=torch.float64)


def record_rows(net: nn.Module) -> list[int]:
    """Return a list that grows with every pass of a module: the rows it was handed."""
    rows: list[int] = []
    net.register_forward_pre_hook(
        lambda _module, given: rows.append(len(given[0])) if type(given[0]) is Tensor else None
    )
    return rows


class Scale(nn.Module):
    """Multiplies channels by fixed numbers; a zero makes one dead."""

    def __init__(self, *factors: float) -> None:
        super().__init__()
        self.factors = torch.tensor(factors, dtype=torch.float64)[:, None, None]

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        return x * self.factors


def scaled_net(*factors: float) -> nn.Sequential:
    """toy_net with a module behind its first ReLU that multiplies the channels."""
    net = toy_net()
    return nn.Sequential(*net[:2], Scale(*factors), *net[2:])


# How much at a time


def small(**budget: int) -> Limits:
    """Return limits with a budget that is small in some respects only."""
    return limits(**{field.name: LARGE for field in fields(Budget)} | budget)


def record_passes(net: nn.Sequential) -> list[tuple[int, int]]:
    """Return a list that grows with every pass that reaches the end: its rows, and its bytes.

    The bytes are those that the layers in front of the end have returned since the last time.
    """
    passes: list[tuple[int, int]] = []
    returned = 0

    def count(_module: nn.Module, _given: object, output: Tensor) -> None:
        nonlocal returned
        returned += output.numel() * output.element_size()

    def note(_module: nn.Module, given: tuple[Tensor]) -> None:
        nonlocal returned
        if type(given[0]) is Tensor:
            passes.append((len(given[0]), returned))
        returned = 0

    for module in net[:-1]:
        module.register_forward_hook(count)
    net[-1].register_forward_pre_hook(note)
    return passes


@pytest.mark.parametrize("key", CHANGES)
@pytest.mark.parametrize("budget", [{"images": 3}, {"activations": 70_000}, {"activations": 0}])
def test_variants_are_cut_into_chunks_of_the_budget(key, budget):
    given = (["0", "3"], [key], [0, 1])
    plain = explain(toy_net(), images(1), *given)
    net = toy_net()
    passes = record_passes(net)
    e = explain_within(small(**budget), net, images(1), *given)
    assert e.cost.variants == plain.cost.variants
    assert_close(e.maps, plain.maps, rtol=1e-5, atol=1e-7)
    if "images" in budget:  # a tail's are smaller
        most = 8 * 3 if key in WITH_TAIL else 3
        assert max(rows for rows, _ in passes) == min(most, 8 if key == "ablation_cam" else most)
    else:
        least = 2 if key in WITH_TAIL else 1  # a tail is tried with one image too many
        assert all(size <= budget["activations"] or rows <= least for rows, size in passes)
        assert (max(rows for rows, _ in passes) > least) == (budget["activations"] > 0)


@pytest.mark.parametrize("key", MASKED)
def test_chunks_take_masks_of_several_images(key):
    net = toy_net()
    rows = record_rows(net)
    explain_within(small(images=8), net, images(3), ["0"], [key], [0])
    assert rows == [3, 1, 8, 8, 2]  # images, a blank one for dead channels, 3 x 6 masks


def live_bytes() -> int:
    """Return the bytes of all tensors made since the collector's last freeze."""
    return sum(
        tensor.numel() * tensor.element_size()
        for tensor in gc.get_objects()
        if type(tensor) is Tensor
    )


@pytest.fixture
def only_new() -> Iterator[None]:
    """Let the collector list what a test makes, not all that other tests have left."""
    gc.freeze()
    yield
    gc.unfreeze()


def sizes_of_each_pass(part: nn.Module, every: int) -> list[int]:
    """Return a list that grows with the bytes that exist, at some of the passes of a part."""
    rows, sizes = record_rows(part), []
    gc.collect()

    def look(_module: nn.Module, _given: object) -> None:
        if len(rows) % every == 0:
            sizes.append(live_bytes())

    part.register_forward_pre_hook(look)
    return sizes


@pytest.mark.usefixtures("only_new")
@pytest.mark.parametrize("key", CHANGES)
def test_memory_does_not_grow_with_the_number_of_variants(key):
    net = toy_net()
    sizes = sizes_of_each_pass(net[7], every=3)
    explain_within(small(images=1), net, images(12), ["2"], [key], [0])
    assert len(sizes) >= 3
    assert sizes[-1] - sizes[0] < 8 * images(1).numel() * 8, "a chunk"


@pytest.mark.usefixtures("only_new")
def test_smoothing_copies_do_not_pile_up():
    net = toy_net()
    sizes = sizes_of_each_pass(net, every=6)
    explain(net, images(4), ["0", "3"], ["grad_cam"], [0], smooth="noise,aug")
    assert len(sizes) == 4
    assert sizes[-1] - sizes[0] < images(4).numel() * 8, "one copy"


# What is not asked


@pytest.mark.parametrize("key", MASKED)
@pytest.mark.parametrize("factors", [(1, 0, 2, 0, 0, 1), (0,) * 6, (1, 1, 1, 1, 1, 1)], ids=str)
def test_one_blank_image_stands_for_all_dead_channels(key, factors):
    net = scaled_net(*factors)
    rows = record_rows(net)
    e = explain(net, images(), ["2"], [key], "all")
    live = sum(factor != 0 for factor in factors)
    assert sum(rows) == 2 + 1 + 2 * live
    assert e.costs["masked"].variants == 2 * 6
    for n, image in enumerate(images()):
        for target in range(4):
            expected = getattr(reference, key)(net, net[2], image, target)
            found = e.maps[key]["2"][n, target].double()
            assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("key", CHANGES)
def test_all_classes_come_from_the_same_passes(key):
    net = toy_net()
    net[8] = nn.Linear(10, 10).double()
    rows = [record_rows(net) for _ in range(2)]
    one = explain(net, images(), ["0", "3"], [key], [7])
    rows[1].clear()
    ten = explain(net, images(), ["0", "3"], [key], "all")
    assert rows[0] == 2 * rows[1]
    assert (one.cost.forwards, one.cost.variants) == (ten.cost.forwards, ten.cost.variants)
    assert ten.cost.backwards == 0
    for layer, cam in one.maps[key].items():
        assert torch.equal(ten.maps[key][layer][:, [7]], cam)


@pytest.mark.parametrize("size", [14, 15])
def test_all_leaves_recipro_cam_out_at_large_grids(size):
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(196, 2)
    ).double()
    given = (net, images(1, size), ["0", "2"])
    e = explain(*given, "all")
    assert list(e.maps["recipro_cam"]) == (["0", "2"] if size == 14 else ["2"])
    skips = [skip for skip in e.skipped if skip.method == "recipro_cam"]
    assert [skip.layer for skip in skips] == ([] if size == 14 else ["0"])
    assert all("225 positions of 0" in str(skip.reason) for skip in skips)
    for asked in ("recipro_cam", "all, recipro_cam", ["Recipro-CAM", "all"]):
        named = explain(*given, asked)
        assert list(named.maps["recipro_cam"]) == ["0", "2"]
        assert torch.equal(named.maps["recipro_cam"]["2"], e.maps["recipro_cam"]["2"])


# Progress


def shares_of(keys: tuple[str, ...], count: int = 2) -> list[float]:
    """Return which shares of a batch's further passes were told of."""
    net, shares = toy_net().eval(), []
    few = small(images=1)
    explain_within(few, net, images(count), ["0", "3"], keys, [0, 1], progress=shares.append)
    return shares


@pytest.mark.parametrize(
    "keys", [*((key,) for key in CHANGES), ("grad_cam", *CHANGES)], ids=" ".join
)
def test_progress_rises_to_one(keys):
    shares = shares_of(keys)
    assert shares == sorted(shares)
    assert len(set(shares)) >= 4
    assert 0 <= shares[0] <= 0.3
    assert shares[-1] == 1
    assert shares.count(1) == 1
    variants = sum({"recipro_cam": 144 + 36}.get(key, 6 + 8) for key in keys if key in CHANGES)
    steps = [later - earlier for earlier, later in pairwise(shares)]
    assert max(steps) <= 8 / (2 * variants) + 1e-9


def test_progress_is_not_told_where_there_are_no_further_passes():
    assert shares_of(("grad_cam", "eigen_cam", "full_grad")) == []


# Without a tail


class Decides(nn.Module):
    """A net whose code asks for values, so that it cannot be followed without running it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 5, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(180, 7), nn.Tanh(), nn.Linear(7, 3))
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.relu(self.conv(x))
        if x.amax() < 0:
            x = -x
        return self.head(self.relu(self.pool(x) - 0.2))


class Twice(Decides):
    """The same net with a module for each call of its ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.again = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.relu(self.conv(x))
        return self.head(self.again(self.pool(x.abs() if x.amax() < 0 else x) - 0.2))


class Lies(Decides):
    """A net that does something else while its code is followed."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        value = self.pool(self.relu(self.conv(x)))
        value = value * 3 if isinstance(x, fx.Proxy) else value - 0.2
        return self.head(self.relu(value))


class LiesInShape(Decides):
    """A net whose code, as it is followed, cannot be run."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        value = self.relu(self.pool(self.relu(self.conv(x))) - 0.2)
        return self.head(value.flatten(1)[:, 1:] if isinstance(x, fx.Proxy) else value)


class Crosses(Decides):
    """A net with a way beside the layer on which there is not one value per image."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        offset = x.abs().mean() * 0 + torch.arange(3, device=x.device)
        return self.head(self.relu(self.pool(self.relu(self.conv(x))) - 0.2)) + offset


@pytest.mark.parametrize(
    "make_net",
    [
        Decides,
        Lies,
        Crosses,
        LiesInShape,
    ],
)
@pytest.mark.parametrize("layer", ["conv", "pool"])
def test_maps_are_right_where_the_code_cannot_be_trusted(make_net, layer):
    net = make_net().eval()
    rows = record_rows(net)
    e = explain(net, images(), [layer], WITH_TAIL, "all")
    assert sum(rows) == 2 + e.cost.variants, "the whole network runs"
    assert len(rows) == e.cost.forwards
    assert not any(part._forward_hooks for part in net.modules())
    for key in WITH_TAIL:
        for n, image in enumerate(images()):
            for target in range(3):
                expected = getattr(reference, key)(net, getattr(net, layer), image, target)
                found = e.maps[key][layer][n, target].double()
                assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_each_call_of_a_module_is_changed_by_itself():
    calls = explain(Decides(), images(), ["relu#0", "relu#1"], WITH_TAIL, "all").maps
    modules = explain(Twice(), images(), ["relu", "again"], WITH_TAIL, "all").maps
    for key in WITH_TAIL:
        for call, module in (("relu#0", "relu"), ("relu#1", "again")):
            assert calls[key][call].abs().amax() > 0
            assert_close(calls[key][call], modules[key][module], rtol=1e-5, atol=1e-7)


def test_a_tail_is_used_where_it_can_be(monkeypatch):
    monkeypatch.setattr(perturb, "whole_model", None)
    net = pooled_net()
    rows = record_rows(net)
    explain(net, images(), ["0", "2", "3"], WITH_TAIL, "all")
    assert rows == [2]


# Memory


@pytest.mark.parametrize("key", CHANGES)
def test_chunks_are_halved_where_memory_runs_out(key):
    plain = explain(toy_net(), images(), ["0"], [key], [0, 1])
    net = toy_net()

    def fail(_module: nn.Module, given: tuple[Tensor]) -> None:
        if type(given[0]) is Tensor and len(given[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    net[8].register_forward_pre_hook(fail)
    e = explain(net, images(), ["0"], [key], [0, 1])
    assert_close(e.maps, plain.maps, rtol=1e-5, atol=1e-9)
