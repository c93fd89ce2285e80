"""The sentences of the page about several runs that are compared, in one language."""

from collections.abc import Mapping, Sequence

from camreport.messages import Message, message
from camreport.report.gallery.compared import ComparedResults
from camreport.report.gallery.language import Words
from camreport.report.gallery.prose import Rows, in_a_word, prose, provenance
from camreport.results.accuracy import accuracy
from camreport.results.reader import Results


def any_prose(
    results: Results,
    shown: int,
    words: Words,
    reduced_detail: Sequence[str],
    repeats: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """Return all sentences about a run, or about several that are compared, as ``prose`` does."""
    found = prose(results, shown, words, reduced_detail, repeats)
    return found | _of_runs(results, words) if isinstance(results, ComparedResults) else found


def _of_runs(results: ComparedResults, words: Words) -> dict[str, object]:
    """Return the sentences that speak of all runs, not of the first one."""
    manifests = [view.inner.manifest for view in results.views]
    runs = [*zip(results.names, manifests, strict=True)]
    names = " ↔ ".join(results.names)
    text = message("compare.lede", runs=len(runs), images=results.count, first=results.names[0])
    lede = words.message(text)
    return {
        "title": words.message(message("compare.title", names=names)),
        "run": names,
        "lede": lede,
        "asked": lede,
        "warning": words("stop").join(
            words("colon").join([name, words.message(own.model.warning)])
            for name, own in runs
            if own.model.warning
        ),
        "facts": _facts(results, words),
        "leftOut": [],
        "reasons": _reasons(results, words, short=False),
        "shortReasons": _reasons(results, words, short=True),
        "provenance": [
            (words("colon").join([name, heading]), text)
            for name, own in runs
            for heading, text in provenance(own, words)
        ],
    }


def _facts(results: ComparedResults, words: Words) -> Rows:
    """Return of each run its model, and how often it is right."""
    return [
        (name, words("comma").join([view.inner.manifest.model.name, *_score(view, words)]))
        for name, view in zip(results.names, results.views, strict=True)
    ]


def _score(view: Results, words: Words) -> list[str]:
    counted = accuracy(view.readable)
    return [words("facts.score", right=counted.right, all=counted.total)] if counted else []


def _reasons(results: ComparedResults, words: Words, *, short: bool) -> dict[str, str]:
    """Return why methods have no map at a layer: of further runs with their place before it."""
    worded = in_a_word if short else _worded
    return {
        f"{f'{run}:' if run else ''}{skip.method}/{skip.layer}": worded(skip.reason, words)
        for run, manifest in enumerate(view.manifest for view in results.views)
        for skip in manifest.skipped
    }


def _worded(reason: Message, words: Words) -> str:
    return words.message(reason)
