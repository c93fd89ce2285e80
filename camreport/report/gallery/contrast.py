"""Contrast maps: what speaks for the predicted class more than for the true one, of wrong images.

They are shipped only where the raw maps have an exact difference. For other methods, and for
images that are right, the page subtracts what it draws.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from camreport.methods import Method
from camreport.results.reader import MapRecord
from camreport.results.schema import ImageEntry

CONTRAST = -3
"""Slot of the contrast map, in place of a class's; the page's ``data/dataset.ts`` repeats it."""


def contrasts(
    image: ImageEntry, targets: Sequence[int], maps: Sequence[MapRecord], smooth: Sequence[str]
) -> Iterator[MapRecord]:
    """Yield R(predicted) - R(true) of raw maps, signed, of every method and layer that has both.

    Args:
        image: the image; one without a true class, or with the right prediction, has no contrast.
        targets: the classes explained in it.
        maps: its raw maps.
        smooth: kinds of smoothing that the run applied.
    """
    predicted = image.top[0].index if image.top else None
    pair = predicted, image.label
    if predicted == image.label or not all(target in targets for target in pair):
        return
    of_class = {(m.method.key, m.layer, m.target): m for m in maps if is_exact(m.method, smooth)}
    for (key, layer, target), record in of_class.items():
        true = of_class.get((key, layer, image.label))
        if target == predicted and true is not None:
            signed = replace(record.method, values="signed")
            yield MapRecord(signed, layer, CONTRAST, None, record.cam - true.cam)


def is_exact(method: Method, smooth: Sequence[str]) -> bool:
    """Return whether the difference of two classes' raw maps is the map of the scores' difference.

    Channels apart are left out: the strongest one of each map is drawn, not the same one.
    """
    return method.is_linear(smooth) and method.per_class and not method.per_channel
