"""One batch after its forward pass: every kind of passes, and what they give."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager

from torch import Tensor

from camreport.engine.backward import CHANNEL_CONTRIBUTIONS, CHANNEL_WEIGHTS
from camreport.engine.batch import Batch, Maps
from camreport.engine.cost import Cost
from camreport.engine.explanation import FUSED, Channels, Explanation
from camreport.engine.passes import Passes, passes_of
from camreport.engine.plan import Plan
from camreport.engine.transfer import Transfer
from camreport.messages import Message, message
from camreport.methods import Method
from camreport.methods.fusion import fuse

LOOPED = message("engine.looped")
"""Note on models whose backward pass does not support several classes at once."""

NEGATIVE, EQUAL = "negative/", "equal/"
"""What stands before a layer's name in the names of ``_checks``."""


def explained(begun: AbstractContextManager[Batch], kinds: Sequence[Passes]) -> Explanation:
    """Explain a batch by a backward pass for each class and by further passes.

    Args:
        begun: runs the forward pass, and gives the batch; nothing of it is held afterwards.
        kinds: the kinds of passes to run.
    """
    started, maps, costs = time.perf_counter(), Maps(), dict[str, Cost]()
    with begun as batch:
        checked = Transfer(_checks(batch))
        for passes in kinds:
            methods = passes.methods(batch.plan)
            if methods or passes.always:
                found, cost = passes.run(batch, methods, maps)
                maps |= found
                now = time.perf_counter()
                costs[passes.name] = cost + Cost(seconds=now - started)
                started = now
        holding = [name for name, flag in checked.arrays().items() if flag]
        return _explanation(batch, maps, costs, holding)


def _checks(batch: Batch) -> dict[str, Tensor]:
    """Return what the notes need to know of a batch's values, each a tensor of one truth value.

    A value is called after its layer: ``negative/<layer>`` for those at which a method assumes
    A >= 0, ``equal/<layer>`` for the plan's duplicates.
    """
    plan, layers = batch.plan, batch.plan.layers
    points = {
        name: point
        for method in _non_negative(plan)
        for name, point in plan.points_by_layer(method).items()
    }
    found = {f"{NEGATIVE}{name}": (batch.values(point) < 0).any() for name, point in points.items()}
    for name, earlier in plan.duplicates.items():
        own, other = (batch.values(layers[one].point) for one in (name, earlier))
        found[f"{EQUAL}{name}"] = (own == other).all()
    return found


def _non_negative(plan: Plan) -> list[Method]:
    """Return the methods that assume A >= 0 and are computed somewhere."""
    return [m for m in plan.methods if m.non_negative and plan.points_by_layer(m)]


def _negative_values(plan: Plan, holding: Sequence[str]) -> tuple[Message, ...]:
    """Return a note on methods that assume A >= 0 at layers with negative values."""
    names = [name.removeprefix(NEGATIVE) for name in holding if name.startswith(NEGATIVE)]
    if not names:
        return ()
    methods = ", ".join(method.name for method in _non_negative(plan))
    return (message("engine.negative", methods=methods, layers=", ".join(names)),)


def _explanation(
    batch: Batch, maps: Maps, costs: dict[str, Cost], holding: Sequence[str]
) -> Explanation:
    """Return the explanation of a batch from the maps of its passes.

    Args:
        batch: the batch.
        maps: by method and hook point.
        costs: by kind of passes; the number of maps is added.
        holding: the names of those ``_checks`` that hold.
    """
    plan, forward = batch.plan, batch.forward
    findings = _negative_values(plan, holding)
    if batch.batching.works is False:
        findings = (*findings, LOOPED)
    weights = maps.get(CHANNEL_WEIGHTS, {})
    sums = maps.get(CHANNEL_CONTRIBUTIONS, {})
    return Explanation(
        maps=_named(batch, maps, costs),
        logits=batch.reference_logits.float(),
        activation=plan.activation,
        output=plan.output,
        targets=batch.targets,
        layers=dict(plan.layers),
        shapes={name: plan.shapes[name] for name in plan.layers},
        duplicates={
            name: earlier
            for name, earlier in plan.duplicates.items()
            if f"{EQUAL}{name}" in holding
        },
        skipped=plan.skipped,
        costs=costs,
        bytes_per_image=forward.bytes_per_image,
        channels={
            name: Channels(layer, batch.values(layer.point).float(), weights[layer.point])
            for name, layer in plan.channels.items()
        },
        contributions={name: sums[layer.point] for name, layer in plan.contributions.items()},
        options=plan.options,
        notes=tuple(dict.fromkeys((*plan.notes, *findings))),
        findings=findings,
    )


def _named(batch: Batch, maps: Maps, costs: dict[str, Cost]) -> Maps:
    """Return the maps of a batch by method and the layers' names; they are added to the costs."""
    plan, named = batch.plan, Maps()
    for method in plan.methods:
        kind = passes_of(method, plan)
        ran = maps.get(method.key, {}) if kind in costs else {}
        named[method.key] = _by_name(ran, method, plan)
        if ran:
            costs[kind] += Cost(maps=batch.targets.numel() * len(named[method.key]))
    return named


def _by_name(by_point: dict[str, Tensor], method: Method, plan: Plan) -> dict[str, Tensor]:
    """Return a method's maps by the layers' names, and the fused map."""
    if not by_point:
        return {}
    maps = {name: by_point[point] for name, point in plan.points_by_layer(method).items()}
    points = plan.points(method)
    if method.fuses and len(points) > 1:
        known = [plan.stage_ids[point] for point in points] if plan.stage_ids else None
        cams = [by_point[point] for point in points]
        maps[FUSED] = fuse(cams, plan.options.gamma, plan.options.stages, known)
    return maps
