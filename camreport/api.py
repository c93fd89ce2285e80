"""``run``: from files to a finished report; what the command line calls."""

import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Unpack

import torch
from torch import nn

from camreport.conditions import undisturbed
from camreport.errors import ClassError, InputError, ModelError, suggestion
from camreport.export import export_figures, remove_exports
from camreport.fusion import GAMMA
from camreport.gallery import Layout, check_rendering, render_gallery
from camreport.images import InputFile, PreprocessingChanges, decode, find_images, printable
from camreport.labels import true_classes
from camreport.methods import DEFAULT_METHODS, resolve_methods
from camreport.models import LoadedModel, load_model
from camreport.models.bundled import BUNDLED
from camreport.outputs import AUTO, check_activation
from camreport.pipeline import Progress, Request, Summary, compute, request_layers, run_settings
from camreport.results import ResultsWriter, check_output
from camreport.task import make_task


def run(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    model: str | nn.Module | LoadedModel = BUNDLED,
    checkpoint: str | Path | None = None,
    weights: str = "default",
    trust_checkpoint: bool = False,
    output: str | None = None,
    activation: str = AUTO,
    class_names: Sequence[str] | None = None,
    classes: str | Sequence[int | str] = "auto",
    labels: str | Path | Mapping[str, int | str] | None = None,
    layers: Sequence[str] | None = None,
    channels: Sequence[str] | None = None,
    methods: str | Sequence[str] = DEFAULT_METHODS,
    device: str = "auto",
    batch_size: int | None = None,
    quantity: str = "logit",
    gamma: float = GAMMA,
    stages: int | None = None,
    smooth: str | Sequence[str] = (),
    seed: int = 0,
    overwrite: bool = False,
    layout: Layout = "auto",
    language: str = "en",
    figures: bool = False,
    progress: Progress = lambda count: None,
    notify: Callable[[str], None] = lambda message: None,
    **changes: Unpack[PreprocessingChanges],
) -> Summary:
    """Explain images and write ``OUT/results`` and the report ``OUT/index.html``.

    Where the results are new, the table and the figures of earlier ones go.

    Args:
        inputs: files, folders or glob patterns.
        out: folder of the report; new, empty, or an earlier report's.
        model: a name, as for ``load_model``, a module or a loaded model.
        checkpoint: a file with weights for the model.
        weights: ``default``, or ``none`` for random ones.
        trust_checkpoint: open a file that could run code.
        output: which part of what the model returns holds the logits.
        activation: what turns the logits into probabilities: ``softmax`` over exclusive classes,
            ``sigmoid`` of each class by itself, or ``none`` where the model returns
            probabilities; ``auto`` recognises the last.
        class_names: one name per class index.
        classes: what to explain: ``all``, ``topK``, class indices or class names; ``auto`` is
            all of up to two classes, else the top 3.
        labels: the images' true classes, for a badge: ``folder``, a table's file, or a mapping
            from the images' names; see ``true_classes``.
        layers: addresses and patterns; the model's own choice if None.
        channels: addresses and patterns of the layers whose feature maps the report ships, with
            Grad-CAM's weight of each channel; they need not be among ``layers``.
        methods: names from the registry, in any spelling.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``; a module of your own stays where it is
            with ``auto``.
        batch_size: images per batch; chosen from a byte budget if None.
        quantity: ``logit``, ``probability``, ``contrast`` or ``contrast:CLASS`` (index or name).
        gamma: steepness of the lift in LayerCAM's fusion.
        stages: how many early stages the fusion lifts.
        smooth: some of ``noise``, ``aug`` and ``eigen``, see ``explain``.
        seed: of the noise.
        overwrite: use an output folder that holds something else.
        layout: ``single``, a report in one file; ``folder``, a page with its data beside it;
            ``auto``, a folder where one file would pass 15 MB.
        language: that the report opens in, ``en`` or ``zh``.
        figures: write ``OUT/figures`` too, a picture for each map and a sheet for each image.
        progress: told how many more inputs are done, or which part of one.
        notify: told before anything is computed which methods cannot be, and why.
        changes: what to change in the model's own preprocessing, as for ``load_model``.

    Raises:
        InputError: an input or the output folder is not usable, or no image could be read.
        ModelError, LayerError, ClassError, MethodError: see ``load_model`` and ``explain``.
            Nothing is written in any of these cases.
    """
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size: expected a number from 1, or None, got {batch_size}.")
    if not isinstance(inputs, str | Path | Iterable):
        raise InputError(
            f"input: expected files, folders or patterns, got {type(inputs).__name__}. "
            "For tensors use camreport.explain(model, images)."
        )
    listed = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    folder = Path(out).expanduser()
    chosen_methods = resolve_methods(methods)
    check_activation(activation)
    check_output(folder, overwrite)
    check_rendering(folder, layout, language)
    files = find_images(listed, exclude=folder / "results")
    if changes.get("resize") == "none" and changes.get("image_size") is None:
        changes["image_size"] = _size_of_first(files)
    if trust_checkpoint and checkpoint is not None:
        notify(f"warning: {Path(checkpoint).name} is trusted: code in it runs on this machine")
    loaded = load_model(
        model,
        checkpoint=checkpoint,
        weights=weights,
        trust_checkpoint=trust_checkpoint,
        output=output,
        class_names=class_names,
        **changes,
    )
    if isinstance(model, str) or device != "auto":
        loaded.module.to(choose_device(device))
    chosen_layers = request_layers(loaded, layers)
    chosen_channels = {} if channels is None else request_layers(loaded, channels)
    quantity = resolve_quantity(quantity, loaded.class_names)
    with undisturbed(loaded.module):
        task = make_task(
            loaded.module,
            chosen_layers,
            chosen_methods,
            quantity=quantity,
            gamma=gamma,
            stages=stages,
            smooth=smooth,
            seed=seed,
            output=loaded.output,
            activation=loaded.activation if activation == AUTO else activation,
            channels=chosen_channels,
        )
    targets = resolve_classes(classes, loaded.class_names)
    truth = {} if labels is None else true_classes(labels, files, loaded.class_names)
    if loaded.warning:
        notify(f"warning: {loaded.warning}")
    for reason in dict.fromkeys(skip.reason for skip in task.skipped):
        notify(reason)
    request = Request(
        task=task,
        targets=targets,
        labels=truth,
        batch_size=batch_size,
        command=_command(
            listed,
            folder,
            {
                "--model": loaded.name,
                "--checkpoint": Path(checkpoint).name if checkpoint else None,
                "--weights": weights if weights != "default" else None,
                "--trust-checkpoint": "" if trust_checkpoint else None,
                "--output": output,
                "--activation": activation if activation != AUTO else None,
                "--class-names": ",".join(class_names) if class_names else None,
                "--classes": _joined(classes),
                "--labels": Path(labels).name if isinstance(labels, str | Path) else None,
                "--layers": ",".join(layers) if layers else None,
                "--channels": ",".join(channels) if channels else None,
                "--methods": methods if isinstance(methods, str) else ",".join(methods),
                "--quantity": quantity if quantity != "logit" else None,
                "--gamma": str(gamma) if gamma != GAMMA else None,
                "--stages": None if stages is None else str(stages),
                "--smooth": ",".join(task.smooth) or None,
                "--seed": str(seed) if seed else None,
                "--batch-size": str(batch_size) if batch_size else None,
                "--single-file": "" if layout == "single" else None,
                "--folder": "" if layout == "folder" else None,
                "--lang": language if language != "en" else None,
                **{f"--{key.replace('_', '-')}": _option(v) for key, v in changes.items()},
            },
        ),
    )
    writer = ResultsWriter(folder, run_settings(loaded, files, request), overwrite)
    summary = compute(loaded, files, writer, request, progress)
    render_gallery(folder, layout=layout, language=language)
    if summary.reused < summary.total:
        remove_exports(folder)
    if figures:
        export_figures(folder)
    return summary


def resolve_classes(classes: str | Sequence[int | str], names: Sequence[str]) -> list[int] | str:
    """Return class indices, or ``all``, ``topK`` or ``auto`` as they are.

    Args:
        classes: one of those words, or indices and names (as text: separated by commas).
        names: the model's class names; empty where they are not known.

    Raises:
        ClassError: a name or an index that the model does not have.
    """
    listed = classes.replace("，", ",").split(",") if isinstance(classes, str) else list(classes)
    words = [str(entry).strip() for entry in listed if str(entry).strip()]
    if len(words) == 1 and (words[0] in ("all", "auto") or _is_top(words[0])):
        return words[0]
    if not words:
        raise ClassError("classes: expected all, top3, indices or names, got nothing.")
    by_name = {name.casefold(): index for index, name in reversed(list(enumerate(names)))}
    indices: list[int] = []
    for word in words:
        if word.casefold() in by_name:
            indices.append(by_name[word.casefold()])
        elif word.isdecimal() and (not names or int(word) < len(names)):
            indices.append(int(word))
        else:
            known = f"an index 0 to {len(names) - 1} or a class name" if names else "an index"
            raise ClassError(
                f"classes: expected all, top3, {known}, got {word!r}."
                + (suggestion(word, names) or _some_names(names))
            )
    return list(dict.fromkeys(indices))


def resolve_quantity(quantity: str, names: Sequence[str]) -> str:
    """Return what is explained, with the class behind ``contrast:`` as its index.

    Raises:
        ClassError: the model does not have that class.
    """
    kind, colon, rival = quantity.partition(":")
    if not colon:
        return kind
    try:
        indices = resolve_classes([rival], names)
    except ClassError as error:
        said = str(error).replace("classes: expected all, top3, ", "quantity: expected ", 1)
        raise ClassError(said) from None
    if not isinstance(indices, list):
        raise ClassError(f"quantity: expected one class behind 'contrast:', got {rival!r}.")
    return f"{kind}:{indices[0]}"


def choose_device(device: str) -> torch.device:
    """Return the named device, or with ``auto`` the fastest that is there.

    Raises:
        ModelError: this machine has no such device.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    there = [name for name, is_there in available.items() if is_there]
    if device == "auto":
        return torch.device(there[0])
    if device.partition(":")[0] not in there:
        raise ModelError(f"device: expected auto or {' or '.join(there)} here, got {device!r}.")
    return torch.device(device)


def _is_top(word: str) -> bool:
    return word.startswith("top") and word[3:].isdecimal() and int(word[3:]) > 0


def _some_names(names: Sequence[str]) -> str:
    if not names:
        return " This model's classes have no names: give them with class_names."
    return f" The model has {', '.join(names[:5])}{', …' if len(names) > 5 else ''}."


def _command(inputs: Sequence[str | Path], out: Path, options: Mapping[str, str | None]) -> str:
    """Return a command line that asks for the same, with no absolute path in it."""
    words = ["camreport", "run", *map(_shareable, inputs), "-o", _shareable(out)]
    for flag, value in options.items():
        words += [] if value is None else [flag, *([value] if value else [])]
    return printable(shlex.join(words))


def _option(value: object) -> str | None:
    """Return a change of the preprocessing as the command line writes it."""
    if value is None or isinstance(value, str | int):
        return None if value is None else str(value)
    assert isinstance(value, Iterable)
    return ",".join(f"{number:.9g}" for number in value)


def _size_of_first(files: Sequence[InputFile]) -> tuple[int, int] | None:
    """Return height and width of the first image that can be read, if any can."""
    for file in files:
        try:
            image = decode(file.path.read_bytes())
        except (OSError, InputError):
            continue
        return image.height, image.width
    return None


def _joined(classes: str | Sequence[int | str]) -> str | None:
    if classes == "auto":
        return None
    return classes if isinstance(classes, str) else ",".join(map(str, classes))


def _shareable(path: str | Path) -> str:
    """Return a path that names nothing of this machine: relative to here, or its last part."""
    given = Path(path)
    if given.is_absolute() or ".." in given.parts:
        try:
            given = given.resolve().relative_to(Path(os.getcwd()).resolve())
        except ValueError:
            return given.resolve().name
    return given.as_posix()
