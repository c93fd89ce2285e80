"""Which images a report shows: all of them, a sample of very many, or those that are asked for.

Totals, accuracy, confusions and mean maps are of all images, whichever are shown.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from camreport.errors import InputError
from camreport.insight.predictions import judgement
from camreport.report.gallery.page import Limits, Measured, Shown
from camreport.results.reader import Results

SEED = 0
"""Of the sample: the same images are shown each time."""

MAX_LIST_BYTES = 256 * 2**20
"""Largest list of file names."""

MAX_UNKNOWN = 3
"""Most names that are not among the images which a message lists."""


def choose_shown(measured: Measured, asked: str | None, limits: Limits) -> Shown:
    """Choose the images of a report; every sample has those that summary and Atlas name first.

    Args:
        measured: over all maps of the run.
        asked: a number of images, or the path of a list of file names, one a line; None for all,
            or of more than ``limits.shown`` a sample of ``limits.sample``.
        limits: of the report.

    Raises:
        InputError: no such list, or names in it that no readable image has.
    """
    results, count = measured.results, measured.results.count
    if asked is not None and not asked.isdecimal():
        return _shown(results, _named(results, Path(asked)))
    most = int(asked) if asked else limits.sample if count > limits.shown else count
    if most < 1:
        raise InputError(f"images: expected a number from 1 on, got {asked}.")
    if most >= count:
        return Shown(results.readable, None, count)
    first = {chosen.image for chosen in measured.summary().first}
    first |= measured.atlas.images() if measured.atlas else set()
    return _shown(results, sampled(results, most, first))


def sampled(results: Results, count: int, first: Collection[int]) -> list[int]:
    """Draw readable images evenly over their classes, and over right and wrong predictions.

    The class is the true one, or the predicted one where that is not known.

    Args:
        results: of the run.
        count: how many.
        first: indices of images that are drawn first.

    Returns:
        Their places among the readable images, in order.
    """
    groups: dict[tuple[int, str], int] = {}
    group = np.empty(results.count, np.int64)
    is_first = np.zeros(results.count, bool)
    for place, image in enumerate(results.outlines):
        known = image.label if image.label is not None else image.top[0].index if image.top else -1
        group[place] = groups.setdefault((known, judgement(image)), len(groups))
        is_first[place] = image.index in first
    drawn = np.random.default_rng(SEED).permutation(len(group))
    drawn = drawn[np.argsort(~is_first[drawn], kind="stable")]
    by_group = drawn[np.argsort(group[drawn], kind="stable")]
    starts = np.searchsorted(group[by_group], np.arange(len(groups)))
    turn = np.empty(len(group), np.int64)
    turn[by_group] = np.arange(len(group)) - starts[group[by_group]]
    turn[is_first] = -1
    chosen = drawn[np.argsort(turn[drawn], kind="stable")][:count]
    return sorted(chosen.tolist())


def _named(results: Results, path: Path) -> list[int]:
    """Return the places of the images in a list, in the order of the run.

    Raises:
        InputError: no such list, or names in it that no readable image has.
    """
    if not path.is_file():
        raise InputError(
            f"images: expected a number or a list of file names, got {str(path)!r}, which is no "
            "file. Write one name a line, as the report shows it."
        )
    if path.stat().st_size > MAX_LIST_BYTES:
        raise InputError(
            f"images: expected a list of file names, got {path.stat().st_size:,} bytes."
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"images: expected UTF-8 in {str(path)!r}, got {error.reason}.") from error
    wanted = dict.fromkeys(line.strip() for line in lines if line.strip())
    places = []
    for place, image in enumerate(results.readable):
        if image.file in wanted:
            places.append(place)
            del wanted[image.file]
    if wanted or not places:
        names = ", ".join(map(repr, [*wanted][:MAX_UNKNOWN])) or "no name"
        more = f" and {len(wanted) - MAX_UNKNOWN:,} more" if len(wanted) > MAX_UNKNOWN else ""
        raise InputError(
            f"images: expected names of images that could be read, got {names}{more} in "
            f"{str(path)!r}. Names are those of the report, relative to the run's INPUT."
        )
    return places


def _shown(results: Results, places: Sequence[int]) -> Shown:
    indices = [results.outlines[place].index for place in places]
    return Shown(results.entries(indices), places, results.count)
