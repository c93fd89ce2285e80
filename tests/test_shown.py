"""Reports of very many images show a sample, or the images asked for; totals are of all."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import synthetic

from camreport.errors import InputError, ResultsError
from camreport.insight.aggregates import aggregate
from camreport.insight.predictions import judgement
from camreport.report.export import export_tables
from camreport.report.gallery import DEFAULT_LIMITS, render_gallery
from camreport.report.gallery.page import Measured
from camreport.report.gallery.shown import choose_shown, sampled
from camreport.results.outline import outlines
from camreport.results.reader import Results, load_results

COUNT = 300

FEW = replace(DEFAULT_LIMITS, shown=100, sample=40)
"""Limits by which a small report is sampled, as one of more than 20,000 images is."""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write_results(tmp_path_factory.mktemp("many"), COUNT, photo_side=96)


@pytest.fixture(scope="module")
def results(many: Path) -> Results:
    return load_results(many)


def data(out: Path) -> dict[str, Any]:
    """Return the report's data of a folder."""
    text = (out / "data/report.js").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text.partition(", ")[2].removesuffix(");\n"))
    return found


def test_a_report_of_very_many_images_shows_a_sample_and_counts_all(many: Path) -> None:
    render_gallery(many, layout="folder")
    whole = data(many)
    render_gallery(many, layout="folder", limits=FEW)
    some = data(many)
    assert len(whole["images"]["index"]) == COUNT
    assert len(some["images"]["index"]) == 40
    for key in ("accuracy", "confusion", "confidence", "reliability", "means", "headline", "trust"):
        assert some["summary"][key] == whole["summary"][key], key
    page = (many / "index.html").read_text(encoding="utf-8")
    assert page.count("40 of 300 images are shown") >= 2
    assert "40" in some["prose"]["zh"]["asked"]
    assert len([*(many / "data/thumbs").rglob("*.jpg")]) == 40


def test_methods_that_coincide_in_the_images_shown_are_said_to_coincide_in_those(
    tmp_path: Path,
) -> None:
    out = synthetic.write_results(
        tmp_path / "out", COUNT, methods=("grad_cam", "xgrad_cam"), grids={"a": 5}, photo_side=96
    )
    for shard in (out / "results").glob("shard-*.npz"):
        with np.load(shard) as file:
            arrays = dict(file)
        arrays["xgrad_cam/a"] = arrays["grad_cam/a"] * 2
        arrays["logits"][:, 1] = -arrays["logits"][:, 0]
        np.savez(shard, **arrays)
    for limits, count in ((DEFAULT_LIMITS, COUNT), (FEW, 40)):
        render_gallery(out, layout="folder", limits=limits)
        summary = data(out)["summary"]
        texts = [one["text"]["en"] for one in (*summary["findings"], *summary["cautions"])]
        [same] = [text for text in texts if "give the same maps after scaling" in text]
        assert f"(n = {count} images)" in same
        [opposite] = [text for text in texts if "logits are opposite" in text]
        assert ("in every image" if count == COUNT else "in all 40 images that") in opposite


def test_tables_of_a_report_that_shows_a_sample_are_of_all_images(tmp_path: Path) -> None:
    out = synthetic.write_results(tmp_path / "out", 120, grids={"a": 5}, photo_side=96)
    render_gallery(out, layout="folder", limits=replace(FEW, shown=50))
    export_tables(out)
    rows = (out / "images.csv").read_text(encoding="utf-8-sig").splitlines()
    maps = (out / "maps.csv").read_text(encoding="utf-8-sig").splitlines()
    assert len(rows) == 1 + 120
    assert len({line.partition(",")[0] for line in maps[1:]}) == 120


def test_the_sample_holds_the_images_that_the_summary_names(many: Path) -> None:
    render_gallery(many, layout="folder", limits=FEW)
    some = data(many)
    assert some["summary"]["first"]
    assert {one["image"] for one in some["summary"]["first"]} <= {*some["images"]["index"]}


def test_columns_of_a_sample_are_those_of_its_images(many: Path) -> None:
    render_gallery(many, layout="folder")
    whole = data(many)["images"]
    render_gallery(many, layout="folder", limits=FEW)
    some = data(many)["images"]
    for name, column in some["numbers"].items():
        assert column == [whole["numbers"][name][index] for index in some["index"]], name
    assert some["file"] == [whole["file"][index] for index in some["index"]]


def test_a_sample_is_even_over_classes_and_outcomes(results: Results) -> None:
    def kind(place: int) -> tuple[int | None, str]:
        return results.readable[place].label, judgement(results.readable[place])

    all_of_kind = Counter(kind(place) for place in range(COUNT))
    drawn = Counter(kind(place) for place in sampled(results, 40, ()))
    assert drawn.keys() == all_of_kind.keys()
    full = [drawn[own] for own in drawn if drawn[own] < all_of_kind[own]]
    assert max(full) - min(full) <= 1
    assert sampled(results, 40, ()) == sampled(results, 40, ()), "the same each time"
    assert {299, 298} <= {*sampled(results, 2, {299, 298})}


def test_a_list_of_names_chooses_the_images(many: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("dogs/IMG_00007.jpg\n\ncats/IMG_00002.jpg\n", encoding="utf-8-sig")
    render_gallery(many, layout="folder", images=str(names))
    assert data(many)["images"]["index"] == [2, 7]
    render_gallery(many, layout="folder", images="12")
    assert len(data(many)["images"]["index"]) == 12
    render_gallery(many, layout="folder", images="12000")
    assert len(data(many)["images"]["index"]) == COUNT


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a.jpg\nb.jpg\ncats/IMG_00002.jpg\nc.jpg\nd.jpg\n", r"'a.jpg', 'b.jpg', 'c.jpg' and 1"),
        ("\n", "no name"),
    ],
)
def test_names_that_no_image_has_are_refused(
    many: Path, tmp_path: Path, content: str, said: str
) -> None:
    names = tmp_path / "names.txt"
    names.write_text(content)
    with pytest.raises(InputError, match=said):
        render_gallery(many, images=str(names))
    with pytest.raises(InputError, match="no file"):
        render_gallery(many, images=str(tmp_path / "absent.txt"))
    with pytest.raises(InputError, match="from 1 on"):
        render_gallery(many, images="0")


def lazy(results: Results) -> Results:
    """Return results whose manifest lists no images, as of a large run."""
    return Results(results.path, replace(results.manifest, images=()))


def test_images_read_from_sidecars_are_those_of_the_manifest(results: Results) -> None:
    sidecars = lazy(results)
    assert [*sidecars.readable] == [*results.readable]
    assert sidecars.count == len(results.readable) == COUNT
    assert sidecars.readable[5:7] == results.readable[5:7]
    assert _means_equal(sidecars, results)
    one, other = Measured.of(sidecars), Measured.of(results)
    assert one.columns == other.columns
    assert one.summary().to_json() == other.summary().to_json()
    assert choose_shown(one, None, FEW).places == choose_shown(other, None, FEW).places


def _means_equal(one: Results, other: Results) -> bool:
    found = (aggregate(results).means for results in (one, other))
    return all(np.array_equal(a.sums, b.sums) for a, b in zip(*found, strict=True))


OPEN = """
import resource, sys
from camreport.report.gallery.page import DEFAULT_LIMITS, Measured
from camreport.report.gallery.shown import choose_shown
from camreport.results.reader import load_results
measured = Measured.of(load_results(sys.argv[1]))
measured.summary()
shown = choose_shown(measured, None, DEFAULT_LIMITS)
print(len(shown.images), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts kilobytes")
def test_a_million_records_would_take_less_than_400_megabytes_more(tmp_path: Path) -> None:
    found = []
    for count in (20_480, 61_440):
        out = synthetic.write_records(tmp_path / str(count), count, 512)
        command = [sys.executable, "-c", OPEN, str(out)]
        finished = subprocess.run(command, check=True, capture_output=True, text=True)
        found.append([*map(int, finished.stdout.split())])
    assert [shown for shown, _ in found] == [2000, 2000]
    assert (found[1][1] - found[0][1]) * 1024 / 40_960 < 400, "bytes an image"


def test_outlines_leave_out_failed_images(results: Results) -> None:
    failed = {"index": 1, "file": "b.jpg", "sha256": None, "width": None, "height": None}
    failed |= {"status": "failed", "reason": {"code": "images.empty"}}
    sidecar = json.loads((results.path / "shard-000000.json").read_text())
    sidecar["images"][1] = failed
    totals = replace(results.manifest.totals, images=64)
    found, left = outlines([("a", sidecar)], replace(results.manifest, images=(), totals=totals))
    assert [one.index for one in found] == [0, *range(2, 64)]
    assert [one.file for one in left] == ["b.jpg"]
    for one, whole in zip(found, (results.images[0], *results.images[2:64]), strict=True):
        for name in ("index", "size", "label", "labels", "shard", "row"):
            assert getattr(one, name) == getattr(whole, name), name
        assert one.top == whole.top[:1]


@pytest.mark.parametrize(
    ("field", "value"),
    [("index", 7), ("label", 2), ("width", 0), ("status", "odd"), ("top", [{"index": 2}])],
)
def test_damaged_sidecars_are_named(results: Results, field: str, value: object) -> None:
    sidecar = json.loads((results.path / "shard-000000.json").read_text())
    sidecar["images"][3][field] = value
    with pytest.raises(ResultsError, match=r"images\[3\].* in shard-000000\.json"):
        outlines([("shard-000000.json", sidecar)], lazy(results).manifest)


def test_entries_of_some_images_are_those_of_all(results: Results) -> None:
    wanted = [0, 63, 64, 200, 299]
    assert lazy(results).entries(wanted) == [results.images[index] for index in wanted]
