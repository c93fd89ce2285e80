"""Maps of true classes that a shard does not explain: a function of plan, shard and labels."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from camreport.engine.explainer import Explainer
from camreport.engine.inputs import model_inputs
from camreport.errors import InputError
from camreport.images.inputs import InputFile
from camreport.images.loading import LoadedImage
from camreport.images.preprocessing import Preprocessing
from camreport.messages import Message
from camreport.messages.progress import Progress
from camreport.pipeline.run_plan import RunPlan, as_messages
from camreport.pipeline.shard import Decoded, Part, batches, cost_of, joined_arrays
from camreport.results.costs import TotalCost
from camreport.results.schema import (
    FEATURE_MAPS,
    IMAGE,
    LOGITS,
    ImageEntry,
    MapKey,
    TrueImage,
)
from camreport.results.shards import Arrays


@dataclass(frozen=True)
class TrueMaps:
    """The maps of true classes beside a shard.

    Attributes:
        arrays: arrays of the m images, by key: maps ``(m, 1, h, w)``, ``image`` and ``targets``.
        cost: the cost of the computation.
        findings: notes for the reader that result from these images.
    """

    arrays: Arrays
    cost: TotalCost
    findings: tuple[Message, ...]


def unexplained(images: Sequence[ImageEntry], targets: NDArray[np.int64]) -> tuple[TrueImage, ...]:
    """Return the images whose true class is known and not among their explained ones.

    Args:
        images: records of a shard's inputs, with labels.
        targets: the classes explained in the readable ones, ``(n, K)``.
    """
    found = []
    for image in images:
        if image.label is None or image.row is None or image.sha256 is None:
            continue
        if image.label not in targets[image.row]:
            found.append(TrueImage(index=image.index, sha256=image.sha256, target=image.label))
    return tuple(found)


def compute_true_maps(
    plan: RunPlan,
    explainer: Explainer,
    preprocessing: Preprocessing,
    files: Sequence[InputFile],
    images: Sequence[TrueImage],
    decoded: Iterable[Decoded],
    progress: Progress = lambda inputs: None,
) -> TrueMaps:
    """Explain each image's true class, batch by batch.

    Args:
        plan: the plan of the run.
        explainer: the explainer of the methods to compute; each looks at a class.
        preprocessing: the model's.
        files: all inputs of the run.
        images: the images of one shard, with their true classes.
        decoded: these images, in order; consumed batch by batch.
        progress: called with the number of newly finished images.

    Raises:
        InputError: an image has changed, or cannot be read any more.
        ClassError, LayerError, MemoryLimitError, ModelError: as for ``explain``.
    """
    started = time.perf_counter()
    parts: list[Part] = []
    left = iter(images)
    for batch in batches(decoded, plan.batch):
        wanted = [next(left) for _ in batch]
        pixels = [
            unchanged(files[index], image, own.sha256)
            for (index, image), own in zip(batch, wanted, strict=True)
        ]
        targets = torch.tensor([[own.target] for own in wanted])
        inputs = model_inputs(pixels, preprocessing, explainer.device)
        parts.append(Part.of(explainer(inputs, targets)))
        progress(len(batch))
    arrays = {
        name: array
        for name, array in joined_arrays(parts).items()
        if name != LOGITS and not name.startswith(f"{FEATURE_MAPS}/")
    }
    arrays[IMAGE] = np.array([image.index for image in images], dtype=np.int64)
    findings = dict.fromkeys(note for part in parts for note in as_messages(part.findings))
    cost = cost_of([part.costs for part in parts], time.perf_counter() - started)
    return TrueMaps(arrays, cost, tuple(findings))


def without_methods(arrays: Arrays, methods: set[str]) -> Arrays:
    """Return the arrays of a file without the maps of some methods, by key."""
    return {
        name: array
        for name, array in arrays.items()
        if (key := MapKey.parse(name)) is None or key.method not in methods
    }


def unchanged(file: InputFile, image: object, sha256: str | None) -> NDArray[np.uint8]:
    """Return an image's pixels, or raise if the image differs from the one that was explained.

    Raises:
        InputError: the image has changed, or cannot be read any more.
    """
    if isinstance(image, LoadedImage) and image.sha256 == sha256:
        return image.pixels
    raise InputError(
        f"input: expected {file.name!r} as it was explained, but it has changed since, or cannot "
        "be read any more. Run the same command again: finished shards stay."
    )
