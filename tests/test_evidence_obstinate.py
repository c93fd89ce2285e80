"""Evidence of networks that work on photographs, but not on every changed image or weight."""

import pytest
import torch
from helpers.evidence_batches import batch_of
from torch import Tensor, nn

import camreport
from camreport.metrics.values import Undefined
from camreport.pipeline.evidence.classic import measure_average_drop, measure_road
from camreport.pipeline.evidence.learned import measure_learned, scramble_seeds
from camreport.pipeline.evidence.orders import measure_orders


class Standardising(nn.Sequential):
    """Divides by each image's own deviation: a wholly covered image has none."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        pool = nn.AdaptiveAvgPool2d(1)
        super().__init__(nn.Conv2d(3, 4, 3), nn.ReLU(), pool, nn.Flatten(), nn.Linear(4, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of the images, each brought to mean 0 and deviation 1."""
        centred = images - images.mean((1, 2, 3), keepdim=True)
        return super().forward(centred / images.std((1, 2, 3), keepdim=True))


class Particular(Standardising):
    """Refuses other weights than its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = float(self[0].weight.detach().flatten()[0])

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, with the network's own weights alone."""
        if float(self[0].weight.detach().flatten()[0]) != self.first:
            raise ValueError("these are not my weights")
        return super().forward(images)


class NowhereFinite(Standardising):
    """Has maps, but logits that are not finite."""

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of which the first is not a number."""
        return super().forward(images) + torch.tensor([torch.nan, 0.0, 0.0])


def reasons_of(measured, name: str) -> set[int]:
    """Return why the numbers of one name are undefined."""
    values = [own for key, own in measured.values.items() if key.split("/")[0] == name]
    return {why for own in values for why in own.reasons.ravel().tolist()}


def test_scores_that_are_not_finite_leave_their_numbers_undefined():
    found = measure_orders(batch_of(Standardising(), ("grad_cam",), ("0",), every_map=True))
    for name in ("order", "order.deletion", "order.insertion", "order.morf"):
        assert Undefined.NOT_FINITE in reasons_of(found, name)
        assert Undefined.DEFINED not in reasons_of(found, name)
    assert Undefined.DEFINED in reasons_of(found, "order.tied")


@pytest.mark.parametrize("measure", [measure_average_drop, measure_road])
def test_a_network_without_finite_scores_has_classic_metrics_without_numbers(measure):
    batch = batch_of(NowhereFinite(), ("eigen_cam",), ("0",), every_map=True)
    name = measure.__name__.removeprefix("measure_")
    assert Undefined.DEFINED not in reasons_of(measure(batch), name)


def test_a_network_that_fails_with_permuted_weights_says_so_and_keeps_its_own():
    net = Particular()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = measure_learned(batch_of(net, ("grad_cam",), ("0",)))
    assert reasons_of(found, "learned") == {Undefined.FAILED}
    assert not found.maps
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_run_of_such_a_network_has_a_report(tmp_path, photos):
    net = Particular()
    camreport.run(photos, tmp_path / "out", model=net, image_size=24, evidence="basic")
    manifest = camreport.load_results(tmp_path / "out").manifest
    assert manifest.evidence is not None
    assert "failed" in manifest.evidence.undefined["learned"]


def test_the_greatest_seed_has_scrambled_networks_too():
    seeds = scramble_seeds(2**63 - 1)
    assert len({*seeds}) == 3
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_logits_that_are_not_finite_are_no_obstacle_to_maps():
    found = camreport.explain(NowhereFinite(), torch.rand(2, 3, 12, 12), ["0"], targets=[1])
    assert found.maps["grad_cam"]["0"].isfinite().all()
