"""The Atlas: where the model looks over a whole run, and the images that are chosen there."""

import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import browser, synthetic
from helpers.browser import Open, axe, settle, until
from helpers.folders import chunk
from helpers.page_steps import fields, focused, go, texts
from numpy.typing import NDArray
from playwright.sync_api import Page

from camreport.insight.atlas import Atlas, atlas_of
from camreport.insight.cache import numbered_images
from camreport.report.gallery import render_gallery
from camreport.results.reader import load_results
from camreport.results.schema import ImageEntry

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not browser.required() and browser.chromium() is None, reason="no Chromium here"
    ),
]

COUNT = 140
PARTS = ("means", "clusters", "scatter", "outliers", "confusions")
EDGE = 12
"""CSS pixels between the frame of the scatter and its outermost points."""

Point = tuple[float, float]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of images with true classes, as a folder; not to be changed."""
    out = tmp_path_factory.mktemp("atlas") / "g"
    synthetic.write_results(out, COUNT, grids=synthetic.SMALL, photo_side=64)
    render_gallery(out, layout="folder")
    return out


@pytest.fixture(scope="module")
def single(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same report as one file."""
    out = tmp_path_factory.mktemp("single") / "g"
    shutil.copytree(run, out)
    render_gallery(out, layout="single")
    return out


@pytest.fixture(scope="module")
def atlas(run: Path) -> Atlas:
    """What Python finds in the run."""
    found = atlas_of(load_results(run))
    assert found is not None
    return found


def images_of(out: Path) -> list[ImageEntry]:
    return [*load_results(out).images]


def predicted(image: ImageEntry) -> str:
    return image.top[0].name


def is_right(image: ImageEntry) -> bool:
    return image.top[0].index == image.label


def opened(
    open_report: Open, out: Path, part: str = "means", more: str = "", **options: int
) -> Page:
    page = open_report(out, link=f"#v=atlas&at={part}{more}", **options)
    page.wait_for_selector(".view-atlas .parts")
    return page


def _as(name: str, *, right: bool | None = None) -> Callable[[ImageEntry], bool]:
    """Return what asks whether an image is predicted as a class, rightly or wrongly."""
    return lambda own: predicted(own) == name and right in (None, is_right(own))


def mean_of(out: Path, wanted: Callable[[ImageEntry], bool]) -> tuple[int, NDArray[np.float64]]:
    """Return how many maps of some images there are at the first choice, and their mean."""
    results = load_results(out)
    glance, entries = results.manifest.glance, {image.index: image for image in results.images}
    maps = []
    for numbers, images in numbered_images(results):
        place = numbers.keys.index(glance)
        for row, image in enumerate(images):
            own = numbers.where[place, row].astype(np.float64) / 255
            if own.any() and wanted(entries[image.index]):
                maps.append(own)
    return len(maps), np.mean(maps, axis=0)


def assert_told(page: Page, name: str, column: int, n: int, grid: NDArray[np.float64]) -> None:
    """Check the number of maps and the largest value below a picture of a class."""
    block = page.locator(".view-atlas .part", has=page.locator("h3", has_text=name))
    words = block.locator("tbody tr >> nth=0").locator("td").nth(column).inner_text()
    found = re.fullmatch(r"n (\d+) · max ±?([\d.]+)", words.strip())
    assert found, words
    assert int(found[1]) == n
    assert float(found[2]) == pytest.approx(np.abs(grid).max(), abs=8e-3)  # in bytes of each mean


# Mean maps


def test_the_tab_is_there_from_two_images_on(
    open_report: Open, run: Path, everything: Path
) -> None:
    assert "Atlas" in texts(opened(open_report, run), "#nav [role=tab]")
    page = open_report(everything, link="#v=summary")
    page.wait_for_selector(".view-summary")
    assert "Atlas" not in texts(page, "#nav [role=tab]")


def test_mean_maps_are_those_of_numpy_right_and_wrong_apart(open_report: Open, run: Path) -> None:
    page = opened(open_report, run)
    for name in synthetic.CLASSES:
        n, mean = mean_of(run, _as(name))
        assert_told(page, name, 0, n, mean)
        right, of_right = mean_of(run, _as(name, right=True))
        assert_told(page, name, 2, right, of_right)
        wrong, of_wrong = mean_of(run, _as(name, right=False))
        assert_told(page, name, 3, wrong, of_wrong)
        assert_told(page, name, 4, n, of_right - of_wrong)


def test_a_mean_map_leads_to_its_images(open_report: Open, run: Path) -> None:
    page = opened(open_report, run)
    page.click(".view-atlas .part >> nth=0 >> tbody td:nth-of-type(4) a")
    page.wait_for_selector(".view-overview .tile")
    name = Counter(map(predicted, images_of(run))).most_common(1)[0][0]
    assert fields(page)["q"] == f"class:{name} right:no"
    wrong = [i for i in images_of(run) if predicted(i) == name and not is_right(i)]
    until(page, "document.querySelectorAll('.tile').length", len(wrong))


def test_layers_stand_side_by_side_for_one_measure(open_report: Open, run: Path) -> None:
    page = opened(open_report, run)
    page.select_option("[data-focus=measure]", "spread")
    page.wait_for_selector(".view-atlas thead th:has-text('5 × 5')")
    assert page.locator(".view-atlas .part >> nth=0 >> tbody tr").count() == 2
    assert fields(page)["am"] == "spread"


# Clusters


def test_a_cluster_is_chosen_by_its_card_and_by_its_name(
    open_report: Open, run: Path, atlas: Atlas
) -> None:
    page = opened(open_report, run, "clusters")
    own = next(one for one in atlas.classes if one.where)
    name, cluster = synthetic.CLASSES[own.index], own.where[0]
    card = page.locator(".cluster", has=page.locator(f"[data-focus='choose {name}/1']"))
    assert f"{cluster.n} ({round(100 * cluster.share)}%)" in card.inner_text()
    assert card.locator(".cell").count() == len(cluster.nearest) + len(cluster.farthest)
    page.click(f"[data-focus='choose {name}/1']")
    until(page, "document.querySelector('.selection').hidden", expected=False)
    assert fields(page)["q"] == f"cluster:{name}/1"
    assert page.inner_text(".selection .found").startswith(f"{cluster.n} of {COUNT}")
    page.click(".selection a >> nth=0")
    page.wait_for_selector(".view-overview .tile")
    until(page, "document.querySelectorAll('.tile').length", cluster.n)
    assert texts(page, ".chips .chip bdi") == [f"cluster {name}/1"]


def test_a_link_to_a_cluster_opens_where_the_atlas_was_not_seen(
    open_report: Open, run: Path, atlas: Atlas
) -> None:
    own = next(one for one in atlas.classes if one.where)
    page = open_report(run, link=f"#v=overview&q=cluster:{synthetic.CLASSES[own.index]}/1")
    page.wait_for_selector(".view-overview .tile")
    assert page.locator(".tile").count() == own.where[0].n


def test_what_lies_apart_from_the_page_is_read_when_it_is_needed(
    open_report: Open, run: Path
) -> None:
    page = open_report(run, link="#v=overview")
    page.wait_for_selector(".view-overview .tile")
    names = "[...document.scripts].map(one => one.src.split('/').pop())"
    assert not {"atlas.js", "view-atlas.js"} & set(page.evaluate(names))
    page.fill("[data-focus=query]", "cluster:cat/1")
    until(page, "document.querySelectorAll('.tile').length < 100")
    assert "atlas.js" in page.evaluate(names)
    go(page, "v=atlas", "atlas")
    assert "view-atlas.js" in page.evaluate(names)


def test_classes_without_clusters_say_why(open_report: Open, tmp_path: Path) -> None:
    synthetic.write_results(tmp_path / "g", 12, grids=synthetic.SMALL, photo_side=64)
    render_gallery(tmp_path / "g", layout="single")
    page = opened(open_report, tmp_path / "g", "clusters")
    assert page.locator(".cluster").count() == 0
    assert all("30 images" in text for text in texts(page, ".view-atlas .part .hint"))


# The scatter


def fitted(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points from 0 to 1 along the longer side of all, up upwards."""
    least, most = points.min(0), points.max(0)
    found = (points - (least + most) / 2) / (most - least).max() + 0.5
    return np.stack([found[:, 0], 1 - found[:, 1]], 1)


def pixel(page: Page, at: Point) -> Point:
    """Return where a point of the plane is in the window."""
    box = page.locator(".plot canvas >> nth=0").bounding_box()
    assert box is not None
    side = box["width"] - 2 * EDGE
    return box["x"] + EDGE + at[0] * side, box["y"] + EDGE + at[1] * side


def outline(page: Page, corners: list[Point]) -> None:
    """Draw around points."""
    page.mouse.move(*pixel(page, corners[0]))
    page.mouse.down()
    for corner in [*corners[1:], corners[0]]:
        page.mouse.move(*pixel(page, corner), steps=4)
    page.mouse.up()


def test_a_pointer_shows_the_photograph_and_its_map(
    open_report: Open, run: Path, atlas: Atlas
) -> None:
    page = opened(open_report, run, "scatter", "&i=3")
    page.wait_for_selector(".plot canvas")
    points = fitted(atlas.points.pca)
    alone = int(np.argmax(np.sort(np.hypot(*(points[:, None] - points).T), 1)[:, 1]))
    page.mouse.move(*pixel(page, (points[alone, 0], points[alone, 1])))
    file = images_of(run)[int(atlas.points.images[alone])].file
    same = [  # several images may lie on one another
        images_of(run)[int(atlas.points.images[i])].file
        for i in np.flatnonzero(np.hypot(*(points - points[alone]).T) < 1e-6)
    ]
    assert file in same
    until(page, f"{same}.includes(document.querySelector('.about .name').textContent)")
    page.wait_for_selector(".about .frame[data-drawn] canvas.heat")


def test_an_outline_chooses_what_lies_in_it_in_every_view_and_is_a_link(
    open_report: Open, run: Path, atlas: Atlas
) -> None:
    page = opened(open_report, run, "scatter")
    page.wait_for_selector(".plot canvas")
    outline(page, [(0.21, 0.13), (0.83, 0.13), (0.83, 0.67), (0.21, 0.67)])
    points = fitted(atlas.points.pca)
    inside = (points > [0.21, 0.13]).all(1) & (points < [0.83, 0.67]).all(1)
    assert 10 < inside.sum() < COUNT - 10
    wanted = sorted(images_of(run)[index].file for index in atlas.points.images[inside].tolist())
    until(page, "document.querySelector('.selection').hidden", expected=False)
    assert page.inner_text(".selection .found").startswith(f"{len(wanted)} of {COUNT}")
    link = page.evaluate("location.href")
    assert len(link.partition("#")[2]) < 250
    page.click(".selection a >> nth=0")
    page.wait_for_selector(".view-overview .tile")
    assert sorted(texts(page, ".tile .name")) == wanted[:100]
    page.goto("about:blank")
    page.goto(link.replace("v=atlas", "v=matrix") + "&r=image&c=method")
    page.wait_for_selector(".view-matrix tbody th")
    shown = [text for text in texts(page, ".view-matrix tbody th") if ".jpg" in text]
    assert shown
    assert all(any(file in text for file in wanted) for text in shown)


def test_the_scatter_is_used_by_keys_alone(open_report: Open, run: Path) -> None:
    page = opened(open_report, run, "scatter")
    page.wait_for_selector(".plot canvas")
    page.focus(".plot")
    before = page.inner_text(".about .name")
    page.keyboard.press("ArrowRight")
    until(page, f"document.querySelector('.about .name').textContent !== '{before}'")
    assert page.get_attribute(".about", "aria-live") == "polite"
    page.keyboard.press("Space")
    until(page, "document.querySelector('.selection').hidden", expected=False)
    assert fields(page)["q"].startswith("lasso:pca/")
    assert focused(page) == "plot"
    page.keyboard.press("Enter")
    page.wait_for_selector("#cell[open]")
    name = page.inner_text("#cell-title")
    page.keyboard.press("Escape")
    page.wait_for_selector("#cell", state="hidden")
    assert page.inner_text(".about .name").split("/")[-1] in name


def test_colours_name_what_they_stand_for_and_choose_it(
    open_report: Open, run: Path, atlas: Atlas
) -> None:
    page = opened(open_report, run, "scatter", "&pc=right")
    counts = Counter(is_right(images_of(run)[index]) for index in atlas.points.images.tolist())
    shown = texts(page, ".key button .quantity")
    assert shown == [str(counts[True]), str(counts[False])]
    page.click("[data-focus='key right:no']")
    until(page, "document.querySelector('.selection').hidden", expected=False)
    assert fields(page)["q"] == "right:no"
    page.click("[data-focus='key right:no']")
    until(page, "document.querySelector('.selection').hidden")
    page.select_option("[data-focus=colour]", "margin")
    page.wait_for_selector(".key .ramp")


def test_images_that_a_sample_leaves_out_are_points_alone(
    open_report: Open, atlas: Atlas, tmp_path: Path
) -> None:
    out = synthetic.write_results(tmp_path / "g", COUNT, grids=synthetic.SMALL, photo_side=64)
    render_gallery(out, layout="folder", images="120")
    page = opened(open_report, out, "scatter")
    page.wait_for_selector(".plot canvas")
    shown = set(chunk(out, "report")["images"]["index"])
    assert atlas.images() <= shown
    points = set(atlas.points.images.tolist())
    words = page.inner_text(".view-atlas .figcaption")
    assert f"{len(points)} of {COUNT} images" in words
    assert f"Of {len(points - shown)} of them" in words
    outline(page, [(-0.01, -0.01), (1.01, -0.01), (1.01, 1.01), (-0.01, 1.01)])
    until(page, "document.querySelector('.selection').hidden", expected=False)
    assert page.inner_text(".selection .found").startswith(f"{len(points & shown)} of {len(shown)}")


# Outliers and confusions


def test_outliers_stand_beside_the_nearest_ordinary_image(
    open_report: Open, run: Path, atlas: Atlas
) -> None:
    page = opened(open_report, run, "outliers")
    files = [image.file for image in images_of(run)]
    wanted = [
        [files[one.image], files[one.neighbour]] for own in atlas.classes for one in own.outliers
    ]
    names = texts(page, ".pair .name")
    assert [names[i : i + 2] for i in range(0, len(names), 2)] == wanted


def test_a_confusion_shows_the_means_of_both_classes_and_its_photographs(
    open_report: Open, run: Path
) -> None:
    cat, dog = synthetic.CLASSES
    page = open_report(run, link=f"#v=atlas&at=confusions&q=is:{cat}+class:{dog}")
    page.wait_for_selector(".confusion-of .cell")
    taken = [i for i in images_of(run) if i.label == 0 and predicted(i) == dog]
    heads = texts(page, ".confusion-of thead th")
    assert heads == [
        f"Mean map of {cat}, the true class",
        f"Mean map of {dog}, the predicted class",
        f"{dog} − {cat}, mean",
    ]
    first = page.inner_text(".confusion-of tbody tr:first-child td:nth-of-type(2)")
    n, mean = mean_of(run, lambda image: image.label == 0 and predicted(image) == dog)
    found = re.search(r"n (\d+) · max ([\d.]+)", first)
    assert found
    assert int(found[1]) == len(taken) >= n
    assert float(found[2]) == pytest.approx(mean.max(), abs=5e-3)
    assert set(texts(page, ".confusion-of .name")) <= {image.file for image in taken}


# For everyone


@pytest.mark.parametrize(
    ("scheme", "language", "width"),
    [("light", "en", 1400), ("dark", "zh", 1400), ("dark", "en", 390), ("light", "zh", 390)],
)
def test_axe_finds_nothing_in_any_part_and_none_scrolls_sideways(
    open_report: Open, single: Path, scheme: str, language: str, width: int
) -> None:
    page = open_report(single, link=f"#v=atlas&lang={language}", width=width, color_scheme=scheme)
    found = {}
    for part in PARTS:
        go(page, f"v=atlas&at={part}&q=cluster:cat/1&lang={language}", "atlas")
        page.wait_for_selector(f"[data-focus='atlas {part}'][aria-pressed=true]")
        settle(page)
        found[part] = axe(page)
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found[part].append("the view scrolls sideways")
    assert {part: lines for part, lines in found.items() if lines} == {}


def test_a_report_without_an_atlas_opens_a_link_to_it_with_the_summary(
    open_report: Open, tmp_path: Path
) -> None:
    synthetic.write_results(tmp_path / "g", 1, grids=synthetic.SMALL, photo_side=64)
    for layout in ("single", "folder"):
        render_gallery(tmp_path / "g", layout=layout)
        page = open_report(tmp_path / "g", link="#v=atlas")
        page.wait_for_selector(".view-summary")
        assert "Atlas" not in texts(page, "#nav [role=tab]")
        assert page.is_hidden("#missing")


def test_a_missing_file_is_told(open_report: Open, run: Path, tmp_path: Path) -> None:
    synthetic.write_results(tmp_path / "g", 12, grids=synthetic.SMALL, photo_side=64)
    render_gallery(tmp_path / "g", layout="folder")
    (tmp_path / "g/data/atlas.js").write_text("")
    page = open_report(tmp_path / "g", link="#v=atlas")
    page.wait_for_selector(".view-atlas .note")
