"""A report and its exported forms in one zip file, to hand in."""

import os
import re
import zipfile
from contextlib import suppress
from pathlib import Path

from camreport.errors import InputError, OutputError, ResultsError
from camreport.files import MARKER, address_of, is_file, is_marked, remove, remove_tree, writing
from camreport.messages.progress import Progress
from camreport.report.export.comparison import TABLES as OF_RUNS
from camreport.report.export.fiftyone import FIFTYONE
from camreport.report.export.figures import FIGURES
from camreport.report.export.parquet import PARQUET, is_our_parquet
from camreport.report.export.pdf import DOCUMENT, is_older, report_page
from camreport.report.export.table import TABLES, is_our_table
from camreport.report.export.tex import TEX, is_our_tex
from camreport.results.comparison import report_folder
from camreport.results.reader import DATA

_DATA_FILE = re.compile(
    r"camreport\.(js|css)|(report|atlas|tops|view-\w+)\.js|(overview|images)-\d{4,}\.js|"
    r"thumbs/\d{2,}/\d{5,}\.jpg|tiles/\d+(-\d+-\w+)?\.jpg"
)
_FIGURE = re.compile(rf".+\.png|model_layers\.csv|model_structure\.txt|{re.escape(MARKER)}")


def export_archive(out: str | Path, progress: Progress = lambda count: None) -> Path:
    """Write ``OUT.zip`` next to OUT: the page, its data, and the other forms that exist.

    A document that is older than the report may show another one, and stays outside.

    Args:
        out: the folder of the report.
        progress: called with the number of newly packed files.

    Raises:
        ResultsError: the results are missing, incomplete or damaged, or the report is not
            rendered.
        InputError: the report is on object storage.
        OutputError: the archive cannot be written.
    """
    folder = _here(out)
    files = [report_page(folder), *own_data(folder), *_exports(folder)]
    path = folder.with_name(folder.name + ".zip")
    with writing(path, path.parent) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as z:
        for packed in files:
            z.write(packed, f"{folder.name}/{packed.relative_to(folder).as_posix()}")
            progress(1)
    return path


def count_packed(out: str | Path) -> int:
    """Return how many files ``export_archive`` would pack; raises as that does."""
    folder = _here(out)
    return 1 + len(own_data(folder)) + len(_exports(folder))


def _here(out: str | Path) -> Path:
    """Return the folder of a report on this machine.

    Raises:
        ResultsError, InputError: as for ``export_archive``.
    """
    folder = report_folder(out)
    if address := address_of(folder):
        raise InputError(
            f"export: expected a report on this machine to pack, got {address!r}. Copy it here, or "
            "open its page there."
        )
    return folder


def own_data(folder: Path) -> list[Path]:
    """Return the files of a report's data, in order: those of our names, and no links."""
    data = folder / DATA
    if not is_marked(data):
        return []
    found = [
        Path(parent, name)
        for parent, _, names in os.walk(data)  # which follows no links
        for name in names
        if _DATA_FILE.fullmatch(Path(parent, name).relative_to(data).as_posix())
    ]
    return sorted(path for path in (*found, data / MARKER) if is_file(path))


def remove_exports(out: str | Path) -> None:
    """Remove tables, figures and the dataset of earlier results, as far as this is possible.

    Only what is ours goes: tables with our headings or first line, folders with our mark. A
    document stays, it may be anybody's.
    """
    for path in _tables(Path(out)):
        with suppress(OutputError):
            remove(path)
    for name in (FIGURES, FIFTYONE):
        remove_tree(Path(out, name))


def _exports(folder: Path) -> list[Path]:
    """Return the tables, the figures and the document of a report that are there."""
    figures = folder / FIGURES
    drawn = sorted(figures.iterdir()) if is_marked(figures) else []
    drawn = [path for path in drawn if _FIGURE.fullmatch(path.name)]
    printed = [] if is_older(folder) else [folder / DOCUMENT]
    return [path for path in (*_tables(folder), *printed, *drawn) if is_file(path)]


def _tables(folder: Path) -> list[Path]:
    """Return the tables of a report that are there and ours."""
    names = (*TABLES, *OF_RUNS)
    with suppress(OSError, ResultsError):
        tables = [path for name in names if is_our_table(path := folder / name)]
        others = (TEX, is_our_tex), (PARQUET, is_our_parquet)
        return [*tables, *(folder / name for name, is_ours in others if is_ours(folder / name))]
    return []
