"""The summary: what was found, which image to read first, which map to doubt, in a browser."""

from pathlib import Path

import pytest
from helpers import browser, synthetic
from helpers.browser import Open, axe, pdf_pages, settle
from helpers.checkout import INPUTS
from helpers.page_steps import fields, go, texts
from helpers.reports import embedded
from helpers.small import small_model
from playwright.sync_api import Page

import camreport
from camreport.insight import predictions
from camreport.report.gallery import render_gallery
from camreport.results.reader import load_results
from camreport.results.schema import ImageEntry

pytestmark = pytest.mark.skipif(
    not browser.required() and browser.chromium() is None, reason="no Chromium here"
)

METHODS = ("grad_cam", "layer_cam", "finer_cam")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on 60 labelled images, in one file."""
    out = tmp_path_factory.mktemp("many") / "g"
    synthetic.write_results(out, 60, methods=METHODS, grids=synthetic.SMALL, photo_side=96)
    render_gallery(out, layout="single")
    return out


@pytest.fixture(scope="module")
def handful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on 4 images, the fewest whose summary has a film."""
    out = tmp_path_factory.mktemp("handful") / "g"
    synthetic.write_results(out, 4, photo_side=96)
    render_gallery(out, layout="single")
    return out


def shown(page: Page) -> Page:
    """Wait until the summary stands."""
    page.wait_for_selector("#view > .view-summary")
    settle(page)
    return page


def images_of(out: Path) -> list[ImageEntry]:
    """Return a report's readable images."""
    return [*load_results(out).readable]


def is_right(image: ImageEntry) -> bool:
    """Say whether the most probable class is the true one."""
    return image.top[0].index == image.label


def follow(page: Page, link: str, view: str) -> None:
    """Click a link in the summary and wait for the view that it leads to."""
    page.locator(link).first.click()
    page.wait_for_selector(f"#view > .view-{view}")
    settle(page)


# A few images


def test_the_summary_is_the_first_page_and_its_table_the_result(
    open_report: Open, demo: Path
) -> None:
    page = shown(open_report(demo, link="#v=summary"))
    results = load_results(demo)
    assert page.inner_text(".view-summary h2") == "Predicted: dog 2, cat 1"
    assert texts(page, ".result tbody th bdi") == [image.file for image in results.readable]
    heads = texts(page, ".result thead tr:last-child th")
    assert heads == ["Grad-CAM", "LayerCAM", "HiResCAM"] * 2
    cells = page.eval_on_selector_all(".result .cell", "all => all.map(e => e.dataset.id)")
    assert cells == [
        f"{image}.{rank}.{method}.features.12"
        for image in range(3)
        for rank in range(2)
        for method in ("grad_cam", "layer_cam", "hires_cam")
    ]
    numbers = embedded(demo, "report")["images"]["numbers"]
    agreement = [f"{1 - value:.2f}" for value in numbers["disagreement"]]
    assert texts(page, ".result .agreement strong") == agreement


def test_the_first_lines_name_an_image_and_a_map_and_lead_there(
    open_report: Open, demo: Path
) -> None:
    page = shown(open_report(demo, link="#v=summary"))
    summary = embedded(demo, "report")["summary"]
    first, doubt = texts(page, ".answers dd")
    (least,) = sorted(images_of(demo), key=lambda image: image.top[0].probability)[:1]
    assert first.startswith(f"{least.file}: the least confident prediction")
    assert summary["doubt"]["text"]["en"] in doubt
    follow(page, ".answers dd a", "matrix")
    assert fields(page).get("i", "0") == str(least.index)
    page.go_back()
    shown(page)
    follow(page, ".answers div:last-child dd a", "matrix")
    state = fields(page)
    assert (state["r"], state["c"]) == ("image", "class")
    assert state.get("l", "features.12") == summary["doubt"]["place"]["layer"]


IDS = "all => all.map(e => e.dataset.id)"


def test_the_film_follows_image_and_class_and_nothing_else_is_built_anew(
    open_report: Open, handful: Path
) -> None:
    page = shown(open_report(handful, link="#v=summary"))
    page.evaluate("document.querySelector('.result').marked = true")

    def first() -> str:
        return str(page.eval_on_selector_all(".film .cell", IDS)[0])

    assert first().startswith("0.")
    assert first().endswith(".grad_cam.features.0")
    assert any(
        one.endswith("layer_cam.fused") for one in page.eval_on_selector_all(".film .cell", IDS)
    )
    page.click(".film .images a:nth-child(2)")
    settle(page)
    assert first() == "1.0.grad_cam.features.0"
    assert texts(page, ".film .images [aria-current]") == [images_of(handful)[1].file]
    page.select_option("[data-focus=choose-class]", "1")
    settle(page)
    assert first() == "1.1.grad_cam.features.0"
    assert page.evaluate("document.querySelector('.result').marked") is True


def test_below_the_summary_of_three_images_lies_the_matrix_of_the_chosen_one(
    open_report: Open, demo: Path
) -> None:
    page = shown(open_report(demo, link="#v=summary"))
    page.evaluate("document.querySelector('.result').marked = true")
    alone = open_report(demo, link="#v=matrix")
    cells = ".arranged .matrix .cell"
    assert page.locator(".film").count() == 0
    shown_here = page.eval_on_selector_all(cells, IDS)
    assert shown_here == alone.eval_on_selector_all(cells, IDS)
    assert page.locator(f"{cells}[tabindex='0'], .arranged .head[tabindex='0']").count() == 1
    page.click(".arranged .strip a:nth-child(2)")
    settle(page)
    assert fields(page) == {"i": "1"}
    assert page.inner_text(".arranged h2") == "cat.jpg"
    assert {one.split(".")[0] for one in page.eval_on_selector_all(cells, IDS)} == {"1"}
    assert page.evaluate("document.querySelector('.result').marked") is True
    page.click(".arranged [data-focus='class 0']")
    settle(page)
    assert {one.split(".")[1] for one in page.eval_on_selector_all(cells, IDS)} == {"0"}


def test_no_two_maps_of_the_summary_take_back_the_same_focus(open_report: Open, demo: Path) -> None:
    page = shown(open_report(demo, link="#v=summary"))
    names = page.eval_on_selector_all("#view .cell", "all => all.map(e => e.dataset.focus)")
    assert len(names) == len(set(names))
    assert page.evaluate("document.querySelectorAll('[id]').length") == page.evaluate(
        "new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size"
    )


@pytest.mark.parametrize(
    ("width", "height", "most"), [(1440, 900, 200), (390, 844, 300), (720, 450, 430)]
)
def test_maps_begin_near_the_top(
    open_report: Open, demo: Path, width: int, height: int, most: int
) -> None:
    page = shown(open_report(demo, width=width, height=height, link="#v=summary"))
    top = page.eval_on_selector(".result .cell .frame", "e => e.getBoundingClientRect().top")
    assert top <= most
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_images_to_look_at_first_begin_near_the_top_of_a_phone(
    open_report: Open, many: Path
) -> None:
    page = shown(open_report(many, width=390, height=844, link="#v=summary"))
    top = page.eval_on_selector(".chosen .cell .frame", "e => e.getBoundingClientRect().top")
    assert top <= 300


def test_few_stops_of_the_tab_key_lie_before_the_first_map(open_report: Open, demo: Path) -> None:
    page = shown(open_report(demo, link="#v=summary"))
    for _ in range(10 + 1):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('.cell') !== null"):
            return
    pytest.fail("more than ten stops")


def test_a_single_image_has_no_image_to_look_at_first(open_report: Open, everything: Path) -> None:
    page = shown(open_report(everything, link="#v=summary"))
    assert texts(page, ".answers dt") == ["Trust least"]
    assert page.inner_text(".view-summary h2") == "both.jpg is predicted as dog"
    assert page.locator(".result tbody tr").count() == 1


# Many images


def test_figures_say_how_many_are_right_and_lead_to_the_images(
    open_report: Open, many: Path
) -> None:
    page = shown(open_report(many, link="#v=summary"))
    images = images_of(many)
    right = sum(map(is_right, images))
    said = page.inner_text(".figures h2")
    assert f"{100 * right / len(images):.1f}%" in said
    assert f"{right} of {len(images)}" in said
    confident = [i for i in images if not is_right(i) and i.top[0].probability > 0.8]
    assert page.inner_text(".figures .wrong").startswith(f"{len(confident)} errors above 0.80")
    follow(page, ".figures .wrong a", "overview")
    found = page.eval_on_selector_all("#view .tile .cell", "all => all.map(e => e.dataset.id)")
    assert sorted(int(own.split(".")[0]) for own in found) == [i.index for i in confident]


def test_right_cells_of_the_confusion_matrix_lead_to_their_images_wrong_ones_to_the_atlas(
    open_report: Open, many: Path
) -> None:
    page = shown(open_report(many, link="#v=summary"))
    images = images_of(many)
    counts = [
        [sum(i.label == label and i.top[0].index == top for i in images) for top in range(2)]
        for label in range(2)
    ]
    cells = texts(page, ".confused tbody td:is(.right, .wrong)")
    assert [int(text) for text in cells] == [*counts[0], *counts[1]]
    recall = [f"{round(100 * counts[i][i] / sum(counts[i]))}%" for i in range(2)]
    assert texts(page, ".confused tbody .rate") == recall
    follow(page, ".confused tbody tr:first-child td.right a", "overview")
    assert page.locator("#view .tile").count() == counts[0][0]
    page.go_back()
    follow(page, ".confused tbody tr:first-child td.wrong a", "atlas")
    assert page.inner_text(".selection .found").startswith(f"{counts[0][1]} of {len(images)}")


def test_of_many_classes_each_has_its_recall_and_precision_on_demand(
    open_report: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "MAX_MATRIX", 1)
    synthetic.write_results(tmp_path / "g", 40, grids=synthetic.SMALL, photo_side=64)
    render_gallery(tmp_path / "g")
    page = shown(open_report(tmp_path / "g", link="#v=summary"))
    page.click("[data-focus=by-class]")
    images = images_of(tmp_path / "g")
    right = [sum(is_right(i) and i.label == label for i in images) for label in range(2)]
    totals = [sum(i.label == label for i in images) for label in range(2)]
    predicted = [sum(i.top[0].index == label for i in images) for label in range(2)]
    expected = [
        f"{round(100 * right[i] / of[i])}% ({right[i]}/{of[i]})"
        for i in range(2)
        for of in (totals, predicted)
    ]
    assert texts(page, ".by-class tbody td") == expected
    assert axe(page) == []
    follow(page, ".by-class tbody a", "overview")
    assert fields(page)["q"] == "is:cat"


def test_the_diagram_of_calibration_has_named_axes_with_ticks(
    open_report: Open, many: Path
) -> None:
    page = shown(open_report(many, link="#v=summary"))
    said = page.eval_on_selector_all(".reliability text", "all => all.map(e => e.textContent)")
    assert sorted(said) == ["0", "0", "0.5", "0.5", "1", "1", "confidence", "share right"]
    apart = """all => { const boxes = all.map(e => e.getBoundingClientRect());
        return boxes.every((a, i) => boxes.every((b, j) => i === j || a.right <= b.left ||
            b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top)); }"""
    assert page.eval_on_selector_all(".reliability text", apart), "no two words lie on each other"


def test_bars_of_confidence_count_and_lead_to_their_images(open_report: Open, many: Path) -> None:
    page = shown(open_report(many, link="#v=summary"))
    wrong = [image for image in images_of(many) if not is_right(image)]
    last = [image for image in wrong if image.top[0].probability >= 0.95]
    name = page.get_attribute(".histogram.wrong .bars > :last-child", "aria-label")
    assert name == f"{len(last)} predictions from 0.95 to 1.00"
    follow(page, ".histogram.wrong .bars > :last-child", "overview")
    assert page.locator("#view .tile").count() == len(last)


def test_findings_lead_to_the_view_that_shows_them(open_report: Open, many: Path) -> None:
    page = shown(open_report(many, link="#v=summary"))
    findings = embedded(many, "report")["summary"]["findings"]
    assert texts(page, ".findings li bdi") == [own["text"]["en"] for own in findings]
    names = {
        "view": "v",
        "method": "m",
        "layer": "l",
        "rows": "r",
        "columns": "c",
        "query": "q",
        "sort": "s",
    }
    for number, own in enumerate(findings):
        link = page.get_attribute(f".findings li:nth-child({number + 1}) a", "href")
        assert link is not None
        go(page, link.removeprefix("#"), own["place"]["view"])
        state = page.evaluate("location.hash")
        for name, value in own["place"].items():
            standard = {"method": "grad_cam", "layer": "b", "rows": "method", "columns": "layer"}
            if standard.get(name) != value:
                assert fields(page)[names[name]] == value, state
        go(page, "v=summary", "summary")


def test_images_to_read_first_stand_with_their_reasons_and_the_rule(
    open_report: Open, many: Path
) -> None:
    page = shown(open_report(many, link="#v=summary"))
    summary = embedded(many, "report")["summary"]
    assert texts(page, ".chosen .name bdi") == [
        images_of(many)[own["image"]].file for own in summary["first"]
    ]
    reasons = [reason["en"] for own in summary["first"] for reason in own["reasons"]]
    assert texts(page, ".chosen .reason") == reasons
    errors = [image for image in images_of(many) if not is_right(image)]
    worst = max(errors, key=lambda image: image.top[0].probability)
    assert summary["first"][0]["image"] == worst.index
    assert page.inner_text(".part.first .figcaption").startswith(summary["rule"]["en"])


def test_trust_says_what_is_measured_and_that_a_copy_is_no_evidence(
    open_report: Open, tmp_path: Path
) -> None:
    out = tmp_path / "g"
    camreport.run(INPUTS, out, layers=["9", "12"], methods="grad_cam,finer_cam", layout="single")
    page = shown(open_report(out, link="#v=summary"))
    said = texts(page, ".answers div:last-child dd")[0]
    assert said.startswith("Finer-CAM at features.12: the same maps as Grad-CAM after scaling")
    findings = " ".join(texts(page, ".writing li"))
    assert "Finer-CAM and Grad-CAM give the same maps after scaling here (n = 3 images)" in findings


# Words, barriers, paper


@pytest.mark.parametrize(
    ("images", "scheme", "language", "width"),
    [
        *(("three", "light", "en", 1400), ("three", "dark", "zh", 390)),
        *(("many", "light", "zh", 390), ("many", "dark", "en", 1400)),
    ],
)
def test_axe_finds_nothing_in_the_summary(
    open_report: Open, demo: Path, many: Path, images: str, scheme: str, language: str, width: int
) -> None:
    out = {"three": demo, "many": many}[images]
    link = f"#v=summary&lang={language}"
    page = shown(open_report(out, width=width, color_scheme=scheme, link=link))
    assert axe(page) == []


def test_names_from_outside_are_text(open_report: Open, tmp_path: Path) -> None:
    names = ("<img src=x onerror=alert(1)>", '‮</script><b>dog"')
    model = small_model(names)
    labels = {"cat.jpg": 0, "dog.jpg": 1, "both.jpg": 0}
    camreport.run(INPUTS, tmp_path / "g", model=model, labels=labels, layout="single")
    page = shown(open_report(tmp_path / "g", link="#v=summary"))
    assert page.locator("#view [onerror], #view b, #view img[src='x']").count() == 0
    assert names[0] in page.inner_text(".confused") or names[0] in page.inner_text(".result")


def test_the_summary_leads_where_scripts_do_not_run_and_on_paper(
    open_report: Open, many: Path
) -> None:
    summary = embedded(many, "report")["summary"]
    still = open_report(many, java_script_enabled=False)
    said = still.inner_text("#fallback header")
    assert summary["headline"]["en"] in said
    for finding in summary["findings"]:
        if "same maps" not in finding["text"]["en"]:
            assert finding["text"]["en"] in said
    page = shown(open_report(many, link="#v=summary"))
    first = " ".join(pdf_pages(page.pdf(format="A4", page_ranges="1"))[0].split())
    right = sum(map(is_right, images_of(many)))
    assert f"{right} of 60" in first
    assert all(title in first for title in ("Findings", "Confusion", "Confidence"))
