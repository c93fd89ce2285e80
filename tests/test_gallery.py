"""The report in a real browser: offline, exact to the pixel, usable by keyboard, linkable."""

import io
import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import browser
from helpers.browser import Open, settle, until
from helpers.checkout import INPUTS
from helpers.pictures import contour_lines, heat_pixels
from helpers.report_cells import LAYERS, Pixels, cell, drawn, facts_of, pixels_of, ready, show
from helpers.small import small_model
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page
from scipy.ndimage import label
from torch import nn

import camreport
from camreport.images.preprocessing import Preprocessing
from camreport.methods import METHODS
from camreport.report.appearance import seen_part
from camreport.report.heatmap import (
    enlarge,
    overlay,
    quantise,
    shade,
)
from camreport.results.reader import Results, load_results

HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "\"quotes\" & 'apostrophes' <b>{name}</b>",
    "שלום עולם",
    "🐶🐱 emoji~1.2",
    "n" * 180,
]
PINS = "p=2.1.grad_cam.features.12~2.0.hires_cam.features.9~0.0.layer_cam.fused"
VIEWS = {
    "overview": "#v=overview&k=1&m=layer_cam&l=features.9",
    "matrix": "#v=matrix&i=2&o=70&cm=cividis",
    "axes": "#v=matrix&r=image&c=class&l=features.9&m=hires_cam",
    "compare": f"#v=compare&{PINS}&z=2&x=0.3&y=0.6",
    "channels": "#v=channels&i=1&k=1&co=contribution&ch=3-17-200",
    "tables": "#v=tables&tb=methods&ct=1",
    "methods": "#v=methods",
    "provenance": "#v=provenance",
    "dialog": "#v=matrix&open=1.0.layer_cam.features.9&t=25",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not browser.required() and browser.chromium() is None, reason="no Chromium here"
    ),
]


def size_of(results: Results, image: int, side: int | None) -> tuple[int, int]:
    """Return height and width of the seen part, the photograph's longer side being ``side``."""
    photo = Image.open(io.BytesIO(results.photo(image)))
    left, top, right, bottom = seen_part(results.manifest.preprocessing, results.images[image])
    factor = (side or max(photo.size)) / max(photo.size)
    return (
        int(photo.height * factor * (bottom - top) + 0.5),
        int(photo.width * factor * (right - left) + 0.5),
    )


def peaks_of(results: Results, image: int) -> dict[str, float]:
    """Return the largest value of an image's maps by method, where it shares a scale."""
    peaks: dict[str, float] = {}
    for record in results.maps(image):
        method = record.method
        if record.layer == "fused" or method.on_input or method.from_least:
            continue
        peak = quantise(record.cam, method.signed).peak
        peaks[method.key] = max(peaks.get(method.key, 0.0), peak)
    return peaks


def scale_of(results: Results, image: int, method: str, layer: str, kind: str) -> float | None:
    """Return the value that gets the last colour, ``None`` for the map's own maximum."""
    if kind == "map" or layer == "fused":
        return None
    if kind == "image":
        return max(peaks_of(results, image).values())
    everywhere = [peaks_of(results, one.index) for one in results.readable]
    if kind == "method":
        return max(peaks[method] for peaks in everywhere)
    return max(max(peaks.values()) for peaks in everywhere)


def reference(
    out: Path,
    image: int,
    rank: int,
    method: str,
    layer: str,
    *,
    side: int | None = 224,
    scale: str = "map",
    **look: Any,
) -> Pixels:
    """Return what Python draws of a map."""
    results = load_results(out)
    cam = quantise(results.arrays(image)[f"{method}/{layer}"][rank], METHODS[method].signed)
    assert cam.state == "positive"
    height, width = size_of(results, image, side)
    top = scale_of(results, image, method, layer, scale)
    return heat_pixels(cam, height, width, scale=top, **look)


def reference_lines(
    out: Path, image: int, rank: int, method: str, layer: str, scale: str = "map"
) -> Pixels:
    """Return the contours that Python draws of a map: black within, white without."""
    results = load_results(out)
    cam = quantise(results.arrays(image)[f"{method}/{layer}"][rank], METHODS[method].signed)
    top = scale_of(results, image, method, layer, scale)
    index, _ = shade(cam, *size_of(results, image, 224), scale=top)
    inner, outer = contour_lines(index, cam.signed)
    black, white = np.uint8([0, 0, 0, 255]), np.uint8([255, 255, 255, 255])
    return inner[..., None] * black + outer[..., None] * white


MAPS = [
    (0, 0, "grad_cam", "features.12"),
    (2, 0, "hires_cam", "features.6"),
    (1, 1, "layer_cam", "fused"),
    (1, 1, "layer_cam", "features.0"),
]
LOOKS: list[tuple[str, dict[str, Any]]] = [
    ("", {}),
    ("&t=25&cm=cividis", {"threshold": 0.25, "colormap": "cividis"}),
    ("&t=95&cm=jet", {"threshold": 0.95, "colormap": "jet"}),
    ("&rc=1&cm=inferno", {"smooth": False, "colormap": "inferno"}),
    ("&rc=1&t=50&cm=gray", {"smooth": False, "threshold": 0.5, "colormap": "gray"}),
    ("&cm=turbo&t=5", {"colormap": "turbo", "threshold": 0.05}),
]


@pytest.mark.parametrize("scale", ["map", "method", "image", "report"])
def test_pixels_equal_the_python_reference(open_report: Open, report: Path, scale: str) -> None:
    page = ready(open_report(report, link=f"#v=matrix&sc={scale}"))
    shown = 0
    for (words, look), where in zip(LOOKS, itertools.cycle(MAPS), strict=False):
        for image, *rest in {where, MAPS[0], MAPS[1]}:
            show(page, f"#v=matrix&sc={scale}&i={image}{words}")
            pixels = drawn(page, cell(image, *rest))
            expected = reference(report, image, *rest, scale=scale, **look)
            np.testing.assert_array_equal(pixels, expected)
            shown += bool(pixels[..., 3].any())
    assert shown >= len(LOOKS)


@pytest.mark.parametrize("scale", ["map", "report"])
def test_opacity_by_value_and_contours_equal_the_python_reference(
    open_report: Open, report: Path, scale: str
) -> None:
    page = ready(open_report(report, link=f"#v=matrix&sc={scale}&av=1&ct=1"))
    for image, *rest in MAPS:
        show(page, f"#v=matrix&sc={scale}&av=1&ct=1&t=10&i={image}")
        pixels = drawn(page, cell(image, *rest))
        expected = reference(report, image, *rest, scale=scale, threshold=0.1, by_value=True)
        np.testing.assert_array_equal(pixels[..., 3], expected[..., 3])
        alpha = expected[..., 3:].astype(int)
        off = np.abs(pixels[..., :3].astype(int) - expected[..., :3])
        assert (off * alpha <= 255)[np.broadcast_to(alpha > 0, off.shape)].all()  # premultiplied
        lines = pixels_of(page, f"{cell(image, *rest)} canvas.lines")
        np.testing.assert_array_equal(lines, reference_lines(report, image, *rest, scale))
        assert lines.any() or scale == "report"


def test_controls_draw_what_their_links_draw(open_report: Open, report: Path) -> None:
    page = ready(open_report(report))
    where = MAPS[0]
    look: dict[str, Any] = {}
    drawn(page, cell(*where))
    for control, value, changes in (
        ("colormap", "cividis", {"colormap": "cividis"}),
        ("threshold", "30", {"threshold": 0.3}),
        ("scale", "method", {"scale": "method"}),
        ("scale", "image", {"scale": "image"}),
        ("scale", "report", {"scale": "report"}),
        ("cells", True, {"smooth": False}),
    ):
        look |= changes
        element = page.locator(f'#controls [data-focus="{control}"]')
        if value is True:
            element.check()
        elif control == "threshold":
            element.fill(str(value))
        else:
            element.select_option(str(value))
        np.testing.assert_array_equal(drawn(page, cell(*where)), reference(report, *where, **look))
    page.locator('#controls [data-focus="contours"]').check()
    page.locator('#controls [data-focus="byValue"]').check()
    assert page.evaluate("location.hash") == "#t=30&cm=cividis&sc=report&av=1&ct=1&rc=1"
    pixels = drawn(page, cell(*where))
    by_value = reference(report, *where, **look, by_value=True)
    np.testing.assert_array_equal(pixels[..., 3], by_value[..., 3])
    heat = f"{cell(*where)} canvas.heat"
    page.locator('#controls [data-focus="opacity"]').fill("20")
    assert page.eval_on_selector(heat, "e => getComputedStyle(e).opacity") == "0.2"
    page.locator('#controls [data-focus="show"]').select_option("heat")
    assert page.eval_on_selector(heat, "e => getComputedStyle(e).opacity") == "1"
    assert not page.is_visible(f"{cell(*where)} .frame > img")
    page.locator('#controls [data-focus="show"]').select_option("photo")
    assert page.eval_on_selector(heat, "e => getComputedStyle(e).opacity") == "0"
    page.locator('#controls [data-focus="grey"]').check()
    photo = f"{cell(*where)} .frame > img"
    assert page.eval_on_selector(photo, "e => getComputedStyle(e).filter") == "grayscale(1)"


def test_overview_and_enlarged_map_equal_the_python_reference(
    open_report: Open, report: Path
) -> None:
    page = ready(open_report(report, link="#v=overview&k=1&m=hires_cam&l=features.9"))
    for image in range(3):
        where = (image, 1, "hires_cam", "features.9")
        np.testing.assert_array_equal(
            drawn(page, cell(*where)), reference(report, *where, side=160)
        )
    for where in MAPS:
        name = ".".join(map(str, where))
        show(page, f"#v=overview&open={name}&sc=image&t=15")
        page.wait_for_selector("#probe[data-drawn]")
        np.testing.assert_array_equal(
            pixels_of(page, "#probe canvas.heat"),
            reference(report, *where, side=None, scale="image", threshold=0.15),
        )


def test_swapped_axes_show_the_same_maps(open_report: Open, report: Path) -> None:
    page = ready(open_report(report))
    where = (0, 0, "layer_cam", "features.9")
    page.locator('[data-focus="rows"]').select_option("method")
    settle(page)
    assert page.eval_on_selector_all("#view .matrix >> nth=0 >> tbody th", "all => all.length") == 3
    heads = page.eval_on_selector_all(
        "#view .panel:first-child .matrix thead th .head", "all => all.map(e => e.textContent)"
    )
    assert heads == [*LAYERS, "fused"]
    np.testing.assert_array_equal(drawn(page, cell(*where)), reference(report, *where))
    page.go_back()
    settle(page)
    assert page.locator("#view .panel:first-child .matrix tbody tr").count() == len(LAYERS) + 1


@pytest.mark.parametrize(
    ("head", "kept"),
    [("features.9", "features.9"), ("LayerCAM", "layer_cam")],
    ids=["layer", "method"],
)
def test_head_of_a_row_or_column_shows_it_across_all_images(
    open_report: Open, report: Path, head: str, kept: str
) -> None:
    page = ready(open_report(report))
    page.locator("#view .matrix a.head", has_text=re.compile(f"^{head}$")).first.click()
    settle(page)
    rows = page.eval_on_selector_all(
        "#view .panel:first-child tbody th .head", "all => all.map(e => e.textContent)"
    )
    assert rows == ["both.jpg", "cat.jpg", "dog.jpg"]
    ids = page.eval_on_selector_all("#view .cell[data-id]", "all => all.map(e => e.dataset.id)")
    assert {name[0] for name in ids} == {"0", "1", "2"}
    assert all(kept in name for name in ids)
    page.locator("#view tbody th a.head", has_text="dog.jpg").first.click()
    settle(page)
    ids = page.eval_on_selector_all("#view .cell[data-id]", "all => all.map(e => e.dataset.id)")
    assert {name[0] for name in ids} == {"2"}


def test_cropped_image_shows_the_map_only_where_the_model_looked(
    open_report: Open, tmp_path: Path
) -> None:
    crop = Preprocessing(size=(40, 40), resize="short-side", short_side=48)
    camreport.run(INPUTS / "dog.jpg", tmp_path, model=small_model(("a", "b"), crop), overwrite=True)
    page = ready(open_report(tmp_path))
    name = page.eval_on_selector("#view .cell:has(canvas)", "e => e.dataset.id")
    image, rank, method, layer = name.split(".", 3)
    where = (int(image), int(rank), method, layer)
    np.testing.assert_array_equal(drawn(page, cell(*where)), reference(tmp_path, *where))
    frame, seen = (
        page.eval_on_selector(f"{cell(*where)} {part}", "e => e.getBoundingClientRect().toJSON()")
        for part in (".frame", "canvas.heat")
    )
    box = crop.seen_box(574, 434)
    for start, end, length, low, high in (
        ("left", "right", "width", box.left / 574, box.right / 574),
        ("top", "bottom", "height", box.top / 434, box.bottom / 434),
    ):
        assert (seen[start] - frame[start]) / frame[length] == pytest.approx(low, abs=0.01)
        assert (seen[end] - frame[start]) / frame[length] == pytest.approx(high, abs=0.01)
    assert box.left > 0
    assert box.right < 574
    assert f"574 × 434 px, of which the model saw {box.right - box.left:.0f} × " in page.inner_text(
        "#view .summary"
    )
    page.click(cell(*where))
    probe = page.locator("#probe").bounding_box()
    assert probe is not None
    page.mouse.move(probe["x"] + 2, probe["y"] + probe["height"] / 2)
    assert "not seen by the model" in page.inner_text("#reading")


def test_report_asks_for_nothing_of_others(open_report: Open, report: Path) -> None:
    page = ready(open_report(report))
    assert " " in str(report)
    assert not str(report).isascii()
    policy = page.get_attribute("meta[http-equiv='Content-Security-Policy']", "content")
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "http" not in policy


def test_planted_picture_of_another_host_is_refused(
    chromium: browser.Browser, report: Path
) -> None:
    page = chromium.new_page()
    page.goto((report / "index.html").as_uri())
    refused = page.evaluate(
        """() => new Promise(done => {
            addEventListener("securitypolicyviolation", event => done(event.blockedURI));
            document.body.append(Object.assign(new Image(), {src: "http://127.0.0.1:9/a.png"}));
            setTimeout(() => done(""), 5000);
        })"""
    )
    page.close()
    assert refused == "http://127.0.0.1:9/a.png"


def focused(page: Page) -> str:
    """Return what has the focus, by the name that the page gives it."""
    name = page.evaluate("document.activeElement.dataset.focus ?? document.activeElement.id")
    return str(name)


def covered(page: Page) -> list[str]:
    """Return which parts of what has the focus lie under something else."""
    found: list[str] = page.evaluate(
        """() => {
            const own = document.activeElement;
            const box = own.getBoundingClientRect();
            const middle = (box.left + box.right) / 2;
            const places = {
                top: box.top + 3, middle: (box.top + box.bottom) / 2, bottom: box.bottom - 3,
            };
            return Object.entries(places).filter(([, y]) => {
                const hit = document.elementFromPoint(middle, y);
                return !hit || !(own.contains(hit) || hit.contains(own));
            }).map(([place]) => place);
        }"""
    )
    return found


def test_matrix_has_one_tab_stop_and_arrows_move_in_it(open_report: Open, report: Path) -> None:
    page = ready(open_report(report))
    stops = "#view .panels [tabindex='0'], #view .panels .cell:not([tabindex='-1'])"
    assert page.locator("#view .panels .cell").count() == 2 * (3 * 5 + 1)
    assert page.locator(stops).count() == 1
    page.locator(stops).focus()
    reached = []
    keys = ("ArrowRight", "ArrowDown", "Home", "End", "ArrowUp", "ArrowLeft", "PageDown", "PageUp")
    for key in keys:
        page.keyboard.press(key)
        reached.append(focused(page))
        assert page.locator(stops).count() == 1
    assert reached == [
        f"cell 0.{name}"
        for name in (
            "0.layer_cam.features.0",
            "0.layer_cam.features.3",
            "0.grad_cam.features.3",
            "1.hires_cam.features.3",
            "1.hires_cam.features.0",
            "1.layer_cam.features.0",
            "1.layer_cam.fused",
            "1.layer_cam.features.0",
        )
    ]
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert focused(page) == reached[-1]


@pytest.mark.parametrize("height", [1000, 560])
def test_nothing_focused_lies_under_the_bar(open_report: Open, report: Path, height: int) -> None:
    page = ready(open_report(report, height=height))
    assert page.eval_on_selector("#controls", "e => getComputedStyle(e).position") == "sticky"
    page.locator("#view .panels .cell[tabindex='0']").focus()
    for key in ["PageDown", *["ArrowDown"] * 6, "ArrowRight", *["ArrowUp"] * 6, "PageUp"]:
        page.keyboard.press(key)
        assert covered(page) == [], f"{focused(page)} after {key}"
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    for _ in range(20):
        page.keyboard.press("Shift+Tab")
        assert covered(page) == [], focused(page)


def test_whole_page_can_be_used_without_a_mouse(open_report: Open, report: Path) -> None:
    page = ready(open_report(report))
    reached: list[str] = []
    for _ in range(120):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
        reached.append(focused(page))
        assert covered(page) == [], reached[-1]
    wanted = page.eval_on_selector_all(
        "#app [data-focus]:not([tabindex='-1'], :disabled)",
        "all => all.filter(e => e.offsetParent).map(e => e.dataset.focus)",
    )
    assert len(wanted) > 20
    assert set(wanted) <= set(reached)
    assert reached[0] == "skip"
    assert sum(name.startswith("cell ") for name in reached) == 1

    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "view"
    page.locator('[data-focus="view tables"]').focus()
    page.keyboard.press("Enter")
    settle(page)
    assert page.is_visible("#view .course-table")
    page.locator('[data-focus="view matrix"]').focus()
    page.keyboard.press("Enter")
    settle(page)

    page.locator('[data-focus="choose-image"]').focus()
    page.keyboard.press("ArrowDown")
    settle(page)
    assert focused(page) == "choose-image"
    page.keyboard.press("ArrowDown")
    settle(page)
    assert page.locator(cell(2, 0, "grad_cam", "features.0")).count() == 1
    page.locator('[data-focus="colormap"]').focus()
    page.keyboard.press("ArrowDown")
    assert focused(page) == "colormap"
    where = (2, 0, "grad_cam", "features.0")
    expected = reference(report, *where, colormap="cividis")
    np.testing.assert_array_equal(drawn(page, cell(*where)), expected)
    page.locator('[data-focus="opacity"]').focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute('[data-focus="opacity"]', "aria-valuetext") == "5 %"
    opacity = "e => getComputedStyle(e).opacity"
    assert page.eval_on_selector(f"{cell(*where)} canvas.heat", opacity) == "0.05"


def test_letters_are_commands_until_they_are_switched_off(open_report: Open, report: Path) -> None:
    page = ready(open_report(report, link="#v=matrix&b=none&k=0"))

    def opacity() -> str | None:
        return page.get_attribute('[data-focus="opacity"]', "aria-valuetext")

    page.locator("#view .panels .cell[tabindex='0']").focus()
    page.keyboard.press("=")
    page.keyboard.press("=")
    page.keyboard.press("-")
    assert opacity() == "55 %"
    assert focused(page) == "cell 0.0.grad_cam.features.0"
    page.keyboard.press("]")
    settle(page)
    assert page.locator("#view .cell[data-id^='0.1.']").count() == 3 * 5 + 1
    page.keyboard.press("[")
    settle(page)
    assert page.locator("#view .cell[data-id^='0.0.']").count() == 3 * 5 + 1
    page.locator("#view .panels .cell[tabindex='0']").focus()
    page.keyboard.press("p")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("p")
    assert "p=0.0.grad_cam.features.0%7E0.0.layer_cam.features.0" in page.evaluate("location.hash")
    assert page.inner_text("#announcer") == "2 of 4 maps are pinned."
    assert page.inner_text("#nav .count").strip() == "2"
    page.keyboard.press("?")
    assert page.is_visible("#help[open]")
    letters = page.locator("#help [data-focus='keys-on']")
    assert letters.is_checked()
    letters.focus()
    page.keyboard.press("Space")
    page.keyboard.press("Escape")
    assert focused(page) == "cell 0.0.layer_cam.features.0"
    before = page.evaluate("location.hash")
    for key in "-=[]p":
        page.keyboard.press(key)
    page.keyboard.press("?")
    settle(page)
    assert page.evaluate("location.hash") == before
    assert page.locator("#help[open]").count() == 0
    page.click('[data-focus="help"]')
    letters.check()
    page.keyboard.press("Escape")
    page.keyboard.press("-")
    assert opacity() == "50 %"


def test_letters_are_text_where_text_is_written(open_report: Open, report: Path) -> None:
    page = ready(open_report(report, link="#v=overview"))
    page.focus('[data-focus="text"]')
    page.keyboard.type("[p-]=?")
    assert page.input_value('[data-focus="text"]') == "[p-]=?"
    assert focused(page) == "text"
    assert page.locator("#help[open], #view .tile").count() == 0
    assert page.get_attribute('[data-focus="opacity"]', "aria-valuetext") == "50 %"


def test_enter_opens_a_map_and_escape_gives_the_focus_back(open_report: Open, report: Path) -> None:
    page = ready(open_report(report, link="#v=matrix&i=2"))
    where = cell(2, 1, "grad_cam", "features.12")
    page.focus(where)
    page.keyboard.press("Enter")
    page.wait_for_selector("#cell[open] #probe")
    assert page.inner_text("#cell-title") == "dog.jpg · dog · Grad-CAM · features.12"
    page.focus('#cell [data-focus="next"]')
    page.keyboard.press("Enter")
    settle(page)
    assert page.inner_text("#cell-title") == "dog.jpg · dog · LayerCAM · features.12"
    assert focused(page) == "next"
    page.keyboard.press("b")
    page.keyboard.press("[")
    settle(page)
    assert page.inner_text("#cell-title") == "dog.jpg · cat · Grad-CAM · features.12"
    page.keyboard.press("Escape")
    settle(page)
    assert page.locator("#cell[open]").count() == 0
    assert focused(page) == "cell 2.0.grad_cam.features.12", "the map that was seen last"
    assert covered(page) == []
    page.click(where)
    page.wait_for_selector("#cell[open]")
    page.click('#cell [data-focus="close"]')
    settle(page)
    assert focused(page) == "cell 2.1.grad_cam.features.12"


def high_regions(values: NDArray[Any], within: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Return the connected regions of one sign, the largest first, as scipy labels them."""
    regions = []
    for side in (within & (values > 0), within & (values < 0)):
        labels, count = label(side)
        regions += [labels == number for number in range(1, count + 1)]
    return sorted(regions, key=lambda region: (-region.sum(), int(region.argmax())))


@pytest.mark.parametrize(
    ("where", "threshold"),
    [
        ((2, 1, "grad_cam", "features.12"), 0),
        ((0, 1, "layer_cam", "features.0"), 0),
        ((1, 0, "hires_cam", "features.0"), 30),
        ((0, 0, "layer_cam", "features.3"), 40),
        ((1, 0, "hires_cam", "features.9"), 0),
        ((0, 1, "layer_cam", "fused"), 75),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else value[2],
)
def test_open_map_says_what_numpy_says(
    open_report: Open, report: Path, where: tuple[int, int, str, str], threshold: int
) -> None:
    image, rank, method, layer = where
    link = f"#v=matrix&i={image}&t={threshold}&open={'.'.join(map(str, where))}"
    page = ready(open_report(report, link=link))
    results = load_results(report)
    signed = METHODS[method].signed
    cam = quantise(results.arrays(image)[f"{method}/{layer}"][rank], signed)
    height, width = size_of(results, image, None)
    levels = enlarge(cam.levels, height, width)
    values = (levels - 127) / 127 * cam.peak if signed else levels / 255 * cam.peak
    full = results.images[image].size
    share = (threshold or 50) / 100
    _, within = shade(cam, height, width, threshold=share)
    regions = high_regions(levels - (127 if signed else 0), within)
    rows, columns = np.nonzero(regions[0])
    magnitude = np.abs(levels - 127) if signed else levels
    row, column = np.unravel_index(magnitude.argmax(), magnitude.shape)

    def place(across: int, down: int) -> tuple[int, int]:
        return (
            int((across + 0.5) / width * full[0]),
            int((down + 0.5) / height * full[1]),
        )

    said = facts_of(page)
    x, y = place(int(column), int(row))
    assert said["Peak at"] == f"x {x}, y {y}"
    x0, y0 = place(columns.min(), rows.min())
    x1, y1 = place(columns.max(), rows.max())
    least = f"{'±' if signed else ''}{share:.0%}".replace("%", " %")
    assert said[f"Largest region above {least}"] == f"x {x0} to {x1}, y {y0} to {y1}"
    area = f"{int(within.mean() * 100 + 0.5)} %" if within.mean() >= 0.005 else "< 1 %"
    counted = f"{area}, in {len(regions)} regions" if len(regions) > 1 else area
    assert said[f"Area above {least}"] == counted
    assert page.locator("#probe .mark.box:not(.thin)").count() == 1
    assert page.locator("#probe .mark.box").count() == min(len(regions), 10)
    grid_height, grid_width = cam.levels.shape
    assert said["Grid of the map"] == f"{grid_width} × {grid_height} cells"
    assert float(said["Largest value"]) == pytest.approx(cam.peak, rel=6e-3)
    probe = page.locator("#probe").bounding_box()
    assert probe is not None
    for across, down in ((0.25, 0.5), (0.61, 0.37), (0.9, 0.95)):
        left, top = probe["x"] + probe["width"] * across, probe["y"] + probe["height"] * down
        page.mouse.move(left, top)
        at, value, of_peak = page.inner_text("#reading").split("\n")
        shown_x, shown_y = (int(part.split()[1]) for part in at.split(","))
        assert abs(shown_x - across * full[0]) <= 2
        assert abs(shown_y - down * full[1]) <= 2
        near = values[
            max(0, int(down * height) - 2) : int(down * height) + 3,
            max(0, int(across * width) - 2) : int(across * width) + 3,
        ]
        read = float(value.replace("−", "-"))
        slack = 0.006 * abs(read) + 1e-9
        assert near.min() - slack <= read <= near.max() + slack
        percent = int(of_peak.split(" %")[0].replace("−", "-"))
        assert percent == pytest.approx(read / cam.peak * 100, abs=0.6)


def test_cross_hair_moves_by_keys(open_report: Open, report: Path) -> None:
    page = ready(open_report(report, link="#v=matrix&open=0.0.grad_cam.features.12"))
    page.focus("#probe")
    place = re.compile(r"x (\d+), y (\d+)")

    def at() -> tuple[int, int]:
        found = place.match(page.inner_text("#reading"))
        assert found
        return int(found[1]), int(found[2])

    x, y = at()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    assert x < at()[0] <= x + 10
    assert y > at()[1] >= y - 10
    page.keyboard.press("Shift+ArrowLeft")
    assert at()[0] < x - 20
    for _ in range(15):
        page.keyboard.press("Shift+ArrowUp")
    assert at()[1] == 0


@pytest.mark.parametrize(
    "where", [(2, 1, "grad_cam", "features.12"), (0, 0, "hires_cam", "features.9")]
)
def test_saved_picture_equals_the_python_overlay(
    open_report: Open, report: Path, tmp_path: Path, where: tuple[int, int, str, str]
) -> None:
    image, rank, method, layer = where
    name = ".".join(map(str, where))
    page = ready(open_report(report, link=f"#v=matrix&o=60&t=20&cm=inferno&open={name}"))
    with page.expect_download() as coming:
        page.click('#cell [data-focus="save"]')
    assert re.fullmatch(r"[A-Za-z0-9._-]+\.png", coming.value.suggested_filename)
    assert method in coming.value.suggested_filename
    coming.value.save_as(tmp_path / "saved.png")
    saved = np.asarray(Image.open(tmp_path / "saved.png").convert("RGB")).astype(int)
    results = load_results(report)
    photo = np.asarray(Image.open(io.BytesIO(results.photo(image))).convert("RGB"))
    expected = overlay(
        photo,
        results.arrays(image)[f"{method}/{layer}"][rank],
        opacity=0.6,
        colormap="inferno",
        threshold=0.2,
        signed=METHODS[method].signed,
    )
    assert saved.shape == expected.shape
    assert np.abs(saved - expected).max() <= 4  # two JPEG decoders
    assert np.abs(saved - expected).mean() < 0.7
    assert np.abs(saved - photo).mean() > 3


SMALL_TARGETS = """() => {
    const own = "a[href], button, select, input, summary, [role=textbox], [tabindex='0']";
    const inText = e => e.matches("a, [role=textbox]") &&
        getComputedStyle(e).display === "inline" &&
        [...e.parentElement.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    const root = document.querySelector("dialog[open]") ?? document;
    return [...root.querySelectorAll(own)]
        .filter(e => e.checkVisibility({visibilityProperty: true}) && e.id !== "skip" && !inText(e))
        .map(e => e.type === "checkbox" ? e.closest("label") : e)
        .map(e => [e, e.getBoundingClientRect()])
        .filter(([, box]) => Math.min(box.width, box.height) < 23.99)
        .map(([e, {width, height}]) => `${e.tagName} ${e.dataset.focus ?? e.className} ` +
            `${e.textContent.slice(0, 20)}: ${width.toFixed(1)} x ${height.toFixed(1)}`);
}"""


@pytest.mark.parametrize("width", [360, 1400])
def test_targets_measure_24_pixels(open_report: Open, report: Path, width: int) -> None:
    page = ready(open_report(report, width=width))
    small = {}
    for name, link in VIEWS.items():
        show(page, link)
        if name == "dialog":
            page.wait_for_selector("#cell[open] #probe")
        if found := page.evaluate(SMALL_TARGETS):
            small[name] = found
    assert small == {}


def test_every_map_and_slider_says_what_it_is(open_report: Open, report: Path) -> None:
    page = ready(open_report(report))
    for link in VIEWS.values():
        show(page, link)
        sliders = page.eval_on_selector_all(
            "input[type=range]",
            "all => all.filter(e => e.offsetParent).map(e => [e.ariaLabel, e.ariaValueText])",
        )
        assert all(label and text for label, text in sliders)
        names = page.eval_on_selector_all(
            "#view .cell[data-id], #probe",
            "all => all.map(e => [e.dataset.id ?? '', e.getAttribute('aria-label')])",
        )
        for where, name in names:
            image, rank, method, layer = (where or "1.0.layer_cam.features.9").split(".", 3)
            assert ("both.jpg", "cat.jpg", "dog.jpg")[int(image)] in name
            assert f"class {('cat', 'dog')[int(rank)]}" in name
            assert METHODS[method].name in name
            assert layer in name
        nameless = page.eval_on_selector_all(
            "#app canvas, dialog[open] canvas",
            """all => all.filter(e => e.checkVisibility() &&
                !e.closest("[aria-label], [aria-labelledby], [aria-hidden=true]")
                ?.matches(".cell, [role=img], [role=application], [aria-hidden=true]"))
                .map(e => e.closest("[class]").className)""",
        )
        assert nameless == [], link


SNAPSHOT = """() => {
    const root = document.querySelector("#app");
    const hash = canvas => {
        const {width, height} = canvas;
        if (!width || !height) return "empty";
        const copy = new OffscreenCanvas(width, height).getContext("2d");
        copy.drawImage(canvas, 0, 0);
        const words = new Uint32Array(copy.getImageData(0, 0, width, height).data.buffer);
        let sum = 2166136261;
        for (const word of words) sum = Math.imul(sum ^ word, 16777619);
        return `${width} x ${height}: ${sum >>> 0}`;
    };
    const every = what => [...document.querySelectorAll(what)].filter(e => e.checkVisibility());
    return {
        text: root.innerText,
        dialog: document.querySelector("#cell[open]")?.innerText ?? "",
        values: every("input, select").map(e => e.type === "checkbox" ? e.checked : e.value),
        canvases: every("#app canvas, #cell[open] canvas").map(hash),
    };
}"""


def snapshot(page: Page) -> dict[str, Any]:
    """Return all that a page shows: text, what is chosen, pixels."""
    if "open=" in page.evaluate("location.hash"):
        page.wait_for_selector("#cell[open] #probe")
    page.mouse.move(0, 0)
    settle(page)
    settle(page)
    seen: dict[str, Any] = page.evaluate(SNAPSHOT)
    return seen


@pytest.mark.parametrize("view", VIEWS)
def test_link_restores_the_view(open_report: Open, report: Path, view: str) -> None:
    page = ready(open_report(report, height=3000))
    plain = snapshot(page)
    show(page, VIEWS[view])
    first = snapshot(page)
    assert first != plain
    page.reload()
    assert snapshot(ready(page)) == first
    link = page.evaluate("location.hash")
    assert snapshot(ready(open_report(report, height=3000, link=link))) == first
    page.go_back()
    assert snapshot(page) == plain
    page.go_forward()
    assert snapshot(page) == first


def test_controls_write_a_link_that_restores_the_view(open_report: Open, report: Path) -> None:
    page = ready(open_report(report, height=3000))
    page.locator('[data-focus="choose-image"]').select_option("2")
    page.locator('[data-focus="rows"]').select_option("method")
    page.locator('[data-focus="colormap"]').select_option("inferno")
    page.locator('[data-focus="threshold"]').fill("20")
    page.locator('[data-focus="contours"]').check()
    page.locator('[data-focus="theme"]').select_option("dark")
    first = snapshot(page)
    link = page.evaluate("location.hash")
    assert snapshot(ready(open_report(report, height=3000, link=link))) == first


@pytest.mark.parametrize(
    "link",
    [
        "#v=nothing&i=99&k=7&m=x&l=y&cm=z&sc=w&o=abc",
        "#open=0.9.grad_cam.features.0",
        "#open=9.0.a.b",
        "#v=compare&p=0.0.nothing.fused~7.7.grad_cam.x",
        "#v=matrix&r=layer&c=layer&b=layer&n=-3&o=5000&t=-40",
        "#%E0%A4%A",
    ],
)
def test_mistyped_link_still_opens(open_report: Open, report: Path, link: str) -> None:
    page = open_report(report, link=link)
    page.wait_for_selector("#view > .view")
    settle(page)
    assert page.locator("h1").inner_text() == "inputs · 3 images · catdog-alexnet"
    assert page.inner_text("#view").strip()
    opacity = page.get_attribute('[data-focus="opacity"]', "aria-valuetext")
    assert 0 <= int(str(opacity).removesuffix(" %")) <= 100


@pytest.mark.parametrize(
    ("width", "height"), [(320, 640), (320, 256), (360, 640), (800, 600), (1400, 1000)]
)
def test_no_view_scrolls_sideways(open_report: Open, report: Path, width: int, height: int) -> None:
    page = ready(open_report(report, width=width, height=height))
    wide = {}
    for name, link in VIEWS.items():
        show(page, link)
        across = page.evaluate("document.documentElement.scrollWidth")
        if name == "dialog":
            page.wait_for_selector("#cell[open] #probe")
            box = page.locator("#cell").bounding_box()
            assert box is not None
            inner = page.eval_on_selector("#cell", "e => e.scrollWidth - e.clientWidth")
            across = max(across, box["x"] + box["width"], width + inner)
        if across > width:
            wide[name] = across
    assert wide == {}


def test_page_without_scripts_shows_what_stands_still(open_report: Open, report: Path) -> None:
    page = open_report(report, java_script_enabled=False)
    assert page.locator(".contact:visible").count() == 3
    assert page.locator(".contact-sheet img:visible").count() == 3 * (1 + 2 * 3)
    for image in page.locator(".contact-sheet img").all():
        image.scroll_into_view_if_needed()
        assert image.get_attribute("alt")
    results = load_results(report)
    best = results.images[0].top[0]
    assert page.locator(".contact .name >> nth=0").inner_text() == best.name
    assert page.locator(".contact .percent >> nth=0").inner_text() == f"{best.probability:.2f}"
    table = page.locator("table.numbers >> nth=0")
    assert table.locator("tbody tr").count() == 6
    peak = float(results.arrays(0)["layer_cam/features.3"][0].max())
    shown = table.locator("tbody tr >> nth=1").locator("td >> nth=1").inner_text()
    assert float(shown) == pytest.approx(peak, rel=6e-3)
    assert "Grad-CAM, LayerCAM, HiResCAM at the last layer, features.12" in page.inner_text(
        ".contact figcaption >> nth=0"
    )
    provenance = page.inner_text("#fallback .provenance >> nth=-1")
    assert results.manifest.model.sha256 in provenance
    assert results.manifest.command in provenance
    assert page.locator(".badge:visible").all_inner_texts() == [
        "wrong: it is cat",
        "right: it is cat",
    ]
    dead = "button, select, input, summary, [tabindex], a[href^='#'], dialog, #controls, #nav"
    assert page.locator(f":is({dead}):visible").count() == 0
    assert page.is_visible("#fallback .notice")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1400


def test_badges_say_in_words_what_is_right_and_wrong(open_report: Open, report: Path) -> None:
    page = ready(open_report(report, link="#v=overview"))
    badges = "#view .tile .badge"
    words = page.eval_on_selector_all(badges, "all => all.map(e => [e.className, e.innerText])")
    assert words == [["badge wrong", "✗ wrong: it is cat"], ["badge right", "✓ right: it is cat"]]
    page.locator('[data-focus="judged"]').select_option("wrong")
    settle(page)
    assert page.locator("#view .tile .name").all_inner_texts() == ["both.jpg"]
    show(page, "#v=matrix&i=1")
    assert "right: it is cat" in page.inner_text("#view .summary")


@pytest.mark.parametrize(
    ("scale", "legend"),
    [
        ("map", "each map’s maximum"),
        ("method", "the method’s maximum"),
        ("image", "the image’s maximum"),
        ("report", "the report’s maximum"),
    ],
)
def test_legend_and_caption_say_which_scale(
    open_report: Open, report: Path, scale: str, legend: str
) -> None:
    page = ready(open_report(report, link=f"#v=matrix&sc={scale}&t=30&ct=1&rc=1&av=1"))
    assert legend in page.inner_text("#controls .legend")
    caption = page.inner_text("#view .panel .figcaption >> nth=0")
    strings = json.loads(page.text_content("script#report") or "")["strings"]["en"]
    assert strings[f"scale.{scale}.words"] in caption
    for said in ("Colours: viridis.", "Values below 30 % are not drawn.", "25, 50 and 75 %"):
        assert said in caption
    results = load_results(report)
    if scale == "report":
        top = scale_of(results, 0, "grad_cam", "features.0", "report")
        found = re.search(r"from 0 to ([\d.]+)\.", caption)
        assert found
        assert float(found[1]) == pytest.approx(top, rel=6e-3)
    show(page, f"#v=matrix&sc={scale}&open=1.0.grad_cam.features.3")
    page.wait_for_selector("#cell[open] #probe")
    assert facts_of(page)["Scale"] == strings[f"scale.{scale}"]
    top = scale_of(results, 1, "grad_cam", "features.3", scale)
    own = results.arrays(1)["grad_cam/features.3"][0].max()
    assert float(page.inner_text("#cell .bar-top")) == pytest.approx(top or own, rel=6e-3)


@pytest.mark.parametrize(
    ("weight", "label", "note"),
    [
        (-1.0, "no positive evidence", "Only differences between logits"),
        (torch.nan, "undefined", "values that are not finite"),
    ],
    ids=["empty", "undefined"],
)
def test_maps_without_positive_or_finite_values_are_labelled_not_drawn(
    open_report: Open, tmp_path: Path, weight: float, label: str, note: str
) -> None:
    model = small_model(("chosen", "other"))
    with torch.no_grad():
        model.module.head.weight[0] = weight  # type: ignore[union-attr]
    camreport.run(INPUTS / "cat.jpg", tmp_path / "g", model=model, classes="chosen", layers=["3"])
    page = ready(open_report(tmp_path / "g"))
    where = cell(0, 0, "grad_cam", "features.3")
    page.wait_for_selector(f"{where} .frame[data-drawn]")
    assert page.locator("#view .panels canvas").count() == 0
    assert page.inner_text(f"{where} .label") == label
    assert label in (page.get_attribute(where, "aria-label") or "")
    assert note in page.inner_text("#view")
    page.click(where)
    page.wait_for_selector("#cell[open]")
    assert label in page.inner_text("#reading")
    assert page.locator("#cell canvas").count() == 0
    page.keyboard.press("Escape")
    assert label in "".join(browser.pdf_pages(page.pdf(format="A4")))
    still = open_report(tmp_path / "g", java_script_enabled=False)
    assert label in still.inner_text(".contact-sheet")


def test_hostile_names_show_as_text(open_report: Open, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in HOSTILE:
        shutil.copy(INPUTS / "cat.jpg", folder / f"{name.replace('/', '∕')}.jpg")
    layer = "<img src=x onerror=alert(1)>&amp;"
    model = small_model(tuple(HOSTILE))
    features = model.module.features  # type: ignore[union-attr]
    features.add_module(layer, nn.ReLU())
    methods = "grad_cam,eigen_cam,guided_backprop,full_grad"
    camreport.run(
        folder,
        tmp_path / "g",
        model=model,
        classes="all",
        layers=["features.3", f"features.{layer}"],
        methods=methods,
        channels=["features.3"],
        labels={f"{HOSTILE[2]}.jpg": HOSTILE[0]},
    )
    page = ready(open_report(tmp_path / "g", link="#v=overview&i=2"))
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    markup = "[onerror], b, #app > img, #app script, #view img[src='x']"
    files = sorted(f"{name.replace('/', '∕')}.jpg" for name in HOSTILE)
    assert sorted(page.locator("#view .tile .name").all_inner_texts()) == files
    pin = f"0.0.grad_cam.features.{layer}"
    pins = "~".join(part.replace("&", "%26") for part in (pin, "1.1.full_grad.input"))
    for link in (
        "#v=matrix",
        "#v=matrix&r=image&c=class",
        f"#v=compare&p={pins}",
        "#v=channels",
        "#v=tables",
        "#v=provenance",
        "#v=methods",
        f"#v=matrix&open={pin.replace('&', '%26')}",
    ):
        show(page, link)
        assert page.locator(markup).count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 1400, link
    page.wait_for_selector("#cell[open] #probe")
    assert HOSTILE[0] in page.inner_text("#cell-title")
    assert layer in page.inner_text("#cell-title")
    show(page, "#v=matrix&r=layer&c=class&m=grad_cam")
    assert (
        page.eval_on_selector_all(
            "#view .matrix thead th .head", "all => all.map(e => e.textContent)"
        )
        == HOSTILE
    )
    assert layer in page.inner_text("#view .matrix tbody")
    page.pdf(format="A4")
    still = open_report(tmp_path / "g", java_script_enabled=False, width=360)
    assert sorted(still.locator(".contact h2").all_inner_texts()) == files
    assert still.locator("[onerror], b, #fallback script[src]").count() == 0
    assert still.evaluate("document.documentElement.scrollWidth") <= 360


def test_failed_inputs_are_listed_with_their_reason(open_report: Open, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(INPUTS / "cat.jpg", folder)
    (folder / "empty.png").touch()
    camreport.run(folder, tmp_path / "g", model=small_model(("a", "b")))
    page = ready(open_report(tmp_path / "g"))
    for place in ("#masthead .notice", "#view .notice", "#fallback .notice >> nth=1"):
        if place.startswith("#view"):
            show(page, "#v=provenance")
        if place.startswith("#fallback"):
            page = open_report(tmp_path / "g", java_script_enabled=False)
        if place.startswith("#masthead"):
            page.click(f"{place} summary")
        said = page.inner_text(place)
        assert "1 of 2 inputs could not be read" in said
        assert "empty.png: the file is empty (0 bytes)" in said


def test_little_motion_leaves_the_flicker_out(open_report: Open, report: Path) -> None:
    still = ready(open_report(report, link=VIEWS["compare"], reduced_motion="reduce"))
    lively = ready(open_report(report, link=VIEWS["compare"]))
    assert lively.locator('[data-focus="flicker"]').count() == 1
    assert still.locator('[data-focus="flicker"]').count() == 0
    assert still.is_visible('[data-focus="turn"]')
    moving = still.evaluate("document.getAnimations().length")
    assert moving == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_forced_colours_keep_the_focus_ring(open_report: Open, report: Path, scheme: str) -> None:
    page = ready(open_report(report, forced_colors="active", color_scheme=scheme))
    for _ in range(12):
        page.keyboard.press("Tab")
        ring = page.evaluate(
            """(({outlineStyle, outlineWidth, outlineColor}) =>
                [outlineStyle, outlineWidth, outlineColor])
                (getComputedStyle(document.activeElement))"""
        )
        assert ring[0] != "none", focused(page)
        assert float(ring[1].removesuffix("px")) >= 2
        assert ring[2] != "rgba(0, 0, 0, 0)"
    where = (0, 0, "grad_cam", "features.12")
    np.testing.assert_array_equal(drawn(page, cell(*where)), reference(report, *where))
    adjust = "e => getComputedStyle(e).forcedColorAdjust"
    assert page.eval_on_selector(f"{cell(*where)} canvas.heat", adjust) == "none"


def test_dark_scheme_has_dark_ground_and_readable_text(open_report: Open, report: Path) -> None:
    def lightness(scheme: str, what: str) -> float:
        page = ready(open_report(report, color_scheme=scheme))
        colour = page.evaluate(f"getComputedStyle(document.documentElement).{what}")
        return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3

    assert lightness("dark", "backgroundColor") < 50 < 200 < lightness("dark", "color")
    assert lightness("light", "color") < 60 < 200 < lightness("light", "backgroundColor")


def test_links_inside_the_page_lead_somewhere(open_report: Open, report: Path) -> None:
    page = ready(open_report(report))
    known = set(VIEWS)
    for link in VIEWS.values():
        show(page, link)
        for target in page.eval_on_selector_all("a", "all => all.map(e => e.getAttribute('href'))"):
            if target.startswith("https://"):  # for reading; nothing is loaded from there
                continue
            assert target.startswith("#")
            assert set(re.findall(r"\bv=(\w+)", target)) <= known


def test_layout_stands_before_the_maps_are_drawn(open_report: Open, report: Path) -> None:
    page = ready(open_report(report))
    height = page.evaluate("document.documentElement.scrollHeight")
    drawn(page, cell(0, 1, "layer_cam", "fused"))
    assert page.evaluate("document.documentElement.scrollHeight") == height


def test_very_tall_and_wide_images_stay_within_bounds(open_report: Open, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, size in (("tall", (40, 1200)), ("wide", (1200, 40))):
        Image.new("RGB", size, "teal").save(tmp_path / "in" / f"{name}.png")
    camreport.run(tmp_path / "in", tmp_path / "g", model=small_model(("a", "b")))
    page = ready(open_report(tmp_path / "g", link="#v=overview"))
    for link in ("#v=overview", "#v=matrix&i=0", "#v=matrix&i=1", "#v=tables"):
        show(page, link)
        boxes = page.eval_on_selector_all(
            "#view .frame", "all => all.map(e => e.getBoundingClientRect().toJSON())"
        )
        assert boxes
        assert max(box["height"] for box in boxes) <= 700, link
        assert min(min(box["height"], box["width"]) for box in boxes) >= 1, link
        assert page.evaluate("document.documentElement.scrollWidth") <= 1400


@pytest.mark.parametrize(
    ("reach", "change"),
    [
        ("#nav a[data-focus='view tables']", "Enter"),
        ("#masthead select[data-focus='language']", "ArrowDown"),
        ("#masthead select[data-focus='theme']", "ArrowDown"),
        ("#view select[data-focus='rows']", "ArrowDown"),
        ("#controls input[data-focus='contours']", "Space"),
    ],
)
def test_what_is_used_keeps_the_focus(
    open_report: Open, demo: Path, reach: str, change: str
) -> None:
    page = open_report(demo)
    focused = "document.activeElement.dataset.focus"
    page.focus(reach)
    before = page.evaluate(focused)
    page.keyboard.press(change)
    until(page, "location.hash !== ''")
    settle(page)
    assert page.evaluate(focused) == before


def test_peak_of_raw_cells_is_the_middle_of_a_cell(open_report: Open, report: Path) -> None:
    page = ready(open_report(report, link="#rc=1&open=0.0.layer_cam.features.12"))
    cam = load_results(report).arrays(0)["layer_cam/features.12"][0]
    row, column = np.unravel_index(cam.argmax(), cam.shape)
    full = load_results(report).images[0]
    said = re.findall(r"\d+", facts_of(page)["Peak at"])
    assert int(said[0]) == pytest.approx((column + 0.5) / 6 * full.width, abs=1.5)
    assert int(said[1]) == pytest.approx((row + 0.5) / 6 * full.height, abs=1.5)


def test_class_keys_do_nothing_where_all_classes_are_shown(open_report: Open, report: Path) -> None:
    page = ready(open_report(report))
    before = page.evaluate("location.hash")
    page.keyboard.press("]")
    assert page.evaluate("location.hash") == before
    show(page, "#v=matrix&b=none")
    page.keyboard.press("]")
    assert "k=" in page.evaluate("location.hash")
