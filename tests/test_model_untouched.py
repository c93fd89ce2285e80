"""The engine: the model and the images come back as they were found."""

from dataclasses import replace

import pytest
import torch
from helpers.engine import (
    FailsBackward,
    LivedIn,
    Returns,
    assert_as_found,
    assert_same_maps,
    raise_,
    random_images,
    state_of,
)
from helpers.nets import EVERY
from torch import nn
from torch.testing import assert_close

from camreport import explain
from camreport.errors import (
    ClassError,
    LayerError,
    MemoryLimitError,
    MethodError,
    ModelError,
)
from camreport.methods import METHODS


@pytest.mark.parametrize("targets", [[0, 3], [1]])
def test_explain_returns_the_model_as_it_was_found(targets):
    net = LivedIn()
    before = state_of(net)
    explain(net, random_images(), ["features.0", "features.5:pre"], EVERY, targets)
    assert_as_found(net, before)
    explain(net, random_images(), None, EVERY, targets)
    assert_as_found(net, before)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"targets": [99]}, ClassError),
        ({"targets": "most"}, ClassError),
        ({"layers": ["nonsense"]}, LayerError),
        ({"layers": ["features.0", "classifier.2"]}, LayerError),
        ({"layers": ["features.0", "spare"]}, LayerError),
        ({"layers": ["features.0#7"]}, LayerError),
        ({"methods": ["nonsense"]}, MethodError),
        ({"images": torch.zeros(0, 3, 12, 12)}, ModelError),
        ({"images": torch.zeros(2, 5, 12, 12)}, RuntimeError),
    ],
    ids=str,
)
def test_explain_returns_the_model_as_it_was_found_when_an_argument_is_wrong(arguments, error):
    net = LivedIn()
    before = state_of(net)
    with pytest.raises(error):
        explain(net, **{"images": random_images(), "layers": ["features.0"]} | arguments)
    assert_as_found(net, before)


NAMED = ["features.0", "features.5"]


@pytest.mark.parametrize(
    ("layers", "last", "error"),
    [
        (NAMED, raise_(ValueError("broken")), ValueError),
        (NAMED, raise_(KeyboardInterrupt()), KeyboardInterrupt),
        (NAMED, raise_(MemoryError()), MemoryLimitError),
        (NAMED, FailsBackward.apply, ValueError),
        (NAMED, lambda logits: (logits, logits), ModelError),
        (NAMED, lambda logits: logits.detach(), LayerError),
        (None, raise_(ValueError("broken")), ValueError),
        (None, raise_(KeyboardInterrupt()), KeyboardInterrupt),
        (None, lambda logits: (logits, logits), ModelError),
    ],
    ids=[
        "forward fails",
        "forward interrupted",
        "out of memory",
        "backward fails",
        "no logits",
        "detached",
        "choosing layers fails",
        "choosing layers interrupted",
        "no logits after choosing layers",
    ],
)
def test_explain_returns_the_model_as_it_was_found_when_a_pass_fails(layers, last, error):
    net = LivedIn()
    net.last = Returns(last)
    before = state_of(net)
    with pytest.raises(error):
        explain(net, random_images(), layers, EVERY, [0, 1])
    assert_as_found(net, before)


def test_explain_returns_the_model_as_it_was_found_when_a_method_fails(monkeypatch):
    broken = replace(METHODS["layer_cam"], compute=raise_(ValueError("broken")))
    monkeypatch.setitem(METHODS, "layer_cam", broken)
    net = LivedIn()
    before = state_of(net)
    with pytest.raises(ValueError, match="broken"):
        explain(net, random_images(), ["features.0", "features.5"])
    assert_as_found(net, before)


def test_explain_gives_in_training_mode_what_it_gives_in_evaluation_mode():
    images = random_images()
    training = explain(LivedIn(), images, ["features.0", "features.5"], EVERY, [0, 1])
    evaluation = explain(LivedIn().eval(), images, ["features.0", "features.5"], EVERY, [0, 1])
    assert_same_maps(training, evaluation, exactly=True)
    assert not torch.equal(LivedIn()(images).float(), training.logits)  # dropout would show


@pytest.mark.parametrize("requires_grad", [False, True])
def test_explain_leaves_the_images_as_they_were(requires_grad):
    net = nn.Sequential(nn.Identity(), LivedIn())  # passes on the very tensor it gets
    images = random_images()
    images.requires_grad_(requires_grad)
    before = images.detach().clone()
    explain(net, images, ["0", "1.features.0"], targets=[0, 1])
    assert torch.equal(images.detach(), before)
    assert images.requires_grad == requires_grad
    assert images.grad is None


@pytest.mark.parametrize("layers", [["1.features.0"], None], ids=["named", "auto"])
def test_explain_leaves_the_images_as_they_were_when_the_model_writes_to_its_input(layers):
    net = nn.Sequential(Returns(lambda x: x.sub_(0.5)), LivedIn())
    images = random_images()
    before = images.clone()
    e = explain(net, images, layers)
    assert torch.equal(images, before)
    assert_close(e.logits, net.eval()(before).float())
