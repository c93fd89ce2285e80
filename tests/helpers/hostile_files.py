"""Weights files made to harm, and what is said when they are refused."""

import functools
import io
import zipfile
from collections.abc import Callable

import pytest
import torch
from torch import nn

from camreport.errors import ModelError
from camreport.models.weights_file import read_weights


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
