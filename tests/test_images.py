"""Image files: formats and modes are decoded, damage is named."""

import io
import struct
import sys
import zlib
from contextlib import suppress

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from camreport.errors import InputError
from camreport.images.pixels import MAX_PIXELS, decode

RED, GREEN, BLUE, GREY = (240, 20, 30), (10, 200, 40), (20, 30, 220), (150, 150, 150)


def quadrants(width: int = 64, height: int = 32) -> Image.Image:
    """A non-square picture that looks different in every orientation."""
    picture = Image.new("RGB", (width, height))
    w, h = width // 2, height // 2
    for corner, colour in (((0, 0), RED), ((w, 0), GREEN), ((0, h), BLUE), ((w, h), GREY)):
        picture.paste(colour, (*corner, corner[0] + w, corner[1] + h))
    return picture


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    """Return an image as a file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def encoded_by_opencv(pixels: NDArray[np.generic], extension: str) -> bytes:
    """Return pixels in RGB(A) order as a file's bytes; OpenCV writes 16 bits as they are."""
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    codes = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    ordered = cv2.cvtColor(pixels, codes[channels]) if channels in codes else pixels
    return cv2.imencode(extension, ordered)[1].tobytes()


def palette_picture() -> Image.Image:
    """A palette image whose left half has index 0 and whose right half has index 1."""
    picture = Image.new("P", (8, 4), 0)
    picture.putpalette([*RED, *GREEN])
    picture.paste(1, (4, 0, 8, 4))
    return picture


def hollow_png(width: int, height: int) -> bytes:
    """A tiny PNG whose header claims a size that its data does not have."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" * 9)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def grey_alpha_tiff(width: int, height: int, data: bytes) -> bytes:
    """An uncompressed TIFF of 16-bit grey and alpha, which Pillow does not read."""
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 2, 16 | 16 << 16),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 8 + 2 + 12 * 11 + 4),
        (277, 3, 1, 2),
        (278, 4, 1, height),
        (279, 4, 1, len(data)),
        (284, 3, 1, 1),
        (338, 3, 1, 2),
    ]
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + b"\0" * 4 + data


def iso_media(brand: bytes) -> bytes:
    """The first bytes of a HEIC, AVIF or MP4 file."""
    return struct.pack(">I", 24) + b"ftyp" + brand + b"\0" * 12 + b"x" * 200


@pytest.mark.parametrize(
    ("file_format", "options", "tolerance"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}, 3),
        ("JPEG", {"quality": 95, "subsampling": 0, "progressive": True}, 3),
        ("PNG", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("BMP", {}, 0),
        ("GIF", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
    ],
)
def test_decode_reads_every_format(
    file_format: str, options: dict[str, object], tolerance: int
) -> None:
    decoded = decode(encoded(quadrants(), file_format, **options))
    assert decoded.mode == "RGB"
    assert decoded.size == (64, 32)
    difference = np.asarray(decoded).astype(int) - np.asarray(quadrants())
    assert abs(difference).max() <= tolerance


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_decode_takes_the_first_frame_when_there_are_several(file_format: str) -> None:
    later = [Image.new("RGB", (64, 32), BLUE), Image.new("RGB", (64, 32), GREEN)]
    lossless = {"lossless": True} if file_format == "WEBP" else {}
    data = encoded(quadrants(), file_format, save_all=True, append_images=later, **lossless)
    with Image.open(io.BytesIO(data)) as stored:
        assert stored.n_frames == 3
    assert np.array_equal(np.asarray(decode(data)), np.asarray(quadrants()))


SIXTEEN = np.full((4, 8, 4), [51400, 257, 0, 65535], dtype=np.uint16)  # 200 * 257, 1 * 257, 0

MODES = {
    "grey": (encoded(Image.new("L", (8, 4), 77), "PNG"), (77, 77, 77)),
    "grey, opaque": (encoded(Image.new("LA", (8, 4), (0, 255)), "PNG"), (0, 0, 0)),
    "grey, transparent": (encoded(Image.new("LA", (8, 4), (0, 0)), "PNG"), (255, 255, 255)),
    "grey, half transparent": (encoded(Image.new("LA", (8, 4), (0, 128)), "PNG"), (127, 127, 127)),
    "RGBA, transparent": (encoded(Image.new("RGBA", (8, 4), (*RED, 0)), "PNG"), (255, 255, 255)),
    "RGBA, half": (encoded(Image.new("RGBA", (8, 4), (255, 0, 0, 51)), "PNG"), (255, 204, 204)),
    "RGBA WebP": (
        encoded(Image.new("RGBA", (8, 4), (0, 0, 0, 0)), "WEBP", lossless=True),
        (255, 255, 255),
    ),
    "palette": (encoded(palette_picture(), "PNG"), RED),
    "palette, index transparent": (
        encoded(palette_picture(), "PNG", transparency=0),
        (255, 255, 255),
    ),
    "palette, another transparent": (encoded(palette_picture(), "PNG", transparency=1), RED),
    "palette, alpha table": (
        encoded(palette_picture(), "PNG", transparency=b"\0\xff"),
        (255, 255, 255),
    ),
    "GIF, transparent": (encoded(palette_picture(), "GIF", transparency=0), (255, 255, 255)),
    "grey with a transparent value": (
        encoded(Image.new("L", (8, 4), 9), "PNG", transparency=9),
        (255, 255, 255),
    ),
    "CMYK JPEG": (encoded(Image.new("CMYK", (8, 4), (0, 255, 255, 0)), "JPEG"), (255, 0, 0)),
    "CMYK TIFF": (encoded(Image.new("CMYK", (8, 4), (255, 0, 0, 0)), "TIFF"), (0, 255, 255)),
    "1 bit": (encoded(Image.new("1", (8, 4), 1), "PNG"), (255, 255, 255)),
    "16-bit grey PNG": (encoded_by_opencv(SIXTEEN[..., 0], ".png"), (200, 200, 200)),
    "16-bit grey TIFF": (encoded_by_opencv(SIXTEEN[..., 0], ".tiff"), (200, 200, 200)),
    "16-bit RGB PNG": (encoded_by_opencv(SIXTEEN[..., :3], ".png"), (200, 1, 0)),
    "16-bit RGB TIFF": (encoded_by_opencv(SIXTEEN[..., :3], ".tiff"), (200, 1, 0)),
    "16-bit RGBA TIFF": (encoded_by_opencv(SIXTEEN, ".tiff"), (200, 1, 0)),
    "16-bit RGBA TIFF, transparent": (
        encoded_by_opencv(SIXTEEN * np.uint16([1, 1, 1, 0]), ".tiff"),
        (255, 255, 255),
    ),
    "16-bit big-endian TIFF": (
        encoded(Image.fromarray(SIXTEEN[..., 0].astype(">u2")), "TIFF"),
        (200, 200, 200),
    ),
}


@pytest.mark.parametrize("mode", MODES)
def test_decode_gives_rgb_on_white_for_every_mode(mode: str) -> None:
    data, expected = MODES[mode]
    decoded = decode(data)
    assert decoded.mode == "RGB"
    assert decoded.size == (8, 4)
    assert np.allclose(decoded.getpixel((0, 0)), expected, atol=2 if "JPEG" in mode else 1)


def stored_as(upright: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return the pixels that a camera stores so that the EXIF orientation makes them upright."""
    return {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),  # shown turned clockwise
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_decode_turns_an_image_upright(file_format: str, orientation: int) -> None:
    upright = np.asarray(quadrants())
    stored = Image.fromarray(np.ascontiguousarray(stored_as(upright, orientation)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if file_format == "WEBP" else {}
    decoded = decode(encoded(stored, file_format, exif=exif, **lossless))
    assert decoded.size == (64, 32)
    for point, colour in (((8, 8), RED), ((56, 8), GREEN), ((8, 24), BLUE), ((56, 24), GREY)):
        assert np.allclose(decoded.getpixel(point), colour, atol=4)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_decode_leaves_an_image_as_it_is_when_its_orientation_is_none(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode(encoded(quadrants(), "PNG", exif=exif))
    assert np.array_equal(np.asarray(decoded), np.asarray(quadrants()))


JPEG, PNG = encoded(noise(64, 48), "JPEG"), encoded(noise(64, 48), "PNG")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", r"empty \(0 bytes\)"),
        (JPEG[: len(JPEG) // 2], "truncated"),
        (JPEG[:-10], "truncated"),
        (PNG[: len(PNG) // 2], "truncated"),
        (PNG[:12], "known image format|truncated"),
        (encoded(noise(64, 48), "WEBP")[:500], "truncated|no known"),
        (b"Dear diary, this is no image.", "a text file"),
        (b"\x01\x02\x03\xfe" * 9, "no known image format"),
        (b"\n<!DOCTYPE html><html><body>404</body></html>", "HTML page"),
        (b"<html><body>404</body></html>", "HTML page"),
        (iso_media(b"heic"), "HEIC"),
        (iso_media(b"mif1"), "HEIC"),
        (iso_media(b"avif"), "AVIF"),
        (iso_media(b"isom"), "video"),
        (b"\xff\x0a" + b"\0" * 50, "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0" * 50, "JPEG XL"),
        (b"%PDF-1.7\n" + b"x" * 99, "PDF"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'></svg>", "SVG"),
        (encoded(Image.fromarray(np.eye(8, dtype=np.float32)), "TIFF"), "floating-point"),
        (encoded_by_opencv(np.ones((8, 8, 3), np.float32), ".tiff"), "TIFF of an unusual kind"),
        (encoded(Image.fromarray(np.full((4, 4), 70000, np.int32)), "TIFF"), "outside 0..65535"),
    ],
)
def test_decode_says_why_it_cannot_read(data: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as raised:
        decode(data)
    assert "\n" not in str(raised.value)
    assert "0x" not in str(raised.value), "an address would make equal runs differ"


@pytest.mark.parametrize(("width", "height"), [(60000, 60000), (12000, 12000), (MAX_PIXELS + 1, 1)])
def test_decode_refuses_an_absurdly_large_image_without_using_memory(
    width: int, height: int
) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="too large"):
        decode(hollow_png(width, height))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    assert grown * unit < 50 * 2**20, "the pixels were decoded"


def test_decode_refuses_deep_grey_with_alpha() -> None:
    for data in (grey_alpha_tiff(5, 4, bytes(5 * 4 * 4)), grey_alpha_tiff(2**21, 10, bytes(100))):
        with pytest.raises(InputError, match=r"a TIFF of an unusual kind\. Save it as PNG"):
            decode(data)


def test_decode_leaves_postscript_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *given, **_: started.append(given))
    with pytest.raises(InputError):
        decode(encoded(quadrants(), "EPS"))
    assert not started


@pytest.mark.parametrize("length", [0, 30, 400, 2000])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_decode_raises_nothing_but_input_error(file_format: str, length: int) -> None:
    data = encoded(noise(40, 30), file_format)[:length]
    for seed in range(8):  # what is left of the file, with some bytes changed
        random = np.random.default_rng(seed)
        damaged = bytearray(data)
        for place in random.integers(0, max(1, len(damaged)), 4) if damaged else []:
            damaged[place] = random.integers(256)
        with suppress(InputError):
            assert decode(bytes(damaged)).mode == "RGB"
