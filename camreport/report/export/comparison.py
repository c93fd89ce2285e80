"""The tables of a comparison of runs: changed predictions, numbers, and how far maps moved."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from camreport.insight.compare.comparison import Comparison, Flip
from camreport.messages.progress import Progress, silent
from camreport.report.export.spreadsheet import given, plain, write_rows
from camreport.report.gallery.runs import compared_in
from camreport.results.reader import find_results

FLIP_COLUMNS = (
    *("image", "run", "change", "true_class", "class_before", "probability_before"),
    *("class_after", "probability_after", "moved"),
)
"""Headings of ``flips.csv``: images whose predicted class is another one than in the first run. The
change is ``right to wrong``, ``wrong to right`` or ``other``; what moved is the share of the
evidence that lies elsewhere, empty where that is not defined."""

DELTA_COLUMNS = (
    *("number", "run", "method", "layer", "n", "before", "after", "delta", "low", "high"),
    *("better", "told_apart", "p"),
)
"""Headings of ``deltas.csv``: numbers of each run against the first one's, of the same images, with
the 95 % interval of the difference. Method and layer are empty for accuracy and for the probability
of the true class, ``told_apart`` where there are too few images."""

MOVE_COLUMNS = (
    *("run", "method", "layer", "own_layer", "n", "median_rank_correlation"),
    *("median_top_fifth_overlap", "median_moved"),
)
"""Headings of ``moves.csv``: how alike the maps of each run and the first one are. The layer is the
first run's, the other one's own stands beside it."""

TABLES: Mapping[str, Sequence[str]] = {
    "flips.csv": FLIP_COLUMNS,
    "deltas.csv": DELTA_COLUMNS,
    "moves.csv": MOVE_COLUMNS,
}
"""The headings of all tables, by file name."""

CHANGES = {"wrong": "right to wrong", "right": "wrong to right", "other": "other"}


def export_comparison(out: str | Path, progress: Progress = silent) -> list[Path]:
    """Write ``OUT/flips.csv``, ``deltas.csv`` and ``moves.csv`` of a comparison.

    Args:
        out: the folder of the report.
        progress: called with the number of newly finished images.

    Raises:
        CamReportError: the comparison or one of its runs is missing or damaged.
        OutputError: a table cannot be written.
    """
    found = compared_in(out, progress)
    rows = (
        (_flip(found, flip) for flip in found.flips),
        _deltas(found),
        _moves(found),
    )
    paths = [find_results(out).parent / name for name in TABLES]
    for path, headings, own in zip(paths, TABLES.values(), rows, strict=True):
        write_rows(path, (headings, *own))
    return paths


def _flip(found: Comparison, flip: Flip) -> Sequence[object]:
    before, after = (found.views[run].images[flip.image] for run in (0, flip.run))
    names = found.first.manifest.class_names
    return (
        plain(before.file),
        plain(found.names[flip.run]),
        CHANGES[flip.kind],
        "" if before.label is None else plain(names[before.label]),
        *(
            text
            for one in (before.top[0], after.top[0])
            for text in (plain(one.name), f"{one.probability:.6f}")
        ),
        given(flip.moved),
    )


def _deltas(found: Comparison) -> Iterator[Sequence[object]]:
    for own in found.deltas:
        yield (
            *(own.key, plain(found.names[own.run]), own.method, plain(own.layer), own.n),
            *map(given, (own.before, own.after, own.delta, own.low, own.high)),
            own.better or "",
            "" if own.apart is None else ("yes" if own.apart else "no"),
            given(own.p),
        )


def _moves(found: Comparison) -> Iterator[Sequence[object]]:
    addresses = {pair.key: pair.addresses for pair in found.pairs}
    for own in found.agreement:
        layer = addresses[own.layer][own.run] if own.layer in addresses else own.layer
        yield (
            *(plain(found.names[own.run]), own.method, plain(own.layer), plain(layer or "")),
            *(own.n, *map(given, (own.correlation, own.overlap, own.moved))),
        )
