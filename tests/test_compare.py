"""Finished runs compared: against themselves, two epochs, other classes, other networks."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.compared import COUNT, epochs, stripes
from helpers.runs import QUICK, images_of, manifest_of, run, tiny
from scipy import stats
from torch.nn.functional import interpolate

import camreport
from camreport.errors import LayerError
from camreport.insight.compare.build import compare_runs
from camreport.insight.compare.comparison import Comparison, flips
from camreport.insight.compare.layers import pair_layers
from camreport.report.gallery.runs import compared_in, measured_in
from camreport.results.reader import load_results

NAMES = ("across", "upright")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A network's runs after two epochs, with evidence."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return epochs(tmp_path_factory.mktemp("epochs"))


@pytest.fixture(scope="module")
def found(runs: list[Path]) -> Comparison:
    """The comparison of the two epochs."""
    return compare_runs([one.name for one in runs], [load_results(one) for one in runs])


# A model against itself


def test_a_run_against_itself_shows_no_difference(runs: list[Path], tmp_path: Path) -> None:
    camreport.compare([runs[1], runs[1]], tmp_path / "out")
    found = compared_in(tmp_path / "out")
    assert found.names == ("epoch-2", "epoch-2 (2)")
    assert found.flips == ()
    assert found.missing == ()
    assert {pair.by for pair in found.pairs} == {"name"}
    assert len(found.deltas) > 20
    for delta in found.deltas:
        assert (delta.delta, delta.low, delta.high) == (0, 0, 0)
        assert delta.before == delta.after
        assert delta.apart is (False if delta.n >= 30 else None)
    assert next(one for one in found.deltas if one.key == "accuracy").p == 1
    assert len(found.agreement) == 7  # of three methods at two layers, one of them fused
    for own in found.agreement:
        assert own.correlation == pytest.approx(1)
        assert (own.overlap, own.moved) == (1, 0)
    assert not any(own.mean.any() for own in found.differences)
    summary = measured_in(tmp_path / "out").summary()
    assert str(summary.headline).startswith("No difference: ")
    assert str(COUNT) in str(summary.headline)
    assert summary.first == ()
    assert summary.cautions == ()


# Two epochs, after the arrays in their shards


def predicted(run: Path) -> dict[str, tuple[int, int]]:
    """Return true and predicted class of each image by its file."""
    images = manifest_of(run)["images"]
    return {one["file"]: (one["label"], one["top"][0]["index"]) for one in images}


def test_flips_are_those_of_the_two_manifests(runs: list[Path], found: Comparison) -> None:
    before, after = map(predicted, runs)
    expected = {}
    for file, (label, first) in before.items():
        second = after[file][1]
        if first != second:
            kind = "wrong" if first == label else "right" if second == label else "other"
            expected[file] = kind
    assert expected  # or the test shows nothing
    files = [image.file for image in found.first.images]
    assert {files[flip.image]: flip.kind for flip in found.flips} == expected
    accuracy = next(one for one in found.deltas if one.key == "accuracy")
    rights = [sum(label == top for label, top in one.values()) for one in (before, after)]
    assert (accuracy.before, accuracy.after) == (rights[0] / COUNT, rights[1] / COUNT)
    gained, lost = (sum(kind == which for kind in expected.values()) for which in NAMES_OF_KINDS)
    assert accuracy.p == pytest.approx(stats.binomtest(gained, gained + lost).pvalue)
    assert accuracy.delta == pytest.approx((gained - lost) / COUNT)


NAMES_OF_KINDS = ("right", "wrong")


def test_flips_whose_maps_moved_furthest_come_first(found: Comparison) -> None:
    first = found.first.images
    tops = [(replace(top, index=1 - top.index), *rest) for top, *rest in (one.top for one in first)]
    turned = [replace(one, top=top) for one, top in zip(first, tops, strict=True)]
    moved = np.random.default_rng(0).random(COUNT)
    moved[3] = np.nan
    found_flips = flips(first, turned, 1, moved)
    assert [flip.image for flip in found_flips] == [*np.argsort(-moved)[:-1], 3]
    assert found_flips[-1].moved is None
    unknown = [replace(one, label=None) for one in first], [replace(o, label=None) for o in turned]
    assert {flip.kind for flip in flips(*unknown, 1, moved)} == {"other"}
    assert flips(first, first, 1, moved) == []


@pytest.mark.parametrize("key", ["grad_cam/features.2", "hires_cam/features.0"])
def test_moves_are_those_of_the_shards_maps(runs: list[Path], found: Comparison, key: str) -> None:
    first, second = map(images_of, runs)
    labels = [one["label"] for one in manifest_of(runs[0])["images"]]
    moved, correlations, differences = [], [], []
    for index, label in enumerate(labels):
        grids = []
        for arrays in (first[index], second[index]):
            slot = arrays["targets"].tolist().index(label)
            cam = torch.from_numpy(arrays[key][slot]).double().clamp(min=0)[None, None]
            large = interpolate(cam, (14, 14), mode="bilinear", align_corners=False)
            grids.append(large[0, 0].numpy() / max(float(cam.max()), 1e-30))
        a, b = (grid.ravel() for grid in grids)
        differences.append(grids[1] - grids[0])
        if a.any() and b.any():
            moved.append(np.abs(a / a.sum() - b / b.sum()).sum() / 2)
            correlations.append(stats.spearmanr(a, b)[0])
    method, layer = key.split("/")
    own = next(one for one in found.agreement if (one.method, one.layer) == (method, layer))
    assert own.n == len(moved)
    assert own.moved == pytest.approx(np.median(moved), abs=1e-6)
    assert own.correlation == pytest.approx(np.nanmedian(correlations), abs=2e-3)
    mean = next(one for one in found.differences if (one.method, one.layer) == (method, layer))
    assert mean.n == COUNT
    np.testing.assert_allclose(mean.mean, np.mean(differences, 0), atol=1e-6)


def test_numbers_of_the_evidence_are_paired_image_by_image(
    runs: list[Path], found: Comparison
) -> None:
    values = []
    for run_of in runs:
        arrays = {}
        for path in sorted((run_of / "results").glob("evidence-*.npz")):
            with np.load(path) as file:
                arrays |= dict(file)
        images = images_of(run_of)
        tops = [one["top"][0]["index"] for one in manifest_of(run_of)["images"]]
        slots = [images[i]["targets"].tolist().index(top) for i, top in enumerate(tops)]
        values.append(arrays["extent/layer_cam/features.2"][np.arange(COUNT), slots])
    own = next(
        one
        for one in found.deltas
        if (one.key, one.method, one.layer) == ("extent", "layer_cam", "features.2")
    )
    assert own.n == COUNT
    assert own.delta == pytest.approx(np.nanmedian(values[1] - values[0]))
    assert own.low is not None
    assert own.low <= own.delta <= own.high
    assert own.apart is (own.low > 0 or own.high < 0)


def test_a_run_axis_has_as_many_runs_as_are_given(runs: list[Path], tmp_path: Path) -> None:
    camreport.compare([*runs, runs[0]], tmp_path / "out")
    found = compared_in(tmp_path / "out")
    assert found.names == ("epoch-1", "epoch-2", "epoch-1 (2)")
    assert {flip.run for flip in found.flips} == {1}
    measured = measured_in(tmp_path / "out")
    assert [*measured.columns] == ["moved", "moved.epoch-2", "moved.epoch-1 (2)"]
    assert measured.columns["moved"] == measured.columns["moved.epoch-1 (2)"]


# Images that not all runs have


def test_images_are_joined_by_content_and_the_others_are_named(
    runs: list[Path], tmp_path: Path
) -> None:
    some = stripes(tmp_path / "photos", 6)
    (some / "across" / "04.png").rename(some / "across" / "other name.png")
    shutil.copy(some / "across" / "00.png", some / "across" / "twice.png")
    (some / "upright" / "broken.png").write_bytes(b"x")
    run(some, tmp_path / "b", class_names=[*NAMES], labels="folder")
    found = compare_runs(["a", "b"], [load_results(runs[0]), load_results(tmp_path / "b")])
    files = [image.file for image in found.first.images]
    # The stripes of six photographs are the first six of the thirty-six.
    assert sorted(files) == [
        *(f"across/{i:02}.png" for i in (0, 2, 4)),
        *(f"upright/{i:02}.png" for i in (1, 3, 5)),
    ]
    lacking = {one.file for one in found.missing if one.runs == (1,)}
    assert lacking == {image.file for image in load_results(runs[0]).readable} - {*files}
    repeated = [one for one in found.missing if not one.runs]
    assert [one.file for one in repeated] == ["across/twice.png"]
    assert "across/00.png" in str(repeated[0].reason)


# Other classes


def test_a_mapped_class_has_the_sum_of_probabilities_and_the_map_of_the_most_probable(
    runs: list[Path], tmp_path: Path
) -> None:
    names = ["ladder", "fence", "poles", "cloud"]
    run(runs[0].parent / "photos", tmp_path / "b", tiny(4, seed=1), class_names=names)
    label_map = {"across": ["ladder"], "upright": ["1-2"]}
    results = [load_results(runs[0]), load_results(tmp_path / "b")]
    found = compare_runs(["a", "b"], results, label_map=label_map)
    assert found.mapped == (False, True)
    arrays, view = images_of(tmp_path / "b"), found.views[1]
    elsewhere = 0
    for index in range(COUNT):
        own = arrays[index]
        chances = torch.softmax(torch.from_numpy(own["logits"]).double(), 0).numpy()
        elsewhere += chances.argmax() == 3
        np.testing.assert_allclose(view.probabilities(index), [chances[0], chances[1:3].sum()])
        assert view.images[index].top[0].index == int(chances[1:3].sum() > chances[0])
        explained = own["targets"].tolist()
        members = sorted((t for t in explained if t in (1, 2)), key=lambda t: -chances[t])
        maps = {
            record.target: record.cam
            for record in view.maps(index)
            if (record.method.key, record.layer) == ("grad_cam", "features.2")
        }
        assert (1 in maps) == bool(members)
        if members:
            place = explained.index(members[0])
            np.testing.assert_array_equal(maps[1], own["grad_cam/features.2"][place])
    assert found.elsewhere == (0, elsewhere)


# Layers


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory, photo: Path) -> list[Path]:
    """Runs of the bundled network and of a SqueezeNet with random weights on one photograph."""
    folder = tmp_path_factory.mktemp("networks")
    given = {"methods": "grad_cam", "evidence": "off", "classes": "0"}
    camreport.run(photo, folder / "alexnet", **given)
    camreport.run(photo, folder / "other", model="squeezenet1_1", weights="none", **given)
    return [folder / "alexnet", folder / "other"]


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One photograph of stripes."""
    return next(stripes(tmp_path_factory.mktemp("one"), 1).rglob("*.png"))


def test_layers_of_other_networks_are_paired_by_depth_and_grid(networks: list[Path]) -> None:
    manifests = [load_results(one).manifest for one in networks]
    pairs = [pair for pair in pair_layers(manifests) if pair.whole]
    assert len(pairs) == min(len(own.layers) for own in manifests)
    assert {pair.by for pair in pairs} == {"depth"}
    for run_of in (0, 1):
        depths = [pair.depths[run_of] for pair in pairs]
        assert depths == sorted(depths)
        assert 0 <= depths[0] < depths[-1] <= 1
    shapes = [{own.address: own.shape for own in manifest.layers} for manifest in manifests]
    for pair in pairs:
        sides = [shapes[i][address][1] for i, address in enumerate(pair.addresses)]
        assert max(sides) / min(sides) < 2.5
    chosen = {pairs[0].key: pairs[-1].addresses[1]}
    changed = pair_layers(manifests, chosen)
    assert changed[0].by == "chosen"
    assert changed[0].addresses == (pairs[0].key, pairs[-1].addresses[1])
    addresses = [pair.addresses[1] for pair in changed if pair.addresses[1]]
    assert sorted(addresses) == sorted({*shapes[1]})
    with pytest.raises(LayerError, match=r"Did you mean 'features\.12'"):
        pair_layers(manifests, {"features.1": "features.3"})


def test_layers_of_one_name_are_paired_only_where_they_are_alike(runs: list[Path]) -> None:
    manifest = load_results(runs[0]).manifest
    first, last = manifest.layers
    other = replace(manifest, layers=(replace(first, shape=(9, 8, 10)), last))
    by = [pair.by for pair in pair_layers([manifest, other])]
    assert by == ["depth", "name"]
    shorter = replace(manifest, layers=(last,))
    pairs = pair_layers([manifest, shorter])
    assert [pair.by for pair in pairs] == ["alone", "name"]
    alone = pair_layers([shorter, manifest])
    assert [(pair.key, pair.by) for pair in alone] == [
        ("features.0", "alone"),
        ("features.2", "name"),
    ]
    assert QUICK[0] in manifest.methods
