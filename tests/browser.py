"""Find a Chromium and open reports in it; run as a script, say whether there is one."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, sync_playwright

Open = Callable[..., Page]
"""Opens the report in a folder."""

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str | None:
    """Return the path of an installed Chromium, the system's or Playwright's own."""
    names = ("chromium", "chromium-browser", "google-chrome")
    for name in names:
        if path := shutil.which(name):
            return path
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def required() -> bool:
    """Say whether a missing browser is a failure: in continuous integration it is."""
    return os.environ.get("CI") == "true"


@contextmanager
def launched() -> Iterator[Browser]:
    """Run a headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def canvas_pixels(page: Page, selector: str) -> NDArray[np.uint8]:
    """Return a canvas's RGBA pixels ``(H, W, 4)``."""
    width, height, values = page.eval_on_selector(
        selector,
        """canvas => {
            const copy = new OffscreenCanvas(canvas.width, canvas.height);
            const context = copy.getContext("2d", {willReadFrequently: true});
            context.drawImage(canvas, 0, 0);
            const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
            return [canvas.width, canvas.height, Array.from(pixels.data)];
        }""",
    )
    return np.array(values, np.uint8).reshape(height, width, 4)


def draw(page: Page, cell: str) -> None:
    """Bring a cell into view and wait until it is drawn."""
    page.eval_on_selector(cell, "cell => cell.scrollIntoView({behavior: 'instant'})")
    page.wait_for_selector(f"{cell}[data-drawn]")


if __name__ == "__main__":
    sys.exit(0 if chromium() else 1)
