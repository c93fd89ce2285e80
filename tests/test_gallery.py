"""A report in a real browser: offline, linkable, readable by everybody."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import browser
from helpers.browser import Open, settle
from helpers.checkout import INPUTS
from helpers.drawn_maps import reference, scale_of
from helpers.page_steps import focused, fold, unfold
from helpers.report_cells import cell, drawn, facts_of, ready, show
from helpers.small import small_model
from PIL import Image
from playwright.sync_api import Page
from torch import nn

import camreport
from camreport.methods import METHODS
from camreport.results.reader import load_results

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not browser.required() and browser.chromium() is None, reason="no Chromium here"
    ),
]


HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "\"quotes\" & 'apostrophes' <b>{name}</b>",
    "שלום עולם",
    "🐶🐱 emoji~1.2",
    "n" * 180,
]


PINS = "p=2.1.grad_cam.features.12~2.0.hires_cam.features.9~0.0.layer_cam.fused"


VIEWS = {
    "summary": "#v=summary",
    "overview": "#v=overview&k=1&m=layer_cam&l=features.9",
    "matrix": "#v=matrix&i=2&o=70&cm=cividis",
    "atlas": "#v=atlas",
    "evidence": "#v=evidence&l=features.9&e=extent.gini",
    "axes": "#v=matrix&r=image&c=class&l=features.9&m=hires_cam",
    "compare": f"#v=compare&{PINS}&z=2&x=0.3&y=0.6",
    "channels": "#v=channels&i=1&k=1&co=contribution&ch=3-17-200",
    "tables": "#v=tables&tb=methods&ct=1",
    "methods": "#v=methods",
    "provenance": "#v=provenance",
    "dialog": "#v=matrix&open=1.0.layer_cam.features.9&t=25",
}


def test_report_asks_for_nothing_of_others(open_report: Open, report: Path) -> None:
    page = ready(open_report(report))
    assert " " in str(report)
    assert not str(report).isascii()
    policy = page.get_attribute("meta[http-equiv='Content-Security-Policy']", "content")
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "http" not in policy


def test_planted_picture_of_another_host_is_refused(
    chromium: browser.Browser, report: Path
) -> None:
    page = chromium.new_page()
    page.goto((report / "index.html").as_uri())
    refused = page.evaluate(
        """() => new Promise(done => {
            addEventListener("securitypolicyviolation", event => done(event.blockedURI));
            document.body.append(Object.assign(new Image(), {src: "http://127.0.0.1:9/a.png"}));
            setTimeout(() => done(""), 5000);
        })"""
    )
    page.close()
    assert refused == "http://127.0.0.1:9/a.png"


SMALL_TARGETS = """() => {
    const own = "a[href], button, select, input, summary, [role=textbox], [tabindex='0']";
    const inText = e => e.matches("a, [role=textbox]") &&
        getComputedStyle(e).display === "inline" &&
        [...e.parentElement.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    const root = document.querySelector("dialog[open]") ?? document;
    return [...root.querySelectorAll(own)]
        .filter(e => e.checkVisibility({visibilityProperty: true}) && e.id !== "skip" && !inText(e))
        .map(e => e.type === "checkbox" ? e.closest("label") : e)
        .map(e => [e, e.getBoundingClientRect()])
        .filter(([, box]) => Math.min(box.width, box.height) < 23.99)
        .map(([e, {width, height}]) => `${e.tagName} ${e.dataset.focus ?? e.className} ` +
            `${e.textContent.slice(0, 20)}: ${width.toFixed(1)} x ${height.toFixed(1)}`);
}"""


@pytest.mark.parametrize("width", [360, 1400])
def test_targets_measure_24_pixels(open_report: Open, report: Path, width: int) -> None:
    page = ready(open_report(report, width=width))
    small = {}
    for name, link in VIEWS.items():
        show(page, link)
        if name == "dialog":
            page.wait_for_selector("#cell[open] #probe")
        if found := page.evaluate(SMALL_TARGETS):
            small[name] = found
    assert small == {}


def test_every_map_and_slider_says_what_it_is(open_report: Open, report: Path) -> None:
    page = ready(open_report(report))
    for link in VIEWS.values():
        show(page, link)
        sliders = page.eval_on_selector_all(
            "input[type=range]",
            "all => all.filter(e => e.offsetParent).map(e => [e.ariaLabel, e.ariaValueText])",
        )
        assert all(label and text for label, text in sliders)
        names = page.eval_on_selector_all(
            "#view .cell[data-id], #probe",
            "all => all.map(e => [e.dataset.id ?? '', e.getAttribute('aria-label')])",
        )
        for where, name in names:
            image, rank, method, layer = (where or "1.0.layer_cam.features.9").split(".", 3)
            assert ("both.jpg", "cat.jpg", "dog.jpg")[int(image)] in name
            said = "contrast" if rank == "-3" else f"class {('cat', 'dog')[int(rank)]}"
            assert said in re.sub("[\u2068\u2069]", "", name)
            assert METHODS[method].name in name
            assert layer in name
        nameless = page.eval_on_selector_all(
            "#app canvas, dialog[open] canvas",
            """all => all.filter(e => e.checkVisibility() &&
                !e.closest(".neighbour")?.innerText.trim() &&
                !e.closest("[aria-label], [aria-labelledby], [aria-hidden=true]")
                ?.matches(".cell, [role=img], [role=application], [aria-hidden=true]"))
                .map(e => e.closest("[class]").className)""",
        )
        assert nameless == [], link


SNAPSHOT = """() => {
    const root = document.querySelector("#app");
    const hash = canvas => {
        const {width, height} = canvas;
        if (!width || !height) return "empty";
        const copy = new OffscreenCanvas(width, height).getContext("2d");
        copy.drawImage(canvas, 0, 0);
        const words = new Uint32Array(copy.getImageData(0, 0, width, height).data.buffer);
        let sum = 2166136261;
        for (const word of words) sum = Math.imul(sum ^ word, 16777619);
        return `${width} x ${height}: ${sum >>> 0}`;
    };
    const every = what => [...document.querySelectorAll(what)].filter(e => e.checkVisibility());
    return {
        text: root.innerText,
        dialog: document.querySelector("#cell[open]")?.innerText ?? "",
        values: every("input, select").map(e => e.type === "checkbox" ? e.checked : e.value),
        canvases: every("#app canvas, #cell[open] canvas").map(hash),
    };
}"""


def snapshot(page: Page) -> dict[str, Any]:
    """Return all that a page shows: text, what is chosen, pixels."""
    if "open=" in page.evaluate("location.hash"):
        page.wait_for_selector("#cell[open] #probe")
    page.mouse.move(0, 0)
    settle(page)
    settle(page)
    seen: dict[str, Any] = page.evaluate(SNAPSHOT)
    return seen


@pytest.mark.parametrize("view", VIEWS)
def test_link_restores_the_view(open_report: Open, report: Path, view: str) -> None:
    page = ready(open_report(report, height=3000))
    plain = snapshot(page)
    show(page, VIEWS[view])
    first = snapshot(page)
    assert first != plain
    link = page.evaluate("location.hash")
    assert snapshot(ready(open_report(report, height=3000, link=link))) == first
    if view in ("matrix", "dialog"):
        page.reload()
        assert snapshot(ready(page)) == first
    page.go_back()
    assert snapshot(page) == plain
    page.go_forward()
    assert snapshot(page) == first


def test_controls_write_a_link_that_restores_the_view(open_report: Open, report: Path) -> None:
    page = ready(open_report(report, height=3000))
    page.click("[data-focus='open axes']")
    page.locator('[data-focus="choose-image"]').select_option("2")
    page.locator('[data-focus="rows"]').select_option("image")
    page.click("[data-focus='open axes']")
    unfold(page, "appearance")
    page.locator('[data-focus="colormap"]').select_option("viridis")
    page.locator('[data-focus="threshold"]').fill("20")
    page.locator('[data-focus="contours"]').check()
    unfold(page, "menu")
    page.locator('[data-focus="theme"]').select_option("dark")
    fold(page)
    first = snapshot(page)
    link = page.evaluate("location.hash")
    assert snapshot(ready(open_report(report, height=3000, link=link))) == first


@pytest.mark.parametrize(
    "link",
    [
        "#v=nothing&i=99&k=7&m=x&l=y&cm=z&sc=w&o=abc",
        "#open=0.9.grad_cam.features.0",
        "#open=9.0.a.b",
        "#v=compare&p=0.0.nothing.fused~7.7.grad_cam.x",
        "#v=matrix&r=layer&c=layer&b=layer&n=-3&o=5000&t=-40",
        "#%E0%A4%A",
    ],
)
def test_mistyped_link_still_opens(open_report: Open, report: Path, link: str) -> None:
    page = open_report(report, link=link)
    page.wait_for_selector("#view > .view")
    settle(page)
    assert page.locator("h1").inner_text() == "catdog-alexnet · inputs"
    assert page.inner_text("#view").strip()
    opacity = page.get_attribute('[data-focus="opacity"]', "aria-valuetext")
    assert 0 <= int(str(opacity).removesuffix("%")) <= 100


@pytest.mark.parametrize(
    ("width", "height"), [(320, 640), (320, 256), (360, 640), (800, 600), (1400, 1000)]
)
def test_no_view_scrolls_sideways(open_report: Open, report: Path, width: int, height: int) -> None:
    page = ready(open_report(report, width=width, height=height))
    wide = {}
    for name, link in VIEWS.items():
        show(page, link)
        across = page.evaluate("document.documentElement.scrollWidth")
        if name == "dialog":
            page.wait_for_selector("#cell[open] #probe")
            box = page.locator("#cell").bounding_box()
            assert box is not None
            inner = page.eval_on_selector("#cell", "e => e.scrollWidth - e.clientWidth")
            across = max(across, box["x"] + box["width"], width + inner)
        if across > width:
            wide[name] = across
    assert wide == {}


def test_page_without_scripts_shows_what_stands_still(open_report: Open, report: Path) -> None:
    page = open_report(report, java_script_enabled=False)
    assert page.locator(".contact:visible").count() == 3
    assert page.locator(".contact-sheet img:visible").count() == 3 * (1 + 2 * 3)
    for image in page.locator(".contact-sheet img").all():
        image.scroll_into_view_if_needed()
        assert image.get_attribute("alt")
    results = load_results(report)
    best = results.images[0].top[0]
    assert page.locator(".contact .name >> nth=0").inner_text() == best.name
    assert page.locator(".contact .percent >> nth=0").inner_text() == f"{best.probability:.2f}"
    table = page.locator("table.numbers", has_text="both.jpg").first
    assert table.locator("tbody tr").count() == 6
    peak = float(results.arrays(0)["layer_cam/features.3"][0].max())
    shown = table.locator("tbody tr >> nth=1").locator("td >> nth=1").inner_text()
    assert float(shown) == pytest.approx(peak, rel=6e-3)
    assert "Grad-CAM, LayerCAM, HiResCAM at the last layer, features.12" in page.inner_text(
        ".contact figcaption >> nth=0"
    )
    provenance = page.inner_text("#fallback .provenance >> nth=-1")
    assert results.manifest.model.sha256 in provenance
    assert results.manifest.command in provenance
    assert page.locator(".badge:visible").all_inner_texts() == [
        "wrong: it is cat",
        "right: it is cat",
    ]
    dead = "button, select, input, summary, [tabindex], a[href^='#'], dialog, #bar"
    assert page.locator(f":is({dead}):visible").count() == 0
    assert page.is_visible("#fallback .notice")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1400


def test_badges_say_in_words_what_is_right_and_wrong(open_report: Open, report: Path) -> None:
    page = ready(open_report(report, link="#v=overview"))
    badges = "#view .tile .wrong"
    words = page.eval_on_selector_all(badges, "all => all.map(e => [e.className, e.innerText])")
    assert words == [["wrong", "✗ is cat"]], "what is right is not marked"
    show(page, "#v=overview&q=right:no")
    assert page.locator("#view .tile .name").all_inner_texts() == ["both.jpg"]
    show(page, "#v=matrix&i=0")
    assert page.inner_text("#view .image-line .badge") == "✗ wrong: it is cat"
    show(page, "#v=matrix&i=1")
    assert page.locator("#view .image-line .badge").count() == 0


@pytest.mark.parametrize(
    ("scale", "legend"),
    [
        ("map", "each map’s maximum"),
        ("method", "the method’s maximum"),
        ("image", "the image’s maximum"),
        ("report", "the report’s maximum"),
    ],
)
def test_legend_and_caption_say_which_scale(
    open_report: Open, report: Path, scale: str, legend: str
) -> None:
    page = ready(open_report(report, link=f"#v=matrix&sc={scale}&t=30&ct=1&rc=1&av=1"))
    assert legend in page.inner_text("#view .legend >> nth=0")
    caption = page.inner_text("#view .panel .figcaption >> nth=0")
    strings = json.loads(page.text_content("script#report") or "")["strings"]["en"]
    assert strings[f"scale.{scale}.words"] in caption
    for said in ("inferno", "Values below 30% are not drawn.", "25%, 50% and 75%"):
        assert said in caption
    results = load_results(report)
    if scale == "report":
        top = scale_of(results, 0, "grad_cam", "features.0", "report")
        found = re.search(r"from 0 to ([\d.]+)\.", caption)
        assert found
        assert float(found[1]) == pytest.approx(top, rel=6e-3)
    show(page, f"#v=matrix&sc={scale}&open=1.0.grad_cam.features.3")
    page.wait_for_selector("#cell[open] #probe")
    assert facts_of(page)["Scale"] == strings[f"scale.{scale}"]
    top = scale_of(results, 1, "grad_cam", "features.3", scale)
    own = results.arrays(1)["grad_cam/features.3"][0].max()
    assert float(page.inner_text("#cell .bar-top")) == pytest.approx(top or own, rel=6e-3)


@pytest.mark.parametrize(
    ("weight", "label", "note"),
    [
        (-1.0, "no positive evidence", "Predictions depend only on differences between logits"),
        (torch.nan, "undefined", "infinite or NaN values"),
    ],
    ids=["empty", "undefined"],
)
def test_maps_without_positive_or_finite_values_are_labelled_not_drawn(
    open_report: Open, tmp_path: Path, weight: float, label: str, note: str
) -> None:
    model = small_model(("chosen", "other"))
    with torch.no_grad():
        model.module.head.weight[0] = weight  # type: ignore[union-attr]
    camreport.run(INPUTS / "cat.jpg", tmp_path / "g", model=model, classes="chosen", layers=["3"])
    page = ready(open_report(tmp_path / "g"))
    where = cell(0, 0, "grad_cam", "features.3")
    page.wait_for_selector(f"{where} .frame[data-drawn]")
    assert page.locator("#view .panels .cell canvas").count() == 0
    assert page.inner_text(f"{where} .label") == label
    assert label in (page.get_attribute(where, "aria-label") or "")
    assert note in page.inner_text("#view")
    page.click(where)
    page.wait_for_selector("#cell[open]")
    assert label in page.inner_text("#reading")
    assert page.locator("#probe canvas, #cell .bar-row:visible").count() == 0
    page.keyboard.press("Escape")
    assert label in "".join(browser.pdf_pages(page.pdf(format="A4")))
    still = open_report(tmp_path / "g", java_script_enabled=False)
    assert label in still.inner_text(".contact-sheet")


def test_hostile_names_show_as_text(open_report: Open, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in HOSTILE:
        shutil.copy(INPUTS / "cat.jpg", folder / f"{name.replace('/', '∕')}.jpg")
    layer = "<img src=x onerror=alert(1)>&amp;"
    model = small_model(tuple(HOSTILE))
    features = model.module.features  # type: ignore[union-attr]
    features.add_module(layer, nn.ReLU())
    methods = "grad_cam,eigen_cam,guided_backprop,full_grad"
    camreport.run(
        folder,
        tmp_path / "g",
        model=model,
        classes="all",
        layers=["features.3", f"features.{layer}"],
        methods=methods,
        channels=["features.3"],
        labels={f"{HOSTILE[2]}.jpg": HOSTILE[0]},
    )
    page = ready(open_report(tmp_path / "g", link="#v=overview&i=2", fresh=True))
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    markup = "[onerror], b, #app > img, #app script, #view img[src='x']"
    files = sorted(f"{name.replace('/', '∕')}.jpg" for name in HOSTILE)
    assert sorted(page.locator("#view .tile .name").all_inner_texts()) == files
    pin = f"0.0.grad_cam.features.{layer}"
    pins = "~".join(part.replace("&", "%26") for part in (pin, "1.1.full_grad.input"))
    for link in (
        "#v=matrix",
        "#v=matrix&r=image&c=class",
        f"#v=compare&p={pins}",
        "#v=channels",
        "#v=tables",
        "#v=provenance",
        "#v=methods",
        f"#v=matrix&open={pin.replace('&', '%26')}",
    ):
        show(page, link)
        assert page.locator(markup).count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 1400, link
    page.wait_for_selector("#cell[open] #probe")
    assert HOSTILE[0] in page.inner_text("#cell-title")
    assert layer in page.inner_text("#cell-title")
    show(page, "#v=matrix&r=layer&c=class&m=grad_cam")
    assert page.eval_on_selector_all(
        "#view .matrix thead th .head", "all => all.map(e => e.textContent).sort()"
    ) == sorted(HOSTILE)
    assert layer in page.inner_text("#view .matrix tbody")
    page.pdf(format="A4")
    still = open_report(tmp_path / "g", java_script_enabled=False, width=360)
    assert sorted(still.locator(".contact h2").all_inner_texts()) == files
    assert still.locator("[onerror], b, #fallback script[src]").count() == 0
    assert still.evaluate("document.documentElement.scrollWidth") <= 360


def test_failed_inputs_are_listed_with_their_reason(open_report: Open, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(INPUTS / "cat.jpg", folder)
    (folder / "empty.png").touch()
    camreport.run(folder, tmp_path / "g", model=small_model(("a", "b")))
    page = ready(open_report(tmp_path / "g"))
    show(page, "#v=provenance")
    still = open_report(tmp_path / "g", java_script_enabled=False)
    for opened, place in ((page, "#view .notice"), (still, "#fallback .notice >> nth=1")):
        said = opened.inner_text(place)
        assert "1 of 2 inputs could not be read" in said
        assert "empty.png: the file is empty (0 bytes)" in said


def test_little_motion_leaves_the_flicker_out(open_report: Open, report: Path) -> None:
    still = ready(open_report(report, link=VIEWS["compare"], reduced_motion="reduce"))
    lively = ready(open_report(report, link=VIEWS["compare"]))
    assert lively.locator('[data-focus="flicker"]').count() == 1
    assert still.locator('[data-focus="flicker"]').count() == 0
    assert still.is_visible('[data-focus="turn"]')
    moving = still.evaluate("document.getAnimations().length")
    assert moving == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_forced_colours_keep_the_focus_ring(open_report: Open, report: Path, scheme: str) -> None:
    page = ready(open_report(report, forced_colors="active", color_scheme=scheme))
    for _ in range(12):
        page.keyboard.press("Tab")
        ring = page.evaluate(
            """(({outlineStyle, outlineWidth, outlineColor}) =>
                [outlineStyle, outlineWidth, outlineColor])
                (getComputedStyle(document.activeElement))"""
        )
        assert ring[0] != "none", focused(page)
        assert float(ring[1].removesuffix("px")) >= 2
        assert ring[2] != "rgba(0, 0, 0, 0)"
    where = (0, 0, "grad_cam", "features.12")
    np.testing.assert_array_equal(drawn(page, cell(*where)), reference(report, *where))
    adjust = "e => getComputedStyle(e).forcedColorAdjust"
    assert page.eval_on_selector(f"{cell(*where)} canvas.heat", adjust) == "none"


def test_dark_scheme_has_dark_ground_and_readable_text(open_report: Open, report: Path) -> None:
    def lightness(scheme: str, what: str) -> float:
        page = ready(open_report(report, color_scheme=scheme))
        colour = page.evaluate(f"getComputedStyle(document.documentElement).{what}")
        return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3

    assert lightness("dark", "backgroundColor") < 50 < 200 < lightness("dark", "color")
    assert lightness("light", "color") < 60 < 200 < lightness("light", "backgroundColor")


def test_links_inside_the_page_lead_somewhere(open_report: Open, report: Path) -> None:
    page = ready(open_report(report))
    known = set(VIEWS)
    for link in VIEWS.values():
        show(page, link)
        for target in page.eval_on_selector_all("a", "all => all.map(e => e.getAttribute('href'))"):
            if target.startswith("https://"):  # for reading; nothing is loaded from there
                continue
            if not target:  # the report itself
                continue
            assert target.startswith("#")
            assert set(re.findall(r"\bv=(\w+)", target)) <= known


def test_layout_stands_before_the_maps_are_drawn(open_report: Open, report: Path) -> None:
    page = ready(open_report(report))
    height = page.evaluate("document.documentElement.scrollHeight")
    drawn(page, cell(0, 1, "layer_cam", "fused"))
    assert page.evaluate("document.documentElement.scrollHeight") == height


def test_very_tall_and_wide_images_stay_within_bounds(open_report: Open, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, size in (("tall", (40, 1200)), ("wide", (1200, 40))):
        Image.new("RGB", size, "teal").save(tmp_path / "in" / f"{name}.png")
    camreport.run(tmp_path / "in", tmp_path / "g", model=small_model(("a", "b")))
    page = ready(open_report(tmp_path / "g", link="#v=overview"))
    for link in ("#v=overview", "#v=matrix&i=0", "#v=matrix&i=1", "#v=tables"):
        show(page, link)
        boxes = page.eval_on_selector_all(
            "#view .frame", "all => all.map(e => e.getBoundingClientRect().toJSON())"
        )
        assert boxes
        assert max(box["height"] for box in boxes) <= 700, link
        assert min(min(box["height"], box["width"]) for box in boxes) >= 1, link
        assert page.evaluate("document.documentElement.scrollWidth") <= 1400
