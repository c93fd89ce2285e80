"""Results folders of any number of images, written in moments and without torch."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camreport.images.preprocessing import Preprocessing
from camreport.insight.cache import keep_numbers
from camreport.messages import message
from camreport.report.gallery import DEFAULT_LIMITS, folder, render_gallery
from camreport.report.gallery.records import Detail, ImageRecord, image_record
from camreport.results.costs import Cost, TotalCost
from camreport.results.reader import Results, load_results, softmax
from camreport.results.schema import (
    MAX_INLINE,
    SCHEMA,
    ClassEntry,
    Fusion,
    ImageEntry,
    LayerEntry,
    Manifest,
    MapKey,
    ModelEntry,
    Prediction,
    Sidecar,
    Structure,
    Totals,
)
from camreport.results.shards import (
    Arrays,
    numbers_name,
    pack_photos,
    shard_name,
    sidecar_name,
    stack_arrays,
)

INPUTS = Path(__file__).resolve().parents[2] / "inputs"
CLASSES = ("cat", "dog")
GRIDS = {"features.0": 55, "features.3": 27, "features.6": 13, "features.9": 13, "features.12": 6}
"""AlexNet's layers and the cells of their maps' sides."""

SMALL = {"a": 7, "b": 5}
"""Layers of reports that are about something else than their maps."""

NINE = (
    *("grad_cam", "layer_cam", "grad_cam_plus_plus", "smooth_grad_cam_plus_plus", "xgrad_cam"),
    *("grad_cam_elementwise", "layer_cam_pool_gradient", "finer_cam", "hires_cam"),
)
FUSING = ("layer_cam", "layer_cam_pool_gradient")
IN_SHARD = 64
PHOTOS = 12
AFTER_RELU = message("network.tensor.after", activation="ReLU")


def write_results(
    out: Path,
    count: int,
    *,
    methods: Sequence[str] = ("grad_cam", "layer_cam"),
    grids: dict[str, int] | None = None,
    photo_side: int = 448,
    seed: int = 0,
) -> Path:
    """Write ``OUT/results`` of ``count`` images: 12 photographs and 64 sets of maps by turns.

    Args:
        out: the folder of the report.
        count: number of images.
        methods: keys of methods that look at a class; those that fuse have fused maps too.
        grids: cells of the side of each layer's maps; AlexNet's if None.
        photo_side: longer side of the photographs, in pixels.
        seed: of all that is drawn.

    Returns:
        ``out``.
    """
    random = np.random.default_rng(seed)
    grids = GRIDS if grids is None else grids
    results = out / "results"
    results.mkdir(parents=True)
    photos = [_photo(random, place, photo_side) for place in range(PHOTOS)]
    jpegs = [_jpeg(photo) for photo in photos]
    rows = [
        _arrays(random, photos[row % PHOTOS], methods, grids) for row in range(min(count, IN_SHARD))
    ]
    images = [
        _entry(index, photos[index % IN_SHARD % PHOTOS], rows[index % IN_SHARD]["logits"])
        for index in range(count)
    ]
    (results / ".camreport").write_text("{}")
    for shard, first in enumerate(range(0, count, IN_SHARD)):
        own = images[first : first + IN_SHARD]
        _write_shard(results, shard, rows[: len(own)], jpegs)
        _write_json(results / sidecar_name(shard), _sidecar(own))
    _write_json(results / "manifest.json", manifest_of(methods, grids, images))
    _write_numbers(out, count)
    return out


def write_records(out: Path, count: int, in_shard: int) -> Path:
    """Write the records and the numbers of ``count`` images, without photographs; shards are links.

    Args:
        out: the folder of the report.
        count: number of images, a multiple of ``in_shard``.
        in_shard: images in a shard.

    Returns:
        ``out``.
    """
    assert count % in_shard == 0
    random = np.random.default_rng(0)
    results = out / "results"
    results.mkdir(parents=True)
    (results / ".camreport").write_text("{}")
    photo = _photo(random, 0, 64)
    few = [_arrays(random, photo, ("grad_cam", "layer_cam"), GRIDS) for _ in range(IN_SHARD)]
    rows = [few[row % IN_SHARD] for row in range(in_shard)]
    images = [_entry(index, photo, rows[index]["logits"]) for index in range(in_shard)]
    images = [replace(own, shard=shard_name(0), row=row) for row, own in enumerate(images)]
    pack, offsets = pack_photos([b"-"] * in_shard)
    np.savez(
        results / shard_name(0),
        image=np.arange(in_shard),
        photo=pack,
        photo_offsets=offsets,
        **stack_arrays(rows),
    )
    manifest = manifest_of(("grad_cam", "layer_cam"), GRIDS, images)
    totals = Totals(images=count, failed=0, shard_length=in_shard)
    _write_json(results / "manifest.json", replace(manifest, totals=totals, images=()))
    for shard in range(count // in_shard):
        first = shard * in_shard
        own = [
            replace(
                image,
                index=first + row,
                shard=shard_name(shard),
                file=f"val/n{image.label:08d}/ILSVRC2012_val_{first + row:08d}.JPEG",
                top=tuple(
                    replace(one, probability=round(float(p), 6))
                    for one, p in zip(image.top, _two(random), strict=True)
                ),
            )
            for row, image in enumerate(images)
        ]
        _write_json(results / sidecar_name(shard), _sidecar(own))
        if shard:
            os.link(results / shard_name(0), results / shard_name(shard))
    keep_numbers(load_results(out), {0})
    for shard in range(1, count // in_shard):
        os.link(results / numbers_name(0), results / numbers_name(shard))
    return out


def _two(random: np.random.Generator) -> tuple[float, float]:
    first = random.uniform(0.5, 1)
    return first, 1 - first


def render_folder(out: Path) -> Path:
    """Render a report of ``write_results`` as a folder; what two images share is made once.

    Records differ in index and name alone where their rows are the same; thumbnails are links.
    What a record holds is proved with few images, by reports that are rendered whole.

    Returns:
        The path of the page.
    """
    records: dict[int, ImageRecord] = {}
    write_thumbnail = folder._write_thumbnail

    def record(results: Results, image: ImageEntry, detail: Detail) -> ImageRecord:
        assert image.row is not None
        if image.row not in records:
            records[image.row] = image_record(results, image, detail)
        own = records[image.row]
        return replace(own, data={**own.data, "index": image.index, "file": image.file})

    def thumbnail(target: Path, number: int, photo: Image.Image) -> None:
        if number < IN_SHARD:
            return write_thumbnail(target, number, photo)
        own, like = (f"{place:05d}" for place in (number, number % IN_SHARD))
        (target / "thumbs" / own[:-3]).mkdir(exist_ok=True)
        os.link(
            target / "thumbs" / like[:-3] / f"{like}.jpg",
            target / "thumbs" / own[:-3] / f"{own}.jpg",
        )
        return None

    with (
        mock.patch.object(folder, "any_record", record),
        mock.patch.object(folder, "_write_thumbnail", thumbnail),
    ):
        return render_gallery(out, layout="folder", limits=replace(DEFAULT_LIMITS, pooled=10**6))


def _write_numbers(out: Path, count: int) -> None:
    """Write the numbers of the first and of the last shard; those between are like the first."""
    results = load_results(out)
    last = (count - 1) // IN_SHARD
    keep_numbers(results, {0, last})
    for shard in range(1, last):
        os.link(results.path / numbers_name(0), results.path / numbers_name(shard))


def _write_shard(folder: Path, shard: int, rows: Sequence[Arrays], jpegs: Sequence[bytes]) -> None:
    if shard and len(rows) == IN_SHARD:
        os.link(folder / shard_name(0), folder / shard_name(shard))
        return
    photo, offsets = pack_photos([jpegs[row % PHOTOS] for row in range(len(rows))])
    np.savez(
        folder / shard_name(shard),
        image=np.arange(len(rows)),
        photo=photo,
        photo_offsets=offsets,
        **stack_arrays(rows),
    )


def _write_json(path: Path, content: Manifest | Sidecar) -> None:
    path.write_text(json.dumps(content.to_json()), encoding="utf-8")


def _jpeg(photo: Image.Image) -> bytes:
    buffer = BytesIO()
    photo.save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def _entry(index: int, photo: Image.Image, logits: NDArray[np.float32]) -> ImageEntry:
    probabilities = softmax(logits)
    return ImageEntry(
        index=index,
        file=f"{CLASSES[index % 2]}s/IMG_{index:05d}.jpg",
        sha256=hashlib.sha256(str(index).encode()).hexdigest(),
        width=3 * photo.width,
        height=3 * photo.height,
        status="ok",
        label=index % 2,
        top=tuple(
            Prediction(index=i, name=CLASSES[i], probability=round(float(probabilities[i]), 6))
            for i in np.argsort(-probabilities).tolist()
        ),
        shard=shard_name(index // IN_SHARD),
        row=index % IN_SHARD,
    )


def _photo(random: np.random.Generator, place: int, side: int) -> Image.Image:
    """Cut a part out of one of the demo photographs, upright, lying or square."""
    files = sorted(INPUTS.glob("*.jpg"))
    whole = Image.open(files[place % len(files)]).convert("RGB")
    width, height = [(4, 3), (3, 4), (4, 4)][place // len(files) % 3]
    unit = min(whole.width / width, whole.height / height) * random.uniform(0.85, 1)
    left = random.uniform(0, whole.width - unit * width)
    top = random.uniform(0, whole.height - unit * height)
    size = (side * width // 4, side * height // 4)
    box = (left, top, left + unit * width, top + unit * height)
    return whole.resize(size, Image.Resampling.LANCZOS, box)


def _arrays(
    random: np.random.Generator, photo: Image.Image, methods: Sequence[str], grids: dict[str, int]
) -> Arrays:
    """Draw one image's maps, as uneven as a network's: features of its photograph, weighted."""
    grey = np.asarray(photo.convert("L"), np.float32) / 255
    arrays: Arrays = {}
    for layer, side in grids.items():
        features = _features(random, grey, side)
        for method in methods:
            weights = random.normal(0.1, 1, (len(CLASSES), len(features)))
            maps = np.tensordot(weights, features, 1).astype(np.float32)
            arrays[str(MapKey(method, layer))] = maps * np.float32(10 ** random.uniform(-3, 0))
    largest = max(grids.values())
    for method in (key for key in methods if key in FUSING):
        lifted = [
            [
                cv2.resize(np.maximum(cam, 0), (largest, largest)) / max(float(cam.max()), 1e-6)
                for cam in arrays[f"{method}/{layer}"]
            ]
            for layer in grids
        ]
        arrays[f"{method}/fused"] = np.max(lifted, axis=0).astype(np.float32)
    arrays["logits"] = random.normal(0, 2, len(CLASSES)).astype(np.float32)
    arrays["targets"] = np.arange(len(CLASSES))
    return arrays


def _features(
    random: np.random.Generator, grey: NDArray[np.float32], side: int
) -> NDArray[np.float32]:
    """Return eight rectified channels ``(8, side, side)`` of a photograph."""
    small = cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA)
    filters = random.normal(0, 1, (8, 3, 3)).astype(np.float32)
    kernels = filters - filters.mean((1, 2), keepdims=True)
    return np.stack([np.maximum(cv2.filter2D(small, -1, kernel), 0) for kernel in kernels])


def _sidecar(images: Sequence[ImageEntry]) -> Sidecar:
    nothing = (None,) * len(images)
    return Sidecar(run="", images=(*images,), facts=nothing, cost=_cost(1), device="cpu", bytes=1)


def _cost(maps: int) -> TotalCost:
    counts = {"forwards": 1, "backwards": 2, "variants": 0, "maps": maps}
    families = {"shared": Cost(**counts, seconds=1.0)}
    return TotalCost(**counts, seconds=1.0, families=families)


def manifest_of(
    methods: Sequence[str], grids: dict[str, int], images: Sequence[ImageEntry]
) -> Manifest:
    """Return the manifest of a run."""
    return Manifest(
        schema=SCHEMA,
        command="camreport run photographs -o report",
        versions={"camreport": "0", "numpy": np.__version__},
        device="cpu",
        seed=None,
        model=ModelEntry(
            name="synthetic",
            source=message("results.text", text="no network"),
            sha256="0" * 64,
            parameters=0,
            notes=(),
        ),
        structure=Structure(printed="Synthetic()", modules=(), more=0),
        preprocessing=Preprocessing(),
        classes=tuple(ClassEntry(index=i, name=name) for i, name in enumerate(CLASSES)),
        layers=tuple(
            LayerEntry(address=layer, type="Conv2d", tensor=AFTER_RELU, shape=(8, side, side))
            for layer, side in grids.items()
        ),
        channels=(),
        methods=(*methods,),
        quantity="logit",
        activation="softmax",
        fusion=Fusion(gamma=2.0, stages=None),
        smooth=(),
        precision="exact",
        skipped=(),
        totals=Totals(images=len(images), failed=0, shard_length=IN_SHARD),
        images=(*images,) if len(images) <= MAX_INLINE else (),
        cost=_cost(len(images)),
    )
