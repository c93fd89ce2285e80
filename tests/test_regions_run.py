"""Regions as an option of a run: checked before torch, with the model's classes."""

from pathlib import Path

import pytest
from PIL import Image

from camreport.errors import ClassError, InputError
from camreport.images.preprocessing import Preprocessing
from camreport.pipeline.prepare import known_regions, prepare
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
        "regions: the model sees less than half of a region in 1 images, whose edges are cut off: "
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
