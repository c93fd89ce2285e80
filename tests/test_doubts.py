"""Which map to trust least, and what is measured of each method: thresholds from both sides."""

import pytest
from helpers.evidence import areas, evidence, maps, pair

from camreport.insight.claims import Evidence, Place
from camreport.insight.doubts import doubt, trust

FUSED = "LayerCAM fused over the layers (the column “fused”):"


def said(given: Evidence) -> str | None:
    """Return what is said of the map to trust least."""
    found = doubt(given)
    return None if found is None else str(found.text)


def test_nothing_speaks_against_maps_without_numbers_or_with_good_ones() -> None:
    assert doubt(evidence()) is None
    good = maps("grad_cam", "b", areas(0.1), likeness=0.2)
    assert doubt(evidence(good)) is None
    assert [own.verdict for own in trust(evidence(good))] == [None]


@pytest.mark.parametrize(("empty", "doubted"), [(3, False), (4, True)])
def test_a_method_without_evidence_in_a_fifth_of_its_maps_is_doubted(
    empty: int, doubted: bool
) -> None:
    given = evidence(maps("grad_cam", "b", areas(0.1, empty=empty)))
    words = "Grad-CAM at b: no positive evidence for the predicted class in 20% of 20 images"
    assert said(given) == (words if doubted else None)


@pytest.mark.parametrize(("similar", "doubted"), [(10, False), (11, True)])
@pytest.mark.parametrize("layer", ["a", "b", "fused"])
def test_maps_much_alike_for_two_classes_are_doubted_at_any_layer(
    similar: int, doubted: bool, layer: str
) -> None:
    found = said(evidence(maps("layer_cam", layer, areas(0.1), likeness=0.7, similar=similar)))
    assert (found is not None) is doubted
    if found:
        assert found.startswith(FUSED if layer == "fused" else f"LayerCAM at {layer}:")
        assert found.endswith(
            ": in 11 of 20 images its maps of the two most probable classes are alike (ρ > 0.8), "
            "so they hardly tell the classes apart"
        )


def test_of_fewer_than_ten_images_those_with_maps_alike_are_named() -> None:
    files = ["cat.jpg", "dog.jpg"]
    own = maps("layer_cam", "fused", areas(0.1), likeness=0.86, similar=2, files=files, n=3)
    assert str(said(evidence(own))).startswith(f"{FUSED} in 2 of 3 images (cat.jpg, dog.jpg) its")
    every = maps("layer_cam", "fused", areas(0.1), likeness=0.86, similar=2, files=files, n=2)
    assert str(said(evidence(every))).startswith(f"{FUSED} in 2 of 2 images its maps")


def test_the_last_layer_comes_before_the_others_and_there_the_weightier_rule_first() -> None:
    early = maps("grad_cam", "a", areas(0.1), likeness=0.99, similar=20)
    alike = maps("layer_cam", "b", areas(0.1), likeness=0.8, similar=11)
    empty = maps("grad_cam", "b", areas(0.1, empty=10))
    assert str(said(evidence(early, alike))).startswith("LayerCAM at b")
    assert str(said(evidence(early, alike, empty))).startswith("Grad-CAM at b: no positive")


def test_of_the_layers_the_one_with_most_alike_maps_is_named() -> None:
    given = evidence(
        maps("layer_cam", "a", areas(0.1), likeness=0.8, similar=12),
        maps("layer_cam", "fused", areas(0.1), likeness=0.86, similar=13),
    )
    assert str(said(given)).startswith(FUSED)


def test_a_map_of_no_class_and_one_that_repeats_another_are_doubted() -> None:
    agnostic = evidence(maps("grad_cam", "b", areas(0.1)), maps("eigen_cam", "b", areas(0.4)))
    assert str(said(agnostic)).startswith("Eigen-CAM at b: one map for all classes")
    copied = evidence(maps("grad_cam", "b", areas(0.1)), repeats={"finer_cam": "grad_cam"})
    assert str(said(copied)).startswith("Finer-CAM at b: the same maps as Grad-CAM")
    rows = [(own.method, own.area, str(own.verdict)) for own in trust(copied)]
    assert rows[0] == ("grad_cam", 0.1, "None")
    assert rows[1] == (
        "finer_cam",
        None,
        "the same maps as Grad-CAM after scaling, so no evidence of its own",
    )


@pytest.mark.parametrize(("correlation", "doubted"), [(0.499, True), (0.5, False)])
def test_one_of_three_methods_can_stand_apart(correlation: float, doubted: bool) -> None:
    keys = ("grad_cam", "layer_cam", "xgrad_cam")
    own = [maps(key, "b", areas(0.1)) for key in keys]
    pairs = [
        pair("grad_cam", "layer_cam", "b", 0.9),
        pair("grad_cam", "xgrad_cam", "b", correlation),
        pair("layer_cam", "xgrad_cam", "b", correlation),
    ]
    found = said(evidence(*own, pairs=pairs))
    assert found == (
        "XGrad-CAM at b: disagrees with the other methods (median ρ 0.50)" if doubted else None
    )
    assert [round(row.correlation or 0, 4) for row in trust(evidence(*own, pairs=pairs))] == [
        round((0.9 + correlation) / 2, 4),
        round((0.9 + correlation) / 2, 4),
        correlation,
    ]


def test_of_two_methods_that_disagree_neither_is_to_blame() -> None:
    own = [maps("grad_cam", "b", areas(0.1)), maps("layer_cam", "b", areas(0.1))]
    assert said(evidence(*own, pairs=[pair("grad_cam", "layer_cam", "b", -0.5)])) is None


def test_maps_of_a_class_are_compared_with_maps_of_classes_alone() -> None:
    own = [maps(key, "b", areas(0.1)) for key in ("grad_cam", "layer_cam", "eigen_cam")]
    pairs = [
        pair("grad_cam", "layer_cam", "b", 0.6),
        pair("grad_cam", "eigen_cam", "b", 0.0),
        pair("layer_cam", "eigen_cam", "b", 0.2),
    ]
    rows = {row.method: row.correlation for row in trust(evidence(*own, pairs=pairs))}
    assert rows == {"grad_cam": 0.6, "layer_cam": 0.6, "eigen_cam": 0.1}


def test_a_doubt_leads_to_the_maps_of_both_classes() -> None:
    found = doubt(evidence(maps("layer_cam", "a", areas(0.1), likeness=0.9, similar=11), images=7))
    assert found is not None
    assert found.count == 7
    assert found.place == Place("matrix", None, "layer_cam", "a", rows="image", columns="class")
