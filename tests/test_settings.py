"""An option is said once: the command line, ``run``, records, files and tables follow from it."""

import json
import pydoc
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

import click
import pytest
from helpers.checkout import ROOT
from helpers.command import CAT, QUICK, Command

import camreport
from camreport import api
from camreport.cli import options
from camreport.cli.config import read_config
from camreport.errors import CamReportError, MethodError
from camreport.methods import METHODS, resolve_methods
from camreport.report.gallery.language import LANGUAGES
from camreport.settings import GROUPS, Settings, SettingsDict, option, options_of
from camreport.settings.text import read_whole


@dataclass(frozen=True, kw_only=True)
class Wider(Settings):
    """Settings with one more option, said in this one place."""

    crops: int = option(
        1,
        group="What",
        affects="maps",
        metavar="N",
        parse=read_whole,
        help="Crops of each image to average over.",
    )


@pytest.fixture
def table() -> Callable[..., str]:
    """Return the READMEs' table of options."""
    made: Callable[..., str] = runpy.run_path(str(ROOT / "docs/options_table.py"))["options_table"]
    return made


def test_an_option_said_once_is_on_the_command_line_and_in_its_help() -> None:
    command = options.GroupedCommand("run", params=[*options.from_settings(Wider)])
    context = command.make_context("run", ["--crops", "4"])
    assert options.given(context, Wider) == {"crops": 4}
    shown = command.get_help(context)
    assert "--crops N" in shown
    assert "Crops of each image to average over. [default: 1]" in " ".join(shown.split())
    with pytest.raises(click.BadParameter, match="expected a whole number, got 'x'"):
        command.make_context("run", ["--crops", "x"])


def test_an_option_said_once_reaches_run_and_its_recorded_command(tmp_path: Path) -> None:
    out = tmp_path / "out"
    given: dict[str, Any] = {"layers": ["12"], "methods": "grad_cam"}
    camreport.run(CAT, out, settings=Wider(crops=4, **given))
    recorded = json.loads((out / "results/manifest.json").read_bytes())["command"]
    assert "--crops 4" in recorded
    assert api.changed(Wider(gamma=3.0), {"crops": 3}) == Wider(gamma=3.0, crops=3)


def test_an_option_said_once_is_in_the_fingerprint_and_in_a_file(tmp_path: Path) -> None:
    one, two = Wider().fingerprint(), Wider(crops=4).fingerprint()
    assert {name for name in one if one[name] != two[name]} == {"crops"}
    (tmp_path / "own.toml").write_text("crops = 4")
    assert read_config(tmp_path / "own.toml", Wider) == {"crops": 4}


def test_an_option_said_once_decides_what_a_second_run_keeps(tmp_path: Path) -> None:
    given: dict[str, Any] = {"layers": ["12"], "methods": "grad_cam"}
    reused = [
        camreport.run(CAT, tmp_path, settings=Wider(crops=crops, **given), overwrite=True).reused
        for crops in (1, 1, 4, 4)
    ]
    assert reused == [0, 1, 0, 1]


def test_an_option_said_once_is_in_the_readmes_table(table: Callable[..., str]) -> None:
    row = "| `--crops` `N` | Crops of each image to average over. | `1` |"
    assert row in table("en", options.from_settings(Wider))


@pytest.mark.parametrize("language", LANGUAGES)
def test_readme_has_the_table_of_the_options(language: str) -> None:
    script = runpy.run_path(str(ROOT / "docs/options_table.py"))
    readme = script["READMES"][language].read_text(encoding="utf-8")
    assert script["updated"](readme, language) == readme, "run 'make docs'"


def test_every_row_of_the_table_is_in_chinese_too() -> None:
    script = runpy.run_path(str(ROOT / "docs/options_table.py"))
    listed = [each.name for each in script["run"].params if isinstance(each, click.Option)]
    assert [name for name in listed if not script["TEXTS"].get(name, {}).get("zh")] == []
    assert script["TEXTS"].keys() <= set(listed)


def test_keyword_arguments_of_run_are_the_fields_of_the_settings() -> None:
    hidden = {"spelled"}
    hints = get_type_hints(Settings)
    assert get_type_hints(SettingsDict) == {
        each.name: hints[each.name] for each in fields(Settings) if each.name not in hidden
    }
    assert not SettingsDict.__required_keys__
    script = runpy.run_path(str(ROOT / "docs/options_table.py"))
    module = script["SETTINGS"].read_text(encoding="utf-8")
    assert script["with_keywords"](module) == module, "run 'make docs'"
    assert "\n    crops: int\n" in script["with_keywords"](
        module.replace("\n    workers:", "\n    crops: int = option(1)\n    workers:", 1)
    )


def test_defaults_are_what_the_command_line_says_they_are() -> None:
    for name, each in options_of(Settings).items():
        assert each.group in GROUPS
        if each.default_words and not each.shown_default:
            assert each.words(each.parse(each.default_words)) == each.words(each.default), name
    assert {method.key for method in resolve_methods(Settings().methods)} <= METHODS.keys()


def test_help_on_the_settings_explains_every_option() -> None:
    shown = pydoc.render_doc(Settings, renderer=pydoc.plaintext)
    for name, each in options_of(Settings).items():
        assert f"{name}: {each.help}" in shown


def test_settings_refuse_what_makes_no_sense() -> None:
    with pytest.raises(MethodError, match="gamma: expected a number above 0, got -1"):
        Settings(gamma=-1)
    with pytest.raises(TypeError, match=r"got 'gama'\. Did you mean 'gamma'"):
        camreport.run(CAT, "out", gama=2)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", sorted(options_of(Settings).keys() - {"model", "output"}))
def test_run_refuses_a_value_of_a_wrong_type_by_the_name_of_its_option(
    name: str, tmp_path: Path
) -> None:
    wrong: Any = {name: object()}
    with pytest.raises(CamReportError, match=f"^{name.replace('_', '.')}.*: .*expected"):
        camreport.run(CAT, tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        ({"classes": 0}, r"^classes: expected .*, got 0\. For instance classes=\[0\]"),
        ({"methods": 0}, r"^methods: expected .*, got 0\. For instance methods=\["),
        ({"seed": 1.5}, r"^seed: expected a whole number .*, got 1\.5"),
        ({"batch_size": 1.5}, r"^batch_size: expected .*, got 1\.5"),
        ({"trust_checkpoint": "no"}, r"^trust_checkpoint: expected True or False, got 'no'"),
    ],
)
def test_run_says_what_a_value_of_a_wrong_type_should_have_been(
    wrong: Any, advice: str, tmp_path: Path
) -> None:
    with pytest.raises(CamReportError, match=advice):
        camreport.run(CAT, tmp_path / "out", **wrong)


@pytest.mark.parametrize(
    ("one", "two", "parts"),
    [
        ({}, {"layers": ["12"]}, {"maps"}),
        ({}, {"labels": "folder"}, {"records"}),
        ({}, {"class_names": ["a", "b"]}, {"records"}),
        ({}, {"language": "zh", "layout": "folder", "figures": True}, {"report"}),
        ({}, {"overwrite": True, "trust_checkpoint": True}, {"maps"}),
        ({"gamma": 2}, {"gamma": 2.0}, set()),
        ({"smooth": "noise,aug"}, {"smooth": ["noise", "aug"]}, set()),
    ],
)
def test_a_fingerprint_changes_with_what_its_options_affect(
    one: dict[str, Any], two: dict[str, Any], parts: set[str]
) -> None:
    first, second = Settings(**one), Settings(**two)
    differing = {
        p for p in ("maps", "records", "report") if print_of(first, p) != print_of(second, p)
    }
    assert differing == parts


def print_of(settings: Settings, part: str) -> str:
    """Return what affects a part of the results, as JSON."""
    known = options_of(type(settings)).items()
    own = {name: each for name, each in known if each.affects == part}
    return json.dumps({name: each.written(getattr(settings, name)) for name, each in own.items()})


def test_a_fingerprint_holds_what_options_came_to() -> None:
    came_to = {"model": ["net", "abc"], "layers": ["features.12"], "seed": None}
    found = Settings(layers=["12"], checkpoint="net.pth", seed=3).fingerprint(came_to)
    assert {name: found[name] for name in came_to} == came_to
    assert "checkpoint" not in found
    assert found["gamma"] == "2.0"
    elsewhere = Settings(layers=["features.12"], checkpoint="copy.pth").fingerprint(came_to)
    assert elsewhere == found


CONFIG = """
layers = [9, "features.12"]
methods = "grad_cam"
class-names = ["cat, tabby", "dog"]
mean = [0.5, 0.25, 0]
image_size = [224, 224]
std = "1,1,1"
seed = 3
gamma = 1.5
lang = "zh"
folder = true
figures = false
"""
SAME = Settings(
    layers=("9", "features.12"),
    methods=("grad_cam",),
    class_names=("cat, tabby", "dog"),
    mean=[0.5, 0.25, 0],
    image_size=[224, 224],
    std=[1.0, 1.0, 1.0],
    seed=3,
    gamma=1.5,
    language="zh",
    layout="folder",
)


def test_a_file_says_options_as_the_command_line_does(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(CONFIG)
    assert Settings(**read_config(tmp_path / "run.toml")) == SAME
    (tmp_path / "pyproject.toml").write_text(f"[project]\nname = 'x'\n[tool.camreport]{CONFIG}")
    assert Settings(**read_config(tmp_path / "pyproject.toml")) == SAME
    (tmp_path / "other.toml").write_text("[tool.ruff]\nline-length = 100")
    assert read_config(tmp_path / "other.toml") == {}


def test_command_line_goes_before_the_file_and_the_file_before_the_defaults(
    command: Command,
) -> None:
    Path("pyproject.toml").write_text("[tool.camreport]\ngamma = 1.5\nlang = 'zh'\nlayers = [12]")
    Path("other.toml").write_text("stages = 1\nlayers = [9]")
    assert command("run", CAT, "-o", "one", "--gamma", "2").code == 0
    assert recorded("one") == "run cat.jpg -o one --layers 12 --gamma 2.0 --lang zh"
    finished = command("run", CAT, "-o", "two", "--config", "other.toml", "--layers", "auto")
    assert finished.code == 0
    assert recorded("two") == "run cat.jpg -o two --stages 1"
    listed = json.loads(Path("two/results/manifest.json").read_bytes())["layers"]
    assert len(listed) == 5


def recorded(out: str) -> str:
    """Return the recorded command without the program's name."""
    manifest = json.loads(Path(out, "results/manifest.json").read_bytes())
    return str(manifest["command"]).removeprefix("camreport ")


def test_layers_lists_those_of_the_model_in_the_file(command: Command) -> None:
    Path("net.py").write_text(
        "from torch import nn\n\ndef build():\n    return nn.Sequential(nn.Conv2d(3, 2, 3), "
        "nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
    )
    Path("names.txt").write_text("a\nb\nc")
    Path("own.toml").write_text("model = 'net.py:build'\nclass-names = 'names.txt'")
    finished = command("layers", "--config", "own.toml")
    assert (finished.code, finished.err) == (0, "")
    assert re.findall(r"^\*? +(\d) ", finished.out, re.MULTILINE) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("gama = 2", "options of 'camreport run' in 'own.toml', got 'gama'. Did you mean 'gamma'?"),
        ("out = 'x'", "got 'out'."),
        ("gamma = 'steep'", "'own.toml': gamma: expected a number, got 'steep'."),
        ("gamma = true", "gamma: expected a text, a number or a list of them, got true."),
        ("gamma = -1", "gamma: expected a number above 0, got -1.0."),
        ("lang = 'fr'", "lang: expected en or zh, got 'fr'."),
        ("figures = 1", "figures: expected false or true, got 1."),
        ("layout = 'both'", 'expected "auto" or "single" or "folder", got "both".'),
        ("class-names = 'names.txt'", "class-names: class names: there is no file 'names.txt'"),
        ("layers = {a = 1}", "layers: expected a text, a number or a list of them"),
        ("gamma == 2", "expected a TOML file in UTF-8, got 'own.toml' (Invalid value"),
        ("gamma = " + "[" * 10_000, "expected a TOML file in UTF-8, got 'own.toml' ("),
        (b"\xff", "expected a TOML file in UTF-8, got 'own.toml'"),
        (None, "got 'own.toml' (No such file or directory)"),
    ],
)
def test_a_wrong_file_is_refused_by_its_name_and_key(
    command: Command, content: str | bytes | None, said: str
) -> None:
    if content is not None:
        Path("own.toml").write_bytes(content.encode() if isinstance(content, str) else content)
    finished = command("run", CAT, "-o", "out", "--config", "own.toml")
    assert finished.code == 2
    assert finished.err.startswith("error: config: ")
    assert finished.err.count("\n") == 1
    assert said in finished.err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "line", ["trust-checkpoint = true", "overwrite = true", "model = 'evil.py:build'"]
)
def test_a_file_that_lies_there_can_run_no_code_and_replace_nothing(
    command: Command, line: str
) -> None:
    Path("evil.py").write_text("raise SystemExit('it ran')")
    Path("pyproject.toml").write_text(f"[tool.camreport]\n{line}")
    finished = command("run", CAT, "-o", "out", *QUICK)
    assert finished.code == 2
    assert "on the command line or in a file that you name, got" in finished.err
    assert "it ran" not in finished.err
    Path("pyproject.toml").write_text(
        "[tool.camreport]\nmodel = 'timm:resnet18'\noverwrite = false"
    )
    assert read_config(None) == {"model": "timm:resnet18", "overwrite": False}


def test_a_broken_file_of_other_tools_stops_nothing(command: Command) -> None:
    Path("pyproject.toml").write_text("[tool.ruff\n")
    assert read_config(None) == {}
    Path("pyproject.toml").write_text("[tool.camreport\n")
    with pytest.raises(CamReportError, match=r"got 'pyproject.toml'"):
        read_config(None)


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("camreport", "torch numpy PIL cv2 jinja2 click tqdm tomllib json"),
        ("camreport.settings", "torch numpy PIL cv2 jinja2 click tqdm tomllib json"),
        ("camreport.cli.commands", "torch numpy PIL cv2 jinja2 tqdm"),
    ],
)
def test_what_starts_a_program_loads_nothing_heavy(module: str, heavy: str) -> None:
    code = f"import sys, {module}; print([m for m in {heavy.split()} if m in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.stdout == "[]\n", finished.stderr
