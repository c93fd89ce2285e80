"""``precision``: exact, TF32 where a GPU has it, bfloat16 with maps in float32."""

from pathlib import Path

import pytest
import torch
from helpers.nets import pooled_net
from helpers.runs import manifest_of, run, shards_of, tiny
from torch import Tensor, nn

from camreport import explain, load_results
from camreport.engine.explainer import Explainer
from camreport.errors import ModelError
from camreport.methods import METHODS
from camreport.network.precision import precision_of, wide

MAX_DEVIATION = 0.1
"""Largest deviation of a map in bfloat16, as a fraction of its largest value: each of some ten
roundings on the way adds up to 2⁻⁸, and sums of opposite signs cancel."""

CLOSE = ("grad_cam", "layer_cam", "hires_cam", "xgrad_cam", "cam", "eigen_cam")
"""Methods whose maps are continuous in the gradient, with small factors."""

EVERY = [key for key, own in METHODS.items()]
CPU = torch.device("cpu")


def images(count: int = 3) -> Tensor:
    """Seeded images."""
    return torch.randn(count, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def net() -> nn.Sequential:
    """A net in float32 for which every method is defined."""
    return pooled_net().float()


def smooth_net() -> nn.Sequential:
    """The same without max pooling: there a rounding sends a gradient to another position."""
    own = net()
    own[2] = nn.AvgPool2d(2)
    return own


@pytest.mark.parametrize("key", CLOSE)
def test_maps_in_bfloat16_are_near_the_exact_ones(key: str) -> None:
    layers = ["4"] if key == "cam" else ["1", "4"]
    exact = explain(smooth_net(), images(), layers, key, [0, 1]).maps[key]
    rounded = explain(smooth_net(), images(), layers, key, [0, 1], precision="bf16").maps[key]
    for layer, cams in exact.items():
        gap = float((rounded[layer] - cams).abs().amax() / cams.abs().amax())
        assert 0 < gap <= MAX_DEVIATION, layer


def test_every_method_gives_finite_float32_in_bfloat16_and_nothing_stays() -> None:
    model = net()
    before = explain(model, images(), ["1", "4"], EVERY, [0, 1])
    found = explain(model, images(), ["1", "4"], EVERY, [0, 1], precision="bf16")
    after = explain(model, images(), ["1", "4"], EVERY, [0, 1])
    assert found.logits.dtype == torch.float32
    assert not torch.equal(found.logits, before.logits)
    for key, by_layer in found.maps.items():
        assert [*by_layer] == [*before.maps[key]]
        for layer, cams in by_layer.items():
            assert cams.dtype == torch.float32
            assert cams.isfinite().all() == before.maps[key][layer].isfinite().all()
            own = before.maps[key][layer]
            torch.testing.assert_close(after.maps[key][layer], own, rtol=0, atol=0, equal_nan=True)
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    assert not torch.is_autocast_enabled("cpu")


def test_passes_run_in_bfloat16_and_what_is_made_of_them_in_float32() -> None:
    model, seen = net(), list[torch.dtype]()
    model[0].register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    with precision_of(model, CPU, "bf16"):
        model(images())
        product = images()[:, 0] @ images()[:, 1]
    assert seen == [torch.bfloat16]
    assert product.dtype == torch.float32


def test_a_pass_that_fails_leaves_no_autocast() -> None:
    def fail(*_: object) -> None:
        raise ValueError

    model = net()
    model[3].register_forward_hook(fail)
    with precision_of(model, CPU, "bf16"):
        with pytest.raises(ValueError, match=r"^$"):
            model(images())
        assert not torch.is_autocast_enabled("cpu")


def test_evidence_runs_in_the_precision_of_the_maps() -> None:
    with Explainer(
        net(), ["4"], "grad_cam", input_shape=(3, 12, 12), precision="bf16"
    ) as explainer:
        explained = explainer(images(), "all")
        again, _ = explainer.variant_logits(3, lambda part: images()[part])
    torch.testing.assert_close(again, explained.logits, rtol=0, atol=1e-6)


def test_only_halves_are_widened() -> None:
    kinds = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    found = [wide(torch.zeros(1, dtype=kind)).dtype for kind in kinds]
    assert found == [torch.float32, torch.float32, torch.float32, torch.float64]


def test_tf32_is_refused_where_no_device_has_it() -> None:
    with pytest.raises(ModelError, match=r"precision: expected exact or bf16 .* 'tf32' on cpu"):
        explain(net(), images(), ["4"], precision="tf32")


def test_an_unknown_precision_is_refused_with_those_there_are() -> None:
    with pytest.raises(ModelError, match="precision: expected exact, tf32 or bf16, got 'fp16'"):
        explain(net(), images(), ["4"], precision="fp16")


@pytest.mark.parametrize(("precision", "switch"), [("exact", False), ("tf32", True)])
def test_the_switches_of_torch_are_set_and_put_back(precision: str, switch: bool) -> None:
    def now() -> tuple[bool, bool, str]:
        matmul = torch.backends.cuda.matmul.allow_tf32
        return torch.backends.cudnn.allow_tf32, matmul, torch.get_float32_matmul_precision()

    before = now()
    with precision_of(net(), CPU, precision):
        assert now() == (switch, switch, "high" if switch else "highest")
    assert now() == before


def test_a_run_records_its_precision_and_computes_anew_for_another(
    photos: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    run(photos, out, tiny(), evidence="off")
    (exact,) = shards_of(out).values()
    assert load_results(out).manifest.precision == "exact"
    again = run(photos, out, tiny(), evidence="off", precision="bf16")
    (rounded,) = shards_of(out).values()
    assert again.reused == 0
    assert manifest_of(out)["precision"] == "bf16"
    assert "--precision bf16" in manifest_of(out)["command"]
    assert (exact["grad_cam/features.2"] != rounded["grad_cam/features.2"]).any()
    page = (out / "index.html").read_text()
    assert "bfloat16" in page
