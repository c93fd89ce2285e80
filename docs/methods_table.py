"""Write the READMEs' table of methods anew from the registry: ``make docs``."""

import re
from pathlib import Path

from camreport.methods import METHODS, Method

ROOT = Path(__file__).resolve().parent.parent
READMES = {"en": ROOT / "README.md", "zh": ROOT / "README.zh-CN.md"}

START, END = "<!-- methods: written by make docs -->\n", "<!-- methods end -->\n"

HEADS = {
    "en": "method | name on the command line | map R | needs | layers | source",
    "zh": "方法 | 命令行名称 | 热力图 R | 所需 | 适用层 | 来源",
}
REMARKS = {
    "en": ["the same for all classes", "signed", "fused too", "not in `all`"],
    "zh": ["所有类别相同", "有正负", "另有融合图", "不含在 `all` 中"],
}
BRACKETS = {"en": (" (", ", ", ")"), "zh": ("（", "，", "）")}


def methods_table(language: str) -> str:
    """Return the table in Markdown, one row per method."""
    head = f"| {HEADS[language]} |\n" + "|---" * 6 + "|\n"
    return head + "".join(_row(method, language) for method in METHODS.values())


def updated(readme: str, language: str) -> str:
    """Return a README with the table between its markers replaced."""
    before, rest = readme.split(START)
    _, after = rest.split(END)
    return before + START + methods_table(language) + END + after


def _row(method: Method, language: str) -> str:
    holds = [not method.per_class, method.values == "signed", method.fuses, method.opt_in]
    said = [words for words, true in zip(REMARKS[language], holds, strict=True) if true]
    start, between, end = BRACKETS[language]
    name = method.name + (start + between.join(said) + end if said else "")
    source = re.sub(r"(.*), (https://\S+)", r"[\1](\2)", method.source)
    formula = method.formula.replace("|", "\\|")
    needs, layers = method.needs.name.worded(language), method.layers.worded(language)
    return f"| {' | '.join([name, f'`{method.key}`', formula, needs, layers, source])} |\n"


if __name__ == "__main__":
    for code, path in READMES.items():
        path.write_text(updated(path.read_text(encoding="utf-8"), code), encoding="utf-8")
