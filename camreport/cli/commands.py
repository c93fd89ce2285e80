"""The commands of ``camreport``.

Nothing is imported here that imports torch before it has something to compute.
"""

import io
import shlex
import sys
import warnings
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from camreport.cli import console, options, summary
from camreport.cli.console import result
from camreport.cli.exits import Commands
from camreport.cli.layers import HEAD, NUMBERS, layer_rows
from camreport.messages.progress import Progress
from camreport.methods import METHODS
from camreport.settings import Settings
from camreport.version import __version__

_Made = TypeVar("_Made")

PROGRESS = {
    "bar_format": "{percentage:3.0f}% |{bar}| {n:.1f} of {total} images, {elapsed} gone, "
    "{remaining} to go",
    "delay": 1e-9,
}
"""How the progress of a run is drawn, once there is some; a part of an image counts as such."""

MEASURING = (
    "{percentage:3.0f}% |{bar}| {n:.0f} of {total} passes for the evidence, {elapsed} gone, "
    "{remaining} to go"
)
"""How it is drawn how far the evidence is."""

MANY_FIGURES = 1000
"""Figures that are written without asking."""

EXAMPLES = """\b
Examples:
  camreport run photos/                         write report/index.html
  camreport run cat.jpg dog.jpg --model resnet18 --classes top3 --methods all
  camreport run photos/ --checkpoint net.pth --class-names cat,dog --labels folder
"""


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="camreport")
def cli() -> None:
    """Put the class-activation maps of every image, layer, class and method in one report."""


@cli.command(
    cls=options.GroupedCommand,
    epilog=EXAMPLES,
    params=[
        click.Argument(["inputs"], nargs=-1, required=True, metavar="INPUT..."),
        options.OUT,
        *options.from_settings(),
        options.QUIET,
        options.VERBOSE,
        options.CONFIG,
        options.DEBUG,
    ],
)
@click.pass_context
def run(
    ctx: click.Context,
    /,
    inputs: tuple[str, ...],
    out: Path,
    quiet: bool,
    verbose: bool,
    **_: object,
) -> None:
    """Explain images (files, folders or patterns) and write OUT/index.html and OUT/results/."""
    from camreport import api

    settings, printed = options.settings_of(ctx), list[str]()
    with warnings.catch_warnings(), console.progress(quiet=quiet, **PROGRESS) as bar:
        if quiet:
            warnings.simplefilter("ignore")
        done = api.run(
            inputs,
            out,
            settings=settings,
            export=_export_figures,
            found=bar.reset,
            progress=bar.update,
            measuring=partial(_measuring, bar),
            notify=printed.append if quiet else partial(summary.notice, printed),
        )
    summary.failures(done)
    if done.part and not quiet:
        summary.part_finished(done)
    elif not quiet:
        summary.finished(done, verbose, printed)
    ctx.exit(1 if done.failed else 0)


def _measuring(bar: Any, passes: int) -> Progress:
    """Go over from the progress of the maps to that of the evidence."""
    bar.bar_format = MEASURING
    bar.reset(passes)
    updated: Progress = bar.update
    return updated


@cli.command(
    cls=options.GroupedCommand,
    params=[
        click.Argument(["out"], type=options.HomePath()),
        *options.from_settings(Settings, lambda each: each.group == "Drawing", "as before"),
        click.Option(
            ["--images"],
            metavar="FILE|N",
            help="Images to show: those whose names FILE lists, one a line, or N of them, evenly "
            "over classes and over right and wrong. Default: all; of more than 20,000, 2,000.",
        ),
        options.DEBUG,
    ],
)
@click.pass_context
def render(ctx: click.Context, /, out: Path, images: str | None, **_: object) -> None:
    """Build OUT/index.html again from OUT/results/, without computing anything."""
    from camreport.files import locked
    from camreport.report.gallery import render_gallery
    from camreport.results.reader import find_results

    with locked(find_results(out).parent), console.progress(unit=" images") as bar:
        report = render_gallery(out, images=images, progress=bar.update, **options.given(ctx))
    summary.report_written(report)


@cli.command(
    cls=options.GroupedCommand,
    params=[
        click.Argument(
            ["runs"], nargs=-1, required=True, metavar="RUN...", type=options.HomePath()
        ),
        options.OUT,
        click.Option(
            ["--label-map"],
            metavar="TEXT|FILE",
            help="Classes that mean the same where the runs have other names for them: "
            "cat=281-285,dog=151-268, or a file in JSON, TOML or CSV with words and their classes.",
        ),
        click.Option(
            ["--pair", "pairs"],
            metavar="A=B",
            multiple=True,
            help="Layer of the first run, and the one of the others that stands for it: "
            "features.12=blocks.6. Default: layers of one name, else by depth and grid.",
        ),
        *options.from_settings(
            Settings, lambda each: each.group == "Drawing" or each.flag == "--overwrite"
        ),
        options.QUIET,
        options.DEBUG,
    ],
)
@click.pass_context
def compare(
    ctx: click.Context,
    /,
    runs: tuple[Path, ...],
    out: Path,
    label_map: str | None,
    pairs: tuple[str, ...],
    quiet: bool,
    **_: object,
) -> None:
    """Put two or more finished runs of the same images in one report, without computing maps."""
    from camreport import api

    shown, printed = options.given(ctx), list[str]()
    shown.pop("label_map", None)  # which a run has, too
    with console.progress(quiet=quiet, unit=" images") as bar:
        report = api.compare(
            runs,
            out,
            label_map=label_map,
            pairs=dict(map(_pair, pairs)),
            progress=bar.update,
            notify=printed.append,
            **shown,
        )
    if not quiet:
        result(printed[0])
        summary.report_written(report)


def _pair(text: str) -> tuple[str, str]:
    """Return the two layers of a pair."""
    one, equals, other = text.partition("=")
    if not (one.strip() and equals and other.strip()):
        raise click.UsageError(
            f"pair: expected two layers, such as features.12=blocks.6, got {text!r}."
        )
    return one.strip(), other.strip()


@cli.command(
    params=[
        click.Argument(["out"], type=options.HomePath()),
        options.switch("--pdf", "OUT/report.pdf, printed by an installed Chromium."),
        options.switch(
            "--figures", "OUT/figures/: a sheet per image, a PNG per map and channel grid."
        ),
        options.switch(
            "--csv", "OUT/maps.csv, a line per map; tables of images, methods, evidence."
        ),
        options.switch("--tex", "OUT/evidence.tex: the evidence as a LaTeX table (booktabs)."),
        options.switch(
            "--parquet", "OUT/images.parquet, a row per image, for Embedding Atlas and pandas."
        ),
        options.switch(
            "--fiftyone",
            "OUT/fiftyone/: a dataset of FiftyOne, with heat maps of each layer and method.",
        ),
        options.switch("--zip", "OUT.zip: the report and what else there is."),
        click.Option(
            ["--images"],
            metavar="FILE|N",
            help="Figures of these images (names, * allowed, commas between) or of the first N.",
        ),
        options.switch("--yes", "Do not ask before thousands of figures are written."),
        options.DEBUG,
    ],
)
def export(
    out: Path,
    figures: bool,
    images: str | None,
    yes: bool,
    **forms: bool,
) -> None:
    """Write the report in OUT in other forms, without computing anything."""
    from camreport.files import locked
    from camreport.results.reader import find_results

    wanted = {form for form, chosen in forms.items() if chosen}
    if not (figures or wanted):
        *others, last = ("--figures", *(f"--{form}" for form in forms))
        raise click.UsageError(f"choose a form: {', '.join(others)} or {last}.")
    if images is not None and not figures:
        raise click.UsageError("--images chooses figures. Add --figures.")
    with locked(find_results(out).parent):
        if figures:
            _draw(out, images, yes)
        _export(out, wanted)


def _draw(out: Path, images: str | None, yes: bool) -> None:
    """Write figures, once it is agreed to write so many."""
    from camreport.files import place_of
    from camreport.report import export as forms
    from camreport.results.reader import load_results

    count = forms.count_figures(out, images)
    if not (yes or _agreed(count)):
        raise click.UsageError(
            f"--figures would write {count:,} files. Add --images 20, or --images with names of "
            "images, to draw fewer; add --yes to write all."
        )
    form = partial(forms.export_figures, images=images)
    total = len(forms.chosen_images(load_results(out), images))
    written = _with_progress(form, out, " images", total)
    result(f"figures: {len(written)} in {place_of(written[0].parent)}")


def _export(out: Path, wanted: Collection[str]) -> None:
    from camreport.files import place_of
    from camreport.report import export as forms
    from camreport.report.gallery import printable
    from camreport.results.comparison import is_comparison

    if "pdf" in wanted:
        with printable(out) as page:
            result(f"document: {place_of(forms.export_document(out, page))}")
    if "csv" in wanted:
        tables = forms.export_comparison if is_comparison(out) else forms.export_tables
        for path in _with_progress(tables, out, " images"):
            result(f"table: {place_of(path)}")
    if "tex" in wanted:
        result(f"table: {place_of(forms.export_tex(out))}")
    if "parquet" in wanted:
        result(f"table: {place_of(forms.export_parquet(out))}")
    if "fiftyone" in wanted:
        result(f"dataset: {place_of(_with_progress(forms.export_fiftyone, out, ' images'))}")
    if "zip" in wanted:
        path = _with_progress(forms.export_archive, out, " files", forms.count_packed(out))
        result(f"archive: {place_of(path)}")
        if forms.is_outdated(out):
            console.warning(
                f"{forms.DOCUMENT} is older than the report and stays outside; --pdf --zip prints "
                "it anew"
            )


def _with_progress(
    form: Callable[[Path, Progress], _Made],
    out: Path,
    unit: str,
    total: int | None = None,
) -> _Made:
    """Make a form of a report and show how far it is, on a terminal."""
    from camreport.results.comparison import is_comparison
    from camreport.results.reader import load_results

    if total is None and not is_comparison(out):
        total = load_results(out).count
    with console.progress(total=total, unit=unit) as bar:
        return form(out, bar.update)


def _agreed(count: int) -> bool:
    """Ask before thousands of files are written; where nobody can answer, that is no."""
    if count <= MANY_FIGURES:
        return True
    return sys.stdin.isatty() and click.confirm(f"Write {count:,} figures?", err=True)


def _export_figures(out: Path) -> None:
    """Write the figures of a run that has just finished."""
    from camreport.report import export as forms

    count = forms.count_figures(out)
    if _agreed(count):
        _with_progress(forms.export_figures, out, " images")
    else:
        again = shlex.join(["camreport", "export", str(out), "--figures", "--yes"])
        console.note(
            f"{count:,} figures were not written. Write them with: {again} (or --images 20 for "
            "those of the first images)"
        )


@cli.command(
    cls=options.GroupedCommand,
    params=[
        *options.from_settings(Settings, lambda each: each.decides in ("model", "preprocessing")),
        options.switch("--tree", "Show the modules as a tree."),
        options.CONFIG,
        options.DEBUG,
    ],
)
@click.pass_context
def layers(ctx: click.Context, /, tree: bool, **_: object) -> None:
    """List a model's layers in the order in which they run, with the tensor that maps use."""
    from camreport.pipeline.loading import load
    from camreport.pipeline.prepare import check_loading

    settings = options.settings_of(ctx)
    check_loading(settings)
    loaded = load(settings)
    console.table([HEAD, *layer_rows(loaded, tree)], right=NUMBERS)
    height, width = loaded.preprocessing.size
    result()
    result(f"* is chosen by --layers auto. Outputs are those for an image of {height} x {width}.")
    result("Gradient: fraction of the values read that the top class's gradient reaches, for noise")
    result("as an image. A layer without a map has -.")


@cli.command()
def methods() -> None:
    """List the methods: key, name, what they need and cost, where they make sense, source."""
    rows = [("key", "name", "needs", "cost", "layers", "source")] + [
        (m.key, m.name, str(m.needs.name), str(m.needs.cost), str(m.layers), m.source)
        for m in METHODS.values()
    ]
    console.table(rows)


@cli.command()
def metrics() -> None:
    """List the questions of the evidence: key, question, range, cost, source."""
    from camreport.metrics import METRICS

    console.entries(
        ("question", "range", "cost", "source"),
        [(m.key, str(m.question), str(m.range), str(m.cost), m.source) for m in METRICS.values()],
    )


def main() -> NoReturn:
    """Run the command line and exit with the codes above."""
    for stream in (sys.stdout, sys.stderr):  # a terminal without UTF-8 gets escapes, no crash
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    cli.main(prog_name="camreport")
    raise AssertionError("the command line exits by itself")
