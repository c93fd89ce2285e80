"""The layers and weights in a Keras file, read as data.

h5py and json read the file: neither Keras nor TensorFlow is needed, and no code from the file runs.
"""

import io
import json
import math
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camreport.errors import ModelError

Array = NDArray[np.float32]
Arrays = tuple[Array, ...]
Config = dict[str, Any]  # JSON

MAX_EXPANSION = 20
"""Largest ratio of a file's content to its own bytes; compressed weights reach 2."""

MIN_REFUSED = 16 * 2**20
"""Content, in bytes, up to which a file is never refused."""

ONLY_VGG16 = "Of Keras files, only VGG16 with a head of Dense layers is read."
"""The sentence of an error about any other model."""

_MEMBERS = ("config.json", "model.weights.h5")
_WEIGHT_NAMES = ("gamma", "beta", "kernel", "bias", "moving_mean", "moving_variance")
_NOT_WEIGHTS = re.compile(r"^(optimizer|compile_metrics|metrics)\b|^\w*_tracker/|seed_generator")
_VGG_BIAS = re.compile(r"-103\.9\d*, -116\.7\d*, -123\.6\d*")
_CHANNEL_FLIP = ("GetItem", "Stack", "SlicingOpLambda")


@dataclass(frozen=True)
class KerasLayer:
    """A layer of a model or of the models nested in it.

    Attributes:
        kind: Keras's class name.
        name: the layer's own name.
        config: Keras's settings.
    """

    kind: str
    name: str
    config: Config

    def __str__(self) -> str:
        filters = f" with {self.config['filters']} filters" if "filters" in self.config else ""
        return f"{self.name!r} ({self.kind}{filters})"


@dataclass(frozen=True)
class LayerWeights:
    """The arrays of one layer, in Keras's order; the layer's name is None if it is unknown."""

    name: str | None
    arrays: Arrays


@dataclass(frozen=True)
class KerasFile:
    """The content of a Keras file.

    Attributes:
        config: the model's configuration; None in a file with weights alone.
        weights: of every layer.
        paths: all HDF5 paths, with spaces between them.
    """

    config: Config | None
    weights: list[LayerWeights]
    paths: str


def read_keras(data: bytes) -> KerasFile:
    """Read a Keras file: ``.keras``, ``.h5`` or ``.weights.h5``, of Keras 2 or 3.

    Raises:
        ModelError: damaged, or not a Keras file.
        ImportError: h5py is not installed.
    """
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
                    raise ModelError("model_weights points to something else")
                config, weights = json.loads(root.attrs["model_config"]), root["model_weights"]
            paths: list[str] = []
            weights.visit(paths.append)
            return KerasFile(config, _weights_of(weights, len(data)), " ".join(paths))
    except Exception as error:  # h5py and zipfile raise whatever the damage leads to
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"damaged, or not a Keras file ({reason}).") from error


def _check_claim(claimed: int, size: int) -> None:
    """Refuse a file whose claimed content is far larger than the file, before it is read.

    Raises:
        ModelError: it is.
    """
    if claimed > MAX_EXPANSION * size + MIN_REFUSED:
        raise ModelError(f"it has {size:,} bytes and claims to hold {claimed:,}")


def _check_heaps(data: bytes) -> None:
    """Refuse HDF5 heaps that the HDF5 library would never finish reading.

    A heap is a sequence of objects: number, uses, length, content. Its free space is an object
    with the number 0; if its length is 0 too, the library reads the same object again and again.

    Raises:
        ModelError: there is such a heap.

    Source: HDF5 file format specification 3.0, section III.E, global heap
    """
    for heap in re.finditer(rb"GCOL\x01\0\0\0", data):
        end = heap.start() + int.from_bytes(data[heap.end() : heap.end() + 8], "little")
        at = heap.end() + 8
        while at + 16 <= min(end, len(data)):
            is_free = data[at : at + 2] == b"\0\0"
            length = int.from_bytes(data[at + 8 : at + 16], "little")
            if is_free and not length:
                raise ModelError("a heap in it has no end")
            at += length if is_free else 16 + math.ceil(length / 8) * 8


def _weights_of(root: Any, size: int) -> list[LayerWeights]:  # h5py.Group comes without types
    """Return every layer's arrays in the order that the file lists, or else in natural order.

    Args:
        root: the group with the weights.
        size: bytes of the file.
    """
    layer_names = [_text(name) for name in root.attrs.get("layer_names", ())]
    found: dict[str, list[tuple[int, Array]]] = {}
    claimed = 0  # bytes in memory

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
        LayerWeights(
            name(layer), tuple(a for _, a in sorted(found[layer], key=lambda pair: pair[0]))
        )
        for layer in sorted(found, key=order)
    ]


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def layers_of(model: Config) -> list[KerasLayer]:
    """Return a model's layers from input to output, those of nested models included.

    Raises:
        ModelError: the layers are no plain chain.
    """
    kind, config = model["class_name"], model["config"]
    if kind == "Sequential":
        entries = config["layers"] if isinstance(config, dict) else config
    elif kind in ("Functional", "Model"):
        entries = _chain(config)
    else:
        registered = model.get("registered_name") or ""
        kind = registered if ">" in registered else kind  # the author's own class
        return [KerasLayer(kind, config.get("name", ""), config)]
    return [layer for entry in entries for layer in layers_of(entry)]


def _chain(config: Config) -> list[Config]:
    """Follow a functional model from its output back to its input."""
    entries = {entry["name"]: entry for entry in config["layers"]}
    chain: list[Config] = []
    before = set(_references(config["output_layers"]))
    while before:
        if len(before) > 1:
            raise ModelError(
                "expected VGG16, a plain chain of layers, but several meet: "
                f"{', '.join(sorted(before)[:3])}. {ONLY_VGG16}"
            )
        entry = entries.pop(before.pop())  # a loop raises a KeyError
        before = set(_references(entry["inbound_nodes"]))
        if _VGG_BIAS.search(json.dumps(entry["inbound_nodes"])):
            entry = {"class_name": "preprocess_input", "config": {"name": entry["name"]}}
            while flips := {n for n in before if entries[n]["class_name"] in _CHANNEL_FLIP}:
                nodes = [entries.pop(name)["inbound_nodes"] for name in flips]
                before = (before - flips).union(*map(_references, nodes))
        chain.insert(0, entry)
    return chain


def _references(nodes: object) -> Iterator[str]:
    """Yield the names of the layers whose tensors a part of the configuration uses."""
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
