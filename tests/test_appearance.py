"""What of a map is drawn: from which value up, which channel, which colour."""

import numpy as np
import pytest
from numpy.typing import NDArray

from camreport.images.preprocessing import Preprocessing
from camreport.methods import METHODS
from camreport.report.appearance import Appearance, appearance, drawn_over, seen_part
from camreport.results.reader import MapRecord
from camreport.results.schema import ImageEntry


def shown(method: str, cam: object) -> Appearance:
    """Return the appearance of one map."""
    return appearance(MapRecord(METHODS[method], "a", 0, 0, np.asarray(cam, np.float32)))


def test_a_map_of_differences_is_drawn_from_its_least_value_up() -> None:
    offset = shown("recipro_cam", [[3, 5], [4, 3]])
    assert offset.base == 3
    np.testing.assert_array_equal(offset.drawn, [[0, 2], [1, 0]])
    assert offset.quantised.peak == 2
    assert shown("recipro_cam", [[-3, -5]]).quantised.state == "positive"
    assert shown("recipro_cam", [[3, 3]]).quantised.state == "empty"


def test_other_maps_are_drawn_from_zero_up() -> None:
    plain = shown("grad_cam", [[3, 5], [4, 3]])
    assert plain.base == 0
    np.testing.assert_array_equal(plain.drawn, plain.cam)
    assert shown("grad_cam", [[-3, -5]]).quantised.state == "empty"
    assert shown("hires_cam", [[-3, -5]]).quantised.state == "positive"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("method", ["grad_cam", "recipro_cam", "hires_cam"])
def test_a_map_with_a_value_that_is_no_number_is_undefined(method: str, value: float) -> None:
    undefined = shown(method, [[1, value]])
    assert undefined.quantised.state == "undefined"
    assert undefined.base == 0


def test_of_channels_the_one_with_the_largest_sum_is_drawn() -> None:
    channels = np.zeros((4, 2, 2))
    channels[1, 0, 0] = 9
    channels[2] = 3
    channels[3] = np.nan
    drawn = shown("gradient_x_activation", channels)
    assert drawn.channel == 2
    np.testing.assert_array_equal(drawn.cam, channels[2])


def test_of_colours_the_strongest_at_each_pixel_counts_with_its_sign() -> None:
    colours = np.array([[[1, -1]], [[-2, 0]], [[1, 3]]])
    drawn = shown("guided_backprop", colours)
    np.testing.assert_array_equal(drawn.cam, [[-2, 3]])
    assert drawn.colours is not None
    np.testing.assert_array_equal(drawn.colours, colours)


def entry(width: int, height: int) -> ImageEntry:
    """Return the entry of an image of this size."""
    return ImageEntry(
        index=0, file="a.png", sha256="", width=width, height=height, status="ok", shard="", row=0
    )


def test_the_seen_part_is_the_centre_where_the_edges_are_cut_off() -> None:
    cut = Preprocessing(size=(100, 100), resize="short-side", short_side=200)
    assert seen_part(cut, entry(400, 200)) == pytest.approx((0.375, 0.25, 0.625, 0.75))
    assert seen_part(Preprocessing(), entry(40, 30)) == (0, 0, 1, 1)


def test_what_the_model_did_not_see_is_dark() -> None:
    photo: NDArray[np.uint8] = np.full((4, 8, 3), 90, np.uint8)
    empty = shown("grad_cam", [[-1.0]])
    picture = drawn_over(photo, empty, (0.25, 0, 0.75, 0.5))
    assert (picture[:2, 2:6] == 90).all(), "seen, and no map to lay over it"
    assert (picture[2:] == 30).all()
    assert (picture[:, :2] == 30).all()
    assert (picture[:, 6:] == 30).all()
