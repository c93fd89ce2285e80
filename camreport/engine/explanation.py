"""What the engine returns: the maps of a batch, or of all batches of a call, and what they mean."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from camreport.engine.batch import Maps
from camreport.engine.cost import Cost
from camreport.engine.plan import Options, Skip
from camreport.messages import Message
from camreport.network.address import Layer

FUSED = "fused"
"""Layer name of the map that fuses a method's maps of all layers."""


@dataclass(frozen=True)
class Channels:
    """One layer's channels and their weights: Grad-CAM is the weighted sum of the channels.

    Attributes:
        layer: the layer.
        features: the layer's activation, ``(N, C, h, w)`` float32, on the model's device.
        weights: spatial means of the gradient of the explained score, ``(N, K, C)`` float32.
    """

    layer: Layer
    features: Tensor = field(repr=False)
    weights: Tensor = field(repr=False)


@dataclass(frozen=True)
class Explanation:
    """The maps of one call, with everything needed to interpret them.

    Attributes:
        maps: ``maps[method][layer]`` is a Tensor ``(N, K, h, w)``, float32: raw, that is
            unnormalised and before the final ReLU. Layers have the names that the caller gave;
            ``maps["layer_cam"]["fused"]`` exists if there are two layers or more. Methods on
            the input's grid: ``guided_backprop`` ``(N, K, 3, H, W)`` and ``full_grad``
            ``(N, K, H, W)`` under the layer ``input``, ``guided_grad_cam`` ``(N, K, 3, H, W)``
            per layer. ``gradient_x_activation`` is ``(N, K, C, h, w)``.
        logits: ``(N, num_classes)`` float32.
        activation: how logits become probabilities: ``softmax``, ``sigmoid``, or ``none`` if the
            model returns probabilities.
        output: key of the logits in the model's output; None for a tensor or the key ``logits``.
        targets: class indices explained, ``(N, K)`` int64.
        layers: the layers with maps, by the name that the caller gave, in network order.
        shapes: ``(C, h, w)`` of each layer, under the same names.
        duplicates: for each layer whose tensor equals an earlier layer's, that earlier layer,
            such as ``features.12`` for ``avgpool`` of AlexNet at 224 px.
        skipped: requested methods that are not defined here, with the reasons.
        costs: number of passes and maps, by kind of passes.
        bytes_per_image: bytes that the model's innermost modules return for one image.
        channels: the layers whose channels are kept, by address, in network order.
        contributions: what each channel of one layer contributes to the score, ``(N, K, C)``
            float32, by the layer's address; empty if it is not kept. It is the gradient times the
            activation, summed over positions.
        options: what was asked of the engine.
        notes: notes for the reader about the model and about how the maps were computed.
        findings: those of the notes that result from these images.
    """

    maps: Maps = field(repr=False)
    logits: Tensor = field(repr=False)
    activation: str
    output: str | None
    targets: Tensor = field(repr=False)
    layers: dict[str, Layer]
    shapes: dict[str, tuple[int, ...]]
    duplicates: dict[str, str]
    skipped: tuple[Skip, ...]
    costs: dict[str, Cost]
    bytes_per_image: int
    channels: dict[str, Channels]
    contributions: dict[str, Tensor]
    options: Options = field(repr=False)
    notes: tuple[Message, ...] = ()
    findings: tuple[Message, ...] = ()

    @property
    def cost(self) -> Cost:
        """Total number of passes and maps."""
        return sum(self.costs.values(), Cost())


def join(parts: Sequence[Explanation]) -> Explanation:
    """Join the explanations of the batches of one call, in order."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    return replace(
        first,
        maps={
            method: {
                layer: torch.cat([part.maps[method][layer] for part in parts]) for layer in by_layer
            }
            for method, by_layer in first.maps.items()
        },
        logits=torch.cat([part.logits for part in parts]),
        targets=torch.cat([part.targets for part in parts]),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        findings=tuple(dict.fromkeys(note for part in parts for note in part.findings)),
        duplicates={
            name: earlier
            for name, earlier in first.duplicates.items()
            if all(name in part.duplicates for part in parts)
        },
        costs={
            passes: sum((part.costs[passes] for part in parts), Cost()) for passes in first.costs
        },
        channels={
            name: replace(
                channels,
                features=torch.cat([part.channels[name].features for part in parts]),
                weights=torch.cat([part.channels[name].weights for part in parts]),
            )
            for name, channels in first.channels.items()
        },
        contributions={
            name: torch.cat([part.contributions[name] for part in parts])
            for name in first.contributions
        },
    )
