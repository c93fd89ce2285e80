"""What must hold between maps, whatever an oracle says."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate
from torch.testing import assert_close

from camreport import explain
from camreport.methods import METHODS
from camreport.methods.fusion import normalise
from camreport.methods.gradient import contributions
from camreport.methods.registry import ACTIVATION, GRADIENT, LOOK_ALIKES

SHARED_KEYS = [k for k, m in METHODS.items() if m.needs in (ACTIVATION, GRADIENT, LOOK_ALIKES)]


def random_images(size: int = 12, count: int = 2) -> Tensor:
    """Inputs, float64."""
    generator = torch.Generator().manual_seed(5)
    return torch.randn(count, 3, size, size, generator=generator, dtype=torch.float64)


def piecewise_linear_net(num_classes: int = 4) -> nn.Sequential:
    """A float64 net of convolutions, ReLU, max pooling and linear layers, with biases."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Sequential(
                *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True)),
                nn.MaxPool2d(2),
            ),
            nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
            nn.Sequential(nn.Flatten(), nn.Linear(72, 10), nn.ReLU(), nn.Linear(10, num_classes)),
        ).double()
        nn.init.uniform_(net[0][1].running_mean, -0.5, 0.5)
        nn.init.uniform_(net[0][1].running_var, 0.5, 2)
        nn.init.uniform_(net[0][1].weight, 0.5, 1.5)
        nn.init.uniform_(net[0][1].bias, -0.5, 0.5)
    return net.eval()


def bias_terms(net: nn.Module, image: Tensor, target: int, modules: list[nn.Module]) -> Tensor:
    """Return what the biases of convolutions and linear layers add to a logit, to first order."""
    biases = [module.bias for module in modules]
    slopes = torch.autograd.grad(net(image[None])[0, target], biases)
    return sum((b * slope).sum() for b, slope in zip(biases, slopes, strict=True)).detach()


# Completeness: the parts add up to the logit


@pytest.mark.parametrize("key", ["hires_cam", "xgrad_cam", "gradient_x_activation"])
@pytest.mark.parametrize("layer", ["0.2", "0.3", "1.0", "1.2"])
def test_a_map_and_the_biases_behind_it_add_up_to_the_logit(key, layer):
    net, images = piecewise_linear_net(), random_images()
    e = explain(net, images, [layer], key, "all")
    behind = [net[2][1], net[2][3]] + ([] if layer.startswith("1") else [net[1][0]])
    for n, image in enumerate(images):
        for k in range(4):
            total = e.maps[key][layer][n, k].double().sum() + bias_terms(net, image, k, behind)
            assert_close(total, e.logits[n, k].double(), rtol=1e-5, atol=1e-6)


def test_the_parts_of_full_grad_and_the_linear_biases_add_up_to_the_logit(monkeypatch):
    seen: list[Tensor] = []

    def add_up(image: Tensor, gradient: Tensor, biases: list[Tensor]) -> Tensor:
        parts = [image * gradient, *biases]
        assert len(parts) == 4  # the input, two convolutions, one normalisation
        seen.append(sum(part.sum((-3, -2, -1)) for part in parts))  # (K, N)
        return METHODS["layer_cam"].compute(image.expand_as(gradient), gradient)

    changed = replace(METHODS["full_grad"], compute=add_up)
    monkeypatch.setitem(METHODS, "full_grad", changed)
    net, images = piecewise_linear_net(), random_images()
    e = explain(net, images, ["1"], "full_grad", "all")
    for n, image in enumerate(images):
        for k in range(4):
            linear = bias_terms(net, image, k, [net[2][1], net[2][3]])
            assert_close(
                torch.cat(seen)[k, n] + linear, e.logits[n, k].double(), rtol=1e-6, atol=1e-6
            )


@pytest.mark.parametrize("layer", ["0.2", "0.3", "1.0", "1.2"])
def test_xgrad_cam_adds_up_to_what_hires_cam_adds_up_to(layer):
    maps = explain(
        piecewise_linear_net(), random_images(), [layer], "xgrad_cam,hires_cam", "all"
    ).maps
    sums = [maps[key][layer].double().sum((-2, -1)) for key in ("xgrad_cam", "hires_cam")]
    assert_close(*sums, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(maps["xgrad_cam"][layer], maps["hires_cam"][layer], atol=1e-3)


# One method by another


def test_hires_cam_is_the_sum_over_channels_of_gradient_times_activation():
    maps = explain(
        piecewise_linear_net(), random_images(), ["0.0:pre", "1"], "hirescam,gradxactivation", "all"
    ).maps
    for layer, cams in maps["gradient_x_activation"].items():
        assert_close(cams.sum(2), maps["hires_cam"][layer], rtol=1e-5, atol=1e-6)


def test_elementwise_is_layer_cam_where_no_negative_activation_has_a_gradient():
    keys, layers = ["grad_cam_elementwise", "layer_cam"], ["0.2", "0.3", "1.0", "1.0:pre"]
    maps = explain(piecewise_linear_net(), random_images(), [*layers, "0.0:pre"], keys, "all").maps
    for layer in layers:
        assert torch.equal(*(maps[key][layer] for key in keys))
    assert not torch.allclose(*(maps[key]["0.0:pre"] for key in keys), rtol=1e-2)


def test_pool_gradient_is_elementwise_where_no_pool_follows():
    keys, layers = ["grad_cam_elementwise", "layer_cam_pool_gradient"], ["0.2", "0.3", "1.0:pre"]
    maps = explain(piecewise_linear_net(), random_images(), layers, keys, "all").maps
    assert not torch.allclose(*(maps[key]["0.2"] for key in keys), atol=1e-3)
    for layer in layers[1:]:
        assert torch.equal(*(maps[key][layer] for key in keys))


def test_guided_grad_cam_is_guided_backpropagation_under_enlarged_grad_cam():
    keys = "guided_backprop,guided_grad_cam,grad_cam"
    maps = explain(piecewise_linear_net(), random_images(), ["0.3", "1"], keys, "all").maps
    for layer in ("0.3", "1"):
        mask = interpolate(maps["grad_cam"][layer].relu(), (12, 12), mode="bilinear")
        expected = maps["guided_backprop"]["input"] * mask[:, :, None]
        assert_close(maps["guided_grad_cam"][layer], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("num_classes", [2, 3, 4, 7])
def test_finer_cam_is_linear_in_the_classes_it_compares(num_classes):
    net = piecewise_linear_net(num_classes)
    e = explain(net, random_images(), ["0", "1"], "grad_cam,finer_cam", "all")
    for layer, plain in e.maps["grad_cam"].items():
        for n, logits in enumerate(e.logits):
            for c in range(num_classes):
                distance = (logits - logits[c]).abs()
                distance[c] = torch.inf
                alike = distance.argsort()[: min(3, num_classes - 1)]
                expected = plain[n, c] - 0.6 * plain[n, alike].mean(0)
                assert_close(e.maps["finer_cam"][layer][n, c], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("key", [key for key in METHODS if METHODS[key].supports_smoothing])
def test_contributions_of_the_channels_add_up_to_the_map(key):
    generator = torch.Generator().manual_seed(0)
    activation, gradient = torch.randn(2, 3, 7, 5, 4, generator=generator, dtype=torch.float64)
    activation = activation.abs()
    parts = contributions(METHODS[key].compute, activation, gradient)
    assert parts.shape == activation.shape
    cam = METHODS[key].compute(activation, gradient)
    assert_close(parts.sum(-3), cam, rtol=1e-11, atol=1e-12)


# Global average pooling: there everything is CAM


class MeanNet(nn.Module):
    """Convolutions, the mean over space as a tensor's method, and one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.features = nn.Sequential(
                *(nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True), nn.Conv2d(6, 8, 3)), nn.ReLU()
            )
            self.fc = nn.Linear(8, 4)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.fc(self.features(x).mean([2, 3]))


def pooled_net() -> nn.Sequential:
    """The same net with a pooling module."""
    net = MeanNet()
    return nn.Sequential(net.features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), net.fc)


@pytest.mark.parametrize(
    "layer_of", [(MeanNet, "features"), (pooled_net, "0")], ids=["mean", "pool"]
)
def test_every_method_is_cam_before_global_average_pooling(layer_of):
    make_net, layer = layer_of
    net, images = make_net(), random_images(10)
    features = net.features if isinstance(net, MeanNet) else net[0]
    weight = (net.fc if isinstance(net, MeanNet) else net[3]).weight.detach()
    activation = features(images).detach()  # (N, C, h, w), >= 0
    positions = activation[0, 0].numel()
    cam = torch.einsum("kc,nchw->nkhw", weight, activation).float()
    keys = "cam,grad_cam,hires_cam,xgrad_cam,layer_cam"
    maps = {
        key: by_layer[layer]
        for key, by_layer in explain(net, images, [layer], keys, "all").maps.items()
    }
    assert_close(maps["cam"], cam, rtol=1e-5, atol=1e-6)
    for key in ("grad_cam", "hires_cam", "xgrad_cam"):
        assert_close(positions * maps[key], cam, rtol=1e-5, atol=1e-6)
    positive = torch.einsum("kc,nchw->nkhw", weight.relu(), activation).float()
    assert_close(positions * maps["layer_cam"], positive, rtol=1e-5, atol=1e-6)


def test_cam_rectifies_what_it_reads_before_the_last_relu():
    maps = explain(
        MeanNet(), random_images(10), ["features.2", "features.2:pre"], "cam", "all"
    ).maps
    assert_close(maps["cam"]["features.2:pre"], maps["cam"]["features.2"])


# Scale


def scaled_maps(keys: list[str], factor: float) -> tuple[dict, dict]:
    """Return the maps of a net, and of the same net with its logits multiplied."""
    found = []
    for times in (1.0, factor):
        net = piecewise_linear_net()
        with torch.no_grad():
            net[2][3].weight.mul_(times)
            net[2][3].bias.mul_(times)
        found.append(explain(net, random_images(), ["0.2", "1.2"], keys, "all").maps)
    return found[0], found[1]


@pytest.mark.parametrize("factor", [2.0, 1e-6])
@pytest.mark.parametrize(
    "key",
    [
        *("grad_cam", "xgrad_cam", "hires_cam", "grad_cam_elementwise", "layer_cam", "finer_cam"),
        *("layer_cam_pool_gradient", "eigen_grad_cam", "ablation_cam"),
    ],
)
def test_normalised_maps_do_not_change_with_the_scale_of_the_logits(key, factor):
    plain, scaled = scaled_maps([key], factor)
    for layer, cam in plain[key].items():
        assert_close(normalise(scaled[key][layer]), normalise(cam), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "key", ["grad_cam_plus_plus", "smooth_grad_cam_plus_plus", "score_cam", "score_cam_pgc"]
)
def test_normalised_maps_change_with_the_scale_of_the_logits_where_weights_are_not_linear(key):
    plain, scaled = scaled_maps([key], 8.0)
    for layer, cam in plain[key].items():
        assert (normalise(scaled[key][layer]) - normalise(cam)).abs().amax() > 1e-3


# Options


@pytest.mark.parametrize("options", [{"gamma": 5.0}, {"stages": 0}, {"stages": 2}], ids=str)
def test_gamma_and_stages_change_the_fused_maps_only(options):
    net, images = piecewise_linear_net(), random_images()
    keys = [key for key, method in METHODS.items() if method.needs in (GRADIENT, ACTIVATION)]
    plain, other = (
        explain(net, images, ["0", "1"], [*keys, "layer_cam_pool_gradient"], "all", **own).maps
        for own in ({}, options)
    )
    fused = [key for key in plain if "fused" in plain[key]]
    assert fused == [key for key in plain if METHODS[key].fuses]
    for key, by_layer in plain.items():
        for layer, cam in by_layer.items():
            assert torch.equal(cam, other[key][layer]) == (layer != "fused"), (key, layer)


def test_score_cam_does_not_change_with_a_bias_that_all_logits_share():
    net, images = piecewise_linear_net(), random_images()
    keys = ["score_cam", "score_cam_pgc", "score_cam_torchcam", "ablation_cam"]
    plain = explain(net, images, ["1"], keys, "all").maps
    with torch.no_grad():
        net[2][3].bias.add_(3)
    shifted = explain(net, images, ["1"], keys, "all").maps
    for key in keys:
        assert_close(shifted[key]["1"], plain[key]["1"], rtol=1e-5, atol=1e-7)


def test_recipro_cam_counts_what_an_empty_layer_scores_at_every_position():
    net, images = piecewise_linear_net(), random_images()
    plain = explain(net, images, ["1"], "recipro_cam", "all").maps["recipro_cam"]["1"]
    with torch.no_grad():
        net[2][3].bias.add_(3)
    shifted = explain(net, images, ["1"], "recipro_cam", "all").maps["recipro_cam"]["1"]
    assert_close(shifted, plain + 3)


# The bundled model


def test_alexnet_pools_nothing_at_224_so_that_two_layers_are_one(catdog, photographs):
    layers = ["features.12", "avgpool"]
    e = explain(catdog, photographs, layers, [*SHARED_KEYS, "recipro_cam"], "all")
    for key, by_layer in e.maps.items():
        assert torch.equal(by_layer["features.12"], by_layer["avgpool"]), key


def test_alexnet_pools_at_other_sizes_so_that_two_layers_are_two(catdog, photographs):
    images = adaptive_avg_pool2d(photographs[:1], 160)
    e = explain(catdog, images, ["features.12", "avgpool"], "grad_cam")
    assert [cam.shape[-1] for cam in e.maps["grad_cam"].values()] == [4, 6]
