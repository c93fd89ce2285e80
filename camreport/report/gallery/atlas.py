"""The page's data on where the model looks over a whole run, in a piece of its own.

Classes that are predicted most often come first. Mean maps are of all images, whichever are shown.
"""

from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from camreport.insight.aggregates import MeanMap
from camreport.insight.channels import ChannelTops, top_images
from camreport.insight.confusions import ConfusionMaps
from camreport.insight.groups import Group
from camreport.report.gallery.page import Measured
from camreport.report.gallery.records import shown_methods
from camreport.report.heatmap import ZERO
from camreport.results.reader import Record

MAX_CLASSES = 20
"""Most classes whose mean maps are shipped."""

MAX_MEANS = 3000
"""Most mean maps that are shipped: 0.8 MB of them, and as much again of their spread."""

DIGITS = 4
"""Digits of a number after the point."""


def pieces(measured: Measured) -> dict[str, object]:
    """Return the pieces of the page's data that views load when they need them, by name."""
    own: dict[str, object] = {}
    if measured.atlas_parts:
        own["atlas"] = atlas_data(measured)
    tops = top_images(measured.results) if measured.results.manifest.channels else None
    if tops is not None:
        own["tops"] = tops_data(tops)
    return own


def atlas_data(measured: Measured) -> dict[str, object]:
    """Return the data of the page's Atlas, without methods that repeat another's maps."""
    shown = shown_methods(measured.results.manifest)
    methods = [own.key for own in shown if own.key not in measured.repeats]
    means = [mean for mean in measured.aggregates.means if mean.key.method in methods]
    found = measured.atlas
    return {
        "means": _means(means),
        "predicted": len({mean.predicted for mean in means}),
        "found": None if found is None else found.to_json(),
        "confusions": [_confused(own) for own in measured.confusions if own.key.method in methods],
        "groups": [_group(own) for own in measured.groups if own.key.method in methods],
    }


def tops_data(tops: ChannelTops) -> dict[str, object]:
    """Return the images in which each channel contributes most, and their shares of the score."""
    listed = [own[own >= 0].tolist() for own in tops.images]
    shares = [own[: len(images)] for own, images in zip(tops.shares, listed, strict=True)]
    return {
        "layer": tops.layer,
        "images": listed,
        "shares": [[round(share, DIGITS) for share in own.tolist()] for own in shares],
    }


def _confused(own: ConfusionMaps) -> Record:
    """Return the mean maps of confused classes."""
    return {
        "method": own.key.method,
        "layer": own.key.layer,
        "label": own.true,
        "predicted": own.predicted,
        "n": own.n,
        "images": [*own.images],
        "ofLabel": _levels(own.of_true),
        "ofPredicted": _levels(own.of_predicted),
        "contrast": _levels(own.contrast, signed=True),
    }


def _group(own: Group) -> Record:
    """Return the mean map of a group."""
    return {
        "method": own.key.method,
        "layer": own.key.layer,
        "column": own.column,
        "value": own.value,
        "n": own.n,
        "others": own.others,
        "mean": _levels(own.mean),
        "difference": _levels(own.difference, signed=True),
        "p": own.p,
        "permutations": own.permutations,
    }


def _levels(grid: NDArray[np.float64] | None, *, signed: bool = False) -> str | None:
    """Return a grid as bytes: 255 for 1; of a signed one 127 is 0, and 254 is 1."""
    if grid is None:
        return None
    values = grid * ZERO + ZERO if signed else grid * 255
    return b64encode(np.floor(values + 0.5).astype(np.uint8).tobytes()).decode()


def _means(means: Sequence[MeanMap]) -> dict[str, object]:
    """Return mean maps column by column, those of the most frequent classes.

    Maps of right and of wrong predictions are left out where all are of one kind.
    """
    counts = Counter[int]()
    for mean in means:
        counts[mean.predicted] = max(counts[mean.predicted], mean.n)
    of_class = {
        target: [*_judged([mean for mean in means if mean.predicted == target])]
        for target, _ in counts.most_common(MAX_CLASSES)
    }
    chosen: list[MeanMap] = []
    for own in of_class.values():
        if chosen and len(chosen) + len(own) > MAX_MEANS:
            break
        chosen += own
    return {
        "method": [mean.key.method for mean in chosen],
        "layer": [mean.key.layer for mean in chosen],
        "target": [mean.predicted for mean in chosen],
        "outcome": [mean.outcome for mean in chosen],
        "n": [mean.n for mean in chosen],
        **packed("mean", [mean.mean for mean in chosen]),
        **packed("spread", [mean.spread for mean in chosen]),
    }


def _judged(means: Sequence[MeanMap]) -> Iterator[MeanMap]:
    """Yield the means of all predictions, and of right and wrong ones where there are both."""
    for _, group in groupby(means, key=lambda mean: mean.key):
        own = [mean for mean in group if mean.outcome != "unlabelled"]
        yield from own if len(own) == 3 else own[:1]


def packed(name: str, grids: Sequence[NDArray[np.float64]]) -> dict[str, object]:
    """Return grids as bytes of their largest magnitude, one after the other, and these.

    Args:
        name: of the bytes; that of the magnitudes ends in ``Peak``.
        grids: all of one shape, at least 0.
    """
    peaks = [float(np.abs(grid).max()) for grid in grids]
    levels = [
        np.floor(grid * 255 / (peak or 1) + 0.5).astype(np.uint8)
        for grid, peak in zip(grids, peaks, strict=True)
    ]
    joined = b"".join(own.tobytes() for own in levels)
    return {
        name: b64encode(joined).decode(),
        f"{name}Peak": [round(peak, DIGITS) for peak in peaks],
    }
