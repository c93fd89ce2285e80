"""Reports on small models, and the cells of their matrix."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Page

import camreport
from helpers.browser import pixels_of, settle
from helpers.checkout import INPUTS
from helpers.page_steps import enter

LAYERS = ("features.0", "features.3", "features.6", "features.9", "features.12")


METHOD_KEYS = ("grad_cam", "layer_cam", "hires_cam")


Pixels = NDArray[np.uint8]


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo photographs' report, with true classes and channels, under an odd name.

    Not to be changed.
    """
    out = tmp_path_factory.mktemp("gallery") / "my report – größe 你好 #1%20"
    labels = {"both.jpg": "cat", "cat.jpg": "cat"}
    camreport.run(INPUTS, out, methods=METHOD_KEYS, labels=labels, channels=["10"])
    return out


def ready(page: Page) -> Page:
    """Wait until a page's view and its open map are there."""
    page.wait_for_selector("#view > .view", state="attached")
    if "open=" in page.evaluate("location.hash"):
        page.wait_for_selector("#cell[open] #probe")
    return page


def show(page: Page, link: str) -> Page:
    """Follow a link within an open report."""
    enter(page, link)
    settle(page)
    return page


def cell(image: int, rank: int, method: str, layer: str) -> str:
    """Return the selector of the cell with that map."""
    return f'#view .cell[data-id="{image}.{rank}.{method}.{layer}"]:not(.truth *)'


def drawn(page: Page, selector: str, canvas: str = "heat") -> Pixels:
    """Bring a cell into view and return its canvas's pixels in the present look."""
    page.wait_for_selector(selector, state="attached")
    page.eval_on_selector(selector, "e => e.scrollIntoView({behavior: 'instant'})")
    page.wait_for_selector(f"{selector} .frame[data-drawn]")
    settle(page)
    return pixels_of(page, f"{selector} canvas.{canvas}")


def facts_of(page: Page) -> dict[str, str]:
    """Return what the open map's list of facts says."""
    rows = page.eval_on_selector_all(
        "#facts > div", "all => all.map(e => [...e.children].map(part => part.textContent))"
    )
    return {name: value for name, value in rows}
