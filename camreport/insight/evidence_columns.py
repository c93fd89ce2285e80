"""The evidence's numbers of each image, for the page's overview and for tables."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from camreport.insight.columns import Column, rounded
from camreport.insight.evidence_blocks import PREDICTED, Scope, shard_blocks
from camreport.metrics import METRICS
from camreport.results.evidence import CONTROL
from camreport.results.outline import Described
from camreport.results.reader import Results

MAX_DETAILED = 1000
"""Most images of which all numbers are columns; of more, only those that answer a question."""

AREA = "extent"
"""Number that is no column here: each image has it as its ``area`` of the method."""

HIT = "regions.hit"
"""Number that says whether a map's peak is on the object; a column of each image always."""


@dataclass(frozen=True)
class EvidenceColumns:
    """Numbers of each image, by name: ``<number>.<method>``.

    Attributes:
        numbers: of each readable image, in their order; None where it is not defined.
        places: places of the sample's images among the readable ones.
        sampled: numbers of these images only.
    """

    numbers: dict[str, Column] = field(default_factory=dict)
    places: tuple[int, ...] = ()
    sampled: dict[str, Column] = field(default_factory=dict)

    def spread(self, count: int) -> dict[str, Column]:
        """Return the numbers of the sample's images as columns of all ``count`` readable images."""
        found: dict[str, Column] = {}
        for name, values in self.sampled.items():
            of_place = dict(zip(self.places, values, strict=True))
            found[name] = [of_place.get(place) for place in range(count)]
        return found


def evidence_columns(
    results: Results, layer: str, repeats: Collection[str] = (), most: int = MAX_DETAILED
) -> EvidenceColumns:
    """Return the numbers of the maps of the images' predicted classes at one layer.

    Args:
        results: an open results folder.
        layer: address of the layer.
        repeats: keys of the methods that repeat another's maps.
        most: most images of which all numbers are returned.

    Raises:
        ResultsError: a file of evidence is missing or damaged.
    """
    entry = results.manifest.evidence
    if entry is None:
        return EvidenceColumns()
    parts: list[tuple[int, dict[str, Column]]] = []
    detailed = results.count <= most
    for block in shard_blocks(results, [Scope(PREDICTED)]):
        own = {
            f"{key.number}.{key.row}": rounded(block.values[0, place])
            for place, key in enumerate(block.keys)
            if key.layer == layer
            and key.number != AREA
            and not key.row.startswith(CONTROL)
            and key.row not in repeats
            and (detailed or "." not in key.number or key.number == HIT)
        }
        parts.append((len(block.images), own))
    names = sorted(dict.fromkeys(name for _, part in parts for name in part), key=_order)
    columns = {
        name: [value for n, part in parts for value in part.get(name, [None] * n)] for name in names
    }
    sample = {*entry.sample}
    places = [place for place, image in enumerate(results.outlines) if image.index in sample]
    return EvidenceColumns(
        {name: own for name, own in columns.items() if not _is_sampled(name)},
        (*places,),
        {
            name: [own[place] for place in places]
            for name, own in columns.items()
            if _is_sampled(name)
        },
    )


def misplaced(images: Sequence[Described], columns: EvidenceColumns) -> dict[str, tuple[int, int]]:
    """Return in how many images that are predicted right a map's peak is not on the object.

    Args:
        images: the readable images.
        columns: their numbers.

    Returns:
        for each method with maps of such images, how many there are, and of how many.
    """
    right = [bool(image.top) and image.top[0].index == image.label for image in images]
    found: dict[str, tuple[int, int]] = {}
    for name, hits in columns.numbers.items():
        if name.startswith(f"{HIT}."):
            own = [hit for hit, is_right in zip(hits, right, strict=True) if is_right]
            known = [hit for hit in own if hit is not None]
            if known:
                found[name.removeprefix(f"{HIT}.")] = known.count(0.0), len(known)
    return found


def _metric(name: str) -> str:
    """Return the key of the metric of a column."""
    return name.partition(".")[0]


def _order(name: str) -> int:
    """Return the place of a column's metric in tables."""
    return [*METRICS].index(_metric(name)) if _metric(name) in METRICS else len(METRICS)


def _is_sampled(name: str) -> bool:
    metric = METRICS.get(_metric(name))
    return metric is None or metric.coverage != "all"
