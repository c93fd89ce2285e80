"""What lets a reader doubt maps: controls beside them, the scrambled network, known regions."""

import re
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import pytest
from helpers import browser, synthetic
from helpers.browser import axe, draw, pixels_of, settle, until
from helpers.page_steps import fields, go, texts, unfold
from helpers.synthetic_evidence import write_evidence
from numpy.typing import NDArray
from PIL import Image

from camreport.report.gallery import render_gallery
from camreport.results.reader import load_results

if TYPE_CHECKING:
    from helpers.browser import Open
    from playwright.sync_api import Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not browser.required() and browser.chromium() is None, reason="no Chromium here"
    ),
]

COUNT = 6
CELLS = synthetic.SMALL["b"]
RAW = "&d=heat&rc=1"
"""Maps alone, in raw cells."""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on 6 images, 3 of them in the sample, with scrambled maps and regions."""
    folder = tmp_path_factory.mktemp("scrambled") / "g"
    synthetic.write_results(folder, COUNT, grids=synthetic.SMALL, photo_side=96)
    write_evidence(folder, level="basic", sample=3, regions=True)
    render_gallery(folder)
    return folder


@pytest.fixture(scope="module")
def inside(out: Path) -> int:
    """An image of the sample."""
    entry = load_results(out).manifest.evidence
    assert entry is not None
    return entry.sample[0]


@pytest.fixture(scope="module")
def outside(out: Path) -> int:
    """An image that is not in the sample."""
    entry = load_results(out).manifest.evidence
    assert entry is not None
    return next(index for index in range(COUNT) if index not in entry.sample)


def matrix(open_report: "Open", out: Path, image: int, link: str = "", **options: object) -> "Page":
    page = open_report(out, link=f"#v=matrix&i={image}{link}", **options)
    page.wait_for_selector(".view-matrix .cell")
    settle(page)
    return page


def cells_of(page: "Page", map_: str) -> NDArray[np.uint8]:
    """Return the colours ``(h, w, 4)`` of a map's raw cells."""
    own = f"#view .panels .cell[data-id='{map_}'] .frame"
    draw(page, own)
    pixels = pixels_of(page, f"{own} canvas.heat")
    height, width = pixels.shape[:2]
    places = [(np.arange(CELLS) + 0.5) * side / CELLS for side in (height, width)]
    return pixels[np.ix_(*(place.astype(int) for place in places))]


# The scrambled network


def test_the_scrambled_network_draws_the_same_table_from_its_own_maps(
    open_report: "Open", out: Path, inside: int
) -> None:
    page = matrix(open_report, out, inside, RAW)
    map_ = f"{inside}.0.layer_cam.b"
    trained = cells_of(page, map_)
    names = texts(page, "#view .head")
    page.click("[data-focus='open methods']")
    page.check("[data-focus=network]")
    page.wait_for_selector(".scrambled")
    assert "Drawn from permuted weights (seed 0)" in page.inner_text(".scrambled")
    assert fields(page)["nw"] == "scrambled"
    assert texts(page, "#view .head") == names
    scrambled = cells_of(page, map_)
    assert np.array_equal(scrambled, np.roll(trained, (1, 1), (0, 1))), "as the results hold it"
    label = page.get_attribute(f"#view .panels .cell[data-id='{map_}']", "aria-label") or ""
    assert "permuted weights" in label
    page.click("[data-focus=trained]")
    until(page, "!document.querySelector('.scrambled')")
    assert np.array_equal(cells_of(page, map_), trained)
    page.go_back()
    page.wait_for_selector(".scrambled")


def test_images_outside_the_sample_say_so_and_other_views_stay_trained(
    open_report: "Open", out: Path, outside: int
) -> None:
    page = matrix(open_report, out, outside, "&nw=scrambled&cs=1")
    until(page, "document.querySelectorAll('#view .panels .absent .label').length > 8")
    assert {*texts(page, "#view .panels .absent .label")} == {"outside the sample"}
    go(page, f"v=overview&i={outside}&nw=scrambled", "overview")
    page.wait_for_selector("#view .frame.positive")
    assert page.locator("#view .absent").count() == 0
    label = page.get_attribute("#view .tile .cell", "aria-label") or ""
    assert "permuted" not in label


def test_a_scrambled_map_says_so_in_its_dialog_and_its_file(
    open_report: "Open", out: Path, inside: int
) -> None:
    page = matrix(open_report, out, inside, f"&nw=scrambled&open={inside}.1.layer_cam.b")
    page.wait_for_selector("#probe[data-drawn]")
    assert page.inner_text("#cell-title").endswith("permuted weights")
    assert not page.is_visible(".measured"), "the numbers are those of the trained network's map"
    with page.expect_download() as coming:
        page.click("#cell [data-focus=save-svg]")
    assert "_scrambled_" in coming.value.suggested_filename
    page.keyboard.press("Escape")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert "permuted" not in page.inner_html("#paper"), "on paper stand the run's own maps"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_in_the_table_of_the_scrambled_network(
    open_report: "Open", out: Path, inside: int, theme: str
) -> None:
    page = matrix(open_report, out, inside, f"&nw=scrambled&cs=1&bx=1&th={theme}")
    page.click("[data-focus='open methods']")
    assert axe(page) == []


# Controls


def test_controls_stand_beside_the_methods_on_demand(
    open_report: "Open", out: Path, inside: int
) -> None:
    page = matrix(open_report, out, inside, RAW)
    assert page.locator("#view [data-id*='control:']").count() == 0
    page.click("[data-focus='open methods']")
    page.check("[data-focus=controls]")
    until(page, "document.querySelectorAll('.control-head').length >= 3")
    assert fields(page)["cs"] == "1"
    names = [
        "Control: random map",
        "Control: blob in the centre",
        "Control: edges of the photograph",
    ]
    assert texts(page, ".control-head")[:3] == names
    middle = cells_of(page, f"{inside}.1.control:gaussian.b")
    assert np.array_equal(middle, middle[::-1])
    assert np.array_equal(middle, middle[:, ::-1])
    assert not np.array_equal(middle, cells_of(page, f"{inside}.1.control:random.b"))
    page.uncheck("[data-focus=controls]")
    until(page, "document.querySelectorAll('.control-head').length === 0")


def test_a_control_opens_in_the_dialog_and_lies_in_its_strip(
    open_report: "Open", out: Path, inside: int
) -> None:
    page = matrix(open_report, out, inside, f"&cs=1&open={inside}.1.control:edges.b")
    page.wait_for_selector("#probe[data-drawn]")
    assert "Control: edges of the photograph" in page.inner_text("#cell-title")
    strip = page.locator("#cell .strips section").nth(1).locator(".neighbour .name")
    assert strip.all_inner_texts()[-1] == "Control: edges of the photograph"
    assert "Class contrast" in texts(page, ".measured dt strong")


# Regions


def boxes_of(out: Path, image: int) -> NDArray[np.float64]:
    """Return an image's regions as the results hold them: left, top, right and bottom."""
    with np.load(out / "results/evidence-000000.npz") as arrays:
        boxes = arrays["regions.boxes"]
    own: NDArray[np.float64] = boxes[boxes[:, 0] == image][:, 1:].astype(np.float64)
    return own


DRAWN = """frame => {
    const all = frame.getBoundingClientRect();
    return [...frame.querySelectorAll(".region")].map(one => {
        const {left, top, right, bottom} = one.getBoundingClientRect();
        return [(left - all.left) / all.width, (top - all.top) / all.height,
                (right - all.left) / all.width, (bottom - all.top) / all.height];
    });
}"""


@pytest.mark.parametrize("view", ["matrix", "overview"])
def test_boxes_lie_where_the_regions_are(open_report: "Open", out: Path, view: str) -> None:
    page = open_report(out, link=f"#v={view}&i=0")
    frame = "#view .cell[data-id^='0.'] .frame"
    draw(page, frame)
    assert page.locator(".region").count() == 0
    unfold(page, "appearance")
    page.check("#appearance [data-focus=boxes]")
    page.wait_for_selector(f"{frame} .region")
    assert fields(page)["bx"] == "1"
    drawn = np.array(page.eval_on_selector(frame, DRAWN))
    assert np.abs(drawn - boxes_of(out, 0)).max() < 0.005
    page.uncheck("#appearance [data-focus=boxes]")
    drawn_there = f"document.querySelector(\"{frame}\").querySelectorAll('.region').length"
    until(page, drawn_there, 0)


def test_saved_figures_carry_the_boxes(
    open_report: "Open", out: Path, inside: int, tmp_path: Path
) -> None:
    page = matrix(open_report, out, inside, f"&bx=1&open={inside}.0.layer_cam.b")
    page.wait_for_selector("#probe .region")
    classes = texts(page, "#facts dt")
    assert "Objects" in classes
    files = {}
    for button, ending in (("save", "png"), ("save-svg", "svg")):
        with page.expect_download() as coming:
            page.click(f"#cell [data-focus={button}]")
        files[ending] = tmp_path / f"figure.{ending}"
        coming.value.save_as(files[ending])
    root = ElementTree.parse(files["svg"]).getroot()
    namespace = "{http://www.w3.org/2000/svg}"
    ground = root.findall(f"{namespace}rect")[1]
    x, y, width, height = (float(ground.get(key, "")) for key in ("x", "y", "width", "height"))
    drawn = [
        [
            (float(rect.get("x", "")) - x) / width,
            (float(rect.get("y", "")) - y) / height,
            (float(rect.get("x", "")) + float(rect.get("width", "")) - x) / width,
            (float(rect.get("y", "")) + float(rect.get("height", "")) - y) / height,
        ]
        for rect in root.findall(f"{namespace}rect")
        if re.match("hsl|#fff", rect.get("stroke", ""))
    ]
    wanted = boxes_of(out, inside)
    assert np.abs(np.array(drawn) - wanted).max() < 1e-3
    assert "Boxes: where objects are known to be" in " ".join(root.itertext())
    left, top, right, _ = wanted[0]
    picture = np.asarray(Image.open(files["png"]).convert("RGB")).astype(int)
    row = picture[round(2 * (y + top * height)), round(2 * (x + (left + right) / 2 * width))]
    plain = page.evaluate("getComputedStyle(document.querySelector('#probe .region')).color")
    colour = [int(part) for part in re.findall(r"\d+", plain)[:3]]
    assert np.abs(row - colour).max() < 40, "the outline has the class's colour"


def test_reports_without_regions_offer_no_boxes(
    open_report: "Open", tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("plain") / "g"
    synthetic.write_results(folder, 2, grids=synthetic.SMALL, photo_side=96)
    render_gallery(folder)
    page = open_report(folder, link="#v=matrix&nw=scrambled&cs=1")
    page.wait_for_selector(".view-matrix .cell")
    assert page.locator("[data-focus=boxes], [data-focus=network], .scrambled").count() == 0
