"""True classes: from folders, tables and mappings, into the manifest and onto the page."""

import json
from pathlib import Path

import pytest
from conftest import INPUTS
from test_cli import Command, command

import camreport
from camreport.errors import ClassError
from camreport.images import InputFile
from camreport.labels import true_classes

__all__ = ["command"]
NAMES = ("cat", "dog")


def inputs(*names: str) -> list[InputFile]:
    return [InputFile(Path("photos", name), name) for name in names]


def test_folders_name_the_classes() -> None:
    files = inputs("cat/1.jpg", "Dog/1.jpg", "deep/er/cat/2.jpg", "1/x.jpg")
    assert true_classes("folder", files, NAMES) == {0: 0, 1: 1, 2: 0, 3: 1}


@pytest.mark.parametrize(
    "text",
    [
        "image,class\nsub/a.jpg,dog\nb.jpg,cat\n",
        "\ufeffsub/a.jpg, DOG\n\nb.jpg ,0\n",
        "sub/a.jpg\t1\nb.jpg\tcat\nnot among them.jpg\tcat\n",
        '"sub/a.jpg","dog","more"\nb.jpg,cat\n',
    ],
    ids=["headings", "byte order mark", "tabs", "quoted"],
)
def test_tables_name_the_classes(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    files = inputs("sub/a.jpg", "b.jpg", "c.jpg")
    assert true_classes(tmp_path / "labels.csv", files, NAMES) == {0: 1, 1: 0}


def test_an_image_may_be_named_by_the_last_part_of_its_name() -> None:
    assert true_classes({"a.jpg": "dog"}, inputs("sub/a.jpg"), NAMES) == {0: 1}
    assert true_classes({"sub/a.jpg": 0, "a.jpg": 1}, inputs("sub/a.jpg"), NAMES) == {0: 0}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"a.jpg": "dgo"}, r"a class of the model for a.jpg, got 'dgo'. Did you mean 'dog'"),
        ({"a.jpg": "2"}, r"got '2'. It has cat, dog"),
        ({"b.jpg": "cat"}, r"none for any of them. The first input is called 'a.jpg'"),
        ("nowhere.csv", r"'folder' or a text file in UTF-8, got 'nowhere.csv'"),
    ],
)
def test_labels_say_what_is_wrong(labels: object, message: str) -> None:
    with pytest.raises(ClassError, match=message):
        true_classes(labels, inputs("a.jpg"), NAMES)


def test_a_line_without_a_class_is_named(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("a.jpg,cat\nb.jpg\n")
    with pytest.raises(ClassError, match=r"on each line of labels.csv, got 'b.jpg' on line 2"):
        true_classes(tmp_path / "labels.csv", inputs("a.jpg"), NAMES)


def test_report_says_with_words_what_is_right_and_wrong(tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = {"layers": ["12"], "methods": "grad_cam"}
    labels = {"both.jpg": "cat", "cat.jpg": "cat"}
    camreport.run(INPUTS, out, labels=labels, **given)
    images = json.loads((out / "results/manifest.json").read_text("utf-8"))["images"]
    assert [image.get("label") for image in images] == [0, 0, None]
    page = (out / "index.html").read_text("utf-8")
    sheet = page.partition('<div id="fallback">')[2]
    assert (
        sheet.count("<bdi>wrong: it is cat</bdi>")
        == sheet.count("<bdi>right: it is cat</bdi>")
        == 1
    )
    assert "<bdi>1 of 2 are right</bdi>" in sheet
    assert '"label":[0,0,null]' in page
    reused = camreport.run(INPUTS, out, labels=labels, **given).reused
    assert reused == 3
    camreport.run(INPUTS, out, **given)
    page = (out / "index.html").read_text("utf-8")
    assert 'class="badge"' not in page
    assert '"label":[null,null,null]' in page


def test_command_refuses_a_folder_that_is_no_class(command: Command) -> None:
    finished = command("run", str(INPUTS), "-o", "out", "--labels", "folder")
    assert finished.code == 2
    assert "labels: expected a class of the model for both.jpg, got 'inputs'" in finished.err
    assert not Path("out").exists()
