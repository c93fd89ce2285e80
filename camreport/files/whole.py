"""Files of a report: written under another name and then renamed, read only if they are files.

A report's folder may come from someone else, with links in it that lead anywhere. Below the
folder (``root`` here) no link is followed, to write or to read, and no pipe or device is opened.

A folder on object storage has a path as well: ``Path("s3://bucket/run")``, which Python writes
``s3:/bucket/run``. Each of its files is an object, read and written as a whole.
"""

import errno
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from camreport.errors import InputError, OutputError, ResultsError
from camreport.files import remote

MARKER = ".camreport"
"""Name of the file that says that a folder is ours."""

RESULTS = "results"
"""The folder of the results, beside the report."""

LOCK = ".camreport.lock"
"""Name of the file that is locked in a report's folder while something writes there."""

STORES = ("s3:", "gs:")
"""First parts of the paths that stand for addresses on object storage."""

SHARED_TRIES, SHARED_PAUSE = 50, 0.1
"""How often a shared lock is tried while another process has the whole lock, and the seconds
between."""

MAX_TABLE_BYTES = 2**40
"""Largest table of ours whose first line is read."""

_TEMPORARY = re.compile(r"\.camreport-[0-9a-f]{16}")

_ADVICE = {
    errno.ENOSPC: "Free some space, or choose another folder.",
    errno.EDQUOT: "Free some space, or choose another folder.",
    errno.EFBIG: "Choose a folder on a disk that takes larger files.",
    errno.ENOENT: "Was the folder removed meanwhile? Run the command again.",
}

ADVICE_AT_ADDRESS = (
    "Check the bucket, the keys, and AWS_ENDPOINT_URL if a server of your own is meant."
)


def address_of(path: Path) -> str:
    """Return the address that a path stands for; an empty text for one of this machine.

    Raises:
        InputError: it is a web address, where nothing can be written.
    """
    first = path.parts[0].lower() if path.parts else ""
    if first not in (*STORES, "http:", "https:"):
        return ""
    address = "/".join((f"{first}/", *path.parts[1:]))
    if first not in STORES:
        raise InputError(
            f"storage: expected a folder or an address with s3:// or gs://, got {address!r}."
        )
    if len(path.parts) == 1:
        raise InputError(f"storage: expected a bucket, as in {address}/bucket/run, got none.")
    return address


def named(path: Path) -> str:
    """Return how a path is named to a user: as an address if it stands for one."""
    return address_of(path) or str(path)


def place_of(path: Path) -> str:
    """Return where a file is, to be opened or told: an address, or ``file:`` and a whole path."""
    return address_of(path) or path.resolve().as_uri()


@contextmanager
def reported(path: Path, what: str = "written") -> Iterator[None]:
    """Name the file and the reason where the machine refuses to write it, or to do something else.

    Args:
        path: of the file.
        what: cannot be done.

    Raises:
        OutputError: instead of any ``OSError`` in the block.
    """
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "Close what has it open, or choose another folder.")
        if address_of(path):
            advice = ADVICE_AT_ADDRESS
        where, reason = named(path), error.strerror or error
        raise OutputError(f"output: {where!r} cannot be {what} ({reason}). {advice}") from error


@contextmanager
def writing(path: Path, root: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``path`` when the block ends without an exception.

    Raises:
        OutputError: it cannot be written, or a link stands in the way.
    """
    if uri := address_of(path):
        content = BytesIO()
        yield content
        with reported(path):
            remote.put(uri, content.getvalue())
        return
    check_no_links(path.parent, root)
    temporary = temporary_name(path.parent)
    with reported(path):
        try:
            with temporary.open("xb") as file:  # "x" creates it, and follows no link
                yield file
            os.replace(temporary, path)  # a link named so is replaced itself
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def write(path: Path, data: bytes | memoryview, root: Path) -> None:
    """Write a file as a whole, as by ``writing``."""
    with writing(path, root) as file:
        file.write(data)


def create(path: Path, data: bytes, root: Path) -> None:
    """Write a file that must not be there yet; it appears with all its bytes.

    Raises:
        OutputError: it is there already, or cannot be written.
    """
    if uri := address_of(path):
        with reported(path):
            remote.create(uri, data)
        return
    check_no_links(path.parent, root)
    temporary = temporary_name(path.parent)
    with reported(path):
        try:
            with temporary.open("xb") as file:
                file.write(data)
            try:
                os.link(temporary, path)  # unlike a renamed file, it replaces nothing
            except FileExistsError:
                raise
            except OSError:  # the file system has no second names
                with path.open("xb") as file:
                    file.write(data)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def take_over(source: Path, path: Path, root: Path) -> None:
    """Give a file a second name, or copy it where the file system has no second names.

    Raises:
        ResultsError: it cannot be read.
        OutputError: it cannot be written.
    """
    check_no_links(source, root)
    check_no_links(path.parent, root)
    try:
        path.unlink(missing_ok=True)
        os.link(source, path)
    except OSError:
        write(path, read(source, root, source.lstat().st_size), root)


def make_folder(path: Path, root: Path) -> None:
    """Make a folder, with those above it, unless it is there.

    Raises:
        OutputError: it cannot be made, or a link stands in the way.
    """
    if address_of(path):  # an object needs no folder
        return
    check_no_links(path, root)
    with reported(path):
        path.mkdir(parents=True, exist_ok=True)


def temporary_name(folder: Path) -> Path:
    """Return a path in a folder that nobody can foresee."""
    return folder / f"{MARKER}-{secrets.token_hex(8)}"


def check_no_links(path: Path, root: Path) -> None:
    """Refuse a path with a link below ``root`` on its way.

    Raises:
        OutputError: there is one.
    """
    if address_of(root):  # where there are none
        return
    for part in (path, *path.parents):
        if part == root:
            return
        if is_link(part):
            raise OutputError(
                f"output: expected files and folders, got the link {str(part)!r}, which may lead "
                "anywhere. Remove it, or put what it leads to in its place."
            )


def is_link(path: Path) -> bool:
    """Say whether a path is a link, or on Windows a junction."""
    return path.is_symlink() or getattr(os.path, "isjunction", lambda _: False)(path)


def is_file(path: Path) -> bool:
    """Say whether a path is a regular file, and no link to one.

    Raises:
        OutputError: the storage does not answer.
    """
    if uri := address_of(path):
        with reported(path, "read"):
            return remote.info(uri) is not None
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Say whether a path is a folder, and no link to one; an address is one if something is there.

    Raises:
        OutputError: the storage does not answer.
    """
    if address_of(path):
        return bool(sizes(path))
    return path.is_dir() and not is_link(path)


def is_marked(folder: Path) -> bool:
    """Say whether a folder is one of ours; raises as ``is_file`` does."""
    return bool(address_of(folder) or is_folder(folder)) and is_file(folder / MARKER)


def sizes(folder: Path) -> dict[str, int]:
    """Return the sizes of the regular files in a folder, by their names, from one listing.

    Raises:
        OutputError: the storage does not answer.
    """
    if uri := address_of(folder):
        with reported(folder, "read"):
            listed = remote.below(uri)
        names = [(one.uri.removeprefix(f"{uri}/"), one.bytes) for one in listed]
        return {name: size for name, size in names if name and "/" not in name}
    if not is_folder(folder):
        return {}
    with os.scandir(folder) as entries:
        return {
            entry.name: entry.stat(follow_symlinks=False).st_size
            for entry in entries
            if entry.is_file(follow_symlinks=False)
        }


def names_in(folder: Path) -> list[str]:
    """Return the sorted names of what is in a folder; of objects, those that are not deeper.

    Raises:
        OutputError: the storage does not answer.
    """
    if address_of(folder):
        return sorted(sizes(folder))
    return sorted(os.listdir(folder)) if is_folder(folder) else []


def is_there(path: Path) -> bool:
    """Say whether there is anything at a path; raises as ``is_file`` does."""
    return is_file(path) if address_of(path) else os.path.lexists(path)


@contextmanager
def staged(folder: Path, renewed: str) -> Iterator[Path]:
    """Give a folder of this machine: the one that is meant, or one whose files go to its address.

    Files go there once the block has ended well, those of inner folders first.

    Args:
        folder: the folder that is meant.
        renewed: name of a folder in it; what it has at the address besides the new files goes.

    Raises:
        OutputError: a file cannot be written.
    """
    if not address_of(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="camreport-") as temporary:
        local = Path(temporary)
        yield local
        paths = [path for path in local.rglob("*") if path.is_file()]
        for path in sorted(paths, key=lambda each: (-len(each.parts), each)):
            write(folder / path.relative_to(local), path.read_bytes(), folder)
        new = {address_of(folder / path.relative_to(local)) for path in paths}
        with reported(folder):
            for one in remote.below(address_of(folder / renewed)):
                if one.uri not in new:
                    remote.remove(one.uri)


def remove(path: Path) -> None:
    """Remove a file, or a link to one, if it is there.

    Raises:
        OutputError: it cannot be removed.
    """
    with reported(path):
        if uri := address_of(path):
            remote.remove(uri)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def reading(path: Path, root: Path, most: int, partly: bool = False) -> Iterator[BinaryIO]:
    """Open a regular file of at most ``most`` bytes.

    Args:
        path: of the file.
        root: of the report.
        most: the most bytes that it may have.
        partly: whether little of it will be read, so that an object is not fetched as a whole.

    Raises:
        ResultsError: it is missing, no regular file, too large, or behind a link below ``root``.
    """
    if uri := address_of(path):
        with _fetched(uri, path, most, partly) as content:
            yield content
        return
    try:
        check_no_links(path, root)
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(path, flags | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise ResultsError(f"results: {path.name} is no regular file.")
            if facts.st_size > most:
                raise ResultsError(
                    f"results: {path.name} has {facts.st_size:,} bytes, expected up to {most:,}."
                )
            yield file
    except (OSError, OutputError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is a link, or behind one"
        raise ResultsError(
            f"results: {path.name} cannot be read ({reason}). Run 'camreport run' again."
        ) from error


@contextmanager
def _fetched(uri: str, path: Path, most: int, partly: bool) -> Iterator[BinaryIO]:
    """Open an object; raises as ``reading`` does."""
    try:
        facts = remote.info(uri) if partly else None
        if facts and facts.bytes > remote.SMALL_BLOCK_BYTES:
            with remote.opened(uri, facts.bytes, remote.SMALL_BLOCK_BYTES) as file:
                yield file
            return
        content = remote.get(uri, (0, most + 1))
    except OSError as error:
        raise ResultsError(
            f"results: {uri} cannot be read ({error.strerror}). Run 'camreport run' again."
        ) from error
    if len(content) > most:
        raise ResultsError(f"results: {path.name} has more than the {most:,} bytes expected.")
    yield BytesIO(content)


def read(path: Path, root: Path, most: int) -> bytes:
    """Return the bytes of a regular file, as by ``reading``."""
    with reading(path, root, most) as file:
        return file.read()


def remove_tree(folder: Path) -> None:
    """Remove a marked folder as far as this is possible; links in it go, never what they name."""
    if uri := address_of(folder):
        with suppress(OSError):
            for one in remote.below(uri) if is_marked(folder) else ():
                remote.remove(one.uri)
    elif is_marked(folder):
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(folder: Path, root: Path) -> None:
    """Remove the temporary files and folders that a killed process has left in a folder.

    Raises:
        OutputError: a link stands in the way.
    """
    if address_of(folder):  # a write that fails leaves nothing there
        return
    check_no_links(folder, root)
    with suppress(OSError):
        for path in list(folder.iterdir()):
            if not _TEMPORARY.fullmatch(path.name):
                continue
            if is_folder(path):
                remove_tree(path)
            else:
                path.unlink(missing_ok=True)


@contextmanager
def locked(out: Path, shared: bool = False) -> Iterator[None]:
    """Keep a report's folder to oneself; it is made if it is not there.

    The system gives the lock back when the process ends, however it ends. A folder that was made
    for nothing goes again. Where the file system has no locks, there is none, and on object storage
    neither: there the marker, created by one run alone, keeps runs with other settings out, and two
    equal runs write equal bytes.

    Args:
        out: the folder.
        shared: let other processes share it that ask for that too.

    Raises:
        OutputError: another process writes to the folder, or the folder cannot be made.
    """
    if address_of(out):
        yield
        return
    made = [path for path in (out, *out.parents) if not os.path.lexists(path)]
    with reported(out):
        out.mkdir(parents=True, exist_ok=True)
    file = None
    try:
        file = _lock(out, shared)
        yield
    finally:
        if file is not None:
            with suppress(OSError):
                _take(file.fileno())  # the last of those who share it removes the file
                (out / LOCK).unlink(missing_ok=True)
            file.close()
        with suppress(OSError):
            for path in made:
                path.rmdir()  # as long as it is empty


def _lock(out: Path, shared: bool) -> BinaryIO | None:
    """Return the open and locked file of a folder, or None where locks are not to be had."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    path, tries = out / LOCK, SHARED_TRIES if shared else 0
    while True:
        try:
            file = open(os.open(path, flags, 0o600), "r+b", buffering=0)
        except OSError:
            return None  # whatever is to be written will say why it cannot be
        try:
            _take(file.fileno(), shared)
        except (BlockingIOError, PermissionError):
            file.close()
            if (tries := tries - 1) > 0:
                time.sleep(SHARED_PAUSE)  # one of those who share it is just ending
                continue
            raise OutputError(
                f"output: another camreport is writing to {str(out)!r}. Wait until it has "
                "finished, or choose another folder."
            ) from None
        except OSError:
            file.close()
            return None
        with suppress(OSError):
            if os.path.samestat(path.lstat(), os.fstat(file.fileno())):
                return file
        file.close()  # the one before has just removed it


def _take(descriptor: int, shared: bool = False) -> None:
    """Lock an open file, or raise at once if another process has."""
    if os.name == "nt":
        import msvcrt

        place, count = (secrets.randbelow(2**30), 1) if shared else (0, 2**30)
        os.lseek(descriptor, place, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, count)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
