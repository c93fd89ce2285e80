"""The default report on paper: a page for each image, and every view in as few as read well."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.browser import pdf_pages, settle, until
from helpers.checkout import INPUTS

import camreport

if TYPE_CHECKING:
    from helpers.browser import Open
    from playwright.sync_api import Page

FILES = ("both.jpg", "cat.jpg", "dog.jpg")
PINS = "0.1.grad_cam.features.12~0.1.layer_cam.features.12"


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the coursework asks for: the default methods and layers, and 256 channels."""
    out = tmp_path_factory.mktemp("course") / "g"
    camreport.run(INPUTS, out, channels=["features.10"])
    return out


def printed(page: "Page", view: str) -> list[str]:
    """Return the text of the pages that a view gives."""
    page.wait_for_selector(f".view-{view}")
    until(page, "[...document.images].every(image => image.complete)")
    settle(page)
    return [" ".join(text.split()) for text in pdf_pages(page.pdf(format="A4"))]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_each_image_has_one_page_with_caption_and_colour_bar(
    open_report: "Open", course: Path, language: str
) -> None:
    pages = printed(open_report(course, link=f"#lang={language}"), "matrix")
    assert len(pages) == 2 + 2 * len(FILES) + 2, (
        "cover, evidence, maps and channels of each, methods, model"
    )
    bar, figure = {"en": ("each map’s maximum", "Figure"), "zh": ("每张热力图的最大值", "图")}[
        language
    ]
    for number, (file, text) in enumerate(zip(FILES, pages[2::2], strict=False)):
        assert file in text
        assert f"{figure} {2 * number + 1}" in text
        assert bar in text


MILLIMETRE = 96 / 25.4


def test_maps_on_paper_are_at_least_40_millimetres_wide(
    open_report: "Open", course: Path, everything: Path
) -> None:
    paper = int((210 - 2 * 12) * MILLIMETRE)
    for out in (course, everything):
        page = open_report(out, width=paper)
        page.wait_for_selector(".view-matrix")
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        widths = page.eval_on_selector_all(
            "#paper .sheet .matrix td :is(canvas, img)",
            "all => all.map(e => e.getBoundingClientRect().width)",
        )
        assert len(widths) > 20
        assert min(widths) >= 40 * MILLIMETRE - 1


def test_the_first_table_stands_on_the_first_page(open_report: "Open", course: Path) -> None:
    pages = printed(open_report(course, link="#v=tables"), "tables")
    assert "Figure 1. both.jpg: Grad-CAM for cat and dog," in pages[0]
    assert all("Figure" in text for text in pages)


def test_channels_are_printed_in_one_piece_and_named(open_report: "Open", course: Path) -> None:
    pages = printed(open_report(course, link="#v=channels"), "channels")
    assert len(pages) == 1
    assert "both.jpg · features.10 · Conv2d, read after ReLU · 256 × 13 × 13" in pages[0]
    numbers = set(pages[0].split())
    assert {str(channel) for channel in range(256)} <= numbers
    assert "pick channels" not in pages[0]
    assert "cat.jpg" not in pages[0], "the images to choose from stay on the screen"
    picked = printed(open_report(course, link="#v=channels&k=1&ch=0-1-2"), "channels")
    assert "The weighted sum of 3 of 256 channels for class dog" in " ".join(picked)


def test_a_comparison_is_one_page_without_what_moves(open_report: "Open", course: Path) -> None:
    pages = printed(open_report(course, link=f"#v=compare&p={PINS}"), "compare")
    assert len(pages) == 1
    assert "A minus B" in pages[0]
    assert "take turns" not in pages[0]


def test_parts_of_a_figure_say_which_class_and_methods_they_show(
    open_report: "Open", everything: Path
) -> None:
    pages = printed(open_report(everything), "matrix")
    text = " ".join(pages).replace("- ", "-")  # where a line breaks in Grad-CAM
    assert "For class cat: Grad-CAM, Grad-CAM++" in text
    assert "For class dog: Grad-CAM, Grad-CAM++" in text
    assert "For any class: Eigen-CAM." in text
    for page in pages:
        assert page.count("each map’s maximum") == len(re.findall(r"Figure \d+\.", page))


def test_a_map_of_the_input_alone_is_captioned_so(open_report: "Open", everything: Path) -> None:
    page = open_report(everything, link="#v=tables&tb=classes")
    page.wait_for_selector(".course-table")
    captions = page.eval_on_selector_all(".caption", "all => all.map(e => e.textContent)")
    assert "both.jpg: FullGrad for cat and dog, at input." in captions
    assert "both.jpg: Grad-CAM for cat and dog, from the first layer to the last." in captions


def test_tables_name_the_layer_before_the_pooling_as_the_last_shown(
    open_report: "Open", course: Path
) -> None:
    page = open_report(course, link="#v=tables&tb=depth")
    page.wait_for_selector(".course-table")
    said = page.inner_text(".course-table .caption >> nth=0")
    assert "features.9 (ReLU), the last layer shown before the pooling" in said
