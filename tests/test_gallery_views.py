"""The overview of many images, and the tables of a paper."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import browser
from helpers.browser import Open, draw, pdf_pages, pixels_of, until
from helpers.page_steps import fields, go, texts
from helpers.pictures import heat_pixels
from helpers.small import small_model
from PIL import Image
from playwright.sync_api import Page

import camreport
from camreport.report.heatmap import (
    quantise,
)
from camreport.results.reader import load_results
from camreport.results.schema import ImageEntry, Prediction

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not browser.required() and browser.chromium() is None, reason="no Chromium here"
    ),
]

COLOURS = ("red", "green", "blue", "grey")


# Overview


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on 120 tiny images in folders named by their classes."""
    folder = tmp_path_factory.mktemp("many")
    model = small_model(COLOURS)
    drawn = np.random.default_rng(5)
    inputs = []
    for number in range(120):
        base = drawn.uniform(0, 255, 3)
        pixels = np.clip(drawn.normal(base, 60, (20, 24, 3)), 0, 255).astype(np.uint8)
        place = folder / COLOURS[number % 4]
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(place / f"img{number}.png")
        inputs.append(model.preprocessing.apply(Image.fromarray(pixels)))
    with torch.no_grad():  # so that all classes win, with all confidences
        model.module.head.weight *= 40  # type: ignore[union-attr, operator]
        logits = model.module(torch.from_numpy(np.stack(inputs)))
        model.module.head.bias -= logits.mean(0)  # type: ignore[union-attr, operator]
    out = tmp_path_factory.mktemp("report") / "g"
    camreport.run(folder, out, model=model, layers=["features.3"], classes="top3", labels="folder")
    return out


def by_number(file: str) -> list[Any]:
    """Return what names are sorted by: their numbers are numbers."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file)]


def first(image: ImageEntry) -> Prediction:
    return image.top[0]


def tiles(page: Page) -> list[str]:
    return texts(page, ".tile .name")


def count_words(page: Page) -> str:
    return page.inner_text("[role=status].hint >> visible=true")


def test_overview_is_what_a_report_of_many_images_opens_with(open_report: Open, many: Path) -> None:
    page = open_report(many)
    page.wait_for_selector(".view-overview")
    records = load_results(many).images
    assert tiles(page) == [record.file for record in records[:100]]
    assert count_words(page) == "120 of 120 images"
    assert page.inner_text(".pager span") == "Page 1 of 2"
    assert page.is_disabled("[data-focus=page-previous]")
    page.click("[data-focus=page-next]")
    until(page, "document.querySelectorAll('.tile').length", 20)
    assert tiles(page) == [record.file for record in records[100:]]
    assert page.is_disabled("[data-focus=page-next]")
    page.go_back()
    until(page, "document.querySelectorAll('.tile').length", 100)


@pytest.mark.parametrize(
    ("order", "key"),
    [
        ("order", lambda record: record.index),
        ("name", lambda record: by_number(record.file)),
        ("confident", lambda record: -first(record).probability),
        ("doubtful", lambda record: first(record).probability),
        ("class", lambda record: (first(record).index, -first(record).probability)),
    ],
)
def test_overview_sorts_as_python_does(open_report: Open, many: Path, order: str, key: Any) -> None:
    page = open_report(many)
    page.wait_for_selector(".view-overview")
    page.select_option("[data-focus=sort]", order)
    wanted = [record.file for record in sorted(load_results(many).images, key=key)]
    until(page, "document.querySelector('.tile .name').textContent", wanted[0])
    assert tiles(page) == wanted[:100]
    page.click("[data-focus=page-next]")
    until(page, "document.querySelectorAll('.tile').length", 20)
    assert tiles(page) == wanted[100:]


def test_overview_filters_by_predicted_class(open_report: Open, many: Path) -> None:
    records = load_results(many).images
    counts = [sum(first(record).index == index for record in records) for index in range(4)]
    assert sum(count > 0 for count in counts) >= 2
    page = open_report(many)
    page.wait_for_selector(".view-overview")
    offered = texts(page, "[data-focus=predicted] option")
    assert offered == ["any", *(COLOURS[i] for i, count in enumerate(counts) if count)]
    for index, count in enumerate(counts):
        if count:
            page.select_option("[data-focus=predicted]", str(index))
            until(page, "document.querySelectorAll('.tile').length", min(count, 100))
            wanted = [r.file for r in records if first(r).index == index]
            assert tiles(page) == wanted[:100]
            assert count_words(page) == f"{count} of 120 images"


def test_overview_filters_by_confidence(open_report: Open, many: Path) -> None:
    shares = {r.file: first(r).probability for r in load_results(many).images}
    low, high = (round(float(np.quantile([*shares.values()], q)), 2) for q in (0.3, 0.8))
    page = open_report(many)
    page.wait_for_selector(".view-overview")
    page.fill("[data-focus=low]", str(round(low * 100)))
    wanted = [file for file, share in shares.items() if low <= share]
    until(page, "document.querySelectorAll('.tile').length", min(len(wanted), 100))
    assert tiles(page) == wanted[:100]
    page.fill("[data-focus=high]", str(round(high * 100)))
    wanted = [file for file, share in shares.items() if low <= share <= high]
    assert 0 < len(wanted) < 100
    until(page, "document.querySelectorAll('.tile').length", len(wanted))
    assert tiles(page) == wanted
    assert count_words(page) == f"{len(wanted)} of 120 images"
    assert page.get_attribute("[data-focus=low]", "aria-valuetext") == f"{low:.2f}"
    assert page.locator(".pager").count() == 0


def test_overview_filters_by_file_name_and_keeps_the_focus(open_report: Open, many: Path) -> None:
    page = open_report(many)
    page.wait_for_selector(".view-overview")
    page.click("[data-focus=text]")
    page.keyboard.type("RED/img1", delay=20)
    wanted = [r.file for r in load_results(many).images if "red/img1" in r.file]
    until(page, "document.querySelectorAll('.tile').length", len(wanted))
    assert tiles(page) == wanted
    assert page.input_value("[data-focus=text]") == "RED/img1"
    assert page.evaluate("document.activeElement.dataset.focus") == "text"
    page.keyboard.type("nothing like it")
    until(page, "document.querySelectorAll('.tile').length", 0)
    assert count_words(page) == "0 of 120 images"


@pytest.mark.parametrize("judged", ["right", "wrong"])
def test_overview_filters_by_right_and_wrong(open_report: Open, many: Path, judged: str) -> None:
    records = load_results(many).images
    right = [first(record).index == record.label for record in records]
    wanted = [
        r.file
        for r, is_right in zip(records, right, strict=True)
        if is_right == (judged == "right")
    ]
    assert 0 < len(wanted) < 120
    page = open_report(many)
    page.wait_for_selector(".view-overview")
    page.select_option("[data-focus=judged]", judged)
    until(page, "document.querySelectorAll('.tile').length", min(len(wanted), 100))
    assert tiles(page) == wanted[:100]
    assert all(text.startswith(("✓ right", "✗ wrong")) for text in texts(page, ".tile .badge"))
    assert all(judged in text for text in texts(page, ".tile .badge"))
    assert count_words(page) == f"{len(wanted)} of 120 images"


def test_filters_work_together_and_are_in_the_link(open_report: Open, many: Path) -> None:
    records = load_results(many).images
    index = first(records[0]).index
    wanted = [
        r.file
        for r in sorted(records, key=lambda r: first(r).probability)
        if first(r).index == index and "img1" in r.file and first(r).index != r.label
    ]
    assert wanted
    link = f"#v=overview&q=img1&f={index}&j=wrong&s=doubtful"
    page = open_report(many, link=link)
    page.wait_for_selector(".view-overview")
    assert tiles(page) == wanted
    assert page.input_value("[data-focus=sort]") == "doubtful"
    assert page.input_value("[data-focus=predicted]") == str(index)
    go(page, f"v=matrix&q=img1&f={index}&j=wrong&s=doubtful", "matrix")
    assert texts(page, "[data-focus=choose-image] option") == wanted  # the filter holds there too


def test_overview_tile_is_the_map_of_the_chosen_method(open_report: Open, many: Path) -> None:
    page = open_report(many)
    page.wait_for_selector(".view-overview")
    results = load_results(many)
    page.select_option("[data-focus=choose-method]", "layer_cam")
    cell = '.cell[data-id="3.0.layer_cam.features.3"]'
    page.wait_for_selector(cell)
    draw(page, f"{cell} .frame")
    cam = quantise(results.arrays(3)["layer_cam/features.3"][0])
    if cam.state == "positive":
        width, height = 160, round(160 * 20 / 24)
        drawn = pixels_of(page, f"{cell} canvas.heat")
        np.testing.assert_array_equal(drawn, heat_pixels(cam, height, width))
    page.click(".tile .name >> nth=3")
    page.wait_for_selector(".view-matrix")
    assert fields(page)["i"] == "3"


# Tables


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
                row.children[0].textContent, row.querySelectorAll("img[alt]:not([alt=''])").length,
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
            assert figure["head"][:2] == ["Layer", "original"]
            assert [re.sub(r" \(.*", "", head) for head in figure["head"][2:]] == ["cat", "dog"]
            own = [*layers, "fused"] if f"{key}/fused" in results.arrays(image) else layers
            assert figure["rows"] == [
                [layer, 1, [f"{image}.{rank}.{key}.{layer}" for rank in (0, 1)]] for layer in own
            ]
    best = [first(record).index for record in results.images]
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


def test_captions_are_kept_printed_and_reset(coursework: Page) -> None:
    page, own = coursework, "My own words, “so”: <b>both</b> & more"
    before = captions(page)
    page.locator(".caption >> nth=1").fill(own)
    page.reload()
    page.wait_for_selector(".course-table")
    assert captions(page) == [before[0], own, *before[2:]]
    assert page.locator(".caption b").count() == 0
    printed = "\n".join(pdf_pages(page.pdf(format="A4")))
    assert own in " ".join(printed.split())
    assert before[1] not in " ".join(printed.split())
    page.click("[data-focus=reset]")
    until(page, "document.querySelectorAll('.caption')[1].textContent", before[1])
    page.reload()
    page.wait_for_selector(".course-table")
    assert captions(page) == before


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


def test_captions_of_two_reports_are_kept_apart(open_report: Open, demo: Path, many: Path) -> None:
    keys = []
    for out in (demo, many):
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
    open_report: Open, many: Path
) -> None:
    page = open_report(many, link="#v=tables")
    page.wait_for_selector(".course-table")
    shown = texts(page, ".course-table figcaption strong")
    before = captions(page)
    page.click("[data-focus=page-next]")
    until(page, "document.querySelector('.pager span').textContent.startsWith('Page 2 of ')")
    until(page, f"document.querySelector('.caption').textContent !== {before[0]!r}", True)
    assert set(shown).isdisjoint(texts(page, ".course-table figcaption strong"))


def test_a_rewritten_caption_belongs_to_the_images_of_its_page(
    open_report: Open, many: Path
) -> None:
    page = open_report(many, link="#v=tables&tb=methods")
    page.wait_for_selector(".course-table")
    page.locator(".caption").fill("Grad-CAM and LayerCAM for images 1 to 25")
    page.click("[data-focus=page-next]")
    until(page, "document.querySelector('.pager span').textContent", "Page 2 of 5")
    assert "images 1 to 25" not in page.inner_text(".course-table .caption")


def test_numbers_of_figures_run_upward(coursework: Page) -> None:
    found = [int(text[7:-1]) for text in texts(coursework, ".course-table figcaption strong")]
    assert all(later == earlier + 1 for earlier, later in pairwise(found))
