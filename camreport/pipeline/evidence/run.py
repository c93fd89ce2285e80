"""The evidence of a run, shard by shard, once its maps are written."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace

import torch

from camreport.engine import cost as engine
from camreport.engine.explainer import Explainer
from camreport.engine.targets import choose_targets
from camreport.images.loading import decode_ahead
from camreport.messages.progress import Measuring, Progress
from camreport.metrics.controls import CONTROLS
from camreport.metrics.effect import MASKS
from camreport.pipeline.evidence.choice import Asked
from camreport.pipeline.evidence.compute import Bench, compute_evidence
from camreport.pipeline.evidence.kinds import kinds_of
from camreport.pipeline.job import Job
from camreport.pipeline.records import Tally
from camreport.pipeline.work import Work
from camreport.results.costs import Cost
from camreport.results.evidence import (
    EvidenceCost,
    EvidenceEntry,
    EvidenceSidecar,
    evidence_name,
)
from camreport.results.shards import shard_name
from camreport.settings import ALL


def unmeasured(job: Job, work: Work) -> list[int]:
    """Return the numbers of the shards whose maps are still to be measured.

    Those of shards to come are among them, whether or not an input of theirs can be read.
    """
    if job.asked is None:
        return []
    empty = {number for number, one in work.kept.items() if not one.sidecar.bytes}
    return [number for number in job.numbers if number not in (empty | work.evidence.keys())]


def passes_ahead(job: Job, work: Work) -> int:
    """Return the number of passes over one image that the evidence still takes, at most."""
    if job.asked is None:
        return 0
    left = {index for number in unmeasured(job, work) for index in job.indices(number)}
    return passes_of_image(job.asked, job) * len(left.intersection(job.asked.sample))


def passes_of_image(asked: Asked, job: Job) -> int:
    """Return the number of passes over one image of the sample, as far as it is known before."""
    plan, methods = job.plan, len(job.request.methods)
    classes = choose_targets(torch.zeros(1, plan.classes), job.request.targets).shape[1]
    fused = len(plan.layers) > 1
    layers, slots = (len(plan.layers) + fused, classes) if asked.maps == ALL else (1 + fused, 1)
    orders = (methods + len(CONTROLS)) * layers * slots
    return sum(
        kind.passes(orders) * (1 + classes if kind.repeats else 1) for kind in kinds_of(asked)
    )


def measure_missing(
    job: Job, work: Work, explainer: Explainer, tally: Tally, measuring: Measuring
) -> None:
    """Measure the maps of every shard that lacks its evidence, and write what was measured.

    Args:
        job: the job; all its shards are written.
        work: what was there.
        explainer: of the run's methods; entered.
        tally: what is finished is added to it.
        measuring: called with the number of passes over one image that it takes.
    """
    if job.asked is None or not (left := unmeasured(job, work)):
        return
    bench = Bench(job.asked, explainer, job.model.preprocessing, job.plan.batch)
    progress = measuring(passes_ahead(job, work))
    for number in left:
        _measure(job, bench, number, tally, progress)


def evidence_entry(job: Job, tally: Tally) -> EvidenceEntry | None:
    """Return what the manifest says of the evidence; None if nothing was asked."""
    asked = job.asked
    if asked is None:
        return None
    metrics = tuple(metric.key for metric in asked.metrics)
    sidecars = [tally.evidence[number] for number in sorted(tally.evidence)]
    failed = {image.index for images in tally.failed.values() for image in images}
    return EvidenceEntry(
        level=asked.level,
        metrics=metrics,
        maps=asked.maps,
        seed=asked.seed,
        sample=tuple(index for index in asked.sample if index not in failed),
        unreadable=len(failed.intersection(asked.sample)) + sum(s.unreadable for s in sidecars),
        baseline="mean",
        masks=MASKS if "effect" in metrics else None,
        scrambled=(),
        regions=None if asked.regions is None else len(asked.regions),
        undefined=_undefined(sidecars),
        cost=total_evidence([sidecar.cost for sidecar in sidecars]),
    )


def total_evidence(costs: Iterable[EvidenceCost]) -> EvidenceCost:
    """Add up the costs of evidence, in total and by metric."""
    found: dict[str, engine.Cost] = {}
    for cost in costs:
        for metric, own in cost.metrics.items():
            found[metric] = found.get(metric, engine.Cost()) + engine.Cost(**asdict(own))
    return _cost(found)


def _measure(job: Job, bench: Bench, number: int, tally: Tally, progress: Progress) -> None:
    """Measure the maps of a shard and write what was measured beside it."""
    finished = job.writer.written(number)
    sidecar = finished.sidecar
    if not sidecar.bytes:
        return
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
    tally.evidence[number] = own


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
