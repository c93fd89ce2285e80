"""Fusion: equals its oracle, lifts the shallow stages, keeps empty, undefined and scale apart."""

from collections import OrderedDict

import pytest
import torch
import torchvision
from helpers import reference
from helpers.nets import toy_net
from torch import Tensor, nn
from torch.testing import assert_close

from camreport import explain
from camreport.methods.fusion import fuse, normalise, shallow_stages

ALEXNET = [(55, 55), (27, 27), (13, 13), (13, 13), (6, 6)]
FEW = [(9, 9), (5, 5), (3, 3), (3, 3), (2, 2)]  # AlexNet's pattern on small grids


def random_cams(sizes: list[tuple[int, int]], seed: int = 0) -> list[Tensor]:
    """Signed raw maps ``(2, 3, h, w)`` float64, each layer on its own scale."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(2, 3, *size, generator=generator, dtype=torch.float64) * 10.0 ** (2 - 3 * place)
        for place, size in enumerate(sizes)
    ]


@pytest.mark.parametrize(
    ("sizes", "shallow"),
    [
        (ALEXNET, [True, True, True, True, False]),  # four sizes; its five stages are test_engine's
        ([(14, 14)] * 4, [False] * 4),
        ([(14, 14)] * 5, [False] * 5),
        ([(14, 14)] * 6, [False] * 6),
        ([(112, 112), (56, 56), (28, 28), (14, 14), (7, 7)], [True, True, True, False, False]),
        ([(56, 56), (28, 28), (14, 14), (7, 7)], [True, True, True, False]),
        ([(28, 28), (14, 14), (7, 7)], [True, True, False]),
        ([(14, 14), (7, 7)], [True, False]),
        ([(14, 14), (14, 14), (7, 7)], [True, True, False]),
        ([(13, 13), (13, 13)], [False, False]),
        ([(13, 13)], [False]),
        ([(8, 4), (4, 8)], [True, False]),
        (
            [(64, 64), (32, 32), (32, 32), (16, 16), (8, 8), (4, 4)],
            [True, True, True, True, False, False],
        ),
    ],
)
def test_shallow_stages_are_the_first_three_of_five_else_all_but_the_last(sizes, shallow):
    assert shallow_stages(sizes) == shallow


@pytest.mark.parametrize(
    ("sizes", "stages", "shallow"),
    [
        (ALEXNET, 0, [False] * 5),
        (ALEXNET, 1, [True, False, False, False, False]),
        (ALEXNET, 4, [True] * 5),
        (ALEXNET, 3, [True, True, True, True, False]),
        (ALEXNET, 5, [True] * 5),
        (ALEXNET, 9, [True] * 5),
        ([(14, 14), (14, 14), (7, 7)], 1, [True, True, False]),
        ([(14, 14), (14, 14), (7, 7)], 2, [True, True, True]),
        ([(13, 13), (13, 13)], 1, [True, True]),
        ([(13, 13)], 1, [True]),
    ],
)
def test_shallow_stages_are_as_many_as_are_asked_for(sizes, stages, shallow):
    assert shallow_stages(sizes, stages) == shallow


@pytest.mark.parametrize(
    ("stages", "lifted"), [(None, 3), (0, 0), (1, 1), (2, 2), (4, 4), (5, 5), (9, 5)]
)
def test_shallow_stages_are_those_that_the_caller_tells(stages, lifted):
    shallow = [place < lifted for place in range(5)]
    assert shallow_stages(ALEXNET, stages, range(5)) == shallow
    assert shallow_stages([(14, 14)] * 5, stages, (3, 4, 7, 8, 9)) == shallow


@pytest.mark.parametrize("course", [True, False])
def test_explain_takes_alexnets_course_layers_for_five_stages(course):
    torch.manual_seed(0)
    alexnet = torchvision.models.AlexNet(num_classes=2)
    names = [f"features.{place}" for place in (0, 3, 6, 9, 12)]
    net = alexnet if course else nn.Sequential(OrderedDict(net=alexnet))
    layers = names[::-1] if course else [f"net.{name}" for name in names]
    maps = explain(net, torch.randn(1, 3, 224, 224), layers, "layer_cam").maps["layer_cam"]
    cams = [maps[name if course else f"net.{name}"][0, 0].double() for name in names]
    expected = reference.fuse(cams, [True, True, True, not course, False])
    assert_close(maps["fused"][0, 0].double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("sizes", "shallow"),
    [
        (FEW, [True, True, True, True, False]),
        ([(12, 12), (7, 7), (6, 6), (3, 3)], [True, True, True, False]),
        ([(6, 9), (3, 4)], [True, False]),
        ([(4, 6), (8, 4)], [True, False]),
        ([(5, 5), (1, 1)], [True, False]),
        ([(4, 4), (4, 4)], [False, False]),
        ([(4, 3)], [False]),
    ],
)
def test_fuse_matches_its_reference(sizes, shallow):
    cams = random_cams(sizes)
    fused = fuse(cams)
    for n in range(2):
        for k in range(3):
            expected = reference.fuse([cam[n, k] for cam in cams], shallow)
            assert_close(fused[n, k], expected, rtol=1e-12, atol=1e-14)


def test_fuse_lifts_shallow_maps_by_tanh_of_gamma():
    cam = torch.tensor([[[[1.0, 2.0], [-3.0, 4.0]]]], dtype=torch.float64)
    deep = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    expected = torch.tensor([[0.25, 0.5], [0.0, 1.0]], dtype=torch.float64)
    assert_close(fuse([cam, deep])[0, 0], torch.tanh(2 * expected))
    assert_close(fuse([cam, deep], gamma=0.5)[0, 0], torch.tanh(0.5 * expected))


@pytest.mark.parametrize("stages", [0, 1, 2, 4, 5])
def test_fuse_lifts_as_many_stages_as_are_asked_for(stages):
    cams = random_cams(FEW)
    fused = fuse(cams, stages=stages, stage_ids=range(5))
    for n in range(2):
        expected = reference.fuse([cam[n, 0] for cam in cams], [at < stages for at in range(5)])
        assert_close(fused[n, 0], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("key", ["layer_cam", "layer_cam_pool_gradient"])
@pytest.mark.parametrize(
    "options",
    [{}, {"gamma": 0.5}, {"stages": 0}, {"gamma": 7.0, "stages": 2}, {"smooth": "eigen"}],
    ids=str,
)
def test_explain_fuses_as_it_is_asked_to(key, options):
    images = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1)).double()
    maps = explain(toy_net(), images, ["3", "1", "2"], [key], [0, 3], **options).maps[key]
    given = {name: value for name, value in options.items() if name != "smooth"}
    expected = fuse([maps[layer] for layer in ("1", "2", "3")], **given)
    assert_close(maps["fused"], expected, rtol=0, atol=0)
    if given:
        assert not torch.equal(maps["fused"], fuse([maps[layer] for layer in ("1", "2", "3")]))


def test_fuse_stays_within_zero_and_one_and_reaches_the_peak_of_a_deep_map():
    cams = random_cams(FEW)
    fused = fuse(cams)
    assert fused.amin() >= 0
    assert fused.amax() <= 1
    # The coarsest map peaks at one of its 2 x 2 positions; enlarged, its corners keep its values.
    assert_close(fused.amax((-2, -1)), torch.ones(2, 3, dtype=torch.float64))


def test_fuse_does_not_depend_on_the_scale_of_a_map():
    cams = random_cams(FEW)
    scaled = [cam * 2.0**power for cam, power in zip(cams, (-90, 60, 0, 7, -33), strict=True)]
    assert torch.equal(fuse(scaled), fuse(cams))


def test_fuse_gives_zeros_when_every_map_is_empty():
    cams = [-cam.abs() for cam in random_cams(FEW)]
    cams[1].zero_()
    assert torch.equal(fuse(cams), torch.zeros(2, 3, 9, 9, dtype=torch.float64))


def test_fuse_ignores_an_empty_map():
    cams = random_cams([(6, 6), (3, 3)])
    empty = -cams[1].abs()
    assert torch.equal(fuse([cams[0], empty]), torch.tanh(2 * normalise(cams[0])))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_fuse_gives_nan_for_an_undefined_map_and_leaves_the_others_alone(value):
    cams = random_cams(FEW)
    clean = fuse(cams)
    cams[3][1, 2, 0, 0] = value
    fused = fuse(cams)
    assert fused[1, 2].isnan().all()
    fused[1, 2] = clean[1, 2]
    assert torch.equal(fused, clean)


def test_fuse_leaves_its_inputs_unmodified():
    cams = random_cams(FEW)
    before = [cam.clone() for cam in cams]
    fuse(cams)
    assert all(torch.equal(cam, old) for cam, old in zip(cams, before, strict=True))


def test_normalise_matches_its_reference():
    (cam,) = random_cams([(4, 3)])
    for n in range(2):
        for k in range(3):
            assert_close(normalise(cam)[n, k], reference.normalise(cam[n, k]))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[-1.0, 2.0], [0.0, 8.0]], [[0.0, 0.25], [0.0, 1.0]]),
        ([[3.0]], [[1.0]]),
        ([[1e-42, 2e-42]], [[0.5, 1.0]]),  # subnormal in float32: no epsilon swallows it
        ([[-1.0, -2.0]], [[0.0, 0.0]]),
        ([[0.0, 0.0]], [[0.0, 0.0]]),
        ([[torch.nan, 1.0]], [[torch.nan, torch.nan]]),
        ([[-torch.inf, 1.0]], [[torch.nan, torch.nan]]),
        ([[torch.inf, 1.0]], [[torch.nan, torch.nan]]),
    ],
)
def test_normalise_has_its_closed_forms(values, expected):
    scaled = normalise(torch.tensor(values))
    assert_close(scaled, torch.tensor(expected), equal_nan=True, rtol=1e-3, atol=0)
