"""The engine: maps equal an oracle, and do not depend on how they were made."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from helpers import reference
from helpers.engine import (
    NETS,
    READS,
    WITH_TAIL,
    Returns,
    assert_same_maps,
    defined_at,
    random_images,
    random_targets,
)
from helpers.limits import explain_within, limits
from helpers.nets import EVERY, pooled_net, toy_net
from torch import Tensor, nn
from torch.testing import assert_close

from camreport import explain
from camreport.engine.explanation import FUSED, Explanation
from camreport.methods import METHODS
from camreport.methods.registry import ACTIVATION, GRADIENT, LOOK_ALIKES
from camreport.network.choose import auto_layers


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
    assert [layer.point for layer in e.layers.values()] == ["0", "2", "4"]
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
            whole = layer == FUSED or method.grid == "input"
            grid = (12, 12) if whole else together.shapes.get(layer, (0, 8, 8))[1:]
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
