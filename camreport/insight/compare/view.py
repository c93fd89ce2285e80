"""A run as a comparison sees it: the images, classes and layers that it shares with the others."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from camreport.insight.compare.classes import Vocabulary
from camreport.insight.compare.layers import LayerPair
from camreport.results.reader import MapRecord, Results
from camreport.results.schema import (
    FUSED,
    INPUT,
    TARGETS,
    ClassEntry,
    ImageEntry,
    LayerEntry,
    Manifest,
    MapKey,
    Prediction,
)
from camreport.results.shards import Arrays

MAX_TOP = 3
"""Most classes of an image that are listed with their probabilities."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedManifest(Manifest):
    """The manifest of a run as a comparison sees it.

    Attributes:
        shown_first: the maps that all runs have and that are shown first.
    """

    shown_first: MapKey

    @property
    def glance(self) -> MapKey:
        """The maps that are shown first."""
        return self.shown_first


@dataclass
class RunView(Results):
    """One of several runs, with the indices of images and classes that all of them share.

    Attributes:
        inner: the run itself.
        own: its index of each image.
        members: its own classes of each shared one.
        explained: of each image the shared classes that any run explains.
        keys: keys of the pairs of layers by its own addresses.
    """

    inner: Results = field(kw_only=True)
    own: Sequence[int] = field(kw_only=True)
    members: Sequence[tuple[int, ...]] = field(kw_only=True)
    explained: Sequence[tuple[int, ...]] = field(kw_only=True)
    keys: Mapping[str, str] = field(kw_only=True)

    @cached_property
    def shared(self) -> dict[int, int]:
        """For its own classes, as far as they are shared, which one that is."""
        return {own: place for place, all_of in enumerate(self.members) for own in all_of}

    def maps(self, index: int) -> Iterator[MapRecord]:
        """Yield an image's maps of shared classes and paired layers, as ``Results.maps`` does.

        Of several own classes that are one shared class, the most probable explained one counts.
        """
        chosen = {own: shared for shared, own in self.chosen(index).items()}
        places = {shared: slot for slot, shared in enumerate(self.explained[index])}
        for record in self.inner.maps(self.own[index]):
            if record.layer not in self.keys:
                continue
            record = replace(record, layer=self.keys[record.layer])
            if record.target is None:
                yield record
            elif record.target in chosen:
                target = chosen[record.target]
                yield replace(record, slot=places[target], target=target)

    def chosen(self, index: int) -> dict[int, int]:
        """Return for shared classes which own class is explained in an image."""
        chances = self.inner.probabilities(self.own[index])
        targets = self.inner.targets(self.own[index])
        found: dict[int, int] = {}
        for own in sorted(targets, key=lambda target: -chances[target]):
            if own in self.shared:
                found.setdefault(self.shared[own], own)
        return found

    def targets(self, index: int) -> tuple[int, ...]:
        """Return the shared classes that any run explains in an image."""
        return self.explained[index]

    def probabilities(self, index: int) -> NDArray[np.float64]:
        """Return the probabilities of the shared classes: the sum of its own ones'."""
        chances = self.inner.probabilities(self.own[index])
        return np.array([chances[[*own]].sum() for own in self.members])

    def logits(self, index: int) -> NDArray[np.float32]:
        """Return the logits of the shared classes: the largest one of its own ones'."""
        logits = self.inner.logits(self.own[index])
        return np.array([logits[[*own]].max() for own in self.members], np.float32)

    def photo(self, index: int) -> bytes:
        """Return an image's photograph at display size, as JPEG bytes."""
        return self.inner.photo(self.own[index])

    def photo_bytes(self, indices: Sequence[int]) -> int:
        """Return how many bytes the photographs of some images take; none is read."""
        return self.inner.photo_bytes([self.own[index] for index in indices])

    def arrays(self, index: int) -> Arrays:
        """Return the shared classes that are explained in an image, as ``targets``."""
        return {TARGETS: np.array(self.explained[index], np.int64)}

    def evidence(self, index: int) -> None:
        """Return nothing: a comparison has the differences of all images."""


def predictions(chances: NDArray[np.float64], names: Sequence[str]) -> tuple[Prediction, ...]:
    """Return the most probable classes, most probable first; none where a value is not finite."""
    if not np.isfinite(chances).all():
        return ()
    order = np.argsort(-chances, kind="stable")[:MAX_TOP].tolist()
    return tuple(Prediction(index=i, name=names[i], probability=float(chances[i])) for i in order)


def shared_image(
    index: int, first: ImageEntry, label: int | None, top: tuple[Prediction, ...]
) -> ImageEntry:
    """Return an image's entry in a comparison.

    Args:
        index: of the image in the comparison.
        first: its entry in the first run.
        label: the true class, of the shared ones.
        top: the most probable shared classes.
    """
    return ImageEntry(
        index=index,
        file=first.file,
        sha256=first.sha256,
        width=first.width,
        height=first.height,
        status="ok",
        label=label,
        shard=first.shard,
        row=first.row,
        top=top,
    )


def shared_manifest(
    manifest: Manifest,
    classes: Vocabulary,
    layers: Mapping[str, str],
    images: Sequence[ImageEntry],
    first: MapKey,
    *,
    others: Sequence[tuple[Manifest, Mapping[str, str]]] = (),
    order: Sequence[LayerPair] = (),
) -> SharedManifest:
    """Return the manifest of a run as a comparison sees it.

    Args:
        manifest: of the run.
        classes: that all runs share.
        layers: keys of pairs by the run's own addresses.
        images: entries of the images in the comparison.
        first: the maps that are shown first.
        others: of further runs the manifests and keys, whose methods and layers are added.
        order: of the pairs.
    """
    entries: dict[str, LayerEntry] = {}
    for own, keys in ((manifest, layers), *others):
        for layer in own.layers:
            if layer.same_as is None and layer.address in keys:
                key = keys[layer.address]
                entries.setdefault(key, replace(layer, address=key))
    shown = [own.shown_methods for own in (manifest, *(other for other, _ in others))]
    methods = tuple(dict.fromkeys(key for own in shown for key in own))
    known = {one.name: getattr(manifest, one.name) for one in fields(Manifest)}
    known |= {
        "classes": tuple(ClassEntry(index=i, name=name) for i, name in enumerate(classes.names)),
        "layers": tuple(entries[pair.key] for pair in order if pair.key in entries),
        "channels": (),
        "methods": methods,
        "quantity": _quantity(manifest, classes),
        "skipped": tuple(
            replace(skip, layer=layers[skip.layer])
            for skip in manifest.skipped
            if skip.method in methods and skip.layer is not None and skip.layer in layers
        ),
        "totals": replace(manifest.totals, images=len(images), failed=0),
        "images": tuple(images),
        "evidence": None,
    }
    return SharedManifest(**known, shown_first=first)


def _quantity(manifest: Manifest, classes: Vocabulary) -> str:
    """Return which score was explained, with the index of a shared class where it names one."""
    kind, _, rival = manifest.quantity.partition(":")
    if not rival:
        return kind
    name = manifest.class_names[int(rival)]
    return f"{kind}:{classes.names.index(name)}" if name in classes.names else kind


def layer_keys(pairs: Sequence[LayerPair], run: int) -> dict[str, str]:
    """Return the keys of pairs by a run's own addresses; maps of no layer keep their names."""
    own = {pair.addresses[run]: pair.key for pair in pairs}
    return {FUSED: FUSED, INPUT: INPUT} | {a: key for a, key in own.items() if a is not None}
