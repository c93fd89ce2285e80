"""Pixels of files whose metadata is bad, that claim too much, that are damaged in any way."""

import io
import itertools
import logging
import re
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from camreport.errors import InputError
from camreport.images.loading import load_image
from camreport.images.pixels import BAND_PIXELS, MAX_PIXELS, STRETCHED, decode
from camreport.images.preprocessing import Preprocessing

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


JPEG = encoded(Image.fromarray(PICTURE), "JPEG", quality=90)
PNG = encoded(Image.fromarray(PICTURE), "PNG")


def as_viewers_show(data: bytes) -> NDArray[np.uint8]:
    """Return the pixels of an undamaged file as Pillow decodes them."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def chunk(name: bytes, content: bytes, crc: int | None = None) -> bytes:
    checksum = zlib.crc32(name + content) if crc is None else crc
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def png_with(*chunks: bytes) -> bytes:
    """Insert chunks after a PNG's header."""
    return PNG[:33] + b"".join(chunks) + PNG[33:]


def jpeg_with(marker: int, content: bytes) -> bytes:
    """Insert a segment before all others of a JPEG."""
    return JPEG[:2] + struct.pack(">BBH", 255, marker, len(content) + 2) + content + JPEG[2:]


def tiff(entries: dict[int, tuple[int, int, int]], data: bytes = b"") -> bytes:
    """Write a little-endian TIFF: type, count and value by tag, and data from byte 8 on."""
    at = 8 + len(data)
    table = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(entries.items()))
    head = struct.pack("<2sHI", b"II", 42, at)
    return head + data + struct.pack("<H", len(entries)) + table + bytes(4)


def exif(entries: dict[int, tuple[int, int, int]]) -> bytes:
    return b"Exif\0\0" + tiff(entries)


TURNED = {0x0112: (3, 1, 6)}  # a quarter to the right
BIG = zlib.compress(bytes(2 * 2**20 + 1000))
WITH_BAD_METADATA = {
    "eXIf cut off": png_with(chunk(b"eXIf", tiff(TURNED)[:13])),
    "eXIf of nothing": png_with(chunk(b"eXIf", b"no EXIF at all")),
    "raw profile of nonsense": png_with(
        chunk(b"tEXt", b"Raw profile type exif\0\nexif\n  20\nzz zz\n")
    ),
    "text of 2 MB": png_with(chunk(b"iTXt", b"Comment\0\1\0\0\0" + BIG)),
    "compressed text of 2 MB": png_with(chunk(b"zTXt", b"Comment\0\0" + BIG)),
    "a hundred texts": png_with(*[chunk(b"tEXt", b"a\0" + bytes(2**20 - 9))] * 100),
    "profile of 2 MB": png_with(chunk(b"iCCP", b"icc\0\0" + BIG)),
    "profile that is not compressed": png_with(chunk(b"iCCP", b"icc\0\0nonsense")),
    "text with a wrong checksum": png_with(chunk(b"tEXt", b"Title\0cat", crc=1)),
    "time too short": png_with(chunk(b"tIME", b"\0")),
    "resolution too short": png_with(chunk(b"pHYs", b"\0")),
    "gamma too short": png_with(chunk(b"gAMA", b"")),
    "animation of no frames": png_with(chunk(b"acTL", bytes(8))),
    "unknown chunk": png_with(chunk(b"prVt", bytes(5), crc=3)),
    "text as a rational": jpeg_with(0xE1, exif({0x010E: (5, 1, 26), 0x9003: (2, 9, 2**31)})),
    "EXIF of a thousand entries": jpeg_with(0xE1, b"Exif\0\0II*\0\x08\0\0\0\xe8\x03"),
    "orientation as text": jpeg_with(0xE1, exif({0x0112: (2, 4, 0x36363636)})),
    "orientation of 9": jpeg_with(0xE1, exif({0x0112: (3, 1, 9)})),
    "profile in pieces that do not fit": jpeg_with(0xE2, b"ICC_PROFILE\0\7\1" + bytes(90)),
    "multi-picture of nothing": jpeg_with(0xE2, b"MPF\0II*\0\x08\0\0\0\3\0"),
    "Photoshop's resources cut off": jpeg_with(0xED, b"Photoshop 3.0\x008BIM\4\4\0"),
    "JFIF too short": jpeg_with(0xE0, b"JFIF\0"),
    "XMP that is no XML": jpeg_with(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation"),
}


@pytest.mark.parametrize("kind", WITH_BAD_METADATA)
def test_pixels_are_read_whatever_the_metadata_says(kind: str) -> None:
    data = WITH_BAD_METADATA[kind]
    expected = PICTURE if data[:4] == PNG[:4] else as_viewers_show(JPEG)
    assert np.array_equal(np.asarray(decode(data)), expected)


def test_a_tiff_is_read_and_turned_whatever_its_other_tags_say() -> None:
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    structure = {
        **{256: (3, 1, 3), 257: (3, 1, 2), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1)},
        **{273: (4, 1, 8), 277: (3, 1, 1), 278: (3, 1, 2), 279: (4, 1, 6)},
    }
    bad = {270: (5, 1, 2**31), 271: (99, 1, 0), 282: (2, 2**30, 0), 33432: (2, 2**31, 5)}
    for orientation, turned in ((1, grey), (6, np.rot90(grey, -1)), (2, grey[:, ::-1])):
        data = tiff(structure | bad | {0x0112: (3, 1, orientation)}, grey.tobytes())
        assert np.array_equal(np.asarray(decode(data))[..., 0], turned)


@pytest.mark.parametrize("damage", ["text as a rational", "profile of 2 MB"])
def test_the_orientation_is_read_despite_bad_metadata(damage: str) -> None:
    entries = {0x010E: (5, 1, 2**31)} if damage == "text as a rational" else {}
    if damage == "profile of 2 MB":
        data = png_with(chunk(b"iCCP", b"icc\0\0" + BIG), chunk(b"eXIf", tiff(TURNED), crc=1))
        upright = np.rot90(PICTURE, -1)
    else:
        data = jpeg_with(0xE1, exif(TURNED | entries))
        upright = np.rot90(as_viewers_show(JPEG), -1)
    assert np.array_equal(np.asarray(decode(data)), upright)


@pytest.mark.parametrize("compressed", [False, True])
def test_an_orientation_in_a_raw_profile_counts(compressed: bool) -> None:
    text = b"\nexif\n  26\n" + exif(TURNED).hex().encode() + b"\n"
    name = b"Raw profile type exif\0"
    whole = chunk(b"zTXt", name + b"\0" + zlib.compress(text))
    data = png_with(whole if compressed else chunk(b"tEXt", name + text))
    assert np.array_equal(np.asarray(decode(data)), np.rot90(PICTURE, -1))


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_equals_pillows(orientation: int, big_endian: bool) -> None:
    tags = Image.Exif()
    tags.endian = ">" if big_endian else "<"
    tags[0x0112] = orientation
    data = encoded(Image.fromarray(PICTURE), "PNG", exif=tags)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(decode(data)), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("options", [{"quality": 30}, {"quality": 95, "subsampling": 0}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_without_its_end_marker_is_whole(mode: str, options: dict[str, int]) -> None:
    data = encoded(Image.fromarray(PICTURE).convert(mode), "JPEG", **options)
    for cut in (data[:-2], data[:-1]):
        assert np.array_equal(np.asarray(decode(cut)), as_viewers_show(data))


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}, {"subsampling": 0}]
)
def test_a_jpeg_that_lacks_pixels_is_refused(options: dict[str, object]) -> None:
    data = encoded(Image.fromarray(PICTURE), "JPEG", **options)
    for missing in (*range(4, 60), 300, 500, len(data) // 2):
        with pytest.raises(InputError, match="the JPEG file ends before its image does"):
            decode(data[:-missing])


# Bits


def sixteen_bits(values: NDArray[np.uint16], file_format: str) -> bytes:
    return encoded(Image.fromarray(values), file_format)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
@pytest.mark.parametrize("largest", [255, 1023, 4095, 16383])
def test_fewer_bits_in_16_are_stretched_with_a_note(largest: int, file_format: str) -> None:
    values = np.linspace(0, largest, 600).round().astype(np.uint16).reshape(20, 30)
    loaded = load_image(sixteen_bits(values, file_format), Preprocessing((20, 30), "none"))
    assert loaded.note == STRETCHED
    shown = np.asarray(decode(sixteen_bits(values, file_format)))[..., 0]
    assert np.array_equal(shown, np.floor(values.astype(float) * 255 / largest + 0.5))


@pytest.mark.parametrize("largest", [0, 16384, 30000, 65535])
def test_16_bits_that_use_their_range_stay_as_they_are(largest: int) -> None:
    values = np.linspace(0, largest, 600).round().astype(np.uint16).reshape(20, 30)
    data = sixteen_bits(values, "PNG")
    assert load_image(data, Preprocessing((20, 30), "none")).note is None
    assert np.array_equal(np.asarray(decode(data))[..., 0], np.floor(values / 257 + 0.5))


def test_run_says_what_was_stretched(tmp_path: Path) -> None:
    import camreport

    values = np.full((40, 40), 4095, np.uint16)
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(sixteen_bits(values, "PNG"))
    (tmp_path / "c.png").write_bytes(PNG)
    summary = camreport.run(tmp_path, tmp_path / "out", layers=["12"], methods="grad_cam")
    assert f"2 of 3 inputs: {STRETCHED}" in map(str, summary.notes)
    again = camreport.run(tmp_path, tmp_path / "out", layers=["12"], methods="grad_cam")
    assert again.reused == 3
    assert f"2 of 3 inputs: {STRETCHED}" in map(str, again.notes)


def test_transparency_is_put_on_white_as_in_one_piece() -> None:
    width, height = 1000, 2 * BAND_PIXELS // 1000 + 7  # two bands and a part of a third
    rgba = np.random.default_rng(1).integers(0, 256, (height, width, 4), dtype=np.uint8)
    white = Image.new("RGBA", (width, height), "white")
    expected = Image.alpha_composite(white, Image.fromarray(rgba)).convert("RGB")
    data = encoded(Image.fromarray(rgba), "PNG", compress_level=0)
    assert np.array_equal(np.asarray(decode(data)), expected)


# Memory

GREEDY = """
import resource, sys
from pathlib import Path
from camreport.errors import InputError
from camreport.images.loading import load_image
from camreport.images.preprocessing import Preprocessing

load_image(Path(sys.argv[1]).read_bytes(), Preprocessing())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    load_image(Path(sys.argv[2]).read_bytes(), Preprocessing())
except InputError as error:
    print(error, file=sys.stderr)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def megabytes_taken(tmp_path: Path, data: bytes) -> int:
    """Return by how much a process grows that loads an image, in MiB."""
    pytest.importorskip("resource")
    if sys.platform == "darwin":
        pytest.skip("another unit there")
    (tmp_path / "small").write_bytes(PNG)
    (tmp_path / "greedy").write_bytes(data)
    words = [sys.executable, "-c", GREEDY, str(tmp_path / "small"), str(tmp_path / "greedy")]
    finished = subprocess.run(words, capture_output=True, text=True, check=True, timeout=300)
    return int(finished.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["I;16", "RGBA", "RGB", "LA", "P"])
def test_the_largest_image_takes_at_most_twelve_bytes_per_pixel(tmp_path: Path, mode: str) -> None:
    side = int(MAX_PIXELS**0.5)
    data = encoded(Image.new(mode, (side, side)), "PNG", compress_level=1)
    assert megabytes_taken(tmp_path, data) <= 12 * MAX_PIXELS / 2**20


@pytest.mark.parametrize("tile", [(20000, 20000), (2**15, 2**15), (2**31, 16), (16, 2**32 - 16)])
def test_a_tiff_with_a_huge_tile_is_refused_before_it_takes_memory(
    tmp_path: Path, tile: tuple[int, int]
) -> None:
    entries = {
        **{256: (3, 1, 8), 257: (3, 1, 8), 258: (3, 1, 8), 259: (3, 1, 8), 262: (3, 1, 1)},
        **{277: (3, 1, 1), 322: (4, 1, tile[0]), 323: (4, 1, tile[1])},
        **{324: (4, 1, 8), 325: (4, 1, 40)},
    }
    data = tiff(entries, zlib.compress(bytes(64)) + bytes(40))
    with pytest.raises(InputError, match=r"too large|damaged"):
        decode(data)
    assert megabytes_taken(tmp_path, data) < 100


# Damage


def mutations(seed: int) -> bytes:
    """Return a file that something has happened to."""
    random = np.random.default_rng(seed)
    sources: list[Callable[[], bytes]] = [
        lambda: JPEG,
        lambda: PNG,
        *(lambda f=f: encoded(Image.fromarray(PICTURE), f) for f in ("WEBP", "BMP", "GIF", "TIFF")),
        *(
            lambda c=c: encoded(Image.fromarray(PICTURE), "TIFF", compression=c)
            for c in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "tiff_deflate")
        ),
        lambda: encoded(Image.fromarray(PICTURE), "JPEG", progressive=True),
        lambda: sixteen_bits(PICTURE[..., 0].astype(np.uint16) * 257, "PNG"),
        lambda: encoded(Image.fromarray(PICTURE).convert("P"), "PNG"),
        lambda: WITH_BAD_METADATA["text as a rational"],
        lambda: WITH_BAD_METADATA["raw profile of nonsense"],
        lambda: random.integers(0, 256, 500, dtype=np.uint8).tobytes(),
        lambda: b"RIFF" + random.integers(0, 256, 60, dtype=np.uint8).tobytes(),
    ]
    data = bytearray(sources[seed % len(sources)]())
    kind = random.integers(4)
    if kind == 0:
        return bytes(data[: random.integers(len(data))])
    if kind == 1:  # a piece is missing
        start = int(random.integers(len(data)))
        return bytes(data[:start] + data[start + int(random.integers(1, 40)) :])
    head = 200 if kind == 2 else len(data)
    for place in random.integers(0, head, random.integers(1, 12)):
        data[place % len(data)] = random.choice([0, 1, 127, 128, 255, int(random.integers(256))])
    return bytes(data)


def test_whatever_a_file_holds_is_an_image_or_a_sentence(
    capfd: pytest.CaptureFixture[str],
) -> None:
    said = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for seed in range(1500):
            try:
                assert decode(mutations(seed)).mode == "RGB"
            except InputError as error:
                said.append(str(error))
    assert not warned, "a library has warned"
    assert 300 < len(said) < 1500
    for reason in said:
        assert re.fullmatch(r"[a-z0-9][^\n]{20,}", reason), reason
        assert len(re.findall(r"[a-z]{2,}", reason)) >= 5, reason
        assert not re.search(r"Error|0x|Traceback|<", reason), reason
    captured = capfd.readouterr()
    assert captured.err == captured.out == "", "a library has printed"


def test_pillow_prints_nothing_where_nobody_listens_to_its_log() -> None:
    logger = logging.getLogger("PIL.TiffImagePlugin")
    found = itertools.takewhile(lambda each: each.name != "root", iter_parents(logger))
    assert any(each.handlers for each in found)


def iter_parents(logger: logging.Logger) -> list[logging.Logger]:
    parents = [logger]
    while parents[-1].parent is not None:
        parents.append(parents[-1].parent)
    return parents


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60), "JPEG 2000"),
        (b"\xff\x4f\xff\x51" + bytes(60), "JPEG 2000"),
        (b"8BPS\0\1" + bytes(60), r"Photoshop \(PSD\)"),
        (bytes(128) + b"DICM" + bytes(60), "DICOM"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(60), r"camera RAW \(CR2\)"),
        (tiff({254: (4, 1, 1), 330: (4, 1, 8)}), r"camera RAW \(NEF or ARW\)"),
        (tiff({254: (4, 1, 1), 50706: (1, 4, 1025)}), r"camera RAW \(DNG\)"),
        (b"IIRO\x08\0\0\0" + bytes(60), r"camera RAW \(ORF\)"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(60), r"camera RAW \(RAF\)"),
        (b"\0\0\0\x18ftypcrx " + bytes(60), r"camera RAW \(CR3\)"),
        (b'{"annotations": [1, 2]}', "a JSON file"),
        (b"path,label\ncat/1.jpg,cat\n", "a text file"),
        ("\ufeffeine Überschrift\n".encode(), "a text file"),
        (bytes(60), "no known image format"),
        (PNG[:12], "its PNG header cannot be read"),
        (tiff({256: (3, 1, 8)}, bytes(99))[:60], "its TIFF header cannot be read"),
        (b"BM is how every bitmap begins, and this sentence", "a text file"),
    ],
)
def test_a_file_with_a_wrong_name_is_named(data: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        decode(data)
