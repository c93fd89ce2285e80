"""Regions as an option of a run: checked before torch, with the model's classes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.checkout import INPUTS
from PIL import Image

import camreport
from camreport.errors import ClassError, InputError
from camreport.images.preprocessing import Preprocessing
from camreport.metrics.regions import CENTRE
from camreport.metrics.values import Undefined
from camreport.pipeline.prepare import known_regions, prepare
from camreport.results.evidence import NumberKey
from camreport.settings import Settings

CUT = Preprocessing(size=(20, 20), resize="short-side", short_side=20)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photographs of 40 × 20 pixels with a mask beside one, and a table of boxes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (40, 20), "grey").save(folder / name)
    Image.new("L", (40, 20), 1).save(folder / "a_mask.png")
    (tmp_path / "boxes.csv").write_text("a.jpg,0,0,9,9,kitten\nb.jpg,12,2,20,20,dog\n")
    return folder


def test_regions_get_the_models_classes_and_what_is_cut_off_is_told(photos, tmp_path) -> None:
    settings = Settings(regions=tmp_path / "boxes.csv", label_map="kitten=0")
    prepared = prepare(photos, tmp_path / "out", settings)
    notes: list[str] = []
    regions = known_regions(prepared, ("cat", "dog"), CUT, notes.append)
    assert {i: own.regions[0].classes for i, own in regions.items()} == {0: (0,), 2: (1,)}
    assert notes == [
        "regions: the model cuts edges off, and sees less than half of a region in 1 of 2 images: "
        "a.jpg"
    ]


def test_masks_beside_the_photographs_are_no_inputs_of_the_run(photos, tmp_path) -> None:
    prepared = prepare(photos, tmp_path / "out", Settings(regions=str(photos)))
    assert [file.name for file in prepared.files] == ["a.jpg", "b.jpg"]
    assert list(prepared.regions) == [0]
    assert len(prepare(photos, tmp_path / "out", Settings()).files) == 3


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"regions": "nowhere.csv"}, InputError, "found nothing at 'nowhere.csv'"),
        ({"regions": 3}, InputError, "regions: expected a file or a folder"),
        ({"evidence": "off"}, InputError, "got evidence 'off'"),
        ({"class_names": ["x", "y"]}, ClassError, "expected classes of the model, got kitten; dog"),
        ({"label_map": "kitten=0", "regions": None}, ClassError, "labels or regions that it"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_written(
    settings, error, message, photos, tmp_path
) -> None:
    with pytest.raises(error, match=message):
        prepare(
            photos, tmp_path / "out", Settings(**{"regions": tmp_path / "boxes.csv"} | settings)
        )
    assert not (tmp_path / "out").exists()


BOXES = "both.jpg,0,32,232,440,dog\nboth.jpg,232,4,448,448,cat\ndog.jpg,191,39,490,434\n"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of the demo photographs without regions, and a file of boxes for a second run."""
    folder = tmp_path_factory.mktemp("regions")
    (folder / "boxes.csv").write_text(BOXES)
    camreport.run(INPUTS, folder / "out", layers=["12"], methods="grad_cam", evidence_images=1)
    return folder / "out", folder / "boxes.csv"


def test_a_second_run_with_regions_keeps_every_map_and_measures_them(report) -> None:
    out, boxes = report
    options = {"layers": ["12"], "methods": "grad_cam", "evidence_images": 1}
    summary = camreport.run(INPUTS, out, regions=boxes, **options)
    assert summary.reused == 3
    results = camreport.load_results(out)
    assert results.manifest.evidence.regions == 2
    both, cat, dog = (results.evidence(index) for index in range(3))
    np.testing.assert_allclose(both.regions[0].boxes * 448, [[0, 32, 232, 440], [232, 4, 448, 448]])
    assert both.regions[0].classes.tolist() == [1, 0]
    assert dog.regions[0].classes.tolist() == [-1]
    assert len(cat.regions[0].boxes) == 0
    mass = NumberKey("regions", "grad_cam", "features.12")
    assert both.numbers[mass].numbers.min() > 0.9  # one half of the picture for each class
    assert not dog.numbers[mass].reasons.any()  # a region without a class counts for every class
    assert (cat.numbers[mass].reasons == Undefined.NO_REGION).all()
    page = (out / "index.html").read_text(encoding="utf-8")
    assert f'"key":"{CENTRE}"' in page.replace(" ", "")  # among the rows of the tables

    boxes.write_text(BOXES.replace("dog\n", "cat\n", 1))
    assert camreport.run(INPUTS, out, regions=boxes, **options).reused == 3
    swapped = camreport.load_results(out).evidence(0)
    assert swapped.numbers[mass].reasons.tolist() == [[0, Undefined.NO_REGION]]


def test_a_class_index_beyond_the_models_classes_is_refused(tmp_path) -> None:
    (tmp_path / "boxes.csv").write_text(BOXES.replace("dog", "7").replace("cat", "0"))
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    with pytest.raises(ClassError, match="regions: expected class indices from 0 to 3, got 7"):
        camreport.run(
            INPUTS, tmp_path / "out", model=model, regions=tmp_path / "boxes.csv", layers=["0"]
        )
