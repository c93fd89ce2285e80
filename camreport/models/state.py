"""State dicts: find them in what a file holds, and put them into a module."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from camreport.errors import ModelError

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
"""Keys under which training loops save a model's weights or the whole model."""

AVERAGED_WRAPPERS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "model_ema_state_dict")
"""Keys under which they save an average of the weights over time."""

PREFIXES = ("module.", "model.", "net.", "network.", "backbone.", "_orig_mod.")
"""What data-parallel, averaging, compiling and Lightning wrappers put in front of every key."""

_COUNTERS = ("num_batches_tracked", "n_averaged")


def unwrapped(content: object) -> tuple[object, tuple[str, ...]]:
    """Return the state dict or module inside a checkpoint's dictionaries, and notes on it."""
    notes: list[str] = []
    while isinstance(content, Mapping):
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
        f"{str(key)!r} ({type(value).__name__})"
        for key, value in content.items()
        if not isinstance(value, Tensor)
    ]
    if strangers:
        raise ModelError(
            f"expected a state dict of tensors, but it holds {_first(strangers)}. "
            "Save the weights with torch.save(model.state_dict(), file)."
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
    while prefix := next((p for p in PREFIXES if all(k.startswith(p) for k in found[-1])), None):
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
    tensors = {k: t.float() if t.is_floating_point() else t for k, t in state.items()}
    counters = {key: own[key].new_zeros((), device="cpu") for key in own if key not in tensors}
    own.update({**counters, **tensors})  # it keeps the layers' versions, which MNASNet asks for
    module.load_state_dict(own, assign=True)
    module.eval()


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
    return ", ".join(keys[:count]) + rest
