"""The tables over all images: of each image, of methods and layers, and of pairs of methods."""

import csv
import zipfile
from pathlib import Path

import pytest
from helpers.command import Command
from helpers.runs import run, write_images

from camreport.insight.aggregates import aggregate
from camreport.insight.columns import image_columns
from camreport.report import export
from camreport.report.export.table import is_our_table
from camreport.results.reader import load_results

NAMES = ["maps.csv", "images.csv", "methods.csv", "agreement.csv", "means.csv", "evidence.csv"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of seven photographs, four with a label, with all its tables."""
    folder = tmp_path_factory.mktemp("tables")
    photos = write_images(folder / "photos")
    (photos / "06.png").rename(photos / "=1+1.png")
    (photos / "05.png").write_bytes(b"x")
    run(photos, folder / "out", labels={f"0{index}.png": index % 2 for index in range(4)})
    assert [path.name for path in export.export_tables(folder / "out")] == NAMES
    return folder / "out"


def rows_of(path: Path) -> list[dict[str, str]]:
    assert path.read_bytes().startswith(b"\xef\xbb\xbf"), "Excel needs it"
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def number(text: str) -> float | None:
    return float(text) if text else None


def test_each_image_has_a_line_with_its_numbers(out: Path) -> None:
    results = load_results(out)
    columns = image_columns(results, "features.2")
    rows = rows_of(out / "images.csv")
    assert [row["image"] for row in rows] == [f"0{i}.png" for i in range(5)] + ["'=1+1.png"]
    for place, (row, image) in enumerate(zip(rows, results.readable, strict=True)):
        assert row["true_class"] == ("" if image.label is None else f"class {image.label}")
        assert row["predicted_class"] == image.top[0].name
        assert float(row["probability"]) == image.top[0].probability
        assert row["layer"] == "features.2"
        assert [number(row[name]) for name in columns] == [own[place] for own in columns.values()]


def test_each_method_has_a_line_for_each_layer(out: Path) -> None:
    found = aggregate(load_results(out))
    rows = rows_of(out / "methods.csv")
    assert [(row["method"], row["layer"]) for row in rows] == [own.key for own in found.maps]
    assert {row["layer"] for row in rows} == {"features.0", "features.2", "fused"}
    for row, own in zip(rows, found.maps, strict=True):
        assert (int(row["maps"]), int(row["predicted_maps"])) == (12, 6)
        assert int(row["maps_without_evidence"]) == own.explained.empty
        assert int(row["maps_undefined"]) == 0
        assert number(row["median_area"]) == own.explained.median
        for outcome in ("right", "wrong"):
            assert int(row[f"{outcome}_maps"]) == own.predicted[outcome].maps
            assert number(row[f"{outcome}_median_area"]) == own.predicted[outcome].median
        assert int(row["right_maps"]) + int(row["wrong_maps"]) == 4
        assert int(row["two_classes_images"]) == own.likeness.n
        assert number(row["two_classes_median_correlation"]) == own.likeness.median


def test_each_two_methods_have_a_line_for_each_layer_they_share(out: Path) -> None:
    found = aggregate(load_results(out))
    rows = rows_of(out / "agreement.csv")
    assert len(rows) == len(found.pairs) == 3 * 2
    for row, pair in zip(rows, found.pairs, strict=True):
        assert (row["method"], row["other_method"], row["layer"]) == (*pair.methods, pair.layer)
        assert (row["classes"], int(row["images"])) == ("predicted", pair.correlation.n)
        assert number(row["median_rank_correlation"]) == pair.correlation.median
        assert number(row["median_top_fifth_overlap"]) == pair.overlap.median


def test_each_mean_map_has_a_line_for_its_cells_and_one_for_their_spread(out: Path) -> None:
    results = load_results(out)
    rows = rows_of(out / "means.csv")
    found = aggregate(results).means
    assert {own.outcome for own in found} == {"all", "right", "wrong", "unlabelled"}
    assert len(rows) == 2 * len(found) > 0
    for place, own in enumerate(found):
        mean, spread = rows[2 * place : 2 * place + 2]
        assert (mean["statistic"], spread["statistic"]) == ("mean", "standard_deviation")
        for row in (mean, spread):
            assert (row["method"], row["layer"]) == own.key
            assert (
                row["predicted_class"] == f"class {row['class_index']}" == f"class {own.predicted}"
            )
            assert (row["prediction"], int(row["maps"])) == (own.outcome, own.n)
        for y, x in ((0, 0), (3, 11), (13, 13)):
            assert float(mean[f"y{y}x{x}"]) == pytest.approx(own.mean[y, x], abs=1e-6)
            assert float(spread[f"y{y}x{x}"]) == pytest.approx(own.spread[y, x], abs=1e-6)


def test_tables_are_packed_and_go_with_the_results_they_are_of(tmp_path: Path) -> None:
    photos = write_images(tmp_path / "photos", 3)
    out = tmp_path / "out"
    run(photos, out)
    export.export_tables(out)
    (out / "agreement.csv").write_text("mine")
    with zipfile.ZipFile(export.export_archive(out)) as archive:
        packed = {Path(name).name for name in archive.namelist()}
    assert packed == {"index.html", *NAMES} - {"agreement.csv"}
    run(photos, out, labels={"00.png": 1})
    assert [(out / name).exists() for name in NAMES] == [*(False, False, False, True, False, False)]
    assert not is_our_table(out / "agreement.csv")


def test_command_names_every_table(command: Command, tmp_path: Path) -> None:
    run(write_images(tmp_path / "photos", 2), tmp_path / "out")
    finished = command("export", str(tmp_path / "out"), "--csv")
    assert (finished.code, finished.err) == (0, "")
    lines = finished.out.splitlines()
    assert [line.rpartition("/")[2] for line in lines] == NAMES
    assert all(line.startswith("table: file://") for line in lines)
