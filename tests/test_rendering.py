"""Rendering: each photograph is decoded once, and several processes make what one makes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import synthetic
from PIL import ImageFile

import camreport
from camreport.errors import ResultsError
from camreport.images import pixels
from camreport.messages.progress import Progress, silent
from camreport.report.gallery import DEFAULT_LIMITS, Layout, parts, render_gallery
from camreport.report.gallery.parts import Part, made_in_parts
from camreport.results.reader import Results, load_results

INPUTS = Path(__file__).resolve().parents[1] / "inputs"

COUNT = 120

SEVERAL = replace(DEFAULT_LIMITS, pooled=10)
"""Limits by which several processes render a small report, as they do a large one."""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write_results(tmp_path_factory.mktemp("many"), COUNT, photo_side=448)


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "available_cores", lambda: 2)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, int]]:
    """Count the images that Pillow decodes, by the size they have in their files."""
    found: Counter[tuple[int, int]] = Counter()
    load = ImageFile.ImageFile.load

    def counted(self: Any) -> Any:
        if self.tile:
            found[self.size] += 1
        return load(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", counted)
    return found


def report(out: Path) -> dict[str, bytes]:
    """Return the files of a report beside its results."""
    files = (path for path in out.rglob("*") if path.is_file())
    named = {path.relative_to(out).as_posix(): path for path in files}
    return {name: path.read_bytes() for name, path in named.items() if "results/" not in name}


@pytest.mark.parametrize("layout", ["single", "folder", "auto"])
def test_rendering_decodes_each_photograph_once(
    many: Path, layout: Layout, decoded: Counter[tuple[int, int]]
) -> None:
    render_gallery(many, layout=layout)
    assert decoded.total() == COUNT


def test_no_single_file_is_tried_that_the_photographs_alone_make_too_large(
    many: Path, decoded: Counter[tuple[int, int]]
) -> None:
    (many / "index.html").unlink(missing_ok=True)
    render_gallery(many, layout="auto", limits=replace(DEFAULT_LIMITS, single_bytes=10**5))
    assert (many / "data").is_dir()
    assert decoded.total() == COUNT


@pytest.mark.parametrize("side", [448, 224])
def test_thumbnails_are_decoded_at_a_fraction_of_their_photographs(
    tmp_path: Path, decoded: Counter[tuple[int, int]], side: int
) -> None:
    out = synthetic.write_results(tmp_path / "out", 12, photo_side=side)
    decoded.clear()
    render_gallery(out, layout="folder", limits=replace(DEFAULT_LIMITS, fallback=0))
    assert {max(size) for size in decoded} == {112}, "the least power of two above 96"


def test_a_run_decodes_each_photograph_once_and_its_first_once_more_for_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decodes: list[tuple[int, int]] = []
    own = pixels.decode_opened

    def counted(opened: pixels.OpenedImage) -> pixels.DecodedImage:
        decodes.append(opened.image.size)
        return own(opened)

    monkeypatch.setattr("camreport.images.loading.decode_opened", counted)
    camreport.run(INPUTS, tmp_path / "out", layers=["12"], methods=["grad_cam"], evidence="off")
    assert decodes.count((574, 434)) == 1, "the last of the three"
    assert len(decodes) == 3 + 1
    decodes.clear()
    camreport.run(INPUTS, tmp_path / "out", layers=["12"], methods=["grad_cam"], evidence="off")
    assert decodes == []


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("layout", ["single", "folder"])
def test_several_processes_make_the_same_bytes(many: Path, layout: Layout) -> None:
    told: list[float] = []
    render_gallery(many, layout=layout)
    alone = report(many)
    render_gallery(many, layout=layout, limits=SEVERAL, progress=told.append)
    assert report(many) == alone
    assert sum(told) == COUNT
    assert len(alone) == 1 or len([name for name in alone if "thumbs" in name]) == COUNT


def modules(results: Results, part: Part, progress: Progress) -> tuple[int, bool]:
    """Return which process this is, and whether it has torch."""
    return os.getpid(), "torch" in sys.modules


@pytest.mark.usefixtures("two_cores")
def test_further_processes_import_no_torch(many: Path) -> None:
    import torch  # noqa: F401  # as a run has

    results = load_results(many)
    made = [*made_in_parts(results, results.readable, modules, SEVERAL, silent)]
    assert len(made) == 2
    assert os.getpid() not in dict(made)
    assert not any(has_torch for _, has_torch in made)


def test_a_small_report_starts_no_process(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(parts, "ProcessPoolExecutor")
    render_gallery(many, layout="folder")


@pytest.mark.usefixtures("two_cores")
def test_an_error_of_one_image_is_named_by_whichever_process_meets_it(
    many: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(many, out)
    shard = out / "results/shard-000001.npz"
    with np.load(shard) as file:
        arrays = dict(file)
    start = int(arrays["photo_offsets"][7])
    arrays["photo"][start + 2000 : start + 2100] = 255
    arrays["photo"][start : start + 2] = 0
    np.savez(shard, **arrays)
    before = report(out)
    with pytest.raises(ResultsError, match=r"IMG_00071.*damaged"):
        render_gallery(out, layout="folder", limits=SEVERAL)
    assert report(out) == before


# Ends of processes


SCRIPT = """
import sys
from dataclasses import replace
from camreport.report.gallery import DEFAULT_LIMITS, parts, render_gallery
print("begun", flush=True)
parts.available_cores = lambda: 2
render_gallery(sys.argv[1], layout="folder", limits=replace(DEFAULT_LIMITS, pooled=10))
print("done")
"""
"""A script without a guard around what it runs, as users write them."""


@pytest.fixture
def started(many: Path, tmp_path: Path) -> Iterator[Callable[[], "subprocess.Popen[str]"]]:
    """Start the script in a session of its own; whatever is left of it ends with the test."""
    script, begun = tmp_path / "mine.py", list["subprocess.Popen[str]"]()
    script.write_text(SCRIPT)

    def start() -> "subprocess.Popen[str]":
        command = [sys.executable, str(script), str(tmp_path / "out")]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        begun.append(subprocess.Popen(command, text=True, start_new_session=True, **pipes))  # type: ignore[call-overload]
        return begun[-1]

    shutil.copytree(many, tmp_path / "out")
    yield start
    for process in begun:
        for pid in members(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def members(session: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def wait_until(reached: Callable[[], bool]) -> None:
    for _ in range(6000):
        if reached():
            return
        time.sleep(0.02)
    raise AssertionError("not reached in two minutes")


def test_a_script_without_a_guard_is_run_once(
    started: Callable[[], "subprocess.Popen[str]"],
) -> None:
    process = started()
    out, errors = process.communicate(timeout=240)
    assert (process.returncode, out, errors) == (0, "begun\ndone\n", "")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize("to_all", [False, True])
def test_an_interrupt_leaves_no_process_and_no_half_report(
    tmp_path: Path, started: Callable[[], "subprocess.Popen[str]"], to_all: bool
) -> None:
    before, process = report(tmp_path / "out"), started()
    wait_until(lambda: any((tmp_path / "out").glob(".camreport-*/thumbs/00/*.jpg")))
    (os.killpg if to_all else os.kill)(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert errors.count("Traceback") == 1, "of this process alone"
    wait_until(lambda: not members(process.pid))
    assert report(tmp_path / "out") == before


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux's /proc")
def test_further_processes_end_when_the_first_one_is_killed(
    tmp_path: Path, started: Callable[[], "subprocess.Popen[str]"]
) -> None:
    process = started()
    wait_until(lambda: any((tmp_path / "out").glob(".camreport-*/thumbs/00/*.jpg")))
    process.kill()
    process.wait()
    wait_until(lambda: not members(process.pid))
