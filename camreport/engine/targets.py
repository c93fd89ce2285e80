"""The choice of the classes to explain."""

from collections.abc import Sequence

import torch
from torch import Tensor

from camreport.engine.score import strongest_classes
from camreport.errors import ClassError
from camreport.network.state import sent

Targets = Sequence[int] | Tensor | str | None
"""Classes as a user may specify them: K indices for every image, a tensor ``(N, K)``, ``all``,
``topK`` (most probable first), ``auto`` (all of up to two classes, else the top 3), or None for
the most probable class."""


def choose_targets(logits: Tensor, targets: Targets) -> Tensor:
    """Return the class indices to explain, ``(N, K)`` int64.

    Args:
        logits: ``(N, num_classes)``.
        targets: the classes that the user specified.

    Raises:
        ClassError: an index outside 0..num_classes-1, or a tensor for another number of images.
    """
    count, num_classes = logits.shape
    wanted = as_indices(targets, count)
    if wanted == "auto":
        wanted = "all" if num_classes <= 2 else "top3"
    if isinstance(wanted, str):
        if wanted != "all":
            return strongest_classes(logits, int(wanted[3:]))
        return torch.arange(num_classes, device=logits.device).expand(count, -1)
    outside = wanted[(wanted < 0) | (wanted >= num_classes)]
    if len(outside):
        raise ClassError(
            f"targets: expected class indices 0 to {num_classes - 1}, got {int(outside[0])}."
        )
    return sent(wanted.to(torch.int64), logits.device).expand(count, -1)


def as_indices(targets: Targets, count: int) -> Tensor | str:
    """Return targets as indices ``(K,)`` or ``(count, K)``, or as ``all``, ``auto`` or ``topK``.

    Raises:
        ClassError: the targets are in no such format.
    """
    if targets is None:
        return "top1"
    if isinstance(targets, str):
        top = targets.removeprefix("top")
        if targets in ("all", "auto") or (top != targets and top.isdecimal() and int(top) > 0):
            return targets
        raise ClassError(f"targets: expected class indices, 'all' or 'top3', got {targets!r}.")
    try:
        indices = torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ClassError(f"targets: expected class indices, got {targets!r}.") from error
    whole = not indices.is_floating_point() and indices.dtype != torch.bool
    fits = indices.ndim == 1 or (indices.ndim == 2 and len(indices) == count)
    if not whole or not fits or indices.numel() == 0:
        raise ClassError(
            f"targets: expected K class indices or a tensor (N, K) with N = {count}, "
            f"got shape {tuple(indices.shape)} of {indices.dtype}."
        )
    return indices


def of_rows(targets: Tensor | str, rows: slice) -> Tensor | str:
    """Return the targets of the images in a slice."""
    return targets[rows] if isinstance(targets, Tensor) and targets.ndim == 2 else targets
