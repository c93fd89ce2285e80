"""Names of layers for a reader who does not know the addresses: ``conv1 · 55 × 55``."""

import re
from collections import Counter

from camreport.results.schema import LayerEntry, Manifest

_NUMBERED = (
    (r"^layer(\d+)$", "stage"),
    (r"^encoder_layer_(\d+)$", "block"),
    (r"^denseblock(\d+)$", "dense block"),
    (r"^denselayer(\d+)$", "dense layer"),
    (r"^transition(\d+)$", "transition"),
)
"""Names of modules that say what they are, in ResNet, ViT and DenseNet."""

_VGG = {"11": "11222", "13": "22222", "16": "22333", "19": "22444"}
"""Convolutions in each block of VGG."""

_ALEXNET = "conv1 relu1 pool1 conv2 relu2 pool2 conv3 relu3 conv4 relu4 conv5 relu5 pool5".split()
"""The modules of ``features``, under the names of Caffe's AlexNet."""

_KIND = {"conv": "Conv2d", "norm": "BatchNorm2d", "relu": "ReLU", "pool": "MaxPool2d"}
"""What types the modules of AlexNet and VGG have, by the letters that their names begin with."""

MAX_INNER = 2
"""Parts of an address that name a module inside its block; more are its type alone."""

_STEM = "Conv2dNormActivation"
"""Type of the first and last module of torchvision's EfficientNet and MobileNet."""


def layer_names(manifest: Manifest) -> dict[str, str]:
    """Return for each address a unique name that tells the layer's place and its grid.

    Numbers are those of the address, and so begin at 0 where that does; AlexNet and VGG have the
    names of their papers. A layer whose place is not sure is named by its type.
    """
    layers = {layer.address: layer for layer in (*manifest.layers, *manifest.channels)}
    words = {key: _word(layer, manifest.model.name) for key, layer in layers.items()}
    names = {key: f"{words[key]} · {_grid(layer)}" for key, layer in layers.items()}
    count = Counter(names.values())
    return {
        key: name if count[name] == 1 else f"{words[key]} ({key}) · {_grid(layers[key])}"
        for key, name in names.items()
    }


def _grid(layer: LayerEntry) -> str:
    _, height, width = layer.shape
    return f"{height} × {width}"


def _word(layer: LayerEntry, model: str) -> str:
    number = re.fullmatch(r"features\.(\d+)", layer.address)
    named = _listed(int(number[1]), layer.type, model) if number else _by_parts(layer, model)
    return named or layer.type


def _listed(number: int, kind: str, model: str) -> str:
    """Return the name of a module of ``features``; empty if that model's list is not known."""
    if model in ("alexnet", "catdog-alexnet"):
        return _of_type(_ALEXNET, number, kind)
    if vgg := re.fullmatch(r"vgg(\d\d)(_bn)?", model):
        return _of_type(_vgg(_VGG[vgg[1]], bool(vgg[2])), number, kind)
    if model.startswith(("efficientnet_", "mobilenet_")) and kind == _STEM:
        return "head" if number else "stem"
    if model.startswith("efficientnet_") and kind == "Sequential":
        return f"stage {number}"
    if model.startswith(("convnext_", "swin_")) and kind == "Sequential" and number % 2:
        return f"stage {(number + 1) // 2}"
    return f"block {number}" if kind == "InvertedResidual" else ""


def _of_type(names: list[str], number: int, kind: str) -> str:
    """Return a name of a list if the module has the type that belongs to it."""
    name = names[number] if number < len(names) else ""
    return name if name and _KIND[name[:4]] == kind else ""


def _vgg(blocks: str, normalised: bool) -> list[str]:
    """Return the names of VGG's modules in order: ``conv1_1``, ``relu1_1``, …, ``pool5``."""
    kinds = ("conv", "norm", "relu") if normalised else ("conv", "relu")
    names = []
    for block, count in enumerate(blocks, start=1):
        places = range(1, int(count) + 1)
        names += [f"{kind}{block}_{place}" for place in places for kind in kinds]
        names.append(f"pool{block}")
    return names


def _by_parts(layer: LayerEntry, model: str) -> str:
    """Return the stage and the block that an address names, and what lies in it."""
    parts = re.sub(r"#\d+$", "", layer.address).removeprefix("features.").split(".")
    words: list[str] = []
    rest: list[str] = []
    while parts:
        word, taken = _place(parts, layer.type, model)
        if not word and words and words[-1].startswith("stage") and parts[0].isdigit():
            word = f"block {parts[0]}"
        if word:
            words.append(word)
            rest = []
        else:
            rest.append(parts[0])
        parts = parts[taken:]
    if rest and (words or len(rest) == 1):
        words.append(_inner(rest, layer))
    return ", ".join(words)


def _place(parts: list[str], kind: str, model: str) -> tuple[str, int]:
    """Return the stage or block at the start of an address, and how many parts of it say that."""
    first, second, third, *_ = [*parts, "", ""]
    for pattern, word in _NUMBERED:
        if (found := re.match(pattern, first)) and (second or _holds_modules(kind)):
            return f"{word} {found[1]}", 1
    if (found := re.match(r"^block(\d+)$", first)) and not second and kind.endswith("Stage"):
        return f"stage {found[1]}", 1
    if not second.isdigit():
        return "", 1
    if first in ("stages", "layers") and (third == "blocks" or kind.endswith("Stage")):
        return f"stage {second}", 2
    if first in ("blocks", "_blocks"):
        staged = model.startswith("timm:") and (
            third.isdigit() or (kind, third) == ("Sequential", "")
        )
        return f"{'stage' if staged else 'block'} {second}", 2
    return "", 1


def _holds_modules(kind: str) -> bool:
    """Say whether a type is that of a stage or a block, which hold other modules."""
    return kind == "Sequential" or re.search("Block|Layer|Stage|Transition", kind) is not None


def _inner(rest: list[str], layer: LayerEntry) -> str:
    """Return the name of a module inside its block, or its type if the name says nothing."""
    told = len(rest) <= MAX_INNER and "#" not in layer.address
    return " ".join(rest) if told and re.match("[A-Za-z]{2}", rest[-1]) else layer.type
