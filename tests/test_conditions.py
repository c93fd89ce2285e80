"""The model comes back as it was found: after Ctrl-C, from several threads, in half precision."""

import _thread
import math
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, fx, nn
from torch.testing import assert_close

from camreport import explain
from camreport.network.graph import follow
from camreport.network.state import interrupts_deferred, preserved

PATCHED = ("__call__", "__getattr__")


def net(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Two convolutions and a head whose gradients vary over space."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3)),
        *(nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 16), nn.Tanh(), nn.Linear(16, 3)),
    ).to(dtype)


def images(count: int = 2) -> Tensor:
    """Noise, ``(N, 3, 12, 12)``."""
    return torch.randn(count, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@contextmanager
def nothing_left_behind() -> Iterator[None]:
    """Demand that torch and the handler of Ctrl-C are afterwards as they were."""
    kept = {name: nn.Module.__dict__[name] for name in PATCHED}
    handler, ceil = signal.getsignal(signal.SIGINT), math.ceil
    yield
    assert {name: nn.Module.__dict__[name] for name in PATCHED} == kept
    assert signal.getsignal(signal.SIGINT) is handler
    assert math.ceil is ceil
    assert net().eval()(images()).shape == (2, 3)


# Ctrl-C


class Interrupted(nn.Module):
    """Is interrupted while torch.fx follows it."""

    def __init__(self, interrupt: Callable[[], object]) -> None:
        super().__init__()
        self.interrupt = interrupt
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.conv(x)
        if isinstance(x, fx.Proxy):
            self.interrupt()
        return self.head(x.relu().mean((2, 3)))


def raise_interrupt() -> None:
    """As if the key were pressed just here."""
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "interrupt",
    [raise_interrupt, lambda: signal.raise_signal(signal.SIGINT), _thread.interrupt_main],
    ids=["raised", "signal", "thread"],
)
def test_an_interrupt_while_a_model_is_followed_leaves_nothing_behind(interrupt):
    model = Interrupted(interrupt)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    with nothing_left_behind():
        with pytest.raises(KeyboardInterrupt):
            explain(model, images(), ["conv"], ["ablation_cam"])
        assert model.training
        assert [parameter.requires_grad for parameter in model.parameters()] == flags


@pytest.mark.parametrize("place", ["patch_method", "revert_all_patches", "patch"])
def test_an_interrupt_while_torch_patches_its_modules_leaves_nothing_behind(monkeypatch, place):
    owner = fx._symbolic_trace._Patcher
    original = getattr(owner, place, None)
    if original is None:
        pytest.skip("this torch has no such step")

    def pressed(*args: object, **options: object) -> object:
        signal.raise_signal(signal.SIGINT)
        found = original(*args, **options)
        return found

    monkeypatch.setattr(owner, place, pressed)
    with nothing_left_behind(), pytest.raises(KeyboardInterrupt):
        follow(net().eval())


def test_a_second_interrupt_does_not_wait():
    done: list[str] = []
    with nothing_left_behind():

        def press_twice() -> None:
            with interrupts_deferred():
                signal.raise_signal(signal.SIGINT)
                done.append("went on")
                signal.raise_signal(signal.SIGINT)
                done.append("never")

        with pytest.raises(KeyboardInterrupt):
            press_twice()
        assert done == ["went on"]


def test_an_interrupt_waits_until_the_model_is_put_back():
    model, pressed = net(), []

    class Slow(nn.Conv2d):
        """Ctrl-C is pressed while its mode is put back."""

        def __setattr__(self, name: str, value: object) -> None:
            if name == "training" and value is True and getattr(self, "armed", False):
                pressed.append(name)
                signal.raise_signal(signal.SIGINT)
            super().__setattr__(name, value)

    model[3] = Slow(8, 8, 3)
    model[3].armed = True
    with nothing_left_behind():
        with pytest.raises(KeyboardInterrupt):
            explain(model, images(), ["4"])
        assert pressed
        assert all(part.training for part in model.modules())
        assert all(parameter.requires_grad for parameter in model.parameters())


# Threads


def test_one_model_explained_from_several_threads_gives_equal_maps():
    model = net()
    methods = "grad_cam,layer_cam,ablation_cam,recipro_cam,full_grad,eigen_cam"
    expected = explain(model, images(), ["2", "4"], methods, [0, 1])
    start = threading.Barrier(4)

    def one(_number: int) -> dict[str, dict[str, Tensor]]:
        start.wait(60)
        return explain(model, images(), ["2", "4"], methods, [0, 1]).maps

    with nothing_left_behind(), ThreadPoolExecutor(4) as threads:
        for maps in threads.map(one, range(12)):
            assert_close(maps, expected.maps, rtol=1e-5, atol=1e-6)
    assert all(part.training for part in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


# Half precision, parameters without values


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_weights_are_computed_with_in_float32(dtype):
    model = net(dtype)
    model.register_buffer("own", torch.ones(3, dtype=dtype))
    before = {
        key: (value, value.clone()) for key, value in model.state_dict(keep_vars=True).items()
    }
    plain = net(dtype).float().eval()  # the same values, in float32
    methods = "layer_cam,grad_cam,ablation_cam"
    e = explain(model, images().to(dtype), ["2", "4"], methods, [0, 1])
    for layer, place in (("2", 3), ("4", 5)):
        for k in range(2):
            activation = plain[:place](images().to(dtype).float()).detach().requires_grad_()
            logits = plain[place:](activation)
            (gradient,) = torch.autograd.grad(logits[:, k].sum(), activation)
            cam = (gradient.clamp(min=0) * activation).sum(1).detach()
            assert_close(e.maps["layer_cam"][layer][:, k], cam, rtol=1e-5, atol=1e-6)
            assert_close(e.logits, logits.detach(), rtol=1e-5, atol=1e-6)
    assert model.training
    for key, value in model.state_dict(keep_vars=True).items():
        assert value is before[key][0]
        assert value.dtype == before[key][1].dtype
        assert torch.equal(value, before[key][1])
        assert value.requires_grad == before[key][1].requires_grad


@pytest.mark.parametrize("fails", ["lazy", "meta"])
def test_flags_come_back_where_a_model_cannot_be_explained(fails):
    parts = {"lazy": nn.LazyLinear(2), "meta": nn.Linear(8 * 64, 2, device="meta")}
    model = nn.Sequential(
        nn.Conv2d(3, 8, 5), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), parts[fails]
    )
    model.append(nn.LazyBatchNorm1d() if fails == "lazy" else nn.BatchNorm1d(2, device="meta"))
    frozen = model[0].bias.requires_grad_(False)

    def fail() -> None:
        with preserved(model):
            assert not any(parameter.requires_grad for parameter in model.parameters())
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fail()
    assert all(part.training for part in model.modules())
    assert [p for p in model.parameters() if not p.requires_grad] == [frozen]


class OddBuffers(nn.Module):
    """A net with buffers of every layout, whose forward moves one of each that can be moved."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("expanded", torch.ones(1).expand(5))
        self.register_buffer("across", torch.arange(6.0).reshape(2, 3).T)
        self.register_buffer("empty", torch.empty(0))
        self.register_buffer("flags", torch.tensor([True, False]))
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("conjugate", torch.tensor([1 + 2j]).conj())
        self.register_buffer("sparse", torch.eye(3).to_sparse())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the mean of each image, and count the call in several buffers."""
        for buffer in (self.across, self.count, self.conjugate, self.sparse):
            buffer.mul_(2)
        self.flags.logical_not_()
        return images.mean((1, 2, 3))


def test_buffers_of_every_layout_come_back_with_their_values() -> None:
    net = OddBuffers()
    before = {name: buffer.to_dense().tolist() for name, buffer in net.named_buffers()}
    objects = dict(net.named_buffers())
    with preserved(net):
        net(torch.ones(1, 3, 4, 4))
        assert net.count.item() == 6
    assert dict(net.named_buffers()).keys() == objects.keys()
    for name, buffer in net.named_buffers():
        assert buffer is objects[name]
        assert buffer.to_dense().tolist() == before[name], name
