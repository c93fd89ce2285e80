"""Every option of a run, once.

The command line, ``run(**options)``, the recorded command, the fingerprint that resuming compares,
a configuration file and the READMEs' table are made from the fields of ``Settings``.
"""

# ruff: noqa: RUF009  option() makes fields, as dataclasses.field() does

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypedDict

from camreport.settings.option import documented, option, options_of
from camreport.settings.text import (
    OneNumberOf,
    OneOf,
    read_count_or_all,
    read_count_or_auto,
    read_list,
    read_list_or_auto,
    read_names,
    read_number,
    read_numbers,
    read_path,
    read_size,
    read_whole,
    write_label_map,
    write_labels,
    write_list,
    write_model,
    write_names,
    write_number,
    write_numbers,
    write_path,
    write_size,
)
from camreport.settings.values import (
    ACTIVATIONS,
    AUTO,
    BASIC,
    BUNDLED,
    CLUSTERS,
    DEFAULT_METHODS,
    EVIDENCE_MAPS,
    EXACT,
    GAMMA,
    LANGUAGES,
    LEVELS,
    MAIN,
    PRECISIONS,
    TIMM,
    WEIGHTS,
    check_activation,
    check_addresses,
    check_batch_size,
    check_class_names,
    check_classes,
    check_contributions,
    check_device,
    check_evidence,
    check_evidence_images,
    check_evidence_maps,
    check_gamma,
    check_groups,
    check_label_map,
    check_labels,
    check_metrics,
    check_on,
    check_output,
    check_part,
    check_precision,
    check_quantity,
    check_regions,
    check_seed,
    check_smoothings,
    check_stages,
    check_switch,
    check_weights,
    check_workers,
    is_own_code,
)

Layout = Literal["auto", "single", "folder"]
"""Forms of a report: one file, or a page and a folder of data; ``auto`` chooses by the size."""

_input = partial(
    option,
    group="Input",
    decides="preprocessing",
    affects="maps",
    shown_default="the model's own",
)
_model = partial(option, group="Model", decides="model", affects="maps")
_what = partial(option, group="What", affects="maps")
_evidence = partial(option, group="Evidence", affects="evidence")
_drawing = partial(option, group="Drawing", affects="report")


@documented
@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a run computes and how its report looks; each field is an option.

    Attributes:
        spelled: names of options that the recorded command includes even at their defaults,
            because a configuration file may set them to something else.

    Raises:
        CamReportError: a value makes no sense, as far as its words show.
    """

    labels: str | Path | Mapping[str, int | str] | None = option(
        None,
        group="Input",
        affects="records",
        metavar="folder|tar|FILE",
        write=write_labels,
        check=check_labels,
        help="True classes, for accuracy and for maps of each image's true class: the name of the "
        "image's folder, the file beside it in its tar file, or a CSV file of image and class.",
    )
    label_map: str | Mapping[str, Sequence[int]] | None = option(
        None,
        group="Input",
        affects="records",
        metavar="cat=281-285,dog=151-268",
        write=write_label_map,
        check=check_label_map,
        help="The model's classes that each label stands for, if labels are not class names; "
        "predicting any of them counts as correct.",
    )
    groups: Sequence[str] | None = option(
        None,
        group="Input",
        affects="records",
        metavar="COLUMNS",
        parse=read_list,
        write=write_list,
        check=check_groups,
        help="Further columns of the CSV file of labels, such as scanner or hospital: the report "
        "compares the mean maps of their groups.",
    )
    image_size: int | Sequence[int] | None = _input(
        None,
        metavar="N|HxW",
        parse=read_size,
        write=write_size,
        help="Size of the model input, in pixels.",
    )
    resize: str | None = _input(
        None,
        metavar="squash|short-side|none",
        parse=OneOf("squash", "short-side", "none"),
        help="Squash the whole image; fit its shorter side and crop the centre; or use images "
        "that have the model's size already.",
    )
    mean: Sequence[float] | None = _input(
        None,
        metavar="A,B,C",
        parse=read_numbers,
        write=write_numbers,
        help="Mean subtracted from each channel.",
    )
    std: Sequence[float] | None = _input(
        None,
        metavar="A,B,C",
        parse=read_numbers,
        write=write_numbers,
        help="Standard deviation that divides each channel.",
    )
    channel_order: str | None = _input(
        None,
        metavar="rgb|bgr",
        parse=OneOf("rgb", "bgr"),
        help="Channel order of the model input.",
    )
    scale: int | None = _input(
        None,
        metavar="1|255",
        parse=OneNumberOf("1", "255"),
        help="Pixel value of white; mean and std are in this unit.",
    )
    model: object = _model(
        BUNDLED,
        metavar="NAME",
        write=write_model,
        permits=lambda name: is_own_code(name) and not name.startswith(TIMM),
        help="catdog-alexnet (bundled), efficientnet-lite0, a torchvision classifier such as "
        "resnet18, timm:NAME, or your own code as file.py:build or package.module:build.",
    )
    checkpoint: str | Path | None = _model(
        None,
        metavar="FILE",
        parse=read_path,
        write=write_path,
        help="File with weights: PyTorch, safetensors, TorchScript, or a Keras VGG16. Without "
        "--model, AlexNet, VGG and ResNet are recognised from their tensor shapes.",
    )
    weights: str = _model(
        "default",
        metavar="default|none",
        parse=OneOf(*WEIGHTS),
        check=check_weights,
        help="The weights the model comes with, or none: random ones for the architecture.",
    )
    trust_checkpoint: bool = _model(
        False,
        permits=bool,
        check=partial(check_switch, "trust_checkpoint"),
        help="Open a checkpoint that can run code on this machine. Only for files you made.",
    )
    output: str | None = _model(
        None,
        metavar="KEY",
        check=check_output,
        help="Key, attribute or index of the logits in the model's output.",
    )
    class_names: Sequence[str] | Path | None = option(
        None,
        group="Model",
        affects="records",
        metavar="A,B|FILE",
        parse=read_names,
        write=write_names,
        check=check_class_names,
        shown_default="the model's own",
        help='One name per class index; quote a name that has a comma: "cat, tabby",dog. A file '
        "has one per line, JSON, or a Python dictionary.",
    )
    classes: str | Sequence[int | str] = _what(
        AUTO,
        metavar="all|top3|0,1|cat,dog",
        write=write_list,
        check=check_classes,
        shown_default="all of up to 2 classes, else top3",
        help="Classes to explain.",
    )
    layers: Sequence[str] | None = _what(
        None,
        metavar="0,3|features.12|layer*|auto",
        parse=read_list_or_auto,
        write=write_list,
        check=partial(check_addresses, "layers"),
        shown_default="AlexNet 0,3,6,9,12; else the last of each resolution",
        help="Layers to explain; ':pre' reads before the activation; 'camreport layers' lists "
        "them.",
    )
    channels: Sequence[str] | None = _what(
        None,
        metavar="LAYERS",
        parse=read_list,
        write=write_list,
        check=partial(check_addresses, "channels"),
        help="Layers whose feature maps the report shows channel by channel.",
    )
    contributions: str = _what(
        AUTO,
        metavar="auto|LAYER|off",
        check=check_contributions,
        help="Layer at which each channel's contribution to the score is kept, a number for each "
        "image and class. auto takes the last one explained, if a method needs gradients.",
    )
    methods: str | Sequence[str] = _what(
        DEFAULT_METHODS,
        metavar="NAMES|all",
        parse=read_list,
        write=write_list,
        help="Methods to compare; 'camreport methods' lists them.",
    )
    quantity: str = _what(
        "logit",
        metavar="logit|probability|contrast|contrast:CLASS",
        check=partial(check_quantity, by_name=True),
        help="Score to explain: the class logit, its probability, or its margin over the "
        "runner-up (or over CLASS).",
    )
    activation: str = _what(
        AUTO,
        metavar="|".join((AUTO, *ACTIVATIONS)),
        parse=OneOf(AUTO, *ACTIVATIONS),
        check=check_activation,
        help="What turns the model's outputs into probabilities: a softmax over exclusive classes, "
        "a sigmoid of each class, or nothing. auto recognises it.",
    )
    gamma: float = _what(
        GAMMA,
        metavar="NUMBER",
        parse=read_number,
        write=write_number,
        check=check_gamma,
        help="Strength of LayerCAM's lift for early layers in the fused map.",
    )
    stages: int | None = _what(
        None,
        metavar="N",
        parse=read_whole,
        check=check_stages,
        shown_default="the first 3 of 5 or more stages, else all but the last",
        help="Number of early stages that the fused map lifts.",
    )
    smooth: str | Sequence[str] = _what(
        (),
        metavar="noise,aug,eigen",
        parse=read_list,
        write=write_list,
        check=check_smoothings,
        help="Average over noisy copies (noise) or mirrored and brighter ones (aug); keep the "
        "first principal component (eigen).",
    )
    seed: int = _what(
        0,
        metavar="N",
        parse=read_whole,
        check=check_seed,
        help="Random seed for the smoothing noise and the evidence.",
    )
    device: str = _what(
        AUTO,
        metavar="auto|cpu|cuda|mps",
        check=check_device,
        help="Device to compute on.",
    )
    precision: str = _what(
        EXACT,
        metavar="|".join(PRECISIONS),
        parse=OneOf(*PRECISIONS),
        check=check_precision,
        help="Arithmetic of the network's passes: exact is float32; tf32 has fewer bits, on NVIDIA "
        "GPUs; bf16 computes the passes in bfloat16 and the maps in float32.",
    )
    batch_size: int | None = _what(
        None,
        metavar="auto|N",
        parse=read_count_or_auto,
        check=check_batch_size,
        shown_default="auto",
        help="Images per batch.",
    )
    evidence: str = _evidence(
        BASIC,
        metavar="|".join(LEVELS),
        parse=OneOf(*LEVELS),
        check=check_evidence,
        help="What is measured of the maps: basic compares classes, areas and a network with "
        "scrambled weights; full also covers images, combines them and adds noise.",
    )
    evidence_images: int | str | None = _evidence(
        None,
        metavar="N|all",
        parse=read_count_or_all,
        check=check_evidence_images,
        shown_default="16 with basic, 64 with full",
        help="Images on which evidence spends further passes, drawn at random with the seed.",
    )
    evidence_maps: str = _evidence(
        MAIN,
        metavar="|".join(EVIDENCE_MAPS),
        parse=OneOf(*EVIDENCE_MAPS),
        check=check_evidence_maps,
        help="Maps whose marked parts are covered in order: main takes the most probable class's "
        "at the last layer and fused.",
    )
    regions: str | Path | None = _evidence(
        None,
        metavar="FILE|FOLDER",
        parse=read_path,
        write=write_path,
        check=check_regions,
        help="Where the objects are: COCO JSON, CSV, or a folder with VOC XML, YOLO text or PNG "
        "masks.",
    )
    metrics: str | Sequence[str] = _evidence(
        (),
        metavar="NAMES",
        parse=read_list,
        write=write_list,
        check=check_metrics,
        help="Further metrics; 'camreport metrics' lists them.",
    )
    layout: Layout = _drawing(
        "auto",
        switches={"--single-file": "single", "--folder": "folder"},
        shown_default="a folder above 15 MB",
        help="One HTML file, or a page with a folder of data beside it, for many images.",
    )
    language: str = _drawing(
        "en",
        flag="--lang",
        metavar="|".join(LANGUAGES),
        parse=OneOf(*LANGUAGES),
        help="Language in which the report opens; readers can switch.",
    )
    figures: bool = option(
        False,
        group="Output",
        affects="report",
        check=partial(check_switch, "figures"),
        help="Also write OUT/figures/: a PNG for each map, a sheet for each image, channel grids.",
    )
    overwrite: bool = option(
        False,
        group="Output",
        affects=None,
        permits=bool,
        check=partial(check_switch, "overwrite"),
        recorded=False,
        help="Use an output folder that holds something else.",
    )

    part: str | None = option(
        None,
        group="Machines",
        affects=None,
        metavar="K/N",
        check=check_part,
        recorded=False,
        help="Compute only every Nth shard, from the Kth on, and no report. Once all N parts are "
        "done, the same command without --part makes it.",
    )
    on: str | None = option(
        None,
        group="Machines",
        affects=None,
        metavar="|".join(CLUSTERS),
        parse=OneOf(*CLUSTERS),
        check=check_on,
        shown_default="this machine",
        recorded=False,
        help="Compute on a Ray cluster that runs, or on one of this machine alone, which goes on "
        "when workers die.",
    )
    workers: int | None = option(
        None,
        group="Machines",
        affects=None,
        metavar="N",
        parse=read_whole,
        check=check_workers,
        shown_default="one for each GPU, else 1",
        recorded=False,
        help="Processes that compute shards at the same time, each on a GPU of its own if there "
        "are any.",
    )

    spelled: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    def __post_init__(self) -> None:
        for name, each in options_of(type(self)).items():
            each.check(getattr(self, name))

    def command(self, inputs: Sequence[str | Path], out: str | Path) -> str:
        """Return a command line for the same run, with no absolute path in it.

        Args:
            inputs: files, folders or patterns.
            out: folder of the report.
        """
        paths = [write_path(path) for path in inputs]
        words = ["-o", write_path(out)]
        for name, each in options_of(type(self)).items():
            own = each.words(getattr(self, name))
            is_usual = own == each.words(each.default) and name not in self.spelled
            words += [] if is_usual or not each.recorded else own
        if any(path.startswith("-") for path in paths):  # or they would be read as options
            words += ["--", *paths]
        else:
            words = [*paths, *words]
        return shlex.join(["camreport", "run", *words])

    def fingerprint(self, resolved: Mapping[str, object] | None = None) -> dict[str, object]:
        """Return the values that decide the maps, ready for JSON.

        Runs with equal fingerprints may share maps. A new option is included by itself.

        Args:
            resolved: values to use instead of the options' own, by the option's name or by what
                it ``decides``: ``12`` and ``features.12``, resolved, have one fingerprint.
        """
        found: dict[str, object] = {}
        for name, each in options_of(type(self)).items():
            if each.affects == "maps":
                key = next((key for key in (each.decides, name) if key in (resolved or {})), "")
                value = each.written(getattr(self, name))
                found[key or name] = resolved[key] if resolved and key else value
        return found

    def deciding(self, what: str) -> dict[str, Any]:
        """Return the values of the options that together decide ``what``, by their names."""
        return {
            name: getattr(self, name)
            for name, each in options_of(type(self)).items()
            if each.decides == what
        }


class SettingsDict(TypedDict, total=False):
    """The options as keyword arguments, written by ``make docs``."""

    labels: str | Path | Mapping[str, int | str] | None
    label_map: str | Mapping[str, Sequence[int]] | None
    groups: Sequence[str] | None
    image_size: int | Sequence[int] | None
    resize: str | None
    mean: Sequence[float] | None
    std: Sequence[float] | None
    channel_order: str | None
    scale: int | None
    model: object
    checkpoint: str | Path | None
    weights: str
    trust_checkpoint: bool
    output: str | None
    class_names: Sequence[str] | Path | None
    classes: str | Sequence[int | str]
    layers: Sequence[str] | None
    channels: Sequence[str] | None
    contributions: str
    methods: str | Sequence[str]
    quantity: str
    activation: str
    gamma: float
    stages: int | None
    smooth: str | Sequence[str]
    seed: int
    device: str
    precision: str
    batch_size: int | None
    evidence: str
    evidence_images: int | str | None
    evidence_maps: str
    regions: str | Path | None
    metrics: str | Sequence[str]
    layout: Layout
    language: str
    figures: bool
    overwrite: bool
    part: str | None
    on: str | None
    workers: int | None
