"""Reading results: many images by their sidecars, maps and photographs as typed records."""

import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import synthetic
from PIL import Image

from camreport.errors import ResultsError
from camreport.report.export import export_table
from camreport.report.gallery import render_gallery
from camreport.results.reader import load_results
from camreport.results.schema import Manifest


def without_images(out: Path) -> Path:
    """Take the images out of a manifest, as a run with very many inputs writes it."""
    path = out / "results" / "manifest.json"
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(content | {"images": []}), "utf-8")
    return out


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Results of 130 images in three shards."""
    return synthetic.write_results(tmp_path / "out", 130, grids={"a": 3, "b": 2}, photo_side=32)


def test_images_of_the_sidecars_are_those_of_the_manifest(out: Path) -> None:
    inline = load_results(out)
    lazy = load_results(without_images(out))
    assert not lazy.manifest.images
    assert len(lazy.images) == 130
    assert [*lazy.images] == [*inline.images]
    assert [*lazy.readable] == [*inline.readable]
    assert lazy.images[-1] == inline.images[129]
    assert [*lazy.images[60:70:3]] == [*inline.images[60:70:3]]
    with pytest.raises(IndexError):
        lazy.images[130]


def test_a_report_and_a_table_are_the_same_from_either(out: Path) -> None:
    render_gallery(out)
    page, table = (out / "index.html").read_bytes(), export_table(out).read_bytes()
    without_images(out)
    render_gallery(out)
    assert (out / "index.html").read_bytes() == page
    assert export_table(out).read_bytes() == table


def change_sidecar(out: Path, change: Callable[[Any], object]) -> None:
    path = out / "results" / "shard-000001.json"
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda content: content.pop("images"), "an object with 'images' in shard-000001.json"),
        (lambda content: content["images"].pop(), "64 entries as images|63 entries as facts"),
        (lambda content: content["images"][2].update(row=-1), r"as images\[2\]\.row in shard-"),
        (lambda content: content["images"][0].update(label=2), r"class indices up to 1 as images"),
        (lambda content: content["images"].reverse(), r"as images\[\d+\]\.index in shard-000001"),
    ],
)
def test_a_damaged_sidecar_is_named(
    out: Path, change: Callable[[Any], object], sentence: str
) -> None:
    change_sidecar(without_images(out), change)
    images = load_results(out).images
    assert images[63].index == 63
    with pytest.raises(ResultsError, match=f"^results: expected .*({sentence})"):
        images[64]


def test_the_sidecar_of_another_shard_is_refused(out: Path) -> None:
    folder = without_images(out) / "results"
    (folder / "shard-000001.json").write_bytes((folder / "shard-000000.json").read_bytes())
    with pytest.raises(ResultsError, match=r"expected 64 as images\[0\]\.index in shard-000001"):
        load_results(out).images[64]
    (folder / "shard-000001.json").unlink()
    with pytest.raises(ResultsError, match=r"an object with 'run' in shard-000001\.json"):
        load_results(out).images[64]


def test_a_manifest_that_promises_images_without_end_ends_in_one_sentence(out: Path) -> None:
    path = without_images(out) / "results" / "manifest.json"
    content = json.loads(path.read_text("utf-8"))
    content["totals"]["images"] = 2**62
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(ResultsError, match=r"shard-000002\.json"):
        render_gallery(out)


def test_maps_are_the_arrays_of_a_shard_in_order(out: Path) -> None:
    results = load_results(out)
    for index in (0, 64, 129):
        with np.load(out / "results" / f"shard-{index // 64:06d}.npz") as shard:
            row = {name: shard[name][index % 64] for name in shard.files if "/" in name}
            targets = shard["targets"][index % 64].tolist()
        maps = [*results.maps(index)]
        assert len(maps) == 2 * len(row)
        for record in maps:
            expected = row[f"{record.method.key}/{record.layer}"][record.slot]
            np.testing.assert_array_equal(record.cam, expected)
            assert record.target == targets[record.slot]
        assert results.targets(index) == tuple(targets)


def test_a_photograph_is_the_jpeg_of_its_row(out: Path) -> None:
    results = load_results(out)
    for index in (0, 63, 64, 129):
        with Image.open(BytesIO(results.photo(index))) as photo:
            assert photo.format == "JPEG"
            assert photo.size == tuple(side // 3 for side in results.images[index].size)
        assert results.picture(index).size == photo.size


def test_maps_of_no_class_come_once(tmp_path: Path) -> None:
    methods = ["grad_cam", "eigen_cam"]
    out = synthetic.write_results(tmp_path / "out", 1, methods=methods, grids={"a": 3})
    found = [(m.method.key, m.slot, m.target) for m in load_results(out).maps(0)]
    assert found == [("grad_cam", 0, 0), ("grad_cam", 1, 1), ("eigen_cam", 0, None)]


def test_entries_of_a_million_images_need_no_more_memory_than_one_shard(tmp_path: Path) -> None:
    """One sidecar stands for all: only its numbers are changed as it is read."""
    folder = synthetic.write_results(tmp_path / "out", 64, grids={"a": 3}) / "results"
    sidecar = (folder / "shard-000000.json").read_text("utf-8")
    count = 1_000_000
    manifest = load_results(folder).manifest
    totals = replace(manifest.totals, images=count)
    content = Manifest.to_json(replace(manifest, images=(), totals=totals))
    (folder / "manifest.json").write_text(json.dumps(content), "utf-8")
    images = load_results(folder).images
    assert images[0].readable  # the tables of messages are read once, and stay
    tracemalloc.start()
    for shard in range(0, count // 64, 100):
        first = shard * 64
        own = json.loads(sidecar)
        for row, image in enumerate(own["images"]):
            image |= {"index": first + row, "shard": f"shard-{shard:06d}.npz"}
        (folder / f"shard-{shard:06d}.json").write_text(json.dumps(own), "utf-8")
        assert images[first + 63].index == first + 63
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(images) == count
    assert peak < 4 * 2**20
