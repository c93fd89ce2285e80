"""A worker: it loads the model itself, checks that it is the run's, and works off items."""

import json
import os
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from camreport.engine.explainer import Explainer
from camreport.errors import CamReportError, ModelError
from camreport.files import MARKER, address_of
from camreport.messages.progress import silent
from camreport.methods import resolve_methods
from camreport.models import LoadedModel
from camreport.network.state import device_of
from camreport.pipeline.engines.here import work_off
from camreport.pipeline.engines.spec import Item, Outcome, Record, RunSpec
from camreport.pipeline.evidence.choice import asked_of
from camreport.pipeline.fingerprint import run_settings
from camreport.pipeline.job import Job
from camreport.pipeline.loading import choose_device, load
from camreport.pipeline.records import Describer, class_entries
from camreport.pipeline.run_plan import (
    Request,
    RunPlan,
    ShardLimits,
    contributing_layers,
    make_explainer,
    request_layers,
)
from camreport.pipeline.work import find_work
from camreport.results.writer import Marker, ResultsWriter
from camreport.settings import Settings, options_of


def make_spec(job: Job, out: Path) -> RunSpec:
    """Return what workers need to know of a job."""
    request, model = job.request, job.model
    targets = request.targets if isinstance(request.targets, str) else [*request.targets]
    resolved = {
        "model": model.name if not isinstance(request.settings.model, str) else None,
        "layers": [*request.layers],
        "channels": [*request.channels] or None,
        "classes": targets,
        "quantity": request.quantity,
        "class_names": [entry.name for entry in job.describe.classes],
    }
    if request.settings.resize == "none":
        resolved["image_size"] = [*model.preprocessing.size]
    settings = {
        name: _plain(getattr(request.settings, name))
        for name, each in options_of(Settings).items()
        if each.affects in ("maps", "evidence") and name != "regions"
    }
    own = {name: value for name, value in resolved.items() if name != "model" or value}
    return RunSpec(
        settings=settings | own,
        marker=job.writer.marker.to_json(),
        total=len(job.files),
        out=str(out if address_of(out) else out.absolute()),
        folder=os.getcwd(),
        device=device_of(model.module).type,
    )


class Worker:
    """Computes and writes the shards of items.

    Args:
        spec: what is to be known of the run.
        given: the model, if it comes from the caller's Python and no name leads to it.

    Raises:
        CamReportError: the model cannot be loaded here, or differs from the run's; the message
            names the machine.
    """

    def __init__(self, spec: RunSpec, given: LoadedModel | None = None) -> None:
        with suppress(OSError):  # what is needed there and missing here will be named
            os.chdir(spec.folder)
        self.spec, settings = spec, Settings(**spec.settings)
        self.marker = Marker.from_json(spec.marker, MARKER)
        self.plan = RunPlan.from_json(spec.marker["plan"], MARKER)
        try:
            self.model = given or load(settings, spec.settings["class_names"])
            self.model.module.to(choose_device(spec.device))
            self.request = _request(self.model, settings)
        except CamReportError as error:
            raise type(error)(f"{str(error).rstrip('.')} (on {platform.node()}).") from error
        self._check(given is not None)
        self.classes = class_entries(self.model, self.request, self.plan.classes)
        self.asked = asked_of(self.request, spec.total)
        self._explainer: Explainer | None = None

    def run(self, item: Item) -> Outcome:
        """Compute and write what is missing of an item's shards.

        Raises:
            CamReportError, OSError: as for a run in one process.
        """
        started = time.perf_counter()
        job = self._job(item)
        work = find_work(job)
        job.writer.keep(work.kept, work.growing, work.beside(job))
        job.writer.claim()
        waiting = ShardLimits().waiting_shards
        failures = work_off(job, work, self._entered(), silent, lambda: silent, waiting)
        images = [
            image for number in item.numbers for image in job.writer.written(number).sidecar.images
        ]
        return Outcome(
            item,
            len(images),
            failed=sum(not image.readable for image in images),
            seconds=round(time.perf_counter() - started, 3),
            device=f"{platform.node()} {job.device}",
            beside=job.writer.beside,
            failures=failures,
        )

    def _entered(self) -> Explainer:
        """Return the explainer, entered once for good: the process ends with it."""
        if self._explainer is None:
            self._explainer = make_explainer(self.model, self.request, self.plan).__enter__()
        return self._explainer

    def _job(self, item: Item) -> Job:
        """Return the job of an item's shards."""
        describe = Describer(item.labels, item.groups, self.classes)
        writer = ResultsWriter(
            Path(self.spec.out), self.marker, describe, shared=True, numbers=item.numbers
        )
        return Job(
            self.plan,
            self.model,
            replace(self.request, labels=item.labels, regions=item.regions),
            self.asked and replace(self.asked, regions=item.regions),
            item.files,
            writer,
            describe,
            item.numbers,
        )

    def _check(self, is_given: bool) -> None:
        """Refuse a model, or versions, other than the run's.

        Raises:
            ModelError: something differs.
        """
        own = _comparable(json.loads(json.dumps(run_settings(self.model, self.request))), is_given)
        wanted = _comparable(self.marker.settings, is_given)
        differing = [name for name in wanted if own.get(name) != wanted[name]]
        if differing:
            pairs = (f"{name} {_short(own.get(name))}" for name in differing)
            expected = (f"{name} {_short(wanted[name])}" for name in differing)
            raise ModelError(
                f"model: expected {', '.join(expected)} on every machine, got "
                f"{', '.join(pairs)} on {platform.node()}. Put the same weights, code and versions "
                "on every machine."
            )


def _request(model: LoadedModel, settings: Settings) -> Request:
    """Return what to compute, without the labels and regions that come with each item."""
    classes, methods = settings.classes, resolve_methods(settings.methods)
    layers = request_layers(model, settings.layers)
    return Request(
        settings=settings,
        layers=layers,
        channels={} if settings.channels is None else request_layers(model, settings.channels),
        contributions=contributing_layers(model, settings, layers, methods),
        methods=methods,
        targets=classes if isinstance(classes, str) else [int(one) for one in classes],
        quantity=settings.quantity,
        labels={},
        regions=None,
        command="",
    )


def _comparable(settings: Mapping[str, Any], is_given: bool) -> Record:
    """Return the settings of the maps with the model's name, weights and code by themselves.

    The code of a model that was sent from Python is the run's.
    """
    name, weights, code, output = settings["model"]
    parts = {"name": name, "weights": weights, "code": code, "output": output}
    if is_given:
        del parts["code"]
    return {**settings, "model": None, **parts}


def _short(value: object) -> str:
    """Return a value as text, digests by their beginning."""
    text = str(value)
    return text[:12] if len(text) == 64 else text


def _plain(value: object) -> object:
    """Return an option's value as JSON has it."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, str | int | float | None) else None
