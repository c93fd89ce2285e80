"""Results folders of others: links lead nowhere, damage ends in one sentence."""

import json
import os
import random
import shutil
import zipfile
from collections.abc import Callable
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import synthetic
from helpers.mutations import damaged, mutated, reshaped
from helpers.small_results import tiny
from PIL import Image

import camreport
from camreport.errors import CamReportError, ResultsError
from camreport.report import export
from camreport.report.export import figures
from camreport.report.gallery import render_gallery
from camreport.results.reader import load_results
from camreport.results.shards import pack_photos

SECRET = b"nobody else's business"


@pytest.fixture(autouse=True)
def quick_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw figures, but write a dot in their place: nothing here looks at their bytes."""
    dot = BytesIO()
    Image.new("L", (1, 1)).save(dot, format="PNG")
    monkeypatch.setattr(figures, "_png", lambda _picture, _dpi: dot.getvalue())


@pytest.fixture(scope="module")
def received(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with labels, channels, data, table and figures, one input failed; not to change."""
    folder = tmp_path_factory.mktemp("received")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    (folder / "photos").mkdir()
    for name in "ab":
        Image.fromarray(pixels).save(folder / "photos" / f"{name}.png")
    (folder / "photos" / "bad.png").write_bytes(b"x")
    out = folder / "out"
    options: dict[str, Any] = {"methods": ["layer_cam", "full_grad"]}
    camreport.run(
        folder / "photos",
        out,
        model=tiny(),
        layers=["0", "0:pre"],
        channels=["0"],
        labels={"a.png": 1},
        layout="folder",
        figures=True,
        **options,
    )
    export.export_tables(out)
    return out


@pytest.fixture
def out(received: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(received, tmp_path / "out"))


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of files, marked as ours, that nothing may read or change."""
    folder = tmp_path / "outside"
    for name in (".camreport", "0.jpg", "maps.csv", "manifest.json", "photos/0.jpg", "x.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(SECRET)
    return folder


def run_again(out: Path) -> None:
    """Explain the same photographs once more, by another method."""
    photos = out.parent / "photos"
    if not photos.exists():
        photos.mkdir()
        Image.new("RGB", (60, 40), "red").save(photos / "a.png")
    camreport.run(photos, out, model=tiny(), layers=["0"], methods="hires_cam")


USES: dict[str, Callable[[Path], object]] = {
    "render": render_gallery,
    "render as one file": lambda out: render_gallery(out, layout="single"),
    "table": export.export_tables,
    "figures": export.export_figures,
    "archive": export.export_archive,
    "run": run_again,
}

FILES = (
    *(
        "index.html",
        "index.html.part",
        "maps.csv",
        "maps.csv.part",
        "report.pdf",
        ".camreport.lock",
    ),
    *("results/manifest.json", "results/manifest.json.part", "results/.camreport"),
    *("results/.camreport.part", "results/shard-000000.npz", "results/shard-000000.npz.part"),
    *("results/shard-000000.json", "results/shard-000000.json.part"),
    *("results/numbers-000000.npz", "images.csv", "methods.csv", "agreement.csv"),
    *("data/report.js", "data/.camreport", "data/tiles/0.jpg", "figures/a_sheet.png"),
    *("../out.zip", "../out.zip.part"),
)
FOLDERS = (
    *("results", "data", "data/tiles", "data/thumbs", "figures"),
    *("data.camreport-new", "data.camreport-old", ".camreport-next", ".camreport-last"),
)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def plant(out: Path, name: str, target: Path) -> None:
    """Put a link in the place of a file or folder."""
    path = out / name
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
def test_no_link_in_a_results_folder_is_written_through(
    out: Path, outside: Path, use: str, name: str
) -> None:
    plant(out, name, outside if name in FOLDERS else outside / "x.png")
    before = bytes_of(outside)
    try:
        USES[use](out)
    except CamReportError:
        pass  # one sentence is as good as a report
    assert bytes_of(outside) == before


@pytest.mark.parametrize("use", ["render", "table", "figures", "archive"])
@pytest.mark.parametrize("name", [*FILES[6:], *FOLDERS])
def test_nothing_behind_a_link_gets_into_what_is_exported(
    received: Path, out: Path, outside: Path, use: str, name: str
) -> None:
    """What the link leads to is genuine but for one sign, so that a reader would take it."""
    target = outside / "genuine"
    genuine = received / name
    if genuine.is_dir():
        shutil.copytree(genuine, target)
    elif genuine.is_file():
        shutil.copy(genuine, target)
    else:
        target.write_bytes(SECRET)
    if name.endswith("manifest.json"):
        target.write_text(target.read_text().replace("a.png", "secret.png"))
    plant(out, name, target)
    made = b""
    try:
        USES[use](out)
    except CamReportError as error:
        made = str(error).encode()
    if use == "archive" and (out.with_name("out.zip")).exists() and not made:
        with zipfile.ZipFile(out.with_name("out.zip")) as archive:
            names = archive.namelist()
            made = b"".join(archive.read(entry) for entry in names)
        assert not [entry for entry in names if entry.startswith(f"out/{name}/")]
        assert f"out/{name}" not in names
    for path in (out / "index.html", out / "data" / "report.js"):
        made += b"" if path.is_symlink() else path.read_bytes()
    assert b"secret.png" not in made
    assert SECRET not in made


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", FILES[:-2])
def test_no_pipe_or_device_in_a_results_folder_is_opened(out: Path, name: str, kind: str) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes here")
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    (out / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(out / name)
    else:
        (out / name).symlink_to("/dev/zero")
    for use in ("table", "figures", "archive", "render"):
        try:
            USES[use](out)
        except CamReportError:
            continue


def test_archive_packs_files_of_our_names_only(out: Path) -> None:
    for name in ("data/notes.txt", "data/tiles/x.html", "figures/.hidden", "results/mine.csv"):
        (out / name).write_bytes(SECRET)
    with zipfile.ZipFile(export.export_archive(out)) as archive:
        assert not [name for name in archive.namelist() if archive.read(name) == SECRET]
        assert "out/data/report.js" in archive.namelist()
        assert "out/figures/a_sheet.png" in archive.namelist()


@pytest.mark.parametrize("name", ["../../x.npz", "/tmp/x.npz", "shard-0.npz", "shard-000000.npz\n"])
def test_a_shard_of_another_name_is_refused(out: Path, name: str) -> None:
    rewrite(out, lambda manifest: manifest["images"][0].update(shard=name))
    with pytest.raises(ResultsError, match=r"a name such as shard-000000\.npz"):
        load_results(out)


def change_photo(out: Path, index: int, change: Callable[[bytes], bytes]) -> None:
    """Change a photograph in the first shard of a report."""
    path = out / "results" / "shard-000000.npz"
    with np.load(path) as shard:
        arrays = dict(shard)
    photo, offsets = arrays["photo"], arrays["photo_offsets"]
    jpegs = [photo[start:stop].tobytes() for start, stop in pairwise(offsets)]
    jpegs[index] = change(jpegs[index])
    arrays["photo"], arrays["photo_offsets"] = pack_photos(jpegs)
    np.savez(path, **arrays)


def of_huge_size(jpeg: bytes) -> bytes:
    """Return a photograph whose header claims 20,000 pixels a side."""
    data = bytearray(jpeg)
    place = data.index(b"\xff\xc0") + 5  # height and width in the frame's header
    data[place : place + 4] = b"\x4e\x20\x4e\x20"
    return bytes(data)


@pytest.mark.parametrize("format_", ["PNG", "EPS", "GIF"])
def test_a_photograph_is_read_as_jpeg_alone(out: Path, format_: str) -> None:
    buffer = BytesIO()
    Image.new("RGB", (60, 40)).save(buffer, format=format_)
    change_photo(out, 0, lambda jpeg: buffer.getvalue())
    for use in ("render", "figures"):
        with pytest.raises(ResultsError, match=r"photograph of 'a\.png' in shard-.* is damaged"):
            USES[use](out)


@pytest.mark.parametrize(
    "change",
    [lambda jpeg: jpeg[:-200], lambda jpeg: b"", of_huge_size],
    ids=["cut", "none", "huge"],
)
def test_a_photograph_that_is_damaged_is_named(out: Path, change: Callable[[bytes], bytes]) -> None:
    change_photo(out, 1, change)
    for use in ("render", "figures"):
        with pytest.raises(ResultsError, match=r"photograph of 'b\.png' in shard-.* is damaged"):
            USES[use](out)


@pytest.mark.parametrize("offsets", [[0, 1], [0, 20, 5], [1, 2, 3], [0, 1, 2**40]])
def test_photographs_that_do_not_lie_in_a_row_are_refused(out: Path, offsets: list[int]) -> None:
    path = out / "results" / "shard-000000.npz"
    with np.load(path) as shard:
        arrays = dict(shard)
    np.savez(path, **arrays | {"photo_offsets": np.array(offsets)})
    with pytest.raises(ResultsError, match=r"does not match the manifest at 'photo_offsets'"):
        load_results(out).photo(0)


def test_arrays_that_claim_more_than_their_bytes_are_refused(out: Path) -> None:
    """A shard of a few kilobytes that would unpack to 4 GB."""
    path = out / "results" / "shard-000000.npz"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = BytesIO()
    kind = np.lib.format.dtype_to_descr(np.dtype(np.float32))
    claimed = {"descr": kind, "fortran_order": False, "shape": (1, 2, 2**15, 2**14)}
    np.lib.format.write_array_header_1_0(header, claimed)
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, data in members.items():
                bomb = name.startswith("layer_cam") and compression == zipfile.ZIP_STORED
                archive.writestr(name, header.getvalue() if bomb else data)
        with pytest.raises(ResultsError, match=r"00\.npz cannot be read .*(no array|compressed)"):
            load_results(out).arrays(0)


# Damage


def rewrite(out: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest of a report."""
    path = out / "results" / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    change(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")


def everything_that_reads(out: Path) -> None:
    """Read all that is there, in every way."""
    results = load_results(out)
    for image in results.readable:
        results.arrays(image.index)
    for use in ("render", "render as one file", "table", "figures", "archive"):
        USES[use](out)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, received: Path) -> Path:
    """The same with one image and one method, so that reading it takes little."""
    out = tmp_path_factory.mktemp("small") / "out"
    camreport.run(
        received.parent / "photos" / "a.png",
        out,
        model=tiny(),
        layers=["0", "0:pre"],
        channels=["0"],
        methods="layer_cam",
        labels={"a.png": 1},
    )
    return out


@pytest.mark.parametrize("seed", range(12))
def test_a_mutated_manifest_ends_in_one_sentence_or_is_read(
    small: Path, tmp_path: Path, seed: int
) -> None:
    draw, refused = random.Random(seed), 0
    out = Path(shutil.copytree(small, tmp_path / "out"))
    original = json.loads((out / "results" / "manifest.json").read_text("utf-8"))
    for _ in range(40):
        manifest = mutated(original, draw)
        (out / "results" / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        try:
            everything_that_reads(out)
        except ResultsError:
            refused += 1
        except BaseException as error:
            raise AssertionError(f"{differences(original, manifest)}") from error
    assert refused > 10


def differences(one: Any, two: Any, place: str = "") -> list[str]:
    """Say where two manifests differ."""
    if type(one) is not type(two) or not isinstance(one, dict | list):
        return [] if one == two else [f"{place}: {one!r} -> {two!r}"]
    keys = range(max(len(one), len(two))) if isinstance(one, list) else {*one, *two}
    missing = object()

    def of(value: Any, key: Any) -> Any:
        if isinstance(value, list):
            return value[key] if key < len(value) else missing
        return value.get(key, missing)

    return [
        line for key in keys for line in differences(of(one, key), of(two, key), f"{place}.{key}")
    ]


@pytest.mark.parametrize("seed", range(6))
def test_mutated_arrays_end_in_one_sentence_or_are_read(
    small: Path, tmp_path: Path, seed: int
) -> None:
    draw, refused = random.Random(seed), 0
    out = Path(shutil.copytree(small, tmp_path / "out"))
    shard = out / "results" / "shard-000000.npz"
    with np.load(shard) as loaded:
        original = dict(loaded)
    for _ in range(20):
        with shard.open("wb") as file:
            np.savez(file, **reshaped(original, draw))
        try:
            everything_that_reads(out)
        except ResultsError:
            refused += 1
    assert refused > 8


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        *((name, seed) for name in ("shard-000000.npz", "manifest.json") for seed in range(6)),
        (".camreport", 0),
    ],
)
def test_damaged_bytes_end_in_one_sentence_or_are_read(
    small: Path, tmp_path: Path, name: str, seed: int
) -> None:
    draw, ended = random.Random(seed), 0
    out = Path(shutil.copytree(small, tmp_path / "out"))
    file = out / "results" / name
    original = file.read_bytes()
    for _ in range(10):
        file.write_bytes(damaged(original, draw))
        try:
            everything_that_reads(out)
        except ResultsError:
            ended += 1
    assert ended or name == ".camreport", "the marker is only looked for"


def test_a_manifest_of_many_levels_is_unreadable(out: Path) -> None:
    path = out / "results" / "manifest.json"
    path.write_text('{"schema":' + "[" * 200_000 + "]" * 200_000 + "}")
    with pytest.raises(ResultsError, match="incomplete"):
        load_results(out)


def test_results_of_hundreds_of_images_pass_the_check(tmp_path: Path) -> None:
    out = synthetic.write_results(tmp_path / "out", 130, grids={"features.0": 4}, photo_side=32)
    assert len(load_results(out).images) == 130
