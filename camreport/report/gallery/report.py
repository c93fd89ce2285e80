"""What the page knows of a run as a whole, once all its images have passed."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from camreport.report.appearance import OPACITY
from camreport.report.gallery.coinciding import Pair, candidates, coincide, repeated
from camreport.report.gallery.language import LANGUAGES, words_of
from camreport.report.gallery.prose import prose
from camreport.report.gallery.records import ImageRecord, columns, shown_methods
from camreport.report.heatmap import COLORMAPS, colour_table
from camreport.results.reader import Record, Results

PER_CHUNK, PER_OVERVIEW = 25, 500
"""Images in a folder's file of all their maps, and in one of what the overview needs."""


@dataclass
class Seen:
    """Values accumulated over the images written so far.

    Attributes:
        peaks: largest values that share a scale, by method.
        twins: layers whose maps are another layer's in every image; None before the first.
        targets: the classes explained in each image.
        coinciding: methods whose maps coincide in every image; None before the first.
    """

    peaks: dict[str, float] = field(default_factory=dict)
    twins: set[str] | None = None
    targets: set[tuple[int, ...]] = field(default_factory=set)
    coinciding: set[Pair] | None = None

    def add(self, image: ImageRecord) -> None:
        """Take in one more image."""
        self.targets.add(image.targets)
        for method, peak in image.peaks.items():
            self.peaks[method] = max(peak, self.peaks.get(method, 0.0))
        self.twins = image.twins if self.twins is None else self.twins & image.twins
        pairs = candidates(image.arrays) if self.coinciding is None else self.coinciding
        self.coinciding = {pair for pair in pairs if coincide(image.arrays, pair)}


def readable(results: Results) -> list[Record]:
    """Return the records of the images that could be read."""
    return [record for record in results.images if record["status"] == "ok"]


def report_data(
    results: Results, language: str, seen: Seen, folder: bool, degraded: Sequence[str]
) -> dict[str, object]:
    """Return the report's part of the page's data.

    Args:
        results: of the run.
        language: that the page opens in.
        seen: all images.
        folder: the maps lie in files beside the page.
        degraded: as for ``prose``.
    """
    manifest, records = results.manifest, readable(results)
    methods = shown_methods(manifest)
    twins = seen.twins or set()
    repeats = repeated(methods, seen.coinciding or set())
    # The first method stays: the overview's files hold its maps.
    folded = {one: other for one, other in repeats.items() if one != methods[0].key}
    layers = [layer for layer in manifest["layers"] if layer["address"] not in twins]
    identity = json.dumps([manifest["model"], manifest["methods"], manifest["layers"]])
    identity += "".join(record["sha256"] for record in records)
    return {
        "id": hashlib.sha256(identity.encode()).hexdigest()[:16],
        "language": language,
        "folder": folder,
        "perChunk": PER_CHUNK,
        "perOverview": PER_OVERVIEW,
        "glance": {"method": methods[0].key, "layer": glance_layer(manifest)},
        "classes": [entry["name"] for entry in manifest["classes"]],
        "layers": [
            {
                "address": layer["address"],
                "type": layer["type"],
                "alike": [
                    twin["address"]
                    for twin in manifest["layers"]
                    if twin["address"] in twins and twin["same_as"] == layer["address"]
                ],
            }
            for layer in layers
        ],
        "fused": any(method.fuses for method in methods),
        "input": any(not method.per_layer for method in methods),
        "methods": [
            {
                "key": method.key,
                "name": method.name,
                "classSpecific": method.class_specific,
                "signed": method.signed,
                "perLayer": method.per_layer,
                "onInput": method.on_input,
                "fuses": method.fuses,
                "alike": [one for one in folded if folded[one] == method.key],
                "like": folded.get(method.key, ""),
            }
            for method in methods
        ],
        "ranks": max(map(len, seen.targets)),
        "sameClasses": [*next(iter(seen.targets))] if len(seen.targets) == 1 else None,
        "channels": [layer["address"] for layer in manifest.get("channels", ())],
        "peaks": seen.peaks,
        "opacity": round(OPACITY * 100),
        "colormaps": COLORMAPS,
        "tables": {
            name: base64.b64encode(colour_table(name).tobytes()).decode()
            for name in (*COLORMAPS, "diverging")
        },
        "images": columns(records),
        "prose": {code: prose(results, words_of(code), degraded, repeats) for code in LANGUAGES},
        "languages": LANGUAGES,
        "strings": {code: words_of(code).strings for code in LANGUAGES},
    }


def at_a_glance(results: Results, image: ImageRecord) -> dict[str, object]:
    """Return what the overview needs of an image: its first method at its last layer."""
    manifest = results.manifest
    levels, cells = image.part(shown_methods(manifest)[0].key, glance_layer(manifest))
    return {
        "seen": image.data["seen"],
        "size": [image.data["width"], image.data["height"]],
        "cells": cells,
        "levels": base64.b64encode(levels).decode(),
    }


def glance_layer(manifest: Record) -> str:
    """Return the last layer that repeats no other."""
    own = [layer["address"] for layer in manifest["layers"] if not layer.get("same_as")]
    return str(own[-1])
