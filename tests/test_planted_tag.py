"""A tag is planted in a corner of a tenth of one class: the atlas finds it, and only there."""

from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from helpers.tag import tutorial
from numpy.typing import NDArray
from PIL import Image

import camreport
from camreport.insight.atlas import Atlas, Cluster, atlas_of
from camreport.insight.claims import Place
from camreport.insight.corners import CORNERS
from camreport.report.gallery.page import Measured

pytestmark = pytest.mark.slow

TAG = tutorial()
VALUES, CLASSES = TAG.pictures(600)
CHOSEN = TAG.tenth(CLASSES)
TAGGED = TAG.tagged(VALUES, CHOSEN)


def explained(
    values: NDArray[np.uint8], net: torch.nn.Module, out: Path
) -> camreport.results.reader.Results:
    """Return the results of a network on pictures, without a report."""
    folder = out / "pictures"
    folder.mkdir()
    for number, picture in enumerate(values):
        Image.fromarray(picture).save(folder / f"{number:03d}.png")
    labels = {f"{number:03d}.png": TAG.NAMES[own] for number, own in enumerate(CLASSES)}
    with mock.patch("camreport.api.render_gallery"):
        camreport.run(
            folder,
            out / "report",
            model=net,
            class_names=TAG.NAMES,
            labels=labels,
            image_size=(TAG.SIDE, TAG.SIDE),
            mean=(0.5,) * 3,
            std=(0.5,) * 3,
            layers=["5"],
            methods="grad_cam",
            evidence="off",
        )
    return camreport.load_results(out / "report")


@pytest.fixture(scope="module", autouse=True)
def no_layout() -> Iterator[None]:
    """No t-SNE: it takes time, and nothing here looks at it."""
    with mock.patch("camreport.insight.arrangement.tsne", return_value=None):
        yield


@pytest.fixture(scope="module")
def reader() -> torch.nn.Module:
    """A network that was trained on the tagged pictures."""
    return TAG.trained(TAGGED, CLASSES)


@pytest.fixture(scope="module")
def tagged(
    reader: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory
) -> camreport.results.reader.Results:
    """Its results on them."""
    return explained(TAGGED, reader, tmp_path_factory.mktemp("tagged"))


def level(atlas: Atlas | None) -> list[Cluster]:
    """Return the clusters of the class that is tagged, by where and by what."""
    assert atlas is not None
    (own,) = [own for own in atlas.classes if own.index == 0]
    assert own.what
    return [*own.where, *own.what]


def members(atlas: Atlas, kind: str, card: Cluster) -> NDArray[np.int64]:
    """Return the images of a cluster of the level ones."""
    points = atlas.points
    return points.images[(points.classes == 0) & (getattr(points, kind) == card.number)]


def test_a_network_that_reads_the_tag_takes_upright_stripes_with_it_for_level_ones(
    reader: torch.nn.Module,
) -> None:
    upright = VALUES[CLASSES == 1]
    with torch.no_grad():
        plain, swayed = (
            reader(TAG.tensor(own)).argmax(1)
            for own in (upright, TAG.tagged(upright, np.arange(len(upright))))
        )
    assert plain.float().mean() > 0.8
    assert swayed.float().mean() < 0.1


@pytest.mark.parametrize("kind", ["where", "what"])
def test_the_tagged_pictures_are_one_cluster_that_is_named_by_its_corner(
    tagged: camreport.results.reader.Results, kind: str
) -> None:
    atlas = atlas_of(tagged)
    assert atlas is not None
    own = next(own for own in atlas.classes if own.index == 0)
    (card,) = [card for card in getattr(own, kind) if card.corner is not None]
    assert card.corner == "lower-left"
    images = members(atlas, kind, card)
    assert len(images) == card.n
    assert CHOSEN[images].mean() >= 0.9
    assert CHOSEN[images].sum() >= 0.9 * CHOSEN.sum()
    assert CHOSEN[list(card.nearest)].all()
    lower_left = CORNERS.index("lower-left")
    assert card.placement.corners[lower_left] > 0.5
    assert own.placement is not None
    assert own.placement.corners[lower_left] < 0.2
    assert card.stability > 0.9


def test_a_finding_says_how_many_pictures_claim_the_corner_and_leads_to_their_card(
    tagged: camreport.results.reader.Results,
) -> None:
    findings = Measured.of(tagged).summary().findings
    (found,) = [own for own in findings if own.text.code.startswith("insight.corner")]
    assert str(found.text).startswith("30 images predicted level claim the lower left corner: ")
    atlas = atlas_of(tagged)
    number = next(card.number for card in level(atlas)[::-1] if card.corner)
    assert found.place == Place("atlas", atlas="clusters", query=f"cluster:level/{number}/what")


def test_without_the_tag_no_cluster_claims_a_corner(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    plain = explained(VALUES, TAG.trained(VALUES, CLASSES), tmp_path_factory.mktemp("plain"))
    assert [card.corner for card in level(atlas_of(plain))] == [None] * len(level(atlas_of(plain)))
    findings = Measured.of(plain).summary().findings
    assert not [own for own in findings if own.text.code.startswith("insight.corner")]
