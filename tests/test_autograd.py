"""Networks whose autograd has a will of its own: the maps equal plain autograd, or one sentence."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch
from helpers.limits import explain_within, limits
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from camreport import explain
from camreport.engine.explained import LOOPED
from camreport.errors import LayerError, ModelError
from camreport.methods import METHODS

NO_GRADIENT = ("eigen_cam", "score_cam", "ablation_cam", "recipro_cam")


class Clipped(torch.autograd.Function):
    """Its backward looks at a value, which a vectorised backward has not got."""

    @staticmethod
    def forward(_context: object, x: Tensor) -> Tensor:
        """Return the input."""
        return x.view_as(x)

    @staticmethod
    def backward(_context: object, gradient: Tensor) -> Tensor:
        """Halve a gradient of at least one element."""
        return gradient / 2 if gradient.norm().item() >= 0 else gradient


class Numpy(torch.autograd.Function):
    """Computes outside torch."""

    @staticmethod
    def forward(_context: object, x: Tensor) -> Tensor:
        """Double the input."""
        return torch.from_numpy(x.detach().numpy() * 2)

    @staticmethod
    def backward(_context: object, gradient: Tensor) -> Tensor:
        """Double the gradient."""
        return torch.from_numpy(gradient.detach().numpy() * 2)


class Masked(torch.autograd.Function):
    """Writes to a part of the gradient."""

    @staticmethod
    def forward(context: object, x: Tensor) -> Tensor:
        """Return the input."""
        context.save_for_backward(x)
        return x.view_as(x)

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        """Drop the gradient where the input is large."""
        (x,) = context.saved_tensors
        gradient = gradient.clone()
        gradient[x > 0.5] = 0
        return gradient


class Net(nn.Module):
    """Two convolutions, then a head behind a function of choice."""

    def __init__(self, between: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
        )
        self.between = between
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Pool with uneven weights, so that gradients vary over space."""
        x = self.between(self.features, x)
        return self.fc((x * x.sigmoid()).mean((2, 3)))


def after(function: type[torch.autograd.Function]) -> Callable[[nn.Module, Tensor], Tensor]:
    """Apply a function behind the features."""
    return lambda features, x: function.apply(features(x))


def images(count: int = 3) -> Tensor:
    """Noise, ``(N, 3, 16, 16)``."""
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def plain_grad_cam(net: nn.Module, x: Tensor, targets: Sequence[int]) -> Tensor:
    """Return Grad-CAM of the last features by ``.backward()``, one image and class at a time."""
    cams = torch.zeros(len(x), len(targets), 7, 7)
    for n, image in enumerate(x):
        for k, target in enumerate(targets):
            kept: list[Tensor] = []

            def keep(
                _module: nn.Module, _inputs: object, output: Tensor, kept: list = kept
            ) -> None:
                if output.requires_grad:  # a re-entrant checkpoint runs a second time, with grad
                    output.retain_grad()
                    kept.append(output)

            handle = net.features[3].register_forward_hook(keep)
            net(image[None].requires_grad_())[0, target].backward()
            handle.remove()
            weights = kept[-1].grad.mean((2, 3), keepdim=True)
            cams[n, k] = (weights * kept[-1]).sum(1)[0].detach()
    return cams


def assert_maps_are_plain(net: nn.Module) -> None:
    """Compare Grad-CAM with plain autograd, for one class and for several."""
    net.eval()
    for targets in ([1], [0, 2, 1]):
        expected = plain_grad_cam(net, images(), targets)
        found = explain(net, images(), ["features.3"], ["grad_cam"], targets)
        cams = found.maps["grad_cam"]["features.3"]
        assert expected.abs().amax() > 0
        assert_close(cams, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("function", [Clipped, Numpy, Masked], ids=lambda kind: kind.__name__)
def test_functions_that_cannot_be_batched_give_the_maps_of_plain_autograd(function):
    net = Net(after(function))
    assert_maps_are_plain(net)
    if function is not Masked:  # what torch can batch changes; nothing is said where it can
        assert explain(net, images(), ["features.3"], targets=[0, 1]).notes == (LOOPED,)
    assert explain(net, images(), ["features.3"], targets=[0]).notes == ()


def test_a_failed_batching_is_tried_once_in_a_run(monkeypatch):
    batched: list[bool] = []
    original = torch.autograd.grad

    def grad(*args: object, **options: object) -> object:
        batched.append(bool(options["is_grads_batched"]))
        return original(*args, **options)

    monkeypatch.setattr(torch.autograd, "grad", grad)
    given = (Net(after(Clipped)), images(6), ["features.3"], "grad_cam,finer_cam", [0, 1])
    e = explain_within(limits(first_batch=1), *given)
    assert batched.count(True) == 1
    assert e.cost.forwards == 2
    assert e.notes == (LOOPED,)


def test_detection_of_anomalies_changes_no_map():
    net = Net(lambda features, x: features(x)).eval()
    expected = plain_grad_cam(net, images(), [0, 1])
    with pytest.warns(UserWarning, match="Anomaly Detection"), torch.autograd.detect_anomaly():
        found = explain(net, images(), ["features.3"], ["grad_cam"], [0, 1])
    assert_close(found.maps["grad_cam"]["features.3"], expected, rtol=1e-5, atol=1e-7)


def test_a_backward_pass_that_always_fails_is_one_sentence():
    class Broken(Clipped):
        @staticmethod
        def backward(_context: object, gradient: Tensor) -> Tensor:
            raise RuntimeError("derivative is not there\nand more")

    for targets in ([0], [0, 1]):
        with pytest.raises(
            ModelError, match=r"backward pass .*: derivative is not there.*eigen_cam"
        ):
            explain(Net(after(Broken)), images(), ["features.3"], "grad_cam", targets)


def reentrant(features: nn.Module, x: Tensor) -> Tensor:
    """Run features in a re-entrant activation checkpoint, torch's old default."""
    return checkpoint(features, x, use_reentrant=True)


def test_reentrant_checkpoints_give_the_maps_of_backward():
    found = torch.utils.checkpoint.CheckpointFunction
    assert_maps_are_plain(Net(reentrant))
    methods = [key for key, method in METHODS.items() if key != "cam" and method.scope == "layer"]
    one = explain(Net(reentrant), images(), ["features.3"], methods, [0, 1])
    other = explain(Net(lambda features, x: features(x)), images(), ["features.3"], methods, [0, 1])
    assert_close(one.maps, other.maps, rtol=1e-4, atol=1e-6)
    assert torch.utils.checkpoint.CheckpointFunction is found, "checkpointing is on again"


def test_checkpointing_is_on_again_after_a_failure():
    found = torch.utils.checkpoint.CheckpointFunction

    def fails(features: nn.Module, x: Tensor) -> Tensor:
        assert torch.utils.checkpoint.CheckpointFunction is not found
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain(Net(fails), images(), ["features.3"])
    assert torch.utils.checkpoint.CheckpointFunction is found


@contextmanager
def inference() -> Iterator[None]:
    """Turn inference mode on."""
    with torch.inference_mode():
        yield


def frozen(mode: Callable[[], AbstractContextManager[object]]) -> Callable[..., Tensor]:
    """Run the features in a mode without gradients."""

    def run(features: nn.Module, x: Tensor) -> Tensor:
        with mode():
            x = features(x)
        return x.clone()

    return run


WITHOUT_GRADIENTS = {
    "no_grad": frozen(torch.no_grad),
    "inference_mode": frozen(inference),
    "detach": lambda features, x: features(x).detach(),
}


@pytest.mark.parametrize("way", WITHOUT_GRADIENTS)
@pytest.mark.parametrize("layer", ["features", "features.1"])
def test_methods_without_gradients_work_behind_a_cut(way, layer):
    plain = Net(lambda features, x: features(x))
    for key in NO_GRADIENT:
        e = explain(Net(WITHOUT_GRADIENTS[way]), images(), [layer], [key], [0, 2])
        expected = explain(plain, images(), [layer], [key], [0, 2])
        assert_close(e.maps[key][layer], expected.maps[key][layer], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("way", WITHOUT_GRADIENTS)
@pytest.mark.parametrize("targets", [[0], [0, 1]])
def test_methods_with_gradients_say_what_cuts_them_off(way, targets):
    with pytest.raises(LayerError, match=r"none reaches 'features'.*no_grad.*detach.*eigen_cam"):
        explain(Net(WITHOUT_GRADIENTS[way]), images(), ["features"], ["grad_cam"], targets)


class Scaled(nn.Module):
    """Halves its input, in place or beside it."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        """Halve."""
        return x.mul_(0.5) if self.in_place else x * 0.5


@pytest.mark.parametrize("key", METHODS)
def test_a_model_may_write_to_its_input(key):
    def maps(in_place: bool) -> dict[str, Tensor]:
        torch.manual_seed(0)
        features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        net = nn.Sequential(Scaled(in_place), features, *head)
        return explain(net, given, ["1"], [key], [0, 1]).maps[key]

    given = images()
    before = given.clone()
    found, expected = maps(True), maps(False)
    assert found
    assert_close(found, expected, rtol=1e-5, atol=1e-7)
    assert torch.equal(given, before)
