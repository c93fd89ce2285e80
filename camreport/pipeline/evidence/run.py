"""The evidence of a run, shard by shard, once its maps are written."""

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from camreport.engine import cost as engine
from camreport.engine.explainer import Explainer
from camreport.engine.targets import choose_targets
from camreport.errors import ResultsError
from camreport.images.loading import decode_ahead
from camreport.messages.progress import Progress, silent
from camreport.metrics.controls import CONTROLS
from camreport.metrics.effect import MASKS
from camreport.pipeline.evidence import held
from camreport.pipeline.evidence.choice import choose_of, is_shared
from camreport.pipeline.evidence.collages import measure_collages
from camreport.pipeline.evidence.compute import (
    Bench,
    collage_arrays,
    compute_evidence,
    count_undefined,
    spare_arrays,
    to_decode,
)
from camreport.pipeline.evidence.held import Held
from camreport.pipeline.evidence.kinds import Kind
from camreport.pipeline.evidence.learned import scramble_seeds
from camreport.pipeline.evidence.parts import Part, parts_of
from camreport.pipeline.job import Job
from camreport.pipeline.records import Tally
from camreport.pipeline.truth import unchanged
from camreport.pipeline.work import Work
from camreport.results.costs import Cost
from camreport.results.evidence import (
    COLLAGES,
    SPARE_COLLAGES,
    EvidenceCost,
    EvidenceEntry,
    EvidenceSidecar,
    PartEntry,
    evidence_name,
    spare_name,
)
from camreport.results.schema import IMAGE, Sidecar
from camreport.results.shards import Arrays, shard_name
from camreport.results.writer import Finished
from camreport.settings import ALL, FULL


def is_measured(job: Job, work: Work) -> bool:
    """Return whether all the evidence that a run asks for is there."""
    return not (_missing(job, work) or lacks_collages(job, work))


def lacks_collages(job: Job, work: Work) -> bool:
    """Return whether the evidence of collages is asked for and not there."""
    return held.asks_for_collages(job) and work.collages is None


def unsettled(job: Job, work: Work) -> list[int]:
    """Return the numbers of the shards whose evidence is still to be measured, or to be moved.

    Those of shards to come are among them, whether or not an input of theirs can be read.
    """
    there = {n for n, own in work.evidence.items() if own.settled}
    return [n for n in (job.numbers if job.asked else work.evidence) if n not in there]


def passes_ahead(job: Job, work: Work) -> int:
    """Return the number of passes over one image that shards' evidence still takes, at most."""
    return sum(_passes(part.kind, job) * len(part.indices) for part in _missing(job, work))


def passes_of_collages(job: Job, work: Work) -> int:
    """Return the number of passes over one image that collages still take, at most."""
    return len(job.asked.sample) * 3 if job.asked and lacks_collages(job, work) else 0


def _missing(job: Job, work: Work) -> list[Part]:
    """Return the parts that are asked for and not there, as far as they are known before."""
    found = list[Part]()
    for number in unsettled(job, work):
        own: Iterable[int] = job.indices(number)
        if number in work.kept:
            own = [one.index for one in work.kept[number].sidecar.images if one.readable]
        there = work.evidence[number].parts if number in work.evidence else {}
        found += [part for part in parts_of(job.asked, own) if part.name not in there]
    return found


def _passes(kind: Kind, job: Job) -> int:
    """Return the number of passes over one image that a kind of evidence takes, at most."""
    assert job.asked is not None
    plan, methods = job.plan, job.request.methods
    classes = choose_targets(torch.zeros(1, plan.classes), job.request.targets).shape[1]
    fused = len(plan.layers) > 1
    layers, slots = (len(plan.layers) + fused, classes) if job.asked.maps == ALL else (1 + fused, 1)
    passes = kind.passes((len(methods) + len(CONTROLS)) * layers * slots)
    if not kind.repeats:
        return passes
    some = job.asked.level == FULL or any(is_shared(job.request, method) for method in methods)
    return passes * (1 + classes) if some else 0


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
        How the model failed on what it was asked, by metric.
    """
    progress = begin() if _missing(job, work) else silent
    bench, failures = _bench(job, explainer), dict[str, str]()
    for number in unsettled(job, work):
        there = work.evidence[number].parts if number in work.evidence else {}
        failures = {**_settle(job, bench, number, there, progress), **failures}
    return failures


def settle_collages(
    job: Job, work: Work, explainer: Explainer, begin: Callable[[], Progress]
) -> Mapping[str, str]:
    """Move the finished evidence of collages to where it belongs, or measure it; as above."""
    asks, there = held.asks_for_collages(job), work.collages
    if there is not None:
        with suppress(ResultsError):
            arrays = job.writer.read(there.name, there.finished)
            name = COLLAGES if asks else SPARE_COLLAGES
            job.writer.commit_beside(name, arrays, there.finished.sidecar)
            return {}
    bench = _bench(job, explainer)
    return _measure_collages(job, bench, begin()) if asks and bench is not None else {}


def _bench(job: Job, explainer: Explainer) -> Bench | None:
    recipe = explainer, job.model.preprocessing, job.plan.batch
    return None if job.asked is None else Bench(job.asked, *recipe)


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
    return _total(found)


def _settle(
    job: Job,
    bench: Bench | None,
    number: int,
    there: Mapping[str, Held],
    progress: Progress,
) -> Mapping[str, str]:
    """Measure what is missing of a shard's evidence; write what is asked for, and what is spare.

    Returns:
        how the model failed on what it was asked, by metric.
    """
    finished = job.writer.written(number)
    if not finished.sidecar.bytes:
        return {}
    images = finished.sidecar.images
    parts = parts_of(job.asked, [image.index for image in images if image.readable])
    entries, arrays = _read(job, number, finished, there)
    spare = {name: own for name, own in entries.items() if name not in {p.name for p in parts}}
    if spare:
        shape = job.writer.targets(number, finished).shape
        _commit(job, spare_name(number), spare_arrays(spare, arrays, shape), finished, spare)
    if bench is None:
        return {}
    missing = [part for part in parts if part.name not in entries]
    decoded = decode_ahead(job.files, to_decode(missing), job.model.preprocessing)
    whole = job.writer.read(shard_name(number), finished)
    found = compute_evidence(bench, whole, images, parts, arrays, decoded, progress)
    sha256 = {image.index: image.sha256 for image in images}
    for part in missing:
        entries[part.name] = PartEntry(
            decided=part.decided(bench.asked, sha256),
            images=part.indices if part.kind.sampled else (),
            cost=_entry(found.costs[part.name]),
        )
    own = {part.name: entries[part.name] for part in parts}
    broken = {part.name for part in parts if found.unreadable.intersection(part.indices)}
    unread = broken.intersection(part.name for part in missing if part.kind.sampled)
    _commit(job, evidence_name(number), found.arrays, finished, own, unread, len(found.unreadable))
    return found.failures


def _read(
    job: Job, number: int, shard: Finished[Sidecar], there: Mapping[str, Held]
) -> tuple[dict[str, PartEntry], dict[str, Arrays]]:
    """Return the finished parts and the arrays of their files, without those that are damaged."""
    indices = [image.index for image in shard.sidecar.images if image.readable]
    files: dict[tuple[str, Path], Arrays] = {}
    entries, arrays = dict[str, PartEntry](), dict[str, Arrays]()
    for name, own in there.items():
        place = own.name, own.finished.folder
        if place not in files:
            with suppress(ResultsError):
                files[place] = job.writer.read(own.name, own.finished)
        found = files.setdefault(place, {})
        if np.array_equal(found.get(IMAGE, ()), indices):
            entries[name], arrays[name] = own.finished.sidecar.parts[name], found
    return entries, arrays


def _commit(
    job: Job,
    name: str,
    arrays: Arrays,
    shard: Finished[Sidecar],
    parts: Mapping[str, PartEntry],
    unread: Collection[str] = (),
    unreadable: int = 0,
) -> None:
    """Write evidence beside a shard; parts with images that could not be read are not finished."""
    sidecar = EvidenceSidecar(
        run="",
        methods=shard.sidecar.methods,
        parts={name: own for name, own in parts.items() if name not in unread},
        unreadable=unreadable,
        undefined=count_undefined(arrays),
        cost=_cost(parts),
        device=job.device,
        bytes=0,
    )
    job.writer.commit_beside(name, arrays, sidecar)


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
    parts = {held.GRID: PartEntry(decided=chosen.decided, cost=_entry(measured.cost))}
    sidecar = EvidenceSidecar(
        run="",
        methods=tuple(sorted(job.request.specs)),
        parts=parts,
        unreadable=0,
        undefined=count_undefined(arrays),
        cost=_cost(parts),
        device=job.device,
        bytes=0,
        doubled=measured.doubled if arrays else None,
    )
    job.writer.commit_beside(COLLAGES, arrays, sidecar)
    return {"grid": measured.failure} if measured.failure else {}


def _entry(cost: engine.Cost) -> Cost:
    return Cost(**asdict(replace(cost, seconds=round(cost.seconds, 3))))


def _cost(parts: Mapping[str, PartEntry]) -> EvidenceCost:
    """Return the cost of finished parts, in total and by metric."""
    found: dict[str, engine.Cost] = {}
    for name, own in parts.items():
        metric = name.partition(".")[0]
        found[metric] = found.get(metric, engine.Cost()) + engine.Cost(**asdict(own.cost))
    return _total(found)


def _total(costs: Mapping[str, engine.Cost]) -> EvidenceCost:
    total = asdict(_entry(sum(costs.values(), engine.Cost())))
    return EvidenceCost(**total, metrics={name: _entry(own) for name, own in costs.items()})


def _undefined(sidecars: Iterable[EvidenceSidecar]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for sidecar in sidecars:
        for number, reasons in sidecar.undefined.items():
            counts = found.setdefault(number, {})
            for reason, count in reasons.items():
                counts[reason] = counts.get(reason, 0) + count
    return found
