"""What the clusters show, by fixed rules: images whose maps claim one corner of the picture."""

import re
from collections.abc import Iterator

from camreport.insight.atlas import Atlas, ClassAtlas, Cluster, Placement, claimed_corner
from camreport.insight.claims import Evidence, Finding, Place
from camreport.insight.corners import CORNERS, Corner
from camreport.messages import Message, message
from camreport.methods import METHODS

MIN_CLAIMING = 10
"""Fewest images whose maps claim a corner for it to be a finding."""

MAX_CORNERS = 2
"""Most findings about corners: of the classes with most images."""

_WORDS: dict[Corner, str] = {
    "upper-left": "insight.corner.upper_left",
    "upper-right": "insight.corner.upper_right",
    "lower-left": "insight.corner.lower_left",
    "lower-right": "insight.corner.lower_right",
}

_PLAIN = re.compile(r"[^\s\"“”＂<>＜＞≤≥:：,，、=＝\\/]+")
"""A class's name that a query may hold as it is."""


def cluster_findings(evidence: Evidence) -> Iterator[Finding]:
    """Which corners of the picture a class's maps, or those of one of its clusters, claim.

    By what channels contribute, where that is kept: clusters by where maps lie are of one corner
    wherever objects stand there.
    """
    atlas = evidence.atlas
    if atlas is None:
        return
    found = (finding for own in atlas.classes for finding in _corners(evidence, atlas, own))
    for _, finding in zip(range(MAX_CORNERS), found, strict=False):
        yield finding


def _corners(evidence: Evidence, atlas: Atlas, own: ClassAtlas) -> Iterator[Finding]:
    """Yield what there is to say of one class: of all of it, or of its largest such cluster."""
    if own.placement is None:
        return
    whole = claimed_corner(own.placement)
    if whole and own.n >= MIN_CLAIMING:
        text = _said("insight.corner.whole", evidence, own, whole, own.placement, own.n)
        place = Place("atlas", None, atlas.where_method, atlas.where_layer, atlas="means")
        yield Finding(text, own.n, place)
        return
    for card in own.what if atlas.what_layer else own.where:
        if card.corner and card.n >= MIN_CLAIMING:
            yield _of_cluster(evidence, atlas, own, card, card.corner)
            return


def _of_cluster(
    evidence: Evidence, atlas: Atlas, own: ClassAtlas, card: Cluster, corner: Corner
) -> Finding:
    """Return the claim about a cluster."""
    assert own.placement is not None
    usual = own.placement.corners[CORNERS.index(corner)]
    text = _said("insight.corner.some", evidence, own, corner, card.placement, card.n, usual=usual)
    name = evidence.manifest.class_names[own.index]
    kind = "/what" if atlas.what_layer else ""
    query = f"cluster:{quoted(name)}/{card.number}{kind}"
    return Finding(text, card.n, Place("atlas", atlas="clusters", query=query))


def _said(
    code: str,
    evidence: Evidence,
    own: ClassAtlas,
    corner: Corner,
    placement: Placement,
    count: int,
    **more: float,
) -> Message:
    """Return a claim in words."""
    glance = evidence.manifest.glance
    return message(
        code,
        count=count,
        name=evidence.manifest.class_names[own.index],
        corner=message(_WORDS[corner]),
        share=placement.corners[CORNERS.index(corner)],
        method=METHODS[glance.method].name,
        layer=glance.layer,
        **more,
    )


def quoted(name: str) -> str:
    """Return a class's name as a query holds it."""
    if _PLAIN.fullmatch(name):
        return name
    return '"' + re.sub(r'(["“”＂\\])', r"\\\1", name) + '"'
