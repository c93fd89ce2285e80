"""The bar above every view: what stands before the maps, what it offers, and how it says it."""

import dataclasses
import shutil
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers import synthetic
from helpers.browser import settle, until
from helpers.checkout import INPUTS
from helpers.page_steps import fields, go, texts, unfold
from helpers.small import small_model

import camreport
from camreport.models.loaded import RANDOM
from camreport.report.gallery import render_gallery
from camreport.results.reader import load_results

if TYPE_CHECKING:
    from helpers.browser import Open
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

MAX_STOPS = 10
PINS = "0.1.grad_cam.features.12~0.1.layer_cam.features.12"
WITH_MAPS = {
    "summary": "",
    "overview": "",
    "matrix": "",
    "compare": f"&p={PINS}",
    "channels": "",
    "tables": "",
}
FIRST = "#view .cell :is(.frame, canvas), #view .pin .frame"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with more images than a strip shows, one of them labelled wrongly; channels."""
    folder, out = tmp_path_factory.mktemp("in"), tmp_path_factory.mktemp("labelled") / "g"
    for name in ("cat", "dog"):
        (folder / name).mkdir()
        for number in range(7):
            shutil.copy(INPUTS / f"{name}.jpg", folder / name / f"{number}.jpg")
    shutil.copy(INPUTS / "both.jpg", folder / "cat")
    camreport.run(folder, out, labels="folder", layers=["9", "12"], channels=["9", "12"])
    return out


def first_map(page: "Page") -> float:
    """Return where on the page its first map begins, in CSS pixels from the top."""
    page.wait_for_selector(FIRST)
    settle(page)
    top: float = page.eval_on_selector(FIRST, "e => e.getBoundingClientRect().top + scrollY")
    return top


def stops_before(page: "Page", selector: str) -> list[str]:
    """Press the tab key until what a selector finds is passed; return what had the focus."""
    reached = []
    passed = """selector => !(document.activeElement.compareDocumentPosition(
        document.querySelector(selector)) & Node.DOCUMENT_POSITION_FOLLOWING)"""
    while True:
        page.keyboard.press("Tab")
        if page.evaluate(passed, selector):
            return reached
        reached.append(page.evaluate("document.activeElement.dataset.focus ?? ''"))


@pytest.mark.parametrize("view", WITH_MAPS)
def test_at_most_ten_tab_stops_stand_before_the_first_map(
    open_report: "Open", labelled: Path, view: str
) -> None:
    page = open_report(labelled, link=f"#v={view}{WITH_MAPS[view]}")
    first_map(page)
    stops = stops_before(page, FIRST)
    assert len(stops) <= MAX_STOPS, stops


@pytest.mark.parametrize(
    ("view", "width", "height", "lowest", "language"),
    [
        (view, *size, ("en", "zh")[number % 2])
        for number, (view, size) in enumerate(
            product(WITH_MAPS, [(1440, 900, 200), (390, 844, 300), (720, 450, 430)])
        )
    ],
)
def test_the_first_map_is_high_on_the_page(
    open_report: "Open",
    report: Path,
    view: str,
    width: int,
    height: int,
    lowest: int,
    language: str,
) -> None:
    link = f"#v={view}&lang={language}{WITH_MAPS[view]}"
    assert first_map(open_report(report, width=width, height=height, link=link)) <= lowest


def pressed(page: "Page") -> list[str]:
    """Return the names of the looks that are said to be shown."""
    return texts(page, ".presets [aria-pressed=true]")


def test_a_preset_sets_what_makes_a_look_and_says_that_it_is_shown(
    open_report: "Open", demo: Path
) -> None:
    page = open_report(demo, link="#v=matrix&t=20")
    unfold(page, "appearance")
    assert pressed(page) == ["Heat"]
    looks = {
        "papers": {"av": "0", "o": "50", "cm": "jet"},
        "outline": {"d": "photo", "ct": "1"},
        "cells": {"rc": "1"},
        "heat": {},
    }
    for name, look in looks.items():
        page.click(f"[data-focus='preset {name}']")
        assert fields(page) == {"v": "matrix", "t": "20"} | look
        assert pressed(page) == texts(page, f"[data-focus='preset {name}']")
    page.locator("[data-focus=opacity]").fill("40")
    assert pressed(page) == []


def test_a_look_that_is_not_the_first_is_marked_until_it_is_reset(
    open_report: "Open", demo: Path
) -> None:
    page = open_report(demo, link="#v=matrix&r=image")
    unfold(page, "appearance")
    marked = page.locator("#open-appearance.changed")
    assert marked.count() == 0
    assert page.is_hidden("[data-focus=reset-look]")
    page.locator("[data-focus=threshold]").fill("30")
    page.check("[data-focus=lift]")
    assert marked.count() == 1
    page.click("[data-focus=reset-look]")
    assert fields(page) == {"v": "matrix", "r": "image"}
    assert marked.count() == 0
    assert page.input_value("[data-focus=threshold]") == "0"
    assert not page.is_checked("[data-focus=lift]")


@pytest.mark.parametrize(
    ("link", "there", "missing"),
    [
        ("v=matrix", "opacity numbers", "choose-class"),
        ("v=overview", "opacity choose-class", "numbers"),
        ("v=tables", "opacity numbers", "choose-class"),
        (f"v=compare&p={PINS}", "opacity", "numbers choose-class"),
    ],
)
def test_only_controls_that_act_on_the_view_are_offered(
    open_report: "Open", demo: Path, link: str, there: str, missing: str
) -> None:
    page = open_report(demo, link=f"#{link}")
    page.wait_for_selector("#view > .view")
    unfold(page, "appearance")
    offered = page.eval_on_selector_all(
        "#bar [data-focus]", "all => all.filter(e => e.checkVisibility()).map(e => e.dataset.focus)"
    )
    assert set(there.split()) <= set(offered)
    assert not set(missing.split()) & set(offered)


@pytest.mark.parametrize("view", ["compare", "methods", "provenance"])
def test_where_no_map_is_shown_nothing_is_offered_to_draw_it(
    open_report: "Open", demo: Path, view: str
) -> None:
    page = open_report(demo, link=f"#v={view}")
    page.wait_for_selector(f".view-{view}")
    assert page.is_hidden("#open-appearance")
    assert page.is_visible("#open-menu")


def test_arrows_move_among_the_views_and_enter_or_space_opens_one(
    open_report: "Open", demo: Path
) -> None:
    page = open_report(demo, link="#v=summary")
    page.wait_for_selector(".view-summary")
    assert page.locator("#nav [tabindex='0']").count() == 1
    page.focus("#nav [aria-selected=true]")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.is_visible(".view-summary"), "arrows alone open nothing"
    page.keyboard.press("Enter")
    page.wait_for_selector(".view-matrix")
    page.keyboard.press("End")
    page.keyboard.press("Space")
    page.wait_for_selector(".view-tables")
    assert texts(page, "#nav [aria-selected=true]") == ["Figures"]
    assert page.evaluate("document.activeElement.dataset.focus") == "view tables"
    page.keyboard.press("Home")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.focus") == "view summary"


@pytest.mark.parametrize(("width", "across"), [(1440, 280), (800, 280), (390, 390)])
def test_the_controls_stand_aside_or_come_from_below(
    open_report: "Open", demo: Path, width: int, across: int
) -> None:
    page = open_report(demo, width=width, height=844, link="#v=matrix")
    first_map(page)
    page.click("#open-appearance")
    panel = page.locator("#appearance").bounding_box()
    assert panel is not None
    assert panel["width"] == across
    assert panel["x"] + panel["width"] <= width
    if width == 390:
        assert panel["y"] + panel["height"] == 844
    maps = page.eval_on_selector_all(
        "#view .cell", "all => Math.max(...all.map(e => e.getBoundingClientRect().right))"
    )
    if width == 1440:
        assert maps < panel["x"], "no map lies under the controls"
    page.keyboard.press("Escape")
    assert page.is_hidden("#appearance")
    assert page.evaluate("document.activeElement.id") == "open-appearance"


@pytest.mark.parametrize("width", [1440, 390])
def test_the_bar_keeps_its_tabs_in_view_in_48_pixels(
    open_report: "Open", demo: Path, width: int
) -> None:
    page = open_report(demo, width=width, height=700, link="#v=tables")
    first_map(page)
    page.mouse.wheel(0, 2000)
    until(page, "scrollY > 1000")
    assert page.eval_on_selector("#bar", "e => e.getBoundingClientRect().bottom") <= 49
    box = page.locator("#nav [aria-selected=true]").bounding_box()
    assert box is not None
    assert box["y"] >= 0


def test_a_text_finds_one_image_or_filters_them(open_report: "Open", tmp_path: Path) -> None:
    out = synthetic.write_results(tmp_path / "g", 40, grids=synthetic.SMALL)
    render_gallery(out)
    files = [image.file for image in load_results(out).images]
    page = open_report(out, link="#v=matrix")
    first_map(page)
    page.keyboard.press("/")
    page.keyboard.type(files[7])
    page.keyboard.press("Enter")
    until(page, "new URLSearchParams(location.hash.slice(1)).get('i')", "7")
    assert page.locator("#view .cell[data-id^='7.']").count() > 1
    page.fill("[data-focus=find]", files[7][0])
    page.keyboard.press("Enter")
    page.wait_for_selector(".view-overview")
    assert page.input_value("[data-focus=query]") == files[7][0]
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.dataset.focus") == "query"
    go(page, "v=matrix", "matrix")
    page.fill("[data-focus=find]", "no such image")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#announcer').textContent.includes('no such image')")


def test_a_warning_stands_above_every_view(open_report: "Open", tmp_path: Path) -> None:
    model = dataclasses.replace(small_model(("cat", "dog")), warning=RANDOM)
    camreport.run(INPUTS / "cat.jpg", tmp_path / "g", model=model, layers=["features.3"])
    page = open_report(tmp_path / "g", width=390, height=844)
    for view in ("matrix", "overview", "summary", "tables", "methods", "provenance"):
        go(page, f"v={view}", view)
        line = page.locator("#warning")
        assert "random" in line.inner_text()
        box = line.bounding_box()
        assert box is not None
        assert box["height"] < 40
    page.click("#warning summary")
    box = page.locator("#warning").bounding_box()
    assert box is not None
    assert box["height"] > 50, "it can be read as a whole"
