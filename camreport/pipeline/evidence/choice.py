"""What is measured of a run's maps, and on which of its images."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, cast

import numpy as np

from camreport.images.regions.region import PhotoRegions
from camreport.methods import Method
from camreport.methods.registry import SHARED
from camreport.metrics import METRICS, Metric, resolve_metrics
from camreport.metrics.grid import Collages, choose_collages
from camreport.metrics.registry import LEVELS
from camreport.pipeline.run_plan import Request
from camreport.results.schema import ImageEntry
from camreport.settings import ALL, FULL, OFF

FIRST_GROUP = 16
"""Number of images in the first group of a sample."""

SAMPLES = {"basic": 16, "full": 64}
"""Largest number of images on which passes are spent, by level, unless the user has chosen it."""


@dataclass(frozen=True)
class Asked:
    """What is measured, as far as it is decided before any image is read.

    Attributes:
        level: ``basic`` or ``full``.
        metrics: the metrics, in the order of tables.
        maps: whether order is measured of the ``main`` maps or of ``all``.
        seed: of everything random.
        groups: indices of the images on which passes are spent, in the groups in which they were
            drawn, as from ``groups_of``.
        methods: the methods of the run, as its sidecars list them.
        shared: whether all methods need the same passes.
        regions: of the inputs, by their indices; None if the user gave none.
    """

    level: Literal["basic", "full"]
    metrics: tuple[Metric, ...]
    maps: Literal["main", "all"]
    seed: int
    groups: tuple[tuple[int, ...], ...]
    methods: tuple[str, ...]
    shared: bool
    regions: Mapping[int, PhotoRegions] | None

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the metrics."""
        return tuple(metric.key for metric in self.metrics)

    @property
    def sample(self) -> tuple[int, ...]:
        """The indices of the images on which passes are spent, in increasing order."""
        return tuple(sorted(index for group in self.groups for index in group))


@dataclass(frozen=True)
class ChosenCollages:
    """The collages of a run.

    Attributes:
        collages: which images stand where.
        sha256: digests of the images' files, by their indices.
        decided: digest of everything that decides what is measured on them.
    """

    collages: Collages
    sha256: Mapping[int, str | None]
    decided: str


def choose_of(asked: Asked, images: Sequence[ImageEntry]) -> ChosenCollages:
    """Choose the images of the sample that stand in collages.

    Args:
        asked: what is measured.
        images: the readable images of the sample, with labels.
    """
    known = [image for image in images if image.top]
    collages = choose_collages(
        np.array([image.index for image in known], dtype=np.int64),
        np.array([image.top[0].index for image in known], dtype=np.int64),
        np.array([image.top[0].probability for image in known], dtype=np.float64),
        [image.label for image in known],
        asked.seed,
    )
    sha256 = {image.index: image.sha256 for image in known}
    cells = [own.tolist() for own in (collages.image, collages.cells)]
    decisive = [asked.seed, sorted(asked.methods), *cells, [*sha256.items()]]
    digest = hashlib.sha256(json.dumps(decisive).encode()).hexdigest()
    return ChosenCollages(collages, sha256, digest)


def asked_of(request: Request, total: int) -> Asked | None:
    """Return what a run's settings ask to be measured; None for nothing.

    Args:
        request: what to compute.
        total: number of inputs.
    """
    settings = request.settings
    if settings.evidence == OFF:
        return None
    return Asked(
        level=cast(Literal["basic", "full"], settings.evidence),
        metrics=_metrics(settings.evidence, settings.metrics, request.regions is not None),
        maps=cast(Literal["main", "all"], settings.evidence_maps),
        seed=settings.seed,
        groups=groups_of(
            total, settings.seed, settings.evidence_images or SAMPLES[settings.evidence]
        ),
        methods=tuple(request.specs),
        shared=all(is_shared(request, method) for method in request.methods),
        regions=request.regions,
    )


def _metrics(level: str, names: str | Sequence[str], has_regions: bool) -> tuple[Metric, ...]:
    """Return the metrics of a level and those given by name, as far as they can be measured."""
    named = resolve_metrics(names) if names else []
    known = LEVELS[:2] if level == FULL else LEVELS[:1]
    return tuple(
        metric
        for metric in METRICS.values()
        if (metric in named or metric.level in known) and (has_regions or metric.needs != "regions")
    )


def is_shared(request: Request, method: Method) -> bool:
    """Return whether a method needs one forward pass and one backward pass per class, no others."""
    copies = {"noise", "aug"}.intersection(request.smooth)
    return method.needs.passes == SHARED and not (copies and method.supports_smoothing)


def groups_of(total: int, seed: int, wanted: int | str) -> tuple[tuple[int, ...], ...]:
    """Draw images, in groups: 16, and then three times as many as before.

    A larger sample with the same seed has every group of a smaller one, but for its last.

    Args:
        total: number of inputs.
        seed: random seed.
        wanted: number of images to draw, or ``all``.

    Returns:
        the indices of each group, in increasing order.

    Example:
        >>> [len(group) for group in groups_of(100, 0, 64)]
        [16, 48]
        >>> groups_of(100, 0, 64)[:1] == groups_of(100, 0, 16)
        True
    """
    drawn = np.random.default_rng(seed).permutation(total)[: total if wanted == ALL else wanted]
    ends = [0, *(FIRST_GROUP * 4**power for power in range(32))]
    return tuple(
        tuple(sorted(drawn[start:end].tolist()))
        for start, end in pairwise(ends)
        if start < len(drawn)
    )
