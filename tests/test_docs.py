"""The documents say what the code does."""

import pytest
from helpers.checkout import ROOT
from helpers.documents import methods_table

from camreport.methods import METHODS


def test_readme_lists_the_methods_of_the_registry():
    script = methods_table()
    for language, path in script.READMES.items():
        readme = path.read_text(encoding="utf-8")
        assert script.updated(readme, language) == readme, "run 'make docs'"
        for method in METHODS.values():
            assert readme.count(f"| `{method.key}` |") == 1


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_readme_lists_every_option_of_run(name):
    from camreport.cli.commands import run

    readme = (ROOT / name).read_text(encoding="utf-8")
    usual = {"--out", "--quiet", "--verbose", "--debug"}
    for option in {name for parameter in run.params for name in parameter.opts} - usual:
        if option.startswith("--"):
            assert f"`{option}`" in readme
