"""Reports in other forms: figures, the table, the archive, the printed document."""

import csv
import os
import shutil
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.browser import missing
from helpers.checkout import INPUTS
from helpers.command import Command
from helpers.small_results import tiny
from numpy.typing import NDArray
from PIL import Image, ImageFont
from pypdf import PdfReader
from torch.nn.functional import interpolate

import camreport
from camreport.errors import InputError, ResultsError
from camreport.images.preprocessing import Preprocessing
from camreport.images.search import find_images
from camreport.models import LoadedModel
from camreport.report import export
from camreport.report.export import lettering
from camreport.report.export.pdf import BROWSERS
from camreport.report.gallery import printable, render_gallery
from camreport.results.reader import Results


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photographs whose names are hostile, alike, or alike but for capitals."""
    folder = tmp_path / "photos"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    for name in ("cat.png", "Cat.png", "sub/cat.png", "猫.png", "狗.png", "a b; c&d.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture
def report(photos: Path, tmp_path: Path) -> Path:
    """A report on them, three methods."""
    out = tmp_path / "out"
    methods = ["grad_cam", "eigen_cam", "hires_cam"]
    camreport.run(photos, out, model=tiny(), layers=["0", "0:pre"], methods=methods)
    return out


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def pixels_of(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path))


def test_figures_have_short_names_of_their_own_in_ascii(report: Path) -> None:
    files = export.export_figures(report)
    names = [path.name for path in files]
    drawn = {path.name for path in (report / "figures").iterdir()} - {".camreport"}
    assert sorted(names) == sorted(drawn)
    assert len({name.lower() for name in names}) == len(names)
    assert all(name.isascii() and len(name) < 120 and " " not in name for name in names)
    of_image = 2 * 2 * 2 + 2 + 1  # classes × layers × methods, Eigen-CAM, a sheet
    of_model = {"model_layers.csv", "model_layers.png", "model_structure.txt"}
    assert len(files) == 6 * of_image + len(of_model)
    assert of_model < drawn
    assert {"Cat_class0-cat_grad_cam_0.png", "Cat_any-class_eigen_cam_0-pre.png"} <= set(names)
    assert {"cat-2_class0-cat_grad_cam_0.png", "image5_sheet.png", "image6_sheet.png"} <= set(names)
    assert {"sub-cat_class1-dog_hires_cam_0.png", "sub-cat_sheet.png"} <= set(names)


def test_figures_are_the_overlays_of_the_raw_maps(demo: Path, tmp_path: Path) -> None:
    results = camreport.load_results(demo)
    arrays = results.arrays(0)
    photo = np.asarray(Image.open(BytesIO(results.photo(0))))
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copytree(demo / "results", copy / "results")
    export.export_figures(copy, images="1")
    for method, signed in (("layer_cam", False), ("hires_cam", True)):
        expected = camreport.overlay(photo, arrays[f"{method}/features.9"][1], signed=signed)
        drawn = pixels_of(copy / "figures" / f"both_class1-dog_{method}_features.9.png")
        np.testing.assert_array_equal(drawn, expected)
    sheet = pixels_of(copy / "figures" / "both_sheet.png")
    assert (sheet == 255).all(2).mean() > 0.1, "white between the pictures"
    assert sheet.shape[1] > 7 * 160, "the photograph, and two classes of three methods"


def test_what_the_model_did_not_see_is_dark_in_figures(photos: Path, tmp_path: Path) -> None:
    model = tiny()
    cut = Preprocessing(size=(32, 32), resize="short-side", short_side=32)
    model = LoadedModel(model.module, cut, ("cat", "dog"), "tiny", "a test", "0" * 64)
    out = tmp_path / "cut"
    camreport.run(photos / "猫.png", out, model=model, layers=["0"], figures=True)
    (drawn,) = (out / "figures").glob("*class1*_grad_cam_*.png")
    pixels = pixels_of(drawn)
    assert pixels[:, :9].max() <= 255 // 3
    assert pixels[:, 11:-11].max() > 100


def test_maps_without_positive_evidence_are_labelled(report: Path) -> None:
    export.export_figures(report)
    rows = rows_of(export.export_table(report))
    states = {(row["class"], row["method"]): row["state"] for row in rows if row["layer"] == "0"}
    assert states["cat", "grad_cam"] == "empty"
    assert states["dog", "grad_cam"] == "positive"
    empty = pixels_of(report / "figures" / "Cat_class0-cat_grad_cam_0.png")
    label = empty[-24:, :60]
    assert (label == 255).all(2).any(), "white behind the label"
    assert (label == 0).all(2).any(), "and its letters"


def test_table_has_the_numbers_of_every_map(demo: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copytree(demo / "results", copy / "results")
    rows = rows_of(export.export_table(copy))
    results = camreport.load_results(demo)
    assert [row["image"] for row in rows[:1]] == ["both.jpg"]
    assert len(rows) == 3 * 2 * (3 * 5 + 1)
    for image in results.images:
        arrays = results.arrays(image.index)
        probabilities = torch.from_numpy(arrays["logits"]).softmax(0)
        own = [row for row in rows if row["image"] == image.file]
        for row in own:
            rank = int(row["class_index"])
            cam = torch.from_numpy(arrays[f"{row['method']}/{row['layer']}"][rank]).double()
            size = cam.abs() if row["method"] == "hires_cam" else cam.clamp(min=0)
            assert float(row["raw_maximum"]) == pytest.approx(float(size.max()), rel=1e-6)
            assert float(row["probability"]) == pytest.approx(float(probabilities[rank]), abs=1e-5)
            assert row["class"] == ("cat", "dog")[rank]
            signed = cam if row["method"] == "hires_cam" else size
            large = interpolate(signed[None, None], (224, 224), mode="bilinear")[0, 0].abs()
            share = float((large >= size.max() / 2).double().mean())
            assert float(row["area_above_half"]) == pytest.approx(share, abs=0.01)


def test_table_says_nothing_of_a_class_where_there_is_none(report: Path) -> None:
    rows = [r for r in rows_of(export.export_table(report)) if r["method"] == "eigen_cam"]
    assert len(rows) == 6 * 2
    assert {(r["class_index"], r["class"], r["probability"]) for r in rows} == {("", "", "")}


def test_table_names_the_true_class_where_it_is_known(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "labelled"
    labels = {"猫.png": "dog"}
    camreport.run(photos, out, model=tiny(), layers=["0"], methods="grad_cam", labels=labels)
    truth = {(row["image"], row["true_class"]) for row in rows_of(export.export_table(out))}
    assert {("猫.png", "dog"), ("狗.png", "")} < truth
    assert len(truth) == 6


def test_sheet_is_titled_in_letters_that_a_font_here_has(photos: Path, tmp_path: Path) -> None:
    """Names in other scripts are written if a font of this machine has their letters."""

    def titles(names: tuple[str, str], fonts: tuple[str, ...] = ()) -> NDArray[np.uint8]:
        out = tmp_path / "-".join(names)
        model = tiny(names)
        image = photos / "cat.png"
        camreport.run(image, out, model=model, layers=["0"], methods="grad_cam", overwrite=True)
        export.export_figures(out, fonts=fonts)
        return pixels_of(out / "figures" / "cat_sheet.png")[64:120]

    written = titles(("猫", "狗"), lettering.FONTS)
    numbered, unwritten = titles(("class 0", "class 1")), titles(("猫", "狗"))
    np.testing.assert_array_equal(unwritten, numbered)
    try:
        ImageFont.truetype("NotoSansCJK-Regular.ttc", 13)
    except OSError:
        missing("a font with Chinese letters")
    assert (written != numbered).any()


def test_archive_packs_what_exists(report: Path) -> None:
    path = export.export_archive(report)
    assert path == report.parent / "out.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["out/index.html"], "nothing is drawn for it"
        assert archive.read("out/index.html") == (report / "index.html").read_bytes()
    assert not (report / "figures").exists()
    export.export_table(report)
    export.export_figures(report)
    told: list[int] = []
    with zipfile.ZipFile(export.export_archive(report, told.append)) as archive:
        names = set(archive.namelist())
    figures = {f"out/figures/{path.name}" for path in (report / "figures").iterdir()}
    assert len(figures) == 6 * 11 + 3 + 1
    assert "out/figures/.camreport" in figures  # unpacked, they are no inputs of a later run
    assert names == figures | {"out/index.html", "out/maps.csv"}
    assert sum(told) == len(names) == export.count_packed(report)


def test_archive_reads_the_manifest_once(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (report / export.DOCUMENT).write_bytes(b"%PDF")
    read = list[Path]()

    def counted(out: Path) -> Results:
        read.append(out)
        return camreport.load_results(out)

    monkeypatch.setattr("camreport.results.comparison.load_results", counted)
    export.export_archive(report)
    assert read == [report]


def test_exports_say_how_far_they_are(report: Path) -> None:
    for form in (export.export_figures, export.export_table):
        told: list[int] = []
        form(report, told.append)
        assert told == [1] * 6
    assert export.count_figures(report) == len(list((report / "figures").iterdir())) - 1


RUN_BY_SPREADSHEETS = ["=1+1", "+1", "-1+1", "@SUM(A1)", "a;=1+1;"]


def test_table_has_no_cell_that_a_spreadsheet_runs(photos: Path, tmp_path: Path) -> None:
    out, folder = tmp_path / "cells", tmp_path / "hostile"
    folder.mkdir()
    for name in RUN_BY_SPREADSHEETS:
        (folder / f"{name}.png").write_bytes((photos / "cat.png").read_bytes())
    labels = {f"{name}.png": 1 for name in RUN_BY_SPREADSHEETS}
    model = tiny(("\r=cat()", "\t-dog"))
    camreport.run(folder, out, model=model, layers=["0"], methods="grad_cam", labels=labels)
    rows = rows_of(export.export_table(out))
    assert {row["image"] for row in rows} == {f"'{name}.png" for name in RUN_BY_SPREADSHEETS}
    assert {row["class"] for row in rows} == {"'\r=cat()", "'\t-dog"}
    assert {row["true_class"] for row in rows} == {"'\t-dog"}
    assert any(float(row["logit"]) < 0 for row in rows), "numbers stay numbers"


def test_archive_leaves_out_a_document_of_an_earlier_report(
    command: Command, report: Path, photos: Path
) -> None:
    export.export_figures(report)
    export.export_table(report)
    document = report / export.DOCUMENT
    document.write_bytes(b"%PDF")
    assert command("export", str(report), "--zip").err == ""
    with zipfile.ZipFile(report.with_name("out.zip")) as archive:
        assert "out/report.pdf" in archive.namelist()
    camreport.run(photos / "猫.png", report, model=tiny(), layers=["0"], methods="grad_cam")
    assert not (report / "figures").exists()
    assert not (report / "maps.csv").exists()
    assert document.read_bytes() == b"%PDF", "may be the reader's own"
    os.utime(document, (0, 0))
    finished = command("export", str(report), "--zip")
    assert finished.code == 0
    assert "report.pdf is older than the report and stays outside" in finished.err
    with zipfile.ZipFile(report.with_name("out.zip")) as archive:
        assert "out/report.pdf" not in archive.namelist()


def test_a_run_leaves_a_table_that_is_not_ours(report: Path, photos: Path) -> None:
    (report / "maps.csv").write_bytes(b"\xff\xfe mine")
    camreport.run(photos / "猫.png", report, model=tiny(), layers=["0"], methods="grad_cam")
    assert (report / "maps.csv").read_bytes() == b"\xff\xfe mine"


def test_figures_are_made_anew_but_never_over_anothers_files(report: Path) -> None:
    folder = report / "figures"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(ResultsError, match=r"it holds something else. Move that away"):
        export.export_figures(report)
    (folder / "mine.txt").unlink()
    export.export_figures(report)
    (folder / "old.png").write_bytes(b"")
    export.export_figures(report)
    assert not (folder / "old.png").exists()


def test_document_shows_every_image_and_both_classes(demo: Path, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no browser to print with")
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copytree(demo / "results", copy / "results")
    (copy / "index.html").write_bytes((demo / "index.html").read_bytes())
    with printable(copy) as page:
        pages = PdfReader(export.export_document(copy, page)).pages
    text = " ".join(page.extract_text() for page in pages)
    for words in ("both.jpg", "cat.jpg", "dog.jpg", "Figure 3", "About this run"):
        assert words in text
    assert len(pages) >= 5


def test_document_says_what_is_missing(report: Path) -> None:
    page = report / "index.html"
    with pytest.raises(ResultsError, match=r"an installed Chromium, Chrome or Edge .* found none"):
        export.export_document(report, page, browsers=())
    with pytest.raises(ResultsError, match="false did not print"):
        export.export_document(report, page, browsers=["false"])
    page.unlink()
    with pytest.raises(ResultsError, match=r"expected index.html in out, .* camreport render out"):
        export.export_document(report, page)


def test_command_exports_what_is_asked_for(command: Command) -> None:
    made = ("run", str(INPUTS / "cat.jpg"), "-o", "out", "--layers", "12", "--figures", "--quiet")
    assert command(*made).code == 0
    assert len(list(Path("out/figures").glob("cat*.png"))) == 5
    finished = command("export", "out", "--csv", "--zip")
    assert (finished.code, finished.err) == (0, "")
    assert "table: file://" in finished.out
    assert "archive: file://" in finished.out
    assert Path("out.zip").is_file()
    nothing = command("export", "out")
    assert nothing.code == 2
    assert "choose a form" in nothing.err
    nowhere = command("export", "elsewhere", "--csv")
    assert nowhere.code == 2
    assert "Traceback" not in nowhere.err


def test_command_writes_thousands_of_figures_only_when_told_to(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("camreport.cli.commands.MANY_FIGURES", 4)
    made = ("run", str(INPUTS / "cat.jpg"), "-o", "out", "--layers", "12", "--figures", "--quiet")
    finished = command(*made)
    assert finished.code == 0, "the run is whole"
    assert "8 figures were not written. Write them with: camreport export out" in finished.err
    refused = command("export", "out", "--figures")
    assert refused.code == 2
    assert "--figures would write 8 files. Add --images 20, or" in refused.err
    assert not Path("out/figures").exists()
    finished = command("export", "out/results", "--figures", "--yes")
    assert (finished.code, finished.err) == (0, "")
    assert len(list(Path("out/figures").glob("cat*.png"))) == 5


def test_export_does_not_import_torch(report: Path) -> None:
    code = (
        "import sys; from camreport.cli.commands import cli; "
        f"cli.main(['export', {str(report)!r}, '--csv', '--figures'], standalone_mode=False); "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_report_named_by_its_results_leaves_a_users_data_alone(
    report: Path, tmp_path: Path
) -> None:
    out = tmp_path / "own"
    shutil.copytree(report, out)
    (out / "data").mkdir()
    (out / "data" / "mine.txt").write_text("mine")
    with pytest.raises(ResultsError, match="data/ to be new"):
        render_gallery(out / "results", layout="folder")
    assert (out / "data" / "mine.txt").read_text() == "mine"


def test_pictures_of_an_unpacked_archive_are_no_inputs(report: Path, tmp_path: Path) -> None:
    render_gallery(report, layout="folder")
    export.export_figures(report)
    with zipfile.ZipFile(export.export_archive(report)) as archive:
        assert [name for name in archive.namelist() if name.startswith("out/data/thumbs/")]
        archive.extractall(tmp_path / "unpacked")
    with pytest.raises(InputError, match="pictures made by camreport"):
        find_images([tmp_path / "unpacked"])


def test_document_is_printed_from_the_results_whatever_the_page_holds(
    report: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET-LINE")
    page = f'<iframe src="{secret.as_uri()}" width="600" height="200"></iframe>'
    (report / "index.html").write_text(page)
    with printable(report) as own:
        text = "".join(
            p.extract_text() for p in PdfReader(export.export_document(report, own)).pages
        )
    assert "SECRET" not in text
    assert "cat" in text
