"""Write the README's table of methods anew from the registry: ``make docs``."""

import re
from pathlib import Path

from camreport.methods import METHODS, Method

README = Path(__file__).resolve().parent.parent / "README.md"

START, END = "<!-- methods: written by make docs -->\n", "<!-- methods end -->\n"


def methods_table() -> str:
    """Return the table in Markdown, one row per method."""
    head = "| method | name to ask for | map R | needs | layers | source |\n" + "|---" * 6 + "|\n"
    return head + "".join(map(_row, METHODS.values()))


def updated(readme: str) -> str:
    """Return the README with the table between its markers replaced."""
    before, rest = readme.split(START)
    _, after = rest.split(END)
    return before + START + methods_table() + END + after


def _row(method: Method) -> str:
    said = [
        *([] if method.class_specific else ["the same for all classes"]),
        *(["signed"] if method.signed else []),
        *(["fused too"] if method.fuses else []),
        *(["only by name"] if method.by_name else []),
    ]
    name = method.name + (f" ({', '.join(said)})" if said else "")
    source = re.sub(r"(.*), (https://\S+)", r"[\1](\2)", method.source)
    formula = method.formula.replace("|", "\\|")
    cells = [name, f"`{method.key}`", formula, method.needs.name, method.layers, source]
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8")
