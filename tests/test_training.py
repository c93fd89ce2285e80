"""The training script: folding, centring, schedule, augmentation, resuming, bad folders."""

import importlib.util
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

SCRIPT = Path(__file__).parents[1] / "training" / "train_catdog.py"
SLIM_SHAPES = {
    "features.0": (64, 3, 11, 11),
    "features.3": (192, 64, 5, 5),
    "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3),
    "features.10": (256, 256, 3, 3),
    "classifier.1": (256, 9216),
    "classifier.4": (256, 256),
    "classifier.6": (2, 256),
}


def load_script() -> ModuleType:
    """Import the script from its file, as it belongs to no package."""
    spec = importlib.util.spec_from_file_location("train_catdog", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = load_script()


@pytest.fixture(autouse=True)
def _keep_random_state() -> Iterator[None]:
    """Leave torch's default generator as it was: a run seeds it."""
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Eight normalised inputs, (8, 3, 64, 64)."""
    return torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
@torch.no_grad()
def trained(images: Tensor) -> nn.Module:
    """A training network whose batch norms are far from the identity, with logits around 1."""
    generator = torch.Generator().manual_seed(0)
    model = script.build_training_model(generator).eval()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            norm.weight.normal_(generator=generator)  # about half of them negative
            norm.weight[::7] *= 1e-6
            norm.bias.normal_(generator=generator)
            norm.running_mean.normal_(std=3, generator=generator)
            norm.running_var.uniform_(0.01, 20, generator=generator)
    model.classifier[6].weight /= model(images).std()
    model.classifier[6].bias.normal_(generator=generator)
    return model


def striped(count: int) -> script.Photographs:
    """Make noisy photographs with stripes, across for the first class, upright for the second."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(count) % 2
    across = ((torch.arange(200) // 20) % 2 * 160).view(200, 1).expand(200, 200)
    stripes = torch.stack([across, across.T])[labels]  # (N, 200, 200)
    noise = torch.randint(0, 80, (count, 3, 200, 200), generator=generator)
    return script.Photographs((stripes[:, None] + noise).to(torch.uint8), labels)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with four training and two test photographs of each class."""
    photographs = striped(12)
    for index, (pixels, label) in enumerate(
        zip(photographs.pixels, photographs.labels, strict=True)
    ):
        folder = tmp_path / "data" / ("train" if index < 8 else "test") / script.CLASSES[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / f"{index}.png")
    return tmp_path / "data"


# Folding and centring


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_fold_keeps_the_logits(
    dtype: torch.dtype, share: float, trained: nn.Module, images: Tensor
) -> None:
    model, inputs = deepcopy(trained).to(dtype), images.to(dtype)
    logits, folded = model(inputs), script.fold_batch_norm(model)(inputs)
    torch.testing.assert_close(folded, logits, rtol=0, atol=share * logits.abs().max().item())


def test_fold_follows_the_formula(trained: nn.Module) -> None:
    folded = script.fold_batch_norm(trained)
    for part, index in (("features", 3), ("classifier", 4)):
        layer, norm = getattr(trained, part)[index]
        factor = norm.weight / (norm.running_var + 1e-5).sqrt()
        weight = torch.stack([row * gain for row, gain in zip(layer.weight, factor, strict=True)])
        bias = norm.bias + (layer.bias - norm.running_mean) * factor
        torch.testing.assert_close(getattr(folded, part)[index].weight, weight)
        torch.testing.assert_close(getattr(folded, part)[index].bias, bias)


def test_fold_and_centring_leave_their_argument_alone(trained: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    folded = script.fold_batch_norm(trained)
    bias = folded.classifier[6].bias.clone()
    script.centre_logits(folded)
    assert torch.equal(folded.classifier[6].bias, bias)
    after = trained.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_folded_weights_load_into_torchvision_alexnet(trained: nn.Module) -> None:
    folded = script.centre_logits(script.fold_batch_norm(trained)).state_dict()
    script.build_plain_model().load_state_dict(folded, strict=True)
    weights = {name.removesuffix(".weight") for name in folded if name.endswith("weight")}
    assert weights == set(SLIM_SHAPES)
    for name, shape in SLIM_SHAPES.items():
        assert folded[f"{name}.weight"].shape == shape
        assert folded[f"{name}.bias"].shape == shape[:1]


@torch.no_grad()
def test_centring_keeps_the_probabilities(trained: nn.Module, images: Tensor) -> None:
    plain = script.fold_batch_norm(trained)
    logits, centred = plain(images), script.centre_logits(plain)(images)
    assert logits.sum(1).abs().min() > 0.01
    assert centred.softmax(1).min() > 1e-4
    torch.testing.assert_close(centred.softmax(1), logits.softmax(1), rtol=0, atol=1e-5)
    torch.testing.assert_close(centred.sum(1), torch.zeros(8), rtol=0, atol=1e-5)


def test_training_model_has_a_norm_before_each_relu_and_zero_biases() -> None:
    model = script.build_training_model(torch.Generator().manual_seed(0))
    norms = [name for name, layer in model.named_modules() if "BatchNorm" in type(layer).__name__]
    assert norms == [f"features.{i}.1" for i in (0, 3, 6, 8, 10)] + [
        "classifier.1.1",
        "classifier.4.1",
    ]
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fan_in = layer.weight[0].numel()
            assert not layer.bias.any()
            assert layer.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.1)


# Augmentation


def test_augment_gives_the_size_and_stays_in_range() -> None:
    pixels = torch.tensor([0, 255], dtype=torch.uint8).repeat_interleave(32).view(64, 1, 1, 1)
    images = script.augment(pixels.expand(64, 3, 50, 50), 40, torch.Generator().manual_seed(0))
    assert images.shape == (64, 3, 40, 40)
    assert images.dtype == torch.float32
    assert -0.23 < images.min() < -0.1
    assert 1.1 < images.max() < 1.26
    assert images.flatten(2).std(dim=2).max() < 1e-5  # reflection brings in no other colour


def test_augment_is_decided_by_the_generator() -> None:
    pixels = striped(4).pixels
    first, second, other = (
        script.augment(pixels, 32, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_augment_makes_one_image_in_ten_grey() -> None:
    pixels = torch.tensor([200, 100, 0], dtype=torch.uint8).view(1, 3, 1, 1).expand(2000, 3, 4, 4)
    images = script.augment(pixels, 4, torch.Generator().manual_seed(0))
    grey = (images[:, 0] == images[:, 2]).flatten(1).all(dim=1)
    assert grey.float().mean().item() == pytest.approx(0.1, abs=0.03)


def test_affine_maps_have_the_stated_window() -> None:
    affine = script.sample_affine(5000, torch.Generator().manual_seed(0))
    linear, shift = affine[:, :, :2], affine[:, :, 2]
    extent = linear.norm(dim=1)  # half width and half height of the window
    area, aspect = extent.prod(dim=1), extent[:, 0] / extent[:, 1]
    angle = torch.atan2(-linear[:, 0, 1], linear[:, 1, 1])
    for values, low, high in (
        (area, 0.45, 1.0),
        (aspect.log(), -0.2, 0.2),
        (angle, -0.2, 0.2),
    ):
        margin = 0.01 * (high - low)
        assert values.min().item() == pytest.approx(low, abs=margin)
        assert values.max().item() == pytest.approx(high, abs=margin)
    assert (torch.linalg.det(linear) < 0).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert (shift.abs() <= (1 - extent).clamp(min=0) + 1e-6).all()


# Schedule and training


def test_learning_rate_hits_its_end_points() -> None:
    first, second = script.PHASES
    assert script.learning_rate_at(0, 3740, first) == pytest.approx(1e-3 / 500)
    assert script.learning_rate_at(499, 3740, first) == pytest.approx(1e-3)
    assert script.learning_rate_at(500, 3740, first) == pytest.approx(1e-3)
    assert script.learning_rate_at(3739, 3740, first) == pytest.approx(2e-5)
    assert script.learning_rate_at(0, 561, second) == pytest.approx(2e-4)
    assert script.learning_rate_at(280, 561, second) == pytest.approx((2e-4 + 1e-6) / 2)
    assert script.learning_rate_at(560, 561, second) == pytest.approx(1e-6)
    rates = [script.learning_rate_at(step, 3740, first) for step in range(500, 3740)]
    assert rates == sorted(rates, reverse=True)


def test_recipe_is_the_one_of_the_card() -> None:
    recipe = script.Recipe()
    assert [(phase.size, phase.epochs) for phase in recipe.phases] == [(112, 20), (224, 3)]
    assert recipe.batch_size == 64
    assert (script.WEIGHT_DECAY, script.LABEL_SMOOTHING, script.MAX_GRADIENT_NORM) == (
        0.02,
        0.05,
        2,
    )


def test_ten_steps_lower_the_loss() -> None:
    phase = script.Phase(size=64, epochs=10, peak_rate=1e-3, final_rate=1e-4)
    generator = torch.manual_seed(0)
    model = script.build_training_model(generator)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=script.WEIGHT_DECAY)
    losses = [
        script.train_epoch(
            model, optimizer, striped(16), script.Recipe(batch_size=16), phase, epoch, generator
        )
        for epoch in range(1, 11)
    ]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)


# Resuming


TINY = script.Recipe(
    phases=(
        script.Phase(size=64, epochs=2, peak_rate=1e-3, final_rate=1e-4, warmup_steps=1),
        script.Phase(size=72, epochs=2, peak_rate=1e-4, final_rate=1e-5),
    ),
    batch_size=4,
)


def train_tiny(checkpoint: Path) -> dict[str, Tensor]:
    """Run or continue the tiny recipe on eight photographs; return weights and statistics."""
    photographs = striped(8)
    model = script.train(TINY, photographs, photographs, {"seed": "0"}, checkpoint)
    return model.state_dict()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """What the tiny recipe arrives at in one go."""
    with torch.random.fork_rng(devices=[]):
        return train_tiny(tmp_path_factory.mktemp("run") / "checkpoint.pt")


@pytest.mark.parametrize("epochs", [1, 2, 3, 4])
def test_resumed_run_equals_an_uninterrupted_one(
    epochs: int, uninterrupted: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = script.write_checkpoint, []

    def write_then_interrupt(path: Path, checkpoint: object) -> None:
        write(path, checkpoint)
        written.append(path)
        if len(written) == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(script, "write_checkpoint", write_then_interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_tiny(tmp_path / "checkpoint.pt")
    torch.manual_seed(99)  # another process would not find the random state as it was left
    resumed = train_tiny(tmp_path / "checkpoint.pt")
    assert list(resumed) == list(uninterrupted)
    assert all(torch.equal(resumed[name], uninterrupted[name]) for name in resumed)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_checkpoint_survives_a_failing_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    script.write_checkpoint(path, {"settings": {"seed": "0"}, "epoch": 1})

    def fail_halfway(checkpoint: object, temporary: Path) -> None:
        temporary.write_bytes(b"half a file")
        raise OSError("disk full")

    monkeypatch.setattr(script.torch, "save", fail_halfway)
    with pytest.raises(OSError, match="disk full"):
        script.write_checkpoint(path, {"settings": {"seed": "0"}, "epoch": 2})
    assert script.read_checkpoint(path, {"seed": "0"})["epoch"] == 1


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"seed": 1}, "seed"),
        ({"batch_size": 2}, "batch_size"),
        ({"phases": TINY.phases[:1]}, "epochs"),
        ({"phases": (TINY.phases[0], replace(TINY.phases[1], peak_rate=1e-3))}, "phases"),
    ],
)
def test_other_settings_are_refused(
    change: dict[str, object], name: str, data: Path, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    script.write_checkpoint(path, {"settings": script.describe_settings(data, TINY)})
    other = script.describe_settings(data, replace(TINY, **change))
    with pytest.raises(script.TrainingError, match=f"^{name}: expected .*checkpoint.pt', got"):
        script.read_checkpoint(path, other)


def test_other_data_is_refused(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    script.write_checkpoint(path, {"settings": script.describe_settings(data, TINY)})
    (data / "train" / "cat" / "0.png").unlink()
    with pytest.raises(script.TrainingError, match=r"^files: expected 12 image files .* got 11"):
        script.read_checkpoint(path, script.describe_settings(data, TINY))
    moved = data.rename(data.with_name("moved"))
    with pytest.raises(script.TrainingError, match=r"^data: expected '.*data' as in .*moved'"):
        script.read_checkpoint(path, script.describe_settings(moved, TINY))


# Data folders and the command


def test_missing_data_folder_is_named(tmp_path: Path) -> None:
    data, run = tmp_path / "nowhere", tmp_path / "run"
    result = CliRunner().invoke(script.main, [str(data), "--out", str(run)])
    assert result.exit_code == 2
    assert f"got no such folder. Arrange '{data}' as" in result.output
    assert not run.exists()


def test_class_folder_without_photographs_is_named(data: Path) -> None:
    for path in (data / "test" / "dog").iterdir():
        path.rename(path.with_suffix(".txt"))
    with pytest.raises(script.TrainingError, match=r"photographs in '.*dog', got no image file"):
        script.list_files(data, "test")


def test_unreadable_files_are_reported_and_skipped(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "train" / "cat" / "0.png").write_bytes(b"not an image")
    (data / "train" / "dog" / ".hidden.png").write_bytes(b"")
    photographs = script.load_photographs(script.list_files(data, "train"))
    assert photographs.pixels.shape == (7, 3, 200, 200)
    assert torch.equal(photographs.pixels[0], striped(12).pixels[2])
    assert photographs.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    output = capsys.readouterr().out
    assert "0.png'" in output
    assert "7 photographs decoded, 1 skipped" in output


def test_class_without_a_readable_file_is_an_error(data: Path) -> None:
    for path in (data / "train" / "dog").iterdir():
        path.write_bytes(b"not an image")
    files = script.list_files(data, "train")
    with pytest.raises(script.TrainingError, match="got 4 cats and 0 dogs"):
        script.load_photographs(files)


def test_batch_larger_than_the_training_set_is_an_error(data: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(script.main, [str(data), "--out", str(tmp_path / "run")])
    assert result.exit_code == 2
    assert "batch_size: expected at most 8, all training photographs, got 64" in result.output
    assert not (tmp_path / "run").exists()


def test_command_exports_the_model_and_refuses_another_seed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "PHASES", TINY.phases)
    run = tmp_path / "run"
    command = [str(data), "--out", str(run), "--batch-size", "4", "--epochs", "1", "1"]
    first = CliRunner().invoke(script.main, command, catch_exceptions=False)
    assert first.exit_code == 0
    assert "64 px, epoch 1 of 1: loss" in first.output
    assert "catdog_alexnet.safetensors: test accuracy" in first.output

    exported = load_file(run / "catdog_alexnet.safetensors")
    shapes = {f"{name}.weight": shape for name, shape in SLIM_SHAPES.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in SLIM_SHAPES.items()}
    assert {name: tuple(tensor.shape) for name, tensor in exported.items()} == shapes
    assert {tensor.dtype for tensor in exported.values()} == {torch.float16}
    assert not exported["classifier.6.weight"].sum(dim=0).any()

    again = CliRunner().invoke(script.main, [*command, "--seed", "1"])
    assert again.exit_code == 2
    assert "seed: expected 0 as in" in again.output
