"""A report is used without a mouse, and the focus is never lost."""

from pathlib import Path

import numpy as np
import pytest
from helpers import browser
from helpers.browser import Open, settle, until
from helpers.drawn_maps import reference
from helpers.page_steps import focused, unfold
from helpers.report_cells import cell, drawn, ready, show
from playwright.sync_api import Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not browser.required() and browser.chromium() is None, reason="no Chromium here"
    ),
]


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
    keys = ("ArrowRight", "ArrowDown", "Home", "End", "ArrowLeft", "ArrowUp", "PageDown", "PageUp")
    for key in keys:
        page.keyboard.press(key)
        reached.append(focused(page))
        assert page.locator(stops).count() == 1
    assert reached == [
        f"cell 0.{name}"
        for name in (
            "1.grad_cam.features.3",
            "1.layer_cam.features.3",
            "1.layer_cam.features.0",
            "1.layer_cam.fused",
            "1.layer_cam.features.12",
            "1.grad_cam.features.12",
            "0.hires_cam.features.12",
            "1.grad_cam.features.12",
        )
    ]
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert focused(page) == reached[-1]
    heads = []
    for key in ("ArrowUp", "ArrowLeft", "ArrowDown", "Home", "ArrowLeft"):
        page.keyboard.press(key)
        heads.append(focused(page))
    assert heads == [
        "head layer features.12",
        "head layer features.9",
        "cell 0.1.grad_cam.features.9",
        "cell 0.1.grad_cam.features.0",
        "head method grad_cam",
    ]


@pytest.mark.parametrize("height", [1000, 560])
def test_nothing_focused_lies_under_the_bar(open_report: Open, report: Path, height: int) -> None:
    page = ready(open_report(report, height=height))
    assert page.eval_on_selector("#bar", "e => getComputedStyle(e).position") == "sticky"
    page.locator("#view .panels .cell[tabindex='0']").focus()
    for key in ["PageDown", *["ArrowDown"] * 6, "ArrowRight", *["ArrowUp"] * 6, "PageUp"]:
        page.keyboard.press(key)
        assert covered(page) == [], f"{focused(page)} after {key}"
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    for _ in range(20):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
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
    assert len(wanted) > 6
    assert set(wanted) <= set(reached)
    assert reached[0] == "skip"
    assert sum(name.startswith(("cell ", "pair ")) for name in reached) == 2, "matrix and pair"

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

    page.click("[data-focus='open axes']")
    page.locator('[data-focus="choose-image"]').focus()
    page.keyboard.press("ArrowDown")
    settle(page)
    assert focused(page) == "choose-image"
    page.keyboard.press("ArrowDown")
    settle(page)
    assert page.locator(cell(2, 0, "grad_cam", "features.0")).count() > 0
    unfold(page, "appearance")
    page.locator('[data-focus="colormap"]').focus()
    page.keyboard.press("ArrowDown")
    assert focused(page) == "colormap"
    where = (2, 0, "grad_cam", "features.0")
    expected = reference(report, *where, colormap="viridis")
    np.testing.assert_array_equal(drawn(page, cell(*where)), expected)
    page.locator('[data-focus="opacity"]').focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute('[data-focus="opacity"]', "aria-valuetext") == "5%"
    expected = reference(report, *where, colormap="viridis", opacity=0.05)
    np.testing.assert_array_equal(drawn(page, cell(*where)), expected)


def test_letters_are_commands_until_they_are_switched_off(open_report: Open, report: Path) -> None:
    page = ready(open_report(report, link="#v=matrix&b=none&k=0"))

    def opacity() -> str | None:
        return page.get_attribute('[data-focus="opacity"]', "aria-valuetext")

    page.locator("#view .panels .cell[tabindex='0']").focus()
    page.keyboard.press("=")
    page.keyboard.press("=")
    page.keyboard.press("-")
    assert opacity() == "95%"
    assert focused(page) == "cell 0.0.grad_cam.features.0"
    page.keyboard.press("]")
    settle(page)
    assert page.locator("#view .panels .cell[data-id^='0.1.']").count() == 3 * 5 + 1
    page.keyboard.press("[")
    settle(page)
    assert page.locator("#view .panels .cell[data-id^='0.0.']").count() == 3 * 5 + 1
    page.locator("#view .panels .cell[tabindex='0']").focus()
    page.keyboard.press("p")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("p")
    assert "p=0.0.grad_cam.features.0%7E0.0.grad_cam.features.3" in page.evaluate("location.hash")
    assert page.inner_text("#announcer") == "2 of at most 4 maps are in Compare."
    assert page.inner_text("#nav .count").strip() == "2"
    page.keyboard.press("?")
    assert page.is_visible("#help[open]")
    letters = page.locator("#help [data-focus='keys-on']")
    assert letters.is_checked()
    letters.focus()
    page.keyboard.press("Space")
    page.keyboard.press("Escape")
    assert focused(page) == "cell 0.0.grad_cam.features.3"
    before = page.evaluate("location.hash")
    for key in "-=[]p":
        page.keyboard.press(key)
    page.keyboard.press("?")
    settle(page)
    assert page.evaluate("location.hash") == before
    assert page.locator("#help[open]").count() == 0
    unfold(page, "menu")
    page.click('[data-focus="help"]')
    letters.check()
    page.keyboard.press("Escape")
    page.keyboard.press("-")
    settle(page)
    assert opacity() == "90%"


def test_letters_are_text_where_text_is_written(open_report: Open, report: Path) -> None:
    page = ready(open_report(report, link="#v=overview"))
    page.focus('[data-focus="query"]')
    page.keyboard.type("[p-]=?")
    assert page.input_value('[data-focus="query"]') == "[p-]=?"
    assert focused(page) == "query"
    assert page.locator("#help[open]").count() == 0
    assert page.get_attribute('[data-focus="opacity"]', "aria-valuetext") == "90%"


def test_enter_opens_a_map_and_escape_gives_the_focus_back(open_report: Open, report: Path) -> None:
    page = ready(open_report(report, link="#v=matrix&i=2"))
    where = cell(2, 1, "grad_cam", "features.12")
    page.focus(where)
    page.keyboard.press("Enter")
    page.wait_for_selector("#cell[open] #probe")
    assert page.inner_text("#cell-title") == "dog.jpg · dog · Grad-CAM · features.12"
    page.focus('#cell [data-focus="method grad_cam"]')
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    settle(page)
    assert page.inner_text("#cell-title") == "dog.jpg · dog · LayerCAM · features.12"
    assert focused(page) == "method layer_cam"
    page.keyboard.press("b")
    page.keyboard.press("[")
    settle(page)
    assert page.inner_text("#cell-title") == "dog.jpg · cat · LayerCAM · features.9"
    page.keyboard.press("Escape")
    settle(page)
    assert page.locator("#cell[open]").count() == 0
    assert focused(page) == "cell 2.0.layer_cam.features.9", "the map that was seen last"
    assert covered(page) == []
    page.click(where)
    page.wait_for_selector("#cell[open]")
    page.click('#cell [data-focus="close"]')
    settle(page)
    assert focused(page) == "cell 2.1.grad_cam.features.12"


@pytest.mark.parametrize(
    ("reach", "change"),
    [
        ("#nav a[data-focus='view tables']", "Enter"),
        ("#menu select[data-focus='language']", "ArrowDown"),
        ("#menu select[data-focus='theme']", "ArrowDown"),
        ("#view select[data-focus='rows']", "ArrowDown"),
        ("#appearance input[data-focus='contours']", "Space"),
    ],
)
def test_what_is_used_keeps_the_focus(
    open_report: Open, demo: Path, reach: str, change: str
) -> None:
    page = open_report(demo)
    page.wait_for_selector(".view-matrix")
    focused = "document.activeElement.dataset.focus"
    for popover in ("menu", "appearance"):
        if reach.startswith(f"#{popover}"):
            unfold(page, popover)
    if "rows" in reach:
        page.click("[data-focus='open axes']")
    page.focus(reach)
    before = page.evaluate(focused)
    page.keyboard.press(change)
    until(page, "location.hash !== '#v=matrix'")
    settle(page)
    assert page.evaluate(focused) == before


def test_class_keys_do_nothing_where_all_classes_are_shown(open_report: Open, report: Path) -> None:
    page = ready(open_report(report))
    before = page.evaluate("location.hash")
    page.keyboard.press("]")
    assert page.evaluate("location.hash") == before
    show(page, "#v=matrix&b=none")
    page.keyboard.press("]")
    assert "k=" in page.evaluate("location.hash")
