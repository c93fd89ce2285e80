"""The page's words: complete in every language, used, and translated down to the last sentence."""

import ast
import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from helpers import browser
from helpers.browser import Open, until
from helpers.checkout import INPUTS, ROOT
from helpers.chinese import LATIN, TECHNICAL, english_in
from helpers.command import Command
from helpers.page_steps import go, unfold
from helpers.small import small_model
from playwright.sync_api import Page
from torch import Tensor, nn

import camreport
from camreport.errors import InputError
from camreport.images.preprocessing import Preprocessing
from camreport.messages import Message, message
from camreport.messages.message import LANGUAGES as WORDED
from camreport.methods import METHODS
from camreport.models.loaded import LoadedModel
from camreport.report.gallery import Layout, printable
from camreport.report.gallery.language import LANGUAGES, templates_folder, words_of
from camreport.results.reader import load_results

PAGE = templates_folder() / "gallery"
PLACEHOLDER = re.compile(r"\{(\w+)\}")
STRINGS = {code: words_of(code).strings for code in LANGUAGES}
CHINESE = words_of("zh")
MAY_BE_EMPTY = {"space"}

VIEWS = (
    *("summary", "overview", "matrix", "evidence", "compare", "channels", "tables", "methods"),
    *("atlas", "provenance"),
)

# The tables


def test_the_page_and_the_messages_have_the_same_languages() -> None:
    assert tuple(LANGUAGES) == WORDED


def test_languages_have_the_same_keys() -> None:
    for code, strings in STRINGS.items():
        assert strings.keys() == STRINGS["en"].keys(), code


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_text_has_the_placeholders_of_the_english_one(code: str) -> None:
    for key, text in STRINGS["en"].items():
        assert set(PLACEHOLDER.findall(STRINGS[code][key])) == set(PLACEHOLDER.findall(text)), key


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_text_is_empty(code: str) -> None:
    empty = {key for key, text in STRINGS[code].items() if not text.strip() and text != " "}
    assert empty <= MAY_BE_EMPTY


def test_no_chinese_text_is_the_english_one() -> None:
    for key, text in STRINGS["zh"].items():
        if text == STRINGS["en"][key]:
            assert set(LATIN.findall(PLACEHOLDER.sub("", text))) <= TECHNICAL, key


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_key_is_given_twice(code: str) -> None:
    path = templates_folder() / "languages" / f"{code}.json"

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        assert twice == []
        return dict(pairs)

    json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once)


# What Python writes


def texts_in(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Yield every text of a piece of code; what is filled in becomes a 7."""

    def sample(part: ast.expr) -> str:
        if isinstance(part, ast.Constant):
            return str(part.value)
        return (
            "'7'" if isinstance(part, ast.FormattedValue) and part.conversion == ord("r") else "7"
        )

    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node, "".join(map(sample, node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node, node.value


def png(pixels: np.ndarray, suffix: str = ".png") -> bytes:
    return bytes(cv2.imencode(suffix, pixels)[1])


def broken_files() -> dict[str, bytes]:
    """Return files that cannot be read, each for a reason of its own."""
    cat = (INPUTS / "cat.jpg").read_bytes()
    header = bytearray(png(np.zeros((2, 2, 3), np.uint8)))
    header[16:24] = (30_000).to_bytes(4, "big") * 2
    return {
        "empty.png": b"",
        "half.jpg": cat[: len(cat) // 2],
        "page.jpg": b"<!DOCTYPE html><html><body>404</body></html>",
        "paper.jpg": b"%PDF-1.7 " + bytes(64),
        "drawing.png": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
        "clip.jpg": bytes(4) + b"ftypisom" + bytes(64),
        "phone.jpg": bytes(4) + b"ftypheic" + bytes(64),
        "nothing.png": bytes(range(7, 107)),
        "large.png": bytes(header),
        "float.tif": png(np.ones((4, 4), np.float32), ".tiff"),
        "narrow.png": png(np.zeros((60_000, 1, 3), np.uint8)),
    }


@pytest.mark.parametrize("name", [*broken_files(), "odd.tif"])
def test_every_broken_file_is_refused_in_chinese(name: str) -> None:
    crop = Preprocessing(size=(40, 40), resize="short-side", short_side=48)
    content = {**broken_files(), "odd.tif": b"II*\0" + bytes(60)}[name]
    with pytest.raises(InputError) as refused:
        camreport.images.loading.load_image(content, crop)
    (reason,) = refused.value.args
    assert isinstance(reason, Message)
    assert set(LATIN.findall(reason.worded("zh"))) <= TECHNICAL


# The keys in the code


def modules() -> dict[str, str]:
    """Return the page's modules by their paths below the folder of their sources."""
    folder = PAGE / "src"
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*.ts"))
    }


def end_of(code: str, at: int) -> int:
    """Return where the argument that begins at a place ends: at its comma or bracket."""
    depth, quote = 0, ""
    while True:
        sign = code[at]
        if quote:
            if sign == "\\":
                at += 1
            elif sign == quote:
                quote = ""
        elif sign in "\"'`":
            quote = sign
        elif sign in "([{":
            depth += 1
        elif sign in ")]}":
            if depth == 0:
                return at
            depth -= 1
        elif sign == "," and depth == 0:
            return at
        at += 1


def calls() -> Iterator[tuple[str, str]]:
    """Yield the first and the second argument of each call of ``t`` in the page's script."""
    for code in modules().values():
        for call in re.finditer(r"(?<![\w.])t\(", code):
            middle = end_of(code, call.end())
            second = ""
            if code[middle] == ",":
                second = code[middle + 1 : end_of(code, middle + 1)].strip()
            yield code[call.end() : middle], second


def literals(code: str) -> set[str]:
    """Return the texts of an expression that can be its value: not those it compares with."""
    found = re.findall(r'(=== )?"([^"\n]*)"', re.sub(r"`[^`]*`", "", code))
    return {text for compared, text in found if not compared}


def patterns(code: str) -> set[str]:
    """Return patterns for the keys that an expression's templates can become."""
    found = set()
    for template in re.findall(r"`([^`]*)`", code):
        parts = re.split(r"\$\{[^}]*\}", template)
        found.add(r"[\w]+".join(map(re.escape, parts)))
    return found


SPEAKING = [*sorted((ROOT / "camreport/report").rglob("*.py")), ROOT / "camreport/cli/commands.py"]
"""The modules in Python that use the page's words."""


def python_calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield the calls in Python that take words: the function's name, and the call."""
    for path in SPEAKING:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name in ("words", "words.number_of"):
                    yield name, node


def values_of(expression: ast.expr) -> list[ast.expr]:
    """Return what an expression can be, whatever its conditions are."""
    if isinstance(expression, ast.IfExp):
        return [*values_of(expression.body), *values_of(expression.orelse)]
    return [expression]


def python_keys() -> tuple[set[str], set[str]]:
    """Return the keys that Python uses and patterns for those that it puts together."""
    plain, made = set(), set()
    for name, call in python_calls():
        ends = (".one", ".other") if name == "words.number_of" else ("",)
        for part in values_of(call.args[0]):
            if isinstance(part, ast.Constant):
                plain |= {f"{part.value}{end}" for end in ends}
            elif isinstance(part, ast.JoinedStr):
                pattern = "".join(
                    re.escape(p.value) if isinstance(p, ast.Constant) else r"\w+"  # type: ignore[arg-type]
                    for p in part.values
                )
                made |= {pattern + re.escape(end) for end in ends}
    template = (PAGE / "gallery.html").read_text(encoding="utf-8")
    for arguments in re.findall(r"words\(([^)]*)\)", template):
        plain |= set(re.findall(r'(?<!=)"([^"]+)"', arguments))
    return plain, made


def used_keys() -> tuple[set[str], set[str]]:
    """Return the keys that the code names and patterns for those that it puts together."""
    plain, made = python_keys()
    for key, _ in calls():
        if key.startswith("`${"):
            continue  # the list of options: its calls name the prefix
        plain |= literals(key)
        made |= patterns(key)
    for code in modules().values():
        if re.search(r"(?<![\w.])t\(\w+\)", code):  # a key that was chosen before
            plain |= literals(code) & STRINGS["en"].keys()
    return plain, made


def test_no_key_is_missing() -> None:
    plain, made = used_keys()
    assert len(plain) > 100
    assert plain - STRINGS["en"].keys() == set()
    unmet = [p for p in made if not any(re.fullmatch(p, key) for key in STRINGS["en"])]
    assert unmet == []


def test_no_key_is_unused() -> None:
    plain, made = used_keys()
    dotted = {text for code in modules().values() for text in literals(code) if "." in text}
    for path in SPEAKING:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        dotted |= {text for _, text in texts_in(tree) if "." in text}
    unused = {
        key
        for key in STRINGS["en"].keys() - plain - dotted
        if not any(re.fullmatch(pattern, key) for pattern in made)
    }
    assert unused == set()


def test_every_choice_of_the_state_has_a_name() -> None:
    code = modules()["state/state.ts"]
    axes = re.findall(r'"(\w+)"', re.search(r"axes = \[(.*?)\]", code)[1])  # type: ignore[index]
    choices = {
        name: re.findall(r'"(\w+)"', values)
        for name, values in re.findall(r"^    (\w+): \[(.*)\],$", code, re.MULTILINE)
    }
    wanted = {f"axis.{axis}{end}" for axis in axes for end in ("", ".many")}
    views = re.findall(r'"(\w+)"', re.search(r"VIEWS = \[(.*?)\]", code, re.DOTALL)[1])  # type: ignore[index]
    wanted |= {f"view.{view}" for view in views}
    wanted |= {f"sort.{sort}" for sort in ("order", "name", "class", "up")}
    assert len(views) > 6
    for field, forms in {
        "scale": ["scale.{}", "scale.{}.words", "legend.{}"],
        "show": ["show.{}"],
        "theme": ["theme.{}"],
        "group": ["group.by.{}"],
        "density": ["density.{}"],
        "tables": ["tables.{}"],
        "channelSort": ["channels.by.{}"],
    }.items():
        assert len(choices[field]) > 2
        wanted |= {form.format(value) for form in forms for value in choices[field]}
    assert wanted - STRINGS["en"].keys() == set()


def test_every_text_gets_the_values_it_asks_for() -> None:
    for key, values in calls():
        if values and not values.startswith("{"):
            continue  # values that were gathered before
        names = literals(key) if not key.startswith("`") else set()
        given = set()
        if values.startswith("{"):
            inner, at = values[1:-1], 0
            while at < len(inner):
                end = end_of(inner + ")", at)
                given.add(inner[at:end].split(":")[0].strip())
                at = end + 1
        for name in names & STRINGS["en"].keys():
            assert set(PLACEHOLDER.findall(STRINGS["en"][name])) <= given, (name, values)
    for function, call in python_calls():
        if not isinstance(call.args[0], ast.Constant) or any(k.arg is None for k in call.keywords):
            continue
        ends = (".one", ".other") if function == "words.number_of" else ("",)
        for end in ends:
            wanted = set(PLACEHOLDER.findall(STRINGS["en"][f"{call.args[0].value}{end}"]))
            given = {str(keyword.arg) for keyword in call.keywords}
            assert wanted <= given | ({"count"} if end else set()), call.args[0].value


# The page in Chinese


class Reluctant(nn.Module):
    """A seeded net for which several methods are not defined."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 6, 3), nn.GELU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 8, 3, stride=2), nn.ReLU()),
        )
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(N, 3)``."""
        return self.head(self.norm(self.features(images).mean((2, 3))).tanh())


@pytest.fixture(scope="module")
def reluctant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report in Chinese with broken inputs, a warning, notes and methods left out."""
    folder = tmp_path_factory.mktemp("照片")  # the page names it
    for name in ("cat.jpg", "dog.jpg"):  # two, for with one there is no Atlas
        (folder / name).write_bytes((INPUTS / name).read_bytes())
    for name, content in broken_files().items():
        (folder / name).write_bytes(content)
    crop = Preprocessing(size=(120, 120), resize="short-side", short_side=136)
    model = LoadedModel(
        Reluctant().eval(),
        crop,
        ("kitten", "puppy", "pony"),
        "reluctant",
        message("models.from_python"),
        "0" * 64,
        notes=(message("models.preprocessing_unknown"),),
        warning=camreport.models.loaded.RANDOM,
    )
    out = tmp_path_factory.mktemp("out") / "g"
    camreport.run(
        folder,
        out,
        model=model,
        layers=["features.0:pre", "features.3"],
        channels=["features.3"],
        methods="all",
        labels={"cat.jpg": "pony"},
        smooth="noise",
        quantity="contrast",
        language="zh",
    )
    return out


def shown_text(page: Page) -> str:
    """Return all text of the page as it stands, with what only assistive technology is told."""
    said: list[str] = page.evaluate(
        """() => [...document.querySelectorAll("#app, #cell[open], #help[open]")].flatMap(root => {
            for (const closed of root.querySelectorAll("details")) closed.open = true;
            const attributes = ["aria-label", "aria-valuetext", "title", "alt"];
            return [root.innerText, ...[...root.querySelectorAll("*")].flatMap(element =>
                attributes.map(name => element.getAttribute(name) ?? ""))];
        })"""
    )
    return "\n".join(said)


def names_of(out: Path) -> list[str]:
    """Return what is not translated: names of files, classes, layers, methods, formulas."""
    manifest = load_results(out).manifest
    layers = [*manifest.layers, *manifest.channels]
    found = [
        *(image.file for image in manifest.images),
        *manifest.class_names,
        *(name for layer in layers for name in (layer.address, layer.type)),
        *(text for method in METHODS.values() for text in (method.formula, method.source)),
        *(method.name for method in METHODS.values()),
        *(manifest.command, manifest.model.name, manifest.device),
        *(manifest.structure.printed, "print(model)"),
        *("--evidence", "--regions FILE"),
        *(name for module in manifest.structure.modules for name in (module.address, module.type)),
        *(f"{name} {version}" for name, version in manifest.versions.items()),
    ]
    hashes = [image.sha256 for image in manifest.images if image.sha256]
    said = {" ".join(name.split()) for name in [*found, *hashes, manifest.model.sha256]}
    return sorted(said, key=len, reverse=True)


needs_chromium = pytest.mark.skipif(
    not browser.required() and browser.chromium() is None, reason="no Chromium here"
)


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("view", VIEWS)
def test_no_english_is_left_on_the_chinese_page(
    open_report: Open, reluctant: Path, view: str
) -> None:
    page = open_report(reluctant)
    pins = "0.0.grad_cam.features.3~0.1.layer_cam.features.3"
    go(page, f"v={view}&p={pins}", view)
    text = shown_text(page)
    assert len(re.findall("[一-鿿]", text)) > 200
    assert english_in(text, names_of(reluctant)) == set()


@pytest.mark.slow
@needs_chromium
def test_no_english_is_left_in_the_dialogs_and_on_paper(open_report: Open, reluctant: Path) -> None:
    page = open_report(reluctant)
    go(page, "v=matrix&open=0.1.grad_cam.features.3&av=1&ct=1&rc=1&t=20&sc=report", "matrix")
    page.wait_for_selector("#cell[open] #facts")
    text = shown_text(page)
    assert "pony" in page.inner_text("#cell") or "puppy" in page.inner_text("#cell")
    assert english_in(text, names_of(reluctant)) == set()
    page.keyboard.press("Escape")
    page.wait_for_selector("#cell[open]", state="detached")
    unfold(page, "menu")
    page.click("[data-focus=help]")
    keys = page.inner_text("#help")
    assert english_in(keys, names_of(reluctant)) <= {"p", "n", "b"}
    page.keyboard.press("Escape")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    paper = page.text_content("#paper") or ""
    assert len(re.findall("[一-鿿]", paper)) > 200
    assert english_in(paper, names_of(reluctant)) == set()


@pytest.mark.slow
@needs_chromium
def test_no_english_is_left_where_scripts_do_not_run(open_report: Open, reluctant: Path) -> None:
    page = open_report(reluctant, java_script_enabled=False)
    assert page.get_attribute("html", "lang") == "zh-Hans"
    text = page.inner_text("#fallback")
    assert len(re.findall("[一-鿿]", text)) > 200
    assert english_in(text, names_of(reluctant)) == set()


@pytest.mark.slow
@needs_chromium
def test_english_is_found_where_it_is_left(open_report: Open, reluctant: Path) -> None:
    page = open_report(reluctant)
    go(page, "v=provenance&lang=en", "provenance")
    assert {"Weights", "empty", "Preprocessing"} <= english_in(
        shown_text(page), names_of(reluctant)
    )


@pytest.mark.slow
@needs_chromium
def test_failures_and_what_was_left_out_are_told_in_chinese(
    open_report: Open, reluctant: Path
) -> None:
    manifest = load_results(reluctant).manifest
    failed = [image for image in manifest.images if not image.readable]
    assert len(failed) == len(broken_files())
    assert len({skip.reason for skip in manifest.skipped}) >= 5
    page = open_report(reluctant)
    go(page, "v=provenance", "provenance")
    text = page.inner_text("#app")
    for image in failed:
        assert image.reason is not None
        assert f"{image.file}：{CHINESE.message(image.reason)}" in text
    assert "警告" in text
    for skip in manifest.skipped:
        assert english_in(CHINESE.message(skip.reason), names_of(reluctant)) == set()


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("view", VIEWS)
def test_switching_the_language_changes_every_view_and_the_link(
    open_report: Open, reluctant: Path, view: str
) -> None:
    page = open_report(reluctant)
    go(page, f"v={view}&lang=en", view)
    assert page.get_attribute("html", "lang") == "en"
    parts = (f".view-{view}", "#nav")
    before = [page.inner_text(part) for part in parts]
    unfold(page, "menu")
    page.select_option("[data-focus=language]", "zh")
    page.wait_for_selector("html[lang=zh-Hans]")
    page.wait_for_selector(f".view-{view} :text-matches('[一-鿿]')")
    after = [page.inner_text(part) for part in parts]
    assert all(one != other for one, other in zip(before, after, strict=True))
    page.select_option("[data-focus=language]", "en")
    page.wait_for_selector("html[lang=en]")
    assert "lang=en" in page.evaluate("location.hash")  # the report itself opens in Chinese
    until(page, f"document.querySelector('.view-{view}').innerText", before[0])


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("code", LANGUAGES)
def test_no_value_is_missing_in_what_the_page_says(
    open_report: Open, reluctant: Path, code: str
) -> None:
    page = open_report(reluctant)
    for view in VIEWS:
        go(page, f"v={view}&lang={code}&sc=image&t=10", view)
        assert not re.search(r"\bNaN\b|\bnull\b|\[object|\{\w+\}", shown_text(page)), view


@pytest.mark.slow
@needs_chromium
def test_link_opens_in_its_language(open_report: Open, demo: Path) -> None:
    page = open_report(demo)
    assert page.get_attribute("html", "lang") == "en"
    page.goto(f"{(demo / 'index.html').as_uri()}#lang=zh")
    page.reload()
    page.wait_for_selector("html[lang=zh-Hans]")
    assert page.title() == "概要 · catdog-alexnet · inputs"
    page.context.pages[0].goto("about:blank")


def test_command_line_takes_the_language(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "g"
    camreport.run(INPUTS / "cat.jpg", out, model=small_model(("a", "b")))
    assert '<html lang="en">' in (out / "index.html").read_text(encoding="utf-8")
    assert command("render", str(out), "--lang", "zh").code == 0
    page = (out / "index.html").read_text(encoding="utf-8")
    assert '<html lang="zh-Hans">' in page
    assert re.search(r"<title>small · (inputs/)?cat\.jpg</title>", page)
    assert command("render", str(out), "--lang", "fr").code == 2


@pytest.mark.parametrize("layout", ["single", "folder"])
def test_report_keeps_its_language_when_it_is_made_again(
    command: Command, tmp_path: Path, layout: Layout
) -> None:
    out = tmp_path / "g"
    model = small_model(("a", "b"))
    camreport.run(INPUTS / "cat.jpg", out, model=model, language="zh", layout=layout)
    with printable(out) as printed:
        assert '<html lang="zh-Hans">' in printed.read_text(encoding="utf-8")
    assert command("render", str(out)).code == 0
    assert '<html lang="zh-Hans">' in (out / "index.html").read_text(encoding="utf-8")
    assert command("render", str(out), "--lang", "en").code == 0
    (out / "index.html").write_bytes(b"\xff\xfe")
    assert command("render", str(out)).code == 0
    assert '<html lang="en">' in (out / "index.html").read_text(encoding="utf-8")


def test_language_that_the_page_does_not_speak_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="language: expected en or zh, got 'fr'"):
        camreport.run(INPUTS / "cat.jpg", tmp_path / "g", language="fr")
    assert not (tmp_path / "g").exists()


def test_chinese_letters_have_shapes_of_their_own(open_report: Open, demo: Path) -> None:
    fonts = shutil.which("fc-list") and subprocess.check_output(["fc-list", ":lang=zh"])
    if not fonts:
        browser.missing("a font for Chinese")
    page = open_report(demo, link="#lang=zh")
    nav = page.locator("#nav a")
    pictures = [nav.nth(place).screenshot() for place in range(nav.count())]
    words = [nav.nth(place).inner_text() for place in range(nav.count())]
    assert len(set(map(len, words))) < len(words), "boxes of a missing font would look alike"
    assert len(set(pictures)) == len(pictures)
