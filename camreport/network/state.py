"""The conditions a model runs under: as it was found afterwards, with gradients, in float32."""

import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parameter import is_lazy

_ONE_AT_A_TIME = threading.RLock()
"""Held while a model is disturbed: its flags, torch.fx's patches and the one below are not a
thread's own."""

_HALVES = (torch.float16, torch.bfloat16)

_WANTS_GRAPH = re.compile(r"requires?[_ ]grad|require gradient|retain_grad")
"""What autograd says to a forward that hooks or differentiates tensors without a graph."""


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode without parameter gradients, and back as it was.

    Half-precision weights are computed with in float32, and activation checkpoints are off: they
    exclude ``torch.autograd.grad``. Buffers that the model's own code changes, a counter of its
    runs perhaps, get their values back. Threads take their turns, and Ctrl-C waits while things
    are put back.
    """
    with _ONE_AT_A_TIME, ExitStack() as stack:
        with interrupts_deferred(), ExitStack() as changes:
            _switch(changes, torch.utils.checkpoint, "CheckpointFunction", _NoCheckpoint)
            _change_flags(module, changes)
            for part in module.modules():
                for name, buffer in part.named_buffers(recurse=False):
                    changes.callback(_put_back, part, name, buffer, _copy_of(buffer))
            _widen(module, changes)
            restored = changes.pop_all()
            stack.callback(_close, restored)
        yield


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Let Ctrl-C wait until the block is over; a second one does not wait."""
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


def _close(changes: ExitStack) -> None:
    with interrupts_deferred():
        changes.close()


def _change_flags(module: nn.Module, changes: ExitStack) -> None:
    """Turn training and the parameters' gradients off until the stack unwinds."""
    for part in module.modules():
        changes.callback(setattr, part, "training", part.training)
    module.eval()
    for parameter in module.parameters():
        if parameter.requires_grad and parameter.is_leaf:
            changes.callback(setattr, parameter, "requires_grad", True)
            parameter.requires_grad = False  # the method refuses parameters without values


def _copy_of(buffer: Tensor) -> Tensor | None:
    """Return a copy of a buffer's values; None where it has none."""
    return None if buffer.is_meta or is_lazy(buffer) else buffer.clone()


def _put_back(part: nn.Module, name: str, buffer: Tensor, values: Tensor | None) -> None:
    """Give a module its buffer with the values it had."""
    part._buffers[name] = buffer
    if values is not None and not torch.equal(buffer, values):
        with torch.no_grad():
            buffer.copy_(values)


def _widen(module: nn.Module, changes: ExitStack) -> None:
    """Let half-precision parameters and buffers be float32 until the stack unwinds."""
    for parameter in module.parameters():
        if parameter.dtype in _HALVES and not is_lazy(parameter):
            changes.callback(setattr, parameter, "data", parameter.data)
            parameter.data = parameter.data.float()
    for part in module.modules():
        for name, buffer in part.named_buffers(recurse=False):
            if buffer.dtype in _HALVES and not is_lazy(buffer):
                part._buffers[name] = buffer.float()


class _NoCheckpoint:
    """Stands in for torch's re-entrant checkpoint: the function simply runs."""

    @staticmethod
    def apply(function: Callable[..., object], _preserve: object, *arguments: object) -> object:
        """Run it."""
        return function(*arguments)


@contextmanager
def gradients_on() -> Iterator[None]:
    """Record gradients even where the caller has turned them off."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def wants_graph(error: RuntimeError) -> bool:
    """Say whether a forward failed because its own code hooks or differentiates its tensors."""
    return bool(_WANTS_GRAPH.search(str(error)))


def forward_without_gradients(module: nn.Module) -> Callable[[Tensor], object]:
    """Return a module's forward for passes that need no gradient.

    A graph is recorded only where the module's own code asks for one: it registers hooks on its
    tensors, retains their gradients or differentiates inside.
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


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute in float32 without autocast or TF32, by cuDNN's deterministic kernels.

    Equal runs give equal maps on the CPU. On a GPU some of torch's own backward kernels add up in
    an order that varies (adaptive pooling, bilinear enlarging), which changes last digits.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    with ExitStack() as stack:
        _switch(stack, cudnn, "benchmark", False)
        _switch(stack, cudnn, "deterministic", True)
        try:
            _switch(stack, cudnn, "allow_tf32", False)
        except RuntimeError:  # the caller uses torch's newer switches, which exclude this one
            for part in ("conv", "rnn"):
                _switch(stack, getattr(cudnn, part), "fp32_precision", "ieee")
        for part in ("conv", "rnn"):  # "tf32" can also be inherited from torch.backends
            if getattr(getattr(cudnn, part, None), "fp32_precision", "") == "tf32":
                _switch(stack, getattr(cudnn, part), "fp32_precision", "ieee")
        try:
            if matmul.allow_tf32:
                precision = torch.get_float32_matmul_precision()
                stack.callback(torch.set_float32_matmul_precision, precision)
                torch.set_float32_matmul_precision("highest")
        except RuntimeError:  # likewise
            _switch(stack, matmul, "fp32_precision", "ieee")
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))  # the fused kernels' order may vary
        yield


def _switch(stack: ExitStack, owner: object, name: str, value: object) -> None:
    """Set an attribute until the stack unwinds."""
    stack.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)


def device_of(module: nn.Module, images: Tensor | None = None) -> torch.device:
    """Return the device of a module's parameters; without any the images', or else the CPU."""
    otherwise = torch.device("cpu") if images is None else images.device
    return next((p.device for p in module.parameters()), otherwise)


def to_model(module: nn.Module, images: Tensor) -> Tensor:
    """Return a copy of images on the device and in the float dtype of a module's parameters."""
    reference = next((p for p in module.parameters() if p.is_floating_point()), images)
    return images.detach().to(reference.device, reference.dtype, copy=True)
