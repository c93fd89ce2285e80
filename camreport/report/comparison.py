"""A report of several finished runs: what is refused, and what is written."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from glob import glob, has_magic
from pathlib import Path

from camreport.errors import InputError
from camreport.files import (
    MARKER,
    RESULTS,
    address_of,
    create,
    is_marked,
    locked,
    make_folder,
    named,
    write,
)
from camreport.insight.compare.build import compare_runs
from camreport.insight.compare.classes import LabelMap
from camreport.messages.progress import Notify, Progress, silent
from camreport.report.gallery.render import check_rendering, render_measured
from camreport.report.gallery.runs import MeasuredRuns, opened
from camreport.results.comparison import (
    ComparedEntry,
    ComparisonEntry,
    digest_of,
    relative_address,
)
from camreport.results.reader import COMPARISON, check_output, find_results
from camreport.results.schema import SCHEMA
from camreport.settings import Layout

MIN_RUNS = 2


def write_comparison(
    paths: Sequence[str | Path],
    out: Path,
    *,
    pairs: Mapping[str, str],
    label_map: LabelMap | None,
    layout: Layout,
    language: str,
    overwrite: bool = False,
    progress: Progress = silent,
    notify: Notify = lambda message: None,
) -> Path:
    """Compare finished runs and write ``OUT/results/comparison.json`` and ``OUT/index.html``.

    Nothing is written before the runs have been compared.

    Args:
        paths: folders of runs, or patterns; the others are compared with the first one.
        out: folder of the report; new, empty, or an earlier comparison's.
        pairs: for layers of the first run those of other runs that stand for them.
        label_map: for each word the classes that it stands for.
        layout: as for ``render_gallery``.
        language: that the page opens in.
        overwrite: whether a folder of another program may be used.
        progress: called with the number of images that are newly done.
        notify: called with what the comparison comes to, in a sentence.

    Raises:
        InputError: fewer than two runs, or the output folder is not usable.
        CamReportError: the runs cannot be compared; as for ``compare_runs``.
    """
    folders = run_folders(paths)
    check_comparison_output(out, folders, overwrite)
    check_rendering(out, layout, language)
    names = unique_names(folders)
    runs = [opened(name, folder) for name, folder in zip(names, folders, strict=True)]
    addresses = [relative_address(folder, out) for folder in folders]
    found = compare_runs(names, runs, pairs=pairs, label_map=label_map, progress=progress)
    entry = ComparisonEntry(
        schema=SCHEMA,
        runs=tuple(
            ComparedEntry(name=name, address=address, manifest=digest_of(folder))
            for name, address, folder in zip(names, addresses, folders, strict=True)
        ),
        pairs=dict(pairs),
        label_map=None if label_map is None else {word: (*own,) for word, own in label_map.items()},
    )
    measured = MeasuredRuns.made_of(found, addresses, out / RESULTS)
    notify(str(measured.summary().headline))
    with locked(out):
        _write_entry(out / RESULTS, entry)
        return render_measured(measured, out, layout=layout, language=language, progress=progress)


def _write_entry(folder: Path, entry: ComparisonEntry) -> None:
    """Write what a comparison is of into its ``results`` folder, which is marked as ours."""
    out = folder.parent
    make_folder(folder, out)
    if not is_marked(folder):
        create(folder / MARKER, b"{}", out)
    text = json.dumps(entry.to_json(), ensure_ascii=False, indent=1)
    write(folder / COMPARISON, text.encode(), out)


def run_folders(paths: Sequence[str | Path]) -> list[Path]:
    """Return the folders of runs; those that a pattern finds in the order of the numbers in them.

    Raises:
        InputError: fewer than two.
        ResultsError: one of them holds no run.
    """
    listed = [folder for path in paths for folder in _found(path)]
    if len(listed) < MIN_RUNS:
        got = ", ".join(repr(named(path)) for path in listed) or "none"
        raise InputError(
            f"runs: expected two or more folders of finished runs, got {got}. For instance: "
            "camreport compare before after -o comparison"
        )
    return [find_results(folder).parent for folder in listed]


def _found(path: str | Path) -> list[Path]:
    """Return the folders that a path or a pattern means."""
    if not has_magic(str(path)) or os.path.lexists(path) or address_of(Path(path)):
        return [Path(path)]
    return [Path(one) for one in sorted(glob(str(path)), key=_natural) if os.path.isdir(one)]


def _natural(text: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers within a text by their size."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)
    ]


def unique_names(folders: Sequence[Path]) -> list[str]:
    """Return the last parts of folders' paths, as many as distinguish them; equal ones numbered."""
    resolved = [
        folder if address_of(folder) else Path(os.path.realpath(folder)) for folder in folders
    ]
    different = len({*resolved})
    most = max(len(path.parts) for path in resolved)
    for count in range(1, most + 1):
        names = ["/".join(path.parts[-count:]) for path in resolved]
        if len({*names}) == different:
            break
    return [*_numbered(names)]


def _numbered(names: Sequence[str]) -> Iterator[str]:
    for place, name in enumerate(names):
        number = names[:place].count(name) + 1
        yield name if number == 1 else f"{name} ({number})"


def check_comparison_output(out: Path, folders: Sequence[Path], overwrite: bool) -> None:
    """Refuse a folder for a comparison that is a run's, lies in one, or has something else in it.

    Raises:
        InputError: it is.
    """
    if uri := address_of(out):
        raise InputError(
            f"output: expected a folder of this machine, got {uri!r}. Write the comparison "
            "here, and copy its page there."
        )
    place = Path(os.path.realpath(out))
    for folder in (one for one in folders if not address_of(one)):
        run = Path(os.path.realpath(folder))
        if place == run or run in place.parents:
            raise InputError(
                f"output: expected a folder outside of the runs, got {str(out)!r}, which is in "
                f"{str(folder)!r}. Choose another folder."
            )
    check_output(out, overwrite, of_runs=True)
