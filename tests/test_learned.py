"""Learned: what a scrambled network's maps are compared with, and what it costs."""

import importlib
import warnings
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.engine import READS
from helpers.evidence_batches import METHODS, batch_of, random_maps
from helpers.nets import EVERY, pooled_net, record_batches, toy_net
from helpers.peers import peer
from helpers.planted import bright_images, linear_net, planted_net
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import nn

from camreport import Explainer, explain
from camreport.engine.cost import Cost
from camreport.metrics.learned import UNCHANGED, learned
from camreport.metrics.values import Undefined
from camreport.network.scrambled import scrambled
from camreport.pipeline.evidence.learned import measure_learned, scramble_seeds
from camreport.pipeline.evidence.repeated import of_shared_passes


def test_learned_is_the_mean_of_scipys_rank_correlations():
    maps, others = random_maps(0, 2, 3, 4, 5), random_maps(1, 3, 2, 3, 4, 5)
    edges = random_maps(2, 2, 1, 4, 5)
    found = learned(maps, others, edges)
    for image in range(2):
        for slot in range(3):
            own = maps[image, slot].ravel()
            each = [spearmanr(own, other[image, slot].ravel()).statistic for other in others]
            assert found["learned"].numbers[image, slot] == pytest.approx(np.mean(each), abs=1e-6)
            like_edges = spearmanr(own, edges[image, 0].ravel()).statistic
            assert found["learned.edges"].numbers[image, slot] == pytest.approx(
                like_edges, abs=1e-6
            )


def test_scale_and_level_of_maps_do_not_matter():
    maps, others, edges = (
        random_maps(0, 2, 1, 3, 3),
        random_maps(1, 3, 2, 1, 3, 3),
        random_maps(2, 2, 1, 3, 3),
    )
    one, other = learned(maps, others, edges), learned(maps * 5 - 3, others * 0.25 + 1, edges)
    np.testing.assert_allclose(one["learned"].numbers, other["learned"].numbers, atol=1e-6)


def test_a_constant_map_of_one_scrambled_network_is_left_out():
    maps, others = random_maps(0, 1, 4, 3, 3), random_maps(1, 2, 1, 4, 3, 3)
    others[0, 0, 0] = 2
    others[0, 0, 1], others[:, 0, 2] = np.nan, -1
    maps[0, 3, 1, 1] = np.inf
    found = learned(maps, others, maps)["learned"]
    alone = learned(maps, others[1:], maps)["learned"]
    np.testing.assert_array_equal(found.numbers[0, :2], alone.numbers[0, :2])
    assert found.reasons[0].tolist() == [0, 0, Undefined.CONSTANT, Undefined.NOT_FINITE]


@pytest.mark.parametrize("classes", [1, 2])
def test_it_takes_one_forward_and_a_backward_for_each_class_in_three_networks(classes):
    net, done = toy_net(), []
    batch = batch_of(net)
    batch = replace(
        batch,
        targets=batch.targets[:, :classes],
        maps={key: maps[:, :classes] for key, maps in batch.maps.items()},
        progress=done.append,
    )
    tried, _ = record_batches(net)
    measured = measure_learned(batch)
    assert tried == [3, 3, 3], "three images in each of three networks, and nothing more"
    rows = len(batch.maps)
    assert measured.cost == Cost(forwards=3, backwards=3 * classes, maps=3 * 3 * classes * rows)
    assert sum(done) == 9


def test_scrambled_maps_are_those_of_the_network_with_permuted_weights():
    net = toy_net()
    batch = batch_of(net)
    measured = measure_learned(batch)
    assert scramble_seeds(batch.seed) == (7, 8, 9)
    images = torch.from_numpy(batch.inputs).double()
    for seed in (7, 8, 9):
        with scrambled(net, seed):
            expected = Explainer(net, ["0", "3"], METHODS, input_shape=images.shape[1:]).explain(
                images, [0, 1]
            )
        for key in batch.maps:
            own = measured.maps[f"scrambled.{seed}/{key}"]
            np.testing.assert_allclose(
                own, expected.maps[key.method][key.layer].numpy(), rtol=1e-5, atol=1e-8
            )
    assert len(measured.maps) == 3 * len(batch.maps)
    assert measured.values.keys() == {
        f"{number}/{key}"
        for number in ("learned", "learned.edges")
        for key in (*batch.maps, *batch.controls)
    }


def test_results_do_not_depend_on_batch_mates():
    batch = batch_of(toy_net())
    whole = measure_learned(batch)
    rows = slice(1, 2)
    alone = measure_learned(
        replace(
            batch,
            inputs=batch.inputs[rows],
            maps={key: maps[rows] for key, maps in batch.maps.items()},
            controls={key: maps[rows] for key, maps in batch.controls.items()},
            targets=batch.targets[rows],
            logits=batch.logits[rows],
            indices=batch.indices[rows],
        )
    )
    for name, values in alone.values.items():
        np.testing.assert_allclose(values.numbers, whole.values[name].numbers[rows], atol=1e-6)


def test_controls_know_no_network_and_are_unchanged_by_construction():
    values = measure_learned(batch_of(toy_net())).values
    for name in ("random", "gaussian", "edges"):
        assert (values[f"learned/control:{name}/3"].numbers == 1).all()
    assert (values["learned.edges/control:edges/3"].numbers == 1).all()
    assert (np.abs(values["learned.edges/control:random/0"].numbers) < 0.4).all()


def test_maps_of_a_planted_network_fall_to_chance_when_its_weights_are_permuted():
    net, inputs = planted_net(), bright_images(8)
    batch = batch_of(net, ("hires_cam",), ("1",), inputs)
    found = measure_learned(batch).values["learned/hires_cam/1"].numbers
    assert abs(np.median(found)) < 0.1
    assert (np.abs(found) < UNCHANGED / 2).all()


def test_maps_that_ignore_the_weights_are_unchanged():
    """The layer is the image itself, of a kernel that is no weight but a buffer."""
    net = linear_net(torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(0)))
    kernel = net[0].weight.detach()
    del net[0].weight
    net[0].register_buffer("weight", kernel)
    batch = batch_of(net, ("eigen_cam", "hires_cam"), ("0",), bright_images(4))
    found = measure_learned(batch).values
    assert (found["learned/eigen_cam/0"].numbers == 1).all()
    assert (np.abs(found["learned/hires_cam/0"].numbers) < 0.3).all(), "gradients are weights"


def test_a_network_without_weights_has_a_reason_and_no_number():
    net = nn.Sequential(
        nn.ReLU(), nn.AdaptiveAvgPool2d((2, 1)), nn.Flatten(), nn.Unflatten(1, (2, 3))
    )
    net = nn.Sequential(*net, nn.AvgPool1d(3), nn.Flatten())
    batch = batch_of(net, ("grad_cam",), ("0",))
    found = measure_learned(batch)
    assert not found.maps
    assert {why for v in found.values.values() for why in v.reasons.ravel().tolist()} == {
        int(Undefined.FIXED_WEIGHTS)
    }


def test_methods_with_passes_of_their_own_are_measured_only_where_they_are_asked_for():
    batch = batch_of(pooled_net(), tuple(key for key in EVERY if key != "measured"))
    few = of_shared_passes(batch)
    assert {"score_cam", "ablation_cam", "finer_cam"} <= {key.method for key in batch.maps}
    assert {"score_cam", "ablation_cam", "finer_cam"}.isdisjoint(key.method for key in few.maps)
    assert {"grad_cam", "layer_cam", "eigen_cam"} <= {key.method for key in few.maps}
    assert measure_learned(few).cost.forwards == 3
    every = measure_learned(batch).values
    assert f"learned/score_cam/{next(iter(READS))}" in every


def test_quantus_randomisation_test_with_permuted_weights_has_the_same_mean(monkeypatch):
    quantus = peer("quantus")
    net = toy_net()
    batch = batch_of(net, ("hires_cam",), ("0",))

    def permuted(*_: object, **__: object) -> Iterator[tuple[str, nn.Module]]:
        for seed in scramble_seeds(batch.seed):
            with scrambled(net, seed):
                yield str(seed), deepcopy(net)

    def maps(model: nn.Module, inputs: object, targets: object, **_: object) -> NDArray[np.float32]:
        images, classes = torch.as_tensor(inputs).double(), torch.as_tensor(targets)[:, None]
        return explain(model, images, ["0"], ["hires_cam"], classes).maps["hires_cam"]["0"].numpy()

    wrapper = importlib.import_module("quantus.helpers.model.pytorch_model").PyTorchModel
    monkeypatch.setattr(wrapper, "get_random_layer_generator", permuted)
    metric = quantus.MPRT(
        similarity_func=quantus.similarity_func.correlation_spearman,
        return_average_correlation=True,
        normalise=False,
        abs=False,
        disable_warnings=True,
    )
    with warnings.catch_warnings(action="ignore"):
        theirs = metric(
            model=net,
            x_batch=batch.inputs,
            y_batch=batch.targets[:, 0],
            explain_func=maps,
            channel_first=True,
        )
    ours = measure_learned(batch).values["learned/hires_cam/0"].numbers[:, 0]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
