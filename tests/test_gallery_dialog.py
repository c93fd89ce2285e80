"""The open map as a workbench: its neighbours, its facts, its figures as files, its link."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from helpers import browser
from helpers.browser import Open, axe, settle, until
from helpers.checkout import INPUTS
from helpers.page_steps import fields, focused, texts
from helpers.report_cells import facts_of, ready, show
from helpers.small import small_model
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page

import camreport
from camreport import overlay
from camreport.methods import METHODS
from camreport.report.heatmap import colour_table
from camreport.results.reader import load_results

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not browser.required() and browser.chromium() is None, reason="no Chromium here"
    ),
]

DENSITY = 2
"""Pixels of a saved picture for each of the figure's own."""

CONTRAST = -3
"""In place of a class: the difference of an image's two classes."""

MARGIN = 16
"""Pixels of the figure around its picture."""

SVG = "{http://www.w3.org/2000/svg}"
CLIPBOARD = """answer => {
    const writeText = async text => {
        if (!answer) throw new DOMException("", "NotAllowedError");
        window.copied = text;
    };
    Object.defineProperty(navigator, "clipboard", {value: {writeText}});
}"""


def opened(open_report: Open, report: Path, where: str, **options: int | str) -> Page:
    page = ready(open_report(report, link=f"#v=matrix&open={where}", **options))
    page.wait_for_selector("#probe[data-drawn]")
    return page


def strip(page: Page, name: str) -> list[str]:
    """Return what a strip leads to."""
    found: list[str] = page.eval_on_selector_all(
        f"#cell .strips section:has(h3:text-matches('^{name}')) .neighbour",
        "all => all.map(one => one.dataset.focus.replace(/^\\w+ /, ''))",
    )
    return found


def saved(page: Page, button: str, folder: Path) -> Path:
    """Save the open map and return its file."""
    with page.expect_download() as coming:
        page.click(f'#cell [data-focus="{button}"]')
    path = folder / coming.value.suggested_filename
    coming.value.save_as(path)
    return path


def rgb(source: Path | bytes) -> Image.Image:
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source).convert("RGB")


# The maps beside it


def test_the_strips_hold_the_layers_the_methods_and_the_classes(
    open_report: Open, demo: Path
) -> None:
    page = opened(open_report, demo, "0.1.layer_cam.features.9")
    assert strip(page, "Layers") == [*(f"features.{i}" for i in (0, 3, 6, 9, 12)), "fused"]
    assert strip(page, "Methods") == ["grad_cam", "layer_cam", "hires_cam"]
    assert strip(page, "Classes") == ["0", "1", str(CONTRAST)]
    present = page.locator("#cell .neighbour[aria-current=true]").all()
    places = [entry.get_attribute("data-focus") for entry in present]
    assert places == ["layer features.9", "method layer_cam", "class 1"]


def test_enter_in_a_strip_moves_and_arrows_only_look_around(open_report: Open, demo: Path) -> None:
    page = opened(open_report, demo, "0.1.layer_cam.features.9")
    page.focus('#cell [data-focus="layer features.9"]')
    reading = page.inner_text("#reading")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Home")
    assert focused(page) == "layer features.0"
    assert fields(page)["open"] == "0.1.layer_cam.features.9"
    assert page.inner_text("#reading") == reading, "the cross-hair stays"
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#cell-title').textContent.endsWith('features.0')")
    assert fields(page)["open"] == "0.1.layer_cam.features.0"
    assert focused(page) == "layer features.0"
    page.keyboard.press("[")
    until(page, "document.querySelector('#cell-title').textContent.includes(' cat ')")
    assert focused(page) == "layer features.0", "although the strip shows another class now"


def test_each_strip_is_one_stop_of_the_tab_key(open_report: Open, demo: Path) -> None:
    page = opened(open_report, demo, "0.1.layer_cam.features.9")
    page.focus('#cell [data-focus="copy-link"]')
    stops = []
    for _ in range(4):
        page.keyboard.press("Tab")
        stops.append(focused(page))
    assert stops == ["layer features.9", "method layer_cam", "class 1", "meanings"]


def test_another_map_of_the_image_leaves_what_is_there(open_report: Open, demo: Path) -> None:
    page = opened(open_report, demo, "0.1.layer_cam.features.9")
    page.evaluate("for (const one of document.querySelectorAll('#cell *')) one.known = true")
    page.click('#cell [data-focus="method grad_cam"]')
    until(page, "document.querySelector('#cell-title').textContent.includes('Grad-CAM')")
    for part in (
        "#probe",
        "#probe > img",
        "#reading",
        ".beside",
        '[data-focus="method hires_cam"]',
    ):
        assert page.eval_on_selector(f"#cell {part}", "one => one.known"), part
    assert page.locator("#probe canvas.heat").count() == 1
    assert page.inner_text("#cell .strips h3 >> nth=0") == "Layers · Grad-CAM"


def test_a_map_without_neighbours_has_no_strips(open_report: Open, tmp_path: Path) -> None:
    model = small_model(("only", "other"))
    camreport.run(
        INPUTS / "cat.jpg",
        tmp_path / "g",
        model=model,
        layers=["3"],
        methods="eigen_cam",
        classes="only",
    )
    page = opened(open_report, tmp_path / "g", "0.0.eigen_cam.features.3")
    assert page.locator("#cell .neighbour:visible").count() == 0


# What is found on it


def test_facts_come_in_a_calm_order_and_are_explained(open_report: Open, demo: Path) -> None:
    page = opened(open_report, demo, "0.1.layer_cam.features.12")
    names = list(facts_of(page))
    assert [name.split(" ")[0] for name in names] == [
        *("Class", "Area", "Largest", "Peak", "Largest", "Grid", "Scale")
    ]
    hints = page.eval_on_selector_all("#facts dt", "all => all.map(one => one.title)")
    page.click("[data-focus=meanings]")
    assert texts(page, ".meanings dt") == names
    assert texts(page, ".meanings dd") == hints
    assert all(hint.endswith(".") for hint in hints)
    page.click('#cell [data-focus="layer fused"]')
    until(page, "document.querySelector('#cell-title').textContent.endsWith('fused')")
    assert "Largest value, of at most 1" in facts_of(page)
    assert page.locator(".meanings dd:visible").count() == len(names), "it stays open"


def test_the_largest_region_has_the_one_solid_frame(open_report: Open, demo: Path) -> None:
    page = opened(open_report, demo, "0.0.layer_cam.features.3")
    frames = page.eval_on_selector_all(
        "#probe .mark.box",
        """all => all.map(one => [getComputedStyle(one).borderTopStyle,
            one.offsetWidth * one.offsetHeight])""",
    )
    assert len(frames) > 1
    assert [style for style, _ in frames].count("solid") == 1
    assert dict(map(reversed, frames))[max(size for _, size in frames)] == "solid"


# Its figure as a file


def expected_picture(report: Path, where: str, **look: float | str | bool) -> NDArray[np.uint8]:
    """Return the overlay that Python draws at the size of a saved picture."""
    image, rank, method, layer = where.split(".", 3)
    results = load_results(report)
    photo = rgb(results.photo(int(image)))
    factor = 640 * DENSITY / max(photo.size)
    size = (round(photo.width * factor), round(photo.height * factor))
    cam = results.arrays(int(image))[f"{method}/{layer}"][int(rank)]
    enlarged = np.asarray(photo.resize(size, Image.Resampling.BILINEAR))
    signed = METHODS[method].values == "signed"
    return overlay(enlarged, cam, signed=signed, **look)  # type: ignore[arg-type]


def differences(picture: NDArray[np.uint8], expected: NDArray[np.uint8]) -> NDArray[np.int64]:
    off: NDArray[np.int64] = np.abs(picture.astype(int) - expected.astype(int))
    return off


@pytest.mark.parametrize("where", ["2.1.grad_cam.features.12", "0.0.hires_cam.features.9"])
def test_a_saved_picture_is_the_python_overlay_with_its_colour_bar(
    open_report: Open, demo: Path, tmp_path: Path, where: str
) -> None:
    page = opened(open_report, demo, f"{where}&o=60&t=20&cm=viridis&lf=1")
    path = saved(page, "save", tmp_path)
    method = where.split(".")[2]
    pattern = rf"(both|dog)_class\d-(cat|dog)_{method}_features\.\d+_catdog-alexnet-inputs\.png"
    assert re.fullmatch(pattern, path.name)
    pixels = np.asarray(rgb(path))
    expected = expected_picture(
        demo, where, opacity=0.6, colormap="viridis", lift=True, threshold=0.2
    )
    edge = MARGIN * DENSITY
    height, width = expected.shape[:2]
    assert pixels.shape[1] == width + 2 * edge
    off = differences(pixels[edge : edge + height, edge : edge + width], expected)
    assert off.mean() < 1.5  # the browser enlarges the photograph a little differently
    assert np.quantile(off, 0.99) <= 12
    below = pixels[edge + height :]
    assert (below[:, 0] == 255).all()
    table = colour_table("diverging" if method == "hires_cam" else "viridis").astype(int)
    table = table[: 255 if method == "hires_cam" else 256]
    for colour in table[8::16]:
        assert np.abs(below.astype(int) - colour).sum(-1).min() <= 12


def test_a_drawing_is_valid_and_says_in_text_what_it_shows(
    open_report: Open, demo: Path, tmp_path: Path
) -> None:
    page = opened(open_report, demo, "0.1.grad_cam.features.12")
    root = ElementTree.parse(saved(page, "save-svg", tmp_path)).getroot()
    assert root.tag == f"{SVG}svg"
    said = [element.text or "" for element in root.iter(f"{SVG}text")]
    assert said[0] == "both.jpg · dog · Grad-CAM · features.12"
    assert root.findtext(f"{SVG}title") == said[0]
    assert said[1:3] == ["0", page.inner_text("#cell .bar-top")]
    assert said[-1] == "pool5 · 6 × 6; catdog-alexnet · inputs"
    kinds = [element.get("href", "").partition(";")[0] for element in root.iter(f"{SVG}image")]
    assert kinds == ["data:image/jpeg", "data:image/png"]
    stops = [element.get("stop-color") for element in root.iter(f"{SVG}stop")]
    first, last = colour_table()[[0, 255]].tolist()
    assert [stops[0], stops[-1]] == [f"rgb({','.join(map(str, one))})" for one in (first, last)]


def drawing_shown(open_report: Open, folder: Path, path: Path) -> Image.Image:
    """Return a drawing as the browser shows it, in the figure's own size."""
    (folder / "index.html").write_text(
        '<!doctype html><meta charset="utf-8"><body style="margin: 0">'
        + path.read_text("utf-8").partition("?>")[2],
        encoding="utf-8",
    )
    page = open_report(folder, width=800, height=900)
    settle(page)
    return rgb(page.screenshot())


@pytest.mark.parametrize("where", ["0.1.grad_cam.features.12", "1.0.hires_cam.features.9"])
def test_a_drawing_in_a_browser_is_the_python_overlay(
    open_report: Open, demo: Path, tmp_path: Path, where: str
) -> None:
    page = opened(open_report, demo, where)
    shown = drawing_shown(open_report, tmp_path, saved(page, "save-svg", tmp_path))
    expected = Image.fromarray(expected_picture(demo, where))
    size = (expected.width // DENSITY, expected.height // DENSITY)
    small = np.asarray(expected.resize(size, Image.Resampling.BOX))
    pixels = np.asarray(shown)[MARGIN : MARGIN + size[1], MARGIN : MARGIN + size[0]]
    assert differences(pixels, small).mean() < 3


@pytest.mark.parametrize(
    ("look", "holds"),
    [
        ("d=heat", lambda root: len(list(root.iter(f"{SVG}image"))) == 1),
        ("g=1", lambda root: root.find(f".//{SVG}feColorMatrix") is not None),
        ("d=photo&ct=1", lambda root: len(list(root.iter(f"{SVG}image"))) == 2),
    ],
)
def test_a_drawing_follows_the_look(
    open_report: Open,
    demo: Path,
    tmp_path: Path,
    look: str,
    holds: Callable[[ElementTree.Element], bool],
) -> None:
    page = opened(open_report, demo, f"0.1.grad_cam.features.12&{look}")
    assert holds(ElementTree.parse(saved(page, "save-svg", tmp_path)).getroot())


def test_a_figure_of_gradients_holds_their_picture_and_no_bar(
    open_report: Open, everything: Path, tmp_path: Path
) -> None:
    page = opened(open_report, everything, "0.1.guided_backprop.input")
    root = ElementTree.parse(saved(page, "save-svg", tmp_path)).getroot()
    assert len(list(root.iter(f"{SVG}image"))) == 2
    assert not list(root.iter(f"{SVG}linearGradient"))
    assert "a picture of gradients: grey is zero" in [e.text for e in root.iter(f"{SVG}text")]
    pixels = np.asarray(rgb(saved(page, "save", tmp_path))).astype(int)
    middle = pixels[2 * MARGIN : -400, 2 * MARGIN : -2 * MARGIN]
    assert np.abs(np.median(middle, axis=(0, 1)) - 128).max() < 16


@pytest.mark.parametrize("name", ["a&b <c>", "你好 “世界”", "\x01control\x1f"])
def test_any_name_gives_a_valid_drawing(open_report: Open, tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / f"{name}.jpg").write_bytes((INPUTS / "cat.jpg").read_bytes())
    model = small_model((name, "other"))
    camreport.run(tmp_path / "in", tmp_path / "g", model=model, layers=["3"], classes="0")
    page = opened(open_report, tmp_path / "g", "0.0.grad_cam.features.3")
    path = saved(page, "save-svg", tmp_path)
    assert re.fullmatch(r"[A-Za-z0-9._-]+\.svg", path.name)
    title = ElementTree.parse(path).getroot().findtext(f"{SVG}title")
    said = re.sub(r"[\x00-\x1f]", "\ufffd", name)
    assert title == f"{said}.jpg · {said} · Grad-CAM · features.3"


# Its link


def test_a_link_is_copied_and_said(open_report: Open, demo: Path) -> None:
    page = opened(open_report, demo, "0.1.grad_cam.features.12")
    page.evaluate(CLIPBOARD, True)
    page.click('#cell [data-focus="copy-link"]')
    until(
        page, "document.querySelector('#announcer').textContent", "The link to this map is copied."
    )
    assert page.evaluate("window.copied === location.href")
    assert page.locator(".link-field:visible").count() == 0


def test_a_link_that_cannot_be_copied_is_offered_selected(open_report: Open, demo: Path) -> None:
    page = opened(open_report, demo, "0.1.grad_cam.features.12")
    page.evaluate(CLIPBOARD, False)
    page.click('#cell [data-focus="copy-link"]')
    page.wait_for_selector(".link-field:visible")
    assert "The link is selected" in page.inner_text("#announcer")
    assert page.evaluate("getSelection().toString() || document.activeElement.value") == page.url
    assert focused(page) == "link"
    selected = "[document.activeElement.selectionStart, document.activeElement.selectionEnd]"
    assert page.evaluate(selected) == [0, len(page.url)]
    assert axe(page) == []


# Its place in the window


def test_the_picture_takes_the_height_that_the_window_has(open_report: Open, demo: Path) -> None:
    page = opened(open_report, demo, "0.1.grad_cam.features.12", width=1440, height=900)
    box = page.locator("#probe").bounding_box()
    assert box is not None
    assert min(box["width"], box["height"]) > 740
    whole = page.locator("#cell").bounding_box()
    assert whole is not None
    assert whole["y"] + whole["height"] <= 900


def test_on_a_narrow_screen_the_map_fills_it_with_the_picture_first(
    open_report: Open, demo: Path
) -> None:
    page = opened(open_report, demo, "0.1.grad_cam.features.12", width=390, height=844)
    whole = page.locator("#cell").bounding_box()
    assert whole == {"x": 0, "y": 0, "width": 390, "height": 844}
    box = page.locator("#probe").bounding_box()
    assert box is not None
    assert box["y"] <= 130
    assert box["width"] >= 350
    assert page.eval_on_selector("#cell", "one => one.scrollWidth <= one.clientWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_with_everything_unfolded(
    open_report: Open, everything: Path, scheme: str
) -> None:
    page = opened(open_report, everything, "0.1.grad_cam.features.12", color_scheme=scheme)
    page.click("[data-focus=meanings]")
    show(page, "#v=matrix&open=0.1.grad_cam.features.12&lang=zh")
    page.wait_for_selector("html[lang=zh-Hans]")
    assert axe(page) == []
