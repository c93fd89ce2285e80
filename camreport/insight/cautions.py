"""What a reader has to bear in mind here: class names, cropping, noise, methods left out."""

from collections.abc import Iterator, Sequence
from statistics import median

from camreport.insight.claims import Finding, Place
from camreport.messages import message
from camreport.methods import METHODS
from camreport.results.accuracy import order_warning
from camreport.results.outline import Described
from camreport.results.schema import Manifest

MAX_SEEN = 0.98
"""Fraction of a photograph below which it counts as cropped."""

PROVENANCE = Place("provenance")


def cautions(
    manifest: Manifest, images: Sequence[Described], *, opposite: int = 0
) -> tuple[Finding, ...]:
    """Return the cautions that hold for a run.

    Args:
        manifest: of the run.
        images: its readable images.
        opposite: in how many images the logits of its two classes were found opposite, in every one
            that was looked at; 0 if they are not.
    """
    return (
        *_names(manifest, images),
        *_model(manifest, len(images)),
        *_opposite(manifest, len(images), opposite),
        *_cropped(manifest, images),
        *_random(manifest, len(images)),
        *_skipped(manifest, len(images)),
    )


def seen_fraction(manifest: Manifest, image: Described) -> float:
    """Return the fraction of an image that the model saw, 0..1."""
    width, height = image.size
    across, down = _seen(manifest, image)
    return across * down / (width * height)


def _seen(manifest: Manifest, image: Described) -> tuple[int, int]:
    """Return how many of an image's pixels the model saw across and down."""
    width, height = image.size
    box = manifest.preprocessing.seen_box(width, height)
    across = min(box.right, width) - max(box.left, 0)
    down = min(box.bottom, height) - max(box.top, 0)
    return round(across), round(down)


def _names(manifest: Manifest, images: Sequence[Described]) -> Iterator[Finding]:
    if warning := order_warning(images, manifest.class_names):
        text = message("insight.caution.names", warning=warning)
        yield Finding(text, len(images), Place("overview", query="right:no"))


def _model(manifest: Manifest, count: int) -> Iterator[Finding]:
    if manifest.model.warning:
        text = message("insight.caution.model", warning=manifest.model.warning)
        yield Finding(text, count, PROVENANCE)


def _opposite(manifest: Manifest, count: int, opposite: int) -> Iterator[Finding]:
    shown = [METHODS[key] for key in manifest.shown_methods]
    linear = [method for method in shown if method.is_linear(manifest.smooth)]
    if opposite and linear:
        names = ", ".join(method.name for method in linear)
        text = message("insight.caution.opposite", methods=names)
        if opposite < count:
            text = message("insight.caution.opposite_shown", methods=names, count=opposite)
        yield Finding(text, opposite, PROVENANCE)


def _cropped(manifest: Manifest, images: Sequence[Described]) -> Iterator[Finding]:
    fractions = [seen_fraction(manifest, image) for image in images]
    cropped = [part for part in fractions if part < MAX_SEEN]
    if not cropped:
        return
    values: dict[str, int | float] = {"cropped": len(cropped), "count": len(images)}
    text = message("insight.caution.cropped", share=median(cropped), **values)
    if len(images) == 1:
        (image,) = images
        width, height = image.size
        across, down = _seen(manifest, image)
        sizes = {"width": width, "height": height, "across": across, "down": down}
        text = message("insight.caution.cropped_one", file=image.file, **sizes)
    yield Finding(text, len(cropped), PROVENANCE)


def _random(manifest: Manifest, count: int) -> Iterator[Finding]:
    if manifest.seed is None:
        return
    if "noise" in manifest.smooth:
        text = message("insight.caution.smoothed", seed=manifest.seed)
        yield Finding(text, count, PROVENANCE)
    for method in (METHODS[key] for key in manifest.shown_methods):
        if method.needs.random:
            text = message("insight.caution.random", method=method.name, seed=manifest.seed)
            yield Finding(text, count, Place("methods"))


def _skipped(manifest: Manifest, count: int) -> Iterator[Finding]:
    nowhere = [skip for skip in manifest.skipped if skip.method not in manifest.shown_methods]
    for reason in dict.fromkeys(skip.reason for skip in nowhere):
        yield Finding(message("insight.caution.skipped", reason=reason), count, Place("methods"))
