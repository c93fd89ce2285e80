"""A network without its classifier has no classes to explain, and is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from camreport.errors import ModelError
from camreport.models import load_model


def resnet() -> nn.Module:
    model = models.resnet18(num_classes=3)
    model.fc = nn.Identity()
    return model


def squeezed() -> nn.Module:
    model = models.mobilenet_v3_small(num_classes=3)
    model.classifier[3] = nn.Identity()
    return model


def of_timm(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        timm = pytest.importorskip("timm")
        return timm.create_model(name, pretrained=False, num_classes=0)

    return build


TAKEN_OFF = {
    "ResNet": resnet,
    "MobileNet": squeezed,
    "timm's ResNet": of_timm("test_resnet"),
    "timm's ConvNeXt, whose head flattens": of_timm("test_convnext"),
    "timm's ViT": of_timm("test_vit"),
}


@pytest.mark.parametrize("which", TAKEN_OFF)
def test_network_without_its_classifier_is_refused(which: str) -> None:
    with torch.random.fork_rng(devices=[]):
        backbone = TAKEN_OFF[which]()
    with pytest.raises(
        ModelError, match=r"^model: expected a classifier, .* is taken off: .* not c"
    ):
        load_model(backbone)


def test_whole_model_without_its_classifier_is_refused(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.save(resnet(), tmp_path / "whole.pth")
    with pytest.raises(ModelError, match=r"ResNet \(checkpoint whole\.pth\) is taken off"):
        load_model(checkpoint=tmp_path / "whole.pth")


def test_own_code_that_returns_a_backbone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("backbone.py").write_text(
        "from torch import nn\nfrom torchvision import models\n"
        "def build():\n    net = models.resnet18()\n    net.fc = nn.Identity()\n    return net\n"
    )
    with torch.random.fork_rng(devices=[]), pytest.raises(ModelError, match="is taken off"):
        load_model("backbone.py:build")


def with_a_head_of_its_own() -> nn.Module:
    model = resnet()
    model.fc = nn.Sequential(nn.Dropout(), nn.Linear(512, 3))
    return model


def timm_with_a_head_of_its_own() -> nn.Module:
    model = of_timm("test_resnet")()
    model.fc = nn.Linear(model.num_features, 3)
    return model


KEPT = {
    "another head": with_a_head_of_its_own,
    "a head put on afterwards": timm_with_a_head_of_its_own,
    "a head around it": lambda: nn.Sequential(resnet(), nn.Linear(512, 3)),
    "a convolution for a head": lambda: models.squeezenet1_1(num_classes=3),
    "the user's own network": lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.Identity()),
}


@pytest.mark.parametrize("which", KEPT)
def test_network_with_a_classifier_is_taken(which: str) -> None:
    with torch.random.fork_rng(devices=[]):
        module = KEPT[which]()
    assert load_model(module).module is module
