"""The page of several runs: the run as an axis, differences, predictions that changed."""

import copy
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import browser
from helpers.browser import Open, axe, draw, eventually, pixels_of, until
from helpers.checkout import INPUTS
from helpers.page_steps import cam_of, fields, go, photo_size, texts
from helpers.pictures import heat_pixels
from helpers.reports import embedded
from helpers.small import small_model
from playwright.sync_api import Page

import camreport
from camreport.metrics.grids import resampled
from camreport.models.loaded import LoadedModel
from camreport.report.heatmap import ZERO, QuantisedCam
from camreport.results.reader import REPORT, load_results

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not browser.required() and browser.chromium() is None, reason="no Chromium here"
    ),
]

LAYERS = ["features.1", "features.4"]
MAP = "grad_cam.features.4"
SCALE = 0.5
"""The difference of two maps that gets the last colour, as a fraction of their maxima."""


def turned(model: LoadedModel, share: float) -> LoadedModel:
    """Return a model with a part of its head, down to the opposite: the other class wins."""
    other = copy.deepcopy(model)
    other.module.head.weight.data *= 1 - 2 * share
    other.module.head.bias.data *= 1 - 2 * share
    return other


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three runs of the demo photographs: the last one predicts the other class for each."""
    folder = tmp_path_factory.mktemp("runs")
    model = small_model(("cat", "dog"))
    truth = folder / "truth.csv"
    truth.write_text("both.jpg,dog\ncat.jpg,cat\ndog.jpg,dog\n")
    made = []
    for share, methods in ((0.0, ["grad_cam", "layer_cam"]), (0.2, "grad_cam"), (1.0, "grad_cam")):
        out = folder / f"epoch-{len(made)}"
        own = turned(model, share)
        camreport.run(INPUTS, out, model=own, layers=LAYERS, methods=methods, labels=str(truth))
        made.append(out)
    return made


@pytest.fixture(scope="module")
def two(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of the first run and the last; not to be changed."""
    out = tmp_path_factory.mktemp("two") / "gallery"
    camreport.compare([runs[0], runs[2]], out)
    return out


@pytest.fixture(scope="module")
def epochs(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of all three; not to be changed."""
    out = tmp_path_factory.mktemp("epochs") / "gallery"
    camreport.compare(runs, out)
    return out


@pytest.fixture(scope="module")
def itself(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a run and itself; not to be changed."""
    out = tmp_path_factory.mktemp("itself") / "gallery"
    camreport.compare([runs[0], runs[0]], out)
    return out


def unmarked(found: list[str]) -> list[str]:
    """Return texts without the marks that keep names from outside apart."""
    return [re.sub("[\u2068\u2069]", "", text) for text in found]


def ids(page: Page) -> list[str]:
    """Return the maps of the table, row by row."""
    cells = "all => all.map(cell => cell.dataset.id)"
    return [*page.eval_on_selector_all("#view .matrix .cell[data-id]", cells)]


def test_runs_lie_on_rows_and_classes_on_columns(open_report: Open, two: Path) -> None:
    page = open_report(two)
    page.wait_for_selector(".matrix")
    first = ids(page)[0].split(".")[1]
    ranks = [first, "01".replace(first, "")]
    assert ids(page) == [f"0{run}.{rank}.{MAP}" for run in ("", "@1", "@-1") for rank in ranks]
    heads = unmarked(texts(page, ".matrix tbody th .head"))
    assert heads == ["epoch-0", "epoch-2", "epoch-2 − epoch-0"]
    assert "runs in rows, classes in columns" in page.inner_text(".figcaption")


def test_a_difference_is_that_of_both_maps_on_a_grid_of_14_by_14(
    open_report: Open, two: Path, runs: list[Path]
) -> None:
    page = open_report(two)
    results = [load_results(out) for out in (runs[0], runs[2])]
    cell = f'.cell[data-id="0@-1.1.{MAP}"]'
    draw(page, f"{cell} .frame")
    drawn = pixels_of(page, f"{cell} canvas.heat")
    grids = []
    for own in results:
        cam = cam_of(own, f"0.1.{MAP}")
        shares = cam.levels / 255 if cam.state == "positive" else np.zeros(cam.levels.shape)
        grids.append(resampled(shares, 14, 14))
    change = grids[1] - grids[0]
    assert np.abs(change).max() > SCALE, "the last colours are reached"
    levels = np.floor(change * ZERO + ZERO + 0.5).astype(np.uint8)
    expected = heat_pixels(
        QuantisedCam(levels, 1.0, "positive", signed=True), *drawn.shape[:2], scale=SCALE
    )
    assert (drawn == expected).mean() > 0.99
    height, width = photo_size(results[0], 0)
    assert drawn.shape[0] / drawn.shape[1] == pytest.approx(height / width, rel=0.05)


def test_a_link_keeps_the_run_and_the_axes(open_report: Open, epochs: Path) -> None:
    page = open_report(epochs, link="#v=matrix&r=method&c=layer&u=2")
    page.wait_for_selector(".matrix")
    assert {one.partition(".")[0] for one in ids(page)} == {"0@2"}
    page.locator("#pick input[type=range]").fill("1")
    until(page, "document.querySelector('#view .matrix .cell').dataset.id.split('.')[0]", "0@1")
    assert fields(page)["u"] == "1"


def test_a_slider_leads_through_the_runs_of_an_open_map(open_report: Open, epochs: Path) -> None:
    page = open_report(epochs, link=f"#v=matrix&open=0.1.{MAP}")
    slider = page.locator("#cell input[type=range]")
    for run in (1, 2, 0):
        slider.fill(str(run))
        wanted = f"0@{run}.1.{MAP}" if run else f"0.1.{MAP}"
        until(page, "new URLSearchParams(location.hash.slice(1)).get('open')", wanted)
        eventually(lambda run=run: f"epoch-{run}" in page.inner_text("#cell-title"))


def test_images_are_found_by_what_became_of_their_prediction(
    open_report: Open, two: Path, runs: list[Path]
) -> None:
    images = [load_results(out).images for out in (runs[0], runs[2])]
    wrong = [
        before.file
        for before, after in zip(*images, strict=True)
        if before.top[0].index == before.label != after.top[0].index
    ]
    page = open_report(two, link="#v=overview&q=flip:wrong")
    page.wait_for_selector(".view-overview")
    assert texts(page, ".tile .name") == wrong
    go(page, "v=overview&s=moved.down", "overview")
    moved = embedded(two, "report")["images"]["numbers"]["moved"]
    order = sorted(range(3), key=lambda place: -(moved[place] if moved[place] is not None else -1))
    assert texts(page, ".tile .name") == [images[0][place].file for place in order]


def test_the_runs_are_shown_with_their_flips_and_differences(open_report: Open, two: Path) -> None:
    page = open_report(two, link="#v=runs")
    page.wait_for_selector(".view-runs .run-maps .cell")
    cells = page.eval_on_selector_all(".run-maps .cell", "all => all.map(e => e.dataset.id)")
    assert len(cells) == 9, "every prediction changed: two maps and a difference of each image"
    assert [one.split(".")[0].partition("@")[2] for one in cells[:3]] == ["", "1", "-1"]
    headline = embedded(two, "report")["summary"]["headline"]["en"]
    assert page.inner_text("#view h2") == headline
    assert page.locator(".deltas tbody tr").count() > 0


def test_a_run_against_itself_has_no_difference(open_report: Open, itself: Path) -> None:
    page = open_report(itself, link="#v=runs")
    page.wait_for_selector(".view-runs")
    assert "No difference: no prediction changed, and no map moved." in page.inner_text("#view")
    go(page, "v=matrix", "matrix")
    cell = f'.cell[data-id="0@-1.1.{MAP}"]'
    draw(page, f"{cell} .frame")
    assert page.inner_text(f"{cell} .label") == "no difference"
    assert page.locator('.cell[data-id^="0@-1"] canvas.heat').count() == 0


def test_a_map_that_one_run_lacks_says_why(open_report: Open, two: Path) -> None:
    page = open_report(two, link="#v=matrix&c=method")
    page.wait_for_selector(".matrix .nothing")
    reason = "LayerCAM was not computed in epoch-2."
    titles = page.eval_on_selector_all(".matrix .nothing", "all => all.map(e => e.title)")
    assert unmarked(titles) == [reason, reason], "the run itself, and its difference"
    assert unmarked(texts(page, ".matrix .nothing")) == ["not in epoch-2"] * 2
    assert reason in unmarked([page.inner_text(".below")])[0]


def test_a_report_of_one_run_carries_nothing_of_comparisons(
    open_report: Open, runs: list[Path]
) -> None:
    page = open_report(runs[0], link="#v=summary")
    page.wait_for_selector(".view-summary")
    assert "Runs" not in texts(page, "#nav [role=tab]")
    report = embedded(runs[0], "report")
    assert not [key for key in report["strings"]["en"] if key.startswith("runs.")]
    assert 'camreport("view-runs"' not in (runs[0] / REPORT).read_text()
    go(page, "v=runs", "summary")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_views_of_runs_are_accessible_and_fit_a_phone(
    open_report: Open, epochs: Path, theme: str
) -> None:
    page = open_report(epochs, width=390, height=844, link=f"#v=summary&th={theme}&lang=zh")
    found = {}
    for view in ("summary", "runs", "matrix"):
        go(page, f"v={view}&th={theme}&lang=zh", view)
        page.wait_for_selector(".cell")
        found[view] = axe(page)
        wide = "document.documentElement.scrollWidth > window.innerWidth"
        assert not page.evaluate(wide), view
    assert found == {view: [] for view in found}


def test_the_paper_of_a_comparison_has_the_maps_of_every_run(open_report: Open, two: Path) -> None:
    page = open_report(two)
    page.wait_for_selector(".matrix")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    heads = set(unmarked(texts(page, "#paper .sheet th[scope=col] span")))
    assert {"epoch-0", "epoch-2", "epoch-2 − epoch-0"} <= heads


def test_without_scripts_there_are_the_maps_of_every_run_and_what_changed(two: Path) -> None:
    page = (two / REPORT).read_text()
    for run in ("epoch-0", "epoch-2"):
        for image in ("both.jpg", "cat.jpg", "dog.jpg"):
            assert f'alt="{image}, {run}, dog, Grad-CAM, features.4"' in page
    assert 'alt="cat.jpg, epoch-0, cat, LayerCAM, features.4"' in page
    assert 'alt="cat.jpg, epoch-2, cat, LayerCAM, features.4"' not in page, "it is not computed"
    caption = "<caption>Predictions that changed</caption>"
    flips = page.partition(caption)[2].partition("</table>")[0]
    assert flips.count("<tr>") == 4, "heads, and three images"
