"""Maps and regions: closed forms, Quantus, TorchRay's disc and plain loops over thresholds."""

import numpy as np
import pytest
from helpers.peers import peer
from numpy.typing import NDArray

from camreport.metrics.grids import enlarged
from camreport.metrics.regions import centre_box, regions, within_tolerance
from camreport.metrics.values import Undefined, Values

SIDE = 56


def box(left: int, top: int, right: int, bottom: int, side: int = SIDE) -> NDArray[np.bool_]:
    mask = np.zeros((side, side), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.fixture(scope="module")
def maps() -> NDArray[np.float32]:
    """Six signed maps without ties, on the input's own grid."""
    return np.random.default_rng(0).standard_normal((6, SIDE, SIDE)).astype(np.float32)


def numbers(found: dict[str, Values]) -> dict[str, float]:
    return {key: float(values.numbers) for key, values in found.items()}


# Closed forms


def test_a_map_that_is_its_region_has_the_best_of_every_number() -> None:
    mask = box(14, 14, 28, 42)
    assert numbers(regions(mask.astype(np.float32), mask)) == pytest.approx(
        {
            "regions": 1,
            "regions.lift": 8,  # an eighth of the picture
            "regions.hit": 1,
            "regions.rank": 1,
            "regions.iou": 1,
            "regions.tied": 1 / 8,
        }
    )


def test_a_map_beside_its_region_has_the_worst() -> None:
    found = numbers(regions(box(0, 0, 14, 56).astype(np.float32), box(42, 0, 56, 56)))
    assert [found[f"regions{part}"] for part in ("", ".lift", ".hit", ".rank", ".iou")] == [0] * 5


def test_an_even_map_has_the_regions_share_as_mass_and_a_lift_of_1() -> None:
    mask = box(0, 0, 28, 14)
    found = numbers(regions(np.full((7, 7), 3, np.float32), mask))
    assert found["regions"] == pytest.approx(1 / 8)
    assert found["regions.lift"] == pytest.approx(1)
    assert found["regions.iou"] == pytest.approx(1 / 8)
    assert found["regions.tied"] == 1
    assert np.isnan(found["regions.rank"])


def test_negative_values_count_for_the_rank_alone() -> None:
    mask = box(0, 0, SIDE, SIDE // 2)
    rows = np.where(np.arange(SIDE) < SIDE // 2, -1, -2)[:, None] + np.zeros((1, SIDE))
    rows[-1, -1] = 1.0
    found = numbers(regions(rows.astype(np.float32), mask))
    assert found["regions"] == 0
    assert found["regions.rank"] == pytest.approx(1 - 1 / mask.sum())


def test_ties_at_the_limit_of_the_rank_count_with_their_probability() -> None:
    cam = np.float32([[5, 1, 1, 1], [0, 0, 0, 0]])
    mask = np.array([[True, True, False, False], [True, False, False, False]])
    # Three places: the 5, and two of the three ones, of which one is in the region.
    assert numbers(regions(cam, mask))["regions.rank"] == pytest.approx((1 + 2 / 3) / 3)


def test_scale_changes_nothing(maps) -> None:
    mask = box(10, 20, 30, 50)
    once, larger = (numbers(regions(maps[0] * factor, mask)) for factor in (1, 1024))
    assert once == larger


def test_maps_are_enlarged_as_they_are_drawn(maps) -> None:
    mask = box(10, 20, 30, 50)
    small = maps[:, :7, :7]
    drawn = enlarged(np.maximum(small, 0).astype(np.float64), SIDE, SIDE)
    found = regions(small, mask)["regions"].numbers
    np.testing.assert_allclose(found, drawn[:, mask].sum(-1) / drawn.sum((-2, -1)), rtol=1e-6)


# Undefined


@pytest.mark.parametrize(
    ("cam", "mask", "reason"),
    [
        ([[1.0, 0.0]], None, Undefined.NO_REGION),
        ([[1.0, 0.0]], box(0, 0, 0, 0), Undefined.REGION_UNSEEN),
        ([[np.nan, 0.0]], box(0, 0, 9, 9), Undefined.NOT_FINITE),
        ([[-1.0, 0.0]], box(0, 0, 9, 9), Undefined.NO_POSITIVE),
    ],
)
def test_what_is_undefined_has_a_reason(cam, mask, reason) -> None:
    found = regions(np.float32(cam), mask)
    named = {key: values for key, values in found.items() if key != "regions.rank"}
    assert {int(values.reasons) for values in named.values()} == {reason}
    rank = found["regions.rank"]
    assert rank.reasons == (0 if reason == Undefined.NO_POSITIVE else reason)
    assert numbers(regions(np.zeros((3, 3), np.float32), box(0, 0, 9, 9))) != {}
    constant = regions(np.zeros((3, 3), np.float32), box(0, 0, 9, 9))["regions.rank"]
    assert constant.reasons == Undefined.CONSTANT


def test_a_map_without_evidence_costs_no_other_map(maps) -> None:
    mixed = np.stack([maps[0], np.zeros_like(maps[0]), np.full_like(maps[0], np.inf)])
    found = regions(mixed, box(0, 0, 9, 9))
    assert found["regions"].reasons.tolist() == [0, Undefined.NO_POSITIVE, Undefined.NOT_FINITE]
    alone = regions(maps[0], box(0, 0, 9, 9))
    assert {key: values.numbers[0] for key, values in found.items()} == pytest.approx(
        numbers(alone)
    )


# The pointing game


def torchray_hit(mask: NDArray[np.bool_], point: tuple[int, int]) -> bool:
    """Say whether a point hits, as TorchRay's ``PointingGame.evaluate`` does; point is (x, y)."""
    v, u = np.meshgrid(
        (np.arange(mask.shape[0]) - point[1]) ** 2,
        (np.arange(mask.shape[1]) - point[0]) ** 2,
        indexing="ij",
    )
    return bool((mask & (v + u < 15**2)).any())


def test_hits_are_those_of_torchray_at_224_pixels() -> None:
    generator = np.random.default_rng(1)
    mask = generator.random((224, 224)) < 2e-4
    mask[100:120, 7:30] = True
    near = within_tolerance(mask)
    points = generator.integers(0, 224, (300, 2)).tolist()
    assert [bool(near[y, x]) for x, y in points] == [torchray_hit(mask, (x, y)) for x, y in points]


@pytest.mark.parametrize(("distance", "hit"), [(14, 1), (15, 0)])
def test_a_peak_at_exactly_15_pixels_misses(distance, hit) -> None:
    cam = np.zeros((224, 224), np.float32)
    cam[100, 50] = 1
    mask = box(50 + distance, 100, 224, 101, 224)
    assert numbers(regions(cam, mask))["regions.hit"] == hit
    diagonal = box(50 + 9, 100 + 12, 60, 113, 224)  # 9² + 12² = 15²
    assert numbers(regions(cam, diagonal))["regions.hit"] == 0


@pytest.mark.parametrize("size", [(112, 112), (448, 448), (224, 112), (57, 91)])
def test_the_tolerance_grows_with_the_picture(size) -> None:
    height, width = size
    mask = np.random.default_rng(2).random(size) < 5e-4
    mask[height // 2, width // 3] = True
    down, across = (np.arange(side) * 224 / side for side in size)
    rows, columns = np.nonzero(mask)
    squared = (down[:, None, None] - down[rows]) ** 2 + (across[:, None] - across[columns]) ** 2
    nearest = squared.min(-1)
    clear = np.abs(nearest - 15**2) > 1e-6
    np.testing.assert_array_equal(within_tolerance(mask)[clear], (nearest < 15**2)[clear])


def test_one_of_several_peaks_is_enough_and_they_are_counted() -> None:
    cam = np.zeros((224, 224), np.float32)
    cam[10, 10] = cam[200, 200] = 1
    found = numbers(regions(cam, box(190, 190, 195, 195, 224)))
    assert (found["regions.hit"], found["regions.tied"]) == (1, pytest.approx(2 / 224**2))


# Overlap


def test_the_best_overlap_is_that_of_a_loop_over_thresholds(maps) -> None:
    mask = box(10, 20, 30, 50)
    for cam in maps:
        shares = np.maximum(cam, 0).astype(np.float64) / cam.max()
        overlaps = []
        for threshold in range(1, 1001):
            kept = np.floor(shares * 1000) >= threshold
            overlaps.append((kept & mask).sum() / (kept | mask).sum())
        assert numbers(regions(cam, mask))["regions.iou"] == pytest.approx(max(overlaps))


# The centre


def test_the_box_in_the_centre_is_a_quarter_of_the_picture() -> None:
    found = numbers(centre_box(box(0, 0, 28, 56), SIDE, SIDE))
    assert found["regions"] == pytest.approx(0.5)
    assert found["regions.lift"] == pytest.approx(1)
    assert found["regions.iou"] == pytest.approx(392 / (784 + 1568 - 392))


@pytest.mark.parametrize("side", [224, 225])
def test_the_peak_of_the_box_in_the_centre_is_the_middle_of_the_picture(side) -> None:
    middle = side // 2
    near, far = (box(middle + away, middle, side, middle + 1, side) for away in (14, 16))
    assert numbers(centre_box(near, side, side))["regions.hit"] == 1
    assert numbers(centre_box(far, side, side))["regions.hit"] == 0
    assert centre_box(None, side, side)["regions.hit"].reasons == Undefined.NO_REGION


# Quantus


def test_mass_and_rank_are_those_of_quantus(maps) -> None:
    quantus = peer("quantus")
    mask = box(10, 20, 30, 50)
    ours = regions(maps, mask)
    masks = np.repeat(mask[None, None], len(maps), 0)
    for key, name, evidence in (
        ("regions", "RelevanceMassAccuracy", np.maximum(maps, 0)),
        ("regions", "AttributionLocalisation", np.maximum(maps, 0)),
        ("regions.rank", "RelevanceRankAccuracy", maps),
    ):
        options = {"weighted": False} if name == "AttributionLocalisation" else {}
        measure = getattr(quantus, name)(
            abs=False, normalise=False, disable_warnings=True, **options
        )
        theirs = measure(
            model=None,
            x_batch=np.zeros((len(maps), 3, SIDE, SIDE)),
            y_batch=np.zeros(len(maps), int),
            a_batch=evidence[:, None].astype(np.float64),
            s_batch=masks,
            channel_first=True,
        )
        np.testing.assert_allclose(ours[key].numbers, theirs, rtol=1e-5)
