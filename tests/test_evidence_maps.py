"""Contrast and extent of whatever maps and controls a batch holds, without any pass."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import metric_oracles as oracles
from helpers.checkout import INPUTS
from helpers.small import small_model
from PIL import Image

import camreport
from camreport.engine.cost import Cost
from camreport.images.preprocessing import Preprocessing
from camreport.metrics.contrast import strongest_other
from camreport.metrics.controls import CONTROLS, control_maps, edge_strength, seen_pixels
from camreport.metrics.extent import extent
from camreport.metrics.values import Undefined
from camreport.pipeline.evidence import maps as evidence
from camreport.pipeline.evidence.maps import controls_of, measure_maps
from camreport.results.evidence import NumberKey
from camreport.results.reader import load_results
from camreport.results.schema import MapKey

KEYS = [
    *(MapKey(method, layer) for method in ("grad_cam", "layer_cam", "eigen_cam") for layer in "ab"),
    MapKey("recipro_cam", "b"),
    MapKey("layer_cam", "fused"),
]
GRIDS = {"a": (6, 7), "b": (3, 3), "fused": (6, 7)}


@pytest.fixture(scope="module")
def batch() -> SimpleNamespace:
    """Five images, three classes; Eigen-CAM's maps are those of all classes."""
    random = np.random.default_rng(0)
    maps = {key: random.normal(size=(5, 3, *GRIDS[key.layer])).astype(np.float32) for key in KEYS}
    maps[MapKey("grad_cam", "a")][2, 1] = 0
    maps[MapKey("grad_cam", "b")][3, 0, 0, 0] = np.nan
    for layer in "ab":
        maps[MapKey("eigen_cam", layer)][:] = maps[MapKey("eigen_cam", layer)][:, :1]
    maps[MapKey("recipro_cam", "b")] += 100
    edges = [random.random((24, 28)) for _ in range(5)]
    return SimpleNamespace(
        maps=maps,
        controls=controls_of(edges, GRIDS, range(5), seed=1),
        targets=np.array([[0, 2, 3]] * 5),
        logits=random.normal(size=(5, 4)).astype(np.float32),
    )


@pytest.fixture(scope="module")
def found(batch: SimpleNamespace):
    return measure_maps(batch)


def test_every_map_and_control_gets_every_number_without_a_pass(batch, found) -> None:
    assert found.cost == Cost()
    assert found.maps == {}
    rows = {str(key) for key in (*batch.maps, *batch.controls)}
    assert len(rows) == len(KEYS) + len(CONTROLS) * len(GRIDS)
    names = [name.split("/", 1) for name in found.values]
    assert {row for _, row in names} == rows
    assert len(names) == 7 * len(rows)
    for each in found.values.values():
        assert each.numbers.shape == each.reasons.shape == (5, 3)


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_the_numbers_of_a_map_are_those_of_its_oracles(batch, found, key: MapKey) -> None:
    maps, other = batch.maps[key], strongest_other(batch.targets, batch.logits)
    shown = maps - maps.min((-2, -1), keepdims=True) if key.method == "recipro_cam" else maps
    for number, expected in (oracles.contrast(maps, other) | oracles.extent(shown)).items():
        own = found.values[f"{number}/{key}"].numbers
        np.testing.assert_allclose(own, expected, rtol=0, atol=1e-5, err_msg=number)


def test_what_all_classes_share_has_contrast_one(batch, found) -> None:
    for row in ("eigen_cam", *CONTROLS):
        for layer in "ab":
            np.testing.assert_array_equal(found.values[f"contrast/{row}/{layer}"].numbers, 1)


def test_a_controls_extent_is_that_of_its_one_map(batch, found) -> None:
    for row in CONTROLS:
        expected = oracles.extent(batch.controls[MapKey(row, "a")])["extent"]
        own = found.values[f"extent/{row}/a"].numbers
        np.testing.assert_allclose(own, np.repeat(expected, 3, 1), atol=1e-6)


def test_only_the_maps_concerned_are_undefined_and_say_why(batch, found) -> None:
    other = strongest_other(batch.targets, batch.logits)
    for layer, image, slot, reason, of_extent in (
        ("a", 2, 1, Undefined.CONSTANT, Undefined.NO_POSITIVE),
        ("b", 3, 0, Undefined.NOT_FINITE, Undefined.NOT_FINITE),
    ):
        expected = np.zeros((5, 3))
        expected[image, slot] = of_extent
        np.testing.assert_array_equal(found.values[f"extent/grad_cam/{layer}"].reasons, expected)
        expected[image] = np.where(other[image] == slot, reason, 0)
        expected[image, slot] = reason
        np.testing.assert_array_equal(found.values[f"contrast/grad_cam/{layer}"].reasons, expected)


def test_an_image_gets_the_same_numbers_in_any_company(
    batch, found, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "MAX_VALUES", 1)  # an image at a time
    rows = np.array([3, 1])
    alone = measure_maps(
        SimpleNamespace(
            maps={key: maps[rows] for key, maps in batch.maps.items()},
            controls={},
            targets=batch.targets[rows],
            logits=batch.logits[rows],
        )
    )
    for name, each in alone.values.items():
        np.testing.assert_array_equal(each.numbers, found.values[name].numbers[rows])
        np.testing.assert_array_equal(each.reasons, found.values[name].reasons[rows])


def test_a_runs_controls_are_those_that_its_report_makes_again(tmp_path: Path) -> None:
    """Cropped from photographs that are kept smaller than they are, of two shapes."""
    way = Preprocessing(size=(40, 40), resize="short-side", short_side=52)
    files = [INPUTS / "cat.jpg", tmp_path / "odd.png"]
    shape = (251, 1003, 3)  # the shrunk one is scaled to another width
    picture = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    Image.fromarray(picture).save(files[1])
    model = small_model(("a", "b"), way)
    camreport.run(files, tmp_path / "out", model=model, methods="grad_cam", seed=5)
    results = load_results(tmp_path / "out")
    for image in range(2):
        found = results.evidence(image)
        photo = np.asarray(results.picture(image))
        edges = edge_strength(
            seen_pixels(photo, way.seen_part(*results.images[image].size), 40, 40)
        )
        for record in results.maps(image):
            grid = record.cam.shape
            made = control_maps(edges, *grid, seed=results.manifest.evidence.seed, image=image)
            for row, cam in zip(CONTROLS, made, strict=True):
                for number, expected in extent(cam).items():
                    own = found.numbers[NumberKey(number, row, record.layer)].numbers
                    np.testing.assert_array_equal(own, np.full((1, 2), expected.numbers))
