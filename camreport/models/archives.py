"""PyTorch's files read without running code: zip archives, TorchScript's, and older files."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from camreport.errors import ModelError
from camreport.models.pickled import Made, damage, read_pickle
from camreport.models.rebuilt import Rebuilder, is_module
from camreport.models.vocabulary import Storages, TorchVocabulary

MAX_MEMBERS = 100_000
"""Most members of a zip archive."""

MAX_VISITS = 200_000
"""Most values visited in the search for the tensors of a TorchScript archive."""

MAX_PREFIX = 2_000
"""Most characters in the name of a tensor of a TorchScript archive."""

_MAGIC = 0x1950A86A20F9469CFC6C
_ENTRY = b"PK\x01\x02"


class Refused(ModelError):
    """A file asks for names whose code could run."""

    def __init__(self, names: list[str], advice: str) -> None:
        listed = ", ".join(name[:100] for name in names[:10])
        super().__init__(f"refused: it asks for {listed}{advice}")
        self.names = names


_ADVICE = (
    ", which could run code when opened. Save the weights alone with torch.save("
    "model.state_dict(), file); if you made the file yourself or trust who did, "
    "--trust-checkpoint opens it where that code can be imported."
)
_SCRIPTED_ADVICE = (
    "; of a TorchScript archive only the tensors are read. Save them with "
    "torch.save(model.state_dict(), file)."
)


def members(data: bytes) -> list[str]:
    """Return the names in a zip archive; none if the bytes are no readable archive."""
    try:
        with _opened(data) as archive:
            return archive.namelist()
    except ModelError:
        return []


def read_archive(data: bytes) -> object:
    """Return the content of the pickle in a zip archive, or a TorchScript archive's state dict.

    Raises:
        ModelError: damaged, refused, or not written by PyTorch.
    """
    with _opened(data) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1 or len(set(names)) < len(names):
            raise ModelError(_not_one(names, pickles))
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}byteorder" in names and _member(archive, f"{root}byteorder") != b"little":
            raise ModelError(
                "saved on a machine of another byte order. Save it on this kind again."
            )
        scripted = any(name.startswith((f"{root}code/", f"{root}constants.pkl")) for name in names)
        storages = _ArchiveStorages(archive, root, len(data))
        stream = io.BytesIO(_member(archive, pickles[0]))
        content = _read(stream, storages, scripted)
    return _state_of(content) if scripted else _with_modules(content)


def read_legacy(data: bytes) -> object:
    """Return the content of a file from before PyTorch 1.6: five pickles followed by tensors.

    Raises:
        ModelError: damaged, refused, or a pickle of another kind.
    """
    stream = io.BytesIO(data)
    magic = _read(stream, _nothing_stored)
    if magic != _MAGIC:
        raise ModelError(
            "a pickle, but not one that PyTorch wrote. Save the weights with "
            "torch.save(model.state_dict(), file)."
        )
    _version, _system = _read(stream, _nothing_stored), _read(stream, _nothing_stored)
    start = stream.tell()
    declared = _DeclaredStorages()
    _read(stream, declared)
    keys = _read(stream, _nothing_stored)
    flat = _stored_tensors(stream, keys, declared.known)
    stream.seek(start)
    return _with_modules(_read(stream, lambda dtype, key, count: flat[key]))


def _opened(data: bytes) -> zipfile.ZipFile:
    """Return a zip archive.

    Raises:
        ModelError: damaged, or with too many members.
    """
    if data.count(_ENTRY) > MAX_MEMBERS:
        raise ModelError(f"refused: an archive of more than {MAX_MEMBERS:,} members.")
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        if data.startswith(b"PK"):
            raise ModelError(
                "truncated: it begins like a PyTorch file, but its end is missing. Download or "
                "copy it again."
            ) from error
        raise ModelError(damage(error)) from error


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return a member's bytes, which PyTorch stores without compression.

    Raises:
        ModelError: damaged or compressed.
    """
    try:
        if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
            raise ModelError(
                "an archive that was compressed afterwards. Unpack it and save it again."
            )
        return archive.read(name)
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, RuntimeError, EOFError) as error:
        raise ModelError(damage(error)) from error


def _not_one(names: list[str], pickles: list[str]) -> str:
    """Return why an archive is not PyTorch's."""
    if not pickles:
        return (
            f"a zip archive, but not PyTorch's: it holds {', '.join(names[:3])}. Unpack it, and "
            "give the weights file in it."
        )
    return (
        "refused: an archive with several members of one name, which different readers read "
        "differently. Save the weights again with torch.save(model.state_dict(), file)."
    )


def _read(stream: io.BytesIO, storages: Storages, scripted: bool = False) -> object:
    """Return the content of a pickle.

    Raises:
        Refused: it asks for unknown names, whatever else is wrong with it.
        ModelError: damaged.
    """
    vocabulary = TorchVocabulary(storages, scripted)
    try:
        content = read_pickle(stream, vocabulary)
    except ModelError as error:
        if not vocabulary.unknown:
            raise
        raise Refused([*vocabulary.unknown], _SCRIPTED_ADVICE if scripted else _ADVICE) from error
    if vocabulary.unknown:
        raise Refused([*vocabulary.unknown], _SCRIPTED_ADVICE if scripted else _ADVICE)
    return content


def _nothing_stored(dtype: torch.dtype, key: str, count: int) -> Tensor:
    raise ValueError("a tensor where there must be none")


@dataclass
class _ArchiveStorages:
    """The storages of an archive, each read once, in total no larger than the file."""

    archive: zipfile.ZipFile
    root: str
    budget: int
    held: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, dtype: torch.dtype, key: str, count: int) -> Tensor:
        """Return a storage as a flat tensor."""
        if key not in self.held:
            stored = _member(self.archive, f"{self.root}data/{key}")
            self.budget -= len(stored)
            if self.budget < 0:
                raise ModelError(damage("its members overlap"))
            self.held[key] = _flat(stored)
        return _typed(self.held[key], dtype, count)


@dataclass
class _DeclaredStorages:
    """The types and sizes of the storages that an older file uses before their values come."""

    known: dict[str, tuple[torch.dtype, int]] = field(default_factory=dict)

    def __call__(self, dtype: torch.dtype, key: str, count: int) -> Tensor:
        """Return a storage of the given size without values."""
        if not 0 <= count < 2**40 or self.known.setdefault(key, (dtype, count)) != (dtype, count):
            raise ValueError("a storage of contradicting sizes")
        return torch.empty(count, dtype=dtype, device="meta")


def _stored_tensors(
    stream: io.BytesIO, keys: object, declared: Mapping[str, tuple[torch.dtype, int]]
) -> dict[str, Tensor]:
    """Return the storages at the end of an older file."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ModelError(damage("the names of its tensors are missing"))
    if sorted(keys) != sorted(declared):
        raise ModelError(damage("its tensors are not those that it names"))
    flat = {}
    for key in keys:
        dtype, count = declared[key]
        if int.from_bytes(stream.read(8), "little") != count:
            raise ModelError(damage(f"the size of tensor {key} is wrong"))
        flat[key] = _typed(_flat(stream.read(count * dtype.itemsize)), dtype, count)
    return flat


def _flat(data: bytes) -> Tensor:
    """Return bytes as a writable tensor."""
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0).byte()


def _typed(stored: Tensor, dtype: torch.dtype, count: int) -> Tensor:
    """Return the first ``count`` values of a storage.

    Raises:
        ModelError: the storage has fewer.
    """
    size = count * dtype.itemsize
    if not 0 <= size <= stored.numel():
        raise ModelError(damage(f"a tensor of {size} bytes has {stored.numel()}"))
    return stored[:size].view(dtype)


def _with_modules(content: object) -> object:
    """Replace the descriptions of modules by modules, in nested dictionaries too."""
    rebuilder = Rebuilder()
    if is_module(content):
        return rebuilder.rebuild(content)
    seen, waiting = set(), [content]
    while waiting:
        table = waiting.pop()
        if not isinstance(table, dict) or id(table) in seen:
            continue
        seen.add(id(table))
        for key, value in table.items():
            if is_module(value):
                table[key] = rebuilder.rebuild(value)
        waiting.extend(value for value in table.values() if isinstance(value, dict))
    return content


def _state_of(content: object) -> dict[str, Tensor]:
    """Return the tensors of a TorchScript object and its parts as a state dict.

    Raises:
        ModelError: too many objects, or a circle of them.
    """
    state: dict[str, Tensor] = {}
    waiting: list[tuple[str, object]] = [("", content)]
    for _ in range(MAX_VISITS):
        if not waiting:
            return state
        prefix, value = waiting.pop()
        if isinstance(value, Tensor):
            state[prefix.removesuffix(".")] = value
        elif isinstance(value, Made) and isinstance(value.state, dict):
            if len(prefix) > MAX_PREFIX or len(waiting) + len(value.state) > MAX_VISITS:
                break
            waiting.extend((f"{prefix}{key!s:.200}.", part) for key, part in value.state.items())
    raise ModelError("refused: its objects contain each other, or too many others.")
