"""Layers as a user asks for them: addresses, patterns, duplicates, ``camreport layers``."""

import re
import sys
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.checkout import INPUTS
from helpers.reports import embedded
from helpers.staged import (
    Residual,
    Staged,
    conv,
    head,
    seeded,
)
from torch import Tensor, nn
from torch.testing import assert_close
from torchvision.models import alexnet, resnet18

import camreport
from camreport.cli import commands as cli
from camreport.errors import LayerError
from camreport.models import load_model
from camreport.network.choose import auto_layers, choose_layers, nearest_layers
from camreport.network.survey import sample_image, survey
from camreport.results.reader import load_results

# What a user asks for


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (["layer*"], ["layer1", "layer2", "layer3", "layer4"]),
        (["layer?.0"], [f"layer{number}.0" for number in (1, 2, 3, 4)]),
        (["layer[23].1.bn?"], [f"layer{n}.1.bn{k}" for n in (2, 3) for k in (1, 2)]),
        (["layer4.1.relu*"], ["layer4.1.relu#0", "layer4.1.relu#1"]),
        (["layer4.*:pre"], ["layer4.0:pre", "layer4.1:pre"]),
        (["*"], ["conv1", "bn1", "relu", "maxpool", *(f"layer{n}" for n in (1, 2, 3, 4))]),
        (["layer3", "layer[34]"], ["layer3", "layer4"]),
    ],
)
def test_patterns_lead_to_the_layers_with_a_grid_part_by_part(asked, found):
    assert list(choose_layers(resnet18(), asked, sample_image((64, 64)))) == found


def test_patterns_for_features_leave_the_classifier_out():
    model, image = alexnet(), sample_image((96, 96))
    features = [f"features.{index}" for index in range(13)]
    assert list(choose_layers(model, ["features.*"], image)) == features
    read = choose_layers(model, ["features.*:pre"], image)
    assert list(read) == [f"{name}:pre" for name in features]
    assert [layer.point for layer in read.values()] == features
    assert list(choose_layers(model, ["*.1?"], image)) == features[10:]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (
            "stage*",
            "a pattern that leads to a layer with a spatial grid, got 'stage.'. There are conv1, "
            r"bn1, relu, maxpool, layer1, layer1\.0, …; a \* does not reach over a dot",
        ),
        ("fc*", "a layer with a spatial grid, got 'fc.'"),
        ("*conv9", "a layer with a spatial grid, got '.conv9'"),
    ],
)
def test_a_pattern_without_match_says_which_layers_there_are(pattern, message):
    with pytest.raises(LayerError, match=message):
        choose_layers(resnet18(), [pattern], sample_image((64, 64)))


@pytest.mark.parametrize(
    ("build", "asked", "reads"),
    [
        (alexnet, "features.-1", "features.12"),
        (alexnet, "-1", "features.12"),
        (alexnet, -1, "features.12"),
        (alexnet, "features.-13", "features.1"),  # features.0, read behind its ReLU
        (alexnet, "features.-3:pre", "features.10"),
        (alexnet, 12, "features.12"),
        (alexnet, "0", "features.1"),
        (resnet18, "layer4.-1", "layer4.1"),
        (resnet18, "layer4.-2.conv1", "layer4.0.conv1"),
        (resnet18, "layer1.-1.-1", "layer1.1.bn2"),
        (resnet18, "-3", "layer4"),
        (resnet18, "layer4.-1.relu#1", "layer4.1.relu#1"),
    ],
)
def test_negative_and_bare_numbers_count_children(build, asked, reads):
    (layer,) = choose_layers(build(), [asked], sample_image((64, 64))).values()
    assert layer.point == reads


@pytest.mark.parametrize(
    ("build", "asked"), [(alexnet, "features.-14"), (resnet18, "layer4.-3"), (resnet18, "-11")]
)
def test_a_negative_number_beyond_the_first_child_is_refused(build, asked):
    with pytest.raises(LayerError, match=f"expected a module of .*, got '{asked}'"):
        choose_layers(build(), [asked], sample_image((64, 64)))


def test_maps_stand_under_the_names_they_were_asked_by():
    model, images = alexnet().eval(), sample_image((96, 96))
    asked = ["features.-1", "12", 9, model.features[6], "features.[03]", "features.3:pre"]
    explained = camreport.explain(model, images, asked, "grad_cam")
    names = ["features.0", "features.3:pre", "features.3", "features.6", "features.9"]
    names += ["features.-1", "12"]
    maps = explained.maps["grad_cam"]
    assert list(explained.layers) == names
    assert sorted(maps) == sorted(explained.shapes) == sorted(names)
    assert torch.equal(maps["features.-1"], maps["12"])
    assert explained.layers["features.-1"].address == "features.12"


@pytest.mark.parametrize(
    ("build", "asked", "nearest"),
    [
        (alexnet, "classifier.1", r"avgpool, features\.12, features\.11"),
        (resnet18, "fc", r"layer4\.1\.relu#1, layer4\.1\.bn2, layer4\.1\.conv2"),
    ],
)
def test_a_layer_without_grid_is_refused_with_the_nearest_that_have_one(build, asked, nearest):
    message = rf"expected a spatial output, but '{asked}' gives .*Nearest with a grid: {nearest}\."
    with pytest.raises(LayerError, match=message):
        camreport.explain(build().eval(), sample_image((96, 96)), [asked], "grad_cam")


def test_nearest_layers_are_told_by_the_order_of_running():
    calls = survey(alexnet(), sample_image((96, 96)))
    assert nearest_layers(calls, "features.5")[0] == "features.5"
    assert set(nearest_layers(calls, "features.5")) == {"features.4", "features.5", "features.6"}
    assert nearest_layers(calls, "classifier.6") == ["avgpool", "features.12", "features.11"]


# Two addresses of one tensor


def test_duplicates_are_the_layers_that_read_an_earlier_ones_tensor(catdog, photographs):
    layers = ["avgpool", "features.12", "features.0", "features.1", "features.0:pre", "features.3"]
    explained = camreport.explain(catdog, photographs, layers, "grad_cam,hires_cam")
    assert explained.duplicates == {"features.1": "features.0", "avgpool": "features.12"}
    for maps in explained.maps.values():
        for twin, earlier in explained.duplicates.items():
            assert torch.equal(maps[twin], maps[earlier])
    maps = explained.maps["grad_cam"]
    assert not torch.equal(maps["features.0:pre"], maps["features.0"])


@pytest.mark.parametrize("size", [192, 256])
def test_duplicates_are_none_where_the_pooling_resamples(catdog, photographs, size):
    images = nn.functional.interpolate(photographs[:2], (size, size), mode="bilinear")
    explained = camreport.explain(catdog, images, ["features.12", "avgpool"], "grad_cam")
    assert explained.duplicates == {}
    assert explained.shapes["features.12"] != explained.shapes["avgpool"] == (256, 6, 6)


def test_duplicates_hold_for_every_image_of_a_call():
    class Sometimes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.where(x.amax((1, 2, 3), keepdim=True) < 5, x * 2)

    torch.manual_seed(0)
    net = nn.Sequential(conv(inputs=3), Sometimes(), nn.ReLU(), *head(64))
    images = torch.rand(40, 3, 8, 8)  # more than the first batch takes
    assert camreport.explain(net, images, ["0", "1"], "grad_cam").duplicates == {"1": "0"}
    images[-1] *= 100
    assert camreport.explain(net, images, ["0", "1"], "grad_cam").duplicates == {}


def test_duplicates_share_one_row_of_the_page_and_keep_both_names_in_the_results(tmp_path):
    layers, methods = ["features.9", "features.12", "avgpool"], ("grad_cam", "hires_cam")
    for size in (224, 256):
        out = tmp_path / str(size)
        camreport.run(INPUTS / "both.jpg", out, layers=layers, methods=methods, image_size=size)
        results = load_results(out)
        arrays = results.arrays(0)
        assert {f"{method}/{layer}" for method in methods for layer in layers} <= set(arrays)
        same = {layer.address: layer.same_as for layer in results.manifest.layers}
        alike = [
            np.array_equal(arrays[f"{m}/avgpool"], arrays[f"{m}/features.12"]) for m in methods
        ]
        shown = {layer["address"]: layer["alike"] for layer in embedded(out, "report")["layers"]}
        if size == 224:
            assert same == {"features.9": None, "features.12": None, "avgpool": "features.12"}
            assert all(alike)
            assert shown == {"features.9": [], "features.12": ["avgpool"]}
        else:
            assert set(same.values()) == {None}
            assert not any(alike)
            assert shown == {layer: [] for layer in layers}


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        (["features.-1", "9"], ["features.9", "features.12"]),
        (["features.1[0-2]:pre"], ["features.10:pre", "features.11:pre", "features.12:pre"]),
        (["features.-1", "12", "features.12"], ["features.12"]),
    ],
)
def test_a_report_shows_maps_at_negative_numbers_and_patterns(tmp_path, asked, shown):
    camreport.run(INPUTS / "both.jpg", tmp_path / "out", layers=asked, methods="grad_cam")
    results = load_results(tmp_path / "out")
    assert [layer.address for layer in results.manifest.layers] == shown
    arrays = results.arrays(0)
    assert all(arrays[f"grad_cam/{address}"].any() for address in shown)
    layers = embedded(tmp_path / "out", "report")["layers"]
    assert [layer["address"] for layer in layers] == shown


# camreport layers

Printed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Printed:
    """Run ``camreport layers`` in this process; return exit code, output and errors."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["camreport", "layers", *words])
        capsys.readouterr()
        return cli.cli.exit_code(), *capsys.readouterr()

    return run


def table(text: str) -> list[dict[str, str]]:
    """Return the rows of a printed table by column; columns lie between two blanks all the way."""
    lines = text.split("\n\n")[0].splitlines()
    width = max(map(len, lines))
    lines = [line.ljust(width) for line in lines]
    blank = "".join(" " if all(line[k] == " " for line in lines) else "x" for k in range(width))
    cuts = [0, *(match.end() for match in re.finditer(r" {2,}", blank)), width]
    cells = [[line[a:b].strip() for a, b in pairwise(cuts)] for line in lines]
    # The first column, of the marks, has no head.
    return [dict(zip(cells[0], row, strict=True)) for row in cells[1:]]


def runs_of(module: nn.Module, image: Tensor) -> tuple[list[str], dict[str, tuple[int, ...]]]:
    """Return the modules in the order in which they start, and what they return."""
    order: list[str] = []
    shapes: dict[str, tuple[int, ...]] = {}
    with ExitStack() as hooks, torch.no_grad():
        for name, part in module.named_modules():
            if name:

                def start(_module: nn.Module, _inputs: object, name: str = name) -> None:
                    order.append(name)

                def end(_module: nn.Module, _i: object, out: Tensor, name: str = name) -> None:
                    shapes[name] = tuple(out.shape[1:])

                hooks.callback(part.register_forward_pre_hook(start).remove)
                hooks.callback(part.register_forward_hook(end).remove)
        module(image)
    return order, shapes


@pytest.mark.parametrize(
    ("name", "size"), [("alexnet", (224, 224)), ("vgg11", (64, 64)), ("mobilenet_v2", (64, 96))]
)
def test_layers_prints_what_runs_in_order_with_shapes_strides_and_parameters(printed, name, size):
    height, width = size
    code, out, err = printed(
        *("--model", name, "--weights", "none"),
        *("--image-size", f"{height}x{width}", "--resize", "squash"),
    )
    assert (code, err) == (0, "")
    module = load_model(name, weights="none").module
    image = sample_image(size)
    order, shapes = runs_of(module, image)
    rows = table(out)
    assert list(rows[0]) == [
        *("", "address", "type", "output", "stride", "parameters", "a map reads", "gradient"),
    ]
    assert [row["address"] for row in rows] == order
    parts = dict(module.named_modules())
    for row in rows:
        part, shape = parts[row["address"]], shapes[row["address"]]
        assert row["type"] == type(part).__name__
        assert row["output"] == " x ".join(map(str, shape))
        own = sum(p.numel() for p in part.parameters())
        assert row["parameters"] == (f"{own:,}" if own else "")
        spatial = len(shape) == 3 and shape[1:] != (1, 1)
        assert (row["a map reads"] != "-") == spatial
        strides = [float(stride) for stride in row["stride"].split(" x ") if stride]
        expected = [height / shape[1], width / shape[2]] if spatial else []
        if len(strides) == 1:
            strides *= 2
        assert strides == pytest.approx(expected, rel=0.005)
        assert re.fullmatch(r"(\d|[1-9]\d|100)%", row["gradient"])
    marked = [row["address"] for row in rows if row[""] == "*"]
    assert marked == auto_layers(module, image)
    assert f"for an image of {height} x {width}" in out


def test_layers_says_which_tensor_a_map_reads_and_its_gradient(printed):
    _, out, _ = printed("--model", "alexnet", "--weights", "none", "--image-size", "96")
    rows = {row["address"]: row for row in table(out)}
    assert rows["features.0"]["a map reads"] == "after ReLU (features.1)"
    assert rows["features.1"]["a map reads"] == "own output"
    assert rows["features.0"]["gradient"] == rows["features.1"]["gradient"]
    assert rows["classifier.1"]["a map reads"] == "-"
    module = load_model("alexnet", weights="none").module
    seen: list[Tensor] = []
    hook = module.features[1].register_forward_hook(  # it writes to its input, and nothing to it
        lambda _m, _i, out: seen.append(out)
    )
    logits = module(sample_image((96, 96)))
    hook.remove()
    (gradient,) = torch.autograd.grad(logits.max(), seen)
    share = int((gradient != 0).sum()) / gradient.numel()
    assert rows["features.1"]["gradient"] == f"{share:.0%}"
    assert 0 < share < 1


def test_layers_names_each_call_of_a_module_that_runs_twice(printed):
    _, out, _ = printed("--model", "resnet18", "--weights", "none", "--image-size", "64")
    addresses = [row["address"] for row in table(out)]
    assert addresses[:5] == ["conv1", "bn1", "relu", "maxpool", "layer1"]
    assert "layer4.1.relu" not in addresses
    assert [name for name in addresses if name.startswith("layer4.1.")] == [
        f"layer4.1.{name}" for name in ("conv1", "bn1", "relu#0", "conv2", "bn2", "relu#1")
    ]


def test_layers_prints_a_tree(printed):
    words = ("--model", "resnet18", "--weights", "none", "--image-size", "64")
    flat, tree = table(printed(*words)[1]), printed(*words, "--tree")[1]
    start = tree.splitlines()[0].index("address")
    lines = tree.split("\n\n")[0].splitlines()[1:]
    assert len(lines) == len(flat)
    for line, row in zip(lines, flat, strict=True):
        parents, _, name = row["address"].rpartition(".")
        depth = len(parents.split(".")) if parents else 0
        assert re.match(rf"{'  ' * depth}{re.escape(name)} ", line[start:])
        assert line[0] == (row[""] or " ")


def test_layers_reads_tokens(printed):
    _, out, _ = printed("--model", "swin_t", "--weights", "none", "--image-size", "64")
    rows = {row["address"]: row for row in table(out)}
    assert rows["norm"]["output"] == "2 x 2 x 768"
    assert rows["norm"]["a map reads"] == "own output as 2 x 2"
    assert rows["norm"]["stride"] == "32"
    assert rows["permute"]["a map reads"] == "own output"
    assert [name for name, row in rows.items() if row[""]] == [
        *("features.1", "features.3", "features.5", "norm"),
    ]


def test_layers_reads_a_model_of_ones_own_and_runs_it_once(printed, tmp_path, monkeypatch):
    (tmp_path / "own_net.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(),\n"
        "                         nn.Linear(4 * 16, 2))\n"
    )
    monkeypatch.chdir(tmp_path)
    code, out, _ = printed("--model", "own_net.py:build", "--image-size", "8")
    assert code == 0
    assert [(row[""], row["address"], row["output"]) for row in table(out)] == [
        ("", "0", "4 x 4 x 4"),
        ("*", "1", "4 x 4 x 4"),
        ("", "2", "64"),
        ("", "3", "2"),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "resnet81"), r"error: model: expected .*got 'resnet81'\. Did you mean 'res"),
        (("--model", "nowhere.py:build"), r"error: .*nowhere\.py"),
    ],
)
def test_layers_refuses_an_unknown_model_with_exit_code_2(printed, words, message):
    code, out, err = printed(*words)
    assert (code, out) == (2, "")
    assert re.match(message, err)
    assert "Traceback" not in err


def test_layers_marks_what_explain_takes_for_any_model_of_equal_code():
    model, image = seeded(lambda: Staged(Residual(), Residual(2))), sample_image((8, 8))
    explained = camreport.explain(model, image, methods="grad_cam")
    assert list(explained.layers) == auto_layers(model, image)
    assert_close(explained.logits, model(image).detach())


def test_auto_may_stand_among_addresses() -> None:
    found = choose_layers(resnet18(), ["layer1.0", "auto", "conv1"], sample_image((32, 32)))
    assert list(found) == ["layer1.0", "layer1", "layer2", "layer3", "conv1"]


def test_patterns_pass_over_what_the_logits_do_not_depend_on() -> None:
    class Aside(nn.Module):
        """One block whose result is thrown away, and one that counts."""

        def __init__(self) -> None:
            super().__init__()
            self.block_aside = nn.Conv2d(3, 4, 3)
            self.block_used = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            self.block_aside(x)
            return self.block_used(x).mean((2, 3))

    assert list(choose_layers(Aside(), ["block_*"], sample_image((8, 8)))) == ["block_used"]
