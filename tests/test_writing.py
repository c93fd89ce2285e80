"""Trouble while writing: full and read-only disks, folders that go, two runs at once."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.checkout import INPUTS
from helpers.runs import files_of, manifest_of, run, run_by_two, write_images

from camreport.errors import CamReportError, InputError, OutputError
from camreport.files import LOCK, locked
from camreport.report import export
from camreport.report.gallery import render_gallery
from camreport.results.reader import load_results

KIB = 1024
DISK = 12 * 1024 * KIB


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of twelve megabytes, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, free: int) -> Path:
    """Fill a disk but for so many bytes."""
    filler = disk / "filler"
    facts = os.statvfs(disk)
    filler.write_bytes(bytes(max(0, facts.f_bavail * facts.f_frsize - free)))
    return filler


NO_SPACE = r"output: '.*' cannot be written \(No space left on device\)\. Free some space"


@pytest.mark.parametrize("free", [0, 8 * KIB, 24 * KIB, 80 * KIB, 240 * KIB])
def test_run_says_that_the_disk_is_full_and_goes_on_once_it_is_not(
    photos: Path, disk: Path, free: int
) -> None:
    filler = fill(disk, free)
    with pytest.raises(OutputError, match=NO_SPACE):
        run_by_two(photos, disk / "out")
    filler.unlink()
    run_by_two(photos, disk / "out")
    assert len(load_results(disk / "out").images) == 7
    assert {name for name in files_of(disk / "out") if ".camreport-" in name} == set()


@pytest.mark.parametrize("free", [0, 24 * KIB, 48 * KIB])
def test_a_full_disk_leaves_the_earlier_report_and_its_results(
    photos: Path, disk: Path, free: int
) -> None:
    run_by_two(photos, disk / "out")
    before = files_of(disk / "out")
    fill(disk, free)
    with pytest.raises(OutputError, match=NO_SPACE):
        run_by_two(photos, disk / "out", classes=[1])
    after = files_of(disk / "out")
    assert {name: after[name] for name in before} == before
    for index in range(7):
        assert load_results(disk / "out").arrays(index)["targets"].tolist() == [0, 1]


FORMS: dict[str, Callable[[Path], object]] = {
    "page": render_gallery,
    "page and data": lambda out: render_gallery(out, layout="folder"),
    "table": export.export_tables,
    "figures": export.export_figures,
    "archive": export.export_archive,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_that_the_disk_is_full(photos: Path, disk: Path, form: str) -> None:
    run(photos, disk / "out")
    before = files_of(disk / "out")
    filler = fill(disk, 0)
    with pytest.raises(OutputError, match=NO_SPACE):
        FORMS[form](disk / "out")
    after = files_of(disk / "out")
    assert {name: after[name] for name in before} == before, "the earlier report stays"
    filler.unlink()
    FORMS[form](disk / "out")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_that_the_disk_is_read_only(photos: Path, disk: Path, form: str) -> None:
    run(photos, disk / "out")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(OutputError, match=r"cannot be written \(Read-only file system\)"):
        FORMS[form](disk / "out")
    with pytest.raises(InputError, match="cannot be written to"):
        run(photos, disk / "out", classes=[1])


def test_run_says_that_its_folder_went_meanwhile(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def remove(count: float) -> None:
        if (out / "results" / "shard-000000.json").exists():
            out.rename(tmp_path / "elsewhere")  # at once: the next shard is being written meanwhile

    with pytest.raises(OutputError, match=r"cannot be written .* removed meanwhile\?"):
        run_by_two(photos, out, batch_size=2, progress=remove)


@pytest.mark.parametrize("name", ["maps.csv", "index.html"])
def test_a_folder_in_the_place_of_a_file_is_one_sentence(
    photos: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    run(photos, out)
    (out / name).unlink(missing_ok=True)
    (out / name / "mine").mkdir(parents=True)
    with pytest.raises(OutputError, match=f"{name}' cannot be written"):
        FORMS["table" if name == "maps.csv" else "page"](out)
    assert (out / name / "mine").is_dir()


def camreport(*words: str, **options: object) -> "subprocess.CompletedProcess[str]":
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "camreport", *words]
    return subprocess.run(command, text=True, timeout=300, **options)  # type: ignore[call-overload, no-any-return]


def small_files() -> None:
    import resource  # which Windows has not

    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_a_limit_on_files_is_the_machines_and_no_bug(tmp_path: Path) -> None:
    words = ("run", str(INPUTS / "cat.jpg"), "-o", str(tmp_path / "out"), "--layers", "12")
    done = camreport(*words, preexec_fn=small_files, capture_output=True)
    assert done.returncode == 2
    assert "cannot be written (File too large)" in done.stderr
    assert "bug" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("words", [("methods",), ("--help",)])
def test_output_that_cannot_be_printed_is_no_bug(words: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = camreport(*words, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert "cannot be written (No space left on device)" in done.stderr
    assert "bug" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="shells close streams there otherwise")
@pytest.mark.parametrize("closed", [(1,), (2,), (1, 2)])
def test_closed_streams_cost_nothing(photos: Path, tmp_path: Path, closed: tuple[int, ...]) -> None:
    run(photos, tmp_path / "out")
    (tmp_path / "out" / "index.html").unlink()

    def close() -> None:
        for descriptor in closed:
            os.close(descriptor)

    done = camreport("render", str(tmp_path / "out"), preexec_fn=close)
    assert done.returncode == 0
    assert (tmp_path / "out" / "index.html").exists()


# Two at once

BUSY = r"another camreport is writing to '.*out'\. Wait until it has finished, or choose another"


def test_the_second_of_two_runs_in_one_folder_is_refused(photos: Path, tmp_path: Path) -> None:
    refused: list[str] = []

    def second(count: float) -> None:
        with pytest.raises(OutputError, match=BUSY) as raised:
            run(photos, tmp_path / "out", classes=[1])
        refused.append(str(raised.value))

    run(photos, tmp_path / "out", progress=second)
    assert refused
    assert manifest_of(tmp_path / "out")["cost"]["backwards"] == 2, "the first one's"
    assert not (tmp_path / "out" / LOCK).exists()
    assert run(photos, tmp_path / "out").reused == 7


@pytest.mark.parametrize("words", [("render",), ("export", "--csv"), ("export", "--zip")])
def test_readers_that_write_wait_for_a_run(
    photos: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    run(photos, tmp_path / "out")
    with locked(tmp_path / "out"):
        done = camreport(words[0], str(tmp_path / "out"), *words[1:], capture_output=True)
    assert done.returncode == 2
    assert "another camreport is writing" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_killed_run_leaves_no_lock_behind(photos: Path, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from camreport.files import locked\n"
        "with locked(Path(sys.argv[1])): print('locked', flush=True); time.sleep(600)"
    )
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(out)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(OutputError, match=BUSY):
            run(photos, out)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (out / LOCK).exists()
    run(photos, out)
    assert not (out / LOCK).exists()


def test_a_folder_locked_for_nothing_goes_again(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 1)
    with pytest.raises(CamReportError):
        run(tmp_path / "in", tmp_path / "a" / "b", classes=[9])
    assert not (tmp_path / "a").exists()
    with locked(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "mine").touch()
    assert files_of(tmp_path / "a") == {"b/mine": b""}
