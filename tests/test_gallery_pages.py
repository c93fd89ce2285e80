"""Tables come in pages that print together, a picture of the page shows all, titles name data."""

import io
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import synthetic
from helpers.browser import Open, idle, pdf_pages, until, work
from helpers.checkout import INPUTS
from helpers.folders import Visit, in_browser
from helpers.page_steps import go, unfold
from helpers.reports import embedded
from helpers.small import small_model
from PIL import Image
from playwright.sync_api import Page

import camreport
from camreport.report.gallery import render_gallery
from camreport.report.gallery.language import words_of
from camreport.report.gallery.prose import prose
from camreport.results.reader import Results, load_results

pytestmark = pytest.mark.slow

FIGURES = "[...document.querySelectorAll('.course-table figcaption strong')].map(e => e.innerText)"


def numbers(texts: list[str]) -> list[int]:
    """Return the figures' numbers in texts, in their order."""
    return [int(number) for text in texts for number in re.findall(r"Figure (\d+)\.", text)]


def turn(page: Page, to: int) -> None:
    page.click("[data-focus=page-next]")
    until(page, f"document.querySelector('.pager span')?.innerText.startsWith('Page {to} of')")


@pytest.fixture(scope="module")
def three_hundred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder's report of 300 images, AlexNet's five layers and two methods."""
    out = tmp_path_factory.mktemp("three-hundred") / "report"
    synthetic.write_results(out, 300, photo_side=96)
    render_gallery(out, layout="folder")
    return out


@pytest.fixture(scope="module")
def dozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of 12 images in one file."""
    out = tmp_path_factory.mktemp("dozen") / "report"
    synthetic.write_results(out, 12, photo_side=96)
    render_gallery(out)
    return out


@in_browser
def test_tables_of_three_hundred_images_come_in_pages(visit: Visit, three_hundred: Path) -> None:
    page = visit(three_hundred, "v=tables", counted=True)
    page.wait_for_selector(".course-table")
    assert page.inner_text(".pager span") == "Page 1 of 38"
    assert page.locator("#view .frame").count() <= 240
    assert page.evaluate("document.documentElement.scrollHeight") < 20_000
    first = numbers(page.evaluate(FIGURES))
    assert first == list(range(1, 18)), "two for each of eight images, and one for all"
    turn(page, 2)
    assert numbers(page.evaluate(FIGURES)) == list(range(18, 35))
    scripts = page.locator("head script").evaluate_all("all => all.map(one => one.src)")
    assert len([source for source in scripts if "/images-" in source]) == 1


@in_browser
@pytest.mark.parametrize(("which", "pages"), [("classes", 30), ("methods", 30)])
def test_pages_are_as_long_as_the_chosen_tables_allow(
    visit: Visit, three_hundred: Path, which: str, pages: int
) -> None:
    page = visit(three_hundred, f"v=tables&tb={which}")
    page.wait_for_selector(".course-table")
    assert page.inner_text(".pager span") == f"Page 1 of {pages}"


@in_browser
def test_a_dozen_images_print_all_their_tables_with_the_screens_numbers(
    open_report: Open, dozen: Path
) -> None:
    page = open_report(dozen, link="#v=tables")
    page.wait_for_selector(".course-table")
    shown = page.evaluate(FIGURES)
    turn(page, 2)
    shown += page.evaluate(FIGURES)
    assert numbers(shown) == list(range(1, 27))
    printed = pdf_pages(page.pdf(format="A4"))
    assert numbers(printed) == numbers(shown)
    text = " ".join(" ".join(printed).split())
    assert all(f"IMG_{image:05d}.jpg: Grad-CAM for" in text for image in range(12))
    until(page, "document.querySelector('.pager span')?.innerText", "Page 2 of 2")
    until(page, FIGURES, shown[-9:])


@in_browser
def test_more_images_than_print_together_print_the_page_in_view(
    visit: Visit, three_hundred: Path
) -> None:
    page = visit(three_hundred, "v=tables&n=1")
    page.wait_for_selector(".course-table")
    assert numbers(pdf_pages(page.pdf(format="A4"))) == list(range(18, 35))


@in_browser
@pytest.mark.parametrize("view", ["matrix", "tables"])
def test_a_picture_of_the_whole_page_shows_every_map(
    open_report: Open, demo: Path, view: str
) -> None:
    page = open_report(demo, height=500, link=f"#v={view}")
    drawn = """(() => {
        const maps = [...document.querySelectorAll("#view .cell .frame")];
        return maps.length > 0 && maps.every(frame => frame.dataset.drawn);
    })()"""
    until(page, drawn)
    assert page.evaluate("scrollY") == 0
    picture = np.asarray(Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB"))
    last = page.locator("#view .cell .frame:visible").last.bounding_box()
    assert last is not None
    assert last["y"] > 600, "below the fold"
    top, left = int(last["y"]) + 4, int(last["x"]) + 4
    cut = picture[top : int(last["y"] + last["height"]) - 4, left : left + 100]
    assert cut.std() > 20


@in_browser
def test_new_colours_reach_the_maps_below_the_fold(open_report: Open, demo: Path) -> None:
    page = open_report(demo, height=500, link="#v=matrix")
    page.wait_for_selector("#view .frame[data-drawn]")
    unfold(page, "appearance")
    page.select_option("[data-focus=colormap]", "jet")
    until(
        page,
        """[...document.querySelectorAll("#view .cell .frame")]
            .filter(frame => frame.checkVisibility())
            .every(frame => frame.dataset.drawn?.split(",").includes("jet"))""",
    )


@in_browser
def test_what_is_drawn_before_it_is_seen_is_bounded(visit: Visit, tmp_path: Path) -> None:
    out = tmp_path / "out"
    grids = {"a": 7, "b": 5}
    synthetic.write_results(out, 20, methods=synthetic.NINE, grids=grids, photo_side=96)
    render_gallery(out, layout="folder")
    page = visit(out, "v=matrix&r=image&c=layer&b=method", height=500, counted=True)
    page.wait_for_selector("#view .frame[data-drawn]")
    assert page.locator("#view .cell").count() >= 360
    seen = work(page)["painted"]
    assert seen < 100, "only what is in view, or nearly"
    idle(page)
    assert seen < work(page)["painted"] <= 240


@in_browser
def test_opening_the_overview_paints_no_more_than_its_page_in_idle_time(
    visit: Visit, three_hundred: Path
) -> None:
    page = visit(three_hundred, "v=overview", height=500, counted=True)
    page.wait_for_selector(".tile .frame[data-drawn]")
    assert work(page)["painted"] < 100
    idle(page)
    until(page, "document.querySelectorAll('.tile .frame[data-drawn]').length", 100)
    assert work(page)["painted"] <= 100
    assert work(page)["inflated"] == 0


# Titles


@pytest.mark.parametrize(
    ("command", "run"),
    [
        ("camreport run inputs -o gallery", "net · inputs"),
        (
            "camreport run 'my cats' dogs/*.jpg -o g --model net",
            "net · my cats and dogs/*.jpg",
        ),
        ("camreport run . -o g", "net"),
        ("camreport run './*' -o g", "net"),
        ("camreport run 'broken -o g", "net"),
        ("", "net"),
    ],
)
def test_a_run_is_named_by_its_model_and_its_inputs(demo: Path, command: str, run: str) -> None:
    results = load_results(demo)
    model = replace(results.manifest.model, name="net")
    manifest = replace(results.manifest, command=command, model=model)
    changed = Results(results.path, manifest)
    assert prose(changed, 3, words_of("en"), [])["run"] == run


@in_browser
def test_titles_name_the_data_in_both_languages(open_report: Open, demo: Path) -> None:
    page = open_report(demo, link="#v=summary")
    page.wait_for_selector("#view > .view")
    assert page.title() == "Summary · catdog-alexnet · inputs"
    assert page.inner_text("h1") == "catdog-alexnet · inputs"
    go(page, "v=matrix&lang=zh", "matrix")
    until(page, "document.title", "层 × 方法 · catdog-alexnet · inputs")


def test_the_page_without_scripts_is_titled_by_the_same_name(tmp_path: Path) -> None:
    shutil.copy(INPUTS / "cat.jpg", tmp_path)
    camreport.run(tmp_path / "cat.jpg", tmp_path / "g", model=small_model(("a", "b")))
    page = (tmp_path / "g" / "index.html").read_text(encoding="utf-8")
    assert "<title>small · cat.jpg</title>" in page
    assert "<h1>CAM report: small</h1>" in page
    assert embedded(tmp_path / "g", "report")["prose"]["en"]["run"] == "small · cat.jpg"
