"""Grid pointing: the choice of images, collages, and networks of which the answer is known."""

import numpy as np
import pytest
import torch
from helpers.nets import record_batches
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import interpolate

from camreport import Explainer
from camreport.engine.cost import Cost
from camreport.images.preprocessing import Preprocessing
from camreport.metrics.grid import Collages, choose_collages, collage, grid, strict_mean
from camreport.metrics.values import Undefined, Values
from camreport.pipeline.evidence.collages import measure_collages

SIDE = 16
"""Pixels on a side of the images."""

QUARTERS = np.array([[[0, 1], [2, 3]]])


def chosen(predictions: list[int], **changes: object) -> Collages:
    """Return the collages of images that the network is sure of, one prediction each."""
    count = len(predictions)
    fields = {
        "indices": np.arange(count) * 10,
        "predictions": np.array(predictions),
        "probabilities": np.linspace(0.99, 0.6, count),
        "labels": [None] * count,
        "seed": 0,
    }
    return choose_collages(**(fields | changes))


def test_four_classes_stand_once_in_each_collage_of_four():
    predictions = [0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 4, 4]
    found = chosen(predictions)
    assert found.image.shape == found.target.shape == (3, 4)
    assert found.chance == 0.25
    assert all(len(set(row)) == 4 for row in found.target.tolist())
    assert (found.target == np.array(predictions)[found.image // 10]).all()
    assert len(np.unique(found.image)) == 12, "each image once"
    assert all(sorted(cells.ravel().tolist()) == [0, 1, 2, 3] for cells in found.cells)


def test_places_in_a_collage_are_drawn_by_the_seed():
    predictions = [0, 1, 2, 3] * 100
    found = [chosen(predictions, seed=seed).cells for seed in (1, 1, 2)]
    assert (found[0] == found[1]).all()
    assert (found[0] != found[2]).any()
    shares = (found[0].reshape(-1, 4) == 0).mean(0)
    assert np.abs(shares - 0.25).max() < 0.18, "four standard deviations of 100 draws"


@pytest.mark.parametrize("others", [[], [2]])
def test_two_images_stand_on_the_diagonals_and_once_more_in_the_mirror(others):
    found = chosen([0, 1, 1, 0, 1, *others])
    assert found.image.shape[1] == 2
    assert found.chance == 0.5
    for one, mirrored in zip(found.cells[::2], found.cells[1::2], strict=True):
        assert one.tolist() == [[0, 1], [1, 0]]
        assert (mirrored == one[:, ::-1]).all()
    assert (found.image[::2] == found.image[1::2]).all()
    assert (found.target[:, 0] != found.target[:, 1]).all()


def test_only_sure_and_right_images_are_used_and_the_surest_first():
    found = chosen(
        [0, 0, 0, 0, 1, 1],
        probabilities=np.array([0.6, 0.5, 0.9, 0.99, 0.7, 0.8]),
        labels=[0, 0, None, 1, 1, None],
    )
    assert found.image.tolist() == [[20, 50], [20, 50], [0, 40], [0, 40]]


@pytest.mark.parametrize("predictions", [[], [3], [3, 3, 3]])
def test_without_images_of_two_classes_there_is_no_collage(predictions):
    found = chosen(predictions)
    assert len(found.image) == len(found.target) == len(found.cells) == 0


def test_collage_shows_each_image_in_its_cells():
    images = np.stack([np.full((3, 2, 3), value, np.float32) for value in range(4)])
    shown = collage(images, np.array([[2, 0], [1, 3]]))
    assert shown.shape == (3, 4, 6)
    assert shown[0, ::2, ::3].tolist() == [[2, 0], [1, 3]]
    assert (shown[:, :2, :3] == 2).all()


@pytest.mark.parametrize("shape", [(13, 13), (7, 5), (2, 2), (1, 1), (16, 16)])
def test_share_is_that_of_the_map_as_torch_enlarges_it(shape):
    maps = np.random.default_rng(0).standard_normal((2, 4, *shape)).astype(np.float32)
    cells = np.stack([np.random.default_rng(s).permutation(4).reshape(2, 2) for s in (1, 2)])
    found = grid(maps, cells, (16, 16)).numbers
    large = interpolate(torch.from_numpy(maps).clamp_min(0).double(), (16, 16), mode="bilinear")
    for number in range(2):
        for one in range(4):
            row, column = np.argwhere(cells[number] == one)[0]
            inside = large[number, one, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8].sum()
            expected = float(inside / large[number, one].sum())
            assert found[number, one] == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_cells_of_an_image_that_is_shown_twice_count_together():
    maps = np.array([[[[1, 2], [4, 1]], [[0, 0], [3, 1]]]], np.float32)
    found = grid(maps, np.array([[[0, 1], [1, 0]]]), (2, 2))
    np.testing.assert_allclose(found.numbers, [[2 / 8, 3 / 4]])


def test_maps_without_positive_evidence_are_undefined_and_0_in_the_strict_mean():
    maps = np.zeros((1, 4, 2, 2), np.float32)
    maps[0, 0, 0, 0], maps[0, 1] = 1, -1
    maps[0, 3, 0, 0] = np.nan
    found = grid(maps, QUARTERS, (2, 2))
    empty, broken = Undefined.NO_POSITIVE, Undefined.NOT_FINITE
    assert found.reasons[0].tolist() == [0, empty, empty, broken]
    assert strict_mean(found) == (pytest.approx(1 / 3), 2)
    mean, count = strict_mean(Values.of([0.0], (Undefined.NOT_FINITE, True)))
    assert np.isnan(mean)
    assert count == 0


def noisy(kind: str, seed: int) -> NDArray[np.float32]:
    """Return maps of one collage of four: the true ones, half noise, or noise alone."""
    noise = np.random.default_rng(seed).random((1, 4, 14, 14))
    true = np.kron(np.eye(4).reshape(1, 4, 2, 2), np.ones((7, 7)))
    shares = {"true": 0.0, "nudged": 0.001, "half": 0.5, "noise": 1.0}[kind]
    return ((1 - shares) * true + shares * noise).astype(np.float32)


def test_grid_pointing_orders_maps_by_their_noise_and_ignores_a_little_of_it():
    """The two questions of MetaQuantus: reactivity to disruption, resilience to what is minor."""
    found = {
        kind: np.array(
            [grid(noisy(kind, seed), QUARTERS, (28, 28)).numbers.mean() for seed in range(200)]
        )
        for kind in ("true", "nudged", "half", "noise")
    }
    ordered = (found["true"] > found["half"]) & (found["half"] > found["noise"])
    assert ordered.mean() >= 0.95
    assert np.abs(found["noise"].mean() - 0.25) < 0.01, "chance"
    assert np.abs(found["nudged"] - found["true"]).max() < 0.01
    assert (found["true"] > 0.95).all(), "enlarging spreads the edges of the cells"


# Networks of which the answer is known

COLOURS = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
"""The corners of a tetrahedron: the product of two different ones is -1/3."""


def colour_net(sized: bool = False) -> nn.Sequential:
    """Return a net whose logit of class c is the mean of relu(colour c · pixel), times 100.

    Args:
        sized: whether it takes images of ``SIDE`` alone.
    """
    seen, head = nn.Conv2d(3, 4, 1, bias=False), nn.Linear(4, 4, bias=False)
    pool = nn.AvgPool2d(SIDE) if sized else nn.AdaptiveAvgPool2d(1)
    with torch.no_grad():
        seen.weight.copy_(torch.from_numpy(COLOURS)[:, :, None, None])
        head.weight.copy_(100 * torch.eye(4))
    return nn.Sequential(seen, nn.ReLU(), pool, nn.Flatten(), head).double().eval()


def colour_images(classes: list[int]) -> NDArray[np.float32]:
    """Return images with a patch of the colour of their class somewhere within, else 0."""
    random, found = np.random.default_rng(0), np.zeros((len(classes), 3, SIDE, SIDE), np.float32)
    for image, label in zip(found, classes, strict=True):
        top, left = random.integers(2, SIDE - 8, 2)
        image[:, top : top + 6, left : left + 6] = COLOURS[label][:, None, None]
    return found


def measured(net: nn.Module, classes: list[int], methods: tuple[str, ...]):
    """Measure the maps of collages of images with the colours of classes."""
    inputs = colour_images(classes)
    explainer = Explainer(net, ["1"], methods, input_shape=(3, SIDE, SIDE))
    assert explainer.plan.num_classes == 4
    collages = chosen(classes, indices=np.arange(len(classes)))
    plain = Preprocessing(mean=(0, 0, 0), std=(1, 1, 1))
    return measure_collages(explainer, collages, inputs.__getitem__, plain, 0), collages


@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("classes", [[0, 1, 2, 3] * 2, [1, 3] * 3])
def test_maps_of_a_network_that_reads_its_class_alone_point_there(sized, classes):
    found, collages = measured(colour_net(sized), classes, ("grad_cam", "layer_cam"))
    assert found.doubled is not sized
    for method in ("grad_cam", "layer_cam"):
        values = found.values[f"grid/{method}/1"]
        assert values.numbers.shape == collages.target.shape
        np.testing.assert_allclose(values.numbers, 1, atol=1e-6)
    gaussian = found.values["grid/control:gaussian/1"].numbers
    np.testing.assert_allclose(gaussian, collages.chance, atol=1e-6)
    random = found.values["grid/control:random/1"].numbers
    assert np.abs(random.mean() - collages.chance) < 0.05


def test_a_map_of_the_rest_is_at_chance_or_under_it():
    """Eigen-CAM has one map for all classes: its shares in the cells add up to 1."""
    found, collages = measured(colour_net(), [0, 1, 2, 3] * 3, ("grad_cam", "eigen_cam"))
    shares = found.values["grid/eigen_cam/1"].numbers
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-5)
    other = Collages(collages.image, np.roll(collages.target, 1, axis=1), collages.cells)
    explainer = Explainer(colour_net(), ["1"], ["grad_cam"], input_shape=(3, SIDE, SIDE))
    read = colour_images([0, 1, 2, 3] * 3).__getitem__
    wrong = measure_collages(explainer, other, read, Preprocessing(), 0)
    np.testing.assert_allclose(wrong.values["grid/grad_cam/1"].numbers, 0, atol=1e-6)


def test_it_takes_one_forward_and_a_backward_for_each_class_of_a_collage():
    net, classes, done = colour_net(), [0, 1, 2, 3] * 2, []
    explainer = Explainer(net, ["1"], ["grad_cam"], input_shape=(3, SIDE, SIDE), batch_size=4)
    assert explainer.plan.num_classes == 4
    larger = explainer.resized(2 * SIDE, 2 * SIDE)
    assert larger.plan.input_shape == (3, 2 * SIDE, 2 * SIDE)
    collages = chosen(classes, indices=np.arange(8))
    tried, _ = record_batches(net)
    read = colour_images(classes).__getitem__
    found = measure_collages(explainer, collages, read, Preprocessing(), 0, done.append)
    assert found.cost == Cost(forwards=2, backwards=8, maps=8), "one collage at a time: four images"
    checks = len(tried) - 2
    assert checks == 1, "besides, one image of noise for the larger size's plan"
    assert done == [1, 1]


def test_no_collages_measure_nothing():
    found, _ = measured(colour_net(), [2, 2], ("grad_cam",))
    assert found.values == {}
    assert found.cost == Cost()
