"""The atlas of a run: what its cards say, what is kept of it, and what is refused."""

import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from helpers.placed import spots, write_placed
from numpy.typing import NDArray

from camreport.errors import ResultsError
from camreport.insight import arrangement as arranging
from camreport.insight import kept
from camreport.insight.arrangement import Arrangement, arrange
from camreport.insight.atlas import Atlas, ClassAtlas, Cluster, Placement, Points, atlas_of
from camreport.insight.columns import placement_columns
from camreport.insight.corners import CORNERS, masses
from camreport.insight.numbers import measure
from camreport.report.gallery.language import templates_folder
from camreport.results.reader import Results, load_results
from camreport.results.shards import Arrays, packed, read_shard

RANDOM = np.random.default_rng(5)
CENTRE, CORNER = (6, 7), (12, 1)
PLACES = [CORNER] * 14 + [CENTRE] * 30 + [(6, 6)] * 20
"""Of 44 images of the first class, 14 in the lower left corner, and of 20 of the second."""
CLASSES = [0] * 44 + [1] * 20
KINDS = np.eye(8)[[0] * 14 + [1] * 15 + [2] * 15 + [3] * 20]
VECTORS = (KINDS + RANDOM.normal(0, 0.05, KINDS.shape)).astype(np.float32)
LABELS = [1] * 7 + [0] * 37 + [None] * 20


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Results of these images."""
    out = tmp_path_factory.mktemp("placed")
    return write_placed(out, spots(PLACES), CLASSES, VECTORS, LABELS)


@pytest.fixture(scope="module")
def atlas(results: Results) -> Atlas:
    """Their atlas."""
    found = atlas_of(results)
    assert found is not None
    return found


def first(atlas: Atlas) -> ClassAtlas:
    assert atlas.classes[0].index == 0
    return atlas.classes[0]


def maps(results: Results) -> NDArray[np.float64]:
    """Return the maps on the common grid, measured anew."""
    shards = dict.fromkeys(image.shard for image in results.outlines)
    numbers = [measure(results.shard(shard), "softmax") for shard in shards]
    return np.concatenate([own.where[0] for own in numbers]).astype(np.float64)


def test_clusters_by_where_and_by_what_are_those_that_were_planted(atlas: Atlas) -> None:
    own = first(atlas)
    assert [card.n for card in own.what] == [15, 15, 14]
    assert 14 in [card.n for card in own.where]
    assert [card.number for card in own.what] == [1, 2, 3]
    images = atlas.points.images[(atlas.points.what == 3) & (atlas.points.classes == 0)]
    assert images.tolist() == [*range(14)]


def test_a_card_holds_what_numpy_finds_in_its_images(atlas: Atlas, results: Results) -> None:
    card, own = first(atlas).what[2], first(atlas)
    of_card, of_class = maps(results)[:14], maps(results)[:44]
    assert card.share == 14 / 44
    assert (card.accuracy, own.accuracy) == (0.5, 37 / 44)
    assert card.stability > 0.95
    sums = of_card.sum(0)
    np.testing.assert_allclose(card.mean, 255 * sums / sums.max(), atol=0.5)
    for placement, few in ((card.placement, of_card), (own.placement, of_class)):
        assert placement is not None
        total, inside = few.sum((1, 2)), few[:, 2:-2, 2:-2].sum((1, 2))
        assert placement.border == pytest.approx(np.median(1 - inside / total), abs=1e-3)
        lower_left = np.median(few[:, -5:, :5].sum((1, 2)) / total)
        assert placement.corners[2] == pytest.approx(lower_left, abs=1e-3)
    assert card.corner == "lower-left"
    assert own.what[0].corner is None
    channel, share = card.channels[0]
    positive = np.maximum(VECTORS[:14], 0)
    assert channel == 0
    assert share == pytest.approx((positive[:, 0] / positive.sum(1)).mean(), abs=1e-5)


def test_nearest_and_farthest_are_by_cosine_to_the_centre_of_the_cluster(atlas: Atlas) -> None:
    card = first(atlas).what[2]
    unit = VECTORS[:14] / np.linalg.norm(VECTORS[:14], axis=1, keepdims=True)
    order = np.argsort(-(unit @ unit.sum(0))).tolist()
    assert card.nearest == tuple(order[:12])
    assert card.farthest == tuple(order[:11:-1])


def test_outliers_are_those_far_from_their_neighbours_beside_an_ordinary_image(
    tmp_path: Path,
) -> None:
    vectors = VECTORS[:40].copy()
    vectors[[5, 20]] = np.eye(8)[[6, 7]]
    atlas = atlas_of(write_placed(tmp_path / "r", spots(PLACES[:40]), [0] * 40, vectors))
    assert atlas is not None
    found = first(atlas).outliers
    assert {own.image for own in found[:2]} == {5, 20}
    assert len(found) == 4
    assert not {own.neighbour for own in found} & {own.image for own in found}
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    distances = np.sort(1 - unit[[found[0].image]] @ unit.T)[0]
    assert found[0].distance == pytest.approx(distances[6], abs=1e-5)  # itself, then six others


def test_points_are_principal_components_with_fixed_signs(atlas: Atlas) -> None:
    unit = (VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)).astype(np.float64)
    centred = unit - unit.mean(0)
    _, _, axes = np.linalg.svd(centred)
    for place in range(2):
        axis = axes[place] * np.sign(axes[place][np.abs(axes[place]).argmax()])
        np.testing.assert_allclose(atlas.points.pca[:, place], centred @ axis, atol=1e-5)
    assert atlas.points.space == "what"
    assert atlas.points.tsne is not None
    assert atlas.points.tsne.shape == (64, 2)


def test_a_class_of_few_images_has_no_clusters_and_says_why(atlas: Atlas) -> None:
    few = atlas.classes[1]
    assert (few.n, few.where, few.what, few.outliers) == (20, (), (), ())
    assert few.accuracy is None
    assert str(few.note) == (
        "No clusters: they need 30 images of a class, and 20 are predicted as this one and have "
        "positive evidence."
    )
    assert first(atlas).note is None


def test_without_scikit_learn_there_are_points_and_a_word_on_how_to_get_the_rest(
    tmp_path: Path,
) -> None:
    results = write_placed(tmp_path / "r", spots(PLACES), CLASSES, VECTORS)
    with mock.patch("camreport.insight.clusters.find_spec", return_value=None):
        found = atlas_of(results)
    assert found is not None
    assert "pip install 'camreport[insight]'" in str(found.note)
    assert [own.where + own.what for own in found.classes] == [(), ()]
    assert found.points.tsne is None
    assert len(found.points.pca) == 64
    assert [own.note for own in found.classes] == [None, None]
    assert first(found).placement is not None
    assert not (results.path / kept.NAME).exists()


def test_without_contributions_images_are_compared_by_where_alone(tmp_path: Path) -> None:
    found = atlas_of(write_placed(tmp_path / "r", spots(PLACES), CLASSES))
    assert found is not None
    assert (found.what_layer, found.points.space) == (None, "where")
    assert first(found).what == ()
    assert {card.corner for card in first(found).where} >= {"lower-left"}


@pytest.mark.parametrize("count", [1, 2])
def test_there_is_an_atlas_from_two_maps_with_positive_evidence_on(
    count: int, tmp_path: Path
) -> None:
    given = spots([CENTRE] * 3)
    given[count:] *= -1
    found = atlas_of(write_placed(tmp_path / "r", given, [0] * 3))
    assert (found is None) is (count == 1)
    if found:
        assert found.total == 3
        assert found.points.images.tolist() == [0, 1]


def test_of_very_many_images_a_sample_is_clustered_and_the_rest_joins_the_nearest(
    tmp_path: Path,
) -> None:
    places = [CORNER] * 100 + [CENTRE] * 120 + [(2, 12)] * 80
    kinds = np.eye(8)[[0] * 100 + [1] * 120 + [2] * 80]
    vectors = (kinds + RANDOM.normal(0, 0.05, kinds.shape)).astype(np.float32)
    results = write_placed(tmp_path / "r", spots(places), [0] * 300, vectors)
    with (
        mock.patch.object(arranging, "MAX_SAMPLE", 90),
        mock.patch.object(arranging, "MAX_POINTS", 50),
        mock.patch.object(arranging, "cluster", wraps=arranging.cluster) as clustered,
    ):
        found = atlas_of(results)
    assert [len(call.args[0]) for call in clustered.call_args_list] == [90, 90]
    assert found is not None
    own = first(found)
    assert sorted(card.n for card in own.what) == [80, 100, 120]
    assert len(found.points.images) == 50
    assert found.points.tsne is None
    assert (np.diff(found.points.images) > 0).all()


def test_equal_runs_have_equal_arrangements_whatever_the_shards(tmp_path: Path) -> None:
    given = spots(PLACES), CLASSES, VECTORS
    one = arrange(write_placed(tmp_path / "a", *given, in_shard=16))
    other = arrange(write_placed(tmp_path / "b", *given, in_shard=40))
    assert one is not None
    for own in fields(Arrangement):
        np.testing.assert_array_equal(getattr(one, own.name), getattr(other, own.name))


# What is kept


def test_of_few_images_nothing_is_kept_and_scikit_learn_is_not_asked(tmp_path: Path) -> None:
    results = write_placed(tmp_path / "r", spots(PLACES[:29]), [0] * 29)
    with mock.patch.dict("sys.modules", {"sklearn": None, "sklearn.manifold": None}):
        assert atlas_of(results) is not None
    assert not (results.path / kept.NAME).exists()


def as_json(results: Results) -> object:
    found = atlas_of(results)
    assert found is not None
    return found.to_json()


def test_the_arrangement_is_kept_and_used_again(tmp_path: Path) -> None:
    results = write_placed(tmp_path / "r", spots(PLACES), CLASSES, VECTORS)
    made = as_json(results)
    written = (results.path / kept.NAME).read_bytes()
    with mock.patch.object(kept, "arrange") as again:
        assert as_json(load_results(tmp_path / "r")) == made
    again.assert_not_called()
    (results.path / kept.NAME).unlink()
    assert as_json(results) == made
    assert (results.path / kept.NAME).read_bytes() == written


def test_another_shard_or_prediction_makes_it_again(tmp_path: Path) -> None:
    results = write_placed(tmp_path / "a", spots(PLACES), CLASSES, VECTORS)
    atlas_of(results)
    others = [
        write_placed(tmp_path / "b", spots(PLACES, seed=1), CLASSES, VECTORS),
        write_placed(tmp_path / "c", spots(PLACES), [*CLASSES[:-1], 0], VECTORS),
        write_placed(tmp_path / "d", spots(PLACES), CLASSES, VECTORS + 1),
    ]
    for other in others:
        (other.path / kept.NAME).write_bytes((results.path / kept.NAME).read_bytes())
        with pytest.raises(ResultsError, match="'origin'"):
            kept.read_arrangement(other)
    relabelled = write_placed(tmp_path / "e", spots(PLACES), CLASSES, VECTORS, LABELS)
    (relabelled.path / kept.NAME).write_bytes((results.path / kept.NAME).read_bytes())
    kept.read_arrangement(relabelled)


def changed(arrays: Arrays, name: str, value: object, place: object = ...) -> Arrays:
    """Return arrays of which one has another value at a place."""
    own = arrays[name].copy()
    own[place] = value
    return arrays | {name: own}


DAMAGES = {
    "a cluster that is not there": lambda a: changed(a, "labels", 9, (1, 0)),
    "a cluster of a class that has none": lambda a: changed(a, "labels", 1, (0, 63)),
    "a negative cluster": lambda a: changed(a, "labels", -1, (0, 0)),
    "a distance that is none": lambda a: changed(a, "distance", np.nan, (0, 0)),
    "a class that is not there": lambda a: changed(a, "clustered", 2),
    "a stability above one": lambda a: changed(a, "stability", 2, (0, 0, 0)),
    "a point twice": lambda a: changed(a, "points", 0, 1),
    "a point that is no image": lambda a: changed(a, "points", 64, -1),
    "an infinite point": lambda a: changed(a, "pca", np.inf, (0, 0)),
    "a layout of fewer points": lambda a: a | {"tsne": a["tsne"][:-1]},
    "an outlier that is no image": lambda a: changed(a, "outliers", 64, (0, 1)),
    "fewer outliers than distances": lambda a: a | {"outliers": a["outliers"][1:]},
    "another type": lambda a: a | {"labels": a["labels"].astype(np.int64)},
    "too few images": lambda a: a | {"labels": a["labels"][:, :-1]},
    "an array more": lambda a: a | {"more": a["pca"]},
    "an array less": lambda a: {name: own for name, own in a.items() if name != "apart"},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_does_not_fit_is_refused_and_made_again(
    damage: str, results: Results, atlas: Atlas
) -> None:
    path = results.path / kept.NAME
    whole = path.read_bytes()
    arrays = read_shard(path, results.path.parent)
    path.write_bytes(packed(DAMAGES[damage](arrays)).getvalue())
    with pytest.raises(ResultsError):
        kept.read_arrangement(results)
    with mock.patch.object(kept, "arrange", return_value=None) as again:
        atlas_of(results)
    again.assert_called_once()
    path.write_bytes(whole)
    assert atlas_of(results) is not None


@pytest.mark.parametrize("size", [0, 100])
def test_a_file_that_is_cut_off_is_made_again(size: int, results: Results, atlas: Atlas) -> None:
    path = results.path / kept.NAME
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    assert as_json(results) == atlas.to_json()
    assert path.read_bytes() == whole


def test_a_folder_that_cannot_be_written_to_has_its_atlas_all_the_same(tmp_path: Path) -> None:
    results = write_placed(tmp_path / "r", spots(PLACES[:30]), [0] * 30)
    (results.path / kept.NAME).mkdir()
    assert atlas_of(results) is not None


# Numbers of each image


def test_border_and_deviation_of_each_image_are_those_of_numpy(results: Results) -> None:
    columns, where = placement_columns(results), maps(results)
    total, inside = where.sum((1, 2)), where[:, 2:-2, 2:-2].sum((1, 2))
    np.testing.assert_allclose(columns["border.grad_cam"], 1 - inside / total, atol=6e-4)
    flat, classes = where.reshape(len(where), -1), np.array(CLASSES)
    means = np.stack([flat[classes == own].mean(0) for own in (0, 1)])[classes]
    lengths = np.linalg.norm(flat, axis=1) * np.linalg.norm(means, axis=1)
    expected = 1 - (flat * means).sum(1) / lengths
    np.testing.assert_allclose(columns["deviation.grad_cam"], expected, atol=6e-4)


def test_a_map_without_positive_evidence_has_neither(tmp_path: Path) -> None:
    given = spots([CENTRE] * 3)
    given[1] *= -1
    columns = placement_columns(write_placed(tmp_path / "r", given, [0] * 3))
    assert [own[1] for own in columns.values()] == [None, None]


def test_masses_of_a_map_in_one_corner() -> None:
    where = np.zeros((2, 14, 14), np.uint8)
    where[0, 10, 4] = 200
    border, *corners = masses(where)[0]
    assert dict(zip(CORNERS, corners, strict=True))["lower-left"] == 1
    assert (border, sum(corners)) == (0, 1)
    assert np.isnan(masses(where)[1]).all()


# The contract with the page


def test_the_page_declares_each_field_of_the_atlas() -> None:
    types = (templates_folder() / "gallery/src/data/types.ts").read_text(encoding="utf-8")
    for kind in (Atlas, ClassAtlas, Cluster, Placement, Points):
        assert is_dataclass(kind)
        (body,) = re.findall(rf"^export interface {kind.__name__} {{\n(.*?)^}}", types, re.M | re.S)
        camel = [re.sub(r"_(\w)", lambda m: m[1].upper(), own.name) for own in fields(kind)]
        assert re.findall(r"^  (\w+):", body, re.M) == camel, kind.__name__
