"""The evidence of a run as the page takes it: its tables, its numbers of each image, its words."""

import math
from collections.abc import Mapping, Sequence

from camreport.insight.evidence import EvidenceTable, Tally
from camreport.messages import message
from camreport.messages.message import sentences
from camreport.metrics import METRICS, Metric
from camreport.report.gallery.language import Words
from camreport.results.evidence import CONTROL
from camreport.results.reader import Record

UNTABLED = ("order.tied",)
"""Numbers of maps that stand in no table."""

REASONS = (
    *("not_finite", "constant", "no_positive", "no_other_class", "no_region", "region_unseen"),
    *("class_changed", "fixed_weights", "failed"),
)
"""Why a number that was measured is undefined: names of ``Undefined``."""


def run_evidence(table: EvidenceTable | None) -> Record | None:
    """Return the evidence of a run; None where nothing was measured."""
    if table is None:
        return None
    entry, of_maps = table.entry, [own for own in table.tallies if own.key.row]
    metrics = _metrics(table)
    numbers = [number.key for metric in metrics for number in metric.numbers]
    rows, layers = (
        [*dict.fromkeys(getattr(own.key, name) for own in of_maps)] for name in ("row", "layer")
    )
    scopes = [scope.key for scope in table.scopes]
    return {
        "level": entry.level,
        "sample": len(entry.sample),
        "seed": entry.seed,
        "baseline": entry.baseline,
        "scrambled": min(entry.scrambled, default=None),
        "drawn": table.drawn,
        "questions": [_question(metric, table.chance) for metric in metrics],
        "rows": [{"key": row, "control": row.startswith(CONTROL)} for row in rows],
        "layers": layers,
        "scopes": [{"key": scope.key, "index": scope.target} for scope in table.scopes],
        "cells": {
            "number": [numbers.index(own.key.number) for own in of_maps],
            "row": [rows.index(own.key.row) for own in of_maps],
            "layer": [layers.index(own.key.layer) for own in of_maps],
            "scope": [scopes.index(own.scope) for own in of_maps],
            **_columns(of_maps),
            "undefined": [dict(own.undefined) for own in of_maps],
            "beats": [own.beats and [*own.beats] for own in of_maps],
            "apart": [own.apart for own in of_maps],
            "given": [place for place, own in enumerate(of_maps) if own.given],
        },
        "ceilings": _ceilings([own for own in table.tallies if not own.key.row], scopes),
    }


def evidence_prose(table: EvidenceTable | None, words: Words) -> Record:
    """Return the words of the evidence in one language; nothing where nothing was measured."""
    if table is None:
        return {"facts": [], "questions": {}, "numbers": {}, "controls": {}, "undefined": {}}
    metrics = _metrics(table)
    parts = [own.key.number for own in table.tallies]
    numbers = [number.key for metric in metrics for number in metric.numbers]
    numbers += [key for key in UNTABLED if key.partition(".")[0] in table.entry.metrics]
    rows = dict.fromkeys(own.key.row for own in table.tallies)
    reasons = {reason for own in table.tallies for reason in own.undefined}
    return {
        "facts": _facts(table, words),
        "questions": {
            key: _question_prose(metric, words)
            for key, metric in METRICS.items()
            if metric in metrics or metric.level != "name"
        },
        "numbers": {key: number_name(key, words) for key in dict.fromkeys([*numbers, *parts])},
        "controls": {row: control_name(row, words) for row in rows if row.startswith(CONTROL)},
        "undefined": {
            reason: words.message(message(f"evidence.undefined.{reason}"))
            for reason in REASONS
            if reason in reasons
        },
    }


def number_name(key: str, words: Words) -> str:
    """Return what a number is called: the first one of a metric as the metric; else its key."""
    question, _, part = key.partition(".")
    if key in METRICS:
        return words.message(METRICS[key].name)
    named = message(f"evidence.number.{question}.{part}")
    return words.message(named) if named.code in sentences() else key


def control_name(row: str, words: Words) -> str:
    """Return what a control is called; its key if it has no name."""
    named = message(f"evidence.control.{row.removeprefix(CONTROL)}")
    return words.message(named) if named.code in sentences() else row


def _metrics(table: EvidenceTable) -> list[Metric]:
    """Return the metrics that were measured."""
    return [metric for key, metric in METRICS.items() if key in table.entry.metrics]


def _question(metric: Metric, chance: Mapping[str, float]) -> Record:
    return {
        "key": metric.key,
        "coverage": metric.coverage,
        "numbers": [
            {
                "key": number.key,
                "better": number.better,
                "low": _finite(number.low),
                "high": _finite(number.high),
                "chance": _digits(chance.get(number.key, number.chance)),
                "limit": number.limit,
            }
            for number in metric.numbers
        ],
    }


def _question_prose(metric: Metric, words: Words) -> Record:
    return {
        "name": words.message(metric.name),
        "question": words.message(metric.question),
        "formula": words.message(metric.formula),
        "range": words.message(metric.range),
        "caution": words.message(metric.caution),
        "source": metric.source,
    }


def _ceilings(tallies: Sequence[Tally], scopes: Sequence[str]) -> Record:
    """Return what is known of images and classes, whose numbers belong to no map."""
    return {
        "number": [own.key.number for own in tallies],
        "scope": [scopes.index(own.scope) for own in tallies],
        **_columns(tallies),
    }


def _columns(tallies: Sequence[Tally]) -> Record:
    return {
        "n": [own.n for own in tallies],
        "median": [_digits(own.median) for own in tallies],
        "low": [_digits(own.low) for own in tallies],
        "high": [_digits(own.high) for own in tallies],
    }


def _facts(table: EvidenceTable, words: Words) -> list[str]:
    """Say what was measured of which images, and what it cost: a sentence each."""
    entry = table.entry
    told = [
        message(f"evidence.fact.{entry.level}"),
        message("evidence.fact.sample", count=len(entry.sample), seed=entry.seed),
    ]
    if entry.unreadable:
        told.append(message("evidence.fact.unreadable", count=entry.unreadable))
    if entry.masks is not None:
        told.append(message("evidence.fact.masks", count=entry.masks))
    if entry.regions is not None:
        told.append(message("evidence.fact.regions", count=entry.regions))
    if table.drawn is not None:
        told.append(message("evidence.fact.drawn", count=table.drawn))
    cost = table.cost
    if cost is not None and cost.forwards:
        code = "changed" if cost.variants else "cost"
        counts = {name: getattr(cost, name) for name in ("forwards", "variants", "backwards")}
        told.append(message(f"evidence.fact.{code}", **counts))
    return [words.message(one) for one in told]


def _finite(value: float) -> float | None:
    """Return a number that JSON can hold."""
    return value if math.isfinite(value) else None


def _digits(value: float | None) -> float | None:
    """Return a number with four digits."""
    return None if value is None else float(f"{value:.4g}")
