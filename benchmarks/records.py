"""Measure what opening a run of a million images takes, with records that are made up.

The shards' arrays are left out: sidecars, numbers and manifest are what is read. Printed are the
seconds and the memory of one process that opens the run and makes its Summary and its sample.

    python benchmarks/records.py [--images 1000000] [--shard 500]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from helpers import synthetic

from camreport.report.gallery.page import DEFAULT_LIMITS, Measured
from camreport.report.gallery.shown import choose_shown
from camreport.results.reader import load_results

MEMORY, SECONDS = 500, 60
"""Budgets for a million images: MB of memory, and seconds."""


def opened(out: Path) -> dict[str, float]:
    """Open a run, make its Summary and choose its sample; return seconds and MB."""
    started, steps = time.perf_counter(), dict[str, float]()
    results = load_results(out)
    steps["open, s"] = time.perf_counter() - started
    count = len(results.outlines)
    steps["records, s"] = time.perf_counter() - started
    measured = Measured.of(results)
    measured.summary()
    steps["Summary, s"] = time.perf_counter() - started
    shown = choose_shown(measured, None, DEFAULT_LIMITS)
    steps["sample, s"] = time.perf_counter() - started
    steps["images"], steps["shown"] = count, len(shown.images)
    steps["CPU of all that, s"] = time.process_time()
    steps["memory, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return steps


def main() -> int:
    """Write the records, measure in a process of its own, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--shard", type=int, default=500, help="images in a shard; divides all")
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.open:
        print(json.dumps(opened(options.open)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        out = synthetic.write_records(Path(folder, "run"), options.images, options.shard)
        command = [sys.executable, __file__, "--open", str(out)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    print("| what | measured | budget |\n|---|---:|---:|")
    budgets = {"sample, s": SECONDS, "memory, MB": MEMORY}
    for name, value in found.items():
        print(f"| {name} | {value:,.1f} | {budgets.get(name, '')} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
