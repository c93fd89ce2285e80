"""``--channels``: feature maps and Grad-CAM's weights in the results, against plain PyTorch."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.checkout import INPUTS
from helpers.command import CAT, QUICK, Command
from helpers.inputs import inputs_of
from helpers.runs import (
    BY_TWO,
    PROBED,
    interrupt_after,
    manifest_of,
    run,
    shards_of,
    tiny,
    worded,
)
from numpy.typing import NDArray
from torch import Tensor, nn

import camreport
from camreport.engine.memory import BUDGETS, MEBIBYTE, Budget
from camreport.errors import LayerError
from camreport.models import LoadedModel, load_model
from camreport.pipeline.run_plan import ShardLimits
from camreport.report import export
from camreport.results.reader import load_results

Arrays = dict[str, NDArray[np.float32]]

ADDRESSES = ["features.12", "features.10", "features.8:pre", "features.1"]
READ = dict(zip(ADDRESSES, ["features.12", "features.11", "features.8", "features.1"], strict=True))
"""The module of the bundled model whose output each of them means."""


def plain_pass(
    module: nn.Module, images: Tensor, name: str, score: Callable[[Tensor, int], Tensor], ranks: int
) -> tuple[Tensor, Tensor]:
    """Return a module's output and the spatial means of its gradients, by a hook and autograd.

    Args:
        module: a model.
        images: ``(N, 3, H, W)``.
        name: of the module in it.
        score: from logits and rank to what is explained of each image, ``(N,)``.
        ranks: K.

    Returns:
        The output ``(N, C, h, w)`` and the means ``(N, K, C)``.
    """
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        kept.append(output)
        return output.clone()  # a ReLU in place behind it would change it

    handle = module.get_submodule(name).register_forward_hook(keep)
    logits = module.eval()(images)
    handle.remove()
    gradients = [
        torch.autograd.grad(score(logits, rank).sum(), kept[0], retain_graph=True)[0]
        for rank in range(ranks)
    ]
    means = torch.stack([gradient.mean((2, 3)) for gradient in gradients], 1)
    return kept[0].detach(), means.detach()


def logit_of(targets: Tensor) -> Callable[[Tensor, int], Tensor]:
    """Return the score that is the logit of each image's target, ``(N, K)``."""
    return lambda logits, rank: logits.gather(1, targets[:, rank : rank + 1])[:, 0]


def whole(out: Path) -> Arrays:
    """Return the arrays of all images, shards one behind the other."""
    shards = list(shards_of(out).values())
    return {key: np.concatenate([shard[key] for shard in shards]) for key in shards[0]}


def channels_of(out: Path) -> list[str]:
    """Return the keys of what is there for the channels' sake."""
    return sorted(key for key in whole(out) if key.startswith(("feature_maps/", "channel_w")))


def weighted_sum(arrays: Arrays, address: str) -> NDArray[np.float64]:
    """Return what Grad-CAM is, ``(n, K, h, w)``, in float64 from the arrays of the channels."""
    weights, features = arrays[f"channel_weights/{address}"], arrays[f"feature_maps/{address}"]
    total: NDArray[np.float64] = np.einsum(
        "nkc,nchw->nkhw", weights.astype(np.float64), features.astype(np.float64)
    )
    return total


def assert_near(actual: NDArray[np.floating], expected: NDArray[np.floating]) -> None:
    """Compare to 1e-5 of the largest value."""
    assert actual.shape == expected.shape
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.fixture(scope="module")
def shipped(catdog: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on the demo photographs, maps at one layer and the channels of four."""
    out = tmp_path_factory.mktemp("channels") / "out"
    methods = ["grad_cam", "layer_cam"]
    given = {"layers": ["12"], "channels": ADDRESSES, "methods": methods, "contributions": "off"}
    camreport.run(INPUTS, out, model=catdog, **given)
    return out


# What the arrays hold


@pytest.mark.parametrize("address", ADDRESSES)
def test_channels_are_those_of_a_plain_pass(
    address: str, shipped: Path, catdog: LoadedModel, photographs: Tensor
) -> None:
    arrays = whole(shipped)
    score = logit_of(torch.from_numpy(arrays["targets"]))
    features, weights = plain_pass(catdog.module, photographs, READ[address], score, 2)
    np.testing.assert_array_equal(arrays[f"feature_maps/{address}"], features.numpy())
    assert_near(arrays[f"channel_weights/{address}"], weights.numpy())
    for kind in ("feature_maps", "channel_weights"):
        assert arrays[f"{kind}/{address}"].dtype == np.float32
    if address.endswith(":pre"):
        assert arrays[f"feature_maps/{address}"].min() < 0


def test_weighted_channels_add_up_to_grad_cam(
    shipped: Path, catdog: LoadedModel, tmp_path: Path
) -> None:
    arrays = whole(shipped)
    assert_near(weighted_sum(arrays, "features.12"), arrays["grad_cam/features.12"])
    camreport.run(INPUTS, tmp_path / "out", model=catdog, layers=ADDRESSES, methods="grad_cam")
    for address, maps in ((a, whole(tmp_path / "out")[f"grad_cam/{a}"]) for a in ADDRESSES):
        assert_near(weighted_sum(arrays, address), maps)


@pytest.mark.parametrize("quantity", ["logit", "probability", "contrast", "contrast:1"])
def test_weights_are_of_what_is_explained(quantity: str, photos: Path, tmp_path: Path) -> None:
    model, out = tiny(classes=5), tmp_path / "out"
    run(photos, out, model, channels=["0"], classes="top3", quantity=quantity)
    arrays = whole(out)
    inputs = inputs_of(model.preprocessing, sorted(photos.iterdir()))
    with torch.no_grad():
        targets = model.module(inputs).topk(3).indices
    assert arrays["targets"].tolist() == targets.tolist()

    def score(logits: Tensor, rank: int) -> Tensor:
        own = logit_of(targets)(logits, rank)
        if quantity == "probability":
            return (own - logits.logsumexp(1)).exp()
        strongest = logits.scatter(1, targets[:, rank : rank + 1], float("-inf")).max(1).values
        if quantity == "contrast:1":  # class 1 itself leads over the strongest other
            return own - torch.where(targets[:, rank] == 1, strongest, logits[:, 1])
        return own - strongest if quantity == "contrast" else own

    features, weights = plain_pass(model.module, inputs, "features.1", score, 3)
    np.testing.assert_allclose(arrays["feature_maps/features.0"], features, rtol=1e-6, atol=1e-6)
    assert_near(arrays["channel_weights/features.0"], weights.numpy())
    assert_near(weighted_sum(arrays, "features.0"), arrays["grad_cam/features.0"])


def test_channels_of_a_channels_last_net_come_first(photos: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = load_model("swin_t", weights="none", image_size=64)
    for parameter in model.module.parameters():
        nn.init.normal_(parameter, std=0.1)
    file, out = sorted(photos.iterdir())[0], tmp_path / "out"
    given = {"layers": ["features.5"], "methods": "grad_cam", "classes": "0,7"}
    camreport.run(file, out, model=model, channels=["features.1", "features.5"], **given)
    arrays = whole(out)
    assert arrays["feature_maps/features.1"].shape == (1, 96, 16, 16)
    assert arrays["feature_maps/features.5"].shape == (1, 384, 4, 4)
    assert arrays["channel_weights/features.5"].shape == (1, 2, 384)
    assert_near(weighted_sum(arrays, "features.5"), arrays["grad_cam/features.5"])
    kept: list[Tensor] = []
    handle = model.module.features[1].register_forward_hook(lambda *given: kept.append(given[2]))
    logits = model.module.eval()(inputs_of(model.preprocessing, [file]))
    handle.remove()
    for rank, target in enumerate((0, 7)):
        (gradient,) = torch.autograd.grad(logits[0, target], kept[0], retain_graph=True)
        means = gradient.mean((1, 2)).numpy()
        assert_near(arrays["channel_weights/features.1"][:, rank], means)
    features = kept[0].detach().permute(0, 3, 1, 2).numpy()
    assert_near(arrays["feature_maps/features.1"], features)
    entries = manifest_of(out)["channels"]
    assert [worded(entry["tensor"]) for entry in entries] == ["own output, channels last"] * 2


# What they cost


def count_backwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of classes of every backward pass from here on."""
    counted: list[int] = []
    differentiate = torch.autograd.grad

    def grad(
        outputs: Tensor, inputs: object, cotangents: Tensor | None = None, **options: object
    ) -> tuple[Tensor, ...]:
        batched = cotangents is not None and cotangents.ndim > outputs.ndim
        counted.append(len(cotangents) if batched else 1)
        return differentiate(outputs, inputs, cotangents, **options)

    monkeypatch.setattr(torch.autograd, "grad", grad)
    return counted


@pytest.mark.parametrize("channels", [None, ["0"], ["0:pre", "1", "2:pre"]])
def test_channels_take_no_pass_of_their_own(
    channels: list[str] | None, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, counted = tiny(classes=3), count_backwards(monkeypatch)
    summary = run(photos, tmp_path / "out", model, layers=["2"], channels=channels)
    assert model.module.batches == [PROBED, 7]
    assert sum(counted) == 3 + 3, "of the image to plan from, and of all"
    assert (summary.cost.forwards, summary.cost.backwards) == (1, 3)
    assert summary.cost.maps == 7 * 3 * 3


@pytest.mark.parametrize(("channels", "backwards"), [(None, 0), (["2"], 2)])
def test_channels_take_the_backward_passes_that_no_method_takes(
    channels: list[str] | None,
    backwards: int,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted = count_backwards(monkeypatch)
    summary = run(photos, tmp_path / "out", methods="eigen_cam", channels=channels)
    assert sum(counted) == 2 * backwards, "of the image to plan from, and of all"
    assert summary.cost.backwards == backwards


@pytest.mark.parametrize("methods", ["grad_cam", "smooth_grad_cam_plus_plus,finer_cam,score_cam"])
def test_channels_are_of_the_plain_images_whatever_else_is_computed(
    methods: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(photos, tmp_path / "plain", channels=["0"], batch_size=7)
    sums = 7 * 2 * 120 * 12  # bytes that derivatives under noise take at layer 2, for all images
    monkeypatch.setitem(BUDGETS, "cpu", replace(BUDGETS["cpu"], activations=sums))
    given = {"layers": ["2"], "methods": methods, "smooth": "noise,aug,eigen", "batch_size": 7}
    without = run(photos, tmp_path / "without", **given)
    summary = run(photos, tmp_path / "with", channels=["0"], **given)
    plain, arrays = whole(tmp_path / "plain"), whole(tmp_path / "with")
    for key in channels_of(tmp_path / "plain"):
        np.testing.assert_allclose(arrays[key], plain[key], rtol=1e-5, atol=1e-7)
    further = {"backwards": 2, "forwards": 0, "variants": 0, "maps": 0}
    for kind, more in further.items():
        assert getattr(summary.cost, kind) == getattr(without.cost, kind) + more


def test_channels_leave_the_maps_as_they_are(photos: Path, tmp_path: Path) -> None:
    given = {"methods": "all", "batch_size": 7}
    run(photos, tmp_path / "without", **given)
    run(photos, tmp_path / "with", channels=["0", "1", "2:pre"], **given)
    plain, arrays = whole(tmp_path / "without"), whole(tmp_path / "with")
    assert arrays.keys() - plain.keys() == set(channels_of(tmp_path / "with"))
    assert len(channels_of(tmp_path / "with")) == 6
    assert channels_of(tmp_path / "without") == []
    for key, array in plain.items():
        np.testing.assert_allclose(arrays[key], array, rtol=1e-5, atol=1e-6, err_msg=key)


# Budgets, shards, interruptions


def test_channels_do_not_depend_on_how_passes_are_cut(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"channels": ["0", "2:pre"], "classes": "all"}
    run(photos, tmp_path / "whole", tiny(classes=4), **given)
    expected = whole(tmp_path / "whole")
    small = tiny(classes=4)
    small.module.most = 2  # memory holds two images: batches are halved and joined
    run(photos, tmp_path / "halved", small, **given)
    assert max(small.module.batches[PROBED + 2 :]) <= 4
    monkeypatch.setitem(BUDGETS, "cpu", Budget(256 * MEBIBYTE, 1, 32, 1))
    counted = count_backwards(monkeypatch)
    run(photos, tmp_path / "looped", tiny(classes=4), **given)
    assert counted == 2 * [1, 1, 1, 1], "a class at a time, of the image to plan from and of all"
    for name in ("halved", "looped"):
        arrays = whole(tmp_path / name)
        assert arrays.keys() == expected.keys()
        for key, array in expected.items():
            np.testing.assert_allclose(arrays[key], array, rtol=1e-5, atol=1e-6, err_msg=key)


def test_gradients_of_channels_count_against_their_budget(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, early = 7 * 6 * 4 * 5 * 4, 7 * 4 * 8 * 10 * 4  # bytes of one class's gradients
    monkeypatch.setitem(BUDGETS, "cpu", Budget(256 * MEBIBYTE, 2 * late + early, 32, MEBIBYTE))
    counted = count_backwards(monkeypatch)
    run(photos, tmp_path / "without", tiny(classes=3), layers=["2"])
    assert counted == [3, 3], "of the image to plan from, and of all"
    run(photos, tmp_path / "with", tiny(classes=3), layers=["2"], channels=["0"])
    assert counted[2:] == [3, 1, 1, 1]


def test_channels_count_as_bytes_of_a_shard(photos: Path, tmp_path: Path) -> None:
    limits = ShardLimits(shard_bytes=4000)
    given = {"layers": ["2"], "methods": "grad_cam", "limits": limits}  # 352 bytes of an image
    run(photos, tmp_path / "without", **given)
    assert len(shards_of(tmp_path / "without")) == 1
    run(photos, tmp_path / "with", channels=["0"], **given)  # and 1,312
    assert len(shards_of(tmp_path / "with")) == 4


def test_equal_channels_are_kept_and_other_channels_computed(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def again(**options: object) -> tuple[int, int]:
        model = tiny()
        summary = run(photos, out, model, **options)
        return summary.reused, sum(model.module.batches)

    assert again(channels=["0"]) == (0, PROBED + 7)
    assert again(channels=["0"]) == (7, 0)
    assert again(channels=["features.0"]) == (7, 0), "another spelling"
    assert again(channels=["0", "2"]) == (0, PROBED + 7)
    assert len(channels_of(out)) == 4
    assert again() == (0, PROBED + 7)
    assert channels_of(out) == []


def test_interrupted_run_with_channels_goes_on(photos: Path, tmp_path: Path) -> None:
    given = {"channels": ["2", "0:pre"], "batch_size": 1, "limits": BY_TWO}
    run(photos, tmp_path / "whole", **given)
    with pytest.raises(KeyboardInterrupt):
        run(photos, tmp_path / "cut", progress=interrupt_after(5), **given)
    model = tiny()
    assert run(photos, tmp_path / "cut", model, **given).reused == 4
    assert len(model.module.batches) == 3
    assert manifest_of(tmp_path / "cut")["channels"] == manifest_of(tmp_path / "whole")["channels"]
    expected, arrays = whole(tmp_path / "whole"), whole(tmp_path / "cut")
    assert arrays.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(arrays[key], array)


# The manifest and what reads it


def test_manifest_lists_channels_in_network_order_and_apart_from_layers(shipped: Path) -> None:
    manifest = manifest_of(shipped)
    assert [entry | {"tensor": worded(entry["tensor"])} for entry in manifest["channels"]] == [
        {"address": address, "type": kind, "tensor": tensor, "shape": shape}
        for address, kind, tensor, shape in (
            ("features.1", "ReLU", "own output", [64, 55, 55]),
            ("features.8:pre", "Conv2d", "own output", [256, 13, 13]),
            ("features.10", "Conv2d", "after ReLU", [256, 13, 13]),
            ("features.12", "MaxPool2d", "own output", [256, 6, 6]),
        )
    ]
    assert [layer["address"] for layer in manifest["layers"]] == ["features.12"]
    maps = {key for key in whole(shipped) if "/" in key} - set(channels_of(shipped))
    assert maps == {"grad_cam/features.12", "layer_cam/features.12"}
    arrays = load_results(shipped).arrays(1)
    for entry in manifest["channels"]:
        assert list(arrays[f"feature_maps/{entry['address']}"].shape) == entry["shape"]
        assert arrays[f"channel_weights/{entry['address']}"].shape == (2, entry["shape"][0])


def test_manifest_has_no_channels_unless_they_are_asked_for(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    assert manifest_of(tmp_path / "out")["channels"] == []
    assert "--channels" not in manifest_of(tmp_path / "out")["command"]
    assert channels_of(tmp_path / "out") == []
    images = torch.zeros(1, 3, 32, 40)
    assert camreport.explain(tiny().module, images, layers=["features.0"]).channels == {}


def test_figures_and_table_are_those_of_a_run_without_channels_but_for_their_grids(
    photos: Path, tmp_path: Path
) -> None:
    made = []
    for name, channels in (("without", None), ("with", ["0", "1"])):
        out = tmp_path / name
        methods = "grad_cam,eigen_cam"
        run(photos, out, layers=["2"], channels=channels, methods=methods, batch_size=7)
        figures = {path.name: path.read_bytes() for path in export.export_figures(out)}
        made.append((figures, export.export_table(out).read_bytes()))
    grids = {name for name in made[1][0] if "_channels_" in name}
    assert len(grids) == 7 * 2
    assert made[0][0] == {name: made[1][0][name] for name in made[1][0].keys() - grids}
    assert made[0][1] == made[1][1]
    own = [name for name in made[0][0] if not name.startswith("model_")]
    assert len(own) == 7 * (2 + 1 + 1), "a map per class, one for all, a sheet"


# The command line, and what is refused


def test_command_ships_channels_and_records_how(command: Command) -> None:
    words = ["run", CAT, "-o", "out", *QUICK, "--channels", "features.1?:pre, 8,features.-1"]
    finished = command(*words)
    assert (finished.code, finished.err) == (0, "")
    manifest = manifest_of(Path("out"))
    addresses = [entry["address"] for entry in manifest["channels"]]
    expected = ["features.8", *(f"features.{i}:pre" for i in (10, 11, 12)), "features.12"]
    assert sorted(addresses) == sorted(expected)
    assert "1 forward, 2 backwards, 2 maps" in finished.out
    recorded = manifest["command"].replace("cat.jpg", CAT).replace("-o out", "-o again")
    assert "--channels 'features.1?:pre,8,features.-1'" in recorded
    assert command(*shlex.split(recorded)[1:]).code == 0
    assert manifest_of(Path("again"))["channels"] == manifest["channels"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("featrues.12", "Did you mean 'features.12'?"),
        ("12,13", "'features.13'"),
        ("features.12:post", "'name:pre'"),
        ("classifier.*", "expected a pattern that leads to a layer with a spatial grid"),
        ("classifier.1", "expected a spatial output, but 'classifier.1' gives"),
        (",", "expected at least one address"),
    ],
)
def test_command_refuses_channels_as_it_refuses_layers(
    asked: str, said: str, command: Command
) -> None:
    finished = command("run", CAT, "-o", "out", *QUICK, "--channels", asked)
    assert (finished.code, finished.out) == (2, "")
    assert said in finished.err
    assert not Path("out").exists()
    own = command("run", CAT, "-o", "out", "--methods", "grad_cam", "--layers", asked)
    assert own.err == finished.err.replace("error: channels:", "error: layers:")


class Beside(nn.Module):
    """A net with a branch that leads nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.way = nn.Conv2d(3, 4, 3)
        self.beside = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits that do not depend on the branch."""
        self.beside(x)
        return self.head(self.way(x).mean((2, 3)))


def test_channels_that_the_logits_do_not_depend_on_are_refused(
    photos: Path, tmp_path: Path
) -> None:
    model = replace(tiny(), module=Beside().eval())
    with pytest.raises(LayerError, match="none reaches 'beside'"):
        run(photos, tmp_path / "out", model, layers=["way"], channels=["beside"])
    assert not (tmp_path / "out").exists()
