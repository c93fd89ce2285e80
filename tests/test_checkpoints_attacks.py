"""Weights files made to harm: each is refused in one sentence, and torch stays as it was."""

import functools
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import plain
from helpers.hostile_files import (
    ODD,
    Asks,
    refused,
    saved,
    sets,
    with_attribute,
)
from torch import nn
from torch.nn.modules.module import Module

from camreport.errors import ModelError
from camreport.models import load_model
from camreport.models.weights_file import read_weights

# Faults B1 and B2


def test_refused_file_leaves_torchs_layers_as_they_were(tmp_path: Path, mended: None) -> None:
    forward = nn.ReLU.forward
    file = tmp_path / "evil.pth"
    torch.save({"model": plain(), "x": sets(nn.ReLU, forward=nn.Identity())}, file)
    with pytest.raises(ModelError, match=r"^checkpoint: evil\.pth: refused"):
        load_model(checkpoint=file)
    assert nn.ReLU.forward is forward
    assert nn.ReLU()(torch.tensor(-1.0)) == 0


def test_file_never_calls_what_it_names(
    tmp_path: Path, mended: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chain that started a program: a bound method is looked up, and called with options."""
    compiled: list[object] = []
    monkeypatch.setattr(torch, "compile", lambda *_, **options: compiled.append(options))
    vessel = nn.ParameterDict({"a": nn.Parameter(torch.zeros(1))})
    look_up = torch.serialization._get_layout
    bound = Asks(look_up, "compile")
    options = {"options": {"cpp.cxx": ("touch ran",)}}
    call = Asks(functools.partial, bound, state=(bound, (), options, None))
    content = [
        sets(look_up, cache=vessel),
        bound,
        Asks(torch._tensor._rebuild_from_type_v2, call, torch.Tensor, (), None),
    ]
    torch.save(content, tmp_path / "evil.pth")
    with pytest.raises(ModelError, match=r"^checkpoint: evil\.pth: refused.*_get_layout"):
        load_model(checkpoint=tmp_path / "evil.pth")
    assert not compiled
    assert look_up.cache == {}


# Whole models


@pytest.mark.parametrize("way", ODD)
def test_odd_whole_model_is_refused_with_what_is_wrong(way: str) -> None:
    change, message = ODD[way]
    with pytest.raises(ModelError, match=message):
        read_weights(saved(change(plain())))


@pytest.mark.parametrize(
    "change",
    [
        with_attribute("padding", None, 0),
        with_attribute("padding", 3, 0),
        with_attribute("stride", (0, 0), 0),
        with_attribute("stride", ("a", "b"), 0),
        with_attribute("groups", 0, 0),
        with_attribute("dilation", (2**40, 2**40), 0),
        with_attribute("padding_mode", "nonsense", 0),
        with_attribute("eps", "x", 1),
        with_attribute("output_size", (-1, 2**40), 3),
        with_attribute("output_size", "seven", 3),
        with_attribute("start_dim", 2**62, 4),
        with_attribute("_parameters", {}, 5),
    ],
)
def test_model_with_an_attribute_of_a_wrong_kind_ends_in_a_sentence(
    tmp_path: Path, unguessed: None, change: Callable[[nn.Module], nn.Module]
) -> None:
    torch.save(change(plain()), tmp_path / "odd.pth")
    with pytest.raises(ModelError) as raised:
        load_model(checkpoint=tmp_path / "odd.pth", image_size=64)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Upsample(scale_factor=1e6),
        nn.Upsample(size=10**6),
        nn.ZeroPad2d(10**6),
        nn.AdaptiveAvgPool2d(10**5),
        nn.ConvTranspose2d(3, 3, 1, stride=10**4),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_model_that_asks_for_huge_tensors_is_refused_before_it_runs(
    tmp_path: Path, unguessed: None, layer: nn.Module
) -> None:
    torch.save(nn.Sequential(layer, nn.Flatten()), tmp_path / "huge.pth")
    with pytest.raises(ModelError, match=r"huge\.pth: refused: it asks for more memory or time"):
        load_model(checkpoint=tmp_path / "huge.pth")


def test_table_shared_by_very_many_modules_is_refused() -> None:
    """A thousand modules of a thousand parameters each would be made of two thousand entries."""
    one = nn.Identity()
    one.__dict__["_parameters"] = {f"p{number}": None for number in range(2_000)}
    parts = [nn.Identity() for _ in range(1_000)]
    for part in parts:
        part.__dict__["_parameters"] = one.__dict__["_parameters"]
    assert "hold too much" in refused(saved(nn.Sequential(*parts)))


def test_tied_layers_stay_tied() -> None:
    layer = nn.Linear(3, 3)
    tied = nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(3, 3))
    tied[3].weight = layer.weight
    loaded = read_weights(saved(tied))
    assert loaded[0] is loaded[2]
    assert loaded[0].weight is loaded[3].weight


def test_reading_a_file_imports_nothing_and_uses_no_unpickler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = saved(plain())
    assert isinstance(read_weights(data), nn.Sequential)
    monkeypatch.setattr(pickle, "Unpickler", None)
    monkeypatch.setattr(torch, "load", None)
    modules = set(sys.modules)
    assert isinstance(read_weights(data), nn.Sequential)
    assert set(sys.modules) == modules


def test_reading_calls_no_method_that_a_class_has_for_unpickling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of all that a class may do when it is unpickled, only torch's ``__setstate__`` runs."""
    called: list[str] = []
    setstate = Module.__setstate__

    def noted(self: Module, state: dict[str, object]) -> None:
        called.append(type(self).__name__)
        setstate(self, state)

    monkeypatch.setattr(Module, "__setstate__", noted)
    monkeypatch.setattr(nn.ReLU, "__init__", None)
    monkeypatch.setattr(nn.ReLU, "forward", None)
    read_weights(saved(nn.Sequential(nn.Flatten(), nn.Flatten())))
    assert called == ["Flatten", "Flatten", "Sequential"]
