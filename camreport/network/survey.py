"""A survey of a network: which modules ran, what each returned, how much gradient reaches it.

It chooses the layers that ``auto`` stands for, finds those that a pattern means, names the
neighbours of one that has no map, and prints as ``camreport layers``.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.ops.misc import Permute

from camreport.errors import LayerError
from camreport.network.address import Layer, is_pattern, matching_names, resolve_layer
from camreport.network.grid import Grid, grid_of, is_convolutional, is_like
from camreport.network.logits import logits_of
from camreport.network.memory import is_out_of_memory
from camreport.network.places import (
    PROBES,
    MatrixProducts,
    depends_on_company,
    probe_images,
    why_no_map,
)
from camreport.network.state import (
    forward_without_gradients,
    full_precision,
    gradients_on,
    to_model,
    undisturbed,
)
from camreport.settings import AUTO

ALEXNET_LAYERS = tuple(f"features.{index}" for index in (0, 3, 6, 9, 12))
"""The layers the course compares."""

MAX_LAYERS = 5
"""Most layers that ``auto`` takes."""

NEAREST = 3
"""Most neighbours that are named for a layer without a map."""

_POOLINGS = (nn.MaxPool2d, nn.AvgPool2d)
_TRUSTED = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)  # they may enlarge a grid of few cells
_NO_STAGES = (
    *(nn.Dropout, nn.Dropout2d, nn.Identity, Permute),
    *(nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    *(nn.ZeroPad2d, nn.ConstantPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d),
)


@dataclass
class Call:
    """One run of one module.

    Attributes:
        name: of the module.
        module: itself.
        number: which of its runs this is, from 0.
        depth: how many modules it runs inside, the model itself not counted.
        children: what runs inside it.
        shape: of what it returned, without the images' axis; None if that is no tensor.
        grid: where the map's grid lies; None if there is none above 1 × 1 with the image's
            proportions.
        used: share of its grid's values that the gradient of the top class reaches; None if
            that was not measured.
        repeated: the module runs several times.
        why_no_map: why what looks like a grid is none, where the probe images have shown that.
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
        """How the run is asked for."""
        return f"{self.name}#{self.number}" if self.repeated else self.name

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of its grid, if it has one."""
        return self.grid.size if self.grid else None

    def inside(self) -> Iterator["Call"]:
        """Yield itself and everything that ran inside it, in the order of starting."""
        yield self
        for child in self.children:
            yield from child.inside()


def survey(module: nn.Module, image: Tensor, output: str | None = None) -> list[Call]:
    """Run a model on one image and return what ran, in order: the calls in the model itself.

    A second pass, over a few images made of it, shows which grids are none: see ``places``.

    Args:
        module: comes back as it was found.
        image: ``(1, 3, H, W)``, preprocessed.
        output: which part of what the model returns holds the logits.

    Raises:
        ModelError: the model does not return logits.
    """
    with undisturbed(module), gradients_on():
        inputs = to_model(module, image).requires_grad_().clone()  # a model may write to it
        with full_precision(inputs.device):
            root = _Recorder(module, (inputs.shape[-2], inputs.shape[-1]))
            with root, MatrixProducts() as products:  # type: ignore[no-untyped-call]
                logits = logits_of(module(inputs), 1, output)
            root.measure(logits)
            root.check_places(module, inputs.detach(), logits.detach(), output, products.found)
    return root.calls


def sample_image(size: tuple[int, int], channels: int = 3) -> Tensor:
    """Return noise in the place of a photograph, ``(1, C, H, W)``: the same every time."""
    return torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(0))


def is_alexnet(module: nn.Module) -> bool:
    """Say whether a module is an AlexNet: torchvision's, or the bundled one."""
    names = {name for name, _ in module.named_modules()}
    return type(module).__name__ == "AlexNet" and names.issuperset(ALEXNET_LAYERS)


def auto_layers(module: nn.Module, image: Tensor, output: str | None = None) -> list[str]:
    """Choose layers to compare: one per spatial resolution, early to late, five at most.

    AlexNet's are the course's 0, 3, 6, 9 and 12. Elsewhere it is the last tensor of each of the
    latest five resolutions above 1 × 1 that the logits depend on. A block that changes the
    resolution counts as one. The pooling that ends a stage stands for it, unless a later tensor
    has that resolution: then the tensor in front of the pooling does, but for the stem. So VGG's
    are its five pools and ResNet's ``layer1`` to ``layer4``.

    Args:
        module: comes back as it was found.
        image: one model input, ``(1, 3, H, W)``; read by one pass unless AlexNet.
        output: which part of what the model returns holds the logits.

    Raises:
        LayerError: the model has no spatial layer.
    """
    if is_alexnet(module):
        return list(ALEXNET_LAYERS)
    return choose_stages(module, survey(module, image, output))


def choose_stages(module: nn.Module, calls: Sequence[Call]) -> list[str]:
    """Return the addresses that ``auto_layers`` chooses, from a survey.

    Raises:
        LayerError: the model has no spatial layer.
    """
    if is_alexnet(module):
        return list(ALEXNET_LAYERS)
    units = list(_units(calls, alive=True)) or list(_units(calls, alive=False))
    if not units:
        raise LayerError(
            f"layer: {type(module).__name__} has no layer with a spatial grid (N, C, h, w)."
        )
    ends: dict[tuple[int, int] | None, Call] = {}
    stages = _stages(units)
    for stage in reversed(stages):
        *before, last = stage[-2:]
        if last.size in ends and before and _closes(last) and stage is not stages[0]:
            last = before[0]
        ends.setdefault(last.size, last)
    return [end.address for end in ends.values()][:MAX_LAYERS][::-1]


def choose_layers(
    module: nn.Module,
    asked: Sequence[str | int | nn.Module] | nn.Module | int | None,
    image: Tensor,
    output: str | None = None,
) -> dict[str, Layer]:
    """Resolve what a user asked for, or choose layers, by the names they were asked by.

    Args:
        module: comes back as it was found.
        asked: addresses, patterns, numbers or module objects; ``auto`` among them, or None, for
            ``auto_layers``.
        image: one model input, for what only a pass can tell.
        output: which part of what the model returns holds the logits.

    Raises:
        LayerError: an address leads nowhere, or a pattern to no spatial layer.
    """
    if asked is None:
        asked = auto_layers(module, image, output)
    if isinstance(asked, nn.Module | int):
        asked = [asked]
    if not asked:
        raise LayerError("layers: expected at least one address, or 'auto', got none.")
    calls: list[Call] = []
    found: dict[str, Layer] = {}
    for one in asked:
        if isinstance(one, str) and one.strip() == AUTO:
            addresses = auto_layers(module, image, output)
            found |= {address: resolve_layer(module, address) for address in addresses}
        elif isinstance(one, str) and is_pattern(one):
            one = one.strip()
            calls = calls or survey(module, image, output)
            found |= {name: resolve_layer(module, name) for name in _matches(calls, one)}
        else:
            layer = resolve_layer(module, one)
            found[one if isinstance(one, str) else layer.address] = layer
    return found


def check_places(
    module: nn.Module, layers: Mapping[str, Layer], image: Tensor, output: str | None = None
) -> None:
    """Refuse layers whose output has the shape of a map but is none.

    Outputs of convolutions, poolings and what contains them are taken on trust; a pass is made
    only for others.

    Args:
        module: comes back as it was found.
        layers: by the names they were asked by.
        image: one model input.
        output: which part of what the model returns holds the logits.

    Raises:
        LayerError: the output of one does not belong to places of the images.
    """
    parts = dict(module.named_modules(remove_duplicate=False))
    doubtful = [n for n, one in layers.items() if not is_convolutional(parts[one.module])]
    if not doubtful:
        return
    calls = survey(module, image, output)
    ran = {call.address: call for child in calls for call in child.inside()}
    for name in doubtful:
        call = ran.get(layers[name].reads)
        if call and call.why_no_map:
            near = ", ".join(nearest_layers(calls, call.name)) or "none"
            raise LayerError(
                f"layer: expected a map of the images, but {name!r} gives {call.why_no_map}. "
                f"Nearest with a grid: {near}."
            )


def nearest_layers(calls: Sequence[Call], name: str) -> list[str]:
    """Return the addresses with a grid that run nearest to a module, nearest first."""
    order = [call for child in calls for call in child.inside()]
    places = [place for place, call in enumerate(order) if call.name == name] or [len(order)]
    spatial = [place for place, call in enumerate(order) if call.size]
    spatial.sort(key=lambda place: abs(place - places[0]))
    return [order[place].address for place in spatial[:NEAREST]]


def _matches(calls: Sequence[Call], pattern: str) -> list[str]:
    """Return the addresses with a grid that a pattern leads to, in order.

    Layers that the logits do not depend on are passed over.

    Raises:
        LayerError: there are none.
    """
    pattern, colon, variant = pattern.partition(":")
    ran = [call for child in calls for call in child.inside()]
    grids = [call for call in ran if call.size]
    spatial = [call for call in grids if call.used != 0] or grids  # for methods without gradients
    matched = set(matching_names([call.name for call in spatial], pattern))
    found = [call.address + colon + variant for call in spatial if call.name in matched]
    if not found:
        names = ", ".join(call.address for call in spatial[:6])
        raise LayerError(
            f"layer: expected a pattern that leads to a layer with a spatial grid, got "
            f"{pattern!r}. There are {names}, …; a * does not reach over a dot."
        )
    return found


def _units(calls: Sequence[Call], alive: bool) -> Iterator[Call]:
    """Yield the calls that stand for themselves, without what runs inside them.

    Args:
        calls: in order.
        alive: pass over what the gradient does not reach.
    """
    for call in calls:
        dead = alive and call.used == 0
        if call.shape is not None and call.shape[1:] == (1, 1) and not _opens(call):
            continue
        if call.size is None or dead or _is_trunk(call):
            yield from _units(call.children, alive)
        elif not isinstance(call.module, _NO_STAGES):
            yield call


def _stages(units: Sequence[Call]) -> list[list[Call]]:
    """Cut units where the resolution changes; a pooling still belongs to what it makes smaller."""
    stages = [[units[0]]]
    for before, unit in pairwise(units):
        if unit.size == before.size and not _closes(before):
            stages[-1].append(unit)
        elif unit.size != before.size and _closes(unit) and not _closes(before):
            stages[-1].append(unit)
        else:
            stages.append([unit])
    return stages


def _closes(call: Call) -> bool:
    return isinstance(call.module, _POOLINGS)


def _is_trunk(call: Call) -> bool:
    """Say whether the resolution changes so often inside a module that it is no single stage.

    A block may change it once. A plain sequence of stages changes it before its last one.
    """
    if _has_many_sizes(call):
        return True
    in_turn = [child.size for child in call.children if child.size]
    return type(call.module) is nn.Sequential and len(set(in_turn[:-1])) > 1


def _has_many_sizes(call: Call) -> bool:
    """Say whether a module, or one inside it, goes through more than two resolutions."""
    stages = [child for child in call.children if not isinstance(child.module, _NO_STAGES)]
    sizes = {one.size for one in (call, *stages) if one.size}
    return len(sizes) > 2 or any(map(_has_many_sizes, stages))


def _opens(call: Call) -> bool:
    """Say whether a module that ends at 1 × 1 is more than one block."""
    return type(call.module) is nn.Sequential or _is_trunk(call)


class _Recorder:
    """Notes what every module of a model returns while it is entered."""

    def __init__(self, module: nn.Module, image: tuple[int, int]) -> None:
        self.calls: list[Call] = []
        self._image = image
        self._open: list[Call] = []
        self._runs: dict[str, list[Call]] = {}
        self._tensors: list[tuple[Call, Tensor]] = []
        self._alone: dict[str, list[tuple[Call, Tensor]]] = {}
        self._modules = [(name, part) for name, part in module.named_modules() if name]
        self._hooks = ExitStack()

    def __enter__(self) -> "_Recorder":
        with ExitStack() as hooks:
            for name, part in self._modules:
                start = part.register_forward_pre_hook(partial(self._start, name))
                hooks.callback(start.remove)
                hooks.callback(part.register_forward_hook(self._end).remove)
            self._hooks = hooks.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._hooks.close()

    def measure(self, logits: Tensor) -> None:
        """Fill in which share of each tensor the gradient of the top class reaches."""
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

    def check_places(
        self,
        module: nn.Module,
        image: Tensor,
        logits: Tensor,
        output: str | None,
        products: bool,
    ) -> None:
        """Take the grids away from outputs whose cells are no places of the images.

        Outputs that depend on the other images of a batch are no maps either, unless the logits
        depend on them as well.
        """
        if not self._alone:
            return
        in_company: list[Call] = []
        ran: dict[str, int] = {}

        def compare(name: str, _module: nn.Module, _inputs: object, found: object) -> None:
            number = ran[name] = ran.get(name, -1) + 1
            for call, alone in self._alone[name]:
                if call.number == number and call.grid and isinstance(found, Tensor):
                    call.why_no_map = why_no_map(found, alone, call.grid, products)
                    if not call.why_no_map and depends_on_company(found, alone):
                        in_company.append(call)

        with ExitStack() as hooks:
            for name, part in self._modules:
                if name in self._alone:
                    hooks.callback(part.register_forward_hook(partial(compare, name)).remove)
            try:
                returned = forward_without_gradients(module)(probe_images(image))
                together = logits_of(returned, PROBES, output)
            except Exception as error:  # a model that takes no batch: its grids are believed
                if is_out_of_memory(error):
                    raise
                return
        for call in [] if depends_on_company(together, logits) else in_company:
            call.why_no_map = "values that depend on the other images of a batch"
        for call, _ in (one for calls in self._alone.values() for one in calls):
            call.grid = None if call.why_no_map else call.grid

    def _start(self, name: str, module: nn.Module, inputs: tuple[object, ...]) -> None:
        runs = self._runs.setdefault(name, [])
        call = Call(name, module, len(runs), len(self._open))
        runs.append(call)
        for run in runs:
            run.repeated = len(runs) > 1
        (self._open[-1].children if self._open else self.calls).append(call)
        self._open.append(call)

    def _end(self, module: nn.Module, inputs: tuple[object, ...], output: object) -> object:
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
