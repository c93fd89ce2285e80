"""State dicts: find them in the content of a file, and load them into a module."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from camreport.errors import ModelError
from camreport.messages import Message, message

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
"""Keys under which training loops save a model's weights or the whole model."""

AVERAGED_WRAPPERS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "model_ema_state_dict")
"""Keys under which they save an average of the weights over time."""

PREFIXES = ("module.", "model.", "net.", "network.", "backbone.", "_orig_mod.")
"""Prefixes that data-parallel, averaging, compiling and Lightning wrappers add to every key."""

MAX_WRAPPERS = 6
"""Largest depth of nested dictionaries, and largest number of prefixes of a key."""

MAX_UNSTORED_LAYER = 2**26
"""Largest last layer, in values, that is built although the file does not contain its values."""

_COUNTERS = ("num_batches_tracked", "n_averaged")

_READABLE = {
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
}


def unwrapped(content: object) -> tuple[object, tuple[Message, ...]]:
    """Return the state dict or module inside a checkpoint's dictionaries, and notes on it."""
    notes: list[Message] = []
    for _ in range(MAX_WRAPPERS):
        if not isinstance(content, Mapping):
            break
        held = [
            key
            for key in (*WRAPPERS, *AVERAGED_WRAPPERS)
            if isinstance(content.get(key), Mapping | nn.Module)
        ]
        if not held:
            tables = [key for key, value in content.items() if _is_state(value)]
            if len(tables) != 1:
                break
            held = tables
        chosen, *others = held
        averaged = [key for key in others if key in AVERAGED_WRAPPERS]
        if averaged and chosen not in AVERAGED_WRAPPERS:
            notes.append(message("models.weights_not_averaged", chosen=chosen, average=averaged[0]))
        content = content[chosen]
    return content, tuple(notes)


def as_state(content: object) -> dict[str, Tensor]:
    """Return a file's content as a state dict.

    Raises:
        ModelError: it is something else.
    """
    if not isinstance(content, Mapping) or not content:
        kind = "an empty one" if isinstance(content, Mapping) else type(content).__name__
        raise ModelError(f"expected a state dict, got {kind}.")
    strangers = [
        f"{_shown(str(key))!r} ({type(value).__name__})"
        for key, value in content.items()
        if not isinstance(value, Tensor)
    ]
    if strangers:
        raise ModelError(
            f"expected a state dict of tensors, but it holds {_first(strangers)}. "
            "Save the weights with torch.save(model.state_dict(), file)."
        )
    unusable = [
        f"{_shown(str(key))} ({value.dtype})"
        for key, value in content.items()
        if value.dtype not in _READABLE
    ]
    if unusable:
        raise ModelError(
            f"expected tensors of numbers that become float32, but there is {_first(unusable)}."
        )
    return {str(key): value for key, value in content.items() if key != "n_averaged"}


def without_prefixes(state: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return a state dict, and versions of it without the prefixes of wrappers.

    If only some keys have a wrapper's prefix (a loss may have weights too), these keys alone are
    one of the versions.
    """
    inside = [
        {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        for prefix in PREFIXES
    ]
    found = [*(part for part in inside if 0 < len(part) < len(state)), dict(state)]
    for _ in range(MAX_WRAPPERS):
        prefix = next((p for p in PREFIXES if all(k.startswith(p) for k in found[-1])), None)
        if prefix is None:
            break
        found.append({key.removeprefix(prefix): value for key, value in found[-1].items()})
    return found


def load_state(module: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Load a state dict into a module, in float32, and set the module to evaluation mode.

    Args:
        module: keeps the tensors.
        state: all of the module's tensors and no others.
        name: the module's name in the error message.

    Raises:
        ModelError: keys are missing, unexpected or of another shape; the message names the first.
    """
    if found := misfits(module, state):
        raise ModelError(
            f"expected the weights of {name}, got a file with {'; '.join(found)}. Is --model the "
            "right architecture? A head of your own needs your own code: --model file.py:build."
        )
    own = module.state_dict()
    tensors = {
        key: tensor.float() if own[key].is_floating_point() else tensor.to(own[key].dtype)
        for key, tensor in state.items()
    }
    counters = {key: own[key].new_zeros((), device="cpu") for key in own if key not in tensors}
    own.update({**counters, **tensors})  # keeps the layers' versions, which MNASNet needs
    module.load_state_dict(own, assign=True)
    module.eval()


def class_count(state: Mapping[str, Tensor], key: str, like: Mapping[str, Tensor]) -> int:
    """Return the number of classes of a state dict's last layer.

    Args:
        state: as read from a file.
        key: name of the last layer's weights, ``(classes, …)``.
        like: the architecture's own state dict, with any number of classes.

    Raises:
        ModelError: no such layer, or one of so many classes and so few values that building it
            would take far more memory than the file.
    """
    weight = state.get(key)
    if weight is None or not weight.ndim or not len(weight):
        raise ModelError(f"expected a last layer called {key}, but it is missing.")
    columns = like[key][0].numel() if key in like else 1
    if len(weight) * columns > max(MAX_UNSTORED_LAYER, weight.numel()):
        raise ModelError(
            f"expected a last layer of shape (classes, {columns}), but {key} has the shape "
            f"{tuple(weight.shape)}."
        )
    return len(weight)


def misfits(module: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Return sentences on the keys of a state dict that do not fit a module; none if all fit."""
    own = module.state_dict()
    troubles = {
        "missing": [k for k in own if k not in state and not k.endswith(_COUNTERS)],
        "unexpected": [key for key in state if key not in own],
        "of another shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
            for key in own
            if key in state and own[key].shape != state[key].shape
        ],
    }
    return [f"{_first(keys)} {kind}" for kind, keys in troubles.items() if keys]


def _is_state(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(entry, Tensor) for entry in value.values())
    )


def _first(keys: Sequence[str], count: int = 3) -> str:
    rest = f" and {len(keys) - count} more" if len(keys) > count else ""
    return ", ".join(map(_shown, keys[:count])) + rest


def _shown(key: str) -> str:
    """Return a name from a file in a form that fits into one line of a message."""
    line = key if key.isprintable() else ascii(key)[1:-1]
    return line if len(line) <= 100 else f"{line[:100]}…"
