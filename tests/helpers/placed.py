"""Results of images whose maps and whose channels' contributions are given."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from camreport.results.reader import Results, load_results
from camreport.results.schema import Totals
from camreport.results.shards import pack_photos, shard_name, sidecar_name
from helpers import synthetic

LAYER = "a"
METHOD = "grad_cam"


def write_placed(
    out: Path,
    maps: NDArray[np.float32],
    classes: Sequence[int],
    vectors: NDArray[np.float32] | None = None,
    labels: Sequence[int | None] | None = None,
    in_shard: int = 16,
) -> Results:
    """Write ``OUT/results`` of images with one map each, of the predicted class; return them.

    Args:
        out: the folder of the report.
        maps: ``(n, h, h)``.
        classes: which of the two classes each is predicted as.
        vectors: ``(n, 8)``, the contributions of the channels; None if they are not kept.
        labels: true classes; the predicted ones if None.
        in_shard: images in a shard.
    """
    folder = out / "results"
    folder.mkdir(parents=True)
    (folder / ".camreport").write_text("{}")
    photo = synthetic._photo(np.random.default_rng(0), 0, 32)
    pack, offsets = pack_photos([synthetic._jpeg(photo)])
    images = []
    for index, own in enumerate(classes):
        logits = np.array([3, -3] if own == 0 else [-3, 3], np.float32)
        entry = synthetic._entry(index, photo, logits)
        label = own if labels is None else labels[index]
        shard, row = divmod(index, in_shard)
        images.append(replace(entry, label=label, shard=shard_name(shard), row=row))
    for number, first in enumerate(range(0, len(classes), in_shard)):
        few = slice(first, first + in_shard)
        count = len(classes[few])
        arrays = {
            f"{METHOD}/{LAYER}": np.repeat(maps[few, None], 2, 1).astype(np.float32),
            "logits": np.array([[3, -3], [-3, 3]], np.float32)[classes[few]],
            "targets": np.tile(np.arange(2), (count, 1)),
            "image": np.arange(first, first + count),
            "photo": np.tile(pack, count),
            "photo_offsets": np.arange(count + 1) * int(offsets[-1]),
        }
        if vectors is not None:
            own = np.repeat(vectors[few, None], 2, 1).astype(np.float32)
            arrays[f"channel_contributions/{LAYER}"] = own
        np.savez(folder / shard_name(number), **arrays)
        sidecar = synthetic._sidecar(images[few])
        synthetic._write_json(folder / sidecar_name(number), sidecar)
    manifest = synthetic.manifest_of((METHOD,), {LAYER: maps.shape[-1]}, images)
    manifest = replace(
        manifest,
        contributions=None if vectors is None else manifest.layers[0],
        totals=Totals(images=len(images), failed=0, shard_length=in_shard),
    )
    synthetic._write_json(folder / "manifest.json", manifest)
    return load_results(out)


def spots(places: Sequence[tuple[int, int]], seed: int = 0, side: int = 14) -> NDArray[np.float32]:
    """Return maps with a bright spot about a place each, and faint noise, ``(n, side, side)``."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    found = [np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 4) for row, column in places]
    noise = random.uniform(0, 0.04, (len(places), side, side))
    return (np.array(found) + noise).astype(np.float32)
