"""timm's classifiers: their images, names and weights, and the reasons to refuse some."""

import re
import socket
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.checkout import INPUTS
from helpers.runs import manifest_of
from helpers.sources import noise, run_of
from torch.testing import assert_close

import camreport
from camreport.errors import ModelError
from camreport.models import load_model

CAT = INPUTS / "cat.jpg"


TIMM = {
    "test_resnet": "bilinear, cut",
    "test_vit": "bicubic, cut",
    "resnet18": "bicubic, cut",
    "resnet18.tv_in1k": "bilinear, cut",
    "mobilenetv3_small_050": "bicubic, cut",
}


def assert_prepares_like_timm(name: str) -> None:
    timm = pytest.importorskip("timm")
    from timm.data import create_transform, resolve_model_data_config

    loaded = load_model(f"timm:{name}", weights="none")
    with torch.device("meta"):
        own = timm.create_model(name, pretrained=False)
    transform = create_transform(**resolve_model_data_config(own), is_training=False)
    for picture in (noise(450, 301), noise(301, 450), noise(640, 640)):
        expected = transform(picture)
        prepared = torch.from_numpy(loaded.preprocessing.apply(picture))
        assert_close(prepared, expected, rtol=0, atol=2e-2)


@pytest.mark.parametrize("name", TIMM)
def test_timm_model_prepares_images_as_timm_does(name: str) -> None:
    assert_prepares_like_timm(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["convnextv2_nano.fcmae_ft_in22k_in1k_384", "tf_efficientnetv2_b3.in21k_ft_in1k"]
)
def test_timm_model_that_squashes_prepares_images_as_timm_does(name: str) -> None:
    """The second one squashes to 267 pixels, then cuts out the centre."""
    assert_prepares_like_timm(name)


def test_timm_model_without_weights_has_numbered_classes_and_a_warning() -> None:
    timm = pytest.importorskip("timm")
    loaded = load_model("timm:test_resnet", weights="none")
    again = load_model("timm:test_resnet", weights="none")
    assert type(loaded.module) is type(timm.create_model("test_resnet", pretrained=False))
    assert len(loaded.class_names) == 1000
    assert loaded.class_names[:2] == ("class 0", "class 1")
    assert "random weights" in str(loaded.warning)
    assert loaded.sha256 == again.sha256
    assert_close(run_of(loaded.module), run_of(again.module), rtol=0, atol=0)
    assert run_of(loaded.module).std() > 0


def test_timm_model_runs_end_to_end(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    out = tmp_path / "out"
    camreport.run(CAT, out, model="timm:test_resnet", weights="none", methods="grad_cam")
    manifest = manifest_of(out)
    assert manifest["model"]["name"] == "timm:test_resnet"
    assert "--model timm:test_resnet" in manifest["command"]
    assert "--weights none" in manifest["command"]
    assert manifest["preprocessing"]["size"] == [160, 160]


@pytest.mark.parametrize("checkpoint", [None, "w.pth"])
def test_timm_suggests_a_close_name(tmp_path: Path, checkpoint: str | None) -> None:
    pytest.importorskip("timm")
    file = None if checkpoint is None else tmp_path / checkpoint
    with pytest.raises(ModelError, match=r"timm \d\S* knows, got 'resnt18'\. Did you mean 'res"):
        load_model("timm:resnt18", checkpoint=file)


@pytest.mark.parametrize("options", [{}, {"weights": "none"}, {"checkpoint": "w.pth"}])
def test_timm_refuses_an_unknown_set_of_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str]
) -> None:
    pytest.importorskip("timm")
    monkeypatch.chdir(tmp_path)
    torch.save({"fc.weight": torch.zeros(3, 512)}, "w.pth")
    with pytest.raises(ModelError, match=r"resnet18\.no_such_tag"):
        load_model("timm:resnet18.no_such_tag", **options)


@pytest.mark.parametrize("checkpoint", [None, "w.pth"])
def test_timm_that_is_missing_is_named_with_the_command_that_gets_it(
    monkeypatch: pytest.MonkeyPatch, checkpoint: str | None
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match=r"pip install 'camreport\[timm\]'"):
        load_model("timm:resnet18", checkpoint=checkpoint)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make every host unreachable and every cache empty; return the requested hosts."""
    asked: list[str] = []

    def lost(host: object, *_given: object, **_options: object) -> object:
        asked.append(str(host))
        raise socket.gaierror(socket.EAI_NONAME, "no such host here")

    def wait(_seconds: float) -> None:
        raise AssertionError("waits for another try")

    constants = pytest.importorskip("huggingface_hub.constants")
    for name in ("HF_HUB_CACHE", "HF_HOME"):
        monkeypatch.setattr(constants, name, str(tmp_path / "hub"), raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(socket, "getaddrinfo", lost)
    monkeypatch.setattr(time, "sleep", wait)
    return asked


@pytest.mark.parametrize(
    ("name", "reason", "file"),
    [
        (
            "resnet18",
            r"https://huggingface\.co does not answer: \w+: .*no such host",
            r"model\.safetensors from https://huggingface\.co/timm/resnet18\.a1_in1k ",
        ),
        ("gcvit_xxtiny", "URLError: .*no such host", r"https://github\.com/\S+\.pth "),
    ],
)
def test_timm_says_offline_at_once_where_the_weights_are(
    offline: list[str], capfd: pytest.CaptureFixture[str], name: str, reason: str, file: str
) -> None:
    pytest.importorskip("timm")
    constants = pytest.importorskip("huggingface_hub.constants")
    before = constants.HF_HUB_OFFLINE
    with pytest.raises(
        ModelError, match=rf"^model: .* timm:{name} .*{reason}.*{file}.*--checkpoint.*--weights no"
    ) as raised:
        load_model(f"timm:{name}")
    assert "\n" not in str(raised.value)
    assert len(offline) <= 2, "asked once, and perhaps for a file that lies elsewhere"
    assert "Retry" not in "".join(capfd.readouterr())
    assert constants.HF_HUB_OFFLINE is before


@pytest.mark.parametrize("options", [{}, {"weights": "none"}])
@pytest.mark.parametrize(
    "name",
    [
        "vit_base_patch16_224.mae",
        "vit_small_patch14_dinov2.lvd142m",
        "vit_base_patch16_clip_224.openai",
        "resnet50_clip.openai",
    ],
)
def test_timm_weights_without_a_classifier_are_refused(
    offline: list[str], name: str, options: dict[str, str]
) -> None:
    pytest.importorskip("timm")
    with pytest.raises(
        ModelError,
        match=rf"^model: .* the weights of timm:{re.escape(name)} have none: .* timm:\w+\.",
    ) as raised:
        load_model(f"timm:{name}", **options)
    assert "--checkpoint" in str(raised.value)
    assert offline == [], "nothing is downloaded before"


@pytest.mark.parametrize(
    ("tag", "classes"), [("laion2b_ft_in1k", 1000), ("laion2b_ft_in12k", 11821)]
)
def test_timm_weights_of_clip_that_learned_classes_are_taken(tag: str, classes: int) -> None:
    pytest.importorskip("timm")
    loaded = load_model(f"timm:vit_base_patch16_clip_224.{tag}", weights="none")
    assert len(loaded.class_names) == classes


@pytest.mark.parametrize(
    ("old", "current", "classes"),
    [
        ("tf_efficientnet_b0_ns", "tf_efficientnet_b0.ns_jft_in1k", 1000),
        ("vit_tiny_patch16_224_in21k", "vit_tiny_patch16_224.augreg_in21k", 21843),
        ("resnet18d.ra2_in1k", "resnet18d.ra2_in1k", 1000),
    ],
)
def test_deprecated_names_of_timm_lead_to_todays(
    tmp_path: Path, old: str, current: str, classes: int
) -> None:
    timm = pytest.importorskip("timm")
    loaded = load_model(f"timm:{old}", weights="none")
    assert loaded.name == f"timm:{old}"
    assert len(loaded.class_names) == classes
    config = timm.get_pretrained_cfg(current)
    assert (loaded.preprocessing.mean, loaded.preprocessing.std) == (config.mean, config.std)
    assert loaded.preprocessing.size == config.input_size[1:]
    with torch.random.fork_rng(devices=[]):
        original = timm.create_model(current, pretrained=False, num_classes=3).eval()
    torch.save(original.state_dict(), tmp_path / "three.pth")
    tuned = load_model(f"timm:{old}", checkpoint=tmp_path / "three.pth")
    assert_close(run_of(tuned.module, 224), run_of(original, 224), rtol=0, atol=1e-6)


def test_timm_name_that_ends_with_a_dot_is_answered_with_its_weights() -> None:
    pytest.importorskip("timm")
    with pytest.raises(ModelError, match=r"got 'resnet18\.'\. It knows \w+"):
        load_model("timm:resnet18.")


def test_timm_backbone_without_a_classifier_is_refused_as_a_checkpoint(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    with torch.random.fork_rng(devices=[]):
        backbone = timm.create_model("test_resnet", pretrained=False, num_classes=0)
    torch.save(backbone.state_dict(), tmp_path / "backbone.pth")
    with pytest.raises(
        ModelError, match=r"^checkpoint: backbone\.pth: .*with a classifier, but fc"
    ):
        load_model("timm:test_resnet", checkpoint=tmp_path / "backbone.pth")


@pytest.mark.parametrize("name", ["resnet18", "test_convnext", "test_vit", "test_nfnet"])
def test_checkpoint_goes_into_a_timm_model(tmp_path: Path, name: str) -> None:
    timm = pytest.importorskip("timm")
    with torch.random.fork_rng(devices=[]):
        original = timm.create_model(name, pretrained=False, num_classes=3).eval()
    torch.save({"state_dict": original.state_dict()}, tmp_path / "three.pth")
    loaded = load_model(f"timm:{name}", checkpoint=tmp_path / "three.pth")
    assert len(loaded.class_names) == 3
    assert loaded.name == f"timm:{name}"
    size = loaded.preprocessing.size[0]
    assert_close(run_of(loaded.module, size), run_of(original, size), rtol=0, atol=1e-6)
    assert not any(module.training for module in loaded.module.modules())


def test_checkpoint_of_another_model_is_refused_by_a_timm_model(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    torch.save({"fc.bias": torch.zeros(3)}, tmp_path / "odd.pth")
    with pytest.raises(ModelError, match=r"^checkpoint: odd\.pth: .*resnet18.*fc\.weight"):
        load_model("timm:resnet18", checkpoint=tmp_path / "odd.pth")
