"""Many images: what a page builds, reads, inflates and paints stays bounded."""

from pathlib import Path

import numpy as np
import pytest
from helpers import synthetic
from helpers.browser import settle, until, work
from helpers.folders import (
    KB,
    MB,
    Visit,
    at_a_glance,
    cell,
    drawn,
    in_browser,
    is_folder,
    reference,
    size_of,
    twin,
)
from playwright.sync_api import Page

from camreport.report.gallery import render, render_gallery
from camreport.results.reader import load_results
from camreport.results.schema import ImageEntry

pytestmark = pytest.mark.slow

ALL_DRAWN = """(() => {
    const frames = [...document.querySelectorAll("#view .tile .frame")];
    return frames.length > 0 && frames.every(frame => frame.dataset.drawn);
})()"""


def node_count(page: Page) -> int:
    return int(page.evaluate("document.querySelectorAll('*').length"))


def heap(page: Page) -> float:
    """Return the bytes that scripts hold, after a collection of garbage."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(metric["value"] for metric in metrics if metric["name"] == "JSHeapUsedSize")


def scripts_of(page: Page) -> list[str]:
    """Return the names of the data files that a page has read, in that order."""
    sources = page.locator("head script").evaluate_all("all => all.map(one => one.src)")
    return [source.rpartition("/")[2] for source in sources]


@in_browser
@pytest.mark.parametrize("layout", ["single", "folder"])
def test_a_hundred_and_twenty_images_build_and_paint_one_page(
    visit: Visit, tmp_path: Path, layout: render.Layout
) -> None:
    out = synthetic.write_results(tmp_path / "out", 120)
    report = render_gallery(out, layout=layout)
    if layout == "single":
        assert report.stat().st_size <= 120 * 119 * KB
    page = visit(out, "v=overview", height=8000, counted=True)
    until(page, ALL_DRAWN)
    assert page.locator(".tile").count() == 100
    assert work(page)["painted"] == page.locator("#view canvas.heat").count() <= 100
    assert node_count(page) <= 2000
    assert heap(page) <= 150 * MB


@in_browser
def test_each_image_is_inflated_and_decoded_once_whatever_is_looked_at(
    visit: Visit, sixty: Path, tmp_path: Path
) -> None:
    out = twin(sixty, tmp_path / "out")
    render_gallery(out, layout="folder")
    page = visit(out, "v=overview", counted=True)
    page.wait_for_selector("#view .frame[data-drawn]")
    for link in (
        "v=overview&m=layer_cam",
        *(f"v=matrix&i={image}&r=layer&c=method" for image in (0, 30, 59, 0)),
        "v=matrix&r=image&c=layer",
        "v=tables",
        "v=compare&p=0.0.grad_cam.a~30.1.layer_cam.b",
        "v=overview&m=layer_cam&s=name",
    ):
        page.evaluate("link => location.hash = link", link)
        page.wait_for_selector(f"#view > .view-{link[2:].partition('&')[0]} .frame[data-drawn]")
        settle(page)
    done = work(page)
    assert 3 <= done["inflated"] <= 60
    assert done["decoded"] == done["inflated"]
    assert sorted(scripts_of(page)) == [
        "camreport.js",
        *(f"images-{chunk:04d}.js" for chunk in range(3)),
        "overview-0000.js",
        "report.js",
    ]


def test_ten_thousand_images_take_no_more_disk_than_budgeted(ten_thousand: Path) -> None:
    assert is_folder(ten_thousand)
    data = ten_thousand / "data"
    glance = size_of(data, "thumbs/**/*.jpg", "overview-*.js", "report.js", "camreport.*")
    assert glance <= 40 * MB
    assert size_of(data, "images-*.js") <= 10_000 * 48 * KB
    assert (ten_thousand / "index.html").stat().st_size <= 1 * MB
    assert max(file.stat().st_size for file in data.glob("*.js")) <= 3 * MB


@in_browser
def test_opening_ten_thousand_images_builds_reads_and_paints_one_page(
    visit: Visit, ten_thousand: Path
) -> None:
    page = visit(ten_thousand, "v=overview", height=8000, counted=True)
    until(page, ALL_DRAWN)
    assert page.locator(".tile").count() == 100
    assert node_count(page) <= 2000
    assert scripts_of(page) == ["camreport.js", "report.js", "overview-0000.js"]
    assert work(page)["painted"] == page.locator("#view canvas.heat").count() <= 100
    assert work(page)["inflated"] == work(page)["decoded"] == 0


@in_browser
def test_turning_pages_of_ten_thousand_images_paints_each_map_once_and_keeps_little(
    visit: Visit, ten_thousand: Path
) -> None:
    page = visit(ten_thousand, "v=overview", height=8000, counted=True)
    until(page, ALL_DRAWN)
    maps = page.locator("#view canvas.heat").count()
    for turned in range(1, 11):
        page.click('[data-focus="page-next"]')
        page.wait_for_selector(
            cell(at_a_glance(ten_thousand, 100 * turned, "grad_cam", "features.12"))
        )
        until(page, ALL_DRAWN)
        maps += page.locator("#view canvas.heat").count()
    assert work(page)["painted"] == maps <= 1100
    assert work(page)["inflated"] == 0
    assert scripts_of(page)[2:] == [f"overview-{chunk:04d}.js" for chunk in range(3)]
    assert node_count(page) <= 2000
    assert heap(page) <= 150 * MB
    for place in range(0, 100, 10):
        page.evaluate(f"location.hash = 'v=overview&m=layer_cam&n={place}'")
        name = at_a_glance(ten_thousand, 100 * place, "layer_cam", "features.12")
        page.wait_for_selector(f"{cell(name)} [data-drawn]")
    assert heap(page) <= 150 * MB, "with all maps of what was shown"
    page.evaluate("location.hash = 'v=matrix&i=9999'")
    name = "9999.0.grad_cam.features.0"
    expected = reference(ten_thousand, name, photo_side=224, cap=28)
    np.testing.assert_array_equal(drawn(page, name), expected)
    assert node_count(page) <= 2000


@in_browser
def test_ten_thousand_images_are_filtered_and_sorted(visit: Visit, ten_thousand: Path) -> None:
    page = visit(ten_thousand, "v=overview")
    page.wait_for_selector(".tile .frame[data-drawn]")
    records = load_results(ten_thousand).images

    def tile(image: ImageEntry) -> str:
        return f"{image.index}.{image.top[0].index}.grad_cam.features.12"

    def names() -> list[str]:
        return page.locator("#view .tile a.name").all_inner_texts()

    def count() -> str:
        return page.inner_text(".found")

    page.fill("[data-focus=query]", "IMG_0777")
    page.wait_for_selector(cell(tile(records[7770])))
    assert names() == [record.file for record in records[7770:7780]]
    assert count() == "10 of 10,000 images"
    page.fill("[data-focus=query]", "right:no")
    wrong = [r for r in records if r.top[0].index != r.label]
    page.wait_for_selector(cell(tile(wrong[0])))
    assert count() == f"{len(wrong):,} of 10,000 images"
    assert names() == [record.file for record in wrong[:100]]
    page.select_option("[data-focus=sort]", "p")
    page.click("[data-focus=direction]")
    doubtful = sorted(wrong, key=lambda record: record.top[0].probability)
    page.wait_for_selector(cell(tile(doubtful[0])))
    assert names() == [record.file for record in doubtful[:100]]
    page.check("[data-focus='class dog']")
    dogs = [r for r in doubtful if r.top[0].index == 1]
    page.wait_for_selector(cell(tile(dogs[0])))
    assert names() == [record.file for record in dogs[:100]]
    assert count() == f"{len(dogs):,} of 10,000 images"
    assert page.input_value("[data-focus=query]") == "right:no class:dog"
    assert node_count(page) <= 2000
    page.select_option("[data-focus=group]", "outcome")
    page.wait_for_selector("h3.group")
    assert page.inner_text("h3.group") == f"✗ Is cat, predicted dog {len(dogs):,}"
    assert node_count(page) <= 2000
    first = tile(dogs[0])
    expected = reference(ten_thousand, first, side=160, photo_side=224)
    np.testing.assert_array_equal(drawn(page, first), expected)
