"""The page is for everyone: no barrier that axe knows of, in Chromium and in Firefox alike."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import browser
from helpers.browser import (
    KEEP_PAINTED,
    READ_CANVAS,
    Firefox,
    Open,
    axe,
    eventually,
    pdf_pages,
    settle,
    unpacked,
)
from helpers.checkout import INPUTS
from helpers.page_steps import cam_of, fold, go, photo_size, unfold
from helpers.pictures import heat_pixels
from helpers.small import SmallNet, small_model

import camreport
from camreport.models.loaded import RANDOM, LoadedModel
from camreport.results.reader import load_results

pytestmark = pytest.mark.slow

needs_chromium = pytest.mark.skipif(
    not browser.required() and browser.chromium() is None, reason="no Chromium here"
)

VIEWS = (
    *("summary", "overview", "matrix", "evidence", "compare", "channels", "tables", "methods"),
    *("atlas", "provenance"),
)
WAYS = (
    *(("light", "en", 1400, 0), ("dark", "zh", 320, 0)),
    *(("light", "zh", 320, 1), ("dark", "en", 1400, 1)),
)
"""Scheme, language and width, each value in both halves; axe looks at half of the views in each."""

PINS = "0.0.grad_cam.features.3~0.1.hires_cam.features.0"
DIALOG = "0.0.grad_cam.features.3"


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small report with everything that a page can show, notices of all kinds among it."""
    folder = tmp_path_factory.mktemp("in")
    for name in ("cat.jpg", "dog.jpg"):
        shutil.copy(INPUTS / name, folder)
    (folder / "empty.png").touch()
    net = SmallNet(3).eval()
    with torch.no_grad():
        net.head.weight[2] = -net.head.weight[2].abs()  # no positive evidence for the last class
    small = small_model(("cat", "dog", "fox"))
    model = LoadedModel(
        net, small.preprocessing, small.class_names, "small", "seeded", "0" * 64, warning=RANDOM
    )
    out = tmp_path_factory.mktemp("full") / "g"
    camreport.run(
        folder,
        out,
        model=model,
        layers=["features.0", "features.3"],
        channels=["features.3"],
        methods="grad_cam,layer_cam,hires_cam,guided_backprop,eigen_cam,cam",
        labels={"cat.jpg": "cat", "dog.jpg": "cat"},
    )
    return out


def state(view: str, language: str, more: str = "") -> str:
    pins = f"&p={PINS}" if view in ("compare", "matrix") else ""
    return f"v={view}&lang={language}{pins}{more}"


@needs_chromium
@pytest.mark.parametrize(("scheme", "language", "width", "half"), WAYS)
def test_axe_finds_nothing_in_any_view_and_none_scrolls_sideways(
    open_report: Open, full: Path, scheme: str, language: str, width: int, half: int
) -> None:
    page = open_report(full, width=width, color_scheme=scheme)
    found = {}
    for view in VIEWS:
        go(page, state(view, language), view)
        settle(page)
        found[view] = axe(page) if view in VIEWS[half::2] else []
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found[view].append("the view scrolls sideways")
    go(page, state("matrix", language, f"&open={DIALOG}"), "matrix")
    page.wait_for_selector("#cell[open] #facts")
    found["a cell"] = axe(page)
    page.keyboard.press("Escape")
    page.wait_for_selector("#cell", state="hidden")
    for popover in ("appearance", "menu"):
        unfold(page, popover)
        found[f"the popover {popover}"] = axe(page)
        fold(page)
    unfold(page, "menu")
    page.click("[data-focus=help]")
    page.wait_for_selector("#help[open]")
    found["the help"] = axe(page)
    barriers = [f"{where}: {line}" for where, lines in found.items() for line in lines]
    if barriers:
        pytest.fail("\n".join(barriers), pytrace=False)


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_where_the_reader_chooses_the_theme(
    open_report: Open, full: Path, scheme: str
) -> None:
    other = {"light": "dark", "dark": "light"}[scheme]
    page = open_report(
        full, color_scheme=other, link=f"#v=matrix&th={scheme}&o=0&g=1&ct=1&sc=image"
    )
    page.wait_for_selector(".view-matrix .cell")
    ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    lightness = sum(map(int, ground.removeprefix("rgb(").removesuffix(")").split(", "))) / 3
    assert lightness < 50 if scheme == "dark" else lightness > 200
    assert axe(page) == []


@needs_chromium
@pytest.mark.parametrize(
    "more", ["&r=method&c=class", "&r=image&c=layer", "&r=layer&c=method&b=class"]
)
def test_axe_finds_nothing_on_other_axes(open_report: Open, full: Path, more: str) -> None:
    page = open_report(full, link=f"#v=matrix{more}")
    page.wait_for_selector(".view-matrix .cell")
    page.wait_for_selector(".cell .frame[data-drawn]")
    assert axe(page) == []


@needs_chromium
def test_axe_finds_nothing_while_channels_are_picked_and_filters_leave_nothing(
    open_report: Open, full: Path
) -> None:
    page = open_report(full, link="#v=channels&ch=0-1-2")
    page.wait_for_selector(".sum")
    assert axe(page) == []
    for view in ("overview", "tables"):
        go(page, f"v={view}&q=nothing-like-it", view)
        settle(page)
        assert axe(page) == []


@needs_chromium
@pytest.mark.parametrize("language", ["en", "zh"])
def test_axe_finds_nothing_where_scripts_do_not_run(
    open_report: Open, full: Path, tmp_path: Path, language: str
) -> None:
    copy = tmp_path / "g"
    shutil.copytree(full, copy)
    html = camreport.report.gallery.render_gallery(copy, language=language)
    whole = html.read_text(encoding="utf-8")  # axe is a script: those of the page have to go
    html.write_text(re.sub(r"<script.*?</script>", "", whole, flags=re.DOTALL), encoding="utf-8")
    for scheme, width in (("light", 1400), ("dark", 320)):
        page = open_report(copy, width=width, color_scheme=scheme)
        assert page.is_visible("#fallback h1")
        assert axe(page) == []


@needs_chromium
@pytest.mark.parametrize("language", ["en", "zh"])
def test_axe_finds_nothing_when_a_file_is_missing(
    chromium: browser.Browser, full: Path, tmp_path: Path, language: str
) -> None:
    out = tmp_path / "g"
    shutil.copytree(full, out)
    camreport.report.gallery.render_gallery(out, layout="folder")
    (out / "data/images-0000.js").unlink()
    for scheme in ("light", "dark"):
        context = chromium.new_context(color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(f"{(out / 'index.html').as_uri()}#v=overview&m=hires_cam&lang={language}")
        page.wait_for_selector("#missing:not([hidden])")
        assert "data/images-0000.js" in page.inner_text("#missing")
        assert axe(page) == []
        context.close()


@needs_chromium
def test_axe_would_find_a_barrier_in_a_report(open_report: Open, full: Path) -> None:
    page = open_report(full)
    page.wait_for_selector(".view-matrix .cell")
    unfold(page, "appearance")
    page.eval_on_selector("[data-focus=opacity]", "e => e.removeAttribute('aria-label')")
    page.eval_on_selector("[data-focus=opacity]", "e => e.closest('label').replaceWith(e)")
    assert any(line.startswith("label") for line in axe(page))


# Firefox


@pytest.fixture(scope="module")
def fox() -> Iterator[Firefox]:
    """A running Firefox under its strictest rules for files."""
    with browser.firefox() as running:
        running.resize(1400, 1000)
        running.command("script.addPreloadScript", functionDeclaration=KEEP_PAINTED)
        yield running


def fox_until(fox: Firefox, question: str, expected: object = True) -> None:
    eventually(lambda: bool(fox.evaluate(question) == expected))


def visit(fox: Firefox, out: Path, link: str, view: str) -> None:
    """Open a report at a state; a link within the page alone would not load it anew."""
    fox.goto("about:blank")
    fox.goto(f"{(out / 'index.html').resolve().as_uri()}#{link}")
    fox_until(fox, f"document.querySelector('.view-{view}') !== null")


@contextmanager
def silent(fox: Firefox) -> Iterator[None]:
    """Fail if the page says anything or asks for anything but files."""
    said, asked = len(fox.said()), len(fox.requested)
    yield
    assert fox.said()[said:] == []
    assert [
        u for u in fox.requested[asked:] if not u.startswith(("file:", "blob:", "about:"))
    ] == []


def fox_pixels(fox: Firefox, canvas: str) -> np.ndarray:
    return unpacked(*fox.evaluate(f"name => ({READ_CANVAS})(document.querySelector(name))", canvas))


def assert_drawn(fox: Firefox, out: Path, pin: str, **look: object) -> None:
    """Compare a cell of the matrix with the Python reference, bit for bit."""
    cell = f'.cell[data-id="{pin}"] .frame'
    fox.evaluate("(cell) => document.querySelector(cell).scrollIntoView()", cell)
    fox_until(fox, f"document.querySelector('{cell}[data-drawn] canvas.heat') !== null")
    results = load_results(out)
    full = photo_size(results, int(pin.split(".")[0]))
    height, width = (int(length * 224 / max(full) + 0.5) for length in full)
    expected = heat_pixels(cam_of(results, pin), height, width, **look)  # type: ignore[arg-type]
    np.testing.assert_array_equal(fox_pixels(fox, f"{cell} canvas.heat"), expected)


@pytest.mark.parametrize("view", VIEWS)
def test_firefox_shows_every_view_without_a_word(fox: Firefox, full: Path, view: str) -> None:
    with silent(fox):
        visit(fox, full, state(view, "en"), view)
        assert fox.evaluate("document.querySelector('#fallback')") is None
        assert len(fox.evaluate("document.querySelector('#view').innerText")) > 50


@pytest.mark.parametrize(
    ("pin", "link", "look"),
    [
        ("0.0.grad_cam.features.12", "", {}),
        ("2.1.layer_cam.fused", "&cm=jet", {"colormap": "jet"}),
        ("2.0.hires_cam.features.6", "&t=25", {"threshold": 0.25}),
        ("1.0.layer_cam.features.3", "&t=50&cm=cividis", {"threshold": 0.5, "colormap": "cividis"}),
        ("0.1.layer_cam.features.0", "&rc=1", {"smooth": False}),
    ],
)
def test_firefox_draws_the_pixels_of_the_python_reference(
    fox: Firefox, demo: Path, pin: str, link: str, look: dict[str, object]
) -> None:
    with silent(fox):
        visit(fox, demo, f"v=matrix&i={pin[0]}{link}", "matrix")
        assert_drawn(fox, demo, pin, **look)


def test_firefox_reads_a_folder_under_a_strange_name(
    fox: Firefox, demo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mein Bericht – 报告 #1 100%"
    shutil.copytree(demo, out)
    camreport.report.gallery.render_gallery(out, layout="folder")
    assert (out / "data/report.js").is_file()
    with silent(fox):
        visit(fox, out, "v=matrix&i=1", "matrix")
        assert_drawn(fox, out, "1.0.grad_cam.features.9")
        visit(fox, out, "v=overview", "overview")
        fox_until(fox, "document.querySelectorAll('.tile .frame[data-drawn]').length", 3)
        loaded = "[...document.querySelectorAll('.tile img')].every(e => e.naturalWidth > 0)"
        fox_until(fox, loaded)


def test_firefox_opens_a_cell_by_key_and_gives_the_focus_back(fox: Firefox, demo: Path) -> None:
    with silent(fox):
        visit(fox, demo, "v=matrix", "matrix")
        fox.evaluate("document.querySelector('.cell[tabindex=\"0\"]').focus()")
        own = fox.evaluate("document.activeElement.dataset.id")
        fox.evaluate("document.activeElement.click()")
        fox_until(fox, "document.querySelector('#cell').open")
        fox.evaluate("document.querySelector('#cell').close()")
        fox_until(fox, "document.activeElement.dataset.id ?? ''", own)


def test_firefox_has_nothing_left_of_a_closed_map_in_its_history(fox: Firefox, demo: Path) -> None:
    cell = '.cell[data-id="0.1.layer_cam.features.12"]'
    hash_has = "new URLSearchParams(location.hash.slice(1)).has('{}')"
    with silent(fox):
        visit(fox, demo, "v=matrix", "matrix")
        fox.evaluate("document.querySelector('[data-focus=\"view overview\"]').click()")
        fox_until(fox, "document.querySelector('.view-overview') !== null")
        fox.evaluate("document.querySelector('[data-focus=\"view matrix\"]').click()")
        fox_until(fox, f"document.querySelector('{cell}') !== null")
        before = fox.evaluate("history.length")
        for _ in range(2):
            fox.evaluate("(cell) => document.querySelector(cell).click()", cell)
            fox_until(fox, "document.querySelector('#cell').open")
            fox.evaluate("document.querySelector('#cell [data-focus=pin]').click()")
            fox.evaluate("document.querySelector('#cell').close()")
            fox_until(fox, f"!{hash_has.format('open')}")
        assert fox.evaluate("history.length") == before + 1, "only the way forward"
        fox.evaluate("document.querySelector('[data-focus=theme]').value = 'dark'")
        fox.evaluate(
            "document.querySelector('[data-focus=theme]').dispatchEvent(new Event('change'))"
        )
        fox.evaluate("history.back()")
        fox_until(fox, "document.querySelector('.view-overview') !== null")
        fox_until(fox, "document.documentElement.dataset.theme", "dark")


def test_firefox_prints_every_figure_within_twenty_megabytes(fox: Firefox, demo: Path) -> None:
    with silent(fox):
        visit(fox, demo, "v=matrix", "matrix")
        pdf = fox.print_pdf()
    assert len(pdf) <= 20_000_000
    pages = [" ".join(text.split()) for text in pdf_pages(pdf)]
    text = " ".join(pages)
    files = ("both.jpg", "cat.jpg", "dog.jpg")
    for number, (file, name) in enumerate(product(files, ("cat", "dog")), start=1):
        carrying = [page for page in pages if f"Figure {number}. {file}" in page]
        assert len(carrying) == 1, file
        assert f"For class {name}: Grad-CAM" in carrying[0]
        for layer in (0, 3, 6, 9, 12):
            assert f"features.{layer}" in carrying[0]
        for method in ("Grad-CAM", "LayerCAM", "HiResCAM"):
            assert method in carrying[0]
    assert "Figure 7." not in text
    assert "Opacity" not in text
    assert "sha256" in text
    assert len(pages) <= 2 + 2 * len(files) + 3


def test_firefox_prints_the_tables_as_they_are_rewritten(fox: Firefox, demo: Path) -> None:
    with silent(fox):
        visit(fox, demo, "v=tables", "tables")
        fox.evaluate(
            """() => {
                const caption = document.querySelector(".caption");
                caption.textContent = "Mine alone";
                caption.dispatchEvent(new Event("input", {bubbles: true}));
            }"""
        )
        pdf = fox.print_pdf()
        text = " ".join(" ".join(pdf_pages(pdf)).split())
        assert "Figure 1. Mine alone" in text
        assert "Figure 13." in text
        visit(fox, demo, "v=tables", "tables")
        assert fox.evaluate("document.querySelector('.caption').textContent") == "Mine alone"
    assert len(pdf) <= 20_000_000


def test_firefox_is_heard_when_a_report_complains(fox: Firefox, demo: Path, tmp_path: Path) -> None:
    page = (demo / "index.html").read_text(encoding="utf-8")
    (tmp_path / "index.html").write_text(
        page.replace("<body>", "<body><script>planted</script>"), encoding="utf-8"
    )
    with pytest.raises(AssertionError), silent(fox):
        visit(fox, tmp_path, "v=matrix", "matrix")
