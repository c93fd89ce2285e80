"""The command line and its many methods: the table, the options, what is left out, progress."""

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.checkout import INPUTS
from helpers.command import CAT, Command, failing

from camreport.errors import CamReportError
from camreport.methods import METHODS
from camreport.pipeline import missing as pipeline
from camreport.pipeline.shard import Shard
from camreport.results.reader import load_results
from camreport.settings import Settings

OUT = ("run", CAT, "-o", "out", "--layers", "12")


def test_methods_lists_what_the_table_says_of_every_method(command: Command) -> None:
    finished = command("methods")
    assert (finished.code, finished.err) == (0, "")
    head, *rows = finished.out.splitlines()
    columns = head.split()
    assert columns == ["key", "name", "needs", "cost", "layers", "source"]
    starts = [re.search(rf"\b{column}\b", head).start() for column in columns]
    cells = [
        [row[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)]
        for row in rows
    ]
    assert cells == [
        [m.key, m.name, *map(str, (m.needs.name, m.needs.cost, m.layers)), m.source]
        for m in METHODS.values()
    ]
    assert all(all(row) for row in cells)


def test_run_passes_its_options_on(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Settings] = []

    def run(*_: object, settings: Settings, **__: object) -> None:
        given.append(settings)
        failing(CamReportError("enough"))()

    monkeypatch.setattr("camreport.api.run", run)
    command("run", CAT, "-o", "out")
    words = ["--quantity", "contrast:dog", "--gamma", "0.5", "--stages", "2", "--folder"]
    words += ["--smooth", "noise,aug", "--seed", "7", "--methods", "all", "--figures"]
    command("run", CAT, "-o", "out", *words)
    said = {"quantity": "contrast:dog", "gamma": 0.5, "stages": 2, "seed": 7, "figures": True}
    lists = {"smooth": ("noise", "aug"), "methods": ("all",)}
    assert given == [Settings(), Settings(**said, **lists, layout="folder")]


def test_run_says_what_is_left_out_before_it_computes_the_rest(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = pipeline.compute_shard

    def computed(*given: object) -> Shard:
        print("computing", file=sys.stderr)
        return compute(*given)

    monkeypatch.setattr(pipeline, "compute_shard", computed)
    words = ("--layers", "12,features.10:pre", "--methods", "cam,grad_cam,xgrad_cam")
    finished = command("run", CAT, "-o", "out", *words)
    assert finished.code == 0
    *notes, last = finished.err.splitlines()
    assert last == "computing"
    assert [note.partition(" needs ")[0] for note in notes] == [
        "note: CAM is not defined for this model: it",
        "note: XGrad-CAM",
    ]
    assert "features.10:pre is read in front of the activation" in notes[1]
    assert "note" not in finished.out, "said once"
    results = load_results("out")
    assert {name for name in results.arrays(0) if "/" in name} == {
        *("grad_cam/features.12", "grad_cam/features.10:pre", "xgrad_cam/features.12"),
        "channel_contributions/features.12",
    }
    assert [skip.method for skip in results.manifest.skipped] == ["cam", "xgrad_cam"]


def test_run_says_afterwards_what_only_the_layers_could_tell(command: Command) -> None:
    words = ("--layers", "0", "--methods", "all", "--quiet")
    assert command("run", CAT, "-o", "out", *words).out == ""
    finished = command("run", CAT, "-o", "out", *words[:-1])
    said = (finished.out + finished.err).splitlines()
    (note,) = [line for line in said if "Recipro-CAM" in line]
    assert note.startswith("note: Recipro-CAM takes a pass for each of the 3,025 positions of fea")
    assert len([line for line in said if line.startswith("note: CAM is not defined")]) == 1


def test_run_leaves_notes_out_when_quiet(command: Command) -> None:
    finished = command(*OUT, "--methods", "cam,grad_cam", "--quiet")
    assert (finished.code, finished.out, finished.err) == (0, "", "")


def test_run_tells_the_cost_of_each_kind_of_passes(command: Command) -> None:
    finished = command(*OUT, "--methods", "hires_cam,finer_cam,guided_backprop,recipro_cam")
    lines = [line.rpartition(", ")[0] for line in finished.out.splitlines()]
    at = lines.index("3 forwards with 36 changed images or layers, 6 backwards, 8 maps")
    assert lines[at + 1 : at + 5] == [
        "  shared passes: 1 forward, 2 backwards, 2 maps",
        "  look-alikes: 2 backwards, 2 maps",
        "  guided passes: 1 forward, 2 backwards, 2 maps",
        "  tail passes: 1 forward with 36 changed images or layers, 2 maps",
    ]


def test_run_tells_one_cost_where_there_is_one_kind_of_passes(command: Command) -> None:
    finished = command(*OUT, "--methods", "hires_cam,eigen_cam")
    assert "1 forward, 2 backwards, 4 maps, " in finished.out
    assert "shared passes" not in finished.out


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """Make the standard error a terminal; give what is written to it, once the block has ended."""
    import pty
    import termios

    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    said: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(ours, 4096):
                said.append(data)
        except OSError:  # the other end is closed
            return

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(theirs, "w") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        yield said
    reader.join()
    os.close(ours)


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals there")
def test_run_shows_how_far_it_is_with_one_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from camreport.cli import commands as cli

    words = ["run", str(INPUTS / "cat.jpg"), "-o", str(tmp_path / "out"), "--layers", "0"]
    monkeypatch.setattr(sys, "argv", ["camreport", *words, "--methods", "score_cam"])
    with terminal(monkeypatch) as said:
        assert cli.cli.exit_code() == 0
    drawn = re.findall(
        r"(\d+)% \|[^|]*\| (\d\.\d) of 1 images, \d\d:\d\d gone, (\d\d:\d\d|\?) to go",
        b"".join(said).decode(),
    )
    shares = [float(share) for _, share, _ in drawn]
    assert shares == sorted(shares)
    assert [left for _, share, left in drawn if 0 < float(share) < 1 and left != "?"], drawn
    assert "report: file:" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals there")
def test_run_shows_how_far_the_evidence_is_and_what_it_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from camreport.cli import commands as cli

    words = ["run", str(INPUTS / "cat.jpg"), "-o", str(tmp_path / "out"), "--layers", "12"]
    words += ["--methods", "grad_cam", "--metrics", "average_drop"]
    monkeypatch.setattr(sys, "argv", ["camreport", *words])
    with terminal(monkeypatch) as said:
        assert cli.cli.exit_code() == 0
    drawn = re.findall(
        r"(\d+) of (\d+) passes for the evidence, \d\d:\d\d gone", b"".join(said).decode()
    )
    assert {total for _, total in drawn} == {str(3 * (1 + 2) + 4)}, (
        "scrambled networks; a map, 3 controls"
    )
    printed = capsys.readouterr().out
    assert re.search(
        r"\nevidence: \d+ forwards .*, 6 backwards, .* s\n  Learned: 3 forwards, 6 ", printed
    )
    monkeypatch.setattr(sys, "argv", ["camreport", *words])
    assert cli.cli.exit_code() == 0
    printed = capsys.readouterr().out
    assert "nothing new to compute; it took 1 forward" in printed
    assert "\nevidence, measured earlier: " in printed


def test_an_unknown_metric_is_refused_before_anything_is_loaded(command: Command) -> None:
    finished = command("run", CAT, "-o", "out", "--metrics", "rod")
    assert finished.code == 2
    assert "metrics: expected" in finished.err
    assert "Did you mean 'road'?" in finished.err
    assert not Path("out").exists()
