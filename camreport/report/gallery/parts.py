"""The images of a report part by part: made in this process, or of many images in several.

What a part comes to does not depend on where it is made. The processes are started afresh, so they
import no torch; none outlives this one, and none sees Ctrl-C, which this one answers.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from types import ModuleType
from typing import TypeVar

import cv2

from camreport.errors import ResultsError
from camreport.messages.progress import Progress, silent
from camreport.report.gallery.page import Limits
from camreport.results.reader import Results
from camreport.results.schema import ImageEntry

MAX_PROCESSES = 16
"""Most processes that make parts; each takes about 100 MB."""

MIN_CHUNKS = 2
"""Fewest files of images in a part."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Part:
    """Some of a report's images, in their order.

    Attributes:
        first: place of the first one among all that are shown.
        images: the images.
    """

    first: int
    images: Sequence[ImageEntry]


Make = Callable[[Results, Part, Progress], _T]
"""Makes what a part comes to, and tells how many more images are done."""


def made_in_parts(
    results: Results,
    images: Sequence[ImageEntry],
    make: Make[_T],
    limits: Limits,
    progress: Progress,
) -> Iterator[_T]:
    """Yield what each part comes to, in order.

    Args:
        results: of the run.
        images: that are shown.
        make: makes a part; where several processes do, it is pickled.
        limits: of the report.
        progress: called with the number of images that are newly done.

    Raises:
        ResultsError: an image's files are damaged, or a process has ended by itself.
    """
    # A shard is read once for each part with images of it.
    in_shard = -(-results.manifest.totals.shard_length // limits.chunk)
    size = limits.chunk * max(MIN_CHUNKS, in_shard)
    parts = (Part(first, images[first : first + size]) for first in range(0, len(images), size))
    processes = min(available_cores(), MAX_PROCESSES, -(-len(images) // size))
    may_start = not multiprocessing.current_process().daemon and bool(sys.executable)
    if len(images) <= limits.pooled or processes < 2 or not may_start:
        for part in parts:
            yield make(results, part, progress)
        return
    yield from _made_by_processes(results, parts, make, processes, progress)


def available_cores() -> int:
    """Return how many cores this process may use."""
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _made_by_processes(
    results: Results, parts: Iterator[Part], make: Make[_T], processes: int, progress: Progress
) -> Iterator[_T]:
    """Yield what each part comes to, in order, while processes make the next ones."""
    light = results.light()
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin, (light,))
    waiting: deque[tuple[Part, Future[_T]]] = deque()
    name = ""
    try:
        while True:
            for part in islice(parts, processes + 1 - len(waiting)):
                with _starting():
                    waiting.append((part, pool.submit(_make, make, part)))
            if not waiting:
                return
            part, future = waiting.popleft()
            name = part.images[0].file
            yield future.result()
            progress(len(part.images))
    except BrokenProcessPool as error:
        raise ResultsError(
            f"report: a process that was rendering images ended by itself, at {name!r} or after "
            "it. Was it killed, or memory too scarce? Run 'camreport render' again."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _starting() -> Iterator[None]:
    """Keep Ctrl-C and the main module from processes that start in the block.

    They would import, and so run, a user's script again. A signal that comes meanwhile is answered
    after the block.
    """
    main, blocks = sys.modules["__main__"], hasattr(signal, "pthread_sigmask")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if blocks else set()
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        if blocks:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


_open: list[Results] = []
"""The results that a process makes parts of."""


def _begin(results: Results) -> None:
    """Prepare a process that makes parts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _open.append(results)


def _end_with_parent() -> None:
    """End this process when the one that started it has ended, however that was."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _make(make: Make[_T], part: Part) -> _T:
    return make(_open[0], part, silent)
