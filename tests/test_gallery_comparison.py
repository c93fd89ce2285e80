"""Compared maps, and the channels that maps are made of, equal what numpy and scipy say."""

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import browser
from helpers.browser import Open, draw, eventually, pixels_of, until
from helpers.checkout import INPUTS
from helpers.page_steps import cam_of, fields, go, photo_size, texts
from helpers.pictures import heat_pixels
from helpers.small import small_model
from numpy.typing import NDArray
from playwright.sync_api import Page
from scipy.stats import spearmanr

import camreport
from camreport.insight.cache import numbered_images
from camreport.metrics.grids import resampled
from camreport.report.heatmap import (
    ZERO,
    QuantisedCam,
    colour_table,
    enlarge,
    quantise,
    shade,
)
from camreport.results.reader import Results, load_results

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not browser.required() and browser.chromium() is None, reason="no Chromium here"
    ),
]

# Comparison

ONE, OTHER = "0.0.grad_cam.features.12", "0.0.layer_cam.features.6"
SIGNED, DEEP = "0.0.hires_cam.features.9", "0.1.layer_cam.features.12"
PINS = [ONE, OTHER, SIGNED, DEEP]


def shares(cam: QuantisedCam, levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return levels as shares of the map's maximum."""
    return (levels - ZERO) / ZERO if cam.signed else levels / 255


def on_one_grid(one: QuantisedCam, other: QuantisedCam) -> list[NDArray[np.float64]]:
    """Return two maps as shares of their maxima on the finer of their grids."""
    height = max(one.levels.shape[0], other.levels.shape[0])
    width = max(one.levels.shape[1], other.levels.shape[1])
    return [shares(cam, enlarge(cam.levels, height, width)) for cam in (one, other)]


def compare(open_report: Open, out: Path, pins: list[str], more: str = "", **options: Any) -> Page:
    page = open_report(out, link=f"#v=compare&p={'~'.join(pins)}{more}", **options)
    page.wait_for_selector(".view-compare")
    return page


def test_maps_are_pinned_in_the_dialog_and_by_key(open_report: Open, demo: Path) -> None:
    page = open_report(demo)
    cell = f'.cell[data-id="{ONE}"]'
    draw(page, f"{cell} .frame")
    page.click(cell)
    page.click("#cell [data-focus=pin]")
    until(page, "document.querySelector('#cell [data-focus=pin]').ariaPressed", "true")
    assert page.inner_text("#cell [data-focus=pin]") == "Remove from Compare"
    page.keyboard.press("Escape")
    page.wait_for_selector("#cell", state="hidden")
    until(page, "document.activeElement.dataset.id", ONE)
    for pin in (OTHER, SIGNED):
        page.focus(f'.cell[data-id="{pin}"]')
        page.keyboard.press("p")
    assert fields(page)["p"].split("~") == [ONE, OTHER, SIGNED]
    assert page.text_content("#announcer") == "3 of at most 4 maps are in Compare."
    assert page.inner_text("#nav .count").strip() == "3"
    page.keyboard.press("p")
    assert fields(page)["p"].split("~") == [ONE, OTHER]
    page.click("[data-focus='view compare']")
    page.wait_for_selector(".view-compare .pin")
    assert page.locator(".pin").count() == 2


def test_at_most_four_maps_are_pinned(open_report: Open, demo: Path) -> None:
    page = open_report(demo, link="#v=matrix")
    layers = (0, 3, 6, 9, 12)
    for layer in layers:
        page.focus(f'.cell[data-id="0.0.grad_cam.features.{layer}"]')
        page.keyboard.press("p")
    pinned = fields(page)["p"].split("~")
    assert pinned == [f"0.0.grad_cam.features.{layer}" for layer in layers[:4]]
    assert page.is_visible("#announcer")
    assert page.inner_text("#announcer") == "Compare holds 4 maps already: remove one first."
    marks = page.eval_on_selector_all("#view .cell[data-pin]", "all => all.map(e => e.dataset.pin)")
    assert sorted(set(marks)) == ["A", "B", "C", "D"]
    go(page, f"v=compare&p={'~'.join(pinned)}", "compare")
    assert page.locator(".pin").count() == 4


def test_comparison_without_pins_says_how_to_pin(open_report: Open, demo: Path) -> None:
    page = open_report(demo, link="#v=compare")
    page.wait_for_selector(".view-compare")
    assert "Choose two maps" in page.inner_text("#view")
    page.click("#view a")
    page.wait_for_selector(".view-matrix")


def test_a_comparison_begins_with_a_pair_that_the_view_offers(
    open_report: Open, demo: Path
) -> None:
    page = open_report(demo, link="#v=compare")
    page.wait_for_selector(".beginnings")
    assert texts(page, ".beginnings strong") == [
        "Grad-CAM and LayerCAM",
        "features.0 and features.12",
        "dog and cat",
    ]
    assert not page.is_visible("#open-appearance"), "nothing here to draw otherwise"
    page.click(".beginnings button >> nth=0")
    page.wait_for_selector(".pair")
    assert fields(page)["p"] == "0.1.grad_cam.features.12~0.1.layer_cam.features.12"
    assert page.locator(".view-compare table.numbers tbody tr").count() == 1


def test_a_single_pin_is_shown_as_the_link_says(open_report: Open, demo: Path) -> None:
    page = compare(open_report, demo, [ONE], "&z=3&x=0.25&y=0.75")
    zoomed = page.eval_on_selector(".zoomed", "e => e.style.transform")
    cross = page.eval_on_selector(".pin .cross", "e => [e.style.left, e.style.top]")
    assert (zoomed, cross) == ("scale(3)", ["25%", "75%"])
    assert page.inner_text(".pin output")


def test_maps_that_are_not_there_leave_the_rest_alone(open_report: Open, demo: Path) -> None:
    page = compare(open_report, demo, ["99.0.grad_cam.features.12", ONE, "0.0.nothing.x", OTHER])
    text = page.inner_text("#view")
    assert "Grad-CAM" in text
    assert "NaN" not in text


def agreement_rows(page: Page) -> dict[str, tuple[float, float]]:
    """Return the shown rank correlation and overlap of each pair of maps."""
    rows: list[list[str]] = page.eval_on_selector_all(
        ".view-compare table.numbers tbody tr",
        "all => all.map(row => [...row.children].map(cell => cell.textContent))",
    )
    return {
        name: (float(correlation.replace("−", "-")), float(overlap.removesuffix("%")) / 100)
        for name, correlation, overlap in rows
    }


def test_agreement_equals_scipy_and_numpy_on_the_common_grid(open_report: Open, demo: Path) -> None:
    results = load_results(demo)
    rows = agreement_rows(compare(open_report, demo, PINS))
    pairs = [(a, b) for a in range(4) for b in range(a + 1, 4)]
    assert [*rows] == [f"{'ABCD'[a]} and {'ABCD'[b]}" for a, b in pairs]
    for shown, (a, b) in zip(rows.values(), pairs, strict=True):
        cams = [cam_of(results, PINS[place]) for place in (a, b)]
        one, other = (
            np.round(resampled(np.maximum(shares(cam, cam.levels.astype(float)), 0), 14, 14), 5)
            for cam in cams
        )
        expected = float(spearmanr(one.ravel(), other.ravel()).statistic)
        high = [values >= np.sort(values, axis=None)[-39] for values in (one, other)]
        union = (high[0] & high[1]).sum() / (high[0] | high[1]).sum()
        assert shown == pytest.approx((expected, union), abs=0.0052)


@pytest.mark.parametrize("layer", [0, 6, 12])
def test_agreement_is_the_number_that_the_summary_and_tables_give(
    open_report: Open, demo: Path, layer: int
) -> None:
    results, address = load_results(demo), f"features.{layer}"
    methods = ("grad_cam", "layer_cam", "hires_cam")
    rows = agreement_rows(compare(open_report, demo, [f"0.0.{key}.{address}" for key in methods]))
    numbers, _ = next(iter(numbered_images(results)))
    for (one, other), name in (((0, 1), "A and B"), ((0, 2), "A and C"), ((1, 2), "B and C")):
        keys = {f"{methods[place]}/{address}" for place in (one, other)}
        (place,) = (i for i, pair in enumerate(numbers.pairs) if {*map(str, pair)} == keys)
        correlation, overlap = (
            float(values[place, 0, 0]) for values in (numbers.correlation, numbers.overlap)
        )
        # Levels of 8 bits may take one cell of 39 for another; the page rounds to two digits.
        assert rows[name][0] == pytest.approx(correlation, abs=0.0151)
        assert rows[name][1] == pytest.approx(overlap, abs=0.0551)


def test_a_map_shares_hardly_any_high_cell_with_its_negative(
    open_report: Open, tmp_path: Path
) -> None:
    model = small_model(("yes", "no"))
    with torch.no_grad():
        model.module.head.weight[1] = -model.module.head.weight[0]  # type: ignore[union-attr, index]
    camreport.run(
        INPUTS / "cat.jpg", tmp_path / "g", model=model, layers=["features.3"], methods="hires_cam"
    )
    pins = [f"0.{rank}.hires_cam.features.3" for rank in (0, 1)]
    correlation, overlap = agreement_rows(compare(open_report, tmp_path / "g", pins))["A and B"]
    assert correlation < 0
    assert overlap < 0.1


@pytest.mark.parametrize(("chosen", "pins"), [("01", (ONE, OTHER)), ("23", (SIGNED, DEEP))])
def test_difference_map_equals_numpy(
    open_report: Open, demo: Path, chosen: str, pins: tuple[str, str]
) -> None:
    results = load_results(demo)
    page = compare(open_report, demo, PINS, f"&ab={chosen}")
    one, other = on_one_grid(*(cam_of(results, pin) for pin in pins))
    levels = np.clip(one - other, -1, 1) * ZERO + ZERO
    height, width = photo_size(results, 0)
    index = np.floor(enlarge(levels, height, width) + 0.5).astype(np.uint8)  # type: ignore[arg-type]
    drawn = pixels_of(page, ".difference canvas.heat")
    assert drawn.shape == (height, width, 4)
    assert np.ptp(index) > 100
    np.testing.assert_array_equal(drawn[..., :3], colour_table("diverging")[index])
    strength = np.abs(index.astype(float) - ZERO) / ZERO
    np.testing.assert_array_equal(drawn[..., 3], np.floor(0.9 * strength * 255 + 0.5))
    names = ["ABCD"[int(place)] for place in chosen]
    assert f"{names[0]} minus {names[1]}" in page.inner_text(".ways")


def test_swipe_clips_one_map_over_the_other(open_report: Open, demo: Path) -> None:
    page = compare(open_report, demo, [ONE, OTHER])
    page.fill("[data-focus=swipe]", "30")
    assert fields(page)["sw"] == "30"
    page.eval_on_selector(".swipe", "e => e.scrollIntoView({behavior: 'instant', block: 'center'})")
    drawn = [pixels_of(page, f".swipe {layer} canvas.heat") for layer in ("> .zoomed", ".cut")]
    results = load_results(demo)
    for pixels, pin in zip(drawn, (OTHER, ONE), strict=True):
        expected = heat_pixels(cam_of(results, pin), *photo_size(results, 0))
        np.testing.assert_array_equal(pixels, expected)
    above = """share => {
        const box = document.querySelector(".swipe").getBoundingClientRect();
        const middle = box.top + box.height / 2;
        const at = document.elementFromPoint(box.left + share * box.width, middle);
        return [Boolean(at.closest(".swipe")), Boolean(at.closest(".cut"))];
    }"""
    assert page.evaluate(above, 0.25) == [True, True]
    assert page.evaluate(above, 0.35) == [True, False]
    page.focus("[data-focus=swipe]")
    page.keyboard.press("End")
    assert page.evaluate(above, 0.95) == [True, True]
    assert page.get_attribute("[data-focus=swipe]", "aria-valuetext") == "100%"


SHOWN = """(() => {
    const figure = document.querySelectorAll(".ways figure")[1];
    const [first, second] = figure.querySelectorAll(".zoomed");
    return [first.checkVisibility(), second.checkVisibility()];
})()"""


def test_flicker_swaps_two_maps_until_it_is_stopped(open_report: Open, demo: Path) -> None:
    page = compare(open_report, demo, [ONE, OTHER], fresh=True)  # for its clock
    said = ".ways figure:has([data-focus=flicker]) output"
    assert (page.inner_text(said), page.evaluate(SHOWN)) == ("A", [True, False])
    page.click("[data-focus=turn]")
    assert (page.inner_text(said), page.evaluate(SHOWN)) == ("B", [False, True])
    page.clock.install(time=datetime(2026, 1, 1))
    page.clock.pause_at(datetime(2026, 1, 1, 0, 1))  # or a busy machine's own seconds count, too
    page.click("[data-focus=flicker]")
    assert page.get_attribute("[data-focus=flicker]", "aria-pressed") == "true"
    for shown in ([True, False], [False, True], [True, False]):
        page.clock.run_for(700)
        assert page.evaluate(SHOWN) == shown
    page.click("[data-focus=flicker]")
    assert page.get_attribute("[data-focus=flicker]", "aria-pressed") == "false"
    page.clock.run_for(7000)
    assert page.evaluate(SHOWN) == [True, False]


def test_reduced_motion_leaves_the_swap_to_the_reader(open_report: Open, demo: Path) -> None:
    page = compare(open_report, demo, [ONE, OTHER], reduced_motion="reduce")
    assert page.locator("[data-focus=flicker]").count() == 0
    page.click("[data-focus=turn]")
    assert page.evaluate(SHOWN) == [False, True]


MOVED = """(() => {
    const zoomed = [...document.querySelectorAll(".zoomed")];
    const cross = [...document.querySelectorAll(".pin .cross")];
    return [
        zoomed.length,
        [...new Set(zoomed.map(e => e.style.transform))],
        [...new Set(zoomed.map(e => e.style.transformOrigin))],
        [...new Set(cross.map(e => e.style.left + " " + e.style.top))],
    ];
})()"""


def assert_readings(page: Page, results: Results, pins: list[str], x: float, y: float) -> None:
    """Compare the values below the windows with those of the maps at a place."""
    for said, pin in zip(texts(page, ".pin output"), pins, strict=True):
        cam = cam_of(results, pin)
        full = photo_size(results, int(pin.split(".")[0]))
        height, width = full
        level = enlarge(cam.levels, height, width)[int(y * height), int(x * width)]
        value = float(shares(cam, np.array(level))) * cam.peak
        shown = float(re.split(",| ", said)[0].replace("−", "-"))
        assert shown == pytest.approx(value, rel=6e-3, abs=1e-12), pin


def test_zoom_and_cross_hair_move_all_windows_together(open_report: Open, demo: Path) -> None:
    results = load_results(demo)
    pins = [*PINS[:3], "2.1.grad_cam.features.12"]
    page = compare(open_report, demo, pins)
    page.fill("[data-focus=zoom]", "4")
    page.fill("[data-focus=atX]", "0.3")
    page.fill("[data-focus=atY]", "0.6")
    count, transforms, origins, crosses = page.evaluate(MOVED)
    assert count == 4 + 2 + 2 + 1  # windows, swipe, flicker, difference
    assert (transforms, origins, crosses) == (["scale(4)"], ["30% 60%"], ["30% 60%"])
    assert_readings(page, results, pins, 0.3, 0.6)
    link = page.evaluate("location.hash")
    assert {"z": "4", "x": "0.3", "y": "0.6"}.items() <= fields(page).items()
    again = open_report(demo, link=link)
    again.wait_for_selector(".view-compare .pin")
    assert again.evaluate(MOVED) == page.evaluate(MOVED)
    assert texts(again, ".pin output") == texts(page, ".pin output")


def test_a_click_moves_the_cross_hair_to_what_was_clicked(open_report: Open, demo: Path) -> None:
    results = load_results(demo)
    page = compare(open_report, demo, [ONE, OTHER], "&z=2&x=0.5&y=0.5")
    box = page.locator(".pin .window").first.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 0.75 * box["height"])
    x, y = float(fields(page)["x"]), float(fields(page)["y"])
    assert (x, y) == (pytest.approx(0.375, abs=0.005), pytest.approx(0.625, abs=0.005))
    assert_readings(page, results, [ONE, OTHER], x, y)
    assert page.evaluate(MOVED)[3] == [f"{x * 100:g}% {y * 100:g}%"]


def test_unpinning_takes_a_map_away(open_report: Open, demo: Path) -> None:
    page = compare(open_report, demo, [ONE, OTHER, SIGNED])
    page.click("[data-focus=unpin-1]")
    until(page, "document.querySelectorAll('.pin').length", 2)
    assert fields(page)["p"].split("~") == [ONE, SIGNED]
    page.click("[data-focus=clear]")
    until(page, "document.querySelectorAll('.pin').length", 0)
    assert "p" not in fields(page)


# Channels


@pytest.fixture(scope="module")
def channels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with all channels of two layers."""
    out = tmp_path_factory.mktemp("channels") / "g"
    camreport.run(
        [INPUTS / "both.jpg", INPUTS / "cat.jpg"],
        out,
        layers=["10", "12"],
        channels=["12", "10"],
        methods="grad_cam,layer_cam",
    )
    return out


LAST = "features.12"
ORDER = "#view .feature-maps .channel .number"


def numbers(page: Page) -> list[int]:
    return [int(text) for text in texts(page, ORDER)]


def six(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return numbers with the digits that the page has of them."""
    return np.array([float(f"{value:.6g}") for value in values])


def contributions(results: Results, image: int, rank: int, layer: str) -> NDArray[np.float64]:
    arrays = results.arrays(image)
    maps = arrays[f"feature_maps/{layer}"]
    weights = six(arrays[f"channel_weights/{layer}"][rank])
    return weights * six(maps.mean((1, 2))) * maps.shape[1] * maps.shape[2]


def show_channels(open_report: Open, out: Path, more: str = "", layer: str = LAST) -> Page:
    page = open_report(out, link=f"#v=channels&cl={layer}{more}")
    page.wait_for_selector(".view-channels .channel")
    return page


def test_all_channels_stand_in_sixteen_columns(open_report: Open, channels: Path) -> None:
    page = show_channels(open_report, channels)
    assert numbers(page) == list(range(256))
    tracks = "getComputedStyle(document.querySelector('.feature-maps')).gridTemplateColumns"
    assert len(page.evaluate(tracks).split()) == 16
    rows = page.eval_on_selector_all(
        ".channel", "all => new Set(all.map(e => Math.round(e.getBoundingClientRect().top))).size"
    )
    assert rows == 16
    assert texts(page, "[data-focus=channelLayer] option") == ["features.10", LAST]


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("layer", [LAST, "features.10"])
def test_channels_are_ordered_as_numpy_orders_them(
    open_report: Open, channels: Path, layer: str, rank: int
) -> None:
    results = load_results(channels)
    page = show_channels(open_report, channels, f"&k={rank}", layer)
    means = six(results.arrays(0)[f"feature_maps/{layer}"].mean((1, 2)))
    for order, values in (
        ("activation", means),
        ("contribution", contributions(results, 0, rank, layer)),
        ("index", -np.arange(256.0)),
    ):
        page.select_option("[data-focus=channelSort]", order)
        wanted = np.argsort(-values, kind="stable").tolist()
        until(page, f"Number(document.querySelector('{ORDER}').textContent)", wanted[0])
        assert numbers(page) == wanted


def test_a_channel_is_drawn_and_described_as_the_shard_has_it(
    open_report: Open, channels: Path
) -> None:
    results = load_results(channels)
    maps = results.arrays(0)[f"feature_maps/{LAST}"]
    page = show_channels(open_report, channels, "&k=0")
    alive = np.flatnonzero(maps.max((1, 2)) > 0)
    dead = np.flatnonzero(maps.max((1, 2)) <= 0)
    for channel in (alive[0], alive[-1]):
        cell = f".channel[data-focus='channel {channel}']"
        drawn = pixels_of(page, f"{cell} canvas")
        expected_pixels = heat_pixels(quantise(maps[channel]), 64, 64, opacity=1, by_value=False)
        np.testing.assert_array_equal(drawn, expected_pixels)
        said = page.get_attribute(cell, "aria-label")
        mean, share = re.findall(r"(?:activation|contribution) (−?[\d.e−]+)", said or "")
        assert float(mean) == pytest.approx(float(maps[channel].mean()), rel=6e-3)
        expected = contributions(results, 0, 0, LAST)[channel]
        assert float(share.replace("−", "-")) == pytest.approx(expected, rel=6e-3)
    for channel in dead[:1]:
        assert page.locator(f".channel[data-focus='channel {channel}'] canvas").count() == 0


def levels_drawn(pixels: NDArray[np.uint8], table: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return which entry of a colour table each pixel shows."""
    places = {tuple(colour): index for index, colour in enumerate(table.tolist())}
    flat = [places[tuple(pixel)] for pixel in pixels[..., :3].reshape(-1, 3).tolist()]
    return np.array(flat).reshape(pixels.shape[:2])


@pytest.mark.parametrize(("image", "rank"), [(0, 0), (0, 1), (1, 0)])
def test_all_channels_together_are_grad_cams_map(
    open_report: Open, channels: Path, image: int, rank: int
) -> None:
    page = show_channels(open_report, channels, f"&i={image}&k={rank}")
    page.click("[data-focus=pick-all]")
    until(page, "document.querySelectorAll('.channel[aria-pressed=true]').length", 256)
    page.wait_for_selector(".sum canvas.heat")
    assert "this is Grad-CAM’s map" in page.inner_text(".sum figcaption")
    table = colour_table("inferno")
    summed = levels_drawn(pixels_of(page, ".sum canvas.heat"), table)
    go(page, f"v=matrix&open={image}.{rank}.grad_cam.{LAST}", "matrix")
    page.wait_for_selector("#probe[data-drawn]")
    shown = pixels_of(page, "#probe canvas.heat")
    drawn = levels_drawn(shown, table)
    assert np.ptp(drawn) > 200
    assert np.abs(summed - drawn).max() <= 2
    cam = quantise(load_results(channels).arrays(image)[f"grad_cam/{LAST}"][rank])
    np.testing.assert_array_equal(shown, heat_pixels(cam, *drawn.shape))


def test_some_channels_together_are_numpys_weighted_sum(open_report: Open, channels: Path) -> None:
    results = load_results(channels)
    arrays = results.arrays(0)
    maps = arrays[f"feature_maps/{LAST}"].astype(np.float64)
    weights = arrays[f"channel_weights/{LAST}"][1].astype(np.float64)
    best = np.argsort(-contributions(results, 0, 1, LAST), kind="stable")[:5]
    page = show_channels(open_report, channels, "&k=1&co=contribution")
    page.fill("[data-focus=top]", "4")
    until(page, "document.querySelectorAll('.channel[aria-pressed=true]').length", 4)
    page.click(f".channel[data-focus='channel {best[4]}']")
    until(page, "document.querySelectorAll('.channel[aria-pressed=true]').length", 5)
    assert fields(page)["ch"] == "-".join(map(str, sorted(best)))
    assert page.text_content("#announcer") == "5 of 256"
    expected = np.einsum("c,chw->hw", weights[best], maps[best])
    drawn = levels_drawn(pixels_of(page, ".sum canvas.heat"), colour_table("inferno"))
    wanted = shade(quantise(expected.astype(np.float32)), *photo_size(results, 0))[0]
    assert np.abs(drawn - wanted.astype(np.int64)).max() <= 2
    caption = page.inner_text(".sum figcaption")
    assert "5 of 256 channels for class dog" in caption
    peak = float(caption.rsplit("maximum is ", 1)[1].rstrip("."))
    assert peak == pytest.approx(expected.max(), rel=0.01)
    page.click(f".channel[data-focus='channel {best[4]}']")
    until(page, "document.querySelectorAll('.channel[aria-pressed=true]').length", 4)
    page.click("[data-focus=pick-none]")
    page.wait_for_selector(".sum .label")
    assert page.inner_text(".sum .label") == "pick channels to add them up"


def test_channels_are_one_tab_stop_and_take_the_keys(open_report: Open, channels: Path) -> None:
    page = show_channels(open_report, channels)
    stop = ".feature-maps .cell[tabindex='0']"
    assert page.locator(stop).count() == 1
    page.locator(stop).focus()
    reached = []
    for key in ("ArrowRight", "ArrowDown", "End", "Home", "ArrowUp"):
        page.keyboard.press(key)
        reached.append(page.evaluate("document.activeElement.dataset.focus"))
    assert reached == [f"channel {number}" for number in (1, 17, 31, 16, 0)]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('.channel[aria-pressed=true]').length", 1)
    until(page, "document.activeElement.dataset.focus", "channel 1")
    assert page.locator(stop).count() == 1
    assert fields(page)["ch"] == "1"


def test_channels_take_the_colours_and_the_cells(open_report: Open, channels: Path) -> None:
    maps = load_results(channels).arrays(0)[f"feature_maps/{LAST}"]
    channel = int(maps.max((1, 2)).argmax())
    cell = f".channel[data-focus='channel {channel}'] canvas"
    page = show_channels(open_report, channels)
    page.click("#open-appearance")
    page.select_option("[data-focus=colormap]", "cividis")
    page.check("[data-focus=cells]")
    look = {"colormap": "cividis", "smooth": False, "opacity": 1, "by_value": False}
    wanted = heat_pixels(quantise(maps[channel]), 64, 64, **look)  # type: ignore[arg-type]
    eventually(lambda: np.array_equal(pixels_of(page, cell), wanted))


def test_without_channels_there_is_no_such_view_but_the_way_to_it(
    open_report: Open, demo: Path
) -> None:
    page = open_report(demo, link="#v=channels")
    page.wait_for_selector(".view-channels")
    assert page.locator("[data-focus='view channels']").count() == 0
    assert "--channels features.12" in page.inner_text("#view")
