"""Scrambled weights: what is permuted, and that the user's own come back bit for bit."""

import contextlib
import hashlib
import linecache
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from types import FrameType

import numpy as np
import pytest
import torch
from helpers.checkout import ROOT
from helpers.engine import LivedIn, assert_as_found, random_images, random_targets, state_of
from helpers.nets import EVERY, pooled_net, toy_net
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.testing import assert_close

from camreport import Explainer, explain
from camreport.errors import ModelError
from camreport.network import scrambled as module_under_test
from camreport.network import state
from camreport.network.scrambled import FixedWeightsError, permute, scrambled
from camreport.network.state import preserved


def fingerprint(net: nn.Module) -> str:
    """Return a digest of every value of a network, and of where and how it lies in memory."""
    digest = hashlib.sha256()
    for name, value in [*net.state_dict().items(), *net.named_parameters()]:
        place = value.data_ptr(), value.stride(), value.dtype, tuple(value.shape)
        digest.update(f"{name} {place}".encode())
        digest.update(value.detach().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def values_of(net: nn.Module) -> dict[str, Tensor]:
    """Return copies of a network's parameters."""
    return {name: value.detach().clone() for name, value in net.named_parameters()}


def tied() -> nn.Sequential:
    """Return a net with one parameter twice, one transposed, and one that is a part of another."""
    net = nn.Sequential(*(nn.Linear(6, 6) for _ in range(4)))
    net[1].weight = net[0].weight
    net[2].weight = nn.Parameter(net[0].weight.data.t())
    net[3].bias = nn.Parameter(net[0].weight.data[2])
    return net


def shared_storage() -> nn.Sequential:
    """Return a net whose weights are neighbouring columns of one block of memory."""
    net, block = nn.Sequential(nn.Linear(4, 5), nn.Linear(4, 5)), torch.randn(5, 8)
    net[0].weight, net[1].weight = (nn.Parameter(part) for part in block.split(4, 1))
    return net


def expanded() -> nn.Sequential:
    """Return a net in which all outputs have the same weights."""
    net = nn.Sequential(nn.Linear(50, 4))
    net[0].weight = nn.Parameter(torch.randn(1, 50).expand(4, -1), requires_grad=False)
    return net


def pruned() -> nn.Sequential:
    """Return a net that computes a weight before each pass and keeps it."""
    net = nn.Sequential(nn.Linear(9, 9))
    prune.random_unstructured(net[0], "weight", 0.5)
    return net


def with_lazy() -> nn.Sequential:
    """Return a net with a part that has never run."""
    net = toy_net()
    net.spare = nn.LazyLinear(3)
    return net


NETS: dict[str, Callable[[], nn.Module]] = {
    "lived_in": LivedIn,
    "half": lambda: toy_net().half(),
    "bfloat16": lambda: toy_net().bfloat16(),
    "channels_last": lambda: toy_net().float().to(memory_format=torch.channels_last),
    "tied": tied,
    "shared_storage": shared_storage,
    "expanded": expanded,
    "pruned": pruned,
    "weight_norm": lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(9, 9))),
    "lstm": lambda: nn.LSTM(5, 7, 2),
    "complex": lambda: nn.Sequential(nn.Linear(9, 9, dtype=torch.complex64)),
}
"""Networks whose weights lie in memory in different ways."""


@pytest.mark.parametrize("name", NETS)
def test_each_tensor_has_its_own_values_in_another_order(name):
    net = NETS[name]()
    before, buffers = values_of(net), {k: b.clone() for k, b in net.named_buffers()}
    with scrambled(net, 3):
        inside = values_of(net)
        assert_close(dict(net.named_buffers()), buffers, rtol=0, atol=0)
    moved = 0
    for key, value in before.items():
        rows = [torch.view_as_real(v) if v.is_complex() else v for v in (value, inside[key])]
        own, other = (v.float().reshape(-1).sort().values for v in rows)
        if name != "tied" or "bias" not in key:
            assert torch.equal(own, other), key
        moved += not torch.equal(value, inside[key])
    assert moved >= len(before) - 2, "a tensor of few elements may keep its order"


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_the_network_comes_back_bit_for_bit(name, guarded, error):
    net = NETS[name]()
    found, before = fingerprint(net), state_of(net) if name != "with_lazy" else {}

    def run() -> None:
        with scrambled(net, 0):
            assert fingerprint(net) != found
            if error:
                raise error

    def attempt() -> None:
        if error is None:
            run()
        else:
            with pytest.raises(error):
                run()

    if guarded:
        with preserved(net):
            attempt()
    else:
        attempt()
    assert fingerprint(net) == found
    assert_as_found(net, before)


def test_parameters_that_share_memory_stay_tied():
    net = tied()
    with scrambled(net, 1):
        assert net[1].weight is net[0].weight
        assert torch.equal(net[2].weight, net[0].weight.t())
        assert torch.equal(net[3].bias, net[0].weight[2])
        own = {id(p): p.data for p in net.parameters()}
    assert all(torch.isfinite(value).all() for value in own.values())
    wide = expanded()
    with scrambled(wide, 1):
        assert wide[0].weight.stride(0) == 0, "one row in memory, as before"


def test_copies_take_as_much_memory_as_the_weights():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(64, 64)).to(memory_format=torch.channels_last)
    net.append(nn.Linear(64, 64))
    net[2].weight = net[1].weight
    originals = {
        p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in net.parameters()
    }
    with scrambled(net, 0):
        copies = {
            p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in net.parameters()
        }
    assert not originals.keys() & copies.keys(), "the user's tensors are never written"
    assert sum(copies.values()) == sum(originals.values())


def test_weights_depend_on_the_seed_and_on_nothing_else():
    net = toy_net()
    found = []
    for seed in (1, 1, 2):
        torch.rand(3)  # other draws do not matter
        with scrambled(net, seed):
            found.append(values_of(net))
    assert_close(found[0], found[1], rtol=0, atol=0)
    assert not torch.equal(found[0]["0.weight"], found[2]["0.weight"])


@pytest.mark.parametrize(("few", "count"), [(10, 7), (4, 11)])
def test_each_value_is_equally_likely_at_each_place(monkeypatch, few, count):
    """11 values in rows of 3, and 2 left over; or an order drawn at once."""
    monkeypatch.setattr(module_under_test, "FEW_VALUES", few)
    counts, values, draws = np.zeros((count, count)), np.arange(count), 4000
    for seed in range(draws):
        found = np.full(count, -1)
        permute(values, found, np.random.default_rng(seed))
        assert (np.sort(found) == values).all()
        counts[np.arange(count), found] += 1
    deviation = np.sqrt(draws / count * (1 - 1 / count))
    assert np.abs(counts - draws / count).max() < 4.5 * deviation


def test_nothing_of_the_structure_of_a_large_tensor_stays():
    """Filters, inputs and places in a kernel differ by 3; after it, by what chance gives."""
    filters, inputs, places = (np.arange(n) % 2 * 3.0 for n in (256, 64, 9))
    weights = filters[:, None, None] + inputs[:, None] + places
    found = np.empty_like(weights)
    permute(weights.ravel(), found.reshape(-1), np.random.default_rng(0))
    assert (np.sort(found, None) == np.sort(weights, None)).all()
    spread = weights.std()
    for axes in ((1, 2), (0, 2), (0, 1)):
        means = found.mean(axes)
        chance = spread / np.sqrt(weights.size / means.size)
        assert weights.mean(axes).std() > 10 * chance
        assert means.std() < 1.5 * chance
    neighbours = found - found.mean()
    assert abs((neighbours[..., 1:] * neighbours[..., :-1]).mean()) < 0.02 * spread**2
    alike = np.corrcoef(found.reshape(256, -1)[:40])
    assert np.abs(alike[~np.eye(40, dtype=bool)]).max() < 5 / np.sqrt(64 * 9)


class Packed(nn.Module):
    """A module with a parameter in a format of its own."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(values, requires_grad=False)


def quantised() -> nn.Module:
    """Return a net whose linear layer is quantised."""
    with warnings.catch_warnings(action="ignore"):  # deprecated, and still in use
        return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)), {nn.Linear})


@pytest.mark.parametrize(
    ("net", "found"),
    [
        (nn.ReLU(), "none"),
        (Packed(torch.ones(4, dtype=torch.int8)), "'weight' of torch.int8"),
        (Packed(torch.eye(3).to_sparse()), "'weight' in a format of its own"),
        (quantised, "quantised ones in '0"),
    ],
)
def test_weights_that_cannot_be_permuted_are_refused_in_one_sentence(net, found):
    net = net if isinstance(net, nn.Module) else net()
    with pytest.raises(FixedWeightsError, match=f"can be permuted, got {found}"), scrambled(net, 0):
        pytest.fail("nothing is to run")
    assert issubclass(FixedWeightsError, ModelError)


def test_parts_that_have_never_run_are_left_out():
    net = with_lazy()
    with scrambled(net, 0):
        assert isinstance(net.spare.weight, nn.UninitializedParameter)
    assert isinstance(net.spare.weight, nn.UninitializedParameter)


def test_what_a_module_computes_from_its_weights_and_keeps_comes_back():
    net, x = pruned(), torch.randn(2, 9)
    net(x)
    before = net[0].weight.detach().clone()
    with scrambled(net, 0):
        net(x)
        assert not torch.equal(net[0].weight, before)
    assert torch.equal(net[0].weight, before)


def test_explainer_computes_the_maps_of_the_network_with_permuted_weights():
    net, images, targets = pooled_net(), random_images(), random_targets(3)
    methods = [key for key in EVERY if key not in ("cam", "measured")]
    with Explainer(net, ["0", "3"], EVERY, input_shape=(3, 12, 12)) as explainer:
        few = explainer.only([m for m in explainer.plan.methods if m.key in methods])
        with explainer.scrambled(5):
            found = few.explain(images, targets)
            weights = {key: value.clone() for key, value in net.state_dict().items()}
        again = few.explain(images, targets)
    other = deepcopy(net)
    other.load_state_dict(weights)
    expected = explain(other, images, ["0", "3"], methods, targets)
    assert_close(found.maps, expected.maps, rtol=1e-6, atol=1e-9)
    assert_close(again.maps, explain(net, images, ["0", "3"], methods, targets).maps)


@pytest.mark.parametrize(("kept", "made"), [(3, 3), (2, 3 + 2 + 2), (0, 9)])
def test_an_entered_explainer_permutes_each_tensor_once_per_seed_as_far_as_memory_is_granted(
    monkeypatch, kept, made
):
    net, calls, found = toy_net(), [], []
    size = sum(weight.nbytes for weight in net.parameters())
    tensors = len([*net.parameters()])
    monkeypatch.setattr(module_under_test, "MAX_KEPT", kept * size)

    def counted(*given: object) -> None:
        calls.append(given)
        permute(*given)

    monkeypatch.setattr(module_under_test, "permute", counted)
    with Explainer(net, ["0"], ["grad_cam"], input_shape=(3, 12, 12)) as explainer:
        for _batch in range(3):
            for seed in (5, 6, 7):
                with explainer.scrambled(seed):
                    found.append(values_of(net))
    assert len(calls) == made * tensors
    assert_close(found[:3] * 2, found[3:], rtol=0, atol=0)
    with scrambled(net, 6):
        assert_close(values_of(net), found[1], rtol=0, atol=0)


def test_weights_that_change_between_two_blocks_of_an_explainer_are_permuted_anew():
    net = toy_net()
    explainer = Explainer(net, ["0"], ["grad_cam"], input_shape=(3, 12, 12))
    for _block in range(2):
        with explainer, explainer.scrambled(5):
            found = values_of(net)["0.weight"]
        assert torch.equal(found.flatten().sort().values, net[0].weight.flatten().sort().values)
        net[0].weight.data.mul_(2)


def test_the_number_of_threads_changes_no_permutation():
    before, values, found = torch.get_num_threads(), np.arange(40_000), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(np.full_like(values, -1))
            permute(values, found[-1], np.random.default_rng(0))
    finally:
        torch.set_num_threads(before)
    assert (np.sort(found[0]) == values).all()
    assert (found[0] == found[1]).all()


# Interruptions


GUARDS = (module_under_test.__file__, state.__file__)


def interrupting(step: int) -> Callable[[FrameType, str, object], object]:
    """Return a tracer that sends SIGINT at a step of the guards' code, counted from 0.

    Steps are the lines of the guards, and the calls that they make of Python's own context
    managers. No signal arrives at a line that does nothing.
    """
    left = [step]

    def trace(frame: FrameType, event: str, _argument: object) -> object:
        code = frame.f_code
        own = code.co_filename in GUARDS and code.co_name != "wait"
        if not own and code.co_filename != contextlib.__file__:
            return None
        nothing = linecache.getline(code.co_filename, frame.f_lineno).strip() in (
            "try:",
            "finally:",
        )
        if (event == "line" and own and not nothing) or (event == "call" and not own):
            left[0] -= 1
            if left[0] == -1:
                signal.raise_signal(signal.SIGINT)
        return trace if own else None

    return trace


def test_ctrl_c_at_any_line_leaves_the_network_as_it_was():
    net = tied()
    found, outcomes = fingerprint(net), []
    tracer = sys.gettrace()
    for step in range(2000):
        sys.settrace(interrupting(step))
        try:
            with preserved(net), scrambled(net, 0):
                pass
            outcomes.append("finished")
        except KeyboardInterrupt:
            outcomes.append("interrupted")
        finally:
            sys.settrace(tracer)
        assert fingerprint(net) == found, f"interrupted before line {step}"
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if outcomes[-1] == "finished":
            break
    assert outcomes.count("interrupted") > 50
    assert outcomes[-1] == "finished"


CHILD = """
import sys, torch
from torch import nn
from test_scrambled import fingerprint
from camreport.network.scrambled import scrambled
from camreport.network.state import preserved

net = nn.Sequential(nn.Linear(300, 300), nn.Linear(300, 300), nn.Linear(300, 300))
found = fingerprint(net)
print("ready", flush=True)
for line in sys.stdin:
    try:
        print("go", flush=True)
        while True:
            with preserved(net), scrambled(net, 0):
                net(torch.zeros(1, 300))
    except KeyboardInterrupt:
        print("same" if fingerprint(net) == found else "changed", flush=True)
"""


def test_ctrl_c_in_another_process_leaves_the_network_as_it_was():
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    with child:
        assert child.stdout.readline() == "ready\n"
        for attempt in range(20):
            print("once more", file=child.stdin, flush=True)
            assert child.stdout.readline() == "go\n"
            time.sleep(attempt * 0.0013)
            child.send_signal(signal.SIGINT)
            assert child.stdout.readline() == "same\n", attempt
        child.stdin.close()
    assert child.returncode == 0
