"""Open reports in Chromium and in Firefox, check their accessibility, read their PDFs.

Run as a script, say whether there is a Chromium.
"""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, sync_playwright
from websockets.sync.client import ClientConnection, connect

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

AXE = Path(__file__).resolve().parents[2] / "node_modules/axe-core/axe.min.js"
COUNTERS = """
window.counted = {painted: 0, inflated: 0, decoded: 0};
window.idle = [];
window.requestIdleCallback = act => idle.push(act);
const put = CanvasRenderingContext2D.prototype.putImageData;
CanvasRenderingContext2D.prototype.putImageData = function (...given) {
    if (this.canvas.classList.contains("heat")) counted.painted += 1;
    return put.apply(this, given);
};
window.DecompressionStream = class extends DecompressionStream {
    constructor(format) {
        super(format);
        counted.inflated += 1;
    }
};
const decode = HTMLImageElement.prototype.decode;
HTMLImageElement.prototype.decode = function () {
    counted.decoded += 1;
    return decode.call(this);
};
"""

KEEP_PAINTED = """() => {
    const put = CanvasRenderingContext2D.prototype.putImageData;
    CanvasRenderingContext2D.prototype.putImageData = function (pixels, ...place) {
        this.canvas.painted = pixels;
        return put.call(this, pixels, ...place);
    };
}"""
"""Lets every canvas keep what is painted into it: a canvas itself rounds what is transparent."""

READ_CANVAS = """canvas => {
    const {width, height, painted} = canvas;
    const copy = new OffscreenCanvas(width, height).getContext("2d");
    copy.drawImage(canvas, 0, 0);
    const {data} = copy.getImageData(0, 0, width, height);
    const given = painted?.data ?? data;
    const off = i => Math.abs(data[i] - given[i]);
    const held = data.every((_, i) => i % 4 === 3 ? off(i) === 0 : off(i) * given[i | 3] <= 255);
    if (!held) throw new Error("the canvas does not hold what was painted into it");
    let text = "";
    for (let i = 0; i < given.length; i += 8192) {
        text += String.fromCharCode(...given.subarray(i, i + 8192));
    }
    return [width, height, btoa(text)];
}"""
"""Returns a canvas's size and the bytes painted into it, which it holds but for rounding."""

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

PREFERENCES: dict[str, bool | int | str] = {
    # WebDriver would relax some rules for pages, this one among them.
    "remote.prefs.recommended": False,
    "security.fileuri.strict_origin_policy": True,
    # No page of Firefox's own, and a proxy that is not there: nothing leaves this machine.
    "browser.aboutwelcome.enabled": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.proxy.type": 1,
    "network.proxy.socks": "127.0.0.1",
    "network.proxy.socks_port": 9,
    "network.dns.disabled": True,
}
PATIENCE = 90.0
"""Seconds that a browser may take to start, to answer or to reach a state, on a busy machine."""


def chromium() -> str | None:
    """Return the path of an installed Chromium, the system's or Playwright's own.

    The one without windows takes two thirds of the time for a page; Playwright's own is such a one.
    """
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    for name in names:
        if path := shutil.which(name):
            return path
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def required() -> bool:
    """Say whether a missing browser is a failure: in continuous integration it is."""
    return os.environ.get("CI") == "true"


def missing(program: str) -> NoReturn:
    """Skip the running test for lack of a program; in continuous integration, fail it."""
    (pytest.fail if required() else pytest.skip)(f"{program} is not installed")


@contextmanager
def launched() -> Iterator[Browser]:
    """Run a headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def pixels_of(page: Page, selector: str) -> NDArray[np.uint8]:
    """Return a canvas's RGBA pixels ``(H, W, 4)``, not premultiplied where the page keeps them."""
    return unpacked(*page.eval_on_selector(selector, READ_CANVAS))


def unpacked(width: int, height: int, packed: str) -> NDArray[np.uint8]:
    """Return the pixels ``(H, W, 4)`` that ``READ_CANVAS`` gives."""
    return np.frombuffer(base64.b64decode(packed), np.uint8).reshape(height, width, 4)


def draw(page: Page, cell: str) -> None:
    """Bring a cell into view and wait until it is drawn."""
    page.wait_for_selector(cell, state="attached")
    page.eval_on_selector(cell, "cell => cell.scrollIntoView({behavior: 'instant'})")
    page.wait_for_selector(f"{cell}[data-drawn]")


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds.

    Raises:
        TimeoutError: it does not hold within ``PATIENCE``.
    """
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("the page did not reach the expected state")
        time.sleep(0.03)


def until(page: Page, question: str, expected: object = True) -> None:
    """Wait until a page answers as expected; its policy forbids ``wait_for_function``."""
    answers: list[object] = []

    def answered() -> bool:
        answers[:] = [page.evaluate(question)]
        return answers == [expected]

    try:
        eventually(answered)
    except TimeoutError:
        raise AssertionError(f"{question} gives {answers[0]!r}, not {expected!r}") from None


def settle(page: Page) -> None:
    """Let the page lay itself out and draw what came into view."""
    page.evaluate(
        """new Promise(done => requestAnimationFrame(() => requestAnimationFrame(
            () => setTimeout(done))))"""
    )


def count_work(page: Page) -> None:
    """Count what a page that is not open yet will do, see ``work``, and hold its idle work back."""
    page.add_init_script(COUNTERS)


def work(page: Page) -> dict[str, int]:
    """Return how many maps a page has painted, records inflated and photographs decoded."""
    counted: dict[str, int] = page.evaluate("({...window.counted})")
    return counted


def idle(page: Page) -> None:
    """Let a page whose work is counted do what it keeps for idle time."""
    page.evaluate("while (window.idle.length) window.idle.shift()()")


def axe(page: Page) -> list[str]:
    """Return what axe finds wrong with a page, one line per rule: WCAG 2.2 AA and good practice."""
    if not AXE.exists():
        missing("axe-core (make check installs it)")
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text(encoding="utf-8"))  # the page's policy forbids another script
    violations = page.evaluate(
        """async tags => {
            const {violations} = await axe.run({runOnly: tags, resultTypes: ["violations"]});
            return violations.map(({id, help, nodes}) =>
                ({id, help, targets: nodes.map(node => node.target.flat().join(" "))}));
        }""",
        RULES,
    )
    return [
        f"{found['id']}: {found['help']}: {', '.join(found['targets'][:3])}"
        + (f" and {len(found['targets']) - 3} more" if len(found["targets"]) > 3 else "")
        for found in violations
    ]


def pdf_pages(pdf: bytes | Path) -> list[str]:
    """Return the text of each page of a PDF, laid out as on paper."""
    if shutil.which("pdftotext") is None:
        missing("pdftotext")
    data = pdf if isinstance(pdf, bytes) else pdf.read_bytes()
    command = ["pdftotext", "-layout", "-enc", "UTF-8", "-", "-"]
    text = subprocess.run(command, input=data, capture_output=True, check=True).stdout.decode()
    return text.split("\f")[:-1]  # a form feed ends every page


class Firefox:
    """One tab of a running Firefox, spoken to in WebDriver BiDi without a driver between."""

    def __init__(self, connection: ClientConnection) -> None:
        self.requested: list[str] = []  # addresses, but those of files and of data
        self._connection = connection
        self._sent = 0
        self._said: list[str] = []
        capabilities = self.command("session.new", capabilities={})["capabilities"]
        self.process: int = capabilities["moz:processID"]
        self._tab = self.command("browsingContext.getTree")["contexts"][0]["context"]
        self.command("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"])

    def command(self, method: str, **params: Any) -> Any:
        """Send a command of https://w3c.github.io/webdriver-bidi and return its result."""
        self._sent += 1
        self._connection.send(json.dumps({"id": self._sent, "method": method, "params": params}))
        while True:
            answer = json.loads(self._connection.recv(timeout=PATIENCE))
            if answer["type"] == "event":
                self._note(answer["method"], answer["params"])
            elif answer["type"] == "error":
                raise RuntimeError(f"{method}: {answer['error']}: {answer['message']}")
            elif answer["id"] == self._sent:
                return answer["result"]

    def _note(self, event: str, params: Mapping[str, Any]) -> None:
        if event == "log.entryAdded":
            self._said.append(f"{params['level']}: {params['text']}")
        elif not (url := params["request"]["url"]).startswith("data:"):
            self.requested.append(url)

    def goto(self, url: str) -> None:
        """Open an address and wait until it is loaded."""
        self.command("browsingContext.navigate", context=self._tab, url=url, wait="complete")

    def evaluate(self, script: str, *args: object) -> Any:
        """Return, through JSON, an expression's value or what a function gives for ``args``."""
        body = """async (...given) => {
            const value = (SCRIPT
            );
            const args = given.map(text => JSON.parse(text));
            return JSON.stringify(await (typeof value === "function" ? value(...args) : value));
        }""".replace("SCRIPT", script)
        answer = self.command(
            "script.callFunction",
            functionDeclaration=body,
            arguments=[{"type": "string", "value": json.dumps(arg)} for arg in args],
            target={"context": self._tab},
            awaitPromise=True,
        )
        if answer["type"] == "exception":
            raise RuntimeError(answer["exceptionDetails"]["text"])
        return json.loads(answer["result"].get("value", "null"))  # undefined has no value

    def said(self) -> list[str]:
        """Return what stood in the console so far, each ``"level: text"``: uncaught errors too."""
        self.evaluate("new Promise(done => setTimeout(done))")  # what the page still has to say
        return list(self._said)

    def resize(self, width: int, height: int) -> None:
        """Make the viewport this large, in CSS pixels."""
        viewport = {"width": width, "height": height}
        self.command("browsingContext.setViewport", context=self._tab, viewport=viewport)

    def screenshot(self) -> bytes:
        """Return the viewport as a PNG."""
        shot = self.command("browsingContext.captureScreenshot", context=self._tab)
        return base64.b64decode(shot["data"])

    def print_pdf(self) -> bytes:
        """Return the page as a PDF on A4 paper, backgrounds included."""
        page = {"width": 21.0, "height": 29.7}
        printed = self.command(
            "browsingContext.print", context=self._tab, background=True, page=page
        )
        return base64.b64decode(printed["data"])


def firefox_path() -> str | None:
    """Return the path of an installed Firefox."""
    return shutil.which("firefox-esr") or shutil.which("firefox")


@contextmanager
def firefox(**preferences: bool | int | str) -> Iterator[Firefox]:
    """Run a headless Firefox with a fresh profile; ``about:config``'s names go in ``**{...}``."""
    program = firefox_path()
    if program is None:
        missing("Firefox")
    with tempfile.TemporaryDirectory(prefix="firefox-", ignore_cleanup_errors=True) as folder:
        profile = Path(folder)
        lines = [
            f"user_pref({json.dumps(name)}, {json.dumps(value)});\n"
            for name, value in (PREFERENCES | preferences).items()
        ]
        (profile / "user.js").write_text("".join(lines), encoding="utf-8")
        flags = ["--headless", "--no-remote", "--profile", folder, "--remote-debugging-port=0"]
        with (profile / "output.txt").open("wb") as output:
            process = subprocess.Popen(
                [program, *flags],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"HOME": folder, "MOZ_CRASHREPORTER_DISABLE": "1"},
                start_new_session=True,
            )
        try:
            address = _address(process, profile)
            with connect(address, proxy=None, max_size=None, open_timeout=PATIENCE) as connection:
                yield Firefox(connection)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # a polite end takes five seconds
            process.wait()


def _address(process: "subprocess.Popen[bytes]", profile: Path) -> str:
    """Wait for a starting Firefox and return the address where it takes commands."""
    server = profile / "WebDriverBiDiServer.json"
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            where = json.loads(server.read_text(encoding="utf-8"))
            return f"ws://{where['ws_host']}:{where['ws_port']}/session"
        except (FileNotFoundError, json.JSONDecodeError):
            time.sleep(0.05)
    said = (profile / "output.txt").read_text(encoding="utf-8", errors="replace")
    raise RuntimeError(f"Firefox did not start: {said}")


if __name__ == "__main__":
    sys.exit(0 if chromium() else 1)
