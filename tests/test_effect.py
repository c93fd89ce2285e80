"""Effect: masks of exact size, one product for all maps, and the values of closed forms."""

import numpy as np
import pytest
import torch
from helpers.planted import SIZE, bright_images, evidence_batch, linear_net, patch, planted_net
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch.nn.functional import interpolate

from camreport.metrics.effect import (
    MASKS,
    additivity,
    cell_means,
    cell_of_pixel,
    effect,
    effect_ceiling,
    mask_grid,
    measured_effect,
    shared_masks,
)
from camreport.metrics.values import Undefined
from camreport.pipeline.evidence.effect import measure_effect
from camreport.results.schema import MapKey

HALF = MASKS // 2
Array = NDArray[np.float64]


def random_effects(seed: int, *shape: int) -> Array:
    """Return standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize(("grid", "count"), [((8, 8), 13), ((7, 7), 10), ((3, 2), 1)])
def test_each_mask_covers_exactly_a_fifth_and_its_complement_the_rest(grid, count):
    covered = shared_masks(grid, 3).covered
    assert covered.shape == (MASKS, grid[0] * grid[1])
    assert (covered[:HALF].sum(1) == count).all()
    assert (covered[HALF:] == ~covered[:HALF]).all()


def test_masks_depend_on_the_seed_and_on_nothing_else():
    one, again, other = (shared_masks.__wrapped__((8, 8), seed).covered for seed in (1, 1, 2))
    assert (one == again).all()
    assert (one != other).any()


def test_cells_are_seven_by_seven_where_the_last_grid_is():
    assert mask_grid((224, 224), (7, 7)) == (7, 7)
    assert mask_grid((224, 224), (14, 14)) == mask_grid((96, 300), (13, 13)) == (8, 8)
    assert mask_grid((5, 224), (2, 7)) == (5, 8), "a cell has one pixel at least"


@pytest.mark.parametrize("source", [(13, 13), (3, 5), (1, 1), (20, 33)])
def test_cell_means_are_those_of_the_map_as_torch_enlarges_it(source):
    grid, size = (8, 7), (20, 33)
    maps = random_effects(0, 2, 3, *source).astype(np.float32)
    large = interpolate(torch.from_numpy(maps).double(), size, mode="bilinear").numpy()
    cells = cell_of_pixel(grid, size)
    assert (np.unique(cells) == np.arange(56)).all()
    expected = np.stack([large[..., cells == cell].mean(-1) for cell in range(56)], -1)
    np.testing.assert_allclose(cell_means(maps, grid, size), expected, atol=1e-6)


def test_effect_is_scipys_rank_correlation_in_each_half():
    sums, drops = random_effects(1, 2, 3, MASKS).round(1), random_effects(2, 3, MASKS)
    found = effect(sums, drops).numbers
    for row in range(2):
        for one in range(3):
            halves = (slice(HALF), slice(HALF, None))
            each = [spearmanr(sums[row, one, h], drops[one, h]).statistic for h in halves]
            assert found[row, one] == pytest.approx(np.mean(each), abs=1e-6)


def test_the_size_of_the_masks_alone_says_nothing_for_a_map():
    covered = shared_masks((8, 8), 0).covered
    drops = covered @ np.ones(64) + random_effects(3, 200, MASKS) * 0.1
    sums = np.abs(random_effects(4, 200, 64)) @ covered.T
    pooled = spearmanr(sums[0], drops[0]).statistic
    assert pooled > 0.6
    assert abs(effect(sums, drops).numbers.mean()) < 0.03


def test_maps_without_an_order_have_no_effect_and_say_why():
    covered = shared_masks((8, 8), 0).covered
    cells = np.stack([np.full(64, 0.1), np.full(64, np.nan), random_effects(0, 64)])
    sums = cells @ covered.T
    found = effect(sums, random_effects(1, MASKS))
    assert found.reasons.tolist() == [Undefined.CONSTANT, Undefined.NOT_FINITE, Undefined.DEFINED]
    unmoved = effect(sums[2], np.zeros(MASKS))
    assert unmoved.reasons == Undefined.CONSTANT


def test_measured_effects_and_ceiling_of_effects_that_add_up():
    masks, cells = shared_masks((8, 8), 0), random_effects(5, 20, 64)
    drops = cells @ masks.covered.T
    found = measured_effect(masks, drops).reshape(20, 64)
    likeness = [np.corrcoef(one, own)[0, 1] for one, own in zip(found, cells, strict=True)]
    assert min(likeness) > 0.88, "the ridge alone stands between the two"
    np.testing.assert_allclose(found.sum(-1), cells.sum(-1), rtol=1e-4, atol=1e-4)
    assert np.median(effect_ceiling(masks, drops).numbers) > 0.9
    assert np.median(additivity(masks, drops).numbers) > 0.85


def test_what_is_fitted_minimises_squared_errors_with_a_level_for_each_half():
    masks, drops = shared_masks((8, 8), 4), random_effects(6, MASKS)
    levels = np.kron(np.eye(2), np.ones((HALF, 1)))
    penalty = np.concatenate([np.eye(64), np.zeros((64, 2))], 1)
    design = np.concatenate([np.concatenate([masks.covered, levels], 1), penalty])
    solved = np.linalg.lstsq(design, np.concatenate([drops, np.zeros(64)]), rcond=None)[0][:64]
    found = measured_effect(masks, drops).ravel()
    np.testing.assert_allclose(found - found.mean(), solved - solved.mean(), atol=1e-5)
    rows = np.delete(np.arange(MASKS), [7, 7 + HALF])
    kept = np.concatenate([design[rows], design[MASKS:]])
    beta = np.linalg.lstsq(kept, np.concatenate([drops[rows], np.zeros(64)]), rcond=None)[0]
    predicted = (masks.left_out @ drops)[[7, 7 + HALF]]
    np.testing.assert_allclose(predicted, design[[7, 7 + HALF]] @ beta, atol=1e-8)


def test_drops_that_are_noise_have_no_ceiling():
    masks, noise = shared_masks((8, 8), 0), random_effects(7, 200, MASKS)
    assert abs(effect_ceiling(masks, noise).numbers.mean()) < 0.03
    assert np.median(additivity(masks, noise).numbers) <= 0


# What a network is known to look at


def test_the_true_map_of_a_linear_network_has_an_effect_of_one():
    """The score w·x loses exactly the sum of w·x under a mask, whatever weights and image."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, SIZE, SIZE, generator=generator)
    inputs = bright_images(3)
    true = (inputs * weight.numpy()).sum(1)[:, None]
    maps = {
        MapKey("hires_cam", "0"): np.concatenate([true, -true], 1),
        MapKey("grad_cam", "0"): np.concatenate([-true, true], 1),
        MapKey("measured", "input"): np.zeros((3, 2, 8, 8), np.float32),
    }
    batch = evidence_batch(linear_net(weight), "0", inputs, maps, targets=(0, 1))
    found = measure_effect(batch)
    np.testing.assert_allclose(found.values["effect/hires_cam/0"].numbers, 1, atol=1e-3)
    np.testing.assert_allclose(found.values["effect/grad_cam/0"].numbers, -1, atol=1e-3)
    assert "effect/measured/input" not in found.values
    assert found.values["effect.ceiling"].numbers.min() > 0.8
    measured = found.maps["measured/input"]
    assert measured.shape == (3, 2, 8, 8)
    np.testing.assert_allclose(measured[:, 0], -measured[:, 1], atol=1e-4)
    assert (found.cost.variants, found.cost.maps) == (3 * MASKS, 0)


def test_the_patch_that_a_network_reads_has_the_greatest_effect_and_the_rest_none():
    inside = np.tile(patch(), (4, 1, 1, 1))
    rest, noise = 1 - inside, random_effects(8, 4, 1, 8, 8).astype(np.float32)
    maps = {MapKey(name, "1"): m for name, m in (("a", inside), ("b", rest), ("c", noise))}
    controls = {MapKey("control:random", "1"): noise}
    done: list[float] = []
    batch = evidence_batch(
        planted_net(), "1", bright_images(4), maps, controls=controls, progress=done.append
    )
    values = measure_effect(batch).values
    assert values["effect/a/1"].numbers.min() > 0.97, "brightness varies a little in the patch"
    assert values["effect/b/1"].numbers.max() < -0.97
    assert abs(values["effect/c/1"].numbers.mean()) < 0.3
    np.testing.assert_array_equal(
        values["effect/c/1"].numbers, values["effect/control:random/1"].numbers
    )
    assert sum(done) == 4 * MASKS


def test_evidence_does_not_depend_on_batch_mates():
    inputs = bright_images(3)
    noise = random_effects(9, 3, 1, 5, 5).astype(np.float32)
    together = measure_effect(evidence_batch(planted_net(), "1", inputs, {MapKey("a", "1"): noise}))
    alone = measure_effect(
        evidence_batch(planted_net(), "1", inputs[1:2], {MapKey("a", "1"): noise[1:2]})
    )
    for name, values in alone.values.items():
        np.testing.assert_allclose(values.numbers, together.values[name].numbers[1:2], atol=1e-4)


def test_effect_orders_a_map_its_half_and_noise():
    """The two questions of MetaQuantus: noise lowers the number, a trace of it does not."""
    masks, seeds = shared_masks((8, 8), 0), 100
    cells = np.exp(-np.square(np.indices((8, 8)) - [[[3]], [[4]]]).sum(0) / 4).ravel()
    drops = cells @ masks.covered.T + random_effects(1, seeds, MASKS) * 0.05
    noise = random_effects(2, seeds, 64) * cells.std()
    mixed = [cells + 0 * noise, cells + 0.01 * noise, (cells + noise) / 2, noise]
    whole, trace, half, none = (effect(one @ masks.covered.T, drops).numbers for one in mixed)
    assert np.mean((whole > half) & (half > none)) >= 0.95
    assert np.abs(whole - trace).max() < 0.02
