"""Object storage and web servers, through fsspec, which is imported when an address is used.

Objects are read and written as a whole, or a known part of one is read. A write that fails leaves
what was there: a file opened for writing would publish what it has on the way out of an exception.
"""

import errno
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, BinaryIO, TypeVar
from urllib.parse import unquote, urlsplit

from camreport.errors import InputError

_BACKENDS = {
    "s3": ("s3fs", "s3"),
    "gs": ("gcsfs", "gcs"),
    "https": ("aiohttp", "https"),
    "http": ("aiohttp", "https"),
}
"""The package that each kind of address needs, and the extra that installs it."""

CONNECT_SECONDS = 10
"""Seconds within which a storage server takes a connection."""

_CONFIG = {"retries": {"total_max_attempts": 2}, "connect_timeout": CONNECT_SECONDS}
_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"max_concurrency": 1, "config_kwargs": _CONFIG}  # one request for an object
}

TRIES = 3
"""How often a request is made before its error counts."""

BLOCK_BYTES = 8 * 2**20
"""How much is read at a time where a file is read in order."""

SMALL_BLOCK_BYTES = 2**18
"""How much is read at a time where little of a file is wanted."""

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_LASTING = (errno.ENOENT, errno.EACCES, errno.EEXIST, errno.ECONNREFUSED)
"""Errors that another try does not mend."""

NO_HOST, NO_ANSWER = "there is no server of this name", "no server answers there"
WHOLE_FILES = "the server sends whole files only"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Listed:
    """An object in a listing.

    Attributes:
        uri: its address.
        bytes: its size; -1 if the server does not say.
        version: a tag or time that changes with its content; empty if there is none.
    """

    uri: str
    bytes: int
    version: str


def is_address(text: str) -> bool:
    """Say whether a text is an address instead of a path.

    Raises:
        InputError: it is one of a kind that is not supported.
    """
    match = _ADDRESS.match(text)
    if match and match[1].lower() not in _BACKENDS:
        known = ", ".join(f"{kind}://" for kind in _BACKENDS)
        raise InputError(f"storage: expected a path or an address with {known}, got {text!r}.")
    return bool(match)


def has_listings(uri: str) -> bool:
    """Say whether the files below an address can be listed: web servers do not tell."""
    return not uri.lower().startswith("http")


def last_part(uri: str) -> str:
    """Return the file name in an address, without what follows a question mark of a web address."""
    path = uri if has_listings(uri) else unquote(urlsplit(uri).path)
    return path.rstrip("/").rpartition("/")[2]


def get(uri: str, span: tuple[int, int] | None = None) -> bytes:
    """Return the bytes of an object, or of a part of it.

    Args:
        uri: its address.
        span: offset and size of the part; None for all of it.

    Raises:
        InputError: what the address needs is not installed.
        OSError: it cannot be read; ``errno`` is set.
    """
    system = _system(uri)
    if span is None:
        data: bytes = _tried(uri, lambda: system.cat_file(uri))
        return data
    start, size = span
    if not size:
        return b""
    part: bytes = _tried(uri, lambda: system.cat_file(uri, start=start, end=start + size))
    if len(part) > size:
        raise OSError(errno.EIO, WHOLE_FILES)
    return part


def put(uri: str, data: bytes) -> None:
    """Write an object as a whole, in the place of an earlier one; raises as ``get`` does."""
    system = _system(uri)
    _tried(uri, lambda: system.pipe_file(uri, data))


def create(uri: str, data: bytes) -> None:
    """Write an object that must not be there yet.

    Raises:
        FileExistsError: it is there.
        InputError, OSError: as for ``get``.
    """
    system = _system(uri)
    _tried(uri, lambda: system.pipe_file(uri, data, mode="create"))


def remove(uri: str) -> None:
    """Remove an object, if it is there; raises as ``get`` does."""
    system = _system(uri)
    try:
        _tried(uri, lambda: system.rm_file(uri))
    except FileNotFoundError:
        return


def info(uri: str) -> Listed | None:
    """Return what the server says of an object; None if there is none; raises as ``get`` does."""
    system = _system(uri)
    try:
        found = _tried(uri, lambda: system.info(uri))
    except FileNotFoundError:
        return None
    return _listed(uri, found) if found.get("type") == "file" else None


def below(uri: str) -> list[Listed]:
    """Return all objects below an address, in the order of their names, from one listing.

    Raises:
        InputError, OSError: as for ``get``.
    """
    system = _system(uri)
    found = _tried(uri, lambda: system.find(uri, detail=True))
    return _all_listed(system, found)


def matching(pattern: str) -> list[tuple[str, Listed]]:
    """Return the objects that a pattern matches, and those below the folders that it matches.

    Returns:
        Each with the address of its folder, or of the folder that is matched.

    Raises:
        InputError, OSError: as for ``get``.
    """
    system = _system(pattern)
    found = _tried(pattern, lambda: system.glob(pattern, detail=True))
    listed = {one.uri: (one.uri.rpartition("/")[0], one) for one in _all_listed(system, found)}
    for name, facts in found.items():
        if facts.get("type") == "directory":
            folder = system.unstrip_protocol(name)
            listed = {one.uri: (folder, one) for one in below(folder)} | listed
    return [listed[uri] for uri in sorted(listed)]


@contextmanager
def opened(uri: str, size: int, block: int = BLOCK_BYTES) -> Iterator[BinaryIO]:
    """Open an object to read it in order, with jumps.

    Raises:
        InputError, OSError: as for ``get``, in the block too.
    """
    system = _system(uri)
    with _reported(uri):
        options = {"size": size} if has_listings(uri) else {}
        with system.open(uri, "rb", block_size=block, cache_type="readahead", **options) as f:
            yield f


@cache
def _file_system(protocol: str) -> Any:
    package, extra = _BACKENDS[protocol]
    try:
        import fsspec

        return fsspec.filesystem(protocol, use_listings_cache=False, **_OPTIONS.get(protocol, {}))
    except ImportError as error:
        raise InputError(
            f"storage: {protocol}:// needs {package}, which is not installed: "
            f"pip install 'camreport[{extra}]'"
        ) from error


def _system(uri: str) -> Any:
    match = _ADDRESS.match(uri)
    assert match is not None
    return _file_system(match[1].lower())


def _all_listed(system: Any, found: dict[str, dict[str, Any]]) -> list[Listed]:
    return [
        _listed(system.unstrip_protocol(name), facts)
        for name, facts in sorted(found.items())
        if facts.get("type") == "file"
    ]


def _listed(uri: str, facts: dict[str, Any]) -> Listed:
    keys = ("ETag", "etag", "Last-Modified", "LastModified", "mtime", "updated")
    version = next((str(facts[key]) for key in keys if facts.get(key)), "")
    size = facts.get("size")
    return Listed(uri, -1 if size is None else int(size), version.strip('"'))


def _tried(uri: str, request: Callable[[], _T]) -> _T:
    """Return what a request returns, after another try where that may help.

    Raises:
        OSError: it fails; with ``errno``, and without parts of the address that may be secret.
    """
    for attempt in range(TRIES):
        try:
            with _reported(uri):
                return request()
        except OSError as error:
            if error.errno in _LASTING or attempt == TRIES - 1:
                raise
            time.sleep(0.1 * 4**attempt)
    raise AssertionError("the last try returns or raises")


@contextmanager
def _reported(uri: str) -> Iterator[None]:
    """Raise every error of a backend as an ``OSError`` with ``errno``."""
    try:
        yield
    except (InputError, AssertionError):
        raise
    except Exception as error:  # backends have errors of their own
        raise _as_os_error(error, uri) from error


def _as_os_error(error: Exception, uri: str) -> OSError:
    status = next((own for each in _chain(error) if (own := getattr(each, "status", 0))), 0)
    if reason := _unreachable(error):
        return OSError(errno.ECONNREFUSED, reason)
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if isinstance(error, FileExistsError):
        return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    if isinstance(error, PermissionError) or status in (401, 403):
        return PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if status:
        return OSError(errno.EIO, f"the server answers {status}")
    reason = getattr(error, "strerror", None) or str(error)
    if not reason or not has_listings(uri):  # it may repeat the address, with a key in it
        reason = type(error).__name__
    return OSError(getattr(error, "errno", 0) or errno.EIO, reason)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__


def _unreachable(error: Exception) -> str:
    """Return why no server was reached, in words; empty if one was, or that is not known.

    A backend for web addresses says that a file is not found where no server was reached.
    """
    for each in _chain(error):
        kinds = {kind.__name__ for kind in type(each).__mro__}
        if "ClientConnectorDNSError" in kinds or isinstance(each, socket.gaierror):
            return NO_HOST
        if kinds & {"ClientConnectorCertificateError", "ClientSSLError", "SSLError"}:
            return "the server's certificate is not trusted"
        if kinds & {"ClientConnectorError", "EndpointConnectionError", "ConnectTimeoutError"}:
            return NO_ANSWER
    return ""
