"""Working through a job: an engine computes its shards, then comes what spans shards."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import cache
from pathlib import Path

from camreport.engine.explainer import Explainer
from camreport.errors import WorkerError
from camreport.messages.progress import Measuring, Notify, Progress, silent
from camreport.pipeline.engines.choice import ways_of
from camreport.pipeline.engines.here import here
from camreport.pipeline.engines.spec import Engine, Item
from camreport.pipeline.engines.worker import make_spec
from camreport.pipeline.evidence.gathered import failure
from camreport.pipeline.evidence.held import is_settled
from camreport.pipeline.evidence.run import (
    passes_ahead,
    passes_of_collages,
    settle_collages,
    unsettled,
)
from camreport.pipeline.job import Job
from camreport.pipeline.records import Tally
from camreport.pipeline.run_plan import ShardLimits
from camreport.pipeline.work import Work
from camreport.results.evidence import COLLAGES, EvidenceSidecar, evidence_name
from camreport.results.schema import TrueSidecar
from camreport.results.shards import true_name

MAX_ITEM = 32
"""Most shards in an item."""

ITEMS_OF_WORKER = 8
"""Items that each worker gets at least, if there are shards enough."""


def work_through(
    job: Job,
    work: Work,
    out: Path,
    limits: ShardLimits,
    explainer: Callable[[], Explainer],
    tally: Tally,
    progress: Progress,
    notify: Notify,
    measuring: Measuring,
) -> None:
    """Compute and write all that is missing, and add it to the tally.

    Args:
        job: the job.
        work: what is there and what is not.
        out: the folder of the report and the results.
        limits: of the run.
        explainer: returns the explainer of the run's methods, entered.
        tally: what is finished is added to it.
        progress: called with the number of newly finished inputs.
        notify: called if workers are waited for, and for each metric that the model fails on.
        measuring: called with the passes that the evidence takes.

    Raises:
        WorkerError: workers have died, so that shards are left to compute.
    """
    todo = sorted({*work.written, *work.unexplained, *unsettled(job, work)})
    spans = job.request.settings.part is None and not is_settled(job, work.collages)
    failures: dict[str, str] = {}
    with ways_of(job, len(todo), notify) if todo else nullcontext() as ways:
        passes = passes_of_collages(job, work) if spans else 0
        begin = cache(lambda: measuring(passes + (0 if ways else passes_ahead(job, work))))
        if ways:
            items = _items(job, todo, ways.workers)
            failures = _run(ways.engine, job, out, items, tally, progress)
        elif todo:
            engine = here(job, work, explainer, progress, begin, limits.waiting_shards)
            failures = _run(engine, job, out, [_whole(job, todo)], tally)
    if spans:
        failures |= settle_collages(job, work, explainer(), begin)
        tally.collages = job.writer.written_beside(COLLAGES, EvidenceSidecar)
    for metric, error in failures.items():
        notify(str(failure(metric, error)))


def _run(
    engine: Engine,
    job: Job,
    out: Path,
    items: Iterable[Item],
    tally: Tally,
    progress: Progress = silent,
) -> dict[str, str]:
    """Have an engine compute items, and add them to the tally.

    Args:
        engine: the engine.
        job: the job.
        out: the folder of the report and the results.
        items: asked for one by one, the first when a worker is ready.
        tally: what is finished is added to it.
        progress: called with the number of newly finished inputs.

    Returns:
        The metrics that the model fails on, each with what it raised.

    Raises:
        WorkerError: items were given up.
    """
    errors, failures = list[str](), dict[str, str]()
    for outcome in engine(make_spec(job, out), items):
        if outcome.error:
            errors.append(outcome.error)
            continue
        failures = {**outcome.failures, **failures}
        job.writer.adopt(outcome.beside)
        for number in outcome.item.numbers:
            progress(0 if number in tally.costs else len(job.indices(number)))
            _add(job, number, tally)
    if errors:
        raise WorkerError(
            f"workers: {'; '.join(errors)}. The others are finished and stay: run the same command "
            "again, or with a smaller --batch-size in another folder."
        )
    return failures


def _whole(job: Job, todo: Sequence[int]) -> Item:
    """Return all the work as one item."""
    regions, known = job.asked.regions if job.asked else None, job.describe
    return Item(tuple(todo), job.plan.shard, job.files, known.labels, regions, known.groups)


def _items(job: Job, todo: Sequence[int], workers: int) -> Iterator[Item]:
    """Yield the work as items for some workers, once the folder is the run's."""
    job.writer.claim()
    whole = _whole(job, todo)
    length = max(1, min(MAX_ITEM, len(todo) // (ITEMS_OF_WORKER * workers)))
    for start in range(0, len(todo), length):
        yield whole.of(todo[start : start + length])


def _add(job: Job, number: int, tally: Tally) -> None:
    """Add a shard that is written now, and what is beside it, to the tally."""
    if number not in tally.costs:
        tally.add(number, job.writer.written(number).sidecar)
    true = job.writer.written_beside(true_name(number), TrueSidecar)
    if true and number not in tally.true_costs:
        tally.add_true(number, true)
    evidence = job.writer.written_beside(evidence_name(number), EvidenceSidecar)
    if evidence:
        tally.evidence[number] = evidence
