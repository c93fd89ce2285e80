"""A run on this machine, from top to bottom.

probe ─▶ RunPlan ─▶ find_work ─▶ for each unfinished shard: decode ─▶ compute_shard ─▶ commit
                             ─▶ for each shard: compute_evidence ─▶ commit
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from camreport.engine.explainer import Explainer
from camreport.errors import ResultsError
from camreport.files import RESULTS
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
    is_settled,
    measure_missing,
    passes_ahead,
)
from camreport.pipeline.fingerprint import run_settings
from camreport.pipeline.job import Job, make_job
from camreport.pipeline.missing import compute_missing, writing_behind
from camreport.pipeline.records import Summary, Tally, make_manifest, make_summary
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
from camreport.pipeline.work import Work, find_work
from camreport.results.reader import Results
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
        request: what to compute.
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
    """
    limits = limits or ShardLimits.of(device_of(model.module))
    settings = run_settings(model, request)
    plan, explainer = _planned(model, files, out, request, settings, limits)
    job = make_job(plan, model, files, out, request, settings, limits)
    work = find_work(job)
    for sentence in _announced(job, work):
        notify(sentence)
    job.writer.keep(work.kept, work.growing, work.beside(job))
    tally = _found(job, work, limits)
    reused = len(files) - work.inputs(job)
    progress(reused)
    # Where no map is computed, versions and structure are those that the maps come from.
    before = None if work.explained or work.unexplained else job.writer.manifest()
    structure = before.structure if before else structure_of(model)
    if work.written or work.unexplained or not is_settled(job, work):
        with explainer or make_explainer(model, request, plan) as entered:
            with writing_behind(limits.waiting_shards) as later:
                compute_missing(job, work, entered, later, tally, progress)
            measure_missing(job, work, entered, tally, measuring, notify)
    manifest = make_manifest(
        model, structure, plan, request, job.describe.classes, tally, len(files)
    )
    cost = replace(manifest.cost, evidence=evidence_cost(tally))
    manifest = replace(manifest, evidence=evidence_entry(job, tally), cost=cost)
    if before:
        manifest = replace(manifest, versions=before.versions)
    changed = job.writer.complete(manifest)
    measured = [number for number, finished in work.kept.items() if finished.sidecar.bytes]
    keep_numbers(Results(out / RESULTS, manifest), measured)
    return make_summary(out, manifest, tally, reused, changed, not is_measured(job, work))


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
        return plan_run(explainer, image, model.preprocessing, request, limits), explainer
    if {*request.specs} <= {*earlier.methods}:
        return plan.of_methods(request.methods, None), None
    explainer = make_explainer(model, request, plan)
    return plan.of_methods(request.methods, explainer.plan), explainer


def _announced(job: Job, work: Work) -> Iterator[str]:
    """Yield what a user is told before anything is computed."""
    yield from dict.fromkeys(str(skip.reason) for skip in job.plan.skipped)
    if (passes := passes_ahead(job, work)) >= MIN_ANNOUNCED:
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
