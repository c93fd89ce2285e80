"""Numbers of the evidence where single maps and images are looked at: the dialog, and Images."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import browser, synthetic
from helpers.browser import axe, settle, until
from helpers.page_steps import fields, texts
from helpers.synthetic_evidence import write_evidence
from numpy.typing import NDArray
from scipy.integrate import trapezoid

from camreport.report.gallery import render_gallery
from camreport.results.reader import load_results

if TYPE_CHECKING:
    from helpers.browser import Open
    from playwright.sync_api import Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not browser.required() and browser.chromium() is None, reason="no Chromium here"
    ),
]

COUNT = 12
NO_POSITIVE = 4


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on 12 images, 6 of them in the sample, with every question and regions."""
    folder = tmp_path_factory.mktemp("numbers") / "g"
    synthetic.write_results(folder, COUNT, grids=synthetic.SMALL, photo_side=96)
    write_evidence(folder, level="full", sample=6, regions=True)
    render_gallery(folder)
    return folder


@pytest.fixture(scope="module")
def arrays(out: Path) -> dict[str, NDArray[np.float32]]:
    """What the results hold of all images."""
    with np.load(out / "results/evidence-000000.npz") as found:
        return dict(found)


def sample(out: Path) -> list[int]:
    entry = load_results(out).manifest.evidence
    assert entry is not None
    return list(entry.sample)


def predicted(out: Path, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each image's number of its predicted class."""
    results = load_results(out)
    return values[np.arange(COUNT), [image.top[0].index for image in results.readable]]


def text(value: float) -> str:
    """Write a number that has a greatest value with two digits behind the point, as shipped."""
    return f"{float(f'{value:.3g}'):.2f}".replace("-", "−")


def digits(value: float) -> str:
    """Write a number without a greatest value with three digits."""
    return f"{float(f'{value:.3g}'):.10g}"


def opened(open_report: "Open", out: Path, map_: str, **options: object) -> "Page":
    """Open a map."""
    page = open_report(out, link=f"#v=matrix&open={map_}", **options)
    page.wait_for_selector("#probe[data-drawn]")
    return page


def rows(page: "Page") -> dict[str, list[str]]:
    """Return what the dialog says below each question: its number, then the others of it."""
    names = texts(page, ".measured dt strong")
    said = [
        row.locator("dd:not(.hint), dd.hint span").all_inner_texts()
        for row in page.locator(".measured dl > div").all()
    ]
    return dict(zip(names, said, strict=True))


# The dialog


def test_the_dialog_says_a_maps_own_numbers_below_their_questions(
    open_report: "Open", out: Path, arrays: dict[str, NDArray[np.float32]]
) -> None:
    image = next(
        one
        for one in sample(out)
        if np.isfinite(
            [arrays[f"{name}/layer_cam/b"][one, 1] for name in ("contrast", "order", "extent")]
        ).all()
    )
    page = opened(open_report, out, f"{image}.1.layer_cam.b")
    said = rows(page)
    assert list(said) == [
        *(
            "Class contrast",
            "Effect",
            "Order",
            "Learned",
            "Stability",
            "Area above half",
            "On the object",
        )
    ]
    for name, key in (
        ("Class contrast", "contrast"),
        ("Order", "order"),
        ("Area above half", "extent"),
    ):
        assert said[name][0] == text(arrays[f"{key}/layer_cam/b"][image, 1])
    questions = page.locator(".measured dt").all_inner_texts()
    assert questions[0] == "Class contrast Does the map answer for this class?"
    assert "−1 to 1, ↓ lower is better" in said["Class contrast"]
    ceiling = f"Ceiling of the effect {text(arrays['effect.ceiling'][image, 1])}"
    assert ceiling in said["Effect"] or np.isnan(arrays["effect.ceiling"][image, 1])
    page.click("#cell [data-focus='class 0']")
    until(
        page,
        "document.querySelector('#cell [aria-current][data-focus^=class]').dataset.focus",
        "class 0",
    )
    value = arrays["extent/layer_cam/b"][image, 0]
    other = "n/a: no positive evidence" if np.isnan(value) else text(value)
    assert rows(page)["Area above half"][0] == other, "each class has its own"


def test_a_number_that_is_not_there_says_why(
    open_report: "Open", out: Path, arrays: dict[str, NDArray[np.float32]]
) -> None:
    reasons = arrays["extent.why/grad_cam/b"]
    image, rank = np.argwhere(reasons == NO_POSITIVE)[0].tolist()
    page = opened(open_report, out, f"{image}.{rank}.grad_cam.b")
    assert rows(page)["Area above half"][0] == "n/a: no positive evidence"
    outside = next(one for one in range(COUNT) if one not in sample(out))
    page = opened(open_report, out, f"{outside}.0.grad_cam.b", width=1024)
    said = rows(page)
    assert {said[name][0] for name in ("Effect", "Order", "Learned", "Stability")} == {
        "n/a: outside the sample"
    }
    assert said["Area above half"][0] != "n/a: outside the sample", "it is measured of every image"
    assert page.locator(".curves").count() == 0


def test_the_curves_are_those_of_the_results_and_are_told_in_words(
    open_report: "Open", out: Path, arrays: dict[str, NDArray[np.float32]]
) -> None:
    image = sample(out)[0]
    page = opened(open_report, out, f"{image}.1.grad_cam.b")
    name = page.get_attribute(".curves svg", "aria-label") or ""
    for key in ("morf", "lerf"):
        curve = arrays[f"order.{key}/grad_cam/b"][image, 1]
        points = page.get_attribute(f".curves polyline.{key}", "points") or ""
        down = np.array([point.split(",")[1] for point in points.split()], float)
        axis = (page.get_attribute(".curves .axes", "d") or "").split()
        top, low = float(axis[1].split("V")[0]), float(axis[1].split("V")[1].split("H")[0])
        assert np.abs((low - down) / (low - top) - curve).max() < 1e-3
        area = float(trapezoid(curve, dx=1 / (len(curve) - 1)))
        stated = [float(word.rstrip(".,;")) for word in name.split() if word[:1].isdigit()]
        assert min(abs(one - area) for one in stated) <= 0.0051, key
        said = page.inner_text(f".curves .key.{key}")
        assert abs(float(said.rstrip(")").split()[-1]) - area) <= 0.0051
    assert "dog" in name


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_in_the_dialogs_numbers(
    open_report: "Open", out: Path, theme: str
) -> None:
    page = opened(open_report, out, f"{sample(out)[0]}.1.grad_cam.b&th={theme}&bx=1")
    page.locator(".curves").scroll_into_view_if_needed()
    assert axe(page) == []


def test_a_report_without_evidence_says_nothing_of_it(open_report: "Open", demo_off: Path) -> None:
    page = opened(open_report, demo_off, "0.0.grad_cam.b")
    assert not page.is_visible(".measured")
    page.evaluate("location.hash = '#v=overview'")
    page.wait_for_selector(".view-overview")
    assert page.locator("[data-focus=wrong-places], #view optgroup").count() == 0


@pytest.fixture(scope="module")
def demo_off(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on two images without evidence."""
    folder = tmp_path_factory.mktemp("off") / "g"
    synthetic.write_results(folder, 2, grids=synthetic.SMALL, photo_side=96)
    render_gallery(folder)
    return folder


# Images


def overview(open_report: "Open", out: Path, link: str = "", **options: object) -> "Page":
    page = open_report(out, link=f"#v=overview{link}", **options)
    page.wait_for_selector(".view-overview .tile")
    settle(page)
    return page


def shown(page: "Page") -> list[int]:
    """Return which images are shown, in order."""
    return [int(name.split("_")[1][:5]) for name in texts(page, ".tile .name")]


@pytest.mark.parametrize("way", ["up", "down"])
def test_images_are_sorted_by_a_number_of_a_method_and_say_it(
    open_report: "Open", out: Path, arrays: dict[str, NDArray[np.float32]], way: str
) -> None:
    page = overview(open_report, out, f"&s=regions.lift.grad_cam.{way}")
    values = predicted(out, arrays["regions.lift/grad_cam/b"])
    found = values[shown(page)]
    known = found[np.isfinite(found)]
    ordered = np.sort(known) if way == "up" else -np.sort(-known)
    assert np.allclose(known, ordered, rtol=5e-3), "three digits are shipped"
    assert np.isnan(found[len(known) :]).all(), "those without the number come last"
    said = texts(page, ".tile .sorted")
    assert said[0] == f"Lift over the area · Grad-CAM {digits(found[0])}"
    menu = page.locator("[data-focus=sort]")
    assert menu.input_value() == "regions.lift.grad_cam"
    groups = menu.locator("optgroup").evaluate_all("all => all.map(one => one.label)")
    assert [name.split(",")[0] for name in groups[:2]] == ["Area above half", "Class contrast"]
    menu.select_option("effect.layer_cam")
    assert fields(page)["s"] == "effect.layer_cam.down"
    until(page, "document.querySelector('.tile .sorted').textContent.startsWith('Effect · Layer')")
    assert {*shown(page)[:3]} <= {*sample(out)}, "the others have no such number"
    menu.select_option("order")
    until(page, "document.querySelector('.tile .sorted').textContent === ''")


def test_images_outside_the_sample_are_told_of_once_and_left_out_on_demand(
    open_report: "Open", out: Path, arrays: dict[str, NDArray[np.float32]]
) -> None:
    page = overview(open_report, out, "&s=effect.grad_cam.up")
    values = predicted(out, arrays["effect/grad_cam/b"])
    known = np.flatnonzero(np.isfinite(values))
    said = f"{known.size} of {COUNT} images are in the sample; the others follow without a number."
    assert page.inner_text(".lacking").startswith(said)
    assert axe(page) == []
    page.click("[data-focus=only]")
    until(page, "document.querySelectorAll('.tile').length", known.size)
    assert {*shown(page)} == {*known.tolist()}
    assert fields(page)["q"] == "effect.grad_cam>=-1"
    assert not page.is_visible(".lacking")
    page.select_option("[data-focus=sort]", "name")
    assert not page.is_visible(".lacking")


def test_a_query_asks_for_any_number_of_a_method(
    open_report: "Open", out: Path, arrays: dict[str, NDArray[np.float32]]
) -> None:
    page = overview(open_report, out, "&q=effect.layer_cam%3C60%25")
    values = predicted(out, arrays["effect/layer_cam/b"])
    assert {*shown(page)} == {*np.flatnonzero(values < 0.6).tolist()}
    assert texts(page, ".chips li") == ["Effect · LayerCAM < 0.6×"]
    page.click("[data-focus=query-help]")
    said = page.inner_text("#query-help .hint")
    assert "regions.lift.METHOD" in said
    assert "grad_cam" not in said


def test_right_answers_with_maps_elsewhere_are_one_click_away(
    open_report: "Open", out: Path, arrays: dict[str, NDArray[np.float32]]
) -> None:
    page = overview(open_report, out, "&q=IMG")
    page.click("[data-focus=wrong-places]")
    state = fields(page)
    assert (state["q"], state["s"]) == ("IMG right:yes", "regions.grad_cam.up")
    assert page.get_attribute("[data-focus=wrong-places]", "aria-pressed") == "true"
    settle(page)
    results = load_results(out)
    right = [image.index for image in results.readable if image.top[0].index == image.label]
    assert {*shown(page)} == {*right}
    values = predicted(out, arrays["regions/grad_cam/b"])[shown(page)]
    known = values[np.isfinite(values)]
    assert (np.diff(known) > -5e-3).all()
    assert axe(page) == []
