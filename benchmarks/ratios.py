"""Measure camreport's times as ratios and print them as one Markdown table.

A ratio of two times taken in turn says what an absolute time on a busy machine cannot. The
contenders alternate round by round; printed are the medians of both sides, their ratio, and
the range of the rounds' own ratios. Before any time is taken, every contender's maps are compared
with ours: a benchmark of different results would measure nothing.

    python benchmarks/ratios.py [--quick] [--memory] [--device cuda] [--strict]
"""

import argparse
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import torch
from contenders import PEERS, TARGETS, bare_maps, bare_passes, deviation, our_maps
from PIL import Image
from torch import Tensor
from torchvision.models import AlexNet, alexnet

import camreport

INPUTS = Path(__file__).resolve().parent.parent / "inputs"

TASK = "3 images × 2 classes × 5 layers × {Grad-CAM, LayerCAM}"

TOLERANCE = 1e-5
"""Largest deviation from our raw map, as part of its peak, that is still the same map."""

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

Times = dict[str, list[float]]
"""Milliseconds of every round, by contender."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: what is measured, and which way round the ratio is.
        ours: our side of it, in milliseconds unless it names a unit.
        other: the other side.
        value: what the bar is for; None if it was not measured.
        spread: the same of every round.
        bar: the limit; None if the row is there for information.
        sign: whether the bar is the least or the most.
        note: stands in place of a value that is missing.
    """

    what: str
    ours: str = "–"
    other: str = "–"
    value: float | None = None
    spread: Sequence[float] = ()
    bar: float | None = None
    sign: Literal["≥", "≤"] = "≤"
    note: str = "–"

    @property
    def verdict(self) -> str:
        """``met``, ``missed``, or a dash if there is nothing to judge."""
        if self.bar is None or self.value is None:
            return "–"
        met = self.value >= self.bar if self.sign == "≥" else self.value <= self.bar
        return "met" if met else "missed"

    def __str__(self) -> str:
        """Return the line in Markdown."""
        value = self.note if self.value is None else digits(self.value)
        if len(self.spread) > 1:
            value += f" ({digits(min(self.spread))}–{digits(max(self.spread))})"
        bar = "–" if self.bar is None else f"{self.sign} {self.bar:g}"
        return f"| {self.what} | {self.ours} | {self.other} | {value} | {bar} | {self.verdict} |"


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        device: ``cpu`` or ``cuda``.
        rounds: of the short measurements.
        long_rounds: of the long ones.
    """

    device: str
    rounds: int
    long_rounds: int


def measure(contenders: Mapping[str, Callable[[], object]], rounds: int, device: str) -> Times:
    """Time every contender once in each round; whoever calls has warmed them up.

    Their order is drawn anew for each round (seeded): who comes after whom matters, for caches
    and for the memory that the allocator holds.
    """
    times: Times = {name: [] for name in contenders}
    draw = random.Random(0)
    for _ in range(rounds):
        for name in draw.sample(list(contenders), len(contenders)):
            synchronise(device)
            start = time.perf_counter()
            contenders[name]()
            synchronise(device)
            times[name].append((time.perf_counter() - start) * 1000)
    return times


def synchronise(device: str) -> None:
    """Wait until the device has finished what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def compare(
    what: str,
    ours: Sequence[float],
    other: Sequence[float],
    bar: float | None,
    sign: Literal["≥", "≤"] = "≤",
) -> Row:
    """Return the row of two contenders: ``≥`` divides the other's times by ours, ``≤`` ours."""
    dividend, divisor = (other, ours) if sign == "≥" else (ours, other)
    return Row(
        what,
        digits(statistics.median(ours)),
        digits(statistics.median(other)),
        statistics.median(dividend) / statistics.median(divisor),
        [a / b for a, b in zip(dividend, divisor, strict=True)],
        bar,
        sign,
    )


def digits(value: float) -> str:
    """Return a number in digits that mean something: 0.974, 1.04, 32.6, 4,322."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def verify(name: str, found: float) -> float:
    """Return a deviation that is small enough.

    Raises:
        SystemExit: it is not: the times would belong to different maps.
    """
    if not found <= TOLERANCE:
        sys.exit(f"{name}: maps deviate by {found:.1e} of their peak, more than {TOLERANCE:.0e}")
    return found


def build_model(device: str) -> AlexNet:
    """Build torchvision's AlexNet, 4,096 wide, with two classes and seeded random weights."""
    torch.manual_seed(0)
    return alexnet(num_classes=len(TARGETS)).eval().to(device)


def build_images(count: int, device: str) -> Tensor:
    """Draw a batch of seeded noise, ``(N, 3, 224, 224)``."""
    return torch.randn(count, 3, 224, 224, generator=torch.Generator().manual_seed(1)).to(device)


def installed(distribution: str) -> str | None:
    """Return the version of an installed distribution."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


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
    model = build_model(settings.device).requires_grad_(False)
    images = build_images(count, settings.device)
    ours = our_maps(model, images)
    worst = max(
        verify("bare passes", deviation(bare_maps(model, images, batched), ours))
        for batched in (True, False)
    )
    times = measure(
        {
            "ours": partial(our_maps, model, images),
            "batched": partial(bare_passes, model, images, batched=True),
            "looped": partial(bare_passes, model, images, batched=False),
        },
        settings.rounds,
        settings.device,
    )
    faster = min(("batched", "looped"), key=lambda name: statistics.median(times[name]))
    return compare(
        f"engine, N = {count}, 2 classes, the same layers and methods ÷ bare passes to the same "
        f"tensors ({faster}); maps within {worst:.0g}",
        times["ours"],
        times[faster],
        bar,
    )


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


def python(*arguments: str | Path) -> str:
    """Run this Python as a process of its own; return what it printed."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def report_row(settings: Settings, folder: Path) -> Row:
    """Weigh the report of the demo with every method."""
    out = tempfile.mkdtemp(dir=folder)
    camreport.run(INPUTS, out, methods="all", device=settings.device)
    size = sum(file.stat().st_size for file in Path(out).glob("*.html")) / 1e6
    return Row("report of `inputs` with `--methods all`", f"{digits(size)} MB", value=size, bar=1.5)


def memory_rows(folder: Path) -> Iterator[Row]:
    """Compare the peak memory of a run over 1,024 images with that over 64."""
    what = "`camreport.run` over 1,024 images ÷ over 64, peak memory"
    if not Path("/proc/self/status").exists():
        yield Row(what, bar=1.1, note="needs Linux")
        return
    peaks = []
    for count in (1024, 64):
        images = folder / f"images-{count}"
        images.mkdir()
        write_copies(images, count)
        printed = python("-c", PEAK_MEMORY, images, tempfile.mkdtemp(dir=folder))
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


def rows(settings: Settings, memory: bool) -> Iterator[Row]:
    """Measure row after row."""
    yield from peer_rows(settings)
    yield bare_row(settings, 16, 1.15)
    yield bare_row(settings, 3, None)
    yield from size_rows(settings)
    with tempfile.TemporaryDirectory() as folder:
        yield process_row(settings, Path(folder))
        yield report_row(settings, Path(folder))
        if memory:
            yield from memory_rows(Path(folder))


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
    parser.add_argument("--memory", action="store_true", help="also run over 1,024 images")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a bar is missed")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device: there is no CUDA device here")
    settings = Settings(options.device, *((1, 1) if options.quick else (5, 3)))
    torch.backends.cudnn.allow_tf32 = False  # peers' maps are compared in float32
    start = time.perf_counter()
    print(describe(settings), end="\n\n")
    print("| what | ours (ms) | other (ms) | ratio | bar | |\n|---|---:|---:|---:|---:|---|")
    verdicts = []
    for row in rows(settings, options.memory):
        print(row, flush=True)
        verdicts.append(row.verdict)
    print(f"\nmeasured in {time.perf_counter() - start:.0f} s")
    return int(options.strict and "missed" in verdicts)


if __name__ == "__main__":
    sys.exit(main())
