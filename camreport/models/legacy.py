"""Whole models as PyTorch saved them before version 1.6, made readable without running code.

In such a file a module's class stands inside a tuple with the source code it had,
``("module", class, file, source)``, which ``weights_only=True`` does not take. Only the class is
needed: the tuples are replaced by it, operation by operation, and nothing is executed.
"""

import io
import pickletools
from collections.abc import Iterator
from dataclasses import dataclass

PICKLES = 5
"""In such a file: a magic number, a version, the system, the object, and the tensors' names."""

MODEL = 3
"""Place of the object among them."""


@dataclass(frozen=True)
class _Operation:
    """One operation of a pickle: its name, its argument and its bytes."""

    name: str
    argument: object
    code: bytes


def without_sources(data: bytes) -> bytes:
    """Return a file's bytes with bare classes in the place of classes with source code.

    Args:
        data: five pickles one after the other, the fourth of them the model, and its tensors.

    Raises:
        ValueError: the pickles are damaged.
    """
    stream = io.BytesIO(data)
    pickles = [list(_operations(stream)) for _ in range(PICKLES)]
    pickles[MODEL] = _bare_classes(pickles[MODEL])
    return b"".join(op.code for one in pickles for op in one) + stream.read()


def _operations(stream: io.BytesIO) -> Iterator[_Operation]:
    """Yield the operations of one pickle."""
    data, places = stream.getbuffer(), list(pickletools.genops(stream))
    ends = [place for _, _, place in places[1:]] + [stream.tell()]
    for (operation, argument, place), end in zip(places, ends, strict=True):
        assert place is not None
        assert end is not None
        yield _Operation(operation.name, argument, bytes(data[place:end]))


def _bare_classes(operations: list[_Operation]) -> list[_Operation]:
    """Put the class alone in the place of every tuple that begins with ``"module"``."""
    kept: list[_Operation] = []
    marks: list[int] = []
    texts: dict[object, _Operation] = {}  # what was remembered, of those that are text
    for operation in operations:
        if operation.name == "MARK":
            marks.append(len(kept))
        if operation.name in ("BINPUT", "LONG_BINPUT") and kept[-1].name == "BINUNICODE":
            texts[operation.argument] = kept[-1]
        if "GET" in operation.name:  # it may have been remembered in what is left out
            operation = texts.get(operation.argument, operation)
        kept.append(operation)
        if operation.name == "TUPLE":
            start = marks.pop()
            inside = kept[start + 1 : -1]
            is_source = bool(inside) and inside[0].argument == "module"
            if is_source and (named := _class_in(inside)):
                del kept[start:]
                kept.append(_Operation("CLASS", None, b"".join(op.code for op in named)))
        elif operation.name in ("SETITEMS", "APPENDS", "DICT", "LIST", "POP_MARK"):
            marks.pop()
        elif operation.name == "BINPERSID" and _follows_class(kept):
            kept.pop()
    return kept


def _class_in(inside: list[_Operation]) -> list[_Operation]:
    """Return the operations that push the class in a tuple of word, class, file and source."""
    pushes = [place for place, op in enumerate(inside) if "PUT" not in op.name]
    if len(pushes) != 4:
        return []
    return inside[pushes[1] : pushes[2]]


def _follows_class(kept: list[_Operation]) -> bool:
    """Say whether the tuple that a persistent number stands for was one that was replaced."""
    before = [operation.name for operation in kept[:-1] if "PUT" not in operation.name]
    return before[-1:] == ["CLASS"]
