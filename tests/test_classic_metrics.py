"""Average Drop with its area, and ROAD: definitions, closed forms, and what peers compute."""

import numpy as np
import pytest
import torch
from helpers.planted import PATCH, bright_images, evidence_batch, patch, planted_net
from numpy.typing import NDArray
from pytorch_grad_cam.metrics.road import NoisyLinearImputer, neighbors_weights
from scipy.sparse.linalg import spsolve
from test_order import FixedCam
from torchcam.metrics import ClassificationMetric

from camreport.metrics.classic import average_drop, road
from camreport.metrics.values import Undefined, Values
from camreport.pipeline.evidence import classic, filling
from camreport.pipeline.evidence.batch import Measured
from camreport.pipeline.evidence.classic import measure_average_drop, measure_road
from camreport.pipeline.evidence.filling import filled_in
from camreport.results.schema import MapKey

Maps = NDArray[np.float32]


def values(*numbers: float) -> Values:
    """Return defined values."""
    return Values.of(np.array(numbers))


def drops_of(maps: dict[str, Maps], inputs: Maps) -> Measured:
    """Measure Average Drop of maps of the planted network."""
    keyed = {MapKey(name, "1"): own for name, own in maps.items()}
    return measure_average_drop(evidence_batch(planted_net(), "1", inputs, keyed))


def test_drop_increase_and_gain_are_parts_of_the_probability():
    before = np.float32([0.8, 0.5, 0.0, 1.0, 0.5])
    after = values(0.2, 0.75, 0.0, 1.0, 0.5)
    found = average_drop(before, after, np.float32([0.3, 1, 1, 1, 0]))
    expected = {
        "average_drop": [0.75, 0, 0, 0],
        "average_drop.increase": [0, 1, 0, 0],
        "average_drop.gain": [0, 0.5, 0, 0],
        "average_drop.area": [0.3, 1, 1, 1],
    }
    for name, numbers in expected.items():
        np.testing.assert_allclose(found[name].numbers[:4], numbers, atol=1e-6, err_msg=name)
        assert found[name].reasons.tolist() == [0, 0, 0, 0, Undefined.NO_POSITIVE]


def test_a_map_of_ones_loses_nothing_and_says_that_it_is_everything():
    inputs, inside = bright_images(2), np.tile(patch(), (2, 1, 1, 1))
    ones = np.where(inside == 0, np.float32(0.99), 1)
    found = drops_of({"ones": ones, "true": inside, "rest": 1 - inside}, inputs).values
    assert found["average_drop/ones/1"].numbers.max() < 1e-3
    assert found["average_drop.area/ones/1"].numbers.min() > 0.98
    assert found["average_drop/true/1"].numbers.max() < 1e-3
    np.testing.assert_allclose(found["average_drop.area/true/1"].numbers, patch().mean())
    read = inputs[:, :, *PATCH].astype(np.float64).mean((1, 2, 3)) * 4
    shown = 1 / (1 + np.exp(-2 * read))
    lost = found["average_drop/rest/1"].numbers[:, 0]
    np.testing.assert_allclose(lost, 1 - 0.5 / shown, atol=1e-6)


def test_average_drop_and_increase_are_torchcams():
    net, inputs = planted_net(), bright_images(5)
    maps = np.random.default_rng(1).random((5, 1, 8, 8)).astype(np.float32)
    maps /= maps.max((-2, -1), keepdims=True)
    found = drops_of({"a": maps}, inputs).values
    peer = ClassificationMetric(
        FixedCam(net, torch.from_numpy(maps[:, 0]).double()), lambda logits: logits.softmax(-1)
    )
    peer.update(torch.from_numpy(inputs).double(), 0)
    summary = peer.summary()
    drop, increase = (found[f"average_drop{kind}/a/1"].numbers for kind in ("", ".increase"))
    assert drop.mean() == pytest.approx(summary["avg_drop"], abs=1e-5)
    assert increase.mean() == pytest.approx(summary["conf_increase"])


def test_road_is_half_the_mean_difference_of_the_orders():
    reasons = np.zeros((2, 9), np.uint8)
    reasons[1] = Undefined.CONSTANT
    morf, lerf = np.random.default_rng(0).random((2, 2, 9)).astype(np.float32)
    morf[1] = lerf[1] = np.nan
    found = road(Values(morf, reasons), Values(lerf, reasons))
    assert found.numbers[0] == pytest.approx((lerf[0] - morf[0]).mean() / 2)
    assert found.reasons.tolist() == [Undefined.DEFINED, Undefined.CONSTANT]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_pixels_are_filled_in_as_grad_cams_equations_say(share, monkeypatch):
    monkeypatch.setattr(filling, "TOLERANCE", 1e-9)
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.standard_normal((3, 2, 12, 9)))
    known = torch.from_numpy(random.random((3, 1, 12, 9)) > share)
    known[0, 0, :, 1:] = False
    known[:, 0, 5, 0] = True
    found = filled_in(images, known)
    for image, own, where in zip(images, found, known, strict=True):
        system, right = NoisyLinearImputer.setup_sparse_system(
            where[0].double().numpy(), image.numpy(), neighbors_weights
        )
        expected = np.linalg.solve(system.toarray(), right)  # (unknown, C)
        np.testing.assert_allclose(own[:, ~where[0]].T, expected, atol=1e-6)
        assert torch.equal(own[:, where[0]], image[:, where[0]])


def test_a_large_hole_is_filled_in_within_few_steps(monkeypatch):
    """One grid alone would take as many steps as the hole is wide, 200 here."""
    steps, around = [], filling._around

    def counted(values: torch.Tensor) -> torch.Tensor:
        steps.append(values.shape)
        return around(values)

    monkeypatch.setattr(filling, "_around", counted)
    rows, columns = np.mgrid[-75:75, -75:75]
    known = torch.from_numpy((rows**2 + columns**2 > 70**2) & (rows + columns < 140))[None, None]
    image = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, 150, 150)))
    found = filled_in(image, known)[0]
    assert len(steps) < 80
    system, right = NoisyLinearImputer.setup_sparse_system(
        known[0, 0].double().numpy(), image[0].numpy(), neighbors_weights
    )
    expected = spsolve(system.tocsc(), right)
    np.testing.assert_allclose(found[:, ~known[0, 0]].T, expected, atol=2e-3)


def test_road_covers_exactly_a_tenth_more_in_each_step_also_of_maps_full_of_ties(monkeypatch):
    seen: list[list[int]] = []
    fill = classic.filled_in

    def note(images: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        seen.append((~known).sum((1, 2, 3)).tolist())
        return fill(images, known)

    monkeypatch.setattr(classic, "filled_in", note)
    inside = patch()[None, None]
    key = MapKey("a", "1")
    measure_road(evidence_batch(planted_net(), "1", bright_images(1), {key: inside}))
    counts = [102, 205, 307, 410, 512, 614, 717, 819, 922]
    assert [count for chunk in seen for count in chunk] == counts * 2


def test_road_finds_the_patch_that_a_network_reads():
    inputs = np.full((8, 3, 32, 32), -1, np.float32)
    inputs[:, :, *PATCH] = 1
    inside = np.tile(patch(), (8, 1, 1, 1))
    noise = np.random.default_rng(1).standard_normal((8, 1, 8, 8)).astype(np.float32)
    maps = {"true": inside, "rest": 1 - inside, "noise": noise}
    keyed = {MapKey(name, "1"): own for name, own in maps.items()}
    batch = evidence_batch(planted_net(), "1", inputs, keyed)
    found = measure_road(batch)
    numbers = {name: found.values[f"road/{name}/1"].numbers[:, 0] for name in maps}
    assert numbers["true"].min() > 0.2
    assert numbers["rest"].max() < -0.2
    assert (numbers["noise"] < numbers["true"]).all()
    assert found.cost.variants == 8 * 3 * 18
    again = measure_road(batch).values["road/noise/1"].numbers[:, 0]
    np.testing.assert_array_equal(again, numbers["noise"])
