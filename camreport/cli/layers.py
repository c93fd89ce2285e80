"""The table of a model's layers."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from camreport.models import LoadedModel
    from camreport.network.survey import Call

HEAD = ("", "address", "type", "output", "stride", "parameters", "a map reads", "gradient")

NUMBERS = (5, 7)
"""Columns of numbers."""


def layer_rows(loaded: "LoadedModel", tree: bool) -> Iterator[tuple[str, ...]]:
    """Run a model once on a sample image and yield a row for each of its layers.

    Args:
        loaded: the model.
        tree: whether names are indented by their depth.
    """
    from camreport.network.choose import choose_stages
    from camreport.network.survey import sample_image, survey

    size = loaded.preprocessing.size
    calls = survey(loaded.module, sample_image(size), loaded.output)
    chosen = choose_stages(loaded.module, calls)
    ran = {call.address: call for child in calls for call in child.inside()}
    for address, call in ran.items():
        yield _layer_row(loaded.module, call, ran, size, address in chosen, tree)


def _layer_row(
    module: "nn.Module",
    call: "Call",
    ran: Mapping[str, "Call"],
    image: tuple[int, int],
    chosen: bool,
    tree: bool,
) -> tuple[str, ...]:
    """Return one line of the table of layers."""
    from camreport.network.address import resolve_layer

    used, address = call.used, call.address
    if tree:
        address = "  " * call.depth + address.rpartition(".")[2]
    shape, stride, reads = "-", "", "-"
    if call.shape is not None:
        shape = " x ".join(map(str, call.shape)) or "1"
    if call.grid:
        strides = [f"{side / own:.3g}" for side, own in zip(image, call.grid.size, strict=True)]
        stride = " x ".join(dict.fromkeys(strides))
        layer = resolve_layer(module, call.address)
        reads = str(layer.tensor)
        if not call.grid.plain:
            reads += f" as {call.grid.size[0]} x {call.grid.size[1]}"
        if layer.point != call.address:
            reads += f" ({layer.point})"
            used = ran[layer.point].used if layer.point in ran else None
    own = sum(parameter.numel() for parameter in call.module.parameters())
    return (
        "*" if chosen else "",
        address,
        type(call.module).__name__,
        shape,
        stride,
        f"{own:,}" if own else "",
        reads,
        "" if used is None else f"{used:.0%}",
    )
