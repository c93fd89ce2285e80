"""Files changed at random, as they might come from someone else, or from a failing disk."""

import copy
import random
from collections.abc import Iterator
from typing import Any

import numpy as np


def places_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container within a value, with every key in it."""
    listed = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in listed:
        yield value, key
        if isinstance(inner, dict | list):
            yield from places_of(inner)


ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 7, 2**70, 1e308, -0.5, float("nan"), float("inf")),
    *("", "x", "\ud800", "contrast:9", "../x", "grad_cam", [], [0], [[]], {}, {"a": 1}),
)


def mutated(manifest: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """Return a JSON object with a field deleted, doubled or of another value, or two of them."""
    manifest = copy.deepcopy(manifest)
    for _ in range(draw.choice((1, 1, 2))):
        container, key = draw.choice(list(places_of(manifest)))
        kind = draw.choice(("delete", "odd", "odd", "double"))
        if kind == "delete":
            del container[key]
        elif kind == "double" and isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        else:
            container[key] = copy.deepcopy(draw.choice(ODD))
    return manifest


def reshaped(arrays: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """Return a shard's arrays with one lost, renamed, cut, turned or of another type."""
    key = draw.choice(sorted(arrays))
    array, arrays = arrays[key], dict(arrays)
    kind = draw.choice(("lose", "rename", "cut", "turn", "type", "grow", "values", "empty"))
    if kind == "lose":
        del arrays[key]
    elif kind == "rename":
        arrays[draw.choice(("x", "grad_cam/x", "x/0", "hires_cam/0", "layer_cam/9"))] = arrays.pop(
            key
        )
    elif kind == "cut":
        arrays[key] = array[..., :1]
    elif kind == "turn":
        arrays[key] = array.T.copy()
    elif kind == "type":
        other = draw.choice(("float64", "int8", "U3", "bool", "complex64"))
        with np.errstate(invalid="ignore"):  # NaN as a whole number
            arrays[key] = array.astype(other)
    elif kind == "grow":
        arrays[key] = array[None]
    elif kind == "empty":
        arrays[key] = array[:0]
    else:
        value = np.array(draw.choice((-1, 5, 127))).astype(array.dtype)
        arrays[key] = np.full_like(array, value)
    return arrays


def damaged(data: bytes, draw: random.Random) -> bytes:
    """Return bytes of a file cut short, or with a few of them changed."""
    found = bytearray(data)
    if draw.random() < 0.4:
        del found[draw.randrange(len(found)) :]
    else:
        for _ in range(draw.choice((1, 8))):
            found[draw.randrange(len(found))] = draw.randrange(256)
    return bytes(found)
