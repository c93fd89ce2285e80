"""What a report's files hold: the same bytes every time, nothing private, no more than budgeted."""

import getpass
import json
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import synthetic
from helpers.checkout import INPUTS
from helpers.folders import KB, MB, cells_of, chunk, contents, is_folder, size_of, twin
from PIL import Image

import camreport
from camreport.report.gallery import Limits, render_gallery
from camreport.report.gallery.language import templates_folder
from camreport.report.gallery.template import script, style

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("layout", ["--single-file", "--folder"])
def test_two_builds_are_equal_byte_for_byte(sixty: Path, tmp_path: Path, layout: str) -> None:
    built = []
    for place, (seed, zone) in enumerate((("1", "UTC"), ("2", "Asia/Shanghai"))):
        out = twin(sixty, tmp_path / str(place) / f"report {place}")
        subprocess.run(
            [sys.executable, "-m", "camreport", "render", str(out), layout],
            env=os.environ | {"PYTHONHASHSEED": seed, "TZ": zone},
            cwd=out.parent,
            check=True,
            capture_output=True,
        )
        built.append(contents(out))
    assert built[0] == built[1]
    assert len(built[0]) > (60 if layout == "--folder" else 0)


def test_two_runs_differ_only_in_what_they_cost(tmp_path: Path) -> None:
    quick = {"layers": ["12"], "methods": "grad_cam", "layout": "folder"}
    built = []
    for place in "ab":
        out = tmp_path / place / "report"
        camreport.run(INPUTS, out, **quick)  # type: ignore[arg-type]
        file = out / "results/manifest.json"
        manifest = json.loads(file.read_text("utf-8"))
        counts = {"forwards": 0, "backwards": 0, "variants": 0, "maps": 0, "seconds": 0}
        file.write_text(json.dumps(manifest | {"cost": counts | {"families": {}}}))
        render_gallery(out, layout="folder")
        built.append(contents(out))
    assert built[0] == built[1]


def test_no_file_names_this_machine_or_its_folders(apart: Path) -> None:
    private = [
        str(apart.parent),
        str(INPUTS),
        str(Path.home()) + "/",
        str(Path.cwd()),
        *([host] if len(host := socket.gethostname()) > 4 else []),
        *([user] if len(user := getpass.getuser()) > 4 else []),
        "file:///",
        "localhost",
        "127.0.0.1",
    ]
    for name, data in contents(apart).items():
        text = data.decode("utf-8", errors="ignore")
        assert [word for word in private if word in text] == [], name


def test_file_names_are_short_lower_case_ascii(apart: Path) -> None:
    names = [name for name in contents(apart) if name.startswith("data/")]
    assert all(name.isascii() and name == name.lower() and " " not in name for name in names)
    assert max(map(len, names)) < 60


def test_maps_and_photographs_are_smaller_only_beyond_a_thousand_images(
    tmp_path: Path,
) -> None:
    assert Limits().many == 1000
    limits = Limits(many=10)
    grids = {"fine": 55, "middle": 28, "coarse": 27}
    for count, side, photo, degraded in ((10, 55, 448, False), (11, 28, 224, True)):
        out = synthetic.write_results(tmp_path / str(count), count, grids=grids)
        render_gallery(out, layout="folder", limits=limits)
        for image in chunk(out, "images-0000"):
            cells = cells_of(image)
            assert {max(c["height"], c["width"]) for c in cells} == {side, 28, 27}
            assert {c["grid"][0] for c in cells} == {55, 28, 27}
            assert max(image["width"], image["height"]) == photo
        said = "maps are averaged to at most 28 × 28 cells"
        report = chunk(out, "report")
        provenance = " ".join(text for _, text in report["prose"]["en"]["provenance"])
        assert (said in provenance) == degraded
        chinese = " ".join(text for _, text in report["prose"]["zh"]["provenance"])
        assert ("最多 28 × 28" in chinese) == degraded
        assert (said in (out / "index.html").read_text("utf-8")) == degraded
        render_gallery(out, layout="single", limits=limits)
        page = (out / "index.html").read_text("utf-8")
        image, report = (
            json.loads(page.partition(f'id="{name}">')[2].partition("</script>")[0])
            for name in ("image-0", "report")
        )
        assert max(c["height"] for c in cells_of(image, deflated=False)) == 55
        provenance = " ".join(text for _, text in report["prose"]["en"]["provenance"])
        assert said not in provenance, "one file has everything"


def test_contact_sheet_has_a_hundred_images_and_counts_the_rest(tmp_path: Path) -> None:
    out = synthetic.write_results(tmp_path / "out", 103, grids=synthetic.SMALL, photo_side=96)
    render_gallery(out, layout="folder")
    page = (out / "index.html").read_text("utf-8")
    assert page.count('class="contact"') == 100
    assert "and 3 more images, which need scripts" in page
    assert len(list((out / "data/thumbs").rglob("*.jpg"))) == 103
    for path in (out / "data/thumbs").rglob("*.jpg"):
        with Image.open(path) as picture:
            assert max(picture.size) == 96


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_rendering_more_images_needs_no_more_memory(tmp_path: Path) -> None:
    """As without scikit-learn: clusters hold their images, and take much longer than the rest."""
    code = (
        "import sys; from camreport.report.gallery import render_gallery\n"
        "from camreport.report.gallery.page import Limits\n"
        "from camreport.insight import arrangement, kept\n"
        "arrangement.is_available = kept.is_available = lambda: False\n"
        "render_gallery(sys.argv[1], layout=sys.argv[2], limits=Limits(pooled=300))\n"
        "print(*(line.split()[1] for line in open('/proc/self/status') if 'VmHWM' in line))"
    )
    peaks: dict[str, list[int]] = {"single": [], "folder": []}
    for count in (400, 900):
        out = synthetic.write_results(tmp_path / str(count), count, photo_side=224)
        for layout, found in peaks.items():
            command = [sys.executable, "-c", code, str(out), layout]
            finished = subprocess.run(command, check=True, capture_output=True, text=True)
            found.append(int(finished.stdout) * KB)
    for layout, (fewer, more) in peaks.items():
        assert more - fewer < 8 * MB, f"{layout}: of the 20 MB and more that 500 images have"


def test_scripts_and_styles_stay_small() -> None:
    apart = [file.stat().st_size for file in (templates_folder() / "gallery/apart").iterdir()]
    assert len((script() + style()).encode()) <= 200 * KB
    assert max(apart) <= 24 * KB, "what a view adds that only some reports carry"


def test_more_images_than_one_file_should_hold_become_a_folder(tmp_path: Path) -> None:
    out = synthetic.write_results(tmp_path / "out", 120, methods=synthetic.NINE)
    told: list[float] = []
    render_gallery(out, progress=told.append)
    assert is_folder(out)
    assert sum(told) == 120


def test_an_image_of_ninety_maps_and_its_contrasts_takes_52_kilobytes(tmp_path: Path) -> None:
    out = synthetic.write_results(tmp_path / "out", 150, methods=synthetic.NINE)
    render_gallery(out, layout="folder", limits=Limits(many=100))
    assert size_of(out / "data", "images-*.js") / 150 <= 52 * KB
    assert max(file.stat().st_size for file in (out / "data").glob("*.js")) <= 3 * MB
    image = random.Random(0).choice(chunk(out, "images-0004"))
    assert max(image["width"], image["height"]) == 224
    assert max(max(c["height"], c["width"]) for c in cells_of(image)) == 28
