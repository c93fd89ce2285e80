"""A report as a folder in a browser: wherever it lies, whatever is missing, without scripts."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import browser, synthetic
from helpers.browser import KEEP_PAINTED, READ_CANVAS, pdf_pages, unpacked
from helpers.folders import (
    MB,
    Visit,
    at_a_glance,
    cell,
    contents,
    copied,
    drawn,
    in_browser,
    reference,
    served,
    twin,
)
from playwright.sync_api import Browser
from pypdf import PdfReader

from camreport.report.export import export_archive, export_document
from camreport.report.gallery import Limits, printable, render_gallery

VIEWS = (
    *("summary", "overview", "matrix", "atlas", "evidence", "compare", "channels", "tables"),
    *("methods", "provenance"),
)
JENKINS = "sandbox; default-src 'none'; img-src 'self'; style-src 'self';"
pytestmark = [pytest.mark.slow, in_browser]


def test_every_view_works_wherever_the_folder_is(visit: Visit, apart: Path, tmp_path: Path) -> None:
    moved = copied(apart, tmp_path / "woanders" / "Отчёт 2")
    shutil.rmtree(moved / "results", ignore_errors=True)
    (moved / "results").unlink(missing_ok=True)
    for out in (apart, moved):
        page = visit(out)
        seen = {}
        for view in VIEWS:
            pins = "&p=0.0.grad_cam.features.12~1.1.layer_cam.fused" if view == "compare" else ""
            page.evaluate("hash => location.hash = hash", f"v={view}{pins}")
            page.wait_for_selector(f"#view > .view-{view}")
            frames = page.locator("#view .frame[data-drawn] canvas.heat, #view .channel canvas")
            if view == "atlas":
                page.locator("#view .view-atlas canvas").first.wait_for()
            elif view not in ("evidence", "methods", "provenance"):
                frames.first.wait_for()
            seen[view] = frames.count(), page.inner_text("#view")
        assert seen["overview"][0] == 3
        assert seen["matrix"][0] > 10
        assert seen["compare"][0] >= 2
        assert seen["channels"][0] >= 256
        assert seen["tables"][0] > 4
        assert "HiResCAM" in seen["methods"][1]
        assert "sha256" in seen["provenance"][1]
        assert page.is_hidden("#missing")


@pytest.mark.parametrize(
    ("name", "link", "look"),
    [
        ("0.0.grad_cam.features.12", "", {}),
        ("1.1.layer_cam.features.0", "", {}),
        ("2.1.layer_cam.fused", "cm=jet", {"colormap": "jet"}),
        ("2.0.hires_cam.features.6", "t=25", {"threshold": 0.25}),
        ("1.0.grad_cam.features.3", "rc=1&cm=cividis", {"smooth": False, "colormap": "cividis"}),
    ],
)
def test_pixels_in_a_folder_equal_the_python_reference(
    visit: Visit, apart: Path, name: str, link: str, look: dict[str, Any]
) -> None:
    page = visit(apart, f"v=matrix&i={name[0]}&b=class&{link}")
    expected = reference(apart, name, **look)
    assert expected[..., 3].any()
    np.testing.assert_array_equal(drawn(page, name), expected)


def test_overview_and_averaged_maps_equal_the_python_reference(
    visit: Visit, tmp_path: Path
) -> None:
    grids = {"fine": 55, "coarse": 13}
    out = synthetic.write_results(tmp_path / "out", 30, grids=grids)
    render_gallery(out, layout="folder", limits=Limits(many=10))
    page = visit(out, "v=overview")
    for image in (0, 4, 29):
        name = at_a_glance(out, image, "grad_cam", "coarse")
        expected = reference(out, name, side=160, photo_side=224)
        np.testing.assert_array_equal(drawn(page, name), expected)
    thumbnails = page.locator("#view .tile img").evaluate_all("all => all.map(img => img.src)")
    assert len([source for source in thumbnails if "/data/thumbs/00/000" in source]) >= 3
    scripts = page.locator("head script").evaluate_all("all => all.map(one => one.src)")
    assert not any("images-" in source for source in scripts), "the overview's own data will do"
    page.evaluate("location.hash = 'v=matrix&i=29'")
    name = "29.0.grad_cam.fine"
    expected = reference(out, name, photo_side=224, cap=28)
    np.testing.assert_array_equal(drawn(page, name), expected)


def test_overview_shows_maps_where_the_last_layer_repeats_another(
    visit: Visit, tmp_path: Path
) -> None:
    out = synthetic.write_results(tmp_path / "out", 30, grids={"a": 9, "b": 7, "c": 7})
    for path in (out / "results").glob("shard-*.npz"):
        with np.load(path) as shard:
            arrays = dict(shard)
        arrays |= {f"{method}/c": arrays[f"{method}/b"] for method in ("grad_cam", "layer_cam")}
        np.savez(path, **arrays)
    file = out / "results/manifest.json"
    manifest = json.loads(file.read_text("utf-8"))
    manifest["layers"][2]["same_as"] = "b"
    file.write_text(json.dumps(manifest))
    render_gallery(out, layout="folder")
    page = visit(out, "v=overview")
    for image in (0, 1):
        name = at_a_glance(out, image, "grad_cam", "b")
        np.testing.assert_array_equal(drawn(page, name), reference(out, name, side=160))


def test_folder_works_in_firefox(apart: Path) -> None:
    with browser.firefox() as firefox:
        firefox.command("script.addPreloadScript", functionDeclaration=KEEP_PAINTED)
        firefox.goto(f"{apart.as_uri()}/index.html#v=matrix&i=0&b=class")
        name = "0.0.grad_cam.features.12"
        pixels = firefox.evaluate(
            f"""async selector => {{
                for (;;) {{
                    const cell = document.querySelector(selector);
                    cell?.scrollIntoView({{behavior: "instant"}});
                    const canvas = cell?.querySelector(".frame[data-drawn] canvas.heat");
                    if (canvas) return ({READ_CANVAS})(canvas);
                    await new Promise(done => setTimeout(done, 50));
                }}
            }}""",
            cell(name),
        )
        np.testing.assert_array_equal(unpacked(*pixels), reference(apart, name))
        assert firefox.evaluate("document.getElementById('missing').hidden")
        assert firefox.said() == []
        own = f"{apart.as_uri()}/"
        assert [url for url in firefox.requested if not url.startswith((own, "about:"))] == []


def test_page_opens_in_the_language_asked_for(visit: Visit, few: Path, tmp_path: Path) -> None:
    out = twin(few, tmp_path / "out")
    render_gallery(out, layout="folder", language="zh")
    page = visit(out)
    page.wait_for_selector("#view > .view")
    assert page.get_attribute("html", "lang") == "zh-Hans"
    assert page.inner_text('#nav [aria-selected="true"]') == "概要"


# Files that are missing


def test_a_missing_chunk_is_named_and_the_rest_works(
    visit: Visit, sixty: Path, tmp_path: Path
) -> None:
    out = twin(sixty, tmp_path / "out")
    render_gallery(out, layout="folder")
    (out / "data/images-0001.js").unlink()
    page = visit(out, "v=overview", missing=True)
    page.wait_for_selector(".tile .frame[data-drawn]")
    assert page.is_hidden("#missing"), "the overview does not need it"
    page.evaluate("location.hash = 'v=matrix&i=30'")
    page.wait_for_selector("#missing:not([hidden])")
    assert "data/images-0001.js" in page.inner_text("#missing")
    assert page.is_visible("#missing")
    assert "index.html" in page.inner_text("#missing")
    page.wait_for_selector("#view table.matrix .frame:has-text('its file is missing')")
    page.evaluate("location.hash = 'v=matrix&i=29&r=image&c=layer'")
    page.wait_for_selector("#view > .view-matrix table.matrix")
    for image in (10, 59):
        page.evaluate(f"location.hash = 'v=matrix&i={image}'")
        name = f"{image}.0.grad_cam.a"
        np.testing.assert_array_equal(drawn(page, name), reference(out, name))


def test_a_missing_chunk_of_the_overview_is_named_and_its_tiles_shown(
    visit: Visit, sixty: Path, tmp_path: Path
) -> None:
    out = twin(sixty, tmp_path / "out")
    render_gallery(out, layout="folder")
    (out / "data/overview-0000.js").unlink()
    page = visit(out, "v=overview", missing=True)
    page.wait_for_selector("#missing:not([hidden])")
    assert "data/overview-0000.js" in page.inner_text("#missing")
    page.wait_for_selector(".tile .frame[data-drawn] canvas.heat")


def test_a_chunk_missing_from_the_first_view_is_named(
    visit: Visit, apart: Path, tmp_path: Path
) -> None:
    out = copied(apart, tmp_path / "out")
    (out / "data/images-0000.js").unlink()
    page = visit(out, "v=matrix", missing=True)
    page.wait_for_selector("#view > .view-matrix")
    page.wait_for_selector("#missing:not([hidden])")
    assert "data/images-0000.js" in page.inner_text("#missing")
    page.evaluate("location.hash = 'v=methods'")
    page.wait_for_selector("#view > .view-methods")


def test_the_script_of_a_view_arrives_when_it_is_opened_and_is_named_where_it_is_missing(
    visit: Visit, apart: Path, tmp_path: Path
) -> None:
    script = "[...document.scripts].filter(one => one.src.endsWith('view-channels.js')).length"
    page = visit(apart, "v=methods")
    assert page.evaluate(script) == 0
    for _ in range(2):
        page.evaluate("location.hash = 'v=channels'")
        page.wait_for_selector("#view .channel canvas")
        page.evaluate("location.hash = 'v=methods'")
        page.wait_for_selector("#view > .view-methods")
    assert page.evaluate(script) == 1
    out = copied(apart, tmp_path / "out")
    (out / "data/view-channels.js").unlink()
    page = visit(out, "v=channels", missing=True)
    page.wait_for_selector("#missing:not([hidden])")
    assert "data/view-channels.js" in page.inner_text("#missing")
    page.wait_for_selector("#view > .view-channels:has-text('its file is missing')")


def test_a_chunk_missing_from_the_summary_is_named_and_its_images_keep_their_rows(
    visit: Visit, apart: Path, tmp_path: Path
) -> None:
    out = copied(apart, tmp_path / "out")
    (out / "data/images-0000.js").unlink()
    page = visit(out, missing=True)
    page.wait_for_selector("#view > .view-summary")
    page.wait_for_selector("#missing:not([hidden])")
    assert "data/images-0000.js" in page.inner_text("#missing")
    rows = page.locator("#view table.result tbody tr")
    assert rows.count() == 3
    for row, name, predicted in zip(
        rows.all(), ("both.jpg", "cat.jpg", "dog.jpg"), ("dog", "cat", "dog"), strict=True
    ):
        assert name in row.inner_text()
        assert row.locator(".predicted").inner_text().startswith(predicted)
        frames = row.locator(".map .frame")
        frames.first.scroll_into_view_if_needed()
        frames.get_by_text("its file is missing").first.wait_for()
        assert set(frames.all_inner_texts()) == {"its file is missing"}


def test_a_chunk_missing_from_the_summary_of_many_leaves_the_other_images_drawn(
    visit: Visit, sixty: Path, tmp_path: Path
) -> None:
    out = twin(sixty, tmp_path / "out")
    render_gallery(out, layout="folder")
    (out / "data/images-0000.js").unlink()
    page = visit(out, missing=True)
    page.wait_for_selector("#missing:not([hidden])")
    assert "data/images-0000.js" in page.inner_text("#missing")
    page.wait_for_selector("#view > .view-summary .frame[data-drawn] canvas.heat")


@pytest.mark.parametrize("gone", ["data/report.js", "data/camreport.js", "data"])
def test_a_page_without_its_data_shows_the_contact_sheet_and_says_so(
    visit: Visit, apart: Path, tmp_path: Path, gone: str
) -> None:
    out = copied(apart, tmp_path / "out")
    path = out / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = visit(out, missing=True)
    assert page.is_visible("#fallback h1")
    assert page.is_visible("#fallback .numbers >> nth=0")
    notices = page.locator("#fallback .notice:visible, #missing:visible").all_inner_texts()
    assert any("data/" in notice for notice in notices)


# Where scripts may not run


def test_contact_sheet_shows_under_a_policy_that_forbids_scripts(
    chromium: Browser, apart: Path
) -> None:
    with served(apart, {"Content-Security-Policy": JENKINS}) as address:
        context = chromium.new_context(viewport={"width": 1400, "height": 1000})
        page = context.new_page()
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.url))
        page.goto(address)
        pictures = page.locator("#fallback .contact-sheet img")
        assert pictures.count() == 3 * (1 + 2 * 3)
        for place in range(pictures.count()):
            pictures.nth(place).scroll_into_view_if_needed()
            assert pictures.nth(place).evaluate("img => img.decode().then(() => img.naturalWidth)")
        style = "e => [getComputedStyle(e).display, getComputedStyle(e).listStyleType]"
        display, bullets = page.locator(".contact-sheet").first.evaluate(style)
        assert display in ("grid", "flex")
        assert bullets == "none"
        assert page.locator("#fallback h1").evaluate("e => getComputedStyle(e).fontFamily") not in (
            "",
            "serif",
        )
        assert page.is_visible("#fallback .numbers >> nth=0")
        assert page.is_visible("#fallback .provenance")
        assert page.is_hidden("#app")
        assert page.is_hidden("dialog#cell")
        origin = address.rpartition("/")[0] + "/"
        assert [url for url in requested if not url.startswith(origin)] == []
        context.close()


def test_page_works_from_a_server_too(visit: Visit, apart: Path) -> None:
    with served(apart, {}) as address:
        page = visit(address, "v=matrix&i=0&b=class")
        name = "0.0.grad_cam.features.12"
        np.testing.assert_array_equal(drawn(page, name), reference(apart, name))
        page.context.close()


# Exported


def test_archive_of_a_folder_report_works_when_unpacked(
    visit: Visit, apart: Path, tmp_path: Path
) -> None:
    out = copied(apart, tmp_path / "Mein Bericht")
    with zipfile.ZipFile(export_archive(out)) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "unpacked")
    report = {name for name in contents(apart) if name == "index.html" or name.startswith("data/")}
    missing = {f"Mein Bericht/{name}" for name in report} - set(names)
    assert {name for name in missing if not name.endswith("/.camreport")} == set()
    assert [name for name in names if "/results/" in name or name.endswith(".part")] == []
    page = visit(tmp_path / "unpacked/Mein Bericht", "v=matrix&i=2&b=class")
    drawn(page, "2.0.grad_cam.features.12")
    assert page.is_hidden("#missing")


def test_document_of_a_folder_report_has_every_image(apart: Path, tmp_path: Path) -> None:
    out = copied(apart, tmp_path / "out")
    with printable(out) as page:
        document = export_document(out, page)
    pages = pdf_pages(document)
    text = " ".join(pages)
    for name in ("both.jpg", "cat.jpg", "dog.jpg"):
        assert any(name in page and "Figure" in page for page in pages), name
    assert "About this run" in text
    pictures = sum(len(page.images) for page in PdfReader(document).pages)
    assert pictures >= 3 * 2 * (3 * 5 + 1)
    assert document.stat().st_size <= 5 * MB
