"""The command line's options: how they are read, and how ``--help`` lists them in groups."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from camreport.errors import ClassError, suggestion
from camreport.images.classes import read_class_names
from camreport.methods import DEFAULT_METHODS
from camreport.settings import ACTIVATIONS, AUTO, BUNDLED, GAMMA, WEIGHTS, split_list

GROUPS = ("Input", "Model", "What", "Drawing", "Output", "Other")
"""Headings of ``--help``, in their order."""

Command = Callable[..., None]


class GroupedOption(click.Option):
    """An option that ``--help`` lists under a heading."""

    def __init__(self, *declarations: Any, group: str = GROUPS[-1], **attributes: Any) -> None:
        super().__init__(*declarations, **attributes)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose ``--help`` lists its options group by group."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each group of options under its heading."""
        records: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if isinstance(parameter, click.Option) and record is not None:
                records[getattr(parameter, "group", GROUPS[-1])].append(record)
        for group, listed in records.items():
            if listed:
                with formatter.section(group):
                    formatter.write_dl(listed)


class Number(click.ParamType):  # type: ignore[type-arg]
    """A number; ``kind`` is ``int`` or ``float``."""

    name = "number"

    def __init__(self, kind: type[int] | type[float]) -> None:
        self.kind = kind

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | float:
        """Return the number that a text says."""
        try:
            return self.kind(value)
        except ValueError:
            whole = "a whole number" if self.kind is int else "a number"
            self.fail(f"expected {whole}, got {value!r}.", param, ctx)


class OneOf(click.ParamType):  # type: ignore[type-arg]
    """One of a few words."""

    name = "choice"

    def __init__(self, *words: str) -> None:
        self.words = words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the word as it is."""
        if value not in self.words:
            expected = " or ".join(self.words)
            self.fail(
                f"expected {expected}, got {value!r}.{suggestion(value, self.words)}", param, ctx
            )
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer the words that begin like what is typed."""
        return [CompletionItem(word) for word in self.words if word.startswith(incomplete)]


class HomePath(click.Path):
    """A path; ``~`` is the home folder, also where no shell has seen it (``--out=~/report``)."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path with ``~`` expanded."""
        return super().convert(os.path.expanduser(value), param, ctx)


def batch_size(_ctx: click.Context, _parameter: click.Parameter, value: str) -> int | None:
    """Read ``auto`` or a positive number."""
    if value == "auto":
        return None
    if value.isdecimal() and int(value) > 0:
        return int(value)
    raise click.BadParameter(f"expected 'auto' or a number from 1, got {value!r}.")


def numbers(
    _ctx: click.Context, _parameter: click.Parameter, value: str | None
) -> list[float] | None:
    """Read numbers with commas between them."""
    if value is None:
        return None
    try:
        return [float(number) for number in split_list(value)]
    except ValueError as error:
        raise click.BadParameter(f"expected three numbers, got {value!r}.") from error


def image_size(
    _ctx: click.Context, _parameter: click.Parameter, value: str | None
) -> int | list[int] | None:
    """Read one number of pixels, or height and width."""
    if value is None:
        return None
    sides = value.lower().replace("×", "x").replace("，", ",").replace(",", "x").split("x")
    if not all(side.strip().isdecimal() for side in sides) or len(sides) > 2:
        raise click.BadParameter(
            f"expected pixels such as 224, or 224x320 (height x width), got {value!r}."
        )
    return int(sides[0]) if len(sides) == 1 else [int(side) for side in sides]


def class_names(given: str) -> list[str]:
    """Read names from a file, or from a list with commas of either width.

    Raises:
        ClassError: the file is not there or cannot be read.
    """
    path = os.path.expanduser(given)
    if os.path.isfile(path):  # which a list too long for a name is not
        return read_class_names(Path(path))
    if given.endswith((".txt", ".json")):
        raise ClassError(f"class names: there is no file {given!r}.")
    return split_list(given)


def remember_debug(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    """Note in the context that tracebacks are wanted."""
    ctx.ensure_object(dict)["debug"] = value


_option = partial(click.option, cls=GroupedOption)
_input = partial(_option, group="Input")
_model = partial(_option, group="Model")
_what = partial(_option, group="What")
_drawing = partial(_option, group="Drawing")
_output = partial(_option, group="Output")

debug = _option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=remember_debug,
    help="Show tracebacks.",
)


def _layout(standard: str) -> Callable[[Command], Command]:
    return _drawing(
        "--single-file/--folder",
        "single",
        default=None,
        help="One HTML file, or a page with a folder of data beside it, for many images.  "
        f"[default: {standard}]",
    )


def _language(standard: str | None) -> Callable[[Command], Command]:
    return _drawing(
        "--lang",
        "language",
        default=standard,
        type=OneOf("en", "zh"),
        metavar="en|zh",
        help="Language in which the report opens; readers can switch.  "
        f"[default: {standard or 'as before'}]",
    )


LABELS = (
    _input(
        "--labels",
        metavar="folder|FILE",
        help="True classes, for accuracy and a badge: the folders' names, or a CSV file of image "
        "and class.",
    ),
    _input(
        "--label-map",
        metavar="cat=281-285,dog=151-268",
        help="Classes that the labels' words stand for, where they are not the model's names.",
    ),
)
"""What is true of the inputs."""

MODEL = (
    _model(
        "--model",
        default=BUNDLED,
        show_default=True,
        metavar="NAME",
        help="catdog-alexnet (bundled), efficientnet-lite0, a torchvision classifier such as "
        "resnet18, timm:NAME, or your own code as file.py:build or package.module:build.",
    ),
    _model(
        "--checkpoint",
        type=HomePath(),
        metavar="FILE",
        help="File with weights: PyTorch, safetensors, TorchScript, or a Keras VGG16. Without "
        "--model, AlexNet, VGG and ResNet are recognised from their tensor shapes.",
    ),
    _model(
        "--weights",
        default="default",
        show_default=True,
        type=OneOf(*WEIGHTS),
        metavar="default|none",
        help="none: the architecture with random weights.",
    ),
    _model(
        "--trust-checkpoint",
        is_flag=True,
        help="Open a checkpoint that can run code on this machine. Only for files you made.",
    ),
    _model(
        "--output",
        metavar="KEY",
        help="Key, attribute or index of the logits in the model's output.",
    ),
)
"""Which model is meant."""

PREPROCESSING = (
    _input(
        "--image-size",
        metavar="N|HxW",
        callback=image_size,
        help="Size of the model input, in pixels.",
    ),
    _input(
        "--resize",
        type=OneOf("squash", "short-side", "none"),
        metavar="squash|short-side|none",
        help="Squash the whole image; fit its shorter side and crop the centre; or use images "
        "that have the model's size already.",
    ),
    _input("--mean", metavar="A,B,C", callback=numbers, help="Mean subtracted from each channel."),
    _input(
        "--std",
        metavar="A,B,C",
        callback=numbers,
        help="Standard deviation that divides each channel.",
    ),
    _input(
        "--channel-order",
        type=OneOf("rgb", "bgr"),
        metavar="rgb|bgr",
        help="Channel order of the model input.",
    ),
    _input(
        "--scale",
        type=OneOf("1", "255"),
        metavar="1|255",
        callback=lambda _ctx, _parameter, value: value and int(value),
        help="Pixel value of white; mean and std are in this unit.",
    ),
)
"""How the model takes images."""

CLASSES = (
    _model(
        "--class-names",
        metavar="A,B|FILE",
        help='One name per class index; quote a name that has a comma: "cat, tabby",dog. A file '
        "has one per line, or JSON.",
    ),
    _what(
        "--classes",
        default="auto",
        metavar="all|top3|0,1|cat,dog",
        help="Classes to explain.  [default: all of up to 2 classes, else top3]",
    ),
)
"""What classes the model tells apart, and which are explained."""

WHAT = (
    _what(
        "--layers",
        default="auto",
        metavar="0,3|features.12|layer*|auto",
        help="Layers to explain; ':pre' reads before the activation; 'camreport layers' lists "
        "them.  [AlexNet: 0,3,6,9,12]",
    ),
    _what(
        "--channels",
        metavar="LAYERS",
        help="Layers whose feature maps the report shows channel by channel.",
    ),
    _what(
        "--methods",
        default=",".join(DEFAULT_METHODS),
        show_default=True,
        metavar="NAMES|all",
        help="Methods to compare; 'camreport methods' lists them.",
    ),
    _what(
        "--quantity",
        default="logit",
        show_default=True,
        metavar="logit|probability|contrast|contrast:CLASS",
        help="Score to explain: the class logit, its probability, or its margin over the "
        "runner-up (or over CLASS).",
    ),
    _what(
        "--activation",
        default=AUTO,
        show_default=True,
        type=OneOf(AUTO, *ACTIVATIONS),
        help="What turns the model's outputs into probabilities: a softmax over exclusive classes, "
        "a sigmoid of each class, or nothing. auto recognises it.",
    ),
    _what(
        "--gamma",
        type=Number(float),
        default=GAMMA,
        show_default=True,
        metavar="NUMBER",
        help="Strength of LayerCAM's lift for early layers in the fused map.",
    ),
    _what(
        "--stages",
        type=Number(int),
        metavar="N",
        help="Number of early stages that are lifted.  [default: 3 of 5, else all but the last]",
    ),
    _what(
        "--smooth",
        default="",
        metavar="noise,aug,eigen",
        help="Average over noisy copies (noise) or mirrored and brighter ones (aug); keep the "
        "first principal component (eigen).",
    ),
    _what(
        "--seed",
        type=Number(int),
        default=0,
        show_default=True,
        metavar="N",
        help="Random seed for the smoothing noise.",
    ),
    _what(
        "--device",
        default="auto",
        show_default=True,
        metavar="auto|cpu|cuda|mps",
        help="Device to compute on.",
    ),
    _what(
        "--batch-size",
        default="auto",
        show_default=True,
        metavar="auto|N",
        callback=batch_size,
        help="Images per batch.",
    ),
)
"""What is computed, and where."""

DRAWING = (_layout("a folder above 15 MB"), _language("en"))
"""How the report looks."""

DRAWING_AGAIN = (_layout("as before"), _language(None))
"""How the report looks that is built again."""

OUTPUT = (
    _output(
        "-o",
        "--out",
        default="report",
        show_default=True,
        type=HomePath(),
        metavar="FOLDER",
        help="Folder for the report.",
    ),
    _output("--figures", is_flag=True, help="Also write OUT/figures/: a PNG for each map."),
    _output("--overwrite", is_flag=True, help="Use an output folder that holds something else."),
    _output("--quiet", is_flag=True, help="Print errors only."),
    _output("--verbose", is_flag=True, help="Print which tensor each map was read from."),
)
"""Where the report goes, and what is printed."""


def with_options(
    *options: Callable[[Command], Command],
) -> Callable[[Command], Command]:
    """Return a decorator that adds options in their order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def argument_of(error: click.UsageError) -> str:
    """Return the name of the argument that is wrong, as our own errors have it."""
    parameter = getattr(error, "param", None)
    if parameter is None:
        return ""
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len).lstrip("-")
    return "input" if parameter.name == "inputs" else str(parameter.name)


def said_of(error: click.UsageError) -> str:
    """Return a usage error in the words of our own errors: what was expected, got, and next."""
    path = error.ctx.command_path if error.ctx else "camreport"
    argument = argument_of(error)
    if isinstance(error, click.NoSuchOption):
        near = suggestion(error.option_name, error.possibilities or ())
        return (
            f"option: expected one of {path}, got {error.option_name!r}.{near} "
            f"All options: {path} --help"
        )
    if isinstance(error, click.MissingParameter):
        what = "an image, a folder or a pattern" if argument == "input" else "a value"
        return f"{argument}: expected {what}, got none. For instance: {path} photos/"
    if argument:
        return f"{argument}: {error.message}"
    message = error.message[:1].lower() + error.message[1:]
    return message if message.startswith("command:") else f"{message} See: {path} --help"
