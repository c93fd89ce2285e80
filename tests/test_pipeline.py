"""``camreport.run`` and its results folder: the contract, names, bad inputs, classes."""

import json
import os
import re
import shutil
import sys
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.inputs import inputs_of
from helpers.reports import embedded, maps_of
from helpers.runs import (
    LAYERS,
    QUICK,
    files_of,
    images_of,
    lasting,
    manifest_of,
    run,
    shards_of,
    tiny,
    worded,
    write_images,
)
from PIL import Image

import camreport
from camreport.errors import ClassError, InputError, LayerError
from camreport.images.preprocessing import Preprocessing
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
    assert worded(manifest["model"].pop("source")) == "a module passed from Python"
    notes = [worded(note) for note in manifest["model"].pop("notes")]
    assert notes == ["preprocessing: none is known, ImageNet's is assumed"]
    assert manifest["model"] == {
        "name": "Tiny",
        "sha256": model.sha256,
        "parameters": model.parameter_count,
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
    assert [image.file for image in summary.failed] == ["bad.jpg"]


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
        logits = model.module(inputs_of(model.preprocessing, [photos / record["file"]]))
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
    assert "a text file" in worded(records[3]["reason"])
    assert "shard" not in records[3]


def test_run_writes_the_shards_of_the_contract(photos: Path, tmp_path: Path) -> None:
    model = tiny(3)
    run(photos, tmp_path / "out", model, classes=[2, 0])
    (arrays,) = shards_of(tmp_path / "out").values()
    maps = {f"{key}/{layer}": shape for key in QUICK for layer, shape in LAYERS.items()}
    maps["layer_cam/fused"] = LAYERS["features.0"]
    others = {"logits", "targets", "image", "photo", "photo_offsets"}
    assert arrays.keys() == {*maps, *others, "channel_contributions/features.2"}
    assert arrays["channel_contributions/features.2"].shape == (7, 2, 6)
    for key, (_, height, width) in maps.items():
        assert arrays[key].shape == (7, 2, height, width)
        assert arrays[key].dtype == np.float32
    assert arrays["logits"].dtype == np.float32
    assert arrays["image"].tolist() == list(range(7))
    assert arrays["targets"].tolist() == [[2, 0]] * 7
    assert arrays["image"].dtype == arrays["targets"].dtype == np.int64
    expected = model.module(inputs_of(model.preprocessing, [*photos.iterdir()])).detach().numpy()
    order = [int(path.stem) for path in photos.iterdir()]
    np.testing.assert_allclose(arrays["logits"][order], expected, atol=1e-5)


def test_run_keeps_raw_maps(photos: Path, tmp_path: Path) -> None:
    model = tiny()
    run(photos, tmp_path / "out", model)
    (arrays,) = shards_of(tmp_path / "out").values()
    assert (arrays["grad_cam/features.2"] < 0).any(), "before the final ReLU"
    explained = camreport.explain(
        model,
        inputs_of(model.preprocessing, sorted(photos.iterdir())),
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
    photographs = {
        index: Image.open(BytesIO(arrays["photo"].tobytes()))
        for index, arrays in images_of(tmp_path / "out").items()
    }
    assert [*photographs] == [0, 1, 2, 4, 5, 6, 7]
    assert (photographs[7].format, photographs[7].size) == ("JPEG", (448, 224))
    assert photographs[2].size == (48, 32)


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
    assert [image.file for image in summary.failed] == list(bad)
    assert all(image.reason for image in summary.failed)
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
    assert [image.file for image in summary.failed] == ["link.png"]


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
    (tmp_path / "where-it-starts").mkdir()
    monkeypatch.chdir(tmp_path / "where-it-starts")
    (photos / "bad.jpg").write_bytes(b"x")
    (photos / "folder").mkdir()
    shutil.copy(photos / "00.png", photos / "folder" / "00.png")
    given = [photos, photos / "folder" / "00.png", f"{photos}/*.png", "../photos/01.png"]
    run(given, tmp_path / "out")
    run(photos / "02.png", Path("inside"))
    places = {str(tmp_path).encode(), str(tmp_path.resolve()).encode(), b"where-it-starts"}
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
