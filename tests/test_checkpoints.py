"""Weights files of every kind: they give the original logits, or a sentence."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch
from helpers.checkpoints import (
    Builder,
    archive,
    assert_same_model,
    filled,
    logits_of,
    plain,
    slim_alexnet,
)
from helpers.pickles import legacy, prefixed
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.testing import assert_close
from torchvision import models
from torchvision.models import VisionTransformer

from camreport.errors import ModelError
from camreport.models import load_model


def small_vit() -> nn.Module:
    return VisionTransformer(
        image_size=32,
        patch_size=16,
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        mlp_dim=32,
        num_classes=3,
    )


def resnet_with_dropout() -> nn.Module:
    model = models.resnet18()
    model.fc = nn.Sequential(nn.Dropout(0.5), nn.Linear(512, 2))
    return model


# Wrappers of state dicts


def averaged(module: nn.Module) -> dict[str, Tensor]:
    return AveragedModel(module).state_dict()


WRAPPED: dict[str, Callable[[nn.Module], object]] = {
    "net": lambda m: {"net": m.state_dict(), "acc": 93.1, "epoch": 7},
    "network": lambda m: {"network": m.state_dict()},
    "state_dict_ema alone": lambda m: {"state_dict_ema": m.state_dict(), "epoch": 7},
    "model_ema alone": lambda m: {"model_ema": m.state_dict()},
    "averaged": averaged,
    "averaged, wrapped": lambda m: {"model_ema": averaged(m)},
    "compiled": lambda m: prefixed(m.state_dict(), "_orig_mod."),
    "compiled, in parallel": lambda m: prefixed(m.state_dict(), "module._orig_mod."),
    "Lightning, model": lambda m: {
        "pytorch-lightning_version": "2.4.0",
        "epoch": 1,
        "state_dict": prefixed(m.state_dict(), "model."),
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}}],
        "hyper_parameters": {"lr": 1e-3},
    },
    "Lightning, net": lambda m: {"state_dict": prefixed(m.state_dict(), "net."), "epoch": 1},
    "unknown key": lambda m: {"weights": m.state_dict(), "epoch": 7},
    "unknown key alone": lambda m: {"best": m.state_dict()},
    "optimizer beside": lambda m: {
        "model_state_dict": m.state_dict(),
        "optimizer_state_dict": {
            "state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3)}},
            "param_groups": [{"lr": 0.1, "params": [0]}],
        },
        "loss": 0.3,
    },
    "parameters": lambda m: dict(m.named_parameters()),
}


@pytest.mark.parametrize("way", WRAPPED)
def test_wrapped_weights_give_the_original_logits(
    tmp_path: Path, alexnet: nn.Module, way: str
) -> None:
    torch.save(WRAPPED[way](alexnet), tmp_path / "w.pth")
    for model in ("alexnet", "catdog-alexnet"):
        loaded = load_model(model, checkpoint=tmp_path / "w.pth")
        assert loaded.name == "alexnet"
        assert_same_model(loaded.module, alexnet)
        assert not any(str(note).startswith("weights:") for note in loaded.notes)


@pytest.mark.parametrize("average", ["state_dict_ema", "model_ema"])
@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_plain_weights_are_preferred_to_an_average_with_a_note(
    tmp_path: Path, alexnet: nn.Module, other: nn.Module, key: str, average: str
) -> None:
    content = {average: other.state_dict(), key: alexnet.state_dict()}
    torch.save(content, tmp_path / "w.pth")
    loaded = load_model("alexnet", checkpoint=tmp_path / "w.pth")
    assert_same_model(loaded.module, alexnet)
    note = f"weights: the file holds '{key}' and the average '{average}'; '{key}' is used"
    assert note in map(str, loaded.notes)


def test_weights_are_not_guessed_between_two_unknown_keys(
    tmp_path: Path, alexnet: nn.Module, other: nn.Module
) -> None:
    torch.save({"teacher": other.state_dict(), "student": alexnet.state_dict()}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"w\.pth: expected a state dict.*'teacher'.*'student'"):
        load_model("alexnet", checkpoint=tmp_path / "w.pth")


# Whole modules

WHOLE: dict[str, tuple[Builder, int, str]] = {
    "AlexNet of two classes": (slim_alexnet, 64, "alexnet"),
    "ResNet18": (lambda: models.resnet18(num_classes=3), 64, "resnet18"),
    "ResNet18 with a head of its own": (resnet_with_dropout, 64, "ResNet"),
    "small ViT": (small_vit, 32, "VisionTransformer"),
    "Sequential": (plain, 64, "Sequential"),
    "MobileNet": (lambda: models.mobilenet_v3_small(num_classes=3), 64, "MobileNetV3"),
}
BEFORE: dict[str, Callable[[nn.Module], nn.Module]] = {
    "bare": lambda module: module,
    "in training mode": lambda module: module.train(),
    "in parallel": nn.DataParallel,
}


@pytest.mark.parametrize("save", [torch.save, legacy], ids=["zip", "before PyTorch 1.6"])
@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("which", WHOLE)
def test_whole_module_gives_the_original_logits(
    tmp_path: Path, as_found: None, which: str, before: str, save: Callable[..., None]
) -> None:
    build, size, name = WHOLE[which]
    original = filled(build, seed=5)
    save(BEFORE[before](original), tmp_path / "whole.pth")
    loaded = load_model(checkpoint=tmp_path / "whole.pth", image_size=size)
    assert_same_model(loaded.module, original, size)
    assert type(loaded.module) is type(original)
    assert loaded.name == name
    assert len(loaded.class_names) == logits_of(original, size).shape[1]


def test_whole_module_of_a_fixed_size_says_which_flag_changes_it(tmp_path: Path) -> None:
    torch.save(filled(small_vit), tmp_path / "vit.pth")
    with pytest.raises(ModelError, match=r"VisionTransformer fails on .*224 × 224.*--image-size"):
        load_model(checkpoint=tmp_path / "vit.pth")


def test_whole_module_is_float32_when_it_was_saved_in_half_precision(tmp_path: Path) -> None:
    original = filled(plain).half()
    torch.save(original, tmp_path / "half.pth")
    loaded = load_model(checkpoint=tmp_path / "half.pth")
    assert {p.dtype for p in loaded.module.parameters()} == {torch.float32}
    assert_same_model(loaded.module, original.float())


def test_module_inside_a_wrapper_is_found(tmp_path: Path) -> None:
    original = filled(slim_alexnet)
    state = {f"backbone.{key}": value for key, value in original.state_dict().items()}
    torch.save(state, tmp_path / "backbone.pth")
    assert_same_model(load_model(checkpoint=tmp_path / "backbone.pth").module, original)


def test_another_head_is_named_with_what_is_missing_and_what_is_left(tmp_path: Path) -> None:
    model = models.resnet18(num_classes=3)
    model.fc = nn.Sequential(nn.Dropout(0.2), nn.Linear(512, 3))
    torch.save(model.state_dict(), tmp_path / "head.pth")
    message = r"fc\.weight, fc\.bias missing; fc\.1\.weight, fc\.1\.bias unexpected"
    with pytest.raises(ModelError, match=rf"head\.pth.* nearest is resnet18.* {message}"):
        load_model(checkpoint=tmp_path / "head.pth")
    with pytest.raises(ModelError, match=rf"head\.pth.* {message}.*--model file\.py:build"):
        load_model("resnet18", checkpoint=tmp_path / "head.pth")


def test_archive_of_other_files_is_distinguished_from_a_damaged_one(tmp_path: Path) -> None:
    archive(tmp_path / "weights.zip", {"weights.pth": b"...", "readme.txt": b""})
    with pytest.raises(
        ModelError, match=r"weights\.zip: a zip archive, .* holds weights\.pth, readme"
    ):
        load_model(checkpoint=tmp_path / "weights.zip")


def test_whole_module_of_another_architecture_is_refused(tmp_path: Path) -> None:
    torch.save(filled(slim_alexnet), tmp_path / "alex.pth")
    with pytest.raises(ModelError, match=r"^checkpoint: alex\.pth: holds a whole AlexNet"):
        load_model("resnet18", checkpoint=tmp_path / "alex.pth")


# Architectures recognised from their tensors


def constant_state(module: nn.Module) -> dict[str, Tensor]:
    """Return a state dict of constants; one number is stored for each tensor."""
    return {
        key: torch.full((), 1e-3, dtype=tensor.dtype).expand(tensor.shape)
        for key, tensor in module.state_dict().items()
    }


def slim_vgg(name: str) -> nn.Module:
    model = models.get_model(name, num_classes=3)
    model.classifier[0] = nn.Linear(512 * 49, 20)
    model.classifier[3] = nn.Linear(20, 10)
    model.classifier[6] = nn.Linear(10, 3)
    return model


GUESSED: dict[str, Builder] = {
    "alexnet": slim_alexnet,
    **{
        name: partial(models.get_model, name, num_classes=3)
        for name in ("resnet18", "resnet34", "resnet50", "resnext50_32x4d", "wide_resnet50_2")
    },
    **{name: partial(slim_vgg, name) for name in ("vgg11", "vgg13_bn", "vgg16", "vgg16_bn")},
}


@pytest.mark.parametrize("name", GUESSED)
def test_architecture_is_recognised_from_the_tensors(tmp_path: Path, name: str) -> None:
    with torch.device("meta"):
        original = GUESSED[name]()
    torch.save(constant_state(original), tmp_path / "w.pth")
    loaded = load_model(checkpoint=tmp_path / "w.pth", image_size=64)
    assert loaded.name == name
    assert repr(loaded.module) == repr(original)
    assert len(loaded.class_names) == (2 if name == "alexnet" else 3)


def test_architecture_is_recognised_with_a_prefix(tmp_path: Path, resnet: nn.Module) -> None:
    torch.save({"state_dict": prefixed(resnet.state_dict(), "module.")}, tmp_path / "w.pth")
    loaded = load_model(checkpoint=tmp_path / "w.pth")
    assert loaded.name == "resnet18"
    assert_same_model(loaded.module, resnet)


def test_nearest_architecture_is_named_when_none_fits(tmp_path: Path, resnet: nn.Module) -> None:
    state = {**resnet.state_dict(), "attention.weight": torch.zeros(3)}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(
        ModelError, match=r"w\.pth.*nearest is resnet18.*attention\.weight unexpected.*--model"
    ):
        load_model(checkpoint=tmp_path / "w.pth")


# What state dicts leave out, and how they were stored


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_of_another_precision_are_used_as_float32(
    tmp_path: Path, resnet: nn.Module, dtype: torch.dtype, suffix: str
) -> None:
    state = {
        key: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for key, tensor in resnet.state_dict().items()
    }
    file = tmp_path / f"w.{suffix}"
    (torch.save if suffix == "pth" else safetensors.torch.save_file)(state, file)
    loaded = load_model("resnet18", checkpoint=file)
    kept = loaded.module.state_dict()
    assert {t.dtype for t in kept.values() if t.is_floating_point()} == {torch.float32}
    assert_close(
        {key: kept[key] for key in state},
        {key: t.float() if t.is_floating_point() else t for key, t in state.items()},
        rtol=0,
        atol=0,
    )
    assert logits_of(loaded.module).dtype == torch.float32


@pytest.mark.parametrize("saved", ["state dict", "state dict, legacy", "whole"])
def test_weights_saved_on_cuda_are_loaded_on_the_cpu(
    tmp_path: Path, alexnet: nn.Module, monkeypatch: pytest.MonkeyPatch, saved: str
) -> None:
    file = tmp_path / "cuda.pth"
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        if saved == "whole":
            torch.save(alexnet, file)
        else:
            (legacy if "legacy" in saved else torch.save)(alexnet.state_dict(), file)
    assert b"cuda:0" in file.read_bytes()
    loaded = load_model("alexnet", checkpoint=file)
    assert {tensor.device.type for tensor in loaded.module.state_dict().values()} == {"cpu"}
    assert_same_model(loaded.module, alexnet)


@pytest.mark.parametrize("model", ["resnet18", "catdog-alexnet"])
def test_counters_of_batches_may_be_missing(tmp_path: Path, resnet: nn.Module, model: str) -> None:
    state = {k: t for k, t in resnet.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert len(state) < len(resnet.state_dict())
    torch.save(state, tmp_path / "w.pth")
    assert_same_model(load_model(model, checkpoint=tmp_path / "w.pth").module, resnet)


def test_averages_of_batches_may_not_be_missing(tmp_path: Path, resnet: nn.Module) -> None:
    state = {k: t for k, t in resnet.state_dict().items() if k != "bn1.running_mean"}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"w\.pth.*bn1\.running_mean missing"):
        load_model("resnet18", checkpoint=tmp_path / "w.pth")


@pytest.mark.parametrize("auxiliary", [True, False])
@pytest.mark.parametrize(
    ("name", "size", "prefix"),
    [
        ("googlenet", 64, "aux"),
        pytest.param("inception_v3", 128, "AuxLogits", marks=pytest.mark.slow),
    ],
)
def test_auxiliary_heads_may_be_there_or_not(
    tmp_path: Path, name: str, size: int, prefix: str, auxiliary: bool
) -> None:
    options = {"aux_logits": auxiliary, "transform_input": True, "init_weights": False}
    original = filled(partial(models.get_model, name, num_classes=3, **options))
    state = original.state_dict()
    assert any(key.startswith(prefix) for key in state) is auxiliary
    torch.save(state, tmp_path / "w.pth")
    loaded = load_model(name, checkpoint=tmp_path / "w.pth")
    assert len(loaded.class_names) == 3
    assert_same_model(loaded.module, original, size)


def test_half_of_the_auxiliary_heads_are_named(tmp_path: Path) -> None:
    original = filled(partial(models.googlenet, num_classes=3, init_weights=False))
    state = {k: t for k, t in original.state_dict().items() if not k.startswith("aux2.")}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"w\.pth.*aux2\.conv\.conv\.weight.*missing"):
        load_model("googlenet", checkpoint=tmp_path / "w.pth")
