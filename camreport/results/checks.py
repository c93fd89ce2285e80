"""What a manifest must hold, checked once when a results folder is opened.

A folder may come from someone else, or be damaged; what has passed here can be relied on.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from camreport.errors import CamReportError, ResultsError
from camreport.images.pixels import MAX_PIXELS
from camreport.images.preprocessing import Preprocessing
from camreport.methods import METHODS
from camreport.settings import ACTIVATIONS, SMOOTHINGS

MAX_SIDE = 1_000_000
"""Most pixels of a side of an image."""

MAX_PHRASE = 4000
"""Most characters of a sentence that the page translates."""

SHARD_NAME = re.compile(r"shard-\d{5,9}\.npz")

Rule = Callable[[Any, str], None]
"""Raises a ``ResultsError`` that names the field, given a value and where it stands."""


def refuse(place: str, rule: str, value: object) -> ResultsError:
    """Return the error for a field that is not as it must be."""
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return ResultsError(
        f"results: expected {rule} as {place} in the manifest, got {shown}. "
        "The results are damaged: run 'camreport run' again."
    )


def whole(least: int = 0, most: int = 2**63) -> Rule:
    """Return the rule of whole numbers from ``least`` to ``most``."""

    def check(value: Any, place: str) -> None:
        if type(value) is not int or not least <= value <= most:
            raise refuse(place, f"a whole number {least} to {most}", value)

    return check


def number(value: Any, place: str) -> None:
    """Check a finite number."""
    if type(value) not in (int, float) or not abs(value) < 1e300 or not math.isfinite(value):
        raise refuse(place, "a number", value)


def text(value: Any, place: str) -> None:
    """Check a text that a file in UTF-8 can hold."""
    if type(value) is not str:
        raise refuse(place, "a text", value)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise refuse(place, "a text of whole characters", value) from error


def phrase(value: Any, place: str) -> None:
    """Check a sentence."""
    text(value, place)
    if len(value) > MAX_PHRASE:
        raise refuse(place, f"up to {MAX_PHRASE} characters", value)


def one_of(*choices: object) -> Rule:
    """Return the rule of one of some values."""

    def check(value: Any, place: str) -> None:
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise refuse(place, f"one of {', '.join(map(str, choices))}", value)

    return check


def nothing_or(rule: Rule) -> Rule:
    """Return the rule of null, or what another rule says."""

    def check(value: Any, place: str) -> None:
        if value is not None:
            rule(value, place)

    return check


def list_of(rule: Rule, least: int = 0, most: int = 2**63) -> Rule:
    """Return the rule of a list of so many values."""

    def check(value: Any, place: str) -> None:
        if type(value) is not list or not least <= len(value) <= most:
            raise refuse(place, f"a list of {least} entries or more", value)
        for index, entry in enumerate(value):
            rule(entry, f"{place}[{index}]")

    return check


def table_of(rule: Rule) -> Rule:
    """Return the rule of an object with any names."""

    def check(value: Any, place: str) -> None:
        if type(value) is not dict:
            raise refuse(place, "an object", value)
        for name, entry in value.items():
            text(name, place)
            rule(entry, f"{place}.{name}")

    return check


def fields(required: Mapping[str, Rule], optional: Mapping[str, Rule] | None = None) -> Rule:
    """Return the rule of an object with these fields; others are not looked at."""

    def check(value: Any, place: str) -> None:
        if type(value) is not dict:
            raise refuse(place, "an object", value)
        for name, rule in required.items():
            if name not in value:
                raise refuse(place, f"an object with {name!r}", value)
            rule(value[name], f"{place}.{name}".lstrip("."))
        for name, rule in (optional or {}).items():
            if name in value:
                rule(value[name], f"{place}.{name}".lstrip("."))

    return check


def preprocessing(value: Any, place: str) -> None:
    """Check the steps that led to the model input."""
    three = list_of(number, 3, 3)
    fields(
        {
            "size": list_of(whole(1, MAX_SIDE), 2, 2),
            "resize": one_of("squash", "short-side", "none"),
            "short_side": nothing_or(whole(1, MAX_SIDE)),
            "interpolation": one_of("bilinear", "bicubic"),
            "mean": three,
            "std": three,
        },
        {
            "channel_order": one_of("rgb", "bgr"),
            "scale": one_of(1, 255),
            "whole_at_size": one_of(True, False),
        },
    )(value, place)
    if math.prod(value["size"]) > MAX_PIXELS:
        raise refuse(f"{place}.size", f"up to {MAX_PIXELS:,} pixels", value["size"])
    try:
        Preprocessing.from_dict(value).seen_box(1, 1)
    except (CamReportError, TypeError, ValueError, ArithmeticError) as error:
        raise refuse(place, "steps that fit together", value) from error


def shard(value: Any, place: str) -> None:
    """Check the name of a shard, which leads nowhere else."""
    if type(value) is not str or not SHARD_NAME.fullmatch(value):
        raise refuse(place, "a name such as shard-00000.npz", value)


def method(value: Any, place: str) -> None:
    """Refuse what is not the key of a method, also of one that was registered just now."""
    one_of(*METHODS)(value, place)


SKIPPED = fields({"method": method, "layer": nothing_or(text), "reason": phrase})

_COST = {
    **dict.fromkeys(("forwards", "backwards", "variants", "maps"), whole()),
    "seconds": number,
}

COST = fields({**_COST, "families": table_of(fields(_COST))})
"""Of a run or a shard: numbers of passes and seconds, in all and by kind of passes."""

LAYER = fields(
    {
        "address": text,
        "type": text,
        "tensor": phrase,
        "shape": list_of(whole(1, 2**31), 3, 3),
    },
    {"same_as": nothing_or(text)},
)

CLASS = fields({"index": whole(), "name": text})

_TOP = fields({"index": whole(), "name": text, "probability": number})

_SIDE = whole(1, MAX_SIDE)

_INPUT = {"index": whole(), "file": text, "status": one_of("ok", "failed")}

_READ = fields(
    {
        "sha256": text,
        "width": _SIDE,
        "height": _SIDE,
        "shard": shard,
        "row": whole(),
        "top": list_of(_TOP),
    },
    {"label": nothing_or(whole()), "labels": list_of(whole(), 1), "note": phrase},
)

_FAILED = fields({"reason": phrase, "sha256": nothing_or(text)})


def image(value: Any, place: str) -> None:
    """Check the record of an input."""
    fields(_INPUT)(value, place)
    (_READ if value["status"] == "ok" else _FAILED)(value, place)


_FACTS = nothing_or(list_of(whole(-(2**63)), 3, 3))

_SUMMARY = fields(
    {"images": list_of(image, 1), "facts": list_of(_FACTS), "cost": COST},
    {"findings": list_of(phrase)},
)

_PLAN = fields(
    {
        "batch": whole(1, 2**31),
        "activation": one_of(*ACTIVATIONS),
        "output": nothing_or(text),
        "shard": whole(1, 2**31),
        "classes": list_of(CLASS, 1),
        "layers": list_of(LAYER, 1),
        "channels": list_of(LAYER),
        "skipped": list_of(SKIPPED),
        "notes": list_of(phrase),
    }
)

_MANIFEST = fields(
    {
        "command": text,
        "versions": table_of(text),
        "device": text,
        "seed": nothing_or(whole(-(2**63))),
        "model": fields(
            {"name": text, "source": phrase, "sha256": text, "parameters": whole()},
            {"warning": phrase, "notes": list_of(phrase), "output": nothing_or(text)},
        ),
        "preprocessing": preprocessing,
        "classes": list_of(CLASS, 1),
        "layers": list_of(LAYER, 1),
        "methods": list_of(method, 1),
        "quantity": text,
        "fusion": fields({"gamma": number, "stages": nothing_or(whole())}),
        "smooth": list_of(one_of(*SMOOTHINGS)),
        "skipped": list_of(SKIPPED),
        "images": list_of(image, 1),
        "cost": COST,
    },
    {"channels": list_of(LAYER), "activation": one_of(*ACTIVATIONS)},
)


def check_manifest(manifest: Mapping[str, Any]) -> None:
    """Check every field that is used later, and that they fit together.

    Raises:
        ResultsError: one is missing or not as it must be; the message names it.
    """
    _MANIFEST(manifest, "")
    classes, images = manifest["classes"], manifest["images"]
    _check_numbered(classes, "classes")
    _check_numbered(images, "images")
    check_layers(manifest["layers"], "layers")
    check_layers(manifest.get("channels", []), "channels")
    _check_quantity(manifest["quantity"], len(classes))
    for record in images:
        for named in (record.get("label"), *(entry["index"] for entry in record.get("top", ()))):
            if named is not None and named >= len(classes):
                raise refuse(f"class of {record['file']}", f"up to {len(classes) - 1}", named)
    for skip in manifest["skipped"]:
        if skip["method"] not in manifest["methods"]:
            raise refuse("skipped", "a method of the run", skip["method"])
    if not shown_methods(manifest):
        raise refuse("methods", "at least one with a map", manifest["methods"])
    if all(record["status"] == "failed" for record in images):
        raise refuse("images", "at least one that could be read", images)


def check_summary(summary: Mapping[str, Any]) -> None:
    """Check what stands beside a shard: records, facts of the files, and cost.

    Raises:
        ResultsError: it is not as a run writes it.
    """
    _SUMMARY(summary, "")
    if len(summary["facts"]) != len(summary["images"]):
        raise refuse("facts", "one for each image", summary["facts"])


def check_plan(plan: Any) -> dict[str, Any]:
    """Return the plan of an interrupted run, once it is checked.

    Raises:
        ResultsError: it is not as a run writes it.
    """
    _PLAN(plan, "")
    assert isinstance(plan, dict)
    return plan


def shown_methods(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys of the methods that have a map at one layer or more."""
    nowhere = {skip["method"] for skip in manifest["skipped"] if skip["layer"] is None}
    at_layer = {(skip["method"], skip["layer"]) for skip in manifest["skipped"]}
    addresses = [layer["address"] for layer in manifest["layers"]]
    return tuple(
        key
        for key in manifest["methods"]
        if key not in nowhere and any((key, address) not in at_layer for address in addresses)
    )


def check_layers(layers: Sequence[Mapping[str, Any]], place: str) -> None:
    """Check that each layer has an address of its own, and repeats none but earlier ones."""
    own: set[str] = set()
    seen: set[str] = set()
    for layer in layers:
        address, same_as = layer["address"], layer.get("same_as")
        if address in seen:
            raise refuse(place, "each address once", address)
        if same_as is not None and same_as not in own:
            raise refuse(f"{place}.same_as", "an earlier layer", same_as)
        seen.add(address)
        own |= set() if same_as is not None else {address}


def _check_numbered(records: Sequence[Mapping[str, Any]], place: str) -> None:
    for index, record in enumerate(records):
        if record["index"] != index:
            raise refuse(f"{place}[{index}].index", str(index), record["index"])


def _check_quantity(quantity: str, classes: int) -> None:
    kind, colon, rival = quantity.partition(":")
    of_rival = kind == "contrast" and rival.isascii() and rival.isdecimal() and len(rival) < 10
    if colon:
        if not of_rival or int(rival) >= classes:
            raise refuse("quantity", "contrast and a class index", quantity)
    elif kind not in ("logit", "probability", "contrast"):
        raise refuse("quantity", "logit, probability or contrast", quantity)


def shortened(sentence: str) -> str:
    """Return a sentence as long as a manifest takes it."""
    return sentence if len(sentence) <= MAX_PHRASE else sentence[: MAX_PHRASE - 1] + "…"
