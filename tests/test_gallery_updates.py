"""What a change of the state leaves alone on the page: its elements and the focus."""

from pathlib import Path

import pytest
from helpers.browser import Open, until
from helpers.checkout import INPUTS
from helpers.page_steps import enter, go
from playwright.sync_api import Page

import camreport

pytestmark = pytest.mark.slow

PINS = "0.0.layer_cam.features.12~0.1.grad_cam.features.12~1.0.grad_cam.features.9"

VIEWS = {
    "overview": "v=overview",
    "matrix": "v=matrix",
    "compare": f"v=compare&p={PINS}",
    "channels": "v=channels&ch=1-5",
    "tables": "v=tables",
    "methods": "v=methods",
    "dialog": "open=0.1.layer_cam.features.12",
}

MARK = "() => document.querySelectorAll('body *').forEach(element => element.known = true)"

STRANGE = """() => [...document.querySelectorAll("body *")]
    .filter(element => !element.known && !element.matches("#announcer, .lines"))
    .map(element => `${element.tagName} ${element.className}`)"""

LOOK = {
    "o": ("80", "document.querySelector('[data-focus=opacity]').value", "80"),
    "cm": ("cividis", "document.querySelector('[data-focus=colormap]').value", "cividis"),
    "g": ("1", "document.querySelector('[data-focus=grey]').checked", True),
    "th": ("dark", "document.documentElement.dataset.theme", "dark"),
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with feature maps; not to be changed."""
    out = tmp_path_factory.mktemp("updates") / "g"
    methods = "grad_cam,layer_cam"
    camreport.run(INPUTS, out, layers=["9", "12"], methods=methods, channels=["12"])
    return out


def opened(open_report: Open, report: Path, view: str) -> Page:
    """Open a view, let it draw all its maps, and mark what is there."""
    page = open_report(report, link=f"#{VIEWS[view]}")
    page.wait_for_selector("#cell[open]" if view == "dialog" else f".view-{view}")
    undrawn = "document.querySelectorAll('#view .cell[data-id] .frame:not([data-drawn])').length"
    until(page, undrawn, 0)
    page.evaluate(MARK)
    return page


@pytest.mark.parametrize("view", VIEWS)
def test_a_look_makes_no_element_anew(open_report: Open, report: Path, view: str) -> None:
    page = opened(open_report, report, view)
    for name, (value, question, expected) in LOOK.items():
        page.evaluate("field => location.hash += field", f"&{name}={value}")
        until(page, question, expected)
    until(page, STRANGE.replace("() =>", "", 1), [])


def test_a_filter_leaves_its_controls_and_changes_the_images(
    open_report: Open, report: Path
) -> None:
    page = opened(open_report, report, "overview")
    page.focus("[data-focus=query]")
    page.keyboard.type("cat")
    until(page, "document.querySelectorAll('.tile').length", 1)
    assert page.input_value("[data-focus=query]") == "cat"
    page.keyboard.type(" p>0.999")
    until(page, "document.querySelectorAll('.tile').length", 0)
    page.fill("[data-focus=query]", "")
    until(page, "document.querySelectorAll('.tile').length", 3)
    assert page.eval_on_selector("[data-focus=query]", "element => element.known")
    assert page.eval_on_selector("[role=status]", "element => element.known")


def test_a_picked_channel_leaves_the_feature_maps(open_report: Open, report: Path) -> None:
    page = opened(open_report, report, "channels")
    before = page.inner_text(".sum figcaption")
    page.click('[data-focus="channel 7"]')
    until(page, "new URLSearchParams(location.hash.slice(1)).get('ch')", "1-5-7")
    pressed = "[...document.querySelectorAll('.channel[aria-pressed=true] .number')]"
    until(page, f"{pressed}.map(one => one.textContent)", ["1", "5", "7"])
    assert page.inner_text(".sum figcaption") != before
    assert page.input_value("[data-focus=top]") == "3"
    assert page.evaluate("[...document.querySelectorAll('.channel *')].every(one => one.known)")
    assert page.evaluate("document.activeElement.dataset.focus") == "channel 7"


def test_another_pair_leaves_the_pinned_maps(open_report: Open, report: Path) -> None:
    page = opened(open_report, report, "compare")
    page.focus("[data-focus=pair]")
    page.select_option("[data-focus=pair]", "12")
    until(page, "document.querySelector('.swipe').known ?? false", False)
    assert page.evaluate("[...document.querySelectorAll('.pins *')].every(one => one.known)")
    assert page.input_value("[data-focus=pair]") == "12"
    assert page.evaluate("document.activeElement.dataset.focus") == "pair"


def test_a_threshold_moves_the_marks_of_an_open_map_and_leaves_its_frame(
    open_report: Open, report: Path
) -> None:
    page = opened(open_report, report, "dialog")
    page.focus("#probe")
    boxes = "[...document.querySelectorAll('#cell .mark.box')].map(box => box.style.width)"
    before, facts = page.evaluate(boxes), page.inner_text("#facts")
    enter(page, page.evaluate("location.hash") + "&t=90")
    until(page, f"{boxes}.join() !== {before!r}.join()", True)
    assert page.inner_text("#facts") != facts
    assert page.evaluate("document.querySelector('#probe').known")
    assert page.evaluate("document.activeElement.id") == "probe"


def test_a_view_ignores_what_it_does_not_show(open_report: Open, report: Path) -> None:
    page = opened(open_report, report, "matrix")
    page.evaluate("location.hash += '&z=3&sw=20&ch=1'")
    until(page, "document.querySelector('#nav a').href.includes('z=3')", True)
    assert page.evaluate(STRANGE) == []
    go(page, "v=matrix&r=layer&c=class", "matrix")
    assert page.evaluate(STRANGE) != []
