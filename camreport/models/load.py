"""``load_model``: the one door to every source of models."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from torch import nn

from camreport.errors import ClassError, ModelError
from camreport.images.preprocessing import PreprocessingChanges
from camreport.models.bundled import load_bundled
from camreport.models.heads import check_head
from camreport.models.loaded import (
    Architecture,
    LoadedModel,
    count_classes,
    numbered_classes,
    wrap_module,
)
from camreport.models.own_code import known_by_name, load_own_code, own_architecture
from camreport.models.timm_zoo import load_timm, timm_architecture
from camreport.settings import BUNDLED, EFFICIENTNET_LITE0, TIMM, check_weights, is_own_code


def load_model(
    model: str | nn.Module | LoadedModel = BUNDLED,
    *,
    checkpoint: str | Path | None = None,
    weights: str = "default",
    trust_checkpoint: bool = False,
    output: str | None = None,
    class_names: Sequence[str] | None = None,
    **changes: Unpack[PreprocessingChanges],
) -> LoadedModel:
    """Load a classifier with its preprocessing, class names and provenance.

    Args:
        model: ``catdog-alexnet`` (bundled), ``efficientnet-lite0``, a torchvision name,
            ``timm:NAME``, your own code as ``file.py:build`` or ``package.module:build``, or a
            module, which gets ImageNet's preprocessing (224 × 224, squashed).
        checkpoint: a file with weights for it: a state dict, bare or wrapped, a whole model, a
            TorchScript archive, safetensors, or a Keras VGG16. Under the bundled name,
            AlexNet, VGG and ResNet are recognised from the names and shapes of their tensors.
        weights: ``default``, or ``none`` for the architecture with random weights.
        trust_checkpoint: open a file that could run code.
        output: which part of what the model returns holds the logits.
        class_names: one name per class index, instead of the model's own.
        changes: what to change in the model's own preprocessing: ``image_size``, ``resize``
            (``squash``, ``short-side``, ``none``), ``mean``, ``std``, ``channel_order`` (``rgb``,
            ``bgr``), ``scale`` (1, 255).

    Raises:
        ModelError: unknown name, missing or refused weights, or a model that does not run.
        ClassError: not one class name per class.
    """
    loaded = _load(model, checkpoint, weights, trust_checkpoint)
    check_head(loaded)
    preprocessing = loaded.preprocessing.changed(changes)
    resized = preprocessing.size != loaded.preprocessing.size
    if preprocessing != loaded.preprocessing:
        notes = tuple(
            f"{note}, except for the options you set" if note.startswith("preprocessing:") else note
            for note in loaded.notes
        )
        loaded = replace(loaded, preprocessing=preprocessing, notes=notes)
    is_assumed = checkpoint is not None and not is_own_code(str(model))
    if is_assumed and changes.get("resize") is None and preprocessing.cuts:
        loaded = _whole_where_it_fits(loaded)
    if output is not None:
        loaded = replace(loaded, output=output)
    if isinstance(model, str) and (resized or not loaded.class_names):
        loaded = _with_counted_classes(loaded)
    if class_names is None:
        return loaded
    if loaded.class_names and len(class_names) != len(loaded.class_names):
        raise ClassError(
            f"class names: expected {len(loaded.class_names)}, one per class of {loaded.name} "
            f"({loaded.source}), got {len(class_names)}: {', '.join(class_names[:5])}."
            + (" Put commas between them." if len(class_names) == 1 else "")
        )
    notes = tuple(note for note in loaded.notes if not note.startswith("classes:"))
    return replace(loaded, class_names=tuple(class_names), notes=notes)


def _load(
    model: str | nn.Module | LoadedModel,
    checkpoint: str | Path | None,
    weights: str,
    trusted: bool,
) -> LoadedModel:
    check_weights(weights)
    if not isinstance(model, str):
        if checkpoint is not None or weights != "default":
            raise ModelError(
                "model: a module brings its own weights: give a name with checkpoint or weights."
            )
        return model if isinstance(model, LoadedModel) else wrap_module(model)
    if checkpoint is not None:
        if weights != "default":
            raise ModelError("weights: a checkpoint brings them: leave --weights none out.")
        from camreport.models.checkpoint import load_checkpoint

        architecture = _architecture(model)
        with known_by_name(model) if trusted and is_own_code(model) else nullcontext():
            return load_checkpoint(Path(checkpoint), architecture, trusted)
    if model == BUNDLED:
        if weights == "none":
            raise ModelError(f"weights: {BUNDLED} comes with its own; --model alexnet has none.")
        return load_bundled()
    if model == EFFICIENTNET_LITE0:
        from camreport.models.imagenet import load_efficientnet_lite0

        return load_efficientnet_lite0(weights)
    if model.startswith(TIMM):
        return load_timm(model, weights)
    if is_own_code(model):
        if weights == "none":
            raise ModelError("weights: code of your own makes them: leave --weights none out.")
        return load_own_code(model)
    from camreport.models.zoo import load_torchvision

    return load_torchvision(model, weights)


def _architecture(name: str) -> Architecture | None:
    """Return where a file's weights go; None where the file itself has to tell."""
    if name == BUNDLED:
        return None
    if name == EFFICIENTNET_LITE0:
        from camreport.models.imagenet import efficientnet_lite0_architecture

        return efficientnet_lite0_architecture()
    if name.startswith(TIMM):
        return timm_architecture(name)
    if is_own_code(name):
        return own_architecture(name)
    from camreport.models.zoo import torchvision_architecture

    return torchvision_architecture(name)


def _whole_where_it_fits(loaded: LoadedModel) -> LoadedModel:
    """Return a model that takes images of its input size whole, and say what it does to others.

    A weights file says nothing of its preprocessing. Photographs that have the input size were
    most likely prepared for it: to enlarge them and cut their edges off would hide a part.
    """
    height, width = loaded.preprocessing.size
    note = (
        f"cut: images of {width} × {height} are taken whole; the edges of all others are cut off, "
        f"as is usual for {loaded.name}; --resize squash gives the model all of every image"
    )
    preprocessing = replace(loaded.preprocessing, whole_at_size=True)
    return replace(loaded, preprocessing=preprocessing, notes=(*loaded.notes, note))


def _with_counted_classes(loaded: LoadedModel) -> LoadedModel:
    """Return a model with numbers for class names, as many as it has logits, if it has none."""
    count = count_classes(loaded.module, loaded.preprocessing, loaded.output)
    if loaded.class_names:
        return loaded
    note = (
        f"classes: {loaded.name} brings no names, they are called 'class 0' to "
        f"'class {count - 1}'; name them with --class-names"
    )
    return replace(loaded, class_names=numbered_classes(count), notes=(*loaded.notes, note))
