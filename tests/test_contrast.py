"""The contrast map of a wrong image: what speaks for the predicted class more than for the true."""

import base64
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.nets import EVERY, pooled_net
from helpers.reports import embedded, maps_of
from helpers.runs import run, tiny
from numpy.typing import NDArray
from PIL import Image

from camreport import explain
from camreport.methods import METHODS
from camreport.report.gallery.contrast import CONTRAST
from camreport.results.reader import load_results

TOP = 4
"""The class that the model of six predicts for every photograph."""

WRONG = {f"{index:02}.png": 5 for index in range(6)} | {"06.png": TOP}
"""Labels: all photographs but the last are predicted wrongly."""

OF_CLASS = [key for key in EVERY if METHODS[key].per_class]


def differs(key: str) -> float:
    """Return how far R(0) - R(1) is from the map of the difference of the two logits."""
    net = pooled_net()
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(3, 3, 12, 12, generator=generator, dtype=torch.float64)
    both = explain(net, images, ["0", "3"], [key], [0, 1]).maps[key]
    contrast = explain(net, images, ["0", "3"], [key], [0], quantity="contrast:1").maps[key]
    return max(
        float((cams[:, 0] - cams[:, 1] - contrast[layer][:, 0]).abs().max() / cams.abs().max())
        for layer, cams in both.items()
    )


@pytest.mark.parametrize("key", OF_CLASS)
def test_methods_are_called_linear_where_the_difference_is_the_differences_map(key: str) -> None:
    assert (differs(key) < 1e-5) == METHODS[key].linear


def levels_of(out: Path, index: int, cell: dict) -> NDArray[np.uint8]:
    """Return the levels of one map that a report in one file ships."""
    packed = base64.b64decode(embedded(out, f"image-{index}")["maps"])
    start = 4 + int.from_bytes(packed[:4], "little") + cell["offset"]
    count = cell["height"] * cell["width"]
    return np.frombuffer(packed[start : start + count], np.uint8).reshape(cell["height"], -1)


def contrast_cells(out: Path, index: int) -> dict[tuple[str, str], dict]:
    """Return the entries of an image's contrast maps by method and layer."""
    cells = maps_of(out, index)["cells"]
    return {(c["method"], c["layer"]): c for c in cells if c["rank"] == CONTRAST}


def test_grad_cams_contrast_is_the_map_of_the_logits_difference(
    photos: Path, tmp_path: Path
) -> None:
    model = tiny(6)
    run(photos, tmp_path / "out", tiny(6), labels=WRONG)
    for index in range(6):
        pixels = model.preprocessing.apply(Image.open(photos / f"{index:02}.png").convert("RGB"))
        activation = model.module.features(torch.from_numpy(pixels)[None])
        logits = model.module.head(activation)[0]
        (gradient,) = torch.autograd.grad(logits[TOP] - logits[5], activation)
        cam = (gradient.mean((2, 3), keepdim=True) * activation).sum(1)[0].detach().numpy()
        cell = contrast_cells(tmp_path / "out", index)["grad_cam", "features.2"]
        assert cell["signed"]
        assert cell["own"]
        peak = np.abs(cam).max()
        assert cell["peak"] == pytest.approx(peak, rel=1e-4)
        shown = (levels_of(tmp_path / "out", index, cell) - 127.0) / 127 * peak
        np.testing.assert_allclose(shown, cam, atol=0.51 * peak / 127)


def test_contrasts_are_shipped_of_wrong_images_and_exact_methods_alone(
    photos: Path, tmp_path: Path
) -> None:
    methods = "grad_cam,layer_cam,hires_cam,gradient_x_activation,eigen_cam"
    run(photos, tmp_path / "out", tiny(6), labels=WRONG, methods=methods)
    assert {method for method, _ in contrast_cells(tmp_path / "out", 0)} == {
        "grad_cam",
        "hires_cam",
    }
    assert contrast_cells(tmp_path / "out", 6) == {}
    run(photos, tmp_path / "without", tiny(6), methods=methods)
    assert contrast_cells(tmp_path / "without", 0) == {}
    run(photos, tmp_path / "eigen", tiny(6), labels=WRONG, smooth="eigen")
    assert contrast_cells(tmp_path / "eigen", 0) == {}


def test_a_report_says_which_slot_has_the_true_class(photos: Path, tmp_path: Path) -> None:
    labels = WRONG | {"01.png": 0}
    del labels["02.png"]
    run(photos, tmp_path / "out", tiny(6), labels=labels)
    report, results = embedded(tmp_path / "out", "report"), load_results(tmp_path / "out")
    first = results.targets(1).index(0)
    assert report["images"]["true"] == [3, first, None, 3, 3, 3, 0]
    assert report["ranks"] == 3
    for index, slot in enumerate(report["images"]["true"]):
        image = embedded(tmp_path / "out", f"image-{index}")
        assert image["targets"] == list(results.targets(index))
        if slot is not None:
            assert image["targets"][slot] == labels[f"{index:02}.png"]
        chances = results.probabilities(index)
        assert image["probabilities"] == pytest.approx([chances[t] for t in image["targets"]])
        assert len(image["logits"]) == len(image["targets"])


def test_classes_that_all_images_share_stay_shared(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out", tiny(6), labels=WRONG, classes=[0, TOP])
    report = embedded(tmp_path / "out", "report")
    assert (report["ranks"], report["sameClasses"]) == (2, [0, TOP])
    run(photos, tmp_path / "out", tiny(6), classes=[0, TOP])
    assert embedded(tmp_path / "out", "report")["images"]["true"] == []
