"""Order: exact counts, random ties, closed forms, and the areas that torchcam computes."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from helpers.evidence_batches import batch_of
from helpers.nets import pooled_net
from helpers.planted import PATCH, SIZE, bright_images, evidence_batch, patch, planted_net
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from torch import Tensor, nn
from torchcam.metrics import DeletionInsertionMetric

from camreport.engine.explainer import Explainer
from camreport.metrics.order import covered_counts, order
from camreport.metrics.ranks import tied_share
from camreport.metrics.values import Undefined, Values
from camreport.pipeline.evidence.batch import Measured
from camreport.pipeline.evidence.orders import measure_orders
from camreport.pipeline.evidence.ranked import keys_with_order, pixel_levels, pixel_ranks
from camreport.results.schema import MapKey

PIXELS = SIZE * SIZE
Maps = NDArray[np.float32]


def random_maps(count: int, seed: int = 0) -> Maps:
    """Return maps of noise on a grid of 8 × 8, ``(n, 1, 8, 8)``."""
    return np.random.default_rng(seed).standard_normal((count, 1, 8, 8)).astype(np.float32)


def measured(maps: dict[str, Maps], inputs: Maps, **further: object) -> Measured:
    """Measure the order of maps of the planted network at its layer ``1``."""
    keyed = {MapKey(name, "1"): own for name, own in maps.items()}
    return measure_orders(evidence_batch(planted_net(), "1", inputs, keyed, **further))


@pytest.mark.parametrize(
    ("pixels", "counts"),
    [
        (100, [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]),
        (1024, [0, 103, 206, 309, 412, 515, 618, 721, 824, 927, 1024]),
        (3, [0, 1, 2, 3]),
    ],
)
def test_a_tenth_of_the_pixels_rounded_up_is_covered_in_each_step(pixels, counts):
    assert covered_counts(pixels).tolist() == counts


def test_areas_are_those_of_the_trapezoid_rule_over_true_fractions():
    counts = np.array([0, 4, 8, 10])
    curves = np.random.default_rng(0).random((2, 5, 3, 4)).astype(np.float32)
    reasons = np.zeros((5, 3, 4), np.uint8)
    curves[:, 2, 1], reasons[2, 1] = np.nan, Undefined.CONSTANT
    found = order(Values(curves[0], reasons), Values(curves[1], reasons), counts)
    morf, lerf = (trapezoid(curve, counts / 10, axis=-1) for curve in curves)
    np.testing.assert_allclose(found["order.deletion"].numbers, morf, atol=1e-6)
    np.testing.assert_allclose(found["order.insertion"].numbers, lerf, atol=1e-6)
    np.testing.assert_allclose(found["order"].numbers, lerf - morf, atol=1e-6)
    assert all(values.reasons[2, 1] == Undefined.CONSTANT for values in found.values())


# What a network is known to look at


def test_the_patch_that_a_network_reads_has_the_greatest_srg_that_there_is():
    """The first step covers the patch, and in reverse only the last one does."""
    inputs = bright_images(3)
    inside = np.tile(patch(), (3, 1, 1, 1))
    found = measured({"true": inside, "rest": 1 - inside}, inputs)
    read = inputs[:, :, *PATCH].astype(np.float64).mean((1, 2, 3)) * 4
    shown, covered = 1 / (1 + np.exp(-2 * read)), 0.5
    first, last = 103 / PIXELS, (PIXELS - 927) / PIXELS
    greatest = (shown - covered) * (1 - first / 2 - last / 2)
    np.testing.assert_allclose(found.values["order/true/1"].numbers[:, 0], greatest, atol=1e-6)
    deletion = covered + (shown - covered) * first / 2
    np.testing.assert_allclose(
        found.values["order.deletion/true/1"].numbers[:, 0], deletion, atol=1e-6
    )
    assert (found.values["order/rest/1"].numbers[:, 0] < -0.9 * greatest).all()
    tied = found.values["order.tied/true/1"].numbers
    np.testing.assert_allclose(tied, 1, err_msg="all of a map of two values is tied")
    morf, lerf = (found.values[f"order.{kind}/true/1"].numbers[:, 0] for kind in ("morf", "lerf"))
    np.testing.assert_allclose(morf[:, [0, -1]], lerf[:, [0, -1]])


def test_a_random_order_is_at_chance():
    found = measured({"noise": random_maps(60)}, bright_images(60)).values["order/noise/1"]
    spread = found.numbers.std() / np.sqrt(60)
    assert abs(found.numbers.mean()) < 4 * spread < 0.2


def test_srg_orders_a_map_its_half_and_noise():
    """The two questions of MetaQuantus: noise lowers the number, a trace of it does not."""
    seeds = 40
    cells = patch().reshape(8, 4, 8, 4).mean((1, 3))[None, None]
    noise = random_maps(seeds, 3) * cells.std()
    whole = np.repeat(cells, seeds, 0)
    mixed = {"whole": whole, "trace": cells + 0.01 * noise, "half": cells + noise, "none": noise}
    found = measured({k: m.astype(np.float32) for k, m in mixed.items()}, bright_images(seeds))
    numbers = {key: found.values[f"order/{key}/1"].numbers[:, 0] for key in mixed}
    ordered = (numbers["whole"] >= numbers["half"]) & (numbers["half"] > numbers["none"])
    assert ordered.mean() >= 0.95
    assert np.abs(numbers["whole"] - numbers["trace"]).max() < 0.02


# Passes, ties and what is left out


def test_all_orders_of_an_image_share_their_end_points():
    maps = {key: random_maps(2, seed) for seed, key in enumerate("abc")}
    done: list[float] = []
    found = measured(maps, bright_images(2), progress=done.append)
    assert found.cost.variants == sum(done) == 2 * (1 + 3 * 18)


def test_ties_are_broken_by_the_seed_and_the_image_and_not_by_position():
    maps = {"half": np.repeat(np.float32([[[[0, 1]]]]), 3, 0)}
    inputs = np.repeat(bright_images(1), 3, 0)
    one = measured(maps, inputs).values["order.morf/half/1"].numbers
    again = measured(maps, inputs).values["order.morf/half/1"].numbers
    other = measured(maps, inputs, seed=1).values["order.morf/half/1"].numbers
    np.testing.assert_array_equal(one, again)
    assert (one[0] != other[0]).any()
    assert (one[0] != one[1]).any(), "every image has an order of its own"
    alone = measured({"half": maps["half"][1:2]}, inputs[1:2], indices=np.array([1]))
    np.testing.assert_allclose(alone.values["order.morf/half/1"].numbers[0], one[1], atol=1e-6)


def test_maps_without_an_order_take_no_passes_and_say_why():
    maps = np.stack([np.full((1, 4, 4), value, np.float32) for value in (2, np.nan)])
    found = measured({"flat": maps}, bright_images(2))
    why = [[Undefined.CONSTANT], [Undefined.NOT_FINITE]]
    for name, values in found.values.items():
        assert values.reasons[..., 0].reshape(2, 1).tolist() == why, name
        assert np.isnan(values.numbers).all()
    assert found.cost.variants == 0


def test_only_the_most_probable_class_is_measured_unless_every_map_is():
    maps = {"noise": np.repeat(random_maps(2), 2, 1), "control:edges": random_maps(2, 1)}
    found = measured(maps, bright_images(2), targets=(1, 0)).values["order/noise/1"]
    assert (found.reasons == [[Undefined.NOT_MEASURED, Undefined.DEFINED]] * 2).all()
    every = measured(maps, bright_images(2), targets=(1, 0), every_map=True).values
    assert not every["order/noise/1"].reasons.any()
    numbers = every["order/noise/1"].numbers
    np.testing.assert_allclose(numbers[:, 1], found.numbers[:, 1], atol=1e-6)
    np.testing.assert_allclose(numbers[:, 0], -numbers[:, 1], atol=1e-5)
    assert not every["order/control:edges/1"].reasons.any(), "a control has one map for all classes"


def test_of_each_row_the_last_layer_and_the_fused_map_are_measured():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Identity(), nn.Flatten(), nn.Linear(144, 2)
    )
    explainer = Explainer(net, ["0:pre", "0", "2"], ["grad_cam"], input_shape=(3, 8, 8))
    assert list(explainer.plan.duplicates) == ["2"]
    names = "a/0:pre a/0 a/2 a/fused b/0:pre c/input control:random/0 control:random/fused".split()
    keys = [MapKey(*name.split("/")) for name in names]
    chosen = [str(key) for key in keys_with_order(keys, explainer.plan)]
    assert chosen == [name for name in names if name not in ("a/0:pre", "a/2")]


# Beside torchcam


class FixedCam:
    """What torchcam's metric asks of an extractor, with a map that is given."""

    def __init__(self, model: nn.Module, cam: Tensor) -> None:
        self.model, self.cam = model, cam

    def __call__(self, *_: object, **__: object) -> list[Tensor]:
        """Return the map."""
        return [self.cam]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        """Return the only map."""
        return cams[0]

    def _hooks_off(self) -> nullcontext[None]:
        return nullcontext()


def test_deletion_and_insertion_are_torchcams():
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=4), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 81, 2)
    ).double()
    random = np.random.default_rng(5)
    inputs = random.standard_normal((4, 3, 40, 40)).astype(np.float32)
    maps = random.permuted(np.tile(np.arange(1600, dtype=np.float32), (4, 1)), axis=1)
    maps = maps.reshape(4, 1, 40, 40)
    found = measure_orders(evidence_batch(net, "0", inputs, {MapKey("a", "0"): maps})).values
    for image in range(4):
        extractor = FixedCam(net, torch.from_numpy(maps[image]).double())
        peer = DeletionInsertionMetric(extractor, lambda logits: logits.softmax(-1), steps=10)
        peer.update(torch.from_numpy(inputs[image : image + 1]).double(), 0)
        for kind, area in peer.summary().items():
            name = f"order.{kind.removesuffix('_auc')}/a/0"
            assert found[name].numbers[image, 0] == pytest.approx(area, abs=1e-5)


def test_the_tied_share_and_the_order_are_those_of_a_map_without_its_rounding():
    random = np.random.default_rng(0)
    cam = random.normal(size=(12, 12)).astype(np.float32)
    cam[:, 5:] = 0.3
    shaken = [cam * (1 + random.uniform(-1e-7, 1e-7, cam.shape)) for _ in range(4)]
    batch = batch_of(pooled_net(), ("grad_cam",), ("0",))
    levels = pixel_levels(batch, [cam, *(one.astype(np.float32) for one in shaken)])
    shares = [float(tied_share(own)) for own in levels]
    assert shares[0] > 0.5
    assert shares == [shares[0]] * 5
    ranks = pixel_ranks(batch, 0, levels)
    np.testing.assert_array_equal(ranks[1:], ranks[:1].repeat(4, 0))
