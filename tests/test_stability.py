"""Stability: captum's number, noise in units of pixels, copies left out, and the mirror."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from captum.metrics import sensitivity_max
from helpers.engine import random_images
from helpers.evidence_batches import METHODS, batch_of, random_maps
from helpers.nets import record_batches, toy_net
from helpers.planted import bright_images, linear_net, planted_net
from scipy.stats import spearmanr
from torch import Tensor

import camreport
from camreport.engine.cost import Cost
from camreport.images.preprocessing import Preprocessing
from camreport.metrics.stability import stability
from camreport.metrics.values import Undefined
from camreport.pipeline.evidence.stability import COPIES, NOISE, measure_stability, noise_of


def test_stability_is_the_greatest_relative_change_and_scipys_mean_correlation():
    maps, copies = random_maps(0, 2, 3, 4, 5), random_maps(1, 4, 2, 3, 4, 5)
    mirrored = random_maps(2, 2, 3, 4, 5)
    kept = np.array([[1, 1, 0, 1], [0, 1, 1, 1]], dtype=bool).T
    found = stability(maps, copies, kept, mirrored)
    for image in range(2):
        for slot in range(3):
            own = maps[image, slot].astype(np.float64)
            others = [c[image, slot] for c, k in zip(copies, kept[:, image], strict=True) if k]
            changes = [np.linalg.norm(own - other) / np.linalg.norm(own) for other in others]
            ranks = [spearmanr(own.ravel(), other.ravel()).statistic for other in others]
            flipped = np.fliplr(own).ravel()
            mirror = spearmanr(mirrored[image, slot].ravel(), flipped).statistic
            expected = {
                "stability": max(changes),
                "stability.correlation": 1 - np.mean(ranks),
                "stability.mirror": mirror,
            }
            for name, number in expected.items():
                assert found[name].numbers[image, slot] == pytest.approx(number, abs=1e-6), name


def test_what_is_undefined_says_why():
    maps, copies, mirrored = (
        random_maps(0, 5, 1, 3, 3),
        random_maps(1, 2, 5, 1, 3, 3),
        random_maps(2, 5, 1, 3, 3),
    )
    maps[0], maps[1] = 0, 3
    maps[2, 0, 0, 0] = np.nan
    copies[1, 4] = np.inf
    kept = np.ones((2, 5), dtype=bool)
    kept[:, 3] = False
    kept[1, 4] = False
    found = {
        name: values.reasons[:, 0].tolist()
        for name, values in stability(maps, copies, kept, mirrored).items()
    }
    constant, other, changed = Undefined.CONSTANT, Undefined.NOT_FINITE, Undefined.CLASS_CHANGED
    assert found["stability"] == [constant, 0, other, changed, 0]
    assert found["stability.correlation"] == [constant, constant, other, changed, 0]
    assert found["stability.mirror"] == [constant, constant, other, 0, 0]


@pytest.mark.parametrize("method", METHODS)
def test_stability_is_captums_maximum_sensitivity(method):
    net = toy_net()
    batch = batch_of(net, preprocessing=Preprocessing(std=(0.05, 0.06, 0.07)))
    found = measure_stability(batch).values
    assert not found["stability.changed"].numbers.any(), "captum leaves no copy out"
    shape = batch.inputs.shape[1:]
    noise = np.stack(
        [
            [noise_of(shape, batch.preprocessing, batch.seed, int(i), k) for k in range(COPIES)]
            for i in batch.indices
        ]
    )

    def add(images: Tensor, _radius: float) -> Tensor:
        return images + torch.from_numpy(noise).flatten(0, 1).to(images)

    for layer in ("0", "3"):
        for slot in range(2):

            def maps(
                images: Tensor | tuple[Tensor], layer: str = layer, slot: int = slot
            ) -> Tensor | tuple[Tensor]:
                if isinstance(images, tuple):  # captum takes and gives a tuple at first
                    return (maps(images[0]),)
                return camreport.explain(net, images, [layer], [method], [slot]).maps[method][layer]

            inputs = torch.from_numpy(batch.inputs).double()
            expected = sensitivity_max(maps, inputs, add, n_perturb_samples=COPIES)
            own = found[f"stability/{method}/{layer}"].numbers[:, slot]
            np.testing.assert_allclose(own, expected.numpy(), rtol=1e-5)
            assert own.max() > 0.01


@pytest.mark.parametrize("classes", [1, 2])
def test_it_takes_one_forward_and_a_backward_for_each_class_of_five_images(classes):
    net, done = toy_net(), []
    batch = batch_of(net)
    batch = replace(
        batch,
        targets=batch.targets[:, :classes],
        maps={key: maps[:, :classes] for key, maps in batch.maps.items()},
        progress=done.append,
    )
    tried, _ = record_batches(net)
    cost = measure_stability(batch).cost
    assert tried == [3] * 5
    assert cost == Cost(forwards=5, backwards=5 * classes, maps=5 * 3 * classes * len(batch.maps))
    assert sum(done) == 15


@pytest.mark.parametrize(
    ("preprocessing", "levels"),
    [
        (Preprocessing(mean=(0, 0, 0), std=(1, 1, 1)), [1, 1, 1]),
        (Preprocessing(std=(0.2, 0.25, 0.5)), [5, 4, 2]),
        (Preprocessing(mean=(104, 117, 123), std=(1, 1, 1), scale=255), [255, 255, 255]),
    ],
)
def test_noise_is_two_hundredths_of_white_in_units_of_the_model_input(preprocessing, levels):
    noise = noise_of((3, 64, 64), preprocessing, 0, 5, 1)
    for channel, level in zip(noise, levels, strict=True):
        assert NOISE * 0.99 < np.abs(channel).max() / level <= NOISE
        assert abs(channel.mean()) / level < NOISE / 20
        assert channel.std() / level == pytest.approx(NOISE / np.sqrt(3), rel=0.03)
    assert not np.array_equal(noise, noise_of((3, 64, 64), preprocessing, 0, 5, 2))
    assert not np.array_equal(noise, noise_of((3, 64, 64), preprocessing, 0, 6, 1))


def test_results_do_not_depend_on_batch_mates():
    batch = batch_of(toy_net(), indices=np.array([4, 9, 2]))
    whole, order = measure_stability(batch).values, [2, 0]
    some = replace(
        batch,
        inputs=batch.inputs[order],
        maps={key: maps[order] for key, maps in batch.maps.items()},
        controls={key: maps[order] for key, maps in batch.controls.items()},
        targets=batch.targets[order],
        logits=batch.logits[order],
        indices=batch.indices[order],
    )
    for name, values in measure_stability(some).values.items():
        np.testing.assert_allclose(values.numbers, whole[name].numbers[order], atol=1e-5)


def test_copies_that_change_the_most_probable_class_are_left_out_and_counted():
    """The logit is w·x and almost 0, so that noise decides its sign."""
    weight = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(1))
    net = linear_net(weight)
    inputs = bright_images(12)
    excess = (inputs * weight.numpy()).sum((1, 2, 3), keepdims=True) / float(weight.square().sum())
    inputs = (inputs - excess * weight.numpy()).astype(np.float32)
    batch = batch_of(
        net, ("hires_cam",), ("0",), inputs, preprocessing=Preprocessing(std=(1, 1, 1))
    )
    batch = replace(batch, logits=np.tile(np.float32([1, 0]), (12, 1)))
    noise = np.stack(
        [
            [noise_of((3, 32, 32), batch.preprocessing, 7, image, k) for k in range(COPIES)]
            for image in range(12)
        ]
    )
    scores = ((inputs[:, None] + noise) * weight.numpy()).sum((2, 3, 4))
    kept = scores > 0
    found = measure_stability(batch).values
    assert found["stability.changed"].numbers[:, 0].tolist() == (~kept).sum(1).tolist()
    assert {0 < row.sum() < COPIES for row in kept} == {True, False}
    change = np.linalg.norm((noise * weight.numpy()).sum(2), axis=(-2, -1))
    norm = np.linalg.norm((inputs * weight.numpy()).sum(1), axis=(-2, -1))
    greatest = np.where(kept, change, 0).max(1) / norm
    some = kept.any(1)
    own = found["stability/hires_cam/0"]
    np.testing.assert_allclose(own.numbers[some, 0], greatest[some], rtol=1e-3)
    assert (own.reasons[~some] == Undefined.CLASS_CHANGED).all()


def test_mirror_of_networks_of_which_the_answer_is_known():
    """A planted patch on the right stays there in the mirror; a pointwise network turns with it."""
    inputs = bright_images(3)
    turning = linear_net(torch.ones(3, 32, 32))
    found = measure_stability(batch_of(turning, ("hires_cam",), ("0",), inputs)).values
    np.testing.assert_allclose(found["stability.mirror/hires_cam/0"].numbers, 1, atol=1e-6)
    planted = measure_stability(batch_of(planted_net(), ("hires_cam",), ("1",), inputs)).values
    assert (planted["stability.mirror/hires_cam/1"].numbers[:, 0] < 0.4).all()


def test_controls_without_a_photograph_are_perfectly_stable_and_edges_nearly_so():
    found = measure_stability(batch_of(toy_net(), inputs=random_images().float().numpy())).values
    for name in ("random", "gaussian"):
        assert (found[f"stability/control:{name}/3"].numbers == 0).all()
    edges = found["stability/control:edges/3"].numbers
    assert ((edges > 0) & (edges < 0.5)).all()
    np.testing.assert_allclose(found["stability.mirror/control:gaussian/3"].numbers, 1, atol=1e-6)
    np.testing.assert_allclose(found["stability.mirror/control:edges/0"].numbers, 1, atol=1e-6)
    assert (found["stability.mirror/control:random/0"].numbers < 0.5).all()
