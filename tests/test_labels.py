"""True classes: from folders, tables and mappings, into the manifest and onto the page."""

import json
from pathlib import Path

import pytest
from helpers.checkout import INPUTS
from helpers.command import Command
from torch import nn

import camreport
import camreport.api
import camreport.images.labels
from camreport.errors import ClassError
from camreport.images.classes import read_class_names
from camreport.images.inputs import InputFile
from camreport.images.labels import read_label_map, shown_class
from camreport.images.search import find_images

NAMES = ("cat", "dog")


def true_classes(*given: object) -> dict[int, int]:
    """Return the one class that counts as right for each input that has a label."""
    return {
        index: right for index, (right,) in camreport.images.labels.true_classes(*given).items()
    }


def inputs(*names: str) -> list[InputFile]:
    return [InputFile(str(Path("photos", name)), name) for name in names]


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


# What may be more than one


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_name_that_two_images_share_is_refused_with_both(tmp_path: Path) -> None:
    files = inputs("cat/1.jpg", "dog/1.jpg", "dog/2.jpg")
    for labels in ({"1.jpg": "cat"}, table(tmp_path, "1.jpg,cat\n2.jpg,dog\n")):
        with pytest.raises(ClassError, match=r"'1.jpg', which may be 'cat/1.jpg' or 'dog/1.jpg'"):
            true_classes(labels, files, NAMES)
    assert true_classes({"cat/1.jpg": 0, "1.jpg": 1}, files, NAMES) == {0: 0, 1: 1}
    assert true_classes({"1.jpg": 1}, inputs("1.jpg", "sub/1.jpg"), NAMES) == {0: 1}


def test_lines_that_contradict_are_named_and_lines_that_agree_are_one(tmp_path: Path) -> None:
    agreeing = table(tmp_path, "image,label\na.jpg,cat\n\nb.jpg,dog\na.jpg,cat\n")
    assert true_classes(agreeing, inputs("a.jpg", "b.jpg"), NAMES) == {0: 0, 1: 1}
    contradicting = table(tmp_path, "image,label\na.jpg,cat\n\nb.jpg,dog\na.jpg,dog\n")
    with pytest.raises(ClassError, match=r"'a.jpg' .* 'cat' on line 2 and 'dog' on line 5"):
        true_classes(contradicting, inputs("sub/a.jpg"), NAMES)
    both = table(tmp_path, "image,label\na.jpg,cat\nsub/a.jpg,dog\n")
    assert true_classes(both, inputs("sub/a.jpg"), NAMES) == {0: 1}, "the whole name counts"


BIRDS = ("crane", "Cardigan", "cardigan", "maillot", "tench", "maillot", "Crane")


@pytest.mark.parametrize(
    ("word", "index"),
    [("cardigan", 2), ("Cardigan", 1), ("TENCH", 4), ("crane", 0), ("Crane", 6), ("5", 5)],
)
def test_a_class_is_called_exactly_as_it_is_written_first(word: str, index: int) -> None:
    assert true_classes({"a.jpg": word}, inputs("a.jpg"), BIRDS) == {0: index}
    assert camreport.api.resolve_classes(word, BIRDS) == [index]


@pytest.mark.parametrize(
    ("word", "classes"), [("maillot", "3 and 5"), ("MAILLOT", "3 and 5"), ("CRANE", "0 and 6")]
)
def test_a_name_of_several_classes_is_refused(word: str, classes: str) -> None:
    message = f"expected one class, got '{word}', the name of classes {classes}. Give the index."
    with pytest.raises(ClassError, match=f"labels: {message}"):
        true_classes({"a.jpg": word}, inputs("a.jpg"), BIRDS)
    with pytest.raises(ClassError, match=f"classes: {message}"):
        camreport.api.resolve_classes(word, BIRDS)
    assert true_classes({"a.jpg": 5}, inputs("a.jpg"), BIRDS) == {0: 5}


def test_a_name_that_is_another_classs_index_is_refused() -> None:
    with pytest.raises(ClassError, match="'1', the name of class 0 and the index of class 1"):
        true_classes({"a.jpg": "1"}, inputs("a.jpg"), ("1", "2"))
    assert true_classes({"a.jpg": "7"}, inputs("a.jpg"), tuple("0123456789")) == {0: 7}
    assert true_classes({"a.jpg": "30"}, inputs("a.jpg"), ("10", "20", "30")) == {0: 2}
    assert true_classes({"a.jpg": 1}, inputs("a.jpg"), ("1", "2")) == {0: 1}, "a number is an index"


# Columns

THREE = ("cat", "dog", "wolf")


@pytest.mark.parametrize(
    "text",
    [
        "image,cat,dog,wolf\na.jpg,0,1,0\nb.jpg,1,0,0\n",
        "image,wolf,dog,cat\na.jpg,0,1.0,0\nb.jpg,0,0,1\n",
        "image,age,cat,dog\na.jpg,2,0,1\nb.jpg,9,1,0\n",
        "image,flash,cat,dog,wolf\na.jpg,0,0,1,0\nb.jpg,1,1,0,0\n",
        "image,0,1,2\na.jpg,0,1,0\nb.jpg,1,0,0\n",
        "image,width,height,label\na.jpg,1,2,dog\nb.jpg,2,1,cat\n",
        "image,width,label\na.jpg,1,1\nb.jpg,2,0\n",
        "image,width,breed\na.jpg,1,dog\nb.jpg,2,cat\n",
        "label,image\ndog,a.jpg\ncat,b.jpg\n",
        ",file,class\n0,a.jpg,dog\n1,b.jpg,cat\n",
        "image;label\na.jpg;dog\nb.jpg;cat\n",
        "a.jpg,1,dog\nb.jpg,2,cat\n",
        "a.jpg,224.5,1\nb.jpg,224.5,0\n",
        'path,label,note\na.jpg,dog,"two\nlines"\nb.jpg,cat,\n',
        "image,label_id,what\na.jpg,1,dog\nb.jpg,0,cat\n",
    ],
)
def test_the_column_of_classes_is_found(tmp_path: Path, text: str) -> None:
    assert true_classes(table(tmp_path, text), inputs("a.jpg", "b.jpg"), THREE) == {0: 1, 1: 0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,width\na.jpg,1\nb.jpg,2\n", "one column of classes .* got 'width'. Call"),
        ("image,x,z\na.jpg,1,2\nb.jpg,2,0\n", "one column of classes .* got 'x', 'z'. Call"),
        ("a.jpg,1,0\nb.jpg,0,1\n", "got 'column 2', 'column 3'. Call"),
        ("image,first,second\na.jpg,cat,dog\nb.jpg,dog,cat\n", "got 'first', 'second'. Call"),
        ("image,label,class\na.jpg,cat,dog\nb.jpg,dog,cat\n", "got 'label', 'class'. Call"),
        ("image,lion,bear\na.jpg,0,1\nb.jpg,1,0\n", "headings .* got 'lion', 'bear'"),
        ("image,cat,dog\na.jpg,1,1\nb.jpg,1,0\n", "one class on line 2 .* got cat and dog"),
        ("image,cat,dog\na.jpg,0,1\nb.jpg,0,0\n", "one class on line 3 .* got none"),
        ("image,breed\na.jpg,lion\nb.jpg,cat\n", "a class of the model for a.jpg, got 'lion'"),
    ],
)
def test_a_column_that_may_be_another_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ClassError, match=message):
        true_classes(table(tmp_path, text), inputs("a.jpg", "b.jpg"), THREE)


# Messages


def test_inputs_without_a_label_are_counted(tmp_path: Path) -> None:
    notes: list[str] = []
    files = inputs(*(f"{number}.jpg" for number in range(30)))
    labels = {f"{number}.jpg": "cat" for number in range(12)}
    assert len(true_classes(labels, files, NAMES, notes.append)) == 12
    assert notes == ["12 of 30 images have a label"]
    true_classes("folder", inputs("cat/1.jpg", "dog/2.jpg"), NAMES, notes.append)
    assert len(notes) == 1


def test_folders_of_another_vocabulary_are_listed() -> None:
    files = inputs("katze/1.jpg", "hund/2.jpg", "hund/3.jpg")
    with pytest.raises(ClassError, match=r"got 'katze'.* The folders are called hund, katze\."):
        true_classes("folder", files, ("tench", "goldfish"))


def test_a_linked_class_folder_names_the_class(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "1.jpg").write_bytes(b"x")
    (tmp_path / "cat").symlink_to("blobs")
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "1.jpg").symlink_to("../blobs/1.jpg")
    files = find_images([tmp_path / "cat", tmp_path / "dog"])
    assert true_classes("folder", files, NAMES) == {0: 0, 1: 1}


def test_a_relative_path_names_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "1.jpg").write_bytes(b"x")
    monkeypatch.chdir(tmp_path / "dog")
    assert true_classes("folder", find_images(["1.jpg"]), NAMES) == {0: 1}


# Names of classes


@pytest.mark.parametrize(
    "text",
    [
        "cat\n\n dog \nwolf\n",
        "{0: 'cat',\n 1: \"dog\",\n 2: 'wolf'}",
        "{2: 'wolf', 0: 'cat', 1: 'dog',}",
        '["cat", "dog", "wolf"]',
        '{"0": "cat", "1": "dog", "2": "wolf"}',
        '{"0": ["n01", "cat"], "1": ["n02", "dog"], "2": ["n03", "wolf"]}',
        '{"cat": 0, "wolf": 2, "dog": 1}',
        "['cat', 'dog', 'wolf']",
        '\ufeff["cat", "dog", "wolf"]',
    ],
)
def test_files_of_class_names_are_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "names.txt").write_text(text, encoding="utf-8")
    assert read_class_names(tmp_path / "names.txt") == ["cat", "dog", "wolf"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{0: 'cat', 1: open('x')}", "begins like JSON or a dictionary but cannot be parsed"),
        ("{0: 'cat', 1:", "begins like JSON or a dictionary but cannot be parsed"),
        ("[" * 100_000, "begins like JSON or a dictionary but cannot be parsed"),
        ("{0: 'cat', 2: 'dog'}", "the indices 0 to 1 once each"),
        ("{1: 'cat', 2: 'dog'}", "the indices 0 to 1 once each"),
        ('{"cat": 0, "dog": 0}', "the indices 0 to 1 once each"),
        ('{"a": "cat", "b": "dog"}', "the indices 0 to 1 once each"),
        ('{"0": 1.5, "1": "dog"}', "names as text, got '1.5'"),
        ("[[]]", r"names as text, got '\[\]'"),
    ],
)
def test_files_of_class_names_say_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "names.json").write_text(text, encoding="utf-8")
    with pytest.raises(ClassError, match=message):
        read_class_names(tmp_path / "names.json")


def test_command_reads_the_widespread_list(command: Command, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("{0: 'Katze',\n 1: 'Hund'}", encoding="utf-8")
    words = (
        "--layers",
        "12",
        "--methods",
        "grad_cam",
        "--class-names",
        str(tmp_path / "names.txt"),
    )
    finished = command("run", str(INPUTS / "cat.jpg"), "-o", "out", *words)
    assert finished.code == 0
    assert "cat.jpg: Katze 0.9" in finished.out


# Another vocabulary

ANIMALS = ("tench", "tabby", "tiger cat", "beagle", "pug", "Egyptian cat")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat=1-2,dog=3-4", {"cat": [1, 2], "dog": [3, 4]}),
        ("cat=1-2,5, dog = beagle，pug", {"cat": [1, 2, 5], "dog": [3, 4]}),
        ("cat=Egyptian cat,cat=1", {"cat": [5, 1]}),
    ],
)
def test_a_label_map_says_what_words_stand_for(text: str, expected: dict[str, list[int]]) -> None:
    assert read_label_map(text, ANIMALS) == expected


@pytest.mark.parametrize("text", ["1-2", "cat=6", "cat=2-6", "cat=2-1", "cat=", "cat=lion", "=1"])
def test_a_label_map_says_what_is_wrong(text: str) -> None:
    with pytest.raises(ClassError, match="label_map: expected words and the model's classes"):
        read_label_map(text, ANIMALS)


def test_a_mapped_label_is_right_where_the_prediction_is_among_its_classes(tmp_path: Path) -> None:
    files = inputs("cat/1.jpg", "dog/2.jpg", "tench/3.jpg")
    mapped = {"cat": [1, 2, 5], "dog": [3, 4]}
    found = camreport.images.labels.true_classes("folder", files, ANIMALS, label_map=mapped)
    assert found == {0: (1, 2, 5), 1: (3, 4), 2: (0,)}
    one_hot = table(tmp_path, "image,cat,dog\n1.jpg,0,1\n2.jpg,1,0\n")
    found = camreport.images.labels.true_classes(one_hot, files, ANIMALS, label_map=mapped)
    assert found == {0: (3, 4), 1: (1, 2, 5)}
    assert shown_class((1, 2, 5), 5) == 5
    assert shown_class((1, 2, 5), 3) == 1
    assert shown_class((1, 2, 5), None) == 1


def test_command_takes_folders_of_another_vocabulary(command: Command, tmp_path: Path) -> None:
    for folder, name in (("animal", "cat.jpg"), ("animal", "dog.jpg"), ("pet", "both.jpg")):
        (tmp_path / "in" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / folder / name).write_bytes((INPUTS / name).read_bytes())
    words = ("run", str(tmp_path / "in"), "-o", "out", "--labels", "folder", "--layers", "12")
    refused = command(*words, "--methods", "grad_cam")
    assert refused.code == 2
    assert "The folders are called animal, pet. If they are other words, give" in refused.err
    finished = command(*words, "--methods", "grad_cam", "--label-map", "animal=0-1,pet=dog")
    assert finished.code == 0
    manifest = json.loads(Path("out/results/manifest.json").read_text("utf-8"))
    top = [image["top"][0]["index"] for image in manifest["images"]]
    assert [image["label"] for image in manifest["images"]] == [top[0], top[1], 1]
    assert top[:2] == [0, 1]
    assert "--label-map animal=0-1,pet=dog" in manifest["command"]


def test_an_index_beyond_the_models_classes_ends_before_anything_is_kept(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    options = {"model": net.eval(), "layers": ["0"], "methods": "grad_cam"}
    with pytest.raises(ClassError, match="labels: expected class indices from 0 to 1, got 7"):
        camreport.run(INPUTS / "cat.jpg", tmp_path / "out", labels={"cat.jpg": 7}, **options)
    assert not (tmp_path / "out").exists()


def test_a_label_map_alone_explains_nothing(tmp_path: Path) -> None:
    with pytest.raises(ClassError, match="label_map: expected labels or regions that it explains"):
        camreport.run(INPUTS / "cat.jpg", tmp_path / "out", label_map="cat=0")


def test_a_label_map_takes_quoted_words_and_no_endless_range() -> None:
    assert read_label_map('"x, y=1",dog=0', ["a", "b"]) == {"x, y": [1], "dog": [0]}
    with pytest.raises(ClassError, match="range of up to 100,000 classes"):
        read_label_map("cat=0-99999999999", [])
