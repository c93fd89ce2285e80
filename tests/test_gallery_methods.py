"""The report of many methods, and every report on paper: each map drawn or explained."""

import base64
import io
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers import browser
from helpers.browser import Open, pixels_of, settle, work
from helpers.checkout import INPUTS
from helpers.page_steps import unfold
from helpers.pictures import heat_pixels
from helpers.report_cells import (
    LAYERS,
    METHOD_KEYS,
    cell,
    drawn,
    facts_of,
    ready,
    show,
)
from helpers.small import small_model
from PIL import Image
from playwright.sync_api import Page

import camreport
from camreport.messages import message
from camreport.methods import METHODS
from camreport.report.heatmap import colour_table, quantise, shade, signed_picture
from camreport.results.reader import load_results

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not browser.required() and browser.chromium() is None, reason="no Chromium here"
    ),
]

DEEP = ("features.9", "features.12")
FILES = ("both.jpg", "cat.jpg", "dog.jpg")
PER_CHANNEL = [key for key, method in METHODS.items() if method.per_channel]
GRADIENT = [
    key
    for key, method in METHODS.items()
    if "gradient" in str(method.needs.name)
    and method.scope == "layer"
    and method.grid == "layer"
    and key not in PER_CHANNEL
]


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on the demo photographs: all gradient methods, conv5's channels."""
    out = tmp_path_factory.mktemp("rich") / "gallery"
    camreport.run(INPUTS, out, methods=GRADIENT, channels=["10"])
    return out


def shown_methods(out: Path) -> list[str]:
    """Return the methods of a run that have a map somewhere."""
    manifest = load_results(out).manifest
    nowhere = {skip.method for skip in manifest.skipped if skip.layer is None}
    return [key for key in manifest.methods if key not in nowhere]


def test_every_method_and_layer_has_a_drawn_or_labelled_map(
    open_report: Open, everything: Path
) -> None:
    methods = shown_methods(everything)
    apart = f"ap=1&ms={'~'.join(methods)}"
    page = ready(open_report(everything, height=3000, link=f"#v=matrix&{apart}"))
    assert {*load_results(everything).manifest.methods} - {*methods} == {"cam"}
    assert "CAM is not defined for this model" in page.inner_text("#view .below")
    for rank in range(2):
        show(page, f"#v=matrix&k={rank}&{apart}")
        for key in methods:
            for layer in DEEP if METHODS[key].scope == "layer" else ("input",):
                where = cell(0, rank, key, layer).replace("#view", "#view .panels")
                page.eval_on_selector(where, "e => e.scrollIntoView({inline: 'center'})")
                page.wait_for_selector(f"{where} .frame[data-drawn]")
                parts = f"{where} :is(canvas.heat, .picture, .label)"
                assert page.locator(parts).count() == 1, (key, layer)
    assert page.locator("#view .maps > td:not(.nothing):not(:has(.cell))").count() == 0
    said = page.locator("#view .matrix td.nothing").all_inner_texts()
    assert all(text.strip() for text in said)


def test_method_without_a_class_is_the_same_for_all_and_says_so(
    open_report: Open, everything: Path
) -> None:
    page = ready(open_report(everything, height=2000, link="#v=matrix&k=0&ms=eigen_cam"))
    head = page.locator("#view .matrix tbody th", has_text="Eigen-CAM")
    assert "one map for all classes" in head.inner_text()
    first = drawn(page, cell(0, 0, "eigen_cam", "features.12"))
    show(page, "#v=matrix&k=1&ms=eigen_cam")
    where = cell(0, 1, "eigen_cam", "features.12")
    np.testing.assert_array_equal(drawn(page, where), first)
    assert "any class" in (page.get_attribute(where, "aria-label") or "")


def test_layer_without_a_map_says_why(open_report: Open, tmp_path: Path) -> None:
    camreport.run(
        INPUTS / "dog.jpg", tmp_path / "g", layers=["9", "10:pre"], methods="gradcam,gradcam++"
    )
    page = ready(open_report(tmp_path / "g"))
    assert page.locator("#view .nothing", has_text="needs A ≥ 0").count() == 2
    assert "needs A ≥ 0; features.10:pre is read in front" in page.inner_text(
        "#view .reasons >> nth=0"
    )


def test_guided_methods_are_opaque_pictures_of_their_gradients(
    open_report: Open, everything: Path
) -> None:
    page = ready(open_report(everything, link="#v=matrix&k=1&ms=guided_backprop~guided_grad_cam"))
    arrays = load_results(everything).arrays(0)
    for key, layer in (("guided_backprop", "input"), ("guided_grad_cam", "features.12")):
        where = cell(0, 1, key, layer)
        page.eval_on_selector(where, "e => e.scrollIntoView({inline: 'center'})")
        picture = f"{where} .picture"
        page.wait_for_selector(picture)
        encoded = (page.get_attribute(picture, "src") or "").partition(",")[2]
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"))
        expected = signed_picture(arrays[f"{key}/{layer}"][1])
        assert shown.shape == expected.shape == (224, 224, 3)
        assert np.abs(shown.astype(int) - expected).mean() < 8  # JPEG
        assert expected.std() > 10
        assert page.eval_on_selector(picture, "e => getComputedStyle(e).opacity") == "1"
    show(page, "#v=matrix&open=0.1.guided_grad_cam.features.12")
    page.wait_for_selector("#cell[open] #probe .picture")
    assert page.locator("#probe canvas, #cell .bar-row:visible").count() == 0
    assert "grey is zero" in page.inner_text("#reading")
    assert facts_of(page)["Grid of the map"] == "224 × 224 cells"


@pytest.mark.parametrize("key", ["guided_backprop", "full_grad"])
def test_largest_value_is_the_raw_maps_not_that_of_what_is_shipped(
    open_report: Open, everything: Path, key: str
) -> None:
    page = ready(open_report(everything, link=f"#v=matrix&ms={key}&nu=1&open=0.1.{key}.input"))
    page.wait_for_selector("#cell[open] #facts")
    raw = np.abs(load_results(everything).arrays(0)[f"{key}/input"][1]).max()
    assert float(facts_of(page)["Largest value"]) == pytest.approx(float(raw), rel=6e-3)
    assert f"{float(raw):.3g}"[:4] in page.inner_text(f"{cell(0, 1, key, 'input')} + .measures")


def test_recipro_cam_is_read_as_a_share_of_its_range(open_report: Open, everything: Path) -> None:
    link = "#v=matrix&open=0.1.recipro_cam.features.12"
    page = ready(open_report(everything, link=link))
    page.wait_for_selector("#cell[open] #reading")
    cam = load_results(everything).arrays(0)["recipro_cam/features.12"][1]
    _, value, share = page.inner_text("#reading").replace("−", "-").split("\n")
    expected = (float(value) - cam.min()) / (cam.max() - cam.min())
    assert share.endswith("% of the map’s range")
    assert int(share.partition("%")[0]) == pytest.approx(100 * expected, abs=1)


def test_full_grad_is_a_heat_map_of_averaged_pixels(open_report: Open, everything: Path) -> None:
    page = ready(open_report(everything, link="#v=matrix&k=0&ms=full_grad"))
    saliency = load_results(everything).arrays(0)["full_grad/input"][0]
    averaged = saliency.reshape(112, 2, 112, 2).mean((1, 3)).astype(np.float32)
    pixels = drawn(page, cell(0, 0, "full_grad", "input"))
    index, _ = shade(quantise(averaged), *pixels.shape[:2])
    off = np.abs(pixels[..., :3].astype(int) - colour_table()[index].astype(int)).max(-1)
    assert (off <= 8).all()  # one level apart where the two averages round differently
    assert (off == 0).mean() > 0.99


def test_recipro_cam_is_drawn_from_its_least_value_and_read_in_its_own_unit(
    open_report: Open, everything: Path
) -> None:
    page = ready(open_report(everything, link="#v=matrix&k=1&ms=recipro_cam"))
    cam = load_results(everything).arrays(0)["recipro_cam/features.12"][1]
    where = cell(0, 1, "recipro_cam", "features.12")
    pixels = drawn(page, where)
    expected = heat_pixels(quantise(cam - cam.min()), *pixels.shape[:2])
    np.testing.assert_array_equal(pixels, expected)
    for scale in ("method", "image", "report"):
        show(page, f"#v=matrix&k=1&ms=recipro_cam&sc={scale}")
        np.testing.assert_array_equal(drawn(page, where), pixels)
    show(page, "#v=matrix&k=1&open=0.1.recipro_cam.features.12")
    page.wait_for_selector("#cell[open] #probe")
    ends = [
        float(page.inner_text(f"#cell .bar-{end}").replace("−", "-")) for end in ("bottom", "top")
    ]
    assert ends == pytest.approx([cam.min(), cam.max()], rel=6e-3, abs=1e-6)
    value = float(page.inner_text("#reading").split("\n")[1].replace("−", "-"))
    assert cam.min() - 1e-2 <= value <= cam.max() + 1e-2
    assert cam.min() > 0.05 or value != pytest.approx(value - float(cam.min()))


def test_signed_methods_diverge_around_zero_whatever_the_colours(
    open_report: Open, everything: Path
) -> None:
    page = ready(open_report(everything, link="#v=matrix&k=0&cm=jet&t=10"))
    arrays = load_results(everything).arrays(0)
    for key in ("hires_cam", "eigen_grad_cam"):
        assert METHODS[key].values == "signed"
        cam = quantise(arrays[f"{key}/features.12"][0], True)
        pixels = drawn(page, cell(0, 0, key, "features.12"))
        np.testing.assert_array_equal(pixels, heat_pixels(cam, *pixels.shape[:2], threshold=0.1))
        red, blue = (pixels[..., channel].astype(int) for channel in (0, 2))
        assert (np.abs(red - blue) > 30).any()
    assert "blue lowers the class’s score" in page.inner_text("#view .figcaption >> nth=0")
    assert "−1 against" in page.inner_text("#view .legend")


def test_channel_that_contributes_most_stands_for_gradient_x_activation(
    open_report: Open, tmp_path: Path
) -> None:
    out = tmp_path / "g"
    camreport.run(INPUTS / "cat.jpg", out, layers=["12"], methods="gradient_x_activation")
    page = ready(open_report(out))
    maps = load_results(out).arrays(0)["gradient_x_activation/features.12"]
    assert maps.shape == (2, 256, 6, 6)
    for rank in range(2):
        show(page, f"#v=matrix&b=none&k={rank}")
        strongest = max(range(256), key=lambda k: float(maps[rank, k].sum()))
        where = cell(0, rank, "gradient_x_activation", "features.12")
        assert f"channel {strongest}, max ±" in page.inner_text(f"{where} + .measures")
        pixels = drawn(page, where)
        expected = heat_pixels(quantise(maps[rank, strongest], True), *pixels.shape[:2])
        np.testing.assert_array_equal(pixels, expected)


def test_methods_are_explained_with_their_source(open_report: Open, everything: Path) -> None:
    page = ready(open_report(everything, link="#v=methods"))
    for key in shown_methods(everything):
        method = METHODS[key]
        text = page.inner_text(f"#method-{key}")
        for said in (method.name, method.meaning, method.caution, method.needs.cost, method.layers):
            assert str(said) in text
        assert re.sub(r"\s+", " ", method.formula) in re.sub(r"\s+", " ", text)
        assert method.source.split(", https")[0] in text
    assert "CAM is not defined for this model" in page.inner_text("#view")
    page.click("#method-score_cam a.head")
    settle(page)
    ids = page.eval_on_selector_all("#view .cell", "all => all.map(e => e.dataset.id)")
    assert ids
    assert all(".score_cam." in name for name in ids)


def test_provenance_says_what_each_kind_of_passes_took(open_report: Open, everything: Path) -> None:
    page = ready(open_report(everything, link="#v=provenance"))
    text = page.inner_text("#view")
    manifest = load_results(everything).manifest
    for name, cost in manifest.cost.families.items():
        kind = message(f"methods.passes.{name}")
        row = text.partition(f"of which {kind}")[2].partition("of which")[0]
        assert f"{cost.maps:,} map" in row
        for key in ("forwards", "backwards"):
            count = getattr(cost, key)
            assert (f"{count:,} {key[:-1]}" in row) == bool(count)
    for said in (
        manifest.command,
        f"sha256 {manifest.model.sha256}",
        f"{manifest.model.parameters:,} parameters",
        manifest.device,
        *(f"{name} {version}" for name, version in manifest.versions.items()),
        "relu(R) / max(R) in 8 bits",
    ):
        assert said in text
    page.click("#view summary >> text=hashes")
    assert str(manifest.images[0].sha256) in page.inner_text("#view")


def test_twins_share_a_column_that_names_both(open_report: Open, tmp_path: Path) -> None:
    camreport.run(INPUTS / "cat.jpg", tmp_path / "g", layers=["10", "11", "12"])
    manifest = load_results(tmp_path / "g").manifest
    twins = [layer for layer in manifest.layers if layer.same_as]
    assert [(layer.address, layer.same_as) for layer in twins] == [("features.11", "features.10")]
    page = ready(open_report(tmp_path / "g"))
    heads = page.locator("#view .matrix thead th").all_inner_texts()
    assert [head.split("\n")[0] for head in heads] == ["conv5 · 13 × 13", "pool5 · 6 × 6", "fused"]
    assert heads[0].split("\n")[1:] == ["features.10", "= features.11"]


@pytest.mark.parametrize("width", [320, 360, 800, 1400])
def test_page_of_many_methods_never_scrolls_sideways(
    open_report: Open, everything: Path, width: int
) -> None:
    page = ready(open_report(everything, width=width))
    for link in ("#v=matrix", "#v=matrix&r=method&c=layer&b=class", "#v=methods", "#v=tables"):
        show(page, link)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, link


def on_paper(page: Page) -> tuple[bytes, list[str]]:
    """Print a page and return the PDF and the text of its sheets."""
    pdf = page.pdf(format="A4", print_background=True)
    return pdf, browser.pdf_pages(pdf)


def covers(sheets: list[str]) -> int:
    """Return how many sheets the summary and the images at a glance take before the figures."""
    return next(number for number, sheet in enumerate(sheets) if "Figure 1." in sheet)


def prose_of(pdf: bytes, first: int = 1) -> str:
    """Return a PDF's text from a sheet on, column by column."""
    command = ["pdftotext", "-raw", "-enc", "UTF-8", "-f", str(first), "-", "-"]
    return flat(subprocess.run(command, input=pdf, capture_output=True, check=True).stdout.decode())


def flat(text: str) -> str:
    return " ".join(text.split())


SHEETS = 3
"""Sheets of an image: the maps of each of two classes, and the channels."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_print_is_a_cover_sheets_of_each_image_and_an_appendix(
    open_report: Open, report: Path, scheme: str
) -> None:
    page = ready(open_report(report, color_scheme=scheme, link="#v=matrix&i=2&th=dark"))
    pdf, sheets = on_paper(page)
    assert len(pdf) <= 5_000_000
    before = covers(sheets)
    assert before <= 3  # the summary may take two, the evidence takes one
    cover = flat(" ".join(sheets[:before]))
    assert "catdog-alexnet: 3 images" in cover
    assert all(name in cover for name in FILES)
    assert "wrong: it is cat" in cover
    for number, sheet in enumerate(sheets, start=1):
        assert flat(sheet).replace(" ", "").endswith(f"{number}/{len(sheets)}"), "numbered below"
    for number in range(1, 1 + SHEETS * len(FILES)):
        place, part = divmod(number - 1, SHEETS)
        sheet = flat(sheets[before + number - 1])
        assert f"Figure {number}. {FILES[place]}" in sheet
        if part == SHEETS - 1:
            assert "256 feature maps of features.10" in sheet
            continue
        for said in (*LAYERS, "fused", "Grad-CAM", "LayerCAM", "HiResCAM", "logit"):
            assert said in sheet
        assert "Each map is scaled to its own maximum." in sheet
    first = before + SHEETS * len(FILES)
    assert flat(sheets[first]).startswith("Methods")
    appendix = prose_of(pdf, first=first + 1)
    assert all(str(METHODS[key].meaning) in appendix for key in METHOD_KEYS)
    assert load_results(report).manifest.model.sha256 in appendix
    assert "Model structure" in appendix
    assert len(sheets) <= first + 4
    figures = Counter(re.findall(r"Figure (\d+)\.", " ".join(sheets)))
    assert figures == {str(number): 1 for number in range(1, 1 + SHEETS * len(FILES))}
    for word in ("Opacity", "Threshold", "Side by side", "Unpin", "Skip to"):
        assert word not in "".join(sheets)


def drawn_on(pdf: bytes) -> Counter[int]:
    """Return how many drawn maps each sheet of a PDF has; photographs are JPEGs."""
    if shutil.which("pdfimages") is None:
        browser.missing("pdfimages")
    listed = subprocess.run(["pdfimages", "-list", "-"], input=pdf, capture_output=True, check=True)
    rows = [line.split() for line in listed.stdout.decode().splitlines()[2:]]
    return Counter(int(row[0]) for row in rows if row[2] == "image" and row[8] == "image")


def sheet_pixels(pdf: bytes, number: int) -> np.ndarray:
    """Return what a sheet of a PDF looks like, RGB."""
    command = ["pdftoppm", "-r", "40", "-f", str(number), "-l", str(number), "-png", "-"]
    drawn_ = subprocess.run(command, input=pdf, capture_output=True, check=True).stdout
    return np.asarray(Image.open(io.BytesIO(drawn_)).convert("RGB"))


def test_every_map_is_on_paper_on_white(open_report: Open, report: Path) -> None:
    page = ready(open_report(report, color_scheme="dark"))
    pdf, sheets = on_paper(page)
    legends = 2  # of maps from zero up, and of signed ones
    maps = 3 * 5 + 1 + legends
    channels = 256 + 1  # with their own legend
    image = [*[maps] * (SHEETS - 1), channels]
    assert drawn_on(pdf) == dict(enumerate(image * len(FILES), start=covers(sheets) + 1))
    for number in range(1, len(sheets) + 1):
        pixels = sheet_pixels(pdf, number)
        below = pixels[-15:, :-60]  # the number of the page stands at the right
        margins = (pixels[:15], below, pixels[:, :15], pixels[:, -15:])
        assert all((edge >= 250).all() for edge in margins), number
        assert (pixels == 255).mean() > 1 / 3, number


def test_nothing_is_wider_or_higher_than_a_sheet(open_report: Open, everything: Path) -> None:
    page = ready(open_report(everything, width=688))  # A4 less its margins
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    settle(page)
    boxes = page.eval_on_selector_all(
        "#paper figure, #paper .matrix, #paper .cover > *, #paper .part, #paper .rows > div",
        """all => all.map(e => [e.className || e.tagName, e.getBoundingClientRect().right,
            e.getBoundingClientRect().height])""",
    )
    assert len(boxes) > 5
    high = [box for box in boxes if box[2] > 1024 and box[0] != "view-summary"]
    assert [box for box in boxes if box[1] > 689] + high == [], "the summary may take two sheets"


def test_many_methods_print_whole_with_their_layers(open_report: Open, everything: Path) -> None:
    page = ready(open_report(everything, link="#ap=1"))
    pdf, sheets = on_paper(page)
    assert len(pdf) <= 5_000_000
    numbers = re.findall(r"Figure (\d+)\.", " ".join(sheets))
    assert sorted(map(int, numbers)) == [*range(1, len(numbers) + 1)]
    assert len(numbers) >= 4
    printed = prose_of(pdf, first=2)
    for key in shown_methods(everything):
        assert METHODS[key].name in printed
        assert str(METHODS[key].caution) in printed.replace("Grad- CAM", "Grad-CAM")
    for sheet in sheets:
        if "Figure" in sheet:
            assert any(layer in sheet for layer in (*DEEP, "input"))
    maps = sum(
        (2 if METHODS[key].per_class else 1) * (len(DEEP) if METHODS[key].scope == "layer" else 1)
        + (2 if METHODS[key].fuses else 0)
        for key in shown_methods(everything)
        if not key.startswith("guided")
    )
    legends = 2 * len(numbers)  # of maps from zero up, and of signed ones
    assert sum(drawn_on(pdf).values()) == maps + legends


def test_tables_print_rewritten_captions_and_no_controls(open_report: Open, report: Path) -> None:
    page = ready(open_report(report, link="#v=tables&tb=depth"))
    numbers = page.locator("#view .course-table figcaption strong").all_inner_texts()
    assert len(numbers) == len(set(numbers)) == 3
    caption = page.locator("#view .caption >> nth=1")
    caption.fill("Rewritten: <b>pooling</b> keeps & moves the evidence")
    _, sheets = on_paper(page)
    printed = flat(" ".join(sheets))
    assert f"{numbers[1]} Rewritten: <b>pooling</b> keeps & moves the evidence" in printed
    assert all(printed.count(number) == 1 for number in numbers)
    assert "features.9" in printed or "features.10" in printed
    for word in ("Opacity", "Threshold", "Reset captions", "Print", "Ready to hand in"):
        assert word not in printed
    for sheet in sheets:
        assert all(sheet.count(name) >= sheet.count("Figure") for name in FILES)
    page.reload()
    again = ready(page).locator("#view .caption >> nth=1")
    assert again.inner_text() == "Rewritten: <b>pooling</b> keeps & moves the evidence"
    page.click('[data-focus="reset"]')
    settle(page)
    assert "Rewritten" not in page.inner_text("#view")


def test_print_of_tables_cuts_no_figure(open_report: Open, report: Path) -> None:
    page = ready(open_report(report, link="#v=tables"))
    pdf, sheets = on_paper(page)
    whole = page.locator("#view .course-table").count()
    assert whole == len(re.findall(r"Figure \d+\.", " ".join(sheets))) == 3 * 3 + 1 + 3
    for sheet in sheets:
        rows = [len(re.findall(rf"^\s*{layer}\b", sheet, re.MULTILINE)) for layer in LAYERS]
        assert len(set(rows)) == 1 or "Figure" in sheet, rows
    page.set_viewport_size({"width": 688, "height": 1000})
    page.emulate_media(media="print")
    heights = page.eval_on_selector_all(
        "#view .course-table", "all => all.map(e => e.getBoundingClientRect().height)"
    )
    assert max(heights) <= 1024
    assert len(pdf) <= 5_000_000


def test_report_of_all_gradient_methods_keeps_to_its_size(tmp_path: Path) -> None:
    assert len(GRADIENT) >= 9
    camreport.run(INPUTS, tmp_path / "g", methods=GRADIENT)
    assert (tmp_path / "g" / "index.html").stat().st_size <= 1_500_000


def test_new_colours_are_painted_once_and_only_where_they_are_seen(
    open_report: Open, rich: Path
) -> None:
    page = ready(open_report(rich, width=1800, link="#v=matrix&k=0&ap=1", counted=True))
    page.wait_for_selector("#view .cell .frame[data-drawn]")
    unfold(page, "appearance")  # the maps make room for it
    settle(page)
    near = page.evaluate(
        """[...document.querySelectorAll("#view .frame:has(canvas.heat)")].filter(e => {
            const box = e.getBoundingClientRect();
            return box.bottom > -300 && box.top < innerHeight + 300;
        }).length"""
    )
    assert 20 <= near < page.locator("#view .cell").count()
    where = cell(0, 0, "grad_cam", "features.3")
    for name in ("viridis", "gray", "inferno"):
        before = pixels_of(page, f"{where} canvas.heat")
        painted = work(page)["painted"]
        page.select_option("[data-focus=colormap]", name)
        assert work(page)["painted"] - painted <= near
        assert not np.array_equal(pixels_of(page, f"{where} canvas.heat"), before)


def test_small_reports_have_no_channels_view_unless_asked(
    open_report: Open, tmp_path: Path
) -> None:
    camreport.run(INPUTS / "cat.jpg", tmp_path / "g", model=small_model(("a", "b")))
    page = ready(open_report(tmp_path / "g", link="#v=channels"))
    assert page.locator("#nav a", has_text="Channels").count() == 0
    assert "--channels features.4" in page.inner_text("#view")
