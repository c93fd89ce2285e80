"""The tables of every map and over all images, for spreadsheets and statistics."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path

import numpy as np

from camreport.files import MAX_TABLE_BYTES, is_file, reading
from camreport.insight.aggregates import MapAggregate, MeanMap, PairAggregate, aggregate
from camreport.insight.evidence import evidence_table
from camreport.messages.progress import Progress
from camreport.metrics import METRICS
from camreport.metrics.grids import GRID
from camreport.report.appearance import appearance
from camreport.report.export.comparison import TABLES as OF_RUNS
from camreport.report.export.rows import number_columns
from camreport.report.export.spreadsheet import given, plain, write_rows
from camreport.report.heatmap import quantise, shade
from camreport.results.evidence import NumberKey
from camreport.results.evidence_arrays import Evidence
from camreport.results.reader import MapRecord, Results, load_results
from camreport.results.schema import ImageEntry
from camreport.settings import NONE

TABLE = "maps.csv"
"""File name of the table of every map, in the report's folder."""

COLUMNS = (
    *("image", "true_class", "class_index", "class", "probability", "logit", "layer", "method"),
    *("state", "raw_maximum", "area_above_half"),
)
"""Headings of that table. The true class is empty where no label gave it. The area is the fraction
of what the model saw where the map is at least half of its maximum, enlarged as the report draws
it; maximum and area are empty for a map without positive values. The numbers of the evidence
follow, empty where they are undefined or not measured."""

IMAGE_COLUMNS = ("image", "true_class", "predicted_class", "probability", "layer")
"""First headings of ``images.csv``; those of ``image_columns`` at that layer and of
``placement_columns`` follow, then those of ``evidence_columns``."""

METHOD_COLUMNS = (
    *("method", "layer", "maps", "maps_without_evidence", "maps_undefined", "median_area"),
    *("predicted_maps", "predicted_maps_without_evidence", "predicted_median_area"),
    *("right_maps", "right_median_area", "wrong_maps", "wrong_median_area"),
    *("predicted_class_not_explained", "two_classes_images", "two_classes_median_correlation"),
    "two_classes_nearly_alike",
)
"""Headings of ``methods.csv``: areas of the maps of all explained classes, then of the predicted
class's, also by outcome, then how alike the maps of an image's two most probable classes are."""

PAIR_COLUMNS = (
    *("layer", "method", "other_method", "classes", "images", "median_rank_correlation"),
    "median_top_fifth_overlap",
)
"""Headings of ``agreement.csv``: the classes are the predicted ones, one map of each image."""

MEAN_COLUMNS = (
    *("layer", "method", "class_index", "predicted_class", "prediction", "maps", "statistic"),
    *(f"y{y}x{x}" for y in range(GRID) for x in range(GRID)),
)
"""Headings of ``means.csv``: of the maps of a predicted class, each as fractions of its maximum,
the mean and the standard deviation in each cell of the common grid, from the top left corner. The
predictions are all, or those that are right, wrong or unlabelled; maps without positive evidence
are left out."""

EVIDENCE_COLUMNS = (
    *("number", "row", "layer", "classes", "n", "median", "low", "high", "undefined", "reasons"),
    *("better_than_controls", "of", "told_apart_from_best", "by_construction"),
)
"""Headings of ``evidence.csv``: medians of the numbers of methods and controls with their 95 %
interval. The classes are the predicted ones, or one that all images explain; row and layer are
empty for a number that belongs to no map. What maps have by construction is compared with no
other number."""

TABLES: Mapping[str, Sequence[str]] = {
    TABLE: COLUMNS,
    "images.csv": IMAGE_COLUMNS,
    "methods.csv": METHOD_COLUMNS,
    "agreement.csv": PAIR_COLUMNS,
    "means.csv": MEAN_COLUMNS,
    "evidence.csv": EVIDENCE_COLUMNS,
}
"""The headings of all tables, or the first ones, by file name."""


def export_tables(out: str | Path, progress: Progress = lambda count: None) -> list[Path]:
    """Write ``OUT/maps.csv`` and the other tables of ``TABLES``, as ``export_table`` does."""
    every_map = export_table(out, progress)
    results = load_results(out)
    found = aggregate(results)
    rows = (
        _image_rows(results),
        (METHOD_COLUMNS, *map(_method_row, found.maps)),
        (PAIR_COLUMNS, *map(_pair_row, found.pairs)),
        _mean_rows(results, found.means),
        (EVIDENCE_COLUMNS, *_evidence_rows(results)),
    )
    paths = [every_map.with_name(name) for name in TABLES if name != TABLE]
    for path, own in zip(paths, rows, strict=True):
        write_rows(path, own)
    return [every_map, *paths]


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
    write_rows(path, _map_rows(results, progress))
    return path


def is_our_table(table: Path) -> bool:
    """Say whether a file is a table with our headings for its name."""
    if not is_file(table):
        return False
    with reading(table, table.parent, MAX_TABLE_BYTES, partly=True) as file:
        headings = file.readline(4000).decode("utf-8-sig", "replace").strip().split(",")
    expected = TABLES[table.name] if table.name in TABLES else OF_RUNS[table.name]
    return tuple(headings[: len(expected)]) == expected


def _map_rows(results: Results, progress: Progress) -> Iterator[Sequence[object]]:
    names = _measured_names(results)
    yield *COLUMNS, *names
    for image in results.readable:
        evidence = results.evidence(image.index)
        for record in sorted(results.maps(image.index), key=attrgetter("slot")):
            row = _row(results, image, record)
            yield [*row, *(_number(evidence, name, record) for name in names)]
        progress(1)


def _measured_names(results: Results) -> list[str]:
    """Return the keys of the numbers that the evidence has of single maps."""
    entry = results.manifest.evidence
    names = [
        number.key
        for key, metric in METRICS.items()
        if entry and key in entry.metrics and metric.coverage != "collages"
        for number in metric.numbers
    ]
    return [*names, *(["order.tied"] if "order" in names else [])]


def _number(evidence: Evidence | None, name: str, record: MapRecord) -> object:
    """Return a number of a map; nothing where it is undefined, or not measured."""
    own = evidence and evidence.numbers.get(NumberKey(name, record.method.key, record.layer))
    if not own or record.slot >= own.numbers.shape[1]:
        return ""
    value = float(own.numbers[0, record.slot])
    return "" if np.isnan(value) else f"{value:.6g}"


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


def _image_rows(results: Results) -> Iterator[Sequence[object]]:
    """Yield the lines of ``images.csv``."""
    names, layer = results.manifest.class_names, results.manifest.glance.layer
    columns = number_columns(results)
    yield *IMAGE_COLUMNS, *columns
    for image, *numbers in zip(results.readable, *columns.values(), strict=True):
        label = "" if image.label is None else plain(names[image.label])
        top = [(plain(p.name), f"{p.probability:.6f}") for p in image.top[:1]] or [("", "")]
        yield plain(image.file), label, *top[0], plain(layer), *map(given, numbers)


def _method_row(of: MapAggregate) -> Sequence[object]:
    """Return a line of ``methods.csv``."""
    every, predicted = of.explained, of.predicted["all"]
    judged = [of.predicted["right"], of.predicted["wrong"]]
    return (
        *(of.key.method, plain(of.key.layer)),
        *(every.maps, every.empty, every.undefined, given(every.median)),
        *(predicted.maps, predicted.empty, given(predicted.median)),
        *(value for areas in judged for value in (areas.maps, given(areas.median))),
        *(of.unexplained, of.likeness.n, given(of.likeness.median), of.alike),
    )


def _pair_row(of: PairAggregate) -> Sequence[object]:
    """Return a line of ``agreement.csv``."""
    medians = given(of.correlation.median), given(of.overlap.median)
    return plain(of.layer), *of.methods, "predicted", of.correlation.n, *medians


def _mean_rows(results: Results, means: Iterable[MeanMap]) -> Iterator[Sequence[object]]:
    """Yield the lines of ``means.csv``."""
    names = results.manifest.class_names
    yield MEAN_COLUMNS
    for of in means:
        about = (plain(of.key.layer), of.key.method, of.predicted, plain(names[of.predicted]))
        for statistic, cells in (("mean", of.mean), ("standard_deviation", of.spread)):
            yield *about, of.outcome, of.n, statistic, *(f"{cell:.6f}" for cell in cells.flat)


def _evidence_rows(results: Results) -> Iterator[Sequence[object]]:
    """Yield the lines of ``evidence.csv`` below its headings; none where nothing was measured."""
    table = evidence_table(results)
    names = results.manifest.class_names
    targets = {scope.key: scope.target for scope in table.scopes} if table else {}
    for own in table.tallies if table else ():
        target = targets[own.scope]
        yield (
            *(own.key.number, own.key.row, plain(own.key.layer)),
            "predicted" if target is None else plain(names[target]),
            *(own.n, *map(given, (own.median, own.low, own.high))),
            sum(own.undefined.values()),
            "; ".join(f"{reason} {count}" for reason, count in own.undefined.items()),
            *(own.beats or ("", "")),
            "" if own.apart is None else ("yes" if own.apart else "no"),
            "yes" if own.given else "no",
        )


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
