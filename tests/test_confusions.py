"""Mean maps of confused classes, against numpy over the maps of every wrong image."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.runs import run_by_two, tiny, write_images
from numpy.typing import NDArray

from camreport.errors import ResultsError
from camreport.insight import confusions
from camreport.insight.confusions import ConfusionMaps, confusion_maps
from camreport.results.reader import Results, load_results
from camreport.results.schema import ImageEntry

METHODS = "grad_cam,layer_cam,hires_cam,eigen_cam"
LABELS = {f"{index:02}.png": index % 4 for index in range(15)}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Fifteen photographs of four classes, of which the most probable one is explained."""
    folder = tmp_path_factory.mktemp("confusions")
    write_images(folder / "photos", 15)
    (folder / "photos" / "05.png").write_bytes(b"x")
    model, given = tiny(classes=4), {"classes": "top1", "labels": LABELS, "methods": METHODS}
    run_by_two(folder / "photos", folder / "out", model, **given)
    return load_results(folder / "out")


def pair_of(image: ImageEntry) -> tuple[int | None, int]:
    return image.label, image.top[0].index


def on_common_grid(cam: NDArray[np.float32]) -> NDArray[np.float64]:
    return cv2.resize(cam.astype(np.float64), (14, 14), interpolation=cv2.INTER_LINEAR)


def maps_of(results: Results, image: int, key: tuple[str, str]) -> dict[int, NDArray[np.float32]]:
    """Return an image's raw maps of a method and layer by class."""
    return {
        one.target: one.cam
        for one in results.maps(image)
        if (one.method.key, one.layer) == key and one.target is not None
    }


def test_cells_are_the_errors_of_the_run(results: Results) -> None:
    found = confusion_maps(results)
    wrong = Counter(pair_of(one) for one in results.readable if one.label != one.top[0].index)
    assert {(one.true, one.predicted): one.n for one in found} == wrong
    pairs = list(dict.fromkeys((one.true, one.predicted) for one in found))
    assert pairs == sorted(wrong, key=lambda pair: (-wrong[pair], pair))
    keys = {one.key for one in found}
    layers = {("grad_cam", "features.2"), ("layer_cam", "features.2"), ("hires_cam", "features.2")}
    assert keys == layers | {("layer_cam", "fused")}
    for one in found:
        images = [i for i in results.readable if pair_of(i) == (one.true, one.predicted)]
        ordered = sorted(images, key=lambda i: (-i.top[0].probability, i.index))
        assert one.images == tuple(i.index for i in ordered)[:12]


def test_means_are_those_of_the_raw_maps(results: Results) -> None:
    found = confusion_maps(results)
    assert found
    for one in found:
        images = [i.index for i in results.readable if pair_of(i) == (one.true, one.predicted)]
        maps = [maps_of(results, index, one.key) for index in images]
        for target, mean in ((one.true, one.of_true), (one.predicted, one.of_predicted)):
            own = [own[target] for own in maps if own[target].max() > 0]
            if not own:
                assert mean is None
                continue
            assert mean is not None
            expected = [on_common_grid(np.maximum(cam, 0) / cam.max()) for cam in own]
            np.testing.assert_allclose(mean, np.mean(expected, 0), atol=0.51 / 255)
        differences = [own[one.predicted] - own[one.true] for own in maps]
        if one.key.method == "layer_cam":  # not linear in the score
            assert one.contrast is None
            continue
        scaled = [on_common_grid(each / np.abs(each).max()) for each in differences]
        assert one.contrast is not None
        np.testing.assert_allclose(one.contrast, np.mean(scaled, 0), atol=0.51 / 255)
        assert one.contrast.min() < 0 or one.contrast.max() > 0


def test_the_order_of_the_shards_changes_nothing(results: Results) -> None:
    other = load_results(results.path)
    vars(other)["_read"] = list(reversed(results.readable)), ()

    def plain(one: ConfusionMaps) -> tuple[object, ...]:
        maps = (one.of_true, one.of_predicted, one.contrast)
        bytes_ = [None if each is None else each.tobytes() for each in maps]
        return one.key, one.true, one.predicted, one.n, one.images, bytes_

    assert [*map(plain, confusion_maps(other))] == [*map(plain, confusion_maps(results))]


def test_of_many_pairs_the_most_frequent_are_told(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = list(dict.fromkeys((one.true, one.predicted) for one in confusion_maps(results)))
    monkeypatch.setattr(confusions, "MAX_CELLS", 2)
    kept = confusion_maps(results)
    assert list(dict.fromkeys((one.true, one.predicted) for one in kept)) == pairs[:2]


def test_without_labels_or_with_labels_of_several_classes_there_are_none(
    photos: Path, tmp_path: Path
) -> None:
    run_by_two(photos, tmp_path / "none")
    assert confusion_maps(load_results(tmp_path / "none")) == ()
    labels = {"labels": dict.fromkeys(LABELS, "pet"), "label_map": {"pet": [0, 1]}}
    run_by_two(photos, tmp_path / "several", tiny(classes=4), **labels)
    assert confusion_maps(load_results(tmp_path / "several")) == ()


def test_a_file_of_true_classes_that_does_not_fit_is_refused(photos: Path, tmp_path: Path) -> None:
    given = {"classes": "top1", "labels": LABELS, "methods": "grad_cam"}
    run_by_two(photos, tmp_path / "out", tiny(classes=4), **given)
    path = next((tmp_path / "out" / "results").glob("true-*.npz"))
    with np.load(path) as arrays:
        changed = dict(arrays) | {"grad_cam/features.2": np.zeros((1, 1, 4))}
    np.savez(path, **changed)
    with pytest.raises(ResultsError, match=rf"{path.name} does not match the manifest"):
        confusion_maps(load_results(tmp_path / "out"))
