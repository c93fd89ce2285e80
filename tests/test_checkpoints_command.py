"""Weights files on the command line: those that are trusted, and those that are refused."""

import importlib
import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.checkout import INPUTS
from helpers.checkpoints import (
    Own,
    assert_same_model,
)
from helpers.pickles import RunsCode
from torch import nn

from camreport.cli import commands as cli
from camreport.errors import ClassError, ModelError
from camreport.models import load_model

# Trusted files


def test_own_class_is_refused_by_name_and_opened_when_trusted(
    tmp_path: Path, as_found: None
) -> None:
    with torch.random.fork_rng(devices=[]):
        original = Own().train()
    torch.save(original, tmp_path / "own.pth")
    with pytest.raises(
        ModelError,
        match=r"^checkpoint: own\.pth: refused.*helpers\.checkpoints\.Own.*--trust-checkpoint",
    ) as raised:
        load_model(checkpoint=tmp_path / "own.pth")
    assert "Conv2d" not in str(raised.value)
    loaded = load_model(checkpoint=tmp_path / "own.pth", trust_checkpoint=True)
    assert_same_model(loaded.module, original)
    assert type(loaded.module) is Own
    assert len(loaded.class_names) == 3
    said = [str(note) for note in loaded.notes if "--trust-checkpoint" in str(note)]
    assert len(said) == 1
    assert "code in it has run" in said[0]


def test_trust_is_needed_for_the_evil_and_nothing_is_noted_without_it(
    tmp_path: Path, alexnet: nn.Module
) -> None:
    torch.save({"model": alexnet.state_dict(), "x": RunsCode(tmp_path / "ran")}, tmp_path / "w.pth")
    loaded = load_model("alexnet", checkpoint=tmp_path / "w.pth", trust_checkpoint=True)
    assert (tmp_path / "ran").exists(), "trusted, the file's code runs"
    assert_same_model(loaded.module, alexnet)
    torch.save(alexnet.state_dict(), tmp_path / "good.pth")
    loaded = load_model("alexnet", checkpoint=tmp_path / "good.pth")
    assert "trust" not in " ".join(map(str, loaded.notes))


def test_trust_is_noted_by_the_command_and_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.save(Own(), tmp_path / "own.pth")
    monkeypatch.chdir(tmp_path)
    words = ["run", str(INPUTS / "cat.jpg"), "-o", "out", "--checkpoint", "own.pth"]
    words += ["--layers", "body.2", "--methods", "grad_cam", "--image-size", "64"]
    monkeypatch.setattr(sys, "argv", ["camreport", *words])
    assert cli.cli.exit_code() == 2
    monkeypatch.setattr(sys, "argv", ["camreport", *words, "--trust-checkpoint"])
    assert cli.cli.exit_code() == 0
    out, err = capsys.readouterr()
    said = "opened with --trust-checkpoint: code in it has run on this machine"
    assert said in out + err
    assert said in (tmp_path / "out" / "index.html").read_text("utf-8")


@pytest.mark.parametrize("lost", ["module", "class"])
def test_class_that_is_not_here_gets_a_sentence_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    source = tmp_path / "lost_architecture.py"
    source.write_text("from torch import nn\n\nclass Lost(nn.Module):\n    pass\n")
    module = importlib.import_module("lost_architecture")
    torch.save(module.Lost(), tmp_path / "lost.pth")
    if lost == "module":
        monkeypatch.delitem(sys.modules, "lost_architecture")
        source.unlink()
        importlib.invalidate_caches()
    else:
        monkeypatch.delattr(module, "Lost")
    with pytest.raises(ModelError, match=r"^checkpoint: lost\.pth: refused.*Lost"):
        load_model(checkpoint=tmp_path / "lost.pth")
    with pytest.raises(
        ModelError,
        match=r"^checkpoint: lost\.pth: .* cannot be imported here: .*[Ll]ost.*script\.py:",
    ):
        load_model(checkpoint=tmp_path / "lost.pth", trust_checkpoint=True)


# On the command line


@pytest.mark.parametrize("names", [["one"], ["a", "b", "c"]])
def test_wrong_number_of_class_names_is_refused(
    tmp_path: Path, alexnet: nn.Module, names: list[str]
) -> None:
    torch.save(alexnet.state_dict(), tmp_path / "two.pth")
    with pytest.raises(ClassError, match=rf"expected 2, .* got {len(names)}"):
        load_model(checkpoint=tmp_path / "two.pth", class_names=names)
    assert load_model(checkpoint=tmp_path / "two.pth", class_names=["x", "y"]).class_names == (
        "x",
        "y",
    )


def state_bytes(module: nn.Module) -> bytes:
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    return buffer.getvalue()


def random_bytes() -> bytes:
    noise = torch.randint(0, 256, (5000,), generator=torch.Generator().manual_seed(0))
    return b"\x01" + bytes(noise.tolist())


BROKEN: dict[str, tuple[Callable[[nn.Module, nn.Module], bytes | None], str]] = {
    "truncated.pth": (
        lambda a, s: state_bytes(a)[:-900],
        "truncated: it begins like a PyTorch file",
    ),
    "empty.pth": (lambda a, s: b"", r"the file is empty \(0 bytes\)"),
    "page.pth": (lambda a, s: b"\n<!doctype html><p>404", "an HTML page"),
    "pointer.pth": (
        lambda a, s: (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 244408911\n"
        ),
        "a Git LFS pointer",
    ),
    "noise.pth": (lambda a, s: random_bytes(), "no weights file: its first bytes"),
    "squeezenet.pth": (
        lambda a, s: state_bytes(s),
        r"9 more missing; .*unexpected; .* of another shape",
    ),
    "missing.pth": (lambda a, s: None, "cannot be read"),
}


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Run ``camreport`` in this process and return its exit code and its error output."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["camreport", *words])
        capsys.readouterr()
        code = cli.cli.exit_code()
        out, err = capsys.readouterr()
        assert "report:" not in out
        return code, err

    return run


def assert_one_line(said: str, file: str, message: str) -> None:
    """See that one line says what is wrong with a file, and how."""
    assert re.fullmatch(rf"error: checkpoint: {re.escape(file)}.*{message}.*\n", said), said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", BROKEN)
def test_broken_file_ends_the_command_with_one_line(
    tmp_path: Path,
    alexnet: nn.Module,
    squeezenet: nn.Module,
    command: Callable[..., tuple[int, str]],
    name: str,
) -> None:
    make, message = BROKEN[name]
    data = make(alexnet, squeezenet)
    if data is not None:
        (tmp_path / name).write_bytes(data)
    words = ("run", str(INPUTS), "-o", "out", "--model", "alexnet", "--checkpoint", name)
    code, said = command(*words)
    assert code == 2
    assert_one_line(said, name, message)
    assert not (tmp_path / "out").exists()


def test_folder_ends_the_command_with_one_line(
    tmp_path: Path, command: Callable[..., tuple[int, str]]
) -> None:
    (tmp_path / "weights.pth").mkdir()
    code, said = command("run", str(INPUTS), "-o", "out", "--checkpoint", "weights.pth")
    assert code == 2
    assert_one_line(said, "weights.pth", "cannot be read")


def test_wrong_number_of_classes_ends_the_command_with_one_line(
    tmp_path: Path, alexnet: nn.Module, command: Callable[..., tuple[int, str]]
) -> None:
    torch.save(alexnet.state_dict(), tmp_path / "two.pth")
    words = ("run", str(INPUTS), "-o", "out", "--checkpoint", "two.pth")
    code, said = command(*words, "--class-names", "a,b,c")
    assert code == 2
    assert re.fullmatch(r"error: .*expected 2, .*got 3.*\n", said)
    assert "two.pth" in said, "the file is to be named"
    assert not (tmp_path / "out").exists()


def test_head_of_contradicting_class_counts_ends_the_command_with_one_line(
    tmp_path: Path, alexnet: nn.Module, command: Callable[..., tuple[int, str]]
) -> None:
    torch.save({**alexnet.state_dict(), "classifier.6.bias": torch.zeros(5)}, tmp_path / "odd.pth")
    words = ("run", str(INPUTS), "-o", "out", "--model", "alexnet", "--checkpoint", "odd.pth")
    code, said = command(*words)
    assert code == 2
    assert_one_line(said, "odd.pth", r"classifier\.6\.bias \(5,\) instead of \(2,\)")


def test_broken_files_get_different_sentences() -> None:
    assert len({message for _, message in BROKEN.values()}) == len(BROKEN)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["truncated.pth"])
def test_broken_file_ends_the_process_with_code_2_and_no_traceback(
    tmp_path: Path, alexnet: nn.Module, squeezenet: nn.Module, name: str
) -> None:
    data = BROKEN[name][0](alexnet, squeezenet)
    assert data is not None
    (tmp_path / name).write_bytes(data)
    words = ["run", str(INPUTS), "-o", "out", "--model", "alexnet", "--checkpoint", name]
    finished = subprocess.run(
        [sys.executable, "-m", "camreport", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )
    assert (finished.returncode, finished.stdout) == (2, "")
    assert_one_line(finished.stderr, name, BROKEN[name][1])
