"""Regions on the model's input: through resizing and cutting, beside what Pillow draws."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from camreport.images.preprocessing import Box, Preprocessing
from camreport.images.regions.find import mostly_unseen
from camreport.images.regions.region import Outline, PhotoRegions, Region, filled, masked

SQUASH = Preprocessing(size=(56, 56), mean=(0, 0, 0), std=(1, 1, 1))
CROP = Preprocessing(
    size=(56, 56), resize="short-side", short_side=64, mean=(0, 0, 0), std=(1, 1, 1)
)


def photo(
    width: int, height: int, *outlines: Outline, classes: tuple[int, ...] = ()
) -> PhotoRegions:
    return PhotoRegions(width, height, tuple(Region(outline, classes) for outline in outlines))


@pytest.mark.parametrize("preprocessing", [SQUASH, CROP], ids=["squash", "crop"])
@pytest.mark.parametrize("size", [(160, 120), (120, 200), (56, 56), (30, 40)])
def test_a_region_lies_where_the_model_sees_its_pixels(preprocessing, size) -> None:
    """The picture of the region goes the photograph's way; its edges differ by one pixel."""
    width, height = size
    box = Box(width * 0.35, height * 0.3, width * 0.8, height * 0.9)
    box = Box(*(float(round(side)) for side in vars(box).values()))
    picture = np.zeros((height, width, 3), np.uint8)
    picture[int(box.top) : int(box.bottom), int(box.left) : int(box.right)] = 255
    drawn = preprocessing.apply(Image.fromarray(picture))[0]
    mask = photo(width, height, Outline(box)).mask(0, preprocessing)
    clear = (drawn < 0.05) | (drawn > 0.95)
    assert clear.mean() > 0.8
    np.testing.assert_array_equal(mask[clear], drawn[clear] > 0.5)


@pytest.mark.parametrize("preprocessing", [SQUASH, CROP], ids=["squash", "crop"])
def test_box_polygon_and_mask_of_one_rectangle_agree(preprocessing) -> None:
    pixels = np.zeros((90, 130), bool)
    pixels[20:70, 33:111] = True
    corners = (33, 20, 111, 20, 111, 70, 33, 70)
    outlines = (
        Outline(Box(33, 20, 111, 70)),
        masked(pixels),
        Outline(Box(33, 20, 111, 70), (corners,)),
    )
    first, *others = (photo(130, 90, outline) for outline in outlines)
    for other in others:
        np.testing.assert_array_equal(other.mask(0, preprocessing), first.mask(0, preprocessing))
        np.testing.assert_allclose(
            other.unseen(preprocessing), first.unseen(preprocessing), atol=1e-9
        )


def crossings(corners: list[float], x: float, y: float) -> int:
    """Return how many edges a ray to the right crosses, edge by edge, in whole fractions."""
    points = [(Fraction(a), Fraction(b)) for a, b in zip(corners[::2], corners[1::2], strict=True)]
    found = 0
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        if (y0 <= y) != (y1 <= y):
            found += x0 + (Fraction(y) - y0) * (x1 - x0) / (y1 - y0) > x
    return found


@pytest.mark.parametrize("reach", [1, 3, 100, 1e6])
def test_a_polygon_holds_the_pixels_whose_rays_leave_it_an_odd_number_of_times(reach) -> None:
    """Also where it crosses itself and where its corners are far outside of the picture."""
    random = np.random.default_rng(0)
    for corners in (6 * reach * random.uniform(-1, 2, (20, 14))).tolist():
        mask = filled([corners], 9, 7)
        for row, column in np.ndindex(7, 9):
            assert mask[row, column] == crossings(corners, column + 0.5, row + 0.5) % 2


def test_a_bow_tie_is_two_triangles_and_polygons_are_joined() -> None:
    mask = filled([[0, 0, 8, 8, 8, 0, 0, 8]], 8, 8)
    assert mask[3:5, [0, 7]].all()
    assert not mask[[0, 7], 3:5].any()
    two = [0, 0, 4, 0, 4, 4, 0, 4], [2, 2, 6, 2, 6, 6, 2, 6]
    assert filled(two, 8, 8).sum() == 16 + 16 - 4


def test_what_is_cut_off_is_unseen() -> None:
    wide = photo(
        128,
        64,
        Outline(Box(0, 0, 30, 64)),
        Outline(Box(0, 0, 128, 64)),
        Outline(Box(40, 10, 50, 20)),
    )
    # The short side of 64 stays; columns 36 to 92 and rows 4 to 60 are seen.
    assert wide.unseen(CROP) == pytest.approx([1, 1 - 56 * 56 / (128 * 64), 0])
    assert wide.unseen(SQUASH) == pytest.approx([0, 0, 0])
    assert mostly_unseen({4: wide}, CROP) == [4]
    assert mostly_unseen({4: wide}, SQUASH) == []
    (left, *_) = wide.regions
    assert not PhotoRegions(128, 64, (left,)).mask(0, CROP).any()


def test_a_region_smaller_than_a_pixel_holds_the_pixel_that_it_covers_most() -> None:
    tiny = photo(5600, 5600, Outline(Box(1010, 2010, 1020, 2020)))
    assert np.argwhere(tiny.mask(0, SQUASH)).tolist() == [[20, 10]]


def test_regions_of_the_class_and_those_without_a_class_count() -> None:
    parts = (
        Region(Outline(Box(0, 0, 28, 56)), (0,)),
        Region(Outline(Box(28, 0, 56, 28)), (1, 2)),
        Region(Outline(Box(28, 28, 56, 56))),
    )
    whole = PhotoRegions(56, 56, parts)
    counts = [int(whole.mask(target, SQUASH).sum()) for target in (0, 1, 2, 3)]
    assert counts == [28 * 56 + 28 * 28, 28 * 56, 28 * 56, 28 * 28]
    assert PhotoRegions(56, 56, parts[:2]).mask(3, SQUASH) is None


def test_boxes_travel_as_fractions_with_a_class() -> None:
    both = PhotoRegions(
        200,
        100,
        (Region(Outline(Box(50, 25, 100, 75)), (3, 4)), Region(Outline(Box(0, 0, 200, 100)))),
    )
    assert both.boxes() == [(0.25, 0.25, 0.5, 0.75, 3), (0, 0, 1, 1, -1)]


def test_a_mask_keeps_every_pixel() -> None:
    mask = np.random.default_rng(0).random((56, 56)) < 0.3
    np.testing.assert_array_equal(photo(56, 56, masked(mask)).mask(0, SQUASH), mask)
