"""The engine of several processes on one machine, each with a GPU of its own if there are any.

Nothing here imports torch before a process has its GPU.
"""

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.queues import SimpleQueue
from typing import TYPE_CHECKING

from camreport.errors import InputError, WorkerError
from camreport.pipeline.engines.spec import Engine, Item, Outcome, RunSpec

if TYPE_CHECKING:
    from camreport.models import LoadedModel
    from camreport.pipeline.engines.worker import Worker

QUEUED = 2
"""Items for each worker that are handed over at a time: one it computes, one it begins next."""

_worker: "Worker | None" = None
_given: tuple[str, bytes] = "", b""


def pool(workers: int, gpus: Sequence[str], model: "LoadedModel | None" = None) -> Engine:
    """Return the engine.

    Args:
        workers: number of processes.
        gpus: identifiers of the GPUs that this process sees, for ``CUDA_VISIBLE_DEVICES``; empty
            to compute on the CPU.
        model: the model, if it comes from the caller's Python and no name leads to it.

    Raises:
        InputError: the model cannot be sent to another process.
    """
    sent = b"" if model is None else _pickled(model)

    def engine(spec: RunSpec, items: Iterable[Item]) -> Iterator[Outcome]:
        context = multiprocessing.get_context("spawn")
        cards: SimpleQueue[str] = context.SimpleQueue()
        for number in range(workers):
            cards.put(gpus[number % len(gpus)] if gpus else "")
        threads = max(1, usable_cpus() // workers)
        before = {*multiprocessing.active_children()}
        executor = ProcessPoolExecutor(
            workers, context, _begin, (cards, threads, spec.to_json(), sent)
        )
        try:
            yield from _outcomes(executor, workers, items)
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
            for child in {*multiprocessing.active_children()} - before:
                child.terminate()
                child.join()

    return engine


def _outcomes(
    executor: ProcessPoolExecutor, workers: int, items: Iterable[Item]
) -> Iterator[Outcome]:
    """Hand items to the processes, once one of them has loaded the model; yield the outcomes.

    Raises:
        WorkerError: a process has died.
    """
    pending: dict[Future[Outcome], Item] = {}
    try:
        ready = [executor.submit(_check) for _ in range(workers)]
        next(as_completed(ready)).result()
        left = iter(items)
        for item in islice(left, QUEUED * workers):
            pending[executor.submit(_run, item)] = item
        while pending:
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
                del pending[future]
                for item in islice(left, 1):
                    pending[executor.submit(_run, item)] = item
    except BrokenProcessPool as error:
        where = "while it computed one of " + ", ".join(map(str, pending.values()))
        raise WorkerError(
            f"workers: one of {workers} died, killed from outside, by a crash or for lack of "
            f"memory, {where if pending else 'as it started'}. Finished shards stay: the same "
            "command resumes. A smaller --batch-size needs less memory; a script that calls "
            "camreport.run with workers needs 'if __name__ == \"__main__\":'."
        ) from error


def visible_gpus(count: int) -> list[str]:
    """Return the identifiers of the GPUs that this process sees.

    Args:
        count: how many there are.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [name for name in named.split(",") if name][:count] or [*map(str, range(count))]


def _begin(cards: "SimpleQueue[str]", threads: int, spec: str, model: bytes) -> None:
    """Prepare a process: its GPU, its threads, and its end with the process that started it."""
    global _given
    if card := cards.get():
        os.environ["CUDA_VISIBLE_DEVICES"] = card
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that started it ends it
    threading.Thread(target=_end_together, daemon=True).start()

    import torch

    torch.set_num_threads(min(threads, torch.get_num_threads()))
    _given = spec, model


def _end_together() -> None:
    """End this process as soon as the one that started it has ended, however it ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _ready() -> "Worker":
    """Return the worker of this process; the first call loads the model."""
    global _worker
    if _worker is None:
        from camreport.pipeline.engines.worker import Worker

        spec, model = _given
        _worker = Worker(RunSpec.from_json(spec), pickle.loads(model) if model else None)
    return _worker


def _check() -> None:
    """Load the model."""
    _ready()


def _run(item: Item) -> Outcome:
    return _ready().run(item)


def _pickled(model: "LoadedModel") -> bytes:
    """Return a model as bytes.

    Raises:
        InputError: it has parts that only this process has.
    """
    try:
        return pickle.dumps(model)
    except Exception as error:  # whatever a model's own parts raise
        raise InputError(
            f"workers: expected a model that other processes can load, got {model.name}, which "
            f"cannot be pickled ({error}). Give it as 'file.py:build', or leave workers out."
        ) from error


def usable_cpus() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
