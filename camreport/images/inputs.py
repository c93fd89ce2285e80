"""Image files as inputs: where their bytes are, their names in a report, and how they are read.

Nothing here imports torch.
"""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from camreport.errors import ClassError, InputError
from camreport.files.remote import get, is_address, last_part
from camreport.messages import Message, message

READABLE_EXTENSIONS = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .bmp .dib .gif .tif .tiff".split()
)
"""Extensions of the formats that are decoded."""

UNREADABLE_EXTENSIONS = frozenset(".heic .heif .avif .jxl .jp2 .svg .psd .dcm".split())
"""Extensions of images that become failed inputs instead of being skipped."""

TEXT_EXTENSIONS = frozenset(".md .txt .csv .tsv .json .cls".split())
"""Extensions of texts that often accompany photographs, such as labels: skipped without a note."""

MAX_FILE_BYTES = 2**30
"""Largest file that is read: more than an uncompressed TIFF of the largest image (89 million pixels
of four channels of 16 bits, 716 MB)."""

TAR = ".tar"
"""Extension of tar files, which are inputs like folders."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a listing says of a file: an unchanged file has the same.

    Attributes:
        bytes: its size.
        version: its times of change, or the tag that a server gives it; of a file in a tar file,
            those of the tar file.
    """

    bytes: int
    version: str


@dataclass(frozen=True, slots=True)
class InputFile:
    """One image file: where its bytes are, and its unique relative name in reports.

    Attributes:
        uri: path of the file, or of the tar file that it is in.
        name: unique and relative, with forward slashes.
        span: offset and size in bytes of a file in a tar file; None for a file by itself.
        facts: size and version of the file as listed; None if they could not be read.
        label: its class, as a file beside it in its tar file gives it; None if that was not asked
            for or is not there.
        problem: why it cannot be read, where the listing shows it.
    """

    uri: str
    name: str
    span: tuple[int, int] | None = None
    facts: Facts | None = None
    label: str | None = None
    problem: Message | None = None

    @property
    def bytes(self) -> int:
        """Its size as listed; 0 if it is unknown."""
        return self.facts.bytes if self.facts else 0

    @property
    def folder(self) -> str:
        """Name of the folder that it lies in; a tar file counts as one, without its extension."""
        if self.span is None and is_address(self.uri):
            return last_part(self.uri.rpartition("/")[0])
        if self.span is None:
            return Path(os.path.abspath(self.uri)).parent.name
        inner = PurePosixPath(self.name).parent.name
        return inner[: -len(TAR)] if inner.lower().endswith(TAR) else inner


def read_input(file: InputFile) -> bytes:
    """Return the bytes of an input.

    Raises:
        InputError: as for ``read_file``, or the listing has shown a problem.
        OSError: it cannot be opened or read.
    """
    if file.problem is not None:
        raise InputError(file.problem)
    if not is_address(file.uri):
        return read_file(Path(file.uri), span=file.span)
    size = file.bytes if file.facts else MAX_FILE_BYTES + 1
    check_size(file.bytes)
    data = get(file.uri, file.span or (0, size))
    check_size(len(data))
    if file.span and len(data) < file.span[1]:
        raise InputError(message("images.cut_off_in_tar"))
    return data


def facts_of(path: str | Path) -> Facts | None:
    """Return a file's size and times of change; None if they cannot be read."""
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return Facts(facts.st_size, f"{facts.st_mtime_ns} {facts.st_ctime_ns}")


def read_file(
    path: Path, max_bytes: int = MAX_FILE_BYTES, span: tuple[int, int] | None = None
) -> bytes:
    """Return the bytes of a regular file, or a part of them.

    Args:
        path: the file's path.
        max_bytes: the most that is read.
        span: offset and size of the part; None for the whole file.

    Raises:
        InputError: it is a folder, a pipe, a socket or a device, or what is to be read is larger
            than ``max_bytes`` or goes beyond its end; the error carries a ``Message``.
        OSError: it cannot be opened or read.
    """
    _check_regular(path.stat(), max_bytes, span)  # before opening: a device can have effects
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    with open(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        _check_regular(facts, max_bytes, span)
        if span is None:
            return file.read(facts.st_size)
        file.seek(span[0])
        data = file.read(span[1])
    if len(data) < span[1]:
        raise InputError(message("images.cut_off_in_tar"))
    return data


def read_text(path: Path, expected: str) -> str:
    """Return the text of a file in UTF-8, with or without a byte order mark.

    Args:
        path: the file's path.
        expected: start of the error message: an argument and what is expected of it.

    Raises:
        ClassError: it cannot be read, or has another encoding.
    """
    try:
        return read_file(path).decode("utf-8-sig")
    except (OSError, InputError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ClassError(f"{expected}, got {quoted([path.name])} ({reason}).") from error


def printable(name: str) -> str:
    """Return a file name that is safe in reports and terminals.

    Bytes that are not UTF-8, halves of surrogate pairs and control characters become ``�``.
    """
    if name.isprintable():
        return name
    try:
        text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:  # half of a surrogate pair, which Windows allows
        text = name.encode("utf-8", "replace").decode("utf-8")
    return "".join("\N{REPLACEMENT CHARACTER}" if _is_control(c) else c for c in text)


def _is_control(character: str) -> bool:
    """Return whether a character controls a terminal or the direction of the text after it."""
    code = ord(character)
    return code < 32 or 127 <= code < 160 or 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069


def _check_regular(
    facts: os.stat_result, max_bytes: int, span: tuple[int, int] | None = None
) -> None:
    """Refuse files without an end, files that block until another process writes, and large ones.

    Raises:
        InputError: it is not a regular file, or too large.
    """
    kinds = {
        stat.S_IFDIR: "images.a_folder",
        stat.S_IFIFO: "images.a_pipe",
        stat.S_IFSOCK: "images.a_socket",
        stat.S_IFCHR: "images.a_device",
        stat.S_IFBLK: "images.a_device",
    }
    if not stat.S_ISREG(facts.st_mode):
        kind = kinds.get(stat.S_IFMT(facts.st_mode), "images.something_else")
        raise InputError(message("images.not_regular", kind=message(kind)))
    check_size(facts.st_size if span is None else span[1], max_bytes)


def check_size(size: int, max_bytes: int = MAX_FILE_BYTES) -> None:
    """Refuse a file that is too large to be read.

    Raises:
        InputError: the error carries a ``Message``.
    """
    if size > max_bytes:
        given, limit = (f"{count / 2**30:.1f}" for count in (size, max_bytes))
        raise InputError(message("images.file_too_large", size=given, limit=limit))


def quoted(paths: Iterable[str | Path]) -> str:
    """Return paths for a sentence, printable and between quotation marks."""
    return ", ".join(f"'{printable(str(path))}'" for path in paths)
