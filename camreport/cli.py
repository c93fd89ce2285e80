"""The command line: the only place that prints.

Exit codes: 0 all well; 1 finished, but some inputs failed; 2 bad usage or nothing to do;
3 internal error; 130 interrupted. Nothing is imported here that imports torch before it has
something to compute.
"""

import io
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from camreport import __version__
from camreport.errors import CamReportError, ClassError
from camreport.methods import DEFAULT_METHODS, METHODS, resolve_methods

if TYPE_CHECKING:
    from camreport.pipeline import Summary

PROGRESS = "{percentage:3.0f}% |{bar}| {n:.1f} of {total} images, {elapsed} gone, {remaining} to go"
"""How progress is drawn; a part of an image counts as such."""

LISTED = 10
"""Most lines of predictions or failures that are printed."""

_debug = click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")


def _batch_size(_ctx: click.Context, _parameter: click.Parameter, value: str) -> int | None:
    """Read ``auto`` or a positive number."""
    if value == "auto":
        return None
    if value.isdecimal() and int(value) > 0:
        return int(value)
    raise click.BadParameter(f"expected 'auto' or a number from 1, got {value!r}.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="camreport")
def cli() -> None:
    """Show where a CNN looks: class-activation maps of every image, layer, class and method."""


@cli.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Report folder.")
@click.option(
    "--model",
    default="catdog-alexnet",
    show_default=True,
    help="catdog-alexnet (bundled) or a torchvision classifier such as resnet18.",
)
@click.option("--checkpoint", type=click.Path(path_type=Path), help="File with weights for it.")
@click.option(
    "--class-names", metavar="A,B|FILE", help="One name per class index; a file has one per line."
)
@click.option(
    "--classes",
    default="auto",
    metavar="all|top3|0,1|cat,dog",
    help="What to explain.  [default: all of up to 2 classes, else top3]",
)
@click.option(
    "--layers",
    default="auto",
    metavar="0,3|features.12,layer4|auto",
    help="Where to look; ':pre' reads in front of the activation.  [AlexNet: 0,3,6,9,12]",
)
@click.option(
    "--methods",
    default=",".join(DEFAULT_METHODS),
    show_default=True,
    metavar="NAMES|all",
    help="Which methods to compare; see 'camreport methods'.",
)
@click.option(
    "--quantity",
    default="logit",
    show_default=True,
    metavar="logit|probability|contrast|contrast:CLASS",
    help="What of a class is explained; contrast: its lead over the strongest other, or over one.",
)
@click.option(
    "--gamma", default=2.0, show_default=True, help="How far LayerCAM's fusion lifts early layers."
)
@click.option(
    "--stages", type=int, help="How many early stages it lifts.  [default: 3 of 5, else all but 1]"
)
@click.option(
    "--smooth",
    default="",
    metavar="noise,aug,eigen",
    help="Average over noisy, or mirrored and brighter copies; keep the first component.",
)
@click.option("--seed", default=0, show_default=True, help="Of the noise.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda|mps")
@click.option(
    "--batch-size", default="auto", show_default=True, metavar="auto|N", callback=_batch_size
)
@click.option("--overwrite", is_flag=True, help="Use an output folder that holds something else.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
@click.option("--verbose", is_flag=True, help="Print what each map was read from.")
@_debug
@click.pass_context
def run(
    ctx: click.Context,
    inputs: tuple[str, ...],
    out: Path,
    model: str,
    checkpoint: Path | None,
    class_names: str | None,
    classes: str,
    layers: str,
    methods: str,
    quantity: str,
    gamma: float,
    stages: int | None,
    smooth: str,
    seed: int,
    device: str,
    batch_size: int | None,
    overwrite: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Explain images (files, folders or patterns) and write OUT/index.html and OUT/results/."""
    from camreport.images import find_images
    from camreport.results import check_output

    resolve_methods(methods)
    check_output(out, overwrite)
    total = len(find_images(inputs, exclude=out / "results"))
    names = None if class_names is None else _class_names(class_names)

    from tqdm import tqdm

    import camreport

    told: list[str] = []

    def notify(message: str) -> None:
        told.append(message)
        if not quiet:
            bar.write(f"note: {message}", file=sys.stderr)

    with tqdm(
        total=total, disable=True if quiet else None, leave=False, bar_format=PROGRESS
    ) as bar:
        summary = camreport.run(
            inputs,
            out,
            model=model,
            checkpoint=checkpoint,
            class_names=names,
            classes=classes,
            layers=None if layers == "auto" else _listed(layers),
            methods=methods,
            device=device,
            batch_size=batch_size,
            quantity=quantity,
            gamma=gamma,
            stages=stages,
            smooth=smooth,
            seed=seed,
            overwrite=overwrite,
            progress=bar.update,
            notify=notify,
        )
    _print_failed(summary)
    if not quiet:
        _print_summary(summary, verbose, told)
    ctx.exit(1 if summary.failed else 0)


@cli.command()
@click.argument("out", type=click.Path(path_type=Path))
@_debug
def render(out: Path) -> None:
    """Build OUT/index.html again from OUT/results/, without computing anything."""
    from camreport.gallery import render_gallery

    _print_report(render_gallery(out))


@cli.command()
def methods() -> None:
    """List the methods: key, name, what they need and cost, where they make sense, source."""
    rows = [("key", "name", "needs", "cost", "layers", "source")] + [
        (m.key, m.name, m.needs.name, m.needs.cost, m.layers, m.source) for m in METHODS.values()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(map(str.ljust, row, widths)).rstrip())


def main() -> NoReturn:
    """Run the command line and exit with the codes above."""
    for stream in (sys.stdout, sys.stderr):  # a terminal without UTF-8 gets escapes, no crash
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_exit_code())


def _exit_code() -> int:
    try:
        return cli.main(prog_name="camreport", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo(
            "\ninterrupted. What was finished is kept: the same command goes on from there.",
            err=True,
        )
        return 130
    except CamReportError as error:
        _print_traceback()
        click.echo(f"error: {error}", err=True)
        return 2
    except Exception as error:
        _print_traceback()
        click.echo(
            f"internal error: {type(error).__name__}: {error}\n"
            "This is a bug of camreport, or of the model's own code; --debug shows where.",
            err=True,
        )
        return 3


def _print_traceback() -> None:
    if "--debug" in sys.argv:
        traceback.print_exc()


def _print_summary(summary: "Summary", verbose: bool, told: Sequence[str]) -> None:
    from camreport.gallery.cards import format_probability
    from camreport.gallery.page import format_cost, format_families
    from camreport.results import REPORT, load_results

    manifest = load_results(summary.out).manifest
    for note in summary.notes:
        if note not in told:
            click.echo(f"note: {note}")
    if verbose:
        for layer in manifest["layers"]:
            shape = " x ".join(map(str, layer["shape"]))
            click.echo(f"{layer['address']}: {layer['type']}, {layer['tensor']}, {shape}")
    readable = [record for record in manifest["images"] if record["status"] == "ok"]
    for record in readable[:LISTED]:
        top = ", ".join(
            f"{entry['name']} {format_probability(entry['probability'])}"
            for entry in record["top"][:3]
        )
        click.echo(f"{record['file']}: {top}")
    if len(readable) > LISTED:
        click.echo(f"... and {len(readable) - LISTED} more images")
    if summary.reused:
        click.echo(f"{summary.reused} of {summary.total} inputs were kept from an earlier run")
    if summary.reused == summary.total:
        click.echo(f"nothing new to compute; it took {format_cost(summary.cost)}")
    else:
        click.echo(format_cost(summary.cost))
    families = format_families(summary.cost)
    if len(families) > 1:
        for name, said in families:
            click.echo(f"  {name}: {said}")
    _print_report(summary.out / REPORT)


def _print_failed(summary: "Summary") -> None:
    if summary.failed:
        click.echo(f"{len(summary.failed)} of {summary.total} inputs could not be read:", err=True)
    for record in summary.failed[:LISTED]:
        click.echo(f"  {record['file']}: {record['reason']}", err=True)
    if len(summary.failed) > LISTED:
        click.echo(f"  ... and {len(summary.failed) - LISTED} more, see the report", err=True)


def _print_report(report: Path) -> None:
    from camreport.gallery.render import SIZE_WARNING

    size = report.stat().st_size
    if size > SIZE_WARNING:
        click.echo(
            f"warning: the report has {size / 2**20:.0f} MB. It opens slowly and many portals "
            "refuse it: explain fewer images, layers or methods at a time.",
            err=True,
        )
    click.echo(f"report: {report.resolve().as_uri()}")


def _class_names(given: str) -> list[str]:
    """Read names from a file (UTF-8, one per line) or from a list (commas of either width)."""
    if not os.path.isfile(given):
        if given.endswith(".txt"):
            raise ClassError(f"class names: there is no file {given!r}.")
        return _listed(given)
    try:
        lines = Path(given).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ClassError(
            f"class names: expected a text file in UTF-8, got {given!r} ({error})."
        ) from error
    return [line.strip() for line in lines if line.strip()]


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.replace("，", ",").split(",") if part.strip()]
