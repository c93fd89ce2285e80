"""Shared fixtures: the bundled model, the demo photographs and a finished demo report."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from filelock import FileLock
from helpers import synthetic
from helpers.checkout import INPUTS
from helpers.inputs import inputs_of
from torch import Tensor

import camreport
from camreport.insight.kept import arrangement_of
from camreport.models import LoadedModel, load_model
from camreport.results.reader import load_results

if find_spec("hypothesis"):  # a machine with a GPU may have no more than tests/test_cuda.py needs
    from hypothesis import settings

    settings.register_profile("camreport", database=None, deadline=None, derandomize=True)
    settings.load_profile("camreport")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as it is of a job in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = [
    f"helpers.{name}"
    for name, needs in {
        "checkpoints": "torchvision",
        "coloured": "PIL",
        "command": "click",
        "report_cells": "playwright",
        "runs": "PIL",
    }.items()
    if find_spec(needs)
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Know the limit of pyproject.toml where pytest-timeout, which keeps it, is missing."""
    if not find_spec("pytest_timeout"):
        parser.addini("timeout", "seconds that a test may take")


if TYPE_CHECKING:
    from helpers.browser import Open
    from helpers.folders import Visit
    from helpers.tabs import Free
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="session")
def catdog() -> LoadedModel:
    """The bundled model."""
    return load_model("catdog-alexnet")


@pytest.fixture(scope="session")
def photographs(catdog: LoadedModel) -> Tensor:
    """both.jpg, cat.jpg and dog.jpg as model inputs, ``(3, 3, 224, 224)``."""
    return inputs_of(catdog.preprocessing, sorted(INPUTS.glob("*.jpg")))


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report on the demo photographs, three methods; not to be changed."""
    out = tmp_path_factory.mktemp("demo") / "gallery"
    camreport.run(INPUTS, out, methods="grad_cam,layer_cam,hires_cam")
    return out


Shared = Callable[[str, Callable[[Path], object]], Path]
"""Returns the folder of a name, made once for all processes of a parallel run."""


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """Where expensive reports lie that several test files look at and none changes."""
    own = tmp_path_factory.getbasetemp()
    root = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder = root / f"shared-{name}"
        with FileLock(f"{folder}.lock"):
            if not (folder / "whole").exists():
                shutil.rmtree(folder, ignore_errors=True)
                make(folder / "gallery")
                (folder / "whole").touch()
        return folder / "gallery"

    return made


@pytest.fixture(scope="session")
def everything(shared: Shared) -> Path:
    """The folder of a report on one photograph, all methods at two layers; not to be changed."""
    options = {"layers": ["9", "12"], "methods": "all"}
    return shared("everything", lambda out: camreport.run(INPUTS / "both.jpg", out, **options))


@pytest.fixture(scope="session")
def chromium() -> "Iterator[Browser]":
    """A running browser."""
    from helpers import browser

    with browser.launched() as running:
        yield running


@pytest.fixture(scope="session")
def free_tabs() -> "Free":
    """Tabs that no test uses at the moment."""
    return {}


@pytest.fixture
def open_report(chromium: "Browser", free_tabs: "Free") -> "Iterator[Open]":
    """Open a report and fail afterwards if it asked for anything of others or said anything."""
    from helpers import tabs

    lent = ExitStack()
    said: list[str] = []
    strays: list[str] = []

    def open_(
        out: Path,
        *,
        width: int = 1400,
        height: int = 1000,
        link: str = "",
        counted: bool = False,
        **options: object,
    ) -> "Page":
        if "v=" not in link:  # the matrix has what most tests look at
            link = f"#v=matrix&{link[1:]}" if link else "#v=matrix"
        folder = out.resolve().as_uri()
        page_file = f"{folder}/index.html"
        data = f"{folder}/data/" if (out / "data").is_dir() else page_file

        def check(url: str) -> None:
            if url.partition("#")[0] != page_file and not url.startswith((data, "data:", "blob:")):
                strays.append(url)

        size = {"width": width, "height": height}
        page = lent.enter_context(
            tabs.lent(chromium, free_tabs, **size, counted=counted, **options)
        )
        lent.enter_context(tabs.heard(page, said.append, check))
        page.goto(page_file + link)
        tabs.begin_history(page)
        return page

    with lent:
        yield open_
    assert said == []
    assert strays == []


@pytest.fixture
def visit(chromium: "Browser", free_tabs: "Free") -> "Iterator[Visit]":
    """Open reports; fail afterwards if a page said anything or asked for what is not its own."""
    from helpers import tabs

    lent = ExitStack()
    said: list[str] = []
    requested: list[str] = []
    allowed = ["data:"]
    expected: list[str] = []

    def open_(
        where: Path | str,
        link: str = "",
        *,
        height: int = 1000,
        missing: bool = False,
        counted: bool = False,
        **options: object,
    ) -> "Page":
        size = {"width": 1400, "height": height}
        options.setdefault("fresh", isinstance(where, str))  # a server's pages are kept in it
        page = lent.enter_context(
            tabs.lent(chromium, free_tabs, **size, counted=counted, **options)
        )
        lent.enter_context(tabs.heard(page, said.append, requested.append))
        address = where if isinstance(where, str) else f"{where.resolve().as_uri()}/index.html"
        allowed.append(address.rpartition("/")[0] + "/")
        if missing:
            expected.extend(["net::ERR_FILE_NOT_FOUND", "camreport is not defined"])
        page.goto(address + (f"#{link}" if link else ""))
        tabs.begin_history(page)
        return page

    with lent:
        yield open_
    assert [text for text in said if not any(word in text for word in expected)] == []
    assert [url for url in requested if not url.startswith(tuple(allowed))] == []


@pytest.fixture(scope="session")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo photographs' report as a folder with an odd name; not to be changed."""
    out = tmp_path_factory.mktemp("apart") / "Bericht für Mäuse 猫 & 狗 (#1 100%)"
    methods = "grad_cam,layer_cam,hires_cam"
    camreport.run(INPUTS, out, methods=methods, channels=["12"], layout="folder")
    return out


@pytest.fixture(scope="session")
def sixty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of 60 images, three chunks of them; not rendered, not to be changed."""
    out = tmp_path_factory.mktemp("sixty") / "report"
    synthetic.write_results(out, 60, grids=synthetic.SMALL, photo_side=224)
    arrangement_of(load_results(out))  # so that no copy arranges them anew
    return out


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of four images; not rendered, not to be changed."""
    out = tmp_path_factory.mktemp("few") / "report"
    return synthetic.write_results(out, 4, grids=synthetic.SMALL, photo_side=96)


@pytest.fixture(scope="session")
def ten_thousand(shared: Shared) -> Path:
    """A report on 10,000 images; not to be changed."""

    def make(out: Path) -> None:
        synthetic.write_results(out, 10_000, photo_side=256)
        synthetic.render_folder(out)

    return shared("many", make)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that wait most, so that no process of a parallel run ends with them."""
    items.sort(key=lambda item: item.path.name not in ("test_on_ray.py", "test_workers.py"))


def pytest_configure() -> None:
    """Share the cores between the processes of a parallel run, and with what they start."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if processes > 1:
        threads = max(1, (os.cpu_count() or 1) // processes)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how far the maps are from the peers', as docs/parity.md lists it."""
    worst: dict[tuple[str, str], float] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                if name == "deviation":
                    method, peer, found = value
                    worst[method, peer] = max(found, worst.get((method, peer), 0.0))
    if worst:
        from helpers.peers import table

        terminalreporter.section("parity")
        terminalreporter.write_line("\n".join(table(worst)))
