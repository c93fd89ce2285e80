"""Where a peer's metric differs from ours: what it does instead, shown by doing the same here."""

import warnings

import numpy as np
import pytest
import torch
from helpers.peers import peer
from torch import Tensor, nn

from camreport.metrics.ranks import descending_order, spearman
from camreport.metrics.regions import regions
from camreport.metrics.values import Undefined
from camreport.network.scrambled import scrambled

SIDE = 16


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """A seeded net of four classes, with a ReLU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 4),
        ).eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def sparse() -> np.ndarray:
    """A map of which 15 % are positive and the rest 0, as after a ReLU."""
    values = np.random.default_rng(2).random((SIDE, SIDE)).astype(np.float32)
    return np.where(values > 0.85, values, 0)


# ROAD


def test_grad_cam_removes_the_whole_image_where_most_of_a_map_is_0(sparse, images, net):
    road = peer("pytorch_grad_cam.metrics.road")
    removal = road.RemoveMostRelevantFirst(80, lambda image, kept: kept)
    kept = removal(images[0], torch.from_numpy(sparse))
    assert not (sparse < np.percentile(sparse, 80)).any()  # what it does: the percentile is 0
    assert kept.sum() == 0
    # Whatever is removed least relevant first, here a fifth, takes all that is 0 at once.
    rest = road.RemoveLeastRelevantFirst(80, lambda image, kept: kept)
    assert (rest(images[0], torch.from_numpy(sparse)).numpy() == (sparse > 0)).all()
    # Ours takes exactly a fifth, and among equal values draws lots.
    order = descending_order(sparse.ravel()[None], 0)[0]
    removed = np.zeros(sparse.size, bool)
    removed[order[: round(0.2 * sparse.size)]] = True
    assert removed.mean() == pytest.approx(0.2, abs=1 / sparse.size)
    assert removed[sparse.ravel() > 0].all()


def test_the_score_of_grad_cams_road_is_then_that_of_no_image(sparse, images, net):
    road = peer("pytorch_grad_cam.metrics.road")
    filled: list[Tensor] = []
    imputer = road.NoisyLinearImputer(noise=0)

    def impute(image: Tensor, kept: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the system of equations is singular
            filled.append(imputer(image, kept))
        return filled[-1]

    metric = road.PerturbationConfidenceMetric(road.RemoveMostRelevantFirst(80, impute))
    targets = [lambda output: output[0]] * 2
    theirs = metric(images, np.stack([sparse, sparse]), targets, net, return_diff=False)
    # Without a pixel to fill from, the whole of both images becomes the mean colour.
    assert not any(image.any() for image in filled)
    with torch.no_grad():
        np.testing.assert_array_equal(theirs, net(torch.zeros_like(images))[:, 0].numpy())


def test_quantus_road_asks_for_pixels_that_an_image_in_colours_does_not_have(sparse, images, net):
    quantus = peer("quantus")
    metric = quantus.ROAD(percentages=[50], display_progressbar=False, disable_warnings=True)
    arguments = {
        "model": net,
        "y_batch": np.zeros(2, int),
        "a_batch": np.stack([sparse, sparse])[:, None],
        "device": "cpu",
        "channel_first": True,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(IndexError):
            metric(x_batch=images.numpy(), **arguments)
    # What it does: the map is repeated for each colour, and all values are ordered together.
    repeated = np.broadcast_to(sparse, (3, SIDE, SIDE)).ravel()
    first = np.argsort(-repeated)[: SIDE * SIDE // 2]
    assert first.max() >= SIDE * SIDE


# Pointing


def test_quantus_counts_an_empty_map_as_a_hit(images):
    quantus = peer("quantus")
    mask = np.zeros((SIDE, SIDE), bool)
    mask[3:5, 3:5] = True
    maps = np.zeros((2, 1, SIDE, SIDE), np.float32)
    maps[1, 0, 12, 12] = 1  # a batch of nothing but empty maps is refused
    metric = quantus.PointingGame(normalise=False, abs=False, disable_warnings=True)
    theirs = metric(
        model=None,
        x_batch=images.numpy(),
        y_batch=np.zeros(2, int),
        a_batch=maps,
        s_batch=np.stack([mask, mask])[:, None],
        channel_first=True,
    )
    # What it does: of an empty map every pixel is a maximum.
    assert [bool(hit) for hit in theirs] == [
        bool(((one == one.max()) & mask).any()) for one in maps[:, 0]
    ]
    assert [bool(hit) for hit in theirs] == [True, False]
    ours = regions(maps[0, 0], mask)["regions.hit"]
    assert np.isnan(ours.numbers)
    assert ours.reasons == Undefined.NO_POSITIVE


# Infidelity


def test_captums_infidelity_grows_with_the_scale_of_the_map_and_ours_do_not(images, net):
    infidelity = peer("captum.metrics").infidelity
    image = images[:1]
    changes = 0.1 * torch.randn(8, *image.shape[1:], generator=torch.Generator().manual_seed(3))

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        return changes, inputs - changes

    wanted = image.clone().requires_grad_()
    (attribution,) = torch.autograd.grad(net(wanted)[0, 1], wanted)
    with torch.no_grad():
        drops = net(image)[0, 1] - net(image - changes)[:, 1]

    def theirs(scale: float, **options: bool) -> float:
        return float(
            infidelity(
                net, perturb, image, scale * attribution, target=1, n_perturb_samples=8, **options
            )
        )

    for scale in (1, 10, 100):
        sums = scale * (changes * attribution).sum((-3, -2, -1))
        assert theirs(scale) == pytest.approx(float(((sums - drops) ** 2).mean()), rel=1e-4)
        assert theirs(scale, normalize=True) == pytest.approx(theirs(1, normalize=True), rel=1e-3)
    assert theirs(100) > 50 * theirs(10) > 1000 * theirs(1)
    sums = (changes * attribution).sum((-3, -2, -1)).numpy().astype(np.float64)
    ranked = [float(spearman(scale * sums, drops.numpy())) for scale in (1, 128)]
    assert ranked[0] == ranked[1]


# Randomised weights


def randomised_as_xplique(net: nn.Module) -> nn.Module:
    """Draw every weight from U[0, 1), as ``ProgressiveLayerRandomization.randomize`` does.

    Its line, in TensorFlow: ``tf.random.uniform(tf.shape(w), dtype=w.dtype)``.
    """
    generator = torch.Generator().manual_seed(0)
    drawn = {
        name: torch.rand(weight.shape, generator=generator)
        for name, weight in net.state_dict().items()
    }
    copied = nn.Sequential(*net)
    return lambda inputs: torch.func.functional_call(copied, drawn, inputs)  # type: ignore[return-value]


def test_xplique_draws_weights_that_are_never_negative_so_that_nothing_is_told_apart(net, images):
    """Without negative weights no ReLU cuts anything off: one class wins for every image."""
    random = torch.rand(64, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        theirs = randomised_as_xplique(net)(random)
        plain = net(random)
    assert len(theirs.argmax(1).unique()) == 1
    assert theirs.softmax(1).amax() > 0.999
    assert theirs.std(0).max() / theirs.mean() < 0.05
    assert theirs.mean() > 1000 * plain.abs().mean()


def test_our_permutation_keeps_the_values_of_every_tensor(net, images):
    before = {name: weight.clone() for name, weight in net.named_parameters()}
    with scrambled(net, 0):
        for name, weight in net.named_parameters():
            assert torch.equal(weight.flatten().sort().values, before[name].flatten().sort().values)
    for name, weight in net.named_parameters():
        assert torch.equal(weight, before[name])
