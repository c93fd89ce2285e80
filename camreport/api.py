"""``run``: from files to a finished report; ``compare``: from runs. The command line calls them.

What can be refused without torch is refused before torch is imported.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from camreport.errors import InputError, suggestion
from camreport.files import locked
from camreport.images.inputs import InputFile, printable, read_input
from camreport.images.pixels import decode
from camreport.insight.compare.classes import read_label_map
from camreport.messages.progress import Measuring, Notify, Progress, silent, unseen
from camreport.pipeline.loading import choose_device, load
from camreport.pipeline.prepare import (
    Prepared,
    known_groups,
    known_regions,
    prepare,
    resolve_classes,
    resolve_quantity,
    right_classes,
)
from camreport.report.comparison import write_comparison
from camreport.report.export import export_figures, remove_exports
from camreport.report.gallery import check_rendering, render_gallery
from camreport.settings import AUTO, Layout, Settings, SettingsDict, options_of

if TYPE_CHECKING:
    from camreport.models import LoadedModel
    from camreport.pipeline.records import Summary
    from camreport.pipeline.run_plan import Request, ShardLimits


def run(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    settings: Settings | None = None,
    export: Callable[[Path], object] = export_figures,
    found: Callable[[int], None] = lambda count: None,
    progress: Progress = lambda count: None,
    notify: Notify = lambda message: None,
    measuring: Measuring = unseen,
    limits: "ShardLimits | None" = None,
    **options: Unpack[SettingsDict],
) -> "Summary":
    """Explain images and write ``OUT/results`` and the report ``OUT/index.html``.

    Where the results are new, the table and the figures of earlier ones go. A part of a run only
    writes shards.

    Args:
        inputs: files, folders or glob patterns.
        out: folder of the report; new, empty, or an earlier report's.
        settings: what to compute and how to show it; the defaults if None.
        export: writes ``OUT/figures`` where the settings ask for figures.
        found: called once with the number of inputs, before the model is loaded.
        progress: called with the number of newly finished inputs; fractional within one input.
        notify: called with each warning, and with the reason for each skipped method, before
            computation starts.
        measuring: called once the maps are computed, with the number of passes over one image that
            the evidence takes; it returns what is told of finished passes.
        limits: how the run is cut into shards; the device's if None.
        options: fields of ``Settings``; they override those of ``settings``.

    Raises:
        InputError: an input or the output folder is not usable, or no image could be read.
        WorkerError: workers have died; finished shards stay.
        ModelError, LayerError, ClassError, MethodError: see ``load_model`` and ``explain``.
            Nothing is written in any of these cases.
        TypeError: there is no such option.
    """
    prepared = prepare(inputs, out, changed(settings or Settings(), options), notify)
    check_rendering(prepared.out, prepared.settings.layout, prepared.settings.language)
    found(len(prepared.files))

    # torch is imported from here on
    from camreport.pipeline.local import compute

    settings, folder = prepared.settings, prepared.out
    loaded, request = _load_and_resolve(prepared, notify)
    with locked(folder, shared=settings.part is not None):
        summary = compute(
            loaded, prepared.files, folder, request, progress, notify, measuring, limits
        )
        if summary.part:
            return summary
        render_gallery(folder, layout=settings.layout, language=settings.language)
        if summary.changed:
            remove_exports(folder)
        if settings.figures:
            export(folder)
    return summary


def compare(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    label_map: str | Path | Mapping[str, object] | None = None,
    pairs: Mapping[str, str] | None = None,
    layout: Layout = "auto",
    language: str = "en",
    overwrite: bool = False,
    progress: Progress = silent,
    notify: Notify = lambda message: None,
) -> Path:
    """Compare finished runs of the same images and write the report ``OUT/index.html``.

    Nothing is computed that needs a model. ``OUT/results`` names the runs, which stay where they
    are.

    Args:
        paths: folders of two or more runs, or patterns; the others are compared with the first one.
        out: folder of the report; new, empty, or an earlier comparison's.
        label_map: for each word the classes that it stands for, by name, index, or first and last
            index: a mapping, a text like ``cat=281-285,dog=151-268``, or a file (JSON, TOML, CSV).
        pairs: for layers of the first run those of other runs that stand for them.
        layout: ``auto``, ``single`` or ``folder``, as for ``run``.
        language: that the page opens in, ``en`` or ``zh``.
        overwrite: whether a folder of another program may be used.
        progress: called with the number of images that are newly done; each is read twice.
        notify: called with what the comparison comes to, in a sentence.

    Returns:
        The path of the report.

    Raises:
        InputError: fewer than two runs, or the output folder is not usable.
        ResultsError: a run is unfinished, damaged or of another schema, or they share no image.
        ClassError: the runs' classes do not have the same names, or the label map is wrong.
        LayerError, MethodError: there are no maps to compare. Nothing is written in these cases.
    """
    listed = [paths] if isinstance(paths, str | Path) else [*paths]
    return write_comparison(
        listed,
        Path(out),
        pairs=pairs or {},
        label_map=None if label_map is None else read_label_map(label_map),
        layout=layout,
        language=language,
        overwrite=overwrite,
        progress=progress,
        notify=notify,
    )


def changed(settings: Settings, options: SettingsDict) -> Settings:
    """Return settings with some of their fields changed.

    Raises:
        TypeError: there is no such field.
    """
    for name in options.keys() - options_of(type(settings)).keys():
        near = suggestion(name, options_of(type(settings)))
        raise TypeError(f"options: expected fields of Settings, got {name!r}.{near}")
    return replace(settings, **options)


def _load_and_resolve(prepared: Prepared, notify: Notify) -> "tuple[LoadedModel, Request]":
    """Load the model and resolve the options that need it: layers, classes, labels, regions.

    Raises:
        CamReportError: as for ``run``.
    """
    from camreport.pipeline.run_plan import Request, contributing_layers, request_layers

    settings, files = prepared.settings, prepared.files
    loaded = _loaded(prepared, notify)
    layers = request_layers(loaded, settings.layers)
    channels = {} if settings.channels is None else request_layers(loaded, settings.channels)
    quantity = resolve_quantity(settings.quantity, loaded.class_names)
    targets = resolve_classes(settings.classes, loaded.class_names)
    truth = right_classes(settings, files, loaded.class_names, notify)
    regions = known_regions(prepared, loaded.class_names, loaded.preprocessing, notify)
    if loaded.warning:
        notify(f"warning: {loaded.warning}")
    model = settings.model if isinstance(settings.model, str) else loaded.name
    recorded = replace(settings, model=model, class_names=prepared.class_names)
    command = recorded.command(prepared.inputs, prepared.out)
    request = Request(
        settings=settings,
        layers=layers,
        channels=channels,
        contributions=contributing_layers(loaded, settings, layers, prepared.methods),
        methods=prepared.methods,
        targets=targets,
        quantity=quantity,
        labels=truth,
        groups=known_groups(settings, files),
        regions=regions,
        command=printable(command),
    )
    return loaded, request


def _loaded(prepared: Prepared, notify: Notify) -> "LoadedModel":
    """Load the model on the device to compute on; warn if code in its file may run."""
    settings = prepared.settings
    if settings.resize == "none" and settings.image_size is None:
        settings = replace(settings, image_size=_size_of_first(prepared.files))
    if settings.trust_checkpoint and settings.checkpoint is not None:
        name = Path(settings.checkpoint).name
        notify(f"warning: {name} is trusted: code in it runs on this machine")
    loaded = load(settings, prepared.class_names)
    if isinstance(settings.model, str) or settings.device != AUTO:
        loaded.module.to(choose_device(settings.device))
    return loaded


def _size_of_first(files: Sequence[InputFile]) -> tuple[int, int] | None:
    """Return height and width of the first image that can be read, if any can."""
    for file in files:
        try:
            image = decode(read_input(file))
        except (OSError, InputError):
            continue
        return image.height, image.width
    return None
