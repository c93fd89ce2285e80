"""What the summary says of the evidence: thresholds from both sides; without numbers nothing."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from helpers.evidence import evidence, maps

from camreport.insight.claims import Evidence, Finding, Place
from camreport.insight.evidence import EvidenceTable, Tally
from camreport.insight.evidence_blocks import Scope
from camreport.insight.evidence_findings import (
    MAX_OF_EVIDENCE,
    evidence_cautions,
    evidence_findings,
)
from camreport.insight.findings import findings
from camreport.results.evidence import EvidenceEntry, NumberKey

ENTRY = EvidenceEntry(
    level="full",
    metrics=("contrast", "effect", "order", "learned"),
    maps="main",
    seed=0,
    sample=(0, 1),
    unreadable=0,
    baseline="mean",
    scrambled=(0,),
    undefined={},
)


def own(
    number: str,
    row: str,
    layer: str,
    median: float,
    *,
    low: float = 0.1,
    high: float = 0.9,
    n: int = 20,
    beats: tuple[int, int] | None = None,
) -> Tally:
    """Return what is known of a number of the predicted classes' maps."""
    return Tally(NumberKey(number, row, layer), "predicted", n, {}, median, low, high, beats)


def measured(
    *tallies: Tally, misplaced: Mapping[str, tuple[int, int]] | None = None, opposite: bool = False
) -> Evidence:
    """Return evidence of Grad-CAM and LayerCAM at the layers ``a`` and ``b``."""
    table = EvidenceTable(ENTRY, None, None, {}, (Scope("predicted"),), tallies)
    plain = evidence(maps("grad_cam", "b"), maps("layer_cam", "b"))
    return replace(plain, table=table, misplaced=misplaced or {}, opposite=opposite)


def only(given: Evidence, code: str) -> Finding:
    """Return the one finding of a rule."""
    (found,) = [one for one in evidence_findings(given) if one.text.code == code]
    return found


def codes(given: Evidence) -> list[str]:
    return [found.text.code.removeprefix("insight.evidence.") for found in evidence_findings(given)]


def test_nothing_is_said_where_nothing_was_measured() -> None:
    assert codes(measured()) == []
    assert codes(replace(measured(), table=None)) == []
    assert [*evidence_cautions(measured(opposite=True))] == []


def test_maps_that_scrambled_weights_leave_as_they_are_are_named() -> None:
    given = measured(
        own("learned", "grad_cam", "a", 0.81, n=12),
        own("learned", "grad_cam", "b", 0.8),
        own("learned", "layer_cam", "a", 0.95),
        own("learned", "layer_cam", "fused", 0.9),
    )
    found = only(given, "insight.evidence.unchanged")
    assert str(found.text) == (
        "3 of 4 maps (by method and layer) stay nearly unchanged when the network’s weights are "
        "scrambled (median ρ > 0.8): Grad-CAM at a, LayerCAM at a, LayerCAM fused; "
        "n ≥ 12 images. They say little of what the network has learned."
    )
    assert found.count == 12
    assert found.place == Place("evidence", number="learned", scope="predicted")


def test_of_many_unchanged_maps_three_are_named_and_the_others_counted() -> None:
    places = [(row, layer) for row in ("grad_cam", "layer_cam") for layer in ("a", "b")]
    given = measured(*(own("learned", *place, 0.9) for place in places))
    found = only(given, "insight.evidence.unchanged")
    assert "Grad-CAM at a, Grad-CAM at b, LayerCAM at a and 1 more;" in str(found.text)


def test_it_is_said_where_all_maps_change_with_the_weights() -> None:
    given = measured(own("learned", "grad_cam", "a", -0.2), own("learned", "layer_cam", "b", 0.8))
    found = only(given, "insight.evidence.changed")
    assert "All 2 maps" in str(found.text)
    assert "at most 0.80" in str(found.text)


@pytest.mark.parametrize(("beats", "said"), [((9, 20), True), ((10, 20), False), ((0, 4), False)])
def test_a_method_that_does_no_better_than_the_controls_is_named(
    beats: tuple[int, int], said: bool
) -> None:
    given = measured(
        own("effect", "grad_cam", "a", 0.5, beats=(0, 20)),
        own("effect", "grad_cam", "b", 0.5, beats=(20, 20)),
        own("order", "layer_cam", "b", 0.5, beats=beats),
        own("contrast", "layer_cam", "b", 0.5, beats=(0, 20)),
    )
    assert ("controls" in codes(given)) is said
    if said:
        found = only(given, "insight.evidence.controls")
        assert str(found.text).startswith("Order: at b LayerCAM does better than every control")
        assert "only 9 of 20 images" in str(found.text)
        place = Place("overview", None, "layer_cam", "b", sort="order.layer_cam.up")
        assert found.place == place


@pytest.mark.parametrize(
    ("median", "ceiling", "said"), [(0.54, 0.6, True), (0.53, 0.6, False), (0.28, 0.29, False)]
)
def test_an_effect_near_its_ceiling_is_said(median: float, ceiling: float, said: bool) -> None:
    given = measured(
        own("effect", "layer_cam", "b", median),
        own("effect.ceiling", "", "", ceiling),
    )
    assert ("ceiling" in codes(given)) is said


@pytest.mark.parametrize(
    ("low", "n", "said"), [(-0.01, 20, True), (0.01, 20, False), (-0.01, 4, False)]
)
def test_an_effect_that_may_be_none_is_said_with_its_interval(
    low: float, n: int, said: bool
) -> None:
    given = measured(own("effect", "grad_cam", "b", 0.04, low=low, high=0.1, n=n))
    assert ("effectless" in codes(given)) is said
    if said:
        text = str(only(given, "insight.evidence.effectless").text)
        assert "median 0.04, 95% interval −0.01 to 0.10 (n = 20 images)" in text


@pytest.mark.parametrize(("counts", "said"), [((1, 5), True), ((0, 5), False), ((4, 4), False)])
def test_right_answers_in_the_wrong_place_are_counted_and_lead_to_the_images(
    counts: tuple[int, int], said: bool
) -> None:
    given = measured(misplaced={"layer_cam": counts})
    assert ("misplaced" in codes(given)) is said
    if said:
        found = only(given, "insight.evidence.misplaced")
        assert "in 1 of 5 images that are predicted right (20%), the peak of LayerCAM at b" in str(
            found.text
        )
        assert found.count == 1
        assert found.place.query == "right:yes regions.hit.layer_cam=0"
        assert found.place.sort == "regions.layer_cam.up"


def test_two_opposite_logits_decide_the_class_contrast() -> None:
    given = measured(own("contrast", "grad_cam", "b", -1.0), opposite=True)
    (found,) = evidence_cautions(given)
    assert str(found.text).startswith("Class contrast is −1 by construction here (Grad-CAM)")
    assert found.place.view == "evidence"
    assert [*evidence_cautions(replace(given, opposite=False))] == []


def test_the_evidence_speaks_first_and_leaves_room_for_the_other_rules() -> None:
    given = measured(
        own("learned", "grad_cam", "b", 0.9),
        own("effect", "grad_cam", "b", 0.9, low=-0.1, beats=(0, 20)),
        own("effect.ceiling", "", "", 0.9),
        misplaced={"grad_cam": (3, 10)},
    )
    assert codes(given) == ["misplaced", "unchanged", "controls", "ceiling"]
    assert len(codes(given)) == MAX_OF_EVIDENCE
    assert [one.text.code for one in findings(given)][:1] == ["insight.evidence.misplaced"]
