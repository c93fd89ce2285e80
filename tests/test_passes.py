"""The passes: smoothing by hand, noise that is the same for everybody, costs that are true."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from helpers import reference
from helpers.limits import explain_within, limits
from helpers.nets import EVERY, pooled_net, toy_net
from torch import Tensor, nn
from torch.testing import assert_close

from camreport import explain
from camreport.engine.cost import Cost
from camreport.methods import METHODS
from camreport.methods.registry import PASSES, SHARED
from camreport.metrics.effect import MASKS

SMOOTHED = [key for key, method in METHODS.items() if method.supports_smoothing]
PLACES = {"2": 2, "3": 4}
"""Addresses in toy_net, and the place of the module whose output each one reads."""


def images(count: int = 2) -> Tensor:
    """Inputs of toy_net, float64."""
    generator = torch.Generator().manual_seed(5)
    return torch.randn(count, 3, 12, 12, generator=generator, dtype=torch.float64)


# Smoothing, by hand


def copies(image: Tensor, smooth: str, seed: int) -> Iterator[tuple[Tensor, bool]]:
    """Yield the copies of one image that the documentation names, and whether each is mirrored."""
    noises = [torch.zeros(())]
    if "noise" in smooth:
        generator = torch.Generator().manual_seed(seed)
        noises = [torch.randn(image.shape, generator=generator) * 0.3 for _ in range(4)]
    for noise in noises:
        noisy = image + noise.double()
        if "aug" not in smooth:
            yield noisy, False
            continue
        for factor in (0.9, 1.0, 1.1):
            yield noisy * factor, False
            yield torch.from_numpy(noisy.numpy()[..., ::-1].copy()) * factor, True


def activation_and_gradients(net: nn.Sequential, place: int, image: Tensor) -> tuple[Tensor, ...]:
    """Return a layer's output ``(C, h, w)`` and the gradients of all logits to it."""
    activation = net[: place + 1](image[None]).detach().requires_grad_()
    logits = net[place + 1 :](activation.clone())[0]
    slopes = [torch.autograd.grad(logit, activation, retain_graph=True)[0][0] for logit in logits]
    return activation.detach()[0], torch.stack(slopes)


def rivals(logits: list[float], target: int, key: str, quantity: str) -> Tensor:
    """Return how much of each class's gradient there is in the score's."""
    shares = torch.zeros(len(logits), dtype=torch.float64)
    others = [index for index in range(len(logits)) if index != target]
    if key == "finer_cam":
        shares[sorted(others, key=lambda index: abs(logits[index] - logits[target]))[:3]] = -0.6 / 3
    elif quantity == "contrast":
        shares[max(others, key=logits.__getitem__)] = -1
    shares[target] = 1
    return shares


def smoothed(
    net: nn.Sequential,
    image: Tensor,
    place: int,
    target: int,
    key: str,
    *,
    smooth: str,
    seed: int,
    quantity: str,
) -> Tensor:
    """Return the smoothed map of one image, layer and class."""
    oracle = getattr(reference, "grad_cam" if key == "finer_cam" else key)
    shares = rivals(reference.logits_of(net, image).tolist(), target, key, quantity)
    cams = []
    for copy, mirrored in copies(image, smooth, seed):
        activation, slopes = activation_and_gradients(net, place, copy)
        gradient = torch.einsum("k,kchw->chw", shares, slopes)
        cam = oracle(activation, gradient)
        if "eigen" in smooth:
            channels = [
                oracle(activation[c : c + 1], gradient[c : c + 1]) for c in range(len(activation))
            ]
            cam = reference.eigen_cam(torch.stack(channels))
        cams.append(torch.from_numpy(cam.numpy()[:, ::-1].copy()) if mirrored else cam)
    return torch.stack(cams).mean(0)


@pytest.mark.parametrize("key", SMOOTHED)
@pytest.mark.parametrize("smooth", ["noise", "aug", "eigen", "aug,eigen", "noise,aug,eigen"])
def test_smoothing_equals_its_oracle(key, smooth):
    quantity = "contrast" if smooth == "noise" else "logit"
    options = {"smooth": smooth, "seed": 3, "quantity": quantity}
    maps = explain(toy_net(), images(1), list(PLACES), [key], [1, 2], **options).maps[key]
    for layer, place in PLACES.items():
        for k, target in enumerate((1, 2)):
            expected = smoothed(toy_net(), images(1)[0], place, target, key, **options)
            size = float(expected.abs().amax())
            assert size > 0
            assert_close(maps[layer][0, k].double(), expected, rtol=1e-5, atol=1e-5 * size)


def ambiguous() -> tuple[nn.Sequential, Tensor]:
    """A net of six classes and an image whose copies disagree about the nearest other ones."""
    net = toy_net()
    torch.manual_seed(3)
    net[8] = nn.Linear(10, 6).double()
    generator = torch.Generator().manual_seed(9)
    return net, torch.randn(3, 12, 12, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("smooth", ["noise", "aug"])
@pytest.mark.parametrize(("key", "target"), [("grad_cam", 0), ("finer_cam", 0), ("finer_cam", 2)])
def test_smoothing_compares_with_the_classes_that_the_image_itself_names(key, smooth, target):
    net, image = ambiguous()
    options = {"smooth": smooth, "seed": 3, "quantity": "contrast"}
    compared = [
        rivals(reference.logits_of(net, one).tolist(), target, key, "contrast")
        for one in (image, *(copy for copy, _ in copies(image, smooth, 3)))
    ]
    assert any(not torch.equal(one, compared[0]) for one in compared)
    found = explain(net, image[None], ["3"], [key], [target], **options).maps[key]["3"][0, 0]
    assert_close(
        found.double(), smoothed(net, image, 4, target, key, **options), rtol=1e-5, atol=1e-7
    )


def test_derivatives_under_noise_compare_with_the_class_that_the_image_itself_names():
    net, image = ambiguous()
    key, shares = "smooth_grad_cam_plus_plus", []
    slopes = []
    for copy in (image, *(copy for copy, _ in copies(image, "noise", 3))):
        logits = reference.logits_of(net, copy).tolist()
        shares.append(rivals(logits, 0, key, "contrast"))
        slopes.append(
            torch.einsum("k,kchw->chw", shares[0], activation_and_gradients(net, 4, copy)[1])
        )
    assert any(not torch.equal(one, shares[0]) for one in shares)
    activation = activation_and_gradients(net, 4, image)[0]
    expected = reference.smooth_grad_cam_plus_plus(activation, slopes[1:])
    maps = explain(net, image[None], ["3"], [key], [0], quantity="contrast", seed=3).maps
    assert_close(maps[key]["3"][0, 0].double(), expected, rtol=1e-5, atol=1e-7)


def test_augmentation_averages_six_copies():
    net, seen = toy_net(), []
    net.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach().clone()))
    explain(net, images(1), ["3"], ["hires_cam"], [0], smooth="aug")
    plain, *seen = [copy[0] for copy in seen]
    assert_close(plain, images(1)[0])
    wanted = [copy for copy, _ in copies(plain, "aug", 0)]
    assert len(seen) == len(wanted) == 6
    for copy in wanted:
        assert sum(torch.allclose(copy, one) for one in seen) == 1


# What smoothing applies to


@pytest.mark.parametrize("make_net", [toy_net, pooled_net])
@pytest.mark.parametrize("smooth", ["noise", "aug", "eigen"])
def test_smoothing_changes_the_methods_that_are_sums_over_channels(make_net, smooth):
    plain = explain(make_net(), images(), ["0", "3"], EVERY, [0, 1])
    other = explain(make_net(), images(), ["0", "3"], EVERY, [0, 1], smooth=smooth)
    changed = {
        key
        for key, by_layer in plain.maps.items()
        for layer, cam in by_layer.items()
        if not torch.equal(cam, other.maps[key][layer])
    }
    assert changed == set(SMOOTHED)
    assert len(SMOOTHED) == 7
    assert_close(other.logits, plain.logits, rtol=0, atol=0)


# Noise


RANDOM = [("grad_cam", "noise"), ("layer_cam", "noise,aug"), ("smooth_grad_cam_plus_plus", "")]


@pytest.mark.parametrize(("key", "smooth"), RANDOM)
def test_noise_depends_on_its_seed_alone(key, smooth):
    net = toy_net()

    def maps(seed: int, rows: Sequence[int] = range(4)) -> Tensor:
        given = (net, images(4)[list(rows)], ["3"], [key], [0, 1])
        return explain(*given, smooth=smooth, seed=seed).maps[key]["3"]

    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = maps(0)
    assert torch.equal(torch.get_rng_state(), state), "nobody else's numbers are drawn"
    torch.manual_seed(99)
    assert torch.equal(maps(0), first)
    other = maps(1)
    for n in range(4):
        assert not torch.allclose(other[n], first[n], rtol=1e-3), n
    assert_close(maps(0, [2]), first[[2]], rtol=1e-5, atol=1e-9)
    assert_close(maps(0, [3, 1, 0]), first[[3, 1, 0]], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("key", "smooth"), RANDOM)
def test_noise_does_not_depend_on_how_images_are_cut(key, smooth):
    given = (toy_net(), images(5), ["0", "3"], [key], [0, 1])
    plain = explain(*given, smooth=smooth)
    small = limits(first_batch=2, activations=1, gradients=1, images=1)
    cut = explain_within(small, *given, smooth=smooth)
    assert cut.cost.forwards > plain.cost.forwards
    assert_close(cut.maps, plain.maps, rtol=1e-5, atol=1e-9)


# Costs


@contextmanager
def counted(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Count real forward passes, images that were shown, and rows of backward passes."""
    counts = {"forwards": 0, "images": 0, "backwards": 0, "trainable": 0}
    original = torch.autograd.grad

    def grad(outputs: Tensor, inputs: object, rows: Tensor, **options: object) -> object:
        counts["backwards"] += len(rows) if options["is_grads_batched"] else 1
        counts["trainable"] += sum(parameter.requires_grad for parameter in net.parameters())
        return original(outputs, inputs, rows, **options)

    def forward(_module: nn.Module, given: tuple[Tensor, ...], _output: object) -> None:
        counts["forwards"] += 1
        counts["images"] += len(given[0])

    handle = net.register_forward_hook(forward)
    with monkeypatch.context() as patch:
        patch.setattr(torch.autograd, "grad", grad)
        yield counts
    handle.remove()


LAYERS = ["0", "2", "3"]
CHANNELS = 6 + 6 + 8
POSITIONS = 144 + 36 + 36


@pytest.mark.parametrize("passes", [passes for passes in PASSES if passes != "tail"])
@pytest.mark.parametrize("smooth", ["", "noise", "aug", "noise,aug"])
def test_costs_are_the_passes_that_were_made(monkeypatch, passes, smooth):
    keys = [key for key, method in METHODS.items() if method.needs.passes == passes]
    net = pooled_net()
    with counted(net, monkeypatch) as made:
        e = explain(net, images(2), LAYERS, keys, [3, 0, 1], smooth=smooth)
    probed = int(
        "full_grad" in keys
    )  # one image and three classes, to see whether its shares are all
    assert (e.cost.forwards + probed, e.cost.backwards + 3 * probed) == (
        made["forwards"],
        made["backwards"],
    )
    assert made["trainable"] == 0
    copied = {"": 0, "noise": 4, "aug": 6, "noise,aug": 24}[smooth]
    smoothing = [key for key in keys if METHODS[key].supports_smoothing] if copied else []
    expected = {SHARED: (1, 3)} if passes in (SHARED, "guided") else {SHARED: (1, 0)}
    expected |= {"smoothing_copies": (copied, 3 * copied)} if smoothing else {}
    further = {"look_alikes": (0, 3), "noisy_copies": (4, 12), "guided": (1, 3)}
    if passes in further and len(smoothing) < len(keys):
        expected[passes] = further[passes]
    found = {name: (cost.forwards, cost.backwards) for name, cost in e.costs.items()}
    if passes == "shared_masks":
        assert found.pop(passes) == (made["forwards"] - 1, 0)
        assert e.costs[passes].variants == 2 * MASKS == made["images"] - 2
    if passes == "masked":
        assert found.pop(passes) == (made["forwards"] - 1, 0)
        assert e.costs[passes].variants == 2 * CHANNELS * len(keys)
    assert found == expected


def test_costs_of_tails_are_the_passes_that_were_made(monkeypatch):
    net, tails = toy_net(), []
    net[-1].register_forward_hook(lambda _module, _inputs, output: tails.append(len(output)))
    with counted(net, monkeypatch) as made:
        e = explain(net, images(2), LAYERS, ["ablation_cam", "recipro_cam"], "all")
    assert (made["forwards"], made["backwards"]) == (1, 0), "of the whole network"
    checks = len(LAYERS)  # of each tail, with one image too many
    assert e.costs["tail"].forwards == len(tails) - 1 - checks
    assert e.costs["tail"].variants == sum(tails) - 2 - 3 * checks
    assert e.costs["tail"].variants == 2 * (CHANNELS + POSITIONS)


def test_costs_of_everything_are_those_of_its_parts():
    def costs(keys: Sequence[str]) -> dict[str, Cost]:
        return explain(pooled_net(), images(2), LAYERS, keys, [3, 0]).costs

    together = costs(EVERY)
    assert list(together) == list(PASSES)
    for passes in PASSES[1:]:
        keys = [key for key in EVERY if METHODS[key].needs.passes == passes]
        assert costs(keys)[passes] == together[passes], passes
    shared = [key for key in EVERY if METHODS[key].needs.passes == SHARED]
    assert costs(shared)[SHARED] == together[SHARED]
    assert (together[SHARED].forwards, together[SHARED].backwards) == (1, 2)


@pytest.mark.parametrize(
    ("make_net", "given", "maps"),
    [
        (toy_net, {"methods": ["layer_cam", "eigen_cam"]}, {"shared": 2 * 2 * (4 + 3)}),
        (toy_net, {"methods": ["layer_cam"], "smooth": "aug"}, {"smoothing_copies": 2 * 2 * 4}),
        (pooled_net, {"methods": ["full_grad", "cam"]}, {"shared": 2 * 2 * 2}),
        (pooled_net, {"methods": ["guided_backprop", "guided_grad_cam"]}, {"guided": 16}),
        (pooled_net, {"methods": ["score_cam", "ablation_cam"]}, {"tail": 12}),
    ],
    ids=["fused", "smoothed", "whole network", "guided", "changes"],
)
def test_costs_count_maps(make_net: Callable[[], nn.Module], given, maps):
    e = explain(make_net(), images(2), LAYERS, targets=[3, 0], **given)
    found = {passes: e.costs[passes].maps for passes in maps}
    assert found == maps
    every = sum(len(cam) * cam.shape[1] for by in e.maps.values() for cam in by.values())
    assert e.cost.maps == every
