"""Read what a report in one file carries, without a browser."""

import base64
import json
import re
from pathlib import Path
from typing import Any

from camreport.results.reader import REPORT


def embedded(out: Path, name: str) -> dict[str, Any]:
    """Return the JSON that a page carries under a name: ``report``, ``image-0``; no NaN in it."""
    page = (out / REPORT).read_text(encoding="utf-8")
    found = re.search(
        rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.DOTALL
    )
    assert found is not None, f"the page has no {name}"
    return json.loads(found[1], parse_constant=_refuse)  # type: ignore[no-any-return]


def maps_of(out: Path, index: int) -> dict[str, Any]:
    """Return the entries of an image's maps: ``cells`` and ``channels``."""
    packed = base64.b64decode(embedded(out, f"image-{index}")["maps"])
    length = int.from_bytes(packed[:4], "little")
    return json.loads(packed[4 : 4 + length], parse_constant=_refuse)  # type: ignore[no-any-return]


def _refuse(constant: str) -> None:
    raise AssertionError(f"JSON knows no {constant}")
