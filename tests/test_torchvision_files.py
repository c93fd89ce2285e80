"""Weights files of torchvision's classifiers: older names, what tensors do not tell, what is built.

The oracle is torchvision's own loading of the same tensors.
"""

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import assert_same_model, filled, logits_of
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision import models
from torchvision.models import densenet, mnasnet

from camreport.errors import ModelError
from camreport.models import load_model, zoo

RESCALED = [
    ("googlenet", 64),
    pytest.param("inception_v3", 128, marks=pytest.mark.slow),
]


def saved(state: Mapping[str, Tensor], folder: Path) -> Path:
    torch.save(OrderedDict(state), folder / "w.pth")
    return folder / "w.pth"


def rescaling(name: str, transform_input: bool) -> nn.Module:
    """Return GoogLeNet or Inception of three classes, filled with noise."""
    options = {"aux_logits": False, "init_weights": False, "transform_input": transform_input}
    return filled(partial(models.get_model, name, num_classes=3, **options))


# What tensors do not tell


@pytest.mark.parametrize(("name", "size"), RESCALED)
def test_input_is_rescaled_as_for_torchvisions_weights(
    tmp_path: Path, name: str, size: int
) -> None:
    tuned = rescaling(name, transform_input=True)
    loaded = load_model(name, checkpoint=saved(tuned.state_dict(), tmp_path))
    assert_same_model(loaded.module, tuned, size)
    (note,) = (str(note) for note in loaded.notes if str(note).startswith("input:"))
    assert note.startswith(f"input: {name} rescales it to mean 0.5 and std 0.5")
    assert "transform_input=False: --model file.py:build" in note


def test_rescaling_that_torchvision_does_is_the_one_that_is_described() -> None:
    """With ImageNet's mean and std in front, the network sees (pixel - 0.5) / 0.5."""
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    seen = rescaling("googlenet", transform_input=True)._transform_input((pixels - mean) / std)
    assert_close(seen, (pixels - 0.5) / 0.5, rtol=0, atol=1e-5)


def test_own_code_says_that_nothing_is_rescaled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = rescaling("googlenet", transform_input=False)
    file = saved(scratch.state_dict(), tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("googlenet_from_scratch.py").write_text(
        "from torchvision import models\n"
        "def build():\n"
        "    return models.googlenet(num_classes=3, aux_logits=False, init_weights=False,\n"
        "                            transform_input=False)\n"
    )
    loaded = load_model("googlenet_from_scratch.py:build", checkpoint=file)
    assert_same_model(loaded.module, scratch)
    assert not any(str(note).startswith("input:") for note in loaded.notes)


def test_whole_model_knows_whether_it_rescales(tmp_path: Path) -> None:
    scratch = rescaling("googlenet", transform_input=False)
    torch.save(scratch, tmp_path / "whole.pth")
    loaded = load_model("googlenet", checkpoint=tmp_path / "whole.pth")
    assert_same_model(loaded.module, scratch)
    assert not any(str(note).startswith("input:") for note in loaded.notes)


def test_random_weights_rescale_nothing() -> None:
    assert not load_model("googlenet", weights="none").module.transform_input


# Names of older versions


class Released:
    """Weights as torchvision's own loader asks for them."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = dict(state)

    def get_state_dict(self, **_options: object) -> dict[str, Tensor]:
        """Return the tensors, under the file's own names."""
        return dict(self.state)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_densenet_files_of_torchvision_are_read(tmp_path: Path, prefix: str) -> None:
    original = filled(lambda: models.densenet121(num_classes=3), seed=5)
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): tensor
        for key, tensor in original.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    expected = models.densenet121(num_classes=3)
    densenet._load_state_dict(expected, Released(old), progress=False)
    file = saved({prefix + key: tensor for key, tensor in old.items()}, tmp_path)
    assert_same_model(load_model("densenet121", checkpoint=file).module, expected)


def test_vision_transformer_files_of_torchvision_are_read(tmp_path: Path) -> None:
    original = filled(lambda: models.vit_b_32(num_classes=3), seed=6)
    names = {"mlp.0.": "mlp.linear_1.", "mlp.3.": "mlp.linear_2."}
    old = {
        re.sub(r"mlp\.[03]\.", lambda found: names[found[0]], key): tensor
        for key, tensor in original.state_dict().items()
    }
    assert "encoder.layers.encoder_layer_0.mlp.linear_2.bias" in old
    with torch.device("meta"):
        expected = models.vit_b_32(num_classes=3)
    expected.load_state_dict(dict(old), assign=True)
    loaded = load_model("vit_b_32", checkpoint=saved(old, tmp_path))
    assert_same_model(loaded.module, expected, 224)


def first_mnasnet() -> nn.Module:
    """Return MNASNet 0.5 as torchvision's first version had it: a stem as wide as MNASNet 1's."""
    model = models.mnasnet0_5(num_classes=3)
    wide = models.mnasnet1_0().layers
    narrow = mnasnet._get_depths(0.5)
    for place in range(6):
        model.layers[place] = wide[place]
    model.layers[6] = nn.Conv2d(32, 16, 1, bias=False)
    model.layers[7] = nn.BatchNorm2d(16)
    model.layers[8] = mnasnet._stack(16, narrow[2], 3, 2, 3, 3, 0.1)
    return model


@pytest.mark.parametrize("version", ["first", "current"])
def test_mnasnet_files_of_both_versions_are_read(tmp_path: Path, version: str) -> None:
    build = partial(models.mnasnet0_5, num_classes=3) if version == "current" else first_mnasnet
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        original = build().eval()
        for tensor in (t for t in original.state_dict().values() if t.ndim > 1):
            nn.init.kaiming_normal_(tensor)
    loaded = load_model("mnasnet0_5", checkpoint=saved(original.state_dict(), tmp_path))
    assert_same_model(loaded.module, original)


def test_names_of_other_architectures_stay_as_they_are(tmp_path: Path) -> None:
    """A file for the user's own code may call its layers as an old DenseNet did."""
    (tmp_path / "net_with_old_names.py").write_text(
        "from collections import OrderedDict\nfrom torch import nn\n"
        "def build():\n"
        "    layer = nn.Module()\n"
        "    inner = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 4, 3))\n"
        "    return nn.Sequential(OrderedDict(denselayer1=nn.Sequential(OrderedDict(conv=inner)),\n"
        "        pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten()))\n"
    )
    with torch.random.fork_rng(devices=[]):
        inner = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 4, 3))
    original = nn.Sequential(inner, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    state = {f"denselayer1.conv.{key}": t for key, t in inner.state_dict().items()}
    loaded = load_model(
        f"{tmp_path / 'net_with_old_names.py'}:build", checkpoint=saved(state, tmp_path)
    )
    assert_close(logits_of(loaded.module), logits_of(original), rtol=0, atol=1e-6)


# What is built to tell an architecture


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the classifiers that were built, in order; nothing is known beforehand."""
    built: list[str] = []
    get_model = models.get_model

    def counted(name: str, **options: object) -> nn.Module:
        built.append(name)
        return get_model(name, **options)

    monkeypatch.setattr(models, "get_model", counted)
    zoo._shapes_of.cache_clear()
    yield built
    zoo._shapes_of.cache_clear()


def test_unknown_file_is_refused_without_building_anything(
    tmp_path: Path, builds: list[str]
) -> None:
    state = {f"stages.{i}.weight": torch.zeros(4, 4) for i in range(500)}
    with pytest.raises(ModelError, match="expected the weights of an AlexNet, VGG or ResNet"):
        load_model(checkpoint=saved(state, tmp_path))
    assert builds == []


def test_architecture_is_recognised_by_building_each_candidate_once(
    tmp_path: Path, builds: list[str]
) -> None:
    original = filled(lambda: models.wide_resnet50_2(num_classes=3))
    file = saved(original.state_dict(), tmp_path)
    assert load_model(checkpoint=file).name == "wide_resnet50_2"
    assert builds.count("resnet50") == 1
    assert not any(name.startswith("vgg") for name in builds), "another first tensor"
    known = len(builds)
    load_model(checkpoint=file)
    assert set(builds[known:]) == {"wide_resnet50_2"}, "the others are remembered"


def test_near_miss_names_the_nearest_classifier(tmp_path: Path) -> None:
    state = filled(lambda: models.resnet34(num_classes=3)).state_dict()
    del state["layer3.5.conv2.weight"]
    with pytest.raises(
        ModelError,
        match=r"The nearest is resnet34, but then there is layer3\.5\.conv2\.weight missing\. ",
    ):
        load_model(checkpoint=saved(state, tmp_path))


class Largest(TorchDispatchMode):
    """Remembers the largest tensor with values that was made."""

    numbers = 0

    def __torch_dispatch__(
        self,
        func: object,
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        made = func(*args, **(kwargs or {}))  # type: ignore[operator]
        if isinstance(made, Tensor) and made.device.type != "meta":
            self.numbers = max(self.numbers, made.numel())
        return made


@pytest.mark.parametrize(
    ("model", "last"),
    [
        ("catdog-alexnet", "classifier.6.weight"),
        ("alexnet", "classifier.6.weight"),
        ("regnet_x_400mf", "fc.weight"),
        ("squeezenet1_1", "classifier.1.weight"),
        ("efficientnet-lite0", "_fc.weight"),
        ("timm:test_resnet", "fc.weight"),
    ],
)
def test_many_classes_reserve_no_memory_before_they_fit(
    tmp_path: Path, model: str, last: str
) -> None:
    if model.startswith("eff"):
        pytest.importorskip("efficientnet_lite_pytorch")
    if model.startswith("timm"):
        pytest.importorskip("timm")
    file = saved({last: torch.zeros(300_000, 1), "features.0.weight": torch.zeros(1)}, tmp_path)
    with Largest() as largest, pytest.raises(ModelError, match=r"^checkpoint: w\.pth: expected"):
        load_model(model, checkpoint=file)
    assert 0 < largest.numbers < 20_000_000, "the classes alone would take more"
