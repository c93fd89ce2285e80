"""The built package: complete, and a gallery can be made from it without the checkout."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from helpers.checkout import INPUTS, ROOT

from camreport.report.gallery.language import LANGUAGES

pytestmark = pytest.mark.slow

PAGE = "templates/gallery"


def build(source: Path, kind: str, out: Path) -> Path:
    """Build a wheel or an sdist of a source tree with the tools of this environment."""
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(out)]
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    return next(out.iterdir())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the checkout."""
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_holds_templates_and_weights_and_nothing_of_the_workshop(wheel: Path) -> None:
    inside = names(wheel)
    assert {name for name in inside if "/templates/" in name} == {
        *(f"camreport/{PAGE}/{name}" for name in ("gallery.html", "page.css", "page.js")),
        *(f"camreport/{PAGE}/apart/{file.name}" for file in (ROOT / PAGE / "apart").iterdir()),
        *(f"camreport/templates/languages/{code}.json" for code in LANGUAGES),
    }
    modules = {str(file.relative_to(ROOT)) for file in (ROOT / "camreport").rglob("*.py")}
    assert {name for name in inside if name.endswith(".py")} == modules
    assert "camreport/models/catdog_alexnet.safetensors" in inside
    top = {name.split("/")[0] for name in inside}
    assert {name for name in top if not name.endswith(".dist-info")} == {"camreport"}


def test_sdist_holds_the_sources_of_the_page_and_builds_the_same_wheel(
    wheel: Path, tmp_path: Path
) -> None:
    sdist = build(ROOT, "sdist", tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    source = next((tmp_path / "source").iterdir())
    inside, here = ({file.name for file in (root / PAGE).rglob("*.*")} for root in (source, ROOT))
    assert inside == here
    assert names(build(source, "wheel", tmp_path / "again")) == names(wheel)


def test_installed_wheel_makes_a_gallery_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", str(target), str(wheel)], check=True)
    environment = os.environ | {"PYTHONPATH": str(target)}

    def python(*arguments: str) -> str:
        finished = subprocess.run(
            [sys.executable, *arguments],
            cwd=elsewhere,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return finished.stdout

    home = python("-c", "import camreport; print(camreport.__file__)")
    assert Path(home.strip()).is_relative_to(target)
    said = python("-m", "camreport", "run", str(INPUTS), "-o", "gallery")
    assert "both.jpg: dog" in said
    assert (elsewhere / "gallery" / "index.html").stat().st_size > 100_000
