"""What the page shows, as finished values: the template only loops over them."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from camreport.drawing import OPACITY
from camreport.gallery.cards import (
    WIDEST,
    ImageCard,
    build_card,
    shown_methods,
    tile_methods,
)
from camreport.heatmap import COLORMAPS, colour_table
from camreport.images import Preprocessing
from camreport.methods import METHODS, Method
from camreport.results import Record, Results

PAIRED = 3
"""Most methods with which two classes stand side by side."""


@dataclass(frozen=True)
class Page:
    """The whole page."""

    title: str
    lede: str
    warning: str
    facts: tuple[tuple[str, str], ...]
    methods: tuple[Method, ...]
    colormaps: tuple[str, ...]
    tables: dict[str, str]
    opacity: int
    cards: tuple[ImageCard, ...]
    failed: tuple[tuple[str, str], ...]
    left_out: tuple[str, ...]
    class_switch: tuple[str, ...]
    side_by_side: bool
    has_signed: bool
    has_pictures: bool
    row_count: int
    widest: int
    sheet: str
    quantity: str
    provenance: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, str, str], ...]


def build_page(results: Results) -> Page:
    """Turn a results folder into the values of its page."""
    manifest = results.manifest
    methods = shown_methods(manifest)
    numbers = count(1)
    cards = tuple(
        build_card(results, record, numbers)
        for record in results.images
        if record["status"] == "ok"
    )
    failed = tuple(
        (record["file"], record["reason"])
        for record in results.images
        if record["status"] == "failed"
    )
    switch = _class_switch(cards)
    layers = [layer["address"] for layer in manifest["layers"]]
    classes = [entry["name"] for entry in manifest["classes"]]
    in_sheet = [method.name for method in tile_methods(methods)]
    return Page(
        title=f"Where {manifest['model']['name']} looks",
        lede=_lede(len(cards), len(layers), methods, switch),
        warning=manifest["model"].get("warning", ""),
        facts=(
            ("Model", f"{manifest['model']['name']}, {manifest['model']['source']}"),
            ("Classes", _joined(classes)),
            ("Layers", ", ".join(layers)),
            ("Methods", _joined([method.name for method in methods])),
            ("Explained", _quantity(manifest)),
            *_score(cards),
            ("Cost", format_cost(manifest["cost"])),
        ),
        methods=methods,
        colormaps=COLORMAPS,
        tables={
            name: base64.b64encode(colour_table(name).tobytes()).decode()
            for name in (*COLORMAPS, "diverging")
        },
        opacity=round(OPACITY * 100),
        cards=cards,
        failed=failed,
        class_switch=switch,
        left_out=_left_out(manifest),
        side_by_side=len(switch) == 2 and len(methods) <= PAIRED,
        has_signed=any(method.signed and not _is_picture(method) for method in methods),
        has_pictures=any(_is_picture(method) for method in methods),
        row_count=max(
            len(table.rows) for card in cards for f in card.figures for table in f.tables
        ),
        widest=WIDEST,
        sheet=f"{_joined(in_sheet)} at the last layer, {layers[-1]}" if in_sheet else "",
        quantity=_quantity(manifest),
        provenance=_provenance(manifest),
        files=tuple(
            (record["file"], f"{record['width']} × {record['height']}", record["sha256"])
            for record in results.images
            if record["status"] == "ok"
        ),
    )


def format_cost(cost: Mapping[str, float]) -> str:
    """Say what a run took: ``1 forward, 2 backwards, 66 maps, 0.4 s``."""
    words = {"forwards": "forward", "backwards": "backward", "maps": "map"}
    counted = {
        key: f"{cost[key]:,} {word if cost[key] == 1 else word + 's'}"
        for key, word in words.items()
        if cost[key]
    }
    if cost["variants"]:
        counted["forwards"] += f" with {cost['variants']:,} changed images or layers"
    return ", ".join([*counted.values(), f"{cost['seconds']:.1f} s"])


def format_families(cost: Record) -> list[tuple[str, str]]:
    """Say what each kind of passes took: ``shared passes``, ``1 forward, 2 backwards, …``."""
    return [(name, format_cost(own)) for name, own in cost["families"].items()]


def _score(cards: Sequence[ImageCard]) -> list[tuple[str, str]]:
    """Count the right predictions, where true classes are known."""
    judged = [card.badge.right for card in cards if card.badge]
    return [("Predictions", f"{sum(judged)} of {len(judged)} are right")] if judged else []


def _class_switch(cards: Sequence[ImageCard]) -> tuple[str, ...]:
    """Name the ranks: by class where all images explain the same ones, else by place."""
    explained = {
        tuple(figure.class_name for figure in card.figures if figure.rank is not None)
        for card in cards
    }
    if len(explained) == 1:
        return explained.pop()
    return tuple(f"prediction {rank + 1}" for rank in range(max(map(len, explained))))


def _lede(images: int, layers: int, methods: Sequence[Method], switch: Sequence[str]) -> str:
    pictures = "1 image" if images == 1 else f"{images} images"
    depth = "1 layer" if layers == 1 else f"{layers} layers"
    names = _joined([method.name for method in methods])
    return f"{names} at {depth} on {pictures}" + (
        f", explained for {_joined(switch)}." if switch else "."
    )


def _is_picture(method: Method) -> bool:
    return method.on_input and method.signed


def _left_out(manifest: Record) -> tuple[str, ...]:
    """Say why methods of the run have no column at all."""
    shown = shown_methods(manifest)
    return tuple(
        dict.fromkeys(
            skip["reason"] for skip in manifest["skipped"] if METHODS[skip["method"]] not in shown
        )
    )


def _quantity(manifest: Record) -> str:
    """Say which score of a class is explained."""
    kind, _, rival = manifest["quantity"].partition(":")
    if rival:
        name = manifest["classes"][int(rival)]["name"]
        return f"contrast: the class’s logit minus that of {name}"
    return {
        "logit": "the class’s logit (before the softmax)",
        "probability": "the class’s probability",
        "contrast": "contrast: the class’s logit minus the strongest other",
    }[kind]


def _joined(words: Sequence[str], most: int = 6) -> str:
    """List words as a sentence does: ``a, b and c``."""
    listed = list(words[:most])
    if len(words) > most:
        listed.append(f"{len(words) - most} more")
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"


def _provenance(manifest: Record) -> tuple[tuple[str, str], ...]:
    model = manifest["model"]
    layers = (
        f"{layer['address']} ({layer['type']}, {layer['tensor']}, "
        f"{' × '.join(map(str, layer['shape']))})"
        for layer in manifest["layers"]
    )
    return (
        ("Command", manifest["command"]),
        ("Model", f"{model['name']}: {model['source']}; {model['parameters']:,} parameters"),
        ("Weights", f"sha256 {model['sha256']}"),
        ("Preprocessing", str(Preprocessing.from_dict(manifest["preprocessing"]))),
        *([("How it was loaded", ". ".join(model["notes"]))] if model.get("notes") else []),
        ("Layers", "; ".join(layers)),
        ("Explained", _quantity(manifest)),
        ("Fusion", _fusion(manifest)),
        *([("Smoothing", _smoothing(manifest))] if _smoothing(manifest) else []),
        ("Maps", "raw float32 in results/; here relu(R) / max(R) in 8 bits, enlarged bilinearly"),
        ("Cost", format_cost(manifest["cost"])),
        *((f"of it {name}", said) for name, said in format_families(manifest["cost"])),
        ("Device", manifest["device"]),
        ("Versions", ", ".join(f"{name} {v}" for name, v in manifest["versions"].items())),
    )


def _fusion(manifest: Record) -> str:
    fusion = manifest["fusion"]
    stages = "the early stages" if fusion["stages"] is None else f"{fusion['stages']} early stages"
    return f"tanh({fusion['gamma']:g} · M) on {stages}, then the brightest value"


def _smoothing(manifest: Record) -> str:
    """Say how maps were smoothed, with the seed of the noise; nothing where they were not."""
    kinds = {
        "noise": "mean over noisy copies",
        "aug": "mean over mirrored, darker and brighter copies",
        "eigen": "first principal component of the channels’ contributions",
    }
    said = [kinds[kind] for kind in manifest["smooth"]]
    if manifest["seed"] is not None:
        said.append(f"seed {manifest['seed']}")
    return ", ".join(said)
