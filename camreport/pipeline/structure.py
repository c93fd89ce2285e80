"""The structure of a model as the records keep it: its printed text and a table of its modules."""

import re
from dataclasses import dataclass

from torch import Tensor, nn

from camreport.images.inputs import printable
from camreport.models import LoadedModel
from camreport.network.precision import full_precision
from camreport.network.state import (
    device_of,
    forward_without_gradients,
    preserved,
    to_model,
)
from camreport.network.survey import sample_image
from camreport.network.trace import watched
from camreport.results.schema import MAX_MODULES, MAX_PRINTED, ModuleEntry, Structure

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # of an object in memory: another in every run


@dataclass
class _Run:
    """One run of a module, with the shape of what it returned for one image."""

    name: str
    module: nn.Module
    shape: tuple[int, ...] | None = None


def structure_of(model: LoadedModel) -> Structure:
    """Run a model once on a sample image and return its structure, bounded in size."""
    runs = _runs(model)
    counts: dict[str, int] = {}
    names = [run.name for run in runs]
    entries = []
    for run in runs[:MAX_MODULES]:
        number = counts[run.name] = counts.get(run.name, -1) + 1
        address = run.name if names.count(run.name) == 1 else f"{run.name}#{number}"
        own = sum(parameter.numel() for parameter in run.module.parameters())
        kind = printable(type(run.module).__name__)
        entries.append(ModuleEntry(address=address, type=kind, shape=run.shape, parameters=own))
    return Structure(
        printed=_printed(model.module), modules=tuple(entries), more=len(runs) - len(entries)
    )


def _runs(model: LoadedModel) -> list[_Run]:
    """Return the runs of a model's modules, in the order in which they started."""
    runs: list[_Run] = []
    open_: list[_Run] = []

    def start(name: str, module: nn.Module) -> None:
        runs.append(_Run(name, module))
        open_.append(runs[-1])

    def end(_name: str, _module: nn.Module, output: object) -> None:
        run = open_.pop()
        if isinstance(output, Tensor):
            run.shape = tuple(output.shape[1:])

    modules = {name: module for name, module in model.module.named_modules() if name}
    with preserved(model.module), full_precision(device_of(model.module)):
        image = to_model(model.module, sample_image(model.preprocessing.size))
        with watched(modules, end, start):
            forward_without_gradients(model.module)(image)
    return runs


def _printed(module: nn.Module) -> str:
    """Return what ``print`` says of a module, cut to ``MAX_PRINTED`` characters."""
    lines = _ADDRESS.sub("", str(module)).splitlines()
    text = "\n".join(printable(line) for line in lines)
    return text if len(text) <= MAX_PRINTED else text[: MAX_PRINTED - 1] + "…"
