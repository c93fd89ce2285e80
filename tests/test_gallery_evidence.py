"""The view of the evidence: numbers with n, interval and chance, and the images behind them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import browser, synthetic
from helpers.browser import axe, pdf_pages, settle, until
from helpers.chinese import english_in
from helpers.page_steps import fields, go, texts
from helpers.synthetic_evidence import write_evidence
from numpy.typing import NDArray

from camreport.metrics import METRICS
from camreport.report.gallery import render_gallery
from camreport.results.reader import load_results

if TYPE_CHECKING:
    from helpers.browser import Open
    from playwright.sync_api import Browser, Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not browser.required() and browser.chromium() is None, reason="no Chromium here"
    ),
]

METHODS = ("grad_cam", "layer_cam", "xgrad_cam")
NAMES = {"grad_cam": "Grad-CAM", "layer_cam": "LayerCAM", "xgrad_cam": "XGrad-CAM"}
LAYER = "b"
QUESTIONS = ("contrast", "effect", "order", "grid", "learned", "stability", "extent")
MAX_TOP = 200
MAX_STOPS = 10


def report_of(out: Path, count: int, **evidence: Any) -> Path:
    """Write a report with drawn evidence, and return its folder."""
    synthetic.write_results(out, count, methods=METHODS, grids=synthetic.SMALL, photo_side=96)
    if evidence:
        write_evidence(out, **evidence)
    render_gallery(out)
    return out


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on 40 images, 36 of them in the sample, with all that needs no regions."""
    return report_of(tmp_path_factory.mktemp("many") / "g", 40, level="full", sample=36)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on 5 images at the lower level."""
    return report_of(tmp_path_factory.mktemp("few") / "g", 5, level="basic")


@pytest.fixture(scope="module")
def off(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on 2 images without evidence."""
    return report_of(tmp_path_factory.mktemp("off") / "g", 2)


def shown(open_report: "Open", out: Path, link: str = "", **options: Any) -> "Page":
    """Open the view of the evidence."""
    page = open_report(out, link=f"#v=evidence{link}", **options)
    page.wait_for_selector(".view-evidence")
    settle(page)
    return page


def numbers(out: Path, number: str, row: str, layer: str = LAYER) -> NDArray[np.float32]:
    """Return each image's number of the map of its predicted class, as the results hold it."""
    with np.load(out / "results/evidence-000000.npz") as arrays:
        values: NDArray[np.float32] = arrays[f"{number}/{row}/{layer}"]
    results = load_results(out)
    predicted = [image.top[0].index for image in results.readable]
    return values[np.arange(len(predicted)), predicted]


def shipped(out: Path) -> Any:
    """Return the evidence that the page holds."""
    page = (out / "index.html").read_text("utf-8")
    content = page.partition('id="report">')[2].partition("</script>")[0]
    return json.loads(content)["evidence"]


def cell(number: str, row: str) -> str:
    """Return the selector of a method's cell below a question."""
    return f".evidence td[data-row='{row}']:nth-child({2 + QUESTIONS.index(number)})"


def text(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def text_of(number: str, value: float) -> str:
    """Return a number as it is written: three digits where there is no greatest value."""
    own = METRICS[number].numbers[0]
    return text(value) if np.isfinite(own.high) else f"{value:.3g}"


@pytest.mark.parametrize("number", ["contrast", "effect", "stability", "extent"])
def test_a_cell_has_the_median_of_the_results_its_n_and_what_is_undefined(
    open_report: "Open", many: Path, number: str
) -> None:
    page = shown(open_report, many)
    for method, name in NAMES.items():
        values = numbers(many, number, method)
        known = values[np.isfinite(values)]
        own = cell(number, name)
        median, n = texts(page, f"{own} :is(strong, .n)")
        assert median.replace("\u2009≈", "") == text_of(number, float(np.median(known)))
        assert n == f"n {known.size}"
        asked = 40 if METRICS[number].coverage == "all" else 36
        lost = [f"{asked - known.size} undefined"] if known.size < asked else []
        assert [said for said in texts(page, f"{own} .counts span") if "undef" in said] == lost
        if lost:
            assert f"{lost[0]}: no positive evidence" in page.inner_text(f"{own} .visually-hidden")


PLACES = """cell => {
    const track = cell.querySelector(".scale").getBoundingClientRect();
    const at = x => (x - track.left) / track.width;
    const place = mark => {
        const box = mark.getBoundingClientRect();
        return [mark.className, [at(box.left), at(box.right)]];
    };
    return Object.fromEntries([...cell.querySelectorAll(".scale > span")].map(place));
}"""
"""Returns the ends of every mark on a cell's scale, as fractions of it."""


def test_bar_interval_chance_and_ceiling_lie_where_their_values_are(
    open_report: "Open", many: Path
) -> None:
    page, evidence = shown(open_report, many), shipped(many)
    ends = texts(page, ".evidence thead th:nth-child(3) .ends span")
    least, most = (float(end.replace("−", "-")) for end in ends)
    cells, keys = evidence["cells"], [row["key"] for row in evidence["rows"]]
    numbers_of = [own["key"] for one in evidence["questions"] for own in one["numbers"]]
    wanted = (
        numbers_of.index("effect"),
        keys.index("layer_cam"),
        evidence["layers"].index(LAYER),
        0,
    )
    columns = zip(*(cells[key] for key in ("number", "row", "layer", "scope")), strict=True)
    place = [*columns].index(wanted)
    marks = page.eval_on_selector(cell("effect", "LayerCAM"), PLACES)
    at = lambda value: (value - least) / (most - least)  # noqa: E731
    width = page.eval_on_selector(".evidence .scale", "e => e.clientWidth")
    close = {"abs": 2 / width}
    assert marks["median"] == pytest.approx(sorted([at(0), at(cells["median"][place])]), **close)
    ends_of = [at(cells["low"][place]), at(cells["high"][place])]
    assert marks["interval"] == pytest.approx(ends_of, **close)
    assert marks["chance"][0] == pytest.approx(at(0), **close)
    assert marks["ceiling"][0] == pytest.approx(at(evidence["ceilings"]["median"][0]), **close)


def test_a_number_by_construction_says_so_and_is_neither_drawn_nor_compared_as_a_result(
    open_report: "Open", many: Path
) -> None:
    page = shown(open_report, many)
    given = "[...document.querySelectorAll('.given')].map(e => e.closest('td').dataset.row)"
    rows = page.evaluate(given)
    edges, random, blob = (
        f"Control: {name}"
        for name in ("edges of the photograph", "random map", "blob in the centre")
    )
    assert sorted(rows) == sorted([edges] * 2 + [random] * 3 + [blob] * 3)
    for number, row in (("contrast", edges), ("learned", edges), ("stability", random)):
        assert "by construction" in page.inner_text(cell(number, row))
        assert "≈" not in page.inner_text(cell(number, row))
    assert "by construction" not in page.inner_text(cell("stability", edges))


def test_heads_say_which_end_is_better_and_the_limit_is_drawn(
    open_report: "Open", many: Path
) -> None:
    page = shown(open_report, many)
    said = dict(zip(QUESTIONS, texts(page, ".evidence thead .better"), strict=True))
    for key in QUESTIONS:
        words = {"high": "↑ higher is better", "low": "↓ lower is better"}
        expected = words.get(METRICS[key].numbers[0].better or "", "neither end is better")
        assert said[key] == ("above 0.8: unchanged" if key == "learned" else expected)
    assert page.locator(".evidence .limit").count() == 1 + len(NAMES) + 1 + 1
    parts = page.inner_text(".parts")
    ceilings = shipped(many)["ceilings"]
    shown_medians = {
        key: text(median)
        for key, scope, median in zip(
            *(ceilings[n] for n in ("number", "scope", "median")), strict=True
        )
        if scope == 0
    }
    assert f"Ceiling of the effect {shown_medians['effect.ceiling']} (n 36)" in parts
    assert f"Additivity (R²) {shown_medians['effect.additivity']} (n 36)" in parts
    assert "Chance: " in parts


def test_a_number_leads_to_its_images_the_most_doubtful_first(
    open_report: "Open", many: Path
) -> None:
    page = shown(open_report, many)
    page.click(f"{cell('effect', 'LayerCAM')} a")
    page.wait_for_selector(".tile")
    assert fields(page)["s"] == "effect.layer_cam.up"
    values = numbers(many, "effect", "layer_cam")
    first = int(np.nanargmin(values))
    until(
        page,
        "document.querySelector('.tile .cell').dataset.id",
        f"{first}.{_slot(many, first)}.layer_cam.{LAYER}",
    )
    page.go_back()
    page.wait_for_selector(".evidence")
    page.click(f"{cell('stability', 'LayerCAM')} a")
    page.wait_for_selector(".tile")
    assert fields(page)["s"] == "stability.layer_cam.down"


def _slot(out: Path, image: int) -> int:
    return load_results(out).images[image].top[0].index


def test_no_number_of_another_class_or_layer_leads_to_images(
    open_report: "Open", many: Path
) -> None:
    for link in ("&l=a", "&es=class:1"):
        page = shown(open_report, many, link)
        assert page.locator(".evidence .value").count() > 10
        assert page.locator(".evidence a.value").count() == 0


def test_one_number_is_shown_layer_by_layer_and_a_layer_leads_back(
    open_report: "Open", many: Path
) -> None:
    page = shown(open_report, many)
    page.select_option("[data-focus=number]", "extent.gini")
    until(page, "document.querySelectorAll('.evidence thead th').length", 3)
    assert fields(page)["e"] == "extent.gini"
    for place, layer in enumerate(synthetic.SMALL):
        values = numbers(many, "extent.gini", "xgrad_cam", layer)
        own = f".evidence td[data-row='XGrad-CAM']:nth-child({place + 2})"
        assert texts(page, f"{own} strong") == [text(float(np.nanmedian(values)))]
    page.click(".evidence thead th:nth-child(2) .head")
    asked = len(QUESTIONS) - 1  # order is measured at the last layer
    until(page, "document.querySelectorAll('.evidence thead th').length", asked)
    assert fields(page)["l"] == "a"


def test_a_question_tells_its_formula_range_source_and_what_it_cannot_say(
    open_report: "Open", many: Path
) -> None:
    page = shown(open_report, many)
    for key in QUESTIONS:
        page.click(f"[data-focus='about {key}']")
        told = page.inner_text("#about-number")
        metric = METRICS[key]
        for part in (metric.name, metric.question, metric.formula, metric.range, metric.caution):
            assert part.worded("en") in told
        assert metric.source.split(",")[0] in told
        page.keyboard.press("Escape")
    assert texts(page, ".evidence thead .question") == [
        METRICS[key].question.worded("en") for key in QUESTIONS
    ]


def test_what_is_not_told_apart_has_one_sign_and_a_sentence(
    open_report: "Open", many: Path
) -> None:
    page, evidence = shown(open_report, many), shipped(many)
    signed = [said for said in texts(page, ".evidence strong") if "≈" in said]
    assert False in evidence["cells"]["apart"]
    assert signed
    assert "≈ not told apart" in page.inner_text(".marks")
    assert "total" not in page.inner_text("#view").lower()


def test_under_thirty_images_nothing_is_put_in_order(open_report: "Open", few: Path) -> None:
    page = shown(open_report, few)
    assert not [said for said in texts(page, ".evidence strong") if "≈" in said]
    assert "Where n is below 30, nothing is put in order" in page.inner_text("#view")


def test_what_was_not_measured_is_a_line_and_no_column(open_report: "Open", few: Path) -> None:
    page = shown(open_report, few)
    assert texts(page, ".evidence thead .head") == ["Class contrast", "Learned", "Area above half"]
    lines = [line for line in texts(page, ".below .hint") if line.startswith("Not measured in")]
    assert [line.rpartition(" with ")[2] for line in lines] == ["--evidence full", "--regions FILE"]
    for key in ("effect", "order", "grid", "stability"):
        assert METRICS[key].name.worded("en") in lines[0]


def test_without_evidence_the_view_says_how_to_measure_it(open_report: "Open", off: Path) -> None:
    page = shown(open_report, off)
    assert "--evidence basic" in page.inner_text(".view-evidence")
    assert page.locator(".evidence").count() == 0
    assert axe(page) == []


@pytest.mark.parametrize(
    ("width", "looked_at"),
    [(1440, "light"), (1024, "dark"), (800, "light"), (390, "dark"), (320, "light")],
)
def test_the_view_has_no_barrier_and_nothing_stands_outside(
    open_report: "Open", many: Path, width: int, looked_at: str
) -> None:
    for scheme, link in (("light", ""), ("dark", "&e=effect&lang=zh")):
        page = shown(open_report, many, link, width=width, color_scheme=scheme)
        if scheme == looked_at:
            assert axe(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        cut = """[...document.querySelectorAll(".evidence *")]
            .filter(e => e.getBoundingClientRect().right > innerWidth).length"""
        assert page.evaluate(cut) == 0


def test_the_table_begins_high_and_is_one_tab_stop(open_report: "Open", many: Path) -> None:
    page = shown(open_report, many, width=1440, height=900)
    top = page.eval_on_selector(".evidence .head", "e => e.getBoundingClientRect().top")
    assert top <= MAX_TOP
    stops = []
    while len(stops) < 2 * MAX_STOPS:
        page.keyboard.press("Tab")
        if not page.evaluate("document.activeElement.closest('#app')"):
            break
        stops.append(page.evaluate("Boolean(document.activeElement.closest('.evidence'))"))
    assert len(stops) <= MAX_STOPS
    assert sum(stops) == 1


@pytest.mark.parametrize("width", [1440, 390])
def test_arrow_keys_move_over_heads_and_numbers(
    open_report: "Open", many: Path, width: int
) -> None:
    page = shown(open_report, many, width=width)
    page.focus("[data-focus='about effect']")
    for name in NAMES.values():
        page.keyboard.press("ArrowDown")
        assert page.evaluate("document.activeElement.closest('td').dataset.row") == name
    assert page.evaluate("document.activeElement.matches('a.value')")


def test_on_paper_the_evidence_has_one_page(open_report: "Open", many: Path) -> None:
    page = shown(open_report, many)
    pages = [said for said in pdf_pages(page.pdf(format="A4")) if "not told apart" in said]
    assert len(pages) == 1
    words = " ".join(pages[0].split())
    assert "All questions" in words
    assert all(name in words for name in ("Effect", "Order", *NAMES.values()))


def test_the_chinese_page_is_chinese(open_report: "Open", many: Path) -> None:
    page = shown(open_report, many, "&lang=zh")
    names = [*NAMES.values(), *synthetic.CLASSES, "Conv2d", "--regions FILE"]
    assert english_in(page.inner_text("#view"), names) <= {"Deletion", "Insertion"}
    go(page, "#v=summary&lang=zh", "summary")
    page.click("text=查看可信度")
    page.wait_for_selector(".view-evidence")


def test_without_scripts_the_medians_stand_in_a_table(
    chromium: "Browser", many: Path, off: Path
) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((many / "index.html").as_uri())
    rows = [row.split("\t") for row in page.inner_text("main > .scroller table").splitlines()]
    place = [*rows[1]].index("Effect")
    values = numbers(many, "effect", "layer_cam")
    own = next(row for row in rows if row[0] == "LayerCAM")
    assert own[place].startswith(f"{text(float(np.nanmedian(values)))} (")
    assert own[place].endswith(f"n {np.isfinite(values).sum()}")
    page.goto((off / "index.html").as_uri())
    assert page.locator("main > .scroller table").count() == 0
    context.close()
