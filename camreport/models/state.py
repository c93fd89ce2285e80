"""State dicts: find them in what a file holds, and put them into a module."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from camreport.errors import ModelError

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
"""Keys under which training loops save a model's weights or the whole model."""

AVERAGED_WRAPPERS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "model_ema_state_dict")
"""Keys under which they save an average of the weights over time."""

PREFIXES = ("module.", "model.", "net.", "network.", "backbone.", "_orig_mod.")
"""What data-parallel, averaging, compiling and Lightning wrappers put in front of every key."""

MAX_WRAPPERS = 6
"""Dictionaries inside dictionaries, and prefixes in front of prefixes."""

MAX_UNSTORED_LAYER = 2**26
"""Values that a last layer may have beyond those in the file, which then does not fit it."""

_COUNTERS = ("num_batches_tracked", "n_averaged")

_READABLE = {
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
}


def unwrapped(content: object) -> tuple[object, tuple[str, ...]]:
    """Return the state dict or module inside a checkpoint's dictionaries, and notes on it."""
    notes: list[str] = []
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
            notes.append(
                f"weights: the file holds {chosen!r} and the average {averaged[0]!r}; "
                f"{chosen!r} is used"
            )
        content = content[chosen]
    return content, tuple(notes)


def as_state(content: object) -> dict[str, Tensor]:
    """Return a state dict if that is what it is.

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
    """Return a state dict as it is, and what it is without the prefixes of wrappers.

    Where some keys lie outside a wrapper's prefix (a loss with weights of its own), those inside
    are tried by themselves.
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
    """Put a state dict into a module, in float32, and set the module to evaluation mode.

    Args:
        module: takes the tensors over.
        state: what it has to hold, and nothing else.
        name: of the module, for the message.

    Raises:
        ModelError: keys are missing, unexpected or of another shape; the first few are named.
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
    own.update({**counters, **tensors})  # it keeps the layers' versions, which MNASNet asks for
    module.load_state_dict(own, assign=True)
    module.eval()


def class_count(state: Mapping[str, Tensor], key: str, like: Mapping[str, Tensor]) -> int:
    """Return how many classes the last layer of a state dict tells apart.

    Args:
        state: as read from a file.
        key: of the last layer's weights, ``(classes, …)``.
        like: the architecture's own state dict, of any number of classes.

    Raises:
        ModelError: it holds no such layer, or hardly a number for each of very many classes: to
            build so large a layer would take far more memory than the file.
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
    """Say which keys of a state dict do not fit a module; nothing where all do."""
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
    """Return a name from a file as it may stand in one line of a message."""
    line = key if key.isprintable() else ascii(key)[1:-1]
    return line if len(line) <= 100 else f"{line[:100]}…"
