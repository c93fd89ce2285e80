"""The bytes of an image file become RGB pixels, or one sentence that says why not.

Files may come from anywhere: sizes are checked before memory is taken, decoders are limited to
seven formats, and whatever one of them raises becomes an ``InputError``. Nothing here imports
torch.
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

MAX_PIXELS = 89_478_485
"""Largest image that is decoded, in pixels (Pillow's own threshold: 256 MiB of RGB)."""

MAX_FAINT = 2**14
"""A 16-bit image whose values all lie below a quarter of the range is taken for one of fewer bits,
as from a scanner or an X-ray detector, and stretched."""

STRETCHED = "16-bit values below a quarter of the range: stretched, the largest is white"
"""The note of such an image."""

BAND_PIXELS = 2**20
"""Number of pixels that are converted at a time where a conversion needs copies."""

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

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python prints what nobody handles


@dataclass(frozen=True)
class OpenedImage:
    """An image file of which only the header has been read.

    Attributes:
        image: not decoded yet.
        data: the file without its metadata.
        orientation: 1 to 8, as in EXIF.
        pixels: number of pixels that decoding keeps in memory.
    """

    image: Image.Image
    data: bytes
    orientation: int
    pixels: int


@dataclass(frozen=True)
class DecodedImage:
    """Upright RGB pixels, and what was done to them that a reader should know, or nothing."""

    image: Image.Image
    note: str = ""


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
    """Read an image file's header and check what its pixels will take.

    Raises:
        InputError: empty, too large, or not a format that is read.
    """
    if not data:
        raise InputError("the file is empty (0 bytes)")
    raw = raw_photograph(data)
    if raw:
        raise InputError(f"not an image that can be read: {raw}")
    stripped = bare(data)
    try:
        image = _open(stripped.data)
        turned = stripped.orientation
        if image.format == "WEBP":
            turned = orientation_of(image.info.get("exif", b""))
        return OpenedImage(image, stripped.data, turned, _checked_size(image))
    except Image.DecompressionBombError as error:
        raise InputError(_too_large("its header claims too many pixels")) from error
    except UnidentifiedImageError as error:
        raise InputError(_unidentified(data)) from error
    except (InputError, MemoryError):
        raise
    except Exception as error:  # Pillow's readers raise whatever the damage leads to
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
    except Exception as error:  # as above: whatever the damage leads to
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
    """Open an image with Pillow; what it warns of is either checked here or does not matter."""
    if data[:4] in TIFF_SIGNATURES:
        _silence_libtiff()
    with _header_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        if image.format == "TIFF":
            image.getexif()  # which decoding does otherwise, where nothing keeps it from warning
        return image


@cache
def _silence_libtiff() -> None:
    """Keep libtiff from printing: it writes to the terminal what Pillow raises as well.

    Where the library is not linked dynamically, it goes on printing.
    """
    with suppress(OSError, AttributeError):
        handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
        handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
        handler(None)


def _checked_size(image: Image.Image) -> int:
    """Return the number of pixels that decoding takes memory for.

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
            raise InputError(_too_large(f"{width} × {height} pixels"))
    return max(width * height for width, height in sizes)


def _without_end_marker(opened: OpenedImage, error: OSError) -> Image.Image:
    """Return the image of a JPEG that lacks its end marker and nothing else.

    The marker is put behind various bytes: if a pixel depends on these, it is one of those that
    are missing. A progressive file, or one with restart markers, does not show in this way what
    it lacks.

    Raises:
        OSError: the given one; pixels are missing, or that cannot be told.
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
        raise InputError("floating-point pixels have no fixed range; save it with 8 or 16 bits")
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
        raise InputError("pixels outside 0..65535 have no fixed range; save it with 8 or 16 bits")
    faint = 0 < largest < MAX_FAINT
    white = largest if faint else 65535
    levels = (510 * np.arange(65536) + white) // (2 * white)  # 255 * value / white, rounded
    table = levels.clip(max=255).astype(np.uint8)
    eight = np.empty(values.shape, np.uint8)
    for top, bottom in _bands(*image.size):
        eight[top:bottom] = table[values[top:bottom]]
    return DecodedImage(Image.fromarray(eight).convert("RGB"), STRETCHED if faint else "")


def _bands(width: int, height: int) -> list[tuple[int, int]]:
    """Return first and last row, exclusive, of bands that cover an image."""
    rows = max(1, BAND_PIXELS // width)
    return [(top, min(top + rows, height)) for top in range(0, height, rows)]


def _too_large(what: str) -> str:
    limit = MAX_PIXELS // 1_000_000
    return f"too large: {what}; at most {limit} megapixels are read. Scale it down first"


def _damaged(error: Exception, kind: str) -> str:
    """Say in our own words what a decoder has raised; its own are often a number or nothing."""
    said = str(error).lower()
    if isinstance(error, EOFError) or "truncat" in said or "not enough" in said:
        return f"damaged or truncated: the {kind} file ends before its image does"
    return f"damaged or truncated: its {kind} data cannot be decoded"


def _unidentified(data: bytes) -> str:
    """Say why Pillow finds no image in a file."""
    kind = format_read(data)
    if kind == "TIFF" and tiff_values(data):
        return "not an image that can be read: a TIFF of an unusual kind. Save it as PNG"
    if kind:
        return f"damaged or truncated: its {kind} header cannot be read"
    return f"not an image that can be read: {foreign_format(data)}"
