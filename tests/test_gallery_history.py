"""Walking through a report: what links, the back button and the keys keep, and what they leave."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.browser import settle, until
from helpers.page_steps import fields, fold, unfold

if TYPE_CHECKING:
    from helpers.browser import Open
    from playwright.sync_api import Page

MAP = "0.1.layer_cam.features.12"
NEXT = "0.1.layer_cam.fused"
VIEWS = ("overview", "compare", "tables", "methods", "provenance", "matrix")


@pytest.fixture
def matrix(open_report: "Open", demo: Path) -> "Page":
    """The demo report, opened at its matrix."""
    page = open_report(demo)
    page.wait_for_selector(f'.cell[data-id="{MAP}"]')
    return page


def go(page: "Page", view: str) -> None:
    """Follow the navigation's link to a view."""
    if view in ("methods", "provenance"):
        unfold(page, "menu")
    page.click(f'[data-focus="view {view}"]')
    page.wait_for_selector(f".view-{view}")


def look_at(page: "Page") -> dict[str, str]:
    """Choose opacity, colours, theme and language; return them as a link writes them."""
    unfold(page, "appearance")
    page.locator("[data-focus=opacity]").fill("80")
    page.select_option("[data-focus=colormap]", "cividis")
    unfold(page, "menu")
    page.select_option("[data-focus=theme]", "dark")
    page.select_option("[data-focus=language]", "zh")
    page.wait_for_selector("html[lang=zh-Hans]")
    fold(page)
    return {"o": "80", "cm": "cividis", "th": "dark", "lang": "zh"}


def test_a_look_goes_with_the_reader_from_view_to_view(matrix: "Page") -> None:
    chosen = look_at(matrix)
    for view in VIEWS:
        go(matrix, view)
        assert chosen.items() <= fields(matrix).items(), view
    assert matrix.get_attribute("html", "data-theme") == "dark"
    assert matrix.input_value("[data-focus=opacity]") == "80"


def test_every_link_says_the_look_as_it_is(matrix: "Page") -> None:
    """A link that is copied, or opened beside, shows what is seen here."""
    chosen = look_at(matrix)
    links = matrix.eval_on_selector_all(
        "a[href^='#']:not(#skip)",
        "all => all.map(a => [...new URLSearchParams(a.getAttribute('href').slice(1))])",
    )
    assert len(links) > 10
    for link in links:
        assert chosen.items() <= dict(link).items()


def test_back_goes_to_the_view_before_and_leaves_the_look(matrix: "Page") -> None:
    go(matrix, "overview")
    go(matrix, "tables")
    chosen = look_at(matrix)
    for view in ("overview", "matrix"):
        matrix.go_back()
        matrix.wait_for_selector(f".view-{view}")
        assert chosen.items() <= fields(matrix).items(), view
    matrix.go_forward()
    matrix.wait_for_selector(".view-overview")
    assert chosen.items() <= fields(matrix).items()
    matrix.reload()
    matrix.wait_for_selector("html[lang=zh-Hans]")
    assert chosen.items() <= fields(matrix).items()


def test_an_address_that_is_entered_says_all(matrix: "Page") -> None:
    look_at(matrix)
    matrix.evaluate("location.hash = '#v=overview&o=30'")
    matrix.wait_for_selector(".view-overview")
    until(matrix, "document.documentElement.lang", "en")
    assert matrix.input_value("[data-focus=opacity]") == "30"
    matrix.go_back()
    matrix.wait_for_selector("html[lang=zh-Hans]")
    until(matrix, "document.querySelector('[data-focus=opacity]').value", "80")


def test_a_map_that_was_closed_leaves_no_step_behind(matrix: "Page") -> None:
    go(matrix, "overview")
    go(matrix, "matrix")
    before = matrix.evaluate("history.length")
    for _ in range(3):
        matrix.click(f'.cell[data-id="{MAP}"]')
        matrix.wait_for_selector("#cell[open]")
        assert matrix.evaluate("history.length") == before + 1
        matrix.keyboard.press("n")
        matrix.keyboard.press("Escape")
        until(matrix, "document.activeElement.dataset.id", NEXT)
        until(matrix, "new URLSearchParams(location.hash.slice(1)).has('open')", False)
    matrix.go_back()
    matrix.wait_for_selector(".view-overview")


@pytest.mark.parametrize("then", ["cell", "view"])
def test_a_step_right_after_closing_is_a_step_of_its_own(matrix: "Page", then: str) -> None:
    """The browser goes back in its own time; what is clicked meanwhile must not be lost."""
    go(matrix, "overview")
    go(matrix, "matrix")
    matrix.click(f'.cell[data-id="{MAP}"]')
    matrix.wait_for_selector("#cell[open]")
    target = {"cell": f'.cell[data-id="{NEXT}"]', "view": '[data-focus="view tables"]'}[then]
    matrix.evaluate(
        """target => {
            const dialog = document.querySelector("#cell");
            const click = () => document.querySelector(target).click();
            dialog.addEventListener("close", click, {once: true});
            dialog.close();
        }""",
        target,
    )
    if then == "cell":
        until(matrix, "new URLSearchParams(location.hash.slice(1)).get('open')", NEXT)
        matrix.keyboard.press("Escape")
        until(matrix, "new URLSearchParams(location.hash.slice(1)).has('open')", False)
    else:
        until(matrix, "new URLSearchParams(location.hash.slice(1)).get('v')", "tables")
        matrix.go_back()
    matrix.wait_for_selector(".view-matrix")
    assert matrix.is_hidden("#cell")
    matrix.go_back()
    matrix.wait_for_selector(".view-overview")


def test_a_link_to_where_one_is_leads_nowhere(matrix: "Page") -> None:
    before = matrix.evaluate("history.length")
    for _ in range(3):
        matrix.click('[data-focus="view matrix"]')
        matrix.click(".strip a[aria-current]")
    assert matrix.evaluate("history.length") == before


def test_what_is_pinned_and_chosen_over_a_map_stays_when_it_is_closed(matrix: "Page") -> None:
    matrix.click(f'.cell[data-id="{MAP}"]')
    matrix.keyboard.press("p")
    matrix.keyboard.press("-")
    matrix.keyboard.press("Escape")
    until(matrix, "document.activeElement.dataset.id", MAP)
    until(matrix, "new URLSearchParams(location.hash.slice(1)).get('open')", None)
    assert (fields(matrix)["p"], fields(matrix)["o"]) == (MAP, "85")
    matrix.wait_for_selector(f'.cell[data-pin="A"][data-id="{MAP}"]')


def test_the_last_map_is_in_view_when_it_is_closed(open_report: "Open", demo: Path) -> None:
    page = open_report(demo, link="#v=tables")
    page.wait_for_selector(".course-table")
    cells = page.locator("#view .cell[data-id]")
    cells.first.click()
    page.wait_for_selector("#cell[open]")
    for _ in range(40):
        page.keyboard.press("n")
    last = cells.nth(40).get_attribute("data-id")
    until(page, "new URLSearchParams(location.hash.slice(1)).get('open')", last)
    page.keyboard.press("Escape")
    until(page, "document.activeElement.dataset.id", last)
    until(page, "new URLSearchParams(location.hash.slice(1)).has('open')", False)
    settle(page)  # the browser scrolls where it was with the next frame, if it does
    box = page.evaluate("document.activeElement.getBoundingClientRect().toJSON()")
    assert page.evaluate("scrollY") > 500
    assert 0 <= box["top"]
    assert box["bottom"] <= 1000


def test_pins_stay_whichever_way_one_goes(matrix: "Page") -> None:
    matrix.click(f'.cell[data-id="{MAP}"]')
    matrix.keyboard.press("Escape")
    until(matrix, "document.activeElement.dataset.id", MAP)
    until(matrix, "new URLSearchParams(location.hash.slice(1)).has('open')", False)
    matrix.keyboard.press("p")
    matrix.go_forward()
    matrix.wait_for_selector("#cell[open]")
    matrix.keyboard.press("Escape")
    until(matrix, "new URLSearchParams(location.hash.slice(1)).has('open')", False)
    assert fields(matrix)["p"] == MAP


def test_back_closes_a_map_and_forward_opens_it(matrix: "Page") -> None:
    matrix.click(f'.cell[data-id="{MAP}"]')
    matrix.wait_for_selector("#cell[open]")
    matrix.go_back()
    matrix.wait_for_selector("#cell", state="hidden")
    matrix.go_forward()
    matrix.wait_for_selector("#cell[open]")
    assert fields(matrix)["open"] == MAP


def test_keys_do_nothing_behind_the_help(matrix: "Page") -> None:
    matrix.click(f'.cell[data-id="{MAP}"]')
    matrix.wait_for_selector("#cell[open]")
    matrix.focus("#cell [data-focus=pin]")
    matrix.keyboard.press("?")
    matrix.wait_for_selector("#help[open]")
    for key in ("n", "b", "p", "-", "]"):
        matrix.keyboard.press(key)
    assert fields(matrix) == {"v": "matrix", "open": MAP}
    matrix.keyboard.press("Escape")
    matrix.wait_for_selector("#help", state="hidden")
    assert matrix.evaluate("document.activeElement.dataset.focus") == "pin"


def test_an_open_map_follows_the_language(matrix: "Page") -> None:
    matrix.click(f'.cell[data-id="{MAP}"]')
    matrix.wait_for_selector("#cell[open]")
    matrix.evaluate("location.hash += '&lang=zh'")
    until(matrix, "document.querySelector('#cell [data-focus=close]').textContent", "关闭")


def test_captions_that_were_given_up_come_back(open_report: "Open", demo: Path) -> None:
    page = open_report(demo, link="#v=tables")
    page.wait_for_selector(".course-table")
    first = "document.querySelector('.caption').textContent"
    before, second = page.evaluate(first), page.inner_text(".caption >> nth=1")
    page.locator(".caption >> nth=0").fill("Mine")
    page.click("[data-focus=reset]")
    until(page, first, before)
    assert page.inner_text("[data-focus=reset]") == "Restore my captions"
    page.click("[data-focus=reset]")
    until(page, first, "Mine")
    assert page.inner_text("[data-focus=reset]") == "Reset captions"
    page.click("[data-focus=reset]")
    until(page, first, before)
    page.locator(".caption >> nth=1").fill("Newer")
    assert page.inner_text("[data-focus=reset]") == "Reset captions"
    page.click("[data-focus=reset]")
    until(page, first.replace("querySelector", "querySelectorAll").replace("')", "')[1]"), second)
    page.click("[data-focus=reset]")
    until(page, first, "Mine")
    assert page.inner_text(".caption >> nth=1") == "Newer"
