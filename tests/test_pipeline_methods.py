"""Runs of many methods: what is kept of them, what an interruption costs, what is told of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.inputs import inputs_of
from helpers.runs import (
    NOISY,
    PER_IMAGE,
    Tiny,
    assert_same_maps,
    files_of,
    images_of,
    lasting,
    loaded,
    manifest_of,
    run,
    run_by_two,
    shards_of,
    tiny,
    worded,
    write_images,
)
from PIL import Image
from torch import nn

import camreport
from camreport.errors import ClassError, MethodError
from camreport.insight.numbers import map_keys
from camreport.methods import METHODS, resolve_methods
from camreport.models.loaded import LoadedModel

EVERY = tuple(METHODS)


def pooling(size: tuple[int, int] = (32, 40), classes: int = 2) -> LoadedModel:
    """Return a net that every method is defined for, under Tiny's addresses."""
    features = Tiny(classes).features
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes))
    net = nn.Sequential()
    net.add_module("features", features)
    net.add_module("head", nn.Sequential(*head))
    return loaded(net, size)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of five photographs."""
    return write_images(tmp_path / "photos", 5)


# What is kept


def test_run_keeps_the_maps_of_every_method(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out", pooling(), methods=EVERY, classes=[1, 0])
    (arrays,) = shards_of(tmp_path / "out").values()
    inputs = inputs_of(pooling().preprocessing, sorted(photos.iterdir()))
    layers = ["features.0", "features.2"]
    explained = camreport.explain(pooling(), inputs, layers, EVERY, [1, 0])
    expected = {
        f"{method}/{layer}": cams.numpy()
        for method, by_layer in explained.maps.items()
        for layer, cams in by_layer.items()
    }
    assert {str(key) for key in map_keys(arrays)} == expected.keys()
    assert len(expected) == 2 * (len(EVERY) - 4) + 3 + 1 + 2  # input; CAM’s layer; fused
    for key, cams in expected.items():
        assert arrays[key].dtype == np.float32
        np.testing.assert_allclose(arrays[key], cams, rtol=1e-4, atol=1e-6, err_msg=key)
    assert arrays["guided_backprop/input"].shape == (5, 2, 3, 32, 40)
    assert arrays["guided_grad_cam/features.2"].shape == (5, 2, 3, 32, 40)
    assert arrays["full_grad/input"].shape == (5, 2, 32, 40)
    assert arrays["gradient_x_activation/features.2"].shape == (5, 2, 6, 4, 5)


def test_run_writes_down_what_was_asked_and_what_was_left_out(photos: Path, tmp_path: Path) -> None:
    out, told = tmp_path / "out", []
    summary = run(
        photos,
        out,
        tiny(3),
        layers=["0", "2", "2:pre"],
        methods="xgrad_cam,cam,layer_cam,guided_backprop,score_cam",
        class_names=["a", "b", "c"],
        **{"quantity": "contrast:b", "gamma": 0.5, "stages": 1, "smooth": "eigen", "seed": 4},
        notify=told.append,
    )
    manifest = manifest_of(out)
    methods = ["xgrad_cam", "cam", "layer_cam", "guided_backprop", "score_cam"]
    assert manifest["methods"] == methods
    assert (manifest["quantity"], manifest["smooth"]) == ("contrast:1", ["eigen"])
    assert manifest["fusion"] == {"gamma": 0.5, "stages": 1}
    assert manifest["seed"] is None, "nothing is drawn"
    skipped = {
        (skip["method"], skip["layer"]): worded(skip["reason"]) for skip in manifest["skipped"]
    }
    assert skipped.keys() == {
        *(("xgrad_cam", "features.2:pre"), ("cam", None), ("guided_backprop", None)),
    }
    assert told == list(skipped.values())
    assert set(told) <= set(map(str, summary.notes))
    words = manifest["command"].split()
    for flag, value in {
        **{"--quantity": "contrast:b", "--gamma": "0.5", "--stages": "1"},
        **{"--smooth": "eigen", "--seed": "4"},
    }.items():
        assert words[words.index(flag) + 1] == value


@pytest.mark.parametrize(
    ("options", "seed"),
    [
        ({"methods": "smooth_grad_cam_plus_plus"}, 7),
        ({"methods": "grad_cam", "smooth": "noise"}, 7),
        ({"methods": "grad_cam", "smooth": "aug,eigen"}, None),
        ({"methods": "score_cam"}, None),
    ],
    ids=str,
)
def test_manifest_has_a_seed_where_numbers_were_drawn(
    photos: Path, tmp_path: Path, options: dict[str, object], seed: int | None
) -> None:
    run(photos / "00.png", tmp_path / "out", seed=7, **options)
    assert manifest_of(tmp_path / "out")["seed"] == seed


@pytest.mark.parametrize(("smooth", "reused"), [("noise", 0), ("aug", 1)])
def test_another_seed_recomputes_only_what_draws_numbers(
    photos: Path, tmp_path: Path, smooth: str, reused: int
) -> None:
    model = tiny(3)
    for seed in (1, 2):
        summary = run(photos / "00.png", tmp_path / "out", model, smooth=smooth, seed=seed)
    assert summary.reused == reused


def test_manifest_adds_up_the_costs_of_each_kind_of_passes(photos: Path, tmp_path: Path) -> None:
    summary = run_by_two(photos, tmp_path / "out", pooling(), methods=EVERY, batch_size=2)
    cost = manifest_of(tmp_path / "out")["cost"]
    assert cost == summary.cost.to_json()
    families = cost["families"]
    assert list(families) == [
        *("shared", "look_alikes", "noisy_copies", "guided"),
        *("masked", "tail", "shared_masks"),
    ]
    for key in ("forwards", "backwards", "variants", "maps"):
        assert cost[key] == sum(family[key] for family in families.values())
    assert (families["shared"]["forwards"], families["shared"]["backwards"]) == (3, 6)
    assert families["masked"]["variants"] == 5 * 3 * PER_IMAGE
    assert families["tail"]["variants"] == 5 * (PER_IMAGE + 80 + 20)
    assert families["guided"]["maps"] == 5 * 2 * 3


@pytest.mark.parametrize(
    "options",
    [{"methods": "cam"}, {"methods": "grad_cam", "gamma": 0}, {"layers": ["0"], "stages": -1}],
    ids=str,
)
def test_run_writes_nothing_when_methods_or_options_cannot_be_met(
    photos: Path, tmp_path: Path, options: dict[str, object]
) -> None:
    model = tiny()
    with pytest.raises(MethodError):
        run(photos, tmp_path / "out", model, **options)
    assert not (tmp_path / "out").exists()
    assert model.module.batches == []


@pytest.mark.parametrize(
    ("quantity", "message"),
    [("contrast:d", "a class name, got 'd'"), ("contrast:3", "got '3'"), ("odds", "got 'odds'")],
)
def test_run_refuses_a_quantity_that_is_not_there(
    photos: Path, tmp_path: Path, quantity: str, message: str
) -> None:
    with pytest.raises(ClassError, match=message):
        run(photos, tmp_path / "out", tiny(3), class_names=list("abc"), quantity=quantity)
    assert not (tmp_path / "out").exists()


# Equal runs, and others


def test_run_with_noise_gives_equal_results_when_repeated(photos: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        torch.manual_seed(ord(name))
        run(photos, tmp_path / name, **NOISY)
    one, two = (files_of(tmp_path / name / "results") for name in ("a", "b"))
    assert one.keys() == two.keys()
    assert {name for name in one if one[name] != two[name]} <= {
        "manifest.json",
        "shard-000000.json",
    }
    assert lasting(tmp_path / "a") == lasting(tmp_path / "b")
    run(photos, tmp_path / "cut", batch_size=2, **NOISY)
    assert_same_maps(tmp_path / "cut", tmp_path / "a")


OTHERWISE: dict[str, dict[str, object]] = {
    "quantity": {"quantity": "probability"},
    "rival": {"quantity": "contrast:1"},
    "gamma": {"gamma": 3.0},
    "stages": {"stages": 0},
    "smooth": {"smooth": "noise"},
    "seed": {"seed": 1},
    "order of methods": {"methods": "layer_cam,grad_cam,smooth_grad_cam_plus_plus"},
}


@pytest.mark.parametrize("change", OTHERWISE)
def test_run_computes_again_when_something_else_is_asked(
    photos: Path, tmp_path: Path, change: str
) -> None:
    out, model = tmp_path / "out", tiny(3)
    run(photos, out, tiny(3), **NOISY)
    before = images_of(out)
    summary = run(photos, out, model, **{**NOISY, **OTHERWISE[change]})
    kept = change == "order of methods"
    assert summary.reused == (5 if kept else 0)
    assert bool(model.module.batches) != kept
    run(photos, tmp_path / "fresh", tiny(3), **{**NOISY, **OTHERWISE[change]})
    assert lasting(out) == lasting(tmp_path / "fresh")
    assert_same_maps(out, tmp_path / "fresh")
    same = all(
        np.array_equal(array, before[index][key])
        for index, arrays in images_of(out).items()
        for key, array in arrays.items()
    )
    assert same == kept
    again = tiny(3)
    assert run(photos, out, again, **{**NOISY, **OTHERWISE[change]}).reused == 5
    assert again.module.batches == []


def test_run_of_all_methods_differs_from_a_run_of_each_by_name(tmp_path: Path) -> None:
    folder, out = write_images(tmp_path / "in", 1), tmp_path / "out"
    large = pooling((60, 60))  # 15 x 15 positions at the first layer, 8 x 8 at the second
    summary = run(folder, out, large, methods="all")
    assert {key for key in images_of(out)[0] if "recipro" in key} == {"recipro_cam/features.2"}
    assert any("225 positions of features.0" in str(note) for note in summary.notes)
    skipped = [(skip["method"], skip["layer"]) for skip in manifest_of(out)["skipped"]]
    assert skipped == [("cam", "features.0"), ("recipro_cam", "features.0")]
    named = [method.key for method in resolve_methods("all")]
    again = run(folder, out, large, methods=named)
    assert again.reused == 0
    assert [skip["method"] for skip in manifest_of(out)["skipped"]] == ["cam"]
    assert "recipro_cam/features.0" in images_of(out)[0]
    assert not any("positions" in str(note) for note in again.notes)
    assert run(folder, out, large, methods=named).reused == 1
    assert run(folder, out, large, methods="all").reused == 0


def test_run_of_every_method_takes_a_photograph_without_contrast(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (32, 40)).save(tmp_path / "in" / "black.png")
    run(tmp_path / "in", tmp_path / "out", pooling(), methods=EVERY)
    (arrays,) = images_of(tmp_path / "out").values()
    assert all(np.isfinite(array).all() for array in arrays.values())
    assert (tmp_path / "out" / "index.html").exists()
