"""Which engine a run gets: what its settings ask for, and what there is."""

from dataclasses import dataclass

import torch

from camreport.models import LoadedModel
from camreport.network.state import device_of
from camreport.pipeline.engines.spec import Engine
from camreport.pipeline.job import Job


@dataclass(frozen=True)
class Ways:
    """An engine of other processes.

    Attributes:
        engine: the engine.
        workers: number of its workers.
    """

    engine: Engine
    workers: int


def choose_ways(job: Job) -> Ways | None:
    """Return the engine of other processes that computes a job; None for this process.

    Raises:
        InputError: there is no cluster, or the model cannot be sent to another process.
    """
    settings = job.request.settings
    device = device_of(job.model.module)
    given: LoadedModel | None = None if isinstance(settings.model, str) else job.model
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    if settings.workers is None and (given is not None or ":" in settings.device):
        gpus = 0  # a model of this process, or one GPU that is named
    workers = settings.workers or max(1, gpus)
    if workers == 1:
        return None
    from camreport.pipeline.engines.pool import pool, visible_gpus

    return Ways(pool(workers, visible_gpus(gpus), given), workers)
