"""The evidence's numbers of each image, for the page's overview and for tables."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from camreport.insight.columns import Column, rounded
from camreport.insight.evidence_blocks import PREDICTED, Scope, shard_blocks
from camreport.metrics import METRICS
from camreport.results.evidence import CONTROL
from camreport.results.reader import Results

MAX_DETAILED = 1000
"""Most images of which all numbers are columns; of more, only those that answer a question."""


@dataclass(frozen=True)
class EvidenceColumns:
    """Numbers of each image, by name: ``<number>.<method>``.

    Attributes:
        numbers: of each readable image, in their order; None where it is not defined.
        places: places of the sample's images among the readable ones.
        sampled: numbers of these images only.
    """

    numbers: Mapping[str, Column] = field(default_factory=dict)
    places: tuple[int, ...] = ()
    sampled: Mapping[str, Column] = field(default_factory=dict)


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
    detailed = len(results.readable) <= most
    for block in shard_blocks(results, [Scope(PREDICTED)]):
        own = {
            f"{key.number}.{key.row}": rounded(block.values[0, place])
            for place, key in enumerate(block.keys)
            if key.layer == layer
            and not key.row.startswith(CONTROL)
            and key.row not in repeats
            and (detailed or "." not in key.number)
        }
        parts.append((len(block.images), own))
    names = sorted(dict.fromkeys(name for _, part in parts for name in part), key=_order)
    columns = {
        name: [value for n, part in parts for value in part.get(name, [None] * n)] for name in names
    }
    sample = {*entry.sample}
    places = [place for place, image in enumerate(results.readable) if image.index in sample]
    return EvidenceColumns(
        {name: own for name, own in columns.items() if not _is_sampled(name)},
        (*places,),
        {
            name: [own[place] for place in places]
            for name, own in columns.items()
            if _is_sampled(name)
        },
    )


def _metric(name: str) -> str:
    """Return the key of the metric of a column."""
    return name.partition(".")[0]


def _order(name: str) -> int:
    """Return the place of a column's metric in tables."""
    return [*METRICS].index(_metric(name)) if _metric(name) in METRICS else len(METRICS)


def _is_sampled(name: str) -> bool:
    metric = METRICS.get(_metric(name))
    return metric is None or metric.coverage != "all"
