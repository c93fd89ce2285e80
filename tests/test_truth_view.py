"""The true class in the page: its mark, its place among the classes, and the pair view."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import browser
from helpers.browser import Open, axe, draw, pixels_of, until
from helpers.checkout import INPUTS
from helpers.drawn_maps import size_of
from helpers.page_steps import fields, go, texts
from helpers.pictures import heat_pixels
from helpers.small import small_model
from numpy.typing import NDArray
from playwright.sync_api import Page

import camreport
from camreport.report.gallery import render_gallery
from camreport.report.heatmap import QuantisedCam, quantise
from camreport.results.reader import Results, load_results

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not browser.required() and browser.chromium() is None, reason="no Chromium here"
    ),
]

NAMES = (
    "cat",
    "</script><img src=x onerror=alert(1)>",
    "{name} & {second}",
    "fox",
    "wolf\u202egnp.exe",
    "bear 猫",
)

LABELS = {"both.jpg": NAMES[0], "cat.jpg": NAMES[4]}
"""The first is right, the second wrong and not among the top three, the third has no label."""

METHODS = "grad_cam,layer_cam,eigen_cam,guided_backprop,gradient_x_activation"
LAYER = "features.3"
RIGHT, WRONG, UNKNOWN = 0, 1, 2
TRUE, CONTRAST = -2, -3


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on the demo photographs by a model of six classes with hostile names."""
    out = tmp_path_factory.mktemp("truth") / "report"
    model = small_model(NAMES)
    camreport.run(
        INPUTS,
        out,
        model=model,
        layers=["features.0", LAYER],
        methods=METHODS,
        labels=LABELS,
        channels=[LAYER],
    )
    results = load_results(out)
    assert [image.top[0].index for image in results.images] == [0, 0, 0]
    assert results.targets(WRONG) == (0, 5, 1, 4)
    return out


def cell(image: int, rank: int, method: str, layer: str = LAYER) -> str:
    """Return the selector of a map in the pair view."""
    return f'.truth .cell[data-id="{image}.{rank}.{method}.{layer}"]'


def drawn(page: Page, selector: str) -> NDArray[np.uint8]:
    """Bring a map into view and return its pixels."""
    draw(page, f"{selector} .frame")
    return pixels_of(page, f"{selector} canvas.heat")


def raw(results: Results, image: int, method: str, layer: str = LAYER) -> list[NDArray[np.float32]]:
    """Return an image's raw maps, class by class."""
    return [
        record.cam
        for record in results.maps(image)
        if (record.method.key, record.layer) == (method, layer)
    ]


def of_fractions(one: NDArray[np.float32], other: NDArray[np.float32]) -> QuantisedCam:
    """Return one map minus the other, each first in 8 bits of its own maximum."""
    a, b = (quantise(cam).levels / 255 for cam in (one, other))
    levels = np.floor((a - b) * 127 + 127 + 0.5).astype(np.uint8)
    return QuantisedCam(levels, 1.0, "positive", signed=True)


@pytest.mark.parametrize("layer", ["features.0", LAYER])
def test_a_wrong_image_shows_predicted_contrast_and_true(
    open_report: Open, report: Path, layer: str
) -> None:
    page, results = open_report(report, link=f"#i={WRONG}"), load_results(report)
    if layer != LAYER:
        page.click(".other-layers > summary")
    height, width = size_of(results, WRONG, 224)
    cams = raw(results, WRONG, "grad_cam", layer)
    expected = {0: quantise(cams[0]), 3: quantise(cams[3])}
    expected[CONTRAST] = quantise(cams[0] - cams[3], signed=True)
    for rank, cam in expected.items():
        assert cam.state == "positive"
        pixels = drawn(page, cell(WRONG, rank, "grad_cam", layer))
        np.testing.assert_array_equal(pixels, heat_pixels(cam, height, width))


def test_of_other_methods_the_drawn_maps_are_subtracted_and_the_page_says_so(
    open_report: Open, report: Path
) -> None:
    page, results = open_report(report, link=f"#i={WRONG}"), load_results(report)
    assert "the method’s map of the difference of the two scores" in page.inner_text(".truth")
    page.select_option("[data-focus=truth-method]", "layer_cam")
    page.wait_for_selector(cell(WRONG, CONTRAST, "layer_cam"))
    assert "it is not the map of a score" in page.inner_text(".truth")
    cams = raw(results, WRONG, "layer_cam")
    height, width = size_of(results, WRONG, 224)
    wanted = heat_pixels(of_fractions(cams[0], cams[3]), height, width)
    pixels = drawn(page, cell(WRONG, CONTRAST, "layer_cam"))
    np.testing.assert_array_equal(pixels, wanted)


def test_only_methods_with_one_map_per_class_are_offered(open_report: Open, report: Path) -> None:
    page = open_report(report, link=f"#i={WRONG}&m=eigen_cam")
    page.wait_for_selector(".truth")
    assert texts(page, "[data-focus=truth-method] option") == ["Grad-CAM", "LayerCAM"]


def test_a_right_image_is_compared_with_the_strongest_other_on_demand(
    open_report: Open, report: Path
) -> None:
    page, results = open_report(report, link=f"#i={RIGHT}"), load_results(report)
    assert page.locator(".truth[open]").count() == 0
    page.click(".truth > summary")
    chances = results.probabilities(RIGHT)
    targets = results.targets(RIGHT)
    other = max(range(1, 3), key=lambda slot: chances[targets[slot]])
    cams = raw(results, RIGHT, "grad_cam")
    height, width = size_of(results, RIGHT, 224)
    wanted = heat_pixels(of_fractions(cams[0], cams[other]), height, width)
    pixels = drawn(page, cell(RIGHT, CONTRAST, "grad_cam"))
    np.testing.assert_array_equal(pixels, wanted)
    assert page.locator(cell(RIGHT, other, "grad_cam")).count() == 1


def plain(text: str) -> str:
    """Return a text without the marks that keep names apart."""
    return text.replace("\u2068", "").replace("\u2069", "")


def test_hostile_names_show_as_text_and_stay_apart(open_report: Open, report: Path) -> None:
    page = open_report(report, link=f"#i={WRONG}")
    page.wait_for_selector(".truth")
    title = page.text_content(".truth h3") or ""
    assert plain(title) == f"Predicted cat, true class {NAMES[4]}"
    assert f"\u2068{NAMES[4]}\u2069" in title
    words = [plain(text) for text in texts(page, ".truth-first .third > p")]
    assert words[1] == f"contrast cat − {NAMES[4]}"
    assert words[2].startswith(NAMES[4])
    assert words[2].endswith("· true")
    go(page, f"#v=matrix&i={RIGHT}&lang=zh", "matrix")
    until(page, "document.querySelector('.truth h3').textContent.includes('与概率第二高的类别')")
    assert page.locator("#view img[src=x]").count() == 0


@pytest.mark.parametrize("layout", ["single", "folder"])
def test_the_true_class_of_every_image_can_be_shown(
    open_report: Open, report: Path, tmp_path: Path, layout: str
) -> None:
    out = tmp_path / "out"
    shutil.copytree(report / "results", out / "results")
    render_gallery(out, layout=layout)  # type: ignore[arg-type]
    page = open_report(out, link="#v=overview")
    page.select_option("[data-focus=choose-class]", str(TRUE))
    until(page, "new URLSearchParams(location.hash.slice(1)).get('k')", str(TRUE))
    wanted = [f"0.0.grad_cam.{LAYER}", f"1.3.grad_cam.{LAYER}", f"2.0.grad_cam.{LAYER}"]
    until(page, "[...document.querySelectorAll('.tile .cell')].map(c => c.dataset.id)", wanted)
    results = load_results(out)
    selector = f'.tile .cell[data-id="{wanted[1]}"]'
    height, width = size_of(results, WRONG, 160)
    cam = quantise(raw(results, WRONG, "grad_cam")[3])
    pixels = drawn(page, selector)
    np.testing.assert_array_equal(pixels, heat_pixels(cam, height, width))


def test_the_class_axis_of_an_image_ends_with_its_true_class(
    open_report: Open, report: Path
) -> None:
    page = open_report(report, link=f"#i={WRONG}&r=class&c=method&l={LAYER}")
    page.wait_for_selector(".matrix")
    heads = texts(page, ".matrix tbody th .head")
    assert [plain(text) for text in heads] == ["cat", NAMES[5], NAMES[1], f"{NAMES[4]} · true"]
    ids = page.eval_on_selector_all(".matrix .cell", "all => all.map(c => c.dataset.id)")
    assert f"{WRONG}.3.grad_cam.{LAYER}" in ids
    go(page, f"#v=matrix&i={RIGHT}&r=class&c=method&l={LAYER}", "matrix")
    until(page, "document.querySelectorAll('.matrix tbody th .head').length", 3)
    assert plain(texts(page, ".matrix tbody th .head")[0]) == "cat · true"


def test_across_images_the_true_class_has_a_place_of_its_own(
    open_report: Open, report: Path
) -> None:
    page = open_report(report, link=f"#r=image&c=class&m=grad_cam&l={LAYER}")
    page.wait_for_selector(".matrix")
    assert texts(page, ".matrix thead th .head")[-1] == "true class"
    last = page.eval_on_selector_all(
        ".matrix tbody tr",
        "rows => rows.map(r => [...r.querySelectorAll('.cell')].pop().dataset.id)",
    )
    assert [int(name.split(".")[1]) for name in last] == [0, 3, 0]


def test_a_contrast_opens_and_says_what_it_is(open_report: Open, report: Path) -> None:
    page = open_report(report, link=f"#i={WRONG}")
    page.click(cell(WRONG, CONTRAST, "grad_cam"))
    page.wait_for_selector("#cell[open]")
    assert fields(page)["open"] == f"{WRONG}.{CONTRAST}.grad_cam.{LAYER}"
    assert f"cat − {NAMES[4]}" in plain(page.text_content("#cell-title") or "")
    page.keyboard.press("Escape")
    until(page, "document.activeElement.dataset.id", f"{WRONG}.{CONTRAST}.grad_cam.{LAYER}")


def test_the_class_switch_marks_the_true_class_and_has_the_contrast(
    open_report: Open, report: Path
) -> None:
    page = open_report(report, link=f"#i={WRONG}")
    page.wait_for_selector("[data-focus='class all']")
    chances = load_results(report).probabilities(WRONG)
    entry = page.text_content(f"[data-focus='class {TRUE}']") or ""
    assert plain(entry) == f"{NAMES[4]} {chances[4]:.2f} · true"
    page.click(f"[data-focus='class {CONTRAST}']")
    selector = f'.matrix .cell[data-id="{WRONG}.{CONTRAST}.grad_cam.{LAYER}"]'
    page.wait_for_selector(selector)
    assert "orange is higher for the predicted class" in page.inner_text("#view")
    assert page.get_attribute(f"[data-focus='class {CONTRAST}']", "aria-pressed") == "true"
    go(page, f"#v=matrix&i={UNKNOWN}&k={CONTRAST}", "matrix")
    page.wait_for_selector(f'.matrix .cell[data-id="{UNKNOWN}.{CONTRAST}.grad_cam.{LAYER}"]')
    page.click("#nav [data-focus='view overview']")
    page.wait_for_selector(f'.tile .cell[data-id="{UNKNOWN}.0.grad_cam.{LAYER}"]')


def test_the_pair_comes_before_the_table_of_a_wrong_image_alone(
    open_report: Open, report: Path
) -> None:
    page = open_report(report, link=f"#i={WRONG}")
    page.wait_for_selector(".truth")
    follows = (
        "document.querySelector('.truth')"
        ".compareDocumentPosition(document.querySelector('.matrix'))"
    )
    assert page.evaluate(follows) == 4
    page.evaluate(f"location.hash = 'v=matrix&i={RIGHT}'")
    until(page, "document.querySelector('.truth h3').textContent.includes('strongest other')")
    assert page.evaluate(follows) == 2
    page.go_back()
    until(page, follows, 4)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pair_view_has_no_barrier(open_report: Open, report: Path, scheme: str) -> None:
    page = open_report(report, link=f"#i={WRONG}", color_scheme=scheme)
    page.click(".other-layers > summary")
    drawn(page, cell(WRONG, CONTRAST, "grad_cam"))
    assert axe(page) == []
    assert page.locator(".truth .cell[tabindex='0']").count() == 1


def test_nothing_of_it_shows_without_a_second_class(open_report: Open, tmp_path: Path) -> None:
    model = small_model(NAMES)
    camreport.run(
        INPUTS, tmp_path / "g", model=model, layers=[LAYER], classes=[0], methods="grad_cam"
    )
    page = open_report(tmp_path / "g")
    page.wait_for_selector(".matrix")
    assert page.locator(".truth").count() == 0
    assert page.locator(f"option[value='{TRUE}']").count() == 0
