"""Keras files that are no VGG16 with a head, or are damaged: each is refused in one sentence."""

import io
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.keras_models import (
    FORMATS,
    assemble,
    head_of,
    ignores_numpy_warnings,
    keras,
    layers,
    load,
    random_base,
    save,
)

from camreport.errors import ModelError
from camreport.models.checkpoint import load_checkpoint

h5py = pytest.importorskip("h5py")
pytestmark = ignores_numpy_warnings


@pytest.fixture(scope="module")
def base() -> "keras.Model":
    """Keras's VGG16 without its top, 64 × 64, all weights and biases random."""
    return random_base()


def small_cnn() -> "keras.Model":
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


def branching() -> "keras.Model":
    inputs = keras.Input((32, 32, 3))
    values = layers.Conv2D(64, 3, padding="same")(inputs)
    merged = layers.Add()([values, layers.Activation("relu")(values)])
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(merged)))


@pytest.mark.parametrize(
    ("ending", "build", "message"),
    [
        (".keras", small_cnn, r"VGG16, but 'conv2d\w*' \(Conv2D with 8 filters\) is where"),
        (".h5", small_cnn, r"VGG16, but 'conv2d\w*' \(Conv2D with 8 filters\) is where"),
        (".weights.h5", small_cnn, "13 convolutions and Dense layers, got 1 convolutions, 1 Dense"),
        (".keras", branching, "plain chain of layers, but several meet: activation"),
    ],
)
def test_other_architecture_is_refused(
    tmp_path: Path, ending: str, build: "Callable[[], keras.Model]", message: str
) -> None:
    path = save(build(), tmp_path, ending)
    with pytest.raises(ModelError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"checkpoint: model{ending}: ")
    assert str(tmp_path) not in str(caught.value)


def zip_keras(path: Path, config: str) -> Path:
    """Write a ``.keras`` file with a configuration and no weights at all."""
    weights = io.BytesIO()
    with h5py.File(weights, "w"):
        pass
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", weights.getvalue())
    return path


def test_vgg19_is_refused(tmp_path: Path) -> None:
    inner = keras.applications.VGG19(weights=None, include_top=False, input_shape=(32, 32, 3))
    path = zip_keras(tmp_path / "model.keras", keras.Sequential([inner]).to_json())
    with pytest.raises(ModelError, match=r"'block3_conv4'.* is where 'block3_pool'.* is due"):
        load(path)


def test_vgg16_with_other_settings_is_refused(base: "keras.Model", tmp_path: Path) -> None:
    config = base.to_json().replace('"activation": "relu"', '"activation": "tanh"')
    with pytest.raises(ModelError, match=r"'block1_conv1'.* has activation 'tanh'"):
        load(zip_keras(tmp_path / "model.keras", config))


def test_missing_weights_are_named(base: "keras.Model", tmp_path: Path) -> None:
    path = zip_keras(tmp_path / "model.keras", assemble(base, head_of("flatten"), "flat").to_json())
    with pytest.raises(ModelError, match="weights for 13 Conv2D layers, got 0"):
        load(path)


def test_base_without_a_head_is_refused(base: "keras.Model", tmp_path: Path) -> None:
    for ending in FORMATS:
        with pytest.raises(ModelError, match="the convolutions alone"):
            load(save(base, tmp_path, ending))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (layers.LayerNormalization(), "LayerNormalization"),
        (layers.ReLU(max_value=3), "ReLU"),
        (layers.Dense(2, activation="hard_sigmoid"), "'hard_sigmoid'"),
    ],
    ids=str,
)
def test_unknown_layer_in_the_head_is_named(
    base: "keras.Model", tmp_path: Path, layer: "keras.layers.Layer", message: str
) -> None:
    head = [layers.GlobalAveragePooling2D(), layer, layers.Dense(2)]
    path = save(assemble(base, head, "sequential"), tmp_path, ".keras")
    with pytest.raises(ModelError, match=rf"checkpoint: model.keras: expected .*{message}"):
        load(path)


def test_dense_kernel_of_another_shape_is_refused(base: "keras.Model", tmp_path: Path) -> None:
    path = save(assemble(base, head_of("flatten"), "sequential"), tmp_path, ".h5")
    with h5py.File(path, "a") as file:
        found: list[str] = []
        file.visit(found.append)
        (kernel,) = (name for name in found if "dense" in name and name.endswith("/kernel"))
        del file[kernel]
        file[kernel] = np.zeros((12, 2))
    with pytest.raises(ModelError, match=r"\[\(2048, 2\), \(2,\)\] .*, got \[\(12, 2\), \(2,\)\]"):
        load(path)


@pytest.mark.parametrize("ending", FORMATS)
def test_damaged_file_is_an_error_without_a_traceback(
    base: "keras.Model", tmp_path: Path, ending: str
) -> None:
    path = save(assemble(base, head_of("one unit"), "sequential"), tmp_path, ending)
    data = path.read_bytes()
    for damaged in (b"", data[:10], data[: len(data) // 2], b"<!doctype html><p>404"):
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match=rf"^checkpoint: model{ending}: damaged, or not a"):
            load(path)


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(bytes(64))
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a/kernel", (4, 4), "f4", external=[(str(tmp_path / "other"), 0, 64)])
    with pytest.raises(ModelError, match="a/kernel points to another file"):
        load(path)


@pytest.mark.parametrize("link", ["external", "soft"])
def test_link_instead_of_the_weights_is_refused(tmp_path: Path, link: str) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_group("model_weights")
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": []})
        file.create_group("elsewhere")
        file["model_weights"] = (
            h5py.ExternalLink(str(tmp_path / "other.h5"), "/model_weights")
            if link == "external"
            else h5py.SoftLink("/elsewhere")
        )
    with pytest.raises(ModelError, match=r"^checkpoint: model\.h5: .*model_weights points to"):
        load(path)


@pytest.mark.parametrize("options", [{}, {"chunks": True, "compression": "gzip", "fillvalue": 1}])
def test_array_that_the_file_does_not_hold_is_refused_before_it_is_read(
    tmp_path: Path, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a/kernel", (30_000, 30_000), "f4", **options)
    read: list[object] = []
    monkeypatch.setattr(h5py.Dataset, "__array__", lambda self, *_, **__: read.append(self))
    with pytest.raises(ModelError, match=r"model\.h5: .*claims to hold 3,600,000,000\)"):
        load(path)
    assert read == []


def test_archive_that_grows_without_measure_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", " " * 40_000_000)
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(ModelError, match=r"model\.keras: .*claims to hold 40,000,000\)"):
        load(path)


def test_compressed_weights_are_read(tmp_path: Path) -> None:
    """Those of noise hardly shrink, those of a head that is mostly zero a lot."""
    path = tmp_path / "model.h5"
    kernel = np.zeros((512, 4096), np.float32)
    kernel[::7] = np.random.default_rng(0).normal(size=kernel[::7].shape)
    with h5py.File(path, "w") as file:
        file.create_dataset("dense/kernel", data=kernel, compression="gzip")
    with pytest.raises(ModelError, match=r"expected the weights of VGG16"):
        load(path)
    assert path.stat().st_size < kernel.nbytes / 5


def test_heap_without_an_end_is_refused(tmp_path: Path) -> None:
    """HDF5's own library reads such a file for ever."""
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": []})
        file.create_group("model_weights")
    data = bytearray(path.read_bytes())
    heap = data.index(b"GCOL")
    assert data[heap + 16 : heap + 18] == b"\x01\0", "its first object"
    data[heap + 16 : heap + 32] = bytes(16)
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"^checkpoint: model\.h5: .*a heap in it has no end"):
        load(path)


def test_slices_that_refer_to_themselves_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    slices = {
        "name": "slice",
        "class_name": "GetItem",
        "config": {},
        "inbound_nodes": [{"keras_history": ["slice", 0, 0]}],
    }
    bias = {
        "name": "bias",
        "class_name": "Add",
        "config": {},
        "inbound_nodes": [{"keras_history": ["slice", 0, 0]}, "-103.9, -116.7, -123.6"],
    }
    config = {"layers": [slices, bias], "output_layers": [["bias", 0, 0]]}
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": config})
        file.create_group("model_weights")
    with pytest.raises(ModelError, match=r"^checkpoint: model\.h5: damaged"):
        load(path)


def test_other_hdf5_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros((4, 8, 8, 3))
        file["labels"] = np.zeros(4)
    with pytest.raises(ModelError, match=r"data\.h5: expected the weights of VGG16"):
        load(path)


@pytest.mark.parametrize(
    "config", [[], {"class_name": "Sequential"}, {"class_name": "Functional", "config": {}}, 7]
)
def test_odd_configuration_is_refused(tmp_path: Path, config: object) -> None:
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.create_group("model_weights")
    with pytest.raises(ModelError, match=r"^checkpoint: model\.h5: "):
        load(path)


def test_missing_file_and_missing_h5py(
    base: "keras.Model", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match=r"^checkpoint: no\.h5 cannot be read"):
        load_checkpoint(tmp_path / "no.h5")
    path = tmp_path / "model.h5"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ModelError) as caught:
        load(path)
    assert str(caught.value) == (
        "checkpoint: model.h5 is a Keras file; reading it needs h5py: "
        "pip install 'camreport[keras]'"
    )
