"""Whether the places that a map marks matter to the score, asked with masks of no map's choice.

The masks are the same for every image, map and class, so that the forwards of an image serve all
its maps with one matrix product, and the effect of each cell on each score is measured besides.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from camreport.metrics.grids import enlarged
from camreport.metrics.ranks import spearman
from camreport.metrics.registry import Number, metric
from camreport.metrics.values import Undefined, Values

Size = tuple[int, int]

MASKS = 128
"""Number of masks; the second half are complements of the first."""

COVERED = 0.2
"""Fraction of the cells that each mask of the first half covers."""

RIDGE = 1.0
"""Weight λ of the squared effects beside the squared errors; a mask counts 1 for each cell."""

MIN_SPREAD = 1e-9
"""Smallest difference between sums over masks, as a fraction of them, that is no rounding."""


@dataclass(frozen=True)
class SharedMasks:
    """The masks of a run, and what turns the drops of the score under them into effects.

    Attributes:
        grid: rows and columns of cells.
        covered: the cells that each mask covers, bool ``(M, cells)``; mask ``M/2 + j`` covers
            what mask ``j`` leaves.
        fit: from the drops under all masks to the effects of the cells, ``(cells, M)``.
        left_out: from the drops under all masks to each one's prediction from those masks that
            are neither itself nor its complement, ``(M, M)``.
    """

    grid: Size
    covered: NDArray[np.bool_]
    fit: NDArray[np.float64]
    left_out: NDArray[np.float64]


def mask_grid(size: Size, last_grid: Size) -> Size:
    """Return the cells that masks cover: 8 × 8, or 7 × 7 where the last layer's grid is 7 × 7.

    Args:
        size: ``(H, W)`` of the image; a cell has one pixel at least.
        last_grid: ``(h, w)`` of the last layer explained.
    """
    side = 7 if last_grid == (7, 7) else 8
    return min(side, size[0]), min(side, size[1])


@lru_cache(maxsize=8)
def shared_masks(grid: Size, seed: int) -> SharedMasks:
    """Draw the masks of a run, and solve once for the effects of their cells.

    The effects β minimise ``Σ_j (d_j - m - Σ_{cells in S_j} β)² + λ Σ β²`` with a level m for each
    half, for what covering four fifths takes is no multiple of what covering one fifth takes.
    Their sum, which the levels leave open, is what a mask and its complement take together.
    """
    cells, half = grid[0] * grid[1], MASKS // 2
    count = max(1, round(COVERED * cells))
    random, first = np.random.default_rng(seed), np.zeros((half, cells), dtype=bool)
    for row in first:
        row[random.permutation(cells)[:count]] = True
    covered = np.concatenate([first, ~first])
    centre = np.kron(np.eye(2), np.eye(half) - 1 / half)  # takes the mean of each half away
    design = centre @ covered
    root = np.linalg.cholesky(design.T @ design + RIDGE * np.eye(cells))
    shape = np.linalg.solve(root.T, np.linalg.solve(root, design.T))  # (cells, M)
    residual = centre - design @ shape  # from drops to what neither level nor effects explain
    pairs = np.arange(MASKS).reshape(2, half).T  # (M / 2, 2)
    own = residual[pairs[:, :, None], pairs[:, None]]  # (M / 2, 2, 2)
    errors = np.linalg.solve(own, residual[pairs])  # (M / 2, 2, M)
    left_out = np.eye(MASKS)
    left_out[pairs] -= errors
    total = np.full(MASKS, 1 / half)
    fit = shape + (total - shape.sum(0)) / cells
    return SharedMasks(grid, covered, fit, left_out)


def cell_of_pixel(grid: Size, size: Size) -> NDArray[np.intp]:
    """Return the number of the cell that each pixel lies in, ``(H, W)``, row by row."""
    rows, columns = (np.arange(n) * cells // n for n, cells in zip(size, grid, strict=True))
    return rows[:, None] * grid[1] + columns


def cell_means(maps: NDArray[np.float32], grid: Size, size: Size) -> NDArray[np.float64]:
    """Return the mean of each map in each cell, enlarged bilinearly as it is drawn.

    Args:
        maps: raw maps ``(..., h, w)``.
        grid: rows and columns of cells.
        size: ``(H, W)`` of the image.

    Returns:
        ``(..., cells)``, row by row.
    """
    down, across = (
        _averaging(source, pixels, cells)
        for source, pixels, cells in zip(maps.shape[-2:], size, grid, strict=True)
    )
    means = down @ maps.astype(np.float64) @ across.T
    return means.reshape(*maps.shape[:-2], -1)


@metric(
    "masked",
    "full",
    Number("effect", -1, 1, better="high", chance=0),
    beside=(Number("effect.ceiling", -1, 1), Number("effect.additivity", -math.inf, 1)),
)
def effect(sums: NDArray[np.float64], drops: NDArray[np.float64]) -> Values:
    """Correlate what maps claim of masks with what covering them takes from the score.

    μF = Spearman_j(Σ_{cells in S_j} R, s_c(x) - s_c(x without S_j)), within the masks that cover
    a fifth of the cells and within their complements, averaged: pooled, the size of the masks
    alone would correlate.

    Args:
        sums: of a map over the cells of each mask, ``(..., M)``; NaN where a map is not finite.
        drops: of the class's score under each mask, of a shape that broadcasts.

    Returns:
        numbers ``(...)``, -1 to 1; 0 is chance.

    Source: Bhatt et al., Evaluating and Aggregating Feature-based Model Explanations, 2020,
        https://arxiv.org/abs/2005.00631, with shared masks of exact size.
    """
    unknown = ~(np.isfinite(sums).all(-1) & np.isfinite(drops).all(-1))
    claimed, found = _halves(np.nan_to_num(sums)), _halves(np.nan_to_num(drops))
    least = MIN_SPREAD * np.abs(claimed).max(-1)
    constant = (np.ptp(claimed, -1) <= least) | (np.ptp(found, -1) == 0)
    return Values.of(
        spearman(claimed, found).mean(-1),
        (Undefined.NOT_FINITE, unknown),
        (Undefined.CONSTANT, constant.any(-1)),
    )


def effect_ceiling(masks: SharedMasks, drops: NDArray[np.float64]) -> Values:
    """Return what the measured effects themselves reach on masks that they were not fitted to.

    The drop under each mask is predicted from the masks other than itself and its complement, and
    the predictions are correlated with the drops as ``effect`` correlates a map's. A map that
    knew the effect of every cell could not be expected to reach more.

    Args:
        masks: of the run.
        drops: of the class's score under each mask, ``(..., M)``.

    Returns:
        numbers ``(...)``, -1 to 1.
    """
    return effect(drops @ masks.left_out.T, drops)


def additivity(masks: SharedMasks, drops: NDArray[np.float64]) -> Values:
    """Return how far the effects of cells add up: R² of the predictions of masks left out.

    Args:
        masks: of the run.
        drops: of the class's score under each mask, ``(..., M)``.

    Returns:
        numbers ``(...)``, up to 1; 0 where the mean of each half predicts as well.
    """
    known, halves = np.isfinite(drops).all(-1), _halves(np.nan_to_num(drops))
    errors = halves - _halves(np.nan_to_num(drops) @ masks.left_out.T)
    spread = np.square(halves - halves.mean(-1, keepdims=True)).sum((-2, -1))
    constant = (np.ptp(halves, -1) == 0).all(-1)
    share = np.square(errors).sum((-2, -1)) / np.where(constant, 1, spread)
    return Values.of(1 - share, (Undefined.NOT_FINITE, ~known), (Undefined.CONSTANT, constant))


def measured_effect(masks: SharedMasks, drops: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the effect of each cell on the score, ``(..., rows, columns)``, signed.

    Args:
        masks: of the run.
        drops: of the class's score under each mask, ``(..., M)``.
    """
    effects = drops @ masks.fit.T
    return effects.reshape(*drops.shape[:-1], *masks.grid).astype(np.float32)


def _averaging(source: int, pixels: int, cells: int) -> NDArray[np.float64]:
    """Return the matrix ``(cells, source)`` that enlarges to pixels and averages them in cells."""
    pixel_values = enlarged(np.eye(source)[:, None], 1, pixels)[:, 0].T  # (pixels, source)
    cell = np.arange(pixels) * cells // pixels
    member = np.equal.outer(np.arange(cells), cell)
    averaging: NDArray[np.float64] = (member / member.sum(1, keepdims=True)) @ pixel_values
    return averaging


def _halves(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values ``(..., M)`` as ``(..., 2, M / 2)``: under masks, and their complements."""
    return values.reshape(*values.shape[:-1], 2, -1)
