"""The summary of a run: predictions, images to read first, cautions, mean maps."""

from base64 import b64decode
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import synthetic
from helpers.evidence import evidence, image, manifest

from camreport.images.preprocessing import Preprocessing
from camreport.insight.aggregates import aggregate
from camreport.insight.cautions import cautions
from camreport.insight.choice import MAX_FIRST, read_first, rule
from camreport.insight.claims import Evidence
from camreport.insight.columns import image_columns
from camreport.insight.predictions import confidence, confident_errors, confusion, reliability
from camreport.insight.summary import headline, summarise
from camreport.messages import message
from camreport.methods import METHODS
from camreport.results.reader import load_results
from camreport.results.schema import ImageEntry, Skip

# The outcome


def test_headline_says_how_many_are_right_where_labels_are_known() -> None:
    images = [image(0, "cat", 0.9, "cat"), image(1, "cat", 0.9, "dog"), image(2, "dog", 0.9)]
    assert str(headline(images)) == "1 of 2 predictions are right (50.0%)"


def test_headline_counts_what_is_predicted_without_labels() -> None:
    images = [image(0, "cat", 0.9), image(1, "dog", 0.9), image(2, "dog", 0.9)]
    assert str(headline(images)) == "Predicted: dog 2, cat 1"
    assert headline(images).worded("zh") == "预测结果：dog 2 张，cat 1 张"
    assert str(headline(images[:1])) == "0.jpg is predicted as cat"
    assert str(headline([replace(one, top=()) for one in images])) == (
        "The model gives no probabilities"
    )


def test_headline_names_three_classes_and_counts_the_others() -> None:
    tops = "aaaabbbccde"
    images = [
        replace(one, top=(replace(one.top[0], name=name),))
        for one, name in zip([image(i, "cat", 0.9) for i in range(len(tops))], tops, strict=True)
    ]
    assert str(headline(images)) == "Predicted: a 4, b 3, c 2 and 2 of other classes"


# Predictions


def test_confusion_counts_every_cell_with_recall_and_precision() -> None:
    images = [
        *(image(i, "cat", 0.9, "cat") for i in range(3)),
        image(3, "dog", 0.9, "cat"),
        *(image(i, "dog", 0.9, "dog") for i in range(4, 6)),
        image(6, "dog", 0.9),
    ]
    found = confusion(images)
    assert found is not None
    assert found.whole
    assert [(c.label, c.predicted, c.count) for c in found.cells] == [
        (0, 0, 3),
        (0, 1, 1),
        (1, 1, 2),
    ]
    assert [(s.index, s.right, s.total, s.predicted) for s in found.scores] == [
        (0, 3, 4, 3),
        (1, 2, 2, 3),
    ]


def test_confusion_of_many_classes_lists_the_most_frequent_errors() -> None:
    def of(index: int, top: int, label: int) -> ImageEntry:
        plain = image(index, "cat", 0.9)
        return replace(plain, label=label, top=(replace(plain.top[0], index=top),))

    pairs = [(i, i) for i in range(11)] + [(3, 4)] * 2 + [(i, 0) for i in range(1, 11)]
    found = confusion([of(i, top, label) for i, (label, top) in enumerate(pairs)])
    assert found is not None
    assert not found.whole
    assert (found.cells[0].label, found.cells[0].predicted, found.cells[0].count) == (3, 4, 2)
    assert len(found.cells) == 10
    assert all(cell.label != cell.predicted for cell in found.cells)


def test_confusion_is_absent_without_labels_and_where_a_label_means_several_classes() -> None:
    assert confusion([image(0, "cat", 0.9)]) is None
    assert confusion([image(0, "cat", 0.9, "cat", labels=(0, 1))]) is None


def test_confidence_counts_right_and_wrong_from_one_half_on_where_all_are_above_it() -> None:
    images = [
        image(0, "cat", 0.5, "cat"),
        image(1, "cat", 0.55, "cat"),
        image(2, "dog", 1.0, "cat"),
        image(3, "dog", 0.7),
    ]
    found = confidence(images)
    assert found.low == 0.5
    assert found.right == (1, 1, 0, 0, 0, 0, 0, 0, 0, 0)
    assert found.wrong == (0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
    assert found.unknown == (0, 0, 0, 0, 1, 0, 0, 0, 0, 0)
    assert confidence([*images, image(4, "cat", 0.3)]).low == 0.0


@pytest.mark.parametrize(("probability", "count"), [(0.8, 0), (0.801, 1)])
def test_errors_are_confident_above_four_fifths(probability: float, count: int) -> None:
    assert confident_errors([image(0, "cat", probability, "dog")]) == count
    assert confident_errors([image(0, "cat", probability, "cat"), image(1, "cat", 0.9)]) == 0


def test_reliability_compares_confidence_and_accuracy_from_thirty_images_on() -> None:
    images = [
        *(image(i, "cat", 0.95, "cat" if i < 18 else "dog") for i in range(20)),
        *(image(i, "cat", 0.62, "cat" if i < 25 else "dog") for i in range(20, 30)),
    ]
    assert reliability(images[:29]) == ()
    low, high = reliability(images)
    assert (low.count, low.right, high.count, high.right) == (10, 0.5, 20, 0.9)
    assert (low.confidence, high.confidence) == (pytest.approx(0.62), pytest.approx(0.95))


# The images to read first


def reasons(images: list[ImageEntry], **given: object) -> dict[int, list[str]]:
    """Return for each chosen image why it is read, in their order."""
    arguments = {"agreement": {}, "empty": {}} | given
    chosen = read_first(images, **arguments)  # type: ignore[arg-type]
    return {one.image: [reason.code for reason in one.reasons] for one in chosen}


def test_read_first_with_labels_begins_with_the_most_confident_errors() -> None:
    images = [
        image(0, "cat", 0.99, "cat"),
        image(1, "dog", 0.97, "cat"),
        image(2, "dog", 0.6, "cat"),
        image(3, "dog", 0.98, "dog"),
        image(4, "cat", 0.51, "cat"),
    ]
    assert reasons(images, agreement={3: 0.1, 0: 0.95}) == {
        1: ["insight.first.error"],
        2: ["insight.first.next_error"],
        4: ["insight.first.doubtful"],
        3: ["insight.first.disputed", "insight.first.of_class"],
        0: ["insight.first.surest_right"],
    }
    assert rule(images).code == "insight.first.rule_labelled"


def test_read_first_without_labels_begins_with_the_least_confident() -> None:
    images = [image(0, "cat", 0.99), image(1, "dog", 0.7), image(2, "cat", 0.6)]
    assert reasons(images, empty={1: METHODS["grad_cam"]}) == {
        2: ["insight.first.doubtful"],
        1: ["insight.first.empty", "insight.first.of_class"],
        0: ["insight.first.surest"],
    }
    assert rule(images).code == "insight.first.rule"


@pytest.mark.parametrize(("correlation", "said"), [(0.699, True), (0.7, False)])
def test_methods_count_as_disagreeing_below_seven_tenths(correlation: float, said: bool) -> None:
    images = [image(i, "cat", 0.9 - i / 100) for i in range(4)]
    found = reasons(images, agreement={1: correlation})
    assert (found.get(1) == ["insight.first.disputed"]) is said


def test_read_first_is_short_names_each_image_once_and_none_of_a_single_one() -> None:
    assert reasons([image(0, "cat", 0.9)]) == {}
    many = [image(i, "cat", 0.5 + i / 100, "dog" if i % 2 else "cat") for i in range(40)]
    disputed = {i: 0.0 for i in range(10, 20)}
    found = reasons(many, agreement=disputed, empty={30: METHODS["grad_cam"]})
    assert len(found) <= MAX_FIRST
    errors = [code for codes in found.values() for code in codes if "error" in code]
    assert errors == ["insight.first.error", *["insight.first.next_error"] * 2]


# Cautions


def test_nothing_to_caution_of_a_plain_run() -> None:
    images = [image(0, "cat", 0.9)]
    squashed = replace(manifest(["grad_cam"], {"a": None}), preprocessing=Preprocessing())
    assert cautions(squashed, images) == ()


def test_cropping_says_what_of_the_image_the_model_saw() -> None:
    cropped = Preprocessing(size=(224, 224), resize="short-side", short_side=256)
    plain = replace(manifest(["grad_cam"], {"a": None}), preprocessing=cropped)
    (one,) = cautions(plain, [image(0, "cat", 0.9, width=256, height=256)])
    assert str(one.text) == "0.jpg was cropped: of 256 × 256 px the model saw 224 × 224."
    (two,) = cautions(plain, [image(i, "cat", 0.9, width=256, height=256) for i in range(3)])
    assert str(two.text) == "3 of 3 images were cropped: the model saw a median 77% of them."
    assert two.count == 3


def test_class_names_in_the_wrong_order_noise_and_methods_left_out_are_cautions() -> None:
    swapped = [image(i, "cat", 0.9, "dog") for i in range(4)]
    swapped += [image(i, "dog", 0.9, "cat") for i in range(4, 8)]
    reason = message("results.text", text="CAM needs a head.")
    plain = replace(
        manifest(["grad_cam", "smooth_grad_cam_plus_plus", "cam"], {"a": None}),
        preprocessing=Preprocessing(),
        seed=7,
        skipped=(Skip(method="cam", layer=None, reason=reason),),
    )
    texts = [str(one.text) for one in cautions(plain, swapped)]
    assert "class names in the order dog,cat" in texts[0]
    assert texts[1:] == [
        "Smooth Grad-CAM++ draws noise (seed 7): another seed gives other maps.",
        "CAM needs a head.",
    ]
    smoothed = replace(plain, smooth=("noise",))
    assert str(cautions(smoothed, swapped)[1].text).startswith("The maps are means over noisy")


def test_opposite_logits_are_a_caution_where_a_method_is_linear() -> None:
    images = [image(0, "cat", 0.9)]
    plain = replace(manifest(["grad_cam"], {"a": None}), preprocessing=Preprocessing())
    (one,) = cautions(plain, images, opposite=True)
    assert "negatives of each other (Grad-CAM)" in str(one.text)
    assert cautions(replace(plain, smooth=("eigen",)), images, opposite=True) == ()
    other = replace(manifest(["layer_cam"], {"a": None}), preprocessing=Preprocessing())
    assert cautions(other, images, opposite=True) == ()


# All together


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of 20 images."""
    out = tmp_path_factory.mktemp("summary") / "report"
    return synthetic.write_results(out, 20, grids=synthetic.SMALL, photo_side=32)


def test_summary_of_results_is_plain_json_in_both_languages(run: Path) -> None:
    results = load_results(run)
    given = Evidence(results.manifest, aggregate(results))
    numbers = image_columns(results, results.manifest.glance.layer)
    shown = summarise(results.readable, given, numbers).to_json()
    right = sum(one.label == one.top[0].index for one in results.readable)
    assert shown["accuracy"]["right"] == right  # type: ignore[index]
    assert shown["headline"]["en"].startswith(f"{right} of 20 predictions")  # type: ignore[index]
    assert shown["headline"]["zh"].startswith("20 个预测中")  # type: ignore[index]
    assert shown["first"][0]["image"] in range(20)  # type: ignore[index]
    assert all("image" not in one["place"] for one in shown["findings"])  # type: ignore[attr-defined]


def test_mean_maps_are_those_of_the_raw_maps(run: Path) -> None:
    results = load_results(run)
    given = Evidence(results.manifest, aggregate(results))
    numbers = image_columns(results, results.manifest.glance.layer)
    shown = summarise(results.readable, given, numbers).means
    own = next(mean for mean in shown if mean.layer == "a" and mean.method == "grad_cam")
    cams = [
        results.arrays(one.index)["grad_cam/a"][own.target]
        for one in results.readable
        if one.top[0].index == own.target
    ]
    rectified = [np.maximum(cam, 0) / cam.max() for cam in cams if cam.max() > 0]
    assert own.count == len(rectified)
    levels = np.frombuffer(b64decode(own.levels), np.uint8).reshape(own.height, own.width)
    assert levels.max() == 255
    mean = np.mean([cv2.resize(cam, (14, 14)) for cam in rectified], axis=0)
    np.testing.assert_allclose(levels, 255 * mean / mean.max(), atol=2)


def test_few_images_have_no_mean_maps(few: Path) -> None:
    results = load_results(few)
    given = Evidence(results.manifest, aggregate(results))
    assert summarise(results.readable, given, {}).means == ()


def test_images_without_a_map_for_the_winner_are_read_first() -> None:
    images = [image(i, "cat", 0.9 - i / 100) for i in range(3)]
    numbers = {"area.grad_cam": [0.1, 0.0, None]}
    shown = summarise(images, evidence(), numbers)
    (found,) = [one for one in shown.first if one.image == 1]
    assert str(found.reasons[0]) == "Grad-CAM has no positive evidence for the predicted class"
