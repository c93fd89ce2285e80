"""The page's data on a run as a whole, made after the data of all its images."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from camreport.insight.aggregates import Aggregates, Totals
from camreport.insight.atlas import Atlas, atlas_of
from camreport.insight.cache import numbered_images, possible_keys
from camreport.insight.claims import AtlasPart, Evidence
from camreport.insight.columns import (
    DIGITS,
    Column,
    columns_of,
    image_columns,
    joined,
    placement_columns,
)
from camreport.insight.confusions import ConfusionMaps, confusion_maps
from camreport.insight.evidence import EvidenceTable, evidence_table
from camreport.insight.evidence_columns import EvidenceColumns, evidence_columns, misplaced
from camreport.insight.groups import Group, groups
from camreport.insight.summary import Summary, summarise
from camreport.methods import Method
from camreport.report.gallery.coinciding import Pair, candidates, coinciding, repeated
from camreport.report.gallery.contrast import is_exact
from camreport.report.gallery.evidence import evidence_prose, run_evidence
from camreport.report.gallery.language import LANGUAGES, words_of
from camreport.report.gallery.records import Detail, ImageRecord, columns, shown_methods
from camreport.report.gallery.runs_prose import any_prose
from camreport.report.heatmap import COLORMAPS, OPACITY, colour_table
from camreport.results.layer_names import layer_names
from camreport.results.reader import Record, Results
from camreport.results.schema import ImageEntry, Manifest

THUMBNAIL_SIDE = 96
"""Longer side of the overview's photographs, in pixels."""

MANY_DETAIL = Detail(photo_side=224, map_side=28, deflated=True, picture_side=THUMBNAIL_SIDE)
"""Detail of each image in a report of very many images."""


MIN_ATLAS = 2
"""Fewest images of which there are means."""

MAX_SUM = 1e-4
"""Sum of two logits, as a fraction of the larger magnitude, up to which they count as opposite."""


@dataclass(frozen=True)
class Limits:
    """Sizes that decide how a report lies on disk, and what it shows of many images.

    Attributes:
        single_bytes: up to which a report is one file: larger ones open slowly and portals refuse
            them.
        many: images beyond which a folder's photographs and maps are smaller, as its provenance
            says.
        many_detail: of each image in a report of that many.
        fallback: images of a folder's contact sheet without scripts.
        chunk: images in a folder's file of all their maps.
        overview: images in a folder's file of what the overview needs.
        printed: images of a folder's report that are printed together.
        shown: images beyond which a sample is shown.
        sample: images in it.
        pooled: images beyond which several processes render them: fewer are done before further
            processes have started.
    """

    single_bytes: int = 15 * 1024 * 1024
    many: int = 1000
    many_detail: Detail = MANY_DETAIL
    fallback: int = 100
    chunk: int = 25
    overview: int = 500
    printed: int = 200
    shown: int = 20_000
    sample: int = 2000
    pooled: int = 500


DEFAULT_LIMITS = Limits()


@dataclass
class RunTotals:
    """Values accumulated over the images written so far.

    Attributes:
        peaks: largest values that share a scale, by method.
        duplicates: layers whose maps are another layer's in every image; None before the first.
        targets: the classes explained in each image, without a true one that is explained apart.
        true: slot of each image's true class among those explained, as far as it is known.
        coinciding: methods whose maps coincide in every image; None before the first.
        opposite: whether every image has two explained classes with opposite logits; None before
            the first.
    """

    peaks: dict[str, float] = field(default_factory=dict)
    duplicates: set[str] | None = None
    targets: set[tuple[int, ...]] = field(default_factory=set)
    true: list[int | None] = field(default_factory=list)
    coinciding: set[Pair] | None = None
    opposite: bool | None = None

    @property
    def images(self) -> int:
        """How many images these are."""
        return len(self.true)

    def add(self, image: ImageRecord) -> None:
        """Add the values of one image."""
        self.targets.add(image.targets)
        self.true.append(image.true)
        for method, peak in image.peaks.items():
            self.peaks[method] = max(peak, self.peaks.get(method, 0.0))
        own = image.duplicates
        self.duplicates = own if self.duplicates is None else self.duplicates & own
        self.opposite = self.opposite is not False and _are_opposite(image.logits)
        pairs = candidates(image.maps) if self.coinciding is None else self.coinciding
        self.coinciding = coinciding(image.maps, pairs)

    def join(self, later: Self) -> None:
        """Add the values of the images after those of these totals."""
        self.targets |= later.targets
        self.true += later.true
        for method, peak in later.peaks.items():
            self.peaks[method] = max(peak, self.peaks.get(method, 0.0))
        first = self.duplicates is None
        for name in ("duplicates", "coinciding", "opposite"):
            own, its = getattr(self, name), getattr(later, name)
            setattr(self, name, its if first else own & its)

    @property
    def true_slots(self) -> list[int | None]:
        """Slot of each image's true class; empty where no image has one."""
        return self.true if any(slot is not None for slot in self.true) else []

    def repeats(self, methods: Sequence[Method]) -> dict[str, str]:
        """Return the methods without maps of their own, and for each the one that it repeats."""
        return repeated(methods, self.coinciding or set())


@dataclass(frozen=True)
class Measured:
    """Measurements over all maps of a run.

    Attributes:
        results: of the run.
        aggregates: over its images.
        columns: numbers of each image.
        evidence: what was measured of the maps; None if nothing was.
        of_images: its numbers of each image.
        repeats: for each method whose maps coincide with another's, that other, as far as known.
        atlas: its clusters, outliers and scatter; None where there is nothing to compare.
        placed: numbers of where the first method's maps lie.
        confusions: mean maps of images of one class that are predicted as another.
        groups: mean maps of images with one value in a column of the labels.
    """

    results: Results
    aggregates: Aggregates
    columns: Mapping[str, Column]
    evidence: EvidenceTable | None
    of_images: EvidenceColumns
    repeats: Mapping[str, str]
    atlas: Atlas | None
    placed: Mapping[str, Column]
    confusions: Sequence[ConfusionMaps]
    groups: Sequence[Group]

    @classmethod
    def of(cls, results: Results) -> Self:
        """Measure a run.

        Raises:
            ResultsError: a shard is missing or damaged.
        """
        layer = results.manifest.glance.layer
        totals, parts = Totals(possible_keys(results.manifest)), []
        for numbers, images in numbered_images(results):
            totals.add(numbers, images)
            parts.append(columns_of(numbers, layer))
        return cls(
            results,
            totals.aggregates(results.images),
            joined(parts),
            evidence_table(results),
            evidence_columns(results, layer),
            {},
            atlas_of(results),
            placement_columns(results),
            confusion_maps(results),
            groups(results),
        )

    @property
    def compares(self) -> bool:
        """Whether these are several runs that are compared."""
        return False

    @property
    def atlas_parts(self) -> list[AtlasPart]:
        """The parts of the Atlas that have something to show; none where there is no Atlas."""
        classes = self.atlas.classes if self.atlas else ()
        there: dict[AtlasPart, bool] = {
            "means": bool(self.aggregates.means),
            "clusters": bool(classes),
            "scatter": self.atlas is not None,
            "outliers": any(own.outliers for own in classes),
            "confusions": bool(self.confusions),
            "groups": bool(self.groups),
        }
        return [part for part, own in there.items() if own and self.results.count >= MIN_ATLAS]

    def without(self, repeats: Mapping[str, str]) -> "Measured":
        """Return the measurements without the numbers of methods that repeat another's maps."""
        if repeats == self.repeats:
            return self
        layer = self.results.manifest.glance.layer
        return replace(
            self,
            columns=image_columns(self.results, layer, repeats),
            evidence=evidence_table(self.results, repeats),
            of_images=evidence_columns(self.results, layer, repeats),
            repeats=repeats,
        )

    def summary(self, *, opposite: bool = False, compared: int | None = None) -> Summary:
        """Return the summary of the run.

        Args:
            opposite: whether the logits of its two classes are opposite in every image.
            compared: as in ``Evidence``.
        """
        images = self.results.outlines
        evidence = Evidence(
            self.results.manifest,
            self.aggregates,
            self.repeats,
            opposite,
            compared,
            self.evidence,
            misplaced(images, self.of_images),
            self.atlas,
        )
        return summarise(images, evidence, self.columns)

    def summary_for(self, shown: "Shown", *, opposite: bool = False) -> Summary:
        """Return the summary as a report of the images shown has it."""
        return shown.within(self.summary(opposite=opposite, compared=len(shown.images)))


@dataclass(frozen=True)
class Shown:
    """The images that a report shows.

    Attributes:
        images: their entries, in order.
        places: their places among the readable images; None if they are all.
        total: how many images could be read.
    """

    images: Sequence[ImageEntry]
    places: Sequence[int] | None
    total: int

    def of(self, column: Sequence[float | None]) -> Sequence[float | None]:
        """Return the shown images' part of a column of all."""
        return column if self.places is None else [column[place] for place in self.places]

    def sampled(self, own: EvidenceColumns) -> Record:
        """Return the numbers of the evidence's sample as far as it is shown, with its places."""
        places = range(self.total) if self.places is None else self.places
        at = {place: number for number, place in enumerate(places)}
        kept = [number for number, place in enumerate(own.places) if place in at]
        return {
            "places": [at[own.places[number]] for number in kept],
            "numbers": {
                name: [column[number] for number in kept] for name, column in own.sampled.items()
            },
        }

    def within(self, summary: Summary) -> Summary:
        """Return a summary that sends nobody to an image that is not shown."""
        if self.places is None:
            return summary
        indices = {image.index for image in self.images}
        first = (chosen for chosen in summary.first if chosen.image in indices)
        return replace(summary, first=(*first,))


def views_apart(measured: Measured) -> list[str]:
    """Return the views of a run's report whose scripts only some reports carry."""
    channels, parts = measured.results.manifest.channels, measured.atlas_parts
    there = {"channels": bool(channels), "atlas": bool(parts), "runs": measured.compares}
    return [name for name, is_there in there.items() if is_there]


def report_data(
    measured: Measured,
    shown: Shown,
    language: str,
    totals: RunTotals,
    limits: Limits,
    *,
    folder: bool,
    reduced_detail: Sequence[str] = (),
) -> dict[str, object]:
    """Return the report's part of the page's data.

    Args:
        measured: what is measured over the maps of the run.
        shown: the images that the report shows.
        language: that the page opens in.
        totals: of the images shown.
        limits: of the report.
        folder: whether the maps are in files of their own.
        reduced_detail: as for ``prose``.
    """
    results, manifest = measured.results, measured.results.manifest
    glance, repeats = manifest.glance, totals.repeats(shown_methods(manifest))
    measured = measured.without(repeats)
    return {
        "id": _identity(manifest, shown),
        "language": language,
        "folder": folder,
        "perChunk": limits.chunk,
        "perOverview": limits.overview,
        "glance": glance._asdict(),
        **_shown(manifest, totals, repeats),
        **_colours(),
        "images": columns(shown.images) | {"true": totals.true_slots} | _numbers(measured, shown),
        "prose": {
            code: any_prose(results, len(shown.images), words_of(code), reduced_detail, repeats)
            | {"evidence": evidence_prose(measured.evidence, words_of(code))}
            for code in LANGUAGES
        },
        "languages": LANGUAGES,
        "strings": {code: _strings(code, measured) for code in LANGUAGES},
        "summary": measured.summary_for(shown, opposite=bool(totals.opposite)).to_json(),
        "evidence": run_evidence(measured.evidence),
        "atlas": measured.atlas_parts,
    }


def _strings(code: str, measured: Measured) -> dict[str, str]:
    """Return the page's own words of a language, those of comparisons only where there is one."""
    strings = words_of(code).strings.items()
    return {key: text for key, text in strings if measured.compares or not key.startswith("runs.")}


def _shown(manifest: Manifest, totals: RunTotals, repeats: Mapping[str, str]) -> dict[str, object]:
    """Return what there is to choose from: classes, layers, methods, and what is known of all."""
    methods = shown_methods(manifest)
    same_classes = [*next(iter(totals.targets))] if len(totals.targets) == 1 else None
    return {
        "classes": [*manifest.class_names],
        "layers": _layers(manifest, totals.duplicates or set()),
        "fused": any(method.fuses for method in methods),
        "input": any(method.scope == "network" for method in methods),
        "methods": _methods(methods, repeats, manifest.smooth),
        "opposite": bool(totals.opposite),
        "ranks": max(map(len, totals.targets)),
        "sameClasses": same_classes,
        "channels": [layer.address for layer in manifest.channels],
        "contributions": manifest.contributions.address if manifest.contributions else None,
        "structure": manifest.structure.to_json(),
        "peaks": totals.peaks,
    }


def _numbers(measured: Measured, shown: Shown) -> dict[str, object]:
    """Return the numbers of the images, by name."""
    own = measured.of_images
    numbers = {**measured.columns, **measured.placed, **own.numbers, **_outlying(measured)}
    return {
        "numbers": {name: shown.of(column) for name, column in numbers.items()},
        "sampled": shown.sampled(own),
    }


def _outlying(measured: Measured) -> dict[str, Column]:
    """Return how far outliers are from the others of their class, None for what is no outlier."""
    classes = measured.atlas.classes if measured.atlas else ()
    outliers = [one for own in classes for one in own.outliers]
    distance = {one.image: round(one.distance, DIGITS) for one in outliers}
    column = [distance.get(image.index) for image in measured.results.outlines]
    return {"outlier": column} if distance else {}


def overview_entry(results: Results, image: ImageRecord) -> dict[str, object]:
    """Return what the overview needs of an image: its first method at its last layer."""
    levels, cells = image.part(*results.manifest.glance)
    return {
        "seen": image.data["seen"],
        "size": [image.data["width"], image.data["height"]],
        "cells": cells,
        "levels": base64.b64encode(levels).decode(),
    }


def _identity(manifest: Manifest, shown: Shown) -> str:
    """Return an identifier of the run: its model, methods, layers and the images shown."""
    layers = [layer.to_json() for layer in manifest.layers]
    identity = json.dumps([manifest.model.to_json(), manifest.methods, layers])
    identity += "".join(image.sha256 or "" for image in shown.images)
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _are_opposite(logits: Sequence[float | None]) -> bool:
    """Return whether there are two logits and they sum to zero."""
    known = [logit for logit in logits if logit is not None]
    if len(logits) != 2 or len(known) != 2:
        return False
    return abs(sum(known)) <= MAX_SUM * max(map(abs, known))


def _layers(manifest: Manifest, duplicates: set[str]) -> list[Record]:
    """Return the layers that are shown, each with those that repeat it."""
    names = layer_names(manifest)
    return [
        {
            "address": layer.address,
            "name": names[layer.address],
            "type": layer.type,
            "alike": [
                other.address
                for other in manifest.layers
                if other.address in duplicates and other.same_as == layer.address
            ],
        }
        for layer in manifest.layers
        if layer.address not in duplicates
    ]


def _methods(
    methods: Sequence[Method], repeats: Mapping[str, str], smooth: Sequence[str]
) -> list[Record]:
    """Return the methods; one that repeats another is folded into that."""
    # The first method stays: the overview's files hold its maps.
    folded = {one: other for one, other in repeats.items() if one != methods[0].key}
    return [
        {
            "key": method.key,
            "name": method.name,
            "family": method.family,
            "classSpecific": method.per_class,
            "signed": method.values == "signed",
            "linear": is_exact(method, smooth),
            "perLayer": method.scope == "layer",
            "onInput": method.grid == "input",
            "fuses": method.fuses,
            "alike": [one for one in folded if folded[one] == method.key],
            "like": folded.get(method.key, ""),
        }
        for method in methods
    ]


def _colours() -> Record:
    """Return the colour maps, and how strongly they are laid over photographs."""
    return {
        "opacity": round(OPACITY * 100),
        "colormaps": COLORMAPS,
        "tables": {
            name: base64.b64encode(colour_table(name).tobytes()).decode()
            for name in (*COLORMAPS, "diverging")
        },
    }
