"""The sentences of the page about a run as a whole, in one language."""

import shlex
from collections.abc import Mapping, Sequence

from camreport.messages import Message, message
from camreport.methods import METHODS, Method
from camreport.metrics import METRICS
from camreport.report.gallery.coinciding import coincidences
from camreport.report.gallery.language import Words
from camreport.report.gallery.records import shown_methods
from camreport.results.accuracy import accuracy, order_warning
from camreport.results.costs import Cost, TotalCost
from camreport.results.evidence import EvidenceCost
from camreport.results.outline import Described
from camreport.results.reader import Results
from camreport.results.schema import FUSED, INPUT, LayerEntry, Manifest
from camreport.settings import EXACT, NONE

Rows = list[tuple[str, str]]
"""Names, and the text that belongs to each."""

MAX_NAMES = 6
"""Names that a sentence lists; it counts the others."""


def prose(
    results: Results,
    shown: int,
    words: Words,
    reduced_detail: Sequence[str],
    repeats: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """Return all sentences about a run: title, name, facts, notices, methods, provenance.

    Args:
        results: of the run.
        shown: how many of its images the page shows.
        words: of the language.
        reduced_detail: keys of ``strings`` that say what the page shows in less than full detail.
        repeats: for each method whose maps coincide with another's, that other; None if unknown.
    """
    manifest = results.manifest
    methods = shown_methods(manifest)
    readable = results.outlines
    some = [_shown(shown, results.count, words)] if shown < results.count else []
    repeated = coincidences(manifest, repeats or {}, words)
    some_of = [words("shown.of", shown=part) for part in some]
    return {
        "title": words("title", model=manifest.model.name),
        "run": " · ".join([_run(manifest, words), *some]),
        "lede": words("space").join(
            [_lede(manifest, len(readable), methods, words), *some_of, *repeated]
        ),
        "asked": words("space").join([_asked(manifest, len(readable), methods, words), *some_of]),
        "warning": _warning(manifest, readable, words),
        "facts": _facts(manifest, readable, methods, words),
        "leftOut": _left_out(manifest, words),
        "failed": [
            (image.file, words.message(image.reason)) for image in results.failed if image.reason
        ],
        "inputs": len(results.images),
        "layers": _layers(manifest, words),
        "methods": {method.key: _method(method, words) for method in methods},
        "reasons": {
            f"{skip.method}/{skip.layer}": words.message(skip.reason) for skip in manifest.skipped
        },
        "shortReasons": {
            f"{skip.method}/{skip.layer}": in_a_word(skip.reason, words)
            for skip in manifest.skipped
        },
        "quantity": _quantity(manifest, words),
        "provenance": provenance(manifest, words, reduced_detail),
    }


def format_cost(cost: Cost, words: Words) -> str:
    """Return the cost of a run in words: ``1 forward, 2 backwards, 66 maps, 0.4 s``."""
    counts = {"forwards": cost.forwards, "backwards": cost.backwards, "maps": cost.maps}
    counted = {key: words.number_of(f"cost.{key}", count) for key, count in counts.items() if count}
    if cost.variants:
        counted["forwards"] += words("cost.variants", count=f"{cost.variants:,}")
    seconds = words("cost.seconds", count=f"{cost.seconds:.1f}")
    return words("comma").join([*counted.values(), seconds])


def format_families(cost: TotalCost, words: Words) -> Rows:
    """Return the cost of each kind of passes: ``shared passes``, ``1 forward, 2 backwards, …``."""
    return [
        (words.message(message(f"methods.passes.{name}")), format_cost(own, words))
        for name, own in cost.families.items()
    ]


def format_metrics(cost: EvidenceCost, words: Words) -> Rows:
    """Return the cost of each metric that takes passes: ``Learned``, ``3 forwards, …``."""
    return [
        (words.message(METRICS[key].name), format_cost(own, words))
        for key, own in cost.metrics.items()
        if own.forwards and key in METRICS
    ]


def _shown(shown: int, count: int, words: Words) -> str:
    return words("shown", shown=f"{shown:,}", all=f"{count:,}")


def _run(manifest: Manifest, words: Words) -> str:
    """Name the model and the data, so that reports in many tabs can be distinguished."""
    inputs = _inputs(manifest.command)
    return " · ".join([manifest.model.name, *([_joined(inputs, words)] if inputs else [])])


def _inputs(command: str) -> list[str]:
    """Return the names between ``run`` and ``-o``: the input files and folders of a command."""
    try:
        given = shlex.split(command)
    except ValueError:  # a quotation mark without its pair
        return []
    ends = given.index("-o") if "-o" in given else 0
    return [name for name in given[2:ends] if name.strip("./*")]


def _lede(manifest: Manifest, images: int, methods: Sequence[Method], words: Words) -> str:
    return words(
        "lede",
        methods=_joined([method.name for method in methods], words),
        layers=words.number_of("layers", len(manifest.layers)),
        images=words.number_of("images", images),
    )


def _asked(manifest: Manifest, images: int, methods: Sequence[Method], words: Words) -> str:
    """Say in a line what was asked of which model, and what it cost."""
    return words(
        "asked",
        model=manifest.model.name,
        images=words.number_of("images", images),
        classes=words.number_of("classes", len(manifest.classes)),
        layers=words.number_of("layers", len(manifest.layers)),
        methods=_joined([method.name for method in methods], words),
        cost=format_cost(manifest.cost, words),
    )


def _facts(
    manifest: Manifest, readable: Sequence[Described], methods: Sequence[Method], words: Words
) -> Rows:
    model = manifest.model
    score = _score(manifest, readable, words)
    return [
        (
            words("facts.model"),
            words("comma").join([model.name, words.message(model.source)]),
        ),
        (words("facts.classes"), _joined(manifest.class_names, words)),
        (
            words("facts.layers"),
            words("comma").join(layer.address for layer in manifest.layers),
        ),
        (words("facts.methods"), _joined([method.name for method in methods], words)),
        (words("facts.explained"), _quantity(manifest, words)),
        *([(words("facts.predictions"), score)] if score else []),
        (words("facts.cost"), format_cost(manifest.cost, words)),
    ]


def _warning(manifest: Manifest, readable: Sequence[Described], words: Words) -> str:
    """Return the warnings about the model and about its class names."""
    warnings = (manifest.model.warning, order_warning(readable, manifest.class_names))
    return words("stop").join(words.message(warning) for warning in warnings if warning)


def _score(manifest: Manifest, readable: Sequence[Described], words: Words) -> str:
    """Return how many predictions are right, overall and for each of a few classes."""
    counted = accuracy(readable)
    if counted is None:
        return ""
    score = words("facts.score", right=counted.right, all=counted.total)
    if not 1 < len(counted.by_class) <= MAX_NAMES:
        return score
    by_class = (
        words("facts.class", name=manifest.class_names[index], right=right, all=total)
        for index, (right, total) in counted.by_class.items()
    )
    return words("facts.scores", score=score, classes=words("comma").join(by_class))


def in_a_word(reason: Message, words: Words) -> str:
    """Say why a method has no map at a layer, in the room of that map."""
    values = dict(reason.values)
    if reason.code == "engine.skip.positions":
        return words("skip.positions", count=str(values["positions"]))
    if reason.code == "engine.skip.head_at":
        return words("skip.pooling")
    return words("skip.negative" if reason.code == "engine.skip.negative" else "skip.undefined")


def _left_out(manifest: Manifest, words: Words) -> list[str]:
    """Return why methods of the run have no map at all."""
    shown = shown_methods(manifest)
    reasons = dict.fromkeys(
        skip.reason for skip in manifest.skipped if METHODS[skip.method] not in shown
    )
    return [words.message(reason) for reason in reasons]


def _layers(manifest: Manifest, words: Words) -> dict[str, list[str]]:
    """Return what stands below each layer's address."""
    layers = (*manifest.layers, *manifest.channels)
    details = {layer.address: _layer_details(layer, words) for layer in layers}
    return details | {FUSED: [words("layer.fused")], INPUT: [words("layer.input")]}


def _layer_details(layer: LayerEntry, words: Words) -> list[str]:
    channels, height, width = layer.shape
    tensor = words.message(layer.tensor)
    used = tensor if _is_own(layer.tensor) else words("layer.read", tensor=tensor)
    return [words("comma").join([layer.type, used]), f"{channels} × {height} × {width}"]


def _is_own(tensor: Message) -> bool:
    """Say whether a tensor is a layer's own output, perhaps in another layout."""
    inner = dict(tensor.values).get("tensor")
    return _is_own(inner) if isinstance(inner, Message) else tensor.code == "network.tensor.own"


def _method(method: Method, words: Words) -> dict[str, str]:
    return {
        "name": method.name,
        "meaning": words.message(method.meaning),
        "caution": words.message(method.caution),
        "formula": method.formula,
        "source": method.source,
        "needs": words(
            "method.needs",
            name=words.message(method.needs.name),
            cost=words.message(method.needs.cost),
            layers=words.message(method.layers),
        ),
    }


def _quantity(manifest: Manifest, words: Words) -> str:
    """Name the score of a class that is explained."""
    kind, _, rival = manifest.quantity.partition(":")
    name = manifest.class_names[int(rival)] if rival else ""
    kind = "rival" if rival else kind
    if manifest.activation == NONE:  # the model returns probabilities, no logits
        return words(f"returned.{kind}", rival=name)
    return words(f"quantity.{kind}", rival=name)


def _joined(names: Sequence[str], words: Words) -> str:
    """List names as a sentence does: ``a, b and c``."""
    listed = list(names[:MAX_NAMES])
    if len(names) > MAX_NAMES:
        listed.append(words("more", count=f"{len(names) - MAX_NAMES:,}"))
    if len(listed) == 1:
        return listed[0]
    return words("and", first=words("names").join(listed[:-1]), last=listed[-1])


def provenance(manifest: Manifest, words: Words, reduced_detail: Sequence[str] = ()) -> Rows:
    """Return where results come from: the command, the model, settings, cost, versions."""
    rows = [
        ("command", manifest.command),
        *_provenance_of_model(manifest, words),
        ("layers", words("list").join(_layer_in_words(layer, words) for layer in manifest.layers)),
        ("explained", _quantity(manifest, words)),
        ("fusion", _fusion(manifest, words)),
        ("smoothing", _smoothing(manifest, words)),
        ("precision", _precision(manifest, words)),
        ("maps", words("list").join(words(key) for key in ("maps.stored", *reduced_detail))),
        ("cost", format_cost(manifest.cost, words)),
    ]
    families = format_families(manifest.cost, words) if len(manifest.cost.families) > 1 else []
    versions = (f"{name} {version}" for name, version in manifest.versions.items())
    return [
        *((words(f"provenance.{key}"), text) for key, text in rows if text),
        *((words("provenance.family", name=name), text) for name, text in families),
        (words("provenance.device"), manifest.device),
        (words("provenance.versions"), words("comma").join(versions)),
    ]


def _provenance_of_model(manifest: Manifest, words: Words) -> Rows:
    model = manifest.model
    source, count = words.message(model.source), f"{model.parameters:,}"
    return [
        ("model", words("provenance.parameters", name=model.name, source=source, count=count)),
        ("weights", f"sha256 {model.sha256}"),
        ("preprocessing", words.message(manifest.preprocessing.described())),
        ("loaded", words("stop").join(words.message(note) for note in model.notes)),
    ]


def _layer_in_words(layer: LayerEntry, words: Words) -> str:
    return words(
        "provenance.layer",
        address=layer.address,
        type=layer.type,
        tensor=words.message(layer.tensor),
        shape=" × ".join(map(str, layer.shape)),
    )


def _fusion(manifest: Manifest, words: Words) -> str:
    stages = manifest.fusion.stages
    early = words("fusion.early") if stages is None else words("fusion.stages", count=stages)
    return words("fusion.rule", gamma=f"{manifest.fusion.gamma:g}", stages=early)


def _precision(manifest: Manifest, words: Words) -> str:
    """Say in which arithmetic the network ran; empty if in float32."""
    return "" if manifest.precision == EXACT else words(f"precision.{manifest.precision}")


def _smoothing(manifest: Manifest, words: Words) -> str:
    """Return how maps were smoothed, with the seed of the noise; empty if they were not."""
    steps = [words(f"smooth.{kind}") for kind in manifest.smooth]
    if manifest.seed is not None:
        steps.append(words("smooth.seed", seed=manifest.seed))
    return words("comma").join(steps)
