"""Image files decoded in threads while the engine works, in order and only so far ahead."""

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from camreport.errors import InputError
from camreport.images.inputs import MAX_FILE_BYTES, InputFile, read_file
from camreport.images.preprocessing import LoadedImage, Preprocessing, load_image
from camreport.images.shared_limit import SharedLimit

DECODE_AHEAD = 64
"""Most inputs that are decoded while a batch is being explained."""

AHEAD_BYTES = 256 * 2**20
"""Most bytes that these take as model inputs, but at least one input."""

TOO_LITTLE_MEMORY = "there was too little memory to decode it. Run the same command again"
"""The reason of an input that may well be whole."""

_files_in_memory = SharedLimit(MAX_FILE_BYTES)  # bytes of files that all threads hold at a time


@dataclass(frozen=True)
class Failure:
    """An input that could not be read.

    Attributes:
        reason: a sentence without a full stop.
        sha256: of the file, hexadecimal; None where it has not been read.
        transient: whether another attempt may succeed although the file stays as it is.
    """

    reason: str
    sha256: str | None
    transient: bool = False


def decode_ahead(
    files: Sequence[InputFile],
    todo: Sequence[int],
    preprocessing: Preprocessing,
) -> Iterator[tuple[int, LoadedImage | Failure]]:
    """Yield decoded inputs in order, while threads decode more of them ahead.

    Memory is bounded whatever the files hold: by ``AHEAD_BYTES`` for what is decoded, and for
    what is being decoded by the limits of bytes and pixels that all threads share.
    """
    height, width = preprocessing.size
    ahead = min(DECODE_AHEAD, max(1, AHEAD_BYTES // (3 * height * width * 4)))
    waiting: deque[tuple[int, Future[LoadedImage | Failure]]] = deque()
    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        for index in todo:
            waiting.append((index, pool.submit(_load, files[index].path, preprocessing)))
            while len(waiting) > ahead:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _load(path: Path, preprocessing: Preprocessing) -> LoadedImage | Failure:
    data = None
    try:
        with _files_in_memory.hold(path.stat().st_size):
            data = read_file(path)
            return load_image(data, preprocessing)
    except InputError as error:
        reason, transient = str(error), False
    except OSError as error:
        reason, transient = f"the file cannot be opened ({error.strerror or error})", True
    except MemoryError:
        reason, transient = TOO_LITTLE_MEMORY, True
    return Failure(reason, None if data is None else hashlib.sha256(data).hexdigest(), transient)
