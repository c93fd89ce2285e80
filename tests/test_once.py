"""What is done once, and what stays small: traces, copies of buffers, frames, imports."""

import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from helpers.limits import explain_within, limits
from helpers.nets import pooled_net
from torch import Tensor, fx, nn

import camreport
from camreport import Explainer, explain
from camreport.network.graph import follow
from camreport.network.state import preserved

SHAPE = (3, 12, 12)


def images(count: int = 2) -> Tensor:
    """Noise in the place of photographs."""
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(0))


# torch.fx


def count_traces(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Return a list that grows with every model that torch.fx follows."""
    traced: list[nn.Module] = []
    original = fx.Tracer.trace

    def trace(self: fx.Tracer, root: nn.Module, *args: object) -> fx.Graph:
        traced.append(root)
        return original(self, root, *args)

    monkeypatch.setattr(fx.Tracer, "trace", trace)
    return traced


def test_a_model_is_followed_once_for_all_layers_methods_and_batches(monkeypatch):
    traced = count_traces(monkeypatch)
    net = nn.Sequential(pooled_net())
    layers = ["0.0", "0.0:pre", "0.2", "0.3"]
    methods = "cam,guided_backprop,ablation_cam,recipro_cam"
    with Explainer(net, layers, methods, input_shape=SHAPE) as explainer:
        for _ in range(3):
            explainer(images(), [0, 1])
    assert traced == [net]


def test_a_model_is_not_followed_where_no_method_needs_it(monkeypatch):
    traced = count_traces(monkeypatch)
    explain(pooled_net(), images(), ["0"], "grad_cam,layer_cam,score_cam")
    assert traced == []


class Decides(nn.Module):
    """A block whose code looks at a value."""

    def forward(self, x: Tensor) -> Tensor:
        """Double it where it is large."""
        return x * 2 if x.sum() > 1e9 else x


class PassesOn(nn.Module):
    """A block that returns what it was given, beside which its input goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.drop = nn.Conv2d(3, 4, 3), nn.Identity()
        self.drop_path = Unchanged()
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Add a branch to its own input."""
        x = self.conv(x)
        x = x + self.drop_path(x).tanh()
        return self.head(x.mean((2, 3)))


class Unchanged(nn.Module):
    """Returns its input itself, as a stochastic depth does in evaluation mode."""

    def forward(self, x: Tensor) -> Tensor:
        """Return it."""
        return x


def test_a_block_that_cannot_be_followed_is_one_step_where_it_is_asked_for():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), Decides(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    assert follow(net, ["0"]) is None
    assert follow(net, ["1"]) is not None


def test_a_block_that_returns_its_input_is_told_from_it():
    torch.manual_seed(0)
    net = PassesOn().eval()
    e = explain(net, images(1), ["drop_path"], "ablation_cam", [0])
    assert e.notes == ()
    with torch.no_grad():
        values, plain = net.conv(images(1)), net(images(1))[0, 0]
        expected = torch.zeros_like(values[0, 0])
        for channel in range(4):
            branch = values.clone()
            branch[:, channel] = 0
            changed = net.head((values + branch.tanh()).mean((2, 3)))[0, 0]
            expected += (plain - changed) * values[0, channel]
    torch.testing.assert_close(e.maps["ablation_cam"]["drop_path"][0, 0], expected)


# The state of the model


class ManyBuffers(nn.Module):
    """A net with a hundred buffers, one of which its forward changes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3), *(nn.BatchNorm2d(4) for _ in range(33)), nn.ReLU()
        )
        self.head = nn.Linear(4, 2)
        self.register_buffer("runs", torch.zeros((), dtype=torch.int64))
        self.register_buffer("short", torch.rand(3).half())
        self.register_buffer("unknown", torch.tensor([float("nan"), 1.0]))

    def forward(self, x: Tensor) -> Tensor:
        """Count the runs, through ``.data``, which no version counter sees."""
        self.runs.data += 1
        self.body[1].running_mean.data.mul_(0.5)
        return self.head(self.body(x).mean((2, 3)))


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the tensors that are compared: each comparison waits for the device."""
    sizes: list[int] = []
    original = torch.equal

    def equal(one: Tensor, other: Tensor) -> bool:
        sizes.append(one.numel())
        return original(one, other)

    monkeypatch.setattr(torch, "equal", equal)
    return sizes


def test_all_buffers_are_copied_and_compared_as_one_and_once_a_run(compared, monkeypatch):
    net, clones = ManyBuffers(), []
    original = Tensor.clone
    monkeypatch.setattr(Tensor, "clone", lambda t, **o: clones.append(t) or original(t, **o))
    explainer = Explainer(net, ["body"], input_shape=SHAPE)
    buffers = {id(buffer) for buffer in net.buffers()}
    compared.clear()
    with explainer:
        for _ in range(4):
            explainer(images())
    size = sum(buffer.numel() * buffer.element_size() for buffer in net.buffers())
    assert compared == [size]
    assert not [tensor for tensor in clones if id(tensor) in buffers]


@pytest.mark.parametrize("fails", [None, RuntimeError, KeyboardInterrupt])
def test_buffers_come_back_bit_for_bit_whatever_wrote_to_them(fails):
    net = ManyBuffers()
    before = {name: (one, one.clone()) for name, one in net.named_buffers()}

    def run() -> None:
        with preserved(net):
            net(images())
            net.short = net.short * 2
            if fails:
                raise fails

    if fails:
        with pytest.raises(fails):
            run()
    else:
        run()
    for name, buffer in net.named_buffers():
        assert buffer is before[name][0]
        raw = [one.reshape(-1).view(torch.uint8) for one in (buffer, before[name][1])]
        assert torch.equal(*raw), name


@pytest.mark.parametrize("methods", [["grad_cam", "layer_cam"], ["layer_cam_pool_gradient"]])
def test_gradients_of_a_class_are_freed_before_those_of_the_next_are_computed(monkeypatch, methods):
    alive: list[list[tuple[int, ...]]] = []
    found: list[weakref.ref[Tensor]] = []
    original = torch.autograd.grad

    def grad(*args: object, **options: object) -> tuple[Tensor, ...]:
        alive.append([tuple(one.shape) for ref in found if (one := ref()) is not None])
        gradients = original(*args, **options)
        found.extend(weakref.ref(one) for one in gradients if one is not None)
        return gradients

    monkeypatch.setattr(torch.autograd, "grad", grad)
    net, one_class = pooled_net(), limits(gradients=1)
    explain_within(one_class, net, images(), ["0", "3"], methods, targets=[0, 1, 2])
    assert len(found) >= 6
    assert alive == [[]] * 3


# Frames, hooks, imports


@pytest.mark.parametrize("targets", [[0], [0, 1]])
def test_five_frames_lead_from_explain_to_the_backward_pass(monkeypatch, targets):
    depths: list[list[str]] = []
    original = torch.autograd.grad
    package = str(Path(camreport.__file__).parent)

    def grad(*args: object, **options: object) -> object:
        frame, names = sys._getframe(1), []
        while frame is not None:
            if frame.f_code.co_filename.startswith(package):
                names.append(frame.f_code.co_name)
            frame = frame.f_back
        depths.append(names)
        return original(*args, **options)

    monkeypatch.setattr(torch.autograd, "grad", grad)
    explain(pooled_net(), images(), ["0", "3"], targets=targets)
    assert depths
    for names in depths:
        assert names[-1] == "explain"
        assert len(names[:-1]) <= 5, names


def test_hooks_are_put_on_modules_in_one_place():
    package = Path(camreport.__file__).parent
    users = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "register_forward" in path.read_text(encoding="utf-8")
    ]
    assert users == ["network/trace.py"]


IMPORTS = """
import sys, torch
from torch import nn
from camreport import explain
net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                    nn.Linear(4, 2))
explain(net, torch.rand(2, 3, 12, 12), ["0"], "all", [0, 1], smooth="noise,aug,eigen")
explain(net, torch.rand(2, 3, 12, 12), methods="grad_cam")
print([name for name in ("torchvision", "torch._dynamo", "timm") if name in sys.modules])
"""


def test_the_engine_imports_neither_torchvision_nor_torchs_compiler():
    command = [sys.executable, "-c", IMPORTS]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
