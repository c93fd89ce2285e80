"""The work of a run: what its results folder has already, and what has to be computed."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from camreport.errors import InputError, ResultsError
from camreport.images.inputs import Facts, InputFile, read_input
from camreport.images.loading import FailedInput, decode_ahead
from camreport.methods import Method
from camreport.pipeline.evidence.held import (
    Held,
    HeldEvidence,
    asks_for_collages,
    held_collages,
    held_evidence,
    staying,
)
from camreport.pipeline.job import Job
from camreport.pipeline.truth import unexplained
from camreport.results.schema import ImageEntry, Sidecar, TrueImage, TrueSidecar
from camreport.results.shards import true_name
from camreport.results.writer import Finished


@dataclass(frozen=True)
class Change:
    """A finished shard whose methods or contributions differ from those of the run.

    Attributes:
        finished: the shard.
        adding: the methods to add; none if it only has too many.
        contributions: whether to add the contributions of channels.
        loses: whether it has maps that the run leaves out.
    """

    finished: Finished[Sidecar]
    adding: tuple[Method, ...]
    contributions: bool
    loses: bool

    @property
    def adds(self) -> bool:
        """Whether something is computed for it."""
        return bool(self.adding or self.contributions)


@dataclass(frozen=True)
class Work:
    """The shards of a run and the files beside them, by number, as they are found.

    Attributes:
        kept: finished shards that stay unchanged.
        changing: finished shards whose methods differ from those of the run.
        lost: the shards to compute from scratch.
        true: finished files of true classes that stay beside kept shards.
        unexplained: for each further kept shard, the images whose true class is to be explained.
        evidence: what is finished of the evidence for kept shards.
        collages: where the finished evidence of collages lies, if there is some.
    """

    kept: dict[int, Finished[Sidecar]]
    changing: dict[int, Change]
    lost: list[int]
    true: dict[int, Finished[TrueSidecar]]
    unexplained: dict[int, tuple[TrueImage, ...]]
    evidence: dict[int, HeldEvidence]
    collages: Held | None

    @property
    def explained(self) -> list[int]:
        """Numbers of the shards for which maps are computed."""
        adding = [number for number, change in self.changing.items() if change.adds]
        return sorted([*self.lost, *adding])

    @property
    def written(self) -> list[int]:
        """Numbers of the shards that are written."""
        return sorted([*self.lost, *self.changing])

    @property
    def is_readable(self) -> bool:
        """Whether an input is known that can be read."""
        changing = [change.finished for change in self.changing.values()]
        return any(one.sidecar.bytes for one in (*self.kept.values(), *changing))

    def inputs(self, job: Job) -> int:
        """Return the number of inputs of which something is computed, apart from evidence."""
        maps = sum(len(job.indices(number)) for number in self.explained)
        return maps + sum(map(len, self.unexplained.values()))

    @property
    def growing(self) -> list[int]:
        """Numbers of the finished shards that keep all their maps and get further ones."""
        return [number for number, change in self.changing.items() if not change.loses]

    def beside(self, job: Job) -> dict[str, Path]:
        """Return the folders of the files that stay beside kept shards, by the files' names."""
        true = {true_name(number): one.folder for number, one in self.true.items()}
        return true | staying(job, self.evidence, self.collages)


def find_work(job: Job) -> Work:
    """Sort the shards by what has to be computed.

    Inputs with a transient failure are read again; their shard is kept if they still fail.
    """
    there = _usable(job)
    apart = _unexplained(job, there)
    specs = job.specs
    kept = {n: one for n, one in there.items() if {*one.sidecar.methods} == specs}
    true = {
        number: done
        for number, images in apart.items()
        if number in kept
        and (done := finished_true(job, number, images))
        and {*done.sidecar.methods} == job.true_specs
    }
    return Work(
        kept=kept,
        changing={n: _change(job, one) for n, one in there.items() if n not in kept},
        lost=[number for number in job.numbers if number not in there],
        true=true,
        unexplained={n: apart[n] for n in apart if n in kept and n not in true},
        evidence={n: held_evidence(job, n, one.sidecar) for n, one in kept.items()},
        collages=_collages(job, kept),
    )


def finished_true(
    job: Job, number: int, images: tuple[TrueImage, ...]
) -> Finished[TrueSidecar] | None:
    """Return a shard's finished file of true classes of just these images, if there is one."""
    return job.writer.finished_beside(
        true_name(number), TrueSidecar, lambda sidecar: sidecar.images == images
    )


def _usable(job: Job) -> dict[int, Finished[Sidecar]]:
    """Return the finished shards whose inputs are unchanged and would not be read better now."""
    there = {
        number: finished
        for number in job.numbers
        if (finished := job.writer.finished(number)) and _is_current(job, number, finished.sidecar)
    }
    for number in _no_longer_failing(job, there):
        del there[number]
    return there


def _unexplained(job: Job, there: dict[int, Finished[Sidecar]]) -> dict[int, tuple[TrueImage, ...]]:
    """Return for each finished shard the images whose true class it does not explain.

    A shard whose list of explained classes is damaged is taken out of ``there``.
    """
    found = {}
    for number, finished in [*there.items()] if job.of_class else ():
        images = job.describe(finished.sidecar).images
        if not any(image.readable and image.label is not None for image in images):
            continue
        try:
            found[number] = unexplained(images, job.writer.targets(number, finished))
        except ResultsError:
            del there[number]
    return {number: images for number, images in found.items() if images}


def _no_longer_failing(job: Job, finished: Mapping[int, Finished[Sidecar]]) -> set[int]:
    """Return the shards with an input whose transient failure is over or has become permanent."""
    shard_of = {
        image.index: number
        for number, one in finished.items()
        for image in one.sidecar.images
        if image.transient
    }
    return {
        shard_of[index]
        for index, image in decode_ahead(job.files, [*shard_of], job.model.preprocessing)
        if not (isinstance(image, FailedInput) and image.transient)
    }


def _is_current(job: Job, number: int, sidecar: Sidecar) -> bool:
    """Return whether a finished shard's inputs are unchanged."""
    indices = job.indices(number)
    return [image.index for image in sidecar.images] == [*indices] and all(
        image.file == job.files[i].name and _is_unchanged(job.files[i], image, fact)
        for i, image, fact in zip(indices, sidecar.images, sidecar.facts, strict=True)
    )


def _is_unchanged(file: InputFile, image: ImageEntry, before: Facts | None) -> bool:
    """Return whether a file is unchanged, by its size and times of change or else by its bytes."""
    now = file.facts
    if now == before:
        return True
    if now is None or before is None or now.bytes != before.bytes:
        return False
    try:
        return hashlib.sha256(read_input(file)).hexdigest() == image.sha256
    except (OSError, InputError):
        return False


def _collages(job: Job, kept: Mapping[int, Finished[Sidecar]]) -> Held | None:
    """Return where the finished evidence of collages lies; labels decide which images they show."""
    sample = job.asked.sample if job.asked and asks_for_collages(job) else ()
    known = {index // job.plan.shard for index in sample} <= kept.keys()
    sidecars = {number: one.sidecar for number, one in kept.items()}
    return held_collages(job, job.sampled(sidecars.__getitem__) if sample and known else None)


def _change(job: Job, finished: Finished[Sidecar]) -> Change:
    """Return how a finished shard of other methods changes."""
    has = {*finished.sidecar.methods}
    summing = bool(finished.sidecar.bytes) and not {*job.plan.vectors} <= has
    return Change(finished, _adding(job, finished), summing, loses=not has <= job.specs)


def _adding(job: Job, finished: Finished[Sidecar]) -> tuple[Method, ...]:
    """Return the methods to add to a finished shard; only those with a map at one layer or more."""
    if not finished.sidecar.bytes:  # none of its inputs can be read
        return ()
    nowhere = {skip.method for skip in job.plan.skipped if skip.layer is None}
    pairs = zip(job.request.methods, job.request.specs, strict=True)
    return tuple(
        method
        for method, spec in pairs
        if spec not in finished.sidecar.methods and method.key not in nowhere
    )
