"""The state in which a model runs: restored afterwards, with gradients, its weights in float32."""

import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_ONE_AT_A_TIME = threading.RLock()
"""Lock that is held while a model is changed: its flags, and the functions that torch.fx and this
module patch, are common to all threads."""

_HALVES = (torch.float16, torch.bfloat16)

_WANTS_GRAPH = re.compile(r"requires?[_ ]grad|require gradient|retain_grad")
"""Matches autograd's errors for hooks on, or derivatives of, tensors without a graph."""


@contextmanager
def preserved(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode without parameter gradients, and restore it afterwards.

    Half-precision weights are converted to float32 for the time of the block. Activation
    checkpoints are off, because they do not work with ``torch.autograd.grad``. Buffers that the
    model's own code changes, such as a counter of its runs, get their values back. Only one thread
    at a time is in such a block, and Ctrl-C waits until the model is restored.
    """

    def change(changes: ExitStack) -> None:
        switch(changes, torch.utils.checkpoint, "CheckpointFunction", _NoCheckpoint)
        _change_flags(module, changes)
        changes.callback(_Buffers(module).put_back)
        _widen(module, changes)

    with _ONE_AT_A_TIME, changed(change):
        yield


@contextmanager
def changed(change: Callable[[ExitStack], None]) -> Iterator[None]:
    """Change something for the time of a block; Ctrl-C waits until it is changed or restored.

    Args:
        change: makes the changes, and puts on the stack how to undo each of them before it is made.
    """
    changes = ExitStack()
    try:
        with interrupts_deferred():
            change(changes)
        yield
    finally:
        try:
            with interrupts_deferred():
                changes.close()
        finally:
            changes.close()  # what is left if Ctrl-C came just before it was deferred


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Defer Ctrl-C to the end of the block; a second Ctrl-C interrupts at once."""
    previous = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or previous in (None, signal.SIG_IGN):
        yield
        return
    waiting: list[int] = []

    def wait(number: int, _frame: FrameType | None) -> None:
        if waiting:
            raise KeyboardInterrupt
        waiting.append(number)

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if waiting:
            signal.raise_signal(signal.SIGINT)


def _change_flags(module: nn.Module, changes: ExitStack) -> None:
    """Turn training mode and the parameters' gradients off until the stack unwinds."""
    for part in module.modules():
        changes.callback(setattr, part, "training", part.training)
    module.eval()
    for parameter in module.parameters():
        if parameter.requires_grad and parameter.is_leaf:
            changes.callback(setattr, parameter, "requires_grad", True)
            parameter.requires_grad = False  # requires_grad_() refuses parameters without values


class _Buffers:
    """A copy of a module's buffers, to restore their values bit for bit.

    The values of all buffers on one device are copied and compared as one tensor, so that a network
    with hundreds of buffers costs one copy and one synchronisation with the device. Version
    counters would cost less, but miss changes by batch normalisation and through ``.data``.
    """

    def __init__(self, module: nn.Module) -> None:
        parts = list(module.modules())
        self._owners = [
            (part, name, buffer)
            for part in parts
            for name, buffer in part.named_buffers(recurse=False)
        ]
        by_device: dict[torch.device, list[Tensor]] = {}
        for _, _, buffer in self._owners:
            if not (buffer.is_meta or is_lazy(buffer) or _is_expanded(buffer)):
                by_device.setdefault(buffer.device, []).append(buffer)
        plain = [[one for one in of if _is_plain(one)] for of in by_device.values()]
        self._kept = [(buffers, _joined(buffers)) for buffers in plain if buffers]
        self._others = [
            (one, one.clone()) for of in by_device.values() for one in of if not _is_plain(one)
        ]

    def put_back(self) -> None:
        """Restore every module's buffers and their values."""
        for part, name, buffer in self._owners:
            part._buffers[name] = buffer
        for buffers, values in self._kept:
            if torch.equal(_joined(buffers), values):
                continue
            sizes = [buffer.numel() * buffer.element_size() for buffer in buffers]
            with torch.no_grad():
                for buffer, own in zip(buffers, torch.split(values, sizes), strict=True):
                    buffer.copy_(own.clone().view(buffer.dtype).view(buffer.shape))
        with torch.no_grad():
            for buffer, own in self._others:
                buffer.copy_(own)


def _is_expanded(buffer: Tensor) -> bool:
    """Return whether elements of a tensor have the same memory, which torch refuses to write."""
    if buffer.layout is not torch.strided:
        return False
    return any(
        size > 1 and not step for size, step in zip(buffer.shape, buffer.stride(), strict=True)
    )


def _is_plain(buffer: Tensor) -> bool:
    """Return whether a tensor is dense, and not quantised, conjugated or negated lazily."""
    strided = buffer.layout is torch.strided
    return strided and not (buffer.is_quantized or buffer.is_conj() or buffer.is_neg())


def _joined(buffers: Sequence[Tensor]) -> Tensor:
    """Return the bytes of plain tensors on one device as one tensor."""
    rows = (buffer.detach().reshape(-1).contiguous() for buffer in buffers)
    return torch.cat([row.view(torch.uint8) for row in rows])


def _widen(module: nn.Module, changes: ExitStack) -> None:
    """Convert half-precision parameters and buffers to float32 until the stack unwinds."""
    for parameter in module.parameters():
        if parameter.dtype in _HALVES and not is_lazy(parameter):
            changes.callback(setattr, parameter, "data", parameter.data)
            parameter.data = parameter.data.float()
    for part in module.modules():
        for name, buffer in part.named_buffers(recurse=False):
            if buffer.dtype in _HALVES and not is_lazy(buffer):
                part._buffers[name] = buffer.float()


class _NoCheckpoint:
    """Replacement of torch's re-entrant checkpoint that runs the function without one."""

    @staticmethod
    def apply(function: Callable[..., object], _preserve: object, *arguments: object) -> object:
        """Run the function."""
        return function(*arguments)


@contextmanager
def gradients_on() -> Iterator[None]:
    """Record gradients even if the caller has turned them off."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def wants_graph(error: RuntimeError) -> bool:
    """Return whether a forward pass failed because the model's code needs a graph."""
    return bool(_WANTS_GRAPH.search(str(error)))


def forward_without_gradients(module: nn.Module) -> Callable[[Tensor], object]:
    """Return a module's forward for passes that need no gradient.

    A graph is recorded only if the module's own code needs one, because it registers hooks on its
    tensors, retains their gradients or differentiates.
    """
    recorded = False

    def run(images: Tensor) -> object:
        nonlocal recorded
        if not recorded:
            try:
                with torch.no_grad():
                    return module(images.clone())
            except RuntimeError as error:
                if not wants_graph(error):
                    raise
            recorded = True
        with torch.enable_grad():
            return module(images.detach().requires_grad_().clone())

    return run


def switch(stack: ExitStack, owner: object, name: str, value: object) -> None:
    """Set an attribute until the stack unwinds."""
    stack.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)


def device_of(module: nn.Module, images: Tensor | None = None) -> torch.device:
    """Return the device of a module's parameters; if it has none, that of the images or the CPU."""
    otherwise = torch.device("cpu") if images is None else images.device
    return next((p.device for p in module.parameters()), otherwise)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; the CPU does not wait for CUDA, which copies in order.

    On MPS such a copy may read memory that is free by then (pytorch/pytorch#189690).
    """
    return tensor.to(device, non_blocking=device.type == "cuda")


def to_model(module: nn.Module, images: Tensor) -> Tensor:
    """Return a copy of images on the device and in the float dtype of a module's parameters."""
    reference = next((p for p in module.parameters() if p.is_floating_point()), images)
    return sent(images.detach(), reference.device).to(reference.dtype, copy=True)
