"""The rule on corners that clusters claim: thresholds from both sides, and what it leads to."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.evidence import evidence

from camreport.insight.atlas import Atlas, ClassAtlas, Cluster, Placement, Points
from camreport.insight.claims import Evidence, Place
from camreport.insight.cluster_findings import cluster_findings, quoted
from camreport.insight.corners import Corner


def placement(lower_left: float) -> Placement:
    return Placement(0.1, 0.4, (0.1, 0.1, lower_left, 0.1))


def card(n: int, corner: Corner | None, number: int = 1) -> Cluster:
    """Return a cluster of cats, by where or by what."""
    share = 0.8 if corner else 0.1
    return Cluster(
        *(number, n, 0.1, None, 0.9, np.zeros((14, 14), np.uint8), (1,), (), ()),
        *(placement(share), corner),
    )


def given(
    where: tuple[Cluster, ...] = (),
    what: tuple[Cluster, ...] = (),
    whole: float = 0.1,
    n: int = 300,
    layer: str | None = "b",
) -> Evidence:
    """Return evidence with an atlas of one class."""
    none = np.zeros(0, np.int64)
    points = Points("where", none, none, np.zeros((0, 2)), None, none, none)
    own = ClassAtlas(0, n, None, where, what, (), placement(whole), None)
    return replace(evidence(), atlas=Atlas(layer, "grad_cam", "b", n, None, (own,), points))


@pytest.mark.parametrize(("n", "said"), [(9, False), (10, True)])
def test_a_cluster_by_what_that_claims_a_corner_is_a_finding_from_ten_images_on(
    n: int, said: bool
) -> None:
    found = [*cluster_findings(given(what=(card(40, None), card(n, "lower-left", 2))))]
    assert len(found) == said
    if said:
        assert str(found[0].text) == (
            "10 images predicted cat claim the lower left corner: a median 80% of their map lies "
            "there, 10% in all images of the class (Grad-CAM at b)."
        )
        assert found[0].count == 10
        assert found[0].place == Place("atlas", atlas="clusters", query="cluster:cat/2/what")


def test_clusters_by_where_speak_only_where_contributions_are_not_kept() -> None:
    corner = (card(20, "lower-left"),)
    assert [*cluster_findings(given(where=corner))] == []
    (found,) = cluster_findings(given(where=corner, layer=None))
    assert found.place.query == "cluster:cat/1"


@pytest.mark.parametrize(
    ("share", "n", "said"), [(0.5, 10, True), (0.49, 10, False), (0.5, 9, False)]
)
def test_a_whole_class_can_claim_a_corner_and_is_named_before_its_clusters(
    share: float, n: int, said: bool
) -> None:
    found = [*cluster_findings(given(whole=share, n=n))]
    assert len(found) == said
    if said:
        assert str(found[0].text).startswith("The maps of the 10 images predicted cat claim the ")
        assert found[0].place == Place("atlas", None, "grad_cam", "b", atlas="means")


def test_without_an_atlas_nothing_is_claimed() -> None:
    assert [*cluster_findings(evidence())] == []


@pytest.mark.parametrize(
    ("name", "written"),
    [("cat", "cat"), ("great shark", '"great shark"'), ('a"b\\', '"a\\"b\\\\"'), ("a/b", '"a/b"')],
)
def test_names_are_written_as_a_query_holds_them(name: str, written: str) -> None:
    assert quoted(name) == written
