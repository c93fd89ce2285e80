"""Figures to paste into a document: contact sheets and grids of feature maps."""

import csv
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.browser import missing
from helpers.checkout import INPUTS
from helpers.command import Command
from helpers.small import small_model
from numpy.typing import NDArray
from PIL import Image, ImageFont
from scipy.ndimage import find_objects, label
from torch import from_numpy
from torch.nn.functional import interpolate

import camreport
from camreport.errors import InputError
from camreport.messages import message
from camreport.models import LoadedModel
from camreport.report import export
from camreport.report.export.lettering import FONTS, readable_words
from camreport.report.export.sheets import grid
from camreport.report.export.structure import (
    count_pictures,
    structure_pictures,
    structure_table,
)
from camreport.report.gallery import render_gallery
from camreport.report.heatmap import colour_table
from camreport.results.schema import ImageEntry, LayerEntry, ModuleEntry, Structure

TOP = colour_table()[255]


@pytest.fixture
def copy(demo: Path, tmp_path: Path) -> Path:
    """A copy of the demo report."""
    shutil.copytree(demo, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture(scope="module")
def two_layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a small model, whose figures take moments."""
    out = tmp_path_factory.mktemp("small") / "g"
    model = small_model(("cat", "dog"))
    camreport.run(INPUTS, out, model=model, methods="grad_cam", evidence="off")
    return out


def drawn(maps: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the grid of some feature maps."""
    image = ImageEntry(index=0, file="a.png", sha256="", width=4, height=4, status="ok")
    shape = (len(maps), *maps.shape[1:])
    layer = LayerEntry(
        address="a",
        type="Conv2d",
        tensor=message("network.tensor.own"),
        shape=shape,  # type: ignore[arg-type]
    )
    return np.asarray(grid(image, layer, maps, readable_words("en", FONTS), FONTS))


def tiles_of(picture: NDArray[np.uint8], colour: object) -> list[tuple[slice, ...]]:
    """Return where large areas have a colour, by rows."""
    areas, _ = label((picture == colour).all(-1))
    return [area for area in find_objects(areas) if area[0].stop - area[0].start > 40]


def test_grid_has_every_channel_in_order_about_as_many_across_as_down() -> None:
    maps = np.ones((14, 1, 1), np.float32)
    maps[[3, 7]] = 0
    tiles = tiles_of(drawn(maps), TOP)
    assert len(tiles) == 12
    assert len({tile[1].start for tile in tiles}) == 4
    flat = tiles_of(drawn(maps), [0xE4, 0xE4, 0xE0])
    assert len(flat) == 2
    assert flat[0][1].start == flat[1][1].start == max(tile[1].start for tile in tiles)


def test_grid_draws_a_feature_map_from_zero_to_its_own_maximum() -> None:
    rng = np.random.default_rng(0)
    maps = np.maximum(rng.normal(size=(4, 5, 6)), 0).astype(np.float32)
    maps[0] = 1
    picture = drawn(maps)
    (down, across, _) = (*tiles_of(picture, TOP)[0], None)
    high, wide = down.stop - down.start, across.stop - across.start
    right = picture[down, across.stop + 4 : across.stop + 4 + wide]
    share = from_numpy(maps[1] / maps[1].max())[None, None].double()
    exact = interpolate(share, (high, wide), mode="bilinear")[0, 0].numpy() * 255
    nearest = np.abs(right[:, :, None].astype(int) - colour_table().astype(int)).sum(-1)
    index = nearest.argmin(-1)
    own = nearest.min(-1) == 0  # the number's letters are in other colours
    assert own.mean() > 0.95
    assert np.abs(index - exact)[own].max() <= 2


def test_grid_of_signed_maps_has_a_neutral_zero() -> None:
    maps = np.zeros((4, 1, 3), np.float32)
    maps[:, 0, 0], maps[:, 0, 2] = -1, 1
    picture = drawn(maps)
    table = colour_table("diverging")
    for level in (0, 254):
        assert tiles_of(picture, table[level])


def test_sheet_repeats_the_photograph_in_every_row_and_has_300_dots_per_inch(copy: Path) -> None:
    export.export_figures(copy, images="both.jpg")
    with Image.open(copy / "figures/both_sheet.png") as opened:
        assert opened.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        sheet = np.asarray(opened)
    results = camreport.load_results(copy)
    columns = 1 + 2 * 3
    tile = (1890 - 48 - 330) // columns - 8
    small = np.asarray(results.picture(0).resize((tile, tile), Image.Resampling.BICUBIC))
    found = cv2.matchTemplate(sheet, small, cv2.TM_SQDIFF)
    assert (found < 5000).sum() == 6, "five layers and the fused one"


def test_figures_are_drawn_of_chosen_images_only(two_layers: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(two_layers, tmp_path / "copy"))

    def images_of(chosen: str) -> set[str]:
        told: list[int] = []
        files = export.export_figures(copy, told.append, images=chosen)
        assert len(files) == export.count_figures(copy, chosen)
        named = {path.name.split("_")[0] for path in files} - {"model"}
        assert sum(told) == len(named)
        return named

    assert images_of("2") == {"both", "cat"}
    assert images_of("dog.jpg") == {"dog"}
    assert images_of("d*, cat.jpg") == {"cat", "dog"}
    with pytest.raises(InputError, match=r"images: expected .* got 'dgo.jpg'. Did you mean 'dog"):
        export.export_figures(copy, images="dgo.jpg")
    with pytest.raises(InputError, match="images: expected a number"):
        export.export_figures(copy, images="0")


def test_words_in_figures_are_those_of_the_report(two_layers: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(two_layers, tmp_path / "copy"))
    try:
        ImageFont.truetype("NotoSansCJK-Regular.ttc", 13)
    except OSError:
        missing("a font with Chinese letters")

    def sheet(**options: object) -> bytes:
        export.export_figures(copy, images="cat.jpg", **options)  # type: ignore[arg-type]
        return (copy / "figures/cat_sheet.png").read_bytes()

    english = sheet()
    render_gallery(copy, language="zh")
    chinese = sheet()
    assert chinese != english
    assert sheet(language="en") == english
    assert sheet(language="zh") == chinese
    without = sheet(language="zh", fonts=("DejaVuSans.ttf",))
    assert without == sheet(language="en", fonts=("DejaVuSans.ttf",)), "English, not boxes"


def test_command_draws_grids_of_channels_and_chosen_images(command: Command) -> None:
    made = ("run", str(INPUTS), "-o", "out", "--layers", "12", "--channels", "12", "--quiet")
    assert command(*made).code == 0
    finished = command("export", "out", "--figures", "--images", "1")
    assert (finished.code, finished.err) == (0, "")
    with Image.open("out/figures/both_channels_features.12.png") as opened:
        assert opened.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert opened.width > 1800, "160 mm"
    assert "figures: 9 in file://" in finished.out
    refused = command("export", "out", "--csv", "--images", "1")
    assert refused.code == 2
    assert "--images chooses figures. Add --figures." in refused.err


def test_the_models_structure_is_written_as_text_table_and_picture(
    catdog: LoadedModel, copy: Path
) -> None:
    export.export_figures(copy, images="1")
    assert (copy / "figures/model_structure.txt").read_text() == str(catdog.module) + "\n"
    with (copy / "figures/model_layers.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {row["address"]: row for row in csv.DictReader(file)}
    assert list(rows) == [name for name, _ in catdog.module.named_modules() if name]
    for name, module in catdog.module.named_modules():
        if name:
            own = sum(p.numel() for p in module.parameters())
            assert int(rows[name]["parameters"]) == own
            assert rows[name]["type"] == type(module).__name__
    assert rows["features.0"]["output"] == "64 × 55 × 55"
    with Image.open(copy / "figures/model_layers.png") as opened:
        assert opened.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_a_long_structure_is_drawn_page_by_page() -> None:
    module = ModuleEntry(address="=a", type="Conv2d", shape=(4, 8, 9), parameters=7)
    structure = Structure(printed="Net()", modules=(module,) * 130, more=0)
    pictures = [*structure_pictures(structure, readable_words("en", FONTS), FONTS)]
    assert len(pictures) == count_pictures(structure) == 3
    assert pictures[2].height < pictures[0].height == pictures[1].height
    assert b"'=a,Conv2d" in structure_table(structure), "no cell that a spreadsheet runs"
