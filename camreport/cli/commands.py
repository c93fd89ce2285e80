"""The command line: its commands, what they print of their results, and the exit codes.

Exit codes: 0 all well; 1 finished, but some inputs failed; 2 bad usage, nothing to do or a file
of this machine that cannot be read or written; 3 internal error; 130 interrupted. Nothing is
imported here that imports torch before it has something to compute.
"""

import errno
import io
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from camreport.cli import console, options
from camreport.cli.console import result
from camreport.errors import CamReportError, suggestion
from camreport.methods import METHODS
from camreport.results.accuracy import accuracy, order_warning
from camreport.settings import Settings
from camreport.version import __version__

_Made = TypeVar("_Made")

if TYPE_CHECKING:
    from torch import nn

    from camreport.network.survey import Call
    from camreport.pipeline.local import Summary
    from camreport.results.reader import Record

PROGRESS = "{percentage:3.0f}% |{bar}| {n:.1f} of {total} images, {elapsed} gone, {remaining} to go"
"""How progress is drawn; a part of an image counts as such."""

MANY_FIGURES = 1000
"""Figures that are written without asking."""

MAX_LISTED = 10
"""Most lines of predictions, classes or failures that are printed."""

MACHINE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.EBADF)
"""What a disk answers that is full, read-only or broken."""

EXAMPLES = """\b
Examples:
  camreport run photos/                         write report/index.html
  camreport run cat.jpg dog.jpg --model resnet18 --classes top3 --methods all
  camreport run photos/ --checkpoint net.pth --class-names cat,dog --labels folder
"""


class Commands(click.Group):
    """The commands; as a program of its own it has our errors and exit codes."""

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return the command of that name.

        Raises:
            click.UsageError: there is none.
        """
        command = super().get_command(ctx, name)
        if command is None and not ctx.resilient_parsing and not name.startswith("-"):
            known = ", ".join(self.commands)
            raise click.UsageError(
                f"command: expected one of {known}, got {name!r}.{suggestion(name, self.commands)}"
            )
        return command

    def make_context(self, *given: Any, **extra: Any) -> click.Context:
        """Read the options; a reader who has gone is no error."""
        with _reader_may_go():
            return super().make_context(*given, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a reader who has gone is no error."""
        with _reader_may_go():
            return super().invoke(ctx)

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        *,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and, unless it is embedded, exit with the codes above."""
        if not standalone_mode:
            return super().main(args, prog_name, standalone_mode=False, **extra)
        sys.exit(_exit_code(args, prog_name, **extra))


@contextmanager
def _reader_may_go() -> Iterator[None]:
    """End quietly when standard output is a pipe that nobody reads any more."""
    try:
        yield
    except BrokenPipeError:
        console.silence(error=False)
        raise click.exceptions.Exit(0) from None


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="camreport")
def cli() -> None:
    """Show where a CNN looks: class-activation maps of every image, layer, class and method."""


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
    from tqdm import tqdm

    import camreport

    told: list[str] = []

    def notify(message: str) -> None:
        told.append(message)
        if not quiet:
            _print_notice(message)

    with (
        warnings.catch_warnings(),
        tqdm(disable=_hidden(quiet), delay=1e-9, leave=False, bar_format=PROGRESS) as bar,
    ):
        if quiet:
            warnings.simplefilter("ignore")
        summary = camreport.run(
            inputs,
            out,
            settings=options.settings_of(ctx),
            export=_export_figures,
            found=bar.reset,
            progress=bar.update,
            notify=notify,
        )
    _print_failed(summary)
    if not quiet:
        _print_summary(summary, verbose, told)
    ctx.exit(1 if summary.failed else 0)


@cli.command(
    cls=options.GroupedCommand,
    params=[
        click.Argument(["out"], type=options.HomePath()),
        *options.from_settings(Settings, lambda each: each.group == "Drawing", "as before"),
        options.DEBUG,
    ],
)
@click.pass_context
def render(ctx: click.Context, /, out: Path, **_: object) -> None:
    """Build OUT/index.html again from OUT/results/, without computing anything."""
    from tqdm import tqdm

    from camreport.files import locked
    from camreport.report.gallery import render_gallery
    from camreport.results.reader import find_results

    where = find_results(out).parent
    with locked(where), tqdm(disable=_hidden(), leave=False, unit=" images") as bar:
        report = render_gallery(out, progress=bar.update, **options.given(ctx))
    _print_report(report)


@cli.command(
    params=[
        click.Argument(["out"], type=options.HomePath()),
        options.switch("--pdf", "OUT/report.pdf, printed by an installed Chromium."),
        options.switch("--figures", "OUT/figures/: a sheet per image, a PNG per map."),
        options.switch("--csv", "OUT/maps.csv: one line per map."),
        options.switch("--zip", "OUT.zip: the report and what else there is."),
        options.switch("--yes", "Do not ask before thousands of figures are written."),
        options.DEBUG,
    ],
)
def export(out: Path, pdf: bool, figures: bool, csv: bool, zip: bool, yes: bool) -> None:
    """Write the report in OUT in other forms, without computing anything."""
    from camreport.files import locked
    from camreport.results.reader import find_results

    if not (pdf or figures or csv or zip):
        raise click.UsageError("choose a form: --pdf, --figures, --csv or --zip.")
    with locked(find_results(out).parent):
        _export(out, pdf, figures, csv, zip, yes)


def _export(out: Path, pdf: bool, figures: bool, table: bool, archive: bool, yes: bool) -> None:
    from camreport.report import export as forms
    from camreport.report.gallery import printable

    if pdf:
        with printable(out) as page:
            result(f"document: {forms.export_document(out, page).resolve().as_uri()}")
    if figures:
        count = forms.count_figures(out)
        if not (yes or _agreed(count)):
            raise click.UsageError(f"--figures would write {count:,} files. Add --yes to agree.")
        written = _with_progress(forms.export_figures, out, " images")
        result(f"figures: {len(written)} in {written[0].parent.resolve().as_uri()}")
    if table:
        path = _with_progress(forms.export_table, out, " images")
        result(f"table: {path.resolve().as_uri()}")
    if archive:
        path = _with_progress(forms.export_archive, out, " files", forms.count_packed(out))
        result(f"archive: {path.resolve().as_uri()}")
        if forms.is_outdated(out):
            console.warning(
                f"{forms.DOCUMENT} is older than the report and stays outside; --pdf --zip prints "
                "it anew"
            )


def _with_progress(
    form: Callable[[Path, Callable[[int], object]], _Made],
    out: Path,
    unit: str,
    total: int | None = None,
) -> _Made:
    """Make a form of a report and show how far it is, on a terminal."""
    from tqdm import tqdm

    from camreport.results.reader import load_results

    if total is None:
        total = sum(record["status"] == "ok" for record in load_results(out).images)
    with tqdm(total=total, disable=_hidden(), leave=False, unit=unit) as bar:
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
        console.note(f"{count:,} figures were not written. Write them with: {again}")


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
    """List a model's layers in the order in which they run: what a map of each would read."""
    from camreport.api import check_loading

    settings = options.settings_of(ctx)
    check_loading(settings)
    from camreport.api import load
    from camreport.network.choose import choose_stages
    from camreport.network.survey import sample_image, survey

    loaded = load(settings)
    size = loaded.preprocessing.size
    calls = survey(loaded.module, sample_image(size), loaded.output)
    chosen = choose_stages(loaded.module, calls)
    head = ("", "address", "type", "output", "stride", "parameters", "a map reads", "gradient")
    rows: list[tuple[str, ...]] = [head]
    ran = {call.address: call for child in calls for call in child.inside()}
    for address, call in ran.items():
        rows.append(_layer_row(loaded.module, call, ran, size, address in chosen, tree))
    console.table(rows, right=(5, 7))
    result()
    result(
        f"* is chosen by --layers auto. Outputs are those for an image of {size[0]} x {size[1]}."
    )
    result("Gradient: fraction of the values read that the top class's gradient reaches, for noise")
    result("as an image. A layer without a map has -.")


@cli.command()
def methods() -> None:
    """List the methods: key, name, what they need and cost, where they make sense, source."""
    rows = [("key", "name", "needs", "cost", "layers", "source")] + [
        (m.key, m.name, m.needs.name, m.needs.cost, m.layers, m.source) for m in METHODS.values()
    ]
    console.table(rows)


def main() -> NoReturn:
    """Run the command line and exit with the codes above."""
    for stream in (sys.stdout, sys.stderr):  # a terminal without UTF-8 gets escapes, no crash
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    cli.main(prog_name="camreport")
    raise AssertionError("the command line exits by itself")


def _exit_code(
    words: Sequence[str] | None = None, prog_name: str | None = "camreport", **extra: Any
) -> int:
    """Run a command; print what stopped it and return the exit code."""
    remembered: dict[str, bool] = {}
    try:
        with warnings.catch_warnings():
            warnings.showwarning = console.library_warning
            done: int = cli.main(words, prog_name, standalone_mode=False, obj=remembered, **extra)
            return done or 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.UsageError as error:
        console.error(options.said_of(error))
        return 2
    except (click.Abort, KeyboardInterrupt):
        console.note(
            "interrupted. Results already written are kept: the same command goes on from there."
        )
        return 130
    except SystemExit as error:  # of a model's own code: Click's come back as numbers
        console.error(
            "model: expected code that returns, but the model's own ended the program "
            f"(sys.exit({error.code!r})). Take that out of it."
        )
        return 2
    except Exception as error:
        if remembered.get("debug"):
            traceback.print_exc()
        return _told(error)


def _told(error: Exception) -> int:
    """Say what stopped a command; return the exit code."""
    if isinstance(error, CamReportError):
        console.error(str(error))
        return 2
    if isinstance(error, OSError) and (error.filename or error.errno in MACHINE_ERRORS):
        what = f"file: {str(error.filename)!r} cannot be read or written"
        console.error(
            f"{what if error.filename else 'output: what is printed cannot be written'} "
            f"({error.strerror}). Free some space, or choose another place; the same command goes "
            "on where it stopped."
        )
        console.silence(error=False)
        return 2
    console.error(f"{type(error).__name__}: {error}", "internal error")
    console.detail("This is a bug of camreport, or of the model's own code; --debug shows where.")
    return 3


def _layer_row(
    module: "nn.Module",
    call: "Call",
    ran: Mapping[str, "Call"],
    image: tuple[int, int],
    chosen: bool,
    tree: bool,
) -> tuple[str, ...]:
    """Return one line of the table of layers."""
    from camreport.network.address import resolve_layer

    used, address = call.used, call.address
    if tree:
        address = "  " * call.depth + address.rpartition(".")[2]
    shape, stride, reads = "-", "", "-"
    if call.shape is not None:
        shape = " x ".join(map(str, call.shape)) or "1"
    if call.grid:
        strides = [f"{side / own:.3g}" for side, own in zip(image, call.grid.size, strict=True)]
        stride = " x ".join(dict.fromkeys(strides))
        layer = resolve_layer(module, call.address)
        reads = str(layer.tensor)
        if not call.grid.plain:
            reads += f" as {call.grid.size[0]} x {call.grid.size[1]}"
        if layer.source != call.address:
            reads += f" ({layer.source})"
            used = ran[layer.source].used if layer.source in ran else None
    own = sum(parameter.numel() for parameter in call.module.parameters())
    return (
        "*" if chosen else "",
        address,
        type(call.module).__name__,
        shape,
        stride,
        f"{own:,}" if own else "",
        reads,
        "" if used is None else f"{used:.0%}",
    )


def _hidden(quiet: bool = False) -> bool | None:
    """Say whether progress is not shown; None leaves it to whether there is a terminal."""
    return True if quiet or sys.stderr is None else None


def _print_notice(message: str) -> None:
    """Print what a run says of itself."""
    kind, _, text = message.partition("warning: ")
    if kind:
        console.note(message)
    else:
        console.warning(text)


def _print_summary(summary: "Summary", verbose: bool, told: Sequence[str]) -> None:
    from camreport.images.preprocessing import Preprocessing
    from camreport.report.appearance import format_probability
    from camreport.report.gallery.language import words_of
    from camreport.report.gallery.prose import format_cost, format_families
    from camreport.results.reader import REPORT, load_results

    manifest = load_results(summary.out).manifest
    result(f"preprocessing: {Preprocessing.from_dict(manifest['preprocessing'])}")
    for note in summary.notes:
        if note not in told:
            _print_notice(note)
    if verbose:
        for layer in manifest["layers"]:
            shape = " x ".join(map(str, layer["shape"]))
            result(f"{layer['address']}: {layer['type']}, {layer['tensor']}, {shape}")
    readable = [record for record in manifest["images"] if record["status"] == "ok"]
    for record in readable[:MAX_LISTED]:
        top = ", ".join(
            f"{entry['name']} {format_probability(entry['probability'])}"
            for entry in record["top"][:3]
        )
        result(f"{record['file']}: {top}")
    if len(readable) > MAX_LISTED:
        result(f"... and {len(readable) - MAX_LISTED} more images")
    _print_accuracy(manifest)
    if summary.reused:
        result(f"{summary.reused} of {summary.total} inputs were kept from an earlier run")
    if summary.reused == summary.total:
        result(f"nothing new to compute; it took {format_cost(summary.cost, words_of('en'))}")
    else:
        result(format_cost(summary.cost, words_of("en")))
    families = format_families(summary.cost, words_of("en"))
    if len(families) > 1:
        for name, said in families:
            result(f"  {name}: {said}")
    _print_report(summary.out / REPORT)


def _print_accuracy(manifest: "Record") -> None:
    """Print how often predictions and true classes agree, overall and for each class."""
    names = [entry["name"] for entry in manifest["classes"]]
    counted = accuracy(manifest["images"])
    if counted is None:
        return
    share = counted.right / counted.total
    result(f"accuracy: {counted.right} of {counted.total} right ({share:.1%})")
    worst_first = sorted(counted.by_class.items(), key=lambda entry: entry[1][0] / entry[1][1])
    for index, (right, total) in worst_first[:MAX_LISTED]:
        result(f"  {names[index]}: {right} of {total} right")
    if len(worst_first) > MAX_LISTED:
        result(f"  ... and {len(worst_first) - MAX_LISTED} more classes")
    if warning := order_warning(manifest["images"], names):
        console.warning(f"{warning}. Are the names given as --class-names in the model's order?")


def _print_failed(summary: "Summary") -> None:
    if summary.failed:
        console.warning(f"{len(summary.failed)} of {summary.total} inputs could not be read:")
    for record in summary.failed[:MAX_LISTED]:
        console.detail(f"{record['file']}: {record['reason']}")
    if len(summary.failed) > MAX_LISTED:
        console.detail(f"... and {len(summary.failed) - MAX_LISTED} more, see the report")


def _print_report(report: Path) -> None:
    from camreport.report.gallery.render import SINGLE_LIMIT
    from camreport.results.reader import DATA

    size, beside = report.stat().st_size, report.with_name(DATA).is_dir()
    if size > SINGLE_LIMIT and not beside:
        console.warning(
            f"the report has {size / 2**20:.0f} MB in one file. It opens slowly and many portals "
            "refuse it: --folder puts the data beside the page."
        )
    if beside:
        console.note(f"the report needs the folder {DATA}/ beside it: keep them together")
    result(f"report: {report.resolve().as_uri()}")
