"""Parity: raw maps equal those of grad-cam, torchcam and captum; where they differ, and why."""

import copy
import importlib
import warnings
from functools import cache
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d
from torch.testing import assert_close
from torchvision.models import alexnet, resnet18

from camreport import explain
from camreport.fusion import normalise

CLASSES = [3, 5]
LAYERS = {
    # Tensors that every library reads alike: after ReLU and pool, not the convolutions before.
    "alexnet": ["features.1", "features.4", "features.7", "features.9", "features.12"],
    "resnet18": ["layer1", "layer2", "layer3", "layer4"],
}
SIZES = {"alexnet": 96, "resnet18": 64}
GATE = 1e-5
"""Largest difference allowed, as a share of the reference's largest value."""


def peer(name: str) -> ModuleType:
    """Import a peer, or skip; what its imports warn about is not ours to mend."""
    pytest.importorskip(name.partition(".")[0], reason="parity extra is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def random_images(size: int) -> Tensor:
    """Two images, the second not a copy of the first."""
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(3))


def random_net(name: str) -> nn.Module:
    """A seeded net of ten classes in evaluation mode, with in-place ReLU as torchvision has it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = {"alexnet": alexnet, "resnet18": resnet18}[name](weights=None, num_classes=10)
        if name == "alexnet":  # a narrow classifier, as the bundled model's: nothing to read there
            for place, (inputs, outputs) in {1: (9216, 64), 4: (64, 64), 6: (64, 10)}.items():
                net.classifier[place] = nn.Linear(inputs, outputs)
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)  # keeps activations of one size
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
                nn.init.uniform_(module.running_var, 0.5, 2)
    return net.eval()


def without_inplace(net: nn.Module) -> nn.Module:
    """Return a copy in which nothing overwrites what a hook has seen."""
    net = copy.deepcopy(net)
    for module in net.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return net


class Case:
    """A net, two images with every class of ``CLASSES`` as one batch for peers, and our maps."""

    def __init__(self, name: str) -> None:
        self.layers = LAYERS[name]
        self.inplace_net = random_net(name)
        self.net = without_inplace(self.inplace_net)
        self.images = random_images(SIZES[name])
        self.batch = self.images.repeat(len(CLASSES), 1, 1, 1)
        self.targets = [target for target in CLASSES for _ in self.images]
        self.explanation = explain(self.inplace_net, self.images, self.layers, "all", CLASSES)

    def modules(self, net: nn.Module | None = None) -> list[nn.Module]:
        """Return the modules whose own outputs the peers are to read."""
        return [(net or self.net).get_submodule(layer) for layer in self.layers]

    def ours(self, key: str, layer: str) -> Tensor:
        """Return our maps in the order of the batch."""
        e = self.explanation
        if layer not in self.layers:
            e = explain(self.inplace_net, self.images, [layer], key, CLASSES)
        return e.maps[key][layer].transpose(0, 1).flatten(0, 1)


make_case = cache(Case)


@pytest.fixture(params=LAYERS)
def case(request: pytest.FixtureRequest) -> Case:
    """AlexNet and ResNet-18."""
    return make_case(request.param)


@pytest.fixture
def inplace() -> Case:
    """AlexNet, whose convolutions stand before in-place ReLU; copy before a peer touches it."""
    return make_case("alexnet")


def assert_close_to_peer(ours: Tensor, theirs: Tensor, gate: float = GATE) -> None:
    """Demand that the largest difference is a small share of the largest value."""
    assert ours.shape == theirs.shape
    assert difference(ours, theirs) <= gate


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference as a share of the reference's largest value."""
    largest = theirs.abs().amax()
    assert largest > 0
    return float((ours - theirs).abs().amax() / largest)


def grad_cam_raw_maps(
    method: str, net: nn.Module, modules: list[nn.Module], case: Case
) -> list[Tensor]:
    """Return what grad-cam sums up for each layer, before it rectifies and scales."""
    output_target = peer("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget
    library_class = getattr(peer("pytorch_grad_cam"), method)
    with library_class(model=net, target_layers=modules) as cam:
        raw: list[Tensor] = []
        sum_up = cam.get_cam_image

        def keep(*arguments: object) -> object:
            raw.append(torch.from_numpy(result := sum_up(*arguments)).clone())
            return result

        cam.get_cam_image = keep
        cam(input_tensor=case.batch, targets=[output_target(target) for target in case.targets])
    net.zero_grad(set_to_none=True)
    return raw


@pytest.mark.parametrize(
    ("key", "method"),
    [("grad_cam", "GradCAM"), ("layer_cam", "LayerCAM"), ("hires_cam", "HiResCAM")],
)
def test_maps_equal_those_of_pytorch_grad_cam(case, key, method):
    theirs = grad_cam_raw_maps(method, case.net, case.modules(), case)
    for layer, reference in zip(case.layers, theirs, strict=True):
        assert_close_to_peer(case.ours(key, layer), reference)


def torchcam_maps(method: str, net: nn.Module, layers: list[str], case: Case) -> list[Tensor]:
    """Return torchcam's maps: rectified, not scaled."""
    with getattr(peer("torchcam.methods"), method)(net, layers) as extractor:
        return extractor(case.targets, net(case.batch), normalized=False)


@pytest.mark.parametrize(("key", "method"), [("grad_cam", "GradCAM"), ("layer_cam", "LayerCAM")])
def test_maps_equal_those_of_torchcam(case, key, method):
    theirs = torchcam_maps(method, case.net, case.layers, case)
    for layer, reference in zip(case.layers, theirs, strict=True):
        assert_close_to_peer(case.ours(key, layer).relu(), reference)


def captum_maps(method: str, net: nn.Module, module: nn.Module, case: Case) -> Tensor:
    """Return captum's maps, summed over the channels where they are given per channel."""
    attribution = getattr(peer("captum.attr"), method)(net, module)
    options = {"relu_attributions": False} if method == "LayerGradCam" else {}
    target = torch.tensor(case.targets)
    return attribution.attribute(case.batch, target=target, **options).sum(1).detach()


@pytest.mark.parametrize(
    ("key", "method"),
    [("grad_cam", "LayerGradCam"), ("hires_cam", "LayerGradientXActivation")],
)
def test_maps_equal_those_of_captum(case, key, method):
    for layer, module in zip(case.layers, case.modules(), strict=True):
        reference = captum_maps(method, case.net, module, case)
        assert_close_to_peer(case.ours(key, layer), reference)


# One convolution before an in-place ReLU: three libraries, three answers


def test_inplace_convolution_is_read_after_relu_as_torchcam_does(inplace):
    net = copy.deepcopy(inplace.inplace_net)
    (theirs,) = torchcam_maps("GradCAM", net, ["features.0"], inplace)
    assert_close_to_peer(inplace.ours("grad_cam", "features.0").relu(), theirs)
    assert difference(inplace.ours("grad_cam", "features.0:pre").relu(), theirs) > 100 * GATE


def test_inplace_convolution_is_read_before_relu_as_captum_does_when_asked(inplace):
    net = copy.deepcopy(inplace.inplace_net)
    theirs = captum_maps("LayerGradCam", net, net.features[0], inplace)
    assert_close_to_peer(inplace.ours("grad_cam", "features.0:pre"), theirs)
    assert difference(inplace.ours("grad_cam", "features.0"), theirs) > 100 * GATE


def test_inplace_convolution_mixes_two_tensors_in_pytorch_grad_cam_on_cpu(inplace):
    net = copy.deepcopy(inplace.inplace_net)
    (theirs,) = grad_cam_raw_maps("GradCAM", net, [net.features[0]], inplace)
    head = inplace.net
    before = head.features[0](inplace.batch).detach().requires_grad_()
    logits = head.classifier(head.avgpool(head.features[1:](before)).flatten(1))
    chosen = logits.gather(1, torch.tensor(inplace.targets)[:, None])
    (gradient,) = torch.autograd.grad(chosen.sum(), before)
    mixed = (gradient.mean((-2, -1), keepdim=True) * before.detach().relu()).sum(1)
    assert_close_to_peer(mixed, theirs)
    for layer in ("features.0", "features.0:pre"):
        assert difference(inplace.ours("grad_cam", layer), theirs) > 100 * GATE


# What must hold without any oracle


def piecewise_linear_net() -> nn.Sequential:
    """A small float64 net of convolutions, ReLU, max pooling and linear layers, with biases."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
            nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
            nn.Sequential(nn.Flatten(), nn.Linear(72, 10), nn.ReLU(), nn.Linear(10, 4)),
        ).double()


@pytest.mark.parametrize(
    ("layer", "first_bias"), [("0.0:pre", 1), ("0.0", 1), ("0.2", 1), ("1.0:pre", 2), ("1.2", 2)]
)
def test_hires_cam_and_later_biases_add_up_to_the_logit(layer, first_bias):
    net = piecewise_linear_net()
    images = torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(5)).double()
    e = explain(net, images, [layer], "hires_cam", "all")
    biases = [parameter for name, parameter in net.named_parameters() if name.endswith("bias")]
    for n in range(3):
        logits = net(images[n : n + 1])[0]
        for k in range(4):
            slopes = torch.autograd.grad(logits[k], biases[first_bias:], retain_graph=True)
            terms = zip(biases[first_bias:], slopes, strict=True)
            rest = sum((bias * slope).sum() for bias, slope in terms)
            total = e.maps["hires_cam"][layer][n, k].double().sum() + rest
            assert_close(total, logits[k], rtol=1e-5, atol=1e-6)


def pooled_net() -> nn.Sequential:
    """Features, global average pooling and one linear layer: what CAM was made for."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True), nn.Conv2d(6, 8, 3), nn.ReLU()),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 4),
        ).double()


def test_every_method_is_cam_before_global_average_pooling():
    net = pooled_net()
    images = torch.randn(2, 3, 10, 10, generator=torch.Generator().manual_seed(5)).double()
    activation = net[0](images).detach()  # (N, C, h, w), >= 0
    positions = activation[0, 0].numel()
    weight = net[3].weight.detach()  # (num_classes, C)
    maps = explain(net, images, ["0"], "all", "all").maps
    cam = torch.einsum("kc,nchw->nkhw", weight, activation).float()
    assert_close(positions * maps["grad_cam"]["0"], cam, rtol=1e-5, atol=1e-6)
    assert_close(positions * maps["hires_cam"]["0"], cam, rtol=1e-5, atol=1e-6)
    positive = torch.einsum("kc,nchw->nkhw", weight.relu(), activation).float()
    assert_close(positions * maps["layer_cam"]["0"], positive, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("factor", [2.0, 1e-6])
def test_normalised_maps_do_not_change_with_the_scale_of_the_logits(factor):
    net = piecewise_linear_net()
    images = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(5)).double()
    layers, keys = ["0.0", "0.2", "1.0"], ["grad_cam", "layer_cam", "hires_cam"]
    plain = explain(net, images, layers, keys, "all")
    with torch.no_grad():
        net[2][3].weight.mul_(factor)
        net[2][3].bias.mul_(factor)
    scaled = explain(net, images, layers, keys, "all")
    assert_close(scaled.logits, factor * plain.logits)
    for key in keys:
        for layer in layers:
            one, other = scaled.maps[key][layer], plain.maps[key][layer]
            assert_close(normalise(one), normalise(other), rtol=1e-4, atol=1e-6)


def test_alexnet_pools_nothing_at_224_so_that_two_layers_are_one(catdog, photographs):
    e = explain(catdog, photographs, ["features.12", "avgpool"], "all", "all")
    for key, by_layer in e.maps.items():
        assert torch.equal(by_layer["features.12"], by_layer["avgpool"]), key


def test_alexnet_pools_at_other_sizes_so_that_two_layers_are_two(catdog, photographs):
    images = adaptive_avg_pool2d(photographs[:1], 160)
    e = explain(catdog, images, ["features.12", "avgpool"], "grad_cam")
    assert [cam.shape[-1] for cam in e.maps["grad_cam"].values()] == [4, 6]
