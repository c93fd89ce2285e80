"""``run``: from files to a finished report; what the command line calls.

What can be refused without torch is refused before torch is imported.
"""

import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from camreport.errors import ClassError, InputError, ModelError, suggestion
from camreport.files import locked
from camreport.images.classes import find_class
from camreport.images.inputs import InputFile, find_images, printable, read_file
from camreport.images.labels import FOLDER, LabelMap, read_label_map, true_classes
from camreport.images.pixels import decode
from camreport.images.preprocessing import Preprocessing, PreprocessingChanges
from camreport.methods import DEFAULT_METHODS, resolve_methods
from camreport.report.export import export_figures, remove_exports
from camreport.report.gallery import Layout, check_rendering, render_gallery
from camreport.results.reader import check_output
from camreport.settings import (
    AUTO,
    BUNDLED,
    GAMMA,
    check_activation,
    check_addresses,
    check_batch_size,
    check_checkpoint,
    check_class_names,
    check_device,
    check_model,
    check_numbers,
    check_quantity,
    check_smoothings,
    join_list,
    split_list,
)

if TYPE_CHECKING:
    import torch
    from torch import nn

    from camreport.models import LoadedModel
    from camreport.pipeline.local import Progress, Summary


def run(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    model: "str | nn.Module | LoadedModel" = BUNDLED,
    checkpoint: str | Path | None = None,
    weights: str = "default",
    trust_checkpoint: bool = False,
    output: str | None = None,
    activation: str = AUTO,
    class_names: Sequence[str] | None = None,
    classes: str | Sequence[int | str] = "auto",
    labels: str | Path | Mapping[str, int | str] | None = None,
    label_map: str | LabelMap | None = None,
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
    figures: bool | Callable[[Path], object] = False,
    found: Callable[[int], None] = lambda count: None,
    progress: "Progress" = lambda count: None,
    notify: Callable[[str], None] = lambda message: None,
    **changes: Unpack[PreprocessingChanges],
) -> "Summary":
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
        label_map: classes that words of another vocabulary stand for, such as
            ``cat=281-285,dog=151-268``; an image is right if its prediction is one of them.
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
        figures: write ``OUT/figures`` too, a picture for each map and a sheet for each image; or
            a function of the folder that does so.
        found: called once with the number of inputs, before the model is loaded.
        progress: called with the number of newly finished inputs; fractional within one input.
        notify: called with each warning, and with the reason for each skipped method, before
            computation starts.
        changes: what to change in the model's own preprocessing, as for ``load_model``.

    Raises:
        InputError: an input or the output folder is not usable, or no image could be read.
        ModelError, LayerError, ClassError, MethodError: see ``load_model`` and ``explain``.
            Nothing is written in any of these cases.
    """
    listed = _listed_inputs(inputs)
    folder = _home(out, "output")
    checkpoint = None if checkpoint is None else _home(checkpoint, "checkpoint")
    if isinstance(labels, str | Path):
        labels = FOLDER if str(labels) == FOLDER else _home(labels)
    chosen_methods = resolve_methods(methods)
    check_numbers(gamma, stages, seed)
    check_smoothings(smooth)
    check_quantity(quantity, by_name=True)
    check_activation(activation)
    check_batch_size(batch_size)
    check_device(device)
    check_addresses("layers", layers)
    check_addresses("channels", channels)
    check_class_names(class_names)
    check_model_options(model, weights, checkpoint, changes)
    _check_classes(classes, quantity, class_names)
    check_output(folder, overwrite)
    check_rendering(folder, layout, language)
    files = find_images(listed, exclude=folder, notify=notify)
    _check_labels(labels, label_map, files, class_names)
    found(len(files))

    # torch is imported from here on
    from camreport.engine.plan import make_task
    from camreport.models import load_model
    from camreport.network.state import undisturbed
    from camreport.pipeline.local import Request, compute, request_layers, run_settings
    from camreport.results.writer import ResultsWriter

    asked = dict(changes)
    if changes.get("resize") == "none" and changes.get("image_size") is None:
        changes["image_size"] = _size_of_first(files)
    if trust_checkpoint and checkpoint is not None:
        notify(f"warning: {checkpoint.name} is trusted: code in it runs on this machine")
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
    asked_quantity, quantity = quantity, resolve_quantity(quantity, loaded.class_names)
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
    names = loaded.class_names
    mapped = _label_map(label_map, names)
    truth = {} if labels is None else true_classes(labels, files, names, notify, mapped)
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
                "--model": _model_word(model, loaded.name, checkpoint),
                "--checkpoint": _shareable(checkpoint) if checkpoint else None,
                "--weights": weights if weights != "default" else None,
                "--trust-checkpoint": "" if trust_checkpoint else None,
                "--output": output,
                "--activation": activation if activation != AUTO else None,
                "--class-names": join_list(class_names) if class_names else None,
                "--classes": _joined(classes),
                "--labels": _shareable(labels) if isinstance(labels, str | Path) else None,
                "--label-map": label_map if isinstance(label_map, str) else _written(mapped),
                "--layers": ",".join(layers) if layers else None,
                "--channels": ",".join(channels) if channels else None,
                "--methods": methods if isinstance(methods, str) else ",".join(methods),
                "--quantity": asked_quantity if quantity != "logit" else None,
                "--gamma": str(gamma) if gamma != GAMMA else None,
                "--stages": None if stages is None else str(stages),
                "--smooth": ",".join(task.smooth) or None,
                "--seed": str(seed) if seed else None,
                "--device": device if device != "auto" else None,
                "--batch-size": str(batch_size) if batch_size else None,
                "--single-file": "" if layout == "single" else None,
                "--folder": "" if layout == "folder" else None,
                "--lang": language if language != "en" else None,
                "--figures": "" if figures else None,
                **{f"--{key.replace('_', '-')}": _option(v) for key, v in asked.items()},
            },
        ),
    )
    with locked(folder):
        writer = ResultsWriter(folder, run_settings(loaded, request), overwrite)
        summary = compute(loaded, files, writer, request, progress)
        render_gallery(folder, layout=layout, language=language)
        if summary.changed:
            remove_exports(folder)
        if figures:
            (figures if callable(figures) else export_figures)(folder)
    return summary


def resolve_classes(classes: str | Sequence[int | str], names: Sequence[str]) -> list[int] | str:
    """Return class indices, or ``all``, ``topK`` or ``auto`` as they are.

    Args:
        classes: one of those words, or indices and names (as text: separated by commas).
        names: the model's class names; empty where they are not known.

    Raises:
        ClassError: a name or an index that the model does not have.
    """
    words = [str(entry).strip() for entry in _words(classes) if str(entry).strip()]
    if len(words) == 1 and (words[0] in ("all", "auto") or _is_top(words[0])):
        return words[0]
    if not words:
        raise ClassError("classes: expected all, top3, indices or names, got nothing.")
    indices: list[int] = []
    for word in words:
        index = find_class(word, names, "classes")
        if index is None:
            known = f"an index 0 to {len(names) - 1} or a class name" if names else "an index"
            raise ClassError(
                f"classes: expected all, top3, {known}, got {word!r}."
                + (suggestion(word, names) or _some_names(names))
            )
        indices.append(index)
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


def choose_device(device: str) -> "torch.device":
    """Return the named device, or with ``auto`` the fastest that is there.

    Raises:
        ModelError: this machine has no such device.
    """
    import torch

    check_device(device)
    counts = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
        "cpu": 1,
    }
    there = [kind for kind, count in counts.items() if count]
    if device == "auto":
        return torch.device(there[0])
    kind, _, number = device.partition(":")
    if int(number or 0) >= counts[kind]:
        raise ModelError(
            f"device: expected auto or {' or '.join(there)} here, got {device!r}. PyTorch "
            f"{torch.__version__} sees {counts[kind] or 'no'} {kind} device(s)."
        )
    return torch.device(device)


def _listed_inputs(inputs: object) -> list[str | Path]:
    """Return inputs as a list of paths and patterns, ``~`` expanded.

    Raises:
        InputError: they are something else.
    """
    if isinstance(inputs, Iterable) and not isinstance(inputs, str | bytes | os.PathLike):
        listed = list(inputs)
    else:
        listed = [inputs]
    for one in listed:
        if not isinstance(one, str | os.PathLike):
            raise InputError(
                "input: expected paths of files or folders, or patterns, got "
                f"{type(one).__name__}. Tensors in memory are for camreport.explain."
            )
    return [os.path.expanduser(one) if isinstance(one, str) else _home(one) for one in listed]


def _home(path: object, argument: str = "input") -> Path:
    """Return a path with ``~`` expanded.

    Raises:
        InputError: it is no path.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"{argument}: expected a path, got {type(path).__name__}.")
    return Path(path).expanduser()


def check_model_options(
    model: object, weights: str, checkpoint: Path | None, changes: PreprocessingChanges
) -> None:
    """Refuse what is wrong about a model, as far as that shows before torch is imported.

    Raises:
        ModelError: there is no such model or file, or no model's preprocessing takes the changes,
            whichever value it has for white.
    """
    check_model(model, weights)
    check_checkpoint(checkpoint)
    try:
        Preprocessing(scale=1).changed(changes)
    except ModelError:
        Preprocessing(scale=255).changed(changes)


def _check_classes(
    classes: str | Sequence[int | str], quantity: str, class_names: Sequence[str] | None
) -> None:
    """Refuse classes that are none of the given names, or none at all.

    Raises:
        ClassError: they are.
    """
    if class_names:
        resolve_classes(classes, class_names)
        resolve_quantity(quantity, class_names)
    elif not any(str(word).strip() for word in _words(classes)):
        resolve_classes((), ())


def _check_labels(
    labels: str | Path | Mapping[str, int | str] | None,
    label_map: str | LabelMap | None,
    files: Sequence[InputFile],
    class_names: Sequence[str] | None,
) -> None:
    """Refuse labels that cannot be read, or that are none of the given names.

    Raises:
        ClassError: they are.
    """
    if label_map and labels is None:
        raise ClassError("label_map: expected labels that it explains, got none. Add --labels.")
    if labels is not None and class_names:
        true_classes(labels, files, class_names, label_map=_label_map(label_map, class_names))
    elif isinstance(labels, Path) and not os.path.isfile(labels):
        raise ClassError(
            f"labels: expected 'folder', a CSV file or a mapping, found no file {str(labels)!r}."
        )


def _label_map(label_map: str | LabelMap | None, names: Sequence[str]) -> LabelMap | None:
    return read_label_map(label_map, names) if isinstance(label_map, str) else label_map


def _words(classes: str | Sequence[int | str]) -> list[int | str]:
    return [*split_list(classes)] if isinstance(classes, str) else list(classes)


def _is_top(word: str) -> bool:
    return word.startswith("top") and word[3:].isdecimal() and int(word[3:]) > 0


def _some_names(names: Sequence[str]) -> str:
    if not names:
        return " This model's classes have no names: give them with class_names."
    return f" The model has {', '.join(names[:5])}{', …' if len(names) > 5 else ''}."


def _command(inputs: Sequence[str | Path], out: Path, options: Mapping[str, str | None]) -> str:
    """Return a command line that asks for the same, with no absolute path in it."""
    paths = [_shareable(path) for path in inputs]
    words = ["-o", _shareable(out)]
    for flag, value in options.items():
        words += [] if value is None else [flag, *([value] if value else [])]
    if any(path.startswith("-") for path in paths):  # or they would be read as options
        words += ["--", *paths]
    else:
        words = [*paths, *words]
    return printable(shlex.join(["camreport", "run", *words]))


def _model_word(model: object, name: str, checkpoint: Path | None) -> str | None:
    """Return a model as ``--model`` takes it; None where a checkpoint says what it is."""
    if not isinstance(model, str):
        return name
    if model == BUNDLED and checkpoint is not None:
        return None
    where, _, attribute = model.rpartition(":")
    return f"{_shareable(where)}:{attribute}" if where.endswith(".py") else model


def _option(value: object) -> str | None:
    """Return a change of the preprocessing as the command line writes it."""
    if value is None or isinstance(value, str | int):
        return None if value is None else str(value)
    assert isinstance(value, Iterable)
    return ",".join(repr(float(number)).removesuffix(".0") for number in value)


def _size_of_first(files: Sequence[InputFile]) -> tuple[int, int] | None:
    """Return height and width of the first image that can be read, if any can."""
    for file in files:
        try:
            image = decode(read_file(file.path))
        except (OSError, InputError):
            continue
        return image.height, image.width
    return None


def _joined(classes: str | Sequence[int | str]) -> str | None:
    if classes == "auto":
        return None
    return classes if isinstance(classes, str) else join_list(classes)


def _written(label_map: LabelMap | None) -> str | None:
    """Return a label map as the command line takes it."""
    if not label_map:
        return None
    return ",".join(
        join_list([f"{word}={classes[0]}", *classes[1:]]) for word, classes in label_map.items()
    )


def _shareable(path: str | Path) -> str:
    """Return a path that names nothing of this machine: relative to here, or its last part."""
    given = Path(path)
    if given.is_absolute() or ".." in given.parts:
        try:
            given = given.resolve().relative_to(Path(os.getcwd()).resolve())
        except ValueError:
            return given.resolve().name
    return given.as_posix()
