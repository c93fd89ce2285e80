"""From the bytes of an image file to RGB pixels, or to a message that says why not.

Files may come from anywhere: sizes are checked before memory is used, decoders are limited to
seven formats, and any exception of theirs becomes an ``InputError`` that carries a ``Message``.
Nothing here imports torch.
"""

import ctypes
import io
import logging
import threading
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, UnidentifiedImageError, _imaging

from camreport.errors import InputError
from camreport.images.formats import TIFF_SIGNATURES, foreign_format, format_read, raw_photograph
from camreport.images.metadata import bare, orientation_of, tiff_values
from camreport.messages import Message, message

MAX_PIXELS = 89_478_485
"""Largest image that is decoded, in pixels (Pillow's own threshold: 256 MiB of RGB)."""

MAX_FAINT = 2**14
"""A 16-bit image whose values are all below this, a quarter of the range, is assumed to have fewer
bits, as from a scanner or an X-ray detector, and is stretched."""

STRETCHED = message("images.stretched")
"""The note of such an image."""

BAND_PIXELS = 2**20
"""Number of pixels converted at a time by conversions that need copies."""

_MEGAPIXELS = MAX_PIXELS // 1_000_000
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF")
_FILLERS = (b"\xfe", b"\xaa", b"\x55", b"\xcc", b"\x92\x49\x24")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_header_lock = threading.Lock()

logging.getLogger("PIL").addHandler(logging.NullHandler())  # or Python prints Pillow's warnings


@dataclass(frozen=True)
class OpenedImage:
    """An image file whose header has been read.

    Attributes:
        image: not decoded yet.
        data: the file without its metadata.
        orientation: 1 to 8, as in EXIF.
        pixels: number of pixels in memory while it is decoded.
    """

    image: Image.Image
    data: bytes
    orientation: int
    pixels: int


@dataclass(frozen=True)
class DecodedImage:
    """Upright RGB pixels, and what was done to them that a reader should know; None if nothing."""

    image: Image.Image
    note: Message | None = None


def decode(data: bytes) -> Image.Image:
    """Decode an image file: first frame, upright, RGB, transparency on white.

    Args:
        data: the bytes of a JPEG, PNG, WebP, BMP, GIF or TIFF file.

    Raises:
        InputError: empty, truncated, too large, or not a format that is read.
        MemoryError: there is too little memory for it at the moment.
    """
    return decode_opened(open_image(data)).image


def open_image(data: bytes) -> OpenedImage:
    """Read an image file's header and check the memory its pixels need.

    Raises:
        InputError: empty, too large, or not a format that is read.
    """
    if not data:
        raise InputError(message("images.empty"))
    if raw := raw_photograph(data):
        raise InputError(raw)
    stripped = bare(data)
    try:
        image = _open(stripped.data)
        turned = stripped.orientation
        if image.format == "WEBP":
            turned = orientation_of(image.info.get("exif", b""))
        return OpenedImage(image, stripped.data, turned, _checked_size(image))
    except Image.DecompressionBombError as error:
        raise InputError(message("images.too_many_pixels", limit=_MEGAPIXELS)) from error
    except UnidentifiedImageError as error:
        raise InputError(_unidentified(data)) from error
    except (InputError, MemoryError):
        raise
    except Exception as error:  # Pillow's readers raise anything on damaged files
        kind = format_read(data)
        raise InputError(_damaged(error, kind) if kind else _unidentified(data)) from error


def decode_opened(opened: OpenedImage) -> DecodedImage:
    """Decode an image whose header has been read.

    Raises:
        InputError: damaged or truncated, or pixels without a fixed range.
        MemoryError: there is too little memory for it at the moment.
    """
    try:
        try:
            opened.image.load()
            image = opened.image
        except OSError as error:
            image = _without_end_marker(opened, error)
        if image.mode.startswith("I"):  # 16 or 32 bits
            decoded = _from_deep(image)
        else:
            decoded = DecodedImage(_to_rgb(image))
    except (InputError, MemoryError):
        raise
    except Exception as error:  # as above
        kind = format_read(opened.data) or "DIB"
        raise InputError(_damaged(error, kind)) from error
    if opened.orientation == 1:
        return decoded
    return DecodedImage(decoded.image.transpose(_TURNS[opened.orientation]), decoded.note)


def jpeg_bytes(image: Image.Image, quality: int = 85) -> bytes:
    """Return an RGB image as JPEG bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def _open(data: bytes) -> Image.Image:
    """Open an image with Pillow, without its warnings: they are checked here or do not matter."""
    if data[:4] in TIFF_SIGNATURES:
        _silence_libtiff()
    with _header_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        if image.format == "TIFF":
            image.getexif()  # or decoding reads it later, and warns
        return image


@cache
def _silence_libtiff() -> None:
    """Stop libtiff from printing errors that Pillow raises anyway.

    A library that is not linked dynamically still prints them.
    """
    with suppress(OSError, AttributeError):
        handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
        handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
        handler(None)


def _checked_size(image: Image.Image) -> int:
    """Return the number of pixels in memory while an image is decoded.

    Raises:
        InputError: too many.
    """
    sizes = [image.size]
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tile = [
            image.tag_v2.get(tag, 0)
            for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH)
        ]
        sizes.append((int(tile[0]), int(tile[1])))
    for width, height in sizes:
        if width * height > MAX_PIXELS:
            raise InputError(
                message("images.too_large", width=width, height=height, limit=_MEGAPIXELS)
            )
    return max(width * height for width, height in sizes)


def _without_end_marker(opened: OpenedImage, error: OSError) -> Image.Image:
    """Return the image of a JPEG file in which only the end marker is missing.

    The marker is appended after various filler bytes: pixels that depend on the filler are
    missing in the file. This test cannot show what is missing in a progressive file, or in one
    with restart markers.

    Raises:
        OSError: the given error, if pixels are missing or may be.
    """
    image, data = opened.image, opened.data.removesuffix(b"\xff")
    if image.format != "JPEG" or "progressive" in image.info or b"\xff\xdd" in data:
        raise error
    whole = _open(data + b"\xff\xd9")
    pixels = whole.tobytes()
    if any(_open(data + filler * 40 + b"\xff\xd9").tobytes() != pixels for filler in _FILLERS):
        raise error
    return whole


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise InputError(message("images.float_pixels"))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """Return a transparent image on white, converted band by band."""
    white = Image.new("RGB", image.size)
    for top, bottom in _bands(*image.size):
        band = image.crop((0, top, image.width, bottom)).convert("RGBA")
        below = Image.new("RGBA", band.size, "white")
        white.paste(Image.alpha_composite(below, band).convert("RGB"), (0, top))
    return white


def _from_deep(image: Image.Image) -> DecodedImage:
    """Return the RGB image of grey pixels with 16 or 32 bits."""
    values: NDArray[np.integer] = np.asarray(image)
    smallest, largest = int(values.min()), int(values.max())
    if smallest < 0 or largest > 65535:
        raise InputError(message("images.pixels_out_of_range"))
    faint = 0 < largest < MAX_FAINT
    white = largest if faint else 65535
    levels = (510 * np.arange(65536) + white) // (2 * white)  # 255 * value / white, rounded
    table = levels.clip(max=255).astype(np.uint8)
    eight = np.empty(values.shape, np.uint8)
    for top, bottom in _bands(*image.size):
        eight[top:bottom] = table[values[top:bottom]]
    return DecodedImage(Image.fromarray(eight).convert("RGB"), STRETCHED if faint else None)


def _bands(width: int, height: int) -> list[tuple[int, int]]:
    """Return the rows of bands that cover an image: first, and last (exclusive)."""
    rows = max(1, BAND_PIXELS // width)
    return [(top, min(top + rows, height)) for top in range(0, height, rows)]


def _damaged(error: Exception, kind: str) -> Message:
    """Return a message for a decoder's exception, whose own text is often a number or empty."""
    text = str(error).lower()
    if isinstance(error, EOFError) or "truncat" in text or "not enough" in text:
        return message("images.ends_early", format=kind)
    return message("images.damaged_data", format=kind)


def _unidentified(data: bytes) -> Message:
    """Return why Pillow finds no image in a file."""
    kind = format_read(data)
    if kind == "TIFF" and tiff_values(data):
        return message("images.unusual_tiff")
    if kind:
        return message("images.damaged_header", format=kind)
    return foreign_format(data)
