"""Keras's VGG16 with heads of many kinds, its files, and what both libraries make of an image."""

import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from camreport.models.keras_vgg import load_keras
from camreport.models.loaded import LoadedModel

os.environ["KERAS_BACKEND"] = "torch"
keras = pytest.importorskip("keras")
layers = keras.layers

ignores_numpy_warnings = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)
"""Keras 3.15 turns torch tensors into arrays without NumPy 2's ``copy``."""

SIDE = 64
FORMATS = (".keras", ".h5", ".weights.h5")


@cache
def random_base() -> "keras.Model":
    """Keras's VGG16 without its top, 64 × 64, all weights and biases random."""
    model = keras.applications.VGG16(weights=None, include_top=False, input_shape=(SIDE, SIDE, 3))
    randomise(model)
    return model


def random_image(side: int) -> Image.Image:
    rng = np.random.default_rng(5)
    ramp = np.linspace(0, 1, side)[:, None, None] * np.array([90, 30, 150])
    noise = rng.integers(0, 100, (side, side, 3))
    return Image.fromarray((ramp + noise).astype(np.uint8))


def randomise(model: "keras.Model", seed: int = 3) -> None:
    """Give every kernel and bias random values that keep activations in range."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        shape = tuple(variable.shape)
        if variable.name == "kernel":
            values = rng.standard_normal(shape, np.float32) * np.sqrt(2 / np.prod(shape[:-1]))
        elif variable.name in ("gamma", "moving_variance"):
            values = rng.uniform(0.5, 2, shape)
        elif variable.name == "seed_generator_state":
            continue
        else:
            values = rng.standard_normal(shape) * 0.3
        variable.assign(values.astype(np.float32))


def head_of(name: str) -> list["keras.layers.Layer"]:
    """Return a new head; its last layer gives the logits."""
    match name:
        case "average pooling":
            return [layers.GlobalAveragePooling2D(), layers.Dense(2)]
        case "maximum pooling":
            return [layers.GlobalMaxPooling2D(), layers.Dense(3)]
        case "flatten":
            return [layers.Flatten(), layers.Dense(2)]
        case "hidden":
            return [
                layers.Flatten(),
                layers.Dropout(0.3),
                layers.Dense(16, activation="relu", name="zeta"),
                layers.Dropout(0.5),
                layers.Dense(16, activation="relu", name="mu"),
                layers.Dense(2, name="alpha"),
            ]
        case "one unit":
            return [layers.GlobalAveragePooling2D(), layers.Dense(1)]
    raise AssertionError(name)


def assemble(
    base: "keras.Model", head: list["keras.layers.Layer"], way: str, seed: int = 4
) -> "keras.Model":
    """Put a head on the base: in a Sequential, in a functional model, or flat in one."""
    inputs = keras.Input((SIDE, SIDE, 3))
    if way == "sequential":
        model = keras.Sequential([inputs, base, *head])
    else:
        values = base.output if way == "flat" else base(inputs)
        for layer in head:
            values = layer(values)
        model = keras.Model(base.input if way == "flat" else inputs, values)
    for number, layer in enumerate(head):
        randomise(layer, seed + number)
    return model


def save(model: "keras.Model", folder: Path, ending: str) -> Path:
    path = folder / f"model{ending}"
    (model.save_weights if ending == ".weights.h5" else model.save)(path)
    return path


def keras_output(model: "keras.Model", model_input: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run Keras on one channels-first model input of ours."""
    return model(model_input.transpose(1, 2, 0)[None], training=False).detach().numpy()


def our_logits(loaded: LoadedModel, model_input: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.no_grad():
        return loaded.module(torch.from_numpy(model_input)[None]).numpy()


def load(path: Path) -> LoadedModel:
    return load_keras(path.read_bytes(), path.name)


def assert_same(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> None:
    assert ours.shape == theirs.shape
    assert np.abs(theirs).max() > 1e-2  # not all dead
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())


def assert_same_model(path: Path, model: "keras.Model", photograph: Image.Image) -> LoadedModel:
    loaded = load(path)
    model_input = replace(loaded.preprocessing, size=photograph.size).apply(photograph)
    assert_same(our_logits(loaded, model_input), keras_output(model, model_input))
    return loaded
