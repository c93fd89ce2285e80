"""The engine of a Ray cluster: actors that each load the model, and a pool of ours that feeds them.

Ray restarts nothing by itself here. An item is given only to an actor that is ready, so none waits
for a machine that never comes back.
"""

import os
import re
import secrets
import socket
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from camreport.errors import InputError, OutputError, WorkerError
from camreport.messages.progress import Notify
from camreport.pipeline.engines.pool import usable_cpus
from camreport.pipeline.engines.spec import Engine, Item, Outcome, Record, RunSpec

if TYPE_CHECKING:
    from camreport.models import LoadedModel

LOCAL = "ray:local"
"""The word for a cluster of this machine alone."""

TRIES = 3
"""How often a shard, the start of a worker and the writing of files are tried."""

WAIT_SECONDS = 60.0
"""Seconds without a ready worker after which the user is told what is waited for."""

STORE_BYTES = 100 * 1024 * 1024
"""Memory for objects in a cluster that is started here; hardly anything travels."""

REACH_SECONDS = 10.0
"""Seconds within which a cluster whose address is given takes a connection."""

BRIEFLY = {
    "RAY_gcs_server_port_wait_time_s": "1",
    "RAY_NUM_REDIS_GET_RETRIES": "1",
    "RAY_BACKEND_LOG_LEVEL": "error",
}
"""Variables with which Ray looks for a cluster once, for up to a minute, and not twenty times."""

NO_CLUSTER = (
    "on: expected a Ray cluster that runs{where}, found none. Start one with 'ray start --head "
    "--disable-usage-stats' here and 'ray start --address=HOST:6379 --disable-usage-stats' on "
    "every other machine, or use --on ray:local for this machine alone."
)


@dataclass(frozen=True)
class Share:
    """What each worker gets of a cluster.

    Attributes:
        workers: number of workers.
        cpus: processors of each.
        gpus: GPUs of each, 0 or 1.
    """

    workers: int
    cpus: int
    gpus: int

    def __str__(self) -> str:
        """Return it in words."""
        gpu = f"{self.gpus} GPU and " if self.gpus else ""
        noun = "worker" if self.workers == 1 else "workers"
        return f"{self.workers} {noun} with {gpu}{self.cpus} CPUs each"


def share_of(nodes: Sequence[Record], workers: int | None, with_gpu: bool) -> Share:
    """Return what each worker gets.

    A worker with a GPU gets the processors of its machine divided by the machine's GPUs. A worker
    without one gets a machine, or as much as lets all the workers run at the same time.

    Args:
        nodes: ``Alive`` and ``Resources`` of each machine, as Ray lists them.
        workers: number of workers; as many as there is room for if None.
        with_gpu: whether each worker has a GPU.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    cpus = [int(one["CPU"]) for one in alive if one.get("CPU", 0) >= 1] or [1]
    if with_gpu:
        cards = [(int(one.get("CPU", 1)), int(one["GPU"])) for one in alive if one.get("GPU")]
        each = min((cpu // gpu for cpu, gpu in cards), default=1)
        return Share(workers or max(1, sum(gpu for _, gpu in cards)), max(1, each), 1)
    workers, each = workers or len(cpus), min(cpus)
    while each > 1 and sum(own // each for own in cpus) < workers:
        each -= 1
    return Share(workers, each, 0)


class ShardWorker:
    """The actor. It loads nothing before ``ready``, whose errors reach the driver as they are.

    Args:
        spec: a ``RunSpec`` as text.
        cpus: threads to compute with.
        given: the model, if it comes from the driver's Python.
        access: the driver's variables for object storage.
    """

    def __init__(
        self, spec: str, cpus: int, given: "LoadedModel | None", access: Mapping[str, str]
    ) -> None:
        self._spec, self._cpus, self._given = spec, cpus, given
        os.environ.update(access)

    def ready(self) -> None:
        """Load the model and compare it with the run's."""
        import torch

        from camreport.pipeline.engines.worker import Worker

        torch.set_num_threads(self._cpus)
        self._worker = Worker(RunSpec.from_json(self._spec), self._given)

    def run(self, item: Item) -> Outcome:
        """Compute and write an item."""
        return self._worker.run(item)


@contextmanager
def connected(on: str) -> Iterator[Any]:
    """Give Ray, connected to a cluster; one that the caller has not connected is left in the end.

    Args:
        on: ``ray`` for a cluster that runs, ``ray:local`` for one on this machine alone.

    Raises:
        InputError: Ray is not installed, or there is no cluster.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError(
            "on: expected Ray, which is not installed. Install it with: pip install "
            "'camreport[ray]'"
        ) from error
    if ray.is_initialized():
        yield ray
        return
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "namespace": "camreport"}
    before = {name: own for name, own in os.environ.items() if name.startswith("RAY_")}
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        if on == LOCAL:
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # or Ray keeps a file
            ray.init(
                address="local",
                num_cpus=usable_cpus(),
                object_store_memory=STORE_BYTES,
                include_dashboard=False,
                **quiet,
            )
        else:
            _find_cluster(ray, quiet)
        yield ray
    finally:
        ray.shutdown()
        for name in [name for name in os.environ if name.startswith("RAY_")]:
            del os.environ[name]
        os.environ.update(before)


def _find_cluster(ray: Any, quiet: Mapping[str, Any]) -> None:
    """Connect Ray with the cluster that runs, within about a minute.

    Raises:
        InputError: there is none.
    """
    address = os.environ.get("RAY_ADDRESS", "auto")
    host, _, port = address.rpartition(":")
    where = f" at {address}, as RAY_ADDRESS says" if host else ""
    for name, own in BRIEFLY.items():
        os.environ.setdefault(name, own)
    try:
        if re.fullmatch(r"[\w.-]+", host) and port.isdecimal():
            socket.create_connection((host, int(port)), REACH_SECONDS).close()
        ray.init(address="auto", **quiet)
    except (OSError, OverflowError) as error:  # a ConnectionError is one, too
        raise InputError(NO_CLUSTER.format(where=where)) from error


def on_ray(share: Share, notify: Notify, model: "LoadedModel | None" = None) -> Engine:
    """Return the engine of the connected cluster.

    Args:
        share: what each worker gets.
        notify: told when workers are waited for.
        model: the model, if it comes from the caller's Python and no name leads to it.
    """
    import ray

    def engine(spec: RunSpec, items: Iterable[Item]) -> Iterator[Outcome]:
        given = None if model is None else ray.put(model)  # held, or the cluster may forget it
        remote = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_restarts=0)(ShardWorker)
        access = {name: own for name, own in os.environ.items() if name.startswith("AWS_")}
        own = spec.to_json(), share.cpus, given, access
        pool = _Pool(lambda: remote.remote(*own), share, iter(items), notify)
        try:
            yield from pool.outcomes()
        finally:
            pool.end()

    return engine


@dataclass
class _Pool:
    """The actors of a run, and the items that they have still to do.

    Attributes:
        start: starts an actor.
        share: what each gets.
        left: the items that nobody has had; asked for only when an actor is ready.
        notify: told when workers are waited for.
        again: items whose actor has died.
        starting: actors that load the model, by what will be known then.
        busy: actors and their items, likewise.
        idle: actors that are ready.
        tries: how often a shard has failed, by its number.
        starts: how many starts have failed, by whether the actor lived.
        exhausted: whether there is nothing left.
        told: whether the user knows that workers are waited for.
    """

    start: Any
    share: Share
    left: Iterator[Item]
    notify: Notify
    again: deque[Item] = field(default_factory=deque)
    starting: dict[Any, Any] = field(default_factory=dict)
    busy: dict[Any, tuple[Any, Item]] = field(default_factory=dict)
    idle: list[Any] = field(default_factory=list)
    tries: Counter[int] = field(default_factory=Counter)
    starts: Counter[bool] = field(default_factory=Counter)
    exhausted: bool = False
    told: bool = False

    def outcomes(self) -> Iterator[Outcome]:
        """Yield what becomes of each item."""
        while self.busy or self.again or not self.exhausted:
            self._grow()
            ref = self._next()
            if ref in self.starting:
                self._welcome(ref)
            elif ref is not None:
                yield from self._finish(ref)
            while self.idle and (item := self._following()):
                actor = self.idle.pop()
                self.busy[actor.run.remote(item)] = actor, item

    def end(self) -> None:
        """End all actors."""
        import ray

        working = [actor for actor, _ in self.busy.values()]
        for actor in (*self.starting.values(), *working, *self.idle):
            with suppress(Exception):  # the cluster may be gone
                ray.kill(actor)

    def _grow(self) -> None:
        """Start actors while there are fewer than there is work for."""
        there = len(self.starting) + len(self.busy) + len(self.idle)
        work = len(self.again) + len(self.busy)
        wanted = min(self.share.workers, work) if self.exhausted else self.share.workers
        for _ in range(wanted - there):
            actor = self.start()
            self.starting[actor.ready.remote()] = actor

    def _next(self) -> Any:
        """Return what is known next; None after a while in which no actor became ready."""
        import ray

        waits = not (self.busy or self.idle or self.told)
        known = [*self.starting, *self.busy]
        done, _ = ray.wait(known, num_returns=1, timeout=WAIT_SECONDS if waits else None)
        if done:
            return done[0]
        there = ray.cluster_resources()
        self.told = True
        self.notify(
            f"waiting for {self.share}; the cluster has {int(there.get('GPU', 0))} GPUs, "
            f"{int(there.get('CPU', 0))} CPUs"
        )
        return None

    def _following(self) -> Item | None:
        """Return the next item; None if there is none at present."""
        if self.again:
            return self.again.popleft()
        item = None if self.exhausted else next(self.left, None)
        self.exhausted = item is None
        return item

    def _welcome(self, ref: Any) -> None:
        """Take an actor that is ready; after several failed starts, raise what failed.

        Raises:
            CamReportError: the model cannot be loaded, or differs from the run's.
            WorkerError: workers died as they started.
        """
        import ray

        actor = self.starting.pop(ref)
        try:
            ray.get(ref)
        except ray.exceptions.RayError as error:
            lives = isinstance(error, ray.exceptions.RayTaskError)
            self.starts[lives] += 1
            ray.kill(actor)
            if self.starts[lives] >= TRIES:
                raise _cause(error) from None
        else:
            self.starts[False] = 0
            self.idle.append(actor)

    def _finish(self, ref: Any) -> Iterator[Outcome]:
        """Take what an actor has done; what was lost with it is tried again.

        Raises:
            Exception: what the actor raised; after several tries if files could not be written.
        """
        import ray

        actor, item = self.busy.pop(ref)
        try:
            outcome = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            self.idle.append(actor)
            cause = _cause(error)
            if not isinstance(cause, OSError | OutputError) or self._failed(item) >= TRIES:
                raise cause from None
            self.again.append(item)
        except ray.exceptions.RayError as error:
            yield from self._lost(item, error)
        else:
            self.idle.append(actor)
            yield outcome

    def _lost(self, item: Item, error: Exception) -> Iterator[Outcome]:
        """Have an item tried again; then its shards one by one; then give a shard up."""
        if self._failed(item) < TRIES:
            self.again.appendleft(item)
        elif len(item.numbers) > 1:
            for number in item.numbers:
                self.tries[number] = 0
                self.again.append(item.of([number]))
        else:
            reason = f"{item} killed its worker {TRIES} times"
            yield Outcome(item, len(item.indices), error=reason)

    def _failed(self, item: Item) -> int:
        """Count a failure of an item; return how many there are."""
        self.tries[item.numbers[0]] += 1
        return self.tries[item.numbers[0]]


def _cause(error: Any) -> Exception:
    """Return what went wrong in an actor, as one process would raise it."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return cause
    return WorkerError(
        f"workers: {TRIES} died one after the other as they started. Finished shards stay: the "
        f"same command resumes. ({str(error).strip().splitlines()[-1].strip()})"
    )
