"""The images of a report at a glance: asked for by a query that every control writes too."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import browser
from helpers.browser import Open, axe, draw, pixels_of, until
from helpers.coloured import COLOURS
from helpers.page_steps import fields, focused, go, texts
from helpers.pictures import heat_pixels
from playwright.sync_api import Page

from camreport.insight.atlas import atlas_of
from camreport.insight.columns import image_columns, placement_columns
from camreport.report.heatmap import quantise
from camreport.results.reader import load_results
from camreport.results.schema import ImageEntry, Prediction

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not browser.required() and browser.chromium() is None, reason="no Chromium here"
    ),
]

BINS = 20


def by_number(file: str) -> list[Any]:
    """Return what names are sorted by: their numbers are numbers."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file)]


def first(image: ImageEntry) -> Prediction:
    return image.top[0]


def is_right(image: ImageEntry) -> bool:
    return first(image).index == image.label


def outcome(image: ImageEntry) -> tuple[str, str]:
    """Return the true and the predicted class."""
    assert image.label is not None
    return COLOURS[image.label], first(image).name


def files(images: list[ImageEntry]) -> list[str]:
    return [image.file for image in images]


def opened(open_report: Open, out: Path, link: str = "", **options: Any) -> Page:
    page = open_report(out, link=f"#v=overview{link}", **options)
    page.wait_for_selector(".view-overview")
    return page


def tiles(page: Page) -> list[str]:
    return texts(page, ".tile .name")


def query(page: Page) -> str:
    return page.input_value("[data-focus=query]")


def shows(page: Page, wanted: list[ImageEntry], of: int = 120) -> None:
    """Wait until the page shows the images that are wanted, and says how many they are."""
    until(page, "document.querySelector('.found').textContent", f"{len(wanted)} of {of} images")
    assert tiles(page) == files(wanted)[:100]


def counts(page: Page, kind: str) -> dict[str, int]:
    """Return the counts beside the choices of a kind, ``right``, ``class`` or ``is``."""
    entries = page.locator(f".facet li:has([data-focus^='{kind} '])").all_inner_texts()
    pairs = [entry.split("\n") for entry in entries]
    return {name: int(count) for name, count in pairs}


def bars(page: Page) -> list[tuple[int, int]]:
    """Return how many right and wrong images each bar of the histogram stands for."""
    titles = page.locator(".bins span").evaluate_all("all => all.map(bar => bar.title)")
    found = [re.fullmatch(r".*: (\d+) right, (\d+) wrong", title) for title in titles]
    return [(int(one[1]), int(one[2])) for one in found if one]


def test_images_come_in_pages(open_report: Open, coloured: Path) -> None:
    page = opened(open_report, coloured)
    records = list(load_results(coloured).images)
    shows(page, records)
    assert page.inner_text(".pager span") == "Page 1 of 2"
    assert page.is_disabled("[data-focus=page-previous]")
    page.click("[data-focus=page-next]")
    until(page, "document.querySelectorAll('.tile').length", 20)
    assert tiles(page) == files(records[100:])
    assert page.is_disabled("[data-focus=page-next]")
    page.go_back()
    until(page, "document.querySelectorAll('.tile').length", 100)


@pytest.mark.parametrize(
    ("order", "up", "key"),
    [
        ("order", None, lambda record: record.index),
        ("name", None, lambda record: by_number(record.file)),
        ("class", None, lambda record: (first(record).index, -first(record).probability)),
        ("p", False, lambda record: -first(record).probability),
        ("p", True, lambda record: first(record).probability),
        (
            "margin",
            True,
            lambda record: round(first(record).probability - record.top[1].probability, 3),
        ),
    ],
)
def test_images_are_sorted_as_python_sorts(
    open_report: Open, coloured: Path, order: str, up: bool | None, key: Any
) -> None:
    page = opened(open_report, coloured)
    assert page.is_hidden("[data-focus=direction]")
    page.select_option("[data-focus=sort]", order)
    assert page.is_visible("[data-focus=direction]") == (up is not None)
    if up:
        page.click("[data-focus=direction]")
    wanted = sorted(load_results(coloured).images, key=key)
    until(page, "document.querySelector('.tile .name').textContent", wanted[0].file)
    shows(page, wanted)
    page.click("[data-focus=page-next]")
    until(page, "document.querySelectorAll('.tile').length", 20)
    assert tiles(page) == files(wanted[100:])


def test_every_number_of_the_images_sorts_them_and_can_be_asked_for(
    open_report: Open, coloured: Path
) -> None:
    page = opened(open_report, coloured)
    alone = page.locator("[data-focus=sort] > option")  # what no question of the evidence groups
    offered = alone.evaluate_all("all => all.map(o => o.value)")
    assert offered[:4] == ["order", "name", "class", "p"]
    placed = {"border.grad_cam", "deviation.grad_cam"}
    assert set(offered[4:]) == {"margin", "disagreement", "overlap", "outlier", *placed}
    areas = page.locator("[data-focus=sort] > optgroup > option[value^='area.']")
    assert areas.evaluate_all("all => all.map(o => o.value)") == ["area.grad_cam", "area.layer_cam"]
    results = load_results(coloured)
    there = {**image_columns(results, "features.3"), **placement_columns(results)}
    atlas = atlas_of(results)
    assert atlas is not None
    far = {one.image: one.distance for own in atlas.classes for one in own.outliers}
    there["outlier"] = [far.get(record.index) for record in results.images]
    for name in ("area.layer_cam", "outlier", *sorted(placed)):
        middle = round(float(np.median([own for own in there[name] if own is not None])), 3)
        page.fill("[data-focus=query]", f"{name}>{middle}")
        wanted = [
            record
            for record, own in zip(results.images, there[name], strict=True)
            if own is not None and round(own, 3) > middle
        ]
        assert 0 < len(wanted) < 120, name
        shows(page, wanted)


def test_choices_of_classes_have_counts_and_write_the_query(
    open_report: Open, coloured: Path
) -> None:
    records = list(load_results(coloured).images)
    page = opened(open_report, coloured)
    predicted = Counter(first(record).name for record in records)
    assert counts(page, "class") == dict(predicted)
    assert list(counts(page, "class").values()) == sorted(predicted.values(), reverse=True)
    assert counts(page, "is") == dict.fromkeys(COLOURS, 30)
    page.check("[data-focus='class red']")
    assert query(page) == "class:red"
    red = [record for record in records if first(record).name == "red"]
    shows(page, red)
    assert counts(page, "class") == dict(predicted), "what the other choices would give"
    truth = Counter(outcome(record)[0] for record in red)
    assert counts(page, "is") == {name: truth[name] for name in COLOURS}
    page.check("[data-focus='class blue']")
    assert query(page) == "class:red,blue"
    shows(page, [record for record in records if first(record).name in ("red", "blue")])
    page.check("[data-focus='is grey']")
    assert query(page) == "class:red,blue is:grey"
    page.uncheck("[data-focus='class red']")
    assert query(page) == "class:blue is:grey"
    shows(page, [record for record in records if outcome(record) == ("grey", "blue")])
    page.go_back()
    until(page, "document.querySelector('[data-focus=query]').value", "class:red,blue is:grey")


def test_handles_keep_the_images_between_them(open_report: Open, coloured: Path) -> None:
    records = list(load_results(coloured).images)
    shares = [first(record).probability for record in records]
    low, high = (round(float(np.quantile(shares, q)), 2) for q in (0.3, 0.8))
    page = opened(open_report, coloured)
    page.focus("[data-focus=low]")
    least = int(page.get_attribute("[data-focus=low]", "min") or "")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert query(page) == f"p>={(least + 3) / 100}"
    assert focused(page) == "low"
    page.fill("[data-focus=low]", str(round(low * 100)))
    shows(page, [record for record in records if low <= first(record).probability])
    assert query(page) == f"p>={low}"
    page.fill("[data-focus=high]", str(round(high * 100)))
    wanted = [record for record in records if low <= first(record).probability <= high]
    assert 0 < len(wanted) < 100
    shows(page, wanted)
    assert query(page) == f"p>={low} p<={high}"
    assert page.get_attribute("[data-focus=low]", "aria-valuetext") == f"{low:.2f}"
    assert page.locator(".pager").count() == 0
    page.focus("[data-focus=low]")
    page.keyboard.press("End")
    until(page, "document.querySelector('[data-focus=query]').value", "p>=1")
    page.fill("[data-focus=query]", "right:no")
    assert page.input_value("[data-focus=low]") == str(least)
    assert page.input_value("[data-focus=high]") == "100"


def test_a_pointer_brushes_over_the_bars(open_report: Open, coloured: Path) -> None:
    records = list(load_results(coloured).images)
    page = opened(open_report, coloured)
    least = int(page.get_attribute("[data-focus=low]", "min") or "") / 100
    box = page.locator(".bins").bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.75, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, y)
    page.mouse.move(box["x"] + box["width"] * 0.25, y)
    assert query(page) == "", "until the pointer is up"
    page.mouse.up()
    terms = re.fullmatch(r"p>=([\d.]+) p<=([\d.]+)", query(page))
    assert terms
    low, high = float(terms[1]), float(terms[2])
    assert low == pytest.approx(least + 0.25 * (1 - least), abs=0.011)
    assert high == pytest.approx(least + 0.75 * (1 - least), abs=0.011)
    shows(page, [record for record in records if low <= first(record).probability <= high])
    page.mouse.click(box["x"] + box["width"] * 0.99, y)
    start = round(1 - (1 - least) / BINS, 2)
    until(page, "document.querySelector('[data-focus=query]').value", f"p>={start}")


def test_bars_count_right_and_wrong_among_what_else_is_asked_for(
    open_report: Open, coloured: Path
) -> None:
    records = list(load_results(coloured).images)
    page = opened(open_report, coloured)
    least = int(page.get_attribute("[data-focus=low]", "min") or "") / 100

    def histogram(images: list[ImageEntry]) -> list[int]:
        shares = [first(image).probability for image in images]
        return np.histogram(shares, BINS, (least, 1))[0].tolist()

    right = [record for record in records if is_right(record)]
    wrong = [record for record in records if not is_right(record)]
    assert bars(page) == list(zip(histogram(right), histogram(wrong), strict=True))
    page.fill("[data-focus=query]", "is:red p<0.5")
    red = [record for record in records if outcome(record)[0] == "red"]
    shows(page, [record for record in red if first(record).probability < 0.5])
    right = [record for record in red if is_right(record)]
    wrong = [record for record in red if not is_right(record)]
    assert bars(page) == list(zip(histogram(right), histogram(wrong), strict=True))


def test_a_part_of_a_name_is_found_while_it_is_typed(open_report: Open, coloured: Path) -> None:
    page = opened(open_report, coloured)
    page.click("[data-focus=query]")
    page.keyboard.type("RED/img1", delay=20)
    records = list(load_results(coloured).images)
    shows(page, [record for record in records if "red/img1" in record.file])
    assert (query(page), focused(page)) == ("RED/img1", "query")
    page.keyboard.type("nothing")
    until(page, "document.querySelectorAll('.tile').length", 0)
    assert page.inner_text(".found") == "0 of 120 images"
    page.click("[data-focus=reset-filter]")
    shows(page, records)
    assert query(page) == ""


@pytest.mark.parametrize("right", [True, False])
def test_only_mistakes_are_marked(open_report: Open, coloured: Path, right: bool) -> None:
    records = list(load_results(coloured).images)
    page = opened(open_report, coloured)
    amounts = Counter(is_right(record) for record in records)
    assert counts(page, "right") == {"wrong": amounts[False], "right": amounts[True]}
    word = "yes" if right else "no"
    page.check(f"[data-focus='right {word}']")
    assert query(page) == f"right:{word}"
    wanted = [record for record in records if is_right(record) == right]
    shows(page, wanted)
    marked = [] if right else [f"✗ is {outcome(record)[0]}" for record in wanted[:100]]
    assert texts(page, ".tile .wrong") == marked


def test_chips_say_what_is_asked_for_and_take_it_away(open_report: Open, coloured: Path) -> None:
    page = opened(open_report, coloured, "&q=right:no+class:red,blue+p<0.75+img")
    chips = [text.removesuffix("×").strip() for text in texts(page, ".chip")]
    assert chips == ["wrong", "predicted red or blue", "confidence < 0.75", "name has img"]
    names = page.locator(".chip").evaluate_all("all => all.map(chip => chip.ariaLabel)")
    assert names[0] == "Remove the filter: wrong"
    page.click(".chip >> nth=1")
    until(page, "document.querySelector('[data-focus=query]').value", "right:no p<0.75 img")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('[data-focus=query]').value", "right:no p<0.75")
    page.focus(".chip >> nth=0")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('[data-focus=query]').value", "")
    assert focused(page) == "query", "no chip is left"
    page.go_back()
    until(page, "document.querySelectorAll('.chip').length", 1)


def test_a_mistake_is_told_and_the_other_terms_act(open_report: Open, coloured: Path) -> None:
    records = list(load_results(coloured).images)
    page = opened(open_report, coloured)
    page.fill("[data-focus=query]", "class:rad right：no")
    wrong = [record for record in records if not is_right(record)]
    shows(page, wrong)
    told = page.inner_text("#query-mistakes")
    assert told.startswith("class:rad: no class is called rad; there are red, green, blue, grey.")
    assert page.get_attribute("[data-focus=query]", "aria-invalid") == "true"
    page.fill("[data-focus=query]", "sise<3 p:2")
    shows(page, records)
    told = page.inner_text("#query-mistakes")
    assert "sise<3: sise is no number; there are p, " in told
    assert "p:2: a number is compared, as in p<0.6." in told
    page.fill("[data-focus=query]", "")
    until(page, "document.getElementById('query-mistakes').textContent", "")
    assert page.get_attribute("[data-focus=query]", "aria-invalid") == "false"


def test_groups_are_the_cells_of_the_confusion_matrix(open_report: Open, coloured: Path) -> None:
    records = list(load_results(coloured).images)
    page = opened(open_report, coloured, "&s=p.down")
    page.select_option("[data-focus=group]", "outcome")
    page.wait_for_selector(".group")
    cells = Counter(outcome(record) for record in records)
    wrong = sorted((n for (is_, seen), n in cells.items() if is_ != seen), reverse=True)
    right = sorted((n for (is_, seen), n in cells.items() if is_ == seen), reverse=True)
    page.click("[data-focus=page-next]")
    until(page, "document.querySelectorAll('.tile').length", 20)
    page.click("[data-focus=page-previous]")
    until(page, "document.querySelectorAll('.tile').length", 100)
    heads = page.locator("h3.group").all_inner_texts()
    amounts = [int(head.rsplit(" ", 1)[1]) for head in heads]
    assert amounts == (wrong + right)[: len(amounts)]
    (true, seen), count = max(
        ((cell, n) for cell, n in cells.items() if cell[0] != cell[1]), key=lambda one: one[1]
    )
    named = f"✗ Is {true}, predicted {seen} {count}"
    assert named in heads
    page.click(f"h3.group:has-text('Is {true}, predicted {seen}') a")
    until(page, "document.querySelector('[data-focus=query]').value", f"class:{seen} is:{true}")
    wanted = [record for record in records if outcome(record) == (true, seen)]
    shows(page, sorted(wanted, key=lambda record: -first(record).probability))
    page.go_back()
    page.wait_for_selector(".group")
    page.select_option("[data-focus=group]", "class")
    until(page, "document.querySelector('h3.group').innerText.startsWith('Predicted ')")
    classes = [head.split(" ")[1] for head in page.locator("h3.group").all_inner_texts()]
    assert classes == [name for name in COLOURS if name in classes], "in the model's order"


def test_a_link_keeps_the_query_and_other_views_follow_it(
    open_report: Open, coloured: Path
) -> None:
    records = list(load_results(coloured).images)
    name = first(records[0]).name
    wanted = [
        record
        for record in sorted(records, key=lambda record: first(record).probability)
        if first(record).name == name and "img1" in record.file and not is_right(record)
    ]
    assert wanted
    link = f"&q=img1+class:{name}+right:no&s=p.up&de=s"
    page = opened(open_report, coloured, link)
    shows(page, wanted)
    assert query(page) == f"img1 class:{name} right:no"
    assert page.input_value("[data-focus=sort]") == "p"
    assert page.get_attribute("[data-focus=direction]", "aria-pressed") == "true"
    assert page.input_value("[data-focus=density]") == "0"
    assert page.is_checked("[data-focus='right no']")
    go(page, f"v=matrix{link}", "matrix")
    assert texts(page, "[data-focus=choose-image] option") == files(wanted)
    other = next(record for record in records if record not in wanted)
    go(page, f"v=matrix&i={other.index}{link}", "matrix")
    shown = "new URLSearchParams(location.hash.slice(1)).get('i')"
    for following in wanted[:2]:
        page.click("[data-focus=next-image]")
        until(page, f"{shown} ?? '0'", str(following.index))


def test_tile_is_the_map_of_the_chosen_method_and_leads_to_all(
    open_report: Open, coloured: Path
) -> None:
    page = opened(open_report, coloured)
    results = load_results(coloured)
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


def test_tiles_that_stay_are_not_built_anew(open_report: Open, coloured: Path) -> None:
    page = opened(open_report, coloured)
    records = list(load_results(coloured).images)
    mark = "document.querySelectorAll('.tile').forEach(tile => { tile.marked = true; })"
    count = "[...document.querySelectorAll('.tile')].filter(tile => tile.marked).length"
    page.evaluate(mark)
    page.fill("[data-focus=density]", "0")
    until(page, "document.querySelector('.results').dataset.size", "s")
    assert page.evaluate(count) == 100
    page.fill("[data-focus=query]", "right:no")
    wanted = [record for record in records if not is_right(record)]
    shows(page, wanted)
    kept = sum(not is_right(record) for record in records[:100])
    assert page.evaluate(count) == kept
    page.select_option("[data-focus=sort]", "p")
    until(page, "document.querySelector('.tile .name').textContent !== ''")
    assert page.evaluate(count) == kept


@pytest.mark.parametrize(
    ("width", "height", "most"), [(1440, 900, 200), (1024, 768, 200), (390, 844, 300)]
)
def test_the_first_tile_is_near_the_top_and_few_tabs_away(
    open_report: Open, coloured: Path, width: int, height: int, most: int
) -> None:
    page = opened(open_report, coloured, width=width, height=height)
    page.wait_for_selector(".tile .frame")
    assert page.evaluate("document.querySelector('.tile .frame').getBoundingClientRect().y") <= most
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    stops = 0
    while not page.evaluate("document.activeElement.matches('.tile .cell')"):
        page.keyboard.press("Tab")
        stops += 1
        assert stops <= 11, "at most ten before it"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.matches('.tile:nth-child(2) .cell')")
    page.keyboard.press("End")
    page.keyboard.press("Tab")
    assert not page.evaluate("document.activeElement.matches('.tile *')"), "one stop for all"


def test_filters_are_a_sheet_where_the_page_is_narrow(open_report: Open, coloured: Path) -> None:
    page = opened(open_report, coloured, width=390, height=844)
    assert page.is_hidden("#rail")
    page.click("[data-focus=rail]")
    page.wait_for_selector("#rail:popover-open")
    page.check("[data-focus='right no']")
    assert query(page) == "right:no"
    assert page.is_visible("#rail"), "to choose on"
    assert axe(page) == []
    page.keyboard.press("Escape")
    assert page.is_hidden("#rail")
    assert focused(page) == "rail"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_overview_is_accessible(open_report: Open, coloured: Path, scheme: str) -> None:
    page = opened(
        open_report, coloured, "&q=right:no+p>0.3+clas:x&gr=outcome&s=p.up", color_scheme=scheme
    )
    page.wait_for_selector(".tile .frame[data-drawn]")
    assert axe(page) == []
    page.fill("[data-focus=density]", "0")
    page.click("[data-focus=query-help]")
    page.wait_for_selector("#query-help:popover-open")
    assert axe(page) == []
    small = page.locator("#view :is(button, a.head, input, select):visible").evaluate_all(
        """all => all.map(e => [e.dataset.focus, e.getBoundingClientRect()])
            .filter(([, box]) => Math.min(box.width, box.height) < 17)
            .map(([name]) => name)"""
    )
    assert small == []
