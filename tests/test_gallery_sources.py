"""The page's own code: modules without a circle, and the bundle that reports are made with."""

import re

import pytest

from camreport.report.gallery.language import templates_folder
from camreport.report.gallery.template import apart, script, style

PAGE = templates_folder() / "gallery"
SOURCE = PAGE / "src"
APART = sorted(path.stem for path in (SOURCE / "apart").glob("*.ts"))
IMPORT = re.compile(r'^(?:import|export) [^;]*?from "(\.[^"]*)";$', re.MULTILINE)


def imports() -> dict[str, set[str]]:
    """Return which modules each module of the page imports."""
    return {
        str(path.relative_to(SOURCE)): {
            str((path.parent / f"{name}.ts").resolve().relative_to(SOURCE))
            for name in IMPORT.findall(path.read_text(encoding="utf-8"))
        }
        for path in SOURCE.rglob("*.ts")
    }


def reached_from(module: str, graph: dict[str, set[str]]) -> set[str]:
    """Return the modules that a module imports, itself or through others."""
    found: set[str] = set()
    waiting = [*graph[module]]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += graph[name]
    return found


def test_no_module_of_the_page_imports_itself_through_others() -> None:
    graph = imports()
    assert len(graph) > 15
    assert {name for name in graph if name in reached_from(name, graph)} == set()


def test_every_module_is_part_of_a_bundle_and_the_page_of_none_that_stands_apart() -> None:
    graph = imports()
    entries = {"page.ts", *(f"apart/{name}.ts" for name in APART)}
    own = reached_from("page.ts", graph)
    assert own.union(*(reached_from(name, graph) for name in entries)) | entries == graph.keys()
    for name in APART:
        assert reached_from(f"apart/{name}.ts", graph) - own, "its script would be empty"


def test_every_style_sheet_lies_in_a_layer_named_by_its_folder() -> None:
    sheet = (SOURCE / "page.css").read_text(encoding="utf-8")
    assert sheet.startswith("@layer base, parts, views, print;")
    layers = dict(re.findall(r'@import url\("\./styles/(.*?)"\) layer\((\w+)\);', sheet))
    folders = {
        str(path.relative_to(SOURCE / "styles")): path.parent.name
        for path in (SOURCE / "styles").rglob("*.css")
    }
    assert layers == folders | {"print.css": "print"}


def test_bundles_are_classic_scripts_and_one_style_without_source_maps() -> None:
    assert script().startswith('"use strict";(()=>{')
    assert not re.search(r"(^|[;}\n])(import|export)\b|\bimport\(", script()), "it is a module"
    for name in APART:
        assert apart(name).startswith(f'camreport("view-{name}",$=>{{"use strict";')
        assert not re.search(r"(^|[;}\n])(import|export)\b|\bimport\(", apart(name)), name
    for text in (script(), style(), *map(apart, APART)):
        assert "sourceMappingURL" not in text
        assert "</" not in re.sub(r"<\\/", "", text), "it could end the element that holds it"
    assert "@import" not in style()


@pytest.mark.parametrize(
    "forbidden",
    [
        r"\.(inner|outer)HTML\b",
        r"\binsertAdjacentHTML\b",
        r"\bdocument\.write",
        r"\beval\s*\(",
        r"\bnew Function\b",
        r"\bcreateContextualFragment\b|\bDOMParser\b|\bsrcdoc\b",
        r"\b(fetch|XMLHttpRequest|WebSocket|sendBeacon|EventSource)\b\s*\(",
    ],
)
def test_page_parses_no_text_as_markup_or_code_and_asks_for_nothing(forbidden: str) -> None:
    built = (PAGE / "page.js", *(PAGE / f"apart/{name}.js" for name in APART))
    for path in (*SOURCE.rglob("*.ts"), *built, PAGE / "gallery.html"):
        code = re.sub(r"^\s*//.*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert not re.search(forbidden, code), path.name
