"""Evidence of networks that work on photographs, but not on every changed image or weight."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.evidence_batches import batch_of
from torch import Tensor, nn

import camreport
from camreport import Explainer
from camreport.errors import MemoryLimitError
from camreport.images.preprocessing import Preprocessing
from camreport.metrics.grid import choose_collages
from camreport.metrics.values import Undefined
from camreport.network.blame import raised_by
from camreport.pipeline.evidence.classic import measure_average_drop, measure_road
from camreport.pipeline.evidence.collages import measure_collages
from camreport.pipeline.evidence.gathered import Gathered
from camreport.pipeline.evidence.kinds import kinds_of
from camreport.pipeline.evidence.learned import scramble_seeds
from camreport.pipeline.evidence.orders import measure_orders
from camreport.results.evidence import NumberKey


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


class Choosy(Standardising):
    """Once it is closed, it raises an error on images and weights that it has not seen before."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.known, self.closed, self.error = set[bytes](), False, error

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of known images, whichever batch they are in."""
        shown = {one.detach().numpy().tobytes() for one in (*images, self[0].weight)}
        if not self.closed:
            self.known |= shown
        if not shown <= self.known:
            raise type(self.error)(*self.error.args)
        return super().forward(images)


class Cut(torch.autograd.Function):
    """Passes images on; its backward fails once it is told to."""

    broken = False

    @staticmethod
    def forward(_context, images: Tensor) -> Tensor:
        """Return the images."""
        return images.clone()

    @staticmethod
    def backward(_context, gradient: Tensor) -> Tensor:
        """Return the gradient, or fail."""
        if Cut.broken:
            raise KeyError("no way back")
        return gradient


MEASURED = ("effect", "order", "learned", "stability", "average_drop", "road")
"""Metrics that ask the model again."""


def weights_of(net: nn.Module) -> dict[str, bytes]:
    """Return the bytes of a network's weights."""
    return {name: value.numpy().tobytes() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("error", [ValueError("not this one"), KeyError(), RecursionError()])
@pytest.mark.parametrize("metric", MEASURED)
def test_a_model_that_raises_leaves_those_numbers_undefined_and_all_others_finished(metric, error):
    net, images = Choosy(error), torch.rand(3, 3, 12, 12)
    before = weights_of(net)
    explained = camreport.explain(net, images, ["0"], "grad_cam", targets=[0, 1])
    net.closed = True
    found = camreport.evaluate(net, images, explained, ["extent", metric])
    assert (found.reasons["extent"]["grad_cam"]["0"] == "").all()
    reasons = found.reasons[metric]["grad_cam"]["0"]
    assert {*reasons.ravel().tolist()} == {"failed"}
    assert weights_of(net) == before
    told = [str(note) for note in found.notes if "fails on changed images" in str(note)]
    assert len(told) == 1
    assert type(error).__name__ in told[0]


def test_a_model_that_takes_no_collage_has_no_number_of_it_and_says_so():
    net, images = Choosy(ValueError("not this one")), torch.rand(4, 3, 12, 12).numpy()
    before = weights_of(net)
    explainer = Explainer(net, ["0"], ["grad_cam"], input_shape=(3, 12, 12), batch_size=8)
    assert explainer.plan.num_classes == 3
    net.closed = True
    places = np.arange(4), np.array([0, 1, 0, 1]), np.ones(4), [None] * 4
    collages = choose_collages(*places, 0)
    found = measure_collages(explainer, collages, images.__getitem__, Preprocessing(), 0)
    assert found.failure == "ValueError: not this one"
    assert not found.doubled
    ((name, values),) = found.values.items()
    assert name == "grid/grad_cam/0"
    assert values.reasons.shape == collages.target.shape
    assert (values.reasons == Undefined.FAILED).all()
    assert weights_of(net) == before


def test_only_the_images_on_which_a_model_fails_have_no_number():
    class Sometimes(Standardising):
        def forward(self, images: Tensor) -> Tensor:
            if (images[:, 0, 0, 0] > 5).any() and float(images.sum()) not in known:
                raise ValueError("too bright")
            return super().forward(images)

    net, images = Sometimes(), torch.rand(4, 3, 12, 12)
    images[2, 0, 0, 0] = 6
    known = {float(images.sum()), float(images[2:3].sum())}
    explained = camreport.explain(net, images, ["0"], "grad_cam", targets=[0, 1])
    reasons = camreport.evaluate(net, images, explained, "stability").reasons
    failed = reasons["stability"]["grad_cam"]["0"] == "failed"
    assert failed.tolist() == [[False] * 2, [False] * 2, [True] * 2, [False] * 2]


def test_the_models_own_backward_is_its_own_code():
    class Backwards(Standardising):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(Cut.apply(images))

    net, images = Backwards(), torch.rand(2, 3, 12, 12)
    explained = camreport.explain(net, images, ["0"], "full_grad,grad_cam", targets=[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Cut, "broken", True)
        batch = batch_of(Standardising(), ("grad_cam",), ("0",))
        assert raised_by(net, raised(lambda: net(images.requires_grad_()).sum().backward()))
    assert not raised_by(net, raised(lambda: batch.maps["nothing"]))
    assert explained.maps


def raised(call: Callable[[], object]) -> BaseException:
    """Return the exception that a call raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call()
    return caught.value


def test_what_hooks_of_ours_raise_inside_of_a_model_is_no_fault_of_the_model(monkeypatch):
    net = Standardising()
    batch = batch_of(net, ("grad_cam",), ("0",))
    monkeypatch.setattr("camreport.network.trace.grid_of", lambda *_: 1 / 0)
    gathered = Gathered(batch.targets.shape)
    (kind,) = kinds_of(["stability"])
    with pytest.raises(ZeroDivisionError):
        gathered.measure(kind, np.arange(len(batch.indices)), batch)


@pytest.mark.parametrize("metric", MEASURED)
def test_an_error_of_ours_is_never_hidden(metric, monkeypatch):
    batch = batch_of(Standardising(), ("grad_cam",), ("0",))
    (kind,) = kinds_of([metric])
    broken = replace(kind, measure=lambda batch: batch.maps["nothing"])
    with pytest.raises(KeyError):
        Gathered(batch.targets.shape).measure(broken, np.arange(len(batch.indices)), batch)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError()])
def test_ctrl_c_interrupts_and_memory_that_runs_out_on_one_image_is_told(error):
    net, images = Choosy(error), torch.rand(2, 3, 12, 12)
    explained = camreport.explain(net, images, ["0"], "grad_cam", targets=[0, 1])
    before, net.closed = weights_of(net), True
    with pytest.raises((KeyboardInterrupt, MemoryLimitError, MemoryError)):
        camreport.evaluate(net, images, explained, "stability")
    assert weights_of(net) == before


def test_a_network_that_fails_with_permuted_weights_says_so_and_keeps_its_own():
    net = Particular()
    before = weights_of(net)
    batch = batch_of(net, ("grad_cam",), ("0",))
    gathered = Gathered(batch.targets.shape)
    gathered.measure(*kinds_of(["learned"]), np.arange(len(batch.indices)), batch)
    values = gathered.values(["learned"])
    assert {why for own in values.values() for why in own.reasons.ravel()} == {Undefined.FAILED}
    assert "these are not my weights" in gathered.failures["learned"]
    assert weights_of(net) == before


def test_a_run_of_such_a_network_has_a_report(tmp_path, photos):
    net = Particular()
    camreport.run(photos, tmp_path / "out", model=net, image_size=24, evidence="basic")
    manifest = camreport.load_results(tmp_path / "out").manifest
    assert manifest.evidence is not None
    assert "failed" in manifest.evidence.undefined["learned"]


def test_a_run_of_a_network_that_takes_no_changed_image_has_all_that_needs_none(tmp_path, photos):
    net, told = Choosy(ValueError("not this one")), list[str]()

    def closing(_passes: int) -> Callable[[float], None]:
        net.closed = True
        return lambda passes: None

    options = {"evidence": "full", "methods": "grad_cam", "layers": ["0"], "image_size": 24}
    out = tmp_path / "out"
    camreport.run(photos, out, notify=told.append, measuring=closing, model=net, **options)
    results = camreport.load_results(out)
    assert results.manifest.evidence is not None
    undefined = results.manifest.evidence.undefined
    assert {"effect", "order", "learned", "stability"} <= undefined.keys()
    assert not results.shard_evidence(0).numbers[NumberKey("extent", "grad_cam", "0")].reasons.any()
    assert (out / "index.html").exists()
    fails = [note for note in told if "not this one" in note]
    assert len({*fails}) == len(fails) == 4
    assert fails[0].startswith("Effect: the model fails on changed images")


def test_the_greatest_seed_has_scrambled_networks_too():
    seeds = scramble_seeds(2**63 - 1)
    assert len({*seeds}) == 3
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_logits_that_are_not_finite_are_no_obstacle_to_maps():
    found = camreport.explain(NowhereFinite(), torch.rand(2, 3, 12, 12), ["0"], targets=[1])
    assert found.maps["grad_cam"]["0"].isfinite().all()
