"""Loading the model that settings name, onto the device that they name; torch comes with it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from camreport.errors import ModelError
from camreport.pipeline.prepare import changes_of
from camreport.settings import Settings, check_device

if TYPE_CHECKING:
    import torch
    from torch import nn

    from camreport.models import LoadedModel


def load(settings: Settings, class_names: Sequence[str] | None = None) -> "LoadedModel":
    """Load the model that settings name, as ``load_model`` does; see there for ``Raises``."""
    from camreport.models import load_model

    return load_model(
        cast("str | nn.Module | LoadedModel", settings.model),
        checkpoint=settings.checkpoint,
        weights=settings.weights,
        trust_checkpoint=settings.trust_checkpoint,
        output=settings.output,
        class_names=class_names,
        **changes_of(settings),
    )


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
