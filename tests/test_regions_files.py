"""Regions from files: five formats, matched to the inputs, and what is said about faults."""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from camreport.errors import ClassError, InputError
from camreport.images.inputs import InputFile
from camreport.images.preprocessing import Box, Preprocessing
from camreport.images.regions.find import find_regions, with_classes
from camreport.images.regions.read import without_masks
from camreport.images.regions.region import Outline, masked

NAMES = ("cat", "dog")
BOX = Box(10.0, 5.0, 30.0, 25.0)
"""In a photograph of 40 × 30 pixels."""

VOC = """<annotation><filename>a.jpg</filename><size><width>40</width><height>30</height></size>
<object><name>cat</name><bndbox><xmin>11</xmin><ymin>6</ymin><xmax>30</xmax><ymax>25</ymax></bndbox>
</object></annotation>"""


@pytest.fixture
def photos(tmp_path: Path) -> list[InputFile]:
    """Three photographs of 40 × 30 pixels: a.jpg, b.jpg and sub/c.jpg."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg", "sub/c.jpg"):
        Image.new("RGB", (40, 30), "grey").save(folder / name)
    return [InputFile(str(folder / name), name) for name in ("a.jpg", "b.jpg", "sub/c.jpg")]


def coco(*annotations: dict[str, object], **image: object) -> str:
    images = [{"id": 7, "file_name": "a.jpg", "width": 40, "height": 30} | image]
    listed = [{"image_id": 7, "category_id": 3} | each for each in annotations]
    categories = [{"id": 3, "name": "cat"}, {"id": 4, "name": "person"}]
    return json.dumps({"images": images, "annotations": listed, "categories": categories})


def mask_of(box: Box) -> np.ndarray:
    mask = np.zeros((30, 40), np.uint8)
    mask[int(box.top) : int(box.bottom), int(box.left) : int(box.right)] = 1
    return mask


def write_mask(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(mask_of(BOX)).save(path)


def written(name: str, text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return folder / Path(name).parts[0]

    return write


FORMATS = {
    "COCO": written("boxes.json", coco({"bbox": [10, 5, 20, 20]})),
    "VOC file": written("a.xml", VOC),
    "VOC folder": written("voc/a.xml", VOC),
    "YOLO": written("yolo/a.txt", "0 0.5 0.5 0.5 0.66666666666666666\n"),
    "CSV": written("boxes.csv", "a.jpg,10,5,30,25,cat\n"),
    "CSV with headings": written(
        "boxes.csv", "class;ymax;xmax;ymin;xmin;filename\ncat;25;30;5;10;a.jpg\n"
    ),
    "CSV of x1 to x2": written(
        "boxes.csv", "image\tx1\ty1\tx2\ty2\tlabel\na.jpg\t10\t5\t30\t25\tcat"
    ),
}


@pytest.mark.parametrize("form", FORMATS)
def test_a_box_is_the_same_in_every_format(form, tmp_path, photos) -> None:
    found = find_regions(FORMATS[form](tmp_path), photos)
    (photo,) = found.values()
    ((outline, word),) = photo.outlines
    np.testing.assert_allclose([*vars(outline.box).values()], [*vars(BOX).values()], atol=1e-9)
    assert list(found) == [0]
    assert (photo.width, photo.height) == (40, 30)
    (regions,) = with_classes(found, NAMES).values()
    assert word in ("cat", "0")
    assert regions.regions[0].classes == (0,)


def column_runs() -> list[int]:
    """Return the runs of COCO, column by column, of the mask of ``BOX``."""
    flat = mask_of(BOX).T.ravel()
    ends = [*np.flatnonzero(np.diff(flat)) + 1, flat.size]
    return np.diff([0, *ends]).tolist()


def test_masks_and_runs_are_the_box_they_fill(tmp_path, photos) -> None:
    write_mask(tmp_path / "masks/a_mask.png")
    path = tmp_path / "runs.json"
    path.write_text(coco({"segmentation": {"counts": column_runs(), "size": [30, 40]}}))
    for each in (tmp_path / "masks", path):
        ((outline, _),) = find_regions(each, photos)[0].outlines
        assert outline.box == BOX
        assert outline == masked(mask_of(BOX) > 0)


def test_a_polygon_keeps_its_corners_and_a_compressed_mask_is_its_box(tmp_path, photos) -> None:
    path = tmp_path / "polygons.json"
    packed = {"segmentation": {"counts": "abc", "size": [30, 40]}, "bbox": [10, 5, 20, 20]}
    path.write_text(coco({"segmentation": [[0, 0, 9, 0, 9, 9]]}, packed))
    (first, _), (second, _) = find_regions(path, photos)[0].outlines
    assert first == Outline(Box(0, 0, 9, 9), ((0, 0, 9, 0, 9, 9),))
    assert second == Outline(BOX)


@pytest.mark.parametrize(
    ("corners", "note"),
    [
        ([20, 0, 1e9, 0, 1e9, 30, 20, 30], "1 cut at the picture's edge"),
        ([20, -500, 60, -500, 60, 500, 20, 500], "1 cut at the picture's edge"),
        ([20, 0, 2e9, 0, 2e9, 30, 20, 30], "expected corners within a billion pixels"),
        ([20, 0, 1e300, 0, 1e300, 30, 20, 30], "expected corners within a billion pixels"),
        ([50, 5, 60, 5, 60, 20], "expected a box or polygon that meets the picture"),
        ([-5, -5, 90, -5, 90, -2, -2, -2, -2, 90, -5, 90], "holds the centre of a pixel"),
        ([5, 5, 20, 20, 10, 10], "holds the centre of a pixel"),
        ([20, 0, float("nan"), 0, 40, 30], "polygons of three corners or more"),
        ([20, 0, float("inf"), 0, 40, 30], "polygons of three corners or more"),
        ([20, 0, 40, 30], "polygons of three corners or more"),
        ([20, 0, 40, 30, 7], "polygons of three corners or more"),
    ],
)
def test_a_polygon_outside_or_broken_is_named_and_never_a_wrong_mask(
    corners, note, tmp_path, photos
) -> None:
    path, notes = tmp_path / "polygons.json", list[str]()
    path.write_text(coco({"segmentation": [corners]}, {"bbox": [1, 1, 2, 2]}))
    found = with_classes(find_regions(path, photos, notes.append), NAMES)[0]
    assert note in notes[0]
    assert "annotation 1 (" in notes[0]
    mask = found.mask(0, Preprocessing(size=(30, 40)))
    if "cut" in note:
        expected = np.zeros((30, 40), bool)
        expected[:, 20:] = expected[1:3, 1:3] = True
        np.testing.assert_array_equal(mask, expected)
    else:
        assert len(found.regions) == 1


def test_a_polygon_of_yolo_is_cut_at_the_edge_too(tmp_path, photos) -> None:
    path, notes = written("yolo/a.txt", "0 .5 0 1.5 0 1.5 1 .5 1\n")(tmp_path), list[str]()
    found = with_classes(find_regions(path, photos, notes.append), NAMES)[0]
    assert "1 cut at the picture's edge: line 1 of a.txt" in notes[0]
    assert found.mask(0, Preprocessing(size=(30, 40))).sum() == 30 * 20


def test_a_polygon_smaller_than_a_pixel_is_its_box(tmp_path, photos) -> None:
    path = tmp_path / "polygons.json"
    path.write_text(coco({"segmentation": [[7.1, 8.1, 7.4, 8.1, 7.4, 8.4]]}))
    found = with_classes(find_regions(path, photos), NAMES)[0]
    assert np.argwhere(found.mask(0, Preprocessing(size=(30, 40)))).tolist() == [[8, 7]]


@pytest.mark.parametrize("counts", [[600, -1, 601], [600, 599], [], [600.5, 599.5], ["600", "600"]])
def test_wrong_runs_are_named(counts, tmp_path, photos) -> None:
    path = tmp_path / "runs.json"
    shape = {"segmentation": {"counts": counts, "size": [30, 40]}, "bbox": [0, 0, 9, 9]}
    path.write_text(coco(shape))
    with pytest.raises(InputError, match=r"(runs that fill the photograph|pixels as runs)"):
        find_regions(path, photos)


def test_yolo_names_its_classes_in_a_file_beside_or_above_the_folder(tmp_path, photos) -> None:
    folder = tmp_path / "labels"
    written("labels/sub/c.txt", "1 .5 .5 .5 .5 0.9\n0 .1 .1 .3 .1 .3 .3\n")(tmp_path)
    written("classes.txt", "person\ndog\n")(tmp_path)
    ((index, photo),) = find_regions(folder, photos).items()
    assert index == 2
    assert [word for _, word in photo.outlines] == ["dog", "person"]
    assert photo.outlines[1][0].box == Box(4.0, 3.0, 12.0, 9.0)


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "RGB", "RGBA", "LA"])
def test_any_value_above_0_is_the_region_and_transparency_is_none(mode, tmp_path, photos) -> None:
    mask = Image.fromarray(mask_of(BOX) * 255)
    if mode == "P":
        mask = Image.fromarray(mask_of(BOX)).convert("P")
    else:
        mask = (
            Image.fromarray(mask_of(BOX).astype(np.uint16))
            if mode == "I;16"
            else mask.convert(mode)
        )
    mask.save(tmp_path / "a.png")
    ((outline, word),) = find_regions(tmp_path / "a.png", photos)[0].outlines
    assert outline.box == BOX
    assert word is None


# Which photographs and classes are meant


def test_images_are_matched_by_their_whole_name_first_and_then_by_its_last_part(photos, tmp_path):
    path = written("boxes.csv", "c.jpg,0,0,9,9\n./sub\\c.jpg,0,0,8,8\nx/b.jpg,0,0,7,7\n")(tmp_path)
    notes: list[str] = []
    found = find_regions(path, photos, notes.append)
    assert {index: photo.outlines[0][0].box.right for index, photo in found.items()} == {1: 7, 2: 8}
    assert notes == [
        "regions: not among the inputs of this run: c.jpg",
        "2 of 3 images have a region",
    ]


def test_a_last_part_that_two_images_share_is_left_out(tmp_path, photos) -> None:
    path = written("boxes.csv", "x/a.jpg,0,0,9,9\ny/a.jpg,0,0,8,8\nb.jpg,0,0,9,9\n")(tmp_path)
    notes: list[str] = []
    assert list(find_regions(path, photos, notes.append)) == [1]
    assert "2 left out: expected a name that only one photograph has" in notes[0]
    assert "line 1 (x/a.jpg); line 2 (y/a.jpg)" in notes[0]


def test_masks_beside_the_photographs_are_no_inputs(tmp_path, photos) -> None:
    folder = tmp_path / "photos"
    for name in ("a_mask.png", "z_mask.png", "odd.png"):
        write_mask(folder / name)
    beside = [
        InputFile(str(folder / name), name) for name in ("a_mask.png", "z_mask.png", "odd.png")
    ]
    kept = without_masks([*photos, *beside], folder)
    assert [file.name for file in kept] == ["a.jpg", "b.jpg", "sub/c.jpg", "z_mask.png", "odd.png"]
    assert without_masks([*photos, *beside], None) == (*photos, *beside)
    assert list(find_regions(folder, kept)) == [0]


def test_other_words_and_classes_of_other_vocabularies(tmp_path, photos) -> None:
    text = "a.jpg,0,0,9,9,kitten\na.jpg,0,0,9,9,1\nb.jpg,0,0,9,9,person\nsub/c.jpg,0,0,5,5\n"
    found = find_regions(written("boxes.csv", text)(tmp_path), photos)
    notes: list[str] = []
    kept = with_classes(found, NAMES, notes.append, {"kitten": [0, 1]})
    assert {i: [r.classes for r in p.regions] for i, p in kept.items()} == {
        0: [(0, 1), (1,)],
        2: [()],
    }
    assert notes == ["regions: left out those of classes that the model does not have: person (1)"]


def test_classes_of_which_none_is_the_models_are_an_error(tmp_path, photos) -> None:
    found = find_regions(written("boxes.csv", "a.jpg,0,0,9,9,cats")(tmp_path), photos)
    expected = "regions: expected classes of the model, got cats. Did you mean 'cat'?"
    with pytest.raises(ClassError, match=re.escape(expected) + ".*--label-map cats=0"):
        with_classes(found, NAMES)


# Faults


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("a.jpg,50,5,60,25", "2 left out: expected a box or polygon that meets the picture"),
        ("a.jpg,30,5,10,25", "2 left out: expected right beyond left"),
        ("a.jpg,10,5,10,25", "2 left out: expected right beyond left"),
        ("a.jpg,10,5,nan,25", "2 left out: expected image, x0, y0, x1, y1"),
        ("a.jpg,10,5", "2 left out: expected image, x0, y0, x1, y1"),
        ("a.jpg,10,5,50,25", "1 cut at the picture's edge"),
    ],
)
def test_a_fault_costs_no_other_line_and_names_its_line(line, note, tmp_path, photos) -> None:
    path = written("boxes.csv", f"b.jpg,1,1,2,2\n{line}\n{line}\n")(tmp_path)
    notes: list[str] = []
    assert 1 in find_regions(path, photos, notes.append)
    assert any(note in each and "line 2" in each for each in notes)


def test_a_region_that_stands_twice_counts_once(tmp_path, photos) -> None:
    path = written("boxes.csv", "a.jpg,0,0,9,9,cat\na.jpg,0,0,9,9,cat\na.jpg,0,0,9,9,dog")(tmp_path)
    notes: list[str] = []
    assert len(find_regions(path, photos, notes.append)[0].outlines) == 2
    assert notes[0] == "warning: regions: 1 left out: expected each region once: line 2 (a.jpg)"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (coco({"bbox": [10, 5, 20, 20]}, width=30, height=40), "before its EXIF orientation"),
        (
            coco({"bbox": [10, 5, 20, 20]}, width=80, height=60),
            "got none that can be used.*80 × 60.*own size",
        ),
        (coco({"bbox": [10, 5, "20", 20]}), "For instance annotation 1 "),
        (coco({"bbox": [10, 5, 20, 20], "image_id": 9}), "an image_id of 'images'"),
        (coco({"bbox": [10, 5, 20, 20]}, file_name="x.jpg"), "1 others .*x.jpg. The first input"),
        (coco({"segmentation": {"counts": [3, 4], "size": [30, 40]}}), "fill the photograph"),
        (coco({"segmentation": {"counts": [1200], "size": [30, 40]}}), "a value above 0"),
        ("[1, 2]", "not COCO JSON"),
        ("{" * 100_000, "not COCO JSON"),
        ("<html/>", "with <html> instead of VOC's <annotation>.*first line is '<html/>'"),
        ("<annotation>", "not well-formed XML"),
        ("", "its first line is ''"),
        ("hello there\n", "not YOLO txt .*not CSV .*Its first line is 'hello there'"),
        ("a.jpg,0.1,0.2,0.3,0.4\n", "with fractions instead of pixels"),
        (coco(), "got none that can be used"),
    ],
    ids=range(15),
)
def test_a_file_without_a_usable_region_is_an_error_that_says_why(
    content, message, tmp_path, photos
) -> None:
    path = tmp_path / "regions.any"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=f"(?is)^regions: expected .*{message}"):
        find_regions(path, photos)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((30, 40), np.uint8), "a mask with a value above 0"),
        (np.ones((30, 41), np.uint8), "41 × 30.*own size"),
        (np.ones((40, 30), np.uint8), "before its EXIF orientation"),
    ],
)
def test_an_unusable_mask_is_named(mask, message, tmp_path, photos) -> None:
    Image.fromarray(mask).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=f"For instance a.png .*{message}"):
        find_regions(tmp_path / "a.png", photos)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(InputError, match="a PNG file that can be read"):
        find_regions(tmp_path / "a.png", photos)


def test_an_entity_in_xml_is_refused(tmp_path, photos) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "cat">]>' + VOC.replace("cat", "&a;")
    with pytest.raises(InputError, match="document type"):
        find_regions(written("a.xml", bomb)(tmp_path), photos)
    voc = tmp_path / "voc"
    written("voc/a.xml", bomb)(tmp_path)
    written("voc/b.xml", VOC.replace("a.jpg", "b.jpg"))(tmp_path)
    notes: list[str] = []
    assert list(find_regions(voc, photos, notes.append)) == [1]
    assert "a.xml (with a document type" in notes[0]


def test_a_folder_without_regions_names_what_is_in_it(tmp_path, photos) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="the folder 'empty' with no file"):
        find_regions(tmp_path / "empty", photos)
    with pytest.raises(InputError, match=r"the folder 'photos' with \.jpg"):
        find_regions(tmp_path / "photos", photos)
    with pytest.raises(InputError, match="found nothing at"):
        find_regions(tmp_path / "nowhere", photos)


def test_coordinates_are_those_of_the_upright_photograph(tmp_path, photos) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (40, 30)).save(photos[0].uri, exif=exif)
    path = written("boxes.csv", "a.jpg,10,30,20,40\n")(tmp_path)
    assert (found := find_regions(path, photos)[0]).outlines[0][0].box == Box(10, 30, 20, 40)
    assert (found.width, found.height) == (30, 40)


def test_random_damage_never_raises_anything_else(tmp_path, photos) -> None:
    random.seed(0)
    sources = [
        coco({"bbox": [10, 5, 20, 20]}),
        VOC,
        "a.jpg,10,5,30,25,cat\n" * 3,
        "0 .5 .5 .5 .5\n",
    ]
    path = tmp_path / "a.any"
    for number in range(400):
        content = bytearray(sources[number % 4].encode())
        for _ in range(random.randint(1, 4)):
            at = random.randrange(len(content))
            content[at : at + random.randint(0, 3)] = random.randbytes(random.randint(0, 3))
        path.write_bytes(content)
        try:
            find_regions(path, photos)
        except InputError:
            pass
