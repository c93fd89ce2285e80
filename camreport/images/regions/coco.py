"""Regions in COCO's JSON: boxes, polygons and uncompressed runs.

Source: https://cocodataset.org/#format-data
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from camreport.images.regions.entries import Entry, Faults

Json = Mapping[str, Any]

RULE = (
    "an image_id of 'images', and a bbox of x, y, width and height, polygons of three corners or "
    "more, or whole numbers of pixels as runs"
)


def read_coco(text: str, faults: Faults) -> list[Entry]:
    """Return the regions of a COCO file.

    Raises:
        ValueError: it is not JSON with COCO's three lists.
    """
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(content, Mapping) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations")
    ):
        raise ValueError("without the lists 'images' and 'annotations' of a COCO file")
    images = {
        i["id"]: i for i in content["images"] if isinstance(i, Mapping) and _is_key(i.get("id"))
    }
    listed = content.get("categories")
    names = {
        c["id"]: str(c.get("name", c["id"]))
        for c in (listed if isinstance(listed, list) else [])
        if isinstance(c, Mapping) and _is_key(c.get("id"))
    }
    entries = []
    for number, annotation in enumerate(content["annotations"], 1):
        where = f"annotation {number}"
        try:
            entries.append(_entry(where, annotation, images, names))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            faults.left_out(RULE, f"{where} ({json.dumps(annotation)[:60]})")
    return entries


def _entry(
    where: str, annotation: Json, images: Mapping[object, Json], names: Mapping[object, str]
) -> Entry:
    image = images[annotation["image_id"]]
    category = annotation.get("category_id")
    label = None if category is None else names.get(category, str(category))
    size = (_whole(image["width"]), _whole(image["height"])) if "width" in image else None
    shape = annotation.get("segmentation") or []
    polygons: tuple[tuple[float, ...], ...] = ()
    columns: tuple[int, ...] = ()
    if isinstance(shape, list):
        polygons = tuple(tuple(_number(n) for n in corners) for corners in shape)
        if any(len(corners) < 6 or len(corners) % 2 for corners in polygons):
            raise ValueError
    elif not isinstance(shape["counts"], str):  # a text is a compressed mask: its box is used
        columns = tuple(_whole(count) for count in shape["counts"])
        size = (_whole(shape["size"][1]), _whole(shape["size"][0]))
        if not columns:
            raise ValueError
    box = None
    if not polygons and not columns:
        left, top, width, height = (_number(n) for n in annotation["bbox"])
        box = (left, top, left + width, top + height)
    return Entry(
        where=where,
        image=str(image["file_name"]),
        label=label,
        box=box,
        polygons=polygons,
        columns=columns,
        size=size,
    )


def _is_key(value: object) -> bool:
    return isinstance(value, int | str)


def _number(value: object) -> float:
    """Return a finite number.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(value)
    return float(value)


def _whole(value: object) -> int:
    """Return a whole number.

    Raises:
        ValueError: it is none.
    """
    number = _number(value)
    if number != int(number):
        raise ValueError(value)
    return int(number)
