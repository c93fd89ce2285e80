"""Evidence from the stored maps alone: contrast and extent of every map and control, no pass."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from camreport.images.preprocessing import Preprocessing
from camreport.insight.drawn import drawn
from camreport.methods import METHODS
from camreport.metrics.contrast import contrast, strongest_other
from camreport.metrics.controls import CONTROLS, control_maps
from camreport.metrics.extent import extent
from camreport.metrics.values import Values
from camreport.pipeline.evidence.batch import EvidenceBatch, Measured
from camreport.results.schema import MapKey

MAX_VALUES = 1 << 18
"""Number of values of maps that are measured at once, unless one image has more."""


def measure_maps(batch: EvidenceBatch) -> Measured:
    """Measure contrast and extent of all maps and controls of some images.

    Maps on the same grid are measured together, a few images at a time.
    """
    other = strongest_other(batch.targets, batch.logits)
    maps = {**batch.maps, **batch.controls}
    groups: dict[tuple[int, ...], list[MapKey]] = {}
    for key, each in maps.items():
        groups.setdefault(each.shape[1:], []).append(key)
    values: dict[str, Values] = {}
    for shape, keys in groups.items():
        step = max(1, MAX_VALUES // (len(keys) * math.prod(shape)))
        rows = [slice(start, start + step) for start in range(0, len(other), step)]
        values |= _joined(
            [_measured({key: maps[key][some] for key in keys}, other[some]) for some in rows]
        )
    return Measured(values)


def grids_of(maps: Mapping[MapKey, NDArray[np.float32]]) -> dict[str, tuple[int, int]]:
    """Return the finest grid of the maps of each layer: ``input`` has pixels and cells.

    Args:
        maps: ``(n, K, h, w)`` by method and layer.
    """
    finest_last = sorted(maps.items(), key=lambda each: each[1].shape[-2] * each[1].shape[-1])
    return {key.layer: (cams.shape[-2], cams.shape[-1]) for key, cams in finest_last}


def controls_of(
    edges: Sequence[NDArray[np.float32]],
    grids: Mapping[str, tuple[int, int]],
    indices: Iterable[int],
    seed: int,
) -> dict[MapKey, NDArray[np.float32]]:
    """Return the control maps of some images at all layers, ``(n, 1, h, w)``.

    Args:
        edges: ``(H, W)`` of each of the n images, as from ``edge_strength``.
        grids: height and width of the maps of each layer.
        indices: of the images among the run's inputs.
        seed: of everything random in the run.
    """
    images = [*zip(edges, map(int, indices), strict=True)]
    made = {
        grid: np.stack([control_maps(own, *grid, seed=seed, image=i) for own, i in images])
        for grid in dict.fromkeys(grids.values())
    }
    return {
        MapKey(name, layer): made[grid][:, place, None]
        for place, name in enumerate(CONTROLS)
        for layer, grid in grids.items()
    }


def input_pixels(inputs: NDArray[np.float32], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return the pixels that model inputs were made of, RGB ``(n, H, W, 3)``, 0..1.

    Args:
        inputs: ``(n, 3, H, W)``, preprocessed.
        preprocessing: what made them.
    """
    mean, std = (np.array(each, np.float32) for each in (preprocessing.mean, preprocessing.std))
    pixels: NDArray[np.float32] = np.moveaxis(inputs, 1, -1) * std + mean
    pixels /= np.float32(preprocessing.scale)
    return pixels[..., ::-1] if preprocessing.channel_order == "bgr" else pixels


def _measured(
    maps: Mapping[MapKey, NDArray[np.float32]], other: NDArray[np.intp]
) -> dict[str, Values]:
    """Return the numbers ``(n, K)`` of maps on one grid by their names.

    Args:
        maps: ``(n, K, h, w)``, or ``(n, 1, h, w)`` where all classes share one.
        other: ``(n, K)``, as for ``contrast``.
    """
    raw = np.stack([*maps.values()])
    shown = np.stack([from_base(key, each) for key, each in maps.items()])
    found = contrast(raw, other) | extent(shown)
    values: dict[str, Values] = {}
    for number, every in found.items():
        for place, key in enumerate(maps):
            own = every.numbers[place], every.reasons[place]
            values[f"{number}/{key}"] = Values(*(np.broadcast_to(v, other.shape) for v in own))
    return values


def from_base(key: MapKey, maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return maps from the value up that is drawn as zero."""
    return drawn(maps, METHODS[key.method], leading=2).values if key.method in METHODS else maps


def _joined(parts: Sequence[Mapping[str, Values]]) -> dict[str, Values]:
    """Return the numbers of all images of several parts."""
    return {
        name: Values(
            np.concatenate([part[name].numbers for part in parts]),
            np.concatenate([part[name].reasons for part in parts]),
        )
        for name in parts[0]
    }
