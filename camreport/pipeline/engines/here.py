"""The engine that computes in this process, with the model that is loaded already."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from camreport.engine.explainer import Explainer
from camreport.messages.progress import Progress
from camreport.pipeline.engines.spec import Engine, Item, Outcome, RunSpec
from camreport.pipeline.evidence.run import measure_missing
from camreport.pipeline.job import Job
from camreport.pipeline.missing import compute_missing, writing_behind
from camreport.pipeline.work import Work


def here(
    job: Job,
    work: Work,
    explainer: Callable[[], Explainer],
    progress: Progress,
    begin: Callable[[], Progress],
    waiting: int,
) -> Engine:
    """Return the engine; its one item is all the work.

    Args:
        job: the job.
        work: what is there and what is not.
        explainer: returns the explainer of the run's methods, entered.
        progress: called with the number of newly finished inputs.
        begin: as for ``measure_missing``.
        waiting: as for ``writing_behind``.
    """

    def engine(_: RunSpec, items: Iterable[Item]) -> Iterator[Outcome]:
        for item in items:
            started = time.perf_counter()
            failures = work_off(job, work, explainer(), progress, begin, waiting)
            yield Outcome(
                item,
                len(item.indices),
                seconds=time.perf_counter() - started,
                device=job.device,
                failures=failures,
            )

    return engine


def work_off(
    job: Job,
    work: Work,
    explainer: Explainer,
    progress: Progress,
    begin: Callable[[], Progress],
    waiting: int,
) -> Mapping[str, str]:
    """Compute and write what is missing of a job's shards, then of their evidence.

    Args:
        job: the job.
        work: what is there and what is not.
        explainer: of the run's methods; entered.
        progress: called with the number of newly finished inputs.
        begin: as for ``measure_missing``.
        waiting: as for ``writing_behind``.

    Returns:
        As ``measure_missing``.
    """
    with writing_behind(waiting) as later:
        compute_missing(job, work, explainer, later, progress)
    return measure_missing(job, work, explainer, begin)
