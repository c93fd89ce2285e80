"""Checks of a run's settings and inputs that do not need torch."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from camreport.errors import ClassError, InputError, ModelError, suggestion
from camreport.images.classes import find_class, read_class_names
from camreport.images.inputs import InputFile
from camreport.images.labels import (
    FOLDER,
    TAR_LABELS,
    LabelMap,
    group_values,
    read_label_map,
    true_classes,
)
from camreport.images.preprocessing import Preprocessing, PreprocessingChanges
from camreport.images.regions.entries import named
from camreport.images.regions.find import (
    FoundRegions,
    find_regions,
    mostly_unseen,
    with_classes,
)
from camreport.images.regions.read import without_masks
from camreport.images.regions.region import PhotoRegions
from camreport.images.search import find_images
from camreport.messages.progress import Notify
from camreport.methods import Method, resolve_methods
from camreport.metrics import resolve_metrics
from camreport.results.reader import check_output
from camreport.settings import OFF, Settings, check_checkpoint, check_model, split_list


@dataclass(frozen=True)
class Prepared:
    """A run whose settings and inputs have passed every check that does not need torch.

    Attributes:
        settings: the settings of the user, with ``~`` expanded in every path.
        inputs: files, folders and patterns as the user gave them, with ``~`` expanded.
        out: folder of the report.
        files: the images found in the inputs.
        methods: the methods of the settings, without repeats.
        class_names: the class names of the settings, read from their file; None if the settings
            have none, so that the model's own names are used.
        regions: the regions of the files, with classes as the user calls them; None if the
            settings have none.
    """

    settings: Settings
    inputs: tuple[str | Path, ...]
    out: Path
    files: tuple[InputFile, ...]
    methods: tuple[Method, ...]
    class_names: Sequence[str] | None
    regions: Mapping[int, FoundRegions] | None


def prepare(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    settings: Settings,
    notify: Notify = lambda message: None,
) -> Prepared:
    """Check everything that can be checked without torch, and find the images; write nothing.

    Raises:
        CamReportError: as for ``run``.
    """
    listed = tuple(_listed_inputs(inputs))
    folder = _home(out, "output")
    methods = tuple(resolve_methods(settings.methods))
    if settings.metrics:
        resolve_metrics(settings.metrics)
    settings, names = _at_home(settings), class_names_of(settings)
    check_loading(settings)
    if names:
        resolve_classes(settings.classes, names)
        resolve_quantity(settings.quantity, names)
    check_output(folder, settings.overwrite)
    found = find_images(listed, folder, notify, labelled=settings.labels == TAR_LABELS)
    files = without_masks(found, settings.regions)
    _check_labels(settings, files, names)
    regions = _find_regions(settings, files, names, notify)
    return Prepared(settings, listed, folder, files, methods, names, regions)


def check_loading(settings: Settings) -> None:
    """Check a model's settings as far as that is possible before torch is imported.

    Raises:
        ModelError: there is no such model or file, or the changes of the preprocessing are invalid
            for models with pixels from 0 to 1 as well as from 0 to 255.
    """
    check_model(settings.model, settings.weights)
    check_checkpoint(settings.checkpoint)
    changes = changes_of(settings)
    try:
        Preprocessing(scale=1).changed(changes)
    except ModelError:
        Preprocessing(scale=255).changed(changes)


def changes_of(settings: Settings) -> PreprocessingChanges:
    """Return the settings' changes to the model's own preprocessing."""
    return cast(PreprocessingChanges, settings.deciding("preprocessing"))


def class_names_of(settings: Settings) -> Sequence[str] | None:
    """Return the class names of the settings, read from their file if they are in one.

    Raises:
        ClassError: the file cannot be read.
    """
    names = settings.class_names
    return read_class_names(names) if isinstance(names, Path) else names


def resolve_classes(classes: str | Sequence[int | str], names: Sequence[str]) -> list[int] | str:
    """Return classes as indices; return ``all``, ``topK`` and ``auto`` unchanged.

    Args:
        classes: one of these words, or indices and names (in a text: separated by commas).
        names: the model's class names; empty if they are unknown.

    Raises:
        ClassError: the model does not have a class of that name or index.
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
    """Return the quantity, with the class after ``contrast:`` replaced by its index.

    Raises:
        ClassError: the model does not have that class.
    """
    kind, colon, rival = quantity.partition(":")
    if not colon:
        return kind
    try:
        indices = resolve_classes([rival], names)
    except ClassError as error:
        text = str(error).replace("classes: expected all, top3, ", "quantity: expected ", 1)
        raise ClassError(text) from None
    if not isinstance(indices, list):
        raise ClassError(f"quantity: expected one class after 'contrast:', got {rival!r}.")
    return f"{kind}:{indices[0]}"


def right_classes(
    settings: Settings,
    files: Sequence[InputFile],
    names: Sequence[str],
    notify: Notify = lambda message: None,
) -> dict[int, tuple[int, ...]]:
    """Return the classes that count as right for every input with a label, by its index.

    Args:
        settings: the settings with the labels and the label map.
        files: the inputs.
        names: the model's class names.
        notify: as for ``true_classes``.

    Raises:
        ClassError: as for ``true_classes``.
    """
    if settings.labels is None:
        return {}
    return true_classes(settings.labels, files, names, notify, _label_map(settings, names))


def known_groups(
    settings: Settings, files: Sequence[InputFile]
) -> dict[int, tuple[str | None, ...]]:
    """Return the values of the settings' columns of groups, by the input's index.

    Raises:
        ClassError: the labels are in no file, or as for ``group_values``.
    """
    if settings.groups is None:
        return {}
    if not isinstance(settings.labels, Path):
        raise ClassError(
            "groups: expected labels in a CSV file that has these columns, got "
            f"{'none' if settings.labels is None else repr(settings.labels)}. Add --labels FILE."
        )
    return group_values(settings.labels, settings.groups, files)


def known_regions(
    prepared: Prepared,
    names: Sequence[str],
    preprocessing: Preprocessing,
    notify: Notify = lambda message: None,
) -> dict[int, PhotoRegions] | None:
    """Return the regions of the inputs with the model's classes, by the input's index.

    Args:
        prepared: the run.
        names: the model's class names.
        preprocessing: the model's.
        notify: called with sentences about classes that the model does not have, and regions of
            which it sees less than half.

    Returns:
        None if the settings have no regions.

    Raises:
        ClassError: as for ``with_classes``.
    """
    if prepared.regions is None:
        return None
    label_map = _label_map(prepared.settings, names)
    regions = with_classes(prepared.regions, names, notify, label_map)
    if hidden := mostly_unseen(regions, preprocessing):
        files = named([prepared.files[index].name for index in hidden])
        notify(
            f"regions: the model cuts edges off, and sees less than half of a region in "
            f"{len(hidden):,} of {len(regions):,} images: {files}"
        )
    return regions


def _label_map(settings: Settings, names: Sequence[str]) -> LabelMap | None:
    given = settings.label_map
    return read_label_map(given, names) if isinstance(given, str) else given


def _find_regions(
    settings: Settings, files: Sequence[InputFile], names: Sequence[str] | None, notify: Notify
) -> dict[int, FoundRegions] | None:
    """Return the regions of the inputs, checked against the class names if these are given.

    Raises:
        InputError: as for ``find_regions``, or nothing is measured.
        ClassError: as for ``with_classes``.
    """
    if settings.regions is None:
        return None
    if settings.evidence == OFF:
        raise InputError(
            "regions: expected evidence, which compares maps with regions, got evidence 'off'. "
            "Leave one of the two out."
        )
    found = find_regions(settings.regions, files, notify)
    if names:
        with_classes(found, names, label_map=_label_map(settings, names))
    return found


def _check_labels(
    settings: Settings, files: Sequence[InputFile], names: Sequence[str] | None
) -> None:
    """Check that labels and groups can be read, and labels against the class names, if given.

    Raises:
        ClassError: the labels cannot be read, or are not among the class names.
    """
    labels = settings.labels
    if settings.label_map and labels is None and settings.regions is None:
        raise ClassError(
            "label_map: expected labels or regions that it explains, got none. Add --labels or "
            "--regions."
        )
    known_groups(settings, files)
    if names:
        right_classes(settings, files, names)
    elif isinstance(labels, Path) and not os.path.isfile(labels):
        raise ClassError(
            "labels: expected 'folder', 'tar', a CSV file or a mapping, found no file "
            f"{str(labels)!r}."
        )


def _listed_inputs(inputs: object) -> list[str | Path]:
    """Return inputs as a list of paths and patterns, with ``~`` expanded.

    Raises:
        InputError: the inputs are neither a path nor a list of paths.
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
        InputError: the argument is not a path.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"{argument}: expected a path, got {type(path).__name__}.")
    return Path(path).expanduser()


def _at_home(settings: Settings) -> Settings:
    """Return settings with ``~`` expanded in their paths."""
    labels, file, regions = settings.labels, settings.checkpoint, settings.regions
    if isinstance(labels, str | Path):
        labels = str(labels) if str(labels) in (FOLDER, TAR_LABELS) else _home(labels)
    file = None if file is None else _home(file, "checkpoint")
    regions = None if regions is None else _home(regions, "regions")
    return replace(settings, labels=labels, checkpoint=file, regions=regions)


def _words(classes: str | Sequence[int | str]) -> list[int | str]:
    return [*split_list(classes)] if isinstance(classes, str) else list(classes)


def _is_top(word: str) -> bool:
    return word.startswith("top") and word[3:].isdecimal() and int(word[3:]) > 0


def _some_names(names: Sequence[str]) -> str:
    if not names:
        return " This model's classes have no names: give them with class_names."
    return f" The model has {', '.join(names[:5])}{', …' if len(names) > 5 else ''}."
