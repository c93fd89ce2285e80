"""The arrangement of a run's images, kept beside its shards: clusters and t-SNE take time.

    OUT/results/atlas.npz       the arrays of ``Arrangement``, by name, and their origin

The file is used if it is of these shards and predictions, and of this version of the definitions.
A folder may come from someone else, so its values are checked; where it cannot be used, the images
are arranged again.
"""

import hashlib
from contextlib import suppress
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from camreport.errors import CamReportError, ResultsError
from camreport.files import write
from camreport.insight.arrangement import (
    MAX_POINTS,
    Arrangement,
    arrange,
    predicted_classes,
)
from camreport.insight.clusters import MAX_CLUSTERS, MIN_IMAGES, is_available
from camreport.insight.spaces import SPACES
from camreport.results.reader import Results
from camreport.results.shards import Arrays, packed, read_fingerprint, read_shard

NAME = "atlas.npz"
"""File name of the arrangement."""

VERSION = 1
"""Version of the definitions; an arrangement of another version is made again."""

ORIGIN = "origin"
"""Name of the array that says what was arranged."""

_Range = tuple[type, tuple[int | None, ...], float, float]
"""Type, shape (None for any length), least and greatest value of an array."""


def arrangement_of(results: Results) -> Arrangement | None:
    """Return the arrangement of a run: the one that is kept, or one that is made now and kept.

    It is made each time without scikit-learn, of so few images that nothing is clustered, and where
    the folder cannot be written to.

    Returns:
        None where fewer than two images have a map with positive evidence.

    Raises:
        ResultsError: it cannot be used, and a shard is missing or damaged.
    """
    if not is_available() or results.count < MIN_IMAGES:
        return arrange(results)
    with suppress(ResultsError):
        return read_arrangement(results)
    made = arrange(results)
    if made is not None:
        arrays: Arrays = {own.name: getattr(made, own.name) for own in fields(made)}
        content = packed(arrays | {ORIGIN: _origin(results)}).getbuffer()
        with suppress(CamReportError):
            write(results.path / NAME, content, results.path.parent)
    return made


def read_arrangement(results: Results) -> Arrangement:
    """Return the arrangement that is kept.

    Raises:
        ResultsError: it is missing, damaged, of other images or of another version.
    """
    arrays = read_shard(results.path / NAME, results.path.parent)
    if not np.array_equal(arrays.pop(ORIGIN, ()), _origin(results)):
        raise _unusable(ORIGIN)
    expected = _expected(results, arrays)
    if arrays.keys() != expected.keys():
        raise _unusable(", ".join(sorted(arrays.keys() ^ expected.keys())))
    for name, (kind, shape, least, most) in expected.items():
        own = arrays[name]
        fits = own.dtype == kind and own.ndim == len(shape)
        fits = fits and all(want in (None, got) for want, got in zip(shape, own.shape, strict=True))
        if not fits or not ((own >= least) & (own <= most)).all():
            raise _unusable(name)
    found = Arrangement(**arrays)
    for name in ("clustered", "points"):
        if (np.diff(getattr(found, name)) <= 0).any():
            raise _unusable(name)
    _check_labels(found, predicted_classes(results), len(results.manifest.classes))
    return found


def _expected(results: Results, arrays: Arrays) -> dict[str, _Range]:
    """Return what the arrays have to be, as far as they say themselves how many they are."""
    count, kinds, far = results.count, len(SPACES), float(np.finfo(np.float32).max)
    points, classes, outliers = (
        len(np.atleast_1d(arrays.get(name, ()))) for name in ("points", "clustered", "apart")
    )
    laid = len(np.atleast_1d(arrays.get("tsne", ())))
    return {
        "labels": (np.int8, (kinds, count), 0, MAX_CLUSTERS),
        "distance": (np.float32, (kinds, count), 0, 2),
        "clustered": (np.int64, (None,), 0, len(results.manifest.classes) - 1),
        "stability": (np.float32, (kinds, classes, MAX_CLUSTERS), 0, 1),
        "points": (np.int64, (min(points, MAX_POINTS),), 0, count - 1),
        "pca": (np.float32, (points, 2), -far, far),
        "tsne": (np.float32, (points if laid else 0, 2), -far, far),
        "outliers": (np.int64, (outliers, 2), 0, count - 1),
        "apart": (np.float32, (None,), 0, 2),
    }


def _check_labels(found: Arrangement, predicted: NDArray[np.int64], classes: int) -> None:
    """Check that images are in clusters of their own class.

    Raises:
        ResultsError: an image is in none of them.
    """
    for labels, stability in zip(found.labels, found.stability, strict=True):
        most = np.zeros(classes + 1, np.int64)  # the last is of images without a prediction
        most[found.clustered] = np.count_nonzero(stability, axis=1)
        if (labels > most[predicted]).any():
            raise _unusable("labels")


def _origin(results: Results) -> NDArray[np.uint8]:
    """Return a digest of what is arranged: shards, predictions, and how they are compared."""
    manifest, digest = results.manifest, hashlib.sha256()
    layer = manifest.contributions.address if manifest.contributions else None
    digest.update(repr((VERSION, *manifest.glance, layer)).encode())
    digest.update(predicted_classes(results).tobytes())
    for shard in dict.fromkeys(image.shard for image in results.outlines):
        own = read_fingerprint(results.path / (shard or ""), results.path.parent)
        digest.update(own.tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


def _unusable(key: str) -> ResultsError:
    return ResultsError(
        f"results: {NAME} does not fit the run at {key!r}. Run 'camreport render' again: it "
        "is made again, and nothing else is computed."
    )
