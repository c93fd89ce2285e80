"""Keras VGG16 files, against Keras itself (with its torch backend) on the same photographs."""

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.keras_models import (
    FORMATS,
    SIDE,
    assemble,
    assert_same,
    assert_same_model,
    head_of,
    ignores_numpy_warnings,
    keras,
    keras_output,
    layers,
    load,
    our_logits,
    random_base,
    random_image,
    randomise,
    save,
)
from PIL import Image

h5py = pytest.importorskip("h5py")
pytestmark = ignores_numpy_warnings


@pytest.fixture(scope="module")
def base() -> "keras.Model":
    """Keras's VGG16 without its top, 64 × 64, all weights and biases random."""
    return random_base()


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    """A noisy image with a gradient, another one in each channel, 64 × 64."""
    return random_image(SIDE)


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
def test_full_top_with_imagenets_classes(tmp_path: Path) -> None:
    shape = (64, 64, 3)
    model = keras.applications.VGG16(
        weights=None, classifier_activation=None, include_top=True, input_shape=shape
    )
    randomise(model)
    loaded = assert_same_model(save(model, tmp_path, ".keras"), model, random_image(64))
    assert loaded.preprocessing.size == (64, 64)
    assert loaded.class_names[:1] + loaded.class_names[-1:] == ("tench", "toilet tissue")
    assert [type(module).__name__ for module in loaded.module.classifier] == [
        *("Linear", "ReLU", "Linear", "ReLU", "Linear")
    ]


def test_thousand_own_classes_are_not_called_imagenets(base: "keras.Model", tmp_path: Path) -> None:
    model = assemble(base, [layers.GlobalAveragePooling2D(), layers.Dense(1000)], "flat")
    assert load(save(model, tmp_path, ".keras")).class_names[999] == "class 999"
