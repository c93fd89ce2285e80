"""Weights files made to harm: each is refused in one sentence, and torch stays as it was."""

import functools
import io
import os
import pickle
import struct
import sys
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.checkpoints import assert_same_model, filled, plain
from helpers.fuzz_checkpoints import fuzz, seeds, torch_attributes
from torch import Tensor, nn
from torch.nn.modules.module import Module
from torchvision import models

from camreport.errors import ModelError
from camreport.models import checkpoint, load_model, pickled, weights_file
from camreport.models.weights_file import read_file, read_weights


class Asks:
    """Is pickled as a call of a function."""

    def __init__(self, function: object, *args: object, state: object = None) -> None:
        self.asked = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> tuple[object, ...]:
        return self.asked


def sets(target: object, **attributes: object) -> Asks:
    """Ask for attributes to be set on anything, in the words that torch's own list allows."""
    identity = nn.Identity()
    vehicle = nn.Identity()
    vehicle.as_subclass = nn.Identity()
    return Asks(torch._tensor._rebuild_from_type_v2, identity, target, (vehicle,), attributes)


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def refused(data: bytes) -> str:
    """Return what is said of a file's bytes."""
    with pytest.raises(ModelError) as raised:
        read_weights(data)
    return str(raised.value)


# Faults B1 and B2


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what the attacks below did where they succeed."""
    monkeypatch.setattr(nn.ReLU, "forward", nn.ReLU.forward)
    monkeypatch.setattr(torch.serialization._get_layout, "cache", {})


def test_refused_file_leaves_torchs_layers_as_they_were(tmp_path: Path, kept: None) -> None:
    forward = nn.ReLU.forward
    file = tmp_path / "evil.pth"
    torch.save({"model": plain(), "x": sets(nn.ReLU, forward=nn.Identity())}, file)
    with pytest.raises(ModelError, match=r"^checkpoint: evil\.pth: refused"):
        load_model(checkpoint=file)
    assert nn.ReLU.forward is forward
    assert nn.ReLU()(torch.tensor(-1.0)) == 0


def test_file_never_calls_what_it_names(
    tmp_path: Path, kept: None, monkeypatch: pytest.MonkeyPatch
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


@pytest.fixture
def unguessed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the tests of what is no known architecture the building of 22 of them."""

    def guess(*_: object) -> None:
        raise ModelError("unknown")

    monkeypatch.setattr(checkpoint, "guess_architecture", guess)


def with_hook(module: nn.Module) -> nn.Module:
    module[2].register_forward_hook(nn.Identity())
    return module


def with_attribute(name: str, value: object, place: int = 2) -> Callable[[nn.Module], nn.Module]:
    def change(module: nn.Module) -> nn.Module:
        module[place].__dict__[name] = value
        return module

    return change


def with_child(name: str) -> Callable[[nn.Module], nn.Module]:
    def change(module: nn.Module) -> nn.Module:
        module._modules[name] = nn.Identity()
        return module

    return change


def in_itself(module: nn.Module) -> nn.Module:
    module[2]._modules["again"] = module
    return module


def doubling(module: nn.Module) -> nn.Module:
    for _ in range(40):
        module = nn.Sequential(module, module)
    return module


def tall(module: nn.Module) -> nn.Module:
    for _ in range(100):
        module = nn.Sequential(module)
    return module


def endless_list() -> list[object]:
    items: list[object] = []
    items.append(items)
    return items


ODD: dict[str, tuple[Callable[[nn.Module], nn.Module], str]] = {
    "a hook": (with_hook, r"ReLU in it has hooks \(_forward_hooks\)"),
    "forward": (with_attribute("forward", nn.Identity()), "'forward' of its own"),
    "forward, plain": (with_attribute("forward", 3), "'forward' of its own"),
    "__class__": (with_attribute("__class__", nn.Identity()), "'__class__' of its own"),
    "a setting of torch's": (with_attribute("call_super_init", True), "'call_super_init' of its"),
    "a module": (with_attribute("inplace", nn.ReLU()), "'inplace' of a ReLU"),
    "a class": (with_attribute("inplace", nn.ReLU), "'inplace' of a ReLU"),
    "a tensor": (with_attribute("inplace", torch.zeros(3)), "'inplace' of a ReLU"),
    "a partial": (
        with_attribute("inplace", functools.partial(nn.Linear, 3)),
        "'inplace' of a ReLU in it is a functools.partial",
    ),
    "a partial of a norm": (
        with_attribute("inplace", functools.partial(nn.LayerNorm, 8, eps=1.0)),
        "'inplace' of a ReLU in it is a functools.partial",
    ),
    "a list of itself": (with_attribute("inplace", endless_list()), "contains too much"),
    "training": (with_attribute("training", "yes"), "'training' of its own"),
    "a hook's table": (with_attribute("_forward_hooks", torch.zeros(3)), "ReLU in it has hooks"),
    "copying": (with_attribute("__deepcopy__", 3), "'__deepcopy__' of its own"),
    "no name": (with_attribute("in place", 3), "an attribute without a name"),
    "parameters": (with_attribute("_parameters", {"a": 3}), "'_parameters' of a ReLU"),
    "buffers": (with_attribute("_buffers", {"a": "b"}), "'_buffers' of a ReLU"),
    "children": (with_attribute("_modules", {"a": 3}), "'a' of a ReLU"),
    "no table": (with_attribute("_modules", 3), "'_modules' of a ReLU"),
    "a hidden weight": (with_attribute("weight", 3, 0), "two things of one name"),
    "a child's name": (with_child("forward"), "calls a part 'forward'"),
    "a child's dot": (with_child("a.b"), r"calls a part 'a\.b'"),
    "in itself": (in_itself, "contains itself"),
    "doubling": (doubling, "too many modules"),
    "tall": (tall, "contains itself, or too many others"),
}


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


def test_table_that_stands_in_very_many_modules_is_refused() -> None:
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


# Sizes


def archive_of(pickled: bytes, **members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        for name, data in members.items():
            archive.writestr(f"a/data/{name.removeprefix('_')}", data)
    return buffer.getvalue()


def tensor_of(sizes: str, strides: str, count: int = 4, offset: int = 0) -> bytes:
    """Return a pickle of one tensor of floats, in protocol 0 but for its storage's reference."""
    storage = f"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI{count}\ntQ"
    return (
        f"ctorch._utils\n_rebuild_tensor_v2\n({storage}I{offset}\n({sizes}t({strides}tI00\n(dtR."
    ).encode()


def test_tensor_in_a_hand_written_pickle_is_read() -> None:
    data = archive_of(tensor_of("I2\nI2\n", "I2\nI1\n"), _0=struct.pack("<4f", 1, 2, 3, 4))
    assert torch.equal(read_weights(data), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))


@pytest.mark.parametrize(
    ("sizes", "strides", "count", "offset"),
    [
        ("I2\nI2\n", "I2\nI2\n", 4, 0),
        ("I2\nI2\n", "I2\nI1\n", 4, 1),
        ("I2\nI2\n", "I2\nI1\n", 5, 0),
        ("I2\nI2\n", "I2\nI1\n", -4, 0),
        ("I2\nI2\n", "I2\nI1\n", 4, -1),
        ("I-2\nI2\n", "I2\nI1\n", 4, 0),
        ("I2\nI2\n", "I-2\nI1\n", 4, 0),
        ("I2\nI2\n", "I2\n", 4, 0),
        ("I4611686018427387904\nI4\n", "I0\nI0\n", 4, 0),
        ("I0\nI9223372036854775807\n", "I1\nI1\n", 4, 0),
        ("I1\n" * 100, "I1\n" * 100, 4, 0),
        ("F0.5\n", "I1\n", 4, 0),
    ],
)
def test_tensor_outside_its_storage_is_refused(
    sizes: str, strides: str, count: int, offset: int
) -> None:
    data = archive_of(tensor_of(sizes, strides, count, offset), _0=bytes(16))
    assert "damaged" in refused(data)


def test_tensor_far_larger_than_what_is_stored_of_it_is_refused() -> None:
    data = archive_of(tensor_of("I1000000\nI1000000\n", "I0\nI0\n"), _0=bytes(16))
    assert "far larger than what is stored" in refused(data)


PICKLES: dict[str, bytes] = {
    "text of gigabytes": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "bytes of exabytes": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "a long number": b"\x80\x02\x8b\x00\x10\x00\x00" + b"\x01" * 4096 + b".",
    "digits": b"I" + b"9" * 5000 + b"\n.",
    "deep keys": b"\x80\x02})" + b"\x85" * 200_000 + b"Ns.",
    "marks": b"\x80\x02" + b"(" * 200_000 + b".",
    "sets of one list": b"\x80\x02]("
    + b"K\x00" * 9_000
    + b"eq\x00"
    + b"c__builtin__\nset\nh\x00\x85R" * 5_000
    + b".",
    "colliding keys": b"\x80\x02}("
    + b"".join(b"\x8a\x0a" + (n * (2**61 - 1)).to_bytes(10, "little") + b"N" for n in range(40_000))
    + b"u.",
    "nothing": b"\x80\x02.",
    "an unknown operation": b"\x80\x02\xff.",
    "a call of text": b"\x80\x02X\x01\x00\x00\x00a)R.",
    "a call of nothing": b"\x80\x02R.",
    "a state for a number": b"\x80\x02K\x01}b.",
    "an instance": b"(ios\nsystem\n.",
    "an extension": b"\x80\x02\x82\x01.",
    "no end": b"\x80\x02}",
    "other bytes": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00rot\x86R.",
}


@pytest.mark.parametrize("way", PICKLES)
def test_pickle_that_asks_for_too_much_is_refused(way: str) -> None:
    said = refused(archive_of(PICKLES[way]))
    assert said.isprintable()
    assert len(said) < 1000


def test_pickle_of_very_many_operations_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickled, "MAX_OPERATIONS", 1_000)
    assert "more than 1,000 operations" in refused(archive_of(b"\x80\x02" + b"N0" * 501 + b"N."))


def test_large_places_and_deep_values_cost_nothing_where_they_are_harmless() -> None:
    assert read_weights(archive_of(b"\x80\x02}r\xff\xff\xff\x7f.")) == {}
    assert isinstance(read_weights(archive_of(b"\x80\x02)" + b"\x85" * 200_000 + b".")), tuple)


def test_dictionary_that_contains_itself_ends_in_a_sentence(tmp_path: Path) -> None:
    content: dict[str, object] = {}
    content["model"] = content
    torch.save(content, tmp_path / "self.pth")
    for model in ("alexnet", "catdog-alexnet"):
        with pytest.raises(ModelError, match=r"self\.pth: expected a state dict"):
            load_model(model, checkpoint=tmp_path / "self.pth")


def test_archive_that_was_compressed_or_overlaps_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + bytes(10_000_000))
    assert "compressed" in refused(buffer.getvalue())


def test_archive_of_very_many_members_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("camreport.models.archives.MAX_MEMBERS", 100)
    data = archive_of(b"\x80\x02}.", **{f"_{number}": b"" for number in range(200)})
    assert "more than 100 members" in refused(data)


@pytest.mark.parametrize("name", ["resnet18", "regnet_y_400mf", "timm:test_resnet", "alexnet"])
def test_vector_of_millions_in_the_last_layers_place_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built first and compared then, such a last layer would take gigabytes."""
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    last = {"alexnet": "classifier.6"}.get(name, "fc")
    torch.save({f"{last}.weight": torch.zeros(3_000_000, 1)}, tmp_path / "w.pth")
    widths: list[int] = []
    init = nn.Linear.__init__

    def noted(
        self: nn.Linear, in_features: int, out_features: int, *rest: Any, **more: Any
    ) -> None:
        init(self, in_features, out_features, *rest, **more)
        widths.append(0 if self.weight.is_meta else out_features)

    monkeypatch.setattr(nn.Linear, "__init__", noted)
    with pytest.raises(ModelError, match=r"w\.pth: expected the weights of .*missing"):
        load_model(name, checkpoint=tmp_path / "w.pth")
    assert widths
    assert max(widths) < 100_000


def test_prefixes_without_end_are_not_all_taken_off(tmp_path: Path, unguessed: None) -> None:
    torch.save({"module." * 10_000 + "weight": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"^checkpoint: w\.pth") as raised:
        load_model("alexnet", checkpoint=tmp_path / "w.pth")
    assert len(str(raised.value)) < 3_000


# Tensors that are no weights


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64, torch.bool])
def test_weights_of_another_kind_of_number_are_read_or_refused(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    state = filled(lambda: models.squeezenet1_1(num_classes=3)).state_dict()
    torch.save({key: tensor.to(dtype) for key, tensor in state.items()}, tmp_path / "w.pth")
    if dtype.is_complex:
        with pytest.raises(ModelError, match=r"w\.pth: expected tensors of numbers.*complex64"):
            load_model("squeezenet1_1", checkpoint=tmp_path / "w.pth")
        return
    loaded = load_model("squeezenet1_1", checkpoint=tmp_path / "w.pth")
    weight = loaded.module.features[0].weight
    assert torch.equal(weight, state["features.0.weight"].to(dtype).float())


def safetensors_of(kind: str, shape: list[int], count: int) -> bytes:
    header = f'{{"w":{{"dtype":"{kind}","shape":{shape},"data_offsets":[0,{count}]}}}}'.encode()
    return len(header).to_bytes(8, "little") + header + bytes(count)


@pytest.mark.parametrize("kind", ["F4", "F6_E2M3", "F8_E8M0", "X9"])
def test_safetensors_of_values_that_torch_lacks_end_in_a_sentence(
    tmp_path: Path, kind: str
) -> None:
    count = {"F4": 4, "F6_E2M3": 6}.get(kind, 8)
    (tmp_path / "w.safetensors").write_bytes(safetensors_of(kind, [8], count))
    with pytest.raises(ModelError, match=r"^checkpoint: w\.safetensors: "):
        load_model("alexnet", checkpoint=tmp_path / "w.safetensors")


def test_safetensors_with_a_header_beyond_any_models_is_refused() -> None:
    data = (50_000_000).to_bytes(8, "little") + b"{" + bytes(100)
    assert "header of more than" in refused(data)


def test_names_from_a_file_stay_in_one_line(tmp_path: Path, unguessed: None) -> None:
    torch.save({"a\n\x1b[31mb" * 1000: torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"^checkpoint: w\.pth") as raised:
        load_model("alexnet", checkpoint=tmp_path / "w.pth")
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 3_000


# What is no file


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_pipe_device_and_folder_are_no_checkpoints(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    for path in (tmp_path / "pipe.pth", Path("/dev/zero"), tmp_path):
        with pytest.raises(ModelError, match="cannot be read"):
            load_model("alexnet", checkpoint=path)


def test_file_beyond_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large.pth").write_bytes(bytes(100))
    monkeypatch.setattr(weights_file, "MAX_FILE_BYTES", 99)
    with pytest.raises(ModelError, match=r"large\.pth cannot be read: expected at most"):
        read_file(tmp_path / "large.pth")


# Real files


@pytest.mark.parametrize("protocol", [2, 4])
def test_odd_but_harmless_contents_are_read_as_they_are(protocol: int) -> None:
    content = {
        "state_dict": OrderedDict(w=torch.arange(3.0)),
        "set": {1, 2},
        "frozen": frozenset({"a"}),
        "bytes": b"\x00\xff",
        "complex": 1 + 2j,
        "dtype": torch.float16,
        "tuple": (1, (2.5, None), [True, "x"]),
        "classes": {0: "cat", 1: "dog"},
        "slice": torch.arange(10)[3:6],
        "turned": torch.arange(6).reshape(2, 3).T,
        "none": torch.zeros(0, 3),
        "unsigned": torch.tensor([1, 65535], dtype=torch.uint16),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer, pickle_protocol=protocol)
    read = read_weights(buffer.getvalue())
    for key in ("slice", "turned", "none", "unsigned"):
        assert torch.equal(read.pop(key), content.pop(key))
    assert torch.equal(read.pop("state_dict")["w"], content.pop("state_dict")["w"])
    assert read == content


def test_views_share_their_storage_as_they_did() -> None:
    whole = torch.arange(10.0)
    read = read_weights(saved({"whole": whole, "part": whole[2:4]}))
    read["whole"][2] = 77
    assert read["part"][0] == 77


class WithViews(pickle.Pickler):
    """Writes a tensor as very old files hold it: in a part of a storage that others share."""

    def persistent_id(self, obj: object) -> object:
        """Return the reference that stands for a storage."""
        if obj == "the storage":
            return ("storage", torch.FloatStorage, "7", "cuda:0", 10, ("8", 4, 3))
        return None


def test_old_file_with_a_view_of_a_storage_is_read() -> None:
    stream = io.BytesIO()
    for header in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(header, stream, 2)
    tensor = Asks(torch._utils._rebuild_tensor, "the storage", 1, (2,), (1,))
    WithViews(stream, 2).dump({"w": tensor})
    pickle.dump(["7"], stream, 2)
    stream.write(struct.pack("<q10f", 10, *range(10)))
    assert torch.equal(read_weights(stream.getvalue())["w"], torch.tensor([5.0, 6.0]))


def test_lists_of_torchscript_take_no_tensors_apart() -> None:
    rebuild = tensor_of("I1000\n", "I0\n").removesuffix(b".")
    pickled = b"ctorch.jit._pickle\nbuild_tensorlist\n" + rebuild + b"\x85R."
    assert "items in a Tensor" in refused(archive_of(pickled, _0=bytes(16)))


CLASSIFIERS: dict[str, Callable[[], nn.Module]] = {
    "densenet": lambda: models.DenseNet(8, (2, 2), 16, num_classes=3),
    "convnext": lambda: models.convnext_tiny(num_classes=3),
    "swin": lambda: models.swin_t(num_classes=3),
    "efficientnet": lambda: models.efficientnet_b0(num_classes=3),
    "mobilenet v2": lambda: models.mobilenet_v2(num_classes=3),
    "shufflenet": lambda: models.shufflenet_v2_x0_5(num_classes=3),
    "regnet": lambda: models.regnet_x_400mf(num_classes=3),
    "googlenet": lambda: models.googlenet(num_classes=3, init_weights=False),
    "mnasnet": lambda: models.mnasnet0_5(num_classes=3),
    "recurrent": lambda: nn.Sequential(nn.Flatten(2), nn.LSTM(64 * 64, 8, bidirectional=True)),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_whole_classifier_keeps_logits_attributes_and_names(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = CLASSIFIERS[name]().eval()
    loaded = read_weights(saved(module))
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = module(images), loaded(images)
    if not isinstance(expected, Tensor):
        expected, found = expected[0], found[0]
    assert torch.equal(found, expected)
    assert repr(loaded) == repr(module)
    for part, original in zip(loaded.modules(), module.modules(), strict=True):
        assert type(part) is type(original)
        assert set(vars(part)) == set(vars(original))


def test_whole_classifier_that_was_compiled_by_torchscript_is_read() -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises against TorchScript
        torch.jit.script(module)  # leaves a table in each layer
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(read_weights(saved(module))(images), module(images))


def test_numpy_numbers_are_still_refused_by_name() -> None:
    said = refused(saved({"accuracy": np.float64(0.9)}))
    assert "refused" in said
    assert "numpy" in said


def test_no_refused_file_changes_an_attribute_of_torch(kept: None) -> None:
    whole = [saved(change(plain())) for change, _ in ODD.values()]
    pickles = [archive_of(data) for data in PICKLES.values()]
    chains = [
        saved(sets(nn.ReLU, forward=nn.Identity())),
        saved(sets(torch.serialization._get_layout, cache=nn.ParameterDict())),
        saved(sets(Tensor, relu=nn.Identity())),
    ]
    refused(chains[0])
    before = torch_attributes()
    for data in (*whole, *pickles, *chains):
        refused(data)
    after = torch_attributes()
    assert not [name for name, value in before.items() if after.get(name) != value]
    assert "torch.nn.modules.activation.ReLU.forward" in before


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is not measured")
def test_mutated_files_lead_to_nothing_but_a_sentence(tmp_path: Path) -> None:
    """The first hundreds of the files that ``fuzz_checkpoints.py`` makes by the thousand."""
    outcomes = list(fuzz(seed=20, files=400, folder=tmp_path))
    assert not [outcome for outcome in outcomes if outcome.startswith("FAILURE")]
    assert {"loaded", "refused", "said to be damaged or unfit"} == set(outcomes)


def test_fuzzed_files_load_where_they_are_not_mutated(tmp_path: Path) -> None:
    """Otherwise the run above would show nothing."""
    read = {name: read_weights(data) for name, data in seeds().items()}
    assert sum(isinstance(content, nn.Module) for content in read.values()) > 20
    assert_same_model(read["plain.pth"], read["plain.old"], 32)
