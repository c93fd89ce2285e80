"""How what a model returns is read: which part holds the logits, and whether they are logits."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from camreport.choices import AUTO, NONE, SIGMOID, check_activation
from camreport.conditions import full_precision, gradients_on, to_model, undisturbed
from camreport.models import LoadedModel
from camreport.outputs import (
    confirmed,
    logits_key,
    logits_of,
    part_of,
    recognise,
)

STRENGTH = 100
"""How many times stronger than a photograph the noise is that confirms probabilities."""

_NOTES = {
    NONE: "probability: the model returns probabilities; they are shown as they are, without a "
    "second softmax, and the maps explain them",
    SIGMOID: "probability: each class has its own, the sigmoid of its logit; together they need "
    "not add up to 1",
}


def read_outputs(model: LoadedModel, image: Tensor, activation: str = AUTO) -> LoadedModel:
    """Return a model with the part of its output that holds the logits, and how they are read.

    Args:
        model: comes back as it was found; its own ``activation`` holds where none is asked for.
        image: ``(1, C, H, W)``, preprocessed.
        activation: what the user says, or ``auto``.

    Raises:
        ModelError: the model does not return logits, or the activation is unknown.
    """
    asked = check_activation(activation)
    asked = model.activation if asked == AUTO else asked
    module = model.module
    with undisturbed(module), gradients_on():
        inputs = to_model(module, image)
        with full_precision(inputs.device):
            output = module(inputs.clone().requires_grad_().clone())
            key, notes = model.output, list[str]()
            if key is None and not isinstance(output, Tensor) and part_of(output, None) is None:
                key = logits_key(output, 1)
                notes.append(f"output: the logits are part {key!r} of what the model returns")
            found = recognise(output, 1, key) if asked == AUTO else asked
            logits = logits_of(output, 1, key, found)
            found = settled(module, inputs, key, logits, found)
    notes += [_NOTES[found]] if found in _NOTES else []
    return replace(model, output=key, activation=found, notes=(*model.notes, *notes))


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
    with torch.no_grad():
        far = logits_of(module(STRENGTH * noise.to(inputs)), 1, output)
    return confirmed(logits, far)
