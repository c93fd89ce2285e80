"""Methods whose maps coincide in a run: two names for one piece of evidence."""

from collections.abc import Collection, Mapping, Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from camreport.methods import METHODS, Method
from camreport.report.appearance import drawable
from camreport.report.gallery.language import Words
from camreport.results.reader import Record
from camreport.results.shards import Arrays

TOLERANCE = 1e-5
"""Largest difference of two maps, each as shares of its maximum, that rounding explains."""

Pair = tuple[str, str]
"""A method, and one that has all its maps, up to a positive factor for each."""


def candidates(arrays: Arrays) -> set[Pair]:
    """Return the pairs whose maps could coincide: the second has all layers of the first."""
    layers: dict[str, set[str]] = {}
    for key in arrays:
        name, _, layer = key.partition("/")
        if layer and name in METHODS:
            layers.setdefault(name, set()).add(layer)
    return {
        (one, other)
        for one, other in permutations(layers, 2)
        if layers[one] <= layers[other] and _kind(METHODS[one]) == _kind(METHODS[other])
    }


def coincide(arrays: Arrays, pair: Pair) -> bool:
    """Say whether one image's maps by the first method look like those by the second."""
    one, other = pair
    return all(
        _look_alike(cams, arrays[key.replace(one, other, 1)], METHODS[one])
        for key, cams in arrays.items()
        if key.startswith(f"{one}/")
    )


def repeated(methods: Sequence[Method], pairs: Collection[Pair]) -> dict[str, str]:
    """Return for each method that tells nothing of its own the one whose maps it repeats.

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


def coincidences(manifest: Record, repeats: Mapping[str, str], words: Words) -> list[str]:
    """Say which methods coincide, and why where that is known."""
    return [
        words(
            "coincide",
            first=METHODS[one].name,
            second=METHODS[other].name,
            why=words(f"coincide.{_reason({one, other}, len(manifest['classes']))}"),
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
        *(method.class_specific, method.signed, method.on_input),
        *(method.per_channel, method.from_least),
    )


def _look_alike(one: NDArray[np.float32], other: NDArray[np.float32], method: Method) -> bool:
    """Say whether maps ``(K, h, w)`` are drawn alike; those of no class count once."""
    if one.shape != other.shape:
        return False
    count = len(one) if method.class_specific else 1
    return all(
        _same(_shares(one[rank], method), _shares(other[rank], method)) for rank in range(count)
    )


def _shares(raw: NDArray[np.float32], method: Method) -> NDArray[np.float64] | None:
    """Return a map as shares of its maximum; zeros if it is empty, None if it is undefined."""
    cam = np.asarray(drawable(raw, method)[0], dtype=np.float64)
    if not np.isfinite(cam).all():
        return None
    if method.from_least:
        cam = cam - cam.min()
    shown = cam if method.signed else np.maximum(cam, 0)
    peak = np.abs(shown).max()
    return shown / peak if peak > 0 else shown


def _same(one: NDArray[np.float64] | None, other: NDArray[np.float64] | None) -> bool:
    if one is None or other is None:
        return one is other
    return bool(np.abs(one - other).max() <= TOLERANCE)
