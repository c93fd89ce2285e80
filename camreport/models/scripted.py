"""TorchScript archives: their tensors alone, without running or compiling their code.

``torch.jit.load`` would compile the code in the file, and may run it. The tensors lie in the
archive as a pickle of plain data; it is read by an unpickler that knows a handful of names.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from camreport.errors import ModelError

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def scripted_state(data: bytes) -> dict[str, Tensor]:
    """Return the state dict of a TorchScript archive's bytes.

    Raises:
        ModelError: the archive asks for anything but tensors, or is damaged.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        name = next(n for n in archive.namelist() if n.endswith("/data.pkl"))
        content = _Unpickler(archive, name.removesuffix("data.pkl")).load()
    state: dict[str, Tensor] = {}
    _collect(content, "", state)
    return state


class _Scripted:
    """What stands for an object of a class that the archive defines: its attributes.

    An object that brings its state in another form, for code of its own, has none.
    """

    attributes: Mapping[str, object] = {}

    def __setstate__(self, state: object) -> None:
        self.attributes = state if isinstance(state, dict) else {}


class _Unpickler(pickle.Unpickler):
    """Reads plain data, tensors and objects of the archive's own classes, and refuses the rest."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}data.pkl")))
        self._archive = archive
        self._root = root

    def find_class(self, module: str, name: str) -> object:
        """Return what one of the known names stands for.

        Raises:
            ModelError: any other name.
        """
        if module == "__torch__" or module.startswith("__torch__."):
            return type("Scripted", (_Scripted,), {})
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch.jit._pickle", "build_intlist"): list,
            ("torch.jit._pickle", "build_doublelist"): list,
            ("torch.jit._pickle", "build_boollist"): list,
            ("torch.jit._pickle", "build_tensorlist"): list,
            ("torch.jit._pickle", "restore_type_tag"): _untagged,
        }
        if (module, name) not in known:
            raise ModelError(
                f"refused: a TorchScript archive that asks for {module}.{name}; only its "
                "tensors are read. Save them with torch.save(model.state_dict(), file)."
            )
        return known[module, name]

    def persistent_load(self, pid: tuple[str, torch.dtype, str, str, int]) -> Tensor:
        """Return a storage as a flat tensor."""
        _, dtype, key, _, count = pid
        stored = self._archive.read(f"{self._root}data/{key}")
        if not count:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(bytearray(stored), dtype=dtype, count=count)


def _rebuild_tensor(
    storage: Tensor, offset: int, size: Sequence[int], stride: Sequence[int], *_: object
) -> Tensor:
    return torch.as_strided(storage, list(size), list(stride), offset).clone()


def _untagged(value: object, _type: str) -> object:
    return value


def _collect(content: object, prefix: str, state: dict[str, Tensor]) -> None:
    """Add the tensors of an object and of those it holds to a state dict."""
    if isinstance(content, _Scripted):
        for name, value in content.attributes.items():
            if isinstance(value, Tensor):
                state[prefix + name] = value
            else:
                _collect(value, f"{prefix}{name}.", state)
