"""Evidence of a results folder, drawn and not measured: for tests of what reads it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from camreport.insight.numbers import map_keys
from camreport.metrics.controls import CONTROLS
from camreport.metrics.values import Undefined, Values
from camreport.results.evidence import (
    BOX_CLASSES,
    BOXES,
    COLLAGES,
    SCRAMBLED,
    SCRAMBLED_IMAGE,
    EvidenceCost,
    EvidenceEntry,
    NumberKey,
    evidence_name,
)
from camreport.results.reader import MANIFEST, Results, load_results
from camreport.results.schema import FUSED, IMAGE, TARGETS, MapKey
from camreport.results.shards import Arrays, shard_name

NUMBERS = {
    "contrast": (-1.0, 1.0),
    "contrast.overlap": (0.0, 1.0),
    "effect": (-1.0, 1.0),
    "order": (-0.6, 0.8),
    "order.deletion": (0.0, 1.0),
    "order.insertion": (0.0, 1.0),
    "order.tied": (0.0, 1.0),
    "learned": (-1.0, 1.0),
    "learned.edges": (-1.0, 1.0),
    "stability": (0.0, 2.0),
    "stability.correlation": (0.0, 2.0),
    "stability.mirror": (-1.0, 1.0),
    "extent": (0.0, 1.0),
    "extent.gini": (0.0, 1.0),
    "extent.entropy": (0.0, 1.0),
    "extent.gini14": (0.0, 1.0),
    "extent.entropy14": (0.0, 1.0),
    "regions": (0.0, 1.0),
    "regions.lift": (0.0, 6.0),
    "regions.hit": (0.0, 1.0),
    "regions.rank": (0.0, 1.0),
    "regions.iou": (0.0, 1.0),
    "regions.tied": (0.0, 0.1),
}
"""Least and greatest value of each number that is drawn."""

BASIC = ("contrast", "learned", "extent")
FULL = ("contrast", "effect", "order", "grid", "learned", "stability", "extent")
ON_ALL = ("contrast", "extent", "regions")
"""Questions at each level, without regions; those that are asked of all images."""

STEPS = 11
COLLAGE_CELLS = 4
SEEDS = (0, 1, 2)


def write_evidence(
    out: Path,
    *,
    level: str = "basic",
    sample: int = 16,
    regions: bool = False,
    controls: Sequence[str] = CONTROLS,
    seed: int = 0,
) -> Path:
    """Write evidence beside the shards of ``OUT/results``, and into its manifest.

    Numbers of later methods are a little better than those of earlier ones, those of controls lie
    around the middle of their range; some are undefined. Scrambled maps are the maps, rolled.

    Args:
        out: the folder of the report.
        level: ``basic`` or ``full``.
        sample: number of images on which passes were spent.
        regions: whether regions are known.
        controls: rows of the controls.
        seed: of all that is drawn.

    Returns:
        ``out``.
    """
    results, random = load_results(out), np.random.default_rng(seed)
    questions = [*(FULL if level == "full" else BASIC), *(["regions"] if regions else [])]
    readable = [image.index for image in results.readable]
    chosen = sorted(random.permutation(readable)[:sample].tolist())
    for number in sorted(
        {image.index // results.manifest.totals.shard_length for image in results.readable}
    ):
        arrays = _arrays(results, number, questions, chosen, controls, random)
        np.savez(results.path / evidence_name(number), **arrays)  # type: ignore[arg-type]
    if "grid" in questions:
        collages = _collages(results, chosen, controls, random)
        np.savez(results.path / COLLAGES, **collages)  # type: ignore[arg-type]
    entry = EvidenceEntry(
        level="full" if level == "full" else "basic",
        metrics=tuple(questions),
        maps="main",
        seed=seed,
        sample=tuple(chosen),
        unreadable=0,
        baseline="mean",
        masks=128 if "effect" in questions else None,
        scrambled=SEEDS,
        regions=len(readable) if regions else None,
        undefined={},
    )
    cost = EvidenceCost(forwards=9, backwards=6, variants=0, maps=0, seconds=1.0, metrics={})
    whole = replace(results.manifest.cost, evidence=cost)
    manifest = replace(results.manifest, evidence=entry, cost=whole)
    (results.path / MANIFEST).write_text(json.dumps(manifest.to_json()), encoding="utf-8")
    return out


def _arrays(
    results: Results,
    number: int,
    questions: Sequence[str],
    sample: Sequence[int],
    controls: Sequence[str],
    random: np.random.Generator,
) -> Arrays:
    """Return the arrays of a shard's evidence."""
    shard = results.shard(shard_name(number))
    count, slots = shard[TARGETS].shape
    first = number * results.manifest.totals.shard_length
    sampled = np.isin(np.arange(first, first + count), sample)
    arrays: Arrays = {IMAGE: shard[IMAGE], SCRAMBLED_IMAGE: shard[IMAGE][sampled]}
    maps = [key for key in map_keys(shard) if shard[str(key)].ndim == 4]
    places = [*dict.fromkeys(key.layer for key in maps)]
    main = (results.manifest.glance.layer, FUSED)
    keys = [*maps, *(MapKey(row, layer) for row in controls for layer in places)]
    for key in keys:
        for name in NUMBERS:
            question = name.partition(".")[0]
            if question in questions and (question != "order" or key.layer in main):
                known = np.full(count, True) if question in ON_ALL else sampled
                quality = (
                    0.5 if key.method in controls else 0.55 + 0.1 * maps.index(key) / len(maps)
                )
                _add(arrays, NumberKey(name, *key), _drawn(random, name, quality, known, slots))
        if "order" in questions and key.layer in main:
            for name in ("order.morf", "order.lerf"):
                curve = np.sort(random.random((count, slots, STEPS)), -1)[..., ::-1]
                curve[~sampled] = np.nan
                arrays[str(NumberKey(name, *key))] = curve.astype(np.float32)
    if "effect" in questions:
        for name in ("effect.ceiling", "effect.additivity"):
            drawn = Values.of(
                random.uniform(0.6, 1, (count, slots)),
                (Undefined.NOT_MEASURED, ~sampled[:, None]),
            )
            _add(arrays, NumberKey(name), drawn)
    for seed in SEEDS:
        for key in maps:
            rolled = np.roll(shard[str(key)][sampled], seed + 1, (-2, -1))
            arrays[f"{SCRAMBLED}{seed}/{key}"] = rolled
    if "regions" in questions:
        arrays |= _regions(random, count)
    return arrays


def _drawn(
    random: np.random.Generator,
    name: str,
    quality: float,
    known: NDArray[np.bool_],
    slots: int,
) -> Values:
    """Draw numbers ``(n, K)`` around a place between their ends; one in twenty is undefined."""
    low, high = NUMBERS[name]
    noise = random.normal(0, 0.12, (len(known), slots))
    numbers = low + (high - low) * np.clip(quality + noise, 0, 1)
    if name == "regions.hit":
        numbers = (numbers > 0.5).astype(float)
    empty = random.random(numbers.shape) < 0.05
    return Values.of(
        numbers, (Undefined.NOT_MEASURED, ~known[:, None]), (Undefined.NO_POSITIVE, empty)
    )


def _add(arrays: Arrays, key: NumberKey, values: Values) -> None:
    arrays[str(key)], arrays[key.reasons] = values.numbers, values.reasons


def _regions(random: np.random.Generator, count: int) -> Arrays:
    """Draw one region of the first class for each image, and a second one for every other."""
    rows = sorted([*range(count), *range(0, count, 2)])
    corner = random.uniform(0.1, 0.4, (len(rows), 2))
    far = corner + random.uniform(0.2, 0.5, (len(rows), 2))
    boxes = np.column_stack([rows, corner, far]).astype(np.float32)
    classes = np.array([place % 2 - (place % 3 == 2) for place in range(len(rows))], np.int64)
    return {BOXES: boxes, BOX_CLASSES: np.maximum(classes, -1)}


def _collages(
    results: Results, sample: Sequence[int], controls: Sequence[str], random: np.random.Generator
) -> Arrays:
    """Return the arrays of collages of two classes."""
    count = max(1, len(sample) // COLLAGE_CELLS)
    image = random.choice(list(sample), (count, COLLAGE_CELLS))
    arrays: Arrays = {IMAGE: image, TARGETS: np.tile([0, 1, 1, 0], (count, 1))}
    for key in _collage_keys(results, controls):
        _add(arrays, key, Values.of(random.uniform(0.2, 1, image.shape)))
    return arrays


def _collage_keys(results: Results, controls: Sequence[str]) -> Iterator[NumberKey]:
    for row in (*results.manifest.shown_methods, *controls):
        for layer in results.manifest.layers:
            yield NumberKey("grid", row, layer.address)
