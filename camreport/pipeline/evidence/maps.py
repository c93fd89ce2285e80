"""Evidence from the stored maps alone: contrast and extent of every map and control, no pass."""

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

MAX_VALUES = 1 << 20
"""Number of values of maps that are measured at once, unless one image has more."""


def measure_maps(batch: EvidenceBatch) -> Measured:
    """Measure contrast and extent of all maps and controls of some images."""
    other = strongest_other(batch.targets, batch.logits)
    maps = {**batch.maps, **batch.controls}
    size = sum(each[0].size for each in maps.values())
    step = max(1, MAX_VALUES // max(1, size))
    parts = []
    for start in range(0, len(other), step):
        some = slice(start, start + step)
        parts.append(_measured({key: each[some] for key, each in maps.items()}, other[some]))
    return Measured({name: Values.joined([part[name] for part in parts]) for name in parts[0]})


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
    """Return the numbers ``(n, K)`` of maps by their names; those on one grid are taken together.

    Controls are the same at all layers with one grid, and are measured once.

    Args:
        maps: ``(n, K, h, w)``, or ``(n, 1, h, w)`` where all classes share one.
        other: ``(n, K)``, as for ``contrast``.
    """
    groups: dict[tuple[int, ...], dict[MapKey, list[MapKey]]] = {}
    for key, each in maps.items():
        alike = groups.setdefault(each.shape[1:], {})
        first = key if key.method in METHODS else MapKey(key.method, "")
        alike.setdefault(first, []).append(key)
    values: dict[str, Values] = {}
    for alike in groups.values():
        own = {keys[0]: maps[keys[0]] for keys in alike.values()}
        raw = np.stack([*own.values()])
        shown = np.stack([from_base(key, each) for key, each in own.items()])
        for number, every in (contrast(raw, other) | extent(shown)).items():
            for place, keys in enumerate(alike.values()):
                one = Values(every.numbers[place], every.reasons[place]).of_shape(other.shape)
                values |= {f"{number}/{key}": one for key in keys}
    return values


def from_base(key: MapKey, maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return maps from the value up that is drawn as zero."""
    return drawn(maps, METHODS[key.method], leading=2).values if key.method in METHODS else maps
