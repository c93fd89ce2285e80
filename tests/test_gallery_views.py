"""The tables of a paper."""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from helpers import browser
from helpers.browser import Open, pdf_pages, until
from helpers.page_steps import fields, texts
from playwright.sync_api import Page

from camreport.results.reader import load_results
from camreport.results.schema import ImageEntry

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not browser.required() and browser.chromium() is None, reason="no Chromium here"
    ),
]


@pytest.fixture
def coursework(open_report: Open, demo: Path) -> Page:
    """The view of tables of the demo report."""
    page = open_report(demo, link="#v=tables")
    page.wait_for_selector(".view-tables .course-table")
    return page


def captions(page: Page) -> list[str]:
    return texts(page, ".course-table .caption")


def test_tables_of_the_coursework_are_there_and_numbered(coursework: Page, demo: Path) -> None:
    shown = coursework.eval_on_selector_all(
        ".course-table",
        """all => all.map(figure => ({
            number: figure.querySelector("figcaption strong").textContent,
            head: [...figure.querySelectorAll("thead th")].map(e => e.textContent),
            rows: [...figure.querySelectorAll("tbody tr")].map(row => [
                row.querySelector("th").textContent,
                row.querySelectorAll("img[alt]:not([alt=''])").length,
                [...row.querySelectorAll(".cell")].map(cell => cell.dataset.id)]),
        }))""",
    )
    results = load_results(demo)
    layers = [f"features.{index}" for index in (0, 3, 6, 9, 12)]
    assert [figure["number"] for figure in shown] == [f"Figure {n}." for n in range(1, 14)]
    figures = iter(shown)
    for image in range(3):
        for key in results.manifest.methods:
            figure = next(figures)
            assert figure["head"][:2] == ["original", "Layer"]
            assert [re.sub(r" \(.*", "", head) for head in figure["head"][2:]] == ["cat", "dog"]
            own = [*layers, "fused"] if f"{key}/fused" in results.arrays(image) else layers
            assert figure["rows"] == [
                [layer, int(layer == own[0]), [f"{image}.{rank}.{key}.{layer}" for rank in (0, 1)]]
                for layer in own
            ], "the original stands once, beside all rows"
    best = [record.top[0].index for record in results.images]
    figure = next(figures)
    assert figure["head"] == ["Image", "original", "Grad-CAM", "LayerCAM"]
    assert [row[2] for row in figure["rows"]] == [
        [f"{i}.{rank}.{key}.features.12" for key in ("grad_cam", "layer_cam")]
        for i, rank in enumerate(best)
    ]
    for key in results.manifest.methods:
        figure = next(figures)
        assert "features.9" in figure["head"][2]
        assert figure["head"][3] == "pooling, features.12"
        assert [row[2] for row in figure["rows"]] == [
            [f"{i}.{rank}.{key}.{layer}" for layer in ("features.9", "features.12")]
            for i, rank in enumerate(best)
        ]


@pytest.mark.parametrize(
    ("which", "count"), [("all", 13), ("classes", 9), ("methods", 1), ("depth", 3)]
)
def test_tables_that_are_chosen_are_numbered_from_one(
    coursework: Page, which: str, count: int
) -> None:
    coursework.select_option("[data-focus=tables]", which)
    until(coursework, "document.querySelectorAll('.course-table').length", count)
    shown = texts(coursework, ".course-table figcaption strong")
    assert shown == [f"Figure {number}." for number in range(1, count + 1)]


def assert_kept(page: Page, wanted: list[str]) -> None:
    """Check the captions of a page that is opened anew.

    A busy browser may open it before it has put away what the earlier page has stored.
    """
    for _ in range(5):
        page.reload()
        page.wait_for_selector(".course-table")
        if captions(page) == wanted:
            return
    assert captions(page) == wanted


def test_captions_are_kept_printed_and_reset(coursework: Page) -> None:
    page, own = coursework, "My own words, “so”: <b>both</b> & more"
    before = captions(page)
    page.locator(".caption >> nth=1").fill(own)
    assert_kept(page, [before[0], own, *before[2:]])
    assert page.locator(".caption b").count() == 0
    printed = "\n".join(pdf_pages(page.pdf(format="A4")))
    assert own in " ".join(printed.split())
    assert before[1] not in " ".join(printed.split())
    page.click("[data-focus=reset]")
    until(page, "document.querySelectorAll('.caption')[1].textContent", before[1])
    assert_kept(page, before)


def test_captions_work_where_the_browser_keeps_nothing(
    open_report: Open, demo: Path, chromium: browser.Browser
) -> None:
    context = chromium.new_context()
    context.add_init_script(
        """Object.defineProperty(window, "localStorage",
            {get() { throw new DOMException("not for files", "SecurityError"); }})"""
    )
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"{(demo / 'index.html').as_uri()}#v=tables")
    page.wait_for_selector(".course-table")
    page.locator(".caption >> nth=0").fill("Mine")
    page.select_option("[data-focus=tables]", "classes")
    until(page, "document.querySelectorAll('.course-table').length", 9)
    assert captions(page)[0] == "Mine"  # kept as long as the page is open
    assert "Mine" in "\n".join(pdf_pages(page.pdf(format="A4")))
    context.close()
    assert said == []


def test_captions_of_two_reports_are_kept_apart(
    open_report: Open, demo: Path, coloured: Path
) -> None:
    keys = []
    for out in (demo, coloured):
        page = open_report(out, link="#v=tables")
        page.wait_for_selector(".course-table")
        page.locator(".caption >> nth=0").fill("Mine")
        keys += page.evaluate("Object.keys(localStorage)")
    assert len(set(keys)) == 2


def test_a_letter_in_a_caption_is_no_command(coursework: Page) -> None:
    coursework.click(".caption >> nth=0")
    coursework.keyboard.press("End")
    coursework.keyboard.type(" p?-[")
    assert captions(coursework)[0].endswith(" p?-[")
    assert not coursework.is_visible("#help")
    assert coursework.evaluate("new URLSearchParams(location.hash.slice(1)).has('o')") is False


def test_printed_tables_carry_every_caption_on_the_page_of_their_figure(coursework: Page) -> None:
    pages = [" ".join(text.split()) for text in pdf_pages(coursework.pdf(format="A4"))]
    for number, caption in enumerate(captions(coursework), start=1):
        carrying = [text for text in pages if f"Figure {number}. {caption}" in text]
        assert len(carrying) == 1, caption
    assert "Opacity" not in " ".join(pages)


def test_figures_on_the_next_page_are_not_numbered_from_one_again(
    open_report: Open, coloured: Path
) -> None:
    page = open_report(coloured, link="#v=tables")
    page.wait_for_selector(".course-table")
    shown = texts(page, ".course-table figcaption strong")
    before = captions(page)
    page.click("[data-focus=page-next]")
    until(page, "document.querySelector('.pager span').textContent.startsWith('Page 2 of ')")
    until(page, f"document.querySelector('.caption').textContent !== {before[0]!r}", True)
    assert set(shown).isdisjoint(texts(page, ".course-table figcaption strong"))


def test_a_rewritten_caption_belongs_to_the_images_of_its_page(
    open_report: Open, coloured: Path
) -> None:
    page = open_report(coloured, link="#v=tables&tb=methods")
    page.wait_for_selector(".course-table")
    page.locator(".caption").fill("Grad-CAM and LayerCAM for images 1 to 10")
    page.click("[data-focus=page-next]")
    until(page, "document.querySelector('.pager span').textContent", "Page 2 of 12")
    assert "images 1 to 10" not in page.inner_text(".course-table .caption")


@pytest.mark.parametrize(
    ("which", "choose"),
    [
        ("wrong", lambda images: [image for image in images if image.top[0].index != image.label]),
        ("3", lambda images: images[:3]),
        ("pinned", lambda images: [images[7], images[2]]),
    ],
)
def test_figures_are_of_the_images_that_are_chosen(
    open_report: Open,
    coloured: Path,
    which: str,
    choose: Callable[[list[ImageEntry]], list[ImageEntry]],
) -> None:
    pins = "7.0.grad_cam.features.3~2.1.layer_cam.features.3~7.1.grad_cam.features.3"
    page = open_report(coloured, link=f"#v=tables&tb=methods&p={pins}")
    page.wait_for_selector(".course-table")
    wanted = choose(list(load_results(coloured).images))
    page.select_option("[data-focus=figuresOf]", which)
    rows = ".course-table tbody th bdi"
    until(page, f"document.querySelector('{rows}').textContent", wanted[0].file)
    pages = -(-len(wanted) // 10)
    shown = texts(page, f"{rows}:first-child")
    for to in range(2, pages + 1):
        page.click("[data-focus=page-next]")
        until(page, "document.querySelector('.pager span').textContent", f"Page {to} of {pages}")
        until(page, f"document.querySelector('{rows}').textContent", wanted[10 * to - 10].file)
        shown += texts(page, f"{rows}:first-child")
    assert [name for name in shown if "/" in name] == [image.file for image in wanted]
    assert fields(page)["fo"] == which


def test_figures_follow_the_query_and_say_how_many(open_report: Open, coloured: Path) -> None:
    page = open_report(coloured, link="#v=tables&tb=methods&q=is:red")
    page.wait_for_selector(".course-table")
    offered = texts(page, "[data-focus=figuresOf] option")
    assert offered[0] == "found by the query (30)"
    wrong = [i for i in load_results(coloured).images if i.label == 0 and i.top[0].index != 0]
    assert f"wrong ({len(wrong)})" in offered
    assert page.inner_text(".pager span") == "Page 1 of 3"


def test_tables_use_the_width_and_print_maps_of_forty_millimetres(coursework: Page) -> None:
    box = "all => all.map(e => e.getBoundingClientRect().width)"
    course, first = (
        coursework.eval_on_selector_all(selector, box)
        for selector in (".course", ".course-table .matrix")
    )
    assert first[0] > 0.48 * course[0], "two tables stand side by side"
    coursework.set_viewport_size({"width": round(182 * 96 / 25.4), "height": 1000})
    coursework.emulate_media(media="print")
    coursework.evaluate("dispatchEvent(new Event('beforeprint'))")
    widths = coursework.eval_on_selector_all(".course-table td .frame", box)
    assert min(widths) >= 40 * 96 / 25.4 - 0.5
    tables = coursework.eval_on_selector_all(".course-table .matrix", box)
    assert min(tables) > 0.98 * 182 * 96 / 25.4


def test_numbers_of_figures_run_upward(coursework: Page) -> None:
    found = [int(text[7:-1]) for text in texts(coursework, ".course-table figcaption strong")]
    assert all(later == earlier + 1 for earlier, later in pairwise(found))
