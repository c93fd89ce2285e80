"""Hooks on a model's modules; no other file registers hooks on modules.

``watched`` is the hook context: its callbacks receive each module's output and may replace it.
``LayerTrace``, which keeps the outputs of some modules, and ``counted_bytes``, which adds up the
sizes of all outputs, are built on it. ``each_pass_in`` puts a context around a module's passes.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn

from camreport.errors import LayerError
from camreport.network.grid import Grid, grid_of
from camreport.network.memory import BatchTooLarge

Started = Callable[[str, nn.Module], None]
"""Called with the name of a module and the module, before it runs."""

Ended = Callable[[str, nn.Module, object], object]
"""Called with a module's name, the module and its output; a result other than None replaces the
output."""


@contextmanager
def watched(
    modules: Mapping[str, nn.Module], ended: Ended, started: Started | None = None
) -> Iterator[None]:
    """Call back when modules start and when they return; all hooks are removed afterwards.

    Args:
        modules: the modules to hook, by the names that the callbacks receive.
        ended: called when a module returns.
        started: called when a module starts.
    """

    def before(name: str, module: nn.Module, _inputs: object) -> None:
        assert started is not None
        started(name, module)

    def after(name: str, module: nn.Module, _inputs: object, output: object) -> object:
        return ended(name, module, output)

    with ExitStack() as hooks:
        for name, module in modules.items():
            if started is not None:
                handle = module.register_forward_pre_hook(partial(before, name))
                hooks.callback(handle.remove)
            hooks.callback(module.register_forward_hook(partial(after, name)).remove)
        yield


@contextmanager
def each_pass_in(
    module: nn.Module, make: Callable[[], AbstractContextManager[object]]
) -> Iterator[None]:
    """Run every pass of a module inside of a context of its own, also one that fails.

    Args:
        module: the module.
        make: makes the context of a pass.
    """
    running: list[ExitStack] = []

    def before(*_: object) -> None:
        running.append(ExitStack())
        running[-1].enter_context(make())

    def after(*_: object) -> None:
        running.pop().close()

    with ExitStack() as hooks:
        hooks.callback(module.register_forward_pre_hook(before, prepend=True).remove)
        hooks.callback(module.register_forward_hook(after, always_call=True).remove)
        yield


@dataclass
class Bytes:
    """The size of the outputs of modules so far.

    Attributes:
        total: the size in bytes.
    """

    total: int = 0


@contextmanager
def counted_bytes(module: nn.Module, limit: float = float("inf")) -> Iterator[Bytes]:
    """Add up the bytes that the innermost modules return, about the memory of a backward pass.

    Raises:
        BatchTooLarge: the total exceeds ``limit``; raised in the middle of the forward pass.
    """
    returned = Bytes()

    def count(_name: str, _module: nn.Module, output: object) -> None:
        if isinstance(output, Tensor):
            returned.total += output.numel() * output.element_size()
        if returned.total > limit:
            raise BatchTooLarge

    parts = enumerate(module.modules())
    with watched({str(i): part for i, part in parts if not any(part.children())}, count):
        yield returned


class NotSpatialError(LayerError):
    """A module's output has no spatial grid.

    Attributes:
        name: name of the module.
        reason: why the output has no grid.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"layer: expected a spatial output, but {name!r} gives {reason}.")
        self.name = name
        self.reason = reason


class LayerTrace:
    """Capture what modules return during a forward pass, by name and call.

    The output of each module is kept. If the size of the image is given, tokens and channels-last
    outputs are converted to ``(N, C, h, w)``. The network continues with a clone of the output, so
    that no later operation (an in-place ReLU, ``out += identity``) can change the captured tensor.
    A tensor that does not require grad yet becomes a leaf that does; with frozen parameters the
    graph starts at the earliest captured layer.

    Hooks exist between ``__enter__`` and ``__exit__`` only; leaving the block releases hooks and
    tensors, also after an exception.

    Args:
        modules: the modules to capture, by the names to look them up with.
        image: height and width of the model's input; None captures outputs as they are.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
        >>> with LayerTrace({"conv": net[0]}) as trace:
        ...     _ = net(torch.zeros(1, 3, 8, 8))
        ...     tuple(trace["conv"].shape)
        (1, 4, 6, 6)
    """

    def __init__(
        self, modules: Mapping[str, nn.Module], image: tuple[int, int] | None = None
    ) -> None:
        self._modules = dict(modules)
        self._image = image
        self._grids: dict[tuple[str, int], Grid | LayerError] = {}
        self._outputs: dict[str, list[object]] = {}
        self._order: list[tuple[str, int]] = []
        self._hooks = ExitStack()

    def __enter__(self) -> Self:
        self._hooks.enter_context(watched(self._modules, self._keep))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._hooks.close()
        self._outputs.clear()
        self._grids.clear()
        self._order.clear()

    def __getitem__(self, name: str) -> Tensor:
        """Return the captured output of the module ``name``, or of its call ``k`` for ``name#k``.

        Raises:
            LayerError: the module did not run, ran several times although ``name`` has no call,
                ran too few times for that call, or returned something other than a tensor.
            NotSpatialError: the output has no spatial grid, and the image's size is known.
        """
        output, call = self._find(name)
        grid = self._grids.get(call)
        if isinstance(grid, LayerError):
            raise NotSpatialError(call[0], str(grid))
        return output

    def grid(self, name: str) -> Grid:
        """Return the layout of the output captured under a name; only with the image's size.

        Raises:
            LayerError: as for ``__getitem__``.
        """
        self[name]
        grid = self._grids[self._find(name)[1]]
        assert isinstance(grid, Grid)
        return grid

    def calls(self, name: str) -> list[Tensor]:
        """Return the tensors that the calls of a module returned; empty if it never ran."""
        return [output for output in self._outputs.get(name, []) if isinstance(output, Tensor)]

    def position(self, name: str) -> int:
        """Return the index of ``name`` in the order in which the captured modules finished."""
        return self._order.index(self._find(name)[1])

    def _find(self, name: str) -> tuple[Tensor, tuple[str, int]]:
        module, _, call = name.partition("#")
        outputs = self._outputs.get(module, [])
        if not outputs:
            raise LayerError(
                f"layer: expected one that runs, but {module!r} never ran in the forward pass. "
                "Choose another."
            )
        if not call and len(outputs) > 1:
            raise LayerError(
                f"layer: {module!r} ran {len(outputs)} times in the forward pass. Say which call: "
                + " or ".join(repr(f"{module}#{k}") for k in range(len(outputs)))
            )
        number = int(call or 0)
        if number >= len(outputs):
            raise LayerError(
                f"layer: expected a call below {len(outputs)}, got {name!r}. "
                f"{module!r} ran {len(outputs)} times; calls count from 0."
            )
        output = outputs[number]
        if not isinstance(output, Tensor):
            raise LayerError(
                f"layer: expected a module that returns one tensor, but {module!r} returned "
                f"{type(output).__name__}. Choose a module inside or after it."
            )
        return output, (module, number)

    def _keep(self, name: str, module: nn.Module, output: object) -> object:
        calls = self._outputs.setdefault(name, [])
        call = (name, len(calls))
        self._order.append(call)
        calls.append(output)
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return output
        captured, grid = output, None
        if self._image is not None:
            try:
                grid = self._grids[call] = grid_of(output, module, self._image)
                captured = calls[-1] = grid.read(output)
            except LayerError as error:
                self._grids[call] = error
        if captured.is_inference():  # an inference tensor cannot be part of a graph
            with torch.inference_mode(False):
                captured = calls[-1] = captured.clone()
        if not captured.requires_grad:
            captured.requires_grad_()
        return grid.restore(captured.clone(), output) if grid else captured.clone()
