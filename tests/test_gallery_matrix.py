"""The matrix: layers as a film strip, methods and classes down, and what is said in its places."""

from pathlib import Path

import numpy as np
import pytest
from helpers import browser
from helpers.browser import Open, settle, until
from helpers.checkout import INPUTS
from helpers.page_steps import fields, focused, texts
from helpers.report_cells import cell, ready, show
from playwright.sync_api import Page

import camreport
from camreport.methods import METHODS
from camreport.metrics.grids import resampled
from camreport.results.reader import load_results

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not browser.required() and browser.chromium() is None, reason="no Chromium here"
    ),
]

NAMES = [
    *("conv1 · 55 × 55", "conv2 · 27 × 27", "conv3 · 13 × 13", "relu4 · 13 × 13", "pool5 · 6 × 6"),
    "fused",
]

FAMILIES = {"gradient": "Gradients", "activation": "Activations alone"} | {
    "perturbation": "Changed inputs",
    "network": "Whole network",
}


def ids(page: Page) -> list[str]:
    """Return which maps are shown, in order."""
    found: list[str] = page.eval_on_selector_all(
        "#view .panels .cell", "all => all.map(e => e.dataset.id)"
    )
    return found


def top_of(page: Page, selector: str) -> float:
    top: float = page.eval_on_selector(selector, "e => e.getBoundingClientRect().top")
    return top


def test_layers_run_from_left_to_right_under_names_that_a_reader_knows(
    open_report: Open, demo: Path
) -> None:
    page = ready(open_report(demo, link="#v=matrix"))
    assert texts(page, "#view thead .head") == NAMES
    addresses = [layer.address for layer in load_results(demo).manifest.layers]
    assert texts(page, "#view thead code") == addresses
    assert texts(page, "#view .row-group .head") == ["dog", "cat"], "the prediction comes first"
    first = page.locator("#view .maps").first.locator(".cell")
    shown = [one.get_attribute("data-id") for one in first.all()]
    assert shown == [f"0.1.grad_cam.{address}" for address in addresses]


@pytest.mark.parametrize(
    ("width", "height", "most"), [(1440, 900, 200), (390, 844, 300), (720, 450, 450)]
)
def test_the_first_map_lies_high_on_the_page(
    open_report: Open, demo: Path, width: int, height: int, most: int
) -> None:
    page = ready(open_report(demo, link="#v=matrix", width=width, height=height))
    settle(page)
    assert top_of(page, "#view .panels .frame") <= most
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_narrow_screen_shows_two_columns_of_maps_under_their_layers(
    open_report: Open, demo: Path
) -> None:
    page = ready(open_report(demo, link="#v=matrix", width=390, height=844))
    settle(page)
    lefts = page.eval_on_selector_all(
        "#view .panels .frame", "all => all.map(e => Math.round(e.getBoundingClientRect().left))"
    )
    assert len(set(lefts)) == 2
    said = page.eval_on_selector_all(
        "#view .maps td",
        "all => all.map(e => [e.dataset.at, getComputedStyle(e, '::after').display])",
    )
    assert [name for name, _ in said[:6]] == NAMES
    assert {shown for _, shown in said} == {"block"}


def test_the_class_switch_shows_the_prediction_first_and_one_class_or_both(
    open_report: Open, demo: Path
) -> None:
    page = ready(open_report(demo, link="#v=matrix"))
    switch = "#view .class-switch button"
    said = [text.strip("\u2068").replace("\u2069", "") for text in texts(page, switch)]
    assert said == ["dog 0.91", "cat 0.09", "Contrast", "both"]
    assert texts(page, f"{switch}[aria-pressed=true]") == ["both"]
    page.click("[data-focus='class 0']")
    until(page, "document.querySelectorAll('#view .row-group').length", 0)
    assert {name[:3] for name in ids(page)} == {"0.0"}
    assert focused(page) == "class 0"
    page.click("[data-focus='class all']")
    until(page, "document.querySelectorAll('#view .row-group').length", 2)
    assert {name[:3] for name in ids(page)} == {"0.0", "0.1"}


def test_many_methods_are_grouped_and_chosen_by_chips(open_report: Open, everything: Path) -> None:
    page = ready(open_report(everything, link="#v=matrix"))
    report = load_results(everything)
    heads = "#view tbody:last-child .maps th .head"
    assert page.inner_text("[data-focus='open methods']").startswith("Methods 8/15")
    assert len(texts(page, heads)) == 8
    page.click("[data-focus='open methods']")
    page.click("[data-focus=all-methods]")
    until(page, f"document.querySelectorAll({heads!r}).length", 15)
    assert texts(page, "#view .family th") == [*FAMILIES.values()]
    shown = [key for key in report.manifest.methods if key not in ("cam", "finer_cam")]
    shown.remove("grad_cam_elementwise")
    order = [*FAMILIES]
    shown.sort(key=lambda key: order.index(METHODS[key].family))
    assert texts(page, heads) == [METHODS[key].name for key in shown]
    page.click("[data-focus='chip grad_cam']")
    until(page, f"document.querySelectorAll({heads!r}).length", 14)
    assert "grad_cam" not in fields(page)["ms"].split("~")
    assert page.get_attribute("[data-focus='chip grad_cam']", "aria-pressed") == "false"


def test_a_map_of_the_whole_network_spans_all_layers(open_report: Open, everything: Path) -> None:
    page = ready(open_report(everything, link="#v=matrix&k=0&ms=grad_cam~full_grad"))
    spans = page.eval_on_selector_all("#view td.whole", "all => all.map(e => e.colSpan)")
    assert spans == [2]
    assert ids(page)[-1] == "0.0.full_grad.input"
    show(page, "#v=matrix&k=0&ms=grad_cam~full_grad&r=layer&c=method")
    spans = page.eval_on_selector_all("#view td.whole", "all => all.map(e => e.rowSpan)")
    assert spans == [2]
    assert sum("full_grad" in name for name in ids(page)) == 1
    show(page, "#v=matrix&k=0&ms=full_grad")
    assert texts(page, "#view thead .head") == ["whole network"]


def test_a_place_without_a_map_says_why_in_a_word(open_report: Open, tmp_path: Path) -> None:
    camreport.run(
        INPUTS / "dog.jpg",
        tmp_path / "g",
        layers=["0", "10:pre", "12"],
        methods="grad_cam,grad_cam_plus_plus,layer_cam",
    )
    page = ready(open_report(tmp_path / "g", link="#v=matrix&k=0"))
    said = page.eval_on_selector_all(
        "#view td.nothing", "all => all.map(e => [e.innerText.trim(), e.title])"
    )
    assert ["–", "Only LayerCAM’s maps of all layers are fused into one."] in said
    words = {word: reason for word, reason in said if word != "–"}
    assert words.keys() == {"needs A ≥ 0"}
    assert "is read in front of the activation" in words["needs A ≥ 0"]
    below = texts(page, "#view .reasons td")
    assert any(words["needs A ≥ 0"] in line for line in below)


def test_numbers_below_the_maps_come_on_demand(open_report: Open, demo: Path) -> None:
    page = ready(open_report(demo, link="#v=matrix"))
    assert page.locator("#view .measures").count() == 0
    page.focus("#view .panels .cell[tabindex='0']")
    page.keyboard.press("v")
    until(page, "document.querySelectorAll('#view .measures').length > 0", True)
    assert fields(page)["nu"] == "1"
    for layer in ("features.3", "features.12"):
        cam = load_results(demo).arrays(0)[f"grad_cam/{layer}"][1]
        where = f".cell[data-id='0.1.grad_cam.{layer}']"
        area, largest = texts(page, f"#view {where} + .measures > span")
        assert largest == f"max {float(f'{cam.max():.3g}'):g}"
        assert int(area.strip("<% ")) / 100 == pytest.approx(share_above_half(cam), abs=0.011)
    page.keyboard.press("v")
    until(page, "document.querySelectorAll('#view .measures').length", 0)


def share_above_half(cam: np.ndarray) -> float:
    """Return the share of a fine grid where a map, interpolated, is at least half its maximum."""
    positions = [np.clip((np.arange(n * 40) + 0.5) / 40 - 0.5, 0, n - 1) for n in cam.shape]
    across = np.array([np.interp(positions[1], np.arange(cam.shape[1]), line) for line in cam])
    fine = np.array([np.interp(positions[0], np.arange(cam.shape[0]), line) for line in across.T])
    return float((fine >= cam.max() / 2).mean())


def test_another_image_takes_the_places_of_the_table(open_report: Open, demo: Path) -> None:
    page = ready(open_report(demo, link="#v=matrix"))
    page.evaluate("document.querySelectorAll('#view table, #view td').forEach(e => e.known = 1)")
    page.focus("#view .panels .cell[tabindex='0']")
    page.keyboard.press("ArrowRight")
    page.evaluate("location.hash += '&i=2'")
    until(page, "document.querySelector('#view .cell').dataset.id[0]", "2")
    assert {name[0] for name in ids(page)} == {"2"}
    assert page.evaluate(
        "[...document.querySelectorAll('#view table, #view td')].every(e => e.known)"
    )
    assert focused(page) == "cell 2.1.grad_cam.features.3"
    assert page.inner_text("#view .image-line h2") == "dog.jpg"
    assert page.locator("#view .panels .cell[tabindex='0']").count() == 1


def test_methods_can_be_sorted_by_agreement_with_the_selected_one(
    open_report: Open, everything: Path
) -> None:
    page = ready(open_report(everything, link="#v=matrix&k=0&mo=agreement&m=layer_cam"))
    arrays = load_results(everything).arrays(0)
    layers = ("features.9", "features.12")
    said = dict(
        page.eval_on_selector_all(
            "#view .maps th",
            """all => all.map(e => [e.querySelector('.head').textContent,
                [...e.children].at(-1).textContent])""",
        )
    )
    assert texts(page, "#view .maps th .head")[0] == "LayerCAM"
    for key in ("grad_cam", "hires_cam", "xgrad_cam"):
        signed = METHODS[key].values == "signed"
        values = [
            correlation(
                levels(arrays[f"layer_cam/{layer}"][0]), levels(arrays[f"{key}/{layer}"][0], signed)
            )
            for layer in layers
        ]
        shown = float(said[METHODS[key].name].removeprefix("ρ ").replace("−", "-"))
        assert shown == pytest.approx(np.mean(values), abs=0.02)
    numbers = [
        float(text.removeprefix("ρ ").replace("−", "-")) for text in said.values() if "ρ" in text
    ]
    assert numbers == sorted(numbers, reverse=True)


def levels(cam: np.ndarray, signed: bool = False) -> np.ndarray:
    """Return the positive part of what is drawn of a map in 8 bits, on the common grid."""
    drawn = cam if signed else np.maximum(cam, 0)
    rounded = np.round(drawn / np.abs(drawn).max() * (127 if signed else 255))
    return np.round(resampled(np.maximum(rounded, 0).astype(np.float64), 14, 14), 3)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return Spearman's rank correlation."""
    ranks = []
    for cam in (one, other):
        _, inverse, counts = np.unique(cam.ravel(), return_inverse=True, return_counts=True)
        ends = counts.cumsum()
        ranks.append(((ends - counts + ends - 1) / 2)[inverse])
    return float(np.corrcoef(*ranks)[0, 1])


def test_a_button_over_the_map_adds_it_to_the_comparison(open_report: Open, demo: Path) -> None:
    page = ready(open_report(demo, link="#v=matrix"))
    where = cell(0, 1, "grad_cam", "features.3")
    page.hover(where)
    page.click("#view .pin-here")
    until(page, "new URLSearchParams(location.hash.slice(1)).get('p')", "0.1.grad_cam.features.3")
    page.wait_for_selector(f"{where}[data-pin=A]")
    box = page.locator("#view .pin-here").bounding_box()
    assert box is not None
    assert min(box["width"], box["height"]) >= 24


def test_the_place_among_the_chosen_images_stands_beside_the_name(
    open_report: Open, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    photo = (INPUTS / "cat.jpg").read_bytes()
    for number in range(14):
        (folder / f"{number:02}.jpg").write_bytes(photo)
    labels = {f"{number:02}.jpg": "dog" if number % 2 else "cat" for number in range(14)}
    camreport.run(folder, tmp_path / "g", layers=["12"], methods="grad_cam", labels=labels)
    page = ready(open_report(tmp_path / "g", link="#v=matrix&q=right:no&i=3"))
    assert page.inner_text("#view .place").split() == ["2", "of", "7", "right:no"]
    assert page.inner_text("#view .image-line .badge") == "✗ wrong: it is dog"
    page.click("[data-focus=next-image]")
    until(page, "document.querySelector('#view .image-line h2').textContent", "05.jpg")
    assert focused(page) == "next-image"
