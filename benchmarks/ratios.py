"""Measure camreport's times as ratios and print them as one Markdown table.

A ratio of two times taken in turn says what an absolute time on a busy machine cannot. The
contenders alternate round by round; printed are the medians of both sides, their ratio, and
the range of the rounds' own ratios. Before any time is taken, every contender's maps are compared
with ours: a benchmark of different results would measure nothing.

    python benchmarks/ratios.py [--quick] [--only bare,score] [--memory] [--device cuda] [--strict]
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import evidence
import further
import torch
from contenders import (
    EIGEN_PAIR,
    GRADIENT_METHODS,
    PAIR,
    PEERS,
    READS,
    bare_maps,
    bare_passes,
    deviation,
    our_maps,
)
from measuring import (
    LOOSE_TOLERANCE,
    TOLERANCE,
    Row,
    Settings,
    build_images,
    build_model,
    compare,
    digits,
    installed,
    measure,
    python,
    verify,
)
from PIL import Image

import camreport
from camreport.engine.explainer import Explainer
from camreport.insight.numbers import measure as measure_maps
from camreport.methods import METHODS
from camreport.results.schema import LOGITS, TARGETS, MapKey

INPUTS = Path(__file__).resolve().parent.parent / "inputs"

TASK = "3 images × 2 classes × 5 layers × {Grad-CAM, LayerCAM}"

APART = {
    "gradient_x_activation": "one map per channel",
    "full_grad": "down to the pixels",
    "finer_cam": "one more backward pass per class",
    "guided_backprop": "passes of its own, down to the pixels",
    "smooth_grad_cam_plus_plus": "four noisy copies",
}
"""Methods made of gradients whose time is another matter, with the reason."""

SIZES = (8, 16, 32, 64, 256)
"""Numbers of images; the fastest per image among them is what the large ones are held to."""

PEAK_MEMORY = """
import re, sys, camreport
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
peaks = []
camreport.run(sys.argv[1], sys.argv[2], device="cpu", progress=lambda _: peaks.append(peak()))
print(peaks[-1], peak())
"""
"""A process of its own that prints the most KiB it held until the last map, and at the end."""


def peer_rows(settings: Settings) -> Iterator[Row]:
    """Compare with the libraries that compute the same maps."""
    model, images = build_model(settings.device), build_images(3, settings.device)
    ours = our_maps(model, images)
    contenders: dict[str, Callable[[], object]] = {"ours": partial(our_maps, model, images)}
    worst = {}
    for peer in PEERS:
        if installed(peer.distribution):
            found = deviation(peer.maps(model, images), ours, peer.rectified)
            worst[peer.distribution] = verify(peer.distribution, found)
            contenders[peer.distribution] = partial(peer.maps, model, images)
    times = measure(contenders, settings.rounds, settings.device)
    for peer in PEERS:
        name = peer.distribution
        label = f"{name} {installed(name) or ''}".strip()
        what = f"{TASK}: {label} ({peer.how}) ÷ ours"
        if name not in times:
            yield Row(what, bar=peer.bar, sign="≥", note="not installed")
            continue
        what += f"; maps within {worst[name]:.0g}"
        yield compare(what, times["ours"], times[name], peer.bar, "≥")


def bare_row(settings: Settings, count: int, bar: float | None) -> Row:
    """Compare the engine with the faster of the bare passes."""
    (row,) = shared_rows(settings, count, {"the same layers and methods": (PAIR, bar)})
    return row


def shared_rows(
    settings: Settings, count: int, bars: Mapping[str, tuple[Sequence[str], float | None]]
) -> Iterator[Row]:
    """Compare the engine with the faster of the bare passes, for several sets of methods.

    Args:
        settings: how to measure.
        count: of images.
        bars: the methods of each set and their bar, by what the set is called.
    """
    model = build_model(settings.device).requires_grad_(False)
    images = build_images(count, settings.device)
    contenders: dict[str, Callable[[], object]] = {
        "batched": partial(bare_passes, model, images, batched=True),
        "looped": partial(bare_passes, model, images, batched=False),
    }
    worst = {}
    for name, (methods, _) in bars.items():
        ours = our_maps(model, images, methods)
        tolerance = LOOSE_TOLERANCE if set(EIGEN_PAIR) & set(methods) else TOLERANCE
        worst[name] = max(
            verify(name, deviation(bare_maps(model, images, batched, methods), ours), tolerance)
            for batched in (True, False)
        )
        contenders[name] = partial(our_maps, model, images, methods)
    times = measure(contenders, settings.rounds, settings.device)
    faster = min(("batched", "looped"), key=lambda name: statistics.median(times[name]))
    for name, (_, bar) in bars.items():
        yield compare(
            f"engine, N = {count}, 2 classes, {name} ÷ bare passes to the same tensors ({faster}); "
            f"maps within {worst[name]:.0g}",
            times[name],
            times[faster],
            bar,
        )


def family_rows(settings: Settings, count: int) -> Iterator[Row]:
    """Compare every method made of gradients with the faster of the bare passes.

    Those that take passes of their own, or their passes further down, are counted apart.
    """
    six, every = GRADIENT_METHODS, (*GRADIENT_METHODS, *EIGEN_PAIR)
    yield from shared_rows(
        settings,
        count,
        {
            f"5 layers, the {len(six)} gradient methods": (six, 1.3),
            "5 layers, those, Eigen-CAM and EigenGradCAM": (every, 3),
        },
    )
    model = build_model(settings.device).requires_grad_(False)
    images = build_images(count, settings.device)
    contenders: dict[str, Callable[[], object]] = {
        "bare": partial(bare_passes, model, images, batched=False)
    }
    for method in APART:
        contenders[method] = partial(our_maps, model, images, (method,))
        contenders[method]()
    times = measure(contenders, settings.long_rounds, settings.device)
    for method, remark in APART.items():
        what = f"engine, N = {count}, 2 classes, {METHODS[method].name} alone ({remark})"
        yield compare(f"{what} ÷ bare passes", times[method], times["bare"], None)


def size_rows(settings: Settings) -> Iterator[Row]:
    """Compare the time per image of large calls with that of the best size."""
    model = build_model(settings.device).requires_grad_(False)
    images = build_images(max(SIZES), settings.device)
    our_maps(model, images[:64])
    contenders = {str(size): partial(our_maps, model, images[:size]) for size in SIZES}
    times = measure(contenders, settings.long_rounds, settings.device)
    per_image = {name: [t / int(name) for t in total] for name, total in times.items()}
    best = min(per_image, key=lambda name: statistics.median(per_image[name]))
    for name in ("64", "256"):
        what = f"engine, time per image at N = {name} ÷ the best N of {SIZES}: {best}"
        yield compare(what, per_image[name], per_image[best], 1.15)


def numbers_row(settings: Settings, count: int) -> Row:
    """Compare measuring the maps of one shard, as its writer does, with computing them."""
    model = build_model(settings.device).requires_grad_(False)
    images = build_images(count, settings.device)
    found = camreport.explain(model, images, list(READS), PAIR, targets=[0, 1])
    arrays = {
        str(MapKey(method, layer)): maps.cpu().numpy()
        for method, by_layer in found.maps.items()
        for layer, maps in by_layer.items()
    }
    arrays |= {LOGITS: found.logits.cpu().numpy(), TARGETS: found.targets.cpu().numpy()}
    contenders: dict[str, Callable[[], object]] = {
        "numbers": partial(measure_maps, arrays, "softmax"),
        "engine": partial(our_maps, model, images),
    }
    times = measure(contenders, settings.rounds, settings.device)
    what = f"numbers of the maps of {count} images, on one core ÷ engine, the default methods"
    return compare(what, times["numbers"], times["engine"], 0.05)


def numbers_rows(settings: Settings) -> Iterator[Row]:
    """Measure what every shard's numbers cost."""
    yield numbers_row(settings, 64)


def vectors_row(settings: Settings, count: int) -> Row:
    """Compare the engine that keeps channels' contributions with one that does not."""
    model = build_model(settings.device).requires_grad_(False)
    images, layers = build_images(count, settings.device), list(READS)
    apart = camreport.explain(model, images, layers[-1:], "gradient_x_activation", [0, 1])
    ((layer, maps),) = apart.maps["gradient_x_activation"].items()
    explainers = {
        name: Explainer(model, layers, PAIR, contributions=kept, input_shape=images.shape[1:])
        for name, kept in (("with", layers), ("without", None))
    }
    sums = {(layer, "sums"): maps.sum((-2, -1))}
    with explainers["with"] as kept, explainers["without"] as none:
        found = {(layer, "sums"): kept.explain(images, [0, 1]).contributions[layer]}
        worst = verify("contributions", deviation(found, sums))
        contenders: dict[str, Callable[[], object]] = {
            "with": partial(kept.explain, images, [0, 1]),
            "without": partial(none.explain, images, [0, 1]),
        }
        measure(contenders, 1, settings.device)
        times = measure(contenders, settings.rounds, settings.device)
    what = (
        f"engine, N = {count}, 2 classes, 5 layers, with the channels' contributions at {layer} ÷ "
        f"without; within {worst:.0g} of the summed maps"
    )
    return compare(what, times["with"], times["without"], 1.05)


def vectors_rows(settings: Settings) -> Iterator[Row]:
    """Measure what channels' contributions cost."""
    yield vectors_row(settings, 16)


def process_row(settings: Settings, folder: Path) -> Row:
    """Compare the whole command with a process that only imports torch."""

    def command() -> None:
        out = tempfile.mkdtemp(dir=folder)
        python("-m", "camreport", "run", INPUTS, "-o", out, "--quiet", "--device", settings.device)

    imports = partial(python, "-c", "import torch, torchvision")
    contenders: dict[str, Callable[[], object]] = {"ours": command, "imports": imports}
    measure(contenders, 1, settings.device)
    times = measure(contenders, settings.rounds, settings.device)
    what = "`camreport run inputs` as a process ÷ `python -c 'import torch, torchvision'`"
    return compare(what, times["ours"], times["imports"], 2)


def report_row(settings: Settings, folder: Path) -> Row:
    """Weigh the report of the demo with every method."""
    out = tempfile.mkdtemp(dir=folder)
    camreport.run(INPUTS, out, methods="all", device=settings.device)
    size = sum(file.stat().st_size for file in Path(out).glob("*.html")) / 1e6
    return Row("report of `inputs` with `--methods all`", f"{digits(size)} MB", value=size, bar=1.5)


def memory_rows(settings: Settings) -> Iterator[Row]:
    """Compare the peak memory of a run over 1,024 images with that over 64."""
    what = "`camreport.run` over 1,024 images ÷ over 64, peak memory"
    if not Path("/proc/self/status").exists():
        yield Row(what, bar=1.1, note="needs Linux")
        return
    peaks = []
    for count in (1024, 64):
        with tempfile.TemporaryDirectory() as images, tempfile.TemporaryDirectory() as out:
            write_copies(Path(images), count)
            printed = python("-c", PEAK_MEMORY, images, out)
        peaks.append([int(kibibytes) / 1024 for kibibytes in printed.split()])
    for until, bar, (many, few) in zip(
        ("until the last map", "report included"),
        (1.1, None),
        zip(*peaks, strict=True),
        strict=True,
    ):
        sides = f"{digits(many)} MiB", f"{digits(few)} MiB"
        yield Row(f"{what} {until}", *sides, value=many / few, bar=bar)


def write_copies(folder: Path, count: int) -> None:
    """Write small copies of the demo's photographs, ``count`` in all."""
    photos = [Image.open(path).convert("RGB") for path in sorted(INPUTS.glob("*.jpg"))]
    for photo in photos:
        photo.thumbnail((256, 256))
    for number in range(count):
        photos[number % len(photos)].save(folder / f"{number:04}.jpg", quality=85)


def report_rows(settings: Settings) -> Iterator[Row]:
    """Measure the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        yield process_row(settings, Path(folder))
        yield report_row(settings, Path(folder))


def bare_rows(settings: Settings) -> Iterator[Row]:
    """Compare the two default methods with the bare passes."""
    yield bare_row(settings, 16, 1.15)
    yield bare_row(settings, 3, None)


SECTIONS: dict[str, Callable[[Settings], Iterator[Row]]] = {
    "peers": peer_rows,
    "bare": bare_rows,
    "sizes": size_rows,
    "gradients": partial(family_rows, count=32),
    "score": further.score_rows,
    "ablation": further.ablation_rows,
    "recipro": further.recipro_rows,
    "evidence": evidence.evidence_rows,
    "numbers": numbers_rows,
    "vectors": vectors_rows,
    "report": report_rows,
    "memory": memory_rows,
}
"""Parts of the table by the names that ``--only`` takes; memory only when asked for."""


def describe(settings: Settings) -> str:
    """Return the line that says what was measured on."""
    cuda = f" ({torch.cuda.get_device_name()})" if settings.device == "cuda" else ""
    return (
        f"camreport {camreport.__version__}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads, {os.cpu_count()} cores, "
        f"{platform.processor() or platform.machine()}, {platform.system()}, "
        f"device {settings.device}{cuda}; AlexNet with random weights, float32; "
        f"rounds: {settings.rounds}, for the time per image {settings.long_rounds}"
    )


def main() -> int:
    """Print the table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round of each, to try it out")
    parser.add_argument("--only", help=f"some of {','.join(SECTIONS)}")
    parser.add_argument("--memory", action="store_true", help="also run over 1,024 images")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a bar is missed")
    options = parser.parse_args()
    usual = [name for name in SECTIONS if name != "memory" or options.memory]
    sections = options.only.split(",") if options.only else usual
    if unknown := set(sections) - set(SECTIONS):
        parser.error(f"--only: expected some of {','.join(SECTIONS)}, got {','.join(unknown)}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device: there is no CUDA device here")
    settings = Settings(options.device, *((1, 1) if options.quick else (5, 3)))
    torch.backends.cudnn.allow_tf32 = False  # peers' maps are compared in float32
    start = time.perf_counter()
    print(describe(settings), end="\n\n")
    print("| what | ours (ms) | other (ms) | ratio | bar | |\n|---|---:|---:|---:|---:|---|")
    verdicts = []
    for section in sections:
        for row in SECTIONS[section](settings):
            print(row, flush=True)
            verdicts.append(row.verdict)
    print(f"\nmeasured in {time.perf_counter() - start:.0f} s")
    return int(options.strict and "missed" in verdicts)


if __name__ == "__main__":
    sys.exit(main())
