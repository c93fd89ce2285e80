"""``camreport`` run in this process or in one of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from camreport.cli import commands as cli
from helpers.checkout import INPUTS

CAT = str(INPUTS / "cat.jpg")


QUICK = ("--layers", "12", "--methods", "grad_cam")


@dataclass(frozen=True)
class Finished:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str


Command = Callable[..., Finished]


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run ``camreport`` in this process, in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*words: str) -> Finished:
        monkeypatch.setattr(sys, "argv", ["camreport", *words])
        capsys.readouterr()
        return Finished(cli.cli.exit_code(), *capsys.readouterr())

    return run


def start(*words: str, cwd: Path, **variables: str) -> subprocess.Popen[bytes]:
    """Start ``python -m camreport`` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "camreport", *words],
        cwd=cwd,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[bytes]) -> Finished:
    """Wait for a process and return what it left."""
    out, err = process.communicate(timeout=300)
    return Finished(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))


def failing(error: BaseException) -> Callable[..., None]:
    """Return a stand-in for ``camreport.run`` that raises."""

    def run(*_inputs: object, **_options: object) -> None:
        raise error

    return run
