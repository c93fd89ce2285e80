"""Which engine a run gets: what its settings ask for, and what there is."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from camreport.errors import InputError
from camreport.messages.progress import Notify
from camreport.network.state import device_of
from camreport.pipeline.engines.spec import Engine
from camreport.pipeline.job import Job

MAX_OF_EACH = 4
"""Most workers for each processor or GPU of this machine."""


@dataclass(frozen=True)
class Ways:
    """An engine of other processes.

    Attributes:
        engine: the engine.
        workers: number of its workers.
    """

    engine: Engine
    workers: int


@contextmanager
def ways_of(job: Job, shards: int, notify: Notify) -> Iterator[Ways | None]:
    """Give the engine of other processes that a job's settings ask for; None for this process.

    Args:
        job: the job.
        shards: number of shards to compute; there are no more workers than that.
        notify: called if workers are waited for.

    Raises:
        InputError: there is no cluster, the model cannot be sent to another process, or there are
            more workers than this machine can hold.
    """
    settings, device = job.request.settings, device_of(job.model.module)
    given = None if isinstance(settings.model, str) else job.model
    if settings.on is not None:
        from camreport.pipeline.engines.on_ray import connected, on_ray, share_of

        with connected(settings.on) as ray:
            share = share_of(ray.nodes(), settings.workers, device.type == "cuda")
            share = replace(share, workers=min(share.workers, shards))
            yield Ways(on_ray(share, notify, given), share.workers)
        return
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    if settings.workers is None and (given is not None or ":" in settings.device):
        gpus = 0  # a model of this process, or one GPU that is named
    from camreport.pipeline.engines.pool import pool, usable_cpus, visible_gpus

    most = MAX_OF_EACH * max(usable_cpus(), gpus)
    if settings.workers and settings.workers > most:
        raise InputError(
            f"workers: expected up to {most} on this machine with {usable_cpus()} processors, got "
            f"{settings.workers:,}. Each is a process with its own model and about 1 GB."
        )
    workers = min(settings.workers or max(1, gpus), shards)
    if workers == 1:
        yield None
        return
    yield Ways(pool(workers, visible_gpus(gpus), given), workers)
