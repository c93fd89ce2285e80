"""``camreport.evaluate``: the numbers of a run, from Python."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.inputs import inputs_of
from helpers.nets import pooled_net, toy_net
from helpers.runs import QUICK, run, tiny, write_images

import camreport
from camreport.errors import MetricError, ModelError
from camreport.metrics.values import WORDS
from camreport.results.evidence import CONTROL
from camreport.results.reader import load_results

NOT_PHOTOS = "control:edges"
"""Differs: a run's edges are those of its photographs as kept, ours those of the input."""


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Three images for the nets, ``(3, 3, 12, 12)``."""
    return torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(1)).double()


def test_numbers_are_those_of_a_run(tmp_path: Path) -> None:
    photos, model = write_images(tmp_path / "photos", 3), tiny(3)
    run(photos, tmp_path / "out", model, evidence="full", evidence_maps="all", classes=[2, 0])
    files = sorted(photos.iterdir())
    images = inputs_of(model.preprocessing, files)
    explained = camreport.explain(model, images, ["0", "2"], QUICK, [2, 0])
    found = camreport.evaluate(model, images, explained, "full")
    names = {"features.0": "0", "features.2": "2", "fused": "fused"}
    whole = load_results(tmp_path / "out").shard_evidence(0)
    compared = 0
    for key, own in whole.numbers.items():
        if not key.row:
            numbers = found.images[key.number]
        elif key.row.startswith(CONTROL):
            if key.row == NOT_PHOTOS:
                continue
            name = key.row.removeprefix(CONTROL)
            numbers = found.controls[name][key.number][names[key.layer]]
        else:
            numbers = found.values[key.number][key.row][names[key.layer]]
            reasons = found.reasons[key.number][key.row][names[key.layer]]
            np.testing.assert_array_equal(reasons, WORDS[own.reasons])
        if key.number != "learned.edges":
            np.testing.assert_allclose(numbers, own.numbers, atol=1e-4, err_msg=str(key))
            compared += 1
    assert compared > 100
    for key, curve in whole.curves.items():
        if not key.row.startswith(CONTROL):
            ours = found.curves[key.number][key.row][names[key.layer]]
            np.testing.assert_allclose(ours, curve, atol=1e-4)


def test_the_default_is_basic_and_names_choose(images: torch.Tensor) -> None:
    net = pooled_net()
    explained = camreport.explain(net, images, ["0", "3"], targets="all")
    basic = camreport.evaluate(net, images, explained)
    assert {number.partition(".")[0] for number in basic.values} == {
        "contrast",
        "learned",
        "extent",
    }
    assert {*basic.controls} == {"random", "gaussian", "edges"}
    few = camreport.evaluate(net, images, explained, ["extent"])
    assert {number.partition(".")[0] for number in few.values} == {"extent"}
    shape = (3, 4)
    assert few.values["extent"]["layer_cam"]["fused"].shape == shape
    np.testing.assert_array_equal(
        few.values["extent"]["grad_cam"]["3"], basic.values["extent"]["grad_cam"]["3"]
    )
    assert [str(note) for note in few.notes] == [
        "preprocessing: none is known, ImageNet's is assumed"
    ]


def test_undefined_numbers_have_reasons(images: torch.Tensor) -> None:
    net = toy_net()
    explained = camreport.explain(net, images, ["3"], targets=[1])
    found = camreport.evaluate(net, images, explained, "contrast")
    assert np.isnan(found.values["contrast"]["grad_cam"]["3"]).all()
    assert (found.reasons["contrast"]["grad_cam"]["3"] == "no_other_class").all()
    both = camreport.explain(net, images, ["3"], targets=[1, 2])
    found = camreport.evaluate(net, images, both, "contrast")
    assert (found.reasons["contrast"]["grad_cam"]["3"] == "").all()


def test_numbers_do_not_depend_on_batch_mates(images: torch.Tensor) -> None:
    net = pooled_net()
    explained = camreport.explain(net, images, ["3"], targets="all")
    whole = camreport.evaluate(net, images, explained, "full")
    one = camreport.explain(net, images[:1], ["3"], targets="all")
    first = camreport.evaluate(net, images[:1], one, "full")
    for number, by_method in first.values.items():
        own = whole.values[number]["layer_cam"]["3"][:1]
        np.testing.assert_allclose(by_method["layer_cam"]["3"], own, atol=1e-4, err_msg=number)


@pytest.mark.parametrize("metric", ["order", "road", "contrast", "learned"])
def test_numbers_are_those_of_other_batches_in_another_order(metric: str) -> None:
    """Half of each image is one colour, so that many cells are equal but for rounding."""
    random, net = torch.Generator().manual_seed(3), pooled_net().float()
    images = torch.rand(3, 3, 24, 24, generator=random)
    images[:, :, :, 10:] = 0.7
    layers, methods = ["0", "3"], QUICK
    if metric == "road":  # what it removes is filled in slowly
        layers, methods = ["0"], ["layer_cam"]
    explained = camreport.explain(net, images, layers, methods, targets=[0, 1])
    whole = camreport.evaluate(net, images, explained, metric)
    for rows in ([0], [0, 2, 1]):  # the first stays, for its index seeds its noise
        few = camreport.explain(net, images[rows], layers, methods, targets=[0, 1])
        found = camreport.evaluate(net, images[rows], few, metric)
        for number, by_method in found.values.items():
            for method, by_layer in by_method.items():
                for layer, own in by_layer.items():
                    same = whole.values[number][method][layer][:1]
                    np.testing.assert_allclose(own[:1], same, atol=1e-3, err_msg=number)


def test_the_model_comes_back_as_it_was(images: torch.Tensor) -> None:
    net = toy_net().train()
    explained = camreport.explain(net, images, ["3"])
    before = {name: value.clone() for name, value in net.state_dict().items()}
    camreport.evaluate(net, images, explained, "full")
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_what_only_a_run_can_measure_is_refused_by_name(images: torch.Tensor) -> None:
    net = toy_net()
    explained = camreport.explain(net, images, ["3"])
    with pytest.raises(
        MetricError, match=r"metrics: expected .*, got 'grid'\. Only camreport\.run"
    ):
        camreport.evaluate(net, images, explained, ["grid"])
    with pytest.raises(MetricError, match="Did you mean 'contrast'"):
        camreport.evaluate(net, images, explained, "contrats")


def test_other_images_than_explained_are_refused(images: torch.Tensor) -> None:
    net = toy_net()
    explained = camreport.explain(net, images, ["3"])
    with pytest.raises(ModelError, match="images: expected the 3 that were explained, got 2"):
        camreport.evaluate(net, images[:2], explained)
