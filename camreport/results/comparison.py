"""``OUT/results/comparison.json``: which runs a comparison is of, and how they are compared.

The runs stay where they are. Their addresses are relative to the comparison's folder, so that all
of them can be moved together; those on object storage are whole.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from camreport.errors import InputError, ResultsError
from camreport.files import RESULTS, address_of, is_file, read
from camreport.results.decoding import Entry, UnfitError
from camreport.results.reader import (
    COMPARISON,
    MANIFEST,
    MAX_JSON_BYTES,
    find_results,
    load_results,
    read_json,
)
from camreport.results.schema import check_schema


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedEntry(Entry):
    """One of the runs.

    Attributes:
        name: unique, short.
        address: of the run's folder, seen from the comparison's, with forward slashes.
        manifest: sha256 of the run's manifest, hexadecimal; another run there is refused.
    """

    name: str
    address: str
    manifest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonEntry(Entry):
    """A comparison.

    Attributes:
        schema: version of the folder's layout, as of runs.
        runs: the runs; the first is the one that the others are compared with.
        pairs: for layers of the first run those that stand for them, as the user chose.
        label_map: for each word the classes that it stands for; None if classes have their names.
    """

    schema: int
    runs: tuple[ComparedEntry, ...]
    pairs: Mapping[str, str]
    label_map: Mapping[str, tuple[str, ...]] | None = None

    def check(self) -> None:
        """Refuse fewer than two runs."""
        if len(self.runs) < 2:
            raise UnfitError("two or more entries", len(self.runs), ".runs")


def is_comparison(out: str | Path) -> bool:
    """Say whether a report is of a comparison, by its folder or its ``results`` folder."""
    return any(is_file(Path(out, *inner, COMPARISON)) for inner in ((RESULTS,), ()))


def report_folder(out: str | Path) -> Path:
    """Return the folder of the report of a finished run or of a comparison.

    Raises:
        ResultsError: there is none, or it is unfinished, damaged or of another schema.
    """
    if is_comparison(out):
        read_comparison(out)
        return find_results(out).parent
    return load_results(out).path.parent


def read_comparison(out: str | Path) -> ComparisonEntry:
    """Return what a comparison is of.

    Raises:
        ResultsError: there is none, or it is damaged or of another schema.
    """
    folder = find_results(out)
    content = read_json(folder / COMPARISON, folder.parent)
    if not content:
        raise ResultsError(
            f"results: expected {COMPARISON} in {str(folder)!r}, but it cannot be read. Run "
            "'camreport compare' again."
        )
    check_schema(content, COMPARISON)
    return ComparisonEntry.from_json(content, COMPARISON)


def relative_address(run: Path, out: Path) -> str:
    """Return where a run lies, seen from the folder of a comparison.

    Raises:
        InputError: no relative path leads there.
    """
    if uri := address_of(run):
        return uri
    try:
        return Path(os.path.relpath(os.path.realpath(run), os.path.realpath(out))).as_posix()
    except ValueError as error:  # another drive
        raise InputError(
            f"output: expected a folder on the drive of {str(run)!r}, got {str(out)!r}. The report "
            "names its runs by relative paths: choose another folder."
        ) from error


def digest_of(run: Path) -> str:
    """Return the sha256 of a run's manifest.

    Raises:
        ResultsError: there is none.
    """
    folder = find_results(run)
    return sha256(read(folder / MANIFEST, folder.parent, MAX_JSON_BYTES)).hexdigest()


def run_folder(address: str, out: Path) -> Path:
    """Return the folder of a run by its address."""
    path = Path(address)
    return path if address_of(path) else Path(os.path.normpath(Path(os.path.realpath(out), path)))
