"""Models whose forward hooks, retains or differentiates its own tensors, as tutorials teach it."""

import warnings
from collections.abc import Callable

import pytest
import torch
from helpers.checkout import INPUTS
from torch import Tensor, nn
from torch.testing import assert_close

import camreport
from camreport.errors import ModelError
from camreport.images.preprocessing import Preprocessing
from camreport.methods import METHODS
from camreport.models.loaded import count_classes
from camreport.results.reader import load_results

PHOTOGRAPH = next(iter(sorted(INPUTS.glob("*.jpg"))))


class Plain(nn.Module):
    """A small network whose forward does something with its feature maps ``x``."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(6, 3)
        self.gradients: Tensor | None = None

    def own(self, x: Tensor) -> Tensor:
        """Do nothing."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Run both stages with something between pooling and features."""
        x = self.own(self.second(self.first(x)))
        return self.fc(self.pool(x).flatten(1))


class Hooked(Plain):
    """The class of the best-known Grad-CAM tutorial."""

    def keep(self, gradient: Tensor) -> None:
        """Keep a gradient."""
        self.gradients = gradient

    def own(self, x: Tensor) -> Tensor:
        """Hook the feature maps."""
        x.register_hook(self.keep)
        return x


class Retaining(Plain):
    """Retains the gradient of its feature maps."""

    def own(self, x: Tensor) -> Tensor:
        """Retain it."""
        x.retain_grad()
        return x


class Differentiating(Plain):
    """Scales its feature maps by a gradient that it computes in its forward."""

    def own(self, x: Tensor) -> Tensor:
        """Take the gradient of a sum of squares, which is 2x."""
        (gradient,) = torch.autograd.grad(x.square().sum(), x, create_graph=True)
        return gradient / 2


class HookedFirst(Hooked):
    """Hooks in front of every layer but the first."""

    def forward(self, x: Tensor) -> Tensor:
        """Hook the first stage's output."""
        x = self.second(self.own(self.first(x)))
        return self.fc(self.pool(x).flatten(1))


MODELS = (Hooked, Retaining, Differentiating, HookedFirst)


def images(count: int = 2) -> Tensor:
    """Return images of noise."""
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("layers", [["second"], ["first", "second"], None])
@pytest.mark.parametrize("targets", [[1], [0, 1, 2]])
def test_models_that_hook_their_own_tensors_are_explained_by_all_methods(
    model: Callable[[], Plain], layers: list[str] | None, targets: list[int]
) -> None:
    plain = camreport.explain(Plain(), images(), ["first", "second"], "all", targets)
    found = camreport.explain(model(), images(), layers, "all", targets)
    left_out = {skip.method for skip in found.skipped}
    assert left_out <= {"guided_backprop", "guided_grad_cam", "cam"}
    assert all(str(skip.reason).endswith(".") for skip in found.skipped)
    compared = 0
    for key, by_layer in found.maps.items():
        for layer in by_layer.keys() & {"first", "second", "input"}:
            assert_close(by_layer[layer], plain.maps[key][layer], rtol=1e-4, atol=1e-5)
            compared += 1
    assert compared >= len(METHODS) // 2


@pytest.mark.parametrize("model", MODELS)
def test_classes_of_models_that_hook_their_own_tensors_are_counted(model) -> None:
    assert count_classes(model(), Preprocessing(size=(16, 16))) == 3


def test_a_run_explains_a_model_of_ones_own_that_hooks_its_tensors(tmp_path, monkeypatch) -> None:
    (tmp_path / "tutorial.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.features = nn.Conv2d(3, 4, 3, stride=4)\n"
        "        self.fc = nn.Linear(4, 2)\n"
        "    def keep(self, gradient):\n"
        "        self.gradient = gradient\n"
        "    def forward(self, x):\n"
        "        x = self.features(x).relu()\n"
        "        x.register_hook(self.keep)\n"
        "        return self.fc(x.mean((2, 3)))\n"
    )
    monkeypatch.chdir(tmp_path)
    camreport.run(PHOTOGRAPH, "out", model="tutorial.py:Net", methods="grad_cam,score_cam")
    assert load_results(tmp_path / "out").images[0].readable


def test_counting_classes_leaves_the_statistics_of_a_model_in_training_alone() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2 * 36, 4))
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert count_classes(net, Preprocessing(size=(8, 8))) == 4
    assert net.training
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


class Failing(nn.Module):
    """A model whose forward fails in its own way."""

    def __init__(self, fail: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.fail = fail

    def forward(self, x: Tensor) -> object:
        """Fail."""
        return self.fail(x)


class TwoInputs(nn.Module):
    """Takes more than images."""

    def forward(self, x: Tensor, meta: Tensor) -> Tensor:
        """Add them."""
        return x.mean((2, 3)) + meta


class Keywords(nn.Module):
    """Takes its images by a keyword."""

    def forward(self, *, pixel_values: Tensor) -> Tensor:
        """Average them."""
        return pixel_values.mean((2, 3))


def refuse(x: Tensor) -> None:
    """Fail by an assertion without words."""
    raise AssertionError


def raise_(error: Exception) -> Callable[[Tensor], object]:
    """Return a forward that raises an error."""

    def fail(x: Tensor) -> object:
        raise error

    return fail


OTHER_DEVICE = "Expected all tensors to be on the same device, but found two, cuda:0 and cpu!"


@pytest.mark.parametrize(
    ("model", "advice"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(10, 2)), "Is that its size?"),
        (nn.Conv2d(3, 2, 90), "Is that its size?"),
        (Failing(lambda x: x.view(1, 7)), "Is that its size?"),
        (Failing(raise_(AssertionError("Input height (8) doesn't match"))), "Is that its size?"),
        (TwoInputs(), "wrap it in a module whose forward takes nothing else"),
        (Keywords(), "wrap it in a module whose forward takes nothing else"),
        (nn.Conv2d(1, 2, 3), "Images have three channels here"),
        (nn.Conv2d(6, 2, 3), "Images have three channels here"),
        (Failing(raise_(RuntimeError(OTHER_DEVICE))), "Move all of its tensors to one device"),
        (Failing(refuse), "--debug shows where"),
        (Failing(raise_(KeyError("image"))), "--debug shows where"),
        (Failing(raise_(NotImplementedError("later."))), "--debug shows where"),
    ],
)
def test_a_first_pass_that_fails_names_its_cause(model: nn.Module, advice: str) -> None:
    with pytest.raises(ModelError) as refused, warnings.catch_warnings():
        count_classes(model, Preprocessing(size=(8, 8)))
    said = str(refused.value)
    assert advice in said
    assert ("Is that its size?" in said) == (advice == "Is that its size?")
    assert ".." not in said
