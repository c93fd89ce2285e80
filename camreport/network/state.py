"""The conditions a model runs under: as it was found afterwards, with gradients, in float32."""

import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parameter import is_lazy

_ONE_AT_A_TIME = threading.RLock()
"""Held while a model is changed: its flags and what torch.fx and this module patch are shared by
all threads."""

_HALVES = (torch.float16, torch.bfloat16)

_WANTS_GRAPH = re.compile(r"requires?[_ ]grad|require gradient|retain_grad")
"""What autograd's errors say where a forward hooks or differentiates tensors without a graph."""


@contextmanager
def preserved(module: nn.Module) -> Iterator[None]:
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
            changes.callback(_Buffers(module).put_back)
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


class _Buffers:
    """A module's buffers and their values, so that they come back bit for bit.

    The values of all buffers on one device are copied as one, and compared as one: a network
    with hundreds of them costs one copy and one wait for the device. Version counters would
    cost less, but do not see what is written by a batch normalisation or through ``.data``.
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
        """Give every module its buffers with the values they had."""
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
    """Say whether a tensor repeats its values without memory: torch lets nobody write to it."""
    if buffer.layout is not torch.strided:
        return False
    return any(
        size > 1 and not step for size, step in zip(buffer.shape, buffer.stride(), strict=True)
    )


def _is_plain(buffer: Tensor) -> bool:
    """Say whether a tensor's values are bytes in memory: no sparse, quantised or conjugate one."""
    strided = buffer.layout is torch.strided
    return strided and not (buffer.is_quantized or buffer.is_conj() or buffer.is_neg())


def _joined(buffers: Sequence[Tensor]) -> Tensor:
    """Return the bytes of plain tensors on one device, one after the other."""
    rows = (buffer.detach().reshape(-1).contiguous() for buffer in buffers)
    return torch.cat([row.view(torch.uint8) for row in rows])


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
