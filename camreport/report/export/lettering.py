"""Text in pictures, drawn with the fonts of this machine."""

from collections.abc import Callable
from functools import cache

from PIL import ImageDraw, ImageFont

from camreport.report.gallery.language import Words, words_of

FONTS = (
    *("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "NotoSansSC-Regular.otf", "wqy-microhei.ttc"),
    *("msyh.ttc", "simsun.ttc", "PingFang.ttc", "Hiragino Sans GB.ttc", "Arial Unicode.ttf"),
)
"""Fonts with more letters than Pillow's own, as Linux, Windows and macOS name their files."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

Write = Callable[..., None]
"""``write`` with its picture and fonts."""


def write(
    draw: ImageDraw.ImageDraw,
    fonts: tuple[str, ...],
    left: int,
    top: int,
    text: str,
    *,
    size: int,
    room: int,
    instead: str = "",
    fill: str = "black",
) -> None:
    """Write as much of a line as there is room for.

    Args:
        draw: into a picture.
        fonts: files of fonts; the first that has every letter of the text is used, at last
            Pillow's own.
        left: of the line, in pixels.
        top: of the line, in pixels.
        text: the line.
        size: of the letters, in pixels.
        room: width that the line may take, in pixels.
        instead: what is written where no font has the text's letters.
        fill: colour of the letters.
    """
    font = font_of(text, fonts, size)
    if font is None:
        text, font = instead, own_font(size)
    while font.getlength(text) > room and len(text) > 4:
        text = text[:-2].rstrip("…") + "…"
    draw.text((left, top + size), text, fill=fill, font=font, anchor="ls")


def readable_words(language: str, fonts: tuple[str, ...]) -> Words:
    """Return the words of a language, or English ones where no font here has its letters."""
    words = words_of(language)
    return words if font_of(words("original"), fonts, 12) else words_of("en")


@cache
def own_font(size: int) -> Font:
    """Return Pillow's own font, which is always there."""
    return ImageFont.load_default(size)


@cache
def font_of(text: str, fonts: tuple[str, ...], size: int) -> Font | None:
    """Return the first font that has every letter of a text."""
    letters = [letter for letter in dict.fromkeys(text) if not letter.isspace()]
    for font in _installed(fonts, size):
        missing = bytes(font.getmask("\U0010fffe"))
        if all(bytes(font.getmask(letter)) != missing for letter in letters):
            return font
    return None


@cache
def _installed(fonts: tuple[str, ...], size: int) -> list[Font]:
    """Return those of these files that this machine has, and Pillow's own font."""
    found: list[Font] = []
    for name in fonts:
        try:
            found.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return [*found, own_font(size)]
