"""``run``: from files to a finished report; what the command line calls.

What can be refused without torch is refused before torch is imported.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack, cast

from camreport.errors import ClassError, InputError, ModelError, suggestion
from camreport.files import locked
from camreport.images.classes import find_class, read_class_names
from camreport.images.inputs import InputFile, Notify, find_images, printable, read_file
from camreport.images.labels import FOLDER, read_label_map, true_classes
from camreport.images.pixels import decode
from camreport.images.preprocessing import Preprocessing, PreprocessingChanges
from camreport.methods import Method, resolve_methods
from camreport.report.export import export_figures, remove_exports
from camreport.report.gallery import check_rendering, render_gallery
from camreport.results.reader import check_output
from camreport.settings import (
    AUTO,
    Settings,
    SettingsDict,
    check_checkpoint,
    check_device,
    check_model,
    options_of,
    split_list,
)

if TYPE_CHECKING:
    import torch

    from camreport.models import LoadedModel
    from camreport.pipeline.local import Progress, Request, Summary


@dataclass(frozen=True)
class Prepared:
    """A run that nothing without torch has refused.

    Attributes:
        settings: what is asked, with every path complete and every file of names read.
        inputs: files, folders and patterns, as given but for ``~``.
        out: folder of the report.
        files: the images that the inputs lead to.
        methods: those of the settings, without repeats.
    """

    settings: Settings
    inputs: tuple[str | Path, ...]
    out: Path
    files: tuple[InputFile, ...]
    methods: tuple[Method, ...]


def run(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    settings: Settings | None = None,
    export: Callable[[Path], object] = export_figures,
    found: Callable[[int], None] = lambda count: None,
    progress: "Progress" = lambda count: None,
    notify: Notify = lambda message: None,
    **options: Unpack[SettingsDict],
) -> "Summary":
    """Explain images and write ``OUT/results`` and the report ``OUT/index.html``.

    Where the results are new, the table and the figures of earlier ones go.

    Args:
        inputs: files, folders or glob patterns.
        out: folder of the report; new, empty, or an earlier report's.
        settings: what to compute and how to show it; the defaults if None.
        export: writes ``OUT/figures`` where the settings ask for figures.
        found: called once with the number of inputs, before the model is loaded.
        progress: called with the number of newly finished inputs; fractional within one input.
        notify: called with each warning, and with the reason for each skipped method, before
            computation starts.
        options: fields of ``Settings`` that take the place of those in ``settings``.

    Raises:
        InputError: an input or the output folder is not usable, or no image could be read.
        ModelError, LayerError, ClassError, MethodError: see ``load_model`` and ``explain``.
            Nothing is written in any of these cases.
        TypeError: there is no such option.
    """
    prepared = prepare(inputs, out, changed(settings or Settings(), options), notify)
    found(len(prepared.files))

    # torch is imported from here on
    from camreport.pipeline.local import compute, run_settings
    from camreport.results.writer import ResultsWriter

    settings, folder = prepared.settings, prepared.out
    loaded, request = _planned(prepared, notify)
    with locked(folder):
        writer = ResultsWriter(folder, run_settings(loaded, request), settings.overwrite)
        summary = compute(loaded, prepared.files, writer, request, progress)
        render_gallery(folder, layout=settings.layout, language=settings.language)
        if summary.changed:
            remove_exports(folder)
        if settings.figures:
            export(folder)
    return summary


def changed(settings: Settings, options: SettingsDict) -> Settings:
    """Return settings with some of their fields changed.

    Raises:
        TypeError: there is no such field.
    """
    for name in options.keys() - options_of(type(settings)).keys():
        near = suggestion(name, options_of(type(settings)))
        raise TypeError(f"options: expected fields of Settings, got {name!r}.{near}")
    return replace(settings, **options)


def prepare(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    settings: Settings,
    notify: Notify = lambda message: None,
) -> Prepared:
    """Refuse what can be refused without torch, and find the images. Nothing is written.

    Raises:
        CamReportError: as for ``run``.
    """
    listed = tuple(_listed_inputs(inputs))
    folder = _home(out, "output")
    methods = tuple(resolve_methods(settings.methods))
    settings = _read(settings)
    check_loading(settings)
    _check_classes(settings)
    check_output(folder, settings.overwrite)
    check_rendering(folder, settings.layout, settings.language)
    files = tuple(find_images(listed, exclude=folder, notify=notify))
    _check_labels(settings, files)
    return Prepared(settings, listed, folder, files, methods)


def _read(settings: Settings) -> Settings:
    """Return settings with ``~`` expanded in their paths and the file of class names read."""
    labels, names, file = settings.labels, settings.class_names, settings.checkpoint
    if isinstance(labels, str | Path):
        labels = FOLDER if str(labels) == FOLDER else _home(labels)
    if isinstance(names, Path):
        names = read_class_names(names)
    file = None if file is None else _home(file, "checkpoint")
    return replace(settings, labels=labels, class_names=names, checkpoint=file)


def _planned(prepared: Prepared, notify: Notify) -> "tuple[LoadedModel, Request]":
    """Load the model and settle what is computed of every image; tell what the user should know.

    Raises:
        CamReportError: as for ``run``.
    """
    from camreport.engine.explainer import Explainer
    from camreport.pipeline.local import Request, request_layers

    settings, files = prepared.settings, prepared.files
    loaded = _loaded(settings, files, notify)
    layers = request_layers(loaded, settings.layers)
    channels = {} if settings.channels is None else request_layers(loaded, settings.channels)
    explainer = Explainer(
        loaded,
        layers,
        settings.methods,
        channels=channels,
        quantity=resolve_quantity(settings.quantity, loaded.class_names),
        gamma=settings.gamma,
        stages=settings.stages,
        smooth=settings.smooth,
        seed=settings.seed,
        activation=settings.activation,
        batch_size=settings.batch_size,
    )
    targets = resolve_classes(settings.classes, loaded.class_names)
    truth = _truth(settings, files, loaded.class_names, notify)
    if loaded.warning:
        notify(f"warning: {loaded.warning}")
    for reason in dict.fromkeys(str(skip.reason) for skip in explainer.draft.skipped):
        notify(reason)
    model = settings.model if isinstance(settings.model, str) else loaded.name
    command = replace(settings, model=model).command(prepared.inputs, prepared.out)
    return loaded, Request(explainer, targets, truth, settings.batch_size, printable(command))


def _loaded(settings: Settings, files: Sequence[InputFile], notify: Notify) -> "LoadedModel":
    """Load the model on the device to compute on; tell if code in its file may run."""
    size = None
    if settings.resize == "none" and settings.image_size is None:
        size = _size_of_first(files)
    if settings.trust_checkpoint and settings.checkpoint is not None:
        name = Path(settings.checkpoint).name
        notify(f"warning: {name} is trusted: code in it runs on this machine")
    loaded = load(settings if size is None else replace(settings, image_size=size))
    if isinstance(settings.model, str) or settings.device != AUTO:
        loaded.module.to(choose_device(settings.device))
    return loaded


def load(settings: Settings) -> "LoadedModel":
    """Load the model that settings name, as ``load_model`` does."""
    from camreport.models import load_model

    return load_model(
        settings.model,
        checkpoint=settings.checkpoint,
        weights=settings.weights,
        trust_checkpoint=settings.trust_checkpoint,
        output=settings.output,
        class_names=_names(settings),
        **changes_of(settings),
    )


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


def check_loading(settings: Settings) -> None:
    """Refuse what is wrong about a model, as far as that shows before torch is imported.

    Raises:
        ModelError: there is no such model or file, or no model's preprocessing takes the changes,
            whichever value it has for white.
    """
    check_model(settings.model, settings.weights)
    check_checkpoint(settings.checkpoint)
    changes = changes_of(settings)
    try:
        Preprocessing(scale=1).changed(changes)
    except ModelError:
        Preprocessing(scale=255).changed(changes)


def changes_of(settings: Settings) -> PreprocessingChanges:
    """Return what settings change in the model's own preprocessing."""
    return cast(PreprocessingChanges, settings.deciding("preprocessing"))


def _check_classes(settings: Settings) -> None:
    """Refuse classes that are none of the given names.

    Raises:
        ClassError: they are.
    """
    names = _names(settings)
    if names:
        resolve_classes(settings.classes, names)
        resolve_quantity(settings.quantity, names)


def _check_labels(settings: Settings, files: Sequence[InputFile]) -> None:
    """Refuse labels that cannot be read, or that are none of the given names.

    Raises:
        ClassError: they are.
    """
    labels, names = settings.labels, _names(settings)
    if settings.label_map and labels is None:
        raise ClassError("label_map: expected labels that it explains, got none. Add --labels.")
    if names:
        _truth(settings, files, names)
    elif isinstance(labels, Path) and not os.path.isfile(labels):
        raise ClassError(
            f"labels: expected 'folder', a CSV file or a mapping, found no file {str(labels)!r}."
        )


def _names(settings: Settings) -> Sequence[str] | None:
    """Return the class names that the settings give, once their file has been read."""
    assert not isinstance(settings.class_names, Path)
    return settings.class_names


def _truth(
    settings: Settings,
    files: Sequence[InputFile],
    names: Sequence[str],
    notify: Notify = lambda message: None,
) -> dict[int, tuple[int, ...]]:
    """Return the classes that count as right, by the input's index; see ``true_classes``."""
    if settings.labels is None:
        return {}
    given = settings.label_map
    label_map = read_label_map(given, names) if isinstance(given, str) else given
    return true_classes(settings.labels, files, names, notify, label_map)


def _words(classes: str | Sequence[int | str]) -> list[int | str]:
    return [*split_list(classes)] if isinstance(classes, str) else list(classes)


def _is_top(word: str) -> bool:
    return word.startswith("top") and word[3:].isdecimal() and int(word[3:]) > 0


def _some_names(names: Sequence[str]) -> str:
    if not names:
        return " This model's classes have no names: give them with class_names."
    return f" The model has {', '.join(names[:5])}{', …' if len(names) > 5 else ''}."


def _size_of_first(files: Sequence[InputFile]) -> tuple[int, int] | None:
    """Return height and width of the first image that can be read, if any can."""
    for file in files:
        try:
            image = decode(read_file(file.path))
        except (OSError, InputError):
            continue
        return image.height, image.width
    return None
