"""The choice of layers to explain: by ``auto``, or by a user's addresses and patterns.

The layers that ``auto`` chooses, with the reasons:

================  ==============================  =================================================
network           chosen                          because
================  ==============================  =================================================
AlexNet           features.0, 3, 6, 9, 12         the course compares these
VGG               its five pools                  a pooling ends its stage
ResNet            layer1 to layer4                a block that changes the size is not opened
DenseNet          denseblock1 to 3, norm5         the last tensor of each size; norm5 ends the last
EfficientNet      features.1, 2, 3, 5, 8          the last block of each size
GoogLeNet         conv3, inception3b, 4e, 5b      in front of a pooling whose size occurs again
ConvNeXt, Swin    features.1, 3, 5, and the last  channels last count as a grid, too
ViT               encoder                         all of its blocks have one size
================  ==============================  =================================================

The algorithm: *units* are the module calls whose children are not considered, in order. *Stages*
are successive units with the same grid size. The last unit of each of the last five sizes is
chosen.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from torch import Tensor, nn

from camreport.errors import LayerError
from camreport.network.address import Layer, is_pattern, matching_names, resolve_layer
from camreport.network.grid import is_convolutional, is_permute
from camreport.network.survey import Call, survey
from camreport.settings import AUTO

ALEXNET_LAYERS = tuple(f"features.{index}" for index in (0, 3, 6, 9, 12))
"""The layers of AlexNet that the course compares."""

MAX_LAYERS = 5
"""Largest number of layers that ``auto`` chooses."""

NEAREST = 3
"""Largest number of alternatives that an error message names for a layer without a grid."""

_POOLINGS = (nn.MaxPool2d, nn.AvgPool2d)
_NO_STAGES = (
    *(nn.Dropout, nn.Dropout2d, nn.Identity),
    *(nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    *(nn.ZeroPad2d, nn.ConstantPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d),
)


def is_alexnet(module: nn.Module) -> bool:
    """Return whether a module is torchvision's AlexNet or the bundled one."""
    names = {name for name, _ in module.named_modules()}
    return type(module).__name__ == "AlexNet" and names.issuperset(ALEXNET_LAYERS)


def auto_layers(module: nn.Module, image: Tensor, output: str | None = None) -> list[str]:
    """Choose layers to compare: one per spatial resolution, early to late, five at most.

    For AlexNet these are the course's layers 0, 3, 6, 9 and 12. For other networks, the last
    tensor of each of the last five resolutions above 1 × 1 on which the logits depend is chosen.
    A block that changes the resolution counts as one tensor. The pooling that ends a stage
    represents the stage. If a later tensor has the resolution of that pooling, the tensor in front
    of the pooling is chosen instead, except in the stem. So the layers of VGG are its five pools,
    and those of ResNet ``layer1`` to ``layer4``.

    Args:
        module: the model; its state is restored.
        image: one model input, ``(1, 3, H, W)``; one forward pass is made, except for AlexNet.
        output: key, attribute or index of the logits in the model's output.

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
    given: Sequence[str | int | nn.Module] | nn.Module | int | None,
    image: Tensor,
    output: str | None = None,
) -> dict[str, Layer]:
    """Resolve the layers that a user specified, or choose layers; return them by their names.

    Args:
        module: the model; its state is restored.
        given: addresses, patterns, numbers or module objects; ``auto`` in the list, or None, adds
            the result of ``auto_layers``.
        image: one model input, for patterns and ``auto``, which need a forward pass.
        output: key, attribute or index of the logits in the model's output.

    Raises:
        LayerError: an address matches no module, or a pattern no spatial layer.
    """
    if given is None:
        given = auto_layers(module, image, output)
    if isinstance(given, nn.Module | int):
        given = [given]
    if not given:
        raise LayerError("layers: expected at least one address, or 'auto', got none.")
    calls: list[Call] = []
    found: dict[str, Layer] = {}
    for one in given:
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


def check_positions(
    module: nn.Module, layers: Mapping[str, Layer], image: Tensor, output: str | None = None
) -> None:
    """Refuse layers whose output has the shape of a map but does not show image positions.

    Outputs of convolutions and poolings, and of modules that contain them, are not tested. A
    forward pass is made only if there are other layers.

    Args:
        module: the model; its state is restored.
        layers: the layers by the names that the user gave.
        image: one model input.
        output: key, attribute or index of the logits in the model's output.

    Raises:
        LayerError: the output of a layer does not correspond to image positions.
    """
    parts = dict(module.named_modules(remove_duplicate=False))
    doubtful = [n for n, one in layers.items() if not is_convolutional(parts[one.module])]
    if not doubtful:
        return
    calls = survey(module, image, output)
    ran = {call.address: call for child in calls for call in child.inside()}
    for name in doubtful:
        call = ran.get(layers[name].point)
        if call and call.why_no_map:
            near = ", ".join(nearest_layers(calls, call.name)) or "none"
            raise LayerError(
                f"layer: expected a map of the images, but {name!r} gives {call.why_no_map}. "
                f"Nearest with a grid: {near}."
            )


def nearest_layers(calls: Sequence[Call], name: str) -> list[str]:
    """Return the addresses with a grid that run closest to a module in time, closest first."""
    order = [call for child in calls for call in child.inside()]
    own = next((i for i, call in enumerate(order) if call.name == name), len(order))
    spatial = [i for i, call in enumerate(order) if call.size]
    spatial.sort(key=lambda index: abs(index - own))
    return [order[index].address for index in spatial[:NEAREST]]


def _matches(calls: Sequence[Call], pattern: str) -> list[str]:
    """Return the addresses with a grid that a pattern matches, in order.

    Layers on which the logits do not depend are left out.

    Raises:
        LayerError: the pattern matches no such layer.
    """
    pattern, colon, variant = pattern.partition(":")
    ran = [call for child in calls for call in child.inside()]
    grids = [call for call in ran if call.size]
    spatial = [call for call in grids if call.used != 0] or grids  # or all, if none is reached
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
    """Yield the calls that count as units; the calls inside a unit are not considered.

    Args:
        calls: the calls in order.
        alive: leave out the calls that the gradient does not reach.
    """
    for call in calls:
        dead = alive and call.used == 0
        if call.shape is not None and call.shape[1:] == (1, 1) and not _opens(call):
            continue
        if call.size is None or dead or _is_trunk(call):
            yield from _units(call.children, alive)
        elif not _is_no_stage(call):
            yield call


def _stages(units: Sequence[Call]) -> list[list[Call]]:
    """Split units where the resolution changes; a pooling belongs to the stage before it."""
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
    """Return whether a unit is a pooling, which ends its stage."""
    return isinstance(call.module, _POOLINGS)


def _is_no_stage(call: Call) -> bool:
    """Return whether a module is never chosen, because it changes nothing or only the layout."""
    return isinstance(call.module, _NO_STAGES) or is_permute(call.module)


def _is_trunk(call: Call) -> bool:
    """Return whether the resolution changes so often inside a module that it is several stages.

    A single block may change the resolution once. A sequence of stages changes it before its last
    child.
    """
    if _has_many_sizes(call):
        return True
    in_turn = [child.size for child in call.children if child.size]
    return type(call.module) is nn.Sequential and len(set(in_turn[:-1])) > 1


def _has_many_sizes(call: Call) -> bool:
    """Return whether a module, or a module inside it, has more than two resolutions."""
    stages = [child for child in call.children if not _is_no_stage(child)]
    sizes = {one.size for one in (call, *stages) if one.size}
    return len(sizes) > 2 or any(map(_has_many_sizes, stages))


def _opens(call: Call) -> bool:
    """Return whether a module that ends at 1 × 1 is more than one block."""
    return type(call.module) is nn.Sequential or _is_trunk(call)
