"""Methods whose maps must coincide are one column, named with both names."""

import re
import shutil
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from helpers import browser
from helpers.browser import Open
from helpers.checkout import INPUTS
from helpers.reports import embedded
from helpers.small import SmallNet, small_model
from torch import nn

import camreport
from camreport.methods import METHODS
from camreport.report.gallery import render_gallery
from camreport.report.gallery.coinciding import candidates, coinciding, repeated
from camreport.results.reader import MapRecord, load_results
from camreport.settings import Layout

PAIRS = "grad_cam,finer_cam,layer_cam,grad_cam_elementwise"
OPPOSITE = "Finer-CAM and Grad-CAM coincide here: two classes with opposite logits."
RECTIFIED = (
    "Grad-CAM elementwise and LayerCAM coincide here: no activation with a gradient is negative."
)

in_browser = pytest.mark.skipif(
    not browser.required() and browser.chromium() is None, reason="no Chromium here"
)


@pytest.fixture(scope="module")
def opposite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of the bundled model, whose two logits are opposite, behind a ReLU."""
    out = tmp_path_factory.mktemp("opposite") / "g"
    camreport.run(INPUTS, out, layers=["9", "12"], methods=PAIRS)
    return out


def shown(out: Path) -> dict[str, str]:
    """Return for each method of a report the one whose column it shares."""
    return {method["key"]: method["like"] for method in embedded(out, "report")["methods"]}


def maps(layer: str = "a", **by_method: np.ndarray) -> list[MapRecord]:
    """Return one image's maps ``(K, h, w)`` at a layer."""
    return [
        MapRecord(METHODS[key], layer, slot, slot, cam.astype(np.float32))
        for key, cams in by_method.items()
        for slot, cam in enumerate(cams)
    ]


def coincide(records: list[MapRecord], one: str, other: str) -> bool:
    """Say whether the maps of two methods coincide."""
    return coinciding(records, {(one, other)}) == {(one, other)}


def test_finer_cam_of_two_opposite_logits_and_layer_cam_behind_a_relu_are_folded(
    opposite: Path,
) -> None:
    arrays = load_results(opposite).arrays(0)
    finer, grad = (arrays[f"{key}/features.9"] for key in ("finer_cam", "grad_cam"))
    np.testing.assert_allclose(finer, 1.6 * grad, atol=1e-5 * np.abs(grad).max())
    assert shown(opposite) == {
        "grad_cam": "",
        "finer_cam": "grad_cam",
        "layer_cam": "",
        "grad_cam_elementwise": "layer_cam",
    }
    report = embedded(opposite, "report")
    assert report["opposite"]
    linear = {method["key"] for method in report["methods"] if method["linear"]}
    assert linear == {key for key in PAIRS.split(",") if METHODS[key].linear}
    said = [caution["text"]["en"] for caution in report["summary"]["cautions"]]
    assert sum("The two logits are opposite in every image" in text for text in said) == 1
    assert report["methods"][0]["alike"] == ["finer_cam"]
    lede = report["prose"]["en"]["lede"]
    assert OPPOSITE in lede
    assert RECTIFIED in lede
    assert (
        "Finer-CAM 与 Grad-CAM 在此结果相同：两个类别的 logit 互为相反数。"
        in (report["prose"]["zh"]["lede"])
    )


def test_fallback_keeps_the_numbers_of_methods_that_coincide(opposite: Path) -> None:
    page = (opposite / "index.html").read_text(encoding="utf-8").partition('id="report"')[0]
    for name in ("Grad-CAM", "Finer-CAM", "LayerCAM", "Grad-CAM elementwise"):
        assert page.count(f'<th scope="col">{name}</th>') == 2 * 3


@pytest.mark.parametrize("layout", ["single", "folder"])
def test_fallback_names_the_methods_that_coincide_once(
    opposite: Path, tmp_path: Path, layout: Layout
) -> None:
    shutil.copytree(opposite / "results", tmp_path / "results")
    render_gallery(tmp_path, layout=layout)
    page = (tmp_path / "index.html").read_text(encoding="utf-8").partition('id="report"')[0]
    text = re.sub(r"<meta[^>]*>", "", page)
    assert text.count(OPPOSITE) == text.count(RECTIFIED) == 1


def test_methods_that_differ_stay_apart(tmp_path: Path) -> None:
    """With three classes Finer-CAM is a map of its own, and so is LayerCAM without a ReLU."""
    model = small_model(("a", "b", "c"))
    assert isinstance(model.module, SmallNet)
    model.module.features[4] = nn.Identity()
    camreport.run(INPUTS, tmp_path / "g", model=model, layers=["features.3"], methods=PAIRS)
    assert load_results(tmp_path / "g").manifest.skipped == ()
    assert set(shown(tmp_path / "g").values()) == {""}
    assert "coincide" not in embedded(tmp_path / "g", "report")["prose"]["en"]["lede"]


def test_the_overview_keeps_its_method_where_another_has_more_layers(tmp_path: Path) -> None:
    methods = "grad_cam_elementwise,layer_cam"
    camreport.run(INPUTS, tmp_path / "g", layers=["9", "12"], methods=methods, layout="single")
    report = embedded(tmp_path / "g", "report")
    assert report["glance"]["method"] == "grad_cam_elementwise"
    assert set(shown(tmp_path / "g").values()) == {""}, "LayerCAM has the fused map too"
    assert RECTIFIED in report["prose"]["en"]["lede"]


@pytest.mark.parametrize("factor", [1.6, 1e-6, 1e6])
def test_maps_coincide_up_to_a_positive_factor(factor: float) -> None:
    cams = np.random.default_rng(0).normal(size=(2, 7, 7))
    same = maps(grad_cam=cams, finer_cam=factor * cams)
    both = {*permutations(("grad_cam", "finer_cam"))}
    assert coinciding(same, candidates(same)) == candidates(same) == both
    against = maps(grad_cam=cams, finer_cam=-factor * cams)
    assert not coincide(against, "grad_cam", "finer_cam")


@pytest.mark.parametrize(("share", "same"), [(3e-6, True), (3e-5, False)])
def test_only_rounding_may_lie_between_maps_that_coincide(share: float, same: bool) -> None:
    cams = np.random.default_rng(0).uniform(0.1, 1, (2, 7, 7))
    moved = cams.copy()
    moved[1, 3, 3] += share * cams[1].max() * (-1 if moved[1, 3, 3] > 0.5 else 1)
    assert coincide(maps(grad_cam=cams, finer_cam=moved), "finer_cam", "grad_cam") is same


def test_empty_and_undefined_maps_coincide_with_their_like_alone() -> None:
    full, empty, undefined = np.ones((1, 2, 2)), -np.ones((1, 2, 2)), np.full((1, 2, 2), np.nan)
    for one in (full, empty, undefined):
        for other in (full, empty, undefined):
            records = maps(grad_cam=one, finer_cam=other)
            assert coincide(records, "grad_cam", "finer_cam") is (one is other)


def test_methods_of_another_kind_or_with_fewer_layers_are_no_candidates() -> None:
    cams = np.ones((1, 2, 2))
    records = maps(grad_cam=cams, hires_cam=cams, eigen_cam=cams, layer_cam=cams)
    records += maps("fused", layer_cam=cams)
    assert candidates(records) == {("grad_cam", "layer_cam")}, "signed; of no class; fused too"


def test_a_chain_of_methods_ends_at_the_one_with_most_layers() -> None:
    methods = [METHODS[key] for key in ("grad_cam", "finer_cam", "xgrad_cam", "layer_cam")]
    equal = {*permutations(("finer_cam", "xgrad_cam"), 2)}
    more = {("finer_cam", "layer_cam"), ("xgrad_cam", "layer_cam")}
    assert repeated(methods, equal | more) == {"finer_cam": "layer_cam", "xgrad_cam": "layer_cam"}
    assert repeated(methods, equal) == {"xgrad_cam": "finer_cam"}
    assert repeated(methods, set()) == {}


@in_browser
def test_one_row_has_both_names_until_they_are_shown_apart(
    open_report: Open, opposite: Path
) -> None:
    page = open_report(opposite, link="#v=matrix")
    heads = page.locator("#view .matrix tbody:last-child .maps th")
    page.wait_for_selector("#view .matrix")
    assert heads.all_inner_texts() == ["Grad-CAM\n= Finer-CAM", "LayerCAM\n= Grad-CAM elementwise"]
    page.click("[data-focus='open methods']")
    page.check("[data-focus=matrix-apart]")
    page.wait_for_selector('#view .cell[data-id^="0.0.finer_cam."]')
    assert heads.all_inner_texts()[1].startswith("Finer-CAM")
    assert "=" not in " ".join(heads.all_inner_texts())
    assert "ap=1" in page.evaluate("location.hash")
    page.uncheck("[data-focus=matrix-apart]")
    page.wait_for_selector('#view .cell[data-id^="0.0.finer_cam."]', state="detached")


@in_browser
def test_a_link_to_a_folded_method_leads_to_the_one_it_repeats(
    open_report: Open, opposite: Path
) -> None:
    page = open_report(opposite, link="#v=overview&m=finer_cam&l=features.9")
    page.wait_for_selector('#view .tile .cell[data-id$=".grad_cam.features.9"]')
    assert page.input_value("[data-focus=choose-method]") == "grad_cam"
    page.goto(page.url.replace("m=finer_cam", "m=finer_cam&ap=1"))
    page.wait_for_selector('#view .tile .cell[data-id$=".finer_cam.features.9"]')


def test_logits_that_do_not_sum_to_zero_are_not_opposite(tmp_path: Path) -> None:
    camreport.run(INPUTS / "cat.jpg", tmp_path / "g", model=small_model(("yes", "no")))
    report = embedded(tmp_path / "g", "report")
    assert not report["opposite"]
    assert "opposite" not in str([one["text"]["en"] for one in report["summary"]["cautions"]])


@in_browser
def test_the_pair_view_says_that_opposite_logits_give_one_map_three_times(
    open_report: Open, opposite: Path
) -> None:
    page = open_report(opposite, link="#v=matrix&m=grad_cam")
    page.wait_for_selector(".truth", state="attached")
    assert "seen three times" in (page.text_content(".truth") or "")
    page.goto(page.url.replace("m=grad_cam", "m=layer_cam"))
    page.wait_for_function("!document.querySelector('.truth').textContent.includes('three times')")
