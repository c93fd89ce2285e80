"""The schema of the evidence in a results folder: entries of its JSON files, names of its arrays.

OUT/results/evidence-000000.npz    what was measured of a shard's maps; evidence-000000.json
                                   beside it says that it is complete and what decides it
OUT/results/collages.npz           what was measured on collages of the run's images, if anything;
                                   collages.json beside it
OUT/results/spare-000000.npz       evidence that the last run did not ask for; a later one that asks
OUT/results/spare.npz              for it takes it from there, and no reader sees it
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, Self

from camreport.metrics import METRICS
from camreport.metrics.values import Undefined
from camreport.results.costs import Cost, Count, TotalCost
from camreport.results.decoding import Entry, UnfitError

CONTROL = "control:"
"""How the names of the rows begin whose maps know nothing of the model."""

COLLAGES = "collages.npz"
"""File name of what was measured on collages."""

SPARE_COLLAGES = "spare.npz"
"""File name of what was measured on collages, where the last run did not ask for it."""

WHY = ".why"
"""Ending of the names of arrays that say why numbers are undefined."""

SCRAMBLED = "scrambled."
"""How the names of maps of a scrambled network begin; its seed follows."""

SCRAMBLED_IMAGE, BOXES, BOX_CLASSES = "scrambled.image", "regions.boxes", "regions.classes"
"""Names of arrays: images with maps of a scrambled network; regions, and their classes or -1."""

MEASURED_INPUT = "measured/input"
"""Name of the measured effect maps."""

NAME = re.compile(r"[a-z][a-z0-9_]{0,40}(\.[a-z0-9_]{1,40})?")
"""Names of metrics and of their numbers."""


class NumberKey(NamedTuple):
    """Name of an array of numbers: ``"effect/grad_cam/features.12"``, ``"effect.ceiling"``.

    Attributes:
        number: what was measured: the key of a metric, perhaps with a part of it.
        row: key of a method, or ``control:`` and a name; empty for a number without a map.
        layer: address of the layer, ``FUSED`` or ``INPUT``; empty likewise.
    """

    number: str
    row: str = ""
    layer: str = ""

    def __str__(self) -> str:
        """Return the array's name."""
        return "/".join(self) if self.row else self.number

    @property
    def metric(self) -> str:
        """The key of the metric that gives the number."""
        return self.number.partition(".")[0]

    @property
    def reasons(self) -> str:
        """The name of the array that says why numbers are undefined; there is none if none is."""
        return str(self._replace(number=self.number + WHY))

    @classmethod
    def parse(cls, name: str) -> Self:
        """Return the key from an array's name."""
        number, _, rest = name.partition("/")
        row, _, layer = rest.partition("/")
        return cls(number, row, layer)


def evidence_name(shard: int) -> str:
    """Return the file name of the evidence beside a shard."""
    return f"evidence-{shard:06d}.npz"


def spare_name(shard: int) -> str:
    """Return the file name of the evidence for a shard that the last run did not ask for."""
    return f"spare-{shard:06d}.npz"


def _named(value: Mapping[str, object]) -> None:
    for name in value:
        if not NAME.fullmatch(name):
            raise UnfitError("the name of a number", name)


def _metric_key(value: str) -> None:
    if value not in METRICS:
        raise UnfitError(f"one of {', '.join(METRICS)}", value)


def _metric_keys(value: Mapping[str, object]) -> None:
    for name in value:
        _metric_key(name)


def _reasons(value: Mapping[str, object]) -> None:
    for name in value:
        if name.upper() not in Undefined.__members__:
            raise UnfitError("a reason why a number is undefined", name)


Reasons = Annotated[Mapping[str, Count], _reasons]
"""Number of undefined values by reason: the names of ``Undefined`` in lower case."""

ReasonsByNumber = Annotated[Mapping[str, Reasons], _named]


@dataclass(frozen=True, kw_only=True, slots=True)
class EvidenceCost(Cost):
    """How much was computed for the evidence, in total and by metric."""

    metrics: Annotated[Mapping[str, Cost], _metric_keys]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCost(TotalCost):
    """How much was computed for the maps of a run, and for their evidence.

    Attributes:
        evidence: cost of the evidence; None if nothing was measured.
    """

    evidence: EvidenceCost | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class EvidenceEntry(Entry):
    """What was measured of a run's maps, and how.

    Attributes:
        level: ``basic`` or ``full``.
        metrics: keys of the metrics that were measured, in the order of tables.
        maps: whether order was measured of the ``main`` maps or of ``all``.
        seed: random seed of everything drawn.
        sample: indices of the images on which passes were spent, in increasing order.
        unreadable: number of images that were drawn for the sample but could not be read.
        baseline: what covers a part of an image; ``mean``, the preprocessing's mean colour.
        masks: number of masks of an image; None if none was masked.
        scrambled: seeds of the networks with scrambled weights.
        doubled: whether collages had twice the height and width of an image, not images half of
            theirs; None if there was no collage.
        regions: number of images with known regions; None if no regions were given.
        undefined: number of undefined values by reason, of each number that has some.
    """

    level: Literal["basic", "full"]
    metrics: tuple[Annotated[str, _metric_key], ...]
    maps: Literal["main", "all"]
    seed: Count
    sample: tuple[Count, ...]
    unreadable: Count
    baseline: Literal["mean"]
    masks: Count | None = None
    scrambled: tuple[Count, ...]
    doubled: bool | None = None
    regions: Count | None = None
    undefined: ReasonsByNumber


@dataclass(frozen=True, kw_only=True, slots=True)
class PartEntry(Entry):
    """A finished part of the evidence: one kind of it, for some images.

    Attributes:
        decided: digest of what decides it, beside the run: its settings, the methods, the images.
        images: indices of the images among the run's inputs; none for all of the shard.
        cost: its cost.
    """

    decided: str
    images: tuple[Count, ...] = ()
    cost: Cost


@dataclass(frozen=True, kw_only=True, slots=True)
class EvidenceSidecar(Entry):
    """The JSON file of ``evidence-000000.npz`` or ``collages.npz``; it shows that it is complete.

    Each part stays valid as long as the run and what decides the part are the same.

    Attributes:
        run: fingerprint of the run.
        methods: the methods whose maps were measured, as in the shard's sidecar.
        parts: the finished parts by name: ``contrast``, ``learned.0``; not among them are those
            with an image that could not be read again.
        unreadable: number of images whose files could not be read again as they had been.
        undefined: number of undefined values of each number, by reason.
        cost: cost of the evidence.
        device: device on which it was computed.
        bytes: size of the file of arrays; 0 if nothing could be measured, so that there is none.
        doubled: of collages, as in the manifest.
    """

    run: str
    methods: tuple[str, ...]
    parts: Annotated[Mapping[str, PartEntry], _named]
    unreadable: Count
    undefined: ReasonsByNumber
    cost: EvidenceCost
    device: str
    bytes: Count
    doubled: bool | None = None
