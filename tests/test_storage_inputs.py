"""Inputs on object storage and web servers: what is listed, and bytes as from local files."""

import builtins
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.checkout import INPUTS
from helpers.runs import FREE, manifest_of, npz_of, run, write_images
from helpers.storage import BUCKET, Storage, forget, s3_server, web_server
from s3fs import S3FileSystem
from test_tars import packed

from camreport.errors import InputError
from camreport.files import remote
from camreport.images.inputs import InputFile, read_input
from camreport.images.search import find_images

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:moto", "ignore::DeprecationWarning:botocore", "ignore:unclosed"
)


@pytest.fixture(scope="module")
def storage() -> Iterator[Storage]:
    """A real S3 server."""
    with s3_server() as server:
        yield server


@pytest.fixture
def photos(tmp_path: Path, storage: Storage) -> Path:
    """Photographs and what lies about them, in a folder and in the bucket under its name."""
    folder = write_images(tmp_path / "set", 3)
    for name in ("b/c/d.webp", "notes.md", ".hidden.jpg", ".git/x.jpg", "b/clip.mp4", "e f?#%.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    for name in ("report/data/tiles/0.jpg", "report/data/.camreport", "report/mine.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"y")
    storage.upload(folder, "set")
    return folder


def seen(given: str, notes: list[str]) -> dict[str, bytes]:
    """Return the bytes of what an input leads to, by name, and take notes."""
    return {file.name: read_input(file) for file in find_images([given], notify=notes.append)}


@pytest.mark.parametrize("part", ["", "/", "/*.png", "/**/*.webp", "/b", "/0[12].png", "/00.png"])
def test_what_an_address_leads_to_is_what_a_path_leads_to(photos: Path, part: str) -> None:
    here: list[str] = []
    there: list[str] = []
    address = f"s3://{BUCKET}/set"
    assert seen(f"{address}{part}", there) == seen(f"{photos}{part}", here)
    assert there == [note.replace(str(photos), address) for note in here]


def test_one_listing_serves_a_folder_and_one_request_an_image(
    photos: Path, storage: Storage
) -> None:
    before = len(storage.requests)
    files = find_images([f"s3://{BUCKET}/set"])
    assert [method for method, _ in storage.requests[before:]] == ["GET"]
    assert all(file.facts and file.facts.version for file in files)
    before = len(storage.requests)
    for file in files:
        read_input(file)
    assert [method for method, _ in storage.requests[before:]] == ["GET"] * len(files)


def test_nothing_at_an_address_is_an_error_that_names_it(storage: Storage, tmp_path: Path) -> None:
    for given in (f"s3://{BUCKET}/nowhere", f"s3://{BUCKET}/no/*.jpg", "s3://no-such-bucket/a"):
        with pytest.raises(InputError, match=f"at '{given}'".replace("*", r"\*")):
            find_images([given])
    with web_server(tmp_path) as web, pytest.raises(InputError, match="has no such file"):
        find_images([f"{web}/none.jpg"])
    with pytest.raises(InputError, match=r"got 'ftp://a/b.jpg'"):
        find_images(["ftp://a/b.jpg"])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("http://127.0.0.1:9/a.jpg", "no server answers there"),
        ("http://no-such-host.invalid/a.jpg", "there is no server of this name"),
        ("http://127.0.0.1:9/*.jpg", "Web servers list nothing that '*' could be compared with"),
        ("http://127.0.0.1:9/a.jpg?key=*", "no server answers there"),
    ],
)
def test_what_is_wrong_with_a_web_address_is_told_apart(given: str, why: str) -> None:
    with pytest.raises(InputError, match=re.escape(why)):
        find_images([given])


def test_storage_that_cannot_be_reached_is_not_asked_again_and_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = list[float]()
    with web_server(tmp_path) as gone:
        pass
    monkeypatch.setenv("AWS_ENDPOINT_URL", gone)
    forget()
    call = S3FileSystem.find

    def counted(self: S3FileSystem, *given: Any, **options: Any) -> Any:
        asked.append(self.s3.meta.config.retries["total_max_attempts"])
        return call(self, *given, **options)

    monkeypatch.setattr(S3FileSystem, "find", counted)
    with pytest.raises(InputError, match=r"cannot be read.*no server answers there"):
        find_images([f"s3://{BUCKET}/at-all"])
    forget()
    assert asked == [2]


def test_tar_files_on_storage_are_read_in_parts(tmp_path: Path, storage: Storage) -> None:
    inner = packed({"n01_1.JPEG": b"5" * 1000})
    for number in range(3):
        members = {"a.jpg": b"%d" % number * 700, "a.cls": b"1", "n01.tar": inner, "b.bin": b"-"}
        packed(members, tmp_path / f"s-{number:03d}.tar")
    address = storage.upload(tmp_path, "tars")
    here = find_images([f"{tmp_path}/*.tar"], labelled=True)
    for given in ("s-{000..002}.tar", "*.tar"):
        there = find_images([f"{address}/{given}"], labelled=True)
        assert [(f.name, f.span, f.label) for f in there] == [
            (f.name, f.span, f.label) for f in here
        ]
        assert [read_input(file) for file in there] == [read_input(file) for file in here]
    with web_server(tmp_path) as web:
        [one, two] = find_images([f"{web}/s-001.tar"])
        assert (read_input(one), read_input(two)) == (b"1" * 700, b"5" * 1000)
        (tmp_path / "whole.tar").write_bytes((tmp_path / "s-001.tar").read_bytes())
        with pytest.raises(InputError, match=r"whole files only.*Copy it to this machine"):
            find_images([f"{web}/whole.tar"])
    with pytest.raises(InputError, match=r"found nothing at .*s-003"):
        find_images([f"{address}/s-{{002..003}}.tar"])


def test_a_run_on_an_address_has_the_bytes_of_a_run_on_files(photos: Path, tmp_path: Path) -> None:
    run(f"{photos}/*.png", tmp_path / "here")
    run(f"s3://{BUCKET}/set/*.png", tmp_path / "there")
    assert npz_of(tmp_path / "there") == npz_of(tmp_path / "here")
    here, there = manifest_of(tmp_path / "here"), manifest_of(tmp_path / "there")
    assert {k: v for k, v in there.items() if k not in FREE} == {
        k: v for k, v in here.items() if k not in FREE
    }
    assert f"camreport run 's3://{BUCKET}/set/*.png' -o" in there["command"]
    again = run(f"s3://{BUCKET}/set/*.png", tmp_path / "there")
    assert again.reused == 3


def test_a_photograph_of_a_web_server_is_an_input_and_its_key_is_no_part_of_a_report(
    tmp_path: Path,
) -> None:
    (tmp_path / "cat 1.jpg").write_bytes((INPUTS / "cat.jpg").read_bytes())
    with web_server(tmp_path) as web:
        run([f"{web}/cat%201.jpg?key=secret", f"{web}/./cat%201.jpg"], tmp_path / "out")
        [file, _] = find_images([f"{web}/cat%201.jpg?key=secret", f"{web}/./cat%201.jpg"])
        gone = InputFile(f"{web}/gone.jpg?key=secret", "gone.jpg")
        with pytest.raises(FileNotFoundError) as refused:
            read_input(gone)
    assert file.name.endswith("cat 1.jpg")
    assert "secret" not in str(refused.value)
    for path in (tmp_path / "out").rglob("*"):
        assert not path.is_file() or b"secret" not in path.read_bytes(), path


def test_an_object_that_cannot_be_read_is_a_failure_that_may_pass(
    photos: Path, storage: Storage, tmp_path: Path
) -> None:
    storage.refuse(403, 9, "/00.png")
    first = run(f"s3://{BUCKET}/set/0*.png", tmp_path / "out")
    assert [(one.file, str(one.reason)) for one in first.failed] == [
        ("00.png", "the file cannot be opened (Permission denied)")
    ]
    storage.refuse(0, 0)
    assert run(f"s3://{BUCKET}/set/0*.png", tmp_path / "out").failed == ()


def test_a_server_that_is_busy_twice_is_asked_again(photos: Path, storage: Storage) -> None:
    files = find_images([f"s3://{BUCKET}/set/00.png"])
    storage.refuse(503, 2)
    assert read_input(files[0]) == (photos / "00.png").read_bytes()
    storage.refuse(503, 2)
    assert len(find_images([Path(f"s3://{BUCKET}/set/*.png")])) == 3


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    remote._file_system.cache_clear()
    imported = builtins.__import__

    def without(name: str, *given: object, **options: object) -> object:
        if name.partition(".")[0] in ("gcsfs", "aiohttp"):
            raise ImportError(name)
        return imported(name, *given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"gs:// needs gcsfs.* pip install 'camreport\[gcs\]'"):
        find_images(["gs://bucket/folder"])
    remote._file_system.cache_clear()
