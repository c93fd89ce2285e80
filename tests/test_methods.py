"""Methods: every one equals its oracle and keeps its contract."""

from collections.abc import Callable

import pytest
import torch
from helpers import reference
from helpers.method_tester import CHECKS, MethodTester, equals_its_oracle
from helpers.nets import spatial_net
from torch import Tensor
from torch.testing import assert_close

from camreport.errors import MethodError
from camreport.methods import METHODS, Method
from camreport.methods.registry import (
    ABLATED,
    ACTIVATION,
    GRADIENT,
    HEAD,
    INPUT_GRADIENT,
    KEPT,
    LOOK_ALIKES,
    MASKED,
    NOISE,
    POOL_GRADIENT,
    SHARED_MASKS,
)

every_method = pytest.mark.parametrize("key", METHODS)
gradient_method = pytest.mark.parametrize(
    "key", [k for k in METHODS if METHODS[k].needs is GRADIENT]
)
needs_a_and_g = pytest.mark.parametrize(
    "key", [k for k in METHODS if METHODS[k].needs in (GRADIENT, LOOK_ALIKES)]
)


# In a network


@every_method
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_method_keeps_its_contract_in_a_network(check, key):
    check(MethodTester.of(key))


@every_method
@pytest.mark.parametrize("place", [1, 3])
def test_every_method_equals_its_oracle_before_a_relu_and_behind_a_pool(key, place):
    if METHODS[key].needs is not HEAD:
        equals_its_oracle(MethodTester(key, spatial_net, (place,)))


# The functions


def random_pair(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A signed activation and gradient, float64."""
    generator = torch.Generator().manual_seed(seed)
    activation, gradient = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    return activation, gradient


def random_tensors(method: Method, *lead: int, seed: int = 1) -> list[Tensor | list[Tensor]]:
    """What a method's function takes, for C h w = 5 4 3, images of 8 x 6 and 2 classes."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*lead, *shape, generator=generator, dtype=torch.float64)

    activation = normal(5, 4, 3)
    if method.key == "guided_backprop":
        return [normal(3, 8, 6)]
    if method.key == "guided_grad_cam":
        return [normal(3, 8, 6), normal(4, 3)]
    further: dict[object, Callable[[], list[Tensor | list[Tensor]]]] = {
        GRADIENT: lambda: [normal(5, 4, 3)],
        ACTIVATION: list,
        HEAD: lambda: [normal(2, 5)],
        POOL_GRADIENT: lambda: [normal(5, 2, 2)],
        LOOK_ALIKES: lambda: [normal(5, 4, 3)],
        NOISE: lambda: [normal(5, 4, 3), normal(5, 4, 3).square(), normal(5, 4, 3)],
        MASKED: lambda: [normal(5, 2)],
        ABLATED: lambda: [normal(2), normal(5, 2)],
        KEPT: lambda: [normal(12, 2)],
    }
    if method.needs is SHARED_MASKS:
        return [normal(7, 2), normal(4, 3, 7)]
    if method.needs is INPUT_GRADIENT:
        return [normal(3, 8, 6), normal(3, 8, 6), [normal(5, 4, 3), normal(2, 8, 6)]]
    return [activation, *further[method.needs]()]


def each(tensors: list[Tensor | list[Tensor]], change: Callable[[Tensor], Tensor]) -> list:
    """Change every tensor of a method's arguments."""
    return [change(t) if isinstance(t, Tensor) else [change(one) for one in t] for t in tensors]


@gradient_method
@pytest.mark.parametrize("sign", ["signed", "non-negative"])
def test_gradient_method_matches_its_reference_to_the_last_digits(key, sign):
    activation, gradient = random_pair(5, 4, 3)
    if sign == "non-negative":
        activation = activation.relu()
    elif METHODS[key].non_negative:
        gradient = gradient / 8  # else its denominators are below zero, and it is not defined
    expected = getattr(reference, key)(activation, gradient)
    assert expected.abs().max() > 0
    assert_close(METHODS[key].compute(activation, gradient), expected, rtol=1e-11, atol=1e-12)


@every_method
def test_every_method_takes_leading_axes(key):
    method = METHODS[key]
    tensors = random_tensors(method, 2, 3)
    cams = method.compute(*tensors)
    for n in range(2):
        for k in range(3):
            alone = method.compute(*each(tensors, lambda tensor: tensor[n, k]))  # noqa: B023
            assert_close(cams[n, k], alone, rtol=1e-11, atol=1e-12, equal_nan=True)


@every_method
def test_every_method_takes_expanded_inputs(key):
    method = METHODS[key]
    tensors = random_tensors(method)
    alone = method.compute(*tensors)
    cams = method.compute(*each(tensors, lambda tensor: tensor.expand(2, *tensor.shape)))
    assert_close(cams, torch.stack([alone, alone]), rtol=1e-11, atol=1e-12, equal_nan=True)


@every_method
def test_every_method_leaves_its_inputs_unmodified(key):
    method = METHODS[key]
    tensors = random_tensors(method, 2)
    before = each(tensors, torch.clone)
    method.compute(*tensors)
    assert_close(tensors, before, rtol=0, atol=0)


@every_method
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_method_keeps_the_dtype(key, dtype):
    method = METHODS[key]
    tensors = each(random_tensors(method, 2), lambda tensor: tensor.to(dtype))
    assert method.compute(*tensors).dtype == dtype


@needs_a_and_g
@pytest.mark.parametrize("shape", [(5, 4, 4), (1, 4, 3), (2, 5, 4, 3)])
def test_gradient_method_refuses_differing_shapes(key, shape):
    activation, _ = random_pair(5, 4, 3)
    with pytest.raises(MethodError, match=r"gradient: expected .*\(5, 4, 3\), got"):
        METHODS[key].compute(activation, torch.ones(shape, dtype=torch.float64))


@needs_a_and_g
def test_gradient_method_gives_zeros_for_a_zero_gradient(key):
    activation, _ = random_pair(5, 4, 3)
    cam = METHODS[key].compute(activation, torch.zeros_like(activation))
    assert torch.equal(cam, torch.zeros_like(cam))


@pytest.mark.parametrize(
    "key", [k for k, m in METHODS.items() if m.grid == "layer" and m.needs is not KEPT]
)
def test_method_of_activations_gives_nan_where_one_is_nan(key):
    method = METHODS[key]
    activation, *further = random_tensors(method)
    activation[2, 1, 0] = torch.nan
    assert method.compute(activation, *further)[..., 1, 0].isnan().any()


@pytest.mark.parametrize("key", ["grad_cam", "hires_cam", "xgrad_cam"])
@pytest.mark.parametrize("grid", [(4, 3), (1, 1)])
def test_method_weighs_channels_when_the_gradient_is_constant(key, grid):
    activation, _ = random_pair(3, *grid)
    weight = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64).view(3, 1, 1)
    cam = METHODS[key].compute(activation, weight.expand_as(activation))
    assert_close(cam, 2 * activation[0] - activation[1] + 0.5 * activation[2])


@pytest.mark.parametrize("grid", [(4, 3), (1, 1)])
def test_layer_cam_drops_negative_weights_when_the_gradient_is_constant(grid):
    activation, _ = random_pair(3, *grid)
    weight = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64).view(3, 1, 1)
    cam = METHODS["layer_cam"].compute(activation, weight.expand_as(activation))
    assert_close(cam, 2 * activation[0] + 0.5 * activation[2])


@pytest.mark.parametrize(
    "key", ["grad_cam", "layer_cam", "hires_cam", "grad_cam_elementwise", "gradient_x_activation"]
)
@pytest.mark.parametrize("factor", [0.125, 1024.0])
def test_method_scales_with_activation_and_gradient(key, factor):
    activation, gradient = random_pair(5, 4, 3)
    cam = METHODS[key].compute(activation, gradient)
    assert torch.equal(METHODS[key].compute(factor * activation, gradient), factor * cam)
    assert torch.equal(METHODS[key].compute(activation, factor * gradient), factor * cam)


# Grad-CAM++ and XGrad-CAM where their denominators are small


@pytest.mark.parametrize("factor", [1e-30, 1e-12, 1.0, 1e12])
def test_grad_cam_plus_plus_has_no_special_scale(factor):
    activation, gradient = random_pair(5, 4, 3)
    activation, gradient = activation.relu().float(), (factor * gradient).float()
    expected = reference.grad_cam_plus_plus(activation, gradient)
    cam = METHODS["grad_cam_plus_plus"].compute(activation, gradient).double()
    assert_close(cam, expected, rtol=1e-5, atol=1e-6 * float(expected.max()))


@pytest.mark.parametrize(
    ("slope", "defined"),
    [(1.0, [False, True, True]), (0.5, [False, True, True]), (0.4, [True] * 3), (-9.0, [True] * 3)],
)
def test_grad_cam_plus_plus_is_nan_where_a_denominator_is_not_positive(slope, defined):
    activation = torch.tensor([[-1.0, -3.0], [1.0, -1.5], [1.0, 2.0]])  # sums -4, -0.5 and 3
    activation = activation.view(3, 1, 1, 2)
    cams = METHODS["grad_cam_plus_plus"].compute(activation, torch.full_like(activation, slope))
    assert [bool(cam.isfinite().all()) for cam in cams] == defined
    assert [not cam.isnan().all() for cam in cams] == defined


def test_smooth_grad_cam_plus_plus_gives_no_weight_where_a_denominator_is_not_positive():
    activation = torch.tensor([[[-1.0, -3.0]]])
    gradient = torch.tensor([[[1.0, 0.25]]])  # 2 - 4 < 0, but 2 * 0.0625 - 4 * 0.015625 > 0
    cam = METHODS["smooth_grad_cam_plus_plus"].compute(
        activation, gradient, gradient**2, gradient**3
    )
    assert_close(cam, 0.25 * activation[0])


@pytest.mark.parametrize("key", ["xgrad_cam", "grad_cam_plus_plus", "smooth_grad_cam_plus_plus"])
def test_method_gives_a_dead_channel_no_weight(key):
    method = METHODS[key]
    activation, *further = each(random_tensors(method), torch.abs)
    activation[[1, 3]] = 0
    alive = [0, 2, 4]
    expected = method.compute(*each([activation, *further], lambda tensor: tensor[alive]))
    assert expected.isfinite().all()
    assert_close(method.compute(activation, *further), expected)


def test_xgrad_cam_gives_no_weight_to_a_channel_that_cancels_itself():
    activation = torch.tensor([[[1.0, -1.0]], [[1.0, 3.0]]])
    gradient = torch.tensor([[[5.0, 7.0]], [[0.0, 4.0]]])
    assert torch.equal(
        METHODS["xgrad_cam"].compute(activation, gradient), torch.tensor([[3.0, 9.0]])
    )


# The first component


CHANNELS = {"fewer channels than positions": (3, 4, 5), "more channels than positions": (30, 3, 2)}


@pytest.mark.parametrize("shape", CHANNELS.values(), ids=CHANNELS)
@pytest.mark.parametrize("factor", [1e-36, 1e-12, 1.0, 1e12, 1e36])
def test_eigen_cam_has_no_special_scale(shape, factor):
    activation = random_pair(*shape)[0].abs()
    expected = factor * reference.eigen_cam(activation)
    cam = METHODS["eigen_cam"].compute((factor * activation).float()).double()
    assert_close(cam, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("shape", CHANNELS.values(), ids=CHANNELS)
def test_eigen_cam_keeps_nan_and_infinity_to_their_own_map(shape):
    activation = torch.stack([random_pair(*shape, seed=seed)[0].abs() for seed in range(4)])
    expected = METHODS["eigen_cam"].compute(activation.clone())
    activation[1, 2, 1, 1], activation[3, 0, 0, 0] = torch.nan, torch.inf
    cams = METHODS["eigen_cam"].compute(activation)
    assert cams[[1, 3]].isnan().all()
    assert torch.equal(cams[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize("shape", [*CHANNELS.values(), (1, 1, 1)])
def test_eigen_cam_of_zeros_is_zeros(shape):
    assert torch.equal(METHODS["eigen_cam"].compute(torch.zeros(shape)), torch.zeros(shape[1:]))


@pytest.mark.parametrize("shape", CHANNELS.values(), ids=CHANNELS)
def test_eigen_cam_computes_half_precision_in_float32(shape):
    activation = random_pair(*shape)[0].abs().bfloat16()
    cam = METHODS["eigen_cam"].compute(activation)
    assert_close(cam, METHODS["eigen_cam"].compute(activation.float()).bfloat16())


@pytest.mark.parametrize("shape", CHANNELS.values(), ids=CHANNELS)
@pytest.mark.parametrize("seed", range(6))
def test_eigen_grad_cam_agrees_with_hires_cam_in_sign(shape, seed):
    activation, gradient = random_pair(*shape, seed=seed)
    cam = METHODS["eigen_grad_cam"].compute(activation, gradient)
    assert (cam * METHODS["hires_cam"].compute(activation, gradient)).sum() >= 0
    turned = METHODS["eigen_grad_cam"].compute(activation, -gradient)
    assert_close(turned, -cam)


def normed_tokens(seed: int, channels: int, height: int, width: int) -> Tensor:
    """What a LayerNorm without weights gives, ``(C, h, w)`` in float64: channels that cancel."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
    tokens = torch.randn(height, width, channels, generator=generator, dtype=torch.float64) @ mix
    return torch.nn.functional.layer_norm(tokens + tokens.mean((0, 1)), [channels]).permute(2, 0, 1)


@pytest.mark.parametrize("shape", [(8, 4, 4), (48, 7, 5), (96, 3, 3)], ids=str)
@pytest.mark.parametrize("key", ["eigen_cam", "eigen_grad_cam"])
def test_first_component_has_the_same_sign_in_float32_where_channels_cancel(key, shape):
    for seed in range(40):
        channels = normed_tokens(seed, *shape)
        assert channels.sum(0).abs().max() < 1e-12
        given = (channels,) if key == "eigen_cam" else (channels, torch.ones_like(channels))
        exact = METHODS[key].compute(*given)
        single = METHODS[key].compute(*(tensor.float() for tensor in given)).double()
        assert_close(single, exact, rtol=0, atol=1e-3 * float(exact.abs().max()))
        assert_close(exact, reference.eigen_cam(channels))
        cubes = exact**3
        if abs(cubes.sum()) > 2e-3 * cubes.abs().sum():
            assert cubes.sum() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_first_component_of_opposite_halves_begins_with_its_positive_half(dtype):
    pattern = torch.tensor([[0.1, -0.7, 0.7], [0.2, -0.2, -0.1]], dtype=dtype)
    for factor in (1.0, -1.0, 3.7):
        channels = factor * torch.stack([pattern, -pattern])  # channels and cubes cancel
        expected = torch.tensor([[-0.1, 0.7, -0.7], [-0.2, 0.2, 0.1]], dtype=dtype)
        assert_close(
            METHODS["eigen_cam"].compute(channels),
            abs(factor) * 2**0.5 * expected,
            rtol=1e-5,
            atol=1e-6,
        )
        assert_close(reference.eigen_cam(channels), abs(factor) * 2**0.5 * expected.double())


# Functions of what further passes give


def test_score_cam_gives_no_weight_to_a_constant_channel():
    activation = torch.tensor([[[2.0, 2.0]], [[1.0, 3.0]]])
    cam = METHODS["score_cam"].compute(activation, torch.full((2, 2), 0.5))
    assert torch.equal(cam, torch.tensor([[[0.5, 1.5]], [[0.5, 1.5]]]))


@pytest.mark.parametrize("key", ["score_cam", "score_cam_pgc", "score_cam_torchcam"])
def test_score_cam_masks_span_0_to_1_and_are_zero_for_a_dead_channel(key):
    channels = random_pair(4, 5, 3)[0]
    channels[2] = 0
    masks = METHODS[key].masks(channels, (20, 18))
    assert masks.shape == (4, 20, 18)
    assert torch.equal(masks[2], torch.zeros(20, 18).double())
    assert masks.amin() >= 0
    assert_close(masks[[0, 1, 3]].amax((1, 2)), torch.ones(3).double(), rtol=0, atol=0.2)


def test_full_grad_ignores_a_share_that_is_the_same_everywhere():
    generator = torch.Generator().manual_seed(3)
    image, gradient = torch.randn(2, 3, 8, 6, generator=generator, dtype=torch.float64)
    share = torch.randn(5, 4, 3, generator=generator, dtype=torch.float64)
    constant = torch.full((2, 4, 3), 7.0, dtype=torch.float64)
    with_it = METHODS["full_grad"].compute(image, gradient, [constant, share])
    assert torch.equal(with_it, METHODS["full_grad"].compute(image, gradient, [share]))


def test_guided_grad_cam_is_zero_where_grad_cam_is_empty():
    gradient = torch.randn(3, 8, 6)
    saliency = METHODS["guided_grad_cam"].compute(gradient, -torch.rand(4, 3))
    assert torch.equal(saliency, torch.zeros(3, 8, 6))
