"""A survey of a network: which modules ran, their outputs, and how much gradient reaches them."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from camreport.errors import LayerError
from camreport.network.grid import Grid, grid_of, is_like
from camreport.network.logits import logits_of
from camreport.network.memory import is_out_of_memory
from camreport.network.positions import (
    PROBES,
    MatrixProducts,
    depends_on_company,
    probe_images,
    why_no_map,
)
from camreport.network.precision import full_precision
from camreport.network.state import (
    forward_without_gradients,
    gradients_on,
    preserved,
    to_model,
)
from camreport.network.trace import watched

_TRUSTED = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)  # they may enlarge a grid of few cells


@dataclass
class Call:
    """One run of one module.

    Attributes:
        name: name of the module.
        module: the module.
        number: number of the run among the module's runs, from 0.
        depth: number of modules around this one, without the model itself.
        children: the runs of other modules inside this one.
        shape: shape of the output without the image axis; None if the output is not a tensor.
        grid: layout of the output's grid; None if the output has no grid above 1 × 1 with the
            image's proportions.
        used: fraction of the output's values that the gradient of the top class reaches; None if
            it was not measured.
        repeated: whether the module runs several times.
        why_no_map: why the output is not a map although its shape fits, if the probe images have
            shown that.
    """

    name: str
    module: nn.Module
    number: int
    depth: int
    children: list["Call"] = field(default_factory=list)
    shape: tuple[int, ...] | None = None
    grid: Grid | None = None
    used: float | None = None
    repeated: bool = False
    why_no_map: str = ""

    @property
    def address(self) -> str:
        """Address of the run: the module's name, with ``#number`` if it runs several times."""
        return f"{self.name}#{self.number}" if self.repeated else self.name

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the output's grid, if it has one."""
        return self.grid.size if self.grid else None

    def inside(self) -> Iterator["Call"]:
        """Yield this run and all runs inside it, in the order in which they started."""
        yield self
        for child in self.children:
            yield from child.inside()


def survey(module: nn.Module, image: Tensor, output: str | None = None) -> list[Call]:
    """Run a model on one image and return the calls of its direct children, in order.

    A second pass, over images made from the first, detects outputs that only look like grids; see
    ``places``.

    Args:
        module: the model; its state is restored.
        image: ``(1, 3, H, W)``, preprocessed.
        output: key, attribute or index of the logits in the model's output.

    Raises:
        ModelError: the model does not return logits.
    """
    with preserved(module), gradients_on():
        inputs = to_model(module, image).requires_grad_().clone()  # a model may write to it
        with full_precision(inputs.device):
            recorder = _Recorder(module, (inputs.shape[-2], inputs.shape[-1]))
            with recorder, MatrixProducts() as products:  # type: ignore[no-untyped-call]
                logits = logits_of(module(inputs), 1, output)
            recorder.measure(logits)
            recorder.drop_false_grids(
                module, inputs.detach(), logits.detach(), output, products.found
            )
    return recorder.calls


def sample_image(size: tuple[int, int], channels: int = 3) -> Tensor:
    """Return a noise image ``(1, C, H, W)`` to survey a model with; it is always the same."""
    return torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(0))


class _Recorder:
    """Records the outputs of every module of a model inside its ``with`` block."""

    def __init__(self, module: nn.Module, image: tuple[int, int]) -> None:
        self.calls: list[Call] = []
        self._image = image
        self._open: list[Call] = []
        self._runs: dict[str, list[Call]] = {}
        self._tensors: list[tuple[Call, Tensor]] = []
        self._alone: dict[str, list[tuple[Call, Tensor]]] = {}
        self._modules = {name: part for name, part in module.named_modules() if name}
        self._hooks = ExitStack()

    def __enter__(self) -> "_Recorder":
        self._hooks.enter_context(watched(self._modules, self._end, self._start))
        return self

    def __exit__(self, *_: object) -> None:
        self._hooks.close()

    def measure(self, logits: Tensor) -> None:
        """Set the fraction of each tensor's values that the gradient of the top class reaches."""
        tensors = [tensor for _, tensor in self._tensors]
        if not logits.requires_grad or logits.is_meta or not tensors:
            return
        gradients = torch.autograd.grad(logits.max(), tensors, allow_unused=True)
        for (call, _), gradient in zip(self._tensors, gradients, strict=True):
            if gradient is None:
                call.used = 0.0
            else:
                reached = gradient if call.grid is None else call.grid.read(gradient)
                call.used = float(reached.count_nonzero()) / max(1, reached.numel())

    def drop_false_grids(
        self,
        module: nn.Module,
        image: Tensor,
        logits: Tensor,
        output: str | None,
        products: bool,
    ) -> None:
        """Remove the grids of outputs whose cells do not correspond to image positions.

        Outputs that depend on the other images of a batch are not maps either, unless the logits
        depend on the other images as well.
        """
        if not self._alone:
            return
        in_company: list[Call] = []
        ran: dict[str, int] = {}

        def compare(name: str, _module: nn.Module, found: object) -> None:
            number = ran[name] = ran.get(name, -1) + 1
            for call, alone in self._alone[name]:
                if call.number == number and call.grid and isinstance(found, Tensor):
                    call.why_no_map = why_no_map(found, alone, call.grid, products)
                    if not call.why_no_map and depends_on_company(found, alone):
                        in_company.append(call)

        try:
            with watched({name: self._modules[name] for name in self._alone}, compare):
                returned = forward_without_gradients(module)(probe_images(image))
            together = logits_of(returned, PROBES, output)
        except Exception as error:  # the model takes no batches: keep its grids
            if is_out_of_memory(error):
                raise
            return
        for call in [] if depends_on_company(together, logits) else in_company:
            call.why_no_map = "values that depend on the other images of a batch"
        for call, _ in (one for calls in self._alone.values() for one in calls):
            call.grid = None if call.why_no_map else call.grid

    def _start(self, name: str, module: nn.Module) -> None:
        runs = self._runs.setdefault(name, [])
        call = Call(name, module, len(runs), len(self._open))
        runs.append(call)
        for run in runs:
            run.repeated = len(runs) > 1
        (self._open[-1].children if self._open else self.calls).append(call)
        self._open.append(call)

    def _end(self, _name: str, module: nn.Module, output: object) -> object:
        call = self._open.pop()
        if not isinstance(output, Tensor):
            return output
        call.shape = tuple(output.shape[1:])
        try:
            grid = grid_of(output, module, self._image)
        except LayerError:
            grid = None
        if grid and grid.size != (1, 1) and is_like(*grid.size, self._image):
            call.grid = grid
            if not isinstance(module, _TRUSTED):
                self._alone.setdefault(call.name, []).append((call, output.detach().clone()))
        if not output.requires_grad:
            return output
        self._tensors.append((call, output))
        return output.clone()
