"""What is measured of the maps of a shard, against definitions in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from camreport.insight.numbers import MAX_ROWS, ShardNumbers, measure
from camreport.metrics.grids import AREA_GRID, GRID, resampled
from camreport.results.schema import MapKey
from camreport.results.shards import Arrays

Map = NDArray[np.float64]


def shard(maps: dict[str, object], logits: object = ((0, 1),), targets: object = None) -> Arrays:
    """Return a shard's arrays; by default of two classes, both explained, the second predicted."""
    scores = np.asarray(logits, np.float32)
    classes = np.arange(scores.shape[1])
    explained = np.tile(classes, (len(scores), 1)) if targets is None else np.asarray(targets)
    return {
        **{name: np.asarray(cams, np.float32) for name, cams in maps.items()},
        "logits": scores,
        "targets": explained,
    }


def one_map(method: str, cam: object) -> ShardNumbers:
    """Return the numbers of one image with one explained class of two."""
    return measure(shard({f"{method}/a": [[cam]]}, targets=[[1]]), "softmax")


def drawn_size(cam: Map) -> Map:
    """Return a map as fractions of its maximum; what is negative speaks against the class."""
    size = np.maximum(cam, 0)
    return size / size.max()


def averaged(cam: Map, side: int) -> Map:
    """Average a finer map: every cell is cut into side × side, and these are counted out."""
    height, width = cam.shape
    small = cam.repeat(side, 0).repeat(side, 1)
    return small.reshape(side, height, side, width).mean((1, 3))


def ranks(values: Map) -> Map:
    """Return average ranks, by the definition: how many are smaller, and half of the equal ones."""
    flat = values.ravel()
    smaller, equal = flat[:, None] > flat, flat[:, None] == flat
    return smaller.sum(1) + (equal.sum(1) + 1) / 2


def spearman(one: Map, other: Map) -> float:
    return float(np.corrcoef(ranks(one), ranks(other))[0, 1])


def random_map(seed: int, *shape: int) -> Map:
    """Return a map of smooth positive and negative parts."""
    return np.random.default_rng(seed).normal(0.2, 1, shape)


# Area


@pytest.mark.parametrize("shape", [(1, 1), (6, 6), (7, 9), (13, 13), (55, 55), (5, 60), (70, 80)])
@pytest.mark.parametrize("method", ["grad_cam", "hires_cam"])
def test_area_is_that_of_the_enlarged_map(method: str, shape: tuple[int, int]) -> None:
    cam = random_map(0, *shape).astype(np.float32).astype(np.float64)
    cam[0, 0] = 2
    shown = np.maximum(cam, 0)
    size = [max(AREA_GRID, side) for side in shape]
    large = interpolate(torch.from_numpy(shown)[None, None], size, mode="bilinear")[0, 0]
    expected = float((large >= shown.max() / 2).double().mean())
    assert one_map(method, cam).area.item() == pytest.approx(expected, abs=1e-7)


def test_area_of_an_even_map_is_the_whole_and_of_half_a_map_a_half() -> None:
    assert one_map("grad_cam", np.full((3, 4), 7)).area.item() == 1
    half = np.zeros((4, 4))
    half[:, :2] = 3
    assert one_map("grad_cam", half).area.item() == 0.5


def test_area_of_a_map_without_positive_evidence_is_zero() -> None:
    for method in ("grad_cam", "hires_cam"):
        for cam in (np.zeros((3, 3)), -np.ones((3, 3))):
            assert one_map(method, cam).area.item() == 0
    assert one_map("recipro_cam", [[5, 5]]).area.item() == 0, "only differences mean something"


def test_a_map_of_differences_that_overflow_is_undefined() -> None:
    assert np.isnan(one_map("recipro_cam", [[3e38, -3e38]]).area).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("method", ["grad_cam", "hires_cam", "recipro_cam"])
def test_area_of_a_map_that_is_not_finite_is_undefined(method: str, value: float) -> None:
    assert np.isnan(one_map(method, [[1, value], [0, 0]]).area).all()
    assert not one_map(method, [[1, value], [0, 0]]).where.any()


def test_a_peak_between_the_positions_is_still_evidence() -> None:
    cam = np.zeros((50, 50))
    cam[3, 3] = 1
    large = interpolate(torch.from_numpy(cam)[None, None], (AREA_GRID,) * 2, mode="bilinear")
    assert float(large.max()) < 0.5
    assert 0 < one_map("grad_cam", cam).area.item() <= 1 / AREA_GRID**2


def test_of_colours_and_of_channels_the_strongest_are_measured() -> None:
    colours = np.zeros((3, 56, 56))
    colours[0, :, :28], colours[2, :28, 28:] = 1, -1
    assert one_map("guided_backprop", colours).area.item() == 0.75
    channels = np.zeros((4, 56, 56))
    channels[1, :14], channels[3, :28] = 9, 8
    assert one_map("gradient_x_activation", channels).area.item() == 0.5


def test_a_map_of_differences_is_measured_from_its_least_value_up() -> None:
    cam = np.full((56, 56), 100.0)
    cam[:14] = 101
    assert one_map("grad_cam", cam).area.item() == 1
    assert one_map("recipro_cam", cam).area.item() == 0.25


# The common grid


@pytest.mark.parametrize("shape", [(14, 14), (27, 27), (55, 55), (28, 15), (224, 224)])
def test_a_finer_map_is_averaged(shape: tuple[int, int]) -> None:
    cam = random_map(1, *shape)
    np.testing.assert_allclose(resampled(cam, GRID, GRID), averaged(cam, GRID), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (6, 6), (7, 13), (2, 3)])
def test_a_coarser_map_is_interpolated(shape: tuple[int, int]) -> None:
    cam = random_map(2, *shape)
    expected = interpolate(torch.from_numpy(cam)[None, None], (GRID, GRID), mode="bilinear")
    np.testing.assert_allclose(resampled(cam, GRID, GRID), expected[0, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(6, 6), (13, 13), (27, 27), (55, 41)])
@pytest.mark.parametrize("method", ["grad_cam", "hires_cam"])
def test_where_is_the_map_on_the_common_grid_in_8_bits(method: str, shape: tuple[int, int]) -> None:
    cam = random_map(3, *shape)
    size = drawn_size(cam)
    values = resampled(size, GRID, GRID) if min(shape) < GRID else averaged(size, GRID)
    found = one_map(method, cam).where[0, 0]
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found, values * 255, rtol=0, atol=0.5 + 1e-4)


def test_where_is_the_predicted_classs_map() -> None:
    """Three images: the first and the second class are predicted, then one that is left out."""
    cams = random_map(4, 3, 2, 14, 14)
    logits = [[5, 1, 0], [1, 5, 0], [0, 1, 5]]
    found = measure(shard({"grad_cam/a": cams}, logits, [[0, 1]] * 3), "softmax")
    assert found.predicted.tolist() == [0, 1, 2]
    assert found.slot.tolist() == [0, 1, -1]
    for image, slot in enumerate((0, 1)):
        expected = drawn_size(cams[image, slot].astype(np.float32)) * 255
        np.testing.assert_allclose(found.where[0, image], expected, rtol=0, atol=0.5 + 1e-4)
    assert not found.where[0, 2].any()
    own = found.of_predicted(found.area[0], found.keys[0])
    np.testing.assert_array_equal(own, [*found.area[0, [0, 1], [0, 1]], np.nan])


def test_a_map_that_all_classes_share_is_the_predicted_classs_too() -> None:
    cams = np.repeat(random_map(5, 1, 1, 14, 14), 2, 1)
    found = measure(shard({"eigen_cam/a": cams}, [[0, 1, 5]], [[0, 1]]), "softmax")
    assert found.slot.tolist() == [-1]
    assert found.where[0, 0].max() == 255
    assert found.of_predicted(found.area[0], found.keys[0]).tolist() == found.area[0, :, 0].tolist()


# Agreement


def compared(one: object, other: object, methods: tuple[str, str] = ("grad_cam", "layer_cam")):
    """Return rank correlation and overlap of two methods' maps."""
    first, second = methods
    given = shard({f"{first}/a": [[one]], f"{second}/a": [[other]]}, targets=[[1]])
    found = measure(given, "softmax")
    assert found.pairs == ((MapKey(first, "a"), MapKey(second, "a")),)
    return found.correlation.item(), found.overlap.item()


@pytest.mark.parametrize("seed", range(5))
def test_correlation_is_spearmans_with_average_ranks(seed: int) -> None:
    """Whole numbers from 0 to 4 on the common grid: most cells have equals."""
    random = np.random.default_rng(seed)
    one, other = random.integers(0, 5, (2, 14, 14)).astype(float)
    other = np.where(random.random((14, 14)) < 0.5, one, other)
    assert compared(one, other)[0] == pytest.approx(spearman(one, other), abs=1e-6)


@pytest.mark.parametrize("shapes", [((14, 14), (14, 14)), ((28, 28), (7, 7)), ((55, 55), (13, 13))])
def test_maps_of_different_grids_are_compared_as_they_are_drawn(
    shapes: tuple[tuple[int, int], tuple[int, int]],
) -> None:
    one, other = (random_map(seed, *shape) for seed, shape in enumerate(shapes))
    sizes = [resampled(drawn_size(each), GRID, GRID) for each in (one, other)]
    found, _ = compared(one, other, ("grad_cam", "hires_cam"))
    assert found == pytest.approx(spearman(*sizes), abs=2e-4), "ranks are of 60,000 levels"


def test_correlation_of_a_map_with_itself_is_one_and_with_its_inverse_minus_one() -> None:
    cam = np.arange(1.0, 197).reshape(14, 14)
    assert compared(cam, 3 * cam) == (1, 1)
    assert compared(cam, 200 - cam) == (-1, 0)


def test_overlap_is_that_of_the_highest_fifths() -> None:
    """39 cells each: of the 196 cells, 20 are high in both."""
    one, other = np.zeros(196), np.zeros(196)
    one[:39], other[19:58] = np.arange(61, 100), np.arange(61, 100)
    one[100:], other[100:] = 5, 7
    assert compared(one.reshape(14, 14), other.reshape(14, 14))[1] == pytest.approx(20 / 58)


def test_cells_without_evidence_are_in_no_highest_fifth() -> None:
    one, other = np.zeros((2, 14, 14))
    one[0, :4], other[0, 2:4] = 1, 1
    assert compared(one, other)[1] == 0.5


@pytest.mark.parametrize(
    "cam", [np.zeros((14, 14)), -np.ones((14, 14)), np.ones((3, 3)), np.full((2, 2), np.nan)]
)
def test_nothing_agrees_with_a_map_that_is_empty_undefined_or_constant(cam: Map) -> None:
    found = compared(cam, random_map(0, 14, 14))
    assert np.isnan(found).all()


def test_methods_are_compared_layer_by_layer() -> None:
    names = ("grad_cam/a", "grad_cam/b", "layer_cam/b", "layer_cam/fused", "hires_cam/b")
    found = measure(shard({n: random_map(0, 1, 2, 5, 5) for n in names}), "softmax")
    pairs = [(one.method, other.method, one.layer) for one, other in found.pairs]
    assert pairs == [
        *(("grad_cam", "layer_cam", "b"), ("grad_cam", "hires_cam", "b")),
        ("layer_cam", "hires_cam", "b"),
    ]
    assert found.correlation.shape == (3, 1, 2)
    assert found.correlation[0].tolist() == [[1, 1]]


def test_likeness_is_that_of_the_two_most_probable_explained_classes() -> None:
    cams = random_map(6, 1, 3, 14, 14)
    explained = [[0, 2, 3]]  # class 1 is the most probable, and not explained
    found = measure(shard({"grad_cam/a": cams}, [[2, 9, 1, 3]], explained), "softmax")
    sizes = [drawn_size(cam.astype(np.float32)) for cam in cams[0]]
    expected = spearman(np.float64(sizes[2]), np.float64(sizes[0]))
    assert found.likeness.item() == pytest.approx(expected, abs=1e-4)


def test_signed_maps_of_two_classes_that_are_opposite_are_unlike() -> None:
    cam = random_map(5, 14, 14)
    arrays = shard({"hires_cam/a": [[cam, -cam]]}, targets=[[0, 1]])
    assert measure(arrays, "softmax").likeness.item() < -0.5


def test_there_is_no_likeness_of_one_class_or_of_one_map_for_all() -> None:
    cams = random_map(7, 1, 2, 14, 14)
    one = measure(shard({"grad_cam/a": cams[:, :1]}, targets=[[0]]), "softmax")
    shared = measure(shard({"eigen_cam/a": cams}), "softmax")
    assert np.isnan([one.likeness.item(), shared.likeness.item()]).all()


# Margin and prediction


@pytest.mark.parametrize(
    ("activation", "logits", "margin"),
    [
        ("softmax", [0, np.log(3), -np.inf], 0.5),
        ("sigmoid", [0, np.log(3), -50], 0.25),
        ("none", [0.1, 0.8, 0.2], 0.6),
    ],
)
def test_margin_is_the_lead_of_the_most_probable_class(
    activation: str, logits: list[float], margin: float
) -> None:
    found = measure(shard({"grad_cam/a": np.ones((1, 1, 2, 2))}, [logits], [[1]]), activation)
    assert found.margin.item() == pytest.approx(margin, abs=1e-6)
    assert found.predicted.tolist() == [1]


def test_logits_that_are_not_finite_predict_nothing() -> None:
    cams = {"grad_cam/a": random_map(0, 2, 2, 3, 3)}
    found = measure(shard(cams, [[np.nan, 1], [0, 1]]), "softmax")
    assert (found.predicted.tolist(), found.slot.tolist()) == ([-1, 1], [-1, 1])
    assert np.isnan(found.margin[0])
    assert not found.where[0, 0].any()


def test_one_class_has_no_margin() -> None:
    found = measure(shard({"grad_cam/a": np.ones((1, 1, 2, 2))}, [[1]]), "sigmoid")
    assert np.isnan(found.margin.item())


# Any shapes and values

VALUES = st.one_of(
    st.floats(-100, 100, width=32),
    st.sampled_from([0.0, 1.0, -1.0, np.nan, np.inf, 1e-45, -3e38, 3e38]),
)
METHODS = ("grad_cam", "eigen_cam", "hires_cam", "recipro_cam", "gradient_x_activation")


@st.composite
def shards(draw: st.DrawFn) -> Arrays:
    """Return the arrays of a shard: up to four images, three classes and three methods."""
    count, slots, classes = draw(st.integers(1, 4)), draw(st.integers(1, 3)), 3
    maps = {}
    for method in draw(st.lists(st.sampled_from(METHODS), min_size=1, max_size=3, unique=True)):
        grid = draw(st.tuples(st.integers(1, 20), st.integers(1, 60)))
        inner = (2, *grid) if method == "gradient_x_activation" else grid
        shape = count, 1 if method == "eigen_cam" else slots, *inner
        cams = draw(arrays_of.arrays(np.float32, shape, elements=VALUES, fill=VALUES))
        maps[f"{method}/a"] = np.broadcast_to(cams, (count, slots, *inner))
    logits = draw(arrays_of.arrays(np.float32, (count, classes), elements=VALUES))
    targets = draw(st.lists(st.permutations(range(classes)), min_size=count, max_size=count))
    return shard(maps, logits, [one[:slots] for one in targets])


@settings(deadline=None, max_examples=60)
@given(shards())
def test_every_number_is_in_its_range_and_no_image_depends_on_another(given: Arrays) -> None:
    whole = measure(given, "softmax")
    alone = [
        measure({name: array[row : row + 1] for name, array in given.items()}, "softmax")
        for row in range(len(given["logits"]))
    ]
    for name, (least, most) in {
        "area": (0, 1),
        "correlation": (-1, 1),
        "overlap": (0, 1),
        "likeness": (-1, 1),
        "margin": (0, 1),
    }.items():
        values = getattr(whole, name)
        assert values.dtype == np.float32
        defined = values[~np.isnan(values)]
        assert ((defined >= least) & (defined <= most)).all(), name
    for row, single in enumerate(alone):
        for name in ("area", "where", "correlation", "overlap", "likeness"):
            own, its = getattr(whole, name)[:, row], getattr(single, name)[:, 0]
            assert own.tobytes() == its.tobytes(), name
        assert whole.rows([row]).margin.tobytes() == single.margin.tobytes()


def test_a_large_shard_is_measured_in_parts_and_no_number_changes() -> None:
    count = 2 * MAX_ROWS + 3
    maps = {f"{name}/a": random_map(9, count, 2, 5, 5) for name in ("grad_cam", "layer_cam")}
    given = shard(maps, np.random.default_rng(0).normal(size=(count, 2)))
    whole = measure(given, "softmax")
    for row in (0, MAX_ROWS - 1, MAX_ROWS, count - 1):
        one = {name: array[row : row + 1] for name, array in given.items()}
        alone, own = measure(one, "softmax"), whole.rows([row])
        assert own.keys == alone.keys
        for name in ("predicted", "slot", "margin", "area", "where", "correlation", "likeness"):
            assert getattr(own, name).tobytes() == getattr(alone, name).tobytes(), name


@pytest.mark.parametrize("factor", [2.0**-60, 2.0**60])
def test_no_scale_is_special(factor: float) -> None:
    cams = random_map(8, 2, 2, 13, 13)
    names = ("grad_cam/a", "layer_cam/a", "hires_cam/a")
    plain = measure(shard({n: cams + i for i, n in enumerate(names)}, [[0, 1]] * 2), "softmax")
    scaled = {n: (cams + i).astype(np.float32) * factor for i, n in enumerate(names)}
    other = measure(shard(scaled, [[0, 1]] * 2), "softmax")
    for name in ("area", "where", "correlation", "overlap", "likeness"):
        np.testing.assert_array_equal(getattr(other, name), getattr(plain, name))
