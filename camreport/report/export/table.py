"""The table of every map, for spreadsheets and statistics."""

import csv
import re
from io import TextIOWrapper
from operator import attrgetter
from pathlib import Path

import numpy as np

from camreport.files import is_file, writing
from camreport.messages.progress import Progress
from camreport.report.appearance import appearance
from camreport.report.heatmap import quantise, shade
from camreport.results.reader import MapRecord, Results, load_results
from camreport.results.schema import ImageEntry
from camreport.settings import NONE

TABLE = "maps.csv"
"""File name of the table, in the report's folder."""

COLUMNS = (
    *("image", "true_class", "class_index", "class", "probability", "logit", "layer", "method"),
    *("state", "raw_maximum", "area_above_half"),
)
"""Headings of the table. The true class is empty where no label gave it. The area is the fraction
of what the model saw where the map is at least half of its maximum, enlarged as the report draws
it; maximum and area are empty for a map without positive values."""

_RUN = re.compile(r"^[\t\r\n]|(^|[;,|\t])\s*[=+@-]")
"""What a spreadsheet takes for a formula: at the start of a text or of what it splits that into."""


def export_table(out: str | Path, progress: Progress = lambda count: None) -> Path:
    """Write ``OUT/maps.csv``: one line for each map, in UTF-8 with a mark that Excel reads.

    A text that a spreadsheet would take for a formula has an apostrophe before it.

    Args:
        out: the folder of the report.
        progress: called with the number of newly finished images.

    Raises:
        ResultsError: the results are missing, incomplete or damaged.
        OutputError: the table cannot be written.
    """
    results = load_results(out)
    path = results.path.parent / TABLE
    with writing(path, results.path.parent) as binary:
        file = TextIOWrapper(binary, encoding="utf-8-sig", newline="", write_through=True)
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for image in results.readable:
            for record in sorted(results.maps(image.index), key=attrgetter("slot")):
                writer.writerow(_row(results, image, record))
            progress(1)
        file.flush()
        file.detach()
    return path


def is_our_table(table: Path) -> bool:
    """Say whether a file is a table with our heading."""
    if not is_file(table):
        return False
    with table.open(encoding="utf-8-sig", errors="replace") as file:
        return file.readline(1000).strip() == ",".join(COLUMNS)


def _row(results: Results, image: ImageEntry, record: MapRecord) -> list[object]:
    """Return one line of the table."""
    manifest = results.manifest
    names = manifest.class_names
    of_class: list[object] = ["", "", "", ""]
    if record.target is not None:
        chance = results.probabilities(image.index)[record.target]
        logit = f"{results.logits(image.index)[record.target]:.6g}"
        of_class = [
            record.target,
            plain(names[record.target]),
            f"{chance:.6f}",
            logit if manifest.activation != NONE else "",
        ]
    return [
        plain(image.file),
        "" if image.label is None else plain(names[image.label]),
        *of_class,
        plain(record.layer),
        record.method.key,
        *_measured(record, manifest.preprocessing.size),
    ]


def _measured(record: MapRecord, size: tuple[int, int]) -> list[str]:
    """Return a map's state, maximum and strong area; of colours the strongest counts."""
    shown = appearance(record)
    quantised = shown.quantised
    if shown.colours is not None:
        quantised = quantise(np.abs(shown.cam))
    if quantised.state != "positive":
        return [quantised.state, "", ""]
    _, strong = shade(quantised, *size, threshold=0.5)
    return [quantised.state, f"{quantised.peak + shown.base:.9g}", f"{np.mean(strong):.4f}"]


def plain(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula to run."""
    return f"'{text}" if _RUN.search(text) else text
