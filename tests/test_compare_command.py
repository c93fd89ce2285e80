"""``camreport compare``: what it writes and refuses, and what is made of a comparison again."""

import csv
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers.command import Command
from helpers.compared import stripes
from helpers.runs import files_of, run, tiny, write_images

import camreport
from camreport.errors import ResultsError
from camreport.results.reader import load_results

NAMES = ["across", "upright"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs on six photographs, one on others, one with other classes, a comparison."""
    folder = tmp_path_factory.mktemp("runs")
    photos = stripes(folder / "photos", 6)
    run(photos, folder / "a", class_names=NAMES, labels="folder")
    run(photos, folder / "b", tiny(seed=1), class_names=NAMES, labels="folder")
    run(photos, folder / "c", tiny(3), class_names=["x", "y", "z"])
    run(write_images(folder / "others", 2), folder / "d", class_names=NAMES)
    camreport.compare([folder / "a", folder / "b"], folder / "ab")
    return folder


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy of the folder that a test may change."""
    shutil.copytree(folder, tmp_path / "own")
    return tmp_path / "own"


def described(out: Path) -> dict:
    """Return what a comparison says of itself."""
    return json.loads((out / "results/comparison.json").read_text(encoding="utf-8"))


def names_of(out: Path) -> list[str]:
    """Return the names of a comparison's runs."""
    return [one["name"] for one in described(out)["runs"]]


# What is written


def test_a_comparison_is_one_page_beside_the_names_of_its_runs(folder: Path) -> None:
    assert sorted(files_of(folder / "ab")) == [
        "index.html",
        "results/.camreport",
        "results/comparison.json",
    ]
    entry = json.loads((folder / "ab/results/comparison.json").read_text())
    assert [(one["name"], one["address"]) for one in entry["runs"]] == [
        ("a", "../a"),
        ("b", "../b"),
    ]
    written = b"".join(files_of(folder / "ab").values())
    assert str(folder.parent).encode() not in written


def test_the_command_prints_the_outcome(folder: Path, command: Command) -> None:
    done = command("compare", str(folder / "a"), str(folder / "b"), "-o", "out")
    assert done.code == 0
    assert "of 6 images" in done.out
    assert "report: file://" in done.out
    assert Path("out/index.html").is_file()
    again = command("compare", str(folder / "b"), str(folder / "a"), "-o", "out", "--quiet")
    assert (again.code, again.out, again.err) == (0, "", "")
    names = [
        one["name"] for one in json.loads(Path("out/results/comparison.json").read_text())["runs"]
    ]
    assert names == ["b", "a"]


def test_patterns_are_sorted_by_the_numbers_in_them(own: Path, command: Command) -> None:
    for number in (1, 2, 10):
        shutil.copytree(own / "a", own / f"epoch-{number}")
    assert command("compare", str(own / "epoch-*"), "-o", "out").code == 0
    assert names_of(Path("out")) == ["epoch-1", "epoch-2", "epoch-10"]


def test_runs_in_folders_of_one_name_are_told_apart_by_what_is_above(own: Path) -> None:
    for name in ("first", "second"):
        shutil.copytree(own / "a", own / name / "report")
    camreport.compare([own / "first/report", own / "second/report"], own / "out")
    assert names_of(own / "out") == ["first/report", "second/report"]


def test_torch_stays_out(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys, camreport; camreport.compare(sys.argv[1:3], sys.argv[3]); "
        "assert 'torch' not in sys.modules"
    )
    words = [str(folder / "a"), str(folder / "b"), str(tmp_path / "out")]
    subprocess.run([sys.executable, "-c", code, *words], check=True)


def test_layers_and_classes_are_paired_as_asked(folder: Path, command: Command) -> None:
    runs = str(folder / "a"), str(folder / "c")
    pair = "features.0=features.2"
    given = "--label-map", "across=x,upright=1-2", "--pair", pair, "-o", "out"
    assert command("compare", *runs, *given).code == 0
    entry = described(Path("out"))
    assert entry["pairs"] == {"features.0": "features.2"}
    assert entry["label_map"] == {"across": ["x"], "upright": ["1-2"]}
    page = Path("out/index.html").read_bytes()
    assert command("render", "out").code == 0
    assert Path("out/index.html").read_bytes() == page


# What is refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a"], "two or more folders of finished runs, got 'a'"),
        (["a*z"], "two or more folders of finished runs, got none"),
        (["a", "nowhere"], "expected a folder made by 'camreport run', got 'nowhere'"),
        (["a", "photos"], "expected a folder made by 'camreport run', got 'photos'"),
        (["a", "ab"], "run 'ab': results: expected a run, got"),
        (["a", "c"], "--label-map says which classes mean the same"),
        (["a", "d"], "'a', 'd' have none in common"),
        (["a", "b", "-o", "a"], "outside of the runs"),
        (["a", "b", "-o", "b/inside/deep"], "outside of the runs"),
        (["a", "b", "-o", "c"], "got 'c' with a run's results"),
        (["a", "b", "-o", "photos"], "pass --overwrite"),
        (["a", "b", "--pair", "features.2"], "two layers, such as"),
        (["a", "b", "--pair", "features.1=features.2"], "Did you mean 'features.2'"),
        (["a", "b", "--label-map", "across=up"], "2 words or more"),
        (["a", "b", "--label-map", "none.csv"], "label-map: expected a text file"),
        (["a", "c", "--label-map", "across=x,upright=q"], "got 'q'"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_sentence(
    folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(folder)
    before = files_of(folder)
    given = words if "-o" in words else [*words, "-o", "new"]
    done = command("compare", *given)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert len(done.err.strip().splitlines()) == 1
    assert said in done.err
    assert files_of(folder) == before


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("manifest.json", None, "run 'b': results: .*is incomplete"),
        ("manifest.json", b'{"schema": 2}', "run 'b': results: expected schema 3, got 2"),
        ("shard-000000.npz", b"x", "results: "),
    ],
)
def test_an_unfinished_older_or_damaged_run_is_named(
    own: Path, name: str, content: bytes | None, said: str
) -> None:
    path = own / "b/results" / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ResultsError, match=said):
        camreport.compare([own / "a", own / "b"], own / "new")
    assert not (own / "new").exists()


def test_a_run_refuses_the_folder_of_a_comparison(own: Path) -> None:
    before = files_of(own / "ab")
    with pytest.raises(camreport.CamReportError, match="with a comparison"):
        run(own / "photos", own / "ab", class_names=NAMES, overwrite=True)
    assert files_of(own / "ab") == before
    with pytest.raises(ResultsError, match="which is a comparison of runs"):
        load_results(own / "ab")


# What is made of it again


def test_a_comparison_is_rendered_again_where_all_of_it_has_moved(
    own: Path, command: Command
) -> None:
    page = (own / "ab/index.html").read_bytes()
    moved = own.rename(own.with_name("moved"))
    (moved / "ab/index.html").unlink()
    assert command("render", str(moved / "ab")).code == 0
    assert (moved / "ab/index.html").read_bytes() == page
    shutil.rmtree(moved / "b")
    done = command("render", str(moved / "ab"))
    assert done.code == 2
    assert "run 'b': " in done.err
    assert (moved / "ab/index.html").read_bytes() == page


def test_other_results_in_the_place_of_a_run_are_not_read(own: Path, command: Command) -> None:
    page = (own / "ab/index.html").read_bytes()
    shutil.rmtree(own / "b")
    shutil.copytree(own / "a", own / "b")
    done = command("render", str(own / "ab"))
    assert done.code == 2
    assert "run 'b': results: " in done.err
    assert "is not what was compared" in done.err
    assert (own / "ab/index.html").read_bytes() == page


def test_a_folder_of_data_holds_the_maps_of_all_runs(own: Path, command: Command) -> None:
    assert command("render", str(own / "ab"), "--folder").code == 0
    text = (own / "ab/data/images-0000.js").read_text(encoding="utf-8")
    images = json.loads(text.partition(", ")[2].rstrip().removesuffix(");"))
    assert len(images) == 6
    assert {len(image["others"]) for image in images} == {1}
    assert all(image["photo"] and "photo" not in image["others"][0] for image in images)


def test_tables_and_archive_are_exported(own: Path, command: Command) -> None:
    assert command("export", str(own / "ab"), "--csv", "--zip").code == 0
    tables = {}
    for name in ("flips", "deltas", "moves"):
        with (own / f"ab/{name}.csv").open(encoding="utf-8-sig", newline="") as file:
            tables[name] = [*csv.DictReader(file)]
    tops = [
        {one.file: one.top[0].index for one in load_results(own / run_of).images}
        for run_of in ("a", "b")
    ]
    changed = {file for file, top in tops[0].items() if tops[1][file] != top}
    assert changed
    assert {row["image"] for row in tables["flips"]} == changed
    assert tables["deltas"][0]["number"] == "accuracy"
    assert {row["told_apart"] for row in tables["deltas"]} == {""}
    assert {row["own_layer"] for row in tables["moves"]} == {"features.0", "features.2", "fused"}
    names = zipfile.ZipFile(own / "ab.zip").namelist()
    assert names == ["ab/index.html", *(f"ab/{name}.csv" for name in tables)]


@pytest.mark.parametrize("form", ["--figures", "--tex"])
def test_other_forms_are_of_one_run(folder: Path, command: Command, form: str) -> None:
    done = command("export", str(folder / "ab"), form)
    assert done.code == 2
    assert "Name one of those runs" in done.err
