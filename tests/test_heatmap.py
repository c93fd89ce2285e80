"""Heat maps: 8-bit levels, enlarging, shading, colour tables and overlays."""

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from camreport.errors import MethodError
from camreport.report.heatmap import (
    COLORMAPS,
    ZERO,
    QuantisedCam,
    alphas,
    colour_table,
    enlarge,
    overlay,
    quantise,
    shade,
    signed_picture,
)

GRIDS = [
    ((13, 13), (224, 224)),
    ((6, 9), (101, 37)),
    ((55, 27), (100, 33)),
    ((1, 1), (5, 7)),
    ((1, 6), (9, 50)),
    ((3, 4), (3, 4)),
    ((9, 12), (4, 5)),
]


def random_cam(height: int = 6, width: int = 9, seed: int = 0) -> NDArray[np.float32]:
    """A raw map with values of both signs."""
    return np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)


def luminance(table: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the relative luminance of sRGB colours (WCAG 2)."""
    share = table / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize(("grid", "size"), GRIDS)
def test_enlarge_equals_torch_in_double_precision(
    grid: tuple[int, int], size: tuple[int, int]
) -> None:
    levels = np.random.default_rng(0).integers(0, 256, grid, dtype=np.uint8)
    expected = interpolate(
        torch.from_numpy(levels)[None, None].double(), size, mode="bilinear", align_corners=False
    )[0, 0].numpy()
    enlarged = enlarge(levels, *size)
    assert enlarged.dtype == np.float64
    np.testing.assert_allclose(enlarged, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("grid", "size"), GRIDS)
def test_enlarge_equals_opencv(grid: tuple[int, int], size: tuple[int, int]) -> None:
    levels = np.random.default_rng(1).integers(0, 256, grid, dtype=np.uint8)
    expected = cv2.resize(levels.astype(np.float64), size[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(enlarge(levels, *size), expected, rtol=0, atol=1e-4)


def test_quantise_is_within_half_a_level() -> None:
    cam = random_cam()
    quantised = quantise(cam)
    assert quantised.state == "positive"
    assert quantised.peak == cam.max()
    assert quantised.levels.dtype == np.uint8
    assert quantised.levels.max() == 255
    error = quantised.levels / 255 - np.maximum(cam, 0) / cam.max()
    assert abs(error).max() <= 0.5 / 255 + 1e-9


def test_quantise_keeps_the_sign_within_half_a_level_when_signed() -> None:
    cam = random_cam(seed=3)
    quantised = quantise(cam, signed=True)
    assert quantised.signed
    assert quantised.peak == abs(cam).max()
    error = (quantised.levels.astype(float) - ZERO) / ZERO - cam / abs(cam).max()
    assert abs(error).max() <= 0.5 / ZERO + 1e-9


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_quantise_gives_zero_its_own_level_when_signed(zero: float) -> None:
    quantised = quantise(np.array([[-3.0, zero, 3.0]], np.float32), signed=True)
    assert quantised.levels.tolist() == [[0, ZERO, 2 * ZERO]]


@pytest.mark.parametrize("factor", [1e-30, 1e-20, 1e-7, 3.0, 1e20, 1e30])
@pytest.mark.parametrize("signed", [False, True])
def test_quantise_does_not_depend_on_the_scale(signed: bool, factor: float) -> None:
    cam = random_cam(13, 13)
    scaled = quantise(cam * np.float32(factor), signed)
    assert np.array_equal(scaled.levels, quantise(cam, signed).levels)
    assert scaled.peak == pytest.approx(quantise(cam, signed).peak * factor, rel=1e-6)


@pytest.mark.parametrize(
    ("cam", "signed", "state"),
    [
        ([[0, 0]], False, "empty"),
        ([[0, 0]], True, "empty"),
        ([[-1, -2]], False, "empty"),
        ([[-1, -2]], True, "positive"),
        ([[-1, 0]], False, "empty"),
        ([[-1, 1e-30]], False, "positive"),
        ([[np.nan, 1]], False, "undefined"),
        ([[np.nan, np.nan]], True, "undefined"),
        ([[np.inf, 1]], False, "undefined"),
        ([[-np.inf, 1]], False, "undefined"),
        ([[np.inf, -1]], True, "undefined"),
    ],
)
def test_quantise_tells_empty_and_undefined_maps(
    cam: list[list[float]], signed: bool, state: str
) -> None:
    quantised = quantise(np.array(cam, np.float32), signed)
    assert quantised.state == state
    assert (quantised.peak == 0) == (state != "positive")
    assert np.isfinite(quantised.peak)


def test_shade_gives_each_level_its_colour_when_nothing_is_enlarged() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    index, visible = shade(QuantisedCam(levels, 2.5, "positive"), 16, 16)
    assert np.array_equal(index, levels)
    assert visible.all()
    signed = levels.reshape(-1)[:255].reshape(15, 17)
    index, visible = shade(QuantisedCam(signed, 2.5, "positive", signed=True), 15, 17)
    assert np.array_equal(index, signed)
    assert visible.all()


@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.5, 1.0])
def test_shade_hides_what_is_below_the_threshold(threshold: float) -> None:
    cam = np.array([[-1.0, -0.6, -0.1, 0.0, 0.1, 0.4, 0.6, 1.0]], np.float32)
    _, visible = shade(quantise(cam), *cam.shape, threshold=threshold)
    assert np.array_equal(visible, np.maximum(cam, 0) >= threshold)
    _, visible = shade(quantise(cam, signed=True), *cam.shape, threshold=threshold)
    assert np.array_equal(visible, abs(cam) >= threshold)


def test_shade_refers_to_the_scale_it_is_given() -> None:
    cam = np.array([[0.0, 1.0, 2.0, 4.0]], np.float32)
    double, visible = shade(quantise(cam), *cam.shape, scale=8.0, threshold=0.4)
    assert double.tolist() == [[0, 32, 64, 128]]  # 63.75 and 127.5 round up
    assert visible.tolist() == [[False, False, False, True]]
    half, _ = shade(quantise(cam), *cam.shape, scale=2.0)
    assert half.tolist() == [[0, 128, 255, 255]]
    signed = quantise(np.array([[-4.0, -1.0, 0.0, 1.0, 4.0]], np.float32), signed=True)
    index, _ = shade(signed, 1, 5, scale=2.0)
    assert index.tolist() == [[0, 63, ZERO, 191, 2 * ZERO]]


@pytest.mark.parametrize("signed", [False, True])
def test_shade_agrees_with_the_exact_map_within_a_level(signed: bool) -> None:
    cam = random_cam(seed=5)
    peak = abs(cam).max() if signed else cam.max()
    share = (cam if signed else np.maximum(cam, 0)).astype(np.float64) / peak
    exact = interpolate(torch.from_numpy(share)[None, None], (50, 71), mode="bilinear")[0, 0]
    expected = exact.numpy() * (ZERO if signed else 255) + (ZERO if signed else 0)
    index, _ = shade(quantise(cam, signed), 50, 71)
    assert abs(index - expected).max() <= 1


@pytest.mark.parametrize("name", [*COLORMAPS, "diverging"])
def test_colour_table_has_256_colours(name: str) -> None:
    table = colour_table(name)
    assert table.shape == (256, 3)
    assert table.dtype == np.uint8
    assert table.flags.c_contiguous
    steps = abs(np.diff(table.astype(int), axis=0)).max()
    assert steps <= 16, "no jump that could be taken for an edge"


@pytest.mark.parametrize("name", ["viridis", "cividis", "inferno", "gray"])
def test_colour_table_gets_lighter_all_the_way(name: str) -> None:
    light = luminance(colour_table(name))
    assert (np.diff(light) > -0.002).all()
    assert light[-1] - light[0] > 0.5


def test_colour_tables_start_and_end_in_their_published_colours() -> None:
    assert abs(colour_table("viridis")[[0, 255]] - [[68, 1, 84], [253, 231, 37]]).max() <= 1
    assert abs(colour_table("inferno")[[0, 255]] - [[0, 0, 4], [252, 255, 164]]).max() <= 1
    jet = colour_table("jet").astype(int)
    assert jet[0, 2] > 100 > jet[0, 0] + jet[0, 1]  # blue, not BGR's red
    assert jet[255, 0] > 100 > jet[255, 1] + jet[255, 2]


def test_colour_table_diverges_from_a_neutral_middle() -> None:
    table = colour_table("diverging").astype(int)
    assert np.ptp(table[ZERO]) <= 8
    light = luminance(table)
    assert light.argmax() == ZERO
    assert (np.diff(light[: ZERO + 1]) > 0).all()
    assert (np.diff(light[ZERO : 2 * ZERO + 1]) < 0).all()
    assert table[0, 2] > table[0, 0] + 50  # against: blue
    assert table[2 * ZERO, 0] > table[2 * ZERO, 2] + 50  # for: orange


def test_colour_table_suggests_a_close_name() -> None:
    with pytest.raises(MethodError, match=r"got 'viridsi'.* Did you mean 'viridis'"):
        colour_table("viridsi")


@pytest.fixture
def photo() -> NDArray[np.uint8]:
    """A non-square photograph."""
    return np.random.default_rng(7).integers(0, 256, (30, 70, 3), dtype=np.uint8)


@pytest.mark.parametrize("signed", [False, True])
def test_overlay_is_the_photograph_when_transparent(photo: NDArray[np.uint8], signed: bool) -> None:
    assert np.array_equal(overlay(photo, random_cam(), opacity=0, signed=signed), photo)


@pytest.mark.parametrize("name", COLORMAPS)
def test_overlay_is_the_heat_map_when_opaque(photo: NDArray[np.uint8], name: str) -> None:
    cam = random_cam()
    index, _ = shade(quantise(cam), 30, 70)
    drawn = overlay(photo, cam, opacity=1, colormap=name, by_value=False)
    assert np.array_equal(drawn, colour_table(name)[index])


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    ("look", "power"),
    [({}, 1), ({"lift": True}, 0.6), ({"by_value": False}, 0), ({"opacity": 0.25}, 1)],
)
def test_overlay_is_as_opaque_as_the_value_says_and_changes_nothing_it_was_given(
    photo: NDArray[np.uint8], signed: bool, look: dict[str, float], power: float
) -> None:
    cam, before = random_cam(), photo.copy()
    drawn = overlay(photo, cam, signed=signed, **look)  # type: ignore[arg-type]
    index, _ = shade(quantise(cam, signed), 30, 70)
    value = np.abs(index - 127.0) / 127 if signed else index / 255
    alpha = (look.get("opacity", 0.9) * value**power)[..., None]
    colour = colour_table("diverging" if signed else "inferno")[index]
    exact = photo * (1 - alpha) + colour * alpha
    assert np.abs(drawn - exact).max() <= 1  # opacity has 8 bits, and so has the result
    assert np.array_equal(photo, before)
    assert np.array_equal(cam, random_cam())


@pytest.mark.parametrize("look", [{}, {"lift": True}, {"signed": True}])
def test_overlay_never_veils_the_photograph_where_the_map_is_zero(
    photo: NDArray[np.uint8], look: dict[str, bool]
) -> None:
    cam = np.zeros((3, 7), np.float32)
    cam[0, 6] = 2.0  # top right
    drawn = overlay(photo, cam, **look)  # type: ignore[arg-type]
    assert np.array_equal(drawn[15:], photo[15:])
    assert np.array_equal(drawn[:, :50], photo[:, :50])
    assert (drawn[:5, -5:] != photo[:5, -5:]).any(-1).all()


def test_alphas_follow_the_value_its_lift_or_nothing() -> None:
    value = np.arange(256) / 255
    np.testing.assert_array_equal(alphas(), np.floor(0.9 * value * 255 + 0.5))
    np.testing.assert_array_equal(alphas(lift=True), np.floor(0.9 * value**0.6 * 255 + 0.5))
    assert set(alphas(by_value=False, opacity=0.5)) == {128}
    assert alphas(opacity=1).tolist() == list(range(256))
    signed = alphas(True, opacity=1).astype(int)
    assert signed[[0, ZERO, 2 * ZERO]].tolist() == [255, 0, 255]
    assert (signed[: 2 * ZERO + 1] == signed[2 * ZERO :: -1]).all()


def test_overlay_shows_the_photograph_below_the_threshold(photo: NDArray[np.uint8]) -> None:
    cam = np.zeros((3, 7), np.float32)
    cam[0, 6] = 2.0  # top right
    drawn = overlay(photo, cam, opacity=1, by_value=False, threshold=0.5)
    changed = (drawn != photo).any(-1)
    assert changed[:5, -5:].all()
    assert not changed[15:].any()
    assert not changed[:, :50].any()


@pytest.mark.parametrize("cam", [np.zeros((2, 2)), -np.ones((2, 2)), np.full((2, 2), np.nan)])
def test_overlay_is_a_copy_of_the_photograph_when_there_is_nothing_to_draw(
    photo: NDArray[np.uint8], cam: NDArray[np.float64]
) -> None:
    drawn = overlay(photo, cam.astype(np.float32), opacity=1)
    assert np.array_equal(drawn, photo)
    assert not np.shares_memory(drawn, photo)


def test_overlay_diverges_when_signed(photo: NDArray[np.uint8]) -> None:
    cam = np.array([[-1.0, 1.0]], np.float32)
    drawn = overlay(photo, cam, opacity=1, colormap="jet", signed=True)
    table = colour_table("diverging")
    assert np.array_equal(drawn[0, 0], table[0])
    assert np.array_equal(drawn[-1, -1], table[2 * ZERO])


@pytest.mark.parametrize(
    ("image_shape", "cam_shape", "options", "message"),
    [
        ((30, 70), (2, 2), {}, r"image: expected uint8 \(H, W, 3\), 0..255, got uint8 \(30, 70\)"),
        ((30, 70, 4), (2, 2), {}, "image: expected uint8"),
        ((30, 70, 3), (1, 2, 2), {}, r"cam: expected one map .*got float32 \(1, 2, 2\)"),
        ((30, 70, 3), (4,), {}, "cam: expected one map"),
        ((30, 70, 3), (2, 2), {"opacity": 1.5}, "opacity: expected a number from 0 to 1, got 1.5"),
        ((30, 70, 3), (2, 2), {"opacity": float("nan")}, "opacity: expected a number"),
        ((30, 70, 3), (2, 2), {"opacity": "a"}, "opacity: expected a number"),
        ((30, 70, 3), (2, 2), {"threshold": -1}, "threshold: expected a number from 0 to 1"),
        ((30, 70, 3), (2, 2), {"colormap": 3}, "colormap: expected one of"),
        ((30, 70, 3), (0, 2), {}, "cam: expected an array with values"),
        ((0, 70, 3), (2, 2), {}, "image: expected an array with values"),
        ((30, 70, 3), (2, 2), {"colormap": "jte"}, "Did you mean 'jet'"),
    ],
)
def test_overlay_refuses_what_it_cannot_draw(
    image_shape: tuple[int, ...],
    cam_shape: tuple[int, ...],
    options: dict[str, object],
    message: str,
) -> None:
    with pytest.raises(MethodError, match=message):
        overlay(np.zeros(image_shape, np.uint8), np.ones(cam_shape, np.float32), **options)


def test_overlay_refuses_a_float_image() -> None:
    with pytest.raises(MethodError, match=r"image: expected uint8 .*got float32"):
        overlay(np.zeros((4, 4, 3), np.float32), np.ones((2, 2), np.float32))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "cam", [torch.ones(2, 2, requires_grad=True), [["a"]], [[1j]], [[1], [2, 3]]]
)
def test_overlay_refuses_a_cam_that_is_no_array_of_numbers(cam: object) -> None:
    with pytest.raises(MethodError, match="cam: expected"):
        overlay(np.zeros((4, 4, 3), np.uint8), cam)  # type: ignore[arg-type]


def test_signed_picture_is_grey_at_zero_and_clips_the_last_half_percent():
    saliency = np.zeros((3, 20, 50), np.float32)
    saliency[0, 0, :10] = np.linspace(1, 2, 10)  # 0.33 % of the values: clipped
    saliency[1] = np.linspace(-1, 1, 1000).reshape(20, 50)
    picture = signed_picture(saliency)
    reach = np.quantile(np.abs(saliency.astype(np.float64)), 0.995)
    assert picture.shape == (20, 50, 3)
    assert (picture[..., 2] == 127).all()
    assert (picture[0, :10, 0] == 254).all()
    expected = np.floor(np.clip(saliency[1].astype(np.float64) / reach, -1, 1) * 127 + 127.5)
    np.testing.assert_array_equal(picture[..., 1], expected)
    np.testing.assert_array_equal(signed_picture(saliency * 1e-12), picture)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_signed_picture_of_nothing_is_grey(value):
    assert (signed_picture(np.full((3, 4, 5), value, np.float32)) == 127).all()


def test_signed_picture_of_few_pixels_is_not_all_grey():
    saliency = np.zeros((3, 40, 40), np.float32)
    saliency[0, 3, 4] = -1e-9
    picture = signed_picture(saliency)
    assert picture[3, 4, 0] == 0
    assert (np.delete(picture.ravel(), picture.argmin()) == 127).all()
