"""Measure how quick the report's page is in Chromium, against its budgets, as a Markdown table.

Seconds on a busy machine say little, so no test asserts them: the tests count nodes, files and
painted maps. Printed is the best of several rounds.

    python benchmarks/page.py [--quick] [--strict]
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from measuring import digits
from playwright.sync_api import Browser, Page

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from helpers import browser, synthetic

import camreport
from camreport.report.gallery import render_gallery

INPUTS = Path(__file__).resolve().parents[1] / "inputs"

FIRST_PAINT, FEW_READY, MANY_READY, TURN, RECOLOUR = 1.0, 2.0, 1.5, 0.25, 0.15
"""Budgets in seconds: until anything shows, until 18 or 100 maps do, for a page, for colours."""

NOTE_DRAWN = """
const look = () => {
    const done = [...document.querySelectorAll("#view .frame[data-drawn]")].filter(
        frame => frame.querySelector("img").complete);
    if (done.length >= FRAMES) window.drawnAt = performance.now();
    else requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""

MILESTONES = """async () => {
    const later = () => new Promise(done => setTimeout(done, 20));
    while (!window.drawnAt) await later();
    for (;;) {
        const [paint] = performance.getEntriesByName("first-contentful-paint");
        if (paint) return [paint.startTime / 1000, window.drawnAt / 1000];
        await later();
    }
}"""

CHOOSE_COLOURS = """async name => {
    const chosen = document.querySelector('[data-focus="colormap"]');
    const begun = performance.now();
    chosen.value = name;
    chosen.dispatchEvent(new Event("change"));
    await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
    return (performance.now() - begun) / 1000;
}"""

TURN_PAGE = """async () => {
    const before = document.querySelector("#view .tile .cell").dataset.id;
    const begun = performance.now();
    document.querySelector('[data-focus="page-next"]').click();
    for (;;) {
        await new Promise(done => requestAnimationFrame(done));
        const tiles = [...document.querySelectorAll("#view .tile .cell")];
        if (tiles[0].dataset.id === before) continue;
        if (tiles.every(tile => tile.querySelector("[data-drawn]"))) break;
    }
    return (performance.now() - begun) / 1000;
}"""


def opened(chromium: Browser, out: Path, frames: int, height: int, link: str = "") -> Page:
    """Open a report that notes when so many maps are drawn, photographs and all."""
    context = chromium.new_context(viewport={"width": 1400, "height": height})
    page = context.new_page()
    page.add_init_script(NOTE_DRAWN.replace("FRAMES", str(frames)))
    page.goto(f"{out.resolve().as_uri()}/index.html#{link}")
    return page


def opening_rows(
    chromium: Browser, out: Path, what: str, frames: int, budget: float, rounds: int, link: str = ""
) -> Iterator[str]:
    """Measure from the navigation to the first paint, and to so many maps."""
    runs = []
    for _ in range(rounds):
        page = opened(chromium, out, frames, 4200, link)
        runs.append(page.evaluate(MILESTONES))
        page.context.close()
    painted, ready = zip(*runs, strict=True)
    yield line(f"{what}: first paint", painted, FIRST_PAINT)
    yield line(f"{what}: {frames} maps drawn", ready, budget)


def line(what: str, seconds: tuple[float, ...], budget: float) -> str:
    """Return the line of a measurement: the best round, the range of all, and the verdict."""
    best, worst = min(seconds), max(seconds)
    verdict = "met" if best <= budget else "missed"
    return f"| {what} | {digits(best)} ({digits(best)}–{digits(worst)}) | {budget:g} | {verdict} |"


def few_rows(chromium: Browser, folder: Path, rounds: int) -> Iterator[str]:
    """Measure a report in one file: the demo's photographs by nine methods."""
    out = folder / "few"
    camreport.run(INPUTS, out, methods=synthetic.NINE, channels=["10"])
    link = "v=matrix&i=0"
    what = "3 images, 9 methods"
    yield from opening_rows(chromium, out, what, 18, FEW_READY, rounds, link)
    page = opened(chromium, out, 18, 2200, link)
    page.evaluate(MILESTONES)
    names = ("jet", "inferno", "cividis") * rounds
    took = tuple(page.evaluate(CHOOSE_COLOURS, name) for name in names[: max(rounds, 2)])
    yield line(f"{what}: other colours", took, RECOLOUR)
    page.context.close()


def many_rows(chromium: Browser, folder: Path, rounds: int) -> Iterator[str]:
    """Measure the overview of 120 images in either layout, and of 10,000."""
    out = synthetic.write_results(folder / "many", 120)
    render_gallery(out, layout="single")
    yield from opening_rows(chromium, out, "120 images, one file", 100, MANY_READY, rounds)
    render_gallery(out, layout="folder")
    yield from opening_rows(chromium, out, "120 images, a folder", 100, MANY_READY, rounds)
    out = synthetic.write_results(folder / "most", 10_000, photo_side=256)
    render_gallery(out)
    yield from opening_rows(chromium, out, "10,000 images", 100, MANY_READY, rounds)
    page = opened(chromium, out, 100, 4200)
    page.evaluate(MILESTONES)
    turns = tuple(page.evaluate(TURN_PAGE) for _ in range(3 * rounds))
    yield line("10,000 images: next page", turns, TURN)
    page.context.close()


def main() -> int:
    """Print the table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round of each, to try it out")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a budget is missed")
    options, _ = parser.parse_known_args()  # those of ratios.py: `make bench` gives both the same
    if browser.chromium() is None:
        print("no Chromium here: the page is not measured")
        return 0
    print("| what | best (range), s | budget, s | |\n|---|---:|---:|---|")
    missed = False
    with tempfile.TemporaryDirectory() as folder, browser.launched() as chromium:
        for rows in (few_rows, many_rows):
            for measured in rows(chromium, Path(folder), 1 if options.quick else 5):
                print(measured, flush=True)
                missed |= "missed" in measured
    return int(options.strict and missed)


if __name__ == "__main__":
    sys.exit(main())
