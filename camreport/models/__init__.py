"""Where a model comes from: bundled, torchvision, or a user's checkpoint."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from camreport.errors import ClassError
from camreport.models.bundled import BUNDLED, load_bundled
from camreport.models.checkpoint import load_checkpoint
from camreport.models.loaded import LoadedModel, wrap_module
from camreport.models.zoo import load_torchvision

__all__ = ["LoadedModel", "load_model"]


def load_model(
    model: str | nn.Module | LoadedModel = BUNDLED,
    *,
    checkpoint: str | Path | None = None,
    class_names: Sequence[str] | None = None,
) -> LoadedModel:
    """Load a classifier with its preprocessing, class names and provenance.

    Args:
        model: ``catdog-alexnet`` (bundled), a torchvision name, or a module of your own, which
            gets ImageNet's preprocessing (224 × 224, squashed).
        checkpoint: a file with weights for it; the bundled name then stands for AlexNet.
        class_names: one name per class index, instead of the model's own.

    Raises:
        ModelError: unknown name, missing or refused weights.
        ClassError: not one class name per class.
    """
    loaded = _load(model, checkpoint)
    if class_names is None:
        return loaded
    if loaded.class_names and len(class_names) != len(loaded.class_names):
        raise ClassError(
            f"class names: expected {len(loaded.class_names)}, one per class of {loaded.name}, "
            f"got {len(class_names)}: {', '.join(class_names[:5])}."
        )
    notes = tuple(note for note in loaded.notes if not note.startswith("classes:"))
    return replace(loaded, class_names=tuple(class_names), notes=notes)


def _load(model: str | nn.Module | LoadedModel, checkpoint: str | Path | None) -> LoadedModel:
    if isinstance(model, LoadedModel):
        return model
    if isinstance(model, nn.Module):
        return wrap_module(model)
    if checkpoint is not None:
        return load_checkpoint(Path(checkpoint), "alexnet" if model == BUNDLED else model)
    if model == BUNDLED:
        return load_bundled()
    return load_torchvision(model)
