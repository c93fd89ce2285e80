"""What a second run keeps of the first one's work, and what it computes again."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.reports import embedded
from helpers.runs import (
    PER_IMAGE,
    PROBED,
    QUICK,
    assert_same_maps,
    files_of,
    images_computed,
    images_of,
    interrupt_after,
    lasting,
    manifest_of,
    npz_of,
    shards_of,
    tiny,
    write_images,
)
from helpers.runs import run_by_two as run
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import camreport
from camreport.errors import ClassError, InputError, ResultsError
from camreport.images import loading as decoding
from camreport.images.loading import FailedInput
from camreport.models import LoadedModel
from camreport.pipeline.run_plan import ShardLimits

# Options that no map depends on


def test_labels_and_class_names_cost_no_map(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, out)
    maps = npz_of(out)
    options = {"labels": {"03.png": 1}, "class_names": ["cat", "dog"]}
    assert images_computed(photos, out, **options) == 0
    assert npz_of(out) == maps
    run(photos, tmp_path / "fresh", **options)
    assert lasting(out) == lasting(tmp_path / "fresh")
    assert embedded(out, "report")["classes"] == ["cat", "dog"]
    assert embedded(out, "report")["images"]["label"] == [None, None, None, 1, None, None, None]
    assert images_computed(photos, out) == 0
    assert "label" not in manifest_of(out)["images"][3], "and they go again"


def test_a_new_language_and_layout_cost_no_map_and_are_in_the_command(
    photos: Path, tmp_path: Path
) -> None:
    run(photos, tmp_path / "out")
    assert images_computed(photos, tmp_path / "out", language="zh", layout="folder") == 0
    assert manifest_of(tmp_path / "out")["command"].endswith("--folder --lang zh")
    assert (tmp_path / "out" / "data" / "report.js").exists()


def test_tables_of_other_labels_go_and_those_of_the_same_results_stay(
    photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(photos, out)
    camreport.report.export.export_table(out)
    run(photos, out, language="zh")
    assert (out / "maps.csv").exists()
    run(photos, out, labels={"03.png": 1}, class_names=["cat", "dog"])
    assert not (out / "maps.csv").exists()


def test_a_wrong_number_of_class_names_is_refused_before_anything_changes(
    photos: Path, tmp_path: Path
) -> None:
    run(photos, tmp_path / "out")
    before = files_of(tmp_path / "out")
    with pytest.raises(ClassError, match="class names: expected 2, one per logit of Tiny, got 3"):
        run(photos, tmp_path / "out", class_names=["a", "b", "c"])
    assert files_of(tmp_path / "out") == before


# What is lost or changed is computed again alone


LOSSES: dict[str, Callable[[Path], object]] = {
    "a shard": lambda folder: (folder / "shard-000001.npz").unlink(),
    "a damaged shard": lambda folder: os.truncate(folder / "shard-000001.npz", 700),
    "a shard's records": lambda folder: (folder / "shard-000001.json").unlink(),
    "damaged records": lambda folder: (folder / "shard-000001.json").write_text('{"images": [1]}'),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("interrupted", [False, True])
def test_what_is_lost_is_computed_again_alone(
    photos: Path, tmp_path: Path, loss: str, interrupted: bool
) -> None:
    out = tmp_path / "out"
    run(photos, tmp_path / "whole")
    run(photos, out)
    if interrupted:
        (out / "results" / "manifest.json").unlink()
    LOSSES[loss](out / "results")
    assert images_computed(photos, out) == 2
    assert_same_maps(out, tmp_path / "whole")
    assert lasting(out) == lasting(tmp_path / "whole")
    assert files_of(out).keys() == files_of(tmp_path / "whole").keys()


def test_a_lost_manifest_costs_no_map(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    (tmp_path / "out" / "results" / "manifest.json").write_text("{")
    assert images_computed(photos, tmp_path / "out") == 0
    assert len(manifest_of(tmp_path / "out")["images"]) == 7


def test_a_file_that_was_only_touched_costs_no_map(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    before = files_of(tmp_path / "out")
    for file in photos.iterdir():
        os.utime(file, (1, 1))
    assert images_computed(photos, tmp_path / "out") == 0
    assert files_of(tmp_path / "out") == before


def test_a_changed_file_is_computed_again_with_its_shard_alone(
    photos: Path, tmp_path: Path
) -> None:
    """Its size and its time of change are what they were: only its bytes and ctime differ."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    file = photos / "03.bmp"
    (photos / "03.png").unlink()
    Image.fromarray(pixels).save(file)
    run(photos, tmp_path / "out")
    facts = file.stat()
    Image.fromarray(255 - pixels).save(file)
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert file.stat().st_size == facts.st_size
    assert images_computed(photos, tmp_path / "out") == 2
    run(photos, tmp_path / "fresh")
    assert_same_maps(tmp_path / "out", tmp_path / "fresh")
    assert lasting(tmp_path / "out") == lasting(tmp_path / "fresh")


def test_images_more_at_the_end_cost_their_own_shards(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    for name in ("zx.png", "zy.png"):
        shutil.copy(photos / "00.png", photos / name)
    assert images_computed(photos, tmp_path / "out") == 3, "the last shard had room for one more"
    run(photos, tmp_path / "fresh")
    assert_same_maps(tmp_path / "out", tmp_path / "fresh")


def test_other_images_leave_the_earlier_results_until_theirs_are_complete(
    photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(photos, out)
    before = files_of(out)
    others = write_images(tmp_path / "others", 9)
    for index in range(9):
        Image.new("RGB", (40, 40), (index, 0, 0)).save(others / f"{index:02}.png")
    with pytest.raises(KeyboardInterrupt):
        run(others, out, batch_size=None, progress=interrupt_after(9))
    assert {name: files_of(out)[name] for name in before} == before
    run(others, out)
    run(others, tmp_path / "fresh")
    assert_same_maps(out, tmp_path / "fresh")
    assert files_of(out).keys() == files_of(tmp_path / "fresh").keys()


# Failures


def failing_once(monkeypatch: pytest.MonkeyPatch, failure: FailedInput, name: str) -> list[str]:
    """Let an input fail until the list that is returned has an entry."""
    passed: list[str] = []
    load = decoding._load

    def loaded(path: Path, *given: object) -> object:
        return failure if path.name == name and not passed else load(path, *given)

    monkeypatch.setattr(decoding, "_load", loaded)
    return passed


def test_a_failure_that_has_passed_is_computed_with_its_shard_alone(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = FailedInput("memory was short", "0" * 64, transient=True)
    passed = failing_once(monkeypatch, short, "03.png")
    summary = run(photos, tmp_path / "out")
    assert [str(image.reason) for image in summary.failed] == ["memory was short"]
    assert "transient" not in manifest_of(tmp_path / "out")["images"][3]
    before = files_of(tmp_path / "out")
    assert images_computed(photos, tmp_path / "out") == 0, "it has not passed"
    assert files_of(tmp_path / "out") == before
    passed.append("yes")
    assert images_computed(photos, tmp_path / "out") == 2
    run(photos, tmp_path / "whole")
    assert_same_maps(tmp_path / "out", tmp_path / "whole")
    assert lasting(tmp_path / "out") == lasting(tmp_path / "whole")


def test_a_failure_that_lasts_is_not_tried_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = failing_once(monkeypatch, FailedInput("no image", "0" * 64), "03.png")
    run(photos, tmp_path / "out")
    passed.append("yes")
    assert images_computed(photos, tmp_path / "out") == 0


def test_a_link_that_leads_somewhere_by_now_is_computed(photos: Path, tmp_path: Path) -> None:
    (photos / "03.png").rename(tmp_path / "later.png")
    (photos / "03.png").symlink_to(tmp_path / "gone.png")
    assert len(run(photos, tmp_path / "out").failed) == 1
    (tmp_path / "later.png").rename(tmp_path / "gone.png")
    model = tiny()
    assert run(photos, tmp_path / "out", model).failed == ()
    assert sum(model.module.batches) == 2


@pytest.mark.parametrize("bad", [[0, 1], [2, 3], [6]])
def test_a_shard_of_inputs_that_are_no_images_counts_as_finished(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: list[int]
) -> None:
    for index in bad:
        (photos / f"{index:02}.png").write_bytes(b"x")
    run(photos, tmp_path / "out")
    decoded: list[str] = []
    load = decoding._load
    monkeypatch.setattr(
        decoding, "_load", lambda path, *given: decoded.append(path.name) or load(path, *given)
    )
    summary = run(photos, tmp_path / "out")
    assert decoded == []
    assert (summary.reused, len(summary.failed)) == (7, len(bad))


# Hours of work


def test_many_finished_shards_are_not_replaced_unasked(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, out)
    limits = ShardLimits(shard_images=2, discarded_shards=4)
    before = files_of(out)
    differs = r"holds 4 finished shards of a run that differs in classes\. .*--overwrite"
    with pytest.raises(InputError, match=differs):
        run(photos, out, classes=[1], limits=limits)
    with pytest.raises(InputError, match=r"differs in methods\. .*--overwrite"):
        run(photos, out, methods=QUICK[:1], limits=limits)
    for file in write_images(tmp_path / "others", 5).iterdir():
        file.rename(file.with_name(f"other {file.name}"))
    with pytest.raises(InputError, match="differs in inputs"):
        run(tmp_path / "others", out, limits=limits)
    assert files_of(out) == before
    for nothing_goes in ({"class_names": ["cat", "dog"]}, {"methods": [*QUICK, "eigen_cam"]}):
        run(photos, out, limits=limits, **nothing_goes)
    run(photos, out, classes=[1], overwrite=True, limits=limits)
    assert shards_of(out)["shard-000000.npz"]["targets"].tolist() == [[1], [1]]


def test_many_shards_of_an_interrupted_run_are_not_replaced_unasked(
    photos: Path, tmp_path: Path
) -> None:
    out, limits = tmp_path / "out", ShardLimits(shard_images=2, discarded_shards=2)
    with pytest.raises(KeyboardInterrupt):
        run(photos, out, batch_size=1, progress=interrupt_after(6))
    before = files_of(out)
    with pytest.raises(InputError, match=r"holds 2 finished shards .* differs in classes"):
        run(photos, out, batch_size=1, classes=[1], limits=limits)
    assert files_of(out) == before


def test_a_shard_of_another_runs_settings_is_not_taken_for_ones_own(
    photos: Path, tmp_path: Path
) -> None:
    run(photos, tmp_path / "out")
    run(photos, tmp_path / "other", tiny(seed=1))
    for name in ("shard-000001.npz", "shard-000001.json"):
        shutil.copy(tmp_path / "other" / "results" / name, tmp_path / "out" / "results" / name)
    assert images_computed(photos, tmp_path / "out") == 2
    run(photos, tmp_path / "whole")
    assert_same_maps(tmp_path / "out", tmp_path / "whole")


def test_another_number_in_the_model_computes_its_maps_anew(photos: Path, tmp_path: Path) -> None:
    """Of equal weights and equal code; ``transform_input`` of GoogLeNet is such a switch."""

    def switched(on: bool) -> LoadedModel:
        model = tiny()
        model.module.features[1].switched = on  # a layer of torch's, whose repr does not show it
        return model

    out = tmp_path / "out"
    run(photos, out, model=switched(False))
    assert run(photos, out, model=switched(False)).reused == 7
    assert run(photos, out, model=switched(True)).reused == 0


def test_what_a_loaded_model_says_of_its_outputs_decides_its_maps(
    photos: Path, tmp_path: Path
) -> None:
    for activation, reused in (("softmax", 0), ("softmax", 7), ("sigmoid", 0)):
        model = replace(tiny(), activation=activation)
        assert run(photos, tmp_path / "out", model).reused == reused


def test_a_counter_in_own_code_costs_no_map(photos: Path, tmp_path: Path) -> None:
    model = tiny()
    for calls in (0, 5):
        model.module.calls = calls
        reused = run(photos, tmp_path / "out", model=model).reused
    assert reused == 7


def test_a_plan_that_is_no_plan_is_made_anew(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, out)
    marker = out / "results" / ".camreport"
    for plan in ({}, None, {"batch": "x"}):
        record = json.loads(marker.read_text("utf-8"))
        marker.write_text(json.dumps(record | {"plan": plan}), encoding="utf-8")
        assert images_computed(photos, out) == PROBED, "the shards are those of the same plan"
    run(photos, tmp_path / "whole")
    assert_same_maps(out, tmp_path / "whole")


# Methods more and fewer


def test_one_more_method_computes_that_method_alone(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, out, methods=["score_cam"])
    before = images_of(out)
    computed = images_computed(photos, out, methods=["score_cam", "grad_cam"])
    assert computed == 7, "one forward for each image, and no masked image again"
    run(photos, tmp_path / "fresh", methods=["grad_cam", "score_cam"])
    assert npz_of(out) == npz_of(tmp_path / "fresh"), "nor do bytes tell which came first"
    for index, arrays in before.items():
        for key, array in arrays.items():
            np.testing.assert_array_equal(images_of(out)[index][key], array)


def test_a_method_less_costs_nothing_and_goes(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, out)
    model = tiny()
    assert run(photos, out, model, methods=["layer_cam"]).reused == 7
    assert model.module.batches == []
    run(photos, tmp_path / "fresh", methods=["layer_cam"])
    assert npz_of(out) == npz_of(tmp_path / "fresh")
    assert images_computed(photos, out) == 7, "what has gone is computed again"


def test_another_grid_or_seed_computes_that_method_alone(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    methods = ["score_cam", "smooth_grad_cam_plus_plus"]
    run(photos, out, methods=methods)
    score = {index: arrays["score_cam/features.2"] for index, arrays in images_of(out).items()}
    assert images_computed(photos, out, methods=methods, seed=3) < 7 * PER_IMAGE
    run(photos, tmp_path / "fresh", methods=methods, seed=3)
    assert npz_of(out) == npz_of(tmp_path / "fresh")
    for index, cams in score.items():
        np.testing.assert_array_equal(images_of(out)[index]["score_cam/features.2"], cams)


def test_one_more_method_keeps_the_earlier_results_until_all_have_it(
    photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(photos, out, batch_size=1)
    before = files_of(out)
    more = {"methods": [*QUICK, "eigen_cam"], "batch_size": 1}
    with pytest.raises(KeyboardInterrupt):
        run(photos, out, progress=interrupt_after(5), **more)
    after = files_of(out)
    assert {name: after[name] for name in before} == before
    assert images_computed(photos, out, **more) == 3, "two shards have it already"
    run(photos, tmp_path / "fresh", **more)
    assert npz_of(out) == npz_of(tmp_path / "fresh")


@pytest.mark.parametrize("methods", [QUICK[:1], (*QUICK, "eigen_cam")], ids=len)
def test_damage_that_no_size_tells_is_mended_where_other_methods_are_asked_for(
    photos: Path, tmp_path: Path, methods: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    run(photos, out)
    shard = out / "results" / "shard-000001.npz"
    data = bytearray(shard.read_bytes())
    data[300] ^= 255
    shard.write_bytes(data)
    run(photos, out, methods=methods)
    run(photos, tmp_path / "fresh", methods=methods)
    assert npz_of(out) == npz_of(tmp_path / "fresh")


def test_damage_that_no_size_tells_is_found_when_it_is_read(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, out)
    first = npz_of(out)
    shard = out / "results" / "shard-000001.npz"
    shard.write_bytes(first[shard.name].replace(b"descr", b"descs", 1))
    with pytest.raises(ResultsError, match=r"shard-000001\.npz cannot be read .* Delete that file"):
        run(photos, out, language="zh")
    shard.unlink()
    assert images_computed(photos, out, language="zh") == 2
    assert npz_of(out) == first


# The bytes of a shard


def test_a_shard_computed_again_has_its_first_bytes(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(write_images(tmp_path / "in", 16), out)
    first = npz_of(out)
    for number in range(8):
        (out / "results" / f"shard-{number:06}.npz").unlink()
        run(tmp_path / "in", out)
    assert npz_of(out) == first


def test_another_batch_size_costs_no_map(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out", batch_size=2)
    assert images_computed(photos, tmp_path / "out", batch_size=3) == 0


@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_a_run_that_resumes_keeps_to_the_batches_of_the_first(
    photos: Path, tmp_path: Path, batch_size: int | None
) -> None:
    out = tmp_path / "out"
    run(photos, out, batch_size=2)
    first = npz_of(out)
    (out / "results" / "shard-000002.json").unlink()
    model = tiny()
    run(photos, out, model, batch_size=batch_size)
    assert model.module.batches == [2]
    assert npz_of(out) == first


STATES = ("whole", "no arrays", "no records", "short arrays", "nothing")


def spoil(folder: Path, number: int, state: str) -> None:
    """Take from a shard what a killed process or a bad disk may have left out."""
    arrays = folder / f"shard-{number:06}.npz"
    if state in ("no arrays", "nothing"):
        arrays.unlink()
    if state in ("no records", "nothing"):
        arrays.with_suffix(".json").unlink()
    if state == "short arrays":
        os.truncate(arrays, arrays.stat().st_size - 1)


@pytest.fixture(scope="module")
def sixteen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sixteen photographs, one of them broken, and a complete run of them."""
    folder = tmp_path_factory.mktemp("sixteen")
    (write_images(folder / "in", 16) / "05.png").write_bytes(b"x")
    run(folder / "in", folder / "out")
    return folder


@settings(max_examples=25, deadline=None)
@given(states=st.lists(st.sampled_from(STATES), min_size=8, max_size=8), complete=st.booleans())
def test_only_the_shards_that_are_not_whole_are_computed(
    sixteen: Path, states: list[str], complete: bool
) -> None:
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "out"
        shutil.copytree(sixteen / "out", out)
        for number, state in enumerate(states):
            spoil(out / "results", number, state)
        if not complete:
            (out / "results" / "manifest.json").unlink()
        readable = [2, 2, 1, 2, 2, 2, 2, 2]
        lost = [count for count, state in zip(readable, states, strict=True) if state != "whole"]
        model = tiny()
        run(sixteen / "in", out, model)
        assert model.module.batches == lost
        assert npz_of(out) == npz_of(sixteen / "out")
        assert lasting(out) == lasting(sixteen / "out")
