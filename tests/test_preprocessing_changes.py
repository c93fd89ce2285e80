"""A user's changes to a model's own preprocessing: effects, refusals and notes."""

import json
import math
import shlex
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from helpers.command import Command
from numpy.testing import assert_allclose
from PIL import Image
from torch import nn

import camreport
from camreport.errors import InputError, ModelError
from camreport.images.preprocessing import Preprocessing
from camreport.models import load_model
from camreport.report.gallery import render_gallery

QUICK = {"layers": ["12"], "methods": "grad_cam"}
QUICK_FLAGS = ("--layers", "12", "--methods", "grad_cam")
MEAN, STD = (0.1, 0.2, 0.4), (0.5, 0.25, 0.125)
PIXEL = (51, 102, 255)
POINT = Preprocessing(size=(1, 1), resize="none", mean=MEAN, std=STD)
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def prepared(preprocessing: Preprocessing) -> list[float]:
    """Return the model input of an image of one pixel."""
    return preprocessing.apply(Image.new("RGB", (1, 1), PIXEL)).reshape(3).tolist()


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def command(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run ``camreport`` in this process, in a folder with one photograph."""
    monkeypatch.chdir(tmp_path)
    noise(240, 200).save(tmp_path / "photo.png")
    return command


def manifest_of(out: Path) -> dict[str, object]:
    return json.loads((out / "results" / "manifest.json").read_text("utf-8"))


# Values


def test_pixel_is_standardised_channel_by_channel() -> None:
    red, green, blue = (value / 255 for value in PIXEL)
    expected = [(red - 0.1) / 0.5, (green - 0.2) / 0.25, (blue - 0.4) / 0.125]
    assert_allclose(prepared(POINT), expected, rtol=1e-6)


def test_bgr_keeps_the_models_own_mean_with_its_colour() -> None:
    red, green, blue = (value / 255 for value in PIXEL)
    expected = [(blue - 0.4) / 0.125, (green - 0.2) / 0.25, (red - 0.1) / 0.5]
    changed = POINT.changed({"channel_order": "bgr"})
    assert_allclose(prepared(changed), expected, rtol=1e-6)
    assert (changed.mean, changed.std) == (MEAN[::-1], STD[::-1])
    assert changed.changed({"channel_order": "bgr"}) == changed
    assert changed.changed({"channel_order": "rgb"}) == POINT


def test_bgr_takes_a_mean_that_is_given_in_the_inputs_own_order() -> None:
    red, green, blue = (value / 255 for value in PIXEL)
    changed = POINT.changed({"channel_order": "bgr", "mean": [0.5, 0.25, 0]})
    assert_allclose(
        prepared(changed), [(blue - 0.5) / 0.125, (green - 0.25) / 0.25, red / 0.5], rtol=1e-6
    )


def test_caffes_preprocessing_subtracts_from_pixels_up_to_255() -> None:
    changed = POINT.changed(
        {
            "channel_order": "bgr",
            "scale": 255,
            "mean": (103.939, 116.779, 123.68),
            "std": (1, 1, 1),
        }
    )
    expected = [255 - 103.939, 102 - 116.779, 51 - 123.68]
    assert_allclose(prepared(changed), expected, rtol=1e-6)


def test_scale_255_with_mean_and_std_in_its_unit_changes_nothing() -> None:
    changed = POINT.changed(
        {"scale": 255, "mean": [255 * m for m in MEAN], "std": [255 * s for s in STD]}
    )
    assert_allclose(prepared(changed), prepared(POINT), rtol=1e-5)
    assert changed.changed({"scale": 255}) == changed, "the unit stays: nothing else is needed"


@pytest.mark.parametrize("given", [{}, {"mean": [0, 0, 0]}, {"std": [1, 1, 1]}])
def test_scale_needs_mean_and_std(given: dict[str, list[float]]) -> None:
    with pytest.raises(ModelError, match=r"^scale: pixels up to 255 .* give both\. --mean 0,0,0"):
        POINT.changed({"scale": 255, **given})
    back = replace(POINT, scale=255)
    with pytest.raises(ModelError, match=r"^scale: pixels up to 1 .* give both"):
        back.changed({"scale": 1, **given})


def test_nothing_given_changes_nothing() -> None:
    own = Preprocessing(size=(299, 299), resize="short-side", short_side=342)
    assert own.changed({}) == own
    nothing = dict.fromkeys(("image_size", "resize", "mean", "std", "channel_order", "scale"))
    assert own.changed(nothing) == own


@pytest.mark.parametrize(
    ("given", "size"), [(320, (320, 320)), ([192, 256], (192, 256)), ((64, 32), (64, 32))]
)
def test_image_size_is_one_number_or_height_and_width(
    given: int | list[int], size: tuple[int, int]
) -> None:
    changed = Preprocessing().changed({"image_size": given})
    assert changed == Preprocessing(size=size)
    assert changed.apply(noise(90, 50)).shape == (3, *size)
    seen = changed.seen_box(90, 50)
    assert (seen.left, seen.top, seen.right, seen.bottom) == (0, 0, 90, 50)


@pytest.mark.parametrize(
    ("size", "short_side", "new", "expected"),
    [(224, 256, 448, 512), (224, 232, 448, 464), (299, 342, 224, 256), (224, 224, 100, 100)],
)
def test_short_side_keeps_its_proportion(
    size: int, short_side: int, new: int, expected: int
) -> None:
    own = Preprocessing(size=(size, size), resize="short-side", short_side=short_side)
    changed = own.changed({"image_size": new})
    assert changed == replace(own, size=(new, new), short_side=expected)
    width, height = 800, 600
    share = new / expected  # of the shorter side
    seen = changed.seen_box(width, height)
    assert math.isclose(seen.bottom - seen.top, share * height, rel_tol=0.01)
    assert math.isclose(seen.right - seen.left, share * height, rel_tol=0.01)


def test_short_side_refuses_two_numbers() -> None:
    own = Preprocessing(resize="short-side", short_side=256)
    with pytest.raises(ModelError, match=r"^image_size: the rule short-side .* got 224 × 320\."):
        own.changed({"image_size": [224, 320]})
    with pytest.raises(ModelError, match=r"short-side takes one number"):
        Preprocessing().changed({"image_size": [224, 320], "resize": "short-side"})
    assert own.changed({"image_size": [224, 320], "resize": "squash"}).size == (224, 320)
    assert own.changed({"image_size": [320, 320]}).short_side == 366


def test_resize_rules_are_exchanged() -> None:
    own = Preprocessing(resize="short-side", short_side=256)
    squashed = own.changed({"resize": "squash"})
    assert (squashed.resize, squashed.short_side, squashed.size) == ("squash", None, (224, 224))
    box = squashed.seen_box(400, 100)
    assert (box.left, box.right) == (0, 400)
    cut = Preprocessing().changed({"resize": "short-side"})
    box = cut.seen_box(400, 100)
    assert (box.left, box.right) == (150, 250), "the centre square, the whole shorter side"
    assert cut.apply(noise(400, 100)).shape == (3, 224, 224)


BAD = [
    ({"resize": "crop"}, r"^resize: expected squash or short-side or none, got 'crop'\."),
    ({"channel_order": "gbr"}, r"^channel_order: expected rgb or bgr, got 'gbr'\."),
    ({"scale": 256}, r"^scale: expected 1 or 255, got 256\."),
    ({"image_size": 0}, r"^image_size: expected a number of pixels from 1, .* got 0\."),
    ({"image_size": -224}, r"^image_size: .* got -224\."),
    ({"image_size": [224]}, r"^image_size: .* got \[224\]\."),
    ({"image_size": [1, 2, 3]}, r"^image_size: .* got \[1, 2, 3\]\."),
    ({"image_size": [224, 0]}, r"^image_size: .* got \[224, 0\]\."),
    ({"image_size": 224.5}, r"^image_size: .* got 224\.5\."),
    ({"image_size": "224"}, r"^image_size: .* got '224'\."),
    ({"mean": [0.5]}, r"^mean: expected three numbers, got \[0\.5\]\."),
    ({"mean": [1, 2, 3, 4]}, r"^mean: expected three numbers, got"),
    ({"mean": 0.5}, r"^mean: expected three numbers, got 0\.5\."),
    ({"mean": [0, 0, math.nan]}, r"^mean: expected three numbers, got"),
    ({"mean": ["0", "0", "0"]}, r"^mean: expected three numbers, got"),
    ({"std": [1, 1]}, r"^std: expected three numbers above 0, got \[1, 1\]\."),
    ({"std": [1, 1, 0]}, r"^std: expected three numbers above 0, got \[1, 1, 0\]\."),
    ({"std": [1, -1, 1]}, r"^std: expected three numbers above 0, got"),
    ({"std": [1, math.inf, 1]}, r"^std: expected three numbers above 0, got"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=lambda value: str(value)[:40])
def test_bad_value_gets_its_sentence(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        Preprocessing().changed(changes)
    noise(240, 200).save(tmp_path / "photo.png")
    with pytest.raises(ModelError, match=message):
        camreport.run(tmp_path / "photo.png", tmp_path / "out", **QUICK, **changes)
    assert not (tmp_path / "out").exists()


REFUSED = [
    (("--resize", "crop"), "crop"),
    (("--channel-order", "gbr"), "gbr"),
    (("--scale", "256"), "256"),
    (("--scale", "255"), "error: scale: pixels up to 255 change the unit of mean and std"),
    (("--image-size", "0"), "error: image_size: expected a number of pixels from 1"),
    (
        ("--image-size", "224x"),
        "such as 224, or 224x320 (height x width), got '224x'",
    ),
    (("--image-size", "1x2x3"), "got '1x2x3'"),
    (("--image-size", "-5"), "got '-5'"),
    (("--mean", "0.5"), "error: mean: expected three numbers, got [0.5]"),
    (("--mean", "a,b,c"), "expected three numbers, got 'a,b,c'"),
    (("--mean", "nan,0,0"), "error: mean: expected three numbers, got [nan, 0.0, 0.0]"),
    (("--std", "1,0,1"), "error: std: expected three numbers above 0, got [1.0, 0.0, 1.0]"),
    (
        ("--resize", "short-side", "--image-size", "200x240"),
        "error: image_size: the rule short-sid",
    ),
]


@pytest.mark.parametrize(("flags", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_command_refuses_a_bad_value(
    command: Command, flags: tuple[str, ...], message: str
) -> None:
    finished = command("run", "photo.png", "-o", "out", *QUICK_FLAGS, *flags)
    assert finished.code == 2
    assert message in finished.err
    assert "internal error" not in finished.err
    assert not Path("out").exists()
    finished = command("layers", *flags)
    assert finished.code == 2
    assert message in finished.err


# Notes

FLAGS: list[tuple[tuple[str, ...], dict[str, object], tuple[str, ...]]] = [
    (("--image-size", "200"), {"size": [200, 200]}, ("whole image resized to 200 × 200",)),
    (("--image-size", "200x240"), {"size": [200, 240]}, ("whole image resized to 240 × 200",)),
    (("--image-size", "200×240"), {"size": [200, 240]}, ("240 × 200",)),
    (("--image-size", "200,240"), {"size": [200, 240]}, ("240 × 200",)),
    (
        ("--resize", "short-side"),
        {"resize": "short-side", "short_side": 224},
        ("shorter side resized to 224, centre 224 × 224 cut out",),
    ),
    (("--resize", "none"), {"resize": "none", "size": [200, 240]}, ("240 × 200 as it is",)),
    (
        ("--mean", "0.5,0.25,0", "--std", "1，2，4"),
        {"mean": [0.5, 0.25, 0], "std": [1, 2, 4]},
        ("mean (0.5, 0.25, 0), std (1, 2, 4)",),
    ),
    (
        ("--channel-order", "bgr"),
        {"channel_order": "bgr", "mean": [0.406, 0.456, 0.485], "std": [0.225, 0.224, 0.229]},
        ("BGR, ", "mean (0.406, 0.456, 0.485)"),
    ),
    (
        ("--scale", "255", "--mean", "-1,0,127.5", "--std", "1,1,127.5"),
        {"scale": 255, "mean": [-1, 0, 127.5], "std": [1, 1, 127.5]},
        ("0..255, mean (-1, 0, 127.5)",),
    ),
    (("--scale", "1"), {"scale": 1}, ("RGB, ", "0..1, mean (0.485, 0.456, 0.406)")),
]


@pytest.mark.parametrize(("flags", "recorded", "said"), FLAGS, ids=lambda v: str(v)[:40])
def test_command_uses_records_and_says_what_was_changed(
    command: Command, flags: tuple[str, ...], recorded: dict[str, object], said: tuple[str, ...]
) -> None:
    finished = command("run", "photo.png", "-o", "out", *QUICK_FLAGS, *flags)
    assert (finished.code, finished.err) == (0, "")
    manifest = manifest_of(Path("out"))
    used = manifest["preprocessing"]
    own = Preprocessing().to_dict() | recorded
    assert json.loads(json.dumps(own)) == used
    printed = [line for line in finished.out.splitlines() if line.startswith("preprocessing: ")]
    assert len(printed) == 1
    page = unescape((Path("out") / "index.html").read_text("utf-8"))
    provenance = page[page.index('class="provenance"') :]
    line = printed[0].removeprefix("preprocessing: ")
    assert line in provenance
    for part in said:
        assert part in line


@pytest.mark.parametrize("mean_and_std", [([0.5, 0.25, 0.0], [1.0, 2.0, 4.0]), CLIP])
def test_recorded_command_asks_for_the_same(
    command: Command, tmp_path: Path, mean_and_std: tuple[list[float], list[float]]
) -> None:
    mean, std = mean_and_std
    camreport.run("photo.png", "out", **QUICK, mean=mean, std=std, image_size=(200, 240))
    manifest = manifest_of(Path("out"))
    words = shlex.split(manifest["command"])
    assert words[0] == "camreport"
    again = ["again" if word == "out" else word for word in words[1:]]
    assert command(*again).code == 0
    assert manifest_of(Path("again"))["preprocessing"] == manifest["preprocessing"]


def test_changes_reach_the_logits(tmp_path: Path) -> None:
    """Red and blue exchanged twice, in the file and by the flag, is no exchange at all."""
    photo = noise(240, 200)
    photo.save(tmp_path / "photo.png")
    Image.fromarray(np.asarray(photo)[..., ::-1]).save(tmp_path / "exchanged.png")
    mean, std = [0.5, 0.5, 0.5], [0.2, 0.2, 0.2]
    tops = []
    for name, order in (("photo", "rgb"), ("exchanged", "bgr"), ("exchanged", "rgb")):
        out = tmp_path / f"{name}-{order}"
        camreport.run(
            tmp_path / f"{name}.png", out, **QUICK, channel_order=order, mean=mean, std=std
        )
        tops.append([entry["probability"] for entry in manifest_of(out)["images"][0]["top"]])
    assert tops[0] == tops[1]
    assert tops[0] != tops[2]


def test_note_on_an_assumed_preprocessing_says_when_it_is_changed() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    assert any(str(note).startswith("preprocessing:") for note in load_model(module).notes)
    changed = load_model(module, image_size=2)
    assert changed.preprocessing == Preprocessing(size=(2, 2))
    (note,) = changed.notes
    assert str(note).startswith("preprocessing:")
    assert str(note).endswith("except for the options you set")


def test_changes_do_not_touch_the_model_they_are_made_to() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    loaded = load_model(module, image_size=2)
    changed = load_model(loaded, channel_order="bgr")
    assert loaded.preprocessing.channel_order == "rgb"
    assert changed.preprocessing == loaded.preprocessing.changed({"channel_order": "bgr"})


@pytest.mark.parametrize(
    ("scale", "mean", "message"),
    [
        (1, (123.7, 116.8, 103.9), r"mean: .* pixels up to 1, got 123.7. .* say --scale 255"),
        (255, (0.485, 0.456, 0.406), r"mean: .* pixels up to 255, got 0.485. .* say --scale 1"),
    ],
)
def test_mean_in_the_unit_of_the_other_scale_is_refused(
    scale: int, mean: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        Preprocessing().changed({"scale": scale, "mean": mean, "std": (1, 1, 1)})


@pytest.mark.parametrize(("model", "size"), [("catdog-alexnet", 16), ("vit_b_32", 100)])
def test_size_that_a_model_does_not_take_is_refused_with_the_flag(model: str, size: int) -> None:
    weights = "default" if model == "catdog-alexnet" else "none"
    with pytest.raises(ModelError, match=rf"fails on .* {size} × {size}: .*--image-size"):
        load_model(model, weights=weights, image_size=size)


def test_page_says_how_much_of_a_photograph_the_model_saw(tmp_path: Path) -> None:
    noise(240, 200).save(tmp_path / "photo.png")
    for resize, words in (
        ("squash", "240 × 200 px<"),
        # 224 of the 268 columns to which 240 are resized
        ("short-side", "240 × 200 px, of which the model saw 201 × 200; the rest is dark<"),
    ):
        camreport.run(tmp_path / "photo.png", tmp_path / "out", resize=resize, **QUICK)
        assert words in (tmp_path / "out" / "index.html").read_text("utf-8")


# No resizing


def photographs_of_several_sizes(folder: Path) -> Path:
    folder.mkdir()
    noise(240, 200, 1).save(folder / "a.png")
    noise(200, 240, 2).save(folder / "b.png")
    noise(240, 200, 3).save(folder / "c.png")
    noise(239, 200, 4).save(folder / "d.png")
    return folder


def test_without_resizing_the_first_image_sets_the_size(command: Command, tmp_path: Path) -> None:
    photographs_of_several_sizes(tmp_path / "photos")
    finished = command("run", "photos", "-o", "out", *QUICK_FLAGS, "--resize", "none")
    assert finished.code == 1
    assert "2 of 4 inputs could not be read" in finished.err
    for line in ("b.png: 200 × 240 pixels", "d.png: 239 × 200 pixels"):
        assert f"{line}, but without resizing all images have 240 × 200" in finished.err
    manifest = manifest_of(Path("out"))
    found = {Path(record["file"]).name: record["status"] for record in manifest["images"]}
    assert found == {"a.png": "ok", "b.png": "failed", "c.png": "ok", "d.png": "failed"}
    assert manifest["preprocessing"]["size"] == [200, 240]


def test_without_resizing_pixels_go_in_as_they_are(tmp_path: Path) -> None:
    image = noise(7, 5)
    preprocessing = Preprocessing().changed(
        {
            "image_size": (5, 7),
            "resize": "none",
            "scale": 255,
            "mean": (0, 0, 0),
            "std": (1, 1, 1),
        }
    )
    expected = np.asarray(image).transpose(2, 0, 1).astype(np.float32)
    np.testing.assert_array_equal(preprocessing.apply(image), expected)
    with pytest.raises(InputError, match=r"^5 × 7 pixels, .* all images have 7 × 5\."):
        preprocessing.apply(image.rotate(90, expand=True))


def test_without_resizing_the_first_readable_image_sets_the_size(tmp_path: Path) -> None:
    folder = photographs_of_several_sizes(tmp_path / "photos")
    (folder / "a.png").write_bytes(b"")
    summary = camreport.run(folder, tmp_path / "out", **QUICK, resize="none")
    failed = {Path(image.file).name: str(image.reason) for image in summary.failed}
    assert set(failed) == {"a.png", "c.png", "d.png"}
    assert "the file is empty" in failed["a.png"]
    assert "all images have 200 × 240" in failed["c.png"]


def test_without_resizing_a_size_may_be_given(tmp_path: Path) -> None:
    folder = photographs_of_several_sizes(tmp_path / "photos")
    summary = camreport.run(folder, tmp_path / "out", **QUICK, resize="none", image_size=(240, 200))
    failed = {Path(image.file).name for image in summary.failed}
    assert failed == {"a.png", "c.png", "d.png"}
    with pytest.raises(InputError, match=r"got none of 4\. .*240 × 200 pixels"):
        camreport.run(folder, tmp_path / "none", **QUICK, resize="none", image_size=300)


# Old reports


def test_old_record_without_the_new_fields_still_loads() -> None:
    own = Preprocessing(size=(299, 299), resize="short-side", short_side=342)
    record = json.loads(json.dumps(own.to_dict()))
    assert Preprocessing.from_dict(record) == own
    del record["channel_order"], record["scale"]
    assert Preprocessing.from_dict(record) == own
    assert str(Preprocessing.from_dict(record)).startswith("RGB, ")


def test_changed_preprocessing_survives_its_record() -> None:
    changed = POINT.changed(
        {"channel_order": "bgr", "scale": 255, "mean": (103.9, 116.8, 0), "std": CLIP[1]}
    )
    assert Preprocessing.from_dict(json.loads(json.dumps(changed.to_dict()))) == changed


def test_results_without_the_steps_that_are_the_usual_ones_are_rendered(tmp_path: Path) -> None:
    noise(240, 200).save(tmp_path / "photo.png")
    camreport.run(tmp_path / "photo.png", tmp_path / "out", **QUICK)
    file = tmp_path / "out" / "results" / "manifest.json"
    manifest = json.loads(file.read_text("utf-8"))
    del manifest["preprocessing"]["channel_order"], manifest["preprocessing"]["scale"]
    file.write_text(json.dumps(manifest), "utf-8")
    page = unescape(render_gallery(tmp_path / "out").read_text("utf-8"))
    assert f"{Preprocessing()}" in page
    assert '<p class="notice alarm">' not in page


def test_an_option_that_is_none_is_refused_with_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"imagesize: .* Did you mean 'image_size'\?"):
        load_model("catdog-alexnet", imagesize=3)


def test_a_size_that_does_not_fit_the_rule_is_named_before_units_are() -> None:
    changes = {"mean": (0.5, 0.5, 0.5), "std": (1, 1, 1), "scale": 255}
    with pytest.raises(ModelError, match="image_size: the rule short-side"):
        POINT.changed({**changes, "resize": "short-side", "image_size": (224, 320)})
