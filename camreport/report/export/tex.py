"""The evidence as a LaTeX table for a paper: needs ``booktabs`` and nothing else."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from camreport.errors import ResultsError
from camreport.files import MAX_TABLE_BYTES, is_file, reading, writing
from camreport.insight.evidence import (
    EvidenceTable,
    Tally,
    evidence_table,
)
from camreport.insight.evidence_blocks import PREDICTED
from camreport.methods import METHODS
from camreport.metrics import METRICS, Number
from camreport.metrics.statistics import DRAWS, MIN_ORDERED
from camreport.report.gallery.evidence import control_name
from camreport.report.gallery.language import words_of
from camreport.results.evidence import CONTROL
from camreport.results.layer_names import layer_names
from camreport.results.reader import Results, load_results

TEX = "evidence.tex"
"""File name of the table, in the report's folder."""

MARK = r"% evidence.tex of camreport; needs \usepackage{booktabs}"
"""First line of the table, by which it is known as ours."""

NOTHING = "--"
"""Stands where a number was not measured or is undefined everywhere."""

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "’": "'",
}
"""Signs of a text that plain LaTeX reads otherwise, or does not have."""


def export_tex(out: str | Path) -> Path:
    """Write ``OUT/evidence.tex``: a line for each method and control, a column for each question.

    The numbers are of the predicted classes' maps at the layer that the report shows first:
    medians with their 95 % intervals. Chance and the ceiling stand below.

    Args:
        out: the folder of the report.

    Raises:
        ResultsError: the results are missing, incomplete or damaged, or nothing was measured.
        OutputError: the table cannot be written.
    """
    results = load_results(out)
    table = evidence_table(results)
    if table is None:
        raise ResultsError(
            "export: expected evidence, but the run was made with --evidence off. Run it again "
            "with --evidence basic: the maps are kept."
        )
    path = results.path.parent / TEX
    with writing(path, path.parent) as file:
        file.write(("\n".join(_lines(results, table)) + "\n").encode())
    return path


def is_our_tex(path: Path) -> bool:
    """Say whether a file is a table with our first line."""
    if not is_file(path):
        return False
    with reading(path, path.parent, MAX_TABLE_BYTES, partly=True) as file:
        return file.readline(1000).decode("utf-8", "replace").rstrip("\r\n") == MARK


def escaped(text: str) -> str:
    """Return a text as plain LaTeX shows it; what it has no sign for becomes ``?``."""
    plain = "".join(_SPECIAL.get(sign, sign) for sign in text)
    known = (sign if sign.isascii() else _ascii(sign) for sign in plain)
    return re.sub(r"[\x00-\x1f\x7f]+", " ", "".join(known))


def _ascii(sign: str) -> str:
    """Return a letter without its accents; ``?`` for what is no Latin letter."""
    return unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode() or "?"


def _lines(results: Results, table: EvidenceTable) -> Iterator[str]:
    """Yield the lines of the table."""
    layer = results.manifest.glance.layer
    own = {(one.key.number, one.key.row): one for one in table.tallies if _is_shown(one, layer)}
    questions = [key for key in METRICS if any(number == key for number, _ in own)]
    rows = [*dict.fromkeys(row for number, row in own if row and number in questions)]
    yield MARK
    yield r"\begin{table}"
    yield r"\centering\small"
    yield rf"\caption{{{_caption(results, table, [*own.values()])}}}"
    yield rf"\begin{{tabular}}{{l{'c' * len(questions)}}}"
    yield r"\toprule"
    yield _row("", [escaped(str(METRICS[key].name)) for key in questions])
    yield _row("Better", [_better(METRICS[key].numbers[0]) for key in questions])
    yield _row("$n$", [_counts(own, key, rows) for key in questions])
    yield r"\midrule"
    for row in rows:
        if row.startswith(CONTROL) and not rows[max(rows.index(row) - 1, 0)].startswith(CONTROL):
            yield r"\midrule"
        yield from _rows(_name(row), [own.get((key, row)) for key in questions])
    yield r"\midrule"
    chances = [table.chance.get(key, METRICS[key].numbers[0].chance) for key in questions]
    yield _row("Chance", [NOTHING if one is None else _number(one) for one in chances])
    if ("effect.ceiling", "") in own:
        yield from _rows("Ceiling", [own.get((f"{key}.ceiling", "")) for key in questions])
    yield r"\bottomrule"
    yield r"\end{tabular}"
    yield r"\end{table}"


def _is_shown(own: Tally, layer: str) -> bool:
    return own.scope == PREDICTED and own.key.layer in (layer, "")


def _row(head: str, cells: Sequence[str]) -> str:
    return " & ".join([head, *cells]) + r" \\"


def _name(row: str) -> str:
    if row.startswith(CONTROL):
        return escaped(control_name(row, words_of("en")))
    return escaped(METHODS[row].name)


def _better(number: Number) -> str:
    """Return an arrow to the end that speaks for a map."""
    return {"high": r"$\uparrow$", "low": r"$\downarrow$"}.get(number.better or "", NOTHING)


def _counts(own: dict[tuple[str, str], Tally], question: str, rows: Sequence[str]) -> str:
    """Return how many images have a number: the least and the greatest of all rows."""
    counts = {own[question, row].n for row in rows if (question, row) in own}
    least, most = min(counts), max(counts)
    return f"{least}" if least == most else f"{least}--{most}"


def _rows(head: str, tallies: Sequence[Tally | None]) -> Iterator[str]:
    """Yield a line of medians and, below it, one of their intervals."""
    yield _row(head, [_median(own) for own in tallies])
    yield _row("", [_interval(own) for own in tallies])


def _median(own: Tally | None) -> str:
    """Return a median, with a sign where it is not told apart from the best."""
    if own is None or own.median is None:
        return NOTHING
    sign = r"^{\dagger}" if own.apart is False else ""
    return f"$({own.median:.2f})$" if own.given else f"${own.median:.2f}{sign}$"


def _interval(own: Tally | None) -> str:
    if own is None or own.given or own.low is None or own.high is None:
        return ""
    return rf"{{\scriptsize [{_number(own.low)}, {_number(own.high)}]}}"


def _number(value: float) -> str:
    return f"${value:.2f}$"


def _caption(results: Results, table: EvidenceTable, shown: Sequence[Tally]) -> str:
    """Say of what, of how many images and by which seed the numbers are."""
    manifest, entry = results.manifest, table.entry
    layer = layer_names(manifest)[manifest.glance.layer]
    rest = table.drawn or results.count
    said = [
        f"Evidence for the maps of {manifest.model.name} at {layer}, each image's predicted class: "
        f"medians over images with bootstrap 95 % intervals ({DRAWS:,} draws, seed {entry.seed}).",
        f"Passes were spent on a sample of {len(entry.sample):,} of "
        f"{results.count:,} images, drawn with seed {entry.seed}; the other questions "
        f"rest on {rest:,} images.",
        _order(shown),
        *_decided(shown),
        "The columns answer different questions and are not added up.",
    ]
    dagger = escaped(" ".join(said))
    return dagger.replace("(dagger)", r"$^{\dagger}$")


def _order(shown: Sequence[Tally]) -> str:
    """Say what stands in an order, if anything does."""
    if all(own.apart is None for own in shown):
        return f"With fewer than {MIN_ORDERED} images nothing is put in order."
    few = f"columns of fewer than {MIN_ORDERED} images are in no order."
    if not any(own.apart is False for own in shown):
        return few.capitalize()
    return (
        "(dagger): not told apart from the best method of the column (the interval of the median "
        f"paired difference holds 0); {few}"
    )


def _decided(shown: Sequence[Tally]) -> Iterator[str]:
    """Say what is in brackets: numbers that are no finding."""
    if any(own.given for own in shown):
        yield "Numbers in brackets hold by construction, whatever the network is."
