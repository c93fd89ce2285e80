"""Ways to compute the same maps: camreport, its peers, and the passes that none can do without.

Every way takes a model and a batch and returns raw maps under the same names, so that
``deviation`` can tell whether two of them did the same work.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torchvision.models import AlexNet

import camreport
from camreport.engine.explanation import FUSED
from camreport.methods import METHODS
from camreport.methods.registry import ACTIVATION

if TYPE_CHECKING:
    from pytorch_grad_cam.base_cam import BaseCAM

READS = {
    "features.0": "features.1",
    "features.3": "features.4",
    "features.6": "features.7",
    "features.9": "features.9",
    "features.12": "features.12",
}
"""The course's layers and the modules whose outputs camreport reads there: peers get these."""

TARGETS = (0, 1)

PAIR = ("grad_cam", "layer_cam")
"""The methods that every peer has."""

GRADIENT_METHODS = (
    "grad_cam",
    "grad_cam_plus_plus",
    "xgrad_cam",
    "hires_cam",
    "grad_cam_elementwise",
    "layer_cam",
)
"""Those made of activation and gradient by sums and products, one map per layer and class."""

EIGEN_PAIR = ("eigen_cam", "eigen_grad_cam")

Maps = dict[tuple[str, str], Tensor]
"""Maps ``(N, K, h, w)`` by method and by the module read."""


@dataclass(frozen=True)
class Peer:
    """A library that computes the same maps.

    Attributes:
        distribution: its name on PyPI.
        how: the way it is used here.
        maps: computes the maps of a model and a batch.
        bar: how many times our time it should take at least; None for information.
        rectified: its maps are after the final ReLU.
    """

    distribution: str
    how: str
    maps: Callable[[nn.Module, Tensor], Maps]
    bar: float | None = None
    rectified: bool = False


def our_maps(model: nn.Module, images: Tensor, methods: Sequence[str] = PAIR) -> Maps:
    """Compute every map by camreport's engine."""
    explanation = camreport.explain(model, images, list(READS), methods, TARGETS)
    return {
        (method, READS.get(layer, layer)): maps
        for method, by_layer in explanation.maps.items()
        for layer, maps in by_layer.items()
        if layer != FUSED
    }


def gradcam_maps(model: nn.Module, images: Tensor) -> Maps:
    """Compute every map by grad-cam: one object per layer and method, the images as a batch."""
    from pytorch_grad_cam import GradCAM, LayerCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    maps: Maps = {}
    for method, peer in (("grad_cam", GradCAM), ("layer_cam", LayerCAM)):
        for read in READS.values():
            with peer(model=model, target_layers=[model.get_submodule(read)]) as cam:
                raw = kept_raw(cam)
                for target in TARGETS:
                    cam(images, [ClassifierOutputTarget(target)] * len(images))
            maps[method, read] = torch.stack(raw, 1)
    return maps


def torchcam_maps(model: nn.Module, images: Tensor) -> Maps:
    """Compute every map by torchcam: all layers at once, the graph retained between classes."""
    from torchcam.methods import GradCAM, LayerCAM

    maps: Maps = {}
    for method, peer in (("grad_cam", GradCAM), ("layer_cam", LayerCAM)):
        with peer(model, list(READS.values())) as extractor:
            logits = model(images)
            cams = [
                extractor(target, logits, normalized=False, retain_graph=target != TARGETS[-1])
                for target in TARGETS
            ]
        for read, by_target in zip(READS.values(), zip(*cams, strict=True), strict=True):
            maps[method, read] = torch.stack(by_target, 1)
    return maps


def captum_maps(model: nn.Module, images: Tensor) -> Maps:
    """Compute every map by captum; LayerCAM from gradient × activation, as A >= 0 here."""
    from captum.attr import LayerGradCam, LayerGradientXActivation

    maps: Maps = {}
    for read in READS.values():
        cam = LayerGradCam(model, model.get_submodule(read))
        cams = [cam.attribute(images, target=target).detach() for target in TARGETS]
        maps["grad_cam", read] = torch.cat(cams, 1)
    product = LayerGradientXActivation(model, [model.get_submodule(r) for r in READS.values()])
    products = [product.attribute(images, target=target) for target in TARGETS]
    for read, by_target in zip(READS.values(), zip(*products, strict=True), strict=True):
        cams = [contributions.detach().clamp(min=0).sum(1) for contributions in by_target]
        maps["layer_cam", read] = torch.stack(cams, 1)
    return maps


PEERS = (
    Peer("grad-cam", "one object per layer and method", gradcam_maps, bar=20),
    Peer("torchcam", "all layers at once, graph retained", torchcam_maps, 1.7, rectified=True),
    Peer("captum", "Grad-CAM by layer, gradient × activation for all", captum_maps),
)


def bare_passes(model: AlexNet, images: Tensor, batched: bool) -> list[tuple[Tensor, list[Tensor]]]:
    """Do what no way can avoid: one forward pass, one backward pass per class.

    Args:
        model: with frozen parameters.
        images: the batch.
        batched: one batched backward pass for all classes, or a loop over them.

    Returns:
        for each layer its activation ``(N, C, h, w)`` and one gradient like it per class.
    """
    activations: list[Tensor] = []
    tensor = images
    for name, module in model.features.named_children():
        tensor = module(tensor)
        if f"features.{name}" in READS.values():
            activations.append(tensor if tensor.requires_grad else tensor.requires_grad_())
    logits = model.classifier(model.avgpool(tensor).flatten(1))  # (N, num_classes)
    rows = torch.eye(logits.shape[1], device=logits.device)[list(TARGETS)]
    cotangents = rows.unsqueeze(1).expand(-1, *logits.shape)  # (K, N, num_classes)
    if batched:
        stacked = torch.autograd.grad(logits, activations, cotangents, is_grads_batched=True)
        gradients = [list(gradient) for gradient in stacked]
    else:
        passes = [
            torch.autograd.grad(logits, activations, cotangent, retain_graph=True)
            for cotangent in cotangents
        ]
        gradients = [list(by_class) for by_class in zip(*passes, strict=True)]
    return list(zip(activations, gradients, strict=True))


def bare_maps(model: AlexNet, images: Tensor, batched: bool, methods: Sequence[str] = PAIR) -> Maps:
    """Reduce the bare passes to maps, to see that they are the same passes."""
    maps: Maps = {}
    found = bare_passes(model, images, batched)
    for read, (activation, gradients) in zip(READS.values(), found, strict=True):
        for method in methods:
            one = METHODS[method]
            cams = [
                one.compute(activation.detach(), *([] if one.needs is ACTIVATION else [gradient]))
                for gradient in gradients
            ]
            maps[method, read] = torch.stack(cams, 1)
    return maps


def deviation(maps: Maps, ours: Maps, rectified: bool = False) -> float:
    """Return the largest difference between two maps, as part of the peak of our raw map.

    Args:
        maps: to be compared with ours.
        ours: raw maps.
        rectified: ``maps`` are after the final ReLU.
    """
    worst = []
    for key, raw in ours.items():
        expected = raw.clamp(min=0) if rectified else raw
        peak = raw.abs().amax((-2, -1), keepdim=True).clamp(min=torch.finfo(raw.dtype).tiny)
        worst.append(((maps[key].to(raw.device) - expected).abs() / peak).max())
    return float(torch.stack(worst).max())  # NaN if anything is


def kept_raw(cam: "BaseCAM") -> list[Tensor]:
    """Return a list that receives the raw maps of a grad-cam object as it computes them."""
    raw: list[Tensor] = []
    compute = cam.get_cam_image

    def get_cam_image(*arguments: object) -> object:
        result = compute(*arguments)
        raw.append(torch.from_numpy(result))
        return result

    cam.get_cam_image = get_cam_image
    return raw
