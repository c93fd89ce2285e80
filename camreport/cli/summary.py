"""What is printed of a run when it has finished, and of a report."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from camreport.cli import console
from camreport.cli.console import result
from camreport.files import RESULTS, place_of

if TYPE_CHECKING:
    from camreport.pipeline.records import Summary
    from camreport.results.evidence import RunCost
    from camreport.results.reader import Results

MAX_LISTED = 10
"""Most lines of predictions, classes or failures that are printed."""


def notice(printed: list[str], message: str) -> None:
    """Print a note or warning of a run, and remember it."""
    printed.append(message)
    _print_notice(message)


def failures(summary: "Summary") -> None:
    """Print which inputs could not be read, and why."""
    if summary.failed:
        console.warning(f"{len(summary.failed)} of {summary.total} inputs could not be read:")
    for image in summary.failed[:MAX_LISTED]:
        console.detail(f"{image.file}: {image.reason}")
    if len(summary.failed) > MAX_LISTED:
        console.detail(f"... and {len(summary.failed) - MAX_LISTED} more, see the report")


def finished(summary: "Summary", verbose: bool, printed: Sequence[str]) -> None:
    """Print the predictions, their accuracy, the cost and where the report is.

    Args:
        summary: of the run.
        verbose: print which tensor each map was read from, too.
        printed: notes that were printed during the run.
    """
    from camreport.results.reader import REPORT, load_results

    results = load_results(summary.out)
    result(f"preprocessing: {results.manifest.preprocessing}")
    for note in map(str, summary.notes):
        if note not in printed:
            _print_notice(note)
    for layer in results.manifest.layers if verbose else ():
        shape = " x ".join(map(str, layer.shape))
        result(f"{layer.address}: {layer.type}, {layer.tensor}, {shape}")
    _print_predictions(results)
    _print_accuracy(results)
    _print_cost(summary, results.manifest.cost)
    report_written(summary.out / REPORT)


def part_finished(summary: "Summary") -> None:
    """Print what a part of a run has done, and what comes next."""
    computed = summary.total - summary.reused
    result(
        f"part {summary.part}: {summary.shards:,} {'shard' if summary.shards == 1 else 'shards'} "
        f"with {summary.total:,} inputs: {computed:,} computed, {summary.reused:,} kept"
    )
    result(f"shards: {place_of(summary.folder or summary.out / RESULTS)}")
    count = summary.part.partition("/")[2]
    result(
        f"next: once all {count} parts are done, the same command without --part writes the report"
    )


def report_written(report: Path) -> None:
    """Print where a report is, and whether it is large or needs a folder."""
    from camreport.files import is_marked, sizes
    from camreport.report.gallery import DEFAULT_LIMITS
    from camreport.results.reader import DATA

    size, beside = sizes(report.parent).get(report.name, 0), is_marked(report.with_name(DATA))
    if size > DEFAULT_LIMITS.single_bytes and not beside:
        console.warning(
            f"the report has {size / 2**20:.0f} MB in one file. It opens slowly and many portals "
            "refuse it: --folder puts the data beside the page."
        )
    if beside:
        console.note(f"the report needs the folder {DATA}/ beside it: keep them together")
    result(f"report: {place_of(report)}")


def _print_notice(message: str) -> None:
    kind, _, text = message.partition("warning: ")
    if kind:
        console.note(message)
    else:
        console.warning(text)


def _print_predictions(results: "Results") -> None:
    from camreport.report.appearance import format_probability

    for image in results.readable[:MAX_LISTED]:
        top = ", ".join(
            f"{entry.name} {format_probability(entry.probability)}" for entry in image.top[:3]
        )
        result(f"{image.file}: {top}")
    if results.count > MAX_LISTED:
        result(f"... and {results.count - MAX_LISTED:,} more images")


def _print_accuracy(results: "Results") -> None:
    """Print how often predictions and true classes agree, overall and for each class."""
    from camreport.results.accuracy import accuracy, order_warning

    names = results.manifest.class_names
    counted = accuracy(results.outlines)
    if counted is None:
        return
    fraction = counted.right / counted.total
    result(f"accuracy: {counted.right} of {counted.total} right ({fraction:.1%})")
    worst_first = sorted(counted.by_class.items(), key=lambda entry: entry[1][0] / entry[1][1])
    for index, (right, total) in worst_first[:MAX_LISTED]:
        result(f"  {names[index]}: {right} of {total} right")
    if len(worst_first) > MAX_LISTED:
        result(f"  ... and {len(worst_first) - MAX_LISTED} more classes")
    if warning := order_warning(results.outlines, names):
        console.warning(f"{warning}. Are the names given as --class-names in the model's order?")


def _print_cost(summary: "Summary", total: "RunCost") -> None:
    """Print the cost of a run and of its evidence, and how many results it kept."""
    from camreport.report.gallery.language import words_of
    from camreport.report.gallery.prose import format_cost, format_families, format_metrics

    words = words_of("en")
    cost = format_cost(total, words)
    if summary.reused:
        result(f"{summary.reused} of {summary.total} inputs were kept from an earlier run or part")
        cost += ", of all shards together"
    is_new = summary.reused < summary.total
    known = "no new map to compute; they" if summary.measured else "nothing new to compute; it"
    result(cost if is_new else f"{known} took {cost}")
    families = format_families(total, words)
    for name, passes in families if len(families) > 1 else ():
        result(f"  {name}: {passes}")
    if total.evidence is not None:
        of_earlier = "" if summary.measured else ", measured earlier"
        result(f"evidence{of_earlier}: {format_cost(total.evidence, words)}")
        metrics = format_metrics(total.evidence, words)
        for name, passes in metrics if len(metrics) > 1 else ():
            result(f"  {name}: {passes}")
