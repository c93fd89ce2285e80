"""Image files without their metadata, and the orientation that the metadata gives.

Photographs often contain text, colour profiles or camera data with errors. Every viewer shows
them, and so does a report: whatever does not change the pixels is removed before a decoder reads
the file. Only the orientation is kept; impossible values are ignored.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

MAX_PROFILE_BYTES = 2**20
"""Largest raw profile of a PNG that is unpacked to look for an orientation."""

_JPEG_KEPT = {0xE0: (b"JFIF\0", 16), 0xEE: (b"Adobe", 14)}  # they define the colour space
_PNG_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_TIFF_KEPT = frozenset(
    (
        *(254, *range(256, 260), 262, 266, 273, *range(277, 280), 284, 292, 293, 317, 320),
        *(*range(322, 326), 332, 338, 339, 347, *range(512, 516), *range(517, 522), 530, 531, 532),
    )
)
_ORIENTATION = 274
_INTEGERS = {1: "B", 3: "H", 4: "I"}  # TIFF's types of whole numbers


@dataclass(frozen=True)
class Bare:
    """An image file without its metadata.

    Attributes:
        data: a file of the same format with the same pixels.
        orientation: 1 to 8 as in EXIF; 1 if none can be read.
    """

    data: bytes
    orientation: int = 1


def bare(data: bytes) -> Bare:
    """Return a JPEG, PNG or TIFF file without its metadata, and any other file unchanged."""
    if data[:2] == b"\xff\xd8":
        return _bare_jpeg(data)
    if data[:8] == PNG_SIGNATURE:
        return _bare_png(data)
    directory = _directory(data)
    return Bare(data) if directory is None else _bare_tiff(data, directory)


def orientation_of(exif: bytes) -> int:
    """Return the orientation in EXIF data, 1 to 8; 1 if none can be read."""
    directory = _directory(exif.removeprefix(b"Exif\0\0"))
    return 1 if directory is None else _orientation(directory)


def tiff_values(data: bytes) -> dict[int, int]:
    """Return the whole numbers in a TIFF file's first directory by tag; 0 for other types."""
    directory = _directory(data)
    return {} if directory is None else _values(directory)


@dataclass(frozen=True)
class _Directory:
    """The first directory of a TIFF structure.

    Attributes:
        order: byte order, ``<`` or ``>`` as in ``struct``.
        big: whether the file is a BigTIFF with long offsets.
        entries: the bytes of each entry, by tag.
    """

    order: str
    big: bool
    entries: dict[int, bytes]


def _bare_jpeg(data: bytes) -> Bare:
    kept, exif = [data[:2]], b""
    end = 2
    for marker, start, end in _jpeg_segments(data):
        if marker == 0xE1 and data[start + 4 : start + 10] == b"Exif\0\0":
            exif = exif or data[start + 10 : end]
        name, size = _JPEG_KEPT.get(marker, (b"", 0))
        named = data.startswith(name, start + 4) and end - start >= size
        if named if name else not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            kept.append(data[start:end])
    return Bare(b"".join([*kept, data[end:]]), orientation_of(exif))


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment before the first scan."""
    at = 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if marker in (0x00, 0x01, 0xDA) or 0xD0 <= marker <= 0xD9 or end > len(data):
            return
        yield marker, at, end
        at = end


def _bare_png(data: bytes) -> Bare:
    kept, turned = [PNG_SIGNATURE], 1
    at = len(PNG_SIGNATURE)
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4])
        kind, content = data[at + 4 : at + 8], data[at + 8 : min(end, len(data)) - 4]
        if kind in _PNG_KEPT:
            kept.append(data[at:end])
        elif turned == 1:
            turned = _png_orientation(kind, content)
        at = end
    return Bare(b"".join(kept), turned)


def _png_orientation(kind: bytes, content: bytes) -> int:
    if kind == b"eXIf":
        return orientation_of(content)
    name, _, text = content.partition(b"\0")
    if kind not in (b"tEXt", b"zTXt") or name != b"Raw profile type exif":
        return 1
    try:
        if kind == b"zTXt":
            text = zlib.decompressobj().decompress(text[1:], MAX_PROFILE_BYTES)
        profile = bytes.fromhex(b"".join(text.split()[2:]).decode("ascii"))
    except (zlib.error, ValueError):
        return 1
    return orientation_of(profile)


def _bare_tiff(data: bytes, directory: _Directory) -> Bare:
    """Return the file with a new directory at its end; the pixels keep their offsets."""
    order, big = directory.order, directory.big
    kept = [entry for tag, entry in sorted(directory.entries.items()) if tag in _TIFF_KEPT]
    count = struct.pack(order + ("Q" if big else "H"), len(kept))
    padded = data + b"\0" * (len(data) % 2)
    if big:
        header = data[:8] + struct.pack(order + "Q", len(padded))
    else:
        header = data[:4] + struct.pack(order + "I", len(padded))
    rewritten = b"".join([header, padded[len(header) :], count, *kept, b"\0" * (8 if big else 4)])
    return Bare(rewritten, _orientation(directory))


def _directory(data: bytes) -> _Directory | None:
    """Return the first directory of a TIFF structure; None if there is none."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or data[2:4] not in (b"*\0", b"\0*", b"+\0", b"\0+"):
        return None
    big = b"+" in data[2:4]
    try:
        (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    except struct.error:
        return None
    start, width = at + (8 if big else 2), 20 if big else 12
    listed = [data[start + i * width : start + (i + 1) * width] for i in range(min(count, 2**16))]
    entries: dict[int, bytes] = {}
    for entry in listed:
        if len(entry) == width:
            entries.setdefault(struct.unpack_from(order + "H", entry)[0], entry)
    return _Directory(order, big, entries)


def _orientation(directory: _Directory) -> int:
    value = _values(directory).get(_ORIENTATION, 1)
    return value if 1 <= value <= 8 else 1


def _values(directory: _Directory) -> dict[int, int]:
    """Return the first number of each entry of whole numbers; 0 for other types."""
    values = {}
    for tag, entry in directory.entries.items():
        (kind,) = struct.unpack_from(directory.order + "H", entry, 2)
        at, code = 12 if directory.big else 8, _INTEGERS.get(kind)
        values[tag] = struct.unpack_from(directory.order + code, entry, at)[0] if code else 0
    return values
