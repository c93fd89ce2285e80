"""Parts of a run, on any machines in any order, and the run that completes them."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from helpers.checkout import INPUTS
from helpers.engines import finished, lasting, run, write_case
from helpers.runs import interrupt_after
from helpers.storage import s3_server

from camreport import files
from camreport.cli.commands import cli
from camreport.errors import InputError, OutputError
from camreport.files import LOCK, locked
from camreport.results import writer
from camreport.settings import Settings


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case with a run of one process in it."""
    case = write_case(tmp_path_factory.mktemp("case"))
    run(case / "whole")
    return case


def fresh(whole: Path, request: pytest.FixtureRequest) -> Path:
    """Return a new report's folder in the case."""
    return whole / re.sub(r"\W", "-", request.node.name)


def test_parts_that_overlap_and_the_completing_run_equal_one_run(
    whole: Path, request: pytest.FixtureRequest
) -> None:
    out, others = fresh(whole, request), ["2/3", "1/3"]

    def begin_another(_images: float) -> None:
        if others:  # in the middle of a part, with its lock held
            run(out, part=others.pop(), progress=begin_another)

    summary = run(out, part="3/3", progress=begin_another)
    assert (summary.part, summary.shards, summary.total) == ("3/3", 1, 2)
    assert finished(out) == [0, 1, 2, 3]
    assert {path.name for path in out.iterdir()} == {"results"}, "a part writes only shards"
    assert not (out / "results/manifest.json").exists()
    completed = run(out)
    assert completed.reused == completed.total == 8
    assert lasting(out) == lasting(whole / "whole")


def test_the_completing_run_computes_the_parts_that_are_missing(
    whole: Path, request: pytest.FixtureRequest
) -> None:
    out = fresh(whole, request)
    run(out, part="2/4")
    assert finished(out) == [1]
    assert run(out).reused == 2
    assert lasting(out) == lasting(whole / "whole")


def test_a_part_again_computes_nothing_and_one_without_shards_says_so(
    whole: Path, request: pytest.FixtureRequest
) -> None:
    out = fresh(whole, request)
    run(out, part="1/4")
    again = run(out, part="1/4")
    assert again.reused == again.total == 2
    none = run(out, part="5/5")
    assert (none.shards, none.total) == (0, 0)
    assert finished(out) == [0]


@pytest.mark.parametrize(
    ("differing", "named"), [({"gamma": 1.0}, "gamma"), ({"methods": "hirescam"}, "methods")]
)
def test_a_part_with_other_options_is_refused_and_removes_nothing(
    whole: Path, request: pytest.FixtureRequest, differing: dict[str, Any], named: str
) -> None:
    out = fresh(whole, request)
    run(out, part="1/2")
    before = lasting(out)
    with pytest.raises(InputError, match=f"differs in {named}, and a part removes nothing"):
        run(out, part="2/2", **differing)
    assert lasting(out) == before


def test_a_part_with_nothing_to_compute_is_compared_with_the_others_too(
    whole: Path, request: pytest.FixtureRequest
) -> None:
    out = fresh(whole, request)
    run(out, part="1/2")
    with pytest.raises(InputError, match="differs in gamma, and a part removes nothing"):
        run(out, part="9/9", gamma=1.0)


@pytest.mark.parametrize(
    ("differing", "named"), [({"gamma": 1.0}, "gamma"), ({"layers": ["features.0"]}, "layers")]
)
def test_completing_with_other_options_replaces_no_part_unless_that_is_asked_for(
    whole: Path, request: pytest.FixtureRequest, differing: dict[str, Any], named: str
) -> None:
    out = fresh(whole, request)
    run(out, part="1/4", evidence="off")
    before = lasting(out)
    with pytest.raises(InputError, match=f"1 finished shard of a run that differs in {named}"):
        run(out, evidence="off", **differing)
    assert lasting(out) == before
    assert run(out, evidence="off", overwrite=True, **differing).reused == 0


def test_the_folder_that_a_part_names_is_where_its_shards_are(
    whole: Path, request: pytest.FixtureRequest
) -> None:
    out = fresh(whole, request)
    assert run(out, part="1/2", evidence="off").folder == out / "results"
    run(out, evidence="off")
    assert run(out, part="1/2", evidence="off").folder == out / "results"
    other = run(out, part="1/2", evidence="off", gamma=1.0).folder
    assert other is not None
    assert other != out / "results"
    assert sorted(path.name for path in other.glob("shard-*.json")) == [
        "shard-000000.json",
        "shard-000002.json",
    ]


def test_a_batch_size_that_results_were_not_begun_with_is_said_not_to_be_used(
    whole: Path, request: pytest.FixtureRequest
) -> None:
    out, said = fresh(whole, request), list[str]()
    run(out, part="1/4", evidence="off", notify=said.append)
    run(out, part="2/4", evidence="off", batch_size=None, notify=said.append)
    assert said == []
    run(out, evidence="off", batch_size=1, notify=said.append)
    [warning] = said
    assert "warning: --batch-size 1 is not used" in warning
    assert "2 images a batch" in warning


def test_a_part_of_a_complete_run_leaves_nothing_beside_it(
    whole: Path, request: pytest.FixtureRequest
) -> None:
    out = fresh(whole, request)
    run(out)
    before = {path.name for path in out.iterdir()}
    assert run(out, part="1/2").reused == 4
    assert {path.name for path in out.iterdir()} == before


def test_a_part_leaves_the_temporary_files_of_others_and_the_completing_run_removes_them(
    whole: Path, request: pytest.FixtureRequest
) -> None:
    out = fresh(whole, request)
    run(out, part="1/2")
    other = files.temporary_name(out / "results")
    other.write_bytes(b"half a shard")
    run(out, part="2/2")
    assert other.exists()
    run(out)
    assert not other.exists()
    assert lasting(out) == lasting(whole / "whole")


def test_a_part_goes_on_where_it_was_interrupted(
    whole: Path, request: pytest.FixtureRequest
) -> None:
    out = fresh(whole, request)
    with pytest.raises(KeyboardInterrupt):
        run(out, part="1/2", evidence="off", progress=interrupt_after(4))
    assert finished(out) == [0]
    assert run(out, part="1/2", evidence="off").reused == 2


def test_parts_share_the_lock_and_a_whole_run_does_not(tmp_path: Path) -> None:
    with locked(tmp_path, shared=True):
        with locked(tmp_path, shared=True):
            with pytest.raises(OutputError, match="another camreport"), locked(tmp_path):
                pass
        with pytest.raises(OutputError, match="another camreport"), locked(tmp_path):
            pass  # the first one still has it
        assert (tmp_path / LOCK).exists()
    with locked(tmp_path):
        pass
    assert not (tmp_path / LOCK).exists(), "the last one removes it"


def test_a_part_beside_a_whole_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.whole, "SHARED_PAUSE", 0)
    with locked(tmp_path), pytest.raises(OutputError, match="another camreport"):
        with locked(tmp_path, shared=True):
            pass


def test_a_finished_shard_stays_while_a_process_that_was_given_up_writes_it_again(
    whole: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = fresh(whole, request)
    run(out, part="1/4", evidence="off")
    (out / "results/shard-000000.npz").unlink()  # so that it is computed again
    monkeypatch.setattr(writer, "packed", _die)
    with pytest.raises(KeyboardInterrupt):
        run(out, part="1/4", evidence="off")
    assert (out / "results/shard-000000.json").exists()


def _die(_arrays: object) -> None:
    raise KeyboardInterrupt


def test_parts_on_object_storage_equal_one_run_in_a_folder(whole: Path) -> None:
    address, folder = "s3://photographs/out", whole / "whole/results"
    with s3_server() as storage:
        run(address, whole, part="2/2")
        with pytest.raises(InputError, match=r"'s3://photographs/out' holds .* differs in gamma"):
            run(address, whole, part="1/2", gamma=1.0)
        run(address, whole, part="1/2")
        assert run(address, whole).reused == 8
        there = storage.objects("out/results")
    arrays = {path.name: path.read_bytes() for path in folder.glob("*.npz")}
    assert {name: there[name] for name in arrays} == arrays
    assert there.keys() == {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("part", ["0/3", "4/3", "1", "a/b", "1/0", "1/2/3", "-1/2", ""])
def test_a_part_that_is_none_is_refused(part: str) -> None:
    with pytest.raises(InputError, match="part: expected K/N with K from 1 to N"):
        Settings(part=part)


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2", 100_000])
def test_a_number_of_workers_that_is_none_is_refused(workers: Any) -> None:
    with pytest.raises(InputError, match="workers: expected a whole number from 1 to 4,096"):
        Settings(workers=workers)


def test_more_workers_than_the_machine_can_hold_are_refused_before_one_starts(
    whole: Path, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(InputError, match=r"workers: expected up to \d+ on this machine"):
        run(fresh(whole, request), workers=4096)


def test_the_command_says_what_a_part_did_and_what_is_next(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["run", str(INPUTS), "-o", "out", "--part", "1/2", "--evidence", "off"]
    assert cli.exit_code(words) == 0
    said = capfd.readouterr().out
    assert "part 1/2: 1 shard with 3 inputs: 3 computed, 0 kept" in said
    assert "next: once all 2 parts are done, the same command without --part" in said
    assert os.listdir("out") == ["results"]


def test_a_part_with_an_image_that_cannot_be_read_exits_with_1(tmp_path: Path) -> None:
    case = write_case(tmp_path / "case")
    (case / "photos/1.png").write_bytes(b"no picture")
    summary = run(case / "out", part="1/4", evidence="off")
    assert [image.file for image in summary.failed] == ["1.png"]
