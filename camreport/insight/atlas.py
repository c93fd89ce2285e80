"""Where a model looks over a whole run: clusters of maps, cards of them, outliers, a scatter."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camreport.insight.aggregates import Histogram
from camreport.insight.arrangement import MAX_CLASSES, Arrangement, predicted_classes
from camreport.insight.clusters import MAX_CLUSTERS, MIN_IMAGES, MIN_STABILITY, is_available
from camreport.insight.corners import CORNERS, Corner, masses
from camreport.insight.kept import arrangement_of
from camreport.insight.predictions import judgement
from camreport.insight.spaces import SPACES, Rows, Space, rows_of, spaces_of
from camreport.messages import Message, message
from camreport.messages.message import LANGUAGES
from camreport.metrics.grids import GRID
from camreport.results.outline import Described
from camreport.results.reader import Results

DIGITS = 4
"""Digits of a number after the point."""

MAX_NEAREST, MAX_FARTHEST = 12, 3
"""Most images of a cluster on its card: those nearest to its centre, and those farthest."""

MAX_CHANNELS = 5
"""Most channels on the card of a cluster."""

MIN_CORNER = 0.5
"""Median fraction of maps' sums in a corner from which they claim that corner."""


@dataclass(frozen=True)
class Placement:
    """Where on the picture the maps of some images lie: medians over those with positive evidence.

    Attributes:
        extent: fraction of what the model saw where a map is at least half of its maximum.
        border: fraction of a map's sum that lies in the two outermost rows and columns of 14 × 14.
        corners: fraction of it that lies in each corner of 5 × 5 cells, in the order of
            ``corners.CORNERS``.
    """

    extent: float
    border: float
    corners: tuple[float, float, float, float]


@dataclass(frozen=True)
class Cluster:
    """Images of one predicted class that are alike, and that come back in subsamples.

    Attributes:
        number: from 1 on, the largest cluster first, among those of its class and kind that are
            shown; of very many images the largest in the sample.
        n: number of images.
        share: of the images of the class, 0..1.
        accuracy: share of right predictions among its images with a true class; None without any.
        stability: how well it comes back in subsamples, 0.6..1, see ``clusters``.
        mean: uint8 ``(14, 14)``, the mean of its maps, 255 for the largest.
        nearest: indices of the images that are nearest to its centre, at most 12, nearest first.
        farthest: indices of its images that are farthest from it, at most 3, farthest first.
        channels: channels with the largest mean share of the positive contributions to the class,
            at most 5, each with that share; empty where contributions are not kept.
        placement: where its maps lie.
        corner: the corner that its maps claim, by a fixed rule; None for none.
    """

    number: int
    n: int
    share: float
    accuracy: float | None
    stability: float
    mean: NDArray[np.uint8]
    nearest: tuple[int, ...]
    farthest: tuple[int, ...]
    channels: tuple[tuple[int, float], ...]
    placement: Placement
    corner: Corner | None


@dataclass(frozen=True)
class Outlier:
    """An image whose class has hardly any that are like it.

    Attributes:
        image: its index.
        distance: cosine distance to its k-th neighbour among the images of its class, 0..2.
        neighbour: index of the nearest image of the class that is none of its outliers.
    """

    image: int
    distance: float
    neighbour: int


@dataclass(frozen=True)
class ClassAtlas:
    """The images that are predicted as one class.

    Attributes:
        index: of the class.
        n: number of images whose map has positive evidence.
        accuracy: share of right predictions among those with a true class; None without any.
        where: clusters by where their maps lie.
        what: clusters by the channels that contribute.
        outliers: at most 12, the one farthest from others first; by ``Points.space``.
        placement: where its maps lie; None without any map.
        note: why it has no clusters; None where there are some.
    """

    index: int
    n: int
    accuracy: float | None
    where: tuple[Cluster, ...]
    what: tuple[Cluster, ...]
    outliers: tuple[Outlier, ...]
    placement: Placement | None
    note: Message | None


@dataclass(frozen=True)
class Points:
    """Images in the plane, column by column: all, or of very many a sample.

    Attributes:
        space: what is projected: ``what`` where contributions are kept, else ``where``.
        images: int64 ``(P,)``, their indices.
        classes: int64 ``(P,)``, indices of their predicted classes.
        pca: float64 ``(P, 2)``, the first two principal components.
        tsne: float64 ``(P, 2)``; None for too many images, or without scikit-learn.
        where: int64 ``(P,)``, number of their cluster in ``ClassAtlas.where``; 0 for none.
        what: int64 ``(P,)``, likewise in ``ClassAtlas.what``.
    """

    space: str
    images: NDArray[np.int64]
    classes: NDArray[np.int64]
    pca: NDArray[np.float64]
    tsne: NDArray[np.float64] | None
    where: NDArray[np.int64]
    what: NDArray[np.int64]


@dataclass(frozen=True)
class Atlas:
    """The atlas of a run.

    Attributes:
        what_layer: address of the layer whose contributions are compared; None if none are kept.
        where_method: key of the method whose maps are compared.
        where_layer: address of their layer.
        total: number of readable images; ``points`` may hold fewer.
        note: why no class has clusters; None where they were looked for.
        classes: that are predicted, the most frequent first.
        points: the scatter.
    """

    what_layer: str | None
    where_method: str
    where_layer: str
    total: int
    note: Message | None
    classes: tuple[ClassAtlas, ...]
    points: Points

    def images(self) -> set[int]:
        """Return the indices of the images that cards and outliers name."""
        return {
            image
            for own in self.classes
            for images in (
                *((*card.nearest, *card.farthest) for card in (*own.where, *own.what)),
                *((each.image, each.neighbour) for each in own.outliers),
            )
            for image in images
        }

    def to_json(self) -> dict[str, Any]:
        """Return the atlas for the page: messages in every language, mean maps as base64."""
        content: dict[str, Any] = _json(self)
        return content


def _json(value: object) -> Any:
    """Return what an atlas holds as JSON."""
    if isinstance(value, Message):
        return {language: value.worded(language) for language in LANGUAGES}
    if is_dataclass(value):
        return {_camel(own.name): _json(getattr(value, own.name)) for own in fields(value)}
    if isinstance(value, np.ndarray):
        is_map = value.dtype == np.uint8
        return b64encode(value.tobytes()).decode() if is_map else value.round(DIGITS).tolist()
    if isinstance(value, tuple):
        return [_json(own) for own in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def _camel(name: str) -> str:
    """Return a name as the page spells it."""
    first, *rest = name.split("_")
    return first + "".join(map(str.title, rest))


@dataclass
class _Counted:
    """What a card says of some images, while they are counted."""

    n: int = 0
    right: int = 0
    labelled: int = 0
    sums: NDArray[np.int64] = field(default_factory=lambda: np.zeros((GRID, GRID), np.int64))
    shares: NDArray[np.float64] | float = 0.0
    placed: tuple[Histogram, ...] = field(
        default_factory=lambda: tuple(Histogram(0) for _ in range(2 + len(CORNERS)))
    )

    def add(self, rows: Rows, right: NDArray[np.int8]) -> None:
        """Count images: ``right`` is 1 for a right prediction, 0 for a wrong one, else -1."""
        self.n += len(rows.places)
        self.right += int(np.count_nonzero(right == 1))
        self.labelled += int(np.count_nonzero(right >= 0))
        self.sums += rows.where.sum(0, dtype=np.int64)
        positive = np.maximum(rows.what.astype(np.float64), 0)
        total = positive.sum(1, keepdims=True)
        self.shares = self.shares + (positive / np.where(total > 0, total, 1)).sum(0)
        for histogram, values in zip(
            self.placed, (rows.extent, *masses(rows.where).T), strict=True
        ):
            histogram.add(values.astype(np.float32))

    @property
    def accuracy(self) -> float | None:
        """The share of right predictions; None without true classes."""
        return self.right / self.labelled if self.labelled else None

    @property
    def placement(self) -> Placement | None:
        """Where the maps lie."""
        medians = [own.spread().median for own in self.placed]
        if not self.n:
            return None
        extent, border, *corners = (median or 0.0 for median in medians)
        return Placement(extent, border, (corners[0], corners[1], corners[2], corners[3]))

    @property
    def mean(self) -> NDArray[np.uint8]:
        """The mean map, 255 for its largest value."""
        return np.floor(self.sums * 255 / max(int(self.sums.max()), 1) + 0.5).astype(np.uint8)

    @property
    def channels(self) -> tuple[tuple[int, float], ...]:
        """The channels with the largest mean shares."""
        shares = np.atleast_1d(self.shares) / max(self.n, 1)
        order = np.argsort(-shares, kind="stable")[:MAX_CHANNELS].tolist()
        return tuple((own, float(shares[own])) for own in order if shares[own] > 0)


def atlas_of(results: Results) -> Atlas | None:
    """Return the atlas of a run; None where fewer than two images have a map to compare.

    Raises:
        ResultsError: a shard is missing or damaged.
    """
    arranged = arrangement_of(results)
    return None if arranged is None else described(results, arranged)


def described(results: Results, arranged: Arrangement) -> Atlas:
    """Return the atlas of a run whose images are arranged.

    Raises:
        ResultsError: a shard is missing or damaged.
    """
    manifest, outlines = results.manifest, results.outlines
    right = np.array([_right(image) for image in outlines], np.int8)
    index = np.array([image.index for image in outlines], np.int64)
    predicted = predicted_classes(results)
    counted: dict[tuple[int, str, int], _Counted] = {}
    for rows in rows_of(results):
        for own in np.unique(rows.predicted).tolist():
            some = rows.of(rows.predicted == own)
            counted.setdefault((own, "", 0), _Counted()).add(some, right[some.places])
            for space, labels in zip(SPACES, arranged.labels, strict=True):
                for number in np.unique(labels[some.places]).tolist():
                    if number:
                        few = some.of(labels[some.places] == number)
                        key = own, space, number
                        counted.setdefault(key, _Counted()).add(few, right[few.places])
    by_count = sorted(
        (key[0] for key in counted if not key[1]), key=lambda own: (-counted[own, "", 0].n, own)
    )
    classes = [_class(own, counted, arranged, index, predicted) for own in by_count]
    layer, glance = manifest.contributions, manifest.glance
    return Atlas(
        what_layer=layer.address if layer else None,
        where_method=glance.method,
        where_layer=glance.layer,
        total=results.count,
        note=None if is_available() else message("insight.atlas.missing"),
        classes=(*classes,),
        points=_points(arranged, index, predicted, spaces_of(manifest)[-1]),
    )


def _right(image: Described) -> int:
    """Return 1 for a right prediction, 0 for a wrong one, -1 where that is not known."""
    return {"right": 1, "wrong": 0}.get(judgement(image), -1)


def _points(
    arranged: Arrangement, index: NDArray[np.int64], predicted: NDArray[np.int64], space: Space
) -> Points:
    """Return the scatter."""
    where, what = arranged.labels[:, arranged.points].astype(np.int64)
    return Points(
        space=space,
        images=index[arranged.points],
        classes=predicted[arranged.points],
        pca=arranged.pca.astype(np.float64),
        tsne=arranged.tsne.astype(np.float64) if len(arranged.tsne) else None,
        where=where,
        what=what,
    )


def _class(
    own: int,
    counted: Mapping[tuple[int, str, int], _Counted],
    arranged: Arrangement,
    index: NDArray[np.int64],
    predicted: NDArray[np.int64],
) -> ClassAtlas:
    """Return the images that are predicted as a class."""
    whole = counted[own, "", 0]
    clusters = {
        space: tuple(
            _cluster(counted, (own, space, number), arranged, index, predicted)
            for number in range(1, MAX_CLUSTERS + 1)
            if (own, space, number) in counted
        )
        for space in SPACES
    }
    outliers = [
        Outlier(int(index[place]), float(distance), int(index[neighbour]))
        for (place, neighbour), distance in zip(arranged.outliers, arranged.apart, strict=True)
        if predicted[place] == own
    ]
    is_clustered = own in arranged.clustered
    return ClassAtlas(
        index=own,
        n=whole.n,
        accuracy=whole.accuracy,
        where=clusters["where"],
        what=clusters["what"],
        outliers=(*outliers,),
        placement=whole.placement,
        note=None if any(clusters.values()) else _without(whole.n, is_clustered),
    )


def _without(count: int, clustered: bool) -> Message | None:
    """Return why a class of so many images has no clusters; the atlas says what is missing."""
    if not is_available():
        return None
    if clustered:
        return message("insight.atlas.unstable", least=MIN_STABILITY)
    if count < MIN_IMAGES:
        return message("insight.atlas.few", count=count, least=MIN_IMAGES)
    return message("insight.atlas.classes", most=MAX_CLASSES)


def _cluster(
    counted: Mapping[tuple[int, str, int], _Counted],
    key: tuple[int, Space, int],
    arranged: Arrangement,
    index: NDArray[np.int64],
    predicted: NDArray[np.int64],
) -> Cluster:
    """Return a cluster and its card."""
    own, space, number = key
    few, whole = counted[key], counted[own, "", 0]
    kind, place = SPACES.index(space), int(np.searchsorted(arranged.clustered, own))
    places = np.flatnonzero((predicted == own) & (arranged.labels[kind] == number))
    places = places[np.argsort(arranged.distance[kind, places], kind="stable")]
    placement = few.placement
    assert placement is not None
    return Cluster(
        number=number,
        n=few.n,
        share=few.n / whole.n,
        accuracy=few.accuracy,
        stability=float(arranged.stability[kind, place, number - 1]),
        mean=few.mean,
        nearest=(*index[places[:MAX_NEAREST]].tolist(),),
        farthest=(*index[places[MAX_NEAREST:][::-1][:MAX_FARTHEST]].tolist(),),
        channels=few.channels,
        placement=placement,
        corner=claimed_corner(placement),
    )


def claimed_corner(placement: Placement) -> Corner | None:
    """Return the corner in which half of a map lies in half of the images, if there is one."""
    most = max(placement.corners)
    return CORNERS[placement.corners.index(most)] if most >= MIN_CORNER else None
