"""The evidence of a run, shard by shard, once its maps are written."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace

import numpy as np
import torch
from numpy.typing import NDArray

from camreport.engine import cost as engine
from camreport.engine.explainer import Explainer
from camreport.engine.targets import choose_targets
from camreport.images.loading import decode_ahead
from camreport.messages.progress import Progress
from camreport.methods.registry import SHARED
from camreport.metrics.controls import CONTROLS
from camreport.metrics.effect import MASKS
from camreport.pipeline.evidence.choice import Asked, choose_of
from camreport.pipeline.evidence.collages import measure_collages
from camreport.pipeline.evidence.compute import (
    Bench,
    collage_arrays,
    compute_evidence,
    count_undefined,
)
from camreport.pipeline.evidence.kinds import kinds_of
from camreport.pipeline.evidence.learned import scramble_seeds
from camreport.pipeline.job import Job
from camreport.pipeline.records import Tally
from camreport.pipeline.truth import unchanged
from camreport.pipeline.work import Work
from camreport.results.costs import Cost
from camreport.results.evidence import (
    COLLAGES,
    EvidenceCost,
    EvidenceEntry,
    EvidenceSidecar,
    evidence_name,
)
from camreport.results.shards import shard_name
from camreport.settings import ALL, FULL


def is_measured(job: Job, work: Work) -> bool:
    """Return whether all the evidence that a run asks for is there."""
    return not (unmeasured(job, work) or lacks_collages(job, work))


def lacks_collages(job: Job, work: Work) -> bool:
    """Return whether the evidence of collages is asked for and not there."""
    return job.asked is not None and "grid" in job.asked.keys and work.collages is None


def unmeasured(job: Job, work: Work) -> list[int]:
    """Return the numbers of the shards whose maps are still to be measured.

    Those of shards to come are among them, whether or not an input of theirs can be read.
    """
    if job.asked is None:
        return []
    empty = {number for number, one in work.kept.items() if not one.sidecar.bytes}
    return [number for number in job.numbers if number not in (empty | work.evidence.keys())]


def passes_ahead(job: Job, work: Work) -> int:
    """Return the number of passes over one image that shards' evidence still takes, at most."""
    if job.asked is None:
        return 0
    left = {index for number in unmeasured(job, work) for index in job.indices(number)}
    return passes_of_image(job.asked, job) * len(left.intersection(job.asked.sample))


def passes_of_collages(job: Job, work: Work) -> int:
    """Return the number of passes over one image that collages still take, at most."""
    return len(job.asked.sample) * 3 if job.asked and lacks_collages(job, work) else 0


def passes_of_image(asked: Asked, job: Job) -> int:
    """Return the number of passes over one image of the sample, as far as it is known before."""
    plan, methods = job.plan, len(job.request.methods)
    classes = choose_targets(torch.zeros(1, plan.classes), job.request.targets).shape[1]
    fused = len(plan.layers) > 1
    layers, slots = (len(plan.layers) + fused, classes) if asked.maps == ALL else (1 + fused, 1)
    orders = (methods + len(CONTROLS)) * layers * slots
    copies = {"noise", "aug"}.intersection(job.request.smooth)
    repeated = asked.level == FULL or any(
        method.needs.passes == SHARED and not (copies and method.supports_smoothing)
        for method in job.request.methods
    )
    return sum(
        kind.passes(orders) * (1 + classes if kind.repeats else 1)
        for kind in kinds_of(asked.keys)
        if repeated or not kind.repeats
    )


def measure_missing(
    job: Job, work: Work, explainer: Explainer, begin: Callable[[], Progress]
) -> Mapping[str, str]:
    """Measure the maps of every shard that lacks its evidence, and write what was measured.

    Args:
        job: the job; all its shards are written.
        work: what was there.
        explainer: of the run's methods; entered.
        begin: called first, if anything is measured; returns what is told of finished passes.

    Returns:
        The metrics that the model fails on, each with what it raised.
    """
    if job.asked is None or not (left := unmeasured(job, work)):
        return {}
    bench = Bench(job.asked, explainer, job.model.preprocessing, job.plan.batch)
    progress, failures = begin(), dict[str, str]()
    for number in left:
        failures = {**_measure(job, bench, number, progress), **failures}
    return failures


def measure_collages_of(job: Job, explainer: Explainer, progress: Progress) -> Mapping[str, str]:
    """Measure maps of collages of the run's images and write what was measured.

    Args:
        job: the job; all its shards are written, and it asks for collages.
        explainer: of the run's methods; entered.
        progress: called with the number of further finished passes over one image.

    Returns:
        The metrics that the model fails on, each with what it raised.
    """
    assert job.asked is not None
    bench = Bench(job.asked, explainer, job.model.preprocessing, job.plan.batch)
    return _measure_collages(job, bench, progress)


def evidence_entry(job: Job, tally: Tally) -> EvidenceEntry | None:
    """Return what the manifest says of the evidence; None if nothing was asked."""
    asked = job.asked
    if asked is None:
        return None
    sidecars = tally.measured
    failed = {image.index for images in tally.failed.values() for image in images}
    return EvidenceEntry(
        level=asked.level,
        metrics=asked.keys,
        maps=asked.maps,
        seed=asked.seed,
        sample=tuple(index for index in asked.sample if index not in failed),
        unreadable=len(failed.intersection(asked.sample)) + sum(s.unreadable for s in sidecars),
        baseline="mean",
        masks=MASKS if "effect" in asked.keys else None,
        scrambled=scramble_seeds(asked.seed) if "learned" in asked.keys else (),
        doubled=tally.collages.doubled if tally.collages else None,
        regions=None if asked.regions is None else len(asked.regions),
        undefined=_undefined(sidecars),
    )


def evidence_cost(tally: Tally) -> EvidenceCost | None:
    """Return the cost of the evidence, in total and by metric; None if nothing was measured."""
    if not tally.measured:
        return None
    found: dict[str, engine.Cost] = {}
    for sidecar in tally.measured:
        for metric, own in sidecar.cost.metrics.items():
            found[metric] = found.get(metric, engine.Cost()) + engine.Cost(**asdict(own))
    return _cost(found)


def _measure(job: Job, bench: Bench, number: int, progress: Progress) -> Mapping[str, str]:
    """Measure the maps of a shard and write what was measured beside it; return failures."""
    finished = job.writer.written(number)
    sidecar = finished.sidecar
    if not sidecar.bytes:
        return {}
    arrays = job.writer.read(shard_name(number), finished)
    drawn = {*bench.asked.sample}
    todo = [image.index for image in sidecar.images if image.readable and image.index in drawn]
    decoded = decode_ahead(job.files, todo, job.model.preprocessing)
    found = compute_evidence(bench, arrays, sidecar.images, decoded, progress)
    own = EvidenceSidecar(
        run="",
        methods=sidecar.methods,
        decided=bench.asked.decided(sidecar.images),
        unreadable=found.unreadable,
        undefined=found.undefined,
        cost=_cost(found.costs),
        device=job.device,
        bytes=0,
    )
    job.writer.commit_beside(evidence_name(number), found.arrays, own)
    return found.failures


def _measure_collages(job: Job, bench: Bench, progress: Progress) -> Mapping[str, str]:
    """Measure maps of collages of the run's images and write what was measured; as above."""
    images = job.sampled(lambda number: job.writer.written(number).sidecar)
    chosen = choose_of(bench.asked, images)

    def read(indices: NDArray[np.int64]) -> NDArray[np.float32]:
        todo = indices.tolist()
        decoded = decode_ahead(job.files, todo, bench.preprocessing)
        pixels = [unchanged(job.files[i], image, chosen.sha256[i]) for i, image in decoded]
        return bench.preprocessing.standardised(np.stack(pixels))

    weight = 1 + chosen.collages.target.shape[1]
    measured = measure_collages(
        bench.explainer,
        chosen.collages,
        read,
        bench.preprocessing,
        bench.asked.seed,
        lambda collages: progress(collages * weight),
    )
    arrays = collage_arrays(chosen.collages, measured.values)
    sidecar = EvidenceSidecar(
        run="",
        methods=tuple(sorted(job.request.specs)),
        decided=chosen.decided,
        unreadable=0,
        undefined=count_undefined(arrays),
        cost=_cost({"grid": measured.cost}),
        device=job.device,
        bytes=0,
        doubled=measured.doubled if arrays else None,
    )
    job.writer.commit_beside(COLLAGES, arrays, sidecar)
    return {"grid": measured.failure} if measured.failure else {}


def _cost(costs: Mapping[str, engine.Cost]) -> EvidenceCost:
    rounded = {name: replace(cost, seconds=round(cost.seconds, 3)) for name, cost in costs.items()}
    whole = sum(rounded.values(), engine.Cost())
    entries = {name: Cost(**asdict(cost)) for name, cost in rounded.items()}
    total = asdict(whole) | {"seconds": round(whole.seconds, 3)}
    return EvidenceCost(**total, metrics=entries)


def _undefined(sidecars: Iterable[EvidenceSidecar]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for sidecar in sidecars:
        for number, reasons in sidecar.undefined.items():
            counts = found.setdefault(number, {})
            for reason, count in reasons.items():
                counts[reason] = counts.get(reason, 0) + count
    return found
