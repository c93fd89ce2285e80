"""The tools that judge the report in a browser find what they are there to find."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import browser
from PIL import Image

POLICY = "default-src 'none'; img-src file:; script-src 'unsafe-inline'; style-src 'unsafe-inline'"


@pytest.fixture
def tab(request: pytest.FixtureRequest) -> Iterator[browser.Page]:
    """A tab of a running Chromium."""
    if browser.chromium() is None:
        browser.missing("Chromium")
    opened = request.getfixturevalue("chromium").new_page()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def fox() -> Iterator[browser.Firefox]:
    """A running Firefox."""
    with browser.firefox() as running:
        yield running


def page(folder: Path, body: str) -> str:
    """Write a page under the report's policy and return its address."""
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    html = f'<!doctype html><html lang="en"><head><meta charset="utf-8">{policy}<title>Page</title>'
    file = folder / "index.html"
    file.write_text(f"{html}</head><body>{body}</body></html>", encoding="utf-8")
    return file.as_uri()


@pytest.mark.parametrize(
    ("image", "rules"),
    [("<img>", ["image-alt"]), ('<img alt="A cat">', [])],
    ids=["wrong", "right"],
)
def test_axe_finds_an_image_without_alt(
    tab: browser.Page, tmp_path: Path, image: str, rules: list[str]
) -> None:
    tab.goto(page(tmp_path, f"<main><h1>Cats</h1>{image}</main>"))
    assert [line.split(":")[0] for line in browser.axe(tab)] == rules


def test_axe_names_three_targets_and_counts_the_rest(tab: browser.Page, tmp_path: Path) -> None:
    images = "".join(f'<img id="i{number}">' for number in range(5))
    tab.goto(page(tmp_path, f"<main><h1>Cats</h1>{images}</main>"))
    assert browser.axe(tab) == [
        "image-alt: Images must have alternative text: #i0, #i1, #i2 and 2 more"
    ]


def test_a_missing_program_skips_here_and_fails_in_continuous_integration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(browser, "AXE", Path("nowhere"))
    for environment, outcome in (("false", pytest.skip), ("true", pytest.fail)):
        monkeypatch.setenv("CI", environment)
        with pytest.raises(outcome.Exception, match="Firefox is not installed"):
            browser.firefox().__enter__()
        with pytest.raises(outcome.Exception, match="pdftotext is not installed"):
            browser.pdf_pages(b"")
        with pytest.raises(outcome.Exception, match=r"axe-core .* is not installed"):
            browser.axe(None)


def test_pdf_pages_splits_what_both_browsers_print(
    tab: browser.Page, fox: browser.Firefox, tmp_path: Path
) -> None:
    address = page(tmp_path, '<p>Katze 猫</p><p style="break-before: page">Hündin</p>')
    tab.goto(address)
    fox.goto(address)
    (tmp_path / "page.pdf").write_bytes(tab.pdf())
    for pdf in (tmp_path / "page.pdf", fox.print_pdf()):
        assert [text.split() for text in browser.pdf_pages(pdf)] == [["Katze", "猫"], ["Hündin"]]


def test_firefox_runs_scripts_under_a_strict_policy(fox: browser.Firefox, tmp_path: Path) -> None:
    fox.goto(page(tmp_path, '<p id="p">Hello</p>'))
    assert fox.evaluate("document.getElementById('p').textContent") == "Hello"
    assert fox.evaluate("(a, b) => [a + b.x, null]", 1, {"x": 2}) == [3, None]
    assert fox.evaluate("new Promise(done => setTimeout(() => done('later'), 10))") == "later"
    assert fox.evaluate("undefined") is None
    with pytest.raises(RuntimeError, match="is not defined"):
        fox.evaluate("nothing()")
    with pytest.raises(RuntimeError, match=r"browsingContext\.navigate"):
        fox.goto((tmp_path / "missing.html").as_uri())


def test_firefox_hears_every_complaint_from_the_first_script_on(
    fox: browser.Firefox, tmp_path: Path
) -> None:
    before = len(fox.said())
    scripts = (
        "console.error('planted');",
        "nothing();",
        "Promise.reject(new Error('lost'));",
        "setTimeout(() => { throw new Error('late'); });",
        "document.body.append(Object.assign(new Image(), {src: 'http://elsewhere.invalid/'}));",
    )
    fox.goto(page(tmp_path, "".join(f"<script>{script}</script>" for script in scripts)))
    said = fox.said()[before:]
    for expected in ("planted", "nothing is not defined", "lost", "late", "elsewhere.invalid"):
        assert any(line.startswith("error: ") and expected in line for line in said), said
    silent = len(fox.said())
    fox.goto(page(tmp_path, "<p>Nothing to say</p>"))
    assert fox.said()[silent:] == []


def test_firefox_keeps_files_apart_from_each_other(fox: browser.Firefox, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "black.png")
    address = page(tmp_path, '<img alt="" src="black.png">')
    read = """() => {
        const context = document.createElement("canvas").getContext("2d");
        context.drawImage(document.images[0], 0, 0);
        return context.getImageData(0, 0, 1, 1).data[3];
    }"""
    fox.goto(address)
    with pytest.raises(RuntimeError, match="SecurityError"):
        fox.evaluate(read)
    with browser.firefox(**{"security.fileuri.strict_origin_policy": False}) as lax:
        lax.goto(address)
        assert lax.evaluate(read) == 255


def test_firefox_takes_a_size_and_shows_it(fox: browser.Firefox, tmp_path: Path) -> None:
    fox.goto(page(tmp_path, "<p>Hello</p>"))
    fox.resize(400, 300)
    assert fox.evaluate("[innerWidth, innerHeight, devicePixelRatio]") == [400, 300, 1]
    (tmp_path / "shot.png").write_bytes(fox.screenshot())
    with Image.open(tmp_path / "shot.png") as shot:
        assert shot.size == (400, 300)


def test_firefox_names_what_the_page_asks_for_and_reaches_nothing(
    fox: browser.Firefox, tmp_path: Path
) -> None:
    (tmp_path / "open.html").write_text("<!doctype html><title>Page</title>", encoding="utf-8")
    fox.goto((tmp_path / "open.html").as_uri())
    fox.requested.clear()
    assert (
        fox.evaluate("fetch('http://elsewhere.invalid/').catch(error => error.name)") == "TypeError"
    )
    assert fox.requested == ["http://elsewhere.invalid/"]


def test_firefox_ends_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser.tempfile, "tempdir", str(tmp_path))
    running = browser.firefox()
    process = running.__enter__().process
    assert any(tmp_path.iterdir())
    assert running.__exit__(AssertionError, AssertionError("planted"), None) is not True
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_no_test_measures_seconds_or_sleeps_for_a_page() -> None:
    """A busy machine must not turn a test red: seconds are measured in ``benchmarks/``."""
    words = ("performance." + "now", "perf_" + "counter", "wait_for_" + "timeout")
    tests = {path.name: path.read_text("utf-8") for path in Path(__file__).parent.glob("*.py")}
    assert {(name, word) for name, text in tests.items() for word in words if word in text} == set()
