"""A run on this machine: decodes inputs ahead, computes shards and writes them in a thread.

probe ─▶ RunPlan ─▶ for each unfinished shard: decode ─▶ compute_shard ─▶ commit
                                               ─▶ compute_true_maps ─▶ commit
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from camreport.engine.explainer import Explainer
from camreport.errors import InputError, ResultsError
from camreport.files import RESULTS
from camreport.images.inputs import InputFile, read_file
from camreport.images.loading import FailedInput, decode_ahead
from camreport.insight.cache import keep_numbers, to_arrays
from camreport.insight.numbers import measure
from camreport.messages.progress import Notify, Progress
from camreport.methods import Method
from camreport.models import LoadedModel
from camreport.network.state import device_of
from camreport.pipeline.fingerprint import file_facts, inputs_digest, run_settings
from camreport.pipeline.records import (
    Describer,
    Summary,
    Tally,
    class_entries,
    device_name,
    make_manifest,
    make_summary,
)
from camreport.pipeline.run_plan import (
    Record,
    Request,
    RunPlan,
    ShardLimits,
    first_readable,
    make_explainer,
    plan_run,
)
from camreport.pipeline.shard import (
    Decoded,
    Shard,
    compute_shard,
    in_order,
    total_cost,
    with_methods,
)
from camreport.pipeline.structure import structure_of
from camreport.pipeline.truth import (
    TrueMaps,
    compute_true_maps,
    unexplained,
    without_methods,
)
from camreport.results.reader import Results
from camreport.results.schema import (
    IMAGE,
    SCHEMA,
    TARGETS,
    FileFacts,
    ImageEntry,
    Sidecar,
    TrueImage,
    TrueSidecar,
    methods_with_maps,
)
from camreport.results.shards import Arrays
from camreport.results.writer import Finished, Marker, ResultsWriter, earlier_run

Commit = Callable[[int, Arrays, Sidecar | TrueSidecar], None]
"""Function that writes a shard, measured, or its true classes: number, arrays, sidecar."""

NO_TARGETS: NDArray[np.int64] = np.empty((0, 0), dtype=np.int64)
"""Explained classes of a shard in which no input can be read."""


@dataclass(frozen=True)
class Job:
    """A planned run: everything that is needed to compute its shards.

    Attributes:
        plan: the plan of the run.
        model: the model, on the device to compute on.
        request: what to compute.
        files: the inputs.
        facts: size and times of change of the input files, taken before any file is read.
        writer: the writer of the results folder.
        describe: adds labels and class names to a shard's sidecar.
    """

    plan: RunPlan
    model: LoadedModel
    request: Request
    files: Sequence[InputFile]
    facts: Sequence[FileFacts | None]
    writer: ResultsWriter
    describe: Describer

    def indices(self, number: int) -> range:
        """Return the indices of the inputs that a shard covers."""
        return self.plan.indices(number, len(self.files))

    @property
    def of_class(self) -> dict[str, Method]:
        """The methods that have a map and look at a class, each by its entry in a sidecar."""
        keys = [method.key for method in self.request.methods]
        there = methods_with_maps(keys, self.plan.layers, self.plan.skipped)
        pairs = zip(self.request.specs, self.request.methods, strict=True)
        return {spec: own for spec, own in pairs if own.per_class and own.key in there}

    def commit(self, number: int, arrays: Arrays, sidecar: Sidecar | TrueSidecar) -> None:
        """Write a shard with the numbers of its maps, or its true classes."""
        if isinstance(sidecar, TrueSidecar):
            return self.writer.commit_true(number, arrays, sidecar)
        numbers = to_arrays(measure(arrays, self.plan.activation)) if arrays else {}
        self.writer.commit(number, arrays, sidecar, numbers)


@dataclass(frozen=True)
class Work:
    """The shards of a run, sorted by what has to be computed.

    Attributes:
        kept: finished shards that stay unchanged, by number.
        other: finished shards whose methods differ from those of the run, by number.
        missing: for each shard of ``other``, the methods to add; empty if it only has too many.
        lost: numbers of the shards to compute from scratch.
        true: finished files of true classes that stay beside kept shards, by number.
        unexplained: for each further kept shard, the images whose true class is to be explained.
    """

    kept: dict[int, Finished[Sidecar]]
    other: dict[int, Finished[Sidecar]]
    missing: dict[int, tuple[Method, ...]]
    lost: list[int]
    true: dict[int, Finished[TrueSidecar]]
    unexplained: dict[int, tuple[TrueImage, ...]]

    @property
    def computed(self) -> list[int]:
        """Numbers of the shards for which maps are computed."""
        adding = [number for number, methods in self.missing.items() if methods]
        return sorted([*self.lost, *adding])


def compute(
    model: LoadedModel,
    files: Sequence[InputFile],
    out: Path,
    request: Request,
    progress: Progress = lambda inputs: None,
    notify: Notify = lambda reason: None,
    limits: ShardLimits | None = None,
) -> Summary:
    """Compute every map of every input and write the results folder.

    An image that cannot be read is recorded with its reason and does not affect the others. An
    interrupted run keeps its finished shards. The next run resumes with them, also if its methods,
    labels or class names are different.

    Args:
        model: the model, on the device to compute on.
        files: the inputs.
        out: the folder of the report and the results, locked by the caller.
        request: what to compute.
        progress: called with the number of newly finished inputs; fractional within one input.
        notify: called with the reason for each skipped method, before anything is computed.
        limits: how the run is split into shards; the limits of the device if None.

    Raises:
        InputError: no input can be read, or many finished shards would be replaced.
        LayerError, ClassError, MethodError, ModelError: as for ``explain``; nothing is written
            before the request has been tried on one image.
        OutputError: the folder cannot be written to.
    """
    limits = limits or ShardLimits.of(device_of(model.module))
    settings = run_settings(model, request)
    plan, explainer = _planned(model, files, out, request, settings, limits)
    for reason in dict.fromkeys(str(skip.reason) for skip in plan.skipped):
        notify(reason)
    job = _job(plan, model, files, out, request, settings, limits)
    work = _find_work(job)
    job.writer.keep(work.kept, _growing(job, work), work.true)
    tally = Tally(inline=len(files) <= limits.inline_images)
    for number, finished in work.kept.items():
        tally.add(number, job.describe(finished.sidecar))
    for number, truth in work.true.items():
        tally.add_true(number, truth.sidecar)
    passing = sum(len(job.indices(number)) for number in work.computed)
    reused = len(files) - passing - sum(map(len, work.unexplained.values()))
    progress(reused)
    # Where nothing is computed, versions and structure are those that the maps come from.
    before = None if work.computed or work.unexplained else job.writer.manifest()
    structure = before.structure if before else structure_of(model)
    if work.lost or work.other or work.unexplained:
        explainer = explainer or make_explainer(model, request, plan)
        with explainer, _writing_behind(job.commit, limits.waiting_shards) as commit:
            _compute_missing(job, work, explainer, commit, tally, progress)
    manifest = make_manifest(
        model, structure, plan, request, job.describe.classes, tally, len(files)
    )
    if before:
        manifest = replace(manifest, versions=before.versions)
    changed = job.writer.complete(manifest)
    measured = [number for number, finished in work.kept.items() if finished.sidecar.bytes]
    keep_numbers(Results(out / RESULTS, manifest), measured)
    return make_summary(out, manifest, tally, reused, changed)


def _compute_missing(
    job: Job, work: Work, explainer: Explainer, commit: Commit, tally: Tally, progress: Progress
) -> None:
    """Compute and write what is missing: shards, and the true classes that they do not explain."""
    for number, shard in _shards(job, work, explainer, progress):
        sidecar = _sidecar(job, number, shard)
        commit(number, _ordered(job, shard.arrays), sidecar)
        tally.add(number, sidecar)
        images = unexplained(sidecar.images, shard.arrays.get(TARGETS, NO_TARGETS))
        if images and job.of_class:
            _commit_true_maps(job, explainer, number, images, commit, tally)
    for number, images in work.unexplained.items():
        _commit_true_maps(job, explainer, number, images, commit, tally, progress)


def _commit_true_maps(
    job: Job,
    explainer: Explainer,
    number: int,
    images: tuple[TrueImage, ...],
    commit: Commit,
    tally: Tally,
    progress: Progress = lambda inputs: None,
) -> None:
    """Write the maps of true classes beside a shard; of finished ones only methods are added."""
    finished = job.writer.finished_true(number, images)
    old = _read_true(job, number, finished) if finished else None
    has = {*finished.sidecar.methods} if finished and old else set()
    missing = [method for spec, method in job.of_class.items() if spec not in has]
    parts = [old] if old else []
    if missing:
        decoded = decode_ahead(
            job.files, [image.index for image in images], job.model.preprocessing
        )
        with explainer.only(missing) as few:
            new = compute_true_maps(job.plan, few, job.files, images, decoded, progress)
        parts.append(new)
    arrays = {name: array for part in reversed(parts) for name, array in part.arrays.items()}
    sidecar = TrueSidecar(
        run="",
        methods=tuple(sorted(job.of_class)),
        images=images,
        cost=total_cost([part.cost for part in parts]),
        device=device_name(device_of(job.model.module)),
        bytes=0,
        findings=tuple(dict.fromkeys(note for part in parts for note in part.findings)),
    )
    commit(number, _ordered(job, arrays), sidecar)
    tally.add_true(number, sidecar)


def _read_true(job: Job, number: int, finished: Finished[TrueSidecar]) -> TrueMaps | None:
    """Return finished maps of true classes without stale methods; None if they are damaged."""
    missing = {
        own.key for spec, own in job.of_class.items() if spec not in finished.sidecar.methods
    }
    try:
        arrays = job.writer.read(number, finished)
    except ResultsError:
        return None
    sidecar = finished.sidecar
    return TrueMaps(without_methods(arrays, missing), sidecar.cost, sidecar.findings)


def _planned(
    model: LoadedModel,
    files: Sequence[InputFile],
    out: Path,
    request: Request,
    settings: Record,
    limits: ShardLimits,
) -> tuple[RunPlan, Explainer | None]:
    """Return the plan of an earlier run to resume, or a new plan from the first readable image.

    Returns:
        The plan, and the explainer if one was needed to make the plan.
    """
    earlier = earlier_run(out, settings)
    plan = None
    if earlier is not None:
        with suppress(ResultsError):
            plan = RunPlan.from_json(earlier.plan, "the marker")
    if earlier is None or plan is None:
        explainer = make_explainer(model, request, None)
        image = first_readable(files, model.preprocessing)
        return plan_run(explainer, image, request, limits), explainer
    if {*request.specs} <= {*earlier.methods}:
        return plan.of_methods(request.methods, None), None
    explainer = make_explainer(model, request, plan)
    return plan.of_methods(request.methods, explainer.plan), explainer


def _job(
    plan: RunPlan,
    model: LoadedModel,
    files: Sequence[InputFile],
    out: Path,
    request: Request,
    settings: Record,
    limits: ShardLimits,
) -> Job:
    """Return the job, with the writer of the results folder.

    Raises:
        ClassError: as for ``class_entries``.
    """
    describe = Describer(request.labels, class_entries(model, request.labels, plan.classes))
    marker = Marker(
        schema=SCHEMA,
        run=plan.fingerprint(settings),
        settings=settings,
        methods=request.specs,
        inputs=inputs_digest(files),
        plan=plan.to_json(),
    )
    overwrite = request.settings.overwrite
    writer = ResultsWriter(out, marker, describe, overwrite, limits.discarded_shards)
    facts = [file_facts(file.path) for file in files]
    return Job(plan, model, request, files, facts, writer, describe)


def _find_work(job: Job) -> Work:
    """Sort the shards by what has to be computed.

    Inputs with a transient failure are read again; their shard is kept if they still fail.

    Raises:
        InputError: no input can be read.
    """
    numbers = range(-(-len(job.files) // job.plan.shard))
    found = {number: job.writer.finished(number) for number in numbers}
    there = {
        number: finished
        for number, finished in found.items()
        if finished is not None and _is_current(job, number, finished.sidecar)
    }
    for number in _no_longer_failing(job, there):
        del there[number]
    apart = _unexplained(job, there)
    if not any(finished.sidecar.bytes for finished in there.values()):
        first_readable(job.files, job.model.preprocessing)
    specs = {*job.request.specs}
    kept = {n: finished for n, finished in there.items() if {*finished.sidecar.methods} == specs}
    other = {n: finished for n, finished in there.items() if n not in kept}
    missing = {n: _missing(job, finished) for n, finished in other.items()}
    lost = [number for number in numbers if number not in there]
    true = {n: job.writer.finished_true(n, images) for n, images in apart.items()}
    done = {n: t for n, t in true.items() if t and {*t.sidecar.methods} == job.of_class.keys()}
    left = {n: images for n, images in apart.items() if n in kept and n not in done}
    return Work(kept, other, missing, lost, {n: t for n, t in done.items() if n in kept}, left)


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
        image.file == job.files[i].name and _is_unchanged(job.files[i], job.facts[i], image, fact)
        for i, image, fact in zip(indices, sidecar.images, sidecar.facts, strict=True)
    )


def _is_unchanged(
    file: InputFile, now: FileFacts | None, image: ImageEntry, before: FileFacts | None
) -> bool:
    """Return whether a file is unchanged, by its size and times of change or else by its bytes."""
    if now == before:
        return True
    if now is None or before is None or now.bytes != before.bytes:
        return False
    try:
        return hashlib.sha256(read_file(file.path)).hexdigest() == image.sha256
    except (OSError, InputError):
        return False


def _missing(job: Job, finished: Finished[Sidecar]) -> tuple[Method, ...]:
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


def _growing(job: Job, work: Work) -> list[int]:
    """Return the finished shards that keep all their maps and get further ones."""
    specs = {*job.request.specs}
    return [n for n, finished in work.other.items() if {*finished.sidecar.methods} <= specs]


def _shards(
    job: Job, work: Work, explainer: Explainer, progress: Progress
) -> Iterator[tuple[int, Shard]]:
    """Yield the lost shards, computed, and the other shards, with their missing methods added."""
    todo = [index for number in work.computed for index in job.indices(number)]
    decoded = decode_ahead(job.files, todo, job.model.preprocessing)
    for number in sorted([*work.lost, *work.other]):
        own = islice(decoded, len(job.indices(number)))
        if number in work.other:
            yield number, _completed(job, work, explainer, number, own, progress)
        else:
            yield number, _whole(job, explainer, number, own, progress)


def _whole(
    job: Job,
    explainer: Explainer,
    number: int,
    decoded: Iterator[Decoded],
    progress: Progress = lambda inputs: None,
) -> Shard:
    """Compute a shard with all its methods."""
    return compute_shard(
        job.plan, explainer, job.request.targets, job.files, number, decoded, progress
    )


def _completed(
    job: Job,
    work: Work,
    explainer: Explainer,
    number: int,
    decoded: Iterator[Decoded],
    progress: Progress,
) -> Shard:
    """Add the missing methods to a finished shard; if its arrays are damaged, compute them all."""
    missing = work.missing[number]
    old = _read(job, number, work.other[number], missing)
    if old is None and missing:
        return _whole(job, explainer, number, decoded, progress)
    if old is not None and not missing:
        return old
    if old is not None:
        with explainer.only(missing) as few:
            new = _whole(job, few, number, decoded, progress)
        if np.array_equal(old.arrays[IMAGE], new.arrays.get(IMAGE, ())):
            return with_methods(old, new)
    # the arrays are damaged, or one of the inputs cannot be read any more
    again = decode_ahead(job.files, job.indices(number), job.model.preprocessing)
    return _whole(job, explainer, number, again)


def _read(
    job: Job, number: int, finished: Finished[Sidecar], missing: Sequence[Method]
) -> Shard | None:
    """Return a finished shard without the maps of some methods; None if it is damaged."""
    try:
        arrays = job.writer.read(number, finished)
    except ResultsError:
        return None
    fresh = without_methods(arrays, {method.key for method in missing})
    sidecar = finished.sidecar
    return Shard(fresh, sidecar.images, sidecar.cost, sidecar.findings)


def _ordered(job: Job, arrays: Arrays) -> Arrays:
    """Return a shard's arrays in the order in which they are written."""
    methods = {method.key for method in job.request.methods}
    addresses = (*job.plan.layers, *job.plan.channels)
    return in_order(arrays, methods, [layer.address for layer in addresses])


def _sidecar(job: Job, number: int, shard: Shard) -> Sidecar:
    """Return the sidecar of a shard; the writer adds the run and the size of the arrays' file."""
    return job.describe(
        Sidecar(
            run="",
            methods=tuple(sorted(job.request.specs)),
            images=shard.images,
            facts=tuple(job.facts[index] for index in job.indices(number)),
            cost=shard.cost,
            device=device_name(device_of(job.model.module)),
            bytes=0,
            findings=shard.findings,
        )
    )


@contextmanager
def _writing_behind(commit: Commit, waiting: int) -> Iterator[Commit]:
    """Yield a function that writes shards in a thread; all are written when the block ends.

    Errors of the thread are raised by a later call or at the end of the block. After an exception
    in the block, the shards handed over before are still written.

    Args:
        commit: writes a shard.
        waiting: largest number of shards that wait to be written; further calls block.
    """
    pending: deque[Future[None]] = deque()
    with ThreadPoolExecutor(max_workers=1) as thread:

        def later(number: int, arrays: Arrays, sidecar: Sidecar | TrueSidecar) -> None:
            while len(pending) >= waiting:
                pending.popleft().result()
            pending.append(thread.submit(commit, number, arrays, sidecar))

        yield later
        while pending:
            pending.popleft().result()
