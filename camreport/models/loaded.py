"""``LoadedModel``: a classifier together with what is needed to use and to cite it."""

import hashlib
from dataclasses import dataclass, field

import torch
from torch import nn

from camreport.images import Preprocessing


@dataclass(frozen=True)
class LoadedModel:
    """A classifier, its preprocessing, class names and provenance.

    Attributes:
        module: in evaluation mode; maps ``(N, 3, H, W)`` to logits ``(N, num_classes)``.
        preprocessing: from a photograph to a model input.
        class_names: one per class index; empty where they are not known before a forward pass.
        name: as on the command line.
        source: where the weights come from, in words; no path of the user's machine.
        sha256: of the weights, hexadecimal.
        notes: what the user should be told about how it was loaded.
    """

    module: nn.Module
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    name: str
    source: str
    sha256: str
    notes: tuple[str, ...] = field(default=())

    @property
    def parameter_count(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.module.parameters())


def wrap_module(module: nn.Module) -> LoadedModel:
    """Take a user's own module as it is; its classes are counted in the first forward pass."""
    return LoadedModel(
        module=module,
        preprocessing=Preprocessing(),
        class_names=(),
        name=type(module).__name__,
        source="a module passed from Python",
        sha256=state_sha256(module),
        notes=(f"preprocessing: ImageNet's is assumed ({Preprocessing()})",),
    )


def state_sha256(module: nn.Module) -> str:
    """Return a digest of a module's parameters and buffers: their names, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        values = tensor.detach().cpu().contiguous().flatten()
        digest.update(values.view(torch.uint8).numpy().data if values.numel() else b"")
    return digest.hexdigest()


def numbered_classes(count: int) -> tuple[str, ...]:
    """Return ``class 0``, ``class 1``, …: names for classes nobody has named."""
    return tuple(f"class {index}" for index in range(count))
