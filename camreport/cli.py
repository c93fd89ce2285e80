"""The command line: the only place that prints.

Exit codes: 0 all well; 1 finished, but some inputs failed; 2 bad usage or nothing to do;
3 internal error; 130 interrupted. Nothing is imported here that imports torch before it has
something to compute.
"""

import io
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Unpack

import click

from camreport import __version__
from camreport.errors import CamReportError, ClassError
from camreport.methods import DEFAULT_METHODS, METHODS, resolve_methods

if TYPE_CHECKING:
    from torch import nn

    from camreport.gallery.render import Layout
    from camreport.images import PreprocessingChanges
    from camreport.pipeline import Summary
    from camreport.survey import Call

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


def _numbers(
    _ctx: click.Context, parameter: click.Parameter, value: str | None
) -> list[float] | None:
    """Read numbers with commas between them."""
    if value is None:
        return None
    try:
        return [float(number) for number in _listed(value)]
    except ValueError as error:
        raise click.BadParameter(f"expected three numbers, got {value!r}.") from error


def _image_size(
    _ctx: click.Context, _parameter: click.Parameter, value: str | None
) -> int | list[int] | None:
    """Read one number of pixels, or height and width."""
    if value is None:
        return None
    sides = value.lower().replace("×", "x").replace("，", ",").replace(",", "x").split("x")
    if not all(side.strip().isdecimal() for side in sides) or len(sides) > 2:
        raise click.BadParameter(
            f"expected pixels such as 224, or 224x320 (high x wide), got {value!r}."
        )
    return int(sides[0]) if len(sides) == 1 else [int(side) for side in sides]


_MODEL_OPTIONS = (
    click.option(
        "--model",
        default="catdog-alexnet",
        show_default=True,
        metavar="NAME",
        help="catdog-alexnet (bundled), efficientnet-lite0, a torchvision classifier such as "
        "resnet18, timm:NAME, or your own code as file.py:build or package.module:build.",
    ),
    click.option(
        "--checkpoint",
        type=click.Path(path_type=Path),
        help="File with weights: PyTorch, safetensors, TorchScript, or a Keras VGG16. Without "
        "--model, an AlexNet, VGG or ResNet is told by its tensors.",
    ),
    click.option(
        "--weights",
        default="default",
        show_default=True,
        type=click.Choice(["default", "none"]),
        help="none: the architecture with random weights.",
    ),
    click.option(
        "--trust-checkpoint",
        is_flag=True,
        help="Open a checkpoint that can run code on this machine. Only for files you made.",
    ),
    click.option(
        "--output", metavar="KEY", help="Which part of what the model returns holds the logits."
    ),
    click.option(
        "--image-size", metavar="N|HxW", callback=_image_size, help="Of the model input, in pixels."
    ),
    click.option(
        "--resize",
        type=click.Choice(["squash", "short-side", "none"]),
        help="squash the whole image; fit its shorter side and cut out the centre; or take images "
        "that have the size already.",
    ),
    click.option(
        "--mean", metavar="A,B,C", callback=_numbers, help="Subtracted from each channel."
    ),
    click.option("--std", metavar="A,B,C", callback=_numbers, help="Divides each channel."),
    click.option("--channel-order", type=click.Choice(["rgb", "bgr"]), help="Of the model input."),
    click.option(
        "--scale",
        type=click.Choice(["1", "255"]),
        callback=lambda _ctx, _parameter, value: value and int(value),
        help="The value of white, in whose unit mean and std are.",
    ),
)


def _model_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which model is meant, and how it takes images."""
    for option in reversed(_MODEL_OPTIONS):
        command = option(command)
    return command


def _layout_option(standard: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        "--single-file/--folder",
        "single",
        default=None,
        help="One HTML file, or a page with a folder of data beside it, for many images.  "
        f"[default: {standard}]",
    )


def _layout(single: bool | None) -> "Layout | None":
    if single is None:
        return None
    return "single" if single else "folder"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="camreport")
def cli() -> None:
    """Show where a CNN looks: class-activation maps of every image, layer, class and method."""


@cli.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Report folder.")
@_model_options
@click.option(
    "--class-names",
    metavar="A,B|FILE",
    help="One name per class index; a file has one per line, or JSON.",
)
@click.option(
    "--classes",
    default="auto",
    metavar="all|top3|0,1|cat,dog",
    help="What to explain.  [default: all of up to 2 classes, else top3]",
)
@click.option(
    "--labels",
    metavar="folder|FILE",
    help="True classes, for a badge: the folders' names, or a CSV of image and class.",
)
@click.option(
    "--label-map",
    metavar="cat=281-285,dog=151-268",
    help="Which classes the words for labels stand for, where they are not the model's own names.",
)
@click.option(
    "--layers",
    default="auto",
    metavar="0,3|features.12|layer*|auto",
    help="Where to look; ':pre' reads in front of the activation; see 'camreport layers'.  "
    "[AlexNet: 0,3,6,9,12]",
)
@click.option(
    "--channels",
    metavar="LAYERS",
    help="Ship the feature maps of these layers for the channel view, named as for --layers.",
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
@_layout_option("a folder above 15 MB")
@click.option(
    "--lang",
    "language",
    default="en",
    show_default=True,
    type=click.Choice(["en", "zh"]),
    help="Language that the report opens in; readers can switch.",
)
@click.option("--figures", is_flag=True, help="Write OUT/figures/ too: a PNG for each map.")
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
    weights: str,
    trust_checkpoint: bool,
    output: str | None,
    class_names: str | None,
    classes: str,
    labels: str | None,
    label_map: str | None,
    layers: str,
    channels: str | None,
    methods: str,
    quantity: str,
    gamma: float,
    stages: int | None,
    smooth: str,
    seed: int,
    device: str,
    batch_size: int | None,
    single: bool | None,
    language: str,
    figures: bool,
    overwrite: bool,
    quiet: bool,
    verbose: bool,
    **changes: Unpack["PreprocessingChanges"],
) -> None:
    """Explain images (files, folders or patterns) and write OUT/index.html and OUT/results/."""
    from camreport.images import find_images
    from camreport.results import check_output

    resolve_methods(methods)
    check_output(out, overwrite)
    total = len(find_images(inputs, exclude=out))
    names = None if class_names is None else _class_names(class_names)

    from tqdm import tqdm

    import camreport

    told: list[str] = []

    def notify(message: str) -> None:
        told.append(message)
        if not quiet:
            said = message if message.startswith("warning:") else f"note: {message}"
            bar.write(said, file=sys.stderr)

    with tqdm(
        total=total, disable=True if quiet else None, leave=False, bar_format=PROGRESS
    ) as bar:
        summary = camreport.run(
            inputs,
            out,
            model=model,
            checkpoint=checkpoint,
            weights=weights,
            trust_checkpoint=trust_checkpoint,
            output=output,
            class_names=names,
            classes=classes,
            labels=labels,
            label_map=label_map,
            layers=None if layers == "auto" else _listed(layers),
            channels=None if channels is None else _listed(channels),
            methods=methods,
            device=device,
            batch_size=batch_size,
            quantity=quantity,
            gamma=gamma,
            stages=stages,
            smooth=smooth,
            seed=seed,
            overwrite=overwrite,
            layout=_layout(single) or "auto",
            language=language,
            figures=figures,
            progress=bar.update,
            notify=notify,
            **changes,
        )
    _print_failed(summary)
    if not quiet:
        _print_summary(summary, verbose, told)
    ctx.exit(1 if summary.failed else 0)


@cli.command()
@click.argument("out", type=click.Path(path_type=Path))
@_layout_option("as before")
@click.option(
    "--lang",
    "language",
    type=click.Choice(["en", "zh"]),
    help="Language that the report opens in.  [default: as before]",
)
@_debug
def render(out: Path, single: bool | None, language: str | None) -> None:
    """Build OUT/index.html again from OUT/results/, without computing anything."""
    from tqdm import tqdm

    from camreport.gallery import render_gallery

    with tqdm(disable=None, leave=False, unit=" images") as bar:
        report = render_gallery(out, layout=_layout(single), language=language, progress=bar.update)
    _print_report(report)


@cli.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--pdf", is_flag=True, help="OUT/report.pdf, printed by an installed Chromium.")
@click.option("--figures", is_flag=True, help="OUT/figures/: a sheet per image, a PNG per map.")
@click.option("--csv", "table", is_flag=True, help="OUT/maps.csv: one line per map.")
@click.option("--zip", "archive", is_flag=True, help="OUT.zip: report, figures and table.")
@_debug
def export(out: Path, pdf: bool, figures: bool, table: bool, archive: bool) -> None:
    """Write the report in OUT in other forms, without computing anything."""
    from camreport import export as forms
    from camreport.gallery import printable

    if not (pdf or figures or table or archive):
        raise click.UsageError("choose a form: --pdf, --figures, --csv or --zip.")
    if pdf:
        with printable(out) as page:
            click.echo(f"document: {forms.export_document(out, page).resolve().as_uri()}")
    if figures:
        written = forms.export_figures(out)
        click.echo(f"figures: {len(written)} in {written[0].parent.resolve().as_uri()}")
    if table:
        click.echo(f"table: {forms.export_table(out).resolve().as_uri()}")
    if archive:
        click.echo(f"archive: {forms.export_archive(out).resolve().as_uri()}")
        if forms.is_outdated(out):
            click.echo(
                f"warning: {forms.DOCUMENT} is older than the report and stays outside; "
                "--pdf --zip prints it anew",
                err=True,
            )


@cli.command()
@_model_options
@click.option("--tree", is_flag=True, help="Show what lies inside what.")
@_debug
def layers(
    model: str,
    checkpoint: Path | None,
    weights: str,
    trust_checkpoint: bool,
    output: str | None,
    tree: bool,
    **changes: Unpack["PreprocessingChanges"],
) -> None:
    """List a model's layers in the order in which they run: what a map of each would read."""
    import camreport
    from camreport.survey import choose_stages, sample_image, survey

    loaded = camreport.load_model(
        model,
        checkpoint=checkpoint,
        weights=weights,
        trust_checkpoint=trust_checkpoint,
        output=output,
        **changes,
    )
    size = loaded.preprocessing.size
    calls = survey(loaded.module, sample_image(size), loaded.output)
    chosen = choose_stages(loaded.module, calls)
    head = ("", "address", "type", "output", "stride", "parameters", "a map reads", "gradient")
    rows: list[tuple[str, ...]] = [head]
    ran = {call.address: call for child in calls for call in child.inside()}
    for address, call in ran.items():
        rows.append(_layer_row(loaded.module, call, ran, size, address in chosen, tree))
    _print_table(rows, right=(5, 7))
    click.echo(
        f"\n* is taken by --layers auto. Outputs are those for an image of {size[0]} x {size[1]}.\n"
        "Gradient: share of the values read that the top class's gradient reaches, for noise as\n"
        "an image. A layer without a map has -."
    )


@cli.command()
def methods() -> None:
    """List the methods: key, name, what they need and cost, where they make sense, source."""
    rows = [("key", "name", "needs", "cost", "layers", "source")] + [
        (m.key, m.name, m.needs.name, m.needs.cost, m.layers, m.source) for m in METHODS.values()
    ]
    _print_table(rows)


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
            "\ninterrupted. Results already written are kept: the same command goes on from there.",
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


def _print_table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Print rows in columns; those of the given numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())


def _layer_row(
    module: "nn.Module",
    call: "Call",
    ran: Mapping[str, "Call"],
    image: tuple[int, int],
    chosen: bool,
    tree: bool,
) -> tuple[str, ...]:
    """Return one line of the table of layers."""
    from camreport.layers import resolve_layer

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
        reads = layer.tensor
        if not call.grid.plain:
            reads += f" as {call.grid.size[0]} x {call.grid.size[1]}"
        if layer.reads != call.address:
            reads += f" ({layer.reads})"
            used = ran[layer.reads].used if layer.reads in ran else None
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


def _print_traceback() -> None:
    if "--debug" in sys.argv:
        traceback.print_exc()


def _print_summary(summary: "Summary", verbose: bool, told: Sequence[str]) -> None:
    from camreport.drawing import format_probability
    from camreport.gallery.language import words_of
    from camreport.gallery.prose import format_cost, format_families
    from camreport.images import Preprocessing
    from camreport.results import REPORT, load_results

    manifest = load_results(summary.out).manifest
    click.echo(f"preprocessing: {Preprocessing.from_dict(manifest['preprocessing'])}")
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
        click.echo(f"nothing new to compute; it took {format_cost(summary.cost, words_of('en'))}")
    else:
        click.echo(format_cost(summary.cost, words_of("en")))
    families = format_families(summary.cost, words_of("en"))
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
    from camreport.gallery.render import SINGLE_LIMIT
    from camreport.results import DATA

    size, beside = report.stat().st_size, report.with_name(DATA).is_dir()
    if size > SINGLE_LIMIT and not beside:
        click.echo(
            f"warning: the report has {size / 2**20:.0f} MB in one file. It opens slowly and many "
            "portals refuse it: --folder puts the data beside the page.",
            err=True,
        )
    if beside:
        click.echo(f"the report needs the folder {DATA}/ beside it: keep them together")
    click.echo(f"report: {report.resolve().as_uri()}")


def _class_names(given: str) -> list[str]:
    """Read names from a file, or from a list (commas of either width)."""
    from camreport.classes import read_class_names

    if not os.path.isfile(given):
        if given.endswith((".txt", ".json")):
            raise ClassError(f"class names: there is no file {given!r}.")
        return _listed(given)
    return read_class_names(Path(given))


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.replace("，", ",").split(",") if part.strip()]
