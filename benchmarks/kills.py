"""Kill runs at random moments, on every engine; completed, their results equal one run's.

Each round starts a run, waits until a random number of its shards is finished and then for a random
part of the time of one more, and sends SIGKILL to the run, to one of its workers, or to a node of
its cluster. The same command is given again, here or on the same engine, until it completes.

    python benchmarks/kills.py 30
"""

import argparse
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from engines import (
    ENGINES,
    Case,
    cluster_for,
    losses,
    make_case,
    results_of,
    shards_of,
    undisturbed,
)

MAX_AGAIN = 5
"""Times that the same command is given again until it completes."""

MAX_SECONDS = 400
"""Seconds within which every run ends, killed or not."""


def killed(
    case: Case, engine: str, out: Path, shards: int, seconds: float, chance: random.Random
) -> tuple[str, int]:
    """Start a run and kill something of it.

    Args:
        case: what is run.
        engine: the engine.
        out: folder of the report.
        shards: number of finished shards to wait for.
        seconds: to wait further.
        chance: what draws the victim.

    Returns:
        What was killed, and how many shards were finished then.
    """
    with cluster_for(engine) as cluster:
        driver = case.start(engine, out)
        while len(shards_of(out)) < shards and driver.poll() is None:
            time.sleep(0.002)
        time.sleep(seconds)
        there = losses(driver.pid, cluster)
        victim = chance.choice([*there])
        finished, ended = len(shards_of(out)), driver.poll() is not None
        there[victim]()
        driver.communicate(timeout=MAX_SECONDS)
    return "nothing: it had ended" if ended else victim, finished


def completed(case: Case, engine: str, out: Path) -> int:
    """Give the same command until it completes; return how often."""
    with cluster_for(engine):
        for again in range(1, MAX_AGAIN + 1):
            driver = case.start(engine, out)
            _, said = driver.communicate(timeout=MAX_SECONDS)
            if driver.returncode == 0 and (out / "results/manifest.json").exists():
                return again
    raise AssertionError(f"{engine}: it does not complete: {said.decode()[-500:]}")


def main(rounds: int, seed: int, engines: Sequence[str]) -> None:
    """Kill, complete and compare, round by round."""
    chance = random.Random(seed)
    when = Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        case = make_case(Path(folder), images=192, shard=8)
        total = len(case.shards)
        undisturbed(case, "here", case.folder / "whole")
        whole = results_of(case.folder / "whole")
        usual = {name: undisturbed(case, name, case.folder / f"u{name}")[1] for name in engines}
        print("| round | engine | killed | shards finished | completed on | commands | equal |")
        print("|---|---|---|---|---|---|---|")
        for number in range(rounds):
            engine, out = engines[number % len(engines)], case.folder / f"{number}"
            moment = chance.randrange(total), chance.uniform(0, usual[engine])
            what, finished = killed(case, engine, out, *moment, chance)
            when["before the first shard" if not finished else "between two shards"] += (
                finished < total
            )
            when["after the last shard"] += finished == total
            then = chance.choice(["here", engine])
            again = completed(case, then, out)
            same = results_of(out) == whole
            print(
                f"| {number + 1} | {engine} | {what} | {finished} of {total} | {then} | {again} | "
                f"{'yes' if same else 'NO'} |",
                flush=True,
            )
            assert same
    print(", ".join(f"{count} {moment}" for moment, count in when.items() if count))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rounds", type=int, nargs="?", default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engines", nargs="*", default=[*ENGINES])
    given = parser.parse_args()
    main(given.rounds, given.seed, given.engines)
