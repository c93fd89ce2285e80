"""A comparison from the results of runs: one pass for predictions, one over the maps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from camreport.errors import MethodError
from camreport.insight.compare.classes import LabelMap, Vocabulary, vocabulary
from camreport.insight.compare.common import moves, on_common_grid, seen_by_all
from camreport.insight.compare.comparison import (
    Agreement,
    Comparison,
    Delta,
    Flip,
    MeanDifference,
    flips,
)
from camreport.insight.compare.deltas import accuracy_delta, chance_delta, evidence_deltas
from camreport.insight.compare.joined import Joined, join
from camreport.insight.compare.layers import LayerPair, pair_layers
from camreport.insight.compare.view import (
    RunView,
    layer_keys,
    predictions,
    shared_image,
    shared_manifest,
)
from camreport.messages import message
from camreport.messages.progress import Progress, silent
from camreport.metrics.grids import GRID
from camreport.results.reader import Results
from camreport.results.schema import FUSED, INPUT, ImageEntry, Manifest, MapKey, Prediction


def compare_runs(
    names: Sequence[str],
    runs: Sequence[Results],
    *,
    pairs: Mapping[str, str] | None = None,
    label_map: LabelMap | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Compare runs of the same images; nothing is computed that needs a model.

    Args:
        names: of the runs, unique.
        runs: their results, two or more; the others are compared with the first one.
        pairs: for layers of the first run those of other runs that stand for them.
        label_map: for each word the classes that it stands for, as for ``vocabulary``.
        progress: called with the number of images that are newly done.

    Raises:
        ResultsError: the runs have no image in common, or a file is missing or damaged.
        ClassError: their classes do not have the same names.
        LayerError: a layer to pair is in no run.
        MethodError: there are no maps that all runs have.
    """
    manifests = [run.manifest for run in runs]
    classes = vocabulary(names, [own.class_names for own in manifests], label_map)
    paired = pair_layers(manifests, pairs)
    first = shown_first(manifests, paired)
    joined = join(names, runs)
    read = _read(runs, joined, classes)
    views = _views(runs, joined, classes, paired, first, read)
    compared = [_Compared(views[0], view, run) for run, view in enumerate(views[1:], start=1)]
    for index in range(len(joined.images)):
        for one in compared:
            one.add(index)
        progress(1)
    moved = tuple(one.moved_at(first) for one in compared)
    return Comparison(
        names=tuple(names),
        views=views,
        pairs=paired,
        mapped=tuple(
            own != tuple((i,) for i in range(len(manifest.classes)))
            for own, manifest in zip(classes.members, manifests, strict=True)
        ),
        elsewhere=tuple(read.elsewhere),
        relabelled=read.relabelled,
        missing=joined.missing,
        moved=moved,
        flips=tuple(_flips(views, moved)),
        deltas=tuple(_deltas(views, read)),
        agreement=tuple(found for one in compared for found in one.agreement()),
        differences=tuple(found for one in compared for found in one.differences()),
    )


def shown_first(manifests: Sequence[Manifest], pairs: Sequence[LayerPair]) -> MapKey:
    """Return the first method that all runs have at the last pair of layers where they have it.

    Raises:
        MethodError: there is none.
    """
    methods = [
        key
        for key in manifests[0].shown_methods
        if all(key in other.shown_methods for other in manifests[1:])
    ]
    skipped = [{(skip.method, skip.layer) for skip in own.skipped} for own in manifests]
    for key in methods:
        for pair in reversed([pair for pair in pairs if pair.whole]):
            places = zip(skipped, pair.addresses, strict=True)
            if all((key, address) not in own for own, address in places):
                return MapKey(key, pair.key)
    each = "; ".join(", ".join(own.shown_methods) for own in manifests)
    raise MethodError(
        f"methods: expected one that all runs have at a layer, but they have {each}. "
        "Run one of them again with --methods of the other."
    )


@dataclass
class _Read:
    """What the first pass finds of each image.

    Attributes:
        labels: its true class, of the shared ones, if any run knows it.
        explained: the shared classes that any run explains.
        tops: of each run, the most probable shared classes.
        chances: of each run, the probability of the true class; NaN where that is not known.
        elsewhere: of each run, images whose most probable class is none of the shared ones.
        relabelled: images whose true class is another one in a further run.
    """

    labels: list[int | None] = field(default_factory=list)
    explained: list[tuple[int, ...]] = field(default_factory=list)
    tops: list[list[tuple[Prediction, ...]]] = field(default_factory=list)
    chances: list[list[float]] = field(default_factory=list)
    elsewhere: list[int] = field(default_factory=list)
    relabelled: int = 0


def _read(runs: Sequence[Results], joined: Joined, classes: Vocabulary) -> _Read:
    """Read the predictions and the explained classes of all images."""
    shared = [classes.shared(run) for run in range(len(runs))]
    found = _Read(tops=[[] for _ in runs], chances=[[] for _ in runs], elsewhere=[0 for _ in runs])
    for indices in joined.images:
        labels = [
            shared[run].get(label)
            for run, own in enumerate(indices)
            if (label := runs[run].images[own].label) is not None
        ]
        label = labels[0] if labels else None
        found.labels.append(label)
        found.relabelled += any(own != label for own in labels)
        explained: dict[int, None] = {}
        for run, own in enumerate(indices):
            chances = runs[run].probabilities(own)
            explained |= dict.fromkeys(
                shared[run][target] for target in runs[run].targets(own) if target in shared[run]
            )
            of_shared = np.array([chances[[*members]].sum() for members in classes.members[run]])
            found.tops[run].append(predictions(of_shared, classes.names))
            found.chances[run].append(np.nan if label is None else float(of_shared[label]))
            found.elsewhere[run] += int(chances.argmax()) not in shared[run]
        found.explained.append((*explained,))
    return found


def _views(
    runs: Sequence[Results],
    joined: Joined,
    classes: Vocabulary,
    pairs: Sequence[LayerPair],
    first: MapKey,
    read: _Read,
) -> tuple[RunView, ...]:
    """Return the runs with the indices of images and classes that they share."""
    keys = [layer_keys(pairs, run) for run in range(len(runs))]
    others = [(run.manifest, own) for run, own in zip(runs[1:], keys[1:], strict=True)]
    entries = [runs[0].images[indices[0]] for indices in joined.images]
    return tuple(
        RunView(
            run.path,
            shared_manifest(
                run.manifest,
                classes,
                keys[place],
                _entries(entries, read, place),
                first,
                others=others if place == 0 else (),
                order=pairs,
            ),
            inner=run,
            own=[indices[place] for indices in joined.images],
            members=classes.members[place],
            explained=read.explained,
            keys=keys[place],
        )
        for place, run in enumerate(runs)
    )


def _entries(first: Sequence[ImageEntry], read: _Read, run: int) -> list[ImageEntry]:
    """Return the entries of the images as a run of the comparison has them."""
    return [
        shared_image(index, entry, label, top)
        for index, (entry, label, top) in enumerate(
            zip(first, read.labels, read.tops[run], strict=True)
        )
    ]


def _flips(views: Sequence[RunView], moved: Sequence[NDArray[np.float64]]) -> Iterator[Flip]:
    for run, own in enumerate(moved, start=1):
        yield from flips(views[0].readable, views[run].readable, run, own)


def _deltas(views: Sequence[RunView], read: _Read) -> Iterator[Delta]:
    for run, view in enumerate(views[1:], start=1):
        yield from accuracy_delta(views[0].readable, view.readable, run)
        yield from chance_delta(np.array(read.chances[0]), np.array(read.chances[run]), run)
        yield from evidence_deltas(views[0], view, run)


class _Compared:
    """The maps of a run beside those of the first one, image by image."""

    def __init__(self, first: RunView, other: RunView, run: int) -> None:
        self.first, self.other, self.run = first, other, run
        layers = [layer.address for layer in other.manifest.layers] + [FUSED, INPUT]
        methods = [key for key in first.manifest.methods if key in other.manifest.shown_methods]
        self.keys = [MapKey(method, layer) for method in methods for layer in layers]
        self._places = {key: place for place, key in enumerate(self.keys)}
        self.measured: list[NDArray[np.float32]] = []
        self.sums = np.zeros((len(self.keys), GRID, GRID))
        self.counts = np.zeros(len(self.keys), np.int64)

    def add(self, index: int) -> None:
        """Measure the maps of an image, of the class that ``class_of`` names."""
        grids = self._grids(index)
        found = moves(grids[0], grids[1])
        measured = np.stack([found.correlation, found.overlap, found.moved], 1)
        self.measured.append(measured.astype(np.float32))
        both = ~np.isnan(grids).any((0, 2, 3))
        self.sums[both] += grids[1, both] - grids[0, both]
        self.counts += both

    def _grids(self, index: int) -> NDArray[np.float64]:
        """Return both runs' maps of an image on the common grid, ``(2, P, 14, 14)``, or NaN."""
        grids = np.full((2, len(self.keys), GRID, GRID), np.nan)
        target = class_of(self.first, self.other, index)
        size = self.first.images[index].size
        parts = [view.manifest.preprocessing.seen_part(*size) for view in self._views]
        common = seen_by_all(parts)
        if common is None:
            return grids
        for place, (view, seen) in enumerate(zip(self._views, parts, strict=True)):
            for record in view.maps(index):
                key = MapKey(record.method.key, record.layer)
                if key in self._places and record.target in (None, target):
                    grids[place, self._places[key]] = on_common_grid(record, seen, common)
        return grids

    @property
    def _views(self) -> tuple[RunView, RunView]:
        return self.first, self.other

    def moved_at(self, key: MapKey) -> NDArray[np.float64]:
        """Return of each image the share of the evidence that lies elsewhere, or NaN."""
        return np.stack(self.measured)[:, self._places[key], 2].astype(np.float64)

    def agreement(self) -> Iterator[Agreement]:
        """Yield how alike the maps are, by method and layer, where there are any to compare."""
        measured = np.stack(self.measured)
        for place, key in enumerate(self.keys):
            own = measured[:, place]
            known = int((~np.isnan(own[:, 2])).sum())
            if self.counts[place] or known:
                correlation, overlap, moved = (_median(own[:, i]) for i in range(3))
                missing = None if known else message("compare.no_positive")
                yield Agreement(self.run, *key, known, correlation, overlap, moved, missing)

    def differences(self) -> Iterator[MeanDifference]:
        """Yield the means of the differences of the maps."""
        for place, key in enumerate(self.keys):
            count = int(self.counts[place])
            if count:
                yield MeanDifference(self.run, *key, count, self.sums[place] / count)


def class_of(first: RunView, other: RunView, index: int) -> int | None:
    """Return of which class the maps of an image are compared.

    The true class where both runs explain it, else the one that the first run predicts; None where
    not both runs explain that.
    """
    entry = first.images[index]
    wanted = [entry.label, entry.top[0].index if entry.top else None]
    both = first.chosen(index).keys() & other.chosen(index).keys()
    return next((target for target in wanted if target in both), None)


def _median(values: NDArray[np.float32]) -> float | None:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else None
