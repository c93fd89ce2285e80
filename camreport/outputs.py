"""What a model returns, and the logits in it."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass

import torch
from torch import Tensor

from camreport.errors import ModelError

LOGITS = "logits"
"""The name under which structures usually hold them."""


def logits_of(output: object, count: int, key: str | None = None) -> Tensor:
    """Return the logits ``(N, num_classes)`` in what a model returned.

    One logit z for each image, the head of a binary classifier, becomes the two classes' logits
    −z/2 and z/2: their softmax is the sigmoid of z.

    Args:
        output: a tensor ``(N, num_classes)``, ``(N, 1)``, ``(N,)`` or with axes of length one
            behind, or a tuple, dictionary or dataclass that holds one.
        count: the number N of images.
        key: which part of a structure is meant: its key, its attribute or its number.

    Raises:
        ModelError: it is none of these, or it is not clear which part is meant.
    """
    picked = part_of(output, key)
    if picked is None and key is None and _parts(output):
        picked = _only_logits(output, count)
    if not isinstance(picked, Tensor) or not picked.is_floating_point():
        raise ModelError(f"model: expected logits (N, num_classes), got {_described(picked)}.")
    logits = picked
    if logits.ndim > 2 and logits[0, 0].numel() == 1:
        logits = logits.flatten(1)
    if logits.shape in ((count, 1), (count,)) or (count == 1 and logits.ndim == 0):
        half = logits.reshape(count, 1) / 2
        return torch.cat([-half, half], 1)
    if logits.ndim == 2 and len(logits) == count and logits.shape[1] > 1:
        return logits
    raise ModelError(
        f"model: expected logits (N, num_classes) with N = {count}, got {tuple(picked.shape)}. "
        "Wrap the model so that its forward returns the logits."
    )


def part_of(output: object, key: str | None) -> object:
    """Return the named part of a structure, a tensor as it is, or None if no part is named.

    Raises:
        ModelError: there is no such part.
    """
    parts = _parts(output)
    if not parts or (key is None and LOGITS not in parts):
        return output if not parts else None
    name = LOGITS if key is None else key
    if name not in parts:
        raise ModelError(f"output: expected one of {_listed(parts)}, got {name!r}.")
    return parts[name]


def _only_logits(output: object, count: int) -> object:
    """Return the one part of a structure that can be logits."""
    parts = _parts(output)
    likely = [
        part
        for part in parts.values()
        if isinstance(part, Tensor) and part.ndim == 2 and len(part) == count
    ]
    if len(likely) != 1:
        raise ModelError(
            f"model: expected logits (N, num_classes), got a {type(output).__name__} of "
            f"{_listed(parts)}. Say which holds the logits: --output {next(iter(parts))}, "
            "or output=... in Python."
        )
    return likely[0]


def _parts(output: object) -> dict[str, object]:
    """Return the parts of a structure by name; none of a tensor or anything unknown."""
    if isinstance(output, Mapping):
        return {str(key): value for key, value in output.items()}
    if isinstance(output, tuple | list):
        names = getattr(output, "_fields", range(len(output)))
        return dict(zip(map(str, names), output, strict=True)) | {
            str(place): value for place, value in enumerate(output)
        }
    if is_dataclass(output) and not isinstance(output, type):
        return {field.name: getattr(output, field.name) for field in fields(output)}
    return {}


def _listed(parts: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {_described(part)}" for name, part in parts.items())


def _described(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
