"""The page's template, script and style: files under ``templates/gallery``."""

import base64
import hashlib
import json
from functools import cache

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from camreport.report.gallery.language import templates_folder


@cache  # compiled once, however many reports a process writes
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
    """Return the page's script, built by ``make web`` from the modules in ``src``."""
    return _built("page.js")


def apart(name: str) -> str:
    """Return the script of a view that only some reports carry, built by ``make web`` as well."""
    return _built(f"apart/{name}.js")


def style() -> str:
    """Return the page's style sheet, built by ``make web`` as well."""
    return _built("page.css")


def digest(text: str) -> str:
    """Return how a content security policy names a script or a style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def compact_json(content: object) -> str:
    """Return JSON without spaces."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def embedded(content: object) -> Markup:
    """Return JSON for a page's script element; no text in it can end that early."""
    return Markup(compact_json(content).replace("<", "\\u003c"))


def _built(name: str) -> str:
    return (templates_folder() / "gallery" / name).read_text(encoding="utf-8")
