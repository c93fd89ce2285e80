"""Tar files as inputs: what is listed, names, labels, damage, and members meant to do harm."""

import io
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from helpers.checkout import INPUTS
from helpers.runs import npz_of, run, tiny, write_images

from camreport.errors import ClassError, InputError
from camreport.images import tars
from camreport.images.inputs import InputFile, read_input
from camreport.images.labels import true_classes
from camreport.images.search import find_images

Content = bytes | tarfile.TarInfo
"""What a tar file holds under a name: bytes, or a header without any."""


def packed(members: Mapping[str, Content], path: Path | None = None, mode: str = "w") -> bytes:
    """Return a tar file of members, and write it to a path."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    if path is not None:
        path.write_bytes(buffer.getvalue())
    return buffer.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """Return the header of a link, a device or a folder."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def listed(*inputs: str | Path, labelled: bool = False) -> dict[str, InputFile]:
    """Return the inputs by their names."""
    return {file.name: file for file in find_images(inputs, labelled=labelled)}


def content(file: InputFile) -> bytes | str:
    """Return an input's bytes, or why there are none."""
    try:
        return read_input(file)
    except InputError as error:
        return str(error)


def test_every_image_of_a_tar_file_has_the_bytes_that_python_unpacks(tmp_path: Path) -> None:
    long = "deep/" * 40 + "ü.png"
    members = {"a.jpg": b"1" * 700, "./b/c.JPEG": b"2" * 512, long: b"3", "empty.jpg": b""}
    texts = {"notes.md": b"-", ".hidden.jpg": b"-", "b/.git/logo.png": b"-", "__.bin": b"-"}
    packed(members | texts, tmp_path / "x.tar")
    found = listed(tmp_path / "x.tar")
    names = ["x.tar/a.jpg", "x.tar/b/c.JPEG", f"x.tar/{long}", "x.tar/empty.jpg"]
    assert list(found) == names, "in their order in the tar file"
    assert [content(found[name]) for name in names] == list(members.values())


def test_tar_files_are_read_where_they_are_named_and_noted_in_folders(tmp_path: Path) -> None:
    for number in (8, 9, 10):
        packed({"a.jpg": b"%d" % number}, tmp_path / f"s-{number:03d}.tar")
    (tmp_path / "b.jpg").write_bytes(b"x")
    notes: list[str] = []
    assert [file.name for file in find_images([tmp_path], notify=notes.append)] == ["b.jpg"]
    assert notes == [
        f"skipped: 3 files without an image extension in '{tmp_path}' (.tar); '*.tar' reads what "
        "is in tar files"
    ]
    names = ["s-008.tar/a.jpg", "s-009.tar/a.jpg", "s-010.tar/a.jpg"]
    for given in ("*.tar", "**/*.tar", "s-{008..010}.tar", "s-0{08..10}*.tar"):
        assert list(listed(f"{tmp_path}/{given}")) == names
    assert list(listed(f"{tmp_path}/*")) == ["b.jpg"]
    twice = listed(f"{tmp_path}/s-008.tar", f"{tmp_path}/*.tar")
    assert list(twice) == names, "no tar file is read twice"
    with pytest.raises(InputError, match=r"found nothing at '.*s-011.tar'"):
        listed(f"{tmp_path}/s-{{009..011}}.tar")
    with pytest.raises(InputError, match="up to 100,000 names"):
        listed(f"{tmp_path}/s-{{0..99999}}-{{0..9}}.tar")
    for braces in ("{3..0}", "{a..c}", "{0..}", "{0..3..2}"):
        with pytest.raises(InputError, match=f"increasing numbers in braces.*got {braces} in"):
            listed(f"{tmp_path}/s-{braces}.tar")


def test_a_tar_file_of_tar_files_is_one_input_as_imagenet_has_it(tmp_path: Path) -> None:
    classes = {
        f"n0{n}.tar": packed({f"n0{n}_1.JPEG": b"%d" % n, "deeper.tar": packed({"x.jpg": b""})})
        for n in (1, 2)
    }
    packed(classes, tmp_path / "train.tar")
    found = listed(tmp_path / "train.tar")
    assert {name: content(file) for name, file in found.items()} == {
        "train.tar/n01.tar/n01_1.JPEG": b"1",
        "train.tar/n02.tar/n02_1.JPEG": b"2",
    }
    assert [file.folder for file in found.values()] == ["n01", "n02"]


# Labels


def test_the_class_of_an_image_is_the_name_of_its_tar_file_or_of_a_folder_in_it(
    tmp_path: Path,
) -> None:
    packed({"1.jpg": b"", "dog/2.jpg": b""}, tmp_path / "cat.tar")
    files = find_images([tmp_path / "cat.tar"])
    assert true_classes("folder", files, ("cat", "dog")) == {0: (0,), 1: (1,)}


def test_files_beside_an_image_in_a_tar_file_give_its_class(tmp_path: Path) -> None:
    members = {
        **{"0.jpg": b"", "0.cls": b"1\n", "0.json": b'{"label": "cat"}'},
        **{"1.txt": b"dog", "1.jpg": b""},
        **{"a/2.json": b'{"width": 3, "Class": "cat"}', "a/2.seg.png": b"", "a/2.jpg": b""},
        **{"3.json": b"1", "3.jpg": b""},
        **{"4.jpg": b"", "4.json": b"[" * 60_000},
        **{"5.jpg": b"", "5.txt": b"a caption\nof two lines", "5.cls": b"\xff"},
        **{"6.jpg": b"", "6.cls": b"1" * (tars.MAX_LABEL_BYTES + 1)},
    }
    packed(members, tmp_path / "x.tar")
    found = listed(tmp_path / "x.tar", labelled=True)
    assert {name.removeprefix("x.tar/"): file.label for name, file in found.items()} == {
        **{"0.jpg": "1", "1.jpg": "dog", "a/2.seg.png": "cat", "a/2.jpg": "cat", "3.jpg": "1"},
        **{"4.jpg": None, "5.jpg": None, "6.jpg": None},
    }
    assert true_classes("tar", list(found.values()), ("cat", "dog")) == {
        **{0: (1,), 1: (1,), 2: (0,), 3: (0,), 4: (1,)},
    }
    assert {file.label for file in listed(tmp_path / "x.tar").values()} == {None}


def test_where_no_class_stands_beside_an_image_the_message_names_what_was_looked_for(
    tmp_path: Path,
) -> None:
    packed({"a/0.seg.jpg": b"", "0.yaml": b"1"}, tmp_path / "x.tar")
    files = list(listed(tmp_path / "x.tar", labelled=True).values())
    with pytest.raises(ClassError, match=r"looks for '0.cls', '0.json' or '0.txt' beside it"):
        true_classes("tar", files, ("cat", "dog"))


# Damage


@pytest.mark.parametrize("kept", [512, 513, 2047, 2048, 2049, 2500, 3072, 3584, 4000, 4607])
def test_a_tar_file_that_is_cut_off_gives_what_is_whole_and_one_failure(
    tmp_path: Path, kept: int
) -> None:
    members = {f"{number}.jpg": bytes([number]) * 900 for number in range(1, 4)}
    whole = packed(members)
    (tmp_path / "x.tar").write_bytes(whole[:kept])
    found = listed(tmp_path / "x.tar")
    parts = {name: content(file) for name, file in found.items()}
    there = [number for number in range(1, 4) if kept >= 1536 * number - 1024 + 900]
    assert {n: p for n, p in parts.items() if isinstance(p, bytes)} == {
        f"x.tar/{number}.jpg": members[f"{number}.jpg"] for number in there
    }
    assert len([part for part in parts.values() if isinstance(part, str)]) == 1


@pytest.mark.parametrize("junk", [b"", b"no tar file at all", bytes(700), b"\xff" * 4000])
def test_what_is_no_tar_file_is_one_failed_input(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(junk)
    packed({"a.jpg": b"1"}, tmp_path / "y.tar")
    found = {name: content(file) for name, file in listed(f"{tmp_path}/*.tar").items()}
    assert found["y.tar/a.jpg"] == b"1"
    if junk != bytes(700):  # an empty tar file
        assert str(found["x.tar"]).startswith("not a tar file, or damaged from its beginning")


def test_a_compressed_tar_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    for name, mode in (("x.tar.gz", "w:gz"), ("x.tgz", "w:gz"), ("odd.tar", "w:gz")):
        packed({"a.jpg": b"1"}, tmp_path / name, mode)
        with pytest.raises(InputError, match=rf"expected an uncompressed .* gunzip '{name}'"):
            listed(tmp_path / name)
    packed({"a.jpg": b"1"}, tmp_path / "x.txz", "w:xz")
    with pytest.raises(InputError, match="unxz"):
        listed(f"{tmp_path}/*.txz")


# Members meant to do harm


def test_no_member_leads_out_of_its_tar_file(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    harmful: dict[str, Content] = {
        "../secret.jpg": b"1",
        "a/../../secret.jpg": b"2",
        "..\\secret.jpg": b"3",
        "/etc/passwd.jpg": b"4",
        str(tmp_path / "secret.jpg"): b"5",
        "link.jpg": special("link.jpg", tarfile.SYMTYPE, str(tmp_path / "secret.jpg")),
        "hard.jpg": special("hard.jpg", tarfile.LNKTYPE, "../secret.jpg"),
        "zero.jpg": special("zero.jpg", tarfile.CHRTYPE),
        "pipe.jpg": special("pipe.jpg", tarfile.FIFOTYPE),
        "folder.jpg": special("folder.jpg", tarfile.DIRTYPE),
        "red\x1b[31m.jpg": b"6",
    }
    packed(harmful, tmp_path / "x.tar")
    found = {name: content(file) for name, file in listed(tmp_path / "x.tar").items()}
    link, other = "not a regular file but a link in a tar file", "not a regular file but something"
    inside = (tmp_path / "secret.jpg").relative_to(tmp_path.anchor).as_posix()
    assert found.pop(f"x.tar/{inside}") == b"5"
    leading_up = [name for name, part in found.items() if "which can lead out" in str(part)]
    assert len(leading_up) == 3
    for name in leading_up:
        assert ".." not in name
        del found[name]
    assert {name: str(part).replace(" else", "") for name, part in found.items()} == {
        "x.tar/etc/passwd.jpg": "b'4'",
        "x.tar/link.jpg": link,
        "x.tar/hard.jpg": link,
        "x.tar/zero.jpg": other,
        "x.tar/pipe.jpg": other,
        "x.tar/red\N{REPLACEMENT CHARACTER}[31m.jpg": "b'6'",
    }


def test_members_of_one_name_are_inputs_of_their_own(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for part in (b"1", b"22"):
            info = tarfile.TarInfo("a.jpg")
            info.size = len(part)
            archive.addfile(info, io.BytesIO(part))
    found = {name: content(file) for name, file in listed(tmp_path / "x.tar").items()}
    folder = tmp_path.name
    assert found == {f"{folder}/x.tar/a.jpg": b"1", f"{folder}/x.tar/a.jpg (2)": b"22"}


def header(name: str, size: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Return a header with any field of the size, with the checksum that it needs."""
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    block[124:136] = size.ljust(12, b"\0")
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    "harmful",
    [
        header("big.jpg", b"\x80" + (2**62).to_bytes(11, "big")),
        header("back.jpg", b"\xff" + (-1024).to_bytes(11, "big", signed=True)),
        header("x", b"%011o" % 2**32, tarfile.GNUTYPE_LONGNAME),
        header("x", b"%011o" % 2**32, tarfile.XGLTYPE),
        header("x", b"\xff" + (-512).to_bytes(11, "big", signed=True), tarfile.XHDTYPE),
        header("x", b"%011o" % 512, tarfile.GNUTYPE_LONGNAME) * 4000,
    ],
    ids=["giant", "backwards", "giant name", "giant facts", "negative facts", "names of names"],
)
def test_sizes_that_lie_cost_neither_time_nor_memory(tmp_path: Path, harmful: bytes) -> None:
    good = packed({"a.jpg": b"1"})[:1024]
    (tmp_path / "x.tar").write_bytes(good + harmful + bytes(1024) * 20)
    found = {name: content(file) for name, file in listed(tmp_path / "x.tar").items()}
    assert found.pop("x.tar/a.jpg") == b"1"
    [reason] = found.values()
    assert isinstance(reason, str)
    assert "tar file" in reason


def test_a_member_that_is_too_large_is_a_failure(tmp_path: Path) -> None:
    size = 2**30 + 1
    with (tmp_path / "x.tar").open("wb") as file:
        file.write(header("big.jpg", b"%011o" % size))
        file.truncate(512 + size + 2048)
    [big] = listed(tmp_path / "x.tar").values()
    assert str(content(big)).startswith("too large: the file has 1.0 GiB")


# Runs


def test_results_of_a_tar_file_are_those_of_the_files_in_it(tmp_path: Path) -> None:
    photos = write_images(tmp_path / "cat.tar", 3)  # a folder of the name that the tar file has
    packed({path.name: path.read_bytes() for path in sorted(photos.iterdir())}, tmp_path / "t")
    run(tmp_path, tmp_path / "loose", tiny())
    photos.rename(tmp_path / "away")
    (tmp_path / "t").rename(tmp_path / "cat.tar")
    run(tmp_path / "cat.tar", tmp_path / "packed", tiny())
    assert npz_of(tmp_path / "packed") == npz_of(tmp_path / "loose")


def test_an_input_takes_little_memory(tmp_path: Path) -> None:
    packed({f"n01440764/{number:08d}.JPEG": b"x" for number in range(2000)}, tmp_path / "x.tar")
    files = find_images([tmp_path / "x.tar"])
    parts = {id(own): sys.getsizeof(own) for file in files for own in parts_of(file)}
    assert sum(parts.values()) / len(files) <= 600


def parts_of(file: InputFile) -> list[object]:
    """Return an input and everything that it holds."""
    assert file.facts is not None
    assert file.span is not None
    return [file, file.uri, file.name, file.span, *file.span, file.facts, file.facts.version]


def test_a_photograph_in_a_tar_file_is_decoded(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(INPUTS / "cat.jpg", "cat.jpg")
    [file] = find_images([tmp_path / "x.tar"])
    assert read_input(file) == (INPUTS / "cat.jpg").read_bytes()
