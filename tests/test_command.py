"""The command that a run records can be run again and asks for the same."""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.checkout import INPUTS
from helpers.command import CAT, Command
from PIL import Image

import camreport
from camreport.cli import commands as cli
from camreport.cli import options
from camreport.errors import CamReportError, ClassError, InputError, LayerError
from camreport.settings import Settings, join_list, split_list

QUICK = ("--layers", "12", "--methods", "grad_cam")


def recorded(out: str = "out") -> list[str]:
    """Return the words behind ``camreport run`` of the command in a results folder."""
    manifest = json.loads(Path(out, "results/manifest.json").read_bytes())
    words = shlex.split(manifest["command"])
    assert words[:2] == ["camreport", "run"]
    return words[2:]


def parsed(words: list[str]) -> tuple[object, ...]:
    """Return what the command line reads: the inputs, the folder and the settings."""
    context = cli.run.make_context("run", list(words))
    settings = Settings(**options.given(context))
    return context.params["inputs"], context.params["out"], settings


ASKED = {
    "defaults": (),
    "names": ("--class-names", '"cat, tabby",dog', "--classes", '"cat, tabby"'),
    "wide commas": ("--class-names", '"猫，虎斑"，"5"" dog"'),
    "what": (
        *("--quantity", "contrast:dog", "--gamma", "1.25", "--stages", "1", "--seed", "3"),
        *("--smooth", "noise,aug", "--classes", "dog", "--channels", "10"),
    ),
    "where": ("--device", "cpu", "--batch-size", "2"),
    "drawing": ("--folder", "--lang", "zh", "--figures"),
    "preprocessing": (
        *("--image-size", "200x160", "--mean", "0.1,0,-0.25", "--std", "0.123456789012,1,2"),
        *("--channel-order", "bgr", "--scale", "1", "--resize", "squash"),
    ),
    "model": ("--model", "models/net.py:build"),
    "as it is": ("--resize", "none"),
}


@pytest.mark.parametrize("asked", ASKED)
def test_recorded_command_asks_for_the_same(command: Command, asked: str) -> None:
    shutil.copy(CAT, "-rf.jpg")
    Path("models").mkdir()
    Path("models/net.py").write_text(
        "import torch\n\ndef build():\n    torch.manual_seed(0)\n    return torch.nn.Sequential("
        "torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), "
        "torch.nn.Flatten(), torch.nn.Linear(4, 2))\n"
    )
    layers = ("--layers", "1", *QUICK[2:]) if asked == "model" else QUICK
    words = ["-o", "out", *layers, *ASKED[asked], "--", "-rf.jpg"]
    finished = command("run", *words)
    assert finished.code == 0, finished.err
    assert parsed(recorded()) == parsed(words)


def test_recorded_command_names_the_files_that_it_reads(command: Command) -> None:
    Path("data/cat").mkdir(parents=True)
    shutil.copy(CAT, "data/cat/1.jpg")
    Path("data/true.csv").write_text("1.jpg,cat\n")
    source = Path(camreport.__file__).with_name("models") / "catdog_alexnet.safetensors"
    shutil.copy(source, "data/net.safetensors")
    words = ["data/cat", "-o", "out", *QUICK, "--labels", "data/true.csv"]
    words += ["--checkpoint", "data/net.safetensors", "--class-names", "cat,dog"]
    assert command("run", *words).code == 0
    assert parsed(recorded()) == parsed(words)


def test_rerun_in_another_language_records_the_newest_command(command: Command) -> None:
    words = [CAT, "-o", "out", *QUICK]
    command("run", *words)
    shard = Path("out/results/shard-000000.npz").read_bytes()
    finished = command("run", *words, "--lang", "zh")
    assert "1 of 1 inputs were kept from an earlier run or part" in finished.out
    assert recorded()[-2:] == ["--lang", "zh"]
    assert Path("out/results/shard-000000.npz").read_bytes() == shard
    assert "--lang zh" in Path("out/index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "entries", [["a", "b"], ["a, b", "c"], ['say "a"', " b "], ["猫，虎斑", "狗"], ["a'b\\c"]]
)
def test_lists_are_read_back_as_they_were_written(entries: list[str]) -> None:
    assert split_list(join_list(entries)) == entries


def test_home_folder_is_found_in_every_path(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(CAT, home / "cat.jpg")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    camreport.run("~/cat.jpg", "~/report", layers=["12"], methods="grad_cam")
    assert (home / "report/index.html").is_file()
    assert command("render", "~/report").code == 0
    assert command("run", "~/*.jpg", "--out=~/other", *QUICK).code == 0
    assert (home / "other/index.html").is_file()
    assert str(home / "none.pth") in command("layers", "--checkpoint=~/none.pth").err
    assert not Path("~").exists()


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"inputs": None}, InputError, "input: expected paths .* got NoneType"),
        ({"inputs": Image.new("RGB", (8, 8))}, InputError, "input: expected paths .* got Image"),
        ({"inputs": [Image.new("RGB", (8, 8))]}, InputError, "got Image"),
        ({"inputs": b"cat.jpg"}, InputError, "got bytes"),
        ({"inputs": 3}, InputError, "got int"),
        ({"out": None}, InputError, "output: expected a path, got NoneType"),
        ({"checkpoint": 3}, InputError, "checkpoint: expected a path, got int"),
        ({"layers": "12"}, LayerError, "layers: expected a list of addresses, got '12'"),
        ({"layers": 12}, LayerError, "layers: expected a list of addresses, got 12"),
        ({"channels": [12]}, LayerError, "channels: expected addresses as text, got 12"),
        ({"class_names": "cat,dog"}, ClassError, "expected a list of names, got 'cat,dog'"),
        ({"class_names": [1, 2]}, ClassError, "expected names as text, got 1"),
    ],
)
def test_run_refuses_what_is_of_another_kind(
    tmp_path: Path, options: dict[str, Any], error: type[CamReportError], said: str
) -> None:
    with pytest.raises(error, match=said):
        camreport.run(**{"inputs": INPUTS, "out": tmp_path / "out", **options})
    assert not (tmp_path / "out").exists()


def test_run_refuses_arrays(tmp_path: Path) -> None:
    import numpy as np

    with pytest.raises(InputError, match=r"expected paths .* got ndarray"):
        camreport.run(np.zeros((2, 8, 8, 3)), tmp_path / "out")


@pytest.mark.skipif(sys.platform == "win32", reason="no such file names there")
def test_control_characters_of_file_names_never_reach_the_terminal(command: Command) -> None:
    shutil.copy(CAT, "red\x1b[31m.jpg")
    Path("bell\x07\n.jpg").touch()
    finished = command("run", "red\x1b[31m.jpg", "bell\x07\n.jpg", "-o", "out", *QUICK)
    assert finished.code == 1
    assert re.search(r"^red[^\x1b]+\[31m\.jpg: cat", finished.out, re.MULTILINE)
    assert re.search(r"^  bell[^\x07\n]+\.jpg: ", finished.err, re.MULTILINE)
    assert not {"\x1b", "\x07"} & {*finished.out, *finished.err}
    for words in (["run", "no\x1bwhere"], ["\x1b"], ["run", "--\x1b"], ["render", "\x1b"]):
        finished = command(*words)
        assert finished.code == 2
        assert finished.err.startswith("error: ")
        assert "\x1b" not in finished.err
