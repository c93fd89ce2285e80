"""The command line: exit codes, what is printed and what is not, and what is never imported."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.checkout import INPUTS
from helpers.command import CAT, QUICK, Command, Finished, failing, finish, start
from PIL import Image

import camreport
from camreport.cli import commands as cli
from camreport.errors import CamReportError
from camreport.report import export


def test_run_explains_images_and_says_where_the_report_is(command: Command) -> None:
    finished = command("run", str(INPUTS), "-o", "out", "--layers", "12", "--verbose")
    assert (finished.code, finished.err) == (0, "")
    assert re.search(r"^both\.jpg: dog 0\.\d\d, cat 0\.\d\d$", finished.out, re.MULTILINE)
    assert re.search(r"^cat\.jpg: cat ", finished.out, re.MULTILINE)
    assert re.search(r"^dog\.jpg: dog ", finished.out, re.MULTILINE)
    assert "features.12: MaxPool2d, own output, 256 x 6 x 6" in finished.out
    assert re.search(r"1 forward, 2 backwards, 12 maps, \d+\.\d s", finished.out)
    assert finished.out.rstrip().endswith(f"report: {Path('out/index.html').resolve().as_uri()}")
    assert "ATTRIBUTION" not in finished.out


def test_run_exits_with_1_and_lists_what_failed(command: Command) -> None:
    Path("empty.jpg").touch()
    Path("page.png").write_text("<html>404</html>")
    finished = command("run", CAT, "empty.jpg", "page.png", "-o", "out", *QUICK)
    assert finished.code == 1
    assert "2 of 3 inputs could not be read" in finished.err
    assert "  empty.jpg: the file is empty (0 bytes)\n" in finished.err
    assert re.search(r"^  page.png: .*HTML page", finished.err, re.MULTILINE)
    assert "report: file:" in finished.out
    report = Path("out/index.html").read_text(encoding="utf-8")
    assert "2 of 3 inputs could not be read" in report


def test_run_says_how_much_an_earlier_run_has_left(command: Command) -> None:
    command("run", CAT, "-o", "out", *QUICK)
    finished = command("run", CAT, "-o", "out", *QUICK)
    assert finished.code == 0
    assert "1 of 1 inputs were kept from an earlier run or part" in finished.out


RUN = ("run", CAT, "-o", "out")
WITHOUT_TORCH = [
    (("run",), "input: expected an image, a folder or a pattern, got none"),
    (("run", "-o", "out"), "input: expected an image, a folder or a pattern, got none"),
    (("render",), "out: expected a value, got none"),
    (("rnu",), "command: expected one of run, render, compare, export, layers, methods"),
    ((*RUN, "--opcaity", "1"), "option: expected one of camreport run, got '--opcaity'"),
    ((*RUN, "--laguage", "zh"), "Did you mean '--lang'?"),
    ((*RUN, "--lang", "fr"), "lang: expected en or zh, got 'fr'."),
    ((*RUN, "--resize", "squish"), "got 'squish'. Did you mean 'squash'?"),
    ((*RUN, "--batch-size", "0"), "batch-size: expected 'auto' or a number from 1, got '0'"),
    ((*RUN, "--batch-size", "many"), "got 'many'"),
    (("run", "nowhere.jpg", "-o", "out"), "'nowhere.jpg'"),
    (("run", CAT, "nowhere", "-o", "out"), "'nowhere'"),
    (("run", "*.jpg", "-o", "out"), "'*.jpg'"),
    (("run", "mine", "-o", "out"), "found none in 'mine'"),
    ((*RUN, "--methods", "gradcma"), "Did you mean 'grad_cam'?"),
    ((*RUN, "--methods", "score-camm"), "Did you mean 'score_cam'?"),
    ((*RUN, "--methods", "xyzzy"), "got 'xyzzy'. There are grad_cam, "),
    ((*RUN, "--methods", ","), "methods: expected at least one"),
    ((*RUN, "--quantity", "logits"), "contrast:CLASS, got 'logits'. Did you mean 'logit'?"),
    ((*RUN, "--quantity", "logit:dog"), "got 'logit:dog'"),
    ((*RUN, "--quantity", "contrast:dgo", "--class-names", "cat,dog"), "Did you mean 'dog'?"),
    ((*RUN, "--gamma", "0"), "gamma: expected a number above 0, got 0.0"),
    ((*RUN, "--gamma", "steep"), "gamma: expected a number, got 'steep'"),
    ((*RUN, "--stages", "-1"), "stages: expected a whole number from 0"),
    ((*RUN, "--stages", "1.5"), "stages: expected a whole number, got '1.5'"),
    ((*RUN, "--smooth", "noisy"), "noise, aug, eigen, got 'noisy'. Did you mean 'noise'?"),
    ((*RUN, "--seed", "x"), "seed: expected a whole number, got 'x'"),
    ((*RUN, "--seed", "-1"), "seed: expected a whole number from 0"),
    ((*RUN, "--layers", ","), "layers: expected at least one address"),
    ((*RUN, "--layers", "12:post"), "'name:pre' or 'name#call', got '12:post'"),
    ((*RUN, "--channels", "12#x"), "'name:pre' or 'name#call', got '12#x'"),
    ((*RUN, "--classes", ","), "classes: expected all, top3, indices or names, got nothing"),
    ((*RUN, "--classes", "dgo", "--class-names", "cat,dog"), "Did you mean 'dog'?"),
    ((*RUN, "--class-names", "mine/latin1"), "UTF-8"),
    ((*RUN, "--class-names", "names.txt"), "there is no file 'names.txt'"),
    ((*RUN, "--labels", "true.csv"), "found no file 'true.csv'"),
    ((*RUN, "--labels", "mine/latin1", "--class-names", "cat,dog"), "UTF-8"),
    ((*RUN, "--model", "alexnte"), "Did you mean 'alexnet'?"),
    ((*RUN, "--model", "catdog-alexnte"), "Did you mean 'catdog-alexnet'?"),
    ((*RUN, "--model", "net.py"), "Say what builds it: net.py:build."),
    ((*RUN, "--model", "net.py:build"), "there is no file 'net.py'"),
    ((*RUN, "--checkpoint", "none.pth"), "none.pth cannot be read: 'none.pth' does not exist"),
    ((*RUN, "--checkpoint", "mine"), "'mine' is no regular file"),
    ((*RUN, "--device", "gpu"), "device: expected auto, cpu, cuda, cuda:N or mps, got 'gpu'"),
    ((*RUN, "--mean", "1,2"), "mean: expected three numbers"),
    ((*RUN, "--std", "a,b,c"), "std: expected three numbers, got 'a,b,c'"),
    ((*RUN, "--image-size", "0"), "image_size: expected a number of pixels from 1"),
    (("run", CAT, "-o", "mine"), "--overwrite"),
    (("run", CAT, "-o", "mine/notes.txt"), "the file 'mine/notes.txt'"),
    (("run", CAT, "-o", "mine/notes.txt", "--overwrite"), "the file 'mine/notes.txt'"),
    (("layers", "--model", "alexnte"), "Did you mean 'alexnet'?"),
    (("layers", "--checkpoint", "none.pth"), "none.pth cannot be read"),
    (("layers", "--mean", "1,2"), "mean: expected three numbers"),
    (("render", "mine"), "'mine'"),
    (("render", "nowhere"), "'nowhere'"),
    (("run", "x" * 300, "-o", "out"), "xxx"),
    (("run", "", "-o", "out"), "''"),
    (("run", CAT, "-o", "mine/notes.txt/out"), "notes.txt"),
    (("run", CAT, "-o", "x" * 300), "xxx"),
]
NAMES = ",".join(f"class {index}" for index in range(99))
WITH_TORCH = [
    (("run", "mine/notes.txt", "-o", "out"), "notes.txt: "),
    ((*RUN, "--methods", "cam"), "CAM is not defined for this model"),
    ((*RUN, "--quantity", "contrast:dgo"), "Did you mean 'dog'?"),
    ((*RUN, "--layers", "featrues.12"), "Did you mean 'features.12'?"),
    ((*RUN, "--layers", "13"), "'features.13'"),
    ((*RUN, "--layers", "classifier.1"), "'classifier.1'"),
    ((*RUN, "--classes", "dgo"), "Did you mean 'dog'?"),
    ((*RUN, "--classes", "2"), "an index 0 to 1"),
    ((*RUN, "--class-names", "a,b,c"), "expected 2"),
    ((*RUN, "--class-names", NAMES), "got 99"),
    ((*RUN, "--checkpoint", "mine/notes.txt"), "notes.txt"),
    ((*RUN, "--device", "cuda:99"), "got 'cuda:99'"),
]


@pytest.fixture
def mine(command: Command) -> Path:
    """A folder that is not ours, in the empty folder of ``command``."""
    folder = Path("mine")
    folder.mkdir()
    (folder / "notes.txt").write_text("precious")
    (folder / "latin1").write_bytes("chat\nété".encode("latin-1"))
    return folder


@pytest.mark.parametrize(("words", "said"), WITHOUT_TORCH + WITH_TORCH)
def test_command_exits_with_2_names_the_trouble_and_writes_nothing(
    command: Command, mine: Path, words: tuple[str, ...], said: str
) -> None:
    before = sorted(Path().rglob("*"))
    finished = command(*words)
    assert finished.code == 2
    assert finished.err.startswith("error: ")
    assert finished.err.count("\n") == 1, "one sentence, in our one style"
    assert said in finished.err
    assert finished.out == ""
    assert sorted(Path().rglob("*")) == before
    assert (mine / "notes.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (RuntimeError("boom"), 3, "internal error: RuntimeError: boom"),
        (ZeroDivisionError(), 3, "internal error: ZeroDivisionError"),
        (CamReportError("input: expected this, got that."), 2, "error: input: expected this"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
@pytest.mark.parametrize("debug", [False, True])
def test_command_shows_a_traceback_only_when_it_is_asked_for(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    said: str,
    debug: bool,
) -> None:
    monkeypatch.setattr("camreport.api.run", failing(error))
    finished = command("run", CAT, "-o", "out", *(["--debug"] if debug else []))
    assert finished.code == code
    assert said in finished.err
    assert ("Traceback" in finished.err) == (debug and code != 130)


def test_main_exits_with_the_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["camreport", "render", "nowhere"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2


def test_run_prints_nothing_when_quiet(command: Command) -> None:
    assert command("run", CAT, "-o", "out", *QUICK, "--quiet") == Finished(0, "", "")
    assert Path("out/index.html").exists()


def test_run_says_what_failed_even_when_quiet(command: Command) -> None:
    Path("empty.jpg").touch()
    finished = command("run", CAT, "empty.jpg", "-o", "out", *QUICK, "--quiet")
    assert (finished.code, finished.out) == (1, "")
    assert "empty.jpg" in finished.err


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff猫\n狗\n".encode(),
        "猫\n狗".encode(),
        "猫\r\n\r\n狗\r\n".encode(),
        "猫，狗",
        " 猫 , 狗 ",
    ],
)
def test_run_reads_class_names_from_a_file_or_a_list(
    command: Command, content: bytes | str
) -> None:
    if isinstance(content, bytes):
        Path("names.txt").write_bytes(content)
    names = "names.txt" if isinstance(content, bytes) else content
    finished = command("run", CAT, "-o", "out", *QUICK, "--class-names", names, "--classes", "狗")
    assert finished.code == 0
    manifest = json.loads(Path("out/results/manifest.json").read_bytes())
    assert [entry["name"] for entry in manifest["classes"]] == ["猫", "狗"]
    assert "cat.jpg: 猫 0.99" in finished.out or "cat.jpg: 猫 > 0.99" in finished.out
    assert "names.txt" not in Path("out/index.html").read_text(encoding="utf-8")


def test_run_records_a_command_that_does_the_same(command: Command) -> None:
    words = ["run", CAT, "-o", "out", "--layers", "12,features.8:pre", "--methods"]
    words += ["Grad-CAM,hirescam,layer_cam", "--quantity", "contrast:cat", "--gamma", "1.5"]
    words += ["--stages", "1", "--smooth", "eigen,noise", "--seed", "3"]
    command(*words, "--classes", "dog", "--batch-size", "2")
    report = Path("out/results/manifest.json").read_bytes()
    recorded = json.loads(report)["command"].split()
    assert recorded[:2] == ["camreport", "run"]
    assert recorded[2] == "cat.jpg", "no absolute path"
    recorded[2], recorded[recorded.index("out")] = CAT, "again"
    assert command(*recorded[1:]).code == 0
    free = ("command", "versions", "device", "cost")
    one, two = json.loads(report), json.loads(Path("again/results/manifest.json").read_bytes())
    assert (one["quantity"], one["fusion"]) == ("contrast:0", {"gamma": 1.5, "stages": 1})
    assert (one["smooth"], one["seed"]) == (["noise", "eigen"], 3)
    assert {k: v for k, v in one.items() if k not in free} == {
        k: v for k, v in two.items() if k not in free
    }


def test_render_builds_the_report_again(command: Command) -> None:
    command("run", CAT, "-o", "out", *QUICK)
    report = Path("out/index.html")
    before = report.read_bytes()
    report.unlink()
    finished = command("render", "out")
    assert finished == Finished(0, f"report: {report.resolve().as_uri()}\n", "")
    assert report.read_bytes() == before


def test_render_says_that_a_folder_belongs_to_the_page(command: Command) -> None:
    command("run", CAT, "-o", "out", *QUICK)
    folder = command("render", "out", "--folder")
    assert folder.code == 0
    assert folder.err.startswith("note: the report needs the folder data/ beside it")
    assert folder.out == f"report: {Path('out/index.html').resolve().as_uri()}\n"


FACE = {
    *("run", "explain", "Explainer", "load_model", "load_results", "overlay", "CamReportError"),
    *("Explanation", "LoadedModel", "Results", "Settings", "Summary", "Evaluation", "evaluate"),
    "compare",
}


def test_public_names_are_these_and_no_others() -> None:
    assert sorted(FACE) == sorted(camreport.__all__)
    assert FACE | {"__version__"} == set(dir(camreport))
    for name in FACE:
        assert getattr(camreport, name).__name__ == name
        assert getattr(camreport, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'rnu'"):
        camreport.rnu  # noqa: B018


NO_TORCH = """
import os, sys
import camreport
assert "torch" not in sys.modules, "import camreport"
from camreport.cli import commands as cli
for words, code in {commands!r}:
    sys.argv = ["camreport", *words]
    assert cli.cli.exit_code() == code, words
    assert "torch" not in sys.modules, words
"""


def test_torch_is_not_imported_before_there_is_something_to_compute(
    demo: Path, tmp_path: Path, command: Command, mine: Path
) -> None:
    out = str(shutil.copytree(demo, tmp_path / "demo"))
    right = ["--help", "-h", "run --help", "render --help", "--version", "methods", "metrics"]
    commands = [(words.split(), 0) for words in right] + [(["render", out], 0), ([], 2)]
    commands += [(list(words), 2) for words, _ in WITHOUT_TORCH]
    finished = subprocess.run(
        [sys.executable, "-c", NO_TORCH.format(commands=commands)], capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr


def test_run_looks_for_its_images_once(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    scandir = os.scandir

    def counted(folder: str | Path = ".") -> Iterator[os.DirEntry[str]]:
        listed.append(os.path.basename(folder))
        return scandir(folder)

    monkeypatch.setattr("os.scandir", counted)
    Path("in").mkdir()
    shutil.copy(CAT, "in/cat.jpg")
    assert command("run", "in", "-o", "out", *QUICK).code == 0
    assert listed.count("in") == 1


TERMINALS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "strict": {"PYTHONIOENCODING": "ascii:strict"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "gbk": {"PYTHONIOENCODING": "gbk"},
    "C": {"LC_ALL": "C", "LANG": "C"},
    "C, as it is": {
        **{"LC_ALL": "C", "LANG": "C"},
        **{"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    },
}


@pytest.mark.parametrize("terminal", TERMINALS)
def test_commands_survive_a_terminal_without_unicode(
    demo: Path, tmp_path: Path, terminal: str
) -> None:
    shutil.copytree(demo, tmp_path / "r🐶port")
    commands = [("methods",), ("run", "--help"), ("render", "r🐶port"), ("render", "n🐱")]
    processes = [start(*words, cwd=tmp_path, **TERMINALS[terminal]) for words in commands]
    finished = [finish(process) for process in processes]
    assert [each.code for each in finished] == [0, 0, 0, 2]
    assert not any("Traceback" in each.err for each in finished)
    assert "layer_cam" in finished[0].out
    assert "index.html" in finished[2].out
    if terminal in ("latin-1", "gbk"):
        assert r"\U0001f431" in finished[3].err


@pytest.mark.slow
@pytest.mark.parametrize("terminal", ["strict", "gbk", "C, as it is"])
def test_run_survives_a_terminal_without_unicode(tmp_path: Path, terminal: str) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(CAT, tmp_path / "in" / "chat 🐱.jpg")
    (tmp_path / "in" / "перо.jpg").touch()
    (tmp_path / "names").write_text("猫\n狗", encoding="utf-8")
    words = ("run", "in", "-o", "ört", "--class-names", "names", *QUICK)
    finished = finish(start(*words, cwd=tmp_path, **TERMINALS[terminal]))
    assert finished.code == 1
    assert "Traceback" not in finished.err
    assert "report: file:" in finished.out
    manifest = json.loads((tmp_path / "ört" / "results" / "manifest.json").read_bytes())
    assert [record["file"] for record in manifest["images"]] == ["chat 🐱.jpg", "перо.jpg"]
    assert [entry["name"] for entry in manifest["classes"]] == ["猫", "狗"]
    report = (tmp_path / "ört" / "index.html").read_text(encoding="utf-8")
    assert "chat 🐱.jpg" in report


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent Ctrl-C alone there")
def test_run_exits_with_130_when_interrupted_and_goes_on_afterwards(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for index in range(100):
        pixels = np.random.default_rng(index).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{index:03}.png")
    words = ("run", "in", "-o", "out", *QUICK, "--classes", "cat", "--batch-size", "4")
    process = start(*words, cwd=tmp_path)
    deadline = time.monotonic() + 300
    while not (tmp_path / "out" / "results" / "shard-000000.json").exists():
        assert process.poll() is None, "finished before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    interrupted = finish(process)
    assert interrupted.code == 130
    assert "interrupted" in interrupted.err
    assert "Traceback" not in interrupted.err
    assert interrupted.out == ""
    assert not (tmp_path / "out" / "index.html").exists()
    assert not (tmp_path / "out" / "results" / "manifest.json").exists()
    finished = finish(start(*words, cwd=tmp_path))
    assert finished.code == 0
    kept = re.search(r"^(\d+) of 100 inputs were kept", finished.out, re.MULTILINE)
    assert kept
    assert int(kept[1]) == 64
    manifest = json.loads((tmp_path / "out" / "results" / "manifest.json").read_bytes())
    assert [record["status"] for record in manifest["images"]] == ["ok"] * 100
    assert manifest["cost"]["forwards"] == 25
    assert (tmp_path / "out" / "index.html").exists()


def test_run_draws_its_figures_once(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[object] = []
    figures = export.export_figures
    monkeypatch.setattr(
        export, "export_figures", lambda *given: drawn.append(given) or figures(*given)
    )
    assert command("run", CAT, "-o", "out", *QUICK, "--figures").code == 0
    assert len(drawn) == 1
    assert list(Path("out/figures").glob("cat_*.png"))
