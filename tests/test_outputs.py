"""What models may return: the logits inside structures, and a single logit."""

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from helpers.checkout import INPUTS
from helpers.inputs import inputs_of
from helpers.nets import toy_net
from helpers.runs import manifest_of
from torch import Tensor, nn
from torch.testing import assert_close

import camreport
from camreport.errors import ModelError
from camreport.images.preprocessing import Preprocessing
from camreport.network.logits import logits_of

CAT = INPUTS / "cat.jpg"


# What models return

Pair = namedtuple("Pair", ["features", "scores"])


@dataclass
class Returned:
    """What some libraries return."""

    scores: Tensor
    features: Tensor
    loss: None = None


class Table(OrderedDict):
    """What Hugging Face's models return: a dictionary with attributes."""

    def __getattr__(self, name: str) -> object:
        """Return an entry."""
        return self[name]


class Returning(nn.Module):
    """A network that returns its logits inside a structure."""

    def __init__(self, net: nn.Module, pack: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.net = net
        self.pack = pack

    def forward(self, images: Tensor) -> object:
        """Return the structure."""
        return self.pack(self.net(images))


def decoy(logits: Tensor) -> Tensor:
    """Return something that could be logits, and is not."""
    return logits.flip(1) * 3 + 1


STRUCTURES: dict[str, tuple[Callable[[Tensor], object], str | None]] = {
    "tuple": (lambda x: (decoy(x), x), "1"),
    "tuple, first": (lambda x: (x, decoy(x)), "0"),
    "list": (lambda x: [x, decoy(x)], "0"),
    "tuple with one that can be": (lambda x: (x, x.new_zeros(len(x), 2, 3, 3)), None),
    "dictionary": (lambda x: {"features": decoy(x), "scores": x}, "scores"),
    "dictionary with logits": (lambda x: {"features": decoy(x), "logits": x}, None),
    "dictionary with one that can be": (lambda x: {"loss": None, "out": x}, None),
    "dataclass": (lambda x: Returned(scores=x, features=decoy(x)), "scores"),
    "namedtuple": (lambda x: Pair(features=decoy(x), scores=x), "scores"),
    "namedtuple by number": (lambda x: Pair(features=decoy(x), scores=x), "1"),
    "Hugging Face": (lambda x: Table(features=decoy(x), logits=x), None),
    "Hugging Face, by name": (lambda x: Table(features=decoy(x), scores=x), "scores"),
}


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("which", STRUCTURES)
def test_structure_is_explained_like_the_logits_in_it(images: Tensor, which: str) -> None:
    pack, output = STRUCTURES[which]
    with torch.random.fork_rng(devices=[]):
        net = toy_net()
    methods = ["grad_cam", "layer_cam"]
    expected = camreport.explain(net, images, layers=["0", "3"], methods=methods, targets="all")
    found = camreport.explain(
        Returning(net, pack),
        images,
        layers=["net.0", "net.3"],
        methods=methods,
        targets="all",
        output=output,
    )
    assert_close(found.logits, expected.logits, rtol=0, atol=1e-7)
    for method in methods:
        for layer in ("0", "3"):
            own = expected.maps[method][layer]
            assert own.abs().max() > 0
            assert_close(found.maps[method][f"net.{layer}"], own, rtol=0, atol=1e-7)


@pytest.mark.parametrize("method", ["ablation_cam", "recipro_cam"])
def test_structure_is_perturbed_like_the_logits_in_it(images: Tensor, method: str) -> None:
    with torch.random.fork_rng(devices=[]):
        net = toy_net()
    wrapped = Returning(net, lambda x: {"features": decoy(x), "scores": x})
    expected = camreport.explain(net, images, layers=["0", "3"], methods=method, targets="all")
    found = camreport.explain(
        wrapped,
        images,
        layers=["net.0", "net.3"],
        methods=method,
        targets="all",
        output="scores",
    )
    for layer in ("0", "3"):
        own = expected.maps[method][layer]
        assert own.std() > 0
        assert_close(found.maps[method][f"net.{layer}"], own, rtol=1e-5, atol=1e-6)


UNCLEAR: dict[str, tuple[Callable[[Tensor], object], str]] = {
    "tuple": (lambda x: (x, decoy(x)), r"a tuple of 0 \(\d, 4\), 1 \(\d, 4\)\. .*--output 0"),
    "dictionary": (
        lambda x: {"a": x, "b": decoy(x), "loss": None},
        r"a dict of a \(\d, 4\), b \(\d, 4\), loss NoneType\. .*--output a",
    ),
    "dataclass": (
        lambda x: Returned(scores=x, features=decoy(x)),
        r"a Returned of scores \(\d, 4\), features \(\d, 4\), loss NoneType\.",
    ),
    "none that can be": (lambda x: {"a": x.new_zeros(3, 3, 3)}, r"a dict of a \(3, 3, 3\)\."),
}


@pytest.mark.parametrize("which", UNCLEAR)
def test_unclear_output_lists_its_parts(images: Tensor, which: str) -> None:
    pack, message = UNCLEAR[which]
    with torch.random.fork_rng(devices=[]):
        model = Returning(toy_net(), pack)
    with pytest.raises(ModelError, match=message):
        camreport.explain(model, images, layers=["net.0"], methods="grad_cam")


def test_unknown_part_is_refused_with_those_that_are_there(images: Tensor) -> None:
    with torch.random.fork_rng(devices=[]):
        model = Returning(toy_net(), lambda x: {"a": x, "loss": None})
    with pytest.raises(
        ModelError, match=r"^output: expected one of a \(\d, 4\), loss NoneType, got 'logits'"
    ):
        camreport.explain(model, images, layers=["net.0"], methods="grad_cam", output="logits")


def test_part_that_is_no_tensor_is_refused_as_output(images: Tensor) -> None:
    with torch.random.fork_rng(devices=[]):
        model = Returning(toy_net(), lambda x: {"a": x, "loss": None})
    with pytest.raises(ModelError, match=r"expected logits \(N, num_classes\), got NoneType"):
        camreport.explain(model, images, layers=["net.0"], methods="grad_cam", output="loss")


def test_run_records_the_output(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        net = toy_net().float()
    model = Returning(net, lambda x: {"features": decoy(x), "scores": x})
    options = {"layers": ["net.3"], "methods": "grad_cam", "image_size": 12}
    camreport.run(CAT, tmp_path / "out", model=model, output="scores", **options)
    camreport.run(CAT, tmp_path / "plain", model=net, **(options | {"layers": ["3"]}))
    manifest, plain = manifest_of(tmp_path / "out"), manifest_of(tmp_path / "plain")
    assert manifest["model"]["output"] == "scores"
    assert "output" not in plain["model"]
    assert "--output scores" in manifest["command"]
    assert manifest["images"][0]["top"] == plain["images"][0]["top"]
    camreport.run(CAT, tmp_path / "other", model=model, output="features", **options)
    other = manifest_of(tmp_path / "other")
    assert other["images"][0]["top"] != plain["images"][0]["top"]


# One logit


def one_logit(shape: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        tail: list[nn.Module] = [nn.Linear(5 * 36, 6), nn.Tanh(), nn.Linear(6, 1)]
        if shape == "(N,)":
            tail.append(nn.Flatten(0))
        if shape == "(N, 1, 1, 1)":
            tail.append(nn.Unflatten(1, (1, 1, 1)))
        return nn.Sequential(
            nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), *tail
        ).double()


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("shape", ["(N, 1)", "(N,)", "(N, 1, 1, 1)"])
def test_one_logit_becomes_two_classes(images: Tensor, shape: str, count: int) -> None:
    model, images = one_logit(shape), images[:count]
    activation = model[0](images).relu()
    logit = model[2:](activation).reshape(count)
    (gradient,) = torch.autograd.grad(logit.sum(), activation)
    expected = (gradient.mean((2, 3), keepdim=True) * activation).sum(1) / 2  # (N, h, w)
    found = camreport.explain(model, images, layers=["1"], methods="grad_cam", targets="all")
    cams = found.maps["grad_cam"]["1"].double()  # (N, 2, h, w)
    assert expected.abs().max() > 1e-4
    assert_close(cams[:, 1], expected.detach(), rtol=1e-4, atol=1e-8)
    assert_close(cams[:, 0], -expected.detach(), rtol=1e-4, atol=1e-8)
    assert_close(
        found.logits.double().softmax(1)[:, 1], logit.detach().sigmoid(), rtol=0, atol=1e-6
    )


def test_one_logit_without_an_axis_becomes_two_classes() -> None:
    z = torch.tensor(1.7)
    assert_close(logits_of(z, 1), torch.tensor([[-0.85, 0.85]]))
    with pytest.raises(
        ModelError, match=r"expected logits \(N, num_classes\) with N = 2, got \(\)"
    ):
        logits_of(z, 2)


def test_one_logit_in_a_structure_becomes_two_classes(images: Tensor) -> None:
    model = Returning(one_logit("(N, 1)"), lambda z: {"loss": None, "prob": z.sigmoid(), "z": z})
    found = camreport.explain(model, images, layers=["net.1"], methods="grad_cam", output="z")
    with torch.no_grad():
        z = model.net(images).float()
    assert_close(found.logits, torch.cat([-z / 2, z / 2], 1), rtol=0, atol=1e-6)
    assert_close(found.targets[:, 0], (z[:, 0] > 0).long())


def test_one_logit_is_reported_as_two_classes(tmp_path: Path) -> None:
    model = one_logit("(N,)").float()
    camreport.run(
        CAT,
        tmp_path / "out",
        model=model,
        layers=["1"],
        methods="grad_cam",
        image_size=12,
        class_names=["no", "yes"],
    )
    top = manifest_of(tmp_path / "out")["images"][0]["top"]
    found = {entry["name"]: entry["probability"] for entry in top}
    with torch.no_grad():
        yes = model(inputs_of(Preprocessing(size=(12, 12)), [CAT])).sigmoid().item()
    assert found == pytest.approx({"yes": yes, "no": 1 - yes}, abs=1e-4)
