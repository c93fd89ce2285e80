"""The engine: what is asked of it, what it costs, and how it is cut into batches."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.engine import (
    SHARING,
    LivedIn,
    Returns,
    assert_same_maps,
    raise_,
    random_images,
    random_targets,
)
from helpers.limits import explain_within, limits
from helpers.nets import EVERY, pooled_net, record_batches, toy_net
from torch import Tensor, nn
from torch.testing import assert_close

from camreport import Explainer, explain
from camreport.engine.memory import Limits
from camreport.errors import (
    CamReportError,
    ClassError,
    LayerError,
    MemoryLimitError,
    ModelError,
)

# What it costs


@pytest.mark.parametrize(("gradient_bytes", "backward_calls"), [(10**9, 1), (1, 3)])
def test_explain_takes_one_forward_and_one_backward_pass_per_class(gradient_bytes, backward_calls):
    net, calls, trainable = LivedIn(), [], []

    def note(_module: nn.Module, _inputs: object, logits: Tensor) -> None:
        calls.append("forward")
        trainable.extend(p for p in net.parameters() if p.requires_grad)
        logits.register_hook(lambda _gradient: calls.append("backward"))

    net.last.register_forward_hook(note)
    layers = ["features.0", "features.3", "features.5", "features.5:pre"]
    small = limits(gradients=gradient_bytes)
    e = explain_within(small, net, random_images(4), layers, SHARING, [3, 0, 1])
    assert calls == ["forward"] + ["backward"] * backward_calls
    assert not trainable  # so that no backward pass computes a parameter's gradient
    assert (e.cost.forwards, e.cost.backwards) == (1, 3)


def test_explain_makes_no_parameter_gradients():
    net = toy_net()
    explain(net, random_images(), ["0", "3"], EVERY, "all")
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    net.requires_grad_(False)
    explain(net, random_images(), ["0", "3"], EVERY, "all")
    assert all(p.grad is None and not p.requires_grad for p in net.parameters())


# Targets, logits, images


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (None, lambda logits: logits.argmax(1, keepdim=True)),
        ("all", lambda logits: torch.arange(4).expand(len(logits), -1)),
        ("top2", lambda logits: logits.argsort(1, descending=True)[:, :2]),
        ("top9", lambda logits: logits.argsort(1, descending=True)),
        ("auto", lambda logits: logits.argsort(1, descending=True)[:, :3]),
        ([2], lambda logits: torch.full((len(logits), 1), 2)),
        ((3, 0), lambda logits: torch.tensor([[3, 0]] * len(logits))),
        (range(1, 3), lambda logits: torch.tensor([[1, 2]] * len(logits))),
        ([1, 1], lambda logits: torch.tensor([[1, 1]] * len(logits))),
        (torch.tensor([3, 1]), lambda logits: torch.tensor([[3, 1]] * len(logits))),
        (random_targets(3), lambda _logits: random_targets(3)),
        (random_targets(3).int(), lambda _logits: random_targets(3)),
    ],
    ids=lambda value: None if callable(value) else str(value),
)
def test_explain_takes_targets_in_every_form(targets, expected):
    net, images = toy_net(), random_images(3)
    e = explain(net, images, ["3"], "hires_cam", targets)
    chosen = expected(net(images).detach())
    assert torch.equal(e.targets, chosen)
    every = explain(net, images, ["3"], "hires_cam", "all").maps["hires_cam"]["3"]
    for n in range(3):
        assert_close(e.maps["hires_cam"]["3"][n], every[n, chosen[n]], rtol=1e-5, atol=1e-9)


def test_explain_takes_auto_as_all_of_two_classes():
    net = nn.Sequential(LivedIn(), Returns(lambda logits: (logits - logits.mean(0))[:, :2]))
    e = explain(net, random_images(8), ["0.features.0"], targets="auto")
    assert e.targets.tolist() == [[0, 1]] * 8
    assert e.logits.argmax(1).unique().tolist() == [0, 1]  # not by probability


@pytest.mark.parametrize(
    ("count", "targets", "message"),
    [
        (3, [0, 4], "class indices 0 to 3, got 4"),
        (3, [-1], "class indices 0 to 3, got -1"),
        (3, [], r"K class indices or a tensor \(N, K\) with N = 3"),
        (3, [0.5], "got shape .* of torch.float32"),
        (3, 1, r"K class indices .* got shape \(\)"),
        (3, ["cat"], r"class indices, got \['cat'\]"),
        (3, [True, False], "of torch.bool"),
        (3, "top0", "'all' or 'top3', got 'top0'"),
        (3, "cat", "'all' or 'top3', got 'cat'"),
        (3, torch.zeros(2, 2, dtype=torch.int64), r"with N = 3, got shape \(2, 2\)"),
        (3, torch.zeros(5, 2, dtype=torch.int64), r"with N = 3, got shape \(5, 2\)"),
        (3, torch.zeros(3, 2, 1, dtype=torch.int64), r"got shape \(3, 2, 1\)"),
        (16, torch.zeros(40, 2, dtype=torch.int64), r"with N = 16, got shape \(40, 2\)"),
        (20, torch.zeros(19, 2, dtype=torch.int64), r"with N = 20, got shape \(19, 2\)"),
    ],
    ids=lambda value: str(value) if not isinstance(value, Tensor) else str(tuple(value.shape)),
)
def test_explain_refuses_targets_that_are_no_classes(count, targets, message):
    with pytest.raises(ClassError, match=message):
        explain(toy_net(), random_images(count), ["3"], targets=targets)


@pytest.mark.parametrize("count", [3, 20])
def test_explain_takes_targets_of_each_image_as_lists_and_arrays(count):
    rows = [[index % 4, 3 - index % 4] for index in range(count)]
    images = random_images(count)
    plain = explain(toy_net(), images, ["3"], targets=torch.tensor(rows))
    for given in (rows, np.array(rows)):
        assert_same_maps(explain(toy_net(), images, ["3"], targets=given), plain, exactly=True)


def test_explain_takes_layers_in_one_string():
    images = random_images(1)
    assert_same_maps(
        explain(toy_net(), images, "0, 3"), explain(toy_net(), images, ["0", "3"]), exactly=True
    )
    with pytest.raises(LayerError, match="at least one"):
        explain(toy_net(), images, [])


@pytest.mark.parametrize(
    ("make", "got"),
    [
        (lambda logits: (logits, logits), r"a tuple of 0 \(3, 4\), 1 \(3, 4\).*--output 0"),
        (lambda logits: {"a": logits[0], "b": 3}, r"a dict of a \(4,\), b int.*--output a"),
        (lambda logits: {"logits": logits[:1]}, r"with N = 3, got \(1, 4\)"),
        (lambda logits: logits[:, :, None, None].expand(-1, -1, 2, 2), r"got \(3, 4, 2, 2\)"),
        (lambda logits: logits[:2, 0], r"got \(2,\)"),
        (lambda logits: logits[:1], r"got \(1, 4\).*Wrap the model"),
        (lambda logits: logits.argmax(1), r"got \(3,\)"),
        (lambda logits: None, "got NoneType"),
    ],
)
def test_explain_refuses_what_are_no_logits(make, got):
    net = nn.Sequential(toy_net(), Returns(make))
    message = rf"expected logits \(N, num_classes\).*{got}"
    with pytest.raises(ModelError, match=message):
        explain(net, random_images(3), ["0.0"])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 12, 12), r"got \(3, 12, 12\).*Add the batch axis"),
        (torch.zeros(0, 3, 12, 12), r"got \(0, 3, 12, 12\)"),
        (torch.zeros(1, 3, 12, 12, dtype=torch.uint8), "of torch.uint8"),
    ],
    ids=["no batch axis", "empty", "integers"],
)
def test_explain_refuses_what_are_no_images(images, message):
    with pytest.raises(ModelError, match=message):
        explain(toy_net(), images, ["0"])


def test_explain_names_a_layer_that_the_logits_do_not_depend_on():
    net = LivedIn()
    net.features.append(Returns(lambda x: (net.spare(x[:, :3]), x)[1]))  # runs in vain
    for targets in ([0], [0, 1]):
        with pytest.raises(LayerError, match="gradients reach, but none reaches 'spare'"):
            explain(net, random_images(1), ["features.0", "spare"], targets=targets)


def test_explain_refuses_an_empty_list_of_layers():
    with pytest.raises(CamReportError, match="layer"):
        explain(toy_net(), random_images(1), [])


# Batches and memory


def test_explain_cuts_many_images_into_batches_without_a_change():
    images, targets = random_images(8), random_targets(8)
    plain = explain(pooled_net(), images, ["0", "3"], EVERY, targets)
    small = limits(first_batch=3, images=2)
    cut = explain_within(small, pooled_net(), images, ["0", "3"], EVERY, targets)
    assert cut.cost.maps == plain.cost.maps
    assert cut.cost.variants == plain.cost.variants
    assert_same_maps(cut, plain)
    net = pooled_net()
    tried, _ = record_batches(net)
    cut = explain_within(small, net, images, ["0", "3"], SHARING, targets)
    assert tried == [3, 2, 2, 1]
    assert (cut.cost.forwards, cut.cost.backwards) == (4, 8)


def test_explain_cuts_more_images_than_the_first_batch_takes():
    images = random_images(Limits.first_batch + 3)
    e = explain(toy_net(), images, ["3"], targets="top2")
    assert e.cost.forwards == 2
    assert e.maps["grad_cam"]["3"].shape == (Limits.first_batch + 3, 2, 6, 6)
    tail = explain(toy_net(), images[-5:], ["3"], targets="top2")
    assert torch.equal(e.targets[-5:], tail.targets)
    assert_close(e.maps["grad_cam"]["3"][-5:], tail.maps["grad_cam"]["3"], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("activations", "most", "expected"),
    [(10, 32, 10), (10.9, 32, 10), (100, 4, 4), (0.01, 32, 1)],
)
def test_next_batch_takes_a_byte_budgets_worth(activations, most, expected):
    images = random_images(1)
    e = explain(toy_net(), images, ["0"])
    bytes_ = int(activations * e.bytes_per_image)
    small = limits(activations=bytes_, images=most)
    explainer = Explainer(toy_net(), ["0"], input_shape=images.shape[1:], limits=small)
    assert explainer.probe(images).batch_size == explainer.batch_size == expected


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("MPS backend out of memory"),
    ],
    ids=["torch", "python", "cpu", "mps"],
)
def test_explain_halves_a_batch_that_does_not_fit(error):
    images, targets = random_images(7), random_targets(7)
    plain = explain(nn.Sequential(toy_net()), images, ["0.0", "0.3"], SHARING, targets)
    net = nn.Sequential(toy_net())
    tried, done = record_batches(net)
    net.append(Returns(lambda logits: logits if len(logits) <= 2 else raise_(error)()))
    e = explain(net, images, ["0.0", "0.3"], SHARING, targets)
    assert tried[0] == 7
    assert sum(done) == 7
    assert max(done) == 2
    assert e.cost.forwards == len(done)
    assert_same_maps(e, plain)


def test_explain_says_so_when_one_image_does_not_fit():
    net = nn.Sequential(toy_net())
    tried, _ = record_batches(net)
    net.append(Returns(raise_(torch.OutOfMemoryError("CUDA out of memory"))))
    with pytest.raises(MemoryLimitError, match="one image is more than this device can hold"):
        explain(net, random_images(4), ["0.0"])
    assert tried == [4, 2, 1]
    assert issubclass(MemoryLimitError, ModelError)


def test_explain_does_not_try_again_after_another_error():
    net = nn.Sequential(toy_net())
    tried, _ = record_batches(net)
    net.append(Returns(raise_(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        explain(net, random_images(4), ["0.0"])
    assert tried == [4]


@pytest.mark.parametrize(("images_allowed", "batches"), [(4, [3, *[1] * 7]), (0, [1] * 10)])
def test_explain_cuts_a_first_batch_that_is_far_too_large(images_allowed, batches):
    images = random_images(10)
    plain = explain(toy_net(), images, ["0", "3"], SHARING, [0, 1])
    bytes_ = images_allowed * plain.bytes_per_image // Limits.first_allowance
    net = toy_net()
    tried, done = record_batches(net)
    e = explain_within(limits(activations=bytes_), net, images, ["0", "3"], SHARING, [0, 1])
    assert tried[0] == 10
    assert done == batches
    assert_same_maps(e, plain)


MEMORY_SCRIPT = """
import resource, torch
from torch import nn
from camreport import Explainer, explain
torch.manual_seed(0)
net = nn.Sequential(
    nn.Sequential(nn.Conv2d(3, 48, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(8)),
    nn.Sequential(nn.Conv2d(48, 48, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
    nn.Flatten(),
    nn.Linear(48 * 9, 3),
)
image = torch.rand(1, 3, 48, 48)
for count in (64, 64, 512):
    explain(net, image.expand(count, -1, -1, -1), ["0.2", "1.0", "1.2"], targets=[0, 1])
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_explain_needs_no_more_memory_for_many_images():
    pytest.importorskip("resource", reason="peak memory is read the Unix way")
    ran = subprocess.run(
        [sys.executable, "-c", MEMORY_SCRIPT], capture_output=True, text=True, check=True
    )
    _, few, many = map(int, ran.stdout.split())
    assert many <= 1.1 * few
