"""Methods whose maps coincide in a run: two names for one piece of evidence."""

from collections.abc import Collection, Mapping, Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from camreport.methods import METHODS, Method
from camreport.report.appearance import appearance
from camreport.report.gallery.language import Words
from camreport.results.reader import MapRecord
from camreport.results.schema import Manifest

TOLERANCE = 1e-5
"""Largest difference of two maps, each as fractions of its maximum, that rounding explains."""

Pair = tuple[str, str]
"""A method, and one that has all its maps, up to a positive factor for each."""


def candidates(maps: Sequence[MapRecord]) -> set[Pair]:
    """Return the pairs whose maps could coincide: the second has all layers of the first.

    Args:
        maps: of one image.
    """
    layers: dict[str, set[str]] = {}
    for record in maps:
        layers.setdefault(record.method.key, set()).add(record.layer)
    return {
        (one, other)
        for one, other in permutations(layers, 2)
        if layers[one] <= layers[other] and _kind(METHODS[one]) == _kind(METHODS[other])
    }


def coinciding(maps: Sequence[MapRecord], pairs: Collection[Pair]) -> set[Pair]:
    """Return the pairs whose first method has no map in an image that looks unlike the second's.

    Args:
        maps: of one image.
        pairs: some of its ``candidates``.
    """
    of_method: dict[str, dict[tuple[str, int], MapRecord]] = {}
    for record in maps:
        of_method.setdefault(record.method.key, {})[record.layer, record.slot] = record
    return {
        (one, other)
        for one, other in pairs
        if all(
            _look_alike(record, of_method[other][place]) for place, record in of_method[one].items()
        )
    }


def repeated(methods: Sequence[Method], pairs: Collection[Pair]) -> dict[str, str]:
    """Return, for each method whose maps repeat another's, that other method.

    Args:
        methods: in the order in which they are shown.
        pairs: that coincide in every image.
    """
    found: dict[str, str] = {}
    own: list[str] = []
    for key in (method.key for method in methods):
        same = next((kept for kept in own if (key, kept) in pairs), None)
        if same is None:
            for kept in [kept for kept in own if (kept, key) in pairs]:
                own.remove(kept)
                found |= {kept: key} | {name: key for name, of in found.items() if of == kept}
            own.append(key)
        else:
            found[key] = same
    return found


def coincidences(manifest: Manifest, repeats: Mapping[str, str], words: Words) -> list[str]:
    """Say which methods coincide, and why where that is known."""
    return [
        words(
            "coincide",
            first=METHODS[one].name,
            second=METHODS[other].name,
            why=words(f"coincide.{_reason({one, other}, len(manifest.classes))}"),
        )
        for one, other in repeats.items()
    ]


def _reason(methods: set[str], classes: int) -> str:
    if methods == {"finer_cam", "grad_cam"} and classes == 2:
        return "opposite"
    return "rectified" if methods == {"grad_cam_elementwise", "layer_cam"} else "factor"


def _kind(method: Method) -> tuple[bool, ...]:
    """Return what decides how a method's maps are drawn."""
    return (
        *(method.per_class, method.values == "signed", method.grid == "input"),
        *(method.per_channel, method.values == "relative"),
    )


def _look_alike(one: MapRecord, other: MapRecord) -> bool:
    """Say whether two maps are drawn alike."""
    if one.cam.shape != other.cam.shape:
        return False
    own, its = _fractions(one), _fractions(other)
    if own is None or its is None:
        return own is its
    return bool(np.abs(own - its).max() <= TOLERANCE)


def _fractions(record: MapRecord) -> NDArray[np.float64] | None:
    """Return a map as fractions of its maximum; zeros if empty, None if undefined."""
    shown = appearance(record)
    drawn = shown.drawn if shown.colours is None else shown.colours
    cam = np.asarray(drawn, dtype=np.float64)
    if not np.isfinite(cam).all():
        return None
    cam = cam if record.method.values == "signed" else np.maximum(cam, 0)
    peak = np.abs(cam).max()
    return cam / peak if peak > 0 else cam
