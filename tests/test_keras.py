"""Keras VGG16 files, against Keras itself (with its torch backend) on the same photographs."""

import hashlib
import io
import json
import os
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from camreport.errors import ModelError
from camreport.models.checkpoint import load_checkpoint
from camreport.models.keras_vgg import load_keras
from camreport.models.loaded import LoadedModel

h5py = pytest.importorskip("h5py")
os.environ["KERAS_BACKEND"] = "torch"
keras = pytest.importorskip("keras")
layers = keras.layers

# Keras 3.15 turns torch tensors into arrays without NumPy 2's `copy`
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIDE = 64
FORMATS = (".keras", ".h5", ".weights.h5")


@pytest.fixture(scope="module")
def base() -> "keras.Model":
    """Keras's VGG16 without its top, 64 × 64, all weights and biases random."""
    model = keras.applications.VGG16(weights=None, include_top=False, input_shape=(SIDE, SIDE, 3))
    randomise(model)
    return model


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    """A noisy image with a gradient, another one in each channel, 64 × 64."""
    return random_image(SIDE)


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


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize(
    ("way", "head"),
    [
        *(("sequential", head) for head in ("average pooling", "flatten", "hidden", "one unit")),
        *(("functional", head) for head in ("average pooling", "hidden")),
        *(("flat", head) for head in ("flatten", "hidden")),
    ],
)
def test_logits_are_those_of_keras(
    base: "keras.Model",
    photograph: Image.Image,
    tmp_path: Path,
    ending: str,
    way: str,
    head: str,
) -> None:
    model = assemble(base, head_of(head), way)
    loaded = assert_same_model(save(model, tmp_path, ending), model, photograph)
    assert loaded.class_names == ("class 0", "class 1")
    assert not loaded.module.training
    unknown = ending == ".weights.h5" and "Flatten" not in str([*map(str, loaded.notes)])
    assert loaded.preprocessing.size == ((224, 224) if unknown else (SIDE, SIDE))


def test_head_in_a_model_of_its_own(
    base: "keras.Model", photograph: Image.Image, tmp_path: Path
) -> None:
    head = head_of("hidden")
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), base, keras.Sequential(head)])
    for number, layer in enumerate(head):
        randomise(layer, number)
    for ending in FORMATS:
        assert_same_model(save(model, tmp_path, ending), model, photograph)


def test_global_maximum_pooling(
    base: "keras.Model", photograph: Image.Image, tmp_path: Path
) -> None:
    model = assemble(base, head_of("maximum pooling"), "sequential")
    for ending in FORMATS:
        assert_same_model(save(model, tmp_path, ending), model, photograph)


def test_average_pooling_before_flatten(
    base: "keras.Model", photograph: Image.Image, tmp_path: Path
) -> None:
    head = [layers.AveragePooling2D((2, 1)), layers.Flatten(), layers.Dense(5)]
    model = assemble(base, head, "functional")
    assert_same_model(save(model, tmp_path, ".keras"), model, photograph)


def test_pooling_inside_the_base(photograph: Image.Image, tmp_path: Path) -> None:
    base = keras.applications.VGG16(
        weights=None, include_top=False, input_shape=(SIDE, SIDE, 3), pooling="avg"
    )
    randomise(base)
    model = assemble(base, [layers.Dense(2)], "flat")
    assert_same_model(save(model, tmp_path, ".h5"), model, photograph)


def test_batch_normalisation_before_and_after_the_first_dense_layer(
    base: "keras.Model", photograph: Image.Image, tmp_path: Path
) -> None:
    head = [
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.BatchNormalization(scale=False),
        layers.Dense(8, use_bias=False),
        layers.BatchNormalization(center=False, epsilon=0.1),
        layers.Activation("elu"),
        layers.Dense(3),
    ]
    model = assemble(base, head, "flat")
    for ending in (".keras", ".h5"):
        assert_same_model(save(model, tmp_path, ending), model, photograph)


@pytest.mark.parametrize(
    "activation",
    [
        *"elu selu gelu silu mish relu6 leaky_relu sigmoid softplus softsign softmax tanh".split(),
        *(layers.LeakyReLU(0.1), layers.ELU(0.7), layers.ReLU(negative_slope=0.1)),
        layers.Softmax(),
    ],
    ids=str,
)
def test_activations_between_dense_layers(
    base: "keras.Model",
    photograph: Image.Image,
    tmp_path: Path,
    activation: "str | keras.layers.Layer",
) -> None:
    pooled = layers.GlobalAveragePooling2D()
    middle = [layers.Dense(8, activation=activation)]
    if not isinstance(activation, str):
        middle = [layers.Dense(8), activation]
    model = assemble(base, [pooled, *middle, layers.Dense(3)], "sequential")
    assert_same_model(save(model, tmp_path, ".keras"), model, photograph)


@pytest.mark.parametrize(
    "last",
    [
        [layers.Dense(3, activation="softmax")],
        [layers.Dense(3), layers.Softmax()],
        [layers.Dense(3), layers.Activation("softmax")],
    ],
    ids=["in the layer", "Softmax", "Activation"],
)
def test_final_softmax_is_taken_off(
    base: "keras.Model",
    photograph: Image.Image,
    tmp_path: Path,
    last: list["keras.layers.Layer"],
) -> None:
    model = assemble(base, [layers.Flatten(), *last], "sequential")
    loaded = load(save(model, tmp_path, ".h5"))
    model_input = loaded.preprocessing.apply(photograph)
    logits = torch.from_numpy(our_logits(loaded, model_input))
    assert_same(logits.softmax(1).numpy(), keras_output(model, model_input))
    assert not torch.allclose(logits.sum(1), torch.ones(1))
    assert loaded.class_names == ("class 0", "class 1", "class 2")


@pytest.mark.parametrize("ending", FORMATS)
def test_final_sigmoid_of_one_unit_stays_one_logit(
    base: "keras.Model", photograph: Image.Image, tmp_path: Path, ending: str
) -> None:
    model = assemble(base, [layers.Flatten(), layers.Dense(1, activation="sigmoid")], "flat")
    for variable in model.layers[-1].weights:  # away from 0 and 1
        variable.assign(variable.numpy() * 0.1)
    loaded = load(save(model, tmp_path, ending))
    model_input = loaded.preprocessing.apply(photograph)
    logit = our_logits(loaded, model_input)
    assert logit.shape == (1, 1)
    assert_same(1 / (1 + np.exp(-logit)), keras_output(model, model_input))
    assert loaded.class_names == ("class 0", "class 1")


@pytest.mark.parametrize("whole", [True, False], ids=["model", "weights"])
def test_early_keras_3_without_layer_names_in_the_weights(
    base: "keras.Model", photograph: Image.Image, tmp_path: Path, whole: bool
) -> None:
    model = assemble(base, head_of("hidden"), "functional")
    path = save(model, tmp_path, ".weights.h5")
    with h5py.File(path, "a") as file:
        file.visititems(lambda _, item: item.attrs.pop("name", None) and None)
        file.move("layers", "_layer_checkpoint_dependencies")
    if whole:
        weights = path.read_bytes()
        path = tmp_path / "model.keras"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", model.to_json())
            archive.writestr("model.weights.h5", weights)
    assert_same_model(path, model, photograph)


@pytest.mark.parametrize(
    ("units", "last", "activation"),
    [(3, "sigmoid", "sigmoid"), (3, "softmax", "softmax"), (1, "sigmoid", "softmax")],
)
def test_sigmoid_per_class_decides_how_probabilities_are_made(
    base: "keras.Model", tmp_path: Path, units: int, last: str, activation: str
) -> None:
    head = [layers.GlobalAveragePooling2D(), layers.Dense(units, activation=last)]
    loaded = load(save(assemble(base, head, "flat"), tmp_path, ".h5"))
    assert loaded.activation == activation


def test_rescaling_in_weights_alone_is_noted(base: "keras.Model", tmp_path: Path) -> None:
    head = [layers.GlobalAveragePooling2D(), layers.Dense(3)]
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), layers.Rescaling(1 / 255), base, *head])
    loaded = load(save(model, tmp_path, ".weights.h5"))
    assert any("has a Rescaling layer, whose numbers are not" in str(note) for note in loaded.notes)


def test_weights_of_a_compiled_model_are_read_without_the_optimizers(
    base: "keras.Model", photograph: Image.Image, tmp_path: Path
) -> None:
    model = assemble(base, head_of("hidden"), "sequential")
    model.compile("adam", "mse", metrics=["mae"])
    model.optimizer.build(model.trainable_variables[-2:])
    for ending in FORMATS:
        assert_same_model(save(model, tmp_path, ending), model, photograph)


def write_keras_2_weights(
    group: "h5py.Group", model: "keras.Model", nested: str | None = None
) -> None:
    """Write weights as tf.keras 2 does; a nested base's in one group, trainable ones first."""
    found = [layer for layer in model.layers if not isinstance(layer, layers.InputLayer)]
    group.attrs["layer_names"] = [layer.name.encode() for layer in found]
    group.attrs["backend"], group.attrs["keras_version"] = b"tensorflow", b"2.15.0"
    for layer in found:
        inner = layer.layers if layer.name == nested else [layer]
        inner = sorted(inner, key=lambda part: "block5" not in part.name)
        own = group.create_group(layer.name)
        names = []
        for part in inner:
            for variable in part.weights:
                names.append(f"{part.name}/{variable.name}:0".encode())
                own[names[-1].decode()] = variable.numpy()
        own.attrs["weight_names"] = names


@pytest.mark.parametrize("head", ["average pooling", "flatten", "hidden", "one unit"])
@pytest.mark.parametrize("way", ["sequential", "flat"])
def test_keras_2_weights_alone(
    base: "keras.Model", photograph: Image.Image, tmp_path: Path, way: str, head: str
) -> None:
    model = assemble(base, head_of(head), way)
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        write_keras_2_weights(file, model, nested=base.name)
    loaded = assert_same_model(path, model, photograph)
    assert "are assumed" in str(loaded.notes[1])


def keras_2_config(base: "keras.Model") -> dict[str, object]:
    """Return a functional model's configuration as tf.keras 2.15 writes it.

    Input, preprocess_input, nested base, Flatten, Dense 'zeta' (ReLU), Dense 'alpha' (softmax).
    """
    nested = json.loads(base.to_json())["config"]
    for layer in nested["layers"]:
        layer.pop("module")
        layer["inbound_nodes"] = [
            [[node["args"][0]["config"]["keras_history"][0], 0, 0, {}]]
            for node in layer["inbound_nodes"]
        ]
        if "batch_shape" in layer["config"]:
            layer["config"]["batch_input_shape"] = layer["config"].pop("batch_shape")
    del nested["name"]
    nested["input_layers"] = [["input_layer", 0, 0]]
    nested["output_layers"] = [["block5_pool", 0, 0]]
    nested["layers"][0]["name"] = nested["layers"][0]["config"]["name"] = "input_layer"
    nested["layers"][1]["inbound_nodes"] = [[["input_layer", 0, 0, {}]]]
    bias = {"bias": [-103.939, -116.779, -123.68], "data_format": "channels_last"}
    flip = {"slice_spec": [{"class_name": "__ellipsis__"}, {"start": None, "step": -1}]}

    def entry(kind: str, name: str, nodes: list[object], **config: object) -> dict[str, object]:
        settings = {"name": name, **config}
        return {"class_name": kind, "config": settings, "name": name, "inbound_nodes": nodes}

    dense = {"use_bias": True}
    entries = [
        entry("InputLayer", "input_2", [], batch_input_shape=[None, SIDE, SIDE, 3]),
        entry("SlicingOpLambda", "getitem", [["input_2", 0, 0, flip]], function="getitem"),
        entry("TFOpLambda", "bias_add", [["getitem", 0, 0, bias]], function="nn.bias_add"),
        entry("Functional", "vgg16", [[["bias_add", 0, 0, {"training": False}]]], **nested),
        entry("Flatten", "flatten", [[["vgg16", 0, 0, {}]]], data_format="channels_last"),
        entry("Dense", "zeta", [[["flatten", 0, 0, {}]]], units=4, activation="relu", **dense),
        entry("Dense", "alpha", [[["zeta", 0, 0, {}]]], units=4, activation="softmax", **dense),
    ]
    ends = {"input_layers": [["input_2", 0, 0]], "output_layers": [["alpha", 0, 0]]}
    return {"class_name": "Functional", "config": {"name": "model", "layers": entries, **ends}}


def test_keras_2_whole_model_with_preprocess_input_inside(
    base: "keras.Model", photograph: Image.Image, tmp_path: Path
) -> None:
    head = [layers.Flatten(), layers.Dense(4, "relu", name="zeta"), layers.Dense(4, name="alpha")]
    model = assemble(base, head, "sequential")
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(keras_2_config(base)).encode()
        write_keras_2_weights(file.create_group("model_weights"), model, nested=base.name)
    loaded = assert_same_model(path, model, photograph)
    assert loaded.preprocessing.channel_order == "bgr"
    assert str(loaded.notes[0]).startswith(
        "preprocessing: model.h5 holds that of keras.applications"
    )


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_preprocess_input_inside_the_model(
    base: "keras.Model", photograph: Image.Image, tmp_path: Path, ending: str
) -> None:
    inputs = keras.Input((SIDE, SIDE, 3))
    augment = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomZoom(0.2)])
    values = base(keras.applications.vgg16.preprocess_input(augment(inputs)))
    head = layers.Dense(2)
    model = keras.Model(inputs, head(layers.GlobalAveragePooling2D()(values)))
    randomise(head)
    loaded = load(save(model, tmp_path, ending))
    pixels = np.asarray(photograph, np.float32)
    ours = our_logits(loaded, loaded.preprocessing.apply(photograph))
    assert_same(ours, keras_output(model, pixels.transpose(2, 0, 1)))


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize(
    ("scale", "offset"), [(1 / 127.5, -1), ([0.01, 0.02, 0.03], np.array([-1.0, 0.0, 0.5]))]
)
def test_rescaling_layer_becomes_the_preprocessing(
    base: "keras.Model",
    photograph: Image.Image,
    tmp_path: Path,
    ending: str,
    scale: object,
    offset: object,
) -> None:
    head = layers.Dense(2)
    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.RandomFlip(),
            layers.Rescaling(scale, offset),
            base,
            layers.GlobalAveragePooling2D(),
            head,
        ]
    )
    randomise(head)
    loaded = load(save(model, tmp_path, ending))
    pixels = np.asarray(photograph, np.float32)
    ours = our_logits(loaded, loaded.preprocessing.apply(photograph))
    assert_same(ours, keras_output(model, pixels.transpose(2, 0, 1)))
    assert loaded.preprocessing.channel_order == "rgb"
    assert "Rescaling" in str(loaded.notes[0])


def test_preprocessing_is_that_of_keras_applications(
    base: "keras.Model", photograph: Image.Image, tmp_path: Path
) -> None:
    model = assemble(base, head_of("flatten"), "sequential")
    loaded = load(save(model, tmp_path, ".keras"))
    theirs = keras.applications.vgg16.preprocess_input(np.asarray(photograph, np.float32)[None])
    ours = loaded.preprocessing.apply(photograph).transpose(1, 2, 0)
    np.testing.assert_allclose(ours, theirs[0], rtol=0, atol=1e-4)
    assert tuple(map(str, loaded.notes)) == (
        "preprocessing: model.keras holds none, that of keras.applications.vgg16 is used; "
        "--channel-order, --scale, --mean and --std change it",
        "classes: model.keras holds no names, they are called 'class 0' to 'class 1'; name them "
        "with --class-names",
    )


def test_provenance(base: "keras.Model", tmp_path: Path) -> None:
    path = save(assemble(base, head_of("one unit"), "flat"), tmp_path, ".weights.h5")
    loaded = load(path)
    assert loaded.name == "vgg16"
    assert str(loaded.source) == "Keras file model.weights.h5, converted to torchvision's VGG16"
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert list(dict(loaded.module.named_children())) == ["features", "avgpool", "classifier"]
    assert any("GlobalAveragePooling2D and ReLU" in str(note) for note in loaded.notes)
    assert any("224 × 224" in str(note) and "holds none" in str(note) for note in loaded.notes[1:])


@pytest.mark.slow
def test_full_top_at_224(tmp_path: Path) -> None:
    model = keras.applications.VGG16(weights=None, classifier_activation=None)
    randomise(model)
    photograph = random_image(224)
    for ending in FORMATS:
        path = save(model, tmp_path, ending)
        loaded = assert_same_model(path, model, photograph)
        assert loaded.preprocessing.size == (224, 224)
        assert loaded.class_names[:1] + loaded.class_names[-1:] == ("tench", "toilet tissue")
        path.unlink()
    assert [type(module).__name__ for module in loaded.module.classifier] == [
        *("Linear", "ReLU", "Linear", "ReLU", "Linear")
    ]


def test_thousand_own_classes_are_not_called_imagenets(base: "keras.Model", tmp_path: Path) -> None:
    model = assemble(base, [layers.GlobalAveragePooling2D(), layers.Dense(1000)], "flat")
    assert load(save(model, tmp_path, ".keras")).class_names[999] == "class 999"


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
def test_link_in_the_place_of_the_weights_is_refused(tmp_path: Path, link: str) -> None:
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
