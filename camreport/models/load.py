"""``load_model``: the entry point to every source of models."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TypeGuard, Unpack

from torch import nn

from camreport.errors import ClassError, ModelError
from camreport.images.preprocessing import PreprocessingChanges
from camreport.messages import Message, message
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

# ``checkpoint``, ``imagenet`` and ``zoo`` import torchvision, which takes as long as torch itself:
# they are imported where a model needs them.


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
        output: key, attribute or index of the logits in the model's output.
        class_names: one name per class index, instead of the model's own.
        changes: what to change in the model's own preprocessing: ``image_size``, ``resize``
            (``squash``, ``short-side``, ``none``), ``mean``, ``std``, ``channel_order`` (``rgb``,
            ``bgr``), ``scale`` (1, 255).

    Raises:
        ModelError: unknown name, missing or refused weights, or a model that does not run.
        ClassError: not one class name per class.
    """
    loaded = _from_source(model, checkpoint, weights, trust_checkpoint)
    check_head(loaded)
    size = loaded.preprocessing.size
    loaded = _with_changes(loaded, changes)
    is_assumed = checkpoint is not None and not is_own_code(str(model))
    if is_assumed and changes.get("resize") is None and loaded.preprocessing.cuts:
        loaded = _whole_where_it_fits(loaded)
    if output is not None:
        loaded = replace(loaded, output=output)
    resized = loaded.preprocessing.size != size
    if isinstance(model, str) and (resized or not loaded.class_names):
        loaded = _with_counted_classes(loaded)
    return loaded if class_names is None else _with_class_names(loaded, class_names)


def _from_source(
    model: str | nn.Module | LoadedModel,
    checkpoint: str | Path | None,
    weights: str,
    trusted: bool,
) -> LoadedModel:
    """Return a model as its source gives it, or with the weights of a file."""
    check_weights(weights)
    if not isinstance(model, str):
        if checkpoint is not None or weights != "default":
            raise ModelError(
                "model: a module brings its own weights: give a name with checkpoint or weights."
            )
        return model if isinstance(model, LoadedModel) else wrap_module(model)
    if checkpoint is None:
        return _by_name(model, weights)
    if weights != "default":
        raise ModelError("weights: a checkpoint brings them: leave --weights none out.")
    from camreport.models.checkpoint import load_checkpoint

    architecture = _architecture(model)
    with known_by_name(model) if trusted and is_own_code(model) else nullcontext():
        return load_checkpoint(Path(checkpoint), architecture, trusted)


def _by_name(name: str, weights: str) -> LoadedModel:
    """Return the model of a name."""
    if name == BUNDLED:
        if weights == "none":
            raise ModelError(f"weights: {BUNDLED} comes with its own; --model alexnet has none.")
        return load_bundled()
    if name == EFFICIENTNET_LITE0:
        from camreport.models.imagenet import load_efficientnet_lite0

        return load_efficientnet_lite0(weights)
    if name.startswith(TIMM):
        return load_timm(name, weights)
    if is_own_code(name):
        if weights == "none":
            raise ModelError("weights: code of your own makes them: leave --weights none out.")
        return load_own_code(name)
    from camreport.models.zoo import load_torchvision

    return load_torchvision(name, weights)


def _architecture(name: str) -> Architecture | None:
    """Return the architecture for a file's weights; None to recognise it from the file."""
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


def _with_changes(loaded: LoadedModel, changes: PreprocessingChanges) -> LoadedModel:
    """Return a model with the user's preprocessing; notes on its own one say what was replaced."""
    preprocessing = loaded.preprocessing.changed(changes)
    if preprocessing == loaded.preprocessing:
        return loaded
    notes = tuple(
        message("models.preprocessing_changed", note=note)
        if _is_about(note, "preprocessing")
        else note
        for note in loaded.notes
    )
    return replace(loaded, preprocessing=preprocessing, notes=notes)


def _whole_where_it_fits(loaded: LoadedModel) -> LoadedModel:
    """Return a model that takes images of its input size whole, with a note about all others.

    A weights file does not contain its preprocessing. Photographs of exactly the input size were
    most likely prepared for the model: enlarging them and cutting their edges off would hide a
    part.
    """
    height, width = loaded.preprocessing.size
    note = message("models.edges_cut", width=width, height=height, model=loaded.name)
    preprocessing = replace(loaded.preprocessing, whole_at_size=True)
    return replace(loaded, preprocessing=preprocessing, notes=(*loaded.notes, note))


def _with_counted_classes(loaded: LoadedModel) -> LoadedModel:
    """Return a model that was run once; its classes are numbered if it has no names for them."""
    names = numbered_classes(count_classes(loaded.module, loaded.preprocessing, loaded.output))
    if loaded.class_names:
        return loaded
    note = message("models.classes_unnamed", model=loaded.name, first=names[0], last=names[-1])
    return replace(loaded, class_names=names, notes=(*loaded.notes, note))


def _with_class_names(loaded: LoadedModel, class_names: Sequence[str]) -> LoadedModel:
    """Return a model with the user's class names.

    Raises:
        ClassError: not one class name per class.
    """
    if loaded.class_names and len(class_names) != len(loaded.class_names):
        raise ClassError(
            f"class names: expected {len(loaded.class_names)}, one per class of {loaded.name} "
            f"({loaded.source}), got {len(class_names)}: {', '.join(class_names[:5])}."
            + (" Put commas between them." if len(class_names) == 1 else "")
        )
    notes = tuple(note for note in loaded.notes if not _is_about(note, "classes"))
    return replace(loaded, class_names=tuple(class_names), notes=notes)


def _is_about(note: str | Message, subject: str) -> TypeGuard[Message]:
    """Return whether a note is one of ours about ``preprocessing`` or ``classes``."""
    return isinstance(note, Message) and note.code.startswith(f"models.{subject}_")
