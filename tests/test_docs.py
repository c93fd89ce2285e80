"""The documents say what the code does."""

import re

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


# The Chinese README


def headings(text: str) -> list[str]:
    return re.findall(r"^(#+) ", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)


def commands(text: str) -> list[list[str]]:
    """Return the lines of each block of code without what is said about them."""
    blocks = re.findall(r"```(.*?)```", text, re.DOTALL)
    return [
        [said for line in block.split("\n") if (said := re.sub(r"\s*#.*", "", line).rstrip())]
        for block in blocks
    ]


def test_chinese_readme_has_the_headings_and_commands_of_the_english_one() -> None:
    english, chinese = (
        (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md")
    )
    assert headings(chinese) == headings(english)
    assert commands(chinese) == commands(english)
    assert english.count("\n|") == chinese.count("\n|")
    options = re.compile(r"`(--[\w-]+)")
    assert set(options.findall(chinese)) == set(options.findall(english))
