"""Regions in the evidence of a batch: whose regions count for which map, and their arrays."""

from collections.abc import Mapping

import numpy as np
import pytest

from camreport.images.preprocessing import Box, Preprocessing
from camreport.images.regions.region import Outline, PhotoRegions, Region
from camreport.metrics.regions import CENTRE, centre_box, regions
from camreport.metrics.values import Undefined
from camreport.pipeline.evidence.batch import EvidenceBatch
from camreport.pipeline.evidence.regions import measure_regions, region_arrays
from camreport.results.schema import MapKey

CUT = Preprocessing(size=(56, 56), resize="short-side", short_side=56)
LEFT, RIGHT = Outline(Box(28, 0, 56, 56)), Outline(Box(56, 0, 84, 56))
"""Halves of what the model sees of a photograph of 112 × 56 pixels."""


@pytest.fixture(scope="module")
def batch() -> EvidenceBatch:
    """Two images with maps of three classes on two grids, one map shared by all classes."""
    draw = np.random.default_rng(0).standard_normal
    maps = {
        MapKey("grad_cam", "early"): draw((2, 3, 14, 14)),
        MapKey("grad_cam", "late"): draw((2, 3, 7, 7)),
        MapKey("eigen_cam", "late"): draw((2, 1, 7, 7)),
    }
    return EvidenceBatch(
        explainer=None,  # type: ignore[arg-type]  # no pass is made
        inputs=np.zeros((2, 3, 56, 56), np.float32),
        maps={key: values.astype(np.float32) for key, values in maps.items()},
        controls={MapKey("control:edges", "late"): draw((2, 1, 7, 7)).astype(np.float32)},
        targets=np.array([[0, 1, 2], [2, 1, 0]]),
        logits=np.zeros((2, 4), np.float32),
        indices=np.array([3, 8]),
        preprocessing=CUT,
        seed=0,
        regions={
            3: PhotoRegions(112, 56, (Region(LEFT, (0,)), Region(Outline(Box(0, 0, 9, 9)), (1,)))),
            8: PhotoRegions(112, 56, (Region(LEFT, (2, 3)), Region(RIGHT))),
        },
    )


def test_each_map_is_compared_with_the_regions_of_its_class(batch) -> None:
    values = measure_regions(batch).values
    half = np.zeros((56, 56), dtype=bool)
    half[:, :28] = True
    masks = {(0, 0): half, (1, 0): np.ones_like(half), (1, 1): ~half, (1, 2): ~half}
    for key, maps in {**batch.maps, **batch.controls}.items():
        for (row, slot), mask in masks.items():
            own = regions(maps[row, min(slot, maps.shape[1] - 1)], mask)
            for number, expected in own.items():
                found = values[f"{number}/{key}"].numbers[row, slot]
                np.testing.assert_array_equal(found, expected.numbers)


def test_the_centre_stands_at_every_layer(batch) -> None:
    values = measure_regions(batch).values
    half = np.zeros((56, 56), dtype=bool)
    half[:, :28] = True
    expected = centre_box(half, 56, 56)
    for layer in ("early", "late"):
        for number, own in expected.items():
            assert values[f"{number}/{MapKey(CENTRE, layer)}"].numbers[0, 0] == own.numbers


def test_a_class_without_a_region_and_a_region_that_is_cut_off_are_told_apart(batch) -> None:
    reasons = measure_regions(batch).values["regions/grad_cam/late"].reasons
    assert reasons.tolist() == [
        [Undefined.DEFINED, Undefined.REGION_UNSEEN, Undefined.NO_REGION],
        [Undefined.DEFINED] * 3,
    ]


def without(batch: EvidenceBatch, regions: Mapping[int, PhotoRegions]) -> EvidenceBatch:
    return EvidenceBatch(**vars(batch) | {"regions": regions})


def test_an_image_without_regions_has_none(batch) -> None:
    one = without(batch, {8: batch.regions[8]})
    reasons = measure_regions(one).values["regions.hit/control:edges/late"].reasons
    assert reasons.tolist() == [[Undefined.NO_REGION] * 3, [Undefined.DEFINED] * 3]


def test_regions_are_kept_as_fractions_of_the_upright_photograph(batch) -> None:
    arrays = region_arrays(batch.regions, [8, 5, 3])
    assert arrays["regions.boxes"].dtype == np.float32
    np.testing.assert_allclose(
        arrays["regions.boxes"],
        [
            [0, 0.25, 0, 0.5, 1],
            [0, 0.5, 0, 0.75, 1],
            [2, 0.25, 0, 0.5, 1],
            [2, 0, 0, 9 / 112, 9 / 56],
        ],
        rtol=1e-6,
    )
    assert arrays["regions.classes"].tolist() == [2, -1, 0, 1]
    assert region_arrays({}, [1])["regions.boxes"].shape == (0, 5)
