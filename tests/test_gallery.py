"""The report in a real browser: offline, exact to the pixel, usable by keyboard, printable."""

import io
import json
from pathlib import Path

import browser
import numpy as np
import pytest
import torch
from browser import Open, canvas_pixels, draw
from conftest import INPUTS
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page
from pypdf import PdfReader
from torch import nn

import camreport
from camreport.heatmap import colour_table, enlarge, quantise, shade
from camreport.images import Preprocessing
from camreport.models.loaded import LoadedModel
from camreport.results import load_results

HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "\"quotes\" & 'apostrophes' <b>",
    "שלום עולם",
    "🐶🐱 emoji",
    "n" * 200,
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not browser.required() and browser.chromium() is None, reason="no Chromium here"
    ),
]


class SmallNet(nn.Module):
    """A seeded net with any number of classes, for reports about something else."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 5, stride=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU()
        )
        self.head = nn.Linear(8, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits ``(N, classes)``."""
        return self.head(self.features(images).tanh().mean((2, 3)))


def small_model(names: tuple[str, ...], preprocessing: Preprocessing | None = None) -> LoadedModel:
    chosen = preprocessing or Preprocessing(size=(40, 40))
    return LoadedModel(SmallNet(len(names)).eval(), chosen, names, "small", "seeded", "0" * 64)


def cell_selector(page: Page, image: int, rank: int, method: str, layer: str) -> str:
    """Return the selector of the cell with that map."""
    data = json.loads(page.inner_text(f"#data-{image}") or page.text_content(f"#data-{image}"))
    names = {"grad_cam": "Grad-CAM", "layer_cam": "LayerCAM", "hires_cam": "HiResCAM"}
    matches = [
        number
        for number, cell in enumerate(data["cells"])
        if (cell["method"], cell["layer"]) == (names[method], layer)
    ]
    return f'#image-{image} .cell[data-cell="{matches[rank]}"]'


def expected_pixels(
    out: Path, image: int, rank: int, method: str, layer: str, **view: object
) -> NDArray[np.uint8]:
    """Return what the Python reference draws: RGBA, transparent below the threshold."""
    results = load_results(out)
    arrays = results.arrays(image)
    signed = method == "hires_cam"
    cam = quantise(arrays[f"{method}/{layer}"][rank], signed)
    photo = Image.open(io.BytesIO(results.photo(image)))
    record = results.images[image]
    box = Preprocessing.from_dict(results.manifest["preprocessing"]).seen_box(
        record["width"], record["height"]
    )
    factor = 224 / max(photo.size)
    width = int(photo.width * factor * (box.right - box.left) / record["width"] + 0.5)
    height = int(photo.height * factor * (box.bottom - box.top) / record["height"] + 0.5)
    scale = None
    if view.get("scale") == "image" and layer != "fused":
        scale = max(
            quantise(cams[k], key.startswith("hires_cam")).peak
            for key, cams in arrays.items()
            if "/" in key and not key.endswith("/fused")
            for k in range(len(cams))
        )
    threshold = float(view.get("threshold", 0.0))  # type: ignore[arg-type]
    index, visible = shade(cam, height, width, scale=scale, threshold=threshold)
    table = colour_table("diverging" if signed else str(view.get("colormap", "viridis")))
    rgba = np.dstack([table[index], np.full(index.shape, 255, np.uint8)])
    return rgba * visible[..., None].astype(np.uint8)


@pytest.mark.parametrize(
    ("image", "rank", "method", "layer", "view"),
    [
        (0, 0, "grad_cam", "features.12", {}),
        (0, 1, "layer_cam", "features.0", {}),
        (2, 1, "layer_cam", "fused", {"colormap": "jet"}),
        (2, 0, "hires_cam", "features.6", {"threshold": 0.25}),
        (1, 0, "layer_cam", "features.3", {"threshold": 0.5, "colormap": "cividis"}),
        (1, 1, "grad_cam", "features.9", {"scale": "image"}),
        (2, 0, "hires_cam", "features.9", {"scale": "image", "threshold": 0.1}),
        (1, 0, "layer_cam", "fused", {"scale": "image"}),
    ],
)
def test_cell_pixels_equal_the_python_reference(
    open_report: Open,
    demo: Path,
    image: int,
    rank: int,
    method: str,
    layer: str,
    view: dict[str, object],
) -> None:
    page = open_report(demo)
    for control, value in view.items():
        if control == "threshold":
            page.fill("#threshold", str(round(float(value) * 100)))  # type: ignore[arg-type]
        else:
            page.select_option(f"#{control}", str(value))
    cell = cell_selector(page, image, rank, method, layer)
    draw(page, cell)
    drawn = canvas_pixels(page, f"{cell} canvas")
    expected = expected_pixels(demo, image, rank, method, layer, **view)
    assert drawn.shape == expected.shape
    assert expected[..., 3].any()
    np.testing.assert_array_equal(drawn, expected)


def test_cropped_image_shows_the_map_only_where_the_model_looked(
    open_report: Open, tmp_path: Path
) -> None:
    crop = Preprocessing(size=(40, 40), resize="short-side", short_side=48)
    camreport.run(INPUTS / "dog.jpg", tmp_path / "g", model=small_model(("a", "b"), crop))
    page = open_report(tmp_path / "g")
    cell = "#image-0 .cell:has(canvas)"
    draw(page, cell)
    frame = page.eval_on_selector(f"{cell} img", "e => e.getBoundingClientRect().toJSON()")
    seen = page.eval_on_selector(f"{cell} canvas", "e => e.getBoundingClientRect().toJSON()")
    box = crop.seen_box(574, 434)
    for start, end, length, low, high in (
        ("left", "right", "width", box.left / 574, box.right / 574),
        ("top", "bottom", "height", box.top / 434, box.bottom / 434),
    ):
        assert (seen[start] - frame[start]) / frame[length] == pytest.approx(low, abs=0.01)
        assert (seen[end] - frame[start]) / frame[length] == pytest.approx(high, abs=0.01)
    assert box.left > 0
    assert box.right < 574


def test_controls_work_by_keyboard(open_report: Open, demo: Path) -> None:
    page = open_report(demo)
    cell = cell_selector(page, 0, 0, "grad_cam", "features.12")
    draw(page, cell)
    before = canvas_pixels(page, f"{cell} canvas")
    page.focus("#opacity")
    page.keyboard.press("Home")
    assert page.eval_on_selector(f"{cell} canvas", "e => getComputedStyle(e).opacity") == "0"
    page.keyboard.press("ArrowRight")
    assert page.eval_on_selector(f"{cell} canvas", "e => getComputedStyle(e).opacity") == "0.05"
    assert page.get_attribute("#opacity", "aria-valuetext") == "5 %"
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.id") == "threshold"
    draw(page, cell)
    cut = canvas_pixels(page, f"{cell} canvas")
    assert 0 < cut[..., 3].astype(bool).mean() < 0.2 < before[..., 3].astype(bool).mean()
    page.keyboard.press("Home")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    assert page.input_value("#colormap") == "cividis"
    recoloured = canvas_pixels(page, f"{cell} canvas")
    np.testing.assert_array_equal(
        recoloured, expected_pixels(demo, 0, 0, "grad_cam", "features.12", colormap="cividis")
    )
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    assert page.input_value("#scale") == "image"
    assert "share one scale" in page.inner_text(".class-figure figcaption >> nth=0")
    assert page.is_visible("#image-0 .shared-scale")


def test_class_switch_shows_one_class_at_a_time_by_keyboard(
    open_report: Open, tmp_path: Path
) -> None:
    model = small_model(("one", "two", "three", "four"))
    camreport.run(INPUTS / "cat.jpg", tmp_path / "g", model=model, classes="0,2,3")
    page = open_report(tmp_path / "g")

    def shown() -> list[str]:
        return page.eval_on_selector_all(
            ".class-figure h4 > bdi",
            "all => all.filter(e => e.offsetParent).map(e => e.textContent)",
        )

    assert shown() == ["one"]
    page.focus("[name=rank] >> nth=0")
    page.keyboard.press("ArrowRight")
    assert shown() == ["three"]
    page.keyboard.press("ArrowRight")
    assert shown() == ["four"]


def test_two_classes_stand_side_by_side_and_take_turns_when_narrow(
    open_report: Open, demo: Path
) -> None:
    wide = open_report(demo)
    tops = wide.eval_on_selector_all(
        "#image-0 .class-figure", "all => all.map(e => e.getBoundingClientRect().top)"
    )
    assert len(tops) == 2
    assert tops[0] == tops[1]
    assert not wide.is_visible("[name=rank] >> nth=0")
    narrow = open_report(demo, width=360)
    visible = "all => all.filter(e => e.offsetParent).length"
    assert narrow.eval_on_selector_all("#image-0 .class-figure", visible) == 1
    narrow.focus("[name=rank] >> nth=0")
    narrow.keyboard.press("ArrowRight")
    assert narrow.inner_text("#image-0 .class-figure:visible h4 > bdi") == "dog"


@pytest.mark.parametrize("width", [320, 360, 800, 1400])
def test_page_never_scrolls_sideways(open_report: Open, demo: Path, width: int) -> None:
    page = open_report(demo, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_table_has_one_tab_stop_and_arrows_move_in_it(open_report: Open, demo: Path) -> None:
    page = open_report(demo)
    table = "#image-0 .matrix >> nth=0"
    assert page.locator(table).locator(".cell[tabindex='0']").count() == 1
    labels = []
    page.locator(table).locator(".cell[tabindex='0']").focus()
    for key in ("ArrowRight", "ArrowDown", "Home", "End", "ArrowUp"):
        page.keyboard.press(key)
        labels.append(page.evaluate("document.activeElement.getAttribute('aria-label')"))
    wanted = [
        "LayerCAM, features.0",
        "LayerCAM, features.3",
        "Grad-CAM, features.3",
        "HiResCAM, features.3",
        "HiResCAM, features.0",
    ]
    assert [label.removeprefix("both.jpg, class cat, ") for label in labels] == [
        f"{name}. Enlarge" for name in wanted
    ]
    assert page.locator(table).locator(".cell[tabindex='0']").count() == 1


def test_enlarged_cell_reads_values_and_gives_focus_back(open_report: Open, demo: Path) -> None:
    page = open_report(demo)
    cell = cell_selector(page, 2, 1, "grad_cam", "features.12")
    draw(page, cell)
    page.focus(cell)
    page.keyboard.press("Enter")
    assert page.inner_text("#enlarged-title") == "dog.jpg · dog · Grad-CAM · features.12"
    cam = quantise(load_results(demo).arrays(2)["grad_cam/features.12"][1])
    photo = Image.open(io.BytesIO(load_results(demo).photo(2)))
    values = enlarge(cam.levels, photo.height, photo.width) / 255 * cam.peak
    page.focus("#probe")
    seen = []
    for _ in range(3):
        place, value, share = page.inner_text("#reading").split("\n")
        x, y = (int(part.split()[1]) for part in place.split(","))
        assert float(value) == pytest.approx(values[y, x], rel=0.02, abs=1e-3 * cam.peak)
        assert f"{round(values[y, x] / cam.peak * 100)} %" in share
        seen.append((x, y))
        page.keyboard.press("Shift+ArrowUp")
    assert len(set(seen)) == 3
    box = page.locator("#probe").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.5)
    x, _ = (int(part.split()[1]) for part in page.inner_text("#reading").split("\n")[0].split(","))
    assert x == pytest.approx(photo.width * 0.25, abs=2)
    page.click("#next")
    assert page.inner_text("#enlarged-title") != "dog.jpg · dog · Grad-CAM · features.12"
    page.click("#previous")
    page.keyboard.press("Escape")
    assert not page.is_visible("#enlarged")
    assert page.evaluate("document.activeElement.dataset.cell") == cell.split('"')[1]


@pytest.mark.parametrize(
    ("weight", "label", "note"),
    [
        (-1.0, "no positive evidence", "Only differences between logits"),
        (torch.nan, "undefined", "values that are not finite"),
    ],
)
def test_maps_without_positive_or_finite_values_are_labelled_not_drawn(
    open_report: Open, tmp_path: Path, weight: float, label: str, note: str
) -> None:
    model = small_model(("chosen", "other"))
    with torch.no_grad():
        model.module.head.weight[0] = weight  # type: ignore[union-attr]
    camreport.run(INPUTS / "cat.jpg", tmp_path / "g", model=model, classes="chosen", layers=["3"])
    page = open_report(tmp_path / "g")
    figure = page.locator("#image-0 .class-figure")
    assert figure.locator(".frame canvas").count() == 0
    assert label in figure.locator("tbody td").first.inner_text()
    assert note in figure.locator(".note").inner_text()
    assert label in page.locator(".tiles figcaption").nth(1).inner_text()


def test_hostile_names_show_as_text(open_report: Open, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in HOSTILE:
        safe = name.replace("/", "∕")[:200]
        (folder / f"{safe}.jpg").write_bytes((INPUTS / "cat.jpg").read_bytes())
    model = small_model(tuple(HOSTILE))
    camreport.run(folder, tmp_path / "g", model=model, classes="all")
    page = open_report(tmp_path / "g")
    assert page.locator("body > img, [onerror], b").count() == 0
    shown = page.eval_on_selector_all(".strip h3 bdi", "all => all.map(e => e.textContent)")
    assert sorted(shown) == sorted(f"{n.replace('/', '∕')[:200]}.jpg" for n in HOSTILE)
    classes = page.eval_on_selector_all("#image-0 h4 > bdi", "all => all.map(e => e.textContent)")
    assert classes == HOSTILE
    page.locator(".cell:visible").first.click()
    assert HOSTILE[0] in page.inner_text("#enlarged-title")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1400


def test_page_without_javascript_shows_contact_sheet_and_predictions(
    open_report: Open, demo: Path
) -> None:
    page = open_report(demo, java_script_enabled=False)
    assert page.locator(".strip:visible").count() == 3
    assert page.locator(".strip .tiles img:visible").count() == 3 * (1 + 2 * 3)
    assert page.locator(".strip .percent >> nth=0").inner_text() == "0.91"
    assert not page.is_visible("#controls")
    assert not page.is_visible("#image-0")
    assert page.is_visible("noscript p")


def test_contact_sheet_pictures_differ_by_class_and_are_loaded(
    open_report: Open, demo: Path
) -> None:
    page = open_report(demo)
    sources = page.eval_on_selector_all(
        ".strip:first-of-type .tiles img", "all => all.map(e => [e.src, e.naturalWidth])"
    )
    assert all(width > 0 for _, width in sources)
    assert len({source for source, _ in sources}) == len(sources)


def test_print_shows_every_figure_with_its_caption_on_white(open_report: Open, demo: Path) -> None:
    page = open_report(demo, color_scheme="dark")
    pdf = PdfReader(io.BytesIO(page.pdf(format="A4")))
    texts = [sheet.extract_text() for sheet in pdf.pages]
    for number, (file, name) in enumerate(
        [(f, c) for f in ("both.jpg", "cat.jpg", "dog.jpg") for c in ("cat", "dog")], start=1
    ):
        carrying = [text for text in texts if f"Figure {number}. {file}, class {name}" in text]
        assert len(carrying) == 1
        for address in ("features.0", "features.12", "fused"):
            assert address in carrying[0]
    assert len(texts) <= 11
    assert "Opacity" not in "".join(texts)
    drawn = page.eval_on_selector_all(
        ".cell canvas", "all => all.every(e => e.closest('.cell').dataset.drawn)"
    )
    assert drawn
    page.emulate_media(media="print")
    background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert background == "rgb(255, 255, 255)"


def test_dark_scheme_has_dark_ground_and_readable_text(open_report: Open, demo: Path) -> None:
    def lightness(scheme: str, what: str) -> float:
        page = open_report(demo, color_scheme=scheme)
        colour = page.evaluate(f"getComputedStyle(document.documentElement).{what}")
        return sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(", "))) / 3

    assert lightness("dark", "backgroundColor") < 50 < 200 < lightness("dark", "color")
    assert lightness("light", "color") < 60 < 200 < lightness("light", "backgroundColor")


def test_policy_forbids_what_the_page_does_not_need(open_report: Open, demo: Path) -> None:
    page = open_report(demo)
    policy = page.get_attribute("meta[http-equiv]", "content")
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "http" not in policy


def test_links_inside_the_page_lead_somewhere(open_report: Open, demo: Path) -> None:
    page = open_report(demo)
    targets = page.eval_on_selector_all("a", "all => all.map(e => e.getAttribute('href'))")
    assert targets
    for target in targets:
        if target.startswith("https://"):  # for reading; nothing is loaded from there
            continue
        assert target.startswith("#")
        assert page.locator(f'[id="{target[1:]}"]').count() == 1


def test_layout_stands_before_the_cells_are_drawn(open_report: Open, demo: Path) -> None:
    page = open_report(demo)
    height = page.evaluate("document.documentElement.scrollHeight")
    page.click("a[href='#image-2']")
    page.wait_for_selector("#image-2 .cell[data-drawn]")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")  # draws every cell
    assert page.locator(".cell:not([data-drawn])").count() == 0
    assert page.evaluate("document.documentElement.scrollHeight") == height


def test_very_tall_and_wide_images_stay_within_bounds(open_report: Open, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, size in (("tall", (40, 1200)), ("wide", (1200, 40))):
        Image.new("RGB", size, "teal").save(tmp_path / "in" / f"{name}.png")
    camreport.run(tmp_path / "in", tmp_path / "g", model=small_model(("a", "b")))
    page = open_report(tmp_path / "g")
    heights = page.eval_on_selector_all(
        ".tiles img, .frame", "all => all.map(e => e.getBoundingClientRect().height)"
    )
    assert max(heights) <= 400
    assert page.evaluate("document.documentElement.scrollWidth") <= 1400


def test_failed_inputs_are_listed_with_their_reason(open_report: Open, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "cat.jpg").write_bytes((INPUTS / "cat.jpg").read_bytes())
    (folder / "empty.png").touch()
    camreport.run(folder, tmp_path / "g", model=small_model(("a", "b")))
    page = open_report(tmp_path / "g")
    assert "1 of 2 inputs could not be read" in page.inner_text(".notice")
    assert "empty.png: the file is empty (0 bytes)" in page.inner_text(".notice")


def first_paint(page: Page) -> float:
    """Return when the first content was painted, in milliseconds after the navigation."""
    entry = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
    for _ in range(250):  # the page's policy forbids wait_for_function
        if (painted := page.evaluate(entry)) is not None:
            return float(painted)
        page.wait_for_timeout(20)
    raise AssertionError("nothing was painted within five seconds")


def test_report_keeps_to_its_size_and_time_bars(open_report: Open, demo: Path) -> None:
    assert (demo / "index.html").stat().st_size <= 1_500_000
    painted, ready = [], []
    for _ in range(3):
        page = open_report(demo)
        painted.append(first_paint(page))
        page.eval_on_selector("#maps-title", "e => e.scrollIntoView({behavior: 'instant'})")
        page.wait_for_selector("#image-0 .cell[data-drawn]")
        ready.append(page.evaluate("performance.now()"))
    assert min(painted) <= 1000
    assert min(ready) <= 2000
