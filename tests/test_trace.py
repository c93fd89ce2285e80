"""LayerTrace: captures what modules returned, whatever follows, and leaves nothing behind."""

import weakref

import pytest
import torch
from helpers.nets import toy_net
from torch import Tensor, nn
from torch.testing import assert_close

from camreport.errors import LayerError
from camreport.network.trace import LayerTrace


@pytest.fixture
def images() -> Tensor:
    """Two inputs of toy_net."""
    return torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1)).double()


class AddsInPlace(nn.Module):
    """A residual block that changes its convolution's output by functions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1).double()

    def forward(self, x: Tensor) -> Tensor:
        """Add and rectify in place."""
        out = self.conv(x)
        out += x
        return torch.relu_(out)


class RunsTwice(nn.Module):
    """One ReLU used twice, as in ResNet's blocks; ``spare`` never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1).double()
        self.relu = nn.ReLU(inplace=True)
        self.spare = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Run conv and relu twice each."""
        return self.relu(self.conv(self.relu(self.conv(x))) - x)


class ReturnsPair(nn.Module):
    """A module that returns more than one tensor."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return a tuple."""
        return x, x


class Fails(nn.Module):
    """A module that does not work."""

    def forward(self, x: Tensor) -> Tensor:
        """Raise."""
        raise ValueError("broken on purpose")


class Unhookable(nn.Module):
    """A module that takes no hooks."""

    def register_forward_hook(self, *args: object, **kwargs: object) -> None:
        """Raise."""
        raise RuntimeError("no hooks here")


def hook_count(model: nn.Module) -> int:
    """Count the hooks on a model and all its modules."""
    return sum(
        len(hooks)
        for module in model.modules()
        for name, hooks in vars(module).items()
        if name.endswith("_hooks") and not name.startswith(("_state", "_load_state"))
    )


def test_trace_keeps_the_output_that_an_inplace_relu_overwrites(images):
    net = toy_net()
    expected = net[0](images).detach()
    with LayerTrace({"0": net[0], "1": net[1]}) as trace:
        net(images)
        assert torch.equal(trace["0"], expected)
        assert trace["0"].min() < 0
        assert torch.equal(trace["1"], expected.relu())


def test_trace_keeps_the_output_that_a_functional_inplace_operation_overwrites(images):
    net = AddsInPlace()
    expected = net.conv(images).detach()
    with LayerTrace({"conv": net.conv}) as trace:
        returned = net(images)
        assert torch.equal(trace["conv"], expected)
        assert torch.equal(returned, (expected + images).relu())


@pytest.mark.parametrize("frozen", [False, True])
def test_trace_changes_neither_outputs_nor_gradients(images, frozen):
    net = toy_net().requires_grad_(not frozen)
    plain = net(images)
    with LayerTrace({str(place): net[place] for place in range(5)}) as trace:
        logits = net(images)
        activations = [trace[str(place)] for place in range(5)]
        gradients = torch.autograd.grad(logits[:, 1].sum(), activations)
    assert torch.equal(logits, plain)
    for place in range(5):
        activation = activations[place].detach().requires_grad_()
        tail = net[place + 1 :](activation.clone())  # a ReLU in place may come next
        (expected,) = torch.autograd.grad(tail[:, 1].sum(), activation)
        assert_close(gradients[place], expected)


def test_trace_starts_the_graph_at_the_earliest_layer_when_parameters_are_frozen(images):
    net = toy_net().requires_grad_(False)
    with LayerTrace({"2": net[2], "3": net[3]}) as trace:
        net(images)
        assert trace["2"].is_leaf
        assert trace["2"].requires_grad
        assert not trace["3"].is_leaf
        assert trace["3"].requires_grad
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_trace_keeps_the_graph_when_parameters_are_trainable(images):
    net = toy_net()
    with LayerTrace({"0": net[0]}) as trace:
        logits = net(images)
        assert not trace["0"].is_leaf
        (gradient,) = torch.autograd.grad(logits.sum(), net[0].weight)
    (expected,) = torch.autograd.grad(net(images).sum(), net[0].weight)
    assert_close(gradient, expected)


def test_trace_passes_an_integer_tensor_on_untouched():
    words = nn.Identity()
    with LayerTrace({"words": words}) as trace:
        assert words(torch.arange(3)).tolist() == [0, 1, 2]
        assert trace["words"].tolist() == [0, 1, 2]


def test_trace_finds_each_call_of_a_module_that_runs_twice(images):
    net = RunsTwice()
    with LayerTrace({"relu": net.relu, "conv": net.conv}) as trace:
        returned = net(images)
        first = net.conv(images).relu()
        assert torch.equal(trace["relu#0"], first)
        assert torch.equal(trace["conv#1"], net.conv(first))
        assert torch.equal(trace["relu#1"], returned)


def test_trace_gives_the_tensors_of_every_call(images):
    net = RunsTwice()
    with LayerTrace(
        {"conv": net.conv, "spare": net.spare, "pair": (pair := ReturnsPair())}
    ) as trace:
        net(images)
        pair(images)
        first, second = trace.calls("conv")
        assert torch.equal(first, net.conv(images))
        assert torch.equal(second, net.conv(first.relu()))
        assert trace.calls("spare") == trace.calls("pair") == trace.calls("unknown") == []


def test_trace_tells_the_place_of_each_call_in_the_forward_pass(images):
    net = RunsTwice()
    with LayerTrace({"relu": net.relu, "conv": net.conv, "whole": net}) as trace:
        net(images)
        names = ["whole", "relu#1", "relu#0", "conv#1", "conv#0"]
        ordered = sorted(names, key=trace.position)
        assert ordered == ["conv#0", "relu#0", "conv#1", "relu#1", "whole"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("spare", "'spare' never ran"),
        ("spare#0", "'spare' never ran"),
        ("relu", "'relu' ran 2 times.*'relu#0' or 'relu#1'"),
        ("relu#2", "a call below 2, got 'relu#2'"),
        ("unknown", "'unknown' never ran"),
    ],
)
def test_trace_names_the_layer_and_the_remedy_when_a_call_is_missing(images, name, message):
    net = RunsTwice()
    with LayerTrace({"relu": net.relu, "spare": net.spare}) as trace:
        net(images)
        with pytest.raises(LayerError, match=message):
            trace[name]
        with pytest.raises(LayerError, match=message):
            trace.position(name)


def test_trace_refuses_an_output_that_is_no_tensor(images):
    pair = ReturnsPair()
    with LayerTrace({"pair": pair}) as trace:
        pair(images)
        with pytest.raises(LayerError, match="'pair' returned tuple"):
            trace["pair"]


def test_trace_hooks_only_inside_the_block(images):
    net = toy_net()
    trace = LayerTrace({"0": net[0], "3": net[3]})
    assert hook_count(net) == 0
    with trace:
        assert hook_count(net) == 2
        net(images)
    assert hook_count(net) == 0


def test_trace_leaves_no_hooks_when_forward_fails(images):
    net = nn.Sequential(nn.Conv2d(3, 3, 3).double(), Fails())
    with (
        pytest.raises(ValueError, match="broken on purpose"),
        LayerTrace({"0": net[0], "1": net[1]}),
    ):
        net(images)
    assert hook_count(net) == 0


def test_trace_leaves_no_hooks_when_entering_fails():
    net = nn.Sequential(nn.ReLU(), nn.ReLU(), Unhookable())
    modules = dict(net.named_modules())
    with (
        pytest.raises(RuntimeError, match="no hooks here"),
        LayerTrace({name: modules[name] for name in "012"}),
    ):
        pass
    assert hook_count(net) == 0


def test_trace_leaves_other_hooks_alone(images):
    net, seen = toy_net(), []
    net[0].register_forward_hook(lambda *_: seen.append("theirs"))
    with LayerTrace({"0": net[0]}):
        net(images)
    net(images)
    assert seen == ["theirs", "theirs"]
    assert hook_count(net) == 1


def test_trace_releases_its_tensors_on_exit(images):
    net = toy_net().requires_grad_(False)
    trace = LayerTrace({"0": net[0]})
    with trace:
        net(images)
        kept = weakref.ref(trace["0"])
        assert kept() is not None
    assert kept() is None
    with pytest.raises(LayerError, match="never ran"):
        trace["0"]


def test_trace_can_be_used_again(images):
    net = toy_net()
    trace = LayerTrace({"0": net[0]})
    for inputs in (images, -images):
        expected = net[0](inputs)
        with trace:
            net(inputs)
            assert torch.equal(trace["0"], expected)
