"""What is measured of one image's maps, as the page takes it, with the maps that are doubt itself.

Controls and maps of the scrambled network are shipped of the sample's images, small.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camreport.methods import METHODS
from camreport.metrics.controls import CONTROLS, control_maps, edge_strength, seen_pixels
from camreport.metrics.values import Undefined
from camreport.report.appearance import seen_part
from camreport.report.gallery.entries import Levels, MapEntry, map_entry, smaller
from camreport.report.heatmap import quantise
from camreport.results.evidence import CONTROL
from camreport.results.evidence_arrays import Evidence
from camreport.results.reader import MapRecord, Record, Results
from camreport.results.schema import INPUT, ImageEntry, Manifest

CONTROL_SIDE = 28
"""Longer side, in cells, at which controls are shipped."""

SCRAMBLED_SIDE = 14
"""Longer side, in cells, at which maps of the scrambled network are shipped: there are as many of
them as of the network's own."""

Numbers = list[float | None]

ByMap = dict[str, dict[str, Numbers]]
"""By ``<row>/<layer>`` of a map, empty for numbers of the image alone, then by number."""


def image_evidence(
    results: Results,
    image: ImageEntry,
    maps: Sequence[MapRecord],
    picture: Image.Image,
    levels: Levels,
) -> Record:
    """Return what is measured of an image's maps; bytes of further maps are added to the levels.

    Args:
        results: of the run.
        image: one that could be read.
        maps: its raw maps.
        picture: its photograph at display size, RGB; of an image in no sample it may be smaller.
        levels: to which bytes are added.

    Returns:
        ``controls`` and ``scrambled``, entries of maps; ``numbers``, by map and number;
        ``undefined``, why some of them are not there, and ``curves``, by name.

    Raises:
        ResultsError: the image's evidence is missing or damaged.
    """
    entry, evidence = results.manifest.evidence, results.evidence(image.index)
    if entry is None or evidence is None:
        return {"controls": [], "scrambled": [], "numbers": {}, "undefined": {}, "curves": {}}
    controls: list[MapEntry] = []
    if image.index in entry.sample:
        grids = {record.layer: record.cam.shape for record in maps if record.cam.ndim == 2}
        own = {layer: grids[layer] for layer in _own(results.manifest, grids)}
        controls = [*_controls(results.manifest, image, own, picture, levels)]
    scrambled = _scrambled(results.manifest, evidence, results.targets(image.index), levels)
    return {
        "controls": [own.to_json() for own in controls],
        "scrambled": [own.to_json() for own in scrambled],
        "numbers": _numbers(results.manifest, evidence),
        "undefined": _undefined(evidence),
        "curves": _curves(evidence),
    }


def regions(results: Results, index: int) -> list[list[float | int | None]]:
    """Return an image's regions: left, top, right, bottom, and the class's index if it is known.

    Raises:
        ResultsError: the image's evidence is missing or damaged.
    """
    evidence = results.evidence(index)
    if evidence is None or not evidence.regions:
        return []
    own = evidence.regions[0]
    return [
        [*(round(side, 4) for side in box), target if target >= 0 else None]
        for box, target in zip(own.boxes.tolist(), own.classes.tolist(), strict=True)
    ]


def _own(manifest: Manifest, layers: Mapping[str, object]) -> list[str]:
    """Return layers with tensors of their own, and ``fused``."""
    repeated = {layer.address for layer in manifest.layers if layer.same_as is not None}
    return [layer for layer in layers if layer not in repeated and layer != INPUT]


def _controls(
    manifest: Manifest,
    image: ImageEntry,
    grids: Mapping[str, tuple[int, ...]],
    picture: Image.Image,
    levels: Levels,
) -> Iterator[MapEntry]:
    """Yield the controls of an image on the grid of each layer."""
    entry, preprocessing = manifest.evidence, manifest.preprocessing
    assert entry is not None
    seen = seen_part(preprocessing, image)
    edges = edge_strength(seen_pixels(np.asarray(picture), seen, *preprocessing.size))
    for layer, (rows, columns) in grids.items():
        maps = control_maps(edges, rows, columns, seed=entry.seed, image=image.index)
        for control, cam in zip(CONTROLS, maps, strict=True):
            yield _control_entry(control, layer, cam, levels)


def _control_entry(control: str, layer: str, cam: NDArray[np.float32], levels: Levels) -> MapEntry:
    """Return a control's entry, and add its bytes to the levels."""
    quantised = quantise(smaller(cam, CONTROL_SIDE))
    positive = quantised.state == "positive"
    return MapEntry(
        method=control,
        layer=layer,
        rank=0,
        height=quantised.levels.shape[0],
        width=quantised.levels.shape[1],
        grid=cam.shape,
        peak=quantised.peak,
        largest=float(cam.max()) if positive else 0.0,
        base=0.0,
        state=quantised.state,
        signed=False,
        own=True,
        offset=levels.add(quantised.levels) if positive else None,
    )


def _scrambled(
    manifest: Manifest, evidence: Evidence, targets: Sequence[int], levels: Levels
) -> Iterator[MapEntry]:
    """Yield the entries of the maps of the first scrambled network."""
    if not len(evidence.sampled):
        return
    for seed in sorted(evidence.scrambled)[:1]:
        for (method, layer), cams in evidence.scrambled[seed].items():
            if layer not in _own(manifest, {layer: None}):
                continue
            for slot, cam in enumerate(cams[0][: None if METHODS[method].per_class else 1]):
                record = MapRecord(METHODS[method], layer, slot, targets[slot], cam)
                yield map_entry(record, levels, SCRAMBLED_SIDE)


def _numbers(manifest: Manifest, evidence: Evidence) -> ByMap:
    """Return the numbers of an image for each class explained, as far as measured.

    Of controls there are those that answer a question.
    """
    found: ByMap = {}
    for key, own in evidence.numbers.items():
        if key.row.startswith(CONTROL) and "." in key.number:
            continue
        measured = (own.reasons != Undefined.NOT_MEASURED).any()
        if measured and (not key.layer or key.layer == INPUT or _own(manifest, {key.layer: None})):
            of_map = found.setdefault("/".join(filter(None, (key.row, key.layer))), {})
            of_map[key.number] = [_digits(value) for value in own.numbers[0].tolist()]
    return found


def _undefined(evidence: Evidence) -> dict[str, list[str | None]]:
    """Return why numbers of an image are undefined, by name, for each class explained."""
    why = {str(key): own.reasons[0].tolist() for key, own in evidence.numbers.items()}
    return {
        name: [Undefined(reason).name.lower() if reason else None for reason in reasons]
        for name, reasons in why.items()
        if any(reason > Undefined.NOT_MEASURED for reason in reasons)
    }


def _curves(evidence: Evidence) -> dict[str, list[Numbers]]:
    """Return the curves of an image by name, for each class explained."""
    return {
        str(key): [[_digits(value) for value in row] for row in curve[0].tolist()]
        for key, curve in evidence.curves.items()
        if np.isfinite(curve[0]).any()
    }


def _digits(value: float) -> float | None:
    """Return a number with three digits; None for NaN."""
    return float(f"{value:.3g}") if np.isfinite(value) else None
