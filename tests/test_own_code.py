"""The user's own code sees no command line of ours, ends nothing and shadows nothing."""

import importlib
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.checkout import INPUTS
from helpers.command import Command
from torch import Tensor, nn
from torch.testing import assert_close

from camreport.errors import ModelError
from camreport.models import load_model

NET = """\
from torch import nn

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(width, 3),
        )

    def forward(self, images):
        return self.body(images)

def build():
    return Net()
"""
PARSES = """\
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--width", type=int, default=6)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that is the current one; what is imported is forgotten afterwards."""
    before = dict(sys.modules)
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        yield tmp_path
    for name in set(sys.modules) - set(before):
        if name.startswith("_camreport_own_") or name.endswith("_of_own_code"):
            del sys.modules[name]


def logits_of(module: nn.Module) -> Tensor:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return module.eval()(images)


# The command line


@pytest.mark.parametrize(
    "made",
    [
        "options = parser.parse_args()\ndef make():\n    return Net(options.width)\n",
        "def make():\n    return Net(parser.parse_args().width)\n",
    ],
)
def test_own_code_sees_no_arguments_of_ours(
    folder: Path, monkeypatch: pytest.MonkeyPatch, made: str
) -> None:
    Path("net.py").write_text(f"{PARSES}import sys\nseen = list(sys.argv)\n{NET}\n{made}")
    arguments = ["camreport", "run", "photo.jpg", "--model", "net.py:make", "--width", "9"]
    monkeypatch.setattr(sys, "argv", arguments)
    loaded = load_model("net.py:make")
    assert loaded.module.body[0].out_channels == 6
    assert sys.modules[type(loaded.module).__module__].seen == ["net.py"]
    assert sys.argv is arguments


def test_own_code_that_fails_gives_the_command_line_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("net.py").write_text("import sys\nsys.argv = ['mine']\n1 / 0\n")
    arguments = ["camreport", "layers"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(ModelError, match="ZeroDivisionError"):
        load_model("net.py:build")
    assert sys.argv is arguments


EXITS = {
    "exit 0": ("import sys\nsys.exit(0)\n", r"exit code 0 \(net\.py, line 2;"),
    "exit with words": (
        "import sys\nsys.exit('no data')\n",
        r"exit code 'no data' \(net\.py, line 2",
    ),
    "plain": ("raise SystemExit\n", r"exit code None \(net\.py, line 1"),
    "missing argument": (
        PARSES + "parser.add_argument('data')\nparser.parse_args()\n",
        r"exit code 2 \(net\.py, line 5",
    ),
    "in build": ("def build():\n    exit(3)\n", r"exit code 3 \(net\.py, line 2"),
}


@pytest.mark.parametrize("way", EXITS)
def test_own_code_cannot_end_the_program(folder: Path, way: str) -> None:
    source, message = EXITS[way]
    Path("net.py").write_text(source)
    with pytest.raises(
        ModelError, match=rf"^model: net\.py:build ends the program with {message}.*__main__"
    ) as raised:
        load_model("net.py:build")
    assert "\n" not in str(raised.value)


def test_command_fails_where_own_code_exits(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("print('leaving')\nimport sys\nsys.exit(0)\n")
    finished = command("run", str(INPUTS / "cat.jpg"), "-o", "out", "--model", "net.py:build")
    assert finished.code == 2
    assert "error: model: net.py:build ends the program" in finished.err
    assert not Path("out").exists()


def test_interruption_of_own_code_is_one(folder: Path) -> None:
    Path("net.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_model("net.py:build")


# Names


@pytest.fixture
def installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that is installed, and was not imported yet."""
    site = tmp_path_factory.mktemp("site")
    (site / "installed_of_own_code.py").write_text("whose = 'the package'\n")
    monkeypatch.syspath_prepend(site)
    return site


def whose() -> str:
    """Say what the rest of the program gets under the name of the installed package."""
    return importlib.import_module("installed_of_own_code").whose


def test_own_file_does_not_shadow_a_package(folder: Path, installed: Path) -> None:
    Path("installed_of_own_code.py").write_text(NET)
    load_model("installed_of_own_code.py:build")
    assert whose() == "the package"


@pytest.mark.parametrize("model", ["net.py:build", "net_of_own_code:build"])
def test_file_in_the_folder_of_own_code_does_not_shadow_a_package(
    folder: Path, installed: Path, model: str
) -> None:
    """The user's own file imports from its own folder first, as Python's scripts do."""
    Path("installed_of_own_code.py").write_text("whose = 'the user'\n")
    source = f"import installed_of_own_code\n{NET}\nseen = installed_of_own_code.whose\n"
    Path("net.py").write_text(source)
    Path("net_of_own_code.py").write_text(source)
    loaded = load_model(model)
    assert sys.modules[type(loaded.module).__module__].seen == "the user"
    assert whose() == "the package"


def test_own_timm_does_not_shadow_timm(folder: Path) -> None:
    pytest.importorskip("timm")
    Path("timm.py").write_text(NET)
    load_model("timm.py:build")
    assert len(load_model("timm:test_resnet", weights="none").class_names) == 1000


def test_packages_inside_the_folder_stay_imported(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual environment lies in many a project's folder."""
    site = folder / ".venv" / "lib"
    site.mkdir(parents=True)
    (site / "inside_of_own_code.py").write_text("")
    monkeypatch.syspath_prepend(site)
    Path("net.py").write_text(f"import inside_of_own_code\n{NET}")
    load_model("net.py:build")
    assert "inside_of_own_code" in sys.modules


@pytest.mark.parametrize("damage", ["1 / 0", "import sys; sys.exit(0)", "def ("])
def test_file_that_fails_leaves_no_half_of_it(folder: Path, damage: str) -> None:
    before = set(sys.modules)
    Path("net.py").write_text(f"{NET}\n{damage}\n")
    with pytest.raises(ModelError):
        load_model("net.py:build")
    assert set(sys.modules) == before


def test_folders_with_files_of_one_name_are_kept_apart(folder: Path) -> None:
    for name, width in (("one", 5), ("two", 7)):
        Path(name).mkdir()
        Path(name, "sizes_of_own_code.py").write_text(f"WIDTH = {width}\n")
        Path(name, "net.py").write_text(
            f"from sizes_of_own_code import WIDTH\n{NET}\ndef wide():\n    return Net(WIDTH)\n"
        )
    one, two = (load_model(f"{name}/net.py:wide").module for name in ("one", "two"))
    assert (one.body[0].out_channels, two.body[0].out_channels) == (5, 7)
    assert type(one).__module__ != type(two).__module__


def test_classes_of_own_files_are_pickled_and_looked_up(folder: Path) -> None:
    Path("net.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nimport typing\n"
        + NET
        + "@dataclass\nclass Sizes:\n    width: int\n    kind: typing.ClassVar[str] = 'x'\n"
        "def sized():\n    net = Net()\n    net.sizes = Sizes(4)\n    return net\n"
    )
    module = load_model("net.py:sized").module
    again = pickle.loads(pickle.dumps(module))
    assert type(again) is type(module)
    assert again.sizes == module.sizes
    assert_close(logits_of(again), logits_of(module), rtol=0, atol=0)


def test_trusted_file_finds_the_classes_of_own_code(folder: Path) -> None:
    """A script that imports its network from net.py saves it as net.Net."""
    Path("net_of_own_code.py").write_text(NET)
    code = (
        "import torch; from net_of_own_code import Net; torch.manual_seed(3)\n"
        "net = Net(); torch.save(net, 'whole.pth'); torch.save(net.state_dict(), 'state.pth')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    loaded = load_model("net_of_own_code.py:Net", checkpoint="whole.pth", trust_checkpoint=True)
    expected = load_model("net_of_own_code.py:Net", checkpoint="state.pth")
    assert_close(logits_of(loaded.module), logits_of(expected.module), rtol=0, atol=0)
    assert "net_of_own_code" not in sys.modules
    assert str(folder) not in sys.path


def test_own_code_says_how_its_logits_become_probabilities_also_with_a_checkpoint(
    folder: Path,
) -> None:
    (folder / "own.py").write_text(
        NET.replace(
            "return Net()",
            "return LoadedModel(Net(), Preprocessing(), (), 'net', 'own', "
            "'0' * 64, activation='sigmoid')",
        )
        + "\nfrom camreport.images.preprocessing import Preprocessing"
        "\nfrom camreport.models import LoadedModel\n"
    )
    assert load_model("own.py:build").activation == "sigmoid"
    torch.save(load_model("own.py:build").module.state_dict(), "w.pth")
    assert load_model("own.py:build", checkpoint="w.pth").activation == "sigmoid"


def test_code_of_a_trusted_file_cannot_end_the_program(folder: Path) -> None:
    (folder / "ends.py").write_text(NET)
    sys.path.insert(0, str(folder))
    try:
        torch.save(importlib.import_module("ends").Net(), "whole.pth")
        del sys.modules["ends"]
        (folder / "ends.py").write_text(NET + "import sys\nsys.exit(0)\n")
        importlib.invalidate_caches()
        with pytest.raises(ModelError, match=r"its code ended the program \(sys.exit\(0\)\)"):
            load_model("alexnet", checkpoint="whole.pth", trust_checkpoint=True)
        (folder / "ends.py").write_text(NET + PARSES + "assert parser.parse_args().width == 6\n")
        importlib.invalidate_caches()
        with pytest.raises(ModelError, match="holds a whole Net"):
            load_model("alexnet", checkpoint="whole.pth", trust_checkpoint=True)
    finally:
        sys.path.remove(str(folder))


def test_command_fails_where_a_forward_exits(command: Command) -> None:
    Path("own.py").write_text(NET.replace("return self.body(images)", "raise SystemExit(0)"))
    finished = command("run", str(INPUTS / "cat.jpg"), "-o", "out", "--model", "own.py:build")
    assert finished.code == 2
    assert "the model's own ended the program (sys.exit(0))" in finished.err
    assert not Path("out").exists()
