"""Regions in Pascal VOC's XML: one file a photograph, pixels counted from 1, the last included.

Nothing in a file is expanded or fetched: one with a document type, where entities are declared, is
refused.

Source: The PASCAL Visual Object Classes Challenge 2012 development kit.
"""

import math
from pathlib import PurePath
from xml.etree import ElementTree

from camreport.images.regions.entries import Entry, Faults

RULE = "a bndbox with the numbers xmin, ymin, xmax and ymax in each object"


def read_voc(text: str, name: str, faults: Faults) -> list[Entry]:
    """Return the regions of a VOC file.

    Args:
        text: of the file.
        name: of the file, relative to the folder of all of them; the photograph has the same name
            with another extension unless the file says otherwise.
        faults: collects objects that cannot be read.

    Raises:
        ValueError: it is not VOC's XML.
    """
    if "<!DOCTYPE" in text:
        raise ValueError("with a document type, which no file of VOC has")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"not well-formed XML: {error}") from error
    if root.tag != "annotation":
        raise ValueError(f"with <{root.tag[:40]}> instead of VOC's <annotation>")
    called = PurePath((root.findtext("filename") or "").strip() or name).stem
    size = _size(root)
    entries = []
    for number, thing in enumerate(root.iter("object"), 1):
        where = f"object {number} of {name}"
        try:
            left, top, right, bottom = (
                _finite(thing.findtext(f"bndbox/{side}"))
                for side in ("xmin", "ymin", "xmax", "ymax")
            )
        except (TypeError, ValueError):
            faults.left_out(RULE, where)
            continue
        entries.append(
            Entry(
                where=where,
                image=PurePath(name).with_name(called).as_posix(),
                label=(thing.findtext("name") or "").strip() or None,
                box=(left - 1, top - 1, right, bottom),
                size=size,
            )
        )
    return entries


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    try:
        width, height = (int(root.findtext(f"size/{side}") or 0) for side in ("width", "height"))
    except ValueError:
        return None
    return (width, height) if width > 0 and height > 0 else None


def _finite(text: str | None) -> float:
    """Return the finite number that a text is.

    Raises:
        TypeError, ValueError: it is none.
    """
    number = float(text)  # type: ignore[arg-type]
    if not math.isfinite(number):
        raise ValueError(text)
    return number
