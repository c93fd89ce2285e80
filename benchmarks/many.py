"""Measure `camreport run` of very many photographs: seconds against the bare passes, and memory.

The photographs are made up: noise with soft shapes, 200 × 150 pixels, no two alike. Memory is that
of the run's own process, read every few seconds; it should not grow with the photographs. Bare
passes are one forward and two backwards at the best of three batches, of some of the inputs.

    python benchmarks/many.py [N]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from measuring import digits
from PIL import Image

import camreport

SIDE = (200, 150)
BARE = 64
"""Inputs of the bare passes."""

READINGS = 200
"""Readings of the memory, at least, if each photograph takes 10 ms."""


def write_photographs(folder: Path, count: int) -> None:
    """Write photographs of shapes and noise, 1,000 in a folder."""
    random = np.random.default_rng(0)
    for index in range(count):
        coarse = random.integers(0, 256, (6, 8, 3), np.uint8)
        soft = np.asarray(Image.fromarray(coarse).resize(SIDE, Image.Resampling.BICUBIC), np.int16)
        noisy = (soft + random.integers(-12, 13, soft.shape)).clip(0, 255).astype(np.uint8)
        path = folder / f"{index // 1000:03d}" / f"{index:06d}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noisy).save(path, quality=85)


def bare_seconds() -> float:
    """Return the seconds of the bare passes of one image, at the best batch."""
    loaded = camreport.load_model("catdog-alexnet")
    module = loaded.module.eval()
    kept = [layer for layer in module.modules() if isinstance(layer, torch.nn.Conv2d)]
    inputs, best = torch.rand(BARE, 3, 224, 224), float("inf")
    for batch in (8, 16, 32):
        started = time.perf_counter()
        for part in inputs.split(batch):
            outputs: list[torch.Tensor] = []
            hooks = [
                layer.register_forward_hook(lambda _, __, output, kept=outputs: kept.append(output))
                for layer in kept
            ]
            logits = module(part.requires_grad_())
            for hook in hooks:
                hook.remove()
            for column in (0, 1):
                torch.autograd.grad(logits[:, column].sum(), outputs, retain_graph=not column)
        best = min(best, (time.perf_counter() - started) / BARE)
    return best


def memory(process: int) -> float:
    """Return the MB that a process has in memory."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def run(command: Sequence[str], pause: float) -> tuple[float, list[float]]:
    """Run a command; return its seconds and its memory as it went on."""
    started, found = time.perf_counter(), list[float]()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            found.append(memory(process.pid))
            time.sleep(pause)
    assert process.returncode == 0, f"exit {process.returncode}"
    return time.perf_counter() - started, [own for own in found if own]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("count", type=int, nargs="?", default=20_000, metavar="N")
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as folder:
        photographs, out = Path(folder, "photographs"), Path(folder, "out")
        photographs.mkdir()
        write_photographs(photographs, count)
        before = bare_seconds()
        start, _ = run([sys.executable, "-c", "import torch"], 1)
        command = [sys.executable, "-m", "camreport", "run", str(photographs), "-o", str(out)]
        pause = max(0.5, count / READINGS / 100)
        seconds, of_run = run([*command, "--quiet", "--evidence", "off"], pause)
        rendering, _ = run([sys.executable, "-m", "camreport", "render", str(out)], pause)
        results = sum(file.stat().st_size for file in (out / "results").iterdir())
        data = sum(file.stat().st_size for file in (out / "data").rglob("*") if file.is_file())
        bare = min(before, bare_seconds())
    third = len(of_run) // 3 or 1
    middle, last = (sorted(of_run[at : at + third])[third // 2] for at in (third, 2 * third))
    print(f"| {count:,} photographs of 200 × 150 | |\n|---|---:|")
    for what, value in (
        ("camreport run, s", seconds),
        ("of it the report, as `camreport render`, s", rendering),
        ("bare passes, s", bare * count),
        ("run ÷ (start + bare passes)", seconds / (start + bare * count)),
        (
            "run without the report ÷ (start + bare passes)",
            (seconds - rendering) / (start + bare * count),
        ),
        ("memory in the second third of the run, median MB", middle),
        ("memory in the last third, median MB", last),
        ("memory, most, MB", max(of_run)),
        ("results, MB", results / 2**20),
        ("report, MB", data / 2**20),
    ):
        print(f"| {what} | {digits(value)} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
