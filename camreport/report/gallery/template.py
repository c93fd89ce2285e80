"""The page's template, script and style: files under ``templates/gallery``, no bundler."""

import base64
import hashlib
import json
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from camreport.report.gallery.language import templates_folder

MODULES = (
    *("data", "dom", "heat", "state", "words", "look", "frames", "grid", "overview", "matrix"),
    *(
        "measure",
        "dialog",
        "pair",
        "compare",
        "channels",
        "tables",
        "reading",
        "paper",
        "keys",
        "shell",
        "main",
    ),
)
"""The modules in the order in which they are joined; ``main`` starts the page."""

_IMPORT = re.compile(r"^import [^;]*;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export ", re.MULTILINE)
_COMMENT = re.compile(r"/\*.*?\*/ ?|^ *// [^\n]*\n", re.MULTILINE | re.DOTALL)
_INDENT = re.compile(r"^[ \n]+", re.MULTILINE)


def page_template() -> Template:
    """Return the page's template; everything that fills it is escaped."""
    environment = Environment(
        loader=FileSystemLoader(templates_folder()),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("gallery/gallery.html")


def script() -> str:
    """Return all modules as one classic script, which also runs from ``file://``.

    They share one scope, so that imports can go: a name is used once in all of them.
    """
    joined = "".join(_EXPORT.sub("", _IMPORT.sub("", module)) for module in map(_read, MODULES))
    return '"use strict";\n(() => {\n' + _bare(joined) + "})();\n"


def style() -> str:
    """Return the page's style sheet."""
    return _bare((_folder() / "gallery.css").read_text(encoding="utf-8"))


def digest(text: str) -> str:
    """Return how a content security policy names a script or a style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def compact_json(content: object) -> str:
    """Return JSON without spaces."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def embedded(content: object) -> Markup:
    """Return JSON for a page's script element; no text in it can end that early."""
    return Markup(compact_json(content).replace("<", "\\u003c"))


def _bare(code: str) -> str:
    """Return a script or a style without comments and indentation."""
    return _INDENT.sub("", _COMMENT.sub("", code))


def _read(module: str) -> str:
    return (_folder() / f"{module}.js").read_text(encoding="utf-8")


def _folder() -> Path:
    return templates_folder() / "gallery"
