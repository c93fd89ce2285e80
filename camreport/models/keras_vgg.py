"""A Keras VGG16, a whole model or weights alone, converted to torchvision's VGG16.

Keras has images of shape (H, W, C) and dense kernels of shape (inputs, units); torch has (C, H, W)
and (units, inputs).
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models import VGG, VGG16_Weights, vgg16

from camreport.errors import ModelError
from camreport.images.preprocessing import Preprocessing
from camreport.messages import Message, message
from camreport.models.keras_file import (
    ONLY_VGG16,
    Array,
    Arrays,
    KerasFile,
    KerasLayer,
    LayerWeights,
    layers_of,
    read_keras,
)
from camreport.models.loaded import LoadedModel, numbered_classes
from camreport.settings import SIGMOID, SOFTMAX

Order = NDArray[np.int64]
"""Keras's index of each column of a flattened tensor of torch's."""

_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # filters, convolutions
_RANKS = {"Conv2D": 4, "Dense": 2, "BatchNormalization": 1}  # of a layer's first array
_FINAL = (SOFTMAX, SIGMOID)
_POOLINGS = ("Flatten", "GlobalAveragePooling2D", "GlobalMaxPooling2D")
_IDLE = frozenset(  # they do nothing outside training
    "InputLayer AlphaDropout GaussianDropout GaussianNoise SpatialDropout2D RandomFlip "
    "RandomRotation RandomZoom RandomTranslation RandomContrast RandomBrightness".split()
)
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": partial(nn.LeakyReLU, 0.2),
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
    "mish": nn.Mish,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "softmax": partial(nn.Softmax, dim=1),
}


def load_keras(data: bytes, name: str) -> LoadedModel:
    """Load a Keras VGG16 with its own head, from ``.keras``, ``.h5`` or ``.weights.h5``.

    Args:
        data: a file's bytes, written by Keras 2 or 3: ``model.save`` or ``model.save_weights``.
        name: the file's name.

    Raises:
        ModelError: the file is damaged or contains no VGG16, or h5py is not installed.
    """
    try:
        return _converted(data, name)
    except ImportError as error:
        raise ModelError(
            f"checkpoint: {name} is a Keras file; reading it needs h5py: "
            "pip install 'camreport[keras]'"
        ) from error
    except ModelError as error:
        raise ModelError(f"checkpoint: {name}: {error}") from error
    except Exception as error:  # a configuration can be wrong in any way
        raise ModelError(
            f"checkpoint: {name}: damaged, or not a Keras model ({type(error).__name__}: {error})."
        ) from error


def _converted(data: bytes, name: str) -> LoadedModel:
    """Return torchvision's VGG16 with the head and the weights of a file.

    Raises:
        Exception: of any type, if the configuration is wrong.
    """
    file = read_keras(data)
    layers = layers_of(file.config) if file.config else _assumed_layers(file)
    start = next((i for i, layer in enumerate(layers) if layer.kind == "Conv2D"), 0)
    end = start + len(_base_layers())
    _check_base(layers[start:end])
    arrays = _match(layers, file.weights)
    size = _input_size(layers)
    head = _head_layers(layers[end:])
    model = _build(head, arrays, layers[start:end], size)
    dense = [layer for layer in head if layer.kind == "Dense"][-1]
    preprocessing, note = _preprocessing(layers[:start], size or (224, 224), name)
    units = dense.config["units"]
    several = units > 1 and layers[-1].config.get("activation") == SIGMOID
    class_names, classes_note = _class_names(dense.name, units, name)
    return LoadedModel(
        module=model,
        preprocessing=preprocessing,
        class_names=class_names,
        name="vgg16",
        source=message("models.from_keras", file=name),
        sha256=hashlib.sha256(data).hexdigest(),
        notes=(
            note,
            *([] if file.config else _assumption_notes(file, layers)),
            *([] if size else [message("models.size_not_in_file", file=name)]),
            classes_note,
        ),
        activation=SIGMOID if several else SOFTMAX,
    )


def _base_layers() -> list[KerasLayer]:
    """Return VGG16's convolutions and poolings with the settings that matter."""
    conv = {"kernel_size": [3, 3], "strides": [1, 1], "dilation_rate": [1, 1], "groups": 1}
    conv |= {"padding": "same", "activation": "relu", "data_format": "channels_last"}
    pool = {"pool_size": [2, 2], "strides": [2, 2], "padding": "valid"}
    layers = []
    for block, (filters, count) in enumerate(_BLOCKS, start=1):
        layers += [
            KerasLayer("Conv2D", f"block{block}_conv{i}", conv | {"filters": filters})
            for i in range(1, count + 1)
        ]
        layers.append(
            KerasLayer(
                "MaxPooling2D", f"block{block}_pool", pool | {"data_format": "channels_last"}
            )
        )
    return layers


def _check_base(found: Sequence[KerasLayer]) -> None:
    """Check that a model's first layers are VGG16's.

    Raises:
        ModelError: they are not.
    """
    for position, due in enumerate(_base_layers()):
        if position >= len(found):
            raise ModelError(f"expected VGG16, but it ends where {due} is due. {ONLY_VGG16}")
        layer = found[position]
        if layer.kind != due.kind or layer.config.get("filters") != due.config.get("filters"):
            raise ModelError(f"expected VGG16, but {layer} is where {due} is due. {ONLY_VGG16}")
        for setting, value in due.config.items():
            if (got := layer.config.get(setting, value)) != value:
                raise ModelError(f"expected VGG16, but {layer} has {setting} {got!r}. {ONLY_VGG16}")


def _assumed_layers(file: KerasFile) -> list[KerasLayer]:
    """Infer the layers from the shapes of the weights in a file without a configuration.

    Raises:
        ModelError: the shapes are not those of a VGG16.
    """
    weights = file.weights
    conv = [w for w in weights if w.arrays[0].ndim == 4]
    dense = [w for w in weights if w.arrays[0].ndim == 2]
    filters = [w.arrays[0].shape[3] for w in conv]
    due = [filters for filters, count in _BLOCKS for _ in range(count)]
    if filters != due or len(conv) + len(dense) != len(weights):
        raise ModelError(
            f"expected the weights of VGG16, {len(due)} convolutions and Dense layers, got "
            f"{len(conv)} convolutions, {len(dense)} Dense and "
            f"{len(weights) - len(conv) - len(dense)} other layers, and no configuration. "
            f"Save the whole model with model.save, if it is one. {ONLY_VGG16}"
        )
    inputs = dense[0].arrays[0].shape[0] if dense else 512
    side = math.isqrt(inputs // 512)
    if inputs != 512 * side**2 or not side:
        raise ModelError(
            f"expected a first Dense layer of 512 × side × side inputs, got {inputs}. "
            "Save the whole model with model.save."
        )
    flatten, average, maximum = _POOLINGS
    pooling = maximum if "global_max_pooling" in file.paths else average
    head = [KerasLayer(flatten if side > 1 else pooling, "pooling", {})]
    for position, layer in enumerate(dense):
        last = position == len(dense) - 1
        config = {
            "units": layer.arrays[0].shape[1],
            "use_bias": len(layer.arrays) > 1,
            "activation": "linear" if last else "relu",
        }
        head.append(KerasLayer("Dense", layer.name or f"dense {position}", config))
    shape = {"batch_shape": [None, 32 * side, 32 * side, 3]} if side > 1 else {}
    return [KerasLayer("InputLayer", "input", shape), *_base_layers(), *head]


def _match(layers: Sequence[KerasLayer], weights: Sequence[LayerWeights]) -> dict[str, Arrays]:
    """Return every layer's arrays by its name, matched by name or else by order.

    Raises:
        ModelError: two layers share a name, or there are more or fewer arrays than layers.
    """
    needing = [layer for layer in layers if layer.kind in _RANKS]
    names = {layer.name for layer in needing}
    if len(names) < len(needing):
        raise ModelError("expected one name per layer, but two layers share one. Rename them.")
    named = {w.name: w.arrays for w in weights if w.name is not None}
    if len(named) == len(weights) and names <= named.keys():
        return {name: named[name] for name in names}
    matched: dict[str, Arrays] = {}
    for kind, rank in _RANKS.items():
        wanted = [layer.name for layer in needing if layer.kind == kind]
        present = [w.arrays for w in weights if w.arrays[0].ndim == rank]
        if len(wanted) != len(present):
            raise ModelError(
                f"expected weights for {len(wanted)} {kind} layers, got {len(present)}. "
                "Is the file complete?"
            )
        matched |= zip(wanted, present, strict=True)
    return matched


def _input_size(layers: Sequence[KerasLayer]) -> tuple[int, int] | None:
    """Return height and width of a model's images; None if its layers do not tell."""
    for layer in layers:
        shape: list[int | None] = (
            layer.config.get("batch_shape") or layer.config.get("batch_input_shape") or []
        )
        if len(shape) == 4 and shape[3] == 3 and shape[1] and shape[2]:
            return shape[1], shape[2]
    return None


def _head_layers(layers: Sequence[KerasLayer]) -> list[KerasLayer]:
    """Return the head with activations as layers; without the last one, the model gives logits."""
    split: list[KerasLayer] = []
    for layer in layers:
        activation = layer.config.get("activation", "linear")
        if layer.kind == "Dense":
            split.append(layer)
        if isinstance(activation, dict):  # a layer, or the author's own function
            inner = activation.get("config")
            kind = activation.get("class_name", "Lambda")
            split.append(KerasLayer(kind, layer.name, inner if isinstance(inner, dict) else {}))
        elif layer.kind in ("Dense", "Activation"):
            if activation != "linear":
                split.append(KerasLayer("Activation", layer.name, {"activation": activation}))
        elif layer.kind not in _IDLE:
            split.append(layer)
    if split and (split[-1].config.get("activation") in _FINAL or split[-1].kind == "Softmax"):
        del split[-1]
    return split


def _build(
    head: Sequence[KerasLayer],
    arrays: dict[str, Arrays],
    base: Sequence[KerasLayer],
    size: tuple[int, int] | None,
) -> VGG:
    """Return torchvision's VGG16 with a head and with a file's arrays."""
    with torch.device("meta"):  # no values: the file provides them
        model: VGG = vgg16(weights=None, init_weights=False)
    convs = [layer for layer in base if layer.kind == "Conv2D"]
    slots = [str(i) for i, module in enumerate(model.features) if isinstance(module, nn.Conv2d)]
    state: dict[str, Tensor] = {}
    inputs = 3
    for layer, slot in zip(convs, slots, strict=True):
        filters = layer.config["filters"]
        kernel, bias = _checked(layer, arrays, (3, 3, inputs, filters), (filters,))
        state[f"{slot}.weight"] = _tensor(kernel.transpose(3, 2, 0, 1))
        state[f"{slot}.bias"] = _tensor(bias)
        inputs = filters
    model.features.load_state_dict(state, assign=True)
    model.avgpool, model.classifier = _head_modules(head, arrays, size)
    return model.eval()


def _head_modules(
    head: Sequence[KerasLayer],
    arrays: dict[str, Arrays],
    size: tuple[int, int] | None,
) -> tuple[nn.Module, nn.Sequential]:
    """Return torch's modules of the head, before and after torch's flattening.

    Raises:
        ModelError: a layer has no counterpart here, or there is no Dense layer.
    """
    for layer in head:
        if layer.config.get("data_format", "channels_last") != "channels_last":
            raise ModelError(f"expected data format channels_last, got another one in {layer}.")
    end = next((i for i, layer in enumerate(head, 1) if layer.kind in _POOLINGS), len(head))
    spatial, order = _spatial_modules(head[:end], arrays, size)
    flat = _flat_modules(head[end:], arrays, order)
    if not any(isinstance(module, nn.Linear) for module in flat):
        raise ModelError(
            "expected a VGG16 with a head of Dense layers, got the convolutions alone. "
            "Save the model that was trained on your classes."
        )
    pooling = spatial[0] if len(spatial) == 1 else nn.Sequential(*spatial)
    return pooling if spatial else nn.Identity(), nn.Sequential(*flat)


def _spatial_modules(
    layers: Sequence[KerasLayer], arrays: dict[str, Arrays], size: tuple[int, int] | None
) -> tuple[list[nn.Module], Order | None]:
    """Return the modules up to the flattening, and Keras's index of each torch column after it."""
    grid = [side // 32 for side in size] if size else None
    modules: list[nn.Module] = []
    for layer in layers:
        config = layer.config
        match layer.kind:
            case "GlobalAveragePooling2D" | "GlobalMaxPooling2D":
                average = layer.kind == "GlobalAveragePooling2D"
                modules.append(nn.AdaptiveAvgPool2d(1) if average else nn.AdaptiveMaxPool2d(1))
                return modules, np.arange(512)
            case "Flatten" if grid:
                indices = np.arange(math.prod(grid) * 512).reshape(*grid, 512)
                return modules, indices.transpose(2, 0, 1).ravel()
            case "AveragePooling2D" | "MaxPooling2D" if grid:
                pool, stride = config["pool_size"], config["strides"]
                if config["padding"] != "valid":
                    raise ModelError(f"expected padding 'valid' of {layer}, got 'same'.")
                average = layer.kind == "AveragePooling2D"
                modules.append((nn.AvgPool2d if average else nn.MaxPool2d)(pool, stride))
                grid = [(g - p) // s + 1 for g, p, s in zip(grid, pool, stride, strict=True)]
            case "Flatten":
                pass
            case _:
                modules.append(_other_module(layer, arrays, None))
    return modules, None


def _flat_modules(
    layers: Sequence[KerasLayer], arrays: dict[str, Arrays], order: Order | None
) -> list[nn.Module]:
    """Return the modules after the flattening."""
    modules: list[nn.Module] = []
    for layer in layers:
        if layer.kind == "Dense" and order is not None:
            modules.append(_linear(layer, arrays, order))
            order = np.arange(layer.config["units"])
        elif layer.kind != "Flatten":
            modules.append(_other_module(layer, arrays, order))
    return modules


def _other_module(layer: KerasLayer, arrays: dict[str, Arrays], order: Order | None) -> nn.Module:
    """Return the module of a layer that may come before or after the flattening."""
    if layer.kind == "Dropout":
        return nn.Dropout(layer.config["rate"])
    if layer.kind == "BatchNormalization":
        return _batch_norm(layer, arrays, order)
    return _activation(layer)


def _linear(layer: KerasLayer, arrays: dict[str, Arrays], order: Order) -> nn.Linear:
    units = layer.config["units"]
    shapes = [(len(order), units), (units,)] if layer.config["use_bias"] else [(len(order), units)]
    kernel, *bias = _checked(layer, arrays, *shapes)
    linear = nn.Linear(len(order), units, bias=bool(bias), device="meta")
    state = {"weight": kernel[order].T} | ({"bias": bias[0]} if bias else {})
    linear.load_state_dict({name: _tensor(a) for name, a in state.items()}, assign=True)
    return linear


def _batch_norm(layer: KerasLayer, arrays: dict[str, Arrays], order: Order | None) -> nn.Module:
    channels = 512 if order is None else len(order)
    names = ["weight"] * layer.config["scale"] + ["bias"] * layer.config["center"]
    names += ["running_mean", "running_var"]
    found = _checked(layer, arrays, *[(channels,)] * len(names))
    norm = (nn.BatchNorm2d if order is None else nn.BatchNorm1d)(
        channels, eps=layer.config["epsilon"]
    )
    columns = np.arange(channels) if order is None else order
    state = {name: _tensor(array[columns]) for name, array in zip(names, found, strict=True)}
    norm.load_state_dict(state, strict=False)  # without scale or center: ones, zeros
    return norm


def _activation(layer: KerasLayer) -> nn.Module:
    """Return the torch module of an activation layer.

    Raises:
        ModelError: there is none.
    """
    config = layer.config
    match layer.kind:
        case "Activation" if (name := config["activation"]) in _ACTIVATIONS:
            return _ACTIVATIONS[name]()
        case "Softmax":
            return nn.Softmax(dim=1)
        case "ReLU" if not (config.get("max_value") or config.get("threshold")):
            return nn.LeakyReLU(slope) if (slope := config.get("negative_slope")) else nn.ReLU()
        case "LeakyReLU":  # the setting's name in Keras 3, then in Keras 2
            return nn.LeakyReLU(config["negative_slope" if "negative_slope" in config else "alpha"])
        case "ELU":
            return nn.ELU(config["alpha"])
    what = f"activation {config['activation']!r} in " if layer.kind == "Activation" else ""
    raise ModelError(
        f"expected pooling or Flatten, then Dense, Dropout, BatchNormalization and activations "
        f"after the convolutions, got {what}{layer}."
    )


def _checked(layer: KerasLayer, arrays: dict[str, Arrays], *shapes: tuple[int, ...]) -> Arrays:
    """Return a layer's arrays.

    Raises:
        ModelError: they do not have the expected shapes.
    """
    got = [array.shape for array in arrays[layer.name]]
    if got != list(shapes):
        raise ModelError(f"expected weights of shapes {[*shapes]} for {layer}, got {got}.")
    return arrays[layer.name]


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def _preprocessing(
    layers: Sequence[KerasLayer], size: tuple[int, int], file: str
) -> tuple[Preprocessing, Message]:
    """Return the preprocessing and a note on where it comes from.

    Raises:
        ModelError: the layers before the convolutions are no preprocessing that is known.
    """
    keras = Preprocessing(
        size=size,
        mean=(103.939, 116.779, 123.68),
        std=(1.0, 1.0, 1.0),
        channel_order="bgr",
        scale=255,
    )
    match [layer for layer in layers if layer.kind not in _IDLE]:
        case []:
            return keras, message("models.preprocessing_of_keras", file=file)
        case [KerasLayer(kind="preprocess_input")]:
            return keras, message("models.preprocessing_in_keras", file=file)
        case [KerasLayer(kind="Rescaling", config=config)]:
            scale, offset = _per_channel(config["scale"]), _per_channel(config["offset"])
            mean, std = ((0 - offset) / scale).tolist(), (1 / scale).tolist()
            rescaling = replace(keras, mean=tuple(mean), std=tuple(std), channel_order="rgb")
            return rescaling, message("models.preprocessing_rescaling", file=file)
        case others:
            raise ModelError(
                "expected at most one Rescaling layer or preprocess_input before the "
                f"convolutions, got {', '.join(map(str, others))}."
            )


def _per_channel(value: Any) -> NDArray[np.float64]:
    """Return a number, a list or an array of the configuration as three numbers."""
    numbers = value["config"]["value"] if isinstance(value, dict) else value
    return np.broadcast_to(np.asarray(numbers, dtype=np.float64), 3)


def _class_names(layer: str, units: int, file: str) -> tuple[tuple[str, ...], Message]:
    """Return class names for a last layer and a note on them."""
    if (layer, units) == ("predictions", 1000):
        imagenet = tuple(VGG16_Weights.DEFAULT.meta["categories"])
        return imagenet, message("models.classes_of_imagenet", file=file)
    names = numbered_classes(max(units, 2))  # one unit distinguishes two classes
    note = message("models.classes_not_in_file", file=file, first=names[0], last=names[-1])
    return names, note


def _assumption_notes(file: KerasFile, layers: Sequence[KerasLayer]) -> list[Message]:
    """Return notes on what was inferred for a file without a configuration."""
    size = _input_size(layers)
    pooling = next(layer.kind for layer in layers if layer.kind in _POOLINGS)
    notes = [message("models.head_assumed", pooling=pooling)]
    if size:
        height, width = size
        notes.append(
            message(
                "models.size_assumed",
                height=height,
                width=width,
                max_height=height + 31,
                max_width=width + 31,
            )
        )
    if "rescaling" in file.paths:
        notes.append(message("models.preprocessing_rescaling_lost"))
    return notes
