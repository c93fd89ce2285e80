"""Photographs that already have the model's input size, under a preprocessing that is assumed."""

import json
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.checkout import INPUTS
from helpers.command import Command
from numpy.testing import assert_allclose
from PIL import Image
from torch import nn
from torchvision import models

import camreport
from camreport.images.preprocessing import Box, Preprocessing
from camreport.models import LoadedModel, load_model
from camreport.models.zoo import default_weights, preprocessing_of

QUICK = {"layers": ["12"], "methods": "grad_cam"}
QUICK_FLAGS = ("--layers", "12", "--methods", "grad_cam")
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
CUT = Preprocessing(resize="short-side", short_side=256)


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def manifest_of(out: Path) -> dict[str, object]:
    return json.loads((out / "results" / "manifest.json").read_text("utf-8"))


@pytest.fixture
def checkpoint(catdog: LoadedModel, tmp_path: Path) -> Path:
    """The bundled network as a course would save it: a whole AlexNet of two classes."""
    torch.save(catdog.module, tmp_path / "torch_alex.pth")
    return tmp_path / "torch_alex.pth"


def test_network_sees_the_pixels_of_a_photograph_of_its_size(checkpoint: Path) -> None:
    photo = noise(224, 224)
    loaded = load_model(checkpoint=checkpoint)
    expected = (np.asarray(photo) / 255 - MEAN) / STD  # (H, W, 3)
    assert_allclose(
        loaded.preprocessing.apply(photo), expected.transpose(2, 0, 1), rtol=0, atol=1e-5
    )
    assert loaded.preprocessing.seen_box(224, 224) == Box(0, 0, 224, 224)


@pytest.mark.parametrize("size", [(224, 225), (225, 224), (256, 256), (100, 100), (448, 448)])
def test_photographs_of_other_sizes_are_cut_as_torchvision_cuts_them(
    checkpoint: Path, size: tuple[int, int]
) -> None:
    photo = noise(*size)
    loaded = load_model(checkpoint=checkpoint)
    expected = models.AlexNet_Weights.DEFAULT.transforms()(photo).numpy()
    assert_allclose(loaded.preprocessing.apply(photo), expected, rtol=0, atol=1e-5)
    assert loaded.preprocessing.seen_box(*size) == CUT.seen_box(*size)


def test_course_command_gives_the_predictions_of_the_whole_photograph(
    checkpoint: Path, tmp_path: Path
) -> None:
    """The bundled model squashes; at its own size nothing is scaled, and nothing may be cut."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("cat", "dog"):
        Image.open(INPUTS / f"{name}.jpg").resize((224, 224)).save(photos / f"{name}.png")
    camreport.run(photos, tmp_path / "own", class_names=["cat", "dog"], **QUICK)
    camreport.run(
        photos, tmp_path / "course", checkpoint=checkpoint, class_names=["cat", "dog"], **QUICK
    )
    own, course = (manifest_of(tmp_path / name)["images"] for name in ("own", "course"))
    for mine, theirs in zip(own, course, strict=True):
        assert {entry["name"]: entry["probability"] for entry in mine["top"]} == pytest.approx(
            {entry["name"]: entry["probability"] for entry in theirs["top"]}, abs=1e-5
        )


def test_company_of_other_sizes_changes_nothing(checkpoint: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.open(INPUTS / "cat.jpg").resize((224, 224)).save(photos / "cat.png")
    camreport.run(photos, tmp_path / "alone", checkpoint=checkpoint, **QUICK)
    noise(301, 240).save(photos / "another.png")
    camreport.run(photos, tmp_path / "company", checkpoint=checkpoint, **QUICK)
    (alone,) = manifest_of(tmp_path / "alone")["images"]
    _, company = manifest_of(tmp_path / "company")["images"]
    assert company["file"] == alone["file"]
    probabilities = [[entry["probability"] for entry in top["top"]] for top in (alone, company)]
    assert probabilities[0] == pytest.approx(probabilities[1], abs=1e-6)


@pytest.fixture
def command(
    command: Command, tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Run ``camreport`` in this process, in a folder with a checkpoint and one photograph."""
    monkeypatch.chdir(checkpoint.parent)
    noise(224, 224).save("photo.png")
    return command


def test_command_and_report_say_what_is_cut_and_how_to_keep_it(command: Command) -> None:
    words = ("run", "photo.png", "-o", "out", "--checkpoint", "torch_alex.pth", *QUICK_FLAGS)
    finished = command(*words)
    assert finished.code == 0
    page = unescape(Path("out/index.html").read_text("utf-8"))
    provenance = page[page.index('class="provenance"') :]
    for said in (
        "images of 224 × 224 are taken whole; the edges of all others are cut off",
        "centre 224 × 224 cut out (bilinear), images of 224 × 224 taken whole",
    ):
        assert said in finished.out + finished.err
        assert said in provenance
    assert "--resize squash" in finished.err


@pytest.mark.parametrize(
    ("rule", "box"),
    [("short-side", Box(14, 14, 210, 210)), ("squash", Box(0, 0, 224, 224))],
)
def test_resize_decides_otherwise(command: Command, rule: str, box: Box) -> None:
    words = ("run", "photo.png", "-o", "out", "--checkpoint", "torch_alex.pth", *QUICK_FLAGS)
    finished = command(*words, "--resize", rule)
    assert finished.code == 0
    assert "taken whole" not in finished.out + finished.err
    used = Preprocessing.from_dict(manifest_of(Path("out"))["preprocessing"])
    assert used.seen_box(224, 224) == box


def test_whole_size_is_the_changed_one(checkpoint: Path) -> None:
    preprocessing = load_model(checkpoint=checkpoint, image_size=320).preprocessing
    assert preprocessing.seen_box(320, 320) == Box(0, 0, 320, 320)
    assert preprocessing.seen_box(224, 224) != Box(0, 0, 224, 224)


def test_stated_preprocessing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zoo states what belongs to its own weights, and the author of code what theirs takes."""
    assert load_model("resnet18", weights="none").preprocessing == preprocessing_of(
        default_weights("resnet18")
    )
    (tmp_path / "net_that_states.py").write_text(
        "import torch\nfrom torch import nn\n"
        "from camreport.images.preprocessing import Preprocessing\n"
        "from camreport.models import LoadedModel\n"
        "def build():\n"
        "    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
        "    cut = Preprocessing(size=(40, 40), resize='short-side', short_side=48)\n"
        "    return LoadedModel(net.eval(), cut, ('a', 'b'), 'mine', 'me', '')\n"
    )
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    torch.save(module.state_dict(), tmp_path / "w.pth")
    monkeypatch.chdir(tmp_path)
    loaded = load_model("net_that_states.py:build", checkpoint="w.pth")
    assert loaded.preprocessing == Preprocessing(size=(40, 40), resize="short-side", short_side=48)
    assert not any(str(note).startswith("cut:") for note in loaded.notes)


def test_numbers_may_come_as_arrays(checkpoint: Path, tmp_path: Path) -> None:
    noise(24, 24).save(tmp_path / "photo.png")
    mean, std = np.array([0.5, 0.25, 0]), np.array([1, 2, 4], np.float32)
    loaded = load_model(checkpoint=checkpoint, mean=mean, std=std)
    assert (loaded.preprocessing.mean, loaded.preprocessing.std) == ((0.5, 0.25, 0), (1, 2, 4))
    camreport.run(tmp_path / "photo.png", tmp_path / "out", mean=mean, std=std, **QUICK)
    assert "--mean 0.5,0.25,0 --std 1,2,4" in manifest_of(tmp_path / "out")["command"]


def test_preprocessing_of_an_earlier_report_can_be_read() -> None:
    record = Preprocessing().to_dict()
    del record["whole_at_size"]
    assert Preprocessing.from_dict(record) == Preprocessing()
    whole = replace(CUT, whole_at_size=True)
    assert Preprocessing.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole
