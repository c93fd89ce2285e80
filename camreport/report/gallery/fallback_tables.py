"""The tables of the contact sheet, for where scripts do not run: the evidence, or several runs."""

from collections.abc import Iterator, Sequence

import numpy as np

from camreport.insight.compare.comparison import ACCURACY, CHANCE, Agreement, Comparison, Delta
from camreport.messages import message
from camreport.methods import METHODS
from camreport.report.gallery.evidence import number_name
from camreport.report.gallery.fallback import Numbers, fallback_evidence
from camreport.report.gallery.language import Words
from camreport.report.gallery.page import Measured
from camreport.report.gallery.runs import MeasuredRuns
from camreport.results.accuracy import accuracy
from camreport.results.schema import MapKey

MAX_FLIPS = 50
"""Most images whose predictions changed that are listed of a run."""


def fallback_tables(measured: Measured, words: Words) -> tuple[Numbers, ...]:
    """Tabulate the evidence of a run, or what several runs come to.

    Args:
        measured: over the maps of one or more runs.
        words: of the language.
    """
    glance = measured.results.manifest.glance
    if not isinstance(measured, MeasuredRuns):
        return fallback_evidence(measured.evidence, glance.layer, words)
    found = measured.comparison
    return (_runs(found, words), _deltas(found, glance, words), *_of_runs(found, words))


def _runs(found: Comparison, words: Words) -> Numbers:
    """Tabulate the runs with their models, their images and how many they have right."""
    rows = []
    for name, view in zip(found.names, found.views, strict=True):
        counted = accuracy(view.readable)
        right = f"{counted.right}/{counted.total}" if counted else "–"
        rows.append((name, (view.inner.manifest.model.name, f"{view.inner.count:,}", right)))
    columns = tuple(words(f"runs.{key}") for key in ("model", "images", "right"))
    return Numbers(words("runs.what"), columns, tuple(rows))


def _deltas(found: Comparison, glance: MapKey, words: Words) -> Numbers:
    """Tabulate how the numbers of the runs, and of the first choice's maps, differ."""
    shown = [
        one for one in found.deltas if not one.method or (one.method, one.layer) == tuple(glance)
    ]
    keys = ("runs.difference", "runs.interval")
    columns = (found.names[0], words("axis.run"), *map(words, keys), "n")
    return Numbers(
        words("runs.deltas"), columns, tuple(_delta_row(found, one, words) for one in shown)
    )


def _delta_row(found: Comparison, one: Delta, words: Words) -> tuple[str, tuple[str, ...]]:
    ends = [_written(one.low), _written(one.high)]
    interval = "–" if one.low is None else " … ".join(ends)
    numbers = (_written(one.before), _written(one.after), _written(one.delta))
    of_run = one.key in (ACCURACY, CHANCE)
    name = (
        words.message(message(f"compare.number.{one.key}"))
        if of_run
        else number_name(one.key, words)
    )
    return f"{name} · {found.names[one.run]}", (*numbers, interval, str(one.n))


def _written(number: float | None) -> str:
    return "–" if number is None else f"{number:.3f}".replace("-", "−")


def _of_runs(found: Comparison, words: Words) -> Iterator[Numbers]:
    """Yield, of each further run, how alike its maps are and which predictions changed."""
    for run, name in enumerate(found.names[1:], start=1):
        own = [one for one in found.agreement if one.run == run]
        yield _agreement(own, f"{words('runs.agreement')} · {name}", words)
        flips = [flip for flip in found.flips if flip.run == run]
        if not flips:
            continue
        views = (found.first, found.views[run])
        rows = []
        for flip in flips[:MAX_FLIPS]:
            best = [view.images[flip.image].top[0].name for view in views]
            moved = "–" if flip.moved is None else f"{flip.moved:.0%}"
            change = words(f"runs.flip.{flip.kind}")
            rows.append((views[0].images[flip.image].file, (*best, change, moved)))
        columns = (found.names[0], name, words("runs.change"), words("number.moved"))
        yield Numbers(words("runs.flips"), columns, tuple(rows))


def _agreement(own: Sequence[Agreement], caption: str, words: Words) -> Numbers:
    """Tabulate the rank correlation and the share that moved by method and layer."""
    layers = tuple(dict.fromkeys(one.layer for one in own))
    cells = {(one.method, one.layer): one for one in own}
    rows = (
        (METHODS[key].name, tuple(_alike(cells.get((key, layer)), words) for layer in layers))
        for key in dict.fromkeys(one.method for one in own)
    )
    return Numbers(caption, layers, tuple(rows))


def _alike(own: Agreement | None, words: Words) -> str:
    if own is None or own.correlation is None or own.moved is None or np.isnan(own.moved):
        return "–"
    moved = words("runs.moved", share=f"{own.moved:.0%}")
    return f"ρ {own.correlation:.2f}, {moved}".replace("-", "−")
