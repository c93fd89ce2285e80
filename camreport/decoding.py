"""Image files decoded in threads while the engine works, in order and only so far ahead."""

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from camreport.errors import InputError
from camreport.images import InputFile, LoadedImage, Preprocessing, load_image

DECODE_AHEAD = 64
"""Inputs that are decoded while a batch is being explained."""


@dataclass(frozen=True)
class Failure:
    """An input that could not be read: why, the file's hash, and whether it may pass.

    Attributes:
        reason: one sentence.
        sha256: of the file, where there are bytes.
        transient: another try may succeed: the file could not be opened, or memory was short.
    """

    reason: str
    sha256: str | None
    transient: bool = False


def decode_ahead(
    files: Sequence[InputFile],
    todo: Sequence[int],
    preprocessing: Preprocessing,
) -> Iterator[tuple[int, LoadedImage | Failure]]:
    """Yield decoded inputs in order, while threads decode up to ``DECODE_AHEAD`` more."""
    waiting: deque[tuple[int, Future[LoadedImage | Failure]]] = deque()
    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        for index in todo:
            waiting.append((index, pool.submit(_load, files[index].path, preprocessing)))
            while len(waiting) > DECODE_AHEAD:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _load(path: Path, preprocessing: Preprocessing) -> LoadedImage | Failure:
    try:
        data = path.read_bytes()
    except OSError as error:
        return Failure(f"the file cannot be opened ({error.strerror})", None, transient=True)
    try:
        return load_image(data, preprocessing)
    except InputError as error:
        return Failure(str(error), hashlib.sha256(data).hexdigest())
