"""``export --parquet`` and ``--fiftyone``: the run in formats of other programs."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from helpers.checkout import ROOT
from helpers.runs import run_by_two, tiny, write_images
from PIL import Image
from sklearn.neighbors import NearestNeighbors
from torch import nn

from camreport.errors import OutputError, ResultsError
from camreport.insight.atlas import atlas_of
from camreport.report.export import (
    export_fiftyone,
    export_parquet,
    export_tables,
    remove_exports,
)
from camreport.report.export.rows import nearest
from camreport.results.reader import Results, load_results

COUNT = 15


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on fifteen photographs, one unreadable, with labels and a column of groups."""
    folder = tmp_path_factory.mktemp("export")
    write_images(folder / "photos", COUNT)
    (folder / "photos" / "05.png").write_bytes(b"x")
    rows = [f"{index:02}.png,{index % 2},{'AB'[index % 3 == 0]}" for index in range(COUNT - 1)]
    (folder / "labels.csv").write_text("\n".join(["file,label,scanner", *rows]))
    given = {
        "labels": folder / "labels.csv",
        "groups": ["scanner"],
        "methods": "grad_cam,hires_cam",
        "resize": "short-side",
        "image_size": 40,
    }
    model = tiny()
    model.module.head = nn.Sequential(nn.AdaptiveAvgPool2d((4, 5)), *model.module.head)
    run_by_two(folder / "photos", folder / "out", model, **given)
    return folder / "out"


@pytest.fixture(scope="module")
def results(out: Path) -> Results:
    return load_results(out)


# Parquet


def test_rows_are_the_images_with_every_number(out: Path, results: Results) -> None:
    table = pandas.read_parquet(export_parquet(out))
    assert table["image"].tolist() == [one.file for one in results.readable]
    assert len(table) == COUNT - 1
    names = results.manifest.class_names
    assert table["predicted_class"].tolist() == [one.top[0].name for one in results.readable]
    assert table["probability"].tolist() == [one.top[0].probability for one in results.readable]
    labels = [None if one.label is None else names[one.label] for one in results.readable]
    assert (
        table["true_class"].astype(object).where(table["true_class"].notna(), None).tolist()
        == labels
    )
    assert table["group_scanner"].tolist()[:4] == ["B", "A", "A", "B"]
    export_tables(out)
    with (out / "images.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    numbers = [*rows[0]][5:]
    assert "margin" in numbers
    for name in numbers:
        expected = [float(row[name]) if row[name] else np.nan for row in rows]
        np.testing.assert_array_equal(table[name].to_numpy(float), expected)


def test_places_and_clusters_are_those_of_the_atlas(out: Path, results: Results) -> None:
    table, atlas = pandas.read_parquet(export_parquet(out)), atlas_of(results)
    assert atlas is not None
    points = atlas.points
    index = [one.index for one in results.readable]
    xy = points.pca if points.tsne is None else points.tsne
    for place, image in enumerate(index):
        at = np.flatnonzero(points.images == image)
        expected = xy[at[0]] if len(at) else np.full(2, np.nan)
        np.testing.assert_array_equal(table.loc[place, ["x", "y"]].to_numpy(float), expected)
    assert table["cluster"].isna().all(), "under 30 images there are none"


def test_neighbours_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(2500, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows, distances = nearest(vectors, 5)
    expected, own = NearestNeighbors(n_neighbors=5, metric="cosine").fit(vectors).kneighbors()
    np.testing.assert_allclose(distances, expected, atol=1e-5)
    assert (rows == own).mean() > 0.999, "but for ties"


def test_neighbours_lead_to_rows_and_never_to_the_image_itself(out: Path, results: Results) -> None:
    table = pandas.read_parquet(export_parquet(out))
    vectors = np.stack(
        [results.contributions(one.index)[one.top[0].index] for one in results.readable]
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    known = table["neighbors"].notna()
    assert known.any()
    for place, own in table["neighbors"][known].items():
        ids = own["ids"].tolist()
        assert len(ids) == min(10, known.sum() - 1) == len({*ids})
        assert place not in ids
        apart = 1 - vectors[ids] @ vectors[place]
        np.testing.assert_allclose(own["distances"], apart, atol=1e-5)
        assert (np.diff(own["distances"]) >= 0).all()


def test_few_vectors_have_few_neighbours() -> None:
    rows, distances = nearest(np.eye(3, dtype=np.float32), 10)
    assert rows.shape == distances.shape == (3, 2)
    assert nearest(np.ones((1, 2), np.float32), 10)[0].shape == (1, 0)


def test_without_pyarrow_its_install_command_is_said(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(OutputError, match=r"pip install 'camreport\[parquet\]'"):
        export_parquet(out)


# FiftyOne


def dataset(out: Path) -> tuple[Path, dict[str, Any], list[dict[str, Any]]]:
    """Export, and return the folder, the dataset's record and the samples."""
    folder = export_fiftyone(out)
    metadata = json.loads((folder / "metadata.json").read_text("utf-8"))
    return folder, metadata, json.loads((folder / "samples.json").read_text("utf-8"))["samples"]


def test_samples_are_the_images(out: Path, results: Results) -> None:
    folder, _, samples = dataset(out)
    assert [one["file"] for one in samples] == [one.file for one in results.readable]
    for sample, image in zip(samples, results.readable, strict=True):
        assert re.fullmatch("[0-9a-f]{24}", sample["_id"]["$oid"])
        assert (folder / sample["filepath"]).read_bytes() == results.photo(image.index)
        assert sample["predictions"]["label"] == image.top[0].name
        assert sample["predictions"]["confidence"] == image.top[0].probability
        truth = sample["ground_truth"]
        assert (truth and truth["label"]) == (
            None if image.label is None else results.manifest.class_names[image.label]
        )
    assert samples[0]["group_scanner"] == "B"
    ids = re.findall(r'"\$oid": "(\w+)"', json.dumps(samples))
    assert len(ids) == len({*ids})


def test_every_field_of_a_sample_is_declared_with_its_type(out: Path) -> None:
    _, metadata, samples = dataset(out)
    assert metadata["version"] == "1.0.0"
    kinds = {
        own["db_field"]: (own["ftype"].rpartition(".")[2], own["embedded_doc_type"])
        for own in metadata["sample_fields"]
    }
    private = {"_media_type", "_rand"}
    python = {"StringField": str, "FloatField": float, "ListField": list, "ObjectIdField": dict}
    for sample in samples:
        assert sample.keys() - private <= kinds.keys()
        for name in sample.keys() - private:
            kind, document = kinds[name]
            if sample[name] is None:
                continue
            if kind == "EmbeddedDocumentField":
                assert document == f"fiftyone.core.labels.{sample[name]['_cls']}"
            else:
                assert isinstance(sample[name], python[kind]), name
        assert all(re.fullmatch("[a-z_][a-z0-9_]*", name) for name in sample)


def test_heat_maps_lie_where_fiftyone_looks_for_them(out: Path, results: Results) -> None:
    """Its importer completes the path of a field that has a folder in ``fields/``."""
    folder, _, samples = dataset(out)
    names = {path.name for path in (folder / "fields").iterdir()}
    assert names == {
        f"{method}_features_{layer}" for method in ("grad_cam", "hires_cam") for layer in (0, 2)
    }
    for sample, image in zip(samples, results.readable, strict=True):
        for name in names:
            heat = sample[name]
            assert heat["_cls"] == "Heatmap"
            assert heat["range"] == [0, 255]
            with Image.open(folder / heat["map_path"]) as picture:
                assert picture.mode == "L"
                assert picture.size == results.photograph(image.index).size


def test_heat_maps_are_the_predicted_classes_over_what_the_model_saw(
    out: Path, results: Results
) -> None:
    folder, _, samples = dataset(out)
    for sample, image in zip(samples, results.readable, strict=True):
        levels = np.asarray(Image.open(folder / sample["grad_cam_features_2"]["map_path"]))
        slot = results.targets(image.index).index(image.top[0].index)
        cam = results.arrays(image.index)["grad_cam/features.2"][slot]
        if cam.max() <= 0:
            assert not levels.any()
            continue
        left, top, right, bottom = results.manifest.preprocessing.seen_part(*image.size)
        height, width = levels.shape
        rows = slice(round(top * height), round(bottom * height))
        columns = slice(round(left * width), round(right * width))
        outside = levels.copy()
        outside[rows, columns] = 0
        assert not outside.any()
        seen = levels[rows, columns].astype(float)
        coarse = np.asarray(
            Image.fromarray(seen.astype(np.float32)).resize((5, 5), Image.Resampling.BOX)
        )
        expected = np.maximum(cam, 0) / cam.max() * 255
        assert np.corrcoef(coarse.ravel(), expected.ravel())[0, 1] > 0.9


def test_signed_maps_have_their_zero_in_the_middle(out: Path) -> None:
    folder, metadata, samples = dataset(out)
    levels = np.asarray(Image.open(folder / samples[0]["hires_cam_features_2"]["map_path"]))
    assert levels.min() < 127 < levels.max()
    (field,) = (one for one in metadata["sample_fields"] if one["name"] == "hires_cam_features_2")
    assert field["description"] == "HiResCAM at features.2, of the predicted class"


def test_the_same_run_gives_the_same_dataset(out: Path) -> None:
    def files() -> dict[str, bytes]:
        folder = export_fiftyone(out)
        return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    assert files() == files()


def test_a_folder_of_something_else_is_refused(photos: Path, tmp_path: Path) -> None:
    run_by_two(photos, tmp_path / "out")
    (tmp_path / "out" / "fiftyone").mkdir()
    (tmp_path / "out" / "fiftyone" / "mine.txt").write_text("mine")
    with pytest.raises(ResultsError, match="expected fiftyone/ to be new, empty or ours"):
        export_fiftyone(tmp_path / "out")


@pytest.mark.skipif("FIFTYONE_PYTHON" not in os.environ, reason="FiftyOne is not a dependency")
def test_fiftyone_imports_the_dataset(out: Path) -> None:
    """FIFTYONE_PYTHON: a Python with fiftyone, for instance of an environment of its own."""
    folder = export_fiftyone(out)
    code = (
        "import fiftyone as fo, sys\n"
        "d = fo.Dataset.from_dir(sys.argv[1], dataset_type=fo.types.FiftyOneDataset)\n"
        "s = d.first()\n"
        "print(len(d), s.predictions.label, s.grad_cam_features_2.get_map().shape)\n"
        "print(d.bounds('margin'))"
    )
    done = subprocess.run(
        [os.environ["FIFTYONE_PYTHON"], "-c", code, str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{COUNT - 1} class ")


# Both


def test_exports_of_earlier_results_go(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_by_two(photos, out)
    table, folder = export_parquet(out), export_fiftyone(out)
    (out / "mine.parquet").write_bytes(b"mine")
    remove_exports(out)
    assert not table.exists()
    assert not folder.exists()
    assert (out / "mine.parquet").exists()
    table.write_bytes(b"PAR1 of somebody else PAR1")
    remove_exports(out)
    assert table.exists()


def test_runs_without_contributions_or_maps_to_compare_have_rows(tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 1)
    run_by_two(tmp_path / "photos", tmp_path / "out", tiny(), contributions="off")
    table = pandas.read_parquet(export_parquet(tmp_path / "out"))
    assert len(table) == 1
    assert table[["x", "neighbors", "cluster_what"]].isna().all(axis=None)
    _, _, (sample,) = dataset(tmp_path / "out")
    assert sample["x"] is None


def test_the_command_writes_both(out: Path) -> None:
    words = [sys.executable, "-m", "camreport", "export", str(out), "--parquet", "--fiftyone"]
    done = subprocess.run(
        words, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    assert "images.parquet" in done.stdout
    assert "fiftyone" in done.stdout


def test_a_run_loads_no_pyarrow() -> None:
    code = "import camreport.report.export, sys; print({'pyarrow', 'pandas'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.strip() == "set()"
