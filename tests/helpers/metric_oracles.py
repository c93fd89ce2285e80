"""Slow, plain re-implementations of every metric, under its key: what ``metrics`` is held to.

Each takes what the metric's own function takes and returns its numbers by key, NaN where they are
undefined. They are written after the definition, one map at a time, and share no code with it.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from scipy.integrate import trapezoid
from scipy.stats import entropy as shannon
from scipy.stats import spearmanr
from torch import from_numpy
from torch.nn.functional import interpolate

Numbers = dict[str, np.ndarray]


class Scores(Protocol):
    """Scores of changed images, as what holds them with reasons."""

    numbers: np.ndarray


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


def effect(sums: np.ndarray, drops: np.ndarray) -> Numbers:
    """Rank correlation (scipy) within the masks and within their complements, averaged."""
    sums, drops = np.broadcast_arrays(sums, drops)
    found = np.full(sums.shape[:-1], np.nan)
    for place in np.ndindex(*found.shape):
        halves = zip(np.split(sums[place], 2), np.split(drops[place], 2), strict=True)
        found[place] = np.mean([rank_correlation(one, two) for one, two in halves])
    return {"effect": found}


def order(morf: Scores, lerf: Scores, counts: np.ndarray) -> Numbers:
    """Areas under the curves by numpy's trapezoid rule."""
    deletion, insertion = (
        trapezoid(curve.numbers, counts / counts[-1], axis=-1) for curve in (morf, lerf)
    )
    return {
        "order": insertion - deletion,
        "order.deletion": deletion,
        "order.insertion": insertion,
    }


def grid(maps: np.ndarray, cells: np.ndarray, size: tuple[int, int]) -> Numbers:
    """Sum of the enlarged map (torch) over the pixels of its class's cells, pixel by pixel."""
    found = np.full(maps.shape[:2], np.nan)
    for collage, slot in np.ndindex(*found.shape):
        drawn = enlarged(np.clip(maps[collage, slot], 0, None).astype(np.float64), *size)
        shown = np.kron(cells[collage] == slot, np.ones((size[0] // 2, size[1] // 2)))
        if drawn.sum() > 0:
            found[collage, slot] = (drawn * shown).sum() / drawn.sum()
    return {"grid": found}


def learned(maps: np.ndarray, scrambled: np.ndarray, edges: np.ndarray) -> Numbers:
    """Mean rank correlation (scipy) over the scrambled networks; that with the edges."""
    found = {key: np.full(maps.shape[:2], np.nan) for key in ("learned", "learned.edges")}
    for image, slot in np.ndindex(*maps.shape[:2]):
        own = maps[image, slot]
        found["learned"][image, slot] = mean_correlation(own, [s[image, slot] for s in scrambled])
        found["learned.edges"][image, slot] = rank_correlation(own, edges[image, 0])
    return found


def stability(
    maps: np.ndarray, copies: np.ndarray, kept: np.ndarray, mirrored: np.ndarray
) -> Numbers:
    """Greatest relative change (norm), mean rank correlation with the copies, and the mirror's."""
    names = ("stability", "stability.correlation", "stability.mirror")
    found = {key: np.full(maps.shape[:2], np.nan) for key in names}
    for image, slot in np.ndindex(*maps.shape[:2]):
        own = maps[image, slot].astype(np.float64)
        noisy = [copy[image, slot] for copy, used in zip(copies, kept, strict=True) if used[image]]
        if noisy:
            changes = [np.linalg.norm(own - copy) for copy in noisy]
            found["stability"][image, slot] = max(changes) / np.linalg.norm(own)
            found["stability.correlation"][image, slot] = 1 - mean_correlation(own, noisy)
        found["stability.mirror"][image, slot] = rank_correlation(
            np.fliplr(own), mirrored[image, slot]
        )
    return found


def regions(maps: np.ndarray, mask: np.ndarray) -> Numbers:
    """Every number from its definition, over all pixels and all thresholds."""
    parts = ("", ".lift", ".hit", ".rank", ".iou", ".tied")
    found = {f"regions{part}": np.full(maps.shape[:-2], np.nan) for part in parts}
    height, width = mask.shape
    inside = np.argwhere(mask)
    for place in np.ndindex(*maps.shape[:-2]):
        raw = enlarged(maps[place].astype(np.float64), height, width)
        sizes = enlarged(np.clip(maps[place], 0, None).astype(np.float64), height, width)
        mass, peaks = (sizes * mask).sum() / sizes.sum(), np.argwhere(sizes == sizes.max())
        between = (inside[:, None] - peaks) * (224 / height, 224 / width)
        shares = sizes / sizes.max()
        overlaps = []
        for threshold in range(1, 1001):
            kept = shares >= threshold / 1000
            overlaps.append((kept & mask).sum() / (kept | mask).sum())
        first = np.argsort(-raw.ravel())[: len(inside)]
        numbers = (
            mass,
            mass / mask.mean(),
            float(((between**2).sum(-1) < 15**2).any()),
            mask.ravel()[first].mean(),
            max(overlaps),
            len(peaks) / mask.size,
        )
        for key, number in zip(found, numbers, strict=True):
            found[key][place] = number
    return found


def average_drop(before: np.ndarray, after: Scores, area: np.ndarray) -> Numbers:
    """The three fractions of Opti-CAM's table of metrics, one image at a time."""
    parts, shape = ("", ".increase", ".gain", ".area"), after.numbers.shape
    found = {f"average_drop{part}": np.full(shape, np.nan) for part in parts}
    for place in np.ndindex(*shape):
        p, kept = np.broadcast_to(before, shape)[place], after.numbers[place]
        drop, gain = (p - kept, 0.0) if kept < p else (0.0, kept - p)
        numbers = drop / p, kept > p, gain / (1 - p), area[place]
        for key, number in zip(found, numbers, strict=True):
            found[key][place] = number
    return found


def road(morf: Scores, lerf: Scores) -> Numbers:
    """Half of the mean difference between the two curves."""
    return {"road": (lerf.numbers.mean(-1) - morf.numbers.mean(-1)) / 2}


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's by scipy; NaN where one of the two is constant."""
    if 0 in (np.ptp(one), np.ptp(other)):
        return np.nan
    return float(spearmanr(np.ravel(one), np.ravel(other)).statistic)


def mean_correlation(own: np.ndarray, others: Sequence[np.ndarray]) -> float:
    """The mean over those others that are not constant."""
    found = [rank_correlation(own, other) for other in others]
    usable = [each for each in found if not np.isnan(each)]
    return float(np.mean(usable)) if usable else np.nan
