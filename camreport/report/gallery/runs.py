"""A comparison of runs as the page takes it: the first run's report, with the others in it."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from camreport.errors import ResultsError
from camreport.files import named
from camreport.insight.aggregates import Totals
from camreport.insight.columns import DIGITS
from camreport.insight.compare.build import compare_runs
from camreport.insight.compare.comparison import ACCURACY, CHANCE, Comparison, MeanDifference
from camreport.insight.compare.findings import comparison_summary, moved_of, reason
from camreport.insight.compare.layers import LayerPair
from camreport.insight.evidence_columns import EvidenceColumns
from camreport.insight.summary import Summary
from camreport.messages import Message, message
from camreport.messages.message import LANGUAGES
from camreport.messages.progress import Progress, silent
from camreport.report.gallery.compared import ComparedResults
from camreport.report.gallery.evidence import number_name
from camreport.report.gallery.language import words_of
from camreport.report.gallery.page import Limits, Measured, RunTotals, Shown, report_data
from camreport.report.gallery.prose import provenance
from camreport.report.gallery.records import Detail, ImageRecord, image_record, shown_methods
from camreport.results.accuracy import accuracy
from camreport.results.comparison import digest_of, is_comparison, read_comparison, run_folder
from camreport.results.layer_names import layer_names
from camreport.results.reader import Record, Results, find_results, load_results
from camreport.results.schema import FUSED, INPUT, ImageEntry

MAX_MISSING = 200
"""Most images that are listed because not all runs have them."""

ZERO = 127
"""The byte of zero among signed levels, as in ``heatmap``."""


@dataclass(frozen=True)
class MeasuredRuns(Measured):
    """A comparison in the place of the measurements of one run.

    Attributes:
        comparison: of the runs.
        addresses: where the results of each run lie, seen from the report.
    """

    comparison: Comparison
    addresses: Sequence[str]

    @classmethod
    def made_of(
        cls, comparison: Comparison, addresses: Sequence[str], folder: Path
    ) -> "MeasuredRuns":
        """Return the measurements of a comparison whose description is in a ``results`` folder."""
        first = ComparedResults.of_views(comparison.names, comparison.views, folder)
        columns = {
            name: [None if np.isnan(value) else round(float(value), DIGITS) for value in values]
            for name, values in _moved(comparison).items()
        }
        return cls(
            results=first,
            aggregates=Totals(()).aggregates(()),
            columns=columns,
            evidence=None,
            of_images=EvidenceColumns(),
            repeats={},
            atlas=None,
            placed={},
            confusions=(),
            groups=(),
            comparison=comparison,
            addresses=addresses,
        )

    @property
    def compares(self) -> bool:
        """Whether these are several runs that are compared."""
        return True

    def without(self, repeats: Mapping[str, str]) -> "MeasuredRuns":
        """Return the measurements as they are: no number counts twice."""
        return self

    def summary(self, *, opposite: bool = False, compared: int | None = None) -> Summary:
        """Return what the comparison comes to in words."""
        return comparison_summary(self.comparison)


def _moved(comparison: Comparison) -> dict[str, NDArray[np.float64]]:
    """Return how far the maps of each image moved, by the name of a column."""
    moved = dict(zip(comparison.names[1:], comparison.moved, strict=True))
    each = {f"moved.{name}": own for name, own in moved.items()} if len(moved) > 1 else {}
    return {"moved": comparison.moved[-1]} | each


def measured_in(out: str | Path, progress: Progress = silent) -> Measured:
    """Return the measurements of the run in a folder, or of the comparison there.

    Raises:
        ResultsError: the results are missing, incomplete or damaged, or a compared run's are.
        CamReportError: the runs cannot be compared any more; as for ``compare_runs``.
    """
    if not is_comparison(out):
        return Measured.of(load_results(out))
    addresses = [run.address for run in read_comparison(out).runs]
    return MeasuredRuns.made_of(compared_in(out, progress), addresses, find_results(out))


def compared_in(out: str | Path, progress: Progress = silent) -> Comparison:
    """Compare the runs that a comparison is of; raises as ``measured_in`` does."""
    folder, entry = find_results(out).parent, read_comparison(out)
    names = [run.name for run in entry.runs]
    runs = [opened(run.name, run_folder(run.address, folder), run.manifest) for run in entry.runs]
    return compare_runs(
        names, runs, pairs=entry.pairs, label_map=entry.label_map, progress=progress
    )


def opened(name: str, folder: Path, manifest: str | None = None) -> Results:
    """Open the results of a run to compare.

    Args:
        name: of the run.
        folder: of its results.
        manifest: sha256 of its manifest when it was compared. Whoever made a comparison chose
            where its runs lie, so that no other results there are read.

    Raises:
        ResultsError: there are none, or they are incomplete, damaged, of another schema, or not
            those that were compared.
    """
    try:
        if manifest is not None and digest_of(folder) != manifest:
            raise ResultsError(
                f"results: {named(folder)!r} is not what was compared. Run 'camreport compare' "
                "again."
            )
        return load_results(folder)
    except ResultsError as error:
        raise ResultsError(f"run {name!r}: {error}") from error


def any_record(results: Results, image: ImageEntry, detail: Detail) -> ImageRecord:
    """Return an image's record for the page, with what further runs have of it.

    Raises:
        ResultsError: its arrays or its photograph are missing or damaged.
    """
    record = image_record(results, image, detail)
    if not isinstance(results, ComparedResults):
        return record
    others = [image_record(view, view.images[image.index], detail) for view in results.others]
    shipped = [
        {name: other.data[name] for name in ("seen", "logits", "probabilities", "maps")}
        for other in others
    ]
    names = dict.fromkeys(name for one in (record, *others) for name in one.peaks)
    further = [
        replace(own, layer=f"{run}:{own.layer}")
        for run, other in enumerate(others, start=1)
        for own in other.maps
    ]
    return replace(
        record,
        data={**record.data, "others": shipped},
        peaks={name: max(one.peaks.get(name, 0.0) for one in (record, *others)) for name in names},
        targets=tuple(results.targets(image.index)),
        maps=[*record.maps, *further],
    )


def any_data(
    measured: Measured,
    shown: Shown,
    language: str,
    totals: RunTotals,
    limits: Limits,
    *,
    folder: bool,
    reduced_detail: Sequence[str] = (),
) -> dict[str, object]:
    """Return the report's part of the page's data, as ``report_data`` does, of one or more runs."""
    data = report_data(
        measured, shown, language, totals, limits, folder=folder, reduced_detail=reduced_detail
    )
    if not isinstance(measured, MeasuredRuns):
        return data | {"comparison": None}
    names = "\0".join([str(data["id"]), *measured.comparison.names, *measured.addresses])
    return data | {
        "id": hashlib.sha256(names.encode()).hexdigest()[:16],
        "comparison": _comparison(measured),
    }


def _comparison(measured: MeasuredRuns) -> Record:
    found = measured.comparison
    return {
        "runs": [_run(measured, run) for run in range(len(found.views))],
        "pairs": [_pair(found, pair) for pair in found.pairs],
        "missing": [
            {"file": one.file, "runs": [*one.runs], "reason": said(one.reason)}
            for one in found.missing[:MAX_MISSING]
        ],
        "missingCount": len(found.missing),
        "movedOf": said(moved_of(found)),
        "deltas": [{**vars(one), "name": _name(one.key)} for one in found.deltas],
        "agreement": [
            {**vars(one), "missing": one.missing and said(one.missing)} for one in found.agreement
        ],
        "differences": [_difference(one) for one in found.differences],
    }


def _run(measured: MeasuredRuns, run: int) -> Record:
    """Return what the page says of one of the runs."""
    found, view = measured.comparison, measured.comparison.views[run]
    inner, counted = view.inner, accuracy(view.readable)
    own = inner.manifest
    shared = {address: key for address, key in view.keys.items() if address not in (FUSED, INPUT)}
    names = layer_names(own)
    return {
        "name": found.names[run],
        "address": measured.addresses[run],
        "model": own.model.name,
        "methods": [*own.shown_methods],
        "layers": {key: address for address, key in shared.items()},
        "grids": {key: names[address] for address, key in shared.items()},
        "fused": any(method.fuses for method in shown_methods(own)),
        "input": any(method.scope == "network" for method in shown_methods(own)),
        "count": inner.count,
        "accuracy": counted and {"right": counted.right, "total": counted.total},
        "mapped": found.mapped[run],
        "elsewhere": found.elsewhere[run],
        "top": [[[p.index, p.probability] for p in one.top] for one in view.images] if run else [],
        "facts": {code: provenance(own, words_of(code)) for code in LANGUAGES},
    }


def _pair(found: Comparison, pair: LayerPair) -> Record:
    return {
        "layer": pair.key,
        "by": pair.by,
        "depth": [*pair.depths],
        "why": said(reason(found, pair)),
    }


def _name(key: str) -> dict[str, str]:
    """Return what a number is called, in every language."""
    if key in (ACCURACY, CHANCE):
        return said(message(f"compare.number.{key}"))
    return {language: number_name(key, words_of(language)) for language in LANGUAGES}


def _difference(own: MeanDifference) -> Record:
    largest = float(np.abs(own.mean).max())
    levels = np.floor(own.mean / (largest or 1) * ZERO + ZERO + 0.5).astype(np.uint8)
    height, width = own.mean.shape
    return {
        "run": own.run,
        "method": own.method,
        "layer": own.layer,
        "n": own.n,
        "height": height,
        "width": width,
        "levels": base64.b64encode(levels.tobytes()).decode(),
        "largest": largest,
    }


def said(text: Message) -> dict[str, str]:
    """Return a message in every language."""
    return {language: text.worded(language) for language in LANGUAGES}
