"""Quantities and smoothings, by the plain maps of other nets and other images."""

import pytest
import torch
from helpers import reference
from helpers.nets import IMAGES, gap_net, spatial_net
from torch import Tensor, nn
from torch.testing import assert_close

from camreport import explain
from camreport.methods import METHODS
from camreport.methods.fusion import fuse
from camreport.methods.registry import ABLATED, HEAD, KEPT, LOOK_ALIKES, MASKED, NOISE

OWN_SCORE = [k for k, m in METHODS.items() if m.needs in (MASKED, LOOK_ALIKES)]
"""Methods that have a score of their own and keep it."""

SMOOTHED = [key for key, method in METHODS.items() if method.supports_smoothing]
LAYERS = ["2", "5"]


# Quantities: the logit of a net that computes the quantity itself


class Contrast(nn.Module):
    """Subtracts from every logit the strongest other one, or a named one."""

    def __init__(self, rival: int | None) -> None:
        super().__init__()
        self.rival = rival

    def forward(self, logits: Tensor) -> Tensor:
        """Return the differences; of the named class to the strongest other."""
        own = torch.diag_embed(torch.ones_like(logits[0])).bool()  # which torch.fx can follow
        others = logits[:, None].masked_fill(own, -torch.inf).amax(2)
        if self.rival is None:
            return logits - others
        named = logits[:, self.rival, None].expand_as(logits)
        return logits - torch.where(own[self.rival], others, named)


QUANTITIES = {
    "probability": nn.Softmax(1),
    "contrast": Contrast(None),
    "contrast:3": Contrast(3),
}


@pytest.mark.parametrize(
    ("key", "quantity"),
    [
        (key, quantity)
        for key, method in METHODS.items()
        for quantity in QUANTITIES
        if key not in OWN_SCORE and method.needs is not HEAD
        # the rival is that of the image, not of each variant: see below
        if quantity != "contrast" or method.needs not in (ABLATED, KEPT, NOISE)
        # a net that ends in a softmax is no sum of FullGrad's shares
        if (key, quantity) != ("full_grad", "probability")
    ],
)
def test_quantity_is_the_logit_of_a_net_that_computes_it(key, quantity):
    net = spatial_net()
    asked = explain(net, IMAGES, LAYERS, [key], "all", quantity=quantity).maps[key]
    longer = nn.Sequential(*net, QUANTITIES[quantity])
    computed = explain(longer, IMAGES, LAYERS, [key], "all").maps[key]
    assert asked.keys() == computed.keys()
    for layer, expected in computed.items():
        largest = float(expected.abs().amax())
        assert largest > 0
        if METHODS[key].per_class:
            plain = explain(net, IMAGES, LAYERS, [key], "all").maps[key][layer]
            assert not torch.allclose(plain, expected, atol=1e-3 * largest)
        assert_close(asked[layer], expected, rtol=1e-5, atol=1e-6 * largest)


@pytest.mark.parametrize("quantity", ["contrast", "contrast:3"])
def test_contrast_keeps_the_rival_of_the_image_while_channels_are_switched_off(quantity):
    net, image = spatial_net(), IMAGES[0]
    logits = reference.logits_of(net, image)
    maps = explain(
        net, image[None], ["5"], "ablation_cam,recipro_cam", "all", quantity=quantity
    ).maps
    for c in range(len(logits)):
        others = [d for d in range(len(logits)) if d != c]
        strongest = max(others, key=lambda d: float(logits[d]))
        rival = 3 if quantity == "contrast:3" and c != 3 else strongest
        for key in ("ablation_cam", "recipro_cam"):
            oracle = getattr(reference, key)
            own, its = (oracle(net, net[5], image, d) for d in (c, rival))
            assert_close(maps[key]["5"][0, c].double(), own - its, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("key", OWN_SCORE)
def test_methods_with_a_score_of_their_own_keep_it(key, quantity):
    plain, asked = (
        explain(spatial_net(), IMAGES, LAYERS, [key], "all", quantity=one).maps[key]
        for one in ("logit", quantity)
    )
    assert_close(asked, plain, rtol=0, atol=0)


@pytest.mark.parametrize(("c", "rival"), [(0, 3), (3, None)])
def test_grad_cam_of_a_contrast_is_a_difference_of_maps(c, rival):
    net = spatial_net()
    e = explain(net, IMAGES, ["5"], "grad_cam", "all")
    asked = explain(net, IMAGES, ["5"], "grad_cam", [c], quantity="contrast:3").maps["grad_cam"][
        "5"
    ]
    for n, logits in enumerate(e.logits):
        others = logits.clone()
        others[c] = -torch.inf
        other = int(others.argmax()) if rival is None else rival
        expected = e.maps["grad_cam"]["5"][n, c] - e.maps["grad_cam"]["5"][n, other]
        assert_close(asked[n, 0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_cam_of_a_quantity_is_its_grad_cam_times_the_positions(quantity):
    maps = explain(gap_net(), IMAGES, ["3"], "cam,grad_cam", "all", quantity=quantity).maps
    cam, grad_cam = maps["cam"]["3"], maps["grad_cam"]["3"]
    assert_close(cam, cam[0, 0].numel() * grad_cam, rtol=1e-4, atol=1e-6)


# Smoothing: averages over copies that are explained one by one


def noisy(images: Tensor, seed: int = 0) -> list[Tensor]:
    """Return four noisy copies: the same noise for every image, standard deviation 0.3."""
    generator = torch.Generator().manual_seed(seed)
    return [images + 0.3 * torch.randn(images.shape[1:], generator=generator) for _ in range(4)]


def average(net: nn.Module, copies: list[tuple[Tensor, bool]], key: str, layer: str) -> Tensor:
    """Return the mean map of copies, of which some are mirrored."""
    total = torch.zeros(())
    for copy, mirrored in copies:
        image = copy.flip(-1) if mirrored else copy
        cam = explain(net, image, [layer], [key], "all").maps[key][layer].double()
        total = total + (cam.flip(-1) if mirrored else cam) / len(copies)
    return total.float()


COPIES = {
    "noise": lambda images: [(one, False) for one in noisy(images)],
    "aug": lambda images: [(f * images, m) for f in (0.9, 1.0, 1.1) for m in (False, True)],
    "noise,aug": lambda images: [
        (f * one, m) for one in noisy(images) for f in (0.9, 1.0, 1.1) for m in (False, True)
    ],
}


@pytest.mark.parametrize("smooth", COPIES)
@pytest.mark.parametrize("key", [key for key in SMOOTHED if METHODS[key].needs is not LOOK_ALIKES])
def test_smoothed_map_is_the_average_over_the_copies(key, smooth):
    net = spatial_net()
    maps = explain(net, IMAGES, LAYERS, [key], "all", smooth=smooth).maps[key]
    for layer in LAYERS:
        expected = average(net, COPIES[smooth](IMAGES), key, layer)
        plain = explain(net, IMAGES, [layer], [key], "all").maps[key][layer]
        assert not torch.allclose(expected, plain, atol=1e-3 * float(plain.abs().amax()))
        assert_close(maps[layer], expected, rtol=1e-4, atol=1e-5 * float(expected.abs().amax()))


def test_smoothed_maps_are_fused_after_they_are_averaged():
    maps = explain(spatial_net(), IMAGES, LAYERS, "layer_cam", "all", smooth="aug").maps[
        "layer_cam"
    ]
    assert_close(maps["fused"], fuse([maps[layer] for layer in LAYERS]))


def test_smoothing_noise_depends_on_its_seed():
    net = spatial_net()
    by_seed = [
        explain(net, IMAGES, ["2"], "grad_cam", [1], smooth="noise", seed=seed).maps["grad_cam"][
            "2"
        ]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(by_seed[0], by_seed[1])
    assert not torch.allclose(by_seed[0], by_seed[2])


@pytest.mark.parametrize("smooth", ["eigen", "aug,eigen"])
def test_eigen_smoothing_keeps_the_first_component_of_the_contributions(smooth):
    net, keys = gap_net(), ["hires_cam", "grad_cam", "grad_cam_elementwise"]
    copies = COPIES["aug"](IMAGES) if "aug" in smooth else [(IMAGES, False)]
    maps = explain(net, IMAGES, ["3"], keys, [4, 1], smooth=smooth).maps
    total = {key: torch.zeros(()) for key in keys}
    for copy, mirrored in copies:
        image = copy.flip(-1) if mirrored else copy
        e = explain(net, image, ["3"], "gradient_x_activation", [4, 1])
        parts = e.maps["gradient_x_activation"]["3"].double()  # the gradient is flat here
        for key in keys:
            own = parts.relu() if key == "grad_cam_elementwise" else parts
            first = [torch.stack([reference.eigen_cam(one) for one in row]) for row in own]
            cam = torch.stack(first)
            total[key] = total[key] + (cam.flip(-1) if mirrored else cam) / len(copies)
    for key in keys:
        largest = float(total[key].abs().amax())
        assert_close(maps[key]["3"].double(), total[key], rtol=0, atol=1e-4 * largest)


def test_smoothing_leaves_the_methods_alone_that_it_does_not_apply_to():
    others = [key for key, method in METHODS.items() if not method.supports_smoothing]
    net = gap_net()
    plain, smoothed = (
        explain(net, IMAGES, ["1", "3"], others, [4, 1], smooth=smooth).maps
        for smooth in ((), ("noise", "aug", "eigen"))
    )
    assert_close(smoothed, plain, rtol=0, atol=0)
