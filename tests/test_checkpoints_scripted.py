"""TorchScript archives: they give the original logits, and none of their code runs."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import (
    assert_same_model,
    filled,
)
from helpers.pickles import FORBIDDEN, RunsCode
from torch import Tensor, nn
from torchvision import models

from camreport.errors import ModelError
from camreport.models import load_model

ignores_torchscript_warnings = pytest.mark.filterwarnings(r"ignore:`?torch\.jit\.\w+")


def scripted(module: nn.Module) -> torch.jit.ScriptModule:
    return torch.jit.script(module)


def traced(module: nn.Module) -> torch.jit.ScriptModule:
    return torch.jit.trace(module, torch.zeros(1, 3, 64, 64))


@ignores_torchscript_warnings
@pytest.mark.parametrize("model", ["", "squeezenet1_1"])
@pytest.mark.parametrize("made", [scripted, traced])
def test_torchscript_archive_gives_the_original_logits(
    tmp_path: Path,
    alexnet: nn.Module,
    squeezenet: nn.Module,
    as_found: None,
    made: Callable[[nn.Module], torch.jit.ScriptModule],
    model: str,
) -> None:
    original = squeezenet if model else alexnet
    torch.jit.save(made(original), tmp_path / "scripted.pt")
    loaded = load_model(model or "catdog-alexnet", checkpoint=tmp_path / "scripted.pt")
    assert_same_model(loaded.module, original)
    assert type(loaded.module) is type(original)
    assert len(loaded.class_names) == (3 if model else 2)


@ignores_torchscript_warnings
def test_torchscript_archive_gives_buffers_and_half_precision(
    tmp_path: Path, resnet: nn.Module
) -> None:
    half = filled(lambda: models.resnet18(num_classes=3), seed=4).half()
    torch.jit.save(scripted(half), tmp_path / "half.pt")
    loaded = load_model(checkpoint=tmp_path / "half.pt")
    assert loaded.name == "resnet18"
    assert_same_model(loaded.module, half.float())


class Prints(nn.Module):
    """Scripted, it prints when its archive is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the images."""
        return x

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, bool]:
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        print("the archive's code has run")
        self.weight = state[0]
        self.training = state[1]


@ignores_torchscript_warnings
def test_torchscript_archive_runs_none_of_its_code(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prints.pt"
    torch.jit.save(scripted(Prints()), file)
    capfd.readouterr()
    with pytest.raises(ModelError, match=r"^checkpoint: prints\.pt: expected a state dict"):
        load_model("alexnet", checkpoint=file, trust_checkpoint=True)
    with pytest.raises(ModelError, match=r"^checkpoint: prints\.pt: expected a state dict"):
        load_model("alexnet", checkpoint=file)
    assert capfd.readouterr().out == ""
    torch.jit.load(file)
    assert "has run" in capfd.readouterr().out, "the archive was harmless: the test shows nothing"


def replaced(file: Path, ending: str, data: bytes) -> None:
    """Put other bytes into a member of an archive."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    assert sum(name.endswith(ending) for name in members) == 1
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, data if name.endswith(ending) else content)


@ignores_torchscript_warnings
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_torchscript_archive_that_asks_for_a_stranger_is_refused(
    tmp_path: Path, alexnet: nn.Module, protocol: int
) -> None:
    file = tmp_path / "evil.pt"
    torch.jit.save(traced(alexnet), file)
    replaced(file, "/data.pkl", pickle.dumps(RunsCode(tmp_path / "ran"), protocol))
    with pytest.raises(ModelError, match=rf"^checkpoint: evil\.pt: refused.*{FORBIDDEN}"):
        load_model("alexnet", checkpoint=file)
    assert not (tmp_path / "ran").exists()


@ignores_torchscript_warnings
def test_torchscript_archive_never_reads_its_constants(tmp_path: Path, alexnet: nn.Module) -> None:
    file = tmp_path / "evil.pt"
    torch.jit.save(traced(alexnet), file)
    replaced(file, "/constants.pkl", pickle.dumps(RunsCode(tmp_path / "ran"), 2))
    assert_same_model(load_model("alexnet", checkpoint=file).module, alexnet)
    assert not (tmp_path / "ran").exists()
