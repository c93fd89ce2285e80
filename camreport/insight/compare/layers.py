"""Which layers of several runs stand for each other: by name, by depth, or as the user says."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from typing import Literal

from camreport.errors import LayerError, suggestion
from camreport.results.schema import FUSED, INPUT, LayerEntry, Manifest

How = Literal["name", "depth", "chosen", "alone"]


@dataclass(frozen=True)
class LayerPair:
    """A layer of the first run, and those of the others that stand for it.

    Attributes:
        key: address in the first run; of a layer that this has not, the other run's, made unique.
        addresses: by run; None where a run has no such layer.
        by: why these: one name, type and number of channels in all runs; the most alike in depth
            and grid; chosen by the user; or alone, in one run only.
        depths: by run, how far through the network the layer lies, 0..1; None likewise.
    """

    key: str
    addresses: tuple[str | None, ...]
    by: How
    depths: tuple[float | None, ...]

    @property
    def whole(self) -> bool:
        """Whether every run has such a layer."""
        return None not in self.addresses


def pair_layers(
    manifests: Sequence[Manifest], asked: Mapping[str, str] | None = None
) -> tuple[LayerPair, ...]:
    """Pair the layers of runs, in the order of the first one.

    Layers whose tensor is another's stand for nothing of their own. Those that only further runs
    have stand before the last pair that all runs have.

    Args:
        manifests: of the runs.
        asked: for addresses in the first run those in other runs.

    Raises:
        LayerError: an asked layer is in no run.
    """
    _check_asked(manifests, asked or {})
    first, *others = [own_layers(manifest) for manifest in manifests]
    depths = [_depths(manifest) for manifest in manifests]
    found: dict[str, list[str | None]] = {one.address: [one.address] for one in first}
    kinds: dict[str, set[How]] = {one.address: set() for one in first}
    alone: list[LayerPair] = []
    for run, layers in enumerate(others, start=1):
        matched = _matched(first, layers, (depths[0], depths[run]), asked or {})
        for one in first:
            own, how = matched.get(one.address, (None, None))
            found[one.address].append(own)
            kinds[one.address] |= {how} if how else set()
        taken = {own for own, _ in matched.values()}
        alone += _alone(layers, taken, run, depths)
    pairs = [
        LayerPair(
            key,
            (*addresses,),
            _joint(kinds[key]),
            tuple(None if a is None else depths[i][a] for i, a in enumerate(addresses)),
        )
        for key, addresses in found.items()
    ]
    keys = {*found, FUSED, INPUT}
    last = max((place for place, pair in enumerate(pairs) if pair.whole), default=len(pairs))
    return (*pairs[:last], *_unique(alone, keys), *pairs[last:])


def own_layers(manifest: Manifest) -> list[LayerEntry]:
    """Return the layers of a run that have tensors of their own."""
    return [layer for layer in manifest.layers if layer.same_as is None]


def _check_asked(manifests: Sequence[Manifest], asked: Mapping[str, str]) -> None:
    addresses = [[layer.address for layer in own_layers(manifest)] for manifest in manifests]
    others = [*dict.fromkeys(address for own in addresses[1:] for address in own)]
    for one, other in asked.items():
        for what, known, where in (
            (one, addresses[0], "the first run"),
            (other, others, "another run"),
        ):
            if what not in known:
                raise LayerError(
                    f"pair: expected a layer with maps in {where}, got {what!r}."
                    f"{suggestion(what, known)} There are: {', '.join(known)}"
                )


def _matched(
    first: Sequence[LayerEntry],
    others: Sequence[LayerEntry],
    depths: tuple[Mapping[str, float], Mapping[str, float]],
    asked: Mapping[str, str],
) -> dict[str, tuple[str, How]]:
    """Return for addresses of the first run the other run's, and why."""
    by_address = {one.address: one for one in others}
    found: dict[str, tuple[str, How]] = {
        one.address: (asked[one.address], "chosen")
        for one in first
        if asked.get(one.address) in by_address
    }
    taken = {address for address, _ in found.values()}
    for one in first:
        other = by_address.get(one.address)
        if one.address not in found and other and other.address not in taken and _same(one, other):
            found[one.address] = (other.address, "name")
            taken.add(other.address)
    left = [one for one in first if one.address not in found]
    right = [one for one in others if one.address not in taken]
    return found | {one: (other, "depth") for one, other in _by_depth(left, right, *depths)}


def _same(one: LayerEntry, other: LayerEntry) -> bool:
    """Return whether two layers of one name are of one type, with as many channels."""
    return (one.type, one.shape[0]) == (other.type, other.shape[0])


def _by_depth(
    left: Sequence[LayerEntry],
    right: Sequence[LayerEntry],
    depths: Mapping[str, float],
    others: Mapping[str, float],
) -> list[tuple[str, str]]:
    """Pair as many layers as possible in order, so that depths and grids differ least in sum.

    Two layers differ by the difference of their depths and by the doublings between their grids.
    """

    def cost(one: LayerEntry, other: LayerEntry) -> float:
        doublings = abs(log2(one.shape[1] / other.shape[1]) + log2(one.shape[2] / other.shape[2]))
        return abs(depths[one.address] - others[other.address]) + doublings / 2

    # Of the layers from i and j on: pairs that are missing, what the others differ by, the way on.
    rows, columns = len(left), len(right)
    best = [[(0, 0.0, "")] * (columns + 1) for _ in range(rows + 1)]
    for i in reversed(range(rows)):
        for j in reversed(range(columns)):
            count, total, _ = best[i + 1][j + 1]
            paired = count - 1, total + cost(left[i], right[j]), "pair"
            ways = paired, (*best[i + 1][j][:2], "left"), (*best[i][j + 1][:2], "right")
            best[i][j] = min(ways, key=lambda way: way[:2])
    pairs, i, j = [], 0, 0
    while way := best[i][j][2]:
        if way == "pair":
            pairs.append((left[i].address, right[j].address))
        i, j = i + (way != "right"), j + (way != "left")
    return pairs


def _depths(manifest: Manifest) -> dict[str, float]:
    """Return how far each layer lies through the part of the network that has places, 0..1.

    By its modules in the order in which they run, where they are known; else by the layers.
    """
    modules = [module.address for module in manifest.structure.modules]
    spatial = [
        place
        for place, module in enumerate(manifest.structure.modules)
        if module.shape and len(module.shape) == 3 and max(module.shape[1:]) > 1
    ]
    layers = {own.address: own.address.partition(":")[0] for own in own_layers(manifest)}
    if spatial and not manifest.structure.more and {*layers.values()} <= {*modules}:
        last = max(1, spatial[-1])
        return {layer: min(1.0, modules.index(own) / last) for layer, own in layers.items()}
    return {layer: place / max(1, len(layers) - 1) for place, layer in enumerate(layers)}


def _alone(
    layers: Sequence[LayerEntry],
    taken: set[str],
    run: int,
    depths: Sequence[Mapping[str, float]],
) -> Iterator[LayerPair]:
    """Yield the layers of a run that stand for none of the first one's."""
    for layer in layers:
        if layer.address not in taken:
            places = range(len(depths))
            addresses = tuple(layer.address if i == run else None for i in places)
            own = tuple(depths[run][layer.address] if i == run else None for i in places)
            yield LayerPair(layer.address, addresses, "alone", own)


def _joint(kinds: set[How]) -> How:
    """Return why a layer and those of all other runs belong together."""
    ways: tuple[How, ...] = ("chosen", "depth", "name")
    for how in ways:
        if how in kinds:
            return how
    return "alone"


def _unique(pairs: Sequence[LayerPair], keys: set[str]) -> Iterator[LayerPair]:
    """Yield pairs whose keys are none of those that are taken."""
    for pair in pairs:
        key, number = pair.key, 2
        while key in keys:
            key, number = f"{pair.key} ({number})", number + 1
        keys.add(key)
        yield LayerPair(key, pair.addresses, pair.by, pair.depths)
