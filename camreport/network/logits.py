"""The logits in a model's output, and how they become probabilities."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass

import torch
from torch import Tensor

from camreport.errors import ModelError
from camreport.network.precision import wide
from camreport.settings import AUTO, NONE, SIGMOID, SOFTMAX

LOGITS = "logits"
"""Usual name of the logits in a structured output."""

_LAST_STEPS = {
    "SigmoidBackward": SIGMOID,
    "HardsigmoidBackward": SIGMOID,
    "SoftmaxBackward": SOFTMAX,
}
_REARRANGING = frozenset(  # steps after which probabilities are still probabilities
    f"{name}Backward"
    for name in (
        *("Alias", "Clone", "ToCopy", "Clamp", "ClampMin", "ClampMax", "Cat", "Stack", "Split"),
        *("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Select", "Slice"),
        *("Expand", "T", "Transpose", "Permute", "AsStrided", "Unbind"),
    )
)


def probabilities(logits: Tensor, activation: str) -> Tensor:
    """Return the probabilities of logits ``(..., num_classes)``, by one of ``ACTIVATIONS``."""
    if activation == NONE:
        return logits
    return logits.sigmoid() if activation == SIGMOID else logits.softmax(-1)


def logits_of(
    output: object, count: int, key: str | None = None, activation: str = SOFTMAX
) -> Tensor:
    """Return the logits ``(N, num_classes)`` in a model's output, in float32 or float64.

    A binary classifier that returns one number per image gets two classes whose probabilities add
    up to 1: a logit z becomes −z/2 and z/2 (under a sigmoid −z and z), a
    probability p becomes 1 − p and p.

    Args:
        output: a tensor ``(N, num_classes)``, ``(N, 1)``, ``(N,)`` or with trailing axes of
            length one, or a tuple, dictionary or dataclass that holds one.
        count: the number N of images.
        key: key, attribute or index of the logits in a structured output.
        activation: one of ``ACTIVATIONS``.

    Raises:
        ModelError: the output has no such format, or several parts of it could be the logits.
    """
    numbers = wide(_numbers(output, count, key))
    return numbers if numbers.shape[1] > 1 else _two_classes(numbers, activation)


def recognise(output: object, count: int, key: str | None) -> str:
    """Return which of ``ACTIVATIONS`` turns a model's output into probabilities.

    The result is ``none`` if the values are probabilities already, because the model's last step is
    a sigmoid or a softmax. It is ``auto`` if each image's values are in 0..1 and add up to 1, so
    that ``confirmed`` has to decide. It is ``softmax`` otherwise, for logits of exclusive classes.

    Args:
        output: the model's output, with its graph.
        count: the number of images.
        key: as for ``logits_of``.

    Raises:
        ModelError: as for ``logits_of``.
    """
    numbers = _numbers(output, count, key)
    values = numbers.detach().float()
    values = values[values.isfinite().all(1)]
    if not len(values) or not _in_range(values):
        return SOFTMAX
    if last_step(numbers):
        return NONE
    return AUTO if _adds_up(values) else SOFTMAX


def confirmed(logits: Tensor, far: Tensor) -> str:
    """Return ``none`` if values that add up to 1 do so for strong noise as well, else ``softmax``.

    Args:
        logits: values for the images, ``(N, num_classes)``.
        far: values for strong noise, ``(1, num_classes)``. If they equal those of the images, the
            result is ``softmax``.
    """
    logits, far = logits.detach().float(), far.detach().float()
    varies = not torch.allclose(far, logits, rtol=0, atol=1e-5)
    return NONE if varies and _adds_up(far) else SOFTMAX


def last_step(values: Tensor) -> str:
    """Return ``sigmoid`` or ``softmax`` if a tensor's graph ends in one, else an empty text."""
    found: set[str] = set()
    steps = [values.grad_fn]
    while steps:
        step = steps.pop()
        name = step.name().rstrip("0123456789") if step is not None else ""
        if step is not None and name in _REARRANGING:
            steps += [before for before, _ in step.next_functions]
        else:
            found.add(_LAST_STEPS.get(name, ""))
    return found.pop() if len(found) == 1 else ""


def _adds_up(values: Tensor) -> bool:
    """Return whether each row of ``(N, num_classes)`` is a probability distribution."""
    if values.shape[1] == 1 or not _in_range(values):
        return False
    return bool(((values.double().sum(1) - 1).abs() < 1e-3).all())


def _in_range(values: Tensor) -> bool:
    """Return whether all values are in 0..1, up to rounding."""
    return bool((values >= -1e-5).all() and (values <= 1 + 1e-5).all())


def _numbers(output: object, count: int, key: str | None) -> Tensor:
    """Return the part of an output that holds one or more numbers for each image, ``(N, ...)``.

    Raises:
        ModelError: as for ``logits_of``.
    """
    picked = part_of(output, resolved_key(output, count, key))
    if not isinstance(picked, Tensor) or not picked.is_floating_point():
        raise ModelError(f"model: expected logits (N, num_classes), got {_described(picked)}.")
    numbers = picked
    if numbers.ndim > 2 and numbers[0, 0].numel() == 1:
        numbers = numbers.flatten(1)
    if numbers.shape == (count,) or (count == 1 and numbers.ndim == 0):
        numbers = numbers.reshape(count, 1)
    if numbers.ndim == 2 and len(numbers) == count and numbers.shape[1] > 0:
        return numbers
    raise ModelError(
        f"model: expected logits (N, num_classes) with N = {count}, got {tuple(picked.shape)}. "
        "Wrap the model so that its forward returns the logits."
    )


def resolved_key(output: object, count: int, key: str | None) -> str | None:
    """Return the name of the part that holds the logits; None for a tensor or a part ``logits``.

    Raises:
        ModelError: as for ``logits_key``.
    """
    parts = _parts(output)
    return logits_key(output, count) if key is None and parts and LOGITS not in parts else key


def part_of(output: object, key: str | None) -> object:
    """Return the named part of a structure, or an unstructured output as it is.

    The result is None for a structure without a part ``logits`` if no part is named.

    Raises:
        ModelError: the structure has no such part.
    """
    parts = _parts(output)
    if not parts or (key is None and LOGITS not in parts):
        return output if not parts else None
    name = LOGITS if key is None else key
    if name not in parts:
        raise ModelError(f"output: expected one of {_listed(parts)}, got {name!r}.")
    return parts[name]


def logits_key(output: object, count: int) -> str:
    """Return the name of the one part of a structure that can be logits.

    A part that is the softmax or the sigmoid of another part is not counted.

    Args:
        output: a tuple, dictionary or dataclass without a part named ``logits``.
        count: the number of images.

    Raises:
        ModelError: no part can be logits, or several can.
    """
    parts = _parts(output)
    names = getattr(output, "_fields", parts)  # a named tuple's parts have numbers too
    likely = {
        name: part
        for name, part in parts.items()
        if name in names and isinstance(part, Tensor) and part.ndim == 2 and len(part) == count
    }
    unactivated = [
        name
        for name, part in likely.items()
        if not any(_activates(part, other) for other in likely.values() if other is not part)
    ]
    if len(unactivated) == 1:
        return unactivated[0]
    proposed = " or ".join(f"--output {name}" for name in unactivated or likely or parts)
    raise ModelError(
        f"model: expected logits (N, num_classes), got a {type(output).__name__} of "
        f"{_listed(parts)}. Say which holds the logits: {proposed}, or output=... in Python."
    )


def _activates(part: Tensor, logits: Tensor) -> bool:
    """Return whether a part is the softmax or the sigmoid of another."""
    if part.shape != logits.shape or not (part.is_floating_point() and logits.is_floating_point()):
        return False
    part, logits = part.detach().float(), logits.detach().float()
    own = (logits.sigmoid(), logits.softmax(1))[: 1 if logits.shape[1] == 1 else 2]
    return any(torch.allclose(part, one, rtol=1e-3, atol=1e-5) for one in own)


def _two_classes(single: Tensor, activation: str) -> Tensor:
    """Return scores of two classes, against and for, from one number per image ``(N, 1)``."""
    if activation == NONE:
        return torch.cat([1 - single, single], 1)
    scaled = single if activation == SIGMOID else single / 2
    return torch.cat([-scaled, scaled], 1)


def _parts(output: object) -> dict[str, object]:
    """Return the parts of a structure by name; empty for a tensor or an unknown type."""
    if isinstance(output, Mapping):
        return {str(key): value for key, value in output.items()}
    if isinstance(output, tuple | list):
        names = getattr(output, "_fields", range(len(output)))
        return dict(zip(map(str, names), output, strict=True)) | {
            str(index): value for index, value in enumerate(output)
        }
    if is_dataclass(output) and not isinstance(output, type):
        return {field.name: getattr(output, field.name) for field in fields(output)}
    return {}


def _listed(parts: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {_described(part)}" for name, part in parts.items())


def _described(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
