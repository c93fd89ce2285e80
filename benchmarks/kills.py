"""Kill runs at random moments, on every engine; completed, their results equal one run's.

Each round starts a run, sends SIGKILL to it or to a process of its own at a random moment, and runs
the same command again, here or on the same engine, until it completes.

    python benchmarks/kills.py 30
"""

import argparse
import random
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from engines import ENGINES, Case, children_of, make_case, results_of

MAX_AGAIN = 5
"""Times that the same command is given again until it completes."""


def killed(case: Case, engine: str, out: Path, moment: float, chance: random.Random) -> str:
    """Start a run, kill it or a process of its own after a while, and say what was killed."""
    driver = case.start(engine, out)
    end = time.monotonic() + moment
    while time.monotonic() < end and driver.poll() is None:
        time.sleep(0.01)
    own = [*children_of(driver.pid)]
    victim = chance.choice([driver.pid, *own])
    what = "the run" if victim == driver.pid else "a process of its own"
    finished = len(results_of(out)) if out.exists() else 0
    try:
        subprocess.run(["kill", "-9", str(victim)], check=True, capture_output=True)
    except subprocess.CalledProcessError:
        what = "nothing: it had ended"
    driver.communicate()
    return f"{what}, with {finished} files"


def completed(case: Case, engine: str, out: Path) -> int:
    """Give the same command until it completes; return how often."""
    for again in range(1, MAX_AGAIN + 1):
        driver = case.start(engine, out)
        _, said = driver.communicate()
        if driver.returncode == 0 and (out / "results/manifest.json").exists():
            return again
    raise AssertionError(f"{engine}: it does not complete: {said.decode()[-500:]}")


def main(rounds: int, seed: int, engines: Sequence[str]) -> None:
    """Kill, complete and compare, round by round."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        case = make_case(Path(folder), images=24, shard=2)
        started = time.monotonic()
        completed(case, "here", case.folder / "whole")
        usual = {"here": time.monotonic() - started}
        whole = results_of(case.folder / "whole")
        for number in range(rounds):
            engine = engines[number % len(engines)]
            out = case.folder / f"{number}"
            if engine not in usual:
                started = time.monotonic()
                completed(case, engine, case.folder / engine.replace(":", "-"))
                usual[engine] = time.monotonic() - started
            moment = chance.uniform(0.1, 1) * usual[engine]
            what = killed(case, engine, out, moment, chance)
            then = chance.choice(["here", engine])
            again = completed(case, then, out)
            same = results_of(out) == whole
            print(
                f"{number + 1:3} {engine:10} {moment:5.1f} s: {what}; completed {then} after "
                f"{again}: {'equal' if same else 'DIFFERENT'}",
                flush=True,
            )
            assert same


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rounds", type=int, nargs="?", default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engines", nargs="*", default=[*ENGINES])
    given = parser.parse_args()
    main(given.rounds, given.seed, given.engines)
