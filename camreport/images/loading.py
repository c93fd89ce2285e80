"""Image files loaded in threads while the engine works: in order, and only a bounded way ahead."""

import errno
import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camreport.errors import InputError
from camreport.images.inputs import MAX_FILE_BYTES, InputFile, read_input
from camreport.images.pixels import MAX_PIXELS, decode_opened, jpeg_bytes, open_image
from camreport.images.preprocessing import Preprocessing
from camreport.images.shared_limit import SharedLimit
from camreport.messages import Message, message

PHOTO_SIDE = 448
"""Longer side of the photographs shown in a report, in pixels."""

MAX_THREADS = 8
"""Most threads that decode at a time."""

TOO_LITTLE_MEMORY = message("images.too_little_memory")
"""The reason of an input whose file may well be intact."""

_SYSTEM_REASONS = {
    errno.EACCES: "images.permission_denied",
    errno.ENOENT: "images.no_such_file",
    errno.EISDIR: "images.is_a_directory",
    errno.EIO: "images.input_output_error",
    errno.EMFILE: "images.too_many_open_files",
    errno.ELOOP: "images.too_many_links",
    errno.ENAMETOOLONG: "images.name_too_long",
}


@dataclass(frozen=True)
class LoadedImage:
    """A decoded photograph, ready for the model and for the report.

    Attributes:
        pixels: what the model sees, uint8 ``(H, W, 3)``, RGB, not yet standardised.
        photo: the oriented photograph as JPEG bytes, longer side at most ``PHOTO_SIDE``.
        width: of the oriented photograph, in pixels.
        height: of the oriented photograph, in pixels.
        sha256: of the file, hexadecimal.
        note: what was done to the pixels that a reader should know; None if nothing.
    """

    pixels: NDArray[np.uint8]
    photo: bytes
    width: int
    height: int
    sha256: str
    note: Message | None = None


@dataclass(frozen=True)
class FailedInput:
    """An input that could not be read.

    The pipeline keeps it as an ``ImageEntry`` with status ``failed``; the command line and the
    report list it with its reason, and all other inputs go on.

    Attributes:
        reason: why, without a full stop.
        sha256: of the file, hexadecimal; None if it was not read.
        transient: whether another attempt can succeed with the same file.
    """

    reason: Message
    sha256: str | None
    transient: bool = False


@dataclass(frozen=True)
class LoadingLimits:
    """How many inputs are loaded ahead, and how much memory all threads use for them.

    A single input beyond one of the last three limits is loaded while no other is.

    Attributes:
        bytes_ahead: bytes of the pixels of inputs that are ready or being loaded.
        pixels: pixels being decoded.
        file_bytes: bytes of files in memory.
    """

    bytes_ahead: int = 64 * 2**20
    pixels: int = MAX_PIXELS
    file_bytes: int = MAX_FILE_BYTES

    def ahead(self, size: tuple[int, int]) -> int:
        """Return how many inputs are loaded ahead, given height and width of the model input."""
        height, width = size
        return max(1, self.bytes_ahead // (3 * height * width))


def decode_ahead(
    files: Sequence[InputFile],
    todo: Sequence[int],
    preprocessing: Preprocessing,
    limits: LoadingLimits | None = None,
) -> Iterator[tuple[int, LoadedImage | FailedInput]]:
    """Yield inputs in order, while threads load the next ones.

    Args:
        files: all inputs.
        todo: indices of the inputs to load.
        preprocessing: the model's.
        limits: bounds of the memory, whatever the files contain.
    """
    limits = limits or LoadingLimits()
    ahead = limits.ahead(preprocessing.size)
    shared = SharedLimit(limits.file_bytes), SharedLimit(limits.pixels)
    waiting: deque[tuple[int, Future[LoadedImage | FailedInput]]] = deque()
    pool = ThreadPoolExecutor(max_workers=min(MAX_THREADS, os.cpu_count() or 1))
    try:
        for index in todo:
            waiting.append((index, pool.submit(_load, files[index], preprocessing, *shared)))
            while len(waiting) > ahead:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def load_image(
    data: bytes, preprocessing: Preprocessing, pixels: SharedLimit | None = None
) -> LoadedImage:
    """Decode an image file's bytes and prepare them for the model and the report.

    Args:
        data: the bytes of an image file.
        preprocessing: the model's.
        pixels: limits the pixels that several threads decode at a time.

    Raises:
        InputError: the bytes are no image that can be read; the error carries a ``Message``.
        MemoryError: there is too little memory for it at the moment.
    """
    opened = open_image(data)
    with pixels.hold(opened.pixels) if pixels else nullcontext():
        decoded = decode_opened(opened)
        image = decoded.image
        return LoadedImage(
            pixels=preprocessing.pixels(image),
            photo=jpeg_bytes(shrunk(image, PHOTO_SIDE)),
            width=image.width,
            height=image.height,
            sha256=hashlib.sha256(data).hexdigest(),
            note=decoded.note,
        )


def _load(
    file: InputFile, preprocessing: Preprocessing, file_bytes: SharedLimit, pixels: SharedLimit
) -> LoadedImage | FailedInput:
    """Return a photograph, or why it cannot be read: no file stops the others."""
    data = None
    try:
        with file_bytes.hold(file.bytes):
            data = read_input(file)
            return load_image(data, preprocessing, pixels)
    except InputError as error:
        reason, transient = error.args[0], False
    except OSError as error:
        reason, transient = message("images.cannot_open", reason=_system_reason(error)), True
    except MemoryError:
        reason, transient = TOO_LITTLE_MEMORY, True
    sha256 = None if data is None else hashlib.sha256(data).hexdigest()
    return FailedInput(reason, sha256, transient)


def _system_reason(error: OSError) -> Message | str:
    """Return the system's reason; in the system's own words if it is none of the usual ones."""
    code = _SYSTEM_REASONS.get(error.errno or 0)
    return message(code) if code else error.strerror or str(error)


def shrunk(image: Image.Image, side: int) -> Image.Image:
    """Return an image scaled down so that its longer side has at most ``side`` pixels."""
    scale = side / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(scale * length)) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
