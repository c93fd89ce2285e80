"""Methods: every one equals its oracle, keeps its contract and is found under any spelling."""

import subprocess
import sys

import pytest
import reference
import torch
from torch import Tensor
from torch.testing import assert_close

from camreport.errors import MethodError
from camreport.methods import METHODS, resolve_methods

every_method = pytest.mark.parametrize("key", METHODS)


def random_pair(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A signed activation and gradient, float64."""
    generator = torch.Generator().manual_seed(seed)
    activation, gradient = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    return activation, gradient


@every_method
@pytest.mark.parametrize("sign", ["signed", "non-negative"])
def test_every_method_matches_its_reference(key, sign):
    activation, gradient = random_pair(5, 4, 3)
    if sign == "non-negative":
        activation = activation.relu()
    expected = getattr(reference, key)(activation, gradient)
    assert expected.abs().max() > 0
    assert_close(METHODS[key].compute(activation, gradient), expected, rtol=1e-12, atol=1e-14)


@every_method
def test_every_method_takes_leading_axes(key):
    activation, gradient = random_pair(2, 3, 5, 4, 3)
    cam = METHODS[key].compute(activation, gradient)
    assert cam.shape == (2, 3, 4, 3)
    for n in range(2):
        for k in range(3):
            expected = getattr(reference, key)(activation[n, k], gradient[n, k])
            assert_close(cam[n, k], expected, rtol=1e-12, atol=1e-14)


@every_method
def test_every_method_takes_expanded_inputs(key):
    activation, gradient = random_pair(5, 4, 3)
    cam = METHODS[key].compute(activation.expand(2, -1, -1, -1), gradient.expand(2, -1, -1, -1))
    expected = getattr(reference, key)(activation, gradient)
    assert_close(cam, torch.stack([expected, expected]), rtol=1e-12, atol=1e-14)


@every_method
def test_every_method_leaves_its_inputs_unmodified(key):
    activation, gradient = random_pair(2, 5, 4, 3)
    before = activation.clone(), gradient.clone()
    METHODS[key].compute(activation, gradient)
    assert torch.equal(activation, before[0])
    assert torch.equal(gradient, before[1])


@every_method
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_method_keeps_the_dtype(key, dtype):
    activation, gradient = (tensor.to(dtype) for tensor in random_pair(2, 5, 4, 3))
    assert METHODS[key].compute(activation, gradient).dtype == dtype


@every_method
@pytest.mark.parametrize("shape", [(5, 4, 4), (1, 4, 3), (2, 5, 4, 3)])
def test_every_method_refuses_differing_shapes(key, shape):
    activation, _ = random_pair(5, 4, 3)
    with pytest.raises(MethodError, match=r"gradient: expected .*\(5, 4, 3\), got"):
        METHODS[key].compute(activation, torch.ones(shape, dtype=torch.float64))


@every_method
def test_every_method_gives_zeros_for_a_zero_gradient(key):
    activation, _ = random_pair(5, 4, 3)
    cam = METHODS[key].compute(activation, torch.zeros_like(activation))
    assert torch.equal(cam, torch.zeros(4, 3, dtype=torch.float64))


@every_method
def test_every_method_gives_nan_where_the_activation_is_nan(key):
    activation, gradient = random_pair(5, 4, 3)
    activation[2, 1, 0] = torch.nan
    assert METHODS[key].compute(activation, gradient)[1, 0].isnan()


@pytest.mark.parametrize("key", ["grad_cam", "hires_cam"])
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


@pytest.mark.parametrize("key", ["grad_cam", "layer_cam", "hires_cam"])
@pytest.mark.parametrize("factor", [0.125, 1024.0])
def test_method_scales_with_activation_and_gradient(key, factor):
    activation, gradient = random_pair(5, 4, 3)
    cam = METHODS[key].compute(activation, gradient)
    assert torch.equal(METHODS[key].compute(factor * activation, gradient), factor * cam)
    assert torch.equal(METHODS[key].compute(activation, factor * gradient), factor * cam)


@every_method
def test_every_method_stands_in_the_table_under_its_function_name(key):
    method = METHODS[key]
    assert method.key == key == method.compute.__name__
    assert "https://" in method.source
    for sentence in (method.meaning, method.caution):
        assert sentence.endswith(".")


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        ("gradcam", ["grad_cam"]),
        ("Grad-CAM", ["grad_cam"]),
        ("GRAD_CAM", ["grad_cam"]),
        (" grad cam ", ["grad_cam"]),
        ("layercam", ["layer_cam"]),
        ("hires-cam", ["hires_cam"]),
        ("HiResCAM,grad-cam", ["hires_cam", "grad_cam"]),
        (["LayerCAM", "hirescam"], ["layer_cam", "hires_cam"]),
        ("gradcam, layer_cam,, Grad-CAM", ["grad_cam", "layer_cam"]),
        ("all", list(METHODS)),
        (["layercam", "All"], ["layer_cam", *(key for key in METHODS if key != "layer_cam")]),
    ],
)
def test_resolve_methods_takes_any_spelling(names, keys):
    assert [method.key for method in resolve_methods(names)] == keys


@every_method
def test_resolve_methods_finds_every_key_and_display_name(key):
    for spelling in (key, METHODS[key].name, key.upper(), key.replace("_", "-")):
        assert resolve_methods(spelling) == [METHODS[key]]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("layrcam", "layer_cam"), ("Gard-CAM", "grad_cam"), ("hires", "hires_cam")],
)
def test_resolve_methods_suggests_the_nearest_for_an_unknown_name(name, nearest):
    with pytest.raises(MethodError, match=f"got '{name}'.*Did you mean '{nearest}'"):
        resolve_methods(["layercam", name])


@pytest.mark.parametrize("names", ["", " , ", [], ()])
def test_resolve_methods_refuses_no_name(names):
    with pytest.raises(MethodError, match=r"at least one of .*grad_cam.*got none"):
        resolve_methods(names)


def test_methods_module_does_not_import_torch():
    code = "import sys, camreport.methods; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
