"""The page's script and style: modules under ``templates/gallery``, joined without a bundler."""

import base64
import hashlib
import re
from pathlib import Path

from camreport.gallery.language import templates_folder

MODULES = (
    *("data", "dom", "heat", "state", "words", "frames", "grid", "overview", "matrix"),
    *("dialog", "compare", "channels", "tables", "reading", "paper", "main"),
)
"""The modules in the order in which they are joined; ``main`` starts the page."""

_IMPORT = re.compile(r"^import [^;]*;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export ", re.MULTILINE)


def script() -> str:
    """Return all modules as one classic script, which also runs from ``file://``.

    They share one scope, so that imports can go: a name is used once in all of them.
    """
    parts = [_EXPORT.sub("", _IMPORT.sub("", module)) for module in map(_read, MODULES)]
    return '"use strict";\n(() => {\n' + "\n".join(parts) + "})();\n"


def style() -> str:
    """Return the page's style sheet."""
    return (_folder() / "gallery.css").read_text(encoding="utf-8")


def digest(text: str) -> str:
    """Return how a content security policy names a script or a style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _read(module: str) -> str:
    return (_folder() / f"{module}.js").read_text(encoding="utf-8")


def _folder() -> Path:
    return templates_folder() / "gallery"
