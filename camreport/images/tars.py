"""Tar files: the images in them, where their bytes lie, and the classes that stand beside them.

Only headers are read: nothing is unpacked, so no member can lead out of its tar file. A tar file
may lie in another one, as in ImageNet's training set. One that is damaged or cut off gives what
comes before, and one failed input.
"""

import json
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import BinaryIO

from camreport.errors import InputError
from camreport.images.inputs import (
    READABLE_EXTENSIONS,
    TAR,
    TEXT_EXTENSIONS,
    UNREADABLE_EXTENSIONS,
    quoted,
)
from camreport.images.labels import LABEL_HEADINGS, TAR_ENDINGS
from camreport.messages import Message, message

MAX_HEADER_BYTES = 2**20
"""Most bytes of one header, which holds a long name; more is damage, or meant to fill memory."""

MAX_LABEL_BYTES = 2**16
"""Largest file that is read as the label of an image."""

MAX_LABEL = 200
"""Most characters of a label."""

_UNPACKERS = {
    ".tar.gz": "gunzip",
    ".tgz": "gunzip",
    ".tar.bz2": "bunzip2",
    ".tbz2": "bunzip2",
    ".tar.xz": "unxz",
    ".txz": "unxz",
    ".tar.zst": "unzstd",
}
_MAGIC = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
}


@dataclass(frozen=True, slots=True)
class Member:
    """An image in a tar file.

    Attributes:
        name: its path there, with those of a tar file around it; empty for the tar file itself,
            which cannot be read to its end.
        span: offset and size of its bytes in the outermost tar file.
        label: its class, if that was asked for and stands beside it.
        problem: why it cannot be read.
    """

    name: str
    span: tuple[int, int]
    label: str | None = None
    problem: Message | None = None


def is_tar(name: str) -> bool:
    """Say whether a name is that of a tar file, compressed ones included."""
    return name.lower().endswith((TAR, *_UNPACKERS))


def tar_members(
    file: BinaryIO,
    size: int,
    path: str,
    labelled: bool = False,
    skip: Callable[[str], None] = lambda name: None,
) -> list[Member]:
    """List the images in a tar file, in their order there; hidden ones are left out.

    Args:
        file: the open tar file.
        size: of the tar file in bytes.
        path: of the tar file, for the message.
        labelled: whether to read the classes that stand beside the images.
        skip: called with the name of each member that is neither an image nor a text.

    Raises:
        InputError: it is compressed.
        OSError: it cannot be read.
    """
    _refuse_compressed(path, file.read(min(size, 6)))
    listing = _Listing(file, labelled, skip)
    listing.read(0, size, "")
    return [
        replace(each, label=listing.labels[key][1])
        if (key := _key(each.name)) in listing.labels
        else each
        for each in listing.members
    ]


@dataclass
class _Listing:
    """The members of a tar file that have been found so far.

    Attributes:
        file: the open tar file.
        labelled: whether to read labels.
        skip: called with the names of the files that are left out.
        members: the images.
        labels: classes by the names that they share with their images, each after the place of
            its extension among ``TAR_ENDINGS``.
    """

    file: BinaryIO
    labelled: bool
    skip: Callable[[str], None]
    members: list[Member] = field(default_factory=list)
    labels: dict[str, tuple[int, str]] = field(default_factory=dict)

    def read(self, start: int, end: int, folder: str) -> None:
        """Add the members of the tar file at a place in the file.

        Args:
            start: where it begins.
            end: where it ends.
            folder: its name with a slash, for the names of its members; empty for the outermost.

        Raises:
            OSError: it cannot be read.
        """
        found = len(self.members)
        try:
            whole = self._read(_Window(self.file, start, end), folder)
        except OSError:
            raise
        except Exception:  # damage can make the reader of headers raise anything
            whole = False
        if not whole:
            count = len(self.members) - found
            reason = (
                message("images.tar_cut_off", count=count) if count else message("images.no_tar")
            )
            self.members.append(Member(folder.rstrip("/"), (start, 0), problem=reason))

    def _read(self, window: "_Window", folder: str) -> bool:
        """Add members; return whether their list is complete, or its last image says it is not."""
        archive = tarfile.TarFile(fileobj=window, errors="surrogateescape")  # type: ignore[arg-type]
        before = -1
        while (info := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # they would fill the memory
            if info.size < 0 or archive.offset <= before:
                return False
            before = archive.offset
            whole = min(archive.offset, info.offset_data + info.size) <= window.size
            is_image = self._add(info, window, folder, whole)
            if not whole:
                return is_image
        window.seek(archive.offset)
        return window.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)

    def _add(self, info: tarfile.TarInfo, window: "_Window", folder: str, whole: bool) -> bool:
        """Add a member; return whether it is an image."""
        name = _cleaned(info.name)
        if not name or info.isdir():
            return False
        extension, span = PurePosixPath(name).suffix.lower(), (info.offset_data, info.size)
        start = window.start + info.offset_data
        if extension in READABLE_EXTENSIONS | UNREADABLE_EXTENSIONS:
            problem = _problem(info, whole, leads_up=_leads_up(info.name))
            self.members.append(Member(folder + name, (start, info.size), problem=problem))
            return True
        if extension == TAR and info.isreg() and whole and not folder:
            self.read(start, start + info.size, f"{name}/")
        elif extension not in TEXT_EXTENSIONS:
            self.skip(name)
        elif self.labelled and extension in TAR_ENDINGS and info.isreg() and whole:
            if info.size <= MAX_LABEL_BYTES:
                window.seek(span[0])
                self._add_label(folder + name, extension, window.read(info.size))
        return False

    def _add_label(self, name: str, extension: str, content: bytes) -> None:
        key, place = _key(name), TAR_ENDINGS.index(extension)
        label = _label(extension, content)
        known = self.labels.get(key)
        if label and (known is None or place <= known[0]):
            self.labels[key] = place, sys.intern(label)


class _Window:
    """A part of an open file, as the reader of headers takes it."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self.file, self.start, self.size = file, start, end - start
        self.position = 0

    def tell(self) -> int:
        """Return the position in the part."""
        return self.position

    def seek(self, position: int) -> None:
        """Go to a position in the part."""
        self.position = position

    def read(self, count: int) -> bytes:
        """Return the next bytes, fewer at the end.

        Raises:
            tarfile.ReadError: no header has so many.
        """
        if not 0 <= count <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {count} bytes")
        self.file.seek(self.start + self.position)
        data = self.file.read(max(0, min(count, self.size - self.position)))
        self.position += len(data)
        return data


def _refuse_compressed(path: str, head: bytes) -> None:
    """Refuse a compressed tar file, in which an image is found only by unpacking all before it.

    Raises:
        InputError: it is compressed.
    """
    by_name = next((how for end, how in _UNPACKERS.items() if path.lower().endswith(end)), "")
    command = next((how for magic, how in _MAGIC.items() if head.startswith(magic)), by_name)
    if command:
        raise InputError(
            f"input: expected an uncompressed tar file, got {quoted([path])}. Unpack it into a tar "
            f"file first: {command} {quoted([PurePosixPath(path).name])}. Photographs take no "
            "more space so."
        )


def _cleaned(name: str) -> str:
    """Return a member's relative path, which never leads up; an empty text for a hidden one."""
    parts = [part for part in _parts(name) if part not in ("", ".", "..")]
    return "" if any(part.startswith(".") for part in parts) else "/".join(parts)


def _leads_up(name: str) -> bool:
    return ".." in _parts(name)


def _parts(name: str) -> list[str]:
    return name.replace("\\", "/").split("/")


def _key(name: str) -> str:
    """Return what the names of an image and of its label have in common."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]


def _problem(info: tarfile.TarInfo, whole: bool, *, leads_up: bool) -> Message | None:
    """Return why a member cannot be read as an image; None if nothing shows yet."""
    if leads_up:
        return message("images.leads_up")
    if not info.isreg() or info.issparse():
        kind = "images.a_link" if info.islnk() or info.issym() else "images.something_else"
        return message("images.not_regular", kind=message(kind))
    return None if whole else message("images.cut_off_in_tar")


def _label(extension: str, content: bytes) -> str:
    """Return the class that a file beside an image holds; an empty text if it holds none."""
    try:
        text = content.decode("utf-8-sig").strip()
        found = _from_json(json.loads(text)) if extension == ".json" else text
    except (ValueError, RecursionError):
        return ""
    return "" if len(found) > MAX_LABEL or "\n" in found else found


def _from_json(content: object) -> str:
    """Return the class in a JSON text: a name, an index, or an object with one under a heading."""
    if isinstance(content, dict):
        content = next((v for k, v in content.items() if k.casefold() in LABEL_HEADINGS), None)
    usable = isinstance(content, str | int) and not isinstance(content, bool)
    return str(content).strip() if usable else ""
