"""Walking through a report: what links, the back button and the keys keep, and what they leave."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from test_gallery_views import fields, until

if TYPE_CHECKING:
    from browser import Open
    from playwright.sync_api import Page

MAP = "0.1.layer_cam.features.12"
NEXT = "0.1.hires_cam.features.12"
VIEWS = ("overview", "compare", "tables", "methods", "provenance", "matrix")


@pytest.fixture
def matrix(open_report: "Open", demo: Path) -> "Page":
    """The demo report, opened without any link."""
    page = open_report(demo)
    page.wait_for_selector(f'.cell[data-id="{MAP}"]')
    return page


def go(page: "Page", view: str) -> None:
    """Follow the navigation's link to a view."""
    page.click(f'[data-focus="view {view}"]')
    page.wait_for_selector(f".view-{view}")


def look_at(page: "Page") -> dict[str, str]:
    """Choose opacity, colours, theme and language; return them as a link writes them."""
    page.locator("[data-focus=opacity]").fill("80")
    page.select_option("[data-focus=colormap]", "cividis")
    page.select_option("[data-focus=theme]", "dark")
    page.select_option("[data-focus=language]", "zh")
    page.wait_for_selector("html[lang=zh-Hans]")
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


def test_what_is_pinned_and_chosen_over_a_map_stays_when_it_is_closed(matrix: "Page") -> None:
    matrix.click(f'.cell[data-id="{MAP}"]')
    matrix.keyboard.press("p")
    matrix.keyboard.press("-")
    matrix.keyboard.press("Escape")
    until(matrix, "document.activeElement.dataset.id", MAP)
    until(matrix, "new URLSearchParams(location.hash.slice(1)).get('open')", None)
    assert (fields(matrix)["p"], fields(matrix)["o"]) == (MAP, "45")
    matrix.wait_for_selector(f'.cell[data-pin="A"][data-id="{MAP}"]')


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
    matrix.focus("#cell [data-focus=next]")
    matrix.keyboard.press("?")
    matrix.wait_for_selector("#help[open]")
    for key in ("n", "b", "p", "-", "]"):
        matrix.keyboard.press(key)
    assert fields(matrix) == {"open": MAP}
    matrix.keyboard.press("Escape")
    matrix.wait_for_selector("#help", state="hidden")
    assert matrix.evaluate("document.activeElement.dataset.focus") == "next"


def test_an_open_map_follows_the_language(matrix: "Page") -> None:
    matrix.click(f'.cell[data-id="{MAP}"]')
    matrix.wait_for_selector("#cell[open]")
    matrix.evaluate("location.hash += '&lang=zh'")
    until(matrix, "document.querySelector('#cell [data-focus=close]').textContent", "关闭")


def test_captions_that_were_given_up_come_back(open_report: "Open", demo: Path) -> None:
    page = open_report(demo, link="#v=tables")
    page.wait_for_selector(".course-table")
    first = "document.querySelector('.caption').textContent"
    before = page.evaluate(first)
    page.locator(".caption >> nth=0").fill("Mine")
    page.click("[data-focus=reset]")
    until(page, first, before)
    assert page.inner_text("[data-focus=reset]") == "Captions as rewritten"
    page.click("[data-focus=reset]")
    until(page, first, "Mine")
    assert page.inner_text("[data-focus=reset]") == "Captions as they were"
    page.click("[data-focus=reset]")
    until(page, first, before)
    page.locator(".caption >> nth=0").fill("Newer")
    assert page.inner_text("[data-focus=reset]") == "Captions as they were"
