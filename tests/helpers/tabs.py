"""Tabs of a running Chromium that tests use one after another, each as if it were new.

A new tab starts processes, which costs more than what most tests do in it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from playwright.sync_api import Browser, Error, Page

from helpers.browser import KEEP_PAINTED, PATIENCE, count_work

MEDIA = {
    "media": "null",
    "color_scheme": "light",
    "reduced_motion": "no-preference",
    "forced_colors": "none",
}
"""What every tab is told of its reader unless a test says otherwise."""

Free = dict[tuple[object, ...], list[Page]]
"""Tabs that no test uses, by what cannot be changed in an open tab."""


@contextmanager
def lent(
    chromium: Browser,
    free: Free,
    *,
    width: int,
    height: int,
    counted: bool,
    fresh: bool = False,
    **options: Any,
) -> Iterator[Page]:
    """Lend an empty tab; afterwards it is emptied and free again.

    Args:
        chromium: where a tab is opened if none is free.
        free: the tabs to choose from.
        width: of the viewport, in CSS pixels.
        height: of the viewport, in CSS pixels.
        counted: the page's work is counted, see ``helpers.browser.work``.
        fresh: open a tab for this test alone, which may leave in it what it likes.
        **options: of ``Browser.new_context``.
    """
    media = MEDIA | {key: options.pop(key) for key in MEDIA if key in options}
    kind = (counted, *sorted(options.items()))
    waiting = [] if fresh else free.setdefault(kind, [])
    page = waiting.pop() if waiting else _new(chromium, counted, options)
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(**media)  # type: ignore[arg-type]
    try:
        yield page
    finally:
        if fresh or not _emptied(page):
            page.context.close()
        else:
            waiting.append(page)


@contextmanager
def heard(
    page: Page, said: Callable[[str], object], asked: Callable[[str], object]
) -> Iterator[None]:
    """Hand on what a page says, uncaught errors among it, and the addresses it asks for."""
    listeners: dict[Any, Callable[[Any], object]] = {
        "console": lambda message: said(message.text),
        "pageerror": lambda error: said(str(error)),
        "request": lambda request: asked(request.url),
    }
    for event, listener in listeners.items():
        page.on(event, listener)
    try:
        yield
    finally:
        for event, listener in listeners.items():
            page.remove_listener(event, listener)


def begin_history(page: Page) -> None:
    """Let the history of a tab begin with the page that it shows."""
    session = page.context.new_cdp_session(page)
    session.send("Page.resetNavigationHistory")
    session.detach()


def _new(chromium: Browser, counted: bool, options: dict[str, Any]) -> Page:
    context = chromium.new_context(**options)
    context.set_default_timeout(1000 * PATIENCE)
    context.add_init_script(f"({KEEP_PAINTED})()")
    page = context.new_page()
    if counted:
        count_work(page)
    return page


def _emptied(page: Page) -> bool:
    """Leave nothing of a test in its tab, and say whether that went well."""
    if page.is_closed():
        return False
    with suppress(Error):
        for other in page.context.pages:
            if other is not page:
                other.close()
        page.evaluate("localStorage.clear()")
        page.goto("about:blank")
        page.mouse.move(0, 0)
        return True
    return False
