"""Measure what the Atlas of very many images takes, with results that are made up.

Printed are the seconds of processor time of one process that reads a run's numbers, arranges its
images (clusters, outliers, t-SNE up to 20,000) and renders the report, and its memory; and those of
another process that finds the arrangement kept. Images differ in 64 sets of maps.

    python benchmarks/insight.py [--images 10000 100000]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from helpers import synthetic

from camreport.insight import cache, kept
from camreport.insight.atlas import atlas_of
from camreport.report.gallery import render_gallery
from camreport.results.reader import load_results


def measured(out: Path) -> dict[str, float]:
    """Make the Atlas of a run, and its report; return seconds, MB and files read."""
    results, reads = load_results(out), [0]
    count = len(results.outlines)
    read = cache.read_numbers
    started = time.process_time()

    def counted(*given: object) -> object:
        reads[0] += 1
        return read(*given)  # type: ignore[arg-type]

    with mock.patch.object(cache, "read_numbers", counted):
        atlas_of(results)
    steps = {
        "images": float(count),
        "Atlas, s": time.process_time() - started,
        "passes over the numbers": reads[0] / -(-count // synthetic.IN_SHARD),
        "Atlas, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    started = time.process_time()
    render_gallery(out, layout="folder", images="500")
    steps["report of 500 of them, s"] = time.process_time() - started
    steps["memory, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return steps


def main() -> int:
    """Write results, measure in processes of their own, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.open:
        print(json.dumps(measured(options.open)))
        return 0
    found = []
    for count in options.images:
        with tempfile.TemporaryDirectory() as folder:
            out = synthetic.write_results(Path(folder, "run"), count, photo_side=96)
            command = [sys.executable, __file__, "--open", str(out)]
            for state in ("new", "kept"):
                told = subprocess.run(command, check=True, capture_output=True).stdout
                found.append({"arrangement": state, **json.loads(told)})
            assert (out / "results" / kept.NAME).exists()
    print("| " + " | ".join(found[0]) + " |")
    print("|---|" + "---:|" * (len(found[0]) - 1))
    for own in found:
        values = (each if isinstance(each, str) else f"{each:,.1f}" for each in own.values())
        print("| " + " | ".join(values) + " |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
