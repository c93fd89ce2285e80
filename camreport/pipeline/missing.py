"""What a run computes: the shards that are lost or change, and the true classes beside them."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from camreport.engine.explainer import Explainer
from camreport.errors import ResultsError
from camreport.images.loading import decode_ahead
from camreport.messages.progress import Progress
from camreport.pipeline.job import Job
from camreport.pipeline.shard import Decoded, Shard, compute_shard, total_cost, with_methods
from camreport.pipeline.truth import TrueMaps, compute_true_maps, unexplained, without_methods
from camreport.pipeline.work import Change, Work, finished_true
from camreport.results.schema import (
    CHANNEL_CONTRIBUTIONS,
    IMAGE,
    TARGETS,
    TrueImage,
    TrueSidecar,
)
from camreport.results.shards import shard_name, true_name
from camreport.results.writer import Finished

Later = Callable[[Callable[[], None]], None]
"""Function that has something written while the caller goes on."""

NO_TARGETS: NDArray[np.int64] = np.empty((0, 0), dtype=np.int64)
"""Explained classes of a shard in which no input can be read."""


@contextmanager
def writing_behind(waiting: int) -> Iterator[Later]:
    """Yield a function that writes in a thread; all is written when the block ends.

    Errors of the thread are raised by a later call or at the end of the block. After an exception
    in the block, what was handed over before is still written.

    Args:
        waiting: largest number of shards that wait to be written; further calls block.
    """
    pending: deque[Future[None]] = deque()
    with ThreadPoolExecutor(max_workers=1) as thread:

        def later(write: Callable[[], None]) -> None:
            while len(pending) >= waiting:
                pending.popleft().result()
            pending.append(thread.submit(write))

        yield later
        while pending:
            pending.popleft().result()


def compute_missing(
    job: Job, work: Work, explainer: Explainer, later: Later, progress: Progress
) -> None:
    """Compute and write what is missing: shards, and the true classes that they do not explain.

    Args:
        job: the job.
        work: what is there and what is not.
        explainer: of the run's methods.
        later: writes in the background.
        progress: called with the number of newly finished inputs.
    """
    for number, shard in _shards(job, work, explainer, progress):
        sidecar = job.sidecar(number, shard)
        later(partial(job.commit, number, job.ordered(shard.arrays), sidecar))
        images = unexplained(sidecar.images, shard.arrays.get(TARGETS, NO_TARGETS))
        if images and job.of_class:
            _add_true_maps(job, explainer, number, images, later)
    for number, images in work.unexplained.items():
        _add_true_maps(job, explainer, number, images, later, progress)


def _shards(
    job: Job, work: Work, explainer: Explainer, progress: Progress
) -> Iterator[tuple[int, Shard]]:
    """Yield the lost shards, computed, and the other shards, with their missing methods added."""
    todo = [index for number in work.explained for index in job.indices(number)]
    decoded = decode_ahead(job.files, todo, job.model.preprocessing)
    for number in work.written:
        own = islice(decoded, len(job.indices(number)))
        if number in work.changing:
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
    own = job.model.preprocessing, job.request.targets
    return compute_shard(job.plan, explainer, *own, job.files, number, decoded, progress)


def _completed(
    job: Job,
    work: Work,
    explainer: Explainer,
    number: int,
    decoded: Iterator[Decoded],
    progress: Progress,
) -> Shard:
    """Add what is missing to a finished shard; if its arrays are damaged, compute them all."""
    change = work.changing[number]
    old = _read(job, number, change)
    if old is None and change.adds:
        return _whole(job, explainer, number, decoded, progress)
    if old is not None and not change.adds:
        return old
    if old is not None:
        with explainer.only(change.adding, change.contributions) as few:
            new = _whole(job, few, number, decoded, progress)
        if np.array_equal(old.arrays[IMAGE], new.arrays.get(IMAGE, ())):
            return with_methods(old, new)
    # the arrays are damaged, or one of the inputs cannot be read any more
    again = decode_ahead(job.files, job.indices(number), job.model.preprocessing)
    return _whole(job, explainer, number, again)


def _read(job: Job, number: int, change: Change) -> Shard | None:
    """Return a finished shard without what is to be added; None if it is damaged."""
    try:
        arrays = job.writer.read(shard_name(number), change.finished)
    except ResultsError:
        return None
    stale = {method.key for method in change.adding}
    stale |= {CHANNEL_CONTRIBUTIONS} if change.contributions else set()
    fresh, sidecar = without_methods(arrays, stale), change.finished.sidecar
    return Shard(fresh, sidecar.images, sidecar.cost, sidecar.findings)


def _add_true_maps(
    job: Job,
    explainer: Explainer,
    number: int,
    images: tuple[TrueImage, ...],
    later: Later,
    progress: Progress = lambda inputs: None,
) -> None:
    """Write the maps of true classes beside a shard; of finished ones only methods are added."""
    finished = finished_true(job, number, images)
    old = _read_true(job, number, finished) if finished else None
    has = {*finished.sidecar.methods} if finished and old else set()
    missing = [method for spec, method in job.of_class.items() if spec not in has]
    summing = not {*job.plan.vectors} <= has
    parts = [old] if old else []
    if missing or summing:
        decoded = decode_ahead(
            job.files, [image.index for image in images], job.model.preprocessing
        )
        with explainer.only(missing, summing) as few:
            own = job.plan, few, job.model.preprocessing
            new = compute_true_maps(*own, job.files, images, decoded, progress)
        parts.append(new)
    arrays = {name: array for part in reversed(parts) for name, array in part.arrays.items()}
    sidecar = TrueSidecar(
        run="",
        methods=tuple(sorted(job.true_specs)),
        images=images,
        cost=total_cost([part.cost for part in parts]),
        device=job.device,
        bytes=0,
        findings=tuple(dict.fromkeys(note for part in parts for note in part.findings)),
    )
    ordered = job.ordered(arrays)
    later(partial(job.writer.commit_beside, true_name(number), ordered, sidecar))


def _read_true(job: Job, number: int, finished: Finished[TrueSidecar]) -> TrueMaps | None:
    """Return finished maps of true classes without stale methods; None if they are damaged."""
    has = finished.sidecar.methods
    missing = {own.key for spec, own in job.of_class.items() if spec not in has}
    missing |= set() if {*job.plan.vectors} <= {*has} else {CHANNEL_CONTRIBUTIONS}
    try:
        arrays = job.writer.read(true_name(number), finished)
    except ResultsError:
        return None
    sidecar = finished.sidecar
    return TrueMaps(without_methods(arrays, missing), sidecar.cost, sidecar.findings)
