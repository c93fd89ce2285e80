"""Whether an exception comes from the user's model or from camreport."""

import traceback
from pathlib import Path
from types import FrameType

from torch import fx, nn
from torch.autograd.function import BackwardCFunction

_CALL = nn.Module._call_impl.__code__
"""What runs a module's forward, between its hooks."""

_OWN_BACKWARD = BackwardCFunction.apply.__code__
"""What runs the backward of an operation that the model defines itself."""

_OURS = {Path(__file__).parent, Path(__file__).parents[1] / "engine"}
"""Folders of the code that runs in hooks."""


def raised_by(module: nn.Module, error: BaseException) -> bool:
    """Return whether an exception comes from inside of a module's forward or backward.

    The innermost call decides: hooks run inside of a forward too, and what they raise is an error
    of camreport. So is an exception that was raised between two calls of the model.
    """
    parts, inside = {id(part) for part in module.modules()}, False
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if _runs(frame, parts):
            inside = True
        elif Path(frame.f_code.co_filename).parent in _OURS and frame.f_code.co_name != "apply":
            inside = False  # ``apply`` stands for torch's checkpoint, and calls the model's code
    return inside


def _runs(frame: FrameType, parts: set[int]) -> bool:
    """Return whether a frame runs code of the model: modules by their ids, or slices of it."""
    if frame.f_code is _OWN_BACKWARD:
        return True
    called = frame.f_locals["self"] if frame.f_code is _CALL else None
    return id(called) in parts or isinstance(called, fx.GraphModule)
