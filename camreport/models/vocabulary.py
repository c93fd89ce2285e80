"""The meaning of the names in a PyTorch file: tensors and plain containers, nothing that runs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from camreport.errors import ModelError
from camreport.models.pickled import Costs, Made, Named
from camreport.models.rebuilt import known_names

MAX_TENSORS = 200_000
"""Most tensors of a file."""

MAX_UNSTORED = 2**27
"""Most values of all tensors beyond the stored ones, such as those of an expanded tensor."""

MAX_AXES = 32
"""Most axes of a tensor."""

_DTYPES = {
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
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}
_STORAGES = {
    **{
        f"{home}.{name}": dtype
        for home in ("torch", "torch.cuda")
        for name, dtype in _DTYPES.items()
    },
    "torch.storage.UntypedStorage": torch.uint8,
}
_PLAIN_DTYPES = {
    str(dtype): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)
}
_INERT = {"builtins.object", "torch.Tensor", "torch.nn.parameter.Parameter"}

Storages = Callable[[torch.dtype, str, int], Tensor]
"""Returns the storage of a type, key and number of values as a flat tensor."""


@dataclass
class TorchVocabulary:
    """The names that PyTorch writes; other names are collected and mean nothing.

    Attributes:
        storages: returns the values of tensors.
        scripted: accept the classes of a TorchScript archive, as objects without code.
        unknown: unknown names in the order of the file.
    """

    storages: Storages
    scripted: bool = False
    costs: Costs = field(default_factory=Costs)
    unknown: dict[str, None] = field(default_factory=dict)
    _tensors: int = 0
    _keys: set[str] = field(default_factory=set)
    _unstored: int = 0

    def named(self, name: Named) -> object:
        """Return a type of values, or the name itself."""
        path = name.path
        if path in _STORAGES:
            return _STORAGES[path]
        if path in _PLAIN_DTYPES:
            return _PLAIN_DTYPES[path]
        if path not in _MAKERS and path not in _INERT and path not in known_names():
            if not (self.scripted and path.startswith("__torch__.")):
                self.unknown[path] = None
        return name

    def made(self, what: object, args: tuple[object, ...]) -> object:
        """Return the tensor or container that a call makes, or a record of the call."""
        if not isinstance(what, Named):
            raise ValueError(f"a call of a {type(what).__name__}")
        if what.path in _MAKERS:
            return _MAKERS[what.path](self, *args)
        return Made(what, args)

    def stored(self, persistent: object) -> object:
        """Return a storage as a flat tensor, or the name of a class stored with its source code."""
        match persistent:
            case ("module", Named() as named, *_):  # as written before PyTorch 1.6
                return named
            case ("storage", torch.dtype() as dtype, str() as key, _, int() as count, *view):
                return self._storage(dtype, key, count, view)
        raise ValueError("a reference that no PyTorch file has")

    def _storage(self, dtype: torch.dtype, key: str, count: int, view: list[object]) -> Tensor:
        self._count_tensor()
        flat = self.storages(dtype, key, count)
        if key not in self._keys:
            self._keys.add(key)
            self._unstored -= flat.numel()
        match view:
            case [] | [None]:
                return flat
            case [(_, int() as offset, int() as size)] if 0 <= offset <= offset + size <= len(flat):
                return flat[offset : offset + size]
        raise ValueError("an impossible view of a storage")

    def _count_tensor(self) -> None:
        self._tensors += 1
        if self._tensors > 2 * MAX_TENSORS:  # a storage and a view of it
            raise ModelError(f"refused: it holds more than {MAX_TENSORS:,} tensors.")

    def tensor(
        self,
        storage: object,
        offset: object,
        size: object,
        stride: object,
        _requires_grad: object = False,
        hooks: object = None,
        metadata: object = None,
    ) -> Tensor:
        """Return a view of a storage.

        Raises:
            ValueError: the view reaches beyond the storage.
            ModelError: the tensor has hooks.
        """
        self._count_tensor()
        if hooks or metadata:
            raise ModelError("refused: a tensor in it has hooks or is the conjugate of another.")
        if not isinstance(storage, Tensor) or storage.ndim != 1:
            raise ValueError("a tensor without a storage")
        sizes, strides = _numbers(size), _numbers(stride)
        start = _numbers((offset,))[0]
        if len(sizes) != len(strides):
            raise ValueError("a tensor with more sizes than strides")
        count = math.prod(sizes)
        last = start + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
        if (count and last >= storage.numel()) or max(sizes, default=1) > 2**40:
            raise ValueError("a tensor that reaches beyond its storage")
        self._claim(count)
        start += int(storage.storage_offset())
        return storage.detach().as_strided(sizes, strides, start if count else 0)

    def _claim(self, count: int) -> None:
        """Compare the number of values of all tensors with the number of stored values.

        Raises:
            ModelError: expanded tensors would need more memory than any file may ask for.
        """
        self._unstored += count
        if self._unstored > MAX_UNSTORED:
            raise ModelError(
                "refused: its tensors are far larger than what is stored of them. Save them with "
                "torch.save({key: t.contiguous() for key, t in model.state_dict().items()}, file)."
            )

    def typed_tensor(
        self,
        storage: object,
        offset: object,
        size: object,
        stride: object,
        requires_grad: object,
        hooks: object,
        dtype: object,
        metadata: object = None,
    ) -> Tensor:
        """Return a view of a storage that has no type itself."""
        if not isinstance(dtype, torch.dtype) or not isinstance(storage, Tensor):
            raise ValueError("a tensor without a type")
        if storage.numel() % dtype.itemsize:
            raise ValueError("a storage that ends inside a value")
        typed = storage.view(dtype)
        return self.tensor(typed, offset, size, stride, requires_grad, hooks, metadata)

    def parameter(
        self, values: object, requires_grad: object, hooks: object, _state: object = None
    ) -> nn.Parameter:
        """Return a parameter."""
        if not isinstance(values, Tensor):
            raise ValueError("a parameter without values")
        if hooks:
            raise ModelError("refused: a parameter in it has hooks, which would run code.")
        trained = values.is_floating_point() or values.is_complex()
        return nn.Parameter(values, requires_grad=bool(requires_grad) and trained)

    def tensor_with_attributes(
        self, make: object, kind: object, args: object, _state: object
    ) -> object:
        """Return a tensor without its own attributes."""
        plain = isinstance(make, Named) and make.path in _TENSOR_MAKERS
        tensor = isinstance(kind, Named) and kind.path == "torch.Tensor"
        if not plain or not tensor or not isinstance(args, tuple):
            raise ModelError("refused: it calls torch._tensor._rebuild_from_type_v2 for no tensor.")
        return self.made(make, args)

    def ordered(self, pairs: Sequence[Sequence[object]] = ()) -> dict[object, object]:
        """Return a dictionary; Python 2 writes its pairs as an argument."""
        self.costs.copy(len(_listed(pairs)))
        self.costs.hash(key for key, _ in pairs)
        return {key: value for key, value in pairs}

    def counted(self, counts: object) -> dict[object, object]:
        """Return a dictionary of counts."""
        if not isinstance(counts, dict):
            raise ValueError("counts without keys")
        self.costs.copy(len(counts))
        self.costs.hash(counts)
        return dict(counts)

    def set_of(self, items: Sequence[object] = ()) -> set[object]:
        """Return a set."""
        self.costs.copy(len(_listed(items)))
        self.costs.hash(items)
        return set(items)

    def frozen_set_of(self, items: Sequence[object] = ()) -> frozenset[object]:
        """Return an immutable set."""
        return frozenset(self.set_of(items))

    def encoded(self, text: object, encoding: object) -> bytes:
        """Return bytes that old protocols write as text."""
        if not isinstance(text, str) or encoding != "latin1":
            raise ValueError("bytes in an encoding that PyTorch does not write")
        self.costs.copy(len(text))
        return text.encode("latin1")

    def byte_array(self, data: object = b"") -> bytes:
        """Return bytes."""
        if not isinstance(data, bytes | bytearray):
            raise ValueError("an array of bytes without bytes")
        self.costs.copy(len(data))
        return bytes(data)

    def complex_number(self, real: object, imaginary: object) -> complex:
        """Return a complex number."""
        if not isinstance(real, float) or not isinstance(imaginary, float):
            raise ValueError("a complex number without real and imaginary part")
        return complex(real, imaginary)

    def size(self, sizes: object = ()) -> tuple[int, ...]:
        """Return the sizes of a tensor."""
        return tuple(_numbers(sizes))

    def device(self, *_: object) -> torch.device:
        """Return the CPU, whatever device the file was written on."""
        return torch.device("cpu")

    def reconstructed(self, what: object, _base: object, _state: object) -> object:
        """Return an object that the oldest protocols write."""
        return self.made(what, ())

    def listed(self, items: Sequence[object]) -> list[object]:
        """Return a list of a TorchScript archive."""
        self.costs.copy(len(_listed(items)))
        return list(items)

    def untagged(self, value: object, _type: object) -> object:
        """Return a value of a TorchScript archive without the name of its type."""
        return value


def _listed(items: Sequence[object]) -> Sequence[object]:
    """Return the items of a list or a tuple; a tensor would make an object of every value.

    Raises:
        ValueError: neither a list nor a tuple.
    """
    if not isinstance(items, list | tuple):
        raise ValueError(f"items in a {type(items).__name__}")
    return items


def _numbers(values: object) -> list[int]:
    """Return whole numbers of at least 0.

    Raises:
        ValueError: something else, or too many.
    """
    if not isinstance(values, tuple | list) or len(values) > MAX_AXES:
        raise ValueError("sizes that are not a short list")
    if not all(isinstance(value, int) and 0 <= value < 2**63 for value in values):
        raise ValueError("sizes that are not whole numbers")
    return [int(value) for value in values]


_TENSOR_MAKERS: dict[str, Callable[..., object]] = {
    "torch._utils._rebuild_tensor": TorchVocabulary.tensor,
    "torch._utils._rebuild_tensor_v2": TorchVocabulary.tensor,
    "torch._utils._rebuild_tensor_v3": TorchVocabulary.typed_tensor,
}
_MAKERS: dict[str, Callable[..., object]] = {
    **_TENSOR_MAKERS,
    "torch._utils._rebuild_parameter": TorchVocabulary.parameter,
    "torch._utils._rebuild_parameter_with_state": TorchVocabulary.parameter,
    "torch._tensor._rebuild_from_type_v2": TorchVocabulary.tensor_with_attributes,
    "torch.Size": TorchVocabulary.size,
    "torch.device": TorchVocabulary.device,
    "collections.OrderedDict": TorchVocabulary.ordered,
    "collections.Counter": TorchVocabulary.counted,
    "copyreg._reconstructor": TorchVocabulary.reconstructed,
    "builtins.set": TorchVocabulary.set_of,
    "builtins.frozenset": TorchVocabulary.frozen_set_of,
    "builtins.bytes": TorchVocabulary.byte_array,
    "builtins.bytearray": TorchVocabulary.byte_array,
    "builtins.complex": TorchVocabulary.complex_number,
    "_codecs.encode": TorchVocabulary.encoded,
    "torch.jit._pickle.restore_type_tag": TorchVocabulary.untagged,
    **dict.fromkeys(
        (f"torch.jit._pickle.build_{kind}list" for kind in ("int", "double", "bool", "tensor")),
        TorchVocabulary.listed,
    ),
}
