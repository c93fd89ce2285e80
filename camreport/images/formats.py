"""File formats recognised by a file's first bytes: those that are read, and those that are not."""

import json

from camreport.images.metadata import PNG_SIGNATURE, tiff_values
from camreport.messages import Message, message

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_NEW_SUBFILE, _SUB_DIRECTORIES, _DNG_VERSION = 254, 330, 50706
_AVIF = (b"avif", b"avis")
_HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


def format_read(data: bytes) -> str:
    """Return the name of a file's format if it is one that is read, or an empty string."""
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if data[:8] == PNG_SIGNATURE:
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if data[:2] == b"BM" and b"\0" in data[:18]:  # without a zero byte it is a text
        return "BMP"
    return "TIFF" if data[:4] in TIFF_SIGNATURES else ""


def raw_photograph(data: bytes) -> Message | None:
    """Return why a camera's raw file cannot be read; None for all other files.

    Some raw files look like a TIFF file, but as such they contain a thumbnail only.
    """
    kind: str | Message = ""
    if data[:4] in TIFF_SIGNATURES:
        tags = tiff_values(data)
        reduced = tags.get(_NEW_SUBFILE, 0) & 1
        if data[8:10] == b"CR":
            kind = "CR2"
        elif reduced and _DNG_VERSION in tags:
            kind = "DNG"
        elif reduced and _SUB_DIRECTORIES in tags:
            kind = message("images.nef_or_arw")
    elif data[:4] in (b"IIRO", b"IIRS", b"MMOR"):
        kind = "ORF"
    elif data[:4] == b"IIU\0":
        kind = "RW2"
    elif data[:15] == b"FUJIFILMCCD-RAW":
        kind = "RAF"
    elif data[4:12] == b"ftypcrx ":
        kind = "CR3"
    if not kind:
        return None
    return message("images.foreign_format", format=message("images.camera_raw", kind=kind))


def foreign_format(data: bytes) -> Message:
    """Return why a file of another format cannot be read, and what to do with it."""
    head = data[:512].lstrip().lower()
    if data[4:8] == b"ftyp":
        if data[8:12] in _AVIF:
            return message("images.foreign_format", format="AVIF")
        if data[8:12] in _HEIC:
            return message("images.foreign_format", format="HEIC")
        return message("images.video")
    if data[:2] == b"\xff\x0a" or data[4:8] == b"JXL ":
        return message("images.foreign_format", format="JPEG XL")
    if data[:4] == b"\xff\x4f\xff\x51" or data[4:8] == b"jP  ":
        return message("images.foreign_format", format="JPEG 2000")
    if data[:4] == b"8BPS":
        return message("images.foreign_format", format="Photoshop (PSD)")
    if data[128:132] == b"DICM":
        return message("images.foreign_format", format="DICOM")
    if data[:4] == b"%PDF":
        return message("images.pdf")
    if head.startswith((b"<!doctype html", b"<html")):
        return message("images.html_page")
    if b"<svg" in head:
        return message("images.svg")
    return message(_code_of_text(data) or "images.unknown_format")


def _code_of_text(data: bytes) -> str:
    """Return the message code of a text file, or an empty string for anything else."""
    if data.startswith(b"version https://git-lfs.github.com/spec/"):
        return "images.lfs_pointer"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return ""
    if any(character < " " and character not in "\t\n\r\f" for character in text):
        return ""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return "images.text_file"
    return "images.json_file"
