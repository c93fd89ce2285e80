"""The printed report: one document, by a browser of this machine."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from camreport.errors import ResultsError
from camreport.files import is_file, write
from camreport.results.comparison import report_folder
from camreport.results.reader import REPORT

DOCUMENT = "report.pdf"
"""File name of the printed report, in the report's folder."""

BROWSERS = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"),
    *("msedge", "microsoft-edge"),
)
"""Commands of the browsers that print; the first that is there is used."""

PRINTING_SECONDS = 300
"""How long a browser may take to print."""


def export_document(out: str | Path, page: str | Path, browsers: Sequence[str] = BROWSERS) -> Path:
    """Print the report to ``OUT/report.pdf`` by a Chromium, Chrome or Edge of this machine.

    Args:
        out: the folder of the report.
        page: what to print, as ``gallery.printable`` makes it from the results; the report itself
            may be any page that came with them.
        browsers: commands of the browsers that print; the first that is there is used.

    Raises:
        ResultsError: there is no such browser, it fails, or the report is not rendered.
    """
    folder = report_folder(out)
    report_page(folder)  # a document is dated by the report that it belongs to
    browser = next(filter(None, map(shutil.which, browsers)), None)
    if browser is None:
        raise ResultsError(
            "export: expected an installed Chromium, Chrome or Edge to print with, found none. "
            "Install one, or open the report in your browser and print it to a file there."
        )
    with tempfile.TemporaryDirectory() as temporary:
        printed = Path(temporary, DOCUMENT)
        _print(browser, Path(page).resolve().as_uri(), printed)
        write(folder / DOCUMENT, printed.read_bytes(), folder)
    return folder / DOCUMENT


def is_outdated(out: str | Path) -> bool:
    """Say whether the report was made anew since its document was printed."""
    return is_older(report_folder(out))


def is_older(folder: Path) -> bool:
    """Say whether the document in a report's folder is older than its page."""
    document = folder / DOCUMENT
    return is_file(document) and document.stat().st_mtime < report_page(folder).stat().st_mtime


def report_page(folder: Path) -> Path:
    """Return the page of a report.

    Raises:
        ResultsError: it is not rendered.
    """
    report = folder / REPORT
    if not is_file(report):
        raise ResultsError(
            f"export: expected {REPORT} in {folder.name}, found none. "
            f"Make it with: camreport render {folder.name}"
        )
    return report


def _print(browser: str, address: str, printed: Path) -> None:
    """Print a page to a file, with a browser profile in the same folder.

    Raises:
        ResultsError: the browser fails.
    """
    command = [
        *(browser, "--headless", "--disable-gpu", f"--user-data-dir={printed.parent}"),
        *("--no-pdf-header-footer", "--virtual-time-budget=20000"),
        *(["--no-sandbox"] if _is_root() else []),
        *(f"--print-to-pdf={printed}", address),
    ]
    try:
        done = subprocess.run(command, capture_output=True, timeout=PRINTING_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ResultsError(f"export: {Path(browser).name} did not print ({error}).") from error
    if done.returncode or not printed.is_file():
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise ResultsError(f"export: {Path(browser).name} did not print. {' '.join(said)}")


def _is_root() -> bool:
    return sys.platform != "win32" and os.geteuid() == 0
