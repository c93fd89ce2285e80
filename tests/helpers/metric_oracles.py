"""Slow, plain re-implementations of every metric, under its key: what ``metrics`` is held to.

Each takes what the metric's own function takes and returns its numbers by key, NaN where they are
undefined. They are written after the definition, one map at a time, and share no code with it.
"""

import numpy as np
from scipy.stats import entropy as shannon
from scipy.stats import spearmanr
from torch import from_numpy
from torch.nn.functional import interpolate

Numbers = dict[str, np.ndarray]


def contrast(maps: np.ndarray, other: np.ndarray) -> Numbers:
    """Rank correlation (scipy) with the other class's map, and overlap of their top fifths."""
    found = {key: np.full(other.shape, np.nan) for key in ("contrast", "contrast.overlap")}
    for image, slot in np.ndindex(*other.shape):
        if other[image, slot] < 0:
            continue
        one, two = maps[image, slot].ravel(), maps[image, other[image, slot]].ravel()
        if not (np.isfinite(one).all() and np.isfinite(two).all()) or 0 in (
            np.ptp(one),
            np.ptp(two),
        ):
            continue
        found["contrast"][image, slot] = spearmanr(one, two).statistic
        count = max(1, one.size // 5)
        tops = [{*np.flatnonzero(each >= sorted(each)[-count])} for each in (one, two)]
        found["contrast.overlap"][image, slot] = len(tops[0] & tops[1]) / len(tops[0] | tops[1])
    return found


def extent(maps: np.ndarray) -> Numbers:
    """Area (torch enlarges), Gini as the mean difference of two cells, entropy (scipy)."""
    names = ("extent", "extent.gini", "extent.entropy", "extent.gini14", "extent.entropy14")
    found = {key: np.full(maps.shape[:-2], np.nan) for key in names}
    for place in np.ndindex(*maps.shape[:-2]):
        sizes = np.clip(maps[place], 0, None).astype(np.float64)
        if not np.isfinite(maps[place]).all() or sizes.max() <= 0:
            continue
        sides = [max(56, side) for side in sizes.shape]
        strong = enlarged(sizes, *sides) >= sizes.max() / 2
        found["extent"][place] = max(strong.mean(), 1 / strong.size)
        for grid, cells in (("", sizes), ("14", on_common_grid(sizes))):
            found[f"extent.gini{grid}"][place] = gini(cells.ravel())
            if cells.size > 1:
                found[f"extent.entropy{grid}"][place] = concentration(cells.ravel())
    return found


def gini(sizes: np.ndarray) -> float:
    """Half of the mean difference of two cells, relative to the mean."""
    differences = np.abs(sizes[:, None] - sizes)
    return differences.mean() / (2 * sizes.mean())


def concentration(sizes: np.ndarray) -> float:
    """One minus the entropy of the cells' shares in units of that of an even map."""
    return 1 - shannon(sizes) / np.log(sizes.size)


def enlarged(cells: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear, half-pixel centres, by torch."""
    given = from_numpy(cells)[None, None]
    return interpolate(given, (height, width), mode="bilinear", align_corners=False)[0, 0].numpy()


def on_common_grid(cells: np.ndarray, side: int = 14) -> np.ndarray:
    """Average the areas of finer axes, interpolate coarser ones; cells are repeated first."""
    for axis in (0, 1):
        length = cells.shape[axis]
        if length > side:
            fine = np.moveaxis(np.repeat(cells, side, axis), axis, 0)
            cells = np.moveaxis(fine.reshape(side, length, *fine.shape[1:]).mean(1), 0, axis)
    return enlarged(np.ascontiguousarray(cells), side, side)
