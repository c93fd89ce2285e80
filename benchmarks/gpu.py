"""Measure the engine and a whole run on a GPU, as ratios, and print them as one Markdown table.

It needs no more than camreport itself does, without torchvision, so that a bare checkout serves:

    PYTHONPATH=. python benchmarks/gpu.py [--images 2000] [--rounds 5] [--device cuda]

``--device cpu`` tries the script on a machine without a GPU; its numbers say nothing about one.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from measuring import Row, Settings, compare, digits, measure, verify
from PIL import Image
from torch import Tensor, nn

import camreport
from camreport.engine.explainer import Explainer
from camreport.engine.inputs import model_inputs
from camreport.engine.transfer import Transfer
from camreport.images.loading import LoadedImage, decode_ahead
from camreport.images.search import find_images
from camreport.models import LoadedModel
from camreport.settings import EXACT, PRECISIONS, TF32

LAYERS = ("features.0", "features.3", "features.6", "features.9", "features.12")
"""The bundled AlexNet's default layers."""

READ = (1, 4, 7, 9, 12)
"""Where their activations are read: behind the ReLU that follows a convolution."""

BATCHES = (16, 64, 256, 512)
PHOTOGRAPH = (500, 375)
MAX_DEVIATION = 1e-4
"""Largest deviation of our maps from the bare passes', as a fraction of the largest value."""


def bare_passes(model: nn.Module, images: Tensor, batched: bool) -> tuple[list[Tensor], ...]:
    """Return activations and, by layer, gradients of both classes: one forward, two backwards."""
    wanted: list[Tensor] = []
    value = images
    for place, part in enumerate(model.features):
        value = part(value)
        if place in READ:
            if not wanted:
                value.requires_grad_()
            wanted.append(value)
    logits = model.classifier(torch.flatten(model.avgpool(value), 1))
    rows = torch.eye(2, device=images.device)[:, None].expand(2, len(images), 2)
    if batched:
        return wanted, list(torch.autograd.grad(logits, wanted, rows, is_grads_batched=True))
    first = torch.autograd.grad(logits, wanted, rows[0], retain_graph=True)
    second = torch.autograd.grad(logits, wanted, rows[1])
    return wanted, [torch.stack(pair) for pair in zip(first, second, strict=True)]


def engine_rows(loaded: LoadedModel, settings: Settings) -> Iterator[Row]:
    """Compare the engine with the faster of the bare passes, at several batches."""
    for count in BATCHES:
        images = torch.randn(count, 3, 224, 224, device=settings.device)
        with Explainer(loaded, LAYERS, ("grad_cam", "layer_cam"), batch_size=count) as explainer:
            explained = explainer(images, "all")
            contenders: dict[str, Callable[[], object]] = {
                "ours": partial(explainer, images, "all"),
                "looped": partial(bare_passes, loaded.module, images, False),
                "batched": partial(bare_passes, loaded.module, images, True),
            }
            activations, gradients = bare_passes(loaded.module, images, batched=False)
            cams = torch.einsum("knc,nchw->nkhw", gradients[4].mean((-2, -1)), activations[4])
            ours = explained.maps["grad_cam"]["features.12"]
            gap = float((ours - cams.detach()).abs().amax() / cams.detach().abs().amax())
            verify("bare", gap, MAX_DEVIATION)
            for run in contenders.values():
                run()
            times = measure(contenders, settings.rounds, settings.device)
        faster = min(("looped", "batched"), key=lambda name: statistics.median(times[name]))
        what = f"engine ÷ bare passes ({faster}), N = {count}; maps within {gap:.0g}"
        yield compare(what, times["ours"], times[faster], 1.15)


def precision_rows(loaded: LoadedModel, settings: Settings, count: int = 256) -> Iterator[Row]:
    """Compare the time of each precision with the exact one's, and say how far its maps are."""
    images = torch.randn(count, 3, 224, 224, device=settings.device)
    usable = [p for p in PRECISIONS if p != TF32 or settings.device == "cuda"]
    found, contenders = {}, {}
    for precision in usable:
        explainer = Explainer(
            loaded, LAYERS[-1:], "grad_cam", batch_size=count, precision=precision
        )
        found[precision] = explainer(images, "all").maps["grad_cam"]["features.12"]
        contenders[precision] = partial(explainer, images, "all")
    times = measure(contenders, settings.rounds, settings.device)
    peak = found[EXACT].abs().amax()
    for precision in usable[1:]:
        gap = float((found[precision] - found[EXACT]).abs().amax() / peak)
        what = f"{precision} ÷ exact, N = {count}; Grad-CAM within {gap:.1g} of the largest value"
        yield compare(what, times[precision], times[EXACT], None)


def waits_row(loaded: LoadedModel, settings: Settings, count: int = 64) -> Row:
    """Count how often the CPU waits for the GPU in a batch, its maps' arrival included."""
    what = f"waits of the CPU for the GPU in a batch, N = {count}"
    if settings.device != "cuda":
        return Row(what, bar=3, note="no GPU")
    pixels = [np.zeros((224, 224, 3), np.uint8)] * count
    with Explainer(loaded, LAYERS, ("grad_cam", "layer_cam"), batch_size=count) as explainer:
        for _ in range(2):  # the first call sets up what the second is counted without
            torch.cuda.set_sync_debug_mode("warn")
            try:
                with warnings.catch_warnings(record=True) as said:
                    warnings.simplefilter("always")
                    inputs = model_inputs(pixels, loaded.preprocessing, explainer.device)
                    maps = explainer(inputs, [0, 1]).maps
                    Transfer({"grad_cam": maps["grad_cam"]["features.12"]}).arrays()
            finally:
                torch.cuda.set_sync_debug_mode("default")
    found = sum("synchronizing CUDA operation" in str(one.message) for one in said) + 2
    return Row(what, str(found), "–", float(found), bar=3)


def write_photographs(folder: Path, count: int) -> None:
    """Write JPEG files of smooth noise."""
    random = np.random.default_rng(0)
    for number in range(count):
        small = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize(PHOTOGRAPH, Image.Resampling.BICUBIC)
        image.save(folder / f"{number:05}.jpg", quality=85)


def timed(run: Callable[[], object]) -> float:
    """Return how long something takes, in milliseconds."""
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1000


def until_maps(photos: Path, out: Path, **options: object) -> float:
    """Return the time of a run until its last map is computed, in milliseconds."""
    start, last = time.perf_counter(), [0.0]

    def progress(_inputs: float) -> None:
        last[0] = time.perf_counter()

    camreport.run(photos, out, evidence="off", progress=progress, layout="folder", **options)
    return (last[0] - start) * 1000


def run_rows(loaded: LoadedModel, settings: Settings, photos: Path, out: Path) -> Iterator[Row]:
    """Compare a run up to its last map with the slower of decoding and engine."""
    files = find_images([photos])
    decoded: list[LoadedImage] = []

    def decode() -> None:
        decoded[:] = [
            image
            for _, image in decode_ahead(files, range(len(files)), loaded.preprocessing)
            if isinstance(image, LoadedImage)
        ]

    decoding = timed(decode)
    with Explainer(loaded, LAYERS, ("grad_cam", "layer_cam")) as explainer:
        explainer.probe(torch.zeros(1, 3, 224, 224), "all")
        size = explainer.batch_size

        def explain() -> None:
            for start in range(0, len(decoded), size):
                pixels = [image.pixels for image in decoded[start : start + size]]
                inputs = model_inputs(pixels, loaded.preprocessing, explainer.device)
                maps = explainer(inputs, [0, 1]).maps
                named = {f"{m}/{n}": cams for m, own in maps.items() for n, cams in own.items()}
                Transfer(named).arrays()

        explain()
        engine = timed(explain)
    until_maps(photos, out / "first", device=settings.device)
    wall = until_maps(photos, out / "second", device=settings.device)
    slower = "decoding" if decoding > engine else "engine"
    what = (
        f"run of {len(files)} photographs until the last map ÷ the slower ({slower}), batch {size}"
    )
    yield compare(what, [wall], [max(decoding, engine)], 1.25)
    yield Row(f"decoding {digits(decoding)} ms, engine {digits(engine)} ms")
    cards = torch.cuda.device_count()
    workers = max(2, cards)
    several = until_maps(photos, out / "several", device=settings.device, workers=workers)
    yield compare(f"run by --workers {workers} on {cards} GPU ÷ by one", [several], [wall], None)


def table(settings: Settings, images: int) -> Iterator[Row]:
    """Yield every row."""
    loaded = camreport.load_model("catdog-alexnet")
    loaded.module.to(settings.device)
    for parameter in loaded.module.parameters():
        parameter.requires_grad_(False)
    yield waits_row(loaded, settings)
    yield from engine_rows(loaded, settings)
    yield from precision_rows(loaded, settings)
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        photos.mkdir()
        write_photographs(photos, images)
        yield from run_rows(loaded, settings, photos, Path(folder))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    asked = parser.parse_args(arguments)
    if asked.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured")
        return
    card = torch.cuda.get_device_name() if asked.device == "cuda" else "CPU"
    print(f"torch {torch.__version__}, {card}, median of {asked.rounds}, milliseconds\n")
    print("| what | ours | other | ratio | bar | |\n|---|---|---|---|---|---|")
    for row in table(Settings(asked.device, asked.rounds, asked.rounds), asked.images):
        print(row, flush=True)


if __name__ == "__main__":
    main()
