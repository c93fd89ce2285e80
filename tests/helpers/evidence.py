"""Evidence with numbers chosen by hand, for the rules that read it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from camreport.insight.aggregates import (
    Aggregates,
    Areas,
    MapAggregate,
    PairAggregate,
    Spread,
)
from camreport.insight.claims import Evidence
from camreport.results.schema import ImageEntry, LayerEntry, Manifest, MapKey, Prediction
from helpers import synthetic

NO_MAPS = Areas(maps=0, empty=0, undefined=0, median=None)


def areas(
    median: float | None,
    maps: int = 20,
    empty: int = 0,
    quartiles: tuple[float, float] = (0.1, 0.3),
) -> Areas:
    """Return areas of maps of which some have no positive evidence."""
    return Areas(maps=maps, empty=empty, undefined=0, median=median, quartiles=quartiles)


def maps(
    method: str,
    layer: str,
    predicted: Areas = NO_MAPS,
    *,
    right: Areas = NO_MAPS,
    wrong: Areas = NO_MAPS,
    likeness: float | None = None,
    alike: int = 0,
    similar: int = 0,
    files: Sequence[str] = (),
    n: int = 20,
) -> MapAggregate:
    """Return the aggregates of a method at a layer."""
    spread = Spread(0 if likeness is None else n, likeness)
    by_outcome = {"all": predicted, "right": right, "wrong": wrong, "unlabelled": NO_MAPS}
    return MapAggregate(
        MapKey(method, layer), predicted, by_outcome, 0, spread, alike, similar, (*files,)
    )


def pair(one: str, other: str, layer: str, correlation: float | None) -> PairAggregate:
    """Return the agreement of two methods at a layer."""
    spread = Spread(0 if correlation is None else 40, correlation)
    return PairAggregate((one, other), layer, spread, spread)


def image(
    index: int, name: str, probability: float, label: str | None = None, **changes: object
) -> ImageEntry:
    """Return a readable image that is predicted as ``cat`` or ``dog``, of 100 × 50 pixels."""
    names = synthetic.CLASSES
    other = names[1 - names.index(name)]
    chances = {name: probability, other: round(1 - probability, 6)}
    entry = ImageEntry(
        index=index,
        file=f"{index}.jpg",
        sha256="0" * 64,
        width=100,
        height=50,
        status="ok",
        label=None if label is None else names.index(label),
        shard="shard-000000.npz",
        row=index,
        top=tuple(
            Prediction(index=names.index(own), name=own, probability=chance)
            for own, chance in chances.items()
        ),
    )
    return replace(entry, **changes)  # type: ignore[arg-type]


def manifest(methods: Sequence[str], layers: Mapping[str, str | None]) -> Manifest:
    """Return the manifest of a run; of each layer the one whose tensor it repeats."""
    plain = synthetic.manifest_of(methods, dict.fromkeys(layers, 5), [])
    entries = tuple(
        LayerEntry(
            address=layer,
            type="Conv2d",
            tensor=synthetic.AFTER_RELU,
            shape=(8, 5, 5),
            same_as=same,
        )
        for layer, same in layers.items()
    )
    return replace(plain, layers=entries)


def evidence(
    *own: MapAggregate,
    pairs: Sequence[PairAggregate] = (),
    layers: Mapping[str, str | None] | None = None,
    repeats: Mapping[str, str] | None = None,
    images: int = 20,
) -> Evidence:
    """Return evidence of the methods that the maps have, at the layers ``a`` and ``b``."""
    keys = [*dict.fromkeys([*(one.key.method for one in own), *(repeats or {})])] or ["grad_cam"]
    counts = {"all": images, "right": 0, "wrong": 0, "unlabelled": images}
    return Evidence(
        manifest(keys, layers or {"a": None, "b": None}),
        Aggregates(counts, own, (*pairs,), ()),
        repeats or {},
    )
