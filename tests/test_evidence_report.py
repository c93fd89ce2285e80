"""What a report carries of the evidence: tables, numbers of images and maps, further maps."""

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import synthetic
from helpers.folders import chunk
from helpers.reports import embedded, maps_of
from helpers.synthetic_evidence import write_evidence

from camreport.insight.evidence import EvidenceTable, evidence_table
from camreport.messages.message import LANGUAGES
from camreport.metrics import METRICS
from camreport.metrics.controls import CONTROLS, control_maps, edge_strength, seen_pixels
from camreport.metrics.values import Undefined
from camreport.report.gallery import render_gallery
from camreport.report.gallery.evidence import REASONS, UNTABLED, control_name, number_name
from camreport.report.gallery.image_evidence import CONTROL_SIDE
from camreport.report.gallery.language import words_of
from camreport.report.heatmap import quantise
from camreport.results.reader import load_results
from camreport.results.schema import MapKey

COUNT, SAMPLE = 8, 6
MAX_BYTES = 75_000
"""Most bytes that full evidence adds for an image of the sample, by two methods at five layers."""

BESIDE_METRICS = (
    *("effect.ceiling", "effect.additivity", "stability.changed", "order.tied"),
    *("average_drop.increase", "average_drop.gain", "average_drop.area"),
)
"""Numbers that files hold and that no metric gives for a map, or that are by name only."""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images with full evidence, six of them in the sample, in one file."""
    folder = tmp_path_factory.mktemp("report") / "out"
    synthetic.write_results(folder, COUNT, photo_side=64)
    write_evidence(folder, level="full", sample=SAMPLE, regions=True)
    render_gallery(folder, layout="single")
    return folder


@pytest.fixture(scope="module")
def report(out: Path) -> dict[str, Any]:
    return embedded(out, "report")


@pytest.fixture(scope="module")
def table(out: Path) -> EvidenceTable:
    found = evidence_table(load_results(out))
    assert found is not None
    return found


def sampled(out: Path) -> tuple[int, ...]:
    entry = load_results(out).manifest.evidence
    assert entry is not None
    return entry.sample


def levels_of(out: Path, index: int, cell: dict[str, Any]) -> Any:
    """Return the levels of a map, as the page finds them."""
    packed = base64.b64decode(embedded(out, f"image-{index}")["maps"])
    begin = 4 + int.from_bytes(packed[:4], "little") + cell["offset"]
    size = cell["height"] * cell["width"]
    return np.frombuffer(packed[begin : begin + size], np.uint8).reshape(cell["height"], -1)


def test_every_cell_of_the_tables_is_shipped_in_columns(
    report: dict[str, Any], table: EvidenceTable
) -> None:
    own = report["evidence"]
    numbers = [number["key"] for question in own["questions"] for number in question["numbers"]]
    cells = dict(own["cells"])
    given = cells.pop("given")
    assert len({len(column) for column in cells.values()}) == 1
    for place, number in enumerate(cells["number"]):
        row, layer = own["rows"][cells["row"][place]], own["layers"][cells["layer"][place]]
        scope = own["scopes"][cells["scope"][place]]["key"]
        found = table.tally(numbers[number], row["key"], layer, scope)
        assert found is not None
        assert (place in given) is found.given
        assert cells["n"][place] == found.n
        assert cells["median"][place] == pytest.approx(found.median, rel=1e-3)
        assert cells["undefined"][place] == found.undefined
        assert cells["beats"][place] == (None if found.beats is None else [*found.beats])
        assert row["control"] == row["key"].startswith("control:")
    assert len(cells["n"]) == sum(bool(one.key.row) for one in table.tallies)
    assert {*own["ceilings"]["number"]} == {"effect.ceiling", "effect.additivity"}
    assert (own["level"], own["sample"], own["seed"], own["drawn"]) == ("full", SAMPLE, 0, None)


def test_every_question_of_the_levels_has_words_in_both_languages(report: dict[str, Any]) -> None:
    asked = {key for key, metric in METRICS.items() if metric.level != "name"}
    for language in LANGUAGES:
        prose = report["prose"][language]["evidence"]
        assert {*prose["questions"]} == asked
        assert all(all(own.values()) for own in prose["questions"].values())
        assert len(prose["facts"]) >= 4
        assert {*prose["controls"]} == {*CONTROLS}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_number_control_and_reason_has_words(language: str) -> None:
    words = words_of(language)
    keys = [number.key for metric in METRICS.values() for number in metric.numbers]
    for key in (*keys, *UNTABLED, *BESIDE_METRICS):
        assert number_name(key, words) != key
    assert all(control_name(row, words) != row for row in CONTROLS)
    assert number_name("effect.of_someone_else", words) == "effect.of_someone_else"
    unmeasured = (Undefined.DEFINED, Undefined.NOT_MEASURED)
    assert {*REASONS} == {own.name.lower() for own in Undefined if own not in unmeasured}


def test_an_image_has_the_numbers_and_curves_of_its_maps(out: Path) -> None:
    evidence = load_results(out).evidence(2)
    assert evidence is not None
    shipped = maps_of(out, 2)
    for key, own in evidence.numbers.items():
        of_map = shipped["numbers"].get(f"{key.row}/{key.layer}" if key.row else "", {})
        if (own.reasons == Undefined.NOT_MEASURED).all():
            assert key.number not in of_map
        if key.number not in of_map:
            assert "control:" in key.row or (own.reasons == Undefined.NOT_MEASURED).all()
            continue
        np.testing.assert_allclose(np.array(of_map[key.number], float), own.numbers[0], rtol=6e-3)
    for key, curve in evidence.curves.items():
        if np.isfinite(curve).any():
            shown = np.array(shipped["curves"][str(key)], float)
            np.testing.assert_allclose(shown, curve[0], rtol=6e-3)


def test_images_outside_the_sample_have_neither_controls_nor_scrambled_maps(out: Path) -> None:
    for index in range(COUNT):
        shipped = maps_of(out, index)
        for name in ("controls", "scrambled", "curves"):
            assert bool(shipped[name]) is (index in sampled(out))
        assert any("contrast" in of_map for of_map in shipped["numbers"].values())


def test_controls_are_those_that_the_evidence_is_measured_of(out: Path) -> None:
    results, index = load_results(out), sampled(out)[0]
    image, preprocessing = results.images[index], results.manifest.preprocessing
    box = preprocessing.seen_box(*image.size)
    width, height = image.size
    seen = (box.left / width, box.top / height, box.right / width, box.bottom / height)
    photo = np.asarray(results.picture(index))
    edges = edge_strength(seen_pixels(photo, seen, *preprocessing.size))
    cells = maps_of(out, index)["controls"]
    assert [cell["method"] for cell in cells[:3]] == [*CONTROLS]
    assert all(max(cell["height"], cell["width"]) <= CONTROL_SIDE for cell in cells)
    small = [cell for cell in cells if cell["layer"] == "features.12"]
    maps = control_maps(edges, 6, 6, seed=0, image=index)
    for cell, cam in zip(small, maps, strict=True):
        np.testing.assert_array_equal(levels_of(out, index, cell), quantise(cam).levels)


def test_scrambled_maps_are_those_of_the_first_network(out: Path) -> None:
    index = sampled(out)[1]
    evidence = load_results(out).evidence(index)
    assert evidence is not None
    cells = maps_of(out, index)["scrambled"]
    own = [
        cell for cell in cells if (cell["method"], cell["layer"]) == ("layer_cam", "features.12")
    ]
    assert [cell["rank"] for cell in own] == [0, 1]
    raw = evidence.scrambled[0][MapKey("layer_cam", "features.12")][0]
    for cell, cam in zip(own, raw, strict=True):
        if "offset" in cell:
            np.testing.assert_array_equal(levels_of(out, index, cell), quantise(cam).levels)


def test_regions_lie_on_the_photograph(out: Path) -> None:
    evidence = load_results(out).evidence(0)
    assert evidence is not None
    shipped = embedded(out, "image-0")["regions"]
    boxes = np.array([region[:4] for region in shipped])
    np.testing.assert_allclose(boxes, evidence.regions[0].boxes, atol=1e-4)
    classes = [-1 if region[4] is None else region[4] for region in shipped]
    assert classes == evidence.regions[0].classes.tolist()


def test_a_folder_ships_the_same(out: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(out, tmp_path / "out")
    render_gallery(copied, layout="folder")
    report, images = chunk(copied, "report"), chunk(copied, "images-0000")
    single = embedded(out, "report")
    for key in ("evidence", "images"):
        assert report[key] == single[key]
    assert images[0]["regions"] == embedded(out, "image-0")["regions"]
    sample = report["images"]["sampled"]
    assert len(sample["places"]) == SAMPLE
    assert all(len(column) == SAMPLE for column in sample["numbers"].values())


def test_evidence_adds_few_bytes_to_an_image(out: Path, tmp_path: Path) -> None:
    plain = tmp_path / "out"
    synthetic.write_results(plain, COUNT, photo_side=64)
    render_gallery(plain, layout="single")
    index = sampled(out)[0]
    with_evidence, without = (
        len(json.dumps(embedded(each, f"image-{index}"))) for each in (out, plain)
    )
    assert 0 < with_evidence - without < MAX_BYTES
    report = embedded(plain, "report")
    assert report["evidence"] is None
    assert report["images"]["sampled"] == {"places": [], "numbers": {}}
    assert report["prose"]["en"]["evidence"]["facts"] == []
    assert maps_of(plain, index)["controls"] == []
