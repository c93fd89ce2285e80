"""The same images through every door: their arrays are equal byte for byte, their records too.

Records are compared without the command, versions, devices and cost, and without the times or tags
of the inputs, which a disk and object storage have in their own ways. The object storage is a
server on this machine (moto), the network is small.

    python benchmarks/doors.py 2000
"""

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from engines import ENGINES, Case, lasting, make_case

BUCKET = "camreport"
OPTIONS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}

DOORS = {
    "here": ("here", "", ""),
    "--workers 2": ("workers", "", ""),
    "four parts": ("four parts", "", ""),
    "--on ray:local": ("ray:local", "", ""),
    "results on S3": ("here", f"s3://{BUCKET}/out", ""),
    "images on S3": ("here", "", f"s3://{BUCKET}/photos"),
    "both on S3, --workers 2": ("workers", f"s3://{BUCKET}/both", f"s3://{BUCKET}/photos"),
}
"""Engine, address of the report and address of the images by name; empty for folders."""


@contextmanager
def storage() -> Iterator[Any]:
    """Serve S3 on this machine, where the environment says; give its file system."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # or every request is printed
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {**OPTIONS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    system = fsspec.filesystem("s3", use_listings_cache=False)
    system.mkdir(BUCKET)
    yield system
    server.stop()


def contents(out: str, system: Any) -> Mapping[str, object]:
    """Return the files of a run's results by name, without what may differ."""
    folder = f"{out}/results"
    there = system if out.startswith("s3://") else fsspec.filesystem("file")
    found: dict[str, object] = {}
    for path in there.find(folder):
        content, name = there.cat_file(path), path.rpartition("/")[2]
        if name.endswith(".npz"):
            found[name] = content
        elif name.endswith(".json"):
            found[name] = lasting(json.loads(content)) | {"facts": None}
    return found


def through(case: Case, door: str, system: Any) -> tuple[Mapping[str, object], float]:
    """Run through a door; return the results and the seconds."""
    engine, out, photos = DOORS[door]
    out, started = out or str(case.folder / door.replace(":", "")), time.monotonic()
    driver = case.start(engine, out, photos)
    _, said = driver.communicate()
    assert driver.returncode == 0, said.decode()
    return contents(out, system), time.monotonic() - started


def main(images: int, shard: int) -> None:
    """Print the table; exit with 1 if something differs."""
    ENGINES["four parts"] = [*({"part": f"{part}/4"} for part in (4, 2, 1, 3)), {}]
    print(f"{images:,} images in shards of {shard}; {os.cpu_count()} cores")
    print("| door | whole run | files of arrays | of records | equal |\n|---|---|---|---|---|")
    first: Mapping[str, object] | None = None
    differs = False
    with tempfile.TemporaryDirectory() as folder, storage() as system:
        case = make_case(Path(folder), images, shard)
        system.put(f"{case.folder}/photos/", f"{BUCKET}/photos/", recursive=True)
        for door in DOORS:
            found, seconds = through(case, door, system)
            first = found if first is None else first
            arrays = sum(name.endswith(".npz") for name in found)
            differs |= found != first
            print(
                f"| {door} | {seconds:.1f} s | {arrays} | {len(found) - arrays} | "
                f"{'yes' if found == first else 'NO'} |",
                flush=True,
            )
    sys.exit(int(differs))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=int, nargs="?", default=2000)
    parser.add_argument("--shard", type=int, default=64)
    given = parser.parse_args()
    main(given.images, given.shard)
