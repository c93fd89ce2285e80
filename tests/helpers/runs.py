"""``camreport.run`` on a tiny model, and what a run leaves."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import camreport
from camreport.images.preprocessing import Preprocessing
from camreport.messages import Message
from camreport.models.loaded import LoadedModel, wrap_module
from camreport.pipeline.records import Summary
from camreport.pipeline.run_plan import ShardLimits

Arrays = dict[str, NDArray[np.generic]]


LAYERS = {"features.0": (4, 8, 10), "features.2": (6, 4, 5)}


QUICK = ("grad_cam", "layer_cam", "hires_cam")
"""Methods of one forward pass and one backward pass per class; the first is signed, one fuses."""


BY_TWO = ShardLimits(shard_images=2)
"""Shards cover two inputs each."""

PROBED = 1
"""Images that go through the model before the first shard: a new run plans from one."""

FREE = ("command", "versions", "device", "cost")
"""Fields of the manifest that may differ between two equal runs."""


class Tiny(nn.Module):
    """A small classifier of 32 × 40 images that counts the images of its forward passes.

    Only photographs count: standardised, their values stay below 2.7 in size, and those of the
    noise with which a run probes a model do not.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 5, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 6, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(120, 16), nn.Tanh(), nn.Linear(16, classes)
        )
        self.batches: list[int] = []
        self.factor = 1.0
        self.most = 1000
        self.error: BaseException = torch.OutOfMemoryError()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, or run out of memory as asked."""
        if float(x.detach().abs().max()) < 2.7:
            self.batches.append(len(x))
        if len(x) > self.most:
            raise self.error
        return self.head(self.features(x)) * self.factor


def tiny(classes: int = 2, seed: int = 0) -> LoadedModel:
    """Return a Tiny with fixed weights, ready for ``run``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        loaded = wrap_module(Tiny(classes).eval())
    return replace(loaded, preprocessing=Preprocessing(size=(32, 40)))


def run(inputs: object, out: Path | str, model: LoadedModel | None = None, **options) -> Summary:
    """Run on a Tiny, at both its layers, quick methods, no evidence unless told otherwise."""
    given = {"layers": ["0", "2"], "methods": QUICK, "evidence": "off", **options}
    return camreport.run(inputs, out, model=model or tiny(), **given)


def run_by_two(
    inputs: object, out: Path | str, model: LoadedModel | None = None, **options
) -> Summary:
    """Run with shards of two inputs each, unless other limits are given."""
    return run(inputs, out, model, **{"limits": BY_TWO, **options})


def images_computed(inputs: Path, out: Path, **options: object) -> int:
    """Run by two; return how many photographs went through the model."""
    model = tiny()
    run_by_two(inputs, out, model, **options)
    return sum(model.module.batches)


def write_images(folder: Path, count: int = 7) -> Path:
    """Fill a folder with ``count`` random photographs of different sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        random = np.random.default_rng(index)
        pixels = random.integers(0, 256, (30 + index, 50 - index, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02}.png")
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of seven photographs."""
    return write_images(tmp_path / "photos")


def interrupt_after(count: int) -> Callable[[int], None]:
    """Return a progress callback that interrupts once ``count`` inputs are done."""
    done = 0

    def progress(more: int) -> None:
        nonlocal done
        done += more
        if done >= count:
            raise KeyboardInterrupt

    return progress


def fail(*_given: object, **_options: object) -> None:
    """Stand in for a step that is never reached because the process was killed."""
    raise KeyboardInterrupt


def manifest_of(out: Path) -> dict:
    """Return the manifest, which must be valid JSON: no NaN, no Infinity."""
    text = (out / "results" / "manifest.json").read_text(encoding="utf-8")
    return json.loads(text, parse_constant=fail)


def lasting(out: Path) -> dict:
    """Return what two equal runs must have in common in their manifests."""
    return {key: value for key, value in manifest_of(out).items() if key not in FREE}


def shards_of(out: Path) -> dict[str, Arrays]:
    """Return the arrays of every shard by file name."""
    shards = {}
    for path in sorted((out / "results").glob("shard-*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            shards[path.name] = dict(arrays)
    return shards


def images_of(out: Path) -> dict[int, Arrays]:
    """Return every image's arrays by its index; ``photo`` has the bytes of its photograph."""
    images = {}
    for shard in shards_of(out).values():
        photo, offsets = shard.pop("photo"), shard.pop("photo_offsets")
        for row, index in enumerate(shard["image"]):
            images[int(index)] = {key: array[row] for key, array in shard.items()}
            images[int(index)]["photo"] = photo[offsets[row] : offsets[row + 1]]
    return images


def npz_of(out: Path) -> dict[str, bytes]:
    """Return the bytes of every shard's arrays by file name."""
    return {path.name: path.read_bytes() for path in (out / "results").glob("*.npz")}


def worded(told: object) -> str:
    """Return a message of a JSON file in English."""
    return str(Message.from_json(told))


def files_of(out: Path) -> dict[str, bytes]:
    """Return all files below a folder."""
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def assert_same_maps(one: Path, two: Path) -> None:
    """Check that two runs have the same arrays for the same images, whatever the shards."""
    ours, theirs = images_of(one), images_of(two)
    assert ours.keys() == theirs.keys()
    for index in ours:
        assert ours[index].keys() == theirs[index].keys()
        for key, array in ours[index].items():
            np.testing.assert_allclose(array, theirs[index][key], rtol=1e-5, atol=1e-6)


PER_IMAGE = 4 + 6
"""Masked images that Score-CAM takes for one input of a Tiny."""


def loaded(module: nn.Module, size: tuple[int, int] = (32, 40), seed: int = 0) -> LoadedModel:
    """Return a module with random weights, ready for ``run``."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)
    return replace(wrap_module(module.eval()), preprocessing=Preprocessing(size=size))


NOISY = {"methods": "grad_cam,smooth_grad_cam_plus_plus,layer_cam", "smooth": "noise,aug"}
