"""What a model returns: logits, probabilities, or both; each is read for what it is."""

import csv
import json
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.checkout import INPUTS
from helpers.inputs import inputs_of
from helpers.reports import embedded
from torch import Tensor, nn
from torch.testing import assert_close
from torchvision.models import mobilenet_v3_small, resnet18, vit_b_16

import camreport
from camreport.errors import ModelError
from camreport.network.logits import AUTO, logits_key, logits_of
from camreport.network.survey import sample_image
from camreport.report.export import export_table
from camreport.report.gallery.language import words_of
from camreport.results.reader import load_results, probabilities

PHOTOGRAPH = next(iter(sorted(INPUTS.glob("*.jpg"))))
Both = namedtuple("Both", ["probability", "logit"])


class Net(nn.Module):
    """A small classifier whose logits ``z`` are returned as a function makes them."""

    def __init__(self, returns: Callable[[Tensor], object] = lambda z: z, outputs: int = 3) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, stride=4), nn.ReLU())
        self.fc = nn.Linear(6, outputs)
        self.returns = returns

    def z(self, x: Tensor) -> Tensor:
        """Return the logits, far enough from zero that a second softmax would show."""
        return 9 * self.fc(self.features(x).mean((2, 3)))

    def forward(self, x: Tensor) -> object:
        """Return what is made of them."""
        return self.returns(self.z(x))


def images(count: int = 2) -> Tensor:
    """Return images of noise."""
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def gradient_map(net: Net, x: Tensor, score: Callable[[Tensor], Tensor]) -> Tensor:
    """Return Grad-CAM of a score of the logits, by plain autograd: ``(N, h, w)``."""
    activation = net.features(x)
    logits = 9 * net.fc(activation.mean((2, 3)))
    (gradient,) = torch.autograd.grad(score(logits).sum(), activation)
    return (gradient.mean((2, 3), keepdim=True) * activation).sum(1).detach()


def softmax_by_hand(z: Tensor) -> Tensor:
    """Return a softmax that no step of the graph is named after."""
    e = (z - z.amax(1, keepdim=True)).exp()
    return e / e.sum(1, keepdim=True)


def two_classes(z: Tensor) -> Tensor:
    """Return the probabilities of a binary head's two classes."""
    return torch.cat([1 - z.sigmoid(), z.sigmoid()], 1)


PROBABILITIES = {
    "softmax": (lambda z: z.softmax(1), 3),
    "softmax by hand": (softmax_by_hand, 3),
    "softmax in a dictionary": (lambda z: {"logits": z.softmax(1)}, 3),
    "softmax with two axes behind": (lambda z: z.softmax(1)[:, :, None, None], 3),
    "saturated softmax": (lambda z: (1000 * z).softmax(1), 3),
    "sigmoids": (lambda z: z.sigmoid(), 14),
    "clamped sigmoids": (lambda z: z.sigmoid().clamp(1e-4, 1 - 1e-4), 5),
    "both classes of a sigmoid": (two_classes, 1),
}
LOGITS = {
    "logits": (lambda z: z, 3),
    "logarithms of probabilities": (lambda z: z.log_softmax(1), 3),
    "one logit": (lambda z: z, 1),
    "small logits that add up to one": (
        lambda z: 0.5 + 0.01 * torch.stack([z[:, 0], -z[:, 0]], 1),
        3,
    ),
    "logits that are not negative": (lambda z: z.relu() / 100, 3),
    "constants that add up to one": (lambda z: torch.full_like(z, 1 / 3) + 0 * z, 3),
    "logits between nought and one": (lambda z: (z / 100).clamp(0, 1), 3),
    "sigmoids that are scaled": (lambda z: 4 * z.sigmoid(), 3),
    "logits behind a tanh": (lambda z: z.tanh(), 3),
}


@pytest.mark.parametrize("name", PROBABILITIES)
def test_probabilities_are_recognised_and_never_doubled(name: str) -> None:
    returns, outputs = PROBABILITIES[name]
    net = Net(returns, outputs).eval()
    e = camreport.explain(net, images(), ["features"], "grad_cam", "all")
    assert e.activation == "none"
    own = logits_of(net(images()), 2).detach()
    assert_close(e.logits, own)
    assert_close(probabilities(e.logits[0].numpy(), e.activation), own[0].double().numpy())


@pytest.mark.parametrize("name", LOGITS)
def test_logits_are_never_taken_for_probabilities(name: str) -> None:
    returns, outputs = LOGITS[name]
    net = Net(returns, outputs).eval()
    assert camreport.explain(net, images(), ["features"], "grad_cam").activation == "softmax"


@pytest.mark.parametrize("build", [resnet18, mobilenet_v3_small, vit_b_16])
@pytest.mark.parametrize("classes", [2, 3])
def test_logits_of_untrained_networks_are_never_taken_for_probabilities(build, classes) -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        tokens = build is vit_b_16
        net = build(num_classes=classes, **({"image_size": 64} if tokens else {}))
        layer = "conv_proj" if tokens else AUTO
        e = camreport.explain(net, sample_image((64, 64)), layer, "grad_cam")
        assert e.activation == "softmax"


@pytest.mark.parametrize("key", ["grad_cam", "layer_cam", "ablation_cam"])
def test_maps_of_probabilities_are_plain_autograd_of_them(key: str) -> None:
    net, x = Net(lambda z: z.softmax(1)).eval(), images()
    e = camreport.explain(net, x, ["features"], key, [1])
    activation = net.features(x)

    def output(a: Tensor) -> Tensor:
        return (9 * net.fc(a.mean((2, 3)))).softmax(1)[:, 1]

    score = output(activation)
    (gradient,) = torch.autograd.grad(score.sum(), activation)
    if key == "grad_cam":
        expected = (gradient.mean((2, 3), keepdim=True) * activation).sum(1)
    elif key == "layer_cam":
        expected = (gradient.relu() * activation).sum(1)
    else:
        drops = []
        for channel in range(activation.shape[1]):
            without = activation.clone()
            without[:, channel] = 0
            drops.append(score - output(without))
        weights = torch.stack(drops, 1)[:, :, None, None]
        expected = (weights * activation).sum(1)
    assert_close(e.maps[key]["features"][:, 0], expected.detach(), rtol=0, atol=1e-5)


def test_one_sigmoid_becomes_two_classes_with_opposite_maps() -> None:
    net, x = Net(lambda z: z.sigmoid(), 1).eval(), images()
    e = camreport.explain(net, x, ["features"], "grad_cam", "all")
    p = net(x)[:, 0].detach()
    assert_close(e.logits, torch.stack([1 - p, p], 1))
    expected = gradient_map(net, x, lambda z: z[:, 0].sigmoid())
    assert_close(e.maps["grad_cam"]["features"][:, 1], expected, rtol=0, atol=1e-5)
    assert_close(e.maps["grad_cam"]["features"][:, 0], -expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("activation", "returns", "score"),
    [
        ("softmax", lambda z: z, lambda z: z.softmax(1)[:, 2]),
        ("sigmoid", lambda z: z, lambda z: z[:, 2].sigmoid()),
        ("auto", lambda z: z.sigmoid(), lambda z: z[:, 2].sigmoid()),
        ("auto", lambda z: z.softmax(1), lambda z: z.softmax(1)[:, 2]),
        ("softmax", lambda z: z.softmax(1), lambda z: z.softmax(1).softmax(1)[:, 2]),
    ],
)
def test_quantity_probability_takes_the_probability_once(activation, returns, score) -> None:
    net, x = Net(returns).eval(), images()
    options = {"quantity": "probability", "activation": activation}
    e = camreport.explain(net, x, ["features"], "grad_cam,ablation_cam", [2], **options)
    expected = gradient_map(net, x, score)
    assert_close(e.maps["grad_cam"]["features"][:, 0], expected, rtol=0, atol=1e-5)


def test_contrast_of_probabilities_is_their_difference() -> None:
    net, x = Net(lambda z: z.softmax(1)).eval(), images()
    e = camreport.explain(net, x, ["features"], "grad_cam", [0], quantity="contrast:1")
    expected = gradient_map(net, x, lambda z: z.softmax(1)[:, 0] - z.softmax(1)[:, 1])
    assert_close(e.maps["grad_cam"]["features"][:, 0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("activation", "returns", "chance"),
    [
        ("sigmoid", lambda z: z, torch.sigmoid),
        ("auto", lambda z: z.sigmoid(), torch.sigmoid),
        ("auto", lambda z: z.softmax(1), lambda z: z.softmax(1)),
    ],
)
def test_score_cam_weighs_channels_by_the_models_own_probability(
    activation, returns, chance
) -> None:
    net, x = Net(returns).eval(), images(1)
    e = camreport.explain(net, x, ["features"], "score_cam", [1], activation=activation)
    with torch.no_grad():
        channels = net.features(x)[0]
        expected = torch.zeros(channels.shape[1:])
        for channel in channels:
            mask = nn.functional.interpolate(channel[None, None], (32, 32), mode="bilinear")
            mask = (mask - mask.min()) / (mask.max() - mask.min())
            expected += chance(net.z(x * mask))[0, 1] * channel
    assert_close(e.maps["score_cam"]["features"][0, 0], expected, rtol=0, atol=1e-5)


def test_one_logit_under_a_sigmoid_has_its_own_probability() -> None:
    net, x = Net(outputs=1).eval(), images()
    e = camreport.explain(net, x, ["features"], "grad_cam", "all", activation="sigmoid")
    found = np.stack([probabilities(row, "sigmoid") for row in e.logits.numpy()])
    p = net(x)[:, 0].sigmoid().double().detach().numpy()
    np.testing.assert_allclose(found, np.stack([1 - p, p], 1), atol=1e-6)


# Structures


@pytest.mark.parametrize(
    ("returns", "key"),
    [
        (lambda z: (z.softmax(1), z), "1"),  # as ultralytics' classifiers
        (lambda z: (z, z.softmax(1)), "0"),
        (lambda z: {"scores": z, "chances": z.sigmoid()}, "scores"),
        (lambda z: Both(z.softmax(1), z), "logit"),
        (lambda z: [z.softmax(1), z.sigmoid(), z], "2"),
    ],
)
def test_the_part_of_which_another_is_the_softmax_holds_the_logits(returns, key) -> None:
    net, x = Net(returns).eval(), images()
    assert logits_key(net(x), 2) == key
    e = camreport.explain(net, x, ["features"], "grad_cam", [1])
    assert_close(e.logits, net.z(x).detach())
    assert e.activation == "softmax"
    expected = gradient_map(net, x, lambda z: z[:, 1])
    assert_close(e.maps["grad_cam"]["features"][:, 0], expected, rtol=0, atol=1e-5)
    assert e.output == key


def test_probabilities_that_are_asked_for_by_name_are_shown_as_they_are() -> None:
    net, x = Net(lambda z: (z.softmax(1), z)).eval(), images()
    e = camreport.explain(net, x, ["features"], "grad_cam", [1], output="0")
    assert e.activation == "none"
    assert_close(e.logits, net.z(x).softmax(1).detach())


def test_parts_that_could_all_be_logits_are_all_proposed() -> None:
    net = Net(lambda z: (z.softmax(1), z, -z)).eval()
    with pytest.raises(ModelError, match="--output 1 or --output 2, or output=") as refused:
        camreport.explain(net, images(), ["features"])
    assert "--output 0" not in str(refused.value)


def test_an_activation_that_is_none_of_the_three_is_refused(tmp_path: Path) -> None:
    message = "activation: expected auto, softmax, sigmoid or none, got 'tanh'"
    with pytest.raises(ModelError, match=message):
        camreport.explain(Net(), images(), ["features"], activation="tanh")
    with pytest.raises(ModelError, match=message):
        camreport.run(PHOTOGRAPH, tmp_path / "out", activation="tanh")


# The report


@pytest.mark.parametrize(
    ("returns", "outputs", "activation", "recorded", "expected"),
    [
        (lambda z: z.softmax(1), 3, "auto", "none", lambda z: z.softmax(1)),
        (lambda z: z.sigmoid(), 14, "auto", "none", lambda z: z.sigmoid()),
        (lambda z: z, 14, "sigmoid", "sigmoid", lambda z: z.sigmoid()),
        (lambda z: z.sigmoid(), 1, "auto", "none", two_classes),
        (lambda z: (z.softmax(1), z), 3, "auto", "softmax", lambda z: z.softmax(1)),
    ],
    ids=["softmax", "sigmoids", "logits of sigmoids", "one sigmoid", "both"],
)
def test_a_report_shows_the_models_own_probabilities(
    tmp_path: Path, returns, outputs, activation, recorded, expected
) -> None:
    net, out = Net(returns, outputs).eval(), tmp_path / "out"
    summary = camreport.run(
        PHOTOGRAPH, out, model=net, methods="grad_cam", classes="top2", activation=activation
    )
    results = load_results(out)
    kind = results.manifest.activation
    assert kind == recorded
    loaded = camreport.load_model(net)
    with torch.no_grad():
        z = net.z(inputs_of(loaded.preprocessing, [PHOTOGRAPH]))
        chances = expected(z)[0].double()
    best = chances.argsort(descending=True, stable=True)
    (image,) = results.images
    assert [entry.index for entry in image.top[:2]] == best[:2].tolist()
    for entry in image.top:
        assert entry.probability == pytest.approx(chances[entry.index].item(), abs=2e-6)
    assert results.arrays(0)["targets"].tolist() == best[:2].tolist()
    shown = embedded(out, "image-0")
    assert shown["probabilities"] == pytest.approx(chances[best[:2]].tolist(), abs=1e-6)
    assert len(shown["logits"]) == (0 if kind == "none" else 2)
    export_table(out)
    rows = list(csv.DictReader((out / "maps.csv").read_text("utf-8-sig").splitlines()))
    for row in rows:
        value = chances[int(row["class_index"])].item()
        assert float(row["probability"]) == pytest.approx(value, abs=1e-6)
        assert (row["logit"] == "") == (kind == "none")
    said = [
        note for note in map(str, summary.notes) if note.startswith(("probability: ", "output: "))
    ]
    assert said
    provenance = json.dumps(embedded(out, "report"), ensure_ascii=False)
    assert all(note in provenance for note in said)
    chinese = {str(note): words_of("zh").message(note) for note in results.manifest.model.notes}
    assert all(chinese[note] != note for note in said)


def test_probabilities_of_the_results_follow_their_formulas() -> None:
    logits = np.array([-3.0, 0.5, 800.0, -800.0], dtype=np.float32)
    e = np.exp(logits.astype(np.float64) - 800)
    np.testing.assert_allclose(probabilities(logits, "softmax"), e / e.sum())
    chance = [1 / (1 + np.exp(3)), 1 / (1 + np.exp(-0.5)), 1, 0]
    np.testing.assert_allclose(probabilities(logits, "sigmoid"), chance, atol=1e-12)
    np.testing.assert_array_equal(probabilities(logits, "none"), logits)
    assert np.isnan(probabilities(np.array([np.nan, 1], dtype=np.float32), "softmax")).all()


def test_explain_says_that_the_model_returns_probabilities() -> None:
    notes = camreport.explain(Net(lambda z: z.softmax(1)).eval(), images(), ["features"]).notes
    assert [note for note in notes if str(note).startswith("probability: the model returns")]
    assert not camreport.explain(Net().eval(), images(), ["features"]).notes
