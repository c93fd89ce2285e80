"""The folder of a report: which one a run takes, and what opening it says."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.runs import (
    files_of,
    run,
)

from camreport.errors import InputError, ResultsError
from camreport.report.gallery import render_gallery
from camreport.results.reader import load_results


@pytest.mark.parametrize("content", ["notes.txt", "results/mine.csv", "index.html", "sub/x"])
def test_run_refuses_a_folder_that_is_not_ours(photos: Path, tmp_path: Path, content: str) -> None:
    out = tmp_path / "out"
    (out / content).parent.mkdir(parents=True)
    (out / content).write_text("precious")
    with pytest.raises(InputError, match=r"got '.*out' with 1 entry.* --overwrite"):
        run(photos, out)
    assert files_of(out) == {content: b"precious"}


def test_run_refuses_a_file_as_its_output(photos: Path) -> None:
    data = (photos / "00.png").read_bytes()
    with pytest.raises(InputError, match=r"expected a folder, got the file '.*00.png'"):
        run(photos, photos / "00.png", overwrite=True)
    assert (photos / "00.png").read_bytes() == data


@pytest.mark.parametrize("left_by", ["nothing", "an empty folder", "an empty results folder"])
def test_run_takes_a_new_or_empty_folder(photos: Path, tmp_path: Path, left_by: str) -> None:
    out = tmp_path / "deep" / "out"
    if left_by != "nothing":
        (out / "results" if "results" in left_by else out).mkdir(parents=True)
    run(photos, out)
    assert (out / "index.html").exists()


def test_run_keeps_other_files_when_it_overwrites(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("notes.txt", "sub/x", "photos/1.jpg"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("precious")
    run(photos, out, overwrite=True)
    run(photos, out, classes=[1])  # ours by now
    kept = {name: data for name, data in files_of(out).items() if data == b"precious"}
    assert kept.keys() == {"notes.txt", "sub/x", "photos/1.jpg"}
    assert (out / "index.html").exists()


def test_run_keeps_other_files_in_results_when_it_overwrites(photos: Path, tmp_path: Path) -> None:
    mine = tmp_path / "out" / "results" / "mine.csv"
    mine.parent.mkdir(parents=True)
    mine.write_text("precious")
    run(photos, tmp_path / "out", overwrite=True)
    assert mine.exists()


def test_load_results_gives_every_images_arrays(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    for path in (tmp_path / "out", str(tmp_path / "out"), tmp_path / "out" / "results"):
        opened = load_results(path)
        assert [image.file for image in opened.images] == [f"{i:02}.png" for i in range(7)]
        assert opened.arrays(5)["grad_cam/features.2"].shape == (2, 4, 5)
        assert opened.photo(5).startswith(b"\xff\xd8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "expected a folder made by 'camreport run'"),
        (lambda folder: (folder / ".camreport").unlink(), "expected a folder made by"),
        (lambda folder: (folder / "manifest.json").unlink(), "incomplete"),
        (
            lambda folder: (folder / "manifest.json").write_text('{"schema": 1}'),
            "expected schema 3, got 1, of an older camreport\\. Run",
        ),
        (lambda folder: (folder / "manifest.json").write_text('{"schema": 3, "ima'), "incomplete"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "incomplete"),
    ],
)
def test_load_results_says_what_is_wrong(
    photos: Path, tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    run(photos, tmp_path / "out")
    change(tmp_path / "out" / "results")
    with pytest.raises(ResultsError, match=message):
        load_results(tmp_path / "out")


def test_load_results_has_no_arrays_of_a_failed_image(photos: Path, tmp_path: Path) -> None:
    (photos / "03.png").write_bytes(b"")
    run(photos, tmp_path / "out")
    with pytest.raises(ResultsError, match=r"03.png.*0 bytes"):
        load_results(tmp_path / "out").arrays(3)


DAMAGES = {
    "missing": None,
    "no archive": lambda data: b"nothing like it",
    "empty": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "one byte": lambda data: data[:300] + bytes([data[300] ^ 255]) + data[301:],
}


@pytest.mark.parametrize(
    "damage",
    [
        *("missing", "no archive"),
        *("empty", "truncated", "one byte"),
    ],
)
def test_load_results_names_a_damaged_shard(photos: Path, tmp_path: Path, damage: str) -> None:
    run(photos, tmp_path / "out")
    shard = tmp_path / "out" / "results" / "shard-000000.npz"
    change = DAMAGES[damage]
    if change is None:
        shard.unlink()
    else:
        shard.write_bytes(change(shard.read_bytes()))
    with pytest.raises(ResultsError, match=r"shard-000000.npz cannot be read"):
        load_results(tmp_path / "out").arrays(0)
    with pytest.raises(ResultsError, match=r"shard-000000.npz cannot be read"):
        render_gallery(tmp_path / "out")


def test_render_gallery_gives_the_same_bytes_again(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    report = tmp_path / "out" / "index.html"
    first = report.read_bytes()
    report.unlink()
    assert render_gallery(tmp_path / "out") == report
    assert report.read_bytes() == first
    shutil.move(tmp_path / "out", tmp_path / "moved")
    assert render_gallery(tmp_path / "moved" / "results").read_bytes() == first


@pytest.mark.parametrize(("name", "as_folder"), [("results", False), ("index.html", True)])
def test_run_refuses_an_output_whose_places_are_taken(
    photos: Path, tmp_path: Path, name: str, as_folder: bool
) -> None:
    taken = tmp_path / "out" / name
    taken.parent.mkdir()
    if as_folder:
        taken.mkdir()
    else:
        taken.touch()
    with pytest.raises(InputError, match=f"{name}.*Move it away"):
        run(photos, tmp_path / "out", overwrite=True)
    assert taken.exists()
