"""The page's types of its data: exactly the keys and kinds of values that a report ships."""

import base64
import json
import os
import re
import shutil
import subprocess
import zlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from helpers.checkout import INPUTS, ROOT
from helpers.folders import chunk
from helpers.synthetic_evidence import write_evidence

import camreport
from camreport.insight.claims import Place
from camreport.report.gallery import render_gallery
from camreport.report.gallery.language import templates_folder

pytestmark = pytest.mark.slow

TYPES = templates_folder() / "gallery/src/data/types.ts"
TSC = ROOT / "node_modules/.bin/tsc"
STRICT = {
    "strict": True,
    "exactOptionalPropertyTypes": True,
    "module": "ES2022",
    "moduleResolution": "bundler",
    "noEmit": True,
    "types": [],
}


def shortened(content: Any) -> Any:
    """Return data with its long texts cut: pictures and levels, which no type looks into."""
    if isinstance(content, dict):
        return {key: shortened(value) for key, value in content.items()}
    if isinstance(content, list):
        return [shortened(value) for value in content]
    return content[:80] if isinstance(content, str) else content


def unpacked(image: Any, deflated: bool) -> Any:
    """Return the list of an image's maps."""
    packed = base64.b64decode(image["maps"])
    packed = zlib.decompress(packed, wbits=-15) if deflated else packed
    return json.loads(packed[4 : 4 + int.from_bytes(packed[:4], "little")])


def inlined(page: str, name: str) -> Any:
    """Return the data in one of a page's script elements."""
    return json.loads(page.partition(f'id="{name}">')[2].partition("</script>")[0])


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """By type, what one run ships as one file and as a folder: maps of each kind, a failure."""
    folder, out = tmp_path_factory.mktemp("inputs"), tmp_path_factory.mktemp("out") / "g"
    for name in ("both.jpg", "cat.jpg"):
        shutil.copy(INPUTS / name, folder)
    (folder / "broken.jpg").write_bytes(b"")
    camreport.run(
        folder,
        out,
        layers=["9", "12"],
        methods="grad_cam,layer_cam,eigen_cam,gradient_x_activation,guided_backprop",
        channels=["12"],
        labels={"cat.jpg": "cat"},
        layout="folder",
        evidence="off",
    )
    render_gallery(write_evidence(out, level="full", regions=True), layout="folder")
    found = {
        "Report": [chunk(out, "report")],
        "ShippedImage": chunk(out, "images-0000"),
        "ShippedOverview": chunk(out, "overview-0000"),
    }
    found["MapList"] = [unpacked(image, deflated=True) for image in found["ShippedImage"]]
    render_gallery(out, layout="single")
    page = (out / "index.html").read_text(encoding="utf-8")
    images = [inlined(page, f"image-{index}") for index in found["Report"][0]["images"]["index"]]
    found["Report"].append(inlined(page, "report"))
    found["ShippedImage"] += images
    found["MapList"] += [unpacked(image, deflated=False) for image in images]
    assert len(images) == 2
    camreport.compare([out, out], out.with_name("compared"))
    page = (out.with_name("compared") / "index.html").read_text(encoding="utf-8")
    found["Report"].append(inlined(page, "report"))
    found["ShippedImage"] += [inlined(page, f"image-{index}") for index in range(2)]
    assert found["Report"][-1]["comparison"]["agreement"]
    return found


def faults(shipped: dict[str, list[Any]], folder: Path) -> str:
    """Return what the compiler says of data as literals of their types: no key more, none less."""
    if not TSC.exists():
        reason = "TypeScript is not installed"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    lines = [f"import type {{ {', '.join(shipped)} }} from {json.dumps(str(TYPES))};"]
    for name, values in shipped.items():
        text = json.dumps(shortened(values), ensure_ascii=False)
        lines.append(f"export const of{name}: {name}[] = {text};")
    (folder / "shipped.ts").write_text("\n".join(lines), encoding="utf-8")
    config = {"compilerOptions": STRICT | {"allowImportingTsExtensions": True}}
    (folder / "tsconfig.json").write_text(json.dumps(config | {"files": ["shipped.ts"]}))
    told = subprocess.run(
        [TSC, "--pretty", "false"], cwd=folder, capture_output=True, text=True, check=False
    )
    return told.stdout


def test_page_declares_the_types_of_all_that_is_shipped(
    shipped: dict[str, list[Any]], tmp_path: Path
) -> None:
    assert faults(shipped, tmp_path) == ""


def test_every_key_that_may_be_left_out_is_shipped_at_times(shipped: dict[str, list[Any]]) -> None:
    declared = set(re.findall(r"^ +(\w+)\?:", TYPES.read_text(encoding="utf-8"), re.MULTILINE))
    cells = [cell for maps in shipped["MapList"] for cell in maps["cells"]]
    of_cells = {"offset", "picture", "channel"}
    for key in of_cells:
        assert {key in cell for cell in cells} == {True, False}, key
    assert {"others" in image for image in shipped["ShippedImage"]} == {True, False}
    assert declared - of_cells - {"others"} == {field.name for field in fields(Place)} - {"view"}


@pytest.mark.parametrize("change", ["more", "less", "other"])
def test_a_key_more_or_less_or_of_another_kind_is_found(
    shipped: dict[str, list[Any]], tmp_path: Path, change: str
) -> None:
    changed = json.loads(json.dumps(shortened(shipped)))
    layer = changed["Report"][1]["layers"][0]
    layer |= {"more": {"note": ""}, "less": {}, "other": {"type": 7}}[change]
    if change == "less":
        del layer["type"]
    said = faults(changed, tmp_path)
    assert {"more": "note", "less": "'type'", "other": "'string'"}[change] in said
