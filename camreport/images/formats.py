"""Names of file formats by a file's first bytes: those that are read, and what else is met."""

import json

from camreport.images.metadata import PNG_SIGNATURE, tiff_values

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_NEW_SUBFILE, _SUB_DIRECTORIES, _DNG_VERSION = 254, 330, 50706
_AVIF = (b"avif", b"avis")
_HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


def format_read(data: bytes) -> str:
    """Return the name of the format by which a file is read, or an empty string."""
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if data[:8] == PNG_SIGNATURE:
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if data[:2] == b"BM" and b"\0" in data[:18]:  # else it is a text
        return "BMP"
    return "TIFF" if data[:4] in TIFF_SIGNATURES else ""


def raw_photograph(data: bytes) -> str:
    """Name a camera's raw file, which looks like a TIFF but shows only its thumbnail as one."""
    kind = ""
    if data[:4] in TIFF_SIGNATURES:
        tags = tiff_values(data)
        reduced = tags.get(_NEW_SUBFILE, 0) & 1
        if data[8:10] == b"CR":
            kind = "CR2"
        elif reduced and _DNG_VERSION in tags:
            kind = "DNG"
        elif reduced and _SUB_DIRECTORIES in tags:
            kind = "NEF or ARW"
    elif data[:4] in (b"IIRO", b"IIRS", b"MMOR"):
        kind = "ORF"
    elif data[:4] == b"IIU\0":
        kind = "RW2"
    elif data[:15] == b"FUJIFILMCCD-RAW":
        kind = "RAF"
    elif data[4:12] == b"ftypcrx ":
        kind = "CR3"
    return f"camera RAW ({kind}). Convert it to JPEG or PNG" if kind else ""


def foreign_format(data: bytes) -> str:
    """Name what is not read, and say what to do with it."""
    head = data[:512].lstrip().lower()
    if data[4:8] == b"ftyp":
        if data[8:12] in _AVIF:
            return "AVIF. Convert it to JPEG or PNG"
        if data[8:12] in _HEIC:
            return "HEIC. Convert it to JPEG or PNG"
        return "a video or another ISO media file"
    if data[:2] == b"\xff\x0a" or data[4:8] == b"JXL ":
        return "JPEG XL. Convert it to JPEG or PNG"
    if data[:4] == b"\xff\x4f\xff\x51" or data[4:8] == b"jP  ":
        return "JPEG 2000. Convert it to JPEG or PNG"
    if data[:4] == b"8BPS":
        return "Photoshop (PSD). Convert it to JPEG or PNG"
    if data[128:132] == b"DICM":
        return "DICOM. Convert it to JPEG or PNG"
    if data[:4] == b"%PDF":
        return "PDF. Export the picture as JPEG or PNG"
    if head.startswith((b"<!doctype html", b"<html")):
        return "an HTML page, probably an error page saved by a download"
    if b"<svg" in head:
        return "SVG. Export it as PNG"
    return _foreign_text(data) or "its first bytes belong to no known image format"


def _foreign_text(data: bytes) -> str:
    """Name a text, or return an empty string for anything else."""
    if data.startswith(b"version https://git-lfs.github.com/spec/"):
        return "a Git LFS pointer in place of the image. Fetch the image with 'git lfs pull'"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return ""
    if any(character < " " and character not in "\t\n\r\f" for character in text):
        return ""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return "a text file"
    return "a JSON file"
