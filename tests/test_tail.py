"""The tail of a network: found in its code, the same as the network, and nothing left behind."""

from collections.abc import Callable

import pytest
import torch
from helpers import reference
from helpers.nets import toy_net
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from camreport import explain
from camreport.network.graph import Tail, find_head, find_tail, follow


def images(count: int = 2) -> Tensor:
    """Inputs of 8 x 8, float64."""
    generator = torch.Generator().manual_seed(6)
    return torch.randn(count, 3, 8, 8, generator=generator, dtype=torch.float64)


class Net(nn.Module):
    """A convolution and a way from its output ``(N, 6, 8, 8)`` to logits."""

    def __init__(self, behind: Callable[..., Tensor], *parts: nn.Module) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 6, 3, padding=1)
            self.parts = nn.ModuleList(parts)
            self.linear = nn.LazyLinear(3)
            self.behind = behind
            self.double().eval()(images())

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.behind(self, self.conv(x))


def net_of(*parts: nn.Module) -> nn.Module:
    """Make a net whose convolution is followed by modules, a flattening and a linear layer."""

    def behind(net: Net, value: Tensor) -> Tensor:
        for part in net.parts:
            value = part(value)
        return net.linear(value.flatten(1))

    return Net(behind, *parts)


# What follows a layer: ablation through it equals ablation by hooks, one channel at a time


def halves(net: Net, value: Tensor) -> Tensor:
    left, right = value.relu().chunk(2, 1)
    return net.linear((left * right.sigmoid()).flatten(1))


BEHIND = {
    "linear": net_of(),
    "in place": net_of(nn.ReLU(inplace=True), nn.Conv2d(6, 5, 3), nn.ReLU(inplace=True)),
    "convolution": net_of(nn.Conv2d(6, 5, 3, padding=1), nn.Tanh()),
    "strides": net_of(nn.Conv2d(6, 5, (3, 2), stride=(2, 1), padding=(1, 0), dilation=2), nn.ELU()),
    "no bias": net_of(nn.MaxPool2d(2), nn.Conv2d(6, 5, 2, bias=False), nn.Tanh()),
    "normalised": net_of(nn.BatchNorm2d(6), nn.PReLU(6), nn.Conv2d(6, 5, 3), nn.Tanh()),
    "not at zero": net_of(nn.Sigmoid(), nn.MaxPool2d(2), nn.Conv2d(6, 5, 3), nn.Tanh()),
    "flat and not at zero": net_of(nn.Sigmoid(), nn.Flatten(), nn.GELU()),
    "pooled": net_of(nn.Tanh(), nn.AdaptiveMaxPool2d((2, 3)), nn.Dropout(), nn.Flatten()),
    "groups": net_of(nn.Conv2d(6, 6, 3, groups=3), nn.Tanh()),
    "depthwise": net_of(nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 4, 1), nn.Tanh()),
    "same": net_of(nn.Conv2d(6, 5, 3, padding="same"), nn.Tanh()),
    "reflected": net_of(nn.Conv2d(6, 5, 3, padding=1, padding_mode="reflect"), nn.Tanh()),
    "transposed": net_of(nn.ConvTranspose2d(6, 4, 2), nn.Tanh()),
    "across channels": net_of(nn.GroupNorm(2, 6), nn.LocalResponseNorm(3), nn.Tanh()),
    "flat in space": net_of(nn.Flatten(2), nn.Linear(64, 7), nn.Tanh()),
    "linear in a row": net_of(nn.Linear(8, 4), nn.Tanh()),
    "two ways": Net(lambda net, v: net.linear(v.relu().amax((2, 3)) * v.mean((2, 3)))),
    "chunks": Net(halves),
    "functions": Net(
        lambda net, v: net.linear(functional.max_pool2d(functional.relu(v), 2).flatten(1))
    ),
    "turned": Net(lambda net, v: net.linear(v.transpose(1, 2).flatten(1).tanh())),
}


@pytest.mark.parametrize("name", BEHIND)
def test_ablation_through_the_tail_equals_ablation_by_hooks(name):
    net = BEHIND[name]
    tail = find_tail(follow(net, ["conv"]), "conv")
    assert isinstance(tail, Tail)
    cams = explain(net, images(), ["conv:pre"], ["ablation_cam"], "all").maps["ablation_cam"]
    for n, image in enumerate(images()):
        for target in range(3):
            expected = reference.ablation_cam(net, net.conv, image, target)
            size = float(expected.abs().amax())
            assert size > 0
            found = cams["conv:pre"][n, target].double()
            assert_close(found, expected, rtol=1e-5, atol=1e-5 * size)


@pytest.mark.parametrize("name", BEHIND)
def test_tail_gives_the_logits_of_the_network(name):
    net = BEHIND[name]
    tail = find_tail(follow(net, ["conv"]), "conv")
    with torch.no_grad():
        assert tail.before is None
        assert_close(tail.after(net.conv(images())), net(images()))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_ablation_respects_a_hook_that_changes_what_a_module_returns(place):
    net = net_of(nn.ReLU(), nn.Conv2d(6, 5, 3, padding=1), nn.Tanh())
    net.parts[place].register_forward_hook(lambda _module, _inputs, out: out * out.mean(1)[:, None])
    cams = explain(net, images(1), ["conv:pre"], ["ablation_cam"], [0]).maps["ablation_cam"]
    expected = reference.ablation_cam(net, net.conv, images()[0], 0)
    assert_close(cams["conv:pre"][0, 0].double(), expected, rtol=1e-5, atol=1e-6)


# What cannot be followed


class Leaves(nn.Module):
    """A net whose forward leaves things on itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4 * 36, 2)
        self.last = None
        self.calls = 0
        self.seen: list[object] = []
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of 8 x 8 images."""
        self.calls += 1
        self.last = self.conv(x)
        self.last.note = "new"
        self.conv.shape = x.shape
        self.fresh = self.last.mean()
        return self.head(self.last.relu().flatten(1)) + 0 * self.fresh


class Remembers(Leaves):
    """A net that keeps a list of what it has computed."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of 8 x 8 images."""
        logits = super().forward(x)
        self.seen.append(logits)
        return logits


class Fails(Leaves):
    """A net that leaves things on itself and then decides on values."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of 8 x 8 images."""
        logits = super().forward(x)
        return logits if logits.sum() < 1e9 else -logits


@pytest.mark.parametrize("make_net", [Leaves, Fails])
def test_tracing_leaves_a_model_as_it_was(make_net):
    net = make_net()
    before = {name: dict(part.__dict__) for name, part in net.named_modules()}
    assert (follow(net) is None, follow(net, ["conv"]) is None) == (make_net is Fails,) * 2
    after = {name: dict(part.__dict__) for name, part in net.named_modules()}
    assert after.keys() == before.keys()
    for name, attributes in before.items():
        assert after[name].keys() == attributes.keys(), name
        assert all(after[name][key] is value for key, value in attributes.items()), name
    assert (net.calls, net.last, hasattr(net, "fresh")) == (0, None, False)


def test_tracing_leaves_a_models_lists_as_they_were():
    net = Remembers()
    assert find_tail(follow(net, ["conv"]), "conv") is not None
    assert net.seen == []


def test_explain_leaves_nothing_symbolic_on_a_model():
    net = Leaves()
    explain(net, images(), ["conv"], ["ablation_cam", "guided_backprop"], [0])
    assert type(net.last) is Tensor
    assert isinstance(net.conv.shape, torch.Size)


# The head that CAM needs


def pooled(pool: nn.Module, *parts: nn.Module) -> nn.Sequential:
    """Features, what is in front of the pooling, the pooling, and one linear layer."""
    return nn.Sequential(nn.Conv2d(3, 6, 3), *parts, pool, nn.Flatten(), nn.Linear(6, 4))


class ByMean(nn.Module):
    """A net that pools by a mean of choice."""

    def __init__(self, mean: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.linear, self.mean = nn.Conv2d(3, 6, 3), nn.Linear(6, 4), mean

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.linear(self.mean(self.conv(x)))


@pytest.mark.parametrize(
    ("net", "reads", "rectified"),
    [
        (pooled(nn.AdaptiveAvgPool2d(1)), "0", False),
        (pooled(nn.AdaptiveAvgPool2d((1, 1))), "0", False),
        (pooled(nn.AdaptiveAvgPool2d(1), nn.ReLU(inplace=True)), "0", True),
        (pooled(nn.AdaptiveAvgPool2d(1), nn.ReLU(inplace=True)), "1", False),
        (pooled(nn.AdaptiveAvgPool2d(1), nn.Identity(), nn.Dropout()), "0", False),
        (ByMean(lambda a: a.mean((2, 3))), "conv", False),
        (ByMean(lambda a: a.mean([-1, -2])), "conv", False),
        (ByMean(lambda a: a.mean(dim=(2, 3))), "conv", False),
        (ByMean(lambda a: torch.mean(torch.relu(a), (2, 3))), "conv", True),
        (ByMean(lambda a: functional.adaptive_avg_pool2d(a, 1).flatten(1)), "conv", False),
        (
            ByMean(lambda a: torch.flatten(functional.adaptive_avg_pool2d(a, (1, 1)), 1)),
            "conv",
            False,
        ),
    ],
)
def test_head_is_found_behind_the_last_features(net, reads, rectified):
    head = find_head(follow(net.eval(), [reads]), reads)
    linear = next(module for module in net.modules() if isinstance(module, nn.Linear))
    assert torch.equal(head.weight, linear.weight)
    assert head.rectified == rectified
    assert not head.weight.requires_grad


@pytest.mark.parametrize(
    "net",
    [
        pooled(nn.AdaptiveMaxPool2d(1)),
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 4)),
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.Linear(216, 4)),
        nn.Sequential(*pooled(nn.AdaptiveAvgPool2d(1)), nn.ReLU()),
        nn.Sequential(*pooled(nn.AdaptiveAvgPool2d(1)), nn.Linear(4, 3)),
        pooled(nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 6, 1)),
        pooled(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(6)),
        pooled(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.ReLU())),
        ByMean(lambda a: a.mean(2).mean(2)),
        ByMean(lambda a: a.mean((1, 3))),
        ByMean(lambda a: a.mean((2, 3)) + a.amax((2, 3))),
        ByMean(lambda a: a.mean((2, 3)) * 2),
    ],
    ids=[
        *("max", "2 x 2", "none", "ReLU at the end", "two linear", "convolution", "normalised"),
        *("ReLU behind", "one axis at a time", "other axes", "and max", "doubled"),
    ],
)
def test_head_is_nothing_else(net):
    layer = "conv" if isinstance(net, ByMean) else "0"
    assert find_head(follow(net.eval(), [layer]), layer) is None


def test_functions_are_what_the_code_calls():
    net = Net(lambda net, v: net.linear(functional.silu(v).tanh().flatten(1)))
    assert follow(net).functions == {functional.silu, "tanh", "flatten"}
    assert follow(toy_net()).functions == set()
