"""The job of a run on this machine: everything that is needed to compute its shards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from camreport.images.inputs import InputFile
from camreport.insight.cache import to_arrays
from camreport.insight.numbers import measure
from camreport.methods import Method
from camreport.models import LoadedModel
from camreport.network.state import device_of
from camreport.pipeline.evidence.choice import Asked, asked_of
from camreport.pipeline.fingerprint import inputs_digest
from camreport.pipeline.records import Describer, class_entries, device_name
from camreport.pipeline.run_plan import Record, Request, RunPlan, ShardLimits
from camreport.pipeline.shard import Shard, in_order
from camreport.results.schema import SCHEMA, ImageEntry, Sidecar, methods_with_maps
from camreport.results.shards import Arrays
from camreport.results.writer import Marker, ResultsWriter
from camreport.settings import split_part


@dataclass(frozen=True)
class Job:
    """A planned run: everything that is needed to compute its shards.

    Attributes:
        plan: the plan of the run.
        model: the model, on the device to compute on.
        request: what to compute.
        asked: what to measure of the maps; None for nothing.
        files: the inputs.
        writer: the writer of the results folder.
        describe: adds labels and class names to a shard's sidecar.
        numbers: the numbers of its shards: all of the run, or those of a part or of an item.
    """

    plan: RunPlan
    model: LoadedModel
    request: Request
    asked: Asked | None
    files: Sequence[InputFile]
    writer: ResultsWriter
    describe: Describer
    numbers: Sequence[int]

    def indices(self, number: int) -> range:
        """Return the indices of the inputs that a shard covers."""
        return self.plan.indices(number, len(self.files))

    def sampled(self, sidecar_of: Callable[[int], Sidecar]) -> list[ImageEntry]:
        """Return the readable images on which passes of the evidence are spent, with labels.

        Args:
            sidecar_of: returns the sidecar of a shard.
        """
        drawn = {*self.asked.sample} if self.asked else set()
        return [
            image
            for number in sorted({index // self.plan.shard for index in drawn})
            for image in self.describe(sidecar_of(number)).images
            if image.index in drawn and image.readable
        ]

    @property
    def of_class(self) -> dict[str, Method]:
        """The methods that have a map and look at a class, each by its entry in a sidecar."""
        keys = [method.key for method in self.request.methods]
        there = methods_with_maps(keys, self.plan.layers, self.plan.skipped)
        pairs = zip(self.request.specs, self.request.methods, strict=True)
        return {spec: own for spec, own in pairs if own.per_class and own.key in there}

    @property
    def specs(self) -> frozenset[str]:
        """What the sidecar of a finished shard lists: methods and the layer of contributions."""
        return frozenset((*self.request.specs, *self.plan.vectors))

    @property
    def true_specs(self) -> frozenset[str]:
        """What the sidecar of a finished file of true classes lists."""
        return frozenset((*self.of_class, *self.plan.vectors))

    @property
    def device(self) -> str:
        """The device to compute on, for the records."""
        return device_name(device_of(self.model.module))

    def commit(self, number: int, arrays: Arrays, sidecar: Sidecar) -> None:
        """Write a shard with the numbers of its maps."""
        numbers = to_arrays(measure(arrays, self.plan.activation)) if arrays else {}
        self.writer.commit(number, arrays, sidecar, numbers)

    def ordered(self, arrays: Arrays) -> Arrays:
        """Return a shard's arrays in the order in which they are written."""
        methods = {method.key for method in self.request.methods}
        addresses = [layer.address for layer in (*self.plan.layers, *self.plan.channels)]
        kept = self.plan.contributions
        return in_order(arrays, methods, addresses, kept.address if kept else None)

    def sidecar(self, number: int, shard: Shard) -> Sidecar:
        """Return the sidecar of a shard; the writer adds the run and the size of its file."""
        return self.describe(
            Sidecar(
                run="",
                methods=tuple(sorted(self.specs)),
                images=shard.images,
                facts=tuple(self.files[index].facts for index in self.indices(number)),
                cost=shard.cost,
                device=self.device,
                bytes=0,
                findings=shard.findings,
            )
        )


def make_job(
    plan: RunPlan,
    model: LoadedModel,
    files: Sequence[InputFile],
    out: Path,
    request: Request,
    settings: Record,
    limits: ShardLimits,
) -> Job:
    """Return the job, with the writer of the results folder.

    Raises:
        ClassError: as for ``class_entries``.
    """
    describe = Describer(
        request.labels, request.groups, class_entries(model, request, plan.classes)
    )
    marker = Marker(
        schema=SCHEMA,
        run=plan.fingerprint(settings),
        settings=settings,
        methods=(*request.specs, *plan.vectors),
        inputs=inputs_digest(files),
        plan=plan.to_json(),
    )
    part = request.settings.part
    writer = ResultsWriter(
        out,
        marker,
        describe,
        request.settings.overwrite,
        limits.discarded_shards,
        shared=part is not None,
    )
    first, step = split_part(part) if part else (1, 1)
    numbers = range(-(-len(files) // plan.shard))[first - 1 :: step]
    asked = asked_of(request, len(files))
    return Job(plan, model, request, asked, files, writer, describe, numbers)
