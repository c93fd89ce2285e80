"""Pictures to paste into a document: an image's contact sheet, and the channels of a layer.

They are drawn for 300 dots per inch and as wide as the text of an A4 page, or wider where there is
more to show.
"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from camreport.methods import Method
from camreport.report.appearance import Part, appearance, drawn_over, format_probability
from camreport.report.export.lettering import Write, font_of, own_font, write
from camreport.report.gallery.language import Words
from camreport.report.heatmap import COLORMAPS, ZERO, colour_table, quantise, shade
from camreport.results.reader import MapRecord, Results
from camreport.results.schema import FUSED, ImageEntry, LayerEntry

DPI = 300
"""Dots per inch of sheets and grids."""

PAGE_WIDTH = 1890
"""Width of the text of an A4 page, 160 mm, in dots."""

MIN_TILE, MAX_TILE = 160, 360
"""Longer side of a sheet's pictures, in pixels: 14 mm to 30 mm."""

MIN_CHANNEL = 24
"""Least width of a channel, in pixels."""

_MARGIN, _GAP = 24, 8
_TEXT, _SMALL = 30, 24
_LINE = 40
_HEADS = 330
_FLAT = "#e4e4e0"


def sheet(
    results: Results,
    image: ImageEntry,
    photo: NDArray[np.uint8],
    seen: Part,
    maps: Sequence[MapRecord],
    words: Words,
    fonts: tuple[str, ...],
) -> Image.Image:
    """Draw an image's contact sheet: layers as rows, classes and methods as columns.

    Args:
        results: of the run.
        image: whose sheet it is.
        photo: RGB ``(H, W, 3)``.
        seen: which part of it the model saw.
        maps: of the image.
        words: of the language that the sheet is written in.
        fonts: as for ``write``.
    """
    columns = list(dict.fromkeys((record.slot, record.method) for record in maps))
    rows = list(dict.fromkeys(record.layer for record in maps))
    room = (PAGE_WIDTH - 2 * _MARGIN - _HEADS) // (1 + len(columns)) - _GAP
    tile = min(max(room, MIN_TILE), MAX_TILE)
    small = ImageOps.contain(Image.fromarray(photo), (tile, tile))
    pixels = np.asarray(small)
    left, top = _MARGIN + _HEADS, _MARGIN + 3 * _LINE + _GAP
    high = small.height + _GAP
    below = top + high * len(rows) + _GAP
    width = max(left + (1 + len(columns)) * (tile + _GAP) + _MARGIN, 2 * PAGE_WIDTH // 3)
    picture = Image.new("RGB", (width, below + _key_height(maps) + _MARGIN), "white")
    put = partial(write, ImageDraw.Draw(picture), fonts, size=_SMALL, room=tile)
    _title(put, results, image, words, width)
    put(left, top - _LINE, words("original"))
    _column_heads(put, results, image, columns, words, left + tile + _GAP, tile + _GAP)
    for place, layer in enumerate(rows):
        picture.paste(small, (left, top + place * high))
        _row_head(put, results, layer, words, top + place * high)
    for record in maps:
        across = left + (1 + columns.index((record.slot, record.method))) * (tile + _GAP)
        drawn = map_picture(pixels, seen, record, words, fonts)
        picture.paste(drawn, (across, top + rows.index(record.layer) * high))
    _key(picture, put, maps, words, below)
    return picture


def grid(
    image: ImageEntry,
    layer: LayerEntry,
    maps: NDArray[np.float32],
    words: Words,
    fonts: tuple[str, ...],
) -> Image.Image:
    """Draw all feature maps of a layer with their numbers, about as many across as down.

    Args:
        image: whose feature maps they are.
        layer: the layer.
        maps: the feature maps ``(C, h, w)``.
        words: of the language that the picture is written in.
        fonts: as for ``write``.
    """
    count, height, width = maps.shape
    across = max(1, round(math.sqrt(count)))
    room = PAGE_WIDTH - 2 * _MARGIN
    wide = min(max(room // across - _GAP // 2, MIN_CHANNEL), MAX_TILE)
    high = max(MIN_CHANNEL, round(wide * height / width))
    step, drop = wide + _GAP // 2, high + _GAP // 2
    top = _MARGIN + _LINE + _GAP
    below = top + math.ceil(count / across) * drop + _GAP
    size = (max(across * step, PAGE_WIDTH // 2) + 2 * _MARGIN, below + 2 * _LINE + _MARGIN)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    put = partial(write, draw, fonts, size=_SMALL, room=size[0] - 2 * _MARGIN)
    said = words("channels.grid", count=count, layer=layer.address)
    shape = f"{layer.type}, {count} × {height} × {width}"
    put(_MARGIN, _MARGIN, f"{image.file} · {said} · {shape}", size=_TEXT, instead=said)
    signed = bool(np.nanmin(maps, initial=0) < 0)
    for channel, own in enumerate(maps):
        left = _MARGIN + channel % across * step
        down = top + channel // across * drop
        picture.paste(_channel(own, signed, high, wide), (left, down))
        _number(draw, str(channel), left, down + high, wide)
    _bar(picture, put, below, signed, words("legend.channel"), words)
    put(_MARGIN, below + _LINE, words("channels.caption"))
    return picture


def _channel(cam: NDArray[np.float32], signed: bool, height: int, width: int) -> Image.Image:
    """Draw a feature map from zero to its own largest value; a flat one is grey."""
    quantised = quantise(cam, signed)
    if quantised.state != "positive":
        return Image.new("RGB", (width, height), _FLAT)
    index, _ = shade(quantised, height, width)
    return Image.fromarray(colour_table(_ramp(signed))[index])


def _number(draw: ImageDraw.ImageDraw, text: str, left: int, bottom: int, room: int) -> None:
    """Write a channel's number into its lower left corner."""
    size = max(10, min(_SMALL, room // 4))
    place = (left + 3, bottom - 3)
    draw.text(
        place, text, "white", own_font(size), anchor="ls", stroke_width=2, stroke_fill="black"
    )


def map_picture(
    photo: NDArray[np.uint8],
    seen: Part,
    record: MapRecord,
    words: Words,
    fonts: tuple[str, ...],
) -> Image.Image:
    """Draw a map over its photograph; one without positive values is labelled instead."""
    shown = appearance(record)
    picture = Image.fromarray(drawn_over(photo, shown, seen))
    state = shown.quantised.state
    if state != "positive":
        label, draw = words(f"cell.{state}"), ImageDraw.Draw(picture)
        size = max(10, min(_SMALL, picture.width // 16))
        font = font_of(label, fonts, size) or own_font(size)
        place = (6, picture.height - 8)
        left, up, right, down = draw.textbbox(place, label, font=font, anchor="ls")
        draw.rectangle((left - 4, up - 3, right + 4, down + 3), fill="white")
        draw.text(place, label, fill="black", font=font, anchor="ls")
    return picture


def _title(put: Write, results: Results, image: ImageEntry, words: Words, width: int) -> None:
    """Write what the sheet shows: image, predictions, model."""
    top = [f"{p.name} {format_probability(p.probability)}" for p in image.top[:3]]
    named = f"{image.file}: {words('comma').join(top)}" if top else image.file
    model = results.manifest.model.name
    plain = f"image {image.index + 1} · {model}"
    room = width - 2 * _MARGIN
    put(_MARGIN, _MARGIN, f"{named} · {model}", size=_TEXT, room=room, instead=plain)


def _column_heads(
    put: Write,
    results: Results,
    image: ImageEntry,
    columns: Sequence[tuple[int, Method]],
    words: Words,
    left: int,
    step: int,
) -> None:
    """Write the classes above their methods."""
    targets = results.targets(image.index)
    chances = results.probabilities(image.index)
    top, last = _MARGIN + _LINE + _GAP, None
    for place, (slot, method) in enumerate(columns):
        at = left + place * step
        target = targets[slot] if method.per_class else None
        if (target, method.per_class) != last:
            name, plain = words("class.any"), "any class"
            if target is not None:
                chance = format_probability(float(chances[target]))
                name = f"{results.manifest.class_names[target]} {chance}"
                plain = f"class {target} {chance}"
            put(at, top, name, size=_TEXT, instead=plain)
            last = (target, method.per_class)
        put(at, top + _LINE, method.name)


def _row_head(put: Write, results: Results, address: str, words: Words, top: int) -> None:
    """Write a layer's address, what it is, and the size of its grid."""
    put(_MARGIN, top, address, size=_TEXT, room=_HEADS - _GAP)
    layer = next((own for own in results.manifest.layers if own.address == address), None)
    if layer is None:
        said = [words("layer.fused" if address == FUSED else "layer.input")]
    else:
        _, height, width = layer.shape
        said = [layer.type, f"{height} × {width}"]
    for line, text in enumerate(said, start=1):
        put(_MARGIN, top + line * _LINE, text, room=_HEADS - _GAP)


def _key_height(maps: Sequence[MapRecord]) -> int:
    return (2 + len(_kinds(maps))) * _LINE


def _kinds(maps: Sequence[MapRecord]) -> list[bool]:
    """Say which kinds of maps there are: from zero up, signed."""
    signed = {record.method.values == "signed" for record in maps}
    return sorted(signed)


def _key(
    picture: Image.Image, put: Write, maps: Sequence[MapRecord], words: Words, top: int
) -> None:
    """Draw the colour bars, and say how the maps are drawn."""
    for line, signed in enumerate(_kinds(maps)):
        _bar(picture, put, top + line * _LINE, signed, words("legend.map"), words)
    said = [words("scale.map.words"), words("byValue.words")]
    if True in _kinds(maps):
        said.append(words("signed.words"))
    room = picture.width - 2 * _MARGIN
    place = top + len(_kinds(maps)) * _LINE
    put(_MARGIN, place, words("space").join(said), room=room)


def _bar(
    picture: Image.Image, put: Write, top: int, signed: bool, largest: str, words: Words
) -> None:
    """Draw a colour bar with what its ends stand for."""
    table = colour_table(_ramp(signed))[: 2 * ZERO + 1 if signed else 256]
    start = words("legend.against") if signed else "0"
    end = words("legend.for") if signed else largest
    room, left = 150 if signed else _SMALL, _MARGIN
    put(left, top, start, room=room)
    bar = Image.fromarray(table[None]).resize((_HEADS, _SMALL))
    picture.paste(bar, (left + room, top + 2))
    put(left + room + _HEADS + _GAP, top, end, room=_HEADS)


def _ramp(signed: bool) -> str:
    return "diverging" if signed else COLORMAPS[0]
