"""``camreport.run`` and its results folder: contract, equal runs, bad inputs, interruptions."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.reports import embedded, maps_of
from helpers.runs import (
    LAYERS,
    QUICK,
    assert_same_maps,
    fail,
    files_of,
    images_of,
    interrupt_after,
    lasting,
    manifest_of,
    run,
    shards_of,
    tiny,
    write_images,
)
from PIL import Image
from torch import nn

import camreport
from camreport import files
from camreport.engine.memory import BUDGETS, Limits
from camreport.errors import ClassError, InputError, LayerError, MemoryLimitError, ResultsError
from camreport.images.loading import load_image
from camreport.images.preprocessing import Preprocessing
from camreport.messages import Message
from camreport.pipeline import local as pipeline
from camreport.report.gallery import render_gallery
from camreport.results import writer
from camreport.results.reader import load_results


def test_run_writes_the_manifest_of_the_contract(photos: Path, tmp_path: Path) -> None:
    (photos / "bad.jpg").write_bytes(b"x")
    model, out = tiny(3), tmp_path / "out"
    summary = run(photos, out, model, classes=[2, 0], class_names=["a", "b", "c"])
    manifest = manifest_of(out)
    assert manifest["schema"] == 3
    assert manifest["command"].startswith("camreport run ")
    assert manifest["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert {"camreport", "torchvision", "numpy"} <= manifest["versions"].keys()
    assert manifest["device"] == "cpu"
    assert manifest["seed"] is None, "nothing is drawn"
    assert manifest["model"] == {
        "name": "Tiny",
        "source": {"code": "results.text", "values": {"text": "a module passed from Python"}},
        "sha256": model.sha256,
        "parameters": model.parameter_count,
        "notes": [
            {
                "code": "results.text",
                "values": {"text": "preprocessing: none is known, ImageNet's is assumed"},
            }
        ],
    }
    assert manifest["totals"] == {"images": 8, "failed": 1, "shard_length": 64}
    assert Preprocessing.from_dict(manifest["preprocessing"]) == model.preprocessing
    assert manifest["classes"] == [{"index": i, "name": n} for i, n in enumerate("abc")]
    after_relu = {"code": "network.tensor.after", "values": {"activation": "ReLU"}}
    assert manifest["layers"] == [
        {"address": name, "type": "Conv2d", "tensor": after_relu, "shape": list(shape)}
        for name, shape in LAYERS.items()
    ]
    assert manifest["methods"] == list(QUICK)
    assert (manifest["quantity"], manifest["smooth"], manifest["skipped"]) == ("logit", [], [])
    assert manifest["fusion"] == {"gamma": 2.0, "stages": None}
    maps = 7 * 2 * (2 * len(QUICK) + 1)  # images, classes, layers and fused
    families = manifest["cost"].pop("families")
    assert families.keys() == {"shared"}
    for cost in (manifest["cost"], *families.values()):
        assert cost.pop("seconds") > 0
        assert cost == {"forwards": 1, "backwards": 2, "variants": 0, "maps": maps}
    assert (summary.total, summary.reused, summary.out) == (8, 0, out)
    assert [record["file"] for record in summary.failed] == ["bad.jpg"]


def test_run_describes_every_image_in_the_manifest(photos: Path, tmp_path: Path) -> None:
    (photos / "03.png").write_bytes(b"x")
    model = tiny(3)
    run(photos, tmp_path / "out", model)
    records = manifest_of(tmp_path / "out")["images"]
    assert [record["index"] for record in records] == list(range(7))
    assert [record["file"] for record in records] == [f"{i:02}.png" for i in range(7)]
    good = [record for record in records if record["index"] != 3]
    for row, record in enumerate(good):
        data = (photos / record["file"]).read_bytes()
        logits = model.module(
            torch.from_numpy(load_image(data, model.preprocessing).model_input)[None]
        )
        probabilities = logits.softmax(1)[0].double()
        assert record.keys() == {
            *("index", "file", "sha256", "width", "height", "status", "shard", "row", "top")
        }
        assert record["sha256"] == sha256(data).hexdigest()
        assert (record["width"], record["height"]) == (50 - record["index"], 30 + record["index"])
        assert (record["status"], record["row"]) == ("ok", row)
        assert record["shard"] == "shard-000000.npz"
        shares = [entry["probability"] for entry in record["top"]]
        assert shares == sorted(shares, reverse=True)
        for entry in record["top"]:
            assert entry["name"] == f"class {entry['index']}"
            assert entry["probability"] == pytest.approx(
                probabilities[entry["index"]].item(), abs=1e-5
            )
    assert records[3]["status"] == "failed"
    assert "a text file" in str(Message.from_json(records[3]["reason"]))
    assert "shard" not in records[3]


def test_run_writes_the_shards_of_the_contract(photos: Path, tmp_path: Path) -> None:
    model = tiny(3)
    run(photos, tmp_path / "out", model, classes=[2, 0])
    (arrays,) = shards_of(tmp_path / "out").values()
    maps = {f"{key}/{layer}": shape for key in QUICK for layer, shape in LAYERS.items()}
    maps["layer_cam/fused"] = LAYERS["features.0"]
    assert arrays.keys() == {*maps, "logits", "targets", "image", "photo", "photo_offsets"}
    for key, (_, height, width) in maps.items():
        assert arrays[key].shape == (7, 2, height, width)
        assert arrays[key].dtype == np.float32
    assert arrays["logits"].dtype == np.float32
    assert arrays["image"].tolist() == list(range(7))
    assert arrays["targets"].tolist() == [[2, 0]] * 7
    assert arrays["image"].dtype == arrays["targets"].dtype == np.int64
    inputs = np.stack(
        [load_image(p.read_bytes(), model.preprocessing).model_input for p in photos.iterdir()]
    )
    expected = model.module(torch.from_numpy(inputs)).detach().numpy()
    order = [int(path.stem) for path in photos.iterdir()]
    np.testing.assert_allclose(arrays["logits"][order], expected, atol=1e-5)


def test_run_keeps_raw_maps(photos: Path, tmp_path: Path) -> None:
    model = tiny()
    run(photos, tmp_path / "out", model)
    (arrays,) = shards_of(tmp_path / "out").values()
    assert (arrays["grad_cam/features.2"] < 0).any(), "before the final ReLU"
    data = [load_image(p.read_bytes(), model.preprocessing) for p in sorted(photos.iterdir())]
    explained = camreport.explain(
        model,
        torch.from_numpy(np.stack([image.model_input for image in data])),
        ["features.0", "features.2"],
        QUICK,
        "all",
    )
    assert set(explained.maps) == set(QUICK)
    for method, by_layer in explained.maps.items():
        for layer, cams in by_layer.items():
            np.testing.assert_allclose(arrays[f"{method}/{layer}"], cams.numpy(), atol=1e-6)


def test_run_keeps_a_photograph_of_every_image(photos: Path, tmp_path: Path) -> None:
    Image.new("RGB", (1000, 500)).save(photos / "large.jpg")
    (photos / "03.png").write_bytes(b"x")
    run(photos, tmp_path / "out")
    (arrays,) = shards_of(tmp_path / "out").values()
    photo, offsets = arrays["photo"], arrays["photo_offsets"]
    assert (photo.dtype, offsets.dtype) == (np.uint8, np.int64)
    jpegs = [photo[start:stop].tobytes() for start, stop in pairwise(offsets)]
    kept = dict(zip(arrays["image"].tolist(), jpegs, strict=True))
    assert kept.keys() == {0, 1, 2, 4, 5, 6, 7}
    with Image.open(BytesIO(kept[7])) as large, Image.open(BytesIO(kept[2])) as small:
        assert (large.format, large.size) == ("JPEG", (448, 224))
        assert small.size == (48, 32)


def test_run_gives_equal_results_when_repeated(photos: Path, tmp_path: Path) -> None:
    (photos / "03.png").write_bytes(b"x")
    for name in ("a", "b"):
        run(photos, tmp_path / name)
    one, two = (files_of(tmp_path / name / "results") for name in ("a", "b"))
    assert one.keys() == two.keys()
    differing = {name for name in one if one[name] != two[name]}
    assert differing <= {"manifest.json", "shard-000000.json"}
    summaries = [json.loads(files["shard-000000.json"]) for files in (one, two)]
    assert all(summary.pop("cost")["forwards"] for summary in summaries)
    assert summaries[0] == summaries[1]
    assert lasting(tmp_path / "a") == lasting(tmp_path / "b")


SECONDS = r"\d+\.\d (s\b|秒)"
"""What a run took, in either language."""


def test_run_gives_an_equal_report_wherever_it_is_made(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = []
    for name in ("first", "a second place"):
        (tmp_path / name).mkdir()
        shutil.copytree(photos, tmp_path / name / "in")
        monkeypatch.chdir(tmp_path / name)
        run("in", "out")
        pages.append(Path("out/index.html").read_text(encoding="utf-8").splitlines())
    assert len(pages[0]) == len(pages[1])
    for one, two in zip(*pages, strict=True):
        assert re.sub(SECONDS, "", one) == re.sub(SECONDS, "", two)


def test_run_costs_the_others_nothing_when_an_image_is_bad(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "before")
    bad = {"00a.jpg": b"", "03a.png": (photos / "00.png").read_bytes()[:500], "99.jpg": b"<html>"}
    for name, data in bad.items():
        (photos / name).write_bytes(data)
    summary = run(photos, tmp_path / "after")
    assert [record["file"] for record in summary.failed] == list(bad)
    assert all(record["reason"] for record in summary.failed)
    before, after = (load_results(tmp_path / name) for name in ("before", "after"))
    indices = {image.file: image.index for image in after.images}
    for image in before.images:
        for key, array in before.arrays(image.index).items():
            if key != "image":
                again = after.arrays(indices[image.file])[key]
                np.testing.assert_allclose(array, again, atol=1e-6)
    report = (tmp_path / "after" / "index.html").read_text(encoding="utf-8")
    assert all(name in report for name in bad)


@pytest.mark.parametrize("earlier", [False, True])
def test_run_writes_nothing_when_every_image_is_bad(tmp_path: Path, earlier: bool) -> None:
    out = tmp_path / "out"
    if earlier:
        run(write_images(tmp_path / "good", 1), out)
    before = files_of(out)
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "b.png"):
        (tmp_path / "in" / name).write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"none of 2. a.jpg: .*; b.png: "):
        run(tmp_path / "in", out)
    assert files_of(out) == before
    assert out.exists() == earlier


@pytest.mark.parametrize("options", [{"layers": ["head.1"]}, {"classes": [2]}, {"layers": ["9"]}])
def test_run_writes_nothing_when_the_request_cannot_be_met(
    photos: Path, tmp_path: Path, options: dict[str, object]
) -> None:
    with pytest.raises((LayerError, ClassError)):
        run(photos, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_run_costs_the_others_nothing_when_a_link_leads_nowhere(
    photos: Path, tmp_path: Path
) -> None:
    (photos / "link.png").symlink_to("nowhere.png")
    summary = run(photos, tmp_path / "out")
    assert [record["file"] for record in summary.failed] == ["link.png"]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, None])
def test_shards_do_not_depend_on_the_batch_size(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int | None
) -> None:
    monkeypatch.setattr(pipeline, "SHARD_IMAGES", 3)
    (photos / "01.png").write_bytes(b"x")
    run(photos, tmp_path / "reference", batch_size=7)
    run(photos, tmp_path / "out", batch_size=batch_size)
    covered = {name: a["image"].tolist() for name, a in shards_of(tmp_path / "out").items()}
    assert covered == {
        "shard-000000.npz": [0, 2],
        "shard-000001.npz": [3, 4, 5],
        "shard-000002.npz": [6],
    }
    assert_same_maps(tmp_path / "out", tmp_path / "reference")
    assert lasting(tmp_path / "out")["images"] == lasting(tmp_path / "reference")["images"]


@pytest.mark.usefixtures("by_two")
@pytest.mark.parametrize("bad", [[0, 1], [2, 3], [0, 1, 2, 3, 4], [6]])
def test_run_goes_on_when_all_of_a_shard_is_bad(
    photos: Path, tmp_path: Path, bad: list[int]
) -> None:
    for index in bad:
        (photos / f"{index:02}.png").write_bytes(b"x")
    summary = run(photos, tmp_path / "out", batch_size=1)
    assert [record["index"] for record in summary.failed] == bad
    assert sorted(images_of(tmp_path / "out")) == sorted({*range(7)} - {*bad})
    opened = load_results(tmp_path / "out")
    for image in opened.readable:
        assert opened.arrays(image.index)["image"] == image.index


def test_shards_are_small_when_maps_are_large(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "SHARD_BYTES", 1)
    run(photos, tmp_path / "out")
    assert len(shards_of(tmp_path / "out")) == 7


@pytest.mark.usefixtures("by_two")
@pytest.mark.parametrize("stop", range(1, 8))
def test_run_resumes_where_it_was_interrupted(photos: Path, tmp_path: Path, stop: int) -> None:
    (photos / "02.png").write_bytes(b"x")
    out = tmp_path / "out"
    run(photos, tmp_path / "whole", batch_size=1)
    with pytest.raises(KeyboardInterrupt):
        run(photos, out, batch_size=1, progress=interrupt_after(stop))
    finished = (stop - 1) // 2  # the interruption comes before the last one's shard is written
    assert len(shards_of(out)) == finished
    assert sorted(images_of(out)) == [i for i in range(2 * finished) if i != 2]
    assert not (out / "index.html").exists()
    assert not (out / "results" / "manifest.json").exists()
    with pytest.raises(ResultsError, match="incomplete" if finished else "expected a folder"):
        load_results(out)
    model, done = tiny(), []
    summary = run(photos, out, model, batch_size=1, progress=done.append)
    assert sum(model.module.batches) == len([i for i in range(2 * finished, 7) if i != 2])
    assert summary.reused == 2 * finished
    assert sum(done) == 7
    assert_same_maps(out, tmp_path / "whole")
    assert lasting(out) == lasting(tmp_path / "whole")
    assert files_of(out).keys() == files_of(tmp_path / "whole").keys()
    cost = manifest_of(out)["cost"]
    assert cost["maps"] == manifest_of(tmp_path / "whole")["cost"]["maps"]
    assert cost["forwards"] == 6


@pytest.mark.usefixtures("by_two")
def test_run_resumes_when_batches_are_cut_otherwise(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(photos, tmp_path / "out", progress=interrupt_after(7))
    with pytest.raises(KeyboardInterrupt):
        run(photos, tmp_path / "out", batch_size=4, progress=interrupt_after(6))
    assert sorted(images_of(tmp_path / "out")) == [0, 1, 2, 3]
    model = tiny()
    run(photos, tmp_path / "out", model, batch_size=4)
    assert sum(model.module.batches) == 3
    assert_same_maps(tmp_path / "out", tmp_path / "whole")


@pytest.mark.usefixtures("by_two")
def test_run_computes_nothing_again_when_killed_before_the_manifest(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(photos, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(writer.ResultsWriter, "write_manifest", fail)
        with pytest.raises(KeyboardInterrupt):
            run(photos, tmp_path / "out")
    assert not (tmp_path / "out" / "index.html").exists()
    model = tiny()
    assert run(photos, tmp_path / "out", model).reused == 7
    assert model.module.batches == []
    assert lasting(tmp_path / "out") == lasting(tmp_path / "whole")
    assert manifest_of(tmp_path / "out")["cost"]["forwards"] == 1
    shards = {name for name in files_of(tmp_path / "whole") if name.endswith("npz")}
    for name in shards:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.usefixtures("by_two")
@pytest.mark.parametrize("file", [".camreport", "000001.json", "000001.npz", "manifest.json"])
def test_run_resumes_when_killed_before_any_file_is_in_place(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    run(photos, tmp_path / "whole", batch_size=2)
    rename = os.replace

    def killed(source: Path, target: Path) -> None:
        if str(target).endswith(file):
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            run(photos, tmp_path / "out", batch_size=2)
    assert not (tmp_path / "out" / "index.html").exists()
    with pytest.raises(ResultsError):
        load_results(tmp_path / "out")
    run(photos, tmp_path / "out", batch_size=2)
    assert lasting(tmp_path / "out") == lasting(tmp_path / "whole")
    assert_same_maps(tmp_path / "out", tmp_path / "whole")
    assert not [name for name in files_of(tmp_path / "out") if name.endswith(".part")]


def test_run_builds_the_report_again_when_killed_before_it(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("camreport.api.render_gallery", fail)
        with pytest.raises(KeyboardInterrupt):
            run(photos, tmp_path / "out")
    model = tiny()
    run(photos, tmp_path / "out", model)
    assert model.module.batches == []
    assert (tmp_path / "out" / "index.html").exists()


@pytest.mark.usefixtures("by_two")
def test_run_keeps_the_earlier_report_until_the_new_results_are_complete(
    photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(photos, out)
    before = files_of(out)
    with pytest.raises(KeyboardInterrupt):  # before the first shard is ready
        run(photos, out, classes=[1], batch_size=1, progress=interrupt_after(1))
    assert files_of(out) == before
    with pytest.raises(KeyboardInterrupt):
        run(photos, out, classes=[1], batch_size=1, progress=interrupt_after(4))
    after = files_of(out)
    assert {name: after[name] for name in before} == before
    assert load_results(out).arrays(6)["targets"].tolist() == [0, 1]
    model = tiny()
    assert run(photos, out, model, classes=[1], batch_size=1).reused == 2
    assert sum(model.module.batches) == 5, "it goes on where it was interrupted"
    run(photos, tmp_path / "fresh", classes=[1], batch_size=1)
    assert files_of(out).keys() == files_of(tmp_path / "fresh").keys()
    assert {array["targets"].shape for array in shards_of(out).values()} == {(2, 1), (1, 1)}


@pytest.mark.usefixtures("by_two")
@pytest.mark.parametrize("killed_at", ["results", ".camreport-last", "before the page goes"])
def test_run_finishes_what_it_was_about_when_killed_while_results_change_places(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    out = tmp_path / "out"
    run(photos, out)
    rename = os.replace

    def killed(source: Path, target: Path) -> None:
        if Path(target).name == killed_at:
            raise KeyboardInterrupt
        rename(source, target)
        if Path(target).name == "results" and killed_at == "before the page goes":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(writer.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            run(photos, out, classes=[1])
    model = tiny()
    run(photos, out, model, classes=[1])
    assert model.module.batches == []
    run(photos, tmp_path / "fresh", classes=[1])
    assert files_of(out).keys() == files_of(tmp_path / "fresh").keys()
    assert lasting(out) == lasting(tmp_path / "fresh")
    assert embedded(out, "report")["sameClasses"] == [1]


def test_run_computes_nothing_when_an_equal_run_is_complete(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    before, model, done = files_of(tmp_path / "out"), tiny(), []
    summary = run(photos, tmp_path / "out", model, progress=done.append)
    assert model.module.batches == []
    assert (summary.total, summary.reused, sum(done)) == (7, 7, 7)
    assert files_of(tmp_path / "out") == before


CHANGES: dict[str, Callable[[Path], dict[str, object]]] = {
    "methods": lambda _: {"methods": ["grad_cam"]},
    "layers": lambda _: {"layers": ["2"]},
    "classes": lambda _: {"classes": [1]},
    "top class": lambda _: {"classes": "top1"},
    "class names": lambda _: {"class_names": ["cat", "dog"]},
    "weights": lambda _: {"model": tiny(seed=1)},
    "an image": lambda folder: Image.new("RGB", (9, 9)).save(folder / "03.png") or {},
    "one image more": lambda folder: Image.new("RGB", (9, 9)).save(folder / "zz.png") or {},
    "one image less": lambda folder: (folder / "06.png").unlink() or {},
    "a name": lambda folder: (folder / "03.png").rename(folder / "03a.png") and {},
}


@pytest.mark.usefixtures("by_two")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("complete", [True, False])
def test_run_replaces_results_when_something_has_changed(
    photos: Path, tmp_path: Path, change: str, complete: bool
) -> None:
    if complete:
        run(photos, tmp_path / "out")
    else:
        with pytest.raises(KeyboardInterrupt):
            run(photos, tmp_path / "out", batch_size=2, progress=interrupt_after(6))
    options = {} if complete else {"batch_size": 2}
    options |= CHANGES[change](photos)
    run(photos, tmp_path / "out", **options)
    run(photos, tmp_path / "fresh", **options)
    assert lasting(tmp_path / "out") == lasting(tmp_path / "fresh")
    assert files_of(tmp_path / "out").keys() == files_of(tmp_path / "fresh").keys()
    assert_same_maps(tmp_path / "out", tmp_path / "fresh")
    for name, data in files_of(tmp_path / "fresh").items():
        if name.endswith("jpg"):
            assert (tmp_path / "out" / name).read_bytes() == data


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


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: str(error)[:9])
@pytest.mark.parametrize("batch_size", [None, 5])
def test_run_halves_batches_when_memory_runs_out(
    tmp_path: Path, error: Exception, batch_size: int | None
) -> None:
    folder, model = write_images(tmp_path / "in", 20), tiny()
    run(folder, tmp_path / "reference")
    model.module.most, model.module.error = 2, error
    run(folder, tmp_path / "out", model, batch_size=batch_size)
    assert_same_maps(tmp_path / "out", tmp_path / "reference")
    assert lasting(tmp_path / "out") == lasting(tmp_path / "reference")
    done = 0
    for count in model.module.batches:
        assert count <= 2 or done < (batch_size or 16), "later batches start from what has worked"
        done += count if count <= 2 else 0
    assert done == 20, "nothing is computed twice"


def test_run_says_so_when_one_image_is_too_much(photos: Path, tmp_path: Path) -> None:
    model = tiny()
    model.module.most = 0
    with pytest.raises(MemoryLimitError, match="memory"):
        run(photos, tmp_path / "out", model)
    assert not (tmp_path / "out").exists()


def test_run_passes_other_errors_of_the_model_on(photos: Path, tmp_path: Path) -> None:
    model = tiny()
    model.module.most, model.module.error = 0, RuntimeError("mat1 and mat2 do not fit")
    with pytest.raises(RuntimeError, match="do not fit"):
        run(photos, tmp_path / "out", model)
    assert not (tmp_path / "out").exists()


def test_auto_batch_size_is_the_same_in_equal_runs(tmp_path: Path) -> None:
    folder, models = write_images(tmp_path / "in", 40), [tiny(), tiny()]
    for name, model in zip("ab", models, strict=True):
        run(folder, tmp_path / name, model)
    batches = models[0].module.batches
    assert batches == models[1].module.batches
    assert batches[0] == Limits.first_batch
    assert sum(batches) == 40


@pytest.mark.parametrize(("activations", "images", "later"), [(2**30, 3, [3, 1]), (1, 9, [1] * 4)])
def test_auto_batch_size_follows_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, activations: int, images: int, later: list[int]
) -> None:
    folder, model = write_images(tmp_path / "in", 20), tiny()
    run(folder, tmp_path / "reference")
    budget = replace(BUDGETS["cpu"], activations=activations, images=images)
    monkeypatch.setitem(BUDGETS, "cpu", budget)
    run(folder, tmp_path / "out", model)
    assert model.module.batches[0] == 16
    assert model.module.batches[-len(later) :] == later
    assert_same_maps(tmp_path / "out", tmp_path / "reference")


def test_run_leaves_its_own_output_out_of_the_inputs(photos: Path) -> None:
    for options in ({}, {"classes": [1]}, {"methods": ["grad_cam"]}):
        assert run(photos, photos / "report", **options).total == 7


def test_run_refuses_to_explain_its_own_output(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    before = files_of(tmp_path / "out")
    with pytest.raises(InputError):
        run(tmp_path / "out", tmp_path / "out")
    assert files_of(tmp_path / "out") == before


def test_report_and_results_name_no_absolute_path(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (photos / "bad.jpg").write_bytes(b"x")
    (photos / "folder").mkdir()
    shutil.copy(photos / "00.png", photos / "folder" / "00.png")
    given = [photos, photos / "folder" / "00.png", f"{photos}/*.png", "../photos/01.png"]
    run(given, tmp_path / "out")
    run(photos / "02.png", Path("inside"))
    places = {str(tmp_path).encode(), str(tmp_path.resolve()).encode(), b"elsewhere"}
    for out in (tmp_path / "out", Path("inside")):
        for name, data in files_of(out).items():
            assert not [place for place in places if place in data], name


def test_manifest_names_files_relative_to_their_input(photos: Path, tmp_path: Path) -> None:
    (photos / "deep" / "er").mkdir(parents=True)
    shutil.copy(photos / "00.png", photos / "deep" / "er" / "x.png")
    shutil.copy(photos / "00.png", tmp_path / "single.png")
    run([photos, tmp_path / "single.png"], tmp_path / "out")
    listed = [record["file"] for record in manifest_of(tmp_path / "out")["images"]]
    assert listed == [*(f"{i:02}.png" for i in range(7)), "deep/er/x.png", "single.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows forbids some of the characters")
def test_run_takes_files_of_any_name(photos: Path, tmp_path: Path) -> None:
    names = ["two words", 'it\'s "x"', "<b>&amp;", "a\nb", "🐶", "שלום", "-o", "n" * 200, "{{x}}"]
    (tmp_path / "in").mkdir()
    for name in names:
        shutil.copy(photos / "00.png", tmp_path / "in" / f"{name}.png")
    run(tmp_path / "in", tmp_path / "folder")
    run([tmp_path / "in" / f"{name}.png" for name in names], tmp_path / "files")
    for out in ("folder", "files"):
        records = manifest_of(tmp_path / out)["images"]
        shown = {f"{name}.png".replace("\n", "\N{REPLACEMENT CHARACTER}") for name in names}
        assert {record["file"] for record in records} == shown
        assert (tmp_path / out / "index.html").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode there")
@pytest.mark.parametrize("way", ["folder", "file"])
def test_run_takes_a_file_whose_name_is_no_text(photos: Path, tmp_path: Path, way: str) -> None:
    (tmp_path / "in").mkdir()
    file = Path(os.fsdecode(bytes(tmp_path / "in") + b"/caf\xe9.png"))
    shutil.copy(photos / "00.png", file)
    run(tmp_path / "in" if way == "folder" else file, tmp_path / "out")
    assert "caf\N{REPLACEMENT CHARACTER}.png" in (tmp_path / "out" / "index.html").read_text(
        "utf-8"
    )


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_run_calls_maps_undefined_when_the_model_gives_no_numbers(
    photos: Path, tmp_path: Path, factor: float
) -> None:
    model, out = tiny(), tmp_path / "out"
    model.module.factor = factor
    run(photos, out, model)
    assert all(record["top"] == [] for record in manifest_of(out)["images"])
    assert not np.isfinite(images_of(out)[0]["grad_cam/features.2"]).any()
    states = [cell["state"] for index in range(7) for cell in maps_of(out, index)["cells"]]
    assert len(states) == 7 * 2 * (2 * len(QUICK) + 1)
    assert set(states) == {"undefined"}
    assert embedded(out, "image-0")["probabilities"] == [None, None]


@pytest.mark.parametrize("classes", ["top3", "auto"])
def test_run_explains_each_images_own_top_classes(
    photos: Path, tmp_path: Path, classes: str
) -> None:
    run(photos, tmp_path / "out", tiny(5), classes=classes)
    (arrays,) = shards_of(tmp_path / "out").values()
    expected = np.argsort(-arrays["logits"], axis=1)[:, :3]
    assert arrays["targets"].tolist() == expected.tolist()
    assert arrays["grad_cam/features.0"].shape == (7, 3, 8, 10)
    for record in manifest_of(tmp_path / "out")["images"]:
        order = [entry["index"] for entry in record["top"]]
        assert order[:3] == expected[record["index"]].tolist()
        assert len(order) == 5


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ("all", [0, 1, 2, 3, 4]),
        ("top9", None),
        ([4, 1], [4, 1]),
        ("4,1", [4, 1]),
        ("E, a，3", [4, 0, 3]),
        (["b", 2, "B"], [1, 2]),
    ],
)
def test_run_explains_the_classes_that_are_asked_for(
    photos: Path, tmp_path: Path, classes: object, expected: list[int] | None
) -> None:
    run(photos, tmp_path / "out", tiny(5), classes=classes, class_names=list("abcde"))
    (arrays,) = shards_of(tmp_path / "out").values()
    if expected is None:
        assert sorted(arrays["targets"][0]) == [0, 1, 2, 3, 4]
    else:
        assert arrays["targets"].tolist() == [expected] * 7


@pytest.mark.parametrize("classes", ["f", "5", "-1", "", ",", "top0", ["a", "zzz"], [7]])
def test_run_refuses_classes_that_do_not_exist(
    photos: Path, tmp_path: Path, classes: object
) -> None:
    with pytest.raises(ClassError, match="classes: expected all, top3"):
        run(photos, tmp_path / "out", tiny(5), classes=classes, class_names=list("abcde"))
    assert not (tmp_path / "out").exists()


def test_run_says_what_classes_there_are_when_they_have_no_names(
    photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(ClassError) as raised:
        run(photos, tmp_path / "out", tiny(5), classes="cat")
    assert "-1" not in str(raised.value)
    assert "has ." not in str(raised.value)


def test_run_asks_for_a_layer_when_there_is_none(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(LayerError, match="at least one"):
        run(photos, tmp_path / "out", layers=[])


def test_run_refuses_a_wrong_number_of_class_names(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ClassError, match=r"expected 2, one per logit of Tiny, got 3: a, b, c"):
        run(photos, tmp_path / "out", class_names=["a", "b", "c"])
    assert not (tmp_path / "out").exists()


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


@pytest.mark.parametrize("file", ["manifest.json", "shard-000000.npz"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_run_mends_complete_results_that_are_damaged(
    photos: Path, tmp_path: Path, file: str, overwrite: bool
) -> None:
    run(photos, tmp_path / "whole")
    run(photos, tmp_path / "out")
    damaged = tmp_path / "out" / "results" / file
    if file == "manifest.json":
        damaged.write_text("{")
    else:
        damaged.unlink()
    run(photos, tmp_path / "out", overwrite=overwrite)
    assert_same_maps(tmp_path / "out", tmp_path / "whole")


def test_render_gallery_gives_the_same_bytes_again(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    report = tmp_path / "out" / "index.html"
    first = report.read_bytes()
    report.unlink()
    assert render_gallery(tmp_path / "out") == report
    assert report.read_bytes() == first
    shutil.move(tmp_path / "out", tmp_path / "moved")
    assert render_gallery(tmp_path / "moved" / "results").read_bytes() == first


@pytest.mark.parametrize("size", [0, -3])
def test_run_refuses_a_batch_size_below_one(photos: Path, tmp_path: Path, size: int) -> None:
    with pytest.raises(InputError, match=f"batch_size: expected a number from 1.*got {size}"):
        run(photos, tmp_path / "out", batch_size=size)
    assert not (tmp_path / "out").exists()


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


@pytest.mark.parametrize(("batch_size", "batches"), [(4, [4, 3]), (None, [7, 4, 2, 1])])
def test_run_halves_a_batch_beyond_the_budget_unless_its_size_was_chosen(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batch_size: int | None,
    batches: list[int],
) -> None:
    monkeypatch.setitem(BUDGETS, "cpu", replace(BUDGETS["cpu"], activations=1))
    model = tiny()
    run(photos, tmp_path / "out", model, batch_size=batch_size)
    assert model.module.batches[: len(batches)] == batches


def test_run_computes_again_when_equal_weights_are_used_otherwise(
    photos: Path, tmp_path: Path
) -> None:
    run(photos, tmp_path / "out")
    other = tiny()
    other.module.head[2] = nn.Sigmoid()
    run(photos, tmp_path / "out", other)
    assert other.module.batches
    run(photos, tmp_path / "whole", other)
    assert_same_maps(tmp_path / "out", tmp_path / "whole")
