"""A run from top to bottom.

probe ─▶ RunPlan ─▶ find_work ─▶ an engine, for unfinished shards: decode ─▶ compute_shard ─▶ commit
                                                                   compute_evidence ─▶ commit
                             ─▶ collages ─▶ manifest
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

from camreport.engine.explainer import Explainer
from camreport.errors import ResultsError
from camreport.files import RESULTS, is_folder
from camreport.images.inputs import InputFile
from camreport.insight.cache import keep_numbers
from camreport.messages.progress import Measuring, Notify, Progress, silent, unseen
from camreport.models import LoadedModel
from camreport.network.state import device_of
from camreport.pipeline.evidence.held import asks_for_collages
from camreport.pipeline.evidence.run import (
    evidence_cost,
    evidence_entry,
    is_measured,
    passes_ahead,
    passes_of_collages,
)
from camreport.pipeline.fingerprint import run_settings
from camreport.pipeline.job import Job, make_job
from camreport.pipeline.records import Summary, Tally, make_manifest, make_summary, part_summary
from camreport.pipeline.run_plan import (
    Record,
    Request,
    RunPlan,
    ShardLimits,
    first_readable,
    make_explainer,
    plan_run,
)
from camreport.pipeline.structure import structure_of
from camreport.pipeline.through import work_through
from camreport.pipeline.work import Work, find_work
from camreport.results.reader import Results
from camreport.results.schema import Manifest, Structure
from camreport.results.writer import earlier_run

MIN_ANNOUNCED = 200
"""Fewest passes of the evidence over one image that a user is told of before."""


def compute(
    model: LoadedModel,
    files: Sequence[InputFile],
    out: Path,
    request: Request,
    progress: Progress = silent,
    notify: Notify = lambda reason: None,
    measuring: Measuring = unseen,
    limits: ShardLimits | None = None,
) -> Summary:
    """Compute every map of every input, measure the maps and write the results folder.

    An image that cannot be read is recorded with its reason and does not affect the others. An
    interrupted run keeps its finished shards and its finished evidence. The next run resumes with
    them, also if its methods, labels, class names or evidence are different.

    Args:
        model: the model, on the device to compute on.
        files: the inputs.
        out: the folder of the report and the results, locked by the caller.
        request: what to compute; the shards of one part only, if its settings name one.
        progress: called with the number of newly finished inputs; fractional within one input.
        notify: called with the reason for each skipped method and with what the evidence takes,
            before anything is computed.
        measuring: called once the maps are computed, with the passes that the evidence takes.
        limits: how the run is split into shards; the limits of the device if None.

    Raises:
        InputError: no input can be read, or many finished shards would be replaced.
        LayerError, ClassError, MethodError, ModelError: as for ``explain``; nothing is written
            before the request has been tried on one image.
        OutputError: the folder cannot be written to.
        WorkerError: workers have died, so that shards are left to compute.
    """
    limits = limits or ShardLimits.of(device_of(model.module), len(files))
    settings = run_settings(model, request)
    plan, explainer, has_read = _planned(model, files, out, request, settings, limits)
    job = make_job(plan, model, files, out, request, settings, limits)
    work = find_work(job)
    if not (has_read or work.is_readable):
        first_readable(files, model.preprocessing)
    for sentence in _announced(job, work):
        notify(sentence)
    job.writer.keep(work.kept, work.growing, work.beside(job))
    if request.settings.part and not job.writer.manifest():
        job.writer.claim()  # where nothing is left to do, too: its options and images are compared
    tally = _found(job, work, limits)
    reused = sum(len(job.indices(number)) for number in job.numbers) - work.inputs(job)
    progress(reused)
    # Where no map is computed, versions and structure are those that the maps come from.
    before = None if work.explained or work.unexplained else job.writer.manifest()
    structure = before.structure if before else structure_of(model)
    with _once(lambda: explainer or make_explainer(model, request, plan)) as entered:
        work_through(job, work, out, limits, entered, tally, progress, notify, measuring)
    if request.settings.part:
        inputs = sum(len(job.indices(number)) for number in job.numbers)
        part = request.settings.part
        folder = job.writer.folder if is_folder(job.writer.folder) else out / RESULTS
        return part_summary(out, folder, part, len(job.numbers), inputs, tally, reused)
    return _finished(job, work, out, before, structure, tally, reused)


def _finished(
    job: Job,
    work: Work,
    out: Path,
    before: Manifest | None,
    structure: Structure,
    tally: Tally,
    reused: int,
) -> Summary:
    """Write the manifest of a run whose shards are all in the tally; return its summary."""
    model, plan, request, total = job.model, job.plan, job.request, len(job.files)
    manifest = make_manifest(model, structure, plan, request, job.describe.classes, tally, total)
    cost = replace(manifest.cost, evidence=evidence_cost(tally))
    manifest = replace(manifest, evidence=evidence_entry(job, tally), cost=cost)
    if before:
        manifest = replace(manifest, versions=before.versions)
    changed = job.writer.complete(manifest)
    measured = [number for number, finished in work.kept.items() if finished.sidecar.bytes]
    keep_numbers(Results(out / RESULTS, manifest), measured)
    return make_summary(out, manifest, tally, reused, changed, not is_measured(job, work))


@contextmanager
def _once(make: Callable[[], Explainer]) -> Iterator[Callable[[], Explainer]]:
    """Yield a function that makes and enters an explainer at its first call."""
    with ExitStack() as stack:
        yield cache(lambda: stack.enter_context(make()))


def _planned(
    model: LoadedModel,
    files: Sequence[InputFile],
    out: Path,
    request: Request,
    settings: Record,
    limits: ShardLimits,
) -> tuple[RunPlan, Explainer | None, bool]:
    """Return the plan of an earlier run to resume, or a new plan from the first readable image.

    Returns:
        The plan, the explainer if one was needed to make the plan, and whether an image was read.
    """
    earlier = earlier_run(out, settings)
    plan = None
    if earlier is not None:
        with suppress(ResultsError):
            plan = RunPlan.from_json(earlier.plan, "the marker")
    if earlier is None or plan is None:
        explainer = make_explainer(model, request, None)
        image = first_readable(files, model.preprocessing)
        return plan_run(explainer, image, model.preprocessing, request, limits), explainer, True
    is_known = plan.contributing(request) or not request.contributions
    if is_known and {*request.specs} <= {*earlier.methods}:
        return plan.of_request(request, None), None, False
    explainer = make_explainer(model, request, plan)
    return plan.of_request(request, explainer.plan), explainer, False


def _announced(job: Job, work: Work) -> Iterator[str]:
    """Yield what a user is told before anything is computed."""
    yield from dict.fromkeys(str(skip.reason) for skip in job.plan.skipped)
    if (asked := job.request.batch_size) not in (None, job.plan.batch):
        yield (
            f"warning: --batch-size {asked} is not used: the results in the folder were begun with "
            f"{job.plan.batch} images a batch, and go on so; another size needs another folder"
        )
    if (passes := passes_ahead(job, work) + passes_of_collages(job, work)) >= MIN_ANNOUNCED:
        yield f"evidence takes {passes:,} further passes over one image each; --evidence off: none"


def _found(job: Job, work: Work, limits: ShardLimits) -> Tally:
    """Return the totals over what is kept of an earlier run."""
    tally = Tally(inline=len(job.files) <= limits.inline_images)
    for number, finished in work.kept.items():
        tally.add(number, job.describe(finished.sidecar))
    for number, truth in work.true.items():
        tally.add_true(number, truth.sidecar)
    for number, evidence in work.evidence.items():
        if evidence.settled and evidence.shown:
            tally.evidence[number] = evidence.shown.sidecar
    if work.collages and asks_for_collages(job):
        tally.collages = work.collages.finished.sidecar
    return tally
