"""What a rule reads, and what it claims: a sentence with its number, its n and a place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from camreport.insight.aggregates import Aggregates, MapAggregate, PairAggregate
from camreport.insight.atlas import Atlas
from camreport.insight.evidence import EvidenceTable
from camreport.messages import Message
from camreport.methods import METHODS, Method
from camreport.results.schema import Manifest

View = Literal["overview", "matrix", "atlas", "evidence", "methods", "provenance", "runs"]

Axis = Literal["layer", "method", "class", "image", "run"]

AtlasPart = Literal["means", "clusters", "scatter", "outliers", "confusions", "groups"]


@dataclass(frozen=True)
class Place:
    """What of the page shows a claim: a part of its state.

    Attributes:
        view: that is shown.
        image: index of an image.
        method: key of a method.
        layer: address of a layer.
        rows: axis of the rows of a table of maps.
        columns: axis of its columns.
        query: which images are shown.
        sort: the number that they are ordered by, and ``.up`` or ``.down``.
        number: key of a number of the evidence, which is shown layer by layer.
        scope: whose maps it is about.
        run: place of one of the runs that are compared.
        atlas: the part of the Atlas.
    """

    view: View
    image: int | None = None
    method: str | None = None
    layer: str | None = None
    rows: Axis | None = None
    columns: Axis | None = None
    query: str | None = None
    sort: str | None = None
    number: str | None = None
    scope: str | None = None
    run: int | None = None
    atlas: AtlasPart | None = None


@dataclass(frozen=True)
class Finding:
    """One claim.

    Attributes:
        text: the claim in words, with its number and its n.
        count: of how many images or maps it holds.
        place: what shows it.
    """

    text: Message
    count: int
    place: Place


@dataclass(frozen=True)
class Evidence:
    """What the rules read.

    Attributes:
        manifest: of the run.
        aggregates: over its images.
        repeats: for each method whose maps coincide with another's, that other.
        opposite: whether the logits of its two classes are opposite in every image.
        compared: number of images in which repeats and opposite logits were looked for; None for
            all.
        table: what was measured of the maps; None if nothing was.
        misplaced: of each method in how many images that are predicted right the peak of its map at
            the last layer lies outside the object, of how many.
        atlas: its clusters; None where there is nothing to compare.
    """

    manifest: Manifest
    aggregates: Aggregates
    repeats: Mapping[str, str] = field(default_factory=dict)
    opposite: bool = False
    compared: int | None = None
    table: EvidenceTable | None = None
    misplaced: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    atlas: Atlas | None = None

    @property
    def layers(self) -> list[str]:
        """Addresses of the layers with tensors of their own."""
        return [layer.address for layer in self.manifest.layers if layer.same_as is None]

    @property
    def last(self) -> str:
        """The layer whose maps are read first."""
        return self.manifest.glance.layer

    @property
    def methods(self) -> list[Method]:
        """The methods with maps of layers, without those that repeat another's."""
        keys = (key for key in self.manifest.shown_methods if key not in self.repeats)
        return [METHODS[key] for key in keys if METHODS[key].scope == "layer"]

    def maps(self, layer: str) -> list[MapAggregate]:
        """Return the aggregates of the methods at a layer, as far as they have any."""
        found = (self.aggregates.map(method.key, layer) for method in self.methods)
        return [own for own in found if own is not None]

    def pairs(self, layer: str) -> list[PairAggregate]:
        """Return the agreement of each two of the methods at a layer, where it is defined."""
        return self._pairs(layer, {method.key for method in self.methods})

    def class_pairs(self, layer: str) -> list[PairAggregate]:
        """Return those of the class-specific methods."""
        return self._pairs(layer, {method.key for method in self.methods if method.per_class})

    def _pairs(self, layer: str, keys: set[str]) -> list[PairAggregate]:
        return [
            pair
            for pair in self.aggregates.pairs
            if pair.layer == layer
            and keys.issuperset(pair.methods)
            and pair.correlation.median is not None
        ]


def coefficient(value: float) -> str:
    """Return a correlation with two digits and a real minus."""
    return f"{value:.2f}".replace("-", "−")
