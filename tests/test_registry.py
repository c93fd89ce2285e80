"""The table of methods: what it says, how names are found, and what a new method takes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import reference
from helpers.checkout import INPUTS
from helpers.command import Command
from helpers.documents import methods_table
from helpers.small import small_model
from torch import Tensor, nn
from torch.testing import assert_close

import camreport
from camreport import explain
from camreport.errors import MethodError
from camreport.messages.message import LANGUAGES, sentences
from camreport.methods import DEFAULT_METHODS, METHODS, registry, resolve_methods
from camreport.methods.registry import GRADIENT, LOOK_ALIKES, MASKED, PASSES, Requirement
from camreport.results.reader import load_results

every_method = pytest.mark.parametrize("key", METHODS)


# What stands in the table


@every_method
def test_every_method_has_an_oracle_under_its_key(key):
    assert callable(getattr(reference, key, None)), f"write {key} in tests/helpers/reference.py"


@every_method
def test_every_method_is_described_for_readers(key):
    method = METHODS[key]
    assert method.key == key
    for sentence in (method.meaning, method.caution):
        assert str(sentence)[0].isupper()
        assert str(sentence).endswith(".")
        assert sentence.worded("zh").endswith("。")
    assert method.formula.startswith("R")
    assert "=" in method.formula
    assert "https://" in method.source
    assert all(method.layers.worded(language) for language in LANGUAGES)


@every_method
def test_every_method_is_computed_by_a_function_with_formula_and_source(key):
    documentation = METHODS[key].compute.__doc__
    for heading in ("R", "Args:", "Returns:", "Source:", "Example:", "https://"):
        assert heading in documentation


@every_method
def test_every_method_says_what_it_is_computed_from_and_at_what_cost(key):
    needs = METHODS[key].needs
    assert isinstance(needs, Requirement)
    assert needs.passes in PASSES
    assert all(said.worded(code) for said in (needs.name, needs.cost) for code in LANGUAGES)
    assert (METHODS[key].masks is not None) == (needs is MASKED)


@every_method
def test_only_sums_over_channels_of_activation_and_gradient_are_smoothed(key):
    method = METHODS[key]
    if method.supports_smoothing:
        assert method.needs in (GRADIENT, LOOK_ALIKES)
        assert not method.per_channel


def test_defaults_stand_in_the_table():
    assert set(DEFAULT_METHODS) <= set(METHODS)


def test_no_spelling_means_two_methods():
    for method in METHODS.values():
        for name in (method.key, method.name, *method.aliases):
            assert [found.key for found in resolve_methods([name])] == [method.key]


def test_table_is_read_without_torch():
    code = "import sys; from camreport.methods import METHODS; METHODS['cam'].meaning;"
    code += "sys.exit('torch' in sys.modules or len(METHODS) < 20)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# How names are found


ISSUE = {
    "gradcam": "grad_cam",
    "scorecam": "score_cam",
    "gradcam++": "grad_cam_plus_plus",
    "ablationcam": "ablation_cam",
    "xgradcam": "xgrad_cam",
    "eigencam": "eigen_cam",
    "eigengradcam": "eigen_grad_cam",
    "layercam": "layer_cam",
    "hirescam": "hires_cam",
}
"""The spellings that users start with."""

PEERS = {
    "GradCAM": "grad_cam",
    "GradCAMPlusPlus": "grad_cam_plus_plus",
    "GradCAMpp": "grad_cam_plus_plus",
    "SmoothGradCAMpp": "smooth_grad_cam_plus_plus",
    "XGradCAM": "xgrad_cam",
    "HiResCAM": "hires_cam",
    "GradCAMElementWise": "grad_cam_elementwise",
    "LayerCAM": "layer_cam",
    "EigenCAM": "eigen_cam",
    "EigenGradCAM": "eigen_grad_cam",
    "ScoreCAM": "score_cam",
    "AblationCAM": "ablation_cam",
    "FullGrad": "full_grad",
    "FinerCAM": "finer_cam",
    "CAM": "cam",
    "GuidedBackprop": "guided_backprop",
    "GuidedGradCam": "guided_grad_cam",
    "LayerGradientXActivation": "gradient_x_activation",
    "ReciproCAM": "recipro_cam",
}
"""The classes of pytorch-grad-cam, torchcam and captum."""

PAPERS = {
    "Grad-CAM": "grad_cam",
    "Grad-CAM++": "grad_cam_plus_plus",
    "Grad CAM ++": "grad_cam_plus_plus",
    "Smooth Grad-CAM++": "smooth_grad_cam_plus_plus",
    "XGrad-CAM": "xgrad_cam",
    "Score-CAM": "score_cam",
    "Ablation-CAM": "ablation_cam",
    "Eigen-CAM": "eigen_cam",
    "EIGEN_GRAD_CAM": "eigen_grad_cam",
    "Recipro-CAM": "recipro_cam",
    "Finer-CAM": "finer_cam",
    "Full-Grad": "full_grad",
    "Gradient × activation": "gradient_x_activation",
    "gradient x activation": "gradient_x_activation",
    "Guided Backpropagation": "guided_backprop",
    "Guided Grad-CAM": "guided_grad_cam",
    " grad cam ": "grad_cam",
}
"""How papers write them."""


@pytest.mark.parametrize(("name", "key"), (ISSUE | PEERS | PAPERS).items())
def test_resolve_methods_takes_the_spellings_of_the_field(name, key):
    for spelling in (name, name.lower(), name.upper()):
        assert [method.key for method in resolve_methods(spelling)] == [key]


@pytest.mark.parametrize(("name", "key"), ISSUE.items())
def test_resolve_methods_does_not_mind_dashes_and_blanks(name, key):
    stem = name.replace("cam", "")
    for spelling in (f"{stem}-cam", f"{stem}_cam", f"{stem} CAM"):
        if "+" not in name:
            assert [method.key for method in resolve_methods(spelling)] == [key]


@every_method
def test_resolve_methods_finds_every_key_and_display_name(key):
    for spelling in (key, METHODS[key].name, key.upper(), key.replace("_", "-")):
        assert [method.key for method in resolve_methods([spelling])] == [key]


@pytest.mark.parametrize(
    "names",
    ["gradcam, layer_cam,, Grad-CAM", "grad_cam，LayerCAM", ["GradCAM", "layercam", "grad cam"]],
)
def test_resolve_methods_takes_several_names_without_repeats(names):
    assert [method.key for method in resolve_methods(names)] == ["grad_cam", "layer_cam"]


def test_resolve_methods_takes_one_variant_of_each_for_all():
    unasked = [key for key, method in METHODS.items() if not method.opt_in]
    assert {"score_cam_pgc", "score_cam_torchcam"}.isdisjoint(unasked)
    for names in ("all", "ALL", ["All"], "all, layercam", "layercam, all"):
        assert [method.key for method in resolve_methods(names)] == unasked
    more = resolve_methods(["all", "score_cam_pgc"])
    assert [method.key for method in more] == [*unasked, "score_cam_pgc"]


def test_resolve_methods_bounds_the_grid_for_all_and_not_by_name():
    bounded = {key for key, method in METHODS.items() if method.max_positions is not None}
    assert bounded == {"recipro_cam"}
    assert resolve_methods("recipro_cam")[0].max_positions is None
    for names in ("all,recipro_cam", "recipro_cam,all"):
        assert {m.key: m.max_positions for m in resolve_methods(names)}["recipro_cam"] is None
    assert {m.key for m in resolve_methods("all") if m.max_positions} == bounded


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("layrcam", "layer_cam"),
        ("Gard-CAM", "grad_cam"),
        ("hires", "hires_cam"),
        ("scorcam", "score_cam"),
        ("ablation", "ablation_cam"),
        ("guidedbackpro", "guided_backprop"),
        ("eigencamm", "eigen_cam"),
    ],
)
def test_resolve_methods_suggests_the_nearest_for_an_unknown_name(name, nearest):
    with pytest.raises(MethodError, match=f"got '{name}'.*Did you mean '{nearest}'"):
        resolve_methods(["layercam", name])


@pytest.mark.parametrize("names", ["", " , ", [], ()])
def test_resolve_methods_refuses_no_name(names):
    with pytest.raises(MethodError, match=r"at least one of .*grad_cam.*got none"):
        resolve_methods(names)


# What a new method takes


def largest_product(activation: Tensor, gradient: Tensor) -> Tensor:
    """R = max_k G_k * A_k: a method of nobody."""
    return (gradient * activation).amax(-3)


TEXTS = {
    "meaning": {"en": "Shows the strongest channel.", "zh": "显示最强的通道。"},
    "caution": {"en": "It is made up.", "zh": "这是虚构的方法。"},
    "formula": dict.fromkeys(LANGUAGES, "R = max Gₖ ⊙ Aₖ"),
    "source": dict.fromkeys(LANGUAGES, "nobody, https://example.org"),
}


@pytest.fixture
def new_method(monkeypatch):
    """A method that is registered for one test: its function and its texts."""
    monkeypatch.setitem(METHODS, "largest_product", None)  # taken out again afterwards
    for part, words in TEXTS.items():
        monkeypatch.setitem(sentences(), f"methods.largest_product.{part}", words)
    return registry.method("Largest-Product CAM", GRADIENT)(largest_product)


def test_a_new_method_is_found_and_computed(new_method):
    assert new_method is largest_product
    assert [method.key for method in resolve_methods("largestproduct")] == ["largest_product"]
    assert "largest_product" in [method.key for method in resolve_methods("all")]
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).double()
    images = torch.randn(2, 3, 6, 6).double()
    e = explain(net, images, ["0"], "Largest-Product CAM", [2, 0])
    activation = net[:2](images).detach()
    gradient = (net[3].weight.view(3, 4, 4, 4) * torch.ones(2, 1, 1, 1, 1)).detach()  # (N, K, ...)
    expected = (gradient * activation[:, None]).amax(2)[:, [2, 0]]
    assert_close(e.maps["largest_product"]["0"], expected.float())
    assert e.cost.backwards == 2


@pytest.mark.usefixtures("new_method")
def test_a_new_method_stands_in_the_lists_the_results_and_the_report(
    command: Command, tmp_path: Path
):
    finished = command("methods")
    assert [row.split()[0] for row in finished.out.splitlines()][-1] == "largest_product"
    for language in LANGUAGES:
        assert "| `largest_product` | R = max Gₖ" in methods_table().methods_table(language)
        out = tmp_path / language
        model = small_model(("a", "b"))
        camreport.run(
            INPUTS / "cat.jpg", out, model=model, methods="largestproduct", language=language
        )
        assert [key for key in load_results(out).arrays(0) if key.startswith("largest_product/")]
        page = (out / "index.html").read_text(encoding="utf-8")
        for part in ("meaning", "caution", "formula"):
            assert TEXTS[part][language] in page
        assert "Largest-Product CAM" in page
