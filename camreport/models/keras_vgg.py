"""A Keras VGG16, as a whole model or as weights alone, turned into torchvision's VGG16.

The file is read as data, with h5py and json: neither Keras nor TensorFlow is needed, and no code
from the file runs. Keras keeps images as (H, W, C) and a dense kernel as (inputs, units); torch
wants (C, H, W) and (units, inputs).
"""

import hashlib
import io
import json
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models import VGG, VGG16_Weights, vgg16

from camreport.errors import ModelError
from camreport.images.preprocessing import Preprocessing
from camreport.models.loaded import LoadedModel, numbered_classes
from camreport.settings import SIGMOID, SOFTMAX

Array = NDArray[np.float32]
Arrays = tuple[Array, ...]
Config = dict[str, Any]  # JSON

MAX_EXPANSION = 20
"""How many times its own bytes a file may hold once it is read; compressed weights reach 2."""

MIN_REFUSED = 16 * 2**20
"""Bytes that no file is refused for."""

_MEMBERS = ("config.json", "model.weights.h5")
_ONLY = "Of Keras files, only VGG16 with a head of Dense layers is read."
_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # filters, convolutions
_WEIGHT_NAMES = ("gamma", "beta", "kernel", "bias", "moving_mean", "moving_variance")
_RANKS = {"Conv2D": 4, "Dense": 2, "BatchNormalization": 1}  # of a layer's first array
_NOT_WEIGHTS = re.compile(r"^(optimizer|compile_metrics|metrics)\b|^\w*_tracker/|seed_generator")
_FINAL = (SOFTMAX, SIGMOID)
_VGG_BIAS = re.compile(r"-103\.9\d*, -116\.7\d*, -123\.6\d*")
_CHANNEL_FLIP = ("GetItem", "Stack", "SlicingOpLambda")
_POOLINGS = ("Flatten", "GlobalAveragePooling2D", "GlobalMaxPooling2D")
_IDLE = frozenset(  # do nothing outside training
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


@dataclass(frozen=True)
class _Layer:
    """A layer of the model, or of its nested models: Keras's class name, own name, settings."""

    kind: str
    name: str
    config: Config

    def __str__(self) -> str:
        filters = f" with {self.config['filters']} filters" if "filters" in self.config else ""
        return f"{self.name!r} ({self.kind}{filters})"


@dataclass(frozen=True)
class _Weights:
    """The arrays of one layer, in Keras's order; the name is the layer's where it is known."""

    name: str | None
    arrays: Arrays


@dataclass(frozen=True)
class _File:
    """What a file holds: the configuration, if any, the weights and all HDF5 paths."""

    config: Config | None
    weights: list[_Weights]
    paths: str


def load_keras(data: bytes, name: str) -> LoadedModel:
    """Load a Keras VGG16 with the head it was given: ``.keras``, ``.h5`` or ``.weights.h5``.

    Args:
        data: a file's bytes, written by Keras 2 or 3: ``model.save`` or ``model.save_weights``.
        name: of the file.

    Raises:
        ModelError: the file is damaged or holds something else than a VGG16, or h5py is not
            installed.
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
    """Return torchvision's VGG16 with the head and the weights of a file; any damage raises."""
    file = _read(data)
    layers = _layers_of(file.config) if file.config else _assumed_layers(file)
    start = next((i for i, layer in enumerate(layers) if layer.kind == "Conv2D"), 0)
    end = start + len(_base_layers())
    _check_base(layers[start:end])
    arrays = _match(layers, file.weights)
    size = _input_size(layers)
    head = _head_layers(layers[end:])
    model = _build(head, arrays, layers[start:end], size)
    dense = [layer for layer in head if layer.kind == "Dense"][-1]
    preprocessing, how = _preprocessing(layers[:start], size or (224, 224))
    units = dense.config["units"]
    several = units > 1 and layers[-1].config.get("activation") == SIGMOID
    class_names, called = _class_names(dense.name, units)
    notes = [
        f"preprocessing: {name} {how}",
        *([] if file.config else _assumption_notes(file, layers)),
        *([] if size else [f"input size: {name} holds none, 224 × 224 is used"]),
        f"classes: {name} holds no names, they are called {called}; name them with --class-names",
    ]
    return LoadedModel(
        module=model,
        preprocessing=preprocessing,
        class_names=class_names,
        name="vgg16",
        source=f"Keras file {name}, converted to torchvision's VGG16",
        sha256=hashlib.sha256(data).hexdigest(),
        notes=tuple(notes),
        activation=SIGMOID if several else SOFTMAX,
    )


def _read(data: bytes) -> _File:
    """Read a file's bytes as JSON and HDF5."""
    import h5py

    try:
        config = None
        if data.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                _check_claim(sum(archive.getinfo(name).file_size for name in _MEMBERS), len(data))
                described, data = (archive.read(name) for name in _MEMBERS)
                config = json.loads(described)
        _check_heaps(data)
        with h5py.File(io.BytesIO(data), "r") as root:
            weights = root
            if "model_config" in root.attrs:
                if not isinstance(root.get("model_weights", getlink=True), h5py.HardLink):
                    raise ModelError("model_weights points to another place")
                config, weights = json.loads(root.attrs["model_config"]), root["model_weights"]
            paths: list[str] = []
            weights.visit(paths.append)
            return _File(config, _weights_of(weights, len(data)), " ".join(paths))
    except Exception as error:  # h5py and zipfile raise whatever the damage leads to
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"damaged, or not a Keras file ({reason}).") from error


def _check_claim(claimed: int, size: int) -> None:
    """Refuse a file that claims to hold far more than it has, before that is reserved.

    Raises:
        ModelError: it does.
    """
    if claimed > MAX_EXPANSION * size + MIN_REFUSED:
        raise ModelError(f"it has {size:,} bytes and claims to hold {claimed:,}")


def _check_heaps(data: bytes) -> None:
    """Refuse HDF5 heaps that its library would read for ever.

    A heap is a row of objects: number, uses, length, content. The free rest of it has the number
    0; if its length were 0 too, the next object would be the same one again.

    Raises:
        ModelError: there is such a heap.

    Source: HDF5 file format specification 3.0, section III.E, global heap
    """
    for heap in re.finditer(rb"GCOL\x01\0\0\0", data):
        end = heap.start() + int.from_bytes(data[heap.end() : heap.end() + 8], "little")
        place = heap.end() + 8
        while place + 16 <= min(end, len(data)):
            is_free = data[place : place + 2] == b"\0\0"
            length = int.from_bytes(data[place + 8 : place + 16], "little")
            if is_free and not length:
                raise ModelError("a heap in it has no end")
            place += length if is_free else 16 + math.ceil(length / 8) * 8


def _weights_of(root: Any, size: int) -> list[_Weights]:  # h5py.Group comes without types
    """Collect every layer's arrays, layers as the file lists them or else in natural order.

    Args:
        root: the group that holds them.
        size: of the file, in bytes.
    """
    layer_names = [_text(name) for name in root.attrs.get("layer_names", ())]
    found: dict[str, list[tuple[int, Array]]] = {}
    claimed = 0  # bytes, once they are read

    def visit(path: str, item: Any) -> None:
        nonlocal claimed
        if not hasattr(item, "shape") or _NOT_WEIGHTS.search(path):  # a group has none
            return
        if item.external or item.is_virtual:
            raise ModelError(f"{path} points to another file")
        claimed += max(4, item.dtype.itemsize) * (item.size or 0)
        _check_claim(claimed, size)
        layer, _, leaf = path.rpartition("/")
        role = leaf.split(":")[0]
        known = role in _WEIGHT_NAMES
        position = _WEIGHT_NAMES.index(role) if known else int(role) if role.isdigit() else 99
        found.setdefault(layer, []).append((position, np.asarray(item, dtype=np.float32)))

    def order(layer: str) -> tuple[int, list[str | int]]:
        first = layer.split("/")[0]
        listed = layer_names.index(first) if first in layer_names else len(layer_names)
        parts = re.split(r"(\d+)", layer.removesuffix("/vars"))
        return listed, [int(part) if part.isdigit() else part for part in parts]

    def name(layer: str) -> str | None:
        if not layer.endswith("/vars"):
            return layer.rpartition("/")[2]
        given = root[layer].attrs.get("name")
        return None if given is None else _text(given)

    root.visititems(visit)
    return [
        _Weights(name(layer), tuple(a for _, a in sorted(found[layer], key=lambda pair: pair[0])))
        for layer in sorted(found, key=order)
    ]


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _layers_of(model: Config) -> list[_Layer]:
    """List a model's layers from input to output, nested models opened."""
    kind, config = model["class_name"], model["config"]
    if kind == "Sequential":
        entries = config["layers"] if isinstance(config, dict) else config
    elif kind in ("Functional", "Model"):
        entries = _chain(config)
    else:
        registered = model.get("registered_name") or ""
        kind = registered if ">" in registered else kind  # a class of the author's
        return [_Layer(kind, config.get("name", ""), config)]
    return [layer for entry in entries for layer in _layers_of(entry)]


def _chain(config: Config) -> list[Config]:
    """Follow a functional model from its output back to its input."""
    entries = {entry["name"]: entry for entry in config["layers"]}
    chain: list[Config] = []
    before = set(_references(config["output_layers"]))
    while before:
        if len(before) > 1:
            raise ModelError(
                "expected VGG16, a plain chain of layers, but several meet: "
                f"{', '.join(sorted(before)[:3])}. {_ONLY}"
            )
        entry = entries.pop(before.pop())  # popped: a loop ends in a KeyError
        before = set(_references(entry["inbound_nodes"]))
        if _VGG_BIAS.search(json.dumps(entry["inbound_nodes"])):
            entry = {"class_name": "preprocess_input", "config": {"name": entry["name"]}}
            while flips := {n for n in before if entries[n]["class_name"] in _CHANNEL_FLIP}:
                nodes = [entries.pop(name)["inbound_nodes"] for name in flips]
                before = (before - flips).union(*map(_references, nodes))
        chain.insert(0, entry)
    return chain


def _references(nodes: object) -> Iterator[str]:
    """Yield the names of the layers that a part of the configuration takes tensors from."""
    match nodes:
        case {"keras_history": [str(name), *_]}:
            yield name
        case [str(name), int(node), int(), *rest]:
            if node >= 0:  # else a constant
                yield name
            yield from _references(rest)
        case dict():
            yield from _references(list(nodes.values()))
        case list():
            for node in nodes:
                yield from _references(node)


def _base_layers() -> list[_Layer]:
    """Return VGG16's convolutions and poolings with the settings that matter."""
    conv = {"kernel_size": [3, 3], "strides": [1, 1], "dilation_rate": [1, 1], "groups": 1}
    conv |= {"padding": "same", "activation": "relu", "data_format": "channels_last"}
    pool = {"pool_size": [2, 2], "strides": [2, 2], "padding": "valid"}
    layers = []
    for block, (filters, count) in enumerate(_BLOCKS, start=1):
        layers += [
            _Layer("Conv2D", f"block{block}_conv{i}", conv | {"filters": filters})
            for i in range(1, count + 1)
        ]
        layers.append(
            _Layer("MaxPooling2D", f"block{block}_pool", pool | {"data_format": "channels_last"})
        )
    return layers


def _check_base(found: Sequence[_Layer]) -> None:
    """Check that a model's first layers are VGG16's."""
    for position, due in enumerate(_base_layers()):
        if position >= len(found):
            raise ModelError(f"expected VGG16, but it ends where {due} is due. {_ONLY}")
        layer = found[position]
        if layer.kind != due.kind or layer.config.get("filters") != due.config.get("filters"):
            raise ModelError(f"expected VGG16, but {layer} is where {due} is due. {_ONLY}")
        for setting, value in due.config.items():
            if (got := layer.config.get(setting, value)) != value:
                raise ModelError(f"expected VGG16, but {layer} has {setting} {got!r}. {_ONLY}")


def _assumed_layers(file: _File) -> list[_Layer]:
    """Infer the layers from the shapes of weights that come without a configuration."""
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
            f"Save the whole model with model.save, if it is one. {_ONLY}"
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
    head = [_Layer(flatten if side > 1 else pooling, "pooling", {})]
    for position, layer in enumerate(dense):
        last = position == len(dense) - 1
        config = {
            "units": layer.arrays[0].shape[1],
            "use_bias": len(layer.arrays) > 1,
            "activation": "linear" if last else "relu",
        }
        head.append(_Layer("Dense", layer.name or f"dense {position}", config))
    shape = {"batch_shape": [None, 32 * side, 32 * side, 3]} if side > 1 else {}
    return [_Layer("InputLayer", "input", shape), *_base_layers(), *head]


def _match(layers: Sequence[_Layer], weights: Sequence[_Weights]) -> dict[str, Arrays]:
    """Give every layer its arrays: by name, or where names do not fit, in order."""
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


def _input_size(layers: Sequence[_Layer]) -> tuple[int, int] | None:
    """Return height and width of the images that a model takes, if it says so."""
    for layer in layers:
        shape: list[int | None] = (
            layer.config.get("batch_shape") or layer.config.get("batch_input_shape") or []
        )
        if len(shape) == 4 and shape[3] == 3 and shape[1] and shape[2]:
            return shape[1], shape[2]
    return None


def _head_layers(layers: Sequence[_Layer]) -> list[_Layer]:
    """Give every activation a layer of its own, but for the last: the model returns logits."""
    split: list[_Layer] = []
    for layer in layers:
        activation = layer.config.get("activation", "linear")
        if layer.kind == "Dense":
            split.append(layer)
        if isinstance(activation, dict):  # a layer, or a function of the author's
            inner = activation.get("config")
            kind = activation.get("class_name", "Lambda")
            split.append(_Layer(kind, layer.name, inner if isinstance(inner, dict) else {}))
        elif layer.kind in ("Dense", "Activation"):
            if activation != "linear":
                split.append(_Layer("Activation", layer.name, {"activation": activation}))
        elif layer.kind not in _IDLE:
            split.append(layer)
    if split and (split[-1].config.get("activation") in _FINAL or split[-1].kind == "Softmax"):
        del split[-1]
    return split


def _build(
    head: Sequence[_Layer],
    arrays: dict[str, Arrays],
    base: Sequence[_Layer],
    size: tuple[int, int] | None,
) -> VGG:
    """Put the arrays into torchvision's VGG16 with this head."""
    with torch.device("meta"):  # the tensors come from the file: initialise nothing
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
    head: Sequence[_Layer],
    arrays: dict[str, Arrays],
    size: tuple[int, int] | None,
) -> tuple[nn.Module, nn.Sequential]:
    """Turn the head into what comes before torch's flattening and what comes after."""
    grid = [side // 32 for side in size] if size else None
    spatial: list[nn.Module] = []
    flat: list[nn.Module] = []
    order: NDArray[np.int64] | None = None  # Keras's position of each torch column, once flat
    for layer in head:
        config, modules = layer.config, spatial if order is None else flat
        if config.get("data_format", "channels_last") != "channels_last":
            raise ModelError(f"expected data format channels_last, got another one in {layer}.")
        match layer.kind:
            case "GlobalAveragePooling2D" | "GlobalMaxPooling2D" if order is None:
                average = layer.kind == "GlobalAveragePooling2D"
                modules.append(nn.AdaptiveAvgPool2d(1) if average else nn.AdaptiveMaxPool2d(1))
                order = np.arange(512)
            case "AveragePooling2D" | "MaxPooling2D" if order is None and grid:
                pool, stride = config["pool_size"], config["strides"]
                if config["padding"] != "valid":
                    raise ModelError(f"expected padding 'valid' of {layer}, got 'same'.")
                average = layer.kind == "AveragePooling2D"
                modules.append((nn.AvgPool2d if average else nn.MaxPool2d)(pool, stride))
                grid = [(g - p) // s + 1 for g, p, s in zip(grid, pool, stride, strict=True)]
            case "Flatten":
                if order is None and grid:
                    positions = np.arange(math.prod(grid) * 512).reshape(*grid, 512)
                    order = positions.transpose(2, 0, 1).ravel()
            case "Dropout":
                modules.append(nn.Dropout(config["rate"]))
            case "BatchNormalization":
                modules.append(_batch_norm(layer, arrays, order))
            case "Dense" if order is not None:
                modules.append(_linear(layer, arrays, order))
                order = np.arange(config["units"])
            case _:
                modules.append(_activation(layer))
    if not any(isinstance(module, nn.Linear) for module in flat):
        raise ModelError(
            "expected a VGG16 with a head of Dense layers, got the convolutions alone. "
            "Save the model that was trained on your classes."
        )
    pooling = spatial[0] if len(spatial) == 1 else nn.Sequential(*spatial)
    return pooling if spatial else nn.Identity(), nn.Sequential(*flat)


def _linear(layer: _Layer, arrays: dict[str, Arrays], order: NDArray[np.int64]) -> nn.Linear:
    units = layer.config["units"]
    shapes = [(len(order), units), (units,)] if layer.config["use_bias"] else [(len(order), units)]
    kernel, *bias = _checked(layer, arrays, *shapes)
    linear = nn.Linear(len(order), units, bias=bool(bias), device="meta")
    state = {"weight": kernel[order].T} | ({"bias": bias[0]} if bias else {})
    linear.load_state_dict({name: _tensor(a) for name, a in state.items()}, assign=True)
    return linear


def _batch_norm(
    layer: _Layer, arrays: dict[str, Arrays], order: NDArray[np.int64] | None
) -> nn.Module:
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


def _activation(layer: _Layer) -> nn.Module:
    """Return torch's module of an activation layer."""
    config = layer.config
    match layer.kind:
        case "Activation" if (name := config["activation"]) in _ACTIVATIONS:
            return _ACTIVATIONS[name]()
        case "Softmax":
            return nn.Softmax(dim=1)
        case "ReLU" if not (config.get("max_value") or config.get("threshold")):
            return nn.LeakyReLU(slope) if (slope := config.get("negative_slope")) else nn.ReLU()
        case "LeakyReLU":  # Keras 3's word, then Keras 2's
            return nn.LeakyReLU(config["negative_slope" if "negative_slope" in config else "alpha"])
        case "ELU":
            return nn.ELU(config["alpha"])
    what = f"activation {config['activation']!r} in " if layer.kind == "Activation" else ""
    raise ModelError(
        f"expected pooling or Flatten, then Dense, Dropout, BatchNormalization and activations "
        f"after the convolutions, got {what}{layer}."
    )


def _checked(layer: _Layer, arrays: dict[str, Arrays], *shapes: tuple[int, ...]) -> Arrays:
    """Return a layer's arrays if they have these shapes."""
    got = [array.shape for array in arrays[layer.name]]
    if got != list(shapes):
        raise ModelError(f"expected weights of shapes {[*shapes]} for {layer}, got {got}.")
    return arrays[layer.name]


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def _preprocessing(layers: Sequence[_Layer], size: tuple[int, int]) -> tuple[Preprocessing, str]:
    """Return the preprocessing and, in words, where it comes from."""
    keras = Preprocessing(
        size=size,
        mean=(103.939, 116.779, 123.68),
        std=(1.0, 1.0, 1.0),
        channel_order="bgr",
        scale=255,
    )
    match [layer for layer in layers if layer.kind not in _IDLE]:
        case []:
            return keras, (
                "holds none, that of keras.applications.vgg16 is used; --channel-order, --scale, "
                "--mean and --std change it"
            )
        case [_Layer(kind="preprocess_input")]:
            return keras, "holds that of keras.applications.vgg16"
        case [_Layer(kind="Rescaling", config=config)]:
            scale, offset = _per_channel(config["scale"]), _per_channel(config["offset"])
            mean, std = ((0 - offset) / scale).tolist(), (1 / scale).tolist()
            rescaling = replace(keras, mean=tuple(mean), std=tuple(std), channel_order="rgb")
            return rescaling, "holds a Rescaling layer, taken as preprocessing"
        case others:
            raise ModelError(
                "expected at most one Rescaling layer or preprocess_input before the "
                f"convolutions, got {', '.join(map(str, others))}."
            )


def _per_channel(value: Any) -> NDArray[np.float64]:
    """Return a number, a list or an array of the configuration as three numbers."""
    numbers = value["config"]["value"] if isinstance(value, dict) else value
    return np.broadcast_to(np.asarray(numbers, dtype=np.float64), 3)


def _class_names(layer: str, units: int) -> tuple[tuple[str, ...], str]:
    """Return class names for a last layer, and how they are called in the notes."""
    if (layer, units) == ("predictions", 1000):
        return tuple(VGG16_Weights.DEFAULT.meta["categories"]), "as ImageNet's 1000"
    names = numbered_classes(max(units, 2))  # one unit tells two classes apart
    return names, f"{names[0]!r} to {names[-1]!r}"


def _assumption_notes(file: _File, layers: Sequence[_Layer]) -> list[str]:
    """Say what was inferred for a file without a configuration."""
    size = _input_size(layers)
    pooling = next(layer.kind for layer in layers if layer.kind in _POOLINGS)
    notes = [
        f"head: the file holds weights alone, {pooling} and ReLU between Dense layers are assumed; "
        "a whole model (model.save) holds its layers"
    ]
    if size:
        notes.append(
            f"input size: {size[0]} × {size[1]} is assumed; up to {size[0] + 31} × {size[1] + 31} "
            "fits the weights as well"
        )
    if "rescaling" in file.paths:
        notes.append(
            "preprocessing: the model has a Rescaling layer, whose numbers are not in the file; "
            "set --channel-order, --scale, --mean and --std"
        )
    return notes
