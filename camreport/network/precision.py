"""The arithmetic of a model's passes: float32 throughout, or with fewer bits on request."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from camreport.errors import ModelError
from camreport.network.state import switch
from camreport.network.trace import each_pass_in
from camreport.settings import BF16, EXACT, TF32

MIN_TF32 = (8, 0)
"""Lowest compute capability of a GPU that has TF32: that of NVIDIA's Ampere."""


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute in float32 without autocast or TF32, with cuDNN's deterministic kernels.

    Equal runs give equal maps on the CPU. On a GPU some of torch's own backward kernels (adaptive
    pooling, bilinear upsampling) add up in a varying order, which changes the last digits.
    """
    with _kernels(device, tf32=False):
        yield


@contextmanager
def precision_of(module: nn.Module, device: torch.device, precision: str) -> Iterator[None]:
    """Compute as a user has chosen; only the module's own passes have fewer bits.

    Args:
        module: its passes run under autocast with ``bf16``; what is made of their results is
            computed in float32.
        device: of the module.
        precision: one of ``PRECISIONS``; ``exact`` is as for ``full_precision``.
    """
    passes = each_pass_in(module, partial(reduced, device, precision))
    with _kernels(device, tf32=precision == TF32), passes if precision == BF16 else nullcontext():
        yield


def reduced(device: torch.device, precision: str) -> torch.autocast:
    """Return the block in which a part of a model runs: under autocast with ``bf16``."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == BF16)


def wide(tensor: Tensor) -> Tensor:
    """Return a tensor of 16 bits in float32, and any other as it is."""
    return tensor.float() if tensor.element_size() < 4 else tensor


def check_precision_on(device: torch.device, precision: str) -> None:
    """Refuse TF32 where no device has it: the maps would be exact, and the report say otherwise.

    Raises:
        ModelError: the device does not have it.
    """
    if precision != TF32:
        return
    found = device.type
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device) >= MIN_TF32:
            return
        found = torch.cuda.get_device_name(device)
    raise ModelError(
        f"precision: expected {EXACT} or {BF16} on this device, got {TF32!r} on {found}. TF32 is "
        "for NVIDIA GPUs from Ampere on: choose one with --device cuda."
    )


@contextmanager
def _kernels(device: torch.device, tf32: bool) -> Iterator[None]:
    """Use deterministic kernels that compute in float32, or in TF32, without autocast."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    word, level = ("tf32", "high") if tf32 else ("ieee", "highest")
    with ExitStack() as stack:
        switch(stack, cudnn, "benchmark", False)
        switch(stack, cudnn, "deterministic", True)
        try:
            switch(stack, cudnn, "allow_tf32", tf32)
        except RuntimeError:  # the caller uses torch's newer switches, which exclude this one
            for part in ("conv", "rnn"):
                switch(stack, getattr(cudnn, part), "fp32_precision", word)
        for part in ("conv", "rnn"):  # "tf32" can also be inherited from torch.backends
            now = getattr(getattr(cudnn, part, None), "fp32_precision", word)
            if (now == "tf32") != tf32:
                switch(stack, getattr(cudnn, part), "fp32_precision", word)
        try:
            if matmul.allow_tf32 != tf32:
                before = torch.get_float32_matmul_precision()
                stack.callback(torch.set_float32_matmul_precision, before)
                torch.set_float32_matmul_precision(level)
        except RuntimeError:  # the newer switches exclude this one, too
            switch(stack, matmul, "fp32_precision", word)
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))  # the fused kernels' order may vary
        yield
