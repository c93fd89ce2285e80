"""The conditions a model runs under: as it was found afterwards, with gradients, in float32."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

_WANTS_GRAPH = re.compile(r"requires?[_ ]grad|require gradient|retain_grad")
"""What autograd says to a forward that hooks or differentiates tensors without a graph."""


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode without parameter gradients, and back as it was.

    Buffers that its own code changes, a counter of its runs perhaps, get their values back.
    """
    modes = [(part, part.training) for part in module.modules()]
    trainable = [p for p in module.parameters() if p.requires_grad and p.is_leaf]
    buffers = [
        (part, name, buffer, buffer.clone())
        for part in module.modules()
        for name, buffer in part.named_buffers(recurse=False)
    ]
    try:
        module.eval()
        for parameter in trainable:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
        for part, training in modes:
            part.training = training
        for part, name, buffer, values in buffers:
            part._buffers[name] = buffer
            if not torch.equal(buffer, values):
                with torch.no_grad():
                    buffer.copy_(values)


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
    """Compute in float32 without autocast or TF32, by deterministic kernels."""
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


def to_model(module: nn.Module, images: Tensor) -> Tensor:
    """Return a copy of images on the device and in the float dtype of a module's parameters."""
    reference = next((p for p in module.parameters() if p.is_floating_point()), images)
    return images.detach().to(reference.device, reference.dtype, copy=True)
