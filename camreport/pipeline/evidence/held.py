"""What earlier runs have finished of the evidence, and where it lies.

What the run asks for lies in ``evidence-000000.npz``, the rest in ``spare-000000.npz``, so that
equal runs leave equal evidence, and a run that asks for less takes nothing from a later one.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from camreport.pipeline.evidence.choice import choose_of
from camreport.pipeline.evidence.parts import parts_of
from camreport.pipeline.job import Job
from camreport.results.evidence import (
    COLLAGES,
    SPARE_COLLAGES,
    EvidenceSidecar,
    evidence_name,
    spare_name,
)
from camreport.results.reader import NEXT
from camreport.results.schema import ImageEntry, Sidecar
from camreport.results.writer import Finished

GRID = "grid"
"""Name of the part that is measured on collages."""


@dataclass(frozen=True)
class Held:
    """Where a finished part lies.

    Attributes:
        name: the name of the file of arrays.
        finished: the file.
    """

    name: str
    finished: Finished[EvidenceSidecar]


@dataclass(frozen=True)
class HeldEvidence:
    """What is finished of the evidence for a shard.

    Attributes:
        parts: the finished parts by name, without those that are asked for and decided otherwise.
        missing: whether parts are asked for that are not there.
        shown: the file with just the parts that are asked for; None if there is none, or none is
            asked for.
        spare: the file with just the other parts, likewise.
        settled: whether everything lies in these two files.
    """

    parts: Mapping[str, Held]
    missing: bool
    shown: Finished[EvidenceSidecar] | None
    spare: Finished[EvidenceSidecar] | None
    settled: bool


def held_evidence(job: Job, number: int, sidecar: Sidecar) -> HeldEvidence:
    """Return what is finished of the evidence for a shard that stays."""
    sha256 = {image.index: image.sha256 for image in sidecar.images if image.readable}
    asked = parts_of(job.asked, sha256) if sidecar.bytes else []
    decided = {part.name: part.decided(job.asked, sha256) for part in asked if job.asked}
    files, parts = (evidence_name(number), spare_name(number)), dict[str, Held]()
    for held in _files(job, files):
        for name, entry in held.finished.sidecar.parts.items():
            if decided.get(name, entry.decided) == entry.decided:
                parts.setdefault(name, held)
    others = [name for name in parts if name not in decided]
    missing = not decided.keys() <= parts.keys()
    shown = None if missing else _one(files[0], parts, decided)
    spare = _one(files[1], parts, others)
    settled = not missing and bool(shown or not decided) and bool(spare or not others)
    return HeldEvidence(parts, missing, shown, spare, settled)


def held_collages(job: Job, images: Sequence[ImageEntry] | None) -> Held | None:
    """Return where the finished evidence of collages lies, if it is what the run asks for, if any.

    Args:
        job: the job.
        images: the readable images of the sample, with labels, which decide on the collages; None
            if some are not known.
    """
    files = _files(job, (COLLAGES, SPARE_COLLAGES))
    if not asks_for_collages(job):
        return next(files, None)
    if images is None or job.asked is None:
        return None
    decided = choose_of(job.asked, images).decided
    return next((held for held in files if _decided(held) == decided), None)


def asks_for_collages(job: Job) -> bool:
    """Return whether a run asks for evidence that is measured on collages."""
    return job.asked is not None and GRID in job.asked.keys


def is_settled(job: Job, collages: Held | None) -> bool:
    """Return whether the evidence of collages lies where it belongs."""
    if collages is None:
        return not asks_for_collages(job)
    return collages.name == (COLLAGES if asks_for_collages(job) else SPARE_COLLAGES)


def staying(
    job: Job, evidence: Mapping[int, HeldEvidence], collages: Held | None
) -> dict[str, Path]:
    """Return the folders of the files of evidence that stay as they are, by the files' names."""
    found = dict[str, Path]()
    for number, held in evidence.items():
        if held.settled:
            pairs = (evidence_name(number), held.shown), (spare_name(number), held.spare)
            found |= {name: finished.folder for name, finished in pairs if finished}
    if collages and is_settled(job, collages):
        found[collages.name] = collages.finished.folder
    return found


def _files(job: Job, names: Collection[str]) -> Iterator[Held]:
    """Yield the finished files of some names, those of an unfinished run first."""
    found = [
        Held(name, one) for name in names for one in job.writer.all_beside(name, EvidenceSidecar)
    ]
    yield from sorted(found, key=lambda held: held.finished.folder.name != NEXT)


def _one(
    name: str, parts: Mapping[str, Held], own: Collection[str]
) -> Finished[EvidenceSidecar] | None:
    """Return the file of a name that has just some of the parts; None if it is not so."""
    files = {(parts[part].name, parts[part].finished.folder) for part in own}
    if len(files) != 1:
        return None
    held = parts[next(iter(own))]
    same = held.name == name and held.finished.sidecar.parts.keys() == {*own}
    return held.finished if same else None


def _decided(held: Held) -> str | None:
    parts = held.finished.sidecar.parts
    return parts[GRID].decided if GRID in parts else None
