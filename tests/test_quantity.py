"""What of a class is explained: scores by hand, their gradients by autograd, names and errors."""

import math

import pytest
import torch
from helpers import reference
from helpers.nets import EVERY, pooled_net, toy_net
from torch import Tensor, nn
from torch.testing import assert_close

import camreport
from camreport import explain
from camreport.api import resolve_quantity
from camreport.engine.score import cotangents, look_alike_cotangents, scores, strongest_classes
from camreport.errors import ClassError
from camreport.methods import METHODS
from camreport.settings import check_quantity

LOGITS = torch.tensor(
    [[1.0, -2.0, 0.5, 3.0], [2.0, 2.5, -1.0, 0.0], [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64
)
TARGETS = torch.tensor([[0, 3], [2, 1], [3, 0]])
QUANTITIES = ("logit", "probability", "contrast", "contrast:1", "contrast:3")


def score(logits: list[float], target: int, quantity: str, reference: list[float]) -> float:
    """Return a class's score, by the words of the documentation.

    The logits ``reference`` say which other class is the strongest.
    """
    if quantity == "logit":
        return logits[target]
    if quantity == "probability":
        return math.exp(logits[target]) / math.fsum(math.exp(logit) for logit in logits)
    others = [index for index in range(len(logits)) if index != target]
    rival = max(others, key=lambda index: reference[index])
    named = quantity.removeprefix("contrast").removeprefix(":")
    if named and int(named) != target:
        rival = int(named)
    return logits[target] - logits[rival]


def gradient_by_differences(logits: Tensor, target: int, quantity: str) -> Tensor:
    """Return d score / d logits of one image, each by a central difference."""
    step, plain = 1e-6, logits.tolist()
    slopes = []
    for index in range(len(plain)):
        up, down = plain.copy(), plain.copy()
        up[index] += step
        down[index] -= step
        difference = score(up, target, quantity, plain) - score(down, target, quantity, plain)
        slopes.append(difference / (2 * step))
    return torch.tensor(slopes, dtype=torch.float64)


def differentiable(logits: Tensor, target: int, quantity: str) -> Tensor:
    """Return the score of one image as autograd can follow it."""
    if quantity == "logit":
        return logits[target]
    if quantity == "probability":
        return logits.softmax(0)[target]
    others = torch.cat([logits[:target], logits[target + 1 :]])
    named = quantity.partition(":")[2]
    rival = logits[int(named)] if named and int(named) != target else others.max()
    return logits[target] - rival


# The functions


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_cotangents_are_the_scores_gradients(quantity):
    rows = cotangents(LOGITS, TARGETS, quantity)
    assert rows.shape == (2, 3, 4)
    for n, logits in enumerate(LOGITS):
        for k, target in enumerate(TARGETS[n].tolist()):
            expected = gradient_by_differences(logits, target, quantity)
            assert_close(rows[k, n], expected, rtol=1e-6, atol=1e-8)


def test_cotangents_of_contrast_keep_to_the_class_that_a_reference_says_is_strongest():
    other = LOGITS.flip(1)
    rows = cotangents(LOGITS, TARGETS, "contrast", reference=other)
    assert torch.equal(rows, cotangents(other, TARGETS, "contrast"))
    assert not torch.equal(rows, cotangents(LOGITS, TARGETS, "contrast"))


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_scores_of_changed_passes_equal_those_by_hand(quantity):
    generator = torch.Generator().manual_seed(0)
    changed = torch.randn(3, 5, 4, generator=generator, dtype=torch.float64) * 3
    for logits in (changed, LOGITS[:, None]):
        found = scores(logits, LOGITS, TARGETS, quantity)
        expected = [
            [score(row, target, quantity, plain) for target in targets]
            for image, plain, targets in zip(logits, LOGITS.tolist(), TARGETS.tolist(), strict=True)
            for row in image.tolist()
        ]
        assert found.shape == (3, logits.shape[1], 2)
        assert_close(found.flatten(0, 1), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    ("classes", "alike"), [(6, [[4, 2, 5], [0, 4, 5]]), (3, [[1, 2], [2, 0]]), (2, [[1], [0]])]
)
def test_look_alikes_are_the_classes_of_the_nearest_logits(classes, alike):
    logits = torch.tensor([[3.0, 8.0, 1.0, -7.0, 4.0, 5.0]])[:, :classes]
    targets = torch.tensor([[0, 2 if classes == 6 else 1]])
    if classes == 3:
        logits = torch.tensor([[3.0, 4.0, 1.0]])
    rows = look_alike_cotangents(logits, targets)
    for k, target in enumerate(targets[0].tolist()):
        expected = torch.zeros(classes)
        expected[target] = 1
        expected[alike[k]] = -0.6 / len(alike[k])
        assert_close(rows[k, 0], expected)


@pytest.mark.parametrize("quantity", ["logit", "probability", "contrast", "contrast:0"])
def test_check_quantity_returns_what_it_knows(quantity):
    assert check_quantity(quantity) == quantity


# In a network


def images(count: int = 2) -> Tensor:
    """Inputs of toy_net, float64."""
    generator = torch.Generator().manual_seed(4)
    return torch.randn(count, 3, 12, 12, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("targets", [[0, 1, 2, 3], [3]])
def test_explain_takes_the_gradient_of_the_quantity(quantity, targets):
    maps = explain(toy_net(), images(), ["3"], "hires_cam", targets, quantity=quantity).maps
    net = toy_net()
    for n, image in enumerate(images()):
        for k, target in enumerate(targets):
            activation = net[:5](image[None]).detach().requires_grad_()
            value = differentiable(net[5:](activation)[0], target, quantity)
            (gradient,) = torch.autograd.grad(value, activation)
            expected = reference.hires_cam(activation[0].detach(), gradient[0])
            assert_close(maps["hires_cam"]["3"][n, k].double(), expected, rtol=1e-5, atol=1e-9)


def asked(net: nn.Module, image: Tensor, changed: Tensor) -> list[float]:
    """Return the logits of an image with another output of the second ReLU."""
    with reference.exchanged(net[4], changed):
        return reference.logits_of(net, image).tolist()


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_explain_reads_the_quantity_from_changed_passes(quantity):
    keys = ("ablation_cam", "recipro_cam")
    found = explain(toy_net(), images(), ["3"], keys, "all", quantity=quantity).maps
    net = toy_net()
    for n, image in enumerate(images()):
        activation = reference.output_of(net, net[4], image)
        plain = reference.logits_of(net, image).tolist()
        ablated, kept = [], []
        for channel in range(len(activation)):
            without = activation.clone()
            without[channel] = 0
            ablated.append(asked(net, image, without))
        for place in range(activation[0].numel()):
            mask = torch.zeros(activation[0].numel(), dtype=activation.dtype)
            mask[place] = 1
            kept.append(asked(net, image, activation * mask.view_as(activation[0])))
        for target in range(4):
            own = score(plain, target, quantity, plain)
            drops = [own - score(logits, target, quantity, plain) for logits in ablated]
            expected = torch.einsum("c,chw->hw", torch.tensor(drops).double(), activation)
            assert_close(
                found["ablation_cam"]["3"][n, target].double(), expected, rtol=1e-5, atol=1e-8
            )
            values = [score(logits, target, quantity, plain) for logits in kept]
            expected = torch.tensor(values).view_as(activation[0])
            assert_close(found["recipro_cam"]["3"][n, target], expected, rtol=1e-5, atol=1e-6)


OWN_SCORE = ("score_cam", "score_cam_pgc", "score_cam_torchcam", "finer_cam")
"""Methods that keep their own score, as the documentation says."""


@pytest.mark.parametrize("key", EVERY)
@pytest.mark.parametrize("quantity", ["probability", "contrast", "contrast:2"])
def test_quantity_changes_every_map_of_a_class_but_those_with_a_score_of_their_own(key, quantity):
    given = (pooled_net(), images(), ["3"], [key], [0, 1])
    (plain,), (other,) = (
        explain(*given, quantity=q).maps[key].values() for q in ("logit", quantity)
    )
    changes = METHODS[key].per_class and key not in OWN_SCORE
    for k in range(2):
        assert torch.equal(plain[:, k], other[:, k]) != changes


# What there is not


@pytest.mark.parametrize(
    "key", ["grad_cam", "smooth_grad_cam_plus_plus", "guided_backprop", "ablation_cam"]
)
@pytest.mark.parametrize(
    ("make_net", "quantity", "message"),
    [
        (pooled_net, "contrast:4", "class index 0 to 3 behind 'contrast:', got 4"),
        (pooled_net, "contrast:99", "class index 0 to 3 behind 'contrast:', got 99"),
    ],
    ids=["one too many", "far too many"],
)
def test_explain_refuses_a_contrast_with_a_class_that_is_not_there(
    key, make_net, quantity, message
):
    with pytest.raises(ClassError, match=message):
        explain(make_net(), images(), ["3"], [key], [0], quantity=quantity)


@pytest.mark.parametrize(
    ("quantity", "names", "resolved"),
    [
        ("logit", (), "logit"),
        ("contrast", ("cat", "dog"), "contrast"),
        ("contrast:dog", ("cat", "dog"), "contrast:1"),
        ("contrast:DOG", ("cat", "dog"), "contrast:1"),
        ("contrast: dog ", ("cat", "dog"), "contrast:1"),
        ("contrast:1", ("cat", "dog"), "contrast:1"),
        ("contrast:7", (), "contrast:7"),
        ("contrast:ox: wild, old", ("cat", "ox: wild, old"), "contrast:1"),
        ("contrast:猫", ("狗", "猫"), "contrast:1"),
    ],
)
def test_resolve_quantity_finds_the_class(quantity, names, resolved):
    assert resolve_quantity(quantity, names) == resolved


@pytest.mark.parametrize(
    ("quantity", "names", "message"),
    [
        ("contrast:dgo", ("cat", "dog"), "Did you mean 'dog'"),
        ("contrast:2", ("cat", "dog"), "an index 0 to 1"),
        ("contrast:", ("cat", "dog"), "got nothing"),
        ("contrast:all", ("cat", "dog"), "expected one class after 'contrast:', got 'all'"),
        ("contrast:dog", (), "have no names"),
    ],
)
def test_resolve_quantity_says_what_is_wrong(quantity, names, message):
    with pytest.raises(ClassError, match=message):
        resolve_quantity(quantity, names)


def test_explain_of_two_classes_contrasts_them(catdog, photographs):
    keys = ("hires_cam", "ablation_cam")
    given = (catdog, photographs[:1], ["features.12"], keys, [0, 1])
    plain, contrast = (camreport.explain(*given, quantity=q).maps for q in ("logit", "contrast"))
    for key in keys:
        cat, dog = plain[key]["features.12"][0]
        assert_close(contrast[key]["features.12"][0, 0], cat - dog, rtol=1e-4, atol=1e-4)
        assert_close(contrast[key]["features.12"][0, 1], dog - cat, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("classes", [2, 40, 1000])
def test_of_equal_logits_the_lower_class_comes_first(classes):
    logits = torch.zeros(3, classes)
    assert strongest_classes(logits, 3).tolist() == [list(range(min(3, classes)))] * 3
    changed = scores(
        torch.arange(classes).float().expand(3, 1, -1),
        logits,
        torch.arange(2).expand(3, -1),
        "contrast",
    )
    assert changed[0, 0, :2].tolist() == [-1, 1], "the rival of class 0 is 1, that of 1 is 0"
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, classes))
    nn.init.zeros_(net[-1].weight)
    nn.init.zeros_(net[-1].bias)
    assert explain(net, torch.rand(2, 3, 8, 8), ["0"], targets="top2").targets.tolist() == [
        [0, 1],
        [0, 1],
    ]
