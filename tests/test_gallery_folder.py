"""A report as a folder: chosen by size, written whole or not at all."""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from helpers import synthetic
from helpers.checkout import INPUTS
from helpers.command import Command
from helpers.folders import MB, contents, is_folder, twin

import camreport
from camreport.errors import CamReportError, InputError, ResultsError
from camreport.report.gallery import Limits, folder, render, render_gallery
from camreport.results.reader import load_results

pytestmark = pytest.mark.slow


# Which layout


def test_report_is_one_file_up_to_the_limit_and_a_folder_above(few: Path, tmp_path: Path) -> None:
    assert Limits().single_bytes == 15 * MB
    size = render_gallery(twin(few, tmp_path / "one")).stat().st_size
    assert not is_folder(tmp_path / "one")
    render_gallery(twin(few, tmp_path / "just"), limits=Limits(single_bytes=size))
    assert not is_folder(tmp_path / "just")
    told: list[float] = []
    below = Limits(single_bytes=size - 1)
    render_gallery(twin(few, tmp_path / "above"), limits=below, progress=told.append)
    assert is_folder(tmp_path / "above")
    assert sum(told) == 4


def test_either_layout_can_be_forced_and_nothing_of_the_other_stays(
    few: Path, tmp_path: Path
) -> None:
    out = twin(few, tmp_path / "out")
    render_gallery(out, layout="folder")
    assert is_folder(out)
    (out / "data/images-0099.js").write_text("of an earlier run")
    render_gallery(out)
    assert is_folder(out), "as before"
    assert not (out / "data/images-0099.js").exists()
    small = Limits(single_bytes=1000)
    render_gallery(out, layout="single", limits=small)
    assert not is_folder(out)
    render_gallery(out, limits=small)
    assert not is_folder(out), "as before"
    assert sorted(path.name for path in out.iterdir()) == ["index.html", "results"]
    render_gallery(out, layout="auto", limits=small)
    assert is_folder(out)
    assert sorted(path.name for path in out.iterdir()) == ["data", "index.html", "results"]


@pytest.mark.parametrize("layout", ["auto", "single", "folder"])
def test_data_that_is_not_ours_is_refused_and_untouched(
    few: Path, tmp_path: Path, layout: render.Layout
) -> None:
    out = twin(few, tmp_path / "out")
    (out / "data").mkdir()
    (out / "data/mine.csv").write_text("1,2,3")
    with pytest.raises(ResultsError, match=r"expected data/ to be .* ours.* Move that away\."):
        render_gallery(out, layout=layout)
    assert contents(out) == {"data/mine.csv": b"1,2,3"}


def test_a_file_named_data_is_refused_and_untouched(few: Path, tmp_path: Path) -> None:
    out = twin(few, tmp_path / "out")
    (out / "data").write_text("1,2,3")
    with pytest.raises(CamReportError, match="data"):
        render_gallery(out, layout="folder")
    assert contents(out) == {"data": b"1,2,3"}


def test_data_that_is_not_ours_stops_a_run_before_it_computes(few: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(few, out)
    render_gallery(out)
    before = contents(out)
    (out / "data").mkdir()
    (out / "data/mine.csv").write_text("1,2,3")
    with pytest.raises(CamReportError, match="data"):
        camreport.run(INPUTS / "cat.jpg", out, layers=["12"])
    assert contents(out) == before | {"data/mine.csv": b"1,2,3"}
    assert len(load_results(out).images) == 4


# Interrupted


@pytest.mark.parametrize(
    ("place", "earlier", "stop"),
    [
        ("_write_chunk", "single", KeyboardInterrupt),
        ("_write_chunk", "folder", OSError("no space left")),
        ("any_record", "single", OSError("no space left")),
        ("any_record", "folder", KeyboardInterrupt),
        ("page_template", "single", KeyboardInterrupt),
        ("page_template", "folder", OSError("no space left")),
    ],
)
def test_interrupted_rendering_leaves_the_earlier_report(
    sixty: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    earlier: render.Layout,
    place: str,
    stop: type[BaseException] | BaseException,
) -> None:
    out = twin(sixty, tmp_path / "out")
    render_gallery(out, layout=earlier)
    before = contents(out)
    calls = 0
    own = getattr(folder, place)

    def stopped(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == (1 if place == "page_template" else 2):
            raise stop
        return own(*args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(folder, place, stopped)
        with pytest.raises(BaseException, match="no space" if isinstance(stop, OSError) else None):
            render_gallery(out, layout="folder", language="zh")
    after = contents(out)
    assert {name: after.get(name) for name in before} == before
    assert calls
    render_gallery(out, layout=earlier)
    assert contents(out) == before, "and no leftovers"
    assert list(tmp_path.rglob("*.part")) == []


def test_interrupted_single_file_leaves_the_earlier_folder(
    sixty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = twin(sixty, tmp_path / "out")
    render_gallery(out, layout="folder")
    before = contents(out)
    own = render.any_record

    def stopped(results: Any, record: Any, *args: Any, **options: Any) -> Any:
        if record.index == 30:
            raise KeyboardInterrupt
        return own(results, record, *args, **options)

    monkeypatch.setattr(render, "any_record", stopped)
    with pytest.raises(KeyboardInterrupt):
        render_gallery(out, layout="single")
    assert contents(out) == before


@pytest.mark.parametrize("layout", ["single", "folder"])
def test_killed_while_the_earlier_data_goes_a_report_is_whole(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: render.Layout
) -> None:
    out = twin(few, tmp_path / "out")
    render_gallery(out, layout="folder")
    own = shutil.rmtree

    def stopped(path: str | Path, *args: Any, **options: Any) -> None:
        files = sorted(file for file in Path(path).rglob("*") if file.is_file())
        if files:
            for file in files[::2]:
                file.unlink()
            raise KeyboardInterrupt
        own(path, *args, **options)

    monkeypatch.setattr(shutil, "rmtree", stopped)
    with pytest.raises(KeyboardInterrupt):
        render_gallery(out, layout=layout)
    page = (out / "index.html").read_text("utf-8")
    if 'src="data/camreport.js"' in page:
        names = ("camreport.js", "camreport.css", "report.js", "images-0000.js", "overview-0000.js")
        names += tuple(f"thumbs/00/{place:05d}.jpg" for place in range(4))
        assert [name for name in names if not (out / "data" / name).is_file()] == []


@pytest.mark.parametrize("layout", ["single", "folder"])
def test_leftovers_of_a_killed_rendering_are_cleaned(
    few: Path, tmp_path: Path, layout: render.Layout
) -> None:
    out = twin(few, tmp_path / "out")
    for name in (".camreport-0123456789abcdef", ".camreport-fedcba9876543210"):
        (out / name / "tiles").mkdir(parents=True)
        (out / name / ".camreport").touch()
        (out / name / "images-0000.js").write_text("half of")
    (out / ".camreport-00112233445566aa").write_text("<!DOCTYPE")
    render_gallery(out, layout=layout)
    assert {path.name for path in out.iterdir()} <= {"results", "index.html", "data"}
    assert is_folder(out) == (layout == "folder")


def test_failed_exchange_of_the_data_leaves_the_earlier_report(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = twin(few, tmp_path / "out")
    render_gallery(out, layout="folder")
    before = contents(out)
    own = os.replace
    failed = []

    def stopped(source: Path, target: Path) -> None:
        if target.name == "data" and not failed:
            failed.append(source)
            raise PermissionError("in use")
        own(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", stopped)
        with pytest.raises(CamReportError, match=r"data' cannot be written \(in use\)"):
            render_gallery(out, layout="folder", language="zh")
    assert contents(out) == before


@pytest.mark.parametrize("layout", ["single", "folder"])
def test_folders_that_only_look_like_leftovers_stay(
    few: Path, tmp_path: Path, layout: render.Layout
) -> None:
    out = twin(few, tmp_path / "out")
    mine = {f"data.{ending}/mine.csv": ending.encode() for ending in ("old", "part", "bak")}
    for name, content in mine.items():
        (out / name).parent.mkdir()
        (out / name).write_bytes(content)
    with suppress(CamReportError):  # a refusal would do
        render_gallery(out, layout=layout)
    assert {name: (out / name).read_bytes() for name in mine if (out / name).exists()} == mine


# The command line


def test_command_line_chooses_layout_and_language(
    command: Command, few: Path, tmp_path: Path
) -> None:
    out = Path("out")
    twin(few, out)
    for words, apart, language in (
        ((), False, "en"),
        (("--folder",), True, "en"),
        (("--folder", "--lang", "zh"), True, "zh-Hans"),
        ((), True, "zh-Hans"),
        (("--single-file", "--lang", "en"), False, "en"),
    ):
        finished = command("render", "out", *words)
        said = (
            "note: the report needs the folder data/ beside it: keep them together" if apart else ""
        )
        assert (finished.code, finished.err.strip()) == (0, said), words
        assert is_folder(out) == apart
        assert f"report: {(out / 'index.html').resolve().as_uri()}" in finished.out
        assert f'<html lang="{language}">' in (out / "index.html").read_text("utf-8")
    refused = command("render", "out", "--lang", "tlh")
    assert refused.code == 2
    assert "tlh" in refused.err
    assert "Traceback" not in refused.err


def test_command_line_refuses_data_that_is_not_ours(command: Command, few: Path) -> None:
    out = Path("out")
    twin(few, out)
    (out / "data").mkdir()
    (out / "data/mine.csv").write_text("1,2,3")
    refused = command("render", "out", "--folder")
    assert refused.code == 2
    assert "data/" in refused.err
    assert "Traceback" not in refused.err
    assert contents(out) == {"data/mine.csv": b"1,2,3"}


def test_command_line_warns_of_a_large_single_file(command: Command) -> None:
    synthetic.write_results(Path("out"), 120, methods=synthetic.NINE)
    finished = command("render", "out", "--single-file")
    assert finished.code == 0
    assert "--folder puts the data beside the page" in finished.err
    assert not is_folder(Path("out"))


def test_run_takes_layout_and_language_and_says_so(command: Command) -> None:
    words = ("--layers", "12", "--methods", "grad_cam", "--quiet")
    asked = command("run", str(INPUTS / "cat.jpg"), "-o", "out", *words, "--folder", "--lang", "zh")
    assert asked.code == 0
    assert is_folder(Path("out"))
    assert '<html lang="zh-Hans">' in Path("out/index.html").read_text("utf-8")
    assert load_results("out").manifest.command.endswith("--folder --lang zh")
    assert "--folder --lang zh" in Path("out/index.html").read_text("utf-8")
    again = command("run", str(INPUTS / "cat.jpg"), "-o", "out", *words, "--single-file")
    assert again.code == 0
    assert not is_folder(Path("out"))


def test_python_takes_layout_and_language(tmp_path: Path) -> None:
    out = tmp_path / "out"
    quick = {"layers": ["12"], "methods": "grad_cam"}
    camreport.run(INPUTS / "cat.jpg", out, layout="folder", language="zh", **quick)  # type: ignore[arg-type]
    assert is_folder(out)
    assert '<html lang="zh-Hans">' in (out / "index.html").read_text("utf-8")
    with pytest.raises(InputError, match="language: expected en or zh, got 'tlh'"):
        camreport.run(INPUTS / "cat.jpg", tmp_path / "no", language="tlh")
    assert not (tmp_path / "no").exists()
