"""A report draws what Python draws: every map, whatever its look, and what an open one says."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import browser
from helpers.browser import Open, pixels_of, settle
from helpers.checkout import INPUTS
from helpers.drawn_maps import reference, reference_lines, size_of
from helpers.report_cells import LAYERS, METHOD_KEYS, cell, drawn, facts_of, ready, show
from helpers.small import small_model
from numpy.typing import NDArray
from scipy.ndimage import label

import camreport
from camreport.images.preprocessing import Preprocessing
from camreport.methods import METHODS
from camreport.report.heatmap import (
    enlarge,
    quantise,
    shade,
)
from camreport.results.reader import load_results

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not browser.required() and browser.chromium() is None, reason="no Chromium here"
    ),
]


MAPS = [
    (0, 0, "grad_cam", "features.12"),
    (2, 0, "hires_cam", "features.6"),
    (1, 1, "layer_cam", "fused"),
    (1, 1, "layer_cam", "features.0"),
]


LOOKS: list[tuple[str, dict[str, Any]]] = [
    ("", {}),
    ("&t=25&cm=cividis", {"threshold": 0.25, "colormap": "cividis"}),
    ("&t=95&cm=jet", {"threshold": 0.95, "colormap": "jet"}),
    ("&rc=1&cm=viridis", {"smooth": False, "colormap": "viridis"}),
    ("&rc=1&t=50&cm=gray", {"smooth": False, "threshold": 0.5, "colormap": "gray"}),
    ("&cm=turbo&t=5", {"colormap": "turbo", "threshold": 0.05}),
    ("&o=35&lf=1", {"opacity": 0.35, "lift": True}),
    ("&o=50&av=0&cm=jet", {"opacity": 0.5, "by_value": False, "colormap": "jet"}),
    ("&o=100&t=10&lf=1", {"opacity": 1, "threshold": 0.1, "lift": True}),
    ("&o=65&d=heat", {"opacity": 1, "by_value": False}),
    ("&o=0", {"opacity": 0}),
]


SCALES = ("map", "method", "image", "report")


@pytest.mark.parametrize("scale", SCALES)
def test_pixels_equal_the_python_reference(open_report: Open, report: Path, scale: str) -> None:
    """Of looks, scales and maps, each value of one meets each value of another."""
    page = ready(open_report(report, link=f"#v=matrix&sc={scale}"))
    shown = 0
    for number, (words, look) in enumerate(LOOKS, SCALES.index(scale)):
        image, *rest = MAPS[number % len(MAPS)]
        show(page, f"#v=matrix&sc={scale}&i={image}{words}")
        pixels = drawn(page, cell(image, *rest))
        expected = reference(report, image, *rest, scale=scale, **look)
        np.testing.assert_array_equal(pixels, expected)
        shown += bool(pixels[..., 3].any())
    assert shown >= len(LOOKS) - 3, "one look is transparent; a map may lie below all colours"


@pytest.mark.parametrize("scale", ["map", "report"])
def test_contours_equal_the_python_reference(open_report: Open, report: Path, scale: str) -> None:
    page = ready(open_report(report, link=f"#v=matrix&sc={scale}&ct=1"))
    for image, *rest in MAPS:
        show(page, f"#v=matrix&sc={scale}&ct=1&t=10&i={image}")
        drawn(page, cell(image, *rest))
        lines = pixels_of(page, f"{cell(image, *rest)} canvas.lines")
        np.testing.assert_array_equal(lines, reference_lines(report, image, *rest, scale))
        assert lines.any() or scale == "report"


def test_controls_draw_what_their_links_draw(open_report: Open, report: Path) -> None:
    page = ready(open_report(report, link="#v=matrix"))
    where = MAPS[0]
    look: dict[str, Any] = {}
    drawn(page, cell(*where))
    page.click("#open-appearance")
    for control, value, changes in (
        ("colormap", "cividis", {"colormap": "cividis"}),
        ("threshold", "30", {"threshold": 0.3}),
        ("scale", "method", {"scale": "method"}),
        ("scale", "image", {"scale": "image"}),
        ("scale", "report", {"scale": "report"}),
        ("cells", True, {"smooth": False}),
        ("lift", True, {"lift": True}),
        ("opacity", "20", {"opacity": 0.2}),
        ("byValue", False, {"by_value": False}),
    ):
        look |= changes
        element = page.locator(f'#appearance [data-focus="{control}"]')
        if isinstance(value, bool):
            element.set_checked(value)
        elif control in ("threshold", "opacity"):
            element.fill(str(value))
        else:
            element.select_option(str(value))
        np.testing.assert_array_equal(drawn(page, cell(*where)), reference(report, *where, **look))
    page.locator('#appearance [data-focus="contours"]').check()
    assert (
        page.evaluate("location.hash")
        == "#v=matrix&o=20&t=30&cm=cividis&sc=report&av=0&lf=1&ct=1&rc=1"
    )
    heat = f"{cell(*where)} canvas.heat"
    page.locator('#appearance [data-focus="show"]').select_option("heat")
    opaque = reference(report, *where, **look | {"opacity": 1})
    np.testing.assert_array_equal(drawn(page, cell(*where)), opaque)
    assert not page.is_visible(f"{cell(*where)} .frame > img")
    page.locator('#appearance [data-focus="show"]').select_option("photo")
    assert page.eval_on_selector(heat, "e => getComputedStyle(e).opacity") == "0"
    page.locator('#appearance [data-focus="grey"]').check()
    photo = f"{cell(*where)} .frame > img"
    assert page.eval_on_selector(photo, "e => getComputedStyle(e).filter") == "grayscale(1)"


def test_overview_and_enlarged_map_equal_the_python_reference(
    open_report: Open, report: Path
) -> None:
    page = ready(open_report(report, link="#v=overview&k=1&m=hires_cam&l=features.9"))
    for image in range(3):
        where = (image, 1, "hires_cam", "features.9")
        np.testing.assert_array_equal(
            drawn(page, cell(*where)), reference(report, *where, side=160)
        )
    for where in MAPS:
        name = ".".join(map(str, where))
        show(page, f"#v=overview&open={name}&sc=image&t=15")
        page.wait_for_selector("#probe[data-drawn]")
        np.testing.assert_array_equal(
            pixels_of(page, "#probe canvas.heat"),
            reference(report, *where, side=None, scale="image", threshold=0.15),
        )


def test_swapped_axes_show_the_same_maps(open_report: Open, report: Path) -> None:
    page = ready(open_report(report, link="#v=matrix&b=none&k=0"))
    where = (0, 0, "layer_cam", "features.9")
    rows = page.locator("#view .maps")
    page.click('[data-focus="open axes"]')
    page.locator('[data-focus="rows"]').select_option("layer")
    settle(page)
    assert rows.count() == len(LAYERS) + 1
    np.testing.assert_array_equal(drawn(page, cell(*where)), reference(report, *where))
    page.go_back()
    settle(page)
    assert rows.count() == len(METHOD_KEYS)


@pytest.mark.parametrize(
    ("head", "kept"),
    [("relu4 · 13 × 13", "features.9"), ("LayerCAM", "layer_cam")],
    ids=["layer", "method"],
)
def test_head_of_a_row_or_column_shows_it_across_all_images(
    open_report: Open, report: Path, head: str, kept: str
) -> None:
    page = ready(open_report(report, link="#v=matrix"))
    page.locator("#view .matrix a.head", has_text=re.compile(f"^{head}$")).first.click()
    settle(page)
    rows = page.eval_on_selector_all(
        "#view tbody:first-of-type .maps th .head", "all => all.map(e => e.textContent)"
    )
    assert rows == ["both.jpg", "cat.jpg", "dog.jpg"]
    ids = page.eval_on_selector_all("#view .cell[data-id]", "all => all.map(e => e.dataset.id)")
    assert {name[0] for name in ids} == {"0", "1", "2"}
    assert all(kept in name for name in ids)
    page.locator("#view .maps th a.head", has_text="dog.jpg").first.click()
    settle(page)
    ids = page.eval_on_selector_all("#view .cell[data-id]", "all => all.map(e => e.dataset.id)")
    assert {name[0] for name in ids} == {"2"}


def test_cropped_image_shows_the_map_only_where_the_model_looked(
    open_report: Open, tmp_path: Path
) -> None:
    crop = Preprocessing(size=(40, 40), resize="short-side", short_side=48)
    camreport.run(INPUTS / "dog.jpg", tmp_path, model=small_model(("a", "b"), crop), overwrite=True)
    page = ready(open_report(tmp_path, link="#v=matrix"))
    name = page.eval_on_selector("#view .cell:has(canvas)", "e => e.dataset.id")
    image, rank, method, layer = name.split(".", 3)
    where = (int(image), int(rank), method, layer)
    np.testing.assert_array_equal(drawn(page, cell(*where)), reference(tmp_path, *where))
    frame, seen = (
        page.eval_on_selector(f"{cell(*where)} {part}", "e => e.getBoundingClientRect().toJSON()")
        for part in (".frame", "canvas.heat")
    )
    box = crop.seen_box(574, 434)
    for start, end, length, low, high in (
        ("left", "right", "width", box.left / 574, box.right / 574),
        ("top", "bottom", "height", box.top / 434, box.bottom / 434),
    ):
        assert (seen[start] - frame[start]) / frame[length] == pytest.approx(low, abs=0.01)
        assert (seen[end] - frame[start]) / frame[length] == pytest.approx(high, abs=0.01)
    assert box.left > 0
    assert box.right < 574
    assert f"574 × 434 px, of which the model saw {box.right - box.left:.0f} × " in (
        page.get_attribute("#view .image-line h2", "title") or ""
    )
    page.click(cell(*where))
    probe = page.locator("#probe").bounding_box()
    assert probe is not None
    page.mouse.move(probe["x"] + 2, probe["y"] + probe["height"] / 2)
    assert "not seen by the model" in page.inner_text("#reading")


def high_regions(values: NDArray[Any], within: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Return the connected regions of one sign, the largest first, as scipy labels them."""
    regions = []
    for side in (within & (values > 0), within & (values < 0)):
        labels, count = label(side)
        regions += [labels == number for number in range(1, count + 1)]
    return sorted(regions, key=lambda region: (-region.sum(), int(region.argmax())))


@pytest.mark.parametrize(
    ("where", "threshold"),
    [
        ((2, 1, "grad_cam", "features.12"), 0),
        ((0, 1, "layer_cam", "features.0"), 0),
        ((1, 0, "hires_cam", "features.0"), 30),
        ((0, 0, "layer_cam", "features.3"), 40),
        ((1, 0, "hires_cam", "features.9"), 0),
        ((0, 1, "layer_cam", "fused"), 75),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else value[2],
)
def test_open_map_says_what_numpy_says(
    open_report: Open, report: Path, where: tuple[int, int, str, str], threshold: int
) -> None:
    image, rank, method, layer = where
    link = f"#v=matrix&i={image}&t={threshold}&open={'.'.join(map(str, where))}"
    page = ready(open_report(report, link=link))
    results = load_results(report)
    signed = METHODS[method].values == "signed"
    cam = quantise(results.arrays(image)[f"{method}/{layer}"][rank], signed)
    height, width = size_of(results, image, None)
    levels = enlarge(cam.levels, height, width)
    values = (levels - 127) / 127 * cam.peak if signed else levels / 255 * cam.peak
    full = results.images[image].size
    share = (threshold or 50) / 100
    _, within = shade(cam, height, width, threshold=share)
    regions = high_regions(levels - (127 if signed else 0), within)
    rows, columns = np.nonzero(regions[0])
    magnitude = np.abs(levels - 127) if signed else levels
    row, column = np.unravel_index(magnitude.argmax(), magnitude.shape)

    def place(across: int, down: int) -> tuple[int, int]:
        return (
            int((across + 0.5) / width * full[0]),
            int((down + 0.5) / height * full[1]),
        )

    said = facts_of(page)
    x, y = place(int(column), int(row))
    assert said["Peak at"] == f"x {x}, y {y}"
    x0, y0 = place(columns.min(), rows.min())
    x1, y1 = place(columns.max(), rows.max())
    least = f"{'±' if signed else ''}{share:.0%}"
    assert said[f"Largest region above {least}"] == f"x {x0} to {x1}, y {y0} to {y1}"
    area = f"{int(within.mean() * 100 + 0.5)}%" if within.mean() >= 0.005 else "< 1%"
    counted = f"{area}, in {len(regions)} regions" if len(regions) > 1 else area
    assert said[f"Area above {least}"] == counted
    assert page.locator("#probe .mark.box:not(.thin)").count() == 1
    assert page.locator("#probe .mark.box").count() == min(len(regions), 10)
    grid_height, grid_width = cam.levels.shape
    assert said["Grid of the map"] == f"{grid_width} × {grid_height} cells"
    largest = "Largest value, of at most 1" if layer == "fused" else "Largest value"
    assert float(said[largest]) == pytest.approx(cam.peak, rel=6e-3)
    probe = page.locator("#probe").bounding_box()
    assert probe is not None
    for across, down in ((0.25, 0.5), (0.61, 0.37), (0.9, 0.95)):
        left, top = probe["x"] + probe["width"] * across, probe["y"] + probe["height"] * down
        page.mouse.move(left, top)
        at, value, of_peak = page.inner_text("#reading").split("\n")
        shown_x, shown_y = (int(part.split()[1]) for part in at.split(","))
        assert abs(shown_x - across * full[0]) <= 2
        assert abs(shown_y - down * full[1]) <= 2
        near = values[
            max(0, int(down * height) - 2) : int(down * height) + 3,
            max(0, int(across * width) - 2) : int(across * width) + 3,
        ]
        read = float(value.replace("−", "-"))
        slack = 0.006 * abs(read) + 1e-9
        assert near.min() - slack <= read <= near.max() + slack
        percent = int(of_peak.split("%")[0].replace("−", "-"))
        assert percent == pytest.approx(read / cam.peak * 100, abs=0.6)


def test_cross_hair_moves_by_keys(open_report: Open, report: Path) -> None:
    page = ready(open_report(report, link="#v=matrix&open=0.0.grad_cam.features.12"))
    page.focus("#probe")
    place = re.compile(r"x (\d+), y (\d+)")

    def at() -> tuple[int, int]:
        found = place.match(page.inner_text("#reading"))
        assert found
        return int(found[1]), int(found[2])

    x, y = at()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    assert x < at()[0] <= x + 10
    assert y > at()[1] >= y - 10
    page.keyboard.press("Shift+ArrowLeft")
    assert at()[0] < x - 20
    for _ in range(15):
        page.keyboard.press("Shift+ArrowUp")
    assert at()[1] == 0


def test_peak_of_raw_cells_is_the_middle_of_a_cell(open_report: Open, report: Path) -> None:
    page = ready(open_report(report, link="#v=matrix&rc=1&open=0.0.layer_cam.features.12"))
    cam = load_results(report).arrays(0)["layer_cam/features.12"][0]
    row, column = np.unravel_index(cam.argmax(), cam.shape)
    full = load_results(report).images[0]
    said = re.findall(r"\d+", facts_of(page)["Peak at"])
    assert int(said[0]) == pytest.approx((column + 0.5) / 6 * full.width, abs=1.5)
    assert int(said[1]) == pytest.approx((row + 0.5) / 6 * full.height, abs=1.5)
