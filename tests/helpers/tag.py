"""The pictures with a tag, and the networks, of the tutorial in ``docs/insight.md``."""

import importlib.util
from types import ModuleType

from helpers.checkout import ROOT


def tutorial() -> ModuleType:
    """Return ``docs/tag.py`` as a module."""
    spec = importlib.util.spec_from_file_location("tag", ROOT / "docs/tag.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
