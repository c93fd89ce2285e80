"""Reports that lie in a folder of data: written small, read back, opened and served."""

import base64
import json
import os
import shutil
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page

from camreport.methods import METHODS
from camreport.report.heatmap import quantise
from camreport.results.reader import load_results
from helpers import browser
from helpers.browser import pixels_of
from helpers.pictures import heat_pixels

KB, MB = 1024, 1024 * 1024

in_browser = pytest.mark.skipif(
    not browser.required() and browser.chromium() is None, reason="no Chromium here"
)

Visit = Callable[..., Page]
"""Opens a report's folder, or an address."""


def twin(report: Path, out: Path) -> Path:
    """Return another report's folder with the same results."""
    out.mkdir(parents=True)
    shutil.copytree(report / "results", out / "results", copy_function=os.link)
    return out


def copied(report: Path, out: Path) -> Path:
    """Return a report's folder of one's own, with all that the report has but its results."""
    shutil.copytree(report, out, ignore=shutil.ignore_patterns("results"))
    shutil.copytree(report / "results", out / "results", copy_function=os.link)
    return out


def contents(out: Path) -> dict[str, bytes]:
    """Return a report's files by name, without its results."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and "results" not in path.relative_to(out).parts
    }


def is_folder(out: Path) -> bool:
    """Say which layout a report has; fails if it has something of both."""
    apart = (out / "data/report.js").is_file()
    assert apart == (out / "data").exists()
    assert apart == ('src="data/camreport.js"' in (out / "index.html").read_text("utf-8"))
    return apart


def size_of(where: Path, *patterns: str) -> int:
    """Return the bytes of files."""
    return sum(
        file.stat().st_size
        for pattern in patterns
        for file in where.rglob(pattern)
        if file.is_file()
    )


def cell(name: str) -> str:
    return f'#view .cell[data-id="{name}"]:not(.truth *)'


def at_a_glance(out: Path, image: int, method: str, layer: str) -> str:
    """Return which map of an image the overview shows: that of the predicted class."""
    return f"{image}.{load_results(out).images[image].top[0].index}.{method}.{layer}"


def drawn(page: Page, name: str) -> NDArray[np.uint8]:
    """Bring a map into view and return its canvas's pixels."""
    browser.draw(page, f"{cell(name)} .frame")
    return pixels_of(page, f"{cell(name)} canvas.heat")


def reference(
    out: Path,
    name: str,
    *,
    side: int = 224,
    photo_side: int = 448,
    cap: int | None = None,
    **look: Any,
) -> NDArray[np.uint8]:
    """Return what Python draws for a map ``IMAGE.RANK.METHOD.LAYER``."""
    image, rank, method, layer = name.split(".", 3)
    results = load_results(out)
    cam = results.arrays(int(image))[f"{method}/{layer}"][int(rank)]
    if cap is not None and max(cam.shape) > cap:
        cam = cv2.resize(cam, (cap, cap), interpolation=cv2.INTER_AREA)
    photo = Image.open(BytesIO(results.photo(int(image))))
    photo.thumbnail((photo_side, photo_side))
    height, width = (
        int(length * side / max(photo.size) + 0.5) for length in (photo.height, photo.width)
    )
    return heat_pixels(quantise(cam, METHODS[method].values == "signed"), height, width, **look)


@contextmanager
def served(out: Path, headers: Mapping[str, str]) -> Iterator[str]:
    """Serve a folder at 127.0.0.1; yield the address of its page."""

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/favicon.ico":  # browsers ask for one by themselves
                self.send_response(204)
                self.end_headers()
            else:
                super().do_GET()

        def end_headers(self) -> None:
            for name, value in headers.items():
                self.send_header(name, value)
            super().end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(out)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/index.html"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def chunk(out: Path, name: str) -> Any:
    """Return the content of a chunk."""
    text = (out / "data" / f"{name}.js").read_text("utf-8")
    head = f'camreport("{name}", '
    assert text.startswith(head)
    return json.loads(text[len(head) :].rstrip().removesuffix(");"))


def cells_of(image: Any, deflated: bool = True) -> Any:
    """Return the entries of an image's maps."""
    packed = base64.b64decode(image["maps"])
    if deflated:
        packed = zlib.decompress(packed, wbits=-15)
    return json.loads(packed[4 : 4 + int.from_bytes(packed[:4], "little")])["cells"]
