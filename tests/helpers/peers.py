"""The peers: nets on which they are compared, and how their raw maps are read.

Raw means before ReLU, scaling and resizing where a library lets one see that, and after ReLU
where it does not. ``COMPARISONS`` lists what equals what, and within which gate.
"""

import copy
import importlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import alexnet, densenet121, resnet18, vgg16

from camreport import explain
from camreport.methods import METHODS
from camreport.methods.registry import ACTIVATION, GRADIENT, LOOK_ALIKES
from helpers import reference

CLASSES = [5, 9]
LAYERS = {
    # Tensors that every library reads alike: what no later operation overwrites in place.
    "AlexNet": ["features.1", "features.4", "features.7", "features.9", "features.12"],
    "VGG-16": ["features.4", "features.16", "features.30"],
    "ResNet-18": ["layer1", "layer2", "layer3", "layer4"],
    "DenseNet-121": ["features.pool0", "features.transition2.relu", "features.denseblock4"],
    "pooled net": ["features.1", "features.4", "features.6"],
}
SIZES = {"AlexNet": 96, "VGG-16": 64, "ResNet-18": 64, "DenseNet-121": 64, "pooled net": 32}
SIGNED = "features.denseblock4"
"""The one layer above whose values are not all >= 0."""


def peer(name: str) -> ModuleType:
    """Import a peer, or skip; what its imports warn about is not ours to mend."""
    pytest.importorskip(name.partition(".")[0], reason="parity extra is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


class PooledNet(nn.Module):
    """Convolutions, global average pooling and one linear layer: what CAM was made for."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(12, 16, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 20, 3),
            nn.ReLU(inplace=True),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(20, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.fc(self.pool(self.features(x)).flatten(1))


def random_net(name: str) -> nn.Module:
    """A seeded net of ten classes in evaluation mode, with in-place ReLU as torchvision has it."""
    makers: dict[str, Callable[..., nn.Module]] = {
        "AlexNet": alexnet,
        "VGG-16": vgg16,
        "ResNet-18": resnet18,
        "DenseNet-121": densenet121,
    }
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        net = makers[name](weights=None, num_classes=10) if name in makers else PooledNet(10)
        if name in ("AlexNet", "VGG-16"):  # a narrow classifier: nothing is read there
            places = [at for at, part in enumerate(net.classifier) if isinstance(part, nn.Linear)]
            sizes = [net.classifier[places[0]].in_features, 64, 64, 10]
            for at, inputs, outputs in zip(places, sizes[:-1], sizes[1:], strict=True):
                net.classifier[at] = nn.Linear(inputs, outputs)
    net = net.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):  # He: keeps activations of one size
            nn.init.kaiming_normal_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.normal_(module.bias, std=0.2, generator=generator)
            nn.init.uniform_(module.running_mean, -0.5, 0.5, generator=generator)
            nn.init.uniform_(module.running_var, 0.5, 2, generator=generator)
    return net.eval()


def without_inplace(net: nn.Module) -> nn.Module:
    """Return a copy in which nothing overwrites what a hook has seen."""
    net = copy.deepcopy(net)
    for module in net.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return net


class Case:
    """A net, two images with every class of ``CLASSES`` as one batch for peers, and our maps.

    Args:
        name: of the net.
        loudness: factor on the weights of its last layer.
    """

    def __init__(self, name: str, loudness: float = 1.0) -> None:
        self.name = name
        self.inplace_net = random_net(name)
        last = [part for part in self.inplace_net.modules() if isinstance(part, nn.Linear)][-1]
        with torch.no_grad():
            last.weight.mul_(loudness)
        self.net = without_inplace(self.inplace_net)
        shape = (2, 3, SIZES[name], SIZES[name])
        self.images = torch.randn(shape, generator=torch.Generator().manual_seed(3))
        self.batch = self.images.repeat(len(CLASSES), 1, 1, 1)
        self.targets = [target for target in CLASSES for _ in self.images]
        self._found: dict[tuple[str, str], Tensor] = {}

    def ours(self, key: str, layer: str) -> Tensor:
        """Return our maps in the order of the batch; cheap methods are computed all at once."""
        if (key, layer) not in self._found:
            cheap = METHODS[key].needs in (ACTIVATION, GRADIENT, LOOK_ALIKES)
            known = LAYERS[self.name] if cheap and layer in LAYERS[self.name] else [layer]
            keys = [k for k, m in METHODS.items() if m.needs in (ACTIVATION, GRADIENT, LOOK_ALIKES)]
            e = explain(self.inplace_net, self.images, known, keys if cheap else [key], CLASSES)
            for method, by_layer in e.maps.items():
                for name, maps in by_layer.items():
                    name = name if METHODS[method].scope == "layer" else layer
                    self._found[method, name] = maps.transpose(0, 1).flatten(0, 1)
        return self._found[key, layer]


make_case = cache(Case)


# How a peer's raw maps are read: of one name of it, at some layers, from a net if not the case's


def grad_cam_library(
    name: str, layers: list[str], case: Case, net: nn.Module | None = None
) -> list[Tensor]:
    """Return what grad-cam sums up for each layer, before it rectifies and scales."""
    output_target = peer("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget
    net = net or case.net
    modules = [net.get_submodule(layer) for layer in layers]
    with getattr(peer("pytorch_grad_cam"), name)(net, modules) as cam:
        raw: list[Tensor] = []
        sum_up = cam.get_cam_image

        def keep(*arguments: object) -> object:
            raw.append(torch.from_numpy(result := sum_up(*arguments)).clone())
            return result

        cam.get_cam_image = keep
        cam(case.batch, [output_target(target) for target in case.targets])
    net.zero_grad(set_to_none=True)
    return raw


def torchcam(
    name: str, layers: list[str], case: Case, net: nn.Module | None = None
) -> list[Tensor]:
    """Return torchcam's maps, not scaled; all but CAM's are rectified."""
    net = net or case.net
    linear = [part for part in net.modules() if isinstance(part, nn.Linear)]
    options = {"fc_layer": linear[-1]} if name == "CAM" else {}
    with getattr(peer("torchcam.methods"), name)(net, layers, **options) as extractor:
        return extractor(case.targets, net(case.batch), normalized=False)


def captum(name: str, layers: list[str], case: Case, net: nn.Module | None = None) -> list[Tensor]:
    """Return captum's attributions at the layers, or at the input for each of them."""
    net = copy.deepcopy(net or case.net)  # some of its methods hook the model
    options = {
        "LayerGradCam": {"relu_attributions": False},
        "GuidedGradCam": {"interpolate_mode": "bilinear"},
    }.get(name, {})
    attribution, target = getattr(peer("captum.attr"), name), torch.tensor(case.targets)
    found = []
    for layer in layers:
        where = () if name == "GuidedBackprop" else (net.get_submodule(layer),)
        batch = case.batch.clone().requires_grad_()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting backward hooks on ReLU")
            maps = attribution(net, *where).attribute(batch, target=target, **options).detach()
        found.append(maps.squeeze(1))  # LayerGradCam keeps an axis of one channel
    return found


def activation_and_gradient(layer: str, case: Case, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a layer gives, and the gradient of each target's logit."""
    outputs: list[Tensor] = []
    with reference.hooked(case.net.get_submodule(layer), lambda *seen: outputs.append(seen[2])):
        logits = case.net(batch)
    chosen = logits.gather(1, torch.tensor(case.targets)[:, None]).sum()
    return outputs[0].detach(), torch.autograd.grad(chosen, outputs[0])[0]


def formula(key: str, layers: list[str], case: Case) -> list[Tensor]:
    """Return what the method's float64 oracle makes of a layer and its gradients."""
    oracle, found = getattr(reference, key), []
    for layer in layers:
        activation, gradient = activation_and_gradient(layer, case, case.batch)
        gradients = list(gradient)
        if key == "layer_cam_pool_gradient":
            head, _, last = layer.rpartition(".")
            gradients = activation_and_gradient(f"{head}.{int(last) + 1}", case, case.batch)[1]
        if key == "smooth_grad_cam_plus_plus":
            generator = torch.Generator().manual_seed(0)
            noise = [torch.randn(case.batch.shape[1:], generator=generator) for _ in range(4)]
            copies = [case.batch + 0.3 * one for one in noise]
            each = [activation_and_gradient(layer, case, copy)[1] for copy in copies]
            gradients = list(zip(*each, strict=True))
        pairs = zip(activation, gradients, strict=True)
        found.append(torch.stack([oracle(*pair) for pair in pairs]))
    return found


def brute_force(key: str, layers: list[str], case: Case) -> list[Tensor]:
    """Return what the method's oracle finds by asking the network again and again."""
    oracle, found = getattr(reference, key), []
    for layer in layers:
        where = () if key == "full_grad" else (case.net.get_submodule(layer),)
        pairs = zip(case.batch, case.targets, strict=True)
        found.append(torch.stack([oracle(case.net, *where, *pair) for pair in pairs]))
    return found


# What is done to our maps before they are compared


def as_they_are(case: Case, key: str, layer: str) -> Tensor:
    """Return our raw maps."""
    return case.ours(key, layer)


def rectified(case: Case, key: str, layer: str) -> Tensor:
    """Return the positive part, where a peer shows no other."""
    return case.ours(key, layer).relu()


def over_the_logit(case: Case, key: str, layer: str) -> Tensor:
    """Return our maps divided by the target's logit, as pytorch-grad-cam divides them."""
    logits = case.net(case.batch).detach().gather(1, torch.tensor(case.targets)[:, None])
    return case.ours(key, layer) / logits[:, :, None]


def centred(case: Case, key: str, layer: str) -> Tensor:
    """Return the first component of what was centred before, as pytorch-grad-cam centres it."""
    channels = case.ours("gradient_x_activation", layer)
    if key == "eigen_cam":
        channels = activation_and_gradient(layer, case, case.batch)[0]
    channels = channels - channels.mean((-2, -1), keepdim=True)
    first, second = torch.linalg.svdvals(channels.double().flatten(2))[:, :2].square().unbind(1)
    if (first < 1.05 * second).any():
        pytest.skip("the first component is not unique enough")
    return METHODS["eigen_cam"].compute(channels)


# What is compared


@dataclass(frozen=True)
class Comparison:
    """One method against one peer.

    Attributes:
        key: the method.
        peer: the peer as the documents name it.
        read: takes ``name``, layers and a case and returns the peer's maps.
        name: what the peer calls the method.
        nets: where they are compared.
        gate: largest difference allowed, as a share of the peer's largest value.
        ours: what is done to our maps first.
        at: place of the one layer that is compared; all of the net's if None.
        up_to_sign: the peer leaves the sign open.
        loudness: factor on the weights of the last layer.
    """

    key: str
    peer: str
    read: Callable[[str, list[str], Case], list[Tensor]]
    name: str
    nets: tuple[str, ...] = tuple(LAYERS)
    gate: float = 1e-5
    ours: Callable[[Case, str, str], Tensor] = as_they_are
    at: int | None = None
    up_to_sign: bool = False
    loudness: float = 1.0

    def layers_of(self, case: Case) -> list[str]:
        """Return the layers to compare; methods for A >= 0 leave the signed one out."""
        chosen = LAYERS[case.name] if self.at is None else [LAYERS[case.name][self.at]]
        return [one for one in chosen if one != SIGNED or not METHODS[self.key].non_negative]


FIRST, MIDDLE, LAST = 0, 1, -1
RELU_MODULES = ("AlexNet", "VGG-16", "ResNet-18", "pooled net")
SMALL = ("AlexNet", "ResNet-18", "pooled net")
TINY = ("AlexNet", "pooled net")
POOLED = ("ResNet-18", "pooled net")

COMPARISONS = (
    Comparison("grad_cam", "grad-cam", grad_cam_library, "GradCAM"),
    Comparison("grad_cam", "torchcam", torchcam, "GradCAM", ours=rectified),
    Comparison("grad_cam", "captum", captum, "LayerGradCam"),
    Comparison("grad_cam_plus_plus", "grad-cam", grad_cam_library, "GradCAMPlusPlus", loudness=1e6),
    Comparison(
        "grad_cam_plus_plus", "formula", formula, "grad_cam_plus_plus", RELU_MODULES, at=LAST
    ),
    Comparison("xgrad_cam", "grad-cam", grad_cam_library, "XGradCAM"),
    Comparison("xgrad_cam", "torchcam", torchcam, "XGradCAM", ours=rectified),
    Comparison("hires_cam", "grad-cam", grad_cam_library, "HiResCAM"),
    Comparison("grad_cam_elementwise", "grad-cam", grad_cam_library, "GradCAMElementWise"),
    Comparison("layer_cam", "grad-cam", grad_cam_library, "LayerCAM"),
    Comparison("layer_cam", "torchcam", torchcam, "LayerCAM", ours=rectified),
    Comparison("gradient_x_activation", "captum", captum, "LayerGradientXActivation"),
    Comparison("finer_cam", "torchcam", torchcam, "FinerCAM", ours=rectified),
    Comparison("cam", "torchcam", torchcam, "CAM", POOLED, at=LAST),
    Comparison(
        *("eigen_cam", "grad-cam", grad_cam_library, "EigenCAM"),
        gate=1e-4,
        ours=centred,
        at=MIDDLE,
        up_to_sign=True,
    ),
    Comparison(
        *("eigen_grad_cam", "grad-cam", grad_cam_library, "EigenGradCAM"),
        gate=1e-4,
        ours=centred,
        at=MIDDLE,
        up_to_sign=True,
    ),
    Comparison("guided_backprop", "captum", captum, "GuidedBackprop", RELU_MODULES, at=LAST),
    Comparison("guided_grad_cam", "captum", captum, "GuidedGradCam", RELU_MODULES),
    Comparison(
        "layer_cam_pool_gradient",
        "formula",
        formula,
        "layer_cam_pool_gradient",
        ("AlexNet",),
        at=MIDDLE,
    ),
    Comparison(
        *("smooth_grad_cam_plus_plus", "formula", formula, "smooth_grad_cam_plus_plus", SMALL),
        at=LAST,
    ),
    Comparison("full_grad", "formula", brute_force, "full_grad", SMALL, 1e-4, at=LAST),
    Comparison("score_cam", "formula", brute_force, "score_cam", TINY, 1e-4, at=FIRST),
    Comparison("score_cam_pgc", "grad-cam", grad_cam_library, "ScoreCAM", SMALL, 1e-4, at=FIRST),
    Comparison(*("score_cam_torchcam", "torchcam", torchcam, "ScoreCAM", SMALL, 1e-4), at=FIRST),
    Comparison(
        *("ablation_cam", "grad-cam", grad_cam_library, "AblationCAM", SMALL, 1e-4),
        ours=over_the_logit,
        at=FIRST,
    ),
    Comparison("ablation_cam", "formula", brute_force, "ablation_cam", TINY, 1e-4, at=FIRST),
    Comparison("recipro_cam", "formula", brute_force, "recipro_cam", SMALL, 1e-4, at=LAST),
)


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference as a share of the reference's largest value."""
    largest = theirs.abs().amax()
    assert largest > 0
    return float((ours - theirs).abs().amax() / largest)


def table(worst: Mapping[tuple[str, str], float]) -> list[str]:
    """Return the comparisons as lines of a Markdown table.

    Args:
        worst: largest difference measured, by method and peer.
    """
    lines = ["| method | peer | nets | gate | worst deviation |", "|---|---|---|---|---|"]
    for one in COMPARISONS:
        found = worst.get((one.key, one.peer))
        measured = "not run" if found is None else f"{found:.1e}"
        nets = ", ".join(one.nets)
        lines.append(f"| `{one.key}` | {one.peer} | {nets} | {one.gate:.0e} | {measured} |")
    return lines
