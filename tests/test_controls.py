"""Controls: maps without a model, the same wherever they are made."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, sobel

from camreport.images.preprocessing import Preprocessing
from camreport.metrics.controls import CONTROLS, control_maps, edge_strength, seen_pixels
from camreport.pipeline.evidence.maps import controls_of, input_pixels
from camreport.results.schema import MapKey


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """A smooth random photograph, wider than high."""
    noise = np.random.default_rng(0).normal(size=(90, 160, 3))
    smooth = gaussian_filter(noise, (3, 3, 0))
    return np.clip(128 + 400 * smooth, 0, 255).astype(np.uint8)


EDGES = np.random.default_rng(1).random((32, 48), np.float32)


def test_each_control_is_the_same_whenever_it_is_made() -> None:
    first, again = (control_maps(EDGES, 6, 9, seed=3, image=5) for _ in range(2))
    assert first.shape == (len(CONTROLS), 6, 9)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, again)


def test_only_the_random_control_follows_the_seed_the_image_and_the_grid() -> None:
    base = control_maps(EDGES, 6, 9, seed=3, image=5)
    for seed, image in ((4, 5), (3, 6)):
        other = control_maps(EDGES, 6, 9, seed=seed, image=image)
        assert not np.any(other[0] == base[0])
        np.testing.assert_array_equal(other[1:], base[1:])


def test_the_random_control_prefers_no_place() -> None:
    maps = [control_maps(EDGES, 5, 5, seed=0, image=image)[0] for image in range(2000)]
    np.testing.assert_allclose(np.mean(maps, 0), 0.5, atol=0.03)
    assert abs(np.corrcoef(np.reshape(maps, (2000, 25)).T)[0, 1]) < 0.1


@pytest.mark.parametrize("grid", [(13, 13), (6, 6), (7, 14)])
def test_the_gaussian_is_round_in_units_of_the_picture_and_centred(grid: tuple[int, int]) -> None:
    own = control_maps(EDGES, *grid, seed=0, image=0)[1]
    np.testing.assert_array_equal(own, own[::-1, ::-1])
    rows, columns = ((np.arange(side) + 0.5) / side for side in grid)
    expected = np.exp(-(((rows[:, None] - 0.5) ** 2 + (columns - 0.5) ** 2) / 0.25**2) / 2)
    np.testing.assert_allclose(own, expected, rtol=1e-6)


@pytest.mark.parametrize("grid", [(4, 6), (32, 48), (13, 13), (5, 48)])
def test_the_edges_are_averaged_over_the_cells_of_the_grid(grid: tuple[int, int]) -> None:
    own = control_maps(EDGES, *grid, seed=0, image=0)[2]
    fine = np.repeat(np.repeat(EDGES.astype(float), grid[0], 0), grid[1], 1)
    expected = fine.reshape(grid[0], 32, grid[1], 48).mean((1, 3))
    np.testing.assert_allclose(own, expected, rtol=1e-5)


def test_edge_strength_is_scipys_sobel_of_the_brightness(photo: np.ndarray) -> None:
    grey = np.asarray(photo, np.float64) @ [0.299, 0.587, 0.114]
    expected = np.hypot(sobel(grey, 0, mode="mirror"), sobel(grey, 1, mode="mirror"))
    np.testing.assert_allclose(edge_strength(photo), expected, atol=1e-6 * expected.max())
    np.testing.assert_allclose(
        edge_strength(photo / np.float32(255)), expected / 255, atol=1e-5 * expected.max()
    )


def test_a_picture_of_one_colour_has_no_edges() -> None:
    assert not edge_strength(np.full((5, 7, 3), 200, np.uint8)).any()


PREPROCESSINGS = {
    "squash": Preprocessing(size=(48, 64)),
    "crop": Preprocessing(size=(56, 56), resize="short-side", short_side=64),
    "padded": Preprocessing(size=(80, 80), resize="short-side", short_side=64),
    "bgr 255": Preprocessing(
        size=(64, 64), channel_order="bgr", scale=255, mean=(104, 117, 123), std=(1, 1, 1)
    ),
}

every_way = pytest.mark.parametrize("way", PREPROCESSINGS.values(), ids=PREPROCESSINGS)


@every_way
def test_edges_of_the_photograph_are_those_of_what_the_model_sees(
    way: Preprocessing, photo: np.ndarray
) -> None:
    image = Image.fromarray(photo)
    seen = seen_pixels(photo, way.seen_part(*image.size), *way.size)
    given = input_pixels(way.apply(image)[None], way)[0] * 255
    assert seen.shape == given.shape
    assert np.abs(seen - given).mean() < 1.5
    maps = [edge_strength(each) for each in (seen, given)]
    assert np.corrcoef(*(each.ravel() for each in maps))[0, 1] > 0.98


def test_what_the_model_sees_of_a_smaller_photograph_is_the_same(photo: np.ndarray) -> None:
    way = PREPROCESSINGS["crop"]
    small = np.asarray(Image.fromarray(photo).resize((120, 68), Image.Resampling.LANCZOS))
    whole, shrunk = (
        seen_pixels(each, way.seen_part(160, 90), *way.size) for each in (photo, small)
    )
    assert np.abs(whole.astype(float) - shrunk).mean() < 2


def test_beyond_the_photograph_all_is_black(photo: np.ndarray) -> None:
    seen = seen_pixels(photo, (-0.5, 0, 1, 1), 30, 60)
    assert not seen[:, :19].any()
    assert seen[:, 21:].all(-1).mean() > 0.9


def test_controls_of_a_batch_are_those_of_each_image_at_each_layer() -> None:
    grids = {"a": (6, 9), "b": (3, 3), "c": (6, 9)}
    edges = [EDGES, EDGES.T]
    found = controls_of(edges, grids, np.array([4, 11]), seed=2)
    assert found.keys() == {MapKey(name, layer) for name in CONTROLS for layer in grids}
    for place, name in enumerate(CONTROLS):
        for layer, grid in grids.items():
            maps = found[MapKey(name, layer)]
            assert maps.shape == (2, 1, *grid)
            for row, image in enumerate((4, 11)):
                own = control_maps(edges[row], *grid, seed=2, image=image)[place]
                np.testing.assert_array_equal(maps[row, 0], own)
