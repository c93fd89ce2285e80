"""Where models come from: the bundled one, torchvision's, and checkpoints nobody should trust."""

import copy
import hashlib
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers.pickles import EVIL, FORBIDDEN, RunsCode, UnknownToCamreport, legacy, prefixed
from PIL import Image
from torch import Tensor, nn
from torch.testing import assert_close
from torchvision import models

from camreport.errors import ClassError, ModelError
from camreport.models import LoadedModel, bundled, load_model, zoo
from camreport.models.alexnet import AlexNet
from camreport.models.zoo import default_weights, preprocessing_of


def logits_of(model: nn.Module, size: int = 224) -> Tensor:
    """Return a model's logits of two fixed images."""
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model.eval()(images)


@pytest.fixture(scope="module")
def slim() -> models.AlexNet:
    """An AlexNet of two classes with a classifier of 16 and 12 units, random weights."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = models.AlexNet(num_classes=2)
        model.classifier[1] = nn.Linear(9216, 16)
        model.classifier[4] = nn.Linear(16, 12)
        model.classifier[6] = nn.Linear(12, 2)
    generator = torch.Generator().manual_seed(1)
    state = {
        key: torch.randn(tensor.shape, generator=generator) / max(1, tensor[0].numel()) ** 0.5
        for key, tensor in model.state_dict().items()
    }
    model.load_state_dict(state, assign=True)
    return model.eval()


@pytest.fixture(scope="module")
def squeezenet() -> models.SqueezeNet:
    """A SqueezeNet of ImageNet's classes, random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return models.squeezenet1_1().eval()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which torch hub keeps downloads; nothing can be downloaded."""

    def offline(*_given: object, **_options: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setattr(zoo, "urlopen", offline)
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_alexnet_has_torchvisions_modules_and_tensors() -> None:
    with torch.device("meta"):
        own, original = AlexNet(num_classes=10, hidden=4096), models.alexnet(num_classes=10)
    assert repr(own) == repr(original)
    assert [name for name, _ in own.named_modules()] == [n for n, _ in original.named_modules()]
    shapes = {key: tensor.shape for key, tensor in original.state_dict().items()}
    assert {key: tensor.shape for key, tensor in own.state_dict().items()} == shapes
    assert list(own.state_dict()) == list(shapes)


def test_bundled_model_gives_the_logits_of_torchvisions_alexnet(catdog: LoadedModel) -> None:
    with torch.device("meta"):
        original = models.alexnet(num_classes=2)
        original.classifier[1] = nn.Linear(9216, 256)
        original.classifier[4] = nn.Linear(256, 256)
        original.classifier[6] = nn.Linear(256, 2)
    original.load_state_dict(catdog.module.state_dict(), assign=True)
    for size in (224, 320):
        assert_close(logits_of(catdog.module, size), logits_of(original, size), rtol=0, atol=0)


def test_bundled_model_is_torchvisions_alexnet_with_a_slim_classifier(catdog: LoadedModel) -> None:
    with torch.device("meta"):
        original = models.alexnet()
    state, reference = catdog.module.state_dict(), original.state_dict()
    assert repr(catdog.module.features) == repr(original.features)
    assert list(map(type, catdog.module.classifier)) == list(map(type, original.classifier))
    assert list(state) == list(reference)
    assert all(tensor.dtype == torch.float32 for tensor in state.values())
    assert all(
        state[key].shape == reference[key].shape for key in state if key.startswith("features")
    )
    assert state["classifier.6.weight"].shape[0] == 2
    assert catdog.parameter_count == sum(tensor.numel() for tensor in state.values())
    assert not any(module.training for module in catdog.module.modules())
    assert (catdog.class_names, catdog.name) == (("cat", "dog"), "catdog-alexnet")


def test_bundled_model_holds_the_tensors_of_its_file(catdog: LoadedModel) -> None:
    data = bundled.WEIGHTS_FILE.read_bytes()
    assert catdog.sha256 == hashlib.sha256(data).hexdigest()
    expected = {key: tensor.float() for key, tensor in safetensors.torch.load(data).items()}
    assert_close(dict(catdog.module.state_dict()), expected, rtol=0, atol=0)


def test_bundled_model_is_found_again_in_a_file_with_the_whole_module(
    catdog: LoadedModel, tmp_path: Path
) -> None:
    torch.save(catdog.module, tmp_path / "whole.pth")
    loaded = load_model(checkpoint=tmp_path / "whole.pth")
    assert_close(logits_of(loaded.module), logits_of(catdog.module), rtol=0, atol=0)
    assert loaded.name == "alexnet"


def test_bundled_model_without_its_classifier_is_refused(catdog: LoadedModel) -> None:
    module = copy.deepcopy(catdog.module)
    module.classifier[6] = nn.Identity()
    with pytest.raises(ModelError, match=r"expected a classifier, but that of .* is taken off"):
        load_model(module)


def test_bundled_model_tells_cats_from_dogs(catdog: LoadedModel, photographs: Tensor) -> None:
    with torch.no_grad():
        logits = catdog.module(photographs)  # both, cat, dog
    assert logits.argmax(1).tolist() == [1, 0, 1]
    assert logits.softmax(1)[1:].max(1).values.min() > 0.9
    assert logits.sum(1).abs().max() < 1e-2, "the logits are centred"


@pytest.mark.parametrize("damage", ["flipped", "short", "missing"])
def test_bundled_model_is_refused_when_its_file_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    damaged = tmp_path / "catdog_alexnet.safetensors"
    data = bytearray(bundled.WEIGHTS_FILE.read_bytes())
    data[-1] ^= 1
    if damage != "missing":
        damaged.write_bytes(data if damage == "flipped" else data[:-1])
    monkeypatch.setattr(bundled, "WEIGHTS_FILE", damaged)
    with pytest.raises(ModelError, match=r"catdog_alexnet.safetensors.* Install camreport again"):
        load_model()


@pytest.mark.parametrize(
    ("name", "near"),
    [("catdog-alexnte", "catdog-alexnet"), ("resnet81", "resnet18"), ("AlexNet", "alexnet")],
)
def test_load_model_suggests_a_close_name(name: str, near: str) -> None:
    with pytest.raises(ModelError, match=f"got '{name}'. Did you mean '{near}'"):
        load_model(name)
    with pytest.raises(ModelError, match=f"got '{name}'. Did you mean '{near}'"):
        load_model(name, checkpoint="weights.pth")


@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn", "raft_small", "", "../alexnet"])
def test_load_model_refuses_what_is_no_classifier(name: str) -> None:
    with pytest.raises(ModelError, match=r"expected 'catdog-alexnet', .* a torchvision classifier"):
        load_model(name)


def test_load_model_takes_a_module_as_it_is() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).train()
    loaded = load_model(module, class_names=["a", "b", "c"])
    assert loaded.module is module
    assert module.training
    assert loaded.class_names == ("a", "b", "c")
    assert load_model(loaded) is loaded


def test_load_model_takes_torchvision_weights_from_the_hub_folder(
    hub: Path, squeezenet: models.SqueezeNet
) -> None:
    weights = models.SqueezeNet1_1_Weights.DEFAULT
    torch.save(squeezenet.state_dict(), hub / Path(weights.url).name)
    loaded = load_model("squeezenet1_1")
    assert_close(logits_of(loaded.module), logits_of(squeezenet), rtol=0, atol=0)
    assert not loaded.module.training
    assert loaded.class_names == tuple(weights.meta["categories"])
    assert str(hub) not in str(loaded.source)


@pytest.mark.parametrize(
    "name",
    [
        "alexnet",
        "resnet18",
        "inception_v3",
        "efficientnet_b0",
        "swin_t",
        "vit_b_16",
        "regnet_y_32gf",
    ],
)
def test_preprocessing_equals_that_of_torchvisions_weights(name: str) -> None:
    weights = default_weights(name)
    pixels = np.random.default_rng(0).integers(0, 256, (301, 450, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    prepared = preprocessing_of(weights).apply(picture)
    np.testing.assert_allclose(prepared, weights.transforms()(picture).numpy(), atol=1e-6)


def test_load_model_waits_for_no_answer_without_end(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, float]] = []

    def silent(request: Request, timeout: float) -> None:
        asked.append((request.get_method(), timeout))
        raise TimeoutError("timed out")

    monkeypatch.setattr(zoo, "urlopen", silent)
    with pytest.raises(ModelError, match=r"resnet18 could not be downloaded \(timed out\)"):
        load_model("resnet18")
    assert asked == [("HEAD", zoo.CONNECT_SECONDS)], "asked once, and nothing was downloaded"


def test_load_model_names_file_and_folder_when_offline(hub: Path) -> None:
    file = Path(models.ResNet18_Weights.DEFAULT.url).name
    with pytest.raises(ModelError, match="no route to host") as raised:
        load_model("resnet18")
    assert file in str(raised.value)
    assert str(hub) in str(raised.value)


@pytest.mark.parametrize("damage", [b"", b"<html>404</html>", "short", "other"])
def test_load_model_names_the_hub_file_when_it_is_damaged(
    hub: Path, squeezenet: models.SqueezeNet, damage: bytes | str
) -> None:
    file = hub / Path(models.SqueezeNet1_1_Weights.DEFAULT.url).name
    torch.save({} if damage == "other" else squeezenet.state_dict(), file)
    if damage != "other":
        file.write_bytes(damage if isinstance(damage, bytes) else file.read_bytes()[:100_000])
    with pytest.raises(ModelError, match=file.name):
        load_model("squeezenet1_1")


def test_load_model_runs_no_code_from_the_hub_folder(hub: Path, tmp_path: Path) -> None:
    torch.save(
        {"x": RunsCode(tmp_path / "ran")}, hub / Path(models.SqueezeNet1_1_Weights.DEFAULT.url).name
    )
    with pytest.raises((ModelError, RuntimeError)):
        load_model("squeezenet1_1")
    assert not (tmp_path / "ran").exists()


SAVED: dict[str, Callable[[nn.Module, Path], None]] = {
    "state dict": lambda m, f: torch.save(m.state_dict(), f),
    "state dict, legacy": lambda m, f: legacy(m.state_dict(), f),
    "state_dict": lambda m, f: torch.save({"state_dict": m.state_dict(), "epoch": 3}, f),
    "model": lambda m, f: torch.save({"optimizer": {"lr": 0.1}, "model": m.state_dict()}, f),
    "model_state_dict": lambda m, f: torch.save({"model_state_dict": m.state_dict()}, f),
    "module.": lambda m, f: torch.save(prefixed(m.state_dict(), "module."), f),
    "Lightning": lambda m, f: torch.save({"state_dict": prefixed(m.state_dict(), "model.")}, f),
    "both prefixes": lambda m, f: torch.save(prefixed(m.state_dict(), "module.model."), f),
    "twice wrapped": lambda m, f: torch.save(
        {"model": {"state_dict": prefixed(m.state_dict(), "module.")}}, f
    ),
    "safetensors": lambda m, f: safetensors.torch.save_file(m.state_dict(), f),
    "whole model": torch.save,
    "whole model, wrapped": lambda m, f: torch.save({"model": m, "epoch": 3}, f),
}


@pytest.mark.parametrize("way", SAVED)
def test_checkpoint_gives_the_original_logits(
    tmp_path: Path, slim: models.AlexNet, way: str
) -> None:
    file = tmp_path / ("w.safetensors" if way == "safetensors" else "w.pth")
    SAVED[way](slim, file)
    loaded = load_model("alexnet", checkpoint=file)
    assert_close(logits_of(loaded.module), logits_of(slim), rtol=0, atol=1e-6)
    assert not loaded.module.training
    assert [loaded.module.classifier[i].out_features for i in (1, 4, 6)] == [16, 12, 2]
    assert loaded.class_names == ("class 0", "class 1")
    assert loaded.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert "--class-names" in " ".join(map(str, loaded.notes))
    assert file.name in str(loaded.source)
    assert str(tmp_path) not in " ".join(map(str, (loaded.source, *loaded.notes)))


def test_checkpoint_is_float32_when_it_was_saved_in_half_precision(
    tmp_path: Path, slim: models.AlexNet
) -> None:
    torch.save({key: t.half() for key, t in slim.state_dict().items()}, tmp_path / "half.pth")
    loaded = load_model(checkpoint=tmp_path / "half.pth")
    assert {tensor.dtype for tensor in loaded.module.state_dict().values()} == {torch.float32}
    assert_close(logits_of(loaded.module), logits_of(slim), rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    "way",
    ["state dict", "state_dict", "whole model", "reversed"],
)
def test_checkpoint_counts_the_classes_of_other_architectures(tmp_path: Path, way: str) -> None:
    with torch.random.fork_rng(devices=[]):
        original = models.squeezenet1_1(num_classes=3)
    if way == "reversed":  # the order of keys says nothing: safetensors files are sorted
        torch.save(dict(reversed(original.state_dict().items())), tmp_path / "three.pth")
    else:
        SAVED[way](original, tmp_path / "three.pth")
    loaded = load_model("squeezenet1_1", checkpoint=tmp_path / "three.pth")
    assert len(loaded.class_names) == 3
    assert_close(logits_of(loaded.module), logits_of(original), rtol=0, atol=1e-6)
    own = preprocessing_of(default_weights("squeezenet1_1"))
    assert loaded.preprocessing == replace(own, whole_at_size=True)


def test_checkpoint_takes_class_names(tmp_path: Path, slim: models.AlexNet) -> None:
    torch.save(slim.state_dict(), tmp_path / "w.pth")
    loaded = load_model("alexnet", checkpoint=tmp_path / "w.pth", class_names=["猫", "狗"])
    assert loaded.class_names == ("猫", "狗")
    for wrong in (["one"], ["a", "b", "c"], []):
        with pytest.raises(ClassError, match=rf"expected 2, .* got {len(wrong)}"):
            load_model("alexnet", checkpoint=tmp_path / "w.pth", class_names=wrong)


def test_load_model_refuses_a_wrong_number_of_class_names() -> None:
    with pytest.raises(ClassError, match=r"expected 2, one per class of catdog-alexnet .*, got 3"):
        load_model(class_names=["a", "b", "c"])


@pytest.mark.parametrize("way", EVIL)
def test_checkpoint_runs_no_code(tmp_path: Path, way: str) -> None:
    EVIL[way](RunsCode(tmp_path / "ran"), tmp_path / "evil.pth")
    with pytest.raises(ModelError, match=r"checkpoint: evil.pth: refused") as raised:
        load_model("alexnet", checkpoint=tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()
    if way.startswith("zip"):
        assert FORBIDDEN in str(raised.value)
    pickle.loads(pickle.dumps(RunsCode(tmp_path / "ran")))
    assert (tmp_path / "ran").exists(), "the file was harmless: the test shows nothing"


@pytest.mark.parametrize("way", ["legacy", "pickle 2", "pickle in a dict"])
def test_checkpoint_names_what_it_refuses_in_old_files(tmp_path: Path, way: str) -> None:
    EVIL[way](RunsCode(tmp_path / "ran"), tmp_path / "evil.pth")
    with pytest.raises(ModelError, match=FORBIDDEN):
        load_model("alexnet", checkpoint=tmp_path / "evil.pth")


def test_checkpoint_names_only_what_it_refuses(tmp_path: Path, slim: models.AlexNet) -> None:
    torch.save({"model": slim, "x": RunsCode(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(ModelError, match=FORBIDDEN) as raised:
        load_model("alexnet", checkpoint=tmp_path / "evil.pth")
    assert "Conv2d" not in str(raised.value)


def test_checkpoint_refuses_a_model_of_unknown_classes(tmp_path: Path) -> None:
    torch.save(UnknownToCamreport(), tmp_path / "own.pth")
    with pytest.raises(ModelError, match=r"own.pth: refused.*UnknownToCamreport"):
        load_model("alexnet", checkpoint=tmp_path / "own.pth")


DAMAGED = {
    "empty.pth": b"",
    "empty.safetensors": b"",
    "page.pth": b"<!DOCTYPE html><html><body>404</body></html>",
    "page.safetensors": b"<!DOCTYPE html><html><body>404</body></html>",
    "zeros.pth": bytes(2000),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_checkpoint_names_the_file_when_it_is_damaged(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(DAMAGED[name])
    with pytest.raises(ModelError, match=f"^checkpoint: {name}"):
        load_model("alexnet", checkpoint=tmp_path / name)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
@pytest.mark.parametrize("way", ["state dict", "state dict, legacy", "safetensors"])
def test_checkpoint_names_the_file_when_it_is_truncated(
    tmp_path: Path, slim: models.AlexNet, way: str, share: float
) -> None:
    file = tmp_path / ("short.safetensors" if way == "safetensors" else "short.pth")
    SAVED[way](slim, file)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelError, match=f"^checkpoint: {file.name}"):
        load_model("alexnet", checkpoint=file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "expected a state dict, got list"),
        ({}, "expected a state dict, got an empty one"),
        (torch.zeros(3), "expected a state dict, got Tensor"),
        ({"epoch": 3}, r"it holds 'epoch' \(int\)"),
        ({"a.bias": torch.zeros(3)}, "features.0.weight, .* missing; a.bias unexpected"),
    ],
)
def test_checkpoint_says_what_it_found_instead_of_weights(
    tmp_path: Path, content: object, message: str
) -> None:
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(ModelError, match=rf"^checkpoint: odd.pth.*{message}"):
        load_model("alexnet", checkpoint=tmp_path / "odd.pth")


@pytest.mark.parametrize("architecture", ["alexnet", "catdog-alexnet", "resnet18"])
def test_checkpoint_names_keys_when_the_architecture_is_another(
    tmp_path: Path, squeezenet: models.SqueezeNet, architecture: str
) -> None:
    torch.save(squeezenet.state_dict(), tmp_path / "squeeze.pth")
    with pytest.raises(ModelError, match=r"^checkpoint: squeeze.pth.*--model") as raised:
        load_model(architecture, checkpoint=tmp_path / "squeeze.pth")
    expected = "AlexNet, VGG or ResNet" if architecture == "catdog-alexnet" else "missing"
    assert expected in str(raised.value)


@pytest.mark.parametrize("trouble", ["missing", "unexpected", "of another shape"])
def test_checkpoint_names_each_key_that_does_not_fit(
    tmp_path: Path, slim: models.AlexNet, trouble: str
) -> None:
    state = dict(slim.state_dict())
    if trouble == "missing":
        del state["features.3.bias"]
    elif trouble == "unexpected":
        state["features.3.extra"] = torch.zeros(1)
    else:
        state["features.3.bias"] = torch.zeros(7)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=rf"w.pth.*features\.3\.\w+.*{trouble}"):
        load_model("alexnet", checkpoint=tmp_path / "w.pth")


@pytest.mark.parametrize("gone", ["nowhere.pth", "folder"])
def test_checkpoint_names_the_file_when_it_cannot_be_opened(tmp_path: Path, gone: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelError, match=f"^checkpoint: {gone} cannot be read"):
        load_model("alexnet", checkpoint=tmp_path / gone)


def test_checkpoint_names_the_file_when_a_matrix_is_none(
    tmp_path: Path, slim: models.AlexNet
) -> None:
    state = {**slim.state_dict(), "classifier.1.weight": torch.zeros(3)}
    torch.save(state, tmp_path / "vector.pth")
    with pytest.raises(ModelError, match=r"vector.pth"):
        load_model("alexnet", checkpoint=tmp_path / "vector.pth")


@pytest.mark.parametrize("data", [b"\x80\x02.", b"epoch 1: loss 0.3\n", b"\x80\x02e."])
def test_checkpoint_names_the_file_whatever_torch_raises(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "broken.pth").write_bytes(data)
    with pytest.raises(ModelError, match=r"broken.pth"):
        load_model("alexnet", checkpoint=tmp_path / "broken.pth")
