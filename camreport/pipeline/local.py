"""A run on this machine: inputs decoded ahead, shards computed one by one and written behind.

probe ─▶ RunPlan ─▶ for each shard that is not finished: decode ─▶ compute_shard ─▶ commit
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

from camreport.engine.explainer import Explainer
from camreport.errors import InputError, ResultsError
from camreport.images.inputs import InputFile, read_file
from camreport.images.loading import FailedInput, decode_ahead
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
    Limits,
    Record,
    Request,
    RunPlan,
    first_readable,
    make_explainer,
    plan_run,
)
from camreport.pipeline.shard import (
    Decoded,
    Shard,
    compute_shard,
    in_order,
    with_methods,
)
from camreport.results.schema import IMAGE, SCHEMA, FileFacts, ImageEntry, MapKey, Sidecar
from camreport.results.shards import Arrays
from camreport.results.writer import Finished, Marker, ResultsWriter, earlier_run

Commit = Callable[[int, Arrays, Sidecar], None]
"""Writes a shard, given its number."""


@dataclass(frozen=True)
class Job:
    """A run that is planned: all that a shard is computed from.

    Attributes:
        plan: of the run.
        model: on the device to compute on.
        request: what to compute.
        files: the inputs.
        facts: of their files, before anything is read.
        writer: of the results folder.
        describe: adds labels and names of classes to a shard's records.
    """

    plan: RunPlan
    model: LoadedModel
    request: Request
    files: Sequence[InputFile]
    facts: Sequence[FileFacts | None]
    writer: ResultsWriter
    describe: Describer

    def indices(self, number: int) -> range:
        """Return the inputs that a shard covers."""
        return self.plan.indices(number, len(self.files))


@dataclass(frozen=True)
class Work:
    """What is to be done, and what is not.

    Attributes:
        kept: finished shards that stay as they are, by number.
        other: finished shards whose methods are not those of the run, by number.
        missing: the methods that these lack; none where they only have too many.
        lost: numbers of the shards to compute from scratch.
    """

    kept: dict[int, Finished]
    other: dict[int, Finished]
    missing: dict[int, tuple[Method, ...]]
    lost: list[int]


def compute(
    model: LoadedModel,
    files: Sequence[InputFile],
    out: Path,
    request: Request,
    progress: Progress = lambda inputs: None,
    notify: Notify = lambda told: None,
    limits: Limits | None = None,
) -> Summary:
    """Compute every map of every input and write the results folder.

    An image that cannot be read is recorded with its reason and costs the others nothing. A
    run that is interrupted leaves its finished shards; the next one goes on with them, and so
    does one with other methods, labels or names of classes.

    Args:
        model: on the device to compute on.
        files: the inputs.
        out: the folder of report and results, locked by the caller.
        request: what to compute.
        progress: called with the number of newly finished inputs; fractional within one input.
        notify: called with the reason for each skipped method, before anything is computed.
        limits: how the run is cut into shards; the device's if None.

    Raises:
        InputError: no input could be read, or many finished shards would be replaced.
        LayerError, ClassError, MethodError, ModelError: as for ``explain``; nothing is written
            before one image has shown that the request can be met.
        OutputError: the folder cannot be written to.
    """
    limits = limits or Limits.of(device_of(model.module))
    settings = run_settings(model, request)
    plan, explainer = _planned(model, files, out, request, settings, limits)
    for reason in dict.fromkeys(str(skip.reason) for skip in plan.skipped):
        notify(reason)
    job = _job(plan, model, files, out, request, settings, limits)
    work = _find_work(job)
    job.writer.keep(work.kept, _growing(job, work))
    tally = Tally(inline=len(files) <= limits.inline_images)
    for number, finished in work.kept.items():
        tally.add(number, job.describe(finished.sidecar))
    computed = work.lost + [number for number, methods in work.missing.items() if methods]
    reused = len(files) - sum(len(job.indices(number)) for number in computed)
    progress(reused)
    if work.lost or work.other:
        explainer = explainer or make_explainer(model, request, plan)
        with explainer, _writing_behind(job.writer.commit, limits.waiting_shards) as commit:
            for number, shard in _shards(job, work, explainer, sorted(computed), progress):
                sidecar = _sidecar(job, number, shard)
                commit(number, _ordered(job, shard.arrays), sidecar)
                tally.add(number, sidecar)
    manifest = make_manifest(model, plan, request, job.describe.classes, tally, len(files))
    before = job.writer.manifest()
    if before and not computed:  # what computed it stays
        manifest = replace(manifest, versions=before.versions)
    changed = job.writer.complete(manifest)
    return make_summary(out, manifest, tally, reused, changed)


def _planned(
    model: LoadedModel,
    files: Sequence[InputFile],
    out: Path,
    request: Request,
    settings: Record,
    limits: Limits,
) -> tuple[RunPlan, Explainer | None]:
    """Return the plan of an earlier run that can go on, or one from the first readable image.

    Returns:
        The plan, and what computes it where that was needed to plan.
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
    limits: Limits,
) -> Job:
    """Return all that a shard is computed from and written with.

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
    """Sort the shards by what is to be done.

    A failure that may pass is tried again; its shard stays if it has not passed.

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
    if not any(finished.sidecar.bytes for finished in there.values()):
        first_readable(job.files, job.model.preprocessing)
    specs = {*job.request.specs}
    kept = {n: finished for n, finished in there.items() if {*finished.sidecar.methods} == specs}
    other = {n: finished for n, finished in there.items() if n not in kept}
    missing = {n: _missing(job, finished) for n, finished in other.items()}
    return Work(kept, other, missing, [number for number in numbers if number not in there])


def _no_longer_failing(job: Job, finished: Mapping[int, Finished]) -> set[int]:
    """Return the shards of which an input can be read by now, or fails for good."""
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
    """Say whether a finished shard's inputs are what they were."""
    indices = job.indices(number)
    return [image.index for image in sidecar.images] == [*indices] and all(
        image.file == job.files[i].name and _is_unchanged(job.files[i], job.facts[i], image, fact)
        for i, image, fact in zip(indices, sidecar.images, sidecar.facts, strict=True)
    )


def _is_unchanged(
    file: InputFile, now: FileFacts | None, image: ImageEntry, before: FileFacts | None
) -> bool:
    """Say whether a file holds what it held, by its times of change or else by its bytes."""
    if now == before:
        return True
    if now is None or before is None or now.bytes != before.bytes:
        return False
    try:
        return hashlib.sha256(read_file(file.path)).hexdigest() == image.sha256
    except (OSError, InputError):
        return False


def _missing(job: Job, finished: Finished) -> tuple[Method, ...]:
    """Return the methods that a finished shard lacks and that have a map somewhere."""
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
    """Return the shards that are written again with all the maps that they hold, and more."""
    specs = {*job.request.specs}
    return [n for n, finished in work.other.items() if {*finished.sidecar.methods} <= specs]


def _shards(
    job: Job, work: Work, explainer: Explainer, computed: Sequence[int], progress: Progress
) -> Iterator[tuple[int, Shard]]:
    """Compute the shards that are lost, and of the others the methods that they lack."""
    todo = [index for number in computed for index in job.indices(number)]
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
    """Compute the methods that a finished shard lacks; if its arrays are damaged, all of them."""
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
    # damaged without warning, or a file of it cannot be read any more
    again = decode_ahead(job.files, job.indices(number), job.model.preprocessing)
    return _whole(job, explainer, number, again)


def _read(job: Job, number: int, finished: Finished, missing: Sequence[Method]) -> Shard | None:
    """Return a finished shard without the maps of some methods; None if it is damaged."""
    try:
        arrays = job.writer.read(number, finished)
    except ResultsError:
        return None
    stale = {method.key for method in missing}
    fresh = {
        name: array
        for name, array in arrays.items()
        if (key := MapKey.parse(name)) is None or key.method not in stale
    }
    sidecar = finished.sidecar
    return Shard(fresh, sidecar.images, sidecar.cost, sidecar.findings)


def _ordered(job: Job, arrays: Arrays) -> Arrays:
    """Return a shard's arrays as they are written."""
    methods = {method.key for method in job.request.methods}
    addresses = (*job.plan.layers, *job.plan.channels)
    return in_order(arrays, methods, [layer.address for layer in addresses])


def _sidecar(job: Job, number: int, shard: Shard) -> Sidecar:
    """Return what stands beside a shard; the writer adds its run and the size of its arrays."""
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
    """Yield a function that writes in a thread; all is written when the block ends.

    Its errors are raised by a later call or by the end of the block. After an exception in the
    block, what was handed over is written still.

    Args:
        commit: writes a shard.
        waiting: how many may wait; a further call waits itself.
    """
    pending: deque[Future[None]] = deque()
    with ThreadPoolExecutor(max_workers=1) as thread:

        def later(number: int, arrays: Arrays, sidecar: Sidecar) -> None:
            while len(pending) >= waiting:
                pending.popleft().result()
            pending.append(thread.submit(commit, number, arrays, sidecar))

        yield later
        while pending:
            pending.popleft().result()
