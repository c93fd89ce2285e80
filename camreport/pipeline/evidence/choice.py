"""What is measured of a run's maps, and on which of its images."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from camreport.metrics import METRICS, Metric, resolve_metrics
from camreport.metrics.registry import LEVELS
from camreport.pipeline.run_plan import Request
from camreport.results.schema import ImageEntry
from camreport.settings import ALL, FULL, OFF

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
        sample: indices of the images on which passes are spent, in increasing order.
        methods: the methods of the run, as its sidecars list them.
    """

    level: Literal["basic", "full"]
    metrics: tuple[Metric, ...]
    maps: Literal["main", "all"]
    seed: int
    sample: tuple[int, ...]
    methods: tuple[str, ...]

    def decided(self, images: Sequence[ImageEntry]) -> str:
        """Return a digest of everything that decides the evidence for the maps of some images."""
        drawn = {*self.sample}
        parts = {
            "level": self.level,
            "metrics": [metric.key for metric in self.metrics],
            "maps": self.maps,
            "seed": self.seed,
            "methods": sorted(self.methods),
            "images": [
                [image.index, image.sha256, image.index in drawn]
                for image in images
                if image.readable
            ],
        }
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def asked_of(request: Request, total: int) -> Asked | None:
    """Return what a run's settings ask to be measured; None for nothing.

    Args:
        request: what to compute.
        total: number of inputs.
    """
    settings = request.settings
    if settings.evidence == OFF:
        return None
    by_name = {*resolve_metrics(settings.metrics)} if settings.metrics else set()
    known = LEVELS[: LEVELS.index(FULL if settings.evidence == FULL else "basic") + 1]
    wanted = settings.evidence_images or SAMPLES[settings.evidence]
    return Asked(
        level=cast(Literal["basic", "full"], settings.evidence),
        metrics=tuple(
            metric
            for metric in METRICS.values()
            if metric in by_name or (metric.level in known and metric.needs != "regions")
        ),
        maps=cast(Literal["main", "all"], settings.evidence_maps),
        seed=settings.seed,
        sample=sample_of(total, settings.seed, wanted),
        methods=tuple(request.specs),
    )


def sample_of(total: int, seed: int, wanted: int | str) -> tuple[int, ...]:
    """Draw images; a larger sample with the same seed holds every smaller one.

    Args:
        total: number of inputs.
        seed: random seed.
        wanted: number of images to draw, or ``all``.

    Returns:
        their indices, in increasing order.

    Example:
        >>> set(sample_of(100, 0, 16)) < set(sample_of(100, 0, 64))
        True
    """
    drawn = np.random.default_rng(seed).permutation(total)
    return tuple(sorted(drawn[: total if wanted == ALL else int(wanted)].tolist()))
