"""Where a peer differs from us: what it does instead, shown by doing the same here."""

import copy

import cv2
import numpy as np
import pytest
import torch
from helpers import reference
from helpers.peers import (
    Case,
    activation_and_gradient,
    captum,
    difference,
    formula,
    grad_cam_library,
    make_case,
    peer,
    torchcam,
)
from torch import Tensor, nn
from torch.nn.functional import relu

from camreport import explain

GATE = 1e-5
CLEAR = 100 * GATE
"""What counts as another map."""


@pytest.fixture
def case() -> Case:
    """AlexNet, whose convolutions stand before in-place ReLU; copy before a peer touches it."""
    return make_case("AlexNet")


def weighed(weight: Tensor, activation: Tensor) -> Tensor:
    """Return the sum over channels of weights ``(N, C)`` times activations."""
    return (weight[:, :, None, None] * activation).sum(1)


# One convolution before an in-place ReLU: three libraries, three answers


def test_torchcam_reads_an_inplace_convolution_after_relu_as_we_do(case):
    net = copy.deepcopy(case.inplace_net)
    (theirs,) = torchcam("GradCAM", ["features.0"], case, net)
    assert difference(case.ours("grad_cam", "features.0").relu(), theirs) <= GATE
    assert difference(case.ours("grad_cam", "features.0:pre").relu(), theirs) > CLEAR


def test_captum_reads_an_inplace_convolution_before_relu_as_we_do_when_asked(case):
    (theirs,) = captum("LayerGradCam", ["features.0"], case, case.inplace_net)
    assert difference(case.ours("grad_cam", "features.0:pre"), theirs) <= GATE
    assert difference(case.ours("grad_cam", "features.0"), theirs) > CLEAR


def test_grad_cam_mixes_two_tensors_at_an_inplace_convolution_on_cpu(case):
    net = copy.deepcopy(case.inplace_net)
    (theirs,) = grad_cam_library("GradCAM", ["features.0"], case, net)
    before, gradient = activation_and_gradient("features.0", case, case.batch)
    assert difference(weighed(gradient.mean((-2, -1)), before.relu()), theirs) <= GATE
    for layer in ("features.0", "features.0:pre"):
        assert difference(case.ours("grad_cam", layer), theirs) > CLEAR


# Grad-CAM++


def test_torchcam_grad_cam_plus_plus_is_cubic_because_its_division_is_lost(case):
    (theirs,) = torchcam("GradCAMpp", ["features.12"], case)
    activation, gradient = activation_and_gradient("features.12", case, case.batch)
    cubic = (gradient**2 * gradient.relu()).sum((-2, -1))
    assert difference(weighed(cubic, activation), theirs) <= GATE
    assert difference(case.ours("grad_cam_plus_plus", "features.12"), theirs) > CLEAR


def test_grad_cam_adds_an_epsilon_to_grad_cam_plus_plus_that_rules_where_gradients_are_small():
    quiet = make_case("AlexNet", 1e-4)
    (theirs,) = grad_cam_library("GradCAMPlusPlus", ["features.12"], quiet)
    ours = quiet.ours("grad_cam_plus_plus", "features.12")
    pairs = zip(*activation_and_gradient("features.12", quiet, quiet.batch), strict=True)
    with_epsilon = [reference.grad_cam_plus_plus(a, g, epsilon=1e-6) for a, g in pairs]
    assert difference(torch.stack(with_epsilon), theirs) <= GATE
    assert difference(ours, formula("grad_cam_plus_plus", ["features.12"], quiet)[0]) <= GATE
    assert difference(ours / ours.amax(), theirs / theirs.amax()) > CLEAR


def test_torchcam_smooth_grad_cam_plus_plus_uses_the_last_noisy_copy(case):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        (theirs,) = torchcam("SmoothGradCAMpp", ["features.12"], case)
        torch.manual_seed(0)
        spread = torch.distributions.Normal(0, 0.3)
        copies = [case.batch + spread.sample(case.batch.shape) for _ in range(4)]
    clean, _ = activation_and_gradient("features.12", case, case.batch)
    noisy = [activation_and_gradient("features.12", case, one) for one in copies]
    second, third = (torch.stack([g**p for _, g in noisy]).mean(0) for p in (2, 3))
    mixed = 2 * second + (third * clean).sum((-2, -1), keepdim=True) + 1e-8
    last_activation, last_gradient = noisy[-1]
    weight = (second / mixed * last_gradient.relu()).sum((-2, -1))
    assert difference(weighed(weight, last_activation).relu(), theirs) <= GATE
    gradients = zip(*(g for _, g in noisy), strict=True)
    pairs = zip(clean, gradients, strict=True)
    paper = torch.stack([reference.smooth_grad_cam_plus_plus(a, list(g)) for a, g in pairs])
    assert difference(paper, theirs) > CLEAR


# Ablation-CAM, FullGrad, Eigen-CAM, Finer-CAM


def test_grad_cam_divides_ablation_cam_by_the_logit_which_turns_it_round_where_negative(case):
    (theirs,) = grad_cam_library("AblationCAM", ["features.12"], case)
    ours = case.ours("ablation_cam", "features.12")
    logits = case.net(case.batch)[range(len(case.targets)), case.targets].detach()
    assert (logits < 0).any()
    assert (logits > 0).any()
    agreement = (theirs * ours).sum((-2, -1)) / (theirs.norm(dim=(1, 2)) * ours.norm(dim=(1, 2)))
    torch.testing.assert_close(agreement, logits.sign(), rtol=0, atol=1e-4)


def test_grad_cam_scales_full_grad_channel_by_channel_where_the_authors_scale_the_image(case):
    with peer("pytorch_grad_cam").FullGrad(case.net, []) as cam:
        raw: list[Tensor] = []
        aggregate = cam.aggregate_multi_layers
        cam.aggregate_multi_layers = lambda maps: (raw.append(maps[:, 0]), aggregate(maps))[1]
        targets = peer("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget
        cam(case.batch, [targets(target) for target in case.targets])
    case.net.zero_grad(set_to_none=True)
    size = tuple(case.batch.shape[-2:])
    channelwise = []
    for image, target in zip(case.batch, case.targets, strict=True):
        of_input, of_biases = reference.full_gradients(case.net, image, target)
        channels = [channel for share in (of_input, *of_biases) for channel in share.abs().numpy()]
        scaled = [(one - one.min()) / (1e-7 + (one - one.min()).max()) for one in channels]
        channelwise.append(sum(cv2.resize(np.float32(one), size) for one in scaled))
    theirs = torch.from_numpy(raw[0])
    assert difference(torch.from_numpy(np.stack(channelwise)), theirs) <= 1e-4
    ours = case.ours("full_grad", "features.12")
    assert difference(ours / ours.amax(), theirs / theirs.amax()) > CLEAR


@pytest.mark.parametrize(
    ("key", "name"), [("eigen_cam", "EigenCAM"), ("eigen_grad_cam", "EigenGradCAM")]
)
def test_grad_cam_centres_what_eigen_cam_leaves_as_it_is(case, key, name):
    (theirs,) = grad_cam_library(name, ["features.12"], case)
    torch.testing.assert_close(theirs.mean((-2, -1)), torch.zeros(4), rtol=0, atol=1e-4)
    ours = case.ours(key, "features.12")
    aligned = ours * (ours * theirs).sum((-2, -1), keepdim=True).sign()
    assert difference(aligned, theirs) > CLEAR


def test_grad_cam_weighs_the_look_alikes_of_finer_cam_by_their_probability(case):
    library = peer("pytorch_grad_cam")
    with library.FinerCAM(case.net, [case.net.features[12]]) as finer:
        raw: list[Tensor] = []
        sum_up = finer.base_cam.get_cam_image
        finer.base_cam.get_cam_image = lambda *a: (raw.append(sum_up(*a)), raw[-1])[1]
        finer(case.images, target_idx=5)
    case.net.zero_grad(set_to_none=True)
    activation = case.net.features(case.images).detach().requires_grad_()
    logits = case.net.classifier(case.net.avgpool(activation).flatten(1))
    distance = (logits - logits[:, 5:6]).abs()
    alike = distance.argsort(1)[:, 1:4]
    probability = logits.softmax(1).gather(1, alike)
    contrast = probability * (logits[:, 5:6] - logits.gather(1, alike))
    score = (contrast.sum(1) / (probability.sum(1) + 1e-9)).sum()
    (gradient,) = torch.autograd.grad(score, activation)
    theirs = torch.from_numpy(raw[0])
    recoded = weighed(gradient.mean((-2, -1)), activation.detach())
    assert difference(recoded, theirs) <= GATE
    assert difference(case.ours("finer_cam", "features.12")[:2], theirs) > CLEAR


# Guided backpropagation


def test_grad_cam_leaves_a_model_changed_after_guided_backpropagation(case):
    net = copy.deepcopy(case.inplace_net)
    (before,) = grad_cam_library("GradCAM", ["features.0"], case, net)
    guided = peer("pytorch_grad_cam").GuidedBackpropReLUModel(net)
    theirs = torch.from_numpy(guided(case.images[:1].clone(), 5)).movedim(2, 0)
    assert difference(case.ours("guided_backprop", "features.12")[0], theirs) <= GATE
    relus = {id(part): part for part in net.features if isinstance(part, nn.ReLU)}
    assert [part.inplace for part in relus.values()] == [False]  # one for all, and not in place
    (after,) = grad_cam_library("GradCAM", ["features.0"], case, net)
    assert difference(after, before) > CLEAR


def test_captum_lets_negative_gradients_through_a_relu_that_is_no_module():
    case = make_case("DenseNet-121")
    (theirs,) = captum("GuidedBackprop", ["features"], case)
    ours = case.ours("guided_backprop", "features.pool0")
    assert difference(ours, theirs) > CLEAR
    modules = [case.net.features, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    (of_modules,) = captum(
        "GuidedBackprop", ["0"], case, nn.Sequential(*modules, case.net.classifier)
    )
    assert difference(ours, of_modules) <= GATE


def test_torchcam_cam_reads_densenet_after_its_inplace_relu_as_we_do():
    case = make_case("DenseNet-121")
    net = copy.deepcopy(case.inplace_net)
    (theirs,) = torchcam("CAM", ["features"], case, net)
    ours = explain(
        case.inplace_net, case.batch, ["features"], "cam", torch.tensor(case.targets)[:, None]
    )
    assert difference(ours.maps["cam"]["features"][:, 0], theirs) <= GATE
    pooled = relu(case.net.features(case.batch)).detach()
    assert difference(weighed(net.classifier.weight[case.targets].detach(), pooled), theirs) <= GATE
