"""Checks that a module's layers can be hooked."""

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from camreport.errors import ModelError


def check_module(module: object) -> nn.Module:
    """Return a model, unless its layers cannot be read or it has no weights yet.

    Raises:
        ModelError: the model is not a module, is an exported program, has TorchScript or quantised
            layers, or has uninitialised or meta tensors.
    """
    kind = type(module).__name__
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"model: expected a torch.nn.Module, got {kind}. An exported program or a function "
            "has no layers that can be read: pass the module it was made from."
        )
    if {"train", "eval"} & vars(module).keys():
        raise ModelError(
            f"model: {kind} is an exported program, which has one mode and no layers of its own. "
            "Pass the module it was made from."
        )
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise ModelError(
            f"model: {kind} is a TorchScript module, or holds one, whose layers cannot be read. "
            "Build the Python module it was made from, and load the script's state_dict() into it."
        )
    quantised = [part for part in module.modules() if _is_quantised(part)]
    if quantised:
        raise ModelError(
            f"model: {kind} has quantised layers ({type(quantised[0]).__name__}), whose tensors "
            "have no gradients and cannot be read. Pass the float module they were made from."
        )
    tensors = [*module.parameters(), *module.buffers()]
    if any(is_lazy(tensor) for tensor in tensors):
        raise ModelError(
            f"model: {kind} has lazy layers without weights. Run it once on an image, "
            "model(torch.zeros(1, 3, 224, 224)), load its weights, and pass it again."
        )
    if any(tensor.is_meta for tensor in tensors):
        raise ModelError(
            f"model: {kind} has tensors on the meta device, which hold no weights. "
            "Load them first: model.to_empty(device='cpu') and load_state_dict."
        )
    return module


def _is_quantised(part: nn.Module) -> bool:
    """Return whether a layer computes with integers; dynamically quantised layers do not."""
    home = type(part).__module__
    return ".quantized" in home and ".dynamic" not in home
