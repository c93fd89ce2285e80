"""The documents say what the code does."""

import importlib.util

from conftest import ROOT

from camreport.methods import METHODS


def test_readme_lists_the_methods_of_the_registry():
    spec = importlib.util.spec_from_file_location("methods_table", ROOT / "docs/methods_table.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert script.updated(readme) == readme, "run 'make docs'"
    for method in METHODS.values():
        assert readme.count(f"| `{method.key}` |") == 1


def test_readme_lists_every_option_of_run():
    from camreport.cli import run

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    usual = {"--out", "--quiet", "--verbose", "--debug"}
    for option in {name for parameter in run.params for name in parameter.opts} - usual:
        if option.startswith("--"):
            assert f"`{option}`" in readme
