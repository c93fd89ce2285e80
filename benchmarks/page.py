"""Measure the report's page in Chromium against its budgets, as a Markdown table.

Seconds on a busy machine say little, so no test asserts them: the tests count nodes, files and
painted maps. Printed is the best of several rounds; nodes, memory and bytes are the largest.

    python benchmarks/page.py [--quick] [--strict]
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time

from measuring import digits
from PIL import Image
from playwright.sync_api import Browser, Page

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from helpers import browser, synthetic

import camreport
from camreport.images.pixels import decode, jpeg_bytes
from camreport.report.gallery import DEFAULT_LIMITS, render_gallery
from camreport.report.gallery.language import templates_folder
from camreport.report.gallery.template import script, style

INPUTS = Path(__file__).resolve().parents[1] / "inputs"

MB = 1024**2
FIRST_PAINT, FEW_READY, MANY_READY, TURN, RECOLOUR = 1.0, 2.0, 1.5, 0.25, 0.15
"""Budgets in seconds: until anything shows, until 12 or 100 maps do, for a page, for colours."""

HOVER, LASSO = 0.05, 0.3
"""Budgets in seconds: from a pointer to a point's photograph, from an outline to its images."""

RENDERING = 3.0
"""Budget of the CPU of rendering an image, as a multiple of decoding its photograph once."""

NODES, HEAP = 2000, 150.0
"""Budgets of a view: elements, and MB that scripts hold."""

ONE_FILE, PROGRAM, FOLDER, GLANCE = 1.5, 160 / 1024, 480.0, 40.0
"""Budgets in MB: the demo's report, script and style, 10,000 images' data, and of those what the
view of all images reads."""

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

POINT = """async () => {
    const plot = document.querySelector(".plot"), box = plot.getBoundingClientRect();
    const name = () => document.querySelector(".about .name")?.textContent, before = name();
    for (let step = 0; step < 400; step++) {
        const [u, v] = [Math.random(), Math.random()];
        const begun = performance.now();
        plot.dispatchEvent(new PointerEvent("pointermove", {
            clientX: box.left + u * box.width, clientY: box.top + v * box.height}));
        if (name() === before) continue;
        const photo = document.querySelector(".about img");
        while (!photo.complete) await new Promise(done => setTimeout(done));
        await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
        return (performance.now() - begun) / 1000;
    }
    throw new Error("no point was hit");
}"""

CHOOSE_POINTS = """async () => {
    const plot = document.querySelector(".plot"), box = plot.getBoundingClientRect();
    plot.setPointerCapture = () => {};
    const at = (kind, u, v) => plot.dispatchEvent(new PointerEvent(kind, {
        clientX: box.left + u * box.width, clientY: box.top + v * box.height}));
    at("pointerdown", 0.7, 0.5);
    for (let step = 0; step <= 200; step++) {
        const angle = step * Math.PI / 100;
        at("pointermove", 0.5 + 0.2 * Math.cos(angle), 0.5 + 0.2 * Math.sin(angle));
    }
    const begun = performance.now();
    at("pointerup", 0.7, 0.5);
    document.querySelector(".selection a").click();
    while (!document.querySelector("#view .tile")) await new Promise(done => setTimeout(done));
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


@dataclass(frozen=True)
class Opening:
    """A view that is opened and measured.

    Attributes:
        what: name of the report and the view.
        out: folder of the report.
        link: state of the view.
        maps: number of maps from which it counts as ready.
        ready: budget until then, in seconds.
        height: of the window, in pixels.
    """

    what: str
    out: Path
    link: str
    maps: int
    ready: float
    height: int = 900


def opened(chromium: Browser, view: Opening) -> Page:
    """Open a view that notes when its maps are drawn, photographs and all."""
    context = chromium.new_context(viewport={"width": 1440, "height": view.height})
    page = context.new_page()
    page.add_init_script(NOTE_DRAWN.replace("FRAMES", str(view.maps)))
    page.goto(f"{view.out.resolve().as_uri()}/index.html#{view.link}")
    return page


def opening_rows(chromium: Browser, view: Opening, rounds: int) -> Iterator[str]:
    """Measure from the navigation to the first paint and to the maps, then nodes and memory."""
    runs, sizes = [], []
    for _ in range(rounds):
        page = opened(chromium, view)
        runs.append(page.evaluate(MILESTONES))
        sizes.append((nodes(page), heap(page)))
        page.context.close()
    (painted, ready), (counts, heaps) = zip(*runs, strict=True), zip(*sizes, strict=True)
    yield line(f"{view.what}: first paint, s", painted, FIRST_PAINT)
    yield line(f"{view.what}: {view.maps} maps drawn, s", ready, view.ready)
    yield line(f"{view.what}: elements", [max(counts)], NODES)
    yield line(f"{view.what}: memory of scripts, MB", [max(heaps)], HEAP)


def nodes(page: Page) -> float:
    """Return the number of a page's elements."""
    return float(page.evaluate("document.querySelectorAll('*').length"))


def heap(page: Page) -> float:
    """Return the MB that a page's scripts hold once garbage is collected."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    used = session.send("Runtime.getHeapUsage")["usedSize"]
    session.detach()
    return float(used) / MB


def megabytes(folder: Path, *patterns: str) -> float:
    """Return the MB of the files in a folder whose names match."""
    found = (file for pattern in patterns for file in folder.rglob(pattern))
    return sum(file.stat().st_size for file in found if file.is_file()) / MB


def line(what: str, measured: Sequence[float], budget: float) -> str:
    """Return the line of a measurement: the best round, the range of all, and the verdict."""
    best, worst = min(measured), max(measured)
    spread = f" ({digits(best)}–{digits(worst)})" if len(measured) > 1 else ""
    verdict = "met" if best <= budget else "missed"
    return f"| {what} | {digits(best)}{spread} | {digits(budget)} | {verdict} |"


def few_rows(chromium: Browser, folder: Path, rounds: int) -> Iterator[str]:
    """Measure a report in one file: the demo's photographs by nine methods."""
    out = folder / "few"
    camreport.run(INPUTS, out, methods=synthetic.NINE, channels=["10"])
    yield line("3 images, 9 methods: one file, MB", [megabytes(out, "index.html")], ONE_FILE)
    apart = megabytes(templates_folder() / "gallery/apart", "*.js")
    program = len((script() + style()).encode()) / MB + apart
    yield line("scripts and style, MB", [program], PROGRAM)
    for name, link in (("summary", ""), ("layers × methods", "v=matrix&i=0")):
        view = Opening(f"3 images, 9 methods, {name}", out, link, 12, FEW_READY)
        yield from opening_rows(chromium, view, rounds)
    page = opened(chromium, Opening("", out, "v=matrix&i=0", 12, FEW_READY, 2200))
    page.evaluate(MILESTONES)
    names = ("jet", "inferno", "cividis") * rounds
    took = [page.evaluate(CHOOSE_COLOURS, name) for name in names[: max(rounds, 2)]]
    yield line("3 images, 9 methods, layers × methods: other colours, s", took, RECOLOUR)
    page.context.close()


def rendering_rows(_: Browser, folder: Path, rounds: int) -> Iterator[str]:
    """Measure rendering in one process against decoding each photograph once, by CPU seconds."""
    count, alone = 1200, replace(DEFAULT_LIMITS, pooled=10**6)
    out = synthetic.write_results(folder / "rendered", count)
    photograph = Image.open(INPUTS / "dog.jpg").convert("RGB").resize((500, 375))
    data, found = jpeg_bytes(photograph), []
    for _ in range(rounds):
        begun = process_time()
        for _ in range(count):
            decode(data)
        decoded = process_time()
        render_gallery(out, layout="folder", limits=alone)
        found.append((process_time() - decoded) / (decoded - begun))
    yield line("rendering of 1,200 images ÷ decoding 500 × 375 pixels, CPU", found, RENDERING)


def many_rows(chromium: Browser, folder: Path, rounds: int) -> Iterator[str]:
    """Measure reports of 300 and of 10,000 images, which are folders."""
    for count, side in ((300, 448), (10_000, 256)):
        out = synthetic.write_results(folder / str(count), count, photo_side=side)
        render_gallery(out)
        what = f"{count:,} images"
        yield from opening_rows(
            chromium, Opening(f"{what}, summary", out, "", 6, MANY_READY), rounds
        )
        images = Opening(f"{what}, images", out, "v=overview", 100, MANY_READY, 4200)
        yield from opening_rows(chromium, images, rounds)
        matrix = Opening(f"{what}, layers × methods", out, "v=matrix&i=9", 10, MANY_READY)
        yield from opening_rows(chromium, matrix, rounds)
        page = opened(chromium, images)
        page.evaluate(MILESTONES)
        turns = [page.evaluate(TURN_PAGE) for _ in range(2 if count < 1000 else 3 * rounds)]
        yield line(f"{what}, images: next page, s", turns, TURN)
        yield line(f"{what}, images: memory of scripts after that, MB", [heap(page)], HEAP)
        page.context.close()
        yield from atlas_rows(chromium, what, out, rounds)
    yield line(f"{what}: data, MB", [megabytes(out / "data", "*")], FOLDER)
    read = megabytes(out / "data", "report.js", "overview-*.js", "thumbs/*/*.jpg", "camreport.*")
    yield line(f"{what}: of it for the view of all images, MB", [read], GLANCE)


def atlas_rows(chromium: Browser, what: str, out: Path, rounds: int) -> Iterator[str]:
    """Measure the scatter: what a pointer shows, and what an outline chooses."""
    pointed, chosen, painted = [], [], []
    for _ in range(rounds):
        page = chromium.new_context(viewport={"width": 1440, "height": 900}).new_page()
        page.goto(f"{out.resolve().as_uri()}/index.html#v=atlas&at=scatter")
        page.wait_for_selector(".plot canvas")
        paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000"
        painted.append(page.evaluate(paint))
        pointed += [page.evaluate(POINT) for _ in range(3)]
        chosen.append(page.evaluate(CHOOSE_POINTS))
        page.context.close()
    yield line(f"{what}, scatter: first paint, s", painted, FIRST_PAINT)
    yield line(f"{what}, scatter: photograph under a pointer, s", pointed, HOVER)
    yield line(f"{what}, scatter: from an outline to its images, s", chosen, LASSO)


def main() -> int:
    """Print the table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round of each, to try it out")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a budget is missed")
    options, _ = parser.parse_known_args()  # those of ratios.py: `make bench` gives both the same
    if browser.chromium() is None:
        print("no Chromium here: the page is not measured")
        return 0
    print("| what | best (range) | budget | |\n|---|---:|---:|---|")
    missed = False
    with tempfile.TemporaryDirectory() as folder, browser.launched() as chromium:
        for rows in (rendering_rows, few_rows, many_rows):
            for measured in rows(chromium, Path(folder), 1 if options.quick else 5):
                print(measured, flush=True)
                missed |= "missed" in measured
    return int(options.strict and missed)


if __name__ == "__main__":
    sys.exit(main())
