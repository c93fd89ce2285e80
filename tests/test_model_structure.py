"""The structure of a model in the manifest: bounded, equal between runs, harmless."""

import json
from pathlib import Path

import torch
from helpers.checkout import INPUTS
from helpers.small import small_model
from torch import Tensor, nn

import camreport
from camreport.images.preprocessing import Preprocessing
from camreport.models import LoadedModel
from camreport.pipeline.structure import structure_of
from camreport.report.export import export_figures
from camreport.report.gallery import render_gallery
from camreport.results.schema import MAX_MODULES, MAX_PRINTED


class Twice(nn.Module):
    """Runs one activation twice, and has a part that returns no tensor and one that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.pair = Pair()
        self.head = nn.Linear(4, 2)
        self.idle = nn.Linear(9, 9)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(N, 2)``."""
        one, _ = self.pair(self.act(self.conv(images)))
        return self.head(self.act(one).mean((2, 3)))  # type: ignore[no-any-return]


class Pair(nn.Module):
    """Returns two tensors, and prints as an object does that has an address in memory."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images twice."""
        return images, images

    def extra_repr(self) -> str:
        """Print an address in memory, and a control character."""
        return f"{object()!r} \x1b[31m"


def loaded(module: nn.Module) -> LoadedModel:
    size = Preprocessing(size=(16, 24))
    return LoadedModel(module, size, None, "net", "a test", "0" * 64)


def test_modules_are_listed_as_they_run_with_what_they_return() -> None:
    structure = structure_of(loaded(Twice()))
    assert [(m.address, m.type, m.shape, m.parameters) for m in structure.modules] == [
        ("conv", "Conv2d", (4, 8, 12), 4 * 27 + 4),
        ("act#0", "ReLU", (4, 8, 12), 0),
        ("pair", "Pair", None, 0),
        ("act#1", "ReLU", (4, 8, 12), 0),
        ("head", "Linear", (2,), 10),
    ]
    assert structure.more == 0


def test_the_printed_text_is_the_same_in_every_run_and_has_no_control_characters() -> None:
    one, other = (structure_of(loaded(Twice())).printed for _ in range(2))
    assert one == other
    assert "Conv2d(3, 4, kernel_size=(3, 3)" in one
    assert "0x" not in one
    assert "\x1b" not in one
    assert one.count("\n") == str(Twice()).count("\n")


def test_a_structure_is_bounded_in_size() -> None:
    parts = [nn.Conv2d(3, 3, 1) for _ in range(MAX_MODULES + 5)]
    net = nn.Sequential(*parts, nn.Flatten(), nn.Linear(3 * 16 * 24, 2))
    structure = structure_of(loaded(net))
    assert len(structure.modules) == MAX_MODULES
    assert structure.more == 7
    assert len(structure.printed) == MAX_PRINTED
    assert structure.printed.endswith("…")


def test_the_model_is_as_it_was() -> None:
    net = Twice().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    structure_of(loaded(net))
    assert net.training
    assert net.act.inplace
    assert not any(module._forward_hooks for module in net.modules())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_equal_runs_have_equal_structures_and_rendering_needs_no_model(tmp_path: Path) -> None:
    kept = []
    for name in ("one", "two"):
        camreport.run(INPUTS / "cat.jpg", tmp_path / name, model=small_model(("a", "b")))
        kept.append(camreport.load_results(tmp_path / name).manifest.structure)
    assert kept[0] == kept[1]
    assert kept[0].modules


def test_results_that_do_not_say_the_structure_are_shown_without_it(tmp_path: Path) -> None:
    camreport.run(INPUTS / "cat.jpg", tmp_path, model=small_model(("a", "b")))
    manifest = tmp_path / "results" / "manifest.json"
    said = json.loads(manifest.read_text())
    del said["structure"]
    manifest.write_text(json.dumps(said))
    render_gallery(tmp_path)
    written = {path.name for path in export_figures(tmp_path)}
    assert written
    assert not {name for name in written if name.startswith("model_")}
