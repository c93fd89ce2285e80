"""The numbers of a run's evidence, shard after shard, of the maps that a scope is about.

Whose maps those are: each image's predicted class's, or those of one class that all images explain.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camreport.insight.cache import numbered_images
from camreport.metrics.values import Undefined, Values
from camreport.results.evidence import NumberKey
from camreport.results.reader import Results
from camreport.results.schema import TARGETS
from camreport.results.shards import read_shard, shard_number

MAX_CLASSES = 10
"""Most explained classes of which each is a scope of its own."""

PREDICTED = "predicted"
"""Key of the scope of the images' predicted classes."""


@dataclass(frozen=True)
class Scope:
    """Whose maps numbers are about.

    Attributes:
        key: ``predicted``, or ``class:`` and an index.
        target: index of the class; None for each image's predicted one.
        slot: its place among the explained classes of each image; None likewise.
    """

    key: str
    target: int | None = None
    slot: int | None = None


@dataclass(frozen=True)
class Block:
    """The numbers of n images, or of the n cells of some collages, in S scopes.

    Attributes:
        keys: of the C numbers.
        values: float32 ``(S, C, n)``, NaN where there is none.
        reasons: uint8 ``(S, C, n)``, values of ``Undefined``; ``NOT_MEASURED`` also where the class
            is not explained.
        images: int64 ``(n,)``, indices of the images.
    """

    keys: tuple[NumberKey, ...]
    values: NDArray[np.float32]
    reasons: NDArray[np.uint8]
    images: NDArray[np.int64]


def scopes_of(results: Results) -> tuple[Scope, ...]:
    """Return the predicted class's scope, and each class's where all images explain the same few.

    Raises:
        ResultsError: a shard is missing or damaged.
    """
    predicted, root = Scope(PREDICTED), results.path.parent
    common: tuple[int, ...] | None = None
    for shard in dict.fromkeys(image.shard for image in results.outlines if image.shard):
        explained = read_shard(results.path / shard, root, {TARGETS}).get(TARGETS, np.zeros((0, 0)))
        for targets in {tuple(own) for own in explained.tolist()}:
            if len(targets) > MAX_CLASSES or targets != (common := common or targets):
                return (predicted,)
    each = (Scope(f"class:{own}", own, slot) for slot, own in enumerate(common or ()))
    return (predicted, *each)


def shard_blocks(results: Results, scopes: Sequence[Scope]) -> Iterator[Block]:
    """Yield the numbers of each shard's readable images.

    Raises:
        ResultsError: a file of evidence is missing or damaged.
    """
    for numbers, images in numbered_images(results):
        evidence = results.shard_evidence(shard_number(images[0].shard or ""))
        if evidence is not None and evidence.numbers:
            slots = [
                numbers.slot if one.slot is None else np.full_like(numbers.slot, one.slot)
                for one in scopes
            ]
            yield _block(evidence.numbers, slots, [image.index for image in images])


def collage_blocks(results: Results, scopes: Sequence[Scope]) -> Iterator[Block]:
    """Yield the numbers of the cells of the run's collages: each is of its own image's class.

    Raises:
        ResultsError: the file of collages is damaged.
    """
    collages = results.collages()
    if collages is None or not collages.numbers:
        return
    target = collages.target.ravel()
    slots = [
        np.where((one.target is None) | (target == one.target), 0, -1).astype(np.int64)
        for one in scopes
    ]
    cells = {
        key: Values(own.numbers.reshape(-1, 1), own.reasons.reshape(-1, 1))
        for key, own in collages.numbers.items()
    }
    yield _block(cells, slots, collages.image.ravel().tolist())


def _block(
    numbers: Mapping[NumberKey, Values],
    slots: Sequence[NDArray[np.int64]],
    images: Sequence[int],
) -> Block:
    """Return numbers of the slots of each scope; -1 for no slot."""
    values = np.stack([own.numbers for own in numbers.values()])
    reasons = np.stack([own.reasons for own in numbers.values()])
    rows = np.arange(len(images))
    picked = np.stack([values[:, rows, slot] for slot in slots])
    why = np.stack([reasons[:, rows, slot] for slot in slots])
    absent = np.stack([slot < 0 for slot in slots])[:, None]
    return Block(
        keys=(*numbers,),
        values=np.where(absent, np.float32(np.nan), picked),
        reasons=np.where(absent, np.uint8(Undefined.NOT_MEASURED), why),
        images=np.array(images, np.int64),
    )
