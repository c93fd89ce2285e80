"""Scripts of the folder docs, loaded as modules."""

import importlib.util
from types import ModuleType

from helpers.checkout import ROOT


def methods_table() -> ModuleType:
    """Return the script that writes the READMEs' table of methods."""
    file = ROOT / "docs/methods_table.py"
    spec = importlib.util.spec_from_file_location("methods_table", file)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script
