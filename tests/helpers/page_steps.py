"""Steps of a reader through a page."""

import io

from PIL import Image
from playwright.sync_api import Page

from camreport.report.heatmap import (
    QuantisedCam,
    quantise,
)
from camreport.results.reader import Results


def enter(page: Page, link: str) -> None:
    """Enter a state in the address, and wait until the page has taken it."""
    page.evaluate(
        """async link => {
            const before = location.href;
            location.hash = link;
            if (location.href !== before)
                await new Promise(done => addEventListener("hashchange", done, {once: true}));
        }""",
        link,
    )


def go(page: Page, state: str, view: str) -> None:
    """Follow a link to a state and wait for its view."""
    enter(page, state)
    page.wait_for_selector(f"#view .view-{view}")


def unfold(page: Page, popover: str) -> None:
    """Open a popover of the bar, ``appearance`` or ``menu``, unless it is open."""
    page.eval_on_selector(f"#{popover}", "e => e.matches(':popover-open') || e.showPopover()")


def fold(page: Page) -> None:
    """Close the popovers that are open."""
    page.eval_on_selector_all(":popover-open", "all => all.forEach(e => e.hidePopover())")


def fields(page: Page) -> dict[str, str]:
    """Return the state in the address."""
    pairs: list[list[str]] = page.evaluate("[...new URLSearchParams(location.hash.slice(1))]")
    return dict(pairs)


def texts(page: Page, selector: str) -> list[str]:
    """Return the text of every element found, with plain spaces for those that do not break."""
    found: list[str] = page.eval_on_selector_all(selector, "all => all.map(e => e.textContent)")
    return [text.replace("\xa0", " ") for text in found]


def focused(page: Page) -> str:
    """Return what has the focus, by the name that the page gives it."""
    name = page.evaluate("document.activeElement.dataset.focus ?? document.activeElement.id")
    return str(name)


def cam_of(results: Results, pin: str) -> QuantisedCam:
    image, rank, method, layer = pin.split(".", 3)
    cams = results.arrays(int(image))[f"{method}/{layer}"]
    return quantise(cams[int(rank)], method == "hires_cam")


def photo_size(results: Results, image: int) -> tuple[int, int]:
    """Return height and width of the photograph in the page."""
    with Image.open(io.BytesIO(results.photo(image))) as photo:
        return photo.height, photo.width
