"""Render the page with Jinja2 and write it in one step."""

import base64
import hashlib
import os
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from camreport.gallery.page import build_page
from camreport.results import REPORT, load_results

SIZE_WARNING = 15 * 1024 * 1024
"""Reports larger than this, in bytes, open slowly and are refused by many portals."""


def render_gallery(out: str | Path) -> Path:
    """Build ``OUT/index.html`` from ``OUT/results``, without torch and without recomputing.

    Args:
        out: the folder of the report.

    Returns:
        The path of the report.

    Raises:
        ResultsError: the results are missing, incomplete or damaged.
    """
    results = load_results(out)
    templates = templates_folder()
    environment = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = build_page(results)
    style = environment.get_template("gallery.css").render(page=page)
    script = (templates / "gallery.js").read_text(encoding="utf-8")
    html = environment.get_template("gallery.html").render(
        page=page,
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
    )
    report = results.path.parent / REPORT
    temporary = report.with_name(report.name + ".part")
    temporary.write_text(html, encoding="utf-8", newline="\n")
    os.replace(temporary, report)
    return report


def templates_folder() -> Path:
    """Return the folder of the templates: packaged, or beside the package in a checkout."""
    package = Path(__file__).parents[1]
    packaged = package / "templates"
    return packaged if packaged.is_dir() else package.parent / "templates"


def _policy(style: str, script: str) -> str:
    """Return a content security policy that allows this style and script and nothing else."""
    return (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src {_digest(style)}; script-src {_digest(script)}"
    )


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
