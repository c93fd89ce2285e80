"""What a reader is told: batch mates, negative values, whole models in the place of tails."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from camreport import explain, run
from camreport.engine.probe import COMPANY
from camreport.images.preprocessing import Preprocessing
from camreport.messages import message
from camreport.models.loaded import LoadedModel
from camreport.results.reader import load_results

CHANGES = "ablation_cam,recipro_cam"


def images(count: int = 2) -> Tensor:
    """Noise, ``(N, 3, 16, 16)``."""
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photographs."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    (tmp_path / "in").mkdir()
    for place, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / "in" / f"{place}.png")
    return tmp_path


def loaded(module: nn.Module) -> LoadedModel:
    """Return a model for ``run``."""
    names = ("a", "b")
    return LoadedModel(module, Preprocessing(size=(16, 16)), names, "own", "seeded", "0" * 64)


# Batch mates


def of_the_batch() -> nn.Sequential:
    """A batch normalisation without statistics of its own."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4, track_running_stats=False)
    features = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU())
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def test_explain_says_that_maps_depend_on_batch_mates():
    net, layer = of_the_batch(), ["0"]
    together = explain(net, images(), layer, "grad_cam", [0])
    alone = explain(net, images()[:1], layer, "grad_cam", [0])
    assert not torch.allclose(together.logits[:1], alone.logits, rtol=1e-2)
    assert together.notes == alone.notes == (COMPANY,)


def test_explain_says_nothing_of_a_batch_normalisation_with_statistics():
    net = of_the_batch()
    net[0][1] = nn.BatchNorm2d(4)
    assert explain(net, images(), ["0"]).notes == ()


def test_run_says_that_maps_depend_on_batch_mates(folder):
    given = (folder / "in", folder / "out")
    summary = run(*given, model=loaded(of_the_batch()), layers=["0"])
    assert COMPANY in summary.notes
    notes = load_results(folder / "out").manifest.model.notes
    assert [*map(str, notes)].count(str(COMPANY)) == 1
    again = run(*given, model=loaded(of_the_batch()), layers=["0"])
    assert again.reused == 2
    assert again.notes == summary.notes


# Negative values


class Functional(nn.Module):
    """Its ReLU is a function: the layer in front of it can be read only before it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.last, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 2)
        self.silu, self.relu = nn.SiLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.silu(functional.relu(self.conv(x)) - 0.5)
        return self.head(self.relu(self.last(x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("methods", "named"),
    [
        ("xgrad_cam", "XGrad-CAM at conv, silu"),
        ("grad_cam_plus_plus", "Grad-CAM++ at conv, silu"),
        ("grad_cam,smooth_grad_cam_plus_plus", "Smooth Grad-CAM++ at conv, silu"),
        ("xgrad_cam,grad_cam_plus_plus", "XGrad-CAM, Grad-CAM++ at conv, silu"),
    ],
)
def test_explain_names_the_methods_and_layers_where_values_are_negative(methods, named):
    (note,) = explain(Functional(), images(), ["conv", "silu", "relu"], methods, [0]).notes
    assert f"values are negative: {named}. " in str(note)


def test_explain_says_nothing_where_a_method_takes_negative_values():
    assert explain(Functional(), images(), ["conv", "silu"], "grad_cam,hires_cam", [0]).notes == ()
    assert explain(Functional(), images(), ["relu"], "xgrad_cam,grad_cam_plus_plus").notes == ()


def test_run_writes_down_where_values_are_negative(folder):
    layers = ["conv", "relu"]
    given = {"model": loaded(Functional()), "layers": layers, "methods": "xgrad_cam"}
    summary = run(folder / "in", folder / "out", **given)
    (note,) = [n for n in summary.notes if "values are negative: XGrad-CAM at conv." in str(n)]
    assert load_results(folder / "out").manifest.model.notes[-1] == note


# Tails


class Scaled(nn.Module):
    """Makes tensors in its forward: a temperature, priors, a number of positions."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = functional.relu(self.conv(x))
        if self.kind == "in front":
            x = x * torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1)
        logits = self.head(x.mean((2, 3)))
        if self.kind == "temperature":
            return logits / torch.tensor(1.5)
        if self.kind == "priors":
            return logits + torch.log(torch.tensor([0.3, 0.7]))
        if self.kind == "identity":
            return logits @ torch.eye(2) * torch.ones(2)
        if self.kind == "count":  # as many as there were images when the code was followed
            return logits + torch.zeros(len(x), 2)
        return logits


@pytest.mark.parametrize("kind", ["in front", "temperature", "priors", "identity", "count"])
def test_changed_layers_are_right_where_forward_makes_tensors(kind):
    net = Scaled(kind).eval()
    e = explain(net, images(), ["conv"], "all", [0, 1])
    with torch.no_grad():
        activation = net.conv(images())

        def logits(values: Tensor) -> Tensor:
            handle = net.conv.register_forward_hook(lambda *_: values)
            found = net(images())
            handle.remove()
            return found

        plain, expected = logits(activation), torch.zeros(2, 2, 14, 14)
        for channel in range(4):
            changed = activation.clone()
            changed[:, channel] = 0
            drop = (plain - logits(changed))[:, :, None, None]
            expected += drop * activation[:, channel : channel + 1]
    assert_close(e.maps["ablation_cam"]["conv"], expected, rtol=1e-4, atol=1e-6)
    kept = torch.zeros_like(activation)
    kept[:, :, 3, 5] = activation[:, :, 3, 5]
    with torch.no_grad():
        assert_close(e.maps["recipro_cam"]["conv"][:, :, 3, 5], logits(kept), rtol=1e-4, atol=1e-6)
    whole = message("engine.whole_model", layer="conv")
    assert (whole in e.notes) == (kind == "count")


def test_the_whole_model_runs_where_its_code_cannot_be_followed():
    class Decides(Scaled):
        """Looks at a value."""

        def forward(self, x: Tensor) -> Tensor:
            """Return logits."""
            return super().forward(x if x.sum() < 1e9 else -x)

    plain = explain(Scaled(""), images(), ["conv"], CHANGES, [0, 1])
    e = explain(Decides(""), images(), ["conv"], CHANGES, [0, 1])
    assert plain.notes == ()
    assert e.notes == (message("engine.whole_model", layer="conv"),)
    assert_close(e.maps, plain.maps, rtol=1e-5, atol=1e-6)


# Notes that outlast a run


class Dimmed(nn.Module):
    """Its layer has negative values for bright images alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.odd = nn.Identity()
        self.fc = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Pool what is left of white."""
        return self.fc(self.odd(1 - x).relu().mean((2, 3)))


def test_an_equal_run_keeps_notes_of_later_images_and_all_exports(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, level in (("dark.png", 0), ("light.png", 255)):
        Image.new("RGB", (16, 16), (level, level, 128)).save(tmp_path / "in" / name)
    options = {"layers": ["odd"], "methods": "grad_cam_plus_plus", "batch_size": 1}
    out = tmp_path / "out"
    first = run(tmp_path / "in", out, model=loaded(Dimmed().eval()), figures=True, **options)
    assert any("A ≥ 0" in str(note) for note in first.notes)
    figures = sorted((out / "figures").iterdir())
    again = run(tmp_path / "in", out, model=loaded(Dimmed().eval()), **options)
    assert (again.reused, again.notes) == (2, first.notes)
    assert sorted((out / "figures").iterdir()) == figures
