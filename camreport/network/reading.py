"""The interpretation of a model's output: where the logits are, and whether they are logits."""

import torch
from torch import Tensor, nn

from camreport.messages import Message, message
from camreport.network.logits import confirmed, logits_of
from camreport.network.state import forward_without_gradients
from camreport.settings import AUTO, NONE, SIGMOID

STRENGTH = 100
"""Standard deviation of the noise image that tests whether outputs are probabilities."""

_NOTES = {NONE: message("network.probabilities"), SIGMOID: message("network.sigmoid")}


def reading_notes(activation: str, output: str | None, given: str | None) -> tuple[Message, ...]:
    """Return notes on how the model's output was interpreted, if that is not the usual way.

    Args:
        activation: one of ``ACTIVATIONS``.
        output: key of the logits in the model's output; None for a tensor or the key ``logits``.
        given: the key that the user specified, if any.
    """
    found = [message("network.output", part=repr(output))] if output != given else []
    return (*found, *([_NOTES[activation]] if activation in _NOTES else []))


def settled(
    module: nn.Module, inputs: Tensor, output: str | None, logits: Tensor, activation: str
) -> str:
    """Return how logits become probabilities; a pass over strong noise decides unclear cases.

    Args:
        module: the model, in evaluation mode.
        inputs: images ``(N, C, H, W)`` on the model's device.
        output: key, attribute or index of the logits in the model's output.
        logits: logits of the images.
        activation: one of ``ACTIVATIONS``, or ``auto`` if it is not known yet.
    """
    if activation != AUTO:
        return activation
    noise = torch.randn(inputs[:1].shape, generator=torch.Generator().manual_seed(0))
    returned = forward_without_gradients(module)(STRENGTH * noise.to(inputs))
    return confirmed(logits, logits_of(returned, 1, output))
