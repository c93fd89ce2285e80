"""What stands on which stream, how it looks, and what happens when a stream takes nothing."""

import errno
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from helpers.checkout import INPUTS
from helpers.command import CAT, Command, failing, start

from camreport.cli import commands as cli
from camreport.cli import console
from camreport.methods import METHODS

QUICK = ("--layers", "12", "--methods", "grad_cam")


def test_help_lists_every_option_once_in_groups_with_examples(command: Command) -> None:
    finished = command("run", "--help")
    assert (finished.code, finished.err) == (0, "")
    headings = re.findall(r"^(\w+):$", finished.out, re.MULTILINE)
    groups = ["Input", "Model", "What", "Evidence", "Drawing", "Output", "Machines", "Other"]
    assert headings == groups
    for parameter in cli.run.params:
        for name in parameter.opts if isinstance(parameter, click.Option) else ():
            assert len(re.findall(rf"^ +(-\w, )?{re.escape(name)}\b(?!-)", finished.out, re.M)) <= 1
            assert re.search(rf"{re.escape(name)}\b", finished.out)
    examples = re.findall(r"^ +camreport (.*)$", finished.out.partition("Examples:")[2], re.M)
    assert len(examples) == 3
    for example in examples:
        words = re.split(r"  +", example)[0].split()
        assert cli.cli.make_context("camreport", words[:1]).invoked_subcommand is None
        cli.run.make_context("run", words[1:])


def test_layers_help_has_the_groups_of_run(command: Command) -> None:
    out = command("layers", "--help").out
    assert re.findall(r"^(\w+):$", out, re.MULTILINE) == ["Input", "Model", "Other"]


def test_out_is_a_folder_called_report_unless_told_otherwise(command: Command) -> None:
    assert command("run", CAT, *QUICK).code == 0
    assert Path("report/index.html").is_file()


def test_debug_shows_a_traceback_in_an_embedding_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["another program"])
    monkeypatch.setattr("camreport.api.run", failing(RuntimeError("boom")))
    for words, shown in ((["--debug"], True), ([], False)):
        finished = CliRunner().invoke(cli.cli, ["run", CAT, *words])
        assert finished.exit_code == 3
        assert "internal error: RuntimeError: boom" in finished.stderr
        assert ("Traceback" in finished.stderr) == shown


def test_command_line_exits_with_its_codes_in_an_embedding_program() -> None:
    assert CliRunner().invoke(cli.cli, ["methods"]).exit_code == 0
    finished = CliRunner().invoke(cli.cli, ["run", CAT, "--gamma", "x"])
    assert finished.exit_code == 2
    assert finished.stderr == "error: gamma: expected a number, got 'x'.\n"
    with pytest.raises(click.UsageError):
        cli.cli.main(["run", CAT, "--gamma", "x"], standalone_mode=False)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 2, "error: output: .*No space left"),
        (OSError(errno.EDQUOT, "quota", "out/a.npz"), 2, r"error: file: 'out/a.npz' .*\(quota\)"),
        (PermissionError(errno.EACCES, "denied", "out/x"), 2, "error: file: 'out/x' .*denied"),
        (FileNotFoundError(errno.ENOENT, "no such file", "out/x"), 2, "error: file: 'out/x'"),
        (OSError("no number"), 3, "internal error: OSError: no number"),
    ],
)
def test_trouble_of_the_disk_is_no_bug_of_ours(
    command: Command, monkeypatch: pytest.MonkeyPatch, error: OSError, code: int, said: str
) -> None:
    monkeypatch.setattr("camreport.api.run", failing(error))
    finished = command("run", CAT)
    assert finished.code == code
    assert re.match(said, finished.err)


def test_warnings_of_libraries_are_notes(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        warnings.warn("layer X is\ndeprecated", DeprecationWarning, stacklevel=1)
        raise KeyboardInterrupt

    monkeypatch.setattr("camreport.api.run", run)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        said = command("run", CAT).err.splitlines()
        assert said[0] == "note: a library warns: layer X is"
        assert not any("Warning" in line or "test_console" in line for line in said)
        assert command("run", CAT, "--quiet").err.splitlines() == said[1:]


def test_notes_warnings_and_errors_are_coloured_on_terminals_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    told: tuple[Callable[[str], None], ...] = (console.note, console.warning, console.error)
    for tell in told:
        tell("text")
    plain = "note: text\nwarning: text\nerror: text\n"
    assert capsys.readouterr() == ("", plain)
    monkeypatch.setattr("click._compat.isatty", lambda stream: True)
    for tell in told:
        tell("text")
    coloured = capsys.readouterr().err
    assert coloured != plain
    assert re.sub(r"\x1b\[\d*(;\d+)*m", "", coloured) == plain
    monkeypatch.setenv("NO_COLOR", "1")
    for tell in told:
        tell("text")
    assert capsys.readouterr().err == plain


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_tables_fit_a_narrow_terminal(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    columns: int,
) -> None:
    rows = [("key", "name", "count"), ("q" * 70, "two words " * 20, "1"), ("b", "", "22")]
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    console.table(rows, right=[2])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    assert sum(line.count("q") for line in lines) == 70
    assert sum(line.count("words") for line in lines) == 20


def test_tables_keep_one_line_for_each_row_in_a_pipe(command: Command) -> None:
    assert len(command("methods").out.splitlines()) == 1 + len(METHODS)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_streams_that_take_nothing_end_a_command_without_a_traceback(tmp_path: Path) -> None:
    import subprocess

    def run(shell: str) -> tuple[int, str]:
        words = shell.format(f"{sys.executable} -m camreport")
        finished = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {words}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        return finished.returncode, finished.stderr

    assert run("{} methods | head -c 10 >/dev/null") == (0, "")
    assert run("{} run --help | head -c 0") == (0, "")
    code, said = run("{} methods >/dev/full")
    assert code == 2
    assert re.fullmatch(r"error: output: .*\(No space left on device\).*\n", said)
    assert run("{} methods >&-") == (0, "")
    assert run("{} render nowhere 2>/dev/full") == (2, "")
    assert run("{} render nowhere 2>&-") == (2, "")
    assert run("{} rnu 2>&-") == (2, "")


@pytest.mark.slow
def test_run_finishes_its_report_when_nobody_reads_what_it_prints(tmp_path: Path) -> None:
    with start("run", str(INPUTS), *QUICK, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
    assert (tmp_path / "report/index.html").is_file()
