"""The true class of an image is explained wherever a label gives it."""

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.runs import (
    LAYERS,
    QUICK,
    fail,
    files_of,
    interrupt_after,
    lasting,
    manifest_of,
    npz_of,
    tiny,
)
from helpers.runs import run_by_two as run
from numpy.typing import NDArray
from PIL import Image

from camreport.errors import ResultsError
from camreport.methods import METHODS
from camreport.report.export.table import export_table
from camreport.results import writer
from camreport.results.reader import load_results

CLASSES = 6

EVERY = {f"{index:02}.png": 0 if index in (1, 5) else 5 for index in range(7)}
"""Labels of all photographs; the top three have class 0 and lack class 5."""

ALL_METHODS = "all,gradient_x_activation,layer_cam_pool_gradient"


def six() -> object:
    """A model of six classes, of which a run explains the top three."""
    return tiny(CLASSES)


def computed(inputs: Path, out: Path, **options: object) -> int:
    """Run with six classes; return how many photographs went through the model."""
    model = six()
    run(inputs, out, model, **options)
    return sum(model.module.batches)


def unexplained(out: Path) -> list[int]:
    """Return the images of a run whose true class is not among its top three."""
    results = load_results(out)
    return [
        image.index
        for image in results.readable
        if image.label is not None and image.label not in results.arrays(image.index)["targets"]
    ]


def true_of(out: Path) -> dict[str, dict[str, NDArray[np.generic]]]:
    """Return the arrays of the files of true classes, by name."""
    found = {}
    for path in sorted((out / "results").glob("true-*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            found[path.name] = dict(arrays)
    return found


def shards_alone(out: Path) -> dict[str, bytes]:
    """Return the bytes of every shard by file name."""
    return {name: data for name, data in npz_of(out).items() if name.startswith("shard")}


def inputs_of(path: Path) -> torch.Tensor:
    """Return a photograph as the model takes it."""
    return torch.from_numpy(six().preprocessing.apply(Image.open(path).convert("RGB")))[None]


# What is explained


def test_the_true_class_comes_as_one_more_slot_where_the_top_three_lack_it(
    photos: Path, tmp_path: Path
) -> None:
    run(photos, tmp_path / "out", six(), labels=EVERY)
    results, apart = load_results(tmp_path / "out"), unexplained(tmp_path / "out")
    assert apart == [0, 2, 3, 4, 6]
    for index in range(7):
        own = results.arrays(index)["targets"].tolist()
        assert results.targets(index) == tuple(own + [5] * (index in apart))
        slots = {record.slot: record.target for record in results.maps(index)}
        assert slots == dict(enumerate(results.targets(index)))


def test_its_grad_cam_is_what_plain_autograd_gives(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out", six(), labels=EVERY)
    results, net = load_results(tmp_path / "out"), six().module
    for index in unexplained(tmp_path / "out"):
        first = net.features[0](inputs_of(photos / f"{index:02}.png")).relu()
        last = net.features[2](first).relu()
        logit = net.head(last)[0, 5]
        records = {(m.method.key, m.layer): m.cam for m in results.maps(index) if m.slot == 3}
        assert {layer for _, layer in records} == {*LAYERS, "fused"}
        for layer, activation in zip(LAYERS, (first, last), strict=True):
            (gradient,) = torch.autograd.grad(logit, activation, retain_graph=True)
            expected = (gradient.mean((2, 3), keepdim=True) * activation).sum(1)[0]
            found = records["grad_cam", layer]
            np.testing.assert_allclose(found, expected.detach(), rtol=1e-4, atol=1e-6)
        assert float(results.logits(index)[5]) == pytest.approx(logit.item(), abs=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"methods": ALL_METHODS},
        {"methods": "grad_cam,smooth_grad_cam_plus_plus,layer_cam", "smooth": "noise,aug"},
        {"quantity": "contrast", "channels": ["0", "2"]},
        {"batch_size": 1},
    ],
)
def test_its_maps_equal_those_of_a_run_that_explains_that_class(
    photos: Path, tmp_path: Path, options: dict
) -> None:
    run(photos, tmp_path / "out", six(), labels=EVERY, **options)
    run(photos, tmp_path / "alone", six(), classes=[5], **options)
    ours, theirs = load_results(tmp_path / "out"), load_results(tmp_path / "alone")
    for index in unexplained(tmp_path / "out"):
        true, whole = ours.true_arrays(index), theirs.arrays(index)
        expected = {
            name
            for name in whole
            if "/" in name
            and (METHODS[m].per_class if (m := name.partition("/")[0]) in METHODS else True)
            and not name.startswith("feature_maps/")
        }
        assert true.keys() == expected | {"image", "targets"}
        for name in true.keys() - {"image"}:
            scale = np.abs(whole[name]).max()
            np.testing.assert_allclose(true[name], whole[name], rtol=1e-4, atol=1e-5 * scale)
        if options.get("channels"):
            weights = ours.channels(index, "features.2").weights
            np.testing.assert_allclose(
                weights[3], theirs.channels(index, "features.2").weights[0], atol=1e-6
            )


def test_of_several_classes_that_count_as_right_the_shown_one_is_explained(
    photos: Path, tmp_path: Path
) -> None:
    label_map = {"either": [4, 5]}
    labels = dict.fromkeys(EVERY, "either")
    run(photos, tmp_path / "out", six(), labels=labels, label_map=label_map)
    results = load_results(tmp_path / "out")
    for image in results.readable:
        own = results.arrays(image.index)["targets"]
        apart = [] if image.label in own else [image.label]
        assert results.targets(image.index) == (*own, *apart)


def test_nothing_is_kept_apart_where_all_classes_or_none_are_looked_at(
    photos: Path, tmp_path: Path
) -> None:
    run(photos, tmp_path / "all", six(), labels=EVERY, classes="all")
    run(photos, tmp_path / "none", six(), labels=EVERY, methods="eigen_cam")
    for out in (tmp_path / "all", tmp_path / "none"):
        assert not [*(out / "results").glob("true-*")]
        assert load_results(out).targets(0) == tuple(load_results(out).arrays(0)["targets"])


def test_table_figures_and_static_page_have_it_too(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = ["ant", "bee", "cow", "doe", "elk", "fox"]
    run(photos, out, six(), labels=EVERY, class_names=names, methods="grad_cam", figures=True)
    with export_table(out).open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["image"] == "00.png"]
    assert [row["class"] for row in rows[::2]] == ["elk", "ant", "bee", "fox"]
    results = load_results(out)
    true = [row for row in rows if row["class"] == row["true_class"]]
    assert [row["layer"] for row in true] == [*LAYERS]
    for row in true:
        cam = results.true_arrays(0)[f"grad_cam/{row['layer']}"]
        assert float(row["raw_maximum"] or 0) == pytest.approx(max(cam.max(), 0), rel=1e-6)
    drawn = {path.name for path in (out / "figures").glob("00_*.png")}
    assert {f"00_class5-fox_grad_cam_{layer}.png" for layer in LAYERS} <= drawn
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "00.png, fox, Grad-CAM, features.2" in page
    assert "01.png, fox, Grad-CAM, features.2" not in page


# What labels cost later


def test_labels_given_later_compute_the_missing_maps_and_no_shard(
    photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(photos, out, six())
    before, cost = shards_alone(out), manifest_of(out)["cost"]
    done: list[float] = []
    passes = computed(photos, out, labels=EVERY, progress=done.append)
    assert passes == len(unexplained(out)) > 0
    assert sum(done) == 7
    assert shards_alone(out) == before
    run(photos, tmp_path / "fresh", six(), labels=EVERY)
    assert npz_of(out) == npz_of(tmp_path / "fresh")
    assert lasting(out) == lasting(tmp_path / "fresh")
    more = manifest_of(out)["cost"]
    assert more["maps"] == cost["maps"] + passes * (len(QUICK) * len(LAYERS) + 1)
    assert computed(photos, out, labels=EVERY) == 0


def test_images_whose_true_class_is_explained_anew_are_not_called_kept(
    photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(photos, out, six())
    again = run(photos, out, six(), labels=EVERY)
    assert again.reused == 7 - len(unexplained(out)) < 7
    assert run(photos, out, six(), labels=EVERY).reused == 7


def test_the_shards_do_not_depend_on_labels(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "with", six(), labels=EVERY)
    run(photos, tmp_path / "without", six())
    assert shards_alone(tmp_path / "with") == shards_alone(tmp_path / "without")


def test_other_labels_compute_only_the_files_that_differ(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, out, six(), labels=EVERY)
    before = npz_of(out)
    results = load_results(out)
    apart = unexplained(out)
    changed = apart[0]
    other = next(c for c in range(5) if c not in results.arrays(changed)["targets"])
    shard = changed // 2
    beside = [index for index in apart if index // 2 == shard]
    assert computed(photos, out, labels=EVERY | {f"{changed:02}.png": other}) == len(beside)
    assert load_results(out).targets(changed)[-1] == other
    now = npz_of(out)
    assert [n for n in before if now[n] != before[n]] == [f"true-{shard:06d}.npz"]


def test_labels_that_go_take_the_files_with_them(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, tmp_path / "fresh", six())
    run(photos, out, six(), labels=EVERY)
    assert computed(photos, out) == 0
    assert files_of(out).keys() == files_of(tmp_path / "fresh").keys()
    assert lasting(out) == lasting(tmp_path / "fresh")
    assert len(load_results(out).targets(0)) == 3


def test_a_further_method_is_added_alone(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, out, six(), labels=EVERY)
    count = len(unexplained(out))
    assert computed(photos, out, labels=EVERY, methods=[*QUICK, "xgrad_cam"]) == 7 + count
    run(photos, tmp_path / "fresh", six(), labels=EVERY, methods=[*QUICK, "xgrad_cam"])
    assert npz_of(out) == npz_of(tmp_path / "fresh")
    assert computed(photos, out, labels=EVERY, methods=[*QUICK, "xgrad_cam", "eigen_cam"]) == 7
    assert computed(photos, out, labels=EVERY, methods=QUICK[:1]) == 0
    names = {key for arrays in true_of(out).values() for key in arrays}
    kept = {"image", "targets", f"channel_contributions/{[*LAYERS][-1]}"}
    assert names == kept | {f"grad_cam/{layer}" for layer in LAYERS}


# What is lost, interrupted or from someone else

LOSSES: dict[str, Callable[[Path], object]] = {
    "a file": lambda path: path.unlink(),
    "a damaged file": lambda path: os.truncate(path, 100),
    "a record": lambda path: path.with_suffix(".json").unlink(),
    "a damaged record": lambda path: path.with_suffix(".json").write_text('{"images": [1]}'),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_what_is_lost_is_computed_again_alone(photos: Path, tmp_path: Path, loss: str) -> None:
    out = tmp_path / "out"
    run(photos, out, six(), labels=EVERY)
    before, (first, *_) = npz_of(out), true_of(out)
    count = len(true_of(out)[first]["image"])
    LOSSES[loss](out / "results" / first)
    assert computed(photos, out, labels=EVERY) == count
    assert npz_of(out) == before


def test_a_lost_shard_takes_its_true_classes_as_they_are(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, out, six(), labels=EVERY)
    before, (first, *_) = npz_of(out), true_of(out)
    (out / "results" / first.replace("true", "shard")).unlink()
    assert computed(photos, out, labels=EVERY) == 2
    assert npz_of(out) == before


def test_a_changed_photograph_changes_its_true_class_too(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, out, six(), labels=EVERY)
    index = unexplained(out)[0]
    Image.new("RGB", (50, 40), (index, 90, 200)).save(photos / f"{index:02}.png")
    run(photos, out, six(), labels=EVERY)
    run(photos, tmp_path / "fresh", six(), labels=EVERY)
    assert npz_of(out) == npz_of(tmp_path / "fresh")


@pytest.mark.parametrize("stop", range(1, 8))
def test_a_run_resumes_where_it_was_interrupted(photos: Path, tmp_path: Path, stop: int) -> None:
    out = tmp_path / "out"
    run(photos, tmp_path / "whole", six(), labels=EVERY, batch_size=1)
    with pytest.raises(KeyboardInterrupt):
        run(photos, out, six(), labels=EVERY, batch_size=1, progress=interrupt_after(stop))
    finished = npz_of(out)
    left = 7 - 2 * sum(name.startswith("shard") for name in finished)
    there = sum(len(arrays["image"]) for arrays in true_of(out).values())
    passes = computed(photos, out, labels=EVERY, batch_size=1)
    probed = 0 if finished else 1
    assert passes == left + len(unexplained(out)) - there + probed
    assert npz_of(out) == npz_of(tmp_path / "whole")
    assert lasting(out) == lasting(tmp_path / "whole")


def test_labels_given_later_resume_after_an_interruption(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, out, six(), batch_size=1)
    before = files_of(out)
    with pytest.raises(KeyboardInterrupt):
        run(photos, out, six(), labels=EVERY, batch_size=1, progress=interrupt_after(6))
    assert {name: files_of(out)[name] for name in before} == before
    there = [*(out / ".camreport-next").glob("true-*.npz")]
    assert len(there) == 2, "what was finished stays"
    assert computed(photos, out, labels=EVERY, batch_size=1) == 2
    run(photos, tmp_path / "fresh", six(), labels=EVERY, batch_size=1)
    assert npz_of(out) == npz_of(tmp_path / "fresh")


def test_nothing_is_computed_again_when_killed_before_the_manifest(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(writer.ResultsWriter, "complete", fail)
        with pytest.raises(KeyboardInterrupt):
            run(photos, tmp_path / "out", six(), labels=EVERY)
    assert computed(photos, tmp_path / "out", labels=EVERY) == 0


def test_batches_that_memory_does_not_hold_are_halved(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "whole", six(), labels=EVERY)
    model = six()
    run(photos, tmp_path / "out", model)
    model.module.most = 1
    run(photos, tmp_path / "out", model, labels=EVERY)
    ours, theirs = true_of(tmp_path / "out"), true_of(tmp_path / "whole")
    assert ours.keys() == theirs.keys()
    for name, arrays in ours.items():
        for key, array in arrays.items():
            np.testing.assert_allclose(array, theirs[name][key], rtol=1e-5, atol=1e-6)


def rewritten(path: Path, **changes: NDArray[np.generic] | None) -> None:
    """Write a file of arrays anew with some arrays changed or left out."""
    with np.load(path) as stored:
        arrays = dict(stored) | changes
    np.savez(path, **{key: array for key, array in arrays.items() if array is not None})


WRONG: dict[str, dict] = {
    "another class": {"targets": np.array([[1]])},
    "a class that does not exist": {"targets": np.array([[9]])},
    "two classes": {"targets": np.array([[5, 5]])},
    "no images": {"image": None},
    "another image": {"image": np.array([77])},
    "a map that is no number": {"grad_cam/features.0": np.zeros((1, 1, 8, 10), np.int64)},
    "a map of an unknown layer": {"grad_cam/elsewhere": np.zeros((1, 1, 8, 10), np.float32)},
    "a map of no class": {"eigen_cam/features.0": np.zeros((1, 1, 8, 10), np.float32)},
}


@pytest.mark.parametrize("change", WRONG)
def test_a_file_from_someone_else_is_checked(photos: Path, tmp_path: Path, change: str) -> None:
    out = tmp_path / "out"
    run(photos, out, six(), labels=EVERY, methods=[*QUICK, "eigen_cam"], batch_size=1)
    name = next(name for name, own in true_of(out).items() if len(own["image"]) == 1)
    index = int(true_of(out)[name]["image"][0])
    rewritten(out / "results" / name, **WRONG[change])
    with pytest.raises(ResultsError, match=rf"{name} (does not match|has no maps)"):
        list(load_results(out).maps(index))


def test_a_file_that_is_missing_is_named(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out", six(), labels=EVERY)
    first = next(iter(true_of(tmp_path / "out")))
    index = int(true_of(tmp_path / "out")[first]["image"][0])
    (tmp_path / "out" / "results" / first).unlink()
    with pytest.raises(ResultsError, match=first):
        load_results(tmp_path / "out").targets(index)


def test_a_link_in_its_place_is_not_followed(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, out, six(), labels=EVERY)
    first = next(iter(true_of(out)))
    index = int(true_of(out)[first]["image"][0])
    shutil.move(out / "results" / first, tmp_path / "elsewhere.npz")
    (out / "results" / first).symlink_to(tmp_path / "elsewhere.npz")
    with pytest.raises(ResultsError):
        load_results(out).targets(index)
