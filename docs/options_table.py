"""Write what follows from the options: their table in the READMEs, and their types as keywords."""

import ast
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

import click

from camreport.cli.commands import run
from camreport.cli.options import GroupedOption

ROOT = Path(__file__).resolve().parent.parent
READMES = {"en": ROOT / "README.md", "zh": ROOT / "README.zh-CN.md"}

SETTINGS = ROOT / "camreport" / "settings" / "settings.py"
KEYWORDS = '    """The options as keyword arguments, written by ``make docs``."""\n\n'

START, END = "<!-- options: written by make docs -->\n", "<!-- options end -->\n"

TEXTS = tomllib.loads((ROOT / "docs/options.toml").read_text(encoding="utf-8"))

HEADS = {"en": "option | meaning | default", "zh": "选项 | 含义 | 默认值"}


def options_table(language: str, options: Iterable[click.Parameter] = run.params) -> str:
    """Return the table in Markdown, one row per option."""
    rows = [_row(each, language) for each in options if isinstance(each, GroupedOption)]
    return f"| {HEADS[language]} |\n" + "|---" * 3 + "|\n" + "".join(rows)


def updated(readme: str, language: str) -> str:
    """Return a README with the table between its markers replaced."""
    before, rest = readme.split(START)
    _, after = rest.split(END)
    return before + START + options_table(language) + END + after


def with_keywords(module: str) -> str:
    """Return the module of the options, the types of ``SettingsDict`` at its end replaced."""
    own = next(
        node
        for node in ast.parse(module).body
        if isinstance(node, ast.ClassDef) and node.name == "Settings"
    )
    fields = (each for each in own.body if isinstance(each, ast.AnnAssign) and each.value)
    lines = (
        f"    {ast.unparse(each.target)}: {ast.unparse(each.annotation)}\n"
        for each in fields
        if not ast.unparse(each.value).startswith("field(")  # what is no option
    )
    return module.partition(KEYWORDS)[0] + KEYWORDS + "".join(lines)


def _row(option: GroupedOption, language: str) -> str:
    texts = TEXTS.get(option.name, {})
    flags = ", ".join(f"`{flag}`" for flag in (*option.opts, *option.secondary_opts))
    names = " ".join(filter(None, [flags, f"`{option.metavar}`" if option.metavar else ""]))
    meaning = f"{_coded(option.meaning)} {texts.get('more', '')}".strip()
    default = option.shown_default
    default = f"`{default}`" if re.fullmatch(r"[\w.,-]+", default) else _coded(default)
    if language == "zh":
        meaning, default = texts.get("zh", meaning), texts.get("zh_default", default)
    cells = [cell.replace("|", "\\|") for cell in (names, meaning, default or "–")]
    return f"| {' | '.join(cells)} |\n"


def _coded(text: str) -> str:
    """Return a text with what stands between single quotation marks as code."""
    return re.sub(r"(?<!\w)'([^']+)'(?!\w)", r"`\1`", text)


if __name__ == "__main__":
    for code, path in READMES.items():
        path.write_text(updated(path.read_text(encoding="utf-8"), code), encoding="utf-8")
    SETTINGS.write_text(with_keywords(SETTINGS.read_text(encoding="utf-8")), encoding="utf-8")
