"""How what a model returns is read: which part holds the logits, and whether they are logits."""

import torch
from torch import Tensor, nn

from camreport.messages import Message, message
from camreport.network.logits import confirmed, logits_of
from camreport.network.state import forward_without_gradients
from camreport.settings import AUTO, NONE, SIGMOID

STRENGTH = 100
"""How many times stronger than a photograph the noise is that confirms probabilities."""

_NOTES = {NONE: message("network.probabilities"), SIGMOID: message("network.sigmoid")}


def reading_notes(activation: str, output: str | None, asked: str | None) -> tuple[Message, ...]:
    """Say how the logits become probabilities, where that is not the softmax, and where they are.

    Args:
        activation: one of ``ACTIVATIONS``.
        output: the part of what the model returns that holds the logits.
        asked: that part, where it was named.
    """
    found = [message("network.output", part=repr(output))] if output != asked else []
    return (*found, *([_NOTES[activation]] if activation in _NOTES else []))


def settled(
    module: nn.Module, inputs: Tensor, output: str | None, logits: Tensor, activation: str
) -> str:
    """Return how logits become probabilities, by one pass over strong noise if it takes that.

    Args:
        module: in evaluation mode.
        inputs: images ``(N, C, H, W)`` on its device.
        output: which part of what the model returns holds the logits.
        logits: of the images.
        activation: what is known.
    """
    if activation != AUTO:
        return activation
    noise = torch.randn(inputs[:1].shape, generator=torch.Generator().manual_seed(0))
    returned = forward_without_gradients(module)(STRENGTH * noise.to(inputs))
    return confirmed(logits, logits_of(returned, 1, output))
