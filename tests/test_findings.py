"""The rules of the findings: thresholds from both sides, and nothing without evidence."""

import pytest
from helpers.evidence import areas, evidence, maps, pair

from camreport.insight.claims import Evidence, Finding, Place
from camreport.insight.findings import MAX_FINDINGS, findings


def codes(given: Evidence) -> list[str]:
    """Return which rules speak."""
    return [finding.text.code for finding in findings(given)]


def only(given: Evidence, code: str) -> Finding:
    """Return the one finding of a rule."""
    (found,) = [finding for finding in findings(given) if finding.text.code == code]
    return found


def test_without_evidence_nothing_is_claimed() -> None:
    assert findings(evidence()) == ()
    assert findings(evidence(maps("grad_cam", "b"), pairs=[pair("a", "b", "b", None)])) == ()
    assert findings(evidence(maps("grad_cam", "b", areas(None, maps=3, empty=0)))) == ()


def test_area_names_the_widest_and_the_narrowest_method_at_the_last_layer() -> None:
    given = evidence(
        maps("grad_cam", "b", areas(0.15)),
        maps("layer_cam", "b", areas(0.27, maps=19)),
        maps("xgrad_cam", "b", areas(0.2)),
        maps("xgrad_cam", "a", areas(0.9)),
    )
    found = only(given, "insight.areas")
    assert str(found.text) == (
        "At b LayerCAM marks a median 27% of what the model saw above half of its maximum, "
        "Grad-CAM 15% (n = 19)."
    )
    assert found.count == 19
    assert found.place == Place(
        "matrix", layer="b", rows="image", columns="method", sort="area.layer_cam.down"
    )


def test_area_of_a_single_method_is_compared_with_none() -> None:
    found = only(evidence(maps("grad_cam", "b", areas(0.15, empty=2))), "insight.area")
    assert str(found.text).endswith("above half of its maximum (n = 18).")


@pytest.mark.parametrize(("empty", "said"), [(4, False), (5, True)])
def test_maps_without_positive_evidence_are_found_from_a_twentieth_on(
    empty: int, said: bool
) -> None:
    given = evidence(
        maps("grad_cam", "a", areas(0.1, maps=100)),
        maps("layer_cam", "b", areas(0.1, maps=100, empty=empty)),
    )
    assert ("insight.empty" in codes(given)) is said
    if said:
        found = only(given, "insight.empty")
        assert "LayerCAM has no positive evidence" in str(found.text)
        assert "5 of 100 images (5%)" in str(found.text)
        assert found.count == 5
        assert found.place.query == "area.layer_cam=0"


def test_empty_maps_of_an_earlier_layer_have_no_query_of_their_own() -> None:
    found = only(evidence(maps("grad_cam", "a", areas(None, empty=20))), "insight.empty")
    assert (found.place.layer, found.place.query) == ("a", None)


@pytest.mark.parametrize(
    ("right", "wrong", "rights", "wrongs", "said"),
    [
        (0.2, 0.25, 10, 10, True),
        (0.25, 0.2, 10, 10, True),
        (0.2, 0.249, 10, 10, False),
        (0.2, 0.9, 9, 10, False),
        (0.2, 0.9, 10, 9, False),
    ],
)
def test_right_and_wrong_differ_by_a_twentieth_of_ten_each(
    right: float, wrong: float, rights: int, wrongs: int, said: bool
) -> None:
    own = maps("layer_cam", "b", right=areas(right, maps=rights), wrong=areas(wrong, maps=wrongs))
    assert ("insight.right_and_wrong" in codes(evidence(own))) is said


def test_right_and_wrong_take_the_method_that_differs_most_and_count_maps_with_evidence() -> None:
    given = evidence(
        maps("grad_cam", "b", right=areas(0.1), wrong=areas(0.2)),
        maps(
            "layer_cam",
            "b",
            right=areas(0.21, maps=281, empty=1),
            wrong=areas(0.42, quartiles=(0.33, 0.51)),
        ),
        maps("xgrad_cam", "b", right=areas(0.2), wrong=areas(0.2)),
    )
    found = only(given, "insight.right_and_wrong")
    assert str(found.text) == (
        "At b 2 of 3 methods mark areas that differ by at least 5 percentage points between right "
        "and wrong predictions; the largest gap: LayerCAM marks 21% (median; quartiles 10%–30%) of "
        "what the model saw where the prediction is right (n = 280), and 42% (median; quartiles "
        "33%–51%) where it is wrong (n = 20)."
    )
    assert found.count == 300
    assert found.place == Place(
        "overview", None, "layer_cam", "b", query="right:no", sort="area.layer_cam.down"
    )


@pytest.mark.parametrize(("alike", "n", "said"), [(1, 20, False), (2, 20, True), (0, 0, False)])
def test_classes_with_maps_nearly_alike_are_found_from_a_tenth_on(
    alike: int, n: int, said: bool
) -> None:
    own = maps("grad_cam", "b", likeness=0.5, alike=alike, n=n)
    assert ("insight.alike" in codes(evidence(own))) is said


def test_alike_names_its_n_and_shows_the_classes_side_by_side() -> None:
    found = only(evidence(maps("grad_cam", "b", likeness=0.9, alike=12)), "insight.alike")
    assert "nearly alike (ρ > 0.90) in 12 of 20 images" in str(found.text)
    assert found.place == Place("matrix", None, "grad_cam", "b", rows="image", columns="class")


@pytest.mark.parametrize(("correlation", "said"), [(0.499, True), (0.5, False)])
def test_methods_disagree_below_a_half(correlation: float, said: bool) -> None:
    own = [maps("grad_cam", "b"), maps("layer_cam", "b")]
    given = evidence(*own, pairs=[pair("grad_cam", "layer_cam", "b", correlation)])
    assert codes(given) == (["insight.disagreement"] if said else [])


def test_disagreement_takes_the_lowest_pair_and_writes_a_real_minus() -> None:
    own = [maps(key, "b") for key in ("grad_cam", "layer_cam", "xgrad_cam")]
    pairs = [
        pair("grad_cam", "layer_cam", "b", 0.4),
        pair("layer_cam", "xgrad_cam", "b", -0.25),
    ]
    found = only(evidence(*own, pairs=pairs), "insight.disagreement")
    assert str(found.text) == (
        "LayerCAM and XGrad-CAM disagree at b: median ρ −0.25 on the maps of the predicted class "
        "(n = 40 images)."
    )


@pytest.mark.parametrize(
    ("early", "late", "said"), [(0.4, 0.8, True), (0.5, 0.8, False), (0.1, 0.49, False)]
)
def test_depth_names_methods_that_agree_only_at_the_last_layer(
    early: float, late: float, said: bool
) -> None:
    own = [maps(key, layer) for key in ("grad_cam", "layer_cam") for layer in ("a", "b")]
    pairs = [pair("grad_cam", "layer_cam", "a", early), pair("grad_cam", "layer_cam", "b", late)]
    given = evidence(*own, pairs=pairs)
    assert ("insight.depth" in codes(given)) is said
    if said:
        found = only(given, "insight.depth")
        assert "agree at b (median ρ 0.80), but not at a (0.40" in str(found.text)
        assert found.place.layer == "a"


def test_a_method_of_no_class_disagrees_with_none() -> None:
    own = [maps("grad_cam", "b"), maps("eigen_cam", "b")]
    given = evidence(*own, pairs=[pair("grad_cam", "eigen_cam", "b", -0.5)])
    assert codes(given) == []


def test_methods_that_repeat_another_are_one_piece_of_evidence_and_in_no_other_rule() -> None:
    given = evidence(
        maps("grad_cam", "b", areas(0.1)),
        maps("finer_cam", "b", areas(0.9)),
        pairs=[pair("grad_cam", "finer_cam", "b", 0.1)],
        repeats={"finer_cam": "grad_cam"},
    )
    assert codes(given) == ["insight.area", "insight.coinciding"]
    found = only(given, "insight.coinciding")
    assert str(found.text) == (
        "Finer-CAM and Grad-CAM give the same maps after scaling here (n = 20 images): one piece "
        "of evidence, not two."
    )


def test_layers_that_are_one_tensor_are_named_and_the_last_is_one_with_a_tensor_of_its_own() -> (
    None
):
    layers = {"a": None, "b": None, "c": "b"}
    given = evidence(maps("grad_cam", "b", areas(0.1)), layers=layers)
    assert codes(given) == ["insight.area", "insight.same_tensor"]
    assert str(only(given, "insight.same_tensor").text).startswith("c and b are one tensor")


def test_findings_are_at_most_seven() -> None:
    layers = {"a": None, "b": None} | {f"c{number}": "b" for number in range(9)}
    given = evidence(maps("grad_cam", "b", areas(0.1)), layers=layers)
    assert len(findings(given)) == MAX_FINDINGS == 7
