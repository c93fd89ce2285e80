"""The engine: maps equal an oracle, and neither model nor result depends on how they were made."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import reference
from helpers.limits import explain_within, limits
from helpers.nets import EVERY, pooled_net, record_batches, toy_net
from torch import Tensor, nn
from torch.testing import assert_close

from camreport import Explainer, explain
from camreport.engine.explainer import FUSED, Explanation
from camreport.engine.memory import Limits
from camreport.errors import (
    CamReportError,
    ClassError,
    LayerError,
    MemoryLimitError,
    MethodError,
    ModelError,
)
from camreport.methods import METHODS
from camreport.methods.registry import ABLATED, ACTIVATION, GRADIENT, KEPT, LOOK_ALIKES, SHARED
from camreport.network.choose import auto_layers

READS = {"0": 1, "0:pre": 0, "2": 2, "3": 4, "3:pre": 3}
"""Addresses in toy_net, and the place of the module whose output each one reads."""


SHARING = tuple(
    key for key in METHODS if METHODS[key].needs.passes == SHARED and key != "full_grad"
)
"""The methods that are made of one forward pass and one backward pass per class, and of no pass
before them, as FullGrad's is."""

WITH_TAIL = tuple(key for key in METHODS if METHODS[key].needs in (ABLATED, KEPT))
"""The methods that ask what follows a layer."""


NETS = {net.__name__: net for net in (toy_net, pooled_net)}


def defined_at(name: str, key: str) -> list[str]:
    """Return where a method has a map of one of the nets, by the names of its layers."""
    method = METHODS[key]
    if name == "toy_net" and key in ("cam", "guided_backprop", "guided_grad_cam", "full_grad"):
        return []
    if method.scope == "network":
        return ["input"]
    if key == "cam":
        return ["3", "3:pre"]
    return [layer for layer in READS if not (method.non_negative and layer.endswith(":pre"))]


def random_images(count: int = 3, seed: int = 1) -> Tensor:
    """Inputs of toy_net, float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 12, 12, generator=generator, dtype=torch.float64)


def random_targets(count: int, ranks: int = 2) -> Tensor:
    """Different classes for every image, ``(N, K)``."""
    return (torch.arange(count)[:, None] * 3 + torch.arange(ranks)) % 4


def oracle(image: Tensor, target: int, place: int, key: str) -> Tensor:
    """Return the map of one image and class, by cutting toy_net in two behind a place."""
    net = toy_net()
    activation = net[: place + 1](image[None]).detach().requires_grad_()
    logits = net[place + 1 :](activation.clone())[0]  # a ReLU in place may come next
    slopes = [torch.autograd.grad(logit, activation, retain_graph=True)[0][0] for logit in logits]
    given: dict[object, tuple[object, ...]] = {
        GRADIENT: (slopes[target],),
        ACTIVATION: (),
        LOOK_ALIKES: (torch.stack(slopes), logits, target),
    }
    return getattr(reference, key)(activation[0].detach(), *given[METHODS[key].needs])


def assert_same_maps(one: Explanation, other: Explanation, exactly: bool = False) -> None:
    """Demand equal maps under the same names, exactly or up to float32 rounding."""
    tolerance = {"rtol": 0.0, "atol": 0.0} if exactly else {"rtol": 1e-5, "atol": 1e-9}
    assert_close(one.maps, other.maps, **tolerance)
    assert_close(one.logits, other.logits, **tolerance)
    assert torch.equal(one.targets, other.targets)


# What the maps are


@pytest.mark.parametrize(
    ("key", "layer"),
    [
        (key, layer)
        for key, method in METHODS.items()
        if method.needs in (GRADIENT, ACTIVATION, LOOK_ALIKES)
        for layer in defined_at("toy_net", key)
    ],
)
def test_explain_matches_an_oracle_that_cuts_the_network(key, layer):
    images, targets = random_images(2), random_targets(2)
    maps = explain(toy_net(), images, [layer], [key], targets).maps[key][layer]
    expected = torch.stack(
        [
            torch.stack([oracle(image, int(target), READS[layer], key) for target in row])
            for image, row in zip(images, targets, strict=True)
        ]
    )
    assert expected.abs().amax() > 0
    assert_close(maps, expected.float(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("layers", [["0", "2", "3"], ["3", "0", "2"]])
def test_explain_fuses_the_layers_in_network_order(layers):
    images = random_images(2)
    fused = explain(toy_net(), images, layers, "layer_cam", [0, 3]).maps["layer_cam"][FUSED]
    for n in range(2):
        for k, target in enumerate((0, 3)):
            cams = [oracle(images[n], target, READS[layer], "layer_cam") for layer in "023"]
            expected = reference.fuse(cams, [True, False, False])  # two stages: 12 x 12 | 6 x 6
            assert_close(fused[n, k], expected.float(), rtol=1e-5, atol=1e-7)


def test_explain_returns_what_was_asked_for():
    net, images = toy_net(), random_images(3)
    e = explain(net, images, ["3", net[2], "0:pre"], ["LayerCAM", "grad_cam"], [3, 1])
    assert list(e.maps) == ["layer_cam", "grad_cam"]
    assert list(e.maps["grad_cam"]) == ["0:pre", "2", "3"]
    assert list(e.maps["layer_cam"]) == ["0:pre", "2", "3", FUSED]
    sizes = {"3": (6, 6), "2": (6, 6), "0:pre": (12, 12), FUSED: (12, 12)}
    for by_layer in e.maps.values():
        for name, cam in by_layer.items():
            assert cam.shape == (3, 2, *sizes[name])
            assert cam.dtype == torch.float32
            assert not cam.requires_grad
    assert e.shapes == {"0:pre": (6, 12, 12), "2": (6, 6, 6), "3": (8, 6, 6)}
    assert list(e.layers) == ["0:pre", "2", "3"]
    assert [layer.source for layer in e.layers.values()] == ["0", "2", "4"]
    assert (e.logits.dtype, e.logits.requires_grad) == (torch.float32, False)
    assert_close(e.logits, net(images).detach().float())
    assert e.targets.tolist() == [[3, 1]] * 3
    assert e.targets.dtype == torch.int64
    assert (e.cost.forwards, e.cost.backwards, e.cost.maps) == (1, 2, 3 * 2 * 7)


def test_explain_tells_what_the_innermost_modules_return_for_one_image():
    values = 2 * 6 * 12 * 12 + 6 * 6 * 6 + 3 * 8 * 6 * 6 + 10 + 10 + 4  # ReLU and Flatten too
    e = explain(toy_net(), random_images(3), ["0"])
    assert e.bytes_per_image == 8 * values


def test_explain_fuses_from_two_tensors_on():
    net, images = toy_net(), random_images(1)
    assert list(explain(net, images, ["3"], "layer_cam").maps["layer_cam"]) == ["3"]
    assert FUSED in explain(net, images, ["2", "3"], "layer_cam").maps["layer_cam"]


def test_explain_chooses_layers_by_itself():
    net, images = toy_net(), random_images(2)
    names = auto_layers(net.eval(), images[:1])
    assert list(explain(net, images).maps["grad_cam"]) == names == ["4"]


@pytest.mark.parametrize("key", [key for key in EVERY if METHODS[key].scope == "layer"])
def test_explain_gives_the_same_map_for_two_names_of_one_tensor(key):
    maps = explain(pooled_net(), random_images(2), ["4", "1", "0", "3"], [key], "all").maps[key]
    for one, other in [("3", "4")] if key == "cam" else [("0", "1"), ("3", "4")]:
        assert torch.equal(maps[one], maps[other])


def test_explain_gives_float32_whatever_the_default_dtype_is():
    torch.set_default_dtype(torch.float64)
    try:
        e = explain(toy_net(), random_images(1), ["0", "3"])
    finally:
        torch.set_default_dtype(torch.float32)
    for by_layer in e.maps.values():
        assert {cam.dtype for cam in by_layer.values()} == {torch.float32}


# What the maps do not depend on


@pytest.fixture(scope="module", params=NETS)
def name(request: pytest.FixtureRequest) -> str:
    """The name of a net."""
    return request.param


@pytest.fixture(scope="module")
def together(name: str) -> Explanation:
    """All layers, methods and classes of five images in one call."""
    return explain(NETS[name](), random_images(5), list(READS), EVERY, "all")


def test_explain_computes_every_method_wherever_it_is_defined(name, together):
    assert list(together.maps) == list(EVERY)
    for key, by_layer in together.maps.items():
        method, where = METHODS[key], defined_at(name, key)
        if key in ("guided_backprop", "full_grad") and not where:
            continue  # see test_task.py
        names = [n for n in by_layer if n != FUSED]
        assert sorted(names) == sorted(where), key
        assert (FUSED in by_layer) == method.fuses
        for layer, cam in by_layer.items():
            assert cam.dtype == torch.float32
            assert cam.isfinite().all(), (key, layer)
            assert cam.abs().amax() > 0, (key, layer)
            grid = (
                (12, 12) if layer == FUSED or method.grid == "input" else together.shapes[layer][1:]
            )
            channels = (3,) if "guided" in key else ()
            channels = together.shapes[layer][:1] if method.per_channel else channels
            assert cam.shape == (5, 4, *channels, *grid), (key, layer)
            same = torch.equal(cam[:, 0], cam[:, 1])
            assert same != method.per_class, (key, layer)


def test_explain_gives_one_by_one_what_it_gives_for_a_batch(name, together):
    for n, image in enumerate(random_images(5)):
        alone = explain(NETS[name](), image[None], list(READS), EVERY, "all")
        for key, by_layer in alone.maps.items():
            for layer, cam in by_layer.items():
                expected = together.maps[key][layer][n : n + 1]
                assert_close(cam, expected, rtol=1e-5, atol=1e-9)


def test_explain_permutes_with_the_batch(name, together):
    order = torch.tensor([3, 0, 4, 2, 1])
    permuted = explain(NETS[name](), random_images(5)[order], list(READS), EVERY, "all")
    for key, by_layer in permuted.maps.items():
        for layer, cam in by_layer.items():
            assert_close(cam, together.maps[key][layer][order], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    "keys",
    [
        tuple(key for key in EVERY if key not in WITH_TAIL),
        WITH_TAIL,
    ],
    ids=["others", "with tail"],
)
def test_explain_keeps_an_undefined_image_to_itself(name, together, keys):
    images = random_images(5)
    images[2, 0, 5, 5] = torch.nan
    e = explain(NETS[name](), images, list(READS), keys, "all")
    others = [0, 1, 3, 4]
    for key, by_layer in e.maps.items():
        for layer, cam in by_layer.items():
            assert_close(cam[others], together.maps[key][layer][others], rtol=1e-5, atol=1e-9)
    assert not e.logits[2].isfinite().any()
    if "layer_cam" in keys:
        assert e.maps["layer_cam"][FUSED][2].isnan().all()


def test_explain_does_not_depend_on_the_order_of_layers_methods_and_classes(name, together):
    e = explain(NETS[name](), random_images(5), list(READS)[::-1], EVERY[::-1], [3, 2, 1, 0])
    assert list(e.maps) == list(EVERY[::-1])
    for key, by_layer in e.maps.items():
        for layer, cam in by_layer.items():
            assert_close(cam.flip(1), together.maps[key][layer], rtol=1e-5, atol=1e-9)
    assert list(e.layers) == list(together.layers)


@pytest.mark.parametrize("key", EVERY)
def test_explain_gives_alone_what_it_gives_in_company(name, together, key):
    for layer in defined_at(name, key):
        asked = "0" if layer == "input" else layer
        alone = explain(NETS[name](), random_images(5), [asked], [key], [2])
        cam = together.maps[key][layer][:, 2:3]
        assert_close(alone.maps[key][layer], cam, rtol=1e-5, atol=1e-9)


def test_explain_repeats_itself_exactly(name, together):
    again = explain(NETS[name](), random_images(5), list(READS), EVERY, "all")
    assert_same_maps(again, together, exactly=True)


@pytest.mark.parametrize(("classes_at_once", "cached"), [(1, 1), (1, 10**9), (3, 1), (3, 20_000)])
def test_explain_gives_the_same_by_batched_and_by_looped_backward_passes(
    name, together, classes_at_once, cached
):
    values = sum(c * h * w for c, h, w in together.shapes.values())
    gradients = 5 * 8 * values * classes_at_once
    small = limits(gradients=gradients, cached=cached)
    looped = explain_within(small, NETS[name](), random_images(5), list(READS), EVERY, "all")
    assert_same_maps(looped, together)


@pytest.mark.parametrize(
    "context",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    ],
    ids=["no_grad", "inference_mode", "autocast"],
)
def test_explain_works_the_same_inside(context: Callable[[], AbstractContextManager[object]]):
    net, images = toy_net().float(), random_images(3).float()
    plain = explain(net, images, ["0", "3"], EVERY, [0, 1])
    with context():
        outside = net(images)
        inside = explain(net, images, ["0", "3"], EVERY, [0, 1])
        own = explain(net, images.clone(), ["0", "3"], EVERY, [0, 1])  # made in that mode
        assert net(images).dtype == outside.dtype
        assert net(images).requires_grad == outside.requires_grad
    assert_same_maps(inside, plain, exactly=True)
    assert_same_maps(own, plain, exactly=True)


def test_explain_works_the_same_for_a_frozen_model():
    images = random_images()
    plain = explain(toy_net(), images, ["0", "3"], EVERY, [0, 1])
    frozen = explain(toy_net().requires_grad_(False), images, ["0", "3"], EVERY, [0, 1])
    assert_same_maps(frozen, plain, exactly=True)


def test_explain_takes_images_of_another_dtype():
    images = random_images().float()
    e = explain(toy_net(), images, ["0", "3"], EVERY, [0, 1])
    assert_same_maps(e, explain(toy_net(), images.double(), ["0", "3"], EVERY, [0, 1]))


def test_explain_computes_without_reduced_precision_and_puts_the_settings_back(monkeypatch):
    def settings() -> dict[str, object]:
        return {
            "matmul": torch.backends.cuda.matmul.allow_tf32,
            "convolution": torch.backends.cudnn.allow_tf32,
            "benchmark": torch.backends.cudnn.benchmark,
            "autocast": torch.is_autocast_enabled("cpu"),
            "gradients": torch.is_grad_enabled(),
        }

    seen: list[dict[str, object]] = []
    net = nn.Sequential(toy_net(), Returns(lambda logits: (seen.append(settings()), logits)[1]))
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    torch.set_float32_matmul_precision("high")
    try:
        with torch.autocast("cpu"), torch.no_grad():
            before = settings()
            explain(net, random_images(1), ["0.0"])
            assert before == dict.fromkeys(before, True) | {"gradients": False}
            assert settings() == before
    finally:
        torch.set_float32_matmul_precision("highest")
    off = dict.fromkeys(("matmul", "convolution", "benchmark", "autocast"), False)
    assert seen == [off | {"gradients": True}]


PRECISION_SCRIPT = """
import sys, torch
from torch import nn
from camreport import Explainer, explain
if hasattr(torch.backends, "fp32_precision"):
    torch.backends.fp32_precision = sys.argv[1]
    convolutions = torch.backends.cudnn.conv
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    seen = []
    net.register_forward_hook(lambda *_: seen.append(convolutions.fp32_precision))
    explain(net, torch.rand(2, 3, 4, 4), ["0"], targets=[0, 1])
    assert "tf32" not in seen, seen
    assert convolutions.fp32_precision == torch.backends.fp32_precision == sys.argv[1]
"""


@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_explain_copes_with_the_newer_precision_settings_of_torch(precision):
    ran = subprocess.run(
        [sys.executable, "-c", PRECISION_SCRIPT, precision],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-400:]


# The model comes back as it was found


class LivedIn(nn.Module):
    """A net in the middle of somebody's training: mixed modes, partly frozen, half a step done."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Dropout2d(0.5),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.ReLU6(inplace=True),
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(8 * 6 * 6, 4))
        self.last = nn.Identity()
        self.spare = nn.Conv2d(3, 3, 3)
        self.double()
        norm = self.features[1]
        nn.init.uniform_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        self.train()
        norm.eval()
        self.features[0].weight.requires_grad_(False)
        self.features[5].requires_grad_(False)
        for parameter in (self.features[0].bias, self.features[5].weight):
            parameter.grad = torch.rand_like(parameter)
        self.features[3].register_forward_hook(lambda *_: None)

    def forward(self, x: Tensor) -> Tensor:
        """Leave ``spare`` out."""
        return self.last(self.classifier(self.features(x)))


def state_of(model: nn.Module) -> dict[str, object]:
    """Copy everything about a model that must come back as it was."""
    modules = dict(model.named_modules())
    parameters = dict(model.named_parameters())
    return {
        "modules": {name: id(module) for name, module in modules.items()},
        "training": {name: module.training for name, module in modules.items()},
        "inplace": {name: getattr(module, "inplace", None) for name, module in modules.items()},
        "hooks": {
            f"{name}.{kind}": len(hooks)
            for name, module in modules.items()
            for kind, hooks in vars(module).items()
            if kind.endswith("_hooks")
        },
        "parameters": {name: id(parameter) for name, parameter in parameters.items()},
        "requires_grad": {name: p.requires_grad for name, p in parameters.items()},
        "gradients": {
            name: None if p.grad is None else p.grad.clone() for name, p in parameters.items()
        },
        "values": {name: value.clone() for name, value in model.state_dict().items()},
    }


def assert_as_found(model: nn.Module, before: dict[str, object]) -> None:
    """Demand that a model is exactly in an earlier state."""
    assert_close(state_of(model), before, rtol=0, atol=0)


class Returns(nn.Module):
    """A module that returns something made from its input."""

    def __init__(self, make: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Tensor) -> object:
        """Return what was asked for."""
        return self.make(x)


def raise_(error: BaseException) -> Callable[..., Tensor]:
    """Return a function that raises."""

    def fail(*_: object) -> Tensor:
        raise error

    return fail


class FailsBackward(torch.autograd.Function):
    """The identity, whose backward pass raises."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        """Return the input."""
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        """Raise."""
        raise ValueError("broken on the way back")


@pytest.mark.parametrize("targets", [[0, 3], [1]])
def test_explain_returns_the_model_as_it_was_found(targets):
    net = LivedIn()
    before = state_of(net)
    explain(net, random_images(), ["features.0", "features.5:pre"], EVERY, targets)
    assert_as_found(net, before)
    explain(net, random_images(), None, EVERY, targets)
    assert_as_found(net, before)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"targets": [99]}, ClassError),
        ({"targets": "most"}, ClassError),
        ({"layers": ["nonsense"]}, LayerError),
        ({"layers": ["features.0", "classifier.2"]}, LayerError),
        ({"layers": ["features.0", "spare"]}, LayerError),
        ({"layers": ["features.0#7"]}, LayerError),
        ({"methods": ["nonsense"]}, MethodError),
        ({"images": torch.zeros(0, 3, 12, 12)}, ModelError),
        ({"images": torch.zeros(2, 5, 12, 12)}, RuntimeError),
    ],
    ids=str,
)
def test_explain_returns_the_model_as_it_was_found_when_an_argument_is_wrong(arguments, error):
    net = LivedIn()
    before = state_of(net)
    with pytest.raises(error):
        explain(net, **{"images": random_images(), "layers": ["features.0"]} | arguments)
    assert_as_found(net, before)


NAMED = ["features.0", "features.5"]


@pytest.mark.parametrize(
    ("layers", "last", "error"),
    [
        (NAMED, raise_(ValueError("broken")), ValueError),
        (NAMED, raise_(KeyboardInterrupt()), KeyboardInterrupt),
        (NAMED, raise_(MemoryError()), MemoryLimitError),
        (NAMED, FailsBackward.apply, ValueError),
        (NAMED, lambda logits: (logits, logits), ModelError),
        (NAMED, lambda logits: logits.detach(), LayerError),
        (None, raise_(ValueError("broken")), ValueError),
        (None, raise_(KeyboardInterrupt()), KeyboardInterrupt),
        (None, lambda logits: (logits, logits), ModelError),
    ],
    ids=[
        "forward fails",
        "forward interrupted",
        "out of memory",
        "backward fails",
        "no logits",
        "detached",
        "choosing layers fails",
        "choosing layers interrupted",
        "no logits after choosing layers",
    ],
)
def test_explain_returns_the_model_as_it_was_found_when_a_pass_fails(layers, last, error):
    net = LivedIn()
    net.last = Returns(last)
    before = state_of(net)
    with pytest.raises(error):
        explain(net, random_images(), layers, EVERY, [0, 1])
    assert_as_found(net, before)


def test_explain_returns_the_model_as_it_was_found_when_a_method_fails(monkeypatch):
    broken = replace(METHODS["layer_cam"], compute=raise_(ValueError("broken")))
    monkeypatch.setitem(METHODS, "layer_cam", broken)
    net = LivedIn()
    before = state_of(net)
    with pytest.raises(ValueError, match="broken"):
        explain(net, random_images(), ["features.0", "features.5"])
    assert_as_found(net, before)


def test_explain_gives_in_training_mode_what_it_gives_in_evaluation_mode():
    images = random_images()
    training = explain(LivedIn(), images, ["features.0", "features.5"], EVERY, [0, 1])
    evaluation = explain(LivedIn().eval(), images, ["features.0", "features.5"], EVERY, [0, 1])
    assert_same_maps(training, evaluation, exactly=True)
    assert not torch.equal(LivedIn()(images).float(), training.logits)  # dropout would show


@pytest.mark.parametrize("requires_grad", [False, True])
def test_explain_leaves_the_images_as_they_were(requires_grad):
    net = nn.Sequential(nn.Identity(), LivedIn())  # passes on the very tensor it gets
    images = random_images()
    images.requires_grad_(requires_grad)
    before = images.detach().clone()
    explain(net, images, ["0", "1.features.0"], targets=[0, 1])
    assert torch.equal(images.detach(), before)
    assert images.requires_grad == requires_grad
    assert images.grad is None


@pytest.mark.parametrize("layers", [["1.features.0"], None], ids=["named", "auto"])
def test_explain_leaves_the_images_as_they_were_when_the_model_writes_to_its_input(layers):
    net = nn.Sequential(Returns(lambda x: x.sub_(0.5)), LivedIn())
    images = random_images()
    before = images.clone()
    e = explain(net, images, layers)
    assert torch.equal(images, before)
    assert_close(e.logits, net.eval()(before).float())


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


@pytest.mark.parametrize(("images_allowed", "batches"), [(4, [4, *[1] * 6]), (0, [1] * 10)])
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


# The bundled model on the demo photographs


def left_share(cam: Tensor) -> float:
    """Return how much of the positive evidence ``(h, w)`` lies in the left half."""
    positive, width = cam.clamp(min=0), cam.shape[-1]
    left = (width / 2 - torch.arange(width)).clamp(0, 1)  # the middle column counts half
    return float((positive * left).sum() / positive.sum())


def test_demo_tells_the_dog_from_the_cat(catdog, photographs):
    e = explain(catdog, photographs, ["features.9", "features.12"], targets=[0, 1])
    assert catdog.class_names == ("cat", "dog")
    assert e.logits.argmax(1).tolist() == [1, 0, 1]  # both.jpg, cat.jpg, dog.jpg
    for key in ("grad_cam", "layer_cam"):
        for layer in ("features.9", "features.12"):
            cat, dog = e.maps[key][layer][0]
            assert left_share(dog) > 0.6, (key, layer)
            assert left_share(cat) < 0.4, (key, layer)


def test_explain_takes_a_loaded_model_and_its_module_alike(catdog, photographs):
    loaded = explain(catdog, photographs[:1], ["features.12"])
    module = explain(catdog.module, photographs[:1], ["features.12"])
    assert_same_maps(loaded, module, exactly=True)
