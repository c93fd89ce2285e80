"""``channel_contributions/<layer>``: gradient times activation, summed over positions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.checkout import INPUTS
from helpers.inputs import inputs_of
from helpers.runs import (
    BY_TWO,
    PROBED,
    Arrays,
    images_computed,
    manifest_of,
    npz_of,
    run,
    run_by_two,
    shards_of,
    tiny,
)
from numpy.typing import NDArray
from torch import Tensor, nn

import camreport
from camreport.engine.explainer import Explainer
from camreport.errors import LayerError, ResultsError
from camreport.models import LoadedModel, load_model
from camreport.results.reader import load_results

FIRST, LAST = "channel_contributions/features.0", "channel_contributions/features.2"


def whole(out: Path) -> Arrays:
    """Return the arrays of all images, shards one behind the other."""
    shards = list(shards_of(out).values())
    return {key: np.concatenate([shard[key] for shard in shards]) for key in shards[0]}


def kept(out: Path) -> list[str]:
    """Return the names of the arrays of contributions."""
    return [key for key in whole(out) if key.startswith("channel_contributions/")]


def summed(maps: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return maps ``(n, K, C, h, w)`` summed over positions, in float64."""
    total: NDArray[np.float64] = maps.astype(np.float64).sum((-2, -1))
    return total


def assert_near(actual: NDArray[np.generic], expected: NDArray[np.float64]) -> None:
    """Compare to 1e-5 of the largest value."""
    assert actual.dtype == np.float32
    assert actual.shape == expected.shape
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


# What the arrays hold


@pytest.mark.parametrize("quantity", ["logit", "probability", "contrast"])
def test_contributions_are_gradient_times_activation_summed(
    quantity: str, photos: Path, tmp_path: Path
) -> None:
    methods = "grad_cam,gradient_x_activation"
    run(photos, tmp_path / "out", tiny(classes=4), methods=methods, quantity=quantity)
    arrays = whole(tmp_path / "out")
    assert kept(tmp_path / "out") == [LAST]
    assert_near(arrays[LAST], summed(arrays["gradient_x_activation/features.2"]))


def test_contributions_equal_autograd_in_float64() -> None:
    net = tiny(classes=3).module.double()
    images = torch.randn(4, 3, 32, 40, dtype=torch.float64)
    with Explainer(
        net, ["features.0", "features.2"], contributions=["features.0"], input_shape=(3, 32, 40)
    ) as explainer:
        found = explainer(images, [0, 2]).contributions
    assert [*found] == ["features.0"]
    features = net.features[:2](images).detach().requires_grad_()
    logits = net.head(net.features[2:](features))
    for slot, target in enumerate((0, 2)):
        (gradient,) = torch.autograd.grad(logits[:, target].sum(), features, retain_graph=True)
        expected = (gradient * features).sum((2, 3)).detach().numpy()
        assert_near(found["features.0"][:, slot].numpy(), expected)


def in_grid_of_vit(tokens: Tensor) -> Tensor:
    """Return the patches of a ViT's tokens as channels ``(N, C, h, w)``; the class token goes."""
    side = round((tokens.shape[1] - 1) ** 0.5)
    return tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, side, side)


@pytest.mark.parametrize(
    ("name", "size", "layer", "axes"),
    [
        ("vit_b_32", 224, "encoder.layers.encoder_layer_10", None),
        ("swin_t", 64, "features.5", (1, 2)),
    ],
)
def test_contributions_of_tokens(
    name: str, size: int, layer: str, axes: tuple[int, int] | None, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = load_model(name, weights="none", image_size=size)
    for parameter in model.module.parameters():
        nn.init.normal_(parameter, std=0.05)
    out = tmp_path / "out"
    given = {"layers": [layer], "methods": "grad_cam", "classes": "0,7", "evidence": "off"}
    camreport.run(INPUTS / "cat.jpg", out, model=model, **given)
    arrays, tensors = whole(out), list[Tensor]()
    hooked = model.module.get_submodule(layer)
    handle = hooked.register_forward_hook(lambda *given: tensors.append(given[2]))
    logits = model.module.eval()(inputs_of(model.preprocessing, [INPUTS / "cat.jpg"]))
    handle.remove()
    for slot, target in enumerate((0, 7)):
        (gradient,) = torch.autograd.grad(logits[0, target], tensors[0], retain_graph=True)
        product = (gradient.double() * tensors[0].double()).detach()
        expected = product.sum(axes) if axes else in_grid_of_vit(product).sum((2, 3))
        assert_near(arrays[f"channel_contributions/{layer}"][:, slot], expected.numpy())


def test_the_last_layer_is_meant_unless_another_is_named(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "auto", layers=["2", "0"])
    assert kept(tmp_path / "auto") == [LAST]
    run(photos, tmp_path / "named", layers=["2"], contributions="0")
    assert kept(tmp_path / "named") == [FIRST]
    assert manifest_of(tmp_path / "named")["contributions"]["shape"] == [4, 8, 10]
    run(photos, tmp_path / "none", contributions="off")
    assert kept(tmp_path / "none") == []
    assert "contributions" not in manifest_of(tmp_path / "none")


def test_of_equal_tensors_the_first_is_named(catdog: LoadedModel, tmp_path: Path) -> None:
    given = {"layers": ["9", "12", "avgpool"], "methods": "grad_cam", "evidence": "off"}
    camreport.run(INPUTS / "cat.jpg", tmp_path / "out", model=catdog, **given)
    assert kept(tmp_path / "out") == ["channel_contributions/features.12"]


def test_a_layer_that_is_none_is_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(LayerError, match=r"features\.7"):
        run(photos, tmp_path / "out", contributions="features.7")
    with pytest.raises(LayerError, match="contributions: expected auto, off or an address, got ''"):
        run(photos, tmp_path / "out", contributions="")


# What they cost


@pytest.mark.parametrize("contributions", ["auto", "off", "0"])
def test_contributions_take_no_pass_of_their_own(
    contributions: str, photos: Path, tmp_path: Path
) -> None:
    model = tiny(classes=3)
    summary = run(photos, tmp_path / "out", model, layers=["2"], contributions=contributions)
    assert model.module.batches == [PROBED, 7]
    assert (summary.cost.forwards, summary.cost.backwards) == (1, 3)
    assert summary.cost.maps == 7 * 3 * 3


@pytest.mark.parametrize(
    ("methods", "smooth", "contributions", "backwards"),
    [
        ("eigen_cam", "", "auto", 0),
        ("score_cam,finer_cam", "", "auto", 2),
        ("grad_cam", "noise", "auto", 8),
        ("eigen_cam", "", "2", 2),
    ],
)
def test_without_gradients_of_the_images_auto_keeps_none(
    methods: str, smooth: str, contributions: str, backwards: int, photos: Path, tmp_path: Path
) -> None:
    given = {"methods": methods, "contributions": contributions}
    if smooth:
        given["smooth"] = smooth
    summary = run(photos, tmp_path / "out", **given)
    assert summary.cost.backwards == backwards
    assert kept(tmp_path / "out") == (
        [LAST] if methods == "full_grad" or contributions == "2" else []
    )


# Resuming


def test_contributions_are_added_to_a_finished_run_and_nothing_else_is_computed(
    photos: Path, tmp_path: Path
) -> None:
    run_by_two(photos, tmp_path / "fresh")
    out, model = tmp_path / "out", tiny()
    summary = run_by_two(photos, out, contributions="off")
    maps = summary.cost.maps
    assert run_by_two(photos, out, model).cost.maps == maps
    assert sum(model.module.batches) == 7, "one pass over each image for the contributions"
    assert npz_of(out) == npz_of(tmp_path / "fresh")
    assert images_computed(photos, out) == 0
    assert images_computed(photos, out, contributions="features.2") == 0, "what auto takes"


def test_a_method_is_added_to_contributions_and_they_stay(photos: Path, tmp_path: Path) -> None:
    run_by_two(photos, tmp_path / "fresh", methods="grad_cam,hires_cam,eigen_cam")
    out = tmp_path / "out"
    run_by_two(photos, out, methods="grad_cam,hires_cam")
    before = run_by_two(photos, out, methods="grad_cam,hires_cam").cost.backwards
    summary = run_by_two(photos, out, methods="grad_cam,hires_cam,eigen_cam")
    assert summary.cost.backwards == before
    assert npz_of(out) == npz_of(tmp_path / "fresh")


def test_contributions_left_out_or_of_another_layer_replace_no_map(
    photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run_by_two(photos, out)
    for contributions, passes in (("off", 0), ("0", 7), ("auto", 7)):
        run_by_two(photos, tmp_path / contributions, contributions=contributions)
        assert images_computed(photos, out, contributions=contributions) == passes
        assert npz_of(out) == npz_of(tmp_path / contributions)


def test_a_layer_without_maps_is_added_and_kept(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = {"layers": ["2"], "classes": "all"}
    run_by_two(photos, out, **given)
    assert images_computed(photos, out, contributions="0", **given) == 7
    assert kept(out) == [FIRST]
    assert images_computed(photos, out, contributions="0", **given) == 0


def test_true_classes_explained_apart_have_contributions_too(photos: Path, tmp_path: Path) -> None:
    labels = {f"{index:02}.png": index % 4 for index in range(7)}
    given = {"classes": [0], "labels": labels, "limits": BY_TWO}
    out, model = tmp_path / "out", tiny(classes=4)
    run(photos, out, model, contributions="off", **given)
    run(photos, out, tiny(classes=4), **given)
    run(photos, tmp_path / "fresh", tiny(classes=4), **given)
    assert npz_of(out) == npz_of(tmp_path / "fresh")
    run(photos, tmp_path / "all", tiny(classes=4), classes="all")
    results, complete = load_results(out), load_results(tmp_path / "all")
    for index in range(7):
        targets = results.targets(index)
        assert targets == ((0, index % 4) if index % 4 else (0,))
        expected = complete.contributions(index)[list(targets)]
        np.testing.assert_allclose(results.contributions(index), expected, rtol=1e-5, atol=1e-6)


# Reading


@pytest.mark.parametrize("name", ["channel_contributions/features.0", "channel_contributions/x"])
def test_a_reader_refuses_contributions_that_the_manifest_does_not_have(
    name: str, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(photos, out)
    path = out / "results" / "shard-000000.npz"
    with np.load(path) as arrays:
        changed = {name if key == LAST else key: array for key, array in arrays.items()}
    np.savez(path, **changed)
    with pytest.raises(ResultsError, match="does not match the manifest at"):
        load_results(out).contributions(0)


def test_a_reader_refuses_contributions_of_another_shape(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, out)
    path = out / "results" / "shard-000000.npz"
    with np.load(path) as arrays:
        changed = {key: array[..., :-1] if key == LAST else array for key, array in arrays.items()}
    np.savez(path, **changed)
    with pytest.raises(ResultsError, match=r"features\.2' \(float32 \(7, 2, 5\)\)"):
        load_results(out).contributions(0)


def test_results_without_contributions_say_so(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out", contributions="off")
    with pytest.raises(KeyError):
        load_results(tmp_path / "out").contributions(0)
