"""The search for inputs on object storage and web servers: as on a disk, without links."""

import glob
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from camreport.errors import InputError
from camreport.files import MARKER, remote
from camreport.files.remote import Listed
from camreport.images.inputs import (
    READABLE_EXTENSIONS,
    TEXT_EXTENSIONS,
    UNREADABLE_EXTENSIONS,
    Facts,
    InputFile,
    quoted,
)
from camreport.images.tars import Member, is_tar, tar_members

MAX_LISTING_TARS = 8
"""Most tar files whose headers are read at a time."""

Skip = Callable[[str], None]
"""Told of the name of a file that is no image."""


def remote_files(
    given: Sequence[str], labelled: bool, skip: Skip, skip_own: Skip
) -> Iterator[tuple[PurePosixPath, InputFile]]:
    """Yield what addresses lead to: folders, and files named relative to them.

    Args:
        given: files, folders or patterns; more than one where a pattern of numbers names them.
        labelled: whether to read the class of each image in a tar file from the file beside it.
        skip: called with the name of each file without an image extension.
        skip_own: called with each folder of files made by camreport, which are left out.

    Raises:
        InputError: nothing is there, it cannot be read, or what it needs is not installed.
    """
    waiting = [pair for each in given for pair in _listed(each, skip, skip_own)]
    tars = [one for _, one in waiting if is_tar(remote.last_part(one.uri))]
    pool = ThreadPoolExecutor(MAX_LISTING_TARS)
    try:
        listings = pool.map(partial(_members, labelled=labelled), tars)
        for root, one in waiting:
            if not is_tar(remote.last_part(one.uri)):
                yield root, InputFile(one.uri, _relative(root, one.uri), facts=_facts(one))
                continue
            members, others = next(listings)
            for name in others:
                skip(name)
            yield from ((root, file) for file in _of_tar(root, one, members))
    finally:
        pool.shutdown(cancel_futures=True)


def _listed(given: str, skip: Skip, skip_own: Skip) -> Iterator[tuple[PurePosixPath, Listed]]:
    """Yield the objects that an address or a pattern leads to, each with its folder.

    Raises:
        InputError: nothing is there, or it cannot be read.
    """
    try:
        if not remote.has_listings(given):
            _refuse_pattern(given)
            one = remote.info(given)
            found = [(given.rpartition("/")[0], one)] if one else []
        elif glob.has_magic(given):
            found = remote.matching(given)
            if "**" in given:  # which leads into folders of camreport's, past their markers
                own = [one for one in remote.below(_address(_fixed_part(given))) if _marks(one)]
                found += [(given, one) for one in own]
        else:
            found = [(given, one) for one in remote.below(given)]
    except FileNotFoundError as error:
        raise InputError(
            f"input: expected files, found nothing at {quoted([given])}: there is no such bucket."
        ) from error
    except OSError as error:
        raise InputError(
            f"input: expected files at {quoted([given])}, which cannot be read ({error.strerror})."
        ) from error
    if not found:
        hint = (
            ""
            if remote.has_listings(given)
            else " The server has no such file. Web servers list no folders: name files."
        )
        raise InputError(f"input: expected files, found nothing at {quoted([given])}.{hint}")
    if [one.uri for _, one in found] == [given] or not remote.has_listings(given):
        yield PurePosixPath(given).parent, found[0][1]
    else:
        yield from _images(found, given, skip, skip_own)


def _refuse_pattern(given: str) -> None:
    """Refuse a pattern in a web address.

    Raises:
        InputError: its path is one.
    """
    if "*" in urlsplit(given).path:
        raise InputError(
            f"input: expected the address of one file, got {quoted([given])}. Web servers list "
            "nothing that '*' could be compared with: name the files, or number them, as in "
            "train-{000..146}.tar."
        )


def _images(
    found: Sequence[tuple[str, Listed]], given: str, skip: Skip, skip_own: Skip
) -> Iterator[tuple[PurePosixPath, Listed]]:
    """Yield the objects that are images, or tar files where these are asked for."""
    own = {PurePosixPath(one.uri).parent for _, one in found if _marks(one)}
    fixed, tars = _fixed_part(given), is_tar(given)
    for folder in sorted(own):
        skip_own(_address(folder))
    for root, one in found:
        path = PurePosixPath(one.uri)
        inner = path.relative_to(fixed)
        if any(part.startswith(".") for part in inner.parts) or own & {*path.parents}:
            continue
        is_image = path.suffix.lower() in READABLE_EXTENSIONS | UNREADABLE_EXTENSIONS
        if is_image or (tars and is_tar(path.name)):
            yield PurePosixPath(root), one
        elif path.suffix.lower() not in TEXT_EXTENSIONS:
            skip(path.name)


def _members(one: Listed, labelled: bool) -> tuple[list[Member], list[str]]:
    """Return the images in a tar file, from one pass over it, and the names of other files.

    Raises:
        InputError: it is compressed, or cannot be read.
    """
    try:
        with remote.opened(one.uri, one.bytes) as file:
            others: list[str] = []
            members = tar_members(file, one.bytes, one.uri, labelled, others.append)
        if members and not remote.has_listings(one.uri):
            remote.get(one.uri, (0, 1))  # a small file may have come as a whole
        return members, others
    except OSError as error:
        raise InputError(
            f"input: expected a tar file of which parts can be read at {quoted([one.uri])}, got an "
            f"error ({error.strerror}). Copy it to this machine, or to object storage."
        ) from error


def _of_tar(root: PurePosixPath, one: Listed, members: Sequence[Member]) -> Iterator[InputFile]:
    name = _relative(root, one.uri)
    for each in members:
        yield InputFile(
            one.uri,
            f"{name}/{each.name}" if each.name else name,
            each.span,
            Facts(each.span[1], one.version),
            each.label,
            each.problem,
        )


def _facts(one: Listed) -> Facts | None:
    return Facts(one.bytes, one.version) if one.bytes >= 0 else None


def _relative(root: PurePosixPath, uri: str) -> str:
    """Return an object's name relative to a folder; a web address without what follows its path."""
    if not remote.has_listings(uri):
        return remote.last_part(uri)
    return PurePosixPath(uri).relative_to(root).as_posix()


def _fixed_part(given: str) -> PurePosixPath:
    """Return the folder that a pattern names before its first wildcard, or the folder itself."""
    fixed = PurePosixPath(given)
    while glob.has_magic(str(fixed)):
        fixed = fixed.parent
    return fixed


def _marks(one: Listed) -> bool:
    return one.uri.endswith(f"/{MARKER}")


def _address(path: PurePosixPath) -> str:
    return str(path).replace(":/", "://", 1)
