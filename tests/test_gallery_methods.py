"""The report of many methods: every cell drawn or explained, each kind in its own way."""

import base64
import io
import json
import re
from pathlib import Path

import browser
import numpy as np
import pytest
from browser import Open, canvas_pixels, draw
from conftest import INPUTS
from PIL import Image
from pypdf import PdfReader

import camreport
from camreport.gallery.cards import WIDEST
from camreport.heatmap import colour_table, quantise, shade, signed_picture
from camreport.methods import METHODS
from camreport.results import load_results

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not browser.required() and browser.chromium() is None, reason="no Chromium here"
    ),
]

LAYERS = ("features.9", "features.12")


def cell_of(page: browser.Page, method: str, layer: str, rank: int = 0) -> str:
    """Return the selector of the cell with that map."""
    data = json.loads(page.text_content("#data-0") or "")
    matches = [
        number
        for number, cell in enumerate(data["cells"])
        if (cell["method"], cell["layer"]) == (METHODS[method].name, layer)
    ]
    return f'.cell[data-cell="{matches[rank]}"]'


def test_every_method_and_layer_has_a_drawn_or_labelled_cell(
    open_report: Open, everything: Path
) -> None:
    page = open_report(everything)
    manifest = load_results(everything).manifest
    left_out = page.inner_text("[aria-label^='Methods that are not']")
    for key in manifest["methods"]:
        method = METHODS[key]
        if key == "cam":
            assert "CAM is not defined for this model" in left_out
            continue
        for layer in LAYERS if method.per_layer else ("input",):
            for rank in range(2 if method.class_specific else 1):
                cell = cell_of(page, key, layer, rank)
                assert page.locator(f"{cell} canvas, {cell} .picture, {cell} .label").count() == 1
    assert page.locator(".matrix td:not(.nothing):not(:has(.cell)) >> nth=0").count() == (
        page.locator(".matrix thead td >> nth=0").count()
    )


def test_method_without_a_class_is_drawn_once_and_marked(
    open_report: Open, everything: Path
) -> None:
    page = open_report(everything)
    assert page.locator(".of-no-class").count() == 1
    assert "do not look at the class" in page.inner_text(".of-no-class h4")
    assert page.locator(".of-no-class .cell").count() == len(LAYERS)
    assert page.locator(".matrix a[href='#method-eigen_cam']").count() == 1
    page.check("[name=rank] >> nth=1", force=True)
    assert page.is_visible(".of-no-class")


def test_layer_without_a_map_says_why(open_report: Open, tmp_path: Path) -> None:
    out = tmp_path / "g"
    camreport.run(INPUTS / "dog.jpg", out, layers=["9", "10:pre"], methods="gradcam,gradcam++")
    page = open_report(out)
    assert page.locator(".matrix .nothing", has_text="not computed").count() == 2
    assert "needs A ≥ 0; features.10:pre is read in front" in page.inner_text(".note >> nth=0")


def test_guided_methods_are_opaque_pictures_of_their_gradients(
    open_report: Open, everything: Path
) -> None:
    page = open_report(everything)
    arrays = load_results(everything).arrays(0)
    for key, layer in (("guided_backprop", "input"), ("guided_grad_cam", "features.12")):
        picture = f"{cell_of(page, key, layer, 1)} .picture"
        encoded = page.get_attribute(picture, "src").partition(",")[2]
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"))
        expected = signed_picture(arrays[f"{key}/{layer}"][1])
        assert shown.shape == expected.shape == (224, 224, 3)
        assert np.abs(shown.astype(int) - expected).mean() < 8  # JPEG
        assert expected.std() > 10
        assert page.eval_on_selector(picture, "e => getComputedStyle(e).opacity") == "1"
    page.eval_on_selector(picture, "e => e.scrollIntoView()")
    page.click(cell_of(page, "guided_grad_cam", "features.12", 0))
    assert page.is_visible("#probe .picture")
    assert not page.is_visible("#probe canvas")
    assert not page.is_visible("#bar")
    assert "grey is zero" in page.inner_text("#reading")
    assert "224 × 224" in page.inner_text("#facts")


def test_full_grad_is_a_heat_map_of_averaged_pixels(open_report: Open, everything: Path) -> None:
    page = open_report(everything)
    cell = cell_of(page, "full_grad", "input")
    draw(page, cell)
    saliency = load_results(everything).arrays(0)["full_grad/input"][0]
    averaged = saliency.reshape(112, 2, 112, 2).mean((1, 3)).astype(np.float32)
    index, _ = shade(quantise(averaged), 224, 224)
    drawn = canvas_pixels(page, f"{cell} canvas")[..., :3].astype(int)
    difference = np.abs(drawn - colour_table()[index].astype(int)).max(-1)
    assert (difference <= 8).all()  # one level apart where the two averages round differently
    assert (difference == 0).mean() > 0.99


def test_recipro_cam_is_drawn_from_its_least_value_and_read_in_its_own_unit(
    open_report: Open, everything: Path
) -> None:
    page = open_report(everything)
    cam = load_results(everything).arrays(0)["recipro_cam/features.12"][1]
    cell = cell_of(page, "recipro_cam", "features.12", 1)
    page.check("[name=rank] >> nth=1", force=True)
    draw(page, cell)
    index, _ = shade(quantise(cam - cam.min()), 224, 224)
    drawn = canvas_pixels(page, f"{cell} canvas")
    np.testing.assert_array_equal(drawn[..., :3], colour_table()[index])
    page.click(cell)
    ends = [float(page.inner_text(f".bar-{end}")) for end in ("bottom", "top")]
    assert ends == pytest.approx([cam.min(), cam.max()], rel=6e-3, abs=1e-6)
    page.focus("#probe")
    value = float(page.inner_text("#reading").split("\n")[1])
    assert cam.min() - 1e-2 <= value <= cam.max() + 1e-2
    assert value != pytest.approx(value - float(cam.min()))  # the base is part of it
    page.keyboard.press("Escape")
    page.select_option("#scale", "image")
    draw(page, cell)
    np.testing.assert_array_equal(canvas_pixels(page, f"{cell} canvas"), drawn)


def test_channel_that_contributes_most_stands_for_gradient_x_activation(
    open_report: Open, tmp_path: Path
) -> None:
    out = tmp_path / "g"
    camreport.run(INPUTS / "cat.jpg", out, layers=["12"], methods="gradient_x_activation")
    page = open_report(out)
    maps = load_results(out).arrays(0)["gradient_x_activation/features.12"]
    assert maps.shape == (2, 256, 6, 6)
    for rank in range(2):
        strongest = max(range(256), key=lambda k: float(maps[rank, k].sum()))
        said = page.text_content(f"{cell_of(page, 'gradient_x_activation', 'features.12', rank)}")
        assert f"channel {strongest}, max ±" in said


def test_methods_are_explained_with_source_one_click_away(
    open_report: Open, everything: Path
) -> None:
    page = open_report(everything)
    page.click(".matrix:visible a[href='#method-score_cam']")
    assert page.evaluate("location.hash") == "#method-score_cam"
    for key in load_results(everything).manifest["methods"]:
        if key == "cam":
            continue
        method = METHODS[key]
        text = page.inner_text(f"#method-{key}")
        for said in (method.meaning, method.caution, method.needs.cost, method.layers):
            assert said in text
        assert re.sub(r"\s+", " ", method.formula) in re.sub(r"\s+", " ", text)
        assert method.source.split(", https")[0] in text


def test_provenance_says_what_each_kind_of_passes_took(open_report: Open, everything: Path) -> None:
    page = open_report(everything)
    text = page.inner_text(".provenance")
    for name, cost in load_results(everything).manifest["cost"]["families"].items():
        row = text.partition(f"of it {name}")[2].partition("of it")[0]
        assert f"{cost['maps']:,} map" in row
        for key in ("forwards", "backwards"):
            assert (f"{cost[key]:,} {key[:-1]}" in row) == bool(cost[key])


@pytest.mark.parametrize("width", [320, 360, 800, 1400])
def test_page_of_many_methods_never_scrolls_sideways(
    open_report: Open, everything: Path, width: int
) -> None:
    page = open_report(everything, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_tables_are_no_wider_than_a_page_and_print_whole(
    open_report: Open, everything: Path
) -> None:
    page = open_report(everything)
    widths = page.eval_on_selector_all(
        ".matrix", "all => all.map(e => e.tHead.rows[0].cells.length - 1)"
    )
    assert max(widths) <= WIDEST
    sheets = [s.extract_text() for s in PdfReader(io.BytesIO(page.pdf(format="A4"))).pages]
    for part in ("1a", "1b", "2a", "2b"):
        (sheet,) = [text for text in sheets if f"Figure {part}. both.jpg" in text]
        assert all(layer in sheet.partition(f"Figure {part}.")[2] for layer in LAYERS)
    for key in ("grad_cam", "recipro_cam"):
        assert any(METHODS[key].caution[:40] in " ".join(sheet.split()) for sheet in sheets)
